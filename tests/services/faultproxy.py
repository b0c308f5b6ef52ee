"""A TCP proxy that harms what passes through it: cuts, resets, delays, refuses, swallows, loses answers."""

import asyncio
import random
import socket
import struct
import threading
from collections import Counter
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

Kind = Literal["cut", "reset", "delay", "refuse", "swallow", "lose"]
Direction = Literal["up", "down"]
"""Up is to the server: what is harmed on its way down was done, and the client never learns that it was."""

CHUNK = 16 * 1024
PAUSE = 0.02


@dataclass(frozen=True, slots=True)
class Fault:
    """What a proxy does, for as long as it is told to.

    Attributes:
        kind: `cut` and `reset` end a connection within a chunk, by FIN or by RST; `delay` holds a chunk up; `swallow`
            holds it until the fault is over, and then passes it on or ends the connection; `lose` passes on what has
            `word` in it, and resets the connection when the answer comes; `refuse` resets new connections.
        share: of the chunks, or of the new connections, that it hits; from 0 to 1.
        direction: of the chunks that it hits; `None` for both.
        seconds: that a chunk is delayed.
        word: what a request has in it whose answer is lost.
    """

    kind: Kind
    share: float = 1.0
    direction: Direction | None = None
    seconds: float = 0.1
    word: bytes = b""


class FaultProxy:
    """A proxy of a port of 127.0.0.1, in a thread; what it draws at random is drawn from the seed.

    Attributes:
        port: where it listens.
        fault: what it does now; set it from any thread, `None` to pass everything on.
        counts: how often it did what.
    """

    def __init__(self, server: int, seed: int = 0) -> None:
        self.fault: Fault | None = None
        self.counts: Counter[Kind] = Counter()
        self._server = server
        self._random = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = int(self._socket.getsockname()[1])
        self._over = asyncio.Event()
        # A loop holds no task that waits for another: one whose client has gone would be collected while it waits.
        self._connections: set[asyncio.Task[None] | None] = set()
        self._thread = threading.Thread(target=self._run, name="faultproxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connected, sock=self._socket)
        await self._over.wait()
        server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._hit("refuse", None):
            _end([writer], reset=True)
            return
        line = _Line([writer])
        task = asyncio.current_task()
        self._connections.add(task)
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._server)
            line.ends.append(to_server)
            await asyncio.gather(
                self._pass("up", reader, to_server, line),
                self._pass("down", from_server, writer, line),
            )
        except (OSError, asyncio.CancelledError):
            pass  # one end has gone, or the proxy is over: so is this connection
        finally:
            _end(line.ends, reset=False)
            self._connections.discard(task)

    async def _pass(
        self, way: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: "_Line"
    ) -> None:
        """Pass on what comes from one end, until that is over or a fault ends the connection."""
        while chunk := await reader.read(CHUNK):
            if broken := self._hit("cut", way) or self._hit("reset", way):
                writer.write(chunk[: self._random.randrange(len(chunk))])
                _end(line.ends, reset=broken.kind == "reset")
                return
            if slow := self._hit("delay", way):
                await asyncio.sleep(slow.seconds)
            if hole := self._hit("swallow", way):
                while self.fault is hole:
                    await asyncio.sleep(PAUSE)
                if self._random.random() < 0.5:
                    _end(line.ends, reset=True)
                    return
            if way == "down" and line.loses:
                _end(line.ends, reset=True)
                return
            if way == "up" and self._hit("lose", way, chunk):
                line.loses = True
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()

    def _hit(self, kind: Kind, way: Direction | None, chunk: bytes = b"") -> Fault | None:
        """The fault of now, where it is of that kind and hits."""
        fault = self.fault
        if fault is None or fault.kind != kind or fault.direction not in (None, way) or fault.word not in chunk:
            return None
        if self._random.random() >= fault.share:
            return None
        self.counts[kind] += 1
        return fault


@dataclass(slots=True)
class _Line:
    """One connection: both of its ends, and whether the next answer is lost."""

    ends: list[asyncio.StreamWriter]
    loses: bool = False


def _end(writers: list[asyncio.StreamWriter], *, reset: bool) -> None:
    for writer in writers:
        if reset and not writer.is_closing():
            # A socket that must not linger is closed by RST, and what it had still to send is gone.
            end: socket.socket = writer.get_extra_info("socket")
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        writer.close()
