"""How each world calls obstore, and what local disk and the clouds do differently."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import obstore
from obstore.exceptions import BaseError

from lading import worlds
from lading.backends.attributes import described
from lading.backends.local import copy, is_left_by_obstore, left_behind, staged_beside, write
from lading.backends.obstore_body import OutgoingBody, Pipe, StoppableBody
from lading.backends.obstore_driver import Mode, Verbs, Whole
from lading.backends.protocols import Attributes, ObjectInfo
from lading.errors import InvalidPath

if TYPE_CHECKING:
    from obstore import Attributes as Headers
    from obstore import GetOptions, ListStream, ObjectMeta, PutResult

T = TypeVar("T")

CONCURRENCY = 2
"""Parts of one upload that are under way at once; it holds as many parts in memory, and half a part more."""

READ = 2**20
"""Bytes that a stream gathers before it hands them on."""


class Inline(Verbs):
    """obstore's blocking calls."""

    _world = worlds.inline
    _body = OutgoingBody

    async def _put(self, location: str, body: Whole, mode: Mode, headers: "Headers | None") -> "PutResult":
        return obstore.put(self._store, location, body, attributes=headers, mode=mode, use_multipart=False)

    async def _send(self, location: str, body: OutgoingBody, part: int, headers: "Headers | None") -> "PutResult":
        pipe = Pipe()

        def upload() -> "PutResult":
            try:
                return obstore.put(
                    self._store, location, pipe, attributes=headers, chunk_size=part, max_concurrency=CONCURRENCY
                )
            finally:
                pipe.close()

        uploading = self._world.start(upload)
        try:
            async for chunk in body:
                if not pipe.send(chunk):
                    break
            pipe.send(None)
        except BaseException as error:
            pipe.send(error)
        return await uploading

    async def _get(self, location: str) -> bytes:
        return bytes(obstore.get(self._store, location).bytes())

    async def _open(self, location: str, start: int, stop: int | None) -> Any:
        return obstore.get(self._store, location, options=_range(start, stop)).stream(READ)

    async def _next(self, stream: Any) -> bytes:
        return bytes(next(stream, b""))

    async def _head(self, location: str) -> "ObjectMeta":
        return obstore.head(self._store, location)

    async def _describe(self, location: str) -> "Headers":
        return obstore.get(self._store, location, options={"head": True}).attributes

    async def _delete(self, locations: Sequence[str]) -> None:
        obstore.delete(self._store, locations)

    async def _next_page(self, pages: "ListStream[Sequence[ObjectMeta]]") -> "Sequence[ObjectMeta]":
        return next(pages, ())

    async def _copy(self, origin: str, location: str, *, overwrite: bool) -> None:
        obstore.copy(self._store, origin, location, overwrite=overwrite)


