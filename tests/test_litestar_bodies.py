"""Files in request bodies of every kind of model."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, NotRequired, TypedDict

import attrs
import msgspec
import pytest
from advanced_alchemy.extensions.litestar import SQLAlchemyDTO, SQLAlchemyDTOConfig
from litestar import Litestar, Request, Response, post
from litestar.config.app import AppConfig
from litestar.datastructures import UploadFile
from litestar.dto import DataclassDTO, DTOData, MsgspecDTO
from litestar.enums import RequestEncodingType
from litestar.exceptions import HTTPException
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from litestar.handlers import HTTPRouteHandler
from litestar.params import Body
from litestar.plugins import InitPlugin, ReceiveRoutePlugin
from litestar.plugins.pydantic import PydanticDTO, PydanticPlugin
from litestar.routes import BaseRoute, HTTPRoute
from litestar.testing import TestClient
from pydantic import AliasChoices, BaseModel, ConfigDict, Field
from pydantic import RootModel as Root
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from typing_extensions import TypeAliasType

from lading import FileObject, Storages, StoredObject, rules
from lading.errors import (
    ConfigurationError,
    ExpiredToken,
    InvalidToken,
    LadingError,
    NotUploaded,
    StoreUnavailable,
    UsedToken,
)
from lading.litestar import LadingPlugin, bodies, fields, limits, members, problems
from lading.litestar.config import LadingConfig
from lading.orm.policies import UploadTo
from lading.policy import Policy

MULTIPART, JSON = RequestEncodingType.MULTI_PART, RequestEncodingType.JSON
MSGPACK, URLENCODED = RequestEncodingType.MESSAGEPACK, RequestEncodingType.URL_ENCODED


SECRET = "a secret of some length"

storages_of_columns = Storages()


class Base(DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "bodies_row"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    file: Mapped[FileObject] = mapped_column(
        StoredObject("store", rules=[rules.max_size(1000)], storages=storages_of_columns)
    )
    maybe: Mapped[FileObject | None] = mapped_column(StoredObject("store", storages=storages_of_columns))
    pages: Mapped[list[FileObject]] = mapped_column(
        StoredObject("store", multiple=True, storages=storages_of_columns), default=list
    )


class Model(BaseModel):
    name: str
    file: FileObject
    maybe: FileObject | None = None
    pages: list[FileObject] = []


class Item(msgspec.Struct):
    name: str
    file: FileObject
    maybe: FileObject | None = None
    pages: list[FileObject] = []


@dataclass
class Data:
    name: str
    file: FileObject
    maybe: FileObject | None = None
    pages: list[FileObject] = field(default_factory=list)


@attrs.define
class Attrs:
    name: str
    file: FileObject
    maybe: FileObject | None = None
    pages: list[FileObject] = attrs.field(factory=list)


class Typed(TypedDict):
    name: str
    file: FileObject
    maybe: NotRequired[FileObject | None]
    pages: NotRequired[list[FileObject]]


class RowDTO(SQLAlchemyDTO[Row]):
    config = SQLAlchemyDTOConfig(exclude={"id"})


KINDS: dict[str, tuple[Any, Any]] = {
    "pydantic": (Model, None),
    "msgspec": (Item, None),
    "dataclass": (Data, None),
    "attrs": (Attrs, None),
    "typeddict": (Typed, None),
    "SQLAlchemyDTO": (Row, RowDTO),
    "PydanticDTO": (Model, PydanticDTO[Model]),
    "MsgspecDTO": (Item, MsgspecDTO[Item]),
    "DataclassDTO": (Data, DataclassDTO[Data]),
    "DTOData": (DTOData[Row], RowDTO),
}
every_kind = pytest.mark.parametrize("kind", list(KINDS))


class Bodies(InitPlugin, ReceiveRoutePlugin):
    """What of the plugin is about bodies that Litestar reads."""

    def __init__(self, storages: Storages, reader: bodies.Reader | None = None) -> None:
        self.storages = storages
        self.reader = reader
        self.found: dict[str, fields.Fields | None] = {}

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        bodies.register(app_config, self.reader, self.storages)
        problems.register(app_config)
        return app_config

    def receive_route(self, route: BaseRoute) -> None:
        for handler in route.route_handlers if isinstance(route, HTTPRoute) else ():
            if (found := fields.of(handler)) is not None:
                self.found[route.path] = found
                bodies.prepare(handler, found)
                limits.apply(handler, found, Policy(storages=self.storages))


@pytest.fixture
def storages() -> Storages:
    storages = Storages()
    storages.register_backend("memory://", key="store")
    return storages


@pytest.fixture
def file(storages: Storages) -> FileObject:
    return FileObject("store", "notes.txt", content=b"0123456789", storages=storages).save()


async def describe(value: Any) -> Any:
    """What a handler was given, with the content of its files."""
    if isinstance(value, FileObject):
        if not value.is_stored:
            await value.save_async()
        return f"{value.filename}={(await value.get_content_async()).decode()}"
    if isinstance(value, DTOData):
        value = value.as_builtins()
    if isinstance(value, list):
        return [await describe(item) for item in value]
    if isinstance(value, dict):
        return {name: await describe(item) for name, item in value.items()}
    if value is None or isinstance(value, str | int):
        return value
    return {name: await describe(getattr(value, name, None)) for name in ("name", "file", "maybe", "pages")}


def receiving(kind: Any, dto: Any = None, media_type: Any = MULTIPART, path: str = "/", **options: Any) -> Any:
    async def handler(data: Any) -> Any:
        return {"got": await describe(data)}

    handler.__annotations__["data"] = Annotated[kind, Body(media_type=media_type)]
    if dto is not None:
        options |= {"dto": dto, "return_dto": None}
    return post(path, **options)(handler)


@contextmanager
def serving(
    storages: Storages,
    *handlers: HTTPRouteHandler,
    reader: bodies.Reader | None = None,
    plugins: Sequence[Any] | None = None,
    **options: Any,
) -> Iterator[TestClient[Litestar]]:
    plugins = [Bodies(storages, reader)] if plugins is None else plugins
    app = Litestar(list(handlers), plugins=plugins, **options)
    with TestClient(app, raise_server_exceptions=True) as client:
        yield client


def got(answer: Any) -> Any:
    """What a handler of `receiving` was given."""
    assert answer.status_code == 201, answer.text
    return answer.json()["got"]


def part(name: str, filename: str, content: str = "content") -> tuple[str, tuple[str, bytes, str]]:
    return name, (filename, content.encode(), "text/plain")


# forms


@every_kind
def test_text_and_files(storages: Storages, kind: str) -> None:
    """A form gives a model its text, its file, its optional file and its list, whichever library made the model."""
    with serving(storages, receiving(*KINDS[kind])) as client:
        sent = [part("pages", "1.txt", "one"), part("file", "a.txt"), part("maybe", "b.txt"), part("pages", "2.txt")]
        answer = client.post("/", data={"name": "both"}, files=sent)
    assert answer.status_code == 201, answer.text
    assert got(answer) == {
        "name": "both",
        "file": "a.txt=content",
        "maybe": "b.txt=content",
        "pages": ["1.txt=one", "2.txt=content"],
    }


@every_kind
def test_one_file_of_a_list(storages: Storages, kind: str) -> None:
    """A list to which one file came is a list."""
    with serving(storages, receiving(*KINDS[kind])) as client:
        answer = client.post("/", data={"name": "n"}, files=[part("file", "a.txt"), part("pages", "1.txt", "one")])
    assert got(answer)["pages"] == ["1.txt=one"]


@every_kind
def test_files_that_are_missing(storages: Storages, kind: str) -> None:
    """What a model can be without may be left out."""
    with serving(storages, receiving(*KINDS[kind])) as client:
        answer = client.post("/", data={"name": "n"}, files=[part("file", "a.txt")])
    assert answer.status_code == 201, answer.text
    given = got(answer)
    assert (given["file"], given.get("maybe"), given.get("pages") or []) == ("a.txt=content", None, [])


@every_kind
def test_no_file_where_one_is_needed(storages: Storages, kind: str) -> None:
    """A field that takes one file refuses none, an empty input, text, and two files, each with 400."""
    wrong: list[dict[str, Any]] = [
        {"data": {"name": "n"}, "files": [part("maybe", "b.txt")]},
        {"data": {"name": "n"}, "files": [part("file", "", "")]},
        {"data": {"name": "n", "file": "text"}, "files": [part("maybe", "b.txt")]},
        {"data": {"name": "n"}, "files": [part("file", "a.txt"), part("file", "b.txt")]},
    ]
    with serving(storages, receiving(*KINDS[kind])) as client:
        answers = [client.post("/", **form) for form in wrong]
    assert [answer.status_code for answer in answers] == [400] * 4, [answer.text for answer in answers]


@every_kind
def test_inputs_that_were_left_empty(storages: Storages, kind: str) -> None:
    """A browser sends an empty part for a file input without a file: no file, and an empty list."""
    with serving(storages, receiving(*KINDS[kind])) as client:
        sent = [part("file", "a.txt"), part("maybe", "", ""), part("pages", "", "")]
        answer = client.post("/", data={"name": "n"}, files=sent)
    assert answer.status_code == 201, answer.text
    assert (got(answer).get("maybe"), got(answer).get("pages") or []) == (None, [])


class Needs(msgspec.Struct):
    """Nothing here has a default."""

    maybe: FileObject | None
    pages: list[FileObject]


def test_empty_inputs_of_fields_without_a_default(storages: Storages) -> None:
    """An empty input is null to a field that has to be given and may be null, and an empty list to a list."""
    with serving(storages, receiving(Needs)) as client:
        sent = [part("maybe", "", ""), part("pages", "", "")]
        assert got(client.post("/", files=sent)) == {"name": None, "file": None, "maybe": None, "pages": []}


@pytest.mark.parametrize(
    ("kind", "sent", "expected"),
    [
        (FileObject, [part("any", "a.txt")], "a.txt=content"),
        (FileObject | None, [part("any", "", "")], None),
        (list[FileObject], [part("any", "a.txt")], ["a.txt=content"]),
        (list[FileObject], [part("x", "a.txt"), part("x", "b.txt")], ["a.txt=content", "b.txt=content"]),
        (
            list[FileObject],
            [part("x", "a.txt"), part("y", "", ""), part("z", "c.txt")],
            ["a.txt=content", "c.txt=content"],
        ),
        (list[FileObject] | None, [part("x", "", "")], []),
        (dict[str, FileObject], [part("x", "a.txt"), part("y", "b.txt")], {"x": "a.txt=content", "y": "b.txt=content"}),
    ],
)
def test_bodies_that_are_files(storages: Storages, kind: Any, sent: Any, expected: Any) -> None:
    """A body may itself be a file, a list of files, or a mapping of them."""
    with serving(storages, receiving(kind)) as client:
        answer = client.post("/", files=sent)
    assert answer.status_code == 201, answer.text
    assert got(answer) == expected


@pytest.mark.parametrize("kind", [FileObject, list[FileObject], UploadFile, list[UploadFile]])
@pytest.mark.parametrize("sent", [[part("x", "", "")], [("x", (None, b"text"))], None])
def test_bodies_without_a_file_are_no_failure(storages: Storages, kind: Any, sent: Any) -> None:
    """A form without a file is refused where one is needed, and never a 500."""

    async def handler(data: Any) -> str:
        return str(len(data) if isinstance(data, list) else data.filename)

    handler.__annotations__["data"] = Annotated[kind, Body(media_type=MULTIPART)]
    with serving(storages, post("/")(handler)) as client:
        headers = {"content-type": "multipart/form-data; boundary=b"}
        answer = client.post("/", files=sent) if sent else client.post("/", content=b"--b--\r\n", headers=headers)
    assert (answer.status_code, answer.text) == (201, "0") if kind == list[UploadFile] else answer.status_code == 400


def test_two_files_for_a_body_that_is_one(storages: Storages) -> None:
    """A body that is one file is refused when there are two."""
    with serving(storages, receiving(FileObject)) as client:
        answer = client.post("/", files=[part("x", "a.txt"), part("y", "b.txt")])
    assert answer.status_code == 400
    assert "several were sent" in answer.text


@pytest.mark.parametrize(
    "body",
    [
        b'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\n\xff\xfe\r\n--b--\r\n',
        b'--b\r\nContent-Disposition: form-data; name="file"; filename=""\r\n\r\n\xff\r\n--b--\r\n',
        b'--b\r\nContent-Disposition: form-data; name="a"\r\nContent-Type: a/b; charset=nonsense\r\n\r\nx\r\n--b--',
        b"",
        b"--b",
        b"nothing",
    ],
)
def test_forms_that_cannot_be_read(storages: Storages, body: bytes) -> None:
    """Text in another encoding than it says, and what is no form, is refused with 400."""
    with serving(storages, receiving(Model)) as client:
        answer = client.post("/", content=body, headers={"content-type": "multipart/form-data; boundary=b"})
    assert answer.status_code == 400, answer.text


@pytest.mark.parametrize("content_type", ["multipart/form-data", "application/json", "text/plain", None])
def test_another_content_type(storages: Storages, content_type: str | None) -> None:
    """A body that is no form is refused where one is expected."""
    with serving(storages, receiving(Model)) as client:
        answer = client.post("/", content=b"{}", headers={"content-type": content_type} if content_type else {})
    assert answer.status_code == 400, answer.text


class Aliased(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    pages: list[FileObject] = Field(alias="thePages")
    maybe: FileObject | None = Field(default=None, validation_alias=AliasChoices("perhaps", "possibly"))


class Camel(msgspec.Struct, rename="camel"):
    the_pages: list[FileObject]
    may_be: FileObject | None = None


class Renamed(SQLAlchemyDTO[Row]):
    config = SQLAlchemyDTOConfig(exclude={"id", "name", "file"}, rename_fields={"pages": "seiten"}, partial=True)


def test_names_of_clients(storages: Storages) -> None:
    """A field is filled by the name that clients use: alias, renamed, or as the DTO's settings say."""

    @post("/aliased")
    async def aliased(data: Annotated[Aliased, Body(media_type=MULTIPART)]) -> Any:
        return await describe([data.pages, data.maybe])

    @post("/camel")
    async def camel(data: Annotated[Camel, Body(media_type=MULTIPART)]) -> Any:
        return await describe([data.the_pages, data.may_be])

    @post("/renamed", dto=Renamed, return_dto=None)
    async def renamed(data: Annotated[DTOData[Row], Body(media_type=MULTIPART)]) -> Any:
        return await describe(data)

    with serving(storages, aliased, camel, renamed) as client:
        expected = [["a.txt=content"], None]
        for pages, maybe in (("thePages", "perhaps"), ("pages", "maybe"), ("thePages", "possibly")):
            sent = [part(pages, "a.txt"), part(maybe, "", "")]
            assert client.post("/aliased", files=sent).json() == expected
        assert client.post("/camel", files=[part("thePages", "a.txt"), part("mayBe", "", "")]).json() == expected
        assert client.post("/renamed", files=[part("seiten", "a.txt")]).json() == {"pages": ["a.txt=content"]}


