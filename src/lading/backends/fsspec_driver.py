"""The verbs of a filesystem of fsspec, in either world."""

# fsspec has no types.
# pyright: reportMissingTypeStubs=false

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, ParamSpec, TypeVar, cast

from fsspec import AbstractFileSystem

from lading import clock
from lading.backends.base import LOST, Backend, explained, is_lost_upload, is_missing_bucket, is_unavailable, summary
from lading.backends.fsspec_upload import Upload, described, upload_to
from lading.backends.local import is_staged, left_behind
from lading.backends.protocols import Attributes, Body, ObjectInfo, Stored
from lading.errors import (
    AccessDenied,
    InvalidPath,
    LadingError,
    NotSupported,
    ObjectExists,
    ObjectNotFound,
    StoreError,
    StoreUnavailable,
)
from lading.worlds import World

P = ParamSpec("P")
T = TypeVar("T")

_MISSING = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "modified", "created")
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound"}
_CONFLICTS = {"PreconditionFailed", "ConditionalRequestConflict", "412"}
_DENIALS = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "401", "403"}


class FSSpecDriver:
    """Blocking calls of a filesystem, made where the world makes such calls."""

    def __init__(self, backend: Backend, fs: AbstractFileSystem, world: World, *, fsync: bool) -> None:
        self._backend = backend
        self._fs: Any = fs
        self._world = world
        self._synced_below = (backend.prefix or "/") if fsync else None
        # These take the end of a path for a version, and would then store or read another object.
        by_generation = backend.protocol == "gs" and getattr(fs, "version_aware", False)
        self._marks = ("#", "?") if by_generation else ("?versionid=",)

    async def put(self, path: str, body: Body, *, size: int | None, overwrite: bool, attributes: Attributes) -> Stored:
        upload = self._upload(path, size, overwrite, attributes)
        try:
            if isinstance(body, (bytes, bytearray, memoryview)):
                return await self._surely("store", path, upload.put, body)
            async for chunk in body:
                await self._surely("store", path, upload.write, chunk)
            return await self._surely("store", path, upload.close)
        except BaseException as error:
            await self._discard(upload, path, error)
            raise
        finally:
            close = getattr(body, "aclose", None)
            if close is not None:
                await close()

    async def get(self, path: str) -> bytes:
        return bytes(await self._call("read", path, self._fs.cat_file, self._locate(path)))

    async def read(self, path: str, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        if start < 0:
            raise ValueError(f"a range starts at 0 or later, not at {start}")
        location = self._locate(path)
        size = (await self.head(path)).size
        stop = size if stop is None else min(stop, size)
        while start < stop:
            end = min(start + self._backend.chunk_size, stop)
            chunk = await self._call("read", path, self._fs.cat_file, location, start=start, end=end)
            if not chunk:
                raise self._error(EOFError(f"it ends at {start}, not at {size}"), "read", path)
            yield bytes(chunk)
            start += len(chunk)

    async def head(self, path: str) -> ObjectInfo:
        info = await self._call("look at", path, self._info, self._locate(path))
        return _described(path, info)

    async def delete(self, paths: Sequence[str]) -> None:
        located = [(path, self._locate(path)) for path in paths]
        await self._world.each(self._delete, located, limit=8)

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        location = self._backend.locate_below(prefix)
        for path, info in await self._call("list", prefix, self._find, location):
            yield _described(path, info)

    async def copy(self, source: str, target: str, *, overwrite: bool = False) -> None:
        origin = self._locate(source)
        upload = self._upload(target, None, overwrite, Attributes())
        try:
            await self._surely("copy", source, upload.copy, origin)
        except BaseException as error:
            await self._discard(upload, target, error)
            raise

    def _locate(self, path: str) -> str:
        location = self._backend.locate(path)
        for mark in self._marks:
            if mark in path.lower():
                raise InvalidPath(path, f"the filesystem takes what follows {mark!r} for a version")
        return location

    def _upload(self, path: str, size: int | None, overwrite: bool, attributes: Attributes) -> Upload:
        return upload_to(
            self._fs,
            self._locate(path),
            protocol=self._backend.protocol,
            create=not overwrite,
            part_size=self._backend.part_size(size),
            attributes=attributes,
            synced_below=self._synced_below,
        )

    async def _discard(self, upload: Upload, path: str, error: BaseException) -> None:
        try:
            await self._surely("discard", path, upload.discard)
        except StoreError as left:
            error.add_note(f"what was stored of it stays: {left}")

    async def _delete(self, located: tuple[str, str]) -> None:
        path, location = located
        try:
            await self._call("delete", path, self._fs.rm_file, location)
        except ObjectNotFound:
            pass

    def _info(self, location: str) -> Mapping[str, Any]:
        self._fs.invalidate_cache(location)
        info: Mapping[str, Any] = self._fs.info(location)
        if info["type"] != "file":
            raise FileNotFoundError(location)
        if info["size"] is None:
            raise OSError("the filesystem does not know its size")
        return info

    def _find(self, location: str) -> Sequence[tuple[str, Mapping[str, Any]]]:
        self._fs.invalidate_cache(location)
        return list(self._found(location))

    def _found(self, location: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        below = f"{location.rstrip('/')}/" if location else ""
        for name, info in self._fs.find(location, detail=True).items():
            # Filesystems differ in whether the names they list begin with `/`.
            name = f"/{name.lstrip('/')}" if location.startswith("/") else name.lstrip("/")
            if name.startswith(below) and info["type"] == "file" and not is_staged(name):
                yield self._backend.relative(name), info

    async def _call(self, verb: str, path: str, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await self._world.call(function, *args, **kwargs)
        except LadingError:
            raise
        except Exception as error:  # filesystems raise whatever their libraries do
            raise self._error(error, verb, path) from error

    async def _surely(self, verb: str, path: str, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call what writes: a thread cannot be cancelled, so a cancelled caller waits for its end."""
        return await self._world.finish(self._call(verb, path, function, *args, **kwargs))

    def _error(self, error: Exception, verb: str, path: str) -> StoreError:
        kind, reason, codes = StoreError, "", _codes(error)
        if is_lost_upload(codes):
            kind, reason = StoreUnavailable, LOST
        elif isinstance(error, _MISSING):
            if codes & _NO_BUCKET or is_missing_bucket(error) or verb in ("store", "list"):
                reason = "its bucket or directory is not there"
            else:
                kind, reason = ObjectNotFound, "nothing lies there"
        elif isinstance(error, FileExistsError) or codes & _CONFLICTS:
            kind, reason = ObjectExists, "something lies there already"
        elif isinstance(error, PermissionError) or codes & _DENIALS:
            kind, reason = AccessDenied, summary(error)
        elif is_unavailable(error, codes):
            kind = StoreUnavailable
        return explained(error, kind, verb=verb, backend=self._backend.key, path=path, reason=reason)


class LocalDriver(FSSpecDriver):
    """The driver of local files, which are written aside."""

    async def staged(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        directory = self._backend.locate_below(prefix)
        left = await self._call("list", prefix, lambda: list(left_behind(directory, is_staged)))
        for path, status in left:
            yield ObjectInfo(self._backend.relative(path), status.st_size, status.st_mtime)

    async def discard(self, paths: Sequence[str]) -> None:
        located = [(path, self._locate(path)) for path in paths]
        for path in paths:
            if is_staged(path) is None:
                raise InvalidPath(path, "no name of what is being written")
        for each in located:
            await self._delete(each)


class SigningDriver(FSSpecDriver):
    """The driver of a filesystem whose store honours signed URLs."""

    async def sign(self, path: str, *, method: str, expires_in: int) -> str:
        location = self._locate(path)
        options: dict[str, str] = {}
        if self._backend.protocol == "s3" and method == "PUT":
            options = {"client_method": "put_object"}
        elif self._backend.protocol == "gs":
            options = {"method": method, "version": "v4"}
        elif method != "GET":
            raise NotSupported(f"backend {self._backend.key!r}: this filesystem signs only reads")
        return str(await self._call("sign", path, self._fs.sign, location, expiration=expires_in, **options))


def _described(path: str, info: Mapping[str, Any]) -> ObjectInfo:
    stored = described(info)
    return ObjectInfo(path, info["size"], _modified(info), stored.etag, stored.version_id)


def _modified(info: Mapping[str, Any]) -> float:
    """When an object was stored; now, where the filesystem does not say, so that nothing looks old that may be new."""
    for name in _TIMES:
        value = info.get(name)
        if isinstance(value, str) and value:
            value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, (int, float)):
            return float(value)
    return clock.now()


def _codes(error: BaseException | None) -> set[str]:
    """What the library below the filesystem calls the error: botocore's code and status, those of Google and Azure."""
    codes: set[str] = set()
    while error is not None:
        response: Any = getattr(error, "response", None)
        if isinstance(response, dict):
            answer = cast("dict[str, Any]", response)
            codes.add(str(answer.get("Error", {}).get("Code")))
            codes.add(str(answer.get("ResponseMetadata", {}).get("HTTPStatusCode")))
        codes.update(str(getattr(error, name, "")) for name in ("code", "status", "status_code", "error_code"))
        error = error.__cause__
    return codes
