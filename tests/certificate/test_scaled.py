"""LipSDP as one scaled norm: whatever scales are given, what the kernel proves from them is true."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from lipcert.activations import Abs, Activation, LeakyRelu, Relu, Sqrt, Tanh
from lipcert.activations.groupwise import GroupFunction
from lipcert.activations.householder import Householder
from lipcert.activations.jacobian import BlockBound
from lipcert.activations.sorting import GroupMax, GroupSort
from lipcert.arithmetic.enclosure import exact
from lipcert.certificate import Claim, scaled, verify
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.balls import BallArithmetic
from lipcert.certificate.boxes import propagate
from lipcert.certificate.chains import Setting, prepare
from lipcert.certificate.claim import Scaled, Scaling
from lipcert.certificate.scaled import scaled_bound, scaled_matrix
from lipcert.errors import NotProvedError
from lipcert.graph import Affine, Elementwise, Graph, Groupwise, Increment, Input, Node, Output, Product
from lipcert.methods import Progress
from lipcert.methods.lipsdp import LipSdpMethod
from lipcert.operators import Dense, Identity
from lipcert.problem import Ball, Everywhere, Norm, Problem, Query, Region, pose
from tests.helpers.graphs import random_graph
from tests.helpers.sampling import Ratios, merge, steepest_jacobians, steepest_pairs

MARGIN = 1 + 1e-9
"""For the rounding of what is sampled."""

ENOUGH = 1e308
IN: tuple[Norm, ...] = (2.0, math.inf)
OUT: tuple[Norm, ...] = (1.0, 2.0, math.inf)
N = 3
"""Inputs of the networks here."""


class Builder:
    """Nodes one after the other; each method returns the number of the node that it appended."""

    def __init__(self, rng: np.random.Generator, inputs: int = N, bias: float = 1.0) -> None:
        self.rng, self.bias = rng, bias
        self.nodes: list[Node] = [Input("x", (inputs,))]

    def size(self, node: int) -> int:
        return int(np.prod(self.nodes[node].shape))

    def affine(self, size: int, *sources: int) -> int:
        operators = tuple(Dense(self.rng.normal(size=(size, self.size(s))) / math.sqrt(self.size(s))) for s in sources)
        return self._add(Affine(sources, operators, exact(self.bias * self.rng.normal(size=size)), (size,)))

    def plus(self, first: int, second: int) -> int:
        """The sum of two nodes of one size."""
        same = Identity(self.size(first))
        return self._add(Affine((first, second), (same, same), exact(np.zeros(self.size(first))), (self.size(first),)))

    def active(self, source: int, activation: Activation) -> int:
        return self._add(Elementwise(source, activation, (self.size(source),)))

    def grouped(self, source: int, function: GroupFunction) -> int:
        groups = self.size(source) // function.width
        return self._add(Groupwise(source, function, (groups * function.out_width,)))

    def times(self, left: int, right: int) -> int:
        return self._add(Product(left, right, (self.size(left),)))

    def graph(self) -> Graph:
        return Graph(tuple(self.nodes), (Output("y", len(self.nodes) - 1),))

    def _add(self, node: Node) -> int:
        self.nodes.append(node)
        return len(self.nodes) - 1


def layered(make: Callable[[Builder, int], int], width: int) -> Callable[[np.random.Generator], Graph]:
    """Two layers of one nonlinear function between matrices."""

    def graph(rng: np.random.Generator) -> Graph:
        build = Builder(rng)
        at = make(build, build.affine(width, 0))
        build.affine(2, make(build, build.affine(width, at)))
        return build.graph()

    return graph


def reflections(build: Builder, source: int) -> int:
    normals = build.rng.normal(size=(build.size(source) // 2, 2))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return build.grouped(source, Householder(exact(normals), exact(2 * normals)))


def residual(rng: np.random.Generator) -> Graph:
    build = Builder(rng)
    at = build.affine(4, 0)
    for activation in (Relu(), LeakyRelu(-0.5)):
        at = build.plus(at, build.affine(4, build.active(build.affine(4, at), activation)))
    build.affine(2, at, 0)
    return build.graph()


def forked(rng: np.random.Generator) -> Graph:
    """Three nonlinear nodes read one node, one of them the input itself, and one reads a nonlinear node."""
    build = Builder(rng)
    at = build.affine(4, 0)
    ways = [build.active(at, Relu()), build.active(at, Abs()), build.grouped(at, GroupMax(2)), build.active(0, Tanh())]
    build.affine(3, *ways, build.active(ways[0], LeakyRelu(0.3)), at)
    return build.graph()


def product(rng: np.random.Generator) -> Graph:
    build = Builder(rng)
    left, right = (build.active(build.affine(3, 0), Tanh()) for _ in range(2))
    build.affine(2, build.active(build.affine(3, build.times(left, right)), Relu()), build.times(left, left))
    return build.graph()


NETWORKS: dict[str, Callable[[np.random.Generator], Graph]] = {
    "relu": layered(lambda build, at: build.active(at, Relu()), 5),
    "leaky relu": layered(lambda build, at: build.active(at, LeakyRelu(0.1)), 4),
    "tanh": layered(lambda build, at: build.active(at, Tanh()), 4),
    "abs": layered(lambda build, at: build.active(at, Abs()), 4),
    "maxmin": layered(lambda build, at: build.grouped(at, GroupSort(2)), 4),
    "groupsort of 3": layered(lambda build, at: build.grouped(at, GroupSort(3)), 6),
    "groupsort of 4": layered(lambda build, at: build.grouped(at, GroupSort(4)), 8),
    "householder": layered(reflections, 4),
    "max of 2": layered(lambda build, at: build.grouped(at, GroupMax(2)), 6),
    "max of 3": layered(lambda build, at: build.grouped(at, GroupMax(3)), 6),
    "max of 4": layered(lambda build, at: build.grouped(at, GroupMax(4)), 8),
    "residual": residual,
    "forked": forked,
    "product": product,
}

REGIONS: dict[str, Callable[[np.random.Generator], Region]] = {
    "everywhere": lambda rng: Everywhere(),
    "a ball": lambda rng: Ball(rng.normal(size=N), 0.4, 2.0),  # some neurons do not turn there
    "a small box": lambda rng: Ball(rng.normal(size=N), 0.02, math.inf),  # most do not
}


def setting_of(problem: Problem, center: bool = True, by: Arithmetic | None = None) -> Setting:
    by = by or Arithmetic()
    return prepare(problem, propagate(problem, by), center, by)


def with_norms(setting: Setting, p: Norm, q: Norm) -> Setting:
    return replace(setting, norm_in=p, norm_out=q)


def neurons(setting: Setting) -> list[int]:
    return [setting.graph.size(node) for node in setting.increments.nonlinear]


def same_in_groups(setting: Setting, hidden: np.ndarray) -> np.ndarray:
    """The scales, each the first of its group."""
    parts = np.split(hidden, np.cumsum(neurons(setting))[:-1])
    for node, part in zip(setting.increments.nonlinear, parts, strict=False):
        bound = setting.increments.bound(node)
        if isinstance(bound, BlockBound):
            groups = len(bound.columns)
            part[:] = np.repeat(part.reshape(groups, -1)[:, 0], part.size // groups)
    return np.concatenate(parts)


SCALES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "equal": lambda rng, n: np.ones(n),
    "random": lambda rng, n: np.exp(rng.normal(size=n)),
    "bad": lambda rng, n: 10.0 ** rng.uniform(-4, 4, size=n),
}


def largest(holds: Callable[[float], bool], steps: int = 60) -> float:
    """About the largest factor for which it holds, between 1e-150 and 1e50."""
    low, high = math.log(1e-150), math.log(1e50)
    for _ in range(steps):
        middle = low / 2 + high / 2
        low, high = (middle, high) if holds(math.exp(middle)) else (low, middle)
    return math.exp(low)


def tight(setting: Setting, rng: np.random.Generator, kind: str, outputs: np.ndarray | None = None) -> Scaling:
    """Scales of this kind, enlarged until almost nothing is proven: first of inputs, with some room, then of outputs.

    Nodes further on get larger ones, by the least power of four for which anything is proven.
    """
    make, sizes = SCALES[kind], neurons(setting)
    n, m = setting.graph.size(setting.x), setting.graph.size(setting.y)
    hidden = same_in_groups(setting, make(rng, sum(sizes)))
    shape_in, shape_out = make(rng, n), make(rng, m) if outputs is None else outputs
    nodes = setting.increments.nonlinear
    reads = [setting.graph.size(setting.graph.nodes[node].inputs[0]) for node in nodes]
    levels, row_levels = np.repeat(np.arange(len(nodes)), sizes), np.repeat(np.arange(len(nodes)), reads)
    matrix = scaled_matrix(setting, Scaling(shape_in, hidden, shape_out)).value

    def is_short(steeper: float, into: float, out: float, most: float) -> bool:
        before = np.concatenate([steeper ** -row_levels.astype(float), np.full(m, out)])
        after = np.concatenate([np.full(n, into), steeper ** levels.astype(float)])
        return bool(np.linalg.norm(before[:, None] * matrix * after, 2) <= most)

    def enlarged(most: float) -> Scaling:
        steeper = next(4.0**k for k in range(60) if is_short(4.0**k, 0.0, 0.0, most))
        into = float(rng.uniform(0.3, 0.9)) * min(1e9, largest(lambda a: is_short(steeper, a, 0.0, most)))
        out = largest(lambda c: is_short(steeper, into, c, most))
        return Scaling(into * shape_in, hidden * steeper**levels, out * shape_out)

    for most in (1 - 1e-9, 0.9, 0.5, 0.1, 0.01):  # weights may be known only up to a radius
        scaling = enlarged(most)
        if setting.by.proves_spectral(scaled_matrix(setting, scaling), 1.0):
            return scaling
    raise AssertionError("no scales of this kind are proven")


def attained(problem: Problem, rng: np.random.Generator) -> Ratios:
    return merge(steepest_pairs(problem, rng, 150), steepest_jacobians(problem, rng, 60))


@pytest.mark.parametrize("kind", REGIONS)
@pytest.mark.parametrize("name", NETWORKS)
def test_no_sampled_ratio_exceeds_what_any_scales_prove(name: str, kind: str) -> None:
    rng = np.random.default_rng([*name.encode(), *kind.encode()])
    problem = pose(NETWORKS[name](rng), Query(region=REGIONS[kind](rng)))
    steepest = attained(problem, rng)
    for center in (True, False):
        setting = setting_of(problem, center)
        for scales in SCALES:
            evidence = Scaled(center, (tight(setting, rng, scales),))
            for p in IN:
                for q in OUT:
                    assert 0 < steepest[p, q] <= scaled_bound(with_norms(setting, p, q), evidence) * MARGIN


@pytest.mark.parametrize("name", NETWORKS)
def test_no_sampled_ratio_exceeds_what_the_solvers_scales_prove_for_any_norms(name: str) -> None:
    """Also where they were found for other norms; and they prove what was claimed."""
    rng = np.random.default_rng([*name.encode()])
    problem = pose(NETWORKS[name](rng), Query(region=REGIONS["a ball"](rng)))
    steepest = attained(problem, rng)
    setting = setting_of(problem)
    for p, q in ((2.0, 2.0), (math.inf, 1.0), (2.0, math.inf)):
        asked = replace(problem, query=replace(problem.query, norm_in=p, norm_out=q))
        claim = list(LipSdpMethod().claims(asked, Progress()))[-1]
        assert steepest[p, q] <= verify(asked, claim) * MARGIN
        first = Scaled(True, claim.evidence.scalings[:1])  # type: ignore[union-attr]
        for norms in ((a, b) for a in IN for b in OUT):
            assert steepest[norms] <= scaled_bound(with_norms(setting, *norms), first) * MARGIN


@pytest.mark.parametrize("seed", range(12))
def test_no_sampled_ratio_exceeds_what_scales_of_random_networks_prove(seed: int) -> None:
    """Any nodes, weights known up to a radius, several inputs of which some may be anything."""
    rng = np.random.default_rng([seed, 71])
    graph = random_graph(rng, inputs=1 + seed % 2, depth=3 + seed % 3, width=4)
    varying = tuple(list(graph.inputs)[: 1 + seed // 2 % 2])
    size = sum(graph.size(graph.inputs[name]) for name in varying)
    region = Ball(rng.normal(size=size), 0.3, 2.0) if seed % 3 else Everywhere()
    problem = pose(graph, Query(region=region, inputs=varying))
    setting = setting_of(problem)
    assert all(np.all(np.isfinite(setting.increments.bound(i).spectral)) for i in setting.increments.nonlinear)  # type: ignore[union-attr]
    steepest = attained(problem, rng)
    for scales in SCALES:
        evidence = Scaled(True, (tight(setting, rng, scales),))
        for p in IN:
            for q in OUT:
                assert steepest[p, q] <= scaled_bound(with_norms(setting, p, q), evidence) * MARGIN


@pytest.mark.parametrize("size", [1e-150, 1e-80, 1e80, 1e150])
@pytest.mark.parametrize("name", ["relu", "abs", "maxmin", "groupsort of 3", "max of 4", "residual"])
def test_no_sampled_ratio_exceeds_what_scales_prove_where_values_are_tiny_or_huge(name: str, size: float) -> None:
    """Before the last layer everything is multiplied by `size`, after it divided: the scales follow."""
    rng = np.random.default_rng([*name.encode(), 5])
    problem = pose(NETWORKS[name](rng), Query())
    plain = tight(setting_of(problem), rng, "random")
    changed = pose(_through(problem.graph, size), Query())
    hidden = plain.hidden * size
    steepest = attained(changed, np.random.default_rng(1))
    true = attained(problem, np.random.default_rng(1))
    for q in OUT:
        setting = with_norms(setting_of(changed), 2.0, q)
        bound = scaled_bound(setting, Scaled(True, (Scaling(plain.inputs, hidden, plain.outputs),)))
        assert max(steepest[2.0, q], true[2.0, q]) <= bound * MARGIN


def _through(graph: Graph, size: float) -> Graph:
    """What reads the input multiplied by `size`, biases too, what the output reads divided by it."""
    nodes = list(graph.nodes)
    last = graph.outputs[0].node
    while len(nodes[last].inputs) == 1 and isinstance(nodes[nodes[last].inputs[0]], Affine):
        last = nodes[last].inputs[0]  # the selection of outputs comes after it
    for i, node in enumerate(nodes):
        if isinstance(node, Affine) and i > 1:
            reads = [size if _is_input(graph, s) else 1.0 for s in node.inputs]
            factors = [by / size if i == last else by for by in reads]
            operators = tuple(
                Dense(by * np.asarray(op.weights)) if by != 1 else op  # type: ignore[attr-defined]
                for op, by in zip(node.operators, factors, strict=True)
            )
            nodes[i] = replace(node, operators=operators, bias=exact(node.bias.value * (1.0 if i >= last else size)))
    return Graph(tuple(nodes), graph.outputs)


def _is_input(graph: Graph, node: int) -> bool:
    return node <= 1


@pytest.mark.parametrize("seed", range(6))
def test_scales_of_any_size_prove_nothing_false(seed: int) -> None:
    """From 1e-150 to 1e150, larger from node to node: products underflow, and mostly nothing is proven."""
    rng = np.random.default_rng([seed, 3])
    problem = pose(NETWORKS["relu"](rng), Query())
    setting, steepest = setting_of(problem), attained(problem, rng)
    proven = 0
    for _ in range(40):
        ends = np.sort(rng.uniform(-150, 150, 4))
        inputs, hidden = (10.0 ** rng.uniform(a, b, n) for a, b, n in ((ends[0], ends[0], 3), (ends[1], ends[1], 10)))
        hidden[5:] = 10.0 ** rng.uniform(ends[2], ends[3], 5)
        scaling = Scaling(inputs, hidden, 10.0 ** rng.uniform(-150, ends[2] - 10, 2))
        for p in IN:
            for q in OUT:
                try:
                    bound = scaled_bound(with_norms(setting, p, q), Scaled(True, (scaling,)))
                except NotProvedError:
                    continue
                proven += 1
                assert steepest[p, q] <= bound * MARGIN
    assert proven


# Exactly, in fractions: two layers of ReLU, whose mean slope is 1/2 and whose remainder is at most 1/2 steep.

Matrix = list[list[Fraction]]


def fractions(array: np.ndarray) -> Matrix:
    return [[Fraction(float(v)) for v in row] for row in array]


def times(a: Matrix, b: Matrix) -> Matrix:
    return [
        [sum((x * y for x, y in zip(row, column, strict=True)), Fraction(0)) for column in zip(*b, strict=True)]
        for row in a
    ]


def by(factor: Fraction, a: Matrix) -> Matrix:
    return [[factor * v for v in row] for row in a]


def exact_matrix(weights: list[np.ndarray], scaling: Scaling, low: Fraction, high: Fraction) -> Matrix:
    """M of x -> W1 -> phi -> W2 -> phi -> W3, slopes of phi in [low, high]."""
    first, second, last = map(fractions, weights)
    mean, rest = (low + high) / 2, (high - low) / 2
    k, (n, m) = len(first), (len(first[0]), len(last))
    nothing = [[Fraction(0)] * k for _ in range(k)]
    through = by(mean, second)  # from w1 to v2 there is `second`; from x, through the mean slope
    rows = [
        [a + b + c for a, b, c in zip(first, nothing, nothing, strict=True)],
        [a + b + c for a, b, c in zip(times(through, first), second, nothing, strict=True)],
        [
            a + b + c
            for a, b, c in zip(
                times(by(mean, last), times(through, first)), times(by(mean, last), second), last, strict=True
            )
        ],
    ]
    a, e, c = ([Fraction(float(v)) for v in part] for part in (scaling.inputs, scaling.hidden, scaling.outputs))
    before = [*(rest / v for v in e), *c]
    after = [*a, *e]
    whole = [row for block in rows for row in block]
    assert len(whole) == 2 * k + m
    assert len(whole[0]) == n + 2 * k
    return [[r * v * s for v, s in zip(row, after, strict=True)] for r, row in zip(before, whole, strict=True)]


def is_below_one(matrix: Matrix) -> bool:
    """Whether |M|_2 <= 1: I - M M' is positive semidefinite, by elimination without any rounding."""
    gram = times(matrix, [list(column) for column in zip(*matrix, strict=True)])
    form = [[Fraction(int(i == j)) - v for j, v in enumerate(row)] for i, row in enumerate(gram)]
    while form:
        pivot = form[0][0]
        if pivot < 0 or (pivot == 0 and any(form[0][1:])):
            return False
        form = [
            [v - (row[0] * w / pivot if pivot else 0) for v, w in zip(row[1:], form[0][1:], strict=True)]
            for row in form[1:]
        ]
    return True


