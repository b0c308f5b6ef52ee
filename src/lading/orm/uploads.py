"""Direct uploads on their way to rows: each serves once, in the column that it was made for."""

from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import TypeAlias

from sqlalchemy import Connection, select
from sqlalchemy.exc import SQLAlchemyError

from lading import clock
from lading.errors import ConfigurationError, ExpiredToken, InvalidToken, LadingError, UsedToken
from lading.file import FileObject, claim_of, upload_of
from lading.orm.outbox import ATTACHED, Outbox
from lading.policy import Policy
from lading.uploads import Upload

Spending: TypeAlias = tuple[Connection, Outbox, Upload]
"""An upload that a transaction puts on a row, and where that is written down."""


def check(files: Iterable[tuple[FileObject, Policy, Outbox | None]]) -> None:
    """Make sure that what rows are about to be given are uploads for them, before anything is copied.

    Args:
        files: with what their columns ask, and the outboxes of their tables.

    Raises:
        InvalidToken: an upload is for another column.
        UsedToken: two files are of one upload.
        ConfigurationError: the tables have no outbox.
    """
    seen: dict[tuple[str, str], FileObject] = {}
    for file, policy, outbox in files:
        upload = upload_of(file)
        if upload is None or claim_of(file) != "free":
            continue
        if upload.policy.name is None or upload.policy.name != policy.name:
            raise InvalidToken(f"the upload of {upload.filename!r} is for another column")
        if outbox is None:
            raise ConfigurationError("direct uploads need an outbox, which says which of them wait: Outbox(metadata)")
        if seen.setdefault(upload.entry, file) is not file:
            raise _used(upload)


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
    message = f"the time of the upload of {upload.filename!r} is over, or nothing has waited for it"
    return ExpiredToken(message, expired_at=clock.now())


def _used(upload: Upload) -> UsedToken:
    return UsedToken(f"the upload of {upload.filename!r} is attached already, and serves once")
