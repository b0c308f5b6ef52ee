"""Requests as bytes, for what no well-behaved client would send."""

import http.client
import json
import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

BOUNDARY = "aBoundary"
FORM = f"multipart/form-data; boundary={BOUNDARY}"

Part = tuple[bytes, bytes]
"""The head of a part, without the empty line, and its content."""


@dataclass(frozen=True)
class Answer:
    """A response; `status` is 0 where none came."""

    status: int
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)

    def json(self) -> Any:
        return json.loads(self.body)


def text(name: str, value: str) -> Part:
    return f'Content-Disposition: form-data; name="{name}"'.encode(), value.encode()


def upload(name: str, filename: bytes | str, content: bytes, content_type: str | None = "text/plain") -> Part:
    """A file, its name as it is: nothing is quoted."""
    raw = filename.encode("utf-8", "surrogatepass") if isinstance(filename, str) else filename
    head = f'Content-Disposition: form-data; name="{name}"; filename="'.encode() + raw + b'"'
    return head + (f"\r\nContent-Type: {content_type}".encode() if content_type else b""), content


def as_browsers_quote(filename: str) -> str:
    """As the standard has it (HTML, 4.10.21.8)."""
    return filename.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")


def form(*parts: Part, boundary: str = BOUNDARY) -> bytes:
    line = f"--{boundary}".encode()
    return (
        b"".join(line + b"\r\n" + head + b"\r\n\r\n" + content + b"\r\n" for head, content in parts) + line + b"--\r\n"
    )


def request(
    method: str, target: str | bytes, headers: Iterable[tuple[str, str]] = (), body: bytes = b"", *, length: bool = True
) -> bytes:
    """A request; its target and its headers go as they are."""
    raw = target.encode() if isinstance(target, str) else target
    lines = [method.encode() + b" " + raw + b" HTTP/1.1", b"host: 127.0.0.1", b"connection: close"]
    lines += [f"{name}: {value}".encode("latin-1") for name, value in headers]
    if length and method in ("POST", "PUT"):
        lines.append(f"content-length: {len(body)}".encode())
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def exchange(port: int, data: bytes, *, end: bool = False) -> Answer:
    """Send that, and read what comes.

    Args:
        port: of the server.
        data: a request, or a part of one.
        end: no more is sent, and the server knows (FIN).
    """
    with connect(port) as client:
        try:
            client.sendall(data)
            if end:
                client.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has answered without reading on
        return receive(client)


def receive(client: socket.socket) -> Answer:
    response = http.client.HTTPResponse(client)
    try:
        response.begin()
        return Answer(response.status, response.getheaders(), response.read())
    except (http.client.HTTPException, OSError):
        return Answer(0)
    finally:
        response.close()


def vanish(client: socket.socket, *, reset: bool) -> None:
    """Be gone, by RST or by FIN."""
    if reset:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
