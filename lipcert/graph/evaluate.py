"""Plain float64 evaluation of a Graph, batched; the reference that the import is checked with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lipcert.graph.nodes import Affine, Elementwise, FixedPoint, Graph, Groupwise, Input, Product, State

if TYPE_CHECKING:
    from jaxtyping import Float


ITERATIONS = 20000
CONVERGED = 1e-12
PATIENCE = 40
"""Steps without a smaller residual, after which they become shorter."""

GROWTH = 100.0
"""Of the residual, at which they do so at once."""


def evaluate(graph: Graph, inputs: dict[str, Float[np.ndarray, "*batch n"]]) -> list[Float[np.ndarray, "*batch m"]]:
    """The value of every node, in order, at flattened inputs given by name.

    Fixed points by a damped iteration; ArithmeticError where it does not converge.
    """
    loops = [node for node in graph.nodes if isinstance(node, FixedPoint)]
    if not loops:
        return _values(graph, inputs, {})
    batch = next(iter(inputs.values())).shape[:-1] if inputs else ()
    states = {loop.state: np.zeros((*batch, graph.size(loop.state))) for loop in loops}
    best, least, share, waited = states, np.inf, 1.0, 0
    for _ in range(ITERATIONS):
        values = _values(graph, inputs, states)
        moves = {loop.state: values[loop.body] - states[loop.state] for loop in loops}
        size = max(float(np.abs(m).max(initial=0.0)) for m in moves.values())
        if size <= CONVERGED * max(1.0, *(float(np.abs(z).max(initial=0.0)) for z in states.values())):
            return values
        if size < 0.99 * least:
            best, least, waited = states, size, 0
        waited += 1
        if waited > PATIENCE or not size < GROWTH * least:  # back to the best, with shorter steps
            share, states, waited = share / 2, best, 0
        else:
            states = {at: z + share * moves[at] for at, z in states.items()}
    raise ArithmeticError("the iteration for a fixed point does not converge")


def _values(graph: Graph, inputs: dict[str, np.ndarray], states: dict[int, np.ndarray]) -> list[np.ndarray]:
    values: list[np.ndarray] = []
    for position, node in enumerate(graph.nodes):
        if isinstance(node, Input):
            values.append(np.asarray(inputs[node.name], dtype=np.float64))
        elif isinstance(node, State):
            values.append(states[position])
        elif isinstance(node, FixedPoint):
            values.append(values[node.state])
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
