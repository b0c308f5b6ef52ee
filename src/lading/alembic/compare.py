"""What autogenerate finds: triggers and indexes against what the outbox of the metadata wants."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from alembic.autogenerate import comparators
from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrateOperation
from alembic.operations.ops import (
    AlterColumnOp,
    CreateTableOp,
    DropColumnOp,
    DropIndexOp,
    DropTableOp,
    ModifyTableOps,
    UpgradeOps,
)
from alembic.util import DispatchPriority, PriorityDispatchResult
from sqlalchemy import Column, Connection, MetaData

from lading.alembic.operations import (
    CreateFileIndexOp,
    CreateFileTriggersOp,
    DropFileIndexOp,
    DropFileTriggersOp,
)
from lading.orm.indexes import create_index, has_index, index_name, virtual_column
from lading.orm.outbox import Outbox
from lading.orm.references import FileColumn, file_columns
from lading.orm.triggers import FileTriggers, Place, installed, is_known, wanted


@comparators.dispatch_for("schema", priority=DispatchPriority.LAST)
def compare(context: AutogenContext, upgrade: UpgradeOps, schemas: set[str | None]) -> PriorityDispatchResult:
    """Complete a migration. What is dropped comes first and what is made last, and so it is in the downgrade."""
    connection = context.connection
    if connection is not None and is_known(connection.dialect):
        found = _Found(context, connection, upgrade, schemas)
        triggers, indexes = [*found.triggers()], [*found.indexes()]
        found.forget_own()
        drops = [op for op in (*triggers, *indexes) if isinstance(op, DropFileTriggersOp | DropFileIndexOp)]
        makes = [op for op in (*indexes, *triggers) if isinstance(op, CreateFileTriggersOp | CreateFileIndexOp)]
        upgrade.ops[:] = [*drops, *upgrade.ops, *makes]
    return PriorityDispatchResult.CONTINUE


class _Found:
    """What Alembic itself has found so far, by table."""

    def __init__(
        self, context: AutogenContext, connection: Connection, upgrade: UpgradeOps, schemas: set[str | None]
    ) -> None:
        self.context = context
        self.connection = connection
        self.upgrade = upgrade
        self.schemas = schemas
        metadata: Any = context.metadata
        every: list[MetaData] = [*metadata] if isinstance(metadata, list | tuple) else [metadata]
        self.outboxes = [outbox for outbox in map(Outbox.of, every) if outbox is not None]
        self.columns: dict[Place, dict[str, FileColumn]] = defaultdict(dict)
        for at in (at for each in every for at in file_columns(each)):
            place = self.place(at.table.schema, at.table.name)
            if self.is_asked_for(place) and context.run_object_filters(at.table, at.table.name, "table", False, None):
                self.columns[place][at.column.name] = at
        self.changes: dict[Place, list[MigrateOperation]] = defaultdict(list)
        self.gone: dict[Place, set[str]] = defaultdict(set)
        for op in upgrade.ops:
            if isinstance(op, ModifyTableOps):
                self.changes[op.schema, op.table_name] += op.ops
                self.gone[op.schema, op.table_name] |= {e.column_name for e in op.ops if isinstance(e, DropColumnOp)}
            elif isinstance(op, DropTableOp):
                self.gone[op.schema, op.table_name] |= {each.name for each in op.to_table().columns}

    def place(self, schema: str | None, table: str) -> Place:
        """A table as Alembic calls it: without the schema that is the default one."""
        return (None if schema == self.connection.dialect.default_schema_name else schema), table

    def is_asked_for(self, place: Place) -> bool:
        """Whether this migration is for a table; several applications may share a database."""
        schema, table = place
        return schema in self.schemas and self.context.run_name_filters(table, "table", {"schema_name": schema})

    def is_in_the_way(self, place: Place) -> bool:
        """Whether a table will be changed as its triggers and indexes would not bear, or not survive.

        PostgreSQL changes no type of a column that a trigger reads; Alembic's batch mode for SQLite makes a table anew.
        """
        changes = self.changes[place]
        if self.connection.dialect.name == "sqlite":
            return bool(changes)
        return any(isinstance(op, AlterColumnOp) and op.column_name in self.columns[place] for op in changes)

    def triggers(self) -> Iterator[MigrateOperation]:
        """Drops of what is outdated or superfluous, and makes of what is missing then."""
        every = [each for outbox in self.outboxes for each in wanted(outbox)]
        want = {place: each for each in every if (place := self.place(each.schema, each.table)) in self.columns}
        have = installed(self.connection, self.schemas)
        for place in sorted({*want, *filter(self.is_asked_for, have)}, key=repr):
            new, stamps = want.get(place), have.get(place, set())
            is_right = stamps == ({new.stamp(self.connection.dialect)} if new else set())
            if is_right and not self.is_in_the_way(place):
                continue
            if stamps:
                old = FileTriggers.from_stamp(max(stamps))
                yield DropFileTriggersOp(old.table, old.schema, old)
            if new:
                yield CreateFileTriggersOp(new)

    def indexes(self) -> Iterator[MigrateOperation]:
        """Drops of what is superfluous, and makes of what is missing then."""
        for place in sorted({*self.columns, *self.gone}, key=repr):
            schema, table = place
            for name in sorted({*self.columns[place], *self.gone[place]}):
                at = self.columns[place].get(name)
                multiple = at.type.multiple if at else self.is_gin(place, name)
                want = at is not None and self.is_indexed(at)
                have = has_index(self.connection, table, name, schema, multiple)
                if have and (not want or self.is_in_the_way(place)):
                    yield DropFileIndexOp(table, name, at.table.schema if at else schema, multiple)
                if at is not None and want and (not have or self.is_in_the_way(place)):
                    yield CreateFileIndexOp(table, name, at.table.schema, multiple)

    def is_indexed(self, at: FileColumn) -> bool:
        """Whether a column is to have an index, and can."""
        outbox = Outbox.of(at.table.metadata)
        if outbox is None or not outbox.indexes:
            return False
        dialect = self.connection.dialect
        return bool(create_index(dialect, at.table.name, at.column.name, at.table.schema, at.type.multiple))

    def is_gin(self, place: Place, column: str) -> bool:
        """Whether the index of a column that will be gone is that of a list."""
        name = index_name(place[1], column)
        dropped = [op for op in self.changes[place] if isinstance(op, DropIndexOp) and op.index_name == name]
        return any(op.kw.get("postgresql_using") == "gin" for op in dropped)

    def forget_own(self) -> None:
        """Take back what Alembic wants to drop because it is in no metadata: indexes, and the columns below them."""
        for op in self.upgrade.ops:
            if isinstance(op, ModifyTableOps):
                op.ops = [each for each in op.ops if not self.is_own(op, each)]
            elif isinstance(op, DropTableOp) and isinstance(reverse := op._reverse, CreateTableOp):  # pyright: ignore[reportPrivateUsage]
                # A downgrade makes them again, if at all, with the index.
                own = set(map(virtual_column, self.gone[op.schema, op.table_name]))
                reverse.columns = [e for e in reverse.columns if not (isinstance(e, Column) and e.name in own)]
        self.upgrade.ops[:] = [op for op in self.upgrade.ops if not (isinstance(op, ModifyTableOps) and op.is_empty())]

    def is_own(self, table: ModifyTableOps, op: MigrateOperation) -> bool:
        place = (table.schema, table.table_name)
        names = {*self.columns[place], *self.gone[place]}
        if isinstance(op, DropIndexOp):
            return op.index_name in {index_name(table.table_name, name) for name in names}
        return isinstance(op, DropColumnOp) and op.column_name in set(map(virtual_column, names))
