"""Signed URLs for stores that have none."""

import time
from urllib.parse import unquote, urlsplit

import pytest

from lading.errors import ConfigurationError, ExpiredToken, InvalidToken, NotSupported
from lading.record import FileRecord
from lading.signer import Grant, UrlSigner
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


def signer(secret: str = SECRET, path: str = "/files", base_url: str | None = None) -> UrlSigner:
    return UrlSigner(Tokens(secret), path, base_url=base_url)


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
    token = token_of(signer().sign(RECORD, expires_in=-100))
    with pytest.raises(ExpiredToken) as caught:
        signer().read(token)
    assert caught.value.expired_at == pytest.approx(time.time() - 100, abs=10)


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


def test_no_uploads() -> None:
    """A URL for an upload is refused with what to do instead."""
    with pytest.raises(NotSupported, match="through the application"):
        signer().sign(RECORD, expires_in=60, for_upload=True)


def test_a_base_that_is_none() -> None:
    """A path without its slash and a base without its scheme are refused at once."""
    with pytest.raises(ConfigurationError, match="begins with '/'"):
        signer(path="files")
    with pytest.raises(ConfigurationError, match="https://"):
        signer(base_url="example.org")
