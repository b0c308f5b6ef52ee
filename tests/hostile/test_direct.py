"""Direct uploads in the wrong hands: ids used twice, elsewhere, by others or too late, and URLs for something else."""

import asyncio
import hashlib
import random
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from lading.sweeper import Sweeper
from lading.testing import frozen_clock
from tests.hostile.app import Base
from tests.hostile.house import House, refusal
from tests.hostile.test_tokens import mutations
from tests.hostile.wire import FORM, form, text, upload

ANN, BOB = {"x-user": "ann"}, {"x-user": "bob"}
CONTENT = b"some text, and no more\n"
"""What is uploaded."""


async def begin(client: httpx.AsyncClient, policy: str = "document.file", **said: Any) -> dict[str, Any]:
    asked = {"filename": "a.txt", "size": len(CONTENT), "policy": policy, **said}
    answer = await client.post("/files/uploads", json=asked, headers=ANN)
    assert answer.status_code == 201, answer.text
    ticket: dict[str, Any] = answer.json()
    return ticket


async def put(
    client: httpx.AsyncClient, ticket: dict[str, Any], content: bytes = CONTENT, **headers: str
) -> httpx.Response:
    return await client.put(ticket["url"], content=content, headers={**ticket["headers"], **headers})


async def uploaded(client: httpx.AsyncClient, policy: str = "document.file", **said: Any) -> dict[str, Any]:
    ticket = await begin(client, policy, **said)
    answer = await put(client, ticket)
    assert answer.status_code == 200, answer.text
    return ticket


async def attach(
    client: httpx.AsyncClient, *ids: str, user: dict[str, str] = ANN, pages: list[str] | None = None
) -> httpx.Response:
    body = {"name": "a", "file": ids[0], **({} if pages is None else {"pages": pages})}
    return await client.post("/documents/attached", json=body, headers=user)


async def test_an_id_serves_once(house: House) -> None:
    """An id is attached to one row, however often it is handed in, one after another, together, or at one time."""
    async with house.client() as client:
        ticket = await uploaded(client)
        assert (await attach(client, ticket["id"])).status_code == 201
        refusal(await attach(client, ticket["id"]), 409, "used-token")
        assert (await put(client, ticket)).status_code in (200, 409, 410)
        refusal(await attach(client, ticket["id"]), 409, "used-token")
        page = await uploaded(client, "document.pages")
        fresh = await uploaded(client)
        refusal(await attach(client, fresh["id"], pages=[page["id"], page["id"]]), 409, "used-token")
        refusal(await attach(client, fresh["id"], pages=[fresh["id"]]), 403, "invalid-token")
        assert (await attach(client, fresh["id"], pages=[page["id"]])).status_code == 201
        raced = await uploaded(client)
        answers = await asyncio.gather(*(attach(client, raced["id"]) for _ in range(10)))
        assert sorted(answer.status_code for answer in answers) == [201] + [409] * 9
    assert len(house.files()) == 4


async def test_ids_of_others(house: House) -> None:
    """An id serves whom it was given to, for the column that it was asked for."""
    async with house.client() as client:
        ticket, image = await uploaded(client), await begin(client, "picture.image", filename="a.png")
        for user in (BOB, {}, {"x-user": ""}, {"x-user": "Ann"}, {"x-user": "ann, bob"}):
            refusal(await attach(client, ticket["id"], user=user), 403, "invalid-token")
        hung = await client.post("/pictures/attached", json={"image": ticket["id"]}, headers=ANN)
        refusal(hung, 403, "invalid-token")
        refusal(await attach(client, image["id"]), 403, "invalid-token")
        page = await uploaded(client, "document.pages")
        refusal(await attach(client, page["id"]), 403, "invalid-token")
        body = form(text("name", "a"), upload("file", "a", b"a"), text("pages", ticket["id"]))
        refusal(
            await client.post("/documents", content=body, headers={"content-type": FORM, **ANN}), 403, "invalid-token"
        )
    assert house.files() == []


