"""Does a piece hold an input? Its cuts as planes in x, and the input farthest inside, or multipliers that show none."""

from __future__ import annotations

import numpy as np

from lipcert.methods.propagation import Planes
from lipcert.problem import Ball, Problem, dual

STEPS = 300


def deepest(
    problem: Problem, planes: Planes, box: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, float]:
    """(x, multipliers, depth): the input that is farthest inside all planes, each in its own measure.

    Multipliers are those of the planes as they are; where the depth is negative they show that there is no input.
    """
    region = problem.query.region
    with np.errstate(over="ignore", invalid="ignore"):
        size = np.maximum(np.abs(planes.slopes).sum(axis=1), 1e-300)
        slopes, offsets = planes.slopes / size[:, None], planes.offsets / size
    known = np.isfinite(offsets) & np.all(np.isfinite(slopes), axis=1)  # of the others nothing is known
    multipliers = np.zeros(len(size))
    if not known.any():
        return box[0], multipliers, np.inf
    slopes, offsets = slopes[known], offsets[known]
    if isinstance(region, Ball) and region.norm != np.inf:
        x, weights, depth = _in_ball(slopes, offsets, region)
    else:
        x, weights, depth = _in_box(slopes, offsets, box)
    multipliers[known] = weights / size[known]
    return x, multipliers, depth


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
