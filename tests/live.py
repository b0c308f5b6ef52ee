"""An ASGI application behind a real server, on a loop of its own in a thread."""

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any, Literal, cast, get_args

import uvicorn
from granian.constants import Interfaces
from granian.server.embed import Server as Granian

Kind = Literal["httptools", "h11", "granian"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@contextmanager
def live(app: Any, kind: Kind = "httptools") -> Iterator[int]:
    """Serve an application; gives the port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    loop = asyncio.new_event_loop()
    server = _granian(app, port) if kind == "granian" else _uvicorn(app, port, kind)
    thread = Thread(target=loop.run_until_complete, args=(server.serve(),), name=kind)
    thread.start()
    try:
        _wait(port, thread)
        yield port
    finally:
        if isinstance(server, uvicorn.Server):
            server.should_exit = True
        else:
            loop.call_soon_threadsafe(server.stop)
        thread.join(20)
        assert not thread.is_alive()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def _uvicorn(app: Any, port: int, kind: Literal["httptools", "h11"]) -> uvicorn.Server:
    config = uvicorn.Config(
        app, port=port, http=kind, log_config=None, lifespan="on", ws="none", timeout_graceful_shutdown=5
    )
    return uvicorn.Server(config)


def _granian(app: Any, port: int) -> Any:
    return Granian(app, address="127.0.0.1", port=port, interface=cast("Any", Interfaces.ASGI), log_enabled=False)


def _wait(port: int, thread: Thread) -> None:
    until = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            assert thread.is_alive()
            assert time.monotonic() < until
            time.sleep(0.01)
        else:
            return
