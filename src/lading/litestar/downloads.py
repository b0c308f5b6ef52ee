"""Files on their way out of a Litestar application, and what is put to signed URLs: the doors to `lading.asgi`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from litestar import HttpMethod, Request, Response
from litestar.background_tasks import BackgroundTask, BackgroundTasks
from litestar.config.app import AppConfig
from litestar.datastructures import Cookie
from litestar.enums import MediaType
from litestar.handlers import HTTPRouteHandler
from litestar.middleware import AbstractAuthenticationMiddleware, DefineMiddleware
from litestar.openapi.datastructures import ResponseSpec
from litestar.response.base import ASGIResponse
from litestar.security import AbstractSecurityConfig
from litestar.types import Empty, Receive, Scope, Send
from litestar.utils.scope.state import ScopeState

from lading.asgi import FileResponse, FileServer
from lading.asgi.reply import Reply
from lading.errors import ConfigurationError
from lading.file import FileObject
from lading.litestar import openapi, problems
from lading.record import Disposition
from lading.serving import Embedding

if TYPE_CHECKING:
    from litestar import Litestar
    from litestar.types import TypeEncodersMap


class Download(Response[bytes]):
    """A stored file as the response of a handler, behind the application's guards.

    It is a `lading.asgi.FileResponse`, which says what the arguments are, with the cookies, headers and background task
    that Litestar adds. Of headers that both have, those of the file stay. Errors are raised, so the exception handlers
    of the application answer them; with `LadingPlugin` they become problem documents. A handler that is to answer
    `HEAD` too says so: `@route(path, http_method=["GET", "HEAD"])`.

    Raises:
        PendingFile: the file is not stored.
    """

    def __init__(
        self,
        file: FileObject,
        *,
        disposition: Disposition | None = None,
        filename: str | None = None,
        content_type: str | None = None,
        cache_control: str = "private, no-cache",
        embedding: Embedding = "same-site",
        separate_origin: bool = False,
        background: BackgroundTask | BackgroundTasks | None = None,
        cookies: Sequence[Cookie] | None = None,
    ) -> None:
        super().__init__(b"", background=background, cookies=cookies)
        self._response = FileResponse(
            file,
            disposition=disposition,
            filename=filename,
            content_type=content_type,
            cache_control=cache_control,
            embedding=embedding,
            separate_origin=separate_origin,
        )

    def to_asgi_response(
        self,
        app: "Litestar | None",
        request: Request[Any, Any, Any],
        *,
        background: BackgroundTask | BackgroundTasks | None = None,
        cookies: Iterable[Cookie] | None = None,
        encoded_headers: Iterable[tuple[bytes, bytes]] | None = None,
        headers: dict[str, str] | None = None,
        is_head_response: bool = False,
        media_type: MediaType | str | None = None,
        status_code: int | None = None,
        type_encoders: "TypeEncodersMap | None" = None,
    ) -> ASGIResponse:
        _check_cache(request.route_handler)
        return _Sending(
            self._response,
            background=self.background or background,
            cookies=[*self.cookies, *(cookies or ())],
            headers={**(headers or {}), **self.headers},
        )


class _Sending(ASGIResponse):
    """What has an application's headers and cookies, and asks for the file when it is sent."""

    def __init__(self, response: FileResponse, **options: Any) -> None:
        super().__init__(is_head_response=True, **options)  # which sets no headers of its own
        self._response = response

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reply = await self._response.respond(scope, receive)
        mine = {name for name, _ in reply.headers}
        reply.headers += [header for header in _decoded(self) if header[0].lower() not in mine]
        await reply(scope, receive, send)
        await self.after_response()


class _Replying(ASGIResponse):
    """A reply as a response of Litestar, to which the application's hooks may add."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(status_code=reply.status, headers=reply.headers, is_head_response=True)
        self._reply = reply

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._reply.headers = _decoded(self)
        await self._reply(scope, receive, send)


def _decoded(response: ASGIResponse) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.encode_headers()]


def prepare(handler: HTTPRouteHandler, uncompressed: str) -> None:
    """Describe a handler that returns a `Download`, and leave it out of compression, which knows no ranges.

    Args:
        handler: any.
        uncompressed: the key of the application's `CompressionConfig.exclude_opt_key`.

    Raises:
        ConfigurationError: Litestar is to cache what it answers.
    """
    returned = handler.parsed_fn_signature.return_type
    if not any(kind.is_subclass_of(Download) for kind in (returned, *returned.inner_types)):
        return
    _check_cache(handler)
    handler.opt[uncompressed] = True
    if returned.is_subclass_of(Download):
        handler.media_type = handler.media_type or "application/octet-stream"
        handler.response_description = handler.response_description or "The file"
        handler.responses = {**_ANSWERS, **openapi.problem_responses(404, 412, 416, 503), **(handler.responses or {})}


def _check_cache(handler: HTTPRouteHandler) -> None:
    """Litestar's cache knows an answer by path and query alone: one client's range would be everybody's file."""
    if handler.cache:
        raise ConfigurationError(
            f"the handler {handler.handler_name!r} returns a Download, and cannot have cache={handler.cache!r}: the "
            "answer depends on the request's range and conditions. Say what clients may keep: cache_control="
        )


