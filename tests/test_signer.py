"""Signed URLs for stores that have none."""

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
import pytest

from lading.backends.protocols import LONGEST, Signer
from lading.errors import ConfigurationError, ExpiredToken, InvalidToken
from lading.record import FileRecord
from lading.signer import Grant, UploadGrant, UrlSigner
from lading.testing import frozen_clock
from lading.tokens import Tokens

SECRET = "a secret of some length"
RECORD = FileRecord(
    backend="local",
    path="2026/a.pdf",
    filename="Bericht für März.pdf",
    content_type="application/pdf",
    size=7,
    last_modified=1_700_000_000.5,
    checksum="sha256:ab",
    etag='"store"',
)


UPLOAD = UploadGrant(
    backend="local",
    path="uploads/a.png",
    filename="a.png",
    content_type="image/png",
    size=7,
    checksum="sha256:ab",
    policy="document.file",
    principal="ann",
    expires_at=1060.0,
)


def signer(secret: str = SECRET, path: str = "/files", base_url: str | None = None, **options: Any) -> UrlSigner:
    return UrlSigner(Tokens(secret), path, base_url=base_url, **options)


def granted(**overrides: Any) -> Grant:
    """What a URL that is signed with these grants."""
    return signer().read(token_of(signer().sign(RECORD, expires_in=60, **overrides)))


def token_of(url: str) -> str:
    return urlsplit(url).path.split("/")[-2]


def test_a_url_grants_what_was_signed() -> None:
    """The token of a URL gives back all that is needed to serve the file, and until when."""
    before = time.time()
    grant = signer().read(token_of(signer().sign(RECORD, expires_in=60)))
    assert before + 60 <= grant.expires_at <= time.time() + 60
    assert grant == Grant(
        "local",
        "2026/a.pdf",
        "Bericht für März.pdf",
        "application/pdf",
        7,
        1_700_000_000.5,
        '"sha256:ab"',
        grant.expires_at,
    )


def test_a_url_reads_well() -> None:
    """A URL ends in the file's name, and is relative unless a base is given."""
    url = signer().sign(RECORD, expires_in=60)
    assert url.startswith("/files/")
    assert unquote(url.rpartition("/")[2]) == RECORD.filename
    assert url.isascii()
    absolute = signer(base_url="https://example.org/app/").sign(RECORD, expires_in=60)
    assert absolute.startswith("https://example.org/app/files/")


def test_a_name_stays_one_segment() -> None:
    """A name with separators or dots alone makes no further segments of the URL."""
    for filename in ("a/b.pdf", "..", "a?b#c.pdf", "", "\\\\x"):
        record = FileRecord(backend="local", path="p", filename=filename)
        parts = urlsplit(signer().sign(record, expires_in=60))
        assert len(parts.path.split("/")) == 4
        assert parts.path.split("/")[-1] not in ("", ".", "..")
        assert not parts.query
        assert not parts.fragment


def test_expired() -> None:
    """A token is refused from its expiry on, and the refusal says since when."""
    with frozen_clock(1000) as frozen:
        token = token_of(signer().sign(RECORD, expires_in=60))
        frozen.tick(59.999)
        assert signer().read(token).expires_at == 1060
        frozen.tick(0.001)
        with pytest.raises(ExpiredToken) as caught:
            signer().read(token)
        assert caught.value.expired_at == 1060


def test_every_altered_character_is_refused() -> None:
    """Whichever character of a token is changed, it is no longer good."""
    token = token_of(signer().sign(RECORD, expires_in=60))
    for index, character in enumerate(token):
        altered = token[:index] + ("A" if character != "A" else "B") + token[index + 1 :]
        with pytest.raises(InvalidToken):
            signer().read(altered)


def test_a_token_of_another_secret_or_path_is_refused() -> None:
    """Two registries that share a secret do not serve each other's files."""
    token = token_of(signer().sign(RECORD, expires_in=60))
    for other in (signer("another secret of some length"), signer(path="/media")):
        with pytest.raises(InvalidToken):
            other.read(token)
    assert signer(base_url="https://example.org").read(token).path == RECORD.path


def test_a_token_of_another_key_is_refused() -> None:
    """When the id of a key is taken out, its URLs, uploads and ids end with it."""
    both, new = UrlSigner(Tokens({"old": SECRET, "new": SECRET})), UrlSigner(Tokens({"new": SECRET}))
    with frozen_clock(1000):
        download, upload = both.sign(RECORD, expires_in=60), both.sign_upload(UPLOAD)
        assert download.startswith("/files/old.")
        for read, token in (
            (new.read, token_of(download)),
            (new.read_upload, upload.rpartition("/")[2]),
            (new.read_id, both.sign_id(UPLOAD)),
        ):
            with pytest.raises(InvalidToken):
                read(token)


