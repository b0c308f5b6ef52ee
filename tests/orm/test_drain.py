"""The outbox is drained: by many workers at once, in spite of stores that fail and workers that die."""

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import Engine, MetaData, create_engine, event, insert, select, update

from lading import Outbox, clock
from lading.backends.obstore import ObstoreBackend
from lading.backends.protocols import Attributes, StorageBackend
from lading.errors import ConfigurationError, StoreError, StoreUnavailable
from lading.orm import drain as draining
from lading.orm import references
from lading.orm.bridge import wait
from lading.orm.drain import Drained, drain
from lading.orm.references import file_columns
from lading.testing import Fault, FaultyBackend
from lading.testing.clock import FrozenClock, frozen_clock
from lading.worlds import World
from tests import databases
from tests.faulty import always
from tests.orm.conftest import Database, Sessions, on
from tests.orm.papers import multiple, record, registry_of, single, tables, write

ROOT = Path(__file__).parents[2]


@pytest.fixture
def time() -> Iterator[FrozenClock]:
    with frozen_clock() as frozen:
        yield frozen


class Desk:
    """An outbox in a database, and the store that it is for."""

    def __init__(self, engine: Engine, metadata: MetaData) -> None:
        metadata.create_all(engine)
        outbox = Outbox.of(metadata)
        assert outbox is not None
        self.engine = engine
        self.metadata = metadata
        self.outbox = outbox
        self.columns = file_columns(metadata)
        self.registry = registry_of(metadata)
        self.store = self.registry.get_backend("mem")

    def enter(self, *paths: str, key: str = "mem", delay: timedelta = timedelta(0), put: bool = True) -> None:
        """Objects that nobody names any more."""
        if put:
            wait(lambda world: put_all(self.store, paths, world))
        with self.engine.begin() as connection:
            self.outbox.add(connection, [(key, path) for path in paths], "test", delay=delay)

    def drain(self, **options: Any) -> Drained:
        return drain(self.engine, self.outbox, self.columns, **options)

    def replace_store(self, backend: "StorageBackend | Hooked") -> None:
        self.registry.register_backend(cast("StorageBackend", backend), replace=True)

    def entries(self) -> dict[str, Any]:
        with self.engine.connect() as connection:
            return {row.path: row for row in connection.execute(select(self.outbox.table))}

    def entries_of(self, path: str) -> list[Any]:
        c = self.outbox.table.c
        with self.engine.connect() as connection:
            return list(connection.execute(select(self.outbox.table).where(c.path == path)))

    def objects(self) -> set[str]:
        return set(wait(lambda world: listed(self.store, world)))


async def put_all(store: StorageBackend, paths: Sequence[str], world: World) -> None:
    for path in paths:
        await store.driver(world).put(path, b"x", size=1, overwrite=True, attributes=Attributes())


async def listed(store: StorageBackend, world: World) -> list[str]:
    return [info.path async for info in store.driver(world).list()]


def at_desk(db: Database) -> Callable[[Callable[[Desk], None]], None]:
    """Run a scenario over a desk."""

    def run(scenario: Callable[[Desk], None]) -> None:
        metadata = tables()

        def with_sessions(sessions: Sessions) -> None:
            scenario(Desk(sessions.kw["bind"], metadata))

        db(with_sessions)

    return run


class Hooked:
    """A backend that does something else first when it is to delete."""

    def __init__(self, inner: StorageBackend, before: Callable[[Sequence[str]], None]) -> None:
        self.inner = inner
        self.before = before
        self.calls: list[list[str]] = []
        self.lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def driver(self, world: World) -> Any:
        return HookedDriver(self, self.inner.driver(world))


class HookedDriver:
    def __init__(self, backend: Hooked, inner: Any) -> None:
        self.backend = backend
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def delete(self, paths: Sequence[str]) -> None:
        with self.backend.lock:
            self.backend.calls.append(list(paths))
        self.backend.before(paths)
        await self.inner.delete(paths)


