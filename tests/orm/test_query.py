"""Queries by what a record says, on every database."""

import json
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.dialects import mysql, postgresql, sqlite

from lading.rules import GB, KB
from tests.orm.conftest import Database, Sessions, Store
from tests.orm.models import Document, file


def test_by_members(db: Database, store: Store) -> None:
    """Every member of the record can be compared, sorted by and selected."""

    @db
    def scenario(sessions: Sessions) -> None:
        png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + b"\0" * 2000
        with sessions() as session:
            session.add(
                Document(name="text", file=file(b"text", "ü %_'\".txt", metadata={"kind": "note", "n": {"x": 5}}))
            )
            session.add(Document(name="image", file=file(png, "b.png", metadata={"kind": "photo"})))
            session.add(Document(name="none"))
            session.commit()
            text = session.scalars(select(Document).where(Document.name == "text")).one()
            assert text.file is not None
            at = Document.file
            assert text.file.last_modified is not None
            for condition, names in (
                ((at.size > 1 * KB) & at.content_type.startswith("image/"), ["image"]),
                (at.size == 4, ["text"]),
                (at.size < 10 * GB, ["image", "text"]),
                (at.filename == "ü %_'\".txt", ["text"]),
                (at.path == text.file.path, ["text"]),
                (at.backend == "mem", ["image", "text"]),
                (at.checksum == text.file.checksum, ["text"]),
                (at.last_modified >= text.file.last_modified - 60, ["image", "text"]),
                (at.last_modified > text.file.last_modified + 3600, []),
                (at.metadata["kind"].as_string() == "note", ["text"]),
                (at.metadata[("n", "x")].as_integer() == 5, ["text"]),
                (at == text.file, ["text"]),
                (at.is_(None), ["none"]),
            ):
                found = session.scalars(select(Document.name).where(condition).order_by(Document.name)).all()
                assert found == names, condition
            assert session.execute(select(at.size, at.filename).where(at.size > 4)).first() == (len(png), "b.png")


def test_more_than_32_bits(db: Database, store: Store) -> None:
    """A size beyond 2 GiB compares as it should, on PostgreSQL too."""

    @db
    def scenario(sessions: Sessions) -> None:
        with sessions() as session:
            document = Document(file=file())
            session.add(document)
            session.commit()
            assert document.file is not None
            huge = document.file.to_dict() | {"size": 5_000_000_000}
            session.execute(text("UPDATE document SET file = :file"), {"file": json.dumps(huge)})
            assert session.scalar(select(Document.file.size).where(Document.file.size > 4 * GB)) == 5_000_000_000
            session.rollback()


@pytest.mark.parametrize(
    ("dialect", "member"),
    [
        (sqlite.dialect, "JSON_EXTRACT(document.file, '$.\"size\"')"),
        (postgresql.dialect, "document.file ->> 'size'"),
        (mysql.dialect, "JSON_EXTRACT(document.file, '$.\"size\"')"),
    ],
    ids=["sqlite", "postgresql", "mysql"],
)
def test_compiles(dialect: Any, member: str) -> None:
    """The size is taken out of the JSON as a 64 bit number."""
    compiled = str(
        select(Document.file.size).compile(dialect=dialect(), compile_kwargs={"literal_binds": True}),
    )
    assert member in compiled
    assert "AS BIGINT)" in compiled or "AS SIGNED INTEGER)" in compiled
