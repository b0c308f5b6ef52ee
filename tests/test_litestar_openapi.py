"""Files and refusals in the OpenAPI document of a Litestar application."""

from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import pytest
from advanced_alchemy.extensions.litestar import SQLAlchemyDTO, SQLAlchemyDTOConfig
from litestar import Litestar, post, put
from litestar.connection import ASGIConnection
from litestar.datastructures import UploadFile
from litestar.enums import RequestEncodingType
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Operation
from litestar.params import Body
from litestar.testing import TestClient
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import BaseModel, Field
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.pool import StaticPool

from lading import FileObject, Storages, StoredObject, rules
from lading.litestar import LadingPlugin, UploadTo
from lading.litestar.config import DirectUploads, LadingConfig
from lading.orm.outbox import Outbox
from lading.sweeper import Sweeper

SECRET = "a secret of some length"
MULTIPART = RequestEncodingType.MULTI_PART
PROBLEM = "application/problem+json"
REFERENCE = {"$ref": "#/components/schemas/Problem"}

registry = Storages()
registry.register_backend("memory://", key="store", rules=[rules.max_size(9000)])


class Base(DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "openapi_row"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    file: Mapped[FileObject] = mapped_column(
        StoredObject("store", rules=[rules.max_size(1000), rules.content_types("image/png")], storages=registry)
    )
    maybe: Mapped[FileObject | None] = mapped_column(
        StoredObject("store", rules=[rules.content_types("image/*", "application/pdf")], storages=registry)
    )
    pages: Mapped[list[FileObject]] = mapped_column(
        StoredObject(
            "store", multiple=True, rules=[rules.extensions("pdf", "txt"), rules.min_size(1)], storages=registry
        )
    )


OUTBOX = Outbox(Base.metadata)
Png = Annotated[FileObject, UploadTo(Row.file)]


class Model(BaseModel):
    title: str = Field(min_length=3)
    file: Png = Field(alias="theFile")
    maybe: Annotated[FileObject | None, UploadTo(Row.maybe)] = None
    pages: Annotated[list[FileObject], UploadTo(Row.pages)] = []
    free: FileObject | None = None


class RowDTO(SQLAlchemyDTO[Row]):
    config = SQLAlchemyDTOConfig(exclude={"id"}, rename_fields={"file": "datei"})


class Item(msgspec.Struct):
    """Holds a file, and others of its kind."""

    file: FileObject
    children: list["Item"] = []


class Tree(msgspec.Struct):
    items: dict[str, Item]


def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: Any) -> None: ...


