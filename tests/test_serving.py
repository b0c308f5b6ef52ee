"""What is answered to whom asks for a file."""

import json
import re
import time
from email.message import Message
from email.parser import BytesParser
from itertools import chain
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lading.ranges import MOST, spans
from lading.record import Disposition
from lading.serving import (
    Answer,
    Representation,
    content_disposition,
    entity_tag,
    respond,
    while_it_is_good,
)

TAG = '"sha256:ab"'
MODIFIED = 1_700_000_000.75
DATE = "Tue, 14 Nov 2023 22:13:20 GMT"
BEFORE, AFTER = "Tue, 14 Nov 2023 22:13:19 GMT", "Tue, 14 Nov 2023 22:13:21 GMT"


def ask(method: str = "GET", asked: dict[str, str] | None = None, **changes: Any) -> Answer:
    about: dict[str, Any] = {
        "size": 100,
        "content_type": "image/png",
        "filename": "a.png",
        "etag": TAG,
        "last_modified": MODIFIED,
    }
    return respond(method, asked or {}, Representation(**(about | changes)))


def sent(answer: Answer) -> list[tuple[int, int]]:
    """The bytes of the object that are the body."""
    return [(part.start, part.stop) for part in answer.parts]


def body(answer: Answer, content: bytes) -> bytes:
    """The body, made of that object."""
    parts = (part.before + content[part.start : part.stop] for part in answer.parts)
    return b"".join(chain(parts, [answer.after]))


def test_the_whole() -> None:
    """A plain GET is answered with every byte and with all that a client needs to keep, resume and show it safely."""
    answer = ask()
    assert (answer.status, sent(answer)) == (200, [(0, 100)])
    assert dict(answer.headers) == {
        "accept-ranges": "bytes",
        "cache-control": "private, no-cache",
        "content-disposition": 'inline; filename="a.png"',
        "content-length": "100",
        "content-security-policy": (
            "default-src 'none'; img-src 'self'; media-src 'self'; object-src 'self'; style-src 'unsafe-inline'; "
            "sandbox"
        ),
        "content-type": "image/png",
        "cross-origin-resource-policy": "same-site",
        "etag": TAG,
        "last-modified": DATE,
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }


def test_head_has_the_headers_of_get_and_no_body() -> None:
    """HEAD says what GET would say, ignores ranges, and sends nothing."""
    answer = ask("HEAD", {"range": "bytes=0-1"})
    assert (answer.status, answer.headers) == (200, ask().headers)
    assert not answer.parts
    assert not answer.after


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-99", 0, 100),
        ("bytes=10-19", 10, 20),
        ("bytes=10-", 10, 100),
        ("bytes=99-", 99, 100),
        ("bytes=90-5000", 90, 100),
        ("bytes=-1", 99, 100),
        ("bytes=-100", 0, 100),
        ("bytes=-5000", 0, 100),
        ("BYTES= 1-2 ", 1, 3),
        ("bytes=,1-2,,", 1, 3),
        ("bytes=0-18446744073709551615", 0, 100),
        ("bytes=1-2,3-4", 1, 5),
        ("bytes=3-9,1-4", 1, 10),
        ("bytes=1-2,200-300", 1, 3),
    ],
)
def test_one_range(asked: str, start: int, stop: int) -> None:
    """One range, open or from the end too, or what comes to one, is answered with 206 and where it lies."""
    answer = ask(asked={"range": asked})
    assert (answer.status, sent(answer)) == (206, [(start, stop)])
    headers = dict(answer.headers)
    assert headers["content-range"] == f"bytes {start}-{stop - 1}/100"
    assert headers["content-length"] == str(stop - start)


