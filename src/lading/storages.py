"""The registry: which key, as rows remember it, is which backend."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import Lock
from typing import Any, NoReturn, TypeAlias

from typing_extensions import get_protocol_members

from lading.backends.obstore import ObstoreBackend
from lading.backends.protocols import Signer, StorageBackend
from lading.errors import BackendNotRegistered, ConfigurationError, NotSupported

StandIn: TypeAlias = Callable[[str, StorageBackend | None], StorageBackend]
"""Gives a backend in the place of the one of a key, or where there is none; for one key always the same one."""


class Storages:
    """The backends of one application, by key; safe to use from several threads.

    Args:
        concurrency: files that one flush stores at the same time, at most; from 1.

    Attributes:
        concurrency: as given.
        signer: signs for backends whose store honours no signed URLs (memory, local disk), and where a store's would
            not do; set by a web integration.
    """

    def __init__(self, *, concurrency: int = 8) -> None:
        if concurrency < 1:
            raise ConfigurationError(f"concurrency is at least 1, not {concurrency}")
        self.concurrency = concurrency
        self.signer: Signer | None = None
        self._backends: dict[str, StorageBackend] = {}
        self._aliases: dict[str, str] = {}
        self._default: str | None = None
        self._stand_in: StandIn | None = None
        self._lock = Lock()

    def register_backend(
        self, backend: StorageBackend | str, key: str | None = None, *, replace: bool = False, **options: Any
    ) -> StorageBackend:
        """Make a backend known, and return it.

        A key may be registered again with a backend that is equal, as happens when a module is imported twice.
        Another one is refused, because rows that name the key would then name objects that are not there.

        Args:
            backend: a backend, or a URL for `lading.backends.obstore.ObstoreBackend`.
            key: needed with a URL; a backend has its own.
            replace: whether another backend of that key may be replaced.
            options: with a URL, further arguments of `ObstoreBackend`.

        Raises:
            ConfigurationError: the key is missing, taken or an alias, or the URL or an option is wrong.
        """
        if isinstance(backend, str):
            if key is None:
                raise ConfigurationError(f'a URL needs a key: register_backend({backend!r}, key="...")')
            backend = ObstoreBackend(key, backend, **options)
        elif not _is_backend(backend):
            raise ConfigurationError(f"a backend or a URL is registered, not {type(backend).__name__}")
        elif options or key not in (None, backend.key):
            raise ConfigurationError(f"the backend {backend.key!r} has its key and options already")
        with self._lock:
            if backend.key in self._aliases:
                raise ConfigurationError(f"{backend.key!r} is an alias of {self._aliases[backend.key]!r}")
            known = self._backends.get(backend.key)
            if known is not None and known != backend and not replace:
                raise ConfigurationError(
                    f"another backend is registered as {backend.key!r}: {known!r}, not {backend!r}; "
                    "choose another key, or pass replace=True"
                )
            self._backends[backend.key] = backend
        return backend

    def get_backend(self, key: str | StorageBackend | None = None) -> StorageBackend:
        """The backend of a key or alias; a backend is itself; `None` is the default, or the only one there is.

        Raises:
            BackendNotRegistered: there is none; the error says which are known.
            ConfigurationError: `None`, and there is no default.
        """
        if key is None:
            key = self._default_key()
        if not isinstance(key, str):
            return key if self._stand_in is None else self._stand_in(key.key, key)
        backend = self._backends.get(key) or self._backends.get(self._target(key))
        if self._stand_in is not None:
            return self._stand_in(self._target(key), backend)
        if backend is None:
            raise BackendNotRegistered(key, [*self._backends, *self._aliases])
        return backend

    def is_registered(self, key: str) -> bool:
        """Whether `get_backend(key)` finds a backend."""
        return key in self._backends or self._target(key) in self._backends

    def registered_backends(self) -> list[str]:
        """The keys of the backends, without aliases, in the order in which they were registered."""
        return list(self._backends)

    def unregister_backend(self, key: str) -> None:
        """Forget a backend or an alias; the default, too, if it was that.

        Raises:
            BackendNotRegistered: there is none of that key.
        """
        with self._lock:
            if key not in self._backends and key not in self._aliases:
                raise BackendNotRegistered(key, [*self._backends, *self._aliases])
            self._backends.pop(key, None)
            self._aliases.pop(key, None)
            if self._default == key:
                self._default = None

    def clear_backends(self) -> None:
        """Forget all backends and aliases, and which is the default; the signer stays."""
        with self._lock:
            self._backends.clear()
            self._aliases.clear()
            self._default = None

    @property
    def default_backend(self) -> str | None:
        """The key of the default backend, where one was set."""
        return self._default

    def set_default_backend(self, key: str) -> None:
        """Say which backend `None` stands for. Raises `BackendNotRegistered`."""
        self.get_backend(key)
        self._default = key

    def alias(self, old: str, new: str) -> None:
        """Let a key that rows still name lead to another, which may be registered later or be an alias itself.

        Raises:
            ConfigurationError: a backend is registered as `old`, or `new` leads back to it.
        """
        with self._lock:
            if old in self._backends:
                raise ConfigurationError(f"{old!r} is a backend; unregister it before it becomes an alias")
            if self._target(new) == old:
                raise ConfigurationError(
                    f"{new!r} leads to {old!r} already; an alias in the other direction is a circle"
                )
            self._aliases[old] = new

    @contextmanager
    def standing_in(self, stand_in: StandIn) -> Generator[None, None, None]:
        """Find other backends for a while, as tests want it: nobody who asks this registry comes to the real ones.

        What is registered meanwhile, and every other change of the registry, is undone at the end. Not for use while
        other threads work with the registry.

        Args:
            stand_in: called whenever somebody asks for a backend, with its key and what is registered.
        """
        before = (dict(self._backends), dict(self._aliases), self._default, self.signer, self.concurrency)
        outer, self._stand_in = self._stand_in, stand_in
        try:
            yield
        finally:
            self._stand_in = outer
            self._backends, self._aliases, self._default, self.signer, self.concurrency = before

    def _default_key(self) -> str:
        if self._default is not None:
            return self._default
        if len(self._backends) != 1:
            raise ConfigurationError(
                f"no backend was named, and of {len(self._backends)} none is the default; "
                "name one, or call storages.set_default_backend(key)"
            )
        return next(iter(self._backends))

    def _target(self, key: str) -> str:
        while (target := self._aliases.get(key)) is not None:
            key = target
        return key

    def __repr__(self) -> str:
        return f"<Storages: {', '.join(self._backends) or 'none'}>"

    def __reduce__(self) -> NoReturn:
        raise NotSupported("a registry of backends cannot be pickled or copied; files are, by the keys they name")


def _is_backend(value: object) -> bool:
    """Whether it has what a backend has; `isinstance` sees no attributes behind `__getattr__` from Python 3.12 on."""
    return not isinstance(value, type) and all(hasattr(value, name) for name in get_protocol_members(StorageBackend))


storages = Storages()
"""The registry that is used where no other is named."""
