"""The Clarke Jacobian over pieces of the region, bounded by linear bounds back through the graph of the chain rule.

From an output backwards, each nonlinear node multiplies what comes in by unknown slopes: p = s a with s and a in
intervals. The upper bound of max(l a, h a) by its chord, and the lower one of min(l a, h a), are the best lines in a;
|a| is at most its chord. Where s moves with a value v of the network (the slope of a smooth activation, the other
factor of a product), p may be bounded by planes in a and v, which go on back through the network. Shi, Wang, Zhang,
Kolter, Hsieh, Efficiently computing local Lipschitz constants of neural networks via bound propagation (NeurIPS 2022).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from lipcert.activations.piecewise import PiecewiseLinear
from lipcert.arithmetic.enclosure import Enclosure
from lipcert.arithmetic.rounding import down, inflate, norm_up, sqrt_up, up
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.boxes import Bounds, interval_affine, interval_product
from lipcert.certificate.implicit import Layer, layers_of
from lipcert.certificate.planes import Net, entry_bounds, upper_bounds
from lipcert.certificate.relaxation import Lines, derivative_cells, ends_of, product_planes
from lipcert.certificate.solved import turned
from lipcert.errors import NotProvedError
from lipcert.graph import Affine, Elementwise, FixedPoint, Graph, Groupwise, Input, Node, Product
from lipcert.operators import Identity, LinearOperator, Shape, enclosed, transpose
from lipcert.problem import Norm, Problem

PLANES = 4
"""Added to steps where slopes are planes."""


@dataclass(frozen=True, eq=False)
class Start:
    """The row of the outputs that is followed back."""

    shape: Shape
    inputs: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Gain:
    """s times what comes in; s are slopes of node `at`, or for a product the value of its other factor."""

    input: int
    at: int
    other: int | None
    shape: Shape

    @property
    def inputs(self) -> tuple[int, ...]:
        return (self.input,)


@dataclass(frozen=True, eq=False)
class Mixed:
    """J' times what comes in, J a Jacobian of the groups of node `at`."""

    input: int
    at: int
    shape: Shape

    @property
    def inputs(self) -> tuple[int, ...]:
        return (self.input,)


@dataclass(frozen=True, eq=False)
class Feedback:
    """The gradient in what the activation of an implicit layer reads, from that in its FixedPoint `at`."""

    input: int
    at: Layer
    shape: Shape

    @property
    def inputs(self) -> tuple[int, ...]:
        return (self.input,)


Step = Node | Start | Gain | Mixed | Feedback


@dataclass(frozen=True, eq=False)
class ChainRule:
    """The nodes of a graph, then from `first` on those that lead from the outputs back to the inputs."""

    nodes: tuple[Step, ...]
    first: int
    gradient: int | None
    """The row of the Jacobian; None where it is zero."""

    @property
    def steps(self) -> list[tuple[int, Step]]:
        """Those that lead back, with their positions."""
        return list(enumerate(self.nodes))[self.first :]

    @property
    def bends(self) -> bool:
        """Whether there are planes in values of the network."""
        return any(isinstance(node, Gain) and self.moves_with(node) is not None for _, node in self.steps)

    def moves_with(self, gain: Gain) -> int | None:
        """The node whose value the slopes are a smooth function of."""
        body = self.nodes[gain.at]
        if isinstance(body, Elementwise):
            return None if isinstance(body.activation, PiecewiseLinear) else body.input
        return gain.other


