"""lading in a Litestar application."""

import asyncio
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest
import uvicorn
from advanced_alchemy.extensions.litestar import SQLAlchemyDTO
from litestar import Litestar, Response, get, post
from litestar.config.compression import CompressionConfig
from litestar.connection import ASGIConnection
from litestar.dto import DataclassDTO, MsgspecDTO
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult
from litestar.middleware.base import DefineMiddleware
from litestar.params import Body
from litestar.plugins.pydantic import PydanticDTO, PydanticPlugin
from litestar.testing import TestClient
from pydantic import BaseModel, Field, computed_field
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from lading import FileObject, Storages, StoredObject
from lading.backends.obstore import ObstoreBackend
from lading.errors import (
    ConfigurationError,
    ExtensionNotAllowed,
    LadingError,
    Refused,
    StoreError,
    TooLarge,
    TypeNotAllowed,
)
from lading.litestar import LadingConfig, LadingPlugin
from lading.testing import frozen_clock

SECRET = "a secret of some length"
MB = 10**6


@pytest.fixture(params=["memory", "local"])
def storages(request: pytest.FixtureRequest, tmp_path: Path) -> Storages:
    storages = Storages()
    storages.register_backend("memory://" if request.param == "memory" else tmp_path.as_uri(), key="store")
    return storages


@pytest.fixture
def file(storages: Storages) -> FileObject:
    return FileObject("store", "notes.txt", content=b"0123456789", storages=storages).save()


@contextmanager
def serving(storages: Storages, *handlers: Any, **options: Any) -> Iterator[TestClient[Litestar]]:
    app = Litestar(list(handlers), plugins=[LadingPlugin(LadingConfig(SECRET, storages=storages))], **options)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


# the route


def test_get_and_head(storages: Storages, file: FileObject) -> None:
    """A signed URL gives the file's bytes, and to HEAD the same headers without them."""
    with serving(storages) as client:
        answer = client.get(file.sign(expires_in=60))
        assert (answer.status_code, answer.content) == (200, b"0123456789")
        assert answer.headers["etag"] == f'"{file.checksum}"'
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.headers["content-disposition"] == 'inline; filename="notes.txt"'
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert int(answer.headers["cache-control"].removeprefix("private, max-age=")) in range(50, 61)
        head = client.head(file.sign(expires_in=60))
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == "10"
        assert head.headers.keys() == answer.headers.keys()


async def test_sign_async(storages: Storages, file: FileObject) -> None:
    """The async twin signs the same kind of URL."""
    with serving(storages) as client:
        assert client.get(await file.sign_async()).content == b"0123456789"


def test_ranges_and_conditions(storages: Storages, file: FileObject) -> None:
    """The route answers ranges with 206 and 416, and conditions with 304 and 412."""
    with serving(storages) as client:
        url, tag = file.sign(), f'"{file.checksum}"'
        part = client.get(url, headers={"range": "bytes=2-4"})
        assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"234", "bytes 2-4/10")
        assert client.get(url, headers={"range": "bytes=-3"}).content == b"789"
        beyond = client.get(url, headers={"range": "bytes=10-"})
        assert (beyond.status_code, beyond.headers["content-range"]) == (416, "bytes */10")
        assert beyond.json()["type"] == "urn:lading:problem:range-not-satisfiable"
        unchanged = client.get(url, headers=[("if-none-match", '"x"'), ("if-none-match", tag)])
        assert (unchanged.status_code, unchanged.content) == (304, b"")
        assert unchanged.headers["etag"] == tag
        assert client.get(url, headers={"if-match": '"x"'}).status_code == 412


def test_an_empty_file(storages: Storages) -> None:
    """An empty file is served as one."""
    file = FileObject("store", "empty.txt", content=b"", storages=storages).save()
    with serving(storages) as client:
        answer = client.get(file.sign())
        assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "0")


@pytest.mark.parametrize(
    "filename", ["报告 #1?.txt", "100%.txt", "a+b&c;d.txt", "{token}.txt", "'\"\\.txt", "%2e%2e.txt"]
)
def test_names(storages: Storages, filename: str) -> None:
    """A file of any name has a URL that works."""
    file = FileObject("store", filename, content=b"x", storages=storages).save()
    with serving(storages) as client:
        assert client.get(file.sign()).content == b"x"


