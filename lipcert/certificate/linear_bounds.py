"""Boxes by linear bounds: what a node reads is bounded by planes in x, back through the network (planes).

Sorting and maxima are ramps here (graph.ramps). The region may be cut into pieces: of each, the boxes of some nodes end
earlier than those of the region.

At a cut v >= t, slopes at t are those of the side above, and at v <= t of the side below: an input with v = t is in
both pieces. For any choice of sides there is a piece that has this input and these slopes, and every Clarke Jacobian
is a mean of limits of derivatives at points near by, each of which has v > t, v < t, or v = t and then (almost
everywhere) no derivative of v that a slope could multiply.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from lipcert.activations.piecewise import PiecewiseLinear, Relu
from lipcert.arithmetic.enclosure import Enclosure
from lipcert.arithmetic.rounding import down, up
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.boxes import Bounds, around_center, centers_of, node_box
from lipcert.certificate.claim import RampSlopes, Slopes
from lipcert.certificate.implicit import layers_of
from lipcert.certificate.iterations import distance
from lipcert.certificate.planes import Chosen, Net, entry_bounds
from lipcert.certificate.relaxation import Lines, lines
from lipcert.certificate.solutions import located
from lipcert.certificate.solved import solved
from lipcert.errors import NotProvedError
from lipcert.graph import Affine, Elementwise, FixedPoint, Graph, Groupwise, Product, State
from lipcert.graph.pairs import in_pairs
from lipcert.graph.ramps import Ramped, with_ramps
from lipcert.problem import Ball, Everywhere, Problem

ROUNDS = 4
"""Of bounds through an implicit layer, each with lines over the boxes of the one before ..."""

GAIN = 1.01
"""... as long as boxes get narrower by this."""


@dataclass(frozen=True, eq=False)
class Pieces:
    """Pieces of the region: where the boxes (B, n) of some nodes end; infinite where they do not."""

    count: int
    ends: dict[int, Bounds]


@dataclass(frozen=True, eq=False)
class Bounded:
    """A net with the boxes of pieces, and which of these are empty: their boxes mean nothing."""

    net: Net
    empty: np.ndarray
    cut_nodes: frozenset[int] = frozenset()


def linear_boxes(problem: Problem, by: Arithmetic, slopes: tuple[Slopes, ...] = ()) -> list[Bounds]:
    """(lower, upper) of every node over the region, wider than those of boxes.propagate by roundings at most."""
    return boxes_of(problem, whole_net(problem, by, slopes), by)


def boxes_of(problem: Problem, net: Net, by: Arithmetic) -> list[Bounds]:
    """The boxes of the nodes of the graph itself."""
    place = ramped(problem.graph, by).place
    return by.kept(("boxes of", net), lambda: [(net.boxes[i][0][0], net.boxes[i][1][0]) for i in place])


def ramped(graph: Graph, by: Arithmetic) -> Ramped:
    """The graph with groups written as ramps."""
    return by.kept(("ramps", graph), lambda: with_ramps(graph))


def paired(problem: Problem, by: Arithmetic) -> Problem:
    """The same problem with softmax and the like in pairs; NotProvedError where there is none of them."""
    found = by.kept(("pairs", problem.graph), lambda: in_pairs(problem.graph))
    if found is None:
        raise NotProvedError("no group can be written in pairs")
    return _moved(problem, found)


def in_ramps(problem: Problem, by: Arithmetic) -> Problem:
    """The problem of the graph with ramps."""
    return _moved(problem, ramped(problem.graph, by))


def _moved(problem: Problem, found: Ramped) -> Problem:
    """The problem of a graph that was written otherwise."""
    place, known = found.place, problem.equilibria
    if not all(0 <= e.state < len(place) for e in known):
        raise NotProvedError("an implicit layer is said to be at a node that there is not")
    equilibria = tuple(replace(e, state=place[e.state]) for e in known)
    return replace(problem, graph=found.graph, x=place[problem.x], y=place[problem.y], equilibria=equilibria)


def whole_net(problem: Problem, by: Arithmetic, slopes: tuple[Slopes, ...] = ()) -> Net:
    """Boxes and lines of the graph with ramps over the region, one case."""
    given = {chosen.node: chosen for chosen in slopes}
    if len(given) < len(slopes):
        raise NotProvedError("slopes of a node are given twice")
    implicit = any(isinstance(node, State) for node in problem.graph.nodes)
    if isinstance(problem.query.region, Everywhere) and not implicit:
        raise NotProvedError("linear bounds need a bounded region")

    def found() -> Net:
        bounded = _bounded(problem, Pieces(1, {}), None, given, by)
        if bounded.empty.any():
            raise NotProvedError("a box over the region is empty")  # by an overflow
        return bounded.net

    about = problem.graph, problem.x, problem.query.region, problem.equilibria or "none", slopes or "none"
    return by.kept(("linear boxes", *about), found)


def piece_nets(problem: Problem, pieces: Pieces, whole: Net, by: Arithmetic) -> Bounded:
    """The same over pieces of the region, a case each, given the net over the whole of it."""
    return _bounded(problem, pieces, whole, {}, by)


@np.errstate(over="ignore", invalid="ignore")  # overflow ends in inf or NaN, which bounds nothing
def _bounded(problem: Problem, pieces: Pieces, whole: Net | None, given: dict[int, Slopes], by: Arithmetic) -> Bounded:
    found, posed = ramped(problem.graph, by), in_ramps(problem, by)
    graph, region = posed.graph, problem.query.region
    net = Net(graph.nodes, x=posed.x, ball=region if isinstance(region, Ball) else None)
    empty = np.zeros(pieces.count, dtype=bool)
    centers = centers_of(posed, by)
    moved: set[int] = set()
    held: dict[int, Bounds] = {}
    for i, node in enumerate(graph.nodes):
        if isinstance(node, State):
            _begin(net, posed, i, held, whole, by)
        if i in pieces.ends or any(source in moved for source in node.inputs) or whole is None:
            box = _box(posed, i, net.boxes, centers, empty, by)
            if i in held:
                box = _within(box, held[i], empty)
            if i in found.groups:  # what the ramps are: no wider than that
                function, source = found.groups[i]
                box = _within(box, _each(function.enclose, net.boxes[source]), empty)
            if whole is not None:
                box = _within(box, whole.boxes[i], empty)
            if isinstance(node, Affine):
                box = _improved(net, posed, i, box, pieces, given.get(i), empty, by)
                box = _again(net, posed, i, box, pieces, empty, by)
            if i in pieces.ends:
                box = _within(box, pieces.ends[i], empty)
            if i in pieces.ends or any(source in moved for source in node.inputs):
                moved.add(i)
        else:
            box = whole.boxes[i]
        net.boxes.append(box)
        if whole is not None and not any(source in moved for source in node.inputs):
            if i in whole.lines:
                net.lines[i] = whole.lines[i]
            if i in whole.slopes:
                net.slopes[i] = whole.slopes[i]
            if i in whole.solved:
                net.solved[i] = whole.solved[i]
            if i in whole.lags:
                net.lags[i] = whole.lags[i]
        elif isinstance(node, Elementwise):
            net.slopes[i] = _slopes(node, net.boxes[node.input], pieces)
            net.lines[i] = [(node.input, _finite(lines(node.activation, *net.boxes[node.input]), box))]
        elif isinstance(node, Product):
            planes = _planes(net.boxes[node.left], net.boxes[node.right])
            if planes is not None:
                net.lines[i] = [(node.left, planes[0]), (node.right, planes[1])]
        elif isinstance(node, FixedPoint):
            _end(net, posed, i, node, whole, empty, by)
    return Bounded(net, empty, frozenset(pieces.ends))


def _begin(net: Net, problem: Problem, i: int, held: dict[int, Bounds], whole: Net | None, by: Arithmetic) -> None:
    """What is known of the implicit layer of a State before its nodes are bounded."""
    if whole is not None:
        net.solved |= {k: v for k, v in whole.solved.items() if k == i}
        return
    flat = [(low[0], high[0]) for low, high in net.boxes]
    found = {k: (low[None], high[None]) for k, (low, high) in located(problem, i, flat, by).items()}
    if not any(e.state == i for e in problem.equilibria):
        raise NotProvedError(f"linear bounds need the box of the fixed point {problem.graph.nodes[i].origin!r}")
    held |= found
    if not found:  # everywhere: slopes are known, and values are not
        return
    layer = layers_of(problem.graph, by)[i]
    first = solved(layer, found[layer.reads])
    if first is not None:
        net.solved[i] = first


def _end(
    net: Net, problem: Problem, i: int, node: FixedPoint, whole: Net | None, empty: np.ndarray, by: Arithmetic
) -> None:
    """The box of a fixed point, or of what the file ends with, and planes through it."""
    if node.state in net.solved:
        net.solved[i] = net.solved[node.state]
    box = _within(net.boxes[i], net.boxes[node.state], empty)
    if node.iteration is not None:
        if whole is None:
            flat = box[0][0], box[1][0]
            net.lags[i] = distance(layers_of(problem.graph, by)[node.state], node.iteration, flat)
        else:
            net.lags[i] = whole.lags[i]
        box = down(box[0] - net.lags[i]), up(box[1] + net.lags[i])
    net.boxes[i] = box


def _again(
    net: Net, problem: Problem, i: int, box: Bounds, pieces: Pieces, empty: np.ndarray, by: Arithmetic
) -> Bounds:
    """The box of what an implicit layer's activation reads, by planes through the layer that follow from it."""
    layer = next((layer for layer in layers_of(problem.graph, by).values() if layer.reads == i), None)
    if layer is None or layer.state not in net.solved:
        return box
    for _ in range(ROUNDS):
        found = solved(layer, box, net.solved[layer.state].slopes if len(empty) > 1 else None)
        if found is None:
            break
        before, net.solved[layer.state] = box, found
        box = _improved(net, problem, i, box, pieces, None, empty, by)
        with np.errstate(invalid="ignore"):
            gain = (before[1] - before[0]).sum() / (box[1] - box[0]).sum()
        if not gain > GAIN:
            break
    last = solved(layer, box, net.solved[layer.state].slopes)
    net.solved[layer.state] = net.solved[layer.state] if last is None else last
    return box


