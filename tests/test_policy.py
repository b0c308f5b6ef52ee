"""What is asked of the files of one place."""

import pytest

from lading import Storages
from lading.backends.obstore import ObstoreBackend
from lading.errors import BackendNotRegistered, ConfigurationError
from lading.policy import ANYTHING, Policy
from lading.rules import MB, Rule, content_types, extensions, max_size, min_size


@pytest.fixture
def storages() -> Storages:
    storages = Storages()
    storages.register_backend(ObstoreBackend("store", "memory://", rules=[max_size(5 * MB), content_types("image/*")]))
    return storages


def test_its_place(storages: Storages) -> None:
    """The backend is that of the key, the one that was given, or the only one."""
    backend = storages.get_backend("store")
    assert Policy(backend="store", storages=storages).place is backend
    assert Policy(backend=backend, storages=Storages()).place is backend
    assert Policy(storages=storages).place is backend
    with pytest.raises(BackendNotRegistered):
        _ = Policy(backend="other", storages=storages).place
    with pytest.raises(ConfigurationError):
        _ = Policy(storages=Storages()).place


def test_what_is_asked(storages: Storages) -> None:
    """The rules of the backend come first, and both count: the smaller limit is the limit."""
    small, large = max_size(1 * MB), max_size(9 * MB)
    policy = Policy(backend="store", rules=[small], storages=storages)
    assert list(policy.asked()) == [*storages.get_backend("store").rules, small]
    assert policy.max_size == 1 * MB
    assert Policy(backend="store", rules=[large], storages=storages).max_size == 5 * MB
    assert Policy(backend=ObstoreBackend("free", "memory://")).max_size is None


def test_hints(storages: Storages) -> None:
    """A form is told what all of the rules together accept."""
    rules: list[Rule] = [extensions("png", "jpg"), min_size(10), max_size(2 * MB)]
    told = Policy(backend="store", rules=rules, storages=storages).hints()
    assert told == {"accept": ".png,.jpg", "max_size": 2 * MB, "min_size": 10}
    bare = Policy(backend=ObstoreBackend("free", "memory://")).hints()
    assert bare == {"accept": "", "max_size": None, "min_size": None}


def test_anything() -> None:
    """What asks for nothing has no name, so no upload is for it."""
    assert (ANYTHING.name, tuple(ANYTHING.rules), ANYTHING.path_maker) == (None, (), None)
