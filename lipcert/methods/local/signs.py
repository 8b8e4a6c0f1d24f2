"""Branch and bound for signs of partial derivatives: pieces on which a sign is open are cut on."""

from __future__ import annotations

import time

import numpy as np

from lipcert.certificate.claim import MonotoneClaim, Slope
from lipcert.certificate.derivative import PLANES
from lipcert.certificate.linear_bounds import whole_net
from lipcert.certificate.planes import Net
from lipcert.methods.base import Progress
from lipcert.methods.boxes import ChosenNet, choose_net, in_pairs
from lipcert.methods.device import choose_device
from lipcert.methods.local.branch import FEW_INPUTS, Bounded, Search, tree_of
from lipcert.methods.lower.directions import Jacobian
from lipcert.methods.lower.search import half_widths, project, region_center
from lipcert.methods.propagation import PieceBounds
from lipcert.problem import Ball, Box, Problem

STEPS = 3
SAMPLES = 256
LEAST_SHARE = 1e-5
"""Of the region: pieces are not made smaller where inputs are cut."""


class WorstSlopes:
    """The derivative farthest on the wrong side that was seen."""

    def __init__(self, problem: Problem, inputs: tuple[int, ...], increasing: bool) -> None:
        self.problem, self.inputs, self.sign = problem, list(inputs), 1.0 if increasing else -1.0
        self.value = np.inf
        self.slope: Slope | None = None

    def look(self, points: np.ndarray) -> None:
        """Remember the worst of these points of the region."""
        points = project(self.problem.query.region, points)
        jacobian = Jacobian(self.problem, points)
        for j, row in enumerate(np.eye(self.problem.size_out)):
            found = self.sign * jacobian.backward(np.tile(row, (len(points), 1)))[:, self.inputs]
            at, i = np.unravel_index(int(found.argmin()), found.shape)
            if found[at, i] < self.value:
                self.value, self.slope = float(found[at, i]), Slope(j, self.inputs[int(i)], points[at])


class SignSearch(Search):
    """Pieces on which a sign is open: the largest first where inputs are cut, else the one that is farthest off."""

    def __init__(self, problem: Problem, whole: Net, worst: WorstSlopes, tolerance: float, progress: Progress) -> None:
        self.worst, self.tolerance = worst, tolerance
        every = tuple(range(problem.size_out))
        bounds = PieceBounds(problem, whole, choose_device(progress.device), progress.arithmetic)
        steps = STEPS + (PLANES if bounds.rule.bends else 0)
        super().__init__(bounds, (every,), steps, (), worst.look)

    def _measure(self, bounded: Bounded, groups: np.ndarray) -> np.ndarray:
        low, high = (side[:, :, self.worst.inputs] for side in bounded.rows.entries())
        least, most = (low, high) if self.worst.sign > 0 else (-high, -low)
        holds, fails = np.all(least >= -self.tolerance, axis=(1, 2)), np.any(most < -self.tolerance, axis=(1, 2))
        size = self._shares(bounded.net, len(groups)) if self.problem.size_in <= FEW_INPUTS else -least.min(axis=(1, 2))
        return np.where(holds | fails, 0.0, size)

    def _shares(self, net: Net, pieces: int) -> np.ndarray:
        """Of the region's box that the pieces have."""
        (low, high), (first, last) = self.problem.query.region.bounds(self.problem.size_in), net.boxes[self.posed.x]
        parts = np.where(high > low, (last - first) / np.where(high > low, high - low, 1.0), 1.0)
        return np.broadcast_to(parts.prod(axis=1), pieces)

    def _goes_on_with_inputs(self, still: int) -> bool:
        return True


def branched_signs(
    problem: Problem, inputs: tuple[int, ...], increasing: bool, tolerance: float, progress: Progress
) -> tuple[MonotoneClaim, Slope | None]:
    """A claim whose share is still to be proven, and the worst derivative that was seen."""
    by, region = progress.arithmetic, problem.query.region
    other = in_pairs(problem, by)  # bounds on |J| say nothing of signs
    problem = other or problem
    few = problem.size_in <= FEW_INPUTS  # small pieces need no search for slopes
    chosen = ChosenNet(whole_net(problem, by), ()) if few else choose_net(problem, progress)
    worst = WorstSlopes(problem, inputs, increasing)
    assert isinstance(region, Ball | Box)
    random = np.random.default_rng(0).uniform(-1, 1, (SAMPLES, problem.size_in))
    worst.look(region_center(region) + random * half_widths(region, problem.size_in))
    search = SignSearch(problem, chosen.net, worst, tolerance, progress)
    if search.rule.gradient is not None:
        search.start()
        began = time.monotonic()
        while progress.remaining() > 2.5 * search.proof_seconds + 0.05 * (time.monotonic() - began):
            if not few and worst.value < -tolerance:
                break  # no share is counted there, and it fails somewhere
            if not search.step(LEAST_SHARE if few else tolerance):
                break
    return MonotoneClaim(
        inputs,
        increasing,
        tolerance,
        0.0,
        search.steps,
        tree_of(search.roots[0]),
        chosen.slopes,
        pairs=other is not None,
    ), worst.slope
