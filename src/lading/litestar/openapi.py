"""Files and refusals in the OpenAPI document of an application."""

from collections.abc import Iterator, Mapping
from copy import copy
from functools import partial
from http import HTTPStatus
from typing import Any, ClassVar, cast

import msgspec
from litestar.config.app import AppConfig
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPI, Operation

from lading.errors import ConfigurationError
from lading.file import FileObject
from lading.litestar.fields import Fields, FileField
from lading.mediatypes import by_extension
from lading.policy import Policy
from lading.problems import MEDIA_TYPE, Problem
from lading.record import FileRecord

_RECORD = {member.name for member in msgspec.structs.fields(FileRecord)} - {"unknown"}
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_SCHEMAS = "#/components/schemas/"

_ALWAYS = (413, 415, 422, 503)
_STREAMED = (408, 429)
_DIRECT = (403, 409, 410)


def problem_responses(*statuses: int) -> dict[int, ResponseSpec]:
    """The `responses` of a handler that answers with problem documents (RFC 9457) of these statuses."""
    return {
        status: ResponseSpec(
            data_container=Problem,
            description=HTTPStatus(status).phrase,
            media_type=MEDIA_TYPE,
            generate_examples=False,
        )
        for status in statuses
    }


def describe(handler: HTTPRouteHandler, fields: Fields, *, direct: bool = False) -> None:
    """Have the document say what a handler's files may be, and how they are refused; each plugin may call it.

    A status that the application describes itself stays as it is. Litestar's own 400 gets the problem document beside
    its content.

    Args:
        handler: one with files in its body.
        fields: these.
        direct: whether the application takes ids of direct uploads.
    """
    own = handler.responses or {}
    # 400 is Litestar's for a handler with a body: it would be replaced here, and gets its second content later.
    statuses = [*_ALWAYS, *(_STREAMED if fields.streamed else ()), *(_DIRECT if direct else ())]
    handler.responses = {**problem_responses(*statuses), **own}
    if not issubclass(handler.operation_class, WithFiles):
        members = {"files": fields, "is_ours_400": 400 not in own}
        handler.operation_class = type("WithFiles", (WithFiles, handler.operation_class), members)


class WithFiles(Operation):
    """An operation whose body has files.

    Attributes:
        files: of the body.
        is_ours_400: whether the application leaves 400 to be described here.
    """

    files: ClassVar[Fields]
    is_ours_400: ClassVar[bool]


def register(config: AppConfig) -> None:
    """Have an application's document describe the files of what `describe` was called for; once for all plugins."""
    settings = config.openapi_config
    if settings is None or "to_openapi_schema" in vars(settings):
        return
    # Only the document as a whole has both the operations and the components that they refer to. The settings may be
    # of any class, and are shared by all applications that have none of their own: so one method of a copy is changed.
    settings, original = copy(settings), settings
    vars(settings)["to_openapi_schema"] = partial(_document, original)
    config.openapi_config = settings


def _document(settings: OpenAPIConfig) -> OpenAPI:
    document = settings.to_openapi_schema()
    vars(document)["to_schema"] = partial(_described, document, document.to_schema)
    return document


def _described(document: OpenAPI, render: Any) -> dict[str, Any]:
    rendered: dict[str, Any] = render()
    schemas = rendered.get("components", {}).get("schemas", {})
    incoming = _Incoming(schemas)
    for path, item in (document.paths or {}).items():
        for method in _METHODS:
            operation = getattr(item, method)
            if isinstance(operation, WithFiles):
                described = rendered["paths"][path][method]
                incoming.rewrite(described["requestBody"]["content"], operation.files)
                _add_400(described["responses"], operation.is_ours_400)
    incoming.prune(rendered)
    return rendered


def _add_400(responses: dict[str, Any], is_ours: bool) -> None:
    of_others = (
        answer["content"][MEDIA_TYPE] for answer in responses.values() if MEDIA_TYPE in answer.get("content", {})
    )
    problem = next(of_others, None)
    if is_ours and problem is not None:
        responses.setdefault("400", {"description": HTTPStatus(400).phrase}).setdefault("content", {})[MEDIA_TYPE] = (
            problem
        )


