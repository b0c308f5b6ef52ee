"""What is asked of the files of one place, a column above all: declared once, and enforced wherever files come in."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from lading.backends.protocols import StorageBackend
from lading.paths import PathMaker
from lading.rules import Rule, accepted, least_size, size_limit
from lading.storages import Storages, storages


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What a column asks of a file, besides what the backend asks of all.

    Attributes:
        name: `"table.column"`; `None` for a policy that is not of a column.
        backend: where files go that do not say so themselves; `None` for the registry's default.
        rules: run after those of the backend.
        path_maker: names the object; `None` leaves it to the backend, and that to `lading.paths.fresh`.
        storages: the registry that knows the backend.
    """

    name: str | None = None
    backend: StorageBackend | str | None = None
    rules: Sequence[Rule] = ()
    path_maker: PathMaker | None = None
    storages: Storages = storages

    @property
    def place(self) -> StorageBackend:
        """The backend. Raises `BackendNotRegistered`, or `ConfigurationError` where nothing says which."""
        return self.storages.get_backend(self.backend)

    def asked(self) -> Iterator[Rule]:
        """All rules, those of the backend first."""
        yield from self.place.rules
        yield from self.rules

    @property
    def max_size(self) -> int | None:
        """The most bytes that a file may have; `None` where no rule says."""
        return size_limit(self.asked())

    def hints(self) -> dict[str, Any]:
        """What a browser can know beforehand, for a form that refuses early; the server decides all the same.

        Returns:
            `{"accept", "max_size", "min_size"}`: the value of the attribute `accept` of `<input type="file">` (HTML,
            4.10.5.1.17), `""` for everything, and bytes, or `None`.
        """
        rules = tuple(self.asked())
        return {"accept": ",".join(accepted(rules)), "max_size": size_limit(rules), "min_size": least_size(rules)}


ANYTHING = Policy()
"""Asks for nothing but what the backend asks."""
