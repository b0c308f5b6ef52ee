"""Signed URLs and files as responses, of any ASGI application."""

import asyncio
import hashlib
import logging
import re
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator
from email.parser import BytesParser
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import httpx
import msgspec
import obstore
import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from lading import FileObject, Storages, StoredObject, clock
from lading.asgi import FileResponse, FileServer
from lading.asgi.writing import SLACK
from lading.backends.fsspec import FSSpecBackend
from lading.backends.obstore import ObstoreBackend
from lading.errors import BackendNotRegistered, ConfigurationError, PendingFile, StoreError
from lading.policy import Policy
from lading.receiving import Admission, Pace
from lading.record import FileRecord
from lading.rules import content_types, max_size
from lading.signer import UploadGrant, UrlSigner
from lading.testing import Fault, FaultyBackend, frozen_clock
from lading.tokens import Tokens
from tests.services.moto import S3
from tests.services.web import KINDS, Kind, serving, until

SECRET = "a secret of some length"
MIB = 2**20
CONTENT = b"0123456789"
HTML = b"<!doctype html><script>alert(1)</script>"
PAGES = Storages()


def s3_backend(s3: S3, key: str = "store", **options: Any) -> ObstoreBackend:
    return ObstoreBackend(
        key,
        f"s3://{s3.make_bucket()}",
        aws_endpoint=s3.endpoint,
        aws_region=s3.region,
        aws_access_key_id=s3.access_key_id,
        aws_secret_access_key=s3.secret_access_key,
        **options,
    )


def with_signer(storages: Storages, **options: Any) -> UrlSigner:
    storages.signer = signer = UrlSigner(Tokens(SECRET), **options)
    return signer


@pytest.fixture(params=["memory", "local", "s3"])
def storages(request: pytest.FixtureRequest, tmp_path: Path) -> Storages:
    """A registry whose store is one of three, and whose URLs are all our own."""
    storages = Storages()
    if request.param == "s3":
        storages.register_backend(s3_backend(request.getfixturevalue("s3")))
    else:
        storages.register_backend("memory://" if request.param == "memory" else tmp_path.as_uri(), key="store")
    with_signer(storages, always=True)
    return storages


@pytest.fixture
def memory() -> Storages:
    storages = Storages()
    storages.register_backend("memory://", key="store")
    with_signer(storages)
    return storages


def server_of(storages: Storages, **options: Any) -> FileServer:
    return FileServer(cast("UrlSigner", storages.signer), storages, **options)


def client_of(app: Any, **options: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test", **options)


def save(storages: Storages, filename: str = "notes.txt", content: bytes = CONTENT, **options: Any) -> FileObject:
    return FileObject("store", filename, content=content, storages=storages, **options).save()


def lies_there(storages: Storages, path: str) -> bool:
    return FileObject("store", path=path, storages=storages).exists()


# reading


@pytest.mark.parametrize("kind", KINDS)
def test_a_signed_url(storages: Storages, kind: Kind) -> None:
    """A signed URL gives the file's bytes, to HEAD the same headers, and to a range what it asks for."""
    file = save(storages)
    url = file.sign(expires_in=60)
    with serving(server_of(storages), kind) as base, httpx.Client(base_url=base) as client:
        answer = client.get(url)
        assert (answer.status_code, answer.content) == (200, CONTENT)
        assert answer.headers["etag"] == f'"{file.checksum}"'
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.headers["content-disposition"] == 'inline; filename="notes.txt"'
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
        assert int(answer.headers["cache-control"].removeprefix("private, max-age=")) in range(50, 60)
        head = client.head(url)
        assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "10")
        assert head.headers.keys() == answer.headers.keys()
        part = client.get(url, headers={"range": "bytes=2-4"})
        assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"234", "bytes 2-4/10")
        assert client.get(url, headers={"if-none-match": answer.headers["etag"]}).status_code == 304
        assert client.get(url, headers={"if-match": '"x"'}).status_code == 412
        beyond = client.get(url, headers={"range": "bytes=10-"})
        assert (beyond.status_code, beyond.json()["type"]) == (416, "urn:lading:problem:range-not-satisfiable")


@pytest.mark.parametrize("kind", KINDS)
def test_curl(memory: Storages, tmp_path: Path, kind: Kind) -> None:
    """Curl takes ranges, and goes on with a download that was broken off."""
    content = bytes(range(256)) * 30_000
    url = save(memory, "film.bin", content).sign()
    target = tmp_path / "film.bin"

    def curl(*arguments: str) -> bytes:
        try:
            return subprocess.run(["curl", "-sS", "--fail", *arguments], capture_output=True, check=True).stdout
        except FileNotFoundError:
            pytest.skip("curl is not installed: make services")

    with serving(server_of(memory), kind) as base:
        assert curl("-r", "2-4", base + url) == content[2:5]
        assert curl("-r", "-3", base + url) == content[-3:]
        assert curl("-r", "0-1,4-5", base + url).count(b"content-range: bytes ") == 2
        target.write_bytes(content[:1_000_000])
        curl("-C", "-", "-o", str(target), base + url)
    assert target.read_bytes() == content


