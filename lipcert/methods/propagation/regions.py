"""Regions of one kind, side by side on a device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lipcert.problem import Ball, Box, Norm, dual

if TYPE_CHECKING:
    import torch

    Tensor = torch.Tensor
    Bounds = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Balls:
    """Centers (B, n), radii (B, 1), and the norm that they share."""

    centers: Tensor
    eps: Tensor
    norm: Norm


@dataclass(frozen=True, eq=False)
class Regions:
    """The boxes (B, n) of regions, and which balls they are around."""

    low: Tensor
    high: Tensor
    balls: Balls | None = None

    def __len__(self) -> int:
        return len(self.low)

    def of(self, cases: Tensor) -> Regions:
        """Those of other cases; one that all share stays."""
        if len(self) == 1:
            return self
        balls = self.balls
        if balls is not None:
            balls = Balls(balls.centers[cases], balls.eps[cases], balls.norm)
        return Regions(self.low[cases], self.high[cases], balls)

    def most(self, coefficients: Tensor, box: Bounds, case: Tensor) -> Tensor:
        """(K,) the largest coefficients . x over the cases, each in its region and in its box; rows (K, n)."""
        import torch

        low, high = (pick(side, case) for side in box)
        best: Tensor = (torch.where(coefficients > 0, high, low) * coefficients).sum(dim=1)
        if self.balls is None:
            return best
        around = torch.linalg.vector_norm(coefficients, ord=dual(self.balls.norm), dim=1)
        reach = pick(self.balls.eps, case)[:, 0] * around
        return torch.minimum(best, (pick(self.balls.centers, case) * coefficients).sum(dim=1) + reach)


def pick(v: Tensor, case: Tensor) -> Tensor:
    """The rows of the cases; one row where all cases share it."""
    return v if len(v) == 1 else v[case]


def regions_on(regions: Sequence[Ball | Box], device: torch.device, dtype: torch.dtype) -> Regions:
    """Boxes, or balls in one norm."""
    import torch

    def tensor(rows: Sequence[np.ndarray | list[float]]) -> Tensor:
        return torch.tensor(np.array(rows), dtype=dtype, device=device)

    bounds = [region.bounds((region.center if isinstance(region, Ball) else region.lower).size) for region in regions]
    balls = None
    known = [region for region in regions if isinstance(region, Ball)]
    if known:
        if len(known) < len(regions) or len({ball.norm for ball in known}) > 1:
            raise ValueError("regions of several kinds")
        balls = Balls(tensor([b.center for b in known]), tensor([[b.eps] for b in known]), known[0].norm)
    return Regions(tensor([low for low, _ in bounds]), tensor([high for _, high in bounds]), balls)
