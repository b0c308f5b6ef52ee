"""Signed uploads: what a grant lets its holder write."""

import hashlib
from collections.abc import AsyncIterator, Mapping

from lading import clock
from lading.asgi.reply import Receive, Reply, Scope, headers_of
from lading.backends.protocols import StorageBackend
from lading.errors import ExpiredToken, LadingError, MalformedBody, Mismatch
from lading.mediatypes import canonical
from lading.ops.save import Draft, save
from lading.policy import Policy
from lading.receiving import Admission, Pace, RequestBody, cost_of
from lading.serving import entity_tag
from lading.signer import UploadGrant
from lading.source import Chunk
from lading.worlds import World, asyncio_world

SLACK = 3600
"""Seconds that an upload which began in time may take beyond it; after that nothing can come to its path any more."""


async def writing(
    scope: Scope,
    receive: Receive,
    grant: UploadGrant,
    *,
    backend: StorageBackend,
    policy: Policy,
    admission: Admission,
    pace: Pace,
) -> Reply:
    """Store the body of a request where its grant says.

    As with a `PUT` to a store, what lies there already is replaced. Where the upload fails it stays as it was; only
    filesystems of fsspec that are not known to lading are written in place, and then nothing is left there.

    Raises:
        ExpiredToken: it took longer than `SLACK` seconds beyond its time.
        Mismatch: it is not what was granted: of another type, shorter, or with another checksum.
        Refused: it is longer than granted, or a rule of the backend or the policy said no.
        RequestError: the body could not be read, or not now.
        StoreError: the store failed.
    """
    headers = headers_of(scope)
    length = _length(headers)
    body = RequestBody(receive, length=length, limit=grant.size, pace=pace)
    claim = headers.get("content-type")
    draft = Draft(filename=grant.filename, claim=grant.content_type or claim, to_filename=grant.path)
    try:
        _check(grant, claim, length)
        async with admission.enter(cost_of(backend, length)):
            source = _Granted(body, grant)
            record = await save(draft, source, backend, asyncio_world, policy=policy, overwrite=True)
    except LadingError:
        await body.drain()
        raise
    tag = entity_tag(record.checksum, record.etag)
    return Reply(200, [*([("etag", tag)] if tag else []), ("cache-control", "no-store"), ("content-length", "0")])


class _Granted:
    """The body of a request, held against its grant; at its end it refuses, before the store knows that it ended."""

    rereadable = False

    def __init__(self, body: RequestBody, grant: UploadGrant) -> None:
        self.size = grant.size if body.length is None else body.length
        self._body = body
        self._grant = grant

    async def chunks(self, world: World) -> AsyncIterator[Chunk]:
        grant = self._grant
        digest = None if grant.checksum is None else hashlib.sha256()
        async for chunk in self._body:
            if clock.now() >= grant.expires_at + SLACK:
                raise ExpiredToken("the upload took too long; ask for a new one", expired_at=grant.expires_at)
            if digest is not None:
                await world.call(digest.update, chunk)
            yield chunk
        if grant.size is not None:
            _same(grant, "size", grant.size, self._body.received)
        if digest is not None:
            _same(grant, "checksum", grant.checksum, f"sha256:{digest.hexdigest()}")


def _length(headers: Mapping[str, str]) -> int | None:
    """What `Content-Length` says (RFC 9110, section 8.6)."""
    said = headers.get("content-length")
    if said is None:
        return None
    if not (said.isascii() and said.isdigit() and len(said) < 20):
        raise MalformedBody(f"Content-Length is a number of bytes, not {said!r:.40}")
    return int(said)


def _check(grant: UploadGrant, claim: str | None, length: int | None) -> None:
    """Refuse what need not be read to be known as another than was granted."""
    if grant.content_type is not None:
        _same(grant, "content type", canonical(grant.content_type), canonical(claim or ""))
    if grant.size is not None and length is not None and length < grant.size:
        _same(grant, "size", grant.size, length)


def _same(grant: UploadGrant, what: str, announced: object, found: object) -> None:
    if announced != found:
        raise Mismatch(
            f"the {what} is {found}, where {announced} was announced",
            filename=grant.filename,
            limit=announced,
            actual=found,
        )
