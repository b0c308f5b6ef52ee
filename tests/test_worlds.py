"""Tests of the two worlds that the core runs in."""

import asyncio
import contextvars
import threading
import time
from collections.abc import AsyncIterator

import pytest

from lading import worlds
from lading.testing.backends import in_its_world
from lading.worlds import World, asyncio_world, inline, iterate, run

name = contextvars.ContextVar("name", default="unset")


class TestBoth:
    @pytest.fixture(params=[inline, asyncio_world], ids=["inline", "asyncio"])
    def world(self, request: pytest.FixtureRequest) -> World:
        chosen: World = request.param
        return chosen

    @in_its_world
    async def test_call(self, world: World) -> None:
        """A blocking function is called with its arguments, and its result or very error comes out."""
        error = OSError("very")

        def fail() -> None:
            raise error

        assert await world.call(max, 1, 5, key=lambda number: -number) == 1
        with pytest.raises(OSError, match="very") as caught:
            await world.call(fail)
        assert caught.value is error

    @in_its_world
    async def test_start(self, world: World) -> None:
        """A started function runs at once, in another thread, and is waited for where its result is."""
        began = threading.Event()

        def work() -> int:
            began.set()
            return threading.get_ident()

        started = world.start(work)
        if world is inline:
            assert began.wait(5)
        assert await started != threading.get_ident()

        with pytest.raises(ZeroDivisionError):
            await world.start(lambda: 1 // 0)

    @pytest.mark.parametrize("limit", [0, 1, 3, 100])
    @pytest.mark.parametrize("count", [0, 1, 2, 20])
    @in_its_world
    async def test_each_keeps_order(self, world: World, count: int, limit: int) -> None:
        """The results come in the order of the items, whatever the bound."""

        async def act(number: int) -> int:
            await world.call(time.sleep, (count - number) / 1000)
            return number * 2

        assert await world.each(act, range(count), limit) == [number * 2 for number in range(count)]

    @in_its_world
    async def test_each_is_concurrent_and_bounded(self, world: World) -> None:
        """As many as allowed run at once, and never more."""
        lock, running, most = threading.Lock(), 0, 0

        def work() -> None:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.01)
            with lock:
                running -= 1

        async def act(_: int) -> None:
            await world.call(work)

        await world.each(act, range(20), limit=4)
        assert most == 4

    @in_its_world
    async def test_each_stops_at_a_failure(self, world: World) -> None:
        """After a failure nothing new begins, what runs ends, and the failure itself is raised."""
        began: list[int] = []
        ended: list[int] = []
        error = ValueError("second")

        async def act(number: int) -> None:
            began.append(number)
            if number == 1:
                await world.call(time.sleep, 0.01)
                raise error
            await world.call(time.sleep, 0.05)
            ended.append(number)

        with pytest.raises(ValueError, match="second") as caught:
            await world.each(act, range(50), limit=4)
        assert caught.value is error
        assert len(began) < 50
        assert sorted(ended) == [number for number in sorted(began) if number != 1]

    @in_its_world
    async def test_each_keeps_the_context(self, world: World) -> None:
        """Context variables of the caller are seen by what it runs."""
        token = name.set("mine")

        async def act(_: int) -> str:
            return await world.call(name.get)

        assert await world.each(act, range(4), limit=2) == ["mine"] * 4
        name.reset(token)

    @in_its_world
    async def test_sleep(self, world: World) -> None:
        """A world waits for as long as it is told to."""
        began = time.monotonic()
        await world.sleep(0.02)
        assert time.monotonic() - began >= 0.019

    @in_its_world
    async def test_finish(self, world: World) -> None:
        """Work that is to be finished gives its result or its error."""

        async def work(number: int) -> int:
            return 1 // number

        assert await world.finish(work(1)) == 1
        with pytest.raises(ZeroDivisionError):
            await world.finish(work(0))


class TestInline:
    def test_run_refuses_to_suspend(self) -> None:
        """A coroutine that suspends is closed, and named with what to do."""
        closed: list[bool] = []

        async def waits() -> None:
            try:
                await asyncio.sleep(0)
            finally:
                closed.append(True)

        with pytest.raises(RuntimeError, match=r"waits suspended .* _async verb"):
            run(waits())
        assert closed == [True]

    def test_run_lets_errors_through(self) -> None:
        """The error of a coroutine is the error of its run."""

        async def fails() -> None:
            raise KeyError("it")

        with pytest.raises(KeyError):
            run(fails())

    def test_iterate(self) -> None:
        """An async iterator of the core is a plain one, its errors included, and may be left half-way."""

        async def numbers() -> AsyncIterator[int]:
            yield 1
            yield 2
            raise LookupError

        items = iterate(numbers())
        assert next(items) == 1
        assert next(items) == 2
        with pytest.raises(LookupError):
            next(items)
        for item in iterate(numbers()):
            assert item == 1
            break

    def test_calls_stay_in_the_thread(self) -> None:
        """A blocking call blocks its caller: there is no loop to spare."""
        assert run(inline.call(threading.get_ident)) == threading.get_ident()

    def test_names(self) -> None:
        """The worlds say which they are."""
        assert (inline.name, asyncio_world.name) == ("inline", "asyncio")


class TestAsyncio:
    async def test_calls_leave_the_loop(self) -> None:
        """A blocking call does not stop the loop."""
        assert await asyncio_world.call(threading.get_ident) != threading.get_ident()

    async def test_finish_outlives_cancellations(self) -> None:
        """However often the caller is cancelled, the work ends first, and then the cancellation is raised."""
        ended: list[bool] = []
        gate = asyncio.Event()

        async def work() -> None:
            await gate.wait()
            ended.append(True)

        caller = asyncio.ensure_future(asyncio_world.finish(work()))
        for _ in range(3):
            await asyncio.sleep(0)
            caller.cancel()
        await asyncio.sleep(0.01)
        assert not caller.done()
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert ended == [True]

    async def test_finish_raises_the_cancellation_with_the_error_as_its_cause(self) -> None:
        """Work that fails while its caller is cancelled does not swallow the cancellation."""
        gate = asyncio.Event()

        async def work() -> None:
            await gate.wait()
            raise KeyError("lost?")

        caller = asyncio.ensure_future(asyncio_world.finish(work()))
        await asyncio.sleep(0)
        caller.cancel()
        await asyncio.sleep(0)
        gate.set()
        with pytest.raises(asyncio.CancelledError) as caught:
            await caller
        assert isinstance(caught.value.__cause__, KeyError)

    async def test_each_ends_what_runs_when_it_is_cancelled(self) -> None:
        """A cancelled caller gets its cancellation after all that ran has ended, even if it is cancelled twice."""
        began: list[int] = []
        ended: list[int] = []

        async def act(number: int) -> None:
            began.append(number)
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.01)
                ended.append(number)

        caller = asyncio.ensure_future(asyncio_world.each(act, range(10), limit=3))
        await asyncio.sleep(0.01)
        caller.cancel()
        await asyncio.sleep(0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert began == [0, 1, 2]
        assert sorted(ended) == began

    def test_nothing_of_a_loop_is_kept(self) -> None:
        """The worlds serve one loop after another."""
        for _ in range(2):
            assert asyncio.run(worlds.asyncio_world.call(lambda: 1)) == 1
