"""What happens on the page: from the values of its fields to what it shows."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import gradio as gr

from ccnet.app.loading import PageModel, protocols_of
from ccnet.app.maps import pixel_panel
from ccnet.app.pictures import notice, scale_of, share_table
from ccnet.app.workbench import Workbench

CHOOSE = "Choose an example, or upload an image."
CLICK = "Click into the picture to see what the network draws on at that pixel."
EXPECTED = (ValueError, ArithmeticError, OSError, MemoryError, RuntimeError)
"""Errors that a visitor is told; torch's RuntimeError says that memory does not suffice."""
LONGEST_CAUSE = 400
POLL = 0.2
"""Seconds between two looks at whether the models are loaded."""


class Handlers:
    """The functions of the page's events.

    Args:
        bench: does the work.
    """

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench

    async def wait_for_models(self) -> AsyncIterator[tuple[Any, Any]]:
        """The line about the models, until all are loaded, and then the protocols."""
        models = self.bench.models
        for number, model in enumerate(models):
            while not model.done.is_set():
                text = f"Loading {model.name} ({number + 1} of {len(models)}) ..."
                yield notice(text), gr.update()
                while not model.done.is_set():
                    await asyncio.sleep(POLL)
        failed = next((str(model.error) for model in models if model.error is not None), None)
        if failed is not None:
            yield notice(failed, is_error=True), gr.update()
            return
        yield notice(ready_line(models)), gr.update(choices=protocols_of(models[0].predictor))

    def show(self, path: str | None, protocol: str, opacity: float) -> Iterator[list[Any]]:
        """Picture, table and pixel of each model as they are done, and no files any more."""
        shown: list[Any] = []
        for model in self.bench.models:
            shown += self.segmented(model, path, protocol, opacity)
            later = [gr.update()] * (3 * len(self.bench.models) - len(shown))
            yield [*shown, *later, gr.update(value=None, visible=False)]

    def segmented(
        self, model: PageModel, path: str | None, protocol: str, opacity: float
    ) -> tuple[Any, str, str]:
        """What one model says about an image, or why it cannot."""
        if path is None:
            return None, notice(CHOOSE), ""
        try:
            found = self.bench.segmentation(model, path, protocol)
        except EXPECTED as error:
            return None, notice(cause(error), is_error=True), ""
        predictor = model.predictor
        table = share_table(found, predictor.classes, model.palette, model.name)
        return str(self.bench.picture(model, found, opacity / 100)), table, notice(CLICK)

    def recolor(self, path: str | None, protocol: str, opacity: float) -> Any:
        """The picture of each model with the colors as strong as they are wanted."""
        models = self.bench.models
        return as_outputs([self.segmented(model, path, protocol, opacity)[0] for model in models])

    def look_from_click(
        self, path: str | None, protocol: str, event: gr.SelectData
    ) -> Iterator[list[Any]]:
        """Column, row and panels of the pixel under a click."""
        if path is None:
            return
        number = len(self.bench.models)
        try:
            size = self.bench.segmentation(self.bench.models[0], path, protocol).labels.shape
        except EXPECTED as error:
            yield [gr.update(), gr.update(), *[notice(cause(error), is_error=True)] * number]
            return
        x, y = scale_of(*size).pixel_at(*event.index)
        for panels in self.panels(path, protocol, x, y):
            yield [x, y, *panels]

    def look(
        self, path: str | None, protocol: str, x: float | None, y: float | None
    ) -> Iterator[Any]:
        """The panel of a pixel for each model, as they are done."""
        yield from map(as_outputs, self.panels(path, protocol, x, y))

    def panels(
        self, path: str | None, protocol: str, x: float | None, y: float | None
    ) -> Iterator[list[Any]]:
        panels: list[Any] = []
        for model in self.bench.models:
            panels.append(self.panel(model, path, protocol, x, y))
            yield [*panels, *[gr.update()] * (len(self.bench.models) - len(panels))]

    def panel(
        self, model: PageModel, path: str | None, protocol: str, x: float | None, y: float | None
    ) -> str:
        if path is None:
            return notice(CHOOSE)
        if x is None or y is None:
            return notice("Both numbers of the pixel are needed.", is_error=True)
        try:
            return pixel_panel(self.bench, model, path, protocol, (int(x), int(y)))
        except EXPECTED as error:
            return notice(cause(error), is_error=True)

    def download(self, path: str | None, protocol: str, opacity: float) -> Any:
        """Files of all models, and the field for them."""
        if path is None:
            raise gr.Error(CHOOSE)
        files = []
        for model in self.bench.models:
            try:
                found = self.bench.segmentation(model, path, protocol)
                files += self.bench.downloads(model, path, found, opacity / 100)
            except EXPECTED as error:
                raise gr.Error(cause(error), print_exception=False) from error
        return gr.update(value=list(map(str, files)), visible=True)


def cause(error: BaseException) -> str:
    """The message of an error as one line."""
    line = " ".join(str(error).split())
    return line if len(line) <= LONGEST_CAUSE else f"{line[:LONGEST_CAUSE]} ..."


def ready_line(models: Sequence[PageModel]) -> str:
    """The models and how many classes they know."""
    parts = [f"{model.name} ({len(model.predictor.classes)} classes)" for model in models]
    return f"Ready: {' and '.join(parts)}."


def as_outputs(values: list[Any]) -> Any:
    """Values of several fields as Gradio takes them; for one field it takes the value itself."""
    return values[0] if len(values) == 1 else values
