"""INSERT, UPDATE and DELETE statements through a session: stored and cleaned, or refused."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from pathlib import Path
from textwrap import dedent
from time import sleep
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Connection,
    MetaData,
    String,
    Table,
    bindparam,
    delete,
    event,
    func,
    insert,
    null,
    select,
    update,
)
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.orm import Mapped, mapped_column

from lading import FileObject, StoredObject
from lading.backends.obstore import ObstoreBackend
from lading.errors import NotAFile, OwnedFile, PendingFile, StateError
from tests.orm.conftest import Database, Sessions, Store, on
from tests.orm.models import Base, Document, Dog, Folder, Limited, file, read, registry
from tests.orm.outboxed import WITHOUT_TRIGGERS
from tests.orm.test_lifecycle import check


def test_insert_many(db: Database, store: Store) -> None:
    """An INSERT of many rows stores the files of all of them first, and a rollback takes them back."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            for end, left in (("rollback", 0), ("commit", 6)):
                rows = [{"name": str(n), "file": file(str(n).encode()), "pages": [file(b"p")]} for n in range(3)]
                session.execute(insert(Document), rows)
                assert len(store) == 6
                getattr(session, end)()
                assert len(store) == left
            check(session, store)


def test_insert_values(db: Database, store: Store) -> None:
    """Files in values(), one row or several, by attribute name or in a Core insert, are stored."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            session.execute(insert(Document).values(name="1", file=file(b"1"), pages=[]))
            session.execute(insert(Document).values([{"name": n, "file": file(n.encode()), "pages": []} for n in "23"]))
            session.execute(insert(Base.metadata.tables["document"]), {"name": "4", "file": file(b"4"), "pages": []})
            session.commit()
            check(session, store)
            assert len(store) == 4


def test_insert_that_fails(db: Database, store: Store) -> None:
    """When the statement fails, its files are gone at once."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            with pytest.raises(Exception, match=r"(?i)unique|duplicate"):
                session.execute(insert(Document), [{"name": "x", "file": file(), "pages": []} for _ in range(2)])
            assert len(store) == 0
            session.rollback()


def test_insert_refuses(db: Database, store: Store) -> None:
    """One file for two rows, a file that another row owns, and an upsert are refused before anything is written."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            document = Document(file=file())
            session.add(document)
            session.commit()
            once = file()
            rows: list[dict[str, Any]]
            for rows in ([{"file": once, "pages": []}] * 2, [{"file": document.file, "pages": []}]):
                with pytest.raises(OwnedFile):
                    session.execute(insert(Document), rows)
            with pytest.raises(StateError, match="INSERT FROM SELECT"):
                session.execute(insert(Document).from_select(["file", "pages"], select(Document.file, Document.pages)))
            session.commit()
            check(session, store)
            assert len(store) == 1


def test_upsert_refuses(db: Database, store: Store) -> None:
    """An upsert with a file is refused: nobody could tell which row got it."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            statement: Any
            if db.name == "postgresql":
                from sqlalchemy.dialects.postgresql import insert as upsert

                statement = upsert(Document).on_conflict_do_nothing()
            elif db.name == "sqlite":
                from sqlalchemy.dialects.sqlite import insert as upsert_sqlite

                statement = upsert_sqlite(Document).on_conflict_do_nothing()
            else:
                from sqlalchemy.dialects.mysql import insert as upsert_mysql

                statement = upsert_mysql(Document).on_duplicate_key_update(name="x")
            with pytest.raises(StateError, match="upsert"):
                session.execute(statement.values(name="a", file=file(), pages=[]))
            assert len(store) == 0


def test_update_one_row(db: Database, store: Store) -> None:
    """An UPDATE that gives one row a new file replaces the old one with the commit."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            session.add_all([Document(id=n, file=file(str(n).encode())) for n in (1, 2)])
            session.commit()
            for end, content in (("rollback", b"1"), ("commit", b"new")):
                session.execute(update(Document).where(Document.id == 1).values(file=file(b"new")))
                getattr(session, end)()
                assert read(session.get_one(Document, 1).file) == content
                check(session, store)
                assert len(store) == 2


def test_update_to_none(db: Database, store: Store) -> None:
    """An UPDATE to None, or to SQL NULL, deletes the objects of all rows that it meets, and of no other."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            session.add_all([Document(name=str(n), file=file()) for n in range(6)])
            session.commit()
            session.execute(update(Document).where(Document.name < "2").values(file=None))
            session.execute(update(Document).where(Document.name > "4").values({Document.file: null()}))
            assert len(store) == 6
            session.commit()
            check(session, store)
            assert len(store) == 3


