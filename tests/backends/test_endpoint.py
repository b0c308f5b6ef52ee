"""What stores make of an S3 endpoint that is overloaded, breaks down, does not answer, or loses its answers."""

import errno
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from lading import worlds
from lading.backends.fsspec import FSSpecBackend
from lading.backends.obstore import ObstoreBackend
from lading.backends.protocols import Copies, Driver, StorageBackend
from lading.errors import AccessDenied, ObjectExists, StoreError, StoreUnavailable
from lading.ops import retry
from lading.ops.retry import Retrying
from lading.ops.save import Draft, StoredSource, save
from lading.source import source_of
from lading.testing.backends import in_its_world, joined, paths, put
from lading.worlds import World
from tests.backends.endpoint import Answer, Endpoint, endpoint
from tests.services.moto import S3

MiB = 2**20
Make = Callable[..., StorageBackend]


@pytest.fixture(params=[worlds.inline, worlds.asyncio_world], ids=["inline", "asyncio"])
def world(request: pytest.FixtureRequest) -> World:
    chosen: World = request.param
    return chosen


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "PAUSE", 0)


def by_obstore(
    url: str, bucket: str = "b", sent_again: int = 0, timeout: str = "30s", **options: Any
) -> ObstoreBackend:
    return ObstoreBackend(
        "it",
        f"s3://{bucket}",
        aws_endpoint=url,
        aws_access_key_id="a",
        aws_secret_access_key="b",
        client_options={"read_timeout": timeout},
        retry_config={"max_retries": sent_again},
        **options,
    )


def by_s3fs(url: str, bucket: str = "b", sent_again: int = 0, **options: Any) -> FSSpecBackend:
    backend = FSSpecBackend(
        "it",
        f"s3://{bucket}",
        endpoint_url=url,
        username="a",
        secret="b",
        client_kwargs={"region_name": "us-east-1"},
        config_kwargs={"retries": {"total_max_attempts": 1 + sent_again}},
        skip_instance_cache=True,
        **options,
    )
    backend.store.retries = 1
    return backend


@pytest.fixture
def nothing() -> Iterator[tuple[Endpoint, str]]:
    """An endpoint before no store."""
    with endpoint() as found:
        yield found


@pytest.fixture
def before_s3(s3: S3) -> Iterator[tuple[Endpoint, str]]:
    """An endpoint before an S3."""
    with endpoint(s3.endpoint) as found:
        yield found


async def copy(driver: Driver) -> None:
    assert isinstance(driver, Copies)
    await driver.copy("a", "b")


async def stream(size: int = 6) -> AsyncIterator[bytes]:
    for _ in range(size):
        yield bytes(MiB)


CALLS: dict[str, Callable[[Driver], Coroutine[Any, Any, Any]]] = {
    "put": lambda driver: put(driver, "a", b"hello"),
    "stream": lambda driver: put(driver, "a", stream()),
    "get": lambda driver: driver.get("a"),
    "read": lambda driver: joined(driver, "a"),
    "range": lambda driver: joined(driver, "a", 1, 3),
    "head": lambda driver: driver.head("a"),
    "delete": lambda driver: driver.delete(["a"]),
    "list": paths,
    "copy": copy,
}
PASSING: list[Answer] = [408, 429, 500, 502, 503, 504, "resets", "closes"]
EACH = [(by_obstore, answer) for answer in PASSING] + [(by_s3fs, answer) for answer in PASSING[1::2]]
both_backends = pytest.mark.parametrize("make", [by_obstore, by_s3fs])


