"""`Sweeper`: deletes what rows have let go of, and finds out whether rows and stores agree.

Every verb has a twin for async engines. They may run in as many processes and on as many machines as one likes.
"""

import asyncio
import logging
import random
import threading
from collections.abc import Callable, Collection
from datetime import timedelta

from sqlalchemy import Engine, MetaData
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util.concurrency import greenlet_spawn

from lading.errors import ConfigurationError
from lading.orm import check as checking
from lading.orm import drain as draining
from lading.orm import orphans as orphaned
from lading.orm import reclaim as reclaiming
from lading.orm.outbox import Outbox
from lading.orm.references import file_columns

__all__ = ["Sweeper"]

Progress = Callable[[int], object]

log = logging.getLogger("lading")

_AT_ONCE = 500  # entries that a loop takes on before it looks whether it is to stop
_LONGEST = timedelta(minutes=10)  # that a loop waits when it fails again and again


class Sweeper:
    """Looks after the files of all tables of a `MetaData`.

    Args:
        engine: of the tables. With an `AsyncEngine` the verbs that end in `_async` are to be used, else the others.
        metadata: of the tables; their columns say which registries know the backends.

    Attributes:
        engine: as given.
        metadata: as given.
    """

    def __init__(self, engine: Engine | AsyncEngine, metadata: MetaData) -> None:
        self.engine = engine
        self.metadata = metadata

    def drain(
        self,
        *,
        paths: Collection[str] | None = None,
        limit: int | None = None,
        batch: int = 100,
        lease: timedelta = draining.LEASE,
        on_progress: Progress | None = None,
    ) -> draining.Drained:
        """Delete the objects in the outbox that are due and that no row names.

        What cannot be deleted is tried again later: after a minute or two at first, after some hours at last.

        Args:
            paths: only the objects at these paths, and those now, however long they were to stay: where the law asks.
            limit: entries after which it ends.
            batch: entries that are claimed, and deleted, together.
            lease: how long no other worker takes on what this one has claimed; longer than a store takes, with all its
                tries and timeouts, to delete a batch.
            on_progress: called after each batch with the number of entries so far.

        Raises:
            ConfigurationError: there is no outbox, the engine is async, or a key means two backends.
        """
        return draining.drain(
            self._engine("drain"),
            self._outbox(),
            file_columns(self.metadata),
            paths=paths,
            limit=limit,
            batch=batch,
            lease=lease,
            on_progress=on_progress,
        )

    async def drain_async(
        self,
        *,
        paths: Collection[str] | None = None,
        limit: int | None = None,
        batch: int = 100,
        lease: timedelta = draining.LEASE,
        on_progress: Progress | None = None,
    ) -> draining.Drained:
        """`drain` on an async engine."""
        verb = self._twin("drain").drain
        return await greenlet_spawn(verb, paths=paths, limit=limit, batch=batch, lease=lease, on_progress=on_progress)

    def reclaim(self, *, on_progress: Progress | None = None) -> reclaiming.Reclaimed:
        """After a restore: take off the outbox what rows name again. Stop the sweepers first.

        Args:
            on_progress: called after every 500 entries with the number so far.

        Raises:
            ConfigurationError: there is no outbox, the engine is async, or a key means two backends.
        """
        engine, columns = self._engine("reclaim"), file_columns(self.metadata)
        return reclaiming.reclaim(engine, self._outbox(), columns, on_progress=on_progress)

    async def reclaim_async(self, *, on_progress: Progress | None = None) -> reclaiming.Reclaimed:
        """`reclaim` on an async engine."""
        return await greenlet_spawn(self._twin("reclaim").reclaim, on_progress=on_progress)

    def orphans(
        self,
        backend: str | None = None,
        *,
        prefix: str = "",
        grace: timedelta = timedelta(hours=24),
        delete: bool = False,
        limit: int = 10_000,
        after: str = "",
        on_progress: Progress | None = None,
        on_findings: orphaned.OnFindings | None = None,
    ) -> orphaned.Swept:
        """Find the objects of a backend that no row names, and rows whose object is missing or another.

        What only rows of another database or another `MetaData` name is an orphan, too: a backend belongs to one.

        Args:
            backend: its key; by default the only one that columns name.
            prefix: only what lies below, in whole segments; so several workers can share a backend.
            grace: objects that are younger are left alone: an upload, and the transaction it is for, may be under way.
            delete: put the orphans into the outbox, or delete them where there is none.
            limit: findings after which it ends.
            after: a path after which to go on, as an earlier run said.
            on_progress: called every 1000 objects with the number so far.
            on_findings: called now and then with what was found since, and the path to go on after.

        Raises:
            ConfigurationError: the backend is not known or not the only one, its place is not its own, or the engine
                is async.
            RecordError: a row has a value that is no record, so nobody knows which object it names.
            StoreError: the store failed.
        """
        return orphaned.orphans(
            self._engine("orphans"),
            self.metadata,
            backend,
            prefix=prefix,
            grace=grace,
            delete=delete,
            limit=limit,
            after=after,
            on_progress=on_progress,
            on_findings=on_findings,
        )

    async def orphans_async(
        self,
        backend: str | None = None,
        *,
        prefix: str = "",
        grace: timedelta = timedelta(hours=24),
        delete: bool = False,
        limit: int = 10_000,
        after: str = "",
        on_progress: Progress | None = None,
        on_findings: orphaned.OnFindings | None = None,
    ) -> orphaned.Swept:
        """`orphans` on an async engine."""
        return await greenlet_spawn(
            self._twin("orphans").orphans,
            backend,
            prefix=prefix,
            grace=grace,
            delete=delete,
            limit=limit,
            after=after,
            on_progress=on_progress,
            on_findings=on_findings,
        )

    def check(
        self,
        *,
        deep: bool = False,
        limit: int = 10_000,
        on_progress: Progress | None = None,
        after: checking.Position | None = None,
    ) -> checking.Checked:
        """Hold every file that rows name against the store.

        Args:
            deep: also read every object, and compute its checksum.
            limit: findings after which it ends.
            on_progress: called every 500 rows with the number so far.
            after: the row to go on after, as an earlier run said.

        Raises:
            ConfigurationError: an argument is wrong, or the engine is async.
            StoreUnavailable: the store does not answer.
        """
        engine = self._engine("check")
        return checking.check(engine, self.metadata, deep=deep, limit=limit, on_progress=on_progress, after=after)

    async def check_async(
        self,
        *,
        deep: bool = False,
        limit: int = 10_000,
        on_progress: Progress | None = None,
        after: checking.Position | None = None,
    ) -> checking.Checked:
        """`check` on an async engine."""
        verb = self._twin("check").check
        return await greenlet_spawn(verb, deep=deep, limit=limit, on_progress=on_progress, after=after)

    def run(self, stop: threading.Event, *, every: timedelta = timedelta(minutes=1)) -> None:
        """Drain again and again, until told to stop; for a thread of its own.

        A database or a store that fails does not end it: that is logged, and the next try comes later and later.

        Args:
            stop: ends it, after the batch that is under way.
            every: how long it waits when nothing more is due; a little more or less, so that workers spread.

        Raises:
            ConfigurationError: there is no outbox, or the engine is async.
        """
        self._engine("run")
        self._outbox()
        pace = _Pace(every)
        while not stop.is_set():
            try:
                pace.after(self.drain(limit=_AT_ONCE))
            except Exception as error:
                pace.after(error)
            stop.wait(pace.seconds)

    async def run_async(self, stop: asyncio.Event, *, every: timedelta = timedelta(minutes=1)) -> None:
        """`run` on an async engine, for a task of its own."""
        self._twin("run")._outbox()
        pace = _Pace(every)
        while not stop.is_set():
            try:
                pace.after(await self.drain_async(limit=_AT_ONCE))
            except Exception as error:
                pace.after(error)
            try:
                await asyncio.wait_for(stop.wait(), pace.seconds)
            except TimeoutError:
                pass

    def _engine(self, verb: str) -> Engine:
        if isinstance(self.engine, AsyncEngine):
            raise ConfigurationError(f"the engine is async: await {verb}_async(...)")
        return self.engine

    def _twin(self, verb: str) -> "Sweeper":
        """What does the same in a greenlet, where the engine is async."""
        if not isinstance(self.engine, AsyncEngine):
            raise ConfigurationError(f"the engine is not async: {verb}(...), in a thread where there is a loop")
        return Sweeper(self.engine.sync_engine, self.metadata)

    def _outbox(self) -> Outbox:
        outbox = Outbox.of(self.metadata)
        if outbox is None:
            raise ConfigurationError("these tables have no outbox: Outbox(metadata) makes one")
        return outbox


class _Pace:
    """How long a loop waits before it drains again.

    Attributes:
        seconds: that it is to wait now.
    """

    def __init__(self, every: timedelta) -> None:
        self._every = every
        self._failures = 0
        self.seconds = 0.0

    def after(self, outcome: draining.Drained | Exception) -> None:
        """Note how it went, and say so to whoever reads the log."""
        more = False
        if isinstance(outcome, Exception):
            self._failures += 1
            log.error("the outbox could not be drained, %d times in a row: %r", self._failures, outcome)
        else:
            self._failures = 0
            more = outcome.left > 0
            if outcome.failed:
                log.warning("%d objects could not be deleted, and will be tried again", outcome.failed)
        usual = self._every.total_seconds()
        longest = max(usual, min(usual * 2 ** min(self._failures, 20), _LONGEST.total_seconds()))
        self.seconds = 0.0 if more else longest * random.uniform(0.8, 1.2)  # noqa: S311  # no secret
