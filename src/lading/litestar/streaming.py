"""Handlers whose files go to the store as they arrive: who is let in, how much may come, and what is left of it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from litestar import Request
from litestar.enums import RequestEncodingType
from litestar.handlers import HTTPRouteHandler
from litestar.params import BodyKwarg
from litestar.types import Empty
from litestar.utils.scope.state import ScopeState

from lading.errors import ConfigurationError, MalformedBody, TooManyUploads
from lading.litestar import raw
from lading.litestar.fields import BESIDES_FILES, Fields, is_limited, limit
from lading.litestar.forms import Form
from lading.litestar.parts import Parts
from lading.litestar.staged import Staged
from lading.policy import ANYTHING, Policy
from lading.receiving import PACE, Admission, Pace, Receive, RequestBody, cost_of, expects, length_of

_MARK = "lading.streaming"

# What Litestar takes for the body of a request: it is to be there, and is never looked at.
_TAKEN = b"null"


class Streaming:
    """Receives the files of the handlers that it is attached to.

    Args:
        admission: how many at a time.
        pace: how slowly a body may come.
        otherwise: asked about files whose column nobody knows, and that go into temporary files.
    """

    def __init__(self, admission: Admission, pace: Pace = PACE, otherwise: Policy = ANYTHING) -> None:
        self.admission = admission
        self.pace = pace
        self.otherwise = otherwise

    def attach(self, handler: HTTPRouteHandler, fields: Fields) -> None:
        """Read a handler's body before Litestar does, behind its guards and the hooks of the application.

        To be called before `bodies.prepare`, which shapes what is read here, and before anybody sets a limit. A second
        time is as good as none, so that several plugins may do it.

        Raises:
            ConfigurationError: the handler wants the bytes of the body besides.
        """
        if not fields.streamed or _MARK in handler.opt:
            return
        wanting = (
            handler.parsed_fn_signature,
            *(d.parsed_fn_signature for d in handler.resolve_dependencies().values()),
        )
        if any("body" in signature.parameters for signature in wanting):
            raise ConfigurationError(
                f"{handler} stores the files of its body as they arrive, and has no `body` besides: do without one, "
                "or without UploadTo"
            )
        handler.opt[_MARK] = True
        bare: Any = handler  # generics without arguments, in Litestar
        hooks = [layer.before_request for layer in bare.ownership_layers if layer.before_request]
        bare.before_request = _Hook(self, handler, fields, hooks[-1] if hooks else None)


class _Hook:
    """What runs before a handler's parameters are made of the request."""

    def __init__(self, streaming: Streaming, handler: HTTPRouteHandler, fields: Fields, first: Any) -> None:
        self._streaming = streaming
        self._fields = fields
        self._first: Callable[[Request[Any, Any, Any]], Awaitable[Any]] | None = first
        self._is_limited = is_limited(handler)
        self._said_limit = _said_limit(handler)
        self._own_limit = self._said_limit if self._is_limited else None
        data = handler.parsed_data_field.kwarg_definition if handler.parsed_data_field is not None else None
        self._parts = data.multipart_form_part_limit if isinstance(data, BodyKwarg) else None

    async def __call__(self, request: Request[Any, Any, Any]) -> Any:
        if self._first is not None and (answer := await self._first(request)):
            return answer
        state = ScopeState.from_scope(request.scope)
        if state.form is not Empty:
            return None  # a middleware or a hook of the application has read it
        read = state.body
        receive, length = (request.receive, _length(request)) if read is Empty else (_again(read), len(read))
        if self._fields.multipart and (length == 0 or "content-type" not in request.headers):
            return None  # Litestar knows what to make of no body
        staged = Staged.of(request.scope)
        try:
            await self._receive(request, receive, state, staged, length)
        except BaseException:
            await staged.remove()
            raise
        request.is_connected = False  # as Litestar says it of a body that it has read: there is no more to wait for
        return None

    async def _receive(
        self,
        request: Request[Any, Any, Any],
        receive: Receive,
        state: ScopeState,
        staged: Staged,
        length: int | None,
    ) -> None:
        waits = expects(request.headers)
        body = RequestBody(receive, length=length, limit=self._limit(), pace=self._streaming.pace, expects=waits)
        try:
            body.check()
            form = self._form(request, body, staged)
            await body.begin()
            async with self._streaming.admission.enter(self._cost(length)):
                if form is not None:
                    state.form = await form.read()
                    return
                assert self._fields.whole is not None
                file = await raw.read(request, body, self._fields.whole)
                if file is not None:
                    staged.add(file)
                state.body, state.json = _TAKEN, file
        except TooManyUploads:
            raise
        except Exception:
            await body.drain()
            raise

    def _form(self, request: Request[Any, Any, Any], body: RequestBody, staged: Staged) -> Form | None:
        """The form that a body is; `None` where it is a file."""
        if not self._fields.multipart:
            raw.check(request)
            return None
        kind, options = request.content_type
        if kind != RequestEncodingType.MULTI_PART:
            raise MalformedBody(f"the body is to be a form, of {RequestEncodingType.MULTI_PART.value}")
        most = request.app.multipart_form_part_limit if self._parts is None else self._parts
        return Form(Parts(body, options.get("boundary"), most), self._fields, staged, self._spool())

    def _cost(self, length: int | None) -> int:
        """Of the most expensive of the files, since they come one after the other."""
        places = [field.policy.place for field in self._fields if field.streamed and field.policy is not None]
        return max(cost_of(place, length) for place in places)

    def _spool(self) -> int | None:
        """Bytes that may go into temporary files: as many as Litestar lets in where nobody has said anything."""
        if self._is_limited:
            return self._own_limit
        by_name = {name: field for name, field in self._fields.by_name.items() if not field.streamed}
        return limit(replace(self._fields, by_name=by_name, whole=None), self._streaming.otherwise) or self._said_limit

    def _limit(self) -> int | None:
        """Of the whole body: what its files may have together, where that is known, and what the application says."""
        spool = 0 if self._fields.raw else self._spool()
        if spool is None:
            return self._own_limit
        total = 0 if self._fields.raw else BESIDES_FILES + spool
        for field in self._fields:
            if not field.streamed:
                continue
            most = field.policy.max_size if field.policy is not None else None
            if field.many or most is None:
                return self._own_limit
            total += most
        return total if self._own_limit is None else min(total, self._own_limit)


def _said_limit(handler: HTTPRouteHandler) -> int | None:
    """What the layer that is nearest to a handler says of its bodies; the application's always says something."""
    said = [getattr(layer, "request_max_body_size", Empty) for layer in handler.ownership_layers]
    found: int | None = next(each for each in reversed(said) if each is not Empty)
    return found


def _length(request: Request[Any, Any, Any]) -> int | None:
    """Of the body as the application gets it: not what is sent where a middleware takes a coding off."""
    return length_of(request.headers) if request.headers.get("content-encoding", "identity") == "identity" else None


def _again(content: bytes) -> Receive:
    """What receives a body that a middleware has read whole, as one that logs it does."""

    async def receive() -> Mapping[str, Any]:
        return {"type": "http.request", "body": content, "more_body": False}

    return receive
