"""Stores by way of fsspec: any `AbstractFileSystem`."""

# fsspec has no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false

from collections.abc import Sequence
from typing import Any

from lading import worlds
from lading.backends.base import LEAST_PART, RETRIES, Backend, checked_prefix, summary
from lading.backends.local import local_place
from lading.backends.protocols import Driver, Place
from lading.errors import ConfigurationError, MissingDependency
from lading.media import Trust
from lading.paths import PathMaker
from lading.rules import Rule
from lading.worlds import World

try:
    from fsspec import AbstractFileSystem
    from fsspec.core import url_to_fs
    from fsspec.implementations.dirfs import DirFileSystem
    from fsspec.implementations.local import LocalFileSystem
    from fsspec.implementations.memory import MemoryFileSystem

    from lading.backends.fsspec_driver import FSSpecDriver, LocalDriver, SigningDriver
except ModuleNotFoundError as error:
    if error.name != "fsspec":
        raise
    raise MissingDependency("fsspec", "fsspec") from error

_PROTOCOLS = {
    "local": "file",
    "s3a": "s3",
    "gcs": "gs",
    "abfs": "az",
    "abfss": "az",
    "adl": "az",
}
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure"}

# By itself botocore signs URLs by a version that newer buckets refuse, and sends each request up to five times, all of
# which s3fs then does up to five times, and lading three times.
_S3_CONFIG = {"signature_version": "s3v4", "retries": {"total_max_attempts": 2}}


class FSSpecBackend(Backend):
    """A filesystem of fsspec as a backend.

    What a filesystem promises differs. Create-only puts are atomic on local disk, in memory, on S3, GCS and Azure;
    elsewhere lading looks first and then writes, and two writers of one name may both succeed. A create-only copy is
    atomic on local disk and in memory. A failed stream leaves nothing on these; elsewhere what was written is deleted
    afterwards, and until then can be seen, and a failed overwrite has destroyed what was there. Local files are
    written under a hidden name in their directory and then linked or renamed; a process that is killed leaves that.

    A filesystem is one blocking thing: under asyncio each call runs in a thread. Its cache of listings is switched
    off, also on a filesystem that is handed in, since another process may store and delete too. `memory://` is one
    store for the whole process, as everywhere in fsspec.

    Args:
        key: the name under which rows remember this place.
        fs: a URL that fsspec knows, or a filesystem that is not asynchronous.
        prefix: put before every path, below that of the URL. With a filesystem it begins with the bucket, or on local
            disk with `/`.
        rules: asked of every file, before those of the column.
        path: names new objects.
        trust: what decides the content type, see `lading.media.detect`.
        checksum: an algorithm of `hashlib`; `None` for none.
        chunk_size: bytes, at least 5 MiB on S3 and GCS. Longer content is sent in parts of this size, or larger ones
            where 9,000 of them would not do.
        retries: how many times what the store could not do just now is tried again, after a pause; 0 for never. What
            the filesystem tries again by itself is within each of these.
        fsync: local files only: a put returns when file and directories are on disk.
        storage_options: passed to the filesystem that the URL names. Where that has a `key` of its own, as s3fs has,
            use its other name, there `username`, or hand in a filesystem.

    Raises:
        ConfigurationError: an argument or option is wrong.
        MissingDependency: the package for that kind of URL is not installed.
    """

    def __init__(
        self,
        key: str,
        fs: str | AbstractFileSystem,
        *,
        prefix: str = "",
        rules: Sequence[Rule] = (),
        path: PathMaker | None = None,
        trust: Trust = "content",
        checksum: str | None = "sha256",
        chunk_size: int = LEAST_PART,
        retries: int = RETRIES,
        fsync: bool = False,
        **storage_options: Any,
    ) -> None:
        if isinstance(fs, str):
            filesystem, root = _open(fs, storage_options)
            root = _joined(root, checked_prefix(prefix))
        else:
            filesystem, root = _given(fs, prefix, storage_options)
        if filesystem.async_impl and filesystem.asynchronous:
            raise ConfigurationError(
                f"backend {key!r}: a filesystem with asynchronous=True runs in one loop only; "
                "make it without, and lading runs it in threads"
            )
        name = filesystem.protocol if isinstance(filesystem.protocol, str) else filesystem.protocol[0]
        super().__init__(
            key,
            _PROTOCOLS.get(name, name),
            filesystem,
            prefix=root,
            rules=rules,
            path=path,
            trust=trust,
            checksum=checksum,
            chunk_size=chunk_size,
            retries=retries,
        )
        local = isinstance(filesystem, LocalFileSystem)
        if local and not root.startswith("/"):
            raise ConfigurationError(f"backend {key!r}: a local filesystem needs an absolute prefix, not {root!r}")
        if self.protocol in ("s3", "gs", "az") and not root:
            raise ConfigurationError(f"backend {key!r}: the prefix begins with the bucket or container")
        if fsync and not local:
            raise ConfigurationError(f"backend {key!r}: fsync is for local files, not for {self.protocol}")
        _switch_off_listings(filesystem)
        driver = FSSpecDriver
        if local:
            driver = LocalDriver
        elif self.protocol in ("s3", "gs", "az"):
            driver = SigningDriver
        self._inline: Driver = driver(self, filesystem, worlds.inline, fsync=fsync)
        self._asyncio: Driver = driver(self, filesystem, worlds.asyncio_world, fsync=fsync)

    def driver(self, world: World) -> Driver:
        """The verbs for that world."""
        return self._inline if world is worlds.inline else self._asyncio

    @property
    def place(self) -> Place:
        """The store, and what lies before every path there; see `lading.backends.protocols.Located`."""
        if isinstance(self.store, LocalFileSystem):
            return local_place(self.prefix)
        root = self.prefix.strip("/")
        if self.protocol in ("s3", "gs", "az"):
            bucket, _, root = root.partition("/")
            return f"{self.protocol} {bucket}", root
        return f"{self.protocol} of fsspec", root


