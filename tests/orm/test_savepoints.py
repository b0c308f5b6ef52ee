"""Savepoints, three deep, in every combination of release and rollback."""

from itertools import product

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from tests.orm.conftest import Database, Sessions, Store
from tests.orm.models import Document, file, read
from tests.orm.test_lifecycle import check

ENDS = ("commit", "rollback")


@pytest.mark.parametrize("flushed", [True, False], ids=["flushed", "unflushed"])
def test_every_combination_of_creating(db: Database, store: Store, flushed: bool) -> None:
    """Whatever ends how, exactly the files of the committed rows remain."""

    @db
    def scenario(sessions: Sessions) -> None:
        for ends in product(ENDS, repeat=4):
            with sessions() as session:
                _create(session, 0, ends, flushed)
            with sessions() as session:
                names = set(session.scalars(select(Document.name)))
                assert names == _survivors(ends)
                check(session, store)
                for document in session.scalars(select(Document)):
                    session.delete(document)
                session.commit()
                assert len(store) == 0


def _create(session: Session, depth: int, ends: tuple[str, ...], flushed: bool) -> None:
    """Make a row before, inside and after each savepoint, then end this level."""
    session.add(Document(name=f"{depth} before", file=file(str(depth).encode())))
    if flushed:
        session.flush()
    if depth + 1 < len(ends):
        savepoint = session.begin_nested()
        _create(session, depth + 1, ends, flushed)
        assert not savepoint.is_active
        session.add(Document(name=f"{depth} after", file=file(b"after")))
        if flushed:
            session.flush()
    if depth == 0:
        getattr(session, ends[0])()
    else:
        nested = session.get_nested_transaction()
        assert nested is not None
        getattr(nested, ends[depth])()


def _survivors(ends: tuple[str, ...]) -> set[str]:
    names: set[str] = set()
    for depth, end in enumerate(ends):
        if end == "rollback":
            break
        names.add(f"{depth} before")
        if depth + 1 < len(ends):
            names.add(f"{depth} after")
    return names


def test_every_combination_of_replacing(db: Database, store: Store) -> None:
    """A file that each level replaces is, in the end, the one of the innermost level that was not rolled back."""

    @db
    def scenario(sessions: Sessions) -> None:
        for ends in product(ENDS, repeat=4):
            with sessions() as session:
                session.add(Document(id=1, file=file(b"start")))
                session.commit()
                _replace(session, 0, ends)
            with sessions() as session:
                document = session.get_one(Document, 1)
                assert document.file is not None
                depth = next((n for n, end in enumerate(ends) if end == "rollback"), len(ends))
                assert read(document.file) == (b"start" if depth == 0 else str(depth - 1).encode())
                check(session, store)
                session.delete(document)
                session.commit()
                assert len(store) == 0


def _replace(session: Session, depth: int, ends: tuple[str, ...]) -> None:
    document = session.get_one(Document, 1)
    document.file = file(str(depth).encode())
    session.flush()
    if depth + 1 < len(ends):
        session.begin_nested()
        _replace(session, depth + 1, ends)
    if depth == 0:
        getattr(session, ends[0])()
    else:
        nested = session.get_nested_transaction()
        assert nested is not None
        getattr(nested, ends[depth])()


def test_pending_work_belongs_outside(db: Database, store: Store) -> None:
    """begin_nested flushes what was pending before it: a rollback to the savepoint keeps those files."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            session.add(Document(name="outside", file=file()))
            savepoint = session.begin_nested()
            savepoint.rollback()
            session.commit()
            check(session, store)
            assert len(store) == 1


def test_move_inside_a_rolled_back_savepoint(db: Database, store: Store) -> None:
    """A file let go outside, and taken by another row in a savepoint, goes when that comes to nothing."""

    @db
    def scenario(sessions: Sessions) -> None:
        for end, left in (("commit", 1), ("rollback", 0)):
            with sessions() as session:
                first, second = Document(file=file(b"moved")), Document()
                session.add_all([first, second])
                session.commit()
                moved = first.file
                first.file = None
                session.flush()
                savepoint = session.begin_nested()
                second.file = moved
                session.flush()
                getattr(savepoint, end)()
                session.commit()
                check(session, store)
                assert len(store) == left
                session.delete(second)
                session.commit()
                assert len(store) == 0


def test_delete_in_a_savepoint(db: Database, store: Store) -> None:
    """A row deleted in a savepoint keeps its file when that is rolled back, and loses it with the outer commit else."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            document = Document(file=file())
            session.add(document)
            session.commit()
            savepoint = session.begin_nested()
            session.delete(document)
            session.flush()
            savepoint.rollback()
            session.commit()
            check(session, store)
            assert len(store) == 1
            savepoint = session.begin_nested()
            session.delete(document)
            savepoint.commit()
            assert len(store) == 1
            session.commit()
            assert len(store) == 0


def test_failing_flush_in_a_savepoint(db: Database, store: Store) -> None:
    """A savepoint that catches an error takes its own files back, and leaves those of the transaction around it."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            session.add(Document(name="taken", file=file(b"1")))
            session.flush()
            with pytest.raises(Exception, match=r"(?i)unique|duplicate"), session.begin_nested():
                session.add(Document(name="taken", file=file(b"2")))
                session.flush()
            session.add(Document(name="free", file=file(b"3")))
            session.commit()
            check(session, store)
            assert len(store) == 2


def test_taken_in_a_savepoint_and_offered_again(db: Database, store: Store) -> None:
    """A file that a row took over in a savepoint is that row's: another that is given it there gets a copy."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            first, second, third = Document(file=file(b"moved")), Document(), Document()
            session.add_all([first, second, third])
            session.commit()
            moved, first.file = first.file, None
            session.flush()
            session.begin_nested()
            second.file = moved
            session.flush()
            third.file = moved
            session.commit()
            check(session, store)
            assert len(store) == 2
