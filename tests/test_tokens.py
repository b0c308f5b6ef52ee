"""Tokens: what they carry, and that no other is taken for one."""

import string
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lading.errors import ConfigurationError, ExpiredToken, InvalidToken
from lading.tokens import Tokens

OLD, NEW = "old" * 8, b"new" * 8
ALPHABET = string.ascii_letters + string.digits + "-_"


class Download(msgspec.Struct):
    backend: str
    path: str


FILE = Download("local", "a/b.pdf")
TOKENS = Tokens(OLD, clock=lambda: 1000.0)
TOKEN = TOKENS.dumps("download", FILE, expires_in=60)


def refused(token: str, purpose: str = "download", tokens: Tokens = TOKENS) -> bool:
    try:
        tokens.loads(purpose, token, object)
    except InvalidToken as error:
        return not isinstance(error, ExpiredToken)
    return False


class TestRoundTrip:
    def test_a_struct_comes_back(self) -> None:
        """What was put into a token comes out of it, as the type that was asked for."""
        assert TOKENS.loads("download", TOKEN, Download) == FILE
        assert TOKENS.loads("download", TOKEN, dict[str, str]) == {"backend": "local", "path": "a/b.pdf"}

    def test_it_fits_a_url(self) -> None:
        """A token has only characters that a URL need not escape."""
        assert set(TOKEN) <= set(ALPHABET + ".")

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
            max_leaves=8,
        ),
        st.text(alphabet=st.characters(codec="utf-8")),
    )
    def test_any_value_and_purpose(self, payload: object, purpose: str) -> None:
        """Any value of MessagePack travels, for any purpose."""
        token = TOKENS.dumps(purpose, payload, expires_in=None)
        assert TOKENS.loads(purpose, token, object) == payload

    def test_a_genuine_token_of_another_type_is_refused(self) -> None:
        """A payload that is not what was asked for is refused as a token."""
        with pytest.raises(InvalidToken, match="not what was asked for"):
            TOKENS.loads("download", TOKEN, int)

    def test_what_cannot_be_encoded_is_an_error(self) -> None:
        """A payload that msgspec cannot encode is refused where the token is made."""
        with pytest.raises(TypeError):
            TOKENS.dumps("download", object(), expires_in=None)


class TestExpiry:
    def test_it_is_good_up_to_its_expiry(self) -> None:
        """A token is good just before its expiry and expired at it."""
        assert TOKENS.loads("download", TOKEN, Download, now=1059.999) == FILE
        for now in (1060.0, 1060.001, 10.0**12):
            with pytest.raises(ExpiredToken) as caught:
                TOKENS.loads("download", TOKEN, Download, now=now)
            assert caught.value.expired_at == 1060.0

    def test_the_clock_is_asked(self) -> None:
        """Without a time of its own a token is made and read by the clock."""
        time = 5.0
        tokens = Tokens(OLD, clock=lambda: time)
        token = tokens.dumps("x", 1, expires_in=0.25)
        time = 5.249
        assert tokens.loads("x", token, int) == 1
        time = 5.25
        with pytest.raises(ExpiredToken):
            tokens.loads("x", token, int)

    def test_a_given_time_wins(self) -> None:
        """`now` stands in for the clock when a token is made, too."""
        token = TOKENS.dumps("x", 1, expires_in=10, now=2000)
        assert TOKENS.loads("x", token, int, now=2009) == 1
        with pytest.raises(ExpiredToken):
            TOKENS.loads("x", token, int, now=2010)

    def test_none_never_expires(self) -> None:
        """A token without expiry is good at any time."""
        assert TOKENS.loads("x", TOKENS.dumps("x", 1, expires_in=None), int, now=10.0**15) == 1

    @pytest.mark.parametrize("expires_in", [0, -1])
    def test_no_time_is_expired(self, expires_in: float) -> None:
        """A token that is given no time has expired when it is made."""
        with pytest.raises(ExpiredToken):
            TOKENS.loads("x", TOKENS.dumps("x", 1, expires_in=expires_in), int)

    def test_the_real_clock_is_the_default(self) -> None:
        """Without a clock of its own a token lives by the time of day."""
        tokens = Tokens(OLD)
        assert tokens.loads("x", tokens.dumps("x", 1, expires_in=600), int) == 1
        with pytest.raises(ExpiredToken):
            tokens.loads("download", TOKEN, Download)

    def test_tampering_is_told_before_expiry(self) -> None:
        """An altered token is refused as altered, never as expired: its time is not believed."""
        expired = TOKENS.dumps("x", 1, expires_in=-1)
        altered = expired[:-1] + ("A" if expired[-1] != "A" else "E")
        assert refused(altered, "x")


