"""A running example, and its page in a browser as a person finds their way in it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import httpx
from playwright.sync_api import FilePayload, Locator, Page, expect

from tests.services.moto import S3

SERVE = Path(__file__).resolve().parents[2] / "examples" / "documents" / "serve.py"
OpenPage: TypeAlias = Callable[..., Page]

expect.set_options(timeout=15_000)


@dataclass(frozen=True)
class Demo:
    """A running example.

    Attributes:
        address: where it listens.
        files: where its store is, on local disk.
    """

    address: str
    files: Path

    def documents(self) -> list[Any]:
        answer = httpx.get(f"{self.address}/documents?pageSize=1000&currentPage=1").raise_for_status()
        return list(answer.json()["items"])

    def clear(self) -> None:
        for item in self.documents():
            httpx.delete(f"{self.address}/documents/{item['id']}").raise_for_status()

    def objects(self) -> list[int]:
        """The sizes of all that lies in the store on local disk, also of what is being written."""
        return sorted(path.stat().st_size for path in self.files.rglob("*") if path.is_file())


def on_bucket(server: S3, bucket: str) -> dict[str, str]:
    """The environment of an example on S3."""
    return {
        "LADING_EXAMPLE_STORE": f"s3://{bucket}/documents",
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_ACCESS_KEY_ID": server.access_key_id,
        "AWS_SECRET_ACCESS_KEY": server.secret_access_key,
        "AWS_REGION": server.region,
        "LADING_EXAMPLE_TRUST_ENDPOINT": "1",
    }


@contextmanager
def running(data: Path, environment: dict[str, str] | None = None) -> Iterator[Demo]:
    """The example as a process that keeps its data there."""
    said = {"LADING_EXAMPLE_DATA": str(data), "LADING_EXAMPLE_STORE": "", **(environment or {})}
    command = [sys.executable, str(SERVE), "--port", "0"]
    with subprocess.Popen(command, env=os.environ | said, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield Demo(server.stdout.readline().strip().removeprefix("Documents: "), data / "files")
        finally:
            server.terminate()


def sent(name: str, content: bytes) -> FilePayload:
    """A file as a person chooses it."""
    return {"name": name, "mimeType": "", "buffer": content}


def loaded(path: Path) -> FilePayload:
    return sent(path.name, path.read_bytes())


def pick(page: Page, *files: FilePayload) -> None:
    page.get_by_label("Choose files").set_input_files(files)


def count(page: Page) -> Locator:
    return page.locator("#count")


def rows(page: Page) -> Locator:
    return page.get_by_role("list", name="Documents").get_by_role("listitem")


def row(page: Page, name: str) -> Locator:
    return rows(page).filter(has_text=name)


def transfers(page: Page) -> Locator:
    return page.get_by_role("list", name="Uploads").get_by_role("listitem")


def transfer(page: Page, name: str) -> Locator:
    return transfers(page).filter(has_text=name)


def said(page: Page) -> Locator:
    """What a screen reader is told."""
    return page.get_by_role("log")


def slowly(page: Page, rate: int) -> None:
    """Let uploads take their time, in bytes a second; 0 is as fast as can be."""
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    limits = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": rate or -1}
    session.send("Network.emulateNetworkConditions", limits)


def wait_until(is_so: Callable[[], bool]) -> None:
    """Ask again and again, for 15 seconds at most."""
    deadline = time.monotonic() + 15
    while not is_so():
        assert time.monotonic() < deadline, "it does not become so"
        time.sleep(0.02)
