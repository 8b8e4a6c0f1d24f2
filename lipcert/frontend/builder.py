"""The graph under construction. Converters speak to it in linear terms, and constants fold on the way.

A converter describes an op once, as operators and activations; applied to a known tensor the same description gives
an enclosure of the constant instead of a node.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lipcert.activations import Activation
from lipcert.activations.groupwise import GroupFunction
from lipcert.activations.sorting import GroupSort
from lipcert.arithmetic.enclosure import Enclosure, exact, hull
from lipcert.errors import ModelError
from lipcert.frontend.opnode import OpNode
from lipcert.frontend.values import Known, Live
from lipcert.graph import Affine, Elementwise, FixedPoint, Groupwise, Input, Iteration, Node, Product, State
from lipcert.operators import Diagonal, Identity, LinearOperator, Selection, Shape, compose, joined, size_of
from lipcert.operators.enclosed import apply


class GraphBuilder:
    """Collects nodes in order."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.notes: list[str] = []
        """What was read as something else than its letters: see DESIGN, idioms."""
        self.unrecognised: list[str] = []
        """Products and quotients that no rule knows, and why."""
        self.rewritten: set[str] = set()
        """Tensors that a recogniser reads from further back than their own node's inputs."""
        self.reflections: dict[tuple[int, bytes, bytes], Live] = {}
        """Householder nodes by their source, groups and normals: each is read from several Where nodes."""
        self._sorted: dict[bytes, Live] = {}

    def input(self, name: str, shape: Shape) -> Live:
        return self._append(Input(name, shape), shape)

    def affine(
        self,
        node: OpNode,
        terms: list[tuple[Live | Known, LinearOperator]],
        shape: Shape,
        bias: Enclosure | None = None,
    ) -> Live | Known:
        """sum of operator(term) + bias, as a tensor of `shape`; terms that are known join the bias."""
        node.sized(shape)
        size = size_of(shape)
        total = exact(np.zeros(size)) if bias is None else bias.reshape((size,))
        live: list[tuple[int, LinearOperator]] = []
        for value, operator in terms:
            if isinstance(value, Live):
                live.append((value.node, operator))
            else:
                total = total + apply(operator, value.data.reshape((value.size,)))
        if not (total.is_finite if live else np.all(np.isfinite(total.value))):
            raise ModelError(f"{node.label}: a constant overflows or is not a number", hint="check the weights")
        if not live:
            return Known(total.reshape(shape))
        if len(live) == 1 and isinstance(live[0][1], Identity) and total.is_exact and not total.value.any():
            return Live(live[0][0], shape)  # a reshape: no node needed
        positions, operators = zip(*_joined(live), strict=True)
        return self._append(Affine(positions, operators, total, shape, node.name or node.outputs[0]), shape)

    def elementwise(self, node: OpNode, value: Live | Known, activation: Activation) -> Live | Known:
        if isinstance(value, Known):
            low, high = activation.enclose(value.data.lower(), value.data.upper())
            return Known(hull(low, high))
        shape = value.shape
        return self._append(Elementwise(value.node, activation, shape, node.name or node.outputs[0]), shape)

    def groupwise(self, node: OpNode, value: Live | Known, function: GroupFunction, shape: Shape) -> Live | Known:
        """The function applied to consecutive groups of the entries of `value`."""
        if isinstance(value, Known):
            low, high = function.enclose(value.data.lower().reshape(-1), value.data.upper().reshape(-1))
            return Known(hull(low, high).reshape(shape))
        return self._append(Groupwise(value.node, function, shape, node.name or node.outputs[0]), shape)

    def product(self, node: OpNode, a: Live, b: Live) -> Live:
        """The entrywise product of tensors of one shape."""
        return self._append(Product(a.node, b.node, a.shape, node.name or node.outputs[0]), a.shape)

    def state(self, shape: Shape, origin: str) -> Live:
        """The unknown of a fixed point."""
        return self._append(State(shape, origin), shape)

    def fixed_point(self, state: Live, body: Live, iteration: Iteration | None, origin: str) -> Live:
        return self._append(FixedPoint(state.node, body.node, state.shape, origin, iteration), state.shape)

    def affine_node(self, node: Affine) -> Live:
        """A node that is written down already."""
        return self._append(node, node.shape)

    def sorted_pairs(self, node: OpNode, a: Live, b: Live) -> tuple[Live, np.ndarray]:
        """A sort of all pairs (a_i, b_i), and which of its groups each pair is.

        The same pairs, in whatever order and through whatever slices they come, share one node: so max and min of the
        same pairs become MaxMin.
        """
        table = np.sort(np.stack([self._identities(a), self._identities(b)], axis=1), axis=1)
        order = np.lexsort((table[:, 1], table[:, 0]))
        groups = np.empty_like(order)
        groups[order] = np.arange(len(order))
        key = table[order].tobytes()
        if key not in self._sorted:
            interleaved = (2 * a.size,)
            place_a, place_b = np.full(interleaved, -1), np.full(interleaved, -1)
            place_a[::2], place_b[1::2] = order, order
            pairs = self.affine(node, [(a, Selection(place_a, a.size)), (b, Selection(place_b, b.size))], interleaved)
            result = self.groupwise(node, pairs, GroupSort(2), interleaved)
            assert isinstance(result, Live)
            self._sorted[key] = result
        return self._sorted[key], groups

    def _identities(self, value: Live) -> np.ndarray:
        """A number for each entry that is the same for entries that are certainly equal (moved, not computed)."""
        position, index = self.source(value)
        starts = np.cumsum([0] + [size_of(n.shape) for n in self.nodes])
        return starts[position] + index

    def source(self, value: Live) -> tuple[int, np.ndarray]:
        """The node, and its entries, that the entries of a tensor are copies of."""
        position, index = value.node, np.arange(value.size)
        while True:
            body = self.nodes[position]
            moved = isinstance(body, Affine) and len(body.inputs) == 1 and not body.bias.value.any()
            if not moved or not body.bias.is_exact:  # type: ignore[union-attr]
                return position, index
            operator = body.operators[0]  # type: ignore[union-attr]
            if isinstance(operator, Selection) and np.all(operator.index[index] >= 0):
                index = operator.index[index]
            elif not isinstance(operator, Identity):
                return position, index
            position = body.inputs[0]

    def rearrange(self, node: OpNode, value: Live | Known, move: Callable[[np.ndarray], np.ndarray]) -> Live | Known:
        """Move entries as `move` moves those of an index tensor (-1 marks a new zero)."""
        if isinstance(value, Known):
            index = move(np.arange(value.size).reshape(value.shape))
            return Known(apply(Selection(index, value.size), value.data.reshape((value.size,))).reshape(index.shape))
        index = move(np.arange(value.size).reshape(value.shape))
        if index.size == value.size and np.array_equal(index.reshape(-1), np.arange(value.size)):
            return Live(value.node, index.shape)
        return self.affine(node, [(value, Selection(index, value.size))], index.shape)

    def broadcast(self, node: OpNode, value: Live | Known, shape: Shape) -> LinearOperator:
        """The operator that broadcasts a tensor to `shape` by NumPy's rules."""
        if value.shape == shape or (value.size == size_of(shape)):
            return Identity(value.size)
        node.sized(shape)
        try:
            index = np.broadcast_to(np.arange(value.size).reshape(value.shape), shape)
        except ValueError:
            node.malformed(f"shape {list(value.shape)} does not broadcast to {list(shape)}")
        return Selection(index, value.size)

    def scale(self, node: OpNode, value: Live | Known, factor: Enclosure) -> Live | Known:
        """value times a constant of any shape that broadcasts with it."""
        shape = broadcast_shape(node, value.shape, factor.shape)
        node.sized(shape)
        weights = factor.rearrange(lambda a: np.broadcast_to(a, shape).reshape(-1))
        diagonal = Diagonal(weights.value, weights.radius)
        return self.affine(node, [(value, compose(diagonal, self.broadcast(node, value, shape)))], shape)

    def spread(self, node: OpNode, value: Live | Known, shape: Shape) -> Live | Known:
        """The tensor broadcast to `shape`."""
        if value.shape == shape:
            return value
        if isinstance(value, Known):
            return Known(value.data.rearrange(lambda a: np.broadcast_to(a, shape)))
        return self.affine(node, [(value, self.broadcast(node, value, shape))], shape)

    def _append(self, graph_node: Node, shape: Shape) -> Live:
        self.nodes.append(graph_node)
        return Live(len(self.nodes) - 1, shape)


def _joined(terms: list[tuple[int, LinearOperator]]) -> list[tuple[int, LinearOperator]]:
    """Terms of one node added, where they are selections that do not meet."""
    kept: list[tuple[int, LinearOperator]] = []
    for position, operator in terms:
        for k, (other, before) in enumerate(kept):
            merged = joined(before, operator) if other == position else None
            if merged is not None:
                kept[k] = (position, merged)
                break
        else:
            kept.append((position, operator))
    return kept


def broadcast_shape(node: OpNode, *shapes: Shape) -> Shape:
    """The common shape of tensors by NumPy's rules."""
    try:
        return tuple(np.broadcast_shapes(*shapes))
    except ValueError:
        node.malformed(f"shapes {' and '.join(str(list(s)) for s in shapes)} do not broadcast")
