"""Web servers in threads of this process, so that a test can look at what they serve."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Literal, TypeAlias

import uvicorn
from granian.constants import Interfaces
from granian.server.embed import Server

Kind: TypeAlias = Literal["h11", "httptools", "granian"]
"""uvicorn, by the parser that it uses, or granian."""

KINDS: tuple[Kind, ...] = ("h11", "httptools", "granian")

START_SECONDS = 30
STOP_SECONDS = 30


@contextmanager
def serving(app: Any, kind: Kind = "httptools") -> Iterator[str]:
    """Serve an ASGI application on a port of 127.0.0.1, and give its base URL; the server has ended when this has."""
    with live(app, kind) as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def live(app: Any, kind: Kind = "httptools") -> Iterator[int]:
    """The same for who speaks to it by hand: gives the port."""
    with _granian(app) if kind == "granian" else _uvicorn(app, kind) as port:
        yield port


@contextmanager
def _uvicorn(app: Any, http: Literal["h11", "httptools"]) -> Iterator[int]:
    server = uvicorn.Server(
        uvicorn.Config(app, http=http, loop="asyncio", log_config=None, ws="none", timeout_graceful_shutdown=10)
    )
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=_run_uvicorn, args=(server, listening), name=http)
        thread.start()
        try:
            until(lambda: server.started or not thread.is_alive(), START_SECONDS)
            assert server.started, "it did not start; its log says why"
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            _join(thread)


def _run_uvicorn(server: uvicorn.Server, listening: socket.socket) -> None:
    with suppress(SystemExit):  # by which it ends where the application did not start
        server.run(sockets=[listening])


@contextmanager
def _granian(app: Any) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    server = Server(app, port=port, interface=Interfaces.ASGI, log_enabled=False)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=_run_granian, args=(server, loop), name="granian")
    thread.start()
    try:
        assert until(partial(_listens, port), START_SECONDS)
        yield port
    finally:
        if thread.is_alive():
            loop.call_soon_threadsafe(server.stop)
        _join(thread)


def _run_granian(server: Server, loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(server.serve())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _join(thread: threading.Thread) -> None:
    thread.join(STOP_SECONDS)
    assert not thread.is_alive()


def until(condition: Callable[[], object], seconds: float = 10) -> bool:
    """Wait for something to become true, and say whether it did."""
    waiting = threading.Event()
    for _ in range(round(seconds * 100)):
        if condition():
            return True
        waiting.wait(0.01)
    return bool(condition())
