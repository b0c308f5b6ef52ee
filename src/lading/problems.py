"""lading's refusals as problem documents (RFC 9457): what a client is told, and nothing that names paths or hosts."""

from http import HTTPStatus
from typing import Any

import msgspec

from lading.errors import (
    ClientGone,
    ExpiredToken,
    ExtensionNotAllowed,
    InvalidPath,
    InvalidToken,
    LadingError,
    MalformedBody,
    Mismatch,
    NotUploaded,
    ObjectExists,
    ObjectNotFound,
    Refused,
    SlowBody,
    StoreError,
    TooLarge,
    TooManyUploads,
    TooSmall,
    TypeNotAllowed,
    UsedToken,
)

MEDIA_TYPE = "application/problem+json"
"""Of a problem document."""

PREFIX = "urn:lading:problem:"
"""What the types begin with; the rest never changes its meaning."""

PROBLEMS: dict[type[LadingError], tuple[int, str]] = {
    MalformedBody: (400, "malformed-body"),
    ClientGone: (400, "client-gone"),
    InvalidToken: (403, "invalid-token"),
    ObjectNotFound: (404, "not-found"),
    SlowBody: (408, "slow-body"),
    ObjectExists: (409, "exists"),
    NotUploaded: (409, "not-uploaded"),
    UsedToken: (409, "used-token"),
    ExpiredToken: (410, "expired-token"),
    TooLarge: (413, "too-large"),
    TypeNotAllowed: (415, "type-not-allowed"),
    TooSmall: (422, "too-small"),
    ExtensionNotAllowed: (422, "extension-not-allowed"),
    InvalidPath: (422, "invalid-path"),
    Mismatch: (422, "mismatch"),
    Refused: (422, "refused"),
    TooManyUploads: (429, "too-many-uploads"),
    StoreError: (503, "store-unavailable"),
}
"""Status and type of each error that is a client's business; the nearest of its classes decides.

What is not here is the application's own fault, and stays a 500.
"""

_RETRY_AFTER = 5
"""Seconds after which a store may be there again."""


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A problem document.

    Attributes:
        type: a URN that says which problem it is, and never changes.
        title: the phrase of the status.
        status: of HTTP.
        detail: what went wrong, for people.
        limit: what is allowed, or was announced.
        actual: what was found.
        retry_after: seconds, after which the same request may be good.
    """

    type: str
    title: str
    status: int
    detail: str | None = None
    limit: Any = None
    actual: Any = None
    retry_after: int | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the answer, besides its length."""
        headers = {"content-type": MEDIA_TYPE, "cache-control": "no-store", "x-content-type-options": "nosniff"}
        if self.retry_after is not None:
            headers["retry-after"] = str(self.retry_after)
        return headers

    def encode(self) -> bytes:
        """The document, in JSON."""
        return msgspec.json.encode(self)


def problem_of(error: BaseException) -> Problem | None:
    """What a client is told of an error; `None` where it is none of its business.

    Of a store's errors only that there was one, because they name paths and hosts; of a path only what is wrong with
    it, because a path maker puts more into it than the client's own name.
    """
    for kind in type(error).__mro__:
        if kind in PROBLEMS:
            status, name = PROBLEMS[kind]
            break
    else:
        return None
    return Problem(
        type=PREFIX + name,
        title=HTTPStatus(status).phrase,
        status=status,
        detail=_told(error),
        limit=_plain(getattr(error, "limit", None)),
        actual=_plain(getattr(error, "actual", None)),
        retry_after=getattr(error, "retry_after", _RETRY_AFTER if status == HTTPStatus.SERVICE_UNAVAILABLE else None),
    )


def _told(error: BaseException) -> str | None:
    """What went wrong, for people, without what is no business of theirs."""
    if isinstance(error, StoreError):
        return None
    if isinstance(error, InvalidPath):
        return f"no object can have that name: {error.reason}"
    return str(error)


def _plain(evidence: object) -> object:
    """Evidence as JSON can hold it; a rule of the application may have given anything."""
    try:
        return msgspec.to_builtins(evidence)
    except (TypeError, ValueError, RecursionError):
        return repr(evidence)[:200]
