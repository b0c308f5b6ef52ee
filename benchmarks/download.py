"""Downloading a file from a server in a process of its own, against a bare ASGI application that sends the same file.

`python -m benchmarks.download directory` is that server; it prints its port.
"""

import asyncio
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import obstore
import uvicorn

from benchmarks import places
from benchmarks.harness import Result, compare
from lading import FileObject
from lading.asgi import FileServer
from lading.asgi.reply import Receive, Scope, Send
from lading.backends.obstore import ObstoreBackend
from lading.signer import UrlSigner
from lading.storages import Storages
from lading.tokens import Tokens

MIB = 2**20
SIZE = 256 * MIB
TARGET = 1.2
MEMORY = 40
"""MiB above idle."""

_SECRET = "a secret for this benchmark"
_NAME = "film.bin"

Server: TypeAlias = tuple[int, int]
"""Process id and port."""


def results(*, quick: bool) -> Iterator[Result]:
    size, rounds = (16 * MIB, 2) if quick else (SIZE, 15)
    with places.directory() as root:
        (root / _NAME).write_bytes(places.noise(size))
        url = _url(root, size)
        with _server(root) as (_, port):
            whole = f"{size // MIB} MiB, local, against"
            for name, other in (("obstore's stream", "/obstore"), ("reads in threads", "/threads")):
                yield _compare(f"{whole} {name}", port, url, other, size, rounds, target=TARGET)
            head = f"range: bytes={MIB}-{2 * MIB - 1}\r\n"
            yield _compare("1 MiB of it, against reads in threads", port, url, "/threads", MIB, rounds * 20, head)
        yield from _memory(root, url, size)


def _memory(root: Path, url: str, size: int) -> Iterator[Result]:
    with _server(root) as (process, port):
        _get(port, url, 1, "range: bytes=0-0\r\n")
        idle = _reset_peak(process)
        for _ in range(5):
            _get(port, url, size)
        yield Result(
            f"memory above idle, MiB, for {size // MIB} MiB", None, None, (_peak(process) - idle) / MIB, MEMORY
        )
        _reset_peak(process)
        with _stalled(port, url, 8):
            _get(port, url, size)
            yield Result("  beside eight clients that read nothing", None, None, (_peak(process) - idle) / MIB)


def _compare(
    name: str, port: int, url: str, other: str, size: int, rounds: int, head: str = "", target: float | None = None
) -> Result:
    def ours(_: object) -> None:
        _get(port, url, size, head)

    def theirs(_: object) -> None:
        _get(port, other, size, head)

    return compare(name, ours, theirs, rounds=rounds, target=target)


def _get(port: int, path: str, size: int, head: str = "") -> None:
    """Download with as little work as there can be, and count the bytes."""
    with _asked(port, path, head) as connection:
        buffer, received = bytearray(MIB), 0
        first = connection.recv_into(buffer)
        start = buffer.index(b"\r\n\r\n", 0, first) + 4
        assert buffer[9:10] == b"2"
        received = first - start
        while received < size:
            count = connection.recv_into(buffer)
            assert count
            received += count
        assert received == size


@contextmanager
def _asked(port: int, path: str, head: str = "") -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nhost: benchmark\r\nconnection: close\r\n{head}\r\n".encode())
        yield connection


@contextmanager
def _stalled(port: int, path: str, count: int) -> Iterator[None]:
    connections = [_asked(port, path) for _ in range(count)]
    for connection in connections:
        connection.__enter__().recv(100)
    try:
        yield
    finally:
        for connection in connections:
            connection.__exit__(None, None, None)


@contextmanager
def _server(root: Path) -> Iterator[Server]:
    command = [sys.executable, "-m", "benchmarks.download", str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            yield child.pid, int(child.stdout.readline())
        finally:
            child.terminate()


def _reset_peak(process: int) -> int:
    """Begin to measure a process's peak of resident memory anew (proc(5), clear_refs), and return what it holds."""
    Path(f"/proc/{process}/clear_refs").write_text("5")
    return _peak(process)


def _peak(process: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


# The server.


def _signer() -> UrlSigner:
    return UrlSigner(Tokens(_SECRET))


def _url(root: Path, size: int) -> str:
    storages = Storages()
    storages.register_backend(ObstoreBackend("local", root.as_uri()))
    storages.signer = _signer()
    return FileObject("local", _NAME, path=_NAME, size=size, storages=storages).sign(expires_in=86400)


def _application(root: Path) -> Any:
    storages = Storages()
    backend = ObstoreBackend("local", root.as_uri())
    storages.register_backend(backend)
    served = FileServer(_signer(), storages)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/files/"):
            await served(scope, receive, send)
            return
        start, stop = 0, os.path.getsize(root / _NAME)
        if any(name == b"range" for name, _ in scope["headers"]):
            start, stop = MIB, 2 * MIB
        chunks = (
            _of_obstore(backend.store, start, stop) if scope["path"] == "/obstore" else _in_threads(root, start, stop)
        )
        length = str(stop - start).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        async for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return app


async def _of_obstore(store: Any, start: int, stop: int) -> AsyncIterator[bytes]:
    answer = await obstore.get_async(store, _NAME, options={"range": (start, stop)})
    async for chunk in answer.stream(MIB):
        yield bytes(chunk)


async def _in_threads(root: Path, start: int, stop: int) -> AsyncIterator[bytes]:
    with (root / _NAME).open("rb", buffering=0) as file:
        file.seek(start)
        while start < stop:
            chunk = await asyncio.to_thread(file.read, min(MIB, stop - start))
            start += len(chunk)
            yield chunk


def _serve(root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        config = uvicorn.Config(_application(root), http="httptools", loop="asyncio", log_level="warning")
        uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
