"""Content on its way in: where the bytes come from, whether they can be read again, and the one pass over them.

A `Source` says where; an `Intake` is one reading of it, which peeks, counts, hashes and enforces the limit.
"""

import hashlib
import io
import os
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from typing import IO, Protocol, TypeAlias, cast, runtime_checkable

from lading.errors import SourceError
from lading.worlds import World, inline

Chunk: TypeAlias = bytes | memoryview
CHUNK = 1024 * 1024
"""Bytes read from a file or handed to a store at a time."""

_THREAD_FROM = 256 * 1024
"""A chunk of this size takes longer to hash (sha256: 1 ms/MiB) than an event loop should stand still."""

_HASHED_AT_ONCE = 4 * CHUNK
"""To hand work to a thread costs as much as to hash a few hundred KiB."""


class HasFile(Protocol):
    """A web framework's upload: Litestar's and Starlette's `UploadFile` keep what they received in `file`."""

    @property
    def file(self) -> IO[bytes]: ...


Content: TypeAlias = (
    bytes | bytearray | memoryview | os.PathLike[str] | IO[bytes] | HasFile | Iterable[bytes] | AsyncIterable[bytes]
)
"""Whatever a file's content may be given as."""

Progress: TypeAlias = Callable[[int, int | None], object]
"""Told `(bytes_done, total)` as bytes are handed to the store; `total` is `None` where nobody knows it."""


@runtime_checkable
class Source(Protocol):
    """Where content comes from."""

    @property
    def size(self) -> int | None:
        """In bytes, where it is known before reading."""
        ...

    @property
    def rereadable(self) -> bool:
        """Whether `chunks` may be asked for again."""
        ...

    def chunks(self, world: World) -> AsyncIterator[Chunk]:
        """The content from its beginning; raises `SourceError` where it was read already and cannot be again."""
        ...


def source_of(content: Content) -> Source:
    """The source that reads `content`.

    A file object that can seek is read from its beginning, wherever it stands: a validator that looked at it must not
    make us store half a file. One that cannot seek is read from where it stands. It is never closed here.

    An async iterable is read by the `_async` verbs and under an `AsyncSession` only.

    Raises:
        SourceError: it is text, a closed file, or nothing that bytes can be read from.
    """
    if isinstance(content, bytes | bytearray | memoryview):
        return BytesSource(cast("bytes | bytearray | memoryview", content))
    if isinstance(content, str):
        raise SourceError("content is text: encode it, or name a file with source_path=")
    if isinstance(content, io.TextIOBase):
        raise SourceError("content is a file of text; open it in binary mode")
    if isinstance(content, os.PathLike):
        return PathSource(content)
    if callable(getattr(content, "read", None)) and not _reads_async(content):
        return FileSource(cast("IO[bytes]", content))
    if callable(getattr(getattr(content, "file", None), "read", None)):
        return FileSource(cast("HasFile", content).file)
    if isinstance(content, AsyncIterable | Iterable):
        return IterableSource(cast("Iterable[bytes] | AsyncIterable[bytes]", content))
    raise SourceError(f"cannot read bytes from {type(content).__name__}")


def _reads_async(content: object) -> bool:
    code = getattr(getattr(content, "read", None), "__code__", None)
    return code is not None and bool(code.co_flags & 0x80)  # inspect.CO_COROUTINE, without importing inspect


class BytesSource:
    """Bytes in memory; a `bytearray` is copied, since its owner may change it before they are stored.

    A `memoryview` is there to save a copy: what it shows must stay the same until then.
    """

    rereadable = True

    def __init__(self, content: bytes | bytearray | memoryview) -> None:
        self._content: Chunk = content if isinstance(content, bytes) else _flat(content)
        self.size = len(self._content)

    async def chunks(self, world: World) -> AsyncIterator[Chunk]:
        if self.size <= CHUNK:
            yield self._content
            return
        view = memoryview(self._content)
        for start in range(0, self.size, CHUNK):
            yield view[start : start + CHUNK]


