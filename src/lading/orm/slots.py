"""Which attributes of which mapped classes are files."""

from typing import Any

from sqlalchemy import Column, Table
from sqlalchemy.orm import InstanceState, Mapper
from sqlalchemy.orm.attributes import get_history
from sqlalchemy.orm.base import PASSIVE_NO_INITIALIZE

from lading.errors import NotAFile
from lading.file import FileObject
from lading.orm.column import StoredObject


class Slot:
    """One attribute of a mapped class that holds a file, or a list of files.

    Attributes:
        key: the name of the attribute.
        column: its column.
        table: the table of the column.
        type: the type of the column.
        policy: what it asks of files.
    """

    __slots__ = ("column", "key", "policy", "table", "type")

    def __init__(self, key: str, column: Any, table: Any, type_: StoredObject) -> None:
        self.key = key
        self.column = column
        self.table = table
        self.type = type_
        self.policy = type_.policy_as(f"{table.fullname}.{column.name}")

    def files(self, value: Any) -> list[FileObject]:
        """The files of a value of this attribute.

        Raises:
            NotAFile: it is something else.
        """
        if value is None:
            return []
        files = value if self.type.multiple else [value]
        for file in files:
            if not isinstance(file, FileObject):
                raise NotAFile(f"{self.column} holds FileObjects, not {type(file).__name__}")
        return list(files)

    def current(self, state: InstanceState[Any]) -> list[FileObject]:
        """The files that an instance holds here, as far as it knows without asking the database."""
        return self.files(state.dict.get(self.key))

    def changed(self, state: InstanceState[Any]) -> bool:
        """Whether a flush will write this attribute of an instance that has a row."""
        return get_history(state.obj(), self.key, PASSIVE_NO_INITIALIZE).has_changes()


def slots_of(mapper: Mapper[Any]) -> tuple[Slot, ...]:
    """The slots of a mapper, inherited ones included."""
    found: list[Slot] = []
    for prop in mapper.column_attrs:
        column = prop.columns[0]
        table: Any = getattr(column, "table", None)
        if isinstance(column, Column) and isinstance(table, Table) and isinstance(column.type, StoredObject):
            found.append(Slot(prop.key, column, table, column.type))
    return tuple(found)
