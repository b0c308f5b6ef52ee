"""The runs of one scenario, one for every point and kind of failure, and the promises that they break."""

import gc
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Generator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import URL, MetaData
from sqlalchemy.exc import SQLAlchemyError

from lading.storages import storages
from lading.testing.counted import CountedBackend, CountedFlushes
from lading.testing.evidence import Evidence, Rows, broken
from lading.testing.killed import Job, killer, name_of
from lading.testing.places import exchanged, layout_of, registries_of
from lading.testing.points import Failure, Point, Points
from lading.testing.scenes import Configure, Scenario, Scene, is_async
from lading.worlds import asyncio_world, inline

SHOWN = 50
"""Violations that are told; the others are counted."""


class Violation(NamedTuple):
    """A promise that one run broke.

    Attributes:
        scenario: its name.
        number: of the point, from 1.
        point: what was about to be done there, or was done.
        failure: what happened there.
        promise: `"I1"` to `"I4"`, see `assert_crash_safe`.
        what: the evidence.
    """

    scenario: str
    number: int
    point: str
    failure: Failure | None
    promise: str
    what: str

    def __str__(self) -> str:
        return (
            f"{self.scenario} #{self.number} {self.failure or 'nothing'} at {self.point}: {self.promise}: {self.what}"
        )


class NotCrashSafe(AssertionError):
    """What is raised where promises were broken.

    Attributes:
        violations: all of them.
    """

    def __init__(self, violations: Sequence[Violation]) -> None:
        self.violations = tuple(violations)
        promises = Counter(each.promise for each in violations)
        found = ", ".join(f"{promise}: {number}" for promise, number in sorted(promises.items()))
        lines = [f"{len(violations)} promises broken ({found})", *map(str, violations[:SHOWN])]
        super().__init__("\n".join([*lines, *(["..."] if len(violations) > SHOWN else [])]))


