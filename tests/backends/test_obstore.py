"""Tests of the obstore backend: the contract on memory, local disk and S3, and what is its own."""

import asyncio
import os
import pickle
import shutil
import stat
import threading
import time
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import obstore
import pytest
from obstore.store import MemoryStore

from lading import worlds
from lading.backends.obstore import ObstoreBackend
from lading.backends.protocols import Attributes, Copies, Signs
from lading.errors import (
    AccessDenied,
    ConfigurationError,
    InvalidPath,
    NotSupported,
    ObjectExists,
    ObjectNotFound,
    StoreError,
)
from lading.rules import max_size
from lading.testing.backends import in_its_world, joined, paths, put, stream
from lading.testing.capabilities import CopyContract, DescribeContract, OrderContract, StagingContract
from lading.worlds import World
from tests.services.moto import S3

MiB = 2**20
METADATA: Any = {"title": "plain", "Content-Encoding": "gzip", "ünsafe": "x", "value": "ü", "number": 1, "TITLE": "b"}
ALL = Attributes(content_type="image/png", content_disposition='inline; filename="a.png"', metadata=METADATA)


def on_s3(s3: S3, *, key: str = "contract", bucket: str = "", **options: Any) -> ObstoreBackend:
    return ObstoreBackend(
        key,
        f"s3://{bucket or s3.make_bucket()}/some/prefix/",
        aws_endpoint=s3.endpoint,
        aws_access_key_id=s3.access_key_id,
        aws_secret_access_key=s3.secret_access_key,
        **options,
    )


def uploads(s3: S3, backend: ObstoreBackend) -> int:
    """How many multipart uploads are unfinished in the bucket."""
    with urllib.request.urlopen(f"{s3.endpoint}/{backend.store.config['bucket']}?uploads", timeout=30) as answer:
        count: int = answer.read().count(b"<Upload>")
        return count


class TestMemory(CopyContract, DescribeContract, OrderContract):
    @pytest.fixture
    def backend(self) -> ObstoreBackend:
        return ObstoreBackend("contract", "memory://")


class TestMemoryWithPrefix(CopyContract, DescribeContract, OrderContract):
    @pytest.fixture
    def backend(self) -> ObstoreBackend:
        store = MemoryStore()
        obstore.put(store, "outside", b"not listed")
        obstore.put(store, "some/prefixed", b"not listed either")
        return ObstoreBackend("contract", store, prefix="some/prefix")


