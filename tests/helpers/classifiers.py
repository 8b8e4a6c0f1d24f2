"""Small classifiers, and data that they classify."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from lipcert.activations import Activation, Relu
from lipcert.activations.groupwise import GroupFunction
from lipcert.arithmetic.enclosure import exact
from lipcert.certificate.robustness import Classifier
from lipcert.graph import Affine, Elementwise, Graph, Groupwise, Input, Node, Output, evaluate
from lipcert.operators import Dense
from lipcert.problem import Norm

SIZES = (3, 10, 8, 4)


def random_classifier(
    rng: np.random.Generator, norm: Norm, body: Activation | GroupFunction | None = None
) -> Classifier:
    """A dense network of random weights; `body` follows each layer but the last."""
    nodes: list[Node] = [Input("x", (SIZES[0],))]
    for n, m in pairwise(SIZES):
        weights = Dense(rng.standard_normal((m, n)) * np.sqrt(2 / n))
        nodes.append(Affine((len(nodes) - 1,), (weights,), exact(0.3 * rng.standard_normal(m)), (m,)))
        if m != SIZES[-1]:
            grouped = isinstance(body, GroupFunction)
            nodes.append((Groupwise if grouped else Elementwise)(len(nodes) - 1, body or Relu(), (m,)))
    return Classifier(Graph(tuple(nodes), (Output("y", len(nodes) - 1),)), norm)


def classes_at(graph: Graph, points: np.ndarray) -> np.ndarray:
    """In float64, not rounded safely."""
    return np.asarray(evaluate(graph, {"x": points})[graph.outputs[0].node].argmax(axis=1))
