"""What tells objects apart."""

from typing import TypeAlias

from lading.backends.protocols import StorageBackend
from lading.file import FileObject

Key: TypeAlias = tuple[StorageBackend, str]
"""An object: the backend that it lies in, and its path there."""


def key_of(file: FileObject) -> Key:
    """The object of a stored file."""
    return file.backend, file.path
