"""The two worlds that lading's coroutines run in: `inline`, where nothing suspends, and `asyncio`.

The core is written once, as coroutines that await nothing but a driver or a world. Under `inline` a coroutine runs to
its end in the caller's thread, with no event loop; under `asyncio` it is awaited like any other.
"""

import asyncio
import contextvars
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from threading import Thread
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
Item = TypeVar("Item")


class World(Protocol):
    """What a coroutine of the core may ask of the world that it runs in."""

    @property
    def name(self) -> str:
        """`"inline"` or `"asyncio"`."""
        ...

    async def call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking function where it blocks nobody else."""
        ...

    def start(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        """Start a blocking function in a thread now; its result is to be awaited, once."""
        ...

    async def each(self, act: Callable[[Item], Coroutine[Any, Any, T]], items: Sequence[Item], limit: int) -> list[T]:
        """Run `act` on every item, `limit` at a time, and return the results in the order of the items.

        When one fails no further item is begun, what is under way ends, and the first failure is raised. When the
        caller is cancelled, what is under way is cancelled and ends before this raises. So `act` has always ended.
        """
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...

    async def finish(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` to its end even if the caller is cancelled meanwhile; the cancellation is raised afterwards."""
        ...


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine of the core to its end, here and now.

    Raises:
        RuntimeError: it suspended, which under `inline` nothing may; the message names it.
    """
    try:
        work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # what a coroutine returns travels in an untyped exception
    name = getattr(work, "__qualname__", repr(work))
    work.close()
    raise RuntimeError(f"{name} suspended in the inline world; an async source or driver needs the _async verb")


def iterate(items: AsyncIterator[T]) -> Iterator[T]:
    """An async iterator of the core as a plain iterator, for the inline world."""
    while True:
        try:
            item = run(_next(items))
        except StopAsyncIteration:
            return
        yield item


async def _next(items: AsyncIterator[T]) -> T:
    return await anext(items)


class Inline:
    """The world without a loop: whatever is awaited is there at once."""

    name = "inline"

    async def call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return function(*args, **kwargs)

    def start(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        started = _Started[T]()
        Thread(target=started.run, args=(lambda: function(*args, **kwargs),), name="lading", daemon=True).start()
        return started

    async def each(self, act: Callable[[Item], Coroutine[Any, Any, T]], items: Sequence[Item], limit: int) -> list[T]:
        if len(items) < 2 or limit < 2:
            return [await act(item) for item in items]
        with ThreadPoolExecutor(min(limit, len(items)), thread_name_prefix="lading") as pool:
            futures = [pool.submit(contextvars.copy_context().run, _act, act, item) for item in items]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
            for future in futures:
                if not future.cancelled() and (error := future.exception()) is not None:
                    raise error
            return [future.result() for future in futures]

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251  # nothing else runs in this world

    async def finish(self, work: Coroutine[Any, Any, T]) -> T:
        return await work


class Asyncio:
    """The world of an event loop: blocking functions go to threads."""

    name = "asyncio"

    async def call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.to_thread(function, *args, **kwargs)

    def start(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        return asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))

    async def each(self, act: Callable[[Item], Coroutine[Any, Any, T]], items: Sequence[Item], limit: int) -> list[T]:
        if len(items) < 2:
            return [await act(item) for item in items]
        results: dict[int, T] = {}
        waiting = iter(enumerate(items))
        failures: list[BaseException] = []

        async def work() -> None:
            for index, item in waiting:
                try:
                    results[index] = await act(item)
                except BaseException as error:
                    failures.append(error)
                if failures:
                    return

        workers = [asyncio.ensure_future(work()) for _ in range(max(1, min(limit, len(items))))]
        try:
            await asyncio.wait(workers)
        except asyncio.CancelledError:
            for worker in workers:
                worker.cancel()
            await self.finish(_wait(workers))
            raise
        if failures:
            raise failures[0]
        return [results[index] for index in range(len(items))]

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def finish(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.ensure_future(work)
        cancelled: asyncio.CancelledError | None = None
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            # Whoever cancelled waits for that; an error of the work is its cause.
            raise cancelled from None if task.cancelled() else task.exception()
        return task.result()


async def _wait(tasks: Sequence["asyncio.Future[None]"]) -> None:
    await asyncio.wait(tasks)


def _act(act: Callable[[Item], Coroutine[Any, Any, T]], item: Item) -> T:
    return run(act(item))


class _Started(Generic[T]):
    """A function that runs in a thread, and is waited for when it is awaited."""

    def __init__(self) -> None:
        self._future: Future[T] = Future()

    def run(self, function: Callable[[], T]) -> None:
        try:
            self._future.set_result(function())
        except BaseException as error:
            self._future.set_exception(error)

    def __await__(self) -> Generator[Any, Any, T]:
        return self._future.result()
        yield  # what makes this a generator; never reached, so nothing suspends


inline: World = Inline()
asyncio_world: World = Asyncio()
