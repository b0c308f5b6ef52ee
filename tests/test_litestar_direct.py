"""Direct uploads over HTTP: one client for every store, and what becomes of those who try something else."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from sqlalchemy import text

from lading.backends.obstore import ObstoreBackend
from lading.backends.protocols import StorageBackend
from lading.errors import ConfigurationError, NotSupported, StoreError
from lading.orm.outbox import ATTACHED, UPLOAD
from lading.testing import Fault, FaultyBackend, frozen_clock
from tests.backends.test_fsspec import on_s3 as on_s3_by_fsspec
from tests.backends.test_obstore import on_s3
from tests.direct import PNG, SECRET, House, sha256, storages
from tests.services.radosgw import RadosGW

HELD = timedelta(days=1, hours=1, seconds=1)
"""How long an upload that nobody attaches lies there at most, by default."""

STORES = ("memory", "local", "moto", "radosgw")


def make_backend(kind: str, request: pytest.FixtureRequest, folder: Path) -> ObstoreBackend:
    if kind == "memory":
        return ObstoreBackend("store", "memory://")
    if kind == "local":
        (folder / "store").mkdir()
        return ObstoreBackend("store", (folder / "store").as_uri())
    return on_s3(request.getfixturevalue("s3" if kind == "moto" else kind), key="store")


@pytest.fixture(params=STORES)
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    """The application on each kind of store."""
    yield from _house(make_backend(request.param, request, tmp_path), tmp_path)


@pytest.fixture(params=["memory", "local"])
def ours(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    """The application on stores that sign nothing."""
    yield from _house(make_backend(request.param, request, tmp_path), tmp_path)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """The application on one of these."""
    yield from _house(ObstoreBackend("store", "memory://"), tmp_path)


@pytest.fixture
def ceph(radosgw: RadosGW, tmp_path: Path) -> Iterator[House]:
    """The application on a store that enforces signatures."""
    yield from _house(on_s3(radosgw, key="store"), tmp_path)


def _house(backend: StorageBackend, folder: Path) -> Iterator[House]:
    storages.register_backend(backend)
    # These stores are sent to although they take headers that were not signed; but for the tests of just that.
    house = House(backend, folder, direct={"trust_endpoint": True})
    try:
        yield house
    finally:
        house.engine.dispose()
        storages.clear_backends()
        storages.signer = None


def refused(answer: httpx.Response, status: int, name: str) -> dict[str, Any]:
    """The problem document that an answer has to be."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status
    assert problem["type"] == (name if name == "about:blank" else f"urn:lading:problem:{name}")
    return problem


