"""Purpose-bound, expiring tokens, signed with HMAC-SHA256.

A token is two parts in the URL-safe alphabet of base64 (RFC 4648, section 5), joined by a dot: the body, which is
`[expiry in milliseconds or null, payload]` in MessagePack, and its signature. Where the secret has a key id, that
stands before them, with a dot of its own. A token is signed and not encrypted: whoever holds it can read its payload.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias, TypeVar

import msgspec
from itsdangerous import Signer
from itsdangerous.encoding import base64_decode, base64_encode

from lading.clock import now
from lading.errors import ConfigurationError, ExpiredToken, InvalidToken

T = TypeVar("T")

Secrets: TypeAlias = str | bytes | Sequence[str | bytes] | Mapping[str, str | bytes]
"""One secret, several with the newest first, or several by the ids of their keys, the newest first."""

SECRET_BYTES = 16
"""The shortest secret that is taken."""

# Of a signature's last character two bits mean nothing, and base64 decoders skip what they do not know: only the one
# canonical spelling may pass, or one token could be spelled in several ways.
_TOKEN = re.compile(r"([A-Za-z0-9_-]{1,32}\.)?([A-Za-z0-9_-]++)\.([A-Za-z0-9_-]{42}[AEIMQUYcgkosw048])").fullmatch
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,32}").fullmatch

_PURPOSES = 64
"""Purposes whose keys are kept: deriving one takes as long as checking a token with it."""


class _Body(msgspec.Struct, array_like=True, frozen=True):
    expires_ms: int | None
    payload: msgspec.Raw


class _Keys(NamedTuple):
    """What tokens of one purpose are signed with.

    Attributes:
        prefix: what a new token begins with: the id of the newest key and a dot, or nothing.
        newest: signs.
        by_prefix: verify, newest first.
    """

    prefix: str
    newest: Signer
    by_prefix: Mapping[str, Sequence[Signer]]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Body).decode


class Tokens:
    """Makes tokens and reads them.

    Args:
        secrets: one, or several with the newest first: the first one signs, all of them verify, so that a secret can be
            replaced while tokens of the old one are under way. In a mapping each has the id of a key, 1 to 32 letters,
            digits, `-` and `_`, which its tokens carry: they are verified with the secret of that id and no other, and
            without one they are refused. Each secret has at least 16 bytes, and should be random.
        clock: the time, in seconds since the epoch.

    Raises:
        ConfigurationError: no secret, one that is too short, or an id that is none.
    """

    __slots__ = ("_clock", "_count", "_keys")

    def __init__(self, secrets: Secrets, *, clock: Callable[[], float] = now) -> None:
        named = _named(secrets)

        @lru_cache(_PURPOSES)
        def keys(purpose: str) -> _Keys:
            return _derived(named, purpose)

        self._keys = keys
        self._count = len(named)
        self._clock = clock

    def __repr__(self) -> str:
        return f"<Tokens, {self._count} secret(s)>"

    def dumps(self, purpose: str, payload: Any, *, expires_in: float | None, now: float | None = None) -> str:
        """A token for one purpose.

        Args:
            purpose: what it is good for; a token of one purpose is refused for every other.
            payload: anything that msgspec can encode.
            expires_in: in seconds, kept to the millisecond; `None` is for ever, zero or less makes an expired token.
            now: instead of the clock's time, in seconds since the epoch.

        Raises:
            TypeError: msgspec cannot encode the payload.
        """
        expires_ms = None
        if expires_in is not None:
            expires_ms = round(((self._clock() if now is None else now) + expires_in) * 1000)
        keys = self._keys(purpose)
        return keys.prefix + keys.newest.sign(base64_encode(_encode((expires_ms, payload)))).decode()

    def loads(self, purpose: str, token: str, kind: type[T], *, now: float | None = None) -> T:
        """The payload of a token, as a value of type `kind`.

        Args:
            purpose: what it is to be good for.
            token: what `dumps` returned.
            kind: any type that msgspec can decode to.
            now: instead of the clock's time, in seconds since the epoch. A token is good up to and without its expiry.

        Raises:
            InvalidToken: it was altered, or made for another purpose, for another type, or with a secret that is not,
                or no longer, among these.
            ExpiredToken: it is genuine, and its time is over.
        """
        parts = _TOKEN(token)
        if parts is None or not self._is_genuine(purpose, *parts.groups(default="")):
            raise InvalidToken("the token is not good for this: altered, of another purpose, or of another secret")
        try:
            body = _decode(base64_decode(parts[2]))
            if body.expires_ms is not None:
                expired_at = body.expires_ms / 1000
                if (self._clock() if now is None else now) >= expired_at:
                    raise ExpiredToken("the token has expired; ask for a new one", expired_at=expired_at)
            return msgspec.msgpack.decode(body.payload, type=kind)
        except msgspec.MsgspecError as error:
            raise InvalidToken(f"the token is genuine, and its payload is not what was asked for: {error}") from error

    def _is_genuine(self, purpose: str, prefix: str, body: str, signature: str) -> bool:
        keys = self._keys(purpose).by_prefix.get(prefix, ())
        return any(key.verify_signature(body, signature) for key in keys)


def _named(secrets: Secrets) -> list[tuple[str, bytes]]:
    """Each secret with what its tokens begin with."""
    if isinstance(secrets, Mapping):
        for key_id in secrets:
            if not _KEY_ID(key_id):
                raise ConfigurationError(f"the id of a key is 1 to 32 letters, digits, '-' and '_', not {key_id!r}")
        given = [(f"{key_id}.", secret) for key_id, secret in secrets.items()]
    else:
        given = [("", secret) for secret in ([secrets] if isinstance(secrets, str | bytes) else secrets)]
    named = [(prefix, secret.encode() if isinstance(secret, str) else secret) for prefix, secret in given]
    if not named:
        raise ConfigurationError("tokens need at least one secret")
    if any(len(secret) < SECRET_BYTES for _, secret in named):
        raise ConfigurationError(f"a secret for tokens needs at least {SECRET_BYTES} random bytes")
    return named


def _derived(named: Sequence[tuple[str, bytes]], purpose: str) -> _Keys:
    by_prefix: dict[str, list[Signer]] = {}
    for prefix, secret in named:
        # Purpose and id go into the key, so no two share one, nor does anything else that uses the same secret. An id
        # has no colon: what is derived with one is derived for nothing else.
        salt = f"lading.tokens.key:{prefix[:-1]}:{purpose}" if prefix else f"lading.tokens:{purpose}"
        key = Signer(secret, salt=salt.encode(), key_derivation="hmac", digest_method=hashlib.sha256).derive_key()
        signer = Signer(key, key_derivation="none", digest_method=hashlib.sha256)
        by_prefix.setdefault(prefix, []).append(signer)
    prefix = named[0][0]
    return _Keys(prefix, by_prefix[prefix][0], by_prefix)
