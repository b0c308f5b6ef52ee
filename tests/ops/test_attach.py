"""Direct uploads: what is announced and refused early, and how what a client has put somewhere becomes a file."""

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lading import FileObject, Storages, media
from lading.backends.fsspec import FSSpecBackend
from lading.backends.obstore import ObstoreBackend
from lading.backends.protocols import Attributes, Copies, Describes, Signs, StorageBackend
from lading.errors import (
    ConfigurationError,
    ExtensionNotAllowed,
    Mismatch,
    NotUploaded,
    Refused,
    SourceError,
    StoreError,
    StoreUnavailable,
    TooLarge,
    TypeNotAllowed,
)
from lading.file import upload_of, uploaded
from lading.ops import retry
from lading.ops.attach import AT_ONCE, attach
from lading.ops.save import Draft
from lading.policy import Policy
from lading.record import FileRecord
from lading.rules import GiB, content_types, extensions, max_size
from lading.serving import content_disposition
from lading.testing import Fault, FaultyBackend
from lading.testing.backends import in_its_world
from lading.testing.backends import paths as paths_in
from lading.testing.faults import Kind, Verb
from lading.uploads import Upload, begin, headers, is_kept_to
from lading.worlds import World, asyncio_world, inline
from tests.backends import test_fsspec, test_obstore, test_radosgw
from tests.faulty import always
from tests.services.radosgw import RadosGW

PDF = b"%PDF-1.7 " + random.Random(7).randbytes(3 * 2**20)
HTML = b"<!doctype html><script>alert(1)</script>"
PLACES = ["memory", "local", "s3", "fsspec-memory", "fsspec-local", "fsspec-s3"]


class Hooked:
    """A backend where somebody else acts before a verb does, and where it is counted what is read of each object."""

    def __init__(self, inner: StorageBackend) -> None:
        self.inner = inner
        self.before: dict[str, Callable[[str], Any]] = {}
        self.bytes_read: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def driver(self, world: World) -> Any:
        inner: Any = self.inner.driver(world)
        outer = self

        class Driver(type(inner)):  # type: ignore[misc]  # so it has the same capabilities
            def __init__(self) -> None:
                self.__dict__.update(inner.__dict__)

            async def head(self, path: str) -> Any:
                await outer.meet("head", path)
                return await inner.head(path)

            async def copy(self, source: str, target: str, *, overwrite: bool = False) -> None:
                await outer.meet("copy", source)
                await inner.copy(source, target, overwrite=overwrite)

            async def read(self, path: str, start: int = 0, stop: int | None = None) -> Any:
                await outer.meet("read", path)
                async for chunk in inner.read(path, start, stop):
                    outer.bytes_read[path] += len(chunk)
                    yield chunk

        return Driver()

    async def meet(self, verb: str, path: str) -> None:
        if verb in self.before:
            await self.before[verb](path)


class Place:
    """A registry with one backend, where clients put things."""

    def __init__(self, backend: Any) -> None:
        self.storages = Storages()
        self.backend: StorageBackend = backend
        self.storages.register_backend(backend)

    def stand_before(self, *faults: Fault) -> FaultyBackend:
        """Let calls of the store fail from now on."""
        faulty = FaultyBackend(self.backend, faults)
        self.storages.register_backend(faulty, replace=True)
        return faulty

    def policy(self, **more: Any) -> Policy:
        return Policy(name="document.file", backend="it", storages=self.storages, **more)

    def begin(self, content: bytes = PDF, filename: str = "a.pdf", policy: Policy | None = None, **more: Any) -> Upload:
        return begin(policy or self.policy(), filename=filename, **{"size": len(content), **more})

    async def send(self, upload: Upload, content: bytes = PDF, **attributes: Any) -> None:
        """What a client does with its signed request."""
        sent = headers(upload)
        said = Attributes(content_type=sent["content-type"], content_disposition=sent["content-disposition"])
        attributes = {**msgspec.structs.asdict(said), **attributes}
        put = self.backend.driver(inline).put
        await put(upload.path, content, size=None, overwrite=True, attributes=Attributes(**attributes))

    async def attach(self, upload: Upload, world: World, policy: Policy | None = None) -> FileRecord:
        draft = Draft(filename=upload.filename, claim=upload.content_type)
        backend = self.storages.get_backend("it")
        return await attach(draft, upload, backend, world, policy=policy or upload.policy)

    async def left(self) -> list[str]:
        return await paths_in(self.backend.driver(inline))


