"""A session and a store that is unavailable for a moment: nobody notices."""

import pytest
from sqlalchemy import select

from lading.errors import StoreUnavailable
from lading.ops import retry
from lading.testing import Fault, FaultyBackend
from lading.testing.faults import Kind
from tests.orm.conftest import Database, Sessions, Store
from tests.orm.models import Document, file, read, registry
from tests.orm.test_lifecycle import check


@pytest.fixture
def faulty(store: Store, monkeypatch: pytest.MonkeyPatch) -> FaultyBackend:
    """The store of the models, failing on cue, without pauses between tries."""
    monkeypatch.setattr(retry, "PAUSE", 0)
    backend = FaultyBackend(store.backend)
    registry.register_backend(backend, replace=True)
    store.backend = backend
    return backend


@pytest.mark.parametrize("kind", ["error", "error after"])
def test_flush_and_commit(kind: Kind, world: Database, store: Store, faulty: FaultyBackend) -> None:
    """A flush whose put fails, and a commit whose delete fails, try again; row and store are right."""

    @world
    def scenario(sessions: Sessions) -> None:
        faulty.calls.clear()
        faulty.plan = [Fault("put", kind=kind, times=2), Fault("delete", kind=kind, times=2)]
        with sessions() as session:
            document = Document(id=1, file=file(b"old"))
            session.add(document)
            session.commit()
            document.file = file(b"new")
            session.commit()
            assert faulty.verbs == ["put"] * 4 + ["delete"] * 3
            assert read(document.file) == b"new"
            assert len(store) == 1
            check(session, store)


def test_a_store_that_stays_away(world: Database, store: Store, faulty: FaultyBackend) -> None:
    """A flush fails after its last try, and the session goes on."""

    @world
    def scenario(sessions: Sessions) -> None:
        faulty.calls.clear()
        faulty.plan = [Fault("put", kind="error after", times=3)]
        with sessions() as session:
            session.add(Document(file=file()))
            with pytest.raises(StoreUnavailable, match="put failed on cue"):
                session.commit()
            session.rollback()
            assert faulty.verbs == ["put", "put", "put", "delete"]
            assert len(store) == 0
            assert session.scalars(select(Document)).all() == []


def test_an_object_that_may_be_anothers(world: Database, store: Store, faulty: FaultyBackend) -> None:
    """What a lost answer was taken for may have been stored by somebody else: a rollback does not delete it."""

    @world
    def scenario(sessions: Sessions) -> None:
        faulty.plan = [Fault("put", kind="error after")]
        with sessions() as session:
            session.add(Document(file=file(b"same", to_filename="sha256/abc")))
            session.flush()
            session.rollback()
            assert store.paths() == {"sha256/abc"}
