"""What is reachable of a server, and how large a request may be."""

import asyncio
from pathlib import Path

import pytest

from ccnet.app import guard
from ccnet.app.guard import Guard
from ccnet.app.storage import Storage


class Inner:
    """A server that reads a whole request and answers 200."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.num_bytes = 0
        self.release = asyncio.Event()
        self.release.set()

    async def __call__(self, scope, receive, send) -> None:
        self.paths.append(scope["path"])
        await self.release.wait()
        while True:
            message = await receive()
            self.num_bytes += len(message["body"])
            if not message.get("more_body"):
                break
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"fine"})


@pytest.fixture
def inner() -> Inner:
    return Inner()


@pytest.fixture
def guarded(inner, tmp_path) -> Guard:
    report = tmp_path / "report"
    report.mkdir()
    (report / "report.html").write_text("errors")
    (report / "secret.txt").write_text("secret")
    (report / "classes.csv").symlink_to("/proc/self/mem")
    (tmp_path / "storage").mkdir()
    return Guard(inner, Storage(tmp_path / "storage"), max_upload=1000, report=report)


async def request(
    guarded: Guard, path: str, method: str = "GET", chunks=(b"",), **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer."""
    named = {"host": "localhost:7860", **headers}
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(name.replace("_", "-").encode(), v.encode()) for name, v in named.items()],
    }
    waiting, sent = list(chunks), []

    async def receive():
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

    async def send(message):
        sent.append(message)

    await guarded(scope, receive, send)
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, sent[1]["body"]


def ask(guarded: Guard, path: str, *arguments, **options) -> tuple[int, dict[str, str], bytes]:
    return asyncio.run(request(guarded, path, *arguments, **options))


@pytest.mark.parametrize(
    "path", ["/", "/config", "/assets/index.js", "/gradio_api/queue/data", "/gradio_api/info"]
)
def test_what_the_page_needs_is_passed_on_with_a_policy(guarded, inner, path):
    status, headers, body = ask(guarded, path)
    assert (status, body) == (200, b"fine")
    assert inner.paths == [path]
    assert "connect-src 'self'" in headers["content-security-policy"]
    assert "http" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/gradio_api/proxy=http://example.com"),
        ("GET", "/gradio_api/file=http://example.com"),
        ("GET", "/gradio_api/file=/etc/passwd"),
        ("GET", "/gradio_api/file=../../etc/passwd"),
        ("GET", "/gradio_api/file=\0"),
        ("GET", "/gradio_api/file=" + 5000 * "a"),
        ("GET", "/gradio_api/file//etc/passwd"),
        ("GET", "/file=/etc/passwd"),
        ("GET", "/gradio_api/custom_component/a/client/component/b.js"),
        ("GET", "/gradio_api/runs"),
        ("GET", "/monitoring"),
        ("GET", "/gradio_api/upload"),
        ("POST", "/gradio_api/process_recording"),
        ("POST", "/gradio_api/vibe-edit"),
        ("POST", "/gradio_api/run/segment"),
        ("POST", "/login"),
        ("PUT", "/"),
        ("DELETE", "/"),
    ],
)
def test_nothing_else_is_reachable(guarded, inner, method, path):
    assert ask(guarded, path, method)[0] == 404
    assert inner.paths == []


def test_files_of_the_storage_are_served_and_none_beside_it(guarded, inner):
    stored = guarded.storage.new_folder() / "a.png"
    stored.write_bytes(b"1")
    beside = guarded.storage.folder.parent / "beside.png"
    beside.write_bytes(b"1")
    link = guarded.storage.folder / "link.png"
    link.symlink_to(beside)
    assert ask(guarded, f"/gradio_api/file={stored}")[0] == 200
    folder = guarded.storage.folder
    for path in (beside, link, folder, Path(f"{folder}/../beside.png")):
        assert ask(guarded, f"/gradio_api/file={path}")[0] == 404
    assert inner.paths == [f"/gradio_api/file={stored}"]


def test_requests_are_bounded_by_what_they_state_and_by_what_they_send(guarded, inner, monkeypatch):
    monkeypatch.setattr(guard, "MAX_BODY", 100)
    for path, limit in (("/gradio_api/upload", 1000), ("/gradio_api/queue/join", 100)):
        assert ask(guarded, path, "POST", [bytes(limit)])[0] == 200
        assert ask(guarded, path, "POST", [], content_length=str(limit + 1))[0] == 413
        inner.num_bytes = 0
        assert ask(guarded, path, "POST", [bytes(limit // 2)] * 1000)[0] == 413
        assert inner.num_bytes <= limit


def test_other_sites_and_names_that_point_here_are_refused(guarded):
    assert ask(guarded, "/", host="evil.example:7860")[0] == 403
    assert ask(guarded, "/", host="[::1]:7860")[0] == 200
    assert ask(guarded, "/", host="[::1")[0] == 403
    assert ask(guarded, "/", origin="http://localhost:7860")[0] == 200
    for origin in ("http://evil.example", "null", "http://localhost:1", "http://[::1"):
        assert ask(guarded, "/", origin=origin)[0] == 403


def test_a_server_for_others_answers_to_any_of_its_names(inner, tmp_path):
    guarded = Guard(inner, Storage(tmp_path), max_upload=1, is_local=False)
    assert ask(guarded, "/", host="gpu.example")[0] == 200
    assert ask(guarded, "/", host="gpu.example", origin="http://evil.example")[0] == 403


def test_the_report_is_served_and_nothing_else_of_its_folder(guarded, inner):
    status, headers, body = ask(guarded, "/report/report.html")
    assert (status, body) == (200, b"errors")
    assert headers["content-type"].startswith("text/html")
    for name in ("secret.txt", "../storage", "classes.csv", "scores.json", "%2e%2e/secret.txt"):
        assert ask(guarded, f"/report/{name}")[0] == 404
    assert inner.paths == []


def test_without_a_report_there_is_none(inner, tmp_path):
    guarded = Guard(inner, Storage(tmp_path), max_upload=1)
    assert ask(guarded, "/report/report.html")[0] == 404


def test_only_some_uploads_run_at_once_and_none_for_ever(guarded, inner, monkeypatch):
    monkeypatch.setattr(guard, "UPLOAD_SECONDS", 0.2)

    async def flood() -> list[int]:
        inner.release.clear()
        path = "/gradio_api/upload"
        answers = await asyncio.gather(*(request(guarded, path, "POST") for _ in range(9)))
        inner.release.set()
        later = await request(guarded, path, "POST")
        return [status for status, _, _ in (*answers, later)]

    assert sorted(asyncio.run(flood())) == [200, *4 * [408], *5 * [503]]
    assert guarded.num_uploads == 0


def test_web_sockets_are_refused(guarded):
    async def connect() -> list:
        sent = []

        async def send(message):
            sent.append(message)

        await guarded({"type": "websocket", "path": "/"}, None, send)
        return sent

    assert asyncio.run(connect()) == [{"type": "websocket.close", "code": 1008}]
