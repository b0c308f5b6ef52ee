"""Request bodies: a client sends content, and never names an object that is stored already."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NoReturn

from litestar.config.app import AppConfig
from litestar.plugins import InitPlugin

from lading.file import FileObject

Decoder = Callable[[type[Any], Any], Any]


def is_file(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, FileObject)


def refuse(kind: type[Any], value: object) -> NoReturn:
    """What a `FileObject` in a request body comes to: 400, in JSON, MessagePack, forms and DTOs alike."""
    raise ValueError("A stored file cannot be named by a client")


class RecordsRefused(InitPlugin):
    """Makes every type decoder of the application refuse records, those of pydantic models above all.

    Litestar's own plugins add their decoders after those of the application, so this one has to run as the last.
    """

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        if not isinstance(app_config.plugins[-1], RecordsRefused):
            app_config.plugins.append(RecordsRefused())
            return app_config
        if app_config.plugins[-1] is self:
            try:
                from lading.pydantic import refusing_records  # noqa: PLC0415  # optional
            except ImportError:  # without pydantic there are no models to look after
                return app_config
            decoders = app_config.type_decoders or ()
            app_config.type_decoders = [
                (predicate, partial(_within, refusing_records, decode)) for predicate, decode in decoders
            ]
        return app_config


def _within(context: Callable[[], AbstractContextManager[None]], decode: Decoder, kind: type[Any], value: Any) -> Any:
    with context():
        return decode(kind, value)
