"""The files of a page, signed at once."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine, event, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from lading import FileObject, Storages, StoredObject, sign_all, sign_all_async
from lading.backends.obstore import ObstoreBackend
from lading.errors import ConfigurationError, NotSupported, PendingFile
from lading.signer import UrlSigner
from lading.testing import FaultyBackend
from lading.testing.backends import in_its_world
from lading.tokens import Tokens
from lading.worlds import World, asyncio_world, inline
from tests.backends.endpoint import endpoint
from tests.services.moto import S3

SIGNER = UrlSigner(Tokens("a secret of some length"))
registry = Storages()


class Base(DeclarativeBase):
    pass


class Document(Base):
    __tablename__ = "document"
    id: Mapped[int] = mapped_column(primary_key=True)
    file: Mapped[FileObject | None] = mapped_column(StoredObject(backend="it", storages=registry))


@pytest.fixture(params=[inline, asyncio_world], ids=["inline", "asyncio"])
def world(request: pytest.FixtureRequest) -> World:
    chosen: World = request.param
    return chosen


@pytest.fixture(autouse=True)
def its_own_registry() -> Iterator[None]:
    yield
    registry.clear_backends()
    registry.signer = None


async def all_signed(world: World, files: Any, **options: Any) -> list[str | None]:
    return list(sign_all(files, **options) if world is inline else await sign_all_async(files, **options))


def page(session: Session, number: int = 100) -> list[FileObject | None]:
    """The files of rows that are loaded again, after they were written."""
    session.add_all(Document(file=FileObject(filename=f"{each}.txt", content=b"x")) for each in range(number))
    session.commit()
    session.expunge_all()
    return list(session.scalars(select(Document.file).order_by(Document.id)))


def on_s3(url: str, s3: S3, bucket: str) -> FaultyBackend:
    options: dict[str, Any] = {
        "aws_endpoint": url,
        "aws_access_key_id": s3.access_key_id,
        "aws_secret_access_key": s3.secret_access_key,
        "aws_region": s3.region,
    }
    return FaultyBackend(ObstoreBackend("it", f"s3://{bucket}/", **options))


class TestOrder:
    @in_its_world
    async def test_each_has_its_url(self, world: World) -> None:
        """The URLs come in the order of the files, and there is none for what is no file."""
        registry.register_backend("memory://", key="it")
        registry.signer = SIGNER
        files = [FileObject("it", path=f"p{number}", storages=registry) for number in range(20)]
        urls = await all_signed(world, iter([*files, None, files[3]]), expires_in=60, disposition="attachment")
        assert urls[20] is None
        grants = [SIGNER.read(url.split("/")[2]) for url in urls if url is not None]
        assert [grant.path for grant in grants] == [*(f"p{number}" for number in range(20)), "p3"]
        assert {grant.disposition for grant in grants} == {"attachment"}
        assert await all_signed(world, []) == []

    @in_its_world
    async def test_one_that_cannot_be_signed(self, world: World) -> None:
        """Where one file has no URL there are none, and the error is its own."""
        registry.register_backend("memory://", key="it")
        good, pending = FileObject("it", path="p", storages=registry), FileObject("it", "a", storages=registry)
        with pytest.raises(NotSupported):
            await all_signed(world, [good, good])
        registry.signer = SIGNER
        with pytest.raises(PendingFile):
            await all_signed(world, [good, pending, good])
        with pytest.raises(ConfigurationError):
            await all_signed(world, [good], expires_in=0)


class TestPage:
    """A page of a hundred rows."""

    @in_its_world
    async def test_no_store_is_asked(self, world: World) -> None:
        """Signing the files of rows that were just loaded is no call of a store, and no statement either."""
        backend = FaultyBackend(ObstoreBackend("it", "memory://"))
        registry.register_backend(backend)
        registry.signer = SIGNER
        engine = create_engine("sqlite://")
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            files = page(session)
            backend.calls.clear()
            statements: list[str] = []
            event.listen(engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
            urls = await all_signed(world, files)
            assert (backend.calls, statements) == ([], [])
        assert len({SIGNER.read(url.split("/")[2]).path for url in urls if url}) == 100
        engine.dispose()

    @in_its_world
    async def test_s3_gets_no_request(self, s3: S3, world: World) -> None:
        """Where the store signs, a page costs nothing on the network; where we sign, no driver is asked."""
        engine = create_engine("sqlite://")
        Base.metadata.create_all(engine)
        with endpoint(s3.endpoint) as (place, url), Session(engine) as session:
            backend = on_s3(url, s3, s3.make_bucket())
            registry.register_backend(backend)
            files = page(session)
            assert "PUT" in place.methods()
            backend.calls.clear()
            place.requests.clear()
            urls = await all_signed(world, files)
            assert all(signed and signed.startswith(url) for signed in urls)
            assert backend.verbs == ["sign"] * 100
            backend.calls.clear()
            registry.signer = SIGNER
            urls = await all_signed(world, files, disposition="attachment")
            assert all(signed and signed.startswith("/files/") for signed in urls)
            assert (backend.calls, place.requests) == ([], [])
        engine.dispose()
