"""`reclaim`: after a database was restored from a backup, its rows get back what was waiting to be deleted."""

from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, delete, select

from lading import clock
from lading.errors import ObjectNotFound, StoreError
from lading.ops.retry import Retrying
from lading.orm.bridge import wait
from lading.orm.drain import writing
from lading.orm.outbox import AT_ONCE, Entry, Outbox
from lading.orm.references import FileColumn, backend_of, named
from lading.worlds import World


class Gone(msgspec.Struct, frozen=True):
    """An object that a row names and that a sweeper has deleted."""

    backend: str
    path: str


class Reclaimed(msgspec.Struct, frozen=True):
    """What became of the entries whose object a row names again.

    Attributes:
        reclaimed: they are off the outbox, and their objects are there.
        missing: their objects are gone; the entries stay until a sweeper finds that a row names them.
        left: a sweeper has claimed them and may be deleting now, or their store did not answer.
    """

    reclaimed: int
    missing: list[Gone]
    left: int


def reclaim(
    engine: Engine,
    outbox: Outbox,
    columns: Collection[FileColumn],
    *,
    on_progress: Callable[[int], object] | None = None,
) -> Reclaimed:
    """Take every entry off the outbox whose object a row names again.

    A sweeper does the same when they are due. This does it now, and says which objects it is too late for: what a
    sweeper has once tried to delete is looked up in its store. Stop the sweepers first: one that has claimed an entry
    does not ask again whether a row names it.

    Args:
        engine: of the tables; under asyncio the `sync_engine`, in a greenlet.
        outbox: whose entries.
        columns: where rows may name objects.
        on_progress: called after every 500 entries with the number so far.

    Raises:
        ConfigurationError: a key means different backends in the registries of the columns.
    """
    c = outbox.table.c
    last = seen = reclaimed = left = 0
    missing: list[Gone] = []
    while True:
        with writing(engine, outbox) as connection:
            asked = select(c.id, c.backend, c.path, c.attempts, c.not_before).where(c.id > last).order_by(c.id)
            rows = connection.execute(asked.limit(AT_ONCE)).all()
            again = named(connection, columns, {(row.backend, row.path) for row in rows})
            found = [row for row in rows if (row.backend, row.path) in again]
            reclaimed += _take_off(connection, outbox, [row for row in found if row.attempts == 0])
        now = datetime.fromtimestamp(clock.now(), UTC)
        tried = [row for row in found if row.attempts]
        there = _there(columns, {(row.backend, row.path) for row in tried if row.not_before <= now})
        gone = [Gone(*entry) for entry, is_there in there.items() if is_there is False]
        with writing(engine, outbox) as connection:
            late = _take_off(connection, outbox, [row for row in tried if there.get((row.backend, row.path))])
        missing += gone
        reclaimed += late
        left += len(tried) - len(gone) - late
        seen += len(rows)
        if on_progress is not None:
            on_progress(seen)
        if len(rows) < AT_ONCE:
            return Reclaimed(reclaimed, missing, left)
        last = rows[-1].id


def _take_off(connection: Connection, outbox: Outbox, rows: Collection[Any]) -> int:
    """Take entries off that nobody has claimed since they were read; how many those were."""
    c = outbox.table.c
    return sum(
        connection.execute(delete(outbox.table).where(c.id == row.id, c.attempts == row.attempts)).rowcount
        for row in rows
    )


def _there(columns: Collection[FileColumn], entries: Collection[Entry]) -> dict[Entry, bool | None]:
    """Whether objects are in their stores; `None` where that cannot be told."""
    found: dict[Entry, bool | None] = {}

    async def look(entry: Entry, world: World) -> None:
        backend = backend_of(columns, entry[0])
        try:
            if backend is not None:
                await Retrying(backend, world).head(entry[1])
            found[entry] = backend is not None or None
        except ObjectNotFound:
            found[entry] = False
        except StoreError:
            found[entry] = None

    async def look_for_all(world: World) -> None:
        await world.each(lambda entry: look(entry, world), sorted(entries), 8)

    if entries:
        wait(look_for_all)
    return found
