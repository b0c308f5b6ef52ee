"""Names objects, and lets no bad name through.

A path maker is any callable from a `Candidate` to a path; what it returns is guarded like every other path.
"""

import os
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from time import time_ns
from typing import TypeAlias
from urllib.parse import unquote

from lading.errors import ConfigurationError, InvalidPath
from lading.record import Candidate

PathMaker: TypeAlias = Callable[[Candidate], str]
"""What names a new object: relative to the backend, `/` between segments. It should never give one path twice."""

SEGMENT_BYTES = 255
"""The longest segment, in bytes of UTF-8: the limit of ext4, XFS, NTFS and APFS."""

PATH_BYTES = 1024
"""The longest path, in bytes of UTF-8: the limit of S3 and of Google Cloud Storage."""

_PLAIN = re.compile(r"(?:[A-Za-z0-9_-]++[./])*+[A-Za-z0-9_-]++").fullmatch
_SEPARATOR = re.compile(r"[/\\]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_DRIVE = re.compile(r".:")  # Python's `ntpath` takes any character for the letter
_HOME = re.compile(r"~[\w.-]*(?:[/\\]|\Z)")
_ENCODED_SEPARATOR = re.compile(r"%(?:2f|5c)", re.IGNORECASE)
# Overlong UTF-8 and `%uXXXX` (IIS): only a broken decoder reads them, as any ASCII character it likes.
_MISREAD = re.compile(r"%(?:c[01]%[89ab]|e0%[89]|f0%8|u[0-9a-f]{4})", re.IGNORECASE)

_UNSHOWN = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+")
_EDGE = ". \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"


def token() -> str:
    """A name that is new, cannot be guessed and sorts by time of making.

    48 bits of milliseconds since the epoch, as in a UUIDv7 (RFC 9562), and 128 random bits, in 44 hexadecimal digits.
    Within one millisecond the order is random.
    """
    return f"{time_ns() // 1_000_000:012x}{os.urandom(16).hex()}"


def fresh(candidate: Candidate) -> str:
    """The candidate's token and the extension of its name, of which nothing else is kept: the default path maker.

    A candidate made by hand may have no token; it gets a new one, for its path must not be shared either.
    """
    stem = candidate.token or token()
    tail = extension(candidate.filename)
    return f"{stem}.{tail}" if tail else stem


def as_given(candidate: Candidate) -> str:
    """The sanitised file name as the path: neither new nor unguessable.

    A second file of that name raises `ObjectExists`. `guard` still refuses what is fit to be shown and not to be a
    path, such as `C:a.pdf` or `a%2fb`.
    """
    return sanitise(candidate.filename)


@dataclass(frozen=True, slots=True, repr=False)
class under:  # noqa: N801  # reads as the function that it is to its users
    """A path maker that puts a prefix of whole segments before the path of another.

    Raises:
        ConfigurationError: the prefix is no valid path.
    """

    prefix: str
    maker: PathMaker = fresh

    def __post_init__(self) -> None:
        object.__setattr__(self, "prefix", self.prefix.removesuffix("/"))
        _configured(self.prefix)

    def __call__(self, candidate: Candidate) -> str:
        return f"{self.prefix}/{self.maker(candidate)}"

    def __repr__(self) -> str:
        return f"under({self.prefix!r}{_and(self.maker)})"


@dataclass(frozen=True, slots=True, repr=False)
class by_date:  # noqa: N801  # reads as the function that it is to its users
    """A path maker that puts the date, in UTC, before the path of another.

    `pattern` is for `strftime`; the default gives `2026/03/09/`.

    Raises:
        ConfigurationError: the pattern gives no valid path.
    """

    maker: PathMaker = fresh
    pattern: str = "%Y/%m/%d"

    def __post_init__(self) -> None:
        _configured(self._prefix())

    def _prefix(self) -> str:
        return datetime.now(UTC).strftime(self.pattern)

    def __call__(self, candidate: Candidate) -> str:
        return f"{self._prefix()}/{self.maker(candidate)}"

    def __repr__(self) -> str:
        pattern = "" if self.pattern == "%Y/%m/%d" else f", pattern={self.pattern!r}"
        return f"by_date({(_and(self.maker) + pattern).removeprefix(', ')})"


def guard(path: str) -> str:
    r"""The path as it is, if every store and every reader of it will take it for the same place below its root.

    Refused are: nothing at all; more than 1024 bytes, or 255 in a segment; lone surrogates; control characters; a
    leading drive (`C:`) or home (`~`, `~name`); an empty segment, and so a leading, trailing or double separator and
    UNC; a segment of dots and spaces alone, which Windows takes for `.` or `..`. Both `/` and `\` count as separators.
    Refused, too, is what becomes one of these when percent-encoding is undone, however often, or compatibility
    characters are (NFKC: fullwidth dots and slashes, dot leaders); any encoded separator; and encodings that only a
    broken decoder reads. Names of Windows devices (`nul`) pass: elsewhere they are good keys, and `fresh` makes none.

    Raises:
        InvalidPath: the path is refused; its `reason` says why.
    """
    if len(path) <= SEGMENT_BYTES and _PLAIN(path):
        return path
    reason = _fault_as_written(path) or _fault(path)
    if reason is not None:
        raise InvalidPath(path, reason)
    return path


def _fault_as_written(path: str) -> str | None:
    try:
        if len(path.encode()) > PATH_BYTES:
            return f"longer than {PATH_BYTES} bytes"
    except UnicodeEncodeError:
        return "a lone surrogate"
    if any(len(segment.encode()) > SEGMENT_BYTES for segment in _SEPARATOR.split(path)):
        return f"a segment longer than {SEGMENT_BYTES} bytes"
    if _HOME.match(path):  # fsspec's local filesystem expands it
        return "a home directory"
    return None


def _fault(path: str) -> str | None:
    """What is wrong with a path, in any of the ways to read it."""
    reading = path
    while True:
        if fault := _fault_as_read(reading):
            return fault if reading is path else f"{fault}, once decoded"
        decoded = unicodedata.normalize("NFKC", reading)
        if decoded == reading:
            decoded = unquote(reading)
        if decoded == reading:
            return None
        reading = decoded


def _fault_as_read(reading: str) -> str | None:
    if not reading:
        return "empty"
    if _CONTROL.search(reading):
        return "a control character"
    if _DRIVE.match(reading):
        return "a drive"
    if _ENCODED_SEPARATOR.search(reading):
        return "a percent-encoded separator"
    if _MISREAD.search(reading):
        return "an overlong or non-standard percent-encoding"
    for segment in _SEPARATOR.split(reading):
        if not segment:
            return "an empty segment, or a separator at an end"
        if not segment.strip(_EDGE):
            return "a segment of dots and spaces alone"
    return None


def sanitise(filename: str) -> str:
    r"""The name of a file as it may be shown: one line of at most 255 bytes of UTF-8 that reads as it is written.

    The last component after `/` and `\`; without control characters, line separators, lone surrogates and the
    characters that turn the direction of text (the "Trojan Source" of CVE-2021-42574); without dots and spaces around
    it; in NFC; cut before the extension where it is too long; `"unnamed"` where nothing is left. It is no path, and
    whoever writes it into HTML or a header must still quote it.
    """
    name = filename[max(filename.rfind("/"), filename.rfind("\\")) + 1 :]
    name = unicodedata.normalize("NFC", _UNSHOWN.sub("", name)).strip(_EDGE)
    if len(name) * 4 > SEGMENT_BYTES and len(name.encode()) > SEGMENT_BYTES:
        tail = extension(name)
        suffix = name[-len(tail) - 1 :] if tail else ""
        room = SEGMENT_BYTES - len(suffix)
        stem = name.removesuffix(suffix).encode()[:room].decode(errors="ignore")
        name = stem.rstrip(_EDGE) + suffix
    return name or "unnamed"


def extension(filename: str) -> str:
    """What follows the last dot, in lower case: 1 to 16 of `a-z` and `0-9`, else `""`.

    `"a.tar.gz"` has `"gz"`; `".profile"` and `"a."` have none.
    """
    stem, _, tail = filename.rpartition(".")
    if not tail.isascii() or not tail.isalnum() or len(tail) > 16:
        return ""
    if stem.rstrip(".")[-1:] in ("", "/", "\\"):
        return ""
    return tail.lower()


def _configured(prefix: str) -> None:
    try:
        guard(prefix)
    except InvalidPath as error:
        raise ConfigurationError(str(error)) from error


def _and(maker: PathMaker) -> str:
    """The maker as a further argument, where it is not the default."""
    return "" if maker is fresh else f", {getattr(maker, '__qualname__', None) or repr(maker)}"
