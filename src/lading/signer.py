"""Signed URLs of our own: what one grants travels in it, and the application serves it."""

import re
from urllib.parse import quote

import msgspec

from lading import clock
from lading.backends.protocols import LONGEST
from lading.errors import ConfigurationError
from lading.mediatypes import canonical
from lading.paths import sanitise
from lading.record import Disposition, FileRecord
from lading.serving import entity_tag
from lading.tokens import Tokens

# What a browser reads `//` and `/\` for is another host.
_PATH = re.compile(r"/(?!/)[!$-;=@-\[\]-~]*").fullmatch
_BASE = re.compile(r"(https?)://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?(?:/[!$-;=@-\[\]-~]*)?").fullmatch
_USUAL_PORTS = {"http": ":80", "https": ":443"}
_DISPOSITIONS = ("inline", "attachment", None)


class Grant(msgspec.Struct, array_like=True, frozen=True):
    """What a signed URL lets its holder read, and all that is needed to serve it; see `FileRecord`.

    Attributes:
        filename: what the URL was signed with where that was given, else the record's.
        content_type: likewise.
        etag: the tag that it is served under, see `lading.serving.entity_tag`.
        expires_at: seconds since the epoch.
        disposition: `None` leaves it to the type; so does, of active content, any.
        overrides: it is to be served otherwise than it was stored, which no URL of a store does.
    """

    backend: str
    path: str
    filename: str
    content_type: str
    size: int | None
    last_modified: float | None
    etag: str | None
    expires_at: float
    disposition: Disposition | None = None
    overrides: bool = False


class UploadGrant(msgspec.Struct, array_like=True, frozen=True):
    """What a signed `PUT` lets its holder write, and what the id of a direct upload stands for.

    Attributes:
        backend: where.
        path: where in it.
        filename: what the user calls it.
        content_type: the type that the request must have; `None` for any.
        size: the bytes that it must have; `None` for any number.
        checksum: `"sha256:<hex>"` of what it must hold; `None` for anything.
        policy: the name of the policy that its content must pass, see `lading.policy.Policy`.
        principal: whom the id serves; `None` for whoever has it.
        expires_at: seconds since the epoch.
    """

    backend: str
    path: str
    filename: str
    content_type: str | None
    size: int | None
    checksum: str | None
    policy: str | None
    principal: str | None
    expires_at: float


