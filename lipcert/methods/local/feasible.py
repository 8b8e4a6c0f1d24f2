"""Does a piece hold an input? Its cuts as planes in x, and an input inside them, or multipliers that show the contrary.

A game, for many pieces at a time: one player moves x inside the planes, the other one puts weight on those that x is
behind (optimistic mirror descent; Rakhlin and Sridharan, NeurIPS 2013). What it leaves open is a linear program, which
balls in l1 are from the start; in l2 the center stands for what stays open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lipcert.methods.propagation import Planes
from lipcert.problem import Ball, Problem, dual

if TYPE_CHECKING:
    import torch

    Tensor = torch.Tensor

LOOKS = (8, 24, 72, 160)
"""Steps of the game after which it is seen who has won."""

CLEAR = 1e-5
"""How far behind its planes, on the scale of what they say over the region, a piece is to be empty."""


@dataclass(frozen=True, eq=False)
class Found:
    """An input of the piece, as far as its planes tell, or None and the multipliers of the planes."""

    x: np.ndarray | None
    multipliers: np.ndarray


@dataclass(frozen=True, eq=False)
class _Game:
    """Planes that matter, in u where x = center + reach u: rows u + offsets >= 0, each row at most 1 in size there."""

    center: np.ndarray
    reach: np.ndarray
    rows: np.ndarray
    offsets: np.ndarray
    kept: np.ndarray
    """Which of the planes these are ..."""

    sizes: np.ndarray
    """... and what they were divided by."""

    count: int

    def inside(self, u: np.ndarray) -> Found:
        return Found(self.center + self.reach * u, np.zeros(self.count))

    def empty(self, weights: np.ndarray) -> Found:
        multipliers = np.zeros(self.count)
        multipliers[self.kept] = weights / self.sizes
        return Found(None, multipliers)


def decide(
    problem: Problem, planes: Sequence[Planes], box: tuple[np.ndarray, np.ndarray], device: torch.device
) -> list[Found]:
    """For each piece what is found; `box` (pieces or 1, n) has the inputs of the pieces."""
    region = problem.query.region
    norm = region.norm if isinstance(region, Ball) else np.inf
    games = [_game(problem, some, tuple(side[b % len(side)] for side in box)) for b, some in enumerate(planes)]
    found: dict[int, Found] = {}
    waiting = []
    for b, game in enumerate(games):
        behind = np.flatnonzero(game.offsets < -1 - CLEAR)
        if behind.size:
            found[b] = game.empty(np.eye(len(game.offsets))[behind[0]])
        elif np.all(game.offsets >= 0):
            found[b] = game.inside(np.zeros_like(game.center))
        else:
            waiting.append(b)
    if norm != 1:
        for b, result in _play([games[b] for b in waiting], norm, device).items():
            found[waiting[b]] = result
    for b in waiting:
        if b not in found:
            found[b] = games[b].inside(np.zeros_like(games[b].center)) if norm == 2 else _program(games[b], norm)
    return [found[b] for b in range(len(games))]


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def _game(problem: Problem, planes: Planes, box: tuple[np.ndarray, ...]) -> _Game:
    """Without planes that all inputs are inside of, and those of which nothing is known."""
    region = problem.query.region
    if isinstance(region, Ball) and region.norm != np.inf:
        center, reach = region.center, np.full_like(region.center, region.eps)
        norm = dual(region.norm)
    else:
        center, reach, norm = box[0] / 2 + box[1] / 2, box[1] / 2 - box[0] / 2, 1.0
    rows, offsets = planes.slopes * reach, planes.slopes @ center + planes.offsets
    size = np.maximum(np.linalg.norm(rows, ord=norm, axis=1), 1e-200)
    rows, offsets = rows / size[:, None], offsets / size
    kept = np.flatnonzero(np.all(np.isfinite(rows), axis=1) & (offsets < 1))
    return _Game(center, reach, rows[kept], offsets[kept], kept, size[kept], len(size))


def _play(games: Sequence[_Game], norm: float, device: torch.device) -> dict[int, Found]:
    """Those that are decided."""
    import torch

    if not games:
        return {}
    most, n = max(len(game.offsets) for game in games), len(games[0].center)
    rows = np.zeros((len(games), most, n), dtype=np.float32)
    offsets = np.full((len(games), most), 2.0, dtype=np.float32)  # of planes that are not there
    for b, game in enumerate(games):
        rows[b, : len(game.offsets)], offsets[b, : len(game.offsets)] = game.rows, np.maximum(game.offsets, -2)
    a, o = torch.as_tensor(rows, device=device), torch.as_tensor(offsets, device=device)
    # step sizes for the entropy of weights, and for the distance in u, whose set has this size
    size, entropy = (n if norm == np.inf else 1.0), max(1.0, np.log(most))
    steep = float(torch.linalg.vector_norm(a, dim=2).max())
    step_u, step_w = (size / entropy) ** 0.5 / (2 * steep), (entropy / size) ** 0.5 / (2 * steep)
    u = torch.zeros(len(games), n, device=device)
    scores = torch.zeros(len(games), most, device=device)  # weights are their softmax
    sums = torch.zeros_like(u), torch.zeros_like(scores)
    last: tuple[Tensor, Tensor] | None = None
    found: dict[int, Found] = {}
    for step in range(1, LOOKS[-1] + 1):
        weights = torch.softmax(scores, dim=1)
        pull, behind = (weights[:, None] @ a)[:, 0], (a @ u[:, :, None])[:, :, 0] + o
        before = (pull, behind) if last is None else last
        u = _nearest(u + step_u * (2 * pull - before[0]), norm)
        scores = scores - step_w * (2 * behind - before[1])
        last = pull, behind
        sums[0].add_(u)
        sums[1].add_(weights)
        if step in LOOKS:
            for u_now, w_now in ((sums[0] / step, sums[1] / step), (u, weights)):
                inside = ((a @ u_now[:, :, None])[:, :, 0] + o).amin(dim=1) >= 0
                pulls = (w_now[:, None] @ a)[:, 0]
                value = (w_now * o).sum(dim=1) + torch.linalg.vector_norm(pulls, ord=dual(norm), dim=1)
                for b in torch.nonzero(inside | (value < -CLEAR))[:, 0].tolist():
                    if b not in found:
                        k = len(games[b].offsets)
                        x, w = u_now[b].double().cpu().numpy(), w_now[b, :k].double().cpu().numpy()
                        found[b] = games[b].inside(x) if inside[b] else games[b].empty(w)
            if len(found) == len(games):
                break
    return found


def _nearest(u: Tensor, norm: float) -> Tensor:
    """In the unit ball of l-infinity or l2."""
    import torch

    if norm == np.inf:
        return u.clamp(-1, 1)
    return u / torch.linalg.vector_norm(u, dim=1, keepdim=True).clamp(min=1)


def farthest(planes: Planes, uphill: np.ndarray, box: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """The input in a box and inside planes that is farthest uphill, by HiGHS; the center where there is none."""
    from scipy.optimize import linprog

    center, reach = box[0] / 2 + box[1] / 2, box[1] / 2 - box[0] / 2
    rows, offsets = planes.slopes * reach, planes.slopes @ center + planes.offsets
    size = np.maximum(np.abs(rows).sum(axis=1), 1e-200)
    cost = -uphill * reach / max(float(np.abs(uphill * reach).max(initial=0.0)), 1e-200)
    found = linprog(cost, A_ub=-rows / size[:, None], b_ub=offsets / size, bounds=(-1.0, 1.0), method="highs")
    return np.asarray(center if found.status != 0 else center + reach * np.clip(found.x, -1, 1))


def _program(game: _Game, norm: float) -> Found:
    """max t: rows u + offsets >= t over the unit ball of l-infinity or l1, by HiGHS; u is a difference in l1."""
    from scipy.optimize import linprog

    k, n = game.rows.shape
    if norm == np.inf:
        parts, bounds = game.rows, [(-1.0, 1.0)] * n
    else:
        parts, bounds = np.concatenate([game.rows, -game.rows], axis=1), [(0.0, 1.0)] * (2 * n)
    constraint, limit = np.concatenate([-parts, np.ones((k, 1))], axis=1), game.offsets
    if norm == 1:
        constraint, limit = np.concatenate([constraint, [[*np.ones(2 * n), 0.0]]]), np.append(limit, 1.0)
    cost = np.append(np.zeros(len(bounds)), -1.0)
    found = linprog(cost, A_ub=constraint, b_ub=limit, bounds=[*bounds, (None, None)], method="highs")
    if found.status != 0:
        return game.inside(np.zeros(n))
    if found.x[-1] < 0:
        return game.empty(np.maximum(-found.ineqlin.marginals[:k], 0.0))
    return game.inside(np.clip(found.x[:n] - (found.x[n:-1] if norm == 1 else 0.0), -1, 1))
