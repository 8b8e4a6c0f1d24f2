"""What the steps of a Loop leave of the distance to the fixed point: never less than what they do."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from lipcert.activations import Activation, LeakyRelu, Relu, Sigmoid, Tanh
from lipcert.arithmetic.enclosure import exact
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.boxes import Bounds, propagate
from lipcert.certificate.implicit import Layer, layers_of
from lipcert.certificate.iterations import distance
from lipcert.certificate.linear_bounds import linear_boxes
from lipcert.graph import Affine, Elementwise, FixedPoint, Graph, Input, Iteration, Output, State
from lipcert.methods.implicit import with_equilibria
from lipcert.operators import Dense, Diagonal
from lipcert.problem import Ball, Query, pose


def network(a: np.ndarray, b: np.ndarray, activation: Activation, iteration: Iteration | None) -> Graph:
    n, inputs = b.shape
    layer = Affine((1, 0), (Dense(a), Dense(b)), exact(np.full(n, 0.1)), (n,))
    end = Affine((4,), (Dense(np.eye(n)),), exact(np.zeros(n)), (n,))
    fixed = FixedPoint(1, 3, (n,), "loop", iteration)
    nodes = (Input("x", (inputs,)), State((n,), "loop"), layer, Elementwise(2, activation, (n,)), fixed, end)
    return Graph(nodes, (Output("y", 5),))


def box_of(graph: Graph, query: Query, as_run: bool = True) -> Bounds:
    by = Arithmetic()
    problem = with_equilibria(pose(graph, query, as_run=as_run), by)
    planes, intervals = linear_boxes(problem, by)[problem.y], propagate(problem, by)[problem.y]
    return np.maximum(planes[0], intervals[0]), np.minimum(planes[1], intervals[1])


def steps(a: np.ndarray, u: np.ndarray, activation: Activation, iteration: Iteration) -> np.ndarray:
    assert iteration.start is not None
    assert iteration.steps is not None
    z = np.tile(iteration.start, (len(u), 1))
    for _ in range(iteration.steps):
        z = iteration.kept * z + (1 - iteration.kept) * activation.value(z @ a.T + u)
    return z


@pytest.mark.one_in(3)
@pytest.mark.parametrize("activation", [Relu(), Tanh(), LeakyRelu(0.2)])
@pytest.mark.parametrize("count", [0, 1, 3, 10, 100])
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.9])
def test_no_iterate_leaves_the_box(activation: Activation, count: int, kept: float) -> None:
    rng = np.random.default_rng([count, int(10 * kept)])
    for _ in range(3):
        a = rng.normal(size=(4, 4))
        a *= rng.uniform(0.3, 0.9) / np.abs(a).sum(axis=1).max()
        a -= np.diag(rng.uniform(0, 0.5, 4))
        b = rng.normal(size=(4, 2))
        iteration = Iteration(count, kept, rng.normal(size=4))
        center, eps = rng.normal(size=2), 10 ** rng.uniform(-3, 0)
        query = Query(math.inf, math.inf, Ball(center, eps, math.inf))
        low, high = box_of(network(a, b, activation, iteration), query)
        x = center + eps * rng.uniform(-1, 1, (400, 2))
        z = steps(a, x @ b.T + 0.1, activation, iteration)
        assert np.all(z >= low - 1e-9)
        assert np.all(z <= high + 1e-9)
        if count == 100 and kept >= 0.5:
            assert np.all(np.isfinite(high - low))


def test_without_the_steps_the_box_is_that_of_the_fixed_point() -> None:
    a, b = np.array([[0.5]]), np.eye(1)
    iteration = Iteration(2, 0.0, np.array([5.0]))
    region = Ball(np.zeros(1), 0.0, math.inf)
    run = box_of(network(a, b, Relu(), iteration), Query(region=region))
    meant = box_of(network(a, b, Relu(), iteration), Query(region=region), as_run=False)
    assert meant[1][0] - meant[0][0] < 1e-6
    z = steps(a, np.full((1, 1), 0.1), Relu(), iteration)[0, 0]
    assert run[0][0] <= z <= run[1][0]
    assert abs(z - meant[0][0]) > 1


def test_what_is_not_known_is_infinite_or_the_fixed_point() -> None:
    by, box = Arithmetic(), (np.zeros(1), np.ones(1))
    tight, loose = np.array([[0.5]]), np.array([[-3.0]])
    for a, iteration, wanted in (
        (tight, Iteration(5, 0.0, None), math.inf),  # it begins anywhere
        (loose, Iteration(5, 0.0, np.zeros(1)), math.inf),  # undamped, it runs away
        (tight, Iteration(None, 0.0, np.zeros(1)), 0.0),  # the data decide
    ):
        (layer,) = layers_of(network(a, np.eye(1), Relu(), iteration), by).values()
        assert distance(layer, iteration, box)[0] == wanted
    (layer,) = layers_of(network(loose, np.eye(1), Relu(), None), by).values()
    assert distance(layer, Iteration(60, 0.75, np.zeros(1)), box)[0] < 1e-3


def test_powers_that_underflow_still_count_where_the_start_is_far_off() -> None:
    far, count, zero = 1e300, 1100, np.zeros(1)
    graph = network(np.array([[0.5]]), np.eye(1), Relu(), None)
    (layer,) = layers_of(graph, Arithmetic()).values()
    (off,) = distance(layer, Iteration(count, 0.0, np.array([far])), (zero, zero))
    assert Fraction(float(off)) >= Fraction(far) / 2**count


SLOPES: dict[str, tuple[Activation, float]] = {
    "relu": (Relu(), 1.0),
    "tanh": (Tanh(), 1.0),
    "sigmoid": (Sigmoid(), 0.25),
    "leaky": (LeakyRelu(0.2), 1.0),
    "leaky up": (LeakyRelu(1.8), 1.8),
    "leaky down": (LeakyRelu(-0.7), 1.0),
}


def layer_with(a: np.ndarray, activation: Activation, iteration: Iteration) -> Layer:
    (layer,) = layers_of(network(a, np.eye(len(a)), activation, iteration), Arithmetic()).values()
    return layer


@pytest.mark.parametrize("name", SLOPES)
def test_no_sampled_distance_exceeds_what_is_left(name: str) -> None:
    """Of loops with few steps, entries of unlike size, and thousands of inputs; some are a third of what is left."""
    activation, steepest = SLOPES[name]
    rng = np.random.default_rng([*name.encode()])
    closest, known = 0.0, 0
    for k in range(16):
        a = rng.normal(size=(4, 4)) * (rng.random((4, 4)) < 0.6)
        a *= rng.uniform(0.3, 0.9) / steepest / max(np.abs(a).sum(axis=1).max(), 1e-9)
        a -= np.diag(rng.uniform(0, 0.6, 4)) * (k % 2)
        size = 10 ** rng.uniform(-2, 2, 4)
        a = size[:, None] * a / size
        kept = float(rng.choice([0.0, 0.3, 0.5, 0.9, -0.1]))
        iteration = Iteration(int(rng.integers(7)), kept, size * rng.normal(size=4) * rng.choice([0, 3]))
        u = size * rng.normal(size=(1000, 4)) * 10 ** rng.uniform(-1, 1)
        found = steps(a, u, activation, replace(iteration, steps=300, kept=0.6, start=np.zeros(4)))
        good = np.all(np.abs(found - activation.value(found @ a.T + u)) <= 1e-12 * size, axis=1)
        assert good.mean() > 0.9
        u, found = u[good], found[good]
        off = np.abs(steps(a, u, activation, iteration) - found)
        left = distance(layer_with(a, activation, iteration), iteration, (found.min(axis=0), found.max(axis=0)))
        assert np.all(off <= left * (1 + 1e-9) + 1e-11 * size)
        known += bool(np.all(np.isfinite(left)))
        closest = max(closest, float((off.max(axis=0) / left).max()))
    assert known > 8
    assert closest > 1 / 3


@pytest.mark.parametrize("seed", range(20))
def test_what_is_left_is_rounded_up(seed: int) -> None:
    """Of steps that only keep a share: kept^K |z_0 - z*|, and of one that is rounded a little more."""
    rng = np.random.default_rng(seed)
    kept, count, start = float(rng.random()), int(rng.integers(1, 40)), float(rng.normal())
    iteration = Iteration(count, kept, np.array([start]))
    point = np.array([float(rng.normal())])
    left = float(distance(layer_with(np.zeros((1, 1)), Relu(), iteration), iteration, (point, point))[0])
    wanted = Fraction(kept + np.spacing(kept)) ** count * abs(Fraction(start) - Fraction(point[0]))
    assert wanted <= Fraction(left) <= wanted * (1 + Fraction(1, 10**9))


@pytest.mark.parametrize("rate", [0.5, -0.5, 0.9])
def test_what_is_left_of_one_neuron_is_exact(rate: float) -> None:
    """z = rate z + u with a step that keeps a quarter: (1/4 + 3/4 rate)^K, for one sign; slopes 0 and 1 for both."""
    for count in (0, 1, 2, 7):
        iteration = Iteration(count, 0.25, np.zeros(1))
        layer = layer_with(np.array([[rate]]), LeakyRelu(1.0), iteration)
        left = distance(layer, iteration, (np.ones(1), np.full(1, 3.0)))[0]
        assert left == pytest.approx(3 * abs(0.25 + 0.75 * rate) ** count, rel=1e-9)


def test_unequal_scales_of_the_state_are_not_counted() -> None:
    """The weights that show the rate are those of w, and of z only where it is a multiple."""
    iteration = Iteration(5, 0.5, np.zeros(2))
    graph = network(np.zeros((2, 2)), np.eye(2), Relu(), iteration)
    for scale, known in (([0.5, 0.5], True), ([0.5, 0.25], False)):
        scaled = Affine((3,), (Diagonal(np.array(scale)),), exact(np.zeros(2)), (2,))
        nodes = (*graph.nodes[:4], scaled, FixedPoint(1, 4, (2,), "loop", iteration))
        (layer,) = layers_of(Graph(nodes, (Output("y", 5),)), Arithmetic()).values()
        left = distance(layer, iteration, (np.zeros(2), np.ones(2)))
        assert bool(np.all(np.isfinite(left))) == known


def test_entries_of_unlike_size_are_weighted() -> None:
    """Linear: (c + (1 - c) A)^K takes a distance in the small entry alone to one in the large entry."""
    a, start = np.array([[0.0, 100.0], [0.004, 0.0]]), np.array([0.0, 1.0])
    for kept in (0.0, 0.5):
        for count in range(5):
            iteration = Iteration(count, kept, start)
            left = distance(layer_with(a, LeakyRelu(1.0), iteration), iteration, (np.zeros(2), np.zeros(2)))
            off = np.linalg.matrix_power(kept * np.eye(2) + (1 - kept) * a, count) @ start
            assert np.all(np.abs(off) <= left)
            assert np.all(left < 1e3)
