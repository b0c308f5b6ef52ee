"""What rows name, in SQL: which of some objects, and all of them; and the indexes that answer the first question."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import (
    DDL,
    Column,
    ColumnElement,
    Connection,
    MetaData,
    Table,
    Text,
    case,
    cast,
    column,
    event,
    func,
    inspect,
    literal,
    literal_column,
    select,
    type_coerce,
    union_all,
)
from sqlalchemy.dialects.postgresql import JSONB

from lading.backends.base import Backend
from lading.backends.protocols import StorageBackend
from lading.errors import BackendNotRegistered, ConfigurationError, RecordError
from lading.orm import quoting
from lading.orm.column import StoredObject
from lading.orm.indexes import BACKEND, INDEXED, PATH, create_index, has_index, kind_of, virtual_column
from lading.orm.outbox import AT_ONCE, Entry, Outbox

_ITEMS = "'$[*]' COLUMNS ({})".format(
    ", ".join(
        f"{name} LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.{name}'"
        for name in ("backend", "path", "filename")
    )
)

_EXACT = "CONVERT({} USING utf8mb4) COLLATE utf8mb4_bin"  # of columns in several collations UNION makes an error

_PARAMETERS = 30_000
"""Of one statement: PostgreSQL and SQLite take 32,767."""


class FileColumn(NamedTuple):
    """A column of files, as the database has it."""

    table: Table
    column: Column[Any]
    type: StoredObject

    def place(self, connection: Connection) -> tuple[str, str, str | None, bool]:
        """What `lading.orm.indexes` wants to know of it: table, column, the schema on this connection, `multiple`."""
        # That of `create_mock_engine` has no options.
        options: dict[str, Any] = getattr(connection, "get_execution_options", dict[str, Any])()
        schemas: dict[str | None, str | None] = options.get("schema_translate_map") or {}
        schema = schemas.get(self.table.schema, self.table.schema)
        return self.table.name, self.column.name, schema, self.type.multiple

    def __str__(self) -> str:
        return f"{self.table.fullname}.{self.column.name}"


class Named(NamedTuple):
    """A file that a row names."""

    column: FileColumn
    backend: str
    path: str
    size: int | None
    etag: str | None
    checksum: str | None


def file_columns(metadata: MetaData) -> list[FileColumn]:
    """The columns of files of all tables, with one of the type `StoredObject`; one inside another type is not seen."""
    return [
        FileColumn(table, each, each.type)
        for table in metadata.tables.values()
        for each in table.columns
        if isinstance(each.type, StoredObject)
    ]


def backend_of(columns: Iterable[FileColumn], key: str) -> StorageBackend | None:
    """The backend that the registries of these columns have under a key or alias; `None` where none knows it.

    Raises:
        ConfigurationError: two registries have different ones.
    """
    found: StorageBackend | None = None
    for storages in {id(each.type.storages): each.type.storages for each in columns}.values():
        try:
            backend = storages.get_backend(key)
        except BackendNotRegistered:
            continue
        if found is not None and found != backend:
            raise ConfigurationError(
                f"{key!r} is {found!r} in one registry and {backend!r} in another; one outbox needs one name for each"
            )
        found = backend
    return found


def named(connection: Connection, columns: Collection[FileColumn], entries: Collection[Entry]) -> set[Entry]:
    """Which of these objects some row names, in a column of one file or of many; exact to the byte.

    Objects are the same whose paths are equal and whose keys lead to one place: by an alias, or by two backends of one
    store. Where a key is missing, or registered nowhere, that cannot be told, and the path alone decides. A record
    without a `path` is one of advanced-alchemy: its `filename` is the path.

    One statement asks all columns for up to 500 objects, so that what is moved from one column to another meanwhile is
    seen in one of them. For columns of one file it takes the index of `create_index`, for lists on PostgreSQL, too;
    lists on SQLite, MariaDB and MySQL have no such index, and every statement reads all rows.

    Raises:
        ConfigurationError: the database is none of PostgreSQL, SQLite, MariaDB and MySQL, or `backend_of` raises.
    """
    keys: dict[str, set[str]] = defaultdict(set)
    for backend, path in entries:
        keys[path].add(backend)
    paths, several = sorted(keys), list(columns)
    size = max(1, min(AT_ONCE, _PARAMETERS // max(1, len(several))))
    found: set[Entry] = set()
    for start in range(0, len(paths) if several else 0, size):
        some = paths[start : start + size]
        asked = [
            naming(connection, at, some).add_columns(literal_column(str(number))) for number, at in enumerate(several)
        ]
        answer: Any = connection.execute(union_all(*asked))
        rows: set[tuple[Any, str, int]] = set(answer)
        # A database may compare otherwise, as MariaDB does, to which "a" and "a " are equal.
        for backend, path, number in rows:
            wanted = {(key, path) for key in keys.get(path, ())} - found
            found |= {entry for entry in wanted if _is_same(several, several[number], backend, entry)}
    return found


def _is_same(columns: Collection[FileColumn], at: FileColumn, named: object, entry: Entry) -> bool:
    """Whether the key in a row and that of an entry lead to one object."""
    key, path = entry
    if named == key:
        return True
    one = backend_of([at], named) if isinstance(named, str) else None
    other = backend_of(columns, key)
    if one is None or other is None or one == other:
        return True
    if not isinstance(one, Backend) or not isinstance(other, Backend):
        return False
    return bool(one.store == other.store) and one.locate(path) == other.locate(path)


def naming(connection: Connection, at: FileColumn, paths: Collection[str]) -> Any:
    """The backends and paths of the files in a column that have one of these paths, and perhaps of some others."""
    kind = kind_of(connection.dialect)
    if at.type.multiple:
        return _naming_in_lists(kind, at, paths)
    if kind == "mysql":
        return _naming_by_virtual_column(connection, at, paths)
    name = quoting.name(connection.dialect, at.column.name)
    path = _sql(PATH, kind, name)
    return select(_sql(BACKEND, kind, name), path).select_from(at.table).where(path.in_(paths))


def _naming_by_virtual_column(connection: Connection, at: FileColumn, paths: Collection[str]) -> Any:
    """On MariaDB and MySQL, whose planners do not take the index for the expression."""
    name = quoting.name(connection.dialect, at.column.name)
    backend, path = (literal_column(_EXACT.format(each["mysql"].format(name)), Text()) for each in (BACKEND, PATH))
    asked = select(backend, path).select_from(at.table)
    if not has_index(connection, *at.place(connection)):
        return asked.where(path.in_(paths))
    virtual = literal_column(quoting.name(connection.dialect, virtual_column(at.column.name)), Text())
    return asked.where(virtual.in_(sorted({path[:INDEXED] for path in paths})))


def _naming_in_lists(kind: str, at: FileColumn, paths: Collection[str]) -> Any:
    if kind == "postgresql":
        return _naming_by_containment(at, paths)
    value = type_coerce(at.column, Text())
    backend: ColumnElement[Any]
    path: ColumnElement[Any]
    if kind == "mysql":
        table = func.json_table(value, literal_column(_ITEMS))
        items = table.table_valued("backend", "path", "filename", name="lading_item", joins_implicitly=True)
        backend, path = items.c.backend, func.coalesce(items.c.path, items.c.filename)
    else:
        whole = case((func.json_valid(value) == 1, case((func.json_type(value) == "array", value))))
        items = func.json_each(whole).table_valued("value", name="lading_item", joins_implicitly=True)
        backend, path = _sql(BACKEND, kind, "lading_item.value"), _sql(PATH, kind, "lading_item.value")
    return select(backend, path).select_from(at.table, items).where(path.in_(paths))


def _naming_by_containment(at: FileColumn, paths: Collection[str]) -> Any:
    """Of lists on PostgreSQL, in a form in which each path is looked up in the GIN index.

    All files of the lists that are found, since a comparison of their paths would make the planner read all rows.
    """
    value = type_coerce(at.column, JSONB())
    parts = [[{member: path}] for path in paths for member in ("path", "filename")]
    sought = func.jsonb_array_elements(literal(parts, JSONB)).table_valued(
        column("value", JSONB), joins_implicitly=True
    )
    part = sought.render_derived(name="lading_part")
    whole = case((func.jsonb_typeof(value) == "array", value))
    items = func.jsonb_array_elements(whole).table_valued(column("value", JSONB), joins_implicitly=True)
    item = items.render_derived(name="lading_item")
    asked = select(_sql(BACKEND, "postgresql", "lading_item.value"), _sql(PATH, "postgresql", "lading_item.value"))
    return asked.select_from(part, at.table, item).where(value.contains(part.c.value))


def _sql(templates: dict[str, str], kind: str, name: str) -> ColumnElement[str]:
    return literal_column(templates[kind].format(name), Text())


def stream(connection: Connection, columns: Iterable[FileColumn], *, prefix: str = "") -> Iterator[Named]:
    """Every file that rows name, in no order, in constant memory; an object that two rows name comes twice.

    Args:
        connection: must execute nothing else until the iterator is at its end or closed.
        columns: where to look.
        prefix: whole segments; only files below it are given, though all are read.

    Raises:
        RecordError: a row has a value that is no record, so nobody knows which object it names.
    """
    below = f"{prefix.removesuffix('/')}/" if prefix else ""
    for each in columns:
        value = type_coerce(each.column, Text())
        raw = cast(each.column, Text) if connection.dialect.name == "postgresql" else value
        asked = select(raw).select_from(each.table).where(value.is_not(None))
        decode = _lists.decode if each.type.multiple else _single
        with connection.execute(asked, execution_options={"yield_per": 1000}) as rows:
            for (json_text,) in rows:
                try:
                    files = decode(json_text) or ()
                except (msgspec.MsgspecError, UnicodeError, TypeError) as error:
                    raise RecordError(
                        f"{each} has a value that is no file record: {error}: {json_text!r:.200}"
                    ) from error
                for file in files:
                    path = file.filename if file.path is msgspec.UNSET else file.path
                    if path.startswith(below):
                        yield Named(each, file.backend, path, file.size, file.etag, file.checksum)


class _File(msgspec.Struct):
    """What is wanted of a record."""

    backend: str
    filename: str
    path: str | msgspec.UnsetType = msgspec.UNSET
    size: int | None = None
    etag: str | None = None
    checksum: str | None = None


_lists = msgspec.json.Decoder(list[_File] | None)
_files = msgspec.json.Decoder(_File | None)


def _single(json_text: str) -> tuple[_File, ...]:
    file = _files.decode(json_text)
    return () if file is None else (file,)


def make_indexes(metadata: MetaData, connection: Any, *, tables: Collection[Table] = (), **_: Any) -> None:
    """Make the indexes that are missing, as the last act of `create_all`, where an outbox wants them.

    Also on tables that were there before, which can take a while: `create_all` is how an application without migrations
    gets an outbox.
    """
    outbox = Outbox.of(metadata)
    if outbox is None or not outbox.indexes:
        return
    is_real = isinstance(connection, Connection)  # that of `create_mock_engine` only writes SQL out
    for at in file_columns(metadata):
        place = at.place(connection)
        if not is_real and at.table not in tables:
            continue
        if is_real and (not inspect(connection).has_table(at.table.name, place[2]) or has_index(connection, *place)):
            continue
        for statement in create_index(connection.dialect, *place):
            connection.execute(DDL(statement.replace("%", "%%")))  # type: ignore[no-untyped-call]  # of SQLAlchemy


event.listen(MetaData, "after_create", make_indexes)
