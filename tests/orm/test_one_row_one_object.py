"""One row owns one object: a stored file on a second row is moved or copied, never shared."""

import asyncio
import copy
import pickle
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest
from sqlalchemy import Connection, create_engine, event, insert, select
from sqlalchemy import delete as delete_rows
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from lading import FileObject, Storages, StoredObject
from lading.backends.obstore import ObstoreBackend
from lading.errors import (
    BackendNotRegistered,
    ConfigurationError,
    IntegrityFailure,
    ObjectNotFound,
    OwnedFile,
    TooLarge,
)
from lading.testing import FaultyBackend
from tests import databases
from tests.faulty import always
from tests.orm.conftest import Database, Sessions, Store, on
from tests.orm.models import Base, Document, Limited, file, read, registry
from tests.orm.test_lifecycle import check


def test_copied_to_a_second_row(db: Database, store: Store) -> None:
    """A file that stays where it is becomes a copy on another row; either row may go, the other keeps its file."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            first = Document(file=file(b"shared", "name.txt", metadata={"k": 1}))
            session.add(first)
            session.commit()
            second = Document(file=first.file)
            session.add(second)
            session.commit()
            assert second.file is not None
            assert second.file != first.file
            assert (second.file.filename, second.file.metadata) == ("name.txt", {"k": 1})
            check(session, store)
            session.delete(first)
            session.commit()
            assert read(second.file) == b"shared"
            check(session, store)


def test_moved_in_one_flush(db: Database, store: Store) -> None:
    """A file that the same flush takes off the first row moves: same object, no copy."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            first, second = Document(file=file(b"moved")), Document()
            session.add_all([first, second])
            session.commit()
            before = store.paths()
            second.file, first.file = first.file, None
            session.commit()
            assert store.paths() == before
            check(session, store)


def test_moved_from_a_deleted_row(db: Database, store: Store) -> None:
    """A file of a row that the flush deletes moves to the row that takes it."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            first = Document(file=file(b"moved"))
            session.add(first)
            session.commit()
            before = store.paths()
            session.add(Document(file=first.file))
            session.delete(first)
            session.commit()
            assert store.paths() == before
            check(session, store)


def test_moved_then_deleted(db: Database, store: Store) -> None:
    """A file that was moved in a transaction goes when its new row is deleted in the same one."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            first, second = Document(file=file()), Document()
            session.add_all([first, second])
            session.commit()
            second.file, first.file = first.file, None
            session.flush()
            session.delete(second)
            session.commit()
            assert len(store) == 0


def test_swapped(db: Database, store: Store) -> None:
    """Two rows that swap their files copy nothing, and a rollback swaps nothing."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            first, second = Document(file=file(b"1")), Document(file=file(b"2"))
            session.add_all([first, second])
            session.commit()
            before = store.paths()
            for end in ("rollback", "commit"):
                first.file, second.file = second.file, first.file
                session.flush()
                getattr(session, end)()
                assert store.paths() == before
                check(session, store)
            assert read(first.file) == b"2"


def test_two_takers(db: Database, store: Store) -> None:
    """Of two rows that take one file, one gets it and the other a copy."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            first = Document(file=file(b"x"))
            session.add(first)
            session.commit()
            taken, first.file = first.file, None
            session.add_all([Document(file=taken), Document(file=taken, cover=taken)])
            session.commit()
            check(session, store)
            assert len(store) == 3


def test_one_pending_file_on_two_rows(db: Database, store: Store) -> None:
    """One pending file on two rows, and on two columns of one, is stored once and copied."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            pending = FileObject(filename="once", content=iter([b"once"]))
            session.add_all([Document(file=pending), Document(file=pending, cover=pending, pages=[pending])])
            session.commit()
            check(session, store)
            assert len(store) == 4


def test_copy_fails(db: Database, store: Store) -> None:
    """When the original is gone from the store, the copy fails, the row is not written, and nothing has changed."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            first = Document(file=file(b"x"))
            session.add(first)
            session.commit()
            original = first.file
            assert original is not None
            gone = FileObject("mem", path=original.path, storages=registry)
            gone.delete()
            second = Document(file=original)
            session.add(second)
            with pytest.raises(ObjectNotFound):
                session.commit()
            assert second.file is original
            session.rollback()
            assert len(session.scalars(select(Document)).all()) == 1


