"""Storing a file: sniff, check, name, put, describe."""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec

from lading import media, paths, rules
from lading.backends.protocols import Attributes, Copies, Driver, StorageBackend
from lading.errors import IntegrityFailure, ObjectExists, StoreError
from lading.paths import PathMaker
from lading.record import Candidate, FileRecord
from lading.rules import Rule
from lading.serving import content_disposition
from lading.source import Chunk, Intake, Progress, Source
from lading.worlds import World


class Draft(msgspec.Struct, kw_only=True):
    """A file that is not stored yet, as its caller described it.

    Attributes:
        filename: what the user called it, sanitised.
        claim: the content type that somebody claims.
        to_filename: a path set by hand.
        metadata: what the application attaches.
        source: the content; `None` until somebody gives it.
        storing: whether it is being stored: twice at once would leave an object that nobody names.
    """

    filename: str
    claim: str | None = None
    to_filename: str | None = None
    metadata: dict[str, Any] = {}
    source: Source | None = None
    storing: bool = False


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What the column that a file goes to asks of it, besides what the backend asks of all.

    Attributes:
        rules: run after those of the backend.
        path_maker: names the object; `None` leaves it to the backend, and that to `lading.paths.fresh`.
    """

    rules: Sequence[Rule] = ()
    path_maker: PathMaker | None = None


class StoredSource:
    """The content of an object that lies in a store already: what a copy is made from."""

    rereadable = True

    def __init__(self, backend: StorageBackend, record: FileRecord) -> None:
        self.backend = backend
        self.record = record
        self.size = record.size

    def chunks(self, world: World) -> AsyncIterator[Chunk]:
        return self.backend.driver(world).read(self.record.path)


ANYTHING = Policy()


async def save(
    draft: Draft,
    source: Source,
    backend: StorageBackend,
    world: World,
    *,
    policy: Policy = ANYTHING,
    overwrite: bool = False,
    on_progress: Progress | None = None,
) -> FileRecord:
    """Store a draft and describe what was stored; one request where the content fits into one part.

    Raises:
        Refused: a rule said no; nothing was stored.
        SourceError: the content could not be read; nothing was stored.
        ObjectExists: the path was not a fresh one, and something lies there.
        IntegrityFailure: a copy is not what the record of its original says; it was deleted.
        StoreError: the store failed. What it may have kept is deleted where the path can only be ours, else left alone.
    """
    driver = backend.driver(world)
    asked = (*backend.rules, *policy.rules)
    if isinstance(source, StoredSource) and source.backend is backend and isinstance(driver, Copies):
        return await _copy(draft, source.record, backend, driver, world, asked, policy)
    limit = rules.size_limit(asked)

    def cut(size: int) -> None:
        if limit is not None and size > limit:
            rules.max_size(limit)(Candidate(draft.filename, "", size))

    intake = Intake(source, world, algorithm=backend.checksum, check=cut, on_progress=on_progress)
    try:
        head = await intake.head(media.SNIFF)
        content_type = media.detect(head, filename=draft.filename, claim=draft.claim, trust=backend.trust)
        body = await intake.body(backend.chunk_size)
        size = source.size if isinstance(body, AsyncIterator) else intake.size
        candidate = Candidate(draft.filename, content_type, size, draft.metadata, paths.token())
        rules.check(asked, candidate)
        if isinstance(body, AsyncIterator):
            body = _judged(body, lambda: rules.check(asked, msgspec.structs.replace(candidate, size=intake.size)))
        path = _name(draft, candidate, backend, policy)
        attributes = Attributes(content_type, content_disposition(draft.filename, content_type), draft.metadata)
        ours = candidate.token in path and not overwrite
        try:
            stored = await driver.put(path, body, size=size, overwrite=overwrite, attributes=attributes)
            ours = not overwrite
            checksum = intake.checksum()
            if isinstance(source, StoredSource):
                _same(source.record, intake.size, checksum)
            intake.progress(intake.size)
        except BaseException as error:
            if ours:
                await _leave_nothing(driver, path, world, error)
            raise
    finally:
        await intake.close()
    return FileRecord(
        backend=backend.key,
        path=path,
        filename=draft.filename,
        content_type=content_type,
        size=intake.size,
        last_modified=time.time(),
        checksum=checksum,
        etag=stored.etag,
        version_id=stored.version_id,
        metadata=draft.metadata,
    )


def judge(record: FileRecord, policy: Policy) -> None:
    """Ask the rules of a column about a file that was stored before it came there. Raises `Refused`."""
    rules.check(policy.rules, Candidate(record.filename, record.content_type, record.size, record.metadata))


async def _copy(
    draft: Draft,
    record: FileRecord,
    backend: StorageBackend,
    driver: Copies,
    world: World,
    asked: Sequence[Rule],
    policy: Policy,
) -> FileRecord:
    """Let the store copy an object that it holds, and look at the copy."""
    candidate = Candidate(draft.filename, record.content_type, record.size, draft.metadata, paths.token())
    rules.check(asked, candidate)
    path = _name(draft, candidate, backend, policy)
    verbs = backend.driver(world)
    ours = candidate.token in path
    try:
        await driver.copy(record.path, path)
        ours = True
        info = await verbs.head(path)
        _same(record, info.size, None)
        if record.size is None:
            rules.check(asked, msgspec.structs.replace(candidate, size=info.size))
    except BaseException as error:
        if ours:
            await _leave_nothing(verbs, path, world, error)
        raise
    return msgspec.structs.replace(
        record,
        backend=backend.key,
        path=path,
        filename=draft.filename,
        size=info.size,
        last_modified=info.last_modified,
        etag=info.etag,
        version_id=info.version_id,
        metadata=draft.metadata,
    )


def _name(draft: Draft, candidate: Candidate, backend: StorageBackend, policy: Policy) -> str:
    """Where the object will lie: where the caller said, or else where the nearest path maker says."""
    make = policy.path_maker or backend.path_maker or paths.fresh
    return paths.guard(draft.to_filename or make(candidate))


def _same(record: FileRecord, size: int, checksum: str | None) -> None:
    """Refuse a copy that is not what the record of its original says."""
    for expected, actual in ((record.size, size), (record.checksum, checksum)):
        if None not in (expected, actual) and expected != actual and _comparable(expected, actual):
            raise IntegrityFailure(
                f"the object at {record.path!r} is not the one its record describes: {actual}, not {expected}",
                backend=record.backend,
                path=record.path,
                expected=expected,
                actual=actual,
            )


def _comparable(expected: object, actual: object) -> bool:
    """Two sizes are; two checksums are where they were made by one algorithm."""
    return not isinstance(expected, str) or expected.partition(":")[0] == str(actual).partition(":")[0]


async def _judged(body: AsyncIterator[Chunk], judge: Callable[[], None]) -> AsyncIterator[Chunk]:
    """A stream that is judged at its end, when its size is known and the store has not been told that it is over."""
    async for chunk in body:
        yield chunk
    judge()


async def _leave_nothing(driver: Driver, path: str, world: World, error: BaseException) -> None:
    """Delete what a put that failed with `error` may have left at a path that can be nobody else's.

    A path that was set by hand may hold another's object: where a create-only put of it fails, whether ours or theirs
    came first is not known. Once such a put has succeeded it is ours.
    """
    if isinstance(error, ObjectExists):
        return
    try:
        await world.finish(driver.delete([path]))
    except StoreError as left:
        error.add_note(f"what may have been stored at {path!r} could not be deleted: {left}")
