"""What signed URLs grant, served."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Literal, TypeAlias

from lading import clock
from lading.asgi.reading import reading
from lading.asgi.reply import Application, Receive, Reply, Scope, Send, headers_of, plain_refusal
from lading.asgi.writing import writing
from lading.backends.protocols import LONGEST, Signs, StorageBackend
from lading.errors import BackendNotRegistered, ConfigurationError, InvalidPath, InvalidToken, ObjectNotFound
from lading.media import is_active
from lading.ops.retry import Retrying
from lading.policy import ANYTHING, Policy
from lading.receiving import PACE, Admission, Pace
from lading.serving import Representation, while_it_is_good
from lading.signer import Grant, UploadGrant, UrlSigner
from lading.storages import Storages, storages
from lading.worlds import asyncio_world

log = logging.getLogger("lading")

Mode: TypeAlias = Literal["proxy", "redirect"]
"""Whether files come through the application, or from a store that signs URLs itself."""

_READ, _WRITE = "GET, HEAD, OPTIONS", "PUT, OPTIONS"
_UPLOADS = "uploads"


class FileServer(Application):
    """Serves signed URLs, as an ASGI application that is mounted at the signer's path.

    `GET` and `HEAD` of `.../{token}/{filename}` read; `PUT` to `.../uploads/{token}` writes what a signed upload
    grants, as it arrives. The token is the permission; whatever comes before it in the path is the business of who
    mounted this. All else is 404, or 405 with `Allow`. Refusals are problem documents (RFC 9457).

    Args:
        signer: made the URLs.
        storages: the registry of the backends.
        mode: `"redirect"` sends who wants to read from a store that signs URLs there (307), with one that lasts no
            longer than ours. What the store would not serve as the URL has it comes through the application all the
            same: with another name, type or disposition, and what browsers would run.
        policies: by name, what signed uploads must pass; a grant that names another is refused.
        admission: lets uploads in; by default one with its own defaults.
        pace: how slowly an upload may come.

    Raises:
        ConfigurationError: `mode` is neither.
    """

    def __init__(
        self,
        signer: UrlSigner,
        storages: Storages = storages,
        *,
        mode: Mode = "proxy",
        policies: Mapping[str, Policy] = MappingProxyType({}),
        admission: Admission | None = None,
        pace: Pace | None = None,
    ) -> None:
        if mode not in ("proxy", "redirect"):
            raise ConfigurationError(f"mode is 'proxy' or 'redirect', not {mode!r}")
        self._signer = signer
        self._storages = storages
        self._redirects = mode == "redirect"
        self._policies = policies
        self._admission = admission or Admission()
        self._pace = pace or PACE

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        else:
            await super().__call__(scope, receive, send)

    async def respond(self, scope: Scope, receive: Receive) -> Reply:
        """The reply to a request; an upload is stored by then.

        Raises:
            InvalidToken, ExpiredToken: the URL is not good, or not any more.
            ObjectNotFound: there is no such object, or nothing can lie there (any more).
            Refused, RequestError: an upload is not what it may be, or cannot be read.
            StoreError: the store failed.
        """
        root: str = scope.get("root_path", "")
        path: str = scope["path"]
        parent, name = ["", *path.removeprefix(root).split("/")][-2:]
        if not parent or not name:
            return plain_refusal(scope, HTTPStatus.NOT_FOUND)
        method, allowed = scope["method"], _WRITE if parent == _UPLOADS else _READ
        if method == "OPTIONS":
            return Reply(204, [("allow", allowed)])
        if method not in allowed.split(", "):
            return plain_refusal(scope, HTTPStatus.METHOD_NOT_ALLOWED, [("allow", allowed)])
        if method == "PUT":
            return await self._write(scope, receive, self._signer.read_upload(name))
        grant = self._signer.read(parent)
        try:
            return await self._read(scope, grant)
        except InvalidPath as error:
            raise ObjectNotFound("no object can lie there", backend=grant.backend, path=grant.path) from error

    async def _read(self, scope: Scope, grant: Grant) -> Reply:
        backend = self._backend(grant)
        driver = backend.driver(asyncio_world)
        left = grant.expires_at - clock.now()
        if self._redirects and isinstance(driver, Signs) and _may_redirect(scope, grant, left):
            url = await driver.sign(grant.path, method="GET", expires_in=min(int(left), LONGEST))
            return _redirect(url, left)
        size = grant.size
        if size is None:
            size = (await Retrying(backend, asyncio_world).head(grant.path)).size
        what = Representation(
            size=size,
            content_type=grant.content_type,
            filename=grant.filename,
            etag=grant.etag,
            last_modified=grant.last_modified,
            disposition=grant.disposition,
            cache_control=while_it_is_good(left),
            embedding="cross-origin",  # whoever has the URL may read it, so no page learns anything by showing it
            separate_origin=self._is_separate(scope),
        )
        return await reading(scope, backend, grant.path, what)

    async def _write(self, scope: Scope, receive: Receive, grant: UploadGrant) -> Reply:
        policy = ANYTHING if grant.policy is None else self._policies.get(grant.policy)
        if policy is None:
            raise InvalidToken(f"nothing may be uploaded for {grant.policy!r} here")
        return await writing(
            scope,
            receive,
            grant,
            backend=self._backend(grant),
            policy=policy,
            admission=self._admission,
            pace=self._pace,
        )

    def _backend(self, grant: Grant | UploadGrant) -> StorageBackend:
        """Where a grant leads; a URL may outlive its store, and its holder can no more help it than find it."""
        try:
            return self._storages.get_backend(grant.backend)
        except BackendNotRegistered as error:
            log.warning("a signed URL leads to no store: %s", error, extra={"backend": grant.backend})
            raise ObjectNotFound(str(error), backend=grant.backend, path=grant.path) from error

    def _is_separate(self, scope: Scope) -> bool:
        """Whether the request came to the origin where nothing but files is served."""
        origin = self._signer.separate_origin
        return origin is not None and headers_of(scope).get("host", "").lower() == origin


def _may_redirect(scope: Scope, grant: Grant, left: float) -> bool:
    """Whether the store would serve what the URL grants: it signs for `GET` alone, and for whole seconds."""
    return scope["method"] == "GET" and left >= 1 and not grant.overrides and not is_active(grant.content_type)


def _redirect(url: str, left: float) -> Reply:
    # Kept for half of the time, so that who follows it late can still read to the end.
    headers = [
        ("location", url),
        ("cache-control", while_it_is_good(left / 2)),
        ("content-length", "0"),
        ("referrer-policy", "no-referrer"),
    ]
    return Reply(307, headers)


async def _live(receive: Receive, send: Send) -> None:
    """The lifespan protocol, for who is served by itself: there is nothing to start or to stop."""
    while True:
        phase = (await receive())["type"]
        await send({"type": f"{phase}.complete"})
        if phase == "lifespan.shutdown":
            return
