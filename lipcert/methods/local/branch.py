"""Branch and bound over the region: the worst piece is cut where the slopes that are open matter most.

Pieces are bounded on the device in double precision, many at a time; the kernel bounds the leaves again. Best first
(Land and Doig 1960); cuts at kinks as in Bunel et al., JMLR 2020; whether a piece holds an input is a linear program.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from lipcert.certificate import derivative
from lipcert.certificate.claim import RampSlopes, Rows, RowScaling, Tree
from lipcert.certificate.derivative import Gain, slopes_of
from lipcert.certificate.pieces import Cut
from lipcert.certificate.planes import Net, pick
from lipcert.graph import Elementwise
from lipcert.methods import propagation
from lipcert.methods.base import OutOfTime
from lipcert.methods.local.feasible import decide
from lipcert.methods.local.scalings import WHOLE, Known, merged
from lipcert.methods.lower.directions import Jacobian
from lipcert.methods.lower.search import region_center
from lipcert.methods.propagation import PieceBounds, Sides, as_arrays, rows_as_arrays, some_cases
from lipcert.problem import Problem

BATCH = 64
"""Pieces that are cut at a time ..."""

ENTRIES = 2**23
"""... or fewer, so that their rows have this many coefficients."""

TIMED = 16
"""Pieces by which it is measured how fast the kernel is."""

STEP_SECONDS = 1.0
"""About how long one round of cuts may take."""

ROOM = 1 + 1e-9
"""For the kernel, which rounds outward, in the norm of a matrix that it shall prove."""

SKETCHES = 16
"""Random directions by which it is measured how much a neuron moves with the input."""

FEW_INPUTS = 16
"""Inputs that are cut ..."""

MANY_OPEN = 24
"""... while there are more open neurons than this."""

CANDIDATES = 4
"""Cuts of which the best is taken, where the pieces are small."""


@dataclass(eq=False)
class Node:
    """A piece: cut into two, or bounded, or empty."""

    cuts: tuple[Cut, ...]
    group: int
    above: float = math.inf
    """What the piece that it was cut from is bounded by: that is a bound, too, and may be the smaller one."""

    own: float = math.inf
    choices: list[tuple[int, int, float]] = field(default_factory=list)
    """Where it may be cut, the best first."""

    cut: tuple[int, int, float] | None = None
    halves: tuple[Node, Node] | None = None
    multipliers: np.ndarray | None = None
    point: np.ndarray | None = None
    """An input of the piece, as far as linear bounds tell."""

    inside: bool = False
    """Whether that is certain."""

    sides: Sides | None = None
    """The output that is asked for, bounded with multipliers of the cuts; first those of the piece it was cut from."""

    @property
    def bound(self) -> float:
        return min(self.own, self.above)

    def cut_at(self, where: tuple[int, int, float]) -> tuple[Node, Node]:
        """Its two halves."""
        self.cut = where
        below, above = Cut(*where, True), Cut(*where, False)
        self.halves = (
            Node((*self.cuts, below), self.group, self.bound, point=self.point, sides=self.sides),
            Node((*self.cuts, above), self.group, self.bound, point=self.point, sides=self.sides),
        )
        return self.halves


@dataclass(frozen=True, eq=False)
class Bounded:
    """Pieces: their boxes and slopes, the rows of the Jacobian over them, and these rows on the device."""

    net: Net
    rows: derivative.Rows
    on_device: propagation.Rows


@dataclass(eq=False)
class Search:
    """Trees over the region: one for each group of outputs, and what the worst piece of each is bounded by."""

    bounds: PieceBounds
    groups: tuple[tuple[int, ...], ...]
    steps: int
    known: Known = ()
    """What is proven of each group by other means."""

    visit: Callable[[np.ndarray], None] = lambda points: None
    """Is told points of the region that are worth a look."""

    def __post_init__(self) -> None:
        self.problem, self.posed, self.rule = self.bounds.problem, self.bounds.posed, self.bounds.rule
        self.moves = _moves(self.posed)
        self.kinks = {
            node.input: node.activation.kinks for node in self.posed.graph.nodes if isinstance(node, Elementwise)
        }
        self.count = itertools.count()
        self.roots = [Node((), g) for g in range(len(self.groups))]
        self.heap: list[tuple[float, float, int, Node]] = []
        self.evaluated = 0
        self.seconds = 0.0
        """Of their evaluation."""

        self.timed, self.proven, self.seconds_a_piece = 0, False, 0.0

    @property
    def bound(self) -> float:
        """Of all pieces."""
        return -self.heap[0][0] if self.heap else 0.0

    def bounds_of_groups(self) -> list[float]:
        """Of the pieces of each."""
        found = [0.0] * len(self.groups)
        for bound, _, _, node in self.heap:
            found[node.group] = max(found[node.group], -bound)
        return found

    def _cap(self, group: int) -> float:
        return self.known[group][0] if self.known else math.inf

    def start(self) -> None:
        """Bound the region as it is."""
        self._evaluate(self.roots)
        for root in self.roots:
            self._push(root)

    def trees(self) -> tuple[Rows, ...]:
        """How far the search is: the tree of every group that is cut."""
        cut = [root for root in self.roots if root.halves is not None]
        return tuple(Rows(self.groups[root.group], tree_of(root), self.steps, 0.0) for root in cut)

    def resume(self, trees: Sequence[Rows]) -> None:
        """Go on from the trees of an earlier search: their pieces are bounded again."""
        known = {part.outputs: part.tree for part in trees}
        self.heap.clear()
        for root in self.roots:
            outputs = self.groups[root.group]
            if outputs in known:
                _grow(root, known[outputs])
            level = [root]
            while level:
                for i in range(0, len(level), 2 * self._batch()):
                    self._evaluate(level[i : i + 2 * self._batch()])
                for node in level:
                    for half in node.halves or ():
                        half.above = node.bound
                    if node.halves is None:
                        self._push(node)
                level = [half for node in level for half in node.halves or ()]

    @property
    def proof_seconds(self) -> float:
        """About what the kernel takes to replay the trees."""
        if not self.proven and len(self.heap) >= 4 * self.timed:
            self.timed, self.seconds_a_piece = len(self.heap), self._time_kernel()
        return self.seconds_a_piece * self._leaves()

    def _leaves(self) -> int:
        """Of the trees that are proven."""
        return sum(len(tree_of(root, self.bound).splits) // 2 + 1 for root in self.roots)

    def took(self, seconds: float) -> None:
        """The kernel has replayed the trees, in this time."""
        self.proven, self.seconds_a_piece = True, seconds / self._leaves()

    def _time_kernel(self) -> float:
        """Seconds a piece, of the worst ones."""
        worst = [entry[3] for entry in heapq.nsmallest(TIMED, self.heap)]
        return self.bounds.time_kernel([n.cuts for n in worst], [self.groups[n.group] for n in worst], self.steps)

    def step(self, target: float) -> bool:
        """Cut the worst pieces; False where the bound is at most the target, or nothing can be cut any more."""
        worst: list[Node] = []
        while self.heap and len(worst) < self._batch() and -self.heap[0][0] > target:
            node = heapq.heappop(self.heap)[3]
            if not node.choices:
                self._push(node)
                break
            worst.append(node)
        if not worst:
            return False
        new = [half for node in worst for half in node.cut_at(node.choices[0])]
        try:
            self._inherit(new)
            self._evaluate(new)
        except (OutOfTime, KeyboardInterrupt):
            for node in worst:  # as if they had not been cut
                node.cut = node.halves = None
                self._push(node)
            raise
        for half in new:
            self._push(half)
        return True

    def evidence(self) -> tuple[Rows | RowScaling, ...]:
        """Of each group the best that is proven, as the kernel replays it."""
        query = self.problem.query
        spectral = self.bound * ROOM if query.norm_in == query.norm_out == 2 else 0.0
        found: list[tuple[float, Rows | RowScaling]] = []
        for root in self.roots:
            if self.known and self.known[root.group][0] <= self.bound:
                found.append(self.known[root.group])
            else:
                tree = tree_of(root, self.bound)
                whole = WHOLE if len(tree.splits) == 1 else tree
                found.append((self.bound, Rows(self.groups[root.group], whole, self.steps, spectral)))
        return merged(tuple(found))[1] if self.known else tuple(part for _, part in found)

    def _push(self, node: Node) -> None:
        if node.multipliers is None:
            heapq.heappush(self.heap, (-min(node.bound, self._cap(node.group)), -node.bound, next(self.count), node))

    def _batch(self) -> int:
        rows = max(len(group) for group in self.groups)
        wide = sum(self.posed.graph.size(i) for i in range(len(self.posed.graph.nodes))) * (1 + rows)
        quick = STEP_SECONDS * self.evaluated / max(self.seconds, 1e-9)  # pieces in that time
        return int(np.clip(min(ENTRIES // (2 * wide), quick / 2), 1, BATCH))

    def _evaluate(self, nodes: list[Node]) -> None:
        """Bound the pieces, and say which are empty."""
        began = time.monotonic()
        net = self.bounds.nets([node.cuts for node in nodes])
        self._feasible(nodes, net)
        kept = [b for b, node in enumerate(nodes) if node.multipliers is None]
        self.evaluated += len(kept)
        if kept:
            groups = np.array([nodes[b].group for b in kept])
            self._bound([nodes[b] for b in kept], some_cases(net, np.array(kept)), groups)
        self.seconds += time.monotonic() - began

    @np.errstate(all="ignore")  # what overflows is refused by the kernel
    def _bound(self, nodes: list[Node], net: propagation.Net, groups: np.ndarray) -> None:
        rows = self.bounds.rows(net, np.array([self.groups[g] for g in groups]), self.steps)
        bounded = Bounded(as_arrays(net), rows_as_arrays(rows), rows)
        found = self._measure(bounded, groups)
        scores = self._scores(bounded)
        inputs = self._input_cuts(bounded, scores) if self.problem.size_in <= FEW_INPUTS else {}
        for k, node in enumerate(nodes):
            node.own = math.inf if np.isnan(found[k]) else float(found[k])
            node.choices = inputs.get(k) or self._choices(bounded.net, scores, k)

    def _measure(self, bounded: Bounded, groups: np.ndarray) -> np.ndarray:
        """(pieces,) what is to be made small: the norm of the Jacobian."""
        return self.bounds.norms(bounded.on_device, self.problem.query.norm_in, self.problem.query.norm_out)

    def _feasible(self, nodes: list[Node], net: propagation.Net) -> None:
        """Multipliers of the pieces that hold no input; an input of the others, as far as planes tell."""
        assert net.empty is not None
        empty = net.empty.cpu().numpy()
        for b in np.flatnonzero(empty).tolist():
            nodes[b].multipliers = np.zeros(len(nodes[b].cuts))
        asked = [b for b, node in enumerate(nodes) if not (empty[b] or node.inside or not node.cuts)]
        if not asked:
            return
        cuts = [node.cuts for node in nodes]
        planes = self.bounds.cut_planes(net, [cuts[b] if b in asked else () for b in range(len(nodes))])
        low, high = (side.cpu().numpy() for side in net.boxes[self.posed.x])
        where = np.array(asked)
        box = pick(low, where), pick(high, where)
        found, new = [np.zeros(len(path)) for path in cuts], []
        for b, answer in zip(
            asked, decide(self.problem, [planes[b] for b in asked], box, self.bounds.device), strict=True
        ):
            found[b], nodes[b].point = answer.multipliers, answer.x
            if answer.x is not None:
                new.append(answer.x)
        proven = self.bounds.are_empty(net, cuts, found)
        for b in asked:
            if proven[b] and nodes[b].point is None:
                nodes[b].multipliers = found[b]
        if new:
            self.visit(np.array(new))

    def _inherit(self, halves: list[Node]) -> None:
        """A half that has the point of the piece is not empty."""
        known = [node for node in halves if node.point is not None]
        if not known:
            return
        values = self.posed.values(np.array([node.point for node in known]))
        for i, node in enumerate(known):
            sides = [(values[cut.node][i, cut.entry], cut) for cut in node.cuts]
            node.inside = all(value < cut.at if cut.below else value > cut.at for value, cut in sides)
            if not node.inside:
                node.point = None

    def _goes_on_with_inputs(self, still: int) -> bool:
        """Whether a piece with so many open neurons is cut at an input."""
        return still > MANY_OPEN

    def _input_cuts(self, bounded: Bounded, scores: dict[int, np.ndarray]) -> dict[int, list[tuple[int, int, float]]]:
        """Pieces with many open neurons are halved along the input that the outputs move with most."""
        low, high = bounded.net.boxes[self.posed.x]
        size = np.maximum(*(np.abs(side) for side in bounded.rows.entries())).max(axis=1)
        middle = np.broadcast_to(low / 2 + high / 2, size.shape)
        self.visit(middle)
        found = {}
        for k, matters in enumerate(np.broadcast_to(high - low, size.shape) * size):
            still = sum(int(np.count_nonzero(score[k] > 0)) for score in scores.values())
            entry = int(np.argmax(matters))
            if (
                self._goes_on_with_inputs(still)
                and low[k % len(low), entry] < middle[k, entry] < high[k % len(high), entry]
            ):
                found[k] = [(self.posed.x, entry, float(middle[k, entry]))]
        return found

    def _choices(self, net: Net, scores: dict[int, np.ndarray], piece: int) -> list[tuple[int, int, float]]:
        """Where a piece may be cut, at kinks if there are any inside, the best first."""
        ranked = []
        for at, score in scores.items():
            row = score[piece]
            low, high = (side[piece % len(side)] for side in net.boxes[at])
            for entry in np.argsort(-row)[:CANDIDATES].tolist():
                place = _inside(self.kinks[at], float(low[entry]), float(high[entry]))
                if row[entry] > 0 and place is not None:
                    ranked.append((float(row[entry]), at, entry, place))
        return [(at, entry, place) for _, at, entry, place in sorted(ranked, reverse=True)]

    def _scores(self, bounded: Bounded) -> dict[int, np.ndarray]:
        """For each node that can be cut, (pieces, entries): how much its open slopes matter."""
        net, rows = bounded.net, bounded.rows
        pieces = len(rows.net.boxes[self.rule.first][0]) // rows.each
        found: dict[int, np.ndarray] = {}
        graph = self.posed.graph
        for _, node in self.rule.steps:
            if not (isinstance(node, Gain) and node.other is None):
                continue
            body = graph.nodes[node.at]
            assert isinstance(body, Elementwise)
            low, high = slopes_of(node, net)
            coming = np.maximum(*(np.abs(side) for side in rows.net.boxes[node.input]))
            coming = coming.reshape(pieces, rows.each, -1).max(axis=1)
            with np.errstate(all="ignore"):
                score = np.nan_to_num((high - low) * coming * self.moves.get(body.input, np.zeros(1)))
            found[body.input] = found[body.input] + score if body.input in found else score
        return {at: score for at, score in found.items() if np.any(score > 0)}


def _inside(kinks: tuple[float, ...], low: float, high: float) -> float | None:
    """The kink nearest to the middle of a box, else its middle; None where nothing lies inside."""
    middle = low / 2 + high / 2
    known = [kink for kink in kinks if low < kink < high]
    found = min(known, key=lambda kink: abs(kink - middle)) if known else middle
    return found if low < found < high and math.isfinite(found) else None


@np.errstate(all="ignore")
def _moves(problem: Problem) -> dict[int, np.ndarray]:
    """For each node about how much its entries move with the input, at the center of the region."""
    region = problem.query.region
    random = np.random.default_rng(0)
    points = np.tile(region_center(region), (SKETCHES, 1))  # type: ignore[arg-type]
    moved = Jacobian(problem, points).moved(random.standard_normal((SKETCHES, problem.size_in)))
    return {at: np.sqrt((v**2).mean(axis=0)) for at, v in moved.items()}


def _grow(root: Node, tree: Tree) -> None:
    """Cut the piece as the tree says."""
    waiting = [root]
    for node, entry, at in tree.splits.tolist():
        piece = waiting.pop()
        if node >= 0:
            below, above = piece.cut_at((int(node), int(entry), at))
            waiting += [above, below]


def tree_of(root: Node, enough: float = -math.inf, entries: Mapping[int, np.ndarray] = MappingProxyType({})) -> Tree:
    """As the kernel replays it; pieces that are bounded by `enough` are not cut there.

    `entries`: of ramps, for which pieces have slopes of their own.
    """
    splits: list[tuple[float, float, float]] = []
    multipliers: list[float] = []
    sides: list[Sides] = []
    stack = [root]
    while stack:
        node = stack.pop()
        if node.halves is not None and node.cut is not None and node.own > enough:
            splits.append((float(node.cut[0]), float(node.cut[1]), node.cut[2]))
            stack += [node.halves[1], node.halves[0]]
        elif node.multipliers is not None:
            splits.append((-1.0, 1.0, 0.0))
            multipliers += node.multipliers.tolist()
        elif node.sides is not None:
            splits.append((-1.0, 2.0, 0.0))
            multipliers += node.sides.multipliers.reshape(-1).tolist()
            sides.append(node.sides)
        else:
            splits.append((-1.0, 0.0, 0.0))
    slopes = tuple(
        RampSlopes(at, rows, *(np.array([found.slopes[at][side] for found in sides]) for side in (0, 1)))
        for at, rows in entries.items()
        if sides
    )
    return Tree(np.array(splits), np.array(multipliers), slopes)
