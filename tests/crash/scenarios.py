"""What applications do with rows that have files: each scenario is a function of a session that commits by itself."""

from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

from tests.crash.models import Bare, Guarded, Models, Prompt, file, files

ONE, TWO, THREE, FOUR = range(1_000_001, 1_000_005)
"""Ids that no sequence gives to a new row."""

BASES = (Bare, Guarded, Prompt)
"""A process that is to be killed looks in this module for their metadata."""

LARGE = 3 * 2**16
"""Bytes; three parts of a stream, see `backend`."""

SCENARIOS: list[Callable[[Models, Session], None]] = []
COROUTINES: list[Callable[[Models, AsyncSession], Any]] = []


def scenario(function: Callable[[Models, Session], None]) -> Callable[[Models, Session], None]:
    SCENARIOS.append(function)
    return function


def coroutine(function: Callable[[Models, AsyncSession], Any]) -> Callable[[Models, AsyncSession], Any]:
    COROUTINES.append(function)
    return function


def setup(models: Models, session: Session) -> None:
    """Two documents with files, one without, and a folder that has one and two notes."""
    session.add_all(
        [
            models.Document(id=ONE, name="one", file=file(b"one"), pages=files(b"1", b"2", b"3")),
            models.Document(id=TWO, name="two", file=file(b"two"), cover=file(b"cover")),
            models.Document(id=THREE, name="three"),
            models.Folder(
                id=ONE,
                documents=[models.Document(id=FOUR, file=file(b"four"))],
                notes=[models.Note(id=ONE, file=file(b"note")), models.Note(id=TWO)],
            ),
        ]
    )
    session.commit()


async def setup_in_a_task(models: Models, session: AsyncSession) -> None:
    await session.run_sync(partial(setup, models))


@scenario
def create(models: Models, session: Session) -> None:
    session.add(models.Document(file=file(b"new")))
    session.commit()


@scenario
def replace(models: Models, session: Session) -> None:
    session.get_one(models.Document, ONE).file = file(b"new")
    session.commit()


@scenario
def clear(models: Models, session: Session) -> None:
    session.get_one(models.Document, ONE).file = None
    session.commit()


@scenario
def delete_row(models: Models, session: Session) -> None:
    session.delete(session.get_one(models.Document, TWO))
    session.commit()


@scenario
def append_and_remove(models: Models, session: Session) -> None:
    document = session.get_one(models.Document, ONE)
    document.pages.append(file(b"4"))
    del document.pages[0]
    session.commit()


@scenario
def reorder_then_replace_all(models: Models, session: Session) -> None:
    document = session.get_one(models.Document, ONE)
    document.pages.reverse()
    session.commit()
    document.pages = files(b"5", b"6")
    session.commit()


@scenario
def several_columns(models: Models, session: Session) -> None:
    session.add(models.Document(file=file(b"a"), cover=file(b"b"), pages=files(b"c", b"d")))
    document = session.get_one(models.Document, TWO)
    document.file, document.cover = file(b"new"), None
    session.commit()


@scenario
def savepoint_released(models: Models, session: Session) -> None:
    session.get_one(models.Document, ONE).file = file(b"outside")
    with session.begin_nested():
        session.get_one(models.Document, TWO).file = file(b"inside")
    session.commit()


@scenario
def savepoint_rolled_back(models: Models, session: Session) -> None:
    session.get_one(models.Document, ONE).file = file(b"outside")
    savepoint = session.begin_nested()
    session.get_one(models.Document, TWO).file = file(b"inside")
    session.add(models.Document(file=file(b"inside")))
    session.flush()
    savepoint.rollback()
    session.commit()


@scenario
def nested_savepoints(models: Models, session: Session) -> None:
    document = session.get_one(models.Document, ONE)
    with session.begin_nested():
        document.file = file(b"first")
        inner = session.begin_nested()
        document.file = file(b"second")
        session.flush()
        inner.rollback()
        with session.begin_nested():
            document.cover = file(b"third")
    session.commit()


@scenario
def deleted_in_a_savepoint(models: Models, session: Session) -> None:
    savepoint = session.begin_nested()
    session.delete(session.get_one(models.Document, TWO))
    session.add(models.Document(file=file(b"instead")))
    session.flush()
    savepoint.rollback()
    session.get_one(models.Document, ONE).file = file(b"new")
    session.commit()


@scenario
def replace_twice(models: Models, session: Session) -> None:
    document = session.get_one(models.Document, ONE)
    document.file = file(b"first")
    session.flush()
    document.file = file(b"second")
    session.commit()


@scenario
def bulk_insert(models: Models, session: Session) -> None:
    session.execute(insert(models.Document), [{"file": file(b"a"), "pages": []}, {"file": file(b"b"), "pages": []}])
    session.commit()


@scenario
def bulk_update(models: Models, session: Session) -> None:
    session.execute(update(models.Document).where(models.Document.id == ONE).values(file=file(b"new")))
    session.execute(update(models.Document).where(models.Document.name.is_not(None)).values(cover=None))
    session.commit()


@scenario
def bulk_delete(models: Models, session: Session) -> None:
    session.execute(delete(models.Document).where(models.Document.id < THREE))
    session.commit()


@scenario
def merge(models: Models, session: Session) -> None:
    session.merge(models.Document(id=ONE, name="merged", file=file(b"new"), pages=[]))
    session.commit()


