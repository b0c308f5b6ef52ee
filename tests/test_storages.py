"""Tests of the registry of backends."""

import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lading.backends.obstore import ObstoreBackend
from lading.backends.protocols import StorageBackend
from lading.errors import BackendNotRegistered, ConfigurationError, NotSupported
from lading.signer import UrlSigner
from lading.storages import Storages, storages
from lading.tokens import Tokens


def memory(key: str) -> ObstoreBackend:
    return ObstoreBackend(key, "memory://")


@pytest.fixture
def registry() -> Storages:
    return Storages()


@pytest.fixture
def default_registry() -> Iterator[Storages]:
    yield storages
    storages.clear_backends()


def test_a_backend_is_found_by_its_key(registry: Storages) -> None:
    """What was registered is what is found, and a backend finds itself."""
    backend = memory("a")
    assert registry.register_backend(backend) is backend
    assert registry.get_backend("a") is registry.get_backend(backend) is backend
    assert registry.is_registered("a")
    assert not registry.is_registered("b")


def test_a_url_and_a_key_serve_too(registry: Storages, tmp_path: Path) -> None:
    """A URL is opened by obstore, with further arguments for the backend."""
    made = registry.register_backend(f"file://{tmp_path}", key="disk", prefix="p", checksum="sha1")
    assert registry.get_backend("disk") is made
    assert (made.key, made.protocol, made.checksum) == ("disk", "file", "sha1")


def test_an_unknown_key_says_which_are_known(registry: Storages) -> None:
    """The error has the key and all keys and aliases that there are."""
    registry.register_backend(memory("a"))
    registry.alias("old", "a")
    with pytest.raises(BackendNotRegistered, match="'a', 'old'") as caught:
        registry.get_backend("b")
    assert (caught.value.key, caught.value.known) == ("b", ("a", "old"))
    assert isinstance(caught.value, LookupError)


@pytest.mark.parametrize("wrong", [object(), 1, ObstoreBackend], ids=["object", "number", "class"])
def test_only_backends_are_registered(registry: Storages, wrong: object) -> None:
    """Anything else is refused at once, and not when a file is stored."""
    with pytest.raises(ConfigurationError):
        registry.register_backend(wrong)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # on purpose
    assert registry.registered_backends() == []


def test_a_url_needs_a_key(registry: Storages) -> None:
    """A URL alone does not say under which key rows remember it, and a backend has its key already."""
    with pytest.raises(ConfigurationError, match="key="):
        registry.register_backend("memory://")
    with pytest.raises(ConfigurationError, match="'a'"):
        registry.register_backend(memory("a"), key="b")
    with pytest.raises(ConfigurationError, match="'a'"):
        registry.register_backend(memory("a"), prefix="b")
    assert registry.registered_backends() == []


def test_the_same_place_may_be_registered_again(registry: Storages, tmp_path: Path) -> None:
    """A module that is imported twice registers its backends twice, and the second counts."""
    first = registry.register_backend(f"file://{tmp_path}", key="a")
    second = registry.register_backend(f"file://{tmp_path}", key="a")
    assert registry.get_backend("a") is second is not first
    registry.register_backend(second)


def test_another_place_is_not_taken_for_the_first(registry: Storages, tmp_path: Path) -> None:
    """Another backend under a taken key is refused, since rows name objects in the first; unless asked to replace."""
    first = registry.register_backend(memory("a"))
    other = ObstoreBackend("a", f"file://{tmp_path}")
    with pytest.raises(ConfigurationError, match="replace=True"):
        registry.register_backend(other)
    assert registry.get_backend("a") is first
    registry.register_backend(other, replace=True)
    assert registry.get_backend("a") is other


def test_the_default(registry: Storages) -> None:
    """`None` is the default, or the only backend; with several and no default it is a mistake."""
    with pytest.raises(ConfigurationError, match="set_default_backend"):
        registry.get_backend(None)
    a = registry.register_backend(memory("a"))
    assert registry.get_backend(None) is registry.get_backend() is a
    b = registry.register_backend(memory("b"))
    with pytest.raises(ConfigurationError, match="of 2"):
        registry.get_backend(None)
    registry.set_default_backend("b")
    assert registry.get_backend(None) is b
    assert registry.default_backend == "b"
    with pytest.raises(BackendNotRegistered):
        registry.set_default_backend("c")
    registry.unregister_backend("b")
    assert registry.default_backend is None
    assert registry.get_backend(None) is a


def test_unregistering(registry: Storages) -> None:
    """A backend that is unregistered is not found any more; one that never was is an error."""
    registry.register_backend(memory("a"))
    registry.register_backend(memory("b"))
    assert registry.registered_backends() == ["a", "b"]
    registry.unregister_backend("a")
    assert registry.registered_backends() == ["b"]
    with pytest.raises(BackendNotRegistered):
        registry.get_backend("a")
    with pytest.raises(BackendNotRegistered):
        registry.unregister_backend("a")


