"""uvicorn on a port of 127.0.0.1: in a thread of this process, so that a test can look at what the server works on."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

START_SECONDS = 30.0


@contextmanager
def serving(app: Any, **options: Any) -> Iterator[int]:
    """Serve an ASGI application, and give its port; the server has ended when this has.

    Args:
        app: the application; its lifespan is that of the server.
        options: of `uvicorn.Config`, such as `http="h11"`.
    """
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        **{"log_config": None, "lifespan": "on", "timeout_graceful_shutdown": 10, **options},
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="uvicorn")
    thread.start()
    try:
        deadline = time.monotonic() + START_SECONDS
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("uvicorn did not start; its log says why")
            time.sleep(0.005)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
