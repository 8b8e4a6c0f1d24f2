"""Multipliers of cuts bound outputs over pieces: whatever they are, nothing that is attained is beyond the box."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

import lipcert
from lipcert.activations import Abs, Activation, LeakyRelu, Relu, Tanh
from lipcert.activations.sorting import GroupSort
from lipcert.arithmetic.enclosure import exact
from lipcert.certificate import verify_box
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.claim import BoxClaim, RampSlopes, Tree
from lipcert.certificate.linear_bounds import in_ramps, whole_net
from lipcert.certificate.pieces import leaves, tree_box
from lipcert.errors import NotProvedError
from lipcert.graph import Affine, Graph, Groupwise, Input, Node, Output
from lipcert.methods import Progress
from lipcert.methods.boxes import choose_net
from lipcert.methods.local.reach import Attained, ReachSearch, branched_trees
from lipcert.methods.lower.extremes import climb, find_extremes
from lipcert.operators import Dense
from lipcert.planning.reach import solve_reach
from lipcert.problem import Ball, Box, Problem, Query, Region, pose
from tests.certificate.test_linear_bounds import layered
from tests.helpers.reports import model_of
from tests.helpers.sampling import random_points

INPUTS = 20
WHOLE, EMPTY, BOTH = 0.0, 1.0, 2.0
SPARE = 1e-9

KINDS: dict[str, Activation] = {
    "relu": Relu(),
    "leaky": LeakyRelu(0.25),
    "abs": Abs(),
    "tanh": Tanh(),
}
ALL_KINDS = (*KINDS, "sorted pairs")

REGIONS: dict[str, Callable[[np.ndarray], Region]] = {
    "linf": lambda c: Ball(c, 0.2, math.inf),
    "l2": lambda c: Ball(c, 0.8, 2.0),
    "l1": lambda c: Ball(c, 1.5, 1.0),
    "box": lambda c: Box(c - np.linspace(0, 0.3, c.size), c + 0.2),
}


torch.manual_seed(0)  # loaded before anything is timed


def network(kind: str, rng: np.random.Generator) -> Graph:
    sizes = (INPUTS, 12, 10, 3)
    layers = [(rng.normal(size=(b, a)) / math.sqrt(a), 0.3 * rng.normal(size=b)) for a, b in itertools.pairwise(sizes)]
    if kind == "sorted pairs":
        return sorting(layers)
    return layered(layers[0], KINDS[kind], layers[1], KINDS[kind], layers[2], inputs=INPUTS)


def sorting(layers: list[tuple[np.ndarray, np.ndarray]]) -> Graph:
    nodes: list[Node] = [Input("x", (INPUTS,))]
    for k, (matrix, bias) in enumerate(layers):
        nodes.append(Affine((len(nodes) - 1,), (Dense(matrix),), exact(bias), bias.shape))
        if k < len(layers) - 1:
            nodes.append(Groupwise(len(nodes) - 1, GroupSort(2), bias.shape))
    return Graph(tuple(nodes), (Output("y", len(nodes) - 1),))


def posed(kind: str, where: str, seed: int) -> Problem:
    rng = np.random.default_rng([seed, *kind.encode(), *where.encode()])
    return pose(network(kind, rng), Query(region=REGIONS[where](rng.normal(size=INPUTS))))


def extreme(problem: Problem, rng: np.random.Generator, count: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """(outputs,) the lowest and the highest values at sampled points, and uphill from them."""
    points = random_points(problem.query.region, problem.size_in, rng, count)
    seen = [problem.values(points)[problem.y]]
    for sign in (-1.0, 1.0):
        for goal in sign * np.eye(problem.size_out):
            start = points[np.argsort(-(seen[0] @ goal))[:5]]
            best, _ = climb(problem, start, np.tile(goal, (5, 1)), np.geomspace(1.0, 0.01, 20))
            seen.append(problem.values(best)[problem.y])
    values = np.concatenate(seen)
    return values.min(axis=0), values.max(axis=0)


def random_tree(problem: Problem, rng: np.random.Generator, depth: int) -> Tree:
    """Cuts of neurons that are open, anywhere in their boxes, with multipliers and slopes of all sizes."""
    by = Arithmetic()
    net, there = whole_net(problem, by), in_ramps(problem, by)
    kinks = [node.inputs[0] for i, node in enumerate(there.graph.nodes) if i in net.slopes]
    places = [(at, e) for at in kinks for e in np.flatnonzero(net.boxes[at][0][0] < net.boxes[at][1][0]).tolist()]
    splits: list[tuple[float, float, float]] = []
    multipliers: list[float] = []
    kept = 0

    def grow(left: int) -> None:
        nonlocal kept
        if left == depth or rng.random() < 0.15:
            splits.append((-1.0, BOTH, 0.0))
            multipliers.extend(rng.random(2 * left) * 10.0 ** rng.uniform(-6, 1) * (rng.random(2 * left) < 0.8))
            kept += 1
            return
        at, entry = places[int(rng.integers(len(places)))]
        low, high = (float(side[0, entry]) for side in net.boxes[at])
        where = 0.0 if low < 0 < high and rng.random() < 0.7 else float(rng.uniform(low, high))
        splits.append((float(at), float(entry), where))
        grow(left + 1)
        grow(left + 1)

    grow(0)
    ramps = [i for i in net.slopes if isinstance(getattr(there.graph.nodes[i], "activation", None), Relu)]
    slopes = []
    for ramp in ramps:
        entries = np.flatnonzero(rng.random(there.graph.size(ramp)) < 0.7).astype(float)
        below, above = (rng.random((kept, entries.size)) for _ in range(2))
        slopes.append(RampSlopes(ramp, entries, np.round(below), above))
    return Tree(np.array(splits), np.array(multipliers), tuple(slopes))


@pytest.mark.one_in(3)
@pytest.mark.parametrize("where", REGIONS)
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_no_sampled_value_is_beyond_any_multipliers(kind: str, where: str) -> None:
    """Multipliers, cuts and slopes at random; with them no box is wider than without."""
    rng = np.random.default_rng([*kind.encode(), *where.encode()])
    by = Arithmetic()
    for seed in range(3):
        problem = posed(kind, where, seed)
        low, high = extreme(problem, rng)
        whole = whole_net(problem, by)
        for depth in (0, 1, 3, 5):
            tree = random_tree(problem, rng, depth)
            kinds = np.where((tree.splits[:, :1] == -1) & (np.arange(3) == 1), WHOLE, tree.splits)
            plain = Tree(kinds, np.zeros(0))
            for j in range(problem.size_out):
                found, without = (tree_box(problem, t, j, whole, by) for t in (tree, plain))
                assert found[0] <= low[j] + SPARE
                assert found[1] >= high[j] - SPARE
                assert without[0] - SPARE <= found[0] <= found[1] <= without[1] + SPARE


@pytest.mark.one_in(3)
@pytest.mark.parametrize("where", REGIONS)
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_no_sampled_value_is_outside_of_an_exact_box(kind: str, where: str) -> None:
    problem = posed(kind, where, 7)
    found = solve_reach(problem, timeout=1.5, exact=True)
    low, high = extreme(problem, np.random.default_rng(1))
    assert np.all(found.claim.lower <= low + SPARE)
    assert np.all(found.claim.upper >= high - SPARE)
    assert len(found.claim.trees) == problem.size_out
    plain = solve_reach(problem, timeout=1.5)
    assert np.all(plain.claim.lower <= found.claim.lower + SPARE)
    assert np.all(found.claim.upper <= plain.claim.upper + SPARE)


def grown(kind: str = "relu", where: str = "linf") -> tuple[Problem, tuple[Tree, ...], Progress]:
    """A few rounds of cuts of a network."""
    problem, progress = posed(kind, where, 3), Progress(time.monotonic() + 1.0)
    seen = find_extremes(problem, progress)
    assert seen is not None
    attained = Attained(problem)
    attained.look(np.concatenate(seen))
    return problem, branched_trees(problem, choose_net(problem, progress), attained, progress), progress


@pytest.fixture(scope="module")
def cut() -> tuple[Problem, BoxClaim]:
    problem = posed("relu", "linf", 3)
    claim = solve_reach(problem, timeout=1.5, exact=True).claim
    assert all(BOTH in tree.splits[tree.splits[:, 0] == -1, 1] for tree in claim.trees)
    assert all(np.any(tree.multipliers > 0) and tree.slopes for tree in claim.trees)
    return problem, claim


def test_boxes_of_many_inputs_are_exact() -> None:
    """Within 1 % of what is attained, where cuts without multipliers are not."""
    problem = posed("relu", "linf", 3)
    solved = solve_reach(problem, timeout=30, exact=True)
    claim = solved.claim
    attained = solved.extremes
    assert attained is not None
    width = attained.upper - attained.lower
    assert np.all(claim.upper - claim.lower <= 1.011 * width)
    without = np.array(
        [tree_box(problem, bare(tree), j, whole(problem, claim), Arithmetic()) for j, tree in trees(claim)]
    )
    assert np.all(without[:, 1] - without[:, 0] >= 1.02 * width)


def whole(problem: Problem, claim: BoxClaim) -> object:
    return whole_net(problem, Arithmetic(), claim.slopes)


def trees(claim: BoxClaim) -> list[tuple[int, Tree]]:
    return list(enumerate(claim.trees))


def bare(tree: Tree) -> Tree:
    """The same cuts without multipliers for the outputs, and without slopes."""
    zeros = [np.zeros(0)]
    used = 0
    depth = [0]
    for node, kind, _ in tree.splits.tolist():
        cuts = depth.pop()
        if node >= 0:
            depth += [cuts + 1, cuts + 1]
            continue
        if kind == EMPTY:
            zeros.append(tree.multipliers[used : used + cuts])
        used += int(kind) * cuts
    splits = tree.splits.copy()
    splits[(splits[:, 0] == -1) & (splits[:, 1] == BOTH), 1] = WHOLE
    return Tree(splits, np.concatenate(zeros))


def test_the_kernel_agrees_with_the_search() -> None:
    for kind in ALL_KINDS:
        problem, _, progress = grown(kind)
        net = choose_net(problem, Progress(time.monotonic() + 5))
        attained = Attained(problem)
        seen = find_extremes(problem, progress)
        attained.look(np.concatenate(seen if seen is not None else []))
        search = ReachSearch(problem, net, attained, Progress(time.monotonic() + 60))
        search.start()
        for _ in range(4):
            search.step(0.0)
        for j, (root, tree) in enumerate(zip(search.roots, search.trees_of_outputs(), strict=True)):
            kept, stack = [], [root]
            while stack:
                node = stack.pop()
                if node.halves is not None and node.own > search.bounds_of_groups()[j]:
                    stack += node.halves
                elif node.sides is not None and node.multipliers is None:
                    kept.append(node.sides.values)
            low, high = tree_box(problem, tree, j, net.net, Arithmetic())
            size = np.abs(np.array(kept)).max() + 1
            assert abs(low - min(v[0] for v in kept)) <= 1e-7 * size
            assert abs(high - max(v[1] for v in kept)) <= 1e-7 * size


def outcome(problem: Problem, claim: BoxClaim, edit: Callable[[Tree], Tree]) -> tuple[np.ndarray, np.ndarray] | str:
    """What is proven with trees that are edited, or why not."""
    infinite = np.full(problem.size_out, np.inf)
    try:
        return verify_box(problem, replace(claim, lower=-infinite, upper=infinite, trees=tuple(map(edit, claim.trees))))
    except NotProvedError as error:
        return str(error)


def slopes_by(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Tree], Tree]:
    return lambda tree: replace(
        tree, slopes=tuple(replace(r, below=change(r.below), above=change(r.above)) for r in tree.slopes)
    )


def put(v: np.ndarray, value: float) -> np.ndarray:
    v = v.copy()
    v.reshape(-1)[v.size // 2] = value
    return v


REFUSED: dict[str, Callable[[Tree], Tree]] = {
    "negative": lambda t: replace(t, multipliers=-t.multipliers),
    "one negative": lambda t: replace(t, multipliers=put(t.multipliers, -1e-12)),
    "NaN": lambda t: replace(t, multipliers=put(t.multipliers, math.nan)),
    "inf": lambda t: replace(t, multipliers=put(t.multipliers, math.inf)),
    "one missing": lambda t: replace(t, multipliers=t.multipliers[1:]),
    "one more": lambda t: replace(t, multipliers=np.append(t.multipliers, 1.0)),
    "none": lambda t: replace(t, multipliers=np.zeros(0)),
    "two axes": lambda t: replace(t, multipliers=t.multipliers[None]),
    "kinds forgotten": lambda t: replace(t, splits=np.where(t.splits == BOTH, WHOLE, t.splits)),
    "said to be empty": lambda t: replace(t, splits=np.where(t.splits == BOTH, EMPTY, t.splits)),
    "slopes above one": slopes_by(lambda v: v + 1e-9),
    "slopes below zero": slopes_by(lambda v: v - 1e-9),
    "slopes NaN": slopes_by(lambda v: put(v, math.nan)),
    "a row missing": slopes_by(lambda v: v[1:]),
    "a row more": slopes_by(lambda v: np.concatenate([v, v[:1]])),
    "slopes a number": slopes_by(lambda v: np.array(0.5)),
    "slopes of one axis": slopes_by(lambda v: v[0]),
    "slopes transposed": slopes_by(lambda v: v[:, :-1].T),
    "no ramp": lambda t: replace(t, slopes=tuple(replace(r, ramp=r.ramp - 1) for r in t.slopes)),
    "a node before the first": lambda t: replace(t, slopes=tuple(replace(r, ramp=-1) for r in t.slopes)),
    "a node after the last": lambda t: replace(t, slopes=tuple(replace(r, ramp=10**6) for r in t.slopes)),
    "entries beyond": lambda t: replace(t, slopes=tuple(replace(r, entries=r.entries + 100) for r in t.slopes)),
    "entries below": lambda t: replace(t, slopes=tuple(replace(r, entries=r.entries - 100) for r in t.slopes)),
    "entries NaN": lambda t: replace(t, slopes=tuple(replace(r, entries=r.entries * np.nan) for r in t.slopes)),
    "half entries": lambda t: replace(t, slopes=tuple(replace(r, entries=r.entries + 0.5) for r in t.slopes)),
}

ALTERED: dict[str, Callable[[Tree], Tree]] = {
    "as they are": lambda t: t,
    "zero": lambda t: replace(t, multipliers=0 * t.multipliers),
    "twice as large": lambda t: replace(t, multipliers=2 * t.multipliers),
    "huge": lambda t: replace(t, multipliers=np.where(t.multipliers > 0, 1.7e308, 0.0)),
    "large": lambda t: replace(t, multipliers=1e150 * t.multipliers),
    "tiny": lambda t: replace(t, multipliers=1e-320 * t.multipliers),
    "all one": lambda t: replace(t, multipliers=np.ones_like(t.multipliers)),
    "backwards": lambda t: replace(t, multipliers=t.multipliers[::-1].copy()),
    "moved by one": lambda t: replace(t, multipliers=np.roll(t.multipliers, 1)),
    "without slopes": lambda t: replace(t, slopes=()),
    "slopes exchanged": lambda t: replace(t, slopes=tuple(replace(r, below=r.above, above=r.below) for r in t.slopes)),
    "slopes backwards": slopes_by(lambda v: v[::-1, ::-1].copy()),
    "slopes one": slopes_by(np.ones_like),
    "slopes zero": slopes_by(np.zeros_like),
    "slopes twice": lambda t: replace(t, slopes=(*t.slopes, *t.slopes)),
    "one entry again and again": lambda t: replace(
        t, slopes=tuple(replace(r, entries=0 * r.entries) for r in t.slopes)
    ),
}


@pytest.mark.parametrize("label", REFUSED)
def test_what_are_no_multipliers_is_refused(cut: tuple[Problem, BoxClaim], label: str) -> None:
    assert isinstance(outcome(*cut, REFUSED[label]), str)


@pytest.mark.parametrize("label", ALTERED)
def test_altered_multipliers_prove_nothing_false(cut: tuple[Problem, BoxClaim], label: str) -> None:
    problem, claim = cut
    low, high = extreme(problem, np.random.default_rng(5), 20_000)
    found = outcome(problem, claim, ALTERED[label])
    if isinstance(found, str):  # a piece that is empty is not shown to be
        assert "empty" in found
        return
    assert np.all(found[0] <= low + SPARE)
    assert np.all(found[1] >= high - SPARE)


def test_trees_of_other_outputs_prove_nothing_false(cut: tuple[Problem, BoxClaim]) -> None:
    problem, claim = cut
    low, high = extreme(problem, np.random.default_rng(6), 20_000)
    moved = replace(claim, trees=(*claim.trees[1:], claim.trees[0]))
    found = outcome(problem, moved, lambda tree: tree)
    assert not isinstance(found, str)
    assert np.all(found[0] <= low + SPARE)
    assert np.all(found[1] >= high - SPARE)


def test_a_cut_twice_is_taken_once() -> None:
    """A sum of multipliers would be rounded: the first that is not zero counts."""
    problem, by = posed("relu", "linf", 3), Arithmetic()
    at = next(i for i, node in enumerate(problem.graph.nodes) if isinstance(getattr(node, "activation", None), Relu))
    source = problem.graph.nodes[at].inputs[0]
    leaf = (-1.0, BOTH, 0.0)
    twice = np.array([(source, 0.0, 0.0), (source, 0.0, 0.0), leaf, leaf, leaf])
    given = np.array([0.3, 0.3, 0.2, 0.2, 0.3, 0.0, 0.2, 0.0, 0.3, 0.2])
    low, high = extreme(problem, np.random.default_rng(0))
    assert len(leaves(Tree(twice, given), problem.graph)) == 3
    found = tree_box(problem, Tree(twice, given), 0, whole_net(problem, by), by)
    assert found[0] <= low[0] <= high[0] <= found[1]


def test_a_report_with_multipliers_is_checked_again() -> None:
    graph = network("relu", np.random.default_rng(0))
    model = model_of(graph, "network")
    report = lipcert.reach(model, center=np.zeros(INPUTS), eps=0.2, exact=True, timeout=3)
    assert any(tree["slopes"] for tree in report.data["certificate"]["trees"])
    for strict in (False, True):
        checked = lipcert.check(report, model, strict=strict)
        assert np.all(checked.lower >= report.lower)
