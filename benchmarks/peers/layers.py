"""Networks that are one chain of layers, as the plain lists of weights that peers take.

All that lies between two activations is folded into one dense layer, in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lipcert.activations import LeakyRelu
from lipcert.graph import Affine, Graph, Input
from lipcert.graph.evaluate import evaluate
from lipcert.operators import enclosed

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float

    from lipcert.activations import Activation


class NotAChainError(Exception):
    """The network branches, or has an activation that the peers do not take."""


@dataclass(frozen=True, eq=False)
class Layers:
    """x -> W_n act(... act(W_1 x + b_1) ...) + b_n, with one activation fewer than layers."""

    weights: list[Float[np.ndarray, "out in"]]
    biases: list[Float[np.ndarray, "out"]]
    activations: list[Activation]

    def sequential(self, dtype: torch.dtype) -> torch.nn.Sequential:
        """The same network in torch: Linear layers, ReLU and LeakyReLU."""
        import torch
        from torch import nn

        modules: list[nn.Module] = []
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            linear = nn.Linear(weight.shape[1], weight.shape[0], dtype=dtype)
            with torch.no_grad():
                linear.weight.copy_(torch.tensor(weight))
                linear.bias.copy_(torch.tensor(bias))
            modules.append(linear)
            if i < len(self.activations):
                modules.append(_module(self.activations[i]))
        return nn.Sequential(*modules)


def layers(graph: Graph) -> Layers:
    """Fold a graph into layers, and compare them with the graph at random points."""
    weights: list[np.ndarray] = []
    biases: list[np.ndarray] = []
    activations: list[Activation] = []
    weight, bias = np.eye(graph.size(0)), np.zeros(graph.size(0))
    for position, node in enumerate(graph.nodes):
        if isinstance(node, Input) if position else not isinstance(node, Input):
            raise NotAChainError("the network does not have its one input in front")
        if position and node.inputs != (position - 1,):
            raise NotAChainError(f"node {position} ({node.origin}) does not read the node before it alone")
        if isinstance(node, Affine):
            dense = enclosed.dense(node.operators[0]).value
            weight, bias = dense @ weight, dense @ bias + node.bias.value
        elif not isinstance(node, Input):
            weights.append(weight)
            biases.append(bias)
            activations.append(node.activation)
            size = graph.size(position)
            weight, bias = np.eye(size), np.zeros(size)
    folded = Layers([*weights, weight], [*biases, bias], activations)
    _compare(graph, folded)
    return folded


def _module(activation: Activation) -> torch.nn.Module:
    from torch import nn

    if not isinstance(activation, LeakyRelu) or not 0 <= activation.alpha <= 1:
        raise NotAChainError(f"the activation {activation.describe()}")
    return nn.LeakyReLU(activation.alpha) if activation.alpha else nn.ReLU()


def _compare(graph: Graph, folded: Layers) -> None:
    import torch

    x = np.random.default_rng(0).standard_normal((100, graph.size(0)))
    wanted = evaluate(graph, dict.fromkeys(graph.inputs, x))[graph.outputs[0].node]
    with torch.no_grad():
        given = folded.sequential(torch.float64)(torch.tensor(x)).numpy()
    if not np.allclose(given, wanted, rtol=1e-9, atol=1e-9 * np.abs(wanted).max()):
        raise NotAChainError("the folded layers differ from the network")
