"""The linear bounds of method `local` as claims, each found and verified, without the branching of a whole run.

And, to see how much they leave, the norm at the center.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lipcert.certificate import Claim
    from lipcert.methods import Progress
    from lipcert.problem import Problem


def patient(timeout: float) -> Progress:
    """A run's progress in which nothing is worth branching: more is attained than any bound."""
    from lipcert.methods import Progress

    return Progress(time.monotonic() + timeout, attained=lambda: math.inf)


def linear_claims(problem: Problem, progress: Progress) -> Iterator[tuple[Claim, float]]:
    """Claims of the Jacobian over the region as a whole, and the seconds that each took, its proof included.

    The last one may be followed by a search with LipSDP that nobody waits for: stop before where that matters.
    """
    from lipcert.certificate import verify
    from lipcert.methods.local import LocalMethod

    claims = LocalMethod().claims(problem, progress)
    while True:
        began = time.perf_counter()
        claim = next(claims, None)
        if claim is None or not _is_linear(claim):
            return
        verify(problem, claim, progress.arithmetic)
        yield claim, time.perf_counter() - began


def norm_at_center(problem: Problem) -> float:
    """The l-infinity norm of the Jacobian there, in float64 without error bounds."""
    import numpy as np

    from lipcert.methods.lower.directions import Jacobian
    from lipcert.methods.lower.search import region_center

    center = region_center(problem.query.region)  # type: ignore[arg-type]
    every = np.eye(problem.size_out)
    rows = Jacobian(problem, np.tile(center, (len(every), 1))).backward(every)
    return float(np.abs(rows).sum(axis=1).max())


def _is_linear(claim: Claim) -> bool:
    """Whether it is about the region in one piece, without LipSDP."""
    from lipcert.certificate.claim import Local, Rows

    return isinstance(claim.evidence, Local) and all(
        isinstance(part, Rows) and len(part.tree.splits) <= 1 for part in claim.evidence.parts
    )
