"""Fixed points of z -> f(z), for batches of states: the averaged iteration, and Anderson acceleration of it.

Walker and Ni, "Anderson Acceleration for Fixed-Point Iterations" (SIAM J. Numer. Anal. 2011), type II, each row of the
batch by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

PATIENCE = 100
"""Iterations without a smaller residual after which a step is given up as too long."""

LARGEST = 1e12
HISTORY = 5
RIDGE = 1e-10

Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Solution:
    """The state with the smallest residual, max |f(z) - z| / (1 + max |z|)."""

    state: Tensor
    residual: float
    iterations: int


def averaged(f: Map, start: Tensor, step: float, tolerance: float, iterations: int) -> Solution:
    """z <- z + step (f(z) - z), from `start`, until the residual is within `tolerance`, stalls or explodes."""
    return _iterated(f, start, lambda state, difference: state + step * difference, tolerance, iterations)


def anderson(f: Map, start: Tensor, step: float, tolerance: float, iterations: int) -> Solution:
    """The averaged iteration, accelerated; `start` has the shape (batch, n). It may fail where `averaged` does not."""
    states: list[Tensor] = []
    differences: list[Tensor] = []

    def move(state: Tensor, difference: Tensor) -> Tensor:
        states[:], differences[:] = [*states[-HISTORY:], state], [*differences[-HISTORY:], difference]
        return _mixed(torch.stack(states, 1), torch.stack(differences, 1), step)

    return _iterated(f, start, move, tolerance, iterations)


def _iterated(
    f: Map, start: Tensor, move: Callable[[Tensor, Tensor], Tensor], tolerance: float, iterations: int
) -> Solution:
    state, best = start, Solution(start, float("inf"), 0)
    for count in range(1, iterations + 1):
        difference = f(state) - state
        residual = _residual(difference, state)
        if residual < best.residual:
            best = Solution(state, residual, count)
        if best.residual <= tolerance or not residual < LARGEST or count - best.iterations >= PATIENCE:
            break
        state = move(state, difference)
    return best


def _mixed(states: Tensor, differences: Tensor, step: float) -> Tensor:
    """sum_k c_k (z_k + step d_k), c of sum 1 such that |sum_k c_k d_k| is least; shapes (batch, history, n)."""
    gram = differences @ differences.mT
    size = torch.diagonal(gram, dim1=1, dim2=2).amax(1).clamp_min(torch.finfo(gram.dtype).tiny)
    ridge = max(RIDGE, float(torch.finfo(gram.dtype).eps))
    matrix = gram / size[:, None, None] + ridge * torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    weights = torch.linalg.solve(matrix, torch.ones_like(gram[:, :, 0]))
    weights = weights / weights.sum(1, keepdim=True)
    return (weights[:, :, None] * (states + step * differences)).sum(1)


def _residual(difference: Tensor, state: Tensor) -> float:
    if not difference.numel():
        return 0.0
    return float(difference.abs().max() / (1 + state.abs().max()))
