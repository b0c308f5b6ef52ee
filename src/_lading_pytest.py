"""The fixtures of `lading.testing`, which pytest finds by an entry point.

pytest imports this at the start of every run, in every project that has lading installed. So it lies outside of the
package, whose import brings SQLAlchemy along, and the package is imported by the first test that asks for a fixture.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from lading import Storages
    from lading.testing import Files, FrozenClock

pytest.register_assert_rewrite("lading.testing.backends", "lading.testing.capabilities")


@pytest.fixture
def lading_storages() -> "Iterator[Storages]":
    """The default registry, with every backend in memory and empty; see `lading.testing.in_memory`.

    Where an application has a registry of its own, override this fixture with one that yields `in_memory(registry)`.
    """
    from lading.testing import in_memory

    with in_memory() as registry:
        yield registry


@pytest.fixture
def lading_files(lading_storages: "Storages") -> "Files":
    """What lies in the backends of `lading_storages`; see `lading.testing.Files`."""
    from lading.testing import Files

    return Files(lading_storages)


@pytest.fixture
def lading_clock() -> "Iterator[FrozenClock]":
    """The clock that lading reads, standing still from now on; see `lading.testing.frozen_clock`."""
    from lading.testing import frozen_clock

    with frozen_clock() as frozen:
        yield frozen
