"""A backend that fails on cue, around a real one: what no real store can be asked to do."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from threading import Lock
from typing import Any, NamedTuple, TypeVar, cast

from lading.backends.protocols import (
    Attributes,
    Body,
    Copies,
    Describes,
    Driver,
    ListsInOrder,
    Located,
    ObjectInfo,
    Place,
    Signs,
    Stages,
    StorageBackend,
    Stored,
)
from lading.media import Trust
from lading.paths import PathMaker
from lading.rules import Rule
from lading.testing.faults import SECONDS, Fault, Plan, Verb, in_turn
from lading.worlds import World

T = TypeVar("T")


class Call(NamedTuple):
    """One call of a verb; of several paths it has the first."""

    verb: Verb
    path: str


class FaultyBackend:
    """A backend around another, whose calls meet the faults of a plan; without one it does what the other does.

    Its drivers have just the capabilities that the other's have. What else the other backend has can be reached through
    this one.

    Args:
        inner: the backend that it stands before.
        plan: faults, or what `random_faults` makes, or a callable of one's own.

    Attributes:
        inner: as given.
        calls: every call of a verb, in the order in which they began. A stream is called when its first item is.
        running: calls that are under way now.
        most: the most that were under way at one time.
        hanging: set when a call begins to hang or to be delayed.
    """

    place: Place  # where the inner backend says it

    def __init__(self, inner: StorageBackend, plan: Sequence[Fault] | Plan = ()) -> None:
        self.inner = inner
        if isinstance(inner, Located):
            self.place = inner.place
        self.plan = plan
        self.calls: list[Call] = []
        self.running = 0
        self.most = 0
        self.hanging = asyncio.Event()
        self._drivers: dict[World, FaultyDriver] = {}
        self._lock = Lock()

    @property
    def plan(self) -> Sequence[Fault] | Plan:
        """What calls meet from now on; a new plan counts calls from 1."""
        return self._plan

    @plan.setter
    def plan(self, plan: Sequence[Fault] | Plan) -> None:
        self._plan = plan
        self._ask = plan if callable(plan) else in_turn(plan)

    @property
    def verbs(self) -> list[Verb]:
        """The verbs of `calls`."""
        return [call.verb for call in self.calls]

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
        """The verbs for that world, as the plan lets them be."""
        if world not in self._drivers:
            inner = self.inner.driver(world)
            able = tuple(ours for capability, ours in _CAPABILITIES.items() if isinstance(inner, capability))
            self._drivers[world] = type("FaultyDriver", (*able, FaultyDriver), {})(self, inner, world)
        return self._drivers[world]

    @asynccontextmanager
    async def call(self, verb: Verb, path: str, world: World) -> AsyncGenerator[Fault | None, None]:
        """Count one call of a verb and let it meet its fault, before or after what is done inside.

        A `cut` where there is a stream is left to whoever has the stream: it is what this gives.
        """
        with self._lock:
            self.calls.append(Call(verb, path))
            self.running += 1
            self.most = max(self.most, self.running)
            fault = self._ask(verb)
        try:
            if fault is None or fault.kind == "cut":
                yield fault
                return
            after = fault.kind.endswith("after")
            if after:
                yield None
            if (seconds := SECONDS.get(fault.kind)) is not None:
                self.hanging.set()
                await world.sleep(seconds if fault.seconds is None else fault.seconds)
            if fault.kind != "delay":
                raise fault.raised(verb, self.key, path)
            yield None
        finally:
            with self._lock:
                self.running -= 1

    def __getattr__(self, name: str) -> Any:
        if name == "inner":  # not there yet, as when somebody copies this
            raise AttributeError(name)
        return getattr(self.inner, name)

    def __repr__(self) -> str:
        return f"<FaultyBackend around {self.inner!r}>"


class FaultyDriver:
    """The verbs of a `FaultyBackend` in one world."""

    def __init__(self, backend: FaultyBackend, inner: Any, world: World) -> None:
        self._backend = backend
        self._inner = inner
        self._world = world

    async def put(self, path: str, body: Body, *, size: int | None, overwrite: bool, attributes: Attributes) -> Stored:
        async with self._call("put", path, streams=True) as cut:
            if cut is not None:
                error = cut.raised("put", self._backend.key, path)
                if isinstance(body, bytes | bytearray | memoryview):
                    raise error
                body = _cut(body, cut.bytes, error)
            stored: Stored = await self._inner.put(path, body, size=size, overwrite=overwrite, attributes=attributes)
            return stored

    async def get(self, path: str) -> bytes:
        async with self._call("get", path):
            content: bytes = await self._inner.get(path)
            return content

    def read(self, path: str, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        return self._stream("read", path, self._inner.read(path, start, stop))

    async def head(self, path: str) -> ObjectInfo:
        async with self._call("head", path):
            info: ObjectInfo = await self._inner.head(path)
            return info

    async def delete(self, paths: Sequence[str]) -> None:
        async with self._call("delete", next(iter(paths), "")):
            await self._inner.delete(paths)

    def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        return self._stream("list", prefix, self._inner.list(prefix))

    @asynccontextmanager
    async def _call(self, verb: Verb, path: str, *, streams: bool = False) -> AsyncGenerator[Fault | None, None]:
        async with self._backend.call(verb, path, self._world) as cut:
            if cut is not None and not streams:
                raise cut.raised(verb, self._backend.key, path)
            yield cut

    async def _stream(self, verb: Verb, path: str, stream: AsyncIterator[T]) -> AsyncIterator[T]:
        async with self._call(verb, path, streams=True) as cut:
            if cut is not None:
                stream = _cut(stream, cut.bytes, cut.raised(verb, self._backend.key, path))
            try:
                async for item in stream:
                    yield item
            finally:
                await _close(stream)


class _Copying(FaultyDriver):
    async def copy(self, source: str, target: str, *, overwrite: bool = False) -> None:
        async with self._call("copy", target):
            await self._inner.copy(source, target, overwrite=overwrite)


class _Signing(FaultyDriver):
    async def sign(self, path: str, *, method: str, expires_in: int) -> str:
        async with self._call("sign", path):
            url: str = await self._inner.sign(path, method=method, expires_in=expires_in)
            return url


class _Describing(FaultyDriver):
    async def attributes(self, path: str) -> Attributes:
        async with self._call("attributes", path):
            attributes: Attributes = await self._inner.attributes(path)
            return attributes


class _Ordered(FaultyDriver):
    def list_in_order(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectInfo]:
        return self._stream("list_in_order", prefix, self._inner.list_in_order(prefix, after=after))


class _Staging(FaultyDriver):
    def staged(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        return self._stream("staged", prefix, self._inner.staged(prefix))

    async def discard(self, paths: Sequence[str]) -> None:
        async with self._call("discard", next(iter(paths), "")):
            await self._inner.discard(paths)


# A driver says what it can by what methods it has, so one that stands before another must have just as many.
_CAPABILITIES: Mapping[type, type[FaultyDriver]] = {
    Copies: _Copying,
    Signs: _Signing,
    Describes: _Describing,
    ListsInOrder: _Ordered,
    Stages: _Staging,
}


async def _cut(stream: AsyncIterator[T], left: int, error: BaseException) -> AsyncIterator[T]:
    """What is left of a stream of bytes or of entries that breaks off."""
    try:
        async for item in stream:
            chunk = cast("Any", item)
            size: int = 1 if isinstance(item, ObjectInfo) else len(chunk)
            if size > left:
                if left:
                    yield chunk[:left]
                break
            left -= size
            yield item
        raise error
    finally:
        await _close(stream)


async def _close(stream: object) -> None:
    close = getattr(stream, "aclose", None)
    if close is not None:
        await close()
