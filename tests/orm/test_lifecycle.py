"""A file commits with its row: create, replace, clear, delete, and every way to end a transaction."""

from collections.abc import Iterator

import pytest
from sqlalchemy import event, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from lading import FileObject
from lading.errors import PendingFile, SourceError, TooLarge
from tests.orm.conftest import Database, Sessions, Store
from tests.orm.models import Animal, Cat, Document, Dog, Folder, Limited, file, read, registry


def check(session: Session, store: Store) -> None:
    """The database and the store agree: every row's object is there, whole, and there is no other."""
    named: set[str] = set()
    for document in session.scalars(select(Document)):
        for each in [document.file, document.cover, *document.pages]:
            if each is not None:
                each.verify()
                assert each.path not in named
                named.add(each.path)
    assert store.paths() == named


def test_create(db: Database, store: Store) -> None:
    """A committed row names its object, and the file knows what was stored."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            document = Document(file=file(b"hello", "greeting.txt", metadata={"a": [1, "ü"]}))
            session.add(document)
            session.commit()
            assert read(document.file) == b"hello"
        with sessions() as session:
            (document,) = session.scalars(select(Document))
            loaded = document.file
            assert loaded is not None
            assert (loaded.filename, loaded.size, loaded.content_type) == ("greeting.txt", 5, "text/plain")
            assert loaded.checksum == "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
            assert loaded.metadata == {"a": [1, "ü"]}
            assert document.cover is None
            assert document.pages == []
            check(session, store)


def test_no_file(db: Database, store: Store) -> None:
    """No file is SQL NULL, and no files are an empty list."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            session.add(Document(file=None))
            session.commit()
            assert session.scalars(select(Document.id).where(Document.file.is_(None))).all() == [1]
            assert session.scalar(select(Document.pages)) == []


def test_replace(db: Database, store: Store) -> None:
    """After the commit the old object is gone; before it, both are there."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            document = Document(file=file(b"old"))
            session.add(document)
            session.commit()
            document.file = file(b"new")
            session.flush()
            assert len(store) == 2
            session.commit()
            assert read(document.file) == b"new"
            check(session, store)


def test_replace_without_loading(db: Database, store: Store) -> None:
    """The old object goes even when the instance never knew it."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            session.add(Document(id=1, file=file(b"old")))
            session.commit()
            session.expire_all()
            document = session.get_one(Document, 1)
            session.expire(document)
            document.file = file(b"new")
            session.commit()
            check(session, store)
            assert len(store) == 1


def test_clear(db: Database, store: Store) -> None:
    """None deletes the object with the commit."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            document = Document(file=file(), cover=file())
            session.add(document)
            session.commit()
            document.file = None
            session.commit()
            check(session, store)
            assert len(store) == 1


def test_delete(db: Database, store: Store) -> None:
    """A deleted row takes its objects along, however many."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            documents = [Document(file=file(), pages=[file(b"1"), file(b"2")]) for _ in range(3)]
            session.add_all(documents)
            session.commit()
            assert len(store) == 9
            for document in documents[:2]:
                session.delete(document)
            session.flush()
            assert len(store) == 9
            session.commit()
            check(session, store)
            assert len(store) == 3


def test_cascades(db: Database, store: Store) -> None:
    """What the ORM deletes by cascade or as an orphan takes its objects along."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            folder = Folder(documents=[Document(file=file(str(n).encode())) for n in range(4)])
            session.add(folder)
            session.commit()
            folder.documents.pop()
            session.commit()
            check(session, store)
            assert len(store) == 3
            folder.documents = folder.documents[:1]
            session.delete(folder)
            session.commit()
            assert len(store) == 0


def test_rollback(db: Database, store: Store) -> None:
    """A rolled back transaction leaves nothing, and its pending files can be committed again."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            document = Document(file=file(b"again"))
            session.add(document)
            session.flush()
            assert len(store) == 1
            session.rollback()
            assert len(store) == 0
            assert document.file is not None
            assert document.file.has_pending_data
            session.add(document)
            session.commit()
            check(session, store)
            assert len(store) == 1


def test_rollback_of_replace_and_delete(db: Database, store: Store) -> None:
    """What a rolled back transaction replaced, cleared or deleted is still there."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            first, second, third = documents = [Document(file=file(name)) for name in (b"1", b"2", b"3")]
            session.add_all(documents)
            session.commit()
            first.file = file(b"new")
            second.file = None
            session.delete(third)
            session.flush()
            session.rollback()
            check(session, store)
            assert len(store) == 3


def test_close_without_commit(db: Database, store: Store) -> None:
    """A session that is closed without a commit leaves nothing."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            session.add(Document(file=file()))
            session.flush()
            assert len(store) == 1
        assert len(store) == 0


