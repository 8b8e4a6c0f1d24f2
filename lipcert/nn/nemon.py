"""Weights with a prescribed l-infinity matrix measure: implicit layers that are well-posed by construction.

Jafarpour, Davydov, Proskurnikov, Bullo, "Robust Implicit Networks via Non-Euclidean Contractions" (NeurIPS 2021):
mu_{inf,w}(A) <= mu exactly if A = diag(w) T diag(w)^-1 - diag(|T| 1) + mu I for some T. (Here mu_{inf,w}(A) is
max_i a_ii + sum_{j != i} |a_ij| w_j / w_i.)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lipcert.errors import UsageError


class Nemon(nn.Module):
    """`weight`, an (n, n) matrix A with mu_{inf,w}(A) <= mu < 1 up to rounding; T and the weights w are trained.

    z = phi(A z + u) is well-posed for slopes in [0, 1]. With weighted=False all w are 1, and the gain from u to z in
    l-infinity is at most 1 / (1 - mu), for mu >= 0.
    """

    def __init__(self, size: int, mu: float = 0.5, *, weighted: bool = True) -> None:
        super().__init__()
        if not mu < 1:
            raise UsageError(f"Nemon: mu {mu}", hint="use mu < 1: beyond, the layer need not be well-posed")
        self.mu = mu
        self.matrix = nn.Parameter(torch.randn(size, size) / size)
        self.log_weights = nn.Parameter(torch.zeros(size), requires_grad=weighted)

    @property
    def weight(self) -> Tensor:
        """A."""
        ratios = (self.log_weights[:, None] - self.log_weights).exp()
        return self.matrix * ratios + torch.diag(self.mu - self.matrix.abs().sum(1))

    def extra_repr(self) -> str:
        """What torch prints of the module."""
        return f"{len(self.matrix)}, mu={self.mu}"
