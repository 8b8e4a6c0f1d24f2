"""Branching over inputs, each piece bounded by the kernel: for implicit layers, which no search on a device follows."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.claim import Tree
from lipcert.certificate.linear_bounds import Bounded, in_ramps, piece_nets
from lipcert.certificate.pieces import ends
from lipcert.certificate.planes import Net
from lipcert.methods.local.branch import FEW_INPUTS, Node, tree_of
from lipcert.methods.lower.directions import Jacobian
from lipcert.methods.lower.search import region_center
from lipcert.problem import Everywhere, Problem

BATCH = 16
"""Pieces that are bounded at a time."""

LEAST = 1e-3
"""Of the share of the input that the outputs move with most, at the center, that every input is taken to have."""


def few_inputs(problem: Problem) -> bool:
    """Whether there are so few that cuts of them get somewhere."""
    return problem.size_in <= FEW_INPUTS


@dataclass(eq=False)
class InputSearch:
    """A tree over the region: the worst piece is halved along the input that matters most to it."""

    problem: Problem
    whole: Net
    by: Arithmetic
    measure: Callable[[Bounded], np.ndarray]
    """(pieces,) what is to be made small."""

    visit: Callable[[np.ndarray], None]
    """Is told points of the region that are worth a look."""

    root: Node = field(default_factory=lambda: Node((), 0))
    leaves: int = 0
    seconds_a_piece: float = 0.0

    def __post_init__(self) -> None:
        region = self.problem.query.region
        assert not isinstance(region, Everywhere)
        self.posed = in_ramps(self.problem, self.by)
        self.box = region.bounds(self.problem.size_in)
        slopes = Jacobian(self.problem, np.tile(region_center(region), (self.problem.size_out, 1)))
        moves = np.abs(slopes.backward(np.eye(self.problem.size_out))).max(axis=0)
        self.matters = moves + LEAST * moves.max(initial=0.0) + 1e-300
        self.count = itertools.count()
        self.heap: list[tuple[float, int, Node]] = []
        self.done = -np.inf
        """Of pieces that cannot be cut any more."""
        self._bound([self.root])

    @property
    def bound(self) -> float:
        """Of all pieces."""
        return max(self.done, -self.heap[0][0] if self.heap else -np.inf)

    def step(self, target: float) -> bool:
        """Cut the worst pieces; False where the bound is at most the target, or nothing can be cut any more."""
        halves: list[Node] = []
        while self.heap and len(halves) < BATCH and -self.heap[0][0] > target:
            node = heapq.heappop(self.heap)[2]
            low, high = self._ends(node)
            entry = int(np.argmax((high - low) * self.matters))
            middle = low[entry] / 2 + high[entry] / 2
            if not low[entry] < middle < high[entry]:
                self.done = max(self.done, node.bound)
                continue
            halves += node.cut_at((self.posed.x, entry, float(middle)))
        if halves:
            self._bound(halves)
            self.visit(np.array([sum(self._ends(node)) / 2 for node in halves]))
        return bool(halves)

    def tree(self) -> Tree:
        """As the kernel replays it."""
        return tree_of(self.root)

    def _ends(self, node: Node) -> tuple[np.ndarray, np.ndarray]:
        low, high = (side.copy() for side in self.box)
        for cut in node.cuts:  # the last one of an entry is the nearest
            (high if cut.below else low)[cut.entry] = cut.at
        return low, high

    @np.errstate(all="ignore")  # what overflows is infinite
    def _bound(self, nodes: list[Node]) -> None:
        began = time.monotonic()
        pieces = ends([node.cuts for node in nodes], self.posed.graph)
        found = self.measure(piece_nets(self.problem, pieces, self.whole, self.by))
        for node, own in zip(nodes, np.where(np.isnan(found), np.inf, found).tolist(), strict=True):
            node.own = own
            heapq.heappush(self.heap, (-node.bound, next(self.count), node))
        self.leaves = len(self.heap)
        self.seconds_a_piece = max(self.seconds_a_piece / 2, (time.monotonic() - began) / len(nodes))
