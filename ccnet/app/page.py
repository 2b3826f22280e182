"""The page: its fields, and which function each of their events calls."""

import html
from collections.abc import Sequence
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.themes.base import Base

from ccnet.app.handlers import CHOOSE, Handlers
from ccnet.app.interface import add_interface
from ccnet.app.loading import AS_VALIDATED, protocols_of
from ccnet.app.pictures import notice
from ccnet.app.upload import new_upload
from ccnet.app.workbench import Workbench

MAX_WAITING = 20
"""Requests that wait for their turn; further ones are refused."""
TITLE = "ccnet: what a network sees in an image"
THEME = Base(
    primary_hue="teal",
    neutral_hue="slate",
    radius_size="sm",
    font=["system-ui", "sans-serif"],
    font_mono=["ui-monospace", "monospace"],
)
"""Its fonts are those of the visitor's machine."""
OPACITY = 55
"""Of the colors at the begin, in percent."""


def build_page(
    bench: Workbench, examples: Sequence[Path] = (), *, has_report: bool = False
) -> gr.Blocks:
    """The page of some models.

    Args:
        bench: does the work.
        examples: image files, and after each the thumbnail of it, all in the storage.
        has_report: whether a report is served under /report/.
    """
    handlers = Handlers(bench)
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        gr.HTML(header(has_report=has_report), padding=False)
        status = gr.HTML(notice("Loading ..."), elem_id="status", padding=False)
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                upload = new_upload(label="Image file", elem_id="upload", height=130)
                if examples:
                    add_examples(examples, upload)
                protocol = gr.Dropdown(
                    protocols_of(None),
                    value=AS_VALIDATED,
                    label="Protocol",
                    info="How the image is shown to the network",
                    elem_id="protocol",
                )
                opacity = gr.Slider(
                    0, 100, OPACITY, step=5, label="Strength of the colors, %", elem_id="opacity"
                )
                with gr.Group():
                    with gr.Row():
                        x = gr.Number(label="x", precision=0, minimum=0, elem_id="x", min_width=80)
                        y = gr.Number(label="y", precision=0, minimum=0, elem_id="y", min_width=80)
                    look = gr.Button("Look from this pixel", elem_id="look")
                make = gr.Button("Make files to download", elem_id="make-files")
                files = gr.File(
                    label="Label map, overlay, COCO polygons",
                    file_count="multiple",
                    interactive=False,
                    visible=False,
                    elem_id="files",
                )
            with gr.Column(scale=4, min_width=320):
                panels = add_panels(bench)
        connect(
            handlers, page, status, (upload, protocol, opacity), (x, y), look, make, files, panels
        )
        add_interface(bench, upload, protocol, opacity, x, y)
    return page.queue(max_size=MAX_WAITING, default_concurrency_limit=1, api_open=False)


def add_panels(bench: Workbench) -> list[tuple[gr.Image, gr.HTML, gr.HTML]]:
    """Picture, table and pixel of each model: beside each other for one, below for several."""
    panels = []
    is_single = len(bench.models) == 1
    with gr.Row():
        for number, model in enumerate(bench.models):
            with gr.Column(min_width=300):
                with gr.Row() if is_single else gr.Column():
                    picture = gr.Image(
                        label=model.name,
                        type="filepath",
                        interactive=False,
                        buttons=["fullscreen"],
                        elem_id=f"picture-{number}",
                        alt_text="The classes over the image",
                        scale=3,
                    )
                    with gr.Column(scale=2, min_width=240):
                        table = gr.HTML(notice(CHOOSE), elem_id=f"shares-{number}", padding=False)
                pixel = gr.HTML("", elem_id=f"pixel-{number}", padding=False)
                panels.append((picture, table, pixel))
    return panels


def add_examples(examples: Sequence[Path], upload: gr.File) -> None:
    """Pictures to choose from; each second path is the thumbnail of the one before."""
    images, thumbnails = list(map(str, examples[::2])), list(map(str, examples[1::2]))
    gallery = gr.Gallery(
        thumbnails,
        label="Examples",
        columns=3,
        allow_preview=False,
        object_fit="cover",
        height=48 + 96 * -(-len(images) // 3),
        buttons=[],
        interactive=False,
        elem_id="examples",
    )

    def choose(event: gr.SelectData) -> str:
        return images[event.index]

    gallery.select(choose, None, upload, api_visibility="private", concurrency_limit=None)


def connect(
    handlers: Handlers,
    page: gr.Blocks,
    status: gr.HTML,
    fields: tuple[gr.File, gr.Dropdown, gr.Slider],
    pixel: tuple[gr.Number, gr.Number],
    look: gr.Button,
    make: gr.Button,
    files: gr.File,
    panels: list[tuple[gr.Image, gr.HTML, gr.HTML]],
) -> None:
    """Say which function each event calls. One request at a time computes."""
    upload, protocol, opacity = fields
    private: Any = {"api_visibility": "private"}
    one = private | {"concurrency_id": "computing", "concurrency_limit": 1}
    pictures = [picture for picture, _, _ in panels]
    pixels = [html for _, _, html in panels]
    every = [part for panel in panels for part in panel]
    page.load(
        handlers.wait_for_models,
        None,
        [status, protocol],
        concurrency_limit=None,
        show_progress="hidden",
        **private,
    )
    for event in (upload.change, protocol.change):
        event(handlers.show, list(fields), [*every, files], **one)
    opacity.input(  # `release` is of the mouse alone
        handlers.recolor,
        list(fields),
        pictures,
        show_progress="hidden",
        trigger_mode="always_last",
        **one,
    )
    for picture in pictures:
        picture.select(
            handlers.look_from_click,
            [upload, protocol],
            [*pixel, *pixels],
            trigger_mode="always_last",
            **one,
        )
    for event in (look.click, *(number.submit for number in pixel)):
        event(handlers.look, [upload, protocol, *pixel], pixels, **one)
    make.click(handlers.download, list(fields), files, **one)


def style() -> str:
    """The style of our own parts of the page."""
    return (resources("ccnet.app") / "page.css").read_text(encoding="utf-8")


def header(*, has_report: bool) -> str:
    """Title and what the page is for."""
    link = ""
    if has_report:
        link = '<a href="report/report.html" target="_blank">Errors on a data set</a>'
    return (
        f'<header class="ccnet"><h1>{html.escape(TITLE)}</h1>{link}'
        "<p>Each pixel gets the class that the network finds most likely. Click a pixel to see its "
        "probabilities, and which parts of the image it draws on by criss-cross attention.</p>"
        "</header>"
    )