@pytest.mark.parametrize(
    "content", [b"<!DOCTYPE html><script>alert(1)</script>", b"<svg xmlns='http://www.w3.org/2000/svg'/>"]
)
def test_active_content_is_never_inline(storages: Storages, content: bytes) -> None:
    """HTML and SVG that call themselves an image are attachments, and have no origin to run in."""
    file = FileObject("store", "photo.png", content_type="image/png", content=content, storages=storages).save()
    with serving(storages) as client:
        answer = client.get(file.sign())
    assert answer.headers["content-disposition"].startswith("attachment;")
    assert answer.headers["content-security-policy"].endswith("; sandbox")
    assert answer.headers["content-type"] != "image/png"


def test_a_missing_object(storages: Storages, file: FileObject) -> None:
    """Where no object lies the answer is 404 to GET, HEAD, a range, and to a client that has a copy."""
    with serving(storages) as client:
        url = file.sign()
        file.delete()
        assert client.get(url).status_code == 404
        assert client.head(url).status_code == 404
        assert client.get(url, headers={"range": "bytes=1-2"}).status_code == 404
        assert client.get(url, headers={"if-none-match": "*"}).status_code == 404


def test_a_record_without_a_size(storages: Storages, file: FileObject) -> None:
    """Of a row that knows no size the store is asked."""
    record = {"backend": "store", "path": file.path, "filename": "old.txt"}
    old = FileObject.from_dict(record, storages=storages)
    with serving(storages) as client:
        assert client.get(old.sign(), headers={"range": "bytes=-2"}).content == b"89"
        assert client.head(old.sign()).headers["content-length"] == "10"


def test_refusals(storages: Storages, file: FileObject) -> None:
    """A tampered token is 403, an expired one 410, another method 405; the first two as problem documents."""
    with serving(storages) as client:
        url = file.sign()
        token = url.split("/")[2]
        tampered = client.get(url.replace(token, token[:-1] + ("A" if token[-1] != "A" else "E")))
        assert tampered.status_code == 403
        assert tampered.headers["content-type"] == "application/problem+json"
        assert tampered.json()["status"] == 403
        with frozen_clock(time.time() - 3600):
            old = file.sign(expires_in=1)
        expired = client.get(old)
        assert expired.status_code == 410
        assert expired.json()["title"] == "Gone"
        assert client.head(url.replace(token, "x.y")).status_code == 403
        assert client.post(url).status_code == 405


def test_upload_by_a_signed_url(storages: Storages, file: FileObject) -> None:
    """A URL signed for an upload takes a PUT of that file, and nothing else."""
    with serving(storages) as client:
        url = file.sign(for_upload=True)
        assert client.get(url).status_code == 405
        assert client.put(url, content=b"another content").status_code == 200
        assert file.get_content() == b"another content"


def test_several_registries(tmp_path: Path) -> None:
    """Two plugins in one application share the secret and the key, and never serve each other's files."""
    first, second = Storages(), Storages()
    first.register_backend("memory://", key="store")
    second.register_backend("memory://", key="store")
    plugins = [
        LadingPlugin(LadingConfig(SECRET, path="/a", storages=first)),
        LadingPlugin(LadingConfig(SECRET, path="/b", name="others", storages=second)),
    ]
    one = FileObject("store", "one.txt", content=b"one", storages=first).save()
    two = FileObject("store", "two.txt", content=b"two", storages=second).save()
    with TestClient(Litestar(plugins=plugins)) as client:
        assert client.get(one.sign()).content == b"one"
        assert client.get(two.sign()).content == b"two"
        assert client.get(one.sign().replace("/a/", "/b/", 1)).status_code == 403


def test_where_urls_point(storages: Storages, file: FileObject) -> None:
    """URLs are below the application's own path, and absolute where a base is given."""
    plugin = LadingPlugin(LadingConfig(SECRET, path="/media/files/", storages=storages, base_url="https://example.org"))
    with TestClient(Litestar(plugins=[plugin], path="api")) as client:
        url = file.sign()
        assert url.startswith("https://example.org/api/media/files/")
        assert client.get(urlsplit(url).path).content == b"0123456789"
        name = "lading:/media/files"
        assert client.app.route_reverse(name, token="t", filename="f") == "/api/media/files/t/f"


def test_old_secrets(storages: Storages, file: FileObject) -> None:
    """A URL that the previous secret signed is still served, and one of a stranger is not."""
    LadingPlugin(LadingConfig(SECRET, storages=storages)).on_app_init(_config())
    old = file.sign()
    with TestClient(
        Litestar(plugins=[LadingPlugin(LadingConfig(["a new secret, longer", SECRET], storages=storages))])
    ) as client:
        assert client.get(old).status_code == 200
    with TestClient(
        Litestar(plugins=[LadingPlugin(LadingConfig("a new secret, longer", storages=storages))])
    ) as client:
        assert client.get(old).status_code == 403


