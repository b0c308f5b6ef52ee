"""The check: every file of every row held against the store, and nothing reported that is right by now."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, String, Table, Uuid, create_engine, insert, text

from lading import Storages, StoredObject, worlds
from lading.backends.obstore import ObstoreBackend
from lading.backends.protocols import Attributes, StorageBackend
from lading.errors import AccessDenied, ConfigurationError, StoreUnavailable
from lading.file import claim, loaded
from lading.orm import check as module
from lading.orm.check import Checked, Damage, check
from lading.testing import Fault, FaultyBackend
from lading.worlds import World, inline
from tests.orm.conftest import Database, Sessions, Store
from tests.orm.models import Base, Document, Folder, Limited, file, registry


def put(backend: StorageBackend, *paths: str, content: bytes = b"x") -> None:
    for path in paths:
        put = backend.driver(inline).put(path, content, size=None, overwrite=True, attributes=Attributes())
        worlds.run(put)


def engine_of(sessions: Sessions) -> Engine:
    engine: Engine = sessions.kw["bind"]
    return engine


def wrong(checked: Checked) -> list[tuple[str | None, str]]:
    return [(each.path, each.what) for each in checked.findings]


@pytest.fixture
def lite(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path}/raw.sqlite")
    yield engine
    engine.dispose()


def record(path: str, backend: str = "mem", **more: Any) -> dict[str, Any]:
    return {"backend": backend, "path": path, "filename": "f", **more}


def papers(engine: Engine, registry: Storages, *values: Any, multiple: bool = False) -> MetaData:
    """A table with these values in its column of files, as raw SQL would write them."""
    metadata = MetaData()
    column = Column[Any]("file", StoredObject("mem", multiple, storages=registry))
    Table("paper", metadata, Column("id", Integer, primary_key=True), column)
    metadata.create_all(engine)
    with engine.begin() as connection:
        for value in values:
            given = value if isinstance(value, str) else json.dumps(value)
            connection.execute(text("INSERT INTO paper (file) VALUES (:value)"), {"value": given})
    return metadata


class TestFindings:
    def test_on_every_database(self, db: Database, store: Store) -> None:
        """Missing objects, other sizes and other etags are found in all tables, each with its row."""

        def scenario(sessions: Sessions) -> None:
            with sessions() as session:
                session.add_all(
                    [Document(file=file(b"1"), cover=file(b"22"), pages=[file(b"3"), file(b"4")]), Folder()]
                )
                session.add_all([Document(), Document(file=file()), Limited(file=file(b"55"))])
                session.commit()
                document = session.get_one(Document, 1)
                limited = session.get_one(Limited, 1)
                assert document.file is not None
                assert document.cover is not None
                assert limited.file is not None
                paths = document.file.path, document.cover.path, document.pages[1].path, limited.file.path
                etag = limited.file.record.etag
            engine = engine_of(sessions)
            assert check(engine, Base.metadata) == check(engine, Base.metadata, deep=True) == Checked(4, 6, [], None)
            worlds.run(store.backend.driver(inline).delete([paths[0], paths[2]]))
            put(store.backend, paths[1], content=b"another")
            put(store.backend, paths[3], content=b"66")
            now = worlds.run(store.backend.driver(inline).head(paths[3])).etag
            told: list[int] = []
            checked = check(engine, Base.metadata, on_progress=told.append)
            assert sorted(checked.findings, key=repr) == [
                Damage("document", "cover", (1,), "mem", paths[1], "size", 2, 7),
                Damage("document", "file", (1,), "mem", paths[0], "missing"),
                Damage("document", "pages", (1,), "mem", paths[2], "missing"),
                Damage("limited", "file", (1,), "mem", paths[3], "etag", etag, now),
            ]
            assert told == [3, 4]

        db(scenario)

    def test_deep(self, world: Database, store: Store) -> None:
        """Only a deep check reads objects, and finds another content of the same size."""

        def scenario(sessions: Sessions) -> None:
            with sessions() as session:
                session.add(Document(file=file(b"right")))
                session.commit()
                document = session.get_one(Document, 1)
                assert document.file is not None
                path = document.file.path
                put(store.backend, path, content=b"wrong")
                session.execute(text("UPDATE document SET file = json_remove(file, '$.etag')"))
                session.commit()
            faulty = FaultyBackend(store.backend)
            registry.register_backend(faulty, replace=True)
            assert check(engine_of(sessions), Base.metadata).findings == []
            assert set(faulty.verbs) == {"head"}
            (damage,) = check(engine_of(sessions), Base.metadata, deep=True).findings
            assert (damage.path, damage.what) == (path, "checksum")
            assert str(damage.expected).startswith("sha256:")
            assert damage.actual != damage.expected

        world(scenario)

    def test_rows_that_are_broken(self, lite: Engine, store: Store) -> None:
        """A value that is no record, a key that nobody knows and a path that is refused are each a finding."""
        put(store.backend, "fine")
        values = [
            record("fine"),
            {"filename": "fine", "backend": "mem"},
            "null",
            "5",
            '{"backend": 3, "path": "a", "filename": "a"}',
            record("fine", "unknown"),
            record("../fine"),
            record("fine", checksum="nonsense:1"),
        ]
        metadata = papers(lite, registry, *values)
        assert wrong(check(lite, metadata, deep=True)) == [
            (None, "record"),
            (None, "record"),
            ("fine", "backend"),
            ("../fine", "path"),
            ("fine", "record"),
        ]
        assert [each.primary_key for each in check(lite, metadata).findings] == [(4,), (5,), (6,), (7,)]

    def test_lists_that_are_broken(self, lite: Engine, store: Store) -> None:
        """In a list the files that are records are checked, and the others are findings."""
        put(store.backend, "a", "b")
        values = [[record("a"), 7, record("gone")], "null", [], record("a"), '"x"', [None]]
        checked = check(lite, papers(lite, registry, *values, multiple=True))
        assert wrong(checked) == [
            (None, "record"),
            ("gone", "missing"),
            (None, "record"),
            (None, "record"),
            (None, "record"),
        ]
        assert checked.files == 6

    def test_old_keys(self, lite: Engine) -> None:
        """An alias leads to its backend."""
        mine = Storages()
        put(mine.register_backend("memory://", "new"), "a")
        mine.alias("mem", "new")
        assert wrong(check(lite, papers(lite, mine, record("a"), record("b")))) == [("b", "missing")]


class Meanwhile(FaultyBackend):
    """A backend in memory where something happens when it is first looked into."""

    def __init__(self, act: Any) -> None:
        super().__init__(ObstoreBackend("mem", "memory://"))
        self.act = act

    def driver(self, world: World) -> Any:
        act, self.act = self.act, lambda: None
        act()
        return self.inner.driver(world)


class TestMeanwhile:
    @pytest.mark.parametrize(
        "change",
        ["DELETE FROM paper", "UPDATE paper SET file = NULL", "UPDATE paper SET file = json_set(file, '$.path', 'b')"],
    )
    def test_rows_that_changed(self, lite: Engine, change: str) -> None:
        """What a row does not say any more is no finding."""
        mine = Storages()
        metadata = papers(lite, mine, record("gone"))

        def act() -> None:
            with lite.begin() as connection:
                connection.execute(text(change))

        mine.register_backend(Meanwhile(act))
        assert check(lite, metadata).findings == []

    def test_rows_that_did_not(self, lite: Engine) -> None:
        """A change to another row makes no difference."""
        mine = Storages()
        metadata = papers(lite, mine, record("gone"), record("gone too"))

        def act() -> None:
            with lite.begin() as connection:
                connection.execute(text("DELETE FROM paper WHERE id = 1"))

        mine.register_backend(Meanwhile(act))
        assert wrong(check(lite, metadata)) == [("gone too", "missing")]


class TestRuns:
    def test_limit_and_resume(self, db: Database, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        """A run ends at its limit after whole parts, and the next goes on; no row is checked twice or left out."""
        monkeypatch.setattr(module, "AT_ONCE", 3)

        def scenario(sessions: Sessions) -> None:
            with sessions() as session:
                session.add_all([Document(file=file(), pages=[file()]) for _ in range(10)])
                session.add_all([Limited(file=file()) for _ in range(7)])
                session.commit()
            worlds.run(store.backend.driver(inline).delete(list(store.paths())))
            engine = engine_of(sessions)
            whole = check(engine, Base.metadata)
            assert (len(whole.findings), whole.rows, whole.after) == (27, 17, None)
            together: list[Damage] = []
            rows, runs, after = 0, 0, None
            while True:
                checked = check(engine, Base.metadata, limit=4, after=after)
                together += checked.findings
                rows += checked.rows
                runs += 1
                after = checked.after
                if after is None:
                    break
                assert 4 <= len(checked.findings) <= 9
            assert together == whole.findings
            assert (rows, runs) == (17, 5)

        db(scenario)

    def test_keys_of_several_columns(self, db: Database, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        """Keys of any type and of several columns are gone through in the order that the database has."""
        monkeypatch.setattr(module, "AT_ONCE", 2)
        metadata = MetaData()
        table = Table(
            "part",
            metadata,
            Column("tenant", Uuid, primary_key=True),
            Column("name", String(20), primary_key=True),
            Column("file", StoredObject("mem", storages=registry)),
        )

        def scenario(sessions: Sessions) -> None:
            engine = engine_of(sessions)
            metadata.create_all(engine)
            expected: set[tuple[UUID, str]] = set()
            with engine.begin() as connection:
                for tenant in (uuid4(), uuid4(), uuid4()):
                    for name in ("a", "b", "ö", "Z", "10", "9"):
                        lost = loaded(record(f"{tenant}/{name}"), registry)
                        claim(lost, "free")
                        connection.execute(insert(table), {"tenant": tenant, "name": name, "file": lost})
                        expected.add((tenant, name))
            checked = check(engine, metadata)
            assert [each.what for each in checked.findings] == ["missing"] * 18
            assert {each.primary_key for each in checked.findings} == expected
            metadata.drop_all(engine)

        db(scenario)

    def test_a_table_without_a_key(self, lite: Engine, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        """A table without a primary key is read once, whatever the limit, and is done with then."""
        monkeypatch.setattr(module, "AT_ONCE", 2)
        metadata = MetaData()
        for name in ("a_heap", "b_heap"):
            Table(name, metadata, Column("file", StoredObject("mem", storages=registry)))
        metadata.create_all(lite)
        with lite.begin() as connection:
            for number in range(5):
                for name in ("a_heap", "b_heap"):
                    connection.execute(text(f"INSERT INTO {name} VALUES (:f)"), {"f": json.dumps(record(str(number)))})
        first = check(lite, metadata, limit=1)
        assert (first.rows, len(first.findings), first.after) == (5, 5, ("a_heap", ()))
        second = check(lite, metadata, limit=1, after=first.after)
        assert (second.rows, second.after) == (5, None)
        assert {each.primary_key for each in second.findings} == {()}

    def test_several_at_a_time(self, world: Database, store: Store) -> None:
        """Objects are looked at several at a time, as many as the registry allows, and in short transactions."""
        faulty = FaultyBackend(store.backend, [Fault("head", kind="delay", times=None, seconds=0.02)])
        registry.register_backend(faulty, replace=True)

        def scenario(sessions: Sessions) -> None:
            with sessions() as session:
                session.add_all([Document(file=file()) for _ in range(30)])
                session.commit()
            assert check(engine_of(sessions), Base.metadata).findings == []
            assert faulty.most == registry.concurrency

        world(scenario)

    def test_a_failing_store(self, world: Database, store: Store) -> None:
        """A store that does not answer says nothing about objects; one that refuses to show one does."""
        faulty = FaultyBackend(store.backend)
        registry.register_backend(faulty, replace=True)

        def scenario(sessions: Sessions) -> None:
            with sessions() as session:
                session.add(Document(file=file()))
                session.commit()
            faulty.plan = [Fault("head", times=None)]
            with pytest.raises(StoreUnavailable):
                check(engine_of(sessions), Base.metadata)
            faulty.plan = [Fault("head", times=None, error=AccessDenied)]
            (damage,) = check(engine_of(sessions), Base.metadata).findings
            assert damage.what == "unreadable"

        world(scenario)

    @pytest.mark.parametrize("wrong", [{"limit": 0}, {"after": ("nowhere", (1,))}])
    def test_mistakes(self, lite: Engine, wrong: dict[str, Any]) -> None:
        """A wrong argument is refused."""
        with pytest.raises(ConfigurationError):
            check(lite, papers(lite, registry), **wrong)
