"""`lading`, the command: on an application's module, with a sync and with an async engine."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import insert, update

from lading import FileObject
from lading.cli import main

MODULE = """
from datetime import timedelta
from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from lading import FileObject, Storages, StoredObject
from lading.orm.outbox import Outbox
from lading.sweeper import Sweeper

here = Path(__file__).parent
storages = Storages()
storages.register_backend((here / "files").as_uri(), key="files")


class Base(DeclarativeBase): ...


class Document(Base):
    __tablename__ = "document"
    id: Mapped[int] = mapped_column(primary_key=True)
    file: Mapped[FileObject | None] = mapped_column(StoredObject("files", storages=storages))


outbox = Outbox(Base.metadata, grace=timedelta(0))
url = f"sqlite:///{here / 'shop.sqlite'}"
engine = create_engine(url)
sweeper = Sweeper(engine, Base.metadata)


def made() -> Sweeper:
    return Sweeper(create_async_engine(url.replace("sqlite:", "sqlite+aiosqlite:")), Base.metadata)


class Other:
    pass


other = Other()
"""


class App:
    """The application of a test, and its command line."""

    def __init__(self, module: Any, name: str, folder: Path) -> None:
        self.module = module
        self.name = name
        self.files = folder / "files"

    def __call__(self, *args: str) -> Result:
        return CliRunner().invoke(main, ["--app", f"{self.module.__name__}:{self.name}", *args])

    def lines(self, *args: str) -> tuple[int, list[dict[str, Any]]]:
        """The exit status, and what it prints as JSON."""
        result = self(*args, "--json")
        return result.exit_code, [json.loads(line) for line in result.stdout.splitlines()]

    def save(self, path: str, content: bytes = b"content") -> FileObject:
        return FileObject("files", to_filename=path, content=content, storages=self.module.storages).save()

    def put(self, path: str, content: bytes = b"content", *, age: timedelta = timedelta(days=2)) -> None:
        """An object of some age that no row names."""
        self.save(path, content)
        then = (datetime.now(UTC) - age).timestamp()
        os.utime(self.files / path, (then, then))

    def put_row(self, path: str) -> Path:
        """An object, and a row that names it; where it lies."""
        file = self.save(path)
        with self.module.engine.begin() as connection:
            connection.execute(insert(self.module.Document).values(file=file))
        return self.files / path

    def enter(self, *paths: str, delay: timedelta = timedelta(0)) -> None:
        with self.module.engine.begin() as connection:
            self.module.outbox.add(connection, [("files", path) for path in paths], "test", delay=delay)

    def fail(self, path: str, error: str, attempts: int = 1) -> None:
        """An entry that was tried and failed."""
        self.enter(path)
        table = self.module.outbox.table
        with self.module.engine.begin() as connection:
            values = {"attempts": attempts, "last_error": error, "not_before": datetime.now(UTC) + timedelta(hours=1)}
            connection.execute(update(table).where(table.c.path == path).values(values))

    def stored(self) -> set[str]:
        return {str(path.relative_to(self.files)) for path in self.files.rglob("*") if path.is_file()}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory of the shell, with the application's module in it."""
    (tmp_path / "shop.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delenv("LADING_APP", raising=False)
    yield tmp_path
    sys.modules.pop("shop", None)


@pytest.fixture(params=["sweeper", "made"], ids=["sync", "async"])
def app(request: pytest.FixtureRequest, folder: Path) -> Iterator[App]:
    sys.path.insert(0, str(folder))
    module = import_module("shop")
    module.Base.metadata.create_all(module.engine)
    yield App(module, request.param, folder)
    module.engine.dispose()


# drain and outbox


def test_drain(app: App) -> None:
    """`drain` deletes what is due and named by no row, says so, and ends with 0."""
    app.put("gone.txt")
    app.put_row("named.txt")
    app.put("later.txt")
    app.enter("gone.txt", "named.txt")
    app.enter("later.txt", delay=timedelta(days=1))
    result = app("drain")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "1 deleted, 1 kept that rows name, 0 failed\n"
    assert app.stored() == {"named.txt", "later.txt"}


def test_drain_in_part(app: App) -> None:
    """`--limit` bounds what one run takes on."""
    app.enter("a.txt", "b.txt", "c.txt")
    assert app.lines("drain", "--limit", "2")[1][-1]["deleted"] == 2
    assert app.lines("drain")[1][-1]["deleted"] == 1


def test_drain_that_fails(app: App) -> None:
    """What cannot be deleted is a reason for status 1; `outbox` then shows it, and why."""
    (app.files / "taken.txt").mkdir()  # a directory in the place of the object
    app.enter("taken.txt")
    status, lines = app.lines("drain")
    assert (status, lines[-1]["failed"]) == (1, 1)
    status, lines = app.lines("outbox")
    assert status == 1
    (entry,) = [line for line in lines if line["kind"] == "failing"]
    assert (entry["path"], entry["attempts"]) == ("taken.txt", 1)
    assert entry["last_error"]


def test_outbox(app: App) -> None:
    """`outbox` counts what waits by backend, and shows what fails, at most `--limit` of it."""
    app.enter("now.txt")
    app.enter("later.txt", delay=timedelta(days=1))
    app.fail("a.txt", "no")
    app.fail("b.txt", "never", attempts=3)
    status, lines = app.lines("outbox", "--limit", "1")
    assert status == 1
    (waiting,), (failing,) = ([line for line in lines if line["kind"] == kind] for kind in ("waiting", "failing"))
    assert (waiting["backend"], waiting["objects"], waiting["due"], waiting["failing"]) == ("files", 4, 1, 2)
    assert datetime.now(UTC) - datetime.fromisoformat(waiting["oldest"]) < timedelta(minutes=1)
    assert (failing["path"], failing["attempts"], failing["last_error"]) == ("b.txt", 3, "never")
    assert lines[-1] == {"kind": "summary", "objects": 4, "due": 1, "failing": 2, "uploads": 0}


def test_outbox_that_is_empty(app: App) -> None:
    """An empty outbox is fine."""
    result = app("outbox")
    assert (result.exit_code, result.stdout) == (0, "0 wait, of these 0 are due, 0 fail and 0 may be attached\n")


def test_what_a_terminal_would_obey(app: App) -> None:
    """Control characters in what others have named are shown, not sent to the terminal."""
    app.fail("a.txt", "line\nline \x1b[2J")
    shown = app("outbox").stdout
    assert "last_error=line\\nline \\x1b[2J" in shown
    assert "\x1b" not in shown


# reclaim, orphans, check


def test_reclaim(app: App) -> None:
    """`reclaim` takes off the outbox what rows name again."""
    app.put_row("restored.txt")
    app.enter("restored.txt", "gone.txt", delay=timedelta(days=1))
    result = app("reclaim")
    assert (result.exit_code, result.stdout) == (0, "1 reclaimed, 0 are gone already\n")
    assert app.lines("outbox")[1][-1]["objects"] == 1


def test_orphans_are_only_told(app: App) -> None:
    """Without `--delete` `orphans` says what it found, that nothing was deleted, and how to delete."""
    app.put("stray.txt", b"12345")
    app.put_row("named.txt")
    result = app("orphans")
    assert result.exit_code == 1
    assert "orphan backend=files path=stray.txt size=5 last_modified=20" in result.stdout
    assert "1 found among 2 objects and 1 files of rows" in result.stdout
    assert "nothing was deleted: that takes --delete" in result.stdout
    assert app.lines("outbox")[1][-1]["objects"] == 0


def test_orphans_are_deleted(app: App) -> None:
    """`--delete` puts them into the outbox, which is no reason for status 1, and `drain` deletes them."""
    app.put("stray.txt")
    app.put_row("named.txt")
    assert app("orphans", "--delete").exit_code == 0
    assert app.stored() == {"stray.txt", "named.txt"}
    assert app("drain").exit_code == 0
    assert app.stored() == {"named.txt"}


def test_what_orphans_cannot_mend(app: App) -> None:
    """Rows without their object are a reason for status 1 with `--delete`, too."""
    app.put_row("named.txt").unlink()
    status, lines = app.lines("orphans", "--delete")
    assert (status, lines[0]["kind"], lines[0]["table"]) == (1, "missing", "document")


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ((), ["a/1.txt", "a/2.txt", "b/1.txt"]),
        (("--prefix", "a"), ["a/1.txt", "a/2.txt"]),
        (("--after", "a/1.txt"), ["a/2.txt", "b/1.txt"]),
        (("--backend", "files", "--limit", "1"), ["a/1.txt"]),
        (("--grace", "1h"), ["a/1.txt", "a/2.txt", "b/1.txt", "young.txt"]),
        (("--grace", "7d"), []),
    ],
)
def test_options_of_orphans(app: App, options: Sequence[str], found: list[str]) -> None:
    """A prefix, a place to go on from, a limit and a grace choose what is found."""
    for path in ("a/1.txt", "a/2.txt", "b/1.txt"):
        app.put(path)
    app.put("young.txt", age=timedelta(hours=2))
    _, lines = app.lines("orphans", *options)
    assert [line["path"] for line in lines[:-1]] == found
    assert lines[-1]["kind"] == "summary"


