"""Plain float64 evaluation of a Graph, batched; the reference that the import is checked with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lipcert.graph.nodes import Affine, Elementwise, Graph, Groupwise, Input, Product

if TYPE_CHECKING:
    from jaxtyping import Float


def evaluate(graph: Graph, inputs: dict[str, Float[np.ndarray, "*batch n"]]) -> list[Float[np.ndarray, "*batch m"]]:
    """The value of every node, in order, at flattened inputs given by name."""
    values: list[np.ndarray] = []
    for node in graph.nodes:
        if isinstance(node, Input):
            values.append(np.asarray(inputs[node.name], dtype=np.float64))
        elif isinstance(node, Elementwise):
            values.append(node.activation.value(values[node.input]))
        elif isinstance(node, Groupwise):
            values.append(node.function.value(values[node.input]))
        elif isinstance(node, Product):
            values.append(values[node.left] * values[node.right])
        elif isinstance(node, Affine):
            total = node.bias.value
            for source, operator in zip(node.inputs, node.operators, strict=True):
                total = total + operator.matvec(values[source])
            values.append(total)
        else:
            raise TypeError("an increment has no value")
    return values
