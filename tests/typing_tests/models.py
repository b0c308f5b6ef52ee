"""What must and must not type-check about `StoredObject` columns; mypy and pyright read this, nothing runs it."""

from typing import assert_type

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from lading import FileObject, StoredObject
from lading.backends.obstore import ObstoreBackend
from lading.paths import by_date
from lading.rules import content_types, max_size


class Base(DeclarativeBase):
    pass


class Document(Base):
    __tablename__ = "document"

    id: Mapped[int] = mapped_column(primary_key=True)
    file: Mapped[FileObject] = mapped_column(StoredObject(backend="local"))
    cover: Mapped[FileObject | None] = mapped_column(StoredObject("local", rules=[max_size(5)], path=by_date()))
    pages: Mapped[list[FileObject]] = mapped_column(StoredObject(backend="local", multiple=True))
    scan: Mapped[FileObject | None] = mapped_column(
        StoredObject(ObstoreBackend("own", "memory://"), rules=(content_types("image/*"),)), nullable=True
    )

    other: Mapped[FileObject] = mapped_column(StoredObject(rules=max_size(5)))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    another: Mapped[FileObject] = mapped_column(StoredObject(backend=5))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def using(document: Document, session: Session) -> None:
    assert_type(document.file, FileObject)
    assert_type(document.cover, FileObject | None)
    document.cover.sign()  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
    assert_type(document.pages, list[FileObject])
    document.file = FileObject(content=b"x")
    document.cover = None
    document.pages = [FileObject(content=b"x")]
    document.pages.append(FileObject(content=b"x"))
    document.pages[0].sign()
    assert_type(session.scalars(select(Document.file)).one(), FileObject)

    document.file = None  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    document.file = b"x"  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    document.pages.append("a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    document.pages = FileObject()  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]


async def using_async(session: AsyncSession) -> None:
    documents = await session.scalars(select(Document).where(Document.file.is_not(None)))
    assert_type([await document.file.sign_async() for document in documents], list[str])
