"""The policy of a column, and the marker by which a field says which column its file is for."""

from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from lading import FileObject, Outbox, Storages, StoredObject
from lading.errors import ConfigurationError
from lading.litestar import UploadTo
from lading.orm.policies import is_list, outbox_of, policy_of
from lading.paths import fresh
from lading.rules import max_size

storages = Storages()
LIMIT = max_size(100)


class Base(DeclarativeBase):
    pass


class Document(Base):
    __tablename__ = "document"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    file: Mapped[FileObject] = mapped_column(StoredObject("store", rules=[LIMIT], path=fresh, storages=storages))
    pages: Mapped[list[FileObject]] = mapped_column("page_list", StoredObject("store", multiple=True))
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "document"}


class Invoice(Document):
    scan: Mapped[FileObject | None] = mapped_column(StoredObject("store", storages=storages))
    __mapper_args__ = {"polymorphic_identity": "invoice"}


archive = Table("old", MetaData(schema="archive"), Column("id", Integer), Column("file", StoredObject("store")))


def test_what_a_column_asks() -> None:
    """A policy has the name of table and column, and what the column says."""
    policy = policy_of(Document.file)
    assert policy.name == "document.file"
    assert (policy.backend, tuple(policy.rules), policy.path_maker) == ("store", (LIMIT,), fresh)
    assert policy.storages is storages


@pytest.mark.parametrize(
    ("column", "name"),
    [
        (Document.pages, "document.page_list"),
        (Document.__table__.c.page_list, "document.page_list"),
        (Invoice.file, "document.file"),
        (Invoice.scan, "document.scan"),
        (archive.c.file, "archive.old.file"),
    ],
)
def test_names(column: Any, name: str) -> None:
    """The name is that of the database: schema, table and column, from whatever class one comes to it."""
    assert policy_of(column).name == name
    assert policy_of(column) == policy_of(column)


@pytest.mark.parametrize(
    "column",
    [
        Document.id,
        Document.kind,
        Document,
        Document.__table__,
        "document.file",
        None,
        Column("file", StoredObject("store")),
        StoredObject("store"),
        select(Document.file).subquery().c.file,
    ],
    ids=lambda column: type(column).__name__,
)
def test_what_is_no_column_for_files(column: Any) -> None:
    """Everything else is refused, with what is wanted."""
    for ask in (policy_of, UploadTo):
        with pytest.raises(ConfigurationError, match=r"such as Document\.file"):
            ask(column)


def test_lists() -> None:
    """One can ask whether a column holds several."""
    assert (is_list(Document.pages), is_list(Document.file)) == (True, False)


def test_outboxes() -> None:
    """The outbox of a column is that of its table's metadata, also one that is made later."""
    assert outbox_of(Document.file) is None
    outbox = Outbox(Base.metadata)
    assert outbox_of(Document.file) is outbox_of(Invoice.scan) is outbox
    assert outbox_of(archive.c.file) is None


def test_the_marker() -> None:
    """A marker leads to the column's policy, and shows which."""
    marker = UploadTo(Document.file)
    assert marker.policy == policy_of(Document.file)
    assert repr(marker) == "UploadTo(document.file)"