def test_what_is_due(db: Database, time: FrozenClock) -> None:
    """What is due and named by no row is deleted; what a row names is kept and taken off; what is not due stays."""

    @at_desk(db)
    def scenario(desk: Desk) -> None:
        desk.enter("a", "b", "ä", "named", "page", "old")
        desk.enter("later", delay=timedelta(hours=1))
        with desk.engine.begin() as connection:  # rows copied by somebody who does not know lading
            write(connection, single(desk.metadata), record("named"), {"backend": "mem", "filename": "old"})
            write(connection, multiple(desk.metadata), [record("other"), record("page")])
        assert desk.drain() == Drained(deleted=3, kept=3, failed=0, left=0)
        assert desk.objects() == {"named", "page", "old", "later"}
        assert desk.entries().keys() == {"later"}
        assert desk.entries()["later"].attempts == 0
        assert desk.drain() == Drained(0, 0, 0, 0)
        time.tick(timedelta(hours=1))
        assert desk.drain() == Drained(1, 0, 0, 0)
        assert desk.objects() == {"named", "page", "old"}


def test_entries_of_one_object(db: Database, time: FrozenClock) -> None:
    """An object stays until the last of its entries is due, and then all go together, also beyond a batch."""

    @at_desk(db)
    def scenario(desk: Desk) -> None:
        desk.enter("a", "b")
        enter_again(desk, "a", "mem", timedelta(days=2))
        enter_again(desk, "b", "other", timedelta(days=2))
        enter_again(desk, "b", "mem", timedelta(seconds=0))
        time.tick(60)
        assert desk.drain(batch=1).deleted == 2
        assert desk.objects() == {"a"}
        assert len(desk.entries_of("a")) == 2
        time.tick(3 * 86_400)
        hooked = Hooked(desk.store, lambda paths: None)
        desk.replace_store(hooked)
        assert (desk.drain(batch=1).deleted, hooked.calls) == (2, [["a"]])
        assert desk.objects() == set()


def enter_again(desk: Desk, path: str, key: str, delay: timedelta) -> None:
    """As a trigger does that does not see an entry that is there."""
    now = datetime.fromtimestamp(clock.now(), UTC)
    values = {"reason": "test", "created_at": now, "not_before": now + delay, "attempts": 0}
    with desk.engine.begin() as connection:
        connection.execute(insert(desk.outbox.table).values(backend=key, path=path, **values))


@on("mariadb", "postgresql", inline_only=True)
def test_what_a_row_lets_go_of_meanwhile(db: Database, time: FrozenClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry that comes while a worker asks what rows name keeps the object as long as it says."""

    @at_desk(db)
    def scenario(desk: Desk) -> None:
        desk.enter("a")
        time.tick(60)
        real = references.named

        def let_go(*arguments: Any) -> Any:
            enter_again(desk, "a", "mem", timedelta(days=2))
            return real(*arguments)

        monkeypatch.setattr(draining, "named", let_go)
        assert desk.drain().deleted == 0
        assert desk.objects() == {"a"}


@on("mariadb", "postgresql", "sqlite", inline_only=True)
def test_the_other_entries_are_looked_up(db: Database, time: FrozenClock) -> None:
    """Whether an object has a later entry is found by the index of paths, not by reading the outbox for each."""

    @at_desk(db)
    def scenario(desk: Desk) -> None:
        desk.enter(*(f"p{number}" for number in range(50)), put=False)
        desk.enter(*(f"later{number}" for number in range(5000)), put=False, delay=timedelta(days=35))
        time.tick(60)
        asked: list[tuple[str, Any]] = []
        event.listen(desk.engine, "before_cursor_execute", lambda c, cursor, sql, given, *_: asked.append((sql, given)))
        desk.drain(limit=1)
        sql, given = next(each for each in asked if "EXISTS" in each[0])
        if db.name == "mariadb":
            assert "SKIP LOCKED" in sql
        explain = "EXPLAIN QUERY PLAN" if db.name == "sqlite" else "EXPLAIN"
        with desk.engine.connect() as connection:
            connection.exec_driver_sql(f"ANALYZE {'TABLE ' if db.name == 'mariadb' else ''}lading_outbox")
            plan = "\n".join(str(row) for row in connection.exec_driver_sql(f"{explain} {sql}", given))
        assert "ix_lading_outbox_path" in plan, plan


def test_places_that_overlap(world: Database, time: FrozenClock, tmp_path: Path) -> None:
    """An object is kept that a row names by another backend of the same place."""

    @at_desk(world)
    def scenario(desk: Desk) -> None:
        desk.registry.register_backend(ObstoreBackend("all", f"file://{tmp_path}/files"))
        desk.registry.register_backend(ObstoreBackend("docs", f"file://{tmp_path}/files/docs"))
        desk.enter("docs/x", "docs/y", key="all", put=False)
        desk.enter("v", "w", key="docs", put=False)
        with desk.engine.begin() as connection:
            write(connection, single(desk.metadata), record("x", "docs"), record("docs/w", "all"))
        time.tick(60)
        drained = desk.drain()
        assert (drained.deleted, drained.kept) == (2, 2)


def test_places_that_cannot_be_told(world: Database, time: FrozenClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a backend does not say where its objects lie, what rows name by its own name is kept all the same."""

    @at_desk(world)
    def scenario(desk: Desk) -> None:
        desk.registry.register_backend(ObstoreBackend("other", "memory://"))
        monkeypatch.setattr(ObstoreBackend, "place", None)
        desk.enter("a", "b", put=False)
        with desk.engine.begin() as connection:
            write(connection, single(desk.metadata), record("a"))
        time.tick(60)
        drained = desk.drain()
        assert (drained.deleted, drained.kept) == (1, 1)


def test_models_that_are_missing(engine: Engine, time: FrozenClock) -> None:
    """Nothing is deleted while triggers fill the outbox from a table that the metadata does not have."""
    desk = Desk(engine, tables(triggers=True))
    other = tables("forgotten", triggers=True)
    desk.enter("a")
    time.tick(60)
    asked: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda c, cursor, sql, *_: asked.append(sql))
    assert desk.drain(limit=0).deleted == 0
    other.create_all(engine)
    fresh = create_engine(engine.url)
    try:
        with pytest.raises(ConfigurationError, match="forgotten"):
            drain(fresh, desk.outbox, desk.columns)
        assert desk.objects() == {"a"}
    finally:
        fresh.dispose()
    asked.clear()
    assert desk.drain().deleted == 1
    assert not [sql for sql in asked if "trigger" in sql.lower()]


