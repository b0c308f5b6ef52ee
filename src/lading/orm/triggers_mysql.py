"""The triggers of one table on MariaDB (10.6 and newer) and MySQL (8.0 and newer): after UPDATE, and after DELETE.

The stamp is a value, not a comment: the command line clients take comments out of what they send.
"""

from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, CursorResult, Dialect, text

from lading.orm.quoting import literal, name, short

if TYPE_CHECKING:
    from lading.orm.triggers import FileTriggers

NAMES = ("update", "delete")

INSTALLED = text("""
    SELECT event_object_table, trigger_name, action_statement FROM information_schema.triggers
    WHERE event_object_schema = coalesce(:schema, DATABASE())
""")


def create(triggers: "FileTriggers", stamp: str, dialect: Dialect) -> list[str]:
    """The statements that make them anew; on MariaDB without a moment in which there are none."""
    table = name(dialect, triggers.schema, triggers.table)
    replaces = getattr(dialect, "is_mariadb", False)
    made = [
        f"CREATE {'OR REPLACE ' if replaces else ''}TRIGGER {_name(triggers.table, triggers.schema, each, dialect)} "
        f"AFTER {each.upper()} ON {table} FOR EACH ROW\n{_body(triggers, each, stamp, dialect)}"
        for each in NAMES
    ]
    return made if replaces else [*drop(triggers.table, triggers.schema, dialect), *made]


def drop(table: str, schema: str | None, dialect: Dialect) -> list[str]:
    """The statements that drop them."""
    return [f"DROP TRIGGER IF EXISTS {_name(table, schema, each, dialect)}" for each in NAMES]


def installed(connection: Connection, schema: str | None) -> CursorResult[Any]:
    """Table, trigger and text of the triggers there."""
    return connection.execute(INSTALLED, {"schema": schema})


def _name(table: str, schema: str | None, event: str, dialect: Dialect) -> str:
    return name(dialect, schema, short(f"lading_{table}", f"_{event}"))


def _body(triggers: "FileTriggers", event: str, stamp: str, dialect: Dialect) -> str:
    """An INSERT inside an IF: by itself it would make temporary tables also for rows that let go of nothing."""
    columns = [name(dialect, column) for column in triggers.columns]
    if event == "update":
        concerned = [f"NOT (CAST(OLD.{each} AS BINARY) <=> CAST(NEW.{each} AS BINARY))" for each in columns]
    else:
        concerned = [f"OLD.{each} IS NOT NULL" for each in columns]
    return f"""IF '{stamp}' <> '' AND ({" OR ".join(concerned)}) THEN
  {_insert(triggers, event, dialect)};
END IF"""


def _insert(triggers: "FileTriggers", event: str, dialect: Dialect) -> str:
    outbox = name(dialect, triggers.outbox_schema, triggers.outbox)
    delay = f"INTERVAL {triggers.delay.total_seconds():.6f} SECOND"
    # As bytes: by their collations `a` may be `A`, and `a` with a space after it is `a`. Grouped by a hash: longer keys
    # need a temporary table on disk, for each row.
    kept = f"""
    AND NOT EXISTS (SELECT 1 FROM ({_files(triggers, dialect, "NEW")}) AS named
      WHERE CAST(named.backend AS BINARY) = CAST(was.backend AS BINARY)
      AND CAST(named.path AS BINARY) = CAST(was.path AS BINARY))"""
    return f"""INSERT INTO {outbox} (backend, path, reason, created_at, not_before, attempts)
    SELECT MIN(was.backend), MIN(was.path), LEFT(CONCAT(MIN(was.reason), ': {event}'), 255),
      UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) + {delay}, 0
    FROM ({_files(triggers, dialect, "OLD")}) AS was
    WHERE CHAR_LENGTH(was.backend) <= 255 AND CHAR_LENGTH(was.path) <= 1024{kept if event == "update" else ""}
    GROUP BY SHA1(CONCAT(was.backend, CHAR(0), was.path))"""


def _files(triggers: "FileTriggers", dialect: Dialect, row: str) -> str:
    """The files of a row: an object is one file, an array several, all else none, also what is no JSON.

    One character longer than the outbox takes: MariaDB cuts off the rest, and what is cut off names another object.
    """

    def of(column: str) -> str:
        value = f"{row}.{name(dialect, column)}"
        return f"""
      SELECT file.backend, COALESCE(file.path, file.filename) AS path,
        {literal(f"{triggers.table}.{column}".replace(chr(92), chr(92) * 2))} AS reason
      FROM JSON_TABLE(
        IF(JSON_VALID({value}), JSON_MERGE_PRESERVE('[]', {value}), NULL), '$[*]' COLUMNS (
          backend VARCHAR(256) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.backend',
          path VARCHAR(1025) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.path',
          filename VARCHAR(1025) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.filename'
        )
      ) AS file"""

    return " UNION ALL".join(map(of, triggers.columns)) + "\n    "
