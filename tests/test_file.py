"""`FileObject`: what it is before and after it is stored, its verbs in both worlds, and how it travels."""

import asyncio
import copy
import inspect
import io
import math
import os
import pickle
import random
import uuid
import zipfile
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import pytest
from litestar.datastructures import UploadFile

from lading import FileList, FileObject, Storages
from lading import storages as default
from lading.backends.obstore import ObstoreBackend
from lading.backends.protocols import Attributes
from lading.errors import (
    BackendNotRegistered,
    ConfigurationError,
    IntegrityFailure,
    InvalidPath,
    LadingError,
    NotSupported,
    ObjectExists,
    ObjectNotFound,
    OwnedFile,
    PendingFile,
    RecordError,
    SourceError,
    StateError,
    StoreError,
    TooLarge,
)
from lading.file import Claim, claim, claim_of, decode_hook, encode_hook, hold, identity, loaded, on_change
from lading.record import FileRecord
from lading.rules import max_size
from lading.signer import UrlSigner
from lading.testing import FaultyBackend
from lading.testing.backends import in_its_world
from lading.tokens import Tokens
from lading.worlds import World, asyncio_world, inline, iterate
from tests.faulty import always

PART = 64 * 1024
LARGE = random.Random(7).randbytes(3 * PART + 1)
RECORD: dict[str, Any] = {
    "backend": "it",
    "path": "in/a.pdf",
    "filename": "A.pdf",
    "content_type": "application/pdf",
    "size": 5,
    "last_modified": 1.5,
    "checksum": "sha256:" + "0" * 64,
    "etag": '"e"',
    "version_id": "v",
    "metadata": {"a": [1, None]},
    "colour": "blue",
}


@pytest.fixture(params=[inline, asyncio_world], ids=["inline", "asyncio"])
def world(request: pytest.FixtureRequest) -> World:
    chosen: World = request.param
    return chosen


@pytest.fixture
def backend() -> FaultyBackend:
    return FaultyBackend(ObstoreBackend("it", "memory://", chunk_size=PART))


@pytest.fixture
def storages(backend: FaultyBackend, tmp_path: Path) -> Storages:
    """Two backends: `it` in memory, which is the default, and `disk`."""
    storages = Storages()
    storages.register_backend(backend)
    storages.register_backend(f"file://{tmp_path}/store", key="disk", chunk_size=PART)
    storages.set_default_backend("it")
    return storages


async def ask(world: World, file: FileObject, verb: str, *args: Any, **options: Any) -> Any:
    """Call a verb, or in the asyncio world its twin."""
    if world is inline:
        return getattr(file, verb)(*args, **options)
    return await getattr(file, f"{verb}_async")(*args, **options)


def new(storages: Storages, content: Any = b"hello", filename: str = "a.txt", **more: Any) -> FileObject:
    return FileObject(filename=filename, content=content, storages=storages, **more)


def paths(backend: Any) -> list[str]:
    return [info.path for info in iterate(backend.driver(inline).list())]


async def replace(file: FileObject, content: bytes, world: World) -> None:
    driver = file.backend.driver(world)
    await driver.put(file.path, content, size=None, overwrite=True, attributes=Attributes())


