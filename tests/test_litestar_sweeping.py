"""An application that drains its outbox in the background."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from litestar import Litestar
from sqlalchemy import Engine, MetaData, create_engine, func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from lading import FileObject, Storages, StoredObject
from lading.backends.obstore import ObstoreBackend
from lading.errors import ConfigurationError
from lading.litestar import LadingConfig, LadingPlugin
from lading.orm.outbox import Outbox
from lading.sweeper import Sweeper
from lading.testing import Fault, FaultyBackend
from tests.conftest import empty_database

SECRET = "a secret of some length"
OFTEN = timedelta(seconds=0.05)
storages = Storages()


class Base(DeclarativeBase):
    pass


class Document(Base):
    __tablename__ = "document"
    id: Mapped[int] = mapped_column(primary_key=True)
    file: Mapped[FileObject | None] = mapped_column(StoredObject("store", storages=storages))


outbox = Outbox(Base.metadata, grace=timedelta(0))


@dataclass
class World:
    """A database, a store that may fail, and the engine of the application: sync or async."""

    engine: Engine
    theirs: Engine | AsyncEngine
    backend: FaultyBackend

    def plugin(self, **options: Any) -> LadingPlugin:
        sweeper = Sweeper(self.theirs, Base.metadata)
        return LadingPlugin(
            LadingConfig(SECRET, storages=storages, **{"sweeper": sweeper, "sweep_every": OFTEN, **options})
        )

    def app(self, plugin: LadingPlugin | None = None, **options: Any) -> Litestar:
        # Litestar's logging would take pytest's handler away.
        return Litestar(plugins=[plugin or self.plugin()], logging_config=None, **options)

    def enter(self, count: int = 1) -> None:
        """Objects that are to be deleted."""
        files = [FileObject("store", content=b"x", storages=storages).save() for _ in range(count)]
        with self.engine.begin() as connection:
            outbox.add(connection, [("store", file.path) for file in files], "test")

    def waiting(self) -> int:
        with self.engine.connect() as connection:
            return connection.scalar(select(func.count()).select_from(outbox.table)) or 0

    def loops(self) -> int:
        """The loops that run in this process."""
        names = [thread.name for thread in threading.enumerate()] + [task.get_name() for task in asyncio.all_tasks()]
        return names.count("lading-sweeper")


@pytest.fixture(params=["sync", "async"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    url = f"sqlite:///{tmp_path / 'test.sqlite'}"
    is_async = request.param == "async"
    engine = create_engine(url)
    theirs = create_async_engine(url.replace("sqlite", "sqlite+aiosqlite", 1)) if is_async else create_engine(url)
    backend = FaultyBackend(ObstoreBackend("store", "memory://"))
    storages.register_backend(backend)
    yield World(engine, theirs, backend)
    storages.clear_backends()
    engine.dispose()
    if isinstance(theirs, AsyncEngine):
        asyncio.run(theirs.dispose())
    else:
        theirs.dispose()


@pytest.fixture
def ready(world: World) -> World:
    """With its tables."""
    Base.metadata.create_all(world.engine)
    return world


async def until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    return condition()


async def test_while_the_application_runs(ready: World) -> None:
    """What is entered while the application runs is deleted; nothing runs before, nor afterwards."""
    app = ready.app()
    assert ready.loops() == 0
    async with app.lifespan():
        assert ready.loops() == 1
        ready.enter(3)
        assert await until(lambda: ready.waiting() == 0)
    assert ready.loops() == 0
    assert ready.backend.verbs.count("delete") >= 1


async def test_without_a_sweeper(ready: World) -> None:
    """A plugin that is given no sweeper runs none."""
    async with ready.app(ready.plugin(sweeper=None)).lifespan():
        assert ready.loops() == 0


async def test_one_loop_for_one_plugin(ready: World) -> None:
    """Applications that share a plugin share its loop; another one may be started when the first has ended."""
    plugin = ready.plugin()
    first, second = ready.app(plugin), ready.app(plugin)
    async with first.lifespan():
        async with second.lifespan():
            assert ready.loops() == 1
        assert ready.loops() == 1
    assert ready.loops() == 0
    async with second.lifespan():
        assert ready.loops() == 1
    assert ready.loops() == 0


async def test_it_waits_for_the_tables(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """It begins when the application has started up, which may make the tables."""

    def create() -> None:
        Base.metadata.create_all(world.engine)
        world.enter()

    with caplog.at_level(logging.WARNING, "lading"):
        async with world.app(on_startup=[create]).lifespan():
            assert await until(lambda: world.waiting() == 0)
    assert caplog.records == []


async def test_a_database_that_fails(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A database that fails is logged, and does not end it."""
    async with world.app().lifespan():
        assert await until(lambda: any("no such table" in record.getMessage() for record in caplog.records))
        Base.metadata.create_all(world.engine)
        world.enter()
        assert await until(lambda: world.waiting() == 0)


async def test_a_store_that_fails(ready: World, caplog: pytest.LogCaptureFixture) -> None:
    """Objects that cannot be deleted are logged, and stay in the outbox."""
    ready.backend.plan = [Fault("delete", times=None)]
    ready.enter()
    async with ready.app().lifespan():
        assert await until(lambda: any("could not be deleted" in record.getMessage() for record in caplog.records))
        assert ready.waiting() == 1