def tiny(rng: np.random.Generator, alpha: float, k: int = 2) -> tuple[list[np.ndarray], Problem]:
    weights = [rng.normal(size=shape) for shape in ((k, 2), (k, k), (1, k))]
    nodes: list[Node] = [Input("x", (2,))]
    for w in weights:
        nodes.append(Affine((len(nodes) - 1,), (Dense(w),), exact(np.zeros(len(w))), (len(w),)))
        nodes.append(Elementwise(len(nodes) - 1, LeakyRelu(alpha), (len(w),)))
    return weights, pose(Graph(tuple(nodes[:-1]), (Output("y", len(nodes) - 2),)), Query())


@pytest.mark.parametrize("arithmetic", [Arithmetic, BallArithmetic], ids=["float64", "balls"])
@pytest.mark.parametrize("seed", range(8))
def test_what_the_kernel_proves_of_the_scaled_matrix_is_true_in_exact_arithmetic(
    seed: int, arithmetic: type[Arithmetic]
) -> None:
    """At the largest scales of outputs that it proves; and a millionth beyond, it is not true."""
    rng = np.random.default_rng([seed, 8])
    alpha = (0.0, 0.5, -0.25, 0.1)[seed % 4]
    weights, problem = tiny(rng, alpha)
    setting = setting_of(problem, True, arithmetic())
    scaling = tight(setting, rng, ("equal", "random", "bad")[seed % 3])

    def moved(factor: float) -> Scaling:
        return replace(scaling, outputs=scaling.outputs * factor)

    def proves(factor: float) -> bool:
        return setting.by.proves_spectral(scaled_matrix(setting, moved(factor)), 1.0)

    slopes = Fraction(alpha), Fraction(1)
    factor = largest(proves)
    assert proves(factor)
    assert is_below_one(exact_matrix(weights, moved(factor), *slopes))
    assert not is_below_one(exact_matrix(weights, moved(factor * (1 + 1e-6)), *slopes))
    assert not proves(factor * (1 + 1e-6))
    truth = max(1 / Fraction(float(v)) for v in scaling.inputs) / Fraction(float(moved(factor).outputs[0]))
    bound = scaled_bound(setting, Scaled(True, (moved(factor),)))
    assert truth <= Fraction(bound) <= truth * (1 + Fraction(1, 10**14))


