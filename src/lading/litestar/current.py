"""The request that is being answered, for what Litestar tells nothing of it: type decoders."""

from contextvars import ContextVar
from typing import Any

from litestar.connection import ASGIConnection
from litestar.types import ASGIApp, Receive, Scope, Send

_scope: ContextVar[Scope | None] = ContextVar("lading.litestar.current", default=None)


def connection() -> ASGIConnection[Any, Any, Any, Any] | None:
    """The connection that is being answered here, with what middleware and guards have put into its scope."""
    scope = _scope.get()
    return None if scope is None else ASGIConnection[Any, Any, Any, Any](scope)


def remembering(app: ASGIApp) -> ASGIApp:
    """A middleware that makes `connection` know."""

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        token = _scope.set(scope)
        try:
            await app(scope, receive, send)
        finally:
            _scope.reset(token)

    return handle
