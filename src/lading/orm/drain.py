"""`drain`: the objects of an outbox that are due are deleted, by as many workers at once as there are.

A worker claims entries for the time of a lease, in a short transaction in which no row may name them; it deletes their
objects while no transaction is open, and then takes the entries off. Whatever becomes of it in between, nothing is
lost: when its lease has run out another one deletes the same objects again, which is no error.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from weakref import WeakKeyDictionary, WeakSet

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    MetaData,
    and_,
    delete,
    exists,
    false,
    func,
    or_,
    select,
    update,
)

from lading import clock
from lading.backends.protocols import Driver, StorageBackend
from lading.errors import BackendNotRegistered, ConfigurationError, StoreUnavailable
from lading.orm.bridge import wait
from lading.orm.neighbours import Neighbours
from lading.orm.outbox import AT_ONCE, ATTACHED, UPLOAD, Entry, Outbox
from lading.orm.references import FileColumn, backend_of, named
from lading.orm.sqlite import begin
from lading.orm.triggers import refuse_unknown_tables
from lading.worlds import World

LEASE = timedelta(minutes=10)
"""How long nobody else takes on what one worker has claimed."""

_FIRST, _LAST = timedelta(minutes=1), timedelta(hours=6)
_LEAST = timedelta(seconds=1)
_AT_A_TIME = 8  # deletes under way at once
_ENOUGH = 3  # of them that a store could not do before it counts as down

_complete: WeakKeyDictionary[Engine, "WeakSet[MetaData]"] = WeakKeyDictionary()  # whose tables were looked at


class Drained(msgspec.Struct, frozen=True):
    """What became of the entries that were due.

    Attributes:
        deleted: their objects are gone, and they are off the outbox.
        kept: a row names their object; they are off the outbox, too.
        failed: their object could not be deleted; they are tried again later.
        left: are due still, since the limit was reached.
    """

    deleted: int
    kept: int
    failed: int
    left: int


class _Claim(NamedTuple):
    """An entry that is this worker's own."""

    id: int
    key: str
    path: str
    attempts: int
    backend: StorageBackend | None


class _Batch(NamedTuple):
    """What one transaction has claimed: of `seen` entries some, until a time that tells this claim from any other."""

    claims: Sequence[_Claim]
    kept: int
    seen: int
    until: datetime


def drain(
    engine: Engine,
    outbox: Outbox,
    columns: Collection[FileColumn],
    *,
    paths: Collection[str] | None = None,
    limit: int | None = None,
    batch: int = 100,
    lease: timedelta = LEASE,
    on_progress: Callable[[int], object] | None = None,
) -> Drained:
    """Delete the objects that are due and that no row names, until none is due that was so at the beginning.

    What fails is tried again after a minute at most, then two, and so on up to six hours; the times are drawn at
    random below these bounds (full jitter), so that workers do not come back all at once.

    An object that is entered several times is due when the last of its entries is, and then they go together.

    Args:
        engine: of the tables; under asyncio the `sync_engine`, in a greenlet.
        outbox: whose entries.
        columns: where rows may name objects; their registries say which backend a key is.
        paths: only entries of these paths, and those at once that nobody has tried to delete, however long they were
            to stay; but for direct uploads, where clients may still write.
        limit: entries after which it ends; those of one object stay together.
        batch: entries that are claimed, and deleted, together.
        lease: how long nobody else takes on what was claimed. It has to be longer than deleting a batch takes, with
            all tries and timeouts of its store; an object that is put again under its old path could be deleted else.
        on_progress: called after each batch with the number of entries so far.

    Raises:
        ConfigurationError: a key means different backends in the registries of the columns, or triggers in the
            database fill the outbox from tables that its metadata does not have.
    """
    if paths is None:  # a session knows what it has entered itself
        _look_at_tables(engine, outbox)
    names = _Names(columns)
    started = _now()
    deleted = kept = failed = taken = 0
    for due in _due(outbox, started, paths):
        while (room := batch if limit is None else min(batch, limit - taken)) > 0:
            claimed = _claim(engine, outbox, names, due, paths, room, lease)
            errors = _delete(columns, claimed)
            _settle(engine, outbox, claimed, errors)
            deleted += len(claimed.claims) - len(errors)
            failed += len(errors)
            kept += claimed.kept
            taken += claimed.seen
            if on_progress is not None and claimed.seen:
                on_progress(taken)
            if claimed.seen < room:
                break
    left = 0 if limit is None or taken < limit else _count(engine, outbox, _due(outbox, started, paths))
    return Drained(deleted, kept, failed, left)


