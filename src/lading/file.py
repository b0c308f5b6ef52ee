"""`FileObject`: one file, pending or stored, with one-line verbs over the operations."""
# The functions below the class are its other half, for the ORM layer; what is private here is private to the module.
# pyright: reportPrivateUsage=false

import io
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import PurePath
from threading import Lock
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Self, cast
from weakref import WeakValueDictionary

import msgspec

from lading import paths
from lading.backends.protocols import StorageBackend
from lading.errors import ConfigurationError, OwnedFile, PendingFile, RecordError, SourceError, StateError
from lading.ops import attach as attaching
from lading.ops import read as reading
from lading.ops import save as saving
from lading.ops import sign as signing
from lading.ops.retry import Retrying
from lading.policy import ANYTHING, Policy
from lading.reader import AsyncReader, Reader
from lading.record import Disposition, FileRecord
from lading.source import Content, HasFile, PathSource, Progress, Source, source_of
from lading.storages import Storages, storages
from lading.uploads import Upload
from lading.worlds import World, asyncio_world, inline, iterate, run

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

Claim = Literal["free", "flushing", "bound", "owned", "unspent"]
"""Whose a stored file is: nobody's yet, of a row that is to be written, of one that a statement writes, or of a row.

One that is `"unspent"` is of another file, or nobody knows whether of a row, and was made from a direct upload that may
be attached still: a row gets a copy of it, and that spends the upload.
"""

Raw = str | bytes | msgspec.Raw | dict[str, Any]
"""A record as a database driver delivers it; decoded when somebody looks."""