class TestConstructor:
    def test_nothing_is_needed(self) -> None:
        """A file without anything is pending, has a name, and no content."""
        file = FileObject()
        assert (file.filename, file.content_type, file.size, dict(file.metadata)) == ("unnamed", None, None, {})
        assert (file.checksum, file.etag, file.version_id, file.last_modified) == (None, None, None, None)
        assert not file.is_stored
        assert not file.has_pending_data
        assert file.storages is default

    @pytest.mark.parametrize("content", [b"", b"x"])
    def test_content_is_pending(self, content: bytes) -> None:
        """A file with content has pending data, also where the content is empty."""
        file = FileObject(content=content)
        assert file.has_pending_data
        assert file.size == len(content)

    def test_the_seeds_positions(self) -> None:
        """The arguments come in the order that the seed's users know."""
        file = FileObject("it", "a.pdf", "b.pdf", "application/pdf", metadata={"a": 1}, content=b"x")
        assert (file.filename, file.content_type, file.metadata) == ("a.pdf", "application/pdf", {"a": 1})

    @pytest.mark.parametrize(
        ("given", "filename"),
        [
            ({"filename": "../../etc/passwd"}, "passwd"),
            ({"filename": "C:\\temp\\a.txt"}, "a.txt"),
            ({"filename": "a\nb\u202e.txt"}, "ab.txt"),
            ({"filename": "x" * 300 + ".pdf"}, "x" * 251 + ".pdf"),
            ({"filename": "中文.pdf"}, "中文.pdf"),
            ({"filename": ""}, "unnamed"),
            ({"source_path": "in/a.pdf"}, "a.pdf"),
            ({"source_path": Path("in/a.pdf")}, "a.pdf"),
            ({"source_path": PurePosixPath("in/a.pdf"), "to_filename": "b.pdf"}, "a.pdf"),
            ({"source_path": "in/a.pdf", "filename": "c.pdf"}, "c.pdf"),
            ({"to_filename": "in/b.pdf", "content": b""}, "b.pdf"),
            ({"backend": "it", "path": "in/d.pdf"}, "d.pdf"),
            ({"backend": "it", "path": "in/d.pdf", "filename": "x/e.pdf"}, "e.pdf"),
        ],
    )
    def test_names(self, given: dict[str, Any], filename: str) -> None:
        """The name is sanitised, and is by default that of what was given."""
        assert FileObject(**given).filename == filename

    @pytest.mark.parametrize(
        "given",
        [
            {"content": b"x", "source_path": "a"},
            {"content": b"", "path": "a", "backend": "it"},
            {"source_path": "a", "path": "a", "backend": "it"},
            {"content": b"x", "source_path": "a", "path": "a", "backend": "it"},
        ],
    )
    def test_one_origin(self, given: dict[str, Any]) -> None:
        """Content comes from one place."""
        with pytest.raises(SourceError, match="give one of"):
            FileObject(**given)

    @pytest.mark.parametrize("path", ["", "/etc/passwd", "../a", "a/../b", "a%2fb", "a\0b", "x" * 300])
    def test_paths_are_guarded(self, path: str) -> None:
        """A path that no store may see is refused, wherever it is given."""
        with pytest.raises(InvalidPath):
            FileObject("it", to_filename=path, content=b"x")
        with pytest.raises(InvalidPath):
            FileObject("it", path=path)

    def test_an_object_that_exists(self, storages: Storages) -> None:
        """A file with a path is stored, and knows what it was told."""
        given = {name: value for name, value in RECORD.items() if name not in ("backend", "colour")}
        file = FileObject("it", storages=storages, **given)
        assert file.is_stored
        assert not file.has_pending_data
        assert {**file.to_dict(), "colour": "blue"} == RECORD
        assert claim_of(file) == "free"
        assert FileObject("it", path="p").content_type == "application/octet-stream"

    def test_which_backend(self, storages: Storages, backend: FaultyBackend) -> None:
        """A backend is named by its key, given itself, or the default of the registry."""
        elsewhere = ObstoreBackend("elsewhere", "memory://")
        assert new(storages).backend is backend
        assert new(storages, backend="disk").backend.key == "disk"
        assert new(storages, backend=elsewhere).backend is elsewhere
        assert FileObject(elsewhere, path="p", storages=storages).to_dict()["backend"] == "elsewhere"
        assert FileObject(path="p", storages=storages).to_dict()["backend"] == "it"
        with pytest.raises(BackendNotRegistered, match=r"'none'.*'it', 'disk'"):
            _ = new(storages, backend="none").backend
        with pytest.raises(ConfigurationError, match="no backend was named"):
            _ = new(Storages()).backend

    def test_content_that_is_none(self) -> None:
        """Text is no content, and the error says so when the file is made."""
        mistake: Any = "text"
        with pytest.raises(SourceError, match="encode it"):
            FileObject(content=mistake)


