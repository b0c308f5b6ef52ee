"""Documents with files: what a Litestar application on Advanced Alchemy says of its files, and all that it says.

The column says what a document's file may be. That holds for forms, whose files go to the store as they arrive, for
direct uploads, which go to the store without coming by here, and for the page, which asks and refuses early.

Nobody logs in here: whoever reaches the application may do everything. `page` puts a page before it.
"""

from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

from advanced_alchemy.extensions.litestar import (
    AsyncSessionConfig,
    SQLAlchemyAsyncConfig,
    SQLAlchemyPlugin,
    base,
    filters,
    providers,
    repository,
    service,
)
from litestar import Controller, Litestar, delete, get, patch, post
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.exceptions import PermissionDeniedException
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, MultipartBody, SkipValidation
from pydantic import BaseModel, Field, computed_field
from sqlalchemy.orm import Mapped, mapped_column

from examples.documents import settings
from lading import FileObject, Outbox, StoredObject, storages
from lading.backends.obstore import ObstoreBackend
from lading.litestar import DirectUploads, Download, LadingConfig, LadingPlugin, UploadTo
from lading.rules import MB, content_types, extensions, max_size
from lading.sweeper import Sweeper

PICTURES = ["avif", "gif", "jpeg", "jpg", "png", "svg", "webp"]
RECORDINGS = ["m4a", "mov", "mp3", "mp4", "ogg", "wav", "webm"]
PAPERS = ["csv", "docx", "html", "json", "md", "odp", "ods", "odt", "pdf", "pptx", "txt", "xlsx", "zip"]

# What a file is called is for its owner to say; what it is, is looked up in its first bytes.
PROGRAMS = [
    "application/vnd.microsoft.portable-executable",
    "application/x-executable",
    "application/x-mach-binary",
    "text/x-shellscript",
]

storages.register_backend(ObstoreBackend(key="local", fs=settings.STORE, **settings.STORE_OPTIONS))


class DocumentModel(base.UUIDBase):
    __tablename__ = "document"
    # An outbox is for all tables of its metadata; these are none of another application's in the same process.
    __bind_key__ = "documents"

    name: Mapped[str]
    file: Mapped[FileObject] = mapped_column(
        StoredObject(
            backend="local",
            rules=[max_size(500 * MB), extensions(*PICTURES, *RECORDINGS, *PAPERS), content_types(deny=PROGRAMS)],
        )
    )


# Without a grace what a document lets go of is deleted with the commit, so that one can watch the directory. With one,
# a person who has opened a film can see it to its end when somebody else deletes it.
Outbox(DocumentModel.metadata, grace=timedelta(0))


class Document(BaseModel):
    """What a client is told of a document; where its object lies is nobody's business."""

    id: UUID
    name: str
    file: FileObject = Field(exclude=True)

    @computed_field
    def file_url(self) -> str:
        """Good for an hour: for what shows a file. `/documents/{id}/file` stays, and is for links."""
        return self.file.sign()

    @computed_field
    def filename(self) -> str:
        return self.file.filename

    @computed_field
    def content_type(self) -> str | None:
        return self.file.content_type

    @computed_field
    def size(self) -> int | None:
        """In bytes."""
        return self.file.size

    @computed_field
    def checksum(self) -> str | None:
        """`sha256:` and 64 hexadecimal digits."""
        return self.file.checksum

    @computed_field
    def stored_at(self) -> float | None:
        """In seconds since the epoch, UTC."""
        return self.file.last_modified


class CreateDocument(BaseModel):
    """A form: its file is an uploaded file, which is in the store when the handler begins, or a direct upload's id."""

    name: str = Field(min_length=1, max_length=255)
    file: Annotated[FileObject, UploadTo(DocumentModel.file)]


class PatchDocument(BaseModel):
    name: str | None = Field(default=None, min_length=1, max_length=255)
    file: Annotated[FileObject | None, UploadTo(DocumentModel.file)] = None


