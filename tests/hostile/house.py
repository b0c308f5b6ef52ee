"""What an attack must not change: rows, objects, files that are being written, and files that are open."""

import logging
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx
from litestar import Litestar
from litestar.exceptions import HTTPException
from litestar.types import Scope
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from lading import FileObject
from lading.problems import problem_of
from lading.worlds import inline, run
from tests.hostile.app import Document, Picture, make_app, outbox, storages
from tests.hostile.wire import Answer
from tests.services.web import Kind, live


@dataclass
class House:
    """The application's database and store, seen from outside.

    Attributes:
        database: a file of SQLite.
        root: the directory of the store; `None` where it is in memory.
        engine: of the database, for looking.
        troubles: what was logged from warnings on, and what was raised and is no refusal.
    """

    database: Path
    root: Path | None
    engine: Engine
    troubles: list[str] = field(default_factory=list)
    _open_before: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._open_before = self.open_files()

    def app(self, **options: Any) -> Litestar:
        return make_app(self.database, after_exception=[self._saw], **options)

    async def _saw(self, error: Exception, scope: Scope) -> None:
        if "while deserializing" in str(error) or "client disconnected" in str(error):
            return  # Litestar's, which lading answers with 400
        problem = problem_of(error)
        status = error.status_code if isinstance(error, HTTPException) else 500 if problem is None else problem.status
        if status >= 500:
            self.troubles.append(f"{scope['path']}: {error!r}")

    @asynccontextmanager
    async def client(self, app: Litestar | None = None) -> AsyncIterator[httpx.AsyncClient]:
        """A client that needs no socket."""
        app = app or self.app()
        async with app.lifespan():
            transport = httpx.ASGITransport(cast("Any", app))  # the two type ASGI in ways of their own
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                yield client

    @contextmanager
    def server(self, *, http: Kind = "httptools", **options: Any) -> Iterator[int]:
        """The port of a real one."""
        with live(self.app(**options), http) as port:
            yield port

    def files(self) -> list[FileObject]:
        """What the rows name."""
        with Session(self.engine) as session:
            documents = session.scalars(select(Document)).all()
            pictures = session.scalars(select(Picture)).all()
            found = [file for document in documents for file in (document.file, *document.pages)]
            return found + [picture.image for picture in pictures]

    def waiting(self) -> set[str]:
        """What the outbox names."""
        with self.engine.connect() as connection:
            return set(connection.scalars(select(outbox.table.c.path)))

    def objects(self) -> set[str]:
        """All that lies in the store; on a disk also what is being written there."""
        if self.root is not None:
            walked = os.walk(self.root)
            return {
                os.path.relpath(os.path.join(place, name), self.root) for place, _, names in walked for name in names
            }

        async def listed() -> set[str]:
            return {info.path async for info in storages.get_backend("store").driver(inline).list()}

        return run(listed())

    def open_files(self) -> Counter[str]:
        """What this process has open of the store, and of temporary files, which have no names any more."""
        links = []
        for descriptor in os.listdir("/proc/self/fd"):
            try:
                links.append(os.readlink(f"/proc/self/fd/{descriptor}"))
            except FileNotFoundError:
                pass
        below = "\0" if self.root is None else f"{self.root}/"
        return Counter(link for link in links if link.startswith(below) or link.endswith(" (deleted)"))

    def faults(self) -> list[str]:
        """What is wrong, in words."""
        found = list(self.troubles)
        named = self.files()
        for file in named:
            file.verify()
        found += [f"nobody names {path}" for path in self.objects() - {file.path for file in named} - self.waiting()]
        return found + [f"open: {name}" for name in self.open_files() - self._open_before]


class Listener(logging.Handler):
    """Writes down what is logged and should not be."""

    def __init__(self, troubles: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.troubles = troubles

    def emit(self, record: logging.LogRecord) -> None:
        if record.name != "uvicorn.error" or record.levelno > logging.WARNING:  # it warns of requests that are none
            self.troubles.append(f"{record.name}: {self.format(record)}")


def refusal(answer: Answer | httpx.Response, status: int, name: str | None = None) -> None:
    """Make sure that an answer is a refusal: a problem document of that status, and of that type where one is given."""
    if isinstance(answer, httpx.Response):
        answer = Answer(answer.status_code, answer.headers.multi_items(), answer.content)
    assert answer.status == status, (answer.status, answer.body[:500])
    assert answer.header("content-type") == "application/problem+json", answer.headers
    document = answer.json()
    assert document["status"] == status
    if name is not None:
        assert document["type"] == f"urn:lading:problem:{name}", document
