"""PostgreSQL on a data directory of its own, with durability switched off: the data ends with the run anyway."""

import shutil
import subprocess
from pathlib import Path

from tests.services.process import Recipe, Unavailable, run_as

ACCOUNT = "postgres"


def program(name: str) -> str:
    """The newest installed one; Debian keeps the server's programs out of PATH.

    Raises:
        Unavailable: PostgreSQL is not installed.
    """
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    found = str(installed[-1]) if installed else shutil.which(name)
    if found is None:
        raise Unavailable("PostgreSQL is not installed: make services")
    return found


def prepare(data: Path) -> None:
    account = run_as(ACCOUNT)
    subprocess.run(
        [
            program("initdb"),
            "-D",
            str(data),
            "-U",
            "postgres",
            "-A",
            "trust",
            "--no-sync",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
        ],
        check=True,
        capture_output=True,
        cwd=data,
        user=account,
        group=account,
        extra_groups=[] if account else None,
    )


def command(data: Path, port: int) -> list[str]:
    settings = ["fsync=off", "synchronous_commit=off", "full_page_writes=off"]
    settings += ["max_connections=100", "max_prepared_transactions=10"]
    switches = [part for setting in settings for part in ("-c", setting)]
    return [program("postgres"), "-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", str(data), *switches]


def ready(data: Path, port: int) -> bool:
    """The port opens before the server takes connections; the eighth line of its pid file says when it does."""
    pid_file = data / "postmaster.pid"
    lines = pid_file.read_text().splitlines() if pid_file.exists() else []
    return len(lines) >= 8 and lines[7].strip() == "ready"


RECIPE = Recipe("postgres", command, ready, lambda: program("postgres"), prepare, ACCOUNT)
