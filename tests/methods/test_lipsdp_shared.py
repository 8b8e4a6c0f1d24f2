"""LipSDP with multipliers that channels share: the sparse program is the dense one, and iterates are feasible."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest

import lipcert
from lipcert.activations import Activation, LeakyRelu, Relu, Tanh
from lipcert.activations.sorting import GroupMax, GroupSort
from lipcert.arithmetic.enclosure import exact
from lipcert.certificate import Claim, verify
from lipcert.certificate.chains import Setting
from lipcert.certificate.claim import Inequality
from lipcert.graph import Affine, Elementwise, Graph, Groupwise, Input, Node, Output
from lipcert.methods import OutOfTime, Progress, Unsuitable
from lipcert.methods.lipsdp import LipSdpMethod, method, program, shared
from lipcert.methods.lipsdp.barrier import newton
from lipcert.methods.lipsdp.interior_point import Iterate, solve
from lipcert.methods.lipsdp.program import Program, build, multipliers_of
from lipcert.methods.lipsdp.shared import shared_iterates
from lipcert.methods.product import ProductMethod
from lipcert.operators import Dense, Identity
from lipcert.problem import Norm, Problem, Query, pose
from tests.helpers.inequalities import NETWORKS, setting_of, with_norms
from tests.helpers.sampling import steepest_pairs

FEASIBLE = 1e-6
"""Of eigenvalues, the diagonal being about one."""


def convolved(rng: np.random.Generator, maps: tuple[int, int, int], channels: int) -> Dense:
    """A 3 x 3 convolution without stride, padded, written out as a matrix."""
    before, height, width = maps
    kernel = rng.normal(size=(channels, before, 3, 3)) / math.sqrt(9 * before)
    matrix = np.zeros((channels, height, width, before, height, width))
    for i in range(height):
        for j in range(width):
            for a in range(3):
                for b in range(3):
                    u, v = i + a - 1, j + b - 1
                    if 0 <= u < height and 0 <= v < width:
                        matrix[:, i, j, :, u, v] = kernel[:, :, a, b]
    return Dense(matrix.reshape(channels * height * width, -1))


class Maps:
    """Convolutions and activations one after the other, on maps of 3 x 4."""

    def __init__(self, seed: int, channels: int = 2) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Node] = [Input("x", (1, channels, 3, 4))]

    def conv(self, source: int, channels: int) -> int:
        operator = convolved(self.rng, self.nodes[source].shape[1:], channels)  # type: ignore[arg-type]
        bias = np.repeat(self.rng.normal(size=channels), 12)
        return self.add(Affine((source,), (operator,), exact(bias), (1, channels, 3, 4)))

    def active(self, source: int, activation: Activation | None = None) -> int:
        return self.add(Elementwise(source, activation or Relu(), self.nodes[source].shape))

    def plus(self, left: int, right: int) -> int:
        shape = self.nodes[left].shape
        same = Identity(math.prod(shape))
        return self.add(Affine((left, right), (same, same), exact(np.zeros(math.prod(shape))), shape))

    def dense(self, source: int, size: int) -> int:
        n = math.prod(self.nodes[source].shape)
        weights = self.rng.normal(size=(size, n)) / math.sqrt(n)
        return self.add(Affine((source,), (Dense(weights),), exact(self.rng.normal(size=size)), (1, size)))

    def add(self, node: Node) -> int:
        self.nodes.append(node)
        return len(self.nodes) - 1

    def graph(self) -> Graph:
        return Graph(tuple(self.nodes), (Output("y", len(self.nodes) - 1),))


def convs(activation: Activation) -> Callable[[Maps], None]:
    def make(build: Maps) -> None:
        at = build.active(build.conv(0, 3), activation)
        build.dense(build.active(build.conv(at, 4), activation), 3)

    return make


def with_a_head(build: Maps) -> None:
    at = build.active(build.conv(0, 3))
    build.dense(build.active(build.dense(build.active(build.conv(at, 2)), 6)), 2)


def residual(build: Maps) -> None:
    at = build.conv(0, 2)
    for _ in range(2):
        at = build.plus(at, build.conv(build.active(build.conv(at, 2), LeakyRelu(0.1)), 2))
    build.dense(at, 3)


def in_groups(build: Maps) -> None:
    at = build.conv(0, 3)
    at = build.add(Groupwise(at, GroupSort(3), (1, 3, 3, 4)))
    at = build.add(Groupwise(build.conv(at, 2), GroupMax(4), (1, 2, 3)))
    build.dense(at, 2)


def sorted_pairs(build: Maps) -> None:
    at = build.add(Groupwise(build.conv(0, 2), GroupSort(2), (1, 2, 3, 4)))
    build.dense(build.active(build.conv(at, 3)), 2)


def one_layer(build: Maps) -> None:
    build.dense(build.active(build.conv(0, 2)), 2)


CONVOLUTIONAL: dict[str, Callable[[Maps], None]] = {
    "one layer": one_layer,
    "relu": convs(Relu()),
    "leaky relu": convs(LeakyRelu(0.2)),
    "negative leaky relu": convs(LeakyRelu(-0.5)),
    "tanh": convs(Tanh()),
    "with a head": with_a_head,
    "residual": residual,
    "in groups": in_groups,
    "sorted pairs": sorted_pairs,
}
CASES = [(name, p) for name in CONVOLUTIONAL for p in (2.0, math.inf)]
cases = pytest.mark.parametrize(("name", "p"), CASES)


@cache
def setting_for(name: str, p: Norm) -> Setting:
    return with_norms(setting_of(problem_of(name)), p, 2.0)


@cache
def problem_of(name: str) -> Problem:
    build = Maps(len(name))
    CONVOLUTIONAL[name](build)
    return pose(build.graph(), Query())


def in_dense_form(sparse: Program) -> Program:
    """The same program, its multipliers shared, as plain matrices."""
    return replace(sparse, rows=sparse.rows.toarray(), out=sparse.out.toarray())


@cache
def iterates_of(name: str, p: Norm) -> tuple[Iterate, ...]:
    return tuple(shared_iterates(build(setting_for(name, p), sparse=True)))


def least_eigenvalue(found: Program, inputs: np.ndarray, multipliers: np.ndarray) -> float:
    """Of P with the multipliers of coordinates on its diagonal scaled to one."""
    matrix = found.matrix(inputs, multipliers)
    coordinate = np.concatenate([np.broadcast_to(inputs, found.inputs), multipliers[found.neuron_group]])
    shrink = 1 / np.sqrt(coordinate)
    return float(np.linalg.eigvalsh(shrink[:, None] * matrix * shrink)[0])


# The program.


@cases
def test_the_sparse_program_is_the_dense_one(name: str, p: Norm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "_reduced", lambda found: found)
    setting = setting_for(name, p)
    dense, sparse = build(setting), build(setting, sparse=True)
    np.testing.assert_array_equal(sparse.rows.toarray(), dense.rows)
    np.testing.assert_array_equal(sparse.out.toarray(), dense.out)
    np.testing.assert_array_equal(sparse.tilt, dense.tilt)
    np.testing.assert_array_equal(sparse.partner, dense.partner)
    assert (sparse.levels, sparse.row_levels) == (dense.levels, dense.row_levels)
    assert (sparse.inputs, sparse.each_input, sparse.size) == (dense.inputs, dense.each_input, dense.size)
    assert sparse.is_finite
    # at multipliers that a channel shares both give one form
    rng = np.random.default_rng(1)
    inputs, multipliers = np.exp(rng.normal(size=dense.inputs)), np.exp(rng.normal(size=sparse.groups))
    each = np.zeros(dense.groups)
    each[dense.neuron_group] = multipliers[sparse.neuron_group]
    expected = dense.matrix(inputs, each)
    found = in_dense_form(sparse).matrix(inputs, multipliers)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("name", NETWORKS)
def test_without_maps_nothing_is_shared_but_by_groups(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "_reduced", lambda found: found)
    rng = np.random.default_rng([*name.encode(), 2])
    setting = setting_of(pose(NETWORKS[name](rng), Query()))
    dense, sparse = build(setting), build(setting, sparse=True)
    np.testing.assert_array_equal(sparse.neuron_group, dense.neuron_group)
    np.testing.assert_array_equal(sparse.row_group, dense.row_group)
    np.testing.assert_array_equal(sparse.rows.toarray(), dense.rows)


def test_programs_of_single_outputs_and_inputs_are_rows_and_columns_of_it() -> None:
    setting = setting_for("with a head", 2.0)
    whole = in_dense_form(build(setting, sparse=True))
    for k in range(2):
        one = in_dense_form(build(setting, outputs=np.eye(2)[k], sparse=True))
        np.testing.assert_array_equal(one.out, whole.out[[k]])
        np.testing.assert_array_equal(one.rows, whole.rows)
    for i in (0, 7, 23):
        one = in_dense_form(build(setting, input=i, sparse=True))
        assert one.inputs == 1
        np.testing.assert_array_equal(one.rows, whole.rows[:, [i, *range(24, whole.size)]])
        np.testing.assert_array_equal(one.out, whole.out[:, [i, *range(24, whole.size)]])


def test_each_channel_shares_a_multiplier_and_each_neuron_of_a_dense_layer_has_its_own() -> None:
    found = build(setting_for("with a head", 2.0), sparse=True)
    expected = np.concatenate([np.repeat(np.arange(5), 12), 5 + np.arange(6)])
    np.testing.assert_array_equal(found.neuron_group, expected)
    np.testing.assert_array_equal(found.row_group, expected)
    assert found.groups == 11


def test_each_sorted_group_has_a_multiplier_and_each_pair_of_a_maximum() -> None:
    found = build(setting_for("in groups", 2.0), sparse=True)
    expected = np.concatenate([np.repeat(np.arange(12), 3), 12 + np.arange(18)])
    assert found.groups == 30
    np.testing.assert_array_equal(found.row_group, expected)
    np.testing.assert_array_equal(found.neuron_group, expected)


@pytest.mark.parametrize(
    ("shape", "count"),
    [
        ((1, 16, 8, 8), 16),
        ((16, 8, 8), 16),
        ((1, 3, 7), 3),
        ((3, 7), 3),
        ((1, 7), 7),
        ((7,), 7),
        ((1, 1, 5), 1),
        ((), 1),
        ((1,), 1),
        ((1, 1), 1),
    ],
)
def test_maps_are_shapes_with_channels_and_more(shape: tuple[int, ...], count: int) -> None:
    assert multipliers_of(shape) == count


# Products, and the start.


@cases
def test_products_are_those_of_the_dense_form(name: str, p: Norm) -> None:
    """P(y) v in the coordinates of the start, for vectors and matrices."""
    rng = np.random.default_rng(3)
    sparse = build(setting_for(name, p), sparse=True)
    inputs = np.exp(rng.normal(size=sparse.inputs if p == math.inf else 1))
    multipliers = np.exp(rng.normal(size=sparse.groups))
    data = shared._scaled(sparse, inputs, multipliers)
    y = np.exp(rng.normal(size=len(data.b)))
    coordinate = np.concatenate([np.broadcast_to(inputs, sparse.inputs), multipliers[sparse.neuron_group]])
    shrink = 1 / np.sqrt(coordinate)
    plain = in_dense_form(sparse).matrix(inputs * y[: data.first], multipliers * y[data.first :])
    plain = shrink[:, None] * plain * shrink
    for v in (rng.normal(size=sparse.size), rng.normal(size=(sparse.size, 3))):
        expected = plain @ v
        np.testing.assert_allclose(data.times(y, v), expected, rtol=1e-10, atol=1e-12 * np.abs(expected).max())
    assert data.b @ y == pytest.approx(float((inputs * y[: data.first]).sum() / inputs.sum()))
    estimate, vectors = data.lowest(y, 4, rng.normal(size=sparse.size))
    truth = np.linalg.eigvalsh(plain)
    assert estimate <= truth[0] + 1e-6 * np.abs(truth).max()
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(4), atol=1e-8)


@cases
def test_the_start_is_feasible(name: str, p: Norm) -> None:
    sparse = build(setting_for(name, p), sparse=True)
    start = shared._start(sparse)
    assert start is not None
    assert all(np.all((part > 0) & np.isfinite(part)) for part in start)
    assert least_eigenvalue(in_dense_form(sparse), *start) > 0
    first = next(shared_iterates(sparse))
    np.testing.assert_array_equal(first.inputs, start[0])
    np.testing.assert_array_equal(first.multipliers, start[1])


@pytest.mark.parametrize("size", [0.0, 1e200, math.inf])
def test_programs_without_a_start_have_no_iterates(size: float) -> None:
    """Constant outputs, and what overflows."""
    sparse = build(setting_for("relu", 2.0), sparse=True)
    with np.errstate(all="ignore"):
        assert list(shared_iterates(replace(sparse, out=sparse.out * size))) == []


@pytest.mark.parametrize("n", [3, 64, 65, 200])
def test_the_largest_eigenvalue_is_estimated_from_above(n: int) -> None:
    from scipy.sparse import csr_array

    a = np.random.default_rng(n).normal(size=(n, n))
    form = a @ a.T
    truth = float(np.linalg.eigvalsh(form)[-1])
    assert truth * (1 - 1e-12) <= shared._largest(csr_array(form)) <= 1.02 * truth


# Iterates.


@pytest.mark.one_in(2)
@cases
def test_every_iterate_is_feasible_and_better_than_the_one_before(name: str, p: Norm) -> None:
    plain = in_dense_form(build(setting_for(name, p), sparse=True))
    iterates = iterates_of(name, p)
    assert len(iterates) >= 5
    for iterate in iterates:
        assert np.all(iterate.inputs > 0)
        assert np.all(iterate.multipliers > 0)
        assert iterate.objective == pytest.approx(float(iterate.inputs.sum()))
        assert iterate.dual == 0
        assert least_eigenvalue(plain, iterate.inputs, iterate.multipliers) > -FEASIBLE
    assert all(later.objective < before.objective for before, later in pairwise(iterates))


@cases
def test_the_end_is_near_the_optimum_with_the_same_sharing(name: str, p: Norm) -> None:
    """By the interior-point method, of the dense program whose groups are the channels; and not below it."""
    *_, best = solve(in_dense_form(build(setting_for(name, p), sparse=True)))
    assert best.gap < 1e-5
    found = iterates_of(name, p)[-1].objective
    assert best.objective * (1 - 1e-5) <= found <= best.objective * 1.02**2  # the bound is its root


@pytest.mark.parametrize("p", [2.0, math.inf])
def test_another_solver_finds_the_same_optimum(p: Norm) -> None:
    cvxpy = pytest.importorskip("cvxpy")
    plain = in_dense_form(build(setting_for("one layer", p), sparse=True))
    first = plain.inputs if p == math.inf else 1
    nothing = plain.matrix(np.zeros(first), np.zeros(plain.groups))
    parts = [plain.matrix(unit[:first], unit[first:]) - nothing for unit in np.eye(first + plain.groups)]
    y = cvxpy.Variable(len(parts), nonneg=True)
    form = cvxpy.reshape(np.stack([part.ravel() for part in parts], axis=1) @ y, nothing.shape, order="C") + nothing
    asked = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum(y[:first])), [(form + form.T) / 2 >> 0])
    asked.solve(solver=cvxpy.CLARABEL)
    found = iterates_of("one layer", p)[-1].objective
    assert asked.value * (1 - 1e-5) <= found <= asked.value * 1.02**2


@cases
def test_sharing_costs_little_and_never_gains(name: str, p: Norm) -> None:
    *_, alone = solve(build(setting_for(name, p)))
    found = iterates_of(name, p)[-1].objective
    assert alone.objective * (1 - 1e-5) <= found <= 1.3**2 * alone.objective


# Newton steps.


def barrier(
    forms: np.ndarray, constant: np.ndarray, b: np.ndarray, y: np.ndarray, low: np.ndarray, high: np.ndarray, t: float
) -> float:
    values = np.linalg.eigvalsh(np.tensordot(y, forms, 1) - constant)
    assert values[0] > 0
    assert np.all((low < y) & (y < high))
    return float(t * b @ y - np.log(values).sum() - np.log((y - low) * (high - y)).sum())


@pytest.mark.parametrize("t", [0.1, 10.0, 1e4])
@pytest.mark.parametrize("seed", range(4))
def test_newton_steps_decrease_the_barrier_and_stay_inside(seed: int, t: float) -> None:
    """To its minimum, where the gradient by differences is none."""
    rng = np.random.default_rng([seed, 4])
    count, size = 4, 6
    roots = rng.normal(size=(count, size, size))
    forms = np.einsum("jab,jcb->jac", roots, roots) - 0.1 * np.eye(size)
    part = rng.normal(size=(size, 2))
    constant, b, y = part @ part.T, rng.random(count) + 0.1, np.full(count, 1.0)
    while np.linalg.eigvalsh(np.tensordot(y, forms, 1) - constant)[0] <= 0.1:
        y = 2 * y
    low, high = y / 4, y * 4
    about = forms, constant, b
    before = barrier(*about, y, low, high, t)
    for _ in range(100):
        found = newton(*about, y, low, high, t)
        assert found is not None
        moved, inverse, decrement = found
        np.testing.assert_allclose(inverse @ (np.tensordot(y, forms, 1) - constant), np.eye(size), atol=1e-6)
        after = barrier(*about, moved, low, high, t)
        assert after <= before + 1e-9 * abs(before)
        y, before = moved, after
        if decrement < 1e-6:
            break
    assert decrement < 1e-4
    for unit in np.eye(count):
        step = 1e-6 * unit * y
        slope = (barrier(*about, y + step, low, high, t) - barrier(*about, y - step, low, high, t)) / 2
        assert abs(slope) <= 1e-6 * (1e-3 + t * float(b @ y) * 1e-3)


def test_newton_has_no_step_from_outside() -> None:
    forms, b = np.eye(2)[None], np.ones(1)
    low, high = np.zeros(1), np.full(1, 10.0)
    assert newton(forms, 2 * np.eye(2), b, np.ones(1), low, high, 1.0) is None
    assert newton(forms * math.nan, np.eye(2), b, np.ones(1), low, high, 1.0) is None


# The method.


@pytest.fixture
def few_neurons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(method, "MAX_NEURONS", 10)


def claims(problem: Problem, progress: Progress | None = None) -> list[Claim]:
    return list(LipSdpMethod().claims(problem, progress or Progress()))


@pytest.mark.one_in(3)
@pytest.mark.usefixtures("few_neurons")
@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_claims_are_verified_and_no_pair_exceeds_them(name: str) -> None:
    for p, q in ((2.0, 2.0), (math.inf, 2.0), *(((math.inf, math.inf),) if name == "with a head" else ())):
        problem = problem_of(name)
        problem = replace(problem, query=replace(problem.query, norm_in=p, norm_out=q))
        claim = claims(problem)[-1]
        seen = steepest_pairs(problem, np.random.default_rng(5), 150)
        assert 0 < seen[p, q] <= verify(problem, claim) * (1 + 1e-9)
        assert isinstance(claim.evidence, Inequality)
        if name == "with a head":
            hidden = claim.evidence.scalings[0].hidden
            assert len(np.unique(hidden[:60])) == 5


def test_the_method_shares_where_there_are_many_neurons_and_only_there(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[bool] = []
    original = build

    def watched(setting: Setting, output: int | None = None, input: int | None = None, sparse: bool = False) -> Program:
        used.append(sparse)
        return original(setting, output, input, sparse)

    monkeypatch.setattr(method, "build", watched)
    problem = problem_of("relu")
    whole = verify(problem, claims(problem)[-1])
    monkeypatch.setattr(method, "MAX_NEURONS", 10)
    less = verify(problem, claims(problem)[-1])
    assert used == [False, True]
    assert whole * (1 - 1e-6) <= less <= 1.25 * whole


def digits() -> Problem:
    return pose(lipcert.load("models/digits_conv.onnx").graph, Query())


@pytest.mark.usefixtures("few_neurons")
def test_a_convolutional_network_is_bounded_by_less_than_the_product_within_its_time() -> None:
    problem = digits()
    started = time.monotonic()
    claim = claims(problem, Progress(started + 3.0))[-1]
    value = verify(problem, claim)
    assert time.monotonic() - started < 8
    product = min(c.value for c in ProductMethod().claims(problem, Progress(time.monotonic() + 2.0)))
    assert value < 0.95 * product
    assert steepest_pairs(problem, np.random.default_rng(6), 20)[2.0, 2.0] <= value


@pytest.mark.usefixtures("few_neurons")
@pytest.mark.parametrize("rounds", [0, 1, 3])
def test_out_of_time_keeps_the_best_iterate(rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = problem_of("relu")
    left = [rounds]

    def tick() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OutOfTime

    monkeypatch.setattr(method, "_reserve", lambda setting, progress: tick)
    value = verify(problem, claims(problem)[-1])
    expected = math.sqrt(iterates_of("relu", 2.0)[rounds].objective)
    assert value == pytest.approx(expected, rel=2e-3)


@pytest.mark.usefixtures("few_neurons")
def test_a_run_without_time_makes_a_claim_or_says_so() -> None:
    problem = problem_of("with a head")
    for seconds in (-1.0, 0.0, 0.01, 0.05):
        try:
            found = claims(problem, Progress(time.monotonic() + seconds))
        except (OutOfTime, Unsuitable):
            continue
        for claim in found:
            assert verify(problem, claim) <= claim.value


@pytest.mark.usefixtures("few_neurons")
def test_networks_over_the_limits_and_other_solvers_are_declined_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = problem_of("relu")
    with pytest.raises(Unsuitable, match="84 neurons are too many for clarabel"):
        claims(problem, Progress(solver="clarabel"))
    for name, limit in (("MAX_SHARED", 20), ("MAX_GROUPS", 6)):
        with monkeypatch.context() as patch:
            patch.setattr(method, name, limit)
            with pytest.raises(Unsuitable, match="84 neurons are too many for one LipSDP"):
                claims(problem)
    assert claims(problem)