@pytest.mark.parametrize("seed", range(4))
def test_enclosures_of_the_scaled_matrix_hold_the_exact_one(seed: int) -> None:
    """With slopes and scales rounded towards larger entries."""
    rng = np.random.default_rng([seed, 9])
    weights, problem = tiny(rng, 0.5, 3)
    scaling = Scaling(*(10.0 ** rng.uniform(-3, 3, n) for n in (2, 6, 1)))
    for arithmetic in (Arithmetic(), BallArithmetic()):
        found = scaled_matrix(setting_of(problem, True, arithmetic), scaling)
        truth = exact_matrix(weights, scaling, Fraction(1, 2), Fraction(1))
        for i, row in enumerate(truth):
            for j, v in enumerate(row):
                value, radius = Fraction(float(found.value[i, j])), Fraction(float(found.full_radius()[i, j]))
                assert abs(v) <= abs(value) + radius
                assert abs(v - value) + radius <= Fraction(1, 10**13) * max(map(abs, row))
                assert v == 0 if value == 0 else value * v > 0


# M from the definition: one unit of one source moved, all others held, and what every row then sees.


def from_definition(setting: Setting, scaling: Scaling) -> np.ndarray:
    graph, nodes = setting.graph, setting.increments.nonlinear
    columns = []
    scales = dict(zip(nodes, np.split(scaling.hidden, np.cumsum(neurons(setting))[:-1]), strict=True)) if nodes else {}
    for source, scale in ((setting.x, scaling.inputs), *scales.items()):
        for j in range(graph.size(source)):
            moved = _moved(graph, source, j)
            seen = []
            for node in nodes:
                bound = setting.increments.bound(node)
                assert bound is not None
                each = scales[node]
                if isinstance(bound, BlockBound):
                    each = np.repeat(each.reshape(len(bound.columns), -1)[:, 0], bound.columns.shape[1])
                seen.append(bound.spectral / each * moved[graph.nodes[node].inputs[0]])
            seen.append(scaling.outputs * moved[setting.y])
            columns.append(scale[j] * np.concatenate(seen))
    return np.stack(columns, axis=1)


