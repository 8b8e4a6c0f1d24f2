"""An implicit layer and its linear maps with a prescribed l2 Lipschitz bound.

Revay, Wang, Manchester, "Lipschitz Bounded Equilibrium Networks" (arXiv:2010.01732): y = G z + c with
z = phi(A z + B x + b) has the constant gamma if, with P = diag(exp(psi)),
A = I - P (G' G / (2 gamma) + P^-1 B B' P^-1 / (2 gamma) + V' V + m I + S' - S).
The LMI of LipSDP then holds with the multipliers gamma P^-1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lipcert.errors import UsageError


class LBEN(nn.Module):
    """`weight`, the (n, n) matrix A that goes with `input_weight` B (n, inputs) and `output_weight` G (outputs, n).

    The network y = G z + c, z = phi(A z + B x + b) is well-posed, and its l2 Lipschitz constant is at most gamma, up to
    rounding, for slopes in [0, 1].

        >>> core = LBEN(64, 40, 10, gamma=2.0)
        >>> implicit = FixedPoint(core, nn.ReLU(), solver="anderson")
        >>> z = implicit(nn.functional.linear(x, core.input_weight))
        >>> y = nn.functional.linear(z, core.output_weight)
    """

    def __init__(self, inputs: int, states: int, outputs: int, gamma: float, margin: float = 1.0) -> None:
        super().__init__()
        if not gamma > 0 or not margin > 0:
            raise UsageError(f"LBEN: gamma {gamma}, margin {margin}", hint="use positive numbers")
        self.gamma = gamma
        self.margin = margin
        scale = min(1.0, gamma) ** 0.5
        self.input_weight = nn.Parameter(scale * torch.randn(states, inputs) / inputs**0.5)
        self.output_weight = nn.Parameter(scale * torch.randn(outputs, states) / states**0.5)
        self.factor = nn.Parameter(torch.randn(states, states) / (2 * states**0.5))
        self.skew = nn.Parameter(torch.randn(states, states) / (2 * states**0.5))
        self.log_scales = nn.Parameter(torch.zeros(states))

    @property
    def weight(self) -> Tensor:
        """A."""
        scales = self.log_scales.exp()
        inward = self.input_weight / scales[:, None]
        identity = torch.eye(len(scales), dtype=scales.dtype, device=scales.device)
        monotone = (self.output_weight.T @ self.output_weight + inward @ inward.T) / (2 * self.gamma)
        monotone = monotone + self.factor.T @ self.factor + self.margin * identity + self.skew.T - self.skew
        return identity - scales[:, None] * monotone

    def extra_repr(self) -> str:
        """What torch prints of the module."""
        outputs, states = self.output_weight.shape
        return f"{self.input_weight.shape[1]}, {states}, {outputs}, gamma={self.gamma}, margin={self.margin}"