def _flat(content: bytearray | memoryview) -> Chunk:
    if isinstance(content, bytearray):
        return bytes(content)
    return content.cast("B") if content.c_contiguous else content.tobytes()


class PathSource:
    """A file on the local disk; opened for each reading, closed by it."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)

    @property
    def size(self) -> int | None:
        try:
            return self._path.stat().st_size if self._path.is_file() else None
        except OSError:
            return None

    @property
    def rereadable(self) -> bool:
        """A named pipe is not: to open it once more would wait for somebody to write."""
        return self.size is not None

    async def chunks(self, world: World) -> AsyncIterator[Chunk]:
        try:
            file = await world.call(self._path.open, "rb")
        except OSError as error:
            raise SourceError(f"cannot read {str(self._path)!r}: {error.strerror}") from error
        with file:
            async for chunk in _read(file, world):
                yield chunk


class FileSource:
    """A binary file object: real, in memory, spooled, or a pipe."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._read = False
        self._check_open()
        seekable = getattr(file, "seekable", None)
        self.rereadable = bool(seekable()) if callable(seekable) else hasattr(file, "seek")

    @property
    def size(self) -> int | None:
        """Measured now: its owner may have written more since it was given to us."""
        if not self.rereadable or self._is_closed:
            return None
        here = self._file.tell()
        size = self._file.seek(0, os.SEEK_END)
        self._file.seek(here)
        return size

    @property
    def _is_closed(self) -> bool:
        return bool(getattr(self._file, "closed", False))

    def _check_open(self) -> None:
        if self._is_closed:
            raise SourceError("the file object given as content is closed")

    async def chunks(self, world: World) -> AsyncIterator[Chunk]:
        self._check_open()
        if self.rereadable:
            await world.call(self._file.seek, 0)
        elif self._read:
            raise SourceError("the file object given as content cannot seek, and was read already")
        self._read = True
        async for chunk in _read(self._file, world):
            yield chunk


async def _read(file: IO[bytes], world: World) -> AsyncIterator[Chunk]:
    # What is no bytes is no end either: a non-blocking file reads `None` while there is nothing yet
    while chunk := _bytes(await world.call(file.read, CHUNK)):
        yield chunk


class IterableSource:
    """An iterable or async iterable of bytes; one that is its own iterator can be read only once."""

    size = None

    def __init__(self, items: Iterable[bytes] | AsyncIterable[bytes]) -> None:
        self._items = items
        self._read = False
        self.rereadable = not (hasattr(items, "__next__") or hasattr(items, "__anext__"))

    async def chunks(self, world: World) -> AsyncIterator[Chunk]:
        # One that does not wait would do, but then whether it works would hang on the network, say
        if world is inline and isinstance(self._items, AsyncIterable):
            raise SourceError("content is an async iterable: store it by save_async(), or under an AsyncSession")
        if self._read and not self.rereadable:
            raise SourceError(
                "the iterator given as content was read already; give a list, or a file, to read it again"
            )
        self._read = True
        if isinstance(self._items, AsyncIterable):
            async for item in self._items:
                yield _bytes(item)
        else:
            # next() of a foreign iterable may block: a generator over a socket, say
            iterator = iter(self._items)
            pull: Callable[[], object] = partial(next, iterator, _END)
            while (piece := await world.call(pull)) is not _END:
                yield _bytes(piece)


_END = object()


def _bytes(item: object) -> bytes:
    if isinstance(item, bytes):
        return item
    if isinstance(item, bytearray | memoryview):
        return bytes(cast("memoryview", item))  # whoever yields a buffer may fill it anew for the next item
    hint = "; open the file in binary mode" if isinstance(item, str) else ""
    raise SourceError(f"content is made of bytes, not of {type(item).__name__}{hint}")


class _Hashes(Protocol):
    """What `hashlib` makes."""

    def update(self, data: Chunk, /) -> None: ...