class TestTheWholeWay:
    def test_one_client_for_every_store(self, anywhere: House) -> None:
        """Ask, send, hand in, read: the same client does it on a laptop's stores and on S3."""
        with anywhere.serving() as client:
            asked = client.ask("Ümlaut.txt", 8, content_type="text/plain", checksum=sha256(b"uploaded"))
            ticket = asked.json()
            assert asked.status_code == 201
            assert ticket["method"] == "PUT"
            assert set(ticket) == {"id", "method", "url", "headers", "expires_at"}
            assert abs(ticket["expires_at"] - time.time() - 3600) < 60
            assert anywhere.stored() == []
            (waiting,) = anywhere.entries()
            assert waiting.startswith("uploads/")
            assert client.send(ticket, b"uploaded").status_code == 200
            assert anywhere.stored() == [waiting]
            attached = client.attach(ticket["id"])
            assert attached.status_code == 201, attached.text
            file = attached.json()["file"]
            assert (file["filename"], file["content_type"], file["size"]) == ("Ümlaut.txt", "text/plain", 8)
            assert file["checksum"] == sha256(b"uploaded")
            (url,) = attached.json()["urls"]
            assert client.get(url).content == b"uploaded"
            assert anywhere.stored() == sorted([waiting, file["path"]])
            assert anywhere.entries() == {waiting: ATTACHED}

    @pytest.mark.parametrize("path", ["/json", "/pydantic", "/form", "/urlencoded", "/msgpack", "/sync", "/saved"])
    def test_in_every_body(self, house: House, path: str) -> None:
        """An id is taken wherever a file would be: in JSON, forms and MessagePack, by async and sync handlers."""
        with house.serving() as client:
            told: dict[str, Any] = {
                "/form": lambda upload_id: {"files": {"file": (None, upload_id)}},
                "/urlencoded": lambda upload_id: {"data": {"file": upload_id}},
                "/msgpack": lambda upload_id: {"content": msgspec.msgpack.encode({"file": upload_id})},
            }
            body: Callable[[str], dict[str, Any]] = told.get(path, lambda upload_id: {"json": {"file": upload_id}})
            bobs = client.as_user("bob").upload("b.txt", b"another's")
            refused(client.post(path, **body(bobs)), 403, "invalid-token")
            refused(client.post(path, **body("nonsense")), 403, "invalid-token")
            answer = client.post(path, **body(client.upload("a.txt", b"one")))
            assert answer.status_code == 201, answer.text
            assert client.get(answer.json()["urls"][0]).content == b"one"
            refused(client.as_user("bob").post(path, **body(client.upload("a.txt", b"one"))), 403, "invalid-token")
            assert len(house.rows()) == 1

    @pytest.mark.parametrize("path", ["/json", "/pydantic", "/form", "/urlencoded", "/msgpack", "/sync", "/list"])
    def test_several(self, house: House, path: str) -> None:
        """A field for several files takes several ids, in their order."""
        contents = [b"one", b"two", b"three"]
        with house.serving() as client:
            ids = [client.upload("a.txt", content, "document.pages") for content in contents]
            told: dict[str, Any] = {
                "/form": {"files": [("pages", (None, upload_id)) for upload_id in ids]},
                "/urlencoded": {"data": {"pages": ids}},
                "/msgpack": {"content": msgspec.msgpack.encode({"pages": ids})},
                "/list": {"json": ids},
            }
            answer = client.post(path, **told.get(path, {"json": {"pages": ids}}))
            assert answer.status_code == 201, answer.text
            assert [client.get(url).content for url in answer.json()["urls"]] == contents

    def test_ids_and_files_in_one_form(self, house: House) -> None:
        """A form may send one file itself, and the id of another."""
        with house.serving() as client:
            files = [
                ("file", (None, client.upload("a.txt", b"uploaded"))),
                ("pages", ("b.txt", b"streamed")),
                ("pages", (None, client.upload("c.txt", b"uploaded, too", "document.pages"))),
            ]
            answer = client.post("/form", files=files)
            assert answer.status_code == 201, answer.text
            contents = [client.get(url).content for url in answer.json()["urls"]]
            assert contents == [b"uploaded", b"streamed", b"uploaded, too"]

    def test_a_large_one(self, anywhere: House) -> None:
        """What is larger than Litestar takes bodies is as large as its column allows."""
        content = bytes(range(256)) * 44 * 1024
        with anywhere.serving() as client:
            answer = client.attach(client.upload("a.bin", content))
            assert answer.status_code == 201, answer.text
            assert client.get(answer.json()["urls"][0]).content == content

    def test_an_empty_one(self, anywhere: House) -> None:
        """An empty file is a file."""
        with anywhere.serving() as client:
            answer = client.attach(client.upload("a.txt", b""))
            assert answer.status_code == 201, answer.text
            assert client.get(answer.json()["urls"][0]).content == b""

    def test_without_a_principal(self, house: House) -> None:
        """Where the application says not who a request is from, an id serves whoever has it."""
        house.direct["principal"] = None
        with house.serving() as client:
            upload_id = client.upload("a.txt", b"one")
            assert client.as_user("bob").attach(upload_id).status_code == 201

    def test_with_a_sync_engine(self, house: House) -> None:
        """The outbox may be that of a sync engine."""
        house.is_async = False
        with house.serving() as client:
            assert client.attach(client.upload("a.txt", b"one")).status_code == 201

    def test_through_us(self, ceph: House) -> None:
        """Where all goes through the application, the uploads do, too, and no client is told of the store."""
        ceph.options["urls"] = "proxy"
        with ceph.serving() as client:
            ticket = client.ask("a.txt", 3).json()
            assert ticket["url"].startswith("/files/uploads/")
            assert client.send(ticket, b"one").status_code == 200
            answer = client.attach(ticket["id"])
            assert answer.json()["urls"][0].startswith("/files/")
            assert client.get(answer.json()["urls"][0]).content == b"one"

    def test_a_store_that_signs_reads_alone(self, ceph: House) -> None:
        """Where the store's library signs no uploads, the application takes them itself; unless it must not."""
        signs_reads = FaultyBackend(ceph.backend, [Fault("sign", error=NotSupported("reads alone"))])
        storages.register_backend(signs_reads, replace=True)
        with ceph.serving() as client:
            ticket = client.ask("a.txt", 3).json()
            assert ticket["url"].startswith("/files/uploads/")
            assert client.send(ticket, b"one").status_code == 200
            assert client.attach(ticket["id"]).status_code == 201
        ceph.options["uploads"] = False
        signs_reads.plan = [Fault("sign", at=4, error=NotSupported("reads alone"))]  # not yet when it starts
        with ceph.serving() as client:
            assert client.ask("a.txt", 3).status_code == 500

    def test_only_one_column(self, house: House) -> None:
        """Where the application has one column for uploads, nobody has to name it."""
        from tests.direct import Document

        house.options["columns"] = [Document.file]
        with house.serving() as client:
            body = {"filename": "a.txt", "size": 3}
            assert client.post("/files/uploads", json=body).status_code == 201
            refused(client.ask("a.txt", 3, "document.pages"), 422, "mismatch")


