"""What crash tests put in the place of an application's stores and of its database: the same, but each step a point."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from sqlalchemy import Engine, event
from sqlalchemy.orm import Session

from lading.backends.obstore import ObstoreBackend
from lading.backends.protocols import Attributes, Body, Copies, Driver, ObjectInfo, Stages, Stored
from lading.testing.places import Place
from lading.testing.points import AFTER, BEFORE, ERROR, FailedOnCue, Points
from lading.worlds import World

T = TypeVar("T")


class CountedBackend(ObstoreBackend):
    """A backend on local disk where every call is a point before and a point after it, and a stream one in its middle.

    Args:
        root: of the directories of all backends.
        points: what counts.
        place: what it takes the place of.
    """

    def __init__(self, root: Path, points: Points, place: Place) -> None:
        super().__init__(place.key, (root / place.directory).as_uri(), **place.options)
        self._points = points
        self._drivers: dict[World, _Driver] = {}

    def driver(self, world: World) -> Driver:
        """The verbs for that world."""
        if world not in self._drivers:
            self._drivers[world] = _Driver(super().driver(world), self.key, self._points)
        return self._drivers[world]


class _Driver:
    """Has the capabilities of a driver for local disk."""

    def __init__(self, inner: Driver, key: str, points: Points) -> None:
        self._inner = inner
        self._key = key
        self._points = points

    async def put(self, path: str, body: Body, *, size: int | None, overwrite: bool, attributes: Attributes) -> Stored:
        if isinstance(body, AsyncIterator):
            body = self._stream("put", path, body)
        put = self._inner.put(path, body, size=size, overwrite=overwrite, attributes=attributes)
        return await self._do("put", path, put)

    async def get(self, path: str) -> bytes:
        return await self._do("get", path, self._inner.get(path))

    async def read(self, path: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        self._pass("read", path, "before")
        async with aclosing(self._stream("read", path, self._inner.read(path, start, stop))) as chunks:
            async for chunk in chunks:
                yield chunk
        self._pass("read", path, "after")

    async def head(self, path: str) -> ObjectInfo:
        return await self._do("head", path, self._inner.head(path))

    async def delete(self, paths: Sequence[str]) -> None:
        await self._do("delete", ", ".join(map(_short, paths)), self._inner.delete(paths))

    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectInfo, None]:
        self._pass("list", prefix, "before")
        async for info in self._stream("list", prefix, self._inner.list(prefix)):
            yield info

    async def copy(self, source: str, target: str, *, overwrite: bool = False) -> None:
        copy = cast("Copies", self._inner).copy(source, target, overwrite=overwrite)
        await self._do("copy", f"{_short(source)} to {_short(target)}", copy)

    def staged(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        return cast("Stages", self._inner).staged(prefix)

    async def discard(self, paths: Sequence[str]) -> None:
        await self._do("discard", ", ".join(paths), cast("Stages", self._inner).discard(paths))

    async def _do(self, verb: str, path: str, work: Coroutine[Any, Any, T]) -> T:
        try:
            self._pass(verb, path, "before")
            result = await work
            self._pass(verb, path, "after")
        finally:
            work.close()
        return result

    async def _stream(self, verb: str, path: str, items: AsyncIterator[T]) -> AsyncGenerator[T, None]:
        """One that may break when something of it has come through."""
        first = True
        try:
            async for item in items:
                yield item
                if first:
                    self._pass(verb, path, "in the middle")
                first = False
        finally:
            close = getattr(items, "aclose", None)
            if close is not None:
                await close()

    def _pass(self, verb: str, path: str, when: str) -> None:
        failures = AFTER if when == "after" else BEFORE
        self._points.store(f"{verb} {_short(path)} ({when})", failures, self._key, path)


def _short(path: str) -> str:
    """A path as people can bear to read it."""
    return path if len(path) <= 24 else f"{path[:10]}..{path[-10:]}"


def count_engine(engine: Engine, points: Points) -> None:
    """Make every statement, COMMIT and ROLLBACK of an engine a point before and a point after it.

    Before a statement the database refuses it; after it the connection breaks. A COMMIT may be refused, may get lost on
    its way, and its answer may get lost: then the database has committed.
    """
    _Counted(engine, points)


class _Counted:
    def __init__(self, engine: Engine, points: Points) -> None:
        self._dialect = cast("Any", engine.dialect)
        self._points = points
        for name in ("do_execute", "do_executemany", "do_execute_no_params"):
            event.listen(engine, name, self._executing(getattr(engine.dialect, name)))
        for name in ("do_commit", "do_commit_twophase", "do_prepare_twophase", "do_rollback", "do_rollback_twophase"):
            setattr(engine.dialect, name, self._ending(name, getattr(engine.dialect, name)))
        self._dialect.is_disconnect = partial(_is_disconnect, self._dialect.is_disconnect)

    def _executing(self, execute: Callable[..., None]) -> Callable[..., bool]:
        points = self._points

        def executing(cursor: Any, statement: str, *rest: Any) -> bool:
            if not points.is_armed:
                return False
            label = _one_line(statement)
            points.pass_by(f"{label} (before)", BEFORE, lambda: self._refused(cursor))
            execute(cursor, statement, *rest)
            try:
                points.pass_by(f"{label} (after)", AFTER, self._lost)
            except BaseException:
                # A broken connection has no cursors; SQLite would keep its locks for one that is not closed.
                cursor.close()
                raise
            return True

        return executing

    def _ending(self, name: str, end: Callable[..., None]) -> Callable[..., None]:
        verb, points = name.removeprefix("do_").replace("_twophase", " of two phases").upper(), self._points
        is_commit = name.startswith("do_commit")

        def ending(connection: Any, *args: Any, **options: Any) -> None:
            refuse = (lambda: self._not_committed(connection)) if is_commit else self._lost
            points.pass_by(f"{verb} (before)", BEFORE, refuse)
            if is_commit:
                points.pass_by(f"{verb} (request lost)", ERROR, self._lost)
            end(connection, *args, **options)
            points.pass_by(f"{verb} (answer lost)", AFTER, self._lost)

        return ending

    def _refused(self, cursor: Any = None) -> BaseException:
        """The error of a database that does not do what it was asked; PostgreSQL gives the transaction up, for real."""
        if cursor is not None and self._dialect.name == "postgresql":
            try:
                cursor.execute("SELECT refused_on_cue")
            except self._dialect.loaded_dbapi.Error as error:
                return error  # type: ignore[no-any-return]  # of whichever driver
        return self._error(1205, "refused, on cue")

    def _not_committed(self, connection: Any) -> BaseException:
        """The error of a COMMIT that is refused, with which the transaction is over.

        On SQLite it would go on, and SQLAlchemy would pool the connection with it, also where no file is touched.
        """
        connection.rollback()
        return self._error(1205, "COMMIT refused, on cue")

    def _lost(self) -> BaseException:
        """The error of a connection that breaks."""
        error: Any = self._error(2013, "lost connection, on cue")
        error.lading_on_cue = True
        return error  # type: ignore[no-any-return]  # of whichever driver

    def _error(self, number: int, message: str) -> BaseException:
        kind: Callable[..., BaseException] = self._dialect.loaded_dbapi.OperationalError
        return kind(number, message) if self._dialect.name in ("mysql", "mariadb") else kind(message)


def _is_disconnect(asked: Callable[..., bool], error: object, *rest: Any) -> bool:
    return getattr(error, "lading_on_cue", False) or asked(error, *rest)


def _one_line(statement: str) -> str:
    line = " ".join(statement.split())
    return line if len(line) <= 60 else f"{line[:58]}.."


class CountedFlushes:
    """Makes every flush of every session a point before and a point after it, where a listener may raise."""

    def __init__(self, points: Points) -> None:
        self._points = points

    def __enter__(self) -> None:
        event.listen(Session, "before_flush", self._before)
        event.listen(Session, "after_flush", self._after)

    def __exit__(self, *_: object) -> None:
        event.remove(Session, "before_flush", self._before)
        event.remove(Session, "after_flush", self._after)

    def _before(self, *_: object) -> None:
        self._points.pass_by("flush (before)", BEFORE, lambda: FailedOnCue("before a flush"))

    def _after(self, *_: object) -> None:
        self._points.pass_by("flush (after)", AFTER, lambda: FailedOnCue("after a flush"))
