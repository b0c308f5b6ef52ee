"""The example application: the guide's "File Object Storage" on lading, in this process, on local disk and on S3."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

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

# The guide's words stay as they are; newer Litestar and Advanced Alchemy have others for some of them.
pytestmark = [
    pytest.mark.filterwarnings("ignore::litestar.exceptions.LitestarDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Call to deprecated method 'list_and_count':DeprecationWarning"),
]


@pytest.fixture
def app(documents_example: Example) -> Iterator[Litestar]:
    """The application with its page."""
    with documents_example.active():
        yield documents_example.app


@pytest.fixture(params=["local", "s3"])
def backend(app: Litestar, request: pytest.FixtureRequest, tmp_path: Path) -> ObstoreBackend:
    """An empty store in the place of the application's, with the same rules."""
    rules = storages.get_backend("local").rules
    if request.param == "local":
        fresh = ObstoreBackend(key="local", fs=(tmp_path / "files").as_uri(), rules=rules)
    else:
        s3: S3 = request.getfixturevalue("s3")
        fresh = ObstoreBackend(
            key="local",
            fs=f"s3://{s3.make_bucket()}/documents",
            rules=rules,
            aws_endpoint=s3.endpoint,
            aws_access_key_id=s3.access_key_id,
            aws_secret_access_key=s3.secret_access_key,
            aws_region=s3.region,
        )
    storages.register_backend(fresh, replace=True)
    return fresh


@pytest.fixture
async def client(app: Litestar, backend: ObstoreBackend) -> AsyncIterator[Client]:
    """A client of the application, with a database that is empty before and after."""
    async with AsyncTestClient(app) as client:
        yield client
        for item in (await client.get("/listing?pageSize=1000")).json()["items"]:
            await client.delete(f"/documents/{item['id']}")


async def objects(backend: ObstoreBackend) -> list[str]:
    """The paths of all that is in the store."""
    return [info.path async for info in backend.driver(asyncio_world).list()]


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


async def replace(client: Client, document: Any, form: dict[str, Any], status: int = 200) -> Any:
    fields = {key: value if isinstance(value, tuple) else (None, value) for key, value in form.items()}
    answer = await client.patch(f"/documents/{document['id']}", files=fields)
    assert answer.status_code == status, answer.text
    return answer.json()


async def listed(client: Client, path: str = "/documents") -> Any:
    return (await client.get(path)).json()["items"]


async def test_a_document_and_its_file(client: Client, backend: ObstoreBackend) -> None:
    """An upload is stored, listed with a URL that gives its bytes, replaced and deleted, and so is its object."""
    document = await upload(client, "报告.pdf", PDF)
    assert document.keys() == {"id", "name", "file_url"}
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


async def test_a_new_name_keeps_the_file(client: Client, backend: ObstoreBackend) -> None:
    """A change of the name leaves the object where it is."""
    document = await upload(client, "a.pdf", PDF)
    before = await objects(backend)
    renamed = await replace(client, document, {"name": "b.pdf"})
    assert renamed["name"] == "b.pdf"
    assert await objects(backend) == before
    assert (await fetch(client, renamed["file_url"])).content == PDF


async def test_the_guides_filters(client: Client, backend: ObstoreBackend) -> None:
    """Listing searches by name, without case, and pages."""
    for name in ("Alpha.txt", "beta.txt", "alphabet.txt"):
        await upload(client, name, b"x")
    found = await listed(client, "/documents?searchString=ALPHA&searchIgnoreCase=true")
    assert {item["name"] for item in found} == {"Alpha.txt", "alphabet.txt"}
    page = (await client.get("/documents?pageSize=2&currentPage=2")).json()
    assert (len(page["items"]), page["total"], page["offset"]) == (1, 3, 2)


async def test_what_the_page_is_told(client: Client, backend: ObstoreBackend) -> None:
    """The page's listing has the true name, size, type and time of each file, the latest first, and no path."""
    await upload(client, "empty.txt", b"")
    await upload(client, "not really.png", PDF)
    latest, earliest = await listed(client, "/listing")
    assert (latest["filename"], latest["size"], latest["content_type"]) == (
        "not really.png",
        len(PDF),
        "application/pdf",
    )
    assert (earliest["filename"], earliest["size"], earliest["content_type"]) == ("empty.txt", 0, "text/plain")
    assert latest["stored_at"] >= earliest["stored_at"]
    assert latest.keys() == {"id", "name", "file_url", "filename", "content_type", "size", "stored_at"}


@pytest.mark.parametrize("content", [b"\x7fELF\x02\x01\x01" + bytes(100), b"#!/bin/sh\nexit 0\n"])
async def test_a_refusal(client: Client, backend: ObstoreBackend, content: bytes) -> None:
    """A program is refused whatever it calls itself, in words, and leaves neither row nor object, nor replaces any."""
    document = await upload(client, "a.pdf", PDF)
    before = await objects(backend)
    refused = await upload(client, "photo.png", content, 415)
    assert "'photo.png' is " in refused["detail"]
    assert "not allowed" in refused["detail"]
    await replace(client, document, {"file": ("photo.png", content)}, 415)
    assert len(await listed(client)) == 1
    assert await objects(backend) == before
    assert (await fetch(client, document["file_url"])).content == PDF


async def test_a_document_without_a_file(client: Client, backend: ObstoreBackend) -> None:
    """The column wants a file, so a document without one is refused and no row is written."""
    answer = await client.post("/documents", files={"name": (None, "nothing")})
    assert answer.status_code == 409
    assert await listed(client) == []


async def test_the_page(client: Client, backend: ObstoreBackend) -> None:
    """The page is served, with its script and style as what they are."""
    page = await client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<title>Documents</title>" in page.text
    assert (await client.get("/static/page.js")).headers["content-type"].startswith("text/javascript")
    assert (await client.get("/static/page.css")).headers["content-type"].startswith("text/css")


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