class FileObject:
    """One file: *pending* until its content is stored, then *stored*; storing turns one into the other, in place, once.

    Two stored files are equal when backend and path are. A pending one equals only itself, and has no hash.

    Args:
        backend: the key of a registered backend, or a backend; by default the column's, or else the registry's default.
        filename: what the user called it, for display; sanitised. By default the name of `source_path` or `path`.
        to_filename: the path to store it under instead of a fresh one; nothing that lies there is overwritten.
        content_type: what somebody claims that it is; the bytes decide, see `lading.media.detect`.
        size, last_modified, checksum, etag, version_id: what is known of an object that exists, see `FileRecord`.
        metadata: JSON values that the application attaches; copied.
        source_path: a local file to store.
        content: bytes to store, or what they can be read from, see `lading.source.source_of`.
        path: where an object lies that exists already; the row that is given this file will own it.
        storages: the registry that knows the backend.

    Raises:
        SourceError: more than one of `content`, `source_path` and `path` was given, or content that is no bytes.
        InvalidPath: `path` or `to_filename` is one that no store may see.
        RecordError: `metadata` holds what JSON cannot: it would come back as something else.
    """

    __slots__ = (
        "__weakref__",
        "_backend",
        "_claim",
        "_holder",
        "_recognised",
        "_state",
        "_storages",
        "_twin",
        "_upload",
    )

    _backend: StorageBackend | str | None
    _claim: Claim
    _holder: object
    _recognised: bool
    _state: saving.Draft | FileRecord | Raw
    _storages: Storages
    _twin: "FileObject | None"
    _upload: Upload | None

    def __init__(
        self,
        backend: str | StorageBackend | None = None,
        filename: str | None = None,
        to_filename: str | None = None,
        content_type: str | None = None,
        size: int | None = None,
        last_modified: float | None = None,
        checksum: str | None = None,
        etag: str | None = None,
        version_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        source_path: str | PurePath | None = None,
        content: Content | None = None,
        *,
        path: str | None = None,
        storages: Storages = storages,
    ) -> None:
        if sum(given is not None for given in (content, source_path, path)) > 1:
            raise SourceError("give one of content=, source_path= and path=")
        self._backend = backend
        self._claim = "free"
        self._holder = None
        self._recognised = False
        self._storages = storages
        self._twin = None
        self._upload = None
        attached = _attachable(metadata or {})
        if path is not None:
            self._state = FileRecord(
                backend=backend if isinstance(backend, str) else (backend or storages.get_backend(None)).key,
                path=paths.guard(path),
                filename=paths.sanitise(filename or path),
                content_type=content_type or "application/octet-stream",
                size=size,
                last_modified=last_modified,
                checksum=checksum,
                etag=etag,
                version_id=version_id,
                metadata=attached,
            )
            return
        source: Source | None = None
        if source_path is not None:
            source = PathSource(source_path)
        elif content is not None:
            source = source_of(content)
        self._state = saving.Draft(
            filename=paths.sanitise(filename or (str(source_path) if source_path is not None else to_filename) or ""),
            claim=content_type,
            to_filename=paths.guard(to_filename) if to_filename is not None else None,
            metadata=attached,
            source=source,
        )

    @classmethod
    def from_upload(
        cls,
        upload: HasFile,
        backend: str | StorageBackend | None = None,
        *,
        metadata: Mapping[str, Any] | None = None,
        storages: Storages = storages,
    ) -> Self:
        """A pending file from a web framework's `UploadFile`, read as a stream when it is stored.

        Its name and type are what the client claims: the name is sanitised, the type is checked against the bytes.

        Raises:
            SourceError: it is no upload: it keeps no binary file in `file`.
        """
        if not callable(getattr(getattr(upload, "file", None), "read", None)):
            raise SourceError(f"an upload keeps what it received in .file; {type(upload).__name__} has none")
        return cls(
            backend,
            getattr(upload, "filename", None),
            content_type=getattr(upload, "content_type", None),
            metadata=metadata,
            content=upload,
            storages=storages,
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, storages: Storages = storages) -> "FileObject":
        """A stored file from the JSON of its record.

        It counts as owned by the row that the record came from: on another row it becomes a copy. Never feed it what a
        client sent.

        Raises:
            RecordError: that is no record.
        """
        return loaded(FileRecord.from_dict(data), storages)

    # what it is

    @property
    def record(self) -> FileRecord:
        """The record of a stored file; not to be changed. Raises `PendingFile`."""
        state = self._state
        if isinstance(state, FileRecord):
            return state
        if isinstance(state, saving.Draft):
            raise PendingFile(f"{state.filename!r} is not stored yet: save it, or flush the row that it is on")
        decoded = FileRecord.from_dict(state) if isinstance(state, dict) else FileRecord.from_json(state)
        self._state = decoded
        return decoded

    @property
    def is_stored(self) -> bool:
        """Whether it is stored, and so has a record."""
        return not isinstance(self._state, saving.Draft)

    @property
    def has_pending_data(self) -> bool:
        """Whether there is content that is not stored yet; an empty file has some too."""
        return isinstance(self._state, saving.Draft) and self._state.source is not None

    @property
    def backend(self) -> StorageBackend:
        """Where it lies, or will lie. Raises `BackendNotRegistered`, or `ConfigurationError` where nothing says."""
        if self._backend is None:
            return self._storages.get_backend(self.record.backend if self.is_stored else None)
        return self._storages.get_backend(self._backend)

    @property
    def storages(self) -> Storages:
        """The registry that knows its backend."""
        return self._storages

    @property
    def path(self) -> str:
        """Where in the backend it lies. Raises `PendingFile`."""
        return self.record.path

    @property
    def filename(self) -> str:
        """What the user called it; for display."""
        return self._described.filename

    @property
    def content_type(self) -> str | None:
        """The media type: decided by the bytes once stored, before that what was claimed."""
        state = self._described
        return state.claim if isinstance(state, saving.Draft) else state.content_type

    @property
    def size(self) -> int | None:
        """In bytes; of a pending file where its source knows."""
        state = self._described
        if isinstance(state, saving.Draft):
            return state.source.size if state.source is not None else None
        return state.size

    @property
    def last_modified(self) -> float | None:
        """When it was stored, in seconds since the epoch, UTC."""
        return self.record.last_modified if self.is_stored else None

    @property
    def checksum(self) -> str | None:
        """`"sha256:<hex>"` of its content."""
        return self.record.checksum if self.is_stored else None

    @property
    def etag(self) -> str | None:
        """What the store calls this content."""
        return self.record.etag if self.is_stored else None

    @property
    def version_id(self) -> str | None:
        """The version, where the store keeps several."""
        return self.record.version_id if self.is_stored else None

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the application attached; read-only, change it with `update_metadata`."""
        return MappingProxyType(self._described.metadata)

    def update_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Merge values into the metadata; the row that holds the file is then dirty and written at the next flush.

        The object in the store keeps what it was stored with: the row is the truth. Raises `RecordError` for a value
        that JSON cannot hold.
        """
        state = self._described
        merged = {**state.metadata, **_attachable(metadata)}
        if isinstance(state, saving.Draft):
            state.metadata = merged
        else:
            self._state = msgspec.structs.replace(state, metadata=merged)
        if self._holder is not None:
            for callback in _on_change:
                callback(self, self._holder)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of its record. Raises `PendingFile`."""
        return self.record.to_dict()

    @property
    def _described(self) -> saving.Draft | FileRecord:
        return self._state if isinstance(self._state, saving.Draft) else self.record

    # the verbs

    def save(
        self, data: Content | None = None, *, overwrite: bool = False, on_progress: Progress | None = None
    ) -> Self:
        """Store its content, or `data`, and become a stored file.

        Args:
            data: the content, where none was given before.
            overwrite: replace what lies at `to_filename`; no transaction can undo that.
            on_progress: called with `(bytes_done, total)` as bytes are handed to the store; from the beginning where
                the store fails and it is tried again.

        Raises:
            StateError: it is stored already, or being stored.
            SourceError: there is no content, or none that can be read (again).
            Refused, ObjectExists, StoreError: see `lading.ops.save.save`.
        """
        run(_save(self, inline, data, ANYTHING, overwrite, on_progress))
        return self

    async def save_async(
        self, data: Content | None = None, *, overwrite: bool = False, on_progress: Progress | None = None
    ) -> Self:
        """The async twin of `save`."""
        await _save(self, asyncio_world, data, ANYTHING, overwrite, on_progress)
        return self

    def get_content(self) -> bytes:
        """All of it, in memory. Raises `PendingFile`, `ObjectNotFound`, `StoreError`."""
        return run(Retrying(self.backend, inline).get(self.path))

    async def get_content_async(self) -> bytes:
        """The async twin of `get_content`."""
        return await Retrying(self.backend, asyncio_world).get(self.path)

    def read_range(self, start: int, stop: int | None = None) -> bytes:
        """The bytes from `start` up to but without `stop`, or to the end; fewer where the file ends before."""
        return run(reading.read_range(self.backend, self.path, start, stop, inline))

    async def read_range_async(self, start: int, stop: int | None = None) -> bytes:
        """The async twin of `read_range`."""
        return await reading.read_range(self.backend, self.path, start, stop, asyncio_world)

    def iter_bytes(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The bytes of that range in chunks, never all of them in memory."""
        return iterate(Retrying(self.backend, inline).read(self.path, start, stop))

    def iter_bytes_async(self, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """The async twin of `iter_bytes`."""
        return Retrying(self.backend, asyncio_world).read(self.path, start, stop)

    def open(self) -> io.BufferedReader:
        """A seekable binary file to read it with; what is not read is not fetched."""
        return io.BufferedReader(Reader(self.iter_bytes, run(reading.size_of(self.backend, self.record, inline))))

    async def open_async(self) -> AsyncReader:
        """The async twin of `open`."""
        return AsyncReader(self.iter_bytes_async, await reading.size_of(self.backend, self.record, asyncio_world))

    def exists(self) -> bool:
        """Whether its object is in the store."""
        return run(reading.exists(self.backend, self.path, inline))

    async def exists_async(self) -> bool:
        """The async twin of `exists`."""
        return await reading.exists(self.backend, self.path, asyncio_world)

    def verify(self) -> None:
        """Hold the object against the record: its size, and by reading all of it its checksum.

        Raises:
            ObjectNotFound: there is none.
            IntegrityFailure: it is another.
        """
        run(reading.verify(self.backend, self.record, inline))

    async def verify_async(self) -> None:
        """The async twin of `verify`."""
        await reading.verify(self.backend, self.record, asyncio_world)

    def delete(self) -> None:
        """Delete the object of a file that no row owns; one that is gone already is no error.

        Raises:
            OwnedFile: a row names it; take it off the row, and the commit deletes it.
        """
        run(_delete(self, inline))

    async def delete_async(self) -> None:
        """The async twin of `delete`."""
        await _delete(self, asyncio_world)

    def copy_to(self, backend: str | StorageBackend, *, to_filename: str | None = None) -> "FileObject":
        """Copy it, by the store itself where that is the same one; the copy is stored and nobody's yet."""
        return duplicate(self, backend, to_filename).save()

    async def copy_to_async(self, backend: str | StorageBackend, *, to_filename: str | None = None) -> "FileObject":
        """The async twin of `copy_to`."""
        return await duplicate(self, backend, to_filename).save_async()

    def sign(
        self,
        *,
        expires_in: int = 3600,
        for_upload: bool = False,
        filename: str | None = None,
        disposition: Disposition | None = None,
        content_type: str | None = None,
    ) -> str:
        """A URL that lets whoever holds it read the file, or with `for_upload` write it.

        The store signs it where it can; the signer of the registry does where it cannot, where one of the last three
        arguments is given, and where it is set to do so always.

        Args:
            expires_in: seconds, from 1 to 604,800 (7 days), or to what the signer of the registry allows.
            for_upload: a URL for `PUT`; of a pending file too, where `to_filename` says where it will lie.
            filename: what it is called there, instead of its name.
            disposition: `"inline"` or `"attachment"`, instead of what its type leads to; what a browser would run is an
                attachment all the same.
            content_type: what it is served as, instead of its type.

        Raises:
            ConfigurationError: `expires_in` is out of range, or what the file is to be called or served as cannot be,
                or is given with `for_upload`.
            NotSupported: neither the store nor the registry's signer can do it.
        """
        return run(_sign(self, inline, signing.Terms(expires_in, for_upload, filename, disposition, content_type)))

    async def sign_async(
        self,
        *,
        expires_in: int = 3600,
        for_upload: bool = False,
        filename: str | None = None,
        disposition: Disposition | None = None,
        content_type: str | None = None,
    ) -> str:
        """The async twin of `sign`."""
        terms = signing.Terms(expires_in, for_upload, filename, disposition, content_type)
        return await _sign(self, asyncio_world, terms)

    # as a value

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, FileObject):
            return NotImplemented
        if isinstance(self._state, saving.Draft) or isinstance(other._state, saving.Draft):
            return False
        return identity(self) == identity(other)

    def __hash__(self) -> int:
        return hash(identity(self))

    def __repr__(self) -> str:
        try:
            state = self._described
        except Exception:
            return f"<FileObject unreadable: {self._state!r:.80}>"
        if isinstance(state, saving.Draft):
            return f"<FileObject pending {state.filename!r}>"
        return f"<FileObject {state.backend}:{state.path} {state.filename!r} {state.content_type} {state.size}>"

    def __reduce__(self) -> tuple[Callable[[dict[str, Any]], "FileObject"], tuple[dict[str, Any]]]:
        return FileObject.from_dict, (self.to_dict(),)

    def __copy__(self) -> "FileObject":
        state = self._state
        if isinstance(state, saving.Draft):
            twin = pending(msgspec.structs.replace(state, storing=False), self._backend, self._storages)
        else:
            twin = loaded(state, self._storages)
            twin._backend = self._backend
        return _of_one_upload(self, twin)

    def __deepcopy__(self, memo: dict[int, Any]) -> "FileObject":
        return self.__copy__()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type[Any], handler: "GetCoreSchemaHandler") -> "CoreSchema":
        from lading.pydantic import core_schema  # noqa: PLC0415  # an optional package

        return core_schema(cls)