class TestWhoMayAsk:
    def test_guards(self, house: House) -> None:
        """Who is not known or not allowed gets a problem document, and nothing is entered."""
        with house.serving() as client:
            nobody = client.as_user(None).ask("a.txt", 3)
            refused(nobody, 401, "about:blank")
            assert nobody.headers["www-authenticate"] == "x-user"
            refused(client.as_user("eve").ask("a.txt", 3), 403, "about:blank")
            assert house.entries() == {}

    @pytest.mark.parametrize(
        ("body", "evidence"),
        [
            (b"", ""),
            (b"{", ""),
            (b"[]", ""),
            (b"\xff", ""),
            (b'{"filename": "a.txt"}', "size"),
            (b'{"filename": "", "size": 1}', "filename"),
            (b'{"filename": "a.txt", "size": -1}', "size"),
            (b'{"filename": "a.txt", "size": 1.5}', "size"),
            (b'{"filename": 1, "size": 1}', "filename"),
            (b'{"filename": "a.txt", "size": 1, "content_type": 1}', "content_type"),
            (b'{"filename": "' + b"a" * 1025 + b'", "size": 1}', "filename"),
        ],
    )
    def test_bodies_that_are_none(self, house: House, body: bytes, evidence: str) -> None:
        """What is not asked for as described is a problem document with 400 that says what is wrong."""
        with house.serving() as client:
            headers = {"content-type": "application/json"}
            problem = refused(client.post("/files/uploads", content=body, headers=headers), 400, "about:blank")
            assert evidence in problem["detail"]
            assert house.entries() == {}

    @pytest.mark.parametrize(
        ("body", "status", "name"),
        [
            ({"filename": "a.txt", "size": 13 * 2**20}, 413, "too-large"),
            ({"filename": "a.txt", "size": 10**18}, 413, "too-large"),
            ({"filename": "a.txt", "size": 1, "policy": "document.image"}, 415, "type-not-allowed"),
            ({"filename": "a.html", "size": 1, "content_type": "image/png", "policy": "document.image"}, 415, None),
            ({"filename": "a.txt", "size": 1, "checksum": "md5:00"}, 422, "refused"),
            ({"filename": "a.txt", "size": 1, "policy": "document.id"}, 422, "mismatch"),
            ({"filename": "a.txt", "size": 1, "policy": ""}, 422, "mismatch"),
            ({"filename": "a.txt", "size": 1, "policy": None}, 422, "mismatch"),
        ],
    )
    def test_early_refusals(self, house: House, body: dict[str, Any], status: int, name: str | None) -> None:
        """What the column would refuse is refused before anything is sent, with the evidence."""
        with house.serving() as client:
            asked = client.post("/files/uploads", json={"policy": "document.file", **body})
            problem = refused(asked, status, name or "type-not-allowed")
            assert "limit" in problem
            assert house.entries() == {}

    def test_numbers_beyond_all(self, house: House) -> None:
        """A size that is no size of anything is refused, too."""
        with house.serving() as client:
            for size in (2**63, 2**64, 10**30):
                assert client.ask("a.txt", size).status_code in (400, 413)

    def test_a_lost_answer(self, house: House) -> None:
        """Who never learnt of an upload asks again; what was entered for the first goes in its time."""
        with frozen_clock() as clock, house.serving() as client:
            client.ask("a.txt", 3)
            assert client.attach(client.upload("a.txt", b"one")).status_code == 201
            assert sorted(house.entries().values()) == [ATTACHED, UPLOAD]
            clock.tick(HELD)
            house.sweep()
            assert (house.entries(), len(house.stored())) == ({}, 1)

    def test_a_database_that_fails(self, house: House) -> None:
        """Where an upload cannot be entered, nothing is given out."""
        with house.serving() as client:
            with house.engine.begin() as connection:
                connection.execute(text("ALTER TABLE lading_outbox RENAME TO gone"))
            answer = client.ask("a.txt", 3)
            assert answer.status_code == 500
            assert "uploads" not in answer.text

    def test_a_store_that_fails_to_sign(self, ceph: House) -> None:
        """Where the store signs nothing, the answer is 503 and says when to come again, and nothing of the store."""
        faulty = FaultyBackend(ceph.backend, [Fault("sign", error=StoreError)])
        storages.register_backend(faulty, replace=True)
        with ceph.serving() as client:
            answer = client.ask("a.txt", 3)
            problem = refused(answer, 503, "store-unavailable")
            assert "detail" not in problem
            assert answer.headers["retry-after"] == "5"
            assert list(ceph.entries().values()) == [UPLOAD]
            assert client.attach(client.upload("a.txt", b"one")).status_code == 201


