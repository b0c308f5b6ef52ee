"""What happens to files when the store, the database or the task fails at the wrong moment."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import ForeignKey, event, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from lading import FileObject, StoredObject
from lading.errors import CleanupError, StoreError
from lading.testing import FaultyBackend
from tests import databases
from tests.faulty import always
from tests.orm.conftest import Database, Sessions, Store, on
from tests.orm.models import Base, Document, file, read, registry
from tests.orm.test_lifecycle import check


@pytest.fixture
def faulty(store: Store) -> FaultyBackend:
    """The store of the models, failing on cue."""
    backend = FaultyBackend(store.backend)
    registry.register_backend(backend, replace=True)
    store.backend = backend
    return backend


def test_failing_put(db: Database, store: Store, faulty: FaultyBackend) -> None:
    """When a put fails, even after the store has kept the object, commit() raises: no row, and nothing in the store."""

    @db
    def scenario(sessions: Sessions) -> None:
        faulty.plan = [always("put", "error after", at=4)]
        with sessions() as session:
            session.add_all([Document(file=file(str(n).encode())) for n in range(20)])
            with pytest.raises(StoreError, match="put failed on cue"):
                session.commit()
            assert len(store) == 0
        with sessions() as session:
            assert session.scalars(select(Document)).all() == []


def test_failing_delete_after_commit(db: Database, store: Store, faulty: FaultyBackend) -> None:
    """When the replaced object cannot be deleted, commit() raises and says what is left; the row is committed."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            document = Document(id=1, file=file(b"old"))
            session.add(document)
            session.commit()
            (old,) = store.paths()
            faulty.plan = [always("delete")]
            document.file = file(b"new")
            with pytest.raises(CleanupError) as caught:
                session.commit()
            assert caught.value.committed
            assert caught.value.left == (("mem", old),)
            assert isinstance(caught.value.exceptions[0], StoreError)
        faulty.plan = ()
        with sessions() as session:
            document = session.get_one(Document, 1)
            assert read(document.file) == b"new"
            assert len(store) == 2
            document.name = "the session goes on"
            session.commit()


def test_failing_delete_after_rollback(db: Database, store: Store, faulty: FaultyBackend) -> None:
    """When what was put cannot be deleted, rollback() raises and says what is left; the database is rolled back."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            session.add(Document(file=file()))
            session.flush()
            faulty.plan = [always("delete")]
            with pytest.raises(CleanupError) as caught:
                session.rollback()
            assert not caught.value.committed
            assert len(caught.value.left) == 1
            assert session.scalars(select(Document)).all() == []


def test_puts_are_bounded(world: Database, store: Store, faulty: FaultyBackend) -> None:
    """One flush stores several files at once, as many as the registry allows and no more, with one put each."""

    @world
    def scenario(sessions: Sessions) -> None:
        faulty.plan = [always("put", "delay", seconds=0.01)]
        with sessions() as session:
            session.add_all([Document(file=file(str(n).encode())) for n in range(40)])
            session.commit()
            assert faulty.verbs == ["put"] * 40
            assert faulty.most == registry.concurrency == 8
            check(session, store)


class Deferred(DeclarativeBase):
    pass


class Parent(Deferred):
    __tablename__ = "parent"
    id: Mapped[int] = mapped_column(primary_key=True)


class Child(Deferred):
    __tablename__ = "child"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int] = mapped_column(ForeignKey("parent.id", deferrable=True, initially="DEFERRED"))
    file: Mapped[FileObject | None] = mapped_column(StoredObject("mem", storages=registry))


# InnoDB has no deferred constraints: nothing can make its COMMIT fail.
@on("sqlite", "postgresql")
def test_failed_commit(db: Database, store: Store) -> None:
    """A COMMIT that the database refuses leaves nothing in the store, once the session is rolled back."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            Deferred.metadata.create_all(session.connection())
            session.commit()
            session.add(Child(parent_id=7, file=file()))
            session.flush()
            with pytest.raises(IntegrityError):
                session.commit()
            session.rollback()
            assert len(store) == 0
            assert session.scalars(select(Child)).all() == []
            session.add_all([Parent(id=7), Child(parent_id=7, file=file())])
            session.commit()
            assert len(store) == 1