@contextmanager
def _undisturbed() -> Generator[None, None, None]:
    """Let nobody log what fails on cue, and nobody wait before trying again."""
    loggers = [logging.getLogger(name) for name in ("sqlalchemy.pool", "lading")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    worlds: list[Any] = [inline, asyncio_world]
    for world in worlds:
        world.sleep = partial(_at_once, world.sleep)
    try:
        yield
    finally:
        for world in worlds:
            del world.sleep
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _at_once(sleep: Callable[[float], Awaitable[None]], _: float) -> Awaitable[None]:
    return sleep(0)


class Runs:
    """The runs of one scenario, and what they have shown."""

    def __init__(
        self,
        scenario: Scenario,
        setup: Scenario | None,
        metadata: MetaData,
        url: URL,
        configure: Configure | None,
        directory: Path,
        stack: ExitStack,
    ) -> None:
        self.name: str = getattr(scenario, "__name__", None) or getattr(scenario, "func", scenario).__name__
        self.points: list[Point] = []
        self.runs: Counter[Failure] = Counter()
        self.violations: list[Violation] = []
        self.swept = 0
        self._scenario, self._setup, self._metadata = scenario, setup, metadata
        self._now = Points()
        on_loop = is_async(scenario, url)
        self._scene = Scene(url, configure, self._now, on_loop=on_loop)
        registries = registries_of(metadata, storages)
        layout = layout_of(metadata, registries)
        places = {(registries[each.registry], each.key): directory / each.directory for each in layout.places}
        aside = directory / "aside"
        aside.mkdir()
        self._evidence = Evidence(self._scene.judge, metadata, places, aside)
        address = url.render_as_string(hide_password=False)
        self._job = partial(Job, scenario, url=address, configure=configure, on_loop=on_loop, layout=layout)
        self._directory = directory
        stack.enter_context(exchanged(metadata, registries, layout, partial(CountedBackend, directory, self._now)))
        stack.enter_context(CountedFlushes(self._now))
        stack.enter_context(_undisturbed())

    def all(self, failures: Sequence[Failure]) -> None:
        """Every run there is."""
        if "kill" in failures:
            killer.prepare(self._job(metadata=name_of(self._metadata, self._scenario), directory=self._directory))
        try:
            self._scene.run(partial(self._all, failures))
        finally:
            gc.unfreeze()

    def _all(self, failures: Sequence[Failure]) -> None:
        self._metadata.create_all(self._scene.judge)
        # The first connection asks the database what it is; that is no part of the scenario.
        self._scene.engine.connect().close()
        self._evidence.restore()
        if self._setup is not None and (error := self._scene.play(self._setup)) is not None:
            raise error
        self._evidence.keep()
        self._run(None, None)
        self.points = self._now.passed
        # What there is already need not be looked at after each run.
        gc.collect()
        gc.freeze()
        for at, point in enumerate(self.points):
            for failure in failures:
                if failure in point.failures:
                    self._run(at, failure)
                    self.runs[failure] += 1
        self._run(None, None)

    def _run(self, at: int | None, failure: Failure | None) -> None:
        """Play the scenario once, and look at what it has left."""
        self._unhindered(self._evidence.restore)
        self._last = at, failure
        if failure == "kill":
            assert at is not None
            has_met, has_returned = killer.kill(at), False
        else:
            has_met, has_returned = self._play(at, failure or "error")
        if at is not None and not has_met:
            self._broken(at, failure, "I4", "the scenario did not come here again")
        self._judge(at, failure, has_returned=has_returned)

    def _play(self, at: int | None, failure: Failure) -> tuple[bool, bool]:
        """Play the scenario; whether it came to the point, and whether it returned."""
        with self._now.armed(at, failure):
            error = self._scene.play(self._scenario)
        if error is None:
            return self._now.met is not None, True
        if self._now.met is None:
            if not self.points:
                raise error
            self._broken(*self._last, "I4", f"after the run before, the scenario fails: {error!r:.300}")
        del error
        if failure == "cancel":
            # Drivers that were interrupted leave cursors, and SQLite its locks, to the garbage.
            gc.collect()
        return self._now.met is not None, False

    def _unhindered(self, act: Callable[[], None]) -> None:
        """Do what must be possible after any run; a connection that somebody holds may hinder it."""
        try:
            act()
        except SQLAlchemyError as error:
            if not self.points and not self.violations:
                raise
            self._broken(*self._last, "I4", f"it hinders what comes after it: {error!r:.300}")
            self._scene.dispose()
            try:
                self._evidence.settle()
                act()
            except SQLAlchemyError as again:
                raise NotCrashSafe(self.violations) from again

    def _judge(self, at: int | None, failure: Failure | None, *, has_returned: bool) -> None:
        say = partial(self._broken, at, failure)
        if failure is not None:
            self._unhindered(self._evidence.settle)
        rows = self._evidence.rows()
        problems = list(broken(rows))
        for what in problems:
            say("I1", what)
        named = {each.path for each in rows.named}
        waste, entered = self._evidence.files() - named, self._evidence.entered()
        if not self.points:
            # What lading cannot see, an undisturbed run leaves too.
            self._good, self._may_leave = rows, bool(waste - entered) and not self._evidence.sees_all
        if has_returned:
            if rows.content != self._good.content:
                say("I4", "the scenario did not raise, and its rows are not as they should be")
            for path in sorted(waste - entered if not self._may_leave else ()):
                say("I4", f"the scenario did not raise, and {path.name} stays and is not in the outbox")
        if waste or entered or failure is None:
            self.swept += failure is not None
            self._sweep(say, rows, problems, waste - entered if failure is not None else None)

    def _sweep(
        self, say: Callable[[str, str], None], rows: Rows, problems: Sequence[str], orphans: Collection[Path] | None
    ) -> None:
        """Sweep, and look at what that has left."""
        self._unhindered(partial(self._evidence.sweep, orphans))
        swept = self._evidence.rows()
        if swept.named != rows.named:
            say("I2", "a sweep has changed rows")
        for what in broken(swept):
            if what not in problems:
                say("I2", what)
        for path in sorted(self._evidence.files() - {each.path for each in rows.named}):
            say("I3", f"{path.name} stays")
        for path in sorted(self._evidence.entered()):
            say("I3", f"{path.name} stays in the outbox")

    def _broken(self, at: int | None, failure: Failure | None, promise: str, what: str) -> None:
        point = self.points[at].label if at is not None else "no point"
        self.violations.append(Violation(self.name, (at or 0) + 1, point, failure, promise, what))
