"""What to answer to somebody who asks for a file: the conditions, ranges and headers of HTTP, and no I/O.

Section numbers are those of RFC 9110 where no other is named. Untrusted bytes are served so that they cannot run in the
origin that serves them: the type is never guessed at (`nosniff`), only what browsers merely show is inline, and the
Content-Security-Policy leaves it no scripts, no frames and no other resources.
"""

import re
from collections.abc import Mapping, Sequence
from email.utils import formatdate, mktime_tz, parsedate_tz
from http import HTTPStatus
from typing import Literal, TypeAlias
from urllib.parse import quote

import msgspec

from lading.media import canonical, is_active
from lading.paths import sanitise
from lading.problems import PREFIX, Problem
from lading.ranges import Part, multipart, spans
from lading.record import Disposition

Embedding: TypeAlias = Literal["same-origin", "same-site", "cross-origin"]
"""Whose pages may show a file within them: the value of `Cross-Origin-Resource-Policy` (Fetch, section 3.7)."""

_SHOWN = frozenset({"application/json", "application/pdf", "text/plain"})
_UNKNOWN = "application/octet-stream"
_SHOWN_FAMILIES = ("audio/", "image/", "video/")

_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+").fullmatch
_PLAIN = re.compile(r"[A-Za-z0-9 !#$&'()+,.=@\[\]^_`{}~-]+").fullmatch
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9 !#$&'()+,.=@\[\]^_`{}~-]")
_TAG = re.compile(r'(?:W/)?"[!#-~]*"')
_YEAR_10000 = 253_402_300_800

# Where browsers open a file by itself: Chromium's PDF viewer is an object with inline styles (crbug.com/271452); in a
# sandbox Chromium 156 plays no audio and no video, and Safari shows no PDF that has scripts of its own. Those scripts
# run in the viewer and reach no origin.
_NO_SCRIPTS = "default-src 'none'; img-src 'self'; media-src 'self'; object-src 'self'; style-src 'unsafe-inline'"
_SANDBOX = f"{_NO_SCRIPTS}; sandbox"
_UNBOXED_FAMILIES = ("application/pdf", "audio/", "video/")

# A URL may be the permission, and must not travel on to where a file's links lead.
_NO_REFERRER = ("referrer-policy", "no-referrer")


class Representation(msgspec.Struct, frozen=True, kw_only=True):
    """A file as it is to be served.

    Attributes:
        size: in bytes.
        content_type: its media type; one that is malformed is served as `application/octet-stream`.
        filename: what the user is to call it.
        etag: see `entity_tag`.
        last_modified: in seconds since the epoch, UTC.
        disposition: instead of what the type leads to, see `content_disposition`.
        cache_control: what caches may do with it; see `while_it_is_good` for URLs that end.
        embedding: whose pages may show it within them.
        separate_origin: whether nothing but files is served there.
    """

    size: int
    content_type: str
    filename: str
    etag: str | None = None
    last_modified: float | None = None
    disposition: Disposition | None = None
    cache_control: str = "private, no-cache"
    embedding: Embedding = "same-site"
    separate_origin: bool = False


class Answer(msgspec.Struct, frozen=True):
    """What to send: the parts, each with its own bytes before it, and what comes after them; to `HEAD` nothing of it.

    Attributes:
        status: 200, 206, 304, 412 or 416.
        headers: names in lower case, values of printable ASCII.
        parts: the bytes of the object that are sent.
        after: what is sent behind them.
    """

    status: int
    headers: list[tuple[str, str]]
    parts: Sequence[Part] = ()
    after: bytes = b""


def content_disposition(
    filename: str,
    content_type: str,
    disposition: Disposition | None = None,
    *,
    separate_origin: bool = False,
) -> str:
    """The value of `Content-Disposition` (RFC 6266), in printable ASCII whatever the name is.

    Inline are images, audio, video, PDF, JSON and plain text, and of those only what no browser runs; all else is an
    attachment. A name that is not plain ASCII is given twice: with `_` for the rest, and in full as RFC 8187 has it.

    Args:
        filename: what the user is to call it.
        content_type: its media type.
        disposition: `"attachment"` makes one of anything; `"inline"` is what those types are without it.
        separate_origin: whether `"inline"` may show active content, too: HTML, SVG, XML and the like.
    """
    media_type = _media_type(content_type)
    shown = _is_shown(media_type) or (separate_origin and disposition == "inline" and is_active(media_type))
    kind = "inline" if shown and disposition != "attachment" else "attachment"
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


def while_it_is_good(seconds: float) -> str:
    """`Cache-Control` of what a URL serves that ends in so many seconds: its client may keep it, and no shared cache.

    Never for longer than that: what is kept is not asked for again.
    """
    return f"private, max-age={max(0, int(seconds))}"


