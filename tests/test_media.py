"""The content type of a file: bytes, then name, then claim."""

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lading import magic
from lading.errors import MissingDependency, TypeNotAllowed
from lading.media import SNIFF, Detector, canonical, default_detector, detect, is_active, signatures
from lading.mediatypes import within
from lading.sniffing import BINARY, TEXT, sniff
from tests.corpus import (
    ACTIVE,
    ALL,
    ARCHIVES,
    AUDIO,
    DOCUMENTS,
    EXECUTABLES,
    FONTS,
    IMAGES,
    TEXTS,
    VIDEO,
    Sample,
    compound,
    zipped,
)

CONTENTS = {sample.filename: sample.content for sample in ALL}


def content(filename: str) -> bytes:
    return CONTENTS[filename]


PURE = signatures()
HTML = b"<html><script>alert(1)</script></html>"
PNG = content("photo.png")
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
MOBI = b"\0" * 60 + b"BOOKMOBI" + b"\0" * 40
UNKNOWN = b"\x07\x01\x02\x03lading\0\x05\x06"


def named(sample: Sample) -> str:
    return sample.filename


@pytest.fixture(scope="module")
def libmagic() -> Detector:
    try:
        return magic.detector()
    except MissingDependency:
        pytest.skip("python-magic or libmagic is not installed")


@pytest.fixture(params=["libmagic", "pure"])
def detector(request: pytest.FixtureRequest) -> Detector:
    if request.param == "pure":
        return PURE
    found: Detector = request.getfixturevalue("libmagic")
    return found


