"""Flush and commit of rows with a 4 KiB file each, against eight puts at a time and then one INSERT of ready JSON."""

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any, TypeAlias

import obstore
from sqlalchemy import JSON, Engine, create_engine, insert
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import NullPool

from benchmarks import places
from benchmarks.harness import Result, compare
from lading import FileObject, Storages, StoredObject
from lading.backends.obstore import ObstoreBackend
from lading.backends.protocols import Attributes
from lading.paths import token
from lading.record import FileRecord
from lading.worlds import World, asyncio_world, inline, run

AT_ONCE = 8
SIZE = 4096

Places: TypeAlias = ObstoreBackend | places.Slow

storages = Storages()


class Base(DeclarativeBase):
    pass


class Document(Base):
    __tablename__ = "document"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    file: Mapped[FileObject] = mapped_column(StoredObject(storages=storages))


class Plain(Base):
    __tablename__ = "plain"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    file: Mapped[dict[str, Any]] = mapped_column(JSON)


def results(*, quick: bool) -> Iterator[Result]:
    with ExitStack() as stack:
        root = stack.enter_context(places.directory())
        engine = create_engine(f"sqlite:///{root}/bench.sqlite")
        # each comparison has a loop of its own, and a connection lives in one loop
        async_engine = create_async_engine(f"sqlite+aiosqlite:///{root}/bench.sqlite", poolclass=NullPool)
        stack.callback(engine.dispose)
        Base.metadata.create_all(engine)
        local, slow, ideal = stack.enter_context(places.local()), places.Slow(), places.Slow()
        for backend in (local, slow):
            storages.register_backend(backend, replace=True)
        for rows in (1, 100) if quick else (1, 100, 1000):
            rounds = 2 if quick else {1: 200, 100: 20, 1000: 7}[rows]
            yield from _of_rows("local", local, local, engine, async_engine, rows, rounds, None)
        for rows in (1, 100) if quick else (1, 100, 1000):
            rounds = 2 if quick else {1: 20, 100: 11, 1000: 5}[rows]
            target = 1.25 if rows == 1000 else None
            slow.requests = 0
            yield from _of_rows("slow", slow, ideal, engine, async_engine, rows, rounds, target)
            files = 2 * rows * (rounds + 1)
            yield Result(f"  requests a file, {rows} rows", None, None, slow.requests / files, 1.0)


def _of_rows(
    name: str,
    backend: Places,
    ideal_backend: Places,
    engine: Engine,
    async_engine: AsyncEngine,
    rows: int,
    rounds: int,
    target: float | None,
) -> Iterator[Result]:
    contents = [places.noise(SIZE) for _ in range(rows)]
    ready = [_record(number) for number in range(rows)]
    put = partial(_put, ideal_backend, inline)
    put_async = partial(_put, ideal_backend, asyncio_world)

    def documents() -> list[Document]:
        return [Document(title="a", file=FileObject(backend.key, "a.bin", content=content)) for content in contents]

    def empty(_: object) -> None:
        with engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM document")
            connection.exec_driver_sql("DELETE FROM plain")

    def commit(documents: Sequence[Document]) -> None:
        with Session(engine) as session:
            session.add_all(documents)
            session.commit()

    async def commit_async(documents: Sequence[Document]) -> None:
        async with AsyncSession(async_engine) as session:
            session.add_all(documents)
            await session.commit()

    def ideal(_: object) -> None:
        with ThreadPoolExecutor(min(AT_ONCE, rows)) as pool:
            list(pool.map(lambda content: run(put(content)), contents))
        with engine.begin() as connection:
            connection.execute(insert(Plain), ready)

    async def ideal_async(_: object) -> None:
        waiting = iter(contents)

        async def work() -> None:
            for content in waiting:
                await put_async(content)

        await asyncio.gather(*(work() for _ in range(min(AT_ONCE, rows))))
        async with async_engine.begin() as connection:
            await connection.execute(insert(Plain), ready)

    line = partial(compare, rounds=rounds, target=target, prepare=documents, clean=empty)
    what = f"{rows} row{'s' if rows > 1 else ''}, {name}"
    yield line(what, commit, ideal)
    yield line(f"{what}, async", commit_async, ideal_async)


async def _put(backend: Places, world: World, content: bytes) -> None:
    path = f"{token()}.bin"
    if isinstance(backend, places.Slow):
        await backend.driver(world).put(path, content, size=SIZE, overwrite=False, attributes=Attributes())
    elif world is inline:
        obstore.put(backend.store, path, content)
    else:
        await obstore.put_async(backend.store, path, content)


def _record(number: int) -> dict[str, Any]:
    record = FileRecord(
        backend="slow",
        path=f"{token()}.bin",
        filename="a.bin",
        size=SIZE,
        last_modified=1_767_225_600.25 + number,
        checksum=f"sha256:{number:064x}",
        etag=f'"{number:032x}"',
    )
    return {"title": "a", "file": record.to_dict()}
