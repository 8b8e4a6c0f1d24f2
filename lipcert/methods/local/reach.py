"""Branch and bound for the values of the outputs: the box is cut down to what is attained in it."""

from __future__ import annotations

import time

import numpy as np

from lipcert.certificate.claim import Tree
from lipcert.certificate.planes import pick
from lipcert.graph import Elementwise
from lipcert.methods.base import Progress
from lipcert.methods.boxes import ChosenNet
from lipcert.methods.device import choose_device
from lipcert.methods.local.branch import Bounded, Search, tree_of
from lipcert.methods.local.scalings import WHOLE
from lipcert.methods.lower.search import project
from lipcert.methods.propagation import PieceBounds
from lipcert.problem import Problem


class Attained:
    """For each output the lowest and highest value that was seen, and where."""

    def __init__(self, problem: Problem) -> None:
        m, n = problem.size_out, problem.size_in
        self.problem = problem
        self.low, self.high = np.full(m, np.inf), np.full(m, -np.inf)
        self.lowest, self.highest = np.zeros((m, n)), np.zeros((m, n))

    def look(self, points: np.ndarray) -> None:
        """Remember the most extreme of these points of the region."""
        points = project(self.problem.query.region, points)
        values = self.problem.values(points)[self.problem.y]
        for j in range(values.shape[1]):
            low, high = int(values[:, j].argmin()), int(values[:, j].argmax())
            if values[low, j] < self.low[j]:
                self.low[j], self.lowest[j] = values[low, j], points[low]
            if values[high, j] > self.high[j]:
                self.high[j], self.highest[j] = values[high, j], points[high]

    @property
    def width(self) -> np.ndarray:
        """Of what was seen, at least the rounding of it."""
        size = np.maximum(np.abs(self.low), np.abs(self.high))
        return np.asarray(np.maximum(self.high - self.low, 1e-9 * size + 1e-300))


class ReachSearch(Search):
    """The worst piece is the one whose box reaches farthest beyond what is attained, over its width."""

    def __init__(self, problem: Problem, chosen: ChosenNet, attained: Attained, progress: Progress) -> None:
        self.attained = attained
        groups = tuple((j,) for j in range(problem.size_out))
        bounds = PieceBounds(problem, chosen.net, choose_device(progress.device), progress.arithmetic)
        super().__init__(bounds, groups, 1, (), attained.look)

    def _measure(self, bounded: Bounded, groups: np.ndarray) -> np.ndarray:
        low, high = bounded.net.boxes[self.posed.y]
        pieces = np.arange(len(groups))
        above = pick(high, pieces)[pieces % len(pick(high, pieces)), groups] - self.attained.high[groups]
        below = self.attained.low[groups] - pick(low, pieces)[pieces % len(pick(low, pieces)), groups]
        return np.asarray(np.maximum(above, below) / self.attained.width[groups])

    def _goes_on_with_inputs(self, still: int) -> bool:
        return True  # cuts of neurons do not bound the outputs

    def _scores(self, bounded: Bounded) -> dict[int, np.ndarray]:
        """How far apart the lines of an open neuron are, times what it has to do with the output."""
        found = super()._scores(bounded)
        for node in self.posed.graph.nodes:
            if isinstance(node, Elementwise) and node.input in found:
                low, high = bounded.net.boxes[node.input]
                with np.errstate(all="ignore"):
                    apart = np.nan_to_num(np.maximum(-low, 0) * np.maximum(high, 0) / (high - low))
                moves = self.moves.get(node.input, np.ones(1))
                relu = found[node.input] / np.where(moves > 0, moves, 1.0) * apart
                found[node.input] = np.where(apart > 0, relu, found[node.input] * 1e-9)
        return found


def branched_trees(problem: Problem, chosen: ChosenNet, attained: Attained, progress: Progress) -> tuple[Tree, ...]:
    """A tree for each output, until boxes are as tight as progress.gap or there is just time for the proof."""
    search = ReachSearch(problem, chosen, attained, progress)
    if search.rule.gradient is None:
        return ()
    began = time.monotonic()
    search.start()
    while progress.remaining() > 2.5 * search.proof_seconds + 0.05 * (time.monotonic() - began):
        if not search.step((progress.gap - 1) / 2):
            break
    bounds = zip(search.roots, search.bounds_of_groups(), strict=True)
    return tuple(WHOLE if root.halves is None else tree_of(root, bound) for root, bound in bounds)
