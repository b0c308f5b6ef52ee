"""An application that receives files, and what clients and tests need with it."""

import asyncio
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from litestar import Litestar, post, put
from litestar.connection import ASGIConnection
from litestar.datastructures import UploadFile
from litestar.enums import RequestEncodingType
from litestar.exceptions import NotAuthorizedException
from litestar.handlers import BaseRouteHandler
from litestar.params import Body, FromPath
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.pool import NullPool

from lading import FileObject, Storages, StoredObject
from lading.litestar import LadingConfig, LadingPlugin, UploadTo
from lading.rules import content_types, max_size
from lading.worlds import inline, iterate
from tests import databases

MB = 10**6
MOST = 12 * MB
MOST_OF_A_PAGE = 100_000
SECRET = "a secret of some length"
BOUNDARY = "----WebKitFormBoundary7MA4YWxkTrZu0gW"

registry = Storages()


class Base(DeclarativeBase): ...


class Document(Base):
    __tablename__ = "document"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    file: Mapped[FileObject] = mapped_column(StoredObject("store", storages=registry, rules=[max_size(MOST)]))
    pages: Mapped[list[FileObject]] = mapped_column(
        StoredObject(
            "store",
            storages=registry,
            multiple=True,
            rules=[max_size(MOST_OF_A_PAGE), content_types("text/*")],
            path=lambda candidate: f"pages/{candidate.token}",
        )
    )


class Film(Base):
    __tablename__ = "film"
    id: Mapped[int] = mapped_column(primary_key=True)
    file: Mapped[FileObject] = mapped_column(StoredObject("store", storages=registry))


File = Annotated[FileObject, UploadTo(Document.file)]
Page = Annotated[FileObject, UploadTo(Document.pages)]
Form = Body(media_type=RequestEncodingType.MULTI_PART)
Bare = Body(media_type="application/octet-stream")


@dataclass
class New:
    title: str
    file: File
    pages: list[Page] | None = None
    other: UploadFile | None = None


class App:
    """The application, its rows and its objects.

    Attributes:
        calls: how often a handler has run.
    """

    def __init__(self, tmp_path: Path, *, config: LadingConfig | None = None, **options: Any) -> None:
        self.calls = 0
        self.engine = make_engine(tmp_path)
        plugin = LadingPlugin(config or LadingConfig(SECRET, storages=registry))
        self.asgi = Litestar(
            [*self._handlers(), *options.pop("route_handlers", ())],
            plugins=[plugin, *options.pop("plugins", ())],
            logging_config=None,
            **options,
        )

    def _handlers(self) -> list[Any]:
        @post("/documents")
        async def create(data: Annotated[New, Form]) -> dict[str, Any]:
            self.calls += 1
            async with AsyncSession(self.engine) as session:
                session.add(Document(title=data.title, file=data.file, pages=data.pages or []))
                await session.commit()
            other = None if data.other is None else (await data.other.read()).decode()
            return {"file": data.file.to_dict(), "pages": [page.filename for page in data.pages or ()], "other": other}

        @post("/fails")
        async def fails(data: Annotated[New, Form]) -> None:
            self.calls += 1
            raise RuntimeError(data.file.path)

        @post("/rolls-back")
        async def rolls_back(data: Annotated[New, Form]) -> None:
            self.calls += 1
            async with AsyncSession(self.engine) as session:
                session.add(Document(title=data.title, file=data.file, pages=data.pages or []))
                await session.flush()

        @post("/forgets")
        async def forgets(data: Annotated[New, Form]) -> str:
            self.calls += 1
            return data.file.path

        @post("/guarded", guards=[nobody])
        async def guarded(data: Annotated[New, Form]) -> None: ...

        @put("/documents/{number:int}/file")
        async def replace(number: FromPath[int], data: Annotated[File, Bare]) -> FileObject:
            self.calls += 1
            async with AsyncSession(self.engine) as session:
                await session.merge(Document(id=number, title="", file=data, pages=[]))
                await session.commit()
            return data

        @post("/films")
        async def film(data: Annotated[FileObject, UploadTo(Film.file), Form]) -> str:
            return data.path

        return [film, create, fails, rolls_back, forgets, guarded, replace]

    def rows(self) -> list[Document]:
        """What is committed."""

        async def read() -> list[Document]:
            async with AsyncSession(self.engine) as session:
                return list(await session.scalars(select(Document)))

        return asyncio.run(read())

    def left(self) -> list[str]:
        """The objects that no row names."""
        named = {file.path for row in self.rows() for file in [row.file, *row.pages]}
        return sorted({info.path for info in iterate(registry.get_backend("store").driver(inline).list())} - named)


def nobody(connection: "ASGIConnection[Any, Any, Any, Any]", handler: BaseRouteHandler) -> None:
    raise NotAuthorizedException


def make_engine(tmp_path: Path) -> AsyncEngine:
    """On an empty database; without a pool, since servers and tests have loops of their own."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/rows.sqlite", poolclass=NullPool)
    databases.begin_for_real(engine.sync_engine)

    async def make() -> None:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)

    asyncio.run(make())
    return engine


def form(*parts: tuple[str, str | None, bytes], end: bool = True) -> bytes:
    """A form of `(name, filename, content)`."""
    lines: list[bytes] = []
    for name, filename, content in parts:
        of_file = "" if filename is None else f'; filename="{filename}"'
        lines.append(f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{of_file}\r\n\r\n'.encode())
        lines += [content, b"\r\n"]
    return b"".join([*lines, f"--{BOUNDARY}--\r\n".encode() if end else b""])


def head(path: str, length: int | None, *, method: str = "POST", **headers: str) -> bytes:
    """Of a request whose body is a form, or with `content_type` something else; without a length it is chunked."""
    kind = headers.pop("content_type", f"multipart/form-data; boundary={BOUNDARY}")
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"{method} {path} HTTP/1.1\r\nHost: test\r\nContent-Type: {kind}\r\n{size}\r\n{more}\r\n".encode()


def chunked(pieces: Iterable[bytes], *, end: bool = True) -> Iterable[bytes]:
    """A body in the coding `chunked` (RFC 9112, section 7.1)."""
    for piece in pieces:
        yield b"%x\r\n%s\r\n" % (len(piece), piece)
    if end:
        yield b"0\r\n\r\n"


class Connection:
    """A connection of a client that does as it likes."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=20)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self._socket.sendall(piece)

    def accepted(self, pieces: Iterable[bytes], seconds: float) -> int:
        """How many bytes the other side takes, until it takes none for so long."""
        sent = 0
        self._socket.settimeout(seconds)
        for piece in pieces:
            view = memoryview(piece)
            while view:
                try:
                    count = self._socket.send(view)
                except TimeoutError:
                    return sent
                sent, view = sent + count, view[count:]
        return sent

    def answer(self) -> tuple[int, bytes]:
        """The status and body of the answer; `(0, b"")` where the connection ends without one."""
        self._socket.settimeout(20)
        received = b""
        while b"\r\n\r\n" not in received:
            try:
                piece = self._socket.recv(65536)
            except ConnectionResetError:
                piece = b""
            if not piece:
                return 0, b""
            received += piece
        top, _, body = received.partition(b"\r\n\r\n")
        length = next(int(line[15:]) for line in top.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        while len(body) < length:
            body += self._socket.recv(65536)
        return int(top.split()[1]), body

    def ends(self) -> bool:
        """Whether the other side ends the connection, behind what it has sent already."""
        self._socket.settimeout(5)
        try:
            while self._socket.recv(65536):
                pass
        except TimeoutError:
            return False
        except ConnectionResetError:
            pass
        return True


def eventually(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait until something holds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)
