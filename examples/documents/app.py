"""The "File Object Storage" application of Advanced Alchemy's Litestar guide, on lading.

The text is the guide's, word for word, in its `X | None` spelling and ruff's layout, but for:

- the imports: `FileObject`, `StoredObject`, `storages` and `ObstoreBackend` are lading's, and
  `litestar.plugins.sqlalchemy`, which is deprecated, is Advanced Alchemy's own module;
- the backend: `settings` says which, local disk unless told otherwise, and it has rules, so that there is something
  to refuse;
- the database: a file in the data directory;
- `Litestar(...)`: `LadingPlugin`, which serves signed URLs of stores that have none, and `request_max_body_size`, which
  is 10 MB by default.

What the guide does and another application need not: `content=await data.file.read()` holds the whole upload in
memory, where `content=data.file` would stream it. And a document without a file is offered by the schema, but not by
the column, so it is answered with 409.
"""

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
from litestar.datastructures import UploadFile
from litestar.enums import RequestEncodingType
from litestar.params import Body, Dependency
from pydantic import BaseModel, Field, computed_field
from sqlalchemy.orm import Mapped, mapped_column

from examples.documents import settings
from lading import FileObject, StoredObject, storages
from lading.backends.obstore import ObstoreBackend
from lading.litestar import LadingPlugin
from lading.rules import GB, MB, content_types, max_size

PROGRAMS = [
    "application/vnd.microsoft.portable-executable",
    "application/x-executable",
    "application/x-mach-binary",
    "text/x-shellscript",
]

# Configure file storage backend
backend = ObstoreBackend(
    key="local",
    fs=settings.STORE,
    rules=[max_size(500 * MB), content_types(deny=PROGRAMS)],
    **settings.STORE_OPTIONS,
)
storages.register_backend(backend)


# Model with file storage
class DocumentModel(base.UUIDBase):
    __tablename__ = "document"

    name: Mapped[str]
    file: Mapped[FileObject] = mapped_column(StoredObject(backend="local"))


# Schema with file URL generation
class Document(BaseModel):
    id: UUID | None = None
    name: str
    file: FileObject | None = Field(default=None, exclude=True)

    @computed_field
    def file_url(self) -> str | list[str] | None:
        if self.file is None:
            return None
        return self.file.sign()


# Schema for creating and updating documents
class CreateDocument(BaseModel):
    model_config = {"arbitrary_types_allowed": True}

    name: str
    file: UploadFile | None = None


class PatchDocument(BaseModel):
    model_config = {"arbitrary_types_allowed": True}

    name: str | None = None
    file: UploadFile | None = None


# Service
class DocumentService(service.SQLAlchemyAsyncRepositoryService[DocumentModel]):
    """Document repository."""

    class Repo(repository.SQLAlchemyAsyncRepository[DocumentModel]):
        """Document repository."""

        model_type = DocumentModel

    repository_type = Repo


# Controller with file handling
class DocumentController(Controller):
    path = "/documents"
    dependencies = providers.create_service_dependencies(
        DocumentService,
        "documents_service",
        load=[DocumentModel.file],
        filters={"pagination_type": "limit_offset", "id_filter": UUID, "search": "name", "search_ignore_case": True},
    )

    @get(path="/", response_model=service.OffsetPagination[Document])
    async def list_documents(
        self,
        documents_service: DocumentService,
        filters: Annotated[list[filters.FilterTypes], Dependency(skip_validation=True)],
    ) -> service.OffsetPagination[Document]:
        results, total = await documents_service.list_and_count(*filters)
        return documents_service.to_schema(results, total, filters=filters, schema_type=Document)

    @post(path="/")
    async def create_document(
        self,
        data: Annotated[CreateDocument, Body(media_type=RequestEncodingType.MULTI_PART)],
        documents_service: DocumentService,
    ) -> Document:
        obj = await documents_service.create(
            DocumentModel(
                name=data.name,
                file=FileObject(
                    backend="local",
                    filename=data.file.filename or "uploaded_file",
                    content_type=data.file.content_type,
                    content=await data.file.read(),
                )
                if data.file
                else None,
            )
        )
        return documents_service.to_schema(obj, schema_type=Document)

    @get(path="/{document_id:uuid}")
    async def get_document(
        self,
        documents_service: DocumentService,
        document_id: UUID,
    ) -> Document:
        obj = await documents_service.get(document_id)
        return documents_service.to_schema(obj, schema_type=Document)

    @patch(path="/{document_id:uuid}")
    async def update_document(
        self,
        document_id: UUID,
        data: Annotated[PatchDocument, Body(media_type=RequestEncodingType.MULTI_PART)],
        documents_service: DocumentService,
    ) -> Document:
        update_data: dict[str, Any] = {}
        if data.name:
            update_data["name"] = data.name
        if data.file:
            update_data["file"] = FileObject(
                backend="local",
                filename=data.file.filename or "uploaded_file",
                content_type=data.file.content_type,
                content=await data.file.read(),
            )

        obj = await documents_service.update(update_data, item_id=document_id)
        return documents_service.to_schema(obj, schema_type=Document)

    @delete(path="/{document_id:uuid}")
    async def delete_document(
        self,
        documents_service: DocumentService,
        document_id: UUID,
    ) -> None:
        _ = await documents_service.delete(document_id)


# Application setup
alchemy_config = SQLAlchemyAsyncConfig(
    connection_string=f"sqlite+aiosqlite:///{settings.DATA / 'documents.sqlite'}",
    session_config=AsyncSessionConfig(expire_on_commit=False),
    before_send_handler="autocommit",
    create_all=True,
)
app = Litestar(
    route_handlers=[DocumentController],
    plugins=[SQLAlchemyPlugin(config=alchemy_config), LadingPlugin(secret=settings.SECRET)],
    request_max_body_size=1 * GB,
)