def _moved(graph: Graph, source: int, entry: int) -> list[np.ndarray]:
    """The increments of all nodes where one entry of one node moves by one, and other nonlinear nodes do not."""
    found: list[np.ndarray] = []
    for i, node in enumerate(graph.nodes):
        if i == source:
            found.append(np.eye(graph.size(i))[entry])
        elif isinstance(node, Affine):
            parts = [op.matvec(found[s]) for s, op in zip(node.inputs, node.operators, strict=True)]
            found.append(np.sum(parts, axis=0))
        else:
            assert isinstance(node, Increment | Input)
            found.append(np.zeros(graph.size(i)))
    return found


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_scaled_matrix_is_the_one_of_the_definition(name: str, center: bool) -> None:
    rng = np.random.default_rng([*name.encode(), 11])
    for region in REGIONS.values():
        setting = setting_of(pose(NETWORKS[name](rng), Query(region=region(rng))), center)
        sizes = setting.graph.size(setting.x), sum(neurons(setting)), setting.graph.size(setting.y)
        inputs, hidden, outputs = (10.0 ** rng.uniform(-2, 2, n) for n in sizes)
        scaling = Scaling(inputs, same_in_groups(setting, hidden), outputs)
        found, expected = scaled_matrix(setting, scaling), from_definition(setting, scaling)
        assert found.shape == expected.shape
        slack = found.full_radius() + 1e-12 * np.abs(expected).max(axis=0)
        assert np.all(np.abs(found.value - expected) <= slack)
        assert np.all(found.full_radius() <= 1e-12 * (1 + np.abs(expected).max()))


