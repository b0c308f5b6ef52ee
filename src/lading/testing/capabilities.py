"""What a backend must do that can more than every backend: a class of tests for each capability of its drivers.

Each asks for all that `lading.testing.backends.BackendContract` does, too. A class inherits from as many as its drivers
have capabilities:

```python
class TestMine(CopyContract, OrderContract):
    @pytest.fixture
    def backend(self):
        return MyBackend("mine")
```
"""

from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest

from lading.backends.protocols import Attributes, Copies, Describes, ListsInOrder, Stages, StorageBackend
from lading.errors import InvalidPath, ObjectExists, ObjectNotFound
from lading.testing.backends import ESCAPES, NAMES, BackendContract, MiB, in_its_world, paths, put, stream
from lading.worlds import World


class CopyContract(BackendContract):
    """What a driver that `Copies` must do besides."""

    capability: ClassVar[type | None] = Copies

    @in_its_world
    async def test_copy(self, driver: Any, world: World) -> None:
        """A copy is a second object, create-only unless asked otherwise; the first stays."""
        await put(driver, "a/one", b"one")
        await put(driver, "two", b"two")
        await driver.copy("a/one", "b/copy")
        assert await driver.get("b/copy") == await driver.get("a/one") == b"one"
        with pytest.raises(ObjectExists):
            await driver.copy("two", "b/copy")
        assert await driver.get("b/copy") == b"one"
        await driver.copy("two", "b/copy", overwrite=True)
        assert await driver.get("b/copy") == b"two"

    @pytest.mark.parametrize("path", ["no", "no/such/object", "there/below"])
    @in_its_world
    async def test_a_copy_of_what_is_missing(
        self, backend: StorageBackend, driver: Any, world: World, path: str
    ) -> None:
        """Where there is nothing to copy the error names it, and the name of the copy stays free."""
        await put(driver, "there", b"a file, not a directory")
        with pytest.raises(ObjectNotFound) as caught:
            await driver.copy(path, "copy")
        assert (caught.value.backend, caught.value.path) == (backend.key, path)
        assert await paths(driver) == ["there"]
        await put(driver, "copy", b"still free")

    @pytest.mark.parametrize("name", NAMES)
    @in_its_world
    async def test_copies_of_any_name(self, driver: Any, world: World, name: str) -> None:
        """A name in any script, with any punctuation, can be copied from and to."""
        await put(driver, f"weird/{name}", b"1234")
        await driver.copy(f"weird/{name}", f"copied/{name}")
        assert await paths(driver, "copied") == [f"copied/{name}"]
        assert await driver.get(f"copied/{name}") == b"1234"

    @pytest.mark.parametrize("path", ESCAPES)
    @in_its_world
    async def test_no_copy_escapes(self, driver: Any, world: World, path: str) -> None:
        """A path that could lead out of the backend is refused, as source and as target."""
        await put(driver, "ok", b"")
        for source, target in ((path, "b"), ("ok", path)):
            with pytest.raises(InvalidPath):
                await driver.copy(source, target)
        assert await paths(driver) == ["ok"]


class DescribeContract(BackendContract):
    """What a driver that `Describes` must do besides."""

    capability: ClassVar[type | None] = Describes

    @in_its_world
    async def test_what_travels(self, driver: Any, world: World) -> None:
        """Type, disposition and metadata come back as they were put, of whole, streamed, empty and copied objects."""
        given = Attributes("image/png", 'inline; filename="a b.png"', {"title": "a plain one", "by": "somebody"})
        bodies = {"whole": b"1", "empty": b"", "little": stream(b"1"), "much": stream(b"1" * 6 * MiB)}
        for path, body in bodies.items():
            await driver.put(path, body, size=None, overwrite=False, attributes=given)
        store: Any = driver
        if isinstance(driver, Copies):
            for path in ("whole", "much"):
                await driver.copy(path, f"copied/{path}")
        for path in await paths(store):
            assert await store.attributes(path) == given

    @in_its_world
    async def test_what_nobody_gave(self, driver: Any, world: World) -> None:
        """An object that is put without any has none, but for a type of the store's; none of what it replaces stays."""
        given = Attributes("image/png", "inline", {"title": "old"})
        await driver.put("it", b"1", size=1, overwrite=False, attributes=given)
        for _ in range(2):
            await driver.put("it", b"2", size=1, overwrite=True, attributes=Attributes())
            found = await driver.attributes("it")
            assert (found.content_disposition, dict(found.metadata)) == (None, {})
            assert found.content_type != "image/png"

    @in_its_world
    async def test_what_is_not_there(self, backend: StorageBackend, driver: Any, world: World) -> None:
        """Where nothing lies the error names it, and a path that could lead out of the backend is refused."""
        await put(driver, "there/below", b"x")
        for path in ("no", "no/such", "there"):
            with pytest.raises(ObjectNotFound) as caught:
                await driver.attributes(path)
            assert (caught.value.backend, caught.value.path) == (backend.key, path)
        for path in ESCAPES:
            with pytest.raises(InvalidPath):
                await driver.attributes(path)


