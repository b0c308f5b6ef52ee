"""Files in request bodies: what a client may send for a `FileObject`, whatever model it is a field of."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeAlias, cast

import msgspec
from litestar import Request
from litestar.config.app import AppConfig
from litestar.datastructures import UploadFile
from litestar.exceptions import ValidationException
from litestar.handlers import HTTPRouteHandler
from litestar.plugins import InitPlugin, ReceiveRoutePlugin
from litestar.routes import BaseRoute
from litestar.utils import ensure_async_callable
from litestar.utils.scope.state import ScopeState

from lading.errors import ConfigurationError, InvalidToken, MalformedBody
from lading.file import FileObject
from lading.litestar.fields import Fields, FileField
from lading.storages import Storages, storages

Decoder: TypeAlias = Callable[[type[Any], Any], Any]
Reader: TypeAlias = Callable[[str], FileObject]
"""Makes a file of the id of a direct upload; raises `InvalidToken` where it is none of its own."""


def is_file(kind: object) -> bool:
    """Whether a type is that of files."""
    return isinstance(kind, type) and issubclass(kind, FileObject)


class Incoming:
    """Makes the `FileObject` of a request body: the type decoder of one application, however many plugins it has.

    A file that was stored as it arrived passes as it is, an `UploadFile` becomes a pending file, and text is the id of
    a direct upload. A record is refused with 400 in JSON, MessagePack, forms and DTOs alike: a client must not name an
    object. What is wrong with an id passes through everything that validates, and is answered with its own status.
    """

    def __init__(self, storages: Storages) -> None:
        self.readers: list[Reader] = []
        self._storages = storages

    def __call__(self, kind: type[Any], value: object) -> FileObject:
        if isinstance(value, FileObject):
            return value
        if isinstance(value, UploadFile):
            return FileObject.from_upload(value, storages=self._storages)
        if isinstance(value, str):
            return self._read(value)
        if isinstance(value, Mapping):
            return self._of_form(kind, cast("Mapping[Any, object]", value))
        raise ValueError("Input should be a file, or the id of a direct upload")

    def _read(self, token: str) -> FileObject:
        if not token:
            raise ValueError("No file was sent")
        if not self.readers:
            raise ValueError("This application takes no direct uploads")
        refusals: list[InvalidToken] = []
        for reader in self.readers:
            try:
                return reader(token)
            except InvalidToken as error:
                if type(error) is not InvalidToken:  # it is genuine, and so no other plugin's
                    raise
                refusals.append(error)
            except ConfigurationError as error:  # a ValueError would be taken for the client's fault
                raise RuntimeError(f"an upload cannot be read: {error}") from error
        raise refusals[0]

    def _of_form(self, kind: type[Any], form: Mapping[Any, object]) -> FileObject:
        """The one file of a form that is to be a file itself; nothing but a form can hold one here."""
        files = [value for value in form.values() if isinstance(value, FileObject | UploadFile)]
        if len(files) == 1:
            return self(kind, files[0])
        if files:
            raise ValueError("One file is expected, and several were sent")
        raise ValueError("A stored file cannot be named by a client" if form else "No file was sent")


def register(config: AppConfig, reader: Reader | None = None, storages: Storages = storages) -> None:
    """Have an application decode files; a second plugin adds its reader to the first one's decoder.

    Args:
        config: of the application that is being made.
        reader: reads the ids of the plugin's direct uploads.
        storages: the registry of files that no column places; that of the first plugin counts.
    """
    decoders = config.type_decoders or ()
    found = next((decode for _, decode in decoders if isinstance(decode, Incoming)), None)
    if found is None:
        found = Incoming(storages)
        config.type_decoders = [*decoders, (is_file, found)]
        config.plugins.append(_Decoding(found))
    if reader is not None:
        found.readers.append(reader)


def shaped(form: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    """A form as Litestar and the handler's model want it.

    A field for several files is a list, whether one came or more. An input that was left empty arrives as `""`, and is
    `None`, no file of the list, or was not sent, whichever the model can be without.

    Raises:
        MalformedBody: the body is a list of files, and there are none.
    """
    if fields.whole is not None:
        return _shaped_whole(form, fields.whole)
    result = dict(form)
    for name, field in fields.by_name.items():
        if name not in result:
            continue
        sent = [value for value in _several(result[name]) if value != ""]
        if field.many and (sent or not field.optional):
            result[name] = sent
        elif not sent and field.nullable:
            result[name] = None
        elif not sent and field.optional:
            del result[name]
        elif len(sent) == 1:
            result[name] = sent[0]
    return result


def prepare(handler: HTTPRouteHandler, fields: Fields) -> None:
    """Shape the forms that Litestar reads for a handler, before it does; once, however often this is called."""
    hooked: Any = handler  # generics that are bare in Litestar
    if not fields.form or isinstance(hooked.before_request, _Shaping):
        return
    hooks = [layer.before_request for layer in hooked.ownership_layers if layer.before_request]
    hooked.before_request = _Shaping(fields, hooks[-1] if hooks else None)


class _Shaping:
    """A hook that runs after the application's own, and before the body is looked at."""

    def __init__(self, fields: Fields, first: Callable[[Request[Any, Any, Any]], Any] | None) -> None:
        self._fields = fields
        self._first = None if first is None else ensure_async_callable(first)

    async def __call__(self, request: Request[Any, Any, Any]) -> Any:
        if self._first is not None and (answer := await self._first(request)):
            return answer
        try:
            await request.form()
        except (UnicodeDecodeError, LookupError) as error:  # Litestar decodes text without looking
            raise MalformedBody("a text field of the form is not in the encoding that it says") from error
        state = ScopeState.from_scope(request.scope)
        state.form = form = shaped(cast("dict[str, Any]", state.form), self._fields)
        data = request.route_handler.parsed_data_field
        is_left_out = not form and data is not None and data.is_optional
        if self._fields.decoded is not None and not is_left_out:
            self._try(request, form)
        return None

    def _try(self, request: Request[Any, Any, Any], form: dict[str, Any]) -> None:
        """Refuse what a DTO will not decode: of forms Litestar makes a 500 of that, not a 400 as of other bodies."""
        decode = request.route_handler.default_deserializer
        try:
            msgspec.convert(form, self._fields.decoded, strict=False, dec_hook=decode, str_keys=True)
        except msgspec.ValidationError as error:
            detail = f"Validation failed for {request.method} {request.url.path}"
            raise ValidationException(detail, extra=[{"message": str(error), "source": "body"}]) from error


