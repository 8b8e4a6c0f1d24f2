"""The graph of increments: how dy follows from dx over a region, nonlinear nodes known by bounds on their Jacobians.

Centered (loop transformation): on the region phi' lies in [lo, hi], so phi(v) = m v + psi(v) with m = (lo + hi) / 2
and psi' in [-(hi - lo) / 2, (hi - lo) / 2]. The linear parts join the stretches around them; neurons of fixed slope,
and sorted or pooled groups of certain order, vanish from the nonlinear part. Everywhere, with m = 1/2 for ReLU, this
is LipLT (Fazlyab, Entesari, Roy, Chellappa, NeurIPS 2023); on small regions most neurons are fixed and what remains is
the norm of one matrix plus little.

Sorted pairs and Householder reflections are v - c max(0, s'v): the ramp is split like an activation; maxima of few
entries are such ramps pair by pair (for LipSDP: norms in a row would lose by it). Of larger sorted groups the mean is
split off (the reduced form of Pauli et al. 2024).

A product w = u v has dw = v dw_u + u dw_v with u and v somewhere in their boxes: two elementwise nodes and a sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lipcert.activations.jacobian import BlockBound, DiagonalBound, JacobianBound, SlopeBound
from lipcert.arithmetic.enclosure import Enclosure, exact, hull
from lipcert.arithmetic.rounding import up
from lipcert.certificate.boxes import Bounds
from lipcert.errors import NotProvedError
from lipcert.graph import (
    Affine,
    Elementwise,
    FixedPoint,
    Graph,
    Groupwise,
    Increment,
    Input,
    Node,
    Product,
    State,
    linear_terms,
)
from lipcert.graph.nodes import renumbered
from lipcert.operators import Diagonal, Identity, LinearOperator, Reduction, Selection, Shape, add, compose, size_of
from lipcert.operators import Sum as Summed

MAX_WIDTH = 9
"""Of groups whose maximum is taken in pairs: wider ones, such as maps, would have a ramp for every entry."""

WIDENED = 2.0**-20
"""What is added to slopes of loops that are known exactly."""


@dataclass(frozen=True, eq=False)
class IncrementGraph:
    """How increments of y follow from those of x: affine nodes, and `Increment` nodes with their bounds."""

    graph: Graph
    x: int
    y: int
    loops: dict[int, int]
    """The node whose increments are those of a state, which comes before it, by the state."""

    def bound(self, node: int) -> JacobianBound | None:
        """The Jacobian bound of a nonlinear node, None for an affine one."""
        body = self.graph.nodes[node]
        return body.bound if isinstance(body, Increment) else None

    @property
    def nonlinear(self) -> list[int]:
        return [i for i, node in enumerate(self.graph.nodes) if isinstance(node, Increment)]


Split = Literal["whole", "centered", "open"]
"""A nonlinear node stays whole; or its fixed entries become linear, and of the others the mean slope (centered), or no
more (open)."""


def increment_graph(graph: Graph, x: int, y: int, boxes: list[Bounds], how: Split) -> IncrementGraph:
    """The increments over the boxes."""
    nodes: list[Node] = []
    new: dict[int, int] = {}
    split: Callable[..., None] = {"whole": _whole, "centered": _centered, "open": _open}[how]
    loops: dict[int, int] = {}
    implicit = any(isinstance(node, State) for node in graph.nodes)
    if implicit and how != "open":
        raise NotProvedError("a fixed point is bounded by LipSDP, not node after node")
    center = how != "whole" and not implicit  # groups stay whole in loops: linear parts would have to be solved for
    for i, node in enumerate(graph.nodes):
        if isinstance(node, Elementwise):
            low, high = node.activation.slopes(*boxes[node.input])
            if implicit:  # and no slope is fixed
                high = np.where(low == high, high + WIDENED, high)
            split(nodes, new[node.input], low, high, node.origin)
        elif isinstance(node, Product):
            split(nodes, new[node.left], *boxes[node.right], node.origin)
            part = len(nodes) - 1
            split(nodes, new[node.right], *boxes[node.left], node.origin)
            same = Identity(graph.size(i))
            nodes.append(_affine((part, len(nodes) - 1), (same, same), node.origin))
        elif isinstance(node, Groupwise):
            groups = graph.size(i) // node.function.out_width
            pair = node.function.reflections(groups) if center else None
            present = node.function.maximum_of(groups) if how == "open" and center else None
            if present is not None and 1 < present.shape[1] <= MAX_WIDTH:
                _maxima(nodes, new[node.input], present, boxes[node.input], node.origin)
            elif pair is None:
                _groups(nodes, new[node.input], node, boxes[node.input], center)
            else:
                _reflections(nodes, new[node.input], pair, boxes[node.input], node.origin, split)
        elif isinstance(node, FixedPoint):
            loops[new[node.state]] = new[node.body]
            nodes.append(_affine((new[node.body],), (Identity(graph.size(i)),), node.origin))
        elif isinstance(node, State):
            nodes.append(Input(f"state of {node.origin}", node.shape))
        else:
            nodes.append(renumbered(node, new))
        new[i] = len(nodes) - 1
    return IncrementGraph(Graph(tuple(nodes), ()), new[x], new[y], loops)


def moving_terms(increments: IncrementGraph, node: int, cut: Sequence[int]) -> dict[int, LinearOperator]:
    """The increment of an affine node, or of a nonlinear node's input, as terms; free inputs do not move."""
    graph, x = increments.graph, increments.x
    body = graph.nodes[node]
    start = body.input if isinstance(body, Increment) else node
    if isinstance(graph.nodes[start], Affine):
        terms = linear_terms(graph, start, frozenset(cut), rounded=True)
    else:
        terms = {start: Identity(graph.size(start))}
    found: dict[int, LinearOperator] = {}
    for source, op in terms.items():
        if source in increments.loops:
            behind = linear_terms(graph, increments.loops[source], frozenset())
            if any(s in increments.loops for s in behind):
                raise NotProvedError("a fixed point whose body passes its state on linearly is not bounded")
            for s, inner in behind.items():
                through = compose(op, inner)
                found[s] = add([found[s], through]) if s in found else through
        else:
            found[source] = add([found[source], op]) if source in found else op
    return {s: op for s, op in found.items() if s == x or not isinstance(graph.nodes[s], Input)}