def identity(file: FileObject) -> tuple[str, str]:
    """`(backend key, path)` of a stored file: what makes two of them one."""
    record = file.record
    return record.backend, record.path


def encode_hook(value: object) -> dict[str, Any]:
    """The `enc_hook` with which msgspec encodes stored files, as `FileObject.to_dict` has them.

    Raises:
        PendingFile: the file is not stored.
        NotImplementedError: it is no file, as msgspec asks of a hook.
    """
    if isinstance(value, FileObject):
        return value.to_dict()
    raise NotImplementedError(f"cannot encode {type(value).__name__}")


def decode_hook(kind: type[Any], value: Any) -> FileObject:
    """The `dec_hook` with which msgspec decodes stored files, as `FileObject.from_dict` does.

    For what the application itself has encoded: a client that writes a record could name any object.

    Raises:
        RecordError: that is no record; msgspec makes a `ValidationError` of it.
        NotImplementedError: the type is another, as msgspec asks of a hook.
    """
    if kind is not FileObject:
        raise NotImplementedError(f"cannot decode {kind.__name__}")
    if not isinstance(value, dict):
        raise RecordError(f"not the record of a stored file: {value!r:.200}")
    return FileObject.from_dict(cast("dict[str, Any]", value))


# What the ORM layer does with a file; an application has no use for it.


