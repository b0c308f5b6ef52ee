"""What a transaction of the soak does: through sessions, in bulk, and in SQL that lading never sees."""

import random
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import delete, insert, text, update

from lading.errors import PendingFile
from tests.soak.trip import Overtaken, Trip, joined, name, named, state

CROWD = 250
"""Rows of a family; no more are made on purpose."""


# through the session


def create(trip: Trip) -> None:
    if len(trip.known()) >= CROWD:
        remove(trip)
        return
    for _ in range(trip.chance.randrange(1, 4)):
        trip.filled(trip.new())


def replace(trip: Trip) -> None:
    [row] = trip.take()
    row.file = trip.file()


def replace_twice(trip: Trip) -> None:
    [row] = trip.take()
    row.file = trip.file()
    trip.session.flush()
    row.file = trip.file()


def clear(trip: Trip) -> None:
    [row] = trip.take()
    row.file = row.cover = None


def remove(trip: Trip) -> None:
    for row in trip.take(trip.chance.randrange(1, 3)):
        if row not in trip.session.new:
            trip.session.delete(row)


def append(trip: Trip) -> None:
    [row] = trip.take()
    row.pages.append(trip.file())


def shorten(trip: Trip) -> None:
    [row] = trip.take()
    if row.pages:
        row.pages.pop(trip.chance.randrange(len(row.pages)))


def reorder(trip: Trip) -> None:
    [row] = trip.take()
    row.pages = [*trip.chance.sample(row.pages, len(row.pages)), trip.file()]


def move(trip: Trip) -> None:
    source, target = trip.take(2)
    target.file, source.file = source.file, None


def move_page(trip: Trip) -> None:
    source, target = trip.take(2)
    if source.pages:
        target.pages.append(source.pages.pop())


def copy(trip: Trip) -> None:
    source, target = trip.take(2)
    target.cover = source.file


def adopt(trip: Trip) -> None:
    [row] = trip.take()
    if trip.staged:
        row.file = trip.staged.pop()


def savepoint(trip: Trip) -> None:
    first, second = trip.take(2)
    first.file = trip.file()
    with trip.session.begin_nested():
        second.file = trip.file()
        first.pages.append(trip.file())


def undone_savepoint(trip: Trip) -> None:
    first, second = trip.take(2)
    first.cover = trip.file()
    trip.session.flush()
    nested = trip.session.begin_nested()
    second.file = trip.file()
    first.cover = None
    trip.session.flush()
    nested.rollback()
    second.cover = trip.file()


def bulk_insert(trip: Trip) -> None:
    key, file = trip.chance.getrandbits(62), trip.file()
    trip.session.execute(insert(trip.kind).values(id=key, version=1, file=file, pages=[]))
    trip.write(key, 1, state(file, None, []))


def bulk_update(trip: Trip) -> None:
    row, file = trip.take_raw(), trip.file()
    _, cover, pages = named(row)
    is_it = (trip.kind.id == row.id) & (trip.kind.version == row.version)
    changed = update(trip.kind).where(is_it).values(file=file, version=row.version + 1).returning(trip.kind.id)
    try:
        met = trip.session.scalars(changed).all()
    except PendingFile as error:
        raise Overtaken("an UPDATE that meets no row does not store its file") from error
    if not met:
        raise Overtaken("the row has another version by now")
    trip.write(row.id, row.version + 1, joined(name(file), cover, pages))


def bulk_delete(trip: Trip) -> None:
    row = trip.take_raw()
    is_it = (trip.kind.id == row.id) & (trip.kind.version == row.version)
    if not trip.session.scalars(delete(trip.kind).where(is_it).returning(trip.kind.id)).all():
        raise Overtaken("the row has another version by now")
    trip.write(row.id, row.version, None)


# in SQL alone; what it makes garbage, triggers find


def _set(trip: Trip, row: Any, changes: str, file: str, cover: str, pages: Sequence[str]) -> None:
    update = f"UPDATE {trip.table} SET version = version + 1, {changes} WHERE id = :id AND version = :version"
    trip.execute(text(update), id=row.id, version=row.version)
    trip.write(row.id, row.version + 1, joined(file, cover, pages))


def raw_clear(trip: Trip) -> None:
    row = trip.take_raw()
    _, cover, pages = named(row)
    _set(trip, row, "file = NULL", "", cover, pages)


def raw_move(trip: Trip) -> None:
    row = trip.take_raw()
    _, cover, pages = named(row)
    _set(trip, row, "file = cover, cover = NULL", cover, "", pages)


def raw_shorten(trip: Trip) -> None:
    row = trip.take_raw()
    file, cover, pages = named(row)
    _set(trip, row, "pages = pages - 0", file, cover, pages[1:])


def raw_delete(trip: Trip) -> None:
    row = trip.take_raw()
    gone = text(f"DELETE FROM {trip.table} WHERE id = :id AND version = :version")
    trip.execute(gone, id=row.id, version=row.version)
    trip.write(row.id, row.version, None)


def raw_copy(trip: Trip) -> None:
    """A second row that names the same object: whoever copies must keep the first one from letting go meanwhile."""
    row, key = trip.take_raw(), trip.chance.getrandbits(62)
    copied = text(
        f"INSERT INTO {trip.table} (id, version, file, pages) SELECT :new, 1, file, '[]' FROM {trip.table} "
        "WHERE id = :id AND version = :version FOR SHARE"
    )
    trip.execute(copied, new=key, id=row.id, version=row.version)
    trip.write(key, 1, joined(named(row)[0], "", []))


Act = Callable[[Trip], None]

WEIGHTS: dict[Act, int] = {
    create: 5,
    replace: 5,
    replace_twice: 2,
    clear: 2,
    remove: 3,
    append: 3,
    shorten: 2,
    reorder: 2,
    move: 3,
    move_page: 2,
    copy: 3,
    adopt: 4,
    savepoint: 3,
    undone_savepoint: 3,
    bulk_insert: 2,
    bulk_update: 2,
    bulk_delete: 1,
    raw_clear: 2,
    raw_move: 2,
    raw_shorten: 1,
    raw_delete: 2,
    raw_copy: 2,
}


def drawn(chance: random.Random) -> list[Act]:
    """What one transaction will do, in that order."""
    return chance.choices(list(WEIGHTS), list(WEIGHTS.values()), k=chance.choice((1, 1, 1, 2, 3)))
