"""What every backend must do, in both worlds, as classes of tests to inherit from: `pip install 'lading[testing]'`.

A test class that inherits from `BackendContract` and has a fixture `backend`, a fresh and empty one, runs it all. What
a driver can beyond the verbs that all have is asked by the contracts of `lading.testing.capabilities`.

No plugin of pytest is needed but the one that lading brings along; tests run in loops of their own.
"""

import asyncio
import functools
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, ClassVar

from lading import worlds
from lading.backends.protocols import Attributes, Copies, Describes, Driver, ListsInOrder, Stages, StorageBackend
from lading.errors import InvalidPath, MissingDependency, ObjectExists, ObjectNotFound, StoreError
from lading.worlds import World

try:
    import pytest
except ImportError as error:
    raise MissingDependency("pytest", "testing") from error

__all__ = ["BackendContract"]

MiB = 2**20
PLAIN = Attributes(content_type="text/plain")

NAMES = [
    "a b",
    "ü#?",
    "100%.pdf",
    "+",
    "a+b=c&d",
    "a..b",
    ".hidden",
    "[x]{y}*",
    "a::b",
    "日本語.pdf",
    "caf\u00e9",
    "cafe\u0301",
    "\"'`<>|^",
    "x" * 200,
]

ESCAPES = ["", "../x", "a/../x", "/x", "a//b", "a/%2e%2e/b", "a\\..\\b", "x\0"]


