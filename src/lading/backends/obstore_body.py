"""Bodies on their way into obstore, which reads them from inside its own runtime."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from threading import Condition
from typing import Any

Chunk = bytes | memoryview


class OutgoingBody:
    """A body on its way through obstore: remembers what it raised, which is none of the store's errors."""

    def __init__(self, chunks: AsyncIterator[Chunk]) -> None:
        self.error: BaseException | None = None
        self._chunks = chunks

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self

    async def __anext__(self) -> Chunk:
        try:
            return await anext(self._chunks)
        except StopAsyncIteration:
            raise
        except BaseException as error:
            self.error = error
            raise

    async def aclose(self) -> None:
        close = getattr(self._chunks, "aclose", None)
        if close is not None:
            await close()


class StoppableBody(OutgoingBody):
    """One that a cancelled upload can stop from outside, so that obstore aborts the multipart upload.

    obstore reads each chunk in a task of its own. Cancelling its future instead would leave the parts in the store.
    """

    _stopped = False
    _reader: "asyncio.Task[Any] | None" = None

    async def __anext__(self) -> Chunk:
        if self._stopped:
            raise asyncio.CancelledError
        self._reader = asyncio.current_task()
        try:
            return await super().__anext__()
        finally:
            self._reader = None

    def stop(self) -> None:
        self._stopped = True
        if self._reader is not None:
            self._reader.cancel()


class Pipe:
    """Hands chunks, one at a time, from the thread that reads a body to the one in which obstore uploads them.

    obstore asks an iterator for its next chunk while its runtime blocks the thread, and panics when what it asks uses
    obstore in that same thread: a copy from one store into another does, and so may any generator of a user's.
    """

    def __init__(self) -> None:
        self._turn = Condition()
        self._held: list[Chunk | BaseException | None] = []
        self._closed = False

    def send(self, item: Chunk | BaseException | None) -> bool:
        """Hand over a chunk, an error to be raised there, or `None` for the end; false when nobody reads any more."""
        with self._turn:
            self._turn.wait_for(lambda: not self._held or self._closed)
            if not self._closed:
                self._held.append(item)
                self._turn.notify_all()
            return not self._closed

    def close(self) -> None:
        """Nobody reads any more."""
        with self._turn:
            self._closed = True
            self._turn.notify_all()

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        with self._turn:
            self._turn.wait_for(lambda: self._held)
            item = self._held.pop()
            self._turn.notify_all()
        if item is None:
            raise StopIteration
        if isinstance(item, BaseException):
            raise item
        return item
