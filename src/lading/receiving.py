"""A request's body on its way in, of any ASGI application: at its own pace, counted, cut, and never many at once."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from lading.errors import ClientGone, ConfigurationError, MalformedBody, SlowBody, TooLarge, TooManyUploads

if TYPE_CHECKING:
    from lading.backends.protocols import StorageBackend

Receive: TypeAlias = Callable[[], Awaitable[Mapping[str, Any]]]
"""What ASGI calls `receive`."""

CHUNK = 2**20
"""Bytes of a body that are handed on at a time."""

FIRST = 64 * 1024
"""Bytes of a body, or all of it, that have come before it takes part in anything; servers keep as many for each."""

_PARTS = 3.5
"""Parts that one streamed upload may hold: one is read ahead, two are under way, and half of one is being filled."""

_CHUNKS = 4 * CHUNK
"""Bytes on their way from the socket to a part."""


class Pace(msgspec.Struct, frozen=True):
    """How slowly a body may come: what `RequestReadTimeout body=30,MinRate=4096` is to Apache (mod_reqtimeout).

    Only the time counts in which the client is waited for: where the store is slow, the client may be.

    Attributes:
        timeout: seconds for the first bytes, and for the next at any time.
        rate: bytes a second; as many bytes as came divided by it are seconds that the body may take besides.
    """

    timeout: float = 30.0
    rate: float = 4096.0

    def __post_init__(self) -> None:
        if not (self.timeout > 0 and self.rate > 0):
            raise ConfigurationError(f"a pace is seconds and bytes a second, both above 0, not {self!r}")


PACE = Pace()
"""For those who say nothing."""


_PIECES = 1024
"""Pieces of a chunk that are kept apart: a client may send two bytes at a time, which take forty in memory each."""


class RequestBody:
    """The body of one request, read once: an async iterator of chunks of about 1 MiB.

    It reads when it is asked to and holds no more than the chunk that it gathers, so whatever takes the chunks slowly
    slows the client down.

    Args:
        receive: of the request.
        length: of the body in bytes, as Content-Length says it; `None` where it says nothing.
        limit: how many bytes the body may have; `None` for any number.
        pace: how slowly it may come.
        expects: whether the client waits to be asked for it (`Expect: 100-continue`; RFC 9110, section 10.1.1).

    Raises (where it is iterated, and by `begin`):
        TooLarge: it is longer than `limit`, or says that it is: then before anything is read.
        MalformedBody: it is shorter or longer than `length` (RFC 9112, section 6.3).
        SlowBody: it comes more slowly than allowed.
        ClientGone: the client went away.
    """

    def __init__(
        self,
        receive: Receive,
        *,
        length: int | None = None,
        limit: int | None = None,
        pace: Pace = PACE,
        expects: bool = False,
    ) -> None:
        self.received = 0
        self.length = length
        self.limit = limit
        self._receive = receive
        self._pace = pace
        self._expects = expects
        self._held = b""
        self._waited = 0.0
        self._timed = 0.0
        self._ended = False

    def __aiter__(self) -> "RequestBody":
        return self

    async def __anext__(self) -> bytes:
        chunk = await self._gather(CHUNK)
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def begin(self) -> None:
        """Wait for its first 64 KiB, or its end, and keep them for who iterates it.

        To be awaited before `Admission.enter`: a client that has sent no more than a header then takes nobody's place.
        """
        self._held = await self._gather(FIRST)

    async def _gather(self, least: int) -> bytes:
        """The next bytes, no fewer than `least` but at the end."""
        gathered, self._held = [self._held], b""
        size = len(gathered[0])
        if self._ended or size >= least:
            return gathered[0]
        self.check()
        begun = self._timed = monotonic()
        try:
            async with asyncio.timeout(self._left()) as timer:
                while size < least and not self._ended:
                    data = await self._next()
                    size += len(data)
                    gathered.append(data)
                    if len(gathered) == _PIECES:
                        gathered = [b"".join(gathered)]
                    begun = self._came(begun, timer)
        except TimeoutError:
            self._waited += monotonic() - begun
            self._ended = True
            raise self._too_slow() from None
        return b"".join(gathered)

    def check(self) -> None:
        """Refuse a body that says of itself that it is too large, before anything of it is read. Raises `TooLarge`."""
        self._check(self.length or 0)

    async def drain(self, size: int = CHUNK, seconds: float = 1.0) -> None:
        """Read what is left, and forget it, where it is no more than `size` bytes and comes in time.

        To be awaited before a refusal is sent: a connection that is closed while bytes lie unread in it is reset, and a
        reset may overtake the answer (RFC 9112, section 9.6). Where more is left nothing helps that the client would
        not do by itself; uvicorn reads on without us, and curl, httpx and Chromium read the answer while they send.
        Who waits to be asked for the body is not asked for it now.
        """
        if self._expects or (self.length is not None and self.length - self.received > size):
            return
        until = self.received + size
        try:
            async with asyncio.timeout(seconds):
                while not self._ended and self.received < until:
                    event = await self._receive()
                    self.received += len(event.get("body", b""))
                    self._ended = not event.get("more_body", False)
        except TimeoutError:
            self._ended = True

    def _check(self, size: int) -> None:
        if self.limit is not None and size > self.limit:
            message = f"the body is too large: {size} bytes are more than the {self.limit} allowed"
            raise TooLarge(message, filename="", limit=self.limit, actual=size)

    async def _next(self) -> bytes:
        """The bytes of the next event."""
        self._expects = False  # to receive is to ask
        event = await self._receive()
        if event["type"] == "http.disconnect":
            self._ended = True
            raise ClientGone(f"the client went away after {self.received} bytes")
        self._ended = not event.get("more_body", False)
        data: bytes = event.get("body", b"")
        self.received += len(data)
        self._check(self.received)
        if self.length is not None:
            if self._ended and self.received < self.length:
                raise MalformedBody(f"the body ends after {self.received} of {self.length} bytes")
            if self.received > self.length:
                raise MalformedBody(f"the body goes on after the {self.length} bytes that it was to have")
        return data

    def _came(self, begun: float, timer: asyncio.Timeout) -> float:
        """An event has come that was waited for since `begun`; there is time for the next again.

        The timer is set anew now and then: for each event that would cost more than to copy it.
        """
        now = monotonic()
        self._waited += now - begun
        if now - self._timed > self._pace.timeout / 100:
            self._timed = now
            timer.reschedule(asyncio.get_running_loop().time() + self._left())
        return now

    def _left(self) -> float:
        """Seconds for the next event."""
        pace = self._pace
        return min(pace.timeout, pace.timeout + self.received / pace.rate - self._waited)

    def _too_slow(self) -> SlowBody:
        message = f"the body comes too slowly: {self.received} bytes in {self._waited:.1f} s"
        return SlowBody(message, limit=self._pace.rate, actual=self.received, seconds=self._waited)


def check_whole(headers: Mapping[str, str]) -> None:
    """Refuse the part of a file, which would be taken for all of it (RFC 9110, section 14.5). Raises `MalformedBody`.

    Args:
        headers: of the request, names in lower case or no matter how.
    """
    if "content-range" in headers:
        raise MalformedBody("a part of a file cannot be sent alone; send all of it, without Content-Range")


def length_of(headers: Mapping[str, str]) -> int | None:
    """What `Content-Length` says (RFC 9110, section 8.6); `None` where it says nothing. Raises `MalformedBody`."""
    said = headers.get("content-length")
    if said is None:
        return None
    if not (said.isascii() and said.isdigit() and len(said) < 20):
        raise MalformedBody(f"Content-Length is a number of bytes, not {said!r:.40}")
    return int(said)


def expects(headers: Mapping[str, str]) -> bool:
    """Whether a client waits to be asked for the body."""
    return headers.get("expect", "").lower() == "100-continue"


class Admission:
    """How many uploads one process receives at once, and how much memory they may hold together.

    Who is too many waits, unread, so that the client waits too; in the order in which they came. It belongs to one
    event loop.

    Args:
        uploads: at the same time.
        memory: bytes that they may hold together, as far as lading can tell; one upload is always let in.
        wait: seconds that one waits at most.
    """

    def __init__(self, uploads: int = 32, memory: int = 256 * 2**20, wait: float = 5.0) -> None:
        if uploads < 1 or memory < 1 or wait < 0:
            raise ConfigurationError("an admission lets in at least one upload, with some memory, in no negative time")
        self.uploads = 0
        self.memory = 0
        self._most_uploads = uploads
        self._most_memory = memory
        self._wait = wait
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def enter(self, cost: int) -> AsyncGenerator[None, None]:
        """Be let in, as one upload that may hold `cost` bytes; see `cost_of`.

        Raises:
            TooManyUploads: there was no room for it in time.
        """
        cost = min(cost, self._most_memory)
        await self._admit(cost)
        try:
            yield
        finally:
            self._leave(cost)

    async def _admit(self, cost: int) -> None:
        if not self._waiting and self._fits(cost):
            self._take(cost)
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((cost, turn))
        try:
            await asyncio.wait([turn], timeout=self._wait)
        except asyncio.CancelledError:
            if turn.done():
                self._leave(cost)
            else:
                self._give_up(cost, turn)
            raise
        if not turn.done():
            by_number = self.uploads >= self._most_uploads
            self._give_up(cost, turn)
            raise TooManyUploads(
                "too many uploads at the same time; try again soon",
                limit=self._most_uploads if by_number else self._most_memory,
                retry_after=max(1, round(self._wait)),
            )

    def _fits(self, cost: int) -> bool:
        return self.uploads < self._most_uploads and self.memory + cost <= self._most_memory

    def _take(self, cost: int) -> None:
        self.uploads += 1
        self.memory += cost

    def _leave(self, cost: int) -> None:
        self.uploads -= 1
        self.memory -= cost
        self._call()

    def _give_up(self, cost: int, turn: "asyncio.Future[None]") -> None:
        """Leave the queue; who stood behind may fit."""
        self._waiting.remove((cost, turn))
        self._call()

    def _call(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            cost, turn = self._waiting.popleft()
            self._take(cost)
            turn.set_result(None)


def cost_of(backend: "StorageBackend", length: int | None = None) -> int:
    """How many bytes of memory one upload into a backend may hold; `length` is what its body says that it has."""
    most = int(_PARTS * backend.chunk_size) + _CHUNKS
    return most if length is None else min(most, 2 * length + CHUNK)
