"""An application that takes direct uploads, on any store, and the client that is written once for all of them."""

import hashlib
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Self

import httpx
import msgspec
from litestar import Litestar, post
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.enums import RequestEncodingType
from litestar.exceptions import NotAuthorizedException, PermissionDeniedException
from litestar.handlers import BaseRouteHandler
from litestar.params import Body, JSONBody
from pydantic import BaseModel
from sqlalchemy import Engine, create_engine, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from lading import FileObject, Outbox, Storages, StoredObject
from lading.backends.protocols import StorageBackend
from lading.litestar import DirectUploads, LadingConfig, LadingPlugin, UploadTo
from lading.rules import KiB, MiB, content_types, max_size
from lading.sweeper import Sweeper
from lading.testing.backends import paths
from lading.worlds import inline, run
from tests import databases
from tests.services import web

SECRET = "a secret of some length"
MOST = 12 * MiB
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\6\0\0\0\x1f\x15\xc4\x89"
storages = Storages()


class Base(DeclarativeBase):
    pass


class Document(Base):
    __tablename__ = "document"
    id: Mapped[int] = mapped_column(primary_key=True)
    file: Mapped[FileObject | None] = mapped_column(StoredObject("store", storages=storages, rules=[max_size(MOST)]))
    image: Mapped[FileObject | None] = mapped_column(
        StoredObject("store", storages=storages, rules=[max_size(64 * KiB), content_types("image/*")])
    )
    pages: Mapped[list[FileObject]] = mapped_column(StoredObject("store", storages=storages, multiple=True))


outbox = Outbox(Base.metadata, grace=timedelta(0))


class New(msgspec.Struct):
    """What a client sends: files, or the ids of direct uploads."""

    file: Annotated[FileObject | None, UploadTo(Document.file)] = None
    image: Annotated[FileObject | None, UploadTo(Document.image)] = None
    pages: Annotated[list[FileObject], UploadTo(Document.pages)] = []


class NewModel(BaseModel):
    file: FileObject | None = None
    pages: list[FileObject] = []


class Created(msgspec.Struct):
    """What a client is told of a row."""

    id: int
    file: FileObject | None
    pages: list[FileObject]
    urls: list[str]


@post("/json")
async def by_json(data: JSONBody[New], session: NamedDependency[AsyncSession]) -> Created:
    return await kept(session, data)


@post("/pydantic")
async def by_pydantic(data: JSONBody[NewModel], session: NamedDependency[AsyncSession]) -> Created:
    return await kept(session, data)


@post("/form")
async def by_form(
    data: Annotated[New, Body(media_type=RequestEncodingType.MULTI_PART)], session: NamedDependency[AsyncSession]
) -> Created:
    return await kept(session, data)


@post("/urlencoded")
async def by_urlencoded(
    data: Annotated[NewModel, Body(media_type=RequestEncodingType.URL_ENCODED)],
    session: NamedDependency[AsyncSession],
) -> Created:
    return await kept(session, data)


@post("/msgpack")
async def by_msgpack(
    data: Annotated[New, Body(media_type=RequestEncodingType.MESSAGEPACK)], session: NamedDependency[AsyncSession]
) -> Created:
    return await kept(session, data)


@post("/list")
async def by_list(data: JSONBody[list[FileObject]], session: NamedDependency[AsyncSession]) -> Created:
    return await kept(session, New(pages=data))


@post("/sync", sync_to_thread=True)
def by_sync(data: JSONBody[New], state: State) -> Created:
    with Session(state.sync_engine, expire_on_commit=False) as session:
        document = Document(file=data.file, image=data.image, pages=data.pages)
        session.add(document)
        session.commit()
        files = [file for file in (document.file, document.image, *document.pages) if file is not None]
        return Created(document.id, document.file, list(document.pages), [file.sign() for file in files])


@post("/saved")
async def by_saved(data: JSONBody[New], session: NamedDependency[AsyncSession]) -> Created:
    assert data.file is not None
    await data.file.save_async()
    return await kept(session, data)


@post("/not-committed")
async def by_nothing(data: JSONBody[New], session: NamedDependency[AsyncSession]) -> None:
    session.add(Document(file=data.file, pages=[]))
    await session.flush()
    raise RuntimeError("it fails after the flush")


HANDLERS = [by_json, by_pydantic, by_form, by_urlencoded, by_msgpack, by_list, by_sync, by_saved, by_nothing]


async def kept(session: AsyncSession, data: New | NewModel) -> Created:
    document = Document(file=data.file, image=getattr(data, "image", None), pages=data.pages)
    session.add(document)
    await session.commit()
    files = [file for file in (document.file, document.image, *document.pages) if file is not None]
    return Created(document.id, document.file, list(document.pages), [await file.sign_async() for file in files])


async def a_session(state: State) -> AsyncGenerator[AsyncSession, None]:
    async with AsyncSession(state.engine, expire_on_commit=False) as session:
        yield session


