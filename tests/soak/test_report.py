"""What the soak says at its end."""

from collections import Counter
from pathlib import Path

import pytest

from tests.soak.__main__ import Soak
from tests.soak.journal import Log
from tests.soak.verify import Findings


@pytest.fixture
def soak(tmp_path: Path) -> Soak:
    """A run in which nothing went wrong."""
    before = Findings(orphans=["a"], waiting=1)
    return Soak(Log(tmp_path), Counter(), Counter(), [], Findings(), before, [], Findings())


def test_orphans_before_the_sweep_are_no_violation(soak: Soak) -> None:
    """That is what the sweep is for."""
    assert not any(soak.violations().values())
    assert ("orphans before sweep", 1, "1 entries in the outbox") in soak.table()


@pytest.mark.parametrize("moment", ["meanwhile", "before", "after"])
def test_what_dangles_is_a_violation_whenever_it_was_seen(soak: Soak, moment: str) -> None:
    """Also when the next look finds nothing."""
    getattr(soak, moment).dangling.append("a")
    assert soak.violations()["dangling"] == ["a"]
    assert ("dangling", 1, "") in soak.table()


def test_what_lading_itself_finds_is_a_violation(soak: Soak) -> None:
    """Even where the count by other means agrees with the rows."""
    soak.swept.append("a")
    assert soak.violations()["found by lading"] == ["a"]


def test_what_is_left_after_the_sweep_is_a_violation(soak: Soak) -> None:
    """Objects that no row names, and entries."""
    soak.after.orphans.append("a")
    soak.after.waiting = 2
    assert soak.violations()["orphans after sweep"] == ["a"]
    assert soak.violations()["left in the outbox"] == ["2 entries"]


def test_errors_that_nothing_explains_are_violations(soak: Soak) -> None:
    """Those of transactions, and processes that ended by themselves."""
    soak.log.surprises.append("KeyError")
    soak.crashes.append("worker")
    assert soak.violations()["surprises"] == ["KeyError"]
    assert soak.violations()["crashes"] == ["worker"]
