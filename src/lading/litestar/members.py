"""The fields of a model, whichever library made it: pydantic, msgspec, attrs, dataclasses, typed dictionaries."""

import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    NamedTuple,
    NewType,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec
from typing_extensions import ReadOnly, TypeAliasType, is_typeddict

from lading.errors import ConfigurationError

UNIONS = (Union, UnionType)


class Member(NamedTuple):
    """A field of a model.

    Attributes:
        attribute: its name.
        names: as clients may spell it; the first is the one to be told.
        annotation: its type.
        metadata: what `Annotated` said of it, where the annotation says it no more.
        required: whether a client has to give it.
    """

    attribute: str
    names: Sequence[str]
    annotation: Any
    metadata: Sequence[Any]
    required: bool


def members(model: Any, namespace: Mapping[str, Any]) -> Iterator[Member]:
    """The fields that a model is made from; of what is no model none.

    Args:
        model: a class, or a generic one with its arguments.
        namespace: names that annotations may use besides those of the model's module.

    Raises:
        ConfigurationError: an annotation names something that is not known.
    """
    bare: Any = get_origin(model) or model
    if not isinstance(bare, type):
        return
    if hasattr(bare, "__pydantic_validator__") and hasattr(bare, "model_fields"):
        yield from _of_pydantic(bare)
    elif issubclass(bare, msgspec.Struct):
        for member in msgspec.structs.fields(model):
            yield Member(member.name, (member.encode_name,), member.type, (), member.required)
    elif (optional := _optional(bare)) is not None:
        for name, annotation in _hints(bare, namespace).items():
            if name in optional:
                # Where annotations are text the class does not know about NotRequired; they themselves do.
                qualifier = get_origin(annotation)
                required = qualifier is Required or (qualifier is not NotRequired and not optional[name])
                yield Member(name, (name,), annotation, (), required)


def model_of(annotation: Any) -> Any:
    """An annotation without `Annotated`, `None` and other names for it."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return model_of(args[0])
    if (within := behind(annotation)) is not None:
        return model_of(within)
    if origin in UNIONS:
        return next((model_of(arg) for arg in args if arg is not NoneType), None)
    return annotation


def behind(annotation: Any) -> Any:
    """What stands behind another name of a type, or a qualifier; `None` where nothing."""
    if isinstance(annotation, TypeAliasType):
        return annotation.__value__
    if isinstance(annotation, NewType):
        return annotation.__supertype__
    if get_origin(annotation) in (Required, NotRequired, ReadOnly):
        return get_args(annotation)[0]
    return None


def _optional(model: Any) -> dict[str, bool] | None:
    """Whether each field of a dataclass, an attrs class or a typed dictionary may be left out; `None` of others."""
    if is_typeddict(model):
        return {name: name in model.__optional_keys__ for name in (*model.__optional_keys__, *model.__required_keys__)}
    if dataclasses.is_dataclass(model):
        missing = dataclasses.MISSING
        return {
            field.name: field.default is not missing or field.default_factory is not missing
            for field in dataclasses.fields(model)
            if field.init
        }
    attributes = getattr(model, "__attrs_attrs__", None)
    if attributes is None:
        return None
    # attrs is not imported for this: what has no default has its NOTHING there.
    return {field.name: getattr(field.default, "name", "") != "NOTHING" for field in attributes if field.init}


def _of_pydantic(model: Any) -> Iterator[Member]:
    by_alias = model.model_config.get("validate_by_alias", True)
    by_name = model.model_config.get("validate_by_name") or model.model_config.get("populate_by_name")
    for name, field in model.model_fields.items():
        aliases = list(_aliases(field.validation_alias)) if by_alias else []
        names = [*aliases, name] if by_name or not aliases else aliases
        yield Member(name, names, field.annotation, field.metadata, field.is_required())


def _aliases(alias: Any) -> Iterator[str]:
    """The names at the top of a body that a `validation_alias` allows: text, an `AliasPath` or an `AliasChoices`."""
    if isinstance(alias, str):
        yield alias
    elif alias is not None:
        paths: Any = alias.convert_to_aliases()
        for path in paths if paths and isinstance(paths[0], list) else [paths]:
            if len(path) == 1:
                yield str(path[0])


def _hints(model: Any, namespace: Mapping[str, Any]) -> dict[str, Any]:
    module = vars(sys.modules[model.__module__]) if model.__module__ in sys.modules else {}
    try:
        return get_type_hints(model, module, {**namespace, **vars(model)}, include_extras=True)
    except NameError as error:
        raise ConfigurationError(
            f"a name in the annotations of {model.__name__} is not known: {error.name}; "
            "add it to the handler's signature_namespace"
        ) from error