async def test_one_token_for_another(house: House) -> None:
    """An id is no URL, a URL for uploads none for downloads, and neither is an id."""
    async with house.client() as client:
        ticket = await uploaded(client)
        other = await uploaded(client)
        made = (await attach(client, other["id"])).json()
        download, write, attached = made["url"].split("/")[2], ticket["url"].rsplit("/", 1)[1], ticket["id"]
        for token in (download, write, made["url"], ticket["url"], f" {attached}", f"{attached}\n"):
            refusal(await attach(client, token), 403, "invalid-token")
        for token in (write, attached):
            refusal(await client.get(f"/files/{token}/a.txt"), 403, "invalid-token")
        for token in (download, attached):
            refusal(await client.put(f"/files/uploads/{token}", content=CONTENT), 403, "invalid-token")
    assert len(house.files()) == 1


async def test_tokens_whose_time_is_over(house: House) -> None:
    """Each kind of token is refused with 410 when its time is over, also where its object is still there."""
    async with house.client() as client:
        with frozen_clock() as clock:
            ticket = await uploaded(client)
            late = await begin(client)
            made = (await attach(client, (await uploaded(client))["id"])).json()
            clock.tick(601)
            refusal(await put(client, late), 410, "expired-token")
            refusal(await put(client, ticket), 410, "expired-token")
            clock.tick(3600)
            refusal(await client.get(made["url"]), 410, "expired-token")
            clock.tick(24 * 3600)
            refusal(await attach(client, ticket["id"]), 410, "expired-token")
    assert len(house.files()) == 1


async def test_ids_of_uploads_that_are_swept(house: House) -> None:
    """An id of what was swept already attaches nothing."""
    async with house.client() as client:
        ticket = await uploaded(client)
        await asyncio.to_thread(_sweep_all, house)
        assert house.objects() == house.waiting() == set()
        answer = await attach(client, ticket["id"])
        refusal(answer, answer.status_code)
        assert answer.status_code in (409, 410)
    assert house.files() == []


def _sweep_all(house: House) -> None:
    with house.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE lading_outbox SET not_before = '2020-01-01 00:00:00.000000'")
    Sweeper(house.engine, Base.metadata).drain()


async def test_puts_that_are_something_else(house: House) -> None:
    """What is put has the announced method, type, size and content, or it is not stored; its id attaches nothing."""
    async with house.client() as client:
        checksum = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
        ticket = await begin(client, checksum=checksum)
        for method in ("POST", "GET", "HEAD", "DELETE", "PATCH", "OPTIONS", "MKCOL"):
            answer = await client.request(method, ticket["url"], content=CONTENT, headers=ticket["headers"])
            assert answer.status_code in (204, 403, 404, 405), (method, answer.status_code)
        longer, other = CONTENT + b"a", CONTENT[:-1] + b"!"
        refusal(await put(client, ticket, longer), 413, "too-large")
        refusal(await put(client, ticket, CONTENT[:-1]), 422, "mismatch")
        refusal(await put(client, ticket, b""), 422, "mismatch")
        refusal(await put(client, ticket, other), 422, "mismatch")
        for kind in (
            "text/html",
            "",
            "image/png",
            "text/plain, text/html",
            "text/html, text/plain",
            "*/*",
            "text/plain/html",
        ):
            answer = await client.put(ticket["url"], content=CONTENT, headers=[(b"content-type", kind.encode())])
            refusal(answer, 422, "mismatch")
        twice = [("content-type", "text/plain"), ("content-type", "text/html")]
        refusal(await client.put(ticket["url"], content=CONTENT, headers=twice), 422, "mismatch")
        for query in ("?size=1", "?path=b", "/a", "/../b", "%2f.."):
            answer = await client.put(ticket["url"] + query, content=other, headers=ticket["headers"])
            assert answer.status_code in (403, 404, 405, 422), (query, answer.text)
        assert house.objects() == set()
        refusal(await attach(client, ticket["id"]), 409, "not-uploaded")
        assert (await put(client, ticket)).status_code == 200
        assert (await attach(client, ticket["id"])).status_code == 201


