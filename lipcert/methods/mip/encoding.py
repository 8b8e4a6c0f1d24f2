"""A network of two-piece activations, and the rows of its Jacobian, as constraints with one binary a neuron.

Tjeng, Xiao, Tedrake, Evaluating robustness of neural networks with mixed integer programming (ICLR 2019); Jordan and
Dimakis, Exactly computing the local Lipschitz constant of ReLU networks (NeurIPS 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lipcert.activations import Abs, PRelu
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.boxes import Bounds
from lipcert.certificate.derivative import ChainRule, Gain, Step
from lipcert.certificate.planes import Net
from lipcert.graph import Affine, Elementwise, Graph, Input
from lipcert.methods.mip.linear import Program
from lipcert.problem import Ball, Problem

LARGEST = 100.0
"""What the entries of a node are scaled to have at most: HiGHS takes errors of 1e-6 and coefficients of 1e-9 for 0."""

TWO_PIECES = (PRelu, Abs)
"""Activations of two straight pieces that meet at 0: Relu and LeakyRelu are of the first kind."""


@dataclass(frozen=True, eq=False)
class Phase:
    """What an activation node multiplies by: `below` or `above` 0, told by binaries where that is open."""

    below: np.ndarray
    above: np.ndarray
    open: np.ndarray
    """Entries that have a binary ..."""

    binaries: np.ndarray
    """... and which variables these are."""

    fixed: np.ndarray
    """Slopes of the other entries."""

    def slopes_at(self, read: np.ndarray) -> np.ndarray:
        """Where the activation reads this."""
        return np.where(self.open, np.where(read > 0, self.above, self.below), self.fixed)

    def slopes(self, x: np.ndarray) -> np.ndarray:
        """In a solution."""
        found = self.fixed.copy()
        found[self.open] = np.where(x[self.binaries] > 0.5, self.above[self.open], self.below[self.open])
        return found


@dataclass(frozen=True, eq=False)
class Encoded:
    """The network over the region: variables of its nodes, and the phases of its activations."""

    program: Program
    at: list[np.ndarray]
    units: list[float]
    """What the variables of each node are multiples of."""

    phases: dict[int, Phase]


def obstacle(graph: Graph) -> str | None:
    """The first node that has no such constraints."""
    if len(graph.inputs) > 1:
        return "it has inputs that do not vary"
    for node in graph.nodes:
        if isinstance(node, Elementwise) and not isinstance(node.activation, TWO_PIECES):
            return f"{node.activation.describe()} (node {node.origin!r}) is not of two straight pieces"
        if not isinstance(node, Input | Affine | Elementwise):
            what = node.function.describe() if hasattr(node, "function") else type(node).__name__
            return f"{what} (node {node.origin!r}) is not affine, and no activation of two pieces"
    return None


def encode_network(problem: Problem, net: Net, by: Arithmetic) -> Encoded:
    """`problem` is that of the graph with ramps, and `net` its boxes."""
    coded = Encoded(Program(), [], _units(problem.graph.nodes, net.boxes), {})
    program = coded.program
    boxes = [(low[0] / unit, high[0] / unit) for (low, high), unit in zip(net.boxes, coded.units, strict=True)]
    for i, node in enumerate(problem.graph.nodes):
        at = program.variables(*boxes[i])
        coded.at.append(at)
        if isinstance(node, Input):
            _inside(program, at, problem, coded.units[i])
        elif isinstance(node, Affine):
            _affine(program, i, node, coded.at, coded.units, by)
        elif isinstance(node, Elementwise):
            coded.phases[i] = _activation(program, at, node, coded.at[node.input], boxes[node.input])
    return coded


def encode_row(
    coded: Encoded, program: Program, rule: ChainRule, boxes: list[Bounds], output: int, by: Arithmetic
) -> tuple[np.ndarray, float]:
    """Variables of one row of the Jacobian over the same binaries, and their unit, which is that of all rows.

    `boxes` are those of all rows.
    """
    places, units = list(coded.at), _units(rule.nodes, boxes)
    scaled = {i: tuple(side[output] / units[i] for side in boxes[i]) for i, _ in rule.steps}
    for i, node in rule.steps:
        low, high = scaled[i]
        at = program.variables(low, high)
        places.append(at)
        if isinstance(node, Affine):
            _affine(program, i, node, places, units, by)
        elif isinstance(node, Gain):
            _gain(program, at, coded.phases[node.at], places[node.input], scaled[node.input])
    assert rule.gradient is not None
    return places[rule.gradient], units[rule.gradient]


def _units(nodes: Sequence[Step], boxes: list[Bounds]) -> list[float]:
    """One a node; what an activation multiplies has the unit of the product."""
    units: list[float] = []
    for node, box in zip(nodes, boxes, strict=True):
        size = max(float(np.abs(side).max(initial=0.0)) for side in box)
        one = units[node.input] if isinstance(node, Elementwise | Gain) else size / LARGEST
        units.append(one if one > 0 else 1.0)
    return units


def absolute(program: Program, at: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Variables that are at most the magnitudes of others, with a sign each where that is open."""
    size = np.maximum(np.abs(low), np.abs(high))
    found = program.variables(np.zeros(len(at)), size)
    either = (low < 0) & (high > 0)
    one, zero = np.ones(len(at)), np.zeros(len(at))
    known = ~either
    sign = np.where(low >= 0, 1.0, -1.0)
    program.equal(zero[known], (one[known], found[known]), (-sign[known], at[known]))
    chosen = program.binaries(int(either.sum()))
    t, g, one, low, high = found[either], at[either], one[either], low[either], high[either]
    program.at_least(2 * low, (-one, t), (one, g), (2 * low, chosen))  # t <= g - 2 low (1 - s)
    program.at_least(0 * low, (-one, t), (-one, g), (2 * high, chosen))  # t <= 2 high s - g
    return found


