"""Lower bounds: the derivative at a point of the region, along a direction, evaluated in enclosures.

The enclosed directional derivative contains J d for every Clarke Jacobian J at the point (chain rule with the Clarke
slope of each activation over the enclosure of its input, which is wide where a kink is not excluded). So its smallest
norm, over |d|, is attained: x - relu(x) + relu(-x) gets nothing at 0, where autograd would say 1.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lipcert.arithmetic.enclosure import Enclosure, hull
from lipcert.arithmetic.rounding import down, inflate, norm_down, up
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.claim import Witness
from lipcert.certificate.implicit import layers_of
from lipcert.certificate.solutions import located, preconditioner
from lipcert.certificate.solved import dominated
from lipcert.errors import NotProvedError
from lipcert.graph import Affine, Elementwise, FixedPoint, Groupwise, Product, State
from lipcert.problem import Box, Problem


@np.errstate(over="ignore", invalid="ignore")  # overflow ends in inf or NaN, which proves nothing
def attained(problem: Problem, witness: Witness, by: Arithmetic) -> float:
    """Lower bound on the Lipschitz constant over the region that the witness proves (free inputs at zero)."""
    x, d = witness.point, witness.direction
    if x.shape != (problem.size_in,) or d.shape != x.shape:
        raise NotProvedError(f"the witness has {x.size} and {d.size} numbers for an input of {problem.size_in}")
    if not (np.all(np.isfinite(x)) and np.all(np.isfinite(d)) and np.any(d)):
        raise NotProvedError("the witness is not finite, or its direction is zero")
    if not problem.query.region.contains(x):
        raise NotProvedError("the witness is not certainly inside the region")
    slope = derivative_along(replace(problem, equilibria=witness.equilibria), x, d, by)
    smallest = np.maximum(0.0, np.maximum(slope.lower(), -slope.upper()))
    if not np.all(np.isfinite(smallest)):
        raise NotProvedError("the derivative at the witness is not finite")
    return max(
        0.0, float(down(norm_down(smallest, problem.query.norm_out) / by.norms(np.abs(d), problem.query.norm_in)))
    )


@np.errstate(over="ignore", invalid="ignore")
def derivative_along(problem: Problem, x: np.ndarray, d: np.ndarray, by: Arithmetic) -> Enclosure:
    """Enclosure of J d for every Clarke Jacobian J at x (free inputs at zero)."""
    values: list[Enclosure] = []
    tangents: list[Enclosure | None] = []
    there = replace(problem, query=replace(problem.query, region=Box(x, x)))
    for i, node in enumerate(problem.graph.nodes):
        if isinstance(node, Affine):
            value, tangent = node.bias, None
            for source, op in zip(node.inputs, node.operators, strict=True):
                value = value + by.apply(op, values[source])
                moved = tangents[source]
                if moved is not None:
                    part = by.apply(op, moved)
                    tangent = part if tangent is None else tangent + part
        elif isinstance(node, Elementwise):
            low, high = values[node.input].lower(), values[node.input].upper()
            value = hull(*node.activation.enclose(low, high))
            moved = tangents[node.input]
            tangent = None if moved is None else hull(*node.activation.slopes(low, high)) * moved
        elif isinstance(node, Groupwise):
            low, high = values[node.input].lower(), values[node.input].upper()
            value = hull(*node.function.enclose(low, high))
            moved = tangents[node.input]
            tangent = None if moved is None else node.function.tangent(low, high, moved)
        elif isinstance(node, Product):
            left, right = values[node.left], values[node.right]
            value = left * right
            parts = [v * t for v, t in ((right, tangents[node.left]), (left, tangents[node.right])) if t is not None]
            tangent = sum(parts[1:], parts[0]) if parts else None
        elif isinstance(node, State):
            value, tangent = _solution(there, i, values, tangents, by)
        elif isinstance(node, FixedPoint):
            value, tangent = values[node.state], tangents[node.state]
        else:
            moves = i == problem.x
            value = Enclosure(x if moves else np.zeros(problem.graph.size(i)))
            tangent = Enclosure(d) if moves else None
        values.append(value)
        tangents.append(tangent)
    slope = tangents[problem.y]
    return Enclosure(np.zeros(problem.size_out)) if slope is None else slope


def _solution(
    problem: Problem, state: int, values: list[Enclosure], tangents: list[Enclosure | None], by: Arithmetic
) -> tuple[Enclosure, Enclosure | None]:
    """Of an implicit layer at a point: dv = W (q + A (S - T) dv) for slopes S near T and W near (I - A T)^-1."""
    found = located(problem, state, [(v.lower(), v.upper()) for v in values], by)
    if not found:
        raise NotProvedError("the value of a fixed point is not enclosed")
    layer = layers_of(problem.graph, by)[state]
    moved: Enclosure | None = None
    for source, op in layer.sources:
        given = tangents[source]
        if given is not None:
            part = by.apply(op, given)
            moved = part if moved is None else moved + part
    if moved is None:
        return hull(*found[state]), None
    slopes = hull(*layer.activation.slopes(*found[layer.reads]))
    try:
        inverse, step, error = preconditioner(layer, slopes.value, by)
    except np.linalg.LinAlgError:
        raise NotProvedError("the derivative of a fixed point is not enclosed") from None
    spread = up(up(step.magnitude() * slopes.full_radius()) + error)
    first = (inverse @ moved.reshape((-1, 1))).reshape((layer.size,))
    size = dominated(spread[None], first.magnitude()[None], np.zeros(1, dtype=int))[0]
    inner = first + Enclosure(np.zeros(layer.size), inflate(spread @ size, layer.size))
    return hull(*found[state]), by.apply(layer.scale, slopes * inner)