def test_orphans_go_on(app: App) -> None:
    """A run that came to its limit says how to go on, and the next one finds the rest."""
    for path in ("a b.txt", "c.txt"):
        app.put(path)
    result = app("orphans", "--limit", "1")
    assert "go on with --after 'a b.txt'" in result.stdout
    assert [line.get("path") for line in app.lines("orphans", "--after", "a b.txt")[1]] == ["c.txt", None]


def test_check(app: App) -> None:
    """`check` says which rows have lost their object, and ends with 1; a damaged one takes `--deep`."""
    app.put_row("well.txt")
    assert app("check", "--deep").exit_code == 0
    app.put_row("lost.txt").unlink()
    damaged = app.put_row("damaged.txt")
    before = damaged.stat()
    damaged.write_bytes(b"CONTENT")  # in place, of the same size and time: of the same etag
    os.utime(damaged, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert [line.get("what") for line in app.lines("check")[1]] == ["missing", None]
    status, lines = app.lines("check", "--deep")
    assert status == 1
    assert [(line["path"], line["what"]) for line in lines[:-1]] == [
        ("lost.txt", "missing"),
        ("damaged.txt", "checksum"),
    ]
    assert (lines[-1]["rows"], lines[-1]["files"]) == (3, 3)


# what is wrong


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (None, "--app package.module:sweeper, or LADING_APP"),
        ("shop", "--app package.module:sweeper, or LADING_APP"),
        ("shopping:sweeper", "there is no module 'shopping'"),
        ("shop.files:sweeper", "there is no module 'shop.files'"),
        ("shop:nothing", "has no 'nothing'"),
        ("shop:other", "shop:other is Other"),
        ("shop:Other", "shop:Other is Other"),
    ],
)
def test_a_wrong_name(folder: Path, name: str | None, message: str) -> None:
    """A name that leads to no sweeper is wrong usage, which a line explains."""
    result = CliRunner().invoke(main, ["--app", name, "drain"] if name else ["drain"])
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


