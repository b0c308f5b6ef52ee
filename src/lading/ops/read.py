"""Looking at a stored object: reading it, finding it, and holding it against its record."""

import hashlib

import msgspec

from lading.backends.protocols import ObjectInfo, StorageBackend
from lading.errors import IntegrityFailure, ObjectNotFound, RecordError
from lading.ops.retry import Retrying
from lading.record import FileRecord
from lading.worlds import World


async def exists(backend: StorageBackend, path: str, world: World) -> bool:
    """Whether an object lies at that path."""
    try:
        await Retrying(backend, world).head(path)
    except ObjectNotFound:
        return False
    return True


async def size_of(backend: StorageBackend, record: FileRecord, world: World) -> int:
    """The size in bytes, from the record, or else from the store."""
    return record.size if record.size is not None else (await Retrying(backend, world).head(record.path)).size


async def read_range(backend: StorageBackend, path: str, start: int, stop: int | None, world: World) -> bytes:
    """The bytes from `start` up to but without `stop`; fewer where the object ends before."""
    return b"".join([chunk async for chunk in Retrying(backend, world).read(path, start, stop)])


async def adopt(backend: StorageBackend, record: FileRecord, world: World) -> FileRecord:
    """The record of an object that lies in a store already, completed by what the store says.

    Raises:
        ObjectNotFound: nothing lies there.
        IntegrityFailure: what lies there has another size or etag than the record says.
    """
    info = await Retrying(backend, world).head(record.path)
    _compare(record, "size", record.size, info.size)
    _compare(record, "etag", record.etag, info.etag)
    return msgspec.structs.replace(
        record,
        size=info.size,
        etag=info.etag,
        last_modified=record.last_modified if record.last_modified is not None else info.last_modified,
        version_id=record.version_id or info.version_id,
    )


async def verify(backend: StorageBackend, record: FileRecord, world: World) -> ObjectInfo:
    """Hold an object against its record: size, and checksum where it has one, which reads all of it.

    Raises:
        ObjectNotFound: nothing lies there.
        IntegrityFailure: the object is not the one that the record describes.
        RecordError: its checksum is of no algorithm that `hashlib` has here.
    """
    algorithm = _algorithm(record)
    driver = Retrying(backend, world)
    info = await driver.head(record.path)
    _compare(record, "size", record.size, info.size)
    if algorithm is not None:
        digest = hashlib.new(algorithm, usedforsecurity=False)
        async for chunk in driver.read(record.path):
            await world.call(digest.update, chunk)
        _compare(record, "checksum", record.checksum, f"{algorithm}:{digest.hexdigest()}")
    return info


def _algorithm(record: FileRecord) -> str | None:
    if record.checksum is None:
        return None
    algorithm = record.checksum.partition(":")[0]
    try:
        hashlib.new(algorithm, usedforsecurity=False).hexdigest()
    except (TypeError, ValueError) as error:  # TypeError: a shake, of a length that nobody wrote down
        raise RecordError(f"the checksum of {record.path!r} is of no known kind: {record.checksum!r:.80}") from error
    return algorithm


def _compare(record: FileRecord, what: str, expected: object, actual: object) -> None:
    if expected is not None and actual is not None and expected != actual:
        raise IntegrityFailure(
            f"the object at {record.path!r} in {record.backend!r} has the {what} {actual}, not {expected}",
            backend=record.backend,
            path=record.path,
            expected=expected,
            actual=actual,
        )
