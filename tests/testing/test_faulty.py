"""Tests of the backend that fails on cue: it is the one behind it, but for the faults of its plan."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from lading import worlds
from lading.backends import protocols
from lading.backends.obstore import ObstoreBackend
from lading.backends.protocols import Attributes, Copies, Describes, Driver, ListsInOrder, ObjectInfo, Signs, Stages
from lading.errors import AccessDenied, ConfigurationError, StoreError, StoreUnavailable
from lading.testing import Call, Fault, FaultyBackend, Kind, Verb, random_faults
from lading.testing.backends import in_its_world, joined, paths, put, stream
from lading.testing.capabilities import CopyContract, DescribeContract, OrderContract
from lading.testing.faults import VERBS
from lading.worlds import World

CAPABILITIES = (Copies, Signs, Describes, ListsInOrder, Stages)


class TestWithoutAPlan(CopyContract, DescribeContract, OrderContract):
    @pytest.fixture
    def backend(self) -> FaultyBackend:
        return FaultyBackend(ObstoreBackend("contract", "memory://"))


class Able:
    """A driver that can everything, and does nothing."""

    reads = 0

    async def put(self, path: str, body: Any, *, size: int | None, overwrite: bool, attributes: Attributes) -> Any:
        if not isinstance(body, bytes):
            async for _ in body:
                pass
        return protocols.Stored()

    async def get(self, path: str) -> bytes:
        return b"got"

    async def read(self, path: str, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        self.reads += 1
        try:
            yield b"re"
            yield b"ad"
        finally:
            self.reads -= 1

    async def head(self, path: str) -> ObjectInfo:
        return ObjectInfo(path, 1, 2)

    async def delete(self, paths: Sequence[str]) -> None: ...

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        yield ObjectInfo("listed", 1, 2)
        yield ObjectInfo("listed too", 1, 2)

    async def copy(self, source: str, target: str, *, overwrite: bool = False) -> None: ...

    async def sign(self, path: str, *, method: str, expires_in: int) -> str:
        return f"{method} {path} {expires_in}"

    async def attributes(self, path: str) -> Attributes:
        return Attributes(f"of/{path}")

    async def list_in_order(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectInfo]:
        yield ObjectInfo(f"after {after}", 1, 2)

    async def staged(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        yield ObjectInfo("staged", 1, 2)

    async def discard(self, paths: Sequence[str]) -> None: ...


class AbleBackend(ObstoreBackend):
    def __init__(self) -> None:
        super().__init__("able", "memory://")
        self.able = Able()

    def driver(self, world: World) -> Driver:
        return self.able


async def drawn(stream: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in stream]


def every_verb(driver: Any) -> dict[Verb, Coroutine[Any, Any, Any]]:
    attributes = Attributes()
    return {
        "put": driver.put("p", b"x", size=1, overwrite=False, attributes=attributes),
        "get": driver.get("p"),
        "read": drawn(driver.read("p")),
        "head": driver.head("p"),
        "delete": driver.delete(["p", "q"]),
        "list": drawn(driver.list("p")),
        "copy": driver.copy("q", "p"),
        "sign": driver.sign("p", method="GET", expires_in=1),
        "attributes": driver.attributes("p"),
        "list_in_order": drawn(driver.list_in_order("p", after="a")),
        "staged": drawn(driver.staged("p")),
        "discard": driver.discard(["p"]),
    }


@pytest.fixture(params=[worlds.inline, worlds.asyncio_world], ids=["inline", "asyncio"])
def world(request: pytest.FixtureRequest) -> World:
    chosen: World = request.param
    return chosen


@pytest.fixture
def backend() -> FaultyBackend:
    return FaultyBackend(ObstoreBackend("it", "memory://"))


class TestCapabilities:
    def test_just_those_of_the_inner_driver(self, tmp_path: Path, world: World) -> None:
        """A faulty driver can what the driver behind it can, and no more."""
        for inner in (ObstoreBackend("it", "memory://"), ObstoreBackend("it", tmp_path.as_uri()), AbleBackend()):
            able, faulty = inner.driver(world), FaultyBackend(inner).driver(world)
            assert isinstance(faulty, Driver)
            for capability in CAPABILITIES:
                assert isinstance(faulty, capability) is isinstance(able, capability)

    def test_none_is_forgotten(self) -> None:
        """Every protocol that a driver may satisfy is one that a faulty driver can have, and each method is a verb."""
        seen = {name for name, value in vars(protocols).items() if getattr(value, "_is_runtime_protocol", False)}
        assert seen == {
            "Driver",
            "StorageBackend",
            "Signer",
            "Located",
            *(capability.__name__ for capability in CAPABILITIES),
        }
        methods = {name for kind in (Driver, *CAPABILITIES) for name in vars(kind) if not name.startswith("_")}
        assert methods == set(VERBS)

    @in_its_world
    async def test_each_verb_is_passed_on(self, world: World) -> None:
        """Without a fault each verb answers what the driver behind it answers, and is noted with its path."""
        backend = FaultyBackend(AbleBackend())
        expected = [await verb for verb in every_verb(Able()).values()]
        assert [await verb for verb in every_verb(backend.driver(world)).values()] == expected
        assert backend.calls == [Call(verb, "p") for verb in VERBS]
        worlds_again = [backend.driver(each) for each in (worlds.inline, worlds.asyncio_world, worlds.inline)]
        assert worlds_again[0] is worlds_again[2] is not worlds_again[1]

    def test_what_else_the_inner_backend_has(self) -> None:
        """Other attributes are those of the backend behind; one that neither has is missed by its name."""
        backend = FaultyBackend(ObstoreBackend("it", "memory://", prefix="some"))
        assert backend.locate("x") == "some/x"
        assert isinstance(backend, protocols.Located) is isinstance(backend.inner, protocols.Located)
        with pytest.raises(AttributeError, match="wings"):
            backend.wings  # noqa: B018
        assert get_type_hints(FaultyBackend.__init__)["inner"] is protocols.StorageBackend


class TestFaults:
    @pytest.mark.parametrize("verb", VERBS)
    @pytest.mark.parametrize("kind", ["error", "error after", "cut"])
    @in_its_world
    async def test_a_failing_verb(self, verb: Verb, kind: Kind, world: World) -> None:
        """The verb that a fault names fails, with backend and path in the error; the others do not."""
        backend = FaultyBackend(AbleBackend(), [Fault(verb, kind=kind)])
        for name, call in every_verb(backend.driver(world)).items():
            if name == verb:
                with pytest.raises(StoreUnavailable, match=f"{verb} failed on cue") as caught:
                    await call
                assert (caught.value.backend, caught.value.path) == ("able", "p")
            else:
                await call
        assert backend.running == 0

    @in_its_world
    async def test_before_and_after(self, backend: FaultyBackend, world: World) -> None:
        """An error before leaves the store as it was; one after is told of what was done."""
        driver = backend.driver(world)
        backend.plan = [Fault("put"), Fault("put", 2, "error after")]
        for left in ([], ["a"]):
            with pytest.raises(StoreUnavailable):
                await put(driver, "a", b"x")
            assert await paths(backend.inner.driver(world)) == left

    @in_its_world
    async def test_which_call(self, backend: FaultyBackend, world: World) -> None:
        """A fault comes at the n-th call of its verb, as often as it says, and the first of two at one call wins."""
        plan = [Fault("get", 2, times=2), Fault("get", 3, error=AccessDenied), Fault("get", 6, times=None)]
        assert "".join(await fates(backend, plan, world)) == ".XX..XXX"
        assert await fates(backend, [Fault("head")], world) == ["."] * 8

    @in_its_world
    async def test_any_verb(self, backend: FaultyBackend, world: World) -> None:
        """A fault of any verb counts all calls."""
        backend.plan = [Fault("*", 2, times=None)]
        driver = backend.driver(world)
        await put(driver, "a", b"x")
        for call in (driver.get("a"), driver.delete(["a"]), put(driver, "b", b"")):
            with pytest.raises(StoreUnavailable):
                await call

    @in_its_world
    async def test_which_error(self, backend: FaultyBackend, world: World) -> None:
        """The error is of the kind that was asked for, or the very one."""
        mine = KeyboardInterrupt()
        backend.plan = [Fault("get", error=AccessDenied), Fault("get", 2, error=mine)]
        driver = backend.driver(world)
        with pytest.raises(AccessDenied, match="get failed on cue"):
            await driver.get("a")
        with pytest.raises(KeyboardInterrupt) as caught:
            await driver.get("a")
        assert caught.value is mine

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ({"verb": "fetch"}, "'fetch'"),
            ({"verb": "get", "kind": "explode"}, "'explode'"),
            ({"verb": "get", "at": 0}, "at=0"),
            ({"verb": "get", "times": 0}, "times=0"),
            ({"verb": "get", "bytes": -1}, "bytes=-1"),
            ({"verb": "get", "seconds": -1}, "seconds=-1"),
        ],
    )
    def test_mistakes(self, wrong: dict[str, Any], said: str) -> None:
        """A fault that could never come is refused when it is written down."""
        with pytest.raises(ConfigurationError, match=said):
            Fault(**wrong)


async def fates(backend: FaultyBackend, plan: Any, world: World) -> list[str]:
    """What becomes of eight reads under a plan."""
    backend.plan = ()
    driver = backend.driver(world)
    await put(driver, "a", b"x", overwrite=True)
    backend.plan = plan
    told = []
    for _ in range(8):
        try:
            await driver.get("a")
            told.append(".")
        except StoreError as error:
            told.append("X" if type(error) is StoreUnavailable else "?")
    return told


class TestStreams:
    @pytest.mark.parametrize(
        ("cut", "before"), [(0, b""), (1, b"0"), (4, b"0123"), (10, b"0123456789"), (99, b"0123456789")]
    )
    @in_its_world
    async def test_a_read_is_cut(self, cut: int, before: bytes, backend: FaultyBackend, world: World) -> None:
        """A cut read gives the first bytes and then fails, at its end where it is shorter."""
        driver = backend.driver(world)
        await put(driver, "digits", b"0123456789")
        backend.plan = [Fault("read", kind="cut", bytes=cut)]
        got = b""
        with pytest.raises(StoreUnavailable):
            async for chunk in driver.read("digits"):
                got += chunk
        assert got == before
        assert await joined(driver, "digits") == b"0123456789"

    @pytest.mark.parametrize("cut", [0, 5, 99])
    @in_its_world
    async def test_an_upload_is_cut(self, cut: int, backend: FaultyBackend, world: World) -> None:
        """A put whose body is cut fails, closes its body and stores nothing."""
        driver = backend.driver(world)
        backend.plan = [Fault("put", kind="cut", bytes=cut)]
        body = stream(b"012", b"345", b"678")
        with pytest.raises(StoreUnavailable, match="put failed on cue"):
            await put(driver, "it", body)
        assert await anext(body, None) is None
        assert await paths(driver) == []

    @in_its_world
    async def test_a_listing_is_cut(self, backend: FaultyBackend, world: World) -> None:
        """A cut listing gives the first entries and then fails."""
        driver = backend.driver(world)
        for path in "abc":
            await put(driver, path, b"x" * 100)
        backend.plan = [Fault("list", kind="cut", bytes=2)]
        got = set[str]()
        with pytest.raises(StoreUnavailable):
            async for info in driver.list():
                got.add(info.path)
        assert len(got) == 2

    @pytest.mark.parametrize("plan", [[], [Fault("read", kind="cut", bytes=3)]], ids=["whole", "cut"])
    @in_its_world
    async def test_a_read_is_under_way_until_it_is_closed(self, plan: list[Fault], world: World) -> None:
        """A stream that is closed early runs no more, and the one behind it is closed."""
        inner = AbleBackend()
        backend = FaultyBackend(inner, plan)
        chunks: Any = backend.driver(world).read("a")
        assert backend.verbs == []
        await anext(chunks)
        assert (backend.verbs, backend.running, inner.able.reads) == (["read"], 1, 1)
        await chunks.aclose()
        assert (backend.running, inner.able.reads) == (0, 0)


class TestTime:
    @pytest.mark.parametrize(("kind", "left"), [("hang", []), ("hang after", ["a"])])
    def test_a_hang_is_cancelled(self, kind: Kind, left: list[str], backend: FaultyBackend) -> None:
        """A verb that hangs does so until it is cancelled, before it was done or after."""

        async def act() -> None:
            backend.plan = [Fault("put", kind=kind)]
            driver = backend.driver(worlds.asyncio_world)
            task = asyncio.ensure_future(put(driver, "a", b"x"))
            await asyncio.wait_for(backend.hanging.wait(), 10)
            assert (task.done(), backend.running) == (False, 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert backend.running == 0
            assert await paths(driver) == left

        asyncio.run(act())

    @in_its_world
    async def test_a_hang_ends_in_an_error(self, backend: FaultyBackend, world: World) -> None:
        """Who waits for a hang gets an error in the end, as from a client that gives up."""
        backend.plan = [Fault("get", kind="hang", seconds=0.05)]
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await backend.driver(world).get("a")
        assert time.monotonic() - began >= 0.05

    @in_its_world
    async def test_a_delay(self, backend: FaultyBackend, world: World) -> None:
        """A delayed verb takes its time and succeeds, and those that run at once are counted."""
        backend.plan = [Fault("put", kind="delay", times=None, seconds=0.1)]
        driver = backend.driver(world)
        began = time.monotonic()
        await world.each(lambda number: put(driver, str(number), b"x"), range(8), limit=4)
        assert time.monotonic() - began >= 0.2
        assert len(await paths(driver)) == 8
        assert (backend.most, backend.running) == (4, 0)


class TestChance:
    @in_its_world
    async def test_a_seed_is_a_plan(self, backend: FaultyBackend, world: World) -> None:
        """The same seed gives the same faults, another one others."""
        plans = [await fates(backend, random_faults(seed, rate=0.5), world) for seed in (1, 1, 2)]
        assert plans[0] == plans[1] != plans[2]

    def test_the_order_of_verbs_does_not_matter(self) -> None:
        """What the n-th call of a verb meets hangs on no other verb, so threads may come in any order."""
        one, two = random_faults(7, rate=0.5), random_faults(7, rate=0.5)
        alone = [one("get") for _ in range(50)]
        mixed = []
        for _ in range(50):
            two("put")
            mixed.append(two("get"))
        assert alone == mixed
        assert len({fault.kind for fault in alone if fault is not None}) == 4

    def test_the_rate(self) -> None:
        """As many calls fail as the rate says, of the verbs and in the ways that it says."""
        plan = random_faults(3, rate=0.2, verbs=["put"], kinds=["hang"], error=StoreError, seconds=1)
        drawn = [plan("put") for _ in range(2000)]
        faults = [fault for fault in drawn if fault is not None]
        assert 300 < len(faults) < 500
        assert {(fault.kind, fault.error, fault.seconds) for fault in faults} == {("hang", StoreError, 1)}
        assert all(plan("get") is None for _ in range(100))
        assert {random_faults(3, rate=1)("put") is None, random_faults(3, rate=0)("put") is None} == {True, False}
