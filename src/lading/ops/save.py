"""Storing a file: sniff, check, name, put, describe."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeAlias, cast

import msgspec

from lading import clock, media, paths, rules
from lading.backends.protocols import Attributes, Body, Copies, StorageBackend, Stored
from lading.errors import IntegrityFailure, ObjectExists, StoreError
from lading.ops.retry import Retrying, Target, again
from lading.policy import ANYTHING, Policy
from lading.record import Candidate, FileRecord
from lading.rules import Rule
from lading.serving import content_disposition
from lading.source import BytesSource, Chunk, Intake, Progress, Source
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
        is_fresh: whether the path that it was stored at can be nobody else's.
        is_recognised: whether what lies there was taken for what a try had stored whose answer was lost.
    """

    filename: str
    claim: str | None = None
    to_filename: str | None = None
    metadata: dict[str, Any] = {}
    source: Source | None = None
    storing: bool = False
    is_fresh: bool = False
    is_recognised: bool = False


class StoredSource:
    """The content of an object that lies in a store already: what a copy is made from."""

    rereadable = True

    def __init__(self, backend: StorageBackend, record: FileRecord) -> None:
        self.backend = backend
        self.record = record
        self.size = record.size

    def chunks(self, world: World) -> AsyncIterator[Chunk]:
        # Not by Retrying: who stores what it gives tries that again as a whole.
        return self.backend.driver(world).read(self.record.path)


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

    While the store is unavailable it is tried again, as often as the backend's `retries` says, where the content is
    held whole or its source can be read again. All begins anew with each try: sniffing, rules, limits, the checksum,
    and what `on_progress` is told.

    Raises:
        Refused: a rule said no; nothing was stored.
        SourceError: the content could not be read; nothing was stored.
        ObjectExists: the path was not a fresh one, and something lies there that no try of ours has stored.
        IntegrityFailure: a copy is not what the record of its original says; it was deleted.
        StoreUnavailable: it was of no use to try again, or not possible; as for every `StoreError`:
        StoreError: the store failed. What it may have kept is deleted where the path can only be ours, else left alone.
    """
    asked = (*backend.rules, *policy.rules)
    if isinstance(source, StoredSource) and source.backend is backend and isinstance(backend.driver(world), Copies):
        return await _copy(draft, source.record, backend, world, asked, policy)
    upload = _Upload(draft, source, backend, world, policy, asked, overwrite, on_progress)
    try:
        return await upload.run()
    except BaseException as error:
        if upload.target is not None and upload.target.is_ours:
            await leave_nothing(upload.target.path, backend, world, error)
        raise


Put: TypeAlias = Callable[[Target, Body, int | None, Attributes], Awaitable[Stored]]


class _Upload:
    """One file on its way into a store: one pass over its content for each try."""

    def __init__(
        self,
        draft: Draft,
        source: Source,
        backend: StorageBackend,
        world: World,
        policy: Policy,
        asked: Sequence[Rule],
        overwrite: bool,
        on_progress: Progress | None,
    ) -> None:
        self.target: Target | None = None
        self._draft = draft
        self._source = source
        self._original = source.record if isinstance(source, StoredSource) else None
        self._backend = backend
        self._world = world
        self._policy = policy
        self._asked = asked
        self._overwrite = overwrite
        self._on_progress = on_progress
        self._limit = rules.size_limit(asked)
        self._token = paths.token()

    async def run(self) -> FileRecord:
        """Store it, in as many tries as it takes and its source allows."""
        try:
            once = partial(self._pass, self._put)
            return await again(once, self._backend, self._world, may=lambda: self._source.rereadable)
        except ObjectExists as conflict:
            if self.target is None or not self.target.is_in_doubt:
                raise
            return await self._pass(partial(self._recognise, conflict))

    async def _pass(self, put: Put) -> FileRecord:
        draft, backend = self._draft, self._backend
        intake = Intake(
            self._source, self._world, algorithm=backend.checksum, check=self._cut, on_progress=self._on_progress
        )
        try:
            head = await intake.head(media.SNIFF)
            content_type = media.detect(head, filename=draft.filename, claim=draft.claim, trust=backend.trust)
            body = await intake.body(backend.chunk_size)
            size = self._source.size if isinstance(body, AsyncIterator) else intake.size
            candidate = Candidate(draft.filename, content_type, size, draft.metadata, self._token)
            rules.check(self._asked, candidate)
            if isinstance(body, AsyncIterator):
                body = self._judged(body, candidate, intake)
            else:
                self._source = BytesSource(body)
            target = self.target = self.target or self._aim(candidate)
            attributes = Attributes(content_type, content_disposition(draft.filename, content_type), draft.metadata)
            stored = await put(target, body, size, attributes)
            target.is_ours = not (self._overwrite or draft.is_recognised)
            checksum = intake.checksum()
            if self._original is not None:
                _same(self._original, intake.size, checksum)
            intake.progress(intake.size)
        finally:
            await intake.close()
        return FileRecord(
            backend=backend.key,
            path=target.path,
            filename=draft.filename,
            content_type=content_type,
            size=intake.size,
            last_modified=clock.now(),
            checksum=checksum,
            etag=stored.etag,
            version_id=stored.version_id,
            metadata=draft.metadata,
        )

    async def _put(self, target: Target, body: Body, size: int | None, attributes: Attributes) -> Stored:
        driver = self._backend.driver(self._world)

        def write(overwrite: bool) -> Awaitable[Stored]:
            overwrite = overwrite or self._overwrite
            return driver.put(target.path, body, size=size, overwrite=overwrite, attributes=attributes)

        return await target.make(write)

    async def _recognise(
        self, conflict: ObjectExists, target: Target, body: Body, size: int | None, attributes: Attributes
    ) -> Stored:
        stored = await target.recognise(body, self._backend, self._world, conflict)
        self._draft.is_recognised = True
        return stored

    def _aim(self, candidate: Candidate) -> Target:
        return aim(self._draft, candidate, self._backend, self._policy, overwrite=self._overwrite)

    def _cut(self, size: int) -> None:
        if self._limit is not None and size > self._limit:
            rules.max_size(self._limit)(Candidate(self._draft.filename, "", size))

    async def _judged(self, body: AsyncIterator[Chunk], candidate: Candidate, intake: Intake) -> AsyncIterator[Chunk]:
        """A stream that is judged at its end: its size is known then, and the store has not been told of it."""
        async for chunk in body:
            yield chunk
        rules.check(self._asked, msgspec.structs.replace(candidate, size=intake.size))


def judge(record: FileRecord, policy: Policy) -> None:
    """Ask the rules of a column about a file that was stored before it came there. Raises `Refused`."""
    rules.check(policy.rules, Candidate(record.filename, record.content_type, record.size, record.metadata))


async def _copy(
    draft: Draft,
    record: FileRecord,
    backend: StorageBackend,
    world: World,
    asked: Sequence[Rule],
    policy: Policy,
) -> FileRecord:
    """Let the store copy an object that it holds, and look at the copy."""
    candidate = Candidate(draft.filename, record.content_type, record.size, draft.metadata, paths.token())
    rules.check(asked, candidate)
    target = aim(draft, candidate, backend, policy)
    path, verbs = target.path, Retrying(backend, world)
    try:
        await copy_within(draft, record.path, target, backend, world)
        info = await verbs.head(path)
        _same(record, info.size, None)
        if record.size is None:
            rules.check(asked, msgspec.structs.replace(candidate, size=info.size))
    except BaseException as error:
        if target.is_ours:
            await leave_nothing(path, backend, world, error)
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


async def copy_within(draft: Draft, path: str, target: Target, backend: StorageBackend, world: World) -> None:
    """Let a store that can do it copy the object at a path, in as many tries as it takes; then the copy is ours.

    Raises:
        ObjectNotFound: nothing lies there.
        ObjectExists: something lies at the target that no try of ours has made.
        StoreError: the store failed; what lies at the target is the caller's to delete, where it is ours.
    """
    driver = cast("Copies", backend.driver(world))
    try:
        once = partial(target.make, lambda overwrite: driver.copy(path, target.path, overwrite=overwrite))
        await again(once, backend, world)
    except ObjectExists as conflict:
        if not target.is_in_doubt:
            raise
        await target.recognise(Retrying(backend, world).read(path), backend, world, conflict)
        draft.is_recognised = True
    target.is_ours = not draft.is_recognised


def aim(
    draft: Draft, candidate: Candidate, backend: StorageBackend, policy: Policy, *, overwrite: bool = False
) -> Target:
    """Where the object will lie: where the caller said, or else where the nearest path maker says."""
    make = policy.path_maker or backend.path_maker or paths.fresh
    path = paths.guard(draft.to_filename or make(candidate))
    draft.is_fresh, draft.is_recognised = candidate.token in path, False
    return Target(path, is_ours=draft.is_fresh and not overwrite)


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


async def leave_nothing(path: str, backend: StorageBackend, world: World, error: BaseException) -> None:
    """Delete what a put that failed with `error` may have left at a path that can be nobody else's.

    A path that was set by hand may hold another's object: where a create-only put of it fails, whether ours or theirs
    came first is not known. Once such a put has succeeded it is ours.
    """
    try:
        await world.finish(Retrying(backend, world).delete([path]))
    except StoreError as left:
        error.add_note(f"what may have been stored at {path!r} could not be deleted: {left}")
