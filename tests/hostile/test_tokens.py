"""Tokens of every kind, altered in every way: none passes."""

import random
from collections.abc import Callable, Iterator

import pytest

from lading import clock
from lading.errors import ExpiredToken, InvalidToken
from lading.record import FileRecord
from lading.signer import UploadGrant, UrlSigner
from lading.tokens import Tokens
from tests.hostile.app import SECRET

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
OTHERS = ALPHABET + ".=+/~ \0\n\u0430\u212a\uff0eé%"
ALIKE = {"a": "а", "e": "е", "o": "ο", "K": "\u212a", ".": "．", "-": "‐", "_": "＿", "I": "l", "0": "O", "A": "Ａ"}


def mutations(token: str, others: list[str], seed: int) -> Iterator[str]:
    """One token altered at random in one of many ways, without end; never the token itself, nor one of the others."""
    chance = random.Random(seed)
    parts = token.split(".")

    def flipped() -> str:
        at, bit = chance.randrange(len(token)), 1 << chance.randrange(7)
        return token[:at] + chr(ord(token[at]) ^ bit) + token[at + 1 :]

    def replaced() -> str:
        at = chance.randrange(len(token))
        return token[:at] + chance.choice(OTHERS) + token[at + 1 :]

    def inserted() -> str:
        at = chance.randrange(len(token) + 1)
        return token[:at] + chance.choice(OTHERS) * chance.randint(1, 3) + token[at:]

    def removed() -> str:
        at = chance.randrange(len(token))
        return token[:at] + token[at + chance.randint(1, 8) :]

    def cut() -> str:
        return token[: chance.randrange(len(token))]

    def swapped() -> str:
        i, j = sorted(chance.sample(range(len(token)), 2))
        return token[:i] + token[j] + token[i + 1 : j] + token[i] + token[j + 1 :]

    def cased() -> str:
        at = chance.randrange(len(token))
        return token[:at] + token[at:].swapcase()

    def alike() -> str:
        at = chance.randrange(len(token))
        return token[:at] + "".join(ALIKE.get(letter, letter) for letter in token[at:])

    def crossed() -> str:
        other = chance.choice(others).split(".")
        return ".".join(chance.choice([mine, theirs]) for mine, theirs in zip(parts, other, strict=False))

    def rearranged() -> str:
        return ".".join(chance.choices([*parts, "", "a"], k=chance.randint(1, 4)))

    def padded() -> str:
        return ".".join(part + "=" * chance.randint(0, 3) for part in parts)

    def wrapped() -> str:
        return (
            chance.choice(["", " ", "\t", "\n", "\0", "a."]) + token + chance.choice(["", " ", "\n", "\0", ".", ".a"])
        )

    kinds: list[Callable[[], str]] = [
        *[flipped, replaced, inserted, removed, cut, swapped, cased, alike, crossed, rearranged, padded, wrapped],
        lambda: flipped()[:-1] + chance.choice(ALPHABET),
        lambda: "".join(chance.choices(ALPHABET, k=len(parts[0]))) + "." + parts[-1],
        lambda: parts[0] + "." + "".join(chance.choices(ALPHABET, k=43)),
    ]
    genuine = {token, *others}
    while True:
        if (altered := chance.choice(kinds)()) not in genuine:
            yield altered


def grant(**changes: object) -> UploadGrant:
    values = {
        "backend": "store",
        "path": "uploads/a.txt",
        "filename": "a.txt",
        "content_type": "text/plain",
        "size": 5,
        "checksum": None,
        "policy": "document.file",
        "principal": "ann",
        "expires_at": clock.now() + 600,
        **changes,
    }
    return UploadGrant(**values)  # type: ignore[arg-type]  # a test's shorthand


def last(url: str) -> str:
    return url.rsplit("/", 1)[1]


@pytest.mark.parametrize(
    "secret", [SECRET, {"key-1": SECRET, "key-2": "another secret, as long"}], ids=["bare", "keyed"]
)
def test_no_altered_token_is_read(secret: str | dict[str, str]) -> None:
    """Of 100,000 altered tokens, of downloads, uploads and ids, none is read as any of them."""
    signer = UrlSigner(Tokens(secret))
    record = FileRecord(backend="store", path="a.txt", filename="a.txt", content_type="text/plain", size=5)
    download = signer.sign(record, expires_in=600).split("/")[2]
    upload, attach = last(signer.sign_upload(grant())), signer.sign_id(grant())
    genuine = [download, upload, attach]
    read = [signer.read, signer.read_upload, signer.read_id]
    for index, token in enumerate(genuine):
        assert read[index](token)
        altered = mutations(token, [other for other in genuine if other != token], seed=index)
        for _, candidate in zip(range(16_667), altered, strict=False):
            with pytest.raises(InvalidToken) as refused:
                read[index](candidate)
            assert not isinstance(refused.value, ExpiredToken)


def test_no_kind_passes_for_another() -> None:
    """A token of one kind, path or secret is none of another, expired or not."""
    signer = UrlSigner(Tokens(SECRET))
    record = FileRecord(backend="store", path="a.txt", filename="a.txt", content_type="text/plain", size=5)
    tokens = [
        signer.sign(record, expires_in=600).split("/")[2],
        last(signer.sign_upload(grant())),
        signer.sign_id(grant()),
        signer.sign_id(grant(expires_at=1.0)),
    ]
    elsewhere = [UrlSigner(Tokens(SECRET), "/other"), UrlSigner(Tokens("a secret of some lengtH"))]
    for own, token in enumerate(tokens):
        for kind, read in enumerate([signer.read, signer.read_upload, signer.read_id]):
            if min(own, 2) != kind:
                with pytest.raises(InvalidToken) as refused:
                    read(token)
                assert not isinstance(refused.value, ExpiredToken)
        for other in elsewhere:
            for read in (other.read, other.read_upload, other.read_id):
                with pytest.raises(InvalidToken) as refused:
                    read(token)
                assert not isinstance(refused.value, ExpiredToken)
    with pytest.raises(ExpiredToken):
        signer.read_id(tokens[3])
