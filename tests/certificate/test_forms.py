"""Quadratic forms of groups: whatever matrices are given, what the kernel proves from them is true."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from lipcert.activations import LeakyRelu, Relu
from lipcert.activations.jacobian import BlockBound, Forms, SlopeBound
from lipcert.activations.sorting import GroupSort
from lipcert.arithmetic.enclosure import Enclosure, exact
from lipcert.certificate import Claim, verify
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.balls import BallArithmetic
from lipcert.certificate.chains import Setting
from lipcert.certificate.claim import FormChoice, Inequality, Scaling
from lipcert.certificate.forms import quadratic_forms
from lipcert.certificate.inequality import inequality, inequality_bound
from lipcert.errors import NotProvedError
from lipcert.graph import Affine, Graph, Groupwise, Input, Output
from lipcert.methods import Progress
from lipcert.methods.lipsdp import LipSdpMethod
from lipcert.operators import Dense
from lipcert.problem import Ball, Box, Norm, Problem, Query, pose
from tests.helpers.exact import is_semidefinite
from tests.helpers.inequalities import (
    NETWORKS,
    REGIONS,
    Builder,
    Definition,
    exactly,
    in_floats,
    largest,
    neurons,
    same_in_groups,
    setting_of,
    with_norms,
)
from tests.helpers.operators import as_fractions
from tests.helpers.sampling import (
    Ratios,
    operator_norms,
    random_points,
    steepest_jacobians,
    steepest_pairs,
    values,
)

MARGIN = 1 + 1e-9
"""For the rounding of what is sampled."""

ENOUGH = 1e308
ASKED: tuple[tuple[Norm, Norm], ...] = ((2.0, 2.0), (math.inf, math.inf), (2.0, math.inf), (1.0, 2.0))
in_both = pytest.mark.parametrize("arithmetic", [Arithmetic, BallArithmetic], ids=["float64", "balls"])

Matrices = dict[int, np.ndarray]
"""(G, k + m, k + m) of each node of groups."""


# Networks.


def mixed(rng: np.random.Generator) -> Graph:
    build = Builder(rng)
    at = build.active(build.affine(6, 0), Relu())
    at = build.grouped(build.affine(6, at), GroupSort(3))
    build.affine(2, build.active(build.affine(4, at), LeakyRelu(-0.5)), 0)
    return build.graph()


def forked(rng: np.random.Generator) -> Graph:
    """Sorted groups of three, of four and of two read one node, and one of three reads the first."""
    build = Builder(rng)
    at = build.affine(12, 0)
    three, four = build.grouped(at, GroupSort(3)), build.grouped(at, GroupSort(4))
    pairs = build.grouped(build.affine(4, at), GroupSort(2))
    build.affine(2, four, pairs, build.grouped(build.affine(3, three), GroupSort(3)), at)
    return build.graph()


def square(rng: np.random.Generator) -> Graph:
    """As many inputs as sorted entries: any permutation of these has a point."""
    build = Builder(rng, inputs=6)
    at = build.grouped(build.affine(6, 0), GroupSort(3))
    build.affine(3, build.grouped(build.affine(6, at), GroupSort(3)))
    return build.graph()


GROUPED: dict[str, Callable[[np.random.Generator], Graph]] = {
    "groupsort of 3": NETWORKS["groupsort of 3"],
    "groupsort of 4": NETWORKS["groupsort of 4"],
    "mixed": mixed,
    "forked": forked,
}
grouped = pytest.mark.parametrize("name", GROUPED)


def posed(name: str, kind: str, seed: int = 0, norms: tuple[Norm, Norm] = (2.0, 2.0)) -> Problem:
    rng = np.random.default_rng([*name.encode(), seed])
    graph = GROUPED[name](rng)
    return pose(graph, Query(*norms, region=REGIONS[kind](np.random.default_rng([*kind.encode(), seed]))))


# What is true: pairs, Jacobians, and any mean of the permutations that a group may have.


def attained(problem: Problem, rng: np.random.Generator) -> Ratios:
    """Of thousands of pairs, near ones and those cut at kinks among them, and of Jacobians."""
    seen = [steepest_pairs(problem, rng, 500) for _ in range(3)] + [steepest_jacobians(problem, rng, 300)]
    return {pair: max(each[pair] for each in seen) for pair in seen[0]}


def possible_orders(forms: Forms, groups: int) -> np.ndarray:
    """(G, K): which permutations groups may have."""
    assert forms.extremes is not None
    return np.ones((groups, len(forms.extremes)), dtype=bool) if forms.possible is None else forms.possible


def allowed_jacobians(setting: Setting, rng: np.random.Generator, count: int = 600) -> np.ndarray:
    """Of y in x, with any slopes and any means of permutations that the increments allow."""
    definition, nodes = in_floats(setting), setting.increments.nonlinear
    n, total = setting.graph.size(setting.x), sum(neurons(setting))
    moved, at = np.zeros((count, total, n + total)), 0
    for node, read in zip(nodes, definition.reads, strict=True):
        bound, size = setting.increments.bound(node), setting.graph.size(node)
        if isinstance(bound, SlopeBound):
            part = np.clip(rng.uniform(-0.5, 1.5, (count, size)), 0, 1)
            slope = (bound.low + part * (bound.high - bound.low))[:, :, None]
            moved[:, at : at + size] = slope * read
        else:
            assert isinstance(bound, BlockBound)
            assert bound.entries is not None
            k = bound.columns.shape[1]
            for g in range(size // k):
                own = moved[:, at + g * k : at + (g + 1) * k]
                own[:] = _means(bound, g, rng, count) @ read[g * k : (g + 1) * k]
        at += size
    through = np.linalg.solve(np.eye(total) - moved[:, :, n:], moved[:, :, :n])
    return np.asarray(definition.y[:, :n] + definition.y[:, n:] @ through)


def _means(bound: BlockBound, group: int, rng: np.random.Generator, count: int) -> np.ndarray:
    """Means of the permutations of a group whose entries are all possible, two thirds of them one alone."""
    if bound.forms is None:  # pairs, or too many
        k = bound.columns.shape[1]
        orders = np.eye(k)[np.array([np.arange(k), np.roll(np.arange(k), 1)])]
        allowed = np.ones(2, dtype=bool)
    else:
        assert bound.forms.extremes is not None
        orders = bound.forms.extremes
        allowed = possible_orders(bound.forms, len(bound.columns))[group]
    weight = rng.dirichlet(np.full(allowed.sum(), 0.5), count)
    alone = rng.random(count) < 2 / 3
    weight[alone] = np.eye(allowed.sum())[rng.integers(allowed.sum(), size=alone.sum())]
    return np.einsum("ck,kij->cij", weight, orders[allowed])


# Matrices, scales and P.


def formed(setting: Setting) -> dict[int, tuple[BlockBound, Forms]]:
    found = {}
    for node in setting.increments.nonlinear:
        bound = setting.increments.bound(node)
        if isinstance(bound, BlockBound) and bound.forms is not None:
            found[node] = (bound, bound.forms)
    return found


def at_extremes(q: np.ndarray, forms: Forms) -> np.ndarray:
    """(K, G, k, k): the forms of dv alone, dw being an extreme Jacobian times it."""
    assert forms.extremes is not None
    k = forms.extremes.shape[2]
    stacked = np.concatenate([np.tile(np.eye(k), (len(forms.extremes), 1, 1)), forms.extremes], axis=1)[:, None]
    return np.asarray(np.swapaxes(stacked, 2, 3) @ q @ stacked)


def raised(q: np.ndarray, forms: Forms, room: float) -> np.ndarray:
    """Q with just enough more of |dv|^2 that it is positive at all possible permutations, by `room` of its size."""
    assert forms.extremes is not None
    k = forms.extremes.shape[2]
    least = np.linalg.eigvalsh(at_extremes(q, forms))[..., 0].T
    missing = np.where(possible_orders(forms, len(q)), -least, -np.inf).max(axis=1)
    found = q.copy()
    for g, more in enumerate(missing + room * np.abs(q).max(axis=(1, 2))):
        found[g, :k, :k] += more * np.eye(k)
    return found


def random_matrices(setting: Setting, rng: np.random.Generator, room: float = 1e-9) -> Matrices:
    """Any Q with a negative block of dw, raised until it is a form of the group."""
    found = {}
    for node, (bound, forms) in formed(setting).items():
        groups, k = bound.columns.shape
        s = k + bound.rows.shape[1]
        q = rng.normal(size=(groups, s, s)) * 10.0 ** rng.uniform(-2, 0.3, (groups, 1, 1))
        q = q + np.swapaxes(q, 1, 2)
        root = rng.normal(size=(groups, s - k, s - k)) / 2
        q[:, k:, k:] = -(root @ np.swapaxes(root, 1, 2) + np.eye(s - k))
        q[:, k:, k:] = (q[:, k:, k:] + np.swapaxes(q[:, k:, k:], 1, 2)) / 2
        found[node] = raised(q, forms, room)
    return found


def choices(matrices: Matrices) -> tuple[FormChoice, ...]:
    return tuple(FormChoice(node, q) for node, q in matrices.items())


def in_full(definition: Definition, scaling: Scaling) -> np.ndarray:
    """P by definition, with the forms of the scaling: in floats or in Fractions, as the definition is."""
    precise = definition.y.dtype == object
    inputs, hidden, outputs = (
        as_fractions(v) if precise else v for v in (scaling.inputs, scaling.hidden, scaling.outputs)
    )
    total = definition.form(inputs, hidden, outputs)
    scale, n = np.concatenate([inputs, hidden]), len(inputs)
    unit = as_fractions(np.eye(len(scale))) if precise else np.eye(len(scale))
    chosen = {choice.node: choice.values for choice in scaling.forms}
    for node, read in zip(definition.setting.increments.nonlinear, definition.reads, strict=True):
        size = definition.setting.graph.size(node)
        if node in chosen:
            q = as_fractions(chosen[node]) if precise else chosen[node]
            width = size // len(q)
            for g, each in enumerate(q):
                own = slice(g * width, (g + 1) * width)
                z, v = unit[n : n + size][own], read[own] * scale / scale[n + g * width]
                moved = np.concatenate([v, z])
                total = total - (z.T @ z - v.T @ v) - moved.T @ each @ moved  # norms of sorts are 1
        n += size
    return np.asarray(total)


def tightened(setting: Setting, rng: np.random.Generator, matrices: Matrices, spread: float = 1.0) -> Scaling:
    """Random scales, enlarged until almost nothing is proven: of inputs with some room, then of outputs."""
    sizes = neurons(setting)
    n, m = setting.graph.size(setting.x), setting.graph.size(setting.y)
    shape_in, hidden, shape_out = (np.exp(spread * rng.normal(size=size)) for size in (n, sum(sizes), m))
    hidden = same_in_groups(setting, hidden)
    levels = np.repeat(np.arange(len(sizes)), sizes).astype(float)
    definition, forms = in_floats(setting), choices(matrices)

    def scaled(steeper: float, into: float, out: float) -> Scaling:
        return Scaling(into * shape_in, hidden * steeper**levels, out * shape_out, forms)

    def is_above(steeper: float, into: float, out: float, least: float) -> bool:
        form = in_full(definition, scaled(steeper, into, out))
        if not np.all(np.isfinite(form)) or np.any(np.diag(form) <= 0):
            return False
        root = np.sqrt(np.diag(form))
        return bool(np.linalg.eigvalsh(form / np.outer(root, root))[0] >= least)

    for least in (1e-9, 1e-6, 1e-3):
        steeper = next(4.0**k for k in range(60) if is_above(4.0**k, 1e-9, 0.0, least))
        into = float(rng.uniform(0.3, 0.9)) * min(1e9, largest(lambda a, t=least, s=steeper: is_above(s, a, 0.0, t)))
        out = largest(lambda c, t=least, s=steeper, i=into: is_above(s, i, c, t))
        if setting.by.proves_positive(inequality(setting, scaled(steeper, into, out))):
            return scaled(steeper, into, out)
    raise AssertionError("no scales are proven")


def bound_of(setting: Setting, *scalings: Scaling) -> float:
    return inequality_bound(setting, Inequality(scalings))


# Nothing sampled exceeds what is proven.


@pytest.mark.one_in(3)
@grouped
@pytest.mark.parametrize("kind", REGIONS)
def test_no_sampled_ratio_exceeds_what_the_solver_proves(name: str, kind: str) -> None:
    """For several norms; nor does the Jacobian of any choice of slopes and permutations that the region allows."""
    problem = posed(name, kind)
    rng = np.random.default_rng(1)
    seen, allowed = attained(problem, rng), allowed_jacobians(setting_of(problem), rng)
    for norms in ASKED:
        asked = replace(problem, query=replace(problem.query, norm_in=norms[0], norm_out=norms[1]))
        claims = list(LipSdpMethod().claims(asked, Progress(linear=False)))  # what intervals allow
        assert claims
        for claim in claims:
            proven = verify(asked, claim)
            assert 0 < seen[norms] <= proven * MARGIN
            assert operator_norms(allowed, *norms).max() <= proven * MARGIN


@grouped
@pytest.mark.parametrize("kind", REGIONS)
def test_no_sampled_ratio_exceeds_what_any_forms_prove(name: str, kind: str) -> None:
    """Random matrices that are just forms of their groups, with random scales."""
    problem = posed(name, kind, 1)
    rng = np.random.default_rng(2)
    setting = setting_of(problem)
    seen, allowed = attained(problem, rng), allowed_jacobians(setting, rng)
    for turn in range(4):
        scaling = tightened(setting, rng, random_matrices(setting, rng), float(turn % 2))
        for norms in ASKED:
            proven = bound_of(with_norms(setting, *norms), scaling)
            assert 0 < seen[norms] <= proven * MARGIN
            assert operator_norms(allowed, *norms).max() <= proven * MARGIN


@pytest.mark.one_in(2)
@grouped
@pytest.mark.parametrize("seed", range(2))
def test_no_sampled_ratio_exceeds_what_the_solvers_forms_prove_when_they_are_shaken(name: str, seed: int) -> None:
    problem = posed(name, "everywhere", seed + 2)
    rng = np.random.default_rng(3)
    setting = setting_of(problem)
    seen, allowed = attained(problem, rng), allowed_jacobians(setting, rng)
    claim = list(LipSdpMethod().claims(problem, Progress()))[-1]
    assert isinstance(claim.evidence, Inequality)
    (scaling,) = claim.evidence.scalings
    for size in (1e-6, 1e-3, 0.1):
        forms = []
        for choice in scaling.forms:
            k = choice.values.shape[1] // 2
            noise = size * rng.normal(size=choice.values.shape)  # what is returned has about 1
            shaken = choice.values + noise + np.swapaxes(noise, 1, 2)
            below = np.linalg.eigvalsh(shaken[:, k:, k:])[:, -1]
            shaken[:, k:, k:] -= (np.maximum(below, 0) + size)[:, None, None] * np.eye(k)
            forms.append(FormChoice(choice.node, raised(shaken, formed(setting)[choice.node][1], 1e-9)))
        changed, factor = _proven_again(setting, replace(scaling, forms=tuple(forms)), size)
        for norms in ASKED if factor else ():
            proven = bound_of(with_norms(setting, *norms), replace(changed, outputs=scaling.outputs * factor))
            assert 0 < seen[norms] <= proven * MARGIN
            assert operator_norms(allowed, *norms).max() <= proven * MARGIN
        assert factor or size > 1e-6


def _proven_again(setting: Setting, scaling: Scaling, size: float) -> tuple[Scaling, float]:
    """Scales of inputs smaller and of later nodes larger until something is proven; the factor of those of outputs."""
    levels = np.repeat(np.arange(len(neurons(setting))), neurons(setting)).astype(float)
    for more in (0.0, 10.0, 100.0, 1000.0):
        room = 1 + more * size
        changed = replace(scaling, inputs=scaling.inputs / room, hidden=scaling.hidden * room**levels)
        low, high = 0.0, 2.0
        for _ in range(40):
            middle = low / 2 + high / 2
            try:
                bound_of(setting, replace(changed, outputs=scaling.outputs * middle))
                low = middle
            except NotProvedError:
                high = middle
        if low:
            break
    return changed, low


@pytest.mark.one_in(2)
@pytest.mark.parametrize("seed", range(4))
def test_no_pair_that_is_permuted_exceeds_what_is_proven(seed: int) -> None:
    """What the groups read of one point is that of the other in another order, almost or wholly."""
    rng = np.random.default_rng([seed, 4])
    problem = pose(square(rng), Query())
    first = problem.graph.nodes[2]
    assert isinstance(first, Affine)
    weights = np.asarray(first.operators[0].weights)  # type: ignore[attr-defined]
    x = random_points(problem.query.region, 6, rng, 3000)
    v = x @ weights.T + first.bias.value
    order = np.concatenate([rng.permuted(np.tile(np.arange(3), (len(x), 1)), axis=1) + at for at in (0, 3)], axis=1)
    part = rng.choice([1.0, 0.5, 1e-3], (len(x), 1))
    other = x + np.linalg.solve(weights, (part * (np.take_along_axis(v, order, axis=1) - v)).T).T
    name = next(iter(problem.graph.inputs))
    here, there = (values(problem.graph, {name: p.astype(np.longdouble)})[problem.y] for p in (x, other))
    run = (x - other).astype(np.longdouble)
    moved = np.abs(run).max(axis=1) > 1e-6
    rise, run = (here - there)[moved].astype(float), run[moved].astype(float)
    scaling = tightened(setting_of(problem), rng, random_matrices(setting_of(problem), rng))
    for p, q in ASKED:
        seen = float(np.max(np.linalg.norm(rise, q, axis=1) / np.linalg.norm(run, p, axis=1)))
        asked = replace(problem, query=replace(problem.query, norm_in=p, norm_out=q))
        assert seen <= verify(asked, list(LipSdpMethod().claims(asked, Progress()))[-1]) * MARGIN
        assert seen <= bound_of(with_norms(setting_of(problem), p, q), scaling) * MARGIN


@pytest.mark.parametrize("seed", range(4))
def test_fewer_permutations_are_possible_in_a_box_and_less_is_proven(seed: int) -> None:
    """Two of three entries may change places; the forms found there are refused everywhere."""
    rng = np.random.default_rng([seed, 5])
    nodes = (
        Input("x", (3,)),
        Groupwise(0, GroupSort(3), (3,)),
        Affine((1,), (Dense(rng.normal(size=(2, 3))),), exact(np.zeros(2)), (2,)),
    )
    graph = Graph(nodes, (Output("y", 2),))
    here = pose(graph, Query(region=Box(np.array([0.0, 0.5, 3.0]), np.array([1.0, 1.5, 4.0]))))
    ((node, (_, forms)),) = formed(setting_of(here)).items()
    assert forms.possible is not None
    assert forms.extremes is not None
    assert forms.possible.sum() == 2
    assert np.all(forms.extremes[forms.possible[0]][:, 2, 2] == 1)
    rng = np.random.default_rng(6)
    everywhere = setting_of(pose(graph, Query()))
    refused = 0
    for _ in range(20):
        q = random_matrices(setting_of(here), rng)[node]
        quadratic_forms(setting_of(here), FormChoice(node, q), np.ones(3))
        least = np.linalg.eigvalsh(at_extremes(q, forms))[:, 0, 0].min()
        if least < 0:
            with pytest.raises(NotProvedError, match="at an extreme Jacobian"):
                quadratic_forms(everywhere, FormChoice(node, q), np.ones(3))
            refused += 1
        else:
            quadratic_forms(everywhere, FormChoice(node, q), np.ones(3))
    assert refused > 5
    local = list(LipSdpMethod().claims(here, Progress()))[-1]
    assert verify(here, local) >= operator_norms(allowed_jacobians(setting_of(here), rng), 2.0, 2.0).max() / MARGIN
    with pytest.raises(NotProvedError):
        verify(here, replace(local, anywhere=True, value=local.value * 0.999))


def test_groups_of_certain_order_have_no_forms_and_the_others_their_own() -> None:
    """Of four groups one is certain, one turns two entries, one all: forms follow the groups that stay."""
    low = np.array([0.0, 2, 4, 0, 0, 4, 0, 0, 0, 5, 3, 1])
    nodes = (Input("x", (12,)), Groupwise(0, GroupSort(3), (12,)))
    region = Box(low, low + 0.5)
    setting = setting_of(pose(Graph(nodes, (Output("y", 1),)), Query(region=region)))
    ((_, (bound, forms)),) = formed(setting).items()
    assert forms.possible is not None
    assert len(bound.columns) == 2
    assert forms.possible.sum(axis=1).tolist() == [2, 6]


# Exactly, in fractions.


def within_errors(setting: Setting, scaling: Scaling, rng: np.random.Generator) -> Fraction:
    """The largest row sum of what P lacks, relative to what it is allowed."""
    matrix, errors = inequality(setting, scaling).dense()
    lacking = abs(in_full(exactly(setting, rng), scaling) - as_fractions(matrix)).sum(axis=1)
    allowed = as_fractions(errors)
    assert np.all(allowed >= 0)
    return max(a / b if b else Fraction(int(a > 0) * 2) for a, b in zip(lacking, allowed, strict=True))


def uncertain(graph: Graph, rng: np.random.Generator) -> Graph:
    """Weights known up to a radius, some to a few digits only."""
    nodes = list(graph.nodes)
    for i, node in enumerate(nodes):
        if isinstance(node, Affine):
            operators = tuple(_blurred(op, rng) if isinstance(op, Dense) else op for op in node.operators)
            nodes[i] = replace(node, operators=operators)
    return Graph(tuple(nodes), graph.outputs)


def _blurred(op: Dense, rng: np.random.Generator) -> Dense:
    weights = np.asarray(op.weights)
    return Dense(weights, 10.0 ** rng.uniform(-17, -2) * np.abs(weights) * (rng.random(weights.shape) < 0.8))


@pytest.mark.one_in(2)
@in_both
@grouped
def test_row_sums_of_the_errors_hold_the_exact_inequality(name: str, arithmetic: type[Arithmetic]) -> None:
    """Scales good and bad, matrices too, weights exact or anywhere within their radius."""
    rng = np.random.default_rng([*name.encode(), 7])
    graph = GROUPED[name](rng)
    for which in (graph, uncertain(graph, rng)):
        for region in (REGIONS["everywhere"](rng), Ball(np.full(3, 0.3), 0.4, 2.0)):
            setting = setting_of(pose(which, Query(region=region)), arithmetic())
            sizes = setting.graph.size(setting.x), sum(neurons(setting)), setting.graph.size(setting.y)
            for spread in (0.0, 1.0, 6.0):
                inputs, hidden, outputs = (10.0 ** rng.uniform(-spread, spread, n) for n in sizes)
                matrices = {
                    node: q * 10.0 ** rng.uniform(-spread, spread, (len(q), 1, 1))
                    for node, q in random_matrices(setting, rng).items()
                }
                scaling = Scaling(inputs, same_in_groups(setting, hidden), outputs, choices(matrices))
                assert within_errors(setting, scaling, rng) <= 1
                if which is graph:
                    matrix, errors = inequality(setting, scaling).dense()
                    assert errors.max() <= 1e-11 * np.abs(matrix).max()


@pytest.mark.one_in(2)
@in_both
@grouped
def test_what_the_kernel_proves_positive_is_so_in_exact_arithmetic(name: str, arithmetic: type[Arithmetic]) -> None:
    """At the largest scales of outputs that it proves; and a millionth beyond, it is not true."""
    rng = np.random.default_rng([*name.encode(), 8])
    setting = setting_of(posed(name, "a ball", 3), arithmetic())
    definition = exactly(setting, rng)
    scaling = tightened(setting, rng, random_matrices(setting, rng))

    def moved(factor: float) -> Scaling:
        return replace(scaling, outputs=scaling.outputs * factor)

    low, high = 1 - 1e-6, 1 + 1e-1
    for _ in range(45 if arithmetic is Arithmetic else 30):
        middle = low / 2 + high / 2
        low, high = (middle, high) if setting.by.proves_positive(inequality(setting, moved(middle))) else (low, middle)
    assert is_semidefinite(in_full(definition, moved(low)), strictly=True)
    assert not is_semidefinite(in_full(definition, moved(low * (1 + 1e-6))))
    bound_of(setting, moved(low))
    with pytest.raises(NotProvedError, match="not proven positive definite"):
        bound_of(setting, moved(low * (1 + 1e-6)))


def is_form(q: np.ndarray, forms: Forms, possible: np.ndarray) -> bool:
    """Whether one matrix is a form of its group, decided exactly."""
    assert forms.extremes is not None
    k = forms.extremes.shape[2]
    precise = as_fractions(q)
    stacked = [np.vstack([as_fractions(np.eye(k)), as_fractions(m)]) for m in forms.extremes[possible]]
    return is_semidefinite(-precise[k:, k:], strictly=True) and all(is_semidefinite(s.T @ precise @ s) for s in stacked)


@in_both
@pytest.mark.parametrize("width", [3, 4])
@pytest.mark.parametrize("size", [1e-280, 1e-6, 1.0, 1e6, 1e140])
def test_what_the_kernel_takes_for_a_form_is_one_and_what_is_just_none_is_refused(
    width: int, size: float, arithmetic: type[Arithmetic]
) -> None:
    """By 1e-9 of its size inside or outside, at one permutation or in the block of dw."""
    rng = np.random.default_rng([width, 9])
    nodes = (Input("x", (2 * width,)), Groupwise(0, GroupSort(width), (2 * width,)))
    corner = np.tile(np.arange(width, dtype=float), 2)
    accepted = refused = 0
    for region in (REGIONS["everywhere"](rng), Box(corner - 0.6, corner + 0.6)):
        setting = setting_of(pose(Graph(nodes, (Output("y", 1),)), Query(region=region)), arithmetic())
        ((node, (bound, forms)),) = formed(setting).items()
        groups = len(bound.columns)
        for turn in range(6):
            room = (1e-9, -1e-9, 1e-13, -1e-13, 1e-16, 0.0)[turn]
            q = random_matrices(setting, rng, max(room, 0.0))[node]
            spoilt = int(rng.integers(groups))
            if room < 0:
                q[spoilt] = raised(q, forms, room)[spoilt]
            if turn % 2 and room:  # the other way: dw
                own = q[spoilt, width:, width:]
                own += (-np.linalg.eigvalsh(own)[-1] - room * np.abs(q[spoilt]).max()) * np.eye(width)
                q[spoilt] = raised(q, forms, 1e-9)[spoilt]
            q *= size
            scale = np.repeat(np.exp(rng.normal(size=groups)), width)
            true = all(
                is_form(each, forms, possible) for each, possible in zip(q, possible_orders(forms, groups), strict=True)
            )
            try:
                (found, radius), row = quadratic_forms(setting, FormChoice(node, q), scale)
            except NotProvedError:
                refused += 1
                assert room < 1e-9
            else:
                accepted += 1
                assert true
                assert room >= 0
                assert np.array_equal(found, q)
                assert not np.any(radius)
                assert np.allclose(row * scale, 1, rtol=1e-15)
    assert accepted >= 2
    assert refused >= 4


@in_both
@pytest.mark.parametrize("width", [3, 4])
def test_a_form_that_fails_at_any_one_permutation_alone_is_refused(width: int, arithmetic: type[Arithmetic]) -> None:
    """Each permutation has its own condition: none follows from the others."""
    nodes = (Input("x", (width,)), Groupwise(0, GroupSort(width), (width,)))
    setting = setting_of(pose(Graph(nodes, (Output("y", 1),)), Query()), arithmetic())
    ((node, (_, forms)),) = formed(setting).items()
    assert forms.extremes is not None
    assert len(forms.extremes) == math.factorial(width)
    rng, n = np.random.default_rng(width), width
    for place, matrix in enumerate(forms.extremes):
        # t |dv|^2 - |dw|^2 - 2 (Pd'dw) (d'dv): at M the least is t - 1 - |d|^2 - d'M'Pd, least of all at P
        direction = rng.normal(size=n)
        direction /= np.linalg.norm(direction)
        q = np.zeros((1, 2 * n, 2 * n))
        q[0, n:, :n] = -np.outer(matrix @ direction, direction)
        q[0] += q[0].T + np.diag([0.0] * n + [-1.0] * n)
        others = np.delete(np.linalg.eigvalsh(at_extremes(q, forms)[:, 0])[:, 0], place).min()
        q[0, :n, :n] += (1e-9 - others) * np.eye(n)
        least = np.linalg.eigvalsh(at_extremes(q, forms)[:, 0])[:, 0]
        assert np.flatnonzero(least < 0).tolist() == [place]
        with pytest.raises(NotProvedError, match="at an extreme Jacobian"):
            quadratic_forms(setting, FormChoice(node, q), np.ones(n))
        q[0, :n, :n] += (2e-9 - least[place]) * np.eye(n)
        quadratic_forms(setting, FormChoice(node, q), np.ones(n))


@in_both
def test_scales_of_a_group_change_nothing_but_units(arithmetic: type[Arithmetic]) -> None:
    """All scales before the output times a power of two, the forms as they are: the same is proven."""
    setting = setting_of(posed("groupsort of 3", "everywhere", 5), arithmetic())
    rng = np.random.default_rng(10)
    scaling = tightened(setting, rng, random_matrices(setting, rng))
    proven = bound_of(setting, scaling)
    for by in (2.0**-300, 2.0**-20, 2.0**20, 2.0**300):
        moved = replace(
            scaling, inputs=scaling.inputs * by, hidden=scaling.hidden * by, outputs=scaling.outputs * (1 / by)
        )
        assert bound_of(setting, moved) == pytest.approx(proven, rel=1e-12)


@in_both
def test_matrices_of_norms_prove_what_norms_do(arithmetic: type[Arithmetic]) -> None:
    """Q = (1 + delta) I, -I is the multiplier of the norm."""
    setting = setting_of(posed("groupsort of 4", "everywhere"), arithmetic())
    rng = np.random.default_rng(11)
    plain = {}
    for node, (bound, _) in formed(setting).items():
        groups, k = bound.columns.shape
        plain[node] = np.tile(np.diag([1 + 1e-12] * k + [-1.0] * k), (groups, 1, 1))
    scaling = tightened(setting, rng, plain)
    assert bound_of(setting, replace(scaling, forms=())) == pytest.approx(bound_of(setting, scaling), rel=1e-12)
    with_some = replace(scaling, forms=scaling.forms[:1])
    assert bound_of(setting, with_some) == pytest.approx(bound_of(setting, scaling), rel=1e-12)


def test_ball_arithmetic_proves_the_same() -> None:
    for name in GROUPED:
        problem = posed(name, "a ball", 6)
        setting, balls = setting_of(problem), setting_of(problem, BallArithmetic())
        rng = np.random.default_rng(12)
        scaling = tightened(setting, rng, random_matrices(setting, rng, 1e-6))
        scaling = replace(scaling, outputs=scaling.outputs * (1 - 1e-8))
        assert bound_of(balls, scaling) == pytest.approx(bound_of(setting, scaling), rel=1e-12)


@in_both
def test_the_solvers_claims_are_proven_in_both_arithmetics(arithmetic: type[Arithmetic]) -> None:
    for name in GROUPED:
        problem = posed(name, "everywhere", 7)
        claim = list(LipSdpMethod().claims(problem, Progress()))[-1]
        assert isinstance(claim.evidence, Inequality)
        assert claim.evidence.scalings[0].forms
        assert claim.value * (1 - 1e-9) <= verify(problem, claim, arithmetic()) <= claim.value


# Bases: forms that are someone's assumption.


def spanned(setting: Setting) -> tuple[Setting, int, np.ndarray]:
    """The same network, its first sorted groups known by a basis: |dv|^2 - |dw|^2, and sums are kept (free)."""
    node, (bound, _) = next(iter(formed(setting).items()))
    groups, k = bound.columns.shape
    norms = np.diag([1.0] * k + [-1.0] * k)
    off = np.concatenate([np.ones(k), -np.ones(k)])
    basis = np.tile(np.array([norms, np.outer(off, off)]), (groups, 1, 1, 1))
    known = replace(bound, forms=Forms(basis=basis, nonnegative=np.array([True, False])))
    nodes = list(setting.graph.nodes)
    nodes[node] = replace(nodes[node], bound=known)  # type: ignore[arg-type]
    increments = replace(setting.increments, graph=Graph(tuple(nodes), setting.graph.outputs))
    return replace(setting, increments=increments), node, basis


@in_both
def test_multipliers_of_a_basis_make_the_combination_of_it(arithmetic: type[Arithmetic]) -> None:
    """Within its error, exactly; free multipliers may be negative."""
    rng = np.random.default_rng(13)
    setting, node, basis = spanned(setting_of(posed("groupsort of 3", "everywhere"), arithmetic()))
    y = rng.normal(size=basis.shape[:2]) * 10.0 ** rng.uniform(-6, 6, basis.shape[:2])
    y[:, 0] = np.abs(y[:, 0])
    (found, radius), _ = quadratic_forms(setting, FormChoice(node, y), np.ones(6))
    for g in range(len(y)):
        true = sum(Fraction(float(a)) * as_fractions(b) for a, b in zip(y[g], basis[g], strict=True))
        assert np.all(abs(true - as_fractions(found[g])) <= as_fractions(radius[g]))
    for group in range(len(y)):
        spoilt = y.copy()
        spoilt[group, 0] = -5e-324
        with pytest.raises(NotProvedError, match=rf"a multiplier of node {node} is negative"):
            quadratic_forms(setting, FormChoice(node, spoilt), np.ones(6))


@in_both
def test_a_basis_of_the_norm_proves_what_the_norm_does(arithmetic: type[Arithmetic]) -> None:
    plain = setting_of(posed("groupsort of 3", "everywhere"), arithmetic())
    setting, node, basis = spanned(plain)
    rng = np.random.default_rng(14)
    scaling = tightened(plain, rng, {})
    scaling = replace(scaling, outputs=scaling.outputs * (1 - 1e-9))
    y = np.zeros(basis.shape[:2])
    y[:, 0] = 1.0
    chosen = replace(scaling, forms=(FormChoice(node, y),))
    assert bound_of(setting, chosen) == pytest.approx(bound_of(plain, scaling), rel=1e-12)
    exact_zero = replace(chosen, forms=(FormChoice(node, 0 * y),))  # a form that says nothing
    with pytest.raises(NotProvedError, match="not proven positive definite"):
        bound_of(setting, exact_zero)


# Corners.


def test_groups_that_read_only_an_input_that_does_not_move_may_have_forms() -> None:
    rng = np.random.default_rng(15)
    nodes = (
        Input("a", (3,)),
        Input("b", (3,)),
        Groupwise(1, GroupSort(3), (3,)),
        Groupwise(0, GroupSort(3), (3,)),
        Affine((2, 3), (Dense(rng.normal(size=(2, 3))),) * 2, exact(np.zeros(2)), (2,)),
    )
    problem = pose(Graph(nodes, (Output("y", 4),)), Query(inputs=("a",)))
    claim = list(LipSdpMethod().claims(problem, Progress()))[-1]
    assert attained(problem, rng)[2.0, 2.0] <= verify(problem, claim) * MARGIN


def test_a_claim_about_all_points_reads_no_region() -> None:
    """`anywhere`: all permutations are possible again, and so are all neurons."""
    here = posed("groupsort of 3", "a ball", 8)
    everywhere = replace(here, query=Query())
    claim = list(LipSdpMethod().claims(everywhere, Progress()))[-1]
    assert verify(here, replace(claim, anywhere=True)) == verify(everywhere, claim)
    local = list(LipSdpMethod().claims(here, Progress()))[-1]
    assert local.value < claim.value * 0.99
    with pytest.raises(NotProvedError):
        verify(here, replace(local, anywhere=True))


def test_a_claim_is_about_its_own_enclosures() -> None:
    """Weights known to a radius: less is proven the larger it is."""
    rng = np.random.default_rng(16)
    graph = GROUPED["groupsort of 3"](rng)
    setting = setting_of(pose(graph, Query()))
    scaling = tightened(setting, rng, random_matrices(setting, rng))
    nodes = list(graph.nodes)
    at = next(i for i, node in enumerate(nodes) if isinstance(node, Affine))
    node = nodes[at]
    assert isinstance(node, Affine)
    weights = Enclosure(np.asarray(node.operators[0].weights))  # type: ignore[attr-defined]
    nodes[at] = replace(node, operators=(Dense(weights.value, 1e-3 * np.abs(weights.value)),))
    blurred = setting_of(pose(Graph(tuple(nodes), graph.outputs), Query()))
    with pytest.raises(NotProvedError, match="not proven positive definite"):
        bound_of(blurred, scaling)
    claim = Claim(ENOUGH, Inequality((replace(scaling, inputs=scaling.inputs / 2, outputs=scaling.outputs / 2),)))
    assert math.isfinite(verify(pose(Graph(tuple(nodes), graph.outputs), Query()), claim))
