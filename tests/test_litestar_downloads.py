"""Files that the handlers of a Litestar application return, and what signed URLs read and write there."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import Litestar, Response, get, route
from litestar.background_tasks import BackgroundTask
from litestar.config.compression import CompressionConfig
from litestar.config.csrf import CSRFConfig
from litestar.connection import ASGIConnection
from litestar.datastructures import Cookie
from litestar.exceptions import PermissionDeniedException
from litestar.handlers import BaseRouteHandler
from litestar.testing import TestClient

from lading import FileObject, Storages
from lading.errors import ObjectNotFound
from lading.litestar import Download, LadingConfig, LadingPlugin
from tests.services.web import KINDS, Kind, serving

SECRET = "a secret of some length"
CONTENT = b"0123456789" * 100


@pytest.fixture(params=["memory", "local"])
def storages(request: pytest.FixtureRequest, tmp_path: Path) -> Storages:
    storages = Storages()
    storages.register_backend("memory://" if request.param == "memory" else tmp_path.as_uri(), key="store")
    return storages


@pytest.fixture
def file(storages: Storages) -> FileObject:
    return FileObject("store", "notes.txt", content=CONTENT, storages=storages).save()


def application(storages: Storages, *handlers: Any, **options: Any) -> Litestar:
    plugins = [LadingPlugin(LadingConfig(SECRET, storages=storages))]
    return Litestar(list(handlers), plugins=plugins, logging_config=None, **options)


@contextmanager
def client_of(storages: Storages, *handlers: Any, **options: Any) -> Iterator[TestClient[Litestar]]:
    with TestClient(application(storages, *handlers, **options), raise_server_exceptions=False) as client:
        yield client


def returning(file: FileObject, **options: Any) -> Any:
    @route("/file", http_method=["GET", "HEAD"])
    async def handler() -> Download:
        return Download(file, **options)

    return handler


@pytest.mark.parametrize("kind", KINDS)
def test_a_handler_returns_a_file(storages: Storages, file: FileObject, kind: Kind) -> None:
    """A returned file has ranges, conditions and HEAD, under the handler's own address."""
    app = application(storages, returning(file, disposition="attachment", filename="n.txt"))
    with serving(app, kind) as base, httpx.Client(base_url=base) as client:
        answer = client.get("/file")
        assert (answer.status_code, answer.content) == (200, CONTENT)
        assert answer.headers["content-disposition"] == 'attachment; filename="n.txt"'
        assert answer.headers["cache-control"] == "private, no-cache"
        assert client.get("/file", headers={"range": "bytes=1-2"}).content == b"12"
        several = client.get("/file", headers={"range": "bytes=1-2,5-6"})
        assert several.headers["content-type"].startswith("multipart/byteranges")
        assert client.get("/file", headers={"if-none-match": answer.headers["etag"]}).status_code == 304
        beyond = client.get("/file", headers={"range": "bytes=2000-"})
        assert (beyond.status_code, beyond.headers["content-type"]) == (416, "application/problem+json")
        head = client.head("/file")
        assert (head.content, head.headers["content-length"]) == (b"", str(len(CONTENT)))
        assert head.headers.keys() == answer.headers.keys()


def test_what_an_application_adds(storages: Storages, file: FileObject) -> None:
    """Cookies, headers, hooks and background tasks are Litestar's; what the file says of itself stays."""
    done: list[str] = []

    @get(
        "/file",
        response_headers={"x-layer": "yes", "content-type": "text/html", "X-Content-Type-Options": "sniff"},
        response_cookies=[Cookie("layer", value="a")],
    )
    async def handler() -> Download:
        return Download(file, background=BackgroundTask(done.append, "done"), cookies=[Cookie("own", value="b")])

    async def hook(response: Response[Any]) -> Response[Any]:
        response.headers["x-hook"] = "yes"
        return response

    with client_of(storages, handler, after_request=hook) as client:
        answer = client.get("/file")
        signed = client.get(file.sign())
    assert answer.content == signed.content == CONTENT
    assert (answer.headers["x-layer"], answer.headers["x-hook"], signed.headers["x-hook"]) == ("yes", "yes", "yes")
    assert answer.headers.get_list("content-type") == ["text/plain; charset=utf-8"]
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
    assert dict(answer.cookies) == {"layer": "a", "own": "b"}
    assert done == ["done"]