@pytest.mark.parametrize(
    "asked", ["bytes=100-", "bytes=100-200", "bytes=5000-5001", "bytes=-0", "bytes=100-,-0", "bytes=" + "9" * 20 + "-"]
)
def test_a_range_outside(asked: str) -> None:
    """A range of which the object has no byte is 416, which says how large it is, and nothing may keep that."""
    answer = ask(asked={"range": asked})
    assert (answer.status, sent(answer)) == (416, [])
    headers = dict(answer.headers)
    assert headers["content-range"] == "bytes */100"
    assert headers["cache-control"] == "no-store"
    assert headers["content-type"] == "application/problem+json"
    assert int(headers["content-length"]) == len(answer.after)
    assert json.loads(answer.after)["type"] == "urn:lading:problem:range-not-satisfiable"


def test_several_ranges() -> None:
    """Several ranges are one multipart body, in the order in which they were asked for, its length known beforehand."""
    content = bytes(range(100))
    answer = ask(asked={"range": "bytes=50-59, 0-4 ,-1"})
    headers = dict(answer.headers)
    assert (answer.status, sent(answer)) == (206, [(50, 60), (0, 5), (99, 100)])
    assert "content-range" not in headers
    assert int(headers["content-length"]) == len(body(answer, content))
    head = f"content-type: {headers['content-type']}\r\n\r\n".encode()
    message = BytesParser().parsebytes(head + body(answer, content))
    assert message.get_content_type() == "multipart/byteranges"
    parts = [part for part in message.walk() if not part.is_multipart()]
    found = [(part["content-range"], part["content-type"], part.get_payload(decode=True)) for part in parts]
    assert found == [
        ("bytes 50-59/100", "image/png", content[50:60]),
        ("bytes 0-4/100", "image/png", content[0:5]),
        ("bytes 99-99/100", "image/png", content[99:]),
    ]


def test_nobody_knows_the_boundary() -> None:
    """The boundary between ranges is another each time, so no file can contain it."""
    kinds = {dict(ask(asked={"range": "bytes=0-0,9-9"}).headers)["content-type"] for _ in range(100)}
    assert len(kinds) == 100


def test_ranges_that_overlap_are_one() -> None:
    """Ranges that overlap or touch are sent once, at the place of the first of them."""
    assert sent(ask(asked={"range": "bytes=90-94,0-9,5-14,15-19"})) == [(90, 95), (0, 20)]


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=5-4",
        "bytes=0-1,5-4",
        "bytes=-",
        "bytes=a-b",
        "bytes=0-1;2-3",
        "bytes=0-1,x",
        "bytes=0 - 1",
        "bytes=1",
        "bytes=--1",
        "bytes=-1-2",
        "bytes=0x1-2",
        "bytes=١-٢",
        "bytes=",
        "bytes=,",
        "bytes 0-1",
        "lines=1-2",
        "bytes=+1-2",
        "bytes=-" + "9" * 5000,
        "bytes=0-,0-",
        "bytes=0-60,10-60",
        "",
    ],
)
def test_a_range_that_is_ignored(asked: str) -> None:
    """Other units, what is no range, and more bytes than there are, are answered with the whole."""
    answer = ask(asked={"range": asked})
    assert (answer.status, sent(answer)) == (200, [(0, 100)])
    assert "content-range" not in dict(answer.headers)


def test_most_ranges() -> None:
    """As many ranges as are allowed are honoured, and one more is answered with the whole."""
    most = ",".join(f"{start}-{start}" for start in range(0, 2 * MOST, 2))
    assert len(sent(ask(asked={"range": f"bytes={most}"}))) == MOST
    assert ask(asked={"range": f"bytes={most},50-50"}).status == 200


