"""From SQLAlchemy's sync events into lading's coroutines, in whichever world the session runs."""

from collections.abc import Callable, Coroutine
from importlib.util import find_spec
from typing import Any, TypeVar

from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

from lading.worlds import World, asyncio_world, inline, run

T = TypeVar("T")

# SQLAlchemy 2.1 comes without it; where it is missing there is no AsyncSession.
_HAS_GREENLET = find_spec("greenlet") is not None


def wait(work: Callable[[World], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end: on the loop under an `AsyncSession`, in this thread under a `Session`."""
    if _HAS_GREENLET and in_greenlet():
        return await_only(work(asyncio_world))
    return run(work(inline))
