"""What rows name in the database now, read under lock: the truth that deleting stands on.

What an instance remembers may be stale: another session may have replaced the file since, or moved it to another row,
and then deleting what this one remembers would delete what that one committed.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Connection, and_, false, or_, select
from sqlalchemy.orm import InstanceState

from lading.orm.key import Key, key_of
from lading.orm.slots import Slot
from lading.orm.sqlite import begin

AT_ONCE = 500
"""Rows that are asked for in one SELECT."""

Named: TypeAlias = Mapping[tuple[InstanceState[Any], str], set[Key]]
"""By instance and attribute, the objects that the row names."""


def named(connection: Connection, states: Sequence[InstanceState[Any]], slots: Collection[Slot]) -> Named:
    """What the rows of instances of one mapper name, locked until the transaction ends where the database can."""
    found: dict[tuple[InstanceState[Any], str], set[Key]] = defaultdict(set)
    if not slots:
        return found
    begin(connection)
    for start in range(0, len(states), AT_ONCE):
        for state, values in _rows(connection, states[start : start + AT_ONCE], slots):
            for slot, value in zip(slots, values, strict=True):
                found[state, slot.key] |= {key_of(file) for file in slot.files(value)}
    return found


def _rows(
    connection: Connection, states: Sequence[InstanceState[Any]], slots: Collection[Slot]
) -> Iterator[tuple[InstanceState[Any], Sequence[Any]]]:
    """The values of these attributes in the database, by instance."""
    mapper = states[0].mapper
    primary = list(mapper.primary_key)
    asked: Any = select(*primary, *(slot.column for slot in slots))
    if len({column.table for column in (*primary, *(slot.column for slot in slots))}) > 1:
        # Not by the primary key of a table: that of a subclass may have its columns in another order.
        asked = asked.select_from(mapper.persist_selectable)
    by_identity = {state.identity: state for state in states}
    rows = connection.execute(asked.where(among(primary, by_identity)).with_for_update()).all()
    found = [states[0] if len(states) == 1 else by_identity.get(tuple(row[: len(primary)])) for row in rows]
    for index, state in enumerate(found):
        if state is not None:
            yield state, rows[index][len(primary) :]
    if None in found:
        # The database writes a key otherwise than the application has given it: "1" for an integer.
        for state in set(states).difference(found):
            yield from _rows(connection, [state], slots)


def among(primary: Sequence[Any], identities: Iterable[Any]) -> ColumnElement[bool]:
    """The rows of these keys."""
    if len(primary) == 1:
        return primary[0].in_([identity[0] for identity in identities])  # type: ignore[no-any-return]  # a Column of any type
    return or_(false(), *(and_(*(p == i for p, i in zip(primary, identity, strict=True))) for identity in identities))
