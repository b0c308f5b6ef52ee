"""Files that commit with their rows: storage for SQLAlchemy and Litestar."""

from lading.batch import sign_all, sign_all_async
from lading.file import FileObject
from lading.orm import FileList, Outbox, StoredObject
from lading.storages import Storages, storages

StoredObject.__module__ = __name__  # Alembic writes a type by its module: `lading.StoredObject(...)`

__all__ = [
    "FileList",
    "FileObject",
    "Outbox",
    "Storages",
    "StoredObject",
    "sign_all",
    "sign_all_async",
    "storages",
]
