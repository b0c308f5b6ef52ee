"""Signed URLs for stores that have none of their own: what one grants travels in it, and the application serves it."""

from urllib.parse import quote

import msgspec

from lading import clock
from lading.errors import ConfigurationError, NotSupported
from lading.paths import sanitise
from lading.record import FileRecord
from lading.serving import entity_tag
from lading.tokens import Tokens


class Grant(msgspec.Struct, array_like=True, frozen=True):
    """What a signed URL lets its holder read, and all that is needed to serve it; see `FileRecord`.

    Attributes:
        etag: the tag that it is served under, see `lading.serving.entity_tag`.
        expires_at: seconds since the epoch.
    """

    backend: str
    path: str
    filename: str
    content_type: str
    size: int | None
    last_modified: float | None
    etag: str | None
    expires_at: float


class UrlSigner:
    """Signs URLs `{base_url}{path}/{token}/{filename}`, without I/O, and reads their tokens.

    The token is the whole truth; the file name in the URL is there for people. Whoever holds a URL can read in it where
    the object lies, and cannot change that.

    Args:
        tokens: makes and checks the tokens. One made for another `path` is refused.
        path: what the URLs begin with, from `/`.
        base_url: scheme and host, and what else a proxy puts before `path`; without it the URLs are relative.

    Raises:
        ConfigurationError: `path` does not begin with `/`, or `base_url` is no `http://` or `https://` URL.
    """

    __slots__ = ("_base", "_purpose", "_tokens")

    def __init__(self, tokens: Tokens, path: str = "/files", *, base_url: str | None = None) -> None:
        if not path.startswith("/"):
            raise ConfigurationError(f"the path of signed URLs begins with '/': {path!r}")
        if base_url is not None and not base_url.startswith(("http://", "https://")):
            raise ConfigurationError(f"base_url begins with 'http://' or 'https://': {base_url!r}")
        path = path.rstrip("/")
        self._tokens = tokens
        self._base = (base_url or "").rstrip("/") + path
        # Two registries of one application may share the secret, and use one key for two backends.
        self._purpose = f"lading.download:{path}"

    def sign(self, record: FileRecord, *, expires_in: int, for_upload: bool = False) -> str:
        """A URL that reads the object for `expires_in` seconds.

        Raises:
            NotSupported: it is wanted `for_upload`.
        """
        if for_upload:
            raise NotSupported(
                f"backend {record.backend!r} has no signed URLs of its own, and lading signs none for uploads to it; "
                "send the file through the application"
            )
        now = clock.now()
        grant = Grant(
            record.backend,
            record.path,
            record.filename,
            record.content_type,
            record.size,
            record.last_modified,
            entity_tag(record.checksum, record.etag),
            now + expires_in,
        )
        token = self._tokens.dumps(self._purpose, grant, expires_in=expires_in, now=now)
        return f"{self._base}/{token}/{quote(sanitise(record.filename), safe='')}"

    def read(self, token: str) -> Grant:
        """What a token grants.

        Raises:
            InvalidToken: it was altered, or is of another secret or path.
            ExpiredToken: its time is over.
        """
        return self._tokens.loads(self._purpose, token, Grant)
