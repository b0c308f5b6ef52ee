"""The readers over stored objects, held against a file in memory."""

import csv
import io
import os
import random
import zipfile
from collections.abc import AsyncIterator, Generator

import pytest

from lading.reader import AsyncReader, Reader

CONTENT = random.Random(7).randbytes(100_003)
CHUNK = 1000


class Store:
    """An object that is read in chunks; remembers where reads began and how many of them run."""

    def __init__(self, content: bytes = CONTENT, chunk: int = CHUNK) -> None:
        self.content = content
        self.chunk = chunk
        self.began: list[int] = []
        self.running = 0

    def read(self, start: int) -> Generator[bytes, None, None]:
        self.began.append(start)
        self.running += 1
        try:
            for position in range(start, len(self.content), self.chunk):
                yield self.content[position : position + self.chunk]
        finally:
            self.running -= 1

    async def read_async(self, start: int) -> AsyncIterator[bytes]:
        chunks = self.read(start)
        try:
            for chunk in chunks:
                yield chunk
        finally:
            chunks.close()

    def open(self) -> io.BufferedReader:
        return io.BufferedReader(Reader(self.read, len(self.content)))

    def open_async(self) -> AsyncReader:
        return AsyncReader(self.read_async, len(self.content))


def moves() -> list[tuple[str, int, int]]:
    """A few hundred reads and seeks, the same at every run."""
    chance = random.Random(5)
    size = len(CONTENT)
    return [
        chance.choice(
            [
                ("read", chance.choice([0, 1, 10, 999, 1000, 1001, 5000, 200_000]), 0),
                ("seek", chance.randrange(size + 100), os.SEEK_SET),
                ("seek", chance.randrange(-size, 100), os.SEEK_END),
                ("seek", chance.randrange(-50, 500), os.SEEK_CUR),
            ]
        )
        for _ in range(400)
    ]


class TestReader:
    def test_it_is_the_file(self) -> None:
        """Whatever is read wherever, it is what a file of that content gives."""
        reader, model = Store().open(), io.BytesIO(CONTENT)
        for verb, number, whence in moves():
            if verb == "read":
                assert reader.read(number) == model.read(number)
            elif whence != os.SEEK_CUR or model.tell() + number >= 0:
                assert reader.seek(number, whence) == model.seek(number, whence)
            assert reader.tell() == model.tell()

    @pytest.mark.parametrize("chunk", [1, 7, CHUNK, 200_000])
    def test_all_of_it(self, chunk: int) -> None:
        """Read to its end it is the content, by one read of the store, however large the store's chunks are."""
        store = Store(CONTENT[:5000], chunk)
        with store.open() as reader:
            assert reader.read() == CONTENT[:5000]
            assert reader.read() == b""
        assert store.began == [0]
        assert store.running == 0

    def test_what_is_not_read_is_not_fetched(self) -> None:
        """Opening and seeking ask the store for nothing; the next read asks from there on."""
        store = Store()
        with store.open() as reader:
            reader.seek(50_000)
            reader.seek(-3, os.SEEK_END)
            assert store.began == []
            assert reader.read() == CONTENT[-3:]
        assert store.began == [100_000]

    def test_seeking_and_closing_stop_the_stores_read(self) -> None:
        """One read of the store runs at a time, and none when the reader is closed."""
        store = Store()
        with store.open() as reader:
            reader.read(10)
            reader.seek(90_000)
            assert store.running == 0
            reader.read(10)
            assert store.running == 1
        assert store.running == 0
        with pytest.raises(ValueError, match="closed"):
            reader.read()

    def test_an_empty_chunk_is_no_end(self) -> None:
        """A store may send nothing now and then."""
        reader = io.BufferedReader(Reader(lambda start: iter([b"a", b"", b"", b"b"][start:]), 2))
        assert reader.read() == b"ab"

    def test_an_object_that_is_shorter(self) -> None:
        """Where the object ends before its record says, the file ends too."""
        store = Store(CONTENT[:10])
        assert io.BufferedReader(Reader(store.read, 20)).read() == CONTENT[:10]

    def test_an_empty_object(self) -> None:
        """An empty object asks the store for nothing."""
        store = Store(b"")
        assert store.open().read() == b""
        assert store.began == []

    def test_others_read_it(self) -> None:
        """It is a file to the standard library: an archive, lines of text, a table."""
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as written:
            written.writestr("a.csv", "number,name\n1,ü\n")
            written.writestr("large", CONTENT)
        with Store(archive.getvalue()).open() as file, zipfile.ZipFile(file) as read:
            assert read.testzip() is None
            assert read.namelist() == ["a.csv", "large"]
        text = io.TextIOWrapper(Store("number,name\r\n1,ü\r\n".encode(), 5).open(), encoding="utf-8", newline="")
        assert list(csv.DictReader(text)) == [{"number": "1", "name": "ü"}]

    def test_seeks_that_cannot_be(self) -> None:
        """A place before the beginning, or an unknown whence, is an error and does not move it."""
        reader = Reader(Store().read, len(CONTENT))
        reader.seek(5)
        with pytest.raises(ValueError, match="before the beginning"):
            reader.seek(-6, os.SEEK_CUR)
        with pytest.raises(ValueError, match="whence"):
            reader.seek(0, 7)
        assert reader.tell() == 5


