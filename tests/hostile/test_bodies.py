"""Bodies that are not what they say, or too much: each is refused by what is wrong with it, and leaves nothing."""

import time
import tracemalloc
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any

import httpx
import pytest
from litestar import Litestar

from lading.receiving import Pace, RequestBody
from tests.hostile.app import MOST
from tests.hostile.house import House, refusal
from tests.hostile.wire import BOUNDARY, FORM, Answer, Part, connect, exchange, form, receive, request, text, upload
from tests.services.web import Kind

ANN = {"x-user": "ann"}
LINE = f"--{BOUNDARY}\r\n".encode()
END = f"--{BOUNDARY}--\r\n".encode()
GOOD = form(text("name", "a"), upload("file", "a.txt", b"some text"), upload("pages", "b.txt", b"more"))


async def post(
    client: httpx.AsyncClient, content: bytes | AsyncIterable[bytes], content_type: str = FORM
) -> httpx.Response:
    return await client.post("/documents", content=content, headers={"content-type": content_type})


async def test_cut_anywhere(house: House) -> None:
    """A form that is cut at any place is refused, and none of its files is left."""
    ends = GOOD.index(END) + len(END) - 2
    async with house.client() as client:
        for end in range(1, len(GOOD) + 1):
            answer = await post(client, GOOD[:end])
            if end >= ends:
                assert answer.status_code == 201
            else:
                refusal(answer, 400, "malformed-body")
        for end in range(1, ends, 7):

            async def pieces(end: int = end) -> AsyncIterator[bytes]:
                for at in range(0, end, 11):
                    yield GOOD[at : min(at + 11, end)]

            refusal(await post(client, pieces()), 400, "malformed-body")
    assert len(house.files()) == 2 * 3


@pytest.mark.parametrize("house", ["memory"], indirect=True)
@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        "multipart/form-data; boundary=another",
        f"multipart/form-data; boundary={'a' * 71}",
        f"multipart/form-data; boundary={'a' * 60_000}",
        'multipart/form-data; boundary="a\\"b"',
        'multipart/form-data; boundary="a b "',
        "multipart/form-data; boundary=ä",
        f"multipart/form-data; boundary*=utf-8''{BOUNDARY}",
        f"multipart/form-data; charset=utf-7; boundary={BOUNDARY}x",
        f"multipart/form-data;boundary ={BOUNDARY}x",
        ";" * 1000,
    ],
)
async def test_boundaries(house: House, content_type: str) -> None:
    """A form without a boundary, or with another one, is refused."""
    async with house.client() as client:
        answer = await client.post("/documents", content=GOOD, headers=[(b"content-type", content_type.encode())])
        assert 400 <= answer.status_code < 500, answer.text
        if content_type.startswith("multipart"):
            refusal(answer, 400, "malformed-body")
    assert house.files() == []


@pytest.mark.parametrize("house", ["memory"], indirect=True)
@pytest.mark.parametrize(
    "content_type",
    ["application/json", "text/plain", "application/x-www-form-urlencoded", "multipart/mixed; boundary=b"],
)
async def test_forms_that_are_something_else(house: House, content_type: str) -> None:
    """A form that says that it is something else is refused."""
    async with house.client() as client:
        answer = await post(client, GOOD, content_type)
        assert 400 <= answer.status_code < 500, answer.text
    assert house.files() == []


