"""A backend that fails on cue, around a real one: what no real store can be asked to do."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from typing import Any, Literal, TypeVar, cast

from lading.backends.protocols import Attributes, Body, Copies, Driver, ObjectInfo, StorageBackend, Stored
from lading.errors import StoreError
from lading.media import Trust
from lading.paths import PathMaker
from lading.rules import Rule
from lading.worlds import World, inline

T = TypeVar("T")

Cue = Literal["fails", "does it and fails", "hangs", "does it and hangs", "is slow"]


class Faulty:
    """A backend around another.

    Attributes:
        cues: what a verb, by its name, does instead of succeeding.
        after: calls of a verb that succeed all the same before its cue.
        delay: seconds that a slow verb takes longer.
        calls: the verbs that were called, in their order.
        running: verbs under way now, and `most`, the largest number that there was.
        hanging: set when a verb hangs, or is slow.
    """

    def __init__(self, inner: StorageBackend, **cues: Cue) -> None:
        self.inner = inner
        self.cues: Mapping[str, Cue] = cues
        self.after = 0
        self.delay = 0.05
        self.calls: list[str] = []
        self.running = 0
        self.most = 0
        self.hanging = asyncio.Event()

    @property
    def key(self) -> str:
        return self.inner.key

    @property
    def protocol(self) -> str:
        return self.inner.protocol

    @property
    def rules(self) -> Sequence[Rule]:
        return self.inner.rules

    @property
    def path_maker(self) -> PathMaker | None:
        return self.inner.path_maker

    @property
    def trust(self) -> Trust:
        return self.inner.trust

    @property
    def checksum(self) -> str | None:
        return self.inner.checksum

    @property
    def chunk_size(self) -> int:
        return self.inner.chunk_size

    def driver(self, world: World) -> Driver:
        return FaultyDriver(self, self.inner.driver(world), world)


class FaultyDriver:
    def __init__(self, backend: Faulty, inner: Driver, world: World) -> None:
        self._backend = backend
        self._inner = inner
        self._world = world

    async def put(self, path: str, body: Body, *, size: int | None, overwrite: bool, attributes: Attributes) -> Stored:
        put = self._inner.put(path, body, size=size, overwrite=overwrite, attributes=attributes)
        return await self._on_cue("put", path, put)

    async def get(self, path: str) -> bytes:
        return await self._on_cue("get", path, self._inner.get(path))

    async def read(self, path: str, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        self._backend.calls.append("read")
        async for chunk in self._inner.read(path, start, stop):
            yield chunk

    async def head(self, path: str) -> ObjectInfo:
        return await self._on_cue("head", path, self._inner.head(path))

    async def delete(self, paths: Sequence[str]) -> None:
        await self._on_cue("delete", paths[0], self._inner.delete(paths))

    def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        return self._inner.list(prefix)

    async def copy(self, source: str, target: str, *, overwrite: bool = False) -> None:
        await self._on_cue("copy", target, cast("Copies", self._inner).copy(source, target, overwrite=overwrite))

    async def _on_cue(self, verb: str, path: str, work: Coroutine[Any, Any, T]) -> T:
        backend = self._backend
        backend.calls.append(verb)
        backend.running += 1
        backend.most = max(backend.most, backend.running)
        try:
            return await self._cued(verb, path, work)
        finally:
            work.close()
            backend.running -= 1

    async def _cued(self, verb: str, path: str, work: Coroutine[Any, Any, T]) -> T:
        cue = self._backend.cues.get(verb)
        if cue is None or self._backend.calls.count(verb) <= self._backend.after:
            return await work
        if cue == "is slow":
            self._backend.hanging.set()
            if self._world is inline:
                time.sleep(self._backend.delay)
            else:
                await asyncio.sleep(self._backend.delay)
            return await work
        if cue.startswith("does it"):
            await work
        if cue.endswith("hangs"):
            self._backend.hanging.set()
            await asyncio.sleep(60)
        raise StoreError(f"{verb} failed on cue", backend=self._backend.key, path=path)
