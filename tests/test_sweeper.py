"""The sweeper: each verb in both worlds, and loops that no failure ends."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import MetaData, create_engine, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from lading import Outbox
from lading.errors import ConfigurationError
from lading.orm.drain import Drained
from lading.orm.findings import Orphan
from lading.orm.reclaim import Reclaimed
from lading.sweeper import Sweeper
from lading.testing import Fault, FaultyBackend
from tests.orm.papers import record, single, tables, write
from tests.orm.test_drain import Desk

SOON = timedelta(milliseconds=1)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    engine = create_engine(f"sqlite:///{tmp_path}/test.sqlite")
    yield Desk(engine, tables())
    engine.dispose()


@pytest.fixture
def sweeper(desk: Desk) -> Sweeper:
    return Sweeper(desk.engine, desk.metadata)


@pytest.fixture
async def async_sweeper(desk: Desk) -> AsyncIterator[Sweeper]:
    engine = create_async_engine(desk.engine.url.set(drivername="sqlite+aiosqlite"))
    yield Sweeper(engine, desk.metadata)
    await engine.dispose()


def fill(desk: Desk) -> None:
    """One object that may go, one that a row names, one that nobody knows, and a row whose object is gone."""
    desk.enter("garbage", "named")
    desk.enter("unknown")
    with desk.engine.begin() as connection:
        desk.outbox.remove(connection, [("mem", "unknown")])
        write(connection, single(desk.metadata), record("named", size=1), record("missing", size=1))


Verb = Callable[..., Awaitable[Any]]


async def everything(desk: Desk, reclaim: Verb, drain: Verb, orphans: Verb, check: Verb) -> None:
    """What a sweeper finds and does."""
    fill(desk)
    seen: list[int] = []
    assert await reclaim(on_progress=seen.append) == Reclaimed(1, [], 0)
    assert await drain(limit=5, batch=1, lease=timedelta(minutes=1), on_progress=seen.append) == Drained(1, 0, 0, 0)
    swept = await orphans("mem", grace=timedelta(0), limit=10, on_progress=seen.append)
    assert {each.path for each in swept.findings if isinstance(each, Orphan)} == {"unknown"}
    assert (await orphans(prefix="below", grace=timedelta(0), after="a")).findings == []
    checked = await check(deep=True, limit=10, on_progress=seen.append)
    assert [each.path for each in checked.findings] == ["missing"]
    assert (await orphans(grace=timedelta(0), delete=True)).findings
    assert await drain(paths=["unknown"]) == Drained(1, 0, 0, 0)
    assert desk.objects() == {"named"}
    assert seen[:2] == [2, 1]


async def test_verbs(desk: Desk, sweeper: Sweeper) -> None:
    """Every verb works on a sync engine."""

    def waited(verb: Callable[..., Any]) -> Verb:
        async def call(*args: Any, **options: Any) -> Any:
            return await asyncio.to_thread(verb, *args, **options)

        return call

    await everything(
        desk, waited(sweeper.reclaim), waited(sweeper.drain), waited(sweeper.orphans), waited(sweeper.check)
    )


async def test_verbs_async(desk: Desk, async_sweeper: Sweeper) -> None:
    """Every verb has a twin on an async engine."""
    twin = async_sweeper
    await everything(desk, twin.reclaim_async, twin.drain_async, twin.orphans_async, twin.check_async)


async def test_drain_on_every_async_driver(async_engine: AsyncEngine) -> None:
    """A sweeper drains on every async driver, with nothing around it."""
    metadata = tables()
    outbox = Outbox.of(metadata)
    assert outbox is not None
    async with async_engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
        await connection.run_sync(lambda each: outbox.add(each, [("mem", "a")], "test", delay=timedelta(0)))
    assert await Sweeper(async_engine, metadata).drain_async() == Drained(1, 0, 0, 0)


@pytest.mark.parametrize("verb", ["drain", "reclaim", "orphans", "check"])
async def test_the_wrong_verb(sweeper: Sweeper, async_sweeper: Sweeper, verb: str) -> None:
    """A verb of the other world says which one to use."""
    with pytest.raises(ConfigurationError, match=rf"the engine is async: await {verb}_async\(\.\.\.\)"):
        getattr(async_sweeper, verb)()
    with pytest.raises(ConfigurationError, match=rf"the engine is not async: {verb}\(\.\.\.\)"):
        await getattr(sweeper, f"{verb}_async")()


async def test_the_wrong_loop(sweeper: Sweeper, async_sweeper: Sweeper) -> None:
    """So do the loops, at once."""
    with pytest.raises(ConfigurationError, match="await run_async"):
        async_sweeper.run(threading.Event())
    with pytest.raises(ConfigurationError, match="the engine is not async"):
        await sweeper.run_async(asyncio.Event())


async def test_without_an_outbox(sweeper: Sweeper, async_sweeper: Sweeper) -> None:
    """What an outbox is needed for says so where there is none."""
    for each in (sweeper, async_sweeper):
        each.metadata = MetaData()
    for verb in (sweeper.drain, sweeper.reclaim, lambda: sweeper.run(threading.Event())):
        with pytest.raises(ConfigurationError, match=r"no outbox: Outbox\(metadata\)"):
            verb()
    for twin in (async_sweeper.drain_async, async_sweeper.reclaim_async):
        with pytest.raises(ConfigurationError, match="no outbox"):
            await twin()
    with pytest.raises(ConfigurationError, match="no outbox"):
        await async_sweeper.run_async(asyncio.Event())


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_loop(desk: Desk, sweeper: Sweeper) -> None:
    """A loop takes on what comes, more than once, and ends when it is told to, without waiting for its next turn."""
    stop = threading.Event()
    worker = threading.Thread(
        target=sweeper.run, args=(stop,), kwargs={"every": timedelta(milliseconds=20)}, daemon=True
    )
    worker.start()
    for path in ("a", "b"):
        desk.enter(path)
        until(lambda: desk.entries() == {})
    stop.set()
    worker.join(20)
    assert not worker.is_alive()
    assert desk.objects() == set()
    slow = threading.Event()
    worker = threading.Thread(target=sweeper.run, args=(slow,), kwargs={"every": timedelta(hours=1)}, daemon=True)
    worker.start()
    slow.set()
    worker.join(20)
    assert not worker.is_alive()


async def test_a_loop_async(desk: Desk, async_sweeper: Sweeper) -> None:
    """So does the async one, and cancelling it is another way."""
    stop = asyncio.Event()
    task = asyncio.create_task(async_sweeper.run_async(stop, every=timedelta(milliseconds=20)))
    for path in ("a", "b"):
        await asyncio.to_thread(desk.enter, path)
        await asyncio.to_thread(until, lambda: desk.entries() == {})
    stop.set()
    await asyncio.wait_for(task, 20)
    task = asyncio.create_task(async_sweeper.run_async(asyncio.Event(), every=timedelta(hours=1)))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 20)


def test_a_loop_does_more_at_once(desk: Desk, sweeper: Sweeper) -> None:
    """While more is due a loop does not wait."""
    desk.enter(*(f"{number:04}" for number in range(1100)), put=False)
    stop = threading.Event()
    worker = threading.Thread(target=sweeper.run, args=(stop,), kwargs={"every": timedelta(hours=1)}, daemon=True)
    worker.start()
    until(lambda: desk.entries() == {})
    stop.set()
    worker.join(20)
    assert not worker.is_alive()


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_loop_that_fails(
    desk: Desk, sweeper: Sweeper, async_sweeper: Sweeper, caplog: pytest.LogCaptureFixture, is_async: bool
) -> None:
    """A database that fails does not end a loop; it is logged."""
    failures = 0

    def fail(*_: Any) -> None:
        nonlocal failures
        failures += 1
        if failures <= 3:
            raise OSError("no database")

    desk.enter("a")
    engine: Any = async_sweeper.engine
    event.listen(engine.sync_engine if is_async else desk.engine, "before_cursor_execute", fail)
    with caplog.at_level(logging.WARNING, "lading"):
        if is_async:
            stop = asyncio.Event()
            task = asyncio.create_task(async_sweeper.run_async(stop, every=SOON))
            await asyncio.to_thread(until, lambda: desk.objects() == set())
            stop.set()
            await task
        else:
            halt = threading.Event()
            worker = threading.Thread(target=sweeper.run, args=(halt,), kwargs={"every": SOON}, daemon=True)
            worker.start()
            await asyncio.to_thread(until, lambda: desk.objects() == set())
            halt.set()
            worker.join(20)
    said = [entry.getMessage() for entry in caplog.records if entry.name == "lading"]
    assert said == [f"the outbox could not be drained, {n} times in a row: OSError('no database')" for n in (1, 2, 3)]


def test_a_loop_waits_longer_and_longer(desk: Desk, sweeper: Sweeper) -> None:
    """After failures a loop waits longer each time, and as long as usual when all is well again."""
    waits: list[float] = []

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            assert timeout is not None
            waits.append(timeout)
            if len(waits) == 10:
                event.remove(desk.engine, "before_cursor_execute", fail)
            if len(waits) == 11:
                self.set()
            return self.is_set()

    def fail(*_: Any) -> None:
        raise OSError("no database")

    event.listen(desk.engine, "before_cursor_execute", fail)
    sweeper.run(Stop(), every=timedelta(minutes=1))
    for index, seconds in enumerate([120, 240, 480, 600, 600, 600, 600, 600, 600, 600, 60]):
        assert seconds * 0.8 <= waits[index] <= seconds * 1.2


def test_a_loop_tells_of_objects_that_stay(desk: Desk, sweeper: Sweeper, caplog: pytest.LogCaptureFixture) -> None:
    """A store that fails is logged, too."""
    desk.enter("a")
    desk.replace_store(FaultyBackend(desk.store, [Fault("delete", times=None)]))
    stop = threading.Event()
    worker = threading.Thread(target=sweeper.run, args=(stop,), kwargs={"every": SOON}, daemon=True)
    with caplog.at_level(logging.WARNING, "lading"):
        worker.start()
        until(lambda: any("1 objects could not be deleted" in each for each in caplog.messages))
        stop.set()
        worker.join(20)
    assert desk.entries()["a"].attempts == 1


async def test_a_task_that_is_cancelled(desk: Desk, async_sweeper: Sweeper) -> None:
    """What a cancelled task had claimed is taken on again when its lease has run out."""
    whole = desk.store
    faulty = FaultyBackend(whole, [Fault("delete", kind="hang")])
    desk.enter("a")
    desk.replace_store(faulty)
    task = asyncio.create_task(async_sweeper.drain_async(lease=timedelta(seconds=1)))
    await asyncio.to_thread(until, lambda: "delete" in faulty.verbs)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert desk.objects() == {"a"}
    await asyncio.sleep(1.1)
    assert await async_sweeper.drain_async() == Drained(1, 0, 0, 0)