class TestAtOurOwnEndpoint:
    def test_what_it_refuses(self, ours: House) -> None:
        """Method, size, type and checksum are those of the ticket, or nothing is stored."""
        with ours.serving() as client:
            ticket = client.ask("a.txt", 3, checksum=sha256(b"one")).json()
            other = ticket["url"][:-1] + ("A" if ticket["url"][-1] != "A" else "E")
            assert client.send(ticket, b"one", method="POST").status_code == 405
            assert client.send(ticket, b"one", method="GET").status_code == 405
            refused(client.send(ticket, b"one", url=other), 403, "invalid-token")
            refused(client.send(ticket, b"more"), 413, "too-large")
            assert refused(client.send(ticket, b"on"), 422, "mismatch")["limit"] == 3
            refused(client.send(ticket, b"two"), 422, "mismatch")
            refused(client.send(ticket, b"one", headers={"content-type": "text/html"}), 422, "mismatch")
            refused(client.send(ticket, b"one", url=f"/files/uploads/{ticket['id']}"), 403, "invalid-token")
            assert ours.stored() == []
            assert client.send(ticket, b"one").status_code == 200
            assert client.attach(ticket["id"]).status_code == 201

    def test_its_time(self, ours: House) -> None:
        """After its time an URL takes nothing any more, while the id serves as long as the upload is kept."""
        with frozen_clock() as clock, ours.serving() as client:
            sent, late = client.ask("a.txt", 3).json(), client.ask("a.txt", 3).json()
            assert client.send(sent, b"one").status_code == 200
            clock.tick(3600)
            refused(client.send(late, b"one"), 410, "expired-token")
            assert client.attach(sent["id"]).status_code == 201

    def test_the_rules_of_the_column(self, ours: House) -> None:
        """Bytes are what they are: a column for images takes no page that was announced as one."""
        page = b"<!DOCTYPE html><script>alert(1)</script>"
        with ours.serving() as client:
            ticket = client.ask("a.png", len(page), "document.image").json()
            refused(client.send(ticket, page), 415, "type-not-allowed")
            assert ours.stored() == []
            assert client.attach(client.upload("a.png", PNG, "document.image"), name="image").status_code == 201

    def test_without_a_login(self, house: House) -> None:
        """The URL is the permission; and guards of the application may ask for more."""
        with house.serving() as client:
            ticket = client.ask("a.txt", 3).json()
            assert client.as_user(None).send(ticket, b"one").status_code == 200
        from tests.direct import known

        house.options["upload_guards"] = [known]
        with house.serving() as client:
            refused(client.send(ticket, b"one"), 401, "about:blank")
            assert client.send(ticket, b"one", headers={"x-user": "ann"}).status_code == 200


