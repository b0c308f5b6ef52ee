"""Attaching a direct upload: look at it, ask the rules, copy it to where no client can write, and look at the copy.

What lies where a client may write is another object whenever it likes. So nothing that was seen there is believed of
the copy: that is read itself, and has to be what was announced and decided on.
"""

import hashlib
from collections.abc import AsyncIterator
from functools import partial

import msgspec

from lading import media, paths, rules
from lading.backends.protocols import Copies, Describes, ObjectInfo, Signs, StorageBackend
from lading.errors import Mismatch, NotUploaded, ObjectNotFound, StoreError
from lading.ops.gate import Gate
from lading.ops.retry import Retrying, again
from lading.ops.save import Draft, aim, copy_within, leave_nothing, save
from lading.policy import Policy
from lading.record import Candidate, FileRecord
from lading.serving import content_disposition
from lading.source import Chunk, Intake, Progress
from lading.uploads import Upload
from lading.worlds import World

_UNSAID = ("Cache-Control", "Content-Encoding", "Content-Language")
"""Headers that stores keep with an object, and that nobody was told to send."""


AT_ONCE = 16
"""Uploads that one process attaches at a time, however many ask for it: each holds a few MiB of what it reads."""

_gate = Gate(AT_ONCE)


class UploadedSource:
    """The content of a direct upload; reading it to the end holds it against what was announced.

    Args:
        upload: what was announced.
        backend: where it lies, by default as the registry of its policy says.
        path: where its content is read instead, as that of a copy.
    """

    rereadable = True

    def __init__(self, upload: Upload, backend: StorageBackend | None = None, path: str | None = None) -> None:
        self.upload = upload
        self.size = upload.size
        self._backend = backend
        self._path = path or upload.path

    async def chunks(self, world: World) -> AsyncIterator[Chunk]:
        """Its bytes, no more of them than were announced.

        Raises:
            ObjectNotFound: nothing lies there.
            Mismatch: it has another size or checksum.
        """
        # Not by Retrying: who stores what it gives tries that again as a whole.
        backend = self._backend or self.upload.policy.storages.get_backend(self.upload.backend)
        chunks = backend.driver(world).read(self._path)
        size, announced = 0, self.upload.checksum
        digest = hashlib.sha256()
        try:
            async for chunk in chunks:
                size += len(chunk)
                if self.size is not None and size > self.size:
                    break
                if announced is not None:
                    await world.call(digest.update, chunk)
                yield chunk
        finally:
            close = getattr(chunks, "aclose", None)
            if close is not None:
                await close()
        _compare(self.upload, "size", self.size, size)
        if announced is not None:
            _compare(self.upload, "checksum", announced, f"sha256:{digest.hexdigest()}")


async def attach(
    draft: Draft,
    upload: Upload,
    backend: StorageBackend,
    world: World,
    *,
    policy: Policy,
    on_progress: Progress | None = None,
) -> FileRecord:
    """Store a copy of a direct upload, under a path of its own, and describe that.

    The store copies it by itself where it can, and the type is the announced one; the copy is then read once, for its
    checksum. Else what lies there is stored like any other content: also where a store signs requests and cannot tell
    with which headers a client has sent its own. So many at a time as `AT_ONCE` says; others wait.

    Args:
        draft: of the file.
        upload: what was announced.
        backend: where the upload lies, and the copy will.
        world: where it runs.
        policy: whose rules are asked, after those of the backend.
        on_progress: told of what is read.

    Raises:
        NotUploaded: nothing lies there.
        Mismatch: it is not what was announced, or has changed while it was attached.
        Refused: a rule said no.
        StoreError: the store failed, see `lading.ops.save.save`. Whatever is raised, no copy is left.
    """
    try:
        async with _gate.passed(world):
            info = await Retrying(backend, world).head(upload.path)
            _compare(upload, "size", upload.size, info.size)
            if _copies(backend, world):
                kind = await _sniff(draft, info, backend, world)
                if kind == upload.content_type:
                    return await _Copy(draft, upload, kind, info.size, backend, world).make(policy)
            source = UploadedSource(upload, backend)
            return await save(draft, source, backend, world, policy=policy, on_progress=on_progress)
    except ObjectNotFound as error:
        if error.path != upload.path:
            raise
        raise NotUploaded(f"{upload.filename!r} has not been uploaded yet") from error
    except StoreError as error:
        if not _is_illegible(error):
            raise
        message = f"{upload.filename!r} was sent with headers beyond ASCII, which were not announced"
        raise Mismatch(message, filename=upload.filename) from error