def test_in_batches(world: Database, time: FrozenClock) -> None:
    """Entries go in batches, the oldest first, up to the limit; what is left over is counted."""

    @at_desk(world)
    def scenario(desk: Desk) -> None:
        for number in range(25):
            desk.enter(f"{number:03}")
            time.tick()
        calls: list[list[str]] = []
        hooked = Hooked(desk.store, lambda paths: calls.append(list(paths)))
        desk.replace_store(hooked)
        seen: list[int] = []
        assert desk.drain(limit=12, batch=5, on_progress=seen.append) == Drained(12, 0, 0, 13)
        assert [len(paths) for paths in calls] == [5, 5, 2]
        assert seen == [5, 10, 12]
        assert desk.entries().keys() == {f"{number:03}" for number in range(12, 25)}
        assert desk.drain(batch=5) == Drained(13, 0, 0, 0)
        assert desk.drain(limit=0) == Drained(0, 0, 0, 0)


def test_only_these(db: Database, time: FrozenClock) -> None:
    """Entries that are asked for by their paths go at once; but not what somebody has claimed, or is waiting to."""

    @at_desk(db)
    def scenario(desk: Desk) -> None:
        many = [f"{number:04}" for number in range(600)]
        desk.enter("a", "a ", "b", "claimed", *many, delay=timedelta(days=35))
        with desk.engine.begin() as connection:
            table = desk.outbox.table
            connection.execute(update(table).where(table.c.path == "claimed").values(attempts=1))
        assert desk.drain(paths={"a", "claimed", "unknown"}) == Drained(1, 0, 0, 0)
        assert desk.entries().keys() == {"a ", "b", "claimed", *many}
        assert desk.drain(paths=many, limit=550) == Drained(550, 0, 0, 50)
        assert desk.drain(paths=many) == Drained(50, 0, 0, 0)
        assert desk.drain(paths=[]) == Drained(0, 0, 0, 0)
        time.tick(timedelta(days=36))
        assert desk.drain(paths=["claimed"]) == Drained(1, 0, 0, 0)
        assert desk.objects() == {"a ", "b"}


def test_not_what_clients_may_write(db: Database, time: FrozenClock) -> None:
    """A direct upload, attached or not, waits for its time if it is asked for by path, too: its URL is still good."""

    @at_desk(db)
    def scenario(desk: Desk) -> None:
        desk.enter("garbage", delay=timedelta(days=35))
        day = timedelta(days=1)
        with desk.engine.begin() as connection:
            for path in ("waits", "attached"):
                desk.outbox.expect(connection, ("mem", path), datetime.fromtimestamp(clock.now(), UTC) + day)
            assert desk.outbox.spend(connection, ("mem", "attached"))
        assert desk.drain(paths=["garbage", "waits", "attached"]) == Drained(1, 0, 0, 0)
        assert desk.entries().keys() == {"waits", "attached"}
        time.tick(day)
        assert desk.drain(paths=["waits", "attached"]) == Drained(2, 0, 0, 0)