class TestServersThatTakeMore:
    """Amazon's refuses headers that a URL was not signed for; other servers of the S3 protocol copy by one of them."""

    @pytest.fixture(params=["moto", "radosgw"])
    def server(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
        yield from _house(make_backend(request.param, request, tmp_path), tmp_path)

    @pytest.mark.parametrize("trusted", [True, False])
    def test_another_object(self, server: House, trusted: bool) -> None:
        """Whoever trusts such a server gives its clients every object whose path they know; by default nobody gets any.

        The first half is a fact about these servers: when it fails, one has mended its ways, and the documentation is
        to be rewritten.
        """
        secret = b"what ann has written, and nobody else may read"
        server.direct["trust_endpoint"] = trusted
        store: Any = server.backend
        with server.serving() as client:
            path = client.attach(client.upload("a.txt", secret)).json()["file"]["path"]
            mallory = client.as_user("mallory")
            ticket = mallory.ask("mine.txt", len(secret)).json()
            source = f"/{store.store.config['bucket']}/{store.store.prefix}/{path}".replace("//", "/")
            copying = {"x-amz-copy-source": source, "x-amz-metadata-directive": "REPLACE"}
            sent = mallory.send(ticket, b"" if trusted else b"x" * len(secret), headers=copying)
            assert sent.status_code == 200, sent.text
            assert ticket["url"].startswith("http" if trusted else "/files/uploads/")
            (url,) = mallory.attach(ticket["id"]).json()["urls"]
            assert (mallory.get(url).content == secret) is trusted

    @pytest.mark.parametrize("kind", ["moto", "fsspec-moto", "radosgw"])
    def test_whose_bytes_come_through_us(self, request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> None:
        """Unless the application says that it knows better, they go through its own endpoint, which looks at them."""
        backend: StorageBackend = on_s3_by_fsspec(request.getfixturevalue("s3"), key="store")
        if "fsspec" not in kind:
            backend = make_backend(kind, request, tmp_path)
        for house in _house(backend, tmp_path):
            house.direct.clear()
            with house.serving() as client:
                ticket = client.ask("a.txt", 3).json()
                refused(client.send(ticket, b"more"), 413, "too-large")
                assert client.send(ticket, b"one").status_code == 200
                answer = client.attach(ticket["id"])
                assert client.get(answer.json()["urls"][0]).content == b"one"

    @pytest.mark.parametrize("where", ["nowhere", "in an option", "in the environment"])
    async def test_amazons(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str) -> None:
        """What goes to Amazon's S3 goes there straight, if no endpoint is said, wherever that might have been."""
        other = "https://s3.example"
        if where == "in the environment":
            monkeypatch.setenv("AWS_ENDPOINT_URL", other)
        options: dict[str, Any] = {"aws_endpoint": other} if where == "in an option" else {}
        account: dict[str, Any] = {
            "aws_access_key_id": "id",
            "aws_secret_access_key": "secret",
            "aws_region": "eu-central-1",
        }
        for house in _house(ObstoreBackend("store", "s3://bucket", **account, **options), tmp_path):
            house.direct.clear()
            with house.serving() as client:
                url = client.ask("a.txt", 3).json()["url"]
                assert (httpx.URL(url).host == "s3.eu-central-1.amazonaws.com") is (where == "nowhere")
                assert url.startswith("/files/uploads/") is (where != "nowhere")

    async def test_where_the_application_takes_none(self, server: House) -> None:
        """An application that serves no uploads itself does not start on such a server that it does not trust."""
        server.options["uploads"] = False
        async with server.app().lifespan():
            pass
        server.direct.clear()
        with pytest.raises(ExceptionGroup) as caught:
            async with server.app().lifespan():
                pass
        (error,) = caught.value.exceptions
        assert isinstance(error, ConfigurationError)
        assert "trust_endpoint" in str(error)


class TestAtAStoreThatChecks:
    def test_what_it_refuses(self, ceph: House) -> None:
        """The store takes that method at that key in that time, and nothing else."""
        ceph.direct["expires_in"] = 3
        with ceph.serving() as client:
            ticket = client.ask("a.txt", 3).json()
            url = ticket["url"]
            tried = {
                "another key": url.replace("/uploads/", "/uploads/x"),
                "out of the prefix": url.replace("/some/prefix/uploads/", "/"),
                "another signature": url[:-1] + ("0" if url[-1] != "0" else "1"),
                "a longer life": url.replace("X-Amz-Expires=3&", "X-Amz-Expires=3600&"),
                "no signature": url.partition("?")[0],
            }
            for change, other in tried.items():
                assert other != url, change
                assert client.send(ticket, b"one", url=other).status_code == 403, change
            for method in ("GET", "HEAD", "POST", "DELETE"):
                assert client.send(ticket, b"one", method=method).status_code == 403, method
            time.sleep(4.1)
            assert client.send(ticket, b"one").status_code == 403
            assert ceph.stored() == []
            refused(client.attach(ticket["id"]), 409, "not-uploaded")

    def test_cross_origin(self, ceph: House, radosgw: RadosGW) -> None:
        """With the rule that the documentation gives, a browser may send to the store from the application's pages."""
        rule = {
            "AllowedOrigins": ["https://app.example"],
            "AllowedMethods": ["PUT", "GET", "HEAD"],
            "AllowedHeaders": ["content-type", "content-disposition"],
            "ExposeHeaders": ["ETag"],
            "MaxAgeSeconds": 600,
        }
        store: Any = ceph.backend
        bucket = store.store.config["bucket"]
        radosgw.client().put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule]})
        with ceph.serving() as client:
            ticket = client.ask("a.txt", 3).json()
            asked = {"origin": "https://app.example", "access-control-request-method": "PUT"}
            asked["access-control-request-headers"] = ",".join(sorted(ticket["headers"]))
            preflight = client.send({**ticket, "headers": asked}, b"", method="OPTIONS")
            assert preflight.status_code == 200
            assert preflight.headers["access-control-allow-origin"] == "https://app.example"
            assert "PUT" in preflight.headers["access-control-allow-methods"]
            assert set(preflight.headers["access-control-allow-headers"].split(",")) == set(ticket["headers"])
            theirs = client.send(
                {**ticket, "headers": {**asked, "origin": "https://evil.example"}}, b"", method="OPTIONS"
            )
            assert theirs.status_code == 403
            sent = client.send(ticket, b"one", headers={"origin": "https://app.example"})
            assert (sent.status_code, sent.headers["access-control-allow-origin"]) == (200, "https://app.example")

    @pytest.mark.parametrize("header", ["content-type", "content-disposition", "x-amz-meta-by"])
    def test_headers_that_nobody_can_read(self, ceph: House, header: str) -> None:
        """What was sent with other headers than it had to be, readable or not, is refused."""
        with ceph.serving() as client:
            ticket = client.ask("a.txt", 3).json()
            assert client.send(ticket, b"one", headers={header: "ü".encode()}).status_code == 200
            refused(client.attach(ticket["id"]), 422, "mismatch")
            assert client.send(ticket, b"one").status_code == 200
            assert client.attach(ticket["id"]).status_code == 201