def chain_rule(problem: Problem, by: Arithmetic) -> ChainRule:
    """Of a graph; NotProvedError where it has fixed points that are no implicit layers."""
    graph = problem.graph
    layers = {layer.fixed: layer for layer in layers_of(graph, by).values()}
    first = len(graph.nodes)
    nodes: list[Step] = [*graph.nodes, Start((problem.size_out,))]
    coming: dict[int, list[tuple[int, LinearOperator]]] = {problem.y: [(first, Identity(problem.size_out))]}
    for position in range(problem.y, -1, -1):
        parts = coming.pop(position, [])
        if not parts or (isinstance(graph.nodes[position], Input) and position != problem.x):
            continue
        at = _joined(nodes, parts, graph, position)
        body = graph.nodes[position]
        if position == problem.x:
            return ChainRule(tuple(nodes), first, at)
        if isinstance(body, Affine):
            for source, op in zip(body.inputs, body.operators, strict=True):
                coming.setdefault(source, []).append((at, transpose(op)))
            continue
        if isinstance(body, FixedPoint):  # past its body, to what the layer reads
            layer = layers[position]
            nodes.append(Feedback(at, layer, (layer.size,)))
            for source, op in layer.sources:
                coming.setdefault(source, []).append((len(nodes) - 1, transpose(op)))
            continue
        new: list[tuple[int, Gain | Mixed]]
        if isinstance(body, Elementwise):
            new = [(body.input, Gain(at, position, None, body.shape))]
        elif isinstance(body, Product):
            new = [
                (s, Gain(at, position, o, body.shape)) for s, o in ((body.left, body.right), (body.right, body.left))
            ]
        elif isinstance(body, Groupwise):
            new = [(body.input, Mixed(at, position, (graph.size(body.input),)))]
        else:
            raise NotProvedError(f"the derivative of node {position} is not followed")
        for source, node in new:
            nodes.append(node)
            coming.setdefault(source, []).append((len(nodes) - 1, Identity(graph.size(source))))
    return ChainRule(tuple(nodes), first, None)


def _joined(nodes: list[Step], parts: list[tuple[int, LinearOperator]], graph: Graph, position: int) -> int:
    """The sum of what comes to a node, appended where it is not there already."""
    if len(parts) == 1 and isinstance(parts[0][1], Identity):
        return parts[0][0]
    size = graph.size(position)
    bias = Enclosure(np.zeros(size))
    nodes.append(Affine(tuple(at for at, _ in parts), tuple(op for _, op in parts), bias, (size,)))
    return len(nodes) - 1


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of the Jacobian over pieces: the cases are (piece, row), row after row of a piece."""

    net: Net
    each: int
    """Rows of a piece."""

    gradient: int

    def entries(self) -> Bounds:
        """Bounds on the entries, each (pieces, rows, inputs)."""
        low, high = self.net.boxes[self.gradient]
        return low.reshape(-1, self.each, low.shape[1]), high.reshape(-1, self.each, high.shape[1])


@np.errstate(over="ignore", invalid="ignore")  # overflow ends in inf or NaN, which bounds nothing
def bound_rows(problem: Problem, rule: ChainRule, values: Net, outputs: np.ndarray, steps: int, by: Arithmetic) -> Rows:
    """The Jacobian's rows of `outputs` (pieces, rows) over the pieces whose values are given.

    `problem` is that of the graph with ramps, and `rule` its chain rule, which has a gradient. `steps`: where planes
    are used beside intervals: 0 nowhere, 1 for what meets unknown slopes, 2 also for entries of the Jacobian whose
    sign is open, 3 for all its entries; and 4 more where slopes are planes in the values that they move with, too.
    """
    assert rule.gradient is not None
    pieces, each = outputs.shape
    cases = pieces * each
    which = np.repeat(np.arange(pieces), each)
    planes = bool(steps & PLANES) and rule.bends
    net = _values_for(rule, values, which) if planes else Net(rule.nodes, list(values.boxes))
    for i, node in rule.steps:
        if isinstance(node, Start):
            row = np.zeros((cases, problem.size_out))
            row[np.arange(cases), outputs.reshape(-1)] = 1.0
            box = row, row
        elif isinstance(node, Affine):
            low, high = interval_affine(node, net.boxes, by)
            shape = cases, low.shape[-1]  # without one where all that comes in is zero
            below, above = _signs(node, net.boxes)
            box = np.where(below, low, np.maximum(low, 0.0)), np.where(above, high, np.minimum(high, 0.0))
            box = np.broadcast_to(box[0], shape), np.broadcast_to(box[1], shape)
            box = _tightened(net, i, box, _where(rule, i, box, steps, values, which), by)
        elif isinstance(node, Gain):
            low, high = slopes_of(node, values)
            low, high = (np.broadcast_to(_rows(side, which), (cases, side.shape[1])) for side in (low, high))
            coming = net.boxes[node.input]
            box = interval_product((low, high), coming)
            if np.all(np.isfinite(low)) and np.all(np.isfinite(high)):
                chord = chords((low, high), coming)
                net.lines[i] = [(node.input, chord)]
                if planes and (source := rule.moves_with(node)) is not None:
                    body, v = rule.nodes[node.at], values.boxes[source]
                    cells = derivative_cells(body.activation, v) if isinstance(body, Elementwise) else ends_of(v)
                    found = product_planes(cells.of(lambda side: _rows(side, which)), coming, chord)
                    net.lines[i] = [(node.input, found[0]), (source, found[1])]
        elif isinstance(node, Feedback):
            net.solved[i] = turned(
                node.at, values.slopes[node.at.neurons], net.boxes[node.input], which, node.input, by
            )
            box = net.solved[i].values
        else:
            assert isinstance(node, Mixed)
            box = _mixed(problem.graph, node, values, net.boxes[node.input], which)
        net.boxes.append(box)
    return Rows(net, each, rule.gradient)


def _rows(side: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Of pieces what their rows have; one where all share it."""
    return side[which] if len(side) > 1 else side


