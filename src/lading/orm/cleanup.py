"""Deleting what a transaction leaves behind, whichever way it ended."""

from collections import defaultdict
from collections.abc import Iterable

from lading.backends.protocols import StorageBackend
from lading.errors import CleanupError, LadingError
from lading.orm.bridge import wait
from lading.orm.key import Key
from lading.orm.ledger import Page
from lading.worlds import World


def settle(page: Page) -> None:
    """A transaction has committed: delete what no row names any more.

    Raises:
        CleanupError: some of it is still there; the transaction is committed all the same.
    """
    keys = page.unwanted()
    page.forget_unwritten()
    _delete(keys, "was committed, and what it replaced", committed=True)


def undo(page: Page) -> None:
    """A transaction, a savepoint or a flush has come to nothing: delete what it had put.

    Raises:
        CleanupError: some of it is still there; no row names it.
    """
    keys = set(page.put)
    page.forget()
    _delete(keys, "was rolled back, and what it had stored", committed=False)


def _delete(keys: Iterable[Key], fate: str, *, committed: bool) -> None:
    paths: dict[StorageBackend, list[str]] = defaultdict(list)
    for backend, path in sorted(keys, key=lambda key: key[1]):
        paths[backend].append(path)
    if not paths:
        return
    errors: list[Exception] = []
    left: list[tuple[str, str]] = []

    async def delete(world: World) -> None:
        for backend, gone in paths.items():
            try:
                await backend.driver(world).delete(gone)
            except LadingError as error:
                errors.append(error)
                left.extend((backend.key, path) for path in gone)

    wait(lambda world: world.finish(delete(world)))
    if errors:
        raise CleanupError(f"the transaction {fate} could not be deleted", errors, committed=committed, left=left)
