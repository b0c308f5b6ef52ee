"""A million objects against a million rows: found exactly, in constant memory, by one worker or by two."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import sweep

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path: Path = tmp_path_factory.mktemp("sweep") / "rows.sqlite"
    sweep.fill(str(path), sweep.COUNT)
    yield str(path)
    path.unlink()


def test_a_million(database: str) -> None:
    """All orphans and missing objects are found and nothing else, in at most 150 MiB."""
    (report,) = sweep.workers(database, sweep.COUNT, "", in_order=True)
    assert sweep.wrong(report, sweep.COUNT) == 0
    assert min(len(report.orphans), len(report.missing)) > 90
    assert min(report.objects, report.rows) > 0.999 * sweep.COUNT
    assert report.mib < sweep.MEMORY


def test_two_workers(database: str) -> None:
    """Two workers by prefix find it together, also where the store lists in no order; neither does the other's part."""
    one, other = sweep.workers(database, sweep.COUNT, *sweep.WORKERS, in_order=False)
    together = sweep.Report(0, 0, 0, 0, one.orphans + other.orphans, one.missing + other.missing, 0)
    assert sweep.wrong(together, sweep.COUNT) == 0
    for report, prefix in ((one, "a/"), (other, "b/")):
        assert all(path.startswith(prefix) for path in report.orphans + report.missing)
        assert report.objects < 0.5 * sweep.COUNT
        assert report.rows < 0.5 * sweep.COUNT
        assert report.mib < sweep.MEMORY
