"""Tests of the fsspec backend: the contract on memory, local disk, S3 and a filesystem it does not know."""

# fsspec has no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportPrivateUsage=false, reportUntypedBaseClass=false

import asyncio
import importlib
import os
import shutil
import sys
import threading
import urllib.request
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pytest
from fsspec import AbstractFileSystem
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

from lading import worlds
from lading.backends.fsspec import FSSpecBackend
from lading.backends.protocols import Attributes, Signs
from lading.errors import ConfigurationError, InvalidPath, MissingDependency, NotSupported, StoreError
from lading.testing.backends import in_its_world, paths, put, stream
from lading.testing.capabilities import CopyContract, StagingContract
from lading.worlds import World
from tests.services.moto import S3

MiB = 2**20


def on_s3(s3: S3, *, key: str = "contract", bucket: str = "", **options: Any) -> FSSpecBackend:
    return FSSpecBackend(
        key,
        f"s3://{bucket or s3.make_bucket()}/some/prefix",
        endpoint_url=s3.endpoint,
        secret=s3.secret_access_key,
        client_kwargs={"region_name": s3.region},
        username=s3.access_key_id,
        **options,
    )


class Unknown(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A filesystem with nothing but the general interface, in a directory."""

    protocol = "unknown"
    root_marker = "/"

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:
        return LocalFileSystem().ls(path, detail=detail)

    def info(self, path: str, **kwargs: Any) -> Any:
        return LocalFileSystem().info(path)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        os.makedirs(path, exist_ok=exist_ok)

    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        shutil.copyfile(path1, path2)

    def _rm(self, path: str) -> None:
        os.remove(path)

    def _open(self, path: str, mode: str = "rb", *args: Any, **kwargs: Any) -> Any:
        return open(path, mode)


class TestMemory(CopyContract):
    @pytest.fixture
    def backend(self) -> FSSpecBackend:
        return FSSpecBackend("contract", f"memory://{uuid4().hex}")


class TestLocal(CopyContract, StagingContract):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> FSSpecBackend:
        return FSSpecBackend("contract", f"file://{tmp_path}/on the way", fsync=True)

    @in_its_world
    async def test_files_are_plain(self, backend: FSSpecBackend, world: World, tmp_path: Path) -> None:
        """An object is a file of its own name with the usual mode, and nothing else lies beside it."""
        driver = backend.driver(world)
        await put(driver, "a/é 100%.pdf", b"x")
        await put(driver, "a/streamed", stream(b"x" * 6 * MiB))
        with pytest.raises(RuntimeError):
            await put(driver, "a/failed", stream(b"x" * 6 * MiB, error=RuntimeError()))
        with pytest.raises(FileExistsError):
            await put(driver, "a/streamed", b"x")
        assert sorted(os.listdir(tmp_path / "on the way/a")) == ["streamed", "é 100%.pdf"]
        mask = os.umask(0)
        os.umask(mask)
        assert (tmp_path / "on the way/a/streamed").stat().st_mode & 0o777 == 0o666 & ~mask

    @in_its_world
    async def test_staged_files_are_not_listed(self, backend: FSSpecBackend, world: World, tmp_path: Path) -> None:
        """What a killed process left is no object."""
        driver = backend.driver(world)
        await put(driver, "a", b"")
        (tmp_path / "on the way/.lading-0123456789abcdef").write_bytes(b"half")
        assert await paths(driver) == ["a"]

    @in_its_world
    async def test_fsync_reaches_file_and_directories(
        self, backend: FSSpecBackend, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With `fsync` the file, its new directories and the root are synced before a put returns."""
        synced: list[str] = []
        real = os.fsync

        def fsync(descriptor: int) -> None:
            synced.append(os.readlink(f"/proc/self/fd/{descriptor}").rpartition("on the way")[2])
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        await put(backend.driver(world), "a/b/c", b"x")
        assert synced[0].startswith("/a/b/.lading-")
        assert synced[1:] == ["/a/b", "/a", ""]


class TestDirectory(CopyContract, StagingContract):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> FSSpecBackend:
        fs = DirFileSystem(path=str(tmp_path), fs=LocalFileSystem())
        return FSSpecBackend("contract", fs, prefix="below")


class TestUnknown(CopyContract):
    overwrites_whole_or_not = False
    creates_atomically = False

    @pytest.fixture
    def backend(self, tmp_path: Path) -> FSSpecBackend:
        return FSSpecBackend("contract", Unknown(), prefix=str(tmp_path))


class TestS3(CopyContract):
    @pytest.fixture
    def backend(self, s3: S3) -> FSSpecBackend:
        return on_s3(s3)

    def uploads(self, s3: S3, backend: FSSpecBackend) -> int:
        with urllib.request.urlopen(f"{s3.endpoint}/{backend.prefix.partition('/')[0]}?uploads", timeout=30) as answer:
            count: int = answer.read().count(b"<Upload>")
            return count

    @in_its_world
    async def test_failed_streams_leave_no_upload(self, s3: S3, backend: FSSpecBackend, world: World) -> None:
        """A multipart upload whose body raises, or whose name is taken, is aborted."""
        driver = backend.driver(world)
        for overwrite in (False, True):
            with pytest.raises(RuntimeError):
                body = stream(b"x" * 6 * MiB, b"x" * 6 * MiB, error=RuntimeError())
                await put(driver, "it", body, overwrite=overwrite)
        await put(driver, "taken", b"")
        with pytest.raises(FileExistsError):
            await put(driver, "taken", stream(b"x" * 6 * MiB))
        assert self.uploads(s3, backend) == 0

    @in_its_world
    async def test_attributes_travel(self, backend: FSSpecBackend, world: World) -> None:
        """Type, disposition and metadata are stored with whole, small, large and copied objects."""
        driver: Any = backend.driver(world)
        attributes = Attributes("image/png", "inline", {"title": "plain", "bad": "ü"})
        await driver.put("whole", b"1", size=1, overwrite=False, attributes=attributes)
        await driver.put("little", stream(b"1"), size=None, overwrite=False, attributes=attributes)
        await driver.put("much", stream(b"1" * 6 * MiB), size=None, overwrite=False, attributes=attributes)
        await driver.copy("whole", "copy")
        for path in ("whole", "little", "much", "copy"):
            url = await driver.sign(path, method="GET", expires_in=60)
            with urllib.request.urlopen(url, timeout=30) as answer:
                assert answer.headers["Content-Type"] == "image/png"
                assert answer.headers["Content-Disposition"] == "inline"
                assert answer.headers["x-amz-meta-title"] == "plain"
                assert answer.headers["x-amz-meta-bad"] is None

    @in_its_world
    async def test_small_content_is_one_request(self, s3: S3, world: World) -> None:
        """The etag comes with the answer to a put."""
        driver = on_s3(s3).driver(world)
        stored = await driver.put("a", b"1", size=1, overwrite=False, attributes=Attributes())
        assert stored.etag == (await driver.head("a")).etag is not None

    @in_its_world
    async def test_signed_urls(self, backend: FSSpecBackend, world: World) -> None:
        """A signed GET reads, and a signed PUT writes; both by version 4 of the signature."""
        driver = backend.driver(world)
        assert isinstance(driver, Signs)
        await put(driver, "a b", b"hello")
        url = await driver.sign("a b", method="GET", expires_in=60)
        assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in url
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert answer.read() == b"hello"
        url = await driver.sign("new", method="PUT", expires_in=60)
        urllib.request.urlopen(
            urllib.request.Request(url, b"put", {"Content-Type": "a/b"}, method="PUT"), timeout=30
        ).close()
        assert await driver.get("new") == b"put"

    @in_its_world
    async def test_a_missing_bucket_is_no_missing_object(self, s3: S3, world: World) -> None:
        """A bucket that is not there is never taken for objects that are not there."""
        driver = on_s3(s3, bucket="not-there").driver(world)
        for attempt in (put(driver, "a", b""), put(driver, "a", stream(b"x")), driver.delete(["a"])):
            with pytest.raises(StoreError) as caught:
                await attempt
            assert not isinstance(caught.value, FileNotFoundError)

    @in_its_world
    async def test_listings_are_not_cached(self, s3: S3, world: World) -> None:
        """What another client stores or deletes is seen at once."""
        bucket = s3.make_bucket()
        one, two = on_s3(s3, bucket=bucket).driver(world), on_s3(s3, bucket=bucket, max_paths=1).driver(world)
        await put(one, "d/a", b"1")
        assert await paths(two, "d") == ["d/a"]
        await put(one, "d/b", b"22")
        assert (await two.head("d/b")).size == 2
        await one.delete(["d/a"])
        assert await paths(two, "d") == ["d/b"]
        with pytest.raises(FileNotFoundError):
            await two.head("d/a")

    @in_its_world
    async def test_versions_are_not_named_by_paths(self, backend: FSSpecBackend, world: World) -> None:
        """A path that s3fs would cut is refused, since it would name another object."""
        for path in ("a?versionId=1", "a?VERSIONID=1"):
            with pytest.raises(InvalidPath, match="version"):
                await put(backend.driver(world), path, b"")


DEFAULTS: dict[str, Any] = {"key": "k", "fs": "memory://"}


class TestConfiguration:
    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            ({"key": ""}, "key"),
            ({"fs": "uploads"}, "uploads"),
            ({"fs": "simplecache::s3://b"}, "one URL"),
            ({"fs": "nope://x"}, "nope"),
            ({"fs": object()}, "object"),
            ({"fs": MemoryFileSystem(), "region": "x"}, "region"),
            ({"fs": LocalFileSystem()}, "absolute"),
            ({"fs": LocalFileSystem(), "prefix": "relative"}, "absolute"),
            ({"fs": LocalFileSystem(), "prefix": "/a/../b"}, "prefix"),
            ({"prefix": "../x"}, "prefix"),
            ({"prefix": "/x"}, "prefix"),
            ({"fs": "memory://a/../b"}, "prefix"),
            ({"fsync": True}, "fsync"),
            ({"fs": "s3://"}, "bucket"),
        ],
    )
    def test_mistakes_are_named(self, arguments: dict[str, Any], named: str) -> None:
        """A wrong argument is refused when the backend is made, by name."""
        with pytest.raises(ConfigurationError, match=named):
            FSSpecBackend(**{**DEFAULTS, **arguments})

    def test_asynchronous_filesystems_are_refused(self) -> None:
        """A filesystem that belongs to one loop cannot serve both worlds."""
        fs = fsspec.filesystem("s3", asynchronous=True, anon=True)
        with pytest.raises(ConfigurationError, match="asynchronous"):
            FSSpecBackend("k", fs, prefix="bucket")

    @pytest.mark.parametrize(("scheme", "extra"), [("gs", "gcs"), ("abfs", "azure"), ("s3", "s3")])
    def test_a_missing_package_is_named(self, scheme: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without the package for a URL the error is the line that installs it."""
        for name in ("gcsfs", "adlfs", "s3fs"):
            monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.delitem(_registry, scheme, raising=False)
        with pytest.raises(MissingDependency, match=rf"pip install 'lading\[{extra}\]'"):
            FSSpecBackend("k", f"{scheme}://bucket")

    def test_fsspec_itself_may_be_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without fsspec the module says how to install it."""
        monkeypatch.setitem(sys.modules, "fsspec", None)
        monkeypatch.delitem(sys.modules, "lading.backends.fsspec")
        with pytest.raises(MissingDependency, match=r"lading\[fsspec\]"):
            importlib.import_module("lading.backends.fsspec")

    def test_a_filesystem_of_memory(self) -> None:
        """A filesystem may be handed in, and its prefix may begin with a slash or not."""
        name = uuid4().hex
        one = FSSpecBackend("k", MemoryFileSystem(), prefix=name)
        two = FSSpecBackend("k", MemoryFileSystem(), prefix=f"/{name}/")
        worlds.run(put(one.driver(worlds.inline), "a", b"1"))
        assert worlds.run(two.driver(worlds.inline).get("a")) == b"1"
        assert one == two
        assert MemoryFileSystem().cat_file(f"/{name}/a") == b"1"
        assert not isinstance(one.driver(worlds.inline), Signs)

    def test_azure_signs_only_reads(self) -> None:
        """A signed upload that adlfs cannot make is refused by name."""

        class Azure(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
            protocol = "abfs"

        driver = FSSpecBackend("k", Azure(), prefix="container").driver(worlds.inline)
        assert isinstance(driver, Signs)
        with pytest.raises(NotSupported):
            worlds.run(driver.sign("a", method="PUT", expires_in=1))

    def test_the_loop_is_never_blocked(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Under asyncio no call of the filesystem runs in the thread of the loop."""
        seen: set[bool] = set()
        backend = FSSpecBackend("k", f"file://{tmp_path}")
        for name in ("cat_file", "info", "find", "rm_file"):
            real = getattr(backend.store, name)

            def call(*args: Any, real: Any = real, **kwargs: Any) -> Any:
                seen.add(threading.current_thread() is threading.main_thread())
                return real(*args, **kwargs)

            monkeypatch.setattr(backend.store, name, call)

        async def act() -> None:
            driver = backend.driver(worlds.asyncio_world)
            await put(driver, "a", b"1")
            await driver.get("a")
            await driver.head("a")
            assert [chunk async for chunk in driver.read("a")] == [b"1"]
            assert await paths(driver) == ["a"]
            await driver.delete(["a"])

        asyncio.run(act())
        assert seen == {False}
