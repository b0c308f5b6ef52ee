"""The application that is attacked: every door of lading at once, on SQLite."""

from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from litestar import Litestar, get, post, put
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.enums import RequestEncodingType
from litestar.exceptions import NotAuthorizedException, NotFoundException, ValidationException
from litestar.handlers import BaseRouteHandler
from litestar.params import Body, FromPath, FromQuery, JSONBody
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from lading import FileObject, Storages, StoredObject
from lading.errors import ConfigurationError
from lading.litestar import DirectUploads, LadingConfig, LadingPlugin, UploadTo
from lading.litestar.downloads import Download
from lading.orm.outbox import Outbox
from lading.receiving import Pace
from lading.rules import KiB, content_types, max_size
from lading.sweeper import Sweeper

SECRET = "a secret of some length"
MOST = 256 * KiB
MOST_OF_A_PICTURE = 64 * KiB
storages = Storages()


class Base(DeclarativeBase):
    pass


class Document(Base):
    __tablename__ = "document"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    file: Mapped[FileObject] = mapped_column(StoredObject("store", storages=storages, rules=[max_size(MOST)]))
    pages: Mapped[list[FileObject]] = mapped_column(
        StoredObject("store", storages=storages, multiple=True, rules=[max_size(MOST)])
    )


class Picture(Base):
    __tablename__ = "picture"
    id: Mapped[int] = mapped_column(primary_key=True)
    image: Mapped[FileObject] = mapped_column(
        StoredObject("store", storages=storages, rules=[max_size(MOST_OF_A_PICTURE), content_types("image/*")])
    )


outbox = Outbox(Base.metadata, grace=timedelta(0))


class NewDocument(msgspec.Struct):
    name: str
    file: Annotated[FileObject, UploadTo(Document.file)]
    pages: Annotated[list[FileObject], UploadTo(Document.pages)] = []


class NewPicture(msgspec.Struct):
    image: Annotated[FileObject, UploadTo(Picture.image)]


class Created(msgspec.Struct):
    id: int
    file: FileObject
    url: str


Form = Body(media_type=RequestEncodingType.MULTI_PART)


@post("/documents")
async def create(data: Annotated[NewDocument, Form], session: NamedDependency[AsyncSession]) -> Created:
    return await _kept(session, data)


@post("/documents/attached")
async def create_attached(data: JSONBody[NewDocument], session: NamedDependency[AsyncSession]) -> Created:
    return await _kept(session, data)


@post("/pictures")
async def draw(data: Annotated[NewPicture, Form], session: NamedDependency[AsyncSession]) -> Created:
    return await _hung(session, data)


@post("/pictures/attached")
async def draw_attached(data: JSONBody[NewPicture], session: NamedDependency[AsyncSession]) -> Created:
    return await _hung(session, data)


@put("/documents/{document_id:int}/file", raises=[NotFoundException])
async def replace(
    document_id: FromPath[int],
    data: Annotated[FileObject, UploadTo(Document.file), Body(media_type="application/octet-stream")],
    session: NamedDependency[AsyncSession],
) -> Created:
    document = await _found(session, document_id)
    document.file = data
    await session.commit()
    return Created(document.id, document.file, await document.file.sign_async())


def known(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    if user_of(connection) is None:
        raise NotAuthorizedException


def user_of(connection: ASGIConnection[Any, Any, Any, Any]) -> str | None:
    user = connection.headers.get("x-user")
    return user if user in ("ann", "bob") else None


@get("/documents/{document_id:int}/file", guards=[known], raises=[NotAuthorizedException, NotFoundException])
async def read(document_id: FromPath[int], session: NamedDependency[AsyncSession]) -> Download:
    return Download((await _found(session, document_id)).file, disposition="inline")


@get("/documents/{document_id:int}/url", raises=[NotFoundException])
async def sign(
    document_id: FromPath[int],
    session: NamedDependency[AsyncSession],
    filename: FromQuery[str | None] = None,
    disposition: FromQuery[Literal["inline", "attachment"] | None] = None,
    content_type: FromQuery[str | None] = None,
    expires_in: FromQuery[int] = 3600,
) -> dict[str, str]:
    file = (await _found(session, document_id)).file
    options: dict[str, Any] = {"filename": filename, "disposition": disposition, "content_type": content_type}
    try:
        return {"url": await file.sign_async(expires_in=expires_in, **options)}
    except ConfigurationError as error:  # clients have no say in these elsewhere
        raise ValidationException(str(error)) from None


async def _kept(session: AsyncSession, data: NewDocument) -> Created:
    document = Document(name=data.name, file=data.file, pages=data.pages)
    session.add(document)
    await session.commit()
    return Created(document.id, document.file, await document.file.sign_async())


async def _hung(session: AsyncSession, data: NewPicture) -> Created:
    picture = Picture(image=data.image)
    session.add(picture)
    await session.commit()
    return Created(picture.id, picture.image, await picture.image.sign_async())


async def _found(session: AsyncSession, document_id: int) -> Document:
    document = await session.get(Document, document_id) if abs(document_id) < 2**63 else None
    if document is None:
        raise NotFoundException
    return document


async def _session(state: State) -> AsyncGenerator[AsyncSession, None]:
    async with AsyncSession(state.engine, expire_on_commit=False) as session:
        yield session


def make_app(
    database: Path, *, pace: Pace | None = None, sweep_every: timedelta = timedelta(hours=1), **options: Any
) -> Litestar:
    """An application on that database; the store is registered by whoever makes it.

    Args:
        database: a file of SQLite, with its tables.
        pace: how slowly a body may come.
        sweep_every: the time between two drains.
        options: of `Litestar`.
    """
    engine = create_async_engine(f"sqlite+aiosqlite:///{database}", connect_args={"timeout": 30})

    @event.listens_for(engine.sync_engine, "connect")
    def hurry(connection: Any, _: object) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    config = LadingConfig(
        SECRET,
        storages=storages,
        columns=[Document.file, Document.pages, Picture.image],
        direct_uploads=DirectUploads(guards=[known], principal=user_of, expires_in=600),
        pace=pace or Pace(),
        sweeper=Sweeper(engine, Base.metadata),
        sweep_every=sweep_every,
    )
    return Litestar(
        [create, create_attached, draw, draw_attached, replace, read, sign],
        plugins=[LadingPlugin(config)],
        dependencies={"session": Provide(_session)},
        state=State({"engine": engine}),
        on_shutdown=[engine.dispose],
        # Litestar's logging would take pytest's handler away.
        logging_config=None,
        **options,
    )
