"""From SQLAlchemy's sync events into lading's coroutines, in whichever world the session runs."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

from lading.worlds import World, asyncio_world, inline, run

T = TypeVar("T")


def wait(work: Callable[[World], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end: on the loop under an `AsyncSession`, in this thread under a `Session`."""
    if in_greenlet():
        return await_only(work(asyncio_world))
    return run(work(inline))
