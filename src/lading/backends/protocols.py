"""What a backend is: a named place for bytes with a driver for each world, and one small protocol per capability.

Paths are relative to the backend, `/` between segments, and have passed `lading.paths.guard`. Foreign errors never
leave a driver: it raises `lading.errors.StoreError` and its children, or lets an error of the body it reads pass
through as it is.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

import msgspec

from lading.media import Trust
from lading.paths import PathMaker
from lading.record import Disposition, FileRecord
from lading.rules import Rule
from lading.worlds import World

Body = bytes | bytearray | memoryview | AsyncIterator[bytes | memoryview]
"""Content on its way to a store: whole where it is small, else a stream of chunks that is read once."""


class Stored(msgspec.Struct, frozen=True):
    """What a store answers to a put."""

    etag: str | None = None
    version_id: str | None = None


class ObjectInfo(msgspec.Struct, frozen=True):
    """What a store knows of an object: `size` in bytes, `last_modified` in seconds since the epoch, UTC."""

    path: str
    size: int
    last_modified: float
    etag: str | None = None
    version_id: str | None = None


class Attributes(msgspec.Struct, frozen=True):
    """What travels with an object where a store keeps such things, and is dropped where it does not."""

    content_type: str | None = None
    content_disposition: str | None = None
    metadata: Mapping[str, str] = {}


@runtime_checkable
class Driver(Protocol):
    """The verbs that every backend has, in one world."""

    async def put(self, path: str, body: Body, *, size: int | None, overwrite: bool, attributes: Attributes) -> Stored:
        """Store an object, whole or not at all.

        Args:
            path: where.
            body: the bytes; a stream may raise, and then no object and no part of one is left.
            size: the length in bytes where it is known beforehand.
            overwrite: whether an object at that path may be replaced.
            attributes: what is to travel with the object.

        Raises:
            ObjectExists: something lies there and `overwrite` is false; it is untouched.
            StoreError: the store failed; whether the object is there is then unknown.
        """
        ...

    async def get(self, path: str) -> bytes:
        """The whole object. Raises `ObjectNotFound`."""
        ...

    def read(self, path: str, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `start` up to but without `stop`, in chunks; `stop` past the end, or none, reads to the end.

        Closing the iterator stops the store's read. Raises `ObjectNotFound` with the first chunk.
        """
        ...

    async def head(self, path: str) -> ObjectInfo:
        """What the store knows of an object. Raises `ObjectNotFound`."""
        ...

    async def delete(self, paths: Sequence[str]) -> None:
        """Delete objects; one that is not there is no error."""
        ...

    def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        """The objects below a prefix of whole segments, as a stream, in no promised order."""
        ...


@runtime_checkable
class Copies(Protocol):
    """A driver whose store copies an object by itself."""

    async def copy(self, source: str, target: str, *, overwrite: bool = False) -> None:
        """Copy an object within the store, with its attributes. Raises `ObjectNotFound`, `ObjectExists`."""
        ...


@runtime_checkable
class Signs(Protocol):
    """A driver whose store honours signed URLs.

    What else a store takes on a request that has one differs: see `lading.uploads.is_kept_to`.
    """

    async def sign(self, path: str, *, method: str, expires_in: int) -> str:
        """A URL that allows one HTTP method (`"GET"` or `"PUT"`) on one object for `expires_in` seconds."""
        ...


@runtime_checkable
class Describes(Protocol):
    """A driver whose store keeps attributes with its objects, and tells them."""

    async def attributes(self, path: str) -> Attributes:
        """What travels with an object. Raises `ObjectNotFound`.

        Whoever may put to the store by a signed URL may have set it. Stores name a content type where none was given,
        and may spell the names of metadata in lower case. `Cache-Control`, `Content-Encoding` and `Content-Language`,
        which lading never sets, are among the metadata under these names.
        """
        ...


@runtime_checkable
class ListsInOrder(Protocol):
    """A driver whose store lists objects in the order of their paths."""

    def list_in_order(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectInfo]:
        """What `list` gives, in the order of the UTF-8 bytes of the paths, and only what comes after a path."""
        ...


@runtime_checkable
class Stages(Protocol):
    """A driver that writes objects aside until they are whole, where `list` does not see them.

    What a killed process was writing stays there.
    """

    def staged(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        """What lies aside below a prefix of whole segments, under names that only `discard` takes."""
        ...

    async def discard(self, paths: Sequence[str]) -> None:
        """Delete what lies aside; what is not there is no error, and what is no such name raises `InvalidPath`."""
        ...


Place: TypeAlias = tuple[str, str]
"""A store, in words that are the same for all who use it, and what lies before every path there, without a `/`."""


@runtime_checkable
class Located(Protocol):
    """A backend that can say whether objects of another one are its own, too; also under another key, or nested."""

    @property
    def place(self) -> Place:
        """Where its objects lie. Two of one store count as one, also where they may be of different servers."""
        ...


@runtime_checkable
class StorageBackend(Protocol):
    """A named place for bytes: what a registry holds and a `FileObject` refers to by key."""

    @property
    def key(self) -> str:
        """The name under which rows remember this place; never to be changed while rows name it."""
        ...

    @property
    def protocol(self) -> str:
        """The kind of store: `"memory"`, `"file"`, `"s3"`, `"gs"`, `"az"`, ...; for people to read."""
        ...

    @property
    def rules(self) -> Sequence[Rule]:
        """What is asked of every file that is stored here, before the rules of the column."""
        ...

    @property
    def path_maker(self) -> PathMaker | None:
        """What names new objects here; `None` leaves it to the column, or else to `lading.paths.fresh`."""
        ...

    @property
    def trust(self) -> Trust:
        """What decides the content type when bytes, name and claim disagree; see `lading.media.detect`."""
        ...

    @property
    def checksum(self) -> str | None:
        """The algorithm of `hashlib` that checksums are made with; `None` for none."""
        ...

    @property
    def chunk_size(self) -> int:
        """Bytes up to which content is put whole, in one request; longer content is streamed in parts of this size."""
        ...

    def driver(self, world: World) -> Driver:
        """The verbs for that world; cheap to ask for again and again."""
        ...


LONGEST = 7 * 24 * 3600
"""Seconds that a signed URL may be good for: S3 and GCS honour no signature for longer."""


@runtime_checkable
class Signer(Protocol):
    """Signs URLs that the application itself serves: what a web integration gives to a registry."""

    @property
    def longest(self) -> int:
        """Seconds that a signed URL may be good for, one of a store too; what is above `LONGEST` counts as that."""
        ...

    @property
    def always(self) -> bool:
        """Whether it signs for stores that honour signed URLs, too; else it does where theirs would not do."""
        ...

    def sign(
        self,
        record: FileRecord,
        *,
        expires_in: int,
        filename: str | None = None,
        disposition: Disposition | None = None,
        content_type: str | None = None,
    ) -> str:
        """A URL that reads the object for `expires_in` seconds.

        Args:
            record: of the file.
            expires_in: from 1 to `longest`.
            filename: instead of the record's.
            disposition: instead of what the type leads to; what a browser would run is an attachment all the same.
            content_type: instead of the record's.
        """
        ...

    def sign_put(self, record: FileRecord, *, expires_in: int) -> str:
        """A URL to which the object may be `PUT` for `expires_in` seconds."""
        ...