def test_update_of_other_columns(db: Database, store: Store) -> None:
    """An UPDATE that touches no file column is none of lading's business."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            session.add_all([Document(file=file()) for _ in range(3)])
            session.commit()
            session.execute(update(Document).values(folder_id=None))
            session.commit()
            check(session, store)
            assert len(store) == 3


def test_update_refuses(db: Database, store: Store) -> None:
    """One file for several rows, an SQL expression, and a bulk UPDATE by primary key are refused."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            session.add_all([Document(id=n, file=file()) for n in (1, 2)])
            session.commit()
            before = store.paths()
            with pytest.raises(OwnedFile, match="2 rows"):
                session.execute(update(Document).values(file=file()))
            with pytest.raises(StateError, match="SQL expression"):
                session.execute(update(Document).values({Document.file: Document.cover}))
            with pytest.raises(StateError, match="primary key"):
                session.execute(update(Document), [{"id": 1, "file": file()}])
            session.rollback()
            assert store.paths() == before
            check(session, store)


def test_update_that_meets_no_row(db: Database, store: Store) -> None:
    """An UPDATE that meets no row does what it does elsewhere, nothing, and does not store its file."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            pending = file()
            statement = update(Document).where(Document.id == 7).values(file=pending, name="new")
            result: Any = session.execute(statement)
            assert result.rowcount == 0
            session.commit()
            assert pending.has_pending_data
            assert len(store) == 0


def test_delete_rows(db: Database, store: Store) -> None:
    """A DELETE takes along the objects of the rows that it meets."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            session.add_all([Document(name=str(n), file=file(), pages=[file(), file()]) for n in range(4)])
            session.commit()
            for end, left in (("rollback", 12), ("commit", 6)):
                session.execute(delete(Document).where(Document.name < "2"))
                getattr(session, end)()
                assert len(store) == left
                check(session, store)
            session.execute(delete(Document))
            session.commit()
            assert len(store) == 0


def test_rules_of_the_column(db: Database, store: Store) -> None:
    """The rules of the column hold for statements too."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session, pytest.raises(ValueError, match="too large"):
            session.execute(insert(Limited), [{"file": file(b"far too many bytes")}])
        assert len(store) == 0


def test_core_connection(db: Database, store: Store) -> None:
    """On a connection, which lading does not see, a saved file may be written once, a pending one never."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            connection = session.connection()
            with pytest.raises(PendingFile):
                connection.execute(insert(Document), {"file": file(), "pages": []})
            with pytest.raises(NotAFile):
                connection.execute(insert(Document), {"file": "a path", "pages": []})
            saved = FileObject("mem", "x", content=b"x", storages=registry).save()
            connection.execute(insert(Document), {"file": saved, "pages": []})
            with pytest.raises(OwnedFile):
                connection.execute(insert(Document), {"file": saved, "pages": []})
            session.commit()
            assert session.scalar(select(func.count()).select_from(Document)) == 1
            check(session, store)


def test_bulk_save_objects(db: Database, store: Store) -> None:
    """bulk_save_objects, which sends no event, refuses a pending file and a file of another row."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            document = Document(file=file())
            session.add(document)
            session.commit()
            for error, taken in ((PendingFile, file()), (OwnedFile, document.file)):
                with pytest.raises(error):
                    session.bulk_save_objects([Document(file=taken)])
                session.rollback()
            check(session, store)
            assert len(store) == 1


def test_delete_that_spares_rows(world: Database, store: Store) -> None:
    """A row that a statement turns out not to have met keeps its file."""

    @world
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            session.add_all([Document(file=file()) for _ in range(40)])
            session.commit()
            some = func.abs(func.random()) % 2 == 0
            session.execute(delete(Document).where(some), execution_options={"synchronize_session": False})
            session.commit()
            for document in session.scalars(select(Document)):
                assert read(document.file) == b"content"


def test_delete_many_times(db: Database, store: Store) -> None:
    """A DELETE that is executed with several sets of parameters takes along what each of them meets."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            session.add_all([Document(id=number, file=file()) for number in (1, 2, 3)])
            session.commit()
            table: Any = Document.__table__
            statement = delete(table).where(table.c.id == bindparam("number"))
            session.execute(statement, [{"number": 1}, {"number": 2}])
            session.commit()
            check(session, store)
            assert len(store) == 1


def test_table_without_a_key(world: Database, store: Store) -> None:
    """Rows that cannot be told apart are not changed: one file might come to all of them."""
    table = Table("keyless", MetaData(), Column("file", StoredObject("mem", storages=registry)))

    @world
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            table.create(session.connection())
            session.execute(insert(table), [{"file": None}, {"file": None}])
            with pytest.raises(StateError, match="no primary key"):
                session.execute(update(table).values(file=file()))
            assert len(store) == 0


