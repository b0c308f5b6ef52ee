"""Faults that last, and that nobody takes for transient and tries again."""

from typing import Any

from lading.errors import StoreError
from lading.testing import Fault, Kind, Verb


def always(verb: Verb, kind: Kind = "error", **more: Any) -> Fault:
    """A fault that each call of a verb meets, from `at` on."""
    return Fault(verb, kind=kind, times=None, error=StoreError, **more)
