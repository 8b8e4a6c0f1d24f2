"""What HiGHS says is the largest norm over all patterns of activations that the region holds, and points attain it."""

from __future__ import annotations

import itertools
import math
import re
import time
from collections.abc import Callable

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import linprog

from lipcert.activations import Abs, Activation, LeakyRelu, Relu, Tanh
from lipcert.activations.sorting import GroupSort
from lipcert.arithmetic.enclosure import exact
from lipcert.certificate import verify, verify_witness
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.linear_bounds import in_ramps
from lipcert.graph import Affine, Elementwise, Graph, Input, Output
from lipcert.methods import Progress, Unsuitable
from lipcert.methods.mip import MipMethod, solve_mip
from lipcert.methods.mip.linear import TINY, _without_tiny
from lipcert.methods.mip.method import steepest
from lipcert.operators import Dense
from lipcert.planning import solve
from lipcert.problem import Ball, Box, Everywhere, Margin, Norm, Problem, Query, Region, pose
from tests.helpers.inequalities import Builder

INF = math.inf
SECONDS = 20.0
CLOSE = 1e-6
NORMS = [(INF, INF), (1.0, INF), (1.0, 1.0)]
N, M = 3, 2


def one_layer(rng: np.random.Generator, activation: Activation) -> Graph:
    build = Builder(rng)
    build.affine(M, build.active(build.affine(6, 0), activation))
    return build.graph()


def two_layers(rng: np.random.Generator, activation: Activation) -> Graph:
    build = Builder(rng)
    build.affine(M, build.active(build.affine(4, build.active(build.affine(4, 0), activation)), activation))
    return build.graph()


def residual(rng: np.random.Generator, activation: Activation) -> Graph:
    build = Builder(rng)
    first = build.active(build.affine(3, 0), activation)
    second = build.plus(first, build.active(build.affine(3, first), activation))
    build.affine(M, second, 0)
    return build.graph()


SHAPES = [one_layer, two_layers, residual]
Shape = Callable[[np.random.Generator, Activation], Graph]


def region(kind: str, rng: np.random.Generator) -> Region:
    center = rng.normal(size=N)
    if kind == "box":
        return Box(center - rng.uniform(0, 1.5, N), center + rng.uniform(0, 1.5, N))
    return Ball(center, 1.0, 1.0 if kind == "l1" else INF)


def norm_of(jacobian: np.ndarray, norm_in: Norm, norm_out: Norm) -> float:
    if norm_in == INF:
        return float(np.abs(jacobian).sum(axis=1).max())
    return float(np.linalg.norm(jacobian, ord=norm_out, axis=0).max())


def enumerated(problem: Problem) -> float:
    """The largest norm over all patterns: of those that the region holds an input of, by a linear program each."""
    graph, query = problem.graph, problem.query
    neurons = [
        (i, k) for i, node in enumerate(graph.nodes) if isinstance(node, Elementwise) for k in range(graph.size(i))
    ]
    found = 0.0
    for pattern in itertools.product((-1.0, 1.0), repeat=len(neurons)):
        side = dict(zip(neurons, pattern, strict=True))
        # every node as J x + b where the pattern holds, and what has to be at least 0
        linear: list[tuple[np.ndarray, np.ndarray]] = []
        planes: list[np.ndarray] = []
        for i, node in enumerate(graph.nodes):
            if isinstance(node, Input):
                linear.append((np.eye(N), np.zeros(N)))
            elif isinstance(node, Affine):
                matrices = [Arithmetic().dense(op).value for op in node.operators]
                parts = list(zip(matrices, node.inputs, strict=True))
                jacobian = sum(a @ linear[s][0] for a, s in parts)
                linear.append((jacobian, sum(a @ linear[s][1] for a, s in parts) + node.bias.value))
            else:
                assert isinstance(node, Elementwise)
                jacobian, offset = linear[node.input]
                signs = np.array([side[i, k] for k in range(graph.size(i))])
                planes.append(signs[:, None] * np.column_stack([jacobian, offset]))
                slopes = node.activation.derivative(signs)
                linear.append((slopes[:, None] * jacobian, slopes * offset))
        norm = norm_of(linear[problem.y][0], query.norm_in, query.norm_out)
        if norm > found and depth(np.concatenate(planes), query.region) > 0:
            found = norm
    return found