def test_the_matrix_of_a_relu_network_is_the_jacobian_pieces_around_the_mean_slope() -> None:
    """From the network itself, not from its increments: neurons of fixed slope are linear."""
    rng = np.random.default_rng(12)
    first, last = rng.normal(size=(4, 2)), rng.normal(size=(3, 4))
    bias = np.array([0.0, 9.0, -9.0, 0.1])  # the second neuron is on, the third off
    nodes = (
        Input("x", (2,)),
        Affine((0,), (Dense(first),), exact(bias), (4,)),
        Elementwise(1, Relu(), (4,)),
        Affine((2, 0), (Dense(last), Dense(rng.normal(size=(3, 2)))), exact(np.zeros(3)), (3,)),
    )
    direct = nodes[3].operators[1].weights  # type: ignore[union-attr]
    problem = pose(Graph(nodes, (Output("y", 3),)), Query(region=Ball(np.zeros(2), 0.5, 2.0)))
    open_ones, mean = [0, 3], np.diag([0.5, 1.0, 0.0, 0.5])
    a, e, c = rng.random(2) + 0.5, rng.random(2) + 0.5, rng.random(3) + 0.5
    expected = np.block(
        [
            [np.diag(0.5 / e) @ first[open_ones] @ np.diag(a), np.zeros((2, 2))],
            [np.diag(c) @ (last @ mean @ first + direct) @ np.diag(a), np.diag(c) @ last[:, open_ones] @ np.diag(e)],
        ]
    )
    np.testing.assert_allclose(scaled_matrix(setting_of(problem), Scaling(a, e, c)).value, expected, rtol=1e-13)