class TestErrors:
    @pytest.mark.parametrize("call", CALLS)
    @pytest.mark.parametrize(("make", "answer"), EACH)
    @in_its_world
    async def test_what_may_pass(
        self, answer: Answer, call: str, make: Make, nothing: tuple[Endpoint, str], world: World
    ) -> None:
        """A store that is overloaded, breaks down or cuts the connection is unavailable, whatever it was asked."""
        broken, url = nothing
        broken.always(answer)
        with pytest.raises(StoreUnavailable) as caught:
            await CALLS[call](make(url).driver(world))
        assert "127.0.0.1" not in str(caught.value)
        assert caught.value.__cause__ is not None

    @pytest.mark.parametrize("call", CALLS)
    @in_its_world
    async def test_no_answer(self, call: str, nothing: tuple[Endpoint, str], world: World) -> None:
        """A store that does not answer in time is unavailable."""
        broken, url = nothing
        broken.always("hangs")
        with pytest.raises(StoreUnavailable):
            await CALLS[call](by_obstore(url, timeout="0.3s").driver(world))

    @both_backends
    @in_its_world
    async def test_nobody_there(self, make: Make, world: World) -> None:
        """A port at which nobody listens is an unavailable store."""
        with endpoint() as (_, url):
            pass
        with pytest.raises(StoreUnavailable):
            await make(url).driver(world).get("a")

    @pytest.mark.parametrize("call", ["get", "read", "list"])
    @both_backends
    @in_its_world
    async def test_a_cut_answer(
        self, call: str, make: Make, before_s3: tuple[Endpoint, str], s3: S3, world: World
    ) -> None:
        """An answer that breaks off is an unavailable store, not a short object."""
        broken, url = before_s3
        bucket = s3.make_bucket()
        await put(make(s3.endpoint, bucket).driver(world), "a", bytes(10_000))
        broken.answer = lambda method, path: "is cut" if method == "GET" else "passes"
        with pytest.raises(StoreUnavailable):
            await CALLS[call](make(url, bucket).driver(world))

    @pytest.mark.parametrize("call", ["get", "head", "put", "delete"])
    @both_backends
    @in_its_world
    async def test_what_will_not_pass(self, call: str, make: Make, nothing: tuple[Endpoint, str], world: World) -> None:
        """A refusal is none."""
        broken, url = nothing
        broken.always(403)
        with pytest.raises(AccessDenied):
            await CALLS[call](make(url).driver(world))

    @in_its_world
    async def test_a_range_asks_once(self, nothing: tuple[Endpoint, str], world: World) -> None:
        """A range that fails because the store is unavailable asks for no size."""
        broken, url = nothing
        broken.always(503)
        with pytest.raises(StoreUnavailable):
            await joined(by_obstore(url).driver(world), "a", 5)
        assert broken.methods() == ["GET"]


def content_of(size: int) -> bytes:
    return b"%PDF-1.7 " + bytes(size)


both_sizes = pytest.mark.parametrize("size", [10, 6 * MiB], ids=["small", "large"])


class TestLostAnswers:
    @pytest.mark.parametrize(("answer", "sent_again"), [("is lost", 0), ("is lost to a 503", 1), (503, 0)])
    @both_sizes
    @both_backends
    @in_its_world
    async def test_a_fresh_path(
        self,
        answer: Answer,
        sent_again: int,
        size: int,
        make: Make,
        before_s3: tuple[Endpoint, str],
        s3: S3,
        world: World,
    ) -> None:
        """A file is stored and described rightly, once, whichever request of its first try lost its answer."""
        broken, url = before_s3
        backend = make(url, s3.make_bucket(), sent_again)
        requests = await self.count(backend, broken, size, world)
        for number in range(requests):
            broken.next(*["passes"] * number, answer)
            record = await save(Draft(filename="a.pdf"), source_of(content_of(size)), backend, world)
            assert not broken.left
            assert await paths(backend.driver(world)) == [record.path]
            assert await backend.driver(world).get(record.path) == content_of(size)
            if record.etag is not None:  # s3fs does not tell that of a stream
                assert record.etag == (await backend.driver(world).head(record.path)).etag
            await backend.driver(world).delete([record.path])

    async def count(self, backend: StorageBackend, watched: Endpoint, size: int, world: World) -> int:
        """How many requests a file takes where none fails."""
        watched.requests.clear()
        record = await save(Draft(filename="a.pdf"), source_of(content_of(size)), backend, world)
        requests = len(watched.requests)
        await backend.driver(world).delete([record.path])
        assert requests == 1 or size > MiB
        return requests

    @pytest.mark.parametrize("sent_again", [0, 1])
    @pytest.mark.parametrize("answer", ["is lost", "is lost to a 503"])
    @in_its_world
    async def test_a_path_set_by_hand(
        self, answer: Answer, sent_again: int, before_s3: tuple[Endpoint, str], s3: S3, world: World
    ) -> None:
        """What was stored there is recognised, also where obstore had sent it again by itself and found it there."""
        broken, url = before_s3
        backend = by_obstore(url, s3.make_bucket(), sent_again)
        broken.next(answer, method="PUT")
        draft = Draft(filename="a.pdf", to_filename="a.pdf")
        record = await save(draft, source_of(b"hello"), backend, world)
        assert broken.methods() == ["PUT", "PUT", *["PUT"] * (sent_again and answer != "is lost"), "HEAD", "GET"]
        assert record.etag == (await backend.driver(world).head("a.pdf")).etag

    @pytest.mark.parametrize("sent_again", [0, 1])
    @both_backends
    @in_its_world
    async def test_anothers_object(
        self, sent_again: int, make: Make, before_s3: tuple[Endpoint, str], s3: S3, world: World
    ) -> None:
        """Another's object is a conflict also where a try had failed before, and is not replaced."""
        broken, url = before_s3
        backend = make(url, s3.make_bucket(), sent_again)
        await put(backend.driver(world), "a.pdf", b"other")
        broken.next(503, method="PUT")
        with pytest.raises(ObjectExists):
            await save(Draft(filename="a.pdf", to_filename="a.pdf"), source_of(b"hello"), backend, world)
        assert await backend.driver(world).get("a.pdf") == b"other"

    @pytest.mark.parametrize("answer", ["is lost", "is lost to a 503", 500])
    @both_backends
    @in_its_world
    async def test_a_copy(
        self, answer: Answer, make: Make, before_s3: tuple[Endpoint, str], s3: S3, world: World
    ) -> None:
        """A copy is made once, whichever request lost its answer."""
        broken, url = before_s3
        backend = make(url, s3.make_bucket())
        record = await save(Draft(filename="a.pdf"), source_of(b"hello"), backend, world)
        for number in range(3):
            broken.next(*["passes"] * number, answer)
            copy = await save(Draft(filename="b.pdf"), StoredSource(backend, record), backend, world)
            assert not broken.left
            assert await backend.driver(world).get(copy.path) == b"hello"
            assert await paths(backend.driver(world)) == sorted([record.path, copy.path])
            await backend.driver(world).delete([copy.path])

    @pytest.mark.parametrize("answer", ["is lost", 503])
    @both_backends
    @in_its_world
    async def test_a_delete(
        self, answer: Answer, make: Make, before_s3: tuple[Endpoint, str], s3: S3, world: World
    ) -> None:
        """Objects are deleted by the next try, and those that the first has deleted are no error."""
        broken, url = before_s3
        backend = make(url, s3.make_bucket())
        for path in ("a", "b"):
            await put(backend.driver(world), path, b"")
        broken.next(answer, method="POST" if make is by_obstore else "DELETE")
        await Retrying(backend, world).delete(["a", "b"])
        assert not broken.left
        assert await paths(backend.driver(world)) == []


