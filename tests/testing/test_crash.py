"""`assert_crash_safe`: what it tries, what it finds, and what it leaves as it was."""

import asyncio
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Engine, event, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from lading import FileObject, Storages, StoredObject, storages
from lading.backends.obstore import ObstoreBackend
from lading.errors import ConfigurationError, StoreError, TooLarge
from lading.orm.references import file_columns
from lading.rules import max_size
from lading.testing import NotCrashSafe, assert_crash_safe
from lading.worlds import inline, iterate
from tests import databases

registry = Storages()
held = ObstoreBackend("held", "memory://")


class Base(DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "row"
    id: Mapped[int] = mapped_column(primary_key=True)
    file: Mapped[FileObject | None] = mapped_column(StoredObject("main", storages=registry))
    other: Mapped[FileObject | None] = mapped_column(StoredObject(held, storages=registry))


def file(content: bytes) -> FileObject:
    return FileObject(filename="a.txt", content=content, storages=registry)


@pytest.fixture(autouse=True)
def production() -> Iterator[ObstoreBackend]:
    """A backend that no crash test may touch."""
    backend = ObstoreBackend("main", "memory://", chunk_size=10_000, rules=[max_size(50_000)])
    registry.register_backend(backend)
    yield backend
    registry.clear_backends()


def create(session: Session) -> None:
    session.add(Row(file=file(b"new"), other=file(b"other")))
    session.commit()


def stream(session: Session) -> None:
    session.add(Row(file=file(bytes(20_000))))
    session.commit()


async def create_in_a_task(session: AsyncSession) -> None:
    session.add(Row(file=file(b"new")))
    await session.commit()


def replace(session: Session) -> None:
    session.get_one(Row, 1_000).file = file(b"new")
    session.commit()


def one_row(session: Session) -> None:
    session.add(Row(id=1_000, file=file(b"old")))
    session.commit()


def test_report() -> None:
    """It says which points there are, as people read them, and how often each kind of failure was tried."""
    report = assert_crash_safe(create, metadata=Base.metadata, failures=("error", "outage", "cancel"))
    assert report.scenario == "create"
    labels = [label.partition(" 0")[0] for label in report.points]
    assert labels.count("put") == 4
    assert any(re.fullmatch(r"INSERT INTO .*row.* \(before\)", label) for label in labels)
    assert [label for label in labels if "COMMIT" in label] == [
        "COMMIT (before)",
        "COMMIT (request lost)",
        "COMMIT (answer lost)",
    ]
    assert labels[-1] == "the end"
    assert report.runs == {"error": len(labels) - 1, "outage": 4, "cancel": len(labels) - 2}
    assert 0 < report.swept < sum(report.runs.values())


def test_kill() -> None:
    """A process is killed before each thing that it does, and when it has done all."""
    report = assert_crash_safe(replace, metadata=Base.metadata, setup=one_row, failures=["kill"])
    assert report.runs["kill"] == sum(label.endswith("(before)") for label in report.points) + 1
    assert report.swept > 0


def test_streams() -> None:
    """A stream can break in its middle; how much is a stream is what the application's backend says."""
    report = assert_crash_safe(stream, metadata=Base.metadata, failures=("error", "kill"))
    assert sum("(in the middle)" in label for label in report.points) == 1


def test_another_registry() -> None:
    """What else the default registry knows is no business of these tables' sweep."""
    storages.register_backend("memory://", key="somebody-elses")
    try:
        assert_crash_safe(create, metadata=Base.metadata, failures=["error"])
    finally:
        storages.unregister_backend("somebody-elses")


def test_coroutines() -> None:
    """A coroutine function gets an `AsyncSession`, and is cancelled as a task is."""
    report = assert_crash_safe(create_in_a_task, metadata=Base.metadata)
    assert set(report.runs) == {"error", "outage", "cancel", "kill"}


def test_a_function_on_an_async_driver(tmp_path: Any) -> None:
    """A plain function with a database of an async driver is run by `run_sync`."""
    report = assert_crash_safe(
        create,
        metadata=Base.metadata,
        database=f"sqlite+aiosqlite:///{tmp_path / 'db'}",
        configure=databases.begin_for_real,
        failures=["cancel"],
    )
    assert report.runs["cancel"] > 0


def test_production_is_not_touched(production: ObstoreBackend) -> None:
    """Nothing is stored in the application's own backends, and afterwards they are in their places again."""
    registry.set_default_backend("main")
    assert_crash_safe(create, metadata=Base.metadata, failures=["error"])
    for backend in (production, held):
        assert list(iterate(backend.driver(inline).list())) == []
    assert registry.get_backend("main") is production
    assert registry.registered_backends() == ["main"]
    assert registry.default_backend == "main"
    assert [each.type.backend for each in file_columns(Base.metadata)] == ["main", held]


def too_large(session: Session) -> None:
    session.add(Row(file=file(bytes(60_000))))
    session.commit()


def test_a_scenario_that_fails_by_itself(production: ObstoreBackend) -> None:
    """What a scenario raises without any failure is raised as it is; the application's rules hold."""
    with pytest.raises(TooLarge):
        assert_crash_safe(too_large, metadata=Base.metadata, failures=["error"])
    assert registry.get_backend("main") is production


def swallow(session: Session) -> None:
    session.add(Row(file=file(b"new")))
    try:
        session.commit()
    except StoreError:
        session.rollback()


def test_a_swallowed_error() -> None:
    """I4: who returns as if all were well has done all."""
    with pytest.raises(NotCrashSafe, match="I4: the scenario did not raise, and its rows are not") as caught:
        assert_crash_safe(swallow, metadata=Base.metadata, failures=["error"])
    broken = {(each.promise, each.point.partition(" ")[0], each.failure) for each in caught.value.violations}
    assert broken == {("I4", "put", "error")}
    assert str(caught.value).startswith("2 promises broken (I4: 2)\nswallow #1 error at put ")


def lose(session: Session) -> None:
    row = session.get_one(Row, 1_000)
    assert row.file is not None
    FileObject(backend="main", path=row.file.path, storages=registry).delete()


def test_a_lost_file() -> None:
    """I1: a row whose object is gone is found, also where nothing failed."""
    with pytest.raises(NotCrashSafe, match=r"I1: row 1000: file names \w+\.txt, which is not there"):
        assert_crash_safe(lose, metadata=Base.metadata, setup=one_row, failures=["error"])


def leave_open(session: Session) -> None:
    other = Session(session.get_bind())
    left_open.append(other)
    other.add(Row(file=file(b"by the other")))
    session.execute(select(Row)).all()
    other.flush()


left_open: list[Session] = []


def test_a_transaction_that_is_left_open() -> None:
    """A scenario that keeps a transaction open hinders the runs after it, which is told."""
    with pytest.raises(NotCrashSafe, match="it hinders what comes after it"):
        assert_crash_safe(leave_open, metadata=Base.metadata, failures=["error"], configure=_impatient)
    for session in left_open:
        session.close()


def _impatient(engine: Engine) -> None:
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout = 50"))


calls: list[int] = []


def differs(session: Session) -> None:
    calls.append(1)
    if len(calls) == 1:
        session.execute(select(Row)).all()
    create(session)


def test_a_scenario_that_differs() -> None:
    """A scenario that does not do the same each time cannot be tried at every point, and is told so."""
    with pytest.raises(NotCrashSafe, match="the scenario did not come here again"):
        assert_crash_safe(differs, metadata=Base.metadata, failures=["error"])


def test_what_a_killed_process_cannot_find() -> None:
    """A scenario or a `metadata` that has no name in a module is refused before anything is run."""

    class Elsewhere(DeclarativeBase):
        pass

    with pytest.raises(ConfigurationError, match=r'find scenario, .* by their names: .* leave "kill" out'):
        assert_crash_safe(lambda session: None, metadata=Base.metadata)
    with pytest.raises(ConfigurationError, match=r"import it, or a class of it, into tests\.testing\.test_crash"):
        assert_crash_safe(partial(create), metadata=Elsewhere.metadata)


async def test_inside_a_loop() -> None:
    """It runs loops of its own, and says so where one is running."""
    with pytest.raises(ConfigurationError, match="from a test that is no coroutine"):
        assert_crash_safe(create_in_a_task, metadata=Base.metadata, failures=["error"])
    await asyncio.sleep(0)
