"""Files in Starlette and FastAPI: signed URLs by a mounted server, and files behind the application's own guards."""

from collections.abc import Iterator
from typing import Annotated, Any

import httpx
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException
from fastapi import Response as FastAPIResponse
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser, requires
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from lading import FileObject, Storages
from lading.asgi import FileResponse, FileServer
from lading.asgi.reply import Receive, Scope, Send
from lading.backends.obstore import ObstoreBackend
from lading.signer import UrlSigner
from lading.tokens import Tokens
from tests.services.web import KINDS, Kind, serving

MIB = 2**20
CONTENT = bytes(index % 251 for index in range(3 * MIB))
STORAGES = Storages()
STORAGES.register_backend(ObstoreBackend("files", "memory://"))
STORAGES.signer = SIGNER = UrlSigner(Tokens("at least sixteen random bytes"), "/files")
FILES: dict[int, FileObject] = {}
DONE: list[str] = []


# Starlette


class ByHeader(AuthenticationBackend):
    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, SimpleUser] | None:
        user = conn.headers.get("x-user")
        return None if user is None else (AuthCredentials(["authenticated"]), SimpleUser(user))


class Timing(BaseHTTPMiddleware):
    """Middleware that stands between a response and the server, as many do."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["x-timed"] = "yes"
        return response


@requires("authenticated")
async def starlette_file(request: Request) -> FileResponse:
    return FileResponse(FILES[request.path_params["number"]], disposition="inline")


starlette = Starlette(
    routes=[
        Mount("/files", FileServer(SIGNER, STORAGES)),
        Route("/documents/{number:int}/file", starlette_file),
    ],
    middleware=[
        Middleware(GZipMiddleware),
        Middleware(Timing),
        Middleware(AuthenticationMiddleware, backend=ByHeader()),
    ],
)


# FastAPI


class File(FastAPIResponse):
    """A file as FastAPI wants it: as a response of Starlette's, since it makes JSON of anything else."""

    def __init__(self, file: FileObject, **options: Any) -> None:
        super().__init__()
        self.file = FileResponse(file, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.file(scope, receive, send)
        if self.background is not None:
            await self.background()


fastapi = FastAPI()
fastapi.mount("/files", FileServer(SIGNER, STORAGES))


def user(request: Request) -> str:
    if "x-user" not in request.headers:
        raise HTTPException(403)
    return request.headers["x-user"]


@fastapi.get("/documents/{number}/file", response_class=File)
async def fastapi_file(number: int, user: Annotated[str, Depends(user)], tasks: BackgroundTasks) -> File:
    tasks.add_task(DONE.append, user)
    return File(FILES[number], disposition="inline")


@pytest.fixture
def file() -> Iterator[FileObject]:
    """A file of document 1."""
    FILES[1] = FileObject("files", "film.bin", content=CONTENT, storages=STORAGES).save()
    yield FILES[1]
    FILES.clear()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("app", [starlette, fastapi], ids=["starlette", "fastapi"])
def test_downloads(file: FileObject, app: Any, kind: Kind) -> None:
    """Signed URLs need no login, the application's own URLs do; both have ranges and conditions."""
    with serving(app, kind) as base, httpx.Client(base_url=base, headers={"accept-encoding": "identity"}) as client:
        own = "/documents/1/file"
        assert client.get(own).status_code == 403
        for url in (file.sign(expires_in=60), own):
            client.headers.update({} if url != own else {"x-user": "ann"})
            answer = client.get(url)
            assert (answer.status_code, answer.content) == (200, CONTENT)
            assert answer.headers["content-length"] == str(len(CONTENT))
            part = client.get(url, headers={"range": f"bytes={MIB}-{2 * MIB}"})
            assert (part.status_code, part.content) == (206, CONTENT[MIB : 2 * MIB + 1])
            assert client.get(url, headers={"if-none-match": answer.headers["etag"]}).status_code == 304
        assert client.get("/files/x.y/film.bin").json()["type"] == "urn:lading:problem:invalid-token"
        file.delete()
        assert client.get(own).json()["type"] == "urn:lading:problem:not-found"
    assert "ann" in DONE or app is starlette


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("app", [starlette, fastapi], ids=["starlette", "fastapi"])
def test_signed_uploads(app: Any, kind: Kind) -> None:
    """A signed upload is stored as it arrives, under these frameworks too."""
    url = FileObject("files", to_filename="up/film.bin", storages=STORAGES).sign(for_upload=True)
    with serving(app, kind) as base:
        assert httpx.put(base + url, content=iter([CONTENT, CONTENT])).status_code == 200
    stored = FileObject("files", path="up/film.bin", storages=STORAGES)
    assert stored.get_content() == CONTENT * 2
    stored.delete()


def test_ranges_beside_compression(file: FileObject) -> None:
    """Starlette's compression leaves ranges alone."""
    with serving(starlette) as base:
        part = httpx.get(base + file.sign(), headers={"range": "bytes=5-9", "accept-encoding": "gzip"})
        assert (part.status_code, part.content, "content-encoding" in part.headers) == (206, CONTENT[5:10], False)
