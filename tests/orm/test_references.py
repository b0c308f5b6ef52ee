"""Which of some objects rows name, exactly; the indexes for that; and the stream of all that rows name."""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, cast

import pytest
from sqlalchemy import (
    Column,
    Engine,
    Integer,
    String,
    Table,
    create_mock_engine,
    event,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.dialects import mssql

from lading import FileObject, StoredObject
from lading.backends.obstore import ObstoreBackend
from lading.errors import ConfigurationError, RecordError
from lading.orm.indexes import create_index, drop_index, has_index, index_name, virtual_column
from lading.orm.references import backend_of, file_columns, named, naming, stream
from tests.orm.conftest import Database, Sessions, on
from tests.orm.papers import multiple, record, registry_of, run, single, tables, write

ODD = [
    "a",
    "A",
    "a ",
    "ä",
    "\u0065\u0301",
    "\u00e9",
    "😀/x",
    "q\"uo\\te's",
    "100%s/:b/{c}",
    "ß",
    "x" * 255 + "1",
    "x" * 255 + "2",
    "ü" * 500,
]


@pytest.mark.parametrize("indexes", [True, False])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_exactly_what_rows_name(db: Database, indexes: bool, ascii_only: bool) -> None:
    """Of the paths asked for those come back, byte by byte, that rows name, in a column of one file and in a list."""
    metadata = tables(indexes=indexes)

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            connection = session.connection()
            metadata.create_all(connection)
            columns = file_columns(metadata)
            for start, at in enumerate((single(metadata), multiple(metadata))):
                for path in ODD[start::2]:
                    value = [record("p"), record(path)] if at.type.multiple else record(path)
                    write(connection, at, value, ascii_only=ascii_only)
                for some in (ODD, *([path] for path in ODD)):
                    asked = {("mem", path) for path in some}
                    assert named(connection, [at], asked) == asked & {("mem", path) for path in ODD[start::2]}
            asked = {("mem", path) for path in (*ODD, "x" * 255, "A ", "Ä", "", "p/q")}
            assert named(connection, columns, asked) == {("mem", path) for path in ODD}
            assert named(connection, columns, set()) == set()
            assert named(connection, [], asked) == set()


def test_records_of_the_ancestor(db: Database) -> None:
    """A record without a path has it in its filename; where there is a path, the filename is for display only."""
    metadata = tables()

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            connection = session.connection()
            metadata.create_all(connection)
            old = [{"backend": "mem", "filename": f"old/{number}"} for number in range(2)]
            write(connection, single(metadata), old[0], record("new"))
            write(connection, multiple(metadata), [record("other"), old[1]])
            asked = {("mem", path) for path in ("old/0", "old/1", "new", "other", "shown.txt")}
            assert named(connection, file_columns(metadata), asked) == asked - {("mem", "shown.txt")}


def test_what_is_no_record(db: Database) -> None:
    """What else a column may hold names nothing, makes no statement fail, and goes into the table as before."""
    metadata = tables()

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            connection = session.connection()
            metadata.create_all(connection)
            junk: list[Any] = [None, 3, "a", ["a"], [None, 3, "a", ["a"]], {"path": 3}, {}, [], [{}], [{"path": 3}]]
            values = [json.dumps(each) for each in junk]
            if db.name == "sqlite":
                values += ["", "{", "a"]
            for at in file_columns(metadata):
                write(connection, at, *values)
                write(connection, at, [record("here")] if at.type.multiple else record("here"))
                asked = {("mem", "a"), ("mem", "b"), ("mem", "here"), ("mem", "")}
                assert named(connection, [at], asked) == {("mem", "here")}


def test_many_at_once(world: Database) -> None:
    """One statement asks all columns for up to 500 objects: what moves between columns is in one of them."""
    metadata = tables()

    @world
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            connection = session.connection()
            metadata.create_all(connection)
            write(connection, single(metadata), *(record(f"p/{number}") for number in range(0, 1200, 2)))
            asked = {("mem", f"p/{number}") for number in range(1200)}
            expected = {("mem", f"p/{number}") for number in range(0, 1200, 2)}
            statements: list[str] = []
            event.listen(connection, "before_cursor_execute", lambda *args: statements.append(args[2]))
            assert named(connection, file_columns(metadata), asked) == expected
            assert len(statements) == 3
            assert all("paper.pages" in statement and '"file"' in statement for statement in statements)


@on("mariadb")
@pytest.mark.parametrize("indexes", [True, False])
def test_columns_of_another_collation(db: Database, indexes: bool) -> None:
    """Columns that somebody has made in another character set are asked as well, and as exactly."""
    metadata = tables(indexes=False)

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            connection = session.connection()
            metadata.create_all(connection)
            run(connection, ["ALTER TABLE paper MODIFY file LONGTEXT CHARACTER SET latin1 COLLATE latin1_german1_ci"])
            if indexes:
                run(connection, create_index(connection.dialect, *single(metadata).place(connection)))
            write(connection, single(metadata), record("a"), record("ä"), record("Ö"), ascii_only=False)
            write(connection, multiple(metadata), [record("b")])
            asked = {("mem", path) for path in ("a", "A", "ä", "Ä", "ö", "Ö", "b", "B")}
            expected = {("mem", path) for path in ("a", "ä", "Ö", "b")}
            assert named(connection, file_columns(metadata), asked) == expected


def test_keys_that_lead_to_one_place(world: Database) -> None:
    """An alias, a key that nobody knows and another backend of the same store name the same object; others do not."""
    metadata = tables()
    registry = registry_of(metadata)
    memory = registry.get_backend("mem")
    assert isinstance(memory, ObstoreBackend)
    registry.alias("old", "mem")
    registry.register_backend(ObstoreBackend("twin", memory.store))
    registry.register_backend(ObstoreBackend("inside", memory.store, prefix="in"))
    registry.register_backend(ObstoreBackend("other", "memory://"))

    @world
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            connection = session.connection()
            metadata.create_all(connection)
            for key in ("mem", "old", "twin", "inside", "other", "unknown"):
                write(connection, single(metadata), record(key, backend=key))
            columns = file_columns(metadata)
            for key, same in {
                "mem": {"mem", "old", "twin", "unknown"},
                "old": {"mem", "old", "twin", "unknown"},
                "other": {"other", "unknown"},
                "inside": {"inside", "unknown"},
                "nobody": {"mem", "old", "twin", "inside", "other", "unknown"},
            }.items():
                entries = {(key, path) for path in ("mem", "old", "twin", "inside", "other", "unknown")}
                assert {path for _, path in named(connection, columns, entries)} == same, key


def test_a_record_without_a_key(db: Database) -> None:
    """A record that does not say where its path lies may mean any backend."""
    metadata = tables()

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            connection = session.connection()
            metadata.create_all(connection)
            write(connection, single(metadata), {"path": "a"})
            write(connection, multiple(metadata), [{"path": "b"}])
            asked = {(key, path) for key in ("mem", "other") for path in ("a", "b", "c")}
            expected = {(key, path) for key, path in asked if path != "c"}
            assert named(connection, file_columns(metadata), asked) == expected


def test_one_key_in_two_registries() -> None:
    """Two registries may share a key only where it means one backend."""
    one, two = tables(), tables("picture")
    columns = [*file_columns(one), *file_columns(two)]
    with pytest.raises(ConfigurationError, match=r"'mem' is .* in one registry and .* in another"):
        backend_of(columns, "mem")
    backend = registry_of(one).get_backend("mem")
    registry_of(two).register_backend(backend, replace=True)
    assert backend_of(columns, "mem") is backend
    assert backend_of(columns, "nobody") is None


@contextmanager
def explained(engine: Engine) -> Iterator[None]:
    """Statements give their plan."""

    def explain(connection: Any, cursor: Any, statement: str, *rest: Any) -> tuple[str, Any]:
        prefix = "EXPLAIN QUERY PLAN" if engine.dialect.name == "sqlite" else "EXPLAIN"
        return (statement if "information_schema" in statement else f"{prefix} {statement}"), rest[0]

    event.listen(engine, "before_cursor_execute", explain, retval=True)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", explain)


@pytest.mark.parametrize("indexes", [True, False])
def test_the_index_is_used(engine: Engine, indexes: bool) -> None:
    """Among 10,000 rows a hundred paths are found by the index: of columns of one file, of lists on PostgreSQL."""
    metadata = tables(indexes=indexes)
    metadata.create_all(engine)
    try:
        with engine.begin() as connection:
            for at in file_columns(metadata):
                records = [record(f"p/{number:06}", size=number) for number in range(10_000)]
                write(connection, at, *([[each] for each in records] if at.type.multiple else records))
                if indexes:  # as a migration does it, where there are rows already
                    run(connection, drop_index(engine.dialect, *at.place(connection)))
                    run(connection, create_index(engine.dialect, *at.place(connection)))
        paths = [f"p/{number:06}" for number in range(0, 10_000, 100)]
        for at in file_columns(metadata):
            with engine.connect() as connection:
                assert len(named(connection, [at], {("mem", path) for path in paths})) == 100
                with explained(engine):
                    plan = "\n".join(str(row) for row in connection.execute(naming(connection, at, paths)))
            name = index_name(at.table.name, at.column.name)
            assert (name in plan) is (indexes and (engine.dialect.name == "postgresql" or not at.type.multiple)), plan
    finally:
        metadata.drop_all(engine)


@pytest.mark.parametrize("table_name", ["paper", 'Ordner: 100% "neu"', "select", "é" * 31, "very_long" * 6])
def test_making_and_dropping(engine: Engine, table_name: str) -> None:
    """An index is made once and dropped once however often one asks, whatever the table is called."""
    if engine.dialect.name in ("mysql", "mariadb") and '"' in table_name:
        table_name = table_name.replace('"', "`'\\")
    metadata = tables(table_name)
    metadata.create_all(engine)
    try:
        with engine.connect() as connection:
            for at in file_columns(metadata):
                place = at.place(connection)
                made = engine.dialect.name == "postgresql" or not at.type.multiple
                assert has_index(connection, *place) is made
                for act, there in ((drop_index, False), (create_index, made), (drop_index, False)):
                    for _ in range(2):
                        run(connection, act(engine.dialect, *place))
                    assert has_index(connection, *place) is there
                    connection.execute(insert(at.table).values(file=None))
                    assert list(connection.execute(select(text("*")).select_from(at.table)).keys()) == [
                        *("id", "file", "pages")
                    ]
            connection.rollback()
    finally:
        metadata.drop_all(engine)


def test_names_of_indexes() -> None:
    """Names fit into every database, and long ones still differ."""
    names = {index_name("t" * 80, f"{'c' * 80}{number}") for number in range(3)}
    assert len(names) == 3
    assert all(len(name) <= 63 for name in names)
    assert index_name("paper", "file") == "ix_paper_file_path"
    assert virtual_column("file") == "lading_file_path"
    assert len(virtual_column("ü" * 63).encode()) <= 63


def test_databases_without_such_indexes() -> None:
    """Another database gets none."""
    dialect = mssql.dialect()  # type: ignore[no-untyped-call]  # of SQLAlchemy
    assert create_index(dialect, "paper", "file", None, False) == []
    assert drop_index(dialect, "paper", "file", None, False) == []


def test_create_all_makes_them(engine: Engine) -> None:
    """`create_all` makes the indexes, also of tables that were there before; where it is told not to, it does not."""
    without, metadata = tables(indexes=False), tables()
    without.create_all(engine)
    with engine.connect() as connection:
        at = single(metadata)
        assert not has_index(connection, *at.place(connection))
        connection.commit()
        for _ in range(2):
            metadata.create_all(connection)
            assert has_index(connection, *at.place(connection))
        connection.commit()
        write(connection, at, record("a"))
        assert named(connection, [at], {("mem", "a")}) == {("mem", "a")}
        connection.commit()
    Table("unrelated", metadata, Column("id", Integer, primary_key=True))
    metadata.create_all(engine, tables=[metadata.tables["unrelated"]])
    metadata.drop_all(engine)


def test_reflecting_an_indexed_table(engine: Engine) -> None:
    """The table can be reflected; on SQLite SQLAlchemy warns that it leaves the index out."""
    metadata = tables()
    metadata.create_all(engine)
    if engine.dialect.name == "sqlite":
        with pytest.warns(match="Skipped unsupported reflection of expression-based index"):
            inspect(engine).get_indexes("paper")
    else:
        assert index_name("paper", "file") in {each["name"] for each in inspect(engine).get_indexes("paper")}
    metadata.drop_all(engine)


@pytest.mark.parametrize("engine", ["postgresql+psycopg"], indirect=True)
def test_schemas(engine: Engine) -> None:
    """Tables in another schema, named or by `schema_translate_map`, are looked into and indexed there."""
    with engine.begin() as connection:
        run(connection, ['CREATE SCHEMA "Other"'])
    try:
        for metadata, given in (
            (tables("first", schema="Other"), engine),
            (tables("second"), engine.execution_options(schema_translate_map={None: "Other"})),
        ):
            with given.begin() as connection:
                metadata.create_all(connection)
                at = single(metadata)
                assert at.place(connection)[2] == "Other"
                assert has_index(connection, *at.place(connection))
                files = [FileObject(backend="mem", path="a", filename="a", storages=registry_of(metadata))]
                connection.execute(insert(at.table), [{"file": file} for file in files])
                assert named(connection, [at], {("mem", "a"), ("mem", "b")}) == {("mem", "a")}
                assert [each.path for each in stream(connection, [at])] == ["a"]
    finally:
        with engine.begin() as connection:
            run(connection, ['DROP SCHEMA "Other" CASCADE'])


def test_without_a_database() -> None:
    """An engine that only writes SQL out writes the indexes, too."""
    metadata, written = tables(), list[str]()
    engine: Any = create_mock_engine("postgresql://", lambda sql, *_, **__: written.append(str(sql)))
    metadata.create_all(engine, checkfirst=False)
    assert sum("CREATE INDEX IF NOT EXISTS" in statement for statement in written) == 2


def test_all_that_rows_name(db: Database) -> None:
    """The stream has each file of each row, with what its record says."""
    metadata = tables()

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            connection = session.connection()
            metadata.create_all(connection)
            ones, lists = single(metadata), multiple(metadata)
            whole = record("a/1", size=5, etag='"e"', checksum="sha256:00", metadata={"x": [1]}, later=True)
            write(connection, ones, whole, {"backend": "old", "filename": "a/2"}, "null")
            write(connection, lists, [record(path, size=None) for path in ("a/3", "ab/4", "😀")], [], "null")
            connection.execute(insert(ones.table), [{"file": None}])
            files = {each.path: each for each in stream(connection, file_columns(metadata))}
            assert files.keys() == {"a/1", "a/2", "a/3", "ab/4", "😀"}
            assert files["a/1"] == (ones, "mem", "a/1", 5, '"e"', "sha256:00")
            assert files["a/2"] == (ones, "old", "a/2", None, None, None)
            assert files["😀"] == (lists, "mem", "😀", None, None, None)
            for prefix in ("a", "a/"):
                below = stream(connection, file_columns(metadata), prefix=prefix)
                assert {each.path for each in below} == {"a/1", "a/2", "a/3"}


def test_a_stream_that_is_left(db: Database) -> None:
    """A stream that is not read to its end leaves a connection that can be used."""
    metadata = tables()

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            connection = session.connection()
            metadata.create_all(connection)
            write(connection, single(metadata), *(record(f"p/{number}") for number in range(3000)))
            with closing(cast("Any", stream(connection, file_columns(metadata)))) as files:
                assert next(files).backend == "mem"
            assert len({each.path for each in stream(connection, file_columns(metadata))}) == 3000


@pytest.mark.parametrize("junk", [{}, {"backend": "mem", "path": None, "filename": "a"}, [3], 3])
def test_a_stream_that_cannot_tell(db: Database, junk: Any) -> None:
    """A value that is no record ends the stream: nobody knows which object it names."""
    metadata = tables()

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            connection = session.connection()
            metadata.create_all(connection)
            write(connection, single(metadata), junk)
            with pytest.raises(RecordError, match=r"paper\.file has a value that is no file record"):
                list(stream(connection, file_columns(metadata)))


def test_columns_of_files() -> None:
    """Columns are found in every table, also in one that is declared later."""
    metadata = tables()
    Table("later", metadata, Column("cover", StoredObject()), Column("name", String(5)))
    assert [str(each) for each in file_columns(metadata)] == ["paper.file", "paper.pages", "later.cover"]
