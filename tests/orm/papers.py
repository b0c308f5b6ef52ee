"""Tables whose rows are written as raw JSON, as other writers than lading do it."""

import json
from collections.abc import Iterable
from typing import Any

from sqlalchemy import DDL, Column, Connection, Integer, MetaData, Table, text

from lading import Outbox, Storages, StoredObject
from lading.backends.obstore import ObstoreBackend
from lading.orm.references import FileColumn, file_columns


def tables(name: str = "paper", schema: str | None = None, indexes: bool = True, triggers: bool = False) -> MetaData:
    """A table with a file and pages, and an outbox beside it."""
    metadata = MetaData()
    registry = Storages()
    registry.register_backend(ObstoreBackend("mem", "memory://"))
    Table(
        name,
        metadata,
        Column("id", Integer, primary_key=True),
        Column("file", StoredObject("mem", storages=registry)),
        Column("pages", StoredObject("mem", multiple=True, storages=registry), nullable=True),
        schema=schema,
    )
    Outbox(metadata, triggers=triggers, indexes=indexes)
    return metadata


def registry_of(metadata: MetaData) -> Storages:
    registry: Storages = file_columns(metadata)[0].type.storages
    return registry


def record(path: str, backend: str = "mem", **more: Any) -> dict[str, Any]:
    return {"backend": backend, "path": path, "filename": "shown.txt", **more}


def write(connection: Connection, at: FileColumn, *values: Any, ascii_only: bool = True) -> None:
    """Rows that hold these JSON values; text is written as it is."""
    name = at.column.name
    value = "CAST(:value AS JSONB)" if connection.dialect.name == "postgresql" else ":value"
    texts = [each if isinstance(each, str) else json.dumps(each, ensure_ascii=ascii_only) for each in values]
    table = connection.dialect.identifier_preparer.format_table(at.table)
    connection.execute(text(f"INSERT INTO {table} ({name}) VALUES ({value})"), [{"value": each} for each in texts])


def run(connection: Connection, statements: Iterable[str]) -> None:
    for statement in statements:
        connection.execute(DDL(statement.replace("%", "%%")))  # type: ignore[no-untyped-call]  # of SQLAlchemy


def single(metadata: MetaData) -> FileColumn:
    return next(each for each in file_columns(metadata) if not each.type.multiple)


def multiple(metadata: MetaData) -> FileColumn:
    return next(each for each in file_columns(metadata) if each.type.multiple)