class TestBodies:
    @in_its_world
    async def test_an_error_of_the_body(self, before_s3: tuple[Endpoint, str], s3: S3, world: World) -> None:
        """It is raised as it is, also where the store then fails to let go of what was sent, and is none of its own."""

        async def breaks() -> AsyncIterator[bytes]:
            yield bytes(6 * MiB)
            raise error

        broken, url = before_s3
        error = ConnectionResetError("the source's own")
        broken.answer = lambda method, path: 503 if method == "DELETE" else "passes"
        with pytest.raises(ConnectionResetError) as caught:
            await put(by_obstore(url, s3.make_bucket()).driver(world), "a", breaks(), overwrite=True)
        assert caught.value is error
        assert "may stay" in error.__notes__[0]


class TestNetworkDisks:
    @pytest.mark.parametrize("number", [errno.ESTALE, errno.ETIMEDOUT, errno.EIO])
    @pytest.mark.parametrize("kind", [ObstoreBackend, FSSpecBackend])
    def test_what_may_pass(
        self, kind: Callable[..., StorageBackend], number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What a disk on a network could not do just now is tried again, unlike other errors; nothing lies about."""
        left = [OSError(number, os.strerror(number))]
        link = os.link

        def fail(source: Any, target: Any) -> None:
            if left:
                raise left.pop()
            link(source, target)

        monkeypatch.setattr(os, "link", fail)
        storing = save(Draft(filename="a.pdf"), source_of(b"hello"), kind("it", f"file://{tmp_path}"), worlds.inline)
        if number == errno.EIO:
            with pytest.raises(StoreError):
                worlds.run(storing)
            assert os.listdir(tmp_path) == []
        else:
            record = worlds.run(storing)
            assert os.listdir(tmp_path) == [record.path]
        assert left == []


class TestSums:
    """How many requests a store that is down gets, all layers of tries multiplied."""

    def test_by_obstore(self, nothing: tuple[Endpoint, str]) -> None:
        """By default 3 tries of 1 + 3 requests."""
        broken, url = nothing
        broken.always(503)
        backend = ObstoreBackend("it", "s3://b", aws_endpoint=url, aws_access_key_id="a", aws_secret_access_key="b")
        with pytest.raises(StoreUnavailable):
            worlds.run(Retrying(backend, worlds.inline).get("a"))
        assert len(broken.requests) == 12

    def test_as_it_is_told(self, nothing: tuple[Endpoint, str]) -> None:
        """`retries` and `retry_config` say otherwise."""
        broken, url = nothing
        broken.always(503)
        with pytest.raises(StoreUnavailable):
            worlds.run(Retrying(by_obstore(url, retries=0), worlds.inline).get("a"))
        assert len(broken.requests) == 1

    def test_by_s3fs(self, nothing: tuple[Endpoint, str]) -> None:
        """By default 3 tries of 2 requests, but where S3 says SlowDown, of which s3fs makes five."""
        broken, url = nothing
        broken.always(500)
        backend = FSSpecBackend("it", "s3://b", endpoint_url=url, username="a", secret="b", skip_instance_cache=True)
        with pytest.raises(StoreUnavailable):
            worlds.run(Retrying(backend, worlds.inline).delete(["a"]))
        assert len(broken.requests) == 6
