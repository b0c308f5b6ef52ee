"""The orphan sweep over a million objects and a million rows, in child processes whose memory is measured.

The listing is made up; the rows are in SQLite, in no order, with records of the usual length.
"""

import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
from sqlalchemy import Column, Integer, MetaData, Table, create_engine

from benchmarks import places
from benchmarks.harness import Result
from lading import Storages, StoredObject
from lading.backends.protocols import Attributes, Body, Driver, ObjectInfo, Place, Stored
from lading.errors import NotSupported, ObjectNotFound
from lading.media import Trust
from lading.orm.findings import Missing, Orphan
from lading.orm.orphans import orphans
from lading.paths import PathMaker
from lading.record import FileRecord
from lading.rules import Rule
from lading.worlds import World

COUNT = 1_000_000
MEMORY = 150
"""MiB."""

WORKERS = ("a", "b")
"""The two prefixes, each of half of the objects."""

ORPHANS, HOLES = 10_007, 10_009
"""Every so-manieth object has no row, every so-manieth row no object."""


class Report(msgspec.Struct):
    """What one worker did."""

    seconds: float
    mib: float
    objects: int
    rows: int
    orphans: list[str]
    missing: list[str]
    others: int


def path_of(number: int) -> str:
    return f"{WORKERS[number % 2]}/{number:044x}.pdf"


def is_orphan(number: int) -> bool:
    return number % ORPHANS == 1


def is_hole(number: int) -> bool:
    return number % HOLES == 2


def info_of(number: int) -> ObjectInfo:
    return ObjectInfo(path_of(number), 100_000 + number, 1_767_225_600.0, f'"{number:032x}"')


class Store:
    """A store that is nothing but a listing."""

    def __init__(self, count: int) -> None:
        self._count = count

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        # In no order: a step that has no divisor in common with the count comes by everything once.
        for number in range(self._count):
            number = number * 7919 % self._count
            if not is_hole(number) and (not prefix or WORKERS[number % 2] == prefix):
                yield info_of(number)

    async def head(self, path: str) -> ObjectInfo:
        number = int(path[2:46], 16)
        if is_hole(number):
            raise ObjectNotFound(f"nothing lies at {path}", backend="made up", path=path)
        return info_of(number)

    async def put(self, path: str, body: Body, *, size: int | None, overwrite: bool, attributes: Attributes) -> Stored:
        raise NotSupported("a listing stores nothing")

    async def get(self, path: str) -> bytes:
        raise NotSupported("a listing has no content")

    async def read(self, path: str, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        yield await self.get(path)

    async def delete(self, paths: Sequence[str]) -> None:
        raise NotSupported("a listing deletes nothing")


class OrderedStore(Store):
    """One that lists in order."""

    async def list_in_order(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectInfo]:
        for worker, name in enumerate(WORKERS):
            if prefix in ("", name):
                for number in range(worker, self._count, 2):
                    if not is_hole(number):
                        yield info_of(number)


class MadeUp:
    """A backend of somebody else's: no part of lading's own."""

    key = "made up"
    protocol = "listing"
    rules: Sequence[Rule] = ()
    path_maker: PathMaker | None = None
    trust: Trust = "content"
    checksum: str | None = None
    chunk_size = 2**20
    place: Place = ("listing", "")

    def __init__(self, count: int, *, in_order: bool) -> None:
        self._store = OrderedStore(count) if in_order else Store(count)

    def driver(self, world: World) -> Driver:
        return self._store


def fill(database: str, count: int) -> None:
    """Write the rows, with records such as lading's own."""
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("CREATE TABLE document (id INTEGER PRIMARY KEY, file JSON)")
    connection.execute("BEGIN")
    numbers = (number * 104_729 % count for number in range(count))
    rows = ((record_of(number),) for number in numbers if not is_orphan(number))
    connection.executemany("INSERT INTO document (file) VALUES (?)", rows)
    connection.execute("COMMIT")
    connection.close()


def record_of(number: int) -> str:
    record = FileRecord(
        backend=MadeUp.key,
        path=path_of(number),
        filename=f"Document {number}.pdf",
        content_type="application/pdf",
        size=100_000 + number,
        last_modified=1_767_225_600.25,
        checksum=f"sha256:{number:064x}",
        etag=f'"{number:032x}"',
    )
    return record.to_json().decode()


def sweep(database: str, count: int, prefix: str, *, in_order: bool) -> Report:
    """One worker, in this process."""
    registry = Storages()
    registry.register_backend(MadeUp(count, in_order=in_order))
    metadata = MetaData()
    column = Column[Any]("file", StoredObject(MadeUp.key, storages=registry))
    Table("document", metadata, Column("id", Integer, primary_key=True), column)
    engine = create_engine(f"sqlite:///{database}")
    start = perf_counter()
    swept = orphans(engine, metadata, prefix=prefix, grace=timedelta(hours=1))
    seconds = perf_counter() - start
    engine.dispose()
    assert swept.after is None
    lost = [each.path for each in swept.findings if isinstance(each, Orphan)]
    missing = [each.path for each in swept.findings if isinstance(each, Missing)]
    mib = peak() / 2**20
    others = len(swept.findings) - len(lost) - len(missing)
    return Report(seconds, mib, swept.objects, swept.rows, lost, missing, others)


def peak() -> int:
    """The most memory that this process has had, in bytes; what `getrusage` says includes what its parent had."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def workers(database: str, count: int, *prefixes: str, in_order: bool) -> list[Report]:
    """Several workers at the same time, each in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.sweep", database, str(count), str(int(in_order))]
    children = [subprocess.Popen([*command, prefix], stdout=subprocess.PIPE) for prefix in prefixes]
    answers = [child.communicate()[0] for child in children]
    if any(child.returncode for child in children):
        raise RuntimeError("a worker failed")
    return [msgspec.json.decode(answer, type=Report) for answer in answers]


def results(*, quick: bool) -> Iterator[Result]:
    count = 20_000 if quick else COUNT
    with places.directory() as root:
        database = f"{root}/rows.sqlite"
        fill(database, count)
        for how, in_order in (("in order", True), ("in no order", False)):
            (one,) = workers(database, count, "", in_order=in_order)
            yield Result(f"{count:,} objects listed {how}, as many rows", one.seconds, None, 1)
            yield Result("  objects per second", None, None, one.objects / one.seconds)
            yield Result("  MiB of memory", None, None, one.mib, MEMORY)
            yield Result("  orphans and missing not found, or found in error", None, None, wrong(one, count), 0)
        two = workers(database, count, *WORKERS, in_order=True)
        seconds = max(each.seconds for each in two)
        yield Result("  by two workers, objects per second", None, None, sum(each.objects for each in two) / seconds)


def wrong(report: Report, count: int) -> int:
    """How many findings are lacking, or there are too many."""
    lost = {path_of(number) for number in range(count) if is_orphan(number) and not is_hole(number)}
    missing = {path_of(number) for number in range(count) if is_hole(number) and not is_orphan(number)}
    return len(lost ^ set(report.orphans)) + len(missing ^ set(report.missing)) + report.others


if __name__ == "__main__":
    given, number, ordered, below = sys.argv[1:]
    print(msgspec.json.encode(sweep(given, int(number), below, in_order=ordered == "1")).decode())
