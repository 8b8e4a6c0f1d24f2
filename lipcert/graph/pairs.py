"""Softmax, its logarithm and log-sum-exp written in pairs: the same functions of nodes that have linear bounds.

log(exp a + exp b) = b + softplus(a - b), pair by pair as maxima are (graph.ramps). With S the log-sum-exp of a group
and S_i that of all its entries but i, log-softmax is x_i - S and softmax is sigmoid(x_i - S_i): nothing of this
overflows. All S_i come from two sweeps over one tree of pairs: what is outside of a node is what is outside of its
parent, with its sibling.
"""

from __future__ import annotations

import numpy as np

from lipcert.activations import Sigmoid, Softplus
from lipcert.activations.groupwise import GroupFunction
from lipcert.activations.softmax import LogSoftmax, LogSumExp, Margins, Softmax
from lipcert.arithmetic.enclosure import Enclosure
from lipcert.graph.nodes import Affine, Elementwise, Graph, Groupwise, Node, Output, renumbered
from lipcert.graph.ramps import Ramped
from lipcert.operators import Diagonal, Identity, LinearOperator, Selection, Sum, compose

MAX_WIDTH = 32
"""Of groups that are written so ..."""

MAX_ENTRIES = 2048
"""... and of all their entries in a network: every one gets up to three smooth neurons."""


def in_pairs(graph: Graph) -> Ramped | None:
    """The graph with every group that pairs can express; None where there is none, or too much of them."""
    found = [i for i, node in enumerate(graph.nodes) if isinstance(node, Groupwise) and _pairs(node.function)]
    if not 0 < sum(graph.size(graph.nodes[i].inputs[0]) for i in found) <= MAX_ENTRIES:
        return None
    nodes: list[Node] = []
    new: dict[int, int] = {}
    groups: dict[int, tuple[GroupFunction | Margins, int]] = {}
    for i, node in enumerate(graph.nodes):
        if i in found and isinstance(node, Groupwise):
            _write(nodes, new[node.input], graph.size(node.input), node)
            groups[len(nodes) - 1] = (node.function, new[node.input])
            if isinstance(node.function, Softmax):
                groups[len(nodes) - 2] = (Margins(node.function.width), new[node.input])
        else:
            nodes.append(renumbered(node, new))
        new[i] = len(nodes) - 1
    outputs = tuple(Output(o.name, new[o.node]) for o in graph.outputs)
    known = tuple((at, function, source) for at, (function, source) in groups.items())
    return Ramped(Graph(tuple(nodes), outputs, known), tuple(new.values()), groups)


def _pairs(function: GroupFunction) -> bool:
    return type(function) in (Softmax, LogSoftmax, LogSumExp) and 2 <= function.width <= MAX_WIDTH


Side = tuple[int, int, np.ndarray]
"""A node, how many entries its groups have, and some of these entries: -1 for none."""


def _write(nodes: list[Node], source: int, size: int, node: Groupwise) -> None:
    """Append the node in pairs."""
    function, width = node.function, node.function.width
    groups = size // width
    levels: list[Side] = [(source, width, np.arange(width))]
    while (wide := levels[-1][1]) > (2 if isinstance(function, Softmax) else 1):
        left = np.arange(0, wide, 2)
        right = np.where(left + 1 < wide, left + 1, -1)
        levels.append(_merged(nodes, (levels[-1][0], wide, left), (levels[-1][0], wide, right), groups, node))
    if isinstance(function, LogSumExp):
        return
    if isinstance(function, LogSoftmax):
        around: Side = (levels[-1][0], 1, np.zeros(width, dtype=int))
    else:
        around = (levels[-1][0], 2, np.array([1, 0]))  # outside of each of the last two is the other
        for below, wide, _ in levels[-2::-1]:
            place = np.arange(wide)
            sibling = np.where((place ^ 1) < wide, place ^ 1, -1)
            parents = (around[0], around[1], around[2][place // 2])
            around = _merged(nodes, parents, (below, wide, sibling), groups, node)
    _add_affine(nodes, [(source, Identity(size)), (around[0], _entries(around, groups, -1.0))], node)
    if isinstance(function, Softmax):
        nodes.append(Elementwise(len(nodes) - 1, Sigmoid(), node.shape, node.origin))


def _merged(nodes: list[Node], first: Side, second: Side, groups: int, node: Groupwise) -> Side:
    """Append first + softplus(second - first), and first alone where there is no second."""
    both = np.flatnonzero(second[2] >= 0)
    (a, wide_a, at_a), (b, wide_b, at_b) = first, second
    less = (a, _entries((a, wide_a, at_a[both]), groups, -1.0))
    _add_affine(nodes, [(b, _entries((b, wide_b, at_b[both]), groups)), less], node)
    bent = len(nodes)
    nodes.append(Elementwise(bent - 1, Softplus(), (groups * len(both),), node.origin))
    place = np.full(len(at_b), -1)
    place[both] = np.arange(len(both))
    _add_affine(nodes, [(a, _entries(first, groups)), (bent, _entries((bent, len(both), place), groups))], node)
    return len(nodes) - 1, len(at_b), np.arange(len(at_b))


def _entries(side: Side, groups: int, sign: float = 1.0) -> LinearOperator:
    """These entries of every group."""
    _, width, at = side
    index = np.where(at >= 0, np.arange(groups)[:, None] * width + at, -1)
    chosen = Selection(index, groups * width)
    return chosen if sign == 1 else compose(Diagonal(np.full(index.size, sign)), chosen)


def _add_affine(nodes: list[Node], terms: list[tuple[int, LinearOperator]], node: Groupwise) -> None:
    (first, op), (second, other) = terms
    size = op.out_size
    inputs, operators = ((first,), (Sum((op, other)),)) if first == second else ((first, second), (op, other))
    nodes.append(Affine(inputs, operators, Enclosure(np.zeros(size)), (size,), node.origin))
