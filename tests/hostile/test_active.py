"""What browsers would run is never served so that they do: not by its type, nor by what it hides in."""

import re

import httpx
import pytest

from lading.media import is_active
from tests.hostile.house import House, refusal
from tests.hostile.polyglots import GIF, PAGE, PNG, POLYGLOTS, Polyglot
from tests.hostile.wire import FORM, form, text, upload

ANN = {"x-user": "ann"}
LINE = re.compile(r"[ -~]+").fullmatch
SHOWN = re.compile(
    r"(image/(?!svg)|audio/|video/)[a-z0-9.+-]+|application/(pdf|json)|text/plain; charset=utf-8"
).fullmatch
INJECTIONS = [
    "text/html",
    "text/html;charset=utf-8",
    "TEXT/HTML",
    " text/html ",
    "image/svg+xml",
    "application/xhtml+xml",
    "text/xml",
    "application/pdf\r\nX-Injected: yes",
    "image/png\nX-Injected: yes",
    "image/png\0",
    "image/png, text/html",
    "image/png;text/html",
    "multipart/x-mixed-replace",
    "text/javascript",
    "*/*",
    "",
    "/",
    "image/",
    "image/ png",
    "image/\u0130",
    "a" * 10_000,
]


def check(answer: httpx.Response, content: bytes | None = None) -> None:
    """It is inert: not run, not guessed at, in a sandbox."""
    assert answer.status_code == 200
    for name, value in answer.headers.multi_items():
        assert LINE(value), (name, value)
        assert name != "x-injected"
    headers = answer.headers
    assert headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "script-src" not in headers["content-security-policy"]
    assert headers["referrer-policy"] == "no-referrer"
    if headers["content-disposition"].startswith("inline"):
        assert SHOWN(headers["content-type"]), headers
        assert not is_active(headers["content-type"])
    else:
        assert headers["content-disposition"].startswith("attachment; filename=")
    for name in ("content-type", "content-disposition", "content-security-policy"):
        assert len(headers.get_list(name)) == 1
    if content is not None:
        assert answer.content == content


async def stored(client: httpx.AsyncClient, sent: Polyglot) -> httpx.Response:
    body = form(text("name", "a"), upload("file", sent.filename, sent.content, sent.content_type))
    return await client.post("/documents", content=body, headers={"content-type": FORM})


@pytest.mark.parametrize("kind", POLYGLOTS)
@pytest.mark.parametrize("house", ["memory"], indirect=True)
async def test_polyglots(house: House, kind: str) -> None:
    """What is two things at once is served as what it was taken for, so that it cannot be the other."""
    sent = POLYGLOTS[kind]
    async with house.client() as client:
        made = await stored(client, sent)
        if made.status_code == 400:
            refusal(made, 400, "malformed-body")
            return
        assert made.status_code == 201, made.text
        check(await client.get(made.json()["url"]), sent.content)
        check(await client.get("/documents/1/file", headers=ANN), sent.content)
        for options in ({"disposition": "inline"}, {"content_type": "text/plain"}, {"filename": "a.html"}):
            signed = await client.get("/documents/1/url", params=options)
            check(await client.get(signed.json()["url"]), sent.content)
        raw = await client.put(
            "/documents/1/file", content=sent.content, headers=[(b"content-type", (sent.content_type or "").encode())]
        )
        assert raw.status_code == 200, raw.text
        check(await client.get(raw.json()["url"]), sent.content)


@pytest.mark.parametrize("house", ["memory"], indirect=True)
async def test_only_images_are_images(house: House) -> None:
    """A column of images takes nothing that only says that it is one, by form or directly."""
    async with house.client() as client:
        taken = []
        for kind, sent in POLYGLOTS.items():
            if sent.content_type is None or "\r" in sent.content_type or len(sent.content_type) > 200:
                continue
            body = form(upload("image", sent.filename, sent.content, sent.content_type))
            made = await client.post("/pictures", content=body, headers={"content-type": FORM})
            if made.status_code == 201:
                taken.append(kind)
                served = await client.get(made.json()["url"])
                check(served, sent.content)
                assert served.headers["content-type"].startswith("image/")
            else:
                refusal(made, made.status_code)
                assert made.status_code in (400, 415)
            asked = {"filename": sent.filename, "size": len(sent.content), "content_type": sent.content_type}
            begun = await client.post("/files/uploads", json={**asked, "policy": "picture.image"}, headers=ANN)
            if begun.status_code != 201:
                refusal(begun, 415, "type-not-allowed")
                continue
            ticket = begun.json()
            put = await client.put(ticket["url"], content=sent.content, headers=ticket["headers"])
            if put.status_code != 200:
                refusal(put, put.status_code)
                assert put.status_code in (415, 422)
            answer = await client.post("/pictures/attached", json={"image": ticket["id"]}, headers=ANN)
            assert (answer.status_code == 201) == (put.status_code == 200), (kind, answer.text)
            if answer.status_code == 201:
                assert kind in taken
                check(await client.get(answer.json()["url"]), sent.content)
        assert not [kind for kind in taken if not kind.startswith(("GIF", "PNG", "JPEG", "SVG"))], taken


