"""Files that commit with their rows: storage for SQLAlchemy and Litestar."""

from lading.file import FileObject
from lading.orm import FileList, StoredObject
from lading.storages import Storages, storages

StoredObject.__module__ = __name__  # Alembic writes a type by its module: `lading.StoredObject(...)`

__all__ = ["FileList", "FileObject", "Storages", "StoredObject", "storages"]
