"""The tree of errors: what each is, what it carries, and that it survives a trip between processes."""

import copy
import inspect
import pickle
import re
from typing import Any

import pytest

from lading import errors
from lading.errors import (
    AccessDenied,
    BackendNotRegistered,
    CleanupError,
    ClientGone,
    ConfigurationError,
    ExpiredToken,
    ExtensionNotAllowed,
    IntegrityFailure,
    InvalidPath,
    InvalidToken,
    LadingError,
    MalformedBody,
    Mismatch,
    MissingDependency,
    NotAFile,
    NotSupported,
    NotUploaded,
    ObjectExists,
    ObjectNotFound,
    OwnedFile,
    PendingFile,
    RecordError,
    Refused,
    RequestError,
    SlowBody,
    SourceError,
    StateError,
    StoreError,
    StoreUnavailable,
    TooLarge,
    TooManyUploads,
    TooSmall,
    TypeNotAllowed,
    UsedToken,
)

AT: dict[str, Any] = {"backend": "b", "path": "p"}
REFUSED: dict[str, Any] = {"filename": "a.pdf", "limit": 1, "actual": 2}
LEFT: dict[str, Any] = {"committed": True, "left": (("b", "p"),)}

CASES: list[tuple[Exception, tuple[type[Exception], ...], dict[str, Any]]] = [
    (LadingError("m"), (Exception,), {}),
    (ConfigurationError("m"), (ValueError,), {}),
    (BackendNotRegistered("x", ["a", "b"]), (ConfigurationError, LookupError), {"key": "x", "known": ("a", "b")}),
    (MissingDependency("fsspec", "s3"), (ConfigurationError, ImportError), {"package": "fsspec", "extra": "s3"}),
    (NotSupported("m"), (ConfigurationError, TypeError), {}),
    (InvalidPath("../a", "r"), (ValueError,), {"path": "../a", "reason": "r"}),
    (RecordError("m"), (ValueError,), {}),
    (NotAFile("m"), (TypeError,), {}),
    (SourceError("m"), (ValueError,), {}),
    (Refused("m", **REFUSED), (ValueError,), REFUSED),
    (TooLarge("m", **REFUSED), (Refused,), REFUSED),
    (TooSmall("m", **REFUSED), (Refused,), REFUSED),
    (TypeNotAllowed("m", **REFUSED), (Refused,), REFUSED),
    (ExtensionNotAllowed("m", **REFUSED), (Refused,), REFUSED),
    (Mismatch("m", **REFUSED), (Refused,), REFUSED),
    (InvalidToken("m"), (PermissionError,), {}),
    (UsedToken("m"), (InvalidToken,), {}),
    (RequestError("m"), (LadingError,), {}),
    (MalformedBody("m"), (RequestError, ValueError), {}),
    (
        SlowBody("m", limit=500.0, actual=3, seconds=30.0),
        (RequestError, TimeoutError),
        {"limit": 500.0, "actual": 3, "seconds": 30.0},
    ),
    (TooManyUploads("m", limit=8, retry_after=5), (RequestError,), {"limit": 8, "retry_after": 5}),
    (ClientGone("m"), (RequestError, ConnectionError), {}),
    (NotUploaded("m"), (StateError,), {}),
    (ExpiredToken("m", expired_at=5.0), (InvalidToken,), {"expired_at": 5.0}),
    (StateError("m"), (RuntimeError,), {}),
    (PendingFile("m"), (StateError,), {}),
    (OwnedFile("m"), (StateError,), {}),
    (StoreError("m", **AT), (OSError,), AT),
    (ObjectNotFound("m", **AT), (StoreError, FileNotFoundError), AT),
    (ObjectExists("m", **AT), (StoreError, FileExistsError), AT),
    (AccessDenied("m", **AT), (StoreError, PermissionError), AT),
    (StoreUnavailable("m", **AT), (StoreError,), AT),
    (IntegrityFailure("m", **AT, expected=1, actual=2), (StoreError,), {**AT, "expected": 1, "actual": 2}),
    (CleanupError("m", [OSError("gone")], committed=True, left=[("b", "p")]), (ExceptionGroup,), LEFT),
]
each_error = pytest.mark.parametrize(
    ("error", "parents", "evidence"), CASES, ids=[type(error).__name__ for error, _, _ in CASES]
)


