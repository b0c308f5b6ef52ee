"""What a transaction lets go of is entered by that transaction, and deleted by way of the outbox."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import MetaData, create_engine, delete, insert, select, update
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from lading import FileObject, Outbox, clock
from lading.errors import CleanupError, ConfigurationError, StateError
from lading.file import place
from lading.file import store as put
from lading.orm import flush
from lading.orm.bridge import wait
from lading.orm.ledger import Page
from lading.policy import Policy
from lading.testing import FaultyBackend
from tests.faulty import always
from tests.orm.conftest import Database, Sessions, Store
from tests.orm.models import file, registry
from tests.orm.outboxed import AT_ONCE, WITH_TRIGGERS, WITHOUT_TRIGGERS, Models

both = pytest.mark.parametrize("models", [WITHOUT_TRIGGERS, WITH_TRIGGERS], ids=["no triggers", "triggers"])


def add(session: Session, models: Models, **columns: Any) -> Any:
    document = models.document(**({"file": file()} | columns))
    session.add(document)
    session.commit()
    return document


def make(sessions: Sessions, models: Models) -> Session:
    session = sessions()
    models.base.metadata.create_all(session.get_bind())
    return session


@both
def test_a_replaced_file_waits(db: Database, store: Store, models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a flush replaces is entered in its transaction, once, and stays until the grace time has passed."""

    def scenario(sessions: Sessions) -> None:
        with make(sessions, models) as session:
            document = add(session, models)
            old = document.file.path
            document.file = file(b"new")
            session.flush()
            if db.name != "sqlite":
                assert models.waiting(session) == set()
            session.commit()
            (entry,) = models.entries(session)
            assert (entry.backend, entry.path, entry.attempts, entry.last_error) == ("mem", old, 0, None)
            assert entry.not_before - entry.created_at == timedelta(minutes=5)
            assert abs(entry.created_at - datetime.now(UTC)) < timedelta(seconds=60)
            assert store.paths() == {old, document.file.path}

    db(scenario)


@both
def test_whatever_lets_go(db: Database, store: Store, models: Models) -> None:
    """Clearing, removing from a list, deleting a row, and statements through a session all enter what they leave."""

    def scenario(sessions: Sessions) -> None:
        with make(sessions, models) as session:
            first = add(session, models, cover=file(), pages=[file(), file(), file()])
            second = add(session, models)
            third = add(session, models)
            expected = {first.file.path, first.pages[1].path}
            first.file = None
            del first.pages[1]
            session.commit()
            assert models.waiting(session) == expected
            expected |= {first.cover.path, *(page.path for page in first.pages)}
            session.delete(first)
            session.commit()
            assert models.waiting(session) == expected
            expected |= {second.file.path, third.file.path}
            session.execute(update(models.document).where(models.document.id == second.id).values(file=None))
            session.execute(delete(models.document).where(models.document.id == third.id))
            session.commit()
            assert models.waiting(session) == expected
            assert len(models.entries(session)) == len(expected)
            assert store.paths() == expected

    db(scenario)


@both
def test_what_is_rolled_back_is_not_entered(db: Database, store: Store, models: Models) -> None:
    """A rolled back transaction or savepoint leaves no entry, and the object that it had put is gone at once."""

    def scenario(sessions: Sessions) -> None:
        with make(sessions, models) as session:
            document = add(session, models)
            old = document.file.path
            document.file = file(b"new")
            session.flush()
            session.rollback()
            with pytest.raises(ZeroDivisionError), session.begin_nested():
                document.file = file(b"newer")
                session.flush()
                raise ZeroDivisionError
            session.commit()
            assert models.entries(session) == []
            assert store.paths() == {old}

    db(scenario)


@both
def test_a_moved_file_stays(world: Database, store: Store, models: Models) -> None:
    """A file that goes from one row to another within a transaction is not deleted at its end."""

    def scenario(sessions: Sessions) -> None:
        with make(sessions, models) as session:
            first = add(session, models)
            path = first.file.path
            second = models.document(file=first.file)
            first.file = None
            session.add(second)
            session.commit()
            assert (second.file.path, store.paths()) == (path, {path})

    world(scenario)


