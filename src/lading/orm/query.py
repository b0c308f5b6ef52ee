"""Queries by what a record says: `Document.file.size > 10 * MB`."""

from typing import Any

from sqlalchemy import JSON, BigInteger, ColumnElement, Double, and_, cast, type_coerce
from sqlalchemy.types import TypeDecorator

from lading.file import FileObject, identity


class FileComparator(TypeDecorator.Comparator[Any]):
    """What `Document.file` offers in a query, besides `is_(None)`: the members of the record, as typed expressions.

    `== file` compares backend and path. Of a `multiple=True` column only the whole JSON can be queried.
    """

    @property
    def backend(self) -> ColumnElement[str]:
        """The backend's key."""
        return self._text("backend")

    @property
    def path(self) -> ColumnElement[str]:
        """Where the object lies."""
        return self._text("path")

    @property
    def filename(self) -> ColumnElement[str]:
        """What the user called it."""
        return self._text("filename")

    @property
    def content_type(self) -> ColumnElement[str]:
        """The media type."""
        return self._text("content_type")

    @property
    def size(self) -> ColumnElement[int]:
        """In bytes; 64 bits, where the JSON operators of PostgreSQL alone would give 32."""
        return cast(self._text("size"), BigInteger)

    @property
    def last_modified(self) -> ColumnElement[float]:
        """Seconds since the epoch, UTC."""
        return cast(self._text("last_modified"), Double)

    @property
    def checksum(self) -> ColumnElement[str]:
        """`"sha256:<hex>"`."""
        return self._text("checksum")

    @property
    def metadata(self) -> Any:
        """The metadata as SQLAlchemy's JSON expression, to be indexed and compared with `as_string()` and its kin."""
        return type_coerce(self.expr, JSON())["metadata"]

    def __eq__(self, other: object) -> Any:
        if isinstance(other, FileObject):
            backend, path = identity(other)
            return and_(self.path == path, self.backend == backend)
        return super().__eq__(other)

    def __ne__(self, other: object) -> Any:
        if isinstance(other, FileObject):
            return ~self.__eq__(other)
        return super().__ne__(other)

    def __hash__(self) -> int:
        return super().__hash__()

    def _text(self, name: str) -> ColumnElement[str]:
        member: ColumnElement[str] = type_coerce(self.expr, JSON())[name].as_string()
        return member
