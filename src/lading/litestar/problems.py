"""lading's refusals as answers of a Litestar application."""

from http import HTTPStatus
from typing import Any, cast

from litestar import Request, Response
from litestar.config.app import AppConfig
from litestar.exceptions import HTTPException, InternalServerException

from lading.asgi.reply import answer_to, closing
from lading.errors import (
    ClientGone,
    InvalidPath,
    InvalidToken,
    LadingError,
    MalformedBody,
    NotUploaded,
    Refused,
    RequestError,
    StoreError,
)
from lading.problems import Problem

_GONE = "client disconnected prematurely"
"""What Litestar says when it reads a body, with 500; where a client has closed its half alone, it gets the answer."""


def answer(request: Request[Any, Any, Any], error: LadingError) -> Response[bytes]:
    """The problem document of an error."""
    problem = answer_to(error)
    if problem is None:
        raise error
    headers = {**problem.headers, **dict(closing(request.scope, error))}
    return Response(
        problem.encode(), status_code=problem.status, media_type=headers.pop("content-type"), headers=headers
    )


def register(config: AppConfig) -> None:
    """Answer lading's errors, where the application has said nothing about them."""
    own = cast("dict[Any, Any]", config.exception_handlers)  # pyright: ignore[reportUnknownMemberType]
    if LadingError not in own:
        kinds = (InvalidPath, InvalidToken, NotUploaded, Refused, RequestError, StoreError)
        config.exception_handlers = {**dict.fromkeys(kinds, answer), RecursionError: too_deep, **own}


def too_deep(request: Request[Any, Any, Any], error: RecursionError) -> Response[bytes]:
    """The problem document of JSON that is nested deeper than msgspec decodes, which Litestar makes a 500 of."""
    if "deserializing" not in str(error):
        raise error
    return answer(request, MalformedBody("the body is nested too deeply"))


def http(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """The problem document of what Litestar, or a guard, refuses on a route of ours."""
    if isinstance(error, InternalServerException) and error.detail == _GONE:
        return answer(request, ClientGone("the client went away before its request had come in whole"))
    status = HTTPStatus(error.status_code)
    problem = Problem(type="about:blank", title=status.phrase, status=status.value, detail=_detail(error))
    headers = problem.headers | dict(error.headers or {})
    return Response(problem.encode(), status_code=status.value, media_type=headers.pop("content-type"), headers=headers)


def _detail(error: HTTPException) -> str:
    """What was wrong, with each field of the request that was."""
    extra = cast("list[dict[str, Any]]", error.extra) if isinstance(error.extra, list) else []
    return "; ".join([error.detail, *(f"{each.get('key', 'body')}: {each.get('message')}" for each in extra)])


def on_our_routes() -> dict[Any, Any]:
    """The exception handlers of routes that lading adds."""
    return {HTTPException: http}
