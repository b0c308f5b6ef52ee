"""The databases that everything in the ORM is tested on, and how one is made empty again between two tests."""

from typing import Any, Protocol

from sqlalchemy import Connection, Engine, event
from sqlalchemy.pool import ConnectionPoolEntry

SYNC = ("sqlite", "postgresql+psycopg", "mariadb+pymysql")
ASYNC = ("sqlite+aiosqlite", "postgresql+asyncpg", "postgresql+psycopg", "mariadb+asyncmy")


class Cursor(Protocol):
    """What is needed of a DBAPI cursor."""

    def execute(self, query: Any, /) -> Any: ...
    def fetchall(self) -> Any: ...


def begin_for_real(engine: Engine) -> None:
    """Make SQLite begin a transaction when SQLAlchemy does, not at the first write: savepoints mean nothing otherwise.

    SQLAlchemy's documented recipe for pysqlite and aiosqlite ("Enabling Non-Legacy SQLite Transactional Modes").
    Foreign keys are switched on, as they are everywhere else, and waiting for the disk off.
    """

    @event.listens_for(engine, "connect")
    def connect(connection: Any, entry: ConnectionPoolEntry) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA synchronous = OFF")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")


def empty_postgres(cursor: Cursor) -> None:
    """Drop everything in the schema; a test that left a transaction open makes this fail, not hang."""
    cursor.execute("SET lock_timeout = '5s'")
    cursor.execute("DROP SCHEMA public CASCADE")
    cursor.execute("CREATE SCHEMA public")


def empty_mariadb(cursor: Cursor) -> None:
    """Drop every table and view; a test that left a transaction open makes this fail, not hang."""
    cursor.execute("SET lock_wait_timeout = 5, foreign_key_checks = 0")
    cursor.execute("SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = DATABASE()")
    for name, kind in cursor.fetchall():
        cursor.execute(f"DROP {'VIEW' if kind == 'VIEW' else 'TABLE'} `{name}`")
