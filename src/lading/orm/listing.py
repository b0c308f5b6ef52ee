"""A store's listing in order, as a plain iterator in whichever world it is asked."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable
from contextlib import closing, contextmanager
from functools import partial
from typing import TypeVar

from lading.backends.protocols import ListsInOrder, ObjectInfo, Stages, StorageBackend
from lading.ops.compare import Listed, is_below
from lading.ops.retry import begun
from lading.ops.spool import Spool
from lading.orm.bridge import wait
from lading.worlds import World

T = TypeVar("T")

PAGE = 1000
"""Objects that are taken from a listing at once."""


@contextmanager
def listing(
    backend: StorageBackend, prefix: str, after: str, *, in_order: bool, on_page: Callable[[int], object]
) -> Generator[Iterable[Listed], None, None]:
    """The objects of a backend, and what is staged there, in the order of their paths.

    Args:
        backend: where.
        prefix: whole segments.
        after: only what comes after this path.
        in_order: whether a store that lists in order is taken by its word; else a `Spool` puts it in order.
        on_page: called with the number of objects that were taken from the listing, `PAGE` or fewer at a time.

    Raises:
        StoreError: the store failed.
    """
    world = wait(_this)
    driver = backend.driver(world)

    def opened(verb: Callable[..., AsyncIterator[ObjectInfo]], **more: str) -> AsyncIterator[ObjectInfo]:
        return begun(partial(verb, prefix, **more), backend, world)

    if in_order and isinstance(driver, ListsInOrder) and not isinstance(driver, Stages):
        with closing(_listed(opened(driver.list_in_order, after=after), prefix, after, on_page)) as objects:
            yield objects
        return
    with Spool[Listed]() as spool:
        with closing(_listed(opened(driver.list), prefix, after, on_page)) as objects:
            for each in objects:
                spool.add(each)
        if isinstance(driver, Stages):
            with closing(_listed(opened(driver.staged), prefix, after, None)) as objects:
                for each in objects:
                    spool.add(each)
        yield spool


def _listed(
    infos: AsyncIterator[ObjectInfo], prefix: str, after: str, on_page: Callable[[int], object] | None
) -> Generator[Listed, None, None]:
    """As records; without `on_page` what is staged."""
    with closing(_pages(infos)) as pages:
        for page in pages:
            for info in page:
                if info.path > after and is_below(info.path, prefix):
                    yield info.path, info.size, info.last_modified, info.etag, on_page is None
            if on_page is not None:
                on_page(len(page))


def _pages(items: AsyncIterator[T]) -> Generator[list[T], None, None]:
    """An async iterator in pages; one wait for each, since a wait costs more than an object."""

    async def page(_: World) -> list[T]:
        taken: list[T] = []
        async for item in items:
            taken.append(item)
            if len(taken) == PAGE:
                break
        return taken

    async def close(_: World) -> None:
        if isinstance(items, AsyncGenerator):
            await items.aclose()

    try:
        while taken := wait(page):
            yield taken
    finally:
        wait(close)


async def _this(world: World) -> World:
    return world
