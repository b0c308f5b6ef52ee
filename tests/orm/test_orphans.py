"""The orphan sweep: what no row names is found, and what any row names in any way is never touched."""

import json
import os
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, Table, create_engine, select, text

from lading import Outbox, Storages, StoredObject, clock, worlds
from lading.backends.fsspec import FSSpecBackend
from lading.backends.obstore import ObstoreBackend
from lading.backends.protocols import Attributes, Copies, ObjectInfo, StorageBackend
from lading.errors import (
    AccessDenied,
    BackendNotRegistered,
    ConfigurationError,
    InvalidPath,
    RecordError,
    StoreUnavailable,
)
from lading.ops import spool
from lading.orm.findings import Different, Finding, Leftover, Missing, Orphan, Unusable
from lading.orm.orphans import Swept, orphans
from lading.testing import Fault, FaultyBackend
from lading.testing.faults import Verb
from lading.worlds import World, inline, iterate
from tests.backends.test_obstore import on_s3
from tests.orm.conftest import Database, Sessions, Store, on
from tests.orm.models import Base, Document, file, registry
from tests.orm.outboxed import WITHOUT_TRIGGERS
from tests.services.moto import S3

DAY = 86_400.0
DIFFERENT = {"file": json.dumps({"backend": "mem", "path": "different", "filename": "f", "size": 100})}