def test_across_sessions_and_detached(db: Database, store: Store) -> None:
    """A file of a detached instance, of another session, or read without an instance, is copied as well."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            session.add(Document(id=100, file=file(b"x")))
            session.commit()
        with sessions() as session:
            detached = session.get_one(Document, 100)
        with sessions() as one, sessions() as other:
            alone = one.scalar(select(Document.file))
            attached = one.get_one(Document, 100)
            other.add_all([Document(file=detached.file), Document(file=alone), Document(file=attached.file)])
            one.rollback()
            other.commit()
            check(other, store)
            assert len(store) == 4


def test_pickled_and_copied(db: Database, store: Store) -> None:
    """A file that went through pickle, copy or its JSON counts as owned: on a row it becomes a copy."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            stored = FileObject("mem", "x", content=b"x", storages=registry).save()
            twins = [
                copy.copy(stored),
                copy.deepcopy(stored),
                FileObject.from_dict(stored.to_dict(), storages=registry),
            ]
            session.add_all([Document(file=twin) for twin in [stored, *twins]])
            session.commit()
            check(session, store)
            assert len(store) == 4


def test_merge(db: Database, store: Store) -> None:
    """Merging a detached instance that is unchanged copies nothing; one with a new file replaces the old."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            session.add(Document(id=1, file=file(b"x"), pages=[file(b"1")]))
            session.commit()
            before = store.paths()
        with sessions() as session:
            detached = session.get_one(Document, 1)
            assert detached.pages
        detached = pickle.loads(pickle.dumps(detached))
        with sessions() as session:
            merged = session.merge(detached)
            merged.name = "touched"
            session.commit()
            assert store.paths() == before
        with sessions() as session:
            session.merge(Document(id=1, file=file(b"new")))
            session.commit()
            check(session, store)


def test_staged_then_adopted(db: Database, store: Store) -> None:
    """A file that was saved beforehand is taken as it is, and stays nobody's when the transaction comes to nothing."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            staged = FileObject("mem", "big", content=b"x" * 1000, storages=registry).save()
            document = Document(file=staged)
            session.add(document)
            session.flush()
            with pytest.raises(OwnedFile):
                staged.delete()
            session.rollback()
            assert len(store) == 1
            session.add(document)
            session.commit()
            check(session, store)
            assert document.file == staged


def test_adopting_by_hand(db: Database, store: Store) -> None:
    """An object named by hand is looked at before a row may name it: missing or different, and the flush refuses."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            path = FileObject("mem", "x", content=b"12345", storages=registry).save().path
            session.add(Document(file=FileObject("mem", path="not/there", storages=registry)))
            with pytest.raises(ObjectNotFound):
                session.commit()
            session.rollback()
            session.add(Document(file=FileObject("mem", path=path, size=3, storages=registry)))
            with pytest.raises(IntegrityFailure):
                session.commit()
            session.rollback()
            session.add_all([Document(file=FileObject("mem", path=path, storages=registry)) for _ in range(2)])
            session.commit()
            check(session, store)
            assert set(session.scalars(select(Document.file.size))) == {5}


def test_between_lists(db: Database, store: Store) -> None:
    """A page that leaves one list for another is moved; one that is on both is copied."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            first, second = Document(pages=[file(b"1"), file(b"2")]), Document(pages=[file(b"3")])
            session.add_all([first, second])
            session.commit()
            before = store.paths()
            second.pages.append(first.pages.pop())
            session.commit()
            assert store.paths() == before
            second.pages.extend(first.pages)
            session.commit()
            check(session, store)
            assert len(store) == 4


