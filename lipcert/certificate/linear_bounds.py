"""Boxes by linear bounds: what a node reads is bounded by planes in x, back through the network (CROWN).

Zhang, Weng, Chen, Hsieh, Daniel, Efficient neural network robustness certification (NeurIPS 2018). Coefficients are any
float64 numbers; each step back multiplies by an operator or by the slopes of lines (relaxation), and what the rounding
of that leaves out is bounded by it times the largest values of what it multiplies, and joins the offset.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lipcert.arithmetic.enclosure import Enclosure
from lipcert.arithmetic.rounding import ETA, U, inflate, mul_up, norm_up, up
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.boxes import Bounds, centers_of, node_box
from lipcert.certificate.relaxation import Lines, lines
from lipcert.errors import NotProvedError
from lipcert.graph import Affine, Elementwise, FixedPoint, Groupwise, Product, State
from lipcert.operators import enclosed
from lipcert.problem import Ball, Everywhere, Problem, dual

ENTRIES = 2**22
"""Entries of coefficients that are kept at a time."""


@dataclass(eq=False)
class _Known:
    """What is known of the nodes so far: boxes, and lines of activations."""

    boxes: list[Bounds] = field(default_factory=list)
    lines: dict[int, Lines] = field(default_factory=dict)


def linear_boxes(problem: Problem, by: Arithmetic) -> list[Bounds]:
    """(lower, upper) of every node over the region, wider than those of boxes.propagate by roundings at most."""
    region = problem.query.region
    if isinstance(region, Everywhere):
        raise NotProvedError("linear bounds need a bounded region")
    if any(isinstance(node, State) for node in problem.graph.nodes):
        raise NotProvedError("linear bounds do not go through fixed points")
    return by.kept(("linear boxes", problem.graph, problem.x, region), lambda: _linear_boxes(problem, by))


@np.errstate(over="ignore", invalid="ignore")  # overflow ends in inf or NaN, which bounds nothing
def _linear_boxes(problem: Problem, by: Arithmetic) -> list[Bounds]:
    graph, known = problem.graph, _Known()
    centers = centers_of(problem, by)
    for i, node in enumerate(graph.nodes):
        box = node_box(problem, i, known.boxes, centers, by)
        if isinstance(node, Affine):
            rows = _wanted(problem, i, box)
            low, high = box[0].copy(), box[1].copy()
            both = np.concatenate([rows, rows])
            signs = np.repeat([1.0, -1.0], len(rows))
            found = _upper_bounds(problem, i, both, signs, known, by)
            high[rows] = np.minimum(high[rows], found[: len(rows)])
            low[rows] = np.maximum(low[rows], -found[len(rows) :])
            if not np.all(low <= high):
                raise NotProvedError(f"the box of node {i} is empty")
            box = low, high
        known.boxes.append(box)
        if isinstance(node, Elementwise):
            known.lines[i] = _finite(lines(node.activation, *known.boxes[node.input]), box)
    return known.boxes


def _wanted(problem: Problem, i: int, box: Bounds) -> np.ndarray:
    """The entries of a node whose box matters: outputs, and what a nonlinear node reads and is not linear over it."""
    graph = problem.graph
    every = np.arange(graph.size(i))
    if i == problem.y:
        return every
    loose = np.zeros(graph.size(i), dtype=bool)
    for node in graph.nodes[i + 1 :]:
        if isinstance(node, Elementwise) and node.input == i:
            low, high = node.activation.slopes(*box)
            loose |= ~(low == high)
        elif isinstance(node, Groupwise | Product | FixedPoint) and i in node.inputs:
            return every
    return np.flatnonzero(loose)


def _finite(found: Lines, box: Bounds) -> Lines:
    """Lines, level ones at the ends of the box where none are finite."""
    low = np.isfinite(found.low_slope) & np.isfinite(found.low_offset)
    high = np.isfinite(found.high_slope) & np.isfinite(found.high_offset)
    return Lines(
        np.where(low, found.low_slope, 0.0),
        np.where(low, found.low_offset, box[0]),
        np.where(high, found.high_slope, 0.0),
        np.where(high, found.high_offset, box[1]),
    )


def _upper_bounds(
    problem: Problem, node: int, rows: np.ndarray, signs: np.ndarray, known: _Known, by: Arithmetic
) -> np.ndarray:
    """Upper bounds on sign times entry of an affine node, infinite where nothing is known."""
    width = max(problem.graph.size(i) for i in range(node + 1))
    step = max(1, ENTRIES // max(1, width))
    parts = [
        _back(problem, node, rows[i : i + step], signs[i : i + step], known, by) for i in range(0, len(rows), step)
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


def _back(
    problem: Problem, node: int, rows: np.ndarray, signs: np.ndarray, known: _Known, by: Arithmetic
) -> np.ndarray:
    graph = problem.graph
    start = np.zeros((len(rows), graph.size(node)))
    start[np.arange(len(rows)), rows] = signs
    waiting: dict[int, np.ndarray] = {node: start}
    total = Enclosure(np.zeros(len(rows)))
    slack = np.zeros(len(rows))

    def join(source: int, value: np.ndarray) -> np.ndarray:
        """Add coefficients of a node; what rounding loses."""
        if source not in waiting:
            waiting[source] = value
            return np.zeros(len(rows))
        waiting[source] = waiting[source] + value
        return _spread(U * np.abs(waiting[source]), known.boxes[source])

    for position in range(node, -1, -1):
        if position not in waiting:
            continue
        by.tick()
        coefficients = waiting.pop(position)
        body = graph.nodes[position]
        if isinstance(body, Affine):
            total = total + (Enclosure(coefficients) @ body.bias.reshape((graph.size(position), 1))).reshape(
                (len(rows),)
            )
            for source, operator in zip(body.inputs, body.operators, strict=True):
                moved = enclosed.apply_adjoint(operator, Enclosure(coefficients))
                slack = slack + _spread(moved.full_radius(), known.boxes[source]) + join(source, moved.value)
        elif isinstance(body, Elementwise):
            found = known.lines[position]
            above, below = np.maximum(coefficients, 0), np.minimum(coefficients, 0)
            value = above * found.high_slope + below * found.low_slope  # one of the products is zero
            total = total + _dot(above, found.high_offset) + _dot(below, found.low_offset)
            slack = slack + _spread(U * np.abs(value) + ETA, known.boxes[body.input]) + join(body.input, value)
        else:
            total = total + _most(coefficients, known.boxes[position], problem, position)
    edges = sum(len(body.inputs) for body in graph.nodes)
    found = up(total.upper() + inflate(slack, 2 * (edges + len(graph.nodes)) + 16))
    return np.where(np.isnan(found), np.inf, found)


def _spread(radius: np.ndarray, box: Bounds) -> np.ndarray:
    """Upper bounds on radius . |z| for z in the box."""
    size = np.maximum(np.abs(box[0]), np.abs(box[1]))
    open_ended = ~np.isfinite(size)
    found = inflate(radius @ np.where(open_ended, 0.0, size), radius.shape[1] + 2)
    return np.where(np.any(radius[:, open_ended] > 0, axis=1), np.inf, found)


def _dot(coefficients: np.ndarray, v: np.ndarray) -> Enclosure:
    """coefficients . v, of infinite radius where an infinite entry counts."""
    unknown = ~np.isfinite(v)
    kept = np.where(unknown, 0.0, v)
    found = Enclosure(coefficients) @ Enclosure(kept[:, None])
    lost = np.any(coefficients[:, unknown] != 0, axis=1)
    return Enclosure(found.value[:, 0], np.where(lost, np.inf, found.full_radius()[:, 0]))


def _most(coefficients: np.ndarray, box: Bounds, problem: Problem, position: int) -> Enclosure:
    """The largest coefficients . z over a box, and over the ball of the inputs."""
    best = (_dot(np.maximum(coefficients, 0), box[1]) + _dot(np.minimum(coefficients, 0), box[0])).upper()
    region = problem.query.region
    if position == problem.x and isinstance(region, Ball):
        reach = mul_up(norm_up(np.abs(coefficients), dual(region.norm)), region.eps)
        best = np.minimum(best, up(_dot(coefficients, region.center).upper() + reach))
    return Enclosure(np.where(np.isnan(best), np.inf, best))
