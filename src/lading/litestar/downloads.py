"""The route that serves what signed URLs grant."""

from collections.abc import AsyncIterator
from typing import Any

from litestar import HttpMethod, Request
from litestar.handlers import HTTPRouteHandler
from litestar.response.base import ASGIResponse
from litestar.response.streaming import ASGIStreamingResponse
from litestar.types import Receive, Scope, Send

from lading import clock
from lading.ops.retry import Retrying
from lading.serving import Answer, respond
from lading.signer import UrlSigner
from lading.storages import Storages
from lading.worlds import asyncio_world


class Download(ASGIStreamingResponse):
    """A stream that stops the store's read as soon as it is over, also where the client has gone away."""

    def __init__(self, answer: Answer, first: bytes, rest: AsyncIterator[bytes]) -> None:
        super().__init__(  # pyright: ignore[reportUnknownMemberType]  # StreamType is generic, and bare in Litestar
            status_code=answer.status, headers=dict(answer.headers), iterator=_after(first, rest)
        )
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            close = getattr(self._rest, "aclose", None)
            if close is not None:
                await close()


def download_route(path: str, signer: UrlSigner, storages: Storages) -> HTTPRouteHandler:
    """`GET` and `HEAD` of `{path}/{token}/{filename}`; the token is the permission, so authentication is left out."""

    async def download(request: Request[Any, Any, Any]) -> ASGIResponse:
        grant = signer.read(request.path_params["token"])
        driver = Retrying(storages.get_backend(grant.backend), asyncio_world)
        info = await driver.head(grant.path) if grant.size is None else None
        answer = respond(
            request.method,
            _headers(request),
            size=info.size if info is not None else grant.size or 0,
            content_type=grant.content_type,
            filename=grant.filename,
            etag=grant.etag,
            last_modified=grant.last_modified,
            max_age=grant.expires_at - clock.now(),
        )
        if answer.start == answer.stop:
            if info is None:  # an answer about an object says that it exists
                await driver.head(grant.path)
            return ASGIResponse(status_code=answer.status, headers=answer.headers, is_head_response=True)
        # The first chunk is read before the response begins: a missing object is then still a 404.
        chunks = driver.read(grant.path, answer.start, answer.stop)
        return Download(answer, await anext(chunks, b""), chunks)

    return HTTPRouteHandler(
        f"{path}/{{token:str}}/{{filename:str}}",
        http_method=[HttpMethod.GET, HttpMethod.HEAD],
        name=f"lading:{path}",
        include_in_schema=False,
        opt={"exclude_from_auth": True},
    )(download)


async def _after(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


def _headers(request: Request[Any, Any, Any]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in request.scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers
