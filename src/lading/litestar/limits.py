"""How large a body may be that Litestar reads: as large as the files that it is for."""

from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from litestar.handlers import HTTPRouteHandler
from litestar.status_codes import HTTP_413_REQUEST_ENTITY_TOO_LARGE

from lading.errors import TooLarge
from lading.litestar import problems
from lading.litestar.fields import Fields, is_limited, limit
from lading.policy import ANYTHING, Policy

_KINDS = (RequestEntityTooLarge, HTTP_413_REQUEST_ENTITY_TOO_LARGE, HTTPException)
"""What an application answers itself that answers a body that is too large."""


def apply(handler: HTTPRouteHandler, fields: Fields, otherwise: Policy = ANYTHING) -> None:
    """Give a handler that limit, where no layer of the application sets `request_max_body_size`.

    Where nothing says how large the files may be, Litestar's own limit stays. It may be called again, when more
    backends are registered.
    """
    bare: Any = handler  # generics without arguments, in Litestar
    if not any(kind in bare.resolve_exception_handlers() for kind in _KINDS):
        bare.exception_handlers = {**(bare.exception_handlers or {}), RequestEntityTooLarge: answer}
    if not is_limited(handler) and (most := limit(fields, otherwise)) is not None:
        handler.request_max_body_size = most


def answer(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """The problem document for a body that Litestar has cut."""
    handler: HTTPRouteHandler = request.scope["route_handler"]  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]  # a handler of HTTP
    most = handler.resolve_request_max_body_size()
    return problems.answer(
        request, TooLarge(f"the request has more than the {most} bytes that are taken here", filename="", limit=most)
    )
