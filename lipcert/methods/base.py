"""What a backend offers to the planner."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from lipcert.certificate import Claim, Witness
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.claim import Rows, Slopes
from lipcert.problem import Problem


class OutOfTime(Exception):
    """Raised by a method that stops for lack of time; what it claimed before stands."""


class Unsuitable(Exception):
    """Raised by a method that sees on the way that it cannot bound a problem; its text says why, in one clause."""


@dataclass(frozen=True)
class Resumed:
    """What an earlier run had proven, and the trees that it had grown, which may have proven nothing yet."""

    claim: Claim
    trees: tuple[Rows, ...]


@dataclass(frozen=True)
class Progress:
    """What a run has left and has done: time, and the arithmetic that remembers its proofs."""

    deadline: float = float("inf")
    """A time.monotonic() instant."""

    device: str = "cpu"
    """Where searches run: auto, cpu or cuda."""

    arithmetic: Arithmetic = field(default_factory=Arithmetic)

    solver: str = "native"
    """Which solver finds the multipliers of LipSDP."""

    close: float = 1e-6
    """The relative duality gap at which LipSDP ends."""

    linear: bool = True
    """Whether boxes may be those of linear bounds."""

    slopes: tuple[Slopes, ...] | None = None
    """Of the lines below ramps, if they have been searched for over this region."""

    exact: bool = False
    """Whether to branch until the bound is tight."""

    gap: float = 1.01
    """The ratio of bounds that is tight enough for that."""

    attained: Callable[[], float] = lambda: 0.0
    """What is proven from below so far."""

    witnesses: list[Witness] = field(default_factory=list)
    """Points that a method came by and that may attain more."""

    resume: Resumed | None = None
    """Where an earlier run of the same problem ended."""

    save: Callable[[tuple[Rows, ...]], None] = lambda trees: None
    """Is told now and then how far branching is."""

    notes: list[str] = field(default_factory=list)
    """What a method has to say about its next claim; the report shows it."""

    def remaining(self) -> float:
        return self.deadline - time.monotonic()


class Method(Protocol):
    """A backend: untrusted, anytime."""

    name: str

    def accepts(self, problem: Problem) -> str | None:
        """None if it can take the problem, else one clause that says why not."""

    def claims(self, problem: Problem, progress: Progress) -> Iterator[Claim]:
        """Claims, the cheap ones first; returns when it can do no better, raises OutOfTime when time is short."""
