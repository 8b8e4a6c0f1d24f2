"""Loop transformation: each nonlinearity as its mean slope plus a remainder of small slopes.

On the region phi' lies in [lo, hi], so phi(v) = m v + psi(v) with m = (lo + hi) / 2 and psi' in [-(hi - lo) / 2,
(hi - lo) / 2]. The linear parts join the stretches around them; neurons of fixed slope vanish from the nonlinear part.
Everywhere, with m = 1/2 for ReLU, this is LipLT (Fazlyab, Entesari, Roy, Chellappa, NeurIPS 2023); on small regions
most neurons are fixed and what remains is the norm of one matrix plus little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lipcert.arithmetic.enclosure import Enclosure
from lipcert.arithmetic.rounding import up
from lipcert.certificate.boxes import Bounds
from lipcert.graph import Affine, Elementwise, Graph, Input, Node, linear_terms
from lipcert.graph.nodes import renumbered
from lipcert.operators import Diagonal, Identity, LinearOperator, Selection


@dataclass(frozen=True, eq=False)
class IncrementGraph:
    """How increments of y follow from those of x: affine nodes, and elementwise nodes known by their steepest slopes.

    Where nodes were centered, an Elementwise node stands for the remainder of its activation.
    """

    graph: Graph
    x: int
    y: int
    slopes: dict[int, np.ndarray]
    """For each elementwise node, upper bounds on the absolute slope of each entry over the region."""


def plain(graph: Graph, x: int, y: int, boxes: list[Bounds]) -> IncrementGraph:
    """The network itself, with the steepest slopes over the boxes."""
    slopes = {}
    for i, node in enumerate(graph.nodes):
        if isinstance(node, Elementwise):
            low, high = node.activation.slopes(*boxes[node.input])
            slopes[i] = np.maximum(np.abs(low), np.abs(high))
    return IncrementGraph(graph, x, y, slopes)


def centered(graph: Graph, x: int, y: int, boxes: list[Bounds]) -> IncrementGraph:
    """The network with every elementwise node split into its mean slope and a remainder."""
    nodes: list[Node] = []
    new: dict[int, int] = {}
    slopes: dict[int, np.ndarray] = {}
    for i, node in enumerate(graph.nodes):
        if isinstance(node, Elementwise):
            _split(nodes, slopes, node, new[node.input], *node.activation.slopes(*boxes[node.input]))
        else:
            nodes.append(renumbered(node, new))
        new[i] = len(nodes) - 1
    return IncrementGraph(Graph(tuple(nodes), ()), new[x], new[y], slopes)


def moving_terms(graph: Graph, node: int, cut: Sequence[int], x: int) -> dict[int, LinearOperator]:
    """The increment of an affine node, or of a nonlinear node's input, as terms; free inputs do not move."""
    body = graph.nodes[node]
    start = body.input if isinstance(body, Elementwise) else node
    if isinstance(graph.nodes[start], Affine):
        terms = linear_terms(graph, start, frozenset(cut))
    else:
        terms = {start: Identity(graph.size(start))}
    return {s: op for s, op in terms.items() if s == x or not isinstance(graph.nodes[s], Input)}


def _split(
    nodes: list[Node], slopes: dict[int, np.ndarray], node: Elementwise, source: int, low: np.ndarray, high: np.ndarray
) -> None:
    """Append the remainder of the entries whose slope is not fixed, and the mean slope plus it."""
    size = low.size
    fixed = low == high
    mean = np.where(fixed, low, low / 2 + high / 2)
    loose = np.flatnonzero(~fixed)
    inputs: tuple[int, ...] = (source,)
    operators: tuple[LinearOperator, ...] = (Diagonal(mean),)
    if loose.size:
        everything = loose.size == size
        nodes.append(_affine((source,), (Identity(size) if everything else Selection(loose, size),), node.origin))
        nodes.append(Elementwise(len(nodes) - 1, node.activation, (loose.size,), node.origin))
        remainder = len(nodes) - 1
        slopes[remainder] = up(np.maximum(up(high - mean), up(mean - low)))[loose]
        place = np.full(size, -1)
        place[loose] = np.arange(loose.size)
        inputs = (source, remainder)
        operators = (Diagonal(mean), Identity(size) if everything else Selection(place, loose.size))
    nodes.append(_affine(inputs, operators, node.origin))


def _affine(inputs: tuple[int, ...], operators: tuple[LinearOperator, ...], origin: str) -> Affine:
    size = operators[0].out_size
    return Affine(inputs, operators, Enclosure(np.zeros(size)), (size,), origin)