class TestForgery:
    def test_every_character_counts(self) -> None:
        """A token with any one character replaced by any other is refused."""
        for position, character in enumerate(TOKEN):
            for other in ALPHABET + ".=":
                if other != character:
                    assert refused(TOKEN[:position] + other + TOKEN[position + 1 :])

    def test_nothing_may_be_cut_or_added(self) -> None:
        """A token that is cut anywhere, or has anything added, is refused."""
        for position in range(len(TOKEN)):
            assert refused(TOKEN[:position])
            assert refused(TOKEN[position + 1 :])
            for added in ("=", " ", "\n", "!", ".", "A", "é", "\0"):
                assert refused(TOKEN[:position] + added + TOKEN[position:])
        for added in ("=", " ", "\n", "!", ".", "A"):
            assert refused(TOKEN + added)

    def test_parts_cannot_be_mixed(self) -> None:
        """The body of one token with the signature of another is refused."""
        other = TOKENS.dumps("download", FILE, expires_in=None)
        assert refused(other.partition(".")[0] + "." + TOKEN.partition(".")[2])

    @pytest.mark.parametrize("purpose", ["", "upload", "Download", "download ", "download\0", ":download"])
    def test_another_purpose_is_refused(self, purpose: str) -> None:
        """A token of one purpose is good for no other."""
        assert refused(TOKEN, purpose)

    def test_another_secret_is_refused(self) -> None:
        """A token of another application is refused."""
        assert refused(TOKEN, tokens=Tokens(NEW))

    @pytest.mark.parametrize(
        "token",
        ["", ".", "..", "a.b", "é" * 50, "\ud800", "\0", "𝟘" * 43, "A" * 10_000_000, "." * 1_000_000, "A." + "A" * 43],
        ids=range(11),
    )
    def test_garbage_is_refused(self, token: str) -> None:
        """Whatever is no token is refused as one, however long."""
        assert refused(token)

    @settings(max_examples=5000)
    @given(
        st.lists(
            st.tuples(st.integers(0, len(TOKEN)), st.integers(0, 3), st.text(alphabet=ALPHABET + ".=%é\n", max_size=3)),
            min_size=1,
            max_size=4,
        )
    )
    @example([(len(TOKEN), 0, "=")])
    def test_no_mutation_is_accepted(self, edits: list[tuple[int, int, str]]) -> None:
        """No random change of a token makes another good token."""
        token = TOKEN
        for position, cut, added in edits:
            token = token[:position] + added + token[position + cut :]
        assert refused(token) is (token != TOKEN)


class TestSecrets:
    def test_secrets_rotate(self) -> None:
        """The newest secret signs, and tokens of every listed one are good until it is taken off the list."""
        both = Tokens([NEW, OLD], clock=lambda: 1000.0)
        assert both.loads("download", TOKEN, Download) == FILE
        signed = both.dumps("download", FILE, expires_in=60)
        assert Tokens(NEW, clock=lambda: 1000.0).loads("download", signed, Download) == FILE
        assert refused(signed)

    def test_the_callers_list_is_left_alone(self) -> None:
        """A list of secrets is neither reversed nor kept: later changes to it change nothing."""
        secrets: list[str | bytes] = [NEW, OLD]
        tokens = Tokens(secrets, clock=lambda: 1000.0)
        assert secrets == [NEW, OLD]
        secrets.clear()
        assert tokens.loads("download", TOKEN, Download) == FILE

    @pytest.mark.parametrize("secrets", ["", b"", "weak" * 3 + "wea", [], [OLD, "weak"], [b"weak"]])
    def test_weak_secrets_are_refused(self, secrets: Any) -> None:
        """No secret, or one shorter than 16 bytes, is an error of configuration that does not show it."""
        with pytest.raises(ConfigurationError, match="secret") as caught:
            Tokens(secrets)
        assert "wea" not in str(caught.value)

    def test_sixteen_bytes_are_enough(self) -> None:
        """The length of a secret is counted in bytes of UTF-8."""
        tokens = Tokens("é" * 8)
        assert tokens.loads("x", tokens.dumps("x", 1, expires_in=None), int) == 1

    def test_no_secret_is_shown(self) -> None:
        """The repr says how many secrets there are, and none of them."""
        assert repr(Tokens([NEW, OLD])) == "<Tokens, 2 secret(s)>"
        assert not hasattr(TOKENS, "__dict__")
