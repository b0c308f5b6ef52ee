"""Trying again: what is tried again, how often, after which pauses; and what is not."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from lading import FileObject
from lading.backends.obstore import ObstoreBackend
from lading.backends.protocols import Attributes, Body, Driver, StorageBackend
from lading.errors import ConfigurationError, ObjectExists, ObjectNotFound, StoreError, StoreUnavailable
from lading.ops import retry
from lading.ops.retry import Retrying, Target, again
from lading.storages import Storages
from lading.testing import Fault, FaultyBackend
from lading.testing.backends import in_its_world, joined, paths, put
from lading.testing.faults import Verb
from lading.worlds import Inline, World, asyncio_world, inline, run


@pytest.fixture(params=[inline, asyncio_world], ids=["inline", "asyncio"])
def world(request: pytest.FixtureRequest) -> World:
    chosen: World = request.param
    return chosen


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "PAUSE", 0)


@pytest.fixture
def backend() -> FaultyBackend:
    return FaultyBackend(ObstoreBackend("it", "memory://"))


CALLS: dict[Verb, Callable[[Retrying], Coroutine[Any, Any, Any]]] = {
    "get": lambda driver: driver.get("a"),
    "head": lambda driver: driver.head("a"),
    "delete": lambda driver: driver.delete(["a"]),
    "read": lambda driver: joined(as_driver(driver), "a", 1),
    "list": lambda driver: paths(as_driver(driver)),
}
each_verb = pytest.mark.parametrize("verb", CALLS)


def as_driver(verbs: Any) -> Driver:
    driver: Driver = verbs
    return driver


class TestVerbs:
    @each_verb
    @in_its_world
    async def test_a_store_that_recovers(self, verb: Verb, backend: FaultyBackend, world: World) -> None:
        """What fails twice because the store is unavailable is done with the third try, and gives what it gives."""
        results: list[Any] = []
        for times in (0, 2):
            await put(backend.inner.driver(world), "a", b"hello", overwrite=True)
            backend.plan = [Fault(verb, times=times)] if times else []
            results.append(await CALLS[verb](Retrying(backend, world)))
            assert backend.verbs == [verb] * (times + 1)
            backend.calls.clear()
        first, second = results
        assert first == second or first.size == second.size

    @each_verb
    @in_its_world
    async def test_a_store_that_does_not(self, verb: Verb, backend: FaultyBackend, world: World) -> None:
        """After the third try the error is raised as it is."""
        backend.plan = [Fault(verb, times=None)]
        with pytest.raises(StoreUnavailable, match=f"{verb} failed on cue"):
            await CALLS[verb](Retrying(backend, world))
        assert backend.verbs == [verb] * 3

    @each_verb
    @in_its_world
    async def test_other_errors(self, verb: Verb, backend: FaultyBackend, world: World) -> None:
        """An error that will not pass is raised at once."""
        for error in (StoreError, ObjectNotFound):
            backend.calls.clear()
            backend.plan = [Fault(verb, times=None, error=error)]
            with pytest.raises(error):
                await CALLS[verb](Retrying(backend, world))
            assert backend.verbs == [verb]

    @in_its_world
    async def test_what_has_begun_goes_on_or_fails(self, backend: FaultyBackend, world: World) -> None:
        """A read or a listing that has given something is not begun again, so nothing comes twice."""
        await put(backend.inner.driver(world), "a", b"hello")
        await put(backend.inner.driver(world), "b", b"")
        backend.plan = [Fault("read", kind="cut", bytes=2), Fault("list", kind="cut", bytes=1)]
        verbs = Retrying(backend, world)
        for stream in (verbs.read("a"), verbs.list()):
            got: list[Any] = []
            with pytest.raises(StoreUnavailable):
                async for item in stream:
                    got.append(item)  # noqa: PERF401  # a comprehension that raises gives nothing
            assert len(got) == 1
        assert backend.verbs == ["read", "list"]

    @in_its_world
    async def test_an_empty_stream(self, backend: FaultyBackend, world: World) -> None:
        """A stream without an item is one, also after a failure."""
        backend.plan = [Fault("list")]
        assert await paths(as_driver(Retrying(backend, world))) == []
        assert backend.verbs == ["list", "list"]

    @in_its_world
    async def test_closing(self, backend: FaultyBackend, world: World) -> None:
        """A read that is closed stops the store's."""
        await put(backend.inner.driver(world), "a", b"hello")
        stream: Any = Retrying(backend, world).read("a")
        assert await anext(stream) == b"hello"
        assert backend.running == 1
        await stream.aclose()
        assert backend.running == 0