@scenario
def two_sessions_on_one_row(models: Models, session: Session) -> None:
    document = session.get_one(models.Document, ONE)
    session.commit()
    with Session(session.get_bind()) as other:
        other.get_one(models.Document, ONE).file = file(b"by the other")
        other.commit()
    document.file = file(b"by the first")
    session.commit()


@scenario
def stale_instance(models: Models, session: Session) -> None:
    """What the instance remembers is no more what the row names."""
    session.expire_on_commit = False
    document = session.get_one(models.Document, ONE)
    session.commit()
    with Session(session.get_bind()) as other:
        other.get_one(models.Document, ONE).file = file(b"by the other")
        other.commit()
    document.file = None
    session.commit()


@scenario
def move(models: Models, session: Session) -> None:
    first, second = session.get_one(models.Document, ONE), session.get_one(models.Document, TWO)
    second.file, first.file = first.file, None
    session.commit()


@scenario
def swap(models: Models, session: Session) -> None:
    first, second = session.get_one(models.Document, ONE), session.get_one(models.Document, TWO)
    first.file, second.file = second.file, first.file
    session.commit()


@scenario
def copy(models: Models, session: Session) -> None:
    session.get_one(models.Document, THREE).file = session.get_one(models.Document, ONE).file
    session.commit()


@scenario
def staged_then_adopted(models: Models, session: Session) -> None:
    upload = file(b"uploaded before", backend="files")
    _save(upload)
    session.get_one(models.Document, ONE).file = upload
    session.commit()


def _save(upload: Any) -> None:
    """Save a file in whichever world the session is in."""
    if in_greenlet():
        await_only(upload.save_async())
    else:
        upload.save()


@scenario
def orm_cascade(models: Models, session: Session) -> None:
    session.execute(delete(models.Note))
    session.delete(session.get_one(models.Folder, ONE))
    session.commit()


@scenario
def orphan_of_a_relationship(models: Models, session: Session) -> None:
    folder = session.get_one(models.Folder, ONE)
    folder.documents = [models.Document(file=file(b"another"))]
    session.commit()


@scenario
def on_delete_cascade(models: Models, session: Session) -> None:
    session.execute(update(models.Document).values(folder_id=None))
    session.execute(delete(models.Folder))
    session.commit()


@scenario
def raw_sql(models: Models, session: Session) -> None:
    session.execute(text("DELETE FROM document WHERE id = :id"), {"id": ONE})
    session.execute(text("UPDATE document SET cover = NULL WHERE id = :id"), {"id": TWO})
    session.commit()


@scenario
def rolled_back(models: Models, session: Session) -> None:
    session.get_one(models.Document, ONE).file = file(b"new")
    session.add(models.Document(file=file(b"another")))
    session.flush()
    session.rollback()


@scenario
def failing_flush_then_retry(models: Models, session: Session) -> None:
    session.get_one(models.Document, ONE).file = file(b"first try")
    session.add(models.Document(name="two", file=file(b"clashes")))
    try:
        session.flush()
    except IntegrityError:
        session.rollback()
    session.get_one(models.Document, ONE).file = file(b"second try")
    session.commit()


@scenario
def clash_in_a_savepoint(models: Models, session: Session) -> None:
    session.get_one(models.Document, ONE).file = file(b"outside")
    try:
        with session.begin_nested():
            session.add(models.Document(name="two", file=file(b"clashes")))
    except IntegrityError:
        pass
    session.commit()


@scenario
def closed_without_commit(models: Models, session: Session) -> None:
    session.get_one(models.Document, ONE).file = file(b"new")
    session.delete(session.get_one(models.Document, TWO))
    session.flush()
    session.close()


@scenario
def large_stream(models: Models, session: Session) -> None:
    session.get_one(models.Document, ONE).file = file(_parts())
    session.commit()


def _parts() -> Iterator[bytes]:
    for _ in range(LARGE // 2**14):
        yield bytes(2**14)


@coroutine
async def replace_in_a_task(models: Models, session: AsyncSession) -> None:
    (await session.get_one(models.Document, ONE)).file = file(b"new")
    await session.commit()


@coroutine
async def stream_in_a_task(models: Models, session: AsyncSession) -> None:
    async with session.begin():
        (await session.get_one(models.Document, ONE)).file = file(_parts_in_a_task())


async def _parts_in_a_task() -> AsyncIterator[bytes]:
    for part in _parts():
        yield part


@coroutine
async def staged_then_adopted_in_a_task(models: Models, session: AsyncSession) -> None:
    upload = file(b"uploaded before", backend="files")
    await upload.save_async()
    (await session.get_one(models.Document, ONE)).file = upload
    await session.commit()


@coroutine
async def savepoints_in_a_task(models: Models, session: AsyncSession) -> None:
    document = await session.get_one(models.Document, ONE)
    async with session.begin_nested():
        document.file = file(b"inside")
    savepoint = await session.begin_nested()
    document.cover = file(b"rolled back")
    await session.flush()
    await savepoint.rollback()
    await session.commit()


@coroutine
async def all_rows_in_a_task(models: Models, session: AsyncSession) -> None:
    for number, document in enumerate(await session.scalars(select(models.Document))):
        document.file = file(b"new %d" % number)
    await session.commit()