def document(*handlers: HTTPRouteHandler, plugins: Any = None, **options: Any) -> dict[str, Any]:
    """The document of an application, as clients get it, and as the specification has it."""
    plugins = plugins or [LadingPlugin(LadingConfig(SECRET, storages=registry))]
    app = Litestar(list(handlers), plugins=plugins, **options)
    with TestClient(app) as client:
        found: dict[str, Any] = client.get("/schema/openapi.json").json()
    assert found["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(found).validate()
    return found


def of(kind: Any, media_type: Any = MULTIPART, **options: Any) -> HTTPRouteHandler:
    async def handler(data: Any) -> None: ...

    handler.__annotations__["data"] = Annotated[kind, Body(media_type=media_type)]
    return post("/", **options)(handler)


def body(found: dict[str, Any]) -> dict[str, Any]:
    """What the only operation takes."""
    content: dict[str, Any] = found["paths"]["/"]["post"]["requestBody"]["content"]
    return content


PNG = {"type": "string", "format": "binary", "contentMediaType": "image/png", "maxLength": 1000}
MAYBE = {"type": "string", "format": "binary", "contentMediaType": "application/octet-stream", "maxLength": 9000}
PAGES = {"type": "array", "items": {**MAYBE, "minLength": 1}}
ENCODING = {
    "maybe": {"contentType": "image/*, application/pdf"},
    "pages": {"contentType": "application/pdf, text/plain"},
}


def test_a_form() -> None:
    """A form's files are binary, with the size and the types that their columns allow; its other fields stay."""
    form = body(document(of(Model)))["multipart/form-data"]
    schema = form["schema"]
    assert schema["type"] == "object"
    assert schema["properties"].pop("title") == {"type": "string", "minLength": 3}
    assert schema["properties"] == {
        "theFile": PNG,
        "maybe": MAYBE,
        "pages": PAGES,
        "free": {"type": "string", "format": "binary", "contentMediaType": "application/octet-stream"},
    }
    assert sorted(schema["required"]) == ["theFile", "title"]
    assert form["encoding"] == {"theFile": {"contentType": "image/png"}, **ENCODING}


def test_a_form_of_a_dto() -> None:
    """A SQLAlchemyDTO's files are described by the columns of its model, under the DTO's names."""
    form = body(document(of(Row, dto=RowDTO, return_dto=None)))["multipart/form-data"]
    schema = form["schema"]
    assert schema["properties"] == {"title": {"type": "string"}, "datei": PNG, "maybe": MAYBE, "pages": PAGES}
    assert sorted(schema["required"]) == ["datei", "pages", "title"]
    assert form["encoding"] == {"datei": {"contentType": "image/png"}, **ENCODING}


@pytest.mark.parametrize(("kind", "name"), [(Png, "file"), (list[Png], "files"), (UploadFile, "file")])
def test_a_form_that_is_a_file(kind: Any, name: str) -> None:
    """A body that is a file, or a list of them, is a form with one field."""
    form = body(document(of(kind)))["multipart/form-data"]["schema"]
    anything = {"type": "string", "format": "binary", "contentMediaType": "application/octet-stream"}
    one = anything if kind is UploadFile else PNG
    properties = {name: {"type": "array", "items": one} if name == "files" else one}
    assert form == {"type": "object", "properties": properties, "required": [name]}


@pytest.mark.parametrize("media_type", ["application/octet-stream", "image/png", "application/json"])
def test_a_body_that_is_the_bytes(media_type: str) -> None:
    """A raw body is binary, of the types that its column allows."""
    content = body(document(of(Png, media_type)))
    assert content == {"application/octet-stream": {"schema": PNG}, "image/png": {"schema": PNG}}


def test_json() -> None:
    """In JSON a file is the id of an upload, on its own, in a model, and in models that refer to themselves."""
    handlers = [
        of(Tree, RequestEncodingType.JSON),
        post("/one")(_answering("one", FileObject)),
        post("/many")(_answering("many", list[FileObject])),
        post("/model")(_answering("model", Model)),
    ]
    found = document(*handlers)
    schemas = found["components"]["schemas"]
    id_ = {"type": "string", "description": "The id of a direct upload."}

    def sent(path: str) -> Any:
        return found["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]

    assert sent("/") == {"$ref": "#/components/schemas/TreeInput"}
    assert schemas["TreeInput"]["properties"]["items"]["additionalProperties"] == {
        "$ref": "#/components/schemas/ItemInput"
    }
    assert schemas["ItemInput"]["properties"]["file"] == id_
    assert schemas["ItemInput"]["properties"]["children"]["items"] == {"$ref": "#/components/schemas/ItemInput"}
    assert sent("/one") == id_
    assert sent("/many")["items"] == id_
    assert sent("/model") == {"$ref": "#/components/schemas/ModelInput"}
    assert schemas["ModelInput"]["properties"]["maybe"]["oneOf"] == [id_, {"type": "null"}]


def _answering(name: str, kind: Any) -> Any:
    async def handler(data: Any) -> Any: ...

    handler.__name__ = name
    handler.__annotations__ |= {"data": Annotated[kind, Body()], "return": kind}
    return handler


def test_answers_have_the_record() -> None:
    """An answer has the record of a file, also where requests of its model have ids; a schema that nobody uses goes."""
    found = document(post("/model")(_answering("model", Model)))
    schemas = found["components"]["schemas"]
    answer = found["paths"]["/model"]["post"]["responses"]["201"]["content"]["application/json"]["schema"]
    assert answer == {"$ref": "#/components/schemas/Model"}
    assert schemas["Model"]["properties"]["theFile"] == {"$ref": "#/components/schemas/FileObject"}
    assert {"backend", "path", "checksum"} <= schemas["FileObject"]["properties"].keys()
    taken_only = document(of(Model))["components"]["schemas"]
    assert "Model" not in taken_only
    assert "FileObject" not in taken_only


# refusals


def refusals(found: dict[str, Any], path: str = "/") -> set[str]:
    """The statuses that are described as problem documents."""
    responses = found["paths"][path]["post"]["responses"]
    return {
        status
        for status, answer in responses.items()
        if answer.get("content", {}).get(PROBLEM) == {"schema": REFERENCE}
    }


ALWAYS = {"400", "413", "415", "422", "503"}


def test_refusals() -> None:
    """Every refusal that can be is a problem document; 400 is Litestar's own answer, too."""
    found = document(of(Model))
    assert refusals(found) == ALWAYS | {"408", "429"}
    assert set(found["paths"]["/"]["post"]["responses"]["400"]["content"]) == {"application/json", PROBLEM}
    assert set(found["components"]["schemas"]["Problem"]["properties"]) >= {
        "type",
        "title",
        "status",
        "detail",
        "limit",
    }
    assert refusals(document(of(Item, RequestEncodingType.JSON))) == ALWAYS


def test_refusals_of_ids() -> None:
    """Where direct uploads are taken, so are the refusals of their ids; also when only a second plugin takes them."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    sweeper = Sweeper(engine, Base.metadata)
    config = LadingConfig(
        SECRET,
        path="/second",
        name="second",
        storages=registry,
        columns=[Row.file],
        direct_uploads=DirectUploads(guards=[guard]),
        sweeper=sweeper,
    )
    plugins = [LadingPlugin(LadingConfig(SECRET)), LadingPlugin(config)]
    Base.metadata.create_all(engine)
    expected = ALWAYS | {"403", "409", "410"}
    assert refusals(document(of(Item, RequestEncodingType.JSON), plugins=plugins)) == expected


def test_what_the_application_describes_itself_stays() -> None:
    """A status that the application describes is left as it is."""
    mine = {400: ResponseSpec(None, description="mine"), 413: ResponseSpec(None, description="mine, too")}
    found = document(of(Model, responses=mine))
    responses = found["paths"]["/"]["post"]["responses"]
    assert (responses["400"], responses["413"]) == ({"description": "mine"}, {"description": "mine, too"})
    assert "415" in refusals(found)


@dataclass
class Described(Operation):
    def __post_init__(self) -> None:
        self.summary = "by the application"


def test_an_operation_class_of_the_application() -> None:
    """An operation class of the application stays in force."""
    found = document(of(Model, operation_class=Described))
    assert found["paths"]["/"]["post"]["summary"] == "by the application"
    assert "theFile" in body(found)["multipart/form-data"]["schema"]["properties"]


def test_settings_of_the_application() -> None:
    """The application's own settings for its document stay in force, and are not changed."""

    class Settings(OpenAPIConfig):
        pass

    settings = Settings(title="Mine", version="7", path="/schema")
    found = document(of(Model), openapi_config=settings)
    assert found["info"] == {"title": "Mine", "version": "7"}
    assert settings.to_openapi_schema().info.title == "Mine"
    assert "to_openapi_schema" not in vars(settings)


def test_without_a_document() -> None:
    """An application that makes no document is left without one."""
    app = Litestar([of(Model)], plugins=[LadingPlugin(LadingConfig(SECRET, storages=registry))], openapi_config=None)
    with TestClient(app) as client:
        assert client.get("/schema/openapi.json").status_code == 404


def test_handlers_without_files() -> None:
    """A handler without files is described as without lading, also in one application with others."""

    class Plain(msgspec.Struct):
        name: str

    @put("/plain")
    async def plain(data: Annotated[Plain, Body()]) -> Plain:
        return data

    with_files = document(of(Model), plain)
    assert with_files["paths"]["/plain"] == Litestar([plain]).openapi_schema.to_schema()["paths"]["/plain"]


def test_before_backends_are_registered() -> None:
    """A document that is asked for before the backends are known says less, and is no failure."""
    later = Storages()

    class Later(DeclarativeBase):
        pass

    class LaterRow(Later):
        __tablename__ = "later"
        id: Mapped[int] = mapped_column(primary_key=True)
        file: Mapped[FileObject] = mapped_column(StoredObject("later", storages=later))

    kind = msgspec.defstruct("Sent", [("file", Annotated[FileObject, UploadTo(LaterRow.file)])])
    plugins = [LadingPlugin(LadingConfig(SECRET, storages=later))]
    form = body(document(of(kind), plugins=plugins))["multipart/form-data"]["schema"]
    assert "maxLength" not in form["properties"]["file"]
