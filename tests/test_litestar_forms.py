"""Forms whose files go to the store as they arrive."""

import asyncio
import logging
import os
import random
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import httpx
import msgspec
import pytest
from advanced_alchemy.extensions.litestar import SQLAlchemyAsyncConfig, SQLAlchemyPlugin
from litestar import Litestar, Request, post
from litestar.datastructures import UploadFile
from litestar.di import NamedDependency, Provide
from litestar.exceptions import HTTPException, InternalServerException
from litestar.middleware import ASGIMiddleware
from litestar.params import Body
from litestar.testing import TestClient
from litestar.types import ASGIApp, Receive, Scope, Send
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from lading import FileObject, Storages
from lading.backends.obstore import ObstoreBackend
from lading.errors import StoreError
from lading.file import claim, claim_of
from lading.litestar import LadingConfig, LadingPlugin
from lading.litestar.forms import FILES
from lading.litestar.staged import Staged, removing
from lading.receiving import Admission, Pace
from lading.testing import Fault, FaultyBackend
from tests.services.moto import S3
from tests.services.web import KINDS, Kind, live
from tests.uploading import (
    BOUNDARY,
    MB,
    MOST,
    MOST_OF_A_PAGE,
    SECRET,
    App,
    Base,
    Connection,
    Document,
    File,
    Form,
    New,
    chunked,
    eventually,
    form,
    head,
    registry,
)

MIB = 2**20
MULTIPART = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
TITLE = ("title", None, b"a title")
NOISE = random.Random(1).randbytes(6 * MIB + 1)


