"""The parts of a `multipart/form-data` body (RFC 7578), pulled one by one while the body comes in."""

import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

from multipart import (  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]  # it has no types
    MultipartSegment,
    ParserError,
    ParserLimitReached,
    PushMultipartParser,
)

from lading.errors import MalformedBody, TooLarge
from lading.receiving import CHUNK, RequestBody

# RFC 2046, section 5.1.1: up to 70 characters, the last of them no space.
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]").fullmatch

# Others are slow to decode, or are no charsets; forms are sent in UTF-8 (RFC 7578, section 5.1.2).
_CHARSETS = {"utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin1", "windows-1252"}

_END = object()
_MORE = object()


class Parts:
    """The parts of one body, in their order; nothing is read that nobody has asked for.

    Args:
        body: of the request.
        boundary: what its Content-Type says; `None` where it says nothing.
        most: how many parts it may have.

    Raises, also where it is read:
        MalformedBody: it is no well-formed form.
        TooLarge: it has too many parts, or a part whose header is too long or has too many lines.
    """

    def __init__(self, body: RequestBody, boundary: str | None, most: int) -> None:
        if boundary is None or not _BOUNDARY(boundary):
            raise MalformedBody("the Content-Type of a form has a boundary of 1 to 70 characters")
        self._body = body
        self._most = most
        self._parser = PushMultipartParser(boundary, max_segment_count=most)
        self._events: Iterator[Any] = iter(())
        self._count = 0
        self._outside = 0

    async def next(self) -> MultipartSegment | None:
        """The head of the next part, when the one before has been read to its end; `None` after the last.

        Litestar's parser gives the name `""` to a part that has none.
        """
        event = await self._event()
        if event is _END:
            return None
        assert isinstance(event, MultipartSegment)
        self._count += 1
        if sum(name == "Content-Disposition" for name, _ in event.headerlist) != 1:
            raise MalformedBody("a part of the form has more than one Content-Disposition")
        return event

    async def piece(self) -> bytes:
        """The next bytes of the part, as they come; `b""` at its end, which is to be asked for no more than once."""
        event = await self._event()
        return event if isinstance(event, bytes) else b""

    async def rest(self, first: bytes = b"") -> AsyncIterator[bytes]:
        """The content of the part, behind a piece that was asked for already."""
        piece = first or await self.piece()
        while piece:
            yield piece
            piece = await self.piece()

    async def text(self, part: MultipartSegment, most: int) -> str:
        """The content of a part that is text.

        Raises:
            TooLarge: it has more than `most` bytes.
        """
        content = bytearray()
        async for piece in self.rest():
            content += piece
            if len(content) > most:
                message = f"the field {part.name!r:.80} is too large: text may have {most} bytes"
                raise TooLarge(message, filename="", limit=most, actual=len(content))
        charset = part.charset or "utf-8"
        try:
            if charset.lower() not in _CHARSETS:
                raise MalformedBody(f"the field {part.name!r:.80} is in {charset!r:.40}; forms are in UTF-8")
            return content.decode(charset)
        except UnicodeDecodeError as error:
            raise MalformedBody(f"the field {part.name!r:.80} is not {charset}") from error

    async def _event(self) -> Any:
        """What the parser finds next: the head of a part, bytes of it, `None` at its end, or `_END` at that of all."""
        try:
            while (event := next(self._events, _MORE)) is _MORE:
                chunk = await anext(self._body, b"")
                if not chunk:
                    self._parser.close()
                    return _END
                # What lies before the first part and behind the last one is nobody's, and could go on for ever.
                if self._outside > CHUNK:
                    raise MalformedBody("the form has too much outside of its parts")
                self._outside += len(chunk)
                self._events = self._parser.parse(chunk)
        except ParserLimitReached as error:
            limit = self._most if self._count >= self._most else None
            raise TooLarge(f"the form is too large: {error}", filename="", limit=limit) from error
        except ParserError as error:
            raise MalformedBody(f"the body is no well-formed form: {error}") from error
        self._outside = 0
        return event