@pytest.fixture(params=[inline, asyncio_world], ids=["inline", "asyncio"])
def world(request: pytest.FixtureRequest) -> World:
    chosen: World = request.param
    return chosen


@pytest.fixture(params=PLACES)
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(make(request, tmp_path, request.param))


def make(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> StorageBackend:
    if kind == "memory":
        return ObstoreBackend("it", "memory://")
    if kind == "local":
        return ObstoreBackend("it", f"file://{tmp_path}/store")
    if kind == "s3":
        return test_obstore.on_s3(request.getfixturevalue("s3"), key="it")
    if kind == "fsspec-memory":
        return FSSpecBackend("it", f"memory://{tmp_path.name}")
    if kind == "fsspec-local":
        return FSSpecBackend("it", f"file://{tmp_path}/store")
    return test_fsspec.on_s3(request.getfixturevalue("s3"), key="it")


@pytest.fixture
def memory() -> Place:
    return Place(ObstoreBackend("it", "memory://"))


@pytest.fixture
def local(tmp_path: Path) -> Place:
    return Place(ObstoreBackend("it", f"file://{tmp_path}/store"))


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "PAUSE", 0.0)


class TestBegin:
    def test_what_is_announced(self, memory: Place) -> None:
        """An upload has a fresh path of its own, and nothing of the client in it but a plain extension."""
        upload = memory.begin(filename="../ü\r\n.PDF", content_type="application/pdf; x=y", prefix="in/coming")
        assert upload.path.startswith("in/coming/")
        assert upload.path.endswith(".pdf")
        assert len(upload.path) == len("in/coming/") + 44 + len(".pdf")
        assert (upload.filename, upload.content_type, upload.size) == ("ü.PDF", "application/pdf", len(PDF))
        assert memory.begin().path != memory.begin().path

    @pytest.mark.parametrize(
        ("filename", "claim", "expected"),
        [
            ("a.png", None, "image/png"),
            ("a", "image/png", "image/png"),
            ("a.png", "text/html", "image/png"),
            ("a.html", "image/png", "text/html"),
            ("a.svg", "image/png", "image/svg+xml"),
            ("a.js", "text/plain", "text/javascript"),
            ("a", "text/html", "text/html"),
            ("a.bin", "application/octet-stream", "application/octet-stream"),
            ("a", None, "application/octet-stream"),
            ("a", "text/html\r\nX: y", "application/octet-stream"),
            ("a", "nonsense", "application/octet-stream"),
        ],
    )
    def test_the_type(self, filename: str, claim: str | None, expected: str, memory: Place) -> None:
        """The name says what it is before the claim does: a name survives in the path, and others serve by it."""
        assert memory.begin(b"", filename, content_type=claim).content_type == expected

    def test_a_claim_that_is_believed(self) -> None:
        """Where the backend believes claims, the claim comes first."""
        place = Place(ObstoreBackend("it", "memory://", trust="claim"))
        assert place.begin(b"", "a.png", content_type="image/jpeg").content_type == "image/jpeg"
        assert place.begin(b"", "a.png").content_type == "image/png"

    @pytest.mark.parametrize(
        ("announced", "rule", "error"),
        [
            ({"size": 11}, max_size(10), TooLarge),
            ({"filename": "a.html"}, content_types("application/pdf"), TypeNotAllowed),
            ({"filename": "a", "content_type": "image/svg+xml"}, content_types("application/pdf"), TypeNotAllowed),
            ({"filename": "a.exe"}, extensions("pdf"), ExtensionNotAllowed),
            ({"size": -1}, max_size(10), Refused),
            ({"checksum": "sha256:abc"}, max_size(10), Refused),
            ({"checksum": "sha256:" + "A" * 64}, max_size(10), Refused),
            ({"checksum": "md5:" + "a" * 64}, max_size(10), Refused),
            ({"checksum": "sha256:" + "a" * 64 + "\n"}, max_size(10), Refused),
        ],
    )
    @pytest.mark.parametrize("where", ["column", "backend"])
    def test_early_refusals(self, announced: dict[str, Any], rule: Any, error: Any, where: str, memory: Place) -> None:
        """What is bound to be refused later is refused before a byte is sent, with the evidence."""
        if where == "backend":
            memory = Place(ObstoreBackend("it", "memory://", rules=[rule]))
        policy = memory.policy(rules=[rule] if where == "column" else [])
        with pytest.raises(error) as caught:
            memory.begin(b"", policy=policy, **announced)
        assert type(caught.value) is error
        assert caught.value.actual is not None

    def test_what_a_store_takes_at_once(self, memory: Place) -> None:
        """S3 and Azure have a limit of their own; a number that is no size anywhere is refused everywhere."""
        s3 = Place(ObstoreBackend("it", "s3://b", region="us-east-1", access_key_id="x", secret_access_key="y"))
        assert s3.begin(size=5 * GiB).size == 5 * GiB
        for place, size in ((s3, 5 * GiB + 1), (memory, 2**63)):
            with pytest.raises(TooLarge) as caught:
                place.begin(size=size)
            assert caught.value.actual == size

    def test_a_prefix_that_is_none(self, memory: Place) -> None:
        """The prefix is the application's, and so is its fault."""
        with pytest.raises(ConfigurationError):
            memory.begin(prefix="../up")

    def test_headers(self, memory: Place) -> None:
        """A client sends the type and a disposition that is safe for it; on Azure by the names that Put Blob knows."""
        assert headers(memory.begin(filename="ü.html")) == {
            "content-type": "text/html",
            "content-disposition": "attachment; filename=\"_.html\"; filename*=UTF-8''%C3%BC.html",
        }
        azure = Place(ObstoreBackend("it", "az://c", account_name="a", account_key="a2V5"))
        assert headers(azure.begin(filename="a.pdf")) == {
            "content-type": "application/pdf",
            "x-ms-blob-content-disposition": 'inline; filename="a.pdf"',
            "x-ms-blob-type": "BlockBlob",
        }

    def test_without_a_type(self, memory: Place) -> None:
        """What nobody has named is sent as bytes."""
        upload = msgspec.structs.replace(memory.begin(), content_type=None)
        assert headers(upload)["content-type"] == "application/octet-stream"


