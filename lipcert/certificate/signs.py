"""Signs of partial derivatives over pieces of a region: monotonicity, and points at which it fails."""

from __future__ import annotations

import math

import numpy as np

from lipcert.arithmetic.enclosure import Enclosure
from lipcert.arithmetic.rounding import down, up
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.claim import MonotoneClaim, Slope
from lipcert.certificate.derivative import bound_rows, chain_rule
from lipcert.certificate.linear_bounds import Bounded, in_ramps, whole_net
from lipcert.certificate.pieces import MAX_STEPS, bounded_pieces
from lipcert.certificate.witness import derivative_along
from lipcert.errors import NotProvedError
from lipcert.problem import Problem


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # overflow ends in inf or NaN, which proves nothing
def certified_share(problem: Problem, claim: MonotoneClaim, by: Arithmetic) -> float:
    """The share of the region's box, at least, on which every chosen derivative has the claimed sign.

    1 where the pieces that are left over are none; pieces that are cut elsewhere than at inputs count only then.
    """
    n, query = problem.size_in, problem.query
    if not claim.inputs or not set(claim.inputs) <= set(range(n)):
        raise NotProvedError("the chosen inputs are not entries of the input")
    if not 0 <= claim.steps <= MAX_STEPS:
        raise NotProvedError(f"there are no {claim.steps} steps")
    posed = in_ramps(problem, by)
    rule, whole = chain_rule(posed, by), whole_net(problem, by, claim.slopes)
    if rule.gradient is None:
        return 1.0
    everything, share = True, 0.0
    low, high = query.region.bounds(n)
    for _, bounded in bounded_pieces(problem, claim.tree, whole, by):
        outputs = np.tile(np.arange(problem.size_out), (len(bounded.empty), 1))
        rows = bound_rows(posed, rule, bounded.net, outputs, claim.steps, by)
        least, most = (side[:, :, list(claim.inputs)] for side in rows.entries())
        signed = least if claim.increasing else -most
        holds = bounded.empty | np.all(signed >= -claim.tolerance, axis=(1, 2))
        everything = everything and bool(holds.all())
        for b in np.flatnonzero(holds):
            share = float(down(share + _volume(bounded, posed.x, int(b), low, high)))
    return 1.0 if everything else max(0.0, share)


def _volume(bounded: Bounded, x: int, piece: int, low: np.ndarray, high: np.ndarray) -> float:
    """What a piece that is cut at inputs alone has of the box, rounded down; 0 for others."""
    if bounded.cut_nodes - {x}:
        return 0.0
    first, last = (side[piece % len(side)] for side in bounded.net.boxes[x])
    flat = high == low
    parts = np.where(flat, 1.0, down(down(last - first) / np.where(flat, 1.0, up(high - low))))
    return float(math.prod(parts.tolist())) * (1 - 4 * len(parts) * 2.0**-53)


def slope_at(problem: Problem, slope: Slope, by: Arithmetic) -> Enclosure:
    """The derivative of the outputs by one input at a point of the region."""
    n = problem.size_in
    if slope.point.shape != (n,) or not 0 <= slope.input < n or not problem.query.region.contains(slope.point):
        raise NotProvedError("the point is not certainly in the region, or there is no such input")
    return derivative_along(problem, slope.point, np.eye(n)[slope.input], by)


def check_fails(problem: Problem, claim: MonotoneClaim, slope: Slope, by: Arithmetic) -> float:
    """The derivative that shows that a network is not monotone, as far from the claimed sign as is proven."""
    if slope.input not in claim.inputs or not 0 <= slope.output < problem.size_out:
        raise NotProvedError("the counterexample is about another input or output")
    found = slope_at(problem, slope, by)
    value = float(found.upper()[slope.output]) if claim.increasing else -float(found.lower()[slope.output])
    if not value < 0:
        raise NotProvedError("the derivative at the counterexample is not proven to be of the other sign")
    return value
