"""After a restore rows get back what was waiting to be deleted."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from lading.orm.drain import Drained
from lading.orm.reclaim import Gone, Reclaimed, reclaim
from lading.testing import FaultyBackend
from lading.testing.clock import FrozenClock, frozen_clock
from lading.worlds import World
from tests.faulty import always
from tests.orm.conftest import Database, on
from tests.orm.papers import multiple, record, single, write
from tests.orm.test_drain import Desk, Hooked, HookedDriver, at_desk


@pytest.fixture
def time() -> Iterator[FrozenClock]:
    with frozen_clock() as frozen:
        yield frozen


def take_back(desk: Desk, **options: Any) -> Reclaimed:
    return reclaim(desk.engine, desk.outbox, desk.columns, **options)


def try_once(desk: Desk, *paths: str) -> None:
    """As if a sweeper had claimed these."""
    table = desk.outbox.table
    with desk.engine.begin() as connection:
        connection.execute(update(table).where(table.c.path.in_(paths)).values(attempts=1))


def test_what_rows_name_again(db: Database, time: FrozenClock) -> None:
    """Entries whose object a row names come off at once, however long they were to stay; the others stay."""

    @at_desk(db)
    def scenario(desk: Desk) -> None:
        desk.enter("a", "page", "garbage", delay=timedelta(days=35))
        with desk.engine.begin() as connection:
            write(connection, single(desk.metadata), record("a"))
            write(connection, multiple(desk.metadata), [record("page")])
        assert take_back(desk) == Reclaimed(reclaimed=2, missing=[], left=0)
        assert desk.entries().keys() == {"garbage"}
        assert take_back(desk) == Reclaimed(0, [], 0)


def test_what_was_tried_already(db: Database, time: FrozenClock) -> None:
    """What a sweeper has tried to delete comes off if it is there, and is reported if it is gone."""

    @at_desk(db)
    def scenario(desk: Desk) -> None:
        desk.enter("there", "garbage")
        desk.enter("gone", put=False)
        try_once(desk, "there", "gone", "garbage")
        with desk.engine.begin() as connection:
            write(connection, single(desk.metadata), record("there"), record("gone"))
        assert take_back(desk) == Reclaimed(1, [Gone("mem", "gone")], 0)
        assert desk.entries().keys() == {"gone", "garbage"}
        assert desk.drain() == Drained(deleted=1, kept=1, failed=0, left=0)


def test_what_cannot_be_told(world: Database, time: FrozenClock) -> None:
    """What a sweeper may be deleting now, and what a store says nothing about, is left, and harms nobody."""

    @at_desk(world)
    def scenario(desk: Desk) -> None:
        desk.enter("claimed", delay=timedelta(minutes=10))
        try_once(desk, "claimed")
        with desk.engine.begin() as connection:
            write(connection, single(desk.metadata), record("claimed"), record("a"), record("b", backend="unknown"))
        assert take_back(desk) == Reclaimed(0, [], 1)
        desk.enter("a")
        desk.enter("b", key="unknown")
        try_once(desk, "a", "b")
        desk.replace_store(FaultyBackend(desk.store, [always("head")]))
        assert take_back(desk) == Reclaimed(0, [], 3)
        time.tick(timedelta(minutes=10))
        assert desk.drain() == Drained(0, 3, 0, 0)
        assert desk.objects() == {"claimed", "a", "b"}


@on("sqlite", "postgresql", "mariadb", inline_only=True)  # the coroutine of a backend is in no greenlet
def test_a_sweeper_that_was_not_stopped(db: Database, time: FrozenClock) -> None:
    """What a sweeper claims after all, while its object is looked for, stays its own."""

    @at_desk(db)
    def scenario(desk: Desk) -> None:
        class Busy(HookedDriver):
            async def head(self, path: str) -> Any:
                table = desk.outbox.table
                with desk.engine.begin() as connection:
                    connection.execute(update(table).values(attempts=table.c.attempts + 1))
                return await self.inner.head(path)

        class Watched(Hooked):
            def driver(self, world: World) -> Any:
                return Busy(self, self.inner.driver(world))

        desk.enter("a")
        try_once(desk, "a")
        with desk.engine.begin() as connection:
            write(connection, single(desk.metadata), record("a"))
        desk.replace_store(Watched(desk.store, print))
        assert take_back(desk) == Reclaimed(0, [], 1)
        assert desk.entries().keys() == {"a"}


def test_a_long_outbox(world: Database, time: FrozenClock) -> None:
    """The outbox is gone through in parts."""

    @at_desk(world)
    def scenario(desk: Desk) -> None:
        desk.enter(*(f"{number:04}" for number in range(1100)), delay=timedelta(days=1), put=False)
        with desk.engine.begin() as connection:
            write(connection, single(desk.metadata), *(record(f"{number:04}") for number in range(0, 1100, 2)))
        seen: list[int] = []
        assert take_back(desk, on_progress=seen.append) == Reclaimed(550, [], 0)
        assert seen == [500, 1000, 1100]
        assert len(desk.entries()) == 550
