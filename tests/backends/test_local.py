"""What a killed process leaves on local disk: seen, told apart from objects, and discarded."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lading import worlds
from lading.backends.fsspec import FSSpecBackend
from lading.backends.local import local_place
from lading.backends.obstore import ObstoreBackend
from lading.backends.protocols import Attributes, ListsInOrder, ObjectInfo, Stages, StorageBackend
from lading.errors import InvalidPath
from lading.worlds import World, asyncio_world, inline, iterate

MiB = 2**20
BACKENDS: dict[str, type[ObstoreBackend | FSSpecBackend]] = {"obstore": ObstoreBackend, "fsspec": FSSpecBackend}
CHILD = """
import asyncio, sys, time
from lading import worlds
from lading.backends.protocols import Attributes
from tests.backends.test_local import BACKENDS

kind, root, world, overwrite = sys.argv[1:]

async def body():
    for _ in range(20):
        yield b"x" * 2**20
    print("half", flush=True)
    time.sleep(60)

async def act(world):
    driver = BACKENDS[kind]("k", root).driver(world)
    await driver.put("d/name", body(), size=None, overwrite=overwrite == "True", attributes=Attributes())

worlds.run(act(worlds.inline)) if world == "inline" else asyncio.run(act(worlds.asyncio_world))
"""


def put(backend: StorageBackend, path: str) -> None:
    worlds.run(backend.driver(inline).put(path, b"x", size=1, overwrite=False, attributes=Attributes()))


def staged(backend: StorageBackend, prefix: str = "") -> list[ObjectInfo]:
    driver = backend.driver(inline)
    assert isinstance(driver, Stages)
    return sorted(iterate(driver.staged(prefix)), key=lambda info: info.path)


@pytest.mark.parametrize("overwrite", [False, True], ids=["create", "overwrite"])
@pytest.mark.parametrize("world", [inline, asyncio_world], ids=["inline", "asyncio"])
@pytest.mark.parametrize("kind", BACKENDS)
def test_a_killed_stream(kind: str, world: World, overwrite: bool, tmp_path: Path) -> None:
    """What a process was writing when it was killed is no object, is found aside, and goes when it is discarded."""
    url = f"file://{tmp_path}/root"
    arguments = [sys.executable, "-c", CHILD, kind, url, world.name, str(overwrite)]
    child = subprocess.Popen(arguments, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert child.stdout is not None
    assert child.stdout.readline() == b"half\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    backend = BACKENDS[kind]("k", url)
    put(backend, "d/other")
    driver = backend.driver(inline)
    assert [info.path for info in iterate(driver.list())] == ["d/other"]
    (left,) = staged(backend, "d")
    assert left.size == (tmp_path / "root" / left.path).stat().st_size
    assert abs(left.last_modified - (tmp_path / "root" / left.path).stat().st_mtime) < 1
    assert staged(backend, "e") == []
    assert isinstance(driver, Stages)
    worlds.run(driver.discard([left.path, left.path]))
    assert os.listdir(tmp_path / "root/d") == ["other"]


def test_obstores_own_names(tmp_path: Path) -> None:
    """What obstore calls its files while it writes them is no name of an object to it, but may be one to fsspec."""
    names = ("a#1", "a/b#22", ".lading-0123456789abcdef", ".lading-0123456789abcdef#1")
    (tmp_path / "a").mkdir()
    for name in (*names, "#", "a#", "a#b", "a#1b", "#1", ".lading-0123456789abcdeg"):
        (tmp_path / name).write_bytes(b"x")
    url = f"file://{tmp_path}"
    assert [info.path for info in staged(ObstoreBackend("k", url))] == sorted(names)
    assert [info.path for info in staged(FSSpecBackend("k", url))] == [".lading-0123456789abcdef"]
    driver = FSSpecBackend("k", url).driver(inline)
    assert isinstance(driver, Stages)
    with pytest.raises(InvalidPath):
        worlds.run(driver.discard([".lading-0123456789abcdef", "a#1"]))
    assert len(staged(ObstoreBackend("k", url))) == 4


def test_below_a_prefix(tmp_path: Path) -> None:
    """Names are relative to the backend, also to one that lies deeper than its store."""
    (tmp_path / "p/q").mkdir(parents=True)
    for place in ("", "p/", "p/q/"):
        (tmp_path / place / ".lading-0123456789abcdef").write_bytes(b"x")
    url = f"file://{tmp_path}"
    backends: list[StorageBackend] = [ObstoreBackend("k", url, prefix="p"), FSSpecBackend("k", f"{url}/p")]
    for backend in backends:
        assert [info.path for info in staged(backend)] == [".lading-0123456789abcdef", "q/.lading-0123456789abcdef"]
        driver = backend.driver(inline)
        assert isinstance(driver, Stages)
        worlds.run(driver.discard(["q/.lading-0123456789abcdef"]))
        assert [info.path for info in staged(backend)] == [".lading-0123456789abcdef"]
        (tmp_path / "p/q/.lading-0123456789abcdef").write_bytes(b"x")


def test_who_can_what(tmp_path: Path) -> None:
    """Only a store that keeps its word lists in order, and only what writes local files aside has something aside."""
    ordered = ["memory://", "s3://b", "gs://b"]
    backends: list[StorageBackend] = [
        *(ObstoreBackend("k", url) for url in ordered),
        ObstoreBackend("k", "az://c", account_name="a"),
        ObstoreBackend("k", f"file://{tmp_path}"),
        ObstoreBackend("k", "https://h/dav"),
        FSSpecBackend("k", f"file://{tmp_path}"),
        FSSpecBackend("k", "memory://x"),
    ]
    for backend in backends:
        for world in (inline, asyncio_world):
            driver = backend.driver(world)
            in_order = isinstance(backend, ObstoreBackend) and backend.protocol in ("memory", "s3", "gs", "az")
            assert isinstance(driver, ListsInOrder) == in_order
            assert isinstance(driver, Stages) == (backend.protocol == "file")


def test_places(tmp_path: Path) -> None:
    """One place is one, whichever library, prefix or link leads there."""
    (tmp_path / "real/p").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    url = f"file://{tmp_path}"
    places = {
        ObstoreBackend("a", f"{url}/real/p").place,
        ObstoreBackend("b", f"{url}/real", prefix="p").place,
        ObstoreBackend("c", f"{url}/link/p").place,
        FSSpecBackend("d", f"{url}/link", prefix="p").place,
    }
    assert places == {local_place(f"{tmp_path}/real/p")} == {("file", f"{tmp_path}/real/p"[1:])}
    assert ObstoreBackend("a", "s3://b/p/q").place == ObstoreBackend("b", "s3://b/p/", prefix="q").place
    assert ObstoreBackend("a", "s3://b/p/q").place == ("s3 b", "p/q")
    assert FSSpecBackend("a", "s3://b/p/q", secret="x", username="x").place == ("s3 b", "p/q")
    assert ObstoreBackend("a", "gs://b").place == ("gs b", "")
    assert ObstoreBackend("a", "az://c/p", account_name="a").place == ("az c", "p")
    assert FSSpecBackend("a", "memory://p").place == ("memory of fsspec", "p")
    assert ObstoreBackend("a", "memory://").place != ObstoreBackend("a", "memory://").place
    store = ObstoreBackend("a", "memory://").store
    assert ObstoreBackend("a", store, prefix="p").place == ObstoreBackend("b", store, prefix="p").place