def test_without_grace_it_is_deleted_at_once(db: Database, store: Store) -> None:
    """With no time to wait, what was replaced is gone when `commit()` returns, and nothing waits."""

    def scenario(sessions: Sessions) -> None:
        with make(sessions, AT_ONCE) as session:
            document = add(session, AT_ONCE)
            document.file = file(b"new")
            session.commit()
            assert AT_ONCE.entries(session) == []
            assert store.paths() == {document.file.path}

    db(scenario)


def test_a_dead_store_does_not_fail_a_commit(db: Database, store: Store) -> None:
    """What cannot be deleted after a commit waits in the outbox with the error; `commit()` has done its work."""

    def scenario(sessions: Sessions) -> None:
        with make(sessions, AT_ONCE) as session:
            document = add(session, AT_ONCE)
            old = document.file.path
            registry.register_backend(FaultyBackend(store.backend, [always("delete")]), replace=True)
            document.file = file(b"new")
            session.commit()
            (entry,) = AT_ONCE.entries(session)
            assert (entry.path, entry.attempts) == (old, 1)
            assert "on cue" in entry.last_error
            assert entry.not_before > datetime.now(UTC)

    db(scenario)


@both
def test_a_dead_store_does_not_fail_a_rollback(db: Database, store: Store, models: Models) -> None:
    """What a rolled back transaction had put and cannot delete is entered by a transaction of its own, and is due."""

    def scenario(sessions: Sessions) -> None:
        with make(sessions, models) as session:
            registry.register_backend(FaultyBackend(store.backend, [always("delete")]), replace=True)
            session.add(models.document(file=file()))
            session.flush()
            session.rollback()
            (entry,) = models.entries(session)
            assert {entry.path} == store.paths()
            assert entry.not_before == entry.created_at

    db(scenario)


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_dead_store_does_not_fail_a_savepoint(db: Database, store: Store, end: str) -> None:
    """What a rolled back savepoint cannot delete is entered when the transaction ends, whichever way that is."""
    models = WITH_TRIGGERS

    def scenario(sessions: Sessions) -> None:
        with make(sessions, models) as session:
            registry.register_backend(FaultyBackend(store.backend, [always("delete")]), replace=True)
            with pytest.raises(ZeroDivisionError), session.begin_nested():
                session.add(models.document(file=file()))
                session.flush()
                raise ZeroDivisionError
            getattr(session, end)()
            assert models.waiting(session) == store.paths()
            assert len(store) == 1

    db(scenario)


def test_a_dead_store_does_not_hide_why_a_flush_failed(world: Database, store: Store) -> None:
    """A failed flush raises its own error; what it had put and cannot delete is entered."""
    models = WITH_TRIGGERS

    def scenario(sessions: Sessions) -> None:
        with make(sessions, models) as session:
            add(session, models, name="taken")
            before = store.paths()
            registry.register_backend(FaultyBackend(store.backend, [always("delete")]), replace=True)
            session.add(models.document(name="taken", file=file()))
            with pytest.raises(IntegrityError) as caught:
                session.commit()
            assert not hasattr(caught.value, "__notes__")
            session.rollback()
            assert models.waiting(session) == store.paths() - before

    world(scenario)