def _open(url: str, options: dict[str, Any]) -> tuple[Any, str]:
    if "://" not in url or "::" in url:
        raise ConfigurationError(f"fs is one URL, such as s3://bucket, or a filesystem; not {url!r}")
    scheme = url.partition("://")[0]
    if scheme in ("s3", "s3a"):
        options = options | {"config_kwargs": {**_S3_CONFIG, **(options.get("config_kwargs") or {})}}
    try:
        filesystem, root = url_to_fs(url, **options)
    except ImportError as error:
        raise MissingDependency(error.name or f"a filesystem for {scheme}://", _EXTRAS.get(scheme, "fsspec")) from error
    except (TypeError, ValueError, OSError) as error:
        raise ConfigurationError(f"cannot open a {scheme}:// filesystem: {summary(error)}") from error
    return filesystem, _checked_root(root)


def _given(fs: object, prefix: str, options: dict[str, Any]) -> tuple[Any, str]:
    if not isinstance(fs, AbstractFileSystem):
        raise ConfigurationError(f"fs is a URL or a filesystem of fsspec, not {type(fs).__name__}")
    if options:
        raise ConfigurationError(f"options of a filesystem that exists belong to it: {', '.join(sorted(options))}")
    root = _checked_root(prefix)
    while isinstance(fs, DirFileSystem):
        root = _joined(_checked_root(fs.path), root.lstrip("/"))
        fs = fs.fs
    return fs, f"/{root.lstrip('/')}" if isinstance(fs, MemoryFileSystem) else root


def _checked_root(root: str) -> str:
    """A directory as filesystems write it: with its leading `/` where it has one, and without one at its end."""
    below = checked_prefix(root.strip("/"))
    return f"/{below}" if root.startswith("/") else below


def _joined(root: str, prefix: str) -> str:
    return f"{root.rstrip('/')}/{prefix}" if root and prefix else root or prefix


def _switch_off_listings(fs: Any) -> None:
    """Without this, S3, GCS and Azure filesystems answer `info` and `find` from what they listed before."""
    cache: Any = getattr(fs, "dircache", None)
    if hasattr(cache, "use_listings_cache"):
        cache.use_listings_cache = False
        cache.clear()
