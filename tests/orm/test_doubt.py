"""What is deleted stands on what the database did, not on what the session was told."""

import sqlite3
import time
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any, Literal

import psycopg
import pytest
from sqlalchemy import URL, Engine, ForeignKey, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from lading import FileObject, StoredObject
from lading.errors import ConfigurationError, StateError
from tests import databases
from tests.conftest import WORKER, port_of
from tests.orm.conftest import Database, Sessions, Store, on
from tests.orm.models import Base, Document, Folder, file, read, registry
from tests.orm.test_lifecycle import check
from tests.services import mariadb


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


@on("postgresql")
def test_an_error_at_the_driver(db: Database, store: Store) -> None:
    """So it does after an error that was caught at the driver's own cursor, which SQLAlchemy never hears of."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            document = Document(id=1, file=file(b"old"))
            session.add(document)
            session.commit()
            document.file = file(b"new")
            session.flush()
            driver: Any = session.connection().connection
            with pytest.raises(session.connection().dialect.loaded_dbapi.Error):
                driver.cursor().execute("SELECT nonsense")
            with pytest.raises(DBAPIError, match="aborted"):
                session.commit()
            session.rollback()
            assert read(document.file) == b"old"
            check(session, store)


@on("postgresql", inline_only=True)
def test_a_commit_costs_no_query(db: Database, store: Store) -> None:
    """Where psycopg is the driver, nothing is asked before COMMIT: it knows of an error itself."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            session.add(Document(id=1, file=file()))
            session.flush()
            sent: list[str] = []
            event.listen(session.connection(), "before_cursor_execute", lambda *call: sent.append(call[2]))
            session.commit()
            assert sent == []


class Ambiguous(psycopg.Error):
    """No server is made to say this easily: psycopg's error of the SQLSTATE."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__("it may have been committed")
        self.sqlstate = sqlstate


@pytest.mark.parametrize("sqlstate", ["40003", "08007"])
@on("postgresql", inline_only=True)
def test_a_commit_in_doubt(db: Database, store: Store, sqlstate: str) -> None:
    """A server that does not know what became of its COMMIT has not refused it: both files stay."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            session.add(Document(id=1, file=file(b"old")))
            session.commit()
            session.get_one(Document, 1).file = file(b"new")
            session.flush()
            dialect: Any = session.connection().dialect
            really = dialect.do_commit

            def commit(connection: Any) -> None:
                really(connection)
                raise Ambiguous(sqlstate)

            dialect.do_commit = commit
            with pytest.raises(DBAPIError, match="may have been"):
                session.commit()
            dialect.do_commit = really
        with sessions() as session:
            assert read(session.get_one(Document, 1).file) == b"new"
            assert len(store) == 2


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


@pytest.fixture(scope="module")
def rolls_back_on_timeout() -> URL:
    """A MariaDB that takes a whole transaction back where a statement has waited too long."""
    recipe = replace(
        mariadb.RECIPE,
        name="mariadb-rolls-back",
        command=lambda data, port: [*mariadb.command(data, port), "--innodb-rollback-on-timeout=1"],
    )
    server = make_url(f"mariadb+pymysql://root@127.0.0.1:{port_of(recipe)}?charset=utf8mb4")
    engine = create_engine(server)
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE lading_{WORKER} CHARACTER SET utf8mb4"))
    engine.dispose()
    return server.set(database=f"lading_{WORKER}")


def wait_too_long(sessions: Sessions) -> Session:
    """A session that has replaced a file, and has caught what came of waiting for a row."""
    with sessions() as session:
        session.add_all([Document(id=1, file=file(b"old")), Folder(id=1)])
        session.commit()
    session = sessions()
    session.get_one(Document, 1).file = file(b"new")
    session.flush()
    with sessions() as other:
        other.execute(text("SELECT * FROM folder WHERE id = 1 FOR UPDATE"))
        session.execute(text("SET innodb_lock_wait_timeout = 1"))
        with pytest.raises(OperationalError, match="1205"):
            session.execute(text("SELECT * FROM folder WHERE id = 1 FOR UPDATE"))
    return session


def test_a_timeout_that_rolls_back(store: Store, rolls_back_on_timeout: URL) -> None:
    """Where MariaDB takes the transaction back after a lock wait, it cannot be committed any more."""
    engine = create_engine(rolls_back_on_timeout)
    Base.metadata.create_all(engine)
    with wait_too_long(sessionmaker(engine)) as session:
        with pytest.raises(StateError, match="rolled the transaction back"):
            session.commit()
        session.rollback()
        assert read(session.get_one(Document, 1).file) == b"old"
        check(session, store)
    engine.dispose()


@on("mariadb", inline_only=True)
def test_a_timeout(db: Database, store: Store) -> None:
    """As MariaDB comes, it takes the statement back alone, and the rest is committed."""

    @db
    def scenario(sessions: Sessions) -> None:
        with wait_too_long(sessions) as session:
            session.commit()
            assert read(session.get_one(Document, 1).file) == b"new"
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