class TestLocal(CopyContract, StagingContract):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> ObstoreBackend:
        return ObstoreBackend("contract", f"file://{tmp_path}/made/on the way", fsync=True)

    @in_its_world
    async def test_files_are_plain(self, backend: ObstoreBackend, world: World, tmp_path: Path) -> None:
        """An object is a file of its own name, and nothing else lies beside it, staged or failed."""
        driver = backend.driver(world)
        await put(driver, "a/é 100%.pdf", b"x")
        await put(driver, "a/streamed", stream(b"x" * 6 * MiB))
        with pytest.raises(RuntimeError):
            await put(driver, "a/failed", stream(b"x" * 6 * MiB, error=RuntimeError()))
        for again in (b"y", stream(b"y" * 6 * MiB)):
            with pytest.raises(ObjectExists):
                await put(driver, "a/streamed", again)
        assert sorted(os.listdir(tmp_path / "made/on the way/a")) == ["streamed", "é 100%.pdf"]

    @in_its_world
    async def test_staged_files_are_not_listed(self, backend: ObstoreBackend, world: World, tmp_path: Path) -> None:
        """What a killed process left is no object, and no object may be called so."""
        for name in ("left#1", ".lading-0123456789abcdef"):
            (tmp_path / "made/on the way" / name).write_bytes(b"half")
        driver = backend.driver(world)
        assert await paths(driver) == []
        with pytest.raises(StoreError):
            await put(driver, "left#1", b"")

    @in_its_world
    async def test_etag(self, backend: ObstoreBackend, world: World) -> None:
        """A put answers the etag that a look at the file gives afterwards, small file or stream."""
        driver = backend.driver(world)
        small = await driver.put("small", b"x", size=1, overwrite=False, attributes=Attributes())
        body = stream(*[b"x" * 2**20] * 6)
        large = await driver.put("large", body, size=None, overwrite=False, attributes=Attributes())
        assert small.etag == (await driver.head("small")).etag
        assert large.etag == (await driver.head("large")).etag

    @in_its_world
    async def test_fsync_reaches_file_and_directories(
        self, backend: ObstoreBackend, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With `fsync` the file, its new directories and the root are synced before a put returns."""
        synced: list[str] = []
        real = os.fsync

        def fsync(descriptor: int) -> None:
            synced.append(os.readlink(f"/proc/self/fd/{descriptor}").rpartition("on the way")[2])
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        await put(backend.driver(world), "a/b/c", b"x")
        assert synced == ["/a/b/c", "/a/b", "/a", ""]

    @in_its_world
    @pytest.mark.parametrize("overwrite", [False, True])
    async def test_a_copy_is_a_file_of_its_own(
        self, backend: ObstoreBackend, world: World, tmp_path: Path, overwrite: bool
    ) -> None:
        """A copy is as old as it is, not as its original, and shares nothing with it; the directory is made."""
        driver = backend.driver(world)
        assert isinstance(driver, Copies)
        await put(driver, "a", b"x")
        original, copied = (tmp_path / "made/on the way" / each for each in ("a", "d/b"))
        os.utime(original, (0, 0))
        await driver.copy("a", "d/b", overwrite=overwrite)
        assert time.time() - (await driver.head("d/b")).last_modified < 60
        assert original.stat().st_nlink == copied.stat().st_nlink == 1
        assert os.listdir(copied.parent) == ["b"]

    @in_its_world
    async def test_a_copy_that_fails_leaves_nothing(
        self, backend: ObstoreBackend, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Neither one whose name is taken, nor one half-way, nor one of nothing, which makes no directory."""
        driver = backend.driver(world)
        assert isinstance(driver, Copies)
        await put(driver, "a", b"x")
        await put(driver, "b", b"y")
        with pytest.raises(ObjectExists):
            await driver.copy("a", "b")
        with pytest.raises(ObjectNotFound):
            await driver.copy("none", "d/b")

        def half(source: str, target: str) -> None:
            Path(target).write_bytes(b"half")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(shutil, "copyfile", half)
        with pytest.raises(StoreError, match="No space"):
            await driver.copy("a", "c")
        assert sorted(os.listdir(tmp_path / "made/on the way")) == ["a", "b"]
        assert await driver.get("b") == b"y"

    async def test_a_copy_that_is_cancelled(
        self, backend: ObstoreBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is not abandoned: it comes to its end, and then a new name is given up again."""
        driver = backend.driver(worlds.asyncio_world)
        assert isinstance(driver, Copies)
        await put(driver, "a", b"x")
        begun, go_on = threading.Event(), threading.Event()
        real = shutil.copyfile

        def slowly(source: str, target: str) -> None:
            begun.set()
            go_on.wait(10)
            real(source, target)

        monkeypatch.setattr(shutil, "copyfile", slowly)
        copying = asyncio.ensure_future(driver.copy("a", "b"))
        await asyncio.to_thread(begun.wait)
        copying.cancel()
        await asyncio.sleep(0.05)
        assert not copying.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await copying
        assert os.listdir(tmp_path / "made/on the way") == ["a"]

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs another user to be")
    def test_denied(self, backend: ObstoreBackend, tmp_path: Path) -> None:
        """A directory that may not be entered is `AccessDenied`, whatever is asked."""
        worlds.run(put(backend.driver(worlds.inline), "a/b", b"x"))
        root = tmp_path / "made/on the way/a"
        root.chmod(0)
        for place in (tmp_path, *tmp_path.parents[:-1]):
            place.chmod(place.stat().st_mode | stat.S_IXOTH)
        os.seteuid(65534)
        try:
            driver = backend.driver(worlds.inline)
            for attempt in (driver.get("a/b"), joined(driver, "a/b"), put(driver, "a/c", b"")):
                with pytest.raises((AccessDenied, StoreError)) as caught:
                    worlds.run(attempt)
                assert "b" in caught.value.path or "c" in caught.value.path
        finally:
            os.seteuid(0)
            root.chmod(0o700)


class TestS3(CopyContract, DescribeContract, OrderContract):
    @pytest.fixture
    def backend(self, s3: S3) -> ObstoreBackend:
        return on_s3(s3)

    @in_its_world
    async def test_small_content_is_one_request(self, s3: S3, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """A put of whole content asks the store once, and its answer has the etag."""
        backend = on_s3(s3)
        calls: list[str] = []

        def counted(name: str) -> Any:
            real = getattr(obstore, name)

            def call(*args: Any, **kwargs: Any) -> Any:
                calls.append(name)
                return real(*args, **kwargs)

            return call

        for name in ("put", "put_async", "head", "head_async", "get", "get_async"):
            monkeypatch.setattr(obstore, name, counted(name))
        stored = await backend.driver(world).put("a", b"1", size=1, overwrite=False, attributes=Attributes())
        assert len(calls) == 1
        assert stored.etag == (await backend.driver(world).head("a")).etag is not None

    @in_its_world
    async def test_failed_streams_leave_no_upload(self, s3: S3, backend: ObstoreBackend, world: World) -> None:
        """A multipart upload whose body raises is aborted."""
        for overwrite in (False, True):
            with pytest.raises(RuntimeError):
                body = stream(b"x" * 6 * MiB, b"x" * 6 * MiB, error=RuntimeError())
                await put(backend.driver(world), "it", body, overwrite=overwrite)
        assert uploads(s3, backend) == 0

    @pytest.mark.parametrize("waiting", [True, False], ids=["in the body", "in the store"])
    def test_cancelled_streams_leave_no_upload(self, s3: S3, backend: ObstoreBackend, waiting: bool) -> None:
        """A multipart upload that is cancelled is aborted, whichever side it waited for."""

        async def act() -> None:
            started = asyncio.Event()

            async def body() -> AsyncIterator[bytes]:
                for _ in range(20):
                    yield b"x" * 5 * MiB
                    started.set()
                    if waiting:
                        await asyncio.sleep(60)

            upload = asyncio.ensure_future(put(backend.driver(worlds.asyncio_world), "it", body()))
            await started.wait()
            assert uploads(s3, backend) in (0, 1)
            await asyncio.sleep(0.05)
            upload.cancel()
            with pytest.raises(asyncio.CancelledError):
                await upload
            assert await paths(backend.driver(worlds.asyncio_world)) == []

        asyncio.run(act())
        assert uploads(s3, backend) == 0

    @in_its_world
    async def test_a_missing_bucket_is_no_missing_object(self, s3: S3, world: World) -> None:
        """A bucket that is not there is never taken for objects that are not there."""
        driver = on_s3(s3, bucket="not-there").driver(world)
        for attempt in (
            put(driver, "a", b""),
            put(driver, "a", stream(b"")),
            driver.get("a"),
            driver.delete(["a"]),
            driver.delete(["a", "b"]),
            paths(driver),
        ):
            with pytest.raises(StoreError) as caught:
                await attempt
            assert not isinstance(caught.value, FileNotFoundError)

    @in_its_world
    async def test_no_secret_in_what_is_shown(self, s3: S3, world: World) -> None:
        """Neither `repr` nor an error shows credentials or an address."""
        backend = on_s3(s3, bucket="not-there")
        with pytest.raises(StoreError) as caught:
            await backend.driver(world).get("a")
        for shown in (repr(backend), str(caught.value)):
            assert s3.secret_access_key not in shown
            assert s3.endpoint not in shown
        assert repr(backend) == "<ObstoreBackend 'contract': s3://not-there/some/prefix>"

    @in_its_world
    async def test_signed_urls(self, backend: ObstoreBackend, world: World) -> None:
        """A signed GET reads, and a signed PUT writes."""
        driver = backend.driver(world)
        assert isinstance(driver, Signs)
        await put(driver, "a/ü b", b"hello")
        url = await driver.sign("a/ü b", method="GET", expires_in=60)
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert answer.read() == b"hello"
        url = await driver.sign("new", method="PUT", expires_in=60)
        urllib.request.urlopen(
            urllib.request.Request(url, b"put", {"Content-Type": "a/b"}, method="PUT"), timeout=30
        ).close()
        assert await driver.get("new") == b"put"

    def test_the_seeds_call_works(self, s3: S3) -> None:
        """The keyword call of the guide, with a plain-http endpoint and no further options, stores."""
        backend = ObstoreBackend(
            key="local",
            fs=f"s3://{s3.make_bucket()}/",
            aws_endpoint=s3.endpoint,
            aws_access_key_id="minioadmin",
            aws_secret_access_key="minioadmin",
        )
        worlds.run(put(backend.driver(worlds.inline), "a", b"1"))
        assert worlds.run(backend.driver(worlds.inline).get("a")) == b"1"


class TestAttributes:
    @pytest.fixture(params=["memory", "s3"])
    def backend(self, request: pytest.FixtureRequest) -> ObstoreBackend:
        return ObstoreBackend("a", "memory://") if request.param == "memory" else on_s3(request.getfixturevalue("s3"))

    @pytest.fixture(params=[worlds.inline, worlds.asyncio_world], ids=["inline", "asyncio"])
    def world(self, request: pytest.FixtureRequest) -> World:
        chosen: World = request.param
        return chosen

    @in_its_world
    async def test_they_travel(self, backend: ObstoreBackend, world: World) -> None:
        """Type, disposition and metadata that fits into headers are stored with whole, streamed and copied objects."""
        driver = backend.driver(world)
        assert isinstance(driver, Copies)
        await driver.put("whole", b"1", size=1, overwrite=False, attributes=ALL)
        await driver.put("stream", stream(b"1"), size=None, overwrite=False, attributes=ALL)
        await driver.copy("whole", "copy")
        for path in ("whole", "stream", "copy"):
            assert obstore.get(backend.store, path).attributes == {
                "Content-Type": "image/png",
                "Content-Disposition": 'inline; filename="a.png"',
                "title": "plain",
            }

    @in_its_world
    async def test_what_no_header_can_hold_is_dropped(self, backend: ObstoreBackend, world: World) -> None:
        """Values that would break a request, or are too many, are left out, and the object is stored."""
        metadata = {f"k{number}": "v" * 400 for number in range(20)} | {"a b": "x", "line": "a\r\nX-Evil: 1", "": "x"}
        attributes = Attributes("text/\u2028", 'inline; filename="ü"', metadata)
        driver = backend.driver(world)
        await driver.put("it", b"1", size=1, overwrite=False, attributes=attributes)
        kept = obstore.get(backend.store, "it").attributes
        assert {name for name in kept if name != "Content-Type"} == {"k0", "k1", "k2", "k3"}


DEFAULTS: dict[str, Any] = {"key": "k", "fs": "memory://"}


class TestConfiguration:
    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            ({"key": ""}, "key"),
            ({"key": None}, "key"),
            ({"fs": "uploads"}, "file:///srv/files"),
            ({"fs": "nope://x"}, "nope"),
            ({"fs": "file://relative/x"}, "three slashes"),
            ({"fs": object()}, "object"),
            ({"fs": MemoryStore(), "region": "x"}, "region"),
            ({"region": "x"}, "region"),
            ({"fs": "file:///tmp", "mkdirs": True}, "mkdirs"),
            ({"fs": "s3://b", "aws_regoin": "x"}, "aws_regoin"),
            ({"fs": "s3://b", "client_options": {"time_out": "1s"}}, "time_out"),
            ({"fs": "s3://b", "aws_allow_http": "true"}, "aws_allow_http"),
            ({"prefix": "../x"}, "prefix"),
            ({"trust": "always"}, "content, reject, claim"),
            ({"checksum": "crc"}, "crc"),
            ({"checksum": "shake_128"}, "shake_128"),
            ({"chunk_size": 0}, "chunk_size"),
            ({"chunk_size": 1.5}, "chunk_size"),
            ({"fs": "s3://b", "chunk_size": MiB}, "5242880"),
            ({"fsync": True}, "fsync"),
            ({"rules": ["no"]}, "'no'"),
            ({"path": "no"}, "'no'"),
        ],
    )
    def test_mistakes_are_named(self, arguments: dict[str, Any], named: str) -> None:
        """A wrong argument is refused when the backend is made, by name."""
        with pytest.raises(ConfigurationError, match=named) as caught:
            ObstoreBackend(**{**DEFAULTS, **arguments})
        assert "\n" not in str(caught.value)

    def test_what_it_says_of_itself(self) -> None:
        """A backend says what it was made with."""
        rule, maker = max_size(5), lambda candidate: "x"
        backend = ObstoreBackend("k", "memory://", rules=[rule], path=maker, trust="claim", checksum=None, chunk_size=7)
        assert (backend.key, backend.protocol, backend.rules) == ("k", "memory", (rule,))
        assert (backend.path_maker, backend.trust, backend.checksum, backend.chunk_size) == (maker, "claim", None, 7)
        assert ObstoreBackend("k", "gs://bucket").protocol == "gs"
        assert ObstoreBackend("k", "az://container", account_name="a").protocol == "az"

    def test_only_cloud_stores_sign(self, tmp_path: Path) -> None:
        """What has no signed URLs does not seem to have them."""
        for fs in ("memory://", f"file://{tmp_path}"):
            assert not isinstance(ObstoreBackend("k", fs).driver(worlds.inline), Signs)
        assert isinstance(ObstoreBackend("k", "gs://bucket").driver(worlds.asyncio_world), Signs)

    def test_equal_when_one_place(self, tmp_path: Path) -> None:
        """Two backends are equal when key and place are, and a memory store is a place of its own."""
        url = f"file://{tmp_path}"
        assert ObstoreBackend("k", url) == ObstoreBackend("k", url, rules=[max_size(1)])
        assert len({ObstoreBackend("k", url), ObstoreBackend("k", url)}) == 1
        assert ObstoreBackend("k", url) != ObstoreBackend("other", url)
        assert ObstoreBackend("k", url) != ObstoreBackend("k", url, prefix="p")
        assert ObstoreBackend("k", "memory://") != ObstoreBackend("k", "memory://")
        assert ObstoreBackend("k", url) != "k"

    def test_prefixes_of_memory_urls(self) -> None:
        """The path of a memory URL is a prefix, as that of any other URL."""
        backend = ObstoreBackend("k", "memory:///a/b/", prefix="c")
        assert backend.prefix == "a/b/c"
        assert repr(backend) == "<ObstoreBackend 'k': memory://a/b/c>"

    def test_parts_grow_with_the_size(self) -> None:
        """An announced size never needs more parts than stores allow."""
        backend = ObstoreBackend("k", "memory://")
        assert backend.part_size(None) == backend.part_size(MiB) == 5 * MiB
        assert 10 * 2**40 / backend.part_size(10 * 2**40) <= 9_000

    def test_not_picklable(self) -> None:
        """A backend refuses to be pickled and says what to do instead."""
        with pytest.raises(NotSupported, match="register it"):
            pickle.dumps(ObstoreBackend("k", "memory://"))

    def test_an_unreachable_store(self) -> None:
        """A store that does not answer is a `StoreError`, in one line and without an address."""
        backend = ObstoreBackend(
            "k",
            "s3://b",
            aws_endpoint="http://127.0.0.1:1",
            aws_access_key_id="a",
            aws_secret_access_key="b",
            retry_config={"max_retries": 0},
        )
        with pytest.raises(StoreError) as caught:
            worlds.run(backend.driver(worlds.inline).get("a"))
        assert "127.0.0.1" not in str(caught.value)

    def test_reads_are_in_pieces(self, tmp_path: Path) -> None:
        """A stream of a local file holds no more than a piece of it."""
        driver = ObstoreBackend("k", f"file://{tmp_path}").driver(worlds.inline)
        worlds.run(put(driver, "big", b"x" * 3 * MiB))
        assert [len(chunk) for chunk in worlds.iterate(driver.read("big", 1))] == [MiB, MiB, MiB - 1]

    def test_a_prefix_holds_for_every_verb(self) -> None:
        """Nothing outside the prefix can be named."""
        store = MemoryStore()
        driver = ObstoreBackend("k", store, prefix=uuid4().hex).driver(worlds.inline)
        obstore.put(store, "outside", b"secret")
        for path in ("../outside", "a/../../outside", "/outside", "..\\outside", "%2e%2e/outside"):
            with pytest.raises(InvalidPath):
                worlds.run(driver.get(path))


def test_a_body_that_reads_from_obstore_itself(tmp_path: Path) -> None:
    """A stream into one store may be a stream out of another: obstore's runtime is not entered twice."""
    origin = ObstoreBackend("origin", "memory://").driver(worlds.inline)
    target = ObstoreBackend("target", str(tmp_path.as_uri())).driver(worlds.inline)
    content = b"0123456789abcdef" * 2**20
    worlds.run(origin.put("a", content, size=None, overwrite=False, attributes=Attributes()))
    for driver in (target, origin):
        body = origin.read("a")
        worlds.run(driver.put("b", body, size=None, overwrite=False, attributes=Attributes()))
        assert worlds.run(driver.get("b")) == content