class DocumentService(service.SQLAlchemyAsyncRepositoryService[DocumentModel]):
    """Documents in the database."""

    class Repo(repository.SQLAlchemyAsyncRepository[DocumentModel]):
        model_type = DocumentModel

    repository_type = Repo


class DocumentController(Controller):
    path = "/documents"
    dependencies = providers.create_service_dependencies(
        DocumentService,
        "documents_service",
        filters={"pagination_type": "limit_offset", "id_filter": UUID, "search": "name", "search_ignore_case": True},
    )

    @get("/")
    async def list_documents(
        self,
        documents_service: NamedDependency[DocumentService],
        filters: NamedDependency[SkipValidation[list[filters.FilterTypes]]],
    ) -> service.OffsetPagination[Document]:
        """The documents, the latest file first."""
        newest = DocumentModel.file.last_modified.desc()
        results, total = await documents_service.get_many_and_count(
            *filters, order_by=[newest, (DocumentModel.id, False)]
        )
        return documents_service.to_schema(results, total, filters=filters, schema_type=Document)

    @post("/")
    async def create_document(
        self,
        data: MultipartBody[CreateDocument],
        documents_service: NamedDependency[DocumentService],
    ) -> Document:
        document = await documents_service.create(DocumentModel(name=data.name, file=data.file))
        return documents_service.to_schema(document, schema_type=Document)

    @get("/{document_id:uuid}")
    async def get_document(
        self, documents_service: NamedDependency[DocumentService], document_id: FromPath[UUID]
    ) -> Document:
        return documents_service.to_schema(await documents_service.get(document_id), schema_type=Document)

    @get("/{document_id:uuid}/file")
    async def get_file(
        self, documents_service: NamedDependency[DocumentService], document_id: FromPath[UUID]
    ) -> Download:
        """The file itself, at an address that stays, behind whatever guards this controller has."""
        return Download((await documents_service.get(document_id)).file)

    @patch("/{document_id:uuid}")
    async def update_document(
        self,
        document_id: FromPath[UUID],
        data: MultipartBody[PatchDocument],
        documents_service: NamedDependency[DocumentService],
    ) -> Document:
        given: dict[str, Any] = {"name": data.name, "file": data.file}
        changes = {name: value for name, value in given.items() if value is not None}
        document = await documents_service.update(changes, item_id=document_id)
        return documents_service.to_schema(document, schema_type=Document)

    @delete("/{document_id:uuid}")
    async def delete_document(
        self, documents_service: NamedDependency[DocumentService], document_id: FromPath[UUID]
    ) -> None:
        await documents_service.delete(document_id)


VISITOR = "visitor"
"""The cookie that the page sets."""


def visited(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Let in who has the page's cookie: other sites' pages have not, and the browser does not send it for them.

    That is all that a demonstration without users can ask, and it keeps no stranger out. An application has its own
    guard here, the one that its forms have: who may create a document may upload a file.
    """
    if VISITOR not in connection.cookies:
        raise PermissionDeniedException("Open the page first: it says who you are.")


def visitor(connection: ASGIConnection[Any, Any, Any, Any]) -> str | None:
    """Whom the id of an upload serves. An application has its user here: `str(connection.user.id)`."""
    return connection.cookies.get(VISITOR)


alchemy_config = SQLAlchemyAsyncConfig(
    connection_string=f"sqlite+aiosqlite:///{settings.DATA / 'documents.sqlite'}",
    session_config=AsyncSessionConfig(expire_on_commit=False),
    before_send_handler="autocommit",
    create_all=True,
    bind_key="documents",
)
lading_config = LadingConfig(
    settings.SECRET,
    columns=[DocumentModel.file],
    direct_uploads=DirectUploads(guards=[visited], principal=visitor, trust_endpoint=settings.TRUST_ENDPOINT),
    sweeper=Sweeper(alchemy_config.get_engine(), DocumentModel.metadata),
)
app = Litestar(
    route_handlers=[DocumentController],
    plugins=[SQLAlchemyPlugin(config=alchemy_config), LadingPlugin(lading_config)],
)
