"""Looking at stored objects: what is there, what is read of it, and whether it is what its record says."""

import hashlib
import random
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from lading.backends.obstore import ObstoreBackend
from lading.backends.protocols import Attributes, StorageBackend
from lading.errors import IntegrityFailure, ObjectNotFound, RecordError
from lading.ops import read
from lading.ops.save import Draft, save
from lading.record import FileRecord
from lading.source import source_of
from lading.testing import FaultyBackend
from lading.testing.backends import in_its_world
from lading.worlds import World, asyncio_world, inline
from tests.faulty import always

CONTENT = random.Random(3).randbytes(3 * 2**20)
Damage = Callable[[bytes], bytes]


@pytest.fixture(params=[inline, asyncio_world], ids=["inline", "asyncio"])
def world(request: pytest.FixtureRequest) -> World:
    chosen: World = request.param
    return chosen


@pytest.fixture(params=["memory", "local"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> FaultyBackend:
    fs = "memory://" if request.param == "memory" else f"file://{tmp_path}/store"
    return FaultyBackend(ObstoreBackend("it", fs))


async def stored(backend: FaultyBackend, world: World, content: bytes = CONTENT) -> FileRecord:
    record = await save(Draft(filename="a.bin"), source_of(content), backend, world)
    backend.calls.clear()
    return record


async def replace(backend: StorageBackend, record: FileRecord, content: bytes, world: World) -> None:
    await backend.driver(world).put(record.path, content, size=None, overwrite=True, attributes=Attributes())


def without(record: FileRecord, *members: str) -> FileRecord:
    return msgspec.structs.replace(record, **dict.fromkeys(members))


class TestExists:
    @in_its_world
    async def test_exists(self, backend: FaultyBackend, world: World) -> None:
        """An object is there until it is deleted."""
        record = await stored(backend, world)
        assert await read.exists(backend, record.path, world)
        await backend.driver(world).delete([record.path])
        assert not await read.exists(backend, record.path, world)

    @in_its_world
    async def test_a_failure_is_no_answer(self, backend: FaultyBackend, world: World) -> None:
        """A store that fails has not said that there is nothing."""
        backend.plan = [always("head")]
        with pytest.raises(OSError, match="on cue"):
            await read.exists(backend, "a", world)


class TestRange:
    @pytest.mark.parametrize(
        ("start", "stop"), [(0, None), (0, 0), (1, 5), (2**20 - 1, 2**20 + 1), (5, 10**9), (3 * 2**20, None), (7, 3)]
    )
    @in_its_world
    async def test_the_bytes_of_a_range(
        self, start: int, stop: int | None, backend: FaultyBackend, world: World
    ) -> None:
        """A range is what a slice of the content is."""
        record = await stored(backend, world)
        assert await read.read_range(backend, record.path, start, stop, world) == CONTENT[start:stop]

    @in_its_world
    async def test_the_size(self, backend: FaultyBackend, world: World) -> None:
        """The record says the size; only where it does not the store is asked."""
        record = await stored(backend, world)
        assert await read.size_of(backend, record, world) == len(CONTENT)
        assert backend.verbs == []
        assert await read.size_of(backend, without(record, "size"), world) == len(CONTENT)
        assert backend.verbs == ["head"]


class TestVerify:
    @pytest.mark.parametrize("content", [b"", b"x", CONTENT], ids=["none", "one", "large"])
    @in_its_world
    async def test_a_good_one(self, content: bytes, backend: FaultyBackend, world: World) -> None:
        """An object that is what its record says passes, by a look at its size and one reading."""
        record = await stored(backend, world, content)
        info = await read.verify(backend, record, world)
        assert (info.path, info.size) == (record.path, len(content))
        assert backend.verbs == ["head", "read"]

    @pytest.mark.parametrize("algorithm", ["sha512", "blake2b", "md5", "SHA1"])
    @in_its_world
    async def test_other_checksums(self, algorithm: str, backend: FaultyBackend, world: World) -> None:
        """The record says how its checksum was made."""
        record = await stored(backend, world)
        record.checksum = f"{algorithm}:{hashlib.new(algorithm, CONTENT).hexdigest()}"
        await read.verify(backend, record, world)
        record.checksum = f"{algorithm}:{hashlib.new(algorithm, b'').hexdigest()}"
        with pytest.raises(IntegrityFailure):
            await read.verify(backend, record, world)

    @pytest.mark.parametrize(
        "damage",
        [
            lambda content: content[:-1] + bytes([content[-1] ^ 1]),
            lambda content: bytes([content[0] ^ 1]) + content[1:],
        ],
        ids=["end", "start"],
    )
    @in_its_world
    async def test_changed_bytes(self, damage: Damage, backend: FaultyBackend, world: World) -> None:
        """One changed byte is found, and the error carries both checksums."""
        record = await stored(backend, world)
        await replace(backend, record, damage(CONTENT), world)
        with pytest.raises(IntegrityFailure, match="has the checksum") as caught:
            await read.verify(backend, record, world)
        assert caught.value.expected == record.checksum
        assert caught.value.actual == f"sha256:{hashlib.sha256(damage(CONTENT)).hexdigest()}"
        assert (caught.value.backend, caught.value.path) == ("it", record.path)

    @pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: content + b"~", lambda _: b""])
    @in_its_world
    async def test_another_size(self, damage: Damage, backend: FaultyBackend, world: World) -> None:
        """Another size is found without reading, also where there is no checksum."""
        record = await stored(backend, world)
        await replace(backend, record, damage(CONTENT), world)
        backend.calls.clear()
        for known in (record, without(record, "checksum")):
            with pytest.raises(IntegrityFailure, match="has the size") as caught:
                await read.verify(backend, known, world)
            assert (caught.value.expected, caught.value.actual) == (len(CONTENT), len(damage(CONTENT)))
        assert backend.verbs == ["head", "head"]

    @in_its_world
    async def test_a_missing_one(self, backend: FaultyBackend, world: World) -> None:
        """An object that is not there is an error, whatever the record knows of it."""
        record = await stored(backend, world)
        await backend.driver(world).delete([record.path])
        for known in (record, without(record, "checksum"), without(record, "size", "checksum")):
            with pytest.raises(ObjectNotFound):
                await read.verify(backend, known, world)

    @pytest.mark.parametrize("checksum", ["", "abc", ":", "crc32c:abc", "shake_128:abc"])
    @in_its_world
    async def test_a_checksum_of_no_known_kind(self, checksum: str, backend: FaultyBackend, world: World) -> None:
        """A checksum that cannot be made here is an error of ours that shows it."""
        record = await stored(backend, world)
        record.checksum = checksum
        with pytest.raises(RecordError, match=f"is of no known kind: '{checksum}'"):
            await read.verify(backend, record, world)
        assert backend.verbs == []

    @in_its_world
    async def test_nothing_to_hold_it_against(self, backend: FaultyBackend, world: World) -> None:
        """Without size and checksum it is enough that the object is there, and nothing is read."""
        record = await stored(backend, world)
        await read.verify(backend, without(record, "size", "checksum"), world)
        assert backend.verbs == ["head"]