class _Incoming:
    """The schemas of a document as they are for what comes in: there a file is no record, but bytes or an id."""

    def __init__(self, schemas: dict[str, Any]) -> None:
        self._schemas = schemas
        self._records = {name for name, schema in schemas.items() if _is_record(schema)}
        self._with_files = self._find()
        self._replaced: set[str] = set()

    def rewrite(self, content: dict[str, Any], fields: Fields) -> None:
        """Describe the content of one request."""
        if fields.raw:
            content.clear()
            for media_type in ["application/octet-stream", *_types(fields)]:
                content[media_type] = {"schema": _binary(next(iter(fields)))}
        elif fields.multipart:
            for described in content.values():
                self._rewrite_form(described, fields)
        else:
            for described in content.values():
                described["schema"] = self._changed(described["schema"])

    def prune(self, document: Mapping[str, Any]) -> None:
        """Drop the schemas that were replaced everywhere."""
        used = set(_references(document.get("paths", {})))
        todo = list(used)
        while todo:
            for name in _references(self._schemas.get(todo.pop(), {})):
                if name not in used:
                    used.add(name)
                    todo.append(name)
        for name in self._replaced - used:
            del self._schemas[name]

    def _rewrite_form(self, described: dict[str, Any], fields: Fields) -> None:
        whole = fields.whole
        model: dict[str, Any] = (
            {"type": "object"} if whole is not None else self._changed(self._resolved(described["schema"]))
        )
        properties: dict[str, Any] = model.setdefault("properties", {})
        required = set(model.get("required", ()))
        for field in fields:
            names = {
                field.attribute,
                *(name for name, other in fields.by_name.items() if other.attribute == field.attribute),
            }
            for name in names & properties.keys():
                del properties[name]
            required -= names
            properties[field.name] = _binary(field)
            required |= set() if field.optional else {field.name}
        model["required"] = [name for name in properties if name in required]
        described["schema"] = model
        described["encoding"] = {
            field.name: {"contentType": ", ".join(kinds)} for field in fields if (kinds := _kinds(field))
        }

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        """The schema of an object that another refers to, wraps, or allows besides null."""
        if "$ref" in schema:
            name = _name(schema["$ref"])
            self._replaced.add(name)
            return cast("dict[str, Any]", self._schemas[name])
        for key in ("allOf", "oneOf", "anyOf"):
            options = [option for option in schema.get(key, ()) if option != {"type": "null"}]
            if len(options) == 1:
                return self._resolved(options[0])
        return schema

    def _changed(self, schema: Any) -> Any:
        """A copy in which files are ids, and what holds files is what is sent for it."""
        if isinstance(schema, list):
            return [self._changed(item) for item in cast("Any", schema)]
        if not isinstance(schema, dict):
            return schema
        members = cast("dict[str, Any]", schema)
        name = _name(members.get("$ref"))
        if name in self._records:
            self._replaced.add(name)
            return {"type": "string", "description": "The id of a direct upload."}
        if name in self._with_files:
            return {**members, "$ref": _SCHEMAS + self._input(name)}
        return {key: self._changed(value) for key, value in members.items()}

    def _input(self, name: str) -> str:
        """The name of a component for what comes in, made where it is not there yet."""
        new = f"{name}Input"
        if new not in self._schemas:
            self._replaced.add(name)
            self._schemas[new] = {}  # a model may refer to itself
            self._schemas[new] = self._changed(self._schemas[name])
        return new

    def _find(self) -> set[str]:
        """The components that hold files, however deep."""
        uses = {name: set(_references(schema)) for name, schema in self._schemas.items()}
        found, before = set(self._records), -1
        while len(found) > before:
            before = len(found)
            found |= {name for name, used in uses.items() if used & found}
        return found - self._records


def _is_record(schema: Mapping[str, Any]) -> bool:
    return schema.get("title") == FileObject.__name__ and set(schema.get("properties", ())) == _RECORD


def _binary(field: FileField) -> dict[str, Any]:
    """One file, or the list; the length of binary content is in octets (OpenAPI 3.1, 4.8.14.3)."""
    kinds = _kinds(field)
    kind = kinds[0] if len(kinds) == 1 and "*" not in kinds[0] else "application/octet-stream"
    schema: dict[str, Any] = {"type": "string", "format": "binary", "contentMediaType": kind}
    hints = _hints(field.policy)
    for key, bound in (("maxLength", "max_size"), ("minLength", "min_size")):
        if hints.get(bound) is not None:
            schema[key] = hints[bound]
    return {"type": "array", "items": schema} if field.many else schema


def _kinds(field: FileField) -> list[str]:
    """The media ranges that a field accepts; none where it accepts any, or where not all of them are known."""
    accept = _hints(field.policy).get("accept") or ""
    kinds = [by_extension(name[1:]) if name.startswith(".") else name for name in accept.split(",") if name]
    return [] if None in kinds else list(dict.fromkeys(kind for kind in kinds if kind is not None))


def _types(fields: Fields) -> list[str]:
    """The media ranges of a body that is one file: what it accepts, and what the handler says."""
    named = [] if fields.media_type == "application/json" else [fields.media_type]
    return [*named, *_kinds(next(iter(fields)))]


def _hints(policy: Policy | None) -> dict[str, Any]:
    if policy is None:
        return {}
    try:
        return policy.hints()
    except ConfigurationError:  # the document may be asked for before backends are registered
        return {}


def _references(schema: Any) -> Iterator[str]:
    """The names of the components that a schema refers to."""
    if isinstance(schema, dict):
        members = cast("dict[str, Any]", schema)
        if name := _name(members.get("$ref")):
            yield name
        for value in members.values():
            yield from _references(value)
    elif isinstance(schema, list):
        for item in cast("Any", schema):
            yield from _references(item)


def _name(reference: Any) -> str:
    return reference.removeprefix(_SCHEMAS) if isinstance(reference, str) and reference.startswith(_SCHEMAS) else ""
