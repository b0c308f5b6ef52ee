"""What waits in an outbox, for people who look after it."""

from datetime import UTC, datetime

import msgspec
from sqlalchemy import Connection, and_, case, func, select

from lading import clock
from lading.orm.outbox import UPLOAD, Outbox


class Waiting(msgspec.Struct, frozen=True):
    """What waits for one backend.

    Attributes:
        backend: its key, as the entries have it.
        objects: how many wait.
        due: of these, how many may be deleted now.
        failing: of these, how many could not be deleted when that was tried last.
        oldest: when the first of them was entered.
        uploads: of these, how many are direct uploads that may still be attached.
    """

    backend: str
    objects: int
    due: int
    failing: int
    oldest: datetime
    uploads: int


class Failing(msgspec.Struct, frozen=True):
    """An object that could not be deleted when that was tried last.

    Attributes:
        backend: the key of its backend.
        path: its path.
        reason: why it was entered.
        attempts: how often it was tried.
        not_before: when it is tried next.
        last_error: why it failed.
    """

    backend: str
    path: str
    reason: str
    attempts: int
    not_before: datetime
    last_error: str


def waiting(connection: Connection, outbox: Outbox) -> list[Waiting]:
    """What waits, for each backend; this reads the whole outbox."""
    c = outbox.table.c
    now = datetime.fromtimestamp(clock.now(), UTC)
    due = func.count(case((c.not_before <= now, 1)))
    uploads = func.count(case((and_(c.reason == UPLOAD, c.attempts == 0), 1)))
    asked = select(c.backend, func.count(), due, func.count(c.last_error), func.min(c.created_at), uploads)
    return [Waiting(*row) for row in connection.execute(asked.group_by(c.backend).order_by(c.backend))]


def failing(connection: Connection, outbox: Outbox, limit: int) -> list[Failing]:
    """What fails, as many as `limit`, those first that were tried most often."""
    c = outbox.table.c
    asked = select(c.backend, c.path, c.reason, c.attempts, c.not_before, c.last_error)
    most = asked.where(c.last_error.is_not(None)).order_by(c.attempts.desc(), c.not_before, c.id).limit(limit)
    return [Failing(*row) for row in connection.execute(most)]
