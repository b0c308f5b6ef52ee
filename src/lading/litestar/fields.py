"""Which fields of a handler's body are files, how a client spells them, and for which column they are."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from types import NoneType
from typing import Annotated, Any, NamedTuple, cast, get_args, get_origin

from litestar import Litestar
from litestar.datastructures import UploadFile
from litestar.enums import RequestEncodingType
from litestar.handlers import HTTPRouteHandler
from litestar.params import BodyKwarg
from litestar.types import Empty
from litestar.typing import FieldDefinition
from sqlalchemy.orm import InstrumentedAttribute

from lading.errors import ConfigurationError
from lading.file import FileObject
from lading.litestar.members import UNIONS, behind, members, model_of
from lading.orm.policies import UploadTo, policy_of
from lading.policy import ANYTHING, Policy
from lading.rules import MiB

BESIDES_FILES = MiB
"""Bytes that a body may have besides its files: text fields, and what holds the parts together."""

FILES_OF_A_LIST = 10
"""Files of a list that a limit leaves room for."""

_OTHERS = (RequestEncodingType.MULTI_PART, RequestEncodingType.URL_ENCODED, RequestEncodingType.MESSAGEPACK)


@dataclass(frozen=True, slots=True)
class FileField:
    """A field of a body that is a file, or a list of files.

    Attributes:
        name: as clients spell it.
        policy: of the column that it is for; `None` where nothing says which.
        many: whether it is a list.
        optional: whether it may be left out, or empty.
        nullable: whether an empty one is `None`.
        attribute: what the model calls it.
        spooled: whether it is Litestar's `UploadFile`, and no `FileObject`.
    """

    name: str
    policy: Policy | None = None
    many: bool = False
    optional: bool = False
    nullable: bool = False
    attribute: str = ""
    spooled: bool = False

    @property
    def streamed(self) -> bool:
        """Whether its files can be stored as they arrive: it is a `FileObject`, and its column is known."""
        return self.policy is not None and not self.spooled


@dataclass(frozen=True, slots=True)
class Fields:
    """What of a handler's body is files.

    Attributes:
        by_name: the fields, by every name that a client may use for them; without those of models inside of it.
        media_type: of the body.
        whole: set where the body itself is a file or a list of files; its name is then nobody's.
        decoded: what a DTO decodes the body to, before it makes the model of it; `None` where there is no DTO.
    """

    by_name: Mapping[str, FileField]
    media_type: str
    whole: FileField | None = None
    decoded: Any = None

    @property
    def multipart(self) -> bool:
        """Whether the body is a `multipart/form-data` form."""
        return self.media_type == RequestEncodingType.MULTI_PART

    @property
    def form(self) -> bool:
        """Whether the body is a form of either kind."""
        return self.multipart or self.media_type == RequestEncodingType.URL_ENCODED

    @property
    def raw(self) -> bool:
        """Whether the body is the bytes of one file, and nothing else."""
        whole = self.whole
        return whole is not None and whole.streamed and not whole.many and self.media_type not in _OTHERS

    @property
    def streamed(self) -> bool:
        """Whether something of the body can be stored as it arrives."""
        return self.raw or (self.multipart and any(field.streamed for field in self))

    def __iter__(self) -> Iterator[FileField]:
        """The fields, each once."""
        if self.whole is not None:
            yield self.whole
        yield from {field.attribute: field for field in self.by_name.values()}.values()


def of(handler: HTTPRouteHandler) -> Fields | None:
    """What of a handler's body is files; `None` where nothing is, or where it takes no body.

    It looks into models of pydantic, msgspec and attrs, dataclasses and typed dictionaries, and into what a DTO makes
    of them. The files of a `SQLAlchemyDTO` are those of its model's `StoredObject` columns, and are for these.

    Raises:
        ConfigurationError: `UploadTo` marks something that is no file.
    """
    data = _data_of(handler)
    if data is None:
        return None
    body = data.kwarg_definition
    media_type = body.media_type if isinstance(body, BodyKwarg) and body.media_type else RequestEncodingType.JSON
    media = str(getattr(media_type, "value", media_type))
    if handler.parsed_data_field is None and media in (RequestEncodingType.MULTI_PART, RequestEncodingType.URL_ENCODED):
        return None  # Litestar takes what a dependency alone asks for as JSON, whatever that says
    namespace = handler.resolve_signature_namespace()
    look = _look(data.raw, "data", _markers(data.metadata))
    if look is not None:
        name = "files" if look.many else "file"
        return Fields({}, media, look.field(name, name, optional=look.nullable))
    dto: Any = cast("Any", handler).resolve_data_dto()  # generic, and bare in Litestar
    decoded = None if dto is None else _decoded(handler, data, dto)
    found = _of_model(model_of(data.raw), namespace) if dto is None else _of_dto(dto, decoded, namespace)
    by_name = {field.name: field for field in found}
    if not by_name and not _holds_files(data.raw if dto is None else decoded, namespace, set()):
        return None
    return Fields(by_name, media, decoded=decoded)


def limit(fields: Fields, otherwise: Policy = ANYTHING) -> int | None:
    """The most bytes that a form may have: what its files may have, and 1 MiB for the rest; a list is ten files.

    Args:
        fields: of a handler that Litestar reads.
        otherwise: asked about files whose column nobody knows.

    Returns:
        `None` where nothing says: it is no form, a file has no limit, or its backend is not registered yet.
    """
    total = BESIDES_FILES
    for field in fields:
        try:
            most = (field.policy or otherwise).max_size
        except ConfigurationError:
            return None
        if most is None:
            return None
        total += most * (FILES_OF_A_LIST if field.many else 1)
    return total if fields.multipart and total > BESIDES_FILES else None


def is_limited(handler: HTTPRouteHandler) -> bool:
    """Whether a layer of the application says how large this handler's bodies may be."""
    app, *layers = handler.ownership_layers
    default = signature(Litestar).parameters["request_max_body_size"].default
    return getattr(app, "request_max_body_size", default) != default or any(
        getattr(layer, "request_max_body_size", Empty) is not Empty for layer in layers
    )


