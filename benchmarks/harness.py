"""Two ways to do one thing, taken in turns; medians, and the median of the ratios within the turns."""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from inspect import iscoroutinefunction
from statistics import median
from time import perf_counter
from typing import Any, TypeAlias

Act: TypeAlias = Callable[[Any], Any] | Callable[[Any], Awaitable[Any]]
"""What is timed: takes what was prepared for it; a coroutine function is awaited."""


@dataclass(frozen=True, slots=True)
class Result:
    """One line of a table.

    Attributes:
        name: what was done.
        ours: the median of lading, in seconds; `None` where `ratio` is a number of another kind.
        other: the median of what it is measured against, in seconds.
        ratio: the median of the ratios of each pair, or that number.
        target: what the ratio may be at most; `None` for a line that is there to be read.
    """

    name: str
    ours: float | None
    other: float | None
    ratio: float
    target: float | None = None

    @property
    def verdict(self) -> str:
        if self.target is None:
            return ""
        return "met" if self.ratio <= self.target else "NOT MET"


def nothing(_: object = None) -> None:
    """There is nothing to prepare, or to clean up."""


def compare(
    name: str,
    ours: Act,
    other: Act,
    *,
    rounds: int,
    target: float | None = None,
    prepare: Callable[[], Any] = nothing,
    clean: Callable[[Any], object] = nothing,
) -> Result:
    """Time both, in turns, each first in every other round.

    Args:
        name: what is done.
        ours: lading's way.
        other: the way that it is measured against.
        rounds: how many of each are timed, after one that is not.
        target: what the ratio may be at most.
        prepare: makes what `ours` is called with, outside the clock; `other` is called with it too.
        clean: called with what either returned, outside the clock.
    """

    async def turns() -> Result:
        times: dict[Act, list[float]] = {ours: [], other: []}
        for turn in range(rounds + 1):
            for act in (ours, other) if turn % 2 else (other, ours):
                given = prepare()
                gc.collect(0 if rounds > 100 else 2)
                if iscoroutinefunction(act):
                    start = perf_counter()
                    made = await act(given)
                else:
                    start = perf_counter()
                    made = act(given)
                times[act].append(perf_counter() - start)
                clean(made)
                del given, made  # or the next would be timed with all of this in memory
        mine, theirs = times[ours][1:], times[other][1:]
        ratio = median(a / b for a, b in zip(mine, theirs, strict=True))
        return Result(name, median(mine), median(theirs), ratio, target)

    return asyncio.run(turns())


def report(title: str, results: Iterator[Result]) -> None:
    """Print a table, each line as soon as it is known."""
    print(f"\n{title:<58}{'lading':>12}{'other':>12}{'ratio':>8}{'target':>8}")
    for result in results:
        target = "" if result.target is None else f"{result.target:g}"
        times = f"{_time(result.ours):>12}{_time(result.other):>12}"
        print(f"{result.name:<58}{times}{result.ratio:>8.2f}{target:>8}  {result.verdict}".rstrip(), flush=True)


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds * 1e6:.1f} µs" if seconds < 1e-3 else f"{seconds * 1e3:.1f} ms"
