"""Why each implicit layer of a problem has one solution, and boxes that hold it over the region."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.boxes import Bounds, propagate
from lipcert.certificate.claim import Equilibrium, Witness
from lipcert.certificate.implicit import Layer, check_unique, layers_of, majorant
from lipcert.certificate.linear_bounds import whole_net
from lipcert.certificate.solutions import Surroundings, check_box, gains, image, reach_of, surroundings
from lipcert.errors import NotProvedError
from lipcert.graph import FixedPoint, Graph, Output, State
from lipcert.methods.base import OutOfTime
from lipcert.methods.implicit.embedded import ROOM, embedded
from lipcert.methods.implicit.multipliers import find_multipliers
from lipcert.methods.implicit.solution import solution_near
from lipcert.problem import Box, Everywhere, Problem

WIDER = (0.01, 0.02, 0.05, 0.1)
"""Shares by which a box is made wider than what it maps to, until it holds that."""

ROUNDS = 60


def with_equilibria(
    problem: Problem, by: Arithmetic, known: Mapping[int, np.ndarray] = MappingProxyType({})
) -> Problem:
    """The problem with what is needed to bound its implicit layers; NotProvedError where one cannot be.

    `known` multipliers by state, of the same graph. `by.tick` is asked between steps, and may raise.
    """
    if problem.equilibria or not any(isinstance(node, State) for node in problem.graph.nodes):
        return problem
    found: list[Equilibrium] = []
    for state, layer in sorted(layers_of(problem.graph, by).items()):
        multipliers = known[state] if state in known else uniqueness(layer, by)
        nothing = np.full(layer.size, np.inf)
        claim = Equilibrium(state, multipliers, -nothing, nothing)
        if not isinstance(problem.query.region, Everywhere):
            box = _box_over(problem, layer, tuple(found), multipliers, by)
            if box is None:
                raise NotProvedError(f"no box was found for the solutions of {layer.origin!r} over the region")
            claim = replace(claim, lower=box[0], upper=box[1])
        found.append(claim)
    return replace(problem, equilibria=tuple(found))


def at_witness(problem: Problem, witness: Witness, by: Arithmetic) -> Witness:
    """The witness with the boxes of the layers' solutions at its point; as it is where they are not found."""
    try:
        return replace(witness, equilibria=equilibria_at(problem, witness.point[None], by)[0])
    except NotProvedError:
        return witness


def equilibria_at(problem: Problem, points: np.ndarray, by: Arithmetic) -> list[tuple[Equilibrium, ...]]:
    """Boxes of the layers' solutions at points (K, size_in), given those over the region."""
    known = {e.state: e.multipliers for e in problem.equilibria}
    found = []
    for point in points:
        there = replace(problem, query=replace(problem.query, region=Box(point, point)), equilibria=())
        found.append(with_equilibria(there, by, known).equilibria if known else ())
    return found


def uniqueness(layer: Layer, by: Arithmetic) -> np.ndarray:
    """Multipliers for which the layer is proven to have one solution; none where weights of l-infinity do."""
    nothing = np.zeros(0)
    try:
        check_unique(layer, nothing, by)
        return nothing
    except NotProvedError:
        multipliers = find_multipliers(layer, by.tick)
        if multipliers is None:
            raise NotProvedError(_not_well_posed(layer)) from None
        check_unique(layer, multipliers, by)
        return multipliers


def _not_well_posed(layer: Layer) -> str:
    measure = float(np.linalg.eigvals(majorant(layer)).real.max())
    a = layer.matrix.value
    symmetric = float(np.linalg.eigvalsh((a + a.T) / 2)[-1])
    return (
        f"the fixed point {layer.origin!r} is not shown to have one solution: mu is {beside_one(measure)} in "
        "l-infinity at its best weights (below 1 would do), the largest eigenvalue of (A + A') / 2 is "
        f"{beside_one(symmetric)}, and no multipliers were found for the condition in l2"
    )


def beside_one(number: float) -> str:
    """Six digits, and more where they would read as 1."""
    return next(text for digits in (6, 9, 12, 17) if (text := f"{number:.{digits}g}") != "1" or number == 1)