def pattern_jacobian(rule: ChainRule, slopes: dict[int, np.ndarray], outputs: int, by: Arithmetic) -> np.ndarray:
    """(outputs, inputs) in float64, where every activation has the given slopes."""
    rows = [np.zeros((outputs, 0))] * rule.first
    for _, node in rule.steps:
        if isinstance(node, Affine):
            parts = zip(node.inputs, node.operators, strict=True)
            rows.append(
                sum((rows[s] @ by.dense(op).value.T for s, op in parts), np.zeros((outputs, len(node.bias.value))))
            )
        elif isinstance(node, Gain):
            rows.append(rows[node.input] * slopes[node.at])
        else:
            rows.append(np.eye(outputs))
    assert rule.gradient is not None
    return rows[rule.gradient]


def _inside(program: Program, at: np.ndarray, problem: Problem, unit: float) -> None:
    """An l1 ball beside the box around it."""
    region = problem.query.region
    if not (isinstance(region, Ball) and region.norm == 1):
        return
    n = len(at)
    wide = np.full(n, region.eps / unit)
    up, down = program.variables(np.zeros(n), wide), program.variables(np.zeros(n), wide)
    one = np.ones(n)
    program.equal(region.center / unit, (one, at), (-one, up), (one, down))
    program.at_least(-wide[:1], (-np.ones((1, 2 * n)), np.concatenate([up, down])))


def _affine(
    program: Program, i: int, node: Affine, places: list[np.ndarray], units: list[float], by: Arithmetic
) -> None:
    at, unit = places[i], units[i]
    parts = zip(node.inputs, node.operators, strict=True)
    terms = [(-by.dense(op).value * (units[source] / unit), places[source]) for source, op in parts]
    program.equal(node.bias.value / unit, (np.ones(len(at)), at), *terms)


def _activation(program: Program, at: np.ndarray, node: Elementwise, v: np.ndarray, box: Bounds) -> Phase:
    """z = below v + (above - below) max(0, v)."""
    low, high = box
    one = np.ones(len(at))
    below, above = node.activation.derivative(-one), node.activation.derivative(one)
    free = (low <= 0) & (high >= 0) & (below != above)
    fixed = np.where(low > 0, above, below)
    phase = Phase(below, above, free, program.binaries(int(free.sum())), fixed)
    known = ~free
    program.equal(np.zeros(int(known.sum())), (one[known], at[known]), (-fixed[known], v[known]))
    d, v, one, low, high = phase.binaries, v[free], one[free], low[free], high[free]
    ramp = program.variables(0 * low, high)
    program.at_least(0 * low, (one, ramp), (-one, v))
    program.at_least(low, (-one, ramp), (one, v), (low, d))  # max(0, v) <= v - low (1 - d)
    program.at_least(0 * low, (-one, ramp), (high, d))
    program.equal(0 * low, (one, at[free]), (-below[free], v), ((below - above)[free], ramp))
    return phase


def _gain(program: Program, at: np.ndarray, phase: Phase, a: np.ndarray, box: Bounds) -> None:
    """p = below a + (above - below) d a."""
    free, known = phase.open, ~phase.open
    one = np.ones(len(at))
    program.equal(np.zeros(int(known.sum())), (one[known], at[known]), (-phase.fixed[known], a[known]))
    low, high = box[0][free], box[1][free]
    d, a, one = phase.binaries, a[free], one[free]
    some = program.variables(np.minimum(low, 0), np.maximum(high, 0))
    program.at_least(0 * low, (one, some), (-low, d))
    program.at_least(0 * low, (-one, some), (high, d))
    program.at_least(low, (-one, some), (one, a), (low, d))  # d a <= a - low (1 - d)
    program.at_least(-high, (one, some), (-one, a), (-high, d))  # d a >= a - high (1 - d)
    program.equal(0 * low, (one, at[free]), (-phase.below[free], a), ((phase.below - phase.above)[free], some))
