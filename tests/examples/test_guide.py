"""The rest of the guide, on Advanced Alchemy with lading's columns."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from litestar import Litestar
from litestar.testing import AsyncTestClient
from sqlalchemy.types import JSON

from tests.examples.conftest import Example

ROOT = Path(__file__).resolve().parents[2]
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\0\0\0\0"

Client = AsyncTestClient[Litestar]

# The guide's words stay as they are; newer Litestar and Advanced Alchemy have others for some of them.
pytestmark = [
    pytest.mark.filterwarnings("ignore::litestar.exceptions.LitestarDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Call to deprecated method 'list_and_count':DeprecationWarning"),
]


@pytest.fixture
async def client(guide_example: Example) -> AsyncIterator[Client]:
    """A client of the application, whose database is emptied afterwards."""
    with guide_example.active():
        async with AsyncTestClient(guide_example.app) as client:
            yield client
            for author in (await client.get("/authors?pageSize=1000")).json()["items"]:
                await client.delete(f"/authors/{author['id']}")
        await guide_example.dispose()


def objects(example: Example) -> list[bytes]:
    """What lies on the disk."""
    return sorted(path.read_bytes() for path in (example.module.DATA / "files").rglob("*") if path.is_file())


async def author_of(client: Client, name: str = "Joseph Conrad") -> Any:
    answer = await client.post("/authors", json={"name": name})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def book_of(client: Client, *scans: bytes) -> Any:
    author = await author_of(client)
    book = (await client.post("/books", json={"title": "Typhoon", "author_id": author["id"]})).json()
    uploads = [("data", (f"{number}.txt", scan)) for number, scan in enumerate(scans)]
    if uploads:
        book = (await client.post(f"/books/{book['id']}/scans", files=uploads)).json()
    return book


async def test_authors(client: Client) -> None:
    """The guide's CRUD and filters work as they do without files."""
    author = await author_of(client)
    await author_of(client, "Herman Melville")
    assert author["photo_url"] is None
    found = (await client.get("/authors?searchString=CONRAD&searchIgnoreCase=true")).json()
    assert ([item["name"] for item in found["items"]], found["total"]) == (["Joseph Conrad"], 1)
    path = f"/authors/{author['id']}"
    assert (await client.patch(path, json={"dob": "1857-12-03"})).json()["dob"] == "1857-12-03"
    assert (await client.get(path)).json()["dob"] == "1857-12-03"
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404


async def test_a_photo(client: Client, guide_example: Example) -> None:
    """A photo is set, replaced, kept by an update of something else, refused when it is none, and removed."""
    path = f"/authors/{(await author_of(client))['id']}"
    await client.put(f"{path}/photo", files={"data": ("me.png", PNG + b"1")})
    author = (await client.put(f"{path}/photo", files={"data": ("me.png", PNG + b"2")})).json()
    assert (await client.get(author["photo_url"])).content == PNG + b"2"
    await client.patch(path, json={"name": "J. Conrad"})
    refused = await client.put(f"{path}/photo", files={"data": ("me.png", b"#!/bin/sh\n")})
    assert refused.status_code == 415
    assert objects(guide_example) == [PNG + b"2"]
    assert (await client.delete(f"{path}/photo")).status_code == 204
    assert (await client.get(path)).json()["photo_url"] is None
    assert objects(guide_example) == []


async def test_scans(client: Client, guide_example: Example) -> None:
    """A list of files grows and shrinks through a DTO, and its objects with it."""
    book = await book_of(client, b"one", b"two")
    book = (await client.post(f"/books/{book['id']}/scans", files=[("data", ("2.txt", b"three"))])).json()
    assert [scan["filename"] for scan in book["scans"]] == ["0.txt", "1.txt", "2.txt"]
    assert objects(guide_example) == [b"one", b"three", b"two"]
    left = (await client.delete(f"/books/{book['id']}/scans/1")).json()
    assert left["scans"] == [book["scans"][0], book["scans"][2]]
    assert (await client.get(f"/books/{book['id']}")).json()["scans"] == left["scans"]
    assert objects(guide_example) == [b"one", b"three"]
    assert (await client.get("/latest-scan")).json() == left["scans"][1]