KILL = {
    "postgresql": ("SELECT pg_backend_pid()", "SELECT pg_terminate_backend({})"),
    "mariadb": ("SELECT CONNECTION_ID()", "KILL {}"),
}


# SQLite has no connection to lose.
over_a_network = on("postgresql", "mariadb")


@over_a_network
def test_lost_answer_to_commit(db: Database, store: Store) -> None:
    """When the connection breaks at COMMIT, nobody knows what the row names: neither the old nor the new file goes.

    Over asyncpg the question that is asked before it finds that out, and then it is known that nothing was committed.
    """
    who, kill = KILL[db.name]
    orphans = 0 if "asyncpg" in db.kind.driver else 1

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            document = Document(id=1, file=file(b"old"))
            session.add(document)
            session.commit()
            document.file = file(b"new")
            session.flush()
            pid = session.scalar(text(who))
            with sessions() as other:
                other.execute(text(kill.format(pid)))
                other.rollback()
            with pytest.raises(DBAPIError):
                session.commit()
            session.rollback()
            assert len(store) == 1 + orphans
        with sessions() as session:
            document = session.get_one(Document, 1)
            assert read(document.file) == b"old"
            session.delete(document)
            session.commit()
            assert len(store) == orphans


@over_a_network
def test_lost_connection_before_commit(db: Database, store: Store) -> None:
    """When the connection breaks before COMMIT was sent, nothing was committed: what was put goes."""
    who, kill = KILL[db.name]

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            session.add(Document(file=file()))
            session.flush()
            pid = session.scalar(text(who))
            with sessions() as other:
                other.execute(text(kill.format(pid)))
                other.rollback()
            with pytest.raises(DBAPIError):
                session.execute(text("SELECT 1"))
            session.rollback()
            assert len(store) == 0


async def test_cancelled_flush(store: Store, faulty: FaultyBackend, tmp_path: Path) -> None:
    """A task that is cancelled while its flush stores files leaves nothing behind."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'db'}")
    databases.begin_for_real(engine.sync_engine)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)

    async def work() -> None:
        async with AsyncSession(engine) as session:
            session.add_all([Document(file=file(str(n).encode())) for n in range(20)])
            await session.commit()

    for after in (0.0, 0.01, 0.03, 0.05):
        faulty.plan = [always("put", "delay", seconds=0.02)]
        task = asyncio.create_task(work())
        await asyncio.sleep(after)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert faulty.running == 0
        assert len(store) == 0
    async with AsyncSession(engine) as session:
        assert (await session.scalars(select(Document))).all() == []
    await engine.dispose()


async def test_cancelled_after_commit(store: Store, tmp_path: Path) -> None:
    """A task that is cancelled between COMMIT and the deletes finishes them before it ends."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'db'}")
    databases.begin_for_real(engine.sync_engine)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(engine) as session:
        session.add(Document(id=1, file=file(b"old")))
        await session.commit()

    async def work() -> None:
        async with AsyncSession(engine) as session:
            document = await session.get_one(Document, 1)
            document.file = file(b"new")
            await session.flush()
            me = asyncio.current_task()
            assert me is not None
            event.listen(session.sync_session, "after_commit", lambda _: me.cancel(), once=True)
            await session.commit()
            await asyncio.sleep(1)

    task = asyncio.create_task(work())
    with pytest.raises(asyncio.CancelledError):
        await task
    async with AsyncSession(engine) as session:
        document = await session.get_one(Document, 1)
        assert document.file is not None
        assert await document.file.get_content_async() == b"new"
    assert len(store) == 1
    await engine.dispose()