def test_the_hook_of_the_application_runs_first(storages: Storages) -> None:
    """A `before_request` of any layer runs before the form is read, and may answer instead."""
    seen: list[str] = []

    async def hook(request: Request[Any, Any, Any]) -> Response[str] | None:
        seen.append(request.headers["x-what"])
        return Response("no", status_code=418) if seen[-1] == "stop" else None

    with serving(storages, receiving(Model), before_request=hook) as client:
        form: Any = {"data": {"name": "n"}, "files": [part("file", "a.txt")]}
        assert client.post("/", headers={"x-what": "go"}, **form).status_code == 201
        assert client.post("/", headers={"x-what": "stop"}, **form).status_code == 418
    assert seen == ["go", "stop"]


# files that are stored as they arrive

Doc = Annotated[FileObject, UploadTo(Row.file)]


class StreamedModel(BaseModel):
    name: str
    file: Doc
    maybe: Annotated[FileObject | None, UploadTo(Row.maybe)] = None
    pages: Annotated[list[FileObject], UploadTo(Row.pages)] = []


class StreamedItem(msgspec.Struct):
    name: str
    file: Doc
    maybe: Annotated[FileObject | None, UploadTo(Row.maybe)] = None
    pages: Annotated[list[FileObject], UploadTo(Row.pages)] = []


