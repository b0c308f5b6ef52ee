"""What to answer to somebody who asks for a file: the conditions, ranges and headers of HTTP, and no I/O.

Section numbers are those of RFC 9110 where no other is named. Untrusted bytes are served so that they cannot run in the
origin that serves them: the type is never guessed at (`nosniff`), only what browsers merely show is inline, and the
Content-Security-Policy leaves it no scripts, no frames and no other resources.
"""

import re
from collections.abc import Mapping
from email.utils import formatdate, mktime_tz, parsedate_tz
from urllib.parse import quote

import msgspec

from lading.media import is_active
from lading.paths import sanitise

_SHOWN = frozenset({"application/json", "application/pdf", "text/plain"})
_SHOWN_FAMILIES = ("audio/", "image/", "video/")

_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+").fullmatch
_PLAIN = re.compile(r"[A-Za-z0-9 !#$&'()+,.=@\[\]^_`{}~-]+").fullmatch
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9 !#$&'()+,.=@\[\]^_`{}~-]")
# More digits than any object has bytes are taken for no range at all: Python refuses to read some thousands of them.
_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.IGNORECASE).fullmatch
_TAG = re.compile(r'(?:W/)?"[!#-~]*"')
_YEAR_10000 = 253_402_300_800

# Where browsers open a file by itself: Chromium's PDF viewer is an object with inline styles (crbug.com/271452); in a
# sandbox Chromium 156 plays no audio and no video, and Safari shows no PDF that has scripts of its own. Those scripts
# run in the viewer and reach no origin.
_NO_SCRIPTS = "default-src 'none'; img-src 'self'; media-src 'self'; object-src 'self'; style-src 'unsafe-inline'"
_SANDBOX = f"{_NO_SCRIPTS}; sandbox"
_UNBOXED_FAMILIES = ("application/pdf", "audio/", "video/")


class Answer(msgspec.Struct, frozen=True):
    """What to send.

    Attributes:
        status: 200, 206, 304, 412 or 416.
        headers: names in lower case, values of printable ASCII.
        start, stop: the bytes of the object that are the body; there is none where they are equal.
    """

    status: int
    headers: list[tuple[str, str]]
    start: int = 0
    stop: int = 0


def content_disposition(filename: str, content_type: str) -> str:
    """The value of `Content-Disposition` (RFC 6266), in printable ASCII whatever the name is.

    Inline are images, audio, video, PDF, JSON and plain text, and of those only what no browser runs; all else is an
    attachment. A name that is not plain ASCII is given twice: with `_` for the rest, and in full as RFC 8187 has it.
    """
    kind = "inline" if _is_shown(_media_type(content_type)) else "attachment"
    if _PLAIN(filename):
        return f'{kind}; filename="{filename}"'
    name = sanitise(filename)
    fallback = _NOT_PLAIN.sub("_", name)
    # RFC 8187, section 3.2.1: attr-char; letters, digits and `_.-~` are never quoted.
    return f"{kind}; filename=\"{fallback}\"; filename*=UTF-8''{quote(name, safe='!#$&+^`|')}"


def entity_tag(checksum: str | None, etag: str | None) -> str | None:
    """The `ETag` (8.8.3) of a file: its checksum, which is a strong one, or else what the store calls the content."""
    for tag in (f'"{checksum}"' if checksum else "", etag or ""):
        if _TAG.fullmatch(tag):
            return tag
    return None


