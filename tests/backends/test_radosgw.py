"""Tests of S3 on a server that enforces signatures: the contract, and what a presigned URL allows and does not."""

import time
from collections.abc import Mapping
from http.client import HTTPConnection
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import obstore
import pytest

from lading import FileObject, worlds
from lading.backends.obstore import ObstoreBackend
from lading.backends.protocols import Attributes, Copies, Describes
from lading.errors import StoreError
from lading.testing.backends import in_its_world, joined, paths, put
from lading.testing.capabilities import CopyContract, DescribeContract, OrderContract
from lading.worlds import World
from tests.backends.test_obstore import on_s3
from tests.services.radosgw import RadosGW

METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE")
ADDED = ("x=1", "acl", "tagging", "uploads", "versionId=1", "X-Amz-Expires=600", "response-content-type=text/html")


class Answer(NamedTuple):
    """What the store answers to a request."""

    status: int
    body: bytes


def send(method: str, url: str, body: bytes | None = None, headers: Mapping[str, str | bytes] | None = None) -> Answer:
    """One request, as it is: nothing is added to its headers, and nothing of its URL is put right."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.netloc, timeout=30)
    try:
        connection.request(method, f"{parts.path}?{parts.query}", body, dict(headers or {}))
        answer = connection.getresponse()
        return Answer(answer.status, answer.read())
    finally:
        connection.close()


async def signed(backend: ObstoreBackend, world: World, path: str, *, for_upload: bool, expires_in: int = 60) -> str:
    """What the application gives to a client."""
    file = FileObject(backend, path=path)
    if world is worlds.inline:
        return file.sign(for_upload=for_upload, expires_in=expires_in)
    return await file.sign_async(for_upload=for_upload, expires_in=expires_in)


def changed(url: str, other_bucket: str) -> dict[str, str]:
    """What somebody who holds a URL for the object `here` may try instead."""
    bucket = urlsplit(url).path.split("/")[1]
    tried = {
        "another key": url.replace("/here?", "/there?"),
        "a key below": url.replace("/here?", "/here/below?"),
        "a shorter key": url.replace("/here?", "/her?"),
        "dots": url.replace("/here?", "/there/../here?"),
        "another bucket": url.replace(bucket, other_bucket),
        "the bucket": url.replace("/some/prefix/here?", "?"),
        "another signature": url[:-1] + ("0" if url[-1] != "0" else "1"),
        "half a signature": url[:-32],
        "no signature": url.partition("&X-Amz-Signature=")[0],
        "a longer life": url.replace("X-Amz-Expires=60", "X-Amz-Expires=3600"),
        "another day": url.replace("X-Amz-Date=20", "X-Amz-Date=21"),
        "another account": url.replace("X-Amz-Credential=", "X-Amz-Credential=x"),
        "nothing": url.partition("?")[0],
        **{f"and {query}": f"{url}&{query}" for query in ADDED},
    }
    assert url not in tried.values()
    return tried


@pytest.fixture
def backend(radosgw: RadosGW) -> ObstoreBackend:
    return on_s3(radosgw)


@pytest.fixture(params=[worlds.inline, worlds.asyncio_world], ids=["inline", "asyncio"])
def world(request: pytest.FixtureRequest) -> World:
    chosen: World = request.param
    return chosen


@pytest.fixture(params=["PUT", "GET"])
def method(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


class TestContract(CopyContract, DescribeContract, OrderContract):
    @pytest.fixture
    def backend(self, radosgw: RadosGW) -> ObstoreBackend:
        return on_s3(radosgw)


class TestSignedURLs:
    @pytest.mark.parametrize("path", ["here", "a/ü b+c.pdf", "100%/日本語"])
    @in_its_world
    async def test_they_work(self, backend: ObstoreBackend, world: World, path: str) -> None:
        """A URL for upload writes that object and replaces it while it lives, and the other one reads it."""
        upload = await signed(backend, world, path, for_upload=True)
        for content in (b"first", b"second"):
            assert send("PUT", upload, content).status == 200
            assert send("GET", await signed(backend, world, path, for_upload=False)) == (200, content)
        assert await paths(backend.driver(world)) == [path]

    @in_its_world
    async def test_for_one_method(self, backend: ObstoreBackend, world: World, method: str) -> None:
        """The store refuses any other method than the one that was signed."""
        driver = backend.driver(world)
        await put(driver, "here", b"mine")
        url = await signed(backend, world, "here", for_upload=method == "PUT")
        for other in METHODS:
            if other != method:
                assert send(other, url, b"theirs" if other in ("PUT", "POST") else None).status == 403, other
        assert await paths(driver) == ["here"]
        assert await driver.get("here") == b"mine"

    @in_its_world
    async def test_for_one_object(self, radosgw: RadosGW, backend: ObstoreBackend, world: World, method: str) -> None:
        """The store refuses a URL in which anything was changed, left out or added, and nothing is stored."""
        driver, elsewhere = backend.driver(world), on_s3(radosgw)
        for path in ("here", "there", "here/below"):
            await put(driver, path, b"mine")
            await put(elsewhere.driver(world), path, b"mine")
        url = await signed(backend, world, "here", for_upload=method == "PUT")
        for change, tried in changed(url, elsewhere.store.config["bucket"]).items():
            answer = send(method, tried, b"theirs" if method == "PUT" else None)
            assert answer.status == 403, change
            assert b"mine" not in answer.body
        for each in (driver, elsewhere.driver(world)):
            assert await paths(each) == ["here", "here/below", "there"]
            assert [await joined(each, path) for path in await paths(each)] == [b"mine"] * 3

    @in_its_world
    async def test_for_a_time(self, backend: ObstoreBackend, world: World) -> None:
        """The store refuses a URL whose time is over."""
        driver = backend.driver(world)
        await put(driver, "here", b"mine")
        upload = await signed(backend, world, "new", for_upload=True, expires_in=1)
        download = await signed(backend, world, "here", for_upload=False, expires_in=1)
        time.sleep(2.1)
        assert send("PUT", upload, b"late").status == 403
        answer = send("GET", download)
        assert answer.status == 403
        assert b"mine" not in answer.body
        assert await paths(driver) == ["here"]


class TestWhatAnUploadSets:
    """What a client sends along with a presigned PUT, which signs none of it."""

    @in_its_world
    async def test_it_is_told(self, backend: ObstoreBackend, world: World) -> None:
        """Attributes that a client has set come back, of the object and of a copy that the store makes."""
        driver: Any = backend.driver(world)
        assert isinstance(driver, Describes)
        assert isinstance(driver, Copies)
        headers = {"Content-Type": "text/html", "Content-Disposition": "inline", "x-amz-meta-by": "them"}
        rest = {"Cache-Control": "max-age=1", "Content-Encoding": "gzip", "Content-Language": "la"}
        url = await signed(backend, world, "here", for_upload=True)
        assert send("PUT", url, b"<script>", headers | rest).status == 200
        await driver.copy("here", "copy")
        for path in ("here", "copy"):
            assert await driver.attributes(path) == Attributes("text/html", "inline", {"by": "them", **rest})
            assert obstore.get(backend.store, path).attributes == {
                "Content-Type": "text/html",
                "Content-Disposition": "inline",
                "by": "them",
                **rest,
            }

    @pytest.mark.parametrize("header", ["Content-Type", "Content-Disposition", "x-amz-meta-by"])
    @in_its_world
    async def test_what_nobody_can_read(self, backend: ObstoreBackend, world: World, header: str) -> None:
        """An object with a header beyond ASCII is a `StoreError` to who looks at it, and can be listed and deleted."""
        driver: Any = backend.driver(world)
        url = await signed(backend, world, "here", for_upload=True)
        assert send("PUT", url, b"1", {header: "text/ü".encode()}).status == 200
        for attempt in (driver.head("here"), driver.attributes("here"), driver.get("here"), joined(driver, "here")):
            with pytest.raises(StoreError, match="non UTF-8") as caught:
                await attempt
            assert type(caught.value) is StoreError
        assert await paths(driver) == ["here"]
        await driver.delete(["here"])
        assert await paths(driver) == []
