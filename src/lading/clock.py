"""The one clock that lading reads, so that a test can stop it."""

import time
from collections.abc import Callable

source: Callable[[], float] = time.time
"""Where `now` has it from; a test puts something else here."""


def now() -> float:
    """Seconds since the epoch, UTC."""
    return source()
