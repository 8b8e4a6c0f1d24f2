"""The one door to the word "certified": what evidence proves about a problem, or a refusal."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from lipcert.arithmetic.rounding import flushes_to_zero
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.boxes import Bounds, propagate, propagate_many
from lipcert.certificate.chains import absolute_bound, prepare, prepare_split, spectral_bound
from lipcert.certificate.claim import (
    AbsoluteChain,
    BoxClaim,
    Claim,
    Composed,
    Equilibrium,
    Extremes,
    Inequality,
    Local,
    MonotoneClaim,
    SingleEvidence,
    Slope,
    Witness,
)
from lipcert.certificate.composed import composed_bound
from lipcert.certificate.inequality import inequality_bound
from lipcert.certificate.linear_bounds import linear_boxes, paired, whole_net
from lipcert.certificate.local import local_bound
from lipcert.certificate.pieces import tree_box
from lipcert.certificate.signs import certified_share, check_fails
from lipcert.certificate.witness import attained
from lipcert.errors import NotProvedError
from lipcert.problem import Box, Problem, rows_of


def verify(problem: Problem, claim: Claim, by: Arithmetic | None = None) -> float:
    """The upper bound, at most claim.value, that the claim's evidence proves for the problem.

    `by` chooses the arithmetic: float64 with error terms (default) or `balls.BallArithmetic`. Raises NotProvedError
    with the inequality that fails, and by how much.
    """
    check_underflow()
    _check_single(problem)
    if not (math.isfinite(claim.value) and claim.value >= 0):
        raise NotProvedError(f"the claimed value {claim.value} is not a finite number >= 0")
    by = by or Arithmetic()
    problem = replace(problem, equilibria=claim.equilibria)
    whole = problem.everywhere() if claim.anywhere else problem
    if claim.pairs:
        whole = paired(whole, by)
    if isinstance(claim.evidence, Composed):
        if claim.linear:
            raise NotProvedError("the parts of a network are proven over intervals")
        return _at_most(composed_bound(whole, claim.evidence, by, _prove), claim)
    if isinstance(claim.evidence, Local):
        if not claim.linear:
            raise NotProvedError("pieces of a region are bounded by planes")
        return _at_most(local_bound(whole, claim.evidence, whole_net(whole, by, claim.slopes), by), claim)
    return _at_most(_prove(whole, claim.evidence, by, claim), claim)


def _prove(problem: Problem, evidence: SingleEvidence, by: Arithmetic, claim: Claim | None = None) -> float:
    boxes = linear_boxes(problem, by, claim.slopes) if claim and claim.linear else propagate(problem, by)
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
    check_underflow()
    _check_single(problem)
    return attained(problem, witness, by or Arithmetic())


def verify_box(problem: Problem, claim: BoxClaim, by: Arithmetic | None = None) -> Bounds:
    """The box that is proven, inside the claimed one; NotProvedError with the output that leaves it."""
    check_underflow()
    _check_single(problem)
    by = by or Arithmetic()
    size = problem.size_out
    if claim.lower.shape != (size,) or claim.upper.shape != (size,):
        raise NotProvedError(f"the claimed box does not have {size} outputs")
    problem = replace(problem, equilibria=claim.equilibria)
    if claim.pairs:
        problem = paired(problem, by)
    boxes = linear_boxes(problem, by, claim.slopes) if claim.linear else propagate(problem, by)
    low, high = boxes[problem.y]
    if claim.trees:
        if len(claim.trees) != size or not claim.linear:
            raise NotProvedError(f"there are {len(claim.trees)} trees for {size} outputs, or no linear bounds")
        whole = whole_net(problem, by, claim.slopes)
        found = np.array([tree_box(problem, tree, j, whole, by) for j, tree in enumerate(claim.trees)])
        low, high = np.maximum(low, found[:, 0]), np.minimum(high, found[:, 1])
    return _inside((low, high), claim)


def verify_boxes(problem: Problem, claim: BoxClaim, by: Arithmetic | None = None) -> Bounds:
    """The same of many regions at a time, by intervals: everything is (K, outputs), and (K, neurons) in equilibria."""
    check_underflow()
    if claim.linear or claim.trees or claim.slopes or claim.pairs:
        raise NotProvedError("boxes over many regions at a time are proven by intervals")
    shape = (*rows_of(problem.query.region), problem.size_out)
    if claim.lower.shape != shape or claim.upper.shape != shape:
        raise NotProvedError(f"the claimed boxes are not {shape[0]} of {shape[-1]} outputs")
    boxes = propagate_many(replace(problem, equilibria=claim.equilibria), by or Arithmetic())
    return _inside(boxes[problem.y], claim)


def _inside(proven: Bounds, claim: BoxClaim) -> Bounds:
    """The proven box, if it is in the claimed one."""
    inside = (proven[0] >= claim.lower) & (proven[1] <= claim.upper)
    if not np.all(inside):
        at = np.unravel_index(int(np.argmin(inside)), inside.shape)
        row = f"row {at[0]}, " if len(at) > 1 else ""
        found, claimed = (f"[{low[at]:.17g}, {high[at]:.17g}]" for low, high in (proven, (claim.lower, claim.upper)))
        raise NotProvedError(f"{row}output {at[-1]} is proven within {found}, and {claimed} is claimed")
    return proven


def verify_extremes(problem: Problem, claim: Extremes, by: Arithmetic | None = None) -> None:
    """NotProvedError where a point is not certainly in the region, or its output not certainly as low or high."""
    check_underflow()
    _check_single(problem)
    by = by or Arithmetic()
    shape = (problem.size_out, problem.size_in)
    if claim.lowest.shape != shape or claim.highest.shape != shape:
        raise NotProvedError(f"the points are not {shape[0]} of {shape[1]} entries")
    if claim.lower.shape != shape[:1] or claim.upper.shape != shape[:1]:
        raise NotProvedError(f"the attained values are not {shape[0]}")
    if len(claim.equilibria) not in (0, 2 * shape[0]):
        raise NotProvedError(f"there are {len(claim.equilibria)} solutions of layers for {2 * shape[0]} points")
    there = claim.equilibria or ((),) * (2 * shape[0])
    for j in range(shape[0]):
        high = value_at(problem, claim.lowest[j], by, there[j])[1][j]
        low = value_at(problem, claim.highest[j], by, there[shape[0] + j])[0][j]
        if not (high <= claim.lower[j] and claim.upper[j] <= low):
            raise NotProvedError(f"output {j} is not proven to attain [{claim.lower[j]:.17g}, {claim.upper[j]:.17g}]")


def verify_monotone(problem: Problem, claim: MonotoneClaim, by: Arithmetic | None = None) -> float:
    """The share of the region, at least the claimed one, on which the derivatives are proven to have the sign."""
    check_underflow()
    _check_single(problem)
    if not (0 <= claim.share <= 1 and 0 <= claim.tolerance < math.inf):
        raise NotProvedError("the claimed share is not one, or the tolerance is no number of at least zero")
    by = by or Arithmetic()
    problem = replace(problem, equilibria=claim.equilibria)
    share = certified_share(paired(problem, by) if claim.pairs else problem, claim, by)
    if not share >= claim.share:
        raise NotProvedError(f"a share of {share:.17g} is proven, and {claim.share:.17g} is claimed")
    return share


def verify_not_monotone(problem: Problem, claim: MonotoneClaim, slope: Slope, by: Arithmetic | None = None) -> float:
    """What the derivative at the counterexample is at most (times -1 for decreasing): below zero, or NotProvedError."""
    check_underflow()
    _check_single(problem)
    return check_fails(problem, claim, slope, by or Arithmetic())


def value_at(problem: Problem, point: np.ndarray, by: Arithmetic, equilibria: tuple[Equilibrium, ...] = ()) -> Bounds:
    """Bounds on the outputs at a point, which must be in the region."""
    if not problem.query.region.contains(point):
        raise NotProvedError("a point is not certainly in the region")
    single = replace(problem, query=replace(problem.query, region=Box(point, point)), equilibria=equilibria)
    return propagate(single, by if equilibria else type(by)())[problem.y]  # boxes are not worth keeping, layers are


def _check_single(problem: Problem) -> None:
    """What is not written for many regions at a time would speak of the first one alone."""
    if rows_of(problem.query.region):
        raise NotProvedError("of many regions at a time only boxes by intervals are proven, by verify_boxes")


def check_underflow() -> None:
    """Some libraries make the processor flush subnormals to zero; single operations are then not rounded."""
    if flushes_to_zero():
        raise NotProvedError(
            "this process flushes subnormal numbers to zero, so rounding cannot be accounted for",
            hint="undo torch.set_flush_denormal, or check in a fresh process",
        )


def _relative(a: float, b: float) -> float:
    return a / b - 1 if b else math.inf
