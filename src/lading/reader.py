"""Readers over a stored object: a seekable file for the inline world, and its async twin."""

import io
import os
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class Reader(io.RawIOBase):
    """A stored object as a seekable binary file; reading on goes on with one request, seeking begins another."""

    def __init__(self, chunks: Callable[[int], Iterator[bytes]], size: int) -> None:
        self._open = chunks
        self._size = size
        self._at = 0
        self._stream: Iterator[bytes] | None = None
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        target = _target(offset, whence, self._at, self._size)
        if target != self._at:
            self._at = target
            self._drop()
        return target

    def readinto(self, buffer: "WriteableBuffer") -> int:
        if not self._left:
            if self._at >= self._size:
                return 0
            if self._stream is None:
                self._stream = self._open(self._at)
            self._left = memoryview(next(filter(None, self._stream), b""))  # an empty chunk is no end
        view = memoryview(buffer).cast("B")
        count = min(len(view), len(self._left))
        view[:count] = self._left[:count]
        self._left = self._left[count:]
        self._at += count
        return count

    def close(self) -> None:
        self._drop()
        super().close()

    def _drop(self) -> None:
        self._left = memoryview(b"")
        stream, self._stream = self._stream, None
        close = getattr(stream, "close", None)
        if close is not None:
            close()


class AsyncReader:
    """A stored object as a seekable file whose reads are awaited; an async context manager, and an async iterator of
    chunks.
    """

    def __init__(self, chunks: Callable[[int], AsyncIterator[bytes]], size: int) -> None:
        self._open = chunks
        self._size = size
        self._at = 0
        self._stream: AsyncIterator[bytes] | None = None
        self._left = memoryview(b"")

    async def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, or all that is left where it is negative; `b""` at the end."""
        parts: list[memoryview] = []
        wanted = size if size >= 0 else self._size - self._at
        while wanted > 0 and await self._fill():
            part = self._left[:wanted]
            self._left = self._left[len(part) :]
            self._at += len(part)
            wanted -= len(part)
            parts.append(part)
        return b"".join(parts)

    def tell(self) -> int:
        """Where the next read begins, in bytes from the start."""
        return self._at

    async def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move, as `io.IOBase.seek` does; costs nothing until the next read."""
        target = _target(offset, whence, self._at, self._size)
        if target != self._at:
            self._at = target
            await self.close()
        return target

    async def close(self) -> None:
        """Stop the store's read."""
        self._left = memoryview(b"")
        stream, self._stream = self._stream, None
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while await self._fill():
            chunk, self._left = bytes(self._left), memoryview(b"")
            self._at += len(chunk)
            yield chunk

    async def _fill(self) -> bool:
        if not self._left and self._at < self._size:
            if self._stream is None:
                self._stream = self._open(self._at)
            chunk: bytes | None = b""
            while chunk == b"":  # which is no end
                chunk = await anext(self._stream, None)
            self._left = memoryview(chunk or b"")
        return bool(self._left)


def _target(offset: int, whence: int, at: int, size: int) -> int:
    base = {os.SEEK_SET: 0, os.SEEK_CUR: at, os.SEEK_END: size}.get(whence)
    if base is None:
        raise ValueError(f"whence must be 0, 1 or 2, not {whence}")
    if base + offset < 0:
        raise ValueError(f"cannot seek to {base + offset}, before the beginning")
    return base + offset