@pytest.fixture
def no_magic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without python-magic."""
    monkeypatch.setitem(sys.modules, "magic", None)
    monkeypatch.setitem(sys.modules, "pylibmagic", None)
    default_detector.cache_clear()
    yield
    default_detector.cache_clear()


# --- the content


@pytest.mark.parametrize("sample", ALL, ids=named)
def test_an_honest_file_has_its_type_with_either_detector(sample: Sample, detector: Detector) -> None:
    """Every file of the corpus, honestly named, has its type, whichever detector is there."""
    assert detect(sample.content[:SNIFF], filename=sample.filename, detector=detector) == sample.content_type


@pytest.mark.parametrize("sample", [s for s in ALL if s.shows and s.content], ids=named)
def test_the_content_needs_no_name(sample: Sample, detector: Detector) -> None:
    """Where the bytes show the type, neither a false name nor a false claim changes it."""
    for filename, claim in (("file", None), ("photo.png", "image/png"), ("file.unknown", "application/x-unheard-of")):
        found = detect(sample.content[:SNIFF], filename=filename, claim=claim, detector=detector)
        assert found == sample.content_type, (filename, claim)


@pytest.mark.parametrize(
    "sample", [*IMAGES, *DOCUMENTS, *ARCHIVES, *EXECUTABLES, *AUDIO, *VIDEO, *FONTS, *TEXTS], ids=named
)
def test_libmagic_does_not_disagree(sample: Sample, libmagic: Detector) -> None:
    """By itself libmagic sees the same type, or a container of it, or nothing."""
    answer = canonical(libmagic(sample.content[:SNIFF]) or BINARY)
    assert answer is not None
    assert (
        answer in (BINARY, TEXT) or within(sample.content_type, answer) or within(answer, sniff(sample.content[:SNIFF]))
    )


@pytest.mark.parametrize("sample", ACTIVE, ids=named)
def test_active_content_cannot_be_hidden(sample: Sample) -> None:
    """Active content stays active whatever it is called or claimed to be; so does text with an active name."""
    filenames = (
        ("photo.png", "notes.txt", "table.csv", "readme.md", "a.docx", "x") if sample.shows else (sample.filename,)
    )
    for filename in filenames:
        for claim in ("image/png", "text/plain", "text/markdown", "application/pdf", None):
            assert is_active(detect(sample.content, filename=filename, claim=claim, detector=PURE)), (filename, claim)


@pytest.mark.parametrize("sample", [s for s in ALL if s not in ACTIVE], ids=named)
def test_other_content_is_not_active(sample: Sample) -> None:
    """Nothing else in the corpus is taken for active content."""
    assert not is_active(detect(sample.content[:SNIFF], filename=sample.filename, detector=PURE))


def test_polyglots() -> None:
    """A GIF that is JavaScript too is a GIF; a PDF that begins with HTML is HTML."""
    assert detect(b"GIF89a=1;alert(1)//", filename="x.js", detector=PURE) == "image/gif"
    assert detect(HTML + b"\n%PDF-1.7\n\0\1", filename="x.pdf", claim="application/pdf", detector=PURE) == "text/html"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"<b", TEXT),
        (b"<bold>text", TEXT),
        (b"<https://example.org/> is a link", TEXT),
        (b"<stdio.h> is a header", TEXT),
        (b"a < b and <script>", TEXT),
        (b"<?php echo 1; ?><p>", TEXT),
        (b"<rss version='2.0'>", "application/rss+xml"),
        (b"<feed>me</feed>", TEXT),
        (b"<!doctype html", TEXT),
        (b"<!doctype html>", "text/html"),
        (b"<!DOCTYPE\nHTML PUBLIC 'x'>text", "text/html"),
        (b"<!-- " + b"x" * SNIFF, "text/html"),
        (b"<?xml version='1.0'?><!-- " + b"x" * SNIFF, "application/xml"),
        (b"<?xml-stylesheet href='x'?><svg xmlns='y'/>", "image/svg+xml"),
        (b"{}", "application/json"),
        (b"[1, 2", TEXT),
        (b"12", TEXT),
        (b'"text"', TEXT),
        (b"[" * 5000, TEXT),
        (b"{} and more", TEXT),
        (b"MZ is a prefix", TEXT),
        (b"BM is a prefix", TEXT),
        (b"GZIP, 7z and RIFF are names", TEXT),
        (b"FWS is a prefix", TEXT),
        (b"%PDF- in a text", "application/pdf"),
        (b"a text on %PDF-1.4", TEXT),
        (b"escape \x1b[0m", TEXT),
        (b"nul \0", BINARY),
        (b"#!/usr/bin/perl\n", TEXT),
        (b"#!/usr/bin/env -S deno run\n", "text/javascript"),
        (b"#!/bin/bash\n# about node\n", "text/x-shellscript"),
    ],
)
def test_text(text: bytes, expected: str) -> None:
    """What is markup, JSON, a script or a binary prefix is told from text that only looks a little like it."""
    assert sniff(text[:SNIFF]) == expected


@pytest.mark.parametrize("sample", [s for s in ALL if s.shows and s.content], ids=named)
def test_truncated_content_is_no_error(sample: Sample) -> None:
    """A file may end anywhere."""
    for stop in range(min(len(sample.content), 300)):
        assert canonical(sniff(sample.content[:stop])) is not None


@pytest.mark.parametrize(
    "head",
    [
        b"<!--" * 2048,
        b"<?x" * 2730,
        b"<!doctype[" + b"] " * 4090,
        b"<!doctype a>" * 680,
        b" " * 8191 + b"<",
        b"<a" + b":a" * 4000,
        b"<" + b"a" * 8191,
        b"#!" + b"/ " * 4095,
        b"PK\3\4" * 2048,
        b"\x1aE\xdf\xa3" + b"\x42\x82" * 4000,
        b"\x1aE\xdf\xa3" * 2048,
        b"[" * 8191,
    ],
)
def test_no_content_is_slow(head: bytes) -> None:
    """Bytes made to be slow to look at are not: the worst of these takes a few milliseconds."""
    start = time.perf_counter()
    sniff(head)
    assert time.perf_counter() - start < 0.25


def test_head_may_be_any_buffer_and_longer_than_needed() -> None:
    """A `bytearray` and a `memoryview` do as well as `bytes`, and nothing behind `SNIFF` is looked at."""
    assert detect(bytearray(PNG), filename="x", detector=PURE) == "image/png"
    assert detect(memoryview(PNG), filename="x", detector=PURE) == "image/png"
    assert detect(b"x" * SNIFF + b"\0", filename="x", detector=PURE) == TEXT


# --- name and claim


@pytest.mark.parametrize(
    ("content", "filename", "claim", "expected"),
    [
        (b"a,b\n", "t.csv", None, "text/csv"),
        (b"a,b\n", "t", "text/csv; charset=utf-8", "text/csv"),
        (b"a,b\n", "t.txt", "TEXT/CSV", "text/csv"),
        (b"a,b\n", "t.csv", "text/markdown", "text/csv"),
        (b"a,b\n", "t.png", "image/png", TEXT),
        (b"a,b\n", "t.docx", DOCX, TEXT),
        (b"a,b\n", "t", "application/vnd.unheard-of", TEXT),
        (b"alert(1)", "t.js", "text/plain", "text/javascript"),
        (b"alert(1)", "t", "text/javascript", TEXT),
        (b"hello <script>", "t.html", None, "text/html"),
        (b"hello <script>", "t.txt", "text/html", TEXT),
        (b"[1]", "t.html", None, "text/html"),
        (b"[1]", "t", "application/ld+json", "application/ld+json"),
        (b"[1]", "t.txt", "text/plain", "application/json"),
        (b"<?xml version='1.0'?><kml/>", "t.kml", None, "application/vnd.google-earth.kml+xml"),
        (b"<?xml version='1.0'?><kml/>", "t.json", "application/json", "application/xml"),
        (zipped(("a.txt", b"x")), "t.docx", DOCX, "application/zip"),
        (zipped(("a.txt", b"x")), "t.apk", None, "application/vnd.android.package-archive"),
        (zipped(("[Content_Types].xml", b"x")), "t.docx", None, DOCX),
        (zipped(("[Content_Types].xml", b"x")), "t.bin", DOCX, DOCX),
        (zipped(("[Content_Types].xml", b"x")), "t.bin", None, "application/zip"),
        (zipped(("_rels/.rels", b"x"), ("word/document.xml", b"x")), "t.xlsx", XLSX, DOCX),
        (zipped(("word/document.xml", b"x")), "t.docm", None, "application/vnd.ms-word.document.macroenabled.12"),
        (zipped(("mimetype", b"text/html"), stored=True), "t.html", None, "application/zip"),
        (compound("x"), "t.doc", None, "application/msword"),
        (compound("x"), "t.docx", None, "application/x-ole-storage"),
        (compound("Workbook"), "t.doc", "application/msword", "application/vnd.ms-excel"),
        (UNKNOWN, "t.iso", None, "application/x-iso9660-image"),
        (UNKNOWN, "t", "application/x-lading", "application/x-lading"),
        (UNKNOWN, "t.png", "image/png", BINARY),
        (UNKNOWN, "t", "image/x-unheard-of", BINARY),
        (UNKNOWN, "t.pdf", "application/pdf", BINARY),
        (UNKNOWN, "t.txt", "text/plain", BINARY),
        (UNKNOWN, "t.html", None, "text/html"),
        (UNKNOWN, "t", "text/html", BINARY),
        (b"", "t.png", "image/png", BINARY),
        (b"", "t", "text/csv", "text/csv"),
        (b"", "t", "application/json", "application/json"),
        (content("film.mp4"), "t.m4a", None, "audio/mp4"),
        (content("photo.tiff"), "t.dng", None, "image/x-adobe-dng"),
    ],
)
def test_name_and_claim_say_what_the_content_leaves_open(
    content: bytes, filename: str, claim: str | None, expected: str
) -> None:
    """The name, then the claim, may say what is in a container or in an unknown format, and nothing more."""
    assert detect(content, filename=filename, claim=claim, detector=PURE) == expected


@pytest.mark.parametrize(
    "claim",
    [
        "",
        "text",
        "text/",
        "/csv",
        "a b/c",
        "text/csv\r\nx: y",
        "image/*",
        "*/*",
        "téxt/csv",
        "te\0xt/csv",
        "x/" + "y" * 128,
        "\u212a/csv",
    ],
)
def test_a_claim_that_is_no_type_is_none(claim: str) -> None:
    """A claim that is no media type is as good as none, under every trust."""
    assert canonical(claim) is None
    assert detect(b"a,b\n", filename="t", claim=claim, detector=PURE) == TEXT
    assert detect(b"a,b\n", filename="t", claim=claim, trust="reject", detector=PURE) == TEXT
    assert detect(b"a,b\n", filename="t", claim=claim, trust="claim", detector=PURE) == TEXT


@pytest.mark.parametrize(
    ("content", "filename", "claim"),
    [
        (PNG, "t.jpg", None),
        (PNG, "t.png", "image/jpeg"),
        (PNG, "t.png", "application/x-unheard-of"),
        (HTML, "t.png", None),
        (HTML, "t", "text/plain"),
        (HTML, "t.md", None),
        (content("bare.svg"), "t.png", "image/svg+xml"),
        (b"a,b\n", "t.png", None),
        (UNKNOWN, "t.pdf", None),
        (UNKNOWN, "t.txt", None),
        (b"", "t.png", None),
        (zipped(("word/document.xml", b"x")), "t.xlsx", None),
        (compound("Workbook"), "t.doc", None),
        (content("film.mp4"), "t.webm", None),
    ],
)
def test_reject_refuses_a_contradiction(content: bytes, filename: str, claim: str | None) -> None:
    """Under `reject` a name or a claim that the bytes belie is refused, with the evidence."""
    with pytest.raises(TypeNotAllowed) as caught:
        detect(content, filename=filename, claim=claim, trust="reject", detector=PURE)
    assert caught.value.filename == filename
    assert caught.value.actual == sniff(content)
    assert caught.value.limit in (canonical(claim or ""), detect(b"", filename=filename, trust="claim"))


@pytest.mark.parametrize(
    ("content", "filename", "claim", "expected"),
    [
        (PNG, "t.png", "image/x-png", "image/png"),
        (PNG, "t", "application/octet-stream", "image/png"),
        (PNG, "t.unknown", None, "image/png"),
        (b"a,b\n", "t.csv", "text/plain", "text/csv"),
        (b"a,b\n", "t.csv", "application/vnd.ms-excel", None),
        (b"[1]", "t.json", "text/plain", "application/json"),
        (HTML, "t.html", "text/html; charset=utf-8", "text/html"),
        (HTML, "t.xhtml", None, "application/xhtml+xml"),
        (content("prolog.svg"), "t.svg", "text/xml", "image/svg+xml"),
        (b"alert(1)", "t.js", "application/x-javascript", "text/javascript"),
        (zipped(("word/document.xml", b"x")), "t.docx", "application/zip", DOCX),
        (zipped(("a", b"x")), "t.docx", "application/zip", "application/zip"),
        (content("files.bz2"), "t.bz2", "application/x-bzip", "application/x-bzip2"),
        (content("song.wav"), "t.wav", "audio/x-wav", "audio/wav"),
        (content("film.mov"), "t.mov", "video/mp4", "video/quicktime"),
        (UNKNOWN, "t.iso", None, "application/x-iso9660-image"),
    ],
)
def test_reject_lets_pass_what_is_no_contradiction(
    content: bytes, filename: str, claim: str | None, expected: str | None
) -> None:
    """Aliases, containers with what is in them, and kinds of text pass; a spreadsheet is no kind of text."""
    if expected is None:
        with pytest.raises(TypeNotAllowed):
            detect(content, filename=filename, claim=claim, trust="reject", detector=PURE)
    else:
        assert detect(content, filename=filename, claim=claim, trust="reject", detector=PURE) == expected


@pytest.mark.parametrize("sample", ALL, ids=named)
def test_reject_lets_every_honest_file_pass(sample: Sample, detector: Detector) -> None:
    """A file of the corpus with its own name and type is never refused, by either detector."""
    found = detect(
        sample.content[:SNIFF], filename=sample.filename, claim=sample.content_type, trust="reject", detector=detector
    )
    assert found == sample.content_type


def test_claim_is_believed_where_that_is_asked_for() -> None:
    """Under `claim` the claim wins, then the name, then the content; the claim gets its canonical name."""
    assert detect(HTML, filename="t.png", claim="audio/X-WAV; a=b", trust="claim") == "audio/wav"
    assert detect(HTML, filename="t.png", claim="application/octet-stream", trust="claim") == "image/png"
    assert detect(HTML, filename="t", claim=None, trust="claim") == "text/html"


# --- active types


@pytest.mark.parametrize(
    "content_type",
    [
        "text/html",
        "TEXT/HTML; charset=utf-8",
        " text/html",
        "application/xhtml+xml",
        "image/svg+xml",
        "text/xml",
        "application/xml",
        "application/anything+xml",
        "application/javascript",
        "text/javascript1.5",
        "text/ecmascript",
        "text/x-component",
        "text/xsl",
        "application/x-shockwave-flash",
        "multipart/x-mixed-replace",
        "multipart/related",
        "text/cache-manifest",
        "",
        "text/html\0",
        "nonsense",
    ],
)
def test_active_types(content_type: str) -> None:
    """What a browser may run, and what is no type at all, is active."""
    assert is_active(content_type)


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "text/css",
        "text/csv",
        "text/vtt",
        "image/png",
        "application/pdf",
        "application/json",
        "video/mp4",
        BINARY,
    ],
)
def test_inactive_types(content_type: str) -> None:
    """What a browser only shows is not active, PDF included."""
    assert not is_active(content_type)


# --- detectors


def test_detector_is_asked_about_unknown_binaries_only() -> None:
    """A detector is asked where the bytes are binary and of no known format, and its answer gets its canonical name."""
    asked: list[bytes] = []

    def spy(head: bytes) -> str | None:
        asked.append(head)
        return "Audio/X-WAV"

    for content in (PNG, HTML, b"text", b"[1]", b"", zipped(("a", b"x"))):
        detect(content, filename="x", detector=spy)
    assert asked == []
    assert detect(UNKNOWN, filename="x", detector=spy) == "audio/wav"
    assert asked == [UNKNOWN]


@pytest.mark.parametrize("answer", [None, "", "nonsense", "inode/x-empty", "application/octet-stream"])
def test_detector_may_not_know(answer: str | None) -> None:
    """A detector that does not know, or answers nonsense, leaves the file to its name and claim."""
    assert detect(UNKNOWN, filename="x", detector=lambda head: answer) == BINARY
    assert detect(UNKNOWN, filename="x.iso", detector=lambda head: answer) == "application/x-iso9660-image"


def test_active_answer_of_a_detector_stays() -> None:
    """What a detector takes for active content stays active whatever it is called."""
    assert detect(UNKNOWN, filename="x.png", claim="image/png", detector=lambda head: "text/html") == "text/html"


def test_pure_detector_knows_more_than_the_table() -> None:
    """The signatures of puremagic name formats that lading's own table lacks."""
    assert sniff(MOBI) == BINARY
    assert detect(MOBI, filename="x", detector=PURE) == "application/x-mobipocket-ebook"