# What is refused.


def usual() -> tuple[Setting, Scaling]:
    rng = np.random.default_rng(13)
    setting = setting_of(pose(NETWORKS["groupsort of 3"](rng), Query()))
    return setting, tight(setting, rng, "random")


PARTS = ("inputs", "hidden", "outputs")
in_both = pytest.mark.parametrize("arithmetic", [Arithmetic, BallArithmetic], ids=["float64", "balls"])


@in_both
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("edit", ["shorter", "longer", "empty", "a column", "a scalar"])
def test_scales_of_another_size_are_refused(part: str, edit: str, arithmetic: type[Arithmetic]) -> None:
    setting, scaling = usual()
    array = getattr(scaling, part)
    changed = {
        "shorter": array[:-1],
        "longer": np.append(array, 1.0),
        "empty": array[:0],
        "a column": array[:, None],
        "a scalar": np.array(1.0),
    }[edit]
    with pytest.raises(NotProvedError, match="do not fit"):
        scaled_bound(replace(setting, by=arithmetic()), Scaled(True, (replace(scaling, **{part: changed}),)))


@in_both
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("value", [0.0, -0.0, -1.0, -1e-300, math.nan, math.inf, -math.inf])
def test_a_scale_that_is_not_finite_and_positive_is_refused(
    part: str, value: float, arithmetic: type[Arithmetic]
) -> None:
    """Zero is an output left out, which then has no bound."""
    setting, scaling = usual()
    for place in (0, -1):
        array = getattr(scaling, part).copy()
        array[place] = value
        evidence = Scaled(True, (replace(scaling, **{part: array}),))
        if part == "outputs" and value == 0:
            assert scaled_bound(replace(setting, by=arithmetic()), evidence) == math.inf
        else:
            with pytest.raises(NotProvedError, match="is not a finite number"):
                scaled_bound(replace(setting, by=arithmetic()), evidence)


@pytest.mark.parametrize("q", OUT)
def test_outputs_that_no_scaling_speaks_of_are_not_bounded(q: Norm) -> None:
    rng = np.random.default_rng(14)
    problem = pose(NETWORKS["relu"](rng), Query(norm_out=q))
    setting = setting_of(problem)
    scaling = tight(setting, rng, "random")
    for left in (np.zeros(2), np.array([1.0, 0.0]), np.array([0.0, 1.0])):
        evidence = Scaled(True, (replace(scaling, outputs=scaling.outputs * left),))
        assert scaled_bound(setting, evidence) == math.inf
        with pytest.raises(NotProvedError, match="above the claimed"):
            verify(problem, Claim(ENOUGH, evidence))


def test_no_scalings_prove_nothing() -> None:
    with pytest.raises(NotProvedError, match="no scaling is given"):
        scaled_bound(usual()[0], Scaled(True, ()))


