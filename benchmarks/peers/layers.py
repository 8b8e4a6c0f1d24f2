"""Networks that are one chain of layers, as the plain lists of weights that peers take.

All that lies between two activations is folded into one dense layer, in float64; for peers that take convolutions as
they are, there is `modules`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from lipcert.activations import LeakyRelu
from lipcert.graph import Affine, Elementwise, Graph, Input
from lipcert.graph.evaluate import evaluate
from lipcert.operators import Convolution, enclosed

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float

    from lipcert.activations import Activation

M = TypeVar("M", "torch.nn.Linear", "torch.nn.Conv2d")


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
        from torch import nn

        found: list[nn.Module] = []
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            found.append(_filled(nn.Linear(weight.shape[1], weight.shape[0], dtype=dtype), weight, bias))
            if i < len(self.activations):
                found.append(_module(self.activations[i]))
        return nn.Sequential(*found)


@dataclass(frozen=True, eq=False)
class Modules:
    """A network in torch that takes inputs of this shape, one example at a time."""

    shape: tuple[int, ...]
    sequential: Callable[[torch.dtype], torch.nn.Sequential]


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


def modules(graph: Graph) -> Modules:
    """The layers, folded; or, where the network begins with a convolution, node by node. Both are compared with it."""
    first = graph.nodes[1] if len(graph.nodes) > 1 else None
    if not isinstance(first, Affine) or not isinstance(first.operators[0], Convolution):
        folded = layers(graph)
        return Modules((folded.weights[0].shape[1],), folded.sequential)
    found = Modules(first.operators[0].in_shape, partial(_unfolded, graph))
    _compare(graph, found)
    return found


def _unfolded(graph: Graph, dtype: torch.dtype) -> torch.nn.Sequential:
    """Conv2d as long as maps are convolved, then Linear."""
    from torch import nn

    found: list[nn.Module] = []
    flat = False
    for position, node in enumerate(graph.nodes[1:], start=1):
        if node.inputs != (position - 1,):
            raise NotAChainError(f"node {position} ({node.origin}) does not read the node before it alone")
        if isinstance(node, Elementwise):
            found.append(_module(node.activation))
        elif not isinstance(node, Affine):
            raise NotAChainError(f"node {position} ({node.origin})")
        elif isinstance(node.operators[0], Convolution):
            found.append(_convolution(node.operators[0], node.bias.value, dtype))
        else:
            if not flat:
                found.append(nn.Flatten())
            flat = True
            weight = enclosed.dense(node.operators[0]).value
            found.append(_filled(nn.Linear(weight.shape[1], weight.shape[0], dtype=dtype), weight, node.bias.value))
    return nn.Sequential(*found)


def _convolution(operator: Convolution, bias: np.ndarray, dtype: torch.dtype) -> torch.nn.Conv2d:
    """With one bias a channel, and the same padding on both sides."""
    from torch import nn

    out, inside = operator.weights.shape[0], operator.in_shape[0]
    each = np.reshape(bias, (out, -1))
    pads = [before for before, after in operator.pads if before == after]
    if operator.copies != 1 or len(operator.kernel) != 2 or len(pads) != 2 or np.any(each != each[:, :1]):
        raise NotAChainError(f"the convolution {operator.in_shape} -> {operator.out_shape}")
    convolution = nn.Conv2d(
        inside,
        out,
        operator.kernel,
        stride=operator.strides,
        padding=tuple(pads),
        dilation=operator.dilations,
        groups=operator.groups,
        dtype=dtype,
    )
    return _filled(convolution, operator.weights, each[:, 0])


def _filled(module: M, weight: np.ndarray, bias: np.ndarray) -> M:
    import torch

    with torch.no_grad():
        module.weight.copy_(torch.tensor(weight))
        module.bias.copy_(torch.tensor(bias))
    return module


def _module(activation: Activation) -> torch.nn.Module:
    from torch import nn

    if not isinstance(activation, LeakyRelu) or not 0 <= activation.alpha <= 1:
        raise NotAChainError(f"the activation {activation.describe()}")
    return nn.LeakyReLU(activation.alpha) if activation.alpha else nn.ReLU()


def _compare(graph: Graph, folded: Layers | Modules) -> None:
    import torch

    shape = folded.shape if isinstance(folded, Modules) else (-1,)

    x = np.random.default_rng(0).standard_normal((100, graph.size(0)))
    wanted = evaluate(graph, dict.fromkeys(graph.inputs, x))[graph.outputs[0].node]
    with torch.no_grad():
        given = folded.sequential(torch.float64)(torch.tensor(x).reshape(100, *shape)).numpy()
    if not np.allclose(given, wanted, rtol=1e-9, atol=1e-9 * np.abs(wanted).max()):
        raise NotAChainError("the folded layers differ from the network")
