"""What is deleted stands on what the database did, not on what the session was told."""

import time
from pathlib import Path
from threading import Thread
from typing import Any, Literal

import pytest
from sqlalchemy import Engine, ForeignKey, create_engine, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from lading import FileObject, StoredObject
from lading.errors import ConfigurationError, StateError
from tests import databases
from tests.orm.conftest import Database, Sessions, Store, on
from tests.orm.models import Base, Document, Folder, file, read, registry
from tests.orm.test_lifecycle import check


def sqlite(path: Path, **options: Any) -> Engine:
    engine = create_engine(f"sqlite:///{path}", **options)
    databases.begin_for_real(engine)
    return engine


@on("postgresql")
def test_a_commit_that_rolls_back(db: Database, store: Store) -> None:
    """PostgreSQL takes COMMIT for ROLLBACK after an error that somebody caught: commit() raises, the old file stays."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            document = Document(id=1, file=file(b"old"))
            session.add(document)
            session.commit()
            document.file = file(b"new")
            session.flush()
            with pytest.raises(DBAPIError):
                session.execute(text("SELECT nonsense"))
            with pytest.raises(DBAPIError, match="aborted"):
                session.commit()
            session.rollback()
            assert read(document.file) == b"old"
            check(session, store)


@on("postgresql", "mariadb", "sqlite")
def test_an_error_in_a_savepoint(db: Database, store: Store) -> None:
    """An error that a savepoint has taken back does not hinder the commit."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            session.add(Document(id=1, file=file()))
            session.flush()
            with pytest.raises(DBAPIError), session.begin_nested():
                session.execute(text("SELECT nonsense FROM nowhere"))
            session.commit()
            check(session, store)
            assert len(store) == 1


