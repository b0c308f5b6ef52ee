"""Start the example in a directory of its own, drive it over HTTP with real files, stop it; exit 0 if all was right."""

import argparse
import base64
import contextlib
import hashlib
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

MB = 10**6

# 8 by 8 pixels of one colour.
JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABsSFBcUERsXFhceHBsgKEIrKCUlKFE6PTBCYFVlZF9VXVtqeJmBanGQc1tdhbWGkJ6jq62r"
    "Z4C8ybqmx5moq6T/2wBDARweHigjKE4rK06kbl1upKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSk"
    "pKT/wAARCAAIAAgDASIAAhEBAxEB/8QAFQABAQAAAAAAAAAAAAAAAAAAAAX/xAAUEAEAAAAAAAAAAAAAAAAAAAAA/8QAFQEBAQAAAAAA"
    "AAAAAAAAAAAAAwT/xAAUEQEAAAAAAAAAAAAAAAAAAAAA/9oADAMBAAIRAxEAPwCcAdG//9k="
)


# One channel of 16-bit samples, 44,100 a second.
PCM = (1, 1, 44_100, 88_200, 2, 16)


class Wrong(Exception):
    """The example did not do what it should; the message says what."""


@dataclass(frozen=True)
class Sample:
    """A file to send: what it is called, what it is, and where it lies."""

    name: str
    content_type: str
    path: Path

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    def digest(self) -> str:
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def read(self, start: int, stop: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(stop - start)


def pdf() -> bytes:
    """One empty page, with a cross-reference table that is right."""
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]>>",
    ]
    text, table = b"%PDF-1.4\n", b"0000000000 65535 f \n"
    for number, body in enumerate(objects, 1):
        table += b"%010d 00000 n \n" % len(text)
        text += b"%d 0 obj%sendobj\n" % (number, body)
    return text + b"xref\n0 4\n%strailer<</Size 4/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (table, len(text))


