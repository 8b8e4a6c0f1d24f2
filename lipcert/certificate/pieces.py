"""Branch and bound, replayed: a tree of cuts covers the region, whatever it is, and every piece is bounded by itself.

A cut is at a number t for an entry v of any node: every input has v <= t or v >= t. That a piece holds no input is
shown by multipliers b >= 0 of its cuts: over it the sum of b (t - v), or b (v - t), is at least 0, and over the boxes
it is below. Such a sum added to an output bounds it over the piece, whatever b >= 0 (Lagrange). Branching as in Bunel
et al., JMLR 2020; multipliers of cuts as in Wang et al., Beta-CROWN (NeurIPS 2021).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lipcert.arithmetic.enclosure import Enclosure
from lipcert.arithmetic.rounding import up
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.boxes import Bounds
from lipcert.certificate.claim import Rows, Tree
from lipcert.certificate.derivative import PLANES, bound_rows, chain_rule, norm_bounds, spread_norm
from lipcert.certificate.linear_bounds import Bounded, Pieces, chosen_slopes, in_ramps, piece_nets
from lipcert.certificate.planes import Chosen, Net, upper_bounds
from lipcert.errors import NotProvedError
from lipcert.graph import Graph
from lipcert.problem import Problem

ENTRIES = 2**22
"""Of the boxes of the pieces that are bounded at a time."""

MAX_STEPS = 3 + PLANES

MAX_CUTS = 1000
"""On the way to a piece."""


@dataclass(frozen=True)
class Cut:
    """Where an entry of a node ends: at most `at` where `below`, else at least."""

    node: int
    entry: int
    at: float
    below: bool


@dataclass(frozen=True)
class Piece:
    """What is left of the region by its cuts; multipliers where it is said to be empty."""

    cuts: tuple[Cut, ...]
    multipliers: np.ndarray | None = None
    sides: np.ndarray | None = None
    """(2, cuts) multipliers for an output, from below and from above."""


def leaves(tree: Tree, graph: Graph) -> list[Piece]:
    """The pieces that cover the region; NotProvedError where the tree is none."""
    splits, rest = tree.splits, tree.multipliers
    if splits.ndim != 2 or splits.shape[1:] != (3,) or not len(splits) or rest.ndim != 1:
        raise NotProvedError("a tree of pieces is not a list of cuts")
    if not np.all(np.isfinite(splits)) or np.any(splits[:, :2] != np.floor(splits[:, :2])):
        raise NotProvedError("a cut is not a node, an entry and a number")
    if not (np.all(np.isfinite(rest)) and np.all(rest >= 0)):
        raise NotProvedError("a multiplier of a cut is not a finite number of at least zero")
    found: list[Piece] = []
    open_pieces: list[tuple[Cut, ...]] = [()]
    used = 0
    for node, entry, at in splits.tolist():
        if not open_pieces:
            raise NotProvedError("a tree of pieces goes on after its end")
        cuts = open_pieces.pop()
        if len(cuts) > MAX_CUTS:
            raise NotProvedError(f"a piece has more than {MAX_CUTS} cuts")
        if node == -1 and entry in (0, 1, 2):
            count = int(entry) * len(cuts)
            given = rest[used : used + count]
            if len(given) != count:
                raise NotProvedError("multipliers of cuts are missing")
            used += count
            found.append(Piece(cuts, given if entry == 1 else None, given.reshape(2, -1) if entry == 2 else None))
            continue
        if not (0 <= node < len(graph.nodes) and 0 <= entry < graph.size(int(node))):
            raise NotProvedError(f"there is no entry {entry:.0f} of node {node:.0f} to cut at")
        for below in (False, True):  # the last one is next
            open_pieces.append((*cuts, Cut(int(node), int(entry), at, below)))
    if open_pieces or used != len(rest):
        raise NotProvedError("a tree of pieces is not complete, or has multipliers left over")
    return found


def ends(cuts: list[tuple[Cut, ...]], graph: Graph) -> Pieces:
    """Where the boxes of the pieces end."""
    found: dict[int, Bounds] = {}
    for b, path in enumerate(cuts):
        for cut in path:
            if cut.node not in found:
                shape = (len(cuts), graph.size(cut.node))
                found[cut.node] = np.full(shape, -math.inf), np.full(shape, math.inf)
            low, high = found[cut.node]
            if cut.below:
                high[b, cut.entry] = min(high[b, cut.entry], cut.at)
            else:
                low[b, cut.entry] = max(low[b, cut.entry], cut.at)
    return Pieces(len(cuts), found)


def bounded_pieces(problem: Problem, tree: Tree, whole: Net, by: Arithmetic) -> Iterator[tuple[list[Piece], Bounded]]:
    """The pieces of a tree, some at a time; NotProvedError where one that is said to be empty may not be."""
    graph = in_ramps(problem, by).graph
    pieces = leaves(tree, graph)
    total = sum(graph.size(i) for i in range(len(graph.nodes)))
    step = max(1, ENTRIES // max(1, total))
    said = [piece for piece in pieces if piece.multipliers is not None]
    for i in range(0, len(said), step):
        part = said[i : i + step]
        bounded = piece_nets(problem, ends([piece.cuts for piece in part], graph), whole, by)
        given = [m for p in part if (m := p.multipliers) is not None]
        excess = weighted(bounded, {}, [p.cuts for p in part], given, by)
        if not np.all(bounded.empty | (excess < 0)):
            raise NotProvedError("a piece that is said to be empty may hold inputs")
    kept = [piece for piece in pieces if piece.multipliers is None]
    for i in range(0, len(kept), step):
        part = kept[i : i + step]
        yield part, piece_nets(problem, ends([piece.cuts for piece in part], graph), whole, by)


@np.errstate(over="ignore", invalid="ignore")  # overflow ends in inf or NaN, which proves nothing
def weighted(
    bounded: Bounded,
    start: dict[int, np.ndarray],
    cuts: list[tuple[Cut, ...]],
    multipliers: list[np.ndarray],
    by: Arithmetic,
    chosen: dict[int, Chosen] | None = None,
) -> np.ndarray:
    """(B,) upper bounds on sums of start[node] . node and of the cuts of each piece; these are at least 0 in it."""
    net, count = bounded.net, len(cuts)
    total, lost = np.zeros(count), np.zeros(count)
    for b, path in enumerate(cuts):
        for cut, weight in zip(path, multipliers[b].tolist(), strict=True):
            row = start.setdefault(cut.node, np.zeros((count, net.boxes[cut.node][0].shape[-1])))
            sign = -1.0 if cut.below else 1.0
            if row[b, cut.entry]:  # one cut of an entry: a sum of multipliers would be rounded
                continue
            row[b, cut.entry] = sign * weight
            total[b] -= sign * weight * cut.at
            lost[b] += abs(weight * cut.at)
    rounding = up(lost * (4.0 * max(map(len, cuts), default=0) + 16) * 2.0**-53 + 1e-300)
    return upper_bounds(net, start, np.arange(count), by, Enclosure(total, rounding), chosen=chosen)


def tree_box(problem: Problem, tree: Tree, output: int, whole: Net, by: Arithmetic) -> tuple[float, float]:
    """The smallest and the largest value of an output over the pieces: of each by its box, or by multipliers."""
    about = ("tree", problem.graph, problem.query, whole, tree, output)  # the search asks first, then the claim's check
    return by.kept(about, lambda: _tree_box(problem, tree, output, whole, by))


@np.errstate(over="ignore", invalid="ignore")
def _tree_box(problem: Problem, tree: Tree, output: int, whole: Net, by: Arithmetic) -> tuple[float, float]:
    posed = in_ramps(problem, by)
    count = sum(piece.multipliers is None for piece in leaves(tree, posed.graph))
    lines = [
        {ramp.ramp: chosen_slopes(whole, posed.y, ramp, side(ramp), count) for ramp in tree.slopes}
        for side in (lambda ramp: ramp.below, lambda ramp: ramp.above)
    ]
    most, done = [-math.inf, -math.inf], 0  # of minus the output, and of the output
    for part, bounded in bounded_pieces(problem, tree, whole, by):
        now = slice(done, done + len(part))
        for side, sign in enumerate((-1.0, 1.0)):
            start = np.zeros((len(part), posed.graph.size(posed.y)))
            start[:, output] = sign
            given = [np.zeros(len(piece.cuts)) if piece.sides is None else piece.sides[side] for piece in part]
            chosen = {at: Chosen(c.entries, c.slopes[now]) for at, c in lines[side].items()}
            found = weighted(bounded, {posed.y: start}, [piece.cuts for piece in part], given, by, chosen)
            found = np.fmin(found, sign * bounded.net.boxes[posed.y][side][:, output])
            most[side] = max(most[side], float(np.where(bounded.empty, -math.inf, found).max()))
        done = now.stop
    return -most[0], most[1]


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # overflow ends in inf or NaN, which proves nothing
def rows_bound(problem: Problem, evidence: Rows, whole: Net, by: Arithmetic) -> float:
    """The largest norm of the Jacobian's rows over the pieces."""
    if not evidence.outputs or not (
        set(evidence.outputs) <= set(range(problem.size_out)) and len(set(evidence.outputs)) == len(evidence.outputs)
    ):
        raise NotProvedError("the rows are not outputs, each once")
    if not 0 <= evidence.steps <= MAX_STEPS:
        raise NotProvedError(f"there are no {evidence.steps} steps")
    query, posed = problem.query, in_ramps(problem, by)
    rule = chain_rule(posed, by)
    if rule.gradient is None:
        return 0.0
    largest = 0.0
    for _, bounded in bounded_pieces(problem, evidence.tree, whole, by):
        outputs = np.tile(np.array(evidence.outputs, dtype=int), (len(bounded.empty), 1))
        rows = bound_rows(posed, rule, bounded.net, outputs, evidence.steps, by)
        found = norm_bounds(rows, query.norm_in, query.norm_out, by).copy()
        found[bounded.empty] = 0.0
        if evidence.spectral and query.norm_in == query.norm_out == 2:
            for b in np.flatnonzero(found > evidence.spectral):
                matrix, spread = spread_norm(rows, int(b))
                left = float(np.nextafter(evidence.spectral - spread, -math.inf))
                if left > 0 and by.proves_spectral(matrix, left):
                    found[b] = evidence.spectral
        largest = max(largest, float(found.max(initial=0.0)))
    return largest
