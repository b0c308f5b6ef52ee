"""The lifecycle on every kind of store, by both libraries, in both worlds."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lading import FileObject
from lading.backends.fsspec import FSSpecBackend
from lading.backends.obstore import ObstoreBackend
from lading.backends.protocols import StorageBackend
from tests.backends import test_fsspec, test_obstore
from tests.orm.conftest import Database, Sessions, Store
from tests.orm.models import Document, file, read, registry
from tests.orm.test_lifecycle import check

STORES = ["obstore-local", "obstore-s3", "fsspec-memory", "fsspec-local", "fsspec-s3"]


@pytest.fixture(params=STORES)
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """The store of the models, of each kind in turn."""
    backend: StorageBackend
    place = f"file://{tmp_path / 'files'}"
    if request.param == "obstore-local":
        backend = ObstoreBackend("mem", place, fsync=True)
    elif request.param == "obstore-s3":
        backend = test_obstore.on_s3(request.getfixturevalue("s3"), key="mem")
    elif request.param == "fsspec-memory":
        backend = FSSpecBackend("mem", f"memory://{tmp_path.name}")
    elif request.param == "fsspec-local":
        backend = FSSpecBackend("mem", place)
    else:
        backend = test_fsspec.on_s3(request.getfixturevalue("s3"), key="mem")
    registry.clear_backends()
    registry.register_backend(backend)
    yield Store(backend)
    registry.clear_backends()


def test_lifecycle(world: Database, anywhere: Store) -> None:
    """Create, replace, roll back, copy, move and delete: the rows and the store agree after each."""
    large = b"0123456789abcdef" * 400_000  # more than one part

    @world
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            first = Document(file=file(b"small", "ü #1.txt"), cover=FileObject(filename="l", content=iter([large])))
            session.add_all([first, Document(name="other", file=file(b""), pages=[file(b"1"), file(b"2")])])
            session.commit()
            assert (read(first.file), read(first.cover)) == (b"small", large)
            check(session, anywhere)

            first.file = file(b"never")
            session.flush()
            session.rollback()
            check(session, anywhere)

            first.file = file(b"new")
            second = Document(file=first.cover, cover=first.cover)
            first.cover = None
            session.add(second)
            session.commit()
            assert (read(first.file), read(second.file), read(second.cover)) == (b"new", large, large)
            check(session, anywhere)
            assert len(anywhere) == 6

            for document in (first, second):
                session.delete(document)
            session.commit()
            check(session, anywhere)
            assert len(anywhere) == 3