class Asyncio(Verbs):
    """obstore's coroutines.

    What writes is never abandoned half-way, since the store may still carry it out: a cancelled caller waits for its
    end, what it made under a new name is deleted, and only then is the cancellation raised.
    """

    _world = worlds.asyncio_world
    _body = StoppableBody

    async def _put(self, location: str, body: Whole, mode: Mode, headers: "Headers | None") -> "PutResult":
        put = obstore.put_async(self._store, location, body, attributes=headers, mode=mode, use_multipart=False)
        return await self._ended(put, location if mode == "create" else None)

    async def _send(self, location: str, body: StoppableBody, part: int, headers: "Headers | None") -> "PutResult":
        put = obstore.put_async(
            self._store, location, body, attributes=headers, chunk_size=part, max_concurrency=CONCURRENCY
        )
        return await self._ended(put, None, body)

    async def _get(self, location: str) -> bytes:
        return bytes(await (await obstore.get_async(self._store, location)).bytes_async())

    async def _open(self, location: str, start: int, stop: int | None) -> Any:
        return (await obstore.get_async(self._store, location, options=_range(start, stop))).stream(READ)

    async def _next(self, stream: Any) -> bytes:
        # A default for `anext` makes CPython 3.11 fail on obstore's iterators.
        try:
            return bytes(await anext(stream))
        except StopAsyncIteration:
            return b""

    async def _head(self, location: str) -> "ObjectMeta":
        return await obstore.head_async(self._store, location)

    async def _describe(self, location: str) -> "Headers":
        return (await obstore.get_async(self._store, location, options={"head": True})).attributes

    async def _delete(self, locations: Sequence[str]) -> None:
        await obstore.delete_async(self._store, locations)

    async def _next_page(self, pages: "ListStream[Sequence[ObjectMeta]]") -> "Sequence[ObjectMeta]":
        try:
            return await anext(pages)
        except StopAsyncIteration:
            return ()

    async def _copy(self, origin: str, location: str, *, overwrite: bool) -> None:
        copy = obstore.copy_async(self._store, origin, location, overwrite=overwrite)
        await self._ended(copy, None if overwrite else location)

    async def _ended(self, call: Awaitable[T], created: str | None, body: StoppableBody | None = None) -> T:
        future = asyncio.ensure_future(call)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError as error:
            if body is not None:
                body.stop()
            await self._world.finish(self._undo(future, created, error))
            raise

    async def _undo(self, future: "asyncio.Future[Any]", created: str | None, error: BaseException) -> None:
        await asyncio.wait([future])
        if created is not None and not future.cancelled() and future.exception() is None:
            await self._release(created, error)


