"""A backend that fails on cue: what no real server can be asked to do."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence

from lading.backends.obstore import ObstoreBackend
from lading.backends.protocols import Attributes, Body, Driver, ObjectInfo, Stored
from lading.errors import StoreError
from lading.worlds import World, asyncio_world


class Faulty(ObstoreBackend):
    """A memory backend whose puts and deletes can fail, be slow, and are counted.

    Attributes:
        fails: told the verb and the path, says whether it fails; a put that fails has stored its object first.
        delay: seconds that every put takes.
        running: puts under way now; `most` is the largest number there was.
    """

    def __init__(self, key: str = "mem") -> None:
        super().__init__(key=key, fs="memory://")
        self.fails: Callable[[str, str], bool] = lambda verb, path: False
        self.delay = 0.0
        self.running = 0
        self.most = 0
        self.puts = 0

    def driver(self, world: World) -> Driver:
        return FaultyDriver(self, super().driver(world), world)


class FaultyDriver:
    def __init__(self, backend: Faulty, inner: Driver, world: World) -> None:
        self._backend = backend
        self._inner = inner
        self._world = world

    async def put(self, path: str, body: Body, *, size: int | None, overwrite: bool, attributes: Attributes) -> Stored:
        backend = self._backend
        backend.puts += 1
        backend.running += 1
        backend.most = max(backend.most, backend.running)
        try:
            if self._world is asyncio_world:
                await asyncio.sleep(backend.delay)
            else:
                time.sleep(backend.delay)
            stored = await self._inner.put(path, body, size=size, overwrite=overwrite, attributes=attributes)
        finally:
            backend.running -= 1
        self._check("put", path)
        return stored

    async def delete(self, paths: Sequence[str]) -> None:
        for path in paths:
            self._check("delete", path)
        await self._inner.delete(paths)

    async def get(self, path: str) -> bytes:
        return await self._inner.get(path)

    def read(self, path: str, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        return self._inner.read(path, start, stop)

    async def head(self, path: str) -> ObjectInfo:
        return await self._inner.head(path)

    def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        return self._inner.list(prefix)

    def _check(self, verb: str, path: str) -> None:
        if self._backend.fails(verb, path):
            raise StoreError("the store is on fire", backend=self._backend.key, path=path)
