"""`Outbox`: the table of objects to delete, written in the transaction that made them garbage."""

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    Dialect,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    and_,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.dialects.mysql import DATETIME, VARCHAR
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.types import TypeDecorator, TypeEngine

from lading import clock
from lading.errors import ConfigurationError

Entry = tuple[str, str]
"""An object as rows and the outbox name it: the key of its backend, and its path there."""

AT_ONCE = 500
"""Objects that are named in one statement."""

UPLOAD, ATTACHED = "upload", "attached upload"
"""The reasons of direct uploads: what may still be attached, and what was; nobody but lading writes these."""

_INFO = "lading.outbox"

_SKEW = timedelta(minutes=1)
"""By which the clock of a database, which its triggers go by, may be behind ours."""


class Timestamp(TypeDecorator[datetime]):
    """A moment, to the microsecond, in UTC on every database; always aware in Python."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(TIMESTAMP(timezone=True))
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None or dialect.name == "postgresql":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo is not None else value.replace(tzinfo=UTC)


class Outbox:
    """The objects that rows of some tables have let go of, in a table beside them, until they are deleted.

    With one, a delete is part of the transaction: it survives a crash and a dead store, and other writers than lading
    can ask for it, by triggers. It is for all tables of its metadata, also those that are declared later, and takes
    effect by being made: `Outbox(Base.metadata)`.

    Args:
        metadata: of the tables whose files it is for; the outbox becomes one of its tables.
        name: of the table.
        schema: of the table; by default that of the metadata.
        grace: how long an object stays when no row names it any more, for readers who have an old row or a signed URL.
        keep_for: how long it stays so that a database that is restored from a backup still finds it; the longer of the
            two counts.
        triggers: whether `create_all` makes triggers, by which every writer's changes come here.
        indexes: whether `create_all` makes the indexes by which the sweeper finds out quickly whether a row names a
            path.

    Attributes:
        table: the table: `id`, `backend`, `path`, `reason`, `created_at`, `not_before`, `attempts`, `last_error`.

    Raises:
        ConfigurationError: the metadata has an outbox already, or a time is negative.
    """

    def __init__(
        self,
        metadata: MetaData,
        name: str = "lading_outbox",
        *,
        schema: str | None = None,
        grace: timedelta = timedelta(minutes=5),
        keep_for: timedelta = timedelta(0),
        triggers: bool = True,
        indexes: bool = True,
    ) -> None:
        if _INFO in metadata.info:
            raise ConfigurationError("these tables have an outbox already")
        if min(grace, keep_for) < timedelta(0):
            raise ConfigurationError("grace and keep_for are times from now on, not negative ones")
        self.grace = grace
        self.keep_for = keep_for
        self.triggers = triggers
        self.indexes = indexes
        # Compared byte by byte: another collation would hold `A` and `a` for one path.
        exact = VARCHAR(1024, charset="utf8mb4", collation="utf8mb4_bin")
        path = Column("path", String(1024).with_variant(exact, "mysql", "mariadb"), nullable=False)
        not_before = Column("not_before", Timestamp, nullable=False)
        self.table = Table(
            name,
            metadata,
            Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
            Column("backend", String(255), nullable=False),
            path,
            Column("reason", String(255), nullable=False),
            Column("created_at", Timestamp, nullable=False),
            not_before,
            Column("attempts", Integer, nullable=False),
            Column("last_error", Text),
            # InnoDB indexes 3072 bytes of a key at most.
            Index(f"ix_{name}_path", path, mysql_length=255, mariadb_length=255),
            Index(f"ix_{name}_not_before", not_before),
            schema=schema,
        )
        metadata.info[_INFO] = self

    @staticmethod
    def of(metadata: MetaData) -> "Outbox | None":
        """The outbox of these tables, where they have one."""
        return metadata.info.get(_INFO)

    @property
    def delay(self) -> timedelta:
        """How long an object stays when no row names it any more."""
        return max(self.grace, self.keep_for)

    def add(
        self, connection: Connection, entries: Collection[Entry], reason: str, *, delay: timedelta | None = None
    ) -> None:
        """Enter objects that nobody names any more, but for those that a trigger, or somebody else, has entered.

        Args:
            connection: in the transaction that made them garbage.
            entries: the objects.
            reason: what became of them, in a few words, for people who look into the table.
            delay: how long they stay; by default as long as objects that rows have named.
        """
        now = datetime.fromtimestamp(clock.now(), UTC)
        due = now + (self.delay if delay is None else delay)
        when = {"reason": reason, "created_at": now, "not_before": due}
        for some in _in_parts(entries):
            # One that was due earlier is of another time when the object was let go of, and of a row since.
            known = {(row.backend, row.path) for row in self._rows(connection, some) if row.not_before >= due - _SKEW}
            new = [entry for entry in some if entry not in known]
            if new:
                rows = [{"backend": backend, "path": path, "attempts": 0, **when} for backend, path in new]
                connection.execute(insert(self.table), rows)

    def remove(
        self,
        connection: Connection,
        entries: Collection[Entry],
        backend_of: Callable[[str], object] = lambda key: key,
    ) -> set[Entry]:
        """Take objects off that a row is about to name again; their deletion cannot begin until this transaction ends.

        A direct upload stays: a client may still write there, and a row names a copy of it, or nothing.

        Under REPEATABLE READ (MariaDB, MySQL) what was entered since the transaction began is not seen.

        Args:
            connection: in the transaction that names them.
            entries: the objects.
            backend_of: what a key leads to: two keys are the same that lead to the same; `None` for nobody knows.

        Returns:
            Those that stay, since they may be deleted already, or are direct uploads.
        """
        c = self.table.c
        refused: set[Entry] = set()
        for some in _in_parts(entries):
            wanted: dict[str, set[object]] = defaultdict(set)
            for key, path in some:
                wanted[path].add(backend_of(key))
            ids = [
                row.id
                for row in self._rows(connection, some)
                if (backend := backend_of(row.backend)) is None or not wanted[row.path].isdisjoint({backend, None})
            ]
            # InnoDB locks the gap where a row is deleted that is not there, and two who do that block each other.
            if ids:
                is_garbage = c.reason.not_in((UPLOAD, ATTACHED))
                connection.execute(delete(self.table).where(c.id.in_(ids), c.attempts == 0, is_garbage))
                left = connection.execute(select(c.path).where(c.id.in_(ids))).scalars().all()
                refused |= {entry for entry in some if entry[1] in left}
        return refused

    def expect(self, connection: Connection, entry: Entry, not_before: datetime) -> None:
        """Enter an object that a client is about to put into its store; unless it is attached, it is deleted.

        Args:
            connection: of a transaction that is committed before the client learns where.
            entry: the object, under a path that was never used.
            not_before: when it may be deleted, whether attached or not. No client may write to it any more by then:
                what comes later is seen by nobody but a sweep for orphans.
        """
        now = datetime.fromtimestamp(clock.now(), UTC)
        when = {"reason": UPLOAD, "created_at": now, "not_before": not_before, "attempts": 0}
        connection.execute(insert(self.table).values(backend=entry[0], path=entry[1], **when))

    def spend(self, connection: Connection, entry: Entry) -> bool:
        """Say that an upload is attached by this transaction; of several that try, one succeeds, once it commits.

        Another one waits until then. The entry stays, since what lies there is garbage now.

        Returns:
            Whether it could be attached.
        """
        return self._turn(connection, entry, UPLOAD, ATTACHED)

    def unspend(self, connection: Connection, entry: Entry) -> None:
        """Take back what this transaction has spent, where it goes on without it."""
        self._turn(connection, entry, ATTACHED, UPLOAD)

    def _turn(self, connection: Connection, entry: Entry, before: str, after: str) -> bool:
        """Write another reason to the entry of an upload that is not being deleted; whether there is one."""
        c = self.table.c
        found = and_(c.backend == entry[0], c.path == entry[1])
        if connection.dialect.name in ("mysql", "mariadb"):
            # By a path InnoDB locks the gap behind it, where the next upload is to be entered.
            ids = [row.id for row in self._rows(connection, [entry]) if row.backend == entry[0]]
            found = c.id.in_(ids) if ids else found
        turned = update(self.table).where(found, c.reason == before, c.attempts == 0).values(reason=after)
        return connection.execute(turned).rowcount == 1

    def _rows(self, connection: Connection, entries: Sequence[Entry]) -> list[Any]:
        """What has been entered of objects at these paths, in any backend."""
        c = self.table.c
        paths = {path for _, path in entries}
        asked = select(c.id, c.backend, c.path, c.not_before).where(c.path.in_(paths))
        # MariaDB takes "a" and "a " for one path.
        return [row for row in connection.execute(asked) if row.path in paths]


def _in_parts(entries: Collection[Entry]) -> list[list[Entry]]:
    several = sorted(entries)
    return [several[start : start + AT_ONCE] for start in range(0, len(several), AT_ONCE)]