def test_a_store_that_fails(db: Database, time: FrozenClock) -> None:
    """What cannot be deleted stays, says why, and is tried again later and later; in the end it goes."""

    @at_desk(db)
    def scenario(desk: Desk) -> None:
        whole = desk.store
        desk.enter("a")
        desk.replace_store(FaultyBackend(whole, [always("delete")]))
        longest = timedelta(0)
        for attempt in range(12):
            now = datetime.fromtimestamp(time.time, UTC)
            assert desk.drain() == Drained(0, 0, 1, 0)
            assert desk.drain() == Drained(0, 0, 0, 0)
            entry = desk.entries()["a"]
            assert entry.attempts == attempt + 1
            assert entry.last_error == "StoreError: delete failed on cue"
            waits = entry.not_before - now
            assert timedelta(seconds=1) <= waits <= min(timedelta(minutes=2**attempt), timedelta(hours=6))
            longest = max(longest, waits)
            time.time = entry.not_before.timestamp()
        assert longest > timedelta(minutes=10)
        desk.replace_store(whole)
        assert desk.drain() == Drained(1, 0, 0, 0)
        assert desk.entries() == {}
        assert desk.objects() == set()


def test_tries_are_spread(world: Database, time: FrozenClock) -> None:
    """What failed together is not tried again together."""

    @at_desk(world)
    def scenario(desk: Desk) -> None:
        desk.enter(*map(str, range(50)))
        desk.replace_store(FaultyBackend(desk.store, [always("delete")]))
        assert desk.drain().failed == 50
        times = sorted(entry.not_before.timestamp() - time.time for entry in desk.entries().values())
        assert times[0] < 20
        assert times[-1] > 40


def test_one_that_cannot_be_deleted(world: Database, time: FrozenClock) -> None:
    """One object that its store will not delete, and one that no store may see, do not hold the others."""

    @at_desk(world)
    def scenario(desk: Desk) -> None:
        def refuse(paths: Sequence[str]) -> None:
            if "locked" in paths:
                raise StoreError("it is locked", backend="mem", path="locked")

        desk.enter(*"abc", "locked")
        desk.enter("../outside", put=False)
        desk.replace_store(Hooked(desk.store, refuse))
        assert desk.drain() == Drained(3, 0, 2, 0)
        errors = {path: entry.last_error for path, entry in desk.entries().items()}
        assert errors["locked"] == "StoreError: it is locked"
        assert errors["../outside"].startswith("InvalidPath: not a valid object path")
        assert desk.objects() == {"locked"}


def test_a_store_that_is_down(world: Database, time: FrozenClock) -> None:
    """A store that does not answer is not asked for every single object; those of another store go all the same."""

    @at_desk(world)
    def scenario(desk: Desk) -> None:
        def refuse(paths: Sequence[str]) -> None:
            raise StoreUnavailable("no answer", backend="mem", path=paths[0])

        down = Hooked(desk.store, refuse)
        other = ObstoreBackend("other", "memory://")
        desk.registry.register_backend(other)
        desk.enter(*map(str, range(100)))
        desk.enter("there", key="other", put=False)
        wait(lambda world: put_all(other, ["there"], world))
        desk.replace_store(down)
        assert desk.drain(batch=200) == Drained(1, 0, 100, 0)
        assert len(down.calls) < 15
        assert {entry.last_error for entry in desk.entries().values()} == {"StoreUnavailable: no answer"}
        assert wait(lambda world: listed(other, world)) == []


def test_deleted_without_an_answer(world: Database, time: FrozenClock) -> None:
    """An object that was deleted although its store said otherwise is deleted again, which is no error."""

    @at_desk(world)
    def scenario(desk: Desk) -> None:
        desk.enter("a", "b")
        desk.replace_store(FaultyBackend(desk.store, [Fault("delete", kind="error after", times=3)]))
        assert desk.drain() == Drained(0, 0, 2, 0)
        assert desk.objects() == set()
        time.tick(timedelta(minutes=1))
        assert desk.drain() == Drained(2, 0, 0, 0)


