"""The models that the ORM tests share."""

from typing import Any

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from lading import FileObject, Storages, StoredObject
from lading.rules import max_size

registry = Storages()


def file(content: bytes = b"content", filename: str = "a.txt", **more: Any) -> FileObject:
    return FileObject(filename=filename, content=content, storages=registry, **more)


def read(stored: FileObject | None) -> bytes:
    """What lies in the store of a file that must be there."""
    assert stored is not None
    return stored.get_content()


class Base(DeclarativeBase):
    pass


class Document(Base):
    __tablename__ = "document"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(String(50), unique=True)
    file: Mapped[FileObject | None] = mapped_column(StoredObject(backend="mem", storages=registry))
    cover: Mapped[FileObject | None] = mapped_column(StoredObject(backend="mem", storages=registry))
    pages: Mapped[list[FileObject]] = mapped_column(StoredObject(backend="mem", multiple=True, storages=registry))
    folder_id: Mapped[int | None] = mapped_column(ForeignKey("folder.id"))


class Folder(Base):
    __tablename__ = "folder"
    id: Mapped[int] = mapped_column(primary_key=True)
    documents: Mapped[list[Document]] = relationship(cascade="all, delete-orphan")


class Limited(Base):
    __tablename__ = "limited"
    id: Mapped[int] = mapped_column(primary_key=True)
    file: Mapped[FileObject | None] = mapped_column(StoredObject("mem", rules=[max_size(10)], storages=registry))


class Animal(Base):
    __tablename__ = "animal"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    photo: Mapped[FileObject | None] = mapped_column(StoredObject("mem", storages=registry))
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}


class Dog(Animal):
    __tablename__ = "dog"
    id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
    pedigree: Mapped[FileObject | None] = mapped_column(StoredObject("mem", storages=registry))
    __mapper_args__ = {"polymorphic_identity": "dog"}


class Cat(Animal):
    toy: Mapped[FileObject | None] = mapped_column(StoredObject("mem", storages=registry), nullable=True)
    __mapper_args__ = {"polymorphic_identity": "cat"}
