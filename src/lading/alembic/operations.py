"""The operations, and how autogenerate writes them down."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrateOperation, Operations

from lading.orm.indexes import create_index, drop_index
from lading.orm.triggers import FileTriggers, drop, statement


@Operations.register_operation("create_file_triggers")
class CreateFileTriggersOp(MigrateOperation):
    """Make the triggers of a table."""

    def __init__(self, triggers: FileTriggers) -> None:
        self.triggers = triggers

    @classmethod
    def create_file_triggers(
        cls,
        operations: Operations,
        table_name: str,
        columns: Sequence[str],
        *,
        delay: timedelta,
        outbox: str = "lading_outbox",
        schema: str | None = None,
        outbox_schema: str | None = None,
    ) -> None:
        """`op.create_file_triggers`."""
        triggers = FileTriggers(table_name, tuple(columns), outbox, delay, schema, outbox_schema)
        operations.invoke(cls(triggers))

    def reverse(self) -> "DropFileTriggersOp":
        return DropFileTriggersOp(self.triggers.table, self.triggers.schema, self.triggers)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        return ("add_file_triggers", self.triggers)


@Operations.register_operation("drop_file_triggers")
class DropFileTriggersOp(MigrateOperation):
    """Drop the triggers of a table; autogenerate knows which, so that its downgrade can make them again."""

    def __init__(self, table_name: str, schema: str | None = None, triggers: FileTriggers | None = None) -> None:
        self.table_name = table_name
        self.schema = schema
        self.triggers = triggers

    @classmethod
    def drop_file_triggers(cls, operations: Operations, table_name: str, *, schema: str | None = None) -> None:
        """`op.drop_file_triggers`."""
        operations.invoke(cls(table_name, schema))

    def reverse(self) -> CreateFileTriggersOp:
        if self.triggers is None:
            raise ValueError(f"which triggers {self.table_name!r} had is not known")
        return CreateFileTriggersOp(self.triggers)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        return ("remove_file_triggers", self.schema, self.table_name)


@dataclass(frozen=True)
class _FileIndexOp(MigrateOperation):
    table_name: str
    column_name: str
    schema: str | None
    multiple: bool


@Operations.register_operation("create_file_index")
class CreateFileIndexOp(_FileIndexOp):
    """Make the index that finds the row which names a path."""

    @classmethod
    def create_file_index(
        cls,
        operations: Operations,
        table_name: str,
        column_name: str,
        *,
        multiple: bool = False,
        schema: str | None = None,
    ) -> None:
        """`op.create_file_index`."""
        operations.invoke(cls(table_name, column_name, schema, multiple))

    def reverse(self) -> "DropFileIndexOp":
        return DropFileIndexOp(self.table_name, self.column_name, self.schema, self.multiple)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        return ("add_file_index", self.schema, self.table_name, self.column_name)


@Operations.register_operation("drop_file_index")
class DropFileIndexOp(_FileIndexOp):
    """Drop the index that finds the row which names a path."""

    @classmethod
    def drop_file_index(
        cls,
        operations: Operations,
        table_name: str,
        column_name: str,
        *,
        multiple: bool = False,
        schema: str | None = None,
    ) -> None:
        """`op.drop_file_index`."""
        operations.invoke(cls(table_name, column_name, schema, multiple))

    def reverse(self) -> CreateFileIndexOp:
        return CreateFileIndexOp(self.table_name, self.column_name, self.schema, self.multiple)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        return ("remove_file_index", self.schema, self.table_name, self.column_name)


@Operations.implementation_for(CreateFileTriggersOp)
def _create_triggers(operations: Operations, op: CreateFileTriggersOp) -> None:
    context = operations.get_context()
    for made in op.triggers.create(context.dialect):
        if context.as_sql and context.dialect.name in ("mysql", "mariadb"):
            # The command line clients split what they read at semicolons; those of a trigger are inside of it.
            text = str(made.compile(dialect=context.dialect))
            context.impl.static_output(f"DELIMITER $$\n{text}\n$$\nDELIMITER ;\n")
        else:
            operations.execute(made)


@Operations.implementation_for(DropFileTriggersOp)
def _drop_triggers(operations: Operations, op: DropFileTriggersOp) -> None:
    for dropped in drop(operations.get_context().dialect, op.table_name, op.schema):
        operations.execute(dropped)


@Operations.implementation_for(CreateFileIndexOp)
def _create_index(operations: Operations, op: CreateFileIndexOp) -> None:
    dialect = operations.get_context().dialect
    for made in create_index(dialect, op.table_name, op.column_name, op.schema, op.multiple):
        operations.execute(statement(made))


@Operations.implementation_for(DropFileIndexOp)
def _drop_index(operations: Operations, op: DropFileIndexOp) -> None:
    dialect = operations.get_context().dialect
    for dropped in drop_index(dialect, op.table_name, op.column_name, op.schema, op.multiple):
        operations.execute(statement(dropped))


@renderers.dispatch_for(CreateFileTriggersOp)
def _render_create_triggers(context: AutogenContext, op: CreateFileTriggersOp) -> str:
    context.imports.add("import datetime")
    t = op.triggers
    schemas = {"schema": t.schema, "outbox_schema": t.outbox_schema}
    return _call("create_file_triggers", t.table, list(t.columns), delay=t.delay, outbox=t.outbox, **schemas)


@renderers.dispatch_for(DropFileTriggersOp)
def _render_drop_triggers(context: AutogenContext, op: DropFileTriggersOp) -> str:
    return _call("drop_file_triggers", op.table_name, schema=op.schema)


@renderers.dispatch_for(CreateFileIndexOp)
def _render_create_index(context: AutogenContext, op: CreateFileIndexOp) -> str:
    return _call("create_file_index", op.table_name, op.column_name, multiple=op.multiple or None, schema=op.schema)


@renderers.dispatch_for(DropFileIndexOp)
def _render_drop_index(context: AutogenContext, op: DropFileIndexOp) -> str:
    return _call("drop_file_index", op.table_name, op.column_name, multiple=op.multiple or None, schema=op.schema)


def _call(name: str, *arguments: Any, **options: Any) -> str:
    written = [
        *(repr(str(each) if isinstance(each, str) else each) for each in arguments),
        *(f"{name}={value!r}" for name, value in options.items() if value is not None),
    ]
    return f"op.{name}({', '.join(written)})"
