"""Weights that make an implicit layer strongly monotone in l2, and so well-posed by construction.

Winston, Kolter, "Monotone Operator Equilibrium Networks" (NeurIPS 2020): I - (A + A') / 2 >= m I exactly if
A = (1 - m) I - W' W + S - S' for some W and S.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lipcert.errors import UsageError


class MonDEQ(nn.Module):
    """`weight`, an (n, n) matrix A with I - (A + A') / 2 >= m I, m > 0, up to rounding.

    z = phi(A z + u) is well-posed for slopes in [0, 1] of an activation that is the same in every entry.
    """

    def __init__(self, size: int, margin: float = 1.0) -> None:
        super().__init__()
        if not margin > 0:
            raise UsageError(f"MonDEQ: margin {margin}", hint="use a positive margin")
        self.margin = margin
        self.factor = nn.Parameter(torch.randn(size, size) / (2 * size**0.5))
        self.skew = nn.Parameter(torch.randn(size, size) / (2 * size**0.5))

    @property
    def weight(self) -> Tensor:
        """A."""
        identity = torch.eye(len(self.factor), dtype=self.factor.dtype, device=self.factor.device)
        return (1 - self.margin) * identity - self.factor.T @ self.factor + self.skew - self.skew.T

    def extra_repr(self) -> str:
        """What torch prints of the module."""
        return f"{len(self.factor)}, margin={self.margin}"
