"""A process of the soak that works: `python -m tests.soak.worker ORDERS`, until SIGTERM, or SIGKILL."""

import asyncio
import random
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import msgspec
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, PendingRollbackError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import ObjectDeletedError, StaleDataError

from lading import FileObject
from lading.errors import AccessDenied, CleanupError, IntegrityFailure, ObjectExists, StoreError
from tests.soak.acts import Act, drawn
from tests.soak.journal import Journal, Outcome
from tests.soak.models import FAMILIES, Document, Place
from tests.soak.trip import Overtaken, Trip, new_file

EXPECTED = (
    asyncio.CancelledError,
    CleanupError,
    DBAPIError,
    ObjectDeletedError,
    OSError,
    Overtaken,
    PendingRollbackError,
    PoolTimeout,
    StaleDataError,
    StoreError,
)

UNEXPECTED = (AccessDenied, DataError, IntegrityError, IntegrityFailure, ObjectExists, ProgrammingError)
"""Statements are right, each path is new, and each object what its record says."""


class Orders(msgspec.Struct, frozen=True):
    """What a worker is told.

    Attributes:
        place: where database and store are.
        journal: its own file, made when it begins to work.
        seed: of all that it does at random.
        is_async: in which world it works.
    """

    place: Place
    journal: str
    seed: int
    is_async: bool


class Worker:
    """One transaction after the other, each written down."""

    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self.chance = random.Random(orders.seed)
        self.journal = Journal(Path(orders.journal))
        self.stopping = False

    def run(self) -> None:
        """Work until somebody says stop."""
        engine = self.orders.place.engine()
        while not self.stopping:
            kind, acts = self._draw()
            committing = False
            try:
                staged = [file.save() for file in self._to_stage(kind)]
                with Session(engine) as session:
                    if not self._do(session, kind, acts, staged):
                        continue
                    committing = True
                    session.commit()
                    self.journal.end("committed")
            except Exception as error:
                self._failed(error, committing)
        engine.dispose()

    async def run_async(self) -> None:
        """The async twin of `run`; it is cancelled now and then."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.stop)
        engine = self.orders.place.async_engine()
        while not self.stopping:
            task = asyncio.ensure_future(self._one(engine))
            if self.chance.random() < 0.1:
                await asyncio.wait([task], timeout=self.chance.expovariate(20))
                task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                pass  # before it had begun
        await engine.dispose()

    async def _one(self, engine: AsyncEngine) -> None:
        kind, acts = self._draw()
        committing = False
        try:
            staged = [await file.save_async() for file in self._to_stage(kind)]
            async with AsyncSession(engine) as session:
                if not await session.run_sync(self._do, kind, acts, staged):
                    return
                committing = True
                await session.commit()
                self.journal.end("committed")
        except (Exception, asyncio.CancelledError) as error:
            self._failed(error, committing)

    def stop(self, *_: object) -> None:
        """Finish what is under way."""
        self.stopping = True

    def _draw(self) -> tuple[type[Document], list[Act]]:
        kind, acts = self.chance.choice(FAMILIES), drawn(self.chance)
        self.journal.begin(act.__name__ for act in acts)
        return kind, acts

    def _to_stage(self, kind: type[Document]) -> list[FileObject]:
        """Files that are stored before the transaction; not all of them come to a row."""
        return [new_file(kind.__tablename__, self.chance)] if self.chance.random() < 0.2 else []

    def _do(self, session: Session, kind: type[Document], acts: Sequence[Act], staged: Sequence[FileObject]) -> bool:
        """Do all but commit; or roll back, or leave it open, and say so."""
        trip = Trip(session, kind, self.chance, staged)
        for act in acts:
            act(trip)
        rows = trip.written()
        draw = self.chance.random()
        if draw < 0.15:
            if draw < 0.1:
                session.rollback()
            else:
                session.close()
            self.journal.end("rolled back")
            return False
        self.journal.announce(rows)
        return True

    def _failed(self, error: BaseException, committing: bool) -> None:
        outcome: Outcome = "failed"
        if not is_expected(error):
            self.journal.end("surprised", "".join(traceback.format_exception(error)))
            return
        if not self.journal.is_open:
            return
        if isinstance(error, CleanupError) and error.committed:
            outcome = "committed"
        elif committing and not (isinstance(error, DBAPIError) and not error.connection_invalidated):
            outcome = "answer lost"
        elif isinstance(error, asyncio.CancelledError):
            outcome = "cancelled"
        self.journal.end(outcome, kind_of(error))


def is_expected(error: BaseException) -> bool:
    """Whether it may happen while store and database fail, and others write the same rows."""
    return isinstance(error, EXPECTED) and not isinstance(error, UNEXPECTED)


def kind_of(error: BaseException) -> str:
    """The class of an error, and that of what the database's driver raised."""
    inner = getattr(error, "orig", None) or error.__cause__
    return type(error).__name__ + (f" ({type(inner).__name__})" if inner is not None else "")


def main() -> None:
    orders = msgspec.json.decode(sys.argv[1], type=Orders)
    orders.place.register()
    worker = Worker(orders)
    if orders.is_async:
        asyncio.run(worker.run_async())
    else:
        signal.signal(signal.SIGTERM, worker.stop)
        worker.run()


if __name__ == "__main__":
    main()