class Crossed(Base):
    """Its attributes are called like each other's columns."""

    __tablename__ = "crossed"
    id: Mapped[int] = mapped_column(primary_key=True)
    one: Mapped[FileObject | None] = mapped_column("other", StoredObject("mem", storages=registry))
    other: Mapped[FileObject | None] = mapped_column("one", StoredObject("mem", storages=registry))


def test_columns_by_other_names(db: Database, store: Store) -> None:
    """A column is known by its attribute, by name or itself, not by a namesake."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            crossed = Crossed(id=1, one=file(b"one"), other=file(b"other"))
            session.add(crossed)
            session.commit()
            session.execute(update(Crossed).values(one=None))
            session.commit()
            assert crossed.one is None
            assert read(crossed.other) == b"other"
            session.execute(update(Crossed).values({Crossed.one: file(b"new"), Crossed.other: None}))
            session.commit()
            assert read(crossed.one) == b"new"
            assert len(store) == 1


def test_a_saved_file_for_no_row(world: Database, store: Store) -> None:
    """A saved file in an UPDATE that meets no row stays nobody's, and can be deleted."""

    @world
    def scenario(sessions: Sessions) -> None:
        saved = file(backend="mem").save()
        with sessions() as session:
            session.execute(update(Document).where(Document.id == 7).values(file=saved))
            session.commit()
        saved.delete()
        assert len(store) == 0


def test_the_first_thing_a_process_does(tmp_path: Path) -> None:
    """A statement is looked after also when nothing has configured its mapper yet."""
    program = f"""
        from sqlalchemy import create_engine, delete, insert
        from sqlalchemy.orm import Session, configure_mappers
        from lading.backends.obstore import ObstoreBackend
        from tests.orm.models import Base, Document, file, registry

        registry.register_backend(ObstoreBackend("mem", "file://{tmp_path}/store"))
        engine = create_engine("sqlite:///{tmp_path}/rows.sqlite")
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.execute({{}})
            session.commit()
    """
    for statement, objects in (("insert(Document).values(file=file(), pages=[])", 1), ("delete(Document)", 0)):
        subprocess.run([sys.executable, "-c", dedent(program.format(statement))], check=True)
        assert len(Store(ObstoreBackend("mem", f"file://{tmp_path}/store"))) == objects


class Named(Base):
    """Its primary key is called otherwise than its column, and may be written."""

    __tablename__ = "named"
    slug: Mapped[str] = mapped_column("name", String(20), primary_key=True)
    file: Mapped[FileObject | None] = mapped_column(StoredObject("mem", storages=registry))


def test_update_of_the_primary_key(world: Database, store: Store) -> None:
    """An UPDATE of the primary key that sets a file, however it names them, is refused before anything is stored."""
    table: Any = Named.__table__

    @world
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            session.add(Named(slug="a", file=file()))
            session.commit()
            before = store.paths()
            one = update(Named).where(Named.slug == "a")
            for statement, parameters in (
                (one.values(slug="b", file=file()), None),
                (one.values({Named.slug: "b", Named.file: file()}), None),
                (one.ordered_values((Named.file, file()), (Named.slug, "b")), None),
                (update(table).where(table.c.name == "a").values(name="b", file=file()), None),
                (update(table).where(table.c.name == "a").values(file=file()), {"name": "b"}),
            ):
                with pytest.raises(StateError, match="primary key"):
                    session.execute(statement, parameters)
                assert store.paths() == before
            session.execute(one.values(slug="b"))
            session.commit()
            assert store.paths() == before


def test_insert_that_fails_midway(db: Database, store: Store) -> None:
    """What a statement wrote before it failed is not committed without its objects, and what was flushed for it is."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            session.add(Document(name="flushed", file=file()))
            rows = [{"id": number, "file": file(), "pages": []} for number in (*range(11, 1212), 11)]
            statement: Any = insert(Document)
            with pytest.raises(IntegrityError):
                session.execute(statement.returning(Document.id), rows)
            assert len(store) == 1
            session.commit()
            assert session.scalars(select(Document.name)).all() == ["flushed"]
            check(session, store)


def test_insert_that_returns(db: Database, store: Store) -> None:
    """The rows that a statement returns are read after its savepoint is released."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            one = insert(Document).values(id=1, file=file(), pages=[]).returning(Document.id)
            result = session.execute(one)
            several = session.execute(
                insert(Document).returning(Document.id), [{"id": n, "file": file(), "pages": []} for n in (2, 3)]
            )
            assert [*result.scalars(), *several.scalars()] == [1, 2, 3]
            session.commit()
            check(session, store)
            assert len(store) == 3


