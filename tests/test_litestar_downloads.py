"""Files that the handlers of a Litestar application return, and what signed URLs read and write there."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import Litestar, Request, Response, get, route
from litestar.background_tasks import BackgroundTask
from litestar.config.compression import CompressionConfig
from litestar.config.csrf import CSRFConfig
from litestar.connection import ASGIConnection
from litestar.datastructures import Cookie
from litestar.enums import ScopeType
from litestar.exceptions import NotAuthorizedException, PermissionDeniedException
from litestar.handlers import BaseRouteHandler
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult, DefineMiddleware
from litestar.middleware.session.server_side import ServerSideSessionConfig
from litestar.security.session_auth import SessionAuth
from litestar.testing import TestClient
from litestar.types import ASGIApp, Receive, Scope, Send

from lading import FileObject, Storages
from lading.errors import ConfigurationError, ObjectNotFound
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


def test_what_litestar_would_cache(storages: Storages, file: FileObject) -> None:
    """Litestar's cache would give one client's range to all, so a handler of files cannot have it."""

    @get("/file", cache=60)
    async def handler() -> Download:
        return Download(file)

    @get("/file", cache=60)
    async def perhaps() -> Download | Response[str]:
        return Download(file)

    for each in (handler, perhaps):
        with pytest.raises(ConfigurationError, match="cache=60"):
            application(storages, each)


def test_what_litestar_would_cache_unseen(storages: Storages, file: FileObject) -> None:
    """Where a handler does not say that it returns files, that is refused when it does."""

    @get("/file", cache=True, sync_to_thread=False)
    def handler() -> Response[Any]:
        return Download(file)

    with client_of(storages, handler) as client:
        assert client.get("/file", headers={"range": "bytes=0-1"}).status_code == 500
        assert client.get("/file").status_code == 500


class Nobody(AbstractAuthenticationMiddleware):
    """Lets nobody in."""

    async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
        raise NotAuthorizedException


def nobody_in_session(session: Any, connection: ASGIConnection[Any, Any, Any, Any]) -> None:
    """Knows nobody."""


SESSION = SessionAuth[Any, Any](
    retrieve_user_handler=nobody_in_session,
    session_backend_config=ServerSideSessionConfig(),
    exclude_opt_key="no_session_needed",
)
AUTHENTICATIONS: dict[str, dict[str, Any]] = {
    "plain": {"middleware": [DefineMiddleware(Nobody)]},
    "bare": {"middleware": [Nobody]},
    "own key": {"middleware": [DefineMiddleware(Nobody, exclude_from_auth_key="mine")]},
    "session": {"on_app_init": [SESSION.on_app_init]},
    "two": {"middleware": [SESSION.middleware, DefineMiddleware(Nobody, exclude_from_auth_key="mine")]},
}


@pytest.mark.parametrize("key", ["exclude_from_csrf", "own"])
@pytest.mark.parametrize("kind", AUTHENTICATIONS)
def test_signed_urls_need_nothing_else(storages: Storages, file: FileObject, kind: str, key: str) -> None:
    """Who has a signed URL needs no login and no CSRF token, however the application calls what leaves them out."""

    @get("/own")
    async def own() -> None: ...

    csrf = CSRFConfig("a secret of the application", exclude_from_csrf_key=key)
    upload = FileObject("store", to_filename="up/a", storages=storages).sign
    with client_of(storages, own, csrf_config=csrf, **AUTHENTICATIONS[kind]) as client:
        assert client.get("/own").status_code == 401
        answer = client.get(file.sign())
        assert (answer.status_code, answer.content) == (200, CONTENT)
        assert "csrftoken" not in answer.cookies
        assert client.put(upload(for_upload=True), content=b"x").status_code == 200


def test_guarded_urls_need_a_login(storages: Storages, file: FileObject) -> None:
    """Where guards are asked besides the token, they are told who it is: the login counts."""

    def anybody(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None: ...

    config = LadingConfig(SECRET, storages=storages, download_guards=[anybody], upload_guards=[anybody])
    for options in AUTHENTICATIONS.values():
        with TestClient(Litestar(plugins=[LadingPlugin(config)], logging_config=None, **options)) as client:
            assert client.get(file.sign()).status_code == 401
            upload = FileObject("store", to_filename="up/a", storages=storages).sign(for_upload=True)
            assert client.put(upload, content=b"x").status_code == 401


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("content", [b"", b"short", bytes(12 * 2**20)])
def test_a_signed_upload_that_a_middleware_has_read(storages: Storages, kind: Kind, content: bytes) -> None:
    """What is put to a signed URL is stored although a middleware, such as that for logging, has read it before."""
    seen: list[int] = []

    def reading(app: ASGIApp) -> ASGIApp:
        async def handle(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == ScopeType.HTTP:
                seen.append(len(await Request[Any, Any, Any](scope, receive).body()))
            await app(scope, receive, send)

        return handle

    app = application(storages, middleware=[reading])
    url = FileObject("store", to_filename="up/a.bin", storages=storages).sign(for_upload=True)
    with serving(app, kind) as base:
        assert httpx.put(base + url, content=content).status_code == 200
        head, _, rest = url.rpartition("/")
        assert httpx.put(f"{base}{head}/x{rest}", content=content).json()["type"] == "urn:lading:problem:invalid-token"
    assert FileObject("store", path="up/a.bin", storages=storages).get_content() == content
    assert seen == [len(content)] * 2


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
