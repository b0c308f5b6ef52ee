"""The example applications, in this process."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from litestar import Litestar

from lading import storages
from lading.backends.protocols import Signer, StorageBackend


class Example:
    """An example is imported once; it and others use the default registry, so each has that to itself while it runs."""

    module: ModuleType
    backends: list[StorageBackend]
    signer: Signer | None

    def __init__(self, name: str, data: Path) -> None:
        signer, known = storages.signer, set(storages.registered_backends())
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LADING_EXAMPLE_DATA", str(data))
            patch.delenv("LADING_EXAMPLE_STORE", raising=False)
            self.module = import_module(name)
        added = [key for key in storages.registered_backends() if key not in known]
        self.backends = [storages.get_backend(key) for key in added]
        self.signer, storages.signer = storages.signer, signer
        for key in added:
            storages.unregister_backend(key)

    @property
    def app(self) -> Litestar:
        app: Litestar = self.module.app
        return app

    @contextmanager
    def active(self) -> Iterator[None]:
        """Its backends and its signer are those of the default registry."""
        signer, storages.signer = storages.signer, self.signer
        for backend in self.backends:
            storages.register_backend(backend)
        yield
        for backend in self.backends:
            storages.unregister_backend(backend.key)
        storages.signer = signer


@pytest.fixture(scope="session")
def documents_example(tmp_path_factory: pytest.TempPathFactory) -> Example:
    """The guide's "File Object Storage", with the page."""
    return Example("examples.documents.page", tmp_path_factory.mktemp("documents"))


@pytest.fixture(scope="session")
def guide_example(tmp_path_factory: pytest.TempPathFactory) -> Example:
    """The rest of the guide."""
    return Example("examples.guide.app", tmp_path_factory.mktemp("guide"))