def _values_for(rule: ChainRule, values: Net, which: np.ndarray) -> Net:
    """The values of the network over the piece of each row."""
    net = Net(rule.nodes, x=values.x, ball=values.ball)
    net.boxes = [(_rows(low, which), _rows(high, which)) for low, high in values.boxes]
    for i, each in values.lines.items():
        net.lines[i] = [
            (s, Lines(*(_rows(v, which) for v in (a.low_slope, a.low_offset, a.high_slope, a.high_offset))))
            for s, a in each
        ]
    for i, layer in values.solved.items():
        noise, box = ((_rows(low, which), _rows(high, which)) for low, high in (layer.noise, layer.values))
        net.solved[i] = replace(layer, noise=noise, values=box)
    return net


def _signs(node: Affine, boxes: list[Bounds]) -> Bounds:
    """Which entries may be below zero, and which above: midpoint and radius may lose a sign by a rounding."""
    parts = [
        enclosed.signs(op, boxes[source][0] < 0, boxes[source][1] > 0)
        for source, op in zip(node.inputs, node.operators, strict=True)
    ]
    return np.logical_or.reduce([p[0] for p in parts]), np.logical_or.reduce([p[1] for p in parts])


def _where(rule: ChainRule, i: int, box: Bounds, steps: int, values: Net, which: np.ndarray) -> np.ndarray:
    """The entries of an affine node that are worth planes."""
    low, high = box
    crossing = (low < 0) & (high > 0)
    level = steps % PLANES
    if level == 0:
        return np.zeros_like(crossing)
    if i == rule.gradient:
        return np.zeros_like(crossing) if level == 1 else crossing if level == 2 else low < high
    wanted = np.zeros_like(crossing)
    for node in rule.nodes[i + 1 :]:
        if isinstance(node, Gain) and node.input == i:
            first, last = slopes_of(node, values)
            bent = steps & PLANES and rule.moves_with(node) is not None  # then the width of the box counts, too
            wanted |= ((low < high) if bent else crossing) & _rows(first < last, which)
        elif isinstance(node, Mixed | Feedback) and node.input == i:
            wanted |= low < high
    return wanted


def _tightened(net: Net, i: int, box: Bounds, wanted: np.ndarray, by: Arithmetic) -> Bounds:
    case, rows = np.nonzero(wanted)
    if not case.size:
        return box
    low, high = box[0].copy(), box[1].copy()
    high[case, rows] = np.minimum(high[case, rows], entry_bounds(net, i, rows, np.ones(len(rows)), case, by))
    low[case, rows] = np.maximum(low[case, rows], -entry_bounds(net, i, rows, -np.ones(len(rows)), case, by))
    if not np.all(low <= high):
        raise NotProvedError("a box of the Jacobian is empty")
    return low, high


def slopes_of(node: Gain, values: Net) -> Bounds:
    """What a gain may multiply by, over the pieces."""
    if node.other is not None:
        return values.boxes[node.other]
    return values.slopes[node.at]


def _mixed(graph: Graph, node: Mixed, values: Net, box: Bounds, which: np.ndarray) -> Bounds:
    """|J' a| <= what the groups say of |a|, piece by piece."""
    body = graph.nodes[node.at]
    assert isinstance(body, Groupwise)
    low, high = values.boxes[body.input]
    bounds = [body.function.jacobian(a, b) for a, b in zip(low, high, strict=True)]
    size = np.maximum(np.abs(box[0]), np.abs(box[1]))
    found = np.array([bounds[which[c] if len(bounds) > 1 else 0].backward(v) for c, v in enumerate(size)])
    found = np.where(np.isnan(found), np.inf, found)
    return -found, found


