"""What one flush means to do with files, held against what it does: other listeners may change or expunge instances."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from sqlalchemy.orm import InstanceState

from lading.errors import StateError
from lading.file import FileObject, claim_of
from lading.orm.key import Key, key_of

Place: TypeAlias = tuple[InstanceState[Any], str]
"""An attribute of an instance."""


class Plan:
    """Where the files of one flush go, and what the rows that it will write or delete name until then.

    Attributes:
        moved: the objects that one row lets go of and another takes.
    """

    def __init__(self) -> None:
        self.moved: set[Key] = set()
        self._homes: dict[Key, Place] = {}
        self._leaving: dict[Place, set[Key]] = {}
        self._departing: dict[InstanceState[Any], set[Key]] = {}
        self._sources: set[InstanceState[Any]] = set()

    def add(
        self,
        homes: Mapping[Key, Place],
        leaving: Mapping[Place, set[Key]],
        departing: Mapping[InstanceState[Any], set[Key]],
        moved: set[Key],
    ) -> None:
        """Plan more.

        Args:
            homes: the attribute that will name each object.
            leaving: what the row names in each attribute that will be written.
            departing: what each row names that will be deleted.
            moved: those of these objects that another attribute takes.
        """
        self.moved |= moved
        self._homes |= homes
        self._leaving |= leaving
        self._departing |= departing
        sources = [(place[0], keys) for place, keys in self._leaving.items()]
        for state, keys in (*sources, *self._departing.items()):
            if not keys.isdisjoint(moved):
                keys -= moved
                self._sources.add(state)

    def foresees(self, place: Place, files: Iterable[FileObject]) -> bool:
        """Whether it is known what the row names now, and that it may name these files."""
        return place in self._leaving and all(
            claim_of(file) == "flushing" and self._homes.get(key_of(file)) == place for file in files
        )

    def left(self) -> set[Key]:
        """What rows are still to let go of."""
        named = set[Key]().union(*self._leaving.values(), *self._departing.values())
        return named - self._homes.keys()

    def written(self, place: Place, files: Iterable[FileObject]) -> set[Key]:
        """An attribute was written: what the row names no more.

        Raises:
            StateError: it names what the plan has given to another row.
        """
        keys = {key_of(file) for file in files} if self._homes or self._leaving else set[Key]()
        for key in keys:
            if self._homes.get(key, place) != place:
                raise StateError(f"{key[1]!r} was given to two rows: a listener has put it back on {place[0].class_}")
        self._sources.discard(place[0])
        return self._leaving.pop(place, set()) - keys

    def deleted(self, state: InstanceState[Any]) -> set[Key] | None:
        """A row is deleted: what it named; `None` where that was not planned."""
        self._sources.discard(state)
        return self._departing.pop(state, None)

    def check(self) -> None:
        """Make sure that the flush has done what files were moved for.

        Raises:
            StateError: a row still names what another has taken.
        """
        if self._sources:
            classes = ", ".join({state.class_.__name__ for state in self._sources})
            raise StateError(f"a listener kept rows from being written whose files were moved to others: {classes}")