def loaded(state: FileRecord | Raw, storages: Storages) -> FileObject:
    """The file of a row, its record decoded when somebody looks."""
    file: FileObject = object.__new__(FileObject)
    file._backend = None
    file._claim = "owned"
    file._holder = None
    file._recognised = False
    file._state = state
    file._storages = storages
    file._twin = None
    file._upload = None
    return file


def duplicate(
    file: FileObject, backend: str | StorageBackend | None = None, to_filename: str | None = None
) -> FileObject:
    """A pending file whose content is a stored one's: storing it copies the object."""
    record = file.record
    draft = saving.Draft(
        filename=record.filename,
        claim=record.content_type,
        to_filename=paths.guard(to_filename) if to_filename is not None else None,
        metadata=dict(record.metadata),
        source=saving.StoredSource(file.backend, record),
    )
    return _of_one_upload(file, pending(draft, file.backend if backend is None else backend, file._storages))


def pending(draft: saving.Draft, backend: str | StorageBackend | None, storages: Storages) -> FileObject:
    """A pending file of that draft."""
    file: FileObject = object.__new__(FileObject)
    file._backend = backend
    file._claim = "free"
    file._holder = None
    file._recognised = False
    file._state = draft
    file._storages = storages
    file._twin = None
    file._upload = None
    return file


