"""`LadingPlugin` and its `LadingConfig`: every argument, whatever stands beside it, and what is refused."""

import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from advanced_alchemy.extensions.litestar import (
    AsyncSessionConfig,
    SQLAlchemyAsyncConfig,
    SQLAlchemyPlugin,
    SQLAlchemySyncConfig,
)
from litestar import Controller, Litestar, Request, Router, WebSocket, get, post, websocket
from litestar.config.app import AppConfig
from litestar.config.compression import CompressionConfig
from litestar.config.csrf import CSRFConfig
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.enums import RequestEncodingType
from litestar.exceptions import NotAuthorizedException, PermissionDeniedException
from litestar.handlers import BaseRouteHandler
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult
from litestar.middleware.base import DefineMiddleware
from litestar.params import Body, JSONBody
from litestar.plugins import InitPlugin
from litestar.testing import TestClient
from sqlalchemy import Engine, MetaData, create_engine
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from lading import FileObject, Outbox, Storages, StoredObject
from lading.backends.obstore import ObstoreBackend
from lading.errors import ConfigurationError, StoreUnavailable, TooManyUploads
from lading.litestar import DirectUploads, LadingConfig, LadingPlugin
from lading.rules import MiB, content_types, extensions, max_size, min_size
from lading.sweeper import Sweeper
from lading.testing.backends import paths
from lading.worlds import inline, run
from tests import databases, direct
from tests.backends.test_obstore import on_s3
from tests.direct import PNG, SECRET, Client, Created, Document, House, New, kept, known, storages
from tests.services import web
from tests.services.moto import S3
from tests.services.radosgw import RadosGW
from tests.test_litestar_direct import refused

HTML = b"<!DOCTYPE html><p>hello"
other_registry = Storages()


class OtherBase(DeclarativeBase):
    pass


class Picture(OtherBase):
    __tablename__ = "picture"
    id: Mapped[int] = mapped_column(primary_key=True)
    image: Mapped[FileObject] = mapped_column(
        StoredObject(
            "store",
            storages=other_registry,
            rules=[content_types("image/png", "image/webp"), extensions("png", "webp"), max_size(MiB), min_size(8)],
        )
    )


other_outbox = Outbox(OtherBase.metadata, grace=timedelta(0))


class BareBase(DeclarativeBase):
    """Tables without an outbox, one of which is called as one of another application."""


class Bare(BareBase):
    __tablename__ = "document"
    id: Mapped[int] = mapped_column(primary_key=True)
    file: Mapped[FileObject] = mapped_column(StoredObject("store", storages=storages))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """The application of direct uploads, in memory."""
    yield from _house(ObstoreBackend("store", "memory://"), tmp_path)


@pytest.fixture
def moto(s3: S3, tmp_path: Path) -> Iterator[House]:
    """The same on S3."""
    yield from _house(on_s3(s3, key="store"), tmp_path)


@pytest.fixture
def ceph(radosgw: RadosGW, tmp_path: Path) -> Iterator[House]:
    """The same on a store that enforces signatures."""
    yield from _house(on_s3(radosgw, key="store"), tmp_path)


def _house(backend: ObstoreBackend, folder: Path) -> Iterator[House]:
    storages.register_backend(backend)
    other_registry.register_backend("memory://", key="store")
    house = House(backend, folder)
    try:
        yield house
    finally:
        house.engine.dispose()
        for registry in (storages, other_registry):
            registry.clear_backends()
            registry.signer = None


@pytest.fixture
def other_engine(tmp_path: Path) -> Iterator[Engine]:
    """The database of the second plugin."""
    engine = create_engine(f"sqlite:///{tmp_path / 'other.sqlite'}")
    databases.begin_for_real(engine)
    OtherBase.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def file(house: House) -> FileObject:
    return FileObject("store", "notes.txt", content=b"0123456789", storages=storages).save()


