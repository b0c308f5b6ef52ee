"""The type of a file as its leading bytes show it, and nothing else.

Markup is looked for first, by the patterns of the WHATWG MIME Sniffing standard, section 7.1, and somewhat beyond
them, since those are the types that run in a browser. Then come the signatures of `lading.signatures`, and at last the
division of the rest into text and binary (7.2). UTF-16 is read as UTF-8 is, with a byte order mark and without.
"""

import re
from collections.abc import Callable
from typing import TypeAlias

import msgspec

from lading.signatures import signature

SNIFF = 8192
"""How many leading bytes are looked at."""

TEXT = "text/plain"
BINARY = "application/octet-stream"

Detector: TypeAlias = Callable[[bytes], str | None]
"""What names the type of leading bytes, by any name in use, or answers `None`; it is called from many threads."""

# Binary data bytes, section 3 of the standard. ESC is none: ISO-2022 text has it.
_BINARY_BYTES = bytes({*range(0x20)} - {*b"\t\n\x0c\r\x1b"})


def sniff(head: bytes) -> str:
    """The content type that the leading bytes show: `TEXT` or `BINARY` where they show no more than that.

    `head` is the whole file where it is shorter than `SNIFF`; only then can it be JSON, because that is decided by
    parsing it. No bytes at all are `BINARY`.
    """
    if not head:
        return BINARY
    text = _narrow(head)
    if found := _markup(text):
        return found
    if found := signature(head):
        return found
    if head.startswith(_MARKS) or len(head.translate(None, _BINARY_BYTES)) == len(head):
        return _text(text, whole=len(head) < SNIFF)
    # Readers of PDF skip up to 1024 bytes of rubbish (ISO 32000-1, annex H.3, note 13).
    return "application/pdf" if head.find(b"%PDF-", 0, 1024) >= 0 else BINARY


_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_WIDE = re.compile(rb"(?P<little>\xff\xfe|[\t\n\x0c\r <]\0)|\xfe\xff|\0[\t\n\x0c\r <]")


def _narrow(head: bytes) -> bytes:
    """Text in UTF-16 as UTF-8, without a byte order mark, so that one set of patterns reads all; the rest as it is."""
    if head.startswith(b"\xef\xbb\xbf"):
        return head[3:]
    if wide := _WIDE.match(head):
        codec = "utf-16-le" if wide["little"] else "utf-16-be"
        return head.decode(codec, "replace").removeprefix("\ufeff").encode("utf-8", "replace")
    return head


# --- markup

_STARTS = re.compile(rb"[\t\n\x0c\r ]*<")
_PROLOG = re.compile(
    rb"(?:[\t\n\x0c\r ]+|<!--.*?-->|<\?(?!php|=).*?\?>|<!doctype[^<>\[]*(?:\[.*?\][\t\n\x0c\r ]*)?>)*",
    re.IGNORECASE | re.DOTALL,
)
_ROOT = re.compile(rb"<(?:[a-z_][\w.-]*:)?([a-z_][\w.-]*)(?=[\t\n\x0c\r />])[^>]*", re.IGNORECASE)
_HTML = re.compile(rb"<!--|<!doctype[\t\n\x0c\r ]+html[\t\n\x0c\r >]", re.IGNORECASE)
_VOCABULARIES = {
    b"svg": "image/svg+xml",
    b"math": "application/mathml+xml",
    b"stylesheet": "application/xslt+xml",
    b"transform": "application/xslt+xml",
    b"rss": "application/rss+xml",
    b"feed": "application/atom+xml",
}
_ELEMENTS = frozenset(
    b"a address applet article aside audio b base body br button center div dl embed fieldset figure font footer form "
    b"frameset h1 h2 h3 h4 h5 h6 head header hr html iframe img input link main map marquee meta nav noscript object "
    b"ol p pre script section select span style table template textarea title ul video".split()
)


def _markup(text: bytes) -> str | None:
    """What a browser could take for a document: HTML, SVG and all other XML; `None` where it is neither.

    A comment with no XML around it is HTML, as the standard has it. So is a Markdown file that begins with `<h1>`.
    """
    if not (start := _STARTS.match(text)):
        return None
    declared = text.startswith(b"<?xml", start.end() - 1)
    prolog = _PROLOG.match(text)
    assert prolog is not None  # it may match nothing, but it matches
    root = _ROOT.match(text, prolog.end())
    name = root[1].lower() if root else b""
    namespaced = root is not None and b"xmlns" in root[0]
    if name == b"html" and declared:
        return "application/xhtml+xml"
    if name in _ELEMENTS and not declared:
        return "text/html"
    if name in _VOCABULARIES and (declared or namespaced or name in (b"svg", b"math", b"rss")):
        return _VOCABULARIES[name]
    if declared or namespaced:
        return "application/xml"
    # The prolog ends before a comment or a declaration that is longer than the head; that one counts too.
    return "text/html" if _HTML.search(text, 0, prolog.end() + 16) else None


# --- text

_WORDS = (
    (re.compile(rb"#![^\n]*?[/ ](?:node|nodejs|deno|bun)\b"), "text/javascript"),
    (re.compile(rb"#![^\n]*?[/ ]python[\d.]*\b"), "text/x-python"),
    (re.compile(rb"#![^\n]*?[/ ](?:ba|da|k|z)?sh\b"), "text/x-shellscript"),
    (re.compile(rb"CACHE MANIFEST[\t\n\r ]"), "text/cache-manifest"),
    (re.compile(rb"BEGIN:VCALENDAR\r?\n", re.IGNORECASE), "text/calendar"),
    (re.compile(rb"BEGIN:VCARD\r?\n", re.IGNORECASE), "text/vcard"),
    (re.compile(rb"WEBVTT(?:[\t\n\r ]|\Z)"), "text/vtt"),
)
_WORD_STARTS = frozenset(b"#CBbW")


def _text(text: bytes, *, whole: bool) -> str:
    if text[:1] in (b"{", b"[") or text[:1].isspace():
        return "application/json" if whole and _is_json(text) else TEXT
    if text and text[0] in _WORD_STARTS:
        return next((found for pattern, found in _WORDS if pattern.match(text)), TEXT)
    return TEXT


def _is_json(text: bytes) -> bool:
    """Whether the text is one JSON object or array; a lone number or string is text that happens to be JSON."""
    if not text.lstrip().startswith((b"{", b"[")):
        return False
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True
