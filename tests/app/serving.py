"""The page for tests: models, image files, and a server in this process."""

import io
import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet.app.loading import PageModel, load_in_background
from ccnet.app.results import MAX_PIXELS
from ccnet.app.storage import MAX_BYTES, Storage, temporary_storage
from ccnet.app.workbench import Workbench
from ccnet.datasets import Scenes


def scene_png(index: int = 0) -> bytes:
    """The file of an embedded scene."""
    return png(Scenes("test")[index][0])


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def loaded(*folders: Path) -> list[PageModel]:
    """Models of the page that are there already."""
    models = [PageModel(str(folder)) for folder in folders]
    for model in models:
        model.load("cpu", "float32")
        assert model.error is None
    return models


@dataclass
class Running:
    """A server of the page."""

    url: str
    bench: Workbench
    storage: Storage


@contextmanager
def serving(
    models: Sequence[PageModel],
    *,
    examples: Sequence[Path] = (),
    report: Path | None = None,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
    load: bool = False,
) -> Iterator[Running]:
    """The page of some models at a free port of this machine; skips without Gradio."""
    pytest.importorskip("gradio", reason="gradio is not installed (the extra app)")
    from ccnet.app.server import listen, new_guard, new_server

    with temporary_storage(max_bytes) as storage, listen("127.0.0.1", 0) as listener:
        bench = Workbench(models, storage, max_pixels)
        with ThreadPoolExecutor(1) as pool:  # playwright has a loop in the main thread
            guard = pool.submit(new_guard, bench, examples=examples, report=report).result()
        server = new_server(guard)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        if load:
            load_in_background(list(models), "cpu", "float32", lambda: None)
        port = listener.getsockname()[1]
        wait_until(lambda: server.started)
        try:
            yield Running(f"http://127.0.0.1:{port}", bench, storage)
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


def wait_until(condition, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def upload(client, content: bytes, name: str = "scene.png"):
    """The server's answer to an uploaded file, to an HTTP client of it."""
    return client.post("/gradio_api/upload", files={"files": (name, content)})


def file_data(path: str) -> dict:
    """An uploaded file as Gradio's clients name it."""
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def call(client, endpoint: str, *values) -> tuple[str, object]:
    """What an endpoint answers over plain HTTP: complete or error, and the data."""
    answer = client.post(f"/gradio_api/call/{endpoint}", json={"data": list(values)})
    if answer.status_code != 200:
        return f"status {answer.status_code}", answer.text
    text = client.get(f"/gradio_api/call/{endpoint}/{answer.json()['event_id']}").text
    events = {
        event.split("\n")[0].removeprefix("event: "): event.split("data: ", 1)[1].strip()
        for event in text.strip().split("\n\n")
    }
    kind = "complete" if "complete" in events else "error"
    return kind, json.loads(events[kind])
