"""The one door to the word "certified": what evidence proves about a problem, or a refusal."""

from __future__ import annotations

import math

from lipcert.arithmetic.rounding import flushes_to_zero
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.boxes import propagate
from lipcert.certificate.chains import absolute_bound, prepare, prepare_split, spectral_bound
from lipcert.certificate.claim import AbsoluteChain, Claim, Composed, Inequality, SingleEvidence, Witness
from lipcert.certificate.composed import composed_bound
from lipcert.certificate.inequality import inequality_bound
from lipcert.certificate.linear_bounds import linear_boxes
from lipcert.certificate.witness import attained
from lipcert.errors import NotProvedError
from lipcert.problem import Problem


def verify(problem: Problem, claim: Claim, by: Arithmetic | None = None) -> float:
    """The upper bound, at most claim.value, that the claim's evidence proves for the problem.

    `by` chooses the arithmetic: float64 with error terms (default) or `balls.BallArithmetic`. Raises NotProvedError
    with the inequality that fails, and by how much.
    """
    _check_underflow()
    if not (math.isfinite(claim.value) and claim.value >= 0):
        raise NotProvedError(f"the claimed value {claim.value} is not a finite number >= 0")
    by = by or Arithmetic()
    whole = problem.everywhere() if claim.anywhere else problem
    if isinstance(claim.evidence, Composed):
        if claim.linear:
            raise NotProvedError("the parts of a network are proven over intervals")
        return _at_most(composed_bound(whole, claim.evidence, by, _prove), claim)
    return _at_most(_prove(whole, claim.evidence, by, claim.linear), claim)


def _prove(problem: Problem, evidence: SingleEvidence, by: Arithmetic, linear: bool = False) -> float:
    boxes = linear_boxes(problem, by) if linear else propagate(problem, by)
    if isinstance(evidence, Inequality):
        return inequality_bound(prepare_split(problem, boxes, "open", by), evidence)
    setting = prepare(problem, boxes, evidence.center, by)
    if isinstance(evidence, AbsoluteChain):
        return absolute_bound(setting)
    return spectral_bound(setting, evidence)


def _at_most(proven: float, claim: Claim) -> float:
    if not 0 <= proven <= claim.value:
        raise NotProvedError(
            f"the evidence proves {proven:.17g}, which is above the claimed {claim.value:.17g} "
            f"(relative difference {_relative(proven, claim.value):.2e})"
        )
    return proven


def verify_witness(problem: Problem, witness: Witness, by: Arithmetic | None = None) -> float:
    """The lower bound that the witness attains, or NotProvedError."""
    _check_underflow()
    return attained(problem, witness, by or Arithmetic())


def _check_underflow() -> None:
    """Some libraries make the processor flush subnormals to zero; single operations are then not rounded."""
    if flushes_to_zero():
        raise NotProvedError(
            "this process flushes subnormal numbers to zero, so rounding cannot be accounted for",
            hint="undo torch.set_flush_denormal, or check in a fresh process",
        )


def _relative(a: float, b: float) -> float:
    return a / b - 1 if b else math.inf