@pytest.mark.parametrize(
    "bomb",
    [
        "bytes=" + ",".join(f"{start}-" for start in range(100_000)),
        "bytes=" + "0-," * 100_000,
        "bytes=" + "," * 1_000_000,
        "bytes=" + " " * 1_000_000,
        "bytes=" + "0" * 1_000_000 + "-1",
        "bytes=" + "-" * 1_000_000,
        "bytes=0-" + " \t" * 500_000 + "x",
    ],
)
def test_a_range_bomb(bomb: str) -> None:
    """Whatever is asked for a hundred thousand times costs no time, and no more bytes than the object has."""
    begun = time.perf_counter()
    for size in (1, 100, 2**40):
        assert spans(bomb, size) in (None, [])
    assert time.perf_counter() - begun < 0.5


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=MOST),
    st.integers(0, 30),
)
def test_ranges_hold_what_was_asked_for(ranges: list[tuple[int, int]], size: int) -> None:
    """What is sent for ranges are their bytes and no others, each once, and never more than the object has."""
    found = spans("bytes=" + ",".join(f"{start}-{stop}" for start, stop in ranges), size)
    if found is None:
        return
    bytes_sent = [at for start, stop in found for at in range(start, stop)]
    wanted = {at for start, stop in ranges for at in range(start, stop + 1) if at < size}
    assert len(bytes_sent) == len(set(bytes_sent))
    assert set(bytes_sent) == wanted


@pytest.mark.parametrize("asked", ["bytes=0-", "bytes=-5", "bytes=3-4", "bytes=-0", "bytes=0-0,1-1"])
def test_an_empty_file_has_no_ranges(asked: str) -> None:
    """An empty file is answered with 200 and nothing, whatever range is asked for."""
    answer = ask(asked={"range": asked}, size=0)
    assert (answer.status, sent(answer)) == (200, [])
    assert dict(answer.headers)["content-length"] == "0"


@pytest.mark.parametrize(
    ("validator", "status"),
    [
        (TAG, 206),
        (DATE, 206),
        ('"other"', 200),
        (f"W/{TAG}", 200),
        (BEFORE, 200),
        (AFTER, 200),
        ("nonsense", 200),
        ("", 200),
    ],
)
def test_if_range(validator: str, status: int) -> None:
    """A range counts only while the file is exactly the one that the client has a part of."""
    assert ask(asked={"range": "bytes=1-2", "if-range": validator}).status == status


def test_if_range_needs_a_strong_tag() -> None:
    """A weak tag of the file is no ground to continue it, nor is a date that is not known."""
    weak = f"W/{TAG}"
    assert ask(asked={"range": "bytes=1-2", "if-range": weak}, etag=weak).status == 200
    assert ask(asked={"range": "bytes=1-2", "if-range": DATE}, last_modified=None).status == 200


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"if-none-match": TAG}, 304),
        ({"if-none-match": f"W/{TAG}"}, 304),
        ({"if-none-match": f'"x", "y,z" ,{TAG}'}, 304),
        ({"if-none-match": " * "}, 304),
        ({"if-none-match": '"x"'}, 200),
        ({"if-none-match": "sha256:ab"}, 200),
        ({"if-none-match": '"x"', "if-modified-since": AFTER}, 200),
        ({"if-modified-since": DATE}, 304),
        ({"if-modified-since": AFTER}, 304),
        ({"if-modified-since": BEFORE}, 200),
        ({"if-modified-since": "yesterday"}, 200),
        ({"if-match": TAG}, 200),
        ({"if-match": "*"}, 200),
        ({"if-match": f'"x", {TAG}'}, 200),
        ({"if-match": '"x"'}, 412),
        ({"if-match": f"W/{TAG}"}, 412),
        ({"if-match": TAG, "if-unmodified-since": BEFORE}, 200),
        ({"if-unmodified-since": BEFORE}, 412),
        ({"if-unmodified-since": DATE}, 200),
        ({"if-unmodified-since": "Tue, 99 Foo 2023 22:13:20 GMT"}, 200),
        ({"if-match": '"x"', "if-none-match": TAG}, 412),
        ({"if-match": TAG, "if-none-match": TAG}, 304),
    ],
)
def test_conditions(method: str, asked: dict[str, str], status: int) -> None:
    """Conditions are weighed in the order of RFC 9110, section 13.2.2; dates that are none do not count."""
    assert ask(method, asked).status == status