class Flood:
    """A body without an end, which counts what is taken of it."""

    def __init__(self, begin: bytes, again: bytes, most: int = 64 * 2**20) -> None:
        self.taken = 0
        self._begin = begin
        self._again = again * (2**16 // len(again) + 1)
        self._most = most

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._begin
        while self.taken < self._most:
            self.taken += len(self._again)
            yield self._again


HEAD = b'Content-Disposition: form-data; name="'
FLOODS = {
    "a million tiny parts": (b"", LINE + HEAD + b'a"\r\n\r\n\r\n', "too-large"),
    "a million empty files": (b"", LINE + HEAD + b'pages"; filename=""\r\n\r\n\r\n', "too-large"),
    "a million files": (b"", LINE + HEAD + b'pages"; filename="a"\r\n\r\na\r\n', "too-large"),
    "a header without an end": (LINE + HEAD, b"a", "too-large"),
    "headers without an end": (LINE, b"X-A: b\r\n", "too-large"),
    "text without an end": (LINE + HEAD + b'name"\r\n\r\n', b"a", "too-large"),
    "a field of no model without an end": (LINE + HEAD + b'other"\r\n\r\n', b"a", "too-large"),
    "much text in many fields": (b"", LINE + HEAD + b'name"\r\n\r\n' + b"a" * 60_000 + b"\r\n", "too-large"),
    "a file without an end": (LINE + HEAD + b'file"; filename="a"\r\n\r\n', b"a", "too-large"),
    "a file of no field without an end": (LINE + HEAD + b'other"; filename="a"\r\n\r\n', b"a", "too-large"),
    "something before the parts": (b"", b"a", "malformed-body"),
    "line breaks before the parts": (b"", b"\r\n", "malformed-body"),
    "something behind the parts": (GOOD, b"a", "malformed-body"),
    "delimiters that are none": (LINE + HEAD + b'file"; filename="a"\r\n\r\n', b"\r\n--aBoundar", "too-large"),
    "carriage returns": (LINE + HEAD + b'file"; filename="a"\r\n\r\n', b"\r", "too-large"),
}


@pytest.mark.parametrize("house", ["local"], indirect=True)
@pytest.mark.parametrize("kind", FLOODS)
async def test_floods(house: House, kind: str) -> None:
    """A body without an end is refused soon, without being read on."""
    begin, again, problem = FLOODS[kind]
    flood = Flood(begin, again)
    async with house.client() as client:
        begun = time.process_time()
        refusal(await post(client, flood), 413 if problem == "too-large" else 400, problem)
        assert time.process_time() - begun < 2
    assert flood.taken <= 12 * 2**20
    assert house.objects() == set()


ODD: dict[str, Iterable[Part]] = {
    "no header": [(b"", b"a")],
    "no disposition": [(b"Content-Type: text/plain", b"a")],
    "another disposition": [(b'Content-Disposition: attachment; filename="a"', b"a")],
    "no name": [(b"Content-Disposition: form-data", b"a")],
    "two dispositions": [(HEAD + b'file"; filename="a"\r\nContent-Disposition: form-data; name="name"', b"a")],
    "two dispositions, the second in lower case": [
        (HEAD + b'name"\r\ncontent-disposition: form-data; name="file"; filename="a.html"', b"a")
    ],
    "two files for one": [upload("file", "a", b"a"), upload("file", "b", b"b")],
    "a text for a file": [text("file", "a")],
    "a record for a file": [text("file", '{"backend": "store", "path": "a", "filename": "a"}')],
    "a file for a text": [upload("name", "a", b"a"), upload("file", "a", b"a")],
    "a header without a colon": [(HEAD + b'file"; filename="a"\r\nabc', b"a")],
    "a nul in a header": [(HEAD + b'file"; filename="a"\r\nX\0Y: a', b"a")],
    "a text in no charset": [(HEAD + b'name"\r\nContent-Type: text/plain; charset=nonsense', b"a")],
    "a text in a codec": [(HEAD + b'name"\r\nContent-Type: text/plain; charset=zlib_codec', b"a")],
    "a text in utf-7": [(HEAD + b'name"\r\nContent-Type: text/plain; charset=utf-7', b"+ADw-")],
    "a length that is another": [(HEAD + b'file"; filename="a"\r\nContent-Length: 5', b"a")],
    "a text that is no utf-8": [(HEAD + b'name"', b"\xff\xfe"), upload("file", "a", b"a")],
    "ten thousand fields of one name": [text("name", "a")] * 10_000,
    "ten thousand files": [upload("pages", "a", b"")] * 10_000,
}


NAMED = {
    "no name": None,
    "a file for a text": None,
    "a text for a file": "invalid-token",
    "a record for a file": "invalid-token",
    "ten thousand fields of one name": "too-large",
    "ten thousand files": "too-large",
}
"""What is refused otherwise than as malformed."""


@pytest.mark.parametrize("house", ["memory"], indirect=True)
@pytest.mark.parametrize("kind", ODD)
async def test_odd_parts(house: House, kind: str) -> None:
    """Parts that are odd are refused, whatever comes before them."""
    name = NAMED.get(kind, "malformed-body")
    async with house.client() as client:
        for before in ([], [text("name", "a"), upload("pages", "a.txt", b"a")]):
            answer = await post(client, form(*before, *ODD[kind]))
            if name is None:
                assert answer.status_code == 400, answer.text  # by Litestar, which misses a field
            else:
                refusal(answer, {"malformed-body": 400, "invalid-token": 403, "too-large": 413}[name], name)
    assert house.files() == []


@pytest.mark.parametrize("house", ["memory"], indirect=True)
async def test_nested_forms(house: House) -> None:
    """A form within a form is a file like any other, and what it holds is no field."""
    inner = form(text("name", "inner"), upload("file", "inner.html", b"<script>"), boundary="inner")
    for content_type in ("multipart/form-data; boundary=inner", "multipart/mixed; boundary=inner", FORM):
        async with house.client() as client:
            answer = await post(client, form(text("name", "a"), upload("file", "a", inner, content_type)))
            assert answer.status_code == 201, answer.text
            url = answer.json()["url"]
            served = await client.get(url)
            assert served.content == inner
            assert served.headers["content-type"] == "text/plain; charset=utf-8"
    assert {file.filename for file in house.files()} == {"a"}


@pytest.mark.parametrize("house", ["memory"], indirect=True)
async def test_encodings(house: House) -> None:
    """What says that it is encoded is stored as it came."""
    async with house.client() as client:
        for head in (b"Content-Transfer-Encoding: base64", b"Content-Encoding: gzip"):
            part = (HEAD + b'file"; filename="a.txt"\r\n' + head, b"PHNjcmlwdD4=")
            answer = await post(client, form(text("name", "a"), part))
            assert answer.status_code == 201, answer.text
            served = await client.get(answer.json()["url"])
            assert served.content == b"PHNjcmlwdD4="
            assert "content-encoding" not in served.headers


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[" * 100_000,
        b'{"name":' * 100_000,
        b'{"name": "a", "file": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"name": "a"}',
        b'{"name": "a", "file": null}',
        b'{"name": "a", "file": 1e999}',
        b'{"name": "a", "file": ["a"]}',
        b'{"name": "a", "file": ""}',
        b'{"name": "a", "file": "\\ud800"}',
        b'{"name": "\\ud800", "file": "a"}',
        b'{"name": "a", "file": "a.b"}',
        b'{"name": "a", "file": "' + b"a" * 1_000_000 + b'"}',
        b'{"name": "a", "file": {"backend": "store", "path": "a", "filename": "a", "size": 1}}',
        b'{"name": "a", "file": {"backend": "store", "path": "../../etc/passwd", "filename": "a"}}',
        b'{"name": "a", "file": "a", "pages": {"0": "a"}}',
        b"\xff\xfe{",
        b"\x00" * 1000,
    ],
    ids=lambda body: body[:40].decode("latin-1"),
)
@pytest.mark.parametrize("house", ["memory"], indirect=True)
async def test_json(house: House, body: bytes) -> None:
    """JSON that names no upload of ours is refused."""
    async with house.client() as client:
        for path in ("/documents/attached", "/pictures/attached", "/files/uploads"):
            for media_type in ("application/json", "application/vnd.msgpack", FORM):
                headers = {"content-type": media_type, **ANN}
                answer = await client.post(path, content=body, headers=headers)
                assert 400 <= answer.status_code < 500, (path, answer.text)
    assert house.files() == []


