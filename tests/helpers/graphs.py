"""Random graphs over everything that the IR can hold, for property tests."""

from __future__ import annotations

import numpy as np

from lipcert.activations import Activation
from lipcert.arithmetic.enclosure import Enclosure
from lipcert.graph import Affine, Elementwise, Graph, Input, Node, Output
from tests.helpers.activations import REFERENCES
from tests.helpers.operators import random_operator

ACTIVATIONS: tuple[Activation, ...] = tuple(reference.activation for reference in REFERENCES)
"""Every activation, the parametrised ones at the parameters where they behave differently."""

WITH_RADIUS = 0.3
"""Probability that the weights of a leaf, or a bias, are known only up to a radius."""


def random_graph(rng: np.random.Generator, *, inputs: int = 1, depth: int = 6, width: int = 6) -> Graph:
    """A random DAG of `depth` layers on inputs "in0", "in1", ... of at most `width` entries, with one output "out".

    A layer is an Affine node (operators of every kind, some with a radius, as has the bias), an Elementwise node (of
    every activation), or the one after the other. It reads the node before it, and other nodes anywhere before: there
    are forks, joins, one node read twice, inputs that come in late, affine nodes that read affine nodes, and nonlinear
    ones that read inputs or nonlinear ones. The last node is affine and reads all that nothing else has read, so that
    no node is idle. Values stay of the order of one.
    """
    nodes: list[Node] = [Input(f"in{i}", (1, int(rng.integers(1, width + 1)))) for i in range(inputs)]
    for layer in range(depth):
        kind = rng.choice(["affine", "elementwise", "both"], p=[0.2, 0.15, 0.65])
        if kind != "elementwise":
            sources = [len(nodes) - 1] if rng.random() < 0.8 else []
            sources += rng.integers(0, len(nodes), size=int(rng.integers(0, 3))).tolist() or sources or [0]
            nodes.append(_affine(rng, nodes, sorted(sources), None, width, f"affine {layer}"))
        if kind != "affine":
            activation = ACTIVATIONS[int(rng.integers(len(ACTIVATIONS)))]
            nodes.append(Elementwise(len(nodes) - 1, activation, nodes[-1].shape, f"activation {layer}"))
    read = {source for node in nodes for source in node.inputs}
    idle = [i for i in range(len(nodes)) if i not in read]
    nodes.append(_affine(rng, nodes, idle, int(rng.integers(1, width + 1)), width, "output"))
    return Graph(tuple(nodes), (Output("out", len(nodes) - 1),))


def _affine(
    rng: np.random.Generator, nodes: list[Node], sources: list[int], size: int | None, width: int, origin: str
) -> Affine:
    operators = []
    for source in sources:
        in_size = int(np.prod(nodes[source].shape))
        operators.append(random_operator(rng, in_size, size, radius=WITH_RADIUS, largest=2 * width))
        size = operators[0].out_size
    assert size is not None
    radius = 1e-3 * rng.random(size) if rng.random() < WITH_RADIUS else 0.0
    return Affine(tuple(sources), tuple(operators), Enclosure(rng.normal(size=size), radius), (1, size), origin)
