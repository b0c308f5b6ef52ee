"""Tests of an application's stores in memory, and of looking at what lies in them."""

import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from lading import FileObject, Storages, StoredObject
from lading.backends.obstore import ObstoreBackend
from lading.backends.protocols import StorageBackend
from lading.errors import BackendNotRegistered, TooLarge
from lading.paths import as_given
from lading.rules import max_size
from lading.testing import Fault, FaultyBackend, Files, in_memory
from lading.worlds import inline, run


@pytest.fixture
def registry(tmp_path: Path) -> Storages:
    """What an application has: a real store, which is not to be touched, and another name for it."""
    registry = Storages()
    registry.register_backend(
        ObstoreBackend(
            "disk",
            tmp_path.as_uri(),
            rules=[max_size(9)],
            path=as_given,
            trust="claim",
            checksum="md5",
            chunk_size=4,
            retries=7,
        )
    )
    registry.alias("old", "disk")
    return registry


def save(registry: Storages, backend: Any = None, filename: str = "a.txt", content: bytes = b"content") -> FileObject:
    return FileObject(backend, filename, content=content, storages=registry).save()


class TestInMemory:
    def test_every_door_leads_to_memory(self, registry: Storages, tmp_path: Path) -> None:
        """By key, by alias, by default, by the backend itself and by an unknown key: the real store sees nothing."""
        real = registry.get_backend("disk")
        with in_memory(registry) as same:
            assert same is registry
            for number, door in enumerate(["disk", "old", None, real, "unknown"]):
                file = save(registry, door, f"{number}.txt")
                assert file.get_content() == b"content"
                assert file.backend.protocol == "memory"
                assert file.record.backend == ("unknown" if door == "unknown" else "disk")
            assert list(tmp_path.iterdir()) == []
            assert Files(registry).paths("disk") == ["0.txt", "1.txt", "2.txt", "3.txt"]
            assert len(Files(registry).paths("unknown")) == 1
            assert registry.get_backend("old") is registry.get_backend("disk") is registry.get_backend(real)
        assert registry.get_backend("disk") is real
        assert registry.registered_backends() == ["disk"]
        with pytest.raises(BackendNotRegistered):
            registry.get_backend("unknown")

    def test_it_asks_what_the_real_one_asks(self, registry: Storages) -> None:
        """Rules, path maker and options are those of the backend whose place is taken."""
        with in_memory(registry):
            with pytest.raises(TooLarge):
                save(registry, content=b"too much, by far")
            file = save(registry, "disk", "given.txt")
            assert file.path == "given.txt"
            assert (file.checksum or "").startswith("md5:")
            assert (file.backend.trust, file.backend.chunk_size) == ("claim", 4)
            assert getattr(file.backend, "retries", None) == 7

    def test_each_time_it_is_empty(self) -> None:
        """Also where the application's own backend is in memory, and within one another."""
        registry = Storages()
        registry.register_backend("memory://", key="mem")
        outside = save(registry)
        for _ in range(2):
            with in_memory(registry):
                assert not outside.exists()
                inside = save(registry)
                with in_memory(registry):
                    assert Files(registry).paths() == []
                    save(registry)
                assert Files(registry).paths() == [inside.path]
        assert Files(registry).paths() == [outside.path]

    def test_what_the_application_registers_meanwhile(self, registry: Storages, tmp_path: Path) -> None:
        """An application that is started by a test registers its stores, and gets memory; afterwards that is undone."""
        with in_memory(registry):
            registry.register_backend(ObstoreBackend("more", tmp_path.as_uri()))
            registry.set_default_backend("more")
            registry.alias("newer", "more")
            registry.concurrency = 1
            assert save(registry).backend.protocol == "memory"
            assert list(tmp_path.iterdir()) == []
        assert registry.registered_backends() == ["disk"]
        assert (registry.default_backend, registry.concurrency) == (None, 8)
        assert not registry.is_registered("newer")

    def test_a_faulty_backend_of_the_test(self, registry: Storages) -> None:
        """A test puts a failing backend around the one in memory, and files find it."""
        with in_memory(registry):
            faulty = FaultyBackend(registry.get_backend("disk"), [Fault("delete", times=None, error=OSError("no"))])
            registry.register_backend(faulty, replace=True)
            file = save(registry)
            with pytest.raises(OSError, match="no"):
                file.delete()
            assert faulty.verbs == ["put", "delete"]
            Files(registry).assert_only(file)
            assert faulty.verbs == ["put", "delete"]

    def test_unknown_keys_do_not_take_the_default_away(self, registry: Storages) -> None:
        """The only backend of an application is its default also when a model names others."""
        with in_memory(registry):
            save(registry, "unknown")
            assert save(registry).record.backend == "disk"

    def test_it_ends_when_the_test_fails(self, registry: Storages) -> None:
        """The real stores come back after an error, too."""
        with pytest.raises(ZeroDivisionError), in_memory(registry):
            raise ZeroDivisionError
        assert registry.get_backend("disk").protocol == "file"

    def test_models(self, registry: Storages, tmp_path: Path) -> None:
        """A column that names a backend, by key or as an object, stores in memory."""
        real: StorageBackend = registry.get_backend("disk")

        class Base(DeclarativeBase):
            pass

        class Document(Base):
            __tablename__ = "document"
            id: Mapped[int] = mapped_column(primary_key=True)
            one: Mapped[FileObject] = mapped_column(StoredObject("disk", storages=registry))
            two: Mapped[FileObject] = mapped_column(StoredObject(real, storages=registry))

        engine = create_engine("sqlite://")
        Base.metadata.create_all(engine)
        with in_memory(registry), Session(engine) as session:
            session.add(
                Document(
                    one=FileObject(filename="1.txt", content=b"1", storages=registry),
                    two=FileObject(filename="2.txt", content=b"2", storages=registry),
                )
            )
            session.commit()
            document = session.scalars(select(Document)).one()
            Files(registry).assert_only(document.one, document.two)
            session.delete(document)
            session.commit()
            Files(registry).assert_empty()
        engine.dispose()
        assert list(tmp_path.iterdir()) == []