def uploaded(upload: Upload) -> FileObject:
    """A pending file whose content a client has put into the store by itself; storing it attaches a copy of that.

    On a row of the column that the upload is for, a flush does it. An upload serves once: the transaction that puts it
    on a row spends its entry in the outbox, also where the copy was made before by `save`.
    """
    source = attaching.UploadedSource(upload)
    draft = saving.Draft(filename=upload.filename, claim=upload.content_type, source=source)
    return pending(draft, upload.backend, upload.policy.storages)


def upload_of(file: FileObject) -> Upload | None:
    """The direct upload that a file is, or was made from when it was stored, or is a copy of before that was spent."""
    state = file._state
    if isinstance(state, saving.Draft) and isinstance(state.source, attaching.UploadedSource):
        return state.source.upload
    return file._upload


def _of_one_upload(file: FileObject, twin: FileObject) -> FileObject:
    """A copy of a file that was made from a direct upload, as long as that is not spent, is one more that spends it."""
    if file._upload is not None and file._claim in ("free", "unspent"):
        twin._upload = file._upload
        if twin.is_stored:
            twin._claim = "unspent"
    return twin


def is_recognised(file: FileObject) -> bool:
    """Whether its object may be another's: an answer was lost, and what lay there was what was to be stored."""
    return file._recognised


def state_of(file: FileObject) -> saving.Draft | FileRecord:
    """What a file is now, to `restore` it to when a transaction comes to nothing."""
    return file._described


def restore(file: FileObject, state: saving.Draft | FileRecord, claim: Claim) -> None:
    """Make a file what it was."""
    file._state = state
    _claim(file, claim)


def place(file: FileObject, backend: str | StorageBackend | None, storages: Storages) -> None:
    """Say where a pending file goes, as far as it does not say so itself."""
    if not file.is_stored and (file._backend is None or isinstance(file._backend, str)):
        file._backend = file._backend or backend
        file._storages = storages


def move_to_registry(file: FileObject, storages: Storages) -> None:
    """Let another registry say which backend the key of a file means."""
    file._storages = storages


async def store(file: FileObject, world: World, policy: Policy) -> None:
    """Store a pending file by the policy of its column."""
    await _save(file, world, None, policy, False, None)


async def adopt(file: FileObject, world: World, policy: Policy) -> None:
    """Make sure that the object of a file that no row owns yet is there, and that the column's rules allow it."""
    record = await reading.adopt(file.backend, file.record, world)
    saving.judge(record, policy)
    file._state = record


def claim_of(file: FileObject) -> Claim:
    """Whose the file is."""
    return file._claim


def claim(file: FileObject, claim: Claim) -> None:
    """Say whose the file is."""
    _claim(file, claim)


def seize(file: FileObject, wanted: Claim) -> bool:
    """Say whose a file is that is nobody's; of several who try that at once, one succeeds.

    Where another file of the same object is known by `remember`, both are claimed or none.
    """
    twin = _remembered(file)
    with _seizing:
        if file._claim != "free" or (twin is not None and twin._claim != "free"):
            return False
        file._twin = twin
        _claim(file, wanted)
        return True


