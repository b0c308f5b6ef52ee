"""A list of files: every change of it is tracked, stored and cleaned."""

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
