"""Content on its way in: every kind of it, read whole or in part, once or again, in both worlds."""

import array
import asyncio
import ctypes
import hashlib
import io
import os
import random
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from litestar.datastructures import UploadFile

from lading.errors import SourceError, TooLarge
from lading.source import CHUNK, Intake, Source, source_of
from lading.testing.backends import in_its_world
from lading.worlds import World, asyncio_world, inline

KiB = 1024
BIG = random.Random(7).randbytes(2 * CHUNK + 1)


@pytest.fixture(params=[inline, asyncio_world], ids=["inline", "asyncio"])
def world(request: pytest.FixtureRequest) -> World:
    chosen: World = request.param
    return chosen


class AsyncUpload:
    """As Starlette's `UploadFile` is: coroutines, and the file that they read in `file`."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file

    async def read(self, size: int = -1) -> bytes:
        return self.file.read(size)


class Again:
    """An iterable that begins anew each time."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def __iter__(self) -> Iterator[bytes]:
        yield from pieces(self.content)


class Bare:
    """A file-like with nothing but `read`."""

    def __init__(self, content: bytes) -> None:
        self.read = io.BytesIO(content).read


def pieces(content: bytes, size: int = 64 * KiB) -> list[bytes]:
    return [content[start : start + size] for start in range(0, len(content), size)]


async def trickle(content: bytes) -> AsyncIterator[bytes]:
    for piece in pieces(content):
        await asyncio.sleep(0)
        yield piece


def on_disk(content: bytes, directory: Path) -> Path:
    path = directory / "content.bin"
    path.write_bytes(content)
    return path


def spooled(content: bytes, limit: int) -> IO[bytes]:
    file = tempfile.SpooledTemporaryFile(max_size=limit)  # noqa: SIM115  # the test closes it
    file.write(content)
    return file


def pipe(content: bytes) -> IO[bytes]:
    reading, writing = os.pipe()

    def write() -> None:
        with open(writing, "wb") as file:
            file.write(content)

    threading.Thread(target=write, daemon=True).start()
    return open(reading, "rb")


