"""Where the benchmarks store: memory, local disk, tmpfs, S3 by moto, and a store that takes its time."""

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lading import worlds
from lading.backends.obstore import ObstoreBackend
from lading.backends.protocols import Attributes, Body, Driver, ObjectInfo, Stored
from lading.media import Trust
from lading.paths import PathMaker
from lading.rules import Rule
from lading.worlds import World
from tests.services import moto, process

TMPFS = Path("/dev/shm")
SLOW_SECONDS = 0.020


@contextmanager
def directory(parent: Path | None = None) -> Iterator[Path]:
    """An empty directory, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="lading-bench-", dir=parent) as made:
        yield Path(made)


@contextmanager
def memory() -> Iterator[ObstoreBackend]:
    yield ObstoreBackend("memory", "memory://")


@contextmanager
def local(*, fsync: bool = False) -> Iterator[ObstoreBackend]:
    with directory() as root:
        yield ObstoreBackend("local", root.as_uri(), fsync=fsync)


@contextmanager
def tmpfs() -> Iterator[ObstoreBackend]:
    with directory(TMPFS) as root:
        yield ObstoreBackend("tmpfs", root.as_uri())


@contextmanager
def s3() -> Iterator[ObstoreBackend]:
    run = process.new_run()
    try:
        server = moto.S3(f"http://127.0.0.1:{process.start(run, moto.RECIPE)}")
        yield ObstoreBackend(
            "s3",
            f"s3://{server.make_bucket()}",
            aws_endpoint=server.endpoint,
            aws_region=server.region,
            aws_access_key_id=server.access_key_id,
            aws_secret_access_key=server.secret_access_key,
        )
    finally:
        process.stop(run)


class Slow:
    """A backend that keeps things in memory and takes 20 ms a request, which it counts."""

    key = "slow"
    protocol = "slow"
    rules: Sequence[Rule] = ()
    path_maker: PathMaker | None = None
    trust: Trust = "content"
    checksum: str | None = "sha256"
    chunk_size = 5 * 2**20

    def __init__(self) -> None:
        self.requests = 0
        self._memory = ObstoreBackend("slow", "memory://")

    def driver(self, world: World) -> Driver:
        return SlowDriver(self, self._memory.driver(world), world)


class SlowDriver:
    """The verbs of a slow backend."""

    def __init__(self, backend: Slow, driver: Driver, world: World) -> None:
        self._backend = backend
        self._driver = driver
        self._world = world

    async def _request(self) -> None:
        self._backend.requests += 1
        if self._world is worlds.inline:
            time.sleep(SLOW_SECONDS)
        else:
            await asyncio.sleep(SLOW_SECONDS)

    async def put(self, path: str, body: Body, *, size: int | None, overwrite: bool, attributes: Attributes) -> Stored:
        await self._request()
        return await self._driver.put(path, body, size=size, overwrite=overwrite, attributes=attributes)

    async def get(self, path: str) -> bytes:
        await self._request()
        return await self._driver.get(path)

    async def read(self, path: str, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        await self._request()
        async for chunk in self._driver.read(path, start, stop):
            yield chunk

    async def head(self, path: str) -> ObjectInfo:
        await self._request()
        return await self._driver.head(path)

    async def delete(self, paths: Sequence[str]) -> None:
        await self._request()
        await self._driver.delete(paths)

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        await self._request()
        async for info in self._driver.list(prefix):
            yield info


def pdf(size: int) -> bytes:
    """Bytes that begin as a PDF does."""
    return b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n".ljust(size, b"0")[: min(size, 16)] + os.urandom(max(0, size - 16))


def noise(size: int) -> bytes:
    """Bytes of no known format."""
    return b"\xfe" + os.urandom(size - 1)
