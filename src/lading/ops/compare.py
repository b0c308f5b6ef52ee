"""Holding what a store lists against what rows name: two streams in the order of their paths, merged."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any, Literal, NamedTuple, TypeAlias

Listed: TypeAlias = tuple[str, int, float, str | None, bool]
"""An object of a listing: path, size in bytes, last modified in seconds since the epoch, etag, whether it is staged."""

Named: TypeAlias = tuple[str, int | None, str | None, int]
"""An object of a row: path, size, etag, and a number for where it is named."""


class OutOfOrder(ValueError):
    """A stream that was to be in the order of its paths is not, so that a merge would find what is not true."""


class Difference(NamedTuple):
    """A path of which store and rows do not say the same: objects without rows, rows without objects, or others."""

    path: str
    objects: list[Listed]
    rows: list[Named]


def compare(objects: Iterable[Listed], rows: Iterable[Named]) -> Iterator[Difference]:
    """The paths of which a listing and rows do not say the same, in order, in constant memory.

    A path is no difference where each of its rows fits one of its objects. What is staged fits none.

    Args:
        objects: by path, in the order of its UTF-8 bytes, which is that of `str`; a path may be there several times.
        rows: likewise.

    Raises:
        OutOfOrder: one of the streams is not in that order; what was found before may not be true.
    """
    listed, named = _by_path(objects, "the listing"), _by_path(rows, "what rows name")
    here, there = next(listed, None), next(named, None)
    while here is not None or there is not None:
        if there is None or (here is not None and here[0] < there[0]):
            assert here is not None
            yield Difference(here[0], here[1], [])
            here = next(listed, None)
        elif here is None or there[0] < here[0]:
            yield Difference(there[0], [], there[1])
            there = next(named, None)
        else:
            if not _agree(here[1], there[1]):
                yield Difference(here[0], here[1], there[1])
            here, there = next(listed, None), next(named, None)


def fault(
    size: int | None, etag: str | None, found_size: int, found_etag: str | None
) -> Literal["size", "etag"] | None:
    """In what an object is another than a row says, `"size"` or `"etag"`; what either does not say is no difference.

    Etags are compared without their quotes, which Azure leaves out in listings.
    """
    if size is not None and size != found_size:
        return "size"
    if etag and found_etag and etag != found_etag and etag.strip('"') != found_etag.strip('"'):
        return "etag"
    return None


def is_below(path: str, prefix: str) -> bool:
    """Whether a path lies below a prefix of whole segments; below `""` lies everything."""
    return not prefix or path.startswith(f"{prefix.removesuffix('/')}/")


def _by_path(records: Iterable[Any], what: str) -> Iterator[tuple[str, list[Any]]]:
    last = ""
    for path, group in groupby(records, _path):
        if path < last:
            raise OutOfOrder(f"{what} is not in order: {path!r} came after {last!r}")
        last = path
        yield path, list(group)


def _agree(objects: list[Listed], rows: list[Named]) -> bool:
    if len(objects) == len(rows) == 1:  # nearly all, and so the fast way
        (_, found_size, _, found_etag, staged), (_, size, etag, _) = objects[0], rows[0]
        return not staged and fault(size, etag, found_size, found_etag) is None
    return not any(staged for *_, staged in objects) and all(
        any(fault(size, etag, found_size, found_etag) is None for _, found_size, _, found_etag, _ in objects)
        for _, size, etag, _ in rows
    )


_path = itemgetter(0)
