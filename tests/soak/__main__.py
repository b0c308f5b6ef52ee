"""The soak: workers against PostgreSQL and S3 behind faults, killed at random; then everything is counted."""

import argparse
import random
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from tests.services import moto, postgres, process
from tests.services.faultproxy import FaultProxy
from tests.services.moto import S3
from tests.soak.crew import DATABASE_FAULTS, S3_FAULTS, Crew, Weather
from tests.soak.journal import Log
from tests.soak.models import Place
from tests.soak.sweeping import make_tables, sweep
from tests.soak.verify import Findings, Inspector

PROGRESS_SECONDS = 10.0
SHOWN = 10
"""Of each kind of violation."""


@dataclass
class Soak:
    """What a run of the soak came to.

    Attributes:
        log: of the workers.
        kills: of processes, by what they were.
        faults: that the proxies injected, by their kinds.
        crashes: processes that ended by themselves.
        meanwhile: what was seen while the workers worked.
        before: the sweep, when everything else was over.
        swept: what lading's own sweep and check found wrong with rows.
        after: the sweep.
    """

    log: Log
    kills: Counter[str]
    faults: Counter[str]
    crashes: list[str]
    meanwhile: Findings
    before: Findings
    swept: list[str]
    after: Findings

    def violations(self) -> dict[str, list[str]]:
        """What must not be, by what it is."""
        return {
            "dangling": _each_once(self.meanwhile.dangling, self.before.dangling, self.after.dangling),
            "lost": _each_once(self.before.lost, self.after.lost),
            "found by lading": self.swept,
            "orphans after sweep": self.after.orphans,
            "left in the outbox": [f"{self.after.waiting} entries"] if self.after.waiting else [],
            "surprises": self.log.surprises,
            "crashes": self.crashes,
        }

    def table(self) -> list[tuple[str, int, str]]:
        """The figures: what, how many, and of what they are made."""
        outcomes = self.log.outcomes
        violations = self.violations()
        return [
            ("transactions", self.log.begun, ""),
            ("commits", outcomes["committed"], ""),
            ("rollbacks", outcomes["rolled back"], ""),
            ("failed", outcomes["failed"], _parts(self.log.reasons["failed"])),
            ("cancelled", outcomes["cancelled"], ""),
            ("lost answers", outcomes["answer lost"], _parts(self.log.reasons["answer lost"])),
            ("kills", self.kills.total(), _parts(self.kills)),
            ("faults injected", self.faults.total(), _parts(self.faults)),
            ("rows checked", self.meanwhile.rows + self.after.rows, f"{self.meanwhile.rows} while others wrote"),
            ("files checked", self.meanwhile.files + self.after.files, ""),
            ("dangling", len(violations["dangling"]), ""),
            ("lost", len(violations["lost"]), ""),
            ("orphans before sweep", len(self.before.orphans), f"{self.before.waiting} entries in the outbox"),
            ("orphans after sweep", len(self.after.orphans), f"{self.after.waiting} entries in the outbox"),
        ]


def _each_once(*several: list[str]) -> list[str]:
    return list(dict.fromkeys(chain(*several)))


def _parts(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common(8))


def soak(seconds: float, workers: int, seed: int, run: Path, stack: ExitStack) -> Soak:
    """Let the processes work for so long, and count what is there then."""
    chance = random.Random(seed)
    stack.callback(process.stop, servers := process.new_run())
    database, store = process.start(servers, postgres.RECIPE), process.start(servers, moto.RECIPE)
    direct = Place(f"postgresql://postgres@127.0.0.1:{database}/postgres", f"http://127.0.0.1:{store}", "")
    direct = Place(direct.database, direct.endpoint, S3(direct.endpoint).make_bucket())
    make_tables(direct)
    inspector = Inspector(direct)
    stack.callback(inspector.close)
    meanwhile, log = Findings(), Log(run)
    with FaultProxy(database, seed) as to_database, FaultProxy(store, seed) as to_store:
        place = Place(
            f"postgresql://postgres@127.0.0.1:{to_database.port}/postgres",
            f"http://127.0.0.1:{to_store.port}",
            direct.bucket,
        )
        crew = Crew(run, place, workers, chance)
        weather = [
            Weather(to_database, DATABASE_FAULTS, (0.5, 3.0), (0.1, 0.8), chance),
            Weather(to_store, S3_FAULTS, (0.3, 1.5), (0.2, 1.5), chance),
        ]
        try:
            _work(seconds, crew, weather, inspector, chance, meanwhile, log)
        finally:
            for each in weather:
                each.clear()
            crew.stop()
        faults = Counter[str](to_database.counts) + Counter[str](to_store.counts)
    inspector.wait_for_quiet()
    log.read()
    before = inspector.all(log)
    swept = sweep(direct)
    return Soak(log, crew.kills, faults, crew.crashes, meanwhile, before, swept, inspector.all(log))


def _work(
    seconds: float,
    crew: Crew,
    weather: list[Weather],
    inspector: Inspector,
    chance: random.Random,
    meanwhile: Findings,
    log: Log,
) -> None:
    began = time.monotonic()
    told = began
    while (now := time.monotonic()) < began + seconds:
        for each in weather:
            each.tick()
        crew.tick()
        inspector.glance(chance, meanwhile)
        if now - told >= PROGRESS_SECONDS:
            told = now
            log.read()
            _say(
                f"{now - began:5.0f} s: {log.begun} transactions, {log.outcomes['committed']} committed, "
                f"{crew.kills.total()} kills, {meanwhile.rows} rows checked, {len(meanwhile.dangling)} dangling"
            )
        time.sleep(0.05)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--workers", type=int, default=4, help="processes that write; half of them async")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32), help="of all that is drawn at random")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # and so are the processes that were started
    _say(f"seed {asked.seed}; {asked.workers} workers and a sweeper, for {asked.seconds:.0f} s")
    run = Path(tempfile.mkdtemp(prefix="lading-soak-"))
    with ExitStack() as stack:
        result = soak(asked.seconds, asked.workers, asked.seed, run, stack)
    for name, count, parts in result.table():
        _say(f"{name:<21}{count:>8}  {parts}".rstrip())
    violations = {name: found for name, found in result.violations().items() if found}
    for name, found in violations.items():
        _say(f"\n{name}: {len(found)}")
        for each in found[:SHOWN]:
            _say(f"  {each}")
    if violations:
        _say(f"\nthe journals are in {run}")
        return 1
    shutil.rmtree(run)
    return 0


if __name__ == "__main__":
    sys.exit(main())
