"""What tests ask for by name: databases, an S3 endpoint; and what a CI run may skip."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import psycopg
import pymysql
import pytest
from sqlalchemy import URL, Engine, create_engine, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tests import databases
from tests.services import mariadb, moto, postgres, process, radosgw
from tests.services.moto import S3

RUN = "LADING_TEST_RUN"
CI = os.environ.get("LADING_CI") == "1"
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "main")

hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if CI else "default")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        os.environ[RUN] = str(process.new_run())
        config.pluginmanager.register(Skips(config), "lading-skips")


def pytest_unconfigure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        process.disown()
    elif run := os.environ.pop(RUN, None):
        process.stop(Path(run))


class Skips:
    """Fails a CI run that skips a test which `allowed_skips.txt` does not name."""

    def __init__(self, config: pytest.Config) -> None:
        listed = (config.rootpath / "tests" / "allowed_skips.txt").read_text().splitlines()
        lines = [line for line in listed if line.strip() and not line.startswith("#")]
        self.allowed = {line.partition(" -- ")[0].strip() for line in lines if line.partition(" -- ")[2].strip()}
        self.unlisted: dict[str, str] = {}

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report.nodeid, report)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not hasattr(report, "wasxfail"):
            self._note(report.nodeid, report)

    def _note(self, name: str, report: pytest.CollectReport | pytest.TestReport) -> None:
        if report.skipped and name not in self.allowed:
            self.unlisted[name] = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if CI and self.unlisted and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if CI and self.unlisted:
            terminalreporter.section("skipped, but not in tests/allowed_skips.txt")
            for name, reason in sorted(self.unlisted.items()):
                terminalreporter.line(f"{name} -- {reason}")


def port_of(recipe: process.Recipe) -> int:
    try:
        return process.start(Path(os.environ[RUN]), recipe)
    except process.Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def postgres_connection() -> Iterator[psycopg.Connection]:
    """Autocommit, to this worker's own database."""
    server = make_url(f"postgresql://postgres@127.0.0.1:{port_of(postgres.RECIPE)}/postgres")
    name = f"lading_{WORKER}"
    with psycopg.connect(server.render_as_string(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    with psycopg.connect(server.set(database=name).render_as_string(), autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def postgres_url(postgres_connection: psycopg.Connection) -> URL:
    """A PostgreSQL database of this worker's own; set the driver with `.set(drivername=...)`."""
    info = postgres_connection.info
    return URL.create("postgresql+psycopg", info.user, host=info.host, port=info.port, database=info.dbname)


@pytest.fixture(scope="session")
def mariadb_url() -> URL:
    """A MariaDB database of this worker's own, in utf8mb4; set the driver with `.set(drivername=...)`."""
    name = f"lading_{WORKER}"
    port = port_of(mariadb.RECIPE)
    connection = pymysql.connect(host="127.0.0.1", port=port, user="root")
    with connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    query = {"charset": "utf8mb4"}
    return URL.create("mariadb+pymysql", "root", host="127.0.0.1", port=port, database=name, query=query)


@pytest.fixture(scope="session")
def mariadb_connection(mariadb_url: URL) -> Iterator["pymysql.Connection[pymysql.cursors.Cursor]"]:
    """Autocommit, to this worker's own database."""
    connection = pymysql.connect(**mariadb_url.translate_connect_args(username="user"), autocommit=True)
    with connection:
        yield connection


@pytest.fixture(scope="session")
def s3() -> S3:
    """An S3 endpoint; `s3.make_bucket()` names a new bucket."""
    return S3(f"http://127.0.0.1:{port_of(moto.RECIPE)}")


@pytest.fixture(scope="session", name="radosgw")
def radosgw_server() -> radosgw.RadosGW:
    """An S3 endpoint that enforces signatures; `radosgw.make_bucket()` names a new bucket."""
    return radosgw.RadosGW(f"http://127.0.0.1:{port_of(radosgw.RECIPE)}")


@contextmanager
def empty_database(driver: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[URL]:
    """The URL of a database without tables, emptied again afterwards."""
    if driver.startswith("sqlite"):
        yield URL.create(driver, database=str(tmp_path / "test.sqlite"))
    elif driver.startswith("postgresql"):
        postgres_url: URL = request.getfixturevalue("postgres_url")
        connection: psycopg.Connection = request.getfixturevalue("postgres_connection")
        yield postgres_url.set(drivername=driver)
        with connection.cursor() as cursor:
            databases.empty_postgres(cursor)
    else:
        mariadb_url: URL = request.getfixturevalue("mariadb_url")
        admin: pymysql.Connection[pymysql.cursors.Cursor] = request.getfixturevalue("mariadb_connection")
        yield mariadb_url.set(drivername=driver)
        with admin.cursor() as mariadb_cursor:
            databases.empty_mariadb(mariadb_cursor)


@pytest.fixture(params=databases.SYNC)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An engine on an empty database, once for each database."""
    with empty_database(request.param, request, tmp_path) as url:
        engine = create_engine(url)
        if engine.dialect.name == "sqlite":
            databases.begin_for_real(engine)
        yield engine
        engine.dispose()


@pytest.fixture(params=databases.ASYNC)
async def async_engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """An async engine on an empty database, once for each driver."""
    with empty_database(request.param, request, tmp_path) as url:
        engine = create_async_engine(url)
        if engine.dialect.name == "sqlite":
            databases.begin_for_real(engine.sync_engine)
        yield engine
        await engine.dispose()
