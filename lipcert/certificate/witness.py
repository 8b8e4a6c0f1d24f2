"""Lower bounds: the derivative at a point of the region, along a direction, evaluated in enclosures.

The enclosed directional derivative contains J d for every Clarke Jacobian J at the point (chain rule with the Clarke
slope of each activation over the enclosure of its input, which is wide where a kink is not excluded). So its smallest
norm, over |d|, is attained: x - relu(x) + relu(-x) gets nothing at 0, where autograd would say 1.
"""

from __future__ import annotations

import numpy as np

from lipcert.arithmetic.enclosure import Enclosure, hull
from lipcert.arithmetic.rounding import down, norm_down
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.claim import Witness
from lipcert.errors import NotProvedError
from lipcert.graph import Affine, Elementwise, FixedPoint, Groupwise, Product, State
from lipcert.problem import Problem


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
    slope = derivative_along(problem, x, d, by)
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
        elif isinstance(node, State | FixedPoint):
            raise NotProvedError("the value of a fixed point is not enclosed")
        else:
            moves = i == problem.x
            value = Enclosure(x if moves else np.zeros(problem.graph.size(i)))
            tangent = Enclosure(d) if moves else None
        values.append(value)
        tangents.append(tangent)
    slope = tangents[problem.y]
    return Enclosure(np.zeros(problem.size_out)) if slope is None else slope
