"""Trees of cuts cover the region, on kinks too, and no piece that holds an input is shown to be empty.

Networks here have weights that are small multiples of powers of two, so that float64 is exact: a point is on a cut, or
not. At a point on kinks, the limits of derivatives are those along directions: of kinks the side that they lead to.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
import torch

from lipcert.activations import Abs, Activation, Clip, LeakyRelu, Relu, Tanh
from lipcert.activations.householder import Householder
from lipcert.activations.piecewise import Shrink, ThresholdedRelu
from lipcert.activations.sorting import GroupMax, GroupSort
from lipcert.arithmetic.enclosure import exact
from lipcert.certificate import Claim, verify, verify_box
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.balls import BallArithmetic
from lipcert.certificate.claim import BoxClaim, Local, Rows, Tree
from lipcert.certificate.derivative import norm_bounds
from lipcert.certificate.linear_bounds import in_ramps, whole_net
from lipcert.certificate.pieces import Cut, leaves, weighted
from lipcert.errors import NotProvedError
from lipcert.graph import Affine, Elementwise, Graph, Groupwise, Input, Node, Output, evaluate
from lipcert.methods.local.feasible import decide
from lipcert.methods.propagation import PieceBounds
from lipcert.operators import Dense
from lipcert.problem import Ball, Box, Problem, Query, Region, pose
from tests.certificate.test_linear_bounds import layered
from tests.helpers.compositions import with_norms
from tests.helpers.graphs import GROUP_FUNCTIONS
from tests.helpers.operators import matrix_by_definition
from tests.helpers.pieces import ENOUGH, pieces_by_cuts, proven, rows_of, some_pieces
from tests.helpers.pieces import WHOLE as WHOLE_TREE
from tests.helpers.sampling import NORM_PAIRS, jacobians, operator_norms, random_points, values

WHOLE, EMPTY = (-1.0, 0.0, 0.0), (-1.0, 1.0, 0.0)
SPARE = 1e-9

# --------------------------------------------------------------------------------------------- trees that are none

MALFORMED: dict[str, tuple[object, object]] = {
    "nothing": (np.zeros((0, 3)), []),
    "no rows": ([-1.0, 0.0, 0.0], []),
    "two columns": ([[-1.0, 0.0]], []),
    "four columns": ([[-1.0, 0.0, 0.0, 0.0]], []),
    "three axes": ([[WHOLE]], []),
    "multipliers in rows": ([WHOLE], [[0.5]]),
    "multipliers that are one number": ([WHOLE], 0.5),
    "a cut at NaN": ([(2, 0, math.nan), WHOLE, WHOLE], []),
    "a cut at infinity": ([(2, 0, math.inf), WHOLE, WHOLE], []),
    "a node that is NaN": ([(math.nan, 0, 0.0), WHOLE, WHOLE], []),
    "half a node": ([(0.5, 0, 0.0), WHOLE, WHOLE], []),
    "half an entry": ([(2, 0.5, 0.0), WHOLE, WHOLE], []),
    "a node beyond the last": ([(8, 0, 0.0), WHOLE, WHOLE], []),
    "a huge node": ([(1e300, 0, 0.0), WHOLE, WHOLE], []),
    "node -2": ([(-2, 0, 0.0), WHOLE, WHOLE], []),
    "an entry beyond the last": ([(2, 4, 0.0), WHOLE, WHOLE], []),
    "entry -1": ([(2, -1, 0.0), WHOLE, WHOLE], []),
    "a piece of no kind": ([(-1, 3, 0.0)], []),
    "half a kind": ([(-1, 1.5, 0.0)], []),
    "multipliers for one side": ([(2, 0, 0.0), (-1, 2, 0.0), WHOLE], [1.0]),
    "multipliers for three sides": ([(2, 0, 0.0), (-1, 2, 0.0), WHOLE], [1.0, 1.0, 1.0]),
    "multipliers for a side below zero": ([(2, 0, 0.0), (-1, 2, 0.0), WHOLE], [1.0, -1e-300]),
    "a piece of kind -1": ([(-1, -1, 0.0)], []),
    "two trees": ([WHOLE, WHOLE], []),
    "no halves": ([(2, 0, 0.0)], []),
    "one half": ([(2, 0, 0.0), WHOLE], []),
    "three halves": ([(2, 0, 0.0), WHOLE, WHOLE, WHOLE], []),
    "one half of a half": ([(2, 0, 0.0), (2, 1, 0.0), WHOLE, WHOLE], []),
    "multipliers left over": ([(2, 0, 0.0), WHOLE, WHOLE], [1.0]),
    "multipliers missing": ([(2, 0, 0.0), EMPTY, WHOLE], []),
    "too many multipliers": ([(2, 0, 0.0), EMPTY, WHOLE], [1.0, 1.0]),
    "too few multipliers": ([(2, 0, 0.0), (2, 1, 0.0), EMPTY, EMPTY, WHOLE], [1.0, 1.0, 1.0]),
    "a multiplier below zero": ([(2, 0, 0.0), EMPTY, WHOLE], [-1e-300]),
    "a multiplier that is NaN": ([(2, 0, 0.0), EMPTY, WHOLE], [math.nan]),
    "a multiplier that is infinite": ([(2, 0, 0.0), EMPTY, WHOLE], [math.inf]),
}


def small_problem() -> Problem:
    rng = np.random.default_rng(1)
    layers = [(rng.normal(size=(b, a)), rng.normal(size=b)) for a, b in ((2, 4), (4, 4), (4, 2))]
    graph = layered(layers[0], Relu(), layers[1], Abs(), layers[2], inputs=2)
    return pose(graph, Query(region=Ball(np.zeros(2), 1.0, math.inf)))


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_tree_is_refused(name: str) -> None:
    splits, multipliers = (np.array(part, dtype=float) for part in MALFORMED[name])
    problem, tree = small_problem(), Tree(splits, multipliers)
    assert [problem.graph.size(i) for i in range(8)] == [2, 2, 4, 4, 4, 4, 2, 2]
    with pytest.raises(NotProvedError):
        leaves(tree, problem.graph)
    with pytest.raises(NotProvedError):
        verify(problem, Claim(1e9, Local((Rows((0, 1), tree, 1, 0.0),)), linear=True))
    with pytest.raises(NotProvedError):
        verify_box(problem, BoxClaim(np.full(2, -1e9), np.full(2, 1e9), True, (tree, tree)))


def test_halves_come_in_their_order() -> None:
    """First what is below, and multipliers from the first piece on."""
    splits = [(2, 2, 0.5), (3, 0, -1.0), EMPTY, WHOLE, (2, 2, 2.0), WHOLE, EMPTY]
    found = leaves(Tree(np.array(splits, dtype=float), np.arange(4.0)), small_problem().graph)
    first, second = Cut(2, 2, 0.5, True), Cut(2, 2, 0.5, False)
    assert [piece.cuts for piece in found] == [
        (first, Cut(3, 0, -1.0, True)),
        (first, Cut(3, 0, -1.0, False)),
        (second, Cut(2, 2, 2.0, True)),
        (second, Cut(2, 2, 2.0, False)),
    ]
    said = [None if piece.multipliers is None else piece.multipliers.tolist() for piece in found]
    assert said == [[0.0, 1.0], None, None, [2.0, 3.0]]


# ------------------------------------------------------------------------------------------------- points on kinks


@dataclass
class Build:
    """Layers whose biases put a point on as many kinks as possible."""

    rng: np.random.Generator
    point: np.ndarray
    nodes: list[Node]

    def value(self, node: int) -> np.ndarray:
        graph = Graph(tuple(self.nodes), (Output("y", len(self.nodes) - 1),))
        return evaluate(graph, {"x": self.point})[node]

    def affine(self, size: int, *sources: int) -> int:
        """Rows that are small, equal, opposite, units or zero; kinks (0 and ends of clips) at the point, mostly."""
        rng = self.rng
        matrices = []
        for source in sources:
            width = int(np.prod(self.nodes[source].shape))
            rows = rng.integers(-2, 3, size=(size, width)).astype(float)
            kind = rng.integers(0, 6, size=size)
            for i in range(1, size):
                other = int(rng.integers(i))
                rows[i] = {
                    0: rows[other],
                    1: -rows[other],
                    2: np.eye(width)[i % width],
                    3: -np.eye(width)[i % width],
                }.get(int(kind[i]), rows[i])
            matrices.append(rows)
        total = sum(m @ self.value(s) for m, s in zip(matrices, sources, strict=True))
        bias = np.where(rng.random(size) < 0.7, rng.choice([0.0, 0.0, 0.5, -0.5], size) - total, 0.0)
        self.nodes.append(Affine(sources, tuple(map(Dense, matrices)), exact(bias), (size,)))
        return len(self.nodes) - 1

    def active(self, source: int, kind: str) -> int:
        shape = self.nodes[source].shape
        if kind in ACTIVE:
            self.nodes.append(Elementwise(source, ACTIVE[kind], shape))
        else:
            function = {
                "maxmin": GroupSort(2),
                "sort": GroupSort(3),
                "max": GroupMax(3),
                "reflections": Householder(exact(np.array([[1.0, -1.0]] * 3)), exact(np.array([[0.5, -1.0]] * 3))),
            }[kind]
            self.nodes.append(Groupwise(source, function, (shape[0] // function.width * function.out_width,)))
        return len(self.nodes) - 1


ACTIVE: dict[str, Activation] = {
    "relu": Relu(),
    "leaky": LeakyRelu(0.25),
    "falling": LeakyRelu(-0.5),
    "abs": Abs(),
    "clip": Clip(-0.5, 0.5),
    "empty clip": Clip(0.0, -1.0),
    "steps": Clip(np.array([0.0, -0.5, 0.0, -1.0, 0.0, 0.5]), np.array([0.5, 0.0, 0.0, 1.0, math.inf, 0.5])),
    "threshold": ThresholdedRelu(0.0),
    "shrink": Shrink(0.5, 0.5),
}
KINDS = (*ACTIVE, "maxmin", "sort", "max", "reflections")


def on_kinks(rng: np.random.Generator, *kinds: str) -> tuple[Graph, np.ndarray]:
    """Layers of six neurons, of which later ones read all that came before; the point that is on their kinks."""
    point = rng.integers(-2, 3, size=2) / 2
    build = Build(rng, point, [Input("x", (2,))])
    read = [0]
    for kind in kinds:
        at = build.affine(6, *read[-2:])
        read.append(build.active(at, kind))
        if rng.random() < 0.3:  # another node reads the same, at other kinks
            read.append(build.active(at, "abs"))
        if rng.random() < 0.3:  # a node that is zero on one side reads a node that is
            read.append(build.active(read[-1], "relu"))
    build.affine(2, *read[-2:])
    return Graph(tuple(build.nodes), (Output("y", len(build.nodes) - 1),)), point


REGIONS: dict[str, Callable[[np.ndarray], Region]] = {
    "box": lambda point: Box(np.full(2, -1.0), np.full(2, 1.0)),
    "face": lambda point: Box(np.array([point[0], -1.0]), np.array([point[0] + 1.0, 1.0])),
    "flat": lambda point: Box(np.array([point[0], -1.0]), np.array([point[0], 1.0])),
    "point": lambda point: Box(point, point),
    "corner": lambda point: Box(point - 1.0, point),
    "linf": lambda point: Ball(point, 0.5, math.inf),
    "l2": lambda point: Ball(np.zeros(2), 1.0, 2.0),
    "l1": lambda point: Ball(point, 0.5, 1.0),
}


def grid(problem: Problem, point: np.ndarray) -> np.ndarray:
    """Points of the region with few bits, among them the one that is on kinks."""
    low, high = problem.query.region.bounds(2)
    axes = [
        np.unique(np.clip(np.append(np.arange(-12, 13) / 8, p), a, b)) for a, b, p in zip(low, high, point, strict=True)
    ]
    found = np.array(list(itertools.product(*axes)))
    region = problem.query.region
    if isinstance(region, Ball) and region.norm != math.inf:
        found = found[np.linalg.norm(found - region.center, ord=region.norm, axis=1) <= region.eps]
    return found[np.random.default_rng(0).permutation(len(found))[:120]]


@dataclass
class Along:
    """Values at points, and derivatives there along directions: limits of derivatives at points near by."""

    values: list[np.ndarray]
    slopes: list[np.ndarray]
    """(points, inputs, entries)."""

    moves: list[np.ndarray]

    @property
    def generic(self) -> np.ndarray:
        """Where an entry that the direction does not move has no derivative at all."""
        still = [np.all((m != 0) | ~s.any(axis=1), axis=1) for m, s in zip(self.moves, self.slopes, strict=True)]
        return np.logical_and.reduce(still)


def along(graph: Graph, x: np.ndarray, d: np.ndarray) -> Along:
    """Of affine nodes and piecewise linear ones."""
    found = Along([], [], [])
    for node in graph.nodes:
        if isinstance(node, Input):
            value, slope = x, np.broadcast_to(np.eye(x.shape[1]), (len(x), x.shape[1], x.shape[1]))
        elif isinstance(node, Affine):
            pairs = list(zip(node.inputs, node.operators, strict=True))
            value = node.bias.value + sum(op.matvec(found.values[s]) for s, op in pairs)
            slope = sum(op.matvec(found.slopes[s]) for s, op in pairs)
        else:
            assert isinstance(node, Elementwise)
            at, moved, act = found.values[node.input], found.moves[node.input], node.activation
            above, below = (act.derivative(np.nextafter(at, side)) for side in (math.inf, -math.inf))
            rate = np.where(moved > 0, above, np.where(moved < 0, below, act.derivative(at)))
            value, slope = act.value(at), found.slopes[node.input] * rate[:, None, :]
        found.values.append(value)
        found.slopes.append(slope)
        found.moves.append(np.einsum("kns,kn->ks", slope, d))
    return found


def random_tree(
    rng: np.random.Generator, graph: Graph, at: list[np.ndarray], cuts: int, spare: float = 0.0
) -> list[tuple[float, float, float]]:
    """Random cuts: at kinks, at zero, at values that occur, and at what was cut before."""
    if cuts == 0:
        return [WHOLE]
    node = int(rng.integers(len(graph.nodes)))
    entry = int(rng.integers(graph.size(node)))
    values = np.broadcast_to(at[node], (len(at[0]), graph.size(node)))[:, entry]
    place = float(rng.choice([0.0, 0.0, 0.0, 0.5, -0.5, rng.choice(values), values.min(), values.max()])) + spare
    below = int(rng.integers(cuts))
    halves = [random_tree(rng, graph, at, count, spare) for count in (below, cuts - 1 - below)]
    if rng.random() < 0.15 and cuts > 1:  # the same cut again, below it
        halves[0] = [(float(node), float(entry), place), WHOLE, *halves[0]] if rng.random() < 0.5 else halves[0]
    return [(float(node), float(entry), place), *halves[0], *halves[1]]


def members(cuts: tuple[Cut, ...], seen: Along) -> np.ndarray:
    """Which points, moved along their directions by anything small, are in a piece."""
    inside = np.ones(len(seen.values[0]), dtype=bool)
    for cut in cuts:
        value, move = (v[cut.node][:, cut.entry] for v in (seen.values, seen.moves))
        inside &= (
            (value < cut.at) | (value == cut.at) & (move <= 0)
            if cut.below
            else (value > cut.at) | (value == cut.at) & (move >= 0)
        )
    return inside


def multipliers_of(problem: Problem, cuts: list[tuple[Cut, ...]], by: Arithmetic) -> list[np.ndarray]:
    """Those by which the search would show that pieces are empty."""
    cpu = torch.device("cpu")
    bounds = PieceBounds(problem, whole_net(problem, by), cpu, by)
    net = bounds.nets(cuts)
    low, high = (side.numpy() for side in net.boxes[net.x])
    found = decide(problem, bounds.cut_planes(net, cuts), (low, high), cpu)
    return [np.nan_to_num(answer.multipliers) for answer in found]


def assert_covered(
    problem: Problem, seen: Along, splits: list[tuple[float, float, float]], rng: np.random.Generator
) -> int:
    """Every point is in a piece; its values and derivatives are in the boxes of every piece that it is in."""
    by = Arithmetic()
    there = in_ramps(problem, by)
    tree = Tree(np.array(splits), np.zeros(0))
    cuts = [piece.cuts for piece in leaves(tree, there.graph)]
    bounded = pieces_by_cuts(problem, cuts, by)
    steps = int(rng.integers(8))
    kept = np.flatnonzero(~bounded.empty)
    covered = np.zeros(len(seen.values[0]), dtype=bool)
    found = np.swapaxes(seen.slopes[there.y], 1, 2)
    rows = rows_of(problem, steps, by, some_pieces(bounded, kept))
    if rows is not None:
        low, high = (np.broadcast_to(side, (len(kept), 2, 2)) for side in rows.entries())
    by_search = multipliers_of(problem, cuts, by)
    weights = [by_search, [rng.random(len(c)) * 10.0 ** rng.integers(-8, 8) * (rng.random(len(c)) < 0.7) for c in cuts]]
    excesses = [weighted(bounded, {}, cuts, chosen, by) for chosen in weights]
    for b, path in enumerate(cuts):
        inside = members(path, seen)
        if not inside.any():
            continue
        covered |= inside
        assert not bounded.empty[b], path
        for excess, chosen in zip(excesses, weights, strict=True):
            assert excess[b] >= 0, (path, chosen[b])
        for i, box in enumerate(bounded.net.boxes):
            value = seen.values[i][inside]
            assert np.all(box[0][b % len(box[0])] - SPARE <= value), (path, i)
            assert np.all(value <= box[1][b % len(box[1])] + SPARE), (path, i)
        if rows is None:
            assert not found.any()
            continue
        k = int(np.searchsorted(kept, b))
        assert np.all(low[k] - SPARE <= found[inside]), path
        assert np.all(found[inside] <= high[k] + SPARE), path
        for pair in NORM_PAIRS:
            steepest = operator_norms(found[inside], *pair).max()
            assert steepest <= norm_bounds(rows, *pair, by)[k] * (1 + SPARE), (path, pair)
    assert covered.all()
    pair = NORM_PAIRS[int(rng.integers(9))]
    assert operator_norms(found, *pair).max() <= proven(with_norms(problem, *pair), tree, steps, by=by) * (1 + SPARE)
    least, most = verify_box(problem, BoxClaim(np.full(2, -ENOUGH), np.full(2, ENOUGH), True, (tree, WHOLE_TREE)), by)
    assert np.all(least - SPARE <= seen.values[there.y])
    assert np.all(seen.values[there.y] <= most + SPARE)


@pytest.mark.one_in(4)
@pytest.mark.parametrize("where", REGIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_limits_of_derivatives_on_kinks_are_below_the_bound_of_a_tree(kind: str, where: str) -> None:
    rng = np.random.default_rng([*kind.encode(), *where.encode()])
    graph, point = on_kinks(rng, kind, str(rng.choice(KINDS)))
    problem = pose(graph, Query(region=REGIONS[where](point)))
    there = in_ramps(problem, Arithmetic()).graph
    x = grid(problem, point)
    x = np.concatenate([x, np.tile(point, (40, 1))]) if problem.query.region.contains(point) else np.tile(x, (2, 1))
    seen = along(there, x, rng.integers(-10007, 10008, size=x.shape).astype(float))
    keep = seen.generic
    seen = Along([v[keep] for v in seen.values], [v[keep] for v in seen.slopes], [v[keep] for v in seen.moves])
    assert keep.sum() > 10
    assert_covered(problem, seen, random_tree(rng, there, seen.values, int(rng.integers(2, 12))), rng)


def test_derivatives_along_directions_are_differences() -> None:
    """What is compared with above: exactly so, of the network with groups."""
    for seed in range(40):
        rng = np.random.default_rng([seed, 2])
        graph, point = on_kinks(rng, *rng.choice(KINDS, 2).tolist())
        problem = pose(graph, Query(region=REGIONS["box"](point)))
        x = np.concatenate([grid(problem, point), np.tile(point, (40, 1))])
        d = rng.integers(-15, 16, size=x.shape).astype(float)
        there = in_ramps(problem, Arithmetic())
        seen = along(there.graph, x, d)
        step = 2.0**-20
        near, here = (evaluate(problem.graph, {"x": at})[problem.y] for at in (x + step * d, x))
        np.testing.assert_array_equal(seen.moves[there.y], (near - here) / step)


# -------------------------------------------------------------------------------- other networks, points anywhere

SMOOTH: dict[str, Callable[[np.random.Generator], Graph]] = {
    "tanh": lambda rng: two_layers(rng, Tanh(), Tanh()),
    "relu": lambda rng: two_layers(rng, Relu(), Relu()),
    "leaky": lambda rng: two_layers(rng, LeakyRelu(-0.7), LeakyRelu(0.3)),
    "abs": lambda rng: two_layers(rng, Abs(), Tanh()),
    "clip": lambda rng: two_layers(rng, Clip(-0.3, 0.4), Clip(0.0, math.inf)),
    "maxmin": lambda rng: two_groups(rng, "maxmin"),
    "groupsort of 4": lambda rng: two_groups(rng, "groupsort of 4"),
    "softmax": lambda rng: two_groups(rng, "softmax"),
    "householder, oblique": lambda rng: two_groups(rng, "householder, oblique"),
}


def two_layers(rng: np.random.Generator, *activations: Activation) -> Graph:
    a, b, c = ((rng.normal(size=(m, n)), 0.5 * rng.normal(size=m)) for n, m in ((2, 5), (5, 5), (5, 2)))
    return layered(a, activations[0], b, activations[1], c, inputs=2)


def two_groups(rng: np.random.Generator, name: str) -> Graph:
    nodes: list[Node] = [Input("x", (2,))]
    for _ in range(2):
        function = GROUP_FUNCTIONS[name](rng, 2)
        size, last = 2 * function.width, len(nodes) - 1
        first = Dense(rng.normal(size=(size, nodes[last].shape[0])))
        nodes.append(Affine((last,), (first,), exact(rng.normal(size=size)), (size,)))
        nodes.append(Groupwise(last + 1, function, (2 * function.out_width,)))
    last = len(nodes) - 1
    nodes.append(Affine((last,), (Dense(rng.normal(size=(2, nodes[last].shape[0]))),), exact(np.zeros(2)), (2,)))
    return Graph(tuple(nodes), (Output("y", last + 1),))


@pytest.mark.one_in(2)
@pytest.mark.parametrize("where", ["linf", "l2", "flat"])
@pytest.mark.parametrize("name", SMOOTH)
def test_sampled_points_are_below_the_bounds_of_their_pieces(name: str, where: str) -> None:
    rng = np.random.default_rng([*name.encode(), *where.encode()])
    graph = SMOOTH[name](rng)
    problem = pose(graph, Query(region=REGIONS[where](rng.normal(size=2) / 4)))
    there = in_ramps(problem, Arithmetic())
    (entrance,) = there.graph.inputs
    x = random_points(problem.query.region, 2, rng, 600).astype(np.longdouble)
    at = [np.broadcast_to(v, (600, v.shape[-1])) for v in values(there.graph, {entrance: x})]
    slopes = [np.zeros((600, 2, v.shape[1])) for v in at]
    slopes[there.y] = np.swapaxes(jacobians(problem, {entrance: x})[0], 1, 2).astype(float)
    seen = Along(at, slopes, [np.zeros_like(v) for v in at])
    splits = random_tree(rng, there.graph, [v.astype(float) for v in at], int(rng.integers(3, 12)), 1e-7)
    assert_covered(problem, seen, splits, rng)


# ------------------------------------------------------------------------------------------ pieces that just hold one


def in_fractions(graph: Graph, x: np.ndarray) -> list[list[Fraction]]:
    """Values of a network of dense layers, relu, abs and clip."""
    found: list[list[Fraction]] = []
    for node in graph.nodes:
        if isinstance(node, Input):
            found.append([Fraction(float(v)) for v in x])
        elif isinstance(node, Affine):
            weights, source = matrix_by_definition(node.operators[0]).astype(float), found[node.inputs[0]]
            bias = node.bias.value
            found.append([
                Fraction(float(bias[i])) + sum(Fraction(float(w)) * v for w, v in zip(weights[i], source, strict=True))
                for i in range(len(bias))
            ])  # fmt: skip
        else:
            assert isinstance(node, Elementwise)
            act = {Relu: lambda v: max(v, Fraction(0)), Abs: abs}[type(node.activation)]
            found.append([act(v) for v in found[node.input]])
    return found


def outward(value: Fraction, below: bool) -> float:
    """The float nearest to the value so that it is at most (at least) that."""
    at = float(value)
    if below:
        return at if Fraction(at) >= value else float(np.nextafter(at, math.inf))
    return at if Fraction(at) <= value else float(np.nextafter(at, -math.inf))


@pytest.mark.parametrize("arithmetic", [Arithmetic, BallArithmetic], ids=["float64", "balls"])
@pytest.mark.parametrize("where", ["linf", "l2", "l1", "box"])
def test_a_piece_that_holds_a_point_by_a_hair_is_not_empty(where: str, arithmetic: type[Arithmetic]) -> None:
    """Cuts of many nodes next to the values at one point, all round: of the order of a rounding in size."""
    for seed in range(2 if arithmetic is Arithmetic else 1):
        rng = np.random.default_rng([seed, *where.encode(), 3])
        sizes = [(2, 6), (6, 6), (6, 2)]
        a, b, c = ((rng.normal(size=(m, n)) * 10.0 ** rng.integers(-2, 3), rng.normal(size=m)) for n, m in sizes)
        graph = layered(a, Relu(), b, Abs() if seed % 2 else Relu(), c, inputs=2)
        problem = pose(graph, Query(region=REGIONS[where](rng.normal(size=2) / 4)))
        region, by = problem.query.region, arithmetic()
        ends_of_region = np.array(region.bounds(2))
        points = [p for p in (*random_points(region, 2, rng, 4), *ends_of_region) if region.contains(p)]
        for point in points:
            at = in_fractions(problem.graph, point)
            every = [(i, e) for i in range(len(at)) for e in range(len(at[i]))]
            cuts = []
            for _ in range(6):
                chosen = rng.permutation(len(every))[: int(rng.integers(1, 16))]
                sides = rng.random(len(every)) < 0.5
                picked = [(*every[k], bool(sides[k])) for k in chosen]
                picked += [(i, e, not below) for i, e, below in picked[: int(rng.integers(len(picked) + 1))]]
                cuts.append(tuple(Cut(i, e, outward(at[i][e], below), below) for i, e, below in picked))
            bounded = pieces_by_cuts(problem, cuts, by)
            assert not bounded.empty.any()
            for i, box in enumerate(bounded.net.boxes):
                for k in range(len(cuts)):
                    low, high = (side[k % len(side)].tolist() for side in box)
                    assert all(Fraction(l) <= v <= Fraction(h) for l, v, h in zip(low, at[i], high, strict=True))
            by_search = multipliers_of(problem, cuts, by)
            for scale in (1.0, 1e-200, 1e-305, 1e12, 1e150):
                with np.errstate(over="ignore"):
                    scaled = [m * scale for m in by_search]
                assert np.all(weighted(bounded, {}, cuts, scaled, by) >= 0)
            for _ in range(8):
                chosen = [
                    rng.random(len(c)) * 10.0 ** rng.uniform(-12, 12, len(c)) * (rng.random(len(c)) < 0.5) for c in cuts
                ]
                assert np.all(weighted(bounded, {}, cuts, chosen, by) >= 0)


@pytest.mark.parametrize("where", ["linf", "l2", "l1", "box"])
def test_a_piece_beyond_the_region_is_shown_to_be_empty(where: str) -> None:
    """By boxes where one cut says so, by multipliers where only several do: the tests above ask for something."""
    rng = np.random.default_rng(4)
    shown = np.zeros(2, dtype=int)
    for _ in range(20):
        w = rng.normal(size=(3, 2))
        graph = layered((w, np.zeros(3)), Relu(), (np.ones((1, 3)), np.zeros(1)), inputs=2)
        problem = pose(graph, Query(region=REGIONS[where](np.zeros(2))))
        by = Arithmetic()
        lift = np.linalg.solve(w[:2].T, w[2])  # w2 = lift @ w[:2]: not all three can be on the wrong side
        path = tuple(Cut(2, i, -0.01 * np.sign(t), bool(t > 0)) for i, t in enumerate(lift))
        cuts = [(Cut(2, 0, 50.0, False),), (*path, Cut(2, 2, 0.01, False))]
        bounded = pieces_by_cuts(problem, cuts, by)
        excess = weighted(bounded, {}, cuts, [np.zeros(1), np.append(np.abs(lift), 1.0)], by)
        shown += bounded.empty[0], bounded.empty[1] or excess[1] < 0
        assert excess[0] >= 0 or bounded.empty[0]
    assert shown.tolist() == [20, 20]


@pytest.mark.parametrize(("lower", "upper"), [(-1.0, 0.0), (0.0, 1.0), (0.0, 0.0), (-1.0, 1.0)])
@pytest.mark.parametrize("rows", [1, 2])
def test_a_kink_on_the_edge_of_the_region_counts(lower: float, upper: float, rows: int) -> None:
    """The Clarke derivative at zero holds the slopes of both sides, wherever the region is cut."""
    nodes = (Input("x", (1,)), Elementwise(0, LeakyRelu(-3.0), (1,)), Elementwise(1, Abs(), (1,)))
    for graph in (Graph(nodes[:2], (Output("y", 1),)), Graph(nodes, (Output("y", 2),))):
        problem = pose(graph, Query(region=Box(np.array([lower]), np.array([upper]))))
        for at in (0.0, 5e-324, -0.5, 1.0):
            for node in range(2):
                halves = [(float(node), 0.0, at), WHOLE, WHOLE]
                again = [(float(node), 0.0, 0.0), WHOLE, *halves] if rows == 2 else halves
                assert proven(problem, Tree(np.array(again), np.zeros(0))) >= 3.0


def test_a_piece_beyond_a_ball_is_empty_not_refused() -> None:
    """Over the corner of its cuts an affine node leaves what it is over the ball."""
    zero, total = exact(np.zeros(1)), Dense(np.ones((1, 2)))
    nodes = (
        Input("x", (2,)),
        Elementwise(0, Abs(), (2,)),
        Affine((0,), (total,), zero, (1,)),
        Elementwise(2, Relu(), (1,)),
        Affine((1, 3), (total, Dense(np.eye(1))), zero, (1,)),
    )
    problem = pose(Graph(nodes, (Output("y", 4),)), Query(region=Ball(np.full(2, -0.4), 0.5, 1.0)))
    x = (0.0, 0.0, 0.0), (0.0, 1.0, 0.0)
    tree = Tree(np.array([x[0], x[1], WHOLE, WHOLE, x[1], WHOLE, WHOLE]), np.zeros(0))
    assert proven(problem, tree) == pytest.approx(math.sqrt(2), rel=1e-9)


def test_an_overflow_shows_nothing() -> None:
    problem = small_problem()
    cuts = [(Cut(2, 0, 1e308, True), Cut(2, 1, -1e308, False), Cut(0, 0, 0.0, True))]
    bounded = pieces_by_cuts(problem, cuts, Arithmetic())
    assert not bounded.empty.any()
    for weights in itertools.product([0.0, 1.0, 1e200, 1.7e308], repeat=3):
        assert weighted(bounded, {}, cuts, [np.array(weights)], Arithmetic())[0] >= 0
