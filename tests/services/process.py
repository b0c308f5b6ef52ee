"""One server process per test run: started by the first worker that asks, stopped by its pid when the run ends.

The run is a directory. It holds, per server, a lock, the log, the data and the `pid port` of the process. So any
process of the run (pytest-xdist has several) finds a server that another started, and pytest's main process stops all.
A run that is killed outright leaves its servers running.
"""

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 60.0
STOP_SECONDS = 5.0
ATTEMPTS = 3
_children: dict[int, subprocess.Popen[bytes]] = {}


class Unavailable(Exception):
    """The server is not installed here; the message says how to install it."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one kind of server is started.

    Attributes:
        name: names its files in the run.
        command: the server in the foreground, given its data directory and its port.
        ready: whether it answers; asked again and again.
        installed: raises `Unavailable` where it is not; called before anything else.
        prepare: writes the data directory, which belongs to `user` already.
        user: the account to run as where the tests run as root, for servers that refuse to be root.
    """

    name: str
    command: Callable[[Path, int], Sequence[str]]
    ready: Callable[[Path, int], bool]
    installed: Callable[[], object] = lambda: None
    prepare: Callable[[Path], None] = lambda data: None
    user: str | None = None


def new_run() -> Path:
    """A fresh run; its directory may be entered by the servers' accounts, unlike pytest's own."""
    run = Path(tempfile.mkdtemp(prefix="lading-services-"))
    run.chmod(0o755)
    return run


def start(run: Path, recipe: Recipe) -> int:
    """The port of the run's server of that kind; starts it where this is the first call.

    Raises:
        Unavailable: it is not installed.
        RuntimeError: it did not come up; the message holds the end of its log.
    """
    state = run / f"{recipe.name}.state"
    with (run / f"{recipe.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if state.exists():
            return int(state.read_text().split()[1])
        recipe.installed()
        data = run / recipe.name
        if data.exists():
            raise RuntimeError(f"{recipe.name} did not start earlier in this run")
        data.mkdir(mode=0o700)
        if account := run_as(recipe.user):
            shutil.chown(data, account, account)
        recipe.prepare(data)
        for _ in range(ATTEMPTS):
            port = free_port()
            if _came_up(run, recipe, data, port, state):
                return port
        log = (run / f"{recipe.name}.log").read_text(errors="replace")
        raise RuntimeError(f"{recipe.name} did not start:\n{log[-2000:]}")


def _came_up(run: Path, recipe: Recipe, data: Path, port: int, state: Path) -> bool:
    """Start the server once; false when it ended by itself, as it does when somebody took the port meanwhile."""
    account = run_as(recipe.user)
    with (run / f"{recipe.name}.log").open("ab") as log:
        process = subprocess.Popen(
            recipe.command(data, port),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=run,
            user=account,
            group=account,
            extra_groups=[] if account else None,
        )
    _children[process.pid] = process
    state.write_text(f"{process.pid} {port}")
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if recipe.ready(data, port):
            return True
        time.sleep(0.02)
    stop_process(process.pid)
    state.unlink()
    return False


def disown() -> None:
    """Leave the servers that this process started to the one that stops the run; Python would warn of them else."""
    for child in _children.values():
        child.returncode = 0
    _children.clear()


def stop(run: Path) -> None:
    """Stop every server of the run and remove all that it wrote."""
    for state in run.glob("*.state"):
        stop_process(int(state.read_text().split()[0]))
    shutil.rmtree(run)


def stop_process(pid: int) -> None:
    """End a process, which may have gone already: asked first, killed if it lingers.

    PostgreSQL waits for its clients after SIGTERM, and not after SIGINT.
    """
    for sign in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
        deadline = time.monotonic() + STOP_SECONDS
        try:
            os.kill(pid, sign)
            while not _gone(pid) and time.monotonic() < deadline:
                time.sleep(0.01)
        except ProcessLookupError:
            pass
        if _gone(pid):
            _children.pop(pid, None)
            return
    raise RuntimeError(f"process {pid} cannot be ended")


def _gone(pid: int) -> bool:
    if (child := _children.get(pid)) is not None:
        return child.poll() is not None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def run_as(user: str | None) -> str | None:
    """The account to change to: only root can, and only where one is asked for."""
    return user if user is not None and os.geteuid() == 0 else None


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(data: Path, port: int) -> bool:
    """Whether something accepts connections on that port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