@pytest.fixture(params=["memory", "local", "s3"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObstoreBackend]:
    if request.param == "s3":
        s3: S3 = request.getfixturevalue("s3")
        backend = ObstoreBackend(
            "store",
            f"s3://{s3.make_bucket()}",
            aws_endpoint=s3.endpoint,
            aws_region=s3.region,
            aws_access_key_id=s3.access_key_id,
            aws_secret_access_key=s3.secret_access_key,
        )
    else:
        backend = ObstoreBackend("store", "memory://" if request.param == "memory" else (tmp_path / "store").as_uri())
    yield from registered(backend)


@pytest.fixture
def memory() -> Iterator[ObstoreBackend]:
    yield from registered(ObstoreBackend("store", "memory://"))


@pytest.fixture
def faulty() -> Iterator[FaultyBackend]:
    yield from registered(FaultyBackend(ObstoreBackend("store", "memory://")))


def registered(backend: Any) -> Iterator[Any]:
    registry.clear_backends()
    registry.register_backend(backend)
    yield backend
    registry.clear_backends()


@pytest.fixture
def app(memory: ObstoreBackend, tmp_path: Path) -> App:
    return App(tmp_path)


@pytest.fixture
def client(app: App) -> Iterator[TestClient[Litestar]]:
    with TestClient(app.asgi, raise_server_exceptions=False) as client:
        yield client


def problem(answer: httpx.Response) -> str:
    assert answer.headers["content-type"] == "application/problem+json"
    return str(answer.json()["type"]).removeprefix("urn:lading:problem:")


# on real servers


@pytest.mark.parametrize("kind", KINDS)
def test_an_upload(backend: ObstoreBackend, tmp_path: Path, kind: Kind) -> None:
    """A form's files are stored whole, whatever the server and the store, and the row is committed."""
    app = App(tmp_path)
    page = ("1.txt", b"a page", "text/plain")
    with live(app.asgi, kind) as port:
        answer = httpx.post(
            f"http://127.0.0.1:{port}/documents",
            data={"title": "ünïcode"},
            files=[("file", ("noise.bin", NOISE)), ("pages", page), ("other", ("o", b"spooled")), ("pages", page)],
            timeout=30,
        )
        assert answer.status_code == 201, answer.text
    assert answer.json()["pages"] == ["1.txt", "1.txt"]
    assert answer.json()["other"] == "spooled"
    (row,) = app.rows()
    assert row.title == "ünïcode"
    assert row.file.get_content() == NOISE
    row.file.verify()
    assert [found.get_content() for found in row.pages] == [b"a page"] * 2
    assert all(found.path.startswith("pages/") for found in row.pages)
    assert app.left() == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sized", [True, False], ids=["length", "chunked"])
def test_too_large(backend: ObstoreBackend, tmp_path: Path, kind: Kind, sized: bool) -> None:
    """A part is cut at its limit with 413, the client reads that, and when it does nothing is left."""
    app = App(tmp_path)
    body = form(("pages", "1.txt", b"a page"), ("file", "a.bin", bytes(MOST + 300_000)), TITLE)
    pieces = [body[start : start + MIB] for start in range(0, len(body), MIB)]
    with live(app.asgi, kind) as port, Connection(port) as connection:
        connection.send(head("/documents", len(body) if sized else None))
        connection.send(*(pieces if sized else chunked(pieces)))
        status, said = connection.answer()
        assert app.left() == []
    problem = msgspec.json.decode(said)
    assert (status, problem["type"], problem["limit"]) == (413, "urn:lading:problem:too-large", MOST)
    assert MOST < problem["actual"] < MOST + 2 * MIB
    assert (app.calls, app.rows()) == (0, [])


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_that_vanishes(backend: ObstoreBackend, tmp_path: Path, kind: Kind) -> None:
    """A client that goes away in the middle leaves nothing: no object, no row, no open file."""
    app = App(tmp_path)
    body = form(("pages", "1.txt", b"a page"), TITLE, ("file", "a.bin", NOISE))
    with live(app.asgi, kind) as port:
        before = 0
        for turn, size in enumerate([10, 300, 1000, MIB, 6 * MIB, len(body) - 10]):
            with Connection(port) as connection:
                connection.send(head("/documents", len(body)), body[:size])
            eventually(lambda: app.left() == [])
            if turn == 0:
                before = len(os.listdir("/proc/self/fd"))
        eventually(lambda: len(os.listdir("/proc/self/fd")) <= before + 2)
    assert (app.calls, app.rows(), app.left()) == (0, [], [])


@pytest.mark.parametrize("kind", KINDS)
def test_two_at_once(memory: ObstoreBackend, tmp_path: Path, kind: Kind) -> None:
    """Uploads that come in turns do not get into each other's way."""
    app = App(tmp_path)
    bodies = [form(TITLE, ("file", "a.bin", bytes([number]) * (2 * MIB))) for number in range(2)]
    with live(app.asgi, kind) as port, Connection(port) as one, Connection(port) as other:
        for connection, body in ((one, bodies[0]), (other, bodies[1])):
            connection.send(head("/documents", len(body)))
        for start in range(0, len(bodies[0]), 100_000):
            one.send(bodies[0][start : start + 100_000])
            other.send(bodies[1][start : start + 100_000])
        assert [one.answer()[0], other.answer()[0]] == [201, 201]
    assert sorted(row.file.get_content()[:1] for row in app.rows()) == [b"\0", b"\1"]


@pytest.mark.parametrize("kind", KINDS)
def test_back_pressure(faulty: FaultyBackend, tmp_path: Path, kind: Kind) -> None:
    """A store that takes nothing makes the client wait: what is read of it is a part or two, and no more."""
    faulty.plan = [Fault("put", kind="hang", seconds=4)]
    app = App(tmp_path)
    with live(app.asgi, kind) as port:
        with Connection(port) as connection:
            connection.send(head("/films", 64 * MIB), form(("file", "a.bin", b""), end=False)[:-2])
            sent = connection.accepted([bytes(MIB)] * 63, 2)
            assert faulty.running == 1
        eventually(lambda: faulty.running == 0)
        eventually(lambda: app.left() == [])
    assert 5 * MIB < sent < 32 * MIB, "sockets hold some megabytes, too"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("drip", [True, False])
def test_a_slow_client(memory: ObstoreBackend, tmp_path: Path, kind: Kind, drip: bool) -> None:
    """A body that comes too slowly ends with 408, and nothing is left of it."""
    app = App(tmp_path, config=LadingConfig(SECRET, storages=registry, pace=Pace(timeout=0.5, rate=10_000)))
    with live(app.asgi, kind) as port, Connection(port) as connection:
        connection.send(head("/documents", 100_000), form(TITLE, ("file", "a.txt", b"x"), end=False))
        if drip:
            with suppress(ConnectionError):
                for _ in range(50):
                    connection.send(b"x")
                    time.sleep(0.03)
        status, said = connection.answer()
        assert connection.ends(), "what still comes is no next request"
    assert (status, msgspec.json.decode(said)["type"]) == (408, "urn:lading:problem:slow-body")
    assert app.left() == []


class Small(LadingConfig):
    """Lets one in at a time, and has others wait for hardly any time."""

    def admission(self) -> Admission:
        return Admission(uploads=1, wait=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_too_many(memory: ObstoreBackend, tmp_path: Path, kind: Kind) -> None:
    """Who finds no room is told to come again, 429; when there is room again it comes in."""
    app = App(tmp_path, config=Small(SECRET, storages=registry))
    body = form(TITLE, ("file", "a.txt", b"x" * 200_000))
    with live(app.asgi, kind) as port, Connection(port) as first:

        def post() -> httpx.Response:
            return httpx.post(f"http://127.0.0.1:{port}/documents", content=body, headers=MULTIPART)

        first.send(head("/documents", len(body)), body[:1000])
        time.sleep(0.1)
        assert post().status_code == 201, "who has sent hardly more than a header takes nobody's place"
        first.send(body[1000:150_000])
        eventually(lambda: post().status_code == 429)
        refused = post()
        assert (refused.status_code, refused.json()["limit"]) == (429, 1)
        assert int(refused.headers["retry-after"]) > 0
        first.send(body[150_000:])
        assert first.answer()[0] == 201
        assert post().status_code == 201


@pytest.mark.parametrize("kind", KINDS)
def test_guards_come_first(memory: ObstoreBackend, tmp_path: Path, kind: Kind) -> None:
    """A guard that refuses does so before a byte is asked for."""
    app = App(tmp_path)
    with live(app.asgi, kind) as port, Connection(port) as connection:
        connection.send(head("/guarded", 1000, Expect="100-continue"))
        assert connection.answer()[0] == 401
    assert app.left() == []


# what a request leaves behind


@pytest.mark.parametrize("path", ["fails", "rolls-back", "forgets"])
def test_what_no_row_takes_is_removed(app: App, client: TestClient[Litestar], path: str) -> None:
    """A handler that raises, rolls back or forgets its files leaves none of them."""
    body = form(TITLE, ("file", "a.txt", b"x"), ("pages", "1.txt", b"a"), ("pages", "2.txt", b"b"))
    answer = client.post(f"/{path}", content=body, headers=MULTIPART)
    assert answer.status_code == (500 if path == "fails" else 201)
    assert (app.calls, app.left()) == (1, [])


def test_a_later_part_that_fails(app: App, client: TestClient[Litestar]) -> None:
    """What was stored before is removed, and the handler does not run."""
    for wrong, status in (
        (("pages", "2.txt", b"x" * (MOST_OF_A_PAGE + 1)), 413),
        (("pages", "2.txt", b"\x89PNG\r\n\x1a\n"), 415),
        (("file", "b.txt", b"x"), 400),
    ):
        body = form(TITLE, ("file", "a.txt", b"x"), ("pages", "1.txt", b"a"), wrong)
        assert client.post("/documents", content=body, headers=MULTIPART).status_code == status
        assert (app.calls, app.left()) == (0, [])


def test_it_is_removed_before_the_answer(faulty: FaultyBackend, tmp_path: Path) -> None:
    """A client that has been refused can rely on it: by then nothing is left, however slow the store is."""
    faulty.plan = [Fault("delete", kind="delay", seconds=0.5)]
    app = App(tmp_path)
    body = form(TITLE, ("pages", "1.txt", b"a"), ("pages", "2.png", b"\x89PNG\r\n\x1a\n"))
    with live(app.asgi) as port, Connection(port) as connection:
        connection.send(head("/documents", len(body)), body)
        assert connection.answer()[0] == 415
        assert app.left() == []


def test_a_model_that_is_not_valid(app: App, client: TestClient[Litestar]) -> None:
    """So it is where the rest of the form is not what the handler asks for."""
    answer = client.post("/documents", content=form(("file", "a.txt", b"x")), headers=MULTIPART)
    assert (answer.status_code, app.calls, app.left()) == (400, 0, [])


def test_a_commit_whose_answer_is_lost(
    app: App, client: TestClient[Litestar], caplog: pytest.LogCaptureFixture
) -> None:
    """Where nobody knows whether the row is there, its objects stay."""
    dialect: Any = app.engine.dialect
    really = dialect.do_commit

    def commit(connection: Any) -> None:
        really(connection)
        raise ConnectionError("the answer is lost")

    dialect.do_commit = commit
    body = form(TITLE, ("file", "a.txt", b"x"), ("pages", "1.txt", b"a"))
    assert client.post("/documents", content=body, headers=MULTIPART).status_code == 500
    dialect.do_commit = really
    (row,) = app.rows()
    assert (row.file.get_content(), row.pages[0].get_content()) == (b"x", b"a")
    assert [record for record in caplog.records if record.name == "lading"] == [], "nothing tried to delete them"


@pytest.mark.parametrize("succeeds", [True, False])
def test_a_session_that_commits_by_itself(memory: ObstoreBackend, tmp_path: Path, succeeds: bool) -> None:
    """With the autocommit of advanced-alchemy, which commits as the answer is sent, rows keep their files."""

    @post("/autocommit", status_code=201 if succeeds else 409)
    async def create(data: Annotated[New, Form], db_session: NamedDependency[AsyncSession]) -> None:
        db_session.add(Document(title=data.title, file=data.file, pages=data.pages or []))

    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/rows.sqlite", poolclass=NullPool)
    config = SQLAlchemyAsyncConfig(
        engine_instance=engine, before_send_handler="autocommit", metadata=Base.metadata, bind_key="forms"
    )
    app = App(tmp_path, plugins=[SQLAlchemyPlugin(config)], route_handlers=[create])
    with TestClient(app.asgi) as client:
        answer = client.post("/autocommit", content=form(TITLE, ("file", "a.txt", b"x")), headers=MULTIPART)
    assert answer.status_code == (201 if succeeds else 409)
    assert [row.file.get_content() for row in app.rows()] == ([b"x"] if succeeds else [])
    assert app.left() == []


def test_a_transaction_that_outlives_the_middleware(memory: ObstoreBackend, tmp_path: Path) -> None:
    """What a middleware breaks off is rolled back as the answer is sent, and by then nothing is left."""

    class Limited(ASGIMiddleware):
        async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
            try:
                await next_app(scope, receive, send)
            except asyncio.CancelledError:
                raise HTTPException(status_code=504) from None

    @post("/autocommit")
    async def create(data: Annotated[New, Form], db_session: NamedDependency[AsyncSession]) -> None:
        db_session.add(Document(title=data.title, file=data.file, pages=data.pages or []))
        await db_session.flush()
        if data.title == "slow":
            raise asyncio.CancelledError  # what a timeout raises here when it is over

    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/rows.sqlite", poolclass=NullPool)
    config = SQLAlchemyAsyncConfig(
        engine_instance=engine, before_send_handler="autocommit", metadata=Base.metadata, bind_key="forms"
    )
    app = App(tmp_path, plugins=[SQLAlchemyPlugin(config)], route_handlers=[create], middleware=[Limited()])
    with TestClient(app.asgi) as client:
        for title, status, rows in (("slow", 504, 0), ("fast", 201, 1), ("slow", 504, 1)):
            body = form(("title", None, title.encode()), ("file", "a.txt", b"x"), ("pages", "1.txt", b"a"))
            assert client.post("/autocommit", content=body, headers=MULTIPART).status_code == status
            assert (len(app.rows()), app.left()) == (rows, [])


def test_what_cannot_be_removed(faulty: FaultyBackend, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An object that cannot be deleted is logged, and the answer is what it would be."""
    faulty.plan = [Fault("delete", times=None, error=StoreError)]
    app = App(tmp_path)
    with TestClient(app.asgi) as client, caplog.at_level(logging.WARNING, "lading"):
        answer = client.post("/forgets", content=form(TITLE, ("file", "a.txt", b"x")), headers=MULTIPART)
    assert (answer.status_code, app.left()) == (201, [answer.text])
    assert [record.__dict__["path"] for record in caplog.records if record.name == "lading"] == [answer.text]


async def test_a_request_that_is_cancelled(memory: ObstoreBackend) -> None:
    """A server may cancel a request: what it has stored is deleted all the same, and the cancellation goes on."""
    free = FileObject("store", "a.txt", content=b"x", storages=registry)
    taken = FileObject("store", "b.txt", content=b"x", storages=registry)
    stored = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for file in (free, taken):
            Staged.of(scope).add(await file.save_async())
        document = Document(id=1, title="", file=taken, pages=[])
        claim(document.file, "owned")
        stored.set()
        await asyncio.Event().wait()

    nothing: Any = None
    scope: Any = {"type": "http"}
    task = asyncio.ensure_future(asyncio.wait_for(removing(removing(app))(scope, nothing, nothing), 20))
    await stored.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await free.exists_async(), await taken.exists_async()) == (False, True)
    assert claim_of(free) == "free"


# what forms look like


def test_the_order_of_parts(app: App, client: TestClient[Litestar]) -> None:
    """Files may come before text, and fields in between each other."""
    parts = [
        ("pages", "1.txt", b"1"),
        ("file", "a.txt", b"x"),
        ("pages", "2.txt", b"2"),
        TITLE,
        ("pages", "3.txt", b"3"),
    ]
    answer = client.post("/documents", content=form(*parts), headers=MULTIPART)
    assert (answer.status_code, answer.json()["pages"]) == (201, ["1.txt", "2.txt", "3.txt"])
    assert app.rows()[0].title == "a title"


def test_inputs_that_were_left_empty(app: App, client: TestClient[Litestar]) -> None:
    """A file input without a file sends a part without a name and without a byte: it counts as not given."""
    empty = [("pages", "", b""), ("other", "", b"")]
    answer = client.post("/documents", content=form(TITLE, ("file", "a.txt", b"x"), *empty), headers=MULTIPART)
    assert (answer.status_code, answer.json()["pages"], answer.json()["other"]) == (201, [], None)
    again = client.post("/documents", content=form(TITLE, ("file", "", b""), ("file", "a.txt", b"")), headers=MULTIPART)
    assert (again.status_code, again.json()["file"]["size"]) == (201, 0), "an empty file has a name"
    assert client.post("/documents", content=form(TITLE, ("file", "", b"")), headers=MULTIPART).status_code == 400
    nameless = client.post("/documents", content=form(TITLE, ("file", "", b"x")), headers=MULTIPART)
    assert (nameless.status_code, nameless.json()["file"]["filename"]) == (201, "unnamed")


@pytest.mark.parametrize("size", [1, 1000, MIB - 200, MIB, MIB + 1, 3 * MIB])
@pytest.mark.parametrize("step", [1000, 65536, MIB])
def test_bytes_that_look_like_a_boundary(app: App, client: TestClient[Litestar], size: int, step: int) -> None:
    """Content is what was sent, however it falls into events and however much it looks like a boundary."""
    teasing = f"\r\n--{BOUNDARY[:-1]}\r\n\r\n--{BOUNDARY}"[:-1].encode() + b"\r\r\n"
    content = (teasing * (size // len(teasing) + 1))[:size]
    body = form(TITLE, ("file", "a.bin", content))
    pieces = (body[start : start + step] for start in range(0, len(body), step))
    answer = client.post("/documents", content=pieces, headers=MULTIPART)
    assert answer.status_code == 201, answer.text
    assert app.rows()[0].file.get_content() == content


PART = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="title"\r\n\r\na\r\n'
MALFORMED = {
    "no boundary": ("multipart/form-data", form(TITLE)),
    "an empty boundary": ('multipart/form-data; boundary=""', form(TITLE)),
    "a long boundary": (f"multipart/form-data; boundary={'a' * 71}", b"--" + b"a" * 71 + b"--"),
    "no form": ("text/plain", form(TITLE)),
    "garbage": (MULTIPART["content-type"], b"\0" * 1000),
    "cut in the content": (MULTIPART["content-type"], form(TITLE, ("file", "a.txt", b"x"))[:-60]),
    "cut in a header": (MULTIPART["content-type"], PART.encode()[:80]),
    "without an end": (MULTIPART["content-type"], form(TITLE, end=False)),
    "a part without a disposition": (
        MULTIPART["content-type"],
        f"--{BOUNDARY}\r\nContent-Type: text/plain\r\n\r\na\r\n--{BOUNDARY}--\r\n".encode(),
    ),
    "a doubled disposition": (
        MULTIPART["content-type"],
        PART.replace("\r\n\r\n", '\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n').encode()
        + form(TITLE),
    ),
    "a strange charset": (
        MULTIPART["content-type"],
        PART.replace("\r\n\r\n", "\r\nContent-Type: text/plain; charset=punycode\r\n\r\n").encode() + form(TITLE),
    ),
    "what is not UTF-8": (MULTIPART["content-type"], form(("title", None, b"\xff"), ("file", "a.txt", b"x"))),
    "two files for one": (MULTIPART["content-type"], form(TITLE, ("file", "a.txt", b"x"), ("file", "b.txt", b"x"))),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed(app: App, client: TestClient[Litestar], case: str) -> None:
    """What is no form is refused with 400, and leaves nothing."""
    kind, body = MALFORMED[case]
    pieces = (body[start : start + 65536] for start in range(0, len(body), 65536))
    answer = client.post("/documents", content=pieces, headers={"content-type": kind})
    assert (answer.status_code, problem(answer)) == (400, "malformed-body")
    assert (app.calls, app.left()) == (0, [])


@pytest.mark.parametrize("where", ["before", "behind"])
def test_what_lies_outside_of_the_parts(app: App, where: str) -> None:
    """A little before the first part or behind the last one is nobody's; much of it is malformed."""
    body = form(TITLE, ("file", "a.txt", b"x"))
    with live(app.asgi) as port:
        for size, status in ((100_000, 201), (4 * MIB, 400)):
            much = b"\r\n" * (size // 2)
            content = much + body if where == "before" else body + much
            answer = httpx.post(f"http://127.0.0.1:{port}/documents", content=content, headers=MULTIPART)
            assert answer.status_code == status
    assert app.left() == []


TOO_LARGE = {
    "parts": b"".join([PART.encode()] * 1001) + form(TITLE),
    "a text field": form(("title", None, b"a" * 65537)),
    "text": form(*[("title", None, b"a" * 65536)] * 17),
    "a header": PART.replace("name=", f'{"x" * 5000}="";name=').encode() + form(TITLE),
    "headers": PART.replace("\r\n\r\n", "\r\nX-A: b" * 20 + "\r\n\r\n").encode() + form(TITLE),
    "files": form(*[("pages", "", b"") for _ in range(200)], *[("pages", f"{n}.txt", b"") for n in range(50)] * 2),
    "spooled files": form(*[("other", f"{n}.txt", b"x") for n in range(100)]),
    "what is spooled": form(("other", "a.bin", bytes(10 * MB + 1))),
}


@pytest.mark.parametrize("case", TOO_LARGE)
def test_too_much(app: App, client: TestClient[Litestar], case: str) -> None:
    """There are limits to parts, their headers, text, and what goes into temporary files: 413."""
    body = form(("file", "a.txt", b"x"), end=False) + TOO_LARGE[case]
    pieces = (body[start : start + 65536] for start in range(0, len(body), 65536))
    answer = client.post("/documents", content=pieces, headers=MULTIPART)
    assert (answer.status_code, problem(answer)) == (413, "too-large")
    assert (app.calls, app.left()) == (0, [])


def test_a_hundred_files(app: App, client: TestClient[Litestar]) -> None:
    """That many, and no more, are the files of a form; inputs that were left empty are none."""
    empty = [("pages", "", b"")] * 10
    body = form(TITLE, ("file", "a.txt", b"x"), *[("pages", f"{n}.txt", b"") for n in range(FILES - 1)], *empty)
    answer = client.post("/documents", content=body, headers=MULTIPART)
    assert (answer.status_code, len(answer.json()["pages"]), app.left()) == (201, FILES - 1, [])


def test_a_million_parts(app: App) -> None:
    """A form of very many parts is given up after the first thousand; an application may say another number."""
    sent = 0

    def pieces() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield PART.encode() * 1000

    # Over a server, since the test client reads a body whole.
    with live(app.asgi) as port, pytest.raises(httpx.HTTPStatusError, match="413"):
        httpx.post(f"http://127.0.0.1:{port}/documents", content=pieces(), headers=MULTIPART).raise_for_status()

    @post("/two")
    async def two(
        data: Annotated[New, Body(media_type=Form.media_type, multipart_form_part_limit=2)],
    ) -> None: ...

    with TestClient(Litestar([two], plugins=[LadingPlugin(LadingConfig(SECRET, storages=registry))])) as other:
        body = form(TITLE, ("file", "a.txt", b"x"))
        assert other.post("/two", content=body, headers=MULTIPART).status_code == 201
        body = form(TITLE, TITLE, ("file", "a.txt", b"x"))
        answer = other.post("/two", content=body, headers=MULTIPART)
        assert (answer.status_code, answer.json()["limit"]) == (413, 2)


# limits


class Only(msgspec.Struct):
    file: File


@post("/one")
async def one(data: Annotated[Only, Form]) -> None: ...


class Beside(msgspec.Struct):
    file: File
    other: UploadFile


@post("/beside")
async def beside(data: Annotated[Beside, Form]) -> None: ...


def limited(tmp_path: Path, size: int, path: str = "/forgets", **options: Any) -> int:
    """The status of an upload of so many bytes."""
    app = App(tmp_path, route_handlers=[one], **options)
    with TestClient(app.asgi) as client:
        parts = [("file", "a.bin", bytes(size))]
        return client.post(
            path, content=form(*parts, *([TITLE] if path != "/one" else [])), headers=MULTIPART
        ).status_code


def test_litestars_own_limit(memory: ObstoreBackend, tmp_path: Path) -> None:
    """The column's limit rules, above and below the 10 MB of Litestar; what the application says holds, too."""
    assert limited(tmp_path, MOST) == 201
    assert limited(tmp_path, MOST + 1) == 413
    for path in ("/forgets", "/one"):
        assert limited(tmp_path, 5 * MB, path, request_max_body_size=4 * MB) == 413
        assert limited(tmp_path, 3 * MB, path, request_max_body_size=4 * MB) == 201
    assert limited(tmp_path, MOST + 1, request_max_body_size=100 * MB) == 413
    assert limited(tmp_path, MOST, request_max_body_size=None) == 201
    app = App(tmp_path, route_handlers=[beside], request_max_body_size=None)
    with TestClient(app.asgi) as client:
        body = form(("other", "b.bin", bytes(15 * MB)), ("file", "a.txt", b"x"))
        assert client.post("/beside", content=body, headers=MULTIPART).status_code == 201


@pytest.mark.parametrize("kind", KINDS)
def test_a_length_that_is_too_large(memory: ObstoreBackend, tmp_path: Path, kind: Kind) -> None:
    """Where every field has a limit a body that says too much is refused before a byte is read."""
    app = App(tmp_path, route_handlers=[one])
    with live(app.asgi, kind) as port, Connection(port) as connection:
        connection.send(head("/one", 40 * MB, Expect="100-continue"))
        status, said = connection.answer()
    assert (status, msgspec.json.decode(said)["actual"]) == (413, 40 * MB)


# beside the application's own


def test_hooks_of_the_application(memory: ObstoreBackend, tmp_path: Path) -> None:
    """What runs before requests runs before files are received, and may answer instead."""
    seen: list[str] = []

    async def before(request: Request[Any, Any, Any]) -> dict[str, str] | None:
        seen.append(request.url.path)
        return {"answered": "here"} if "stop" in request.query_params else None

    app = App(tmp_path, before_request=before)
    body = form(TITLE, ("file", "a.txt", b"x"))
    with TestClient(app.asgi) as client:
        assert client.post("/documents?stop", content=body, headers=MULTIPART).json() == {"answered": "here"}
        assert app.calls == 0
        assert client.post("/documents", content=body, headers=MULTIPART).status_code == 201
    assert (seen, app.calls) == (["/documents"] * 2, 1)


def test_a_handler_that_reads_on(memory: ObstoreBackend, tmp_path: Path) -> None:
    """A handler that asks for the body besides gets Litestar's error for one that was read, and does not hang."""

    @post("/reads")
    async def reads(data: Annotated[New, Form], request: Request[Any, Any, Any]) -> None:
        with pytest.raises(InternalServerException):
            await request.body()
        assert (await request.form())["file"] is data.file

    app = App(tmp_path, route_handlers=[reads])
    with live(app.asgi) as port:
        body = form(TITLE, ("file", "a.txt", b"x"))
        assert httpx.post(f"http://127.0.0.1:{port}/reads", content=body, headers=MULTIPART).status_code == 201


def test_a_form_that_was_read_before(memory: ObstoreBackend, tmp_path: Path) -> None:
    """A middleware that reads the form, as Litestar's for CSRF may, gets it; the files are then stored by the flush."""

    class Reading(ASGIMiddleware):
        async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
            await Request[Any, Any, Any](scope, receive=receive).form()
            await next_app(scope, receive, send)

    app = App(tmp_path, middleware=[Reading()])
    with TestClient(app.asgi) as client:
        answer = client.post("/documents", content=form(TITLE, ("file", "a.txt", b"x")), headers=MULTIPART)
    assert answer.status_code == 201, answer.text
    assert app.rows()[0].file.get_content() == b"x"


def test_a_body_that_was_read_before(memory: ObstoreBackend, tmp_path: Path) -> None:
    """Behind a middleware that has read the body as bytes, files are stored before the handler runs all the same."""

    class Reading(ASGIMiddleware):
        async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
            await Request[Any, Any, Any](scope, receive=receive).body()
            await next_app(scope, receive, send)

    app = App(tmp_path, middleware=[Reading()])
    with TestClient(app.asgi) as client:
        body = form(TITLE, ("file", "a.txt", b"x"))
        assert client.post("/forgets", content=body, headers=MULTIPART).status_code == 201
        assert client.post("/documents", content=body, headers=MULTIPART).status_code == 201
        body = form(TITLE, ("file", "a.txt", b"x"), ("pages", "1.txt", b"x" * (MOST_OF_A_PAGE + 1)))
        assert client.post("/documents", content=body, headers=MULTIPART).status_code == 413
    assert (app.rows()[0].file.get_content(), app.left()) == (b"x", [])


def test_a_form_of_a_dependency_alone(memory: ObstoreBackend, tmp_path: Path) -> None:
    """Litestar takes what only a dependency asks for as JSON: a form is then refused, and nothing of it stored."""

    async def depends(data: Annotated[New, Form]) -> New:
        return data

    @post("/depends", dependencies={"new": Provide(depends)})
    async def handler(new: NamedDependency[New]) -> None: ...

    app = App(tmp_path, route_handlers=[handler])
    with TestClient(app.asgi) as client:
        answer = client.post("/depends", content=form(TITLE, ("file", "a.txt", b"x")), headers=MULTIPART)
    assert (answer.status_code, app.left()) == (400, [])


def test_a_twin_of_a_file(app: App, client: TestClient[Litestar]) -> None:
    """A row that is given another file of the object keeps it when the request is over."""

    @post("/twin")
    async def twin(data: Annotated[New, Form]) -> None:
        async with AsyncSession(app.engine) as session:
            found = FileObject("store", data.file.filename, path=data.file.path, storages=registry)
            session.add(Document(title=data.title, file=found, pages=[]))
            await session.commit()

    app.asgi.register(twin)
    assert client.post("/twin", content=form(TITLE, ("file", "a.txt", b"x")), headers=MULTIPART).status_code == 201
    assert (app.rows()[0].file.get_content(), app.left()) == (b"x", [])


def test_a_store_that_fails(faulty: FaultyBackend, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The client is told 503 and no more, and the log what has happened."""
    faulty.plan = [Fault("put", times=None, error=StoreError)]
    app = App(tmp_path)
    with TestClient(app.asgi) as client, caplog.at_level(logging.ERROR, "lading"):
        answer = client.post("/documents", content=form(TITLE, ("file", "a.txt", b"x")), headers=MULTIPART)
    assert (answer.status_code, problem(answer)) == (503, "store-unavailable")
    (record,) = [record for record in caplog.records if record.name == "lading"]
    assert (record.levelname, record.__dict__["backend"], record.exc_info is not None) == ("ERROR", "store", True)


def test_several_plugins(memory: ObstoreBackend, tmp_path: Path) -> None:
    """A second plugin changes nothing: the body is read once, and what is left over removed once."""
    other = LadingPlugin(LadingConfig(SECRET, path="/other", name="other", storages=Storages()))
    app = App(tmp_path, plugins=[other])
    body = form(TITLE, ("file", "a.txt", b"x"), ("pages", "1.txt", b"a"))
    with TestClient(app.asgi) as client:
        assert client.post("/documents", content=body, headers=MULTIPART).status_code == 201
        assert client.post("/forgets", content=body, headers=MULTIPART).status_code == 201
    assert (len(app.rows()), app.left()) == (1, [])
