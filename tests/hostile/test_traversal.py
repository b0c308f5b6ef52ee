"""Paths that climb, in URLs: none reaches a file, and none is an error of ours."""

from pathlib import Path

import pytest

from lading.errors import InvalidPath, InvalidToken
from lading.paths import guard
from lading.record import FileRecord
from lading.signer import UrlSigner
from lading.tokens import Tokens
from tests.hostile.app import SECRET, storages
from tests.hostile.house import House
from tests.hostile.names import spellings
from tests.hostile.wire import FORM, exchange, form, request, text, upload

MARK = b"nobody may read this"
CONTENT = b"some text"
ANN = ("x-user", "ann")


@pytest.mark.parametrize("house", ["local"], indirect=True)
def test_urls(house: House, tmp_path: Path) -> None:
    """No spelling of a path that climbs out of a route reads, writes or names anything."""
    (tmp_path / "secret.txt").write_bytes(MARK)
    assert house.root is not None
    with house.server() as port:
        body = form(text("name", "a"), upload("file", "a.txt", CONTENT))
        made = exchange(port, request("POST", "/documents", [("content-type", FORM)], body)).json()
        token, path = made["url"].split("/")[2], made["file"]["path"]
        before = house.objects()
        targets = [f"{spelling}" for target in ("secret.txt", f"store/{path}") for spelling in spellings(target)]
        for target in targets:
            for url in (
                f"/files/{target}",
                f"/files/{token}/../{target}",
                f"/files/{target}/{token}/a.txt",
                f"/files/policies/{target}",
                f"/files/uploads/{target}",
                f"/documents/{target}/file",
            ):
                method = "PUT" if "/uploads/" in url else "GET"
                answer = exchange(port, request(method, url, [ANN], b"written" if method == "PUT" else b""))
                assert answer.status in (400, 401, 403, 404, 405), (url, answer)
                assert MARK not in answer.body
                assert answer.body != CONTENT
        # The name in a URL is for people: whatever it is, it chooses nothing.
        for target in targets[:40]:
            answer = exchange(port, request("GET", f"/files/{token}/{target.replace('/', '%2F')}"))
            assert answer.status in (200, 404), (target, answer)
            assert answer.status == 404 or answer.body == CONTENT
        assert house.objects() == before
    assert (tmp_path / "secret.txt").read_bytes() == MARK


@pytest.mark.parametrize(
    "method", ["POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "PROPFIND", "get", "A" * 1000]
)
@pytest.mark.parametrize("house", ["memory"], indirect=True)
def test_methods(house: House, method: str) -> None:
    """What signed URLs are not for is refused, with the methods that they are for."""
    with house.server() as port:
        body = form(text("name", "a"), upload("file", "a.txt", CONTENT))
        made = exchange(port, request("POST", "/documents", [("content-type", FORM)], body)).json()
        for headers in ([], [("x-http-method-override", "GET")], [("x-http-method", "DELETE")]):
            answer = exchange(port, request(method, made["url"], headers, b"a" if method in ("PUT", "POST") else b""))
            assert answer.status in (400, 404, 405, 501), answer
            assert answer.body != CONTENT
    assert [file.get_content() for file in house.files()] == [CONTENT]


@pytest.mark.parametrize("house", ["local"], indirect=True)
async def test_genuine_tokens_for_paths_outside(house: House, tmp_path: Path) -> None:
    """A token that an application was made to sign for a path outside of the store serves nothing, nor takes it."""
    (tmp_path / "secret.txt").write_bytes(MARK)
    signer = UrlSigner(Tokens(SECRET))
    async with house.client() as client:
        for path in (
            "../secret.txt",
            "..\\secret.txt",
            "%2e%2e/secret.txt",
            str(tmp_path / "secret.txt"),
            "a/../../secret.txt",
        ):
            record = FileRecord(backend="store", path=path, filename="a", content_type="text/plain", size=len(MARK))
            answer = await client.get(signer.sign(record, expires_in=60))
            assert answer.status_code >= 400, path  # such a token is the application's own fault
            assert MARK not in answer.content
            answer = await client.put(signer.sign_put(record, expires_in=60), content=b"written")
            assert answer.status_code >= 400, path
    assert (tmp_path / "secret.txt").read_bytes() == MARK
    house.troubles[:] = [trouble for trouble in house.troubles if "InvalidPath" not in trouble]


def test_no_spelling_is_a_path() -> None:
    """What climbs, in any spelling, is refused as the path of an object."""
    for spelling in spellings("a.txt"):
        if "..." not in spelling and ";" not in spelling:
            with pytest.raises(InvalidPath):
                guard(spelling)
    signer = UrlSigner(Tokens(SECRET))
    for spelling in spellings("a.txt"):
        for read in (signer.read, signer.read_upload, signer.read_id):
            with pytest.raises(InvalidToken):
                read(spelling)
    assert storages.registered_backends() == []
