"""Tests of the pytest plugin, in runs of their own, as in an application that has lading installed."""

import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

QUIET = ["-p", "no:cacheprovider", "-p", "no:asyncio", "-p", "no:xdist", "-q", "-W", "error"]


def pytest_in(directory: Path, source: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a test module with pytest, without what this repository configures."""
    (directory / "test_it.py").write_text(source)
    (directory / "pytest.ini").write_text("[pytest]\n")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV", "LADING"))
    }
    return subprocess.run(
        [sys.executable, "-m", "pytest", *QUIET, *arguments, "test_it.py"],
        check=False,
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def code_of(page: str) -> str:
    """What a page of the documentation shows, as one module."""
    text = (Path(__file__).parents[2] / "docs" / "howto" / f"{page}.md").read_text()
    return "\n".join(re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))


def test_the_entry_point() -> None:
    """The plugin is found by itself, once."""
    (found,) = [each for each in entry_points(group="pytest11") if each.name == "lading"]
    assert found.value == "_lading_pytest"


def test_it_costs_nothing_unasked(tmp_path: Path) -> None:
    """In a project that has lading installed and does not use it, pytest imports neither lading nor SQLAlchemy."""
    run = pytest_in(
        tmp_path,
        """
import sys

def test_it(pytestconfig):
    assert pytestconfig.pluginmanager.has_plugin("lading")
    assert {"lading", "sqlalchemy", "obstore"}.isdisjoint(sys.modules)
""",
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_fixtures(tmp_path: Path) -> None:
    """Each test has the default registry in memory and empty, a look at its files, and a clock that stands still."""
    run = pytest_in(
        tmp_path,
        """
import pytest

from lading import FileObject, clock, storages
from lading.backends.obstore import ObstoreBackend

storages.register_backend(ObstoreBackend("disk", "file:///nowhere/to/be/written", mkdir=False))

@pytest.mark.parametrize("number", range(2))
def test_stores(number, lading_storages, lading_files):
    assert lading_storages is storages
    lading_files.assert_empty()
    file = FileObject("disk", "a.txt", content=b"a").save()
    lading_files.assert_only(file)

def test_clock(lading_clock):
    before = clock.now()
    lading_clock.tick(60)
    assert clock.now() == before + 60

def test_without():
    assert storages.get_backend("disk").protocol == "file"
    assert clock.source is not None and type(clock.source).__name__ == "builtin_function_or_method"
""".replace("file:///nowhere/to/be/written", (tmp_path / "store").as_uri()).replace(", mkdir=False", ""),
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "4 passed" in run.stdout
    assert list((tmp_path / "store").iterdir()) == []


def test_a_registry_of_ones_own(tmp_path: Path) -> None:
    """A project that has another registry overrides one fixture, and the other follows."""
    run = pytest_in(
        tmp_path,
        """
import pytest

from lading import FileObject, Storages
from lading.testing import in_memory

mine = Storages()

@pytest.fixture
def lading_storages():
    with in_memory(mine) as registry:
        yield registry

def test_it(lading_files):
    file = FileObject("any", "a.txt", content=b"a", storages=mine).save()
    lading_files.assert_only(file)
""",
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_contract_explains_its_failures(tmp_path: Path) -> None:
    """Assertions of the contract show what they compared, as those of the project itself do."""
    run = pytest_in(
        tmp_path,
        """
import pytest

from lading.backends.obstore import ObstoreBackend
from lading.testing.backends import BackendContract

class Wrong(ObstoreBackend):
    def driver(self, world):
        driver = super().driver(world)
        return type("Driver", (type(driver),), {"get": wrong})(self, self.store, fsync=False)

async def wrong(self, path):
    return b"something else"

class TestWrong(BackendContract):
    @pytest.fixture
    def backend(self):
        return Wrong("any", "memory://")
""",
        "-k",
        "test_whole_content_comes_back",
    )
    assert run.returncode == 1
    assert "assert b'something else' == b'hello'" in run.stdout


@pytest.mark.parametrize(("page", "least"), [("testing", 3), ("writing-a-backend", 150)])
def test_what_the_documentation_shows(page: str, least: int, tmp_path: Path) -> None:
    """The tests that a page shows pass, in a project that has nothing but its code."""
    run = pytest_in(tmp_path, code_of(page))
    assert run.returncode == 0, run.stdout + run.stderr
    passed = re.search(r"^(\d+) passed in", run.stdout, re.MULTILINE)
    assert passed is not None
    assert int(passed[1]) >= least