def test_keys(world: Database, time: FrozenClock) -> None:
    """An alias leads to its backend; a key that nobody knows is noted and tried again, when it may be known."""

    @at_desk(world)
    def scenario(desk: Desk) -> None:
        desk.registry.alias("old", "mem")
        desk.enter("a", key="old")
        desk.enter("b", key="lost")
        assert desk.drain() == Drained(1, 0, 1, 0)
        assert "no storage backend is registered as 'lost'; registered: 'mem'" in desk.entries()["b"].last_error
        desk.registry.alias("lost", "mem")
        time.tick(timedelta(minutes=1))
        assert desk.drain() == Drained(1, 0, 0, 0)
        assert desk.objects() == set()


def test_a_key_with_two_meanings(world: Database, time: FrozenClock) -> None:
    """Where two registries mean different backends by one key nothing is claimed, and nothing deleted."""
    other = tables("other")

    @at_desk(world)
    def scenario(desk: Desk) -> None:
        desk.enter("a")
        other.tables["other"].create(desk.engine)
        desk.columns += file_columns(other)
        with pytest.raises(ConfigurationError, match="one outbox needs one name for each"):
            desk.drain()
        assert desk.entries()["a"].attempts == 0
        assert desk.objects() == {"a"}


@pytest.mark.parametrize("kind", ["error", "error after"])
def test_a_worker_that_dies(db: Database, time: FrozenClock, kind: Any) -> None:
    """What a worker had claimed when it was ended, before or after deleting, another takes on after the lease."""

    @at_desk(db)
    def scenario(desk: Desk) -> None:
        desk.enter("a", "b")
        desk.replace_store(FaultyBackend(desk.store, [Fault("delete", kind=kind, error=KeyboardInterrupt())]))
        with pytest.raises(KeyboardInterrupt):
            desk.drain(lease=timedelta(minutes=3))
        assert {(entry.attempts, entry.last_error) for entry in desk.entries().values()} == {(1, None)}
        time.tick(179)
        assert desk.drain() == Drained(0, 0, 0, 0)
        time.tick(1)
        assert desk.drain() == Drained(2, 0, 0, 0)
        assert desk.entries() == {}
        assert desk.objects() == set()


@on("sqlite", "postgresql", "mariadb", inline_only=True)  # the coroutine of a backend is in no greenlet
@pytest.mark.parametrize("mine", ["ends well", "fails"])
@pytest.mark.parametrize("theirs", ["ends well", "fails"])
def test_a_worker_that_is_overtaken(db: Database, time: FrozenClock, mine: str, theirs: str) -> None:
    """A worker whose lease ran out leaves entries as another worker, who has claimed them since, left them."""

    @at_desk(db)
    def scenario(desk: Desk) -> None:
        whole = desk.store

        def meanwhile(paths: Sequence[str]) -> None:
            time.tick(timedelta(minutes=10))
            desk.replace_store(FaultyBackend(whole, [always("delete")] if theirs == "fails" else []))
            desk.drain()
            if mine == "fails":
                raise StoreError("mine failed", backend="mem", path="a")

        desk.enter("a")
        desk.replace_store(Hooked(whole, meanwhile))
        assert desk.drain() == (Drained(0, 0, 1, 0) if mine == "fails" else Drained(1, 0, 0, 0))
        if theirs == "fails":
            entry = desk.entries()["a"]
            assert (entry.attempts, entry.last_error) == (2, "StoreError: delete failed on cue")
        else:
            assert desk.entries() == {}


def test_no_delete_after_the_lease(world: Database, time: FrozenClock) -> None:
    """A worker whose lease has run out deletes nothing more: somebody may have put a new object there."""

    @at_desk(world)
    def scenario(desk: Desk) -> None:
        def slow(paths: Sequence[str]) -> None:
            time.tick(timedelta(minutes=10))
            raise StoreError("too slow", backend="mem", path=paths[0])

        desk.enter("a", "b")
        backend = Hooked(desk.store, slow)
        desk.replace_store(backend)
        assert desk.drain() == Drained(0, 0, 2, 0)
        assert backend.calls == [["a", "b"]]
        assert "the lease ran out" in desk.entries()["a"].last_error


