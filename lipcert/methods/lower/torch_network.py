"""A posed problem as a batched torch function of x."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lipcert.graph import Affine, Elementwise, FixedPoint, Groupwise, Product, State
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

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (batch, size_in) -> (batch, size_out)."""
        values: list[torch.Tensor] = []
        for i, node in enumerate(self.problem.graph.nodes):
            if isinstance(node, Affine):
                total = self._biases[i].expand(len(x), -1)
                for source, apply in zip(node.inputs, self._maps[i], strict=True):
                    total = total + apply(values[source])
                values.append(total)
            elif isinstance(node, Elementwise):
                values.append(node.activation.torch(values[node.input]))
            elif isinstance(node, Groupwise):
                values.append(node.function.torch(values[node.input]))
            elif isinstance(node, Product):
                values.append(values[node.left] * values[node.right])
            elif isinstance(node, State | FixedPoint):
                raise TypeError("fixed points are not searched")
            elif i == self.problem.x:
                values.append(x)
            else:
                values.append(x.new_zeros(len(x), self.problem.graph.size(i)))
        return values[self.problem.y]