def _config() -> Any:
    from litestar.config.app import AppConfig

    return AppConfig()


@pytest.mark.parametrize(
    "options",
    [
        {"secret": "short"},
        {"secret": []},
        {"secret": SECRET, "path": "files"},
        {"secret": SECRET, "path": "/"},
        {"secret": SECRET, "path": "/{token:str}"},
        {"secret": SECRET, "base_url": "example.org"},
    ],
)
def test_a_plugin_put_together_wrongly(options: Any) -> None:
    """A short secret, a path that is none and a base without its scheme are refused when the plugin is made."""
    with pytest.raises(ConfigurationError):
        LadingPlugin(LadingConfig(**options))


class NobodyIsKnown(AbstractAuthenticationMiddleware):
    async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
        from litestar.exceptions import NotAuthorizedException

        raise NotAuthorizedException


def test_beside_authentication_and_compression(storages: Storages) -> None:
    """A signed URL needs no login, and what it serves is not compressed again, so that ranges stay true."""

    @get("/private", exclude_from_auth=False)
    async def private() -> str:
        return "x" * 5000

    @get("/public", exclude_from_auth=True)
    async def public() -> str:
        return "x" * 5000

    file = FileObject("store", "a.txt", content=b"a" * 5000, storages=storages).save()
    options: dict[str, Any] = {
        "middleware": [DefineMiddleware(NobodyIsKnown)],
        "compression_config": CompressionConfig("gzip", exclude="/other"),
    }
    with serving(storages, private, public, **options) as client:
        assert client.get("/private").status_code == 401
        assert client.get("/public").headers["content-encoding"] == "gzip"
        answer = client.get(file.sign())
        assert (answer.status_code, answer.headers["content-length"]) == (200, "5000")
        assert "content-encoding" not in answer.headers


# errors


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (TooLarge("too large", filename="f", limit=1, actual=2), 413),
        (TypeNotAllowed("no", filename="f", limit=["image/*"], actual="text/html"), 415),
        (ExtensionNotAllowed("no", filename="f"), 422),
        (Refused("no", filename="f"), 422),
        (StoreError("secret host", backend="store", path="secret path"), 503),
        (ConfigurationError("wrong"), 500),
    ],
)
def test_errors(storages: Storages, error: LadingError, status: int) -> None:
    """A refusal has its status and its evidence; a store's failure says nothing of the store; the rest stays a 500."""

    @get("/")
    async def fail() -> None:
        raise error

    with serving(storages, fail, debug=False) as client:
        answer = client.get("/")
    assert answer.status_code == status
    assert "secret" not in answer.text
    if status < 500:
        assert answer.json()["detail"] == str(error)
        assert answer.json().get("limit") == cast("Refused", error).limit


@pytest.mark.parametrize("kind", [LadingError, Refused, TooLarge])
def test_the_application_answers_itself(storages: Storages, kind: type[LadingError]) -> None:
    """A handler that the application has for an error, or for all of lading's, stays the one."""

    @get("/")
    async def fail() -> None:
        raise TooLarge("too large", filename="f", limit=1, actual=2)

    def teapot(request: Any, error: Exception) -> Response[str]:
        return Response("teapot", status_code=418)

    with serving(storages, fail, exception_handlers={kind: teapot}) as client:
        assert client.get("/").status_code == 418


# files in and out of handlers