def respond(
    method: str,
    asked: Mapping[str, str],
    *,
    size: int,
    content_type: str,
    filename: str,
    etag: str | None,
    last_modified: float | None,
    max_age: float,
) -> Answer:
    """What to answer to `GET` or `HEAD`, for an object that exists.

    One range is answered with 206; several, or a malformed one, with the whole, as 14.2 permits.

    Args:
        method: `"GET"` or `"HEAD"`.
        asked: the headers of the request, names in lower case; several of one name joined by `", "`.
        size: of the object, in bytes.
        content_type: its media type; one that is malformed is served as `application/octet-stream`.
        filename: what the user called it.
        etag: see `entity_tag`.
        last_modified: in seconds since the epoch, UTC.
        max_age: for how many seconds the client may keep the answer, and no shared cache may.
    """
    modified = _whole_second(last_modified)
    headers = [("accept-ranges", "bytes"), ("cache-control", f"private, max-age={max(0, int(max_age))}")]
    if etag is not None:
        headers.append(("etag", etag))
    if modified is not None:
        headers.append(("last-modified", formatdate(modified, usegmt=True)))
    status = _precondition(asked, etag, modified)
    if status == 304:
        return Answer(304, headers)
    headers += (("x-content-type-options", "nosniff"), ("referrer-policy", "no-referrer"))
    if status == 412:
        return Answer(412, [*headers, ("content-length", "0")])
    start, stop = 0, size
    span = (
        _span(asked.get("range", ""), size)
        if method == "GET" and _same(asked.get("if-range"), etag, modified)
        else None
    )
    if span is not None:
        start, stop = span
        if start == stop:
            return Answer(416, [*headers, ("content-range", f"bytes */{size}"), ("content-length", "0")])
        headers.append(("content-range", f"bytes {start}-{stop - 1}/{size}"))
    media_type = _media_type(content_type)
    headers += (
        ("content-type", f"{media_type}; charset=utf-8" if media_type == "text/plain" else media_type),
        ("content-length", str(stop - start)),
        ("content-disposition", content_disposition(filename, media_type)),
        ("content-security-policy", _NO_SCRIPTS if media_type.startswith(_UNBOXED_FAMILIES) else _SANDBOX),
    )
    if method == "HEAD":
        start = stop
    return Answer(200 if span is None else 206, headers, start, stop)


def _precondition(asked: Mapping[str, str], etag: str | None, modified: int | None) -> int | None:
    """The status that the conditions of a request lead to, in the order of 13.2.2; `None` where they hold."""
    if (matches := asked.get("if-match")) is not None:
        if not _names(matches, etag, strongly=True):
            return 412
    elif (
        (since := _seconds(asked.get("if-unmodified-since"))) is not None and modified is not None and modified > since
    ):
        return 412
    if (matches := asked.get("if-none-match")) is not None:
        if _names(matches, etag, strongly=False):
            return 304
    elif (since := _seconds(asked.get("if-modified-since"))) is not None and modified is not None and modified <= since:
        return 304
    return None


def _names(tags: str, etag: str | None, *, strongly: bool) -> bool:
    """Whether a list of tags, or `*`, names this one (8.8.3.2)."""
    if tags.strip() == "*":
        return True
    if etag is None or (strongly and etag.startswith("W/")):
        return False
    if strongly:
        return etag in _TAG.findall(tags)
    return etag.removeprefix("W/") in (tag.removeprefix("W/") for tag in _TAG.findall(tags))


def _same(validator: str | None, etag: str | None, modified: int | None) -> bool:
    """Whether `If-Range` (13.1.5) lets the range count: there is none, or it is the strong tag, or the exact date."""
    if validator is None:
        return True
    if validator.startswith('"'):
        return validator == etag
    return modified is not None and _seconds(validator) == modified


def _span(asked: str, size: int) -> tuple[int, int] | None:
    """The bytes that `Range` (14.1.2) asks for; `None` where it is to be ignored, an empty span where there are none.

    Of an empty object every range is ignored: some clients ask for one with every request.
    """
    match = _RANGE(asked)
    if match is None or size == 0:
        return None
    first, last = match.groups()
    if not first:
        return (max(size - int(last), 0), size) if last else None
    start, stop = int(first), int(last) + 1 if last else size
    if last and stop <= start:
        return None
    return min(start, size), min(stop, size) if start < size else size


def _media_type(content_type: str) -> str:
    """A media type without parameters, fit for a header (RFC 6838, section 4.2)."""
    bare = content_type.partition(";")[0].strip().lower()
    return bare if _TYPE(bare) else "application/octet-stream"


def _is_shown(media_type: str) -> bool:
    return (media_type in _SHOWN or media_type.startswith(_SHOWN_FAMILIES)) and not is_active(media_type)


def _whole_second(timestamp: float | None) -> int | None:
    """A time as HTTP can say it (5.6.7)."""
    return int(timestamp) if timestamp is not None and 0 <= timestamp < _YEAR_10000 else None


def _seconds(date: str | None) -> int | None:
    """An HTTP date (5.6.7) in seconds since the epoch; `None` where it is none, and is then to be ignored."""
    parsed = parsedate_tz(date) if date else None
    if parsed is None:
        return None
    try:
        return mktime_tz(parsed)
    except (ValueError, OverflowError):
        return None
