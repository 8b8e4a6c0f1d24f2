"""Linear stretches: what lies between a node and a set of earlier nodes, as one operator per earlier node.

With the sources = all inputs and nonlinear nodes, the stretches of all pre-activations and of the output are the
blocks of the LFT form v = A w + B x + b_v, y = C w + D x + b_y.
"""

from __future__ import annotations

from collections.abc import Container

import numpy as np

from lipcert.arithmetic.enclosure import Enclosure
from lipcert.graph.nodes import Affine, Graph
from lipcert.operators import Identity, LinearOperator, add, compose
from lipcert.operators.enclosed import apply
from lipcert.operators.multiples import shortened


def linear_terms(
    graph: Graph, target: int, sources: Container[int], rounded: bool = False
) -> dict[int, LinearOperator]:
    """Operators T_s with increment(target) = sum_s T_s increment(s), walking back until a source is met.

    The target itself is expanded even if it is a source and affine. Inputs and nonlinear nodes always stop the walk.
    Parallel paths to one source are added. `rounded`: many multiples of the identity in a row are one, which may have a
    radius; else operators are long where the stretch is.
    """
    pending: dict[int, list[LinearOperator]] = {target: [Identity(graph.size(target))]}
    found: dict[int, LinearOperator] = {}
    for position in range(target, -1, -1):
        if position not in pending:
            continue
        total = add(pending.pop(position))
        if rounded:
            total = shortened(total)
        node = graph.nodes[position]
        if isinstance(node, Affine) and (position == target or position not in sources):
            for source, operator in zip(node.inputs, node.operators, strict=True):
                pending.setdefault(source, []).append(compose(total, operator))
        else:
            found[position] = total
    return dict(sorted(found.items()))


def stops(graph: Graph, target: int) -> frozenset[int]:
    """The inputs and nonlinear nodes at or before `target`: where every stretch must end."""
    return frozenset(i for i, node in enumerate(graph.nodes[: target + 1]) if not isinstance(node, Affine))


def bias_of(graph: Graph, target: int) -> Enclosure:
    """What the affine stretch that ends in `target` adds to its linear terms: its value where all they read is zero."""
    values: dict[int, Enclosure] = {}
    for position in range(target + 1):
        node = graph.nodes[position]
        if not isinstance(node, Affine):
            continue
        total = node.bias
        for source, operator in zip(node.inputs, node.operators, strict=True):
            part = values.get(source)
            if part is not None and (np.any(part.value) or not part.is_exact):
                total = total + apply(operator, part)
        values[position] = total
    return values.get(target, Enclosure(np.zeros(graph.size(target))))