@dataclass
class StreamedData:
    name: str
    file: Doc
    maybe: Annotated[FileObject | None, UploadTo(Row.maybe)] = None
    pages: Annotated[list[FileObject], UploadTo(Row.pages)] = field(default_factory=list)


@attrs.define
class StreamedAttrs:
    name: str
    file: Doc
    maybe: Annotated[FileObject | None, UploadTo(Row.maybe)] = None
    pages: Annotated[list[FileObject], UploadTo(Row.pages)] = attrs.field(factory=list)


class StreamedTyped(TypedDict):
    name: str
    file: Doc
    maybe: NotRequired[Annotated[FileObject | None, UploadTo(Row.maybe)]]
    pages: NotRequired[Annotated[list[FileObject], UploadTo(Row.pages)]]


STREAMED: dict[str, tuple[Any, Any]] = {
    "pydantic": (StreamedModel, None),
    "msgspec": (StreamedItem, None),
    "dataclass": (StreamedData, None),
    "attrs": (StreamedAttrs, None),
    "typeddict": (StreamedTyped, None),
    "SQLAlchemyDTO": (Row, RowDTO),
    "PydanticDTO": (StreamedModel, PydanticDTO[StreamedModel]),
    "MsgspecDTO": (StreamedItem, MsgspecDTO[StreamedItem]),
    "DataclassDTO": (StreamedData, DataclassDTO[StreamedData]),
    "DTOData": (DTOData[Row], RowDTO),
}


