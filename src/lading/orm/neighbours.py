"""Whose objects lie in a backend: those of every backend that shares its place, under whatever key rows name it."""

import unicodedata
from collections.abc import Collection, Iterator
from typing import NamedTuple

from lading.backends.protocols import Place, StorageBackend
from lading.errors import BackendNotRegistered, ConfigurationError
from lading.orm.outbox import Entry
from lading.orm.references import FileColumn, backend_of


class _Way(NamedTuple):
    """How the paths of another backend read in this one: without `less` at their beginning, and after `more`."""

    less: str
    more: str

    def here(self, path: str) -> str | None:
        return self.more + path[len(self.less) :] if path.startswith(self.less) else None

    def there(self, path: str) -> str | None:
        return self.less + path[len(self.more) :] if path.startswith(self.more) else None


_SAME = _Way("", "")


class Neighbours:
    """The backends that rows may name, seen from one of them.

    Args:
        columns: all that may name objects of this backend.
        key: of the backend; by default the only one that columns are declared with.

    Attributes:
        backend: the one.
        plain: whether every path reads the same in all backends that share objects with this one.

    Raises:
        ConfigurationError: the backend is not known, or not the only one; a key is different backends in different
            registries; or whether another backend shares objects with this one cannot be told.
    """

    def __init__(self, columns: Collection[FileColumn], key: str | None) -> None:
        self._columns = columns
        self.backend = _declared(columns) if key is None else self._known(key)
        self._ways: dict[str, _Way] = {}
        for known in _keys(columns) | {self.backend.key}:
            way = self._way(self._known(known))
            if way is not None:
                self._ways[known] = way
        self.plain = all(way == _SAME for way in self._ways.values())
        self._cache: dict[str, _Way | None] = {}

    def here(self, key: str, path: str) -> str | None:
        """The path in this backend of an object that a row names; `None` where it is elsewhere.

        Raises:
            ConfigurationError: the key is not registered, so nobody knows whose the object is.
        """
        if key not in self._cache:
            self._cache[key] = self._way(self._known(key))
        way = self._cache[key]
        return None if way is None else way.here(path)

    def there(self, key: str, path: str) -> str:
        """The path by which a row that uses a key names an object of this backend, of which `here` has told."""
        way = self._cache[key]
        assert way is not None
        return way.less + path[len(way.more) :]

    def names(self, path: str) -> Iterator[Entry]:
        """Every name by which rows may name an object of this backend.

        Also by the other normal form of Unicode, as which some filesystems list what was stored.
        """
        forms = {path, unicodedata.normalize("NFC", path), unicodedata.normalize("NFD", path)}
        for key, way in self._ways.items():
            for form in forms:
                there = way.there(form)
                if there is not None:
                    yield key, there

    def _known(self, key: str) -> StorageBackend:
        backend = backend_of(self._columns, key)
        if backend is None:
            for column in self._columns:
                declared = column.type.backend
                if declared is not None and not isinstance(declared, str) and declared.key == key:
                    return declared
            raise BackendNotRegistered(key, sorted(_keys(self._columns)))
        return backend

    def _way(self, other: StorageBackend) -> _Way | None:
        if other is self.backend or other == self.backend:
            return _SAME
        mine, theirs = _place(self.backend), _place(other)
        if mine is not None and theirs is not None:
            return _between(mine, theirs)
        if self.backend.protocol != other.protocol:
            return None
        raise ConfigurationError(
            f"{other!r} and {self.backend!r} may share objects, and at least one of them cannot say where its own lie; "
            "give it a `place` (lading.backends.protocols.Located)"
        )


def _declared(columns: Collection[FileColumn]) -> StorageBackend:
    found: list[StorageBackend] = []
    for column in columns:
        backend = column.type.storages.get_backend(column.type.backend)
        if backend not in found:
            found.append(backend)
    if len(found) != 1:
        names = ", ".join(sorted(repr(backend.key) for backend in found)) or "none"
        raise ConfigurationError(f"name the backend to look into: the columns are declared with {names}")
    return found[0]


def _keys(columns: Collection[FileColumn]) -> set[str]:
    """All keys under which a row can name a backend, but for aliases, which lead to one of these."""
    keys = {key for column in columns for key in column.type.storages.registered_backends()}
    declared = (column.type.backend for column in columns)
    return keys | {each.key for each in declared if each is not None and not isinstance(each, str)}


def _place(backend: StorageBackend) -> Place | None:
    place: Place | None = getattr(backend, "place", None)
    return place


def _between(mine: Place, theirs: Place) -> _Way | None:
    if mine[0] != theirs[0]:
        return None
    here, there = (f"{root}/" if root else "" for root in (mine[1], theirs[1]))
    if there.startswith(here):
        return _Way("", there[len(here) :])
    if here.startswith(there):
        return _Way(here[len(there) :], "")
    return None
