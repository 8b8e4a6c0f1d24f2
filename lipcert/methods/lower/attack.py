"""Misclassified points near samples: projected gradient steps (Madry et al. 2018) on margins, with restarts.

The first start is the sample itself, the second the end of the ball towards the mean of all data; both go for whichever
class is next. The others go for one class each (Gowal et al. 2019), from the end towards its mean: where networks are
flat around their data, gradients at the sample lead nowhere. What is found certificate.robustness has to prove.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lipcert.methods.lower.torch_network import TorchNetwork
from lipcert.problem import Norm

if TYPE_CHECKING:
    import torch

WORK = 2**32
"""Multiplications of one step of all points that are moved at a time."""

FIRST, LAST = 0.5, 0.01
"""Steps, as shares of the radius."""

INSIDE = 1 - 1e-6
"""Share of the radius that points keep within, for roundings of float32."""

TINY = 1e-30


@dataclass(frozen=True)
class Effort:
    """How hard to look."""

    steps: int = 40
    restarts: int = 6


def find_attacks(
    network: TorchNetwork,
    points: np.ndarray,
    labels: np.ndarray,
    means: np.ndarray,
    eps: float,
    effort: Effort = Effort(),
    seed: int = 0,
) -> np.ndarray:
    """(K, inputs) for each sample the point of its ball at which its label's output is least above another one.

    `means` (classes + 1, inputs) of the data of each class, and of all.
    """
    step = max(1, WORK // max(1, network.problem.graph.work * effort.restarts))
    parts = [
        _attack(network, points[i : i + step], labels[i : i + step], means, eps, effort, seed)
        for i in range(0, len(points), step)
    ]
    return np.concatenate(parts) if parts else points


def _attack(
    network: TorchNetwork,
    points: np.ndarray,
    labels: np.ndarray,
    means: np.ndarray,
    eps: float,
    effort: Effort,
    seed: int,
) -> np.ndarray:
    import torch

    norm, dtype, device = network.problem.query.norm_in, network.dtype, network.device
    (count, inputs), restarts = points.shape, effort.restarts
    center = torch.as_tensor(points, dtype=dtype, device=device).repeat(restarts, 1)
    label = torch.as_tensor(labels, device=device).repeat(restarts)
    goals = _goals(network, center[:count], label[:count], restarts)
    start = torch.randn((restarts * count, inputs), generator=torch.Generator().manual_seed(seed)).to(center)
    first = len(means) * count  # later ones go for a class once more, from anywhere
    towards = torch.as_tensor(means, dtype=dtype, device=device)[goals[:first]] - center[:first]
    start[:first] = towards.sign() if norm == math.inf else towards
    start[:count] = 0.0
    offset = eps * INSIDE * _inside(start, norm)
    best, least = offset.clone(), torch.full((restarts * count,), math.inf, dtype=dtype, device=device)
    for share in (*np.geomspace(FIRST, LAST, effort.steps), 0.0):
        offset.requires_grad_()
        margin, over_goal = _margins(network(center + offset), label, goals)
        with torch.no_grad():
            better = margin < least
            best, least = torch.where(better[:, None], offset, best), torch.where(better, margin, least)
        if share == 0:
            break
        (downhill,) = torch.autograd.grad(-over_goal.sum(), [offset])
        with torch.no_grad():
            offset = _projected(offset + 2 * share * eps * _steepest(downhill, norm), eps, norm)
    winner = least.reshape(restarts, count).argmin(dim=0)
    found = best.reshape(restarts, count, inputs)[winner, torch.arange(count, device=device)]
    return points + found.detach().double().cpu().numpy()


def _goals(network: TorchNetwork, center: torch.Tensor, label: torch.Tensor, restarts: int) -> torch.Tensor:
    """(restarts * K,) the class that each start goes for; -1: any, in the first two."""
    import torch

    with torch.no_grad():
        outputs = network(center)
        outputs[torch.arange(len(label), device=label.device), label] = -math.inf
        order = outputs.argsort(dim=1, descending=True)
    classes = order.shape[1] - 1
    goals = [order[:, (k - 2) % classes] if k >= 2 else torch.full_like(label, -1) for k in range(restarts)]
    return torch.cat(goals)


def _margins(outputs: torch.Tensor, label: torch.Tensor, goals: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How far the label's output is above all others, and above that of the goal."""
    import torch

    own = outputs.gather(1, label[:, None])[:, 0]
    margin = own - outputs.scatter(1, label[:, None], -math.inf).max(dim=1).values
    chosen = own - outputs.gather(1, goals.clamp_min(0)[:, None])[:, 0]
    return margin, torch.where(goals >= 0, chosen, margin)


def _steepest(gradient: torch.Tensor, norm: Norm) -> torch.Tensor:
    """The direction of norm 1 along which a step gains most; in l1 along the largest entries."""
    import torch

    if norm == math.inf:
        return gradient.sign()
    if norm == 2:
        return gradient / torch.linalg.vector_norm(gradient, dim=1, keepdim=True).clamp_min(TINY)
    size = gradient.abs()
    chosen = torch.where(size >= size.max(dim=1, keepdim=True).values, gradient.sign(), 0.0)
    return chosen / chosen.abs().sum(dim=1, keepdim=True).clamp_min(TINY)


def _inside(v: torch.Tensor, norm: Norm) -> torch.Tensor:
    """Rows of the unit ball, from Gaussian ones."""
    import torch

    if norm == math.inf:
        return v.clamp(-1, 1)
    return v / torch.linalg.vector_norm(v, ord=norm, dim=1, keepdim=True).clamp_min(TINY)


def _projected(offset: torch.Tensor, eps: float, norm: Norm) -> torch.Tensor:
    """Into the ball, with a margin for rounding."""
    import torch

    radius = eps * INSIDE
    if norm == math.inf:
        return offset.clamp(-radius, radius)
    size = torch.linalg.vector_norm(offset, ord=norm, dim=1, keepdim=True)
    return offset * (radius / size.clamp_min(TINY)).clamp_max(1.0)
