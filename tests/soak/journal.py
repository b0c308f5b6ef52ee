"""What each worker wrote down: what it meant to commit, before it asked, and what it was told, before it went on."""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

Outcome = Literal["committed", "rolled back", "failed", "cancelled", "answer lost", "surprised"]

State = str
"""What a row names: `file|cover|page,page`, each by a part of the checksum of its content."""


class Written(NamedTuple):
    """A row as a transaction leaves it.

    Attributes:
        family: its table.
        id: its key, never used again.
        version: which it has then; that which was deleted, where it is.
        state: `None` for a row that is deleted.
    """

    family: str
    id: int
    version: int
    state: State | None


class Journal:
    """A worker's own; each line is on the disk before the worker goes on, so no kill takes one back.

    Attributes:
        is_open: whether a transaction is under way.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_DSYNC, 0o644)
        self._number = 0
        self.is_open = False

    def begin(self, acts: Iterable[str]) -> None:
        """A transaction is begun."""
        self._number += 1
        self.is_open = True
        self._write({"begin": self._number, "acts": list(acts)})

    def announce(self, rows: Iterable[Written]) -> None:
        """It is about to be committed."""
        self._write({"announced": self._number, "rows": list(rows)})

    def end(self, outcome: Outcome, why: str = "") -> None:
        """It is over; how it is closed after that changes nothing."""
        self.is_open = False
        self._write({"end": self._number, "outcome": outcome, "why": why})

    def _write(self, line: object) -> None:
        os.write(self._file, json.dumps(line).encode() + b"\n")


class Log:
    """The journals of all workers, as far as they have been read.

    Args:
        directory: where they are.

    Attributes:
        begun: transactions.
        outcomes: of those that have ended; the others were killed.
        reasons: the kinds of errors, by what became of the transaction.
        surprises: errors that nothing explains.
        announced: by family and row, what some transaction meant to leave; a version may have several.
        acknowledged: likewise, what a transaction left that was told that it is committed.
    """

    def __init__(self, directory: Path) -> None:
        self.begun = 0
        self.outcomes: Counter[Outcome] = Counter()
        self.reasons: dict[Outcome, Counter[str]] = defaultdict(Counter)
        self.surprises: list[str] = []
        self.announced: dict[tuple[str, int], set[Written]] = defaultdict(set)
        self.acknowledged: dict[tuple[str, int], set[Written]] = defaultdict(set)
        self._directory = directory
        self._offsets: Counter[Path] = Counter()
        self._under_way: dict[Path, list[Written]] = {}

    def read(self) -> None:
        """Read on."""
        for path in sorted(self._directory.glob("*.journal")):
            with path.open("rb") as file:
                file.seek(self._offsets[path])
                for line in file:
                    if line.endswith(b"\n"):
                        self._offsets[path] += len(line)
                        self._entry(path, json.loads(line))

    def _entry(self, path: Path, entry: dict[str, Any]) -> None:
        if "begin" in entry:
            self.begun += 1
            self._under_way[path] = []
        elif "announced" in entry:
            rows = self._under_way[path] = [Written(*row) for row in entry["rows"]]
            for row in rows:
                self.announced[row.family, row.id].add(row)
        else:
            self._ended(entry["outcome"], entry["why"], self._under_way.pop(path, []))

    def _ended(self, outcome: Outcome, why: str, rows: Iterable[Written]) -> None:
        self.outcomes[outcome] += 1
        if outcome == "surprised":
            self.surprises.append(why)
        elif why:
            self.reasons[outcome][why] += 1
        if outcome == "committed":
            for row in rows:
                self.acknowledged[row.family, row.id].add(row)
