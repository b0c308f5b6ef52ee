"""S3 by Ceph's RADOS Gateway: it checks signatures and their expiry, so it is the judge of what lading signs.

A gateway stands on a monitor and a store of objects, which makes three servers. To the run they are one process: this
module, run as a program, starts them and ends with them. It takes no notice of `x-amz-checksum-*`.
"""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.services.moto import S3
from tests.services.process import START_SECONDS, Recipe, Unavailable, free_port, listens

PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin", "setpriv")
ACCESS_KEY_ID = "ladingaccesskey00001"
SECRET_ACCESS_KEY = "ladingsecretkey0000100020003000400050006"
CLUSTER = "5d2f7a52-6f0e-4a53-9d0b-3a1e5f6d7c80"
SETTINGS = """
[global]
fsid = {cluster}
mon host = [v2:127.0.0.1:{v2}/0,v1:127.0.0.1:{v1}/0]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv4 = true
ms bind ipv6 = false
keyring = {data}/keyring
run dir = {data}/run
admin socket = {data}/run/$name.$pid
mon data = {data}/mon
osd data = {data}/osd
rgw data = {data}/rgw
crash dir = {data}/run
log file =
mon cluster log file =
log to stderr = true

# There are no keys: whoever reaches the monitor may do anything. Where there are none nothing can be encrypted.
auth cluster required = none
auth service required = none
auth client required = none
auth allow insecure global id reclaim = true
ms mon client mode = crc

# One of each is enough, and how full the disk is concerns nothing that lies in memory.
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon data avail crit = 1
osd objectstore = memstore
memstore device bytes = 2147483648
osd memory target = 939524096

# Each step of the start is a change that the monitor makes, by itself one a second: it would take 14 seconds, not two.
paxos propose interval = 0.05
paxos min wait = 0.01

# Without this each answer waits 40 ms for an acknowledgement.
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw enable usage log = false
rgw relaxed s3 bucket names = false
"""


@dataclass(frozen=True, slots=True)
class RadosGW(S3):
    """An S3 endpoint that enforces signatures, and the credentials of its only account."""

    access_key_id: str = ACCESS_KEY_ID
    secret_access_key: str = SECRET_ACCESS_KEY

    def make_bucket(self) -> str:
        """The name of a new, empty bucket."""
        name = f"b-{uuid4().hex}"
        self.client().create_bucket(Bucket=name)
        return name

    def client(self) -> Any:
        """A client of boto3, for what is no business of lading: buckets, and their rules."""
        return import_module("boto3").client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
        )


class Cluster:
    """The three servers, and the programs that set them up."""

    def __init__(self, data: Path, port: int) -> None:
        self._data = data
        self._port = port
        self._servers: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start them all, on fresh data.

        Raises:
            RuntimeError: one of them has ended, or does not get ready.
        """
        v1, v2 = free_port(), free_port()
        for name in ("mon", "osd", "rgw", "run"):
            shutil.rmtree(self._data / name, ignore_errors=True)
            (self._data / name).mkdir()
        settings = SETTINGS.format(cluster=CLUSTER, v1=v1, v2=v2, port=self._port, data=self._data)
        (self._data / "conf").write_text(settings)
        self._start_monitor(v1, v2)
        self._start_store()
        self._start_gateway()

    def stop(self) -> None:
        """Kill them: what they hold ends with them anyway."""
        for server in reversed(self._servers):
            server.kill()
            server.wait()

    def _start_monitor(self, v1: int, v2: int) -> None:
        members, keys = str(self._data / "members"), str(self._data / "keyring")
        addresses = f"[v2:127.0.0.1:{v2},v1:127.0.0.1:{v1}]"
        run("monmaptool", "--create", "--clobber", "--fsid", CLUSTER, "--addv", "a", addresses, members)
        run("ceph-authtool", "--create-keyring", keys, "--gen-key", "--name", "mon.")
        self._run("ceph-mon", "--mkfs", "--id", "a", "--monmap", members, "--keyring", keys)
        self._serve("ceph-mon", "--id", "a")
        self._wait(lambda: listens(self._data, v1))

    def _start_store(self) -> None:
        name = str(uuid4())
        self._run("ceph", "osd", "create", name, "0")
        self._run("ceph-osd", "--id", "0", "--mkfs", "--osd-uuid", name)
        self._run("ceph", "osd", "crush", "add", "osd.0", "1.0", "root=default", "host=localhost")
        self._serve("ceph-osd", "--id", "0")
        self._wait(lambda: b"1 up" in self._run("ceph", "osd", "stat"))

    def _start_gateway(self) -> None:
        self._serve("radosgw", "--name", "client.rgw")
        self._wait(lambda: answers(self._port))
        keys = [f"--access-key={ACCESS_KEY_ID}", f"--secret-key={SECRET_ACCESS_KEY}"]
        self._run("radosgw-admin", "user", "create", "--uid=tests", "--display-name=tests", *keys)

    def _run(self, program: str, *arguments: str) -> bytes:
        return run(program, "--conf", f"{self._data}/conf", *arguments)

    def _serve(self, program: str, *arguments: str) -> None:
        # Whatever becomes of this process, its servers end with it.
        mortal = ["setpriv", "--pdeathsig", "KILL", program, "-f", "--conf", f"{self._data}/conf", *arguments]
        self._servers.append(subprocess.Popen(mortal))

    def _wait(self, is_ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not is_ready():
            for server in self._servers:
                if server.poll() is not None:
                    raise RuntimeError(f"{server.args!r} has ended")
            if time.monotonic() > deadline:
                raise RuntimeError("it does not get ready")
            time.sleep(0.05)


def answers(port: int) -> bool:
    """Whether a gateway listens there, and not somebody who took the port meanwhile: then the gateway ends."""
    connection = HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/")
        return connection.getresponse().getheader("x-amz-request-id") is not None
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def run(*arguments: str) -> bytes:
    """What a program prints."""
    return subprocess.run(arguments, check=True, stdout=subprocess.PIPE, timeout=START_SECONDS).stdout


def main(data: Path, port: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda *_: sys.exit())
    cluster = Cluster(data, port)
    try:
        cluster.start()
        (data / "ready").touch()
        signal.pause()
    finally:
        cluster.stop()


def installed() -> None:
    """All of it comes from Debian's packages, as `tests/services/install` says."""
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        raise Unavailable(f"Ceph is not installed ({', '.join(missing)}): make services")


def command(data: Path, port: int) -> list[str]:
    (data / "ready").unlink(missing_ok=True)
    root = Path(__file__).parents[2]
    return ["env", f"PYTHONPATH={root}", sys.executable, "-m", __name__, str(data), str(port)]


def ready(data: Path, port: int) -> bool:
    """The port opens before there is an account."""
    return (data / "ready").exists()


RECIPE = Recipe("radosgw", command, ready, installed)

if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
