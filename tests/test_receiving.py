"""Request bodies on their way in, without a server; with servers they are in `test_litestar_forms`."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from lading.backends.obstore import ObstoreBackend
from lading.errors import ClientGone, ConfigurationError, MalformedBody, SlowBody, TooLarge, TooManyUploads
from lading.receiving import CHUNK, FIRST, Admission, Pace, RequestBody, cost_of, expects, length_of

KB = 1000


class Client:
    """What sends events: `receive` of ASGI, over a list; where that ends it says no more."""

    def __init__(self, events: Sequence[bytes | None], *, ends: bool = True, every: float = 0) -> None:
        self.asked = 0
        self._events = events
        self._ends = ends
        self._every = every

    async def receive(self) -> Mapping[str, Any]:
        number, self.asked = self.asked, self.asked + 1
        if self._every:
            await asyncio.sleep(self._every)
        if number >= len(self._events):
            await asyncio.Event().wait()
        data = self._events[number]
        if data is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": data, "more_body": not self._ends or number + 1 < len(self._events)}


async def whole(body: RequestBody) -> bytes:
    return b"".join([chunk async for chunk in body])


class TestBody:
    async def test_it_gathers_chunks_and_reads_no_further(self) -> None:
        """Small events become chunks of 1 MiB; nothing is read that was not asked for."""
        events = [bytes([number]) * (64 * 1024) for number in range(40)]
        client = Client(events)
        body = RequestBody(client.receive)
        assert client.asked == 0
        first = await anext(body)
        assert (len(first), client.asked) == (CHUNK, 16)
        await asyncio.sleep(0)
        assert client.asked == 16
        assert first + await whole(body) == b"".join(events)
        assert body.received == sum(map(len, events))
        assert [chunk async for chunk in body] == []

    async def test_no_body(self) -> None:
        """A body without a byte has no chunk."""
        assert await whole(RequestBody(Client([b""]).receive, length=0)) == b""

    async def test_a_length_beyond_the_limit(self) -> None:
        """A body that says that it is too large is refused before it is read."""
        client = Client([b"x" * 10])
        with pytest.raises(TooLarge) as caught:
            await anext(RequestBody(client.receive, length=11, limit=10))
        assert (caught.value.limit, caught.value.actual, client.asked) == (10, 11, 0)

    async def test_it_is_cut_at_the_limit(self) -> None:
        """One that says nothing is cut by the event with which it is too large."""
        client = Client([b"x" * KB] * 100)
        with pytest.raises(TooLarge) as caught:
            await whole(RequestBody(client.receive, limit=5 * KB))
        assert (caught.value.actual, client.asked) == (6 * KB, 6)
        assert len(await whole(RequestBody(Client([b"x" * KB] * 5).receive, limit=5 * KB))) == 5 * KB

    @pytest.mark.parametrize("length", [0, 9, 11])
    async def test_a_length_that_is_not_true(self, length: int) -> None:
        """A body that is shorter or longer than its Content-Length is malformed."""
        with pytest.raises(MalformedBody):
            await whole(RequestBody(Client([b"x" * 5, b"x" * 5]).receive, length=length))

    async def test_a_client_that_goes_away(self) -> None:
        """A disconnect before the end is an error, and no end."""
        with pytest.raises(ClientGone):
            await whole(RequestBody(Client([b"x", None]).receive))

    async def test_a_client_that_says_no_more(self) -> None:
        """For the next event it is waited so long, and no longer."""
        body = RequestBody(Client([b"x"], ends=False).receive, pace=Pace(timeout=0.05))
        begun = time.monotonic()
        with pytest.raises(SlowBody) as caught:
            await whole(body)
        assert (caught.value.limit, caught.value.actual) == (4096, 1)
        assert 0.04 < caught.value.seconds <= time.monotonic() - begun < 2

    async def test_a_slow_drip(self) -> None:
        """A body that keeps coming, but too slowly, is given up when its time is over."""
        client = Client([b"x"] * 1000, every=0.01)
        with pytest.raises(SlowBody) as caught:
            await whole(RequestBody(client.receive, pace=Pace(timeout=0.1, rate=1000)))
        assert caught.value.actual < 30
        client = Client([b"x" * 100] * 30, every=0.01)
        assert len(await whole(RequestBody(client.receive, pace=Pace(timeout=0.1, rate=1000)))) == 3000

    async def test_many_small_waits(self) -> None:
        """A body that comes fast enough has all the time that it needs, in however small steps."""
        client = Client([b"x" * 1000] * 300, every=0.005)
        assert len(await whole(RequestBody(client.receive, pace=Pace(timeout=1, rate=1000)))) == 300_000

    async def test_a_slow_store_is_not_the_clients_fault(self) -> None:
        """Only the time counts in which the client is waited for."""
        body = RequestBody(Client([b"x" * CHUNK] * 5).receive, pace=Pace(timeout=0.1, rate=10**12))
        async for _ in body:
            await asyncio.sleep(0.05)

    async def test_draining(self) -> None:
        """What is left of a refused body is read where it is little, and only then; never for long."""
        client = Client([b"x" * KB] * 10)
        await RequestBody(client.receive, length=10 * KB).drain()
        assert client.asked == 10
        await RequestBody(client.receive, length=10 * KB).drain(9 * KB)
        assert client.asked == 10
        client = Client([b"x" * KB] * 10)
        await RequestBody(client.receive).drain(3 * KB)
        assert client.asked == 3
        begun = time.monotonic()
        body = RequestBody(Client([b"x"], ends=False).receive)
        await body.drain(seconds=0.05)
        await body.drain(seconds=0.05)
        assert time.monotonic() - begun < 2
        gone = RequestBody(Client([None]).receive)
        await gone.drain()
        assert gone.received == 0

    async def test_a_body_that_nobody_has_asked_for(self) -> None:
        """Who waits to be asked for the body is not asked for it, lest it be sent to be forgotten."""
        client = Client([b"x" * KB] * 10)
        body = RequestBody(client.receive, length=10 * KB, expects=True)
        await body.drain()
        assert client.asked == 0
        await body.begin()
        await body.drain()
        assert client.asked == 10
        assert [expects({"expect": said}) for said in ("100-Continue", "something else")] == [True, False]
        assert not expects({})

    async def test_beginning(self) -> None:
        """What has come before it takes part in anything comes first when it is read; no more is waited for."""
        events = [bytes([number]) * (16 * 1024) for number in range(80)]
        client = Client(events)
        body = RequestBody(client.receive)
        await body.begin()
        assert client.asked == FIRST // (16 * 1024) == 4
        await body.begin()
        assert client.asked == 4
        assert len(first := await anext(body)) == CHUNK
        assert first + await whole(body) == b"".join(events)
        small = RequestBody(Client([b"x"]).receive)
        await small.begin()
        assert await whole(small) == b"x"
        with pytest.raises(SlowBody):
            await RequestBody(Client([b"x"], ends=False).receive, pace=Pace(timeout=0.05)).begin()
        with pytest.raises(TooLarge):
            await RequestBody(client.receive, length=11, limit=10).begin()


@pytest.mark.parametrize("said", ["", "-1", "1e3", "1, 1", "١", "1" * 5000])
def test_no_length(said: str) -> None:
    """A Content-Length is decimal digits, and not so many that to read them takes long."""
    with pytest.raises(MalformedBody):
        length_of({"content-length": said})
    assert (length_of({"content-length": "12"}), length_of({})) == (12, None)


@pytest.mark.parametrize("wrong", [{"timeout": 0}, {"timeout": -1}, {"rate": 0}])
def test_no_pace(wrong: dict[str, float]) -> None:
    """A pace without time, or without bytes, is a mistake."""
    with pytest.raises(ConfigurationError):
        Pace(**wrong)


class TestAdmission:
    @pytest.mark.parametrize("wrong", [{"uploads": 0}, {"memory": 0}, {"wait": -1}])
    def test_mistakes(self, wrong: dict[str, int]) -> None:
        """One that lets nobody in is a mistake."""
        with pytest.raises(ConfigurationError):
            Admission(**wrong)

    @pytest.mark.parametrize(
        ("admission", "cost", "limit"),
        [(Admission(uploads=2, wait=0.05), 1, 2), (Admission(memory=100, wait=0.05), 50, 100)],
        ids=["uploads", "memory"],
    )
    async def test_so_many_and_no_more(self, admission: Admission, cost: int, limit: int) -> None:
        """Who finds no room in time is refused, and told when to come again; when one leaves there is room."""
        async with admission.enter(cost):
            async with admission.enter(cost):
                with pytest.raises(TooManyUploads) as caught:
                    async with admission.enter(cost):
                        raise AssertionError
                assert (caught.value.limit, caught.value.retry_after) == (limit, 1)
            async with admission.enter(cost):
                assert (admission.uploads, admission.memory) == (2, 2 * cost)
        assert (admission.uploads, admission.memory) == (0, 0)

    async def test_in_order(self) -> None:
        """Who waits goes in in the order in which they came, and one that needs little passes none that needs much."""
        admission, order = Admission(memory=100, wait=5), list[int]()

        async def one(number: int, cost: int) -> None:
            async with admission.enter(cost):
                order.append(number)
                await asyncio.sleep(0)

        async with admission.enter(60):
            tasks = [asyncio.ensure_future(one(number, cost)) for number, cost in enumerate([50, 10, 90, 10])]
            await asyncio.sleep(0.01)
            assert order == []
        await asyncio.gather(*tasks)
        assert order == [0, 1, 2, 3]
        assert admission.memory == 0

    async def test_one_is_always_let_in(self) -> None:
        """An upload that needs more than there is comes in when it is alone."""
        admission = Admission(memory=100, wait=0.05)
        async with admission.enter(1000):
            with pytest.raises(TooManyUploads):
                async with admission.enter(1):
                    raise AssertionError
        assert admission.memory == 0

    async def test_who_gives_up_makes_room(self) -> None:
        """A waiting upload that is cancelled, or refused, lets those behind it go on; one that was just let in, too."""
        admission = Admission(memory=100, wait=5)
        went: list[int] = []

        async def one(number: int, cost: int) -> None:
            async with admission.enter(cost):
                went.append(number)

        async with admission.enter(60):
            large, small = (asyncio.ensure_future(one(number, cost)) for number, cost in ((1, 90), (2, 40)))
            await asyncio.sleep(0.01)
            assert went == []
            large.cancel()
            await asyncio.gather(large, small, return_exceptions=True)
            assert went == [2]
            again = asyncio.ensure_future(one(3, 90))
            await asyncio.sleep(0.01)
        again.cancel()  # it has been called, and has not run yet
        await asyncio.gather(again, return_exceptions=True)
        assert (went, admission.uploads, admission.memory) == ([2], 0, 0)


def test_costs() -> None:
    """An upload costs a few parts of its store, and a small one only what it is."""
    backend = ObstoreBackend("mem", "memory://")
    assert 10 * CHUNK < cost_of(backend) < 30 * CHUNK
    assert cost_of(backend, 10**12) == cost_of(backend)
    assert cost_of(backend, 1000) < 2 * CHUNK
