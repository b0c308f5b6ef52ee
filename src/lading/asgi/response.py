"""A file as the response of a handler."""

import msgspec

from lading.asgi.reading import reading
from lading.asgi.reply import Application, Receive, Reply, Scope
from lading.file import FileObject
from lading.ops.read import size_of
from lading.record import Disposition
from lading.serving import Embedding, Representation, entity_tag
from lading.worlds import asyncio_world


class FileResponse(Application):
    """A stored file as an ASGI application: for a handler to return, so that the application's guards stand before it.

    It answers `GET` with the file, its ranges and its conditions, `HEAD` with what it would say to `GET`, and any other
    method with the whole file. What fails before the answer begins is answered with a problem document: 404 where the
    object is missing, 503 where the store fails.

    Args:
        file: a stored file.
        disposition: `"attachment"` to have it saved, `"inline"` to have it shown. What browsers would run is saved all
            the same, as is what they do not show.
        filename: what the user is to call it; by default what the record says.
        content_type: what to serve it as; by default what the record says.
        cache_control: what caches may do. By default the client keeps it and asks each time whether it may use it, so
            that the guards are asked, too.
        embedding: whose pages may show it within them. By default those of this site, since other sites have no
            business with what a cookie opens.
        separate_origin: whether nothing but files is served at the origin of this request, so that what browsers run
            may be `"inline"` there.

    Raises:
        PendingFile: the file is not stored.
    """

    def __init__(
        self,
        file: FileObject,
        *,
        disposition: Disposition | None = None,
        filename: str | None = None,
        content_type: str | None = None,
        cache_control: str = "private, no-cache",
        embedding: Embedding = "same-site",
        separate_origin: bool = False,
    ) -> None:
        record = file.record
        self._file = file
        self._what = Representation(
            size=record.size or 0,
            content_type=content_type or record.content_type,
            filename=filename or record.filename,
            etag=entity_tag(record.checksum, record.etag),
            last_modified=record.last_modified,
            disposition=disposition,
            cache_control=cache_control,
            embedding=embedding,
            separate_origin=separate_origin,
        )

    async def respond(self, scope: Scope, receive: Receive) -> Reply:
        """The reply to a request. Raises `ObjectNotFound`, `StoreError`."""
        backend, record = self._file.backend, self._file.record
        size = await size_of(backend, record, asyncio_world)
        return await reading(scope, backend, record.path, msgspec.structs.replace(self._what, size=size))
