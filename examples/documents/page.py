"""The page: what a browser needs beside the guide's application, put onto it.

Uploading, replacing and deleting are the guide's own handlers. Nobody logs in here, so serve it to yourself only.
"""

from pathlib import Path
from typing import Annotated

from advanced_alchemy.extensions.litestar import filters, service
from litestar import get
from litestar.params import Dependency
from litestar.response import File
from litestar.static_files import create_static_files_router
from pydantic import computed_field

from examples.documents.app import Document, DocumentController, DocumentModel, DocumentService, app

STATIC = Path(__file__).with_name("static")


class Listed(Document):
    """A document with what the page shows of its file; where the object lies is nobody's business."""

    @computed_field
    def filename(self) -> str | None:
        return self.file.filename if self.file else None

    @computed_field
    def content_type(self) -> str | None:
        return self.file.content_type if self.file else None

    @computed_field
    def size(self) -> int | None:
        """In bytes."""
        return self.file.size if self.file else None

    @computed_field
    def stored_at(self) -> float | None:
        """In seconds since the epoch, UTC."""
        return self.file.last_modified if self.file else None


@get("/", include_in_schema=False)
async def index() -> File:
    return File(STATIC / "index.html", filename="index.html", media_type="text/html", content_disposition_type="inline")


@get("/listing", dependencies=DocumentController.dependencies)
async def listing(
    documents_service: DocumentService,
    filters: Annotated[list[filters.FilterTypes], Dependency(skip_validation=True)],
) -> service.OffsetPagination[Listed]:
    """The documents, the latest file first."""
    newest = DocumentModel.file.last_modified.desc()
    results, total = await documents_service.list_and_count(*filters, order_by=[newest, (DocumentModel.id, False)])
    return documents_service.to_schema(results, total, filters=filters, schema_type=Listed)


for handler in (index, listing, create_static_files_router("/static", [STATIC], include_in_schema=False)):
    app.register(handler)
