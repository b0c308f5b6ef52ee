"""How a filesystem of fsspec stores one object whole or not at all; every function here blocks."""

# fsspec has no types.
# pyright: reportMissingTypeStubs=false

import os
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem
from fsspec.spec import AbstractBufferedFile

from lading.backends.attributes import header, user_metadata
from lading.backends.local import staged_beside, sync
from lading.backends.protocols import Attributes, Stored

Chunk: TypeAlias = bytes | bytearray | memoryview


class Upload(Protocol):
    """One object on its way into a filesystem: put whole, or written and closed, or copied; else discarded."""

    def put(self, content: Chunk) -> Stored: ...

    def write(self, chunk: Chunk) -> None: ...

    def close(self) -> Stored: ...

    def copy(self, origin: str) -> Stored: ...

    def discard(self) -> None:
        """Undo whatever was done; what another writer stored under that name stays."""
        ...


def upload_to(
    fs: AbstractFileSystem,
    location: str,
    *,
    protocol: str,
    create: bool,
    part_size: int,
    attributes: Attributes,
    synced_below: str | None,
) -> Upload:
    """An upload in the way that is best on that filesystem.

    Args:
        fs: the filesystem.
        location: where, in its own spelling.
        protocol: the kind of filesystem.
        create: whether something that lies there already is an error, `FileExistsError` or what the store calls it.
        part_size: bytes of a part, where content is sent in parts.
        attributes: what travels with the object, on S3, GCS and Azure.
        synced_below: the root of a local filesystem whose files are to be on disk when an upload is closed.
    """
    if isinstance(fs, LocalFileSystem):
        return _LocalUpload(Path(location), create, None if synced_below is None else Path(synced_below))
    if isinstance(fs, MemoryFileSystem):
        return _MemoryUpload(fs, location, create)
    if protocol in ("s3", "gs", "az"):
        return _CloudUpload(fs, location, create, part_size, protocol, attributes)
    return _OtherUpload(fs, location, create, part_size)


class _LocalUpload:
    """Written under a hidden name in the same directory, then linked, which fails where something lies, or renamed."""

    def __init__(self, path: Path, create: bool, synced_below: Path | None) -> None:
        self._path = path
        self._staged = Path(staged_beside(str(path)))
        self._create = create
        self._synced_below = synced_below
        self._file: Any = None
        self._stored = False

    def put(self, content: Chunk) -> Stored:
        self.write(content)
        return self.close()

    def write(self, chunk: Chunk) -> None:
        self._opened().write(chunk)

    def close(self) -> Stored:
        file = self._opened()
        file.flush()
        if self._synced_below is not None:
            os.fsync(file.fileno())
        file.close()
        if self._create:
            os.link(self._staged, self._path)
            self._stored = True
            self._staged.unlink()
        else:
            self._staged.replace(self._path)
        if self._synced_below is not None:
            sync(self._path.parent, self._synced_below)
        return Stored()

    def copy(self, origin: str) -> Stored:
        with open(origin, "rb") as source:
            shutil.copyfileobj(source, self._opened(), 2**20)
        return self.close()

    def discard(self) -> None:
        if self._file is not None:
            self._file.close()
        self._staged.unlink(missing_ok=True)
        if self._stored:
            self._path.unlink(missing_ok=True)

    def _opened(self) -> Any:
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._staged.open("xb")
        return self._file


class _MemoryUpload:
    """Written aside, then put into the store in one step; fsspec's own `open` shows the file while it is written."""

    def __init__(self, fs: MemoryFileSystem, location: str, create: bool) -> None:
        self._store: dict[str, Any] = fs.store
        self._location = location
        self._create = create
        self._file = MemoryFile(fs, location)
        self._stored = False

    def put(self, content: Chunk) -> Stored:
        self.write(content)
        return self.close()

    def write(self, chunk: Chunk) -> None:
        self._file.write(chunk)

    def close(self) -> Stored:
        self._file.modified = datetime.now(UTC)
        if not self._create:
            self._store[self._location] = self._file
        elif self._store.setdefault(self._location, self._file) is self._file:
            self._stored = True
        else:
            raise FileExistsError(self._location)
        return Stored()

    def copy(self, origin: str) -> Stored:
        if origin not in self._store:
            raise FileNotFoundError(origin)
        return self.put(self._store[origin].getvalue())

    def discard(self) -> None:
        if self._stored:
            self._store.pop(self._location, None)