def test_two_sessions_replace(db: Database, store: Store) -> None:
    """Two sessions that replace the file of one row: the row names its object, and nothing is left over."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            session.add(Document(id=1, file=file(b"start")))
            session.commit()
        with sessions() as one, sessions() as two:
            stale = one.get_one(Document, 1)
            one.commit()
            one.expire_on_commit = False
            stale_file = stale.file
            one.commit()
            assert stale_file is not None
            fresh = two.get_one(Document, 1)
            fresh.file = file(b"second")
            two.commit()
            stale.file = file(b"third")
            one.commit()
        with sessions() as session:
            check(session, store)
            assert read(session.get_one(Document, 1).file) == b"third"
            assert len(store) == 1


def test_moved_away_meanwhile(db: Database, store: Store) -> None:
    """A file that another session has moved away meanwhile is not deleted by the one that remembers it here."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            session.add_all([Document(id=1, file=file(b"x")), Document(id=2)])
            session.commit()
        with sessions(expire_on_commit=False) as one, sessions() as two:
            stale = one.get_one(Document, 1)
            one.commit()
            first, second = two.get_one(Document, 1), two.get_one(Document, 2)
            second.file, first.file = first.file, None
            two.commit()
            stale.file = file(b"y")
            one.commit()
        with sessions() as session:
            check(session, store)
            assert len(store) == 2


@on("postgresql", "mariadb", inline_only=True)
def test_moved_away_at_the_same_time(db: Database, store: Store) -> None:
    """Between this session's looking at a row and its writing it, no other can move the file away."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            session.add_all([Document(id=1, file=file(b"x")), Document(id=2)])
            session.commit()

        def move() -> None:
            with sessions() as session, suppress(ObjectNotFound):  # it comes too late: what it moves is gone by then
                first, second = session.get_one(Document, 1), session.get_one(Document, 2)
                second.file, first.file = first.file, None
                session.commit()

        with sessions() as session:
            document = session.get_one(Document, 1)
            mover = Thread(target=move)

            def looked(*_: object) -> None:
                mover.start()
                mover.join(0.5)  # it waits for this session, so that this ends; unless nothing holds it back

            document.file = file(b"y")
            event.listen(session.connection(), "after_cursor_execute", looked, once=True)
            session.commit()
            mover.join()
        with sessions() as session:
            check(session, store)


def test_another_registry(world: Database, store: Store) -> None:
    """A file whose backend the registry of the column does not know, or knows as another, is refused."""
    elsewhere = Storages()
    elsewhere.register_backend("memory://", key="mem")
    unknown = ObstoreBackend(key="unknown", fs="memory://")

    @world
    def scenario(sessions: Sessions) -> None:
        for other, error in (
            (FileObject(backend="mem", content=b"", storages=elsewhere).save(), ConfigurationError),
            (FileObject(backend=elsewhere.get_backend("mem"), content=b""), ConfigurationError),
            (FileObject(backend=unknown, content=b""), BackendNotRegistered),
        ):
            with sessions() as session:
                session.add(Document(file=other))
                with pytest.raises(error):
                    session.commit()
                session.rollback()
                with pytest.raises(error):
                    session.execute(insert(Document).values(file=other, pages=[]))


def test_moved_to_stricter_rules(world: Database, store: Store) -> None:
    """A file that moves to a column whose rules it breaks is refused, and stays where it was."""

    @world
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            document = Document(id=1, file=file(b"more than ten bytes"))
            session.add(document)
            session.commit()
            moved, document.file = document.file, None
            session.add(Limited(file=moved))
            with pytest.raises(TooLarge):
                session.commit()
            session.rollback()
            check(session, store)
            assert len(store) == 1


@pytest.mark.parametrize("by_statement", [False, True], ids=["instance", "statement"])
def test_sqlite_as_it_comes(store: Store, tmp_path: Path, by_statement: bool) -> None:
    """Where nobody begins a transaction before a SELECT, the look at a row locks the database by itself."""
    engine = create_engine(f"sqlite:///{tmp_path / 'plain'}", connect_args={"timeout": 30})
    Base.metadata.create_all(engine)
    sessions = sessionmaker(engine)
    with sessions() as session:
        session.add_all([Document(id=1, file=file(b"x")), Document(id=2)])
        session.commit()

    def delete() -> None:
        with sessions() as session:
            if by_statement:
                session.execute(delete_rows(Document).where(Document.id == 1))
            else:
                session.delete(session.get_one(Document, 1))
            session.commit()

    deleter = Thread(target=delete)
    with sessions() as session:
        first, second = session.get_one(Document, 1), session.get_one(Document, 2)
        second.file, first.file = first.file, None
        session.flush()
        deleter.start()
        deleter.join(0.5)
        session.commit()
    deleter.join()
    with sessions() as session:
        assert session.scalars(select(Document.id)).all() == [2]
        check(session, store)

    def replace(number: int) -> None:
        with sessions() as session:
            session.get_one(Document, 2).file = file(str(number).encode())
            session.commit()

    threads = [Thread(target=replace, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with sessions() as session:
        check(session, store)
    engine.dispose()


async def test_two_sessions_and_one_saved_file(store: Store, tmp_path: Path) -> None:
    """Two that commit one saved file at once: one has its object, the other a copy; nobody can delete it meanwhile."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'two.sqlite'}")
    databases.begin_for_real(engine.sync_engine)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    for backend in (store.backend, FaultyBackend(store.backend, [always("head", "delay", seconds=0.05)])):
        registry.register_backend(backend, replace=True)
        shared = await file(b"shared", backend="mem").save_async()

        async def commit(shared: FileObject = shared) -> str:
            async with AsyncSession(engine, expire_on_commit=False) as session:
                document = Document(file=shared)
                session.add(document)
                await session.commit()
                assert document.file is not None
                return document.file.path

        first, second, deleted = await asyncio.gather(commit(), commit(), shared.delete_async(), return_exceptions=True)
        assert isinstance(deleted, OwnedFile)
        assert first != second
    async with AsyncSession(engine) as session:
        for document in await session.scalars(select(Document)):
            assert document.file is not None
            assert await document.file.get_content_async() == b"shared"
    await engine.dispose()