@pytest.mark.parametrize("q", [1.0, 2.0])
def test_several_scalings_bound_outputs_in_linf_only(q: Norm) -> None:
    setting, scaling = usual()
    halves = [replace(scaling, outputs=scaling.outputs * half) for half in (np.array([1.0, 0]), np.array([0, 1.0]))]
    for scalings in (halves, [scaling, scaling]):
        evidence = Scaled(True, tuple(scalings))
        with pytest.raises(NotProvedError, match="l-infinity only"):
            scaled_bound(with_norms(setting, 2.0, q), evidence)
        assert math.isfinite(scaled_bound(with_norms(setting, 2.0, math.inf), evidence))


@pytest.mark.parametrize("name", ["groupsort of 3", "groupsort of 4"])
def test_scales_that_differ_within_a_group_are_refused(name: str) -> None:
    rng = np.random.default_rng(15)
    setting = setting_of(pose(NETWORKS[name](rng), Query()))
    scaling = tight(setting, rng, "random")
    for place in range(scaling.hidden.size):
        hidden = scaling.hidden.copy()
        hidden[place] = np.nextafter(hidden[place], 0)
        with pytest.raises(NotProvedError, match=r"scales of a group of node \d+ differ"):
            scaled_bound(setting, Scaled(True, (replace(scaling, hidden=hidden),)))