class _Local(Verbs):
    """Local files are read as files, since a stream of obstore's takes several times as long.

    A stream is written aside and linked to its name: to rename it over a reserved one makes ext4 write it out at once.
    """

    async def _create(self, location: str, body: OutgoingBody, part: int, headers: "Headers | None") -> "PutResult":
        staged = staged_beside(location)
        answer = await self._send(staged, body, part, headers)
        try:
            await self._made(location, os.link, f"{self._root}/{staged}", f"{self._root}/{location}")
        finally:
            await self._world.finish(self._delete([staged]))
        return answer

    async def _copy(self, origin: str, location: str, *, overwrite: bool) -> None:
        make = partial(copy, create=not overwrite)
        await self._made(None if overwrite else location, make, f"{self._root}/{origin}", f"{self._root}/{location}")

    async def _made(self, created: str | None, make: Callable[[str, str], None], source: str, target: str) -> None:
        """Make a file of another, to the end: if the caller is cancelled meanwhile, a new name is given up again."""
        try:
            await self._world.finish(self._world.call(make, source, target))
        except asyncio.CancelledError as error:
            if created is not None and error.__cause__ is None:  # else it was not made
                await self._world.finish(self._release(created, error))
            raise

    async def _get(self, location: str) -> bytes:
        return await self._world.call((self._root / location).read_bytes)

    async def _open(self, location: str, start: int, stop: int | None) -> Any:
        opened: list[_Slice] = []
        try:
            # A thread cannot be cancelled: what it opens after that somebody has to close.
            path = self._root / location
            await self._world.finish(self._world.call(lambda: opened.append(_Slice(path, start, stop))))
        except asyncio.CancelledError:
            for each in opened:
                each.file.close()
            raise
        return opened[0]

    async def _next(self, stream: "_Slice") -> bytes:
        return await self._world.call(stream.read)

    def _close(self, stream: "_Slice") -> None:
        stream.file.close()

    async def staged(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        directory = self._root / self._backend.locate_below(prefix)
        try:
            left = await self._world.call(lambda: list(left_behind(str(directory), is_left_by_obstore)))
        except OSError as error:
            raise self._error(error, "list", prefix) from error
        for path, status in left:
            location = Path(path).relative_to(self._root).as_posix()
            yield ObjectInfo(self._backend.relative(location), status.st_size, status.st_mtime)

    async def discard(self, paths: Sequence[str]) -> None:
        files = [self._root / self._locate(path) for path in paths]
        for path in paths:
            if is_left_by_obstore(path) is None:
                raise InvalidPath(path, "no name of what is being written")
        for path, file in zip(paths, files, strict=True):
            try:
                await self._world.call(file.unlink, missing_ok=True)
            except OSError as error:
                raise self._error(error, "delete", path) from error


class _Slice:
    """A range of a local file that is read."""

    def __init__(self, path: Path, start: int, stop: int | None) -> None:
        self.file = path.open("rb", buffering=0)
        self.file.seek(start)
        self._left = stop - start if stop is not None else None

    def read(self) -> bytes:
        chunk = self.file.read(READ if self._left is None else min(READ, self._left))
        if self._left is not None:
            self._left -= len(chunk)
        return chunk


class InlineLocal(_Local, Inline):
    """Local files, blocking."""

    async def _put(self, location: str, body: Whole, mode: Mode, headers: "Headers | None") -> "PutResult":
        etag = write(f"{self._root}/{location}", body, create=mode == "create")
        return {"e_tag": etag, "version": None}


class AsyncioLocal(_Local, Asyncio):
    """Local files, in threads where obstore is not faster; it is where many are written at once."""


class _Describing(Verbs):
    """A store that keeps attributes: memory, S3, Google and Azure."""

    async def attributes(self, path: str) -> Attributes:
        location = self._locate(path)
        try:
            return described(await self._describe(location))
        except (BaseError, OSError) as error:
            raise self._error(error, "look at", path) from error


class _InOrder(Verbs):
    """A store that lists in the order of the bytes: memory, and as documented S3, Google and Azure.

    Not so S3's directory buckets, and Azure where it has a hierarchical namespace.
    """

    def list_in_order(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectInfo]:
        return self._list(prefix, self._backend.locate_after(after) if after else None)


class _Memory(_Describing, _InOrder):
    """Memory: obstore streams an object as one chunk, which nobody should have to copy, or to send, at once."""

    async def _next(self, stream: "_Held") -> bytes:
        return stream.read()


class _Held:
    """An object in memory that is read."""

    def __init__(self, content: "obstore.Bytes") -> None:
        self._left = memoryview(content)

    def read(self) -> bytes:
        chunk, self._left = bytes(self._left[:READ]), self._left[READ:]
        return chunk


class InlineMemory(_Memory, Inline):
    """Memory, blocking."""

    async def _open(self, location: str, start: int, stop: int | None) -> _Held:
        return _Held(obstore.get(self._store, location, options=_range(start, stop)).bytes())


class AsyncioMemory(_Memory, Asyncio):
    """Memory, in coroutines."""

    async def _open(self, location: str, start: int, stop: int | None) -> _Held:
        answer = await obstore.get_async(self._store, location, options=_range(start, stop))
        return _Held(await answer.bytes_async())


class InlineCloud(_Describing, _InOrder, Inline):
    """A store that honours signed URLs, blocking."""

    async def sign(self, path: str, *, method: str, expires_in: int) -> str:
        location = self._locate(path)
        try:
            return obstore.sign(cast("Any", self._store), cast("Any", method), location, timedelta(seconds=expires_in))
        except (BaseError, OSError) as error:
            raise self._error(error, "sign", path) from error


class AsyncioCloud(_Describing, _InOrder, Asyncio):
    """A store that honours signed URLs, in coroutines."""

    async def sign(self, path: str, *, method: str, expires_in: int) -> str:
        location = self._locate(path)
        lifetime = timedelta(seconds=expires_in)
        try:
            return await obstore.sign_async(cast("Any", self._store), cast("Any", method), location, lifetime)
        except (BaseError, OSError) as error:
            raise self._error(error, "sign", path) from error


def _range(start: int, stop: int | None) -> "GetOptions":
    if stop is not None:
        return {"range": (start, stop)}
    return {"range": {"offset": start}} if start else {}