@pytest.mark.parametrize("house", ["memory"], indirect=True)
async def test_overrides(house: House) -> None:
    """Whatever a URL is signed with as type, disposition or name, it is served inert, or not signed."""
    async with house.client() as client:
        for sent in (Polyglot("a.html", "text/html", PAGE), Polyglot("a.png", "image/png", PNG + PAGE)):
            made = (await stored(client, sent)).json()
            for kind in INJECTIONS:
                for disposition in ("inline", "attachment", None):
                    params = {"content_type": kind} | ({"disposition": disposition} if disposition else {})
                    signed = await client.get(f"/documents/{made['id']}/url", params=params)
                    if signed.status_code == 200:
                        check(await client.get(signed.json()["url"]), sent.content)
                    else:
                        assert signed.status_code == 400


@pytest.mark.parametrize("house", ["memory"], indirect=True)
async def test_headers_that_say_it_twice(house: House) -> None:
    """A part with two types, or two names, is one file that is inert, or is refused; so is a request."""
    file = b'Content-Disposition: form-data; name="file"; filename="a.gif"'
    heads = [
        b'Content-Disposition: form-data; name="file"; filename="a.gif"; filename="a.html"',
        b'Content-Disposition: form-data; name="file"; filename="a.gif"; filename*=UTF-8\'\'a.html',
        b'Content-Disposition: form-data; name="file"; name="other"; filename="a.html"',
        b'Content-Disposition: form-data; name="file"; filename=a.html; filename="a.gif"',
        b'Content-Disposition: form-data; name="file"; filename="a.gif\\"; filename=\\"a.html"',
        file + b"\r\nContent-Type: image/gif\r\nContent-Type: text/html",
        file + b"\r\nContent-Type: image/gif; image/svg+xml",
        file + b'\r\ncontent-disposition: form-data; name="x"',
        file + b'\r\nContent-Disposition: attachment; filename="a.html"',
    ]
    async with house.client() as client:
        for head in heads:
            body = form(text("name", "a"), (head, GIF + PAGE))
            made = await client.post("/documents", content=body, headers={"content-type": FORM})
            if made.status_code == 201:
                check(await client.get(made.json()["url"]), GIF + PAGE)
            else:
                assert made.status_code == 400, made.text
        twice: list[list[tuple[str, str]]] = [
            [
                ("content-disposition", 'attachment; filename="a"'),
                ("content-disposition", 'attachment; filename="b.html"'),
            ],
            [("content-type", "image/gif"), ("content-type", "text/html")],
            [("content-disposition", 'attachment; filename="a.gif"; filename="b.html"')],
            [("content-disposition", "attachment; filename=\"a.gif\"; filename*=UTF-8''b.html; filename*=UTF-8''c.js")],
            [("content-disposition", "attachment; filename*=UTF-8''a%0d%0aX-Injected:%20yes%00.html")],
            [("content-disposition", "attachment; filename*=utf-16''%ff%fe")],
            [("content-disposition", "a" * 50_000)],
            [("content-disposition", "attachment;" + " filename" * 5_000)],
            [("content-disposition", 'attachment; filename="' + '\\"' * 5_000)],
        ]
        await stored(client, Polyglot("a", None, b"a"))
        for headers in twice:
            made = await client.put("/documents/1/file", content=GIF + PAGE, headers=headers)
            if made.status_code == 200:
                check(await client.get(made.json()["url"]), GIF + PAGE)
            else:
                refusal(made, 400, "malformed-body")