def _box(
    problem: Problem, i: int, boxes: list[Bounds], centers: dict[int, Enclosure], empty: np.ndarray, by: Arithmetic
) -> Bounds:
    """The box of a node by intervals, for all cases at once; of groups, case by case."""
    node = problem.graph.nodes[i]
    if isinstance(node, Groupwise):
        box = _each(node.function.enclose, boxes[node.input])
        if box[0].shape[1:] != (problem.graph.size(i),) or not np.all(box[0] <= box[1]):
            raise NotProvedError(f"the box of node {i} is empty, not a number or of another shape")
        return box
    low, high = node_box(problem, i, boxes, {}, by)
    box = np.atleast_2d(low), np.atleast_2d(high)
    around = around_center(problem, i, centers, by)
    return box if around is None else _within(box, (around[0][None], around[1][None]), empty)


def _each(enclose: Callable[[np.ndarray, np.ndarray], Bounds], box: Bounds) -> Bounds:
    found = [enclose(low, high) for low, high in zip(*box, strict=True)]
    return np.array([low for low, _ in found]), np.array([high for _, high in found])


def _within(box: Bounds, other: Bounds, empty: np.ndarray) -> Bounds:
    """Where both are; a case of which nothing is left is empty, and keeps the box that it had."""
    low, high = np.maximum(box[0], other[0]), np.minimum(box[1], other[1])
    nothing = np.any(low > high, axis=1)
    if not nothing.any():
        return low, high
    if len(nothing) == 1 < len(empty):
        empty[:] = True
    else:
        empty |= nothing
    gone = nothing[:, None]
    return np.where(gone, np.minimum(box[0], box[1]), low), np.where(gone, np.maximum(box[0], box[1]), high)


