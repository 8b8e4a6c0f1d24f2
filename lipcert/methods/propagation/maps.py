"""The operators of affine nodes as functions on a device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lipcert.certificate.derivative import transpose
from lipcert.certificate.norms import is_affordable
from lipcert.certificate.planes import Body
from lipcert.graph import Affine
from lipcert.operators import Dense, Leaf, LinearOperator, Product, Sum, Transposed
from lipcert.operators.torch_view import realise

if TYPE_CHECKING:
    import torch

    Tensor = torch.Tensor
    Map = Callable[[Tensor], Tensor]


class Maps:
    """Of a list of nodes; built when they are first asked for."""

    def __init__(self, nodes: Sequence[Body], device: torch.device, dtype: torch.dtype) -> None:
        self.nodes, self.device, self.dtype = nodes, device, dtype
        self._kept: dict[tuple[str, int, int], Map] = {}
        self._matrices: dict[tuple[int, int], Tensor | None] = {}
        self._biases: dict[int, Tensor | None] = {}

    def forward(self, position: int, k: int) -> Map:
        """A v, rows v."""
        return self._find("forward", position, k, lambda op: op)

    def magnitude(self, position: int, k: int) -> Map:
        """|A| v, or |A_1| |A_2| v of a product that is not written out."""
        matrix = self.matrix(position, k)
        if matrix is not None:
            absolute = matrix.abs()
            return self._kept.setdefault(("magnitude", position, k), lambda v: v @ absolute.T)
        return self._find("magnitude", position, k, magnitude_of)

    def back(self, position: int, k: int) -> Map:
        """A' c, rows c."""
        return self._find("back", position, k, transpose)

    def matrix(self, position: int, k: int) -> Tensor | None:
        """A, if it is dense or a composite that may be written out; never a convolution."""
        if (position, k) not in self._matrices:
            self._matrices[position, k] = self._written_out(position, k, self._operator(position, k))
        return self._matrices[position, k]

    def bias(self, position: int) -> Tensor | None:
        """None where it is zero."""
        if position not in self._biases:
            body = self.nodes[position]
            assert isinstance(body, Affine)
            value = body.bias.value
            self._biases[position] = self.tensor(value) if np.any(value) else None
        return self._biases[position]

    def tensor(self, v: np.ndarray) -> Tensor:
        import torch

        return torch.tensor(v, dtype=self.dtype, device=self.device)

    def _written_out(self, position: int, k: int, op: LinearOperator) -> Tensor | None:
        import torch

        if isinstance(op, Transposed) and isinstance(op.leaf, Dense) and op.leaf.copies == 1:
            return self.tensor(op.leaf.weights).T
        if isinstance(op, Dense) and op.copies == 1:
            return self.tensor(op.weights)
        if isinstance(op, Product | Sum) and is_affordable(op):
            return self.forward(position, k)(torch.eye(op.in_size, dtype=self.dtype, device=self.device)).T.contiguous()
        return None

    def _find(self, what: str, position: int, k: int, change: Callable[[LinearOperator], LinearOperator]) -> Map:
        if (what, position, k) not in self._kept:
            operator = change(self._operator(position, k))
            self._kept[what, position, k] = realise(operator, self.device, self.dtype)
        return self._kept[what, position, k]

    def _operator(self, position: int, k: int) -> LinearOperator:
        body = self.nodes[position]
        assert isinstance(body, Affine)
        return body.operators[k]


def magnitude_of(op: LinearOperator) -> LinearOperator:
    """|A|, of a product the product of its factors' absolute values."""
    if isinstance(op, Product):
        return Product([magnitude_of(f) for f in op.factors])
    if isinstance(op, Sum):
        return Sum([magnitude_of(t) for t in op.terms])
    return op.magnitude if isinstance(op, Leaf) else op