class TestAttaching:
    def test_not_uploaded_yet(self, anywhere: House) -> None:
        """An id of which nothing has come yet is 409; it is good as soon as it has."""
        with anywhere.serving() as client:
            ticket = client.ask("a.txt", 3).json()
            refused(client.attach(ticket["id"]), 409, "not-uploaded")
            client.send(ticket, b"one")
            assert client.attach(ticket["id"]).status_code == 201

    def test_only_once(self, anywhere: House) -> None:
        """An id serves once: a replay is 409, and leaves nothing."""
        with anywhere.serving() as client:
            upload_id = client.upload("a.txt", b"one")
            assert client.attach(upload_id).status_code == 201
            before = anywhere.stored()
            refused(client.attach(upload_id), 409, "used-token")
            refused(client.attach(upload_id, "/saved"), 409, "used-token")
            refused(client.attach(upload_id, "/sync"), 409, "used-token")
            assert (len(anywhere.rows()), anywhere.stored()) == (1, before)

    def test_twice_in_one_body(self, house: House) -> None:
        """Nor does one serve two fields, or two places of a list."""
        with house.serving() as client:
            upload_id = client.upload("a.txt", b"one", "document.pages")
            refused(client.post("/json", json={"pages": [upload_id, upload_id]}), 409, "used-token")
            assert client.post("/json", json={"pages": [upload_id]}).status_code == 201

    def test_at_the_same_time(self, anywhere: House) -> None:
        """Of several that hand in one id at once, one gets the file."""
        with anywhere.serving() as client, ThreadPoolExecutor(6) as pool:
            upload_id = client.upload("a.txt", b"one")
            answers = list(pool.map(client.attach, [upload_id] * 6))
            assert sorted(answer.status_code for answer in answers) == [201, *[409] * 5]
            for answer in answers:
                if answer.status_code != 201:
                    refused(answer, 409, "used-token")
            (row,) = anywhere.rows()
            assert row.file is not None
            assert sorted(anywhere.stored()) == sorted([*anywhere.entries(), row.file.path])

    def test_of_another_column(self, house: House) -> None:
        """What was uploaded for one column is refused by another, whose rules it has never met."""
        with house.serving() as client:
            upload_id = client.upload("a.png", PNG, "document.image")
            refused(client.attach(upload_id), 403, "invalid-token")
            refused(client.post("/json", json={"pages": [upload_id]}), 403, "invalid-token")
            assert len(house.stored()) == 1
            assert client.attach(upload_id, name="image").status_code == 201

    def test_of_somebody_else(self, anywhere: House) -> None:
        """An id serves whom it was given to."""
        with anywhere.serving() as client:
            upload_id = client.upload("a.txt", b"one")
            refused(client.as_user("bob").attach(upload_id), 403, "invalid-token")
            refused(client.as_user(None).attach(upload_id), 403, "invalid-token")
            assert client.attach(upload_id).status_code == 201

    def test_what_was_not_announced(self, ceph: House) -> None:
        """A store takes any bytes; what is not of the size, checksum and type that were announced comes to no row."""
        with ceph.serving() as client:
            ticket = client.ask("a.txt", 3).json()
            client.send(ticket, b"more")
            problem = refused(client.attach(ticket["id"]), 422, "mismatch")
            assert (problem["limit"], problem["actual"]) == (3, 4)
            ticket = client.ask("a.txt", 3, checksum=sha256(b"one")).json()
            client.send(ticket, b"two")
            refused(client.attach(ticket["id"]), 422, "mismatch")
            ticket = client.ask("a.png", 8, "document.image").json()
            client.send(ticket, b"<script>")
            refused(client.attach(ticket["id"], name="image"), 415, "type-not-allowed")
            ticket = client.ask("a.txt", 3).json()
            client.send(ticket, b"one", headers={"content-disposition": "inline", "content-type": "text/html"})
            refused(client.attach(ticket["id"]), 422, "mismatch")
            assert ceph.rows() == []
            assert ceph.stored() == sorted(set(ceph.stored()) & set(ceph.entries()))

    def test_a_row_that_was_not_committed(self, anywhere: House) -> None:
        """Where the row does not come about, the id is as good as before, and no copy is left."""
        with anywhere.serving() as client:
            upload_id = client.upload("a.txt", b"one")
            before = anywhere.stored()
            assert client.attach(upload_id, "/not-committed").status_code == 500
            assert (anywhere.stored(), list(anywhere.entries().values())) == (before, [UPLOAD])
            assert client.attach(upload_id).status_code == 201

    def test_overwritten_afterwards(self, anywhere: House) -> None:
        """Who still has the URL may write to it, and changes nothing that a row names."""
        with anywhere.serving() as client:
            ticket = client.ask("a.txt", 3).json()
            client.send(ticket, b"one")
            url = client.attach(ticket["id"]).json()["urls"][0]
            assert client.send(ticket, b"two").status_code == 200
            assert client.get(url).content == b"one"
            for row in anywhere.rows():
                assert row.file is not None
                row.file.verify()

    def test_its_time(self, anywhere: House) -> None:
        """What nobody has attached in time is deleted, and what was attached stays; the id is 410 by then."""
        with frozen_clock() as clock, anywhere.serving() as client:
            attached = client.attach(client.upload("a.txt", b"one")).json()["file"]["path"]
            forgotten = client.upload("b.txt", b"two")
            client.ask("c.txt", 5)
            clock.tick(timedelta(days=1))
            refused(client.attach(forgotten), 410, "expired-token")
            anywhere.sweep()
            assert len(anywhere.stored()) == 3
            clock.tick(timedelta(hours=1, seconds=1))
            anywhere.sweep()
            assert (anywhere.stored(), anywhere.entries()) == ([attached], {})

    def test_deleted_before_its_time(self, house: House) -> None:
        """An id that nothing waits for any more is 410, however long it would have lived, and leaves nothing."""
        with house.serving() as client:
            upload_id = client.upload("a.txt", b"one")
            with house.engine.begin() as connection:
                connection.execute(text("DELETE FROM lading_outbox"))
            refused(client.attach(upload_id), 410, "expired-token")
            refused(client.attach(upload_id, "/saved"), 410, "expired-token")
            assert len(house.stored()) == 1

    def test_tampered(self, house: House) -> None:
        """What is altered, made for something else, or none of ours, is 403."""
        with house.serving() as client:
            ticket = client.ask("a.txt", 3).json()
            client.send(ticket, b"one")
            upload_id = ticket["id"]
            for other in (
                upload_id[:-1],
                upload_id + "A",
                upload_id.swapcase(),
                "A" + upload_id,
                upload_id[::-1],
                ticket["url"].rpartition("/")[2],
                "x.y",
            ):
                refused(client.attach(other), 403, "invalid-token")
            url = client.attach(upload_id).json()["urls"][0]
            refused(client.attach(url.split("/")[2]), 403, "invalid-token")

    def test_keys_that_are_taken_out(self, house: House) -> None:
        """Ids of a key are good while the application has that key, whichever signs; without it they are 403."""
        house.options["secret"] = {"a": SECRET}
        with house.serving() as client:
            first, second = client.upload("a.txt", b"one"), client.upload("a.txt", b"two")
        house.options["secret"] = {"b": "a secret of another length", "a": SECRET}
        with house.serving() as client:
            assert client.attach(first).status_code == 201
            third = client.upload("a.txt", b"three")
        house.options["secret"] = {"b": "a secret of another length"}
        with house.serving() as client:
            refused(client.attach(second), 403, "invalid-token")
            assert client.attach(third).status_code == 201

    def test_a_column_that_takes_none_any_more(self, house: House) -> None:
        """When a column is taken off the application's list, its ids are refused."""
        from tests.direct import Document

        with house.serving() as client:
            ticket = client.ask("a.txt", 3).json()
            client.send(ticket, b"one")
        house.options["columns"] = [Document.image]
        with house.serving() as client:
            refused(client.attach(ticket["id"]), 403, "invalid-token")
            refused(client.send(ticket, b"one"), 403, "invalid-token")
