"""`check`: every file that rows name, held against the store."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec
from sqlalchemy import ColumnElement, Engine, MetaData, Text, and_, cast, or_, select

from lading.errors import (
    BackendNotRegistered,
    ConfigurationError,
    IntegrityFailure,
    InvalidPath,
    ObjectNotFound,
    RecordError,
    StoreError,
    StoreUnavailable,
)
from lading.ops.compare import fault
from lading.ops.read import verify
from lading.ops.retry import Retrying
from lading.orm.bridge import wait
from lading.orm.named import among
from lading.orm.references import FileColumn, file_columns
from lading.record import FileRecord
from lading.worlds import World

AT_ONCE = 500
"""Rows that are read in one transaction."""

Position: TypeAlias = tuple[str, tuple[Any, ...]]
"""A row: the full name of its table, and its primary key."""

What: TypeAlias = Literal["record", "backend", "path", "missing", "size", "etag", "checksum", "unreadable"]


class Damage(msgspec.Struct, frozen=True):
    """A file of a row that is not in the store as the row says.

    Attributes:
        table: the full name of the table.
        column: the name of the column.
        primary_key: of the row.
        backend: the key in the record; `None` where there is no record.
        path: the path in the record; `None` where there is no record.
        what: `"record"`: the value is no file record; `"backend"`: the key is not registered; `"path"`: lading refuses
            the path; `"missing"`, `"size"`, `"etag"`, `"checksum"`: the object is missing, or has another;
            `"unreadable"`: the store refuses to show it.
        expected: what the record says.
        actual: what is the case.
    """

    table: str
    column: str
    primary_key: tuple[Any, ...]
    backend: str | None
    path: str | None
    what: What
    expected: int | str | None = None
    actual: int | str | None = None


class Checked(msgspec.Struct, frozen=True):
    """What a check has seen and found.

    Attributes:
        rows: rows that were read.
        files: files that they name.
        findings: by table, and by primary key in the order of the database.
        after: where the next run goes on, since this one came to its limit; `None` when it came to the end.
    """

    rows: int
    files: int
    findings: list[Damage]
    after: Position | None


class _Value(NamedTuple):
    """What one row has for one file: its JSON text; or a whole value that should be a list of files and is none."""

    column: FileColumn
    primary_key: tuple[Any, ...]
    text: str
    is_no_list: bool = False

    @property
    def said(self) -> tuple[str, tuple[Any, ...], str]:
        return self.column.column.name, self.primary_key, self.text


def check(
    engine: Engine,
    metadata: MetaData,
    *,
    deep: bool = False,
    limit: int = 10_000,
    on_progress: Callable[[int], object] | None = None,
    after: Position | None = None,
) -> Checked:
    """Hold every file that rows name against the store: one `head` each, several at a time.

    Rows are read by primary key, 500 in one short transaction; a table without one is read in a single statement. What
    seems wrong is a finding only if its row still says the same afterwards.

    Args:
        engine: of the tables; under asyncio the `sync_engine`, in a greenlet.
        metadata: of the tables.
        deep: read every object and compute its checksum, where its record has one.
        limit: findings after which the run ends, from 1; those of one part of 500 rows stay together, and so
            do those of a table without a primary key.
        on_progress: called with the number of rows so far, after each part.
        after: the row to go on after, as an earlier run said.

    Raises:
        ConfigurationError: an argument is wrong.
        StoreUnavailable: the store does not answer, so nothing can be said about objects.
    """
    if limit < 1:
        raise ConfigurationError("the limit is at least 1")
    tables: dict[str, list[FileColumn]] = defaultdict(list)
    for column in file_columns(metadata):
        tables[column.table.fullname].append(column)
    if after is not None and after[0] not in tables:
        raise ConfigurationError(f"no table {after[0]!r} has files")
    rows = files = 0
    findings: list[Damage] = []
    for name in sorted(tables):
        if after is not None and (name < after[0] or after == (name, ())):
            continue
        columns = tables[name]
        start = after[1] if after is not None and name == after[0] else None
        for part in _parts(engine, columns, start):
            if len(findings) >= limit and after is not None and after != (name, ()):
                return Checked(rows, files, findings, after)
            values = [value for row in part for value in _files(columns, row)]
            findings += _confirmed(engine, columns, _judged(values, deep))
            rows += len(part)
            files += len(values)
            after = (name, _key(columns, part[-1]))
            if on_progress is not None:
                on_progress(rows)
    return Checked(rows, files, findings, None)


def _parts(engine: Engine, columns: Sequence[FileColumn], after: tuple[Any, ...] | None) -> Iterator[Sequence[Any]]:
    """The rows of a table, some at a time: the primary key, and the JSON texts of its files."""
    table = columns[0].table
    asked = select(*table.primary_key, *(cast(each.column, Text) for each in columns))
    asked = asked.where(or_(*(each.column.is_not(None) for each in columns)))
    primary = list(table.primary_key)
    if not primary:
        with engine.connect() as connection:
            yield from connection.execute(asked, execution_options={"yield_per": AT_ONCE}).partitions()
        return
    while True:
        wanted = asked if after is None else asked.where(_beyond(primary, after))
        with engine.connect() as connection:
            part = connection.execute(wanted.order_by(*primary).limit(AT_ONCE)).all()
        if part:
            yield part
            after = tuple(part[-1][: len(primary)])
        if len(part) < AT_ONCE:
            return


def _beyond(primary: Sequence[ColumnElement[Any]], key: tuple[Any, ...]) -> ColumnElement[bool]:
    """The rows after a key; written out, since not every database takes an index for a comparison of tuples."""
    return or_(
        *(and_(*(primary[i] == key[i] for i in range(last)), primary[last] > key[last]) for last in range(len(primary)))
    )


def _key(columns: Sequence[FileColumn], row: Any) -> tuple[Any, ...]:
    return tuple(row[: len(columns[0].table.primary_key)])


def _files(columns: Sequence[FileColumn], row: Any) -> Iterator[_Value]:
    """The files of a row."""
    key = _key(columns, row)
    for column, text in zip(columns, row[len(key) :], strict=True):
        if text is None or text == "null":
            continue
        if not column.type.multiple:
            yield _Value(column, key, text)
            continue
        try:
            items = msgspec.json.decode(text, type=list[msgspec.Raw])
        except msgspec.MsgspecError:
            yield _Value(column, key, text, is_no_list=True)
        else:
            for item in items:
                yield _Value(column, key, bytes(item).decode())


def _judged(values: Sequence[_Value], deep: bool) -> list[tuple[_Value, Damage]]:
    """What seems wrong with them."""
    if not values:
        return []
    concurrency = values[0].column.type.storages.concurrency

    async def judge(world: World) -> list[Damage | None]:
        return await world.each(lambda value: _damage(value, deep, world), values, concurrency)

    return [(value, damage) for value, damage in zip(values, wait(judge), strict=True) if damage is not None]


def _confirmed(engine: Engine, columns: Sequence[FileColumn], found: Sequence[tuple[_Value, Damage]]) -> list[Damage]:
    """Those whose rows still say what was judged."""
    table = columns[0].table
    primary = list(table.primary_key)
    if not found or not primary:
        return [damage for _, damage in found]
    keys = dict.fromkeys(value.primary_key for value, _ in found)
    asked = select(*primary, *(cast(each.column, Text) for each in columns)).where(among(primary, keys))
    with engine.connect() as connection:
        now = {value.said for row in connection.execute(asked) for value in _files(columns, row)}
    return [damage for value, damage in found if value.said in now]


async def _damage(value: _Value, deep: bool, world: World) -> Damage | None:
    where = (value.column.table.fullname, value.column.column.name, value.primary_key)
    if value.is_no_list:
        return Damage(*where, None, None, "record", None, f"not a list of file records: {value.text:.200}")
    try:
        record = FileRecord.from_json(value.text)
    except RecordError as error:
        return Damage(*where, None, None, "record", None, str(error))
    wrong = await _wrong(value.column, record, deep, world)
    return None if wrong is None else Damage(*where, record.backend, record.path, *wrong)


async def _wrong(
    column: FileColumn, record: FileRecord, deep: bool, world: World
) -> tuple[What, int | str | None, int | str | None] | None:
    """What is wrong with the object of a record, what the record says, and what is the case."""
    try:
        backend = column.type.storages.get_backend(record.backend)
        info = await Retrying(backend, world).head(record.path)
        what = fault(record.size, record.etag, info.size, info.etag)
        if what == "size":
            return what, record.size, info.size
        if what == "etag":
            return what, record.etag, info.etag
        if deep:
            await verify(backend, record, world)
    except BackendNotRegistered as error:
        return "backend", record.backend, str(error)
    except InvalidPath as error:
        return "path", record.path, error.reason
    except ObjectNotFound:
        return "missing", None, None
    except IntegrityFailure as error:
        return "checksum", str(error.expected), str(error.actual)
    except RecordError as error:
        return "record", record.checksum, str(error)
    except StoreUnavailable:
        raise
    except StoreError as error:
        return "unreadable", None, str(error)
    return None
