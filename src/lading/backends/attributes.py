"""What of a file's attributes fits into the headers of a store."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from lading.backends.protocols import Attributes

_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?").fullmatch
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*").fullmatch
_NAME_ON_AZURE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*").fullmatch

# obstore takes these as headers of their own, so that a file's metadata could set, say, its encoding.
_HEADERS = frozenset(
    {"cache-control", "content-disposition", "content-encoding", "content-language", "content-type", "storage-class"}
)

# Of the place, not of the object: a copy has its own.
_NOT_TRAVELLING = "Storage-Class"

ROOM = 2_000
"""Bytes of metadata, names and values; S3 allows 2 KB, others more."""


def header(value: str | None) -> str | None:
    """A value that may be sent as a header as it is: printable ASCII; `None` for any other."""
    return value if value and _VALUE(value) else None


def user_metadata(metadata: Mapping[str, Any], protocol: str) -> dict[str, str]:
    """The members of a file's metadata that a store takes; the others are dropped.

    Those are strings of printable ASCII under ASCII names, up to 2,000 bytes together and each name once whatever its
    case, since they travel as headers. Azure allows no hyphen in names.
    """
    return dict(_fitting(metadata, _NAME_ON_AZURE if protocol == "az" else _NAME))


def _fitting(metadata: Mapping[str, Any], is_name: Any) -> Iterator[tuple[str, str]]:
    room, seen = ROOM, set(_HEADERS)
    for name, value in metadata.items():
        if not (isinstance(value, str) and is_name(name) and _VALUE(value)) or name.lower() in seen:
            continue
        room -= len(name) + len(value)
        if room < 0:
            return
        seen.add(name.lower())
        yield name, value


def described(headers: Mapping[str, str]) -> Attributes:
    """What obstore says of an object's headers, the way round that it was put."""
    rest = {name: value for name, value in headers.items() if name != _NOT_TRAVELLING}
    return Attributes(rest.pop("Content-Type", None), rest.pop("Content-Disposition", None), rest)
