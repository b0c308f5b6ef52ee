"""Two-phase commit: what is prepared outlives its session, so nothing is deleted on a guess."""

from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session

from tests.orm.conftest import Database, Sessions, Store, on
from tests.orm.models import Document, file, read
from tests.orm.test_lifecycle import check

two_phases = on("postgresql", "mariadb")


def begin(sessions: Sessions) -> Session:
    """A session in two phases, and a document that has an old file and is given a new one."""
    with sessions() as session:
        session.add(Document(id=1, file=file(b"old")))
        session.commit()
    session = sessions(twophase=True)
    session.get_one(Document, 1).file = file(b"new")
    session.flush()
    return session


def finish(sessions: Sessions, xid: str, end: str) -> None:
    """What an operator does with a transaction that was left prepared."""
    with sessions() as session:
        connection = session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        word = f"{end} PREPARED" if connection.dialect.name == "postgresql" else f"XA {end}"
        connection.exec_driver_sql(f"{word} '{xid}'")


@two_phases
def test_commit(db: Database, store: Store) -> None:
    """Committed in two phases, the new file stays and the old one goes at once."""

    @db
    def scenario(sessions: Sessions) -> None:
        with begin(sessions) as session:
            session.commit()
            assert read(session.get_one(Document, 1).file) == b"new"
            check(session, store)


@two_phases
def test_rollback_before_the_first_phase(db: Database, store: Store) -> None:
    """Rolled back before it was prepared, the new file goes at once and the old one stays."""

    @db
    def scenario(sessions: Sessions) -> None:
        with begin(sessions) as session:
            session.rollback()
            assert read(session.get_one(Document, 1).file) == b"old"
            check(session, store)


@two_phases
def test_rollback_between_the_phases(db: Database, store: Store) -> None:
    """Taken back when it was prepared, neither file goes: a sweep will tell."""

    @db
    def scenario(sessions: Sessions) -> None:
        with begin(sessions) as session:
            session.prepare()
            session.rollback()
        with sessions() as session:
            assert read(session.get_one(Document, 1).file) == b"old"
        assert len(store) == 2


@two_phases
@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
@pytest.mark.parametrize("tried", ["commit", "rollback", "close"])
def test_a_session_that_dies_between_the_phases(db: Database, store: Store, tried: str, end: str) -> None:
    """When the connection goes after it was prepared, either file may be the one: both stay until somebody decides."""

    @db
    def scenario(sessions: Sessions) -> None:
        session = begin(sessions)
        connection = session.connection()
        transaction: Any = connection.get_transaction()
        session.prepare()
        connection.invalidate()
        with suppress(SQLAlchemyError, AttributeError):
            getattr(session, tried)()
        session.close()
        assert len(store) == 2
        finish(sessions, transaction.xid, end)
        with sessions() as other:
            assert read(other.get_one(Document, 1).file) == (b"new" if end == "COMMIT" else b"old")


@on("postgresql")
def test_a_first_phase_that_is_refused(db: Database, store: Store) -> None:
    """A transaction that the database refuses to prepare is rolled back, and its new file goes at once."""

    @db
    def scenario(sessions: Sessions) -> None:
        with begin(sessions) as session:
            # PostgreSQL prepares no transaction that has used a temporary table.
            session.execute(text("CREATE TEMPORARY TABLE passing (id int)"))
            with pytest.raises(DBAPIError):
                session.commit()
            session.rollback()
            assert read(session.get_one(Document, 1).file) == b"old"
            check(session, store)