async def test_deleting_an_author(client: Client, guide_example: Example) -> None:
    """The files of an author's books go with them, by the ORM's cascade."""
    book = await book_of(client, b"one", b"two")
    assert objects(guide_example) == [b"one", b"two"]
    await client.delete(f"/authors/{book['author_id']}")
    assert (await client.get(f"/books/{book['id']}")).status_code == 404
    assert objects(guide_example) == []


async def test_a_client_names_no_file(client: Client) -> None:
    """Scans in the body of a new book are not taken."""
    author = await author_of(client)
    scan = {"backend": "library", "path": "somebody-elses", "filename": "a.txt"}
    body = {"title": "Typhoon", "author_id": author["id"], "scans": [scan]}
    assert (await client.post("/books", json=body)).json()["scans"] == []


async def test_server_side_sessions(client: Client) -> None:
    """Advanced Alchemy's session backend keeps what a visitor read."""
    assert (await client.get("/last-read")).json() == {"book": None}
    book = str(uuid4())
    await client.post(f"/last-read/{book}")
    assert (await client.get("/last-read")).json() == {"book": book}


async def test_the_schema(client: Client) -> None:
    """OpenAPI shows the scans of a book as the records that they are."""
    schemas = (await client.get("/schema/openapi.json")).json()["components"]["schemas"]
    record = schemas["FileObject"]
    assert record["properties"].keys() >= {"filename", "size", "content_type", "checksum"}


def litestar(project: Path, *arguments: str) -> str:
    """What the application's command line prints, in that directory."""
    command = [sys.executable, "-m", "litestar", "--app", "examples.guide.app:app", "database", *arguments]
    path = os.pathsep.join(filter(None, (str(project), os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"LADING_EXAMPLE_DATA": str(project / "data"), "PYTHONPATH": path}
    outcome = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert outcome.returncode == 0, outcome.stderr + outcome.stdout
    return outcome.stdout


def columns(project: Path, table: str) -> dict[str, str]:
    with closing(sqlite3.connect(project / "data" / "library.sqlite")) as connection:
        return {row[1]: row[2] for row in connection.execute(f"PRAGMA table_info({table})")}


@pytest.mark.slow
def test_migrations(tmp_path: Path) -> None:
    """As README.md says: a migration is generated with lading's type in it, runs, is up to date, and goes back."""
    guide = tmp_path / "examples" / "guide"
    guide.mkdir(parents=True)
    for name in ("app.py", "rendering.py"):
        shutil.copy(ROOT / "examples" / "guide" / name, guide)
    litestar(tmp_path, "init", "examples/guide/migrations", "--no-prompt")
    env = guide / "migrations" / "env.py"
    configured = "user_module_prefix=config.user_module_prefix,"
    text = env.read_text()
    assert text.count(configured) == 2
    text = text.replace(configured, f"{configured} render_item=render_item,")
    env.write_text(f"from examples.guide.rendering import render_item\n{text}")

    litestar(tmp_path, "make-migrations", "--no-prompt", "-m", "authors and books")
    (script,) = (guide / "migrations" / "versions").glob("*authors*.py")
    written = script.read_text()
    assert "\nimport lading\n" in written
    assert "sa.Column('photo', lading.StoredObject(backend='library', multiple=False), nullable=True)" in written
    assert "sa.Column('scans', lading.StoredObject(backend='library', multiple=True), nullable=False)" in written

    litestar(tmp_path, "upgrade", "--no-prompt")
    assert columns(tmp_path, "author")["photo"] == columns(tmp_path, "book")["scans"] == JSON.__visit_name__
    litestar(tmp_path, "make-migrations", "--no-prompt", "-m", "nothing new")
    assert list((guide / "migrations" / "versions").glob("20*.py")) == [script]
    litestar(tmp_path, "downgrade", "--no-prompt", "base")
    assert columns(tmp_path, "author") == {}
