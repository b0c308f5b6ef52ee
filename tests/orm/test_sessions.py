"""Any session will do: nothing to install, nothing to pay where there are no files."""

from pathlib import Path

import pytest
from sqlalchemy import create_engine, select
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker

from tests import databases
from tests.orm.conftest import Store
from tests.orm.models import Base, Document, file


def test_scoped_session(store: Store, tmp_path: Path) -> None:
    """A scoped_session, and a subclass of Session, have the whole lifecycle."""

    class Special(Session):
        pass

    engine = create_engine(f"sqlite:///{tmp_path / 'db'}")
    databases.begin_for_real(engine)
    Base.metadata.create_all(engine)
    scoped = scoped_session(sessionmaker(engine, class_=Special))
    scoped.add(Document(file=file(b"1")))
    scoped.commit()
    scoped.add(Document(file=file(b"2")))
    scoped.flush()
    assert len(store) == 2
    scoped.remove()
    assert len(store) == 1
    engine.dispose()


async def test_async_session_kinds(store: Store, tmp_path: Path) -> None:
    """AsyncSession by hand, from a maker, scoped, and with begin(), have the whole lifecycle."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'db'}")
    databases.begin_for_real(engine.sync_engine)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    maker = async_sessionmaker(engine, expire_on_commit=False)
    async with maker.begin() as session:
        session.add(Document(id=1, file=file(b"1")))
    assert len(store) == 1
    scoped = async_scoped_session(maker, scopefunc=lambda: None)
    document = await scoped.get_one(Document, 1)
    document.file = file(b"2")
    await scoped.commit()
    assert len(store) == 1
    await scoped.delete(document)
    await scoped.flush()
    await scoped.remove()
    assert len(store) == 1
    with pytest.raises(ZeroDivisionError):
        async with AsyncSession(engine) as session, session.begin():
            session.add(Document(file=file(b"3")))
            await session.flush()
            raise ZeroDivisionError
    assert len(store) == 1
    async with AsyncSession(engine) as session:
        assert [d.file for d in await session.scalars(select(Document))] == [document.file]
    await engine.dispose()


def test_sessions_of_advanced_alchemy(store: Store, tmp_path: Path) -> None:
    """A session of advanced-alchemy's configuration, through its repository, has the whole lifecycle."""
    from advanced_alchemy.config import SQLAlchemySyncConfig
    from advanced_alchemy.repository import SQLAlchemySyncRepository

    class Documents(SQLAlchemySyncRepository[Document]):
        model_type = Document

    config = SQLAlchemySyncConfig(connection_string=f"sqlite:///{tmp_path / 'db'}")
    Base.metadata.create_all(config.get_engine())
    with config.get_session() as session:
        documents = Documents(session=session)
        document = documents.add(Document(file=file(b"1")))
        session.commit()
        documents.update(Document(id=document.id, name="x", file=file(b"2")))
        session.commit()
        assert len(store) == 1
        documents.add_many([Document(name=str(n), file=file(b"n")) for n in range(3)])
        documents.delete_where()
        session.commit()
        assert len(store) == 0
    config.get_engine().dispose()


def test_sessions_without_files(tmp_path: Path) -> None:
    """A session that never meets a file keeps no ledger, and executes not one statement more."""

    class Plain(DeclarativeBase):
        pass

    class Thing(Plain):
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    engine = create_engine(f"sqlite:///{tmp_path / 'db'}")
    databases.begin_for_real(engine)
    Plain.metadata.create_all(engine)
    statements: list[str] = []
    from sqlalchemy import event

    event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2].split()[0]))
    with Session(engine) as session:
        thing = Thing(id=1, name="a")
        session.add(thing)
        session.commit()
        thing.name = "b"
        session.flush()
        session.delete(thing)
        session.commit()
        assert session.info == {}
    assert statements == ["BEGIN", "INSERT", "BEGIN", "SELECT", "UPDATE", "DELETE"]
    engine.dispose()