class UrlSigner:
    """Signs URLs, without I/O, and reads their tokens.

    A download is `{base_url}{path}/{token}/{filename}`, an upload `{base_url}{path}/uploads/{token}`. The token is the
    whole truth; the file name in the URL is there for people. Whoever holds a URL can read in it where the object lies,
    and cannot change that. Tokens for downloads, uploads and ids are three kinds, of which none passes for another.

    Args:
        tokens: makes and checks the tokens. One made for another `path` is refused.
        path: what the URLs begin with, from `/`.
        base_url: scheme and host, and what else a proxy puts before `path`; without it the URLs are relative.
        longest: seconds that a URL may be good for, from 1 to 604,800 (7 days).
        always: sign for stores that have signed URLs of their own, too, for downloads and uploads.
        separate_origin: nothing but files is served at `base_url`, so that active content can do no harm there.

    Raises:
        ConfigurationError: `path` does not begin with `/`, `base_url` is no `http://` or `https://` URL in ASCII, or
            missing where `separate_origin` needs it, or `longest` is out of range.
    """

    __slots__ = ("_always", "_attach", "_base", "_download", "_host", "_is_separate", "_longest", "_tokens", "_upload")

    def __init__(
        self,
        tokens: Tokens,
        path: str = "/files",
        *,
        base_url: str | None = None,
        longest: int = LONGEST,
        always: bool = False,
        separate_origin: bool = False,
    ) -> None:
        if not _PATH(path):
            raise ConfigurationError(f"the path of signed URLs begins with '/', and has nothing to quote: {path!r}")
        if not 1 <= longest <= LONGEST:
            raise ConfigurationError(f"longest is from 1 to {LONGEST} seconds (7 days), not {longest}")
        if separate_origin and base_url is None:
            raise ConfigurationError("a separate origin needs the base_url that says where it is")
        path = path.rstrip("/")
        self._tokens = tokens
        self._base = (base_url or "").rstrip("/") + path
        self._host = None if base_url is None else _host(base_url)
        self._is_separate = separate_origin
        self._longest = longest
        self._always = always
        # Two registries of one application may share the secret, and use one key for two backends.
        self._download = f"lading.download:{path}"
        self._upload = f"lading.upload:{path}"
        self._attach = f"lading.attach:{path}"

    @property
    def longest(self) -> int:
        """Seconds that a URL may be good for."""
        return self._longest

    @property
    def always(self) -> bool:
        """Whether it signs for stores that have signed URLs of their own, too."""
        return self._always

    @property
    def origin_host(self) -> str | None:
        """The host of `base_url` as a `Host` header names it, in lower case; the port where it is not the usual one."""
        return self._host

    @property
    def separate_origin(self) -> str | None:
        """`origin_host`, where nothing but files is served there; else `None`."""
        return self._host if self._is_separate else None

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
            filename: instead of the record's; sanitised.
            disposition: instead of what the type leads to; what a browser would run is an attachment all the same.
            content_type: instead of the record's; parameters are dropped. It decides how the file is served, just as if
                the file were of that type.

        Raises:
            ConfigurationError: `expires_in` is out of range, `disposition` is neither, or `content_type` no media type.
        """
        self._check(expires_in)
        if disposition not in _DISPOSITIONS:
            raise ConfigurationError(f"disposition is 'inline' or 'attachment', not {disposition!r}")
        kind = record.content_type if content_type is None else canonical(content_type)
        if kind is None:
            raise ConfigurationError(f"content_type is no media type: {content_type!r}")
        now = clock.now()
        name = sanitise(record.filename if filename is None else filename)
        grant = Grant(
            backend=record.backend,
            path=record.path,
            filename=name,
            content_type=kind,
            size=record.size,
            last_modified=record.last_modified,
            etag=entity_tag(record.checksum, record.etag),
            expires_at=now + expires_in,
            disposition=disposition,
            overrides=not (filename is disposition is content_type is None),
        )
        token = self._tokens.dumps(self._download, grant, expires_in=expires_in, now=now)
        return f"{self._base}/{token}/{quote(name, safe='')}"

    def read(self, token: str) -> Grant:
        """What the token of a download grants.

        Raises:
            InvalidToken: it was altered, or is of another secret, path or kind.
            ExpiredToken: its time is over.
        """
        return self._tokens.loads(self._download, token, Grant)

    def sign_put(self, record: FileRecord, *, expires_in: int) -> str:
        """A URL to which anything may be `PUT` for `expires_in` seconds, to lie where the record says.

        Raises:
            ConfigurationError: `expires_in` is out of range.
        """
        self._check(expires_in)
        grant = UploadGrant(
            backend=record.backend,
            path=record.path,
            filename=sanitise(record.filename),
            content_type=None,
            size=None,
            checksum=None,
            policy=None,
            principal=None,
            expires_at=clock.now() + expires_in,
        )
        return self.sign_upload(grant)

    def sign_upload(self, grant: UploadGrant) -> str:
        """A URL to which that may be `PUT`, until the grant's time is over.

        Raises:
            ConfigurationError: that is past, or further away than `longest`.
        """
        left = grant.expires_at - clock.now()
        if not 0 < left < self._longest + 1:  # whoever made the grant has read the clock a moment ago
            raise ConfigurationError(f"an upload has from 1 to {self._longest} seconds, not {left:.3f}")
        return f"{self._base}/uploads/{self._seal(self._upload, grant)}"

    def read_upload(self, token: str) -> UploadGrant:
        """What the token of an upload grants. Raises `InvalidToken`, `ExpiredToken`."""
        return self._tokens.loads(self._upload, token, UploadGrant)

    def sign_id(self, grant: UploadGrant) -> str:
        """The id of a direct upload, good until the grant's time is over, however long that is; a URL it is not."""
        return self._seal(self._attach, grant)

    def read_id(self, upload_id: str) -> UploadGrant:
        """What the id of a direct upload stands for. Raises `InvalidToken`, `ExpiredToken`."""
        return self._tokens.loads(self._attach, upload_id, UploadGrant)

    def _seal(self, purpose: str, grant: UploadGrant) -> str:
        return self._tokens.dumps(purpose, grant, expires_in=0, now=grant.expires_at)

    def _check(self, expires_in: int) -> None:
        if not 1 <= expires_in <= self._longest:
            raise ConfigurationError(f"expires_in must be from 1 to {self._longest} seconds, not {expires_in}")


def _host(base_url: str) -> str:
    """The host of a URL, as browsers write it into `Host` (RFC 9110, section 7.2)."""
    parts = _BASE(base_url)
    if parts is None:
        raise ConfigurationError(
            f"base_url is http:// or https://, a host in ASCII and perhaps a port and a path: {base_url!r}"
        )
    scheme, host, port = parts.groups(default="")
    return host.lower() + ("" if port == _USUAL_PORTS[scheme] else port)
