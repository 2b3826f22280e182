"""The server over HTTP: it answers at once, and hostile requests read, write and lose nothing."""

import json
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ccnet.app.loading import AS_VALIDATED, PageModel
from tests.app.serving import (
    call,
    file_data,
    is_open,
    loaded,
    scene_png,
    serving,
    upload,
    wait_until,
)

pytestmark = pytest.mark.slow

httpx = pytest.importorskip("httpx", reason="gradio is not installed (the extra app)")
pytest.importorskip("gradio", reason="gradio is not installed (the extra app)")
FIELDS = ("", AS_VALIDATED, 50)


@pytest.fixture
def client(running):
    with httpx.Client(base_url=running.url, timeout=60, trust_env=False) as client:
        yield client


def segment(client, path: str) -> tuple[str, object]:
    return call(client, "segment", file_data(path), *FIELDS)


def assert_it_still_works(client) -> None:
    (path,) = upload(client, scene_png()).json()
    kind, (facts, files) = segment(client, path)
    assert kind == "complete"
    assert facts["width"] == facts["height"] == 64
    assert len(files) == 3


def bomb(width: int = 30_000, height: int = 30_000) -> bytes:
    """A PNG of a few kilobytes that states a billion pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + head
        + chunk(b"IDAT", zlib.compress(bytes(10**6)))
        + chunk(b"IEND", b"")
    )


def test_the_page_names_no_other_host_for_the_browser(client):
    page = client.get("/").text
    assert "fonts.googleapis" not in page
    assert 'src="http' not in page.replace('src="http://127.0.0.1', "")
    config = client.get("/config").json()
    assert config["analytics_enabled"] is False
    assert config["stylesheets"] == []


def test_files_of_the_machine_are_not_served(client, running):
    names = [
        "/etc/passwd",
        "../../../../etc/passwd",
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "pyproject.toml",
    ]
    names += [f"{running.storage.folder}/../../etc/passwd", "/proc/self/environ", "C:/a", ""]
    for name in names:
        for route in ("/gradio_api/file=", "/file=", "/gradio_api/file/", "/static/", "/assets/"):
            answer = client.get(f"{route}{name}")
            assert answer.status_code in (403, 404), (route, name)
            assert "root:" not in answer.text


def test_a_request_cannot_name_a_file_of_the_machine_or_an_address(client, running, tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(scene_png())
    before = sorted(running.storage.folder.rglob("*"))
    for name in (str(secret), "/etc/passwd", "http://127.0.0.1:1/a.png", "https://example.com/a"):
        kind, content = segment(client, name)
        assert kind == "error", name
        assert "example" not in json.dumps(content)
    assert sorted(running.storage.folder.rglob("*")) == before
    assert_it_still_works(client)


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("bomb.png", bomb(), "30000×30000 pixels"),
        ("letter.jpg", b"%!PS-Adobe-3.0\n(/etc/passwd) (r) file", "PostScript"),
        ("page.png", b"<html><script>alert(1)</script>", "an HTML page"),
        ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "an SVG"),
        ("empty.png", b"", "empty"),
        ("../../escape.png", b"nothing", "no known format"),
        ("cut.png", scene_png()[:900], "cut.png: cannot be read as an image"),
    ],
)
def test_hostile_files_are_refused_with_the_cause(client, running, name, content, cause):
    answer = upload(client, content, name)
    assert answer.status_code == 200
    (path,) = answer.json()
    assert Path(path).is_relative_to(running.storage.folder)
    kind, message = segment(client, path)
    assert kind == "error"
    assert cause in message["error"]
    assert str(running.storage.folder) not in message["error"]
    served = client.get(f"/gradio_api/file={path}")
    assert (
        served.headers["content-disposition"].startswith("attachment")
        or not served.content
        or (
            name.endswith((".png", ".jpg"))  # which no browser takes for a page: nosniff
            and served.headers["x-content-type-options"] == "nosniff"
        )
    )


def test_uploads_are_bounded(model_folder):
    with (
        serving(loaded(model_folder), max_pixels=10_000) as server,
        httpx.Client(base_url=server.url, trust_env=False, timeout=30) as client,
    ):
        assert upload(client, bytes(100_000)).status_code == 200
        assert upload(client, bytes(150_000)).status_code == 413
        many = [("files", (f"{n}.png", bytes(50_000))) for n in range(10)]
        assert client.post("/gradio_api/upload", files=many).status_code == 413
        endless = client.post("/gradio_api/call/segment", content=bytes(2_000_000))
        assert endless.status_code == 413
        (path,) = upload(client, scene_png()).json()
        assert segment(client, path)[0] == "complete"


def test_old_files_make_room(model_folder):
    with (
        serving(loaded(model_folder), max_bytes=300_000) as server,
        httpx.Client(base_url=server.url, trust_env=False, timeout=30) as client,
    ):
        for number in range(10):
            assert upload(client, bytes([number]) * 100_000, f"{number}.png").status_code == 200
        sizes = [path.stat().st_size for path in server.storage.folder.rglob("*") if path.is_file()]
        assert sum(sizes) <= 400_000
        folder = server.storage.folder
    assert not folder.exists()


@pytest.mark.slow
def test_a_flood_is_bounded_and_the_server_answers_afterwards(client, running):
    (path,) = upload(client, scene_png(3)).json()

    def ask(_: int) -> str:
        with httpx.Client(base_url=running.url, timeout=120, trust_env=False) as own:
            return call(own, "segment", file_data(path), *FIELDS)[0]

    with ThreadPoolExecutor(60) as pool:
        answers = list(pool.map(ask, range(60)))
    assert set(answers) <= {"complete", "status 503"}
    assert "complete" in answers
    assert "status 503" in answers  # the queue is bounded
    assert_it_still_works(client)


def test_the_page_answers_before_the_model_is_loaded(model_folder, monkeypatch):
    model = PageModel(str(model_folder))
    with (
        serving([model]) as server,
        httpx.Client(base_url=server.url, trust_env=False, timeout=30) as client,
    ):
        assert client.get("/").status_code == 200
        assert not model.done.is_set()
        (path,) = upload(client, scene_png()).json()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(segment, client, path)
            model.load("cpu", "float32")
            assert waiting.result(30)[0] == "complete"


def test_a_model_that_cannot_be_loaded_ends_the_server(tmp_path):
    from ccnet.app.server import serve
    from ccnet.app.storage import temporary_storage

    options = {"host": "127.0.0.1", "port": 0, "device": "cpu", "precision": "float32"}
    options |= {"max_pixels": 1000}
    models = [PageModel(str(tmp_path / "none"))]
    with temporary_storage() as storage, pytest.raises(FileNotFoundError, match="no model folder"):
        serve(models, storage, examples=(), report=None, **options)


def test_an_address_that_is_taken_is_named(running):
    from ccnet.app.server import listen

    port = int(running.url.rpartition(":")[2])
    assert is_open(port)
    with pytest.raises(OSError, match=f"127.0.0.1:{port} cannot be used: .*; --port takes another"):
        listen("127.0.0.1", port)
    with pytest.raises(OSError, match="cannot be used"):
        listen("192.0.2.1", 0)


def test_examples_are_offered_and_stay(running, client):
    wait_until(lambda: len(list(running.storage.examples.iterdir())) == 2)
    copy, thumbnail = sorted(running.storage.examples.iterdir(), key=lambda path: path.suffix)[::-1]
    assert copy.read_bytes() == scene_png()
    assert client.get(f"/gradio_api/file={thumbnail}").status_code == 200
    assert segment(client, str(copy))[0] == "complete"
