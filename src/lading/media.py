"""The content type of a file: from its leading bytes first, then from its name, then from what a client claims.

A type that the bytes show is the type. Where they show no more than a container (text, XML, JSON, ZIP, OLE, ISO media)
the name, and after it the claim, may say what is in it; where they show nothing at all, which application's format it
is. Neither ever turns active content, which a browser runs, into something that it does not.

What `lading.sniffing` knows needs no detector, so it is the same on every machine. A detector is asked about the rest,
binary files of unknown format: libmagic where python-magic is installed, else the signatures of puremagic, which is
kept up (filetype is not). Its own search takes 200 µs; they are looked up here in an index, which takes 3.
"""

from functools import cache
from typing import Literal, TypeAlias, cast

from lading.errors import MissingDependency, TypeNotAllowed
from lading.mediatypes import by_extension, canonical, container_of, is_active, within
from lading.paths import extension
from lading.signatures import KNOWN, OFFICE, ZIP
from lading.sniffing import BINARY, SNIFF, TEXT, Detector, sniff

__all__ = ["SNIFF", "Detector", "Trust", "canonical", "default_detector", "detect", "is_active"]

Trust: TypeAlias = Literal["content", "reject", "claim"]
"""Whom to believe: the content; the content, and nobody who contradicts it; or the claim."""


def detect(
    head: bytes | bytearray | memoryview,
    *,
    filename: str,
    claim: str | None = None,
    trust: Trust = "content",
    detector: Detector | None = None,
) -> str:
    """The content type of a file: its canonical name, in lower case, without parameters.

    Args:
        head: the first `SNIFF` bytes, or all where there are fewer. Nothing behind them is looked at: text whose
            markup begins later is `text/plain`, and a longer JSON file is JSON by its name. An empty file is text
            where its name or its claim is of a kind of text, else `application/octet-stream`.
        filename: its extension counts. It makes text, or an unknown format, active (`.js`, `.html`), because it
            survives in the path of the object and others serve by it. It overrules no known format: a GIF named
            `.html` is a GIF.
        claim: what the client says; `application/octet-stream`, or what is no media type (RFC 6838, 4.2), is no claim.
        trust: `"content"` as this module has it. `"reject"` refuses a claim or a name that contradicts the bytes; an
            alias, a container and what is in it, and two kinds of inactive text do not contradict. `"claim"` believes
            the claim, then the name, and looks at the bytes last: the caller answers for it, since the file is served
            as what it claims to be.
        detector: what is asked about binary files of unknown format, instead of `default_detector()`.

    Raises:
        TypeNotAllowed: a contradiction under `"reject"`; `limit` is what was said, `actual` what the bytes show.
    """
    named = by_extension(extension(filename))
    claimed = canonical(claim) if claim else None
    if claimed == BINARY:
        claimed = None
    if trust == "claim" and (believed := claimed or named):
        return believed
    found = _look(bytes(head[:SNIFF]), detector)
    empty = not head
    if trust == "reject":
        for said in (claimed, named):
            if said is not None and _contradicts(found, said, empty):
                raise TypeNotAllowed(
                    f"{filename!r} is said to be {said}, but its content is {found}",
                    filename=filename,
                    limit=said,
                    actual=found,
                )
    if named is not None and (_may_be(found, named, empty) or _becomes_active(found, named)):
        found = named
    elif claimed is not None and not is_active(claimed) and _may_be(found, claimed, empty):
        found = claimed
    return ZIP if found == OFFICE else found


def _look(head: bytes, detector: Detector | None) -> str:
    found = sniff(head)
    if found != BINARY or not head:
        return found
    answer = (detector or default_detector())(head)
    named = canonical(answer) if answer else None
    return found if named is None or named.startswith("inode/") else named


@cache
def default_detector() -> Detector:
    """The detector of this machine, chosen at the first file of unknown format: libmagic, or else `signatures()`."""
    from lading.magic import detector  # noqa: PLC0415  # the module of an optional package

    try:
        return detector()
    except MissingDependency:
        return signatures()


def signatures() -> Detector:
    """A detector of pure Python: the signatures of puremagic, but for those under six bytes, which match by chance."""
    from puremagic import magic_header_array  # noqa: PLC0415  # 12 ms, which who stores known formats never pays

    rows = cast("list[tuple[bytes, int, str, str, str]]", magic_header_array)
    index: dict[int, dict[bytes, list[tuple[bytes, str]]]] = {}
    for pattern, offset, _, named, _ in sorted(rows, key=lambda row: -len(row[0])):
        kind = canonical(named)
        if len(pattern) >= 6 and kind is not None and kind != BINARY:
            index.setdefault(offset, {}).setdefault(pattern[:4], []).append((pattern, kind))

    def look_up(head: bytes) -> str | None:
        for offset, starts in index.items():
            for pattern, kind in starts.get(head[offset : offset + 4], ()):
                if head.startswith(pattern, offset):
                    return kind
        return None

    return look_up


def _may_be(found: str, said: str, empty: bool) -> bool:
    """Whether the bytes, which show `found`, leave room for `said`."""
    if found == BINARY:
        # Images, audio, video, fonts and known formats would have shown; so `image/*` in a rule means what it says.
        family = said.partition("/")[0]
        return (empty and _is_text(said)) or (
            family in ("application", "model", "chemical") and said not in KNOWN and container_of(said) is None
        )
    # An Office document has its parts within the first entries, mostly; a ZIP file without any is none.
    return found != said and within(said, found) and not (found == ZIP and within(said, OFFICE))


def _becomes_active(found: str, named: str) -> bool:
    return is_active(named) and not is_active(found) and (found == BINARY or _is_text(found))


def _contradicts(found: str, said: str, empty: bool) -> bool:
    if is_active(found) and not is_active(said):
        return True
    if found == BINARY:
        return not is_active(said) and not _may_be(found, said, empty)
    return not (within(found, said) or within(said, found) or (_is_text(found) and _is_text(said)))


def _is_text(kind: str) -> bool:
    return within(kind, TEXT)
