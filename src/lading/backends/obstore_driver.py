"""The verbs of obstore's stores, over the calls that each world makes in its own way."""

import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from lading.backends.attributes import header, user_metadata
from lading.backends.base import (
    LOST,
    Backend,
    codes_in,
    explained,
    is_lost_upload,
    is_missing_bucket,
    is_unavailable,
    summary,
)
from lading.backends.local import is_staged, sync
from lading.backends.obstore_body import OutgoingBody
from lading.backends.protocols import Attributes, Body, ObjectInfo, Stored
from lading.errors import AccessDenied, ObjectExists, ObjectNotFound, StoreError, StoreUnavailable
from lading.worlds import World

if TYPE_CHECKING:
    from obstore import Attributes as Headers
    from obstore import ListStream, ObjectMeta, PutResult
    from obstore.store import ObjectStore

Mode = Literal["create", "overwrite"]
Whole: TypeAlias = bytes | bytearray | memoryview


# In its first line obstore says of a request that it was sent again, and of one that was not answered, or not wholly.
_SENT_AGAIN = re.compile(r" in [\d.]+[nµm]?s, after \d+ retries, ")
_UNANSWERED = re.compile(r"HTTP error: (?:error sending request|request or response body error)")


class Verbs(ABC):
    """The verbs, over the calls of one world that the children make."""

    _world: World
    _body: type[OutgoingBody]

    def __init__(self, backend: Backend, store: "ObjectStore", *, fsync: bool) -> None:
        self._backend = backend
        self._store = store
        self._fsync = fsync
        self._root: Path = getattr(store, "prefix", None) or Path("/")  # of local files
        self._locate = backend.locate

    async def put(self, path: str, body: Body, *, size: int | None, overwrite: bool, attributes: Attributes) -> Stored:
        location = self._locate(path)
        mode: Mode = "overwrite" if overwrite else "create"
        headers = self._headers(attributes)
        stream = None
        try:
            if isinstance(body, (bytes, bytearray, memoryview)):
                answer = await self._put(location, body, mode, headers)
            else:
                stream = self._body(body)
                answer = await self._put_stream(location, stream, size, mode, headers)
            if self._fsync:
                await self._flush(location)
        except (BaseError, OSError) as error:
            if stream is None or stream.error is None:
                raise self._error(error, "store", path) from error
            if error is not stream.error:  # of the attempt to let go of what was sent
                stream.error.add_note(f"what was sent of {path!r} may stay: {summary(error)}")
            raise stream.error  # noqa: B904  # the body's own, as it is
        return Stored(answer["e_tag"] or None, answer["version"])

    async def get(self, path: str) -> bytes:
        location = self._locate(path)
        try:
            return await self._get(location)
        except (BaseError, OSError) as error:
            raise self._error(error, "read", path) from error

    async def read(self, path: str, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        if start < 0:
            raise ValueError(f"a range starts at 0 or later, not at {start}")
        location = self._locate(path)
        if stop is not None and stop <= start:
            await self.head(path)
            return
        try:
            stream = await self._open(location, start, stop)
        except (BaseError, OSError) as error:
            failure = self._error(error, "read", path)
            # Stores refuse a range that starts past the end, each in its own words.
            known = self._is_missing(error) or isinstance(failure, StoreUnavailable)
            if start == 0 or known or start < (await self.head(path)).size:
                raise failure from error
            return
        try:
            while chunk := await self._next(stream):
                yield chunk
        except (BaseError, OSError) as error:
            raise self._error(error, "read", path) from error
        finally:
            self._close(stream)

    async def head(self, path: str) -> ObjectInfo:
        location = self._locate(path)
        try:
            return _info(path, await self._head(location))
        except (BaseError, OSError) as error:
            raise self._error(error, "look at", path) from error

    async def delete(self, paths: Sequence[str]) -> None:
        locations = [self._locate(path) for path in paths]
        if not locations:
            return
        try:
            try:
                await self._delete(locations)
            except (BaseError, OSError) as error:
                if not self._is_missing(error):
                    raise
                # Local disk, GCS and Azure stop at the first that is missing, and say it of a missing bucket too.
                await self._world.each(self._delete_one, locations, limit=10)
        except (BaseError, OSError) as error:
            raise self._error(error, "delete", paths[0]) from error

    async def _delete_one(self, location: str) -> None:
        try:
            await self._delete([location])
        except (BaseError, OSError) as error:
            if not self._is_missing(error) or is_missing_bucket(error):
                raise

    def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        return self._list(prefix, None)

    async def _list(self, prefix: str, after: str | None) -> AsyncIterator[ObjectInfo]:
        location = self._backend.locate_below(prefix)
        # pyarrow's stubs, which one of the overloads names, are not installed.
        pages = obstore.list(  # pyright: ignore[reportUnknownMemberType]
            self._store, location or None, offset=after, chunk_size=1000
        )
        try:
            while page := await self._next_page(pages):
                for meta in page:
                    if not is_staged(meta["path"]):
                        yield _info(self._backend.relative(meta["path"]), meta)
        except (BaseError, OSError) as error:
            raise self._error(error, "list", prefix) from error

    async def copy(self, source: str, target: str, *, overwrite: bool = False) -> None:
        origin, location = self._locate(source), self._locate(target)
        try:
            if overwrite or self._backend.protocol != "s3":
                await self._copy(origin, location, overwrite=overwrite)
            else:
                await self._put(location, b"", "create", None)
                try:
                    await self._copy(origin, location, overwrite=True)
                except BaseException as error:
                    await self._world.finish(self._release(location, error))
                    raise
            if self._fsync:
                await self._flush(location)
        except (BaseError, OSError) as error:
            blamed = source if self._is_missing(error) else target
            raise self._error(error, "copy", blamed) from error

    async def _put_stream(
        self, location: str, body: OutgoingBody, size: int | None, mode: Mode, headers: "Headers | None"
    ) -> "PutResult":
        part = self._backend.part_size(size)
        try:
            if mode == "overwrite":
                return await self._send(location, body, part, headers)
            return await self._create(location, body, part, headers)
        finally:
            await body.aclose()

    async def _create(self, location: str, body: OutgoingBody, part: int, headers: "Headers | None") -> "PutResult":
        await self._put(location, b"", "create", None)
        try:
            return await self._send(location, body, part, headers)
        except BaseException as error:
            await self._world.finish(self._release(location, error))
            raise

    async def _release(self, location: str, error: BaseException) -> None:
        """Delete the empty object that reserved a name, after `error`, which stays the one that is raised."""
        try:
            await self._delete([location])
        except FileNotFoundError:
            pass
        except (BaseError, OSError) as left:
            error.add_note(f"an empty object stays at {location!r}, since it could not be deleted: {summary(left)}")

    async def _flush(self, location: str) -> None:
        await self._world.call(sync, self._root / location, self._root)

    def _headers(self, attributes: Attributes) -> "Headers | None":
        if self._backend.protocol == "file":  # LocalStore raises NotImplementedError
            return None
        headers: Headers = {**user_metadata(attributes.metadata, self._backend.protocol)}
        if content_type := header(attributes.content_type):
            headers["Content-Type"] = content_type
        if disposition := header(attributes.content_disposition):
            headers["Content-Disposition"] = disposition
        return headers or None

    def _is_missing(self, error: BaseException) -> bool:
        if isinstance(error, (FileNotFoundError, IsADirectoryError, NotADirectoryError)):
            return True
        # What obstore says of a path below a file, where other stores have no such thing.
        said = str(error).partition("\n")[0]
        return self._backend.protocol == "file" and said.endswith("Not a directory (os error 20)")

    def _error(self, error: BaseException, verb: str, path: str) -> StoreError:
        kind, reason, codes = StoreError, "", codes_in(str(error))
        if is_lost_upload(codes):
            kind, reason = StoreUnavailable, LOST
        elif self._is_missing(error):
            if is_missing_bucket(error) or verb in ("store", "delete", "list"):
                reason = "its bucket or directory is not there"
            else:
                kind, reason = ObjectNotFound, "nothing lies there"
        elif isinstance(error, (AlreadyExistsError, PreconditionError, FileExistsError)):
            kind, reason = ObjectExists, "something lies there already"
            if _SENT_AGAIN.search(str(error).partition("\n")[0]):  # that may be what it had sent before
                kind, reason = StoreUnavailable, LOST
        elif isinstance(error, (PermissionDeniedError, UnauthenticatedError, PermissionError)):
            kind = AccessDenied
        elif _UNANSWERED.search(str(error)) or is_unavailable(error, codes):
            kind = StoreUnavailable
        return explained(error, kind, verb=verb, backend=self._backend.key, path=path, reason=reason)

    # What each world does in its own way.

    @abstractmethod
    async def _put(self, location: str, body: Whole, mode: Mode, headers: "Headers | None") -> "PutResult": ...

    @abstractmethod
    async def _send(self, location: str, body: Any, part: int, headers: "Headers | None") -> "PutResult": ...

    @abstractmethod
    async def _get(self, location: str) -> bytes: ...

    @abstractmethod
    async def _open(self, location: str, start: int, stop: int | None) -> Any: ...

    @abstractmethod
    async def _next(self, stream: Any) -> bytes: ...

    @abstractmethod
    async def _head(self, location: str) -> "ObjectMeta": ...

    @abstractmethod
    async def _describe(self, location: str) -> "Headers": ...

    @abstractmethod
    async def _delete(self, locations: Sequence[str]) -> None: ...

    @abstractmethod
    async def _next_page(self, pages: "ListStream[Sequence[ObjectMeta]]") -> "Sequence[ObjectMeta]": ...

    @abstractmethod
    async def _copy(self, origin: str, location: str, *, overwrite: bool) -> None: ...

    def _close(self, stream: Any) -> None:  # noqa: B027  # most have nothing to do
        """Stop a read; obstore stops one when nothing refers to its stream any more."""


def _info(path: str, meta: "ObjectMeta") -> ObjectInfo:
    return ObjectInfo(path, meta["size"], meta["last_modified"].timestamp(), meta["e_tag"] or None, meta["version"])
