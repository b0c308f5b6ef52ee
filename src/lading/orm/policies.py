"""The policy of a column, by the name that tokens, routes and tables know it by."""

from typing import Any, TypeAlias, cast

from sqlalchemy import Column, Table
from sqlalchemy.orm import InstrumentedAttribute

from lading.errors import ConfigurationError
from lading.orm.column import StoredObject
from lading.orm.outbox import Outbox
from lading.policy import Policy

FileColumn: TypeAlias = InstrumentedAttribute[Any] | Column[Any]
"""A `StoredObject` column: `Document.file`, or `documents.c.file` of a table."""


def policy_of(column: FileColumn) -> Policy:
    """What a column asks of files; its name is `"table.column"`, with the schema before it where the table has one.

    Raises:
        ConfigurationError: it is no `StoredObject` column of a table.
    """
    found = _column(column)
    kind, table = getattr(found, "type", None), getattr(found, "table", None)
    if not isinstance(kind, StoredObject) or not isinstance(table, Table):
        raise ConfigurationError(f"a StoredObject column of a table is wanted, such as Document.file, not {column!r}")
    return kind.policy_as(f"{table.fullname}.{found.name}")


def outbox_of(column: FileColumn) -> Outbox | None:
    """The outbox of the table that a column is of, where it has one."""
    return Outbox.of(_column(column).table.metadata)


def is_list(column: FileColumn) -> bool:
    """Whether a column holds lists of files."""
    return bool(getattr(_column(column).type, "multiple", False))


class UploadTo:
    """Says of a field which column its file is for: `file: Annotated[FileObject, UploadTo(Document.file)]`.

    A file that a form sends in such a field goes to the column's store as it arrives, under the column's rules.

    Args:
        column: a `StoredObject` column.

    Raises:
        ConfigurationError: it is something else.
    """

    __slots__ = ("_column",)

    def __init__(self, column: FileColumn) -> None:
        self._column = column
        policy_of(column)

    @property
    def policy(self) -> Policy:
        """What the column asks of files."""
        return policy_of(self._column)

    def __repr__(self) -> str:
        return f"UploadTo({self.policy.name})"


def _column(column: Any) -> Any:
    if isinstance(column, InstrumentedAttribute):
        return cast("Any", column).property.columns[0]
    return column
