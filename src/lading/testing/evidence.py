"""What rows name, what lies on disk, and what of the promises that breaks."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import JSON, Column, Engine, MetaData, Table, delete, insert, select, text
from sqlalchemy.dialects.postgresql import JSONB

from lading import clock
from lading.errors import LadingError
from lading.file import FileObject
from lading.orm.column import StoredObject
from lading.orm.outbox import Outbox
from lading.orm.references import FileColumn, file_columns
from lading.record import FileRecord
from lading.storages import Storages
from lading.sweeper import Sweeper

LATER = timedelta(days=3650)
"""After which every delay and every lease is over."""

PATIENCE = 10
"""Seconds in which a database notices that somebody who was connected is gone."""


_SEEING = ("postgresql", "sqlite")


class Named(NamedTuple):
    """One file that a row names."""

    row: str
    path: Path
    record: FileRecord


class Rows(NamedTuple):
    """What the tables hold.

    Attributes:
        named: the files.
        content: how often each row is there, told by what its files are.
        unread: rows that cannot be read.
    """

    named: Sequence[Named]
    content: Mapping[Any, int]
    unread: Sequence[str]


class Evidence:
    """Looks at tables and at directories, by itself as far as can be: what it relies on it cannot judge.

    Args:
        engine: of the database.
        metadata: of the tables.
        directories: where the objects of each backend lie, by its registry and key.
        aside: a directory to keep files in.
    """

    def __init__(
        self, engine: Engine, metadata: MetaData, directories: Mapping[tuple[Storages, str], Path], aside: Path
    ) -> None:
        self._engine = engine
        self._metadata = metadata
        self._directories = directories
        self._outbox = Outbox.of(metadata)
        self._aside = aside
        self._tables = _plain(metadata, self._outbox)
        self._kept: dict[Table, list[dict[Any, Any]]] = {}
        self._kept_files: dict[Path, Path] = {}
        self._columns: dict[Any, list[FileColumn]] = defaultdict(list)
        for each in file_columns(metadata):
            self._columns[each.table].append(each)

    def restore(self) -> None:
        """Make tables and directories what they were when `keep` was called; before, empty them."""
        with self._engine.begin() as connection:
            for table in reversed(self._tables):
                connection.execute(delete(table))
            for table, rows in self._kept.items():
                connection.execute(insert(table), rows)
        for path in self.files():
            path.unlink()
        for path, kept in self._kept_files.items():
            os.link(kept, path)

    def keep(self) -> None:
        """Remember what tables and directories are now."""
        with self._engine.connect() as connection:
            rows = {
                table: [dict(row) for row in connection.execute(select(table)).mappings()] for table in self._tables
            }
        self._kept = {table: several for table, several in rows.items() if several}
        for number, path in enumerate(sorted(self.files())):
            self._kept_files[path] = self._aside / str(number)
            os.link(path, self._kept_files[path])

    def settle(self) -> None:
        """Wait until the database has noticed who is gone: what they had begun is rolled back then, or committed.

        Raises:
            SQLAlchemyError: somebody is still in a transaction.
        """
        names = [self._engine.dialect.identifier_preparer.format_table(table) for table in self._tables]
        with self._engine.connect() as connection:
            if self._engine.dialect.name == "postgresql":
                connection.execute(text(f"SET LOCAL lock_timeout = '{PATIENCE}s'"))
                connection.execute(text(f"LOCK TABLE {', '.join(names)} IN EXCLUSIVE MODE"))
            elif self._engine.dialect.name in ("mysql", "mariadb"):
                connection.execute(text(f"SET lock_wait_timeout = {PATIENCE}, innodb_lock_wait_timeout = {PATIENCE}"))
                connection.execute(text(f"LOCK TABLES {' WRITE, '.join(names)} WRITE"))
                connection.execute(text("UNLOCK TABLES"))

    def rows(self) -> Rows:
        """What rows name."""
        named: list[Named] = []
        content: Counter[Any] = Counter()
        unread: list[str] = []
        with self._engine.connect() as connection:
            for table, columns in self._columns.items():
                primary = list(table.primary_key)
                for values in connection.execute(select(*primary, *(each.column for each in columns))):
                    row = f"{table.name} {', '.join(map(str, values[: len(primary)]))}"
                    try:
                        files = [_files(value) for value in values[len(primary) :]]
                        for each, several in zip(columns, files, strict=True):
                            named += [self._named(f"{row}: {each.column.name}", each, file) for file in several]
                    except (LadingError, KeyError) as error:
                        unread.append(f"{row}: {error}")
                        continue
                    content[table.name, tuple(tuple(map(_description, several)) for several in files)] += 1
        return Rows(named, content, unread)

    def _named(self, row: str, column: FileColumn, file: FileObject) -> Named:
        record = file.record
        directory = self._directories[column.type.storages, file.backend.key]
        return Named(row, directory / record.path, record)

    def files(self) -> set[Path]:
        """Whatever lies on disk."""
        return {path for root in self._directories.values() for path in root.rglob("*") if path.is_file()}

    def entered(self) -> set[Path]:
        """The objects in the outbox."""
        if self._outbox is None:
            return set()
        c = self._outbox.table.c
        with self._engine.connect() as connection:
            entries = [tuple(row) for row in connection.execute(select(c.backend, c.path))]
        places = [(key, root) for (_, key), root in self._directories.items()]
        return {root / path for backend, path in entries for key, root in places if key == backend}

    @property
    def sees_all(self) -> bool:
        """Whether triggers see whatever is done to rows; those of InnoDB do not see what foreign keys do."""
        return self._outbox is not None and self._outbox.triggers and self._engine.dialect.name in _SEEING

    def sweep(self, orphans: Collection[Path] | None = None) -> None:
        """One sweep, after which nothing may be left: of the backends that hold these orphans, or of all."""
        sweeper = Sweeper(self._engine, self._metadata)
        # Of another registry no row can name anything, and a sweep of these tables does not know it.
        registries = {id(column.type.storages) for column in file_columns(self._metadata)}
        for (registry, key), root in self._directories.items():
            if id(registry) not in registries:
                continue
            if orphans is None or any(path.is_relative_to(root) for path in orphans):
                sweeper.orphans(key, grace=timedelta(0), delete=True)
        if self._outbox is not None:
            with _later():
                sweeper.drain()


def _plain(metadata: MetaData, outbox: Outbox | None) -> list[Table]:
    """The tables as SQL has them, without files: rows can be put back as they were.

    The outbox comes first, to be emptied last: triggers write into it.
    """
    tables = metadata.sorted_tables
    if outbox is not None:
        tables = [outbox.table, *(table for table in tables if table is not outbox.table)]
    return [
        Table(
            table.name,
            MetaData(),
            *(
                Column(column.name, JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql"))
                if isinstance(column.type, StoredObject)
                else Column(column.name, column.type)
                for column in table.columns
                if column.computed is None
            ),
            schema=table.schema,
        )
        for table in tables
    ]


def broken(rows: Rows) -> Iterator[str]:
    """What rows name that is not there, or not what they say."""
    yield from rows.unread
    for named in rows.named:
        if not named.path.is_file():
            yield f"{named.row} names {named.path.name}, which is not there"
            continue
        content = named.path.read_bytes()
        if named.record.size not in (None, len(content)):
            yield f"{named.row} names {named.path.name} of {named.record.size} bytes, which has {len(content)}"
        elif named.record.checksum is not None and named.record.checksum != _checksum(named.record.checksum, content):
            yield f"{named.row} names {named.path.name}, whose content is another"


def _checksum(like: str, content: bytes) -> str:
    algorithm = like.partition(":")[0]
    return f"{algorithm}:{hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()}"


def _files(value: Any) -> list[FileObject]:
    if value is None:
        return []
    return [value] if isinstance(value, FileObject) else list(value)


def _description(file: FileObject) -> tuple[Any, ...]:
    return file.record.filename, file.record.size, file.record.checksum


@contextmanager
def _later() -> Generator[None, None, None]:
    """Let all delays be over."""
    now = clock.now
    clock.now = lambda: now() + LATER.total_seconds()
    try:
        yield
    finally:
        clock.now = now
