"""Deleting what a transaction leaves behind, whichever way it ended."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import timedelta

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from lading.backends.protocols import StorageBackend
from lading.errors import CleanupError, LadingError
from lading.ops.retry import Retrying
from lading.orm.bridge import wait
from lading.orm.drain import drain
from lading.orm.key import Key, entries
from lading.orm.ledger import Disposal, Page
from lading.orm.outbox import Outbox
from lading.orm.references import file_columns
from lading.worlds import World

log = logging.getLogger("lading")


def settle(page: Page) -> None:
    """A transaction has committed: delete what no row names any more, but for what is in an outbox.

    Raises:
        CleanupError: some of it is still there; the transaction is committed all the same.
    """
    keys = page.unwanted()
    page.forget_unwritten()
    _delete(page, keys, "was committed, and what it replaced", committed=True)


def undo(page: Page) -> None:
    """A transaction, a savepoint or a flush has come to nothing: delete what it had put.

    Raises:
        CleanupError: some of it is still there; no row names it.
    """
    keys = page.put.keys() - page.shared
    page.forget()
    _delete(page, keys, "was rolled back, and what it had stored", committed=False)


def dispose(page: Page, *, committed: bool) -> None:
    """A transaction is over, and the session has let go of its connection: see to what goes by way of an outbox.

    What could not be deleted is entered, and what was entered and need not stay is deleted.

    Raises:
        CleanupError: something could neither be deleted nor entered.
    """
    errors: list[Exception] = []
    left: set[Key] = set()
    for disposal, keys in _by_disposal(page, page.stray).items():
        assert disposal.engine is not None
        try:
            with disposal.engine.begin() as connection:
                disposal.outbox.add(connection, entries(keys), "rolled back", delay=timedelta(0))
        except SQLAlchemyError as error:
            errors.append(error)
            left |= keys
    if errors:
        raise _failure("is over, and what it had stored could not be entered for deletion", errors, left, committed)
    if committed:
        for disposal, keys in _by_disposal(page, page.gone).items():
            if disposal.engine is not None and not disposal.outbox.delay:
                _drain(disposal.engine, disposal.outbox, keys)


def _drain(engine: Engine, outbox: Outbox, keys: Iterable[Key]) -> None:
    try:
        drain(engine, outbox, file_columns(outbox.table.metadata), paths={path for _, path in keys})
    except (SQLAlchemyError, LadingError) as error:
        # The transaction is committed and the entries with it: a sweeper will do it.
        log.warning("objects stay until the next sweep: %s", error, extra={"outbox": outbox.table.fullname})


def _by_disposal(page: Page, keys: Iterable[Key]) -> dict[Disposal, set[Key]]:
    found: dict[Disposal, set[Key]] = defaultdict(set)
    for key in keys:
        if key in page.disposals:
            found[page.disposals[key]].add(key)
    return found


def _delete(page: Page, keys: Iterable[Key], fate: str, *, committed: bool) -> None:
    """Delete objects now; those that fail go by way of the outbox, where there is one."""
    paths: dict[StorageBackend, list[str]] = defaultdict(list)
    for backend, path in sorted(keys, key=lambda key: key[1]):
        paths[backend].append(path)
    if not paths:
        return
    errors: list[Exception] = []
    left: set[Key] = set()

    async def delete(world: World) -> None:
        for backend, gone in paths.items():
            try:
                await Retrying(backend, world).delete(gone)
            except LadingError as error:
                stray = {(backend, path) for path in gone if page.can_dispose((backend, path))}
                page.stray |= stray
                if lost := {(backend, path) for path in gone} - stray:
                    errors.append(error)
                    left.update(lost)

    wait(lambda world: world.finish(delete(world)))
    if errors:
        raise _failure(f"{fate} could not be deleted", errors, left, committed)


def _failure(fate: str, errors: Sequence[Exception], left: Iterable[Key], committed: bool) -> CleanupError:
    return CleanupError(f"the transaction {fate}", errors, committed=committed, left=sorted(entries(left)))
