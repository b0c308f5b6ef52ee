"""The proxy that stands between the soak's workers and their servers."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.services.faultproxy import Fault, FaultProxy


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends everything back."""

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                while chunk := connection.recv(65536):
                    connection.sendall(chunk)
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=[connection], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        acceptor = threading.Thread(target=accept)
        acceptor.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        acceptor.join()


@pytest.fixture
def proxy(echo: int) -> Iterator[FaultProxy]:
    with FaultProxy(echo, seed=7) as proxy:
        yield proxy


def connect(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def received(connection: socket.socket, size: int) -> bytes:
    """Up to `size` bytes, fewer where the other end closes."""
    data = b""
    while len(data) < size and (chunk := connection.recv(size - len(data))):
        data += chunk
    return data


def send_all(connection: socket.socket, data: bytes) -> None:
    """Send it, and say that this is all."""
    connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)


def test_what_nothing_harms_passes(proxy: FaultProxy) -> None:
    """A megabyte comes back as it was sent, and an end of the one half does not end the other."""
    sent = bytes(range(256)) * 4096
    with connect(proxy) as connection:
        sender = threading.Thread(target=send_all, args=[connection, sent])
        sender.start()
        assert received(connection, len(sent) + 1) == sent
        sender.join()
    assert not proxy.counts


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_cut_ends_the_connection_within_a_chunk(proxy: FaultProxy, direction: str) -> None:
    """Something may arrive, not all, and then the connection is closed in order."""
    proxy.fault = Fault("cut", direction="up" if direction == "up" else "down")
    with connect(proxy) as connection:
        connection.sendall(b"x" * 1000)
        assert len(received(connection, 1000)) < 1000
    assert proxy.counts == {"cut": 1}


def test_a_reset_is_no_orderly_end(proxy: FaultProxy) -> None:
    """The client gets RST."""
    proxy.fault = Fault("reset", direction="up")
    with connect(proxy) as connection, pytest.raises(ConnectionResetError):
        connection.sendall(b"x" * 1000)
        received(connection, 1000)
    assert proxy.counts == {"reset": 1}


def test_refusals_hit_new_connections_only(proxy: FaultProxy) -> None:
    """Who is connected stays so; who comes is turned away."""
    with connect(proxy) as old:
        old.sendall(b"before")
        assert received(old, 6) == b"before"
        proxy.fault = Fault("refuse")
        with pytest.raises(ConnectionError), connect(proxy) as new:
            new.sendall(b"x")
            if not received(new, 1):
                raise ConnectionError
        old.sendall(b"after")
        assert received(old, 5) == b"after"
    assert proxy.counts == {"refuse": 1}


def test_a_delay_is_as_long_as_it_says(proxy: FaultProxy) -> None:
    """Up and down are each held up once."""
    proxy.fault = Fault("delay", seconds=0.1)
    began = time.monotonic()
    with connect(proxy) as connection:
        connection.sendall(b"late")
        assert received(connection, 4) == b"late"
    assert time.monotonic() - began >= 0.2
    assert proxy.counts == {"delay": 2}


def test_what_was_swallowed_arrives_or_is_lost_when_the_fault_is_over(proxy: FaultProxy) -> None:
    """Nothing passes meanwhile; then some connections are reset, and others are not."""
    fates = set[bytes]()
    for _ in range(10):
        proxy.fault = Fault("swallow", direction="up")
        with connect(proxy) as connection:
            connection.sendall(b"gone?")
            connection.settimeout(0.1)
            with pytest.raises(TimeoutError):
                connection.recv(5)
            proxy.fault = None
            connection.settimeout(5)
            try:
                fates.add(received(connection, 5))
            except ConnectionResetError:
                fates.add(b"")
    assert fates == {b"gone?", b""}


def test_an_answer_is_lost_to_what_was_done(proxy: FaultProxy) -> None:
    """What has the word in it arrives, and the client never learns that; what has it not is answered."""
    proxy.fault = Fault("lose", word=b"COMMIT")
    with connect(proxy) as connection:
        connection.sendall(b"SELECT")
        assert received(connection, 6) == b"SELECT"
        connection.sendall(b"COMMIT")
        with pytest.raises(ConnectionResetError):
            received(connection, 6)
    assert proxy.counts == {"lose": 1}


def test_the_seed_says_which_chunks_are_hit(echo: int) -> None:
    """Two proxies of one seed harm the same connections."""

    def fates() -> list[int]:
        lengths = []
        with FaultProxy(echo, seed=11) as proxy:
            proxy.fault = Fault("cut", share=0.5, direction="up")
            for _ in range(10):
                with connect(proxy) as connection:
                    send_all(connection, b"x" * 100)
                    lengths.append(len(received(connection, 101)))
        return lengths

    first = fates()
    assert first == fates()
    assert 100 in first
    assert min(first) < 100
