"""The value of a `multiple=True` column: a list of files whose every change marks the row."""

import weakref
from collections.abc import Iterable
from typing import Any, Self, SupportsIndex, overload

from sqlalchemy.ext.mutable import MutableList
from sqlalchemy.orm import InstanceState

from lading.errors import NotAFile
from lading.file import FileObject, hold, is_held


class FileList(MutableList[FileObject]):
    """A list of `FileObject`s, tracked: any change of it, or of an item's metadata, is written at the next flush.

    Raises:
        NotAFile: something else is put into it.
    """

    def __init__(self, files: Iterable[FileObject] = ()) -> None:
        super().__init__(_files(files))
        self._hold_new()

    @classmethod
    def coerce(cls, key: str, value: Any) -> "FileList | None":
        """A plain list, tuple or other iterable of files as a tracked list."""
        if value is None or isinstance(value, cls):
            return value
        if isinstance(value, FileObject) or not isinstance(value, Iterable):
            raise NotAFile(f"{key!r} holds a list of FileObjects, not {type(value).__name__}")
        return cls(value)  # pyright: ignore[reportUnknownArgumentType]  # the constructor looks at each

    @classmethod
    def of(cls, state: InstanceState[Any], key: str) -> "FileList":
        """The empty list of an instance's attribute."""
        files = cls()
        files._parents[state] = key
        return files

    def changed(self) -> None:
        """Mark the rows that hold this list."""
        self._hold_new()
        for state in [state for state in self._parents if state.obj() is None]:
            # A file that the instance held keeps its state alive; SQLAlchemy expects them to go together.
            del self._parents[state]
        super().changed()

    def hold(self) -> None:
        """A row has been written with this list: its files tell nobody else when they change."""
        reference = weakref.ref(self)
        for file in self:
            hold(file, reference)

    def append(self, x: FileObject) -> None:
        super().append(*_files([x]))

    def insert(self, i: SupportsIndex, x: FileObject) -> None:
        super().insert(i, *_files([x]))

    def extend(self, x: Iterable[FileObject]) -> None:
        super().extend(_files(x))

    def __imul__(self, value: SupportsIndex) -> Self:
        super().__imul__(value)
        self.changed()
        return self

    def __iadd__(self, x: Iterable[FileObject]) -> Self:  # type: ignore[override, misc]  # list allows any iterable
        self.extend(x)
        return self

    @overload
    def __setitem__(self, index: SupportsIndex, value: FileObject) -> None: ...
    @overload
    def __setitem__(self, index: slice, value: Iterable[FileObject]) -> None: ...
    def __setitem__(self, index: SupportsIndex | slice, value: FileObject | Iterable[FileObject]) -> None:
        super().__setitem__(index, _files(value) if isinstance(index, slice) else _files([value])[0])

    def _hold_new(self) -> None:
        reference = weakref.ref(self)
        for file in self:
            if not is_held(file):
                hold(file, reference)


def _files(items: Any) -> list[FileObject]:
    files = list(items)
    for file in files:
        if not isinstance(file, FileObject):
            raise NotAFile(f"a StoredObject list holds FileObjects, not {type(file).__name__}")
    return files