@pytest.fixture
def tomorrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two days from now, so that whatever was stored is older than the grace."""
    monkeypatch.setattr(clock, "now", lambda: time.time() + 2 * DAY)


def put(backend: StorageBackend, *paths: str, content: bytes = b"x") -> None:
    for path in paths:
        put = backend.driver(inline).put(path, content, size=None, overwrite=True, attributes=Attributes())
        worlds.run(put)


def lying(backend: StorageBackend) -> list[str]:
    return sorted(info.path for info in iterate(backend.driver(inline).list()))


def delete(backend: StorageBackend, *paths: str) -> None:
    worlds.run(backend.driver(inline).delete(paths))


def found(swept: Swept) -> list[tuple[str, str]]:
    return [(type(each).__name__, each.path) for each in swept.findings]


def _timeless(finding: Finding) -> Finding:
    return msgspec.structs.replace(finding, last_modified=0) if isinstance(finding, Orphan) else finding


def engine_of(sessions: Sessions) -> Engine:
    engine: Engine = sessions.kw["bind"]
    return engine


def stored(path: str, backend: str = "mem", **more: Any) -> dict[str, Any]:
    """A record as raw SQL would write it."""
    return {"backend": backend, "path": path, "filename": "f", **more}


def tables(*columns: Column[Any], outbox: bool = False) -> tuple[MetaData, Table]:
    metadata = MetaData()
    table = Table("paper", metadata, Column("id", Integer, primary_key=True), *columns)
    if outbox:
        Outbox(metadata, triggers=False)
    return metadata, table


@pytest.fixture
def lite(tmp_path: Path) -> Iterator[Engine]:
    from sqlalchemy import create_engine

    engine = create_engine(f"sqlite:///{tmp_path}/raw.sqlite")
    yield engine
    engine.dispose()


def fill(engine: Engine, table: Table, **values: Any) -> None:
    """A row by raw SQL."""
    names = ", ".join(values)
    marks = ", ".join(f":{name}" for name in values)
    with engine.begin() as connection:
        texts = {name: json.dumps(value) for name, value in values.items()}
        connection.execute(text(f"INSERT INTO {table.name} ({names}) VALUES ({marks})"), texts)


def rolled(sessions: Sessions) -> Document:
    """A committed row with a file, a cover and two pages."""
    with sessions() as session:
        document = Document(file=file(b"1"), cover=file(b"22"), pages=[file(b"3"), file(b"4")])
        session.add(document)
        session.commit()
        session.refresh(document)
        session.expunge(document)
        return document


@pytest.mark.usefixtures("tomorrow")
class TestFindings:
    def test_on_every_database(self, db: Database, store: Store) -> None:
        """Orphans, missing and different objects are found, each by its name, and a dry run touches nothing."""

        def scenario(sessions: Sessions) -> None:
            document = rolled(sessions)
            assert document.file is not None
            assert document.cover is not None
            put(store.backend, "zz-orphan", "a/orphan")
            delete(store.backend, document.file.path, document.pages[1].path)
            put(store.backend, document.cover.path, content=b"another")
            before = store.paths()
            swept = orphans(engine_of(sessions), Base.metadata)
            assert all(time.time() - each.last_modified < 60 for each in swept.findings if isinstance(each, Orphan))
            assert sorted([_timeless(each) for each in swept.findings], key=repr) == sorted(
                [
                    Orphan("mem", "a/orphan", 1, 0),
                    Orphan("mem", "zz-orphan", 1, 0),
                    Missing("mem", document.file.path, "document", "file"),
                    Missing("mem", document.pages[1].path, "document", "pages"),
                    Different("mem", document.cover.path, "document", "cover", "size", 2, 7),
                ],
                key=repr,
            )
            assert [each.path for each in swept.findings] == sorted(each.path for each in swept.findings)
            assert (swept.objects, swept.rows, swept.waiting, swept.after) == (4, 4, 0, None)
            assert store.paths() == before

        db(scenario)

    def test_deleting_without_an_outbox(self, db: Database, store: Store) -> None:
        """With `delete` orphans go and nothing else; a second run finds nothing."""

        def scenario(sessions: Sessions) -> None:
            rolled(sessions)
            kept = store.paths()
            put(store.backend, *(f"orphan/{number}" for number in range(20)))
            swept = orphans(engine_of(sessions), Base.metadata, delete=True)
            assert len(swept.findings) == 20
            assert store.paths() == kept
            assert orphans(engine_of(sessions), Base.metadata, delete=True).findings == []

        db(scenario)

    @pytest.mark.parametrize("days", [0, 35])
    def test_deleting_with_an_outbox(
        self, db: Database, store: Store, monkeypatch: pytest.MonkeyPatch, days: int
    ) -> None:
        """Orphans are put into the outbox for as long as anything stays there, and wait from then on."""
        models = WITHOUT_TRIGGERS
        monkeypatch.setattr(models.outbox, "keep_for", timedelta(days=days))

        def scenario(sessions: Sessions) -> None:
            engine = engine_of(sessions)
            models.base.metadata.create_all(engine)
            with sessions() as session:
                session.add(models.document(file=file(), pages=[file()]))
                session.commit()
            put(store.backend, "b", "a")
            dry = orphans(engine, models.base.metadata)
            swept = orphans(engine, models.base.metadata, delete=True)
            assert found(dry) == found(swept) == [("Orphan", "a"), ("Orphan", "b")]
            assert (dry.waiting, swept.waiting) == (0, 0)
            again = orphans(engine, models.base.metadata, delete=True)
            assert (again.findings, again.waiting) == ([], 2)
            with sessions() as session:
                entries = models.entries(session)
            assert [(entry.backend, entry.path, entry.reason) for entry in entries] == [
                ("mem", "a", "orphan"),
                ("mem", "b", "orphan"),
            ]
            for entry in entries:
                assert entry.not_before.timestamp() == pytest.approx(clock.now() + (days * DAY or 300), abs=60)
            assert len(store) == 4

        db(scenario)

    def test_folders_are_no_orphans(self, lite: Engine, s3: S3) -> None:
        """What S3's console makes for a folder is listed like an object, and is none: no verb reaches it."""
        metadata, _ = tables(Column("file", StoredObject("s3", storages=(mine := Storages()))))
        metadata.create_all(lite)
        backend = on_s3(s3, key="s3")
        mine.register_backend(backend)
        put(backend, "empty", "folder/file", content=b"")
        for name in ("folder/", "empty/"):
            url = f"{s3.endpoint}/{backend.store.config['bucket']}/some/prefix/{name}"
            urllib.request.urlopen(urllib.request.Request(url, b"", method="PUT"), timeout=30).close()
        assert found(orphans(lite, metadata)) == [("Orphan", "empty"), ("Orphan", "folder/file")]

    def test_two_of_one_path(self, lite: Engine) -> None:
        """Of an object and a folder of its name the younger one counts: the object may be waiting for its row."""
        mine = Storages()
        metadata, _ = tables(Column("file", StoredObject("mem", storages=mine)))
        metadata.create_all(lite)
        for young, expected in ((clock.now(), []), (time.time(), [("Orphan", "a")])):
            backend = Meanwhile(lambda: None)
            backend.listed = [ObjectInfo("a", 0, time.time()), ObjectInfo("a", 1, young)]
            put(backend.inner, "a")
            mine.register_backend(backend, replace=True)
            assert found(orphans(lite, metadata)) == expected

    def test_young_objects_are_no_orphans(self, world: Database, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is younger than the grace may have its row soon."""
        put(store.backend, "young")
        now = time.time()

        def scenario(sessions: Sessions) -> None:
            for hours, expected in ((23, []), (25, ["young"])):
                monkeypatch.setattr(clock, "now", lambda hours=hours: now + hours * 3600)
                assert [each.path for each in orphans(engine_of(sessions), Base.metadata).findings] == expected
            monkeypatch.setattr(clock, "now", lambda: now + 120)
            assert found(orphans(engine_of(sessions), Base.metadata, grace=timedelta(minutes=1))) == [
                ("Orphan", "young")
            ]

        world(scenario)

    def test_etags(self, lite: Engine, store: Store) -> None:
        """An object that was overwritten is another by its etag, where row and store know one."""
        metadata, table = tables(Column("file", StoredObject("mem", storages=registry)))
        metadata.create_all(lite)
        put(store.backend, "same", "other", "unknown")
        etag = worlds.run(store.backend.driver(inline).head("same")).etag
        actual = worlds.run(store.backend.driver(inline).head("other")).etag
        assert actual is not None
        fill(lite, table, file=stored("same", etag=etag))
        fill(lite, table, file=stored("other", etag='"old"', size=1))
        fill(lite, table, file=stored("unknown"))
        assert orphans(lite, metadata).findings == [Different("mem", "other", "paper", "file", "etag", '"old"', actual)]

    def test_leftovers(self, lite: Engine, tmp_path: Path) -> None:
        """What a killed process left aside is found when it is old, and deleted at once, unless a row names it."""
        metadata, table = tables(Column("file", StoredObject("disk", storages=(mine := Storages()))), outbox=True)
        metadata.create_all(lite)
        backend = mine.register_backend(f"file://{tmp_path}/store", "disk")
        put(backend, "d/file", "d/orphan")
        fill(lite, table, file=stored("d/file", "disk"))
        for name in (".lading-0123456789abcdef", "d/x#1", "d/named#1"):
            (tmp_path / "store" / name).write_bytes(b"half")
        fill(lite, table, file=stored("d/named#1", "disk"))  # as written through fsspec
        swept = orphans(lite, metadata, delete=True)
        assert found(swept) == [
            ("Leftover", ".lading-0123456789abcdef"),
            ("Different", "d/named#1"),
            ("Orphan", "d/orphan"),
            ("Leftover", "d/x#1"),
        ]
        assert isinstance(swept.findings[0], Leftover)
        unreadable = swept.findings[1]
        assert isinstance(unreadable, Different)
        assert (unreadable.what, "trailing" in str(unreadable.actual)) == ("unreadable", True)
        left = sorted(path.name for path in (tmp_path / "store").rglob("*") if path.is_file())
        assert left == ["file", "named#1", "orphan"]

    def test_leftovers_of_now_stay(self, lite: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What may be being written is left alone."""
        monkeypatch.setattr(clock, "now", time.time)
        metadata, _ = tables(Column("file", StoredObject("disk", storages=(mine := Storages()))))
        metadata.create_all(lite)
        mine.register_backend(f"file://{tmp_path}/store", "disk")
        (tmp_path / "store" / ".lading-0123456789abcdef").write_bytes(b"half")
        assert orphans(lite, metadata, delete=True).findings == []
        assert (tmp_path / "store" / ".lading-0123456789abcdef").exists()

    def test_paths_that_lading_refuses(self, lite: Engine, tmp_path: Path) -> None:
        """What lies under a path that no verb takes is reported, never touched, and hinders nothing."""
        metadata, table = tables(Column("file", StoredObject("disk", storages=(mine := Storages()))), outbox=True)
        metadata.create_all(lite)
        backend = mine.register_backend(FSSpecBackend("disk", f"file://{tmp_path}/store"))
        put(backend, "a", "z")
        fill(lite, table, file=stored("a", "disk"))
        for name in (b"\xff", b"con\ntrol", b"%2e", b"..."):
            Path(f"{tmp_path}/store".encode().decode(), name.decode(errors="surrogateescape")).write_bytes(b"x")
        for waiting in (0, 1):
            swept = orphans(lite, metadata, delete=True)
            assert swept.waiting == waiting
            refused = [each for each in swept.findings if isinstance(each, Unusable)]
            assert [each.path for each in refused] == ["%2e", "...", "con\ntrol", "\udcff"]
            assert all(each.reason for each in refused)
        assert len(list((tmp_path / "store").iterdir())) == 6

    def test_odd_names(self, lite: Engine, tmp_path: Path) -> None:
        """Names in any script and with any punctuation are neither orphans nor missing, whatever lists them."""
        from lading.testing.backends import NAMES

        for number, url in enumerate(("memory://", f"file://{tmp_path}/obstore", f"file://{tmp_path}/fsspec")):
            mine = Storages()
            metadata, table = tables(Column("file", StoredObject("odd", storages=mine)))
            metadata.drop_all(lite)
            metadata.create_all(lite)
            kind = FSSpecBackend if number == 2 else ObstoreBackend
            backend = mine.register_backend(kind("odd", url))
            for name in NAMES:
                put(backend, f"d/{name}")
                fill(lite, table, file=stored(f"d/{name}", "odd", size=1))
            swept = orphans(lite, metadata, delete=True)
            assert (swept.findings, swept.objects, swept.rows) == ([], len(NAMES), len(NAMES))


@pytest.mark.usefixtures("tomorrow")
class TestWhatRowsName:
    """Nothing that a row names in any way is an orphan."""

    def test_records_without_a_path(self, db: Database, store: Store) -> None:
        """A record of advanced-alchemy has its path in `filename`."""

        def scenario(sessions: Sessions) -> None:
            put(store.backend, "legacy/one", "legacy/two")
            with sessions() as session:
                for column, value in (("file", {}), ("pages", [{}])):
                    name = {"file": "legacy/one", "pages": "legacy/two"}[column]
                    record = {"backend": "mem", "filename": name, "content_type": "a/b"}
                    both = {"file": None, "pages": "[]"} | {column: json.dumps([record] if value else record)}
                    if column == "pages":
                        both["pages"] = json.dumps([record])
                    session.execute(text("INSERT INTO document (file, pages) VALUES (:file, :pages)"), both)
                session.commit()
            swept = orphans(engine_of(sessions), Base.metadata, delete=True)
            assert (swept.findings, swept.rows) == ([], 2)
            assert store.paths() == {"legacy/one", "legacy/two"}

        db(scenario)

    def test_old_keys(self, lite: Engine) -> None:
        """Rows may name the backend by an alias, and an alias of an alias."""
        mine = Storages()
        metadata, table = tables(Column("file", StoredObject("new", storages=mine)))
        metadata.create_all(lite)
        backend = mine.register_backend("memory://", "new")
        mine.alias("older", "old")
        mine.alias("old", "new")
        put(backend, "a", "b", "c", "orphan")
        for path, key in (("a", "older"), ("b", "old"), ("c", "new"), ("gone", "older")):
            fill(lite, table, file=stored(path, key))
        swept = orphans(lite, metadata, delete=True)
        assert found(swept) == [("Missing", "gone"), ("Orphan", "orphan")]
        assert isinstance(swept.findings[0], Missing)
        assert swept.findings[0].backend == "older"
        assert lying(backend) == ["a", "b", "c"]
        assert found(orphans(lite, metadata, "older")) == [("Missing", "gone")]

    def test_other_tables_columns_and_registries(self, lite: Engine) -> None:
        """All columns of all tables count, also those of another registry that knows the backend by another key."""
        one, two = Storages(), Storages()
        store = ObstoreBackend("a", "memory://").store
        backend = one.register_backend(ObstoreBackend("a", store))
        two.register_backend(ObstoreBackend("b", store))
        two.register_backend("memory://", "elsewhere")
        metadata, table = tables(
            Column("file", StoredObject("a", storages=one)), Column("more", StoredObject("a", True, storages=one))
        )
        other = Table(
            "other", metadata, Column("id", Integer, primary_key=True), Column("f", StoredObject("b", storages=two))
        )
        metadata.create_all(lite)
        put(backend, *"12345")
        fill(lite, table, file=stored("1", "a"), more=[stored("2", "a"), stored("3", "a")])
        fill(lite, other, f=stored("4", "b"))
        fill(lite, other, f=stored("5", "elsewhere"))
        with pytest.raises(ConfigurationError, match="'a', 'b'"):
            orphans(lite, metadata)
        for key in ("a", "b"):
            assert found(orphans(lite, metadata, key)) == [("Orphan", "5")]
        orphans(lite, metadata, "a", delete=True)
        assert lying(backend) == ["1", "2", "3", "4"]

    def test_backends_inside_one_another(self, lite: Engine, tmp_path: Path) -> None:
        """Backends of one store count together when one lies inside the other, whichever library they use."""
        mine = Storages()
        outer = mine.register_backend(f"file://{tmp_path}/store", "outer")
        inner = mine.register_backend(FSSpecBackend("inner", f"file://{tmp_path}/store/in"))
        mine.register_backend(ObstoreBackend("beside", f"file://{tmp_path}/store", prefix="inn"))
        metadata, table = tables(Column("file", StoredObject("outer", storages=mine)), outbox=True)
        metadata.create_all(lite)
        put(outer, "a", "in/by-outer", "in/orphan", "orphan")
        put(inner, "by-inner", "in/deep")
        for key, path in (("outer", "a"), ("outer", "in/by-outer"), ("inner", "by-inner"), ("inner", "in/deep")):
            fill(lite, table, file=stored(path, key))
        fill(lite, table, file=stored("gone", "inner"))
        swept = orphans(lite, metadata, "outer")
        assert [(type(each).__name__, each.backend, each.path) for each in swept.findings] == [
            ("Missing", "inner", "gone"),
            ("Orphan", "outer", "in/orphan"),
            ("Orphan", "outer", "orphan"),
        ]
        assert found(orphans(lite, metadata, "outer", prefix="in")) == [("Missing", "gone"), ("Orphan", "in/orphan")]
        assert found(orphans(lite, metadata, "inner")) == [("Missing", "gone"), ("Orphan", "orphan")]
        orphans(lite, metadata, "inner", delete=True)
        again = orphans(lite, metadata, "outer")  # what waits under one key waits under the other
        assert (found(again), again.waiting) == ([("Missing", "gone"), ("Orphan", "orphan")], 1)

    def test_what_cannot_be_told_is_refused(self, lite: Engine, store: Store) -> None:
        """Another backend of that kind which does not say where its objects lie may hold any of them."""
        mine = Storages()
        metadata, _ = tables(Column("file", StoredObject("one", storages=mine)))
        metadata.create_all(lite)
        mine.register_backend("memory://", "one")
        silent = FaultyBackend(ObstoreBackend("two", "memory://"))
        vars(silent)["place"] = None  # as a backend that cannot say
        mine.register_backend(silent)
        for key in ("one", "two"):
            with pytest.raises(ConfigurationError, match="place"):
                orphans(lite, metadata, key)
        mine.unregister_backend("one")
        put(silent, "orphan")
        assert found(orphans(lite, metadata, "two")) == [("Orphan", "orphan")]

    def test_a_key_that_nobody_knows_is_refused(self, lite: Engine) -> None:
        """A row with a key that is not registered may mean any object here."""
        mine = Storages()
        metadata, table = tables(Column("file", StoredObject("one", storages=mine)))
        metadata.create_all(lite)
        put(mine.register_backend("memory://", "one"), "a")
        fill(lite, table, file=stored("a", "renamed"))
        with pytest.raises(BackendNotRegistered, match="renamed"):
            orphans(lite, metadata, delete=True)
        mine.alias("renamed", "one")
        assert orphans(lite, metadata, delete=True).findings == []

    def test_a_value_that_is_no_record_is_refused(self, lite: Engine) -> None:
        """Nobody knows which object a broken value names."""
        mine = Storages()
        metadata, table = tables(Column("file", StoredObject("one", storages=mine)))
        metadata.create_all(lite)
        put(mine.register_backend("memory://", "one"), "a")
        fill(lite, table, file={"path": "a"})
        with pytest.raises(RecordError):
            orphans(lite, metadata, delete=True)

    def test_one_key_for_two_backends_is_refused(self, lite: Engine) -> None:
        """Where registries mean different places by one key, an entry of it would name two objects."""
        one, two = Storages(), Storages()
        one.register_backend("memory://", "k")
        two.register_backend("memory://", "k")
        metadata, _ = tables(Column("a", StoredObject("k", storages=one)), Column("b", StoredObject("k", storages=two)))
        metadata.create_all(lite)
        with pytest.raises(ConfigurationError, match="registry"):
            orphans(lite, metadata, "k")

    def test_other_normal_forms(self, lite: Engine, store: Store) -> None:
        """An object that a filesystem lists in another normal form of Unicode than the row has is no orphan."""
        metadata, table = tables(Column("file", StoredObject("mem", storages=registry)))
        metadata.create_all(lite)
        put(store.backend, "cafe\u0301", "\u00e9")
        fill(lite, table, file=stored("caf\u00e9"))
        fill(lite, table, file=stored("e\u0301"))
        assert {type(each) for each in orphans(lite, metadata, delete=True).findings} == {Missing}
        assert len(store) == 2


class Listing:
    """A driver that lists in its own way, or does something before it lists."""

    def __init__(self, inner: Any, listed: Callable[[list[ObjectInfo]], Iterable[ObjectInfo]]) -> None:
        self._inner = inner
        self._listed = listed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def list_in_order(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectInfo]:
        for info in self._listed([info async for info in self._inner.list_in_order(prefix, after=after)]):
            yield info


class Meanwhile(FaultyBackend):
    """A backend in memory where something happens before it is listed."""

    def __init__(self, act: Callable[[], object], inner: StorageBackend | None = None) -> None:
        super().__init__(inner or ObstoreBackend("mem", "memory://"))
        self.act = act
        self.listed: list[ObjectInfo] | None = None

    def driver(self, world: World) -> Any:
        def listed(infos: list[ObjectInfo]) -> list[ObjectInfo]:
            self.act()
            return infos if self.listed is None else self.listed

        return Listing(self.inner.driver(world), listed)


@pytest.mark.usefixtures("tomorrow")
class TestMeanwhile:
    """What happens between the reading of the rows and the end of the listing."""

    @pytest.mark.parametrize("outbox", [False, True])
    def test_rows_that_come(self, lite: Engine, outbox: bool) -> None:
        """An object that a row names by now is no orphan any more."""
        mine = Storages()
        metadata, table = tables(Column("file", StoredObject("mem", storages=mine)), outbox=outbox)
        metadata.create_all(lite)
        backend = Meanwhile(lambda: fill(lite, table, file=stored("adopted")))
        mine.register_backend(backend)
        put(backend.inner, "adopted", "orphan")
        assert found(orphans(lite, metadata, delete=True)) == [("Orphan", "orphan")]
        assert "adopted" in lying(backend.inner)

    def test_rows_that_go(self, lite: Engine) -> None:
        """What was deleted or replaced with its row meanwhile is neither missing nor different."""
        mine = Storages()
        metadata, table = tables(Column("file", StoredObject("mem", storages=mine)))
        metadata.create_all(lite)

        def act() -> None:
            with lite.begin() as connection:
                connection.execute(text("DELETE FROM paper WHERE id < 3"))

        backend = Meanwhile(act)
        mine.register_backend(backend)
        put(backend.inner, "2", "4")
        for path in "1234":
            fill(lite, table, file=stored(path, size=1 if path == "4" else 5))
        assert found(orphans(lite, metadata)) == [("Missing", "3")]

    def test_objects_that_the_listing_missed(self, lite: Engine) -> None:
        """What a look finds is not missing, whatever the listing said."""
        mine = Storages()
        metadata, table = tables(Column("file", StoredObject("mem", storages=mine)))
        metadata.create_all(lite)
        memory = ObstoreBackend("mem", "memory://")
        backend = Meanwhile(lambda: put(memory, "late"), memory)
        mine.register_backend(backend)
        fill(lite, table, file=stored("late"))
        assert orphans(lite, metadata).findings == []

    @on("postgresql", "mariadb", inline_only=True)
    def test_a_file_that_moves(self, db: Database, store: Store) -> None:
        """A file that moves from one table to another while rows are read is seen in one of them."""

        def scenario(sessions: Sessions) -> None:
            from lading.orm.references import file_columns, stream
            from lading.orm.snapshot import snapshot

            document = rolled(sessions)
            assert document.file is not None
            columns = sorted(file_columns(Base.metadata), key=lambda each: each.column.name != "cover")
            with snapshot(engine_of(sessions)) as connection:
                cover = [each.path for each in stream(connection, columns[:1])]
                with engine_of(sessions).begin() as other:
                    other.execute(text("UPDATE document SET cover = file, file = NULL"))
                rest = [each.path for each in stream(connection, columns[1:])]
            assert document.file.path in rest
            assert document.file.path not in cover

        db(scenario)


@pytest.mark.usefixtures("tomorrow")
class TestRuns:
    @pytest.fixture
    def many(self, lite: Engine, store: Store) -> MetaData:
        """Of 1500 objects in 15 directories every tenth is an orphan, and every tenth row has none."""
        metadata, _ = tables(Column("file", StoredObject("mem", storages=registry)), outbox=True)
        metadata.create_all(lite)
        paths = [f"{number % 15:02}/{number:04}" for number in range(1500)]
        put(store.backend, *(path for number, path in enumerate(paths) if number % 10 != 1))
        rows = [{"file": json.dumps(stored(path))} for number, path in enumerate(paths) if number % 10 != 2]
        with lite.begin() as connection:
            connection.execute(text("INSERT INTO paper (file) VALUES (:file)"), rows)
        return metadata

    @pytest.mark.parametrize("limit", [1, 7, 100, 299, 300, 301])
    def test_limit_and_resume(self, lite: Engine, many: MetaData, limit: int) -> None:
        """A run ends at its limit, and the next goes on where it ended: together they find what one run finds."""
        whole = orphans(lite, many)
        assert len(whole.findings) == 300
        together: list[Finding] = []
        after: str | None = ""
        while after is not None and len(together) <= 300:
            if limit == 1 and len(together) == 30:
                return
            swept = orphans(lite, many, limit=limit, after=after)
            assert len(swept.findings) <= limit
            assert swept.after is None or swept.after > after
            together += swept.findings
            assert together == whole.findings[: len(together)]
            after = swept.after
        assert together == whole.findings

    def test_resuming_where_nothing_is_in_order(self, lite: Engine, tmp_path: Path) -> None:
        """What was reported before a path is not reported again after it, whatever the store lists, staged or not."""
        metadata, _ = tables(Column("file", StoredObject("disk", storages=(mine := Storages()))))
        metadata.create_all(lite)
        put(mine.register_backend(f"file://{tmp_path}/store", "disk"), *"abcde")
        for name in ("a#1", "d#1"):
            (tmp_path / "store" / name).write_bytes(b"half")
        assert found(orphans(lite, metadata, limit=3)) == [("Orphan", "a"), ("Leftover", "a#1"), ("Orphan", "b")]
        rest = [("Orphan", "c"), ("Orphan", "d"), ("Leftover", "d#1"), ("Orphan", "e")]
        assert found(orphans(lite, metadata, after="b")) == rest

    def test_limit_and_delete(self, lite: Engine, many: MetaData, store: Store) -> None:
        """No more is put into the outbox than is reported."""
        swept = orphans(lite, many, delete=True, limit=50)
        entered = [each.path for each in swept.findings if isinstance(each, Orphan)]
        outbox = Outbox.of(many)
        assert outbox is not None
        with lite.connect() as connection:
            assert sorted(connection.scalars(select(outbox.table.c.path))) == entered

    def test_prefixes_split_the_work(self, lite: Engine, many: MetaData) -> None:
        """Workers by prefix find together what one finds, and none does the part of another."""
        whole = orphans(lite, many)
        parts = [orphans(lite, many, prefix=f"{number:02}") for number in range(15)]
        assert [each for part in parts for each in part.findings] == whole.findings
        assert sum(part.objects for part in parts) == whole.objects
        assert sum(part.rows for part in parts) == whole.rows
        assert orphans(lite, many, prefix="0").findings == []

    def test_progress(self, lite: Engine, many: MetaData) -> None:
        """It tells how far it has come, each thousand objects."""
        told: list[int] = []
        orphans(lite, many, on_progress=told.append)
        assert told == [1000, 1350]

    def test_a_store_that_breaks_its_word(self, lite: Engine, store: Store) -> None:
        """A listing that should be in order and is not is put in order, and nothing that it says late is missing."""

        class Shuffled(FaultyBackend):
            def driver(self, world: World) -> Any:
                return Listing(self.inner.driver(world), reversed)

        mine = Storages()
        metadata, table = tables(Column("file", StoredObject("mem", storages=mine)))
        metadata.create_all(lite)
        mine.register_backend(Shuffled(store.backend))
        put(store.backend, *"abcdef")
        for path in "abcde":
            fill(lite, table, file=stored(path))
        swept = orphans(lite, metadata)
        assert (found(swept), swept.objects) == ([("Orphan", "f")], 6)

    def test_large_sweeps_use_files(self, world: Database, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        """With more than fits into memory the same is found."""
        monkeypatch.setattr(spool.Spool.__init__, "__defaults__", (10,))

        def scenario(sessions: Sessions) -> None:
            with sessions() as session:
                session.add_all([Document(file=file(), pages=[file(), file()]) for _ in range(20)])
                session.commit()
            put(store.backend, "orphan")
            swept = orphans(engine_of(sessions), Base.metadata)
            assert (found(swept), swept.objects, swept.rows) == ([("Orphan", "orphan")], 61, 60)

        world(scenario)

    @pytest.mark.parametrize(("verb", "left"), [("list_in_order", 2), ("head", 2), ("delete", 2)])
    def test_a_failing_store(self, world: Database, store: Store, verb: Verb, left: int) -> None:
        """An error of the store comes out; the next run does what is left to do."""
        faulty = FaultyBackend(store.backend)
        registry.register_backend(faulty, replace=True)
        put(store.backend, "orphan", "different")

        def scenario(sessions: Sessions) -> None:
            with sessions() as session:
                session.execute(text("INSERT INTO document (file, pages) VALUES (:file, '[]')"), [DIFFERENT])
                session.commit()
            faulty.plan = [Fault(verb, times=None)]
            with pytest.raises(StoreUnavailable):
                orphans(engine_of(sessions), Base.metadata, delete=True)
            assert len(store) == left
            faulty.plan = []
            assert len(orphans(engine_of(sessions), Base.metadata, delete=True).findings) == 2
            assert store.paths() == {"different"}

        world(scenario)

    def test_what_the_store_does_not_show(self, world: Database, store: Store) -> None:
        """An object that may not be looked at is neither missing nor an error that ends the sweep."""
        registry.register_backend(FaultyBackend(store.backend, [Fault("head", error=AccessDenied)]), replace=True)
        put(store.backend, "different")

        def scenario(sessions: Sessions) -> None:
            with sessions() as session:
                session.execute(text("INSERT INTO document (file, pages) VALUES (:file, '[]')"), [DIFFERENT])
                session.commit()
            (finding,) = orphans(engine_of(sessions), Base.metadata).findings
            assert isinstance(finding, Different)
            assert finding.what == "unreadable"

        world(scenario)

    @pytest.mark.parametrize("wrong", [{"limit": 0}, {"grace": timedelta(-1)}, {"backend": "none"}])
    def test_mistakes(self, lite: Engine, many: MetaData, wrong: dict[str, Any]) -> None:
        """A wrong argument is refused before anything is read."""
        with pytest.raises(ConfigurationError):
            orphans(lite, many, **wrong)

    def test_prefixes_are_guarded(self, lite: Engine, many: MetaData) -> None:
        """A prefix leads nowhere outside."""
        with pytest.raises(InvalidPath):
            orphans(lite, many, prefix="../x")


def test_models_that_are_missing(engine: Engine) -> None:
    """Nothing is an orphan while triggers fill the outbox from a table that the metadata does not have."""
    registry = Storages()
    registry.register_backend(ObstoreBackend("mem", "memory://"))
    whole, part = MetaData(), MetaData()
    for metadata, names in ((whole, ("paper", "forgotten")), (part, ("paper",))):
        Outbox(metadata)
        for name in names:
            Table(
                name,
                metadata,
                Column("id", Integer, primary_key=True),
                Column("file", StoredObject("mem", storages=registry)),
            )
    whole.create_all(engine)
    assert orphans(engine, whole).findings == []
    with pytest.raises(ConfigurationError, match="forgotten"):
        orphans(engine, part, delete=True)
    other = MetaData()
    Outbox(other, "another_outbox")
    Table(
        "paper", other, Column("id", Integer, primary_key=True), Column("file", StoredObject("mem", storages=registry))
    )
    assert orphans(engine, other).findings == []


def test_a_copy_whose_row_is_not_committed(tmp_path: Path) -> None:
    """On local disk a copy of an old object is no orphan between its put and its COMMIT."""
    backend = ObstoreBackend("disk", f"file://{tmp_path}")
    registry = Storages()
    registry.register_backend(backend)
    metadata, _ = tables(Column("file", StoredObject("disk", storages=registry)))
    put(backend, "old")
    os.utime(tmp_path / "old", (0, 0))
    driver = backend.driver(inline)
    assert isinstance(driver, Copies)
    worlds.run(driver.copy("old", "new"))
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    assert found(orphans(engine, metadata, delete=True)) == [("Orphan", "old")]
    assert lying(backend) == ["new"]
    engine.dispose()
