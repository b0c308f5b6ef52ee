"""Writes what the crash tests have tried into the documentation: `make crash-table`."""

import json
import sys
from collections import Counter
from pathlib import Path

MARK = "<!-- made by `make crash-table` -->\n"
DRIVERS = {
    "sqlite": "SQLite",
    "sqlite+aiosqlite": "aiosqlite",
    "postgresql+psycopg": "psycopg",
    "postgresql+asyncpg": "asyncpg",
    "mariadb+pymysql": "PyMySQL",
    "mariadb+asyncmy": "asyncmy",
}


def table(lines: list[str]) -> str:
    """Runs by scenario and driver; a scenario that has broken a promise has no line, and no row."""
    runs: Counter[tuple[str, str]] = Counter()
    points: Counter[str] = Counter()
    swept = 0
    for line in lines:
        _, driver, scenario, some_points, some_runs, some_swept = json.loads(line)
        runs[scenario, driver] += some_runs
        points[driver] += some_points
        swept += some_swept
    scenarios = list(dict.fromkeys(scenario for scenario, _ in runs))
    total = f"{runs.total():,} runs at {points.total():,} points of {len(lines)} combinations"
    rows = [
        f"{total}: {swept:,} left something to the sweeper, none broke a promise. Runs by scenario and driver:",
        "",
        f"| scenario | {' | '.join(DRIVERS.values())} |",
        f"|---|{'---:|' * len(DRIVERS)}",
        *(_row(scenario.replace("_", " "), [runs[scenario, driver] for driver in DRIVERS]) for scenario in scenarios),
        _row("points", [points[driver] for driver in DRIVERS]),
        _row("runs", [sum(runs[scenario, driver] for scenario in scenarios) for driver in DRIVERS]),
    ]
    return "\n".join(rows) + "\n"


def _row(name: str, numbers: list[int]) -> str:
    return f"| {name} | {' | '.join(f'{number:,}' if number else '' for number in numbers)} |"


if __name__ == "__main__":
    results, page = map(Path, sys.argv[1:])
    text = page.read_text().partition(MARK)[0]
    page.write_text(text + MARK + "\n" + table(results.read_text().splitlines()))