@pytest.mark.parametrize("grace", ["24", "h", "-1h", "1y", "", "1h 30m"])
def test_a_wrong_duration(app: App, grace: str) -> None:
    """A time without its unit is refused."""
    result = app("orphans", "--grace", grace)
    assert result.exit_code == 2
    assert "24h" in result.stderr


def test_an_application_that_is_put_together_wrongly(app: App) -> None:
    """An error of configuration is wrong usage, in a line."""
    result = app("orphans", "--backend", "unknown")
    assert result.exit_code == 2
    assert "unknown" in result.stderr.splitlines()[-1]


def test_a_database_that_fails(app: App) -> None:
    """An error of the database is a line, and status 1."""
    app.module.Base.metadata.drop_all(app.module.engine)
    result = app("outbox")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: OperationalError: ")
    assert "no such table" in result.stderr
    assert result.stderr.count("\n") == 1


# as a process

COMMAND = [sys.executable, "-m", "lading"]
UNBUFFERED = {**os.environ, "PYTHONUNBUFFERED": "1"}


def lading(folder: Path, *args: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        COMMAND + list(args), cwd=folder, check=False, capture_output=True, text=True, timeout=60, **options
    )


def test_a_process(folder: Path) -> None:
    """It runs as `python -m lading`, finds the application in the current directory, by the environment, too."""
    create = "import shop; shop.Base.metadata.create_all(shop.engine)"
    subprocess.run([sys.executable, "-c", create], cwd=folder, check=True, timeout=60)
    for name in ("sweeper", "made"):
        done = lading(folder, "drain", env={**os.environ, "LADING_APP": f"shop:{name}", "PYTHONWARNINGS": "default"})
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "0 deleted, 0 kept that rows name, 0 failed\n"