class TestOverrides:
    def test_none(self) -> None:
        """Without overrides a URL serves what the record says, and leaves the disposition to the type."""
        grant = granted()
        assert (grant.filename, grant.content_type) == (RECORD.filename, RECORD.content_type)
        assert (grant.disposition, grant.overrides) == (None, False)

    def test_all(self) -> None:
        """A URL may give a file another name, another type and a disposition; all else is the record's."""
        grant = granted(filename="Q1.txt", disposition="attachment", content_type="text/plain")
        assert (grant.filename, grant.content_type, grant.disposition) == ("Q1.txt", "text/plain", "attachment")
        plain = msgspec.structs.replace(granted(), expires_at=grant.expires_at)
        assert plain == msgspec.structs.replace(
            grant,
            filename=RECORD.filename,
            content_type=RECORD.content_type,
            disposition=None,
            overrides=False,
        )

    @pytest.mark.parametrize("override", [{"filename": "a"}, {"disposition": "inline"}, {"content_type": "text/plain"}])
    def test_each_is_told(self, override: dict[str, str]) -> None:
        """Of each override the grant says that the object is not served as the store would."""
        assert granted(**override).overrides

    def test_the_name_is_sanitised(self) -> None:
        """A name that is given is made fit to be shown, and ends the URL."""
        url = signer().sign(RECORD, expires_in=60, filename='../../a\r\nSet-Cookie: x="\u202efdp.exe')
        assert unquote(url.rpartition("/")[2]) == 'aSet-Cookie: x="fdp.exe'
        assert signer().read(token_of(url)).filename == 'aSet-Cookie: x="fdp.exe'
        assert granted(filename="").filename == "unnamed"

    def test_the_name_of_a_record_is_sanitised_too(self) -> None:
        """A record that somebody else has written may hold any name; what is granted is fit to be shown."""
        record = FileRecord(backend="local", path="p", filename="../a\nb")
        assert signer().read(token_of(signer().sign(record, expires_in=60))).filename == "ab"

    @pytest.mark.parametrize(
        ("given", "served"),
        [
            ("Text/HTML; charset=utf-8", "text/html"),
            ("application/javascript", "text/javascript"),
            ("image/x-icon", "image/vnd.microsoft.icon"),
        ],
    )
    def test_the_type_is_the_canonical_one(self, given: str, served: str) -> None:
        """A type that is given gets the one name by which active content is known, without parameters."""
        assert granted(content_type=given).content_type == served

    @pytest.mark.parametrize("content_type", ["", "text", "text/*", "a/b/c", "text/plain\r\nX: y", "é/é", " / "])
    def test_what_is_no_type(self, content_type: str) -> None:
        """What is no media type is refused, not sent."""
        with pytest.raises(ConfigurationError, match="no media type"):
            signer().sign(RECORD, expires_in=60, content_type=content_type)

    @pytest.mark.parametrize("disposition", ["", "Inline", "form-data", 'inline; filename="x"'])
    def test_what_is_no_disposition(self, disposition: Any) -> None:
        """Only the two dispositions that browsers know are taken."""
        with pytest.raises(ConfigurationError, match="'inline' or 'attachment'"):
            signer().sign(RECORD, expires_in=60, disposition=disposition)


class TestLongest:
    @pytest.mark.parametrize("expires_in", [0, -1, 601, float("nan"), float("inf")])
    def test_out_of_range(self, expires_in: Any) -> None:
        """No URL is good for less than a second, or for longer than the signer allows."""
        short = signer(longest=600)
        for sign in (short.sign, short.sign_put):
            with pytest.raises(ConfigurationError, match="from 1 to 600 seconds"):
                sign(RECORD, expires_in=expires_in)
        with frozen_clock(1000), pytest.raises(ConfigurationError, match="from 1 to 600 seconds"):
            short.sign_upload(msgspec.structs.replace(UPLOAD, expires_at=1000 + expires_in))

    def test_the_ends_of_the_range(self) -> None:
        """A second, and as long as the signer allows, are allowed."""
        with frozen_clock(1000):
            for seconds in (1, 600):
                short = signer(longest=600)
                assert short.read(token_of(short.sign(RECORD, expires_in=seconds))).expires_at == 1000 + seconds
                assert short.read_upload(short.sign_put(RECORD, expires_in=seconds).rpartition("/")[2])

    @pytest.mark.parametrize("longest", [0, -1, LONGEST + 1])
    def test_no_longer_than_stores_allow(self, longest: int) -> None:
        """The limit itself is from a second to seven days, so that URLs of stores can keep it."""
        with pytest.raises(ConfigurationError, match="from 1 to 604800"):
            signer(longest=longest)
        assert signer().longest == LONGEST

    def test_ids_last_longer(self) -> None:
        """An id may be good for longer than any URL: uploads wait for it."""
        with frozen_clock(1000) as frozen:
            waiting = msgspec.structs.replace(UPLOAD, expires_at=1000.0 + 30 * 24 * 3600)
            upload_id = signer(longest=60).sign_id(waiting)
            frozen.tick(29 * 24 * 3600)
            assert signer().read_id(upload_id) == waiting


