"""A list of files: every change of it is tracked, stored and cleaned."""

import gc
from collections.abc import Callable
from typing import Any

import pytest

from lading import FileList, FileObject
from lading.errors import NotAFile
from tests.orm.conftest import Database, Sessions, Store
from tests.orm.models import Document, file
from tests.orm.test_lifecycle import check

Change = Callable[[list[FileObject]], object]


def iadd(pages: list[FileObject]) -> None:
    pages += [file(b"new"), file(b"newer")]


def item(pages: list[FileObject]) -> None:
    pages[1] = file(b"new")


def part(pages: list[FileObject]) -> None:
    pages[1:] = [file(b"new"), file(b"newer")]


def drop(pages: list[FileObject]) -> None:
    del pages[:2]


CHANGES: dict[str, tuple[Change, list[bytes]]] = {
    "append": (lambda pages: pages.append(file(b"new")), [b"0", b"1", b"2", b"new"]),
    "extend": (lambda pages: pages.extend(file(c) for c in (b"new", b"newer")), [b"0", b"1", b"2", b"new", b"newer"]),
    "iadd": (iadd, [b"0", b"1", b"2", b"new", b"newer"]),
    "insert": (lambda pages: pages.insert(0, file(b"new")), [b"new", b"0", b"1", b"2"]),
    "remove": (lambda pages: pages.remove(pages[1]), [b"0", b"2"]),
    "pop": (lambda pages: pages.pop(0), [b"1", b"2"]),
    "clear": (lambda pages: pages.clear(), []),
    "reverse": (lambda pages: pages.reverse(), [b"2", b"1", b"0"]),
    "sort": (lambda pages: pages.sort(key=lambda page: page.get_content(), reverse=True), [b"2", b"1", b"0"]),
    "item": (item, [b"0", b"new", b"2"]),
    "slice": (part, [b"0", b"new", b"newer"]),
    "delete": (drop, [b"2"]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changes(db: Database, store: Store, name: str) -> None:
    """A change in place is committed, and rolled back, with the objects that come and go."""
    change, expected = CHANGES[name]

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            document = Document(id=100, pages=[file(b"0"), file(b"1"), file(b"2")])
            session.add(document)
            session.commit()
            change(document.pages)
            session.flush()
            session.rollback()
            assert [page.get_content() for page in document.pages] == [b"0", b"1", b"2"]
            check(session, store)
            change(document.pages)
            session.commit()
        with sessions() as session:
            document = session.get_one(Document, 100)
            assert [page.get_content() for page in document.pages] == expected
            check(session, store)
            assert len(store) == len(expected)


def test_assign_a_new_list(db: Database, store: Store) -> None:
    """A list of old and new files keeps the old objects, stores the new, and deletes the rest."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            document = Document(pages=(file(b"0"), file(b"1")))
            session.add(document)
            session.commit()
            kept = document.pages[1].path
            document.pages = [file(b"2"), document.pages[1]]
            assert isinstance(document.pages, FileList)
            session.commit()
            assert [page.get_content() for page in document.pages] == [b"2", b"1"]
            assert document.pages[1].path == kept
            check(session, store)


def test_the_same_file_twice(db: Database, store: Store) -> None:
    """A list may name one object twice; it goes when the last mention goes."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            page = file(b"x")
            document = Document(pages=[page, page])
            session.add(document)
            session.commit()
            assert len(store) == 1
            document.pages.pop()
            session.commit()
            assert len(store) == 1
            document.pages.append(document.pages[0])
            session.commit()
            document.pages.clear()
            session.commit()
            assert len(store) == 0


def test_only_files(world: Database, store: Store) -> None:
    """Anything but a file is refused at once, and the list stays as it was."""

    @world
    def scenario(sessions: Sessions) -> None:
        pages: Any = FileList([file()])
        for change in (
            lambda: pages.append("a"),
            lambda: pages.extend(["a"]),
            lambda: pages.insert(0, None),
            lambda: pages.__setitem__(0, b"x"),
            lambda: pages.__setitem__(slice(0, 1), [b"x"]),
            lambda: Document(pages="abc"),
            lambda: Document(pages=file()),
        ):
            with pytest.raises(NotAFile):
                change()
        assert len(pages) == 1
        with sessions() as session:
            session.add(Document(file="a.txt"))
            with pytest.raises(NotAFile):
                session.flush()


def test_a_new_instance_has_a_list(world: Database, store: Store) -> None:
    """An instance that was never given a list has an empty one, to append to."""

    @world
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            document = Document()
            document.pages.append(file())
            session.add(document)
            session.commit()
            assert len(document.pages) == 1
            check(session, store)


def test_one_list_on_two_rows(db: Database, store: Store) -> None:
    """A list that is assigned from one instance to another becomes a list, and files, of its own."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            first = Document(id=1, pages=[file(b"1"), file(b"2")])
            session.add_all([first, Document(id=3, pages=first.pages)])
            session.commit()
            check(session, store)
            second = Document(id=2)
            session.add(second)
            second.pages = first.pages
            session.commit()
            check(session, store)
            assert len(store) == 6
            second.pages.append(file(b"3"))
            session.commit()
            assert [len(session.get_one(Document, number).pages) for number in (1, 2, 3)] == [2, 3, 2]
            session.delete(second)
            session.commit()
            check(session, store)
            assert len(store) == 4


def test_metadata_of_a_file_on_two_lists(world: Database, store: Store) -> None:
    """A file that was copied to another list still tells its own when its metadata changes."""

    @world
    def scenario(sessions: Sessions) -> None:
        with sessions(expire_on_commit=False) as session:
            first, second = Document(id=1, pages=[file()]), Document(id=2)
            session.add_all([first, second])
            session.commit()
            second.pages = [first.pages[0]]
            session.commit()
            first.pages[0].update_metadata({"read": True})
            session.commit()
        with sessions() as session:
            assert session.get_one(Document, 1).pages[0].metadata == {"read": True}
            assert session.get_one(Document, 2).pages[0].metadata == {}


def test_metadata_merged(world: Database, store: Store) -> None:
    """Merging a detached instance writes the metadata that was changed in its list meanwhile."""

    @world
    def scenario(sessions: Sessions) -> None:
        with sessions(expire_on_commit=False) as session:
            document = Document(id=1, pages=[file()])
            session.add(document)
            session.commit()
        document.pages[0].update_metadata({"read": True})
        with sessions() as session:
            session.merge(document)
            session.commit()
            assert session.get_one(Document, 1).pages[0].metadata == {"read": True}


def test_a_list_outlives_its_instance(world: Database, store: Store) -> None:
    """A list whose instance is gone can still be changed, while a file keeps what SQLAlchemy knew of the instance."""

    @world
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            session.add(Document(id=1, file=file(), pages=[file()]))
            session.commit()
        with sessions() as session:
            document = session.get_one(Document, 1)
            kept, pages = document.file, document.pages
        del document
        gc.collect()
        pages.append(file())
        assert kept is not None
        assert len(pages) == 2