class TestAdopt:
    @in_its_world
    async def test_what_the_store_says_is_taken(self, backend: FaultyBackend, world: World) -> None:
        """Of an object that lies there already the record learns what the store knows, and keeps what it said."""
        record = await stored(backend, world)
        info = await backend.driver(world).head(record.path)
        bare = FileRecord(backend="it", path=record.path, filename="b.bin", content_type="image/png")
        adopted = await read.adopt(backend, bare, world)
        assert (adopted.size, adopted.etag, adopted.last_modified) == (info.size, info.etag, info.last_modified)
        assert (adopted.filename, adopted.content_type, adopted.checksum) == ("b.bin", "image/png", None)
        assert (await read.adopt(backend, record, world)) == record

    @pytest.mark.parametrize("member", ["size", "etag"])
    @in_its_world
    async def test_another_object(self, member: str, backend: FaultyBackend, world: World) -> None:
        """An object that is not the one of the record is not adopted."""
        record = await stored(backend, world)
        await replace(backend, record, CONTENT + b"~", world)
        with pytest.raises(IntegrityFailure, match=f"has the {member}"):
            await read.adopt(backend, without(record, *({"size", "etag"} - {member})), world)

    @in_its_world
    async def test_a_missing_one(self, backend: FaultyBackend, world: World) -> None:
        """What is not there cannot be adopted."""
        with pytest.raises(ObjectNotFound):
            await read.adopt(backend, FileRecord(backend="it", path="none", filename="a"), world)
