"""The server of the page: it answers at once, and ends with a signal or a model's error."""

import asyncio
import io
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fastapi
import gradio as gr
import numpy as np
import uvicorn
from PIL import Image

from ccnet.app.guard import LOCAL, Guard
from ccnet.app.loading import PageModel, load_in_background
from ccnet.app.page import THEME, build_page, style
from ccnet.app.storage import Storage
from ccnet.app.workbench import Workbench
from ccnet.images.opening import BYTES_PER_PIXEL
from ccnet.images.reading import read_image
from ccnet.report.gallery import as_rgb

MAX_CONNECTIONS = 200
"""At once; further ones are refused."""
MAX_SESSIONS = 200
"""Visitors whose fields Gradio remembers."""
THUMBNAIL = 160


def new_guard(
    bench: Workbench,
    *,
    examples: Sequence[Path] = (),
    report: Path | None = None,
    host: str = "127.0.0.1",
) -> Guard:
    """The whole application: the page behind its guard.

    Raises:
        DataError: an example cannot be read.
    """
    kept = [path for example in examples for path in kept_example(bench.storage, example)]
    max_upload = BYTES_PER_PIXEL * bench.max_pixels

    async def build() -> fastapi.FastAPI:
        page = build_page(bench, kept, has_report=report is not None)
        page.state_session_capacity = MAX_SESSIONS
        page.has_launched = True  # only then Gradio refuses files that nobody uploaded
        return gr.mount_gradio_app(
            fastapi.FastAPI(openapi_url=None, docs_url=None, redoc_url=None),
            page,
            path="/",
            footer_links=["api"],
            run_history=False,
            show_error=False,
            max_file_size=max_upload,
            ssr_mode=False,
            enable_monitoring=False,
            pwa=False,
            mcp_server=False,
            theme=THEME,
            css=style(),
        )

    return Guard(
        asyncio.run(build()),  # outside of a loop Gradio makes some, and never closes them
        bench.storage,
        max_upload=max_upload + 100_000,  # the frame of a form
        report=report,
        is_local=host in LOCAL,
    )


def kept_example(storage: Storage, path: Path) -> tuple[Path, Path]:
    """A copy of an image in the storage, and its thumbnail."""
    image = as_rgb(read_image(path))
    number = len(list(storage.examples.iterdir())) // 2
    copy = storage.examples / f"{number}-{path.name}"
    copy.write_bytes(path.read_bytes())
    thumbnail = storage.examples / f"{number}-{path.stem}.thumbnail.jpg"
    picture = Image.fromarray(np.ascontiguousarray(image))
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    picture.save(file, "JPEG")
    thumbnail.write_bytes(file.getvalue())
    return copy, thumbnail


def listen(host: str, port: int) -> socket.socket:
    """A socket of this address.

    Raises:
        OSError: it is taken, or is none of this machine; the message says what would work.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        cause = error.strerror or error
        raise OSError(f"{host}:{port} cannot be used: {cause}; --port takes another one") from error
    return listener


def new_server(guard: Guard) -> uvicorn.Server:
    """The server of an application, which is not running yet."""
    options: dict[str, Any] = {"log_level": "warning", "lifespan": "on", "server_header": False}
    options |= {"limit_concurrency": MAX_CONNECTIONS, "timeout_graceful_shutdown": 2}
    return uvicorn.Server(uvicorn.Config(guard, **options))  # pyright: ignore[reportArgumentType]


def serve(
    models: list[PageModel],
    storage: Storage,
    *,
    examples: Sequence[Path],
    report: Path | None,
    host: str,
    port: int,
    device: str,
    precision: str,
    max_pixels: int,
) -> None:
    """Load models and answer requests until a signal comes.

    Raises:
        OSError: the address cannot be used.
        Exception: what loading a model raised.
    """
    listener = listen(host, port)
    with listener:
        bench = Workbench(models, storage, max_pixels)
        server = new_server(new_guard(bench, examples=examples, report=report, host=host))

        def stop() -> None:
            server.should_exit = True

        load_in_background(models, device, precision, stop)
        shown = f"[{host}]" if ":" in host else host
        print(f"http://{shown}:{listener.getsockname()[1]}/ opens in a browser; Ctrl-C ends it")
        server.run(sockets=[listener])
    for model in models:
        if model.error is not None:
            raise model.error
