"""The test of the test: in a lifecycle that is wrong the enumerator finds broken promises."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from sqlalchemy.orm import Session

from lading.backends.obstore import ObstoreBackend
from lading.testing import NotCrashSafe, assert_crash_safe
from tests.crash import scenarios
from tests.crash.broken import play
from tests.crash.models import Models, bare, guarded, registry

Scenario = Callable[[Models, Session], None]


@pytest.fixture(autouse=True)
def backends() -> Iterator[None]:
    for key in ("files", "covers"):
        registry.register_backend(ObstoreBackend(key, "memory://", chunk_size=2**16))
    yield
    registry.clear_backends()


def broken_promises(way: str, scenario: Scenario, models: Models, failures: Any) -> set[tuple[str, Any]]:
    """The promises that a lifecycle breaks, each with the kind of failure where it does; none for what goes well."""
    with pytest.raises(NotCrashSafe) as caught:
        assert_crash_safe(
            partial(play, way, scenario, models),
            metadata=models.metadata,
            setup=partial(scenarios.setup, models),
            failures=failures,
        )
    return {(each.promise, each.failure) for each in caught.value.violations}


STORING = [
    scenarios.create,
    scenarios.replace,
    scenarios.append_and_remove,
    scenarios.several_columns,
    scenarios.savepoint_released,
    scenarios.merge,
    scenarios.bulk_insert,
    scenarios.bulk_update,
    scenarios.copy,
    scenarios.two_sessions_on_one_row,
    scenarios.large_stream,
]
REPLACING = [
    scenarios.replace,
    scenarios.clear,
    scenarios.delete_row,
    scenarios.append_and_remove,
    scenarios.bulk_delete,
    scenarios.bulk_update,
    scenarios.orm_cascade,
    scenarios.merge,
    scenarios.rolled_back,
    scenarios.savepoint_rolled_back,
]
IN_SAVEPOINTS = [
    scenarios.savepoint_rolled_back,
    scenarios.nested_savepoints,
    scenarios.deleted_in_a_savepoint,
]


def named(scenario: Scenario) -> str:
    return scenario.__name__


@pytest.mark.slow
@pytest.mark.parametrize("scenario", STORING, ids=named)
def test_upload_after_commit(scenario: Scenario) -> None:
    """Whoever uploads after COMMIT has rows without files, when the upload fails and when the process is killed."""
    found = broken_promises("upload_after_commit", scenario, bare, ("error", "kill"))
    assert {("I1", "error"), ("I1", "kill")} <= found


@pytest.mark.slow
@pytest.mark.parametrize("scenario", REPLACING, ids=named)
def test_delete_before_commit(scenario: Scenario) -> None:
    """Whoever deletes before COMMIT loses files of rows that stay, when COMMIT fails and when the process is killed."""
    found = broken_promises("delete_before_commit", scenario, bare, ("error", "kill"))
    assert {("I1", "error"), ("I1", "kill")} <= found


@pytest.mark.slow
@pytest.mark.parametrize("models", [bare, guarded], ids=repr)
@pytest.mark.parametrize("scenario", IN_SAVEPOINTS, ids=named)
def test_flat_ledger(scenario: Scenario, models: Models) -> None:
    """Whoever forgets savepoints deletes what rows name after one was rolled back, or leaves what it had stored."""
    found = broken_promises("flat_ledger", scenario, models, ("error",))
    assert {promise for promise, _ in found} & {"I1", "I4"}