class TestTree:
    def test_every_error_is_tested(self) -> None:
        """No error of the module is missing here."""
        defined = {cls for _, cls in inspect.getmembers(errors, inspect.isclass) if cls.__module__ == errors.__name__}
        assert defined == {type(error) for error, _, _ in CASES}

    def test_the_drawing_is_true(self) -> None:
        """The tree at the top of the module names every error under its parent, with the builtins it also is."""
        assert errors.__doc__ is not None
        parents = ["LadingError"]
        drawn = {"LadingError"}
        for line in re.findall(r"^[│ ]*[├└]── .*$", errors.__doc__, re.MULTILINE):
            depth = line.index("──") // 4 + 1
            names = re.match(r"([\w, ]+?)(?: \((\w+)\))?(?:  |$)", line.partition("── ")[2].rstrip() + "  ")
            assert names is not None
            for name in names[1].strip().split(", "):
                cls = getattr(errors, name)
                assert parents[depth - 1] in {base.__name__ for base in cls.__bases__}
                assert names[2] is None or names[2] in {base.__name__ for base in cls.__mro__}
                parents[depth:] = [name]
                drawn.add(name)
        assert drawn == {type(error).__name__ for error, _, _ in CASES}


class TestEach:
    @each_error
    def test_is_caught_by_its_familiar_names(
        self, error: Exception, parents: tuple[type[Exception], ...], evidence: dict[str, Any]
    ) -> None:
        """An error is caught as lading's own and as each builtin that people already catch."""
        every: tuple[type[Exception], ...] = (LadingError, *parents)
        for parent in every:
            with pytest.raises(parent):
                raise error

    @each_error
    def test_carries_its_evidence(
        self, error: Exception, parents: tuple[type[Exception], ...], evidence: dict[str, Any]
    ) -> None:
        """What the error knows can be asked of it."""
        assert {name: getattr(error, name) for name in evidence} == evidence
        assert str(error)

    @each_error
    @pytest.mark.parametrize("travel", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy], ids=["pickle", "copy"])
    def test_travels(
        self, error: Exception, parents: tuple[type[Exception], ...], evidence: dict[str, Any], travel: Any
    ) -> None:
        """A pickled or copied error is of the same class, says the same and carries the same evidence."""
        again = travel(error)
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert again.args[0] == error.args[0]
        assert {name: getattr(again, name) for name in evidence} == evidence


class TestMessages:
    def test_an_unknown_backend_names_the_known(self) -> None:
        """Who asks for an unknown backend reads which there are."""
        assert str(BackendNotRegistered("x", ["a"])) == "no storage backend is registered as 'x'; registered: 'a'"
        assert str(BackendNotRegistered("x", [])).endswith("registered: none")

    def test_a_missing_package_names_the_command(self) -> None:
        """Who lacks a package reads the line that installs it."""
        assert str(MissingDependency("fsspec", "s3")) == "fsspec is not installed; run: pip install 'lading[s3]'"

    def test_a_long_bad_path_is_cut(self) -> None:
        """The message shows the beginning of a bad path; the error has all of it."""
        error = InvalidPath("a\n" * 5000, "a control character")
        assert len(str(error)) < 500
        assert "\n" not in str(error)
        assert len(error.path) == 10_000


class TestCleanupError:
    def test_it_is_a_group(self) -> None:
        """`except*` finds the failures inside, and parts of the group keep the evidence."""
        missing, denied = ObjectNotFound("m", **AT), AccessDenied("m", **AT)
        error = CleanupError("two are left", [missing, denied], committed=False, left=[("b", "p"), ("b", "q")])
        found, rest = error.split(ObjectNotFound)
        assert isinstance(found, CleanupError)
        assert isinstance(rest, CleanupError)
        assert (found.exceptions, rest.exceptions) == ((missing,), (denied,))
        for part in (found, rest):
            assert (part.committed, part.left) == (False, (("b", "p"), ("b", "q")))

    def test_pickled_it_keeps_what_is_inside(self) -> None:
        """The errors of a group travel with it."""
        again = pickle.loads(pickle.dumps(CleanupError("m", [ObjectNotFound("gone", **AT)], committed=True, left=[])))
        (inner,) = again.exceptions
        assert (type(inner), inner.path) == (ObjectNotFound, "p")
