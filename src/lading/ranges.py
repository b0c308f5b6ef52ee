"""Which bytes a `Range` asks for, and how several ranges are one body; section numbers are those of RFC 9110."""

import re
import secrets
from collections.abc import Sequence
from typing import NamedTuple

MOST = 10
"""Ranges that one request may ask for."""

# More digits than 2**64 has are taken for no range at all: Python refuses to read some thousands of them.
_SPEC = re.compile(r"([0-9]{0,20})-([0-9]{0,20})").fullmatch
_BREAK = "\r\n"


class Part(NamedTuple):
    """The bytes of an object from `start` up to but without `stop`, and what is sent before them."""

    before: bytes
    start: int
    stop: int


def spans(asked: str, size: int) -> list[tuple[int, int]] | None:
    """The bytes that `Range` (14.2) asks for, as pairs of start and stop, in the order in which it names them.

    Ranges that overlap or touch are one. Whoever asks for more than `MOST` ranges, or with several ranges for more
    bytes than there are, is broken or means harm (14.2, 17.15), and gets the whole. So, of an empty object, does who
    asks for any: some clients ask for a range with every request.

    Args:
        asked: the value of the header.
        size: of the object, in bytes.

    Returns:
        `None` where the header is to be ignored; nothing where the object has none of these bytes.
    """
    if asked[:6].lower() != "bytes=" or size == 0 or asked.count(",") >= MOST:
        return None
    # A list may have empty elements (5.6.1.2).
    specs = [spec for each in asked[6:].split(",") if (spec := each.strip(" \t"))]
    found: list[tuple[int, int]] = []
    for spec in specs:
        span = _span(spec, size)
        if span is None:
            return None
        if span[0] < span[1]:
            found.append(span)
    if not specs or (len(found) > 1 and sum(stop - start for start, stop in found) > size):
        return None
    return _merged(found)


def multipart(found: Sequence[tuple[int, int]], size: int, content_type: str) -> tuple[str, list[Part], bytes]:
    """Several ranges as one body of `multipart/byteranges` (14.6).

    The boundary is drawn anew for each answer, so nobody can make a file that contains it.

    Returns:
        The body's own content type, its parts, and what is sent after them.
    """
    boundary = secrets.token_hex(16)
    parts = [
        Part(
            f"{_BREAK if index else ''}--{boundary}\r\ncontent-type: {content_type}\r\n"
            f"content-range: bytes {start}-{stop - 1}/{size}\r\n\r\n".encode("ascii"),
            start,
            stop,
        )
        for index, (start, stop) in enumerate(found)
    ]
    return f"multipart/byteranges; boundary={boundary}", parts, f"\r\n--{boundary}--\r\n".encode("ascii")


def _span(spec: str, size: int) -> tuple[int, int] | None:
    """The bytes of one range (14.1.2): `None` where it is none, an empty span where the object has none of them."""
    match = _SPEC(spec)
    if match is None:
        return None
    first, last = match.groups()
    if not first:
        return (max(size - int(last), 0), size) if last else None
    start, stop = int(first), int(last) + 1 if last else size
    if last and stop <= start:
        return None
    return (start, min(stop, size)) if start < size else (size, size)


def _merged(found: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """These spans, where they overlap or touch as one, each at the place of the first that is in it (15.3.7.2)."""
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(found):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
        else:
            merged.append((start, stop))
    # At most `MOST` by `MOST` looks.
    holding = (next(whole for whole in merged if whole[0] <= start < whole[1]) for start, _ in found)
    return list(dict.fromkeys(holding))
