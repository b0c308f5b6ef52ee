"""An HTTP endpoint that answers as it is told, before a real one or before none."""

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import TypeAlias
from urllib.parse import urlsplit

Answer: TypeAlias = str | int
"""What becomes of a request: `"passes"`, and is passed on; `"is lost"`, `"is lost to a 503"` or `"is cut"`, which is
passed on, and its answer or half of it not given back; `"resets"`, `"closes"` or `"hangs"`, without an answer; or a
status, and no more."""

ERRORS = {
    500: "InternalError",
    503: "SlowDown",
    429: "TooManyRequests",
    403: "AccessDenied",
    412: "PreconditionFailed",
}


class Endpoint:
    """The endpoint.

    Attributes:
        answer: asked for each request, by its method and its path with the query.
        requests: `"<method> <path>"` of each.
        left: the answers of `next` that nobody has got yet.
    """

    def __init__(self, upstream: str | None) -> None:
        self.answer: Callable[[str, str], Answer] = lambda method, path: "passes"
        self.requests: list[str] = []
        self.left: list[Answer] = []
        self.upstream = upstream
        self.over = Event()

    def always(self, answer: Answer) -> None:
        self.answer = lambda method, path: answer

    def next(self, *answers: Answer, method: str = "") -> None:
        """The next requests, of a method, get these answers; all others are passed on."""
        self.left = list(answers)
        self.answer = lambda given, path: self.left.pop(0) if self.left and given.startswith(method) else "passes"

    def methods(self) -> list[str]:
        return [request.partition(" ")[0] for request in self.requests]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    endpoint: Endpoint
    connection: socket.socket

    def serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.endpoint.requests.append(f"{self.command} {self.path}")
        answer = self.endpoint.answer(self.command, self.path)
        if isinstance(answer, int):
            code = ERRORS.get(answer, "Other")
            self.give(answer, {}, f"<Error><Code>{code}</Code><Message>on cue</Message></Error>".encode())
        elif answer == "hangs":
            self.endpoint.over.wait(60)
            self.close_connection = True
        elif answer in ("resets", "closes"):
            self.drop(reset=answer == "resets")
        else:
            self.pass_on(answer, body)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = serve  # noqa: N815

    def pass_on(self, answer: Answer, body: bytes) -> None:
        headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
        with closing(HTTPConnection(urlsplit(self.endpoint.upstream or "").netloc, timeout=30)) as upstream:
            upstream.request(self.command, self.path, body, headers)
            response = upstream.getresponse()
            content = response.read()
        if answer == "is lost":
            self.drop(reset=True)
        elif answer == "is lost to a 503":
            self.give(503, {}, b"<Error><Code>SlowDown</Code></Error>")
        else:
            given = {name: value for name, value in response.getheaders() if name.lower() in _PASSED}
            length = response.getheader("Content-Length") if self.command == "HEAD" else None
            self.give(response.status, given, content, length or str(len(content)), cut=answer == "is cut")

    def give(
        self, status: int, headers: dict[str, str], content: bytes, length: str | None = None, *, cut: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self.drop(reset=False)

    def drop(self, *, reset: bool) -> None:
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.wfile.flush()
        self.close_connection = True
        self.connection.close()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as it is called there
        """Nothing on the terminal."""


_PASSED = {"content-type", "etag", "last-modified", "x-amz-version-id", "content-range", "accept-ranges"}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Who was given no answer may be gone."""


@contextmanager
def endpoint(upstream: str | None = None) -> Iterator[tuple[Endpoint, str]]:
    """An endpoint and its URL."""
    place = Endpoint(upstream)
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"endpoint": place}))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield place, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        place.over.set()
        server.shutdown()
        thread.join()
        server.server_close()