def _whole(nodes: list[Node], source: int, low: np.ndarray, high: np.ndarray, origin: str) -> None:
    """Append a node whose slopes lie in [low, high]."""
    nodes.append(Increment(source, DiagonalBound(np.maximum(np.abs(low), np.abs(high))), (low.size,), origin))


def _centered(nodes: list[Node], source: int, low: np.ndarray, high: np.ndarray, origin: str) -> None:
    """Append the remainder of the entries whose slope is not fixed, and the mean slope plus it."""
    loose = _loose(low, high)
    with np.errstate(invalid="ignore"):
        mean = np.where(low == high, low, low / 2 + high / 2)
    mean = np.where(np.isfinite(mean), mean, 0.0)
    steepest = up(np.maximum(up(high - mean), up(mean - low)))[loose]
    _apart(nodes, source, mean, loose, DiagonalBound(steepest), origin)


def _open(nodes: list[Node], source: int, low: np.ndarray, high: np.ndarray, origin: str) -> None:
    """Append the entries whose slope is not fixed by themselves."""
    loose = _loose(low, high)
    slope = low.copy()
    slope[loose] = 0.0
    steepest = np.maximum(np.abs(low), np.abs(high))[loose]
    _apart(nodes, source, slope, loose, SlopeBound(steepest, low[loose], high[loose]), origin)


