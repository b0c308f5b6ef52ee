"""`assert_crash_safe`: a scenario is made to fail at every point where it can, and the promises are looked at."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from sqlalchemy import URL, MetaData, make_url

from lading.errors import ConfigurationError
from lading.testing.points import FAILURES, Failure
from lading.testing.runs import NotCrashSafe, Runs, Violation
from lading.testing.scenes import Configure, Scenario, begin_for_real, in_loop, is_async

__all__ = ["Failure", "NotCrashSafe", "Report", "Violation", "assert_crash_safe"]


class Report(NamedTuple):
    """What was tried, without any violation.

    Attributes:
        scenario: its name.
        points: those that a run without failure passes, as people read them.
        runs: how many there were for each kind of failure.
        swept: runs after which the sweep found something to do.
        seconds: that it took.
    """

    scenario: str
    points: Sequence[str]
    runs: Mapping[Failure, int]
    swept: int
    seconds: float


def assert_crash_safe(
    scenario: Scenario,
    *,
    metadata: MetaData,
    setup: Scenario | None = None,
    database: URL | str | None = None,
    failures: Sequence[Failure] = FAILURES,
    configure: Configure | None = None,
) -> Report:
    """Run a scenario, then once more for every point and kind of failure, and assert that no promise is broken.

    Points are: each call of a store, before and after it, and streams in their middle; each statement, savepoints among
    them, before and after; each flush; COMMIT, ROLLBACK and PREPARE. The kinds of failure:

    - `error`: before, what was to be done is refused; after, it was done and the answer is an error: a `StoreError`, or
      a broken connection. COMMIT fails in three ways: refused, lost on its way, done with its answer lost.
    - `outage`: the store raises `StoreUnavailable` from here on.
    - `cancel`: the task is cancelled; in a thread `KeyboardInterrupt` is raised.
    - `kill`: the process is killed, by SIGKILL. A kill after one step is a kill before the next.

    Promised is, after each run: I1, every row's file is there, with its size and checksum; I2, it still is when a sweep
    is over; I3, then there is nothing else; I4, where the scenario did not raise all is done as without a failure, and
    what is to be deleted is in the outbox, or deleted where there is none. Nor does one run hinder the next.

    All backends of the registries of these tables, and of the default one, are exchanged for directories that are
    removed afterwards; what they ask of files stays. Tables are made where they are missing, and emptied.

    Args:
        scenario: a function of a `Session`, or a coroutine function of an `AsyncSession`; it commits by itself, and
            raises what it cannot handle. One of a `Session` with a database of an async driver is run by `run_sync`. It
            must do the same each time.
        metadata: of its tables.
        setup: makes the rows that it starts from; of the same shape.
        database: what every row of these tables may be deleted from; by default SQLite in a file.
        failures: the kinds; `kill` needs `fork`, and a scenario that can be imported by its name.
        configure: sets up the engine; without `database`, after SQLite was told to begin transactions when asked.

    Raises:
        NotCrashSafe: an `AssertionError` that tells point and promise.
        ConfigurationError: another process could not find something by its name, or a loop is running here.
        Exception: the scenario fails without any failure.
    """
    started = time.monotonic()
    if in_loop():
        raise ConfigurationError("a loop is running: call assert_crash_safe from a test that is no coroutine")
    with TemporaryDirectory(prefix="lading-crash-") as directory, ExitStack() as stack:
        if database is None:
            database = URL.create("sqlite", database=f"{directory}/crash.sqlite")
            driver = "sqlite+aiosqlite" if is_async(scenario, database) else "sqlite"
            database, configure = database.set(drivername=driver), partial(_sqlite, configure)
        url = make_url(database)
        run = Runs(scenario, setup, metadata, url, configure, Path(directory), stack)
        run.all(failures)
    if run.violations:
        raise NotCrashSafe(run.violations)
    return Report(run.name, [point.label for point in run.points], run.runs, run.swept, time.monotonic() - started)


def _sqlite(configure: Configure | None, engine: Any) -> None:
    begin_for_real(engine)
    if configure is not None:
        configure(engine)
