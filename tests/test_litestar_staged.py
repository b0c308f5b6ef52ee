"""What a request has stored and no row has taken: what of it must not be removed, since it may be somebody else's."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from litestar import Litestar, post
from litestar.enums import RequestEncodingType
from litestar.params import Body
from msgspec import Struct
from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from lading import FileObject, Storages, StoredObject, paths
from lading.backends.obstore import ObstoreBackend
from lading.litestar import LadingConfig, LadingPlugin, UploadTo
from lading.testing import Fault, FaultyBackend
from tests.services import web

storages = Storages()


class Base(DeclarativeBase):
    pass


class Report(Base):
    __tablename__ = "report"
    id: Mapped[int] = mapped_column(primary_key=True)
    file: Mapped[FileObject] = mapped_column(StoredObject("files", storages=storages, path=paths.as_given))


class New(Struct):
    file: Annotated[FileObject, UploadTo(Report.file)]
    fails: bool = False


@pytest.fixture
def backend() -> Iterator[FaultyBackend]:
    """A store that is not there when the second file comes."""
    faulty = FaultyBackend(ObstoreBackend("files", "memory://"), [Fault("put", at=2)])
    storages.register_backend(faulty)
    yield faulty
    storages.clear_backends()
    storages.signer = None


def test_an_object_of_another_request(backend: FaultyBackend, tmp_path: Path) -> None:
    """What lay there when an answer was lost may be another request's: the end of this one leaves it alone."""
    engine = create_engine(f"sqlite:///{tmp_path / 'test.sqlite'}")
    Base.metadata.create_all(engine)

    @post("/", sync_to_thread=True)
    def create(data: Annotated[New, Body(media_type=RequestEncodingType.MULTI_PART)]) -> None:
        if data.fails:
            raise RuntimeError("it fails with the file in the store")
        with Session(engine) as session:
            session.add(Report(file=data.file))
            session.commit()

    plugin = LadingPlugin(LadingConfig("a secret of some length", storages=storages))
    app = Litestar([create], plugins=[plugin], logging_config=None)
    with web.serving(app) as address:
        sent: dict[str, Any] = {"file": ("report.txt", b"abc")}
        assert httpx.post(address, files=sent).status_code == 201
        assert httpx.post(address, files=sent, data={"fails": "true"}).status_code == 500
    assert backend.verbs.count("put") == 3
    with Session(engine) as session:
        assert session.scalars(select(Report)).one().file.get_content() == b"abc"
    engine.dispose()
