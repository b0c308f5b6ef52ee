"""What tests need: an application's stores in memory, a clock that stands still, backends that fail on cue, crashes.

What needs pytest is in modules of its own: `lading.testing.backends` and `lading.testing.capabilities`.
"""

from lading.testing.clock import FrozenClock, frozen_clock
from lading.testing.crash import Failure, NotCrashSafe, Report, Violation, assert_crash_safe
from lading.testing.faults import Fault, Kind, Plan, Verb, random_faults
from lading.testing.faulty import Call, FaultyBackend
from lading.testing.stores import Files, in_memory

__all__ = [
    "Call",
    "Failure",
    "Fault",
    "FaultyBackend",
    "Files",
    "FrozenClock",
    "Kind",
    "NotCrashSafe",
    "Plan",
    "Report",
    "Verb",
    "Violation",
    "assert_crash_safe",
    "frozen_clock",
    "in_memory",
    "random_faults",
]
