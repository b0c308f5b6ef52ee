"""The example application in this process, on local disk and on S3, and its server and its check as processes."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from litestar import Litestar
from litestar.testing import AsyncTestClient

from lading import storages
from lading.backends.obstore import ObstoreBackend
from lading.worlds import asyncio_world
from tests.examples.conftest import Example
from tests.services.moto import S3

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "documents"
PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\n"

Client = AsyncTestClient[Litestar]


@pytest.fixture
def app(documents_example: Example) -> Iterator[Litestar]:
    """The application with its page."""
    with documents_example.active():
        yield documents_example.app


@pytest.fixture(params=["local", "s3"])
def backend(app: Litestar, request: pytest.FixtureRequest, tmp_path: Path) -> ObstoreBackend:
    """An empty store in the place of the application's."""
    if request.param == "local":
        fresh = ObstoreBackend(key="local", fs=(tmp_path / "files").as_uri())
    else:
        s3: S3 = request.getfixturevalue("s3")
        fresh = ObstoreBackend(
            key="local",
            fs=f"s3://{s3.make_bucket()}/documents",
            aws_endpoint=s3.endpoint,
            aws_access_key_id=s3.access_key_id,
            aws_secret_access_key=s3.secret_access_key,
            aws_region=s3.region,
        )
    storages.register_backend(fresh, replace=True)
    return fresh


@pytest.fixture
async def client(app: Litestar, backend: ObstoreBackend, documents_example: Example) -> AsyncIterator[Client]:
    """A client of the application that has seen the page, with a database that is empty before and after."""
    async with AsyncTestClient(app) as client:
        await client.get("/")
        yield client
        for item in (await client.get("/documents?pageSize=1000&currentPage=1")).json()["items"]:
            await client.delete(f"/documents/{item['id']}")
    await documents_example.dispose()


async def objects(backend: ObstoreBackend) -> list[str]:
    """The paths of all that is in the store, but for direct uploads, which stay until their URLs have expired."""
    found = [info.path async for info in backend.driver(asyncio_world).list()]
    return [path for path in found if not path.startswith("uploads/")]


async def fetch(client: Client, url: str) -> httpx.Response:
    """What a signed URL gives: the application's own are relative, those of S3 lead there."""
    if url.startswith("/"):
        return await client.get(url)
    async with httpx.AsyncClient() as outside:
        return await outside.get(url)


async def upload(client: Client, name: str, content: bytes, status: int = 201) -> Any:
    answer = await client.post("/documents", data={"name": name}, files={"file": (name, content)})
    assert answer.status_code == status, answer.text
    return answer.json()


async def begin(client: Client, name: str, size: int, status: int = 201) -> Any:
    """Ask for a direct upload."""
    answer = await client.post("/files/uploads", json={"filename": name, "size": size})
    assert answer.status_code == status, answer.text
    return answer.json()


async def put(client: Client, ticket: Any, content: bytes, status: int = 200) -> Any:
    """Send the bytes of a direct upload, wherever that is."""
    if ticket["url"].startswith("/"):
        answer = await client.put(ticket["url"], headers=ticket["headers"], content=content)
    else:
        async with httpx.AsyncClient() as outside:
            answer = await outside.put(ticket["url"], headers=ticket["headers"], content=content)
    assert answer.status_code == status, answer.text
    return answer.json() if answer.content else None


async def attach(client: Client, name: str, ticket: Any, status: int = 201) -> Any:
    """Hand in the id of a direct upload."""
    answer = await client.post("/documents", files={"name": (None, name), "file": (None, ticket["id"])})
    assert answer.status_code == status, answer.text
    return answer.json()


async def replace(client: Client, document: Any, form: dict[str, Any], status: int = 200) -> Any:
    fields = {key: value if isinstance(value, tuple) else (None, value) for key, value in form.items()}
    answer = await client.patch(f"/documents/{document['id']}", files=fields)
    assert answer.status_code == status, answer.text
    return answer.json()


async def listed(client: Client, query: str = "") -> Any:
    return (await client.get(f"/documents{query}")).json()["items"]


async def test_a_document_and_its_file(client: Client, backend: ObstoreBackend) -> None:
    """An upload is stored, listed with a URL that gives its bytes, replaced and deleted, and so is its object."""
    document = await upload(client, "报告.pdf", PDF)
    (item,) = await listed(client)
    assert (item["id"], item["name"]) == (document["id"], "报告.pdf")
    answer = await fetch(client, item["file_url"])
    assert (answer.status_code, answer.content) == (200, PDF)
    assert answer.headers["content-type"] == "application/pdf"
    assert "filename*=UTF-8''%E6%8A%A5%E5%91%8A.pdf" in answer.headers["content-disposition"]

    (first,) = await objects(backend)
    replaced = await replace(client, document, {"file": ("second.txt", b"second")})
    assert (replaced["id"], replaced["name"]) == (document["id"], "报告.pdf")
    assert (await fetch(client, replaced["file_url"])).content == b"second"
    (second,) = await objects(backend)
    assert second != first

    assert (await client.delete(f"/documents/{document['id']}")).status_code == 204
    assert (await client.get(f"/documents/{document['id']}")).status_code == 404
    assert (await fetch(client, replaced["file_url"])).status_code == 404
    assert await objects(backend) == []


