"""The servers and databases that the other tests stand on."""

import os
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store
from sqlalchemy import Column, Engine, Integer, MetaData, String, Table, func, inspect, select
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.services import process
from tests.services.moto import S3

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


def test_s3_keeps_what_is_put(s3: S3) -> None:
    """Each bucket is new, and a create-only put respects what lies there."""
    first, second = (
        S3Store(
            s3.make_bucket(),
            endpoint=s3.endpoint,
            access_key_id=s3.access_key_id,
            secret_access_key=s3.secret_access_key,
            region=s3.region,
            client_options={"allow_http": True},
        )
        for _ in range(2)
    )
    obstore.put(first, "a", b"cargo", mode="create")
    with pytest.raises(obstore.exceptions.AlreadyExistsError):
        obstore.put(first, "a", b"other", mode="create")
    assert bytes(obstore.get(first, "a").bytes()) == b"cargo"
    assert obstore.list(second).collect() == []


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