class TestPauses:
    def test_they_grow_and_are_drawn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Before the n-th further try lies up to half a second times 2**(n-1), and no more than 20 seconds."""
        monkeypatch.undo()
        slept: list[float] = []

        class Watched(Inline):
            async def sleep(self, seconds: float) -> None:
                slept.append(seconds)

        backend = ObstoreBackend("it", "memory://", retries=9)
        faulty = FaultyBackend(backend, [Fault("get", times=None)])
        for _ in range(50):
            with pytest.raises(StoreUnavailable):
                run(Retrying(faulty, Watched()).get("a"))
        for number in range(9):
            drawn, most = slept[number::9], min(0.5 * 2**number, 20)
            assert 0 <= min(drawn) < most / 4
            assert most * 3 / 4 < max(drawn) <= most
        assert len(slept) == 450

    @pytest.mark.parametrize("retries", [0, 1, 5])
    @in_its_world
    async def test_the_backend_says_how_often(self, retries: int, world: World) -> None:
        """`retries` of a backend is the number of further tries; 0 switches them off."""
        backend = FaultyBackend(ObstoreBackend("it", "memory://", retries=retries), [Fault("get", times=None)])
        with pytest.raises(StoreUnavailable):
            await Retrying(backend, world).get("a")
        assert len(backend.calls) == retries + 1

    @in_its_world
    async def test_a_backend_that_says_nothing(self, world: World) -> None:
        """A backend of somebody else's that knows nothing of retries has two."""

        class Plain:
            def __init__(self, inner: StorageBackend) -> None:
                self.driver = inner.driver

        faulty = FaultyBackend(ObstoreBackend("it", "memory://", retries=0), [Fault("get", times=None)])
        plain: Any = Plain(faulty)
        with pytest.raises(StoreUnavailable):
            await Retrying(plain, world).get("a")
        assert len(faulty.calls) == 3

    @pytest.mark.parametrize("retries", [-1, 1.5, True, None])
    def test_what_is_no_number_of_tries(self, retries: Any) -> None:
        """A wrong number is refused when the backend is made."""
        with pytest.raises(ConfigurationError, match="retries"):
            ObstoreBackend("it", "memory://", retries=retries)

    @pytest.mark.parametrize("verb", ["get", "read"])
    async def test_a_cancelled_pause(self, verb: Verb, backend: FaultyBackend, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who is cancelled during a pause does not wait for its end."""
        backend.plan = [Fault(verb, times=None)]
        monkeypatch.setattr("random.uniform", lambda low, high: 60)
        task = asyncio.ensure_future(CALLS[verb](Retrying(backend, asyncio_world)))
        while not backend.calls:
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 5)
        assert backend.verbs == [verb]

    @in_its_world
    async def test_who_may_not(self, backend: FaultyBackend, world: World) -> None:
        """Where there may be no further try there is none."""
        backend.plan = [Fault("get", times=None)]
        with pytest.raises(StoreUnavailable):
            await again(lambda: backend.driver(world).get("a"), backend, world, may=lambda: False)
        assert len(backend.calls) == 1


async def listed(items: AsyncIterator[bytes]) -> list[bytes]:
    return [item async for item in items]


def again_of(file: FileObject) -> FileObject:
    return FileObject(file.backend, content=b"hello", storages=file.storages)


async def saved(file: FileObject) -> int | None:
    return (await file.save_async()).size


async def copied(file: FileObject) -> int | None:
    return (await file.copy_to_async(file.backend)).size


FILE_VERBS: dict[str, tuple[Verb, Callable[[FileObject], Any], Callable[[FileObject], Any]]] = {
    "get_content": ("get", lambda file: file.get_content(), lambda file: file.get_content_async()),
    "read_range": ("read", lambda file: file.read_range(1, 3), lambda file: file.read_range_async(1, 3)),
    "iter_bytes": ("read", lambda file: list(file.iter_bytes()), lambda file: listed(file.iter_bytes_async())),
    "exists": ("head", lambda file: file.exists(), lambda file: file.exists_async()),
    "verify": ("read", lambda file: file.verify(), lambda file: file.verify_async()),
    "delete": ("delete", lambda file: file.delete(), lambda file: file.delete_async()),
    "save": ("put", lambda file: again_of(file).save().size, lambda file: saved(again_of(file))),
    "copy_to": ("copy", lambda file: file.copy_to(file.backend).size, copied),
}


class TestFiles:
    @pytest.mark.parametrize("name", FILE_VERBS)
    @in_its_world
    async def test_their_verbs(self, name: str, backend: FaultyBackend, world: World) -> None:
        """Each verb of a file that asks the store is tried again, and gives what it gives when nothing fails."""
        verb, sync, in_asyncio = FILE_VERBS[name]
        storages = Storages()
        storages.register_backend(backend)
        results: list[Any] = []
        for failures in (0, 2):
            file = await stored(storages, world)
            backend.calls.clear()
            backend.plan = [Fault(verb, times=failures)] if failures else []
            results.append(sync(file) if world is inline else await in_asyncio(file))
            assert backend.verbs.count(verb) == failures + 1
        assert results[0] == results[1]


async def stored(storages: Storages, world: World) -> FileObject:
    file = FileObject("it", content=b"hello", storages=storages)
    return file.save() if world is inline else await file.save_async()


class TestTarget:
    """What is known of a path at which an object is being made."""

    async def outcome(
        self, target: Target, *errors: StoreError | None
    ) -> tuple[list[bool], list[type[BaseException] | None]]:
        told: list[bool] = []
        raised: list[type[BaseException] | None] = []
        for error in errors:

            async def write(overwrite: bool, error: StoreError | None = error) -> None:
                told.append(overwrite)
                if error is not None:
                    raise error

            try:
                await target.make(write)
                raised.append(None)
            except StoreError as caught:
                raised.append(type(caught))
        return told, raised

    @in_its_world
    async def test_a_path_of_ours(self, world: World) -> None:
        """Nothing is replaced before a try is in doubt; then it is, since it can be nobody else's."""
        gone, there = (kind("x", backend="it", path="a") for kind in (StoreUnavailable, ObjectExists))
        told, raised = await self.outcome(Target("a", is_ours=True), gone, gone, None)
        assert (told, raised) == ([False, True, True], [StoreUnavailable, StoreUnavailable, None])
        told, raised = await self.outcome(Target("a", is_ours=True), there, None)
        assert (told, raised) == ([False, True], [StoreUnavailable, None])

    @in_its_world
    async def test_a_path_that_may_be_anothers(self, world: World) -> None:
        """Nothing is ever replaced, and a conflict is one."""
        gone, there = (kind("x", backend="it", path="a") for kind in (StoreUnavailable, ObjectExists))
        told, raised = await self.outcome(Target("a", is_ours=False), gone, there)
        assert (told, raised) == ([False, False], [StoreUnavailable, ObjectExists])

    @pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
    @in_its_world
    async def test_recognising(self, streamed: bool, backend: FaultyBackend, world: World) -> None:
        """What lies there is ours by size and bytes, and is read back only where the size fits."""
        conflict = ObjectExists("x", backend="it", path="a")
        target = Target("a", is_ours=False)
        answer = await backend.inner.driver(world).put("a", b"hello", size=5, overwrite=False, attributes=Attributes())
        for content, verbs in ((b"hello", ["head", "read"]), (b"hallo", ["head", "read"]), (b"hell", ["head"])):
            backend.calls.clear()
            body: Body = in_pieces(content) if streamed else content
            recognised = target.recognise(body, backend, world, conflict)
            if content == b"hello":
                assert await recognised == answer
            else:
                with pytest.raises(ObjectExists) as caught:
                    await recognised
                assert caught.value is conflict
            assert backend.verbs == verbs

    @in_its_world
    async def test_what_is_too_old(self, backend: FaultyBackend, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """What lay there before the first try is another's, whatever its bytes; clocks may differ by some seconds."""
        await put(backend.inner.driver(world), "a", b"hello")
        there = (await backend.inner.driver(world).head("a")).last_modified
        conflict = ObjectExists("x", backend="it", path="a")
        for later, ours in ((retry.SKEW - 1, True), (retry.SKEW + 1, False)):
            monkeypatch.setattr("lading.clock.now", lambda later=later: there + later)
            recognised = Target("a", is_ours=False).recognise(b"hello", backend, world, conflict)
            if ours:
                assert (await recognised).etag is not None
            else:
                with pytest.raises(ObjectExists):
                    await recognised
        assert backend.verbs == ["head", "read", "head"]

    @in_its_world
    async def test_what_is_gone_again(self, backend: FaultyBackend, world: World) -> None:
        """What is not there any more cannot be recognised: the conflict stands."""
        with pytest.raises(ObjectExists):
            await Target("a", is_ours=False).recognise(
                b"hello", backend, world, ObjectExists("x", backend="it", path="a")
            )


async def in_pieces(content: bytes) -> AsyncIterator[bytes]:
    for number in range(len(content)):
        yield content[number : number + 1]
