"""The book management service of Advanced Alchemy's Litestar guide, with files: authors have a photo, books have scans.

Models, repositories, services, filters, providers, DTOs, sessions and migrations are Advanced Alchemy's. Of lading
there are two columns, one backend and one plugin; none of the rest has to know about them. Where the guide's text does
not run as it is written:

- `Mapped[list[BookModel]]` names a class that comes later: it is quoted here. `books` also deletes its orphans, or an
  author of books could not be deleted;
- `@authors_router.get("/")` is no method of Litestar's `Router`, so there is a `Controller` for each model;
- `ServerSideSessionConfig` has no `secret`, and `session_config.middleware` would not know the backend: the session
  middleware is given its backend here. It writes on a connection of its own before the request's transaction is
  committed, which locks SQLite, so only the routes that need it have it;
- `litestar.plugins.sqlalchemy` is deprecated: the same names come from Advanced Alchemy.
"""

import datetime
import os
import secrets
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

from advanced_alchemy.extensions.litestar import (
    AlembicAsyncConfig,
    AsyncSessionConfig,
    SQLAlchemyAsyncConfig,
    SQLAlchemyDTO,
    SQLAlchemyDTOConfig,
    SQLAlchemyPlugin,
    base,
    filters,
    providers,
    repository,
    service,
)
from advanced_alchemy.extensions.litestar.session import SessionModelMixin, SQLAlchemyAsyncSessionBackend
from litestar import Controller, Litestar, Request, delete, get, patch, post, put
from litestar.datastructures import UploadFile
from litestar.di import Provide
from litestar.enums import RequestEncodingType
from litestar.middleware import DefineMiddleware
from litestar.middleware.session import SessionMiddleware
from litestar.middleware.session.server_side import ServerSideSessionConfig
from litestar.params import Body, Dependency, Parameter
from pydantic import BaseModel, Field, computed_field
from sqlalchemy import ForeignKey, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column, relationship

from lading import FileObject, StoredObject, storages
from lading.litestar import LadingConfig, LadingPlugin
from lading.rules import MB, content_types, max_size

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("LADING_EXAMPLE_DATA") or HERE / "data").resolve()
DATA.mkdir(parents=True, exist_ok=True)

storages.register_backend((DATA / "files").as_uri(), key="library")

# models


class AuthorModel(base.UUIDBase):
    __tablename__ = "author"
    name: Mapped[str]
    dob: Mapped[datetime.date | None]
    photo: Mapped[FileObject | None] = mapped_column(
        StoredObject(backend="library", rules=[content_types("image/*"), max_size(5 * MB)])
    )
    books: Mapped[list["BookModel"]] = relationship(
        back_populates="author", lazy="selectin", cascade="all, delete-orphan"
    )


class BookModel(base.UUIDAuditBase):
    __tablename__ = "book"
    title: Mapped[str]
    scans: Mapped[list[FileObject]] = mapped_column(StoredObject(backend="library", multiple=True))
    author_id: Mapped[UUID] = mapped_column(ForeignKey("author.id"))
    author: Mapped[AuthorModel] = relationship(lazy="joined", innerjoin=True, viewonly=True)


class UserSession(SessionModelMixin):
    __tablename__ = "user_sessions"


# schemas


class Author(BaseModel):
    """Author response schema."""

    id: UUID | None = None
    name: str
    dob: datetime.date | None = None
    photo: FileObject | None = Field(default=None, exclude=True)

    @computed_field
    def photo_url(self) -> str | None:
        return self.photo.sign() if self.photo else None


class AuthorCreate(BaseModel):
    """Schema for creating authors."""

    name: str
    dob: datetime.date | None = None


class AuthorUpdate(BaseModel):
    """Schema for updating authors."""

    name: str | None = None
    dob: datetime.date | None = None


class BookDTO(SQLAlchemyDTO[BookModel]):
    """A book as it is read: its scans are the records of its files."""

    config = SQLAlchemyDTOConfig(exclude={"author"})


class BookWriteDTO(SQLAlchemyDTO[BookModel]):
    """A book as a client writes it: files come by upload, never by name."""

    config = SQLAlchemyDTOConfig(include={"title", "author_id"})


# a service, with filters


class AuthorService(service.SQLAlchemyAsyncRepositoryService[AuthorModel]):
    """Author service."""

    class Repo(repository.SQLAlchemyAsyncRepository[AuthorModel]):
        """Author repository."""

        model_type = AuthorModel

    repository_type = Repo


