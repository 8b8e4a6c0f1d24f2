"""Adam (Kingma and Ba 2015), in a few lines: importing torch.optim takes longer than most of these searches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

MOMENTS = 0.9, 0.999
TINY = 1e-8


class Adam:
    """Moves variables downhill, in place."""

    def __init__(self, variables: Sequence[torch.Tensor], rate: float, decay: float = 1.0) -> None:
        """`decay`: what the rate is multiplied by after each step."""
        import torch

        self.variables, self.rate, self.decay, self.steps = variables, rate, decay, 0
        self._moments = [(torch.zeros_like(v), torch.zeros_like(v)) for v in variables]

    def descend(self, loss: torch.Tensor) -> None:
        """One step along the gradient of a number."""
        import torch

        gradients = torch.autograd.grad(loss, self.variables, allow_unused=True)
        self.steps += 1
        with torch.no_grad():
            for variable, gradient, (first, second) in zip(self.variables, gradients, self._moments, strict=True):
                if gradient is not None:
                    first.lerp_(gradient, 1 - MOMENTS[0])
                    second.mul_(MOMENTS[1]).addcmul_(gradient, gradient, value=1 - MOMENTS[1])
                    size = (second / (1 - MOMENTS[1] ** self.steps)).sqrt_().add_(TINY)
                    variable.sub_(self.rate / (1 - MOMENTS[0] ** self.steps) * first / size)
        self.rate *= self.decay