def test_libmagic_is_safe_in_threads(libmagic: Detector) -> None:
    """One detector serves many threads at once."""
    heads = [PNG, content("paper.pdf"), content("files.tar.gz"), UNKNOWN] * 50
    expected = [libmagic(head) for head in heads]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(libmagic, heads)) == expected
    assert expected[:2] == ["image/png", "application/pdf"]


@pytest.mark.usefixtures("no_magic")
def test_missing_python_magic_is_said() -> None:
    """Without python-magic, asking for it says what to install."""
    with pytest.raises(MissingDependency, match=r"pip install 'lading\[magic\]'"):
        magic.detector()


def test_another_module_called_magic_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other package whose module is called `magic` is not taken for python-magic."""
    monkeypatch.setitem(sys.modules, "magic", ModuleType("magic"))
    with pytest.raises(MissingDependency, match="another module called magic"):
        magic.detector()


@pytest.mark.usefixtures("no_magic")
def test_default_without_libmagic_is_pure() -> None:
    """Where libmagic is missing the default detector is the pure one, and is made once."""
    assert default_detector()(MOBI) == "application/x-mobipocket-ebook"
    assert default_detector() is default_detector()
    assert detect(MOBI, filename="x") == "application/x-mobipocket-ebook"


def test_default_with_libmagic_asks_it(libmagic: Detector) -> None:
    """Where libmagic is installed it is the default detector."""
    default_detector.cache_clear()
    # The pure detector has signatures of whole formats only, so this is no answer of its.
    assert PURE(content("notes.txt")) is None
    assert default_detector()(content("notes.txt")) == libmagic(content("notes.txt")) == TEXT


def test_detectors_are_imported_when_first_needed() -> None:
    """Neither the import nor a known format loads a detector's package."""
    program = (
        "import sys, lading.media as media\n"
        "loaded = lambda: {'magic', 'puremagic'} & set(sys.modules)\n"
        "media.detect(b'GIF89a', filename='x')\n"
        "assert not loaded(), loaded()\n"
        "media.detect(b'\\0\\1\\2\\3', filename='x')\n"
        "assert loaded()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env={"PYTHONPATH": ":".join(filter(None, sys.path))})


# --- properties

_TAGS = (
    "HTML",
    "HEAD",
    "SCRIPT",
    "IFRAME",
    "H1",
    "DIV",
    "FONT",
    "TABLE",
    "A",
    "STYLE",
    "TITLE",
    "B",
    "BODY",
    "BR",
    "P",
)
_FILENAMES = st.one_of(
    st.text(max_size=20),
    st.sampled_from([sample.filename for sample in ALL]),
    st.sampled_from(["x.html", "x.js", "x.svg", "x.png", "x.txt", "x.docx", "x"]),
)
_CLAIMS = st.one_of(
    st.none(),
    st.text(max_size=30),
    st.sampled_from([sample.content_type for sample in ALL]),
    st.sampled_from(["text/html", "application/javascript", "application/xml", "x/y"]),
)
_HEADS = st.one_of(
    st.binary(max_size=400),
    st.builds(
        lambda sample, stop, tail: sample.content[:stop] + tail,
        st.sampled_from(ALL),
        st.integers(0, 400),
        st.binary(max_size=40),
    ),
)


@given(_HEADS, _FILENAMES, _CLAIMS)
def test_every_file_has_a_type(head: bytes, filename: str, claim: str | None) -> None:
    """Whatever the bytes, the name and the claim are, there is a type, in its canonical form."""
    for trust in ("content", "claim"):
        found = detect(head, filename=filename, claim=claim, trust=trust, detector=PURE)
        assert canonical(found) == found


@given(_HEADS, _FILENAMES, _CLAIMS)
def test_activity_is_never_lost_and_never_claimed(head: bytes, filename: str, claim: str | None) -> None:
    """What the bytes show to be active stays so, and no claim makes a file active that would not be without it."""
    found = detect(head, filename=filename, claim=claim, detector=PURE)
    assert is_active(found) or not is_active(sniff(head))
    assert is_active(found) == is_active(detect(head, filename=filename, detector=PURE))


@given(_HEADS, _FILENAMES, _CLAIMS)
def test_reject_agrees_with_content(head: bytes, filename: str, claim: str | None) -> None:
    """Under `reject` a file is refused or has the type that it has under `content`."""
    try:
        found = detect(head, filename=filename, claim=claim, trust="reject", detector=PURE)
    except TypeNotAllowed:
        return
    assert found == detect(head, filename=filename, claim=claim, detector=PURE)


@given(
    st.text("\t\n\x0c\r ", max_size=8),
    st.sampled_from(["!DOCTYPE HTML", "!--", *_TAGS]),
    st.integers(0),
    st.sampled_from(" >\t\n/"),
    st.binary(max_size=60),
    _FILENAMES,
    _CLAIMS,
)
def test_the_patterns_of_the_standard_are_active(
    space: str, tag: str, cases: int, end: str, tail: bytes, filename: str, claim: str | None
) -> None:
    """Bytes that begin with a tag of the WHATWG standard, in any case, behind any space, are active."""
    spelled = "".join(letter.lower() if cases >> index & 1 else letter for index, letter in enumerate(tag))
    ended = " " if "DOCTYPE" in tag and end == "/" else end
    head = f"{space}<{spelled}{ended}".encode() + tail
    assert is_active(detect(head, filename=filename, claim=claim, detector=PURE))
