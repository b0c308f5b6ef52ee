"""The background task of an application that drains its outbox."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from threading import Event, Lock, Thread

from litestar import Litestar
from litestar.config.app import AppConfig
from litestar.plugins import InitPlugin
from sqlalchemy.ext.asyncio import AsyncEngine

from lading.errors import ConfigurationError
from lading.orm.outbox import Outbox
from lading.sweeper import Sweeper


class Sweeping:
    """Drains from the application's startup to its shutdown, once, however many applications share it.

    It begins after the other startup hooks, which may make the tables, and ends before whatever else a shutdown closes.
    """

    def __init__(self, sweeper: Sweeper, every: timedelta) -> None:
        if every <= timedelta(0):
            raise ConfigurationError(f"sweep_every is the time between two drains, not {every}")
        self._sweeper = sweeper
        self._every = every
        self._lock = Lock()
        self._app: Litestar | None = None
        self._end: Callable[[], Awaitable[None]]

    def register(self, config: AppConfig) -> None:
        """Have an application start and end it."""
        if Outbox.of(self._sweeper.metadata) is None:
            raise ConfigurationError("the tables of LadingPlugin's sweeper have no outbox: make one, Outbox(metadata)")
        config.on_startup.append(self._start)
        config.plugins.append(_Last(self._lifespan))

    async def _start(self, app: Litestar) -> None:
        with self._lock:
            if self._app is not None:
                return
            self._app = app
        self._end = self._in_task() if isinstance(self._sweeper.engine, AsyncEngine) else self._in_thread()

    @asynccontextmanager
    async def _lifespan(self, app: Litestar) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            if self._app is app:
                try:
                    await self._end()
                finally:
                    self._app = None

    def _in_task(self) -> Callable[[], Awaitable[None]]:
        stop = asyncio.Event()
        task = asyncio.create_task(self._sweeper.run_async(stop, every=self._every), name="lading-sweeper")

        async def end() -> None:
            stop.set()
            await task

        return end

    def _in_thread(self) -> Callable[[], Awaitable[None]]:
        stop = Event()
        # No thread of a pool, which others would then lack; and none that would hold a process that is told to go.
        thread = Thread(
            target=self._sweeper.run, args=[stop], kwargs={"every": self._every}, name="lading-sweeper", daemon=True
        )
        thread.start()

        async def end() -> None:
            stop.set()
            await asyncio.to_thread(thread.join)

        return end


class _Last(InitPlugin):
    """Adds what is to end before what the other plugins add, which may close the engine; it is put behind them."""

    def __init__(self, lifespan: Callable[[Litestar], AbstractAsyncContextManager[None]]) -> None:
        self._lifespan = lifespan

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        app_config.lifespan.append(self._lifespan)  # pyright: ignore[reportUnknownMemberType]  # bare in Litestar
        return app_config
