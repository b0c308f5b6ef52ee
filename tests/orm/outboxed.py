"""Models whose tables have an outbox."""

from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy import ForeignKey, String, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from lading import FileObject, Outbox, StoredObject
from tests.orm.models import registry


class Models(NamedTuple):
    base: type[DeclarativeBase]
    outbox: Outbox
    document: Any
    page: Any

    def entries(self, session: Session) -> list[Any]:
        """What waits, as a new transaction sees it."""
        with Session(session.get_bind()) as other:
            return list(other.execute(select(self.outbox.table).order_by("id")))

    def waiting(self, session: Session) -> set[str]:
        return {entry.path for entry in self.entries(session)}


def make_models(**options: Any) -> Models:
    """A document with a file, a cover and pages, and a page that goes with its document in the database."""

    class Base(DeclarativeBase):
        pass

    class Document(Base):
        __tablename__ = "document"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str | None] = mapped_column(String(50), unique=True)
        file: Mapped[FileObject | None] = mapped_column(StoredObject("mem", storages=registry))
        cover: Mapped[FileObject | None] = mapped_column(StoredObject("mem", storages=registry))
        pages: Mapped[list[FileObject]] = mapped_column(StoredObject("mem", multiple=True, storages=registry))

    class Page(Base):
        __tablename__ = "page"
        id: Mapped[int] = mapped_column(primary_key=True)
        document_id: Mapped[int] = mapped_column(ForeignKey("document.id", ondelete="CASCADE"))
        file: Mapped[FileObject | None] = mapped_column(StoredObject("mem", storages=registry))

    return Models(Base, Outbox(Base.metadata, **options), Document, Page)


WITHOUT_TRIGGERS = make_models(triggers=False)
WITH_TRIGGERS = make_models()
AT_ONCE = make_models(grace=timedelta(0))