async def test_shutdown_waits_for_what_is_being_deleted(ready: World) -> None:
    """A shutdown lets the deletes end that are under way, and takes them off the outbox."""
    ready.backend.plan = [Fault("delete", kind="delay", seconds=0.5)]
    ready.enter()
    async with ready.app().lifespan():
        assert await until(ready.backend.hanging.is_set)
        assert ready.waiting() == 1
    assert ready.waiting() == 0


async def test_shutdown_does_not_wait_for_the_next_turn(ready: World) -> None:
    """A shutdown ends the wait between two drains."""
    started = time.monotonic()
    async with ready.app(ready.plugin(sweep_every=timedelta(hours=1))).lifespan():
        await asyncio.sleep(0.2)
    assert time.monotonic() - started < 10


async def test_shutdown_comes_before_other_things_close(ready: World) -> None:
    """The loop has ended before the hooks of the application's shutdown run."""
    loops: list[int] = []
    async with ready.app(on_shutdown=[lambda: loops.append(ready.loops())]).lifespan():
        pass
    assert loops == [0]


def test_tables_without_an_outbox(world: World) -> None:
    """A sweeper whose tables have no outbox is refused when the application is made."""
    with pytest.raises(ConfigurationError, match="have no outbox"):
        world.app(world.plugin(sweeper=Sweeper(world.theirs, MetaData())))


@pytest.mark.parametrize("every", [timedelta(0), timedelta(seconds=-1)])
def test_a_time_that_is_none(world: World, every: timedelta) -> None:
    """The time between two drains is a positive one."""
    with pytest.raises(ConfigurationError, match="sweep_every"):
        world.plugin(sweep_every=every)


# as processes

SERVER = """
import os
from datetime import timedelta

from litestar import Litestar
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from lading.litestar import LadingConfig, LadingPlugin
from lading.sweeper import Sweeper
from tests.test_litestar_sweeping import SECRET, Base, storages

url = os.environ["DATABASE"]
engine = create_async_engine(url) if "async" in url or "aiosqlite" in url else create_engine(url)
storages.register_backend(os.environ["STORE"], key="store")
sweeper = Sweeper(engine, Base.metadata)
config = LadingConfig(SECRET, storages=storages, sweeper=sweeper, sweep_every=timedelta(seconds=0.1))
app = Litestar(plugins=[LadingPlugin(config)])
"""


@contextmanager
def serving(folder: Path, url: str, count: int) -> Iterator[None]:
    """Real servers, told to go at the end; what they have said must be no error."""
    (folder / "sweeping_server.py").write_text(SERVER)
    environment = {**os.environ, "DATABASE": url, "STORE": (folder / "store").as_uri(), "PYTHONPATH": f"{Path.cwd()}"}
    command = [sys.executable, "-m", "uvicorn", "sweeping_server:app", "--app-dir", str(folder), "--port", "0"]
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    servers = [subprocess.Popen(command, env=environment, **options) for _ in range(count)]
    try:
        said = "".join(line for server in servers for line in _startup(server))
        yield
        for server in servers:
            server.send_signal(signal.SIGTERM)
        said += "".join(server.communicate(timeout=30)[0] for server in servers)
    finally:
        for server in servers:
            server.kill()
            server.communicate()
    assert said.count("Application startup complete") == said.count("Application shutdown complete") == count, said
    assert not any(word in said for word in ("ERROR", "WARNING", "Traceback", "could not")), said


def _startup(server: "subprocess.Popen[str]") -> Iterator[str]:
    """What a server says until it has started up, or has gone."""
    assert server.stdout is not None
    for line in server.stdout:
        yield line
        if "startup complete" in line:
            return


@pytest.mark.parametrize(
    ("driver", "theirs"),
    [
        ("sqlite", "sqlite"),
        ("sqlite", "sqlite+aiosqlite"),
        ("postgresql+psycopg", "postgresql+psycopg"),
        ("postgresql+psycopg", "postgresql+asyncpg"),
    ],
)
def test_real_servers(request: pytest.FixtureRequest, tmp_path: Path, driver: str, theirs: str) -> None:
    """Two server processes at once delete what raw SQL has taken off its rows, and go when they are told to."""
    with empty_database(driver, request, tmp_path) as url:
        engine = create_engine(url)
        Base.metadata.create_all(engine)
        store = tmp_path / "store"
        storages.register_backend(store.as_uri(), key="store")
        files = [FileObject("store", content=b"x", storages=storages).save() for _ in range(300)]
        with engine.begin() as connection:
            connection.execute(insert(Document), [{"file": file} for file in files])
        with serving(tmp_path, url.set(drivername=theirs).render_as_string(hide_password=False), 2):
            with engine.begin() as connection:
                connection.execute(text("DELETE FROM document WHERE id > 10"))
            deadline = time.monotonic() + 30
            while len(list(store.iterdir())) > 10 and time.monotonic() < deadline:
                time.sleep(0.05)
        assert {path.name for path in store.iterdir()} == {file.path for file in files[:10]}
        storages.clear_backends()
        engine.dispose()
