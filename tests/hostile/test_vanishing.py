"""Clients that are gone at a random moment of an upload, by a real server in a process of its own.

`LADING_SEED` chooses other moments.
"""

import json
import os
import random
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import create_engine, select

from lading.backends.obstore import ObstoreBackend
from tests.hostile.app import MOST, Base, outbox, storages
from tests.hostile.house import House
from tests.hostile.served import PLACE
from tests.hostile.wire import FORM, Answer, connect, exchange, form, request, text, upload, vanish
from tests.services.process import free_port

SEED = int(os.environ.get("LADING_SEED", "4"))
UPLOADS = 500
WARM = 150
AT_ONCE = 8
ANN = ("x-user", "ann")
JSON = ("content-type", "application/json")

FDS = 8
"""Open files that a server may have more than after it had warmed up: each connection of its pool has two or three."""

RSS = 16 * 2**20
"""Bytes by which its memory may have grown: what allocators keep. A body that is never let go of is up to 256 KiB."""


@dataclass(frozen=True)
class Server:
    """A server in a process of its own, and what can be seen of it."""

    house: House
    pid: int
    port: int
    log: Path

    def fds(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def rss(self) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    root = tmp_path / "store"
    root.mkdir()
    engine = create_engine(f"sqlite:///{tmp_path / 'test.sqlite'}", connect_args={"timeout": 30})
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode = WAL")
    Base.metadata.create_all(engine)
    storages.register_backend(ObstoreBackend("store", root.as_uri()))
    port, log = free_port(), tmp_path / "log"
    command = [sys.executable, "-m", "uvicorn", "--factory", "tests.hostile.served:make", "--no-access-log"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--log-level", "warning", "--http", "httptools"],
            env={**os.environ, PLACE: str(tmp_path), "MALLOC_ARENA_MAX": "2"},
            stdout=output,
            stderr=output,
        )
        try:
            _await(lambda: _answers(port) or process.poll() is not None, 30)
            assert process.poll() is None, log.read_text()
            yield Server(House(tmp_path / "test.sqlite", root, engine), process.pid, port, log)
        finally:
            process.terminate()
            process.wait(30)
            engine.dispose()
            storages.clear_backends()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _await(done: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not (met := done()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return met


class Client:
    """Sends uploads of every kind, and is gone at some moment of most of them."""

    def __init__(self, port: int, seed: int) -> None:
        self._port = port
        self._chance = random.Random(seed)

    def visit(self) -> str:
        """One upload; what became of it, in a word."""
        chance = self._chance
        size = chance.choice([0, 1, chance.randrange(1000), chance.randrange(MOST), MOST, MOST + 1])
        content = chance.randbytes(min(size, 64)) * (size // 64 + 1)
        data = chance.choice([self._form, self._form, self._raw, self._put, self._get])(content[:size])
        fate = chance.random()
        if fate < 0.1:
            return f"{exchange(self._port, data).status}"
        if fate < 0.2:
            return f"cut {self._cut(data).status}"
        whole = fate < 0.45  # it is gone while the server works on it, or answers
        return self._leave(data if whole else data[: chance.randrange(len(data))])

    def _cut(self, data: bytes) -> Answer:
        """It stops in the middle, says so, and waits for an answer."""
        return exchange(self._port, data[: self._chance.randrange(len(data))], end=True)

    def _leave(self, data: bytes) -> str:
        chance = self._chance
        client = connect(self._port)
        try:
            pause = chance.randrange(len(data) + 1)
            client.sendall(data[:pause])
            time.sleep(chance.random() * 0.02)
            client.sendall(data[pause:])
            time.sleep(chance.choice([0, chance.random() * 0.03]))
        except OSError:
            pass  # it was refused
        reset = chance.random() < 0.5
        vanish(client, reset=reset)
        return "reset" if reset else "gone"

    def _form(self, content: bytes) -> bytes:
        pages = [upload("pages", "b.bin", content[: len(content) // 2]) for _ in range(self._chance.randrange(4))]
        parts = [text("name", "a"), upload("file", "a.bin", content), *pages]
        self._chance.shuffle(parts)
        return request("POST", "/documents", [("content-type", FORM)], form(*parts))

    def _raw(self, content: bytes) -> bytes:
        if self._chance.random() < 0.5:
            return request("PUT", "/documents/1/file", [], content)
        chunks = [content[at : at + 50_000] for at in range(0, len(content), 50_000)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
        return request("PUT", "/documents/1/file", [("transfer-encoding", "chunked")], body, length=False)

    def _get(self, _: bytes) -> bytes:
        return request("GET", "/documents/1/file", [ANN])

    def _put(self, content: bytes) -> bytes:
        asked = {"filename": "a.bin", "size": min(len(content), MOST), "policy": "document.file"}
        begun = exchange(self._port, request("POST", "/files/uploads", [ANN, JSON], json.dumps(asked).encode()))
        assert begun.status == 201, begun.body
        ticket = begun.json()
        if self._chance.random() < 0.5:
            sent = request(ticket["method"], ticket["url"], ticket["headers"].items(), content)
            assert exchange(self._port, sent).status == (200 if len(content) <= MOST else 413)
            body = json.dumps({"name": "a", "file": ticket["id"]}).encode()
            return request("POST", "/documents/attached", [ANN, JSON], body)
        return request(ticket["method"], ticket["url"], ticket["headers"].items(), content)


def visits(server: Server, count: int, seed: int) -> Counter[str]:
    """Many uploads, several at a time."""
    share = count // AT_ONCE + 1

    def crowd(number: int) -> list[str]:
        client = Client(server.port, seed * 1000 + number)
        return [client.visit() for _ in range(share)]

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return Counter(fate for fates in pool.map(crowd, range(AT_ONCE)) for fate in fates)


def test_clients_that_vanish(server: Server) -> None:
    """After 500 uploads of clients of which most are gone at some moment, rows and objects agree, and nothing is open.

    Every row's object is whole; no object is left that no row names, but for direct uploads that wait; nothing that was
    being written, no open file and no memory is left of those who are gone.
    """
    body = form(text("name", "a"), upload("file", "a.txt", b"first"))
    good = request("POST", "/documents", [("content-type", FORM)], body)
    assert exchange(server.port, good).status == 201
    visits(server, WARM, SEED)
    assert _await(lambda: settled(server), 15), leftovers(server)
    fds, rss = server.fds(), server.rss()

    fates = visits(server, UPLOADS, SEED + 1)

    assert _await(lambda: settled(server), 15), leftovers(server)
    assert not any(fate.startswith(("5", "cut 5")) for fate in fates), fates
    assert fates["201"] + fates["200"] > UPLOADS / 40, fates
    assert fates["reset"] + fates["gone"] > UPLOADS / 2, fates
    # Whoever is gone has left room for others.
    assert [exchange(server.port, good).status for _ in range(40)] == [201] * 40
    files = server.house.files()
    assert len(files) > UPLOADS / 20
    for file in files:
        file.verify()
    assert _await(lambda: server.fds() <= fds + FDS, 5), (fds, server.fds())
    assert server.rss() <= rss + RSS, (rss, server.rss())
    assert server.log.read_text() == ""


def leftovers(server: Server) -> set[str]:
    """Objects that no row names, and that are no direct uploads which wait."""
    with server.house.engine.connect() as connection:
        uploads = outbox.table.c.reason.in_(["upload", "attached upload"])
        waiting = set(connection.scalars(select(outbox.table.c.path).where(uploads)))
    objects = server.house.objects()
    return objects - {file.path for file in server.house.files()} - waiting


def settled(server: Server) -> bool:
    return not leftovers(server)