@contextmanager
def serving(*handlers: Any, config: dict[str, Any] | None = None, **options: Any) -> Iterator[TestClient[Litestar]]:
    plugin = LadingPlugin(LadingConfig(**{"secret": SECRET, "storages": storages, **(config or {})}))
    app = Litestar(list(handlers), **{"plugins": [plugin], "logging_config": None, **options})
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def engine_less() -> Sweeper:
    """A sweeper whose engine nobody uses."""
    return Sweeper(create_engine("sqlite://"), direct.Base.metadata)


def uploads(**options: Any) -> DirectUploads:
    return DirectUploads(**{"guards": [known], **options})


class TestPutTogetherWrongly:
    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            ({"secret": "short"}, "at least 16"),
            ({"secret": {}}, "at least one secret"),
            ({"secret": {"a.b": SECRET}}, "id of a key"),
            ({"path": "files"}, "plain segments"),
            ({"path": "/"}, "plain segments"),
            ({"path": "/a b"}, "plain segments"),
            ({"path": "/{token:str}"}, "plain segments"),
            ({"name": "my storages"}, "parameter"),
            ({"name": ""}, "parameter"),
            ({"base_url": "example.org"}, "base_url"),
            ({"separate_origin": True}, "base_url of its own"),
            ({"urls": "both"}, "'store', 'redirect' or 'proxy'"),
            ({"urls": "redirect", "downloads": False}, "downloads is off"),
            ({"longest": 0}, "longest"),
            ({"longest": 604_801}, "longest"),
            ({"max_uploads": 0}, "at least one upload"),
            ({"upload_memory": 0}, "some memory"),
            ({"columns": [Document.id]}, "StoredObject column"),
            ({"columns": ["document.file"]}, "StoredObject column"),
            ({"columns": [Picture.image]}, "another registry"),
            ({"columns": [Document.file, Bare.file]}, "two columns are called document.file"),
            ({"sweeper": engine_less(), "sweep_every": timedelta(0)}, "sweep_every"),
            ({"direct_uploads": uploads()}, "name them"),
            ({"direct_uploads": uploads(), "columns": [Document.file]}, "need a sweeper"),
            (
                {
                    "direct_uploads": uploads(expires_in=601),
                    "columns": [Document.file],
                    "sweeper": engine_less(),
                    "longest": 600,
                },
                "600 seconds",
            ),
            (
                {
                    "direct_uploads": uploads(),
                    "columns": [Document.file],
                    "sweeper": engine_less(),
                    "urls": "proxy",
                    "uploads": False,
                },
                "uploads is off",
            ),
        ],
    )
    def test_at_once(self, options: dict[str, Any], reason: str) -> None:
        """What is wrong is refused when the plugin is made, and the message says what it is."""
        with pytest.raises(ConfigurationError, match=reason):
            LadingPlugin(LadingConfig(**{"secret": SECRET, "storages": storages, **options}))

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            ({"guards": []}, "need a guard"),
            ({"expires_in": 0}, "from 1 to 604800"),
            ({"expires_in": 604_801}, "from 1 to 604800"),
            ({"keep_for": timedelta(minutes=59)}, "not less than expires_in"),
            ({"prefix": ""}, "prefix"),
            ({"prefix": "../up"}, "prefix"),
            ({"prefix": "/up"}, "prefix"),
            ({"prefix": "up/"}, "prefix"),
        ],
    )
    def test_direct_uploads(self, options: dict[str, Any], reason: str) -> None:
        """So is what is wrong about direct uploads, above all that nobody guards them."""
        with pytest.raises(ConfigurationError, match=reason):
            uploads(**options)

    @pytest.mark.parametrize(
        ("metadata", "columns", "reason"),
        [
            (MetaData(), [Document.file], "need an outbox"),
            (OtherBase.metadata, [Document.file], "document.file is not of the tables"),
            (direct.Base.metadata, [Document.image, Bare.file], "document.file is not of the tables"),
        ],
    )
    def test_another_outbox(self, metadata: MetaData, columns: list[Any], reason: str) -> None:
        """Uploads wait in the outbox of their own tables; with another, the application is not made."""
        sweeper = Sweeper(create_engine("sqlite://"), metadata)
        config = LadingConfig(SECRET, storages=storages, direct_uploads=uploads(), columns=columns, sweeper=sweeper)
        with pytest.raises(ConfigurationError, match=reason):
            Litestar(plugins=[LadingPlugin(config)])

    async def test_uploads_that_have_nowhere_to_go(self, house: House) -> None:
        """An application whose store signs nothing, and that serves no uploads itself, does not start."""
        house.options["uploads"] = False
        with pytest.raises(ExceptionGroup) as caught:
            async with house.app().lifespan():
                pass
        (error,) = caught.value.exceptions
        assert isinstance(error, ConfigurationError)
        assert "'store' signs no uploads" in str(error)
        storages.clear_backends()
        async with house.app().lifespan():
            pass

    @pytest.mark.parametrize("other", [{"path": "/files/", "name": "others"}, {"path": "/others"}])
    def test_two_alike(self, other: dict[str, Any]) -> None:
        """Two plugins have two paths and two names."""
        plugins = [LadingPlugin(LadingConfig(SECRET)), LadingPlugin(LadingConfig(SECRET, **other))]
        with pytest.raises(ConfigurationError, match="a path and a name of its own"):
            Litestar(plugins=plugins)


