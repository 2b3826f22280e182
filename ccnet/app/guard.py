"""What stands before Gradio's server: known addresses, requests of bounded size, no other sites.

Gradio serves files from several folders, fetches addresses for its clients and has routes for
editing. The page needs few of its routes, and only these are reachable.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ccnet.app.storage import Storage
from ccnet.runtime.files import open_regular

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Server = Callable[[Message, Receive, Send], Awaitable[None]]

READ = re.compile(
    r"/|/config/?|/theme\.css|/favicon\.ico|/manifest\.json|/robots\.txt|/(assets|static)/.+"
    r"|/gradio_api/(info/?|app_id/?|theme\.css|upload_progress|queue/(data|status)"
    r"|heartbeat/\w+|call/(v2/)?\w+/\w+)"
)
"""Paths that are read."""
WRITTEN = re.compile(r"/gradio_api/(queue/join|cancel|reset/?|call/(v2/)?\w+)")
"""Paths to which a small request is sent."""
FILES = "/gradio_api/file="
UPLOAD = "/gradio_api/upload"
REPORT = "/report/"
REPORT_FILES = {
    "report.html": "text/html; charset=utf-8",
    "scores.json": "application/json",
    **dict.fromkeys(("classes.csv", "images.csv", "confusion.csv", "label_errors.csv"), "text/csv"),
}
"""Files of `ccnet evaluate --report`, and their types."""
MAX_BODY = 1_000_000
"""Bytes of a request that is no upload."""
MAX_UPLOADS = 4
"""Uploads at once."""
UPLOAD_SECONDS = 300
"""That an upload may take, so that a few that never end do not keep out all others."""
LOCAL = ("localhost", "127.0.0.1", "::1")
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'self'; base-uri 'self'; form-action 'self'"
)
"""A browser makes no request to another host."""
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]


class TooLargeError(Exception):
    """A request has more bytes than its address takes."""


class Guard:
    """An ASGI application in front of another one.

    Args:
        inner: Gradio's application.
        storage: the only folder of which files are served.
        max_upload: bytes of an upload.
        report: folder of an evaluation's report, which is served under /report/.
        is_local: the server listens on this machine only, so requests to other hosts' names come
            from a site that has made its own name point to it.
    """

    def __init__(
        self,
        inner: Server,
        storage: Storage,
        *,
        max_upload: int,
        report: Path | None = None,
        is_local: bool = True,
    ) -> None:
        self.inner = inner
        self.storage = storage
        self.max_upload = max_upload
        self.report = report
        self.is_local = is_local
        self.num_uploads = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.inner(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        method, path = scope["method"], scope["path"]
        if not self.is_own_site(scope):
            await answer(send, 403, "this page answers to its own address only")
        elif method == "POST" and path == UPLOAD:
            await self.take_upload(scope, receive, send)
        elif method == "POST" and WRITTEN.fullmatch(path):
            await self.pass_on(scope, receive, send, MAX_BODY)
        elif method in ("GET", "HEAD") and path.startswith(REPORT):
            await self.send_report(path.removeprefix(REPORT), send)
        elif method in ("GET", "HEAD") and (READ.fullmatch(path) or self.is_stored(path)):
            await self.pass_on(scope, receive, send, MAX_BODY)
        else:
            await answer(send, 404, "there is nothing here")

    def is_own_site(self, scope: Message) -> bool:
        """Whether a request is to the page's own address, and from no other site's page."""
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        try:
            name = urlsplit(f"//{host}").hostname
            sender = host if origin is None else urlsplit(origin).netloc
        except ValueError:
            return False
        return sender == host and (not self.is_local or name in LOCAL)

    def is_stored(self, path: str) -> bool:
        """Whether a path names a file of the storage; the whole of it, and no address."""
        if not path.startswith(FILES):
            return False
        try:
            file = Path(path.removeprefix(FILES)).resolve()
            return file.is_relative_to(self.storage.folder) and file.is_file()
        except (OSError, ValueError):  # a name that is too long or has a NUL character
            return False

    async def take_upload(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass an upload on, if there are not too many at once and there is room for it."""
        if self.num_uploads >= MAX_UPLOADS:
            await answer(send, 503, "too many uploads at once; try again in a moment")
            return
        self.num_uploads += 1
        try:
            await asyncio.to_thread(self.storage.prune)
            async with asyncio.timeout(UPLOAD_SECONDS):
                await self.pass_on(scope, receive, send, self.max_upload)
        except TimeoutError:
            await answer(send, 408, "the upload took too long")
        finally:
            self.num_uploads -= 1

    async def pass_on(self, scope: Message, receive: Receive, send: Send, max_bytes: int) -> None:
        """Let Gradio answer a request of at most so many bytes; 413 for a larger one."""
        headers = dict(scope["headers"])
        too_large = f"the request is larger than {max_bytes // 1000} kB"
        if int(headers.get(b"content-length", b"0")) > max_bytes:
            await answer(send, 413, too_large)
            return
        num_bytes, is_answered = 0, False

        async def bounded_receive() -> Message:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > max_bytes:
                raise TooLargeError
            return message

        async def noted_send(message: Message) -> None:
            nonlocal is_answered
            if message["type"] == "http.response.start":
                is_answered = True
                policy = (b"content-security-policy", POLICY.encode())
                message = {**message, "headers": [*message["headers"], *HEADERS, policy]}
            await send(message)

        try:
            await self.inner(scope, bounded_receive, noted_send)
        except TooLargeError:
            if not is_answered:
                await answer(send, 413, too_large)

    async def send_report(self, name: str, send: Send) -> None:
        """A file of the report; its page has a policy of its own."""
        name = name or "report.html"
        if self.report is None or name not in REPORT_FILES:
            await answer(send, 404, "there is nothing here")
            return
        try:
            with open_regular(self.report / name) as file:
                content = await asyncio.to_thread(file.read)
        except (OSError, ValueError):
            await answer(send, 404, "the report has no such file")
            return
        await answer(send, 200, content, REPORT_FILES[name])


async def answer(
    send: Send, status: int, content: bytes | str, kind: str = "text/plain; charset=utf-8"
) -> None:
    """Send a whole response."""
    body = content.encode() if isinstance(content, str) else content
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers + HEADERS})
    await send({"type": "http.response.body", "body": body})
