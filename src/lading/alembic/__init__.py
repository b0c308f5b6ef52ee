"""Triggers and indexes of files in migrations: `import lading.alembic` in `env.py` is all that it takes.

Autogenerate then finds triggers and indexes that are missing, outdated or superfluous, and leaves alone what lading has
made for an index. In migrations these operations can be used, online and with `--sql`:

- `op.create_file_triggers(table_name, columns, *, delay, outbox="lading_outbox", schema=None, outbox_schema=None)`;
  `delay` is the longer of `grace` and `keep_for` of the outbox. Replaces the triggers that the table has.
- `op.drop_file_triggers(table_name, *, schema=None)`
- `op.create_file_index(table_name, column_name, *, multiple=False, schema=None)`
- `op.drop_file_index(table_name, column_name, *, multiple=False, schema=None)`

Each may be repeated. Triggers are dropped before, and made after, a change of their table: a column cannot be dropped
as long as a trigger reads it, and Alembic's batch mode for SQLite makes a table anew without its triggers.
"""

from lading.alembic import compare as compare  # registers itself
from lading.alembic.operations import CreateFileIndexOp as CreateFileIndexOp
from lading.alembic.operations import CreateFileTriggersOp as CreateFileTriggersOp
from lading.alembic.operations import DropFileIndexOp as DropFileIndexOp
from lading.alembic.operations import DropFileTriggersOp as DropFileTriggersOp

__all__ = ["CreateFileIndexOp", "CreateFileTriggersOp", "DropFileIndexOp", "DropFileTriggersOp"]
