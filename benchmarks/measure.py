"""Repeated measurements: medians, since others may share the machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

BUDGET = 20.0
"""Seconds after which a measurement is not repeated once more."""


@dataclass(frozen=True)
class Timing:
    """Seconds that some work took."""

    median: float
    fastest: float
    runs: int


def timed(work: Callable[[], T], repeat: int) -> tuple[T, Timing]:
    """The last result of `work`, run up to `repeat` times (at least once, and not beyond the budget)."""
    samples: list[float] = []
    while True:
        began = time.perf_counter()
        result = work()
        samples.append(time.perf_counter() - began)
        if len(samples) >= repeat or sum(samples) > BUDGET:
            return result, Timing(statistics.median(samples), min(samples), len(samples))
