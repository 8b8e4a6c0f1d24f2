"""No Jacobian of a point leaves the boxes over a region; where nothing is open the bound is its norm."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

import lipcert.activations as acts
from lipcert.activations import Relu, Tanh
from lipcert.arithmetic.enclosure import exact
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.boxes import Bounds
from lipcert.certificate.derivative import (
    chain_rule,
    chords,
    norm_bounds,
    row_sums,
    spread_norm,
)
from lipcert.certificate.linear_bounds import in_ramps, whole_net
from lipcert.graph import Affine, Elementwise, Graph, Input, Output
from lipcert.methods.lower.directions import Jacobian
from lipcert.operators import Dense, Diagonal, Reduction, Selection, transpose
from lipcert.problem import Ball, Box, Norm, Problem, Query, pose
from tests.certificate.test_boxes import random_inputs, random_problem
from tests.certificate.test_linear_bounds import GRAPHS, REGIONS, corners, layered, posed
from tests.helpers.compositions import with_norms
from tests.helpers.graphs import ACTIVATIONS, ALL_FUNCTIONS, GUARDED
from tests.helpers.inequalities import NETWORKS
from tests.helpers.operators import matrix_by_definition, random_operator
from tests.helpers.pieces import pieces_by_ends, proven, rows_of, some_pieces
from tests.helpers.sampling import NORM_PAIRS, jacobians, operator_norms, realise
from tests.soundness.test_bounds import one_layer

STEPS = range(8)
MARGIN = 1 + 1e-9


def sampled(problem: Problem, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Jacobians of a network within the radii, at random points and at corners, and how far off they may be."""
    inputs = random_inputs(rng, problem, count)
    name = next(n for n, i in problem.graph.inputs.items() if i == problem.x)
    ends = corners(problem.query.region, problem.size_in, rng)[: count // 2]
    inputs[name][: len(ends)] = ends
    network = replace(problem, graph=realise(problem.graph, rng))
    return jacobians(network, {k: v.astype(np.longdouble) for k, v in inputs.items()})


def assert_jacobians_inside(problem: Problem, found: np.ndarray, errors: np.ndarray) -> None:
    """In the boxes of the entries, under the sums of the rows and under all norms, for all steps."""
    by = Arithmetic()
    spare = errors + 1e-11 * np.abs(found)
    steepest = {
        pair: float((operator_norms(found, *pair) - operator_norms(errors, *pair)).max(initial=0.0))
        for pair in NORM_PAIRS
    }
    sums = (np.abs(found) - spare).sum(axis=2).max(axis=0)
    for steps in STEPS:
        rows = rows_of(problem, steps, by)
        if rows is None:
            assert not found.any()
            continue
        low, high = (side[0] for side in rows.entries())
        assert np.all(low - spare <= found), steps
        assert np.all(found <= high + spare), steps
        assert np.all(sums <= row_sums(rows, by)[0] * MARGIN), steps
        for pair in NORM_PAIRS:
            assert steepest[pair] <= norm_bounds(rows, *pair, by)[0] * MARGIN, (steps, pair)
        matrix, spread = spread_norm(rows, 0)
        if matrix.is_finite:
            assert steepest[2, 2] <= (np.linalg.norm(matrix.value, 2) + spread) * MARGIN, steps


@pytest.mark.one_in(3)
@pytest.mark.parametrize("kind", REGIONS)
@pytest.mark.parametrize("name", GRAPHS)
def test_no_jacobian_leaves_the_boxes(name: str, kind: str) -> None:
    rng, problem = posed(GRAPHS[name], kind, 1)
    assert_jacobians_inside(problem, *sampled(problem, rng, 1000))


@pytest.mark.one_in(2)
@pytest.mark.parametrize("kind", [k for k in REGIONS if k != "tiny ball"])
def test_no_jacobian_of_random_graphs_leaves_the_boxes(kind: str) -> None:
    """Weights within radii, free inputs and all kinds of nodes among them."""
    for seed in range(100, 107):
        rng, problem = random_problem(seed, kind)
        assert_jacobians_inside(problem, *sampled(problem, rng, 300))


@pytest.mark.parametrize("kind", ["linf", "l1", "point", "flat box"])
@pytest.mark.parametrize("name", ALL_FUNCTIONS)
def test_no_jacobian_of_a_group_function_leaves_the_boxes(name: str, kind: str) -> None:
    _, problem = posed(lambda rng: one_layer(rng, ALL_FUNCTIONS[name](rng, 2), 2), kind, 1)
    assert_jacobians_inside(problem, *sampled(problem, np.random.default_rng(2), 600))


@pytest.mark.one_in(3)
@pytest.mark.parametrize(("activation", "scale", "shift"), [*((a, 2.0, 0.2) for a in ACTIVATIONS), *GUARDED])
def test_no_jacobian_of_an_activation_leaves_the_boxes(activation: acts.Activation, scale: float, shift: float) -> None:
    """Twice in a row, between matrices; those that are not Lipschitz everywhere behind a tanh."""
    rng = np.random.default_rng([3, *activation.describe().encode()])
    first, last = rng.normal(size=(4, 2)), rng.normal(size=(2, 4))
    inner = Diagonal(np.full(4, scale)), exact(np.full(4, shift))
    nodes = (
        Input("x", (2,)),
        Affine((0,), (Dense(first),), exact(rng.normal(size=4)), (4,)),
        Elementwise(1, Tanh(), (4,)),
        Affine((2,), inner[:1], inner[1], (4,)),
        Elementwise(3, activation, (4,)),
        Affine((4,), (Dense(last),), exact(np.zeros(2)), (2,)),
    )
    graph = Graph(nodes, (Output("y", 5),))
    for eps, norm in ((1.0, math.inf), (0.1, 2.0)):
        problem = pose(graph, Query(region=Ball(rng.normal(size=2), eps, norm)))
        assert_jacobians_inside(problem, *sampled(problem, rng, 300))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_search_and_the_kernel_speak_of_one_jacobian(name: str) -> None:
    """Products with the float64 Jacobian of searches, forward and backward, are inside."""
    rng, problem = posed(NETWORKS[name], "linf", 4)
    points = random_inputs(rng, problem, 2000)["x"]
    slope = Jacobian(problem, points)
    columns = [slope.forward(np.tile(e, (len(points), 1))) for e in np.eye(problem.size_in)]
    lines = [slope.backward(np.tile(e, (len(points), 1))) for e in np.eye(problem.size_out)]
    forward, backward = np.stack(columns, axis=2), np.stack(lines, axis=1)
    np.testing.assert_allclose(forward, backward, rtol=1e-9, atol=1e-12)
    assert_jacobians_inside(problem, forward, np.full(forward.shape, 1e-12))


def jacobian_at(problem: Problem, point: np.ndarray) -> np.ndarray:
    (name,) = problem.graph.inputs
    return jacobians(problem, {name: point[None].astype(np.longdouble)})[0]


BY_ENTRIES = [(math.inf, math.inf), (2.0, math.inf), (1.0, 1.0), (1.0, 2.0), (1.0, math.inf)]


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", [*GRAPHS, *NETWORKS])
def test_at_a_point_the_bound_is_the_norm_of_the_jacobian(name: str) -> None:
    """Away from kinks: of all pairs of norms that entries tell, and of l2 by a spectral proof."""
    rng = np.random.default_rng([*name.encode(), 1])
    graph = {**GRAPHS, **NETWORKS}[name](rng)
    size = graph.size(next(iter(graph.inputs.values())))
    center = rng.normal(size=size)
    problem = pose(graph, Query(region=Ball(center, 0.0, 2.0)))
    jacobian = jacobian_at(problem, center)
    for steps in STEPS:
        rows = rows_of(problem, steps, Arithmetic())
        assert rows is not None
        for pair in BY_ENTRIES:
            truth = float(operator_norms(jacobian, *pair)[0])
            assert norm_bounds(rows, *pair, Arithmetic())[0] == pytest.approx(truth, rel=1e-5, abs=1e-300)
        truth = float(operator_norms(jacobian, 2.0, 2.0)[0])
        found = proven(with_norms(problem, 2.0, 2.0), steps=steps, spectral=truth * (1 + 1e-6))
        assert truth * (1 - 1e-9) <= found <= truth * (1 + 1e-5) + 1e-300


@pytest.mark.parametrize("pair", NORM_PAIRS)
def test_at_a_point_single_outputs_and_inputs_are_exact_for_all_norms(pair: tuple[Norm, Norm]) -> None:
    """A Jacobian of one row or of one column has no more norms than its entries tell."""
    rng = np.random.default_rng(5)
    for sizes in ((4, 6, 6, 1), (1, 6, 6, 3)):
        layers = [(rng.normal(size=(b, a)), rng.normal(size=b)) for a, b in itertools.pairwise(sizes)]
        graph = layered(layers[0], Relu(), layers[1], Tanh(), layers[2], inputs=sizes[0])
        center = rng.normal(size=sizes[0])
        problem = pose(graph, Query(region=Ball(center, 0.0, 2.0)))
        truth = float(operator_norms(jacobian_at(problem, center), *pair)[0])
        if pair[0] == math.inf or sizes[-1] == 1 or pair[0] == 1:
            rows = rows_of(problem, 3, Arithmetic())
            assert rows is not None
            assert norm_bounds(rows, *pair, Arithmetic())[0] == pytest.approx(truth, rel=1e-9)


def ends_of(problem: Problem, rng: np.random.Generator, count: int) -> dict[int, Bounds]:
    """Random ends of entries of the input and of affine nodes, around values that occur."""
    there = in_ramps(problem, Arithmetic())
    net = whole_net(problem, Arithmetic())
    ends: dict[int, Bounds] = {}
    for i, node in enumerate(there.graph.nodes):
        low, high = (side[0] for side in net.boxes[i])
        if (isinstance(node, Affine) or i == there.x) and np.all(np.isfinite(high - low)) and rng.random() < 0.5:
            at = low + (high - low) * rng.uniform(0.3, 0.7, size=(count, len(low)))
            side = rng.integers(0, 6, size=at.shape)
            ends[i] = np.where(side == 0, at, -np.inf), np.where(side == 1, at, np.inf)
    return ends


@pytest.mark.parametrize("name", [*GRAPHS, "maxmin", "groupsort of 3", "householder", "max of 3"])
def test_pieces_are_bounded_together_as_they_are_alone(name: str) -> None:
    compared = 0
    for seed in range(2):
        rng, problem = posed({**GRAPHS, **NETWORKS}[name], "linf", seed)
        by = Arithmetic()
        pieces = ends_of(problem, rng, 5)
        together = pieces_by_ends(problem, 5, pieces, by)
        outputs = rng.permuted(np.tile(np.arange(problem.size_out), (5, 1)), axis=1)
        kept = np.flatnonzero(~together.empty)
        every = rows_of(problem, 2, by, some_pieces(together, kept), outputs[kept])
        assert every is not None
        for b in range(5):
            ends = {i: (low[b : b + 1], high[b : b + 1]) for i, (low, high) in pieces.items()}
            alone = pieces_by_ends(problem, 1, ends, by)
            assert alone.empty[0] == together.empty[b]
            if alone.empty[0]:
                continue
            compared += 1
            for one, many in zip(alone.net.boxes, together.net.boxes, strict=True):
                for ours, theirs in zip(one, many, strict=True):
                    np.testing.assert_allclose(ours[0], theirs[b % len(theirs)], rtol=1e-9, atol=1e-11)
            single, k = rows_of(problem, 2, by, alone, outputs[b : b + 1]), list(kept).index(b)
            assert single is not None
            for ours, theirs in zip(single.entries(), every.entries(), strict=True):
                np.testing.assert_allclose(ours[0], theirs[k], rtol=1e-9, atol=1e-11)
            np.testing.assert_allclose(row_sums(single, by)[0], row_sums(every, by)[k], rtol=1e-9, atol=1e-11)
            for pair in NORM_PAIRS:
                ours, theirs = norm_bounds(single, *pair, by)[0], norm_bounds(every, *pair, by)[k]
                np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-11)
    assert compared


