"""Two files of one object: what a row is given is not deleted by whoever has the other one."""

import gc

import pytest
from sqlalchemy import insert

from lading import FileObject
from lading.errors import OwnedFile
from lading.file import claim_of, remember, uploaded
from tests.orm.conftest import Database, Sessions, Store
from tests.orm.models import Base, Document, file, read, registry
from tests.orm.test_uploads import MODELS, make, upload_to


def saved() -> FileObject:
    """A file that will be deleted unless a row takes it."""
    found = file().save()
    remember(found)
    return found


def twin_of(found: FileObject) -> FileObject:
    return FileObject("mem", found.filename, path=found.path, storages=registry)


def test_a_row_that_has_the_twin(world: Database, store: Store) -> None:
    """A row that is given another file of the object has this one, too; a rollback makes both nobody's again."""

    @world
    def scenario(sessions: Sessions) -> None:
        found = saved()
        twin = twin_of(found)
        with sessions() as session:
            session.add(Document(file=twin))
            session.flush()
            assert (claim_of(twin), claim_of(found)) == ("owned", "owned")
            session.rollback()
        assert (claim_of(twin), claim_of(found)) == ("free", "free")
        with sessions() as session:
            with session.begin_nested() as savepoint:
                session.add(Document(file=twin))
                session.flush()
                savepoint.rollback()
            assert (claim_of(twin), claim_of(found)) == ("free", "free")
            session.add(Document(file=twin))
            session.commit()
            with pytest.raises(OwnedFile):
                found.delete()
            (row,) = session.query(Document)
            assert read(row.file) == b"content"
            assert store.paths() == {found.path}


def test_statements(world: Database, store: Store) -> None:
    """So it is where a statement gives it to a row, through a session or beside it."""

    @world
    def scenario(sessions: Sessions) -> None:
        orm, core = saved(), saved()
        with sessions() as session:
            session.execute(insert(Document).values(file=twin_of(orm), pages=[]))
            assert claim_of(orm) == "owned"
            session.rollback()
            assert claim_of(orm) == "free"
            session.execute(insert(Document).values(file=twin_of(orm), pages=[]))
            session.connection().execute(insert(Base.metadata.tables["document"]).values(file=twin_of(core), pages=[]))
            session.commit()
            for found in (orm, core):
                with pytest.raises(OwnedFile):
                    found.delete()
            assert sorted(read(row.file) for row in session.query(Document)) == [b"content"] * 2


def test_one_that_is_taken(world: Database, store: Store) -> None:
    """What a row has is not given to another as its twin: that gets a copy, and a statement is refused."""

    @world
    def scenario(sessions: Sessions) -> None:
        found = saved()
        twin = twin_of(found)
        with sessions() as session, sessions() as other:
            session.add(Document(file=found))
            session.commit()
            with pytest.raises(OwnedFile):
                other.execute(insert(Document).values(file=twin, pages=[]))
            with pytest.raises(OwnedFile):
                twin.delete()
            other.rollback()
            other.add(Document(file=twin))
            other.commit()
            assert len({row.file.path for row in other.query(Document) if row.file}) == 2
            assert len(store) == 2


def test_it_is_told_by_its_object(world: Database, store: Store) -> None:
    """An alias of the backend makes no difference; a twin that nobody has given away may be deleted."""

    @world
    def scenario(sessions: Sessions) -> None:
        registry.alias("also", "mem")
        found = saved()
        twin = FileObject("also", path=found.path, storages=registry)
        with sessions() as session:
            session.add(Document(file=twin))
            session.flush()
            assert claim_of(found) == "owned"
            session.rollback()
        twin.delete()
        assert (len(store), claim_of(found)) == (0, "free")
        found.delete()
        lone = twin_of(saved())
        gc.collect()
        lone.delete()


def test_a_direct_upload(world: Database, store: Store) -> None:
    """The copy that a direct upload was made to is known without being told, and not any more when it is undone."""

    @world
    def scenario(sessions: Sessions) -> None:
        with make(sessions) as session:
            attached = uploaded(upload_to(session)).save()
            session.add(MODELS.document(file=twin_of(attached)))
            session.commit()
            assert claim_of(attached) == "owned"
            undone = uploaded(upload_to(session))
            session.add(MODELS.document(file=undone))
            session.flush()
            path = undone.path
            session.rollback()
            again = file(to_filename=path).save()
            session.add(MODELS.document(file=twin_of(again)))
            session.commit()
            assert (undone.is_stored, claim_of(undone)) == (False, "free")
            assert len(session.query(MODELS.document).all()) == 2