class TestTheRegistry:
    def test_in_handlers_and_state(self, house: House) -> None:
        """The registry is injected under its name, in async and sync handlers, and is in the application's state."""

        @get("/async")
        async def by_name(storages: NamedDependency[Storages], request: Request[Any, Any, Any]) -> list[str]:
            assert request.app.state["storages"] is storages
            return sorted(storages.registered_backends())

        @get("/sync", sync_to_thread=True)
        def in_a_thread(storages: NamedDependency[Storages]) -> list[str]:
            return sorted(storages.registered_backends())

        with serving(by_name, in_a_thread) as client:
            assert client.get("/async").json() == client.get("/sync").json() == ["store"]
            assert client.app.state["storages"] is storages

    def test_of_the_application(self, house: House) -> None:
        """A dependency of that name that the application has stays the one."""

        @get("/")
        async def handler(storages: NamedDependency[str]) -> str:
            return storages

        async def provided() -> str:
            return "mine"

        with serving(handler, dependencies={"storages": Provide(provided)}) as client:
            assert client.get("/").text == "mine"


class TestRoutes:
    def test_turned_off(self, house: House, file: FileObject) -> None:
        """Each route can be left out."""
        config = {"columns": [Document.file]}
        with serving(config=config) as client:
            download, upload = file.sign(), file.sign(for_upload=True)
            assert client.get(download).status_code == 200
            assert client.put(upload, content=b"0123456789").status_code == 200
            assert client.get("/files/policies/document.file").status_code == 200
            assert client.post("/files/uploads", json={}).status_code in (404, 405)
        with serving(config={**config, "downloads": False, "hints": False}) as client:
            assert client.get(download).status_code == 404
            assert client.put(upload, content=b"0123456789").status_code == 200
            assert client.get("/files/policies/document.file").status_code == 404
        with serving(config={**config, "uploads": False}) as client:
            assert client.get(download).status_code == 200
            assert client.put(upload, content=b"0123456789").status_code == 405
        with serving() as client:
            assert client.get("/files/policies/document.file").status_code == 403, "a token that is none"

    def test_guarded(self, house: House, file: FileObject) -> None:
        """Each can have guards besides, which see who is logged in, and whose refusals are problem documents."""

        class Login(AbstractAuthenticationMiddleware):
            async def authenticate_request(
                self, connection: ASGIConnection[Any, Any, Any, Any]
            ) -> AuthenticationResult:
                if "x-user" not in connection.headers:
                    raise NotAuthorizedException
                return AuthenticationResult(user=connection.headers["x-user"], auth=None)

        def ann(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
            if connection.user != "ann":
                raise PermissionDeniedException("only ann")

        guarded = {"columns": [Document.file], "download_guards": [ann], "upload_guards": [ann], "hint_guards": [ann]}
        with serving(config=guarded, middleware=[DefineMiddleware(Login)]) as client:
            tried = [
                ("GET", file.sign()),
                ("PUT", file.sign(for_upload=True)),
                ("GET", "/files/policies/document.file"),
            ]
            for method, url in tried:
                body = b"0123456789" if method == "PUT" else b""
                refused(client.request(method, url, content=body), 401, "about:blank")
                problem = refused(
                    client.request(method, url, content=body, headers={"x-user": "bob"}), 403, "about:blank"
                )
                assert problem["detail"] == "only ann"
                assert client.request(method, url, content=body, headers={"x-user": "ann"}).status_code == 200

    def test_hints(self, house: House) -> None:
        """What a column accepts is told for forms; a column that was not named is 404."""
        columns = {"columns": [Picture.image], "storages": other_registry}
        with serving(config=columns) as client:
            assert client.get("/files/policies/picture.image").json() == {
                "policy": "picture.image",
                "accept": ".png,.webp",
                "max_size": MiB,
                "min_size": 8,
                "direct": False,
            }
            refused(client.get("/files/policies/document.file"), 404, "about:blank")
        with house.serving() as other:
            assert other.get("/files/policies/document.pages").json() == {
                "policy": "document.pages",
                "accept": "",
                "max_size": None,
                "min_size": None,
                "direct": True,
            }

    def test_below_a_path(self, house: House) -> None:
        """In an application with a path of its own the whole way goes below it."""
        house.options["path"] = "/media/files/"
        with house.serving(path="/api") as client:
            ticket = client.post(
                "/api/media/files/uploads", json={"filename": "a", "size": 1, "policy": "document.file"}
            )
            assert ticket.json()["url"].startswith("/api/media/files/uploads/")
            assert client.send(ticket.json(), b"x").status_code == 200
            (url,) = client.attach(ticket.json()["id"], "/api/json").json()["urls"]
            assert url.startswith("/api/media/files/")
            assert client.get(url).content == b"x"
            assert client.get("/api/media/files/policies/document.file").status_code == 200

    @pytest.mark.parametrize("openapi", [True, False])
    def test_in_the_document(self, house: House, openapi: bool) -> None:
        """OpenAPI has the routes for clients, their schemas and refusals; and an application may do without it."""
        with house.serving(**({} if openapi else {"openapi_config": None})) as client:
            assert client.attach(client.upload("a.txt", b"one")).status_code == 201
            answer = client.get("/schema/openapi.json")
            if not openapi:
                assert answer.status_code == 404
                return
            document = answer.json()
            begin, hints = (
                document["paths"]["/files/uploads"]["post"],
                document["paths"]["/files/policies/{policy}"]["get"],
            )
            schemas = document["components"]["schemas"]
            for operation, statuses, success in (
                (begin, "400 401 403 413 415 422 503", "201"),
                (hints, "401 403 404", "200"),
            ):
                assert set(operation["responses"]) >= {success, *statuses.split()}
                for status in statuses.split():
                    content = operation["responses"][status]["content"]
                    assert content == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
            assert schemas["UploadRequest"]["required"] == ["filename", "size"]
            assert schemas["UploadRequest"]["properties"]["size"]["minimum"] == 0
            assert set(schemas["UploadTicket"]["required"]) == {"id", "method", "url", "headers", "expires_at"}
            assert set(schemas["Hints"]["required"]) == {"policy", "accept", "max_size", "min_size", "direct"}
            attach = document["paths"]["/json"]["post"]["responses"]
            assert {"403", "409", "410"} <= set(attach)

    @pytest.mark.parametrize(("error", "seconds"), [("429", "7"), ("503", "5")])
    def test_come_again(self, house: House, error: str, seconds: str) -> None:
        """Who may come again is told when."""

        @get("/429")
        async def too_many() -> None:
            raise TooManyUploads("too many", limit=1, retry_after=7)

        @get("/503")
        async def down() -> None:
            raise StoreUnavailable("down", backend="store", path="x")

        with serving(too_many, down) as client:
            answer = client.get(f"/{error}")
            assert answer.headers["retry-after"] == seconds
            assert answer.json()["retry_after"] == int(seconds)


class TestWhereFilesComeFrom:
    def test_redirects(self, ceph: House) -> None:
        """`urls="redirect"` signs URLs of ours, which send a reader on to the store; a HEAD is answered here."""
        ceph.options["urls"] = "redirect"
        ceph.direct["trust_endpoint"] = True
        with ceph.serving() as client:
            ticket = client.ask("a.txt", 3).json()
            assert "X-Amz-Signature" in ticket["url"]
            client.send(ticket, b"one")
            (url,) = client.attach(ticket["id"]).json()["urls"]
            assert url.startswith("/files/")
            sent_on = client.get(url)
            assert (sent_on.status_code, "X-Amz-Signature" in sent_on.headers["location"]) == (307, True)
            assert httpx.get(sent_on.headers["location"]).content == b"one"
            assert client.request("HEAD", url).headers["content-length"] == "3"

    def test_through_the_application(self, moto: House) -> None:
        """`urls="proxy"` lets nobody know of the store."""
        moto.options["urls"] = "proxy"
        with moto.serving() as client:
            (url,) = client.attach(client.upload("a.txt", b"0123456789")).json()["urls"]
            assert url.startswith("/files/")
            assert client.get(url, headers={"range": "bytes=2-4"}).content == b"234"

    def test_from_the_store(self, moto: House) -> None:
        """By default the store's own URLs are given out."""
        with moto.serving() as client:
            (url,) = client.attach(client.upload("a.txt", b"one")).json()["urls"]
            assert url.startswith("http")
            assert httpx.get(url).content == b"one"

    def test_a_separate_origin(self, house: House) -> None:
        """Active content is shown at the origin that has nothing but files, and saved everywhere else."""
        page = FileObject("store", "page.html", content=HTML, storages=storages).save()
        config = {"base_url": "https://files.example", "separate_origin": True}
        with serving(config=config) as client:
            url = page.sign(disposition="inline")
            assert url.startswith("https://files.example/files/")
            path = url.removeprefix("https://files.example")
            shown = client.get(path, headers={"host": "files.example"})
            assert shown.headers["content-disposition"].startswith("inline")
            assert "sandbox" in shown.headers["content-security-policy"]
            saved = client.get(path, headers={"host": "app.example"})
            assert saved.headers["content-disposition"].startswith("attachment")

    def test_no_longer_than(self, house: House, file: FileObject) -> None:
        """`longest` is the limit for all URLs of the registry."""
        with serving(config={"longest": 600}):
            file.sign(expires_in=600)
            with pytest.raises(ConfigurationError, match="from 1 to 600"):
                file.sign(expires_in=601)


class TestBesideOthers:
    @pytest.mark.parametrize("first", [True, False])
    @pytest.mark.parametrize("is_async", [True, False])
    def test_advanced_alchemy(self, house: House, first: bool, is_async: bool) -> None:
        """Beside `SQLAlchemyPlugin`, before or after it, with its engine and its sessions."""

        @post("/async")
        async def create(data: JSONBody[New], db_session: NamedDependency[AsyncSession]) -> Created:
            return await kept(db_session, data)

        @post("/sync", sync_to_thread=True)
        def create_sync(data: JSONBody[New], db_session: NamedDependency[Session]) -> Created:
            document = Document(file=data.file, pages=data.pages)
            db_session.add(document)
            db_session.commit()
            assert document.file is not None
            return Created(document.id, document.file, [], [document.file.sign()])

        config: Any
        if is_async:
            config = SQLAlchemyAsyncConfig(
                connection_string=house.engine.url.set(drivername="sqlite+aiosqlite").render_as_string(),
                session_config=AsyncSessionConfig(expire_on_commit=False),
            )
        else:
            config = SQLAlchemySyncConfig(connection_string=house.engine.url.render_as_string())
        engine = config.get_engine()
        lading = LadingPlugin(house.config(engine))
        plugins = [lading, SQLAlchemyPlugin(config=config)] if first else [SQLAlchemyPlugin(config=config), lading]
        # Of several of its configurations in one process it closes the engine of the first alone.
        options: dict[str, Any] = {"on_shutdown": [engine.dispose], "logging_config": None}
        app = Litestar([create if is_async else create_sync], plugins=plugins, **options)
        with web.serving(app) as address, Client(address) as client:
            upload_id = client.upload("a.txt", b"one")
            attached = client.attach(upload_id, "/async" if is_async else "/sync")
            assert attached.status_code == 201, attached.text
            (url,) = attached.json()["urls"]
            assert client.get(url).content == b"one"
            refused(client.attach(upload_id, "/async" if is_async else "/sync"), 409, "used-token")

    def test_two_plugins(self, house: House, other_engine: Engine) -> None:
        """Two registries, two databases, two plugins: ids of both are taken, each where it belongs and nowhere else."""

        @post("/pictures", sync_to_thread=True)
        def hang(data: JSONBody[dict[str, FileObject]]) -> str:
            with Session(other_engine) as session:
                session.add(Picture(image=data["image"]))
                session.commit()
            return "hung"

        second = LadingConfig(
            SECRET,
            path="/pictures/files",
            name="others",
            storages=other_registry,
            columns=[Picture.image],
            direct_uploads=DirectUploads(guards=[known]),
            sweeper=Sweeper(other_engine, OtherBase.metadata),
        )
        for order in (1, -1):
            first = LadingPlugin(house.config(house.engine))
            app = Litestar(
                [direct.by_sync, hang],
                plugins=[first, LadingPlugin(second)][::order],
                state=State({"sync_engine": house.engine}),
                logging_config=None,
            )
            with web.serving(app) as address, Client(address) as client:
                assert client.get("/schema/openapi.json").json()["paths"]["/sync"]["post"]["responses"].keys() >= {
                    "403",
                    "409",
                    "410",
                }
                mine = client.upload("a.txt", b"one")
                asked = client.post("/pictures/files/uploads", json={"filename": "a.png", "size": len(PNG)})
                assert client.send(asked.json(), PNG).status_code == 200
                theirs = asked.json()["id"]
                refused(client.attach(theirs, "/sync"), 403, "invalid-token")
                refused(client.attach(mine, "/pictures", "image"), 403, "invalid-token")
                assert client.attach(theirs, "/pictures", "image").status_code == 201
                assert client.attach(mine, "/sync").status_code == 201
                refused(client.attach(theirs, "/pictures", "image"), 409, "used-token")
                assert client.get("/files/policies/picture.image").status_code == 404
                assert client.get("/pictures/files/policies/picture.image").status_code == 200

    @pytest.mark.parametrize("first", [True, False])
    def test_one_of_two_with_direct_uploads(self, house: House, first: bool) -> None:
        """Where one plugin takes ids, every handler of the application that takes files says how ids are refused."""
        plugins = [
            LadingPlugin(house.config(house.engine)),
            LadingPlugin(LadingConfig(SECRET, path="/others", name="others", storages=other_registry)),
        ]
        options: dict[str, Any] = {"plugins": plugins if first else plugins[::-1]}
        with serving(direct.by_sync, state=State({"sync_engine": house.engine}), **options) as client:
            document = client.get("/schema/openapi.json").json()
        assert document["paths"]["/sync"]["post"]["responses"].keys() >= {"403", "409", "410"}

    def test_in_routers_and_controllers(self, house: House) -> None:
        """Handlers in routers and controllers take files and ids like any others."""

        class Documents(Controller):
            path = "/documents"

            @post("/form")
            async def form(
                self,
                data: Annotated[New, Body(media_type=RequestEncodingType.MULTI_PART)],
                session: NamedDependency[AsyncSession],
            ) -> Created:
                return await kept(session, data)

            @post("/json")
            async def attach(self, data: JSONBody[New], session: NamedDependency[AsyncSession]) -> Created:
                return await kept(session, data)

        with house.serving(route_handlers=[Router("/v1", route_handlers=[Documents])]) as client:
            streamed = client.post("/v1/documents/form", files={"file": ("a.txt", b"streamed")})
            assert client.get(streamed.json()["urls"][0]).content == b"streamed"
            attached = client.attach(client.upload("a.txt", b"one"), "/v1/documents/json")
            assert client.get(attached.json()["urls"][0]).content == b"one"

    def test_compression(self, house: House) -> None:
        """An application that compresses its answers leaves files alone."""
        content = b"a" * 50_000
        with house.serving(compression_config=CompressionConfig("gzip")) as client:
            (url,) = client.attach(client.upload("a.txt", content)).json()["urls"]
            answer = client.get(url, headers={"accept-encoding": "gzip"})
            assert (answer.headers["content-length"], answer.content) == ("50000", content)
            assert "content-encoding" not in answer.headers
            assert client.get("/schema/openapi.json").headers["content-encoding"] == "gzip"

    def test_csrf(self, house: House) -> None:
        """Who asks for an upload shows that the page is ours; a signed URL needs no such thing."""
        with house.serving(csrf_config=CSRFConfig(secret="a secret of csrf")) as client:
            refused(client.ask("a.txt", 3), 403, "about:blank")
            client.get("/schema/openapi.json")
            token = {"x-csrftoken": client.cookies()["csrftoken"]}
            ticket = client.post(
                "/files/uploads", json={"filename": "a", "size": 3, "policy": "document.file"}, headers=token
            )
            assert ticket.status_code == 201
            assert client.send(ticket.json(), b"one").status_code == 200
            attached = client.post("/json", json={"file": ticket.json()["id"]}, headers=token)
            assert client.get(attached.json()["urls"][0]).content == b"one"

    def test_websockets(self, house: House) -> None:
        """Websockets are none of its business."""

        @websocket("/")
        async def echo(socket: WebSocket[Any, Any, Any]) -> None:
            await socket.accept()
            await socket.send_text(await socket.receive_text())
            await socket.close()

        with serving(echo) as client, client.websocket_connect("/") as socket:
            socket.send_text("hello")
            assert socket.receive_text() == "hello"

    @pytest.mark.parametrize("first", [True, False])
    async def test_whoever_closes_the_engine(self, house: House, first: bool) -> None:
        """The sweeper has ended before another plugin closes what it stands on, whichever comes first."""
        loops: list[int] = []

        class Closing(InitPlugin):
            def on_app_init(self, app_config: AppConfig) -> AppConfig:
                @asynccontextmanager
                async def lifespan(app: Litestar) -> AsyncGenerator[None, None]:
                    yield
                    loops.append([thread.name for thread in threading.enumerate()].count("lading-sweeper"))

                app_config.lifespan.append(lifespan)
                return app_config

        lading = LadingPlugin(house.config(house.engine))
        plugins = [lading, Closing()] if first else [Closing(), lading]
        async with Litestar(plugins=plugins, logging_config=None).lifespan():
            assert "lading-sweeper" in [thread.name for thread in threading.enumerate()]
        assert loops == [0]

    def test_drains_of_two(self, house: House, other_engine: Engine) -> None:
        """Each plugin's sweeper runs from startup to shutdown, and drains its own outbox."""
        plugins: list[Any] = []
        both = ((house.engine, direct.outbox, storages), (other_engine, other_outbox, other_registry))
        for number, (engine, outbox, registry) in enumerate(both):
            path = FileObject("store", content=b"x", storages=registry).save().path
            with engine.begin() as connection:
                outbox.add(connection, [("store", path)], "test", delay=timedelta(0))
            sweeper = Sweeper(engine, outbox.table.metadata)
            options: dict[str, Any] = {"sweeper": sweeper, "storages": registry}
            plugins.append(LadingPlugin(LadingConfig(SECRET, path=f"/{number}", name=f"n{number}", **options)))
        with TestClient(Litestar(plugins=plugins, logging_config=None)):
            assert web.until(lambda: house.entries() == {} and house.stored() == [])
            driver = other_registry.get_backend("store").driver(inline)
            assert web.until(lambda: run(paths(driver)) == [])
