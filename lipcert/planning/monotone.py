"""Do the outputs increase with chosen inputs over a region? The share on which that is proven, or a counterexample."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import numpy as np

from lipcert.certificate import MonotoneClaim, Slope, verify_monotone, verify_not_monotone
from lipcert.errors import NotProvedError, UnsupportedModelError, UsageError
from lipcert.methods import Progress
from lipcert.methods.local.signs import branched_signs
from lipcert.methods.product.method import for_lipsdp_only
from lipcert.planning.solve import DEFAULT_TIMEOUT, check_timeout
from lipcert.problem import Everywhere, Problem


@dataclass(frozen=True)
class MonotoneOutcome:
    """A verified claim, and a verified counterexample where there is one: its derivative is at most `value`."""

    claim: MonotoneClaim
    counterexample: Slope | None
    value: float
    seconds: float


@np.errstate(all="ignore")  # overflow proves nothing
def solve_monotone(
    problem: Problem,
    inputs: tuple[int, ...],
    increasing: bool,
    *,
    tolerance: float = 0.0,
    timeout: float | None = None,
) -> MonotoneOutcome:
    """UsageError without a region, or with an input that there is not; UnsupportedModelError for fixed points."""
    check_timeout(timeout)
    if not 0 <= tolerance < math.inf:
        raise UsageError(f"--tolerance: {tolerance} is no slope", hint="use a finite number >= 0")
    if len(set(inputs)) < len(inputs):
        raise UsageError(f"--inputs: {', '.join(map(str, inputs))} names an input twice")
    if isinstance(problem.query.region, Everywhere):
        raise UsageError("monotone needs a region", hint="give --box, --spec, or --center and --eps")
    for i in inputs:
        if not 0 <= i < problem.size_in:
            raise UsageError(
                f"--inputs: there is no input {i}", hint=f"the model has inputs 0 to {problem.size_in - 1}"
            )
    if (obstacle := for_lipsdp_only(problem)) is not None:
        raise UnsupportedModelError(f"monotone: {obstacle}")
    started = time.monotonic()
    progress = Progress(started + (DEFAULT_TIMEOUT if timeout is None else timeout))
    by = progress.arithmetic
    try:
        claim, worst = branched_signs(problem, inputs, increasing, tolerance, progress)
        claim = replace(claim, share=verify_monotone(problem, claim, by))
    except NotProvedError as reason:
        raise UnsupportedModelError(f"monotone: {reason.message}") from None
    counterexample, value = None, 0.0
    if claim.share < 1 and worst is not None:
        try:
            value = verify_not_monotone(problem, claim, worst, by)
            counterexample = worst if value < -tolerance else None
        except NotProvedError:
            counterexample = None
    return MonotoneOutcome(claim, counterexample, value, time.monotonic() - started)