class _CloudUpload:
    """One request for content that is whole, else a multipart upload.

    On S3 a create-only one overwrites an empty object that reserved the name: not every server of that protocol knows
    conditions when an upload is completed. Google and Azure do.
    """

    def __init__(
        self,
        fs: AbstractFileSystem,
        location: str,
        create: bool,
        part_size: int,
        protocol: str,
        attributes: Attributes,
    ) -> None:
        self._fs: Any = fs
        self._location = location
        self._create = create
        self._part_size = part_size
        self._protocol = protocol
        self._attributes = attributes
        self._file: Any = None
        self._stored = False

    def put(self, content: Chunk) -> Stored:
        mode = "create" if self._create else "overwrite"
        options = _options(self._protocol, self._attributes)
        if self._protocol == "az":
            options.pop("metadata", None)  # adlfs passes its own here
        answer: dict[str, Any] | None = self._fs.pipe_file(self._location, bytes(content), mode=mode, **options)
        self._stored = self._create
        return described(answer or {})

    def write(self, chunk: Chunk) -> None:
        if len(chunk) == 0:
            return
        if self._file is None:
            options = _options(self._protocol, self._attributes)
            mode = "xb" if self._create else "wb"
            if self._create and self._protocol == "s3":
                self.put(b"")
                mode = "wb"
            self._file = self._fs.open(self._location, mode, block_size=self._part_size, **options)
        self._file.write(chunk)

    def close(self) -> Stored:
        if self._file is None:  # s3fs would overwrite with an empty object, whatever the mode
            return self.put(b"")
        self._file.close()
        self._stored = self._create
        return Stored()

    def copy(self, origin: str) -> Stored:
        if self._create:  # reserves the name, since copies are never create-only
            self.put(b"")
        self._fs.cp_file(origin, self._location)
        return Stored()

    def discard(self) -> None:
        if self._file is not None:
            _abandon(self._file)
        if self._stored:
            self._fs.rm_file(self._location)


class _OtherUpload:
    """Look, then write in place; what a filesystem that is not known here can do."""

    def __init__(self, fs: AbstractFileSystem, location: str, create: bool, part_size: int) -> None:
        self._fs: Any = fs
        self._location = location
        self._create = create
        self._part_size = part_size
        self._file: Any = None
        self._touched = False

    def put(self, content: Chunk) -> Stored:
        self.write(content)
        return self.close()

    def write(self, chunk: Chunk) -> None:
        self._opened().write(chunk)

    def close(self) -> Stored:
        self._opened().close()
        return Stored()

    def copy(self, origin: str) -> Stored:
        if not self._fs.isfile(origin):
            raise FileNotFoundError(origin)
        self._prepare()
        self._fs.cp_file(origin, self._location)
        return Stored()

    def discard(self) -> None:
        if self._file is not None:
            _abandon(self._file)
        if self._touched:
            try:
                self._fs.rm_file(self._location)
            except FileNotFoundError:
                pass

    def _opened(self) -> Any:
        if self._file is None:
            self._prepare()
            self._file = self._fs.open(self._location, "wb", block_size=self._part_size)
        return self._file

    def _prepare(self) -> None:
        if self._create and self._fs.exists(self._location):
            raise FileExistsError(self._location)
        parent = self._location.rpartition("/")[0]
        if parent:
            self._fs.makedirs(parent, exist_ok=True)
        self._touched = True


def described(info: Mapping[str, Any]) -> Stored:
    """Etag and version, in the many spellings of filesystems."""
    etag = info.get("ETag") or info.get("etag") or None
    version = info.get("VersionId") or info.get("version_id") or info.get("generation") or None
    return Stored(etag, version)


def _abandon(file: Any) -> None:
    """Let go of a file without storing it: a buffered one of fsspec would store what it has when it is closed."""
    if not isinstance(file, AbstractBufferedFile):
        file.close()
        return
    try:
        file.discard()
    finally:
        file.closed = True


def _options(protocol: str, attributes: Attributes) -> dict[str, Any]:
    """The attributes in the words of s3fs, gcsfs and adlfs."""
    content_type = header(attributes.content_type)
    disposition = header(attributes.content_disposition)
    metadata = user_metadata(attributes.metadata, protocol)
    options: dict[str, Any]
    if protocol == "s3":
        options = {"ContentType": content_type, "ContentDisposition": disposition, "Metadata": metadata}
    elif protocol == "gs":
        fixed = {"content_disposition": disposition} if disposition else None
        options = {"content_type": content_type, "metadata": metadata, "fixed_key_metadata": fixed}
    else:
        settings = {"content_type": content_type, "content_disposition": disposition}
        settings = {name: value for name, value in settings.items() if value}
        options = {"content_settings": settings, "metadata": metadata and {"is_directory": "false", **metadata}}
    return {name: value for name, value in options.items() if value}
