"""What a sweep finds: objects without rows, and rows without their objects."""

from typing import Literal, TypeAlias

import msgspec


class Orphan(msgspec.Struct, frozen=True, tag=True):
    """An object that no row names, and that is older than the grace."""

    backend: str
    path: str
    size: int
    last_modified: float


class Leftover(msgspec.Struct, frozen=True, tag=True):
    """What a killed process was writing: staged, never listed as an object, and older than the grace."""

    backend: str
    path: str
    size: int
    last_modified: float


class Unusable(msgspec.Struct, frozen=True, tag=True):
    """An object that no row names, under a path that lading refuses and so never touches."""

    backend: str
    path: str
    size: int
    last_modified: float
    reason: str


class Missing(msgspec.Struct, frozen=True, tag=True):
    """An object that a row names and that is not there; backend and path as in the row."""

    backend: str
    path: str
    table: str
    column: str


class Different(msgspec.Struct, frozen=True, tag=True):
    """An object that is not what the row says that names it; backend and path as in the row.

    `what` differs, or with `"unreadable"` the store refuses to show it, and `actual` is what it says.
    """

    backend: str
    path: str
    table: str
    column: str
    what: Literal["size", "etag", "unreadable"]
    expected: int | str
    actual: int | str


Finding: TypeAlias = Orphan | Leftover | Unusable | Missing | Different
"""What a sweep for orphans reports."""
