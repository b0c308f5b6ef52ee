"""The column type by itself: how it is written down, cached and kept."""

import pickle
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata, produce_migrations, render_python_code
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import select
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.schema import CreateTable

import lading
from lading import FileList, FileObject, Storages, StoredObject
from lading.backends.obstore import ObstoreBackend
from lading.errors import ConfigurationError, RecordError
from lading.paths import by_date
from lading.rules import MB, content_types, max_size
from tests.orm.conftest import Database, Sessions, Store, on
from tests.orm.models import Base, Document, file


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (StoredObject(), "StoredObject(backend=None)"),
        (StoredObject("local"), "StoredObject(backend='local')"),
        (StoredObject("local", multiple=True), "StoredObject(backend='local', multiple=True)"),
        (StoredObject("local", rules=[max_size(5 * MB)], path=by_date()), "StoredObject(backend='local')"),
    ],
)
def test_repr_is_the_call_that_a_migration_needs(column: StoredObject, expected: str) -> None:
    """The repr can be evaluated, and says what the column is without what it refuses."""
    assert repr(column) == expected
    again = eval(expected)
    assert (again.backend, again.multiple) == (column.backend, column.multiple)


def test_one_rule_is_no_list_of_rules() -> None:
    """A rule where a list of rules belongs is said to be one, on a column and on a backend."""
    rule: Any = max_size(3)
    with pytest.raises(ConfigurationError, match=r"rules=\[max_size\(3\)\]"):
        StoredObject("a", rules=rule)
    with pytest.raises(ConfigurationError, match=r"rules=\[max_size\(3\)\]"):
        ObstoreBackend("a", "memory://", rules=rule)


def test_types_per_dialect() -> None:
    """JSONB on PostgreSQL, JSON elsewhere."""
    table = Base.metadata.tables["document"]
    for dialect, kind in ((postgresql, "JSONB"), (sqlite, "JSON"), (mysql, "JSON")):
        ddl = str(CreateTable(table).compile(dialect=dialect.dialect()))
        assert f"file {kind}" in ddl.replace("\t", "")
        assert f"pages {kind} NOT NULL" in ddl.replace("\t", "")


def test_statements_are_cached() -> None:
    """Two columns that are alike share a cache key; another rule, registry or backend is another type."""
    mine = Storages()
    rule = content_types("image/*")
    key = StoredObject("a", rules=[rule])._static_cache_key
    assert key == StoredObject("a", rules=[content_types("image/*")])._static_cache_key
    others = [StoredObject("b", rules=[rule]), StoredObject("a"), StoredObject("a", rules=[rule], storages=mine)]
    assert all(other._static_cache_key != key for other in others)


def test_alembic(db: Database) -> None:
    """Autogenerate writes the columns so that the script runs, and afterwards finds nothing left to do."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            connection = session.connection()
            Base.metadata.drop_all(connection)
            context = MigrationContext.configure(connection)
            script = produce_migrations(context, Base.metadata)
            assert script.upgrade_ops is not None
            code = render_python_code(script.upgrade_ops)
            assert "lading.StoredObject(backend='mem')" in code
            assert "lading.StoredObject(backend='mem', multiple=True)" in code
            from sqlalchemy.dialects import postgresql

            scope: dict[str, Any] = {"op": Operations(context), "sa": sa, "lading": lading, "postgresql": postgresql}
            exec(f"if True:\n    {code}", scope)
            assert compare_metadata(context, Base.metadata) == []
            session.commit()


def test_loading_is_lazy(db: Database, store: Store) -> None:
    """A broken record does no harm until somebody looks at it, and then says what it is."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            session.add(Document(id=1, file=file()))
            session.commit()
            session.execute(sa.text("UPDATE document SET file = '{\"path\": 7}', pages = '[3]'"))
            session.commit()
            document = session.get_one(Document, 1)
            assert isinstance(document.file, FileObject)
            assert "unreadable" in repr(document.file)
            with pytest.raises(RecordError, match="not the record of a stored file"):
                _ = document.file.path
            session.rollback()


@on("sqlite", inline_only=True)
def test_rows_of_the_ancestor(db: Database, store: Store) -> None:
    """A row that advanced_alchemy wrote, without a path, is read as it is; its filename is the path."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            session.add(Document(id=1))
            session.commit()
            session.execute(
                sa.text(
                    'UPDATE document SET file = \'{"filename": "dir/a b.txt", "content_type": "text/plain", "size": 3, '
                    '"last_modified": 1.5, "checksum": null, "etag": "x", "version_id": null, "metadata": {"k": 1}, '
                    '"backend": "mem", "custom": [1]}\''
                )
            )
            session.commit()
            document = session.get_one(Document, 1)
            loaded = document.file
            assert loaded is not None
            assert (loaded.path, loaded.filename, loaded.size) == ("dir/a b.txt", "a b.txt", 3)
            assert loaded.metadata == {"k": 1}
            loaded.update_metadata({"k": 2})
            session.commit()
            (row,) = session.execute(sa.text("SELECT file FROM document")).one()
            assert '"custom": [1]' in row
            assert '"path": "dir/a b.txt"' in row


@on("sqlite", inline_only=True)
def test_pickled_instances(db: Database, store: Store) -> None:
    """An instance goes through pickle with its files, which still mark it when they change."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions(expire_on_commit=False) as session:
            session.add(Document(id=1, file=file(), pages=[file()]))
            session.commit()
            document = session.get_one(Document, 1)
            session.expunge(document)
        again: Document = pickle.loads(pickle.dumps(document))
        assert again.file == document.file
        assert isinstance(again.pages, FileList)
        with sessions() as session:
            session.add(again)
            assert again.file is not None
            again.file.update_metadata({"a": 1})
            again.pages[0].update_metadata({"b": 2})
            assert session.is_modified(again)
            session.commit()
            assert session.scalars(select(Document)).one().pages[0].metadata == {"b": 2}
            assert len(store) == 2