class Base(DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "litestar_row"
    id: Mapped[int] = mapped_column(primary_key=True)
    file: Mapped[FileObject] = mapped_column(StoredObject("store"))
    maybe: Mapped[FileObject | None] = mapped_column(StoredObject("store"))
    pages: Mapped[list[FileObject]] = mapped_column(StoredObject("store", multiple=True))


class Model(BaseModel):
    file: FileObject
    maybe: FileObject | None = None
    pages: list[FileObject] = []


class Item(msgspec.Struct):
    file: FileObject
    maybe: FileObject | None = None
    pages: list[FileObject] = []


@dataclass
class Data:
    file: FileObject
    maybe: FileObject | None
    pages: list[FileObject]


class Listed(BaseModel):
    file: FileObject | None = Field(default=None, exclude=True)

    @computed_field  # type: ignore[prop-decorator]  # pydantic's documented form
    @property
    def file_url(self) -> str | None:
        return None if self.file is None else self.file.sign()


RowDTO = SQLAlchemyDTO[Row]
ModelDTO = PydanticDTO[Model]
ItemDTO = MsgspecDTO[Item]
DataDTO = DataclassDTO[Data]
KINDS: list[tuple[type[Any], type[Any] | None]] = [
    (Row, RowDTO),
    (Model, None),
    (Model, ModelDTO),
    (Item, None),
    (Item, ItemDTO),
    (Data, None),
    (Data, DataDTO),
]


def out(kind: type[Any], dto: type[Any] | None, file: FileObject) -> Any:
    async def handler() -> Any:
        made = kind(file=file, maybe=None, pages=[file, file])
        if kind is Row:
            made.id = 1
        return made

    handler.__annotations__["return"] = kind
    return get("/", return_dto=dto)(handler)


@pytest.mark.parametrize(("kind", "dto"), KINDS)
def test_a_file_goes_out(storages: Storages, file: FileObject, kind: type[Any], dto: type[Any] | None) -> None:
    """In every kind of model and DTO a file is its record, and OpenAPI knows it."""
    with serving(storages, out(kind, dto, file)) as client:
        body = client.get("/").json()
        assert body["file"] == file.to_dict()
        assert body["maybe"] is None
        assert body["pages"] == [file.to_dict(), file.to_dict()]
        schemas = client.get("/schema/openapi.json").json()["components"]["schemas"]
    (model,) = (schema for name, schema in schemas.items() if "pages" in schema["properties"])
    assert model["properties"]["file"] == {"$ref": "#/components/schemas/FileObject"}
    assert model["properties"]["pages"]["items"] == {"$ref": "#/components/schemas/FileObject"}
    assert model["properties"]["maybe"] == {"oneOf": [{"$ref": "#/components/schemas/FileObject"}, {"type": "null"}]}
    described = schemas["FileObject"]
    assert list(described["properties"]) == described["required"] == list(file.to_dict())
    assert described["properties"]["size"] == {"oneOf": [{"type": "integer"}, {"type": "null"}]}


def test_a_handler_returns_files(storages: Storages, file: FileObject) -> None:
    """A handler may return a file, several, or one in whatever JSON can hold."""

    @get("/one")
    async def one() -> FileObject:
        return file

    @get("/many")
    async def many() -> list[FileObject]:
        return [file]

    @get("/some")
    async def some() -> dict[str, Any]:
        return {"file": file}

    @get("/url")
    async def url() -> Listed:
        return Listed(file=file)

    with serving(storages, one, many, some, url) as client:
        assert client.get("/one").json() == file.to_dict()
        assert client.get("/many").json() == [file.to_dict()]
        assert client.get("/some").json() == {"file": file.to_dict()}
        assert client.get(client.get("/url").json()["file_url"]).content == b"0123456789"
        paths = client.get("/schema/openapi.json").json()["paths"]
    assert "/url" in paths
    assert not any(path.startswith("/files") for path in paths)
    content = paths["/one"]["get"]["responses"]["200"]["content"]
    assert content["application/json"]["schema"] == {"$ref": "#/components/schemas/FileObject"}


def test_a_pending_file_does_not_go_out(storages: Storages) -> None:
    """Returning a file that was never stored is the application's fault, a 500."""

    @get("/")
    async def handler() -> FileObject:
        return FileObject("store", "a.txt", content=b"x", storages=storages)

    with serving(storages, handler, debug=False) as client:
        assert client.get("/").status_code == 500


@pytest.mark.parametrize(("kind", "dto"), [*KINDS, (FileObject, None), (list[FileObject], None)])
@pytest.mark.parametrize("before", [True, False])
def test_a_client_names_no_object(
    storages: Storages, file: FileObject, kind: type[Any], dto: type[Any] | None, before: bool
) -> None:
    """A record in a request body is 400, whatever the body is declared to be and in whatever order plugins come."""

    async def handler(data: Any) -> str:
        raise AssertionError(f"a client named {data!r}")

    handler.__annotations__["data"] = Annotated[kind, Body()]
    route = post("/", dto=dto, return_dto=None)(handler)

    record = file.to_dict()
    body: Any = {"id": 1, "file": record, "maybe": None, "pages": [record]}
    if kind is FileObject:
        body = record
    elif kind == list[FileObject]:
        body = [record]
    plugins: list[Any] = [LadingPlugin(LadingConfig(SECRET, storages=storages)), PydanticPlugin(prefer_alias=True)]
    with TestClient(Litestar([route], plugins=plugins if before else plugins[::-1])) as client:
        answer = client.post("/", json=body)
    assert answer.status_code == 400, answer.text
    assert "cannot be named by a client" in answer.text


def test_a_model_without_its_file_comes_in(storages: Storages) -> None:
    """A body that leaves the file out, or null, is as good as without lading."""

    @post("/")
    async def handler(data: Annotated[Listed, Body()]) -> str:
        return str(data.file)

    with serving(storages, handler) as client:
        assert client.post("/", json={}).text == "None"
        assert client.post("/", json={"file": None}).text == "None"


def test_the_application_reads_its_own_records(storages: Storages, file: FileObject) -> None:
    """Inside a handler a record that the application kept itself still validates."""

    @post("/")
    async def handler(data: Annotated[dict[str, Any], Body()]) -> str:
        return Model.model_validate({"file": file.to_dict()}).file.path

    with serving(storages, handler) as client:
        assert client.post("/", json={}).text == file.path


# a real server


class Watched:
    """A backend whose reads are counted, in bytes and in streams that are still open."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self.given = 0
        self.open = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def driver(self, world: Any) -> Any:
        return WatchedDriver(self, self._backend.driver(world))


class WatchedDriver:
    def __init__(self, watched: Watched, driver: Any) -> None:
        self._watched = watched
        self._driver = driver

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)

    async def read(self, path: str, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        self._watched.open += 1
        stream = self._driver.read(path, start, stop)
        try:
            async for chunk in stream:
                self._watched.given += len(chunk)
                yield chunk
        finally:
            await stream.aclose()
            self._watched.open -= 1


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Watched, FileObject]]:
    """A real server, with a sparse file of 200 MB on its disk."""
    storages = Storages()
    watched = Watched(ObstoreBackend("local", tmp_path.as_uri()))
    storages.register_backend(cast("Any", watched))
    with (tmp_path / "big.bin").open("wb") as big:
        big.truncate(200 * MB)
        big.seek(150 * MB)
        big.write(b"here")
    file = FileObject("local", "big.bin", path="big.bin", size=200 * MB, storages=storages)
    app = Litestar(plugins=[LadingPlugin(LadingConfig(SECRET, storages=storages))], logging_config=None)
    config = uvicorn.Config(app, port=0, log_level="warning", lifespan="on", ws="none")
    running = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}", watched, file
        finally:
            running.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


def resident() -> int:
    """The memory of this process, client and server, in bytes."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def test_a_large_file_in_little_memory(server: tuple[str, Watched, FileObject]) -> None:
    """200 MB are served whole and in parts with the memory of a few chunks."""
    base, watched, file = server
    with httpx.Client(base_url=base) as client:
        url = file.sign()
        part = client.get(url, headers={"range": f"bytes={150 * MB}-{150 * MB + 3}"})
        assert (part.status_code, part.content) == (206, b"here")
        assert watched.given == 4
        head = client.head(url)
        assert (head.headers["content-length"], head.content) == (str(200 * MB), b"")
        assert client.get(url, headers={"range": f"bytes={200 * MB}-"}).status_code == 416
        before = resident()
        peak = received = 0
        with client.stream("GET", url) as answer:
            assert answer.status_code == 200
            for chunk in answer.iter_raw():
                received += len(chunk)
                peak = max(peak, resident()) if received % (4 * MB) < len(chunk) else peak
        assert received == 200 * MB
        assert peak - before < 40 * MB
    assert until(lambda: watched.open == 0)


async def test_the_read_ends_with_the_request(tmp_path: Path) -> None:
    """When a client has gone away the store's read is over before the request is, and not when memory is tidied."""
    storages = Storages()
    watched = Watched(ObstoreBackend("local", tmp_path.as_uri()))
    storages.register_backend(cast("Any", watched))
    file = await FileObject("local", "a.bin", content=b"x" * 20 * MB, storages=storages).save_async()
    app = Litestar(plugins=[LadingPlugin(LadingConfig(SECRET, storages=storages))], logging_config=None)
    path = await file.sign_async()
    scope: Any = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    sending, gone = asyncio.Event(), asyncio.Event()

    async def receive() -> Any:
        await sending.wait()
        gone.set()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            sending.set()
            await asyncio.Event().wait()

    await app(scope, receive, send)
    assert gone.is_set()
    assert watched.given > 0
    assert watched.open == 0


def test_a_client_that_stops_reading_and_goes_away(server: tuple[str, Watched, FileObject]) -> None:
    """A client that stops reading stops the store's read, and one that goes away ends it."""
    base, watched, file = server
    host = urlsplit(base)
    with socket.create_connection((host.hostname or "", host.port or 0)) as client:
        client.sendall(f"GET {file.sign()} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
        assert until(lambda: watched.given > 0)
        time.sleep(0.5)
        stalled = watched.given
        time.sleep(0.5)
        assert watched.given == stalled < 100 * MB
        assert watched.open == 1
    assert until(lambda: watched.open == 0)
    assert watched.given < 100 * MB


def until(condition: Any) -> bool:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(condition())