@pytest.mark.parametrize("kind", KINDS)
def test_several_ranges(storages: Storages, kind: Kind) -> None:
    """Several ranges come as one multipart body of the length that was said, also where one is larger than a chunk."""
    content = bytes(index % 251 for index in range(3 * MIB))
    url = save(storages, "a.bin", content).sign()
    asked = f"bytes=5-9,{MIB}-{5 * MIB // 2},0-1"
    with serving(server_of(storages), kind) as base:
        answer = httpx.get(base + url, headers={"range": asked})
    assert answer.status_code == 206
    head = f"content-type: {answer.headers['content-type']}\r\n\r\n".encode()
    message = BytesParser().parsebytes(head + answer.content)
    parts = [cast("bytes", part.get_payload(decode=True)) for part in message.walk() if not part.is_multipart()]
    assert parts == [content[5:10], content[MIB : 5 * MIB // 2 + 1], content[0:2]]


async def test_an_empty_file(storages: Storages) -> None:
    """An empty file is served as one, whatever range is asked for."""
    url = await save(storages, "empty.txt", b"").sign_async()
    async with client_of(server_of(storages)) as client:
        for headers in ({}, {"range": "bytes=0-"}, {"range": "bytes=0-0,1-1"}):
            answer = await client.get(url, headers=headers)
            assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "0")


async def test_overrides(storages: Storages) -> None:
    """A URL may have another name, type and disposition than the record, and never makes anything run."""
    file, page = save(storages), save(storages, "page.html", HTML)
    async with client_of(server_of(storages)) as client:

        async def head_of(file: FileObject, **overrides: Any) -> tuple[str, str]:
            answer = await client.get(await file.sign_async(**overrides))
            return answer.headers["content-type"], answer.headers["content-disposition"]

        text = "text/plain; charset=utf-8"
        assert await head_of(file, filename="b.txt") == (text, 'inline; filename="b.txt"')
        assert await head_of(file, disposition="attachment") == (text, 'attachment; filename="notes.txt"')
        assert await head_of(file, content_type="text/html") == ("text/html", 'attachment; filename="notes.txt"')
        assert await head_of(page, disposition="inline") == ("text/html", 'attachment; filename="page.html"')
        assert await head_of(page, content_type="text/plain") == (text, 'inline; filename="page.html"')


@pytest.mark.parametrize(
    ("host", "disposition", "kind"),
    [
        ("files.example.org", "inline", "inline"),
        ("FILES.example.org", "inline", "inline"),
        ("files.example.org", None, "attachment"),
        ("app.example.org", "inline", "attachment"),
        ("files.example.org.evil.example", "inline", "attachment"),
        ("", "inline", "attachment"),
    ],
)
async def test_a_separate_origin(memory: Storages, host: str, disposition: Any, kind: str) -> None:
    """Active content is shown to whom asks for it at the origin that serves nothing else, and nowhere else."""
    with_signer(memory, base_url="https://files.example.org", separate_origin=True)
    url = urlsplit(save(memory, "page.html", HTML).sign(disposition=disposition)).path
    async with client_of(server_of(memory)) as client:
        answer = await client.get(url, headers={"host": host})
    assert answer.headers["content-disposition"].startswith(f"{kind};")
    assert answer.headers["content-security-policy"].endswith("; sandbox")


ASKED: list[dict[str, str]] = [
    {},
    {"range": "bytes=1-2"},
    {"range": "bytes=1-2,4-5"},
    {"range": "bytes=10-"},
    {"if-none-match": "*"},
    {"if-match": '"x"'},
]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("asked", ASKED)
async def test_a_missing_object(storages: Storages, method: str, asked: dict[str, str]) -> None:
    """Where no object lies the answer is 404, whatever is asked, and says nothing of the store."""
    file = save(storages)
    url, path = file.sign(), file.path
    file.delete()
    async with client_of(server_of(storages)) as client:
        answer = await client.request(method, url, headers=asked)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert path not in answer.text
    assert (answer.content == b"") == (method == "HEAD")


async def test_a_record_without_a_size(storages: Storages) -> None:
    """Of a row that knows no size the store is asked."""
    record = {"backend": "store", "path": save(storages).path, "filename": "old.txt"}
    url = FileObject.from_dict(record, storages=storages).sign()
    async with client_of(server_of(storages)) as client:
        assert (await client.get(url, headers={"range": "bytes=-2"})).content == b"89"
        assert (await client.head(url)).headers["content-length"] == "10"


async def test_an_object_that_is_too_short(memory: Storages) -> None:
    """An object that ends before its record says so breaks off, and before it has begun is refused with 503."""
    file = save(memory, "a.bin", bytes(2 * MIB))
    long = FileObject.from_dict({**file.to_dict(), "size": 3 * MIB}, storages=memory)
    async with client_of(server_of(memory)) as client:
        with pytest.raises(StoreError, match="shorter"):
            await client.get(long.sign())
        beyond = await client.get(long.sign(), headers={"range": f"bytes={2 * MIB}-"})
        assert (beyond.status_code, beyond.json()["type"]) == (503, "urn:lading:problem:store-unavailable")
        assert file.path not in beyond.text
    with serving(server_of(memory)) as base, pytest.raises(httpx.RemoteProtocolError):
        httpx.get(base + long.sign())


async def test_refusals(memory: Storages) -> None:
    """A tampered token is 403, an expired one 410, another path 404, another method 405 with what is allowed."""
    url = save(memory).sign()
    upload = FileObject("store", to_filename="a", storages=memory).sign(for_upload=True)
    token = url.split("/")[2]
    with frozen_clock() as frozen:
        ended = save(memory).sign(expires_in=5)
        frozen.tick(6)
        async with client_of(server_of(memory)) as client:
            expired = await client.get(ended)
    assert (expired.status_code, expired.json()["type"]) == (410, "urn:lading:problem:expired-token")
    async with client_of(server_of(memory)) as client:
        tampered = await client.get(url.replace(token, token[:-1] + ("A" if token[-1] != "A" else "E")))
        assert (tampered.status_code, tampered.json()["type"]) == (403, "urn:lading:problem:invalid-token")
        for path in ("/", "/files", "/files/", "//", "/files/x/", f"/files/{token}/"):
            nowhere = await client.get(path)
            assert nowhere.status_code in (403, 404), path
            assert nowhere.headers["content-type"] == "application/problem+json"
        for method, path, allowed in (
            ("PUT", url, "GET, HEAD, OPTIONS"),
            ("POST", url, "GET, HEAD, OPTIONS"),
            ("GET", upload, "PUT, OPTIONS"),
            ("DELETE", upload, "PUT, OPTIONS"),
        ):
            refused = await client.request(method, path)
            assert (refused.status_code, refused.headers["allow"]) == (405, allowed)
            told = await client.options(path)
            assert (told.status_code, told.headers["allow"]) == (204, allowed)


async def test_where_it_is_mounted(memory: Storages) -> None:
    """What lies before the token is the business of who mounts it, as a root path or not; a slash behind is nothing."""
    url = save(memory).sign()
    server = server_of(memory)
    below = httpx.ASGITransport(app=server, root_path="/files")
    async with httpx.AsyncClient(transport=below, base_url="http://test") as client:
        assert (await client.get(url)).content == CONTENT
        assert (await client.get(url.removeprefix("/files"))).content == CONTENT
        assert (await client.get("/files/x")).status_code == 404


async def test_an_application_that_is_put_together_wrongly(memory: Storages) -> None:
    """What no client can help is no client's error: an unknown mode, a file of a backend that nobody registers."""
    with pytest.raises(ConfigurationError, match="mode"):
        server_of(memory, mode="magic")
    response = FileResponse(save(memory))
    memory.unregister_backend("store")
    async with client_of(response) as client:
        with pytest.raises(BackendNotRegistered):
            await client.get("/")


async def test_a_url_that_outlives_its_store(memory: Storages, caplog: pytest.LogCaptureFixture) -> None:
    """A URL into a store that is not registered any more is 404, whatever it is for, and the operator is told."""
    url, upload = save(memory).sign(), granted(memory)
    memory.unregister_backend("store")
    async with client_of(server_of(memory)) as client:
        for answer in (await client.get(url), await client.head(url), await client.put(upload, content=b"x")):
            assert answer.status_code == 404
            assert "store" not in answer.text
    assert [record.levelname for record in caplog.records if record.name == "lading"] == ["WARNING"] * 3


@pytest.mark.parametrize("path", ["../a", "a//b", "C:a", "a%2fb"])
async def test_a_url_that_leads_nowhere(storages: Storages, path: str) -> None:
    """A genuine URL to what no object can be called is 404."""
    record = FileRecord(backend="store", path=path, filename="a", content_type="text/plain", size=1)
    unsized = msgspec.structs.replace(record, size=None)
    signer = cast("UrlSigner", storages.signer)
    for mode in ("proxy", "redirect"):
        async with client_of(server_of(storages, mode=mode)) as client:
            for method in ("GET", "HEAD"):
                for each in (record, unsized):
                    answer = await client.request(method, signer.sign(each, expires_in=60))
                    assert answer.status_code == 404


async def test_a_store_that_is_down(memory: Storages) -> None:
    """A store that fails is 503 with a time to come again."""
    url = save(memory).sign()
    memory.register_backend(FaultyBackend(memory.get_backend("store"), [Fault("read", error=StoreError)]), replace=True)
    async with client_of(server_of(memory)) as client:
        answer = await client.get(url)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert (await client.get(url)).status_code == 200


async def test_a_store_that_is_down_is_logged(memory: Storages, caplog: pytest.LogCaptureFixture) -> None:
    """The client is told no more, so the log says what has happened; what is missing is nobody's failure."""
    url = save(memory).sign()
    memory.register_backend(FaultyBackend(memory.get_backend("store"), [Fault("read", error=StoreError)]), replace=True)
    async with client_of(server_of(memory)) as client:
        with caplog.at_level(logging.ERROR, "lading"):
            assert (await client.get(url)).status_code == 503
            memory.register_backend("memory://", key="store", replace=True)
            assert (await client.get(url)).status_code == 404
    (record,) = [record for record in caplog.records if record.name == "lading"]
    assert (record.levelname, record.__dict__["backend"], record.exc_info is not None) == ("ERROR", "store", True)


async def test_a_slow_upload_over_http_2(memory: Storages) -> None:
    """HTTP/2 has no header that ends a connection."""
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "http_version": "2", "method": "PUT", "path": granted(memory), "root_path": "/files"}
    await server_of(memory, pace=Pace(timeout=0.1))({**scope, "headers": []}, receive, send)
    assert sent[0]["status"] == 408
    assert b"connection" not in dict(sent[0]["headers"])


