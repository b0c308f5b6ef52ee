"""Tokens: what they carry, and that no other is taken for one."""

import random
import string
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
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
NAMED = Tokens({"2026-b": NEW, "2026_a": OLD}, clock=lambda: 1000.0)


def refused(token: str, purpose: str = "download", tokens: Tokens = TOKENS) -> bool:
    try:
        tokens.loads(purpose, token, object)
    except InvalidToken as error:
        return not isinstance(error, ExpiredToken)
    return False


Mutation = Callable[[random.Random, str, str], str]

LOOKALIKES = {
    "A": "АΑＡ",
    "B": "ВΒＢ",
    "C": "СＣ",
    "E": "ЕΕＥ",
    "I": "ІΙＩ",
    "K": "КKＫ",
    "M": "МΜＭ",
    "a": "аａá",
    "c": "сｃ",
    "e": "еｅ",
    "i": "іｉı",
    "o": "оοｏ",
    "p": "рｐ",
    "s": "ѕｓſ",
    "x": "хｘ",
    "0": "０𝟘٠",
    "2": "２²",
    "-": "‐‑–－",
    "_": "＿‿",
    ".": "．․。",
}


def at(dice: random.Random, token: str) -> int:
    return dice.randrange(len(token))


def bit(dice: random.Random, token: str, _: str) -> str:
    """One bit of one character."""
    index = at(dice, token)
    return token[:index] + chr(ord(token[index]) ^ 1 << dice.randrange(8)) + token[index + 1 :]


def bits(dice: random.Random, token: str, other: str) -> str:
    """Some bits."""
    for _ in range(dice.randrange(2, 6)):
        token = bit(dice, token, other)
    return token


def byte(dice: random.Random, token: str, _: str) -> str:
    """One bit of what a part spells; in base64 the token is still as good as any."""
    parts = token.split(".")
    which = dice.randrange(len(parts) - 2, len(parts))
    raw = bytearray(urlsafe_b64decode(parts[which] + "=" * (-len(parts[which]) % 4)))
    raw[dice.randrange(len(raw))] ^= 1 << dice.randrange(8)
    parts[which] = urlsafe_b64encode(raw).decode().rstrip("=")
    return ".".join(parts)


def cut(dice: random.Random, token: str, _: str) -> str:
    """An end, or something from the middle."""
    first, last = sorted((at(dice, token), at(dice, token)))
    return dice.choice([token[: first + 1][:-1], token[last + 1 :], token[:first] + token[last + 1 :]])


def added(dice: random.Random, token: str, other: str) -> str:
    """Characters before, behind and within."""
    text = "".join(dice.choices([*ALPHABET, ".", "=", " ", "\n", "\0", "%", "é", "\ud800"], k=dice.randrange(1, 5)))
    text = dice.choice([text, token, other, "." + token])
    index = dice.choice([0, len(token), at(dice, token)])
    return token[:index] + text + token[index:]


def swapped(dice: random.Random, token: str, other: str) -> str:
    """The parts of two tokens, in any order and number."""
    parts = token.split(".")
    return ".".join(dice.choices([*parts, *other.split("."), ""], k=dice.randrange(1, len(parts) + 2)))


def case(dice: random.Random, token: str, _: str) -> str:
    """Letters in the other case."""
    index = at(dice, token)
    one = token[:index] + token[index].swapcase() + token[index + 1 :]
    return dice.choice([one, one, one, token.upper(), token.lower(), token.swapcase()])


def padding(dice: random.Random, token: str, _: str) -> str:
    """Other spellings of the same bytes: padding, the other alphabet, bits that mean nothing, what decoders skip."""
    parts = token.split(".")
    which = dice.randrange(len(parts))
    last = ALPHABET64.index(parts[which][-1])
    parts[which] = dice.choice(
        [
            parts[which] + "=" * dice.randrange(1, 4),
            parts[which].replace("-", "+").replace("_", "/"),
            parts[which][:-1] + ALPHABET64[last ^ dice.randrange(1, 4)],
            parts[which] + dice.choice("\n\r \t!,"),
            parts[which][:4] + dice.choice("\n\r \t!,") + parts[which][4:],
        ]
    )
    return ".".join(parts)