class TestMetadata:
    def test_it_is_read_only(self, storages: Storages) -> None:
        """The metadata cannot be changed behind the row's back."""
        for file in (new(storages, metadata={"a": 1}), new(storages, metadata={"a": 1}).save()):
            metadata: Any = file.metadata
            with pytest.raises(TypeError):
                metadata["a"] = 2
            assert file.metadata == {"a": 1}

    def test_it_is_copied(self) -> None:
        """What the caller does with a dict, or a list in it, after handing it over changes nothing."""
        given = {"a": [1]}
        file = FileObject(content=b"", metadata=given)
        given["a"].append(2)
        given["b"] = []
        assert file.metadata == {"a": [1]}

    @in_its_world
    async def test_updating(self, storages: Storages, world: World) -> None:
        """Values are merged in, before storing and after; what was read before stays as it was."""
        file = new(storages, metadata={"a": 1, "b": 1})
        file.update_metadata({"b": 2})
        await ask(world, file, "save")
        before = file.metadata
        file.update_metadata({"c": [3]})
        assert file.to_dict()["metadata"] == {"a": 1, "b": 2, "c": [3]}
        assert before == {"a": 1, "b": 2}

    async def test_updating_while_it_is_stored(self, storages: Storages, backend: FaultyBackend) -> None:
        """What is merged in while the content is on its way is in the record."""
        gate = asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            yield b"x"
            await gate.wait()

        file = new(storages, slow())
        saving = asyncio.ensure_future(file.save_async())
        await asyncio.sleep(0.01)
        file.update_metadata({"late": True})
        gate.set()
        await saving
        assert file.metadata == {"late": True}

    def test_who_holds_a_file_is_told(self, storages: Storages, monkeypatch: pytest.MonkeyPatch) -> None:
        """A change of the record in place is told to whoever holds the file, and to nobody else."""
        monkeypatch.setattr("lading.file._on_change", [])  # those of the ORM layer ask more of a holder
        told: list[tuple[FileObject, object]] = []
        on_change(lambda file, holder: told.append((file, holder)))
        file, free = new(storages).save(), new(storages).save()
        hold(file, "the row")
        file.update_metadata({"a": 1})
        free.update_metadata({"a": 1})
        assert told == [(file, "the row")]

    @pytest.mark.parametrize(
        "value",
        [None, True, 0, -1, 2**70, 1.5, -0.0, "", "ü\u2028", [], {}, [1, [2, {"x": None}]], {"": {"ä": [False]}}],
    )
    def test_what_json_holds(self, value: Any) -> None:
        """Every value of JSON comes back as it was."""
        file = FileObject(content=b"", metadata={"value": value})
        assert file.metadata["value"] == value
        record = FileRecord(backend="b", path="p", filename="f", metadata=dict(file.metadata))
        assert FileRecord.from_json(record.to_json()).metadata == {"value": value}

    @pytest.mark.parametrize(
        "value",
        [
            math.nan,
            math.inf,
            [1, -math.inf],
            datetime.now(UTC),
            uuid.uuid4(),
            b"bytes",
            {1, 2},
            (1, 2),
            {1: "a"},
            {"x": {None: 1}},
            "\ud800",
            object(),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_what_json_does_not_hold(self, value: Any, storages: Storages) -> None:
        """What would come back as something else, or not at all, is refused at once, with its name."""
        stored = new(storages).save()
        with pytest.raises(RecordError, match="metadata 'name'"):
            FileObject(content=b"", metadata={"fine": 1, "name": value})
        with pytest.raises(RecordError, match="metadata 'name'"):
            stored.update_metadata({"fine": 1, "name": value})
        assert stored.metadata == {}

    def test_names_that_are_none(self) -> None:
        """The names are text, and metadata that contains itself is refused too."""
        endless: dict[str, Any] = {}
        endless["again"] = endless
        mistakes: list[Any] = [{1: "a"}, {None: 1}, endless]
        for metadata in mistakes:
            with pytest.raises(RecordError, match="metadata"):
                FileObject(content=b"", metadata=metadata)


class TestValue:
    def test_stored_files_are_equal_by_place(self, storages: Storages) -> None:
        """Two stored files are one where backend and path are, whatever else is known of them."""
        file = new(storages).save()
        twin = FileObject("it", path=file.path, size=99)
        assert file == twin
        assert hash(file) == hash(twin)
        assert {file, twin} == {file}
        assert file != FileObject("disk", path=file.path)
        assert file != FileObject("it", path=file.path + "x")
        assert file != file.path

    def test_a_pending_file_equals_itself(self, storages: Storages) -> None:
        """A pending file equals nothing but itself, and has no hash."""
        file = same = new(storages)
        assert file == same
        assert file != new(storages)
        assert file != new(storages).save()
        assert new(storages).save() != file
        with pytest.raises(PendingFile):
            hash(file)

    @pytest.mark.parametrize(
        ("state", "shown"),
        [
            ("{", "<FileObject unreadable: '{'>"),
            (b"\xff", "<FileObject unreadable: b'\\xff'>"),
            ('{"backend": 1}', "<FileObject unreadable: '{\"backend\": 1}'>"),
            ({"path": "p"}, "<FileObject unreadable: {'path': 'p'}>"),
            (5, "<FileObject unreadable: 5>"),
            (RECORD, "<FileObject it:in/a.pdf 'A.pdf' application/pdf 5>"),
            (msgspec.json.encode(RECORD), "<FileObject it:in/a.pdf 'A.pdf' application/pdf 5>"),
        ],
    )
    def test_repr_of_what_a_row_gave(self, state: Any, shown: str) -> None:
        """A file shows what it is, also where the row's JSON is none and its backend is not registered."""
        assert repr(loaded(state, Storages())) == shown

    def test_repr(self, storages: Storages) -> None:
        """A pending file shows its name, and never its content."""
        assert repr(new(storages, b"secret")) == "<FileObject pending 'a.txt'>"
        assert repr(FileObject("none", filename="a.txt")) == "<FileObject pending 'a.txt'>"
        assert len(repr(loaded("x" * 10_000, storages))) < 200

    @pytest.mark.parametrize("state", ["{", b"\xff", '{"backend": 1}', {"path": "p"}])
    def test_a_corrupt_record(self, state: Any, storages: Storages) -> None:
        """A row's JSON that is no record is an error of ours, when somebody looks."""
        file = loaded(state, storages)
        assert file.is_stored
        for look in (
            lambda: file.path,
            lambda: file.filename,
            lambda: file.size,
            lambda: file.metadata,
            lambda: hash(file),
            file.to_dict,
            file.get_content,
            file.exists,
        ):
            with pytest.raises(RecordError):
                look()


TRAVELS: dict[str, Callable[[FileObject], FileObject]] = {
    "pickle": lambda file: pickle.loads(pickle.dumps(file)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "dict": lambda file: FileObject.from_dict(file.to_dict()),
}
travels = pytest.mark.parametrize("travel", TRAVELS.values(), ids=list(TRAVELS))


class TestTravel:
    @travels
    @pytest.mark.parametrize("state", [RECORD, msgspec.json.encode(RECORD).decode()], ids=["dict", "text"])
    def test_a_stored_file(self, travel: Callable[[FileObject], FileObject], state: Any) -> None:
        """A stored file travels by its record, unknown members and all, and counts as a row's where it arrives."""
        again = travel(loaded(state, default))
        assert again.to_dict() == RECORD
        assert list(again.to_dict()) == list(RECORD)
        assert claim_of(again) == "owned"
        again.update_metadata({"b": 2})
        assert RECORD["metadata"] == {"a": [1, None]}

    @travels
    def test_it_is_another(self, travel: Callable[[FileObject], FileObject], storages: Storages) -> None:
        """What is done to the one that arrived is not done to the one that was sent."""
        file = new(storages, metadata={"a": 1}).save()
        again = travel(file)
        assert again == file
        again.update_metadata({"a": 2})
        assert (again.metadata, file.metadata) == ({"a": 2}, {"a": 1})
        assert (claim_of(again), claim_of(file)) == ("owned", "free")

    @pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
    def test_a_pending_file_is_copied(self, duplicate: Callable[[FileObject], FileObject], storages: Storages) -> None:
        """A copy of a pending file is a pending file of the same content, that is stored on its own."""
        file = new(storages, metadata={"a": 1})
        twin = duplicate(file)
        twin.update_metadata({"a": 2})
        assert twin.save().path != file.save().path
        assert (twin.get_content(), twin.metadata, file.metadata) == (b"hello", {"a": 2}, {"a": 1})

    def test_a_pending_file_does_not_pickle(self, storages: Storages) -> None:
        """A pending file has no record to travel by, and the error says what to do."""
        with pytest.raises(PendingFile, match="save it"):
            pickle.dumps(new(storages))
        with pytest.raises(PendingFile):
            new(storages).to_dict()

    def test_rows_of_the_ancestor(self) -> None:
        """A record without a path has its file name for one."""
        record = {name: value for name, value in RECORD.items() if name != "path"} | {"filename": "in/a.pdf"}
        for file in (FileObject.from_dict(record), loaded(msgspec.json.encode(record), default)):
            assert (file.path, file.filename, file.size) == ("in/a.pdf", "a.pdf", 5)

    @pytest.mark.parametrize("data", [{}, {"backend": "it"}, {**RECORD, "size": "5"}])
    def test_what_is_no_record(self, data: dict[str, Any]) -> None:
        """What is no record makes no file."""
        with pytest.raises(RecordError):
            FileObject.from_dict(data)


class Holder(msgspec.Struct):
    file: FileObject
    cover: FileObject | None = None
    pages: list[FileObject] = []


class TestMsgspec:
    @pytest.mark.parametrize("kind", [msgspec.json, msgspec.msgpack], ids=["json", "msgpack"])
    def test_round_trip(self, kind: Any) -> None:
        """Files in structs, alone, optional and in lists, come back as they went, unknown members included."""
        file, other = FileObject.from_dict(RECORD), FileObject("it", path="b")
        for holder in (Holder(file), Holder(file, other, [file, other]), Holder(file, None, FileList([other]))):
            text = kind.encode(holder, enc_hook=encode_hook)
            again = kind.decode(text, type=Holder, dec_hook=decode_hook)
            assert again.file.to_dict() == RECORD
            assert (again.cover, again.pages) == (holder.cover, list(holder.pages))
            assert claim_of(again.file) == "owned"

    def test_builtins(self) -> None:
        """`to_builtins` and `convert` work alike."""
        file = FileObject.from_dict(RECORD)
        data = msgspec.to_builtins(Holder(file), enc_hook=encode_hook)
        assert data == {"file": RECORD, "cover": None, "pages": []}
        assert msgspec.convert(data, Holder, dec_hook=decode_hook).file == file

    @pytest.mark.parametrize("value", ["{}", '{"backend": "it"}', "5", '"a"', "[]"])
    def test_what_is_no_record(self, value: str) -> None:
        """What is no record is a validation error that says where."""
        with pytest.raises(msgspec.ValidationError, match=r"not the record of a stored file.* - at `\$\.file`"):
            msgspec.json.decode(f'{{"file": {value}}}', type=Holder, dec_hook=decode_hook)

    def test_a_pending_file(self, storages: Storages) -> None:
        """A pending file is not encoded."""
        with pytest.raises(PendingFile):
            msgspec.json.encode([new(storages)], enc_hook=encode_hook)

    def test_other_types(self) -> None:
        """Of other types the hooks say what msgspec wants to hear."""
        with pytest.raises(NotImplementedError, match="object"):
            encode_hook(object())
        with pytest.raises(NotImplementedError, match="complex"):
            decode_hook(complex, {})


class TestSave:
    @pytest.mark.parametrize("content", [b"", b"hello", LARGE], ids=["none", "small", "large"])
    @in_its_world
    async def test_a_pending_file_becomes_a_stored_one(self, content: bytes, storages: Storages, world: World) -> None:
        """Saving turns the file, in place, into one that knows all about itself, and gives it back."""
        file = new(storages, content, content_type="text/plain", metadata={"a": 1})
        assert await ask(world, file, "save") is file
        assert file.is_stored
        assert not file.has_pending_data
        assert (file.size, file.filename, file.metadata) == (len(content), "a.txt", {"a": 1})
        assert file.checksum is not None
        assert file.path.endswith(".txt")
        assert claim_of(file) == "free"
        assert await ask(world, file, "get_content") == content

    @in_its_world
    async def test_where_the_content_comes_from(self, storages: Storages, world: World, tmp_path: Path) -> None:
        """Content is given when the file is made, as a path, or at last when it is saved."""
        path = tmp_path / "in.txt"
        path.write_bytes(b"from a path")
        for given in (path, str(path)):
            file = FileObject(source_path=given, storages=storages)
            assert (file.filename, file.size) == ("in.txt", 11)
            assert await ask(world, await ask(world, file, "save"), "get_content") == b"from a path"
        late = FileObject(filename="late.txt", storages=storages)
        await ask(world, late, "save", io.BytesIO(b"late"))
        assert await ask(world, late, "get_content") == b"late"

    @in_its_world
    async def test_content_from_another_file(self, storages: Storages, world: World) -> None:
        """A large file is stored from the chunks of another while they are read from a store of the same library."""
        file = new(storages, LARGE)
        await ask(world, file, "save")
        twin = new(storages, file.iter_bytes(), backend="disk")
        await ask(world, twin, "save")
        again = new(storages, twin.iter_bytes() if world is inline else file.iter_bytes_async())
        await ask(world, again, "save")
        assert file.checksum == twin.checksum == again.checksum

    @in_its_world
    async def test_twice(self, storages: Storages, backend: FaultyBackend, world: World) -> None:
        """A stored file is not stored again."""
        file = new(storages)
        await ask(world, file, "save")
        for data in ((), (b"other",)):
            with pytest.raises(StateError, match="is stored already"):
                await ask(world, file, "save", *data)
        assert paths(backend) == [file.path]

    async def test_twice_at_once(self, storages: Storages, backend: FaultyBackend) -> None:
        """Of two that store one file at once the second is refused, so that no object is left that nobody names."""
        file = new(storages, LARGE)
        outcomes = await asyncio.gather(file.save_async(), file.save_async(), return_exceptions=True)
        assert outcomes[0] is file
        assert isinstance(outcomes[1], StateError)
        assert paths(backend) == [file.path]

    async def test_a_copy_of_one_that_is_being_stored(self, storages: Storages, backend: FaultyBackend) -> None:
        """A file that is copied while it is being stored leaves a pending one, that is stored on its own."""
        file = new(storages)
        saving = asyncio.ensure_future(file.save_async())
        await asyncio.sleep(0)
        twin = copy.copy(file)
        await saving
        await twin.save_async()
        assert sorted(paths(backend)) == sorted([file.path, twin.path])

    @in_its_world
    async def test_without_content(self, storages: Storages, world: World) -> None:
        """A file without content is not stored, and the error says how content is given."""
        with pytest.raises(SourceError, match="has no content: give content="):
            await ask(world, FileObject(filename="a", storages=storages), "save")

    @in_its_world
    async def test_a_failed_save_can_be_repeated(
        self, storages: Storages, backend: FaultyBackend, world: World
    ) -> None:
        """After a failure the file is pending as before, and is stored the second time."""
        backend.plan = [always("put", "error after")]
        file = new(storages, LARGE)
        with pytest.raises(StoreError):
            await ask(world, file, "save")
        assert file.has_pending_data
        assert paths(backend) == []
        backend.plan = ()
        await ask(world, file, "save")
        assert await ask(world, file, "get_content") == LARGE

    @in_its_world
    async def test_content_that_cannot_be_read_again(
        self, storages: Storages, backend: FaultyBackend, world: World
    ) -> None:
        """Where the second try would need content that is gone, it says so, and stores nothing."""
        backend.plan = [always("put")]
        file = new(storages, iter([b"once"]))
        with pytest.raises(StoreError):
            await ask(world, file, "save")
        backend.plan = ()
        with pytest.raises(SourceError, match="read already"):
            await ask(world, file, "save")
        assert paths(backend) == []

    @in_its_world
    async def test_a_refused_file_stays_pending(self, world: World) -> None:
        """A file that a rule refuses stays what it was."""
        strict = ObstoreBackend("strict", "memory://", rules=[max_size(3)])
        file = FileObject(strict, "a.txt", content=b"hello")
        with pytest.raises(TooLarge):
            await ask(world, file, "save")
        assert file.has_pending_data
        assert paths(strict) == []

    @in_its_world
    async def test_a_path_set_by_hand(self, storages: Storages, world: World) -> None:
        """What lies at a path is replaced only on request, and only where the path was set by hand."""
        file = new(storages, b"first", to_filename="in/a.txt")
        await ask(world, file, "save")
        assert file.path == "in/a.txt"
        second = new(storages, b"second", to_filename="in/a.txt")
        with pytest.raises(ObjectExists):
            await ask(world, second, "save")
        assert await ask(world, file, "get_content") == b"first"
        await ask(world, second, "save", overwrite=True)
        assert await ask(world, file, "get_content") == b"second"
        with pytest.raises(SourceError, match="overwrite= needs a to_filename"):
            await ask(world, new(storages), "save", overwrite=True)

    @in_its_world
    async def test_progress(self, storages: Storages, world: World) -> None:
        """The caller is told how far it is, at last that all is done."""
        told: list[tuple[int, int | None]] = []
        await ask(world, new(storages, LARGE), "save", on_progress=lambda *args: told.append(args))
        assert told[-1] == (len(LARGE), len(LARGE))

    def test_async_content_in_the_sync_world(self, storages: Storages, backend: FaultyBackend) -> None:
        """The sync verb refuses an async iterable with the name of its twin, which then stores it whole."""

        async def trickle() -> AsyncIterator[bytes]:
            for _ in range(5):
                await asyncio.sleep(0)
                yield b"x"

        file = new(storages, trickle())
        with pytest.raises(SourceError, match="save_async"):
            file.save()
        assert backend.verbs == []
        asyncio.run(file.save_async())
        assert file.get_content() == b"xxxxx"

    def test_what_is_no_upload(self) -> None:
        """Bytes or a path where an upload belongs are refused at once."""
        wrong: Any
        for wrong in (b"x", Path("a"), None):
            with pytest.raises(SourceError, match="keeps what it received"):
                FileObject.from_upload(wrong)

    @pytest.mark.parametrize("spool", [1, 2**20], ids=["on disk", "in memory"])
    @in_its_world
    async def test_from_upload(self, spool: int, storages: Storages, world: World) -> None:
        """An upload is stored as it arrived, under a name that is safe and a type that is true; it stays open."""
        upload = UploadFile("image/png", "../ü.pdf", b"%PDF-1.7 " + LARGE, max_spool_size=spool)
        upload.file.read(5)
        file = FileObject.from_upload(upload, "disk", metadata={"a": 1}, storages=storages)
        assert (file.filename, file.content_type, file.size) == ("ü.pdf", "image/png", len(LARGE) + 9)
        await ask(world, file, "save")
        assert (file.content_type, file.metadata, file.record.backend) == ("application/pdf", {"a": 1}, "disk")
        assert await ask(world, file, "get_content") == b"%PDF-1.7 " + LARGE
        assert not upload.file.closed
        upload.file.close()

    def test_from_an_upload_that_says_nothing(self, storages: Storages) -> None:
        """An upload needs nothing but its file."""

        class Upload:
            file = io.BytesIO(b"x")

        file = FileObject.from_upload(Upload(), storages=storages)
        assert (file.filename, file.content_type, file.save().get_content()) == ("unnamed", None, b"x")


class TestRead:
    @pytest.fixture(params=["it", "disk"])
    def file(self, request: pytest.FixtureRequest, storages: Storages) -> FileObject:
        return new(storages, LARGE, backend=request.param).save()

    @in_its_world
    async def test_content(self, file: FileObject, world: World) -> None:
        """The content is got whole, in ranges, and in chunks."""
        assert await ask(world, file, "get_content") == LARGE
        assert await ask(world, file, "read_range", 5) == LARGE[5:]
        assert await ask(world, file, "read_range", 5, PART + 5) == LARGE[5 : PART + 5]
        for start, stop in ((0, None), (PART, None), (5, PART)):
            if world is inline:
                chunks = list(file.iter_bytes(start, stop))
            else:
                chunks = [chunk async for chunk in file.iter_bytes_async(start, stop)]
            assert b"".join(chunks) == LARGE[start:stop]

    def test_reading_stops_where_it_is_left(self, storages: Storages) -> None:
        """Chunks that are not asked for are not read, and the file of the store is closed."""
        file = new(storages, bytes(4 * 2**20), backend="disk").save()
        chunks = file.iter_bytes()
        next(chunks)
        assert [link for link in links() if file.path in link]
        del chunks
        assert not [link for link in links() if file.path in link]

    def test_open(self, file: FileObject) -> None:
        """It opens as a file that can seek."""
        with file.open() as opened:
            assert opened.read(10) == LARGE[:10]
            assert opened.seek(-5, os.SEEK_END) == len(LARGE) - 5
            assert opened.read() == LARGE[-5:]

    async def test_open_async(self, file: FileObject) -> None:
        """It opens as a file that can seek and is awaited."""
        async with await file.open_async() as opened:
            assert await opened.read(10) == LARGE[:10]
            assert await opened.seek(-5, os.SEEK_END) == len(LARGE) - 5
            assert await opened.read() == LARGE[-5:]

    async def test_a_size_that_nobody_wrote_down(self, file: FileObject) -> None:
        """A file of the ancestor, whose size is not known, opens too."""
        bare = FileObject(file.record.backend, path=file.path, storages=file.storages)
        with bare.open() as opened:
            assert opened.read() == LARGE
        async with await bare.open_async() as reader:
            assert await reader.read() == LARGE

    def test_a_stored_archive(self, storages: Storages) -> None:
        """A ZIP archive is read where it lies: one small member of a large one is no large reading."""
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as written:
            written.writestr("large", bytes(2**20))
            written.writestr("small.txt", "hello")
        for backend in ("it", "disk"):
            file = new(storages, archive.getvalue(), "a.zip", backend=backend).save()
            with file.open() as opened, zipfile.ZipFile(opened) as read:
                assert read.read("small.txt") == b"hello"
                assert read.testzip() is None

    @in_its_world
    async def test_exists(self, file: FileObject, world: World) -> None:
        """A stored file is there until it is deleted, and deleting it again is no error."""
        assert await ask(world, file, "exists")
        await ask(world, file, "delete")
        assert not await ask(world, file, "exists")
        await ask(world, file, "delete")
        with pytest.raises(ObjectNotFound):
            await ask(world, file, "get_content")

    @in_its_world
    async def test_verify(self, file: FileObject, world: World) -> None:
        """A good file passes; a changed, a cut and a missing one do not."""
        await ask(world, file, "verify")
        for damaged in (LARGE[:-1] + b"~", LARGE[:-1]):
            await replace(file, damaged, world)
            with pytest.raises(IntegrityFailure):
                await ask(world, file, "verify")
        await ask(world, file, "delete")
        with pytest.raises(ObjectNotFound):
            await ask(world, file, "verify")

    @in_its_world
    async def test_a_pending_file_has_no_object(self, storages: Storages, world: World) -> None:
        """The verbs of stored files say of a pending one that it is not stored yet."""
        file = new(storages)
        for verb, args in (
            ("get_content", ()),
            ("read_range", (0,)),
            ("exists", ()),
            ("verify", ()),
            ("delete", ()),
            ("open", ()),
            ("sign", ()),
            ("copy_to", ("disk",)),
        ):
            with pytest.raises(PendingFile, match=r"'a\.txt' is not stored yet"):
                await ask(world, file, verb, *args)
        with pytest.raises(PendingFile):
            file.iter_bytes()

    @in_its_world
    async def test_an_unknown_backend(self, world: World) -> None:
        """A file whose backend is not registered loads, and its verbs say which are."""
        file = FileObject.from_dict(RECORD, storages=Storages())
        for verb in ("get_content", "exists", "verify"):
            with pytest.raises(BackendNotRegistered, match="'it'"):
                await ask(world, file, verb)


def links() -> list[str]:
    """What this process has open."""
    return [os.readlink(entry) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]


class TestDelete:
    @in_its_world
    async def test_of_a_row(self, storages: Storages, backend: FaultyBackend, world: World) -> None:
        """A file that belongs to a row, or is being written to one, is not deleted, and the error says how it is."""
        file = new(storages)
        await ask(world, file, "save")
        whose: Claim
        for whose in ("owned", "flushing"):
            claim(file, whose)
            with pytest.raises(OwnedFile, match="set the column to None"):
                await ask(world, file, "delete")
        assert paths(backend) == [file.path]

    @in_its_world
    async def test_of_a_store_that_fails(self, storages: Storages, backend: FaultyBackend, world: World) -> None:
        """A store that fails to delete is heard."""
        file = new(storages)
        await ask(world, file, "save")
        backend.plan = [always("delete")]
        with pytest.raises(StoreError):
            await ask(world, file, "delete")


class TestCopy:
    @pytest.mark.parametrize("content", [b"hello", LARGE], ids=["small", "large"])
    @in_its_world
    async def test_within_a_store(
        self, content: bytes, storages: Storages, backend: FaultyBackend, world: World
    ) -> None:
        """Within a store the store copies; the copy is a stored file of its own, and nobody's."""
        file = new(storages, content, metadata={"a": [1]})
        await ask(world, file, "save")
        backend.calls.clear()
        twin = await ask(world, file, "copy_to", "it")
        assert backend.verbs == ["copy", "head"]
        assert twin != file
        assert (twin.filename, twin.metadata, twin.checksum) == (file.filename, file.metadata, file.checksum)
        assert (claim_of(twin), claim_of(file)) == ("free", "free")
        await ask(world, file, "delete")
        assert await ask(world, twin, "get_content") == content
        await ask(world, twin, "verify")

    @pytest.mark.parametrize("content", [b"hello", LARGE], ids=["small", "large"])
    @in_its_world
    async def test_to_another_store(self, content: bytes, storages: Storages, world: World) -> None:
        """A file goes from one store to the other and back, and is still the same."""
        file = new(storages, content)
        await ask(world, file, "save")
        there = await ask(world, file, "copy_to", "disk")
        back = await ask(world, there, "copy_to", storages.get_backend("it"))
        assert (there.record.backend, back.record.backend) == ("disk", "it")
        assert file.checksum == there.checksum == back.checksum
        for one in (file, there, back):
            assert await ask(world, one, "get_content") == content

    @in_its_world
    async def test_by_an_alias(self, storages: Storages, backend: FaultyBackend, world: World) -> None:
        """A file whose row names an alias is copied within the store, and the copy names the backend itself."""
        file = new(storages)
        await ask(world, file, "save")
        storages.alias("old", "it")
        old = FileObject.from_dict({**file.to_dict(), "backend": "old"}, storages=storages)
        backend.calls.clear()
        twin = await ask(world, old, "copy_to", "it")
        assert (twin.record.backend, backend.verbs) == ("it", ["copy", "head"])

    @in_its_world
    async def test_to_a_path(self, storages: Storages, world: World) -> None:
        """A copy may have its path set by hand, and replaces nothing there."""
        file = new(storages)
        await ask(world, file, "save")
        for key in ("it", "disk"):
            twin = await ask(world, file, "copy_to", key, to_filename="in/b.txt")
            assert (twin.path, twin.filename) == ("in/b.txt", "a.txt")
            with pytest.raises(ObjectExists):
                await ask(world, file, "copy_to", key, to_filename="in/b.txt")
            with pytest.raises(InvalidPath):
                await ask(world, file, "copy_to", key, to_filename="../b.txt")

    @in_its_world
    async def test_of_a_damaged_one(self, storages: Storages, world: World) -> None:
        """A file that is not what its record says is not copied elsewhere: nothing remains there."""
        file = new(storages, LARGE)
        await ask(world, file, "save")
        await replace(file, LARGE[:-1] + b"~", world)
        with pytest.raises(IntegrityFailure):
            await ask(world, file, "copy_to", "disk")
        assert paths(storages.get_backend("disk")) == []


class TestSign:
    class Echo:
        longest, always = 3600, False

        def sign(self, record: FileRecord, *, expires_in: int, **overrides: str | None) -> str:
            said = "".join(f" {value}" for value in overrides.values() if value is not None)
            return f"GET {record.backend}:{record.path} {record.filename} {expires_in}{said}"

        def sign_put(self, record: FileRecord, *, expires_in: int) -> str:
            return f"PUT {record.backend}:{record.path} {record.filename} {expires_in}"

    @in_its_world
    async def test_a_url(self, storages: Storages, world: World) -> None:
        """A stored file has URLs to read and to write, for an hour unless said otherwise."""
        storages.signer = self.Echo()
        file = FileObject("it", path="p", filename="a", storages=storages)
        assert await ask(world, file, "sign") == "GET it:p a 3600"
        assert await ask(world, file, "sign", expires_in=5, for_upload=True) == "PUT it:p a 5"

    @in_its_world
    async def test_a_url_for_an_upload(self, storages: Storages, world: World) -> None:
        """A pending file has a URL to write where it says by hand where it will lie, and none to read."""
        storages.signer = self.Echo()
        file = FileObject("it", "a", to_filename="in/p", storages=storages)
        assert await ask(world, file, "sign", for_upload=True) == "PUT it:in/p a 3600"
        for pending, for_upload in ((file, False), (FileObject("it", "a", storages=storages), True)):
            with pytest.raises(PendingFile):
                await ask(world, pending, "sign", for_upload=for_upload)

    @in_its_world
    async def test_what_it_is_served_as(self, storages: Storages, world: World) -> None:
        """A URL may have the file served under another name and type, and shown or saved."""
        storages.signer = self.Echo()
        file = FileObject("it", path="p", filename="a", storages=storages)
        served: dict[str, Any] = {"filename": "b.txt", "disposition": "attachment", "content_type": "text/plain"}
        assert await ask(world, file, "sign", **served) == "GET it:p a 3600 b.txt attachment text/plain"
        with pytest.raises(ConfigurationError):
            await ask(world, file, "sign", for_upload=True, **served)

    @in_its_world
    async def test_a_signed_upload_without_a_store_that_signs(self, storages: Storages, world: World) -> None:
        """On a store without signed URLs one for an upload says where the object goes, and no more."""
        storages.signer = signer = UrlSigner(Tokens("a secret of some length"))
        file = FileObject("disk", "a.txt", to_filename="in/p", storages=storages)
        url = await ask(world, file, "sign", for_upload=True)
        assert url.startswith("/files/uploads/")
        grant = signer.read_upload(url.rpartition("/")[2])
        assert (grant.backend, grant.path, grant.filename) == ("disk", "in/p", "a.txt")
        assert (grant.content_type, grant.size, grant.checksum, grant.policy, grant.principal) == (None,) * 5

    @in_its_world
    async def test_what_cannot_be(self, storages: Storages, world: World) -> None:
        """Nobody to sign, and a time that is out of range, are errors of ours."""
        file = FileObject("it", path="p", storages=storages)
        with pytest.raises(NotSupported):
            await ask(world, file, "sign")
        with pytest.raises(ConfigurationError):
            await ask(world, file, "sign", expires_in=0)


class TestPairs:
    def test_every_verb_has_its_twin(self) -> None:
        """Sync and async are equals: each verb has a twin with the same parameters."""
        names = [name for name in vars(FileObject) if not name.startswith("_")]
        twins = [name for name in names if name.endswith("_async")]
        assert len(twins) == 10
        for name in twins:
            verb, twin = (inspect.signature(getattr(FileObject, each)) for each in (name[: -len("_async")], name))
            assert verb.parameters == twin.parameters

    def test_identity(self, storages: Storages) -> None:
        """A stored file is identified by backend and path, a pending one not at all."""
        file = new(storages).save()
        assert identity(file) == ("it", file.path)
        with pytest.raises(LadingError):
            identity(new(storages))
