"""Interval propagation: a box for every node that holds over the whole region, rounded outward.

Infinite bounds are allowed, so that all of R^n is a region like any other: a bounded activation bounds what follows.
Around the center of a ball, a stretch from the input is bounded as one operator, in the dual of the ball's norm.
"""

from __future__ import annotations

import math

import numpy as np

from lipcert.arithmetic.enclosure import Enclosure, hull
from lipcert.arithmetic.rounding import down, mul_up, up
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.implicit import layers_of
from lipcert.certificate.iterations import distance
from lipcert.certificate.norms import row_norms
from lipcert.certificate.solutions import located
from lipcert.errors import NotProvedError
from lipcert.graph import Affine, Elementwise, FixedPoint, Groupwise, Product, State, linear_terms
from lipcert.graph.stretch import stops
from lipcert.operators import Identity, enclosed
from lipcert.problem import Ball, Balls, Everywhere, Problem, dual

Bounds = tuple[np.ndarray, np.ndarray]
"""Lower and upper bounds of a vector, possibly infinite."""


def propagate(problem: Problem, by: Arithmetic) -> list[Bounds]:
    """(lower, upper) of every node over the region; free inputs are unbounded."""
    region = problem.query.region
    about = "everywhere" if isinstance(region, Everywhere) else region
    about_loops = problem.equilibria or "none"
    return by.kept(("boxes", problem.graph, problem.x, about, about_loops), lambda: _propagate(problem, by))


def propagate_many(problem: Problem, by: Arithmetic) -> list[Bounds]:
    """The same over each of many regions, (K, n) where they differ; not kept."""
    return _propagate(problem, by)


@np.errstate(over="ignore", invalid="ignore")  # overflow ends in inf or NaN, which proves nothing
def _propagate(problem: Problem, by: Arithmetic) -> list[Bounds]:
    boxes: list[Bounds] = []
    centers = centers_of(problem, by)
    held: dict[int, Bounds] = {}
    for i, node in enumerate(problem.graph.nodes):
        if isinstance(node, State):
            held |= located(problem, i, boxes, by)
        boxes.append(node_box(problem, i, boxes, centers, by))
        if i in held:
            boxes[i] = _intersect(boxes[i], held[i])
        if isinstance(node, FixedPoint):
            boxes[i] = reached(problem, node, _intersect(boxes[i], boxes[node.state]), by)
    return boxes


def node_box(problem: Problem, i: int, boxes: list[Bounds], centers: dict[int, Enclosure], by: Arithmetic) -> Bounds:
    """The box of node i, from those of the nodes before it; `centers` as `centers_of` gives them."""
    graph, region = problem.graph, problem.query.region
    node = graph.nodes[i]
    if isinstance(node, Affine) and _only_renames(node):
        box = boxes[node.inputs[0]]
    elif isinstance(node, Affine):
        around = around_center(problem, i, centers, by)
        if around is not None and isinstance(region, Balls):
            box = around  # as narrow, up to rounding, and time counts
        else:
            box = interval_affine(node, boxes, by)
            box = box if around is None else _intersect(box, around)
    elif isinstance(node, Elementwise):
        box = node.activation.enclose(*boxes[node.input])
    elif isinstance(node, Groupwise):
        box = node.function.enclose(*boxes[node.input])
    elif isinstance(node, Product):
        box = interval_product(boxes[node.left], boxes[node.right])
    elif isinstance(node, FixedPoint):
        box = boxes[node.body]  # of any state, and so of the one that is sought
    elif i == problem.x:
        box = region.bounds(problem.size_in)
    else:
        box = np.full(graph.size(i), -math.inf), np.full(graph.size(i), math.inf)
    if any(side.shape[-1:] != (graph.size(i),) for side in box):
        raise NotProvedError(f"the box of node {i} does not have its shape")
    if not np.all(box[0] <= box[1]):
        raise NotProvedError(f"the box of node {i} is empty or not a number")
    return box


