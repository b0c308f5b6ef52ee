"""What tells objects apart."""

from collections.abc import Iterable
from typing import TypeAlias

from lading.backends.protocols import StorageBackend
from lading.file import FileObject
from lading.orm.outbox import Entry

Key: TypeAlias = tuple[StorageBackend, str]
"""An object: the backend that it lies in, and its path there."""


def key_of(file: FileObject) -> Key:
    """The object of a stored file."""
    return file.backend, file.path


def entries(keys: Iterable[Key]) -> set[Entry]:
    """Objects as an outbox names them."""
    return {(backend.key, path) for backend, path in keys}
