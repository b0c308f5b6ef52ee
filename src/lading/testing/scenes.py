"""An engine, and sessions on it in either world that play scenarios."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import greenlet_spawn

from lading.testing.counted import count_engine
from lading.testing.points import KILL, Interrupted, Points

T = TypeVar("T")

Scenario: TypeAlias = Callable[[Session], object] | Callable[[AsyncSession], Awaitable[object]]
"""What an application does with a session; it commits by itself."""

Configure: TypeAlias = Callable[[Engine], object]
"""Sets up an engine; of an async one it is given the sync one beneath."""


def is_async(scenario: Scenario, url: URL) -> bool:
    """Whether a scenario is to be played on a loop: it is a coroutine function, or the driver can do nothing else."""
    return inspect.iscoroutinefunction(scenario) or url.get_dialect().is_async


def in_loop() -> bool:
    """Whether a loop is running in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class Scene:
    """A database where scenarios are played in one world.

    Attributes:
        engine: what they are played on, each step a point.
        judge: an engine of its own for whoever looks at what they have done. Under asyncio both are sync engines of
            async ones, to be used in a greenlet.
    """

    def __init__(self, url: URL | str, configure: Configure | None, points: Points, *, on_loop: bool) -> None:
        self._url = make_url(url)
        self._configure = configure
        self._on_loop = on_loop
        self._points = points
        self.judge = self._engine()
        self.engine = self._engine()
        count_engine(self.engine, points)

    def _engine(self) -> Engine:
        engine = create_async_engine(self._url).sync_engine if self._on_loop else create_engine(self._url)
        if self._configure is not None:
            self._configure(engine)
        return engine

    def run(self, work: Callable[[], T]) -> T:
        """Do something with the engines, which may play scenarios; afterwards no connection is left."""

        def run() -> T:
            try:
                return work()
            finally:
                self.dispose()

        return asyncio.run(greenlet_spawn(run)) if self._on_loop else run()

    def dispose(self) -> None:
        """Close all connections that nobody uses."""
        self.engine.dispose()
        self.judge.dispose()

    def play(self, scenario: Scenario) -> BaseException | None:
        """Give a scenario a session, and return what it raised."""
        error = await_only(self._in_task(scenario)) if self._on_loop else self._in_thread(scenario)
        if error is None:
            self._points.pass_by("the end", KILL, RuntimeError)
        return error

    def _in_thread(self, scenario: Any) -> BaseException | None:
        try:
            with Session(self.engine) as session:
                scenario(session)
        except (Exception, Interrupted) as error:
            return error
        return None

    async def _in_task(self, scenario: Scenario) -> BaseException | None:
        task = asyncio.ensure_future(self._in_session(scenario))
        with self._points.cancelled_by(task.cancel):
            await asyncio.wait([task])
        return asyncio.CancelledError() if task.cancelled() else task.exception()

    async def _in_session(self, scenario: Any) -> None:
        async with AsyncSession(AsyncEngine(self.engine)) as session:
            if inspect.iscoroutinefunction(scenario):
                await scenario(session)
            else:
                await session.run_sync(scenario)


def begin_for_real(engine: Engine) -> None:
    """Make SQLite begin when SQLAlchemy does: SQLAlchemy's documented recipe; and never wait for the disk."""

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA synchronous = OFF")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")
