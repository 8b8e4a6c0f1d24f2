"""No sampled point of a region, in no network within the radii, leaves the boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from lipcert.activations import Activation, Relu, Tanh
from lipcert.arithmetic.enclosure import Enclosure, exact
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.balls import BallArithmetic
from lipcert.certificate.boxes import Bounds, propagate
from lipcert.graph import Affine, Elementwise, Graph, Input, Output
from lipcert.operators import Dense, Selection
from lipcert.problem import Ball, Box, Everywhere, Problem, Query, Region, pose
from tests.helpers.balls import is_within, member_values, precision
from tests.helpers.graphs import ACTIVATIONS, CLASSIC, LAYERS, random_graph
from tests.helpers.sampling import random_points, realise, values

REGIONS = ["linf", "l2", "l1", "box", "everywhere", "point", "flat box", "huge ball"]
NORMS = {"linf": math.inf, "l2": 2.0, "l1": 1.0, "point": 2.0, "huge ball": 2.0}
SEEDS = range(15)
POINTS = 3000

in_both = pytest.mark.parametrize("arithmetic", [Arithmetic, BallArithmetic], ids=["float64", "balls"])


def region_of(rng: np.random.Generator, kind: str, n: int) -> Region:
    center = rng.normal(size=n)
    if kind == "everywhere":
        return Everywhere()
    if kind.endswith("box"):
        width = np.abs(rng.normal(size=n)) * (rng.random(n) < (0.3 if kind == "flat box" else 0.9))
        return Box(center, center + width)
    eps = {"point": 0.0, "huge ball": 1e6}.get(kind, float(10.0 ** rng.uniform(-4, 0.5)))
    return Ball(center, eps, NORMS[kind])


def random_problem(
    seed: int, kind: str, activations: Sequence[Activation] = ACTIVATIONS
) -> tuple[np.random.Generator, Problem]:
    """Of one to three inputs, some of them varying."""
    rng = np.random.default_rng([seed, *kind.encode()])
    only = LAYERS if activations is ACTIVATIONS else [layer for layer in LAYERS if layer != "guarded"]
    graph = random_graph(
        rng, inputs=1 + seed % 3, depth=5, width=5, local=seed % 2 == 0, activations=activations, only=only
    )
    names = tuple(str(n) for n in rng.permutation(list(graph.inputs))[: int(rng.integers(1, len(graph.inputs) + 1))])
    size = sum(graph.size(graph.inputs[name]) for name in names)
    return rng, pose(graph, Query(region=region_of(rng, kind, size), inputs=names))


def random_inputs(rng: np.random.Generator, problem: Problem, count: int) -> dict[str, np.ndarray]:
    """Points of the region, and any values for the free inputs."""
    graph = problem.graph
    return {
        name: random_points(problem.query.region, problem.size_in, rng, count)
        if i == problem.x
        else rng.normal(size=(count, graph.size(i))) * 10.0 ** rng.uniform(-1, 3, size=(count, 1))
        for name, i in graph.inputs.items()
    }


def assert_members_inside(rng: np.random.Generator, problem: Problem, boxes: list[Bounds]) -> None:
    """Values in balls at four inputs, weights within their radii."""
    inputs = random_inputs(rng, problem, 4)
    with precision():
        found = member_values(rng, problem.graph, inputs)
        for (lower, upper), value in zip(boxes, found, strict=True):
            for row in np.broadcast_to(value, (4, len(lower))):
                assert all(map(is_within, row, lower.tolist(), upper.tolist()))


@pytest.mark.one_in(2)
@in_both
@pytest.mark.parametrize("kind", REGIONS)
def test_no_sampled_point_leaves_the_boxes(kind: str, arithmetic: type[Arithmetic]) -> None:
    """Thousands of points in extended precision, which may err by 1e-12."""
    for seed in SEEDS if arithmetic is Arithmetic else SEEDS[:4]:
        rng, problem = random_problem(seed, kind)
        boxes = propagate(problem, arithmetic())
        for _ in range(2):
            network = realise(problem.graph, rng)
            inputs = {k: v.astype(np.longdouble) for k, v in random_inputs(rng, problem, POINTS).items()}
            for (lower, upper), value in zip(boxes, values(network, inputs), strict=True):
                slack = 1e-12 * (1 + np.abs(value))
                assert np.all(lower - slack <= value), seed
                assert np.all(value <= upper + slack), seed


@in_both
@pytest.mark.parametrize("kind", REGIONS)
def test_no_point_leaves_the_boxes_by_a_rounding(kind: str, arithmetic: type[Arithmetic]) -> None:
    """Fewer points, without any slack: corners and ends of the radii among them."""
    for seed in SEEDS if arithmetic is Arithmetic else SEEDS[:4]:
        rng, problem = random_problem(seed, kind, CLASSIC)
        assert_members_inside(rng, problem, propagate(problem, arithmetic()))


def single(activation: object, weights: np.ndarray, bias: np.ndarray, radius: float = 0.0) -> Graph:
    """activation(W x + b)."""
    size = (len(bias),)
    nodes = (
        Input("in", (weights.shape[1],)),
        Affine((0,), (Dense(weights, np.full(weights.shape, radius)),), exact(bias), size),
        Elementwise(1, activation, size),  # type: ignore[arg-type]
    )
    return Graph(nodes, (Output("y", 2),))


@in_both
@pytest.mark.parametrize(("norm", "dual"), [(math.inf, 1), (2.0, 2), (1.0, math.inf)])
def test_the_first_layer_of_a_ball_is_bounded_by_dual_norms(
    norm: float, dual: float, arithmetic: type[Arithmetic]
) -> None:
    rng = np.random.default_rng(0)
    weights, bias, center = rng.normal(size=(4, 6)), rng.normal(size=4), rng.normal(size=6)
    problem = pose(single(Tanh(), weights, bias), Query(region=Ball(center, 0.3, norm)))
    lower, upper = pre_activation(problem, arithmetic())
    reach = 0.3 * np.linalg.norm(weights, dual, axis=1)
    np.testing.assert_allclose(lower, weights @ center + bias - reach, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(upper, weights @ center + bias + reach, rtol=1e-12, atol=1e-12)


def the_nonlinear_node(problem: Problem) -> int:
    (position,) = (i for i, node in enumerate(problem.graph.nodes) if isinstance(node, Elementwise))
    return position


def pre_activation(problem: Problem, by: Arithmetic) -> tuple[np.ndarray, np.ndarray]:
    return propagate(problem, by)[the_nonlinear_node(problem) - 1]


def test_linear_stretches_of_a_ball_are_bounded_as_one_operator() -> None:
    """x -> B (A x) with B A = 0: boxes of the two layers in turn would be wide."""
    a, b = np.array([[1.0, 1.0], [1.0, 1.0]]), np.array([[1.0, -1.0]])
    nodes = (
        Input("in", (2,)),
        Affine((0,), (Dense(a),), exact(np.zeros(2)), (2,)),
        Affine((1,), (Dense(b),), exact(np.ones(1)), (1,)),
        Elementwise(2, Relu(), (1,)),
    )
    problem = pose(Graph(nodes, (Output("y", 3),)), Query(region=Ball(np.zeros(2), 5.0, 2.0)))
    lower, upper = pre_activation(problem, Arithmetic())
    np.testing.assert_allclose([lower[0], upper[0]], [1, 1], atol=1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: a.describe())
def test_everywhere_activations_have_their_whole_range(activation: object) -> None:
    problem = pose(single(activation, np.eye(2), np.zeros(2)), Query())
    low, high = activation.enclose(np.array([-math.inf]), np.array([math.inf]))  # type: ignore[attr-defined]
    box = propagate(problem, Arithmetic())[the_nonlinear_node(problem)]
    assert np.array_equal(box[0], low.repeat(2))
    assert np.array_equal(box[1], high.repeat(2))


def test_only_what_reads_an_unbounded_input_is_unbounded() -> None:
    """y = (tanh(x), z0) + (0, z1): a selection keeps the rest bounded."""
    nodes = (
        Input("x", (1,)),
        Input("z", (2,)),
        Elementwise(0, Tanh(), (1,)),
        Affine(
            (2, 1),
            (Dense(np.array([[2.0], [0.0]])), Dense(np.array([[0.0, 0.0], [0.0, 1.0]]))),
            exact(np.zeros(2)),
            (2,),
        ),
        Affine((3,), (Selection(np.array([0, 1, -1]), 2),), Enclosure(np.zeros(3), 0.5), (3,)),
    )
    problem = pose(Graph(nodes, (Output("y", 4),)), Query(inputs=("x",)))
    lower, upper = propagate(problem, Arithmetic())[problem.y]
    np.testing.assert_allclose(lower, [-2.5, -math.inf, -0.5], rtol=1e-12)
    np.testing.assert_allclose(upper, [2.5, math.inf, 0.5], rtol=1e-12)


def test_boxes_of_a_point_are_as_narrow_as_roundings() -> None:
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        problem = pose(realise(random_graph(rng), rng), Query())
        point = rng.normal(size=problem.size_in)
        for region in (Box(point, point), Ball(point, 0.0, 1.0)):
            for lower, upper in propagate(pose(problem.graph, Query(region=region)), Arithmetic()):
                assert np.all(upper - lower <= 1e-9 * (1 + np.abs(lower))), seed


@pytest.mark.parametrize("shrink", [1e-300, 1e-200])
@pytest.mark.parametrize("activation", [a for a in CLASSIC if a.name != "leaky_relu"], ids=lambda a: a.describe())
@pytest.mark.parametrize("region", [Box(np.array([1e150]), np.array([2e150])), Ball(np.array([1e150]), 1e140, 2.0)])
def test_an_overflow_leaves_boxes_that_hold(region: Region, activation: object, shrink: float) -> None:
    """1e200 x overflows, and 1e-300 of it is an ordinary number again."""
    nodes = (
        Input("in", (1,)),
        Affine((0,), (Dense(np.array([[1e200]])),), exact(np.zeros(1)), (1,)),
        Elementwise(1, activation, (1,)),  # type: ignore[arg-type]
        Affine((2,), (Dense(np.array([[shrink]])),), exact(-np.ones(1)), (1,)),
        Elementwise(3, Relu(), (1,)),
    )
    problem = pose(Graph(nodes, (Output("y", 4),)), Query(region=region))
    with np.errstate(all="ignore"):
        boxes = propagate(problem, Arithmetic())
    with precision():
        found = member_values(np.random.default_rng(0), problem.graph, {"x": np.array([[1e150]])})
        for (lower, upper), value in zip(boxes, found, strict=True):
            assert is_within(value[0, 0], float(lower[0]), float(upper[0]))
