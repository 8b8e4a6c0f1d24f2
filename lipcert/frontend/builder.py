"""The graph under construction. Converters speak to it in linear terms, and constants fold on the way.

A converter describes an op once, as operators and activations; applied to a known tensor the same description gives
an enclosure of the constant instead of a node.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lipcert.activations import Activation
from lipcert.arithmetic.enclosure import Enclosure, exact, hull
from lipcert.errors import ModelError
from lipcert.frontend.opnode import OpNode
from lipcert.frontend.values import Known, Live
from lipcert.graph import Affine, Elementwise, Input, Node
from lipcert.operators import Identity, LinearOperator, Selection, Shape, size_of
from lipcert.operators.enclosed import apply


class GraphBuilder:
    """Collects nodes in order."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []

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
        if not total.is_finite:
            raise ModelError(f"{node.label}: a constant overflows or is not a number")
        if not live:
            return Known(total.reshape(shape))
        if len(live) == 1 and isinstance(live[0][1], Identity) and total.is_exact and not total.value.any():
            return Live(live[0][0], shape)  # a reshape: no node needed
        positions, operators = zip(*live, strict=True)
        return self._append(Affine(positions, operators, total, shape, node.name or node.outputs[0]), shape)

    def elementwise(self, node: OpNode, value: Live | Known, activation: Activation) -> Live | Known:
        if isinstance(value, Known):
            low, high = activation.enclose(value.data.lower(), value.data.upper())
            return Known(hull(low, high))
        shape = value.shape
        return self._append(Elementwise(value.node, activation, shape, node.name or node.outputs[0]), shape)

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

    def _append(self, graph_node: Node, shape: Shape) -> Live:
        self.nodes.append(graph_node)
        return Live(len(self.nodes) - 1, shape)


def broadcast_shape(node: OpNode, *shapes: Shape) -> Shape:
    """The common shape of tensors by NumPy's rules."""
    try:
        return tuple(np.broadcast_shapes(*shapes))
    except ValueError:
        node.malformed(f"shapes {' and '.join(str(list(s)) for s in shapes)} do not broadcast")
