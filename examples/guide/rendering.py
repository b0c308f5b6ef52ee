"""How Alembic writes a column of files into a migration.

A migration needs what the column is, not what it refuses: the rules and the path maker are left out. The name is
written in full, because the scripts of Advanced Alchemy know its own type as `sa.StoredObject`.
"""

from typing import Any, Literal

from alembic.autogenerate.api import AutogenContext

from lading import StoredObject


def render_item(kind: str, item: Any, context: AutogenContext) -> str | Literal[False]:
    """For `context.configure(render_item=render_item)` in `env.py`."""
    if kind != "type" or not isinstance(item, StoredObject):
        return False
    context.imports.add("import lading")
    backend = item.backend if isinstance(item.backend, str | None) else item.backend.key
    return f"lading.StoredObject(backend={backend!r}, multiple={item.multiple})"