@every_kind
def test_files_of_columns(storages: Storages, kind: str) -> None:
    """A file of a column is stored when the handler gets it, in every kind of model; the column's rules were asked."""
    stored: list[bool] = []
    model, dto = STREAMED[kind]

    async def handler(data: Any) -> Any:
        files = data.as_builtins() if isinstance(data, DTOData) else data
        file = files["file"] if isinstance(files, dict) else files.file
        stored.append(file.is_stored)
        return {"got": await describe(data)}

    handler.__annotations__["data"] = Annotated[model, Body(media_type=MULTIPART)]
    route = post("/", dto=dto, return_dto=None)(handler) if dto is not None else post("/")(handler)
    storages_of_columns.clear_backends()
    storages_of_columns.register_backend(storages.get_backend("store"))
    with serving(storages, route, plugins=[LadingPlugin(LadingConfig(SECRET, storages=storages))]) as client:
        sent = [part("pages", "1.txt", "one"), part("file", "a.txt"), part("maybe", "", "")]
        answer = client.post("/", data={"name": "n"}, files=sent)
        given = got(answer)
        assert (given["file"], given.get("maybe"), given["pages"]) == ("a.txt=content", None, ["1.txt=one"])
        assert stored == [True]
        answer = client.post("/", data={"name": "n"}, files=[part("file", "a.txt", "a" * 1001), part("pages", "", "")])
        assert (answer.status_code, answer.json()["limit"]) == (413, 1000)
        assert client.post("/", data={"name": "n"}).status_code == 400
        assert client.post("/", data={"name": "n"}, files=[part("file", "", "")]).status_code == 400
    assert stored == [True]