def test_failed_flush(db: Database, store: Store) -> None:
    """When a statement of the flush fails, a rollback leaves nothing, and the session can be used again."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            session.add(Document(name="one", file=file(b"1")))
            session.commit()
            session.add(Document(name="one", file=file(b"2")))
            with pytest.raises(IntegrityError):
                session.commit()
            session.rollback()
            check(session, store)
            assert len(store) == 1
            session.add(Document(name="two", file=file(b"3")))
            session.commit()
            check(session, store)
            assert len(store) == 2


def test_one_bad_file(db: Database, store: Store) -> None:
    """When one of several files cannot be stored, no row is written and the others are gone at once."""

    @db
    def scenario(sessions: Sessions) -> None:
        def broken() -> Iterator[bytes]:
            yield b"some"
            raise ZeroDivisionError

        with sessions() as session:
            bad = Document(file=FileObject(filename="bad", content=broken()))
            good = [Document(file=file(str(n).encode())) for n in range(10)]
            session.add_all([*good[:5], bad, *good[5:]])
            with pytest.raises(ZeroDivisionError):
                session.commit()
            assert len(store) == 0
            session.expunge(bad)
            session.commit()
            check(session, store)
            assert len(store) == 10


def test_rules_of_the_column(db: Database, store: Store) -> None:
    """A rule of the column refuses a file at the flush: no row, no object."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            session.add(Limited(file=file(b"too many bytes")))
            with pytest.raises(TooLarge):
                session.commit()
            session.rollback()
            assert session.scalars(select(Limited)).all() == []
            assert len(store) == 0
            early = FileObject("mem", "a.txt", content=b"too many bytes", storages=registry).save()
            session.add(Limited(file=early))
            with pytest.raises(TooLarge):
                session.commit()


def test_several_flushes(db: Database, store: Store) -> None:
    """What one flush put and the next replaced goes with the commit."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            document = Document(file=file(b"1"))
            session.add(document)
            for content in (b"2", b"3"):
                session.flush()
                document.file = file(content)
            session.commit()
            check(session, store)
            assert len(store) == 1
            assert read(document.file) == b"3"


def test_insert_then_delete(db: Database, store: Store) -> None:
    """A row that is made and deleted in one transaction leaves nothing, committed or not."""

    @db
    def scenario(sessions: Sessions) -> None:
        for end in ("commit", "rollback"):
            with sessions() as session:
                document = Document(file=file())
                session.add(document)
                session.flush()
                session.delete(document)
                session.flush()
                getattr(session, end)()
                assert len(store) == 0


def test_a_one_shot_source_after_rollback(world: Database, store: Store) -> None:
    """Content that can be read only once says so when it would have to be stored again."""

    @world
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            document = Document(file=FileObject(filename="once", content=iter([b"a", b"b"])))
            session.add(document)
            session.flush()
            session.rollback()
            session.add(document)
            with pytest.raises(SourceError, match="read already"):
                session.flush()
            session.rollback()
            assert len(store) == 0


def test_empty_draft(world: Database, store: Store) -> None:
    """A file without content is refused before any row is written."""

    @world
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            session.add(Document(file=FileObject(filename="nothing")))
            with pytest.raises(SourceError, match="no content"):
                session.commit()


def test_inheritance(db: Database, store: Store) -> None:
    """Joined and single table inheritance: every file column of the hierarchy is looked after."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            dog = Dog(photo=file(b"1"), pedigree=file(b"2"))
            cat = Cat(photo=file(b"3"), toy=file(b"4"))
            session.add_all([dog, cat])
            session.commit()
            assert len(store) == 4
            dog.pedigree = file(b"5")
            dog.photo = file(b"6")
            cat.toy = None
            session.commit()
            assert len(store) == 3
            for animal in session.scalars(select(Animal)).all():
                session.delete(animal)
            session.commit()
            assert len(store) == 0


def test_row_switch(db: Database, store: Store) -> None:
    """A row deleted and made anew under its key in one flush is an update: what it goes on to name stays."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            document = Document(id=1, file=file(b"1"), cover=file(b"2"))
            session.add(document)
            session.commit()
            session.delete(document)
            session.add(Document(id=1, file=file(b"3")))
            session.commit()
            check(session, store)
            (again,) = session.scalars(select(Document))
            assert read(again.file) == b"3"


def test_row_switch_keeps_what_it_does_not_set(db: Database, store: Store) -> None:
    """A row made anew under its key, without a file, goes on naming the old one: who takes that file gets a copy."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            document = Document(id=1, file=file(b"1"))
            session.add(document)
            session.commit()
            taken = document.file
            session.delete(document)
            session.add_all([Document(id=1, name="anew", cover=file(b"2")), Document(id=2, file=taken)])
            session.commit()
            check(session, store)


def test_expunged_after_its_file_was_stored(world: Database, store: Store) -> None:
    """What was stored for an instance that then leaves the flush goes, and its file is pending again."""

    @world
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            document = Document(file=file())
            session.add_all([document, Document()])
            event.listen(session, "before_flush", lambda session, *_: session.expunge(document), once=True)
            session.commit()
            assert len(store) == 0
            session.add(document)
            session.commit()
            check(session, store)
            assert len(store) == 1


def test_metadata_marks_the_row(db: Database, store: Store) -> None:
    """update_metadata on a loaded file, alone or in a list, is written with the next commit."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            session.add(Document(id=1, file=file(), pages=[file(), file()]))
            session.commit()
        with sessions() as session:
            document = session.get_one(Document, 1)
            assert document.file is not None
            document.file.update_metadata({"seen": True})
            document.pages[1].update_metadata({"page": 2})
            assert session.dirty
            session.commit()
            document.file.update_metadata({"again": True})
            session.commit()
        with sessions() as session:
            document = session.get_one(Document, 1)
            assert document.file is not None
            assert document.file.metadata == {"seen": True, "again": True}
            assert [page.metadata for page in document.pages] == [{}, {"page": 2}]
            check(session, store)
            assert len(store) == 3


def test_bulk_save_refuses(db: Database, store: Store) -> None:
    """bulk_save_objects, which no event sees, never writes a row without its object."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            with pytest.raises(PendingFile):
                session.bulk_save_objects([Document(file=file())])
            session.rollback()
            assert session.scalars(select(Document)).all() == []
