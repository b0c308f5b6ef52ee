"""What the backends that lading ships have in common: a key, a prefix that no path leaves, what is asked of files."""

import errno
import hashlib
import re
from collections.abc import Collection, Sequence
from typing import Any, NoReturn, get_args

from lading.errors import ConfigurationError, InvalidPath, NotSupported, StoreError
from lading.media import Trust
from lading.paths import PathMaker, guard
from lading.rules import Rule

PARTS = 9_000
"""Parts of one upload; S3 and GCS allow 10,000, and a size that was announced may be a little too low."""

LEAST_PART = 5 * 2**20
"""Bytes; S3 and the XML API of GCS refuse smaller parts, but for the last."""

RETRIES = 2
"""How many times lading tries again what a store could not do, where a backend says nothing else."""

LOST = "an answer was lost, and whether it was stored is not known"
"""Why a store counts as unavailable which by now says something else."""

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://\S+")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_STATUS = re.compile(r"status code: (\d{3}(?: [A-Z][a-z]+)*)")
_NO_BUCKET = re.compile("NoSuchBucket|ContainerNotFound|bucket does not exist")

# Statuses, and what S3, Google and Azure call the like. S3 says RequestTimeout with status 400, and any of these within
# an answer of status 200 where it copies, completes an upload or deletes several objects.
_UNAVAILABLE = frozenset(
    (
        *("408", "429", "500", "502", "503", "504", "InternalError", "InternalServerError", "OperationTimedOut"),
        *("RequestTimeout", "ServerBusy", "ServiceUnavailable", "SlowDown", "Throttling", "TooManyRequests"),
    )
)
# Classes by name, since the packages that they are from need not be installed: the builtins, and what they are called
# in botocore, requests, aiohttp and azure.core.
_UNANSWERED = frozenset(
    (
        *("TimeoutError", "Timeout", "ConnectionError", "HTTPClientError", "ClientConnectionError"),
        *("ClientPayloadError", "IncompleteReadError", "ServiceRequestError", "ServiceResponseError"),
    )
)
# What a filesystem on a network says.
_UNREACHED = frozenset((errno.EAGAIN, errno.ESTALE, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH))


