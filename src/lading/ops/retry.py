"""Trying again what a store could not do just now, and knowing one's own object where an answer was lost."""

import hashlib
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from lading import clock
from lading.backends.base import RETRIES
from lading.backends.protocols import Body, ObjectInfo, StorageBackend, Stored
from lading.errors import ObjectExists, ObjectNotFound, StoreUnavailable
from lading.worlds import World

T = TypeVar("T")

PAUSE = 0.5
"""Seconds: before the n-th further try lies a pause that is drawn from 0 to `PAUSE * 2 ** (n - 1)`."""

LONGEST_PAUSE = 20.0
"""Seconds."""

SKEW = 10.0
"""Seconds by which the clock of a store may be behind ours, its rounding included."""

log = logging.getLogger("lading")


async def again(
    act: Callable[[], Awaitable[T]], backend: StorageBackend, world: World, *, may: Callable[[], bool] = lambda: True
) -> T:
    """Do something, and again while the store is unavailable, as often as the attribute `retries` of its backend says.

    A backend without that attribute has `lading.backends.base.RETRIES`. The pauses are those of exponential backoff
    with full jitter (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).

    Args:
        act: makes a new try.
        backend: where.
        world: waits.
        may: whether there may be one more try, asked after each that failed.

    Raises:
        StoreUnavailable: of the last try.
    """
    failures = 0
    while True:
        try:
            return await act()
        except StoreUnavailable as error:
            failures += 1
            if failures > getattr(backend, "retries", RETRIES) or not may():
                raise
            longest = min(PAUSE * 2 ** (failures - 1), LONGEST_PAUSE)
            pause = random.uniform(0, longest)  # noqa: S311  # it spreads load and hides nothing
            log.info("trying again: %s", error, extra={"backend": error.backend, "path": error.path, "pause": pause})
        await world.sleep(pause)


async def begun(start: Callable[[], AsyncIterator[T]], backend: StorageBackend, world: World) -> AsyncIterator[T]:
    """What an iterator of a driver gives; it is opened again where it fails before its first item."""

    async def first() -> tuple[list[T], AsyncIterator[T]]:
        items = start()
        async for item in items:
            return [item], items
        return [], items

    head, rest = await again(first, backend, world)
    try:
        for item in head:
            yield item
        async for item in rest:
            yield item
    finally:
        close = getattr(rest, "aclose", None)
        if close is not None:
            await close()


class Retrying:
    """The verbs of a backend's driver that may be done twice, tried again while the store is unavailable.

    What a read or a listing has begun to give is not tried again: who reads may have handed it on.
    """

    def __init__(self, backend: StorageBackend, world: World) -> None:
        self._backend = backend
        self._world = world
        self._driver = backend.driver(world)

    async def get(self, path: str) -> bytes:
        return await again(partial(self._driver.get, path), self._backend, self._world)

    def read(self, path: str, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        return begun(partial(self._driver.read, path, start, stop), self._backend, self._world)

    async def head(self, path: str) -> ObjectInfo:
        return await again(partial(self._driver.head, path), self._backend, self._world)

    async def delete(self, paths: Sequence[str]) -> None:
        await again(partial(self._driver.delete, paths), self._backend, self._world)

    def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        return begun(partial(self._driver.list, prefix), self._backend, self._world)


class Target:
    """The path at which one object is being made, in as many tries as it takes.

    Attributes:
        path: the path.
        is_ours: whether what lies there can be nobody else's.
        is_in_doubt: whether a try failed that may have stored the object all the same.
        since: when the first try began, in seconds since the epoch.
    """

    def __init__(self, path: str, *, is_ours: bool) -> None:
        self.path = path
        self.is_ours = is_ours
        self.is_in_doubt = False
        self.since = clock.now()

    async def make(self, write: Callable[[bool], Awaitable[T]]) -> T:
        """Make one try.

        Args:
            write: told whether it may replace what lies there: it may where that can only be of a try before.

        Raises:
            ObjectExists: something lies there, and the path may be another's.
            StoreUnavailable: another try may help.
        """
        try:
            return await write(self.is_ours and self.is_in_doubt)
        except StoreUnavailable:
            self.is_in_doubt = True
            raise
        except ObjectExists as error:
            if not self.is_ours:
                raise
            # The store, or the library that speaks to it, had sent it before without our knowing.
            self.is_in_doubt = True
            raise StoreUnavailable(
                f"cannot store {self.path!r} in backend {error.backend!r}: an answer was lost",
                backend=error.backend,
                path=self.path,
            ) from error

    async def recognise(self, body: Body, backend: StorageBackend, world: World, conflict: ObjectExists) -> Stored:
        """What the store would have answered to the try that made the object which lies there, if one did.

        To be asked where a path may be another's, and a try is in doubt. What lies there is taken for ours if it is no
        older than the first try and has the size and the bytes of `body`; it is read back for that.

        Raises:
            ObjectExists: `conflict`, where it is not ours.
        """
        driver = Retrying(backend, world)
        try:
            info = await driver.head(self.path)
            if info.last_modified >= self.since - SKEW:
                size, digest = await _sum(body, world)
                if size == info.size and digest == (await _sum(driver.read(self.path), world))[1]:
                    return Stored(info.etag, info.version_id)
        except ObjectNotFound:
            pass
        raise conflict


async def _sum(body: Body, world: World) -> tuple[int, bytes]:
    """Size and digest."""
    size, digest = 0, hashlib.sha256()
    if not isinstance(body, AsyncIterator):
        await world.call(digest.update, body)
        return len(body), digest.digest()
    async for chunk in body:
        size += len(chunk)
        await world.call(digest.update, chunk)
    return size, digest.digest()
