"""Scenarios in processes that are killed.

A server process imports the application once and forks for each run, which costs milliseconds. It is started afresh,
not forked from the tests: these have threads, which do not survive a fork.
"""

import gc
import importlib
import multiprocessing
import os
import pickle
import signal
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import MetaData
from sqlalchemy.orm import configure_mappers

from lading.errors import ConfigurationError
from lading.storages import storages
from lading.testing.counted import CountedBackend, CountedFlushes
from lading.testing.places import Layout, exchanged, registries_of
from lading.testing.points import Points
from lading.testing.scenes import Configure, Scenario, Scene


class Job(NamedTuple):
    """A scenario as another process can play it.

    Attributes:
        scenario: found there by its name.
        metadata: the module and the name by which it is found there.
        url: of the database.
        configure: sets up the engine.
        on_loop: whether the scenario is played on a loop.
        layout: what takes the place of the application's stores.
        directory: where the objects lie.
    """

    scenario: Scenario
    metadata: tuple[str, str]
    url: str
    configure: Configure | None
    on_loop: bool
    layout: Layout
    directory: Path


class Killer:
    """The server, as the tests see it: started when it is first needed, and gone with them."""

    def __init__(self) -> None:
        self._connection: Any = None

    def prepare(self, job: Job) -> None:
        """Say what is to be played.

        Raises:
            ConfigurationError: another process cannot find something of it by its name.
        """
        try:
            pickled = pickle.dumps(job)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ConfigurationError(
                f"a process that is to be killed has to find scenario, configure, rules and paths by their names: "
                f'{error}; define them in a module, or leave "kill" out of failures'
            ) from error
        if self._connection is None:
            context = multiprocessing.get_context("spawn")
            self._connection, theirs = context.Pipe()
            context.Process(target=_serve, args=(theirs,), name="lading-killer", daemon=True).start()
            theirs.close()
        self._connection.send(pickled)
        self._answer()

    def kill(self, at: int) -> bool:
        """Play it in a process that is killed at a point; whether it came there.

        Raises:
            ConfigurationError: it failed before.
        """
        self._connection.send(at)
        return bool(self._answer())

    def _answer(self) -> object:
        answer = self._connection.recv()
        if isinstance(answer, str):
            raise ConfigurationError(f"a process that was to be killed failed first:\n{answer}")
        return answer


killer = Killer()


def name_of(metadata: MetaData, scenario: Any) -> tuple[str, str]:
    """The module and the name by which another process finds these tables: something in the scenario's own module.

    Raises:
        ConfigurationError: there is nothing.
    """
    while isinstance(scenario, partial):
        scenario = scenario.func
    module = importlib.import_module(scenario.__module__)
    for name, value in vars(module).items():
        if value is metadata:
            return module.__name__, name
        if isinstance(value, type) and vars(value).get("metadata", getattr(value, "metadata", None)) is metadata:
            return module.__name__, f"{name}.metadata"
    raise ConfigurationError(
        f"a process that is to be killed has to find the metadata: import it, or a class of it, into {module.__name__}"
    )


def _serve(connection: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    job: _Prepared | None = None
    while True:
        try:
            asked = connection.recv()
        except EOFError:
            return
        try:
            if isinstance(asked, bytes):
                job = _Prepared(pickle.loads(asked))  # noqa: S301  # from the process that started this one
                gc.collect()
                gc.freeze()
                answer: object = None
            else:
                assert job is not None
                answer = _forked(partial(job.play, asked))
        except BaseException:
            answer = traceback.format_exc()
        connection.send(answer)


def _forked(work: Callable[[], None]) -> bool:
    """Do something in a fork; whether it was killed.

    Raises:
        RuntimeError: it failed.
    """
    told, telling = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os.write(telling, traceback.format_exc().encode()[-60_000:])
        finally:
            os._exit(1)
    os.close(telling)
    with open(told, "rb") as said:
        failure = said.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    if failure:
        raise RuntimeError(failure)
    return os.WIFSIGNALED(status)


class _Prepared:
    """A job with all that can be done before the fork: an engine that knows its database and has no connection."""

    def __init__(self, job: Job) -> None:
        self._job = job
        module, name = job.metadata
        self._metadata: MetaData = attrgetter(name)(importlib.import_module(module))
        self._points = Points()
        self._scene = Scene(job.url, job.configure, self._points, on_loop=job.on_loop)
        configure_mappers()
        self._scene.run(lambda: self._scene.engine.connect().close())

    def play(self, at: int) -> None:
        job = self._job
        registries = registries_of(self._metadata, storages)
        with ExitStack() as stack:
            stack.enter_context(
                exchanged(self._metadata, registries, job.layout, partial(CountedBackend, job.directory, self._points))
            )
            stack.enter_context(CountedFlushes(self._points))
            stack.enter_context(self._points.armed(at, "kill"))
            error = self._scene.run(lambda: self._scene.play(job.scenario))
        if error is not None:
            raise error
