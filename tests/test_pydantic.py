"""`FileObject` in pydantic models."""

import json
from typing import Any

import pytest
from pydantic import BaseModel, Field, TypeAdapter, ValidationError, computed_field
from pydantic_core import PydanticSerializationError

from lading.errors import RecordError
from lading.file import FileObject, claim_of
from lading.pydantic import refusing_records
from lading.storages import Storages

FIELDS = {
    "backend": "string",
    "path": "string",
    "filename": "string",
    "content_type": "string",
    "size": "integer",
    "last_modified": "number",
    "checksum": "string",
    "etag": "string",
    "version_id": "string",
    "metadata": "object",
}


class Document(BaseModel):
    file: FileObject | None = None
    pages: list[FileObject] = []


class Listed(BaseModel):
    """The guide's schema: the file stays inside, its URL goes out."""

    file: FileObject | None = Field(default=None, exclude=True)

    @computed_field  # type: ignore[prop-decorator]  # pydantic's documented form
    @property
    def file_url(self) -> str | None:
        return None if self.file is None else self.file.sign()


class Signer:
    longest, always = 3600, False

    def sign(self, record: Any, *, expires_in: int, **overrides: Any) -> str:
        return f"/signed/{record.filename}?{expires_in}"

    def sign_put(self, record: Any, *, expires_in: int) -> str:
        return f"/signed/{record.path}?{expires_in}"


@pytest.fixture
def storages() -> Storages:
    storages = Storages()
    storages.register_backend("memory://", key="scratch")
    return storages


@pytest.fixture
def file(storages: Storages) -> FileObject:
    return FileObject("scratch", "a.txt", content=b"hello", metadata={"pages": 3}, storages=storages).save()


def test_a_file_passes_as_it_is(file: FileObject) -> None:
    """A field takes a FileObject, pending or stored, without a copy."""
    pending = FileObject("scratch", "b.txt", content=b"b")
    document = Document(file=file, pages=[pending])
    assert document.file is file
    assert document.pages[0] is pending


def test_round_trip_of_json(file: FileObject) -> None:
    """What a model writes as JSON it reads as the same files, with what this version does not know."""
    text = Document(file=file, pages=[file]).model_dump_json()
    assert json.loads(text) == {"file": file.to_dict(), "pages": [file.to_dict()]}
    again = Document.model_validate_json(text)
    assert again.file == file
    assert again.file is not None
    assert again.file.to_dict() == file.to_dict()
    record = file.to_dict() | {"colour": "blue"}
    assert TypeAdapter(FileObject).validate_python(record).to_dict() == record


def test_round_trip_of_python(file: FileObject) -> None:
    """In python mode the file stays a FileObject; in JSON mode its record validates again."""
    document = Document(file=file)
    assert document.model_dump()["file"] is file
    assert document.model_dump(mode="json")["file"] == file.to_dict()
    assert Document.model_validate(document.model_dump(mode="json")).file == file
    assert Document.model_validate(document.model_dump()).file is file


def test_a_record_is_a_rows(file: FileObject) -> None:
    """A file that was validated from its record is not free to be deleted or claimed."""
    assert claim_of(TypeAdapter(FileObject).validate_python(file.to_dict())) == "owned"


@pytest.mark.parametrize("value", [{}, {"backend": "scratch"}, {"backend": 1, "path": "p", "filename": "f"}])
def test_no_record(value: object) -> None:
    """A mapping that is no record is a validation error that says what is missing."""
    with pytest.raises(ValidationError, match="not the record of a stored file") as caught:
        Document.model_validate({"file": value})
    (error,) = caught.value.errors()
    assert error["loc"] == ("file",)
    assert isinstance(error.get("ctx", {})["error"], RecordError)


@pytest.mark.parametrize("value", ["a.txt", b"x", 3, ["a"]])
def test_neither_file_nor_record(value: object) -> None:
    """Anything else is a validation error."""
    with pytest.raises(ValidationError, match="Input should be a FileObject or its record"):
        Document.model_validate({"file": value})


def test_a_pending_file_is_not_serialised() -> None:
    """A pending file has no record, and the error says what to do."""
    document = Document(file=FileObject("scratch", "b.txt", content=b"b"))
    with pytest.raises(PydanticSerializationError, match=r"'b\.txt' is not stored yet: save it"):
        document.model_dump_json()


def test_the_schema_of_the_guide(storages: Storages, file: FileObject) -> None:
    """A file that is excluded, with a computed URL, dumps as the URL alone, in both modes."""
    storages.signer = Signer()
    expected = {"file_url": "/signed/a.txt?3600"}
    assert Listed(file=file).model_dump() == expected
    assert json.loads(Listed(file=file).model_dump_json()) == expected
    assert Listed().model_dump() == {"file_url": None}
    assert list(Listed.model_json_schema(mode="serialization")["properties"]) == ["file_url"]


@pytest.mark.parametrize(
    ("mode", "required"), [("validation", ["backend", "path", "filename"]), ("serialization", list(FIELDS))]
)
def test_json_schema(mode: Any, required: list[str]) -> None:
    """The JSON schema of a file is that of its record, once, by name."""
    schema = Document.model_json_schema(mode=mode)
    described = schema["$defs"]["FileObject"]
    assert described["title"] == "FileObject"
    assert described["required"] == required
    types = {
        name: value.get("type") or next(option["type"] for option in value["anyOf"] if option["type"] != "null")
        for name, value in described["properties"].items()
    }
    assert types == FIELDS
    assert schema["properties"]["pages"]["items"] == {"$ref": "#/$defs/FileObject"}


def test_both_schemas_in_one_document() -> None:
    """FastAPI asks for the schemas of both modes at once, and they stay apart."""
    from pydantic.json_schema import models_json_schema

    _, document = models_json_schema([(Document, "validation"), (Document, "serialization")])
    assert {"FileObject-Input", "FileObject-Output"} <= {
        name for name in document["$defs"] if name.startswith("FileObject")
    }


def test_records_of_clients_are_refused(file: FileObject) -> None:
    """Where an integration says that input comes from a client no record passes, and files do."""
    with refusing_records():
        with pytest.raises(ValidationError, match="cannot be named by a client"):
            Document.model_validate({"file": file.to_dict()})
        assert Document(file=file).file is file
    assert Document.model_validate({"file": file.to_dict()}).file == file