def respond(method: str, asked: Mapping[str, str], what: Representation) -> Answer:
    """What to answer to somebody who asks for an object that exists.

    Ranges are honoured of `GET`, see `lading.ranges.spans`, and conditions of `GET` and `HEAD`; to any other method,
    which the application has chosen to answer with a file, the whole is sent. What is refused is told by a problem
    document (RFC 9457).

    Args:
        method: of the request.
        asked: the headers of the request, names in lower case; several of one name joined by `", "`.
        what: the file.
    """
    if method not in ("GET", "HEAD"):
        asked = {}
    modified = _whole_second(what.last_modified)
    validators = _validators(what, modified)
    status = _precondition(asked, what.etag, modified)
    if status == 304:
        return Answer(304, [*validators, ("cache-control", what.cache_control)])
    if status == 412:
        return _refused(method, precondition_failed("this is not the version that was asked for"), validators)
    ranged = method == "GET" and _same(asked.get("if-range"), what.etag, modified)
    found = spans(asked.get("range", ""), what.size) if ranged else None
    if found == []:
        evidence = [*validators, ("content-range", f"bytes */{what.size}")]
        return _refused(method, _problem(416, "range-not-satisfiable", f"the file ends at {what.size} bytes"), evidence)
    return _sent(method, what, [*validators, ("cache-control", what.cache_control)], found)


def _validators(what: Representation, modified: int | None) -> list[tuple[str, str]]:
    headers = [("accept-ranges", "bytes")]
    if what.etag is not None:
        headers.append(("etag", what.etag))
    if modified is not None:
        headers.append(("last-modified", formatdate(modified, usegmt=True)))
    return headers


def precondition_failed(detail: str) -> Problem:
    """The problem of a request whose condition does not hold (13.1)."""
    return _problem(412, "precondition-failed", detail)


def _problem(status: int, name: str, detail: str) -> Problem:
    return Problem(type=PREFIX + name, title=HTTPStatus(status).phrase, status=status, detail=detail)


def _refused(method: str, problem: Problem, headers: list[tuple[str, str]]) -> Answer:
    document = problem.encode()
    headers = [*headers, *problem.headers.items(), ("content-length", str(len(document))), _NO_REFERRER]
    return Answer(problem.status, headers, after=b"" if method == "HEAD" else document)


def _sent(
    method: str, what: Representation, headers: list[tuple[str, str]], found: Sequence[tuple[int, int]] | None
) -> Answer:
    """The file, or those of its bytes that were asked for."""
    media_type = _media_type(what.content_type)
    content_type = _named(media_type, separate_origin=what.separate_origin)
    parts, after = [Part(b"", 0, what.size)], b""
    if found is not None and len(found) > 1:
        content_type, parts, after = multipart(found, what.size, content_type)
    elif found is not None:
        start, stop = found[0]
        parts = [Part(b"", start, stop)]
        headers.append(("content-range", f"bytes {start}-{stop - 1}/{what.size}"))
    length = sum(len(part.before) + part.stop - part.start for part in parts) + len(after)
    headers += (
        ("content-type", content_type),
        ("content-length", str(length)),
        (
            "content-disposition",
            content_disposition(what.filename, media_type, what.disposition, separate_origin=what.separate_origin),
        ),
        ("content-security-policy", _NO_SCRIPTS if media_type.startswith(_UNBOXED_FAMILIES) else _SANDBOX),
        ("cross-origin-resource-policy", what.embedding),
        ("x-content-type-options", "nosniff"),
        _NO_REFERRER,
    )
    status = 200 if found is None else 206
    if method == "HEAD" or length == 0:
        return Answer(status, headers)
    return Answer(status, headers, parts, after)


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


def _media_type(content_type: str) -> str:
    """A media type without parameters, fit for a header (RFC 6838, section 4.2)."""
    bare = content_type.partition(";")[0].strip().lower()
    return bare if _TYPE(bare) else _UNKNOWN


def _named(media_type: str, *, separate_origin: bool) -> str:
    """The `Content-Type` of a media type. What any page of the origin could load by its name goes by another.

    That is JavaScript, and CSS, which can read what a page shows and send it elsewhere; with `nosniff` no page loads a
    script or a stylesheet that is not called so (Fetch, section 3.6). Where nothing but files is served no page that
    matters takes `'self'` for that origin, and a stylesheet may be called one.
    """
    kind = canonical(media_type)
    if kind == "text/javascript" or (kind == "text/css" and not separate_origin):
        return _UNKNOWN
    return f"{media_type}; charset=utf-8" if media_type == "text/plain" else media_type


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
