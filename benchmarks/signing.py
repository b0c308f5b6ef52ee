"""Signed URLs: checking one, making one, and a page of a hundred, against what that takes at the least."""

import base64
import hmac
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast
from urllib.parse import quote

import msgspec
import obstore
from obstore.store import S3Store

from benchmarks.harness import Act, Result, compare
from lading import FileObject, Storages, sign_all, sign_all_async
from lading.backends.obstore import ObstoreBackend
from lading.paths import token
from lading.record import FileRecord
from lading.signer import Grant, UrlSigner
from lading.tokens import Tokens

TARGET = 20_000
"""Checks a second, at least."""

SECRET = "a secret of some length"
PAGE = 100


def results(*, quick: bool) -> Iterator[Result]:
    rounds, times = (3, 100) if quick else (101, 1000)
    bare = _Bare()
    for name, secrets in (("one secret", SECRET), ("a key id, of three", {"c": SECRET, "b": SECRET, "a": SECRET})):
        signer = UrlSigner(Tokens(secrets))
        url = signer.sign(_record(0), expires_in=3600)
        checked = _each(
            f"check a URL, {name}", _times(times, signer.read, url.split("/")[2]), bare.checks(times), rounds, times
        )
        yield checked
        yield _at_least(checked)
    record = _record(0)
    signer = UrlSigner(Tokens(SECRET))
    yield _each(
        "sign a URL",
        _times(times, lambda each: signer.sign(each, expires_in=3600), record),
        bare.signs(times),
        rounds,
        times,
    )
    yield from _pages(bare, rounds)


def _pages(bare: "_Bare", rounds: int) -> Iterator[Result]:
    """A page as a handler has it: files whose records were loaded."""
    storages = Storages()
    storages.register_backend("memory://", key="memory")
    storages.register_backend(ObstoreBackend("s3", "s3://bucket/", **cast("Any", _S3)))
    storages.signer = UrlSigner(Tokens(SECRET))
    memory, s3 = (
        [FileObject.from_dict(_record(number, key).to_dict(), storages=storages) for number in range(PAGE)]
        for key in ("memory", "s3")
    )
    store = S3Store("bucket", **cast("Any", _S3))
    paths = [file.path for file in s3]

    async def in_coroutines(_: object) -> object:
        return await sign_all_async(memory)

    async def s3_in_coroutines(_: object) -> object:
        return await sign_all_async(s3)

    def by_obstore(_: object) -> object:
        return [obstore.sign(store, "GET", path, timedelta(hours=1)) for path in paths]

    async def by_obstore_in_coroutines(_: object) -> object:
        return [await obstore.sign_async(store, "GET", path, timedelta(hours=1)) for path in paths]

    # What is async comes first: a process that ends right after a call of obstore may abort (pyo3-async-runtimes, #40).
    yield compare(
        f"a page of {PAGE}, S3's, async, against obstore", s3_in_coroutines, by_obstore_in_coroutines, rounds=rounds
    )
    yield compare(f"a page of {PAGE}, S3's, against obstore", lambda _: sign_all(s3), by_obstore, rounds=rounds)
    signed = bare.signs(PAGE)
    yield compare(f"a page of {PAGE}, ours, async", in_coroutines, signed, rounds=rounds)
    yield compare(f"a page of {PAGE}, ours", lambda _: sign_all(memory), signed, rounds=rounds)


class _Bare:
    """HMAC, base64 and MessagePack, and nothing that knows of errors, purposes, several secrets or names."""

    def __init__(self) -> None:
        self._key = b"k" * 32
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(tuple[int, Grant]).decode
        record = _record(0)
        self._grant = Grant(
            record.backend, record.path, record.filename, record.content_type, record.size, 1.5, '"e"', 2e9
        )

    def checks(self, times: int) -> Act:
        return _times(times, self._check, self._sign("a.pdf").split("/")[2])

    def signs(self, times: int) -> Act:
        return _times(times, self._sign, "Bericht für März.pdf")

    def _sign(self, name: str) -> str:
        body = base64.urlsafe_b64encode(self._encode((int(time.time()) + 3600, self._grant))).rstrip(b"=")
        signature = base64.urlsafe_b64encode(hmac.digest(self._key, body, "sha256")).rstrip(b"=")
        return f"/files/{body.decode()}.{signature.decode()}/{quote(name)}"

    def _check(self, given: str) -> Grant:
        body, _, signature = given.encode().partition(b".")
        expected = base64.urlsafe_b64encode(hmac.digest(self._key, body, "sha256")).rstrip(b"=")
        assert hmac.compare_digest(signature, expected)
        expires_at, grant = self._decode(base64.urlsafe_b64decode(body + b"=" * (-len(body) % 4)))
        assert time.time() < expires_at
        return grant


_S3 = {
    "aws_endpoint": "http://127.0.0.1:1",
    "aws_access_key_id": "a",
    "aws_secret_access_key": "b",
    "aws_region": "us-east-1",
}


def _times(times: int, act: Callable[[Any], object], given: object) -> Act:
    def run(_: object) -> None:
        for _ in range(times):
            act(given)

    return run


def _each(name: str, ours: Act, other: Act, rounds: int, times: int) -> Result:
    """So many at a time, and the result of one."""
    whole = compare(name, ours, other, rounds=rounds)
    assert whole.ours is not None
    assert whole.other is not None
    return replace(whole, ours=whole.ours / times, other=whole.other / times)


def _at_least(checked: Result) -> Result:
    """A number of checks a second, as the microseconds that one may take."""
    assert checked.ours is not None
    name = f"  microseconds of it: {1 / checked.ours:,.0f} a second"
    return Result(name, None, None, checked.ours * 1e6, 1e6 / TARGET)


def _record(number: int, backend: str = "memory") -> FileRecord:
    return FileRecord(
        backend=backend,
        path=f"{token()}.pdf",
        filename="Bericht für März.pdf",
        content_type="application/pdf",
        size=100_000 + number,
        last_modified=1_767_225_600.25 + number,
        checksum=f"sha256:{number:064x}",
        etag=f'"{number:032x}"',
    )