def samples(directory: Path, megabytes: int) -> Iterator[Sample]:
    small = [
        ("report.pdf", "application/pdf", pdf()),
        ("photo.jpg", "image/jpeg", JPEG),
        ("empty.txt", "text/plain", b""),
        ("季度报告 二〇二六.txt", "text/plain", "第一季度：一切顺利。\n".encode()),
    ]
    for number, (name, content_type, content) in enumerate(small):
        path = directory / f"{number}"
        path.write_bytes(content)
        yield Sample(name, content_type, path)
    noise = random.Random(0)
    path = directory / "big"
    size = megabytes * MB
    with path.open("wb") as file:
        file.write(struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", size + 36, b"WAVE", b"fmt ", 16, *PCM, b"data", size))
        for _ in range(megabytes):
            file.write(noise.randbytes(MB))
    yield Sample(f"{megabytes} MB of noise.wav", "audio/wav", path)


@contextlib.contextmanager
def running(data: Path) -> Iterator[tuple[str, int]]:
    """The address and the process id of a server that keeps its data there."""
    command = [sys.executable, str(Path(__file__).with_name("serve.py")), "--port", "0"]
    environment = os.environ | {"LADING_EXAMPLE_DATA": str(data)}
    with (data.parent / "log").open("w+") as log:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
        assert process.stdout is not None
        try:
            address = process.stdout.readline().strip().partition(": ")[2]
            if not address:
                process.wait(10)
                raise Wrong("the server did not start")
            yield address, process.pid
        except BaseException:
            log.seek(0)
            sys.stderr.write(log.read()[-4000:])
            raise
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()


class Memory:
    """The resident memory of a process, in bytes; none where the system has no /proc that tells."""

    def __init__(self, pid: int) -> None:
        self._process = Path("/proc") / str(pid)

    def start(self) -> int | None:
        """What it holds now; from here on the peak is counted anew."""
        try:
            (self._process / "clear_refs").write_text("5")
        except OSError:
            return None
        return self._read("VmRSS")

    def peak(self) -> int:
        return self._read("VmHWM")

    def _read(self, name: str) -> int:
        status = (self._process / "status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(name))


class Check:
    """One pass over the application with one client."""

    def __init__(self, client: httpx.Client, store: Path | None, memory: Memory) -> None:
        self.client = client
        self.store = store
        self.memory = memory

    def run(self, sample: Sample) -> str:
        """Take a file through its whole life; a line for the table."""
        before = self.objects()
        resting = self.memory.start()
        began = time.monotonic()
        with sample.path.open("rb") as file:
            created = self.send("POST", "/documents", sample.name, file, 201)
        uploaded = time.monotonic() - began
        grown = self.growth(resting, 64 * MB)
        path = f"/documents/{created['id']}"
        mine = self.objects() - before
        expect(self.store is None or len(mine) == 1, f"{sample.name}: {len(mine)} objects in the store, not 1")

        listed = self.listed(created["id"])
        for key, right in (
            ("name", sample.name),
            ("filename", sample.name),
            ("size", sample.size),
            ("content_type", sample.content_type),
        ):
            expect(listed[key] == right, f"{sample.name}: listed with the {key} {listed[key]!r}, not {right!r}")

        url = listed["file_url"]
        resting = self.memory.start()
        began = time.monotonic()
        self.download(url, sample)
        downloaded = time.monotonic() - began
        given = self.growth(resting, 64 * MB)
        self.ranges(url, sample)
        if url.startswith("/"):
            self.tampered(url)

        url = self.replaced(path, url, self.send("PATCH", path, "second edition.txt", b"the second edition", 200))
        expect(not mine & self.objects(), "the object that was replaced is still in the store")
        self.replaced(path, url, self.send_directly(path, sample))
        self.erased(path)
        expect(self.objects() == before, "the deleted object is still in the store")
        times = f"{uploaded:6.2f} s  {downloaded:6.2f} s"
        return f"{sample.size:>11,}  {sample.content_type:<25}{times} {grown:>10} {given:>10}  {sample.name}"

    def replaced(self, path: str, old: str, document: Any) -> str:
        """The URL of a document's new file; the old one must have gone."""
        expect(self.client.get(old).status_code == 404, "the object that was replaced is still served")
        shown = self.client.get(path).json()
        expect(shown["size"] == document["size"], "the replacement is not the document's")
        with self.client.stream("GET", shown["file_url"]) as answer:
            received = sum(len(chunk) for chunk in answer.iter_raw())
        expect(received == document["size"], f"the replacement has {received} bytes")
        return str(shown["file_url"])

    def erased(self, path: str) -> None:
        url = self.client.get(path).json()["file_url"]
        expect(self.client.delete(path).status_code == 204, "deleting fails")
        expect(self.client.get(path).status_code == 404, "the row is still there")
        expect(self.client.get(url).status_code == 404, "the deleted object is still served")

    def growth(self, resting: int | None, allowed: int) -> str:
        if resting is None:
            return "?"
        growth = max(0, self.memory.peak() - resting)
        expect(
            growth <= allowed, f"the server took {growth / MB:.0f} MB more memory, {allowed / MB:.0f} MB are allowed"
        )
        return f"{growth / MB:.0f} MB"

    def objects(self) -> set[Path]:
        """What is in the store, but for direct uploads: as long as their URLs are good they stay, for a sweep later."""
        if self.store is None:
            return set()
        uploads = self.store / "uploads"
        return {path for path in self.store.rglob("*") if path.is_file() and uploads not in path.parents}

    def send(self, method: str, path: str, name: str, content: Any, status: int) -> Any:
        answer = self.client.request(
            method, path, data={"name": name}, files={"file": (name, content, "application/octet-stream")}
        )
        expect(answer.status_code == status, f"{method} of {name!r}: {answer.status_code} {answer.text[:300]}")
        return answer.json()

    def send_directly(self, path: str, sample: Sample) -> Any:
        """Replace a document's file by one that goes straight to the store, or where that signs nothing to us."""
        ticket = self.answer("POST", "/files/uploads", 201, json={"filename": sample.name, "size": sample.size})
        headers = ticket["headers"] | {"content-length": str(sample.size)}
        with sample.path.open("rb") as file:
            put = self.client.request(ticket["method"], ticket["url"], headers=headers, content=file)
        expect(put.is_success, f"{put.status_code} to the direct upload of {sample.name!r}: {put.text[:300]}")
        return self.answer("PATCH", path, 200, files={"file": (None, ticket["id"])})

    def answer(self, method: str, path: str, status: int, **request: Any) -> Any:
        answer = self.client.request(method, path, **request)
        expect(answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        return answer.json()

    def listed(self, document_id: str) -> Any:
        items = {item["id"]: item for item in self.client.get("/documents").json()["items"]}
        expect(document_id in items, "the document is not listed")
        return items[document_id]

    def download(self, url: str, sample: Sample) -> None:
        digest = hashlib.sha256()
        with self.client.stream("GET", url) as answer:
            expect(answer.status_code == 200, f"{sample.name}: {answer.status_code} to its signed URL")
            for chunk in answer.iter_raw():
                digest.update(chunk)
        expect(digest.hexdigest() == sample.digest(), f"{sample.name}: other bytes came back")
        sent = answer.headers["content-type"].partition(";")[0]
        expect(sent == sample.content_type, f"{sample.name}: served as {sent}")

    def ranges(self, url: str, sample: Sample) -> None:
        if sample.size == 0:
            return
        start = sample.size // 2
        stop = min(start + 1000, sample.size)
        answer = self.client.get(url, headers={"range": f"bytes={start}-{stop - 1}"})
        right = (206, sample.read(start, stop), f"bytes {start}-{stop - 1}/{sample.size}")
        got = (answer.status_code, answer.content, answer.headers.get("content-range"))
        expect(got == right, f"{sample.name}: {answer.status_code} {got[2]} to a range")
        beyond = self.client.get(url, headers={"range": f"bytes={sample.size}-"})
        expect(beyond.status_code == 416, f"{sample.name}: {beyond.status_code} to a range beyond its end")

    def tampered(self, url: str) -> None:
        prefix, token, name = url.rsplit("/", 2)
        for at in (len(token) // 3, len(token) - 5):
            other = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
            status = self.client.get(f"{prefix}/{other}/{name}").status_code
            expect(status == 403, f"a tampered URL is answered with {status}")

    def refusal(self) -> None:
        """What the rules refuse leaves neither row nor object."""
        before = self.objects()
        refused = self.client.post(
            "/documents", data={"name": "x"}, files={"file": ("photo.png", b"#!/bin/sh\nexit\n")}
        )
        expect(refused.status_code == 415, f"a program is answered with {refused.status_code}")
        expect("not allowed" in refused.json()["detail"], f"a refusal says {refused.text}")
        expect(self.client.get("/documents").json()["total"] == 0, "a refused document is listed")
        expect(self.objects() == before, "a refused object is in the store")


def expect(right: bool, otherwise: str) -> None:
    if not right:
        raise Wrong(otherwise)


def check(megabytes: int) -> None:
    with tempfile.TemporaryDirectory(prefix="lading-check-") as name:
        directory = Path(name)
        for part in ("data", "sent"):
            (directory / part).mkdir()
        store = None if os.environ.get("LADING_EXAMPLE_STORE") else directory / "data" / "files"
        with running(directory / "data") as (address, pid), httpx.Client(base_url=address, timeout=120) as client:
            client.follow_redirects = True
            expect("<title>Documents</title>" in client.get("/").text, "there is no page")
            one = Check(client, store, Memory(pid))
            print("       size  type                       upload  download  memory up  and down  name")
            for sample in samples(directory / "sent", megabytes):
                print(one.run(sample), flush=True)
            one.refusal()
    print(
        "Each was uploaded, listed, downloaded whole and in part, replaced, sent directly and deleted; nothing is left."
    )


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--megabytes", type=int, default=200, help="size of the large file (default 200)")
    try:
        check(arguments.parse_args().megabytes)
    except (Wrong, httpx.HTTPError) as error:
        print(f"demo-check failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
