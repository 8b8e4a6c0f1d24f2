"""How a suite measures the peers that bound a dense network in l2: which are there, their ways, value and time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

from benchmarks.measure import Timing, timed
from benchmarks.peers import eclipse, lmi
from benchmarks.peers.answers import Answer, Way
from benchmarks.peers.layers import Layers
from benchmarks.section import Row, Settings

T = TypeVar("T")

QUICK = 1.0
"""Seconds below which work is measured again (--repeat); slower work runs once."""


def presence(settings: Settings) -> list[str]:
    """A note on each peer: its version, or why it is left out."""
    notes = []
    for peer in (eclipse, lmi):
        reason = peer.available()
        notes.append(f"{peer.NAME}: {peer.version() if reason is None else reason}")
        if reason is not None:
            settings.say(f"skipped {peer.NAME}: {reason}")
    return notes


def eclipse_ways(layers: Layers) -> Iterator[Way]:
    if eclipse.available() is None:
        for name, work in eclipse.global_l2(layers):
            yield f"{eclipse.NAME}: {name}", work


def with_output(layers: Layers, output: int) -> Layers:
    """The same network with one of its outputs."""
    one = slice(output, output + 1)
    weights, biases = [*layers.weights[:-1], layers.weights[-1][one]], [*layers.biases[:-1], layers.biases[-1][one]]
    return replace(layers, weights=weights, biases=biases)


def measured(work: Callable[[], Answer], settings: Settings) -> Row:
    """A peer's value and time, or what kept it from any."""
    try:
        (value, remark), timing = warm(work, settings.repeat)
    except lmi.TooLargeError as error:
        return {"remark": f"skipped: {error}"}
    except Exception as error:  # whatever a peer raises is its result
        return {"remark": f"failed: {type(error).__name__}: {error}"}
    return {"value": value if math.isfinite(value) else None, "remark": remark} | times(timing)


def warm(work: Callable[[], T], repeat: int) -> tuple[T, Timing]:
    """As `timed`, after a run that fills the caches of the process; once only where it is slow."""
    answer, timing = timed(work, 1)
    return (answer, timing) if timing.median > QUICK else timed(work, repeat)


def times(timing: Timing) -> Row:
    return {"seconds": timing.median, "fastest": timing.fastest, "runs": timing.runs}