_ANSWERS = {
    206: ResponseSpec(
        data_container=bytes,
        description="The ranges that were asked for",
        media_type="application/octet-stream",
        generate_examples=False,
    ),
    304: ResponseSpec(data_container=None, description="The client has it already"),
}


def left_out(config: AppConfig, guards: Sequence[Any]) -> dict[str, Any]:
    """What leaves a route of signed URLs out of CSRF protection, and without guards out of authentication.

    Whoever has a signed URL needs no other permission, and no page of another's can have one to forge a request with;
    but guards may want to know who that is.

    Args:
        config: of the application, which may call the keys of `opt` otherwise than Litestar does. What a plugin behind
            this one adds, or a middleware that is not of Litestar's kinds, goes by Litestar's own keys.
        guards: of the route.
    """
    csrf = config.csrf_config.exclude_from_csrf_key if config.csrf_config is not None else "exclude_from_csrf"
    return dict.fromkeys([csrf] if guards else [csrf, "exclude_from_auth", *_auth_keys(config)], True)


def _auth_keys(config: AppConfig) -> Iterator[str]:
    """What the authentication of an application is told in `opt` to leave a handler alone."""
    for middleware in config.middleware:
        if not isinstance(middleware, DefineMiddleware):
            continue
        kind: object = middleware.middleware
        security = middleware.kwargs.get("config")
        if isinstance(security, AbstractSecurityConfig):
            yield security.exclude_opt_key
        elif isinstance(kind, type) and issubclass(kind, AbstractAuthenticationMiddleware):
            said = (middleware.kwargs.get(name) for name in ("exclude_opt_key", "exclude_from_auth_key"))
            yield from (key for key in said if isinstance(key, str))


def download_route(
    path: str, server: FileServer, *, guards: Sequence[Any] = (), opt: Mapping[str, Any] = MappingProxyType({})
) -> HTTPRouteHandler:
    """`GET` and `HEAD` of `{path}/{token}/{filename}`; the token is the permission.

    Args:
        path: the signer's, below that of the application.
        server: serves them.
        guards: of Litestar, asked besides the token.
        opt: see `left_out`.
    """

    async def download(request: Request[Any, Any, Any]) -> ASGIResponse:
        return _Replying(await server.respond(request.scope, request.receive))

    return HTTPRouteHandler(
        f"{path}/{{token:str}}/{{filename:str}}",
        http_method=[HttpMethod.GET, HttpMethod.HEAD],
        guards=list(guards),
        name=f"lading:{path}",
        include_in_schema=False,
        exception_handlers=problems.on_our_routes(),
        opt=dict(opt),
    )(download)


def put_route(
    path: str,
    server: FileServer,
    *,
    memory: int,
    guards: Sequence[Any] = (),
    opt: Mapping[str, Any] = MappingProxyType({}),
) -> HTTPRouteHandler:
    """`PUT` to `{path}/uploads/{token}`, which a signed upload grants; the arguments are those of `download_route`.

    The server streams, and has limits of its own. A middleware that reads bodies, as that for logging does, holds all
    of one in memory, so it should leave this path out; `memory` is the most bytes that it can read.
    """

    async def put(request: Request[Any, Any, Any]) -> ASGIResponse:
        return _Replying(await server.respond(request.scope, _receive(request)))

    return HTTPRouteHandler(
        f"{path}/uploads/{{token:str}}",
        http_method=HttpMethod.PUT,
        guards=list(guards),
        name=f"lading:{path}:put",
        include_in_schema=False,
        exception_handlers=problems.on_our_routes(),
        request_max_body_size=memory,
        opt=dict(opt),
    )(put)


def _receive(request: Request[Any, Any, Any]) -> Receive:
    """What gives the body of a request, also where a middleware has read it."""
    body = ScopeState.from_scope(request.scope).body
    if body is Empty:
        return request.receive
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def again() -> Any:
        return next(messages, None) or await request.receive()

    return again