class _Copy:
    """A copy that the store makes."""

    def __init__(
        self, draft: Draft, upload: Upload, kind: str, size: int, backend: StorageBackend, world: World
    ) -> None:
        self._draft = draft
        # What was seen is what is copied, or else there is no copy.
        self._upload = msgspec.structs.replace(upload, size=size)
        self._kind = kind
        self._backend = backend
        self._world = world

    async def make(self, policy: Policy) -> FileRecord:
        draft, backend, world, upload = self._draft, self._backend, self._world, self._upload
        candidate = Candidate(draft.filename, self._kind, upload.size, draft.metadata, paths.token())
        rules.check((*backend.rules, *policy.rules), candidate)
        target = aim(draft, candidate, backend, policy)
        try:
            await copy_within(draft, upload.path, target, backend, world)
            return await again(partial(self._describe, target.path), backend, world)
        except BaseException as error:
            if target.is_ours:
                await leave_nothing(target.path, backend, world, error)
            raise

    async def _describe(self, path: str) -> FileRecord:
        """The record of the copy. Raises `Mismatch` where it is not what was decided on."""
        draft, backend = self._draft, self._backend
        info = await backend.driver(self._world).head(path)
        _compare(self._upload, "size", self._upload.size, info.size)
        await self._check_attributes(path)
        return FileRecord(
            backend=backend.key,
            path=path,
            filename=draft.filename,
            content_type=self._kind,
            size=info.size,
            last_modified=info.last_modified,
            checksum=await self._read(path, info),
            etag=info.etag,
            version_id=info.version_id,
            metadata=draft.metadata,
        )

    async def _read(self, path: str, info: ObjectInfo) -> str | None:
        """The checksum of the copy, whose type and announced checksum are looked at on the way."""
        backend, world = self._backend, self._world
        if backend.checksum is None and self._upload.checksum is None:
            self._check_kind(await _sniff(self._draft, info, backend, world))
            return None
        source = UploadedSource(self._upload, backend, path)
        intake = Intake(source, world, algorithm=backend.checksum, check=_any_size)
        try:
            self._check_kind(_detect(self._draft, await intake.head(media.SNIFF), backend))
            body = await intake.body(0)
            if isinstance(body, AsyncIterator):
                async for _ in body:
                    pass
            return intake.checksum()
        finally:
            await intake.close()

    def _check_kind(self, kind: str) -> None:
        _compare(self._upload, "type", self._kind, kind)

    async def _check_attributes(self, path: str) -> None:
        """Refuse an object that the store's own URLs would serve otherwise than lading has said."""
        driver = self._backend.driver(self._world)
        if not isinstance(driver, Describes):
            return
        found = await driver.attributes(path)
        _compare(self._upload, "Content-Type", self._kind, found.content_type or "")
        disposition = content_disposition(self._upload.filename, self._kind)
        _compare(self._upload, "Content-Disposition", disposition, found.content_disposition or "")
        for name in _UNSAID:
            _compare(self._upload, name, "", found.metadata.get(name, ""))


def _copies(backend: StorageBackend, world: World) -> bool:
    """Whether the store can copy an upload by itself, in such a way that its own URLs serve the copy safely."""
    driver = backend.driver(world)
    return isinstance(driver, Copies) and (isinstance(driver, Describes) or not isinstance(driver, Signs))


async def _sniff(draft: Draft, info: ObjectInfo, backend: StorageBackend, world: World) -> str:
    """The type of an object, by its first bytes."""

    async def first() -> bytes:
        return b"".join([bytes(chunk) async for chunk in backend.driver(world).read(info.path, 0, media.SNIFF)])

    return _detect(draft, await again(first, backend, world) if info.size else b"", backend)


def _detect(draft: Draft, head: Chunk, backend: StorageBackend) -> str:
    return media.detect(head, filename=draft.filename, claim=draft.claim, trust=backend.trust)


def _is_illegible(error: StoreError) -> bool:
    """Whether a store keeps headers with an object that its library, obstore's, cannot read; it says so in a text."""
    return type(error) is StoreError and "non UTF-8" in str(error)


def _any_size(size: int) -> None:
    """The source looks at the size by itself."""


def _compare(upload: Upload, what: str, announced: object, found: object) -> None:
    if announced is not None and announced != found:
        message = f"{upload.filename!r} is not what was announced: its {what} is {found!r}, not {announced!r}"
        raise Mismatch(message, filename=upload.filename, limit=announced, actual=found)