@pytest.mark.parametrize("path", ["/documents", "/documents/1/file"])
async def test_too_large(house: House, path: str) -> None:
    """A file that is too large is refused, whether its length is said or found out, and nothing is left of it."""
    content = b"a" * (MOST + 1)
    body = form(text("name", "a"), upload("pages", "a", b"a"), upload("file", "a", content))
    async with house.client() as client:
        await post(client, GOOD)
        before = house.objects()
        for way in ("said", "found out"):

            async def pieces() -> AsyncIterator[bytes]:
                data = body if path == "/documents" else content
                for at in range(0, len(data), 10_000):
                    yield data[at : at + 10_000]

            sent = pieces() if way == "found out" else b"".join([piece async for piece in pieces()])
            method = "POST" if path == "/documents" else "PUT"
            answer = await client.request(
                method, path, content=sent, headers={"content-type": FORM if method == "POST" else "text/plain"}
            )
            refusal(answer, 413, "too-large")
            assert answer.json()["limit"] == MOST
        assert house.objects() == before


@pytest.mark.parametrize("house", ["local"], indirect=True)
@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_lengths_on_the_wire(house: House, http: Kind) -> None:
    """A body that is shorter or longer than its Content-Length stores nothing, nor does one that says two things."""
    headers = [("content-type", FORM)]

    def said(*lines: str) -> bytes:
        return request("POST", "/documents", [*headers, *(_split(line) for line in lines)], GOOD, length=False)

    with house.server(http=http) as port:
        for wrong in (0, 1, len(GOOD) // 2, len(GOOD) - len(END)):
            answer = exchange(port, said(f"content-length: {wrong}"))
            assert answer.status == 400, (wrong, answer)
        for wrong in (len(GOOD) + 1, 10**6, 10**12):
            assert exchange(port, said(f"content-length: {wrong}"), end=True).status in (0, 400, 413)
        for lines in (
            ["content-length: -1"],
            ["content-length: +9"],
            ["content-length: 0x10"],
            ["content-length: 1e3"],
            ["content-length: " + "9" * 30],
            ["content-length: 1", f"content-length: {len(GOOD)}"],
            ["content-length: 1, 2"],
            ["transfer-encoding: xchunked"],
            ["transfer-encoding: identity"],
            ["transfer-encoding: chunked, identity"],
            ["transfer-encoding: chunked", "transfer-encoding: chunked"],
            ["transfer-encoding: chunked", "content-length: 5"],
            ["transfer-encoding:\tchunked"],
            [f"content-length: {len(GOOD) // 2}", "transfer-encoding: chunked"],
        ):
            assert exchange(port, said(*lines), end=True).status in (0, 400, 411, 413, 501), lines
    assert house.files() == []


def _split(line: str) -> tuple[str, str]:
    name, _, value = line.partition(": ")
    return (name, value) if value else (line.partition(":")[0], line.partition(":")[2])


@pytest.mark.parametrize("house", ["local"], indirect=True)
@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_chunks_on_the_wire(house: House, http: Kind) -> None:
    """Chunked bodies that are not well-formed, or stop, store nothing."""
    head = request("POST", "/documents", [("content-type", FORM), ("transfer-encoding", "chunked")], length=False)
    size = f"{len(GOOD):x}".encode()
    whole = size + b"\r\n" + GOOD + b"\r\n"
    with house.server(http=http) as port:
        for body in (
            b"",
            b"zz\r\n",
            b"-1\r\n",
            b"f" * 20 + b"\r\n",
            whole,
            whole[:-20],
            size + b"\r\n" + GOOD + b"garbage\r\n0\r\n\r\n",
            size + b";" + b"a" * 100_000 + b"\r\n",
            b"0\r\n" + b"a: b\r\n" * 100_000 + b"\r\n",
            b"1\r\n-\r\n" * 10,
        ):
            assert exchange(port, head + body, end=True).status in (0, 400, 413, 431), body[:40]
        assert house.files() == []
        assert exchange(port, head + whole + b"0\r\n\r\n").status == 201
    assert len(house.files()) == 2


@pytest.mark.parametrize("house", ["local"], indirect=True)
def test_more_after_the_body(house: House) -> None:
    """What comes after a body is no part of it, and stores nothing."""
    first = request("POST", "/documents", [("content-type", FORM)], GOOD).replace(b"connection: close", b"x-a: b")
    with house.server() as port:
        for more in (b"garbage\r\n\r\n", b"--aBoundary--\r\n", b"\0" * 100_000):
            assert exchange(port, first + more).status in (0, 201, 400)
            with connect(port) as client:
                client.sendall(first)
                assert receive(client).status == 201
                client.sendall(more)
        time.sleep(0.2)
    assert {file.filename for file in house.files()} == {"a.txt", "b.txt"}


@pytest.mark.parametrize("house", ["local"], indirect=True)
@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_slow_bodies(house: House, http: Kind) -> None:
    """A body that drips is refused, at every door, before long."""
    with house.server(http=http, pace=Pace(timeout=0.5, rate=1000)) as port:
        assert exchange(port, request("POST", "/documents", [("content-type", FORM)], GOOD)).status == 201
        before = house.objects()
        asked = b'{"filename": "a.txt", "size": 1000, "policy": "document.file"}'
        ticket = exchange(port, request("POST", "/files/uploads", [("x-user", "ann")], asked)).json()
        body = form(text("name", "a"), upload("pages", "a", b"a" * 10), upload("file", "a", b"a" * 1000))
        slow = [
            (request("POST", "/documents", [("content-type", FORM)], body), len(body)),
            (request("PUT", "/documents/1/file", [], b"a" * 1000), 1000),
            (request("PUT", ticket["url"], ticket["headers"].items(), b"a" * 1000), 1000),
        ]
        clients = []
        for data, length in slow:
            client = connect(port)
            client.sendall(data[:-length])
            clients.append((client, data[-length:]))
        begun = time.monotonic()
        for at in range(40):
            time.sleep(0.05)
            for client, rest in clients:
                try:
                    client.sendall(rest[at : at + 1])
                except OSError:
                    pass
        for client, _ in clients:
            with client:
                refusal(receive(client), 408, "slow-body")
        assert time.monotonic() - begun < 10
        assert house.objects() == before


async def test_lengths_that_no_server_has_checked(house: House) -> None:
    """A body that is shorter or longer than its Content-Length is refused also where the server passes it on."""
    async with house.client() as client:
        await post(client, GOOD)
        before = house.objects()
        asked = {"filename": "a.txt", "size": 100, "policy": "document.file"}
        ticket = (await client.post("/files/uploads", json=asked, headers=ANN)).json()
        for said in (99, 101):
            length = {"content-length": str(said)}
            answer = await client.put("/documents/1/file", content=b"a" * 100, headers=length)
            refusal(answer, 400, "malformed-body")
            answer = await client.put(ticket["url"], content=b"a" * 100, headers={**ticket["headers"], **length})
            refusal(answer, 413 if said > 100 else 422)
            answer = await client.put("/documents/1/file", content=b"a" * 100, headers={"content-type": FORM})
            refusal(answer, 400, "malformed-body")
        for said in (len(GOOD) - 1, len(GOOD) + 1):
            headers = {"content-type": FORM, "content-length": str(said)}
            refusal(await client.post("/documents", content=GOOD, headers=headers), 400, "malformed-body")
        for wrong in ("-1", "+5", "1e3", "0x5", "", " ", "\u00b2", "9" * 30):
            for path in ("/documents/1/file", ticket["url"]):
                lies = [(b"content-length", wrong.encode("latin-1"))]
                answer = await client.put(path, content=b"a" * 100, headers=lies)
                refusal(answer, answer.status_code)
                assert answer.status_code in (400, 413, 422), (wrong, answer.text)
        assert house.objects() == before


async def test_bodies_in_tiny_pieces() -> None:
    """A body that comes two bytes at a time, as granian hands on chunks of two bytes, takes no more memory for that."""
    pieces = 2**17

    def events() -> Iterator[dict[str, Any]]:
        for left in range(pieces, 0, -1):
            yield {"type": "http.request", "body": bytes([left % 256]) * 2, "more_body": left > 1}

    coming = events()

    async def receive_next() -> dict[str, Any]:
        return next(coming)

    tracemalloc.start()
    try:
        body = RequestBody(receive_next)
        assert sum([len(chunk) async for chunk in body]) == 2 * pieces
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * 2**20


@pytest.mark.parametrize("door", ["form", "raw", "put", "ask"])
async def test_clients_that_are_half_closed(house: House, door: str) -> None:
    """A client that says no more, and can still listen, is told so with 400; nothing of its request is left."""
    app = house.app()
    async with house.client(app) as client:
        await post(client, GOOD)
        before = house.objects()
        asked = {"filename": "a.txt", "size": len(GOOD), "policy": "document.file"}
        ticket = (await client.post("/files/uploads", json=asked, headers=ANN)).json()
        method, path, headers = {
            "form": ("POST", "/documents", {"content-type": FORM}),
            "raw": ("PUT", "/documents/1/file", {}),
            "put": ("PUT", ticket["url"], ticket["headers"]),
            "ask": ("POST", "/files/uploads", ANN),
        }[door]
        for size in (0, 1, 100, len(GOOD) - 1):
            refusal(await _half_closed(app, method, path, headers, GOOD[:size]), 400, "client-gone")
        assert house.objects() == before


async def _half_closed(app: Litestar, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
    """What is answered to a request of which some of the body comes, and then nobody."""
    events = iter([{"type": "http.request", "body": body, "more_body": True}])
    sent: list[Any] = []

    async def receive_next() -> Any:
        return next(events, {"type": "http.disconnect"})

    async def send(event: Any) -> None:
        sent.append(event)

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope: Any = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": raw,
        "client": ("test", 1),
        "server": ("test", 80),
    }
    await app(scope, receive_next, send)
    head = [(name.decode(), value.decode()) for name, value in sent[0]["headers"]]
    return Answer(sent[0]["status"], head, b"".join(event.get("body", b"") for event in sent[1:]))
