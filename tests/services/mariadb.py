"""MariaDB on a data directory of its own, with durability switched off; `root` has no password on 127.0.0.1."""

import shutil
import subprocess
from pathlib import Path

from tests.services.process import Recipe, Unavailable, listens, run_as

ACCOUNT = "mysql"


def program(name: str) -> str:
    """Where it is installed; `/usr/sbin` is in PATH for root only.

    Raises:
        Unavailable: MariaDB is not installed.
    """
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if found is None:
        raise Unavailable("MariaDB is not installed: make services")
    return found


def prepare(data: Path) -> None:
    account = run_as(ACCOUNT)
    subprocess.run(
        [program("mariadb-install-db"), "--no-defaults", f"--datadir={data}", "--skip-test-db"]
        + ["--auth-root-authentication-method=normal"]
        + ([f"--user={account}"] if account else []),
        check=True,
        capture_output=True,
        cwd=data,
    )


def command(data: Path, port: int) -> list[str]:
    return [
        program("mariadbd"),
        "--no-defaults",
        f"--datadir={data}",
        f"--port={port}",
        "--bind-address=127.0.0.1",
        f"--socket={data / 'socket'}",
        f"--pid-file={data / 'pid'}",
        # Its own: a server that starts deletes the temporary tables of all others in the same directory.
        f"--tmpdir={data}",
        "--skip-log-bin",
        "--skip-name-resolve",
        "--character-set-server=utf8mb4",
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-flush-method=nosync",
        "--innodb-buffer-pool-size=64M",
    ]


RECIPE = Recipe("mariadb", command, listens, lambda: program("mariadbd"), prepare, ACCOUNT)
