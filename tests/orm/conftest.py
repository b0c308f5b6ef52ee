"""Every ORM test runs in both worlds, on every database: a scenario is a function over a session factory."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from lading.backends.obstore import ObstoreBackend
from lading.backends.protocols import StorageBackend
from lading.worlds import inline, iterate, run
from tests import databases
from tests.conftest import empty_database
from tests.orm.models import Base, registry

Sessions = sessionmaker[Session]
Scenario = Callable[[Sessions], None]


class Kind(NamedTuple):
    """A driver, and the world that it is used in."""

    driver: str
    is_async: bool

    def __str__(self) -> str:
        return f"{self.driver}-{'asyncio' if self.is_async else 'inline'}"


KINDS = [*(Kind(driver, False) for driver in databases.SYNC), *(Kind(driver, True) for driver in databases.ASYNC)]


def on(*names: str, inline_only: bool = False) -> pytest.MarkDecorator:
    """Run a test on these databases alone."""
    kinds = [kind for kind in KINDS if kind.driver.partition("+")[0] in names and not (inline_only and kind.is_async)]
    return pytest.mark.parametrize("db", kinds, indirect=True, ids=str)


class Database:
    """Runs scenarios: in the caller's thread over a sync driver, in a greenlet on a loop over an async one."""

    def __init__(self, url: Any, kind: Kind) -> None:
        self.url = url
        self.kind = kind
        self.name = kind.driver.partition("+")[0]

    def __call__(self, scenario: Scenario) -> None:
        if self.kind.is_async:
            asyncio.run(self._on_loop(scenario))
            return
        engine = create_engine(self.url)
        try:
            self._in(engine, scenario)
        finally:
            engine.dispose()

    async def _on_loop(self, scenario: Scenario) -> None:
        engine = create_async_engine(self.url)
        try:
            async with engine.connect() as connection:
                await connection.run_sync(lambda _: self._in(engine.sync_engine, scenario))
        finally:
            await engine.dispose()

    def _in(self, engine: Engine, scenario: Scenario) -> None:
        if self.name == "sqlite":
            databases.begin_for_real(engine)
        Base.metadata.create_all(engine)
        scenario(sessionmaker(engine))


@pytest.fixture(params=KINDS, ids=str)
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with empty_database(request.param.driver, request, tmp_path) as url:
        yield Database(url, request.param)


@pytest.fixture(params=[kind for kind in KINDS if "sqlite" in kind.driver], ids=str)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database where only the world matters, not the dialect."""
    with empty_database(request.param.driver, request, tmp_path) as url:
        yield Database(url, request.param)


class Store:
    """What lies in the backend of the models."""

    def __init__(self, backend: StorageBackend) -> None:
        self.backend = backend

    def paths(self) -> set[str]:
        return {info.path for info in iterate(self.backend.driver(inline).list())}

    def delete(self, paths: Iterable[str]) -> None:
        run(self.backend.driver(inline).delete(list(paths)))

    def __len__(self) -> int:
        return len(self.paths())


@pytest.fixture
def store() -> Iterator[Store]:
    """An empty store behind the registry of the models."""
    registry.clear_backends()
    backend = ObstoreBackend(key="mem", fs="memory://")
    registry.register_backend(backend)
    yield Store(backend)
    registry.clear_backends()