def test_what_304_and_412_carry() -> None:
    """304 has what the client's cache needs and no length; 412 is a problem document that no cache keeps."""
    unchanged = ask(asked={"if-none-match": TAG})
    assert dict(unchanged.headers).keys() == {"accept-ranges", "cache-control", "etag", "last-modified"}
    assert not unchanged.parts
    assert not unchanged.after
    other = ask(asked={"if-match": '"x"'})
    headers = dict(other.headers)
    assert (headers["etag"], headers["cache-control"], headers["content-length"]) == (
        TAG,
        "no-store",
        str(len(other.after)),
    )
    assert json.loads(other.after)["type"] == "urn:lading:problem:precondition-failed"
    to_head = ask("HEAD", {"if-match": '"x"'})
    assert (to_head.headers, to_head.after) == (other.headers, b"")


@pytest.mark.parametrize("asked", [{"range": "bytes=0-0"}, {"if-match": '"x"'}, {"if-none-match": "*"}])
def test_a_file_as_the_answer_to_something_else(asked: dict[str, str]) -> None:
    """Of a method that is neither GET nor HEAD ranges and conditions mean something else, and the whole is sent."""
    answer = ask("POST", asked)
    assert (answer.status, sent(answer)) == (200, [(0, 100)])


def test_conditions_on_a_file_that_nothing_is_known_of() -> None:
    """Without a tag and a date no condition that names one holds."""
    unknown: dict[str, Any] = {"etag": None, "last_modified": None}
    assert ask(asked={"if-none-match": TAG}, **unknown).status == 200
    assert ask(asked={"if-modified-since": AFTER}, **unknown).status == 200
    assert ask(asked={"if-unmodified-since": BEFORE}, **unknown).status == 200
    assert ask(asked={"if-match": TAG}, **unknown).status == 412
    assert ask(asked={"if-match": "*"}, **unknown).status == 200
    assert {"etag", "last-modified"}.isdisjoint(dict(ask(**unknown).headers))


@pytest.mark.parametrize("moment", [-1.0, 1e300, float("nan")])
def test_a_time_that_http_cannot_say(moment: float) -> None:
    """A time before 1970 or after 9999 is left out."""
    assert "last-modified" not in dict(ask(last_modified=moment).headers)


def test_cache_never_outlives_the_url() -> None:
    """The client may keep an answer for whole seconds, never longer than told and never less than zero."""
    assert while_it_is_good(59.9) == "private, max-age=59"
    assert while_it_is_good(0.9) == "private, max-age=0"
    assert while_it_is_good(-5) == "private, max-age=0"
    assert dict(ask(cache_control="no-store").headers)["cache-control"] == "no-store"
    unchanged = ask(asked={"if-none-match": TAG}, cache_control="private, max-age=1")
    assert dict(unchanged.headers)["cache-control"] == "private, max-age=1"


def test_who_may_embed_it() -> None:
    """Whose pages may show a file within them is as the caller has it."""
    assert dict(ask(embedding="cross-origin").headers)["cross-origin-resource-policy"] == "cross-origin"


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("image/png", "inline"),
        ("IMAGE/PNG", "inline"),
        ("video/mp4", "inline"),
        ("audio/mpeg", "inline"),
        ("application/pdf", "inline"),
        ("application/json", "inline"),
        ("text/plain; charset=utf-8", "inline"),
        ("text/html", "attachment"),
        ("text/HTML; charset=utf-8", "attachment"),
        ("image/svg+xml", "attachment"),
        ("IMAGE/SVG+XML", "attachment"),
        ("application/xhtml+xml", "attachment"),
        ("text/xml", "attachment"),
        ("text/javascript", "attachment"),
        ("application/octet-stream", "attachment"),
        ("application/zip", "attachment"),
        ("text/x-component", "attachment"),
        ("", "attachment"),
        ("image", "attachment"),
        ("image/png\r\nx: y", "attachment"),
    ],
)
def test_what_is_shown(content_type: str, kind: str) -> None:
    """Only what browsers show and never run is inline, and nothing is that is wished to be saved."""
    assert content_disposition("a", content_type) == f'{kind}; filename="a"'
    assert content_disposition("a", content_type, "inline") == f'{kind}; filename="a"'
    assert content_disposition("a", content_type, "attachment") == 'attachment; filename="a"'