async def test_an_address_that_stays(client: Client, backend: ObstoreBackend) -> None:
    """A document's file has an address without a signature, which gives parts of it, and outlives its replacement."""
    document = await upload(client, "a.pdf", PDF)
    address = f"/documents/{document['id']}/file"
    part = await client.get(address, headers={"range": "bytes=5-7"})
    assert (part.status_code, part.content) == (206, PDF[5:8])
    await replace(client, document, {"file": ("b.txt", b"second")})
    assert (await client.get(address)).content == b"second"


async def test_a_direct_upload(client: Client, backend: ObstoreBackend) -> None:
    """A file that was sent to the store becomes a document's by its id, once."""
    ticket = await begin(client, "报告.pdf", len(PDF))
    await put(client, ticket, PDF)
    document = await attach(client, "Report", ticket)
    assert (document["filename"], document["size"], document["content_type"]) == (
        "报告.pdf",
        len(PDF),
        "application/pdf",
    )
    assert (await fetch(client, document["file_url"])).content == PDF
    assert len(await objects(backend)) == 1
    used = await attach(client, "Again", ticket, 409)
    assert used["type"] == "urn:lading:problem:used-token"
    replacement = await begin(client, "b.txt", 6)
    await put(client, replacement, b"second")
    replaced = await replace(client, document, {"file": replacement["id"]})
    assert (await fetch(client, replaced["file_url"])).content == b"second"
    assert len(await listed(client)) == len(await objects(backend)) == 1


async def test_direct_uploads_of_others(client: Client, backend: ObstoreBackend) -> None:
    """Who has not seen the page can ask for no upload, and an id serves nobody but whom it was given to."""
    ticket = await begin(client, "a.txt", 5)
    await put(client, ticket, b"mine!")
    client.cookies.clear()
    assert "Open the page first" in (await begin(client, "a.txt", 5, 403))["detail"]
    await attach(client, "x", ticket, 403)
    await client.get("/")
    await attach(client, "x", ticket, 403)
    assert await listed(client) == await objects(backend) == []


async def test_a_new_name_keeps_the_file(client: Client, backend: ObstoreBackend) -> None:
    """A change of the name leaves the object where it is."""
    document = await upload(client, "a.pdf", PDF)
    before = await objects(backend)
    renamed = await replace(client, document, {"name": "b.pdf"})
    assert renamed["name"] == "b.pdf"
    assert await objects(backend) == before
    assert (await fetch(client, renamed["file_url"])).content == PDF


async def test_filters(client: Client, backend: ObstoreBackend) -> None:
    """Listing searches by name, without case, and pages."""
    for name in ("Alpha.txt", "beta.txt", "alphabet.txt"):
        await upload(client, name, b"x")
    found = await listed(client, "?searchString=ALPHA&searchIgnoreCase=true")
    assert {item["name"] for item in found} == {"Alpha.txt", "alphabet.txt"}
    page = (await client.get("/documents?pageSize=2&currentPage=2")).json()
    assert (len(page["items"]), page["total"], page["offset"]) == (1, 3, 2)


async def test_what_a_client_is_told(client: Client, backend: ObstoreBackend) -> None:
    """The list has the true name, size, type and time of each file, the latest first, and no path."""
    await upload(client, "empty.txt", b"")
    await upload(client, "not really.png", PDF)
    latest, earliest = await listed(client)
    assert (latest["filename"], latest["size"], latest["content_type"]) == (
        "not really.png",
        len(PDF),
        "application/pdf",
    )
    assert (earliest["filename"], earliest["size"], earliest["content_type"]) == ("empty.txt", 0, "text/plain")
    assert latest["stored_at"] >= earliest["stored_at"]
    assert latest.keys() == {"id", "name", "file_url", "filename", "content_type", "size", "checksum", "stored_at"}