_seizing = Lock()


def remember(file: FileObject) -> None:
    """Have this stored file claimed with every other one of the same object, for as long as somebody has it.

    For files that are deleted when they turn out to be nobody's: a row may have their object by `path=`.
    """
    _known[file.backend, file.path] = file


_known: WeakValueDictionary[tuple[StorageBackend, str], FileObject] = WeakValueDictionary()


def _remembered(file: FileObject) -> FileObject | None:
    """The file that is known to have the same object as another."""
    if not _known or not file.is_stored:
        return None
    try:
        found = _known.get((file.backend, file.path))
    except ConfigurationError:  # where its backend is not known, nothing was stored
        return None
    # One whose storing was undone is pending again, or lies elsewhere by now.
    is_twin = found is not None and found is not file and found.is_stored and found.path == file.path
    return found if is_twin else None


def _claim(file: FileObject, claim: Claim) -> None:
    """Say whose a file is, and whose the one that was claimed with it."""
    file._claim = claim
    if file._twin is not None:
        file._twin._claim = claim
        if claim == "free":
            file._twin = None


def hold(file: FileObject, holder: object) -> None:
    """Say what is to be told when the file's record changes in place."""
    file._holder = holder


def is_held(file: FileObject) -> bool:
    """Whether something is told when the file's record changes in place."""
    return file._holder is not None


def on_change(callback: Callable[[FileObject, object], None]) -> None:
    """Call `callback(file, holder)` when the record of a file that something holds changes in place."""
    _on_change.append(callback)


_on_change: list[Callable[[FileObject, object], None]] = []


def _attachable(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of metadata by way of JSON, which must be no different: NaN would come back as null, a date as text."""
    attached: dict[str, Any] = {}
    for name, value in metadata.items():
        try:
            again = msgspec.json.decode(msgspec.json.encode({name: value}))
        except (TypeError, ValueError, RecursionError) as error:
            raise RecordError(f"the metadata {name!r} cannot be written as JSON: {error}") from error
        if again != {name: value}:
            raise RecordError(f"the metadata {name!r} holds what JSON does not: {value!r:.80}")
        attached |= again
    return attached


async def _delete(file: FileObject, world: World) -> None:
    path, driver = file.path, Retrying(file.backend, world)
    if not seize(file, "flushing"):
        raise OwnedFile(f"{file.filename!r} belongs to a row: set the column to None, or delete the row, and commit")
    try:
        await driver.delete([path])
    finally:
        claim(file, "free")


async def _sign(file: FileObject, world: World, terms: signing.Terms) -> str:
    backend, state = file.backend, file._state
    if terms.for_upload and isinstance(state, saving.Draft) and state.to_filename is not None:
        record = FileRecord(backend=backend.key, path=state.to_filename, filename=state.filename)
    else:
        record = file.record
    return await signing.sign(backend, record, world, terms, signer=file._storages.signer)


async def _save(
    file: FileObject,
    world: World,
    data: Content | None,
    policy: Policy,
    overwrite: bool,
    on_progress: Progress | None,
) -> None:
    draft = file._state
    if not isinstance(draft, saving.Draft):
        raise StateError(f"{file.filename!r} is stored already; make a new FileObject for new content")
    if draft.storing:
        raise StateError(f"{draft.filename!r} is being stored by somebody else; await that")
    source = source_of(data) if data is not None else draft.source
    if source is None:
        raise SourceError(f"{draft.filename!r} has no content: give content= or source_path=, or path= if it exists")
    if overwrite and draft.to_filename is None:
        raise SourceError("overwrite= needs a to_filename: a fresh path has nothing to overwrite")
    upload = upload_of(file)
    if upload is not None and data is not None:
        raise SourceError(f"{draft.filename!r} is a direct upload, and has its content")
    draft.storing = True
    try:
        if upload is not None and isinstance(source, attaching.UploadedSource):
            policy = upload.policy if policy is ANYTHING else policy
            file._state = await attaching.attach(
                draft, upload, file.backend, world, policy=policy, on_progress=on_progress
            )
        else:
            file._state = await saving.save(
                draft, source, file.backend, world, policy=policy, overwrite=overwrite, on_progress=on_progress
            )
        file._recognised = draft.is_recognised
        file._upload = upload
        if upload is not None:
            remember(file)
    finally:
        draft.storing = False
