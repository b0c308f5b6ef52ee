"""Databases that are restored from a backup find their files, as "Backups and retention" says."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib import import_module
from pathlib import Path

import pytest
from sqlalchemy import URL, Engine, create_engine, func, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from lading import FileObject, Storages, StoredObject
from lading.orm.outbox import Outbox
from lading.sweeper import Sweeper
from lading.testing import FrozenClock, frozen_clock
from lading.worlds import inline, iterate
from tests.conftest import empty_database
from tests.services.moto import S3
from tests.services.postgres import program

PAGE = Path(__file__).parents[1] / "docs" / "howto" / "backups.md"
KEEP_FOR = timedelta(days=35)
MOMENT = timedelta(minutes=1)
registry = Storages()


class Base(DeclarativeBase):
    pass


class Document(Base):
    __tablename__ = "document"
    id: Mapped[int] = mapped_column(primary_key=True)
    file: Mapped[FileObject | None] = mapped_column(StoredObject("store", storages=registry))
    pages: Mapped[list[FileObject]] = mapped_column(StoredObject("store", multiple=True, storages=registry))


outbox = Outbox(Base.metadata, keep_for=KEEP_FOR)


def file(content: str) -> FileObject:
    return FileObject(content=content.encode(), storages=registry)


def stored() -> set[str]:
    return {info.path for info in iterate(registry.get_backend("store").driver(inline).list())}


class Shop:
    """A database with its backups, a store, and the time."""

    def __init__(self, url: URL, engine: Engine, folder: Path, time: FrozenClock) -> None:
        self.url = url
        self.engine = engine
        self.sweeper = Sweeper(engine, Base.metadata)
        self.time = time
        self._backup = folder / "backup"

    def back_up(self) -> None:
        if self.engine.dialect.name == "sqlite":
            self.engine.dispose()
            shutil.copy(self.url.database or "", self._backup)
        else:
            self._run("pg_dump", "--clean", "--if-exists", f"--file={self._backup}")

    def restore(self) -> None:
        self.engine.dispose()
        if self.engine.dialect.name == "sqlite":
            shutil.copy(self._backup, self.url.database or "")
        else:
            self._run("psql", "--quiet", "--set=ON_ERROR_STOP=1", f"--file={self._backup}")

    def _run(self, name: str, *options: str) -> None:
        url = self.url.set(drivername="postgresql").render_as_string(hide_password=False)
        subprocess.run([program(name), f"--dbname={url}", *options], check=True, capture_output=True, timeout=60)

    @contextmanager
    def session(self) -> Iterator[Session]:
        with Session(self.engine) as session, session.begin():
            yield session

    def fill(self) -> None:
        with self.session() as session:
            for number in range(1, 8):
                pages = [file(f"page {page} of {number}") for page in (1, 2)]
                session.add(Document(id=number, file=file(f"file {number}"), pages=pages))

    def live_on(self) -> None:
        """What becomes of rows after the backup: replaced, deleted, cleared and changed files, and a new one."""
        with self.session() as session:
            session.get_one(Document, 1).file = file("file 1, corrected")
            session.delete(session.get_one(Document, 2))
            session.get_one(Document, 3).file = None
            shortened = session.get_one(Document, 4)
            del shortened.pages[0]
            session.add(Document(id=8, file=file("file 8"), pages=[]))
        with self.engine.begin() as connection:
            connection.execute(text("DELETE FROM document WHERE id = 5"))

    def check_contents(self) -> None:
        """Every row has the files that it had when it was filled."""
        with self.session() as session:
            documents = session.scalars(select(Document).order_by(Document.id)).all()
            assert [document.id for document in documents] == [1, 2, 3, 4, 5, 6, 7]
            for document in documents:
                assert document.file is not None
                assert document.file.get_content() == f"file {document.id}".encode()
                assert [page.get_content() for page in document.pages] == [
                    f"page {number} of {document.id}".encode() for number in (1, 2)
                ]
        assert self.sweeper.check(deep=True).findings == []

    def named(self) -> set[str]:
        with self.session() as session:
            documents = session.scalars(select(Document)).all()
            files = [each for document in documents for each in (document.file, *document.pages)]
            return {each.path for each in files if each is not None}

    def waiting(self) -> int:
        with self.engine.connect() as connection:
            return connection.scalar(select(func.count()).select_from(outbox.table)) or 0


@pytest.fixture(params=["sqlite", "postgresql+psycopg"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    registry.register_backend((tmp_path / "store").as_uri(), key="store")
    with empty_database(request.param, request, tmp_path) as url, frozen_clock() as time:
        engine = create_engine(url)
        Base.metadata.create_all(engine)
        shop = Shop(url, engine, tmp_path, time)
        shop.fill()
        yield shop
        engine.dispose()
    registry.clear_backends()


def test_the_whole_story(shop: Shop) -> None:
    """A database that is restored within `keep_for` finds all its files; then what it does not name is deleted."""
    shop.back_up()
    before = shop.named()
    shop.live_on()
    shop.time.tick(KEEP_FOR - MOMENT)
    assert shop.sweeper.drain().deleted == 0
    assert before < stored()

    shop.restore()
    reclaimed = shop.sweeper.reclaim()
    assert (reclaimed.missing, reclaimed.left) == ([], 0)
    shop.check_contents()
    found = shop.sweeper.orphans(delete=True).findings
    assert {finding.path for finding in found} == stored() - before
    assert len(found) == 2  # what was put since: a file for the one that was replaced, and that of the new row

    shop.time.tick(KEEP_FOR + MOMENT)
    assert shop.sweeper.drain().deleted == 2
    assert stored() == shop.named() == before
    shop.check_contents()


def test_too_late(shop: Shop) -> None:
    """A database that is restored later than that lacks files, and a check names the rows."""
    shop.back_up()
    shop.live_on()
    shop.time.tick(KEEP_FOR + MOMENT)
    assert shop.sweeper.drain().deleted == 9  # one of each row that changed, three of each that went
    shop.restore()
    damages = shop.sweeper.check().findings
    assert {damage.what for damage in damages} == {"missing"}
    assert {damage.primary_key for damage in damages} == {(1,), (2,), (3,), (4,), (5,)}


def test_a_backup_that_was_waiting_itself(shop: Shop) -> None:
    """What waited when the backup was made still does after the restore, and is deleted in its time, or again."""
    with shop.session() as session:
        session.delete(session.get_one(Document, 7))
    shop.back_up()
    shop.time.tick(KEEP_FOR + MOMENT)
    assert shop.sweeper.drain().deleted == 3
    shop.restore()
    assert shop.sweeper.reclaim().reclaimed == 0
    assert shop.waiting() == 3
    assert shop.sweeper.drain().deleted == 3
    assert stored() == shop.named()


def test_a_row_that_is_brought_back(shop: Shop) -> None:
    """Rows that another program puts back into the running database keep their files."""
    with shop.engine.connect() as connection:
        row = connection.execute(text("SELECT * FROM document WHERE id = 2")).one()
    shop.live_on()
    waiting = shop.waiting()
    values = {
        name: value if isinstance(value, int | str) else json.dumps(value) for name, value in row._mapping.items()
    }
    with shop.engine.begin() as connection:
        connection.execute(text("INSERT INTO document VALUES (:id, :file, :pages)"), values)
    assert shop.sweeper.reclaim().reclaimed == 3
    assert shop.waiting() == waiting - 3
    shop.time.tick(KEEP_FOR + MOMENT)
    shop.sweeper.drain()
    assert stored() == shop.named()
    assert shop.sweeper.check(deep=True).findings == []


@pytest.mark.parametrize("reclaims", [True, False], ids=["reclaimed", "not reclaimed"])
def test_a_table_that_is_emptied_and_filled(shop: Shop, reclaims: bool) -> None:
    """A table that is emptied and filled in one transaction keeps its files, with `reclaim` and without."""
    empty = "DELETE FROM document" if shop.engine.dialect.name == "sqlite" else "TRUNCATE document"
    with shop.engine.begin() as connection:
        connection.execute(text("CREATE TEMPORARY TABLE copied AS SELECT * FROM document"))
        connection.execute(text(empty))
        connection.execute(text("INSERT INTO document SELECT * FROM copied"))
    assert shop.waiting() == 21
    if reclaims:
        assert shop.sweeper.reclaim().reclaimed == 21
        assert shop.waiting() == 0
    shop.time.tick(KEEP_FOR + MOMENT)
    drained = shop.sweeper.drain()
    assert (drained.deleted, drained.kept) == (0, 0 if reclaims else 21)
    shop.check_contents()


def test_the_lifecycle_rules(s3: S3) -> None:
    """The rules that the page recommends are rules that S3 takes."""
    (block,) = re.findall(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL)
    bucket, client = (
        s3.make_bucket(),
        import_module("boto3").client(
            "s3",
            endpoint_url=s3.endpoint,
            region_name=s3.region,
            aws_access_key_id=s3.access_key_id,
            aws_secret_access_key=s3.secret_access_key,
        ),
    )
    client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=json.loads(block))
    (rule,) = client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}


@pytest.mark.parametrize("shop", ["postgresql+psycopg"], indirect=True)
def test_a_longer_time_for_what_waits(shop: Shop) -> None:
    """The statement of the page gives entries that wait the time that it says, from when they were made."""
    shop.live_on()
    (block,) = re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.DOTALL)
    with shop.engine.begin() as connection:
        connection.execute(outbox.table.update().values(not_before=outbox.table.c.created_at))
        connection.execute(text(block))
        for created, due in connection.execute(select(outbox.table.c.created_at, outbox.table.c.not_before)):
            assert due - created == timedelta(days=35)
