"""Direct uploads: a client asks for a signed request, sends its bytes to the store, and hands in the id."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from litestar import Request, post
from litestar.enums import ScopeType
from litestar.handlers import HTTPRouteHandler
from litestar.params import Body
from msgspec import Meta
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from lading import clock
from lading.asgi.writing import SLACK
from lading.backends.protocols import Signs, StorageBackend
from lading.errors import BackendNotRegistered, ConfigurationError, InvalidToken, Mismatch, NotSupported, StoreError
from lading.file import FileObject, uploaded
from lading.litestar import current, openapi, problems
from lading.litestar.config import DirectUploads
from lading.litestar.staged import Staged
from lading.orm.outbox import Entry, Outbox
from lading.policy import Policy
from lading.signer import UploadGrant, UrlSigner
from lading.uploads import Upload, begin, headers, is_kept_to
from lading.worlds import asyncio_world


class UploadRequest(msgspec.Struct, kw_only=True):
    """What a client says of a file that it wants to upload.

    Attributes:
        filename: what the user calls it.
        size: in bytes, exactly.
        content_type: a media type; by default what the name says.
        checksum: `"sha256:<hex>"` of the content, which is then held against it.
        policy: of several columns, the one that the file is for: `"table.column"`.
    """

    filename: Annotated[str, Meta(min_length=1, max_length=1024)]
    size: Annotated[int, Meta(ge=0)]
    content_type: Annotated[str, Meta(max_length=255)] | None = None
    checksum: Annotated[str, Meta(max_length=100)] | None = None
    policy: Annotated[str, Meta(max_length=255)] | None = None


class UploadTicket(msgspec.Struct, kw_only=True):
    """The request to send the bytes with, and the id to hand in afterwards.

    Attributes:
        id: what a `FileObject` field accepts, once.
        method: of HTTP.
        url: where to; below this application where it is relative.
        headers: to be sent exactly so.
        expires_at: seconds since the epoch, until when the upload must have begun.
    """

    id: str
    method: str
    url: str
    headers: dict[str, str]
    expires_at: int


class Waiting:
    """Where it is written down which uploads may come.

    Args:
        engine: of the outbox.
        outbox: that of the tables whose columns the uploads are for.
    """

    def __init__(self, engine: Engine | AsyncEngine, outbox: Outbox) -> None:
        self._engine = engine
        self._outbox = outbox

    async def enter(self, entry: Entry, until: float) -> None:
        """Enter an upload, to be deleted after its time and committed before anybody can make it.

        Args:
            entry: the object.
            until: seconds since the epoch; a request that began by then may take `SLACK` to end.
        """
        due = datetime.fromtimestamp(until + SLACK, UTC)
        engine, outbox = self._engine, self._outbox
        if isinstance(engine, AsyncEngine):
            async with engine.begin() as connection:
                await connection.run_sync(outbox.expect, entry, due)
            return

        def enter() -> None:
            with engine.begin() as connection:
                outbox.expect(connection, entry, due)

        await asyncio.to_thread(enter)


class Direct:
    """The direct uploads of one application.

    Args:
        config: who may upload, and for how long.
        policies: of the columns, by name.
        signer: signs ids, and the requests to stores that have no signed URLs.
        waiting: where uploads are entered.
        serves: whether the application takes what is put to its own signed URLs.
        through_us: whether the bytes come through the application where the store could take them, too.
    """

    def __init__(
        self,
        config: DirectUploads,
        policies: Mapping[str, Policy],
        signer: UrlSigner,
        waiting: Waiting,
        *,
        serves: bool = True,
        through_us: bool = False,
    ) -> None:
        self._config = config
        self._policies = policies
        self._signer = signer
        self._waiting = waiting
        self._serves = serves
        self._through_us = through_us

    async def check(self) -> None:
        """Make sure, when the application starts, that uploads have somewhere to go.

        A backend that is not registered by then is not asked, and one that cannot sign just now is not judged.

        Raises:
            ConfigurationError: a store signs no URLs, or none that it is known to keep to, and the application does not
                serve its own.
        """
        for policy in () if self._serves else self._policies.values():
            try:
                place = policy.place
                if await self._url_of_store(place, f"{self._config.prefix}/any") is None:
                    raise _nowhere(place.key)
            except (BackendNotRegistered, StoreError):
                continue

    async def begin(self, request: Request[Any, Any, Any], data: UploadRequest) -> UploadTicket:
        """Let a client upload one file.

        Raises:
            Mismatch: the application has several columns for uploads, and the client names none of them.
            Refused: the column takes no such file.
            StoreError: the store failed to sign.
        """
        config = self._config
        policy = self._policy(data)
        upload = begin(
            policy,
            filename=data.filename,
            size=data.size,
            content_type=data.content_type,
            checksum=data.checksum,
            prefix=config.prefix,
        )
        now = clock.now()
        until = now + config.keep_for.total_seconds()
        await self._waiting.enter(upload.entry, until)
        grant = UploadGrant(
            upload.backend,
            upload.path,
            upload.filename,
            upload.content_type,
            upload.size,
            upload.checksum,
            policy.name,
            None if config.principal is None else config.principal(request),
            now + config.expires_in,
        )
        return UploadTicket(
            id=self._signer.sign_id(msgspec.structs.replace(grant, expires_at=until)),
            method="PUT",
            url=await self._url(policy, grant),
            headers=headers(upload),
            expires_at=int(grant.expires_at),
        )

    def read(self, token: str) -> FileObject:
        """The file that was uploaded under an id; a flush makes sure of it.

        A handler may save it before: what no row has taken then is removed when the request is over.

        Raises:
            InvalidToken: it is no id of ours, of a column that takes no uploads any more, or another's.
            ExpiredToken: the upload has been deleted meanwhile.
        """
        grant = self._signer.read_id(token)
        connection = current.connection()
        principal = self._config.principal
        if principal is not None and (connection is None or principal(connection) != grant.principal):
            raise InvalidToken("this upload was made by somebody else")
        policy = self._policies.get(grant.policy or "")
        if policy is None:
            raise InvalidToken("this upload is for a column that takes none")
        upload = Upload(
            backend=grant.backend,
            path=grant.path,
            filename=grant.filename,
            content_type=grant.content_type,
            size=grant.size,
            checksum=grant.checksum,
            policy=policy,
        )
        file = uploaded(upload)
        if connection is not None and connection.scope["type"] == ScopeType.HTTP:
            Staged.of(connection.scope).add(file)
        return file

    def _policy(self, data: UploadRequest) -> Policy:
        if data.policy is None and len(self._policies) == 1:
            return next(iter(self._policies.values()))
        policy = self._policies.get(data.policy or "")
        if policy is None:
            known = tuple(self._policies)
            message = f"policy is one of {', '.join(known)}"
            raise Mismatch(message, filename=data.filename, limit=known, actual=data.policy)
        return policy

    async def _url(self, policy: Policy, grant: UploadGrant) -> str:
        url = await self._url_of_store(policy.storages.get_backend(grant.backend), grant.path)
        if url is not None:
            return url
        if not self._serves:
            raise _nowhere(grant.backend)
        return self._signer.sign_upload(grant)

    async def _url_of_store(self, backend: StorageBackend, path: str) -> str | None:
        """What the store has signed, where clients may be given that."""
        driver = backend.driver(asyncio_world)
        if self._through_us or not isinstance(driver, Signs):
            return None
        try:
            url = await driver.sign(path, method="PUT", expires_in=self._config.expires_in)
        except NotSupported:  # some filesystems of fsspec sign reads alone
            return None
        return url if self._config.trust_endpoint or is_kept_to(url, backend) else None


def _nowhere(backend: str) -> ConfigurationError:
    return ConfigurationError(
        f"backend {backend!r} signs no uploads, or is no store that is known to take only what was signed "
        "(trust_endpoint), and the application serves none of its own URLs: uploads is off"
    )


def upload_route(path: str, direct: Direct, config: DirectUploads) -> HTTPRouteHandler:
    """`POST {path}/uploads`."""

    async def begin_upload(
        request: Request[Any, Any, Any],
        data: Annotated[UploadRequest, Body(title="A file to upload")],
    ) -> UploadTicket:
        return await direct.begin(request, data)

    return post(
        f"{path}/uploads",
        guards=list(config.guards),
        name=f"lading:{path}:uploads",
        summary="Begin a direct upload",
        tags=["files"],
        responses=openapi.problem_responses(400, 401, 403, 413, 415, 422, 503),
        exception_handlers=problems.on_our_routes(),
    )(begin_upload)
