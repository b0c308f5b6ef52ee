"""The soak's count can fail: what is taken, added or changed behind its back, it sees."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.orm import Session

from tests.conftest import empty_database
from tests.services.moto import S3
from tests.soak.acts import create
from tests.soak.journal import Journal, Log
from tests.soak.models import PatientDocument, Place
from tests.soak.sweeping import make_tables, sweep
from tests.soak.trip import Trip
from tests.soak.verify import Findings, Inspector


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path, s3: S3) -> Iterator[Place]:
    with empty_database("postgresql", request, tmp_path) as url:
        place = Place(url.render_as_string(hide_password=False), s3.endpoint, s3.make_bucket())
        make_tables(place)
        place.register()
        yield place


@pytest.fixture
def store(place: Place, s3: S3) -> S3Store:
    """The bucket, for those who reach into it."""
    return S3Store(
        place.bucket,
        endpoint=s3.endpoint,
        access_key_id=s3.access_key_id,
        secret_access_key=s3.secret_access_key,
        region=s3.region,
        client_options={"allow_http": True},
    )


@pytest.fixture
def log(place: Place, tmp_path: Path) -> Log:
    """Rows that were made and acknowledged."""
    engine = place.engine()
    journal = Journal(tmp_path / "worker.journal")
    with Session(engine) as session:
        trip = Trip(session, PatientDocument, random.Random(3))
        journal.begin(["create"])
        create(trip)
        journal.announce(trip.written())
        session.commit()
        journal.end("committed")
    engine.dispose()
    log = Log(tmp_path)
    log.read()
    return log


@pytest.fixture
def inspector(place: Place) -> Iterator[Inspector]:
    inspector = Inspector(place)
    yield inspector
    inspector.close()


@pytest.fixture
def sql(place: Place) -> Callable[[str], None]:
    """Executes a statement that no journal tells of; triggers included."""

    def execute(statement: str) -> None:
        engine = create_engine(make_url(place.database).set(drivername="postgresql+psycopg"))
        with engine.begin() as connection:
            connection.execute(text(statement))
        engine.dispose()

    return execute


def test_what_nobody_touched_is_right(inspector: Inspector, log: Log) -> None:
    """Every row and file is looked at, and nothing is found."""
    found = inspector.all(log)
    assert found == Findings(rows=found.rows, files=found.files)
    assert found.rows == len(log.acknowledged) > 0
    assert found.files == len(set(inspector.paths())) > 0


def test_an_object_that_is_gone_dangles(inspector: Inspector, log: Log, store: S3Store) -> None:
    """One file, one finding; the row as such is what it was said to be."""
    obstore.delete(store, min(inspector.paths()))
    found = inspector.all(log)
    assert ["missing" in problem for problem in found.dangling] == [True]
    assert not found.lost


def test_an_object_that_is_another_dangles(inspector: Inspector, log: Log, store: S3Store) -> None:
    """Of the same length, even."""
    path = min(inspector.paths())
    content = bytearray(bytes(obstore.get(store, path).bytes()))
    content[-1] ^= 1
    obstore.put(store, path, bytes(content))
    found = inspector.all(log)
    assert [path in problem for problem in found.dangling] == [True]


def test_an_object_that_nobody_names_is_an_orphan(inspector: Inspector, log: Log, store: S3Store) -> None:
    """It is counted, and is no other violation."""
    obstore.put(store, "patient/nobody", b"orphan")
    found = inspector.all(log)
    assert found.orphans == ["patient/nobody"]
    assert not found.dangling


def test_a_sweep_takes_what_nobody_names_and_nothing_else(
    place: Place, inspector: Inspector, log: Log, store: S3Store, sql: Callable[[str], None]
) -> None:
    """Orphans of a moment ago, and what the outbox was to keep for longer; what is wrong with rows it reports."""
    obstore.put(store, "patient/nobody", b"orphan")
    sql("UPDATE patient SET cover = file, file = NULL, version = version + 1")
    assert inspector.all(log).waiting
    assert sweep(place) == []
    found = inspector.all(log)
    assert (found.orphans, found.waiting, found.dangling) == ([], 0, [])
    assert len(found.lost) == found.rows  # nobody has announced it
    obstore.delete(store, min(inspector.paths()))
    assert any("missing" in finding.lower() for finding in sweep(place))


def test_a_row_that_is_gone_is_lost(inspector: Inspector, log: Log, sql: Callable[[str], None]) -> None:
    """Nobody has announced its deletion; its objects wait in the outbox."""
    sql("DELETE FROM patient WHERE id = (SELECT min(id) FROM patient)")
    found = inspector.all(log)
    assert ["now there is None" in problem for problem in found.lost] == [True]
    assert found.waiting == len(found.orphans) > 0


def test_a_row_that_is_another_is_lost(inspector: Inspector, log: Log, sql: Callable[[str], None]) -> None:
    """It is not what was acknowledged, and nobody has meant it to be what it is."""
    sql("UPDATE patient SET file = cover, cover = file WHERE id = (SELECT max(id) FROM patient)")
    assert len(inspector.all(log).lost) == 2


def test_a_row_that_fell_back_is_lost(inspector: Inspector, log: Log, place: Place, tmp_path: Path) -> None:
    """A later version was acknowledged."""
    first = min(log.acknowledged)
    journal = Journal(tmp_path / "later.journal")
    journal.begin([])
    [row] = log.acknowledged[first]
    journal.announce([row._replace(version=2)])
    journal.end("committed")
    log.read()
    assert ["version=2" in problem for problem in inspector.all(log).lost] == [True]


def test_a_transaction_of_which_nobody_knows_may_have_come_to_pass(
    inspector: Inspector, log: Log, sql: Callable[[str], None], tmp_path: Path
) -> None:
    """A row may be gone whose deletion was announced, whatever became of the announcement."""
    journal = Journal(tmp_path / "later.journal")
    journal.begin([])
    journal.announce(row._replace(state=None) for rows in log.acknowledged.values() for row in rows)
    log.read()
    sql("DELETE FROM patient WHERE id = (SELECT min(id) FROM patient)")
    assert not inspector.all(log).lost


def test_a_deletion_that_was_acknowledged_is_final(inspector: Inspector, log: Log, tmp_path: Path) -> None:
    """A row that is there again is lost in its own way."""
    journal = Journal(tmp_path / "later.journal")
    journal.begin([])
    [row] = log.acknowledged[min(log.acknowledged)]
    journal.announce([row._replace(state=None)])
    journal.end("committed")
    log.read()
    assert ["state=None" in problem for problem in inspector.all(log).lost] == [True]


def test_a_look_while_others_write_sees_what_dangles(inspector: Inspector, log: Log, store: S3Store) -> None:
    """A row that names what is not there, and still does when it is asked again."""
    found = Findings()
    chance = random.Random(1)
    for _ in range(20):
        inspector.glance(chance, found)
    assert found.files
    assert not found.dangling
    obstore.delete(store, list(inspector.paths()))
    for _ in range(20):
        inspector.glance(chance, found)
    assert found.dangling


def test_a_line_that_a_kill_has_cut_is_not_read(tmp_path: Path) -> None:
    """It is not there until it is whole."""
    path = tmp_path / "worker.journal"
    Journal(path).begin(["create"])
    whole = path.read_bytes()
    log = Log(tmp_path)
    for content, begun in ((whole[:-5], 0), (whole, 1), (whole, 1)):
        path.write_bytes(content)
        log.read()
        assert log.begun == begun
