"""Linear bounds carried back through a network (CROWN), many at a time, with all that rounding loses.

Zhang, Weng, Chen, Hsieh, Daniel, Efficient neural network robustness certification (NeurIPS 2018). Coefficients are any
float64 numbers; each step back multiplies by an operator or by the slopes of lines (relaxation), and what the rounding
of that leaves out is bounded by it times the largest values of what it multiplies, and joins the offset.

A case is a piece of the region, or a row of a Jacobian: every case has its own boxes and lines, and every row that is
carried back belongs to one case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from lipcert.arithmetic.enclosure import Enclosure
from lipcert.arithmetic.rounding import ETA, U, gamma, inflate, mul_up, norm_up, up
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.boxes import Bounds
from lipcert.certificate.norms import is_affordable
from lipcert.certificate.relaxation import Lines
from lipcert.certificate.solved import Solved
from lipcert.graph import Affine
from lipcert.operators import Leaf, LinearOperator, Product, Shape, enclosed
from lipcert.problem import Ball, dual

ENTRIES = 2**22
"""Entries of coefficients that are kept at a time."""


class Body(Protocol):
    """A node: what it reads, and its shape."""

    @property
    def inputs(self) -> tuple[int, ...]: ...

    @property
    def shape(self) -> Shape: ...


@dataclass(eq=False)
class Net:
    """Nodes; for each case, along the first axis (of one entry where all cases share it), their boxes and lines."""

    nodes: Sequence[Body]
    boxes: list[Bounds] = field(default_factory=list)
    lines: dict[int, list[tuple[int, Lines]]] = field(default_factory=dict)
    """Of a node in what it reads: (source, lines), one for each source, whose sum bounds it."""

    slopes: dict[int, Bounds] = field(default_factory=dict)
    """Of elementwise nodes."""

    solved: dict[int, Solved] = field(default_factory=dict)
    """Of the states and the fixed points of implicit layers."""

    lags: dict[int, np.ndarray] = field(default_factory=dict)
    """How far fixed points are at most from what the file ends with."""

    x: int = -1
    ball: Ball | None = None
    """In which node x lies."""

    sizes: dict[tuple[int, int], list[_Sizes] | None] = field(default_factory=dict)
    """Found on the way: how large what an operator reads can get, along its factors."""

    @property
    def width(self) -> int:
        return max(box[0].shape[-1] for box in self.boxes)


@dataclass(frozen=True, eq=False)
class Chosen:
    """For rows (K, E): slopes in [0, 1] of lines through zero, below ramps, at these entries of a node."""

    entries: np.ndarray
    slopes: np.ndarray


def entry_bounds(
    net: Net,
    node: int,
    rows: np.ndarray,
    signs: np.ndarray,
    case: np.ndarray,
    by: Arithmetic,
    chosen: dict[int, Chosen] | None = None,
) -> np.ndarray:
    """Upper bounds on sign times entry of a node, infinite where nothing is known."""
    step = max(1, ENTRIES // max(1, net.width, int(np.prod(net.nodes[node].shape))))
    found = []
    for i in range(0, len(rows), step):
        part = slice(i, i + step)
        some = {at: Chosen(c.entries, c.slopes[part]) for at, c in (chosen or {}).items()}
        found.append(_entries(net, node, rows[part], signs[part], case[part], by, some))
    return np.concatenate(found) if found else np.zeros(0)


def _entries(
    net: Net,
    node: int,
    rows: np.ndarray,
    signs: np.ndarray,
    case: np.ndarray,
    by: Arithmetic,
    chosen: dict[int, Chosen],
) -> np.ndarray:
    body = net.nodes[node]
    if isinstance(body, Affine) and all(is_affordable(op) for op in body.operators):
        # the first step back takes rows as they are written down
        sign = signs[:, None]
        total = body.bias.rearrange(lambda v: v[rows]) * Enclosure(signs)
        slack = np.zeros(len(rows))
        start: dict[int, np.ndarray] = {}
        for source, op in zip(body.inputs, body.operators, strict=True):
            matrix = by.dense(op).rearrange(lambda a: a[rows])
            if not matrix.is_exact:
                slack = slack + _spread(matrix.full_radius(), net.boxes[source], case)
            slack = slack + _join(net, start, source, sign * matrix.value, case)
        return upper_bounds(net, start, case, by, total, slack, chosen=chosen)
    start_row = np.zeros((len(rows), int(np.prod(body.shape))))
    start_row[np.arange(len(rows)), rows] = signs
    return upper_bounds(net, {node: start_row}, case, by, chosen=chosen)


@np.errstate(over="ignore", invalid="ignore")  # overflow ends in inf or NaN, which bounds nothing
def upper_bounds(
    net: Net,
    start: dict[int, np.ndarray],
    case: np.ndarray,
    by: Arithmetic,
    total: Enclosure | None = None,
    slack: np.ndarray | None = None,
    chosen: dict[int, Chosen] | None = None,
) -> np.ndarray:
    """(K,) upper bounds on total + sum of start[node] . node, rows (K, n) of the cases (K,)."""
    count = len(case)
    waiting = dict(start)
    total = Enclosure(np.zeros(count)) if total is None else total
    slack = np.zeros(count) if slack is None else slack
    steps = 0
    for position in range(max(waiting, default=-1), -1, -1):
        if position not in waiting:
            continue
        by.tick()
        coefficients = waiting.pop(position)
        body = net.nodes[position]
        if isinstance(body, Affine):
            if np.any(body.bias.value) or not body.bias.is_exact:
                total = total + (Enclosure(coefficients) @ body.bias.reshape((-1, 1))).reshape((count,))
            for k, source in enumerate(body.inputs):
                value, lost = _through(net, position, k, coefficients, case)
                slack = slack + lost + _join(net, waiting, source, value, case)
                steps += 2
        elif position in net.lines:
            above, below = np.maximum(coefficients, 0), np.minimum(coefficients, 0)
            for source, lines in net.lines[position]:
                low_slope, low_offset = pick(lines.low_slope, case), pick(lines.low_offset, case)
                if chosen and position in chosen:
                    low_slope, low_offset = _replaced(low_slope, low_offset, chosen[position])
                # one of the products is zero
                value = above * pick(lines.high_slope, case) + below * low_slope
                total = total + _dot(above, pick(lines.high_offset, case)) + _dot(below, low_offset)
                lost = _spread(U * np.abs(value) + ETA, net.boxes[source], case)
                slack = slack + lost + _join(net, waiting, source, value, case)
                steps += 2
        elif position in net.solved:
            layer = net.solved[position]
            more, lost, through = _solved(net, layer, coefficients, case)
            if position in net.lags:
                lost = lost + inflate(np.abs(coefficients) @ net.lags[position], coefficients.shape[1])
            total, slack = total + more, slack + lost
            for source, value in through:
                slack = slack + _join(net, waiting, source, value, case)
            steps += 2 * len(through) + 2
        else:
            total = total + _most(net, position, coefficients, case)
        steps += 1
    found = up(total.upper() + inflate(slack, 2 * steps + 16))
    return np.where(np.isnan(found), np.inf, found)


def _solved(
    net: Net, layer: Solved, coefficients: np.ndarray, case: np.ndarray
) -> tuple[Enclosure, np.ndarray, list[tuple[int, np.ndarray]]]:
    """What joins the total, what rounding loses, and coefficients of what an implicit layer reads."""
    row = enclosed.apply_adjoint(layer.scale, Enclosure(coefficients))
    solution = row.value @ layer.inverse
    above, below = np.maximum(solution, 0), np.minimum(solution, 0)
    carried = Enclosure(solution) * Enclosure(layer.slopes)
    left = row - Enclosure(solution) + carried @ layer.matrix
    total = _dot(above, pick(layer.noise[1], case)) + _dot(below, pick(layer.noise[0], case))
    total = total + (carried @ layer.bias.reshape((-1, 1))).reshape((len(case),))
    slack = _spread(left.magnitude(), layer.values, case)
    through = []
    for source, op in layer.sources:
        moved = enclosed.apply_adjoint(op, carried)
        slack = slack + _spread(moved.full_radius(), net.boxes[source], case)
        through.append((source, moved.value))
    return total, slack, through


def _replaced(slope: np.ndarray, offset: np.ndarray, by: Chosen) -> tuple[np.ndarray, np.ndarray]:
    """Lines below, those of ramps with the chosen slopes: t v <= max(0, v) for 0 <= t <= 1."""
    shape = len(by.slopes), slope.shape[1]
    slope, offset = np.broadcast_to(slope, shape).copy(), np.broadcast_to(offset, shape).copy()
    slope[:, by.entries], offset[:, by.entries] = by.slopes, 0.0
    return slope, offset


def pick(v: np.ndarray, case: np.ndarray) -> np.ndarray:
    """The rows of the cases; one row where all cases share it."""
    return v if len(v) == 1 else v[case]


def _join(net: Net, waiting: dict[int, np.ndarray], source: int, value: np.ndarray, case: np.ndarray) -> np.ndarray:
    """Add coefficients of a node; what rounding loses."""
    if source not in waiting:
        waiting[source] = value
        return np.zeros(len(value))
    waiting[source] = waiting[source] + value
    return _spread(U * np.abs(waiting[source]), net.boxes[source], case)


def _through(
    net: Net, position: int, k: int, coefficients: np.ndarray, case: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients of what operator k of an affine node reads, and what rounding loses."""
    body = net.nodes[position]
    assert isinstance(body, Affine)
    source, operator = body.inputs[k], body.operators[k]
    if (position, k) not in net.sizes:
        net.sizes[position, k] = _sizes(operator, net.boxes[source])
    sizes = net.sizes[position, k]
    if sizes is None:
        moved = enclosed.apply_adjoint(operator, Enclosure(coefficients))
        return moved.value, _spread(moved.full_radius(), net.boxes[source], case)
    lost = np.zeros(len(coefficients))
    for size, factor in zip(sizes, _leaves(operator), strict=True):
        lost = lost + _lost(factor, coefficients, size, case)
        coefficients = factor.rmatvec(coefficients)
    return coefficients, inflate(lost, len(sizes))