class _Decoding(InitPlugin, ReceiveRoutePlugin):
    """Has pydantic's models read files in the same way, and keeps the decoder to its application.

    Litestar's own plugins add their decoders after those of the application, so this one has to run as the last.
    """

    def __init__(self, incoming: Incoming) -> None:
        self._incoming = incoming

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        if app_config.plugins[-1] is not self:
            app_config.plugins.append(_Decoding(self._incoming))
            return app_config
        try:
            from lading.pydantic import reading  # noqa: PLC0415  # optional
        except ImportError:  # without pydantic there are no models to look after
            return app_config

        def within(decode: Decoder, kind: type[Any], value: Any) -> Any:
            with reading(self._incoming):
                return decode(kind, value)

        app_config.type_decoders = [
            (predicate, partial(within, decode)) for predicate, decode in app_config.type_decoders or ()
        ]
        return app_config

    def receive_route(self, route: BaseRoute) -> None:
        """Litestar notes a handler's decoder on the class that its parameter is of, where other applications see it."""
        if "_decoder" in vars(FileObject):
            delattr(FileObject, "_decoder")


def _several(value: Any) -> list[Any]:
    return list(cast("Any", value)) if isinstance(value, list) else [value]


def _files(form: Mapping[str, Any]) -> Iterator[Any]:
    for values in form.values():
        yield from (value for value in _several(values) if isinstance(value, FileObject | UploadFile))


def _shaped_whole(form: Mapping[str, Any], whole: FileField) -> dict[str, Any]:
    files = list(_files(form))
    if not whole.many:
        return {str(number): file for number, file in enumerate(files)}
    if whole.spooled or (whole.nullable and not files):
        return {"": files}  # Litestar takes the list
    if not files:
        raise MalformedBody("the form has no file")
    return {str(number): file for number, file in enumerate(files)}  # Litestar makes the list
