"""The stores of an application, exchanged for places on local disk while a test runs."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import quote

from sqlalchemy import MetaData

from lading.backends.protocols import StorageBackend
from lading.orm.references import FileColumn, file_columns
from lading.storages import Storages


class Place(NamedTuple):
    """What takes the place of a backend.

    Attributes:
        registry: which of the registries, in the order of `registries_of`.
        key: of the backend.
        options: what it asks of files.
    """

    registry: int
    key: str
    options: dict[str, Any]

    @property
    def directory(self) -> str:
        """The name of the directory where its objects lie."""
        return f"{self.registry}-{quote(self.key, safe='')}"


class Layout(NamedTuple):
    """What takes the place of what, in a form that another process can carry out too.

    Attributes:
        places: the backends.
        defaults: the key of the default backend of each registry.
        columns: the key of the backend that each column of files names.
    """

    places: Sequence[Place]
    defaults: Sequence[str | None]
    columns: Sequence[str | None]


Make = Callable[[Place], StorageBackend]
"""Makes a backend that takes the place of another."""


def registries_of(metadata: MetaData, *more: Storages) -> list[Storages]:
    """The registries of the columns of files, each once, and some others."""
    return list(dict.fromkeys([*(each.type.storages for each in file_columns(metadata)), *more]))


def layout_of(metadata: MetaData, registries: Sequence[Storages]) -> Layout:
    """What is to take the place of every backend that is registered, or that a column names."""
    columns = file_columns(metadata)
    named = [_key_of(column) for column in columns]
    keys = dict.fromkeys((number, key) for number, each in enumerate(registries) for key in each.registered_backends())
    keys |= dict.fromkeys(
        (registries.index(column.type.storages), key)
        for column, key in zip(columns, named, strict=True)
        if key is not None
    )
    places = [Place(number, key, _options(registries[number], key)) for number, key in keys]
    return Layout(places, [registry.default_backend for registry in registries], named)


def _key_of(column: FileColumn) -> str | None:
    """The key of the backend that a column names, itself or by an alias."""
    named, registry = column.type.backend, column.type.storages
    if isinstance(named, str) and registry.is_registered(named):
        named = registry.get_backend(named)
    return named if isinstance(named, str | None) else named.key


def _options(registry: Storages, key: str) -> dict[str, Any]:
    if not registry.is_registered(key):
        return {}
    backend = registry.get_backend(key)
    return {
        "rules": backend.rules,
        "path": backend.path_maker,
        "trust": backend.trust,
        "checksum": backend.checksum,
        "chunk_size": backend.chunk_size,
    }


@contextmanager
def exchanged(
    metadata: MetaData, registries: Sequence[Storages], layout: Layout, make: Make
) -> Generator[None, None, None]:
    """Put other backends in the place of those of an application, and afterwards those back."""
    before = [
        (registry, registry.get_backend(key)) for registry in registries for key in registry.registered_backends()
    ]
    defaults = [registry.default_backend for registry in registries]
    types = [column.type for column in file_columns(metadata)]
    named = [type_.backend for type_ in types]
    try:
        for place in layout.places:
            registries[place.registry].register_backend(make(place), replace=True)
        _configure(registries, layout.defaults, types, layout.columns)
        yield
    finally:
        for place in layout.places:
            registries[place.registry].unregister_backend(place.key)
        for registry, backend in before:
            registry.register_backend(backend, replace=True)
        _configure(registries, defaults, types, named)


def _configure(
    registries: Sequence[Storages],
    defaults: Sequence[str | None],
    types: Sequence[Any],
    backends: Sequence[StorageBackend | str | None],
) -> None:
    for registry, default in zip(registries, defaults, strict=True):
        if default is not None:
            registry.set_default_backend(default)
    for type_, backend in zip(types, backends, strict=True):
        type_.backend = backend
