"""Tests of the clock that stands still: everything in lading that has a time has it from there."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lading import FileObject, Storages, clock
from lading.errors import ExpiredToken
from lading.record import FileRecord
from lading.signer import UrlSigner
from lading.testing import frozen_clock
from lading.tokens import Tokens

TOKENS = Tokens("0123456789abcdef")
RECORD = FileRecord(backend="it", path="p", filename="a.pdf", content_type="application/pdf", size=10)


def test_time_stands_still() -> None:
    """Time passes when it is told to, and afterwards by itself again."""
    before = int(time.time())
    with frozen_clock() as frozen:
        began = clock.now()
        assert before <= began <= time.time()
        assert began == int(began)
        time.sleep(0.01)
        assert clock.now() == began
        frozen.tick()
        frozen.tick(1.5)
        frozen.tick(timedelta(minutes=1))
        assert clock.now() - began == 62.5
        frozen.time = 7.0
        assert clock.now() == 7
    assert abs(clock.now() - time.time()) < 5


@pytest.mark.parametrize("at", [1_000_000_000, datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)])
def test_at_a_time(at: Any) -> None:
    """The time may be given, in seconds or as a time with its zone."""
    with frozen_clock(at):
        assert clock.now() == 1_000_000_000


def test_a_time_without_a_zone_is_refused() -> None:
    """Whose morning it would be is not known."""
    with pytest.raises(ValueError, match="without a zone"), frozen_clock(datetime(2001, 9, 9)):  # noqa: DTZ001
        pass


def test_it_goes_on_when_the_test_fails() -> None:
    """After an error time passes, too."""
    with pytest.raises(ZeroDivisionError), frozen_clock(5):
        raise ZeroDivisionError
    assert clock.now() > 5


def test_tokens() -> None:
    """A token that was made before, by whichever clock its maker has by default, expires by the frozen one."""
    with frozen_clock(1000) as frozen:
        token = TOKENS.dumps("it", 1, expires_in=60)
        frozen.tick(59)
        assert TOKENS.loads("it", token, int) == 1
        frozen.tick(1)
        with pytest.raises(ExpiredToken) as caught:
            TOKENS.loads("it", token, int)
        assert caught.value.expired_at == 1060


def test_signed_urls() -> None:
    """A signed URL lives by that clock."""
    signer = UrlSigner(TOKENS)
    with frozen_clock(1000) as frozen:
        token = signer.sign(RECORD, expires_in=60).split("/")[2]
        assert signer.read(token).expires_at == 1060
        frozen.tick(61)
        with pytest.raises(ExpiredToken):
            signer.read(token)


def test_records() -> None:
    """The record of a stored file says that time."""
    registry = Storages()
    registry.register_backend("memory://", key="it")
    with frozen_clock(1000):
        assert FileObject("it", "a.txt", content=b"a", storages=registry).save().last_modified == 1000