SLOW = """
import shop
from lading import FileObject
from shop import made, sweeper

backend = shop.storages.register_backend("memory://", key="files", replace=True)
for number in range(1100):
    FileObject("files", to_filename=f"{number:04}.txt", content=b"x", storages=shop.storages).save()
make = backend.driver


def driver(world):
    driver = make(world)
    in_order = driver.list_in_order

    async def slowly(prefix="", *, after=""):
        async for info in in_order(prefix, after=after):
            if info.path == "1050.txt":
                await world.sleep(60)
            yield info

    driver.list_in_order = slowly
    return driver


backend.driver = driver
shop.Base.metadata.create_all(shop.engine)
"""


@pytest.mark.parametrize("name", ["sweeper", "made"], ids=["sync", "async"])
def test_an_interrupted_sweep(folder: Path, name: str) -> None:
    """Ctrl-C ends it with 130 and a line that says where to go on, behind all that it has told."""
    (folder / "slow.py").write_text(SLOW)
    command = [*COMMAND, "--app", f"slow:{name}", "orphans", "--grace", "0s"]
    with subprocess.Popen(command, cwd=folder, stdout=PIPE, stderr=PIPE, text=True, env=UNBUFFERED) as child:
        assert child.stdout is not None
        told = [child.stdout.readline() for _ in range(500)]
        time.sleep(0.5)  # what it has told it has to note, too
        child.send_signal(signal.SIGINT)
        stdout, stderr = child.communicate(timeout=20)
    assert told[-1].startswith("orphan backend=files path=0499.txt ")
    assert (child.returncode, stdout, stderr) == (130, "", "Interrupted: go on with --after 0499.txt\n")


@pytest.mark.parametrize("same", [False, True], ids=["piped", "same terminal"])
def test_progress(folder: Path, same: bool) -> None:
    """How far it is shows on stderr where that is a terminal; results go to stdout alone, in lines of their own."""
    (folder / "init.py").write_text("import shop\nshop.Base.metadata.create_all(shop.engine)\nsweeper = shop.sweeper\n")
    (folder / "files").mkdir()
    (folder / "files" / "stray.txt").touch()
    command = [*COMMAND, "--app", "init:sweeper", "orphans", "--grace", "0s"]
    ours, theirs = pty.openpty()
    with open(ours, "rb", buffering=0) as screen:
        stdout = theirs if same else PIPE
        done = subprocess.run(command, cwd=folder, check=False, stdout=stdout, stderr=theirs, text=True, timeout=60)
        os.close(theirs)
        shown = screen.read(65536).decode()
    assert "objects listed" in shown
    told = shown if same else done.stdout
    lines = [line.rpartition("\x1b[2K")[2] for line in told.splitlines()]
    assert [line.split()[0] for line in lines if "stray.txt" in line] == ["orphan"]
    assert any(line.startswith("1 found among ") for line in lines)
    assert same or "stray" not in shown


def test_an_application_that_cannot_be_imported(folder: Path) -> None:
    """A fault inside the application shows with its traceback."""
    (folder / "broken.py").write_text("import shop\nimport nothing_of_that_name\n")
    done = lading(folder, "--app", "broken:sweeper", "drain")
    assert done.returncode == 1
    assert "line 2" in done.stderr
    assert "ModuleNotFoundError" in done.stderr


def test_without_its_packages(folder: Path) -> None:
    """Where click is missing, the error is the line that installs it."""
    (folder / "click.py").write_text("raise ImportError")
    done = lading(folder, "drain")
    assert done.returncode == 1
    assert done.stderr == "lading: click or rich is not installed; run: pip install 'lading[cli]'\n"


# what the documentation says


def test_the_reference_page() -> None:
    """The page of the reference shows what `--help` says."""
    page = (Path(__file__).parents[1] / "docs" / "reference" / "cli.md").read_text()
    for name in [None, *main.commands]:
        asked = CliRunner().invoke(main, [*filter(None, [name]), "--help"], prog_name="lading", terminal_width=100)
        assert f"```text\n{asked.stdout}```" in page, asked.stdout
