"""A posed problem as a batched torch function of x."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.implicit import Layer, layers_of
from lipcert.graph import Affine, Elementwise, FixedPoint, Groupwise, Node, Product, State
from lipcert.methods.implicit.solution import solutions
from lipcert.operators.torch_view import realise
from lipcert.problem import Problem

if TYPE_CHECKING:
    import torch


class TorchNetwork:
    """y as a function of a batch of x; free inputs are zero."""

    def __init__(self, problem: Problem, device: torch.device, dtype: torch.dtype) -> None:
        import torch

        self.problem, self.device, self.dtype = problem, device, dtype
        graph = problem.graph
        self._maps = {
            i: [realise(op, device, dtype) for op in node.operators]
            for i, node in enumerate(graph.nodes)
            if isinstance(node, Affine)
        }
        self._biases = {
            i: torch.tensor(node.bias.value, dtype=dtype, device=device)
            for i, node in enumerate(graph.nodes)
            if isinstance(node, Affine)
        }
        self._layers = layers_of(graph, Arithmetic())
        self._layer_maps = {
            state: [realise(op, device, dtype) for _, op in layer.sources] for state, layer in self._layers.items()
        }
        self._scales = {state: realise(layer.scale, device, dtype) for state, layer in self._layers.items()}

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (batch, size_in) -> (batch, size_out)."""
        values: list[torch.Tensor] = []
        for i, node in enumerate(self.problem.graph.nodes):
            values.append(self._value(i, node, values, x))
        return values[self.problem.y]

    def _value(self, i: int, node: Node, values: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        if isinstance(node, Affine):
            total = self._biases[i].expand(len(x), -1)
            for source, apply in zip(node.inputs, self._maps[i], strict=True):
                total = total + apply(values[source])
            return total
        if isinstance(node, Elementwise):
            return node.activation.torch(values[node.input])
        if isinstance(node, Groupwise):
            return node.function.torch(values[node.input])
        if isinstance(node, Product):
            return values[node.left] * values[node.right]
        if isinstance(node, State):
            return self._solution(self._layers[i], values)
        if isinstance(node, FixedPoint):
            return values[node.state]
        return x if i == self.problem.x else x.new_zeros(len(x), self.problem.graph.size(i))

    def _solution(self, layer: Layer, values: list[torch.Tensor]) -> torch.Tensor:
        """The solution of an implicit layer, found in float64, with the derivative that it has there."""
        import torch

        given = [apply(values[s]) for (s, _), apply in zip(layer.sources, self._layer_maps[layer.state], strict=True)]
        u = sum(given[1:], given[0]) + torch.as_tensor(layer.bias.value, dtype=self.dtype, device=self.device)
        found = solutions(layer, u.detach().double().cpu().numpy())
        slopes = layer.activation.derivative(found)
        matrices = np.eye(layer.size) - layer.matrix.value * slopes[:, None, :]
        v, back = (torch.as_tensor(a, dtype=self.dtype, device=self.device) for a in (found, matrices))
        v = v + torch.linalg.solve(back, u - u.detach())
        return self._scales[layer.state](layer.activation.torch(v))