def test_neither_store_nor_database(world: Database, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can neither be deleted nor entered is reported: somebody has to know."""
    models = WITH_TRIGGERS

    def scenario(sessions: Sessions) -> None:
        with make(sessions, models) as session:
            registry.register_backend(FaultyBackend(store.backend, [always("delete")]), replace=True)
            session.add(models.document(file=file()))
            session.flush()
            path = store.paths()

            def fail(*_: object, **__: object) -> None:
                raise OperationalError("INSERT", None, Exception("the database is gone"))

            monkeypatch.setattr(Outbox, "add", fail)
            with pytest.raises(CleanupError) as caught:
                session.rollback()
            assert caught.value.left == tuple(("mem", one) for one in path)
            assert isinstance(caught.value.exceptions[0], OperationalError)

    world(scenario)


def test_a_file_comes_back_to_a_row(db: Database, store: Store) -> None:
    """An object that waits and is not being deleted yet is taken off when a row is given it again."""
    models = WITH_TRIGGERS

    def scenario(sessions: Sessions) -> None:
        with make(sessions, models) as session:
            staged = file(to_filename="staged")
            place(staged, "mem", registry)
            wait(lambda world: put(staged, world, Policy()))
            with Session(session.get_bind()) as other, other.begin():
                models.outbox.add(other.connection(), {("mem", staged.path)}, "orphan")
            session.add(models.document(file=staged))
            session.commit()
            assert models.entries(session) == []

    db(scenario)


def test_a_file_that_is_being_deleted_does_not(db: Database, store: Store) -> None:
    """An object whose deletion has begun is refused before a row is written; nothing is left of the attempt."""
    models = WITH_TRIGGERS

    def scenario(sessions: Sessions) -> None:
        with make(sessions, models) as session:
            path = add(session, models).file.path
            session.rollback()
            with Session(session.get_bind()) as other, other.begin():
                other.execute(
                    insert(models.outbox.table).values(
                        backend="mem",
                        path="claimed",
                        reason="",
                        created_at=datetime.now(UTC),
                        not_before=datetime.now(UTC),
                        attempts=1,
                    )
                )
            session.add(models.document(file=FileObject("mem", path="claimed", storages=registry)))
            with pytest.raises(StateError, match="being deleted"):
                session.commit()
            session.rollback()
            assert session.scalar(select(models.document.id).where(models.document.id != 1)) is None
            assert store.paths() == {path}
            assert models.waiting(session) == {"claimed"}

    db(scenario)


def test_a_file_under_another_name_of_its_backend(world: Database, store: Store) -> None:
    """An alias is no way around a deletion that has begun; an object of another backend at that path is another."""
    models = WITH_TRIGGERS
    registry.alias("old", "mem")
    registry.register_backend("memory://", key="other")

    def scenario(sessions: Sessions) -> None:
        with make(sessions, models) as session:
            with session.begin():
                claim_entry(session, models, "mem", "claimed")
                claim_entry(session, models, "other", "elsewhere")
            session.add(models.document(file=FileObject("old", path="claimed", storages=registry)))
            with pytest.raises(StateError, match="being deleted"):
                session.commit()
            session.rollback()
            session.add(models.document(file=file(to_filename="elsewhere")))
            session.commit()
            assert models.waiting(session) == {"claimed", "elsewhere"}

    world(scenario)


@pytest.mark.parametrize("by", ["a flush", "a statement"])
@pytest.mark.parametrize("attempts", [0, 1])
def test_a_path_that_is_used_again(world: Database, store: Store, attempts: int, by: str) -> None:
    """What is put where an object waits to be deleted takes the entry off, and is refused where a worker is at it."""
    models = WITH_TRIGGERS

    def scenario(sessions: Sessions) -> None:
        with make(sessions, models) as session:
            with session.begin():
                claim_entry(session, models, "mem", "logo.png", attempts)

            def act() -> None:
                logo = file(to_filename="logo.png")
                if by == "a flush":
                    session.add(models.document(file=logo))
                else:
                    session.execute(insert(models.document).values(file=logo, pages=[]))
                session.commit()

            if attempts:
                with pytest.raises(StateError, match="being deleted"):
                    act()
                session.rollback()
            else:
                act()
            assert len(models.entries(session)) == attempts
            assert len(store) == 1 - attempts

    world(scenario)


def test_a_sweeper_that_comes_between(world: Database, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object that a sweeper deletes right after it was put, since it was at its path, does not come to a row."""
    models = WITH_TRIGGERS
    put = flush.put

    def put_and_lose(page: Page, wanted: Sequence[flush.Wanted]) -> None:
        put(page, wanted)
        store.delete(store.paths())

    def scenario(sessions: Sessions) -> None:
        with make(sessions, models) as session:
            monkeypatch.setattr(flush, "put", put_and_lose)
            session.add(models.document(file=file(to_filename="logo.png")))
            with pytest.raises(StateError, match="store it again"):
                session.commit()
            session.rollback()
            assert session.scalars(select(models.document)).all() == []

    world(scenario)


def claim_entry(session: Session, models: Models, backend: str, path: str, attempts: int = 1) -> None:
    now = datetime.now(UTC)
    entry = {"backend": backend, "path": path, "reason": "", "created_at": now, "not_before": now}
    session.execute(insert(models.outbox.table).values(**entry, attempts=attempts))


def test_what_is_let_go_of_again(world: Database, store: Store) -> None:
    """An entry of an earlier time does not shorten that of a later one: the object stays for the whole of the later."""
    models = WITHOUT_TRIGGERS

    def scenario(sessions: Sessions) -> None:
        with make(sessions, models) as session:
            document = add(session, models)
            claim_entry(session, models, "mem", document.file.path, 0)
            session.commit()
            session.delete(document)
            session.commit()
            first, second = models.entries(session)
            assert first.path == second.path
            assert second.not_before - first.not_before > timedelta(minutes=4)

    world(scenario)


def test_one_connection_is_enough(store: Store, tmp_path: Any) -> None:
    """A pool of one connection does not stop a session from settling: it has given its own back by then."""
    engine = create_engine(f"sqlite:///{tmp_path / 'one.sqlite'}", pool_size=1, max_overflow=0, pool_timeout=1)
    with make(sessionmaker(engine), AT_ONCE) as session:
        document = add(session, AT_ONCE)
        document.file = file(b"new")
        session.commit()
        assert len(store) == 1
        registry.register_backend(FaultyBackend(store.backend, [always("delete")]), replace=True)
        document.file = file(b"newer")
        session.flush()
        session.rollback()
    with Session(engine) as session:
        assert len(AT_ONCE.entries(session)) == 1
    engine.dispose()


def test_a_joined_transaction(store: Store, tmp_path: Any) -> None:
    """In a transaction that somebody else ends, entries are written with it, and nothing is deleted by the session."""
    engine = create_engine(f"sqlite:///{tmp_path / 'joined.sqlite'}")
    AT_ONCE.base.metadata.create_all(engine)
    with Session(engine) as session:
        add(session, AT_ONCE)
    with engine.connect() as connection, connection.begin() as outer:
        with Session(connection) as session:
            document = session.get_one(AT_ONCE.document, 1)
            old = document.file.path
            document.file = file(b"new")
            session.commit()
        outer.commit()
    with Session(engine) as session:
        assert AT_ONCE.waiting(session) == {old}
        assert len(store) == 2
    engine.dispose()


def test_entries_are_made_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are those of lading's clock, and come back aware and in UTC; the longer of grace and retention counts."""
    metadata = MetaData()
    outbox = Outbox(metadata, "bin", grace=timedelta(minutes=1), keep_for=timedelta(days=35))
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    monkeypatch.setattr(clock, "now", lambda: 1_000_000_000.5)
    with engine.begin() as connection:
        outbox.add(connection, {("a", "x"), ("b", "x"), ("a", "y")}, "gone")
        outbox.add(connection, {("a", "x"), ("a", "z")}, "gone again", delay=timedelta(0))
        rows = connection.execute(select(outbox.table).order_by("path", "backend")).all()
    assert [(row.backend, row.path) for row in rows] == [("a", "x"), ("b", "x"), ("a", "y"), ("a", "z")]
    assert rows[0].created_at == datetime(2001, 9, 9, 1, 46, 40, 500_000, UTC)
    assert rows[0].not_before - rows[0].created_at == timedelta(days=35)
    assert rows[3].not_before == rows[3].created_at
    engine.dispose()


def test_what_an_outbox_refuses() -> None:
    """Tables have one outbox, and its times are not negative."""
    metadata = MetaData()
    Outbox(metadata)
    with pytest.raises(ConfigurationError, match="already"):
        Outbox(metadata, "another")
    with pytest.raises(ConfigurationError, match="negative"):
        Outbox(MetaData(), grace=timedelta(-1))
    with pytest.raises(ConfigurationError, match="negative"):
        Outbox(MetaData(), keep_for=timedelta(-1))