class AuthorController(Controller):
    """Author CRUD endpoints."""

    dependencies = providers.create_service_dependencies(
        AuthorService,
        "authors_service",
        load=[AuthorModel.books],
        filters={"pagination_type": "limit_offset", "id_filter": UUID, "search": "name", "search_ignore_case": True},
    )

    @get(path="/authors")
    async def list_authors(
        self,
        authors_service: AuthorService,
        filters: Annotated[list[filters.FilterTypes], Dependency(skip_validation=True)],
    ) -> service.OffsetPagination[Author]:
        """List all authors with pagination."""
        results, total = await authors_service.list_and_count(*filters)
        return authors_service.to_schema(results, total, filters=filters, schema_type=Author)

    @post(path="/authors")
    async def create_author(self, authors_service: AuthorService, data: AuthorCreate) -> Author:
        """Create a new author."""
        obj = await authors_service.create(data)
        return authors_service.to_schema(obj, schema_type=Author)

    @get(path="/authors/{author_id:uuid}")
    async def get_author(
        self,
        authors_service: AuthorService,
        author_id: UUID = Parameter(title="Author ID", description="The author to retrieve."),
    ) -> Author:
        """Get an existing author."""
        obj = await authors_service.get(author_id)
        return authors_service.to_schema(obj, schema_type=Author)

    @patch(path="/authors/{author_id:uuid}")
    async def update_author(
        self,
        authors_service: AuthorService,
        data: AuthorUpdate,
        author_id: UUID = Parameter(title="Author ID", description="The author to update."),
    ) -> Author:
        """Update an author."""
        obj = await authors_service.update(data, item_id=author_id, auto_commit=True)
        return authors_service.to_schema(obj, schema_type=Author)

    @put(path="/authors/{author_id:uuid}/photo", request_max_body_size=6 * MB)
    async def set_photo(
        self,
        authors_service: AuthorService,
        author_id: UUID,
        data: Annotated[UploadFile, Body(media_type=RequestEncodingType.MULTI_PART)],
    ) -> Author:
        """Give an author a photo; the one before is deleted when this is committed."""
        obj = await authors_service.update({"photo": FileObject.from_upload(data)}, item_id=author_id)
        return authors_service.to_schema(obj, schema_type=Author)

    @delete(path="/authors/{author_id:uuid}/photo")
    async def remove_photo(self, authors_service: AuthorService, author_id: UUID) -> None:
        """Take an author's photo away."""
        author = await authors_service.get(author_id)
        author.photo = None

    @delete(path="/authors/{author_id:uuid}")
    async def delete_author(
        self,
        authors_service: AuthorService,
        author_id: UUID = Parameter(title="Author ID", description="The author to delete."),
    ) -> None:
        """Delete an author from the system, with books and all files."""
        _ = await authors_service.delete(author_id)


# a repository without a service, and DTOs


class BookRepository(repository.SQLAlchemyAsyncRepository[BookModel]):
    """Book repository."""

    model_type = BookModel


async def provide_books_repo(db_session: AsyncSession) -> BookRepository:
    """This provides the default Books repository."""
    return BookRepository(session=db_session)


class BookController(Controller):
    """Book endpoints, by the repository-only pattern."""

    path = "/books"
    return_dto = BookDTO
    dependencies = {"books_repo": Provide(provide_books_repo)}

    @post(dto=BookWriteDTO)
    async def create_book(self, books_repo: BookRepository, data: BookModel) -> BookModel:
        """Create a book without scans."""
        return await books_repo.add(data, auto_refresh=True)

    @get(path="/{book_id:uuid}")
    async def get_book(self, books_repo: BookRepository, book_id: UUID) -> BookModel:
        """Get a book with its scans."""
        return await books_repo.get(book_id)

    @post(path="/{book_id:uuid}/scans", request_max_body_size=100 * MB)
    async def add_scans(
        self,
        books_repo: BookRepository,
        book_id: UUID,
        data: Annotated[list[UploadFile], Body(media_type=RequestEncodingType.MULTI_PART)],
    ) -> BookModel:
        """Add scans, behind those that are there."""
        book = await books_repo.get(book_id)
        book.scans.extend(FileObject.from_upload(upload) for upload in data)
        await books_repo.session.flush()  # the response is made before the commit, and shows stored files
        return book

    @delete(path="/{book_id:uuid}/scans/{index:int}", status_code=200)
    async def remove_scan(self, books_repo: BookRepository, book_id: UUID, index: int) -> BookModel:
        """Remove one scan; the commit deletes its object."""
        book = await books_repo.get(book_id)
        del book.scans[index]
        return book


# a session by itself


@get("/latest-scan")
async def latest_scan(db_session: AsyncSession) -> dict[str, Any]:
    """The record of the last scan of the book that was last changed."""
    book = (await db_session.scalars(select(BookModel).order_by(BookModel.updated_at.desc()).limit(1))).first()
    return book.scans[-1].to_dict() if book and book.scans else {}


alchemy_config = SQLAlchemyAsyncConfig(
    connection_string=f"sqlite+aiosqlite:///{DATA / 'library.sqlite'}",
    before_send_handler="autocommit",
    session_config=AsyncSessionConfig(expire_on_commit=False),
    alembic_config=AlembicAsyncConfig(script_location=str(HERE / "migrations")),
    create_all=True,
)

# server-side sessions, kept in the same database

session_backend = SQLAlchemyAsyncSessionBackend(
    config=ServerSideSessionConfig(max_age=3600),
    alchemy_config=alchemy_config,
    model=UserSession,
)
sessions = DefineMiddleware(SessionMiddleware, backend=session_backend)


@get("/last-read", middleware=[sessions])
async def last_read(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """What this visitor read last."""
    return {"book": request.session.get("book")}


@post("/last-read/{book_id:uuid}", middleware=[sessions])
async def read(request: Request[Any, Any, Any], book_id: UUID) -> dict[str, Any]:
    """Remember it."""
    request.set_session({"book": str(book_id)})
    return {"book": str(book_id)}


app = Litestar(
    route_handlers=[AuthorController, BookController, latest_scan, last_read, read],
    plugins=[SQLAlchemyPlugin(config=alchemy_config), LadingPlugin(LadingConfig(secrets.token_bytes(32)))],
)