def _slopes(node: Elementwise, box: Bounds, pieces: Pieces) -> Bounds:
    """Of the activation over the box; at a cut those of its side."""
    if node.input not in pieces.ends or not isinstance(node.activation, PiecewiseLinear):
        return node.activation.slopes(*box)
    low, high = pieces.ends[node.input]
    return node.activation.slopes_within(*box, box[0] == low, box[1] == high)


def _improved(
    net: Net,
    problem: Problem,
    i: int,
    box: Bounds,
    pieces: Pieces,
    slopes: Slopes | None,
    empty: np.ndarray,
    by: Arithmetic,
) -> Bounds:
    """The box of an affine node, its entries that matter bounded by planes."""
    if i in pieces.ends:  # what a cut makes linear needs no planes
        box = _within(box, pieces.ends[i], empty)
    if isinstance(problem.query.region, Everywhere):
        return box
    wanted = _wanted(problem, i, box, pieces)
    if len(wanted) == len(empty):
        wanted = wanted & ~empty[:, None]
    case, rows = np.nonzero(wanted)
    if not case.size:
        return box
    high = entry_bounds(net, i, rows, np.ones(len(rows)), case, by)
    low = -entry_bounds(net, i, rows, -np.ones(len(rows)), case, by)
    lower, upper = np.full(box[0].shape, -np.inf), np.full(box[1].shape, np.inf)
    lower[case, rows], upper[case, rows] = low, high
    box = _within(box, (lower, upper), empty)
    return box if slopes is None else _within(box, _with_slopes(net, i, slopes, by), empty)


