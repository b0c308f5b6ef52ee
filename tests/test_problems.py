"""Problem documents (RFC 9457): what a client is told of each error, and what it is not."""

import inspect
import json
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar import Litestar, Request, post
from litestar.testing import TestClient

from lading import FileObject, Storages, errors
from lading.errors import (
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
    NotUploaded,
    ObjectExists,
    ObjectNotFound,
    PendingFile,
    Refused,
    SlowBody,
    StoreError,
    StoreUnavailable,
    TooLarge,
    TooManyUploads,
    TooSmall,
    TypeNotAllowed,
    UsedToken,
)
from lading.litestar import LadingConfig, LadingPlugin
from lading.paths import as_given, under
from lading.problems import MEDIA_TYPE, PREFIX, PROBLEMS, problem_of

STORE = {"backend": "secret host", "path": "secret/path"}
EACH: list[tuple[LadingError, int, str, dict[str, Any]]] = [
    (MalformedBody("cut"), 400, "malformed-body", {}),
    (ClientGone("gone"), 400, "client-gone", {}),
    (InvalidToken("no"), 403, "invalid-token", {}),
    (ObjectNotFound("secret", **STORE), 404, "not-found", {}),
    (SlowBody("slow", limit=500.0, actual=7, seconds=30.0), 408, "slow-body", {"limit": 500.0, "actual": 7}),
    (ObjectExists("secret", **STORE), 409, "exists", {}),
    (NotUploaded("not yet"), 409, "not-uploaded", {}),
    (UsedToken("used"), 409, "used-token", {}),
    (ExpiredToken("late", expired_at=1.0), 410, "expired-token", {}),
    (TooLarge("large", filename="f", limit=1, actual=2), 413, "too-large", {"limit": 1, "actual": 2}),
    (
        TypeNotAllowed("type", filename="f", limit=("image/*",), actual="text/html"),
        415,
        "type-not-allowed",
        {"limit": ["image/*"], "actual": "text/html"},
    ),
    (TooSmall("small", filename="f", limit=2, actual=1), 422, "too-small", {"limit": 2, "actual": 1}),
    (ExtensionNotAllowed("extension", filename="f", actual="exe"), 422, "extension-not-allowed", {"actual": "exe"}),
    (InvalidPath("secret/C:x", "a drive"), 422, "invalid-path", {"detail": "no object can have that name: a drive"}),
    (Mismatch("other", filename="f", limit=1, actual=2), 422, "mismatch", {"limit": 1, "actual": 2}),
    (Refused("a rule", filename="f"), 422, "refused", {}),
    (TooManyUploads("many", limit=1, retry_after=9), 429, "too-many-uploads", {"limit": 1, "retry_after": 9}),
    (StoreError("secret", **STORE), 503, "store-unavailable", {"retry_after": 5}),
]


@pytest.mark.parametrize(("error", "status", "name", "evidence"), EACH, ids=[each[2] for each in EACH])
def test_what_a_client_is_told(error: LadingError, status: int, name: str, evidence: dict[str, Any]) -> None:
    """Each error has its status, a type that never changes, and its evidence; of stores and paths nothing is told."""
    problem = problem_of(error)
    assert problem is not None
    document = json.loads(problem.encode())
    told = {} if isinstance(error, StoreError) else {"detail": str(error)}
    title = HTTPStatus(status).phrase
    assert document == {"type": f"urn:lading:problem:{name}", "title": title, "status": status, **told, **evidence}
    assert "secret" not in json.dumps(document)


def test_each_is_listed() -> None:
    """These are all; and the documentation has each of them, with its status."""
    assert {type(error) for error, *_ in EACH} == PROBLEMS.keys()
    page = (Path(__file__).parents[1] / "docs" / "howto" / "errors.md").read_text()
    for status, name in PROBLEMS.values():
        assert f"| {status} | `{name}` |" in page


def test_the_nearest_class_decides() -> None:
    """An error that is not listed is told as what it is a kind of."""

    class Rude(Refused):
        pass

    for error, name in (
        (Rude("rude", filename="f"), "refused"),
        (StoreUnavailable("down", **STORE), "store-unavailable"),
        (IntegrityFailure("other", **STORE, expected=1, actual=2), "store-unavailable"),
    ):
        problem = problem_of(error)
        assert problem is not None
        assert problem.type == PREFIX + name


@pytest.mark.parametrize(
    "error",
    [ConfigurationError("wrong"), PendingFile("not stored"), LadingError("?"), ValueError("?"), KeyboardInterrupt()],
)
def test_what_is_no_business_of_clients(error: BaseException) -> None:
    """The application's own faults are none of it."""
    assert problem_of(error) is None


def test_every_error_has_been_thought_of() -> None:
    """A new error is listed, or is one of those that are the application's own."""
    own: set[type[LadingError]] = {errors.ConfigurationError, errors.RecordError, errors.NotAFile, errors.SourceError}
    own |= {errors.StateError, errors.CleanupError, errors.LadingError, errors.RequestError}
    kinds = {kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, LadingError)}
    for kind in kinds - own:
        assert any(parent in PROBLEMS or parent in own - {LadingError} for parent in kind.__mro__), kind


def test_headers() -> None:
    """A document says what it is and no browser guesses; it is not cached, and says when the client may come again."""
    busy, gone = problem_of(TooManyUploads("many", limit=1, retry_after=9)), problem_of(UsedToken("used"))
    assert busy is not None
    assert gone is not None
    always = {"content-type": MEDIA_TYPE, "cache-control": "no-store", "x-content-type-options": "nosniff"}
    assert busy.headers == {**always, "retry-after": "9"}
    assert gone.headers == always
    busy.headers.clear()
    assert "retry-after" in busy.headers


@pytest.mark.parametrize("name", ["a%2fb.txt", "a%00.txt"])
def test_a_name_that_no_object_can_have(name: str) -> None:
    """A client's name that a path maker makes a bad path of is the client's business, and what else is in it is not."""
    storages = Storages()
    storages.register_backend("memory://", key="store", path=under("tenants/secret", as_given))

    @post("/")
    async def upload(request: Request[Any, Any, Any]) -> None:
        await FileObject("store", name, content=b"x", storages=storages).save_async()

    plugin = LadingPlugin(LadingConfig("a secret of some length", storages=storages))
    with TestClient(Litestar([upload], plugins=[plugin], logging_config=None), raise_server_exceptions=False) as client:
        answer = client.post("/")
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:lading:problem:invalid-path")
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
    assert "secret" not in answer.text


def test_evidence_of_any_kind() -> None:
    """A rule of the application may give anything as evidence; what JSON cannot hold becomes text, cut short."""
    endless: list[Any] = []
    endless.append(endless)
    for evidence in (object(), endless, {1, 2}, b"\xff", float("nan"), {"a": object()}, "x" * 500):
        problem = problem_of(Refused("no", filename="f", limit=evidence, actual=evidence))
        assert problem is not None
        assert set(msgspec.json.decode(problem.encode())) >= {"type", "title", "status", "detail"}
    problem = problem_of(Refused("no", filename="f", limit=type("Long", (), {"__repr__": lambda _: "y" * 500})()))
    assert problem is not None
    assert problem.limit == "y" * 200
