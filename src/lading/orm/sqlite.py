"""What SQLite does without SQLAlchemy's knowing: by itself Python's driver begins late, and SQLite may end early."""

from typing import Any

from sqlalchemy import Connection


def is_idle(connection: Connection) -> bool:
    """Whether SQLite is in no transaction, whatever SQLAlchemy thinks."""
    if connection.dialect.name != "sqlite" or connection.closed or connection.invalidated:
        return False
    driver: Any = connection.connection.driver_connection
    return not driver.in_transaction


def begin(connection: Connection) -> None:
    """Lock the database for writing before rows are looked at: SQLite has no `FOR UPDATE`.

    Python's driver begins no transaction before a SELECT, so what is read could change before it is acted on. In a
    transaction that was begun already SQLite itself refuses to write to what has changed since it was read.
    """
    if is_idle(connection):
        connection.exec_driver_sql("BEGIN IMMEDIATE")
