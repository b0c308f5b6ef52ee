"""The processes of the soak: started, killed at random, started again; and the weather on the way to the servers."""

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tests.services.faultproxy import Fault, FaultProxy
from tests.soak.models import Place
from tests.soak.worker import Orders

ROOT = Path(__file__).parents[2]
KILL_SECONDS = (1.0, 4.0)
"""Between two kills, at least and at most."""

WARM_BYTES = 1500
"""Of a journal: a few transactions. Who is killed sooner has no connections yet, and little to lose."""

STOP_SECONDS = 60.0

S3_FAULTS = (
    Fault("cut", 0.1),
    Fault("cut", 0.3, "down"),
    Fault("reset", 0.1),
    Fault("reset", 0.3, "down"),
    Fault("delay", 0.3, seconds=0.2),
    Fault("refuse"),
    Fault("swallow", 0.5),
    Fault("swallow", 0.5, "down"),
    Fault("lose", 0.5, word=b"PUT /"),
    Fault("lose", 0.5, word=b"POST /"),
)
DATABASE_FAULTS = (
    Fault("cut", 0.02),
    Fault("reset", 0.02),
    Fault("cut", 0.15, "down"),
    Fault("reset", 0.15, "down"),
    Fault("delay", 0.1, seconds=0.05),
    Fault("refuse"),
    Fault("swallow", 0.3, "down"),
    Fault("lose", 0.5, word=b"COMMIT"),
)


class Weather:
    """Calm and faults in turn on one proxy, as the seed has it.

    Args:
        proxy: to be told.
        faults: that there are.
        calm: seconds between two of them, at least and at most.
        rough: seconds that one lasts.
        chance: what says when and which.
    """

    def __init__(
        self,
        proxy: FaultProxy,
        faults: tuple[Fault, ...],
        calm: tuple[float, float],
        rough: tuple[float, float],
        chance: random.Random,
    ) -> None:
        self._proxy = proxy
        self._faults = faults
        self._calm = calm
        self._rough = rough
        self._chance = chance
        self._changes = time.monotonic() + chance.uniform(*calm)

    def tick(self) -> None:
        """Change it when it is time."""
        if time.monotonic() < self._changes:
            return
        rough = self._proxy.fault is None
        self._proxy.fault = self._chance.choice(self._faults) if rough else None
        self._changes = time.monotonic() + self._chance.uniform(*(self._rough if rough else self._calm))

    def clear(self) -> None:
        """No faults any more."""
        self._proxy.fault = None


@dataclass
class Berth:
    """A place for one process after the other.

    Attributes:
        module: that they run.
        is_async: in which world; `None` where they take turns.
        starts: how many there were.
        process: the one that is there now.
        journal: its own.
    """

    module: str
    is_async: bool | None
    starts: int = 0
    process: subprocess.Popen[bytes] | None = None
    journal: Path = Path()

    @property
    def is_at_work(self) -> bool:
        """Whether the process has done something, however slow the machine is; a sweeper writes nothing down."""
        return self.journal.is_file() and (self.module != "worker" or self.journal.stat().st_size > WARM_BYTES)


class Crew:
    """The processes.

    Args:
        run: a directory for their journals and what they say.
        place: where they find database and store.
        workers: how many, half of them async; a sweeper comes to that.
        chance: what says who is killed when.

    Attributes:
        kills: by module.
        crashes: ends that nobody asked for, and the last words.
    """

    def __init__(self, run: Path, place: Place, workers: int, chance: random.Random) -> None:
        self._run = run
        self._place = place
        self._chance = chance
        self._berths = [Berth("worker", number % 2 == 1) for number in range(workers)] + [Berth("sweeping", None)]
        self._next_kill = time.monotonic()
        self.kills: Counter[str] = Counter()
        self.crashes: list[str] = []

    def tick(self) -> None:
        """Start whoever is not there, and kill somebody when it is time."""
        for number, berth in enumerate(self._berths):
            if berth.process is not None and berth.process.poll() is not None:
                self._crashed(berth, berth.process)
                berth.process = None
            if berth.process is None:
                self._start(number, berth)
        now = time.monotonic()
        at_work = [berth for berth in self._berths if berth.is_at_work]
        if now >= self._next_kill and at_work:
            self._kill(self._chance.choice(at_work))
            self._next_kill = now + self._chance.uniform(*KILL_SECONDS)

    def stop(self) -> None:
        """Let them finish what they do; who lingers, now that nothing fails any more, is to say where."""
        there = [(berth, berth.process) for berth in self._berths if berth.process is not None]
        for _, process in there:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for berth, process in there:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGABRT)
                process.wait()
            if process.returncode not in (0, -signal.SIGTERM):  # who has only just started does not listen yet
                self._crashed(berth, process)

    def _start(self, number: int, berth: Berth) -> None:
        berth.starts += 1
        berth.journal = self._run / f"{berth.module}-{number}-{berth.starts}.journal"
        orders = Orders(
            place=self._place,
            journal=str(berth.journal),
            seed=self._chance.getrandbits(32),
            is_async=berth.starts % 2 == 0 if berth.is_async is None else berth.is_async,
        )
        with berth.journal.with_suffix(".log").open("wb") as log:
            berth.process = subprocess.Popen(
                [
                    sys.executable,
                    "-X",
                    "faulthandler",
                    "-m",
                    f"tests.soak.{berth.module}",
                    msgspec.json.encode(orders).decode(),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
            )

    def _kill(self, berth: Berth) -> None:
        if berth.process is not None:
            berth.process.kill()
            berth.process.wait()
            berth.process = None
            self.kills[berth.module] += 1

    def _crashed(self, berth: Berth, process: subprocess.Popen[bytes]) -> None:
        words = berth.journal.with_suffix(".log").read_text(errors="replace")[-2000:]
        self.crashes.append(f"{berth.module} ended with status {process.returncode}:\n{words}")
