"""Bodies that are one file."""

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import httpx
import msgspec
import pytest
from litestar import Litestar, Request, post
from litestar.di import NamedDependency, Provide
from litestar.middleware import ASGIMiddleware
from litestar.params import RawBody
from litestar.testing import TestClient
from litestar.types import ASGIApp, Receive, Scope, Send

from lading.backends.obstore import ObstoreBackend
from lading.errors import ConfigurationError
from lading.litestar import LadingConfig, LadingPlugin
from tests.services.web import KINDS, Kind, live
from tests.uploading import MB, MOST, SECRET, App, Bare, Connection, File, chunked, eventually, head, registry

PDF = b"%PDF-1.7 and so on"
MIB = 2**20


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[ObstoreBackend]:
    registry.clear_backends()
    backend = ObstoreBackend("store", (tmp_path / "store").as_uri())
    registry.register_backend(backend)
    yield backend
    registry.clear_backends()


@post("/optional")
async def optional(data: Annotated[File | None, Bare]) -> str:
    return "none" if data is None else data.filename


@pytest.fixture
def app(backend: ObstoreBackend, tmp_path: Path) -> App:
    return App(tmp_path, route_handlers=[optional])


@pytest.fixture
def client(app: App) -> Iterator[TestClient[Litestar]]:
    with TestClient(app.asgi, raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sized", [True, False], ids=["length", "chunked"])
def test_curl(app: App, tmp_path: Path, kind: Kind, sized: bool) -> None:
    """What `curl -T` sends of a file, or of a pipe, is stored as it is."""
    file = tmp_path / "film.bin"
    file.write_bytes(bytes(range(256)) * 30_000)
    with live(app.asgi, kind) as port, file.open("rb") as opened:
        url = f"http://127.0.0.1:{port}/documents/7/file?filename=film.bin"
        command = ["curl", "-sS", "--fail", "-T", str(file) if sized else "-", url]
        try:
            answer = subprocess.run(command, stdin=opened, capture_output=True, check=True)
        except FileNotFoundError:
            pytest.skip("curl is not installed: make services")
    record = msgspec.json.decode(answer.stdout)
    assert (record["filename"], record["size"]) == ("film.bin", 256 * 30_000)
    (row,) = app.rows()
    assert (row.id, row.file.get_content(), app.left()) == (7, file.read_bytes(), [])
    row.file.verify()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sized", [True, False], ids=["length", "chunked"])
def test_too_large(app: App, kind: Kind, sized: bool) -> None:
    """A body beyond the column's limit is refused by its length, or cut, and leaves nothing."""
    with live(app.asgi, kind) as port, Connection(port) as connection:
        pieces = [bytes(MIB)] * 13
        content = pieces if sized else chunked(pieces)
        top = head("/documents/7/file", 13 * MIB if sized else None, method="PUT", content_type="a/b")
        with suppress(ConnectionError):  # granian does not read on
            connection.send(top, *content)
        status, said = connection.answer()
        assert app.left() == []
    problem = msgspec.json.decode(said)
    assert (status, problem["limit"]) == (413, MOST)
    assert problem["actual"] == 13 * MIB if sized else MOST < problem["actual"] < MOST + 2 * MIB


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_that_vanishes(app: App, kind: Kind) -> None:
    """A body that breaks off is no file, with a Content-Length and without."""
    with live(app.asgi, kind) as port:
        for length, content in (
            (8 * MB, [bytes(6 * MB)]),
            (None, chunked([bytes(6 * MB)], end=False)),
            (100, [b"x"]),
            (None, chunked([b"x"], end=False)),
        ):
            with Connection(port) as connection:
                connection.send(head("/documents/7/file", length, method="PUT", content_type="a/b"), *content)
            eventually(lambda: app.left() == [])
    assert (app.calls, app.rows(), app.left()) == (0, [], [])


@pytest.mark.parametrize("kind", KINDS)
def test_a_length_that_is_not_true(app: App, kind: Kind) -> None:
    """What comes behind a body's length is none of it; a server may take offence, and tell the client first."""
    with live(app.asgi, kind) as port, Connection(port) as connection:
        connection.send(head("/documents/7/file", 5, method="PUT", content_type="a/b"), b"12345678\r\n\r\n")
        assert connection.answer()[0] in (200, 400)
    assert {row.file.get_content() for row in app.rows()} <= {b"12345"}
    assert app.left() == []


NAMES = {
    "nothing": ("", None, "upload"),
    "a query": ("?filename=" + quote("ä b.pdf"), None, "ä b.pdf"),
    "a token": ("", "attachment; filename=a.pdf", "a.pdf"),
    "a quoted string": ("", r'attachment; filename="a \"b\" c.pdf"', 'a "b" c.pdf'),
    "both": ("?filename=q.pdf", "attachment; filename=\"a.pdf\"; filename*=UTF-8''%e2%82%ac.pdf", "€.pdf"),
    "ISO-8859-1": ("", "attachment; filename*=iso-8859-1'de'%E4.pdf", "ä.pdf"),
    "UTF-8 as it is": ("", 'attachment; filename="ä.pdf"'.encode(), "ä.pdf"),
    "traversal": ("", 'attachment; filename="../../etc/passwd"', "passwd"),
    "encoded traversal": ("", "attachment; filename*=UTF-8''..%2F..%2Fetc%2Fpasswd%0d%0a", "passwd"),
    "another parameter": ("", 'attachment; xfilename="x"; filename="a.pdf"', "a.pdf"),
    "inline": ("?filename=q.pdf", "inline", "q.pdf"),
    "an empty one": ("?filename=", 'attachment; filename=""', "unnamed"),
}


@pytest.mark.parametrize("case", NAMES)
def test_names(client: TestClient[Litestar], case: str) -> None:
    """The name is that of Content-Disposition, or of the query, and made fit to be shown."""
    query, disposition, name = NAMES[case]
    headers: dict[str, Any] = {} if disposition is None else {"content-disposition": disposition}
    answer = client.put(f"/documents/7/file{query}", content=PDF, headers=headers)
    assert (answer.status_code, answer.json()["filename"]) == (200, name)
    assert answer.json()["path"].isascii()


def test_two_names(app: App) -> None:
    """Two Content-Dispositions are one too many."""
    headers = [("content-disposition", "attachment; filename=a"), ("content-disposition", "attachment; filename=b")]
    with live(app.asgi) as port:
        answer = httpx.put(f"http://127.0.0.1:{port}/documents/7/file", content=PDF, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:lading:problem:malformed-body")
    assert app.left() == []


@pytest.mark.parametrize(
    "said", ["application/octet-stream", "image/png", "application/x-www-form-urlencoded", "application/json", None]
)
def test_the_type_is_a_claim(client: TestClient[Litestar], said: str | None) -> None:
    """The bytes decide what it is, whatever Content-Type says, or where it says nothing."""
    headers = {} if said is None else {"content-type": said}
    answer = client.put("/documents/7/file", content=PDF, headers=headers)
    assert (answer.status_code, answer.json()["content_type"]) == (200, "application/pdf")


def test_a_form_is_no_file(client: TestClient[Litestar], app: App) -> None:
    """A form where a file is expected is refused, and its parts are not taken for one."""
    answer = client.put("/documents/7/file", files={"file": ("a.pdf", PDF)})
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:lading:problem:malformed-body")
    assert app.left() == []


def test_no_bytes(client: TestClient[Litestar]) -> None:
    """A body without a byte is an empty file; where a file may be left out, it is none."""
    answer = client.put("/documents/7/file", content=b"")
    assert (answer.status_code, answer.json()["size"]) == (200, 0)
    assert client.post("/optional", content=b"").text == "none"
    assert client.post("/optional?filename=a", content=b"x").text == "a"


def test_what_no_row_takes_is_removed(client: TestClient[Litestar], app: App) -> None:
    """A handler that forgets its file leaves nothing of it."""
    assert client.post("/optional?filename=a", content=b"x").status_code == 201
    assert app.left() == []


def test_a_replaced_file(client: TestClient[Litestar], app: App) -> None:
    """The file that the row had before is deleted by the commit, and the new one is the row's."""
    for content in (b"old", b"new"):
        assert client.put("/documents/7/file", content=content).status_code == 200
    (row,) = app.rows()
    assert (row.file.get_content(), app.left()) == (b"new", [])


def test_wrong_lengths(app: App) -> None:
    """A Content-Length that is no number never reaches the handler."""
    with live(app.asgi) as port:
        for wrong in ("-1", "1e3", "0x10"):
            with Connection(port) as connection:
                request = head("/documents/7/file", 10, method="PUT").replace(
                    b"Length: 10", f"Length: {wrong}".encode()
                )
                connection.send(request, b"0123456789")
                assert connection.answer()[0] in (0, 400)
    assert (app.calls, app.left()) == (0, [])


def test_a_part_of_a_file(client: TestClient[Litestar], app: App) -> None:
    """The part of a file is refused, since it would be taken for all of it."""
    answer = client.put("/documents/7/file", content=b"tail", headers={"content-range": "bytes 100-103/104"})
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:lading:problem:malformed-body")
    assert (app.calls, app.left()) == (0, [])


@pytest.mark.parametrize("kind", KINDS)
def test_a_refusal_without_the_body(app: App, kind: Kind) -> None:
    """A client that waits to be asked for the body is not asked for one that is refused already."""
    with live(app.asgi, kind) as port, Connection(port) as connection:
        more = {"Expect": "100-continue", "Content_Range": "bytes 0-9/10"}
        connection.send(head("/documents/7/file", 10, method="PUT", content_type="a/b", **more))
        assert connection.answer()[0] == 400


def test_a_body_that_was_read_before(backend: ObstoreBackend, tmp_path: Path) -> None:
    """Behind a middleware that has read the body, as Litestar's own for logging does, file and rules are the same."""

    class Reading(ASGIMiddleware):
        async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
            request = Request[Any, Any, Any](scope, receive=receive)
            await (request.json() if request.content_type[0] == "application/json" else request.body())
            await next_app(scope, receive, send)

    app = App(tmp_path, middleware=[Reading()])
    with TestClient(app.asgi) as client:
        for kind in ("application/octet-stream", "application/json", "text/plain"):
            answer = client.put("/documents/7/file", content=b'{"a": 1}', headers={"content-type": kind})
            assert (answer.status_code, answer.json()["size"]) == (200, 8)
        assert client.put("/documents/7/file", content=bytes(9 * MB)).status_code == 200
        assert client.put("/documents/7/file", content=bytes(MOST + 1)).status_code == 413
    assert (app.rows()[0].file.size, app.left()) == (9 * MB, [])


def test_a_handler_that_wants_the_body(backend: ObstoreBackend) -> None:
    """A handler, or a dependency, that asks for the bytes besides is refused when the application is made."""

    @post("/")
    async def wants(data: Annotated[File, Bare], body: RawBody) -> None: ...

    @post("/")
    async def depends(data: Annotated[File, Bare], other: NamedDependency[bytes]) -> None: ...

    async def other(body: RawBody) -> bytes:
        return body

    for handler in (wants, depends):
        with pytest.raises(ConfigurationError, match="body"):
            Litestar(
                [handler],
                dependencies={"other": Provide(other)} if handler is depends else {},
                plugins=[LadingPlugin(LadingConfig(SECRET, storages=registry))],
            )


def test_a_coding_that_is_taken_off(client: TestClient[Litestar]) -> None:
    """Where a coding is said the length is that of what is sent, which may not be that of what comes here."""
    headers = {"content-encoding": "gzip", "content-length": "3"}
    answer = client.put("/documents/7/file", content=iter([b"four"]), headers=headers)
    assert (answer.status_code, answer.json()["size"]) == (200, 4)
