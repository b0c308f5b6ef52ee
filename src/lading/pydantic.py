"""`FileObject` as a field of pydantic models."""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NoReturn, TypeAlias, TypeVar, cast

import msgspec
from pydantic_core import CoreSchema, PydanticCustomError
from pydantic_core import core_schema as core

from lading.record import FileRecord

File = TypeVar("File")

Reader: TypeAlias = Callable[[type[Any], object], Any]
"""Makes a file of what a client sent for one; a `ValueError` of its is a validation error, others pass through."""

_reader: ContextVar[Reader | None] = ContextVar("lading.pydantic.reader", default=None)


def core_schema(cls: type[File]) -> CoreSchema:
    """How pydantic validates, serialises and describes a `FileObject`.

    A `FileObject` passes as it is. A mapping is taken for a record that the application itself has serialised before:
    the file counts as owned by a row, and on another row it becomes a copy. So a field that a client fills must not be
    a `FileObject`, or the client could name any object. `lading.litestar` reads request bodies with a rule of its own:
    there a file is what was uploaded, and a record is refused.

    In JSON a file is its record; `model_dump()` in python mode leaves the `FileObject`. A pending file has no record,
    and serialising it raises `PydanticSerializationError`.
    """
    file: Any = cls

    def validate(value: object) -> File:
        if isinstance(value, cls):
            return value
        if (reader := _reader.get()) is not None:
            return _of_client(reader, cls, value)
        if not isinstance(value, Mapping):
            raise PydanticCustomError("file_object", "Input should be a FileObject or its record")
        return cast("File", file.from_dict(value))  # its RecordError is a ValueError: pydantic reports it

    def described(mode: str, schema: dict[str, Any]) -> CoreSchema:
        # The reference is what JSON schemas are named after, in `$defs`.
        ref = f"{cls.__module__}.{cls.__qualname__}:{id(cls)}-{mode}"
        return core.any_schema(ref=ref, metadata={"pydantic_js_updates": {"title": cls.__name__, **schema}})

    record = record_schema()
    return core.no_info_plain_validator_function(
        validate,
        json_schema_input_schema=described("validation", record),
        serialization=core.plain_serializer_function_ser_schema(
            file.to_dict,
            return_schema=described("serialization", {**record, "required": list(record["properties"])}),
            when_used="json",
        ),
    )


def record_schema() -> dict[str, Any]:
    """The JSON schema of a record; it may have members that are not described, which survive."""
    schema = msgspec.json.schema(FileRecord)["$defs"]["FileRecord"]
    properties = {name: value for name, value in schema["properties"].items() if name != "unknown"}
    return {"type": "object", "properties": properties, "required": schema["required"]}


@contextmanager
def reading(reader: Reader) -> Generator[None, None, None]:
    """While this lasts every value for a `FileObject` that is none goes through `reader`: it comes from a client."""
    token = _reader.set(reader)
    try:
        yield
    finally:
        _reader.reset(token)


@contextmanager
def refusing_records() -> Generator[None, None, None]:
    """While this lasts no record passes for a `FileObject`: what is validated comes from a client."""
    with reading(_refuse):
        yield


def _refuse(kind: type[Any], value: object) -> NoReturn:
    raise ValueError("A stored file cannot be named by a client")


def _of_client(reader: Reader, kind: type[File], value: object) -> File:
    try:
        return cast("File", reader(kind, value))
    except ValueError as error:
        raise PydanticCustomError("file_object_refused", "{reason}", {"reason": str(error)}) from error