async def test_a_put_after_all(house: House) -> None:
    """What is put when a row has its object, or while it gets it, changes no row's object."""
    async with house.client() as client:
        ticket = await uploaded(client)
        assert (await attach(client, ticket["id"])).status_code == 201
        evil = bytes(reversed(CONTENT))
        assert (await put(client, ticket, evil)).status_code == 200
        assert [file.get_content() for file in house.files()] == [CONTENT]
        chance = random.Random(4)
        for _ in range(20):
            raced = await uploaded(client)
            acts = [
                attach(client, raced["id"]),
                *(put(client, raced, chance.randbytes(len(CONTENT))) for _ in range(3)),
            ]
            chance.shuffle(acts)
            answers = await asyncio.gather(*acts)
            assert {answer.status_code for answer in answers} <= {200, 201, 422, 409}, [
                answer.text for answer in answers
            ]
    for file in house.files():
        file.verify()


async def test_what_is_asked_for(house: House) -> None:
    """A client that asks for nonsense is told so, and nothing is entered for it."""
    nonsense: list[dict[str, Any]] = [
        {},
        {"filename": "a"},
        {"size": 1},
        {"filename": "", "size": 1},
        {"filename": "a", "size": -1},
        {"filename": "a", "size": 1.5},
        {"filename": "a", "size": True},
        {"filename": "a", "size": "1"},
        {"filename": "a", "size": 2**53},
        {"filename": "a", "size": 2**63},
        {"filename": "a", "size": 2**64},
        {"filename": "a", "size": 10**400},
        {"filename": ["a"], "size": 1},
        {"filename": "a" * 100_000, "size": 1},
        {"filename": "a", "size": 1, "policy": "../document.file"},
        {"filename": "a", "size": 1, "policy": None},
        {"filename": "a", "size": 1, "policy": "document.id"},
        {"filename": "a", "size": 1, "policy": "DOCUMENT.FILE"},
        {"filename": "a", "size": 1, "policy": "document.file\0"},
        *(
            {"filename": "a", "size": 1, "policy": "document.file", "checksum": said}
            for said in (
                "",
                "a",
                "sha256:",
                "md5:aa",
                "sha256:" + "A" * 64,
                "sha256:" + "g" * 64,
                "sha256:" + "０" * 64,
            )
        ),
        {"filename": "a.html", "size": 1, "policy": "picture.image", "content_type": "image/png"},
        {"filename": "a.png", "size": 1, "policy": "picture.image", "content_type": "text/html"},
        {"filename": "a", "size": 1, "policy": "picture.image"},
        {"filename": "a.png", "size": 10**9, "policy": "picture.image"},
        {"filename": "a", "size": 1, "policy": "document.file", "content_type": "a" * 10_000},
    ]
    async with house.client() as client:
        for asked in nonsense:
            answer = await client.post("/files/uploads", json=asked, headers=ANN)
            if answer.status_code == 201:
                assert answer.json()["headers"]["content-type"].startswith("image/"), asked
                continue
            refusal(answer, answer.status_code)
            assert answer.status_code in (400, 413, 415, 422), (asked, answer.text)
        for user in ({}, {"x-user": ""}, {"x-user": "eve"}):
            refusal(await client.post("/files/uploads", json={"filename": "a", "size": 1}, headers=user), 401)
    assert len(house.waiting()) <= 2


@pytest.mark.parametrize("house", ["memory"], indirect=True)
async def test_altered_tokens_over_http(house: House) -> None:
    """Of 500 altered tokens, none is good for anything at any door."""
    async with house.client() as client:
        ticket, other = await uploaded(client), await uploaded(client)
        made = (await attach(client, other["id"])).json()
        genuine = [made["url"].split("/")[2], ticket["url"].rsplit("/", 1)[1], ticket["id"]]
        before = house.objects()
        for seed, token in enumerate(genuine):
            altered = mutations(token, [each for each in genuine if each != token], seed)
            for _, candidate in zip(range(170), altered, strict=False):
                for answer in (
                    await client.get(f"/files/{quote(candidate, safe='')}/a.txt"),
                    await client.put(
                        f"/files/uploads/{quote(candidate, safe='')}", content=CONTENT, headers=ticket["headers"]
                    ),
                ):
                    assert answer.status_code in (403, 404, 405), (candidate, answer.text)
                answer = await attach(client, candidate)
                if candidate:
                    refusal(answer, 403, "invalid-token")
                else:
                    assert answer.status_code == 400
        assert house.objects() == before
