"""Web servers in threads of this process, so that a test can look at what they serve."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, TypeAlias

import uvicorn
from granian.constants import Interfaces
from granian.server.embed import Server

Kind: TypeAlias = Literal["h11", "httptools", "granian"]
"""uvicorn, by the parser that it uses, or granian."""

KINDS: tuple[Kind, ...] = ("h11", "httptools", "granian")


@contextmanager
def serving(app: Any, kind: Kind = "httptools") -> Iterator[str]:
    """Serve an ASGI application on a port of 127.0.0.1, and give its base URL."""
    with _granian(app) if kind == "granian" else _uvicorn(app, kind) as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _uvicorn(app: Any, http: Literal["h11", "httptools"]) -> Iterator[int]:
    server = uvicorn.Server(uvicorn.Config(app, http=http, loop="asyncio", log_level="critical", ws="none"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            _join(thread)


@contextmanager
def _granian(app: Any) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    server = Server(app, port=port, interface=Interfaces.ASGI, log_enabled=False)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=partial(_run, loop, server))
    thread.start()
    try:
        _await_port(port)
        yield port
    finally:
        loop.call_soon_threadsafe(server.stop)
        _join(thread)


def _run(loop: asyncio.AbstractEventLoop, server: Server) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(server.serve())
    finally:
        loop.close()


def _await_port(port: int) -> None:
    assert until(partial(_listens, port))


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _join(thread: threading.Thread) -> None:
    thread.join(30)
    assert not thread.is_alive()


def until(condition: Callable[[], object], seconds: float = 10) -> bool:
    """Wait for something to become true, and say whether it did."""
    waiting = threading.Event()
    for _ in range(round(seconds * 100)):
        if condition():
            return True
        waiting.wait(0.01)
    return bool(condition())
