"""No value of any node leaves the boxes by linear bounds, claims say what they rest on, and refusals are refusals."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import lipcert
from lipcert.activations import Abs, Activation, LeakyRelu, Power, Relu, Tanh
from lipcert.activations.sorting import GroupMax
from lipcert.arithmetic.enclosure import Enclosure, exact
from lipcert.certificate import Claim, verify
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.balls import BallArithmetic
from lipcert.certificate.boxes import Bounds, propagate
from lipcert.certificate.claim import AbsoluteChain, Composed
from lipcert.certificate.linear_bounds import linear_boxes
from lipcert.errors import NotProvedError
from lipcert.graph import Affine, Elementwise, Graph, Input, Node, Output
from lipcert.methods import Progress, Unsuitable
from lipcert.operators import Dense, Identity, Selection
from lipcert.planning import METHODS
from lipcert.problem import Ball, Box, Everywhere, Norm, Problem, Query, Region, pose
from tests.certificate.test_boxes import (
    POINTS,
    SEEDS,
    assert_members_inside,
    random_inputs,
    random_problem,
    region_of,
    single,
)
from tests.helpers.balls import is_within, member_values, precision
from tests.helpers.compositions import BLOCKS, blocks
from tests.helpers.graphs import CLASSIC
from tests.helpers.implicit import random_implicit
from tests.helpers.inequalities import Builder, forked, residual
from tests.helpers.operators import random_convolution
from tests.helpers.paths import MODELS
from tests.helpers.sampling import random_points, realise, values

REGIONS = ["linf", "l2", "l1", "box", "point", "flat box", "huge ball", "tiny ball"]
ENDS = 1e-12
"""What values in extended precision may err by, relatively."""


def chain(rng: np.random.Generator) -> Graph:
    return blocks(rng, "layer", "layer", "layer", width=6)


def branches(rng: np.random.Generator) -> Graph:
    return blocks(rng, *rng.choice(BLOCKS, 3).tolist())


def products(rng: np.random.Generator) -> Graph:
    build = Builder(rng)
    at = build.affine(4, 0)
    both = build.times(build.active(at, Tanh()), build.affine(4, build.active(at, Relu())))
    build.affine(3, build.active(build.affine(4, both, at), Abs()), at)
    return build.graph()


def convolutional(rng: np.random.Generator) -> Graph:
    first = random_convolution(rng, 12, radius=0.0)
    nodes: list[Node] = [Input("x", (12,))]
    nodes.append(Affine((0,), (first,), exact(rng.normal(size=first.out_size)), (first.out_size,)))
    nodes.append(Elementwise(1, Relu(), (first.out_size,)))
    second = random_convolution(rng, first.out_size, radius=0.0)
    nodes.append(Affine((2,), (second,), exact(rng.normal(size=second.out_size)), (second.out_size,)))
    nodes.append(Elementwise(3, Tanh(), (second.out_size,)))
    head = Dense(rng.normal(size=(3, second.out_size)))
    nodes.append(Affine((4,), (head,), exact(np.zeros(3)), (3,)))
    return Graph(tuple(nodes), (Output("y", 5),))


def several_consumers(rng: np.random.Generator) -> Graph:
    """An affine node read by a relu that is open, another affine node, and twice by one node; entries left out."""
    build = Builder(rng)
    at = build.affine(5, 0)
    open_end = build.active(at, Relu())
    twice = build.affine(5, at, at, open_end, open_end)
    picked = Affine((twice, at), (Selection(np.array([4, -1, 0, 2]), 5), Selection(np.array([-1, 3, 3, -1]), 5)),
                    exact(rng.normal(size=4)), (4,))  # fmt: skip
    build.nodes.append(picked)
    build.affine(3, build.active(len(build.nodes) - 1, Tanh()), build.grouped(len(build.nodes) - 1, GroupMax(2)), twice)
    return build.graph()


GRAPHS: dict[str, Callable[[np.random.Generator], Graph]] = {
    "chain": chain,
    "residual": residual,
    "forked": forked,
    "branches": branches,
    "products": products,
    "convolutional": convolutional,
    "several consumers": several_consumers,
}


def posed(make: Callable[[np.random.Generator], Graph], kind: str, seed: int) -> tuple[np.random.Generator, Problem]:
    rng = np.random.default_rng([seed, *kind.encode()])
    graph = make(rng)
    size = graph.size(next(iter(graph.inputs.values())))
    region = region_of(rng, kind if kind != "tiny ball" else "l2", size)
    if kind == "tiny ball" and isinstance(region, Ball):
        region = replace(region, eps=1e-12, norm=(1.0, 2.0, math.inf)[seed % 3])
    return rng, pose(graph, Query(region=region))


def corners(region: Region, n: int, rng: np.random.Generator) -> np.ndarray:
    """Up to 64 corners of a box or of the ball; the ends of the axes of those in l1 and l2."""
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=n)) if n <= 6 else rng.choice([-1.0, 1.0], (64, n)))
    if isinstance(region, Box):
        return np.where(signs > 0, region.upper, region.lower)
    assert isinstance(region, Ball)
    if region.norm != math.inf:
        signs = np.concatenate([np.eye(n), -np.eye(n)])
    return region.center + signs * region.eps * (1 - 1e-15)


def attacked(problem: Problem, rng: np.random.Generator, boxes: list[Bounds], count: int) -> dict[str, np.ndarray]:
    """Random points and corners, and those where outputs and what nonlinear nodes read were extreme, moved on."""
    graph, region = problem.graph, problem.query.region
    inputs = random_inputs(rng, problem, count)
    name = next(n for n, i in graph.inputs.items() if i == problem.x)
    ends = corners(region, problem.size_in, rng)[:count]
    inputs[name][: len(ends)] = ends
    found = values(graph, {k: v.astype(np.longdouble) for k, v in inputs.items()})
    best = []
    for i, (lower, upper) in enumerate(boxes):
        if isinstance(graph.nodes[i], Affine) and np.all(np.isfinite(upper - lower)):
            at = np.broadcast_to(found[i], (count, len(lower)))
            best += [np.argmax(at, axis=0), np.argmin(at, axis=0)]
    if best:
        chosen = np.concatenate(best)[:500]
        fresh = random_points(region, problem.size_in, rng, len(chosen))
        moved = {k: v[chosen].copy() for k, v in inputs.items()}
        moved[name] += 0.05 * (fresh - moved[name])  # regions are convex
        inputs = {k: np.concatenate([v, moved[k]]) for k, v in inputs.items()}
    return {k: v.astype(np.longdouble) for k, v in inputs.items()}


def assert_inside(boxes: list[Bounds], found: list[np.ndarray]) -> None:
    for i, ((lower, upper), value) in enumerate(zip(boxes, found, strict=True)):
        spare = ENDS * (1 + np.abs(value).max(initial=0))
        assert np.all(lower - spare <= value), i
        assert np.all(value <= upper + spare), i


def assert_no_wider(boxes: list[Bounds], intervals: list[Bounds]) -> None:
    """But for roundings: enclosures have other middles, and some were as large as the input."""
    for (lower, upper), (low, high) in zip(boxes, intervals, strict=True):
        spare = 1e-9 * (1 + np.abs(lower) + np.abs(upper))
        assert np.all((lower >= low - spare) | (low == -math.inf))
        assert np.all((upper <= high + spare) | (high == math.inf))
        assert np.all(lower <= upper)


@pytest.mark.parametrize("kind", REGIONS)
@pytest.mark.parametrize("name", GRAPHS)
def test_no_attacked_point_leaves_the_boxes(name: str, kind: str) -> None:
    for seed in range(3):
        rng, problem = posed(GRAPHS[name], kind, seed)
        boxes = linear_boxes(problem, Arithmetic())
        assert_no_wider(boxes, propagate(problem, Arithmetic()))
        assert_inside(boxes, values(problem.graph, attacked(problem, rng, boxes, 1500)))


@pytest.mark.one_in(2)
@pytest.mark.parametrize("kind", [k for k in REGIONS if k != "tiny ball"])
def test_no_sampled_point_of_random_graphs_leaves_the_boxes(kind: str) -> None:
    """Weights within radii, free inputs and all kinds of nodes among them."""
    for seed in SEEDS:
        rng, problem = random_problem(seed, kind)
        boxes = linear_boxes(problem, Arithmetic())
        assert_no_wider(boxes, propagate(problem, Arithmetic()))
        for _ in range(2):
            network = replace(problem, graph=realise(problem.graph, rng))
            assert_inside(boxes, values(network.graph, attacked(network, rng, boxes, POINTS // 3)))


@pytest.mark.parametrize("kind", [k for k in REGIONS if k != "tiny ball"])
def test_no_point_leaves_the_boxes_by_a_rounding(kind: str) -> None:
    """Fewer points, without any slack: ends of the radii among them."""
    for seed in range(12):
        rng, problem = random_problem(seed, kind, CLASSIC)
        assert_members_inside(rng, problem, linear_boxes(problem, Arithmetic()))


@pytest.mark.parametrize("entries", [1, 40])
def test_rows_may_be_bounded_a_few_at_a_time(entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for make in GRAPHS.values():
        _, problem = posed(make, "linf", 5)
        whole = linear_boxes(problem, Arithmetic())
        with monkeypatch.context() as patch:
            patch.setattr("lipcert.certificate.planes.ENTRIES", entries)
            parts = linear_boxes(problem, Arithmetic())
        for one, other in zip(whole, parts, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


def layered(*layers: Activation | tuple[np.ndarray, np.ndarray], inputs: int) -> Graph:
    nodes: list[Node] = [Input("in", (inputs,))]
    for layer in layers:
        last = len(nodes) - 1
        if isinstance(layer, Activation):
            nodes.append(Elementwise(last, layer, nodes[-1].shape))
        else:
            nodes.append(Affine((last,), (Dense(layer[0]),), exact(layer[1]), layer[1].shape))
    return Graph(tuple(nodes), (Output("y", len(nodes) - 1),))


def fractions(array: np.ndarray) -> np.ndarray:
    out = np.empty(array.shape, dtype=object)
    out.reshape(-1)[:] = [Fraction(float(v)) for v in array.reshape(-1)]
    return out


def relu_parts(low: Fraction, high: Fraction, rising: bool) -> tuple[Fraction, Fraction]:
    """Slope and offset of the line of relu over [low, high] that an upper bound rests on, of the best of all slopes."""
    if low >= 0 or high <= 0:
        return Fraction(int(low >= 0)), Fraction(0)
    if rising:
        return high / (high - low), -low * high / (high - low)
    return Fraction(int(high > -low)), Fraction(0)


@pytest.mark.parametrize("seed", range(8))
def test_one_hidden_layer_is_bounded_as_in_fractions(seed: int) -> None:
    """Barely above the exact maximum of the relaxed network over the corners, and above the network on a grid."""
    rng = np.random.default_rng([seed, 7])
    w, b, v, c = rng.normal(size=(5, 2)), rng.normal(size=5) * 0.3, rng.normal(size=(2, 5)), rng.normal(size=2)
    center = rng.normal(size=2) * 0.2
    box = Box(center - 0.75, center + 0.75)
    problem = pose(layered((w, b), Relu(), (v, c), inputs=2), Query(region=box))
    lower, upper = linear_boxes(problem, Arithmetic())[problem.y]
    W, B, V, C = map(fractions, (w, b, v, c))
    ends = [
        np.array(p, dtype=object)
        for p in itertools.product(*zip(fractions(box.lower), fractions(box.upper), strict=True))
    ]
    hidden = np.array([W @ x + B for x in ends])
    low, high = hidden.min(axis=0), hidden.max(axis=0)
    for sign, bound in ((1, upper), (-1, -lower)):
        for row in range(2):
            weights = sign * V[row]
            parts = [relu_parts(low[i], high[i], weights[i] > 0) for i in range(5)]
            slopes, offsets = (np.array(part, dtype=object) for part in zip(*parts, strict=True))
            relaxed = max(weights @ (slopes * (W @ x + B) + offsets) + sign * C[row] for x in ends)
            apart = sum(t * max(high[i] if t > 0 else low[i], Fraction(0)) for i, t in enumerate(weights))
            least = min(relaxed, apart + sign * C[row])
            assert Fraction(float(bound[row])) >= least
            assert float(Fraction(float(bound[row])) - least) <= 1e-11
    steps = [Fraction(i, 24) for i in range(25)]
    l, u = fractions(box.lower), fractions(box.upper)
    for s in itertools.product(steps, repeat=2):
        z = W @ (l + (u - l) * np.array(s, dtype=object)) + B
        y = V @ np.array([max(t, Fraction(0)) for t in z], dtype=object) + C
        assert np.all(fractions(lower) <= y)
        assert np.all(y <= fractions(upper))


@pytest.mark.parametrize("norm", [1.0, 2.0, math.inf])
def test_two_affine_layers_reach_the_dual_norm(norm: Norm) -> None:
    """An active relu in between is linear, which intervals would not see."""
    rng = np.random.default_rng(11)
    w, v, center = rng.normal(size=(4, 6)), rng.normal(size=(3, 4)), rng.normal(size=6)
    graph = layered((w, np.full(4, 100.0)), Relu(), (v, -v @ np.full(4, 100.0)), inputs=6)
    problem = pose(graph, Query(region=Ball(center, 0.3, norm)))
    lower, upper = linear_boxes(problem, Arithmetic())[problem.y]
    reach = 0.3 * np.linalg.norm(v @ w, {1.0: math.inf, 2.0: 2, math.inf: 1}[norm], axis=1)
    np.testing.assert_allclose(lower, v @ w @ center - reach, atol=1e-10)
    np.testing.assert_allclose(upper, v @ w @ center + reach, atol=1e-10)


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e-30, 1e30, 1e140])
def test_weights_of_all_magnitudes(scale: float) -> None:
    """Without any slack, up to what overflows."""
    for seed, shrink in itertools.product(range(4), (1.0, 1 / scale)):
        rng = np.random.default_rng([seed, 13])
        w, v = rng.normal(size=(3, 2)) * scale, rng.normal(size=(3, 3)) * shrink
        graph = layered((w, rng.normal(size=3)), Relu(), (v, rng.normal(size=3)), Tanh(), (v.T, np.zeros(3)), inputs=2)
        problem = pose(graph, Query(region=Ball(rng.normal(size=2), 0.5, 2.0)))
        try:
            boxes = linear_boxes(problem, Arithmetic())
        except NotProvedError:
            continue
        with precision():
            found = member_values(rng, problem.graph, random_inputs(rng, problem, 6))
            for (lower, upper), value in zip(boxes, found, strict=True):
                for row in np.broadcast_to(value, (6, len(lower))):
                    assert all(map(is_within, row, lower.tolist(), upper.tolist())), (seed, shrink)


@pytest.mark.parametrize(
    "region", [Ball(np.zeros(1), 1e-3, 2.0), Ball(np.ones(1), 0.0, 1.0), Box(np.zeros(1), np.ones(1))]
)
@pytest.mark.parametrize("activation", [Tanh(), Relu(), LeakyRelu(-0.5)], ids=lambda a: a.describe())
def test_an_overflow_ends_in_a_refusal_or_in_boxes_that_hold(activation: Activation, region: Region) -> None:
    big = np.array([[1e200]]), np.zeros(1)
    graph = layered(big, activation, big, big, Tanh(), (np.ones((1, 1)), np.zeros(1)), inputs=1)
    problem = pose(graph, Query(region=region))
    try:
        boxes = linear_boxes(problem, Arithmetic())
    except NotProvedError:
        return
    with precision():
        low, high = region.bounds(1)
        found = member_values(np.random.default_rng(0), problem.graph, {"x": np.array([low, high, (low + high) / 2])})
        for (lower, upper), value in zip(boxes, found, strict=True):
            assert all(is_within(v[0], float(lower[0]), float(upper[0])) for v in value)


@pytest.mark.parametrize("seed", range(4))
def test_coefficients_that_are_added_many_times_are_rounded_outward(seed: int) -> None:
    """w (x + ... + x): every partial sum of coefficients is rounded, the same way mostly."""
    rng, times = np.random.default_rng([seed, 17]), 1000
    w, x = rng.uniform(0.5, 1, size=2).tolist()
    nodes = (
        Input("in", (1,)),
        Affine((0,) * times, (Identity(1),) * times, exact(np.zeros(1)), (1,)),
        Affine((1,), (Dense(np.array([[w]])),), exact(np.zeros(1)), (1,)),
    )
    problem = pose(Graph(nodes, (Output("y", 2),)), Query(region=Box(np.array([x]), np.array([x]))))
    lower, upper = linear_boxes(problem, Arithmetic())[problem.y]
    value = Fraction(w) * times * Fraction(x)
    assert Fraction(float(lower[0])) <= value <= Fraction(float(upper[0]))


def squares(x: float) -> Problem:
    """relu(2e-24 - 1e300 x^2) at a point."""
    graph = layered(
        Power(2), (np.array([[-1e300]]), np.array([2e-24])), Relu(), (np.ones((1, 1)), np.zeros(1)), inputs=1
    )
    return pose(graph, Query(region=Box(np.array([x]), np.array([x]))))


def test_a_line_that_underflows_leaves_boxes_that_hold() -> None:
    x = 1.1e-162
    problem = squares(x)
    boxes = linear_boxes(problem, Arithmetic())
    square = Fraction(x) ** 2
    exactly = [Fraction(x), Fraction(x), square, Fraction(2e-24) - Fraction(1e300) * square]
    for (lower, upper), value in zip(boxes, exactly, strict=False):
        assert Fraction(float(lower[0])) <= value <= Fraction(float(upper[0]))


def test_a_claim_that_rests_on_a_line_that_underflows_is_refused() -> None:
    """The relu is on, and the slope 2.2e138."""
    with pytest.raises(NotProvedError):
        verify(squares(1.1e-162), Claim(0.0, AbsoluteChain(False), linear=True))


def test_only_bounded_regions_and_explicit_networks_have_linear_boxes() -> None:
    problem = pose(single(Tanh(), np.eye(2), np.zeros(2)), Query(region=Everywhere()))
    with pytest.raises(NotProvedError, match="bounded region"):
        linear_boxes(problem, Arithmetic())
    graph = random_implicit(np.random.default_rng(0), 3, 2, 2).graph()
    problem = pose(graph, Query(region=Ball(np.zeros(2), 0.1, 2.0)))
    with pytest.raises(NotProvedError, match="need the box of the fixed point"):
        linear_boxes(problem, Arithmetic())


def test_a_free_input_stays_unbounded() -> None:
    nodes = (
        Input("x", (1,)),
        Input("z", (1,)),
        Affine((0, 1), (Identity(1), Identity(1)), exact(np.zeros(1)), (1,)),
        Elementwise(2, Tanh(), (1,)),
        Affine((3, 0), (Identity(1), Identity(1)), Enclosure(np.zeros(1), 0.25), (1,)),
    )
    problem = pose(Graph(nodes, (Output("y", 4),)), Query(inputs=("x",), region=Ball(np.zeros(1), 0.5, 2.0)))
    boxes = linear_boxes(problem, Arithmetic())
    open_ended = [i for i, (lower, upper) in enumerate(boxes) if lower[0] == -math.inf and upper[0] == math.inf]
    assert open_ended
    lower, upper = boxes[problem.y]
    np.testing.assert_allclose([lower[0], upper[0]], [-1.75, 1.75], rtol=1e-12)


def loose_problem() -> Problem:
    """Over whose region linear bounds are much tighter than intervals."""
    rng = np.random.default_rng(3)
    sizes = (3, 8, 8, 8, 2)
    layers: list[Activation | tuple[np.ndarray, np.ndarray]] = []
    for a, b in itertools.pairwise(sizes):
        layers += [(rng.normal(size=(b, a)) / math.sqrt(a), rng.normal(size=b)), Relu()]
    graph = layered(*layers[:-1], inputs=3)
    return pose(graph, Query(region=Ball(np.zeros(3), 0.3, 2.0)))


@pytest.mark.parametrize("arithmetic", [Arithmetic, BallArithmetic], ids=["float64", "balls"])
def test_claims_say_which_boxes_they_rest_on(arithmetic: type[Arithmetic]) -> None:
    problem, evidence = loose_problem(), AbsoluteChain(False)
    usual, linear = (verify(problem, Claim(1e9, evidence, linear=flag), arithmetic()) for flag in (False, True))
    assert linear < 0.99 * usual
    assert verify(problem, Claim(linear, evidence, linear=True), arithmetic()) <= linear
    with pytest.raises(NotProvedError, match="above the claimed"):
        verify(problem, Claim(linear, evidence), arithmetic())
    with pytest.raises(NotProvedError, match="bounded region"):
        verify(problem, Claim(1e9, evidence, anywhere=True, linear=True), arithmetic())
    with pytest.raises(NotProvedError, match="bounded region"):
        verify(problem.everywhere(), Claim(1e9, evidence, linear=True), arithmetic())


def test_parts_of_a_network_have_no_linear_boxes() -> None:
    problem = loose_problem()
    cut = Composed((4,), (AbsoluteChain(False), AbsoluteChain(False)))
    assert isinstance(problem.graph.nodes[4], Affine)
    assert verify(problem, Claim(1e9, cut)) > 0
    with pytest.raises(NotProvedError, match="parts of a network"):
        verify(problem, Claim(1e9, cut, linear=True))


def best_claim(problem: Problem, name: str, linear: bool) -> Claim | None:
    try:
        found = list(METHODS[name]().claims(problem, Progress(linear=linear)))
    except Unsuitable:
        return None
    return min(found, key=lambda claim: claim.value, default=None)


@pytest.mark.parametrize("name", [n for n in METHODS if n in ("product", "gram")])
def test_methods_bound_no_worse_with_linear_boxes(name: str) -> None:
    problem = loose_problem()
    usual, linear = (best_claim(problem, name, flag) for flag in (False, True))
    if usual is not None and linear is not None:
        assert not usual.linear
        assert linear.value <= usual.value * (1 + 1e-9)
        for claim in (usual, linear):
            assert verify(problem, claim) <= claim.value


def model_problem(path: Path, eps: float, norm: Norm) -> Problem:
    graph = lipcert.load(path).graph
    size = graph.size(next(iter(graph.inputs.values())))
    return pose(graph, Query(region=Ball(np.random.default_rng(1).random(size), eps, norm)))


SAMPLES = ["relu", "conv", "groupsort", "householder", "maxmin", "maxpool", "resnet", "tanh", "avgpool"]


@pytest.mark.parametrize("name", SAMPLES)
def test_no_attacked_point_leaves_the_boxes_of_the_sample_networks(name: str) -> None:
    for eps, norm in ((0.01, math.inf),):
        problem = model_problem(MODELS / f"digits_{name}.onnx", eps, norm)
        boxes, rng = linear_boxes(problem, Arithmetic()), np.random.default_rng(2)
        assert_no_wider(boxes, propagate(problem, Arithmetic()))
        network = replace(problem, graph=realise(problem.graph, rng))
        assert_inside(boxes, values(network.graph, attacked(network, rng, boxes, 300)))


@pytest.mark.parametrize("name", ["acasxu_1_1", "mlp_L5_W64", "mnistfc_256x2"])
def test_no_attacked_point_leaves_the_boxes_of_networks_from_outside(name: str, test_data: Path) -> None:
    problem = model_problem(test_data / "models" / f"{name}.onnx", 0.01, math.inf)
    boxes, rng = linear_boxes(problem, Arithmetic()), np.random.default_rng(2)
    assert_no_wider(boxes, propagate(problem, Arithmetic()))
    network = replace(problem, graph=realise(problem.graph, rng))
    assert_inside(boxes, values(network.graph, attacked(network, rng, boxes, 300)))


@pytest.mark.parametrize("name", ["conv", "tanh", "maxmin"])
def test_a_bound_in_a_small_ball_rests_on_linear_boxes(name: str) -> None:
    """It is verified again, in ball arithmetic too, and not above what the same methods find by intervals."""
    path = MODELS / f"digits_{name}.onnx"
    center = np.random.default_rng(4).random(64)
    report = lipcert.bound(path, center=center, eps=0.05, ball=2, method="product")
    assert report.data["certificate"]["linear"] is True
    assert report.upper is not None
    for strict in (False, True):
        assert lipcert.check(report, path, strict=strict)
    problem = pose(lipcert.load(path).graph, Query(region=Ball(center, 0.05, 2.0)))
    usual = best_claim(problem, "product", linear=False)
    assert usual is not None
    assert report.upper <= usual.value * (1 + 1e-9)