# ids of direct uploads


def reader_of(files: dict[str, FileObject | Exception]) -> bodies.Reader:
    """Reads these ids; what is an error is raised."""

    def read(token: str) -> FileObject:
        found = files.get(token, InvalidToken("no such id"))
        if isinstance(found, Exception):
            raise found
        return found

    return read


def encoded(media_type: Any, body: Any) -> dict[str, Any]:
    """A request body in that encoding."""
    if media_type == MSGPACK:
        return {"content": msgspec.msgpack.encode(body), "headers": {"content-type": "application/x-msgpack"}}
    if media_type == URLENCODED:
        return {"data": body}
    if media_type == MULTIPART:
        items = [
            (name, item) for name, value in body.items() for item in (value if isinstance(value, list) else [value])
        ]
        return {"files": [(name, (None, item)) for name, item in items]}
    return {"json": body}


@every_kind
@pytest.mark.parametrize("media_type", [JSON, MSGPACK, URLENCODED, MULTIPART])
def test_ids_of_uploads(storages: Storages, file: FileObject, kind: str, media_type: Any) -> None:
    """A field takes the id of a direct upload, in every encoding and every kind of model."""
    body = {"name": "n", "file": "one", "maybe": "one", "pages": ["one", "two"]}
    other = FileObject("store", "two.txt", content=b"2", storages=storages)
    with serving(
        storages, receiving(*KINDS[kind], media_type), reader=reader_of({"one": file, "two": other})
    ) as client:
        answer = client.post("/", **encoded(media_type, body))
    assert answer.status_code == 201, answer.text
    first = "notes.txt=0123456789"
    assert got(answer) == {"name": "n", "file": first, "maybe": first, "pages": [first, "two.txt=2"]}


REFUSALS: dict[str, tuple[LadingError, int]] = {
    "invalid-token": (InvalidToken("altered"), 403),
    "used-token": (UsedToken("used"), 409),
    "not-uploaded": (NotUploaded("nothing there"), 409),
    "expired-token": (ExpiredToken("expired", expired_at=1.0), 410),
    "store-unavailable": (StoreUnavailable("down", backend="store", path="p"), 503),
}


@every_kind
@pytest.mark.parametrize("media_type", [JSON, MSGPACK, URLENCODED, MULTIPART])
def test_what_is_wrong_with_an_id(storages: Storages, kind: str, media_type: Any) -> None:
    """What is wrong with an id is answered with its own problem document, not as a model that does not validate."""
    reader = reader_of({name: error for name, (error, _) in REFUSALS.items()})
    with serving(storages, receiving(*KINDS[kind], media_type), reader=reader) as client:
        for name, (_, status) in REFUSALS.items():
            answer = client.post("/", **encoded(media_type, {"name": "n", "file": name}))
            assert (answer.status_code, answer.json()["type"]) == (status, f"urn:lading:problem:{name}")
            assert answer.headers["content-type"] == "application/problem+json"


@every_kind
@pytest.mark.parametrize("media_type", [JSON, MSGPACK, URLENCODED, MULTIPART])
def test_no_direct_uploads(storages: Storages, kind: str, media_type: Any) -> None:
    """An application that takes no direct uploads says so, with 400."""
    with serving(storages, receiving(*KINDS[kind], media_type)) as client:
        answer = client.post("/", **encoded(media_type, {"name": "n", "file": "an id"}))
    assert answer.status_code == 400, answer.text
    assert "takes no direct uploads" in answer.text


@every_kind
@pytest.mark.parametrize("media_type", [JSON, MSGPACK])
def test_records(storages: Storages, file: FileObject, kind: str, media_type: Any) -> None:
    """A client that sends a record is refused, also where it sends ids beside it."""
    record = file.to_dict()
    with serving(storages, receiving(*KINDS[kind], media_type), reader=reader_of({"one": file})) as client:
        for body in ({"file": record}, {"file": "one", "pages": ["one", record]}):
            answer = client.post("/", **encoded(media_type, {"name": "n", **body}))
            assert answer.status_code == 400, answer.text
            assert "cannot be named by a client" in answer.text


@every_kind
def test_what_is_neither_file_nor_id(storages: Storages, file: FileObject, kind: str) -> None:
    """Anything else in the place of a file is a body that does not validate."""
    with serving(storages, receiving(*KINDS[kind], JSON), reader=reader_of({"one": file})) as client:
        values: tuple[Any, ...] = (1, True, ["one"], [], {}, "")
        for value in values:
            answer = client.post("/", json={"name": "n", "file": value})
            assert answer.status_code == 400, answer.text


