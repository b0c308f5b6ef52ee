"""The index by which a path is found among rows, as SQL; `references.named` asks in the terms that it has."""

from sqlalchemy import Connection, Dialect, text

from lading.errors import ConfigurationError
from lading.orm import quoting

INDEXED = 255
"""Characters of a path that MariaDB and MySQL index: InnoDB takes 3072 bytes of a key, less than a path may have."""

# Queries and indexes have the very same expression, or the planner would not take the one for the other. What is no
# JSON must not make an index, and with it an INSERT, fail: SQLite checks nothing. Without a `path` the record is one
# of advanced-alchemy.
BACKEND = {
    "postgresql": "{0} ->> 'backend'",
    "sqlite": "CASE WHEN json_valid({0}) THEN json_extract({0}, '$.backend') END",
    "mysql": "json_unquote(json_extract({0}, '$.backend'))",
}
PATH = {
    "postgresql": "coalesce({0} ->> 'path', {0} ->> 'filename')",
    "sqlite": (
        "CASE WHEN json_valid({0}) THEN coalesce(json_extract({0}, '$.path'), json_extract({0}, '$.filename')) END"
    ),
    "mysql": "coalesce(json_unquote(json_extract({0}, '$.path')), json_unquote(json_extract({0}, '$.filename')))",
}

_KINDS = {"postgresql": "postgresql", "sqlite": "sqlite", "mysql": "mysql", "mariadb": "mysql"}


def kind_of(dialect: Dialect) -> str:
    """Which of the databases that lading writes SQL for: `postgresql`, `sqlite`, or `mysql`, which MariaDB is, too.

    Raises:
        ConfigurationError: none of them.
    """
    if dialect.name not in _KINDS:
        raise ConfigurationError(f"lading looks for files in PostgreSQL, SQLite, MariaDB and MySQL, not {dialect.name}")
    return _KINDS[dialect.name]


def index_name(table_name: str, column_name: str) -> str:
    """What the index of a column is called."""
    return quoting.short(f"ix_{table_name}_{column_name}", "_path")


def virtual_column(column_name: str) -> str:
    """What the virtual column is called that carries the index on MariaDB and MySQL."""
    return quoting.short(f"lading_{column_name}", "_path")


def create_index(dialect: Dialect, table_name: str, column_name: str, schema: str | None, multiple: bool) -> list[str]:
    """The SQL that makes the index of a column, and does nothing where it is there already.

    - PostgreSQL: an index of an expression, for lists a GIN index. ANALYZE follows: without it the planner takes the
      index for much worse than it is.
    - SQLite: an index of an expression. SQLAlchemy warns when it reflects one.
    - MariaDB, MySQL from 8.0.23: an invisible virtual column (`virtual_column`) and its index, since MariaDB has no
      index of an expression.

    Nothing for lists but on PostgreSQL, and nothing on other databases. Percent signs and colons stand for themselves.
    """
    if not _has_such(dialect, multiple):
        return []
    kind, table = kind_of(dialect), quoting.name(dialect, schema, table_name)
    index, at = index_name(table_name, column_name), quoting.name(dialect, column_name)
    path = PATH[kind].format(at)
    if kind == "postgresql":
        # With `fastupdate` every question reads up to 4 MiB of entries that are not sorted in yet.
        what = f"USING gin ({at} jsonb_path_ops) WITH (fastupdate = off)" if multiple else f"(({path}))"
        return [f"CREATE INDEX IF NOT EXISTS {quoting.name(dialect, index)} ON {table} {what}", f"ANALYZE {table}"]
    if kind == "sqlite":
        # The schema belongs to the index, and the table is in the same.
        name = quoting.name(dialect, schema, index)
        return [f"CREATE INDEX IF NOT EXISTS {name} ON {quoting.name(dialect, table_name)} ({path})"]
    virtual = quoting.name(dialect, virtual_column(column_name))
    exact = f"VARCHAR({INDEXED}) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    made = f"{virtual} {exact} GENERATED ALWAYS AS (left({path}, {INDEXED})) VIRTUAL INVISIBLE"
    change = f"ALTER TABLE {table} ADD COLUMN {made}, ADD INDEX {quoting.name(dialect, index)} ({virtual})"
    return _if_virtual_column("NOT EXISTS", change, table_name, column_name, schema)


def drop_index(dialect: Dialect, table_name: str, column_name: str, schema: str | None, multiple: bool) -> list[str]:
    """The SQL that undoes `create_index`, and does nothing where the index is not there."""
    if not _has_such(dialect, multiple):
        return []
    if kind_of(dialect) != "mysql":
        return [f"DROP INDEX IF EXISTS {quoting.name(dialect, schema, index_name(table_name, column_name))}"]
    # The index goes with its only column.
    virtual = quoting.name(dialect, virtual_column(column_name))
    change = f"ALTER TABLE {quoting.name(dialect, schema, table_name)} DROP COLUMN {virtual}"
    return _if_virtual_column("EXISTS", change, table_name, column_name, schema)


def _if_virtual_column(exists: str, change: str, table_name: str, column_name: str, schema: str | None) -> list[str]:
    """A change that is made where the virtual column exists, or does not: MySQL has no `IF EXISTS` for columns."""
    asked = (
        f"{exists} (SELECT 1 FROM information_schema.columns "  # noqa: S608  # literals, and quoted ones
        f"WHERE table_schema = {_literal(schema) if schema else 'database()'} "
        f"AND table_name = {_literal(table_name)} AND column_name = {_literal(virtual_column(column_name))})"
    )
    return [
        f"SET @lading_change = if({asked}, {_literal(change)}, 'DO 0')",
        "PREPARE lading_change FROM @lading_change",
        "EXECUTE lading_change",
        "DEALLOCATE PREPARE lading_change",
    ]


def has_index(connection: Connection, table_name: str, column_name: str, schema: str | None, multiple: bool) -> bool:
    """Whether a column has the index that `create_index` makes; false also where it makes none."""
    dialect = connection.dialect
    if not _has_such(dialect, multiple):
        return False
    schema = schema or dialect.default_schema_name
    if kind_of(dialect) == "sqlite":
        master = quoting.name(dialect, schema, "sqlite_master").replace(":", "\\:")
        asked = text(f"SELECT 1 FROM {master} WHERE tbl_name = :table AND name = :index")  # noqa: S608  # quoted
    elif kind_of(dialect) == "postgresql":
        asked = text(
            "SELECT 1 FROM pg_indexes WHERE schemaname = :schema AND tablename = :table AND indexname = :index"
        )
    else:
        asked = text(
            "SELECT 1 FROM information_schema.statistics "
            "WHERE table_schema = :schema AND table_name = :table AND index_name = :index"
        )
    values = {"schema": schema, "table": table_name, "index": index_name(table_name, column_name)}
    return connection.execute(asked, values).first() is not None


def _has_such(dialect: Dialect, multiple: bool) -> bool:
    return dialect.name == "postgresql" or (dialect.name in _KINDS and not multiple)


def _literal(value: str) -> str:
    return quoting.literal(value.replace("\\", "\\\\"))  # which is an escape in MariaDB and MySQL
