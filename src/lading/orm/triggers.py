"""`FileTriggers`: the objects that any writer takes off a row go into the outbox, by triggers, in its transaction.

An UPDATE enters what the old row names and the new one does not, in any of its columns; a DELETE all that the row
names. What is no record of a file is passed over, never an error: a trigger must not refuse what the application does.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Protocol
from urllib.parse import parse_qs, urlencode

from sqlalchemy import DDL, Connection, Dialect, MetaData, Table, event, inspect
from sqlalchemy.engine.mock import MockConnection

from lading.errors import ConfigurationError
from lading.orm import triggers_mysql, triggers_postgresql, triggers_sqlite
from lading.orm.outbox import Outbox
from lading.orm.references import file_columns

Place = tuple[str | None, str]
"""A table, after its schema; `None` is the schema that the connection is in."""

_STAMP = re.compile(r"lading:[0-9a-f]{16}\?[\w.~%&=+-]*")


@dataclass(frozen=True, slots=True)
class FileTriggers:
    """The triggers of one table.

    Attributes:
        table: the table whose columns hold files.
        columns: their names, `StoredObject(multiple=True)` and others alike.
        outbox: the name of the outbox.
        delay: how long an object stays when no row names it any more.
        schema: of the table.
        outbox_schema: of the outbox.
    """

    table: str
    columns: tuple[str, ...]
    outbox: str
    delay: timedelta
    schema: str | None = None
    outbox_schema: str | None = None

    def create(self, dialect: Dialect) -> list[DDL]:
        """The statements that make them, in the place of those of the same table that are there already.

        Raises:
            ConfigurationError: there are none for this database, or not for these schemas.
        """
        return [statement(text) for text in _writer(dialect).create(self, self.stamp(dialect), dialect)]

    def stamp(self, dialect: Dialect) -> str:
        """What their text says of itself: a hash of what it does, and what they were made from."""
        text = "\0".join(_writer(dialect).create(self, "", dialect))
        made_from = {
            "table": self.table,
            "schema": self.schema or (),
            "column": self.columns,
            "outbox": self.outbox,
            "outbox_schema": self.outbox_schema or (),
            "delay": self.delay.total_seconds(),
        }
        return f"lading:{hashlib.sha256(text.encode()).hexdigest()[:16]}?{urlencode(made_from, doseq=True)}"

    @classmethod
    def from_stamp(cls, stamp: str) -> "FileTriggers":
        """What triggers were made from."""
        said = parse_qs(stamp.partition("?")[2])
        return cls(
            table=said["table"][0],
            columns=tuple(said["column"]),
            outbox=said["outbox"][0],
            delay=timedelta(seconds=float(said["delay"][0])),
            schema=said.get("schema", [None])[0],
            outbox_schema=said.get("outbox_schema", [None])[0],
        )

    @property
    def place(self) -> Place:
        """Where the table is."""
        return self.schema, self.table


class _Writer(Protocol):
    """Writes the triggers of a table for one database: a module."""

    @property
    def NAMES(self) -> Sequence[str]:  # noqa: N802  # a constant of the module
        """One for each trigger of a table."""
        ...

    def create(self, triggers: FileTriggers, stamp: str, dialect: Dialect) -> list[str]:
        """The statements that make them anew."""
        ...

    def drop(self, table: str, schema: str | None, dialect: Dialect) -> list[str]:
        """The statements that drop them where they are."""
        ...

    def installed(self, connection: Connection, schema: str | None) -> Iterable[Any]:
        """Table, name and text of the triggers in a schema."""
        ...


_WRITERS: Mapping[str, _Writer] = {
    "postgresql": triggers_postgresql,
    "sqlite": triggers_sqlite,
    "mysql": triggers_mysql,
    "mariadb": triggers_mysql,
}


def is_known(dialect: Dialect) -> bool:
    """Whether there are triggers for this database."""
    return dialect.name in _WRITERS


def drop(dialect: Dialect, table: str, schema: str | None = None) -> list[DDL]:
    """The statements that drop the triggers of a table where they are, also when the table is gone.

    Raises:
        ConfigurationError: there are none for this database.
    """
    return [statement(text) for text in _writer(dialect).drop(table, schema, dialect)]


def wanted(outbox: Outbox) -> list[FileTriggers]:
    """The triggers of all tables with files that the metadata of an outbox has by now; none if it wants none."""
    columns: dict[Table, list[str]] = defaultdict(list)
    for each in file_columns(outbox.table.metadata) if outbox.triggers else ():
        columns[each.table].append(each.column.name)
    into, delay = outbox.table, outbox.delay
    return [
        FileTriggers(table.name, tuple(names), into.name, delay, table.schema, into.schema)
        for table, names in columns.items()
    ]


def installed(connection: Connection, schemas: Iterable[str | None]) -> dict[Place, set[str]]:
    """The stamps that the triggers of each table bear, and "" where one of its triggers is not there.

    A table has the triggers that it should have if this is the set of the one stamp that they would get.
    """
    writer = _writer(connection.dialect)
    found: dict[Place, dict[str, str]] = defaultdict(dict)
    for schema in schemas:
        for table, trigger, text in writer.installed(connection, schema):
            if stamp := _STAMP.search(text):
                found[schema, table][trigger] = stamp[0]
    return {
        place: {*stamps.values(), *([""] if len(stamps) < len(writer.NAMES) else [])} for place, stamps in found.items()
    }


def refuse_unknown_tables(connection: Connection, outbox: Outbox) -> None:
    """See to it that the metadata has every table whose triggers fill its outbox.

    Seen are the schemas of the outbox and of the tables that are known; on MariaDB and MySQL only what the user of the
    database has the TRIGGER privilege for.

    Raises:
        ConfigurationError: it has not: what rows of the others name would look like garbage. The message names them.
    """
    if not is_known(connection.dialect):
        return
    translated: Mapping[str | None, str | None] = connection.get_execution_options().get("schema_translate_map") or {}
    default = connection.dialect.default_schema_name

    def place(schema: str | None, name: str) -> tuple[str | None, str]:
        return schema or default, name.casefold()  # which some databases do not tell apart either

    tables = [(translated.get(each.schema, each.schema), each.name) for each in outbox.table.metadata.tables.values()]
    into = place(translated.get(outbox.table.schema, outbox.table.schema), outbox.table.name)
    known = {place(*each) for each in tables}
    unknown: set[str] = set()
    for (schema, table), stamps in installed(connection, {schema for schema, _ in tables}).items():
        for stamp in filter(None, stamps):
            made = FileTriggers.from_stamp(stamp)
            # Where it says no schema, it was that of its table.
            beside = schema if made.schema is None else None
            if place(made.outbox_schema or beside, made.outbox) == into and place(schema, table) not in known:
                unknown.add(f"{schema}.{table}" if schema else table)
    if unknown:
        raise ConfigurationError(
            f"triggers fill the outbox {outbox.table.fullname} from tables that its metadata does not have, so what "
            f"their rows name would be deleted: {', '.join(sorted(unknown))}; import all models first, or drop the "
            "triggers of tables that are not used any more"
        )


def install(metadata: MetaData, connection: Connection | MockConnection, **_: Any) -> None:
    """Make the triggers that are missing or outdated, after `create_all`; also on tables that were there before.

    Without the outbox itself no trigger is made: no row could be changed any more.
    """
    outbox = Outbox.of(metadata)
    triggers = [_translated(each, connection) for each in wanted(outbox)] if outbox else []
    if triggers and isinstance(connection, Connection):  # `create_mock_engine` has no database to look at
        present = installed(connection, {each.schema for each in triggers})
        look = inspect(connection)
        triggers = [
            each
            for each in triggers
            if present.get(each.place) != {each.stamp(connection.dialect)}
            and look.has_table(each.table, each.schema)
            and look.has_table(each.outbox, each.outbox_schema)
        ]
    for each in triggers:
        for made in each.create(connection.dialect):
            connection.execute(made)


def uninstall(
    metadata: MetaData, connection: Connection | MockConnection, *, tables: Collection[Table] = (), **_: Any
) -> None:
    """Drop the triggers of the tables that `drop_all` is about to drop; if the outbox is among them, all.

    A table takes its triggers along, but on PostgreSQL not their function; and without the outbox no row could be
    changed any more.
    """
    outbox = Outbox.of(metadata)
    if outbox is None:
        return
    places = {(table.schema, table.name) for table in tables}
    for each in wanted(outbox):
        if outbox.table in tables or each.place in places:
            for dropped in drop(connection.dialect, each.table, _translated(each, connection).schema):
                connection.execute(dropped)


def _translated(triggers: FileTriggers, connection: Connection | MockConnection) -> FileTriggers:
    """In the schemas that `schema_translate_map` puts the tables into."""
    options: Mapping[str, Any] = connection.get_execution_options() if isinstance(connection, Connection) else {}
    schemas: Mapping[str | None, str | None] = options.get("schema_translate_map") or {}
    return replace(
        triggers,
        schema=schemas.get(triggers.schema, triggers.schema),
        outbox_schema=schemas.get(triggers.outbox_schema, triggers.outbox_schema),
    )


def _writer(dialect: Dialect) -> _Writer:
    if dialect.name not in _WRITERS:
        raise ConfigurationError(f"lading has no triggers for {dialect.name}: Outbox(triggers=False)")
    return _WRITERS[dialect.name]


def statement(text: str) -> DDL:
    """A statement as it is: `DDL` takes a percent sign for one of its own placeholders."""
    return DDL(text.replace("%", "%%"))  # type: ignore[no-untyped-call]  # of SQLAlchemy


event.listen(MetaData, "after_create", install)
event.listen(MetaData, "before_drop", uninstall)
