"""lading's refusals as problem documents (RFC 9457)."""

from http import HTTPStatus
from typing import Any, cast

from litestar import Request, Response
from litestar.config.app import AppConfig

from lading.errors import (
    ExpiredToken,
    InvalidToken,
    LadingError,
    ObjectExists,
    ObjectNotFound,
    Refused,
    StoreError,
    TooLarge,
    TypeNotAllowed,
)

STATUS: dict[type[LadingError], int] = {
    ExpiredToken: 410,
    InvalidToken: 403,
    TooLarge: 413,
    TypeNotAllowed: 415,
    Refused: 422,
    ObjectNotFound: 404,
    ObjectExists: 409,
    StoreError: 503,
}
"""The nearest of an error's classes decides; what is not here is the application's own fault, and stays a 500."""


def problem(request: Request[Any, Any, Any], error: LadingError) -> Response[dict[str, Any]]:
    """What a client is told; of a store's errors only that there was one, because they name paths and hosts."""
    status = HTTPStatus(next(STATUS[cls] for cls in type(error).__mro__ if cls in STATUS))
    document: dict[str, Any] = {"title": status.phrase, "status": status.value}
    if isinstance(error, Refused):
        document |= {"detail": str(error), "limit": error.limit, "actual": error.actual}
    elif isinstance(error, InvalidToken):
        document["detail"] = str(error)
    return Response(document, status_code=status, media_type="application/problem+json")


def register(config: AppConfig) -> None:
    """Answer lading's errors, where the application has said nothing about them."""
    own = cast("dict[Any, Any]", config.exception_handlers)  # pyright: ignore[reportUnknownMemberType]
    if LadingError not in own:
        config.exception_handlers = {InvalidToken: problem, Refused: problem, StoreError: problem, **own}
