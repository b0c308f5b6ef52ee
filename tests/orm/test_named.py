"""What a row names is found by the identity of its instance, however its tables are made."""

from typing import Any

import pytest
from sqlalchemy import Column, ForeignKeyConstraint, Integer, MetaData, Table, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.orm import registry as Mappers  # noqa: N812  # there is a registry of storages, too

from lading import FileObject, StoredObject
from tests.orm.conftest import Database, Sessions, Store
from tests.orm.models import Document, file, read, registry
from tests.orm.test_lifecycle import check


class Odd(DeclarativeBase):
    pass


class Place(Odd):
    __tablename__ = "place"
    x: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    y: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[int]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": 0}


class Picture(Place):
    __tablename__ = "picture"
    y: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    x: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    file: Mapped[FileObject | None] = mapped_column(StoredObject("mem", storages=registry))
    __table_args__ = (ForeignKeyConstraint(["x", "y"], ["place.x", "place.y"]),)
    __mapper_args__ = {"polymorphic_identity": 1}


class Town(Place):
    __tablename__ = "town"
    town_x: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    town_y: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    file: Mapped[FileObject | None] = mapped_column(StoredObject("mem", storages=registry))
    __table_args__ = (ForeignKeyConstraint(["town_x", "town_y"], ["place.x", "place.y"]),)
    __mapper_args__ = {"polymorphic_identity": 2}


class Keyless(Odd):
    __table__ = Table(
        "keyless", Odd.metadata, Column("id", Integer), Column("file", StoredObject("mem", storages=registry))
    )
    __mapper_args__ = {"primary_key": [__table__.c.id]}
    __allow_unmapped__ = True
    id: Any
    file: Any


def named(session: Session, model: Any) -> dict[Any, bytes]:
    return {(row.x, row.y): read(row.file) for row in session.scalars(select(model)) if row.file is not None}


@pytest.mark.parametrize("model", [Picture, Town])
def test_keys_in_another_order(db: Database, store: Store, model: Any) -> None:
    """A subclass whose table has its key in another order, or by other names, does not mistake one row for another."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            Odd.metadata.create_all(session.connection())
            session.add_all([model(x=1, y=2, file=file(b"12")), model(x=2, y=1, file=file(b"21"))])
            session.commit()
            session.get_one(model, (1, 2)).file = file(b"new")
            session.commit()
            assert named(session, model) == {(1, 2): b"new", (2, 1): b"21"}
            assert len(store) == 2
            session.delete(session.get_one(model, (2, 1)))
            session.commit()
            assert named(session, model) == {(1, 2): b"new"}
            assert len(store) == 1


def test_key_of_the_mapper(db: Database, store: Store) -> None:
    """A table without a primary key is asked by that of its mapper."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            Odd.metadata.create_all(session.connection())
            rows = [Keyless(id=1, file=file(b"1")), Keyless(id=2, file=file(b"2"))]
            session.add_all(rows)
            session.commit()
            rows[0].file, rows[1].file = file(b"new"), None
            session.commit()
            assert read(rows[0].file) == b"new"
            assert len(store) == 1


def test_key_of_another_type(world: Database, store: Store) -> None:
    """A key that the database gives back as another type is still that of its instance."""

    @world
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            documents = [Document(id="5", file=file()), Document(id="6", file=file())]
            session.add_all(documents)
            session.commit()
            for document in documents:
                document.file = file(b"new")
            session.commit()
            check(session, store)
            for document in documents:
                session.delete(document)
            session.commit()
            assert len(store) == 0


def test_a_class_mapped_again(world: Database, store: Store) -> None:
    """A class that is mapped anew has its files looked after anew."""

    class Plain:
        id: int
        file: FileObject

    table = Table(
        "plain",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("file", StoredObject("mem", storages=registry)),
    )

    @world
    def scenario(sessions: Sessions) -> None:
        for _ in range(2):
            mappers = Mappers()
            mappers.map_imperatively(Plain, table)
            with sessions() as session:
                table.create(session.connection(), checkfirst=True)
                plain = Plain()
                plain.file = file()
                session.add(plain)
                session.commit()
                assert read(plain.file) == b"content"
            mappers.dispose()
        assert len(store) == 2
