"""Every scenario, on every database and in both worlds, fails at every point where it can, and breaks no promise."""

import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lading.backends.obstore import ObstoreBackend
from lading.testing import assert_crash_safe
from tests import databases
from tests.conftest import empty_database
from tests.crash import scenarios
from tests.crash.models import Models, bare, guarded, prompt, registry

TABLE = "LADING_CRASH_TABLE"
"""Names the file that results are appended to, for `make crash-table`."""

SYNC = databases.SYNC
ASYNC = ("sqlite+aiosqlite", "postgresql+asyncpg", "mariadb+asyncmy")

ALL = TABLE in os.environ
"""Whether everything runs, which takes two cores seven minutes: for the table. Every day some will do."""

SOME = ("sqlite", "postgresql+asyncpg", "mariadb+pymysql")
"""Every database, both worlds."""

GUARDED = (*SYNC, *ASYNC) if ALL else (*SOME, "sqlite+aiosqlite")
BARE = SOME if ALL else ("sqlite",)
"""Where scenarios run with an outbox, and where without one."""

PROMPT = (
    scenarios.replace,
    scenarios.several_columns,
    scenarios.bulk_delete,
    scenarios.move,
)
"""What runs where the session drains the outbox itself, which is the same after any scenario."""


def cases() -> Iterator[Any]:
    for driver in GUARDED:
        for scenario in (*scenarios.SCENARIOS, *(scenarios.COROUTINES if driver in ASYNC else ())):
            for models, drivers in ((guarded, GUARDED), (prompt, SOME if scenario in PROMPT else ()), (bare, BARE)):
                if driver in drivers:
                    yield pytest.param(driver, scenario, models, id=f"{driver}-{scenario.__name__}-{models}")


@pytest.fixture(autouse=True)
def backends() -> Iterator[None]:
    """Whose options the places on disk take over: a stream is what is longer than 64 KiB."""
    for key in ("files", "covers"):
        registry.register_backend(ObstoreBackend(key, "memory://", chunk_size=2**16))
    yield
    registry.clear_backends()


@pytest.mark.slow
@pytest.mark.parametrize(("driver", "scenario", "models"), list(cases()))
def test_every_point(
    driver: str, scenario: Any, models: Models, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Whatever fails and wherever: rows keep their files, and one sweep collects the rest."""
    with empty_database(driver, request, tmp_path) as url:
        report = assert_crash_safe(
            partial(scenario, models),
            metadata=models.metadata,
            setup=partial(scenarios.setup_in_a_task if scenario in scenarios.COROUTINES else scenarios.setup, models),
            # PyMySQL reads all certificates for each connection.
            database=url.update_query_dict({"ssl_disabled": "1"}) if "pymysql" in driver else url,
            configure=databases.begin_for_real if driver.startswith("sqlite") else None,
        )
    assert set(report.runs) == {"error", "outage", "cancel", "kill"} - (
        {"outage"} if not _stores(report.points) else set()
    )
    if table := os.environ.get(TABLE):
        cell = [repr(models), driver, scenario.__name__, len(report.points), sum(report.runs.values()), report.swept]
        with Path(table).open("a") as lines:
            lines.write(json.dumps(cell) + "\n")


def _stores(points: Any) -> bool:
    """Whether something was asked of a store."""
    return any(point.startswith(("put ", "delete ", "copy ", "head ")) for point in points)