def _box_over(
    problem: Problem, layer: Layer, found: tuple[Equilibrium, ...], multipliers: np.ndarray, by: Arithmetic
) -> Bounds | None:
    """By intervals of what the layer reads, which hold wherever the claim is used; else by planes."""
    nodes = problem.graph.nodes[: layer.state]
    if sum(isinstance(n, State) for n in nodes) != sum(isinstance(n, FixedPoint) for n in nodes):
        raise NotProvedError(f"the fixed point {layer.origin!r} begins inside of another: LipSDP alone bounds it")
    before = Problem(Graph(nodes, (Output("", 0),)), problem.query, problem.x, problem.x, found)
    try:
        intervals = propagate(before, by)
        box = find_box(problem, layer, [_wider(*box) for box in intervals], multipliers, by)
    except NotProvedError:  # of an earlier layer, whose box is one by planes
        box = None
    if box is not None or all(source == problem.x for source, _ in layer.sources):
        return box
    net = whole_net(before, by)
    return find_box(problem, layer, [_wider(low[0], high[0]) for low, high in net.boxes], multipliers, by)


def _wider(low: np.ndarray, high: np.ndarray) -> Bounds:
    """A little, for boxes whose sums run in another order."""
    with np.errstate(invalid="ignore"):
        room = ROOM * (high - low) + 2.0**-44 * (np.abs(low) + np.abs(high))
        room = np.where(np.isinf(low) | np.isinf(high), 0.0, room)
    return low - room, high + room


def find_box(
    problem: Problem, layer: Layer, boxes: list[Bounds], multipliers: np.ndarray, by: Arithmetic
) -> Bounds | None:
    """The narrowest of the boxes that the three ways find, and the kernel confirms."""
    around = surroundings(problem, layer, boxes, by)
    reach = sum(
        (reach_of(problem, None, op, source, r, by) for source, op, r in around.radii), start=np.zeros(layer.size)
    )
    center = solution_near(layer, around.center.value)
    small = embedded(layer, around.center.value[None], reach, 0.0)
    found = [None if small is None else (small[0][0], small[1][0])]
    if center is not None:
        found.append(_around(problem, layer, center, around, by))
        if found[-1] is None and multipliers.size:
            found.append(_reached(problem, layer, center, around, multipliers, by))
    best: Bounds | None = None
    width = np.inf
    for box in found:
        if box is None:
            continue
        try:
            low, high = check_box(problem, layer, Equilibrium(layer.state, multipliers, *box), boxes, by)
        except NotProvedError:
            continue
        if (high - low).sum() < width:
            best, width = box, (high - low).sum()
    return best


def _reached(
    problem: Problem, layer: Layer, center: np.ndarray, around: Surroundings, multipliers: np.ndarray, by: Arithmetic
) -> Bounds | None:
    """What the l2 condition says of the distance from the solution at the center."""
    found = gains(problem, layer, center, around, multipliers, by)
    if found is None:
        return None
    room = (1 + ROOM) * found + ROOM
    return center - room, center + room


def _around(problem: Problem, layer: Layer, center: np.ndarray, around: Surroundings, by: Arithmetic) -> Bounds | None:
    """A box around the solution at the center that the preconditioned map takes into itself."""
    small = 2.0**-40 * (1 + np.abs(center))
    low, high = center - small, center + small
    for k in range(ROUNDS):
        by.tick()
        found = image(problem, layer, (low, high), around, by)
        if found is None or not (np.all(np.isfinite(found[0])) and np.all(np.isfinite(found[1]))):
            return None
        if np.all(low <= found[0]) and np.all(found[1] <= high):
            return _shrunk(problem, layer, (low, high), around, by)
        if (found[1] - found[0]).max(initial=0.0) > 1e6 * (1 + np.abs(center).max(initial=0.0)):
            return None
        wider = WIDER[min(k, len(WIDER) - 1)] * (found[1] - found[0]) + small
        low, high = np.minimum(low, found[0] - wider), np.maximum(high, found[1] + wider)
    return None


def _shrunk(problem: Problem, layer: Layer, box: Bounds, around: Surroundings, by: Arithmetic) -> Bounds:
    """Towards the smallest box that the map takes into itself."""
    for _ in range(ROUNDS):
        try:
            by.tick()
        except OutOfTime:  # a box there is
            break
        found = image(problem, layer, box, around, by)
        if found is None:
            break
        room = ROOM * (found[1] - found[0])
        low, high = np.maximum(box[0], found[0] - room), np.minimum(box[1], found[1] + room)
        inside = image(problem, layer, (low, high), around, by)
        if inside is None or not (np.all(low <= inside[0]) and np.all(inside[1] <= high)):
            break
        gain = (box[1] - box[0]).sum() / (high - low).sum()
        box = low, high
        if gain < 1.01:
            break
    return box
