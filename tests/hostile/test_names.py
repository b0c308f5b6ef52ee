"""What clients call their files, at every door: the path is ours, the header is one line, and the file comes back."""

import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from lading.paths import sanitise
from tests.hostile.house import House, refusal
from tests.hostile.names import NAMES
from tests.hostile.wire import FORM, as_browsers_quote, form, text, upload

pytestmark = pytest.mark.slow

ANN = {"x-user": "ann"}
CONTENT = b"some text, and no more\n"
OURS = re.compile(r"(uploads/)?[0-9a-f]{44}(\.[a-z0-9]{1,16})?").fullmatch
ONE_LINE = re.compile(r"[ -~]+").fullmatch
DISPOSITION = re.compile(
    r"""(inline|attachment); filename="[^"\\]*"(; filename\*=UTF-8''[A-Za-z0-9!#$&+^`|_.~%-]+)?"""
).fullmatch

Client = httpx.AsyncClient
Door = Callable[[Client, str], Awaitable[httpx.Response]]


async def by_form(client: Client, name: str) -> httpx.Response:
    """As a browser does it."""
    body = form(text("name", "a"), upload("file", as_browsers_quote(name), CONTENT, None))
    return await client.post("/documents", content=body, headers={"content-type": FORM})


async def by_form_extended(client: Client, name: str) -> httpx.Response:
    """As RFC 7578 forbids, and some clients do it."""
    said = f"filename=\"a.txt\"; filename*=UTF-8''{quote(name, safe='')}"
    head = f'Content-Disposition: form-data; name="file"; {said}'.encode()
    body = form(text("name", "a"), (head, CONTENT))
    return await client.post("/documents", content=body, headers={"content-type": FORM})


async def by_raw(client: Client, name: str) -> httpx.Response:
    said = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
    return await _put(client, "", {"content-disposition": said})


async def by_raw_query(client: Client, name: str) -> httpx.Response:
    return await _put(client, f"?filename={quote(name, safe='')}", {})


async def by_direct(client: Client, name: str) -> httpx.Response:
    asked = {"filename": name, "size": len(CONTENT), "policy": "document.file"}
    ticket = await client.post("/files/uploads", json=asked, headers=ANN)
    if ticket.status_code != 201:
        return ticket
    sent = ticket.json()
    assert all(ONE_LINE(value) for value in sent["headers"].values()), sent
    put = await client.put(sent["url"], content=CONTENT, headers=sent["headers"])
    assert put.status_code == 200, put.text
    return await client.post("/documents/attached", json={"name": "a", "file": sent["id"]}, headers=ANN)


async def _put(client: Client, query: str, headers: dict[str, str]) -> httpx.Response:
    return await client.put(f"/documents/1/file{query}", content=CONTENT, headers=headers)


async def check(client: Client, record: dict[str, Any], url: str) -> None:
    """The record, and the answer to its URL."""
    assert OURS(record["path"]), record
    assert record["filename"] == sanitise(record["filename"])
    answer = await client.get(url)
    assert (answer.status_code, answer.content) == (200, CONTENT), (answer.status_code, answer.text)
    for name, value in answer.headers.multi_items():
        assert ONE_LINE(value), (name, value)
    assert DISPOSITION(answer.headers["content-disposition"]), answer.headers
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert ONE_LINE(url), url
    assert url.count("/") == 3, url


@pytest.mark.parametrize("door", [by_form, by_form_extended, by_raw, by_raw_query, by_direct])
@pytest.mark.parametrize("house", ["local"], indirect=True)
async def test_names(house: House, door: Door) -> None:
    """A file of any name is stored under a path of ours, and served by one line of printable ASCII."""
    refused: list[str] = []
    async with house.client() as client:
        await by_form(client, "a.txt")
        for name in NAMES:
            answer = await door(client, name)
            if answer.status_code >= 300:
                refused.append(name)
                refusal(answer, answer.status_code)
                continue
            made = answer.json()
            await check(client, made["file"], made["url"])
    # What JSON's schema says of the length of a name is refused by name.
    assert refused == ([name for name in NAMES if len(name) > 1024] if door is by_direct else [])


@pytest.mark.parametrize("house", ["memory"], indirect=True)
async def test_names_that_urls_are_signed_with(house: House) -> None:
    """A URL that is signed with any name is one path of two segments, and serves it."""
    async with house.client() as client:
        made = (await by_form(client, "a.txt")).json()
        for name in NAMES:
            signed = await client.get(f"/documents/{made['id']}/url", params={"filename": name})
            assert signed.status_code == 200, (name, signed.text)
            await check(client, made["file"], signed.json()["url"])


@pytest.mark.parametrize(
    "name", [b"a\0b.txt", b"a\rb.txt", b"\xff\xfe.txt", b"\xed\xa0\x80.txt", b"\xc0\xae\xc0\xaf.txt"]
)
async def test_names_that_are_no_text(house: House, name: bytes) -> None:
    """A name that is no UTF-8, or has control characters as they are, is refused or becomes text."""
    async with house.client() as client:
        body = form(text("name", "a"), upload("file", name, CONTENT, None))
        answer = await client.post("/documents", content=body, headers={"content-type": FORM})
        if answer.status_code == 201:
            await check(client, answer.json()["file"], answer.json()["url"])
        else:
            refusal(answer, 400, "malformed-body")
        await by_form(client, "a.txt")
        answer = await client.put(
            "/documents/1/file",
            content=CONTENT,
            headers=[(b"content-disposition", b'attachment; filename="' + name + b'"')],
        )
        assert answer.status_code == 200
        await check(client, answer.json()["file"], answer.json()["url"])
