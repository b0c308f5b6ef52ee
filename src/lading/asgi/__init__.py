"""Files for any ASGI application, whatever its framework: signed URLs, signed uploads, and files as responses."""

from lading.asgi.response import FileResponse
from lading.asgi.server import FileServer

__all__ = ["FileResponse", "FileServer"]
