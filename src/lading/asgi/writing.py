"""Signed uploads: what a grant lets its holder write."""

import hashlib
from collections.abc import AsyncIterator, Mapping

from lading import clock
from lading.asgi.reply import Receive, Reply, Scope, headers_of, refusal
from lading.backends.protocols import StorageBackend
from lading.errors import ExpiredToken, LadingError, Mismatch, ObjectExists
from lading.mediatypes import canonical
from lading.ops.save import Draft, save
from lading.policy import Policy
from lading.receiving import Admission, Pace, RequestBody, check_whole, cost_of, expects, length_of
from lading.serving import entity_tag, precondition_failed
from lading.signer import UploadGrant
from lading.source import Chunk
from lading.worlds import World, asyncio_world

SLACK = 3600
"""Seconds that an upload which began in time may take beyond it; after that nothing can come to its path any more."""

# With what holds of them at the store: it knows none of the tags that we give, nor the times.
_CONDITIONS = (("if-match", None), ("if-unmodified-since", None), ("if-none-match", "*"))


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

    As with a `PUT` to a store, what lies there already is replaced, unless `If-None-Match: *` forbids it. That is
    the one condition that stores keep for us (RFC 9110, section 13); any other is answered with 412, since it is there
    to prevent what would happen without it. Where the upload fails what lies there stays as it was; only filesystems of
    fsspec that are not known to lading are written in place, and then nothing is left there.

    Raises:
        ExpiredToken: it took longer than `SLACK` seconds beyond its time.
        Mismatch: it is not what was granted: of another type, shorter, or with another checksum.
        Refused: it is longer than granted, or a rule of the backend or the policy said no.
        RequestError: the body could not be read, or not now.
        StoreError: the store failed.
    """
    headers = headers_of(scope)
    length = length_of(headers)
    body = RequestBody(receive, length=length, limit=grant.size, pace=pace, expects=expects(headers))
    claim = headers.get("content-type")
    draft = Draft(filename=grant.filename, claim=grant.content_type or claim, to_filename=grant.path)
    create_only = "if-none-match" in headers
    if any(headers.get(name, kept) != kept for name, kept in _CONDITIONS):
        return await _unmet(scope, body, "the one condition that an upload may have is If-None-Match: *")
    try:
        _check(grant, headers, length)
        await body.begin()
        async with admission.enter(cost_of(backend, length)):
            source = _Granted(body, grant)
            record = await save(draft, source, backend, asyncio_world, policy=policy, overwrite=not create_only)
    except ObjectExists:
        if not create_only:
            raise
        return await _unmet(scope, body, "something lies there already")
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


def _check(grant: UploadGrant, headers: Mapping[str, str], length: int | None) -> None:
    """Refuse what need not be read to be known as another than was granted, or as no more than a part of it."""
    check_whole(headers)
    if grant.content_type is not None:
        _same(grant, "content type", canonical(grant.content_type), canonical(headers.get("content-type", "")))
    if grant.size is not None and length is not None and length < grant.size:
        _same(grant, "size", grant.size, length)


async def _unmet(scope: Scope, body: RequestBody, detail: str) -> Reply:
    """The answer where a condition of the request does not hold."""
    await body.drain()
    return refusal(scope, precondition_failed(detail))


def _same(grant: UploadGrant, what: str, announced: object, found: object) -> None:
    if announced != found:
        raise Mismatch(
            f"the {what} is {found}, where {announced} was announced",
            filename=grant.filename,
            limit=announced,
            actual=found,
        )