class Backend:
    """The part of a backend that is the same for every library of stores.

    Two are equal when they have one key and are one place, whatever else they ask of files.

    Attributes:
        key: the name under which rows remember this place.
        protocol: the kind of store.
        store: the store or filesystem itself.
        prefix: what lies before every path, without a `/` at its end.
        rules: asked of every file, before those of the column.
        path_maker: names new objects, or `None`.
        trust: what decides the content type when bytes, name and claim disagree.
        checksum: the algorithm of `hashlib` for checksums, or `None`.
        chunk_size: bytes up to which content is put whole, and the least size of a part beyond.
        retries: how many times what the store could not do just now is tried again.
    """

    def __init__(
        self,
        key: str,
        protocol: str,
        store: Any,
        *,
        prefix: str,
        rules: Sequence[Rule],
        path: PathMaker | None,
        trust: Trust,
        checksum: str | None,
        chunk_size: int,
        retries: int,
    ) -> None:
        if not _is_name(key):
            raise ConfigurationError(f"the key of a backend is a name that rows can remember, not {key!r}")
        if callable(rules):
            raise ConfigurationError(f"backend {key!r}: rules are given as a list: rules=[{rules!r}]")
        for rule in (*rules, *(() if path is None else (path,))):
            if not callable(rule):
                raise ConfigurationError(f"backend {key!r}: rules and path makers are callables, not {rule!r}")
        if trust not in get_args(Trust):
            raise ConfigurationError(f"backend {key!r}: trust is one of {', '.join(get_args(Trust))}, not {trust!r}")
        if checksum is not None and not _hashes(checksum):
            raise ConfigurationError(f"backend {key!r}: hashlib makes no checksum called {checksum!r}")
        least = LEAST_PART if protocol in ("s3", "gs") else 1
        if not _is_count(chunk_size) or chunk_size < least:
            raise ConfigurationError(f"backend {key!r}: chunk_size is at least {least} bytes, not {chunk_size!r}")
        if not _is_count(retries) or retries < 0:
            raise ConfigurationError(f"backend {key!r}: retries is a number from 0, not {retries!r}")
        self.key = key
        self.protocol = protocol
        self.store = store
        self.prefix = prefix
        self.rules = tuple(rules)
        self.path_maker = path
        self.trust: Trust = trust
        self.checksum = checksum
        self.chunk_size = chunk_size
        self.retries = retries
        self._root = f"{prefix}/" if prefix not in ("", "/") else prefix

    def locate(self, path: str) -> str:
        """Where an object lies in the store. Raises `InvalidPath`."""
        return self._root + guard(path)

    def locate_below(self, prefix: str) -> str:
        """Where the objects below a prefix of whole segments lie; below `""` lie all. Raises `InvalidPath`."""
        return self.locate(prefix.removesuffix("/")) if prefix else self.prefix

    def locate_after(self, path: str) -> str:
        """Where a listing goes on after a path that was listed, which need not be one that could be stored."""
        return self._root + path

    def relative(self, location: str) -> str:
        """The path of an object that the store lists."""
        return location[len(self._root) :]

    def part_size(self, size: int | None) -> int:
        """Bytes in a part of an upload that may be `size` bytes long."""
        return self.chunk_size if size is None else max(self.chunk_size, -(-size // PARTS))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Backend):
            return NotImplemented
        mine = (type(self), self.key, self.protocol, self.prefix)
        return mine == (type(other), other.key, other.protocol, other.prefix) and bool(self.store == other.store)

    def __hash__(self) -> int:
        return hash((type(self), self.key))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.key!r}: {self.protocol}://{self.prefix.lstrip('/')}>"

    def __reduce__(self) -> NoReturn:
        raise NotSupported(
            f"backend {self.key!r} holds connections and credentials and cannot be pickled or copied; "
            "register it in each process and pass its key"
        )


def checked_prefix(prefix: str) -> str:
    """A prefix as it is configured, without a `/` at its end; `""` for none.

    Raises:
        ConfigurationError: it is no valid path.
    """
    try:
        return guard(prefix.removesuffix("/")) if prefix else ""
    except InvalidPath as error:
        raise ConfigurationError(f"not a valid prefix: {error.reason}: {prefix!r}") from error


def explained(
    error: BaseException, kind: type[StoreError], *, verb: str, backend: str, path: str, reason: str = ""
) -> StoreError:
    """An error of a store's library as one of lading's, to be raised from it.

    The message has its first line at most and no URL, since these libraries put signed URLs and whole documents there.
    """
    message = f"cannot {verb} {path!r} in backend {backend!r}: {reason or summary(error)}"
    return kind(message, backend=backend, path=path)


def summary(error: BaseException) -> str:
    """What a store's library says, short and without addresses."""
    text = str(error)
    found = [match[1] for match in (_STATUS.search(text), _CODE.search(text)) if match]
    line = ", ".join(found) or _URL.sub("(a URL)", text.strip().partition("\n")[0])[:200]
    return line or type(error).__name__


def is_missing_bucket(error: BaseException) -> bool:
    """Whether "not found" is said of the whole bucket: a mistake that must not read as "deleted"."""
    return _NO_BUCKET.search(str(error)) is not None


def is_lost_upload(codes: Collection[str]) -> bool:
    """Whether a store says that it has no such upload in parts: it does of one that it completed without answer."""
    return "NoSuchUpload" in codes


def codes_in(text: str) -> set[str]:
    """The statuses and codes that a store's library quotes."""
    return {*_CODE.findall(text), *(found[:3] for found in _STATUS.findall(text))}


def is_unavailable(error: BaseException, codes: Collection[str]) -> bool:
    """Whether trying again may help.

    Args:
        error: what a store's library raised.
        codes: statuses and codes that it got as answers.
    """
    if not _UNAVAILABLE.isdisjoint(codes):
        return True
    names = {kind.__name__ for kind in type(error).__mro__}
    return not _UNANSWERED.isdisjoint(names) or getattr(error, "errno", None) in _UNREACHED


def _is_name(key: object) -> bool:
    return isinstance(key, str) and bool(key.strip())


def _is_count(size: object) -> bool:
    return isinstance(size, int) and not isinstance(size, bool)


def _hashes(algorithm: str) -> bool:
    try:
        return hashlib.new(algorithm, usedforsecurity=False).digest_size > 0
    except (TypeError, ValueError):
        return False
