"""Every error lading raises, as one tree.

```
LadingError
├── ConfigurationError (ValueError)          the application is put together wrongly
│   ├── BackendNotRegistered (LookupError)   no backend of that key
│   ├── MissingDependency (ImportError)      an extra is not installed
│   └── NotSupported (TypeError)             the backend lacks a capability
├── InvalidPath (ValueError)                 a path that no store may see
├── RecordError (ValueError)                 a column value that is no file record
├── NotAFile (TypeError)                     a column was given something else than a FileObject
├── SourceError (ValueError)                 content that cannot be read, or not again
├── Refused (ValueError)                     a rule said no
│   ├── TooLarge, TooSmall
│   ├── TypeNotAllowed
│   ├── ExtensionNotAllowed
│   └── Mismatch                             not what was announced
├── InvalidToken (PermissionError)           tampered, of another purpose, or not a token
│   ├── ExpiredToken
│   └── UsedToken                            it has served
├── RequestError                             a request cannot be read, or not now
│   ├── MalformedBody (ValueError)
│   ├── SlowBody (TimeoutError)
│   ├── TooManyUploads
│   └── ClientGone (ConnectionError)
├── StateError (RuntimeError)                the file is not in a state to do that
│   ├── PendingFile                          not stored yet
│   ├── NotUploaded                          its direct upload has not happened yet
│   └── OwnedFile                            belongs to another row
├── StoreError (OSError)                     a store did not do what it was asked
│   ├── ObjectNotFound (FileNotFoundError)
│   ├── ObjectExists (FileExistsError)
│   ├── AccessDenied (PermissionError)
│   ├── StoreUnavailable                     it could not do it now; trying again may help
│   └── IntegrityFailure                     stored bytes differ from the record
└── CleanupError (ExceptionGroup)            objects that should be gone are still there
```

Each error carries its evidence as attributes and a message that says what to do. Errors of a store's own library are
translated once, in the driver, and stay reachable as `__cause__`.
"""

from collections.abc import Sequence
from functools import partial
from typing import Self


class LadingError(Exception):
    """The root of everything lading raises."""


class ConfigurationError(LadingError, ValueError):
    """The application is put together wrongly; no request can be right until that is mended."""


class BackendNotRegistered(ConfigurationError, LookupError):
    """No backend is registered under that key.

    Attributes:
        key: the key that was asked for.
        known: the keys and aliases that are registered.
    """

    def __init__(self, key: str, known: Sequence[str]) -> None:
        self.key = key
        self.known = tuple(known)
        names = ", ".join(repr(name) for name in self.known) or "none"
        super().__init__(f"no storage backend is registered as {key!r}; registered: {names}")

    def __reduce__(self) -> tuple[type[Self], tuple[str, tuple[str, ...]]]:
        return type(self), (self.key, self.known)


class MissingDependency(ConfigurationError, ImportError):
    """An optional package is not installed.

    Attributes:
        package: what could not be imported.
        extra: the extra of lading that installs it.
    """

    def __init__(self, package: str, extra: str) -> None:
        self.package = package
        self.extra = extra
        super().__init__(f"{package} is not installed; run: pip install 'lading[{extra}]'")

    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        return type(self), (self.package, self.extra)


class NotSupported(ConfigurationError, TypeError):
    """The backend has no such capability."""


class InvalidPath(LadingError, ValueError):
    """A path that no store may see.

    Attributes:
        path: the path as it was given.
        reason: what is wrong with it.
    """

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"not a valid object path: {reason}: {path[:200]!r}")

    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        return type(self), (self.path, self.reason)


class RecordError(LadingError, ValueError):
    """A column value that is not the JSON of a stored file."""


class NotAFile(LadingError, TypeError):
    """A `StoredObject` column was given something else than a `FileObject`, or than a list of them."""


class SourceError(LadingError, ValueError):
    """Content that cannot be read, or that would have to be read twice and cannot be."""


class Refused(LadingError, ValueError):
    """A rule refused the file; nothing of it remains in the store.

    Attributes:
        filename: what the caller called the file.
        limit: what is allowed.
        actual: what was found.
    """

    def __init__(self, message: str, *, filename: str, limit: object = None, actual: object = None) -> None:
        self.filename = filename
        self.limit = limit
        self.actual = actual
        super().__init__(message)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


class TooLarge(Refused):
    """More bytes than allowed; `actual` is what was counted when the stream was cut, a lower bound of the true size."""


class TooSmall(Refused):
    """Fewer bytes than asked for."""


class TypeNotAllowed(Refused):
    """A content type that is not allowed, or one that contradicts the claim where contradictions are rejected."""


class ExtensionNotAllowed(Refused):
    """A file name whose extension is not allowed."""