def test_clearing(registry: Storages) -> None:
    """After clearing nothing is known, and every key is free again."""
    registry.register_backend(memory("a"))
    registry.alias("old", "a")
    registry.set_default_backend("a")
    registry.clear_backends()
    assert registry.registered_backends() == []
    assert registry.default_backend is None
    assert not registry.is_registered("old")
    registry.register_backend(memory("old"))


def test_an_alias_leads_to_a_backend(registry: Storages) -> None:
    """Rows that name an old key find the new backend, over several renamings, in whatever order they were told."""
    registry.alias("oldest", "old")
    registry.alias("old", "new")
    assert not registry.is_registered("oldest")
    with pytest.raises(BackendNotRegistered, match="'oldest'"):
        registry.get_backend("oldest")
    backend = registry.register_backend(memory("new"))
    assert registry.get_backend("oldest") is registry.get_backend("old") is backend
    assert registry.is_registered("oldest")
    assert registry.registered_backends() == ["new"]
    registry.set_default_backend("oldest")
    assert registry.get_backend(None) is backend
    registry.unregister_backend("old")
    assert not registry.is_registered("oldest")


def test_aliases_go_round_in_no_circle(registry: Storages) -> None:
    """An alias that would lead to itself is refused."""
    registry.alias("a", "b")
    registry.alias("b", "c")
    for old, new in (("c", "a"), ("c", "b"), ("c", "c"), ("x", "x")):
        with pytest.raises(ConfigurationError, match="circle"):
            registry.alias(old, new)


def test_a_key_is_a_backend_or_an_alias(registry: Storages) -> None:
    """A backend does not hide behind an alias of its name, nor the other way round."""
    registry.register_backend(memory("a"))
    registry.alias("old", "a")
    with pytest.raises(ConfigurationError, match="alias of 'a'"):
        registry.register_backend(memory("old"))
    with pytest.raises(ConfigurationError, match="unregister"):
        registry.alias("a", "b")


def test_registries_are_apart(registry: Storages, default_registry: Storages) -> None:
    """A registry knows what was registered with it, and nothing else."""
    default_registry.register_backend("memory://", key="scratch")
    assert not registry.is_registered("scratch")
    assert default_registry.get_backend().key == "scratch"


def test_it_cannot_be_pickled(registry: Storages) -> None:
    """A registry refuses to travel and says so."""
    with pytest.raises(NotSupported):
        pickle.dumps(registry)


def test_many_threads_register_at_once(registry: Storages) -> None:
    """Of many backends that want one key at once, one gets it, and each other key is kept."""

    def register(number: int) -> bool:
        registry.register_backend(memory(f"own-{number}"))
        try:
            registry.register_backend(memory("shared"))
        except ConfigurationError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(register, range(64))) == 1
    assert len(registry.registered_backends()) == 65


def test_it_holds_a_signer(registry: Storages) -> None:
    """A web integration leaves its signer with the registry, and clearing the backends leaves it there."""
    signer = UrlSigner(Tokens("0123456789abcdef"))
    assert registry.signer is None
    registry.signer = signer
    registry.clear_backends()
    assert registry.signer is signer


def test_what_it_shows(registry: Storages) -> None:
    """`repr` names the keys and nothing of what is behind them."""
    registry.register_backend(memory("a"))
    assert repr(registry) == "<Storages: a>"


def test_concurrency_is_bounded_from_below() -> None:
    """A registry that could store nothing at a time is refused when it is made."""
    assert Storages(concurrency=1).concurrency == 1
    with pytest.raises(ConfigurationError, match="at least 1"):
        Storages(concurrency=0)


class TestStandingIn:
    def test_everyone_is_asked_for(self) -> None:
        """Whoever asks for a backend gets what stands in, which is told the key behind an alias and what is there."""
        registry, real, other = Storages(), memory("real"), memory("other")
        registry.register_backend(real)
        registry.alias("old", "real")
        asked: list[tuple[str, StorageBackend | None]] = []

        def stand_in(key: str, backend: StorageBackend | None) -> StorageBackend:
            asked.append((key, backend))
            return other

        with registry.standing_in(stand_in):
            for key in ("real", "old", None, real, "none"):
                assert registry.get_backend(key) is other
        assert asked == [*[("real", real)] * 4, ("none", None)]
        assert registry.get_backend("old") is real

    def test_changes_are_undone(self) -> None:
        """What is registered, removed and set meanwhile is undone afterwards, and the outer of two stands in again."""
        registry, real = Storages(), memory("real")
        registry.register_backend(real)
        outer, inner = memory("outer"), memory("inner")
        with registry.standing_in(lambda key, backend: outer):
            with pytest.raises(ZeroDivisionError), registry.standing_in(lambda key, backend: inner):
                registry.unregister_backend("real")
                registry.register_backend("memory://", key="new")
                registry.alias("old", "real")
                registry.signer = UrlSigner(Tokens("0123456789abcdef"))
                registry.set_default_backend("new")
                assert registry.get_backend("real") is inner
                raise ZeroDivisionError
            assert registry.get_backend("real") is outer
            assert (registry.registered_backends(), registry.default_backend, registry.signer) == (["real"], None, None)
            assert not registry.is_registered("old")
        assert registry.get_backend() is real
