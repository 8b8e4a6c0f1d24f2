"""Lipschitz constants of margins everywhere: cheap ones of all, better ones of those that decide some radius."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from lipcert.certificate import Claim
from lipcert.certificate.claim import MarginClaim
from lipcert.certificate.robustness import Classifier, shared_constant
from lipcert.methods.boxes import is_implicit
from lipcert.planning.outcome import Outcome
from lipcert.planning.solve import solve
from lipcert.problem import AllOutputs, Margin, Problem

QUICK, BEST = 1, 2
"""What has been tried for a pair: the product of norms; every method."""

CLOSE = 1e-3
"""The duality gap of LipSDP for a pair: half of it is lost in the constant."""

Pair = tuple[int, int]


@dataclass
class Constants:
    """What is proven of the margins of a classifier so far; anytime."""

    classifier: Classifier
    values: np.ndarray
    """(outputs, outputs), infinite where nothing is proven, 0 on the diagonal."""

    shared: tuple[Claim, ...] = ()
    margins: dict[Pair, MarginClaim] = field(default_factory=dict)
    methods: dict[Pair, str] = field(default_factory=dict)
    tried: dict[Pair, int] = field(default_factory=dict)

    def keep(self, pair: Pair, outcome: Outcome) -> None:
        """The best claim about a pair, if it is below what is known."""
        if outcome.claim is not None and outcome.claim.value < self.values[pair]:
            self.margins[pair], self.methods[pair] = MarginClaim(*pair, outcome.claim), str(outcome.method)
            self.values[pair] = self.values[pair[::-1]] = outcome.claim.value


def nothing_known(classifier: Classifier) -> Constants:
    size = classifier.posed(AllOutputs()).size_out
    return Constants(classifier, np.where(np.eye(size) > 0, 0.0, math.inf))


def improve(
    found: Constants,
    margins: np.ndarray,
    classes: np.ndarray,
    deadline: float,
    device: str,
    on_step: Callable[[str], None],
    save: Callable[[], None],
) -> None:
    """Bound margins until no sample's radius would gain, or time is up: those first on which most samples depend.

    `margins` (K, outputs) at the samples, `classes` (K,) theirs. Raises UnsupportedModelError as planning.solve, and
    KeyboardInterrupt.
    """
    everything = found.classifier.posed(AllOutputs())
    if not found.shared:
        outcome = _solved(everything, QUICK, deadline, device)
        if outcome.claim is not None:
            found.shared = (outcome.claim,)
            least = np.minimum(found.values, shared_constant(outcome.claim))
            np.fill_diagonal(least, 0.0)
            found.values = least
    while time.monotonic() < deadline and (pair := _most_decisive(found, margins, classes)) is not None:
        level = found.tried.get(pair, 0) + 1
        on_step(f"margin {pair[0]}, {pair[1]}")
        found.keep(pair, _solved(found.classifier.posed(Margin(*pair)), level, deadline, device))
        found.tried[pair] = level
        save()


def _most_decisive(found: Constants, margins: np.ndarray, classes: np.ndarray) -> Pair | None:
    """The pair that limits the radius of most samples, of those for which least has been tried; None: all is done."""
    with np.errstate(divide="ignore", invalid="ignore"):
        radii = np.nan_to_num(margins / found.values[classes], nan=math.inf, posinf=math.inf)
    limits = radii.argmin(axis=1)
    pairs, counts = np.unique(np.sort(np.stack([classes, limits], axis=1), axis=1), axis=0, return_counts=True)
    open_pairs = [
        (found.tried.get((i, j), 0), -count, (i, j))
        for (i, j), count in zip(pairs.tolist(), counts.tolist(), strict=True)
        if found.tried.get((i, j), 0) < BEST
    ]
    return min(open_pairs)[2] if open_pairs else None


def _solved(problem: Problem, level: int, deadline: float, device: str) -> Outcome:
    implicit = is_implicit(problem)
    quick = "local" if implicit else "product"
    method = quick if level == QUICK else "auto" if implicit else "lipsdp"
    enough = math.inf if level == QUICK and implicit else 0.0  # the first claim, without LipSDP after it
    remaining = max(0.0, deadline - time.monotonic())
    outcome = solve(problem, method=method, timeout=remaining, device=device, lower=False, enough=enough, close=CLOSE)
    if outcome.interrupted:
        raise KeyboardInterrupt
    return outcome
