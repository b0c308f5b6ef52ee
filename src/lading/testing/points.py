"""The points at which a run can fail: they are counted as it passes them, and one of them fails."""

import os
import signal
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from threading import Lock
from typing import Literal, NamedTuple, get_args

from lading.errors import StoreError, StoreUnavailable

Failure = Literal["error", "outage", "cancel", "kill"]
"""What happens at a point; see `lading.testing.assert_crash_safe`."""

FAILURES: tuple[Failure, ...] = get_args(Failure)
BEFORE: tuple[Failure, ...] = ("error", "cancel", "kill")
"""What may happen where nothing has been done yet."""

AFTER: tuple[Failure, ...] = ("error", "cancel")
"""What may happen where something was done; a process that is killed here is as if killed before the next thing."""

KILL: tuple[Failure, ...] = ("kill",)
ERROR: tuple[Failure, ...] = ("error",)


class Interrupted(KeyboardInterrupt):
    """What somebody at the keyboard does to a thread, at a point."""


class FailedOnCue(RuntimeError):
    """What a listener of the application raises, at a point."""


class Point(NamedTuple):
    """Something that is about to be done, or was done, and what may happen there."""

    label: str
    failures: Collection[Failure]


class Points:
    """The points of one run after another.

    Attributes:
        passed: the points of the run, up to now.
        is_armed: whether points are counted: they are while the scenario runs, and at no other time.
        is_down: whether the store has failed for the rest of the run.
        met: the point that has failed in this run.
    """

    def __init__(self) -> None:
        self.passed: list[Point] = []
        self.is_armed = False
        self.is_down = False
        self.met: Point | None = None
        self._at: int | None = None
        self._failure: Failure = "error"
        self._cancel: Callable[[], object] = _interrupt
        self._lock = Lock()

    @contextmanager
    def armed(self, at: int | None, failure: Failure) -> Generator[None, None, None]:
        """Count points from 0, and let one fail; none, where `at` is `None`."""
        self.passed, self.met, self._at, self._failure = [], None, at, failure
        self.is_armed = True
        try:
            yield
        finally:
            self.is_armed = self.is_down = False

    @contextmanager
    def cancelled_by(self, cancel: Callable[[], object]) -> Generator[None, None, None]:
        """Cancel the run, where it is to be, by `cancel` of its task; else the point raises `KeyboardInterrupt`."""
        self._cancel = cancel
        try:
            yield
        finally:
            self._cancel = _interrupt

    def pass_by(self, label: str, failures: Collection[Failure], error: Callable[[], BaseException]) -> None:
        """The run comes to a point, which may fail.

        Args:
            label: what is about to be done or was done, for people.
            failures: what may happen here.
            error: makes the error that is raised here.
        """
        if not self.is_armed:
            return
        with self._lock:
            number = len(self.passed)
            point = Point(label, failures)
            self.passed.append(point)
        # Files that are stored at once come to their points in any order: a kill may come after a step, too.
        if number != self._at or self._failure not in (*failures, "kill"):
            return
        self.met = point
        if self._failure == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self._failure == "cancel":
            self._cancel()
        else:
            self.is_down = self._failure == "outage"
            raise error()

    def store(self, label: str, failures: Collection[Failure], backend: str, path: str) -> None:
        """The run comes to a point where the store may fail.

        Raises:
            StoreError: it does, in a way that trying again does not help.
            StoreUnavailable: it does, and will for the rest of the run.
        """
        if self.is_armed and self.is_down:
            raise StoreUnavailable(f"{label}: the store is down, on cue", backend=backend, path=path)
        self.pass_by(
            label,
            (*failures, "outage"),
            lambda: self._store_error(f"{label}: failed on cue", backend=backend, path=path),
        )

    @property
    def _store_error(self) -> type[StoreError]:
        return StoreUnavailable if self.is_down else StoreError


def _interrupt() -> None:
    raise Interrupted
