"""Direct uploads on their way to rows: each serves once, in the column that it was made for."""

from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from typing import NamedTuple, TypeAlias

from sqlalchemy import Connection, select
from sqlalchemy.exc import SQLAlchemyError

from lading import clock
from lading.errors import ConfigurationError, ExpiredToken, InvalidToken, LadingError, UsedToken
from lading.file import FileObject, claim_of
from lading.orm.outbox import ATTACHED, UPLOAD, Outbox
from lading.orm.sqlite import is_idle
from lading.policy import Policy
from lading.uploads import Upload

Spending: TypeAlias = tuple[Connection, Outbox, Upload]
"""An upload that a transaction puts on a row, and where that is written down."""


class Announced(NamedTuple):
    """A direct upload that a row is about to be given.

    Attributes:
        file: what the row is given.
        upload: what it is made from.
        policy: of the row's column.
        outbox: of its table.
        connect: gives the connection on which it will be written.
    """

    file: FileObject
    upload: Upload
    policy: Policy
    outbox: Outbox | None
    connect: Callable[[], Connection]


def check(announced: Iterable[Announced]) -> None:
    """Make sure that what rows are about to be given are uploads for them, before anything is copied.

    Raises:
        InvalidToken: an upload is for another column.
        UsedToken: two files are of one upload, or it is attached already.
        ExpiredToken: one is deleted or about to be.
        ConfigurationError: the tables have no outbox.
    """
    seen: dict[tuple[str, str], FileObject] = {}
    for file, upload, policy, outbox, connect in announced:
        if claim_of(file) not in ("free", "unspent"):
            continue
        if upload.policy.name is None or upload.policy.name != policy.name:
            raise InvalidToken(f"the upload of {upload.filename!r} is for another column")
        if outbox is None:
            raise ConfigurationError("direct uploads need an outbox, which says which of them wait: Outbox(metadata)")
        if seen.setdefault(upload.entry, file) is not file:
            raise _used(upload)
        _look(connect(), outbox, upload)


def _look(connection: Connection, outbox: Outbox, upload: Upload) -> None:
    """Refuse early what `spend` would refuse: else whoever hands in one id again and again has each time a copy made.

    What an old snapshot does not show is left to that. So is everything within a transaction of SQLite: who has read in
    one keeps others from writing while the store copies, and may then not write itself.
    """
    if connection.dialect.name == "sqlite" and not is_idle(connection):
        return
    c = outbox.table.c
    asked = select(c.reason, c.attempts).where(c.backend == upload.backend, c.path == upload.path)
    for reason, attempts in connection.execute(asked).all():
        if reason == ATTACHED:
            raise _used(upload)
        if reason == UPLOAD and attempts:
            raise _expired(upload)


def spend(uploads: Collection[Spending]) -> None:
    """Write down that this transaction attaches these uploads: all of them, or when it fails none.

    Raises:
        UsedToken: one is attached already.
        ExpiredToken: the time of one is over, and it is deleted or about to be.
    """
    spent: list[Spending] = []
    try:
        # In one order, lest two transactions wait for each other.
        for connection, outbox, upload in sorted(uploads, key=lambda each: each[2].entry):
            if not outbox.spend(connection, upload.entry):
                raise _refusal(connection, outbox, upload)
            spent.append((connection, outbox, upload))
    except BaseException:
        for connection, outbox, upload in spent:
            with suppress(SQLAlchemyError):  # then nothing of this transaction can be committed
                outbox.unspend(connection, upload.entry)
        raise


def _refusal(connection: Connection, outbox: Outbox, upload: Upload) -> LadingError:
    """Why an upload cannot be attached."""
    c = outbox.table.c
    # Locked, since that shows what others have committed meanwhile, also under REPEATABLE READ.
    asked = select(c.reason).where(c.backend == upload.backend, c.path == upload.path).with_for_update()
    if ATTACHED in connection.execute(asked).scalars().all():
        return _used(upload)
    return _expired(upload)


def _expired(upload: Upload) -> ExpiredToken:
    message = f"the time of the upload of {upload.filename!r} is over, or nothing has waited for it"
    return ExpiredToken(message, expired_at=clock.now())


def _used(upload: Upload) -> UsedToken:
    return UsedToken(f"the upload of {upload.filename!r} is attached already, and serves once")