def test_a_listener_that_writes_history(world: Database, store: Store) -> None:
    """A listener's statement that writes the same file to another row is refused, and nothing is left of the flush."""

    class Own(DeclarativeBase):
        pass

    class Draft(Own):
        __tablename__ = "draft"
        id: Mapped[int] = mapped_column(primary_key=True)
        file: Mapped[FileObject | None] = mapped_column(StoredObject("mem", storages=registry))

    class History(Own):
        __tablename__ = "history"
        id: Mapped[int] = mapped_column(primary_key=True)
        file: Mapped[FileObject | None] = mapped_column(StoredObject("mem", storages=registry))

    @event.listens_for(Draft, "after_insert")  # before lading's own: the mapper is not configured yet
    def keep(_: object, connection: Connection, target: Draft) -> None:
        connection.execute(Own.metadata.tables["history"].insert().values(file=target.file))

    @world
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            Own.metadata.create_all(session.get_bind())
            session.add(Draft(file=file(b"1")))
            with pytest.raises(OwnedFile):
                session.commit()
            session.rollback()
            assert len(store) == 0


class Elsewhere(DeclarativeBase):
    pass


class Archive(Elsewhere):
    __tablename__ = "archive"
    id: Mapped[int] = mapped_column(primary_key=True)
    file: Mapped[FileObject | None] = mapped_column(StoredObject("mem", storages=registry))


@pytest.mark.parametrize("count", [1, 2])
def test_between_tables_that_nobody_sees_together(store: Store, tmp_path: Path, count: int) -> None:
    """From a row of one metadata or database to one of another a file is copied: no sweeper, no COMMIT sees both."""
    engines = [create_engine(f"sqlite:///{tmp_path / str(number)}.sqlite") for number in range(count)]
    Base.metadata.create_all(engines[0])
    Elsewhere.metadata.create_all(engines[-1])
    with Session(binds={Document: engines[0], Archive: engines[-1]}) as session:
        document = Document(id=1, file=file(b"kept"))
        session.add(document)
        session.commit()
        assert document.file is not None
        path = document.file.path
        archive = Archive(id=1, file=document.file)
        session.add(archive)
        session.delete(document)
        session.commit()
        assert archive.file is not None
        assert archive.file.path != path
        assert read(archive.file) == b"kept"
        assert len(store) == 1
    for engine in engines:
        engine.dispose()