@pytest.mark.parametrize("content", [b"\x7fELF\x02\x01\x01" + bytes(100), b"#!/bin/sh\nexit 0\n"])
async def test_a_refusal(client: Client, backend: ObstoreBackend, content: bytes) -> None:
    """A program is refused whatever it calls itself and however it comes, and leaves neither row nor object."""
    document = await upload(client, "a.pdf", PDF)
    before = await objects(backend)
    refused = await upload(client, "photo.png", content, 415)
    assert "'photo.png' is " in refused["detail"]
    assert "not allowed" in refused["detail"]
    await replace(client, document, {"file": ("photo.png", content)}, 415)
    ticket = await begin(client, "photo.png", len(content))
    if ticket["url"].startswith("/"):
        assert (await put(client, ticket, content, 415)) == refused
    else:  # a store looks at nothing, so it is looked at when it is handed in
        await put(client, ticket, content)
        assert (await attach(client, "photo.png", ticket, 415)) == refused
    assert len(await listed(client)) == 1
    assert await objects(backend) == before
    assert (await fetch(client, document["file_url"])).content == PDF


async def test_refusals_before_anything_is_sent(client: Client, backend: ObstoreBackend) -> None:
    """What the column would not take needs no upload to be refused, and the hints say so to whoever asks."""
    hints = (await client.get("/files/policies/document.file")).json()
    assert (hints["max_size"], hints["direct"]) == (500_000_000, True)
    assert ".pdf" in hints["accept"].split(",")
    too_large = await begin(client, "a.pdf", 500_000_001, 413)
    assert (too_large["limit"], too_large["actual"]) == (500_000_000, 500_000_001)
    assert ".exe" in (await begin(client, "setup.exe", 5, 422))["detail"]


async def test_a_document_without_a_file(client: Client, backend: ObstoreBackend) -> None:
    """A document has a file, so one without is refused and no row is written."""
    answer = await client.post("/documents", files={"name": (None, "nothing")})
    assert answer.status_code == 400
    assert await listed(client) == []


async def test_the_page(client: Client, backend: ObstoreBackend) -> None:
    """The page may run its own script alone and speak to the store alone, and its parts are served as what they are."""
    page = await client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<title>Documents</title>" in page.text
    said = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    assert (said["default-src"], said["script-src"], said["frame-ancestors"]) == ("'none'", "'self'", "'none'")
    url = urlsplit((await begin(client, "a.txt", 1))["url"])
    store = f" {url.scheme}://{url.netloc}" if url.netloc else ""
    assert said["connect-src"] == said["media-src"] == f"'self'{store}"
    for script in ("page.js", "sending.js"):
        assert (await client.get(f"/static/{script}")).headers["content-type"].startswith("text/javascript")
    assert (await client.get("/static/page.css")).headers["content-type"].startswith("text/css")


async def test_the_page_remembers_its_visitor(client: Client, backend: ObstoreBackend) -> None:
    """The page names a visitor once, in a cookie that no script reads and no other site sends."""
    assert "set-cookie" not in (await client.get("/")).headers
    client.cookies.clear()
    cookie = (await client.get("/")).headers["set-cookie"]
    assert "httponly" in cookie.lower()
    assert "samesite=strict" in cookie.lower()


# as a process


def test_another_port_where_8000_is_taken() -> None:
    """Two servers that are told no port listen on different ones."""
    listen = import_module("examples.documents.serve").listen
    with listen("127.0.0.1", None) as one, listen("127.0.0.1", None) as other:
        assert one.getsockname()[1] != other.getsockname()[1]


def test_a_port_that_was_asked_for_and_is_taken() -> None:
    """A server that is told its port takes that or none."""
    listen = import_module("examples.documents.serve").listen
    with listen("127.0.0.1", 0) as one, pytest.raises(OSError, match="in use"):
        listen("127.0.0.1", one.getsockname()[1])


def checked(s3: S3, bucket: str) -> "subprocess.CompletedProcess[str]":
    """The outcome of demo-check on that bucket."""
    environment = {
        "LADING_EXAMPLE_STORE": f"s3://{bucket}/documents",
        "AWS_ENDPOINT_URL": s3.endpoint,
        "AWS_ACCESS_KEY_ID": s3.access_key_id,
        "AWS_SECRET_ACCESS_KEY": s3.secret_access_key,
        "AWS_REGION": s3.region,
    }
    command = [sys.executable, str(EXAMPLE / "check.py"), "--megabytes", "12"]
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.slow
def test_s3_by_one_environment_variable(s3: S3) -> None:
    """With the URL of a bucket in the environment, and the credentials of any client, all of it happens on S3."""
    outcome = checked(s3, s3.make_bucket())
    assert outcome.returncode == 0, outcome.stderr
    assert "nothing is left" in outcome.stdout


@pytest.mark.slow
def test_a_check_that_fails_says_so(s3: S3) -> None:
    """Where there is no bucket demo-check ends with an error that says which request went wrong."""
    outcome = checked(s3, "no-such-bucket")
    assert outcome.returncode == 1
    assert "demo-check failed: POST of 'report.pdf': 503" in outcome.stderr
