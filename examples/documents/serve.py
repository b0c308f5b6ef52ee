"""Start the example and print its address; Ctrl-C stops it."""

import argparse
import socket
import sys
from pathlib import Path

import uvicorn


def listen(host: str, port: int | None) -> socket.socket:
    """A listening socket: on that port, or on 8000, or where that is taken on any that is free."""
    # asyncio sends small packets at once, without which each answer waits 40 ms, only where the socket says it is TCP.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, 8000 if port is None else port))
    except OSError:
        if port is not None:
            listening.close()
            raise
        listening.bind((host, 0))
    listening.listen(128)
    return listening


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--host", default="127.0.0.1")
    arguments.add_argument("--port", type=int, help="0 for any; by default 8000, or any where that is taken")
    asked = arguments.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    config = uvicorn.Config("examples.documents.page:app", log_level="warning", lifespan="on", ws="none")
    config.load()
    with listen(asked.host, asked.port) as listening:
        print(f"Documents: http://{asked.host}:{listening.getsockname()[1]}", flush=True)
        uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
