"""lading's clock, standing still while a test runs."""

from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime, timedelta

from lading import clock


class FrozenClock:
    """What time lading takes it for.

    Attributes:
        time: seconds since the epoch, UTC; to be set as one likes.
    """

    def __init__(self, time: float) -> None:
        self.time = time

    def __call__(self) -> float:
        return self.time

    def tick(self, seconds: float | timedelta = 1) -> None:
        """Let time pass; seconds below zero turn it back."""
        self.time += seconds.total_seconds() if isinstance(seconds, timedelta) else seconds

    def __repr__(self) -> str:
        return f"<FrozenClock at {self.time}>"


@contextmanager
def frozen_clock(at: float | datetime | None = None) -> Generator[FrozenClock, None, None]:
    """Stop the clock that lading reads: of tokens and signed URLs, of the outbox and the sweeper, of records.

    Nobody else's clock stops: not the one by which a store says when an object was written, nor the database's.

    Args:
        at: seconds since the epoch, or an aware `datetime`; by default now, in whole seconds, since tokens
            expire at whole milliseconds.

    Raises:
        ValueError: a `datetime` without a time zone could mean any hour.
    """
    if isinstance(at, datetime):
        if at.tzinfo is None:
            raise ValueError(f"a time without a zone is not one time: {at!r}")
        at = at.timestamp()
    frozen = FrozenClock(float(int(clock.now())) if at is None else at)
    before, clock.source = clock.source, frozen
    try:
        yield frozen
    finally:
        clock.source = before
