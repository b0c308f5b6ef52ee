"""The servers and databases that the other tests stand on."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store
from sqlalchemy import Column, Engine, Integer, MetaData, String, Table, func, inspect, select
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.services import process, radosgw
from tests.services.moto import S3
from tests.services.radosgw import RadosGW

metadata = MetaData()
parents = Table("parents", metadata, Column("id", Integer, primary_key=True), Column("name", String(50)))


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_gets_an_empty_database(engine: Engine, turn: int) -> None:
    """What one test created, the next one does not see."""
    assert inspect(engine).get_table_names() == []
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(parents.insert(), {"id": turn, "name": "文件 🚢"})
    with engine.begin() as connection:
        assert connection.scalars(select(parents.c.name)).all() == ["文件 🚢"]


@pytest.mark.parametrize("turn", [1, 2])
async def test_each_async_test_gets_an_empty_database(async_engine: AsyncEngine, turn: int) -> None:
    """What one async test created, the next one does not see."""
    async with async_engine.begin() as connection:
        assert await connection.run_sync(lambda sync: inspect(sync).get_table_names()) == []
        await connection.run_sync(metadata.create_all)
        await connection.execute(parents.insert(), {"id": turn, "name": "文件 🚢"})
    async with async_engine.begin() as connection:
        assert (await connection.scalars(select(parents.c.name))).all() == ["文件 🚢"]


def test_a_savepoint_and_its_transaction_roll_back(engine: Engine) -> None:
    """A rolled back transaction takes a released savepoint with it, on SQLite too."""
    metadata.create_all(engine)
    with engine.connect() as connection:
        with connection.begin() as transaction:
            with connection.begin_nested():
                connection.execute(parents.insert(), {"id": 1, "name": "a"})
            transaction.rollback()
        assert connection.scalar(select(func.count()).select_from(parents)) == 0


async def test_an_async_savepoint_and_its_transaction_roll_back(async_engine: AsyncEngine) -> None:
    """A rolled back transaction takes a released savepoint with it, under asyncio too."""
    async with async_engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    async with async_engine.connect() as connection:
        async with connection.begin() as transaction:
            async with connection.begin_nested():
                await connection.execute(parents.insert(), {"id": 1, "name": "a"})
            await transaction.rollback()
        assert await connection.scalar(select(func.count()).select_from(parents)) == 0


def store(s3: S3, bucket: str, **credentials: str) -> S3Store:
    return S3Store(
        bucket,
        endpoint=s3.endpoint,
        access_key_id=credentials.get("access_key_id", s3.access_key_id),
        secret_access_key=credentials.get("secret_access_key", s3.secret_access_key),
        region=s3.region,
        client_options={"allow_http": True},
    )


@pytest.mark.parametrize("server", ["s3", "radosgw"])
def test_s3_keeps_what_is_put(server: str, request: pytest.FixtureRequest) -> None:
    """Each bucket is new, and a create-only put respects what lies there."""
    s3: S3 = request.getfixturevalue(server)
    first, second = (store(s3, s3.make_bucket()) for _ in range(2))
    obstore.put(first, "a", b"cargo", mode="create")
    with pytest.raises(obstore.exceptions.AlreadyExistsError):
        obstore.put(first, "a", b"other", mode="create")
    assert bytes(obstore.get(first, "a").bytes()) == b"cargo"
    assert obstore.list(second).collect() == []


def test_radosgw_knows_its_account(radosgw: RadosGW) -> None:
    """A wrong secret, or an account that is not there, is refused."""
    bucket = radosgw.make_bucket()
    for wrong in ({"secret_access_key": "x" * 40}, {"access_key_id": "x" * 20}):
        with pytest.raises(obstore.exceptions.PermissionDeniedError):
            obstore.put(store(radosgw, bucket, **wrong), "a", b"cargo")
    assert obstore.list(store(radosgw, bucket)).collect() == []


@pytest.mark.parametrize("end", ["the run", "a kill"])
def test_radosgw_ends_with_all_its_servers(end: str) -> None:
    """Its three servers end with the process that the run knows of, also where that is killed outright."""
    run = process.new_run()
    try:
        port = start_or_skip(run, radosgw.RECIPE)
        pid = int((run / "radosgw.state").read_text().split()[0])
        servers = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        assert [program(each) for each in servers] == ["ceph-mon", "ceph-osd", "radosgw"]
        assert process.listens(run, port)
        if end == "a kill":
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not any(map(program, servers)))
    finally:
        process.stop(run)
    assert not any(map(program, servers))
    assert not process.listens(run, port)
    assert not run.exists()


def test_radosgw_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason says what is missing, and what installs it."""
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(process.Unavailable, match=r"radosgw.*make services"):
        radosgw.installed()


def start_or_skip(run: Path, recipe: process.Recipe) -> int:
    try:
        return process.start(run, recipe)
    except process.Unavailable as error:
        pytest.skip(str(error))


def program(pid: int) -> str:
    """What that process runs; nothing, where it has ended and nobody has taken notice yet."""
    try:
        return Path(Path(f"/proc/{pid}/cmdline").read_text().partition("\0")[0]).name
    except FileNotFoundError:
        return ""


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def sleeper(data: Path, port: int) -> list[str]:
    return ["sleep", "1000"]


def test_a_server_is_started_once_and_is_gone_after_the_run() -> None:
    """The second call finds the first one's server; stopping ends the process and removes the data."""
    run = process.new_run()
    recipe = process.Recipe("sleeper", sleeper, lambda data, port: True)
    port = process.start(run, recipe)
    assert process.start(run, recipe) == port
    pid = int((run / "sleeper.state").read_text().split()[0])
    os.kill(pid, 0)
    process.stop(run)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not run.exists()


def test_a_server_that_does_not_start_shows_its_log() -> None:
    """The end of the log is in the error, and nothing is left."""
    run = process.new_run()
    command = ["sh", "-c", "echo no cargo; exit 1"]
    recipe = process.Recipe("broken", lambda data, port: command, lambda data, port: False)
    with pytest.raises(RuntimeError, match="no cargo"):
        process.start(run, recipe)
    process.stop(run)


def test_a_server_that_is_not_installed_says_so_each_time() -> None:
    """The account that it would run as need not exist, and nothing is left."""

    def installed() -> None:
        raise process.Unavailable("make services")

    run = process.new_run()
    recipe = process.Recipe("absent", sleeper, process.listens, installed, user="nobody-of-that-name")
    for _ in range(2):
        with pytest.raises(process.Unavailable, match="make services"):
            process.start(run, recipe)
    process.stop(run)
    assert not run.exists()
