"""Points of the region at which an output is low, or high: projected gradient steps from several starts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lipcert.activations.templated import TemplatedGroups
from lipcert.graph import Groupwise
from lipcert.methods.base import Progress
from lipcert.methods.boxes import is_implicit
from lipcert.methods.lower.directions import Jacobian, outputs_at
from lipcert.methods.lower.search import half_widths, project, region_center
from lipcert.problem import Ball, Box, Problem

STARTS = 8
STEPS = 25
SHARE = 0.2
"""Of the time that is left."""


def find_extremes(problem: Problem, progress: Progress, seed: int = 0) -> tuple[np.ndarray, np.ndarray] | None:
    """For each output the lowest and the highest point found, each (outputs, inputs); None where nothing can be run."""
    region = problem.query.region
    unknown = [n for n in problem.graph.nodes if isinstance(n, Groupwise) and isinstance(n.function, TemplatedGroups)]
    lost = is_implicit(problem) and not problem.equilibria
    if unknown or lost or not isinstance(region, Ball | Box):
        return None
    stop = progress.remaining() * (1 - SHARE)
    random = np.random.default_rng(seed)
    widths, m = half_widths(region, problem.size_in), problem.size_out
    signs = np.repeat([-1.0, 1.0], m)
    goals = signs[:, None] * np.tile(np.eye(m), (2, 1))
    center = region_center(region)
    best = np.tile(center, (2 * m, 1))
    value = np.full(2 * m, -np.inf)
    for start in range(STARTS):
        points = best.copy()
        if start:
            points = project(region, center + random.uniform(-1, 1, points.shape) * widths)
        points, found = climb(
            problem, points, goals, np.geomspace(1.0, 0.02, STEPS), lambda: progress.remaining() > stop
        )
        better = found > value
        best[better], value[better] = points[better], found[better]
        if progress.remaining() < stop:
            return best[:m], best[m:]
    inside = np.array([region.contains(point) for point in best])
    best[~inside] = center
    return best[:m], best[m:]


def climb(
    problem: Problem,
    points: np.ndarray,
    goals: np.ndarray,
    steps: np.ndarray,
    goes_on: Callable[[], bool] = lambda: True,
) -> tuple[np.ndarray, np.ndarray]:
    """The best points on the way uphill from each, and the outputs there times rows of goals; steps are in widths."""
    region = problem.query.region
    assert isinstance(region, Ball | Box)
    widths = half_widths(region, problem.size_in)
    best, value = points.copy(), np.full(len(points), -np.inf)
    for step in (*steps, 0.0):
        found = (outputs_at(problem, points) * goals).sum(axis=1)
        better = found > value
        best[better], value[better] = points[better], found[better]
        if step == 0 or not goes_on():
            break
        uphill = Jacobian(problem, points).backward(goals)
        points = project(region, points + 2 * step * widths * _direction(region, uphill))
    return best, value


def _direction(region: Ball | Box, uphill: np.ndarray) -> np.ndarray:
    """The steepest direction of the region's norm: one entry in l1, the gradient in l2, its signs in boxes."""
    norm = region.norm if isinstance(region, Ball) else np.inf
    if norm == np.inf:
        return np.sign(uphill)
    if norm == 2:
        return uphill / np.maximum(np.linalg.norm(uphill, axis=1, keepdims=True), 1e-300)
    largest = np.abs(uphill).argmax(axis=1)[:, None]
    return np.where(np.arange(uphill.shape[1]) == largest, np.sign(uphill), 0.0)