def _look_at_tables(engine: Engine, outbox: Outbox) -> None:
    """Once in a process, see to it that the metadata has all tables whose triggers fill the outbox."""
    known = _complete.setdefault(engine, WeakSet())
    if outbox.table.metadata not in known:
        with engine.connect() as connection:
            refuse_unknown_tables(connection, outbox)
        known.add(outbox.table.metadata)


def _due(outbox: Outbox, started: datetime, paths: Collection[str] | None) -> list[ColumnElement[bool]]:
    """What may be claimed, in one condition or in one for each part of the paths."""
    c = outbox.table.c
    # Not what becomes due meanwhile, so that nothing is tried twice in one run, and the run ends.
    due = c.not_before <= started
    if paths is None:
        later = outbox.table.alias("later")
        # What a move has left behind is due earlier than what the delete of the new row enters. The lengths, since to
        # MariaDB "a" and "a " are one.
        same = (later.c.path == c.path, func.length(later.c.path) == func.length(c.path), later.c.backend == c.backend)
        return [and_(due, ~exists().where(*same, later.c.not_before > started))]
    several = sorted(set(paths))
    parts = [several[start : start + AT_ONCE] for start in range(0, len(several), AT_ONCE)]
    untried = and_(c.attempts == 0, c.reason.not_in((UPLOAD, ATTACHED)))
    return [and_(c.path.in_(part), or_(due, untried)) for part in parts]


def _count(engine: Engine, outbox: Outbox, parts: Sequence[ColumnElement[bool]]) -> int:
    with engine.connect() as connection:
        asked = [select(func.count()).select_from(outbox.table).where(due) for due in parts]
        return sum(connection.execute(each).scalar_one() for each in asked)


@contextmanager
def writing(engine: Engine, outbox: Outbox) -> Generator[Connection, None, None]:
    """A transaction in which every statement sees what others have committed before it, and locks what it finds alone.

    SQLite, which locks no rows, is locked as a whole before anything is read: it would refuse to write else.
    """
    with engine.connect() as connection:
        if connection.dialect.name != "sqlite":
            connection = connection.execution_options(isolation_level="READ COMMITTED")
        with connection.begin():
            if connection.dialect.name == "sqlite":
                begin(connection)
                connection.execute(delete(outbox.table).where(false()))
            yield connection


class _Names:
    """Every name by which rows may name what an entry does."""

    def __init__(self, columns: Collection[FileColumn]) -> None:
        self.columns = columns
        self._neighbours: dict[str, Neighbours | None] = {}

    def of(self, entry: Entry) -> set[Entry]:
        key, path = entry
        if key not in self._neighbours:
            try:
                self._neighbours[key] = Neighbours(self.columns, key)
            except ConfigurationError:  # it cannot be told whose objects lie there
                self._neighbours[key] = None
        neighbours = self._neighbours[key]
        return {entry} if neighbours is None or neighbours.plain else {entry, *neighbours.names(path)}

    def named(self, connection: Connection, entries: Collection[Entry]) -> set[Entry]:
        """Which of these objects some row names."""
        names = {entry: self.of(entry) for entry in entries}
        found = named(connection, self.columns, {name for some in names.values() for name in some})
        return {entry for entry, some in names.items() if not some.isdisjoint(found)}


