"""The triggers of one table on PostgreSQL: a function, called after UPDATE and DELETE, and before TRUNCATE."""

from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, CursorResult, Dialect, text

from lading.orm.quoting import literal, name, short

if TYPE_CHECKING:
    from lading.orm.triggers import FileTriggers

NAMES = ("lading_update", "lading_delete", "lading_truncate")

INSTALLED = text("""
    SELECT class.relname, trigger.tgname, proc.prosrc
    FROM pg_catalog.pg_trigger AS trigger
    JOIN pg_catalog.pg_class AS class ON class.oid = trigger.tgrelid
    JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = class.relnamespace
    JOIN pg_catalog.pg_proc AS proc ON proc.oid = trigger.tgfoid
    WHERE namespace.nspname = coalesce(:schema, current_schema()) AND trigger.tgparentid = 0
    AND trigger.tgname IN ('lading_update', 'lading_delete', 'lading_truncate')
""")
"""Without the copies that PostgreSQL itself keeps for the partitions of a table."""


def create(triggers: "FileTriggers", stamp: str, dialect: Dialect) -> list[str]:
    """The statements that make them anew."""
    table, function = (
        name(dialect, triggers.schema, triggers.table),
        _function(triggers.table, triggers.schema, dialect),
    )
    columns = [name(dialect, column) for column in triggers.columns]
    changed = " OR ".join(f"OLD.{column}::jsonb IS DISTINCT FROM NEW.{column}::jsonb" for column in columns)
    body = _body(triggers, stamp, dialect)
    dollars = "$lading$"
    while dollars in body:
        dollars = f"{dollars[:-1]}_$"
    # The search path is that of now: another writer's may not lead to the outbox.
    head = f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT"
    events = {
        "lading_update": f"AFTER UPDATE ON {table} FOR EACH ROW WHEN ({changed})",
        "lading_delete": f"AFTER DELETE ON {table} FOR EACH ROW",
        "lading_truncate": f"BEFORE TRUNCATE ON {table} FOR EACH STATEMENT",
    }
    return [
        f"{head} AS {dollars}\n{body}{dollars}",
        *(f"DROP TRIGGER IF EXISTS {each} ON {table}" for each in NAMES),
        *(f"CREATE TRIGGER {each} {when} EXECUTE FUNCTION {function}()" for each, when in events.items()),
    ]


def drop(table: str, schema: str | None, dialect: Dialect) -> list[str]:
    """The statement that drops them; the function would outlive its table."""
    return [f"DROP FUNCTION IF EXISTS {_function(table, schema, dialect)}() CASCADE"]


def installed(connection: Connection, schema: str | None) -> CursorResult[Any]:
    """Table, trigger and text of the triggers there."""
    return connection.execute(INSTALLED, {"schema": schema})


def _function(table: str, schema: str | None, dialect: Dialect) -> str:
    return name(dialect, schema, short(f"lading_{table}"))


def _body(triggers: "FileTriggers", stamp: str, dialect: Dialect) -> str:
    outbox = name(dialect, triggers.outbox_schema, triggers.outbox)

    def insert(event: str, old: str, but: str = "") -> str:
        return f"""INSERT INTO {outbox} (backend, path, reason, created_at, not_before, attempts)
    SELECT was.backend, was.path, left(min(was.reason) || ': {event}', 255),
      at, at + interval '{triggers.delay.total_seconds():.6f} seconds', 0
    FROM ({old}) AS was CROSS JOIN clock_timestamp() AS at
    WHERE char_length(was.backend) <= 255 AND char_length(was.path) <= 1024{but}
    GROUP BY was.backend, was.path, at"""

    old = _files(triggers, dialect, "OLD")
    new = f"""
    AND NOT EXISTS (SELECT FROM ({_files(triggers, dialect, "NEW")}) AS named
      WHERE named.backend = was.backend AND named.path = was.path)"""
    # By its number, not its name: the table may have been renamed since.
    truncate = insert("truncate", _files(triggers, dialect, "old", "\0 AS old CROSS JOIN ")).split("\0")
    return f"""-- {stamp}
BEGIN
  IF TG_OP = 'UPDATE' THEN
    {insert("update", old, new)};
  ELSIF TG_OP = 'DELETE' THEN
    {insert("delete", old)};
  ELSE
    EXECUTE {" || TG_RELID::regclass || ".join(map(literal, truncate))};
  END IF;
  RETURN NULL;
END
"""


def _files(triggers: "FileTriggers", dialect: Dialect, row: str, source: str = "") -> str:
    """The files of a row, or of all rows of a source: an object is one file, an array several, all else none."""

    def of(column: str) -> str:
        value = f"{row}.{name(dialect, column)}::jsonb"
        return f"""
      SELECT file.value ->> 'backend' AS backend, coalesce(file.value ->> 'path', file.value ->> 'filename') AS path,
        {literal(f"{triggers.table}.{column}")} AS reason
      FROM {source}jsonb_array_elements(
        CASE jsonb_typeof({value}) WHEN 'array' THEN {value} WHEN 'object' THEN jsonb_build_array({value}) END
      ) AS file"""

    return " UNION ALL".join(map(of, triggers.columns)) + "\n    "
