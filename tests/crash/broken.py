"""Lifecycles that are wrong in ways that others have shipped: what the enumerator has to find."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
from sqlalchemy.orm import Session

from lading.backends.protocols import Attributes
from lading.file import FileObject, store
from lading.orm import cleanup, events, flush
from lading.orm.bridge import wait
from lading.orm.key import Key, key_of
from lading.orm.ledger import Disposal, Page
from lading.policy import Policy
from lading.worlds import World
from tests.crash.models import Bare, Guarded, Models

BASES = (Bare, Guarded)
"""A process that is to be killed looks in this module for their metadata."""


def upload_after_commit(patch: pytest.MonkeyPatch) -> None:
    """An object is put when its row is committed, so that a rollback has nothing to undo."""
    contents: dict[Key, bytes] = {}
    settle = cleanup.settle

    async def store_later(file: FileObject, world: World, policy: Policy) -> None:
        await store(file, world, policy)
        driver = file.backend.driver(world)
        contents[key_of(file)] = await driver.get(file.path)
        await driver.delete([file.path])

    async def upload(page: Page, world: World) -> None:
        for backend, path in page.put:
            content = contents[backend, path]
            await backend.driver(world).put(path, content, size=len(content), overwrite=False, attributes=Attributes())

    def settle_later(page: Page) -> None:
        wait(partial(upload, page))
        settle(page)

    patch.setattr(flush, "store", store_later)
    patch.setattr(cleanup, "settle", settle_later)


def delete_before_commit(patch: pytest.MonkeyPatch) -> None:
    """What a row lets go of is deleted when the row is written."""
    drop = Page.drop

    async def delete(keys: set[Key], world: World) -> None:
        for backend, path in keys:
            await backend.driver(world).delete([path])

    def drop_now(self: Page, keys: set[Key], disposal: Disposal | None) -> None:
        drop(self, keys, disposal)
        wait(partial(delete, keys))

    patch.setattr(Page, "drop", drop_now)


def flat_ledger(patch: pytest.MonkeyPatch) -> None:
    """One page for the whole transaction, whatever becomes of its savepoints."""
    patch.setattr(events, "_frame", lambda session: session.get_transaction() or session.begin())


WAYS: Mapping[str, Callable[[pytest.MonkeyPatch], None]] = {
    way.__name__: way for way in (upload_after_commit, delete_before_commit, flat_ledger)
}


def play(way: str, scenario: Callable[[Models, Session], Any], models: Models, session: Session) -> None:
    """A scenario in a lifecycle that is broken in one way, also in a process that is killed."""
    with pytest.MonkeyPatch.context() as patch:
        WAYS[way](patch)
        scenario(models, session)
