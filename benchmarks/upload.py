"""Uploads through a server: a form into a Litestar application with lading, against a bare one that only stores.

Both run under uvicorn and store on local disk, in parts of one size; the bare one parses with the same parser, and
neither hashes nor looks at what comes. lading's row is committed, too. Once the bare one hands on events as they come,
and once it gathers chunks of 1 MiB, as lading does: then what lading takes longer is sha256, which costs as much on
cores that are busy and little where one is idle.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import obstore
from litestar import Litestar, post
from litestar.enums import RequestEncodingType
from litestar.params import Body
from multipart import PushMultipartParser  # type: ignore[import-untyped]  # it has no types
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from benchmarks import places
from benchmarks.harness import Result
from lading import FileObject, StoredObject, storages
from lading.backends.obstore import ObstoreBackend
from lading.litestar import LadingConfig, LadingPlugin, UploadTo
from lading.paths import token

MIB, GIB = 2**20, 2**30
ROOT = "LADING_BENCH_ROOT"
PART, PARTS = 5 * MIB, 2  # what lading's backends use
BOUNDARY = "----WebKitFormBoundary7MA4YWxkTrZu0gWs"  # as long as those of browsers: a shorter one is slower to find
HEAD = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="data"; filename="a.bin"\r\n\r\n'.encode()
TAIL = f"\r\n--{BOUNDARY}--\r\n".encode()


def results(*, quick: bool) -> Iterator[Result]:
    sizes = (16 * MIB, 64 * MIB) if quick else (256 * MIB, GIB)
    with ExitStack() as stack:
        ours, plain, gathering = (_started(stack, name) for name in ("lading_app", "plain_app", "gathering_app"))
        for size in sizes:
            times: dict[_Server, list[float]] = {ours: [], plain: [], gathering: []}
            for turn in range(2 if quick else 10):
                for server in times if turn % 2 else reversed(times):
                    times[server].append(server.upload(size))
            for other, name, target in ((plain, "events as they come", 1.3), (gathering, "chunks of 1 MiB", None)):
                pairs = list(zip(times[ours], times[other], strict=True))[1:]
                mine, theirs = (median(pair[side] for pair in pairs) for side in (0, 1))
                ratio = median(a / b for a, b in pairs)
                yield Result(f"upload {size // MIB} MiB, against {name}", mine, theirs, ratio, target)
    for count, size, target in ((1, sizes[0], 40), (1, sizes[1], 40), (8, sizes[0] // 2, 200)):
        with ExitStack() as stack:
            server = _started(stack, "lading_app")
            server.upload(MIB)
            above = server.above_idle(lambda: server.at_once(count, size))  # noqa: B023  # called here
        yield Result(f"memory above idle, {count} × {size // MIB} MiB at once, in MiB", None, None, above / MIB, target)


def _started(stack: ExitStack, factory: str) -> "_Server":
    root = stack.enter_context(places.directory())
    return stack.enter_context(_server(factory, root))


class _Server:
    """An application in a process of its own."""

    def __init__(self, pid: int, port: int, root: Path) -> None:
        self._pid = pid
        self._port = port
        self._root = root

    def upload(self, size: int) -> float:
        """Seconds from the first byte to the answer."""
        os.sync()
        start = time.perf_counter()
        self._send(size)
        taken = time.perf_counter() - start
        for file in self._root.rglob("*.bin"):
            file.unlink()
        return taken

    def at_once(self, count: int, size: int) -> None:
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(self._send, [size] * count))

    def above_idle(self, act: Any) -> int:
        """Bytes of memory that the process holds at most while it acts, above what it holds before."""
        idle = self._status("VmRSS")
        Path(f"/proc/{self._pid}/clear_refs").write_text("5")  # the peak begins anew; see proc_pid_clear_refs(5)
        act()
        return self._status("VmHWM") - idle

    def _status(self, name: str) -> int:
        lines = Path(f"/proc/{self._pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))

    def _send(self, size: int) -> None:
        piece = memoryview(places.noise(MIB))
        kind, length = f"multipart/form-data; boundary={BOUNDARY}", size + len(HEAD) + len(TAIL)
        head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", self._port)) as connection:
            connection.sendall(head.encode() + HEAD)
            for _ in range(size // MIB):
                connection.sendall(piece)
            connection.sendall(TAIL)
            answer = connection.recv(65536)
            if not answer.startswith(b"HTTP/1.1 201"):
                raise RuntimeError(f"the upload failed: {answer[:500]!r}")


@contextmanager
def _server(factory: str, root: Path) -> Iterator[_Server]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--factory", f"benchmarks.upload:{factory}", "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--log-level", "warning", "--lifespan", "on"], env={**os.environ, ROOT: str(root)}
    )
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                if process.poll() is not None:
                    raise RuntimeError("the server did not start") from None
                time.sleep(0.05)
        yield _Server(process.pid, port, root)
    finally:
        process.terminate()
        process.wait()


class Base(DeclarativeBase): ...


class Document(Base):
    __tablename__ = "document"
    id: Mapped[int] = mapped_column(primary_key=True)
    file: Mapped[FileObject] = mapped_column(StoredObject(backend="local"))


def lading_app() -> Litestar:
    root = Path(os.environ[ROOT])
    storages.register_backend(ObstoreBackend("local", root.as_uri(), chunk_size=PART))
    engine = create_async_engine(f"sqlite+aiosqlite:///{root}/rows.sqlite")

    @event.listens_for(engine.sync_engine, "connect")
    def hurry(connection: Any, _: object) -> None:
        connection.execute("PRAGMA synchronous = OFF")  # how fast a disk syncs is not what is measured

    async def tables() -> None:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)

    @post("/")
    async def upload(
        data: Annotated[FileObject, UploadTo(Document.file), Body(media_type=RequestEncodingType.MULTI_PART)],
    ) -> None:
        async with AsyncSession(engine) as session:
            session.add(Document(file=data))
            await session.commit()

    return Litestar([upload], plugins=[LadingPlugin(LadingConfig("a secret of some length"))], on_startup=[tables])


def plain_app() -> Any:
    return _bare_app(gather=1)


def gathering_app() -> Any:
    return _bare_app(gather=MIB)


def _bare_app(gather: int) -> Any:
    store = ObstoreBackend("local", Path(os.environ[ROOT]).as_uri()).store

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return

        async def content() -> AsyncIterator[bytes]:
            with PushMultipartParser(BOUNDARY) as parser:
                async for chunk in _chunks(receive, gather):
                    for event in parser.parse(chunk):
                        if isinstance(event, bytes):
                            yield event

        await obstore.put_async(store, f"{token()}.bin", content(), chunk_size=PART, max_concurrency=PARTS)
        await send({"type": "http.response.start", "status": 201, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    return app


async def _chunks(receive: Any, gather: int) -> AsyncIterator[bytes]:
    """The body, in chunks of so many bytes or of what an event has."""
    more = True
    while more:
        gathered: list[bytes] = []
        size = 0
        while more and size < gather:
            event = await receive()
            gathered.append(event["body"])
            size += len(event["body"])
            more = event["more_body"]
        yield gathered[0] if len(gathered) == 1 else b"".join(gathered)


async def _lifespan(receive: Any, send: Any) -> None:
    for kind in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{kind}.complete"})
