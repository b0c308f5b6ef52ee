"""Purpose-bound, expiring tokens, signed with HMAC-SHA256.

A token is two parts in the URL-safe alphabet of base64 (RFC 4648, section 5), joined by a dot: the body, which is
`[expiry in milliseconds or null, payload]` in MessagePack, and its signature. It is signed and not encrypted: whoever
holds a token can read its payload.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
from itsdangerous import Signer
from itsdangerous.encoding import base64_decode, base64_encode

from lading.clock import now
from lading.errors import ConfigurationError, ExpiredToken, InvalidToken

T = TypeVar("T")

SECRET_BYTES = 16
"""The shortest secret that is taken."""

# Of a signature's last character two bits mean nothing, and base64 decoders skip what they do not know: only the one
# canonical spelling may pass, or one token could be spelled in several ways.
_TOKEN = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]{42}[AEIMQUYcgkosw048])").fullmatch


class _Body(msgspec.Struct, array_like=True, frozen=True):
    expires_ms: int | None
    payload: msgspec.Raw


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Body).decode


class Tokens:
    """Makes tokens and reads them.

    Args:
        secrets: one, or several with the newest first: the first one signs, all of them verify, so that a secret can be
            replaced while tokens of the old one are under way. Each has at least 16 bytes, and should be random.
        clock: the time, in seconds since the epoch.

    Raises:
        ConfigurationError: no secret, or one that is too short.
    """

    __slots__ = ("_clock", "_secrets")

    def __init__(self, secrets: str | bytes | Sequence[str | bytes], *, clock: Callable[[], float] = now) -> None:
        several = [secrets] if isinstance(secrets, str | bytes) else secrets
        keys = [secret.encode() if isinstance(secret, str) else secret for secret in several]
        if not keys:
            raise ConfigurationError("tokens need at least one secret")
        if any(len(key) < SECRET_BYTES for key in keys):
            raise ConfigurationError(f"a secret for tokens needs at least {SECRET_BYTES} random bytes")
        keys.reverse()
        self._secrets = keys
        self._clock = clock

    def __repr__(self) -> str:
        return f"<Tokens, {len(self._secrets)} secret(s)>"

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
        body = base64_encode(_encode((expires_ms, payload)))
        return self._signer(purpose).sign(body).decode()

    def loads(self, purpose: str, token: str, kind: type[T], *, now: float | None = None) -> T:
        """The payload of a token, as a value of type `kind`.

        Args:
            purpose: what it is to be good for.
            token: what `dumps` returned.
            kind: any type that msgspec can decode to.
            now: instead of the clock's time, in seconds since the epoch. A token is good up to and without its expiry.

        Raises:
            InvalidToken: it was altered, or made for another purpose, with another secret or for another type.
            ExpiredToken: it is genuine, and its time is over.
        """
        parts = _TOKEN(token)
        if parts is None or not self._signer(purpose).verify_signature(*parts.groups()):
            raise InvalidToken("the token is not good for this: altered, of another purpose, or of another secret")
        try:
            body = _decode(base64_decode(parts[1]))
            if body.expires_ms is not None:
                expired_at = body.expires_ms / 1000
                if (self._clock() if now is None else now) >= expired_at:
                    raise ExpiredToken("the token has expired; ask for a new one", expired_at=expired_at)
            return msgspec.msgpack.decode(body.payload, type=kind)
        except msgspec.MsgspecError as error:
            raise InvalidToken(f"the token is genuine, and its payload is not what was asked for: {error}") from error

    def _signer(self, purpose: str) -> Signer:
        # The purpose goes into the key, so no two purposes share one, nor does anything else that uses the same secret.
        salt = b"lading.tokens:" + purpose.encode()
        return Signer(self._secrets, salt=salt, key_derivation="hmac", digest_method=hashlib.sha256)
