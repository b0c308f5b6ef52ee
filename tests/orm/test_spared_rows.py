"""Rows that a flush was to delete, and that are there still: their objects stay."""

import pytest
from sqlalchemy import text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.orm.exc import StaleDataError

from lading import FileObject, StoredObject
from lading.errors import StateError
from tests.orm.conftest import Database, Sessions, Store, on
from tests.orm.models import Document, file, read, registry

KEEP = {
    "sqlite": ["CREATE TRIGGER spare BEFORE DELETE ON document WHEN OLD.id = 1 BEGIN SELECT RAISE(IGNORE); END"],
    "postgresql": [
        "CREATE FUNCTION spare() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
        "CREATE TRIGGER spare BEFORE DELETE ON document FOR EACH ROW WHEN (OLD.id = 1) EXECUTE FUNCTION spare()",
    ],
}


class Base(DeclarativeBase):
    pass


class Versioned(Base):
    __tablename__ = "versioned"
    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column()
    file: Mapped[FileObject | None] = mapped_column(StoredObject("mem", storages=registry))
    __mapper_args__ = {"version_id_col": version}


@on("sqlite", "postgresql")
@pytest.mark.filterwarnings("ignore:DELETE statement on table")
def test_a_trigger_that_spares_a_row(db: Database, store: Store) -> None:
    """A row that the database does not delete keeps its object; that of another is gone."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            for statement in KEEP[db.name]:
                session.execute(text(statement))
            documents = [Document(id=number, file=file(str(number).encode())) for number in (1, 2)]
            session.add_all(documents)
            session.commit()
            for document in documents:
                session.delete(document)
            session.commit()
            assert read(session.get_one(Document, 1).file) == b"1"
            assert len(store) == 1


@on("sqlite", "postgresql")
@pytest.mark.filterwarnings("ignore:DELETE statement on table")
def test_a_row_whose_file_was_moved(db: Database, store: Store) -> None:
    """A row that the database does not delete although its file goes to another is refused: two would name one."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            for statement in KEEP[db.name]:
                session.execute(text(statement))
            first = Document(id=1, file=file(b"1"))
            session.add(first)
            session.commit()
            session.add(Document(id=2, file=first.file))
            session.delete(first)
            with pytest.raises(StateError, match="did not delete"):
                session.commit()
            session.rollback()
            assert read(session.get_one(Document, 1).file) == b"1"
            assert session.get(Document, 2) is None


def test_an_old_version_among_many(db: Database, store: Store) -> None:
    """Of several versioned rows one has changed: that is raised on every driver, and no row and no object goes."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            Base.metadata.create_all(session.get_bind())
            rows = [Versioned(id=number, file=file(str(number).encode())) for number in (1, 2)]
            session.add_all(rows)
            session.commit()
            assert [row.version for row in rows] == [1, 1]
            session.execute(text("UPDATE versioned SET version = 2 WHERE id = 2"))
            for row in rows:
                session.delete(row)
            with pytest.raises(StaleDataError):
                session.commit()
            session.rollback()
            assert [read(session.get_one(Versioned, number).file) for number in (1, 2)] == [b"1", b"2"]
