"""`orphans`: a backend's listing held against all that rows name, in constant memory."""

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from itertools import islice
from typing import TypeAlias

import msgspec
from sqlalchemy import Connection, Engine, MetaData, select

from lading import clock
from lading.backends.protocols import ObjectInfo, Stages
from lading.errors import (
    BackendNotRegistered,
    ConfigurationError,
    InvalidPath,
    ObjectNotFound,
    StoreError,
    StoreUnavailable,
)
from lading.ops.compare import Difference, Listed, Named, OutOfOrder, compare, fault, is_below
from lading.ops.retry import Retrying
from lading.ops.spool import Spool
from lading.orm.bridge import wait
from lading.orm.findings import Different, Finding, Leftover, Missing, Orphan, Unusable
from lading.orm.listing import listing
from lading.orm.neighbours import Neighbours
from lading.orm.outbox import AT_ONCE, Entry, Outbox
from lading.orm.references import FileColumn, file_columns, named, stream
from lading.orm.snapshot import snapshot
from lading.orm.triggers import refuse_unknown_tables
from lading.paths import guard
from lading.worlds import World

Sight: TypeAlias = ObjectInfo | StoreError | None
"""What a look at an object showed: the object, nothing, or that the store does not let it be seen."""


OnFindings: TypeAlias = Callable[[Sequence[Finding], str], object]
"""What is called with findings, and with the path to go on after."""


class Swept(msgspec.Struct, frozen=True):
    """What a sweep for orphans has seen and found.

    Attributes:
        objects: objects that were listed.
        rows: files that rows name there; one that two rows name counts twice.
        findings: in the order of the paths.
        waiting: objects that no row names and that are in the outbox already.
        after: where the next run goes on, since this one came to its limit; `None` when it came to the end.
    """

    objects: int
    rows: int
    findings: list[Finding]
    waiting: int
    after: str | None


def orphans(
    engine: Engine,
    metadata: MetaData,
    backend: str | None = None,
    *,
    prefix: str = "",
    grace: timedelta = timedelta(hours=24),
    delete: bool = False,
    limit: int = 10_000,
    after: str = "",
    on_progress: Callable[[int], object] | None = None,
    on_findings: OnFindings | None = None,
) -> Swept:
    """Find the objects of a backend that no row names, and the rows that name a missing or different object.

    What no row of `metadata` names, in any registry or under any alias, is an orphan: also what rows of another
    `MetaData`, database or schema name, what other applications or people have put there, and what rows name that this
    engine may not see. So let each have a backend of its own, or sweep below a `prefix` that is yours alone.

    First the rows are read, in one short transaction, into temporary files where they are many. Then the store is
    listed: in order where it can do that, else by temporary files too. Before anything is reported or deleted, rows
    and store are asked again about it.

    Args:
        engine: of the tables; under asyncio the `sync_engine`, in a greenlet.
        metadata: of the tables.
        backend: the key of the backend; by default the only one that the columns are declared with.
        prefix: whole segments: only objects below it, so that several workers share the work.
        grace: objects younger than this are no orphans, since their row may not be committed yet. It has to be longer
            than any upload, and any file that is saved ahead of its row, takes.
        delete: put orphans into the outbox, which keeps them as long as any object, or without an outbox delete them;
            delete what was left staged.
        limit: findings after which the run ends, from 1; those of one path stay together.
        after: the path to go on after.
        on_progress: called with the number of objects that were listed so far, every 1000.
        on_findings: called now and then with what was found since the last call, and the path to go on after in case
            that this run does not come to its end. A store whose listing turns out not to be in order is listed once
            more, and then what was told is told again.

    Raises:
        ConfigurationError: the backend is not known, not the only one, or may share objects with another one that
            cannot say where its objects lie; a row names a key that is not registered; an argument is wrong; or
            triggers in the database fill the outbox from tables that the metadata does not have, as when not all
            models are imported.
        RecordError: a row has a value that is no record: nobody knows which object it names.
        StoreError: the store failed, but not for a single object.
    """
    if limit < 1 or grace < timedelta(0):
        raise ConfigurationError("the limit is at least 1, and the grace no negative time")
    prefix = guard(prefix.removesuffix("/")) if prefix else ""
    outbox = Outbox.of(metadata)
    if outbox is not None:
        with engine.connect() as connection:
            refuse_unknown_tables(connection, outbox)
    run = _Run(engine, metadata, Neighbours(file_columns(metadata), backend), prefix, grace, delete)
    run.on_progress, run.on_findings = on_progress, on_findings
    with Spool[Named]() as rows:
        run.read_rows(rows, after)
        try:
            return run.sweep(rows, limit, after, in_order=True)
        except OutOfOrder:
            # A store broke its word. What was found so far was true all the same: everything was asked for twice.
            return run.sweep(rows, limit, after, in_order=False)