class TestAsyncReader:
    async def test_it_is_the_file(self) -> None:
        """Whatever is read wherever, it is what a file of that content gives."""
        reader, model = Store().open_async(), io.BytesIO(CONTENT)
        for verb, number, whence in moves():
            if verb == "read":
                assert await reader.read(number) == model.read(number)
            elif whence != os.SEEK_CUR or model.tell() + number >= 0:
                assert await reader.seek(number, whence) == model.seek(number, whence)
            assert reader.tell() == model.tell()
        await reader.close()

    async def test_all_of_it(self) -> None:
        """Read to its end it is the content, by one read of the store, and then there is nothing more."""
        store = Store()
        async with store.open_async() as reader:
            assert await reader.read() == CONTENT
            assert (await reader.read(), await reader.read(5)) == (b"", b"")
        assert store.began == [0]

    async def test_chunks(self) -> None:
        """It is an iterator of the chunks from where it stands, and stands where that was left."""
        async with Store().open_async() as reader:
            assert await reader.read(10) == CONTENT[:10]
            async for chunk in reader:
                assert chunk == CONTENT[10:CHUNK]
                break
            assert reader.tell() == CHUNK
            assert b"".join([chunk async for chunk in reader]) == CONTENT[CHUNK:]

    async def test_seeking_and_closing_stop_the_stores_read(self) -> None:
        """One read of the store runs at a time, and none when the reader is closed."""
        store = Store()
        async with store.open_async() as reader:
            await reader.read(10)
            await reader.seek(10)
            assert (store.running, store.began) == (1, [0])
            await reader.seek(90_000)
            assert store.running == 0
            await reader.read(10)
            assert store.running == 1
        assert (store.running, store.began) == (0, [0, 90_000])

    async def test_an_empty_chunk_is_no_end(self) -> None:
        """A store may send nothing now and then."""

        async def chunks(start: int) -> AsyncIterator[bytes]:
            for chunk in [b"a", b"", b"", b"b"][start:]:
                yield chunk

        async with AsyncReader(chunks, 2) as reader:
            assert await reader.read() == b"ab"

    async def test_an_object_that_is_shorter(self) -> None:
        """Where the object ends before its record says, the file ends too."""
        store = Store(CONTENT[:10])
        async with AsyncReader(store.read_async, 20) as reader:
            assert await reader.read() == CONTENT[:10]
            assert await reader.read() == b""

    async def test_seeks_that_cannot_be(self) -> None:
        """A place before the beginning, or an unknown whence, is an error and does not move it."""
        reader = Store().open_async()
        await reader.seek(5)
        with pytest.raises(ValueError, match="before the beginning"):
            await reader.seek(-6, os.SEEK_CUR)
        with pytest.raises(ValueError, match="whence"):
            await reader.seek(0, 7)
        assert reader.tell() == 5