def chords(slopes: Bounds, box: Bounds) -> Lines:
    """Lines below min(l a, h a) and above max(l a, h a) over the box; exact where the sign of a is known."""
    least, most = slopes
    low_slope, low_offset, _ = _chord(most, least, box)
    high_slope, _, high_offset = _chord(least, most, box)
    return Lines(low_slope, low_offset, high_slope, high_offset)


@np.errstate(all="ignore")  # where the division fails any slope will do
def _chord(before: np.ndarray, after: np.ndarray, box: Bounds) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slope of the chord of the function with slope `before` below zero and `after` above it.

    With the least and the most of the function minus that at the ends of the box, each rounded outward.
    """
    a, b = box
    slope = np.nan_to_num((after * b - before * a) / (b - a), posinf=0.0, neginf=0.0)
    sure = (a >= 0) | (b <= 0) | (before == after)
    slope = np.where(a >= 0, after, np.where(sure, before, slope))
    values = [(before * a, slope * a), (after * b, slope * b)]
    least = np.minimum(*(down(down(value) - up(line)) for value, line in values))
    most = np.maximum(*(up(up(value) - down(line)) for value, line in values))
    return slope, np.where(sure, 0.0, least), np.where(sure, 0.0, most)


@np.errstate(over="ignore", invalid="ignore")  # overflow ends in inf or NaN, which bounds nothing
def row_sums(rows: Rows, by: Arithmetic) -> np.ndarray:
    """(pieces, rows) upper bounds on the l1 norms of the rows: of the entries, and of their sum by planes."""
    box = rows.net.boxes[rows.gradient]
    ones = np.ones_like(box[0])
    lines = chords((-ones, ones), box)
    case = np.arange(len(ones))
    offset = inflate(lines.high_offset.sum(axis=1), ones.shape[1])
    total = Enclosure(np.where(np.isfinite(offset), offset, 0.0), np.where(np.isfinite(offset), 0.0, np.inf))
    found = upper_bounds(rows.net, {rows.gradient: lines.high_slope}, case, by, total)
    single = norm_up(np.maximum(np.abs(box[0]), np.abs(box[1])), 1)
    return np.minimum(found, single).reshape(-1, rows.each)


@np.errstate(over="ignore", invalid="ignore")
def norm_bounds(rows: Rows, norm_in: Norm, norm_out: Norm, by: Arithmetic) -> np.ndarray:
    """(pieces,) upper bounds on the norm of the Jacobian's rows, from bounds on its entries and their sums."""
    low, high = rows.entries()
    size = np.maximum(np.abs(low), np.abs(high))
    if norm_in == 1:
        columns = by.norms(np.swapaxes(size, 1, 2), norm_out)
        return np.asarray(columns.max(axis=1, initial=0.0))
    return np.asarray(by.norms(row_bounds(rows, norm_in, by), norm_out))


@np.errstate(over="ignore", invalid="ignore")
def row_bounds(rows: Rows, norm_in: Norm, by: Arithmetic) -> np.ndarray:
    """(pieces, rows) upper bounds on the norm of each row as a map to one output."""
    if norm_in == math.inf:
        return row_sums(rows, by)
    low, high = rows.entries()
    size = np.maximum(np.abs(low), np.abs(high))
    return np.asarray(by.norms(size, 2.0) if norm_in == 2 else size.max(axis=2, initial=0.0))


@np.errstate(over="ignore", invalid="ignore")
def spread_norm(rows: Rows, piece: int) -> tuple[Enclosure, float]:
    """The rows of a piece as a matrix C and a bound on the l2 norm of what is within its radius R.

    |J|_2 <= |C|_2 + |R|_2, and |R|_2 by the Frobenius norm or by Schur's test.
    """
    low, high = (side[piece] for side in rows.entries())
    middle = np.nan_to_num(low / 2 + high / 2)
    radius = np.where(low == high, 0.0, up(np.maximum(up(high - middle), up(middle - low))))
    schur = sqrt_up(up(norm_up(radius, 1).max(initial=0.0) * norm_up(radius.T, 1).max(initial=0.0)))
    spread = float(np.minimum(norm_up(radius.reshape(-1), 2), schur))
    return Enclosure(np.where(low == high, low, middle)), spread if np.isfinite(spread) else math.inf