def _loose(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.flatnonzero(~((low == high) & np.isfinite(low)))


def _apart(
    nodes: list[Node],
    source: int,
    slope: np.ndarray,
    loose: np.ndarray,
    bound: DiagonalBound,
    origin: str,
) -> None:
    """Append the loose entries as a nonlinear node, and diag(slope) of all entries plus it."""
    size = slope.size
    inputs: tuple[int, ...] = (source,)
    operators: tuple[LinearOperator, ...] = (Diagonal(slope),)
    if loose.size:
        everything = loose.size == size
        nodes.append(_affine((source,), (Identity(size) if everything else Selection(loose, size),), origin))
        shape = nodes[source].shape if everything else (loose.size,)
        nodes.append(Increment(len(nodes) - 1, bound, shape, origin))
        place = Identity(size) if everything else Selection(_places(loose, size), loose.size)
        inputs, operators = (source, len(nodes) - 1), (Diagonal(slope), place)
        if not np.any(slope):
            inputs, operators = inputs[1:], operators[1:]
    nodes.append(_affine(inputs, operators, origin))


def _reflections(
    nodes: list[Node],
    source: int,
    pair: tuple[Enclosure, Enclosure],
    box: Bounds,
    origin: str,
    split: Callable[..., None],
) -> None:
    """Append v - c max(0, s'v) of each group: a ramp of one number a group between linear parts."""
    normals, shifts = pair
    groups, width = normals.shape
    with np.errstate(invalid="ignore", over="ignore"):
        side = (normals * hull(*box).reshape(normals.shape)).total()
        low, high = side.lower()[:, 0], side.upper()[:, 0]  # infinite where they are not known
    across = compose(Reduction((groups, width), (1,)), _diagonal(normals))
    nodes.append(_affine((source,), (across,), origin))
    split(nodes, len(nodes) - 1, np.where(low > 0, 1.0, 0.0), np.where(high < 0, 0.0, 1.0), origin)
    back = compose(_diagonal(-shifts), Selection(np.repeat(np.arange(groups), width), groups))
    nodes.append(_affine((source, len(nodes) - 1), (Identity(groups * width), back), origin))


def _maxima(nodes: list[Node], source: int, present: np.ndarray, box: Bounds, origin: str) -> None:
    """Append the maximum of each group in pairs, max(a, b) = b + max(0, a - b): a ramp for all entries but one."""
    groups = len(present)
    low, high = (np.where(present, side.reshape(present.shape), -np.inf) for side in box)
    while (width := present.shape[1]) > 1:
        entries = np.arange(groups * width).reshape(groups, width)
        a, b, rest = slice(0, width - 1, 2), slice(1, width, 2), slice(width - width % 2, width)
        first, second = Selection(entries[:, a], groups * width), Selection(entries[:, b], groups * width)
        away = Diagonal(np.full(first.out_size, -1.0))
        nodes.append(_affine((source,), (Summed((first, compose(away, second))),), origin))
        # slopes are 1 where a is certainly above b, or b does not count; and 0 the other way round
        certain = present[:, a] & ((low[:, a] > high[:, b]) | ~present[:, b])
        never = ~present[:, a] | (present[:, b] & (high[:, a] < low[:, b]))
        _open(nodes, len(nodes) - 1, certain.astype(float).ravel(), (~never).astype(float).ravel(), origin)
        pairs = entries[:, b].shape[1]
        kept = Selection(np.concatenate([entries[:, b], entries[:, rest]], axis=1), groups * width)
        ramps = np.arange(groups * pairs).reshape(groups, pairs)
        place = np.concatenate([ramps, np.full((groups, kept.out_size // groups - pairs), -1)], axis=1)
        nodes.append(_affine((source, len(nodes) - 1), (kept, Selection(place, groups * pairs)), origin))
        source = len(nodes) - 1
        low, high, present = (
            np.concatenate([join(side[:, a], side[:, b]), side[:, rest]], axis=1)
            for join, side in ((np.maximum, low), (np.maximum, high), (np.logical_or, present))
        )


def _diagonal(entries: Enclosure) -> Diagonal:
    flat = entries.reshape((entries.value.size,))
    return Diagonal(flat.value, flat.radius)


def _groups(nodes: list[Node], source: int, node: Groupwise, box: Bounds, center: bool) -> None:
    """Append a groupwise node; where centered, outputs that certainly equal an entry become a selection."""
    function = node.function
    chosen = function.chosen(*box) if center else None
    certain = np.zeros(0, dtype=bool) if chosen is None else np.asarray((chosen >= 0).all(axis=1))
    if chosen is None or not certain.any():
        _open_groups(nodes, source, node, function.jacobian(*box), node.shape, center)
        return
    groups, k, m = len(certain), function.width, function.out_width
    entries = np.arange(groups * k).reshape(groups, k)
    outputs = np.arange(groups * m).reshape(groups, m)
    picked = np.where(certain[:, None], np.take_along_axis(entries, np.maximum(chosen, 0), axis=1), -1)
    linear: LinearOperator = Selection(picked, groups * k)
    if certain.all():
        nodes.append(_affine((source,), (linear,), node.origin))
        return
    loose = entries[~certain].reshape(-1)
    nodes.append(_affine((source,), (Selection(loose, groups * k),), node.origin))
    size = int((~certain).sum()) * m
    _open_groups(nodes, len(nodes) - 1, node, function.jacobian(*box).of_groups(~certain), (size,), center)
    place = Selection(_places(outputs[~certain].reshape(-1), groups * m), size)
    nodes.append(_affine((source, len(nodes) - 1), (linear, place), node.origin))


def _open_groups(
    nodes: list[Node], source: int, node: Groupwise, bound: BlockBound, shape: Shape, center: bool
) -> None:
    """Append groups whose order is open: whole, or the mean of a sorted group and what is left of it.

    For a mean M of permutations, J = 1 1' and D = I - c J: M = c (2 - g c) J + D M D, as M J = J M = J. At c = 1 / g,
    D takes the mean off, which sorting passes on as it is.
    """
    if not (center and node.function.permutes):
        nodes.append(Increment(source, bound, shape, node.origin))
        return
    width = node.function.width
    groups = size_of(shape) // width
    sums, spread = Reduction((groups, width), (1,)), Selection(np.repeat(np.arange(groups), width), groups)
    share = exact(np.full(groups * width, 1 / width))
    twice = exact(np.full(groups * width, 2.0)) - exact(np.full(groups * width, float(width))) * share

    def mean(weight: Enclosure) -> LinearOperator:
        return compose(Diagonal(weight.value, weight.radius), compose(spread, sums))

    size = groups * width
    off = Summed((Identity(size), mean(-share)))
    nodes.append(_affine((source,), (off,), node.origin))
    nodes.append(Increment(len(nodes) - 1, bound, shape, node.origin))
    nodes.append(_affine((source, len(nodes) - 1), (mean(share * twice), off), node.origin))


def _places(chosen: np.ndarray, size: int) -> np.ndarray:
    """The index that puts the chosen entries back to where they were, zero elsewhere."""
    place = np.full(size, -1)
    place[chosen] = np.arange(chosen.size)
    return place


def _affine(inputs: tuple[int, ...], operators: tuple[LinearOperator, ...], origin: str) -> Affine:
    size = operators[0].out_size
    return Affine(inputs, operators, Enclosure(np.zeros(size)), (size,), origin)