class _Look(NamedTuple):
    """An annotation that is about files."""

    marker: UploadTo | None = None
    many: bool = False
    nullable: bool = False
    spooled: bool = False

    def field(self, name: str, attribute: str, *, optional: bool, policy: Policy | None = None) -> FileField:
        return FileField(
            name=name,
            policy=self.marker.policy if self.marker is not None else policy,
            many=self.many,
            optional=optional or self.nullable,
            nullable=self.nullable,
            attribute=attribute,
            spooled=self.spooled,
        )


def _data_of(handler: HTTPRouteHandler) -> FieldDefinition | None:
    """The body of a handler, or of one of its dependencies."""
    if handler.parsed_data_field is not None:
        return handler.parsed_data_field
    for provider in handler.resolve_dependencies().values():
        if (data := provider.parsed_fn_signature.parameters.get("data")) is not None:
            return data
    return None


def _of_model(model: Any, namespace: Mapping[str, Any]) -> Iterator[FileField]:
    for member in members(model, namespace):
        look = _look(member.annotation, member.attribute, _markers(member.metadata))
        if look is not None:
            for name in member.names:
                yield look.field(name, member.attribute, optional=not member.required)


def _of_dto(dto: Any, decoded: Any, namespace: Mapping[str, Any]) -> Iterator[FileField]:
    """The files of what a DTO decodes to: that has the names, and the model of the DTO the columns."""
    model = dto.model_type
    marked = {field.attribute: field.policy for field in _of_model(model, namespace)}
    for member in members(model_of(decoded), namespace):
        look = _look(member.annotation, member.attribute)
        if look is not None:
            column: Any = getattr(model, member.attribute, None)
            is_column = isinstance(cast("object", column), InstrumentedAttribute)
            policy = policy_of(column) if is_column else marked.get(member.attribute)
            yield look.field(member.names[0], member.attribute, optional=not member.required, policy=policy)


class _Asked:
    """Stands where a creator of OpenAPI schemas is expected, and is told what a DTO decodes to."""

    def for_field_definition(self, field: FieldDefinition) -> Any:
        return field.annotation


def _decoded(handler: HTTPRouteHandler, data: FieldDefinition, dto: Any) -> Any:
    """The type that a DTO decodes a handler's body to, before it makes the model of it."""
    return dto.create_openapi_schema(
        field_definition=data, handler_id=handler.handler_id, schema_creator=cast("Any", _Asked())
    )


def _look(annotation: Any, name: str, markers: Sequence[UploadTo] = ()) -> _Look | None:
    """What an annotation says about files; `None` where nothing."""
    found = _inside(annotation)
    if isinstance(found, UploadTo) or (found is None and markers):
        raise ConfigurationError(f"{found or markers[0]} marks a FileObject, and {name!r} is none: {annotation!r}")
    return found._replace(marker=markers[0]) if found is not None and markers and found.marker is None else found


def _inside(annotation: Any) -> _Look | UploadTo | None:
    """The same, or the marker of what is no file."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        markers = _markers(args[1:])
        found = _inside(args[0])
        if not markers or isinstance(found, UploadTo):
            return found
        return markers[0] if found is None else found._replace(marker=found.marker or markers[0])
    if (within := behind(annotation)) is not None:
        return _inside(within)
    if origin in UNIONS:
        found = next((found for found in map(_inside, args) if found is not None), None)
        return found._replace(nullable=NoneType in args) if isinstance(found, _Look) else found
    if _is_collection(origin) and args:
        found = _inside(args[0])
        return found._replace(many=True, nullable=False) if isinstance(found, _Look) else found
    if isinstance(annotation, type) and origin is None and issubclass(annotation, FileObject | UploadFile):
        return _Look(spooled=issubclass(annotation, UploadFile))
    return None


def _is_collection(origin: Any) -> bool:
    return isinstance(origin, type) and issubclass(origin, Collection) and not issubclass(origin, Mapping)


def _markers(metadata: Sequence[Any]) -> list[UploadTo]:
    return [item for item in metadata if isinstance(item, UploadTo)]


def _holds_files(annotation: Any, namespace: Mapping[str, Any], seen: set[Any]) -> bool:
    """Whether there is a file anywhere inside."""
    if _inside(annotation) is not None:
        return True
    if any(_holds_files(arg, namespace, seen) for arg in get_args(annotation) if arg is not annotation):
        return True
    model = model_of(annotation)
    if not isinstance(get_origin(model) or model, type) or model in seen:
        return False
    seen.add(model)
    return any(_holds_files(member.annotation, namespace, seen) for member in members(model, namespace))
