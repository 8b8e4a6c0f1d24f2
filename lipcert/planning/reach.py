"""Where can the outputs go? A proven box around them, and points that show how much of it is needed."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from lipcert.certificate import BoxClaim, Extremes, verify_box, verify_extremes
from lipcert.certificate.boxes import Bounds
from lipcert.certificate.claim import Tree
from lipcert.certificate.implicit import layers_of
from lipcert.certificate.pieces import tree_box
from lipcert.certificate.verify import value_at
from lipcert.errors import InconclusiveError, NotProvedError, UsageError
from lipcert.methods import OutOfTime, Progress
from lipcert.methods.boxes import Chosen, choose_boxes, choose_net, in_pairs, is_implicit
from lipcert.methods.implicit import equilibria_at, with_equilibria
from lipcert.methods.local.branch import FEW_INPUTS
from lipcert.methods.local.inputs import few_inputs
from lipcert.methods.local.reach import AboveZero, Attained, branched_trees, halved_trees
from lipcert.methods.lower.extremes import find_extremes
from lipcert.methods.product.method import for_lipsdp_only
from lipcert.planning.solve import DEFAULT_TIMEOUT, check_timeout, patience
from lipcert.problem import Everywhere, Problem

SLACK = 2.0**-40
"""Relative room in claimed ends for a checker whose sums run in another order."""

SPARE = 1e-300
"""The same beside zero."""

MAX_OUTPUTS = 64
"""Whose extremes are looked for, and proven at points."""


@dataclass(frozen=True)
class ReachOutcome:
    """A verified box, and verified values that are attained, where they were looked for."""

    claim: BoxClaim
    extremes: Extremes | None
    seconds: float


@np.errstate(all="ignore")  # overflow ends in infinite ends
def solve_reach(problem: Problem, *, timeout: float | None = None, exact: bool = False) -> ReachOutcome:
    """Bound every output over the region; UsageError without a region.

    `exact` branches until no box is wider than what is attained in it by more than a hundredth.
    """
    check_timeout(timeout)
    if isinstance(problem.query.region, Everywhere):
        raise UsageError("reach needs a region", hint="give --center and --eps, --box or --spec")
    implicit = is_implicit(problem)
    if exact and implicit and not few_inputs(problem):
        raise UsageError(
            f"--exact: fixed points are branched over for at most {FEW_INPUTS} inputs", hint="leave it out"
        )
    if exact and not implicit and for_lipsdp_only(problem) is not None:
        raise UsageError("--exact: ops known by a template are not branched over", hint="leave it out")
    started = time.monotonic()
    progress = Progress(started + (DEFAULT_TIMEOUT if timeout is None else timeout))
    by = progress.arithmetic
    before, by.tick = by.tick, patience(progress)
    try:
        problem = with_equilibria(problem, by)
    except OutOfTime:
        raise InconclusiveError("no time left to see where fixed points are", hint="raise --timeout") from None
    except NotProvedError as reason:
        raise InconclusiveError(reason.message, hint=_instead(problem, progress)) from None
    finally:
        by.tick = before
    chosen, posed = choose_form(problem, progress)
    low, high = chosen.boxes[posed.y]
    seen = find_extremes(problem, progress) if problem.size_out <= MAX_OUTPUTS else None
    trees: tuple[Tree, ...] = ()
    if exact and chosen.linear and seen is not None:
        attained = Attained(problem)
        attained.look(np.concatenate(seen))
        net = choose_net(posed, progress)
        trees = (
            halved_trees(posed, net.net, attained, progress)
            if implicit
            else branched_trees(posed, net, attained, progress)
        )
        by = progress.arithmetic
        boxes = np.array([tree_box(posed, tree, j, net.net, by) for j, tree in enumerate(trees)])
        if len(boxes):
            low, high = np.maximum(low, boxes[:, 0]), np.minimum(high, boxes[:, 1])
        seen = attained.lowest, attained.highest
    claim = box_claim(problem, chosen, posed, (low, high), trees, progress)
    return ReachOutcome(claim, _extremes(problem, seen, progress), time.monotonic() - started)


@np.errstate(all="ignore")
def quick_box(problem: Problem, progress: Progress) -> BoxClaim:
    """A proven box without branching, and without a look at what is attained; NotProvedError where there is none."""
    problem = with_equilibria(problem, progress.arithmetic)
    chosen, posed = choose_form(problem, progress)
    return box_claim(problem, chosen, posed, chosen.boxes[posed.y], (), progress)


@np.errstate(all="ignore")
def positive_box(problem: Problem, values: np.ndarray, progress: Progress) -> tuple[BoxClaim | None, np.ndarray | None]:
    """A proven box, branched until all outputs are above zero, of which these are the values at the center.

    Or else a point at which one is seen to be below zero; None for both where the network is not branched over.
    """
    if for_lipsdp_only(problem) is not None:
        return None, None
    by, wanted = progress.arithmetic, AboveZero(problem, values)
    chosen = choose_boxes(problem, progress)
    if not chosen.linear:
        return None, None
    net = choose_net(problem, progress)
    trees = branched_trees(problem, net, wanted, replace(progress, gap=1.0))
    if not trees or wanted.refuted:
        return None, wanted.worst
    found = np.array([tree_box(problem, tree, j, net.net, by) for j, tree in enumerate(trees)])
    low, high = chosen.boxes[problem.y]
    box = np.maximum(low, found[:, 0]), np.minimum(high, found[:, 1])
    return box_claim(problem, chosen, problem, box, trees, progress), None


def box_claim(
    problem: Problem, chosen: Chosen, posed: Problem, box: Bounds, trees: tuple[Tree, ...], progress: Progress
) -> BoxClaim:
    """Verified, with a little room."""
    low, high = roomy(box)
    claim = BoxClaim(low, high, chosen.linear, trees, chosen.slopes, problem.equilibria, posed is not problem)
    verify_box(problem, claim, progress.arithmetic)
    return claim


def _instead(problem: Problem, progress: Progress) -> str:
    """What to do where there is no box for fixed points."""
    try:
        layers_of(problem.graph, progress.arithmetic)
    except NotProvedError:
        return "`lipcert bound` may bound it; --unrolled reads the steps of a Loop, of which there are boxes"
    return "`lipcert inspect` tells more; or choose a smaller region"


def roomy(box: Bounds) -> Bounds:
    """A claim's ends."""
    low, high = (end + sign * (SLACK * np.abs(end) + SPARE) for end, sign in zip(box, (-1, 1), strict=True))
    return low, high


