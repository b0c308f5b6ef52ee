"""`lading`: an operator's commands, over the `Sweeper` of an application; with `pip install 'lading[cli]'`."""

import asyncio
import re
import shlex
import sys
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import msgspec
from msgspec.structs import asdict
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from lading.errors import ConfigurationError, LadingError, MissingDependency
from lading.orm.findings import Finding, Leftover, Orphan
from lading.orm.outbox import Outbox
from lading.orm.waiting import failing, waiting
from lading.sweeper import Sweeper

try:
    import click
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
except ImportError as error:
    raise MissingDependency("click or rich", "cli") from error

P = ParamSpec("P")
T = TypeVar("T")

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Interrupted(click.ClickException):
    """Ctrl-C; the message says what to do about the rest."""

    exit_code = 130  # as shells have it for what SIGINT has ended

    def show(self, file: Any = None) -> None:
        click.echo(f"Interrupted: {self.message}", file=file, err=True)


class Commands(click.Group):
    """Commands whose errors are a line each."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted("what was done holds; run it again for the rest") from None
        except ConfigurationError as error:
            raise click.UsageError(_plain(error)) from error
        except (LadingError, SQLAlchemyError) as error:
            raise click.ClickException(f"{type(error).__name__}: {_plain(error)}") from error


def duration(context: click.Context, parameter: click.Parameter, value: str) -> timedelta:
    match = re.fullmatch(r"([0-9]{1,6})([smhdw])", value)
    if match is None:
        raise click.BadParameter(f"{value!r} is no duration such as 90s, 15m, 24h, 7d or 2w")
    return timedelta(**{UNITS[match[2]]: int(match[1])})


in_json = click.option("--json", "as_json", is_flag=True, help="Print a JSON object a line.")
most = click.option(
    "--limit", type=click.IntRange(min=1), default=10_000, show_default=True, help="Stop after so many findings."
)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--app",
    envvar="LADING_APP",
    metavar="MODULE:NAME",
    help="The application's Sweeper, or a function that returns it; by default $LADING_APP.",
)
@click.version_option(package_name="lading")
@click.pass_context
def main(context: click.Context, app: str | None) -> None:
    """Look after the files that rows own.

    Exit status: 0 all is well; 1 something was found that needs you, or failed; 2 wrong usage; 130 interrupted.
    """
    context.obj = app


@main.command()
@click.option("--limit", type=click.IntRange(min=1), help="Take on so many objects at most.")
@in_json
@click.pass_obj
def drain(app: str | None, limit: int | None, as_json: bool) -> None:
    """Delete what is due in the outbox.

    What a row names again is kept, and taken off the outbox.
    """
    sweeper = _load(app)
    with _progress("objects drained") as progress:
        done = _run(sweeper, sweeper.drain, sweeper.drain_async, limit=limit, on_progress=progress)
    text = f"{done.deleted} deleted, {done.kept} kept that rows name, {done.failed} failed"
    text += f"; {done.left} are due still" if done.left else ""
    _sum_up(asdict(done), text, as_json)
    sys.exit(1 if done.failed else 0)


@main.command()
@click.option("--limit", type=click.IntRange(min=0), default=20, show_default=True, help="Show so many that fail.")
@in_json
@click.pass_obj
def outbox(app: str | None, limit: int, as_json: bool) -> None:
    """Tell what waits in the outbox, and what fails."""
    sweeper = _load(app)
    box = Outbox.of(sweeper.metadata)
    if box is None:
        raise ConfigurationError("these tables have no outbox")
    backends, failures = _ask(sweeper, lambda connection: (waiting(connection, box), failing(connection, box, limit)))
    summary = {name: sum(getattr(each, name) for each in backends) for name in ("objects", "due", "failing", "uploads")}
    text = "{objects} wait, of these {due} are due, {failing} fail and {uploads} may be attached".format(**summary)
    _tell([*backends, *failures], as_json)
    _sum_up(summary, text, as_json)
    sys.exit(1 if summary["failing"] else 0)


@main.command()
@in_json
@click.pass_obj
def reclaim(app: str | None, as_json: bool) -> None:
    """Take off the outbox what rows name again.

    For after a restore, before the sweepers are started again.
    """
    sweeper = _load(app)
    with _progress("entries looked at") as progress:
        done = _run(sweeper, sweeper.reclaim, sweeper.reclaim_async, on_progress=progress)
    text = f"{done.reclaimed} reclaimed, {len(done.missing)} are gone already"
    text += f"; {done.left} may be being deleted: run it again in a while" if done.left else ""
    _tell(done.missing, as_json)
    _sum_up(asdict(done), text, as_json)
    sys.exit(1 if done.missing or done.left else 0)


@main.command()
@click.option("--backend", metavar="KEY", help="The backend to list; by default the only one that columns name.")
@click.option("--prefix", default="", metavar="PREFIX", help="Only what lies below: whole segments, such as 2026/01.")
@click.option(
    "--grace", metavar="TIME", default="24h", show_default=True, callback=duration, help="Leave alone what is younger."
)
@click.option("--delete", is_flag=True, help="Put orphans into the outbox; where there is none, delete them.")
@most
@click.option("--after", default="", metavar="PATH", help="Go on after this path, as an earlier run said.")
@in_json
@click.pass_obj
def orphans(app: str | None, /, as_json: bool, **options: Any) -> None:
    """Compare a store with the rows.

    Finds objects that no row names, and rows whose object is missing or another. Deletes nothing without --delete.
    """
    sweeper = _load(app)
    delete: bool = options["delete"]
    after: str = options["after"]

    def tell(findings: Sequence[Finding], reached: str) -> None:
        nonlocal after
        _tell(findings, as_json)
        after = reached

    try:
        with _progress("objects listed") as progress:
            verbs = sweeper.orphans, sweeper.orphans_async
            done = _run(sweeper, *verbs, on_progress=progress, on_findings=tell, **options)
    except KeyboardInterrupt:
        raise Interrupted(f"go on with --after {shlex.quote(after)}" if after else "begin again") from None
    text = f"{len(done.findings)} found among {done.objects} objects and {done.rows} files of rows; "
    text += f"{done.waiting} more wait in the outbox"
    dealt_with = [each for each in done.findings if isinstance(each, Orphan | Leftover)]
    if dealt_with:
        text += f"\n{len(dealt_with)} dealt with" if delete else "\nnothing was deleted: that takes --delete"
    if done.after is not None:
        text += f"\nthere may be more: go on with --after {shlex.quote(done.after)}"
    _sum_up(asdict(done), text, as_json)
    sys.exit(1 if len(done.findings) > (len(dealt_with) if delete else 0) else 0)


@main.command()
@click.option("--deep", is_flag=True, help="Read every object and compute its checksum.")
@most
@in_json
@click.pass_obj
def check(app: str | None, deep: bool, limit: int, as_json: bool) -> None:
    """Look at the object of every row.

    Finds those that are missing, of another size or etag, or with --deep of another checksum.
    """
    sweeper = _load(app)
    with _progress("rows checked") as progress:
        done = _run(sweeper, sweeper.check, sweeper.check_async, deep=deep, limit=limit, on_progress=progress)
    text = f"{len(done.findings)} found among {done.files} files of {done.rows} rows"
    if done.after is not None:
        text += "; there may be more: that takes a higher --limit"
    _tell(done.findings, as_json)
    _sum_up(asdict(done), text, as_json)
    sys.exit(1 if done.findings else 0)


def _load(app: str | None) -> Sweeper:
    """The sweeper that `--app` names."""
    module, _, name = (app or "").partition(":")
    if not module or not name:
        raise click.UsageError("name the application's sweeper: --app package.module:sweeper, or LADING_APP")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # what the application misses, its traceback shows best
        raise click.UsageError(f"there is no module {error.name!r} here, nor where Python looks") from error
    try:
        found = getattr(found, name)
    except AttributeError as error:
        raise click.UsageError(f"the module {module!r} has no {name!r}") from error
    sweeper = found() if callable(found) else found
    if not isinstance(sweeper, Sweeper):
        raise click.UsageError(
            f"{app} is {type(sweeper).__name__}, and neither a Sweeper nor a function that returns one"
        )
    return sweeper


def _run(
    sweeper: Sweeper,
    verb: Callable[P, T],
    twin: Callable[P, Coroutine[Any, Any, T]],
    *args: P.args,
    **options: P.kwargs,
) -> T:
    """Do it in the world of the sweeper's engine, and close its connections."""
    engine = sweeper.engine
    if isinstance(engine, AsyncEngine):
        return asyncio.run(_closing(engine, twin(*args, **options)))
    try:
        return verb(*args, **options)
    finally:
        engine.dispose()


