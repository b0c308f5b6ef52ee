"""A transaction in which all tables are seen as they were at one moment."""

from collections.abc import Generator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, Table, delete, false

from lading.orm.sqlite import is_idle


@contextmanager
def snapshot(engine: Engine, written: Table | None = None) -> Generator[Connection, None, None]:
    """A transaction to ask what rows name: what moves from one table to another meanwhile is in one of them.

    Args:
        engine: whose.
        written: the table that is to be written; SQLite lets nobody write what was read before another wrote, and so
            is locked first.
    """
    with engine.connect() as connection:
        if connection.dialect.name != "sqlite":
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        with connection.begin():
            if written is not None and connection.dialect.name == "sqlite":
                connection.execute(delete(written).where(false()))
            elif is_idle(connection):
                connection.exec_driver_sql("BEGIN")
            yield connection
