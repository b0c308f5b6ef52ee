"""What SQLite does without SQLAlchemy's knowing: by itself Python's driver begins late, and SQLite may end early."""

from typing import Any

from sqlalchemy import Connection


def is_idle(connection: Connection) -> bool:
    """Whether SQLite is in no transaction, whatever SQLAlchemy thinks."""
    if connection.dialect.name != "sqlite" or connection.closed or connection.invalidated:
        return False
    driver: Any = connection.connection.driver_connection
    return not driver.in_transaction


def commits_by_itself(connection: Connection) -> bool:
    """Whether Python's driver was opened with `autocommit=True` (Python 3.12): its commit() and rollback() do nothing.

    aiosqlite keeps that to itself, and SQLite's connection answers to its own thread alone.
    """
    driver: Any = connection.connection.driver_connection
    if connection.dialect.driver != "aiosqlite":
        return getattr(driver, "autocommit", None) is True
    adapted: Any = connection.connection.dbapi_connection
    mode: object = adapted.run_async(_ask)
    return mode is True


async def _ask(driver: Any) -> object:
    mode: object = await driver._execute(getattr, driver._conn, "autocommit", None)
    return mode


def begin(connection: Connection) -> None:
    """Lock the database for writing before rows are looked at: SQLite has no `FOR UPDATE`.

    Python's driver begins no transaction before a SELECT, so what is read could change before it is acted on. In a
    transaction that was begun already SQLite itself refuses to write to what has changed since it was read.
    """
    if is_idle(connection):
        connection.exec_driver_sql("BEGIN IMMEDIATE")