def choose_form(problem: Problem, progress: Progress) -> tuple[Chosen, Problem]:
    """The graph as it is, or with softmax and the like in pairs: the one with the smaller boxes."""
    plain = choose_boxes(problem, progress)
    posed = in_pairs(problem, progress.arithmetic) if plain.linear else None
    if posed is None:
        return plain, problem
    try:  # slopes that are known are of the graph as it is
        pairs = choose_boxes(posed, progress if progress.slopes is None else replace(progress, slopes=()))
    except NotProvedError:  # a box is not a number
        return plain, problem
    if not pairs.linear:
        return plain, problem
    before, after = (box[1] - box[0] for box in (plain.boxes[problem.y], pairs.boxes[posed.y]))
    return (pairs, posed) if after.sum() < before.sum() else (plain, problem)


def _extremes(problem: Problem, found: tuple[np.ndarray, np.ndarray] | None, progress: Progress) -> Extremes | None:
    """What is proven of the best points that were found."""
    if found is None:
        return None
    by = progress.arithmetic
    every = range(problem.size_out)
    try:
        there = equilibria_at(problem, np.concatenate(found), by)
        lower = np.array([value_at(problem, found[0][j], by, there[j])[1][j] for j in every])
        upper = np.array([value_at(problem, found[1][j], by, there[len(every) + j])[0][j] for j in every])
        room = SLACK * np.maximum(np.abs(lower), np.abs(upper)) + 1e-300
        claim = Extremes(found[0], found[1], lower + room, upper - room, tuple(there) if problem.equilibria else ())
        verify_extremes(problem, claim, by)
    except NotProvedError:
        return None
    finite = np.all(np.isfinite(claim.lower)) and np.all(np.isfinite(claim.upper))
    return claim if finite else None  # an op is not defined at a point, or an input is free
