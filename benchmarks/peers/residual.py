"""MaxMin rewritten as a residual ReLU network, which is how tools without a theory of sorting take it.

With one ramp r = relu(a - b), (min, max) = (a - r, b + r): nothing is lost for LipSDP. With two, max = b + relu(a - b)
and min = b - relu(b - a), each ramp has slopes of its own, and even one MaxMin is not seen to be 1-Lipschitz (Pauli,
Havens, Araujo, Garg, Khorrami, Allgoewer, Hu, ICLR 2024, warn of it).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipcert.activations import Relu
from lipcert.activations.sorting import GroupSort
from lipcert.arithmetic.enclosure import exact
from lipcert.graph import Affine, Elementwise, Graph, Groupwise, Node, Output
from lipcert.graph.evaluate import evaluate
from lipcert.graph.nodes import renumbered
from lipcert.operators import Dense


@dataclass(frozen=True, eq=False)
class Form:
    """(min, max) = through (a, b) + back relu(across (a, b))."""

    name: str
    across: np.ndarray
    through: np.ndarray
    back: np.ndarray


FORMS = (
    Form("one ramp", np.array([[1.0, -1]]), np.eye(2), np.array([[-1.0], [1]])),
    Form("two ramps", np.array([[1.0, -1], [-1, 1]]), np.array([[0.0, 1], [0, 1]]), np.array([[0.0, -1], [1, 0]])),
)


def rewritten(graph: Graph, form: Form) -> Graph | None:
    """The same function with ReLU in place of every sorted pair; None where there is nothing to rewrite."""
    nodes: list[Node] = []
    new: dict[int, int] = {}
    found = False
    for position, node in enumerate(graph.nodes):
        if isinstance(node, Groupwise) and isinstance(node.function, GroupSort) and node.function.width == 2:
            nodes += _ramps(len(nodes), new[node.input], graph.size(position) // 2, form)
            found = True
        else:
            nodes.append(renumbered(node, new))
        new[position] = len(nodes) - 1
    result = Graph(tuple(nodes), tuple(Output(output.name, new[output.node]) for output in graph.outputs))
    return _compared(graph, result) if found else None


def _ramps(start: int, source: int, pairs: int, form: Form) -> list[Node]:
    """The nodes for one layer of pairs, of which the first will be node `start`."""
    across, through, back = (np.kron(np.eye(pairs), part) for part in (form.across, form.through, form.back))
    count = len(across)
    return [
        Affine((source,), (Dense(across),), exact(np.zeros(count)), (count,)),
        Elementwise(start, Relu(), (count,)),
        Affine((source, start + 1), (Dense(through), Dense(back)), exact(np.zeros(2 * pairs)), (2 * pairs,)),
    ]


def _compared(graph: Graph, other: Graph) -> Graph:
    """The other graph, once it is seen to give the same at random points."""
    rng = np.random.default_rng(0)
    points = {name: rng.standard_normal((20, graph.size(i))) for name, i in graph.inputs.items()}
    wanted, given = (evaluate(g, points)[g.outputs[0].node] for g in (graph, other))
    if not np.allclose(given, wanted, rtol=1e-9, atol=1e-9):
        raise AssertionError("the rewritten network differs from the network")
    return other
