"""`StoredObject`: the column type that keeps the records of files as JSON."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import JSON, Dialect
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DontWrapMixin
from sqlalchemy.types import TypeDecorator, TypeEngine

from lading.backends.protocols import StorageBackend
from lading.errors import ConfigurationError, NotAFile, OwnedFile, PendingFile, RecordError
from lading.file import FileObject, claim, claim_of, loaded, seize, upload_of
from lading.orm.list import FileList
from lading.orm.query import FileComparator
from lading.paths import PathMaker
from lading.policy import Policy
from lading.rules import Rule
from lading.storages import Storages, storages


class StoredObject(TypeDecorator[Any]):
    """A column of files: JSONB on PostgreSQL, JSON elsewhere; SQL NULL for none.

    Args:
        backend: the key of the backend for files that do not name one; by default the registry's default.
        multiple: the column holds a list of files (`FileList`); it is never `None`, and NULL reads as an empty list.
        rules: asked of every file that comes here, after those of the backend.
        path: names the objects stored from here; by default the backend's path maker, or `lading.paths.fresh`.
        storages: the registry that knows the backends.
    """

    impl = JSON
    cache_ok = True
    comparator_factory = FileComparator  # pyright: ignore[reportAssignmentType]  # as documented

    def __init__(
        self,
        backend: str | StorageBackend | None = None,
        multiple: bool = False,
        rules: Iterable[Rule] = (),
        path: PathMaker | None = None,
        storages: Storages = storages,
    ) -> None:
        super().__init__(none_as_null=True)
        self.backend = backend
        self.multiple = multiple
        if callable(rules):
            raise ConfigurationError(f"rules are given as a list: rules=[{rules!r}]")
        self.rules = tuple(rules)
        self.path = path
        self.storages = storages

    @property
    def policy(self) -> Policy:
        """What this column asks of a file."""
        return self.policy_as(None)

    def policy_as(self, name: str | None) -> Policy:
        """The same under a name, `"table.column"`, which only the column knows that has this type."""
        return Policy(name=name, backend=self.backend, rules=self.rules, path_maker=self.path, storages=self.storages)

    @property
    def python_type(self) -> type[Any]:
        return FileList if self.multiple else FileObject

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        kind = JSONB if dialect.name == "postgresql" else JSON
        return dialect.type_descriptor(kind(none_as_null=True))

    def __repr__(self) -> str:
        """What Alembic writes into a migration: what the column is, without what it refuses or how it names objects."""
        backend = self.backend if isinstance(self.backend, str | None) else self.backend.key
        return f"StoredObject(backend={backend!r}{', multiple=True' if self.multiple else ''})"

    def compare_values(self, x: Any, y: Any) -> bool:
        if isinstance(x, FileObject) and isinstance(y, FileObject):
            return x is y or (x == y and x.record == y.record)
        if isinstance(x, FileList) and isinstance(y, FileList):
            return len(x) == len(y) and all(map(self.compare_values, x, y))
        return bool(x == y)

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        if self.multiple:
            files = FileList.coerce("the column", value) or ()
            records = {id(file): _bound(file) for file in {id(file): file for file in files}.values()}
            return [records[id(file)] for file in files]
        return None if value is None else _bound(value)

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        registry = self.storages

        def one(value: Any) -> FileObject | None:
            return None if value is None or value == "null" else loaded(value, registry)

        def many(value: Any) -> FileList:
            return FileList(loaded(item, registry) for item in _items(value))

        return many if self.multiple else one


def _items(value: Any) -> Sequence[Any]:
    """The records of a JSON array, each still undecoded; NULL is no files."""
    if value is None:
        return ()
    if isinstance(value, list):
        return value  # pyright: ignore[reportUnknownVariableType]  # a driver's own list of dicts
    try:
        return msgspec.json.decode(value, type=list[msgspec.Raw] | None) or ()
    except (msgspec.MsgspecError, TypeError) as error:
        raise RecordError(f"not a list of file records: {error}: {value!r:.200}") from error


def _bound(file: object) -> dict[str, Any]:
    """The record that a statement writes; the last gate before the database.

    A flush has stored and claimed its files by now. What comes here otherwise was bound by a statement that lading does
    not see: a file that is nobody's yet may be written by it, once.
    """
    if not isinstance(file, FileObject):
        raise _NotAFileAtBind(f"a StoredObject column holds FileObjects, not {type(file).__name__}")
    whose = claim_of(file)
    if whose in ("free", "unspent") and upload_of(file) is not None:
        raise _PendingAtBind(
            f"{file.filename!r} is a direct upload, which serves once: add an ORM instance to the session"
        )
    is_taken = whose in ("bound", "owned") or (whose == "free" and file.is_stored and not seize(file, "owned"))
    if file.has_pending_data or is_taken:
        name = file.filename
        if is_taken:
            raise _OwnedAtBind(
                f"{name!r} belongs to a row already; add an ORM instance to the session, and it will be moved or copied"
            )
        raise _PendingAtBind(f"{name!r} is not stored yet: save it first, or add an ORM instance to the session")
    if whose == "flushing":
        claim(file, "bound")
    return file.to_dict()


class _PendingAtBind(PendingFile, DontWrapMixin):
    """Reaches the caller as it is, not inside a `StatementError`."""


class _OwnedAtBind(OwnedFile, DontWrapMixin):
    """Reaches the caller as it is, not inside a `StatementError`."""


class _NotAFileAtBind(NotAFile, DontWrapMixin):
    """Reaches the caller as it is, not inside a `StatementError`."""