@pytest.mark.parametrize("seed", range(8))
def test_chords_hold_in_fractions(seed: int) -> None:
    """At ends, at zero and in between, whatever the slopes and the box; exactly where the sign is known."""
    rng = np.random.default_rng([seed, 9])
    size = 10.0 ** rng.integers(-200, 100, size=(4, 50)) if seed % 2 else np.ones((4, 50))
    l, a = rng.normal(size=(2, 50)) * size[:2]
    h = np.where(rng.random(50) < 0.2, l, l + np.abs(rng.normal(size=50)) * size[2])
    b = np.where(rng.random(50) < 0.1, a, a + np.abs(rng.normal(size=50)) * size[3])
    found = chords((l, h), (a, b))
    for k in range(50):
        least, most, first, last = (Fraction(float(v[k])) for v in (l, h, a, b))
        inside = [first, last, (first + last) / 2, *([Fraction(0)] if first <= 0 <= last else [])]
        for x in inside:
            low = Fraction(float(found.low_slope[k])) * x + Fraction(float(found.low_offset[k]))
            high = Fraction(float(found.high_slope[k])) * x + Fraction(float(found.high_offset[k]))
            assert low <= min(least * x, most * x)
            assert high >= max(least * x, most * x)
        if first >= 0 or last <= 0:
            assert found.low_offset[k] == found.high_offset[k] == 0