def depth(planes: np.ndarray, region: Region) -> float:
    """max t: planes (x, 1) >= t at an x of the region; its variables are x, t and, in an l1 ball, |x - center|."""
    k, one = len(planes), np.eye(N)
    rows = [np.column_stack([-planes[:, :N], np.ones(k), np.zeros((k, N))])]
    sides = [planes[:, N]]
    if isinstance(region, Ball) and region.norm == 1:
        for sign in (1.0, -1.0):
            rows.append(np.column_stack([sign * one, np.zeros(N), -one]))
            sides.append(sign * region.center)
        rows.append(np.concatenate([np.zeros(N + 1), np.ones(N)])[None])
        sides.append(np.array([region.eps]))
    box = np.stack(region.bounds(N), axis=1)
    bounds = np.concatenate([box, [[-INF, INF]], np.tile([-INF, INF], (N, 1))])
    cost = np.zeros(2 * N + 1)
    cost[N] = -1.0
    found = linprog(cost, A_ub=np.concatenate(rows), b_ub=np.concatenate(sides), bounds=bounds)
    return float(found.x[N]) if found.status == 0 else -1.0


def posed(graph: Graph, norms: tuple[Norm, Norm], where: Region) -> Problem:
    return pose(graph, Query(*norms, where))


@pytest.mark.parametrize("kind", ["linf", "l1", "box"])
@pytest.mark.parametrize("norms", NORMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_value_is_the_largest_norm_over_all_patterns(shape: Shape, norms: tuple[Norm, Norm], kind: str) -> None:
    rng = np.random.default_rng(SHAPES.index(shape))
    problem = posed(shape(rng, Relu()), norms, region(kind, rng))
    answer = solve_mip(problem, Arithmetic(), SECONDS)
    assert answer.finished
    assert answer.value == pytest.approx(enumerated(problem), rel=CLOSE)
    assert answer.value <= answer.bound <= answer.value * (1 + CLOSE)


@pytest.mark.parametrize(
    "activation", [LeakyRelu(0.1), LeakyRelu(1.7), LeakyRelu(-0.4), LeakyRelu(1.0), Abs()], ids=lambda a: a.describe()
)
@pytest.mark.parametrize("norms", NORMS)
def test_other_activations_of_two_pieces(activation: Activation, norms: tuple[Norm, Norm]) -> None:
    rng = np.random.default_rng(7)
    problem = posed(residual(rng, activation), norms, region("linf", rng))
    answer = solve_mip(problem, Arithmetic(), SECONDS)
    assert answer.finished
    assert answer.value == pytest.approx(enumerated(problem), rel=CLOSE)


@pytest.mark.parametrize("norms", NORMS)
@pytest.mark.parametrize("seed", range(3))
def test_the_point_attains_the_value(seed: int, norms: tuple[Norm, Norm]) -> None:
    rng = np.random.default_rng(seed)
    problem = posed(two_layers(rng, Relu()), norms, region("linf", rng))
    answer = solve_mip(problem, Arithmetic(), SECONDS)
    assert problem.query.region.contains(answer.point)
    witness, gain = steepest(problem, answer.point)
    assert gain == pytest.approx(answer.value, rel=CLOSE)
    assert verify_witness(problem, witness, Arithmetic()) == pytest.approx(answer.value, rel=CLOSE)


@pytest.mark.parametrize("norms", NORMS)
def test_sorted_pairs_are_ramps(norms: tuple[Norm, Norm]) -> None:
    rng = np.random.default_rng(5)
    build = Builder(rng)
    at = build.grouped(build.affine(4, 0), GroupSort(2))
    build.affine(M, build.grouped(build.affine(4, at), GroupSort(2)))
    problem = posed(build.graph(), norms, region("linf", rng))
    by = Arithmetic()
    answer = solve_mip(problem, by, SECONDS)
    assert answer.finished
    assert answer.value == pytest.approx(enumerated(in_ramps(problem, by)), rel=CLOSE)


@pytest.mark.parametrize("scale", [1e-9, 1e6])
def test_the_scale_of_the_outputs_does_not_matter(scale: float) -> None:
    rng = np.random.default_rng(3)
    build = Builder(rng)
    hidden = build.active(build.affine(4, build.active(build.affine(4, 0), Relu())), Relu())
    build._add(Affine((hidden,), (Dense(scale * rng.normal(size=(M, 4))),), exact(np.zeros(M)), (M,)))
    problem = posed(build.graph(), (INF, INF), region("linf", rng))
    answer = solve_mip(problem, Arithmetic(), SECONDS)
    assert answer.value == pytest.approx(enumerated(problem), rel=CLOSE)
    assert answer.bound == pytest.approx(answer.value, rel=CLOSE)


@pytest.mark.parametrize("norm_out", [1.0, 2.0, INF])
def test_of_one_output_any_norm_is_its_magnitude(norm_out: Norm) -> None:
    rng = np.random.default_rng(4)
    graph, where = two_layers(rng, Relu()), region("linf", rng)
    one, same = (pose(graph, Query(INF, out, where, Margin(0, 1))) for out in (norm_out, INF))
    assert solve_mip(one, Arithmetic(), SECONDS).value == solve_mip(same, Arithmetic(), SECONDS).value


def wide(seed: int) -> tuple[Graph, Ball]:
    """Two layers of eight on six inputs."""
    rng = np.random.default_rng(seed)
    build = Builder(rng, inputs=6)
    build.affine(3, build.active(build.affine(8, build.active(build.affine(8, 0), Relu())), Relu()))
    return build.graph(), Ball(rng.normal(size=6), 0.7, INF)


@pytest.mark.parametrize("norms", NORMS)
@pytest.mark.parametrize("seed", range(2))
def test_the_value_is_between_what_is_attained_and_what_is_proven(seed: int, norms: tuple[Norm, Norm]) -> None:
    graph, where = wide(seed)
    problem = posed(graph, norms, where)
    answer = solve_mip(problem, Arithmetic(), SECONDS)
    proven = solve(problem, exact=True, timeout=SECONDS)
    assert proven.upper is not None
    assert answer.finished
    assert proven.lower <= answer.bound * (1 + CLOSE)
    assert proven.lower * (1 - CLOSE) <= answer.value <= proven.upper
    assert proven.upper <= answer.bound * 1.011


def test_without_time_the_bound_is_that_of_the_boxes() -> None:
    graph, where = wide(0)
    problem = posed(graph, (INF, INF), where)
    hurried, answer = (solve_mip(problem, Arithmetic(), seconds) for seconds in (0.0, SECONDS))
    assert not hurried.finished
    assert hurried.value <= answer.value < hurried.bound
    assert np.array_equal(hurried.point, where.center)


def test_slopes_that_are_only_met_together_at_a_tie_count() -> None:
    """max(0, x) - max(0, -x) is x, but 1 and 1 are slopes of its parts at 0."""
    sides, both = Dense(np.array([[1.0], [-1.0]])), Dense(np.array([[1.0, -1.0]]))
    nodes = (
        Input("x", (1,)),
        Affine((0,), (sides,), exact(np.zeros(2)), (2,)),
        Elementwise(1, Relu(), (2,)),
        Affine((2,), (both,), exact(np.zeros(1)), (1,)),
    )
    graph = Graph(nodes, (Output("y", 3),))
    answer = solve_mip(posed(graph, (INF, INF), Ball(np.zeros(1), 1.0, INF)), Arithmetic(), SECONDS)
    assert answer.value == pytest.approx(2.0)
    apart = solve_mip(posed(graph, (INF, INF), Ball(np.full(1, 2.0), 1.0, INF)), Arithmetic(), SECONDS)
    assert (apart.value, apart.bound) == pytest.approx((1.0, 1.0))


@pytest.mark.parametrize("norms", NORMS)
def test_of_a_point_it_is_the_norm_there(norms: tuple[Norm, Norm]) -> None:
    graph, where = wide(0)
    problem = posed(graph, norms, Ball(where.center, 0.0, INF))
    answer = solve_mip(problem, Arithmetic(), INF)
    assert np.array_equal(answer.point, where.center)
    assert answer.value == pytest.approx(steepest(problem, where.center)[1])
    assert answer.bound == pytest.approx(answer.value)


def test_what_does_not_depend_on_the_input_has_the_norm_0() -> None:
    nodes = (Input("x", (N,)), Affine((), (), exact(np.ones(M)), (M,)))
    problem = posed(Graph(nodes, (Output("y", 1),)), (INF, INF), Ball(np.zeros(N), 1.0, INF))
    answer = solve_mip(problem, Arithmetic(), SECONDS)
    assert (answer.value, answer.bound, answer.finished) == (0.0, 0.0, True)


HERE = Ball(np.zeros(N), 0.5, INF)
REFUSED: dict[str, tuple[Activation, tuple[Norm, Norm], Region]] = {
    "over a region only": (Relu(), (INF, INF), Everywhere()),
    "an l2 ball is no linear constraint": (Relu(), (INF, INF), Ball(np.zeros(N), 0.5, 2.0)),
    "an l2 norm is not linear": (Relu(), (2.0, 2.0), HERE),
    "takes signs of the outputs, too": (Relu(), (INF, 1.0), HERE),
    "tanh .* is not of two straight pieces": (Tanh(), (INF, INF), HERE),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_it_does_not_bound_it_refuses(reason: str) -> None:
    activation, norms, where = REFUSED[reason]
    problem = posed(one_layer(np.random.default_rng(0), activation), norms, where)
    with pytest.raises(Unsuitable, match=reason):
        solve_mip(problem, Arithmetic(), SECONDS)
    assert re.search(reason, MipMethod().accepts(problem) or "")


def test_groups_and_products_and_free_inputs_and_large_networks_are_refused() -> None:
    rng = np.random.default_rng(0)
    groups, product, free = Builder(rng), Builder(rng), Builder(rng)
    groups.affine(M, groups.grouped(groups.affine(7, 0), GroupSort(7)))
    product.affine(M, product.times(product.affine(3, 0), product.affine(3, 0)))
    free.nodes.append(Input("z", (N,)))
    free.plus(0, 1)
    query = Query(INF, INF, HERE, inputs=("x",))
    large = Builder(rng)
    large.affine(M, large.affine(2**12, large.affine(2**12, 0)))
    refused = {"group": groups, "Product": product, "inputs that do not vary": free, "too many": large}
    for reason, build in refused.items():
        problem = pose(build.graph(), query)
        with pytest.raises(Unsuitable, match=reason):
            solve_mip(problem, Arithmetic(), SECONDS)
        assert reason in (MipMethod().accepts(problem) or "")


@pytest.mark.parametrize("norms", NORMS)
def test_the_method_says_what_highs_says_and_proves_its_claims(norms: tuple[Norm, Norm]) -> None:
    graph, where = wide(1)
    problem = posed(graph, norms, where)
    method, by = MipMethod(), Arithmetic()
    progress = Progress(time.monotonic() + SECONDS, arithmetic=by)
    assert method.accepts(problem) is None
    claims = list(method.claims(problem, progress))
    answer = solve_mip(problem, Arithmetic(), SECONDS)
    assert progress.notes[0] == f"HiGHS says {answer.value:.9g}, at most {answer.bound:.9g} (not proven)"
    assert verify_witness(problem, progress.witnesses[0], by) == pytest.approx(answer.value, rel=CLOSE)
    proven = min(verify(problem, claim, by) for claim in claims)
    assert answer.value <= proven <= answer.value * (progress.gap + CLOSE)


def test_rows_without_tiny_coefficients_allow_what_rows_with_them_do() -> None:
    """HiGHS calls feasible programs infeasible where some are 1e-11 and others 100."""
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(30, 12)) * 10.0 ** rng.integers(-12, 2, (30, 12))
    sizes = 10.0 ** rng.uniform(-2, 2, 12)
    points = sizes * rng.uniform(-1, 1, (500, 12))
    low, high = (points @ matrix.T).min(axis=0), (points @ matrix.T).max(axis=0)
    kept, least, most = _without_tiny(sparse.csr_array(matrix), low, high, sizes)
    assert np.abs(kept.data).min() >= TINY
    assert kept.nnz < matrix.size
    values = points @ kept.toarray().T
    room = 1e-12 * np.abs(matrix) @ sizes
    assert np.all(least - room <= values)
    assert np.all(values <= most + room)
    assert np.all(most - high <= TINY * sizes.sum())
