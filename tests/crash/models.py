"""The tables that scenarios write: the same three times, with an outbox and triggers, and without."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column, relationship

from lading import FileObject, Storages, StoredObject
from lading.orm.outbox import Outbox
from lading.source import Content

registry = Storages()


class Guarded(DeclarativeBase):
    """With an outbox and triggers: objects go when a sweeper comes, some minutes later."""


class Prompt(DeclarativeBase):
    """The same, but the session itself drains the outbox after its commit."""


class Bare(DeclarativeBase):
    """Without an outbox."""


class _Document:
    __tablename__ = "document"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(String(50), unique=True)
    file: Mapped[FileObject | None] = mapped_column(StoredObject("files", storages=registry))
    cover: Mapped[FileObject | None] = mapped_column(StoredObject("covers", storages=registry))
    pages: Mapped[list[FileObject]] = mapped_column(StoredObject("files", multiple=True, storages=registry))

    @declared_attr
    def folder_id(cls) -> Mapped[int | None]:  # noqa: N805
        return mapped_column(ForeignKey("folder.id"))


class _Folder:
    __tablename__ = "folder"
    id: Mapped[int] = mapped_column(primary_key=True)

    @declared_attr
    def documents(cls) -> Mapped[list[Any]]:  # noqa: N805
        return relationship("Document", cascade="all, delete-orphan")

    @declared_attr
    def notes(cls) -> Mapped[list[Any]]:  # noqa: N805
        return relationship("Note", passive_deletes=True)


class _Note:
    """Deleted by the database with its folder."""

    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    file: Mapped[FileObject | None] = mapped_column(StoredObject("files", storages=registry))

    @declared_attr
    def folder_id(cls) -> Mapped[int | None]:  # noqa: N805
        return mapped_column(ForeignKey("folder.id", ondelete="CASCADE"))


class Models:
    """The classes on one base; another process finds them by the name that they have here."""

    def __init__(self, name: str, base: type[DeclarativeBase]) -> None:
        self.name = name
        self.metadata = base.metadata
        self.Document: Any = type("Document", (_Document, base), {})
        self.Folder: Any = type("Folder", (_Folder, base), {})
        self.Note: Any = type("Note", (_Note, base), {})
        base.registry.configure()

    def __reduce__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return self.name


Outbox(Guarded.metadata)
Outbox(Prompt.metadata, grace=timedelta(0))
guarded = Models("guarded", Guarded)
prompt = Models("prompt", Prompt)
bare = Models("bare", Bare)


def file(content: Content = b"content", filename: str = "a.txt", **more: Any) -> FileObject:
    return FileObject(filename=filename, content=content, storages=registry, **more)


def files(*contents: bytes) -> Sequence[FileObject]:
    return [file(content) for content in contents]