def _ask(sweeper: Sweeper, question: Callable[[Connection], T]) -> T:
    """What its database answers."""

    def ask() -> T:
        assert isinstance(sweeper.engine, Engine)
        with sweeper.engine.connect() as connection:
            return question(connection)

    async def ask_async() -> T:
        assert isinstance(sweeper.engine, AsyncEngine)
        async with sweeper.engine.connect() as connection:
            return await connection.run_sync(question)

    return _run(sweeper, ask, ask_async)


async def _closing(engine: AsyncEngine, work: Coroutine[Any, Any, T]) -> T:
    try:
        return await work
    finally:
        await engine.dispose()  # while there is a loop to do it


@contextmanager
def _progress(what: str) -> Generator[Callable[[int], None], None, None]:
    """Takes the number of things done so far, and shows it on stderr, where that is a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done: None
        return
    columns = (SpinnerColumn(), TextColumn("{task.completed:,} {task.description}"), TimeElapsedColumn())
    # What is found is written above it on a terminal, and past it into a file.
    above = sys.stdout.isatty()
    with Progress(*columns, console=console, transient=True, redirect_stdout=above, redirect_stderr=False) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done: progress.update(task, completed=done)


def _tell(findings: Sequence[msgspec.Struct], as_json: bool) -> None:
    """A line for each."""
    for finding in findings:
        kind, members = type(finding).__name__.lower(), asdict(finding)
        if as_json:
            _write_json(kind, members)
        else:
            said = (f"{name}={_shown(value)}" for name, value in members.items() if value is not None)
            _print(" ".join([kind, *said]))


def _sum_up(outcome: Mapping[str, object], text: str, as_json: bool) -> None:
    """What there is to say of all, as the last line; what had lines of its own is left out."""
    if as_json:
        _write_json("summary", {name: value for name, value in outcome.items() if not isinstance(value, list)})
    else:
        _print(text)


def _write_json(kind: str, members: Mapping[str, object]) -> None:
    # A primary key may be of any type.
    _print(msgspec.json.encode({"kind": kind, **members}, enc_hook=str).decode())


def _print(line: str) -> None:
    # `click.echo` would write past rich, into the line of the progress.
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _shown(value: object) -> str:
    if isinstance(value, float):  # only times are
        value = datetime.fromtimestamp(value, UTC)
    return value.isoformat(timespec="seconds") if isinstance(value, datetime) else _plain(value)


def _plain(value: object) -> str:
    """A value in one line, without what a terminal would obey: paths and errors come from elsewhere."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value).strip())