def _only_renames(node: Affine) -> bool:
    return (
        len(node.inputs) == 1
        and isinstance(node.operators[0], Identity)
        and node.bias.is_exact
        and not node.bias.value.any()
    )


def reached(problem: Problem, node: FixedPoint, box: Bounds, by: Arithmetic) -> Bounds:
    """What the file ends with where it runs steps, given the box of the solution."""
    if node.iteration is None:
        return box
    off = distance(layers_of(problem.graph, by)[node.state], node.iteration, box)
    return down(box[0] - off), up(box[1] + off)


def interval_affine(node: Affine, boxes: list[Bounds], by: Arithmetic) -> Bounds:
    """The box of an affine node; boxes may have axes in front."""
    total = node.bias
    unbounded = np.zeros(total.shape, dtype=bool)
    for source, op in zip(node.inputs, node.operators, strict=True):
        box = hull(*boxes[source])
        infinite = np.isinf(box.full_radius())
        if infinite.any():
            unbounded = unbounded | enclosed.reaches(op, infinite)
            box = Enclosure(box.value, np.where(infinite, 0.0, box.full_radius()))
        if box.is_exact and not box.value.any():
            continue
        total = total + by.apply(op, box)
    low, high = total.lower(), total.upper()
    return np.where(unbounded | np.isnan(low), -math.inf, low), np.where(unbounded | np.isnan(high), math.inf, high)


def interval_product(a: Bounds, b: Bounds) -> Bounds:
    """The interval product: extreme at the ends; 0 times an unbounded number is 0."""
    corners = [x * y for x in a for y in b]
    corners = [np.where(np.isnan(c), 0.0, c) for c in corners]
    low, high = np.minimum.reduce(corners), np.maximum.reduce(corners)
    exact = (a[0] == 0) & (a[1] == 0) | (b[0] == 0) & (b[1] == 0)
    # of factors of known sign the product has one, whatever is rounded
    below = (a[0] < 0) & (b[1] > 0) | (a[1] > 0) & (b[0] < 0)
    above = (a[0] < 0) & (b[0] < 0) | (a[1] > 0) & (b[1] > 0)
    low, high = (
        np.where(below, down(low), np.maximum(down(low), 0.0)),
        np.where(above, up(high), np.minimum(up(high), 0.0)),
    )
    return np.where(exact, 0.0, low), np.where(exact, 0.0, high)


def centers_of(problem: Problem, by: Arithmetic) -> dict[int, Enclosure]:
    """The value at the ball's center of every node that is affine in x alone; nothing for other regions."""
    region = problem.query.region
    if not isinstance(region, Ball):
        return {}
    values = {problem.x: Enclosure(region.center)}
    for i, node in enumerate(problem.graph.nodes):
        if isinstance(node, Affine) and all(s in values for s in node.inputs):
            total = node.bias
            for source, op in zip(node.inputs, node.operators, strict=True):
                total = total + by.apply(op, values[source])
            values[i] = total
    del values[problem.x]
    return values


def around_center(problem: Problem, i: int, centers: dict[int, Enclosure], by: Arithmetic) -> Bounds | None:
    """|row (x - c)| <= |row|_dual eps, for the whole stretch from x as one operator; None where there is none."""
    ball, graph = problem.query.region, problem.graph
    if i not in centers or not isinstance(ball, Ball):
        return None
    center = centers[i]
    op = linear_terms(graph, i, stops(graph, i)).get(problem.x)
    if op is None:
        return center.lower(), center.upper()
    reach = mul_up(row_norms(op, dual(ball.norm), by), ball.eps)
    box = center + Enclosure(np.zeros(center.shape), reach)
    return box.lower(), box.upper()


def _intersect(a: Bounds, b: Bounds) -> Bounds:
    return np.fmax(a[0], b[0]), np.fmin(a[1], b[1])
