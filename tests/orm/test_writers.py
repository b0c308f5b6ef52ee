"""Which writers the triggers see, on which database: the table of `docs/howto/triggers.md`, a test for each cell."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    Column,
    Connection,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    delete,
    event,
    insert,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from lading import FileObject, StoredObject
from lading.orm.outbox import Outbox
from tests.orm.conftest import Store
from tests.orm.models import file, registry

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "triggers.md"
DATABASES = ("postgresql", "sqlite", "mariadb")

ENTERED = "entered"
NOT_ENTERED = "**not entered**"
STILL_NAMED = "entered, still named"
STAYS = "stays"
ABSENT = "—"


class Base(DeclarativeBase):
    pass


class Folder(Base):
    __tablename__ = "folder"
    id: Mapped[int] = mapped_column(primary_key=True)


class Document(Base):
    __tablename__ = "document"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(String(50), unique=True)
    file: Mapped[FileObject | None] = mapped_column(StoredObject("mem", storages=registry))
    folder_id: Mapped[int | None] = mapped_column(ForeignKey("folder.id", ondelete="CASCADE"))
    shelf_id: Mapped[int | None] = mapped_column(ForeignKey("folder.id", ondelete="SET NULL"))


OUTBOX = Outbox(Base.metadata)

DOCUMENT = Table(
    "document",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("name", String(50)),
    Column("file", JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")),
)
"""The table, as one knows it who has never heard of lading."""


def record(path: str) -> dict[str, str]:
    return {"backend": "mem", "path": path, "filename": "a.txt"}


OLD, NEW = json.dumps(record("old")), json.dumps(record("new"))

Writer = Callable[[Engine], None]
WRITERS: dict[str, Writer] = {}
CELLS: dict[tuple[str, str], str] = {}


def writer(title: str, postgresql: str, sqlite: str, mariadb: str) -> Callable[[Writer], Writer]:
    """A line of the table: who writes, and what becomes of the object that a row named on each database."""

    def note(write: Writer) -> Writer:
        WRITERS[title] = write
        CELLS.update({(title, name): cell for name, cell in zip(DATABASES, (postgresql, sqlite, mariadb), strict=True)})
        return write

    return note


def everywhere(title: str, cell: str) -> Callable[[Writer], Writer]:
    return writer(title, cell, cell, cell)


def run(engine: Engine, *statements: Any) -> None:
    with engine.begin() as connection:
        for each in statements:
            connection.exec_driver_sql(each) if isinstance(each, str) else connection.execute(each)


@everywhere("unit of work: another file, `None`, `del`", ENTERED)
def unit_of_work_update(engine: Engine) -> None:
    with Session(engine) as session:
        session.get_one(Document, 1).file = file(b"new")
        session.commit()


@everywhere("unit of work: `session.delete()`", ENTERED)
def unit_of_work_delete(engine: Engine) -> None:
    with Session(engine) as session:
        session.delete(session.get_one(Document, 1))
        session.commit()


@everywhere("`session.execute(update())`", ENTERED)
def session_update(engine: Engine) -> None:
    with Session(engine) as session:
        session.execute(update(Document).where(Document.id == 1).values(file=file(b"new")))
        session.commit()


@everywhere("`session.execute(delete())`", ENTERED)
def session_delete(engine: Engine) -> None:
    with Session(engine) as session:
        session.execute(delete(Document).where(Document.id == 1))
        session.commit()


@everywhere("`session.execute(insert())`, `bulk_insert_mappings`, `INSERT`", STAYS)
def bulk_insert(engine: Engine) -> None:
    with Session(engine) as session:
        session.execute(insert(Document), [{"id": 2, "file": file(b"2")}, {"id": 3, "file": file(b"3")}])
        session.bulk_insert_mappings(Document.__mapper__, [{"id": 4, "file": None}])
        session.commit()


@everywhere("`bulk_update_mappings`", ENTERED)
def bulk_update_mappings(engine: Engine) -> None:
    with Session(engine) as session:
        session.bulk_update_mappings(Document.__mapper__, [{"id": 1, "file": None}])
        session.commit()


@everywhere("`bulk_save_objects`", ENTERED)
def bulk_save_objects(engine: Engine) -> None:
    with Session(engine) as session:
        document = session.get_one(Document, 1)
        document.file = None
        session.expunge(document)
        session.bulk_save_objects([document])
        session.commit()


@everywhere("Core `update()`", ENTERED)
def core_update(engine: Engine) -> None:
    run(engine, DOCUMENT.update().values(file=record("new")))


@everywhere("Core `delete()`", ENTERED)
def core_delete(engine: Engine) -> None:
    run(engine, DOCUMENT.delete().where(DOCUMENT.c.id == 1))


@everywhere("`UPDATE`", ENTERED)
def raw_update(engine: Engine) -> None:
    run(engine, f"UPDATE document SET file = '{NEW}' WHERE id = 1")


@everywhere("`UPDATE` of the JSON in its place", ENTERED)
def raw_update_in_place(engine: Engine) -> None:
    value = "json_set(file, '$.path', 'new')"
    if engine.dialect.name == "postgresql":
        value = "jsonb_set(file, '{path}', '\"new\"')"
    run(engine, f"UPDATE document SET file = {value}")


@everywhere("`UPDATE` of the primary key or of other columns", STAYS)
def raw_update_of_others(engine: Engine) -> None:
    run(engine, "UPDATE document SET id = 7, name = 'other'")


@everywhere("`DELETE … WHERE`", ENTERED)
def raw_delete(engine: Engine) -> None:
    run(engine, "DELETE FROM document WHERE id = 1")


@everywhere("`DELETE` without `WHERE`", ENTERED)
def raw_delete_of_all(engine: Engine) -> None:
    run(engine, "DELETE FROM document")


@writer("`UPDATE … FROM`, `UPDATE` of several tables", ENTERED, ENTERED, ENTERED)
def update_from(engine: Engine) -> None:
    if engine.dialect.name == "mariadb":
        run(engine, "UPDATE document, folder SET document.file = NULL WHERE folder.id = document.folder_id")
    else:
        run(engine, "UPDATE document SET file = NULL FROM folder WHERE folder.id = document.folder_id")


@writer("`DELETE … USING`, `DELETE` from several tables", ENTERED, ABSENT, ENTERED)
def delete_using(engine: Engine) -> None:
    if engine.dialect.name == "mariadb":
        run(engine, "DELETE document FROM document JOIN folder ON folder.id = document.folder_id")
    else:
        run(engine, "DELETE FROM document USING folder WHERE folder.id = document.folder_id")


@writer("`INSERT … ON CONFLICT DO UPDATE`, `ON DUPLICATE KEY UPDATE`", ENTERED, ENTERED, ENTERED)
def upsert(engine: Engine) -> None:
    row = f"INSERT INTO document (id, name, file) VALUES (2, 'one', '{NEW}')"
    if engine.dialect.name == "mariadb":
        run(engine, f"{row} ON DUPLICATE KEY UPDATE file = VALUES(file)")
    else:
        run(engine, f"{row} ON CONFLICT (name) DO UPDATE SET file = excluded.file")


@writer("`REPLACE`, `INSERT OR REPLACE`", ABSENT, NOT_ENTERED, ENTERED)
def replace(engine: Engine) -> None:
    run(engine, f"REPLACE INTO document (id, name, file) VALUES (2, 'one', '{NEW}')")


@writer("… after `PRAGMA recursive_triggers = ON`", ABSENT, ENTERED, ABSENT)
def replace_with_recursive_triggers(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def connect(connection: Any, _: object) -> None:
        connection.execute("PRAGMA recursive_triggers = ON")

    engine.dispose()
    replace(engine)


@writer("`REPLACE` by a row that names the same object", ABSENT, STAYS, STILL_NAMED)
def replace_by_the_same(engine: Engine) -> None:
    run(engine, f"REPLACE INTO document (id, name, file) VALUES (1, 'other', '{OLD}')")


@writer("`UPDATE OR REPLACE` that meets another row", ABSENT, NOT_ENTERED, ABSENT)
def update_or_replace(engine: Engine) -> None:
    run(
        engine,
        "INSERT INTO document (id, name) VALUES (2, 'two')",
        "UPDATE OR REPLACE document SET id = 1 WHERE id = 2",
    )


@writer("`MERGE`", ENTERED, ABSENT, ABSENT)
def merge(engine: Engine) -> None:
    on = "MERGE INTO document USING (VALUES ('one')) AS source (name) ON document.name = source.name"
    run(engine, f"{on} WHEN MATCHED THEN UPDATE SET file = '{NEW}'", f"{on} WHEN MATCHED THEN DELETE")


@writer("`ON DELETE CASCADE`", ENTERED, ENTERED, NOT_ENTERED)
def on_delete_cascade(engine: Engine) -> None:
    run(engine, "DELETE FROM folder WHERE id = 1")


@everywhere("`ON DELETE SET NULL` of another column", STAYS)
def on_delete_set_null(engine: Engine) -> None:
    run(engine, "DELETE FROM folder WHERE id = 2")


@writer("`TRUNCATE`", ENTERED, ABSENT, NOT_ENTERED)
def truncate(engine: Engine) -> None:
    run(engine, "TRUNCATE TABLE document")


@writer("`TRUNCATE … CASCADE` of a table that is referred to", ENTERED, ABSENT, ABSENT)
def truncate_cascade(engine: Engine) -> None:
    run(engine, "TRUNCATE folder CASCADE")


@everywhere("`DROP TABLE`", NOT_ENTERED)
def drop_table(engine: Engine) -> None:
    run(engine, "DROP TABLE document")


@everywhere("a trigger of your own that updates the row", ENTERED)
def own_trigger(engine: Engine) -> None:
    if engine.dialect.name == "postgresql":
        run(
            engine,
            "CREATE FUNCTION own() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.file = NULL; RETURN NEW; END$$",
            "CREATE TRIGGER own BEFORE UPDATE ON document FOR EACH ROW EXECUTE FUNCTION own()",
        )
    elif engine.dialect.name == "mariadb":
        run(engine, "CREATE TRIGGER own BEFORE UPDATE ON document FOR EACH ROW SET NEW.file = NULL")
    else:
        run(
            engine,
            "CREATE TRIGGER own AFTER UPDATE OF name ON document FOR EACH ROW "
            "BEGIN UPDATE document SET file = NULL WHERE id = NEW.id; END",
        )
    run(engine, "UPDATE document SET name = 'other'")


@writer("`COPY … FROM`", STAYS, ABSENT, ABSENT)
def copy(engine: Engine) -> None:
    with engine.begin() as connection:
        cursor: Any = connection.connection.cursor()
        with cursor.copy("COPY document (id, file) FROM STDIN") as stream:
            stream.write_row((2, NEW))
        cursor.close()


@writer("`UPDATE` that moves a row to another partition", STILL_NAMED, ABSENT, STAYS)
def move_to_another_partition(engine: Engine) -> None:
    partitioned(engine)
    run(engine, "UPDATE document SET id = 15 WHERE id = 1")


@writer("`DROP`, `DETACH`, `TRUNCATE` of a partition", NOT_ENTERED, ABSENT, NOT_ENTERED)
def drop_partition(engine: Engine) -> None:
    partitioned(engine)
    if engine.dialect.name == "mariadb":
        run(engine, "ALTER TABLE document DROP PARTITION low")
    else:
        run(engine, "TRUNCATE low")


def partitioned(engine: Engine) -> None:
    """The same row in the same table, in partitions."""
    OUTBOX.table.metadata.drop_all(engine)
    if engine.dialect.name == "mariadb":
        run(
            engine,
            "CREATE TABLE document (id int PRIMARY KEY, name varchar(50), file json, folder_id int, shelf_id int) "
            "PARTITION BY RANGE (id) (PARTITION low VALUES LESS THAN (10), PARTITION high VALUES LESS THAN (20))",
        )
    else:
        run(
            engine,
            "CREATE TABLE document (id int PRIMARY KEY, name varchar(50), file jsonb, folder_id int, shelf_id int) "
            "PARTITION BY RANGE (id)",
            "CREATE TABLE low PARTITION OF document FOR VALUES FROM (0) TO (10)",
            "CREATE TABLE high PARTITION OF document FOR VALUES FROM (10) TO (20)",
        )
    OUTBOX.table.metadata.create_all(engine)
    run(engine, DOCUMENT.insert().values(id=1, name="one", file=record("old")))


@writer("`session_replication_role = replica`, `DISABLE TRIGGER`", NOT_ENTERED, ABSENT, ABSENT)
def replica(engine: Engine) -> None:
    run(engine, "SET LOCAL session_replication_role = replica", "DELETE FROM document")


def fill(connection: Connection) -> None:
    connection.execute(insert(Folder), [{"id": 1}, {"id": 2}])
    connection.exec_driver_sql(
        f"INSERT INTO document (id, name, file, folder_id, shelf_id) VALUES (1, 'one', '{OLD}', 1, 2)"
    )


def is_entered(engine: Engine) -> bool:
    """Whether the triggers, not the session, have entered the old object, once."""
    c = OUTBOX.table.c
    with engine.connect() as connection:
        reasons = connection.execute(select(c.reason).where(c.path == "old", c.backend == "mem")).scalars().all()
    assert len(reasons) <= 1
    assert all(re.fullmatch(r"document\.file: (update|delete|truncate)", each) for each in reasons)
    return bool(reasons)


def is_named(engine: Engine) -> bool:
    """Whether a row still names it."""
    with engine.connect() as connection:
        if not engine.dialect.has_table(connection, "document"):
            return False
        return any(each and each["path"] == "old" for each in connection.execute(select(DOCUMENT.c.file)).scalars())


@pytest.mark.parametrize("title", WRITERS)
def test_a_writer_is_seen_or_not_as_the_table_says(title: str, engine: Engine, store: Store) -> None:
    """What a row names after a statement, and what the outbox has, is what the cell of writer and database says."""
    cell = CELLS[title, engine.dialect.name]
    if cell == ABSENT:
        return
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        fill(connection)
    WRITERS[title](engine)
    happened = {
        (True, False): ENTERED,
        (False, False): NOT_ENTERED,
        (True, True): STILL_NAMED,
        (False, True): STAYS,
    }[is_entered(engine), is_named(engine)]
    assert happened == cell


def test_the_page_has_this_table() -> None:
    """The documentation has a line for each writer, and says of each database what the tests above have shown."""
    lines = re.findall(r"^\| (.+?) +\| (.+?) +\| (.+?) +\| (.+?) +\|$", PAGE.read_text(), re.MULTILINE)
    start = next(index for index, line in enumerate(lines) if line[1:] == ("PostgreSQL", "SQLite", "MariaDB, MySQL"))
    shown = {line[0]: line[1:] for line in lines[start + 1 : start + 1 + len(WRITERS)]}
    assert shown == {title: tuple(CELLS[title, name] for name in DATABASES) for title in WRITERS}
