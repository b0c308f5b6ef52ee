"""`LadingPlugin`: what a Litestar application needs to know about files."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
from litestar.config.app import AppConfig
from litestar.openapi.spec import Schema
from litestar.plugins import InitPlugin, OpenAPISchemaPlugin
from litestar.typing import FieldDefinition

from lading.errors import ConfigurationError
from lading.file import FileObject
from lading.litestar import bodies, problems
from lading.litestar.downloads import download_route
from lading.litestar.sweeping import Sweeping
from lading.record import FileRecord
from lading.signer import UrlSigner
from lading.storages import Storages, storages
from lading.sweeper import Sweeper
from lading.tokens import Tokens

if TYPE_CHECKING:
    from litestar._openapi.schema_generation import SchemaCreator


class LadingPlugin(InitPlugin, OpenAPISchemaPlugin):
    """Signed URLs for stores that have none, the route that serves them, and `FileObject` in responses and OpenAPI.

    A `FileObject` serialises as its record; one in a request body is refused with 400, because a client must not name
    an object. lading's errors become problem documents (RFC 9457) with the right status, unless the application handles
    them. An application may have several of these plugins, each with a path and a registry of its own.

    With a sweeper, the application deletes in the background what its outbox holds, while it runs: in a task, or with a
    sync engine in a thread. Any number of processes may do so at once. A database or store that fails does not end it,
    and is logged (`lading`); a shutdown waits for what is being deleted. Orphans are left to an operator's command.

    From the application's creation on, the registry signs with this plugin, in and out of requests; the last one wins.

    Args:
        secret: at least 16 random bytes that sign the URLs; of several, newest first, the first signs and all are good.
        path: where signed URLs are served, below the application's own path. It needs no authentication: the URL is it.
        storages: the registry of the backends.
        base_url: scheme, host and whatever a proxy puts before the application; without it signed URLs are relative.
        sweeper: drains the outbox of its tables. Applications that share this plugin drain once, in the first of them.
        sweep_every: the time between two drains, more or less.

    Raises:
        ConfigurationError: the secret is too short, `path` or `base_url` is none, or `sweep_every` is not positive; or,
            when the application is made, the sweeper's tables have no outbox.
    """

    __slots__ = ("_base_url", "_path", "_storages", "_sweeping", "_tokens")

    def __init__(
        self,
        secret: str | bytes | Sequence[str | bytes],
        path: str = "/files",
        *,
        storages: Storages = storages,
        base_url: str | None = None,
        sweeper: Sweeper | None = None,
        sweep_every: timedelta = timedelta(minutes=1),
    ) -> None:
        if not re.fullmatch(r"(?:/[A-Za-z0-9._~-]+)+/?", path):
            raise ConfigurationError(
                f"the path of LadingPlugin is one or more plain segments, such as '/files': {path!r}"
            )
        self._tokens = Tokens(secret)
        self._path = path.rstrip("/")
        self._storages = storages
        self._base_url = base_url
        self._sweeping = None if sweeper is None else Sweeping(sweeper, sweep_every)
        UrlSigner(self._tokens, self._path, base_url=base_url)

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        above = app_config.path.strip("/")
        mounted = f"/{above}{self._path}" if above else self._path
        signer = UrlSigner(self._tokens, mounted, base_url=self._base_url)
        self._storages.signer = signer
        app_config.route_handlers.append(download_route(self._path, signer, self._storages))
        app_config.type_encoders = {FileObject: FileObject.to_dict, **(app_config.type_encoders or {})}
        app_config.type_decoders = [*(app_config.type_decoders or ()), (bodies.is_file, bodies.refuse)]
        app_config.signature_namespace.setdefault("FileObject", FileObject)
        app_config.plugins.append(bodies.RecordsRefused())
        problems.register(app_config)
        if self._sweeping is not None:
            self._sweeping.register(app_config)
        _never_compress(app_config, mounted)
        return app_config

    @staticmethod
    def is_plugin_supported_type(value: object) -> bool:
        return bodies.is_file(value)

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: "SchemaCreator") -> Schema:
        members = {
            member.name: member.type for member in msgspec.structs.fields(FileRecord) if member.name != "unknown"
        }
        return schema_creator.create_component_schema(
            field_definition,
            required=list(members),
            property_fields={
                name: FieldDefinition.from_kwarg(annotation, name) for name, annotation in members.items()
            },
            title=FileObject.__name__,
        )


def _never_compress(config: AppConfig, path: str) -> None:
    """Compression would drop Content-Length and break ranges and strong tags, and most files are compressed already."""
    compression = config.compression_config
    if compression is None:
        return
    excluded = compression.exclude or []
    patterns = [excluded] if isinstance(excluded, str) else excluded
    config.compression_config = replace(compression, exclude=[*patterns, f"^{re.escape(path)}/"])