def _with_slopes(net: Net, i: int, slopes: Slopes, by: Arithmetic) -> Bounds:
    """Bounds on the rows of a node by the lines of these slopes."""
    width = int(np.prod(net.nodes[i].shape))
    rows = _indices(slopes.rows, width, f"rows that node {i}")
    lower, upper = np.full((1, width), -np.inf), np.full((1, width), np.inf)
    case, ones = np.zeros(len(rows), dtype=int), np.ones(len(rows))
    above = {ramp.ramp: chosen_slopes(net, i, ramp, ramp.above, len(rows)) for ramp in slopes.ramps}
    below = {ramp.ramp: chosen_slopes(net, i, ramp, ramp.below, len(rows)) for ramp in slopes.ramps}
    upper[0, rows] = entry_bounds(net, i, rows, ones, case, by, above)
    lower[0, rows] = -entry_bounds(net, i, rows, -ones, case, by, below)
    return lower, upper


def chosen_slopes(net: Net, i: int, ramp: RampSlopes, slopes: np.ndarray, rows: int) -> Chosen:
    """The slopes if they are those of lines below a ramp."""
    node = net.nodes[ramp.ramp] if 0 <= ramp.ramp < i else None
    if not (isinstance(node, Elementwise) and isinstance(node.activation, Relu)):
        raise NotProvedError(f"node {ramp.ramp} is no ramp before node {i}")
    entries = _indices(ramp.entries, int(np.prod(node.shape)), f"entries that node {ramp.ramp}")
    if slopes.shape != (rows, len(entries)) or not (np.all(slopes >= 0) and np.all(slopes <= 1)):
        raise NotProvedError(f"the slopes of node {ramp.ramp} are not one in [0, 1] for each row and entry")
    return Chosen(entries, slopes)


def _indices(given: np.ndarray, size: int, what: str) -> np.ndarray:
    found = given.astype(int) if given.ndim == 1 and np.all(np.isfinite(given)) else np.zeros(0)
    if given.shape != found.shape or np.any(found != given) or np.any(found < 0) or np.any(found >= size):
        raise NotProvedError(f"slopes are given for {what} does not have")
    return found


def _wanted(problem: Problem, i: int, box: Bounds, pieces: Pieces) -> np.ndarray:
    """The entries whose box matters: outputs, and what a nonlinear node reads and is not linear over it."""
    graph = problem.graph
    loose = np.zeros(box[0].shape, dtype=bool)
    if i == problem.y or any(i == source for _, _, source in graph.groups):
        return ~loose
    for node in graph.nodes[i + 1 :]:
        if isinstance(node, Elementwise) and node.input == i:
            low, high = _slopes(node, box, pieces)
            loose |= ~(low == high)
        elif isinstance(node, Groupwise | Product | FixedPoint) and i in node.inputs:
            return np.ones_like(loose)
    return loose


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


def _planes(left: Bounds, right: Bounds) -> tuple[Lines, Lines] | None:
    """Planes below and above u v (McCormick): u v - a u - b v is extreme at corners; None where a box is unbounded."""
    if not all(np.all(np.isfinite(side)) for side in (*left, *right)):
        return None
    slopes = {"low": (right[0], left[0]), "high": (right[1], left[0])}
    ends: dict[str, list[np.ndarray]] = {"low": [], "high": []}
    for u in left:
        for v in right:
            for side, (a, b) in slopes.items():
                low, high = down(u * v), up(u * v)
                least = down(down(low - up(a * u)) - up(b * v))
                most = up(up(high - down(a * u)) - down(b * v))
                ends[side].append(least if side == "low" else most)
    low, high = np.minimum.reduce(ends["low"]), np.maximum.reduce(ends["high"])
    zero = np.zeros_like(low)
    first = Lines(slopes["low"][0], low, slopes["high"][0], high)
    return first, Lines(np.broadcast_to(slopes["low"][1], low.shape), zero, slopes["high"][1], zero)
