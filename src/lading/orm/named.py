"""What rows name in the database now, read under lock: the truth that deleting stands on.

What an instance remembers may be stale: another session may have replaced the file since, or moved it to another row,
and then deleting what this one remembers would delete what that one committed.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Result, Select, Table, and_, or_, select
from sqlalchemy.orm import InstanceState

from lading.orm.ledger import Key, key_of
from lading.orm.slots import Slot

AT_ONCE = 500
"""Rows that are asked for in one SELECT."""

Execute: TypeAlias = Callable[[Select[Any]], Result[Any]]
Named: TypeAlias = Mapping[tuple[InstanceState[Any], str], set[Key]]
"""By instance and attribute, the objects that the row names."""


def named(execute: Execute, states: Sequence[InstanceState[Any]], slots: Iterable[Slot]) -> Named:
    """What the rows of instances of one mapper name, locked until the transaction ends where the database can."""
    found: dict[tuple[InstanceState[Any], str], set[Key]] = defaultdict(set)
    by_table: dict[Table, list[Slot]] = defaultdict(list)
    for slot in slots:
        by_table[slot.table].append(slot)
    for table, here in by_table.items():
        primary = list(table.primary_key.columns)
        for start in range(0, len(states), AT_ONCE):
            rows = {state.identity: state for state in states[start : start + AT_ONCE]}
            asked: Any = select(*primary, *(slot.column for slot in here))
            for row in execute(asked.where(_among(primary, rows)).with_for_update()):
                state = rows[tuple(row[: len(primary)])]
                for slot, value in zip(here, row[len(primary) :], strict=True):
                    found[state, slot.key] |= {key_of(file) for file in slot.files(value)}
    return found


def _among(primary: Sequence[Any], identities: Iterable[Any]) -> ColumnElement[bool]:
    if len(primary) == 1:
        return primary[0].in_([identity[0] for identity in identities])  # type: ignore[no-any-return]  # a Column of any type
    return or_(*(and_(*(p == i for p, i in zip(primary, identity, strict=True))) for identity in identities))
