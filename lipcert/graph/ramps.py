"""Sorting, maxima and reflections written as ramps: the same function of affine nodes and max(0, v) alone.

Linear bounds and derivatives then know one kind of kink. Sorted pairs and reflections are v - c max(0, s'v);
max(a, b) = b + max(0, a - b), pair by pair; larger groups are sorted by neighbours (odd-even transposition).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipcert.activations import Relu
from lipcert.activations.groupwise import GroupFunction
from lipcert.activations.softmax import Margins
from lipcert.activations.sorting import GroupSort
from lipcert.arithmetic.enclosure import Enclosure
from lipcert.graph.nodes import Affine, Elementwise, Graph, Groupwise, Node, Output, renumbered
from lipcert.operators import Diagonal, Identity, LinearOperator, Reduction, Selection, Sum, compose

MAX_WIDTH = 16
"""Of groups whose maximum is written so ..."""

MAX_SORTED = 6
"""... and that are sorted so."""


@dataclass(frozen=True, eq=False)
class Ramped:
    """A graph of the same outputs."""

    graph: Graph
    place: tuple[int, ...]
    """Where each node of the original graph is."""

    groups: dict[int, tuple[GroupFunction | Margins, int]]
    """Nodes that are a function of groups of another node, written as ramps."""


def with_ramps(graph: Graph) -> Ramped:
    """The graph with every group that ramps can express."""
    nodes: list[Node] = []
    new: dict[int, int] = {}
    groups: dict[int, tuple[GroupFunction | Margins, int]] = {}
    for i, node in enumerate(graph.nodes):
        if not (isinstance(node, Groupwise) and _write(nodes, new[node.input], node)):
            nodes.append(renumbered(node, new))
        elif isinstance(node, Groupwise):
            groups[len(nodes) - 1] = (node.function, new[node.input])
        new[i] = len(nodes) - 1
    known = tuple((new[at], function, new[source]) for at, function, source in graph.groups)
    groups |= {at: (function, source) for at, function, source in known}
    outputs = tuple(Output(o.name, new[o.node]) for o in graph.outputs)
    return Ramped(Graph(tuple(nodes), outputs, known), tuple(new.values()), groups)


def _write(nodes: list[Node], source: int, node: Groupwise) -> bool:
    """Append the node as ramps, if it can be written so."""
    function = node.function
    count = int(np.prod(node.shape)) // function.out_width
    pair = function.reflections(count)
    present = function.maximum_of(count)
    if pair is not None:
        _reflections(nodes, source, pair, node)
    elif present is not None and present.shape[1] <= MAX_WIDTH:
        _maxima(nodes, source, present, node)
    elif isinstance(function, GroupSort) and function.width <= MAX_SORTED:
        _sorts(nodes, source, count, function.width, node)
    else:
        return False
    return True


def _reflections(nodes: list[Node], source: int, pair: tuple[Enclosure, Enclosure], node: Groupwise) -> None:
    normals, shifts = pair
    groups, width = normals.shape
    side = compose(Reduction((groups, width), (1,)), _diagonal(normals))
    back = compose(_diagonal(-shifts), Selection(np.repeat(np.arange(groups), width), groups))
    _add_ramps(nodes, source, side, Identity(groups * width), back, node)


def _sorts(nodes: list[Node], source: int, groups: int, width: int, node: Groupwise) -> None:
    """Neighbours compared and exchanged, even and odd pairs in turn."""
    entries = np.arange(groups * width).reshape(groups, width)
    for turn in range(width):
        left = entries[:, turn % 2 : width - 1 : 2]
        if not left.size:
            continue
        a, b = Selection(left, entries.size), Selection(left + 1, entries.size)
        place = np.full(entries.size, -1)
        sign = np.zeros(entries.size)
        for side, value in ((left, -1.0), (left + 1, 1.0)):
            place[side.reshape(-1)], sign[side.reshape(-1)] = np.arange(left.size), value
        back = compose(Diagonal(sign), Selection(place, left.size))
        _add_ramps(nodes, source, _minus(a, b), Identity(entries.size), back, node)
        source = len(nodes) - 1


def _maxima(nodes: list[Node], source: int, present: np.ndarray, node: Groupwise) -> None:
    """In each group the entries that count, in pairs."""
    groups = len(present)
    width = int(present.sum(axis=1).max())
    # entries that do not count are replaced by the first that does: the largest stays the same
    order = np.argsort(~present, axis=1, kind="stable")[:, :width]
    order = np.where(np.take_along_axis(present, order, axis=1), order, order[:, :1])
    index = np.arange(groups)[:, None] * present.shape[1] + order
    _add_affine(nodes, (source,), (Selection(index, present.size),), node)
    source = len(nodes) - 1
    while width > 1:
        entries = np.arange(groups * width).reshape(groups, width)
        first, second, rest = entries[:, 0 : width - 1 : 2], entries[:, 1:width:2], entries[:, width - width % 2 :]
        side = _minus(Selection(first, entries.size), Selection(second, entries.size))
        kept = Selection(np.concatenate([second, rest], axis=1), entries.size)
        pairs, width = second.shape[1], second.shape[1] + rest.shape[1]
        ramps = np.arange(groups * pairs).reshape(groups, pairs)
        place = np.concatenate([ramps, np.full((groups, width - pairs), -1)], axis=1)
        _add_ramps(nodes, source, side, kept, Selection(place, groups * pairs), node)
        source = len(nodes) - 1


def _minus(a: Selection, b: Selection) -> LinearOperator:
    return Sum((a, compose(Diagonal(np.full(b.out_size, -1.0)), b)))


def _add_ramps(
    nodes: list[Node], source: int, side: LinearOperator, kept: LinearOperator, back: LinearOperator, node: Groupwise
) -> None:
    """Append kept v + back max(0, side v)."""
    _add_affine(nodes, (source,), (side,), node)
    nodes.append(Elementwise(len(nodes) - 1, Relu(), (side.out_size,), node.origin))
    _add_affine(nodes, (source, len(nodes) - 1), (kept, back), node)


def _add_affine(
    nodes: list[Node], inputs: tuple[int, ...], operators: tuple[LinearOperator, ...], node: Groupwise
) -> None:
    size = operators[0].out_size
    nodes.append(Affine(inputs, operators, Enclosure(np.zeros(size)), (size,), node.origin))


def _diagonal(entries: Enclosure) -> Diagonal:
    flat = entries.reshape((entries.value.size,))
    return Diagonal(flat.value, flat.radius)
