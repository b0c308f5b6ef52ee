"""What is there, counted without lading: rows by SQL, objects by the store's own client."""

import hashlib
import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import obstore
from obstore.store import S3Store
from sqlalchemy import text
from sqlalchemy.dialects.postgresql import JSONB

from tests.services.moto import S3
from tests.soak.journal import Log, Written
from tests.soak.models import FAMILIES, Document, Place
from tests.soak.trip import FILES, joined, name_of, named

QUIET_SECONDS = 30.0


class Row(NamedTuple):
    """A row, and the records of the files that it names."""

    written: Written
    records: list[dict[str, Any]]


@dataclass
class Findings:
    """What was looked at, and what is wrong.

    Attributes:
        rows: that were looked at.
        files: that they name.
        dangling: files whose object is missing, or another.
        lost: rows that are not what somebody was told that they are.
        orphans: objects that no row names, the waiting ones included.
        waiting: entries in an outbox.
    """

    rows: int = 0
    files: int = 0
    dangling: list[str] = field(default_factory=list[str])
    lost: list[str] = field(default_factory=list[str])
    orphans: list[str] = field(default_factory=list[str])
    waiting: int = 0


class Inspector:
    """Looks at database and store.

    Args:
        place: without faults on the way there.
    """

    def __init__(self, place: Place) -> None:
        s3 = S3(place.endpoint)
        self._engine = place.engine().execution_options(isolation_level="AUTOCOMMIT")
        self._store = S3Store(
            place.bucket,
            endpoint=s3.endpoint,
            access_key_id=s3.access_key_id,
            secret_access_key=s3.secret_access_key,
            region=s3.region,
            client_options={"allow_http": True},
        )

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    def glance(self, chance: random.Random, found: Findings) -> None:
        """Look at a row while others write: what it names must be there for as long as it names it."""
        kind = chance.choice(FAMILIES)
        rows = self.rows(kind)
        for row in self.rows(kind, chance.choice(rows).written.id) if rows else ():
            found.rows += 1
            found.files += len(row.records)
            wrong = self.wrong(row)
            if wrong and [now.written for now in self.rows(kind, row.written.id)] == [row.written]:
                found.dangling += wrong

    def all(self, log: Log) -> Findings:
        """Look at everything, now that nobody writes."""
        found = Findings()
        rows: dict[tuple[str, int], Written] = {}
        there = set(self.paths())
        for kind in FAMILIES:
            for row in self.rows(kind):
                rows[row.written.family, row.written.id] = row.written
                found.rows += 1
                found.files += len(row.records)
                found.dangling += self.wrong(row)
                there -= {_path(record) for record in row.records}
            found.waiting += self._count(f"{kind.__tablename__}_outbox")
        found.lost = list(_lost(rows, log))
        found.orphans = sorted(there)
        return found

    def rows(self, kind: type[Document], key: int | None = None) -> list[Row]:
        """The rows of a family, or one of them, where it exists."""
        table = kind.__tablename__
        asked = f"SELECT * FROM {table}" + (" WHERE id = :id" if key is not None else " ORDER BY id")
        with self._engine.connect() as connection:
            rows = connection.execute(text(asked).columns(**dict.fromkeys(FILES, JSONB)), {"id": key}).all()
        return [
            Row(
                Written(table, row.id, row.version, joined(*named(row))),
                [record for record in (row.file, row.cover, *(row.pages or ())) if record is not None],
            )
            for row in rows
        ]

    def wrong(self, row: Row) -> list[str]:
        """What is wrong with the files of a row."""
        problems = ((record, self._problem(record)) for record in row.records)
        return [f"{row.written}: {_path(record)}: {problem}" for record, problem in problems if problem]

    def paths(self) -> Iterator[str]:
        """Every object there is."""
        for chunk in obstore.list(self._store):
            yield from (str(item["path"]) for item in chunk)

    def wait_for_quiet(self) -> None:
        """Wait until nobody else is connected to the database: a transaction may outlive the process that began it."""
        deadline = time.monotonic() + QUIET_SECONDS
        others = "pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        while self._count(others):
            if time.monotonic() > deadline:
                raise RuntimeError("somebody is still connected to the database")
            time.sleep(0.1)

    def _problem(self, record: dict[str, Any]) -> str:
        try:
            got = obstore.get(self._store, _path(record))
            content = bytes(got.bytes())
        except FileNotFoundError:
            return "missing"
        checksum = f"sha256:{hashlib.sha256(content).hexdigest()}"
        told = (record["size"], record["checksum"], record["etag"], record["filename"])
        seen = (len(content), checksum, got.meta["e_tag"], f"{name_of(content)}.bin")
        return "" if seen == told else f"{seen}, not {told}"

    def _count(self, table: str) -> int:
        with self._engine.connect() as connection:
            return cast("int", connection.scalar(text(f"SELECT count(*) FROM {table}")))


def _path(record: dict[str, Any]) -> str:
    """Where in the bucket; the prefix of a backend is its key."""
    return f"{record['backend']}/{record['path']}"


def _lost(rows: dict[tuple[str, int], Written], log: Log) -> Iterator[str]:
    """Rows that are not as the last who was told so has left them, or as nobody meant them to be."""
    for key, row in rows.items():
        if row not in log.announced[key]:
            yield f"nobody meant to write {row}"
    for key, acknowledged in log.acknowledged.items():
        for told in acknowledged:
            if not _holds(told, rows.get(key), log.announced[key]):
                yield f"{told} was committed, and now there is {rows.get(key)}"


def _holds(told: Written, now: Written | None, announced: Iterable[Written]) -> bool:
    """Whether a row is what a transaction left, or what a later one made of it."""
    if told.state is None:
        return now is None
    if now is None:
        return any(each.state is None and each.version >= told.version for each in announced)
    return now == told or now.version > told.version