def _claim(
    engine: Engine,
    outbox: Outbox,
    names: _Names,
    due: ColumnElement[bool],
    paths: Collection[str] | None,
    room: int,
    lease: timedelta,
) -> _Batch:
    """Claim entries that no row names, and take those off that one does."""
    c = outbox.table.c
    asked = select(c.id, c.backend, c.path, c.attempts).where(due).with_for_update(skip_locked=True)
    with writing(engine, outbox) as connection:
        rows = connection.execute(asked.order_by(c.not_before, c.id).limit(room)).all()
        # MariaDB takes "a" and "a " for one path.
        found = {(row.backend, row.path) for row in rows if paths is None or row.path in paths}
        kept = names.named(connection, found)
        named_again = [row.id for row in rows if (row.backend, row.path) in kept]
        if kept:
            connection.execute(delete(outbox.table).where(c.id.in_(named_again)))
        ours = list[_Claim]()
        if free := found - kept:
            # Asked again: a row may have let go of one since, to stay for a while. And with all entries of an object,
            # since one that stayed would say that nobody has tried to delete it.
            for row in connection.execute(asked.where(c.path.in_({path for _, path in free}))):
                if (row.backend, row.path) in free:
                    backend = backend_of(names.columns, row.backend)
                    ours.append(_Claim(row.id, row.backend, row.path, row.attempts, backend))
        until = _now() + lease
        if ours:
            values = {"attempts": c.attempts + 1, "not_before": until}
            connection.execute(update(outbox.table).where(c.id.in_([each.id for each in ours])).values(values))
    return _Batch(ours, len(named_again), max(len(rows), len(named_again) + len(ours)), until)


def _delete(columns: Collection[FileColumn], batch: _Batch) -> dict[int, Exception]:
    """Delete the objects; the errors, by the ids of those that may be there still."""
    errors: dict[int, Exception] = {}
    found: dict[StorageBackend, list[_Claim]] = defaultdict(list)
    for claim in batch.claims:
        if claim.backend is None:
            known = {key for each in columns for key in each.type.storages.registered_backends()}
            errors[claim.id] = BackendNotRegistered(claim.key, sorted(known))
        else:
            found[claim.backend].append(claim)

    async def of_one_backend(item: tuple[StorageBackend, list[_Claim]], world: World) -> None:
        backend, claims = item
        paths = sorted({claim.path for claim in claims})
        failed = await _delete_all(backend.driver(world), paths, batch.until, world)
        errors.update({claim.id: failed[claim.path] for claim in claims if claim.path in failed})

    async def of_all(world: World) -> None:
        await world.each(lambda item: of_one_backend(item, world), list(found.items()), _AT_A_TIME)

    if found:
        wait(of_all)
    return errors


async def _delete_all(driver: Driver, paths: Sequence[str], until: datetime, world: World) -> dict[str, Exception]:
    """Delete objects together, or else one by one, so that one that cannot be deleted does not hold the others."""
    failed: dict[str, Exception] = {}
    down: list[StoreUnavailable] = []

    async def attempt(some: Sequence[str]) -> Exception | None:
        try:
            if _now() >= until:  # somebody else may have them by now, and have put new ones
                raise TimeoutError("the lease ran out before it was its turn")
            if len(down) >= _ENOUGH:
                raise down[0]
            await driver.delete(some)
        except StoreUnavailable as error:
            down.append(error)
            return error
        except Exception as error:  # a backend of somebody else's may raise what it likes
            return error
        return None

    async def one(path: str) -> None:
        error = await attempt([path])
        if error is not None:
            failed[path] = error

    if len(paths) == 1 or await attempt(paths) is not None:
        await world.each(one, paths, _AT_A_TIME)
    return failed


def _settle(engine: Engine, outbox: Outbox, batch: _Batch, errors: dict[int, Exception]) -> None:
    """Take off what is done, and put off what failed; but for what another worker has claimed since."""
    if not batch.claims:
        return
    c = outbox.table.c
    done = [claim.id for claim in batch.claims if claim.id not in errors]
    with writing(engine, outbox) as connection:
        connection.execute(delete(outbox.table).where(c.id.in_(done), c.not_before == batch.until))
        for claim in batch.claims:
            if error := errors.get(claim.id):
                later = {"last_error": f"{type(error).__name__}: {error}"[:1000], "not_before": _later(claim.attempts)}
                ours = (c.id == claim.id, c.not_before == batch.until)
                connection.execute(update(outbox.table).where(*ours).values(later))


def _later(attempts: int) -> datetime:
    """When to try again what has failed, after so many attempts before."""
    most = min(_LAST, _FIRST * 2 ** min(attempts, 20))
    return _now() + timedelta(seconds=random.uniform(_LEAST.total_seconds(), most.total_seconds()))  # noqa: S311  # spreads load


def _now() -> datetime:
    return datetime.fromtimestamp(clock.now(), UTC)
