"""So many at a time: what one process may have under way of something that costs memory, whoever has begun it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from threading import BoundedSemaphore
from weakref import WeakKeyDictionary

from lading.worlds import World, inline


class Gate:
    """Lets through a number of threads of the inline world, and of each event loop; the others wait for their turn.

    Who is within must not pass the same gate again, nor wait for somebody who has yet to pass it.

    Args:
        most: how many are within at a time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._threads = BoundedSemaphore(most)
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()

    @asynccontextmanager
    async def passed(self, world: World) -> AsyncGenerator[None, None]:
        """Wait for a turn, and have it until the end of the block."""
        if world is inline:
            with self._threads:
                yield
            return
        async with self._loops.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(self._most)):
            yield