class Mismatch(Refused):
    """A direct upload that is not what was announced: of another size, checksum or type; `limit` is what was said."""


class InvalidToken(LadingError, PermissionError):
    """A token that was tampered with, made for another purpose or with another secret, or is no token at all."""


class ExpiredToken(InvalidToken):
    """A genuine token whose time is over.

    Attributes:
        expired_at: seconds since the epoch.
    """

    def __init__(self, message: str, *, expired_at: float) -> None:
        self.expired_at = expired_at
        super().__init__(message)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


class UsedToken(InvalidToken):
    """A genuine token that serves once, and has."""


class RequestError(LadingError):
    """A request that cannot be read, or not now; what had been stored of it is gone."""


class MalformedBody(RequestError, ValueError):
    """A body that is not what its headers say: cut short, longer than announced, or no well-formed multipart."""


class SlowBody(RequestError, TimeoutError):
    """A body that comes more slowly than allowed.

    Attributes:
        limit: the least bytes a second that are waited for.
        actual: the bytes that came.
        seconds: the time in which they came.
    """

    def __init__(self, message: str, *, limit: float, actual: int, seconds: float) -> None:
        self.limit = limit
        self.actual = actual
        self.seconds = seconds
        super().__init__(message)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


class TooManyUploads(RequestError):
    """This process receives as many uploads as it may; the client should come again.

    Attributes:
        limit: uploads at a time, or bytes of memory for them.
        retry_after: in seconds.
    """

    def __init__(self, message: str, *, limit: int, retry_after: int) -> None:
        self.limit = limit
        self.retry_after = retry_after
        super().__init__(message)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


class ClientGone(RequestError, ConnectionError):
    """The client went away before its request had come in whole."""


class StateError(LadingError, RuntimeError):
    """The file is not in a state in which that can be done."""


class PendingFile(StateError):
    """The file has not been stored yet."""


class NotUploaded(StateError):
    """A direct upload that is to be attached has not happened yet: nothing lies where it was to go."""


class OwnedFile(StateError):
    """The file belongs to another row, and here lading cannot make a copy of it."""


class StoreError(LadingError, OSError):
    """A store did not do what it was asked.

    Attributes:
        backend: the key of the backend.
        path: the object's path, or the first of several.
    """

    def __init__(self, message: str, *, backend: str, path: str) -> None:
        self.backend = backend
        self.path = path
        super().__init__(message)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


class ObjectNotFound(StoreError, FileNotFoundError):
    """No object lies at that path."""


class ObjectExists(StoreError, FileExistsError):
    """An object lies at that path already, and the put was create-only."""


class AccessDenied(StoreError, PermissionError):
    """The store refused the credentials, or they do not cover this."""


class StoreUnavailable(StoreError):
    """The store could not do it now: it did not answer, was overloaded or broke down; trying again may help.

    Timeouts, connections that are refused, reset or cut, and the statuses 408, 429, 500, 502, 503 and 504.
    """


class IntegrityFailure(StoreError):
    """The stored bytes are not the bytes that the record describes.

    Attributes:
        expected: the size or checksum of the record.
        actual: the size or checksum of the object.
    """

    def __init__(self, message: str, *, backend: str, path: str, expected: object, actual: object) -> None:
        self.expected = expected
        self.actual = actual
        super().__init__(message, backend=backend, path=path)


class CleanupError(LadingError, ExceptionGroup[Exception]):
    """Objects that should be gone could not be deleted; the database is right, the store has too much.

    Attributes:
        committed: whether the transaction that wanted them gone was committed.
        left: `(backend key, path)` of each object that is still there.
    """

    committed: bool
    left: tuple[tuple[str, str], ...]

    def __new__(
        cls, message: str, errors: Sequence[Exception], *, committed: bool, left: Sequence[tuple[str, str]]
    ) -> Self:
        self = super().__new__(cls, message, errors)
        self.committed = committed
        self.left = tuple(left)
        return self

    def __init__(
        self, message: str, errors: Sequence[Exception], *, committed: bool, left: Sequence[tuple[str, str]]
    ) -> None:
        super().__init__(message, errors)

    def derive(self, excs: Sequence[Exception], /) -> "CleanupError":  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]  # splits keep the evidence
        return CleanupError(self.message, excs, committed=self.committed, left=self.left)

    def __reduce__(self) -> tuple[object, ...]:
        return partial(type(self), committed=self.committed, left=self.left), (self.message, self.exceptions)


def _rebuild(cls: type[LadingError], args: tuple[object, ...], evidence: dict[str, object]) -> LadingError:
    """Unpickle an error whose constructor takes keywords."""
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(evidence)
    return error