def test_an_id_is_a_whole_body(storages: Storages, file: FileObject) -> None:
    """A JSON body may be an id, or a list of ids; a form field of text is none where the form is the file."""
    reader = reader_of({"one": file})
    handlers = [receiving(FileObject, media_type=JSON), receiving(list[FileObject], media_type=JSON, path="/list")]
    with serving(storages, *handlers, reader=reader) as client:
        assert got(client.post("/", json="one")) == "notes.txt=0123456789"
        assert got(client.post("/list", json=["one"])) == ["notes.txt=0123456789"]
        assert client.post("/", json={"x": "one"}).status_code == 400


class Rooted(Root[list[FileObject]]):
    pass


class Nested(BaseModel):
    inner: list[Data]
    models: dict[str, Model] = {}


def test_files_inside_of_models_inside_of_models(storages: Storages, file: FileObject) -> None:
    """Ids are read however deep they are."""

    @post("/")
    async def handler(data: Annotated[Nested, Body()]) -> Any:
        return await describe([item.file for item in data.inner] + [model.file for model in data.models.values()])

    @post("/root")
    async def root(data: Annotated[Rooted, Body()]) -> Any:
        return await describe(data.root)

    item = {"name": "n", "file": "one"}
    with serving(storages, handler, root, reader=reader_of({"one": file})) as client:
        assert len(client.post("/", json={"inner": [item, item], "models": {"x": item}}).json()) == 3
        assert client.post("/", json={"inner": [], "models": {"x": {"name": "n", "file": "bad"}}}).status_code == 403
        assert len(client.post("/root", json=["one", "one"]).json()) == 2


def test_the_application_s_own_fault_is_no_client_s(storages: Storages) -> None:
    """A reader that finds the application put together wrongly ends in 500, without telling the client of it."""
    reader = reader_of({"one": ConfigurationError("no backend is registered as 'secret'")})
    app = Litestar([receiving(Model, media_type=JSON)], plugins=[Bodies(storages, reader)], debug=False)
    with TestClient(app, raise_server_exceptions=False) as client:
        answer = client.post("/", json={"name": "n", "file": "one"})
    assert answer.status_code == 500
    assert "secret" not in answer.text


# several plugins, several applications


@pytest.mark.parametrize("kind", ["pydantic", "msgspec", "SQLAlchemyDTO"])
def test_several_plugins(storages: Storages, file: FileObject, kind: str) -> None:
    """Ids of every plugin are read; what one of them knows to be its own and refuses, no other is asked about."""
    asked: list[str] = []

    def second(token: str) -> FileObject:
        asked.append(token)
        return reader_of({"two": file})(token)

    gone = ExpiredToken("expired", expired_at=1.0)
    plugins: list[Any] = [
        Bodies(storages, reader_of({"one": file, "gone": gone})),
        Bodies(Storages(), second),
        Bodies(Storages()),
    ]
    plugins.insert(1, PydanticPlugin(prefer_alias=True))
    with serving(storages, receiving(*KINDS[kind], JSON), plugins=plugins) as client:
        answers = [client.post("/", json={"name": "n", "file": token}) for token in ("one", "two", "gone", "none")]
        assert [answer.status_code for answer in answers] == [201, 201, 410, 403]
        assert asked == ["two", "none"]
        assert client.post("/", json={"name": "n", "file": file.to_dict()}).status_code == 400


def test_several_applications(storages: Storages, file: FileObject) -> None:
    """An application reads its own ids, also where another one in the process was made after it."""

    def app(token: str) -> Litestar:
        handlers = [
            receiving(FileObject, media_type=JSON),
            receiving(FileObject | None, media_type=JSON, path="/maybe"),
        ]
        return Litestar(handlers, plugins=[Bodies(storages, reader_of({token: file}))])

    one, two = app("one"), app("two")
    with TestClient(one) as first, TestClient(two) as second:
        for path in ("/", "/maybe"):
            assert first.post(path, json="one").status_code == second.post(path, json="two").status_code == 201
            assert first.post(path, json="two").status_code == second.post(path, json="one").status_code == 403


def test_outside_of_requests(file: FileObject) -> None:
    """No application's rule stays behind when its request is over."""
    assert Model.model_validate({"name": "n", "file": file.to_dict()}).file.path == file.path


# limits


def sized(storages: Storages, most: int | None) -> Storages:
    """A registry whose only backend takes files up to that size."""
    storages.clear_backends()
    storages.register_backend("memory://", key="store", rules=[] if most is None else [rules.max_size(most)])
    return storages


def handler_of(app: Litestar) -> HTTPRouteHandler:
    """The only handler of its own that an application has."""
    route = app.routes[0]
    assert isinstance(route, HTTPRoute)
    return route.route_handlers[0]


