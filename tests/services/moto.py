"""S3 by moto: right for behaviour; it checks no signature, expiry or policy, so it proves nothing about signing."""

import sys
import urllib.request
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

from tests.services.process import Recipe, Unavailable, listens


@dataclass(frozen=True, slots=True)
class S3:
    """An S3 endpoint and the credentials that it takes."""

    endpoint: str
    access_key_id: str = "lading"
    secret_access_key: str = "lading-secret"
    region: str = "us-east-1"

    def make_bucket(self) -> str:
        """The name of a new, empty bucket."""
        name = f"b-{uuid4().hex}"
        request = urllib.request.Request(f"{self.endpoint}/{name}", method="PUT")
        urllib.request.urlopen(request, timeout=30).close()
        return name


def installed() -> None:
    """The server's own dependencies come with the extras of moto that the test group asks for."""
    if find_spec("moto") is None or find_spec("flask") is None:
        raise Unavailable("moto[s3,server] is not installed: make test installs it")


def command(data: Path, port: int) -> list[str]:
    return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]


RECIPE = Recipe("moto", command, listens, installed)
