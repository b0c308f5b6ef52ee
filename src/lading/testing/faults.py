"""What goes wrong, and when: the faults that a `lading.testing.FaultyBackend` lets its calls meet."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from random import Random
from typing import Literal, TypeAlias, get_args

import msgspec

from lading.errors import ConfigurationError, StoreError, StoreUnavailable

Verb = Literal[
    "put", "get", "read", "head", "delete", "list", "copy", "sign", "attributes", "list_in_order", "staged", "discard"
]  # fmt: skip
"""What a driver is asked to do: the methods of `lading.backends.protocols.Driver` and of the capabilities."""

Kind = Literal["error", "error after", "hang", "hang after", "delay", "cut"]
"""What happens to a call; see `Fault`."""

VERBS: tuple[Verb, ...] = get_args(Verb)
KINDS: tuple[Kind, ...] = get_args(Kind)
SECONDS: Mapping[Kind, float] = {"hang": 60, "hang after": 60, "delay": 0.05}


class Fault(msgspec.Struct, frozen=True):
    """What one call of a verb meets instead of succeeding, or several calls in a row.

    The kinds: `error` raises, and the store was never asked; `error after` asks the store, and then raises; `hang` and
    `hang after` wait, and then do the same; `delay` waits, and then goes on as if nothing were wrong; `cut` raises in
    the middle of a stream: of what is read, of what is listed, or of the body of a put, of which the store then keeps
    nothing. Where there is no stream `cut` is `error`.

    Attributes:
        verb: which verb; `"*"` is any.
        at: which call of that verb meets it first, counted from 1 since the plan was made.
        kind: what happens.
        times: how many calls in a row meet it; `None` is every one from then on.
        error: raised with a message of its own, or, where it is an exception and not a class, as it is. The default is
            transient: who tries again may succeed. With `StoreError` nobody does.
        seconds: how long it waits; by default a hang 60 and a delay 0.05.
        bytes: what comes through before the cut: bytes of content, or entries of a listing.

    Raises:
        ConfigurationError: there is no such verb or kind, or a number is out of its range.
    """

    verb: Verb | Literal["*"]
    at: int = 1
    kind: Kind = "error"
    times: int | None = 1
    error: type[StoreError] | BaseException = StoreUnavailable
    seconds: float | None = None
    bytes: int = 0

    def __post_init__(self) -> None:
        if self.verb not in (*VERBS, "*"):
            raise ConfigurationError(f"no driver has the verb {self.verb!r}; there are {', '.join(VERBS)}")
        if self.kind not in KINDS:
            raise ConfigurationError(f"there is no fault {self.kind!r}; there are {', '.join(KINDS)}")
        if self.at < 1 or (self.times is not None and self.times < 1):
            raise ConfigurationError(f"calls are counted from 1: at={self.at}, times={self.times}")
        if self.bytes < 0 or (self.seconds or 0) < 0:
            raise ConfigurationError(f"nothing is less than 0: bytes={self.bytes}, seconds={self.seconds}")

    def raised(self, verb: Verb, backend: str, path: str) -> BaseException:
        """The error that a call of that verb meets."""
        if isinstance(self.error, BaseException):
            return self.error
        return self.error(f"{verb} failed on cue", backend=backend, path=path)

    def meets(self, number: int) -> bool:
        """Whether the call of that number meets it."""
        return self.at <= number and (self.times is None or number < self.at + self.times)


Plan: TypeAlias = Callable[[Verb], Fault | None]
"""Says what a call that begins now meets. Called once for each call, and for one at a time."""


def in_turn(faults: Sequence[Fault]) -> Plan:
    """The plan that a list of faults makes: each at its call, the first of them where two meet one call."""
    calls: Counter[str] = Counter()

    def plan(verb: Verb) -> Fault | None:
        calls.update((verb, "*"))
        return next((fault for fault in faults if fault.verb in (verb, "*") and fault.meets(calls[fault.verb])), None)

    return plan


def random_faults(
    seed: int,
    *,
    rate: float = 0.1,
    verbs: Collection[Verb] = VERBS,
    kinds: Sequence[Kind] = ("error", "error after", "cut", "delay"),
    error: type[StoreError] = StoreUnavailable,
    seconds: float | None = None,
) -> Plan:
    """A plan by chance, and the same one each time for a seed.

    What the n-th call of a verb meets hangs on nothing else, so that it is the same in whatever order threads or tasks
    come. A stream is cut within its first 64 KiB, a listing anywhere in its first 65,536 entries or at its end.

    Args:
        seed: another one is another plan.
        rate: the share of calls that meet a fault, from 0 to 1.
        verbs: which verbs do.
        kinds: what they meet; hangs only where they are asked for.
        error: what is raised.
        seconds: how long a delay or hang is, see `Fault`.
    """
    calls: Counter[str] = Counter()

    def plan(verb: Verb) -> Fault | None:
        calls[verb] += 1
        draw = Random(f"{seed} {verb} {calls[verb]}")  # noqa: S311  # chance, not secrecy
        if verb not in verbs or draw.random() >= rate:
            return None
        return Fault(verb, calls[verb], draw.choice(kinds), 1, error, seconds, int(2 ** draw.uniform(0, 16)) - 1)

    return plan