class OrderContract(BackendContract):
    """What a driver that `ListsInOrder` must do besides."""

    capability: ClassVar[type | None] = ListsInOrder

    @in_its_world
    async def test_the_order(self, driver: Any, world: World) -> None:
        """Objects come in the order of the UTF-8 bytes of their paths, below a prefix and after a path."""
        # U+FFFD is before U+10000 in UTF-8 and behind it in UTF-16; a slash is before `0` and behind `-`.
        ordered = ["A", "a", "a-b", "a/b", "a/b-c", "a/b/c", "a/b0", "a0", "b", "\u00e9", "\ufffd", "\U00010000"]
        there = [path for path in ordered if path not in ("a", "a/b")]
        for path in reversed(there):
            await put(driver, path, b"x")

        async def listed(prefix: str = "", after: str = "") -> list[str]:
            return [info.path async for info in driver.list_in_order(prefix, after=after)]

        assert await listed() == there
        for path in ordered:
            assert await listed(after=path) == [each for each in there if each.encode() > path.encode()]
        assert await listed("a") == await listed("a/") == ["a/b-c", "a/b/c", "a/b0"]
        assert await listed("a", after="a/b-c") == ["a/b/c", "a/b0"]
        assert await listed("a", after="Z") == ["a/b-c", "a/b/c", "a/b0"]
        assert await listed("a", after="b") == await listed("none") == []

    @in_its_world
    async def test_many_in_order(self, driver: Any, world: World) -> None:
        """More objects than a store lists at once come all, each once."""
        names = sorted(f"{number % 7}/{number}" for number in range(1100))
        await world.each(lambda name: put(driver, name, b"x"), names, limit=8)
        assert [info.path async for info in driver.list_in_order()] == names
        assert [info.path async for info in driver.list_in_order(after=names[1050])] == names[1051:]


class StagingContract(BackendContract):
    """What a driver that `Stages` must do besides. What a killed process leaves is for a test that kills one."""

    capability: ClassVar[type | None] = Stages

    @in_its_world
    async def test_nothing_is_left_aside(self, driver: Any, world: World) -> None:
        """What was stored, refused or broken off has left nothing aside."""
        await put(driver, "a/whole", b"x")
        await put(driver, "a/stream", stream(b"x" * 6 * MiB))
        with pytest.raises(ObjectExists):
            await put(driver, "a/whole", stream(b"y" * 6 * MiB))
        with pytest.raises(RuntimeError):
            await put(driver, "a/broken", stream(b"x" * 6 * MiB, error=RuntimeError()))
        assert [info.path async for info in driver.staged()] == []

    @in_its_world
    async def test_only_what_lies_aside_is_discarded(self, driver: Any, world: World) -> None:
        """An object, or what could be one, is no name that `discard` takes."""
        await put(driver, "a/b", b"x")
        for path in ("a/b", "a/none", *ESCAPES):
            with pytest.raises(InvalidPath):
                await driver.discard([path])
        await driver.discard([])
        assert await paths(driver) == ["a/b"]

    @in_its_world
    async def test_an_upload_under_way(self, driver: Any, world: World) -> None:
        """While a stream comes in, what lies aside for it can be seen there and nowhere else."""
        seen: list[str] = []

        async def body() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield b"x" * 6 * MiB
                seen.extend([info.path async for info in driver.staged("a")])
                assert await paths(driver) == []
                assert [info async for info in driver.staged("b")] == []

        await put(driver, "a/slow", body())
        assert seen
        assert await paths(driver) == ["a/slow"]
