"""Signed URLs: which store or signer makes them, for how long, and what for."""

import urllib.request
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from lading.backends.obstore import ObstoreBackend
from lading.backends.protocols import LONGEST, Signer
from lading.errors import ConfigurationError, NotSupported
from lading.ops.sign import Terms, sign
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

    def __init__(self, *, longest: int = LONGEST, always: bool = False) -> None:
        self.longest = longest
        self.always = always

    def sign(self, record: FileRecord, *, expires_in: int, **overrides: str | None) -> str:
        said = "".join(f"&{name}={value}" for name, value in overrides.items() if value is not None)
        return f"/read/{record.path}?{expires_in}{said}"

    def sign_put(self, record: FileRecord, *, expires_in: int) -> str:
        return f"/write/{record.path}?{expires_in}"


READ, WRITE = Terms(60), Terms(60, for_upload=True)
OVERRIDES = [
    ("filename", Terms(60, filename="b.txt"), "&filename=b.txt"),
    ("disposition", Terms(60, disposition="attachment"), "&disposition=attachment"),
    ("content_type", Terms(60, content_type="text/plain"), "&content_type=text/plain"),
    ("an empty name", Terms(60, filename=""), "&filename="),
]


def nowhere() -> ObstoreBackend:
    """A store that signs, and is not there."""
    options: dict[str, Any] = {
        "aws_endpoint": "http://127.0.0.1:1",
        "aws_access_key_id": "a",
        "aws_secret_access_key": "b",
        "aws_region": "us-east-1",
    }
    return ObstoreBackend("it", "s3://bucket/", **options)


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
        upload = await sign(backend, RECORD, world, WRITE, signer=None)
        # urllib says of a body that it is a form, and then moto reads it as one
        request = urllib.request.Request(upload, b"hello", {"Content-Type": "text/plain"}, method="PUT")
        urllib.request.urlopen(request, timeout=30).close()
        assert await backend.driver(world).get(RECORD.path) == b"hello"
        url = await sign(backend, RECORD, world, READ, signer=Echo())
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert answer.read() == b"hello"
        assert signature(url) != signature(upload)  # moto, unlike S3, lets either do both

    @pytest.mark.parametrize("expires_in", [1, 3600, LONGEST])
    @in_its_world
    async def test_how_long(self, expires_in: int, s3: S3, world: World) -> None:
        """The URL expires when it was asked to."""
        url = await sign(on_s3(s3), RECORD, world, Terms(expires_in), signer=None)
        assert parse_qs(urlsplit(url).query)["X-Amz-Expires"] == [str(expires_in)]

    @in_its_world
    async def test_signing_asks_the_store_for_nothing(self, world: World) -> None:
        """A URL is made without a request: the store need not even be there."""
        url = await sign(nowhere(), RECORD, world, READ, signer=None)
        assert url.startswith("http://127.0.0.1:1/bucket/in/a%20b.txt?")

    @pytest.mark.parametrize(("what", "terms", "said"), OVERRIDES)
    @in_its_world
    async def test_what_its_urls_cannot_say(self, what: str, terms: Terms, said: str, world: World) -> None:
        """A store's URL serves the file as it was stored; the error says so, and what would help."""
        with pytest.raises(NotSupported, match=r"'it' \(s3\) serve a file as it was stored; .* storages\.signer"):
            await sign(nowhere(), RECORD, world, terms, signer=None)


class TestSigner:
    @in_its_world
    async def test_the_registrys_signer(self, world: World) -> None:
        """Where the store signs nothing the signer of the registry does."""
        assert await sign(MEMORY, RECORD, world, READ, signer=Echo()) == "/read/in/a b.txt?60"
        assert await sign(MEMORY, RECORD, world, WRITE, signer=Echo()) == "/write/in/a b.txt?60"

    @pytest.mark.parametrize(("what", "terms", "said"), OVERRIDES)
    @in_its_world
    async def test_overrides(self, what: str, terms: Terms, said: str, world: World) -> None:
        """What is to be served otherwise than it was stored the signer signs, for stores that sign themselves too."""
        for backend in (MEMORY, nowhere()):
            assert await sign(backend, RECORD, world, terms, signer=Echo()) == f"/read/in/a b.txt?60{said}"

    @in_its_world
    async def test_always(self, world: World) -> None:
        """A signer that wants to signs for stores that sign themselves; without overrides none else does."""
        always: Signer = Echo(always=True)
        assert await sign(nowhere(), RECORD, world, READ, signer=always) == "/read/in/a b.txt?60"
        assert await sign(nowhere(), RECORD, world, WRITE, signer=always) == "/write/in/a b.txt?60"
        for terms in (READ, WRITE):
            assert (await sign(nowhere(), RECORD, world, terms, signer=Echo())).startswith("http://127.0.0.1:1/")

    @in_its_world
    async def test_an_upload_is_not_served(self, world: World) -> None:
        """What a file is to be served as means nothing to an upload, and is refused rather than forgotten."""
        for backend, signer in ((MEMORY, Echo()), (nowhere(), None)):
            with pytest.raises(ConfigurationError, match="not for uploads"):
                await sign(backend, RECORD, world, Terms(60, for_upload=True, filename="b.txt"), signer=signer)

    @in_its_world
    async def test_nobody_signs(self, world: World) -> None:
        """Where nobody signs the error names the backend, and what to add."""
        for terms in (READ, WRITE, Terms(60, filename="b.txt")):
            with pytest.raises(NotSupported, match=r"'it' \(memory\) has no signed URLs .* LadingPlugin"):
                await sign(MEMORY, RECORD, world, terms, signer=None)


class TestExpiry:
    @pytest.mark.parametrize("expires_in", [0, -1, LONGEST + 1, float("nan")])
    @in_its_world
    async def test_out_of_range(self, expires_in: Any, world: World) -> None:
        """No URL is for less than a second, or for longer than S3 and GCS honour: seven days."""
        for backend, signer in ((MEMORY, Echo(longest=10**9)), (nowhere(), None)):
            with pytest.raises(ConfigurationError, match="from 1 to 604800 seconds"):
                await sign(backend, RECORD, world, Terms(expires_in), signer=signer)

    @in_its_world
    async def test_the_signers_limit(self, world: World) -> None:
        """What the signer allows is the limit of every URL, also of one that the store signs."""
        for backend in (MEMORY, nowhere()):
            assert await sign(backend, RECORD, world, Terms(60), signer=Echo(longest=60))
            with pytest.raises(ConfigurationError, match="from 1 to 60 seconds"):
                await sign(backend, RECORD, world, Terms(61), signer=Echo(longest=60))
