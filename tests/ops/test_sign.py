"""Signed URLs: which store or signer makes them, for how long, and what for."""

import urllib.request
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from lading.backends.obstore import ObstoreBackend
from lading.errors import ConfigurationError, NotSupported
from lading.ops.sign import LONGEST, sign
from lading.record import FileRecord
from lading.testing.backends import in_its_world
from lading.worlds import World, asyncio_world, inline
from tests.services.moto import S3

RECORD = FileRecord(backend="it", path="in/a b.txt", filename="a b.txt", size=5)
MEMORY = ObstoreBackend("it", "memory://")


@pytest.fixture(params=[inline, asyncio_world], ids=["inline", "asyncio"])
def world(request: pytest.FixtureRequest) -> World:
    chosen: World = request.param
    return chosen


class Echo:
    """A signer whose URL says what it was asked for."""

    def sign(self, record: FileRecord, *, expires_in: int, for_upload: bool = False) -> str:
        return f"/{'write' if for_upload else 'read'}/{record.path}?{expires_in}"


def signature(url: str) -> list[str]:
    return parse_qs(urlsplit(url).query)["X-Amz-Signature"]


def on_s3(s3: S3) -> ObstoreBackend:
    options: dict[str, Any] = {
        "aws_endpoint": s3.endpoint,
        "aws_access_key_id": s3.access_key_id,
        "aws_secret_access_key": s3.secret_access_key,
        "aws_region": s3.region,
    }
    return ObstoreBackend("it", f"s3://{s3.make_bucket()}/", **options)


class TestStore:
    @in_its_world
    async def test_a_url_of_the_store(self, s3: S3, world: World) -> None:
        """A store that signs gets what is put to the URL for uploads, and gives it at the one for reading."""
        backend = on_s3(s3)
        upload = await sign(backend, RECORD, world, signer=None, expires_in=60, for_upload=True)
        # urllib says of a body that it is a form, and then moto reads it as one
        request = urllib.request.Request(upload, b"hello", {"Content-Type": "text/plain"}, method="PUT")
        urllib.request.urlopen(request, timeout=30).close()
        assert await backend.driver(world).get(RECORD.path) == b"hello"
        url = await sign(backend, RECORD, world, signer=Echo(), expires_in=60, for_upload=False)
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert answer.read() == b"hello"
        assert signature(url) != signature(upload)  # moto, unlike S3, lets either do both

    @pytest.mark.parametrize("expires_in", [1, 3600, LONGEST])
    @in_its_world
    async def test_how_long(self, expires_in: int, s3: S3, world: World) -> None:
        """The URL expires when it was asked to."""
        url = await sign(on_s3(s3), RECORD, world, signer=None, expires_in=expires_in, for_upload=False)
        assert parse_qs(urlsplit(url).query)["X-Amz-Expires"] == [str(expires_in)]

    @in_its_world
    async def test_signing_asks_the_store_for_nothing(self, world: World) -> None:
        """A URL is made without a request: the store need not even be there."""
        backend = ObstoreBackend(
            "it",
            "s3://bucket/",
            aws_endpoint="http://127.0.0.1:1",
            aws_access_key_id="a",
            aws_secret_access_key="b",
            aws_region="us-east-1",
        )
        url = await sign(backend, RECORD, world, signer=None, expires_in=60, for_upload=False)
        assert url.startswith("http://127.0.0.1:1/bucket/in/a%20b.txt?")


class TestSigner:
    @in_its_world
    async def test_the_registrys_signer(self, world: World) -> None:
        """Where the store signs nothing the signer of the registry does."""
        assert await sign(MEMORY, RECORD, world, signer=Echo(), expires_in=5, for_upload=False) == "/read/in/a b.txt?5"
        assert await sign(MEMORY, RECORD, world, signer=Echo(), expires_in=5, for_upload=True) == "/write/in/a b.txt?5"

    @in_its_world
    async def test_nobody_signs(self, world: World) -> None:
        """Where nobody signs the error names the backend, and what to add."""
        with pytest.raises(NotSupported, match=r"'it' \(memory\) has no signed URLs .* LadingPlugin\(secret="):
            await sign(MEMORY, RECORD, world, signer=None, expires_in=5, for_upload=False)


class TestExpiry:
    @pytest.mark.parametrize("expires_in", [0, -1, LONGEST + 1, float("nan")])
    @in_its_world
    async def test_out_of_range(self, expires_in: Any, world: World) -> None:
        """No URL is for less than a second, or for longer than S3 and GCS honour: seven days."""
        with pytest.raises(ConfigurationError, match="from 1 to 604800 seconds"):
            await sign(MEMORY, RECORD, world, signer=Echo(), expires_in=expires_in, for_upload=False)