class TestFiles:
    @pytest.fixture
    def files(self, registry: Storages) -> Files:
        registry.clear_backends()
        registry.register_backend("memory://", key="one", path=as_given)
        registry.register_backend("memory://", key="two", path=as_given)
        return Files(registry)

    def test_paths(self, registry: Storages, files: Files) -> None:
        """All paths, or those of one backend or alias, in order."""
        assert files.paths() == []
        for key, name in (("two", "c"), ("one", "b"), ("two", "a")):
            save(registry, key, name)
        assert files.paths() == ["a", "b", "c"]
        registry.alias("alias", "two")
        assert files.paths("two") == files.paths("alias") == ["a", "c"]
        with pytest.raises(BackendNotRegistered):
            files.paths("three")

    def test_only(self, registry: Storages, files: Files) -> None:
        """What is expected may be said by files or by paths, in any order."""
        one, two = save(registry, "one", "a"), save(registry, "two", "b")
        files.assert_only(two, one)
        files.assert_only("b", one)
        files.assert_only("a", "b")
        one.delete()
        files.assert_only(two)
        two.delete()
        files.assert_empty()

    def test_what_is_wrong_is_said(self, registry: Storages, files: Files) -> None:
        """The message names what is there and should not be, and what is not there, each with its backend."""
        save(registry, "one", "a")
        elsewhere = save(registry, "two", "a")
        save(registry, "two", "b")
        elsewhere.delete()
        with pytest.raises(AssertionError) as caught:
            files.assert_only(elsewhere, "z")
        assert str(caught.value) == (
            "the stores do not hold what they should:\n"
            "  not expected: 'a' in 'one', 7 bytes\n"
            "  not expected: 'b' in 'two', 7 bytes\n"
            "  not there: 'a' in 'two'\n"
            "  not there: 'z'"
        )
        with pytest.raises(AssertionError, match=re.escape("not expected: 'a' in 'one'")):
            files.assert_empty()
        with pytest.raises(AssertionError, match="not there: 'z'"):
            files.assert_only("a", "b", "z")

    async def test_in_an_async_test(self, registry: Storages, files: Files) -> None:
        """On a running loop it looks just the same."""
        file = await FileObject("one", "a", content=b"a", storages=registry).save_async()
        files.assert_only(file)


def test_a_file_that_was_pending_before(registry: Storages, tmp_path: Path) -> None:
    """A file that was made for a real backend before the test, and is stored in it, goes to memory."""
    file = FileObject(registry.get_backend("disk"), "a.txt", content=b"a", storages=registry)
    with in_memory(registry):
        file.save()
        assert run(file.backend.driver(inline).get("a.txt")) == b"a"
    assert list(tmp_path.iterdir()) == []
