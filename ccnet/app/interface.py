"""The same functions over HTTP, for Gradio's clients: `/segment` and `/explain`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from ccnet.app.handlers import EXPECTED, cause
from ccnet.app.loading import AS_VALIDATED
from ccnet.app.maps import pixel_maps, require_inside
from ccnet.app.workbench import Workbench, top_classes


def add_interface(
    bench: Workbench,
    upload: gr.File,
    protocol: gr.Dropdown,
    opacity: gr.Slider,
    x: gr.Number,
    y: gr.Number,
) -> None:
    """Give a page its named endpoints, whose values are those of its fields."""

    def segment(image: str, model: str, protocol: str, opacity: float) -> tuple[Any, list[str]]:
        """The shares of the classes; label map, overlay and COCO polygons as files."""
        with clear_errors():
            require_given(image=image)
            chosen = bench.model_named(model or "")
            found = bench.segmentation(chosen, image, protocol or AS_VALIDATED)
            files = bench.downloads(chosen, image, found, opacity / 100)
        return bench.facts(chosen, found), list(map(str, files))

    def explain(image: str, model: str, protocol: str, x: float, y: float) -> tuple[Any, list[str]]:
        """Class and probabilities of a pixel; its maps of pass 1 to R as JPEG files."""
        with clear_errors():
            require_given(image=image, x=x, y=y)
            chosen, point = bench.model_named(model or ""), (int(x), int(y))
            found = bench.segmentation(chosen, image, protocol or AS_VALIDATED)
            require_inside(found, point)
            top = top_classes(chosen, found, *point)
            maps = pixel_maps(chosen, found, protocol or AS_VALIDATED, point)
            folder = bench.storage.new_folder()
            files = [folder / f"pass{number}.jpg" for number in range(1, len(maps) + 1)]
            for file, (picture, _) in zip(files, maps, strict=True):
                file.write_bytes(picture)
        facts = {"model": chosen.name, "x": point[0], "y": point[1], "class": top[0][0]}
        return {**facts, "probabilities": dict(top)}, list(map(str, files))

    with gr.Group(visible=False):
        model = gr.Textbox("", label="model", max_length=1000)
        facts = gr.JSON(label="facts")
        files = gr.File(label="files", file_count="multiple")
        trigger = gr.Button()
    one: Any = {"concurrency_id": "computing", "concurrency_limit": 1}
    trigger.click(
        segment, [upload, model, protocol, opacity], [facts, files], api_name="segment", **one
    )
    trigger.click(
        explain, [upload, model, protocol, x, y], [facts, files], api_name="explain", **one
    )


def require_given(**values: object) -> None:
    """Raises ValueError for a value that a client left out."""
    for name, value in values.items():
        if value is None:
            raise ValueError(f"{name} is missing")


@contextmanager
def clear_errors() -> Iterator[None]:
    """Expected errors reach the client with their message, and without a traceback here."""
    try:
        yield
    except EXPECTED as error:
        raise gr.Error(cause(error), print_exception=False) from error