@pytest.mark.parametrize(
    ("content_type", "disposition", "kind"),
    [
        ("text/html", "inline", "inline"),
        ("image/svg+xml", "inline", "inline"),
        ("text/html", None, "attachment"),
        ("text/html", "attachment", "attachment"),
        ("application/zip", "inline", "attachment"),
        ("image/png", None, "inline"),
        ("image/png", "attachment", "attachment"),
    ],
)
def test_a_separate_origin(content_type: str, disposition: Disposition | None, kind: str) -> None:
    """On an origin of its own active content is shown to whom asks for that, and runs no scripts there either."""
    headers = dict(ask(content_type=content_type, disposition=disposition, separate_origin=True).headers)
    assert headers["content-disposition"] == f'{kind}; filename="a.png"'
    assert headers["content-security-policy"].endswith("; sandbox")
    assert "script-src" not in headers["content-security-policy"]


@pytest.mark.parametrize(
    "content_type", ["text/javascript", "application/javascript", "TEXT/ECMASCRIPT; charset=utf-8", "text/jscript"]
)
@pytest.mark.parametrize("separate_origin", [True, False])
def test_no_page_can_load_a_script(content_type: str, separate_origin: bool) -> None:
    """JavaScript is not called so: with `nosniff` no page can load it as a script, also where it may load others."""
    headers = dict(ask(content_type=content_type, separate_origin=separate_origin, disposition="inline").headers)
    assert headers["content-type"] == "application/octet-stream"
    assert headers["x-content-type-options"] == "nosniff"
    several = ask(content_type=content_type, asked={"range": "bytes=0-0,2-2"})
    assert b"script" not in body(several, bytes(100))


@pytest.mark.parametrize("content_type", ["text/css", "TEXT/CSS; charset=utf-8"])
@pytest.mark.parametrize(("separate_origin", "served"), [(False, "application/octet-stream"), (True, "text/css")])
def test_no_page_can_load_a_stylesheet(content_type: str, separate_origin: bool, served: str) -> None:
    """CSS is called so on an origin of its own alone: elsewhere a page may load what its own origin calls so."""
    headers = dict(ask(content_type=content_type, separate_origin=separate_origin, disposition="inline").headers)
    assert headers["content-type"] == served
    assert headers["content-disposition"].startswith("attachment;")
    several = ask(content_type=content_type, separate_origin=separate_origin, asked={"range": "bytes=0-0,2-2"})
    assert (b"css" in body(several, bytes(100))) == separate_origin


@pytest.mark.parametrize("asked", [{"if-match": '"other"'}, {"range": "bytes=100-"}])
def test_refusals_say_nothing_twice(asked: dict[str, str]) -> None:
    """A refusal has each header once, and is not guessed at either."""
    names = [name for name, _ in ask(asked=asked).headers]
    assert len(names) == len(set(names))
    assert {"x-content-type-options", "referrer-policy", "cache-control", "content-type"} < set(names)


