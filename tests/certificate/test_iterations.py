"""What the steps of a Loop leave of the distance to the fixed point: never less than what they do."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lipcert.activations import Activation, LeakyRelu, Relu, Tanh
from lipcert.arithmetic.enclosure import exact
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.boxes import Bounds, propagate
from lipcert.certificate.implicit import distance, layers_of
from lipcert.certificate.linear_bounds import linear_boxes
from lipcert.graph import Affine, Elementwise, FixedPoint, Graph, Input, Iteration, Output, State
from lipcert.methods.implicit import with_equilibria
from lipcert.operators import Dense
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