def test_the_policy_says_how_large_a_body_may_be(storages: Storages) -> None:
    """A form may have what its files may have, and 1 MiB for the rest; more is 413, as a problem document."""
    with serving(sized(storages, 20_000_000), receiving(Model)) as client:
        sent = [part("file", "a.txt", "a" * 15_000_000)]
        assert client.post("/", data={"name": "n"}, files=sent).status_code == 201
        assert handler_of(client.app).resolve_request_max_body_size() == 2**20 + 12 * 20_000_000
    with serving(sized(storages, 1000), receiving(FileObject)) as client:
        answer = client.post("/", files=[part("file", "a.txt", "a" * 1_100_000)])
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:lading:problem:too-large"
    assert answer.json()["limit"] == 2**20 + 1000


def test_without_a_rule_litestars_limit_stays(storages: Storages) -> None:
    """Where nothing says how large a file may be, Litestar's 10 MB are the limit, and the refusal says so."""
    with serving(storages, receiving(FileObject)) as client:
        answer = client.post("/", files=[part("file", "a.txt", "a" * 10_000_001)])
    assert (answer.status_code, answer.json()["limit"]) == (413, 10_000_000)


@pytest.mark.parametrize("layer", ["handler", "app"])
def test_a_limit_of_the_application_wins(storages: Storages, layer: str) -> None:
    """What the application says on a layer stays."""
    mine: dict[str, Any] = {"request_max_body_size": 5000}
    handler = receiving(FileObject, **(mine if layer == "handler" else {}))
    with serving(sized(storages, 10**6), handler, **(mine if layer == "app" else {})) as client:
        answer = client.post("/", files=[part("file", "a.txt", "a" * 6000)])
    assert (answer.status_code, answer.json()["limit"]) == (413, 5000)


def test_no_limit_of_the_application_wins(storages: Storages) -> None:
    """None is a limit that the application has set: none."""
    with serving(sized(storages, 10), receiving(FileObject, request_max_body_size=None)) as client:
        answer = client.post("/", files=[part("file", "a.txt", "a" * 11_000_000)])
    assert answer.status_code == 413
    assert answer.json()["limit"] == 10  # the backend's, when the handler stores the file


@pytest.mark.parametrize("kind", [413, RequestEntityTooLarge, HTTPException])
def test_the_application_answers_too_large_itself(storages: Storages, kind: Any) -> None:
    """A handler that the application has for 413, or for all errors of HTTP, stays the one."""

    def teapot(request: Any, error: Exception) -> Response[str]:
        return Response("teapot", status_code=418)

    with serving(sized(storages, 10), receiving(FileObject), exception_handlers={kind: teapot}) as client:
        assert client.post("/", files=[part("file", "a.txt", "a" * 1_100_000)]).status_code == 418


@pytest.mark.parametrize("media_type", [JSON, URLENCODED])
def test_bodies_of_ids_keep_litestars_limit(storages: Storages, media_type: Any) -> None:
    """Only forms with files are larger than other bodies."""
    with serving(sized(storages, 10**9), receiving(Model, media_type=media_type)) as client:
        assert handler_of(client.app).resolve_request_max_body_size() == 10_000_000


def test_a_backend_that_is_registered_later() -> None:
    """Before its backend is known a handler keeps Litestar's limit, and gets its own when it is asked again."""
    later = Storages()
    plugin = Bodies(later)
    app = Litestar([receiving(FileObject)], plugins=[plugin])
    handler = handler_of(app)
    assert not fields.is_limited(handler)
    sized(later, 10)
    plugin.receive_route(app.routes[0])
    assert handler.resolve_request_max_body_size() == 2**20 + 10


# which fields are files

Alias = TypeAliasType("Alias", Annotated[FileObject, UploadTo(Row.maybe)])


class MarkedModel(BaseModel):
    a: Doc
    b: Annotated[FileObject | None, UploadTo(Row.file)] = None
    c: list[Doc] = []
    d: Annotated[list[FileObject], UploadTo(Row.pages)]
    e: Alias | None
    f: FileObject
    g: Annotated[UploadFile, UploadTo(Row.file)] | None = None
    h: str = ""

    model_config = ConfigDict(arbitrary_types_allowed=True)


@dataclass
class MarkedData:
    d: Annotated[list[FileObject], UploadTo(Row.pages)]
    a: Doc
    e: Annotated[FileObject | None, UploadTo(Row.maybe)]
    f: "FileObject"
    b: Annotated["FileObject | None", UploadTo(Row.file)] = None
    c: "list[Doc]" = field(default_factory=list)
    g: Annotated[UploadFile, UploadTo(Row.file)] | None = None
    h: str = ""


