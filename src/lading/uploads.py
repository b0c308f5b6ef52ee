"""Direct uploads: what is announced, where it goes, and what a client has to send with its bytes; no I/O.

Whoever may `PUT` to a path by a signed URL may do so until that has expired, and again after all was looked at. So no
row ever names that path: what lies there is attached as a copy, see `lading.ops.attach`.
"""

import re
from urllib.parse import urlsplit

import msgspec

from lading import paths, rules
from lading.backends.protocols import StorageBackend
from lading.errors import Refused, TooLarge
from lading.mediatypes import by_extension, canonical
from lading.policy import Policy
from lading.record import Candidate
from lading.rules import GiB, MiB
from lading.serving import content_disposition
from lading.sniffing import BINARY

_CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}").fullmatch

_ONE_REQUEST = {"s3": 5 * GiB, "az": 5000 * MiB}
"""The most that these stores take in one PUT: S3's PutObject, and Azure's Put Blob."""

_MOST = 2**63 - 1

_AMAZON = re.compile(r"(?:[a-z0-9_-]+\.)+amazonaws\.com(?:\.cn)?").fullmatch


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """What a client has announced that it will put into a store by itself.

    Attributes:
        backend: the key of the backend.
        path: where it goes; no row ever names this path.
        filename: what the user calls it, sanitised.
        content_type: what it is said to be, a canonical name; `None` where nobody has said.
        size: in bytes, exactly; `None` for any.
        checksum: `"sha256:<hex>"` of its content; `None` for any.
        policy: of the column that it is for.
    """

    backend: str
    path: str
    filename: str
    content_type: str | None = None
    size: int | None = None
    checksum: str | None = None
    policy: Policy

    @property
    def entry(self) -> tuple[str, str]:
        """Backend and path: what an outbox calls it by."""
        return self.backend, self.path


def begin(
    policy: Policy,
    *,
    filename: str,
    size: int,
    content_type: str | None = None,
    checksum: str | None = None,
    prefix: str = "uploads",
) -> Upload:
    """An upload to a fresh path, or an early refusal; the bytes are looked at when it is attached.

    The rules are asked about what is announced. Its type is what the extension of its name says, or else what the
    client says, where the backend trusts claims the other way round; so a file whose name says that it is of a type
    that is not allowed is refused here, whatever it holds.

    Args:
        policy: of the column that it is for; its backend is where the upload goes.
        filename: what the user calls it; sanitised.
        size: in bytes, exactly.
        content_type: what the client says that it is.
        checksum: `"sha256:<hex>"` in lower case, of the content.
        prefix: whole segments, what uploads lie below.

    Raises:
        Refused: a rule said no, the store takes no more than so many bytes in one request, or the size or the checksum
            is none.
        ConfigurationError: the prefix is no valid path, or nothing says which backend.
    """
    backend = policy.place
    filename = paths.sanitise(filename)
    _check_size(filename, size, _ONE_REQUEST.get(backend.protocol, _MOST))
    if checksum is not None and not _CHECKSUM(checksum):
        form = "sha256:<64 hexadecimal digits in lower case>"
        raise Refused(f"the checksum of {filename!r} is no {form}", filename=filename, limit=form, actual=checksum[:80])
    named, said = by_extension(paths.extension(filename)), canonical(content_type) if content_type else None
    said = None if said == BINARY else said
    kind = (said or named if backend.trust == "claim" else named or said) or BINARY
    candidate = Candidate(filename, kind, size, token=paths.token())
    rules.check((*policy.asked(),), candidate)
    return Upload(
        backend=backend.key,
        path=paths.guard(paths.under(prefix)(candidate)),
        filename=filename,
        content_type=kind,
        size=size,
        checksum=checksum,
        policy=policy,
    )


def headers(upload: Upload) -> dict[str, str]:
    """What a client must send with its bytes, names in lower case.

    The store keeps the first two with the object, so that also its own URLs serve it safely.
    """
    kind = upload.content_type or BINARY
    disposition = content_disposition(upload.filename, kind)
    if upload.policy.storages.get_backend(upload.backend).protocol == "az":
        # Put Blob keeps no plain Content-Disposition, and has to be told what kind of blob it makes.
        return {"content-type": kind, "x-ms-blob-content-disposition": disposition, "x-ms-blob-type": "BlockBlob"}
    return {"content-type": kind, "content-disposition": disposition}


def is_kept_to(url: str, backend: StorageBackend) -> bool:
    """Whether the store is known to refuse whatever a URL for `PUT` was not signed for.

    Amazon's S3, Google's store and Azure's are. Other servers of the S3 protocol take headers besides those that were
    signed, among them `x-amz-copy-source`: then whoever may write one object may read every object that the account
    which has signed may read, and whose path he knows. Ceph RGW 16.2 and moto do so.

    Args:
        url: as the store's library has signed it: it alone tells which server that takes, since endpoints also come
            from the environment.
        backend: that it writes to.
    """
    return backend.protocol in ("gs", "az") or _AMAZON(urlsplit(url).hostname or "") is not None


def _check_size(filename: str, size: int, most: int) -> None:
    if size < 0:
        raise Refused(f"the size of {filename!r} is less than nothing", filename=filename, limit=0, actual=size)
    if size > most:
        message = f"{filename!r} is too large to be sent to the store at once"
        raise TooLarge(message, filename=filename, limit=most, actual=size)