def in_its_world(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test in the world that it is given."""

    @functools.wraps(test)
    def run(self: Any, world: World, **fixtures: Any) -> None:
        coroutine = test(self, world=world, **fixtures)
        worlds.run(coroutine) if world is worlds.inline else asyncio.run(coroutine)

    return run


async def stream(*chunks: bytes, error: BaseException | None = None) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
    if error is not None:
        raise error


async def put(driver: Driver, path: str, body: Any, *, size: int | None = None, overwrite: bool = False) -> None:
    await driver.put(path, body, size=size, overwrite=overwrite, attributes=PLAIN)


async def paths(driver: Driver, prefix: str = "") -> list[str]:
    return sorted([info.path async for info in driver.list(prefix)])


async def joined(driver: Driver, path: str, start: int = 0, stop: int | None = None) -> bytes:
    return b"".join([chunk async for chunk in driver.read(path, start, stop)])


class BackendContract:
    """What every backend must do.

    A backend that cannot do better, and says so in its documentation, sets `overwrites_whole_or_not` to false when a
    failed overwrite destroys what was there, and `creates_atomically` when two writers of one name may both succeed.
    """

    overwrites_whole_or_not = True
    creates_atomically = True
    capability: ClassVar[type | None] = None

    @pytest.fixture(params=[worlds.inline, worlds.asyncio_world], ids=["inline", "asyncio"])
    def world(self, request: pytest.FixtureRequest) -> World:
        chosen: World = request.param
        return chosen

    @pytest.fixture
    def driver(self, backend: StorageBackend, world: World) -> Driver:
        return backend.driver(world)

    def test_it_is_a_backend(self, backend: StorageBackend, world: World) -> None:
        """A backend has all that the protocol names, and its driver for a world is always the same."""
        assert isinstance(backend, StorageBackend)
        assert isinstance(backend.driver(world), Driver)
        assert backend.driver(world) is backend.driver(world)

    def test_what_it_can_is_asked_for(self, driver: Driver) -> None:
        """The class inherits from the contract of each capability that the driver has, and from no other."""
        asked = {vars(kind).get("capability") for kind in type(self).__mro__}
        for capability in (Copies, Describes, ListsInOrder, Stages):
            can = isinstance(driver, capability)
            assert can == (capability in asked), f"see lading.testing.capabilities: {capability.__name__}"

    @pytest.mark.parametrize("content", [b"hello", bytearray(b"hello"), memoryview(b"-hello-")[1:-1]])
    @in_its_world
    async def test_whole_content_comes_back(self, driver: Driver, world: World, content: Any) -> None:
        """What was put whole is what is got, as bytes, whatever it was put as."""
        await put(driver, "a/b.txt", content)
        got = await driver.get("a/b.txt")
        assert got == b"hello"
        assert type(got) is bytes

    @in_its_world
    async def test_a_stream_comes_back(self, driver: Driver, world: World) -> None:
        """A stream of more than one part, in odd chunks, is stored in its order; empty chunks do no harm."""
        content = os.urandom(6 * MiB + 1)
        chunks = [content[: 3 * MiB], b"", content[3 * MiB : -1], content[-1:]]
        await put(driver, "big", stream(*chunks))
        assert await driver.get("big") == content
        assert await joined(driver, "big") == content

    @in_its_world
    async def test_chunks_may_be_views(self, driver: Driver, world: World) -> None:
        """A stream may be made of memoryviews."""

        async def views() -> AsyncIterator[memoryview]:
            yield memoryview(b"-ab")[1:]
            yield memoryview(b"cd")

        await put(driver, "views", views(), size=4)
        assert await driver.get("views") == b"abcd"

    @in_its_world
    async def test_empty_content(self, driver: Driver, world: World) -> None:
        """Nothing, whole or as a stream, is an object of no bytes, and a stream of nothing overwrites nothing."""
        await put(driver, "whole", b"")
        await put(driver, "stream", stream())
        for path in ("whole", "stream"):
            assert await driver.get(path) == b""
            assert await joined(driver, path) == b""
            assert (await driver.head(path)).size == 0
        await put(driver, "taken", b"mine")
        with pytest.raises(ObjectExists):
            await put(driver, "taken", stream())
        assert await driver.get("taken") == b"mine"

    @pytest.mark.parametrize("length", [5, 6 * MiB])
    @in_its_world
    async def test_create_only_refuses_what_exists(
        self, backend: StorageBackend, driver: Driver, world: World, length: int
    ) -> None:
        """A create-only put over an object raises, whole or as a stream, and leaves the object as it was."""
        await put(driver, "taken", b"mine")
        for body in (b"x" * length, stream(b"x" * length)):
            with pytest.raises(ObjectExists) as caught:
                await put(driver, "taken", body)
            assert (caught.value.backend, caught.value.path) == (backend.key, "taken")
            assert isinstance(caught.value, FileExistsError)
        assert await driver.get("taken") == b"mine"

    @pytest.mark.parametrize("length", [5, 6 * MiB])
    @in_its_world
    async def test_overwriting_on_request(self, driver: Driver, world: World, length: int) -> None:
        """With `overwrite` a put replaces an object, or makes one."""
        for body in (b"1" * length, stream(b"2" * length)):
            await put(driver, "it", body, overwrite=True)
        assert await driver.get("it") == b"2" * length

    @pytest.mark.parametrize("chunks", [[], [b"x"], [b"x" * 6 * MiB, b"x" * 6 * MiB]], ids=["none", "little", "much"])
    @pytest.mark.parametrize("error", [RuntimeError("boom"), FileNotFoundError("the source")], ids=["any", "os"])
    @in_its_world
    async def test_a_failing_stream_leaves_nothing(
        self, driver: Driver, world: World, chunks: list[bytes], error: Exception
    ) -> None:
        """When the body raises, its very error comes out, the body is closed, and no object is there."""
        body = stream(*chunks, error=error)
        with pytest.raises(type(error)) as caught:
            await put(driver, "broken", body)
        assert caught.value is error
        with pytest.raises(StopAsyncIteration):
            await anext(body)
        assert await paths(driver) == []
        await put(driver, "broken", b"the name is free")

    @in_its_world
    async def test_a_failing_overwrite_leaves_the_old(self, driver: Driver, world: World) -> None:
        """When the body of an overwrite raises, the old object is still there, or none; never a part of the new."""
        await put(driver, "it", b"old")
        with pytest.raises(RuntimeError):
            await put(driver, "it", stream(b"x" * 6 * MiB, error=RuntimeError()), overwrite=True)
        if self.overwrites_whole_or_not:
            assert await driver.get("it") == b"old"
        else:
            assert await paths(driver) == []

    @in_its_world
    async def test_one_creator_wins(self, driver: Driver, world: World) -> None:
        """Of twenty writers of one name, whole or streaming, one succeeds and its content stays."""

        async def attempt(number: int) -> bool:
            content = b"%d" % number
            try:
                await put(driver, "race", content if number % 2 else stream(content))
            except ObjectExists:
                return False
            return True

        won = await world.each(attempt, range(20), limit=20)
        assert won.count(True) == 1 or (won.count(True) > 1 and not self.creates_atomically)
        if self.creates_atomically:
            assert await driver.get("race") == b"%d" % won.index(True)

    @pytest.mark.parametrize(
        ("start", "stop", "expected"),
        [
            (0, None, b"0123456789"),
            (3, None, b"3456789"),
            (0, 4, b"0123"),
            (3, 7, b"3456"),
            (9, 10, b"9"),
            (8, 100, b"89"),
            (10, None, b""),
            (10, 20, b""),
            (100, None, b""),
            (100, 200, b""),
            (4, 4, b""),
            (7, 3, b""),
            (0, 0, b""),
        ],
    )
    @in_its_world
    async def test_ranges(self, driver: Driver, world: World, start: int, stop: int | None, expected: bytes) -> None:
        """A range is a slice: what lies past the end is not there, and that is no error."""
        await put(driver, "digits", b"0123456789")
        assert await joined(driver, "digits", start, stop) == expected

    @in_its_world
    async def test_a_range_of_a_large_object(self, driver: Driver, world: World) -> None:
        """A range that spans chunks has just its bytes."""
        content = os.urandom(6 * MiB)
        await put(driver, "big", content)
        assert await joined(driver, "big", 5, 5 * MiB + 6) == content[5 : 5 * MiB + 6]
        assert await joined(driver, "big", MiB) == content[MiB:]

    @in_its_world
    async def test_a_negative_start_is_a_mistake(self, driver: Driver, world: World) -> None:
        """Ranges do not count from the end."""
        await put(driver, "digits", b"0123456789")
        with pytest.raises(ValueError, match="-1"):
            await joined(driver, "digits", -1)

    @in_its_world
    async def test_a_read_may_be_closed_early(self, driver: Driver, world: World) -> None:
        """Closing a read after its first chunk ends it, and the object can be read again and deleted."""
        await put(driver, "big", b"x" * 6 * MiB)
        chunks: Any = driver.read("big")
        assert (await anext(chunks))[:1] == b"x"
        await chunks.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(chunks)
        assert len(await joined(driver, "big")) == 6 * MiB
        await driver.delete(["big"])

    @pytest.mark.parametrize("path", ["no", "no/such/object", "there/below"])
    @in_its_world
    async def test_what_is_missing(self, backend: StorageBackend, driver: Driver, world: World, path: str) -> None:
        """Every look at an object that is not there says so, with the backend and the path."""
        await put(driver, "there", b"a file, not a directory")
        for attempt in (
            driver.get(path),
            driver.head(path),
            joined(driver, path),
            joined(driver, path, 2),
            joined(driver, path, 0, 0),
            joined(driver, path, 3, 5),
        ):
            with pytest.raises(ObjectNotFound) as caught:
                await attempt
            assert (caught.value.backend, caught.value.path) == (backend.key, path)
            assert isinstance(caught.value, FileNotFoundError)
            assert "\n" not in str(caught.value)
        assert await paths(driver) == ["there"]

    @in_its_world
    async def test_a_directory_is_no_object(self, driver: Driver, world: World) -> None:
        """A prefix of objects is not an object itself."""
        await put(driver, "dir/a", b"")
        for attempt in (driver.get("dir"), driver.head("dir"), joined(driver, "dir")):
            with pytest.raises(ObjectNotFound):
                await attempt

    @in_its_world
    async def test_head(self, driver: Driver, world: World) -> None:
        """A look at an object tells its path, size and time, without a stale cache between."""
        with pytest.raises(ObjectNotFound):
            await driver.head("a/b")
        await put(driver, "a/b", b"12345")
        info = await driver.head("a/b")
        assert (info.path, info.size) == ("a/b", 5)
        assert abs(info.last_modified - time.time()) < 60
        await driver.delete(["a/b"])
        with pytest.raises(ObjectNotFound):
            await driver.head("a/b")

    @in_its_world
    async def test_delete(self, driver: Driver, world: World) -> None:
        """Deleting many deletes all that are there, whichever are not."""
        for number in range(15):
            await put(driver, f"d/{number}", b"x")
        await put(driver, "kept", b"x")
        await driver.delete(
            ["missing", "kept/below", "d/nor-this", *[f"d/{number}" for number in range(15)], "d/0", "gone"]
        )
        assert await paths(driver) == ["kept"]
        await driver.delete(["d/1"])
        await driver.delete(["kept/below"])
        await driver.delete([])
        assert await paths(driver) == ["kept"]

    @in_its_world
    async def test_list_by_whole_segments(self, driver: Driver, world: World) -> None:
        """A prefix means what lies below it: neither its namesakes nor itself."""
        for path in ("a/b", "a/bc/1", "a/b1", "ab", "z/b/1", "z/b/c/2", "z/bc/3"):
            await put(driver, path, b"x")
        assert await paths(driver) == ["a/b", "a/b1", "a/bc/1", "ab", "z/b/1", "z/b/c/2", "z/bc/3"]
        assert await paths(driver, "a") == ["a/b", "a/b1", "a/bc/1"]
        assert await paths(driver, "z/b") == await paths(driver, "z/b/") == ["z/b/1", "z/b/c/2"]
        assert await paths(driver, "a/b") == await paths(driver, "none") == []
        assert [(info.path, info.size) async for info in driver.list("z/bc")] == [("z/bc/3", 1)]

    @pytest.mark.parametrize("name", NAMES)
    @in_its_world
    async def test_names(self, driver: Driver, world: World, name: str) -> None:
        """A name in any script, with any punctuation, is one object in every verb."""
        path = f"weird/{name}"
        await put(driver, path, b"1234")
        await put(driver, f"streamed/{name}", stream(b"12", b"34"))
        await put(driver, "weird/neighbour", b"")
        assert await driver.get(path) == await driver.get(f"streamed/{name}") == b"1234"
        assert await joined(driver, path, 1, 3) == b"23"
        assert (await driver.head(path)).path == path
        assert await paths(driver, "weird") == sorted([path, "weird/neighbour"])
        await driver.delete([path])
        assert await paths(driver, "weird") == ["weird/neighbour"]

    @in_its_world
    async def test_names_that_differ_in_normalisation_only(self, driver: Driver, world: World) -> None:
        """`é` in one code point and in two are two names, or one that is taken; never one that hides the other."""
        await put(driver, "caf\u00e9", b"composed")
        try:
            await put(driver, "cafe\u0301", b"decomposed")
        except ObjectExists:
            assert await driver.get("caf\u00e9") == b"composed"
        else:
            assert await driver.get("cafe\u0301") == b"decomposed"
            assert await driver.get("caf\u00e9") == b"composed"

    @pytest.mark.parametrize("path", ESCAPES)
    @in_its_world
    async def test_no_path_escapes(self, driver: Driver, world: World, path: str) -> None:
        """Every verb refuses a path that could lead out of the backend."""
        await put(driver, "ok", b"")
        for attempt in (
            put(driver, path, b""),
            put(driver, path, stream(b"")),
            driver.get(path),
            joined(driver, path),
            driver.head(path),
            driver.delete(["ok", path]),
        ):
            with pytest.raises(InvalidPath):
                await attempt
        if path:
            with pytest.raises(InvalidPath):
                await paths(driver, path)
        assert await paths(driver) == ["ok"]

    @pytest.mark.parametrize("overwrite", [False, True], ids=["create", "overwrite"])
    def test_a_cancelled_upload_leaves_nothing(self, backend: StorageBackend, overwrite: bool) -> None:
        """A stream that is cancelled, twice even, while its body waits leaves no object, and the body is closed."""
        driver = backend.driver(worlds.asyncio_world)
        closed: list[BaseException] = []

        async def slow(waits: asyncio.Event) -> AsyncIterator[bytes]:
            try:
                yield b"x" * 6 * MiB
                yield b"x" * 6 * MiB
                waits.set()
                await asyncio.sleep(60)
            except BaseException as error:
                closed.append(error)
                raise

        async def act() -> None:
            waits = asyncio.Event()
            upload = asyncio.ensure_future(put(driver, "cut", slow(waits), overwrite=overwrite))
            await waits.wait()
            upload.cancel()
            await asyncio.sleep(0)
            upload.cancel()
            with pytest.raises(asyncio.CancelledError):
                await upload
            assert await paths(driver) == []

        asyncio.run(act())
        assert len(closed) == 1

    def test_a_cancelled_put_has_ended(self, backend: StorageBackend) -> None:
        """When a create-only put of whole content is cancelled, the object is gone once the cancellation comes out."""
        driver = backend.driver(worlds.asyncio_world)

        async def act() -> None:
            upload = asyncio.ensure_future(put(driver, "cut", b"x" * MiB))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            # A driver that never waits has ended before it can be cancelled.
            left = [] if upload.cancel() else ["cut"]
            outcome = await asyncio.gather(upload, return_exceptions=True)
            assert isinstance(outcome[0], asyncio.CancelledError) == (not left)
            assert await paths(driver) == left
            await asyncio.sleep(0.1)
            assert await paths(driver) == left

        asyncio.run(act())

    @in_its_world
    async def test_errors_are_short(self, backend: StorageBackend, driver: Driver, world: World) -> None:
        """An error names backend and path in one line, keeps its cause, and has no address in it."""
        with pytest.raises(StoreError) as caught:
            await driver.get("no/thing")
        message = str(caught.value)
        assert repr(backend.key) in message
        assert "'no/thing'" in message
        assert "://" not in message
        assert "\n" not in message
        assert caught.value.__cause__ is not None
