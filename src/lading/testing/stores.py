"""The stores of an application while a test runs: in memory, and open to be looked at."""

from collections.abc import Generator
from contextlib import contextmanager
from threading import Lock

from lading.backends.base import RETRIES
from lading.backends.obstore import ObstoreBackend
from lading.backends.protocols import ObjectInfo, StorageBackend
from lading.file import FileObject
from lading.storages import Storages, storages
from lading.testing.faulty import FaultyBackend
from lading.worlds import inline, iterate


@contextmanager
def in_memory(registry: Storages = storages) -> Generator[Storages, None, None]:
    """Let every key of a registry lead to an empty memory of its own, and afterwards to where it led before.

    That goes for what is registered already, for what the application registers meanwhile, and for keys that nobody
    registers. Rules, path maker and options are those of the backend whose place is taken. A backend in memory that is
    registered meanwhile is taken as it is, and so is a `FaultyBackend` around one.

    Only who asks the registry is led elsewhere, as columns and files do; a backend that somebody holds and calls by
    himself is the real one.
    """
    real: list[StorageBackend] = []
    made: dict[str, StorageBackend] = {}
    lock = Lock()

    def stand_in(key: str, backend: StorageBackend | None) -> StorageBackend:
        if backend is not None and backend.protocol == "memory" and not any(backend is each for each in real):
            return backend
        with lock:
            if key not in made:
                made[key] = _memory(key, backend)
                if backend is None:
                    registry.register_backend(made[key])
            return made[key]

    def note(key: str, backend: StorageBackend | None) -> StorageBackend:
        assert backend is not None
        real.append(backend)
        return backend

    keys = registry.registered_backends()
    with registry.standing_in(note):
        for key in keys:
            registry.get_backend(key)
    with registry.standing_in(stand_in):
        if registry.default_backend is None and len(keys) == 1:
            registry.set_default_backend(keys[0])  # which it is also when a test brings more keys
        yield registry


def _memory(key: str, backend: StorageBackend | None) -> ObstoreBackend:
    if backend is None:
        return ObstoreBackend(key, "memory://")
    return ObstoreBackend(
        key,
        "memory://",
        rules=backend.rules,
        path=backend.path_maker,
        trust=backend.trust,
        checksum=backend.checksum,
        chunk_size=backend.chunk_size,
        retries=getattr(backend, "retries", RETRIES),
    )


class Files:
    """What lies in the stores of a registry. One set of methods for sync and async tests: none suspends.

    A `FaultyBackend` is looked past: to look fails never, and is not among its calls.

    Args:
        registry: whose stores.
    """

    def __init__(self, registry: Storages = storages) -> None:
        self._registry = registry

    def paths(self, backend: str | None = None) -> list[str]:
        """The paths of all objects, or of those in one backend, in order."""
        return sorted(path for key, path in self._listed() if backend is None or key == self._key(backend))

    def assert_only(self, *expected: str | FileObject) -> None:
        """Fail unless the stores hold just these objects.

        Args:
            expected: files, or paths, which may lie in any of the backends.
        """
        __tracebackhide__ = True
        found = self._listed()
        files = {(each.backend.key, each.path) for each in expected if isinstance(each, FileObject)}
        paths = {each for each in expected if isinstance(each, str)}
        extra = [place for place in found if place not in files and place[1] not in paths]
        missing = [f"{path!r} in {key!r}" for key, path in sorted(files - found.keys())]
        missing += [repr(path) for path in sorted(paths - {path for _, path in found})]
        if extra or missing:
            surplus = [f"{path!r} in {key!r}, {found[key, path].size} bytes" for key, path in sorted(extra)]
            lines = [*(f"not expected: {each}" for each in surplus), *(f"not there: {each}" for each in missing)]
            raise AssertionError("\n  ".join(["the stores do not hold what they should:", *lines]))

    def assert_empty(self) -> None:
        """Fail unless the stores hold nothing."""
        __tracebackhide__ = True
        self.assert_only()

    def _listed(self) -> dict[tuple[str, str], ObjectInfo]:
        return {
            (key, info.path): info
            for key in self._registry.registered_backends()
            for info in iterate(self._store(key).driver(inline).list())
        }

    def _store(self, key: str) -> StorageBackend:
        backend = self._registry.get_backend(key)
        while isinstance(backend, FaultyBackend):
            backend = backend.inner
        return backend

    def _key(self, key: str) -> str:
        return self._registry.get_backend(key).key

    def __repr__(self) -> str:
        return f"<Files of {self._registry!r}>"
