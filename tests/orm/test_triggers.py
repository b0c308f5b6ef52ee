"""What triggers enter into the outbox; which writers they see is in `test_writers.py`."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    Column,
    Engine,
    Integer,
    MetaData,
    Table,
    create_engine,
    create_mock_engine,
    event,
    inspect,
    select,
    text,
)
from sqlalchemy.dialects import mssql
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from lading import StoredObject
from lading.errors import ConfigurationError
from lading.orm.outbox import Outbox
from lading.orm.triggers import FileTriggers, installed

AS_JSON = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
ODD = """odd "na`me" 50% of :it's \\ $lading$ é"""


def record(path: str, **more: Any) -> dict[str, Any]:
    return {"backend": "mem", "path": path, "filename": "f"} | more


class World:
    """A table with two columns of files, and the outbox of its metadata; written to as a stranger would."""

    def __init__(
        self,
        engine: Engine,
        name: str = "document",
        file: str = "file",
        pages: str = "pages",
        schema: str | None = None,
        outbox_schema: str | None = None,
        **options: Any,
    ) -> None:
        self.engine = engine
        self.metadata = MetaData()
        options = {"indexes": False, **options}
        self.outbox = Outbox(self.metadata, schema=outbox_schema, **options)
        self.table = Table(
            name,
            self.metadata,
            Column("id", Integer, primary_key=True),
            Column(file, StoredObject("mem")),
            Column(pages, StoredObject("mem", multiple=True)),
            schema=schema,
        )
        # The same table, without lading's type.
        self.rows = Table(
            name,
            MetaData(),
            Column("id", Integer, primary_key=True),
            Column(file, AS_JSON, key="file"),
            Column(pages, AS_JSON, key="pages"),
            schema=schema,
        )

    @property
    def write(self) -> str:
        """SQL that writes JSON text into both columns."""
        value = "CAST(:value AS jsonb)" if self.engine.dialect.name == "postgresql" else ":value"
        return f"UPDATE {self.table.name} SET file = {value}, pages = {value}"

    def create(self) -> "World":
        self.metadata.create_all(self.engine)
        return self

    def insert(self, **values: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(self.rows.insert().values(id=1, **values))

    def update(self, **values: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(self.rows.update().values(**values))

    def delete(self) -> None:
        with self.engine.begin() as connection:
            connection.execute(self.rows.delete())

    def entries(self) -> list[tuple[str, str]]:
        """Path and reason, in order."""
        c = self.outbox.table.c
        with self.engine.connect() as connection:
            return sorted((path, reason) for path, reason in connection.execute(select(c.path, c.reason)))

    def paths(self) -> list[str]:
        return [path for path, _ in self.entries()]

    def installed(self) -> set[str]:
        with self.engine.connect() as connection:
            return installed(connection, {self.table.schema}).get((self.table.schema, self.table.name), set())


@pytest.fixture
def world(engine: Engine) -> World:
    return World(engine).create()


def test_a_replaced_and_a_removed_file_are_entered_with_the_reason(world: World) -> None:
    """An entry says which column of which table let go of the object, and by what."""
    world.insert(file=record("a"))
    world.update(file=record("b"))
    world.update(file=None)
    world.update(file=record("c"))
    world.delete()
    assert world.entries() == [
        ("a", "document.file: update"),
        ("b", "document.file: update"),
        ("c", "document.file: delete"),
    ]


def test_an_entry_is_as_lading_would_write_it(world: World) -> None:
    """The time is that of the database in UTC, the wait that of the outbox, and nobody has tried yet."""
    world.insert(file=record("a"))
    before = datetime.now(UTC)
    world.delete()
    after = datetime.now(UTC)
    with world.engine.connect() as connection:
        entry = connection.execute(select(world.outbox.table)).one()
    leeway = timedelta(milliseconds=2)  # SQLite's clock has milliseconds
    assert before - leeway <= entry.created_at <= after + leeway
    assert entry.not_before - entry.created_at == timedelta(minutes=5)
    assert (entry.backend, entry.path, entry.attempts, entry.last_error) == ("mem", "a", 0, None)


def test_times_are_utc_in_any_time_zone_of_the_session(world: World) -> None:
    """A writer whose session has another time zone enters the same moment."""
    if world.engine.dialect.name == "sqlite":
        zone = "SELECT 1"  # it knows no time zones
    elif world.engine.dialect.name == "postgresql":
        zone = "SET LOCAL TIME ZONE 'Pacific/Auckland'"
    else:
        zone = "SET time_zone = '+12:00'"
    world.insert(file=record("a"))
    with world.engine.begin() as connection:
        connection.exec_driver_sql(zone)
        connection.execute(world.rows.delete())
    world.engine.dispose()
    with world.engine.connect() as connection:
        created_at = connection.execute(select(world.outbox.table.c.created_at)).scalar_one()
    assert abs(datetime.now(UTC) - created_at) < timedelta(minutes=1)


def test_what_a_row_still_names_is_not_entered(world: World) -> None:
    """A record that changes its metadata, or moves to another column of its row, lets go of nothing."""
    world.insert(file=record("a"), pages=[record("b")])
    world.update(file=record("a", metadata={"title": "x"}))
    world.update(file=record("b"), pages=[record("a")])
    world.update(id=2)
    assert world.entries() == []


def test_both_columns_of_a_table_are_seen(world: World) -> None:
    """One UPDATE or DELETE enters the objects of all columns, each once."""
    world.insert(file=record("a"), pages=[record("b"), record("c")])
    world.update(file=record("A"), pages=[record("c")])
    world.delete()
    assert world.entries() == [
        ("A", "document.file: delete"),
        ("a", "document.file: update"),
        ("b", "document.pages: update"),
        ("c", "document.pages: delete"),
    ]


def test_of_a_list_what_left_it_is_entered_once(world: World) -> None:
    """Reordering, and a duplicate that goes while another stays, let go of nothing; what went twice is entered once."""
    world.insert(pages=[record("a"), record("b"), record("b"), record("c"), record("c")])
    world.update(pages=[record("c"), record("b"), record("a")])
    assert world.paths() == []
    world.update(pages=[record("a"), record("d"), record("d")])
    assert world.paths() == ["b", "c"]
    world.delete()
    assert world.paths() == ["a", "b", "c", "d"]


def test_objects_are_told_apart_byte_by_byte(world: World) -> None:
    """Case, accents, a space at the end, and the backend make another object."""
    pairs = [
        (record("a"), record("A")),
        (record("b"), record("b ")),
        (record("e\u0301"), record("\u00e9")),
        (record("same"), record("same", backend="MEM")),
    ]
    world.insert(pages=[old for old, _ in pairs])
    world.update(pages=[new for _, new in pairs])
    assert world.paths() == ["a", "b", "e\u0301", "same"]
    world.update(pages=[each for pair in pairs for each in pair])
    world.delete()
    assert len(world.paths()) == 4 + 8


def test_a_path_may_have_any_characters(world: World) -> None:
    """Quotes, percent signs, backslashes and characters of four bytes come through."""
    path = 'dir/it\'s "50%" \\ :x {0} \U0001f4c4.txt'
    world.insert(file=record(path))
    world.delete()
    assert world.paths() == [path]


def test_records_of_advanced_alchemy_are_seen(world: World) -> None:
    """A record without a path has it in its file name."""
    world.insert(file={"backend": "mem", "filename": "old/a.txt"}, pages=[{"backend": "mem", "filename": "old/b.txt"}])
    world.update(file={"backend": "mem", "filename": "f", "path": "old/a.txt"})
    assert world.paths() == []
    world.delete()
    assert world.paths() == ["old/a.txt", "old/b.txt"]


@pytest.mark.parametrize(
    "value",
    [
        "null",
        "[]",
        "{}",
        "5",
        '"text"',
        "true",
        '[null, 5, "text", [], {}]',
        '{"backend": "mem"}',
        '{"path": "a"}',
        '{"backend": null, "path": "a"}',
        '{"backend": "mem", "path": null}',
        json.dumps(record("a" * 1025)),
        json.dumps(record("a", backend="b" * 256)),
    ],
)
def test_what_is_no_record_of_a_file_is_passed_over(world: World, value: str) -> None:
    """A trigger must not refuse what the application does, whatever the column holds."""
    world.insert()
    with world.engine.begin() as connection:
        connection.execute(text(world.write), {"value": value})
    world.update(file=record("new"), pages=[record("other")])
    assert world.paths() == []
    with world.engine.begin() as connection:
        connection.execute(text(world.write), {"value": value})
    assert world.paths() == ["new", "other"]
    world.delete()
    assert world.paths() == ["new", "other"]


def test_what_is_no_json_is_passed_over() -> None:
    """SQLite takes any text for a value of a JSON column, and its triggers do not fail on it."""
    world = World(create_engine("sqlite://")).create()
    with world.engine.connect() as connection:
        connection.exec_driver_sql("INSERT INTO document (id, file, pages) VALUES (1, '{nothing', x'00ff')")
        connection.exec_driver_sql("UPDATE document SET file = '[1,', pages = 7")
        connection.exec_driver_sql("DELETE FROM document")
        assert connection.execute(select(world.outbox.table)).all() == []
    world.engine.dispose()


def test_a_rollback_takes_entries_back(world: World) -> None:
    """Of a savepoint that is rolled back, and of a transaction, no entry is left."""
    world.insert(file=record("a"))
    with world.engine.connect() as connection:
        transaction = connection.begin()
        connection.execute(world.rows.update().values(file=record("b")))
        with connection.begin_nested() as savepoint:
            connection.execute(world.rows.update().values(file=record("c")))
            savepoint.rollback()
        assert connection.execute(select(world.outbox.table.c.path)).scalars().all() == ["a"]
        transaction.rollback()
    assert world.paths() == []


def test_a_reason_is_cut_where_it_is_too_long(engine: Engine) -> None:
    """Names of any length leave room in the table."""
    world = World(engine, name="t" * 60, file="c" * 60, outbox_schema=None).create()
    long = FileTriggers(world.table.name, ("c" * 60,), world.outbox.table.name, timedelta(0))
    assert all("255" in str(each) for each in long.create(engine.dialect) if "INSERT" in str(each))
    world.insert(file=record("a"))
    world.delete()
    assert world.entries() == [("a", f"{'t' * 60}.{'c' * 60}: delete")]


@pytest.mark.parametrize(
    ("name", "file", "pages"),
    [
        ("select", "order", "group"),
        ("old", "new", "old"),
        ("camelCase", "theFile", "thePages"),
        (ODD[:40], ODD[:30], ODD[10:40]),
        ("t" * 63, "f" * 63, "p" * 63),
        ("é" * 31, "ü" * 31, "ö" * 31),
        ("file", "backend", "path"),
        ("was", "reason", "at"),
    ],
)
def test_tables_and_columns_may_have_any_name(engine: Engine, name: str, file: str, pages: str) -> None:
    """Reserved words, names that the triggers use themselves, capitals, quotes, and the longest there are."""
    world = World(engine, name, file, pages).create()
    world.insert(file=record("a"), pages=[record("b")])
    world.update(file=record("A"))
    world.delete()
    assert world.entries() == [
        ("A", f"{name}.{file}: delete"),
        ("a", f"{name}.{file}: update"),
        ("b", f"{name}.{pages}: delete"),
    ]
    if engine.dialect.name == "postgresql":
        world.insert(file=record("c"), pages=[record("d")])
        with engine.begin() as connection:
            table = engine.dialect.identifier_preparer.format_table(world.rows)
            connection.exec_driver_sql(f"TRUNCATE {table}")
        assert world.entries()[-2:] == [("c", f"{name}.{file}: truncate"), ("d", f"{name}.{pages}: truncate")]
    world.metadata.drop_all(engine)
    assert world.installed() == set()


def test_two_tables_whose_names_begin_alike_have_triggers_of_their_own(engine: Engine) -> None:
    """A long name gives way to a hash of all of it."""
    metadata = MetaData()
    outbox = Outbox(metadata, indexes=False)
    tables = [
        Table("t" * 60 + end, metadata, Column("id", Integer, primary_key=True), Column("file", StoredObject("mem")))
        for end in "ab"
    ]
    metadata.create_all(engine)
    with engine.begin() as connection:
        for table in tables:
            connection.execute(table.insert().values(id=1))
            rows = Table(table.name, MetaData(), Column("file", AS_JSON))
            connection.execute(rows.update().values(file=record("x")))
            connection.execute(table.delete())
        reasons = connection.execute(select(outbox.table.c.reason)).scalars().all()
    assert sorted(reasons) == [f"{table.name}.file: delete" for table in tables]


@pytest.mark.parametrize(
    ("change", "outcomes"),
    [
        (
            "ALTER TABLE document DROP COLUMN file",
            {"postgresql": "cannot be changed", "sqlite": "cannot be changed", "mariadb": "no row can be changed"},
        ),
        (
            "ALTER TABLE document RENAME COLUMN file TO other",
            {"postgresql": "no row can be changed", "sqlite": "works", "mariadb": "no row can be changed"},
        ),
    ],
)
def test_a_column_below_a_trigger_is_changed(world: World, change: str, outcomes: dict[str, str]) -> None:
    """What the documentation says of migrations by hand."""
    world.insert(pages=[record("a")])
    outcome = "works"
    try:
        with world.engine.begin() as connection:
            connection.exec_driver_sql(change)
    except DBAPIError:
        outcome = "cannot be changed"
    try:
        with world.engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM document")
    except DBAPIError:
        outcome = "no row can be changed"
    assert outcome == outcomes[world.engine.dialect.name]


class TestCreateAll:
    """`create_all` and `drop_all`."""

    def test_columns_that_are_declared_after_the_outbox_have_triggers(self, engine: Engine) -> None:
        """The tables are looked at when they are created."""
        world = World(engine)
        world.table.append_column(Column("later", StoredObject("mem")))
        world.create()
        [stamp] = world.installed()
        assert FileTriggers.from_stamp(stamp).columns == ("file", "pages", "later")

    def test_a_second_time_changes_nothing(self, world: World) -> None:
        """Triggers that are as they should be are left alone: no lock is taken of a table in use."""
        executed: list[str] = []
        event.listen(world.engine, "before_cursor_execute", lambda c, cursor, sql, *_: executed.append(sql))
        world.create()
        assert not [sql for sql in executed if "CREATE" in sql or "DROP" in sql]

    def test_tables_that_were_there_before_get_triggers(self, engine: Engine) -> None:
        """An application without migrations gets an outbox by declaring one."""
        bare = World(engine, triggers=False)
        bare.table.create(engine)
        bare.insert(file=record("a"))
        world = World(engine).create()
        world.delete()
        assert world.paths() == ["a"]

    def test_a_changed_grace_is_put_in_place(self, world: World) -> None:
        """The stamp in the triggers tells what they were made from."""
        other = World(world.engine, grace=timedelta(days=2)).create()
        [stamp] = other.installed()
        assert FileTriggers.from_stamp(stamp).delay == timedelta(days=2)
        other.insert(file=record("a"))
        other.delete()
        with world.engine.connect() as connection:
            entry = connection.execute(select(world.outbox.table)).one()
        assert entry.not_before - entry.created_at == timedelta(days=2)

    def test_a_lost_trigger_is_made_again(self, world: World) -> None:
        """Not only the stamp counts: each of the triggers must be there."""
        whole = world.installed()
        name = {"postgresql": "lading_delete ON document"}.get(world.engine.dialect.name, "lading_document_delete")
        with world.engine.begin() as connection:
            connection.exec_driver_sql(f"DROP TRIGGER {name}")
        assert world.installed() == whole | {""}
        world.create()
        assert world.installed() == whole

    def test_no_triggers_are_made_where_none_are_wanted(self, engine: Engine) -> None:
        """`Outbox(triggers=False)` leaves them to migrations."""
        assert World(engine, triggers=False).create().installed() == set()

    def test_no_triggers_are_made_without_the_outbox(self, engine: Engine) -> None:
        """A table that is created alone can be written to."""
        world = World(engine)
        world.metadata.create_all(engine, tables=[world.table])
        world.insert(file=record("a"))
        world.delete()
        assert world.installed() == set()

    def test_dropping_the_outbox_drops_all_triggers(self, world: World) -> None:
        """Tables that stay can be written to."""
        world.metadata.drop_all(world.engine, tables=[world.outbox.table])
        world.insert(file=record("a"))
        world.delete()
        assert world.installed() == set()

    def test_nothing_is_left_behind(self, world: World) -> None:
        """On PostgreSQL the function goes with the table."""
        world.metadata.drop_all(world.engine)
        assert inspect(world.engine).get_table_names() == []
        if world.engine.dialect.name == "postgresql":
            with world.engine.connect() as connection:
                found = connection.exec_driver_sql("SELECT proname FROM pg_proc WHERE proname LIKE 'lading%%'").all()
            assert found == []

    def test_sql_can_be_written_out(self, engine: Engine) -> None:
        """An engine that knows no database is given all statements."""
        world = World(engine)
        said: list[str] = []
        mock: Any = create_mock_engine(
            f"{engine.dialect.name}://", lambda sql, *_, **__: said.append(str(sql.compile(dialect=mock.dialect)))
        )
        world.metadata.create_all(mock, checkfirst=False)
        assert sum("CREATE TRIGGER" in sql or "CREATE OR REPLACE TRIGGER" in sql for sql in said) >= 2
        assert all("%%" not in sql for sql in said if "TRIGGER" in sql and engine.dialect.name == "sqlite")

    def test_another_database_is_refused(self) -> None:
        """Where there are no triggers, nobody should believe that there are."""
        dialect: Any = mssql.dialect()  # type: ignore[no-untyped-call]  # of SQLAlchemy
        with pytest.raises(ConfigurationError, match="no triggers for mssql"):
            FileTriggers("t", ("c",), "o", timedelta(0)).create(dialect)


async def test_create_all_works_in_the_world_of_asyncio(async_engine: AsyncEngine) -> None:
    """By `run_sync`, as every DDL of SQLAlchemy."""
    world = World(async_engine.sync_engine)
    async with async_engine.begin() as connection:
        await connection.run_sync(world.metadata.create_all)
        await connection.run_sync(world.metadata.create_all)
    async with async_engine.begin() as connection:
        await connection.execute(world.rows.insert().values(id=1, file=record("a")))
        await connection.execute(world.rows.delete())
        assert (await connection.execute(select(world.outbox.table.c.path))).scalars().all() == ["a"]
    async with async_engine.begin() as connection:
        await connection.run_sync(world.metadata.drop_all)


class TestPostgreSQL:
    """Schemas, search paths, partitions."""

    @pytest.fixture
    def engine(self, postgres_url: Any, postgres_connection: Any) -> Iterator[Engine]:
        engine = create_engine(postgres_url)
        postgres_connection.execute('CREATE SCHEMA "Files"; CREATE SCHEMA outboxes')
        yield engine
        engine.dispose()
        postgres_connection.execute('DROP SCHEMA IF EXISTS "Files", outboxes, public CASCADE; CREATE SCHEMA public')

    def test_table_and_outbox_may_be_in_different_schemas(self, engine: Engine) -> None:
        """Both are named with their schema."""
        world = World(engine, schema="Files", outbox_schema="outboxes").create()
        world.insert(file=record("a"))
        world.delete()
        assert world.paths() == ["a"]
        world.metadata.drop_all(engine)
        assert world.installed() == set()

    def test_schemas_are_translated(self, engine: Engine) -> None:
        """`schema_translate_map` puts triggers where it puts the tables."""
        tenant = engine.execution_options(schema_translate_map={None: "Files"})
        world = World(tenant).create()
        world.insert(file=record("a"))
        world.delete()
        assert world.paths() == ["a"]
        with engine.connect() as connection:
            assert set(installed(connection, {None, "Files"})) == {("Files", "document")}
        world.metadata.drop_all(tenant)
        with engine.connect() as connection:
            assert installed(connection, {None, "Files"}) == {}

    def test_the_search_path_of_a_writer_does_not_matter(self, engine: Engine) -> None:
        """A trigger finds the outbox where it was when the trigger was made."""
        world = World(engine).create()
        world.insert(file=record("a"), pages=[record("b")])
        with engine.begin() as connection:
            connection.exec_driver_sql('SET LOCAL search_path TO "Files"')
            connection.exec_driver_sql("UPDATE public.document SET file = NULL")
            connection.exec_driver_sql("TRUNCATE public.document")
        assert world.paths() == ["a", "b"]

    def test_who_may_not_write_to_the_outbox_may_not_change_files(self, engine: Engine) -> None:
        """A trigger runs with the rights of the writer, who needs INSERT and the sequence."""
        world = World(engine).create()
        world.insert(file=record("a"))
        with engine.connect() as connection:
            connection.exec_driver_sql("CREATE ROLE stranger")
            connection.exec_driver_sql("GRANT USAGE ON SCHEMA public TO stranger")
            connection.exec_driver_sql("GRANT ALL ON document TO stranger")
            connection.exec_driver_sql("SET LOCAL ROLE stranger")
            with pytest.raises(DBAPIError, match="permission denied"), connection.begin_nested():
                connection.exec_driver_sql("DELETE FROM document")
            connection.exec_driver_sql("RESET ROLE")
            connection.exec_driver_sql("GRANT INSERT ON lading_outbox TO stranger")
            connection.exec_driver_sql("GRANT USAGE ON SEQUENCE lading_outbox_id_seq TO stranger")
            connection.exec_driver_sql("SET LOCAL ROLE stranger")
            connection.exec_driver_sql("DELETE FROM document")
            connection.exec_driver_sql("RESET ROLE")
            assert connection.execute(select(world.outbox.table.c.path)).scalars().all() == ["a"]
            connection.rollback()

    def test_a_renamed_table_keeps_its_triggers(self, engine: Engine) -> None:
        """Also TRUNCATE, for which they read the table."""
        world = World(engine).create()
        world.insert(file=record("a"), pages=[record("b"), record("b")])
        with engine.begin() as connection:
            connection.exec_driver_sql('ALTER TABLE document RENAME TO "renamed table"')
            connection.exec_driver_sql('TRUNCATE "renamed table"')
        assert world.entries() == [("a", "document.file: truncate"), ("b", "document.pages: truncate")]

    def test_partitions_have_the_triggers_of_their_table(self, engine: Engine) -> None:
        """Rows are seen in whichever partition they are, and the copies that the database makes are not counted."""
        world = World(engine, triggers=False).create()
        world.metadata.drop_all(engine, tables=[world.table])
        with engine.begin() as connection:
            connection.exec_driver_sql(
                "CREATE TABLE document (id int PRIMARY KEY, file jsonb, pages jsonb) PARTITION BY RANGE (id)"
            )
            connection.exec_driver_sql("CREATE TABLE low PARTITION OF document FOR VALUES FROM (0) TO (10)")
        world = World(engine).create()
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE high PARTITION OF document FOR VALUES FROM (10) TO (20)")
            assert set(installed(connection, {None})) == {(None, "document")}
            for id_ in (1, 11, 12):
                connection.execute(world.rows.insert().values(id=id_, file=record(str(id_))))
            connection.exec_driver_sql("DELETE FROM low")
            connection.exec_driver_sql("UPDATE high SET file = NULL WHERE id = 11")
            connection.exec_driver_sql("TRUNCATE document")
        assert world.paths() == ["1", "11", "12"]


def test_a_trigger_of_sqlite_cannot_reach_another_schema() -> None:
    """Nor does lading pretend so."""
    triggers = FileTriggers("t", ("c",), "o", timedelta(0), schema=None, outbox_schema="other")
    with pytest.raises(ConfigurationError, match="its own database only"):
        triggers.create(create_engine("sqlite://").dialect)


def test_attached_databases_of_sqlite_have_triggers_of_their_own() -> None:
    """Table and outbox in one of them are a pair like any other."""
    engine = create_engine("sqlite://")
    world = World(engine, schema="other", outbox_schema="other")
    with engine.connect() as connection:
        connection.exec_driver_sql("ATTACH ':memory:' AS other")
        world.metadata.create_all(connection)
        connection.execute(world.rows.insert().values(id=1, file=record("a")))
        connection.execute(world.rows.delete())
        assert connection.execute(select(world.outbox.table.c.path)).scalars().all() == ["a"]
        world.metadata.drop_all(connection)
    engine.dispose()