@dataclass(frozen=True, eq=False)
class _Sizes:
    """Of what a leaf A reads, of absolute values up to v: |A| v, R v (R its radius) and the sum of v."""

    whole: np.ndarray
    uncertain: np.ndarray | None
    single: np.ndarray


def _leaves(op: LinearOperator) -> list[Leaf]:
    """The factors of a product of leaves; of anything else, nothing."""
    factors = op.factors if isinstance(op, Product) else (op,)
    return [f for f in factors if isinstance(f, Leaf)] if all(isinstance(f, Leaf) for f in factors) else []


def _sizes(op: LinearOperator, box: Bounds) -> list[_Sizes] | None:
    """For each factor; None where there is a sum, or where something is unbounded (zeros may stand before it)."""
    size = np.maximum(np.abs(box[0]), np.abs(box[1]))
    factors = _leaves(op)
    if not factors or not np.all(np.isfinite(size)):
        return None
    found = []
    for factor in reversed(factors):
        uncertain = None if factor.uncertainty is None else enclosed.magnitude_up(factor.uncertainty, size)
        single = inflate(size.sum(axis=1, keepdims=True), size.shape[1])
        size = enclosed.magnitude_up(factor, size)
        found.append(_Sizes(size, uncertain, single))
    return found[::-1]


