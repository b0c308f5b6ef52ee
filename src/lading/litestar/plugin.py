"""`LadingPlugin`: what a Litestar application needs to know about files."""

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
from litestar.config.app import AppConfig
from litestar.di import Provide
from litestar.openapi.spec import Schema
from litestar.plugins import InitPlugin, OpenAPISchemaPlugin, ReceiveRoutePlugin
from litestar.routes import BaseRoute, HTTPRoute
from litestar.typing import FieldDefinition

from lading.asgi import FileServer
from lading.errors import ConfigurationError
from lading.file import FileObject
from lading.litestar import bodies, current, downloads, fields, limits, openapi, problems, staged
from lading.litestar.config import LadingConfig
from lading.litestar.direct import Direct, Waiting, upload_route
from lading.litestar.hints import hints_route
from lading.litestar.streaming import Streaming
from lading.litestar.sweeping import Sweeping
from lading.policy import Policy
from lading.record import FileRecord
from lading.signer import UrlSigner
from lading.storages import Storages
from lading.tokens import Tokens

if TYPE_CHECKING:
    from litestar._openapi.schema_generation import SchemaCreator


_UNCOMPRESSED = "lading_uncompressed"


class LadingPlugin(InitPlugin, ReceiveRoutePlugin, OpenAPISchemaPlugin):
    """Files in and out of a Litestar application, as its `LadingConfig` says.

    Out: signed URLs for every store, the routes that serve them, and `FileObject` in responses, as its record. In: a
    field of a request body that is a `FileObject` takes an uploaded file, or the id of a direct upload; one that is
    `Annotated[FileObject, UploadTo(Document.file)]` is stored as it arrives, under the rules of that column, and
    deleted when the request ends and no row has taken it. A record in a request body is refused: a client must not
    name an object. lading's errors become problem documents (RFC 9457), unless the application handles them.

    An application may have several of these plugins, each with a path, a name and a registry of its own.

    With a sweeper, the application deletes in the background what its outbox holds, while it runs: in a task, or with a
    sync engine in a thread. Any number of processes may do so at once. A database or store that fails does not end it,
    and is logged (`lading`); a shutdown waits for what is being deleted. Orphans are left to an operator's command.

    From the application's creation on, the registry signs with this plugin, in and out of requests; the last one wins.

    Args:
        config: all that there is to say.

    Raises:
        ConfigurationError: the secret is too short, or `base_url` is none; or, when the application is made, another
            of its plugins has the path or the name, or the sweeper's tables have no outbox; or, when it starts, direct
            uploads have nowhere to go.
    """

    __slots__ = ("_streaming", "_sweeping", "_tokens", "_uncompressed", "config")

    def __init__(self, config: LadingConfig) -> None:
        self.config = config
        self._tokens = Tokens(config.secret)
        self._streaming = Streaming(config.admission(), config.pace, Policy(storages=config.storages))
        self._sweeping = None if config.sweeper is None else Sweeping(config.sweeper, config.sweep_every)
        self._uncompressed = ""
        self._signer(config.path)

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        config = self.config
        self._check_neighbours(app_config)
        path, above = config.path.rstrip("/"), app_config.path.strip("/")
        mounted = f"/{above}{path}" if above else path
        signer = self._signer(mounted)
        config.storages.signer = signer
        direct = self._add_routes(app_config, path, signer)
        bodies.register(app_config, None if direct is None else direct.read, config.storages)
        openapi.register(app_config)
        problems.register(app_config)
        app_config.type_encoders = {FileObject: FileObject.to_dict, **(app_config.type_encoders or {})}
        app_config.signature_namespace = {
            "FileObject": FileObject,
            "Storages": Storages,
            **app_config.signature_namespace,
        }
        app_config.dependencies = {
            config.name: Provide(lambda: config.storages, sync_to_thread=False),
            **app_config.dependencies,
        }
        app_config.state[config.name] = config.storages
        app_config.middleware = [current.remembering, staged.removing, *app_config.middleware]
        app_config.before_send.append(staged.look_again)
        if self._sweeping is not None:
            self._sweeping.register(app_config)
        self._uncompressed = _never_compress(app_config, mounted)
        return app_config

    def receive_route(self, route: BaseRoute) -> None:
        """Prepare the handlers whose bodies have files, and those that return one."""
        for handler in route.route_handlers if isinstance(route, HTTPRoute) else ():
            downloads.prepare(handler, self._uncompressed)
            found = fields.of(handler)
            if found is not None:
                self._streaming.attach(handler, found)
                bodies.prepare(handler, found)
                limits.apply(handler, found, self._streaming.otherwise)
                openapi.describe(handler, found, direct=self.config.direct_uploads is not None)

    def _signer(self, path: str) -> UrlSigner:
        config = self.config
        return UrlSigner(
            self._tokens,
            path,
            base_url=config.base_url,
            longest=config.longest,
            always=config.urls != "store",
            separate_origin=config.separate_origin,
        )

    def _add_routes(self, app_config: AppConfig, path: str, signer: UrlSigner) -> Direct | None:
        config = self.config
        policies = config.policies()
        server = FileServer(
            signer,
            config.storages,
            mode="redirect" if config.urls == "redirect" else "proxy",
            policies=policies,
            admission=self._streaming.admission,
            pace=config.pace,
        )
        routes = app_config.route_handlers
        if config.downloads:
            opt = downloads.left_out(app_config, config.download_guards)
            routes.append(downloads.download_route(path, server, guards=config.download_guards, opt=opt))
        if config.uploads:
            opt = downloads.left_out(app_config, config.upload_guards)
            route = downloads.put_route(path, server, memory=config.upload_memory, guards=config.upload_guards, opt=opt)
            routes.append(route)
        direct = None
        if config.direct_uploads is not None and config.sweeper is not None:
            direct = Direct(
                config.direct_uploads,
                policies,
                signer,
                Waiting(config.sweeper.engine, config.outbox()),
                serves=config.uploads,
                through_us=config.urls == "proxy",
            )
            routes.append(upload_route(path, direct, config.direct_uploads))
            app_config.on_startup.append(direct.check)
        if config.hints and policies:
            routes.append(hints_route(path, policies, config.hint_guards, direct=direct is not None))
        return direct

    def _check_neighbours(self, app_config: AppConfig) -> None:
        for plugin in app_config.plugins:
            if isinstance(plugin, LadingPlugin) and plugin is not self:
                theirs, mine = plugin.config, self.config
                if theirs.path.rstrip("/") == mine.path.rstrip("/") or theirs.name == mine.name:
                    raise ConfigurationError(
                        "each LadingPlugin of an application has a path and a name of its own; two have "
                        f"{mine.path!r} and {mine.name!r}"
                    )

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


def _never_compress(config: AppConfig, path: str) -> str:
    """Compression would drop Content-Length and break ranges and strong tags, and most files are compressed already.

    Returns:
        The key of a handler's `opt` that leaves it out of compression.
    """
    compression = config.compression_config
    if compression is None:
        return _UNCOMPRESSED
    excluded = compression.exclude or []
    patterns = [excluded] if isinstance(excluded, str) else excluded
    key = compression.exclude_opt_key or _UNCOMPRESSED
    config.compression_config = replace(compression, exclude=[*patterns, f"^{re.escape(path)}/"], exclude_opt_key=key)
    return key