class TestUploads:
    def test_a_url_grants_what_was_signed(self) -> None:
        """The token of an upload gives back where it goes, and all that it must be."""
        with frozen_clock(1000):
            url = signer(base_url="https://example.org").sign_upload(UPLOAD)
            assert url.startswith("https://example.org/files/uploads/")
            assert signer().read_upload(url.rpartition("/")[2]) == UPLOAD

    def test_an_id_stands_for_it(self) -> None:
        """An id gives back the same, and both end when the grant does."""
        with frozen_clock(1000) as frozen:
            url, upload_id = signer().sign_upload(UPLOAD), signer().sign_id(UPLOAD)
            assert signer().read_id(upload_id) == UPLOAD
            frozen.tick(59.999)
            assert signer().read_upload(url.rpartition("/")[2]) == signer().read_id(upload_id)
            frozen.tick(0.001)
            for read, token in ((signer().read_upload, url.rpartition("/")[2]), (signer().read_id, upload_id)):
                with pytest.raises(ExpiredToken):
                    read(token)

    def test_a_put_of_anything(self) -> None:
        """A URL for a plain upload says where the object goes, and lets it be anything."""
        with frozen_clock(1000):
            grant = signer().read_upload(signer().sign_put(RECORD, expires_in=60).rpartition("/")[2])
        assert grant == UploadGrant("local", RECORD.path, RECORD.filename, None, None, None, None, None, 1060)

    def test_no_kind_passes_for_another(self) -> None:
        """A download, an upload and an id are three kinds of token, also of the same path and secret."""
        with frozen_clock(1000):
            tokens = {
                "read": token_of(signer().sign(RECORD, expires_in=60)),
                "read_upload": signer().sign_upload(UPLOAD).rpartition("/")[2],
                "read_id": signer().sign_id(UPLOAD),
            }
            readers: dict[str, Callable[[str], object]] = {name: getattr(signer(), name) for name in tokens}
            for name, token in tokens.items():
                for other, read in readers.items():
                    if other == name:
                        assert read(token)
                    else:
                        with pytest.raises(InvalidToken):
                            read(token)

    def test_of_another_path(self) -> None:
        """What one registry lets somebody write, another does not."""
        with frozen_clock(1000):
            token, upload_id = signer().sign_upload(UPLOAD).rpartition("/")[2], signer().sign_id(UPLOAD)
            for read, sealed in (
                (signer(path="/media").read_upload, token),
                (signer(path="/media").read_id, upload_id),
            ):
                with pytest.raises(InvalidToken):
                    read(sealed)

    def test_any_change_is_refused(self) -> None:
        """Whichever character of an upload's token or id is changed, it is no longer good."""
        with frozen_clock(1000):
            token, upload_id = signer().sign_upload(UPLOAD).rpartition("/")[2], signer().sign_id(UPLOAD)
            for read, sealed in ((signer().read_upload, token), (signer().read_id, upload_id)):
                for index, character in enumerate(sealed):
                    with pytest.raises(InvalidToken):
                        read(sealed[:index] + ("A" if character != "A" else "B") + sealed[index + 1 :])


class TestConfiguration:
    def test_it_is_a_signer(self) -> None:
        """It is what a registry wants, and says whether it signs for every store."""
        assert isinstance(signer(), Signer)
        assert not signer().always
        assert signer(always=True).always

    @pytest.mark.parametrize("path", ["files", "", "//files", "/\\files", "/a b", "/a?b", "/a#b", "/ä", "/a\n", '/"'])
    def test_a_path_that_is_none(self, path: str) -> None:
        """A path begins with one slash, and has nothing in it that a URL would quote or end at."""
        with pytest.raises(ConfigurationError, match="begins with '/'"):
            signer(path=path)

    @pytest.mark.parametrize(
        "base_url",
        [
            "",
            "example.org",
            "//example.org",
            "ftp://example.org",
            "https://",
            "https://user@example.org",
            "https://example.org?a",
            "https://example.org/#a",
            "https://example.org\n",
            "https://exa mple.org",
            "https://müller.example",
            "https://example.org:port",
            "javascript:https://example.org",
        ],
    )
    def test_a_base_that_is_none(self, base_url: str) -> None:
        """A base is a scheme, a host and perhaps a path."""
        with pytest.raises(ConfigurationError, match="https://"):
            signer(base_url=base_url)

    @pytest.mark.parametrize(
        ("base_url", "host"),
        [
            ("https://Files.Example.org/app/", "files.example.org"),
            ("https://example.org:443", "example.org"),
            ("http://example.org:443", "example.org:443"),
            ("http://example.org:80/", "example.org"),
            ("http://my_service:8000", "my_service:8000"),
            ("http://[::1]:8000/x", "[::1]:8000"),
            (None, None),
        ],
    )
    def test_the_host_of_the_base(self, base_url: str | None, host: str | None) -> None:
        """The host is what a browser would say of it; a separate origin only where it is said to be one."""
        assert signer(base_url=base_url).origin_host == host
        assert signer(base_url=base_url).separate_origin is None
        if base_url is not None:
            assert signer(base_url=base_url, separate_origin=True).separate_origin == host

    def test_a_separate_origin_is_somewhere(self) -> None:
        """Without a base there is no origin to be separate."""
        with pytest.raises(ConfigurationError, match="base_url"):
            signer(separate_origin=True)