def _lost(leaf: Leaf, coefficients: np.ndarray, size: _Sizes, case: np.ndarray) -> np.ndarray:
    """|fl(A' c) - A' c| . v <= gamma |c| . |A| v, and what is not known of A."""
    if leaf.fan_out == 0 and size.uncertain is None:  # entries only move
        return np.zeros(len(coefficients))
    absolute, terms = np.abs(coefficients), leaf.fan_out
    lost = gamma(terms + 1) * _times(absolute, size.whole, case) + (terms + 1) * ETA * pick(size.single, case)[:, 0]
    if size.uncertain is not None:
        lost = lost + _times(absolute, size.uncertain, case)
    return np.asarray(inflate(lost, 2 * absolute.shape[1] + 8))


def _times(a: np.ndarray, b: np.ndarray, case: np.ndarray) -> np.ndarray:
    """The products of rows (K, n), with the rows of the cases."""
    return a @ b[0] if len(b) == 1 else np.einsum("kn,kn->k", a, b[case])


def _spread(radius: np.ndarray, box: Bounds, case: np.ndarray) -> np.ndarray:
    """Upper bounds on radius . |z| for z in the box."""
    size = np.maximum(np.abs(box[0]), np.abs(box[1]))
    open_ended = ~np.isfinite(size)
    found = np.asarray(inflate(_times(radius, np.where(open_ended, 0.0, size), case), radius.shape[1] + 2))
    if not open_ended.any():
        return found
    return np.where(np.any((radius > 0) & pick(open_ended, case), axis=1), np.inf, found)


def _dot(coefficients: np.ndarray, v: np.ndarray) -> Enclosure:
    """Products of the rows, of infinite radius where an infinite entry counts; v (K, n) or (1, n)."""
    unknown = ~np.isfinite(v)
    kept = np.where(unknown, 0.0, v)
    every = np.zeros(len(coefficients), dtype=int) if len(v) == 1 else np.arange(len(v))
    value = _times(coefficients, kept, every)
    n = coefficients.shape[1]
    radius = inflate(gamma(n + 1) * _times(np.abs(coefficients), np.abs(kept), every), 2 * n + 8)
    if unknown.any():
        radius = np.where(np.any((coefficients != 0) & unknown, axis=1), np.inf, radius)
    return Enclosure(value, radius)


def _most(net: Net, position: int, coefficients: np.ndarray, case: np.ndarray) -> Enclosure:
    """The largest coefficients . z over a box, and over the ball of the inputs."""
    low, high = (pick(side, case) for side in net.boxes[position])
    best = (_dot(np.maximum(coefficients, 0), high) + _dot(np.minimum(coefficients, 0), low)).upper()
    if position == net.x and net.ball is not None:
        reach = mul_up(norm_up(np.abs(coefficients), dual(net.ball.norm)), net.ball.eps)
        best = np.minimum(best, up(_dot(coefficients, net.ball.center[None]).upper() + reach))
    return Enclosure(np.where(np.isnan(best), np.inf, best))