def test_two_sessions_on_a_connection(store: Store, tmp_path: Path) -> None:
    """That one session is done leaves the other watching: its COMMIT whose answer is lost is no rollback."""
    engine = sqlite(tmp_path / "db")
    Base.metadata.create_all(engine)
    dialect: Any = engine.dialect
    really = dialect.do_commit

    def commit(connection: Any) -> None:
        really(connection)
        raise ConnectionError("the answer is lost")

    with engine.connect() as connection, Session(connection) as session:
        session.add(Document(id=1, file=file(b"outer")))
        session.flush()
        with Session(connection) as inner:
            inner.add(Document(id=2, file=file(b"inner")))
            inner.commit()
        dialect.do_commit = commit
        with pytest.raises(ConnectionError):
            session.commit()
        dialect.do_commit = really
    with Session(engine) as session:
        assert read(session.get_one(Document, 1).file) == b"outer"
        assert read(session.get_one(Document, 2).file) == b"inner"
    engine.dispose()


def test_a_session_that_outlives_its_commit(store: Store, tmp_path: Path) -> None:
    """What fails on a connection after one session's COMMIT does not take back what the next one has written."""
    engine = sqlite(tmp_path / "db")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Document(id=1, file=file(b"old")))
        session.commit()
    with engine.connect() as connection:
        connection.begin()
        with (
            Session(connection, join_transaction_mode="control_fully") as first,
            Session(connection, join_transaction_mode="control_fully") as second,
        ):
            first.add(Document(id=2, file=file()))
            first.flush()
            connection.commit()
            second.get_one(Document, 1).file = file(b"new")
            second.flush()
            with pytest.raises(OperationalError):
                second.execute(text("SELECT nonsense"))
            second.commit()
    with Session(engine) as session:
        assert read(session.get_one(Document, 1).file) == b"new"
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


@on("postgresql", "mariadb")
def test_autocommit_of_the_driver(db: Database, store: Store) -> None:
    """Nor can it where the driver commits by itself and SQLAlchemy does not know."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            driver: Any = session.connection().connection.dbapi_connection
            if db.name == "postgresql":
                driver.autocommit = True
            else:
                driver.autocommit(True)
            session.add(Document(id=1, file=file()))
            with pytest.raises(ConfigurationError, match="AUTOCOMMIT"):
                session.flush()
            session.rollback()
            assert session.get(Document, 1) is None
            assert len(store) == 0
            session.invalidate()


class Automatic(sqlite3.Connection):
    """A connection with `autocommit=True`, which Python has since 3.12: its commit() and rollback() do nothing."""

    autocommit = True


def test_autocommit_of_sqlite(world: Database, store: Store) -> None:
    """So it is with Python's own."""

    @world
    def scenario(sessions: Sessions) -> None:
        engine: Any = sessions.kw["bind"]
        event.listen(engine, "do_connect", lambda *call: call[3].update(factory=Automatic))
        with engine.connect() as connection:
            connection.invalidate()
        with sessions() as session:
            session.add(Document(id=1, file=file()))
            with pytest.raises(ConfigurationError, match="AUTOCOMMIT"):
                session.flush()
            session.rollback()
            assert len(store) == 0


@pytest.mark.parametrize("ends", ["commit", "rollback"])
@pytest.mark.parametrize("released", [False, True])
def test_sqlite_that_begins_nothing(store: Store, tmp_path: Path, ends: str, released: bool) -> None:
    """With `isolation_level=None` the driver begins no transaction: one is begun, and ends with the session's."""
    engine = create_engine(f"sqlite:///{tmp_path / 'db'}", connect_args={"isolation_level": None})
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Document(id=1, file=file(b"old")))
        session.commit()
        if released:
            with session.begin_nested():
                session.add(Document(id=2, file=file()))
        session.add(Document(id=3, file=file()))
        session.flush()
        getattr(session, ends)()
    with Session(engine) as session:
        assert (session.get(Document, 3) is not None) == (ends == "commit")
        if not released:  # else some of it is committed, and all files stay
            check(session, store)
    engine.dispose()


def test_an_error_after_a_release(store: Store, tmp_path: Path) -> None:
    """A statement that fails after SQLite took a RELEASE for COMMIT takes nothing back of either."""
    engine = create_engine(f"sqlite:///{tmp_path / 'db'}")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        with session.begin_nested():
            session.add(Document(id=1, file=file()))
        session.add(Folder(id=1))
        session.flush()
        with pytest.raises(OperationalError):
            session.execute(text("SELECT nonsense"))
        assert session.connection().scalar(text("SELECT count(*) FROM folder")) == 1
        session.rollback()
        check(session, store)
        assert len(store) == 1
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


@pytest.mark.parametrize("begins", [True, False], ids=["real BEGIN", "as it comes"])
def test_sqlite_refuses_to_commit(store: Store, tmp_path: Path, begins: bool) -> None:
    """A COMMIT that SQLite refuses because somebody reads is taken back, before its connection goes to the next."""
    path = tmp_path / "read.sqlite"
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 0.05})
    if begins:
        databases.begin_for_real(engine)
    Base.metadata.create_all(engine)
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM document").fetchall()
    with pytest.raises(OperationalError, match="locked"), Session(engine) as session:
        session.add(Document(id=1, file=file()))
        session.commit()
    reader.close()
    assert len(store) == 0
    with Session(engine) as session:
        session.add(Folder(id=1))
        session.commit()
        assert session.get(Document, 1) is None
    engine.dispose()