@pytest.mark.parametrize(
    ("content_type", "boxed"),
    [
        ("application/pdf", False),
        ("audio/mpeg", False),
        ("video/mp4", False),
        ("image/png", True),
        ("text/plain", True),
        ("text/html", True),
        ("image/svg+xml", True),
    ],
)
def test_no_type_may_run_scripts(content_type: str, boxed: bool) -> None:
    """No type may run scripts, and all are in a sandbox but those that browsers would not show or play in one."""
    policy = dict(ask(content_type=content_type).headers)["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "script-src" not in policy
    assert policy.endswith("; sandbox") == boxed


def test_text_says_its_encoding() -> None:
    """Plain text is declared as UTF-8, so that no browser guesses."""
    assert dict(ask(content_type="text/plain").headers)["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("filename", "value"),
    [
        ("a b.pdf", 'inline; filename="a b.pdf"'),
        ("naïve.pdf", "inline; filename=\"na_ve.pdf\"; filename*=UTF-8''na%C3%AFve.pdf"),
        ("报告.pdf", "inline; filename=\"__.pdf\"; filename*=UTF-8''%E6%8A%A5%E5%91%8A.pdf"),
        ('a"b\\".pdf', "inline; filename=\"_.pdf\"; filename*=UTF-8''%22.pdf"),
        ("50%.pdf", "inline; filename=\"50_.pdf\"; filename*=UTF-8''50%25.pdf"),
        ("a;b*.pdf", "inline; filename=\"a_b_.pdf\"; filename*=UTF-8''a%3Bb%2A.pdf"),
        ("../../etc/passwd", "inline; filename=\"passwd\"; filename*=UTF-8''passwd"),
    ],
)
def test_names(filename: str, value: str) -> None:
    """A name that is not plain ASCII is there twice, readable by old and by new clients."""
    assert content_disposition(filename, "application/pdf") == value


@given(st.text())
@example('x"; filename="evil.exe')
@example("a\r\nSet-Cookie: a=b")
@example("\ud800")
@example("a\u202egnp.exe")
def test_no_name_breaks_the_header(filename: str) -> None:
    """Whatever a file is called, the header is one line of ASCII that a parser reads as one name."""
    value = content_disposition(filename, "image/png")
    assert re.fullmatch(r"[ -~]+", value)
    message = Message()
    message["content-disposition"] = value
    params = message.get_params(header="content-disposition", unquote=True)
    assert params is not None
    assert params[0] == ("inline", "")
    assert [name for name, _ in params[1:]] in (["filename"], ["filename", "filename*"], ["filename", "filename"])
    if "filename*" in value:
        assert unquote(value.rpartition("UTF-8''")[2], errors="strict")


HEADER = st.text(st.characters(max_codepoint=255), max_size=40)
ASKED = ["range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since"]


@given(
    st.sampled_from(["GET", "HEAD"]),
    st.dictionaries(
        st.sampled_from(ASKED),
        HEADER
        | st.from_regex(r"bytes=\d{0,25}-\d{0,25}", fullmatch=True)
        | st.from_regex(r"bytes=(\d{0,3}-\d{0,3}[, ]{0,3}){1,12}", fullmatch=True)
        | st.from_regex(r"\w{3}, \d+ \w{3} \d+ \d+:\d+:\d+ [A-Z+\d-]*"),
    ),
    st.integers(0, 2**60),
    st.text(),
    st.text(),
    st.none() | st.text(),
)
def test_nothing_that_is_asked_breaks_it(
    method: str, asked: dict[str, str], size: int, content_type: str, filename: str, etag: str | None
) -> None:
    """Whatever is asked of whatever file, the answer is one that HTTP knows, in clean headers, within the object."""
    answer = ask(method, asked, size=size, content_type=content_type, filename=filename, etag=entity_tag(None, etag))
    assert answer.status in {200, 206, 304, 412, 416}
    assert all(0 <= start < stop <= size for start, stop in sent(answer))
    assert sum(stop - start for start, stop in sent(answer)) <= size
    assert all(re.fullmatch(r"[a-z-]+", name) and re.fullmatch(r"[ -~]+", value) for name, value in answer.headers)
    assert len({name for name, _ in answer.headers}) == len(answer.headers)
    if answer.parts or answer.after:
        length = sum(len(part.before) + part.stop - part.start for part in answer.parts) + len(answer.after)
        assert dict(answer.headers)["content-length"] == str(length)


@pytest.mark.parametrize(
    ("checksum", "etag", "tag"),
    [
        ("sha256:ab", '"store"', '"sha256:ab"'),
        (None, '"store"', '"store"'),
        (None, 'W/"store"', 'W/"store"'),
        (None, "bare", None),
        (None, '"a"b"', None),
        ('x"y', None, None),
        (None, '"a\r\nb"', None),
        (None, None, None),
    ],
)
def test_entity_tag(checksum: str | None, etag: str | None, tag: str | None) -> None:
    """The tag is the checksum, else the store's, and nothing that is not well-formed."""
    assert entity_tag(checksum, etag) == tag