class _Run:
    def __init__(
        self,
        engine: Engine,
        metadata: MetaData,
        neighbours: Neighbours,
        prefix: str,
        grace: timedelta,
        delete: bool,
    ) -> None:
        self._engine = engine
        self._columns = file_columns(metadata)
        self._outbox = Outbox.of(metadata)
        self._neighbours = neighbours
        self._backend = neighbours.backend
        self._prefix = prefix
        self._oldest = clock.now() - grace.total_seconds()
        self._delete = delete
        self.on_progress: Callable[[int], object] | None = None
        self.on_findings: OnFindings | None = None
        self._places: list[tuple[FileColumn, str]] = []
        self._objects = 0

    def read_rows(self, rows: Spool[Named], after: str) -> None:
        """All that rows name in this backend, with a number for column and key."""
        numbers: dict[tuple[int, str], int] = {}
        prefix = self._prefix if self._neighbours.plain else ""
        with snapshot(self._engine) as connection:
            for column, key, path, size, etag, _ in stream(connection, self._columns, prefix=prefix):
                here = self._neighbours.here(key, path)
                if here is None or here <= after or not is_below(here, self._prefix):
                    continue
                number = numbers.setdefault((id(column.column), key), len(numbers))
                if number == len(self._places):
                    self._places.append((column, key))
                rows.add((here, size, etag, number))

    def sweep(self, rows: Spool[Named], limit: int, after: str, *, in_order: bool) -> Swept:
        self._objects, waiting = 0, 0
        findings: list[Finding] = []
        with listing(self._backend, self._prefix, after, in_order=in_order, on_page=self._count) as objects:
            differences = filter(self._matters, compare(objects, rows))
            while batch := list(islice(differences, AT_ONCE)):
                done = self._settle(batch, limit - len(findings))
                known = len(findings)
                for path, found, waits in done:
                    findings += found
                    waiting += waits
                    after = path
                if self.on_findings is not None:
                    self.on_findings(findings[known:], after)
                if len(done) < len(batch):
                    return Swept(self._objects, len(rows), findings, waiting, after)
        return Swept(self._objects, len(rows), findings, waiting, None)

    def _count(self, objects: int) -> None:
        self._objects += objects
        if self.on_progress is not None:
            self.on_progress(self._objects)

    def _settle(self, batch: list[Difference], room: int) -> list[tuple[str, list[Finding], bool]]:
        """What is true of differences, until there is no room for more findings: path, findings, whether it waits."""
        done: list[tuple[str, list[Finding], bool]] = []
        if room <= 0:
            return done
        seen = self._look(batch)
        outbox = self._outbox if self._delete else None
        with snapshot(self._engine, None if outbox is None else outbox.table) as connection:
            names = named(connection, self._columns, {entry for each in batch for entry in self._entries(each)})
            waiting = self._waiting(connection, batch)
            for each in batch:
                if room <= 0:
                    break
                found = self._found(each, seen, names)
                waits = each.path in waiting and any(isinstance(finding, Orphan) for finding in found)
                done.append((each.path, [] if waits else found, waits))
                room -= len(done[-1][1])
            gone = [finding for _, found, _ in done for finding in found]
            lost = [finding.path for finding in gone if isinstance(finding, Orphan)]
            if outbox is not None:
                entries = [(self._backend.key, path) for path in lost]
                # Not at once: a transaction that is under way may give one to a row, and not see that it was entered.
                outbox.add(connection, entries, "orphan")
        if self._delete:
            self._erase(lost if outbox is None else [], [each.path for each in gone if isinstance(each, Leftover)])
        return done

    def _matters(self, difference: Difference) -> bool:
        """Whether it may be a finding; what lies in the store and is young is none."""
        plain, staged = _parted(difference)
        return bool(difference.rows or (plain and self._is_old(plain)) or (staged and self._is_old(staged)))

    def _is_old(self, objects: list[Listed]) -> bool:
        # Also where two are listed under one path, as S3 lists the "folder" `a/` and the object `a`.
        return max(modified for _, _, modified, _, _ in objects) < self._oldest

    def _entries(self, difference: Difference) -> Iterator[Entry]:
        """What rows are to be asked for."""
        for *_, number in difference.rows:
            yield self._as_named(difference.path, number)
        if difference.objects and _refused(difference.path) is None:
            yield from self._neighbours.names(difference.path)

    def _as_named(self, path: str, number: int) -> Entry:
        """The object as rows name it."""
        key = self._places[number][1]
        return key, self._neighbours.there(key, path)

    def _found(self, difference: Difference, seen: dict[str, Sight], names: set[Entry]) -> list[Finding]:
        path, rows = difference.path, difference.rows
        plain, staged = _parted(difference)
        key, found = self._backend.key, list[Finding]()
        reason = _refused(path)
        if reason is not None or names.isdisjoint(self._neighbours.names(path)):
            if staged and self._is_old(staged) and reason is None:
                found.append(Leftover(key, *staged[0][:3]))
            if plain and not rows and self._is_old(plain):
                if reason is not None:
                    found.append(Unusable(key, *plain[0][:3], reason))
                elif seen.get(path, plain) is not None:
                    found.append(Orphan(key, *plain[0][:3]))
        for _, size, etag, number in rows:
            entry = self._as_named(path, number)
            if entry in names:
                finding = self._fault(entry, self._places[number][0], size, etag, seen[path])
                if finding is not None and finding not in found:
                    found.append(finding)
        return found

    def _fault(
        self, entry: Entry, column: FileColumn, size: int | None, etag: str | None, info: Sight
    ) -> Missing | Different | None:
        where = (*entry, column.table.fullname, column.column.name)
        if info is None:
            return Missing(*where)
        if isinstance(info, StoreError):
            return Different(*where, "unreadable", "", str(info))
        what = fault(size, etag, info.size, info.etag)
        if what == "size":
            return Different(*where, "size", size or 0, info.size)
        if what == "etag":
            return Different(*where, "etag", etag or "", info.etag or "")
        return None

    def _look(self, batch: list[Difference]) -> dict[str, Sight]:
        """What the store says now of what rows name, and of empty objects: S3 lists "folders", which are none."""
        paths = [each.path for each in batch if each.rows or any(not size for _, size, *_ in each.objects)]
        concurrency = self._columns[0].type.storages.concurrency

        async def look(world: World) -> list[Sight]:
            driver = Retrying(self._backend, world)

            async def head(path: str) -> Sight:
                try:
                    return await driver.head(path)
                except (ObjectNotFound, InvalidPath):
                    return None
                except StoreUnavailable:
                    raise
                except StoreError as error:
                    return error

            return await world.each(head, paths, concurrency)

        return dict(zip(paths, wait(look), strict=True)) if paths else {}

    def _waiting(self, connection: Connection, batch: list[Difference]) -> set[str]:
        """The paths of objects that are in the outbox."""
        if self._outbox is None:
            return set()
        c = self._outbox.table.c
        lying = [each.path for each in batch if each.objects and not each.rows and _refused(each.path) is None]
        paths = sorted({there for path in lying for _, there in self._neighbours.names(path)})
        found: set[str] = set()
        for start in range(0, len(paths), AT_ONCE):
            asked = select(c.backend, c.path).where(c.path.in_(paths[start : start + AT_ONCE]))
            for key, path in connection.execute(asked):
                try:
                    here = self._neighbours.here(key, path)
                except BackendNotRegistered:
                    continue
                if here is not None:
                    found.add(here)
        return found

    def _erase(self, orphans: list[str], leftovers: list[str]) -> None:
        async def erase(world: World) -> None:
            driver = self._backend.driver(world)
            if orphans:
                await Retrying(self._backend, world).delete(orphans)
            if leftovers and isinstance(driver, Stages):
                await driver.discard(leftovers)

        wait(lambda world: world.finish(erase(world)))


def _parted(difference: Difference) -> tuple[list[Listed], list[Listed]]:
    """The objects, and what is staged."""
    return [each for each in difference.objects if not each[4]], [each for each in difference.objects if each[4]]


def _refused(path: str) -> str | None:
    """Why lading cannot touch a path that a store lists."""
    try:
        guard(path)
    except InvalidPath as error:
        return error.reason
    return None
