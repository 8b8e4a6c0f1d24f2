"""Does a piece hold an input? Its cuts as planes in x, and the input farthest inside, or multipliers that show none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.linear_bounds import Bounded
from lipcert.certificate.pieces import Cut
from lipcert.certificate.planes import pick, upper_bounds
from lipcert.problem import Ball, Problem, dual

MARGIN = 1e-9
"""Relative, by which a piece has to be empty: the kernel has to see it."""

STEPS = 300


@dataclass(frozen=True, eq=False)
class Planes:
    """slopes x + offsets is at least 0 at every input of the piece: (K, n), (K,)."""

    slopes: np.ndarray
    offsets: np.ndarray


def cut_planes(problem: Problem, bounded: Bounded, cuts: list[tuple[Cut, ...]], by: Arithmetic) -> list[Planes]:
    """For each piece those of its cuts, by linear bounds."""
    net, n = bounded.net, problem.size_in
    case = np.array([b for b, path in enumerate(cuts) for _ in path], dtype=int)
    every = [cut for path in cuts for cut in path]
    slopes = np.zeros((len(every), n))

    def catch(position: int, coefficients: np.ndarray) -> None:
        if position == net.x:
            slopes[rows] = coefficients

    offsets = np.zeros(len(every))
    nodes = np.array([cut.node for cut in every], dtype=int)
    for node in np.unique(nodes):
        rows = np.flatnonzero(nodes == node)
        sign = np.array([-1.0 if every[k].below else 1.0 for k in rows])
        start = np.zeros((len(rows), net.boxes[node][0].shape[-1]))
        start[np.arange(len(rows)), [every[k].entry for k in rows]] = sign
        found = upper_bounds(net, {int(node): start}, case[rows], by, trace=catch)
        low, high = (pick(side, case[rows]) for side in net.boxes[net.x])
        most = np.maximum(slopes[rows] * low, slopes[rows] * high).sum(axis=1)
        if net.ball is not None:
            around = np.linalg.norm(slopes[rows], ord=dual(net.ball.norm), axis=1) * net.ball.eps
            most = np.minimum(most, slopes[rows] @ net.ball.center + around)
        offsets[rows] = found - most - sign * np.array([every[k].at for k in rows])
    return [Planes(slopes[case == b], offsets[case == b]) for b in range(len(cuts))]


def deepest(
    problem: Problem, planes: Planes, box: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, float]:
    """(x, multipliers, depth): the input that is farthest inside all planes, each in its own measure.

    Multipliers are those of the planes as they are; where the depth is negative they show that there is no input.
    """
    region, k = problem.query.region, len(planes.offsets)
    known = np.flatnonzero(np.isfinite(planes.offsets) & np.all(np.isfinite(planes.slopes), axis=1))
    if len(known) < k:  # of the others nothing is known
        weights = np.zeros(k)
        if not known.size:
            return box[0], weights, np.inf
        x, weights[known], depth = deepest(problem, Planes(planes.slopes[known], planes.offsets[known]), box)
        return x, weights, depth
    size = np.maximum(np.abs(planes.slopes).sum(axis=1), 1e-300)
    slopes, offsets = planes.slopes / size[:, None], planes.offsets / size
    if isinstance(region, Ball) and region.norm != np.inf:
        x, weights, depth = _in_ball(slopes, offsets, region)
    else:
        x, weights, depth = _in_box(slopes, offsets, box)
    return x, weights / size, depth


def _in_box(
    slopes: np.ndarray, offsets: np.ndarray, box: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, float]:
    """max t: slopes x + offsets >= t, by HiGHS."""
    from scipy.optimize import linprog

    k, n = slopes.shape
    cost = np.append(np.zeros(n), -1.0)
    constraint = np.concatenate([-slopes, np.ones((k, 1))], axis=1)
    bounds = np.append(np.stack(box, axis=1), [[-np.inf, np.inf]], axis=0)
    found = linprog(cost, A_ub=constraint, b_ub=offsets, bounds=bounds, method="highs")
    if found.status != 0:
        return box[0], np.zeros(k), np.inf
    weights = np.maximum(-found.ineqlin.marginals, 0.0)
    return np.clip(found.x[:n], *box), weights, float(found.x[n])


def _in_ball(slopes: np.ndarray, offsets: np.ndarray, ball: Ball) -> tuple[np.ndarray, np.ndarray, float]:
    """The least over weights b of b (slopes c + offsets) + eps |slopes' b|: mirror descent, then its best weights."""
    at, gram = slopes @ ball.center + offsets, slopes @ slopes.T
    k = len(offsets)
    weights = np.full(k, 1.0 / k)
    best, depth = weights, np.inf
    other = dual(ball.norm)
    for step in range(STEPS):
        normal = slopes.T @ weights
        length = float(np.linalg.norm(normal, ord=other))
        value = float(weights @ at) + ball.eps * length
        if value < depth:
            best, depth = weights, value
        if depth < -1e-6:
            break
        gradient = at + ball.eps * (
            gram @ weights / max(length, 1e-300) if other == 2 else slopes @ _steepest(normal, other)
        )
        scale = float(np.ptp(gradient))
        if scale == 0:
            break
        weights = weights * np.exp(-(gradient - gradient.min()) / scale * 4.0 / np.sqrt(step + 1))
        weights = weights / weights.sum()
    return ball.center + ball.eps * (1 - 1e-9) * _steepest(slopes.T @ best, other), best, depth


def _steepest(normal: np.ndarray, other: float) -> np.ndarray:
    """d with |d| = 1 that maximises normal . d; `other` is the dual norm, the maximum."""
    if other == 2:
        return normal / max(float(np.linalg.norm(normal)), 1e-300)
    unit = np.zeros_like(normal)
    largest = int(np.argmax(np.abs(normal)))
    unit[largest] = np.sign(normal[largest])
    return unit