@pytest.mark.parametrize("seed", range(10))
def test_the_transpose_is_the_transposed_matrix(seed: int) -> None:
    rng = np.random.default_rng([seed, 10])
    for _ in range(20):
        op = random_operator(rng, int(rng.integers(1, 8)), None, radius=0.0, largest=8)
        matrix = matrix_by_definition(op).astype(float)
        for back in (transpose(op), transpose(transpose(transpose(op)))):
            assert back.size == op.size[::-1]
            np.testing.assert_allclose(back.matvec(np.eye(op.out_size)).T, matrix.T, atol=1e-12)
            np.testing.assert_allclose(back.rmatvec(np.eye(op.in_size)), matrix.T, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_sums_through_selections_are_rounded_outward(seed: int) -> None:
    """Entries that are used a thousand times, up and down: the Jacobian in fractions is inside, to the last bit."""
    rng, times = np.random.default_rng([seed, 11]), 300
    w, v = rng.uniform(0.5, 1, size=(1, 2)), rng.uniform(0.5, 1, size=times)
    nodes = (
        Input("x", (2,)),
        Affine((0,), (Dense(w),), exact(np.ones(1)), (1,)),
        Affine((1,), (Selection(np.zeros(times, dtype=int), 1),), exact(np.zeros(times)), (times,)),
        Elementwise(2, Relu(), (times,)),
        Affine((3,), (Diagonal(v),), exact(np.zeros(times)), (times,)),
        Affine((4,), (Reduction((1, times), (1,)),), exact(np.zeros(1)), (1,)),
    )
    problem = pose(Graph(nodes, (Output("y", 5),)), Query(region=Box(np.zeros(2), np.ones(2))))
    total = sum(Fraction(float(t)) for t in v)
    for steps in STEPS:
        rows = rows_of(problem, steps, Arithmetic())
        assert rows is not None
        low, high = (side[0, 0] for side in rows.entries())
        for j in range(2):
            assert Fraction(float(low[j])) <= total * Fraction(float(w[0, j])) <= Fraction(float(high[j]))
        assert Fraction(float(row_sums(rows, Arithmetic())[0, 0])) >= total * sum(map(Fraction, w[0].tolist()))


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e-30, 1e30, 1e140, 1e200])
def test_weights_of_all_magnitudes(scale: float) -> None:
    for seed in range(4):
        rng = np.random.default_rng([seed, 12])
        w, v = rng.normal(size=(3, 2)) * scale, rng.normal(size=(3, 3)) * (1 / scale if seed % 2 else 1.0)
        graph = layered((w, rng.normal(size=3)), Relu(), (v, rng.normal(size=3)), Tanh(), (v.T, np.zeros(3)), inputs=2)
        problem = pose(graph, Query(region=Ball(rng.normal(size=2), 0.5, 2.0)))
        assert_jacobians_inside(problem, *sampled(problem, rng, 300))


def test_an_input_that_does_not_count_has_no_gradient() -> None:
    nodes = (
        Input("x", (2,)),
        Input("z", (2,)),
        Affine((1,), (Dense(np.eye(2)),), exact(np.zeros(2)), (2,)),
    )
    graph = Graph(nodes, (Output("y", 2),))
    problem = pose(graph, Query(inputs=("x",), region=Ball(np.zeros(2), 1.0, 2.0)))
    assert chain_rule(in_ramps(problem, Arithmetic()), Arithmetic()).gradient is None
    assert proven(problem) == 0.0


@pytest.mark.parametrize("steps", STEPS)
def test_a_network_that_is_flat_over_the_region_has_the_bound_zero(steps: int) -> None:
    """A relu that is off: what comes to the nodes before it is zero, of all rows."""
    ones = np.ones((2, 2))
    graph = layered((ones, np.zeros(2)), Tanh(), (ones, np.full(2, -9.0)), Relu(), (ones, np.zeros(2)), inputs=2)
    problem = pose(graph, Query(region=Ball(np.zeros(2), 0.1, 2.0)))
    assert proven(problem, steps=steps) <= 1e-300