class TestAttach:
    @pytest.mark.parametrize("content", [b"", b"%PDF-1.7", PDF], ids=["empty", "small", "large"])
    @in_its_world
    async def test_a_copy_of_its_own(self, content: bytes, anywhere: Place, world: World) -> None:
        """The file lies at a fresh path, and is described by what lies there; the upload stays where it was."""
        checksum = f"sha256:{hashlib.sha256(content).hexdigest()}"
        upload = anywhere.begin(content, "ü.pdf", checksum=checksum)
        await anywhere.send(upload, content)
        record = await anywhere.attach(upload, world)
        driver = anywhere.backend.driver(inline)
        assert await driver.get(record.path) == content
        assert await anywhere.left() == sorted([upload.path, record.path])
        info = await driver.head(record.path)
        assert (record.backend, record.filename, record.size) == ("it", "ü.pdf", len(content))
        assert record.content_type == ("application/pdf" if content else "application/octet-stream")
        assert (record.checksum, record.etag) == (checksum, info.etag)
        if isinstance(driver, Describes):
            kept = await driver.attributes(record.path)
            assert kept.content_type == record.content_type
            assert kept.content_disposition == content_disposition("ü.pdf", record.content_type)

    @in_its_world
    async def test_what_is_overwritten_later(self, anywhere: Place, world: World) -> None:
        """Whatever a client writes afterwards, the file is what it was."""
        upload = anywhere.begin()
        await anywhere.send(upload)
        record = await anywhere.attach(upload, world)
        await anywhere.send(upload, HTML)
        assert await anywhere.backend.driver(inline).get(record.path) == PDF

    @in_its_world
    async def test_not_there(self, anywhere: Place, world: World) -> None:
        """An upload that has not happened is told apart from other objects that are missing."""
        with pytest.raises(NotUploaded, match=r"'a\.pdf'"):
            await anywhere.attach(anywhere.begin(), world)
        assert await anywhere.left() == []

    @pytest.mark.parametrize(
        ("sent", "announced", "limit", "actual"),
        [
            (PDF + b"x", {}, len(PDF), len(PDF) + 1),
            (PDF[:-1], {}, len(PDF), len(PDF) - 1),
            (b"", {}, len(PDF), 0),
            (
                PDF,
                {"checksum": "sha256:" + "0" * 64},
                "sha256:" + "0" * 64,
                f"sha256:{hashlib.sha256(PDF).hexdigest()}",
            ),
        ],
        ids=["longer", "shorter", "empty", "other bytes"],
    )
    @in_its_world
    async def test_not_what_was_announced(
        self, sent: bytes, announced: Any, limit: Any, actual: Any, anywhere: Place, world: World
    ) -> None:
        """Another size or checksum is refused with both, and no copy is left."""
        upload = anywhere.begin(**announced)
        await anywhere.send(upload, sent)
        with pytest.raises(Mismatch) as caught:
            await anywhere.attach(upload, world)
        assert (caught.value.limit, caught.value.actual) == (limit, actual)
        assert caught.value.filename == "a.pdf"
        assert upload.path not in str(caught.value)
        assert await anywhere.left() == [upload.path]

    @in_its_world
    async def test_another_type(self, anywhere: Place, world: World) -> None:
        """A type that is not allowed is seen in the bytes, whatever was announced."""
        policy = anywhere.policy(rules=[content_types("application/pdf")])
        upload = anywhere.begin(HTML, policy=policy)
        await anywhere.send(upload, HTML)
        with pytest.raises(TypeNotAllowed) as caught:
            await anywhere.attach(upload, world)
        assert caught.value.actual == "text/html"
        assert await anywhere.left() == [upload.path]

    @in_its_world
    async def test_another_type_that_is_allowed(self, anywhere: Place, world: World) -> None:
        """Where another type is no harm, the copy is stored as what it is, not as what the client has said."""
        upload = anywhere.begin(HTML)
        await anywhere.send(upload, HTML)
        record = await anywhere.attach(upload, world)
        assert record.content_type == "text/html"
        driver = anywhere.backend.driver(inline)
        if isinstance(driver, Describes):
            kept = await driver.attributes(record.path)
            assert (kept.content_type, kept.content_disposition) == ("text/html", 'attachment; filename="a.pdf"')

    @in_its_world
    async def test_no_size_announced(self, anywhere: Place, world: World) -> None:
        """Rules see the true size where none was announced."""
        upload = msgspec.structs.replace(anywhere.begin(b"", policy=anywhere.policy(rules=[max_size(10)])), size=None)
        await anywhere.send(upload)
        with pytest.raises(TooLarge):
            await anywhere.attach(upload, world)
        assert await anywhere.left() == [upload.path]

    @pytest.mark.parametrize(
        "attributes",
        [
            {"content_type": "text/html"},
            {"content_type": "application/pdf; charset=utf-7"},
            {"content_disposition": 'inline; filename="b.pdf"'},
            {"content_disposition": None},
        ],
    )
    @pytest.mark.parametrize("kind", ["memory", "s3"])
    def test_headers_that_nobody_has_told_it(
        self, attributes: Any, kind: str, request: pytest.FixtureRequest, tmp_path: Path
    ) -> None:
        """What a store would serve by its own URLs otherwise than we do is refused."""
        place = Place(make(request, tmp_path, kind))

        async def act() -> None:
            upload = place.begin()
            await place.send(upload, **attributes)
            with pytest.raises(Mismatch, match="Content-"):
                await place.attach(upload, asyncio_world)
            assert await place.left() == [upload.path]

        asyncio.run(act())

    @pytest.mark.parametrize("name", ["Cache-Control", "Content-Encoding", "Content-Language"])
    def test_more_headers_than_it_was_told(self, name: str) -> None:
        """So is what would be decoded, or kept in caches, because a client says so."""
        backend = ObstoreBackend("it", "memory://")
        place = Place(backend)

        async def act() -> None:
            upload = place.begin()
            sent = headers(upload)
            given: Any = {"Content-Type": sent["content-type"], "Content-Disposition": sent["content-disposition"]}
            await backend.store.put_async(upload.path, PDF, attributes={**given, name: "gzip"})
            with pytest.raises(Mismatch, match=name):
                await place.attach(upload, asyncio_world)
            assert await place.left() == [upload.path]

        asyncio.run(act())

    def test_who_copies(self, anywhere: Place) -> None:
        """A store copies by itself, unless it takes requests that nobody can look into afterwards."""
        faulty = anywhere.stand_before()
        driver = anywhere.backend.driver(inline)
        assert isinstance(driver, Copies)
        by_itself = isinstance(driver, Describes) or not isinstance(driver, Signs)

        async def act() -> None:
            upload = anywhere.begin()
            await anywhere.send(upload)
            await anywhere.attach(upload, asyncio_world)

        asyncio.run(act())
        assert ("copy" in faulty.verbs, "put" in faulty.verbs) == (by_itself, not by_itself)
        if by_itself:
            describes = ["attributes"] if isinstance(driver, Describes) else []
            assert faulty.verbs == ["head", "read", "copy", "head", *describes, "read"]

    @pytest.mark.parametrize("announced", [True, False])
    @in_its_world
    async def test_without_checksums(self, announced: bool, world: World) -> None:
        """Where the backend makes none only the first bytes of the copy are read, unless a client has announced one."""
        hooked = Hooked(ObstoreBackend("it", "memory://", checksum=None))
        place = Place(hooked)
        checksum = f"sha256:{hashlib.sha256(PDF).hexdigest()}"
        upload = place.begin(checksum=checksum if announced else None)
        await place.send(upload)
        record = await place.attach(upload, world)
        assert record.checksum is None
        assert hooked.bytes_read[record.path] == (len(PDF) if announced else media.SNIFF)
        wrong = place.begin(checksum="sha256:" + "0" * 64)
        await place.send(wrong)
        with pytest.raises(Mismatch, match="checksum"):
            await place.attach(wrong, world)

    @in_its_world
    async def test_another_algorithm(self, world: World) -> None:
        """A checksum is held against the content also where the backend makes another kind."""
        place = Place(ObstoreBackend("it", "memory://", checksum="md5"))
        upload = place.begin(checksum=f"sha256:{hashlib.sha256(PDF).hexdigest()}")
        await place.send(upload)
        assert (await place.attach(upload, world)).checksum == f"md5:{hashlib.md5(PDF).hexdigest()}"


class TestMeanwhile:
    @pytest.mark.parametrize("content", [HTML.ljust(len(PDF)), PDF + b"longer", b"%PDF-", b""])
    @pytest.mark.parametrize("kind", ["memory", "local", "s3", "fsspec-memory", "fsspec-local"])
    def test_overwritten_before_the_copy(
        self, content: bytes, kind: str, request: pytest.FixtureRequest, tmp_path: Path
    ) -> None:
        """What a client puts there after it was looked at is copied, seen in the copy, and refused."""
        hooked = Hooked(make(request, tmp_path, kind))
        place = Place(hooked)

        async def act() -> None:
            upload = place.begin()
            await place.send(upload)
            times = 0

            async def overwrite(_: str) -> None:
                nonlocal times
                times += 1
                hooked.before.clear()
                await place.send(upload, content)

            hooked.before["copy"] = overwrite
            with pytest.raises(Mismatch):
                await place.attach(upload, asyncio_world)
            assert times == 1
            assert await place.left() == [upload.path]

        asyncio.run(act())

    def test_overwritten_by_the_same_type_and_size(self, local: Place) -> None:
        """Other bytes that look alike are what the record describes, or else are refused by their checksum."""
        hooked = Hooked(local.backend)
        place = Place(hooked)
        other = PDF[:-1] + b"!"

        async def act(**announced: Any) -> FileRecord:
            upload = place.begin(**announced)
            await place.send(upload)

            async def overwrite(_: str) -> None:
                hooked.before.clear()
                await place.send(upload, other)

            hooked.before["copy"] = overwrite
            return await place.attach(upload, asyncio_world)

        record = asyncio.run(act())
        assert record.checksum == f"sha256:{hashlib.sha256(other).hexdigest()}"
        with pytest.raises(Mismatch):
            asyncio.run(act(checksum=f"sha256:{hashlib.sha256(PDF).hexdigest()}"))

    @in_its_world
    async def test_overwritten_and_hardly_read(self, world: World) -> None:
        """The size of the copy is looked at also where its bytes are not."""
        hooked = Hooked(ObstoreBackend("it", "memory://", checksum=None))
        place = Place(hooked)
        upload = msgspec.structs.replace(place.begin(), size=None)
        await place.send(upload)

        async def overwrite(_: str) -> None:
            hooked.before.clear()
            await place.send(upload, PDF + b"longer")

        hooked.before["copy"] = overwrite
        with pytest.raises(Mismatch, match="size"):
            await place.attach(upload, world)
        assert await place.left() == [upload.path]

    @pytest.mark.parametrize("at", ["head", "read", "copy"])
    @in_its_world
    async def test_swept_meanwhile(self, at: Verb, memory: Place, world: World) -> None:
        """An upload that is deleted while it is attached has not been uploaded; nothing is left."""
        hooked = Hooked(memory.backend)
        place = Place(hooked)
        upload = place.begin()
        await place.send(upload)

        async def sweep(_: str) -> None:
            await memory.backend.driver(inline).delete([upload.path])

        hooked.before[at] = sweep
        with pytest.raises(NotUploaded):
            await place.attach(upload, world)
        assert await place.left() == []


class TestFailures:
    @pytest.mark.parametrize("verb", ["head", "read", "copy", "attributes"])
    @pytest.mark.parametrize("kind", ["error", "error after", "cut"])
    @pytest.mark.parametrize("at", [1, 2])
    @in_its_world
    async def test_no_copy_is_left(self, verb: Verb, kind: Kind, at: int, memory: Place, world: World) -> None:
        """Wherever the store fails for good, only the upload is there afterwards."""
        faulty = memory.stand_before(Fault(verb, at=at, kind=kind, error=StoreError))
        upload = memory.begin()
        await memory.send(upload)
        if verb in ("copy", "attributes") and at == 2:
            await memory.attach(upload, world)  # it comes once
            return
        with pytest.raises(StoreError, match="on cue"):
            await memory.attach(upload, world)
        assert await memory.left() == [upload.path]
        assert faulty.running == 0

    @pytest.mark.parametrize("verb", ["head", "read", "copy", "attributes", "put"])
    @pytest.mark.parametrize("kind", ["error", "error after", "cut"])
    @pytest.mark.parametrize("content", [PDF, HTML], ids=["copied", "streamed"])
    @pytest.mark.usefixtures("no_pauses")
    @in_its_world
    async def test_tried_again(self, verb: Verb, kind: Kind, content: bytes, memory: Place, world: World) -> None:
        """What the store cannot do just now is tried again."""
        upload = memory.begin(content)
        await memory.send(upload, content)
        for at in (1, 2, 3):
            memory.stand_before(Fault(verb, at=at, kind=kind, bytes=5000))
            record = await memory.attach(upload, world)
            assert record.checksum == f"sha256:{hashlib.sha256(content).hexdigest()}"
            assert await memory.backend.driver(inline).get(record.path) == content
            await memory.backend.driver(inline).delete([record.path])
        assert await memory.left() == [upload.path]

    @pytest.mark.parametrize("verb", ["head", "read", "copy", "attributes"])
    @pytest.mark.usefixtures("no_pauses")
    @in_its_world
    async def test_an_outage(self, verb: Verb, memory: Place, world: World) -> None:
        """When trying again is of no use, that is what is raised."""
        memory.stand_before(Fault(verb, times=None))
        upload = memory.begin()
        await memory.send(upload)
        with pytest.raises(StoreUnavailable):
            await memory.attach(upload, world)
        assert await memory.left() == [upload.path]

    @pytest.mark.parametrize("verb", ["head", "read", "copy", "attributes"])
    @pytest.mark.parametrize("kind", ["hang", "hang after"])
    @pytest.mark.parametrize("at", [1, 2])
    async def test_cancelled(self, verb: Verb, kind: Kind, at: int, local: Place, memory: Place) -> None:
        """A task that is cancelled leaves no copy, wherever it was."""
        for place in (memory, local):
            faulty = place.stand_before(Fault(verb, at=at, kind=kind))
            upload = place.begin()
            await place.send(upload)
            task = asyncio.ensure_future(place.attach(upload, asyncio_world))
            hanging = asyncio.ensure_future(faulty.hanging.wait())
            await asyncio.wait([task, hanging], return_when=asyncio.FIRST_COMPLETED)
            if task.done():  # there is no second one, or no such verb
                await place.backend.driver(inline).delete([task.result().path])
                hanging.cancel()
            else:
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert await place.left() == [upload.path]

    @in_its_world
    async def test_a_copy_that_cannot_be_deleted(self, memory: Place, world: World) -> None:
        """The error says what is left."""
        memory.stand_before(always("attributes"), always("delete"))
        upload = memory.begin()
        await memory.send(upload)
        with pytest.raises(StoreError) as caught:
            await memory.attach(upload, world)
        (copy,) = set(await memory.left()) - {upload.path}
        assert copy in caught.value.__notes__[0]


class TestFile:
    @in_its_world
    async def test_saved_by_hand(self, memory: Place, world: World) -> None:
        """A file of an upload is pending, and becomes a stored one that still knows where it comes from."""
        upload = memory.begin(checksum=f"sha256:{hashlib.sha256(PDF).hexdigest()}")
        await memory.send(upload)
        file = uploaded(upload)
        assert (file.filename, file.size, file.content_type) == ("a.pdf", len(PDF), "application/pdf")
        assert file.has_pending_data
        assert upload_of(file) is upload
        file.update_metadata({"kind": "letter"})
        if world is inline:
            file.save()
        else:
            await file.save_async()
        assert (file.checksum, file.metadata["kind"]) == (upload.checksum, "letter")
        assert file.path != upload.path
        assert upload_of(file) is upload
        assert upload_of(FileObject(content=b"", storages=memory.storages)) is None

    def test_rules_of_its_own(self, memory: Place) -> None:
        """Saved by hand, it is asked what its column asks."""
        policy = memory.policy(rules=[content_types("application/pdf")])
        upload = memory.begin(HTML, policy=policy)
        asyncio.run(memory.send(upload, HTML))
        with pytest.raises(TypeNotAllowed):
            uploaded(upload).save()

    def test_other_content(self, memory: Place) -> None:
        """It has its content; another one would come to a row as if it were the upload's."""
        upload = memory.begin()
        with pytest.raises(SourceError, match="direct upload"):
            uploaded(upload).save(b"other")

    def test_named_by_the_column(self, memory: Place) -> None:
        """The copy is named by the path maker of the column; where that is not new, nothing is overwritten."""
        policy = memory.policy(path_maker=lambda candidate: f"{candidate.size}.pdf")
        upload = memory.begin(policy=policy)
        asyncio.run(memory.send(upload))
        assert uploaded(upload).save().path == f"{len(PDF)}.pdf"
        with pytest.raises(StoreError):
            uploaded(upload).save()
        assert len(asyncio.run(memory.left())) == 2


class TestBySignedRequest:
    """Where the store takes signed requests and enforces them."""

    @pytest.mark.parametrize(
        ("changed", "what"),
        [
            ({}, None),
            ({"content-type": "text/html"}, "Content-Type"),
            ({"content-disposition": None}, "Content-Disposition"),
            ({"content-encoding": "gzip"}, "Content-Encoding"),
            ({"content-disposition": "inline; filename=ü".encode()}, "ASCII"),
            ({"x-amz-meta-by": "ü".encode()}, "ASCII"),
        ],
    )
    def test_the_headers(self, changed: dict[str, Any], what: str | None, radosgw: RadosGW) -> None:
        """The URL does not sign them: who sends what it was told is attached, and who does not is refused."""
        place = Place(test_obstore.on_s3(radosgw, key="it"))
        upload = place.begin(filename="ü.pdf")

        async def act() -> FileRecord:
            driver: Any = place.backend.driver(asyncio_world)
            url = await driver.sign(upload.path, method="PUT", expires_in=60)
            told = {name: value for name, value in {**headers(upload), **changed}.items() if value is not None}
            assert test_radosgw.send("PUT", url, PDF, told).status == 200
            return await place.attach(upload, asyncio_world)

        if what is None:
            record = asyncio.run(act())
            assert asyncio.run(place.backend.driver(asyncio_world).get(record.path)) == PDF
            assert len(asyncio.run(place.left())) == 2
        else:
            with pytest.raises(Mismatch, match=what):
                asyncio.run(act())
            assert asyncio.run(place.left()) == [upload.path]


@pytest.mark.parametrize(
    ("url", "protocol", "kept"),
    [
        ("https://s3.eu-central-1.amazonaws.com/bucket/a?X-Amz-Signature=0", "s3", True),
        ("https://bucket.s3.us-east-1.amazonaws.com/a", "s3", True),
        ("https://my_bucket.s3.amazonaws.com/a", "s3", True),
        ("https://bucket.s3.cn-north-1.amazonaws.com.cn/a", "s3", True),
        ("https://bucket.s3-accelerate.amazonaws.com:443/a", "s3", True),
        ("https://amazonaws.com.example/bucket/a", "s3", False),
        ("https://s3.example/amazonaws.com/a", "s3", False),
        ("https://s3.example\\.amazonaws.com/a", "s3", False),
        ("https://s3.amazonaws.com@s3.example/a", "s3", False),
        ("https://s3.xamazonaws.com/a", "s3", False),
        ("http://127.0.0.1:9000/bucket/a", "s3", False),
        ("https://storage.googleapis.com/bucket/a", "s3", False),
        ("/a", "s3", False),
        ("https://storage.googleapis.com/bucket/a", "gs", True),
        ("https://account.blob.core.windows.net/container/a", "az", True),
        ("https://files.example/a", "another's", False),
    ],
)
def test_stores_that_are_kept_to(url: str, protocol: str, kept: bool) -> None:
    """A store counts as one that takes only what was signed where its URL leads to one of those that are known to."""

    class Backend(ObstoreBackend):
        def __init__(self) -> None:
            super().__init__("files", "memory://")
            self.protocol = protocol

    assert is_kept_to(url, Backend()) is kept


async def test_so_many_at_a_time() -> None:
    """However many ask for it, a process attaches so many uploads at a time; those that wait can be cancelled."""
    storages = Storages()
    backend = FaultyBackend(ObstoreBackend("files", "memory://"), [Fault("head", kind="delay", times=None)])
    storages.register_backend(backend)
    policy = Policy(backend="files", storages=storages)
    uploads = [begin(policy, filename="a.txt", size=1) for _ in range(3 * AT_ONCE)]
    for upload in uploads:
        attributes = Attributes("text/plain", content_disposition("a.txt", "text/plain"))
        await backend.inner.driver(asyncio_world).put(upload.path, b"x", size=1, overwrite=True, attributes=attributes)
    tasks = [asyncio.ensure_future(uploaded(upload).save_async()) for upload in uploads]
    while backend.running < AT_ONCE:
        await asyncio.sleep(0)
    tasks[-1].cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [each for each in done if isinstance(each, BaseException)] == done[-1:]
    assert backend.most == AT_ONCE


def test_so_many_threads_at_a_time() -> None:
    """That is so in the threads of synchronous code, too."""
    storages = Storages()
    backend = FaultyBackend(ObstoreBackend("files", "memory://"), [Fault("head", kind="delay", times=None)])
    storages.register_backend(backend)
    uploads = [begin(Policy(backend="files", storages=storages), filename="a.txt", size=1) for _ in range(2 * AT_ONCE)]
    for upload in uploads:
        FileObject("files", "a.txt", upload.path, content=b"x", storages=storages).save()
    with ThreadPoolExecutor(2 * AT_ONCE) as pool:
        assert len(list(pool.map(lambda upload: uploaded(upload).save(), uploads))) == 2 * AT_ONCE
    assert backend.most == AT_ONCE