def wide(content: bytes) -> memoryview:
    """The content as items of two bytes, as far as they go."""
    return memoryview(array.array("H", content[: len(content) // 2 * 2]))


REREADABLE: dict[str, Callable[[bytes, Path], Any]] = {
    "bytes": lambda content, _: content,
    "bytearray": lambda content, _: bytearray(content),
    "memoryview": lambda content, _: memoryview(content),
    "a view with steps": lambda content, _: memoryview(bytes(byte for one in content for byte in (one, 0)))[::2],
    "a view of ctypes": lambda content, _: memoryview((ctypes.c_ubyte * len(content))(*content)),
    "a path": on_disk,
    "bytes in a file": lambda content, _: io.BytesIO(content),
    "a file": lambda content, directory: on_disk(content, directory).open("rb"),
    "an unbuffered file": lambda content, directory: on_disk(content, directory).open("rb", buffering=0),
    "a spooled file": lambda content, _: spooled(content, 0),
    "a rolled file": lambda content, _: spooled(content, 1),
    "a list": lambda content, _: pieces(content),
    "an iterable": lambda content, _: Again(content),
    "an upload of Litestar": lambda content, _: UploadFile("text/plain", "a.txt", content),
    "a rolled upload of Litestar": lambda content, _: UploadFile("text/plain", "a.txt", content, max_spool_size=1),
    "an upload of Starlette": lambda content, _: AsyncUpload(io.BytesIO(content)),
}
ONCE: dict[str, Callable[[bytes, Path], Any]] = {
    "a generator": lambda content, _: (piece for piece in pieces(content)),
    "a pipe": lambda content, _: pipe(content),
    "nothing but read": lambda content, _: Bare(content),
}
contents = pytest.mark.parametrize("content", [b"", b"x", b"\x00\xff" * 3, BIG], ids=["none", "one", "few", "big"])


def close(content: Any) -> None:
    """What was opened for a test, as far as it was."""
    for file in (content, getattr(content, "file", None)):
        if isinstance(file, io.IOBase | tempfile.SpooledTemporaryFile):
            file.close()


async def read(source: Source, world: World) -> bytes:
    return b"".join([bytes(chunk) async for chunk in source.chunks(world)])


class TestKinds:
    @contents
    @pytest.mark.parametrize("kind", REREADABLE)
    @in_its_world
    async def test_what_can_be_read_again(self, kind: str, content: bytes, world: World, tmp_path: Path) -> None:
        """Each kind gives its bytes, in chunks, as often as asked, and knows its size where that can be known."""
        given = REREADABLE[kind](content, tmp_path)
        source = source_of(given)
        assert source.rereadable
        assert source.size == (None if kind in ("a list", "an iterable") else len(content))
        assert await read(source, world) == content
        assert await read(source, world) == content
        assert all([len(chunk) <= CHUNK async for chunk in source.chunks(world)])
        close(given)

    @contents
    @pytest.mark.parametrize("kind", ONCE)
    @in_its_world
    async def test_what_can_be_read_once(self, kind: str, content: bytes, world: World, tmp_path: Path) -> None:
        """What can be read only once gives its bytes, and at the second reading says that it cannot."""
        given = ONCE[kind](content, tmp_path)
        source = source_of(given)
        assert not source.rereadable
        assert source.size is None
        assert await read(source, world) == content
        with pytest.raises(SourceError, match="read already"):
            await read(source, world)
        close(given)

    @contents
    async def test_async_iterables(self, content: bytes) -> None:
        """An async generator is read once, an async iterable as often as it can begin."""

        class Anew:
            def __aiter__(self) -> AsyncIterator[bytes]:
                return trickle(content)

        once, again = source_of(trickle(content)), source_of(Anew())
        assert (once.rereadable, again.rereadable) == (False, True)
        assert await read(once, asyncio_world) == content
        with pytest.raises(SourceError, match="read already"):
            await read(once, asyncio_world)
        assert [await read(again, asyncio_world) for _ in range(2)] == [content, content]

    @pytest.mark.parametrize("content", [b"", b"abcd", BIG[:-1]], ids=["none", "few", "big"])
    @in_its_world
    async def test_views_of_wide_items(self, content: bytes, world: World) -> None:
        """A view of items of two bytes, or of two dimensions, is measured and read in bytes."""
        source = source_of(wide(content))
        assert (source.size, await read(source, world)) == (len(content), content)
        square = memoryview(b"abcdef").cast("B", (2, 3))
        assert (source_of(square).size, await read(source_of(square), world)) == (6, b"abcdef")

    @in_its_world
    async def test_a_bytearray_is_copied(self, world: World) -> None:
        """Whoever changes a bytearray after handing it over changes nothing of what is stored."""
        content = bytearray(b"before")
        source = source_of(content)
        content[:] = b"afterwards"
        assert (source.size, await read(source, world)) == (6, b"before")

    @in_its_world
    async def test_a_buffer_that_is_filled_again_and_again(self, world: World) -> None:
        """A generator may yield one buffer with new content each time: every chunk is taken as it was."""

        def fill() -> Iterator[Any]:
            buffer = bytearray(4)
            for start in range(0, 40, 4):
                buffer[:] = BIG[start : start + 4]
                yield memoryview(buffer) if start % 8 else buffer

        assert [chunk async for chunk in source_of(fill()).chunks(world)] == pieces(BIG[:40], 4)


class TestFiles:
    @pytest.mark.parametrize("kind", ["bytes in a file", "a file", "a rolled file", "an upload of Litestar"])
    @in_its_world
    async def test_it_is_read_from_its_start(self, kind: str, world: World, tmp_path: Path) -> None:
        """A file that can seek is read from its start, wherever it stands, and asking for its size does not move it."""
        given = REREADABLE[kind](b"0123456789", tmp_path)
        file = getattr(given, "file", given)
        file.seek(7)
        source = source_of(given)
        assert (source.size, file.tell()) == (10, 7)
        assert await read(source, world) == b"0123456789"
        assert not file.closed
        close(given)

    @in_its_world
    async def test_a_pipe_is_read_from_where_it_stands(self, world: World) -> None:
        """A file that cannot seek is read from where it stands, and left open."""
        with pipe(b"0123456789") as file:
            assert file.read(7) == b"0123456"
            assert await read(source_of(file), world) == b"789"
            assert not file.closed

    def test_a_closed_file(self, tmp_path: Path) -> None:
        """A file that is closed already is refused when it is given."""
        file = on_disk(b"x", tmp_path).open("rb")
        file.close()
        upload = UploadFile("text/plain", "a.txt", b"x")
        upload.file.close()
        for given in (file, upload):
            with pytest.raises(SourceError, match="is closed"):
                source_of(given)

    @in_its_world
    async def test_a_file_that_is_closed_meanwhile(self, world: World) -> None:
        """A file that is closed before it is read has no size, and reading it is an error of ours."""
        file = io.BytesIO(b"x")
        source = source_of(file)
        file.close()
        assert source.size is None
        with pytest.raises(SourceError, match="is closed"):
            await read(source, world)

    def test_a_file_of_text(self, tmp_path: Path) -> None:
        """A file that was opened as text is refused when it is given, whatever is in it."""
        with on_disk(b"\xff", tmp_path).open() as file:
            mistakes: list[Any] = [file, io.StringIO("x")]
            for given in mistakes:
                with pytest.raises(SourceError, match="binary mode"):
                    source_of(given)

    @pytest.mark.parametrize("text", ["", "text"])
    @in_its_world
    async def test_a_spooled_file_of_text(self, text: str, world: World) -> None:
        """A file that turns out to give text is refused, also where the text is empty."""
        with tempfile.SpooledTemporaryFile(mode="w+") as file:
            file.write(text)
            mistake: Any = file
            with pytest.raises(SourceError, match="binary mode"):
                await read(source_of(mistake), world)

    @in_its_world
    async def test_no_data_yet_is_no_end(self, world: World) -> None:
        """A non-blocking file that has nothing to give yet is an error, not a shorter file."""
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        with open(reading, "rb", buffering=0) as file, open(writing, "wb", buffering=0) as end:
            end.write(b"first")
            with pytest.raises(SourceError, match="not of NoneType"):
                await read(source_of(file), world)

    @in_its_world
    async def test_a_file_that_grows_or_shrinks(self, world: World, tmp_path: Path) -> None:
        """The size is what it is when asked for, and what is read is what is there when it is read."""
        path = on_disk(b"x" * 10, tmp_path)
        with path.open("r+b") as file:
            for source in (source_of(path), source_of(file)):
                path.write_bytes(b"y" * 25)
                assert (source.size, await read(source, world)) == (25, b"y" * 25)
                path.write_bytes(b"z" * 5)
                assert (source.size, await read(source, world)) == (5, b"z" * 5)

    @in_its_world
    async def test_a_file_that_is_cut_while_it_is_read(self, world: World, tmp_path: Path) -> None:
        """A file that shrinks under the reader ends where it ends: what counts is what was read."""
        path = on_disk(BIG, tmp_path)
        chunks = source_of(path).chunks(world)
        got = [await anext(chunks)]
        os.truncate(path, CHUNK + 5)
        got += [chunk async for chunk in chunks]
        assert b"".join(got) == BIG[: CHUNK + 5]

    @in_its_world
    async def test_a_path_that_cannot_be_read(self, world: World, tmp_path: Path) -> None:
        """A path that is missing, or a directory, has no size and is an error that names it."""
        for path in (tmp_path / "none", tmp_path):
            source = source_of(path)
            assert source.size is None
            with pytest.raises(SourceError, match=f"cannot read '{path}'"):
                await read(source, world)

    @in_its_world
    async def test_a_path_is_closed(self, world: World, tmp_path: Path) -> None:
        """What was opened here is closed here, also where the reading ends half-way."""
        chunks: Any = source_of(on_disk(BIG, tmp_path)).chunks(world)
        await anext(chunks)
        opened = [os.readlink(entry) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
        assert str(tmp_path / "content.bin") in opened
        await chunks.aclose()
        opened = [os.readlink(entry) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
        assert str(tmp_path / "content.bin") not in opened


class TestRefused:
    @pytest.mark.parametrize(
        ("content", "why"), [("text", "encode it"), (5, "from int"), (None, "from NoneType"), (object(), "from object")]
    )
    def test_what_is_no_content(self, content: Any, why: str) -> None:
        """Text, numbers and nothing at all are refused when they are given, with what to do."""
        with pytest.raises(SourceError, match=why):
            source_of(content)

    @pytest.mark.parametrize("item", ["text", None, 5, [b"x"]])
    @in_its_world
    async def test_what_is_no_chunk(self, item: Any, world: World) -> None:
        """An item that is no bytes is an error where it comes; it neither ends the content nor is converted."""
        with pytest.raises(SourceError, match=f"not of {type(item).__name__}"):
            await read(source_of([b"a", item, b"b"]), world)

    def test_async_content_in_the_sync_world(self) -> None:
        """The sync verbs refuse an async iterable before they read of it, and say which verb does not."""
        source = source_of(trickle(b"whole"))
        with pytest.raises(SourceError, match=r"async iterable: store it by save_async\(\)"):
            source.chunks(inline).__anext__().__await__().send(None)
        assert asyncio.run(read(source, asyncio_world)) == b"whole"


async def ticks_during(work: Awaitable[Any]) -> int:
    """How often a task that wants to run every millisecond runs meanwhile."""
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.001)
            ticks += 1

    ticking = asyncio.ensure_future(tick())
    await work
    ticking.cancel()
    return ticks


class TestLoop:
    async def test_a_slow_iterable_does_not_block(self) -> None:
        """In the asyncio world an iterable that blocks, blocks nobody else."""

        def slow() -> Iterator[bytes]:
            for _ in range(2):
                time.sleep(0.1)
                yield b"x"

        assert await ticks_during(read(source_of(slow()), asyncio_world)) > 25

    async def test_a_slow_file_does_not_block(self) -> None:
        """In the asyncio world a file that blocks, blocks nobody else."""

        class Slow(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                time.sleep(0.1)
                return super().read(size)

        assert await ticks_during(read(source_of(Slow(b"x")), asyncio_world)) > 25


def anything(size: int) -> None:
    """A limit that allows all."""


def intake(content: Any, world: World, algorithm: str | None = "sha256", **more: Any) -> Intake:
    return Intake(source_of(content), world, algorithm=algorithm, check=more.pop("check", anything), **more)


async def whole(body: Any) -> bytes:
    return b"".join([bytes(chunk) async for chunk in body]) if isinstance(body, AsyncIterator) else bytes(body)


class TestIntake:
    @pytest.mark.parametrize("piece", [1, 3, 100, CHUNK])
    @pytest.mark.parametrize("length", [0, 1, 7, 100, 1000])
    @pytest.mark.parametrize("threshold", [0, 1, 99, 100, 101])
    @in_its_world
    async def test_peeking_loses_nothing(self, piece: int, length: int, threshold: int, world: World) -> None:
        """The head is the beginning and the body all of it, a stream where it is long and has not been read already."""
        content = BIG[:100]
        taken = intake(pieces(content, piece), world)
        assert bytes(await taken.head(length)) == content[:length]
        body = await taken.body(threshold)
        assert isinstance(body, AsyncIterator) == (threshold < 100 and length <= 100)
        assert await whole(body) == content
        assert taken.size == 100
        assert taken.checksum() == f"sha256:{hashlib.sha256(content).hexdigest()}"
        await taken.close()

    @in_its_world
    async def test_empty_chunks_are_no_end(self, world: World) -> None:
        """An iterable may yield nothing now and then."""
        taken = intake([b"", b"a", b"", b"", b"b", b""], world)
        assert bytes(await taken.head(10)) == b"ab"
        assert await whole(await taken.body(10)) == b"ab"

    @pytest.mark.parametrize("algorithm", ["sha256", "sha512", "blake2b", "md5", None])
    @pytest.mark.parametrize("size", [0, 1, 256 * KiB - 1, 256 * KiB, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 1])
    @in_its_world
    async def test_the_checksum(self, algorithm: str | None, size: int, world: World) -> None:
        """The checksum is that of all the bytes in their order, with the chosen algorithm, of chunks of any size."""
        content = BIG[:size]
        for cut in (content, pieces(content, 256 * KiB), pieces(content, 100 * KiB), [content]):
            for threshold in (0, len(content)):
                taken = intake(cut, world, algorithm)
                assert await whole(await taken.body(threshold)) == content
                expected = f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}" if algorithm else None
                assert taken.checksum() == expected
                await taken.close()

    @in_its_world
    async def test_the_check_stops_the_reading(self, world: World) -> None:
        """What refuses the bytes counted so far is asked at every chunk, and nothing is read after it refused."""
        pulled: list[int] = []

        def pull() -> Iterator[bytes]:
            for number in range(100):
                pulled.append(number)
                yield b"x" * 10

        def check(size: int) -> None:
            if size > 35:
                raise TooLarge("too large", filename="a", limit=35, actual=size)

        taken = intake(pull(), world, check=check)
        assert len(await taken.head(5)) == 5
        assert pulled == [0]
        body = await taken.body(5)
        with pytest.raises(TooLarge) as caught:
            await whole(body)
        assert caught.value.actual == 40
        assert pulled == [0, 1, 2, 3]
        await taken.close()

    @in_its_world
    async def test_progress(self, world: World) -> None:
        """The caller is told what was handed on, out of what is known to come."""
        told: list[tuple[int, int | None]] = []
        for content, total in ((b"x" * (CHUNK + 1), CHUNK + 1), (pieces(b"x" * (CHUNK + 1), CHUNK), None)):
            told.clear()
            taken = intake(content, world, on_progress=lambda done, total: told.append((done, total)))
            await whole(await taken.body(0))
            taken.progress(taken.size)
            assert told == [(CHUNK, total), (CHUNK + 1, total), (CHUNK + 1, CHUNK + 1)]

    @in_its_world
    async def test_closing_closes_what_was_opened(self, world: World, tmp_path: Path) -> None:
        """A reading that is given up half-way lets go of the file that it opened."""
        path = on_disk(BIG, tmp_path)
        taken = intake(path, world)
        await taken.head(1)
        await taken.close()
        opened = [os.readlink(entry) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
        assert str(path) not in opened

    async def test_hashing_does_not_block(self) -> None:
        """A chunk that takes long to hash is hashed outside of the loop."""
        content = bytes(64 * 2**20)

        async def read() -> None:
            taken = intake([content], asyncio_world)
            assert await whole(await taken.body(1)) == content
            assert taken.checksum() == f"sha256:{hashlib.sha256(content).hexdigest()}"

        assert await ticks_during(read()) > 5

    async def test_hashing_goes_on_while_the_next_is_read(self) -> None:
        """Chunks are handed on before they are hashed; what is closed half-way leaves no thread at work."""
        taken = intake([bytes(8 * CHUNK)] * 4, asyncio_world)
        body = await taken.body(1)
        assert isinstance(body, AsyncIterator)
        await anext(body)
        await taken.close()
        assert len(asyncio.all_tasks()) == 1
