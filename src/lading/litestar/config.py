"""What an application says of its files: `LadingConfig`, once, at the place where it is put together."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import timedelta
from typing import Any, Literal, TypeAlias

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from lading import paths
from lading.errors import ConfigurationError, InvalidPath
from lading.ops.sign import LONGEST
from lading.orm.outbox import Outbox
from lading.orm.policies import FileColumn, outbox_of, policy_of
from lading.policy import Policy
from lading.receiving import Admission, Pace
from lading.rules import MiB
from lading.storages import Storages, storages
from lading.sweeper import Sweeper

Principal: TypeAlias = Callable[[ASGIConnection[Any, Any, Any, Any]], str | None]
"""Who a request is from, as a name that does not change between two requests; `None` for nobody in particular."""

Guard: TypeAlias = Callable[[ASGIConnection[Any, Any, Any, Any], BaseRouteHandler], Awaitable[None] | None]
"""A guard of Litestar: it raises what the client is told."""

_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)+/?").fullmatch


@dataclass(frozen=True, kw_only=True)
class DirectUploads:
    """Lets clients put files into the store themselves: they ask for a signed request, and hand in its id later.

    Args:
        guards: who may ask; at least one.
        principal: who a request is from. An id serves only whom it was given to, and one that was given to `None` only
            who is `None`, too; without this it serves whoever has it.
        expires_in: seconds in which the upload must have begun, from 1 to 604,800 (7 days).
        keep_for: how long an upload waits to be attached before it is deleted; not less than `expires_in`.
        prefix: of the paths of uploads, where a store can be told to delete what is old.
        trust_endpoint: whether an S3 server that is not Amazon's refuses a request with headers that its URL was not
            signed for, `x-amz-copy-source` above all. Unless that is known of it uploads come through the application:
            with that header an upload URL reads every object whose path is known.

    Raises:
        ConfigurationError: there is no guard, a time is out of range, or the prefix is no path.
    """

    guards: Sequence[Guard]
    principal: Principal | None = None
    expires_in: int = 3600
    keep_for: timedelta = timedelta(days=1)
    prefix: str = "uploads"
    trust_endpoint: bool = False

    def __post_init__(self) -> None:
        if not self.guards:
            raise ConfigurationError("direct uploads need a guard: without one anybody could fill the store")
        if not 1 <= self.expires_in <= LONGEST:
            raise ConfigurationError(f"expires_in is from 1 to {LONGEST} seconds, not {self.expires_in}")
        if self.keep_for.total_seconds() < self.expires_in:
            raise ConfigurationError(f"keep_for is not less than expires_in, {self.expires_in} seconds")
        try:
            paths.guard(self.prefix)
        except InvalidPath as error:
            raise ConfigurationError(f"the prefix of uploads is a path: {error.reason}: {self.prefix!r}") from error


@dataclass(frozen=True)
class LadingConfig:
    """How an application serves and receives files.

    Args:
        secret: at least 16 random bytes that sign URLs and ids; of several, newest first, the first signs and all are
            good. With key ids (a mapping) all that was signed under an id ends when the id is taken out.
        path: of the routes, below the application's own path.
        storages: the registry of the backends.
        name: under which the registry is injected into handlers, and found in `app.state`.
        base_url: scheme, host and whatever a proxy puts before the application; without it signed URLs are relative.
        separate_origin: `base_url` is an origin of its own, which serves nothing but files; there active content may
            be shown.
        urls: what `sign()` gives for stores that sign by themselves: the `"store"`'s URL, or one of ours, which
            answers with a `"redirect"` to it, or as a `"proxy"`. With `"proxy"` direct uploads come through us, too.
        longest: seconds that a signed URL lasts at most, up to 604,800 (7 days).
        downloads: whether signed URLs are served that read.
        download_guards: asked besides the token; with these the application's authentication is, too.
        uploads: whether signed URLs are served that write, of stores that sign none themselves.
        upload_guards: the same for these.
        columns: the `StoredObject` columns that clients may ask about and upload to directly, by `"table.column"`.
        hints: whether what a column accepts is told, at `{path}/policies/{column}`.
        hint_guards: who may ask.
        direct_uploads: who may upload directly to these columns; nobody by default.
        max_uploads: streamed uploads that one process receives at a time.
        upload_memory: bytes that these may hold together.
        pace: how slowly a body may come.
        sweeper: drains the outbox of its tables while the application runs.
        sweep_every: the time between two drains, more or less.

    Raises:
        ConfigurationError: an argument is wrong, or two do not go together; the message says which.
    """

    secret: str | bytes | Sequence[str | bytes] | Mapping[str, str | bytes]
    _: KW_ONLY
    path: str = "/files"
    storages: Storages = storages
    name: str = "storages"
    base_url: str | None = None
    separate_origin: bool = False
    urls: Literal["store", "redirect", "proxy"] = "store"
    longest: int = LONGEST
    downloads: bool = True
    download_guards: Sequence[Guard] = ()
    uploads: bool = True
    upload_guards: Sequence[Guard] = ()
    columns: Sequence[FileColumn] = ()
    hints: bool = True
    hint_guards: Sequence[Guard] = ()
    direct_uploads: DirectUploads | None = None
    max_uploads: int = 32
    upload_memory: int = 256 * MiB
    pace: Pace = Pace()  # noqa: RUF009  # a value
    sweeper: Sweeper | None = None
    sweep_every: timedelta = timedelta(minutes=1)

    def __post_init__(self) -> None:
        if not _PATH(self.path):
            raise ConfigurationError(f"the path of lading's routes is plain segments, such as '/files': {self.path!r}")
        if not self.name.isidentifier():
            raise ConfigurationError(f"the name of a registry is that of a handler's parameter, not {self.name!r}")
        if self.separate_origin and self.base_url is None:
            raise ConfigurationError("a separate origin has a base_url of its own")
        if self.urls not in ("store", "redirect", "proxy"):
            raise ConfigurationError(f"urls is 'store', 'redirect' or 'proxy', not {self.urls!r}")
        if self.urls != "store" and not self.downloads:
            raise ConfigurationError("URLs of ours have to be served: downloads is off")
        if self.direct_uploads is not None:
            self._check_direct_uploads(self.direct_uploads)
        self.policies()
        self.admission()

    def _check_direct_uploads(self, direct: DirectUploads) -> None:
        if not self.columns:
            raise ConfigurationError("direct uploads go to columns: name them, columns=[Document.file]")
        if self.sweeper is None:
            raise ConfigurationError("direct uploads need a sweeper, whose outbox says which of them wait")
        if direct.expires_in > self.longest:
            raise ConfigurationError(f"no URL lasts longer than {self.longest} seconds, nor do those of direct uploads")
        if self.urls == "proxy" and not self.uploads:
            raise ConfigurationError("URLs of ours have to be served: uploads is off")

    def policies(self) -> dict[str, Policy]:
        """The policies of the columns, by name.

        Raises:
            ConfigurationError: one is no `StoredObject` column of a table, of another registry, or called as another.
        """
        found: dict[str, Policy] = {}
        for column in self.columns:
            policy = policy_of(column)
            name = str(policy.name)
            if policy.storages is not self.storages:
                raise ConfigurationError(f"the files of {name} are in another registry: give it a plugin of its own")
            if found.setdefault(name, policy) != policy:
                raise ConfigurationError(f"two columns are called {name}")
        return found

    def outbox(self) -> Outbox:
        """Where direct uploads wait: the outbox of the sweeper's tables.

        Raises:
            ConfigurationError: there is none, or the table of a column has another.
        """
        found = None if self.sweeper is None else Outbox.of(self.sweeper.metadata)
        if found is None:
            raise ConfigurationError("direct uploads need an outbox, which says which of them wait: Outbox(metadata)")
        for column in self.columns:
            if outbox_of(column) is not found:
                raise ConfigurationError(f"{policy_of(column).name} is not of the tables that the sweeper looks after")
        return found

    def admission(self) -> Admission:
        """How many uploads may come in at a time."""
        return Admission(uploads=self.max_uploads, memory=self.upload_memory)