def lookalike(dice: random.Random, token: str, _: str) -> str:
    """What looks like a letter and is another, or is one once it is normalised."""
    index = dice.choice([index for index, character in enumerate(token) if character in LOOKALIKES])
    return token[:index] + dice.choice(LOOKALIKES[token[index]]) + token[index + 1 :]


def quoted(dice: random.Random, token: str, _: str) -> str:
    """Percent-encoded, as in a URL that was quoted twice."""
    index = at(dice, token)
    return token[:index] + f"%{ord(token[index]):02X}" + token[index + 1 :]


def renamed(dice: random.Random, token: str, _: str) -> str:
    """With the id of another key, an unknown one, none, or one that was not there."""
    rest = token.split(".")[-2:]
    return ".".join([dice.choice(["2026_a", "2026-b", "2026-c", "", "a", "A" * 33, "2026-b.2026-b"]), *rest])


def unnamed(dice: random.Random, token: str, other: str) -> str:
    """Without the id of its key; where it has none, with a signature cut to less."""
    parts = token.split(".")
    return ".".join(parts[1:]) if len(parts) == 3 else token[: -dice.randrange(1, 43)]


ALPHABET64 = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
MUTATIONS: Sequence[Mutation] = [
    bit,
    bits,
    byte,
    cut,
    added,
    swapped,
    case,
    padding,
    lookalike,
    quoted,
    renamed,
    unnamed,
]


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


class TestMutations:
    """A hundred thousand changes of genuine tokens, each of a kind that somebody has tried."""

    COUNT = 50_000

    @pytest.mark.parametrize("tokens", [TOKENS, NAMED], ids=["two parts", "with a key id"])
    def test_none_is_accepted(self, tokens: Tokens) -> None:
        """Whatever is done to a token, it is refused as altered, and by no other error."""
        dice = random.Random(20260309)
        genuine = [tokens.dumps("download", FILE, expires_in=seconds) for seconds in (60, None, -60)]
        genuine.append(tokens.dumps("download", Download("local", "x" * 200), expires_in=60))
        tried = 0
        while tried < self.COUNT:
            token = genuine[tried % len(genuine)]
            mutant = MUTATIONS[tried % len(MUTATIONS)](dice, token, dice.choice(genuine))
            if mutant not in genuine:
                assert refused(mutant, tokens=tokens), (token, mutant)
                tried += 1

    @pytest.mark.parametrize("mutate", MUTATIONS)
    def test_each_kind_changes_something(self, mutate: "Mutation") -> None:
        """Every kind of change makes a token that is another one, most of the time."""
        dice = random.Random(0)
        for tokens in (TOKENS, NAMED):
            token, other = (tokens.dumps("download", number, expires_in=60) for number in (1, 2))
            assert sum(mutate(dice, token, other) not in (token, other) for _ in range(100)) > 30


