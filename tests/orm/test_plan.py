"""Other listeners may change what a flush does with files, after lading has looked."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

from lading.errors import PendingFile, StateError
from tests.orm.conftest import Database, Sessions, Store
from tests.orm.models import Document, Folder, file, read
from tests.orm.test_lifecycle import check


def before_flush(session: Session, act: Callable[[], Any]) -> None:
    """Act in the next flush, after lading has."""
    event.listen(session, "before_flush", lambda *_: act(), once=True)


@contextmanager
def before_update(act: Callable[[Document], Any]) -> Iterator[None]:
    """Act when a document is about to be written."""

    def listener(mapper: object, connection: object, document: Document) -> None:
        act(document)

    event.listen(Document, "before_update", listener)
    try:
        yield
    finally:
        event.remove(Document, "before_update", listener)


def two(session: Session) -> tuple[Document, Document]:
    documents = Document(id=1, file=file(b"old")), Document(id=2)
    session.add_all(documents)
    session.commit()
    return documents


def test_put_back(world: Database, store: Store) -> None:
    """A file that a listener puts back where it was is not deleted."""

    @world
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            document, _ = two(session)
            old = document.file

            def put_back(each: Document) -> None:
                each.file = old

            document.file = file(b"new")
            before_flush(session, lambda: put_back(document))
            session.commit()
            check(session, store)
            document.file = file(b"new")
            with before_update(put_back):
                session.commit()
            check(session, store)
            assert read(document.file) == b"old"


def test_expunged(world: Database, store: Store) -> None:
    """The row of an instance that a listener expunges keeps its file, and so does one whose deletion it calls off."""

    @world
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            document, _ = two(session)
            document.file = file(b"new")
            before_flush(session, lambda: session.expunge(document))
            session.commit()
            check(session, store)
            document = session.get_one(Document, 1)
            session.delete(document)
            before_flush(session, lambda: session.add(document))
            session.commit()
            check(session, store)
            assert read(session.get_one(Document, 1).file) == b"old"


def test_late(world: Database, store: Store) -> None:
    """What a listener adds, changes or clears is stored, moved and deleted like everything else."""

    @world
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            document, _ = two(session)
            old = document.file

            def keep_history() -> None:
                session.add(Document(id=3, file=old, pages=[file(b"page")]))
                document.cover = file(b"cover")

            document.file = file(b"new")
            before_flush(session, keep_history)
            session.commit()
            assert read(session.get_one(Document, 3).file) == b"old"
            assert len(store) == 4
            check(session, store)

            document.name = "cleared"
            before_flush(session, lambda: setattr(document, "cover", None))
            session.commit()
            assert len(store) == 3
            check(session, store)


def test_too_late(world: Database, store: Store) -> None:
    """A pending file that a listener sets when the row is about to be written is refused, and nothing is left of it."""

    @world
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            document, _ = two(session)
            document.name = "changed"
            with before_update(lambda each: setattr(each, "file", file())), pytest.raises(PendingFile):
                session.commit()
            session.rollback()
            check(session, store)


def test_given_twice(world: Database, store: Store) -> None:
    """A move whose first row keeps the file after all is refused: two rows would name it."""

    @world
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            first, second = two(session)
            old = first.file

            def put_back(each: Document) -> None:
                if each is first:
                    each.file = old

            first.file, second.file = None, old
            with before_update(put_back), pytest.raises(StateError, match="two rows"):
                session.commit()
            session.rollback()
            check(session, store)

            first.file, second.file = None, first.file
            before_flush(session, lambda: session.expunge(first))
            with pytest.raises(StateError, match="moved"):
                session.commit()
            session.rollback()
            check(session, store)


def test_moved_from_an_orphan(db: Database, store: Store) -> None:
    """A file that moves from a row which the same flush deletes as an orphan stays."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            folder = Folder(id=1, documents=[Document(id=1, file=file(b"moved")), Document(id=2, file=file())])
            session.add(folder)
            session.commit()
            orphan, other = folder.documents
            other.file, orphan.file = orphan.file, None
            folder.documents.remove(orphan)
            session.commit()
            assert read(other.file) == b"moved"
            check(session, store)
            assert len(store) == 1