@on("mariadb", inline_only=True)
def test_a_deadlock(db: Database, store: Store) -> None:
    """InnoDB breaks a deadlock by rolling a transaction back: caught or not, it cannot be committed any more."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            session.add_all([Document(id=1, file=file(b"old")), Folder(id=1), Folder(id=2)])
            session.commit()
        with sessions() as session, sessions() as other:
            session.get_one(Document, 1).file = file(b"new")
            session.flush()
            session.execute(text("SELECT * FROM folder WHERE id = 1 FOR UPDATE"))
            # InnoDB gives up the transaction that has changed less.
            other.execute(text("INSERT INTO folder VALUES (10), (11), (12), (13), (14), (15)"))
            other.execute(text("SELECT * FROM folder WHERE id = 2 FOR UPDATE"))
            waiting = Thread(target=other.execute, args=(text("SELECT * FROM folder WHERE id = 1 FOR UPDATE"),))
            waiting.start()
            time.sleep(0.3)
            with pytest.raises(OperationalError, match="1213"):
                session.execute(text("SELECT * FROM folder WHERE id = 2 FOR UPDATE"))
            waiting.join()
            other.rollback()
            session.add(Folder(id=20))
            session.flush()
            with pytest.raises(StateError, match="rolled the transaction back"):
                session.commit()
        with sessions() as session:
            session.add(Folder(id=21))
            session.commit()
            assert session.get(Folder, 20) is None
            assert read(session.get_one(Document, 1).file) == b"old"
            check(session, store)


def test_sqlite_rolls_back(world: Database, store: Store) -> None:
    """A statement that makes SQLite roll everything back leaves nothing to commit."""

    @world
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            document = Document(id=1, file=file(b"old"))
            session.add(document)
            session.commit()
            document.file = file(b"new")
            session.flush()
            with pytest.raises(IntegrityError):
                session.execute(text("INSERT OR ROLLBACK INTO document (id, pages) VALUES (1, '[]')"))
            with pytest.raises(StateError, match="rolled the transaction back"):
                session.commit()
            session.rollback()
            assert read(document.file) == b"old"
            check(session, store)


JoinMode = Literal["conditional_savepoint", "rollback_only", "control_fully", "create_savepoint"]


@pytest.mark.parametrize("mode", ["conditional_savepoint", "rollback_only", "control_fully", "create_savepoint"])
@pytest.mark.parametrize("ends", ["commit", "rollback", "close"])
@pytest.mark.parametrize("outer", ["commit", "rollback"])
def test_a_joined_transaction(store: Store, tmp_path: Path, mode: JoinMode, ends: str, outer: str) -> None:
    """A session on a connection whose transaction another ends deletes nothing that a row may yet name."""
    engine = sqlite(tmp_path / "db")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Document(id=1, file=file(b"old")))
        session.commit()
    with engine.connect() as connection:
        transaction = connection.begin()
        with Session(connection, join_transaction_mode=mode) as session:
            session.get_one(Document, 1).file = file(b"new")
            session.flush()
            getattr(session, ends)()
        if transaction.is_active:
            getattr(transaction, outer)()
    with Session(engine) as session:
        assert read(session.get_one(Document, 1).file) in {b"old", b"new"}
    engine.dispose()


def test_a_connection_of_ones_own(store: Store, tmp_path: Path) -> None:
    """A session on a connection that is in no transaction ends its own, and all is as with an engine."""
    engine = sqlite(tmp_path / "db")
    Base.metadata.create_all(engine)
    with engine.connect() as connection, Session(connection) as session:
        document = Document(id=1, file=file(b"old"))
        session.add(document)
        session.commit()
        document.file = file(b"new")
        session.commit()
        check(session, store)
        document.file = file(b"newer")
        session.flush()
        session.rollback()
        check(session, store)
    engine.dispose()


class One(DeclarativeBase):
    pass


class Row(One):
    __tablename__ = "row"
    id: Mapped[int] = mapped_column(primary_key=True)
    file: Mapped[FileObject | None] = mapped_column(StoredObject("mem", storages=registry))


class Referring(One):
    __tablename__ = "referring"
    id: Mapped[int] = mapped_column(primary_key=True)
    row_id: Mapped[int] = mapped_column(ForeignKey("row.id", deferrable=True, initially="DEFERRED"))
    file: Mapped[FileObject | None] = mapped_column(StoredObject("mem", storages=registry))


def test_two_databases(store: Store, tmp_path: Path) -> None:
    """When the second of two databases refuses its COMMIT, what the first has committed keeps its file."""
    for attempt in range(8):  # SQLAlchemy commits them in any order
        first, second = sqlite(tmp_path / f"first{attempt}"), sqlite(tmp_path / f"second{attempt}")
        One.metadata.create_all(first)
        One.metadata.create_all(second)
        with Session(binds={Row: first, Referring: second}) as session:
            session.add_all([Row(id=1, file=file()), Referring(id=1, row_id=7, file=file())])
            with pytest.raises(IntegrityError):
                session.commit()
        with Session(first) as session:
            row = session.get(Row, 1)
            assert row is None or read(row.file) == b"content"
        first.dispose()
        second.dispose()


def test_autocommit(store: Store, tmp_path: Path) -> None:
    """On a connection in AUTOCOMMIT nothing can be taken back: it is refused, and nothing is left."""
    engine = sqlite(tmp_path / "db")
    Base.metadata.create_all(engine)
    automatic = create_engine(engine.url, isolation_level="AUTOCOMMIT")
    for bind in (automatic, engine.execution_options(isolation_level="AUTOCOMMIT")):
        with Session(bind) as session:
            session.add(Document(id=1, file=file()))
            with pytest.raises(ConfigurationError, match="AUTOCOMMIT"):
                session.flush()
            session.rollback()
            assert session.get(Document, 1) is None
            assert len(store) == 0
    automatic.dispose()
    engine.dispose()


def test_sqlite_without_begin(store: Store, tmp_path: Path) -> None:
    """As the driver comes, releasing the first savepoint is a COMMIT: what it wrote keeps its file whatever follows."""
    engine = create_engine(f"sqlite:///{tmp_path / 'db'}")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        with session.begin_nested():
            session.add(Document(id=1, file=file()))
        session.rollback()
        check(session, store)
        assert len(store) == 1
    engine.dispose()
