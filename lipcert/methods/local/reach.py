"""Branch and bound for the values of the outputs: the box is cut down to what is attained in it."""

from __future__ import annotations

import heapq
import math
import time

import numpy as np

from lipcert.certificate.claim import Tree
from lipcert.certificate.linear_bounds import Bounded as PieceBoxes
from lipcert.certificate.linear_bounds import in_ramps, piece_nets
from lipcert.certificate.pieces import ends, weighted
from lipcert.certificate.planes import Net, pick
from lipcert.graph import Elementwise
from lipcert.methods import propagation
from lipcert.methods.base import Progress
from lipcert.methods.boxes import ChosenNet
from lipcert.methods.device import choose_device
from lipcert.methods.local.branch import FEW_INPUTS, TIMED, Bounded, Node, Search, tree_of
from lipcert.methods.local.feasible import farthest
from lipcert.methods.local.inputs import BATCH, InputSearch
from lipcert.methods.lower.directions import outputs_at
from lipcert.methods.lower.extremes import climb
from lipcert.methods.lower.search import project
from lipcert.methods.propagation import PieceBounds, Sides, as_arrays, distance, some_cases
from lipcert.problem import Ball, Problem

LAST_ITERATIONS = 100
"""For multipliers of pieces that cannot be cut any more."""

CLIMBERS = 16
"""Points of a batch from which it is tried ..."""

CLIMBS = 8
"""... in so many steps to attain more."""


SURE = 1e-4
"""Share of a margin that is to be left, for what the kernel rounds."""


class Attained:
    """For each output the lowest and highest value that was seen, and where."""

    def __init__(self, problem: Problem) -> None:
        m, n = problem.size_out, problem.size_in
        self.problem = problem
        self.low, self.high = np.full(m, np.inf), np.full(m, -np.inf)
        self.better = 0
        """How often more was seen."""
        self.lowest, self.highest = np.zeros((m, n)), np.zeros((m, n))

    def look(self, points: np.ndarray) -> None:
        """Remember the most extreme of these points of the region."""
        points = project(self.problem.query.region, points)
        values = outputs_at(self.problem, points)
        values, points = values[known := np.all(np.isfinite(values), axis=1)], points[known]
        for j in range(values.shape[1] if len(values) else 0):
            low, high = int(values[:, j].argmin()), int(values[:, j].argmax())
            if values[low, j] < self.low[j]:
                self.low[j], self.lowest[j] = values[low, j], points[low]
                self.better += 1
            if values[high, j] > self.high[j]:
                self.high[j], self.highest[j] = values[high, j], points[high]
                self.better += 1

    @property
    def refuted(self) -> bool:
        """Whether what is wanted is seen not to be."""
        return False

    @property
    def width(self) -> np.ndarray:
        """Of what was seen, at least the rounding of it."""
        size = np.maximum(np.abs(self.low), np.abs(self.high))
        return np.asarray(np.maximum(self.high - self.low, 1e-9 * size + 1e-300))


class AboveZero(Attained):
    """What is wanted instead of what is seen: every output above zero, by a small share of its value at the center."""

    def __init__(self, problem: Problem, values: np.ndarray) -> None:
        super().__init__(problem)
        self.low, self.high = SURE * values, np.full(len(values), np.inf)
        self.values = values
        self.worst: np.ndarray | None = None

    def look(self, points: np.ndarray) -> None:
        """Remember one of these points of the region at which an output is below zero."""
        points = project(self.problem.query.region, points)
        least = self.problem.values(points)[self.problem.y].min(axis=1)
        if self.worst is None and np.any(least < 0):
            self.worst = points[int(least.argmin())]

    @property
    def refuted(self) -> bool:
        return self.worst is not None

    @property
    def width(self) -> np.ndarray:
        return self.values