@pytest.mark.parametrize(("limit", "value"), [("MAX_ROWS", 13), ("MAX_ENTRIES", 14 * 15 - 1)])
def test_networks_over_the_size_limit_are_refused(limit: str, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    setting, scaling = usual()
    assert scaled_matrix(setting, scaling).shape == (14, 15)
    monkeypatch.setattr(scaled, limit, value + 1)
    scaled_bound(setting, Scaled(True, (scaling,)))
    monkeypatch.setattr(scaled, limit, value)
    with pytest.raises(NotProvedError, match="12 neurons are over the kernel's size limit"):
        scaled_bound(setting, Scaled(True, (scaling,)))


@pytest.mark.parametrize("weight", [0.0, 1.0])
@in_both
def test_nodes_of_infinite_slope_are_refused_whatever_reads_them(weight: float, arithmetic: type[Arithmetic]) -> None:
    nodes = (
        Input("x", (1,)),
        Elementwise(0, Sqrt(), (1,)),
        Affine((1, 0), (Dense(np.array([[weight]])), Identity(1)), exact(np.zeros(1)), (1,)),
    )
    region = Ball(np.ones(1), 1.0, 2.0)
    setting = setting_of(pose(Graph(nodes, (Output("y", 2),)), Query(region=region)), True, arithmetic())
    for size in (1e-300, 1e-3, 1.0, 1e300):
        scaling = Scaling(np.array([1e-3]), np.array([size]), np.array([1e-3]))
        with pytest.raises(NotProvedError, match="not proven to be below 1"):
            scaled_bound(setting, Scaled(True, (scaling,)))


def test_a_scaled_matrix_above_one_is_refused() -> None:
    """By a millionth, in any of the three kinds of scales."""
    setting, scaling = usual()
    assert scaled_bound(setting, Scaled(True, (scaling,))) > 0
    for part in ("inputs", "outputs"):
        changed = replace(scaling, **{part: getattr(scaling, part) * 1.5})
        with pytest.raises(NotProvedError, match=r"scaled increments, 14 x 15, are not proven to be below 1"):
            scaled_bound(setting, Scaled(True, (changed,)))
    beyond = replace(scaling, outputs=scaling.outputs * (1 + 1e-6))
    with pytest.raises(NotProvedError, match="not proven"):
        scaled_bound(setting, Scaled(True, (beyond,)))


# Outputs in l-infinity.


@pytest.mark.parametrize("p", IN)
def test_several_scalings_bound_each_output_by_the_least_and_all_by_the_largest_of_these(p: Norm) -> None:
    rng = np.random.default_rng(16)
    build = Builder(rng)
    build.affine(3, build.active(build.affine(4, 0), Relu()))
    problem = pose(build.graph(), Query(norm_in=p, norm_out=math.inf))
    setting = setting_of(problem)
    spoken = [np.array(c, dtype=float) for c in ([1, 0, 0], [0, 1, 0], [0, 1, 1], [1, 1, 0], [1, 1, 1], [0, 0, 1])]
    scalings = [tight(setting, rng, "random", c) for c in spoken]

    def alone(scaling: Scaling) -> float:
        inverse = 1 / scaling.inputs
        into = np.linalg.norm(inverse) if p == math.inf else inverse.max()
        return float(into / scaling.outputs[scaling.outputs > 0].min())

    for chosen in ([0, 1, 5], [0, 2], [4], [4, 0], [3, 5, 0], [5, 3, 4], range(6)):
        some = [scalings[i] for i in chosen]
        per_output = [min(alone(s) for s in some if s.outputs[k]) for k in range(3)]
        assert scaled_bound(setting, Scaled(True, tuple(some))) == pytest.approx(max(per_output), rel=1e-12)
        assert attained(problem, rng)[p, math.inf] <= max(per_output) * MARGIN
    assert scaled_bound(setting, Scaled(True, (scalings[0], scalings[1]))) == math.inf


def test_one_scaling_that_is_not_proven_spoils_all() -> None:
    rng = np.random.default_rng(17)
    setting = with_norms(setting_of(pose(NETWORKS["relu"](rng), Query())), 2.0, math.inf)
    good = tight(setting, rng, "random")
    bad = replace(good, outputs=good.outputs * 2)
    for scalings in ((good, bad), (bad, good)):
        with pytest.raises(NotProvedError, match="not proven"):
            scaled_bound(setting, Scaled(True, scalings))


# In ball arithmetic, and at the edges.


@pytest.mark.parametrize("name", NETWORKS)
def test_ball_arithmetic_proves_the_same(name: str) -> None:
    rng = np.random.default_rng([*name.encode(), 18])
    problem = pose(NETWORKS[name](rng), Query(region=REGIONS["a ball"](rng)))
    setting = setting_of(problem)
    scaling = tight(setting, rng, "random")
    scaling = replace(scaling, outputs=scaling.outputs * (1 - 1e-9))
    balls = setting_of(problem, True, BallArithmetic())
    for p in IN:
        for q in OUT:
            values = [scaled_bound(with_norms(s, p, q), Scaled(True, (scaling,))) for s in (setting, balls)]
            assert values[0] == pytest.approx(values[1], rel=1e-12)
    beyond = replace(scaling, outputs=scaling.outputs * (1 + 1e-7))
    with pytest.raises(NotProvedError, match="not proven"):
        scaled_bound(balls, Scaled(True, (beyond,)))


def test_a_linear_network_needs_no_hidden_scales_and_a_constant_one_is_bounded_by_anything() -> None:
    weights = np.array([[3.0, 0.0], [0.0, 4.0]])
    linear = (Input("x", (2,)), Affine((0,), (Dense(weights),), exact(np.zeros(2)), (2,)))
    setting = setting_of(pose(Graph(linear, (Output("y", 1),)), Query()))
    scaling = Scaling(np.full(2, 0.25), np.zeros(0), np.full(2, 1 - 1e-12))
    assert scaled_bound(setting, Scaled(True, (scaling,))) == pytest.approx(4.0, rel=1e-11)
    constant = (linear[0], Affine((0,), (Dense(0 * weights),), exact(np.zeros(2)), (2,)))
    setting = setting_of(pose(Graph(constant, (Output("y", 1),)), Query()))
    huge = Scaling(np.full(2, 1e300), np.zeros(0), np.full(2, 1e300))
    assert 0 <= scaled_bound(setting, Scaled(True, (huge,))) <= 1e-300


def test_an_input_that_may_be_anything_does_not_move() -> None:
    """A second input, and a nonlinear node that reads only it: their columns and rows are zero."""
    rng = np.random.default_rng(19)
    nodes = (
        Input("a", (2,)),
        Input("b", (2,)),
        Elementwise(1, Relu(), (2,)),
        Elementwise(0, Relu(), (2,)),
        Affine((2, 3, 1), tuple(Dense(rng.normal(size=(2, 2))) for _ in range(3)), exact(np.zeros(2)), (2,)),
    )
    graph = Graph(nodes, (Output("y", 4),))
    problem = pose(graph, Query(inputs=("a",)))
    setting = setting_of(problem)
    matrix = scaled_matrix(setting, Scaling(np.ones(2), np.ones(4), np.ones(2)))
    moving = [i for i in setting.increments.nonlinear if i == setting.increments.nonlinear[-1]]
    assert len(moving) == 1
    assert matrix.shape == (6, 6)
    assert np.count_nonzero(matrix.value[:2]) == 0  # what reads b
    scaling = tight(setting, rng, "random")
    assert attained(problem, rng)[2.0, 2.0] <= scaled_bound(setting, Scaled(True, (scaling,))) * MARGIN


@in_both
def test_quotients_of_slopes_and_scales_are_rounded_up(arithmetic: type[Arithmetic]) -> None:
    """Groups whose Jacobian has norm one exactly: 1 / e itself is the entry."""
    nodes = (
        Input("x", (5,)),
        Affine((0,), (Identity(5),), exact(np.zeros(5)), (5,)),
        Groupwise(1, GroupMax(5), (1,)),
        Affine((2,), (Identity(1),), exact(np.zeros(1)), (1,)),
    )
    setting = setting_of(pose(Graph(nodes, (Output("y", 3),)), Query()), True, arithmetic())
    for size in np.random.default_rng(20).uniform(1, 1000, 50):
        found = scaled_matrix(setting, Scaling(np.ones(5), np.full(1, size), np.ones(1)))
        for i in range(5):
            assert Fraction(found.value[i, i]) + Fraction(found.full_radius()[i, i]) >= 1 / Fraction(float(size))