class TestKeyIds:
    def test_a_token_carries_the_id(self) -> None:
        """The newest key signs, and its id stands in the token, which still fits a URL."""
        token = NAMED.dumps("download", FILE, expires_in=60)
        assert token.split(".")[0] == "2026-b"
        assert len(token.split(".")) == 3
        assert set(token) <= set(ALPHABET + ".")
        assert NAMED.loads("download", token, Download) == FILE

    def test_a_key_that_is_taken_out_takes_its_tokens_along(self) -> None:
        """Without the id of a key, or with another secret under it, its tokens are refused, and others are not."""
        old = Tokens({"2026_a": OLD}, clock=lambda: 1000.0).dumps("download", FILE, expires_in=60)
        new = NAMED.dumps("download", FILE, expires_in=60)
        assert NAMED.loads("download", old, Download) == FILE
        dropped = Tokens({"2026-b": NEW}, clock=lambda: 1000.0)
        changed = Tokens({"2026-b": NEW, "2026_a": "another" * 3}, clock=lambda: 1000.0)
        for tokens in (dropped, changed):
            assert refused(old, tokens=tokens)
            assert tokens.loads("download", new, Download) == FILE

    def test_an_id_is_no_other(self) -> None:
        """One secret under two ids makes tokens of which none passes for the other's."""
        tokens = Tokens({"a": OLD, "b": OLD}, clock=lambda: 1000.0)
        token = tokens.dumps("download", FILE, expires_in=60)
        assert tokens.loads("download", token, Download) == FILE
        assert refused("b" + token[1:], tokens=tokens)

    def test_with_and_without_an_id(self) -> None:
        """A token with a key id is none without, and the other way round, also where the secret is the same."""
        named = Tokens({"a": OLD}, clock=lambda: 1000.0)
        token = named.dumps("download", FILE, expires_in=60)
        assert refused(token)
        assert refused(token.removeprefix("a."))
        assert refused(token.removeprefix("a"), tokens=named)
        assert refused(TOKEN, tokens=named)
        assert refused("a." + TOKEN, tokens=named)

    def test_an_id_cannot_be_a_purpose(self) -> None:
        """What an id and a purpose spell together is spelled by no other id and purpose, nor by a purpose alone."""
        for key_id, purpose, other_id, other_purpose in (("a", "b", "a-b", ""), ("a", ":b", "a", "b")):
            token = Tokens({key_id: OLD}, clock=lambda: 1000.0).dumps(purpose, FILE, expires_in=60)
            other = Tokens({other_id: OLD}, clock=lambda: 1000.0)
            assert refused(other_id + token[len(key_id) :], other_purpose, other)
        token = Tokens({"a": OLD}, clock=lambda: 1000.0).dumps("b", FILE, expires_in=60).removeprefix("a.")
        for purpose in ("key:a:b", ".key:a:b", "a:b", "a.b"):
            assert refused(token, purpose)

    @pytest.mark.parametrize("key_id", ["", "a.b", "a b", "ä", "a" * 33, "a\n", "a:b", "a/b"])
    def test_what_is_no_id(self, key_id: str) -> None:
        """An id has 1 to 32 characters that a token may have."""
        with pytest.raises(ConfigurationError, match="id of a key"):
            Tokens({key_id: OLD})
        assert Tokens({"a" * 32: OLD, "-_9Z": NEW})

    def test_later_changes_of_the_mapping_count_for_nothing(self) -> None:
        """The mapping is read once."""
        secrets: dict[str, str | bytes] = {"a": OLD}
        tokens = Tokens(secrets)
        secrets.clear()
        assert tokens.loads("x", tokens.dumps("x", 1, expires_in=None), int) == 1

    @pytest.mark.parametrize("secrets", [{}, {"a": "weak"}, {"a": OLD, "b": b"weak"}])
    def test_weak_secrets_are_refused(self, secrets: Mapping[str, str | bytes]) -> None:
        """No secret, or a short one, is refused under an id, too."""
        with pytest.raises(ConfigurationError, match="secret"):
            Tokens(secrets)


class TestFormat:
    """Tokens outlive the version of lading that has made them."""

    def test_two_parts(self) -> None:
        """A token that was made before is good."""
        token = "ks4AECygkqVsb2NhbKdhL2IucGRm.wf8VT6OYBVoN741nL8kI4xLklZ61OHqmoo2R85Sa-sc"
        tokens = Tokens([NEW, OLD], clock=lambda: 1000.0)
        assert tokens.loads("download", token, list[str]) == ["local", "a/b.pdf"]
        assert tokens.dumps("download", ["local", "a/b.pdf"], expires_in=60) == token

    def test_with_a_key_id(self) -> None:
        """A token with a key id that was made before is good."""
        token = "2026-b.ks4AECygkqVsb2NhbKdhL2IucGRm.b-8VycJD1QHWYb6STVJYrC0pCuw0JvfDAN9Edz9ZV74"
        assert NAMED.loads("download", token, list[str]) == ["local", "a/b.pdf"]
        assert NAMED.dumps("download", ["local", "a/b.pdf"], expires_in=60) == token

    def test_more_purposes_than_keys_are_kept_for(self) -> None:
        """Tokens of ever new purposes are good, and memory does not grow with them."""
        tokens = [TOKENS.dumps(f"of {number}", number, expires_in=60) for number in range(1000)]
        for number, token in enumerate(tokens):
            assert TOKENS.loads(f"of {number}", token, int) == number
        assert TOKENS._keys.cache_info().currsize <= 64


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