class ReachSearch(Search):
    """The worst piece is the one whose box reaches farthest beyond what is attained, over its width."""

    def __init__(self, problem: Problem, chosen: ChosenNet, attained: Attained, progress: Progress) -> None:
        self.attained = attained
        groups = tuple((j,) for j in range(problem.size_out))
        bounds = PieceBounds(problem, chosen.net, choose_device(progress.device), progress.arithmetic)
        super().__init__(bounds, groups, 1, (), attained.look)
        self.looked = attained.better
        self.reached = [0.0] * len(groups)
        self.few = problem.size_in <= FEW_INPUTS

    def trees_of_outputs(self) -> tuple[Tree, ...]:
        """Without the cuts that gained nothing."""
        entries = {at: v.cpu().numpy().astype(float) for at, v in self.bounds.sides.entries.items()}
        return tuple(
            tree_of(root, bound, entries) for root, bound in zip(self.roots, self.bounds_of_groups(), strict=True)
        )

    def step(self, target: float) -> bool:
        """Each output for itself: a piece that cannot be cut any more ends the search for its output alone."""
        self._look_again()
        while self.heap and -self.heap[0][0] > target:
            node = self.heap[0][3]
            if node.choices and node.bound > self.reached[node.group]:
                return super().step(target)
            if not node.choices and node.point is None and self._attain(node):
                continue
            heapq.heappop(self.heap)
            self.reached[node.group] = max(self.reached[node.group], node.bound)
        return False

    def _attain(self, node: Node) -> bool:
        """Look where the output is extreme in a piece that is linear; whether that could be done."""
        region = self.problem.query.region
        if node.sides is None or (isinstance(region, Ball) and region.norm != math.inf):
            return False
        values = node.sides.values[None]
        above = int(self._beyond(values, np.array([node.group])).argmax())
        net = self.bounds.nets([node.cuts])
        (planes,), output = self.bounds.cut_planes(net, [node.cuts]), np.array([node.group])
        uphill = self.bounds.output_planes(net, output, np.array([1.0 if above else -1.0]))[0]
        low, high = (side[0].cpu().numpy() for side in net.boxes[self.posed.x])
        node.point = farthest(planes, uphill, (low, high))
        self.visit(node.point[None])
        self._look_again()
        return True

    def bounds_of_groups(self) -> list[float]:
        return [max(pair) for pair in zip(super().bounds_of_groups(), self.reached, strict=True)]

    def _time_kernel(self) -> float:
        if self.few:
            return super()._time_kernel()
        worst = [entry[3] for entry in heapq.nsmallest(TIMED, self.heap)]
        cuts, by = [node.cuts for node in worst], self.bounds.by
        began = time.monotonic()
        bounded = piece_nets(self.problem, ends(cuts, self.posed.graph), self.bounds.kernel, by)
        for side in (0, 1):
            start = np.eye(self.posed.graph.size(self.posed.y))[[node.group for node in worst]]
            given = [node.sides.multipliers[side] for node in worst if node.sides is not None]
            weighted(bounded, {self.posed.y: start}, cuts, given, by)
        return (time.monotonic() - began) / len(worst)

    def _feasible(self, nodes: list[Node], net: propagation.Net) -> None:
        """Multipliers bound the output of an empty piece by as little as one likes: nothing else is asked for them."""
        if self.few:
            super()._feasible(nodes, net)
            return
        assert net.empty is not None
        for b in np.flatnonzero(net.empty.cpu().numpy()).tolist():
            nodes[b].multipliers = np.zeros(len(nodes[b].cuts))

    @np.errstate(all="ignore")  # what overflows is refused by the kernel
    def _bound(self, nodes: list[Node], net: propagation.Net, groups: np.ndarray) -> None:
        if self.few:
            super()._bound(nodes, net, groups)
            return
        cuts, arrays = [node.cuts for node in nodes], as_arrays(net)
        found = self.bounds.sides.search(net, cuts, groups, [node.sides for node in nodes])
        beyond = self._beyond(np.array([sides.values for sides in found]), groups)
        side, worst = beyond.argmax(axis=1), beyond.max(axis=1)
        scores = self._gaps(net, found, side)
        for k, node in enumerate(nodes):
            node.choices = self._choices(arrays, scores, k)
        last = np.array([k for k, node in enumerate(nodes) if not node.choices and worst[k] > 0], dtype=int)
        if last.size:  # all that these can gain is by their multipliers
            again = self.bounds.sides.search(
                some_cases(net, last), [cuts[k] for k in last], groups[last], [found[k] for k in last], LAST_ITERATIONS
            )
            for k, sides in zip(last.tolist(), again, strict=True):
                found[k] = sides
        self._climb(found, groups, worst, side)
        worst = self._beyond(np.array([sides.values for sides in found]), groups).max(axis=1)
        for k, node in enumerate(nodes):
            node.sides, node.own = found[k], math.inf if np.isnan(worst[k]) else float(worst[k])

    def _look_again(self) -> None:
        """More may be attained than when the pieces were bounded."""
        nodes = [entry[3] for entry in self.heap if entry[3].sides is not None]
        if not nodes or self.looked == self.attained.better:
            return
        values = np.array([node.sides.values for node in nodes if node.sides is not None])
        worst = self._beyond(values, np.array([node.group for node in nodes])).max(axis=1)
        self.heap.clear()
        for node, now in zip(nodes, worst.tolist(), strict=True):
            node.own = min(node.own, now)
            self._push(node)
        self.looked = self.attained.better

    def _beyond(self, values: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """(K, 2) how far outputs reach below, and above, what is attained, over its width."""
        seen = self.attained
        below, above = seen.low[groups] - values[:, 0], values[:, 1] - seen.high[groups]
        return np.stack([below, above], axis=1) / seen.width[groups, None]

    def _climb(self, found: list[Sides], groups: np.ndarray, worst: np.ndarray, side: np.ndarray) -> None:
        """See what is attained where planes are extreme, and uphill from there."""
        self.visit(np.concatenate([sides.points for sides in found]))
        start = np.array([sides.points[k] for sides, k in zip(found, side, strict=True)])
        first = np.argsort(-worst)[:CLIMBERS]
        goals = np.eye(self.problem.size_out)[groups] * np.where(side, 1.0, -1.0)[:, None]
        start = project(self.problem.query.region, start[first])
        self.visit(climb(self.problem, start, goals[first], np.geomspace(0.5, 0.02, CLIMBS))[0])

    def _gaps(self, net: propagation.Net, found: list[Sides], side: np.ndarray) -> dict[int, np.ndarray]:
        """(pieces, entries) how far apart the lines of a neuron are, times what comes back to it (as in BaBSR)."""
        scores: dict[int, np.ndarray] = {}
        for at in found[0].coefficients:
            body = self.posed.graph.nodes[at]
            assert isinstance(body, Elementwise)
            coming = np.array([sides.coefficients[at][k] for sides, k in zip(found, side, strict=True)])
            score = np.abs(coming) * np.nan_to_num(distance(net, at, body.input))
            scores[body.input] = scores[body.input] + score if body.input in scores else score
        return {at: score for at, score in scores.items() if np.any(score > 0)}

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
    while not attained.refuted and progress.remaining() > 2.0 * search.proof_seconds + 0.05 * (
        time.monotonic() - began
    ):
        if not search.step((progress.gap - 1) / 2):
            break
    return search.trees_of_outputs()


def halved_trees(problem: Problem, whole: Net, attained: Attained, progress: Progress) -> tuple[Tree, ...]:
    """The same over pieces of the inputs, the same for each output: for implicit layers."""
    y = in_ramps(problem, progress.arithmetic).y

    def measure(bounded: PieceBoxes) -> np.ndarray:
        low, high = bounded.net.boxes[y]
        return np.asarray((np.maximum(attained.low - low, high - attained.high) / attained.width).max(axis=1))

    search = InputSearch(problem, whole, progress.arithmetic, measure, attained.look)
    each = 2.5 * (1 + problem.size_out)  # they are proven output by output
    while progress.remaining() > (each * search.leaves + 2 * BATCH) * search.seconds_a_piece:
        if not search.step((progress.gap - 1) / 2):
            break
    return (search.tree(),) * problem.size_out
