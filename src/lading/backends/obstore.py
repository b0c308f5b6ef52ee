"""Stores by way of obstore: memory, local disk, S3, Google Cloud Storage, Azure."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from obstore.store import (
    AzureStore,
    GCSStore,
    HTTPStore,
    LocalStore,
    MemoryStore,
    S3Store,
    from_url,
)

from lading import worlds
from lading.backends.base import LEAST_PART, RETRIES, Backend, checked_prefix, summary
from lading.backends.local import local_place
from lading.backends.obstore_worlds import (
    Asyncio,
    AsyncioCloud,
    AsyncioLocal,
    AsyncioMemory,
    Inline,
    InlineCloud,
    InlineLocal,
    InlineMemory,
)
from lading.backends.protocols import Driver, Place
from lading.errors import ConfigurationError
from lading.media import Trust
from lading.paths import PathMaker
from lading.rules import Rule
from lading.worlds import World

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_PROTOCOLS: Mapping[type, str] = {
    MemoryStore: "memory",
    LocalStore: "file",
    S3Store: "s3",
    GCSStore: "gs",
    AzureStore: "az",
    HTTPStore: "http",
}
_CLOUD = (InlineCloud, AsyncioCloud)
_DRIVERS: Mapping[str, tuple[type[Inline], type[Asyncio]]] = {
    "memory": (InlineMemory, AsyncioMemory),
    "file": (InlineLocal, AsyncioLocal),
    "s3": _CLOUD,
    "gs": _CLOUD,
    "az": _CLOUD,
}
_LOCAL_OPTIONS = frozenset({"automatic_cleanup", "mkdir"})

# obstore's own default cuts any response after 30 seconds, however fast it flows. `read_timeout` also bounds the time
# in which one part is sent, before the store answers it.
_CLIENT_OPTIONS: Mapping[str, Any] = {"timeout": "24h", "read_timeout": "60s"}

# obstore's own default is 10 more requests within 3 minutes, which lading's retries would multiply. Some there must be:
# a part of a stream that cannot be read again can only be sent again there.
_RETRY_CONFIG: Mapping[str, Any] = {"max_retries": 3, "retry_timeout": timedelta(seconds=30)}


class ObstoreBackend(Backend):
    """A store of obstore as a backend.

    Small content is one request. A stream is a multipart upload, which no store can make create-only: the name is
    reserved first by a create-only put of an empty object, then overwritten, and deleted when the stream fails. So two
    writers of one name never both succeed; where versions are kept, each such object has an empty one before it. S3
    has no create-only copy either, and copies in the same way; its copies end at 5 GB.

    Local files are written aside, under a hidden name, and appear when they are complete; a process that is killed
    leaves that file (`name#1`, `.lading-...`), which is never listed, and names like it are refused or not listed. A
    copy is made in the same way, with an age of its own. Directories that become empty stay, because removing one races
    with the next put into it.

    For Azure, obstore signs paths with characters beyond ASCII letters and digits wrongly.

    Args:
        key: the name under which rows remember this place.
        fs: a URL (`memory://`, `file:///srv/files`, `s3://bucket/prefix`, `gs://...`, `az://...`), or a store of
            obstore. The directory of a `file` URL is made.
        prefix: put before every path, below that of the URL.
        rules: asked of every file, before those of the column.
        path: names new objects.
        trust: what decides the content type, see `lading.media.detect`.
        checksum: an algorithm of `hashlib`; `None` for none.
        chunk_size: bytes, at least 5 MiB on S3 and GCS. Longer content is sent in parts of this size, or larger ones
            where 9,000 of them would not do; a stream of unknown length ends at 10,000 parts.
        retries: how many times what the store could not do just now is tried again, after a pause; 0 for never. What
            obstore tries again by itself is within each of these.
        fsync: local files only: a put returns when file and directories are on disk.
        store_options: passed to `obstore.store.from_url`. `client_options` has a `timeout` of 24 hours and a
            `read_timeout` of 60 seconds where it says nothing else, and allows plain HTTP where an endpoint is given
            that begins with `http://`. `retry_config` says how often obstore itself sends a request again: by default
            3 times within 30 seconds of the first.

    Raises:
        ConfigurationError: an argument or option is wrong; the message names it.
    """

    def __init__(
        self,
        key: str,
        fs: "str | ObjectStore",
        *,
        prefix: str = "",
        rules: Sequence[Rule] = (),
        path: PathMaker | None = None,
        trust: Trust = "content",
        checksum: str | None = "sha256",
        chunk_size: int = LEAST_PART,
        retries: int = RETRIES,
        fsync: bool = False,
        **store_options: Any,
    ) -> None:
        store = _open(fs, store_options) if isinstance(fs, str) else _given(fs, store_options)
        protocol = _PROTOCOLS[type(store)]
        if isinstance(fs, str) and protocol == "memory":
            url = urlsplit(fs)
            prefix = "/".join(filter(None, (url.netloc + url.path.rstrip("/"), prefix))).lstrip("/")
        super().__init__(
            key,
            protocol,
            store,
            prefix=checked_prefix(prefix),
            rules=rules,
            path=path,
            trust=trust,
            checksum=checksum,
            chunk_size=chunk_size,
            retries=retries,
        )
        if fsync and protocol != "file":
            raise ConfigurationError(f"backend {key!r}: fsync is for local files, not for {protocol}")
        inline, in_asyncio = _DRIVERS.get(protocol, (Inline, Asyncio))
        self._inline: Driver = inline(self, store, fsync=fsync)
        self._asyncio: Driver = in_asyncio(self, store, fsync=fsync)

    def driver(self, world: World) -> Driver:
        """The verbs for that world."""
        return self._inline if world is worlds.inline else self._asyncio

    @property
    def place(self) -> Place:
        """The store, and what lies before every path there; see `lading.backends.protocols.Located`."""
        root = str(getattr(self.store, "prefix", None) or "")
        if self.protocol == "memory":
            return f"memory {id(self.store)}", self.prefix
        if self.protocol == "file":
            return local_place(f"{root}/{self.prefix}")
        config = getattr(self.store, "config", {})
        store = config.get("bucket") or config.get("container_name") or getattr(self.store, "url", "")
        return f"{self.protocol} {store}", "/".join(filter(None, (root.strip("/"), self.prefix)))

    def __repr__(self) -> str:
        place = "/".join(filter(None, (str(getattr(self.store, "prefix", None) or ""), self.prefix)))
        bucket = getattr(self.store, "config", {}).get("bucket", "")
        return f"<ObstoreBackend {self.key!r}: {self.protocol}://{'/'.join(filter(None, (bucket, place)))}>"


def _given(store: object, options: Mapping[str, Any]) -> "ObjectStore":
    if type(store) not in _PROTOCOLS:
        raise ConfigurationError(f"fs is a URL or a store of obstore, not {type(store).__name__}")
    if options:
        raise ConfigurationError(f"options of a store that exists already belong to it: {', '.join(sorted(options))}")
    return cast("ObjectStore", store)


def _open(url: str, options: dict[str, Any]) -> "ObjectStore":
    parts = urlsplit(url)
    if not parts.scheme or "://" not in url:
        raise ConfigurationError(f"fs is a URL such as file:///srv/files or s3://bucket, not {url!r}")
    if parts.scheme in ("file", "memory"):
        unknown = options.keys() - (_LOCAL_OPTIONS if parts.scheme == "file" else set[str]())
        if unknown:
            raise ConfigurationError(f"{parts.scheme}:// has no option {', '.join(sorted(unknown))}")
        if parts.scheme == "memory":
            return MemoryStore()
        if parts.netloc not in ("", "localhost"):
            raise ConfigurationError(f"a file URL has three slashes and an absolute path, unlike {url!r}")
        options = {"mkdir": True} | options
    else:
        options = {"retry_config": _RETRY_CONFIG} | options | {"client_options": _client_options(parts.scheme, options)}
    try:
        return from_url(url, **options)
    except Exception as error:
        raise ConfigurationError(f"cannot open a {parts.scheme}:// store: {summary(error)}") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # obstore 0.12 panics on client options outside `client_options`
            raise
        names = ", ".join(sorted(options.keys() - {"client_options", "retry_config"}))
        raise ConfigurationError(
            f"cannot open a {parts.scheme}:// store: one of {names} is no option of the store; "
            "options of its HTTP client go into client_options={...}"
        ) from error


def _client_options(scheme: str, options: Mapping[str, Any]) -> dict[str, Any]:
    plain = scheme == "http" or any(
        "endpoint" in name and "metadata" not in name and str(value).lower().startswith("http://")
        for name, value in options.items()
    )
    return {**_CLIENT_OPTIONS, **({"allow_http": True} if plain else {}), **(options.get("client_options") or {})}