class MarkedItem(msgspec.Struct):
    d: Annotated[list[FileObject], UploadTo(Row.pages)]
    a: Doc
    e: Annotated[FileObject | None, UploadTo(Row.maybe)]
    f: FileObject
    b: Annotated[FileObject | None, UploadTo(Row.file)] = None
    c: list[Doc] = []
    g: Annotated[UploadFile, UploadTo(Row.file)] | None = None
    h: str = ""


@attrs.define
class MarkedAttrs:
    d: Annotated[list[FileObject], UploadTo(Row.pages)]
    a: Doc
    e: Annotated[FileObject | None, UploadTo(Row.maybe)]
    f: FileObject
    b: Annotated[FileObject | None, UploadTo(Row.file)] = None
    c: list[Doc] = attrs.field(factory=list)
    g: Annotated[UploadFile, UploadTo(Row.file)] | None = None
    h: str = ""


class MarkedTyped(TypedDict):
    d: Annotated[list[FileObject], UploadTo(Row.pages)]
    a: Doc
    e: Annotated[FileObject | None, UploadTo(Row.maybe)]
    f: FileObject
    b: "NotRequired[Annotated[FileObject | None, UploadTo(Row.file)]]"
    c: "NotRequired[list[Doc]]"
    g: NotRequired[Annotated[UploadFile, UploadTo(Row.file)] | None]
    h: NotRequired[str]


FILE, MAYBE, PAGES = "bodies_row.file", "bodies_row.maybe", "bodies_row.pages"


def found_in(kind: Any, dto: Any = None, media_type: Any = MULTIPART, **options: Any) -> fields.Fields | None:
    plugin = Bodies(Storages())
    Litestar([receiving(kind, dto, media_type, "/x", **options)], plugins=[plugin])
    return plugin.found.get("/x")


@pytest.mark.parametrize(
    ("kind", "dto"),
    [
        (MarkedModel, None),
        (MarkedData, None),
        (MarkedItem, None),
        (MarkedAttrs, None),
        (MarkedTyped, None),
        (MarkedData, DataclassDTO[MarkedData]),
        (MarkedItem, MsgspecDTO[MarkedItem]),
        (MarkedModel, PydanticDTO[MarkedModel]),
    ],
)
def test_the_columns_of_fields(kind: Any, dto: Any) -> None:
    """The column of a file is found wherever the marker stands, and so is what the field can be without."""
    found = found_in(kind, dto)
    assert found is not None
    assert found.streamed
    seen = {
        name: (field.policy and field.policy.name, field.many, field.optional, field.nullable, field.streamed)
        for name, field in found.by_name.items()
    }
    assert seen == {
        "a": (FILE, False, False, False, True),
        "b": (FILE, False, True, True, True),
        "c": (FILE, True, True, False, True),
        "d": (PAGES, True, False, False, True),
        "e": (MAYBE, False, True, True, True),
        "f": (None, False, False, False, False),
        "g": (FILE, False, True, True, False),
    }


def test_the_columns_of_a_sqlalchemy_dto() -> None:
    """The files of a SQLAlchemyDTO are for the columns of its model, without a word, under the names of the DTO."""
    found = found_in(DTOData[Row], Renamed)
    assert found is not None
    assert {name: field.policy.name for name, field in found.by_name.items() if field.policy} == {
        "seiten": PAGES,
        "maybe": MAYBE,
    }
    assert all(field.optional for field in found)


def test_bodies_that_are_raw() -> None:
    """A body that is one file of a column, and no form, is its bytes."""
    found = found_in(Doc, media_type="application/octet-stream")
    assert found is not None
    assert (found.raw, found.streamed, found.multipart) == (True, True, False)
    form = found_in(Doc)
    assert form is not None
    assert (form.raw, form.streamed, form.multipart) == (False, True, True)


@pytest.mark.parametrize("kind", [dict[str, Any], msgspec.Raw, Annotated[list[int], "x"]])
def test_bodies_without_files(kind: Any) -> None:
    """A handler without files is left alone."""
    assert found_in(kind, media_type=JSON) is None


@pytest.mark.parametrize("annotation", [Annotated[str, UploadTo(Row.file)], list[Annotated[int, UploadTo(Row.file)]]])
def test_a_marker_on_what_is_no_file(annotation: Any) -> None:
    """A marker where no file is stops the application from being made."""
    kind = msgspec.defstruct("Wrong", [("a", annotation)])
    with pytest.raises(ConfigurationError, match="marks a FileObject"):
        found_in(kind)


def test_names_that_only_the_handler_knows() -> None:
    """A dataclass whose annotations need the handler's signature namespace is understood, and without it named."""

    @dataclass
    class Local:
        file: "Annotated[Unknown, 1]"  # type: ignore[name-defined]  # noqa: F821  # pyright: ignore[reportUndefinedVariable]

    found = members.members(Local, {"Unknown": FileObject})
    assert [member.attribute for member in found] == ["file"]
    with pytest.raises(ConfigurationError, match="Unknown"):
        list(members.members(Local, {}))