def test_what_is_claimed_cannot_come_back(engine: Engine, time: FrozenClock) -> None:
    """While an object is being deleted no row can take it back."""
    desk = Desk(engine, tables())
    refused: list[Any] = []

    def meanwhile(paths: Sequence[str]) -> None:
        with engine.begin() as connection:
            refused.append(desk.outbox.remove(connection, [("mem", "a")]))

    desk.enter("a")
    desk.replace_store(Hooked(desk.store, meanwhile))
    assert desk.drain() == Drained(1, 0, 0, 0)
    assert refused == [{("mem", "a")}]
    desk.metadata.drop_all(engine)


@pytest.mark.parametrize("engine", databases.SYNC[1:], indirect=True)  # SQLite locks no rows
def test_what_comes_back_is_not_claimed(engine: Engine, time: FrozenClock) -> None:
    """What a transaction is about to take off is passed over without waiting for it."""
    desk = Desk(engine, tables())
    desk.enter("a", "b")
    with ThreadPoolExecutor(1) as pool, engine.begin() as connection:
        assert desk.outbox.remove(connection, [("mem", "a")]) == set()
        assert pool.submit(desk.drain).result(20) == Drained(1, 0, 0, 0)
        write(connection, single(desk.metadata), record("a"))
    assert desk.drain() == Drained(0, 0, 0, 0)
    assert desk.entries() == {}
    assert desk.objects() == {"a"}
    desk.metadata.drop_all(engine)


def test_workers_at_once(engine: Engine) -> None:
    """Workers share the entries: all of them are done, none of them twice."""
    desk = Desk(engine, tables())
    paths = [f"{number:03}" for number in range(200)]
    both = threading.Barrier(2)

    def meet(_: Sequence[str]) -> None:
        if len(backend.calls) <= 2:
            both.wait(30)  # so each has claimed a batch before either goes on

    desk.enter(*paths)
    backend = Hooked(desk.store, meet)
    desk.replace_store(backend)
    engines = [create_engine(engine.url) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        done = [pool.submit(drain, each, desk.outbox, desk.columns, batch=10) for each in engines]
        results = [each.result() for each in done]
    for each in engines:
        each.dispose()
    assert sum(each.deleted for each in results) == 200
    assert min(each.deleted for each in results) >= 10
    deleted = Counter(path for call in backend.calls for path in call)
    assert deleted == dict.fromkeys(paths, 1)
    assert desk.entries() == {}
    desk.metadata.drop_all(engine)


@pytest.mark.parametrize("level", ["AUTOCOMMIT", "SERIALIZABLE", None])
def test_engines_of_all_kinds(engine: Engine, level: Any) -> None:
    """What an engine does about transactions otherwise makes no difference."""
    other = create_engine(engine.url, **({"isolation_level": level} if level else {}))
    desk = Desk(other, tables())
    desk.enter("a", "named")
    with other.begin() as connection:
        write(connection, single(desk.metadata), record("named"))
    assert desk.drain() == Drained(1, 1, 0, 0)
    assert desk.entries() == {}
    desk.metadata.drop_all(other)
    other.dispose()


CHILD = """
import os, signal, sys
from sqlalchemy import create_engine
from lading.backends.obstore import ObstoreBackend
from tests.orm.papers import tables
from tests.orm.test_drain import Desk, Hooked

class Killed:
    def __init__(self, driver): self.driver = driver
    async def delete(self, paths):
        if sys.argv[3] == "after": await self.driver.delete(paths)
        os.kill(os.getpid(), signal.SIGKILL)

class Deadly(Hooked):
    def driver(self, world): return Killed(self.inner.driver(world))

desk = Desk(create_engine(sys.argv[1]), tables())
desk.replace_store(Deadly(ObstoreBackend("mem", "file://" + sys.argv[2]), print))
desk.drain()
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_worker_that_is_killed(engine: Engine, tmp_path: Path, when: str) -> None:
    """A process that is killed right before or after it deletes loses nothing: the next one does it again."""
    desk = Desk(engine, tables())
    desk.store = ObstoreBackend("mem", f"file://{tmp_path}/store")
    desk.replace_store(desk.store)
    desk.enter("a", "b")
    url = engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", CHILD, url, f"{tmp_path}/store", when]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    child = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, env=environment)
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    assert desk.objects() == ({"a", "b"} if when == "before" else set())
    assert {entry.attempts for entry in desk.entries().values()} == {1}
    assert desk.drain() == Drained(0, 0, 0, 0)
    with frozen_clock(clock.now() + 600):
        assert desk.drain() == Drained(2, 0, 0, 0)
    assert desk.objects() == set()
    assert desk.entries() == {}
    desk.metadata.drop_all(engine)