def test_update_whose_outbox_fails(db: Database, store: Store) -> None:
    """When what a row let go of cannot be entered in the outbox, the row keeps it, also if the application goes on."""
    models = WITHOUT_TRIGGERS

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            models.document.__table__.create(session.connection(), checkfirst=True)
            session.add(models.document(id=1, file=file(b"old")))
            session.commit()
            before = store.paths()
            with pytest.raises(DBAPIError):
                session.execute(update(models.document).where(models.document.id == 1).values(file=file(b"new")))
            assert store.paths() == before
            session.commit()
            assert read(session.get_one(models.document, 1).file) == b"old"


@on("mariadb", inline_only=True)
def test_a_savepoint_that_is_gone(db: Database, store: Store) -> None:
    """Where the savepoint cannot be rolled back to, the first error is raised, and objects go with the transaction."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:

            @event.listens_for(session.connection(), "rollback_savepoint")
            def gone(connection: Connection, name: str, _: None) -> None:
                connection.exec_driver_sql(f"RELEASE SAVEPOINT {name}")

            with pytest.raises(IntegrityError):
                session.execute(insert(Document), [{"id": n, "file": file(), "pages": []} for n in (1, 2, 1)])
            assert len(store) == 3
            session.rollback()
            assert len(store) == 0


@on("mariadb", inline_only=True)
def test_a_deadlock(db: Database, store: Store) -> None:
    """A statement that the database ends the transaction for raises that, and its objects go with the rollback."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            session.add_all([Document(id=n, name=str(n), file=file()) for n in (1, 2)])
            session.add_all([Folder(id=n) for n in range(1, 50)])
            session.commit()
            before = store.paths()
            with sessions() as other, ThreadPoolExecutor(1) as pool:
                # InnoDB ends the transaction that has written less.
                other.execute(update(Folder).values(id=Folder.id + 100))
                session.execute(select(Folder.id).where(Folder.id == 0))
                session.execute(update(Document).where(Document.id == 1).values(name="mine"))
                other.execute(update(Document).where(Document.id == 2).values(name="theirs"))
                waiting = pool.submit(other.execute, update(Document).where(Document.id == 1).values(name="both"))
                sleep(0.5)
                with pytest.raises(OperationalError, match=r"(?i)deadlock"):
                    session.execute(insert(Document).values(id=3, name="theirs", file=file(), pages=[]))
                session.rollback()
                waiting.result()
                other.rollback()
            assert store.paths() == before


def test_ordered_values(world: Database, store: Store) -> None:
    """Files in ordered_values() are stored, and not where no row is met; an SQL expression is refused."""

    @world
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            session.add(Document(id=1, file=file(b"old")))
            session.commit()
            for number, stored in ((1, 2), (7, 1)):
                one = update(Document).where(Document.id == number)
                session.execute(one.ordered_values((Document.file, file(b"new")), ("name", "x")))
                assert len(store) == stored
                session.commit()
            with pytest.raises(StateError, match="SQL expression"):
                session.execute(update(Document).ordered_values((Document.cover, Document.file)))
            assert read(session.get_one(Document, 1).file) == b"new"
            check(session, store)


def test_one_object_by_two_files(world: Database, store: Store) -> None:
    """Two FileObjects of one object are one file: a statement cannot give it to two columns."""

    @world
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            document = Document(id=1, file=file())
            session.add(document)
            session.commit()
            same = copy(document.file)
            with pytest.raises(OwnedFile, match="twice"):
                session.execute(update(Document).where(Document.id == 1).values(file=document.file, cover=same))
            session.rollback()
            check(session, store)


def test_inherited_columns(db: Database, store: Store) -> None:
    """Files of a table that the class inherits from are looked after as well as its own."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            session.execute(insert(Dog), [{"id": 1, "photo": file(b"photo"), "pedigree": file(b"pedigree")}])
            session.commit()
            assert read(session.get_one(Dog, 1).photo) == b"photo"
            deleted = file(backend="mem").save()
            deleted.delete()
            with pytest.raises(FileNotFoundError):
                session.execute(insert(Dog), [{"id": 2, "photo": deleted}])
            with pytest.raises(StateError, match="bulk UPDATE"):
                session.execute(update(Dog), [{"id": 1, "photo": None}])
            session.execute(update(Dog).where(Dog.id == 1).values(pedigree=None))
            session.commit()
            assert len(store) == 1


@pytest.mark.parametrize("prefix", ["OR IGNORE", "ignore", "OR REPLACE", "REPLACE"])
def test_lenient_insert_refuses(world: Database, store: Store, prefix: str) -> None:
    """An INSERT that may leave rows out or delete others is refused with files, and none of them is stored."""

    @world
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            with pytest.raises(StateError, match="IGNORE"):
                session.execute(insert(Document).prefix_with(prefix).values(file=file(), pages=[]))
            assert len(store) == 0
            if prefix.startswith("OR"):
                session.execute(insert(Document).prefix_with(prefix).values(name="x", pages=[]))