async def test_by_itself(memory: Storages) -> None:
    """Served without anything around it, it starts and stops as a server asks, and closes WebSockets."""
    server = server_of(memory)
    sent: list[Any] = []
    phases = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive() -> Any:
        return {"type": next(phases)}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await server({"type": "lifespan"}, receive, send)
    await server({"type": "websocket"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete", "websocket.close"]


# redirects


async def test_redirects(s3: S3) -> None:
    """Who may read is sent to the store, with a URL that lasts no longer, and told not to remember it for longer."""
    storages = Storages()
    storages.register_backend(s3_backend(s3))
    with_signer(storages, always=True)
    file = save(storages)
    async with client_of(server_of(storages, mode="redirect")) as client:
        answer = await client.get(await file.sign_async(expires_in=600))
        assert answer.status_code == 307
        location = answer.headers["location"]
        assert location.startswith(f"{s3.endpoint}/")
        assert file.path in location
        lifetime = re.search(r"X-Amz-Expires=(\d+)", location)
        assert lifetime is not None
        assert 590 <= int(lifetime[1]) <= 600
        assert 290 <= int(answer.headers["cache-control"].removeprefix("private, max-age=")) <= 300
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert httpx.get(location).content == CONTENT


async def test_what_is_not_redirected(s3: S3) -> None:
    """What the store would not serve as the URL has it comes through the application all the same."""
    storages = Storages()
    storages.register_backend(s3_backend(s3))
    storages.register_backend("memory://", key="memory")
    with_signer(storages, always=True)
    file = save(storages)
    here = FileObject("memory", "a.txt", content=CONTENT, storages=storages).save()
    async with client_of(server_of(storages, mode="redirect")) as client:
        assert (await client.head(await file.sign_async())).status_code == 200
        assert (await client.get(await here.sign_async())).content == CONTENT
        for overrides in ({"filename": "b"}, {"disposition": "attachment"}, {"content_type": "text/csv"}):
            assert (await client.get(await file.sign_async(**cast("Any", overrides)))).content == CONTENT
        page = await client.get(await save(storages, "a.html", HTML).sign_async())
        assert page.headers["content-security-policy"].endswith("sandbox")


async def test_the_last_moment_is_not_redirected(s3: S3) -> None:
    """A URL that ends within a second is served, since no store signs for less."""
    storages = Storages()
    storages.register_backend(s3_backend(s3))
    with_signer(storages, always=True)
    with frozen_clock() as frozen:
        url = save(storages).sign(expires_in=1)
        frozen.tick(0.5)
        async with client_of(server_of(storages, mode="redirect")) as client:
            answer = await client.get(url)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "private, max-age=0")


# signed uploads


def grant(**changes: Any) -> UploadGrant:
    said: dict[str, Any] = {
        "backend": "store",
        "path": "up/a.txt",
        "filename": "a.txt",
        "content_type": None,
        "size": None,
        "checksum": None,
        "policy": None,
        "principal": None,
        "expires_at": clock.now() + 60,
    }
    return UploadGrant(**(said | changes))


def granted(storages: Storages, **changes: Any) -> str:
    return cast("UrlSigner", storages.signer).sign_upload(grant(**changes))


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


async def in_pieces(content: bytes) -> AsyncIterator[bytes]:
    """A body that does not say how long it is."""
    for start in range(0, len(content), 64 * 1024):
        yield content[start : start + 64 * 1024]


BIG = bytes(index % 241 for index in range(6 * MIB))
"""More than is put in one request."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("content", [b"", CONTENT, BIG])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_signed_upload(storages: Storages, kind: Kind, content: bytes, chunked: bool) -> None:
    """What is put to a signed URL lies where it says, whether or not the client says how long it is."""
    url = granted(storages, content_type="text/plain", size=len(content), checksum=digest(content))
    body: Any = iter([content[:5], content[5:]]) if chunked else content
    with serving(server_of(storages), kind) as base:
        answer = httpx.put(base + url, content=body, headers={"content-type": "text/plain"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["etag"] == f'"{digest(content)}"'
    assert FileObject("store", path="up/a.txt", storages=storages).get_content() == content


async def test_a_signed_upload_of_anything(storages: Storages) -> None:
    """`sign(for_upload=True)` grants a put of anything; a second one replaces it, as a store's own URL would."""
    url = await FileObject("store", to_filename="up/any", storages=storages).sign_async(for_upload=True)
    async with client_of(server_of(storages)) as client:
        for content in (CONTENT, BIG, HTML):
            assert (await client.put(url, content=content)).status_code == 200
            stored = FileObject("store", path="up/any", storages=storages)
            assert await stored.get_content_async() == content


REFUSED: list[tuple[dict[str, Any], dict[str, str], int, str]] = [
    ({"size": len(BIG) - 1}, {}, 413, "too-large"),
    ({"size": len(BIG) + 1}, {}, 422, "mismatch"),
    ({"checksum": digest(b"other")}, {}, 422, "mismatch"),
    ({"checksum": "sha1:00"}, {}, 422, "mismatch"),
    ({"content_type": "image/png"}, {}, 422, "mismatch"),
    ({"content_type": "image/png"}, {"content-type": "text/plain"}, 422, "mismatch"),
    ({"policy": "row.small"}, {}, 413, "too-large"),
    ({"policy": "row.pdf"}, {"content-type": "application/pdf"}, 415, "type-not-allowed"),
    ({"policy": "row.unknown"}, {}, 403, "invalid-token"),
]


@pytest.mark.parametrize(("changes", "headers", "status", "problem"), REFUSED)
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("there", [False, True])
async def test_what_is_not_granted(
    storages: Storages,
    changes: dict[str, Any],
    headers: dict[str, str],
    status: int,
    problem: str,
    chunked: bool,
    there: bool,
) -> None:
    """A put of another size, type or checksum, or one that a rule refuses, leaves what lay there, or nothing."""
    policies = {
        "row.small": Policy(name="row.small", rules=[max_size(5 * MIB)]),
        "row.pdf": Policy(name="row.pdf", rules=[content_types("application/pdf")]),
    }
    if there:
        FileObject("store", to_filename="up/a.txt", content=b"before", storages=storages).save()
    url = granted(storages, **changes)
    async with client_of(server_of(storages, policies=policies)) as client:
        body = in_pieces(BIG) if chunked else BIG
        answer = await client.put(url, content=body, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:lading:problem:{problem}")
    assert lies_there(storages, "up/a.txt") == there
    if there:
        assert FileObject("store", path="up/a.txt", storages=storages).get_content() == b"before"


async def test_the_rules_of_the_backend(memory: Storages) -> None:
    """A backend's own rules are asked of what is put to a signed URL, too."""
    backend = ObstoreBackend("store", "memory://", rules=[content_types(deny=["text/html"])])
    memory.register_backend(backend, replace=True)
    async with client_of(server_of(memory)) as client:
        refused = await client.put(granted(memory, filename="a.png"), content=HTML)
        assert (refused.status_code, refused.json()["actual"]) == (415, "text/html")


async def test_no_token_passes_for_another(memory: Storages) -> None:
    """A download's token and a direct upload's id write nothing, and an upload's token reads nothing."""
    signer = cast("UrlSigner", memory.signer)
    download = save(memory).sign().split("/")[2]
    async with client_of(server_of(memory)) as client:
        for token in (download, signer.sign_id(grant()), "x.y", ""):
            assert (await client.put(f"/files/uploads/{token}", content=b"x")).status_code in (403, 404)
        for token in (granted(memory).split("/")[-1], signer.sign_id(grant())):
            assert (await client.get(f"/files/{token}/a.txt")).status_code == 403
    assert not lies_there(memory, "up/a.txt")


async def test_an_upload_that_begins_too_late(memory: Storages) -> None:
    """A signed URL for an upload is 410 when its time is over."""
    with frozen_clock() as frozen:
        url = granted(memory, expires_at=clock.now() + 60)
        frozen.tick(61)
        async with client_of(server_of(memory)) as client:
            assert (await client.put(url, content=b"x")).status_code == 410


@pytest.mark.parametrize(("seconds", "status"), [(60 + SLACK - 1, 200), (60 + SLACK, 410)])
async def test_an_upload_that_never_ends(memory: Storages, seconds: int, status: int) -> None:
    """An upload may end after its URL, but not long after, so that one can know when nothing comes any more."""

    async def slowly() -> AsyncIterator[bytes]:
        yield bytes(MIB)
        frozen.tick(seconds)
        yield bytes(MIB)

    with frozen_clock() as frozen:
        url = granted(memory, expires_at=clock.now() + 60)
        async with client_of(server_of(memory)) as client:
            assert (await client.put(url, content=slowly())).status_code == status
    assert lies_there(memory, "up/a.txt") == (status == 200)


async def test_a_length_that_is_none(memory: Storages) -> None:
    """A Content-Length that is no number is 400, should a server let it pass."""
    async with client_of(server_of(memory)) as client:
        for length in ("x", "-1", "1e3", "", "9" * 30, "٣"):
            request = client.build_request("PUT", granted(memory), content=b"x")
            request.headers["content-length"] = length.encode().decode("latin-1")
            assert (await client.send(request)).status_code == 400, length


async def test_a_part_is_not_the_whole(storages: Storages) -> None:
    """A put of a range is refused before it is read, since it would be taken for the whole."""
    save(storages, to_filename="up/a.txt")
    async with client_of(server_of(storages)) as client:
        answer = await client.put(granted(storages), content=b"abc", headers={"content-range": "bytes 7-9/10"})
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:lading:problem:malformed-body")
    assert FileObject("store", path="up/a.txt", storages=storages).get_content() == CONTENT


@pytest.mark.parametrize("content", [b"other", BIG])
async def test_a_put_that_is_to_replace_nothing(storages: Storages, content: bytes) -> None:
    """`If-None-Match: *` stores what lies nowhere yet, and is 412 where something does, which stays."""
    async with client_of(server_of(storages)) as client:
        url, headers = granted(storages), {"if-none-match": "*"}
        assert (await client.put(url, content=content, headers=headers)).status_code == 200
        answer = await client.put(url, content=b"replaced", headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (412, "urn:lading:problem:precondition-failed")
        answer = await client.put(url, content=in_pieces(BIG + b"replaced"), headers=headers)
        assert answer.status_code == 412
    assert FileObject("store", path="up/a.txt", storages=storages).get_content() == content


@pytest.mark.parametrize("name", ["if-match", "if-none-match", "if-unmodified-since"])
async def test_conditions_that_no_store_keeps(memory: Storages, name: str) -> None:
    """Any other condition of a put is 412: who sets one would be hurt if it were ignored."""
    async with client_of(server_of(memory)) as client:
        tag = (await client.put(granted(memory), content=CONTENT)).headers["etag"]
        said = "Tue, 14 Nov 2034 22:13:20 GMT" if name == "if-unmodified-since" else tag
        for value in (said, f'{said}, "x"', "" if name == "if-none-match" else "*"):
            answer = await client.put(granted(memory), content=b"other", headers={name: value})
            assert (answer.status_code, answer.json()["type"]) == (412, "urn:lading:problem:precondition-failed")
    assert FileObject("store", path="up/a.txt", storages=memory).get_content() == CONTENT


def put_by_hand(base: str, url: str, length: int, sent: bytes) -> socket.socket:
    host = urlsplit(base)
    connection = socket.create_connection((host.hostname or "", host.port or 0))
    connection.sendall(f"PUT {url} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode() + sent)
    return connection


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_that_goes_away_while_it_uploads(storages: Storages, kind: Kind) -> None:
    """Of an upload whose client goes away nothing is stored, and its place is free again."""
    admission = Admission()
    FileObject("store", to_filename="up/a.txt", content=b"before", storages=storages).save()
    with serving(server_of(storages, admission=admission), kind) as base:
        with put_by_hand(base, granted(storages), 20 * MIB, bytes(7 * MIB)):
            assert until(lambda: admission.uploads == 1)
        assert until(lambda: admission.uploads == 0)
    assert FileObject("store", path="up/a.txt", storages=storages).get_content() == b"before"


@pytest.mark.parametrize("kind", KINDS)
def test_a_slow_upload(memory: Storages, kind: Kind) -> None:
    """A client that sends nothing for too long is told so with 408."""
    server = server_of(memory, pace=Pace(timeout=0.3))
    with serving(server, kind) as base, put_by_hand(base, granted(memory), 100, b"x") as connection:
        answer = b"".join(iter(lambda: connection.recv(1000), b""))  # to the end of the connection
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"\r\nconnection: close\r\n" in answer.lower()
    assert not lies_there(memory, "up/a.txt")


def test_too_many_uploads(memory: Storages) -> None:
    """Who finds the process receiving as many uploads as it may is told to come again, with 429."""
    admission = Admission(uploads=1, wait=0.1)
    with serving(server_of(memory, admission=admission)) as base:
        with put_by_hand(base, granted(memory), MIB, b"x"):  # which is too little to take part
            assert httpx.put(base + granted(memory, path="b"), content=b"x").status_code == 200
        with put_by_hand(base, granted(memory), MIB, bytes(MIB // 2)):
            assert until(lambda: admission.uploads == 1)
            answer = httpx.put(base + granted(memory, path="b"), content=b"x")
        assert (answer.status_code, "retry-after" in answer.headers) == (429, True)
        assert until(lambda: admission.uploads == 0)
        assert httpx.put(base + granted(memory, path="b"), content=b"x").status_code == 200


def test_a_refused_upload_is_told(storages: Storages) -> None:
    """A client that sends much more than it may can still read why it is refused."""
    for kind in KINDS:
        with serving(server_of(storages), kind) as base:
            answer = httpx.put(base + granted(storages, size=10), content=bytes(MIB))
            assert (answer.status_code, answer.json()["limit"], answer.json()["actual"]) == (413, 10, MIB)


# files as responses


async def test_a_file_as_a_response(storages: Storages) -> None:
    """A file that a handler returns has ranges and conditions, and is asked for anew each time."""
    file = save(storages)
    async with client_of(FileResponse(file)) as client:
        answer = await client.get("/documents/1")
        assert (answer.status_code, answer.content) == (200, CONTENT)
        assert answer.headers["cache-control"] == "private, no-cache"
        assert answer.headers["cross-origin-resource-policy"] == "same-site"
        assert (await client.get("/", headers={"if-none-match": answer.headers["etag"]})).status_code == 304
        assert (await client.get("/", headers={"range": "bytes=-1"})).content == b"9"
        head = await client.head("/")
        assert (head.headers["content-length"], head.content) == ("10", b"")
        assert (await client.post("/", headers={"range": "bytes=-1"})).content == CONTENT


async def test_how_a_file_is_returned(memory: Storages) -> None:
    """A handler chooses name, type, disposition, caching and embedding; active content it shows on an own origin."""
    file, page = save(memory), save(memory, "a.html", HTML)

    async def headers_of(file: FileObject, **options: Any) -> httpx.Headers:
        async with client_of(FileResponse(file, **options)) as client:
            return (await client.get("/")).headers

    answer = await headers_of(
        file, filename="b.csv", content_type="text/csv", cache_control="no-store", embedding="cross-origin"
    )
    assert answer["content-disposition"] == 'attachment; filename="b.csv"'
    assert (answer["content-type"], answer["cache-control"]) == ("text/csv", "no-store")
    assert answer["cross-origin-resource-policy"] == "cross-origin"
    saved = await headers_of(file, disposition="attachment")
    assert saved["content-disposition"] == 'attachment; filename="notes.txt"'
    assert (await headers_of(page, disposition="inline"))["content-disposition"].startswith("attachment")
    shown = await headers_of(page, disposition="inline", separate_origin=True)
    assert shown["content-disposition"].startswith("inline")


async def test_files_that_cannot_be_returned(storages: Storages) -> None:
    """A file that was never stored is the handler's error; one whose object is gone is 404."""
    with pytest.raises(PendingFile):
        FileResponse(FileObject("store", "a.txt", content=b"x", storages=storages))
    file = save(storages)
    response = FileResponse(file)
    file.delete()
    async with client_of(response) as client:
        answer = await client.get("/")
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:lading:problem:not-found")


async def test_a_returned_record_without_a_size(memory: Storages) -> None:
    """Of a row that knows no size the store is asked."""
    record = {"backend": "store", "path": save(memory).path, "filename": "old.txt"}
    async with client_of(FileResponse(FileObject.from_dict(record, storages=memory))) as client:
        assert (await client.get("/", headers={"range": "bytes=-2"})).content == b"89"


# memory, and clients that stop


class Watched:
    """A backend that says how much was read from it, and how many reads are open."""

    def __init__(self, backend: ObstoreBackend) -> None:
        self._backend = backend
        self.given = self.open = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def driver(self, world: Any) -> Any:
        return WatchedDriver(self, self._backend.driver(world))


class WatchedDriver:
    def __init__(self, watched: Watched, driver: Any) -> None:
        self._watched = watched
        self._driver = driver

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)

    async def read(self, path: str, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        self._watched.open += 1
        stream = self._driver.read(path, start, stop)
        try:
            async for chunk in stream:
                self._watched.given += len(chunk)
                yield chunk
        finally:
            await stream.aclose()
            self._watched.open -= 1


LARGE = 256 * MIB


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(ObstoreBackend("store", tmp_path.as_uri()))


@pytest.fixture
def large(watched: Watched, tmp_path: Path) -> FileObject:
    """A sparse file, larger than what servers and sockets hold."""
    storages = Storages()
    storages.register_backend(cast("Any", watched))
    with_signer(storages)
    with (tmp_path / "large.bin").open("wb") as file:
        file.truncate(LARGE)
    return FileObject("store", "large.bin", path="large.bin", size=LARGE, storages=storages)


def resident() -> int:
    """The memory of this process, client and server, in bytes."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


@pytest.mark.parametrize("kind", KINDS)
def test_a_large_file_in_little_memory(watched: Watched, large: FileObject, kind: Kind) -> None:
    """256 MiB are served with the memory of a few chunks."""
    with serving(server_of(large.storages), kind) as base, httpx.Client(base_url=base) as client:
        assert client.get(large.sign(), headers={"range": "bytes=0-9,20-29"}).status_code == 206
        before = resident()
        peak = received = 0
        with client.stream("GET", large.sign()) as answer:
            for chunk in answer.iter_raw():
                received += len(chunk)
                peak = max(peak, resident()) if received % (4 * MIB) < len(chunk) else peak
    assert received == LARGE
    assert peak - before < 40 * MIB
    assert until(lambda: watched.open == 0)


async def test_no_piece_is_large(storages: Storages) -> None:
    """What is handed to the server at a time is about 1 MiB, also of an object that lies in memory as one."""
    url, sizes = save(storages, "a.bin", BIG).sign(), []

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sizes.append(len(message.get("body", b"")))

    await server_of(storages)({"type": "http", "method": "GET", "path": url, "headers": []}, receive, send)
    assert sum(sizes) == len(BIG)
    assert max(sizes) < 2 * MIB


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ranges", ["", f"Range: bytes=0-{LARGE // 2},{LARGE // 2 + 9}-\r\n"])
@pytest.mark.parametrize("app", ["server", "response"])
def test_a_client_that_stops_reading_and_goes_away(
    watched: Watched, large: FileObject, kind: Kind, ranges: str, app: str
) -> None:
    """A client that stops reading stops the store's read, and one that goes away ends it."""
    served: Any = server_of(large.storages) if app == "server" else FileResponse(large)
    with serving(served, kind) as base:
        host = urlsplit(base)
        with socket.create_connection((host.hostname or "", host.port or 0)) as client:
            client.sendall(f"GET {large.sign()} HTTP/1.1\r\nHost: x\r\n{ranges}\r\n".encode())
            assert client.recv(65536).startswith(b"HTTP/1.1 20")
            assert until(lambda: watched.given > 0)
            time.sleep(0.3)
            stalled = watched.given
            time.sleep(0.3)
            assert watched.given == stalled < LARGE // 2
            assert watched.open == 1
        assert until(lambda: watched.open == 0)
        assert watched.given < LARGE // 2


async def test_a_server_that_never_takes_the_answer(large: FileObject, watched: Watched) -> None:
    """Where sending does not end, the client's going away ends it, and the read is over before the request is."""
    sending = asyncio.Event()

    async def receive() -> Any:
        await sending.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            sending.set()
            await asyncio.Event().wait()

    scope = {"type": "http", "method": "GET", "path": large.sign(), "headers": []}
    async with asyncio.timeout(10):
        await server_of(large.storages)(scope, receive, send)
    assert 0 < watched.given <= MIB
    assert watched.open == 0


@pytest.mark.parametrize("replayed", [b"", b"a body"])
async def test_a_middleware_that_gives_the_body_again(memory: Storages, replayed: bytes) -> None:
    """A middleware that has read the body and gives it to whoever asks, at once, does not stop the event loop."""
    asked = sent = 0

    async def receive() -> Any:
        nonlocal asked
        asked += 1
        assert asked < 100, "it is asked without end"
        return {"type": "http.request", "body": replayed, "more_body": False}

    async def send(message: Any) -> None:
        nonlocal sent
        sent += len(message.get("body", b""))
        await asyncio.sleep(0)

    scope = {"type": "http", "method": "GET", "path": save(memory, "a.bin", BIG).sign(), "headers": []}
    await server_of(memory)(scope, receive, send)
    assert sent == len(BIG)


@pytest.mark.parametrize("when", ["head", "body"])
async def test_a_cancelled_request(large: FileObject, watched: Watched, when: str) -> None:
    """A server that stops cancels requests: the read is over then, too."""
    begun = asyncio.Event()

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        if message["type"] == ("http.response.start" if when == "head" else "http.response.body"):
            begun.set()
            await asyncio.Event().wait()

    scope = {"type": "http", "method": "GET", "path": large.sign(), "headers": []}
    task = asyncio.create_task(server_of(large.storages)(scope, receive, send))
    await begun.wait()
    assert watched.open == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert watched.open == 0


async def test_a_server_that_fails(large: FileObject, watched: Watched) -> None:
    """An error of the server's own passes through, and ends the read."""

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            raise OSError("the connection is gone")

    scope = {"type": "http", "method": "GET", "path": large.sign(), "headers": []}
    with pytest.raises(OSError, match="the connection is gone"):
        await server_of(large.storages)(scope, receive, send)
    assert watched.open == 0


def test_what_is_left_when_all_have_gone(watched: Watched, large: FileObject) -> None:
    """After fifty clients who went away somewhere, no file is open and no thread, read or task is left."""
    descriptors = Path("/proc/self/fd")
    with serving(server_of(large.storages)) as base:
        host = urlsplit(base)

        def leave(after: int) -> None:
            with socket.create_connection((host.hostname or "", host.port or 0)) as client:
                client.sendall(f"GET {large.sign()} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                while after > 0:
                    after -= len(client.recv(65536))

        leave(1000)
        assert until(lambda: watched.open == 0)
        before = len(list(descriptors.iterdir()))
        clients = [threading.Thread(target=leave, args=(index * 100_000,)) for index in range(50)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        assert until(lambda: watched.open == 0)
        assert until(lambda: len(list(descriptors.iterdir())) <= before)


# what lies in the store


class Base(DeclarativeBase):
    pass


class Page(Base):
    __tablename__ = "asgi_page"
    id: Mapped[int] = mapped_column(primary_key=True)
    file: Mapped[FileObject] = mapped_column(StoredObject("pages", storages=PAGES))


@pytest.mark.parametrize("kind", ["obstore", "fsspec"])
@pytest.mark.parametrize("size", [0, 6 * MIB])
@pytest.mark.parametrize(
    ("filename", "head", "content_type", "disposition"),
    [
        ("page.html", HTML, "text/html", 'attachment; filename="page.html"'),
        ("photo.png", HTML, "text/html", 'attachment; filename="photo.png"'),
        ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml", 'attachment; filename="a.svg"'),
        ("a.pdf", b"%PDF-1.7", "application/pdf", 'inline; filename="a.pdf"'),
        ("报告.html", HTML, "text/html", "attachment; filename=\"__.html\"; filename*=UTF-8''%E6%8A%A5%E5%91%8A.html"),
    ],
)
def test_what_the_store_itself_serves(
    s3: S3, kind: str, size: int, filename: str, head: bytes, content_type: str, disposition: str
) -> None:
    """An object has its type and disposition in the store, so that the store's own URL is no way to run it either."""
    plain = s3_backend(s3, "pages")
    bucket = plain.store.config["bucket"]
    backend: Any = plain
    if kind == "fsspec":
        backend = FSSpecBackend(
            "pages",
            f"s3://{bucket}",
            endpoint_url=s3.endpoint,
            username=s3.access_key_id,
            secret=s3.secret_access_key,
            client_kwargs={"region_name": s3.region},
        )
    PAGES.register_backend(backend, replace=True)
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        page = Page(file=FileObject(filename=filename, content_type="image/png", content=head.ljust(size)))
        session.add(page)
        session.commit()
        attributes = obstore.get(plain.store, page.file.path).attributes
        raw = httpx.get(page.file.sign())
    engine.dispose()
    assert (attributes["Content-Type"], attributes["Content-Disposition"]) == (content_type, disposition)
    assert (raw.headers["content-type"], raw.headers["content-disposition"]) == (content_type, disposition)