def user_of(connection: ASGIConnection[Any, Any, Any, Any]) -> str | None:
    return connection.headers.get("x-user")


def known(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """A guard: there are users, and one of them may do nothing."""
    if user_of(connection) is None:
        raise NotAuthorizedException(headers={"www-authenticate": "x-user"})
    if user_of(connection) == "eve":
        raise PermissionDeniedException


@dataclass
class House:
    """An application with its database, and a look at what lies there.

    Attributes:
        backend: of all columns; the registry knows it.
        folder: for the database.
        direct: what is said of direct uploads besides guard and principal.
        options: of `LadingConfig`.
    """

    backend: StorageBackend
    folder: Path
    direct: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    is_async: bool = True

    def __post_init__(self) -> None:
        self.engine = create_engine(f"sqlite:///{self.folder / 'test.sqlite'}", connect_args={"timeout": 30})
        databases.begin_for_real(self.engine)
        Base.metadata.create_all(self.engine)

    def config(self, engine: Engine | AsyncEngine) -> LadingConfig:
        """What the application says of its files."""
        direct = DirectUploads(**{"guards": [known], "principal": user_of, **self.direct})
        told = {"columns": [Document.file, Document.image, Document.pages], "sweep_every": timedelta(hours=9)}
        sweeper = Sweeper(engine, Base.metadata)
        return LadingConfig(
            **{
                "secret": SECRET,
                "storages": storages,
                "direct_uploads": direct,
                "sweeper": sweeper,
                **told,
                **self.options,
            }
        )

    def app(self, **options: Any) -> Litestar:
        """The application."""
        theirs = create_async_engine(self.engine.url.set(drivername="sqlite+aiosqlite"))
        databases.begin_for_real(theirs.sync_engine)
        more = {"route_handlers": HANDLERS, "on_shutdown": [theirs.dispose], **options}
        return Litestar(
            plugins=[LadingPlugin(self.config(theirs if self.is_async else self.engine))],
            dependencies={"session": Provide(a_session)},
            state=State({"engine": theirs, "sync_engine": self.engine}),
            # Litestar's logging would take pytest's handler away.
            logging_config=None,
            **more,
        )

    @contextmanager
    def serving(self, **options: Any) -> Iterator["Client"]:
        """The application on a server, and one of its users."""
        with web.serving(self.app(**options)) as address, Client(address) as client:
            yield client

    def stored(self) -> list[str]:
        """The paths of all objects."""
        return run(paths(self.backend.driver(inline)))

    def rows(self) -> list[Document]:
        """All rows."""
        with Session(self.engine) as session:
            return list(session.scalars(select(Document)))

    def entries(self) -> dict[str, str]:
        """The reason of each path in the outbox."""
        with self.engine.connect() as connection:
            return {row.path: row.reason for row in connection.execute(select(outbox.table))}

    def sweep(self) -> None:
        """Delete what is due."""
        assert Sweeper(self.engine, Base.metadata).drain().failed == 0


class Client:
    """A client of the application, which knows nothing of stores."""

    def __init__(self, address: str, user: str | None = "ann") -> None:
        self.address = httpx.URL(address)
        self.user = user
        self._http = httpx.Client(timeout=60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def as_user(self, user: str | None) -> "Client":
        """The same, as somebody else."""
        other = Client(str(self.address), user)
        other._http = self._http
        return other

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """A request to the application, as its user."""
        headers = {**({} if self.user is None else {"x-user": self.user}), **options.pop("headers", {})}
        return self._http.request(method, self.address.join(path), headers=headers, **options)

    def cookies(self) -> httpx.Cookies:
        """What the application has asked it to keep."""
        return self._http.cookies

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.request("POST", path, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def ask(self, filename: str, size: int, policy: str = "document.file", **more: Any) -> httpx.Response:
        """Ask for a direct upload."""
        body = {"filename": filename, "size": size, "policy": policy, **more}
        return self.post("/files/uploads", json=body)

    def send(self, ticket: dict[str, Any], content: bytes, **changes: Any) -> httpx.Response:
        """Send the bytes to where the ticket says: nobody there is told who that is."""
        headers = {**ticket["headers"], **changes.pop("headers", {})}
        request = {"method": ticket["method"], "url": ticket["url"], "content": content, **changes}
        return self._http.request(**{**request, "url": self.address.join(request["url"]), "headers": headers})

    def upload(self, filename: str, content: bytes, policy: str = "document.file", **more: Any) -> str:
        """Upload a file directly. Returns its id."""
        answer = self.ask(filename, len(content), policy, **more)
        assert answer.status_code == 201, answer.text
        ticket: dict[str, Any] = answer.json()
        sent = self.send(ticket, content)
        assert sent.status_code == 200, sent.text
        return str(ticket["id"])

    def attach(self, upload_id: str, path: str = "/json", name: str = "file") -> httpx.Response:
        """Hand in the id of an upload."""
        return self.post(path, json={name: upload_id})


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