def test_guards_stand_before_it(storages: Storages, file: FileObject) -> None:
    """A handler's guards are asked each time, also of a client that has the file already."""

    def nobody(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        if "cookie" not in connection.headers:
            raise PermissionDeniedException

    @get("/file", guards=[nobody])
    async def handler() -> Download:
        return Download(file)

    with client_of(storages, handler) as client:
        assert client.get("/file").status_code == 403
        assert client.get("/file", headers={"if-none-match": "*"}).status_code == 403
        assert client.get("/file", headers={"cookie": "a=b"}).content == CONTENT


def test_a_missing_object(storages: Storages, file: FileObject) -> None:
    """An object that is gone is 404 as a problem document, or what the application makes of it."""
    file.delete()
    with client_of(storages, returning(file)) as client:
        answer = client.get("/file")
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:lading:problem:not-found")
        assert file.path not in answer.text

    def teapot(request: Any, error: Exception) -> Response[str]:
        return Response("teapot", status_code=418)

    with client_of(storages, returning(file), exception_handlers={ObjectNotFound: teapot}) as client:
        assert client.get("/file").status_code == 418
        assert client.get(file.sign()).status_code == 418


def test_a_pending_file(storages: Storages) -> None:
    """A file that was never stored is the handler's error."""

    @get("/file")
    async def handler() -> Download:
        return Download(FileObject("store", "a.txt", content=b"x", storages=storages))

    with client_of(storages, handler, debug=False) as client:
        assert client.get("/file").status_code == 500


@pytest.mark.parametrize("key", [None, "mine"])
def test_nothing_compresses_a_file(storages: Storages, file: FileObject, key: str | None) -> None:
    """Files are left out of compression, which would break their ranges; the application's other answers are not."""

    @get("/text")
    async def text() -> str:
        return "x" * 5000

    @get("/perhaps")
    async def perhaps() -> Download | Response[str]:
        return Download(file)

    compression = CompressionConfig("gzip", exclude_opt_key=key)
    with client_of(storages, returning(file), text, perhaps, compression_config=compression) as client:
        assert client.get("/text").headers["content-encoding"] == "gzip"
        for path in ("/file", "/perhaps", file.sign()):
            answer = client.get(path)
            assert "content-encoding" not in answer.headers
            assert answer.headers["content-length"] == str(len(CONTENT))


def test_openapi(storages: Storages, file: FileObject) -> None:
    """The document says that a handler returns bytes, in whole or in part, and how it refuses."""

    @get("/own", media_type="application/pdf", responses={})
    async def own() -> Download:
        return Download(file)

    with client_of(storages, returning(file), own) as client:
        paths = client.get("/schema/openapi.json").json()["paths"]
    responses = paths["/file"]["get"]["responses"]
    assert responses.keys() == {"200", "206", "304", "404", "412", "416", "503"}
    assert responses["200"]["description"] == "The file"
    assert responses["200"]["content"].keys() == {"application/octet-stream"}
    assert responses["206"]["content"].keys() == {"application/octet-stream"}
    assert responses["404"]["content"].keys() == {"application/problem+json"}
    assert "content" not in responses["304"]
    assert paths["/own"]["get"]["responses"]["200"]["content"].keys() == {"application/pdf"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("content", [b"short", bytes(12 * 2**20)])
def test_a_signed_upload(storages: Storages, kind: Kind, content: bytes) -> None:
    """What is put to a signed URL is stored: neither Litestar's limit of a body counts, nor do CSRF tokens."""
    app = application(storages, csrf_config=CSRFConfig(secret="a secret of the application"))
    url = FileObject("store", to_filename="up/a.bin", storages=storages).sign(for_upload=True)
    with serving(app, kind) as base:
        answer = httpx.put(base + url, content=content)
        assert (answer.status_code, answer.content) == (200, b"")
        assert httpx.put(base + url + "x", content=b"x").json()["type"] == "urn:lading:problem:invalid-token"
    assert FileObject("store", path="up/a.bin", storages=storages).get_content() == content