class Intake:
    """One reading of a source: peeked at, then handed on whole or as a stream, counted and hashed on the way.

    Args:
        source: what is read.
        world: where.
        algorithm: a name of `hashlib`, or `None` for no checksum.
        check: called with the bytes counted so far; raises to cut the stream.
        on_progress: told as bytes are handed on.
    """

    def __init__(
        self,
        source: Source,
        world: World,
        *,
        algorithm: str | None,
        check: Callable[[int], None],
        on_progress: Progress | None = None,
    ) -> None:
        self.size = 0
        self.total = source.size
        self._world = world
        self._chunks = source.chunks(world)
        self._algorithm = algorithm
        self._hash = hashlib.new(algorithm, usedforsecurity=False) if algorithm else None
        self._hashing: Awaitable[None] | None = None
        self._unhashed: list[Chunk] = []
        self._ahead_of_hash = 0
        self._check = check
        self._on_progress = on_progress
        self._ahead: list[Chunk] = []
        self._ended = False

    async def head(self, length: int) -> Chunk:
        """Up to `length` leading bytes, all there are where there are fewer; none of them is lost."""
        await self._fill(length)
        first = self._ahead[0] if self._ahead else b""
        if len(first) < length and len(self._ahead) > 1:
            first = b"".join(self._ahead)
        return first[:length]

    async def body(self, threshold: int) -> "Chunk | AsyncIterator[Chunk]":
        """The content: whole where it is no longer than `threshold` bytes, else as a stream; to be asked for once."""
        await self._fill(threshold + 1)
        if not self._ended:
            return self._stream()
        return self._ahead[0] if len(self._ahead) == 1 else b"".join(self._ahead)

    def checksum(self) -> str | None:
        """`"<algorithm>:<hex>"` of everything that was read."""
        return f"{self._algorithm}:{self._hash.hexdigest()}" if self._hash is not None else None

    def progress(self, done: int) -> None:
        """Tell the caller how far it is."""
        if self._on_progress is not None:
            self._on_progress(done, self.size if self._ended else self.total)

    async def close(self) -> None:
        """Let go of the source, wherever the reading stands."""
        await self._hashed()
        close = None if self._ended else getattr(self._chunks, "aclose", None)
        if close is not None:
            await close()

    async def _fill(self, length: int) -> None:
        """Read ahead until `length` bytes are held, which until the stream begins are all that were read."""
        if self._ended or self.size >= length:
            return
        async for chunk in self._chunks:
            await self._take(chunk)
            self._ahead.append(chunk)
            if self.size >= length:
                return
        await self._end()

    async def _take(self, chunk: Chunk) -> None:
        """Count, check and hash a chunk: several at once in a thread, while the next are read and stored.

        Under `inline` nothing is gained by a thread.
        """
        self.size += len(chunk)
        self._check(self.size)
        if self._hash is None:
            return
        if self._world is inline:
            self._hash.update(chunk)
            return
        self._unhashed.append(chunk)
        self._ahead_of_hash += len(chunk)
        if self._ahead_of_hash >= _HASHED_AT_ONCE:
            await self._hash_on(self._hash)

    async def _hash_on(self, hashed: "_Hashes") -> None:
        """Begin to hash what has gathered, when what was before is done."""
        await self._hashed()
        chunks, size = self._unhashed, self._ahead_of_hash
        self._unhashed, self._ahead_of_hash = [], 0
        if size < _THREAD_FROM:
            _update(hashed, chunks)
        else:
            self._hashing = self._world.start(_update, hashed, chunks)

    async def _hashed(self) -> None:
        hashing, self._hashing = self._hashing, None
        if hashing is not None:
            await hashing

    async def _end(self) -> None:
        """All has been read: wait until it is hashed, too."""
        if self._hash is not None:
            await self._hash_on(self._hash)
        await self._hashed()
        self._ended = True

    async def _stream(self) -> AsyncIterator[Chunk]:
        done = 0
        for chunk in self._ahead:
            yield chunk
            done += len(chunk)
            self.progress(done)
        self._ahead.clear()
        async for chunk in self._chunks:
            await self._take(chunk)
            yield chunk
            done += len(chunk)
            self.progress(done)
        await self._end()


def _update(hashed: "_Hashes", chunks: Iterable[Chunk]) -> None:
    for chunk in chunks:
        hashed.update(chunk)
