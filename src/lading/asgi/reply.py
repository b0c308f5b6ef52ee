"""What is answered to one request, on its way out; and what ASGI calls things (version 3.0)."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from http import HTTPStatus
from typing import Any, TypeAlias

from lading.errors import LadingError, SlowBody, StoreError
from lading.problems import Problem, problem_of

log = logging.getLogger("lading")

# Frameworks type these each in a way of their own, and none of the types fits another.
Scope: TypeAlias = Any
Receive: TypeAlias = Callable[[], Awaitable[Any]]
Send: TypeAlias = Callable[[Any], Awaitable[None]]


class Reply:
    """An answer, as an ASGI application that gives it once.

    It takes the next piece when the server has taken the last one, so it never holds more than one; a client that stops
    reading stops the reading of the store, and one that goes away ends it.

    Args:
        status: of HTTP.
        headers: names in lower case; the length of the body is among them where there are pieces.
        body: all of it, or the first piece.
        pieces: gives what comes after, and is closed at the end, whatever that is.
        length: of the body in bytes, where there are pieces.

    Attributes:
        status, headers: as given; headers may be added.
    """

    def __init__(
        self,
        status: int,
        headers: Iterable[tuple[str, str]],
        body: bytes = b"",
        pieces: AsyncGenerator[bytes, None] | None = None,
        *,
        length: int | None = None,
    ) -> None:
        self.status = status
        self.headers = list(headers)
        self._body = body
        self._pieces = pieces
        self._length = len(body) if length is None else length

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in self.headers]
        try:
            await send({"type": "http.response.start", "status": self.status, "headers": headers})
            await self._send_body(receive, send)
        finally:
            if self._pieces is not None:
                await self._pieces.aclose()

    async def _send_body(self, receive: Receive, send: Send) -> None:
        if self._pieces is None or self._length <= len(self._body):
            await send({"type": "http.response.body", "body": self._body})
            return
        left, piece = self._length, self._body
        client = _Client(receive)
        try:
            while True:
                left -= len(piece)
                message = {"type": "http.response.body", "body": piece, "more_body": left > 0}
                if not await client.takes(send(message)) or left <= 0:
                    return
                # Not cancelled when the client goes away: a thread that reads a file would go on with a closed one.
                piece = await anext(self._pieces)
        finally:
            await client.close()


class _Client:
    """Whoever is answered, for as long as they are there. Servers take what is sent to nobody without a word."""

    def __init__(self, receive: Receive) -> None:
        self._gone = asyncio.ensure_future(_disconnect(receive))
        self._gone.add_done_callback(self._interrupt)
        self._sending: asyncio.Timeout | None = None

    async def takes(self, sending: Awaitable[None]) -> bool:
        """Wait until something is sent, or the client has gone away; whether they are there."""
        try:
            async with asyncio.timeout(None) as self._sending:
                await sending
        except TimeoutError:
            if not self._gone.done():
                raise
        finally:
            self._sending = None
        if self._gone.done():
            self._gone.result()
            return False
        return True

    async def close(self) -> None:
        """Stop listening."""
        if not self._gone.done():
            self._gone.cancel()
            await asyncio.wait([self._gone])

    def _interrupt(self, _: object) -> None:
        if self._sending is not None:
            self._sending.reschedule(asyncio.get_running_loop().time())


async def _disconnect(receive: Receive) -> None:
    """Wait until the client goes away; for ever where nobody tells.

    A middleware that has read the body may give it again whenever it is asked, without waiting for anything: to go on
    asking would leave the event loop to nobody else.
    """
    over = False
    while (message := await receive())["type"] != "http.disconnect":
        if over:
            await asyncio.Event().wait()
        over = not message.get("more_body", False)


class Application(ABC):
    """What answers a request with a `Reply`, and lading's errors with problem documents (RFC 9457)."""

    @abstractmethod
    async def respond(self, scope: Scope, receive: Receive) -> Reply:
        """The reply to a request; an object that is missing shows here, before anything is sent.

        Raises:
            LadingError: the request is refused, or the store failed.
        """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            reply = await self.respond(scope, receive)
        except LadingError as error:
            problem = answer_to(error)
            if problem is None:
                raise
            reply = refusal(scope, problem, closing(scope, error))
        await reply(scope, receive, send)


def answer_to(error: LadingError) -> Problem | None:
    """What a client is told of an error, as `problem_of` has it; a store's failure is logged, since it tells nobody."""
    problem = problem_of(error)
    if problem is not None and problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        of_store = {"backend": error.backend, "path": error.path} if isinstance(error, StoreError) else {}
        log.error("a request was answered with %d: %s", problem.status, error, exc_info=error, extra=of_store)
    return problem


def closing(scope: Scope, error: LadingError) -> list[tuple[str, str]]:
    """The header that ends the connection of who is too slow (RFC 9110, section 15.5.9), which HTTP/2 has no more."""
    is_slow = isinstance(error, SlowBody) and scope.get("http_version", "").startswith("1")
    return [("connection", "close")] if is_slow else []


def refusal(scope: Scope, problem: Problem, headers: Iterable[tuple[str, str]] = ()) -> Reply:
    """A problem document as a reply."""
    document = problem.encode()
    length = ("content-length", str(len(document)))
    body = b"" if scope["method"] == "HEAD" else document
    return Reply(problem.status, [*problem.headers.items(), length, *headers], body)


def plain_refusal(scope: Scope, status: HTTPStatus, headers: Iterable[tuple[str, str]] = ()) -> Reply:
    """A status that says all there is to say, as a problem document (RFC 9457, section 4.2.1)."""
    return refusal(scope, Problem(type="about:blank", title=status.phrase, status=status.value), headers)


def headers_of(scope: Scope) -> dict[str, str]:
    """The headers of a request, names in lower case; several of one name joined (RFC 9110, section 5.2)."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers
