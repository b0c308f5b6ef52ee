"""Storing: what is stored and described, what is refused, and that nothing stays where it fails."""

import asyncio
import hashlib
import io
import random
import re
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest

from lading import clock, paths
from lading.backends.obstore import ObstoreBackend
from lading.backends.protocols import Attributes, StorageBackend
from lading.errors import (
    AccessDenied,
    ExtensionNotAllowed,
    IntegrityFailure,
    InvalidPath,
    LadingError,
    ObjectExists,
    ObjectNotFound,
    Refused,
    SourceError,
    StoreError,
    StoreUnavailable,
    TooLarge,
    TooSmall,
    TypeNotAllowed,
)
from lading.ops import retry
from lading.ops.save import Draft, StoredSource, judge, save
from lading.policy import Policy
from lading.record import Candidate, FileRecord
from lading.rules import Rule, all_of, content_types, extensions, max_size, min_size
from lading.source import Content, source_of
from lading.testing import Fault, FaultyBackend
from lading.testing.backends import in_its_world
from lading.testing.backends import paths as paths_in
from lading.testing.faults import Kind, Verb
from lading.worlds import World, asyncio_world, inline, run
from tests.faulty import always
from tests.services.moto import S3

KiB = 1024
PART = 64 * KiB
SMALL = b"%PDF-1.7 a small one"
LARGE = b"%PDF-1.7 a large one" + random.Random(7).randbytes(4 * PART)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
both_sizes = pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
MakeBackend = Callable[..., StorageBackend]


@pytest.fixture(params=[inline, asyncio_world], ids=["inline", "asyncio"])
def world(request: pytest.FixtureRequest) -> World:
    chosen: World = request.param
    return chosen


@pytest.fixture(params=["memory", "local"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> MakeBackend:
    """Makes an empty backend whose parts are small, so that what is large here is quick."""
    fs = "memory://" if request.param == "memory" else f"file://{tmp_path}/store"

    def make_backend(**options: Any) -> StorageBackend:
        return ObstoreBackend("it", fs, **{"chunk_size": PART, **options})

    return make_backend


async def left(backend: StorageBackend, world: World) -> list[str]:
    return await paths_in(backend.driver(world))


async def get(backend: StorageBackend, path: str, world: World) -> bytes:
    return await backend.driver(world).get(path)


async def put(backend: StorageBackend, path: str, content: bytes, world: World) -> None:
    await backend.driver(world).put(path, content, size=None, overwrite=True, attributes=Attributes())


def draft(filename: str = "a.pdf", **more: Any) -> Draft:
    return Draft(filename=filename, **more)


async def keep(
    content: Content | StoredSource, backend: StorageBackend, world: World, given: Draft | None = None, **options: Any
) -> FileRecord:
    source = content if isinstance(content, StoredSource) else source_of(content)
    return await save(given or draft(), source, backend, world, **options)


def pieces(content: bytes, size: int = 10 * KiB) -> Iterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def breaks(content: bytes, error: BaseException) -> Iterator[bytes]:
    """Content whose reading fails when most of it was read."""
    for piece in pieces(content):
        yield piece
        if len(piece) < 10 * KiB:
            raise error


class TestStored:
    @both_sizes
    @in_its_world
    async def test_what_is_stored_is_described(self, content: bytes, make: MakeBackend, world: World) -> None:
        """The object is the content, and the record says all that is known of it."""
        backend = make()
        record = await keep(content, backend, world, draft("ü.pdf", claim="image/png", metadata={"a": [1]}))
        assert await get(backend, record.path, world) == content
        info = await backend.driver(world).head(record.path)
        assert record == FileRecord(
            backend="it",
            path=record.path,
            filename="ü.pdf",
            content_type="application/pdf",
            size=len(content),
            last_modified=record.last_modified,
            checksum=f"sha256:{hashlib.sha256(content).hexdigest()}",
            etag=info.etag,
            metadata={"a": [1]},
        )
        assert record.last_modified == pytest.approx(info.last_modified, abs=5)

    @pytest.mark.parametrize("content", [b"", b"x", LARGE[: PART - 1], LARGE[:PART], LARGE[: PART + 1], LARGE])
    @in_its_world
    async def test_unknown_sizes(self, content: bytes, make: MakeBackend, world: World) -> None:
        """A stream of unknown length is stored whole, however it falls on the parts."""
        backend = make()
        record = await keep(pieces(content, 1000), backend, world)
        assert await get(backend, record.path, world) == content
        assert record.size == len(content)
        assert record.checksum == f"sha256:{hashlib.sha256(content).hexdigest()}"

    @both_sizes
    async def test_an_async_generator(self, content: bytes, make: MakeBackend) -> None:
        """In the asyncio world an async generator is stored like anything else."""

        async def trickle() -> AsyncIterator[bytes]:
            for piece in pieces(content):
                await asyncio.sleep(0)
                yield piece

        backend = make()
        record = await keep(trickle(), backend, asyncio_world)
        assert await get(backend, record.path, asyncio_world) == content

    @pytest.mark.parametrize("content", [b"", SMALL, LARGE[:PART]], ids=["none", "small", "a part"])
    @in_its_world
    async def test_one_request(self, content: bytes, make: MakeBackend, world: World) -> None:
        """What fits into one part is one put, whether its size was known or not, with nothing before or after it."""
        for given in (content, pieces(content)):
            backend = FaultyBackend(make())
            await keep(given, backend, world)
            assert backend.verbs == ["put"]

    @pytest.mark.parametrize("algorithm", ["sha512", "blake2b", "md5", None])
    @both_sizes
    @in_its_world
    async def test_the_checksum_is_the_backends(
        self, algorithm: str | None, content: bytes, make: MakeBackend, world: World
    ) -> None:
        """The backend says how checksums are made, or that there are none."""
        record = await keep(content, make(checksum=algorithm), world)
        expected = f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}" if algorithm else None
        assert record.checksum == expected

    @in_its_world
    async def test_trust(self, make: MakeBackend, world: World) -> None:
        """Whom the backend trusts decides on the type: the bytes, the claim, or nobody who contradicts them."""
        claims = draft("a.bin", claim="image/png")
        assert (await keep(SMALL, make(), world, claims)).content_type == "application/pdf"
        assert (await keep(SMALL, make(trust="claim"), world, claims)).content_type == "image/png"
        strict = make(trust="reject", prefix="strict")
        with pytest.raises(TypeNotAllowed):
            await keep(SMALL, strict, world, claims)
        assert await left(strict, world) == []

    @in_its_world
    async def test_attributes_travel(self, world: World) -> None:
        """A store that keeps attributes gets the type that was decided on, the name and the metadata."""
        backend = ObstoreBackend("it", "memory://", chunk_size=PART)
        for content in (SMALL, LARGE):
            record = await keep(content, backend, world, draft("a b.pdf", metadata={"kind": "x", "pages": 3}))
            kept = obstore.get(backend.store, record.path).attributes
            assert kept["Content-Type"] == "application/pdf"
            assert 'filename="a b.pdf"' in kept["Content-Disposition"]
            assert kept["kind"] == "x"

    @pytest.mark.parametrize("size", [100, 6 * 2**20], ids=["one request", "multipart"])
    @in_its_world
    async def test_attributes_travel_to_s3(self, size: int, s3: S3, world: World) -> None:
        """S3 answers with the type, the name and the metadata that the object was stored with."""
        backend = on_s3(s3)
        record = await keep(SMALL + bytes(size), backend, world, draft("a.pdf", metadata={"kind": "x"}))
        url = await backend.driver(world).sign(record.path, method="GET", expires_in=60)
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert answer.headers["Content-Type"] == "application/pdf"
            assert 'filename="a.pdf"' in answer.headers["Content-Disposition"]
            assert answer.headers["x-amz-meta-kind"] == "x"
            assert answer.headers["ETag"] == record.etag


def on_s3(s3: S3) -> Any:
    return ObstoreBackend(
        "it",
        f"s3://{s3.make_bucket()}/",
        aws_endpoint=s3.endpoint,
        aws_access_key_id=s3.access_key_id,
        aws_secret_access_key=s3.secret_access_key,
        aws_region=s3.region,
    )


class TestNamed:
    @in_its_world
    async def test_fresh(self, make: MakeBackend, world: World) -> None:
        """By default nothing of the name but its extension is in the path, and no path comes twice."""
        backend = make()
        names = [(await keep(SMALL, backend, world, draft("secret.pdf"))).path for _ in range(5)]
        assert all(re.fullmatch(r"[0-9a-f]{44}\.pdf", name) for name in names)
        assert sorted(names) == await left(backend, world)

    @in_its_world
    async def test_who_names(self, make: MakeBackend, world: World) -> None:
        """A path set by hand goes before the column's maker, and that before the backend's."""
        backend = make(path=paths.under("backend", paths.as_given))
        column = Policy(path_maker=paths.under("column", paths.as_given))
        assert (await keep(SMALL, backend, world)).path == "backend/a.pdf"
        assert (await keep(SMALL, backend, world, policy=column)).path == "column/a.pdf"
        assert (await keep(SMALL, backend, world, draft(to_filename="b.pdf"), policy=column)).path == "b.pdf"

    @in_its_world
    async def test_what_a_maker_may_not_say(self, make: MakeBackend, world: World) -> None:
        """What a path maker returns is guarded like every other path, before anything is stored."""
        backend = make(path=lambda _: "../out")
        with pytest.raises(InvalidPath):
            await keep(LARGE, backend, world)
        assert await left(backend, world) == []

    @both_sizes
    @in_its_world
    async def test_anothers_object_is_safe(self, content: bytes, make: MakeBackend, world: World) -> None:
        """A put on a path that is taken is refused, and what lies there is untouched."""
        backend = make(path=paths.as_given)
        await put(backend, "a.pdf", b"another's", world)
        for given in (draft(), draft("b.pdf", to_filename="a.pdf")):
            with pytest.raises(ObjectExists):
                await keep(content, backend, world, given)
        assert await get(backend, "a.pdf", world) == b"another's"
        assert await left(backend, world) == ["a.pdf"]

    @both_sizes
    @in_its_world
    async def test_overwriting_on_request(self, content: bytes, make: MakeBackend, world: World) -> None:
        """With overwrite= what lies at the path is replaced."""
        backend = make()
        await put(backend, "a.pdf", b"the one before", world)
        record = await keep(content, backend, world, draft(to_filename="a.pdf"), overwrite=True)
        assert record.path == "a.pdf"
        assert await get(backend, "a.pdf", world) == content


def refuses(candidate: Candidate) -> None:
    """A rule of somebody's own, that is sure only when it knows the size."""
    if candidate.size is not None and candidate.size % 2 == 0:
        raise Refused("even", filename=candidate.filename)


EVEN = LARGE[: len(LARGE) // 2 * 2]

REFUSALS: list[tuple[Rule, Any, type[LadingError]]] = [
    (max_size(10), SMALL, TooLarge),
    (max_size(3 * PART), LARGE, TooLarge),
    (max_size(len(LARGE) - 1), LARGE, TooLarge),
    (all_of(max_size(len(LARGE) - 1), extensions("pdf")), LARGE, TooLarge),
    (min_size(100), SMALL, TooSmall),
    (min_size(len(LARGE) + 1), LARGE, TooSmall),
    (content_types("image/*"), SMALL, TypeNotAllowed),
    (content_types("image/*"), LARGE, TypeNotAllowed),
    (content_types(deny=["application/pdf"]), LARGE, TypeNotAllowed),
    (extensions("png"), LARGE, ExtensionNotAllowed),
    (refuses, EVEN, Refused),
    (refuses, EVEN[: 2 * KiB], Refused),
]


class TestRefused:
    @pytest.mark.parametrize("where", ["backend", "column", "by hand"])
    @pytest.mark.parametrize("known", [True, False], ids=["known size", "unknown size"])
    @pytest.mark.parametrize(("rule", "content", "error"), REFUSALS)
    @in_its_world
    async def test_nothing_remains(
        self,
        rule: Rule,
        content: bytes,
        error: type[LadingError],
        known: bool,
        where: str,
        make: MakeBackend,
        world: World,
    ) -> None:
        """Whatever rule refuses, of the backend or of the column, small or large: nothing of it is in the store."""
        backend = make(rules=[] if where == "column" else [rule])
        policy = Policy(rules=[rule] if where == "column" else [])
        given = draft(to_filename="by/hand.pdf" if where == "by hand" else None)
        with pytest.raises(error) as caught:
            await keep(content if known else pieces(content), backend, world, given, policy=policy)
        assert caught.value.filename == "a.pdf"  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
        assert await left(backend, world) == []

    @in_its_world
    async def test_rules_of_backend_and_column(self, make: MakeBackend, world: World) -> None:
        """Both must agree, and the smaller of their limits cuts."""
        backend = make(rules=[max_size(2 * PART), extensions("pdf")])
        with pytest.raises(TooLarge) as caught:
            await keep(pieces(LARGE), backend, world, policy=Policy(rules=[max_size(PART)]))
        assert caught.value.limit == PART
        with pytest.raises(ExtensionNotAllowed):
            await keep(SMALL, backend, world, draft("a.png"), policy=Policy(rules=[content_types("application/pdf")]))
        with pytest.raises(TypeNotAllowed):
            await keep(PNG, backend, world, policy=Policy(rules=[content_types("application/pdf")]))
        assert await left(backend, world) == []

    @in_its_world
    async def test_the_limit_cuts_the_stream(self, make: MakeBackend, world: World) -> None:
        """A stream is cut within a chunk of the limit, and no more of it is read."""
        pulled = 0

        def endless() -> Iterator[bytes]:
            nonlocal pulled
            while True:
                pulled += 1
                yield bytes(KiB)

        for limit in (0, 1, 10 * KiB, 3 * PART, 3 * PART + 5):
            pulled = 0
            backend = make(rules=[max_size(limit)])
            with pytest.raises(TooLarge) as caught:
                await keep(endless(), backend, world)
            assert caught.value.actual == pulled * KiB
            assert limit < pulled * KiB <= limit + KiB
            assert await left(backend, world) == []

    @in_its_world
    async def test_an_announced_size_is_refused_unread(self, make: MakeBackend, world: World, tmp_path: Path) -> None:
        """Of a file whose size is known to be too small or of the wrong kind no part reaches the store."""
        path = tmp_path / "large"
        path.write_bytes(LARGE)
        for rule in (min_size(len(LARGE) * 2), content_types("image/*"), extensions("png")):
            backend = FaultyBackend(make(rules=[rule]))
            with pytest.raises(Refused):
                await keep(path, backend, world)
            assert backend.verbs == []

    def test_judging_what_is_stored(self) -> None:
        """A file that was stored before it came to a column is judged by its record."""
        record = FileRecord(backend="it", path="p", filename="a.pdf", content_type="application/pdf", size=10)
        judge(record, Policy(rules=[max_size(10), content_types("application/pdf")]))
        with pytest.raises(TooLarge):
            judge(record, Policy(rules=[max_size(9)]))


class TestFailed:
    @pytest.mark.parametrize("cue", ["error", "error after"])
    @both_sizes
    @in_its_world
    async def test_a_put_that_fails(self, cue: Kind, content: bytes, make: MakeBackend, world: World) -> None:
        """A failing put leaves nothing, also where it had stored the object before it failed."""
        backend = FaultyBackend(make(), [always("put", cue)])
        with pytest.raises(StoreError, match="put failed on cue"):
            await keep(content, backend, world)
        assert backend.verbs == ["put", "delete"]
        assert await left(backend, world) == []

    @both_sizes
    @in_its_world
    async def test_a_doubtful_put_on_a_path_set_by_hand(self, content: bytes, make: MakeBackend, world: World) -> None:
        """Where the path may be another's a failed put deletes nothing, since what lies there may be theirs."""
        backend = FaultyBackend(make(path=paths.as_given), [always("put", "error after")])
        for given in (draft(), draft("b.pdf", to_filename="hand.pdf")):
            with pytest.raises(StoreError, match="put failed on cue"):
                await keep(content, backend, world, given)
        assert backend.verbs == ["put", "put"]
        assert await left(backend, world) == ["a.pdf", "hand.pdf"]

    @in_its_world
    async def test_a_failed_overwrite_deletes_nothing(self, make: MakeBackend, world: World) -> None:
        """An overwriting put that fails deletes nothing, whatever the path is made of."""
        backend = FaultyBackend(make(), [always("put")])
        await put(backend.inner, "a.pdf", b"the one before", world)
        with pytest.raises(StoreError):
            await keep(SMALL, backend, world, draft(to_filename="a.pdf"), overwrite=True)
        assert await get(backend, "a.pdf", world) == b"the one before"

    @in_its_world
    async def test_what_cannot_be_deleted_is_told(self, make: MakeBackend, world: World) -> None:
        """Where the failed put cannot be undone either, its error is raised and says what may be left."""
        backend = FaultyBackend(make(), [always("put", "error after"), always("delete")])
        with pytest.raises(StoreError, match="put failed on cue") as caught:
            await keep(SMALL, backend, world)
        (path,) = await left(backend, world)
        assert caught.value.__notes__ == [
            f"what may have been stored at {path!r} could not be deleted: delete failed on cue"
        ]

    @pytest.mark.parametrize("by_hand", [None, "hand.pdf"])
    @pytest.mark.parametrize("error", [RuntimeError("broken"), OSError("broken")], ids=["any", "os"])
    @both_sizes
    @in_its_world
    async def test_content_that_breaks(
        self, content: bytes, error: BaseException, by_hand: str | None, make: MakeBackend, world: World
    ) -> None:
        """Content that fails while it is read is raised as it failed, and nothing remains."""
        backend = make()
        with pytest.raises(type(error), match="broken") as caught:
            await keep(breaks(content, error), backend, world, draft(to_filename=by_hand))
        assert caught.value is error
        assert await left(backend, world) == []

    @both_sizes
    def test_an_interrupt(self, content: bytes, make: MakeBackend) -> None:
        """Ctrl-C while the content is read is raised, and nothing remains."""
        backend = make()
        with pytest.raises(KeyboardInterrupt):
            run(keep(breaks(content, KeyboardInterrupt()), backend, inline))
        assert run(left(backend, inline)) == []

    @in_its_world
    async def test_a_source_that_is_gone(self, make: MakeBackend, world: World, tmp_path: Path) -> None:
        """A file that is not there is an error before the store is asked for anything."""
        backend = FaultyBackend(make())
        with pytest.raises(SourceError):
            await keep(tmp_path / "none", backend, world)
        assert backend.verbs == []


class TestProgress:
    @pytest.mark.parametrize("known", [True, False], ids=["known size", "unknown size"])
    @pytest.mark.parametrize("content", [b"", SMALL, LARGE, bytes(2**20 * 7)], ids=["none", "small", "large", "parts"])
    @in_its_world
    async def test_it_grows_to_the_whole(self, content: bytes, known: bool, make: MakeBackend, world: World) -> None:
        """The caller is told of more and more bytes, and at last of all of all."""
        told: list[tuple[int, int | None]] = []
        given = content if known else pieces(content)
        await keep(given, make(), world, on_progress=lambda done, total: told.append((done, total)))
        done = [bytes_done for bytes_done, _ in told]
        assert done == sorted(done)
        assert told[-1] == (len(content), len(content))
        assert {total for _, total in told[:-1]} <= {len(content) if known else None, len(content)}
        assert len(told) > 1 or len(content) <= PART

    @pytest.mark.parametrize("by_hand", [None, "hand.pdf"])
    @pytest.mark.parametrize("when", ["first", "last"])
    @both_sizes
    @in_its_world
    async def test_a_callback_that_fails(
        self, content: bytes, when: str, by_hand: str | None, make: MakeBackend, world: World
    ) -> None:
        """An error of the callback is raised, and nothing remains, not even where all was stored by then."""

        def fail(done: int, total: int | None) -> None:
            if when == "first" or done == total == len(content):
                raise ZeroDivisionError

        backend = make()
        with pytest.raises(ZeroDivisionError):
            await keep(content, backend, world, draft(to_filename=by_hand), on_progress=fail)
        assert await left(backend, world) == []

    @in_its_world
    async def test_a_callback_that_fails_after_overwriting(self, make: MakeBackend, world: World) -> None:
        """What replaced another's object stays where it is: a row may name that path."""

        def fail(done: int, total: int | None) -> None:
            raise ZeroDivisionError

        backend = make()
        await put(backend, "a.pdf", b"the one before", world)
        with pytest.raises(ZeroDivisionError):
            await keep(SMALL, backend, world, draft(to_filename="a.pdf"), overwrite=True, on_progress=fail)
        assert await get(backend, "a.pdf", world) == SMALL


async def cancelled(task: "asyncio.Task[Any]", times: int = 1) -> None:
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task


class TestCancelled:
    @pytest.mark.parametrize("times", [1, 3])
    @pytest.mark.parametrize("cue", ["hang", "hang after"])
    @both_sizes
    async def test_during_a_put(self, cue: Kind, times: int, content: bytes, make: MakeBackend) -> None:
        """A save that is cancelled while the store is slow leaves nothing, however often it is cancelled."""
        backend = FaultyBackend(make(), [always("put", cue)])
        task = asyncio.ensure_future(keep(content, backend, asyncio_world))
        await backend.hanging.wait()
        await cancelled(task, times)
        assert await left(backend, asyncio_world) == []

    @both_sizes
    async def test_during_the_deletion(self, content: bytes, make: MakeBackend) -> None:
        """A save that is cancelled while it deletes what a failed put has left deletes it all the same."""
        backend = FaultyBackend(make(), [always("put", "error after"), always("delete", "delay")])
        task = asyncio.ensure_future(keep(content, backend, asyncio_world))
        await backend.hanging.wait()
        await cancelled(task, 3)
        assert await left(backend, asyncio_world) == []

    @pytest.mark.parametrize("by_hand", [None, "hand.pdf"])
    @pytest.mark.parametrize("before", [0, 5 * KiB, 3 * PART])
    async def test_while_the_content_comes(self, before: int, by_hand: str | None, make: MakeBackend) -> None:
        """A save that is cancelled while it waits for content leaves nothing, however much of it came."""
        waiting = asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            for piece in pieces(LARGE[:before], KiB):
                yield piece
            waiting.set()
            await asyncio.sleep(60)

        backend = make()
        task = asyncio.ensure_future(keep(slow(), backend, asyncio_world, draft(to_filename=by_hand)))
        await waiting.wait()
        await asyncio.sleep(0.01)
        await cancelled(task)
        assert await left(backend, asyncio_world) == []

    async def test_in_the_midst_of_a_multipart_upload(self, s3: S3) -> None:
        """A multipart upload to S3 that is cancelled leaves no object and no part of one."""
        backend = on_s3(s3)
        waiting = asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            for _ in range(12):
                yield bytes(2**20)
            waiting.set()
            await asyncio.sleep(60)

        task = asyncio.ensure_future(keep(slow(), backend, asyncio_world))
        await waiting.wait()
        await asyncio.sleep(0.1)
        await cancelled(task)
        assert await left(backend, asyncio_world) == []
        with urllib.request.urlopen(f"{s3.endpoint}/{backend.store.config['bucket']}?uploads", timeout=30) as answer:
            assert b"<Upload>" not in answer.read()


class TestCopied:
    @both_sizes
    @in_its_world
    async def test_within_a_store(self, content: bytes, make: MakeBackend, world: World) -> None:
        """Where the store is the same it copies by itself: no byte comes here."""
        backend = FaultyBackend(make())
        record = await keep(content, backend, world, draft(metadata={"a": 1}))
        record.unknown["colour"] = "blue"
        backend.calls.clear()
        copy = await keep(StoredSource(backend, record), backend, world, draft("b.pdf", metadata={"b": 2}))
        assert backend.verbs == ["copy", "head"]
        assert copy.path != record.path
        assert await get(backend, copy.path, world) == content
        assert (copy.filename, copy.metadata, copy.unknown) == ("b.pdf", {"b": 2}, {"colour": "blue"})
        assert (copy.size, copy.checksum, copy.content_type) == (record.size, record.checksum, record.content_type)

    @both_sizes
    @in_its_world
    async def test_between_stores(self, content: bytes, make: MakeBackend, world: World) -> None:
        """Between stores the content streams through, and is held against the record of its original."""
        origin = make()
        record = await keep(content, origin, world)
        target = FaultyBackend(ObstoreBackend("other", "memory://", chunk_size=PART))
        copy = await keep(StoredSource(origin, record), target, world)
        assert target.verbs == ["put"]
        assert (copy.backend, copy.size, copy.checksum) == ("other", record.size, record.checksum)
        assert await get(target, copy.path, world) == content

    @pytest.mark.parametrize("by_hand", [None, "hand.pdf"])
    @pytest.mark.parametrize("damage", ["changed", "cut"])
    @both_sizes
    @in_its_world
    async def test_an_original_that_is_another(
        self, content: bytes, damage: str, by_hand: str | None, make: MakeBackend, world: World
    ) -> None:
        """An original that is not what its record says is not copied: nothing remains at the target."""
        origin, target = make(), ObstoreBackend("other", "memory://", chunk_size=PART)
        record = await keep(content, origin, world)
        await put(origin, record.path, content[:-1] + (b"" if damage == "cut" else b"~"), world)
        with pytest.raises(IntegrityFailure) as caught:
            await keep(StoredSource(origin, record), target, world, draft(to_filename=by_hand))
        assert (caught.value.backend, caught.value.path) == ("it", record.path)
        assert await left(target, world) == []
        if damage == "cut":
            with pytest.raises(IntegrityFailure):
                await keep(StoredSource(origin, record), origin, world, draft(to_filename=by_hand))
            assert await left(origin, world) == [record.path]

    @in_its_world
    async def test_checksums_of_different_kinds(self, make: MakeBackend, world: World) -> None:
        """A target that makes other checksums, or none, takes the copy by its size, and makes its own."""
        origin = make()
        record = await keep(LARGE, origin, world)
        for algorithm in ("md5", None):
            target = ObstoreBackend("other", "memory://", chunk_size=PART, checksum=algorithm)
            copy = await keep(StoredSource(origin, record), target, world)
            expected = f"md5:{hashlib.md5(LARGE).hexdigest()}" if algorithm else None
            assert copy.checksum == expected

    @in_its_world
    async def test_rules_are_asked_of_copies(self, make: MakeBackend, world: World) -> None:
        """A copy is judged like any other file, also where only the store knows how large it is."""
        backend = make()
        record = await keep(LARGE, backend, world)
        for size in (record.size, None):
            record.size = size
            with pytest.raises(TooLarge):
                await keep(StoredSource(backend, record), backend, world, policy=Policy(rules=[max_size(10)]))
        assert await left(backend, world) == [record.path]

    @in_its_world
    async def test_an_original_that_is_gone(self, make: MakeBackend, world: World) -> None:
        """What is not there cannot be copied, within the store or out of it."""
        backend = make()
        record = FileRecord(backend="it", path="gone", filename="a.pdf", size=5)
        for target in (backend, ObstoreBackend("other", "memory://")):
            with pytest.raises(ObjectNotFound):
                await keep(StoredSource(backend, record), target, world)
            assert await left(target, world) == []

    @pytest.mark.parametrize("cue", ["error", "error after"])
    @pytest.mark.parametrize("verb", ["copy", "head"])
    @in_its_world
    async def test_a_copy_that_fails(self, verb: Verb, cue: Kind, make: MakeBackend, world: World) -> None:
        """A failing copy leaves nothing; neither does one that cannot be looked at."""
        backend = FaultyBackend(make())
        record = await keep(SMALL, backend, world)
        backend.plan = [always(verb, cue)]
        with pytest.raises(StoreError, match=f"{verb} failed on cue"):
            await keep(StoredSource(backend, record), backend, world)
        assert await left(backend, world) == [record.path]

    @in_its_world
    async def test_a_doubtful_copy_to_a_path_set_by_hand(self, make: MakeBackend, world: World) -> None:
        """Where the path may be another's a failed copy deletes nothing."""
        backend = FaultyBackend(make())
        record = await keep(SMALL, backend, world)
        await put(backend, "taken.pdf", b"another's", world)
        backend.plan = [always("copy")]
        with pytest.raises(StoreError):
            await keep(StoredSource(backend, record), backend, world, draft(to_filename="taken.pdf"))
        assert await get(backend, "taken.pdf", world) == b"another's"

    @in_its_world
    async def test_a_copy_onto_another(self, make: MakeBackend, world: World) -> None:
        """A copy replaces nothing: what lies at the path is untouched."""
        backend = make()
        record = await keep(SMALL, backend, world)
        await put(backend, "taken.pdf", b"another's", world)
        with pytest.raises(ObjectExists):
            await keep(StoredSource(backend, record), backend, world, draft(to_filename="taken.pdf"))
        assert await get(backend, "taken.pdf", world) == b"another's"


both_paths = pytest.mark.parametrize("by_hand", [None, "hand.pdf"], ids=["fresh", "by hand"])


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses between tries."""
    monkeypatch.setattr(retry, "PAUSE", 0)


@pytest.mark.usefixtures("at_once")
class TestTriedAgain:
    @both_paths
    @both_sizes
    @in_its_world
    async def test_a_store_that_recovers(
        self, content: bytes, by_hand: str | None, make: MakeBackend, world: World, tmp_path: Path
    ) -> None:
        """Content that can be read again is stored with the third try, and described as with the first."""
        path = tmp_path / "content"
        path.write_bytes(content)
        for given in (content, path, list(pieces(content)), io.BytesIO(content)):
            backend = FaultyBackend(make(prefix=type(given).__name__), [Fault("put", times=2)])
            record = await keep(given, backend, world, draft(to_filename=by_hand))
            assert backend.verbs == ["put", "put", "put"]
            await self.check(record, content, backend, world)

    async def check(self, record: FileRecord, content: bytes, backend: FaultyBackend, world: World) -> None:
        """The one object that there is, is the content, and the record describes it."""
        assert await left(backend, world) == [record.path]
        assert await get(backend, record.path, world) == content
        assert (record.size, record.checksum) == (len(content), f"sha256:{hashlib.sha256(content).hexdigest()}")
        assert record.etag == (await backend.inner.driver(world).head(record.path)).etag

    @both_paths
    @in_its_world
    async def test_what_is_held_whole(self, by_hand: str | None, make: MakeBackend, world: World) -> None:
        """Small content is stored again though its source could not be read again."""
        backend = FaultyBackend(make(), [Fault("put", times=2)])
        record = await keep(pieces(LARGE[:PART]), backend, world, draft(to_filename=by_hand))
        assert backend.verbs == ["put", "put", "put"]
        await self.check(record, LARGE[:PART], backend, world)

    @pytest.mark.parametrize("kind", ["error", "error after", "cut"])
    @in_its_world
    async def test_what_cannot_be_read_again(self, kind: Kind, make: MakeBackend, world: World) -> None:
        """A stream that can be read once is not tried again, and nothing of it remains."""
        backend = FaultyBackend(make(), [Fault("put", kind=kind)])
        with pytest.raises(StoreUnavailable, match="put failed on cue"):
            await keep(pieces(LARGE), backend, world)
        assert backend.verbs == ["put", "delete"]
        assert await left(backend, world) == []

    @both_paths
    @in_its_world
    async def test_a_stream_that_is_cut(self, by_hand: str | None, make: MakeBackend, world: World) -> None:
        """A stream that breaks off in the store is sent again from its beginning: counted, hashed and limited anew."""
        backend = FaultyBackend(make(rules=[max_size(len(LARGE))]), [Fault("put", kind="cut", bytes=3 * PART)])
        record = await keep(list(pieces(LARGE)), backend, world, draft(to_filename=by_hand))
        assert backend.verbs == ["put", "put"]
        await self.check(record, LARGE, backend, world)

    @pytest.mark.parametrize("kind", ["error", "error after"])
    @both_sizes
    @in_its_world
    async def test_a_store_that_does_not_recover(
        self, kind: Kind, content: bytes, make: MakeBackend, world: World
    ) -> None:
        """After the last try the error is raised as it is, and what may have been stored is deleted, in tries too."""
        for retries in (0, 1, 2):
            inner = make(retries=retries, prefix=str(retries))
            backend = FaultyBackend(inner, [Fault("put", kind=kind, times=None), Fault("delete")])
            with pytest.raises(StoreUnavailable, match="put failed on cue") as caught:
                await keep(content, backend, world)
            assert backend.verbs == ["put"] * (retries + 1) + ["delete"] * min(retries + 1, 2)
            assert hasattr(caught.value, "__notes__") == (retries == 0)
            assert len(await left(backend, world)) <= (retries == 0)

    @both_sizes
    @in_its_world
    async def test_a_lost_answer(self, content: bytes, make: MakeBackend, world: World) -> None:
        """What a try stored without our knowing, under a fresh path, is replaced by the next: it is nobody else's."""
        for error in (StoreUnavailable, ObjectExists):  # this where a store's library had tried again by itself
            backend = FaultyBackend(make(), [Fault("put", kind="error after", times=2, error=error)])
            record = await keep(content, backend, world)
            assert backend.verbs == ["put", "put", "put"]
            await self.check(record, content, backend, world)
            await backend.inner.driver(world).delete([record.path])

    @in_its_world
    async def test_a_part_of_ours(self, make: MakeBackend, world: World) -> None:
        """What a try has left half done under a fresh path, such as its reservation, is no obstacle to the next."""

        def reserve(verb: Verb) -> Fault | None:
            if backend.verbs != ["put"]:
                return None
            run(put(backend.inner, backend.calls[0].path, b"", inline))
            return Fault("put")

        backend = FaultyBackend(make(), reserve)
        record = await keep(list(pieces(LARGE)), backend, world)
        assert backend.verbs == ["put", "put"]
        await self.check(record, LARGE, backend, world)

    @in_its_world
    async def test_a_stream_that_meets_itself(self, make: MakeBackend, world: World) -> None:
        """A fresh path that is taken is no conflict to report, also where the stream cannot be read again."""
        backend = FaultyBackend(make(), [Fault("put", kind="error after", error=ObjectExists)])
        with pytest.raises(StoreUnavailable, match="an answer was lost"):
            await keep(pieces(LARGE), backend, world)
        assert await left(backend, world) == []

    @both_sizes
    @in_its_world
    async def test_a_lost_answer_on_a_path_set_by_hand(self, content: bytes, make: MakeBackend, world: World) -> None:
        """There what a try has stored is found by the next, held against the content, and not stored again."""
        for algorithm in ("sha256", None):
            backend = FaultyBackend(make(checksum=algorithm), [Fault("put", kind="error after")])
            record = await keep(content, backend, world, draft(to_filename="hand.pdf"))
            assert backend.verbs == ["put", "put", "head", "read"]
            assert record.checksum == (f"sha256:{hashlib.sha256(content).hexdigest()}" if algorithm else None)
            assert record.etag == (await backend.inner.driver(world).head("hand.pdf")).etag
            assert record.size == len(content)
            assert await get(backend, "hand.pdf", world) == content
            await backend.inner.driver(world).delete(["hand.pdf"])

    @pytest.mark.parametrize("case", ["other bytes", "another size", "older", "no try failed"])
    @both_sizes
    @in_its_world
    async def test_anothers_object(
        self, case: str, content: bytes, make: MakeBackend, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is not ours beyond doubt is a conflict, and stays as it is."""
        theirs = {"other bytes": content[:-1] + b"~", "another size": content + b"~"}.get(case, content)
        backend = FaultyBackend(make(), [] if case == "no try failed" else [Fault("put")])
        await put(backend.inner, "hand.pdf", theirs, world)
        etag = (await backend.inner.driver(world).head("hand.pdf")).etag
        if case == "older":
            now = clock.now() + 3600
            monkeypatch.setattr("lading.clock.now", lambda: now)
        with pytest.raises(ObjectExists):
            await keep(content, backend, world, draft(to_filename="hand.pdf"))
        looks = {"other bytes": ["head", "read"], "another size": ["head"], "older": ["head"]}.get(case, [])
        assert backend.verbs == (["put", "put", *looks] if case != "no try failed" else ["put"])
        assert await get(backend, "hand.pdf", world) == theirs
        assert (await backend.inner.driver(world).head("hand.pdf")).etag == etag

    @both_sizes
    @in_its_world
    async def test_a_recognised_object_may_be_anothers(self, content: bytes, make: MakeBackend, world: World) -> None:
        """An object that was recognised stays where something fails afterwards: another may have stored the same."""

        def fail(done: int, total: int | None) -> None:
            if backend.verbs[-1] == "read":
                raise ZeroDivisionError

        backend = FaultyBackend(make(), [Fault("put", kind="error after")])
        with pytest.raises(ZeroDivisionError):
            await keep(content, backend, world, draft(to_filename="hand.pdf"), on_progress=fail)
        assert await left(backend, world) == ["hand.pdf"]

    @both_sizes
    @in_its_world
    async def test_overwriting(self, content: bytes, make: MakeBackend, world: World) -> None:
        """An overwriting put is tried again; when it fails for good nothing is deleted."""
        backend = FaultyBackend(make(), [Fault("put", kind="error after", times=2)])
        await put(backend.inner, "a.pdf", b"the one before", world)
        record = await keep(content, backend, world, draft(to_filename="a.pdf"), overwrite=True)
        await self.check(record, content, backend, world)
        backend.plan = [Fault("put", times=None)]
        with pytest.raises(StoreUnavailable):
            await keep(content, backend, world, draft(to_filename="a.pdf"), overwrite=True)
        assert await left(backend, world) == ["a.pdf"]

    @in_its_world
    async def test_what_changes_meanwhile(self, make: MakeBackend, world: World, tmp_path: Path) -> None:
        """A file that has become another when it is read again is judged and described as what it is then."""
        path = tmp_path / "content"

        def changing(verb: Verb) -> Fault | None:
            path.write_bytes(then)
            return Fault("put", kind="error after") if backend.verbs == ["put"] else None

        for then in (PNG + LARGE, LARGE * 2):
            path.write_bytes(LARGE)
            backend = FaultyBackend(make(rules=[max_size(2 * len(LARGE) - 1)]), changing)
            if then == LARGE * 2:
                with pytest.raises(TooLarge):
                    await keep(path, backend, world)
                assert await left(backend, world) == []
            else:
                record = await keep(path, backend, world)
                assert (record.content_type, record.size) == ("image/png", len(then))
                await self.check(record, then, backend, world)
                await backend.inner.driver(world).delete([record.path])

    @in_its_world
    async def test_progress_begins_anew(self, make: MakeBackend, world: World) -> None:
        """The caller is told of the bytes of each try, and at last of all."""
        told: list[int] = []
        backend = FaultyBackend(make(), [Fault("put", kind="cut", bytes=2 * PART)])
        await keep(list(pieces(LARGE)), backend, world, on_progress=lambda done, total: told.append(done))
        falls = [number for number, done in enumerate(told[1:], 1) if done < told[number - 1]]
        assert len(falls) == 1
        assert told[falls[0] :] == sorted(told[falls[0] :])
        assert told[-1] == len(LARGE)

    @pytest.mark.parametrize("error", [StoreError, AccessDenied])
    @in_its_world
    async def test_what_will_not_pass(self, error: type[StoreError], make: MakeBackend, world: World) -> None:
        """Other errors of the store are raised at once."""
        backend = FaultyBackend(make(), [Fault("put", error=error)])
        with pytest.raises(error):
            await keep(SMALL, backend, world)
        assert backend.verbs == ["put", "delete"]

    @pytest.mark.parametrize(
        "error", [Refused("no", filename="a"), SourceError("no"), OSError("no"), ConnectionResetError()]
    )
    @both_sizes
    @in_its_world
    async def test_errors_of_the_content(
        self, error: Exception, content: bytes, make: MakeBackend, world: World
    ) -> None:
        """What the content or a rule raises is raised at once, also where it could be read again."""
        reads = 0

        class Breaks:
            def __iter__(self) -> Iterator[bytes]:
                nonlocal reads
                reads += 1
                return breaks(content, error)

        with pytest.raises(type(error)) as caught:
            await keep(Breaks(), make(), world)
        assert caught.value is error
        assert reads == 1

    @pytest.mark.parametrize("kind", ["error", "error after"])
    @both_sizes
    async def test_a_cancelled_pause(
        self, kind: Kind, content: bytes, make: MakeBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Who is cancelled between two tries does not wait, and leaves nothing."""
        monkeypatch.setattr("random.uniform", lambda low, high: 60)
        backend = FaultyBackend(make(), [Fault("put", kind=kind)])
        task = asyncio.ensure_future(keep(content, backend, asyncio_world))
        while not backend.calls or backend.running:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        await asyncio.wait_for(cancelled(task), 5)
        assert backend.verbs == ["put", "delete"]
        assert await left(backend, asyncio_world) == []


@pytest.mark.usefixtures("at_once")
class TestCopiedAgain:
    @pytest.mark.parametrize("kind", ["error", "error after"])
    @both_paths
    @in_its_world
    async def test_within_a_store(self, by_hand: str | None, kind: Kind, make: MakeBackend, world: World) -> None:
        """A copy whose answer was lost is made again under a fresh path, and recognised under one set by hand."""
        backend = FaultyBackend(make())
        record = await keep(SMALL, backend, world)
        backend.calls.clear()
        backend.plan = [Fault("copy", kind=kind)]
        copy = await keep(StoredSource(backend, record), backend, world, draft(to_filename=by_hand))
        looks = ["head", "read", "read"] if by_hand and kind == "error after" else []
        assert sorted(backend.verbs) == sorted(["copy", "copy", *looks, "head"])
        assert await get(backend, copy.path, world) == SMALL
        assert copy.etag == (await backend.inner.driver(world).head(copy.path)).etag
        assert len(await left(backend, world)) == 2

    @in_its_world
    async def test_onto_anothers(self, make: MakeBackend, world: World) -> None:
        """A copy is never made over another's object, nor is that taken for it."""
        backend = FaultyBackend(make())
        record = await keep(SMALL, backend, world)
        await put(backend.inner, "hand.pdf", SMALL[:-1] + b"~", world)
        backend.plan = [Fault("copy")]
        with pytest.raises(ObjectExists):
            await keep(StoredSource(backend, record), backend, world, draft(to_filename="hand.pdf"))
        assert await get(backend, "hand.pdf", world) == SMALL[:-1] + b"~"

    @in_its_world
    async def test_a_copy_that_meets_itself(self, make: MakeBackend, world: World) -> None:
        """A fresh path that is taken is no conflict to report."""
        backend = FaultyBackend(make())
        record = await keep(SMALL, backend, world)
        backend.plan = [Fault("copy", kind="error after", error=ObjectExists), Fault("head")]
        copy = await keep(StoredSource(backend, record), backend, world)
        assert await get(backend, copy.path, world) == SMALL
        assert await left(backend, world) == sorted([record.path, copy.path])

    @pytest.mark.parametrize("kind", ["error", "cut"])
    @both_sizes
    @in_its_world
    async def test_between_stores(self, kind: Kind, content: bytes, make: MakeBackend, world: World) -> None:
        """Where the store that is copied from fails, the copy begins anew."""
        origin = FaultyBackend(make())
        record = await keep(content, origin, world)
        origin.calls.clear()
        origin.plan = [Fault("read", kind=kind, times=2, bytes=len(content) - 1)]
        target = ObstoreBackend("other", "memory://", chunk_size=PART)
        copy = await keep(StoredSource(origin, record), target, world)
        assert origin.verbs == ["read", "read", "read"]
        assert await get(target, copy.path, world) == content
        assert await left(target, world) == [copy.path]
        origin.calls.clear()
        origin.plan = [Fault("read", kind=kind, times=None)]
        with pytest.raises(StoreUnavailable):
            await keep(StoredSource(origin, record), target, world)
        assert origin.verbs == ["read", "read", "read"]


MEMORY = """
import asyncio, resource, sys, threading, time
from lading.backends.obstore import ObstoreBackend
from lading.ops.save import Draft, save
from lading.source import source_of
from lading.worlds import asyncio_world, inline, run

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

async def store(size, world):
    chunks = (bytes([number % 251]) * 2**20 for number in range(size))
    record = await save(Draft(filename="a.bin"), source_of(chunks), backend, world)
    assert record.size == size * 2**20

def watch():
    global peak
    while True:
        peak = max(peak, resident())
        time.sleep(0.002)

backend = ObstoreBackend("it", sys.argv[2])
begin = (lambda work: run(work)) if sys.argv[1] == "inline" else asyncio.run
world = inline if sys.argv[1] == "inline" else asyncio_world
begin(store(1, world))
before = peak = resident()
threading.Thread(target=watch, daemon=True).start()
begin(store(200, world))
print(peak - before)
"""


@pytest.mark.slow
def test_a_stream_is_never_held(world: World, tmp_path: Path) -> None:
    """200 MiB that are generated and stored on disk take less than 40 MiB of memory."""
    command = [sys.executable, "-c", MEMORY, world.name, f"file://{tmp_path}/store"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert int(answer.stdout) < 40 * 2**20
