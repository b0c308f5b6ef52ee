"""The triggers of one table on SQLite: after UPDATE of its columns, and after DELETE."""

from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, CursorResult, Dialect

from lading.errors import ConfigurationError
from lading.orm.quoting import literal, name

if TYPE_CHECKING:
    from lading.orm.triggers import FileTriggers

NAMES = ("update", "delete")


def create(triggers: "FileTriggers", stamp: str, dialect: Dialect) -> list[str]:
    """The statements that make them anew.

    Raises:
        ConfigurationError: the outbox is in another schema, which a trigger of SQLite cannot reach.
    """
    if triggers.outbox_schema != triggers.schema:
        raise ConfigurationError(
            f"a trigger of SQLite writes to its own database only: {triggers.table!r} is in schema "
            f"{triggers.schema!r}, its outbox in {triggers.outbox_schema!r}"
        )
    table, columns = name(dialect, triggers.table), [name(dialect, column) for column in triggers.columns]
    changed = " OR ".join(f"OLD.{column} IS NOT NEW.{column}" for column in columns)
    events = {
        "update": f"UPDATE OF {', '.join(columns)} ON {table} FOR EACH ROW WHEN {changed}",
        "delete": f"DELETE ON {table} FOR EACH ROW",
    }
    made = [
        f"CREATE TRIGGER {_name(triggers.table, triggers.schema, each, dialect)} AFTER {when}\n"
        f"BEGIN\n  -- {stamp}\n  {_insert(triggers, each, dialect)};\nEND"
        for each, when in events.items()
    ]
    return [*drop(triggers.table, triggers.schema, dialect), *made]


def drop(table: str, schema: str | None, dialect: Dialect) -> list[str]:
    """The statements that drop them."""
    return [f"DROP TRIGGER IF EXISTS {_name(table, schema, each, dialect)}" for each in NAMES]


def installed(connection: Connection, schema: str | None) -> CursorResult[Any]:
    """Table, trigger and text of the triggers there."""
    master = name(connection.dialect, schema, "sqlite_master")
    asked = f"SELECT tbl_name, name, sql FROM {master} WHERE type = 'trigger'"
    return connection.exec_driver_sql(asked)


def _name(table: str, schema: str | None, event: str, dialect: Dialect) -> str:
    return name(dialect, schema, f"lading_{table}_{event}")


def _insert(triggers: "FileTriggers", event: str, dialect: Dialect) -> str:
    delay = f"'{triggers.delay.total_seconds():+.3f} seconds'"
    texts = "typeof(backend) = 'text' AND typeof(path) = 'text'"
    kept = f"AND (backend, path) NOT IN (SELECT backend, path FROM ({_files(triggers, dialect, 'NEW')}) WHERE {texts})"
    return f"""INSERT INTO {name(dialect, triggers.outbox)} (backend, path, reason, created_at, not_before, attempts)
    SELECT backend, path, substr(min(reason) || ': {event}', 1, 255), {_moment()}, {_moment(delay)}, 0
    FROM ({_files(triggers, dialect, "OLD")})
    WHERE {texts} AND length(backend) <= 255 AND length(path) <= 1024
    {kept if event == "update" else ""}
    GROUP BY backend, path"""


def _files(triggers: "FileTriggers", dialect: Dialect, row: str) -> str:
    """The files of a row: an object is one file, an array several, all else none, also what is no JSON."""

    def of(column: str) -> str:
        value = f"{row}.{name(dialect, column)}"
        member = "CASE file.type WHEN 'object' THEN json_extract(file.value, '$.{}') END".format
        return f"""
      SELECT {member("backend")} AS backend, coalesce({member("path")}, {member("filename")}) AS path,
        {literal(f"{triggers.table}.{column}")} AS reason
      FROM json_each(CASE WHEN json_valid({value}) THEN
        CASE json_type({value}) WHEN 'array' THEN {value} WHEN 'object' THEN json_array(json({value})) END
      END) AS file"""

    return " UNION ALL".join(map(of, triggers.columns)) + "\n    "


def _moment(*modifiers: str) -> str:
    """As SQLAlchemy writes a time, to the microsecond, though SQLite's clock has milliseconds only."""
    arguments = ", ".join(("'%Y-%m-%d %H:%M:%f'", "'now'", *modifiers))
    return f"strftime({arguments}) || '000'"
