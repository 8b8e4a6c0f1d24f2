"""Implicit networks: LipSDP bounds them from above or says nothing, and nothing else bounds them at all."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lipcert.activations import Abs, Activation, LeakyRelu, Relu, Tanh
from lipcert.activations.sorting import GroupSort
from lipcert.arithmetic.enclosure import exact
from lipcert.certificate import Claim, Witness, verify, verify_witness
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.balls import BallArithmetic
from lipcert.certificate.boxes import propagate
from lipcert.certificate.chains import Setting, absolute_bound, prepare, spectral_bound
from lipcert.certificate.claim import (
    AbsoluteChain,
    Composed,
    Entrywise,
    Group,
    Inequality,
    Scaling,
    SpectralChain,
    Step,
)
from lipcert.certificate.composed import part_problems
from lipcert.certificate.inequality import inequality, inequality_bound
from lipcert.errors import NotProvedError
from lipcert.graph import (
    Affine,
    Elementwise,
    FixedPoint,
    Graph,
    Groupwise,
    Increment,
    Input,
    Node,
    Output,
    Product,
    State,
    evaluate,
)
from lipcert.methods import Method, Progress, Unsuitable
from lipcert.methods.gram import GramMethod
from lipcert.methods.lipsdp import LipSdpMethod, loops
from lipcert.methods.lipsdp.composition import crossings
from lipcert.methods.lipsdp.interior_point import solve
from lipcert.methods.lipsdp.loops import loop_start, well_posed
from lipcert.methods.lipsdp.program import build
from lipcert.methods.lower import find_witness
from lipcert.methods.product import ProductMethod
from lipcert.operators import Dense, Identity
from lipcert.planning import solve as plan
from lipcert.planning.layers import layer_norms
from lipcert.problem import Ball, Everywhere, Norm, Problem, Query, Region, pose
from tests.helpers.implicit import (
    Implicit,
    is_well_posed,
    one_neuron,
    patterns,
    random_implicit,
    without_inputs_or_outputs,
)
from tests.helpers.inequalities import Definition, neurons, same_in_groups, setting_of, with_norms
from tests.helpers.sampling import operator_norms

NORMS: tuple[tuple[Norm, Norm], ...] = ((2.0, 2.0), (math.inf, 2.0), (2.0, math.inf), (math.inf, 1.0), (1.0, 2.0))
norms = pytest.mark.parametrize(("p", "q"), NORMS)
ILL_POSED = {
    "2": np.array([[2.0]]),
    "1": np.eye(1),
    "1.5 I": 1.5 * np.eye(3),
    "a cycle": np.array([[0.0, 2.0], [2.0, 0.0]]),
    "a cycle of three": 1.3 * np.roll(np.eye(3), 1, axis=0),
}
ill_posed = pytest.mark.parametrize("name", ILL_POSED)


class Nodes:
    """Nodes one after the other, as Builder of tests.helpers.inequalities has them, with loops."""

    def __init__(self, rng: np.random.Generator, inputs: int) -> None:
        self.rng = rng
        self.nodes: list[Node] = [Input("x", (inputs,))]

    def add(self, node: Node) -> int:
        self.nodes.append(node)
        return len(self.nodes) - 1

    def size(self, node: int) -> int:
        return int(np.prod(self.nodes[node].shape))

    def state(self, size: int) -> int:
        return self.add(State((size,), "a state"))

    def affine(self, size: int, *sources: int, gain: float = 1.0) -> int:
        """The first source through a matrix of this l2 norm, others through random ones."""
        matrices = [self.rng.normal(size=(size, self.size(s))) for s in sources]
        matrices[0] *= gain / np.linalg.norm(matrices[0], 2)
        bias = self.rng.normal(size=size)
        return self.add(Affine(sources, tuple(map(Dense, matrices)), exact(bias), (size,)))

    def active(self, source: int, activation: Activation | None = None) -> int:
        return self.add(Elementwise(source, activation or Relu(), (self.size(source),)))

    def sorted(self, source: int, width: int) -> int:
        return self.add(Groupwise(source, GroupSort(width), (self.size(source),)))

    def close(self, state: int, body: int) -> int:
        return self.add(FixedPoint(state, body, (self.size(body),), "a fixed point"))

    def loop(self, source: int, size: int, activation: Activation | None = None) -> int:
        z = self.state(size)
        return self.close(z, self.active(self.affine(size, z, source, gain=0.6), activation))

    def graph(self) -> Graph:
        return Graph(tuple(self.nodes), (Output("y", len(self.nodes) - 1),))


def single(build: Nodes) -> None:
    build.affine(2, build.loop(0, 4))


def leaky(build: Nodes) -> None:
    build.affine(2, build.loop(0, 4, LeakyRelu(-0.3)))


def bent(build: Nodes) -> None:
    build.affine(2, build.loop(0, 3, Abs()), 0)


def smooth(build: Nodes) -> None:
    build.affine(2, build.loop(0, 4, Tanh()))


def stacked(build: Nodes) -> None:
    build.affine(2, build.loop(build.loop(0, 4), 3))


def between(build: Nodes) -> None:
    first = build.active(build.affine(4, 0))
    inner = build.loop(first, 3, LeakyRelu(0.1))
    build.affine(2, build.active(build.affine(4, inner, 0)), first)


def longer(build: Nodes) -> None:
    """Two nonlinear nodes in one loop, of which the first reads the second, and what is in the loop is read outside."""
    z = build.state(3)
    first = build.active(build.affine(4, z, 0, gain=0.8))
    second = build.active(build.affine(3, first, z, gain=0.5), Tanh())
    nodes = build.nodes[second - 1]
    assert isinstance(nodes, Affine)
    narrow = (nodes.operators[0], Dense(0.1 * np.asarray(nodes.operators[1].weights)))  # type: ignore[attr-defined]
    build.nodes[second - 1] = replace(nodes, operators=narrow)
    build.affine(2, build.close(z, second), first)


def pairs(build: Nodes) -> None:
    z = build.state(4)
    ordered = build.sorted(build.affine(4, z, 0, gain=0.5), 2)
    build.affine(2, build.close(z, build.active(build.affine(4, ordered, gain=0.7))))


def groups(build: Nodes) -> None:
    z = build.state(3)
    ordered = build.sorted(build.affine(6, z, 0, gain=0.5), 3)
    build.affine(2, build.close(z, build.active(build.affine(3, ordered, gain=0.7))))


def nested(build: Nodes) -> None:
    """The body of one loop is a layer over the fixed point of another one that reads the outer state."""
    outer = build.state(3)
    inner = build.state(3)
    both = build.affine(3, inner, outer, gain=0.3)
    node = build.nodes[both]
    assert isinstance(node, Affine)
    small = (node.operators[0], Dense(0.2 * np.eye(3)))
    build.nodes[both] = replace(node, operators=small)
    found = build.close(inner, build.active(both))
    build.affine(2, build.close(outer, build.active(build.affine(3, found, 0, gain=0.5))))


KINDS: dict[str, Callable[[Nodes], None]] = {
    f.__name__: f for f in (single, leaky, bent, smooth, stacked, between, longer, pairs, groups, nested)
}
kinds = pytest.mark.parametrize("name", KINDS)


def network(name: str, seed: int = 0) -> Graph:
    build = Nodes(np.random.default_rng([*name.encode(), seed]), 3)
    KINDS[name](build)
    return build.graph()


def claims(problem: Problem) -> list[Claim]:
    return list(LipSdpMethod().claims(problem, Progress()))


def bound(problem: Problem) -> float:
    claim = claims(problem)[-1]
    return verify(problem, claim)


def scaling_of(claim: Claim) -> Scaling:
    assert isinstance(claim.evidence, Inequality)
    return claim.evidence.scalings[0]


# P from its definition.


def definition(setting: Setting) -> Definition:
    """One coordinate moved at a time, states from the equations that close them, by solving for all at once."""
    graph, nodes = setting.graph, setting.increments.nonlinear
    states = list(setting.increments.loops)
    sources = [setting.x, *nodes, *states]
    sizes = [graph.size(s) for s in sources]
    eye, ends = np.eye(sum(sizes)), np.cumsum([0, *sizes])
    known = sum(sizes[: 1 + len(nodes)])
    moved: list[np.ndarray] = []
    for i, node in enumerate(graph.nodes):
        if i in sources:
            at = sources.index(i)
            moved.append(eye[ends[at] : ends[at + 1]])
        elif isinstance(node, Affine):
            moved.append(sum(op.matvec(moved[s].T).T for s, op in zip(node.inputs, node.operators, strict=True)))  # type: ignore[arg-type]
        else:
            moved.append(np.zeros((graph.size(i), sum(sizes))))  # another input
    if states:
        closing = np.concatenate([moved[setting.increments.loops[s]] for s in states])
        solved = np.linalg.solve(np.eye(len(closing)) - closing[:, known:], closing[:, :known])
        moved = [m[:, :known] + m[:, known:] @ solved for m in moved]
    bodies = [graph.nodes[node] for node in nodes]
    reads = tuple(moved[body.input] for body in bodies if isinstance(body, Increment))
    return Definition(setting, reads, moved[setting.y])


def random_scaling(setting: Setting, rng: np.random.Generator) -> Scaling:
    sizes = setting.graph.size(setting.x), sum(neurons(setting)), setting.graph.size(setting.y)
    inputs, hidden, outputs = (10.0 ** rng.uniform(-2, 2, n) for n in sizes)
    return Scaling(inputs, same_in_groups(setting, hidden), outputs)


@kinds
@pytest.mark.parametrize("arithmetic", [Arithmetic, BallArithmetic], ids=["float64", "balls"])
def test_the_inequality_is_the_one_of_the_definition(name: str, arithmetic: type[Arithmetic]) -> None:
    rng = np.random.default_rng([*name.encode(), 1])
    for region in (Everywhere(), Ball(rng.normal(size=3), 0.1, 2.0)):
        setting = setting_of(pose(network(name), Query(region=region)), arithmetic())
        for _ in range(5):
            scaling = random_scaling(setting, rng)
            form = inequality(setting, scaling)
            (found, errors), expected = form.dense(), definition(setting).of(scaling)
            assert form.sizes == [3, *neurons(setting)]
            assert np.array_equal(found, found.T)
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12 * np.abs(expected).max())
            assert np.all(errors <= 1e-12 * np.abs(found).max())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("alpha", [0.0, 0.2, -0.5])
def test_the_inequality_of_one_loop_is_the_one_of_its_weights(alpha: float, seed: int) -> None:
    """(dz - alpha dv) (dz - dv) with dv = W dz + U dx, written out."""
    rng = np.random.default_rng([seed, 2])
    net = random_implicit(rng, 4, 3, 2)
    setting = setting_of(pose(net.graph(LeakyRelu(alpha)), Query()))
    scaling = random_scaling(setting, rng)
    t = np.diag(1 / scaling.hidden**2)
    read = np.hstack([net.u, net.w])
    own = np.hstack([np.zeros((4, 3)), np.eye(4)])
    cross = own.T @ t @ read
    form = own.T @ t @ own - (1 + alpha) / 2 * (cross + cross.T) + alpha * read.T @ t @ read
    form[:3, :3] += np.diag(1 / scaling.inputs**2)
    out = scaling.outputs[:, None] * np.hstack([np.zeros((2, 3)), net.out])
    scale = np.concatenate([scaling.inputs, scaling.hidden])
    expected = scale[:, None] * (form - out.T @ out) * scale
    found = inequality(setting, scaling).dense()[0]
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12 * np.abs(expected).max())


def test_stacked_loops_have_a_block_for_what_reads_what() -> None:
    rng = np.random.default_rng(3)
    form = inequality(setting := setting_of(pose(network("stacked"), Query())), random_scaling(setting, rng))
    assert form.sizes == [3, 4, 3]
    assert sorted(form.blocks) == [(0, 0), (1, 0), (1, 1), (2, 1), (2, 2)]
    longer_one = inequality(setting := setting_of(pose(network("longer"), Query())), random_scaling(setting, rng))
    assert (2, 1) in longer_one.blocks


@kinds
def test_the_form_of_the_program_is_that_of_the_kernel(name: str) -> None:
    """And its loops are seen."""
    setting = with_norms(setting_of(pose(network(name), Query())), math.inf, 2.0)
    found = build(setting)
    assert found.has_loops
    rng = np.random.default_rng(4)
    inputs, multipliers = np.exp(rng.normal(size=3)), np.exp(rng.normal(size=found.groups))
    a, e = 1 / np.sqrt(inputs), 1 / np.sqrt(multipliers[found.neuron_group])
    scale = np.concatenate([a, e])
    expected = inequality(setting, Scaling(a, e, np.ones(2))).dense()[0]
    form = scale[:, None] * found.matrix(inputs, multipliers) * scale
    np.testing.assert_allclose(form, expected, rtol=1e-10, atol=1e-11 * np.abs(expected).max())


# Starts.


@pytest.mark.parametrize("seed", range(8))
def test_multipliers_of_a_well_posed_network_are_found_and_make_a_start(seed: int) -> None:
    """Also where they are unequal by orders of magnitude."""
    rng = np.random.default_rng([seed, 5])
    net = random_implicit(rng, 3 + seed, 3, 2, spread=0.3 + seed / 5)
    found = build(setting_of(pose(net.graph(), Query())))
    t = well_posed(found)
    assert t is not None
    assert np.all((t > 0) & (t <= 1))
    form = t[:, None] * (np.eye(len(t)) - net.w)
    assert np.linalg.eigvalsh(form + form.T)[0] > 0
    start = loop_start(found)
    assert start is not None
    assert all(np.all(part > 0) for part in start)
    assert np.linalg.eigvalsh(found.matrix(*start))[0] > 0
    iterates = list(solve(found))
    for iterate in iterates:
        assert np.all(iterate.multipliers > 0)
        assert np.linalg.eigvalsh(found.matrix(iterate.inputs, iterate.multipliers))[0] > 0
    assert iterates[-1].gap < 2e-6


@ill_posed
def test_of_what_is_not_well_posed_there_are_no_multipliers_and_no_claims(name: str) -> None:
    net = without_inputs_or_outputs(ILL_POSED[name])
    assert not is_well_posed(net.w)
    for p, q in NORMS:
        problem = pose(net.graph(), Query(norm_in=p, norm_out=q))
        found = build(setting_of(problem))
        assert well_posed(found) is None
        assert loop_start(found) is None
        with pytest.raises(Unsuitable):
            claims(problem)
        outcome = plan(problem, lower=True)
        assert outcome.upper is None
        assert outcome.lower == 0
        assert all(attempt.reason for attempt in outcome.attempts)


def test_of_networks_over_the_limit_no_start_is_sought(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = pose(network("single"), Query())
    monkeypatch.setattr(loops, "MOST", 3)
    assert well_posed(build(setting_of(problem))) is None
    with pytest.raises(Unsuitable):
        claims(problem)


@pytest.mark.parametrize("seed", range(30))
def test_claims_are_made_of_well_posed_networks_only(seed: int) -> None:
    """Random ones, about the limit: I - W must then have positive principal minors."""
    rng = np.random.default_rng([seed, 6])
    n = 2 + seed % 4
    w = rng.normal(size=(n, n)) * rng.uniform(0.3, 1.6)
    problem = pose(without_inputs_or_outputs(w).graph(), Query())
    try:
        found = claims(problem)
    except Unsuitable:
        t = 10.0 ** rng.uniform(-1, 1, (200, n))
        form = t[:, :, None] * (np.eye(n) - w)
        assert np.linalg.eigvalsh(form + np.swapaxes(form, 1, 2))[:, 0].max() < 1e-3
    else:
        assert is_well_posed(w)
        assert math.isfinite(verify(problem, found[-1]))


# The optimum.


@pytest.mark.parametrize("a", [-30.0, -3.0, -1.0, 0.0, 0.5, 0.9, 0.999, 1 - 1e-6])
def test_one_neuron_is_bounded_exactly(a: float) -> None:
    for p, q in NORMS:
        value = bound(pose(one_neuron(a, 3.0, -0.5).graph(), Query(norm_in=p, norm_out=q)))
        assert 1.5 / (1 - a) <= value * (1 + 1e-15) <= 1.5 / (1 - a) * (1 + 1e-6)


@pytest.mark.parametrize("p", [2.0, math.inf])
@pytest.mark.parametrize("seed", range(4))
def test_another_solver_finds_the_same_optimum(seed: int, p: Norm) -> None:
    cvxpy = pytest.importorskip("cvxpy")
    net = random_implicit(np.random.default_rng([seed, 7]), 6, 4, 2)
    rho, t = cvxpy.Variable(4 if p == math.inf else 1, nonneg=True), cvxpy.Variable(6, nonneg=True)
    first = cvxpy.diag(rho) if p == math.inf else rho[0] * np.eye(4)
    weights = cvxpy.diag(t)
    corner = 2 * weights - weights @ net.w - net.w.T @ weights - net.out.T @ net.out
    form = cvxpy.bmat([[first, -net.u.T @ weights], [-weights @ net.u, corner]])
    asked = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum(rho)), [(form + form.T) / 2 >> 0])
    asked.solve(solver=cvxpy.CLARABEL, tol_gap_rel=1e-10, tol_gap_abs=1e-10, tol_feas=1e-10)
    value = bound(pose(net.graph(), Query(norm_in=p)))
    assert value == pytest.approx(math.sqrt(asked.value), rel=1e-5)


NAMES = ("lben_mnist_w80_gamma0.5", "lben_mnist_w80_gamma5.0", "mondeq_mnist_w80")
LARGER = ("lben_cifar10_w80_gamma0.2", "lben_cifar10_w100_gamma0.8", "uncon_cifar10_w100")


@pytest.mark.parametrize("name", [*NAMES, *LARGER])
def test_the_optimum_of_published_networks_is_reached(name: str, test_data: Path) -> None:
    known = json.loads((test_data / "implicit" / "reference.json").read_text())["files"][f"{name}.npz"]
    with np.load(test_data / "implicit" / f"{name}.npz") as arrays:
        net = Implicit(*(arrays[key].astype(float) for key in ("W", "U", "b", "Wo", "bo")))
    value = bound(pose(net.graph(), Query()))
    assert known["lipsdp_dual_lower_bound"] * (1 - 1e-6) <= value
    assert known["lipsdp_l2"] * (1 - 5e-7) <= value <= known["lipsdp_l2"] * (1 + 1e-5)  # of seven digits
    assert value >= known["jacobian_lower_bound"]


# Soundness.


def steepest(value: Callable[[np.ndarray], np.ndarray], x: np.ndarray, other: np.ndarray, p: Norm, q: Norm) -> float:
    rise, run = value(x) - value(other), x - other
    return float(np.max(np.linalg.norm(rise, q, axis=1) / np.linalg.norm(run, p, axis=1)))


def points(rng: np.random.Generator, count: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs at several scales and distances, some along one axis."""
    x = rng.normal(size=(count, n)) * rng.choice([0.1, 1.0, 10.0], (count, 1))
    step = rng.normal(size=(count, n))
    step[: count // 3] *= np.eye(n)[rng.integers(n, size=count // 3)]
    step[count // 3 : count // 2] = np.sign(step[count // 3 : count // 2])
    return x, x + step * rng.choice([1e-3, 0.1, 1.0], (count, 1))


@norms
@pytest.mark.parametrize("seed", range(6))
def test_no_pair_and_no_jacobian_of_a_random_network_is_above_the_bound(seed: int, p: Norm, q: Norm) -> None:
    """Fixed points by trying all patterns; and Jacobians of all patterns, attained or not."""
    rng = np.random.default_rng([seed, 8])
    net = random_implicit(rng, 2 + seed % 4, 1 + seed % 3, 1 + seed % 2, spread=1.0)
    assert is_well_posed(net.w)
    problem = pose(net.graph(), Query(norm_in=p, norm_out=q))
    value = bound(problem)
    x, other = points(rng, 3000, net.u.shape[1])
    assert steepest(net.value, x, other, p, q) <= value * (1 + 1e-9)
    slopes = np.concatenate([patterns(len(net.w)), rng.random((500, len(net.w)))])
    sampled = operator_norms(net.jacobian(slopes), p, q).max()
    assert sampled <= value * (1 + 1e-9)
    assert value <= 20 * sampled


@kinds
def test_no_pair_of_any_kind_of_loop_is_above_the_bound(name: str) -> None:
    for seed in range(2):
        rng = np.random.default_rng([*name.encode(), seed, 9])
        graph = network(name, seed)
        x, other = points(rng, 600, 3)

        here, there = (evaluate(graph, {"x": v})[graph.outputs[0].node] for v in (x, other))
        for p, q in NORMS:
            problem = pose(graph, Query(norm_in=p, norm_out=q))
            claim = claims(problem)[-1]
            rises, runs = np.linalg.norm(here - there, q, axis=1), np.linalg.norm(x - other, p, axis=1)
            sampled = float(np.max(rises / runs))
            assert 0 < sampled <= verify(problem, claim) * (1 + 1e-7)
            assert verify(problem, claim, BallArithmetic()) <= claim.value


@pytest.mark.parametrize("name", ["smooth", "between", "stacked", "longer"])
def test_on_a_region_bounds_hold_and_are_no_worse(name: str) -> None:
    rng = np.random.default_rng([*name.encode(), 10])
    graph, center = network(name), rng.normal(size=3)
    region: Region = Ball(center, 0.05, math.inf)
    x, other = (center + rng.uniform(-0.05, 0.05, (1500, 3)) for _ in range(2))

    def value(v: np.ndarray) -> np.ndarray:
        return evaluate(graph, {"x": v})[graph.outputs[0].node]

    for p, q in NORMS[:2]:
        problem = pose(graph, Query(region=region, norm_in=p, norm_out=q))
        inside = bound(problem)
        assert steepest(value, x, other, p, q) <= inside * (1 + 1e-7)
        assert inside <= bound(pose(graph, Query(norm_in=p, norm_out=q))) * (1 + 1e-5)


def test_boxes_of_fixed_points_hold_their_values() -> None:
    rng = np.random.default_rng(11)
    graph = network("smooth")
    problem = pose(graph, Query(region=Ball(np.zeros(3), 0.5, math.inf)))
    boxes = propagate(problem, Arithmetic())
    values = evaluate(problem.graph, {"x": rng.uniform(-0.5, 0.5, (500, 3))})
    for i, node in enumerate(problem.graph.nodes):
        if isinstance(node, FixedPoint):
            assert np.all((boxes[i][0] <= values[i]) & (values[i] <= boxes[i][1]))
            assert np.all(np.isfinite(boxes[i][0]))
        if isinstance(node, State):
            assert np.all(np.isinf(boxes[i][0]) & np.isinf(boxes[i][1]))


@kinds
def test_scales_that_are_one_percent_off_prove_nothing_smaller(name: str) -> None:
    """At the optimum: smaller values are refused at all scales near it, larger ones are what is proven."""
    problem = pose(network(name), Query())
    claim = claims(problem)[-1]
    scaling, setting = scaling_of(claim), setting_of(problem)
    optimum = verify(problem, claim)
    groups = np.flatnonzero(np.diff(scaling.hidden, prepend=-1.0))
    for factor in (1.01, 0.99):
        for place in range(len(groups)):
            hidden = scaling.hidden.copy()
            hidden[hidden == hidden[groups[place]]] *= factor
            changed = replace(scaling, hidden=hidden)
            with pytest.raises(NotProvedError):
                inequality_bound(setting, Inequality((replace(changed, inputs=scaling.inputs * (1 + 1e-5)),)))
            try:
                assert inequality_bound(setting, Inequality((changed,))) >= optimum * (1 - 1e-9)
            except NotProvedError:
                continue
    for part in ("inputs", "outputs"):
        beyond = replace(scaling, **{part: getattr(scaling, part) * 1.01})
        with pytest.raises(NotProvedError, match="not proven positive definite"):
            verify(problem, Claim(claim.value, Inequality((beyond,))))
        less = replace(scaling, **{part: getattr(scaling, part) * 0.99})
        assert inequality_bound(setting, Inequality((less,))) == pytest.approx(optimum / 0.99, rel=1e-9)
        with pytest.raises(NotProvedError, match="above the claimed"):
            verify(problem, Claim(claim.value, Inequality((less,))))


@ill_posed
@pytest.mark.parametrize("arithmetic", [Arithmetic, BallArithmetic], ids=["float64", "balls"])
def test_no_scales_prove_anything_of_what_is_not_well_posed(name: str, arithmetic: type[Arithmetic]) -> None:
    """Nor that its constant is huge, nor of no output, nor on a region where it has a fixed point."""
    w, rng = ILL_POSED[name], np.random.default_rng(12)
    n = len(w)
    for region in (Everywhere(), Ball(-2 * np.ones(n), 0.5, 2.0)):
        problem = pose(without_inputs_or_outputs(w).graph(), Query(region=region))
        by = arithmetic()
        for spread in (0.0, 0.0, 1.0, 3.0, 100.0):
            hidden = 10.0 ** rng.uniform(-spread, spread, n)
            for size in (1e-300, 1e-100, 1e-3):
                for outputs in (np.full(n, size), np.zeros(n)):
                    claim = Claim(1e308, Inequality((Scaling(np.full(n, size), hidden, outputs),)))
                    with pytest.raises(NotProvedError, match="not proven positive definite"):
                        verify(problem, claim, by)


@pytest.mark.parametrize("reads", [0.0, 1.0])
def test_a_loop_that_is_not_well_posed_spoils_what_ignores_it(reads: float) -> None:
    """The output reads x, and the loop times zero: without a fixed point there is no output."""
    nodes = (
        Input("x", (1,)),
        State((1,)),
        Affine((1, 0), (Dense(2 * np.eye(1)), Identity(1)), exact(np.zeros(1)), (1,)),
        Elementwise(2, Relu(), (1,)),
        FixedPoint(1, 3, (1,)),
        Affine((4, 0), (Dense(reads * np.eye(1)), Identity(1)), exact(np.zeros(1)), (1,)),
    )
    problem = pose(Graph(nodes, (Output("y", 5),)), Query())
    with pytest.raises(Unsuitable):
        claims(problem)
    for size in (1e-6, 1.0):
        with pytest.raises(NotProvedError):
            verify(problem, Claim(1e300, Inequality((Scaling(np.full(1, size), np.ones(1), np.full(1, size)),))))


@pytest.mark.parametrize("gain", [0.5, 2.0, 1.0])
def test_states_that_are_passed_on_linearly_are_refused(gain: float) -> None:
    """z = gain z + x, alone, and through zero."""
    for read in (0.0, 1.0):
        nodes = (
            Input("x", (1,)),
            State((1,)),
            Affine((1, 0), (Dense(gain * np.eye(1)), Identity(1)), exact(np.zeros(1)), (1,)),
            FixedPoint(1, 2, (1,)),
            Affine((3, 0), (Dense(read * np.eye(1)), Identity(1)), exact(np.zeros(1)), (1,)),
        )
        problem = pose(Graph(nodes, (Output("y", 4),)), Query())
        scaling = Scaling(np.full(1, 1e-9), np.zeros(0), np.full(1, 1e-9))
        with pytest.raises(NotProvedError, match="passes its state on linearly"):
            verify(problem, Claim(1e300, Inequality((scaling,))))


@pytest.mark.parametrize("width", [2, 4])
@pytest.mark.parametrize("gain", [0.5, 0.99, 1.01, 2.0])
def test_loops_that_end_in_sorted_groups_are_bounded_where_they_contract(gain: float, width: int) -> None:
    """z = sort(gain Q z + x) with a rotation Q; beyond one there is nothing that could be proven."""
    rng = np.random.default_rng(13)
    rotation = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    nodes = (
        Input("x", (4,)),
        State((4,)),
        Affine((1, 0), (Dense(gain * rotation), Identity(4)), exact(np.zeros(4)), (4,)),
        Groupwise(2, GroupSort(width), (4,)),
        FixedPoint(1, 3, (4,)),
        Affine((4,), (Identity(4),), exact(np.zeros(4)), (4,)),
    )
    graph = Graph(nodes, (Output("y", 5),))
    if gain > 1:
        with pytest.raises(Unsuitable, match="well-posed"):
            claims(pose(graph, Query()))
        return
    value = bound(pose(graph, Query()))
    assert value <= 1 / (1 - gain) * (1 + 1e-5)
    x, other = points(rng, 500, 4)
    assert steepest(lambda v: evaluate(graph, {"x": v})[5], x, other, 2.0, 2.0) <= value * (1 + 1e-7)


def test_a_loop_that_cannot_be_bounded_is_declined_with_a_reason() -> None:
    nodes = (
        Input("x", (3,)),
        State((3,)),
        Affine((1, 0), (Dense(np.eye(3) / 2), Identity(3)), exact(np.zeros(3)), (3,)),
        FixedPoint(1, 2, (3,)),
        Affine((3,), (Identity(3),), exact(np.zeros(3)), (3,)),
    )
    outcome = plan(pose(Graph(nodes, (Output("y", 4),)), Query()), method="lipsdp")
    assert {a.status for a in outcome.attempts} == {"skipped"}
    assert "linearly" in outcome.attempts[-1].reason


def scalar(sources: tuple[int, ...], *weights: float) -> Affine:
    return Affine(sources, tuple(Dense(np.array([[w]])) for w in weights), exact(np.zeros(1)), (1,))


@pytest.mark.parametrize("reads", [1, 2, 3, 4], ids=["the state", "its equation", "the body", "the fixed point"])
def test_a_cut_does_not_hide_a_loop_whose_state_is_read_behind_it(reads: int) -> None:
    """z = relu(-z + x), u = z / 1000, y = u + 1000 (what is read): through u alone y would hardly move."""
    nodes = (
        Input("x", (1,)),
        State((1,)),
        scalar((1, 0), -1.0, 1.0),
        Elementwise(2, Relu(), (1,)),
        FixedPoint(1, 3, (1,)),
        scalar((4,), 1e-3),
        scalar((5, reads), 1.0, 1000.0),
    )
    try:
        problem = pose(Graph(nodes, (Output("y", 6),)), Query())
    except ValueError:
        return  # no graph at all is safe, too
    for cut in range(1, problem.y):
        proofs = []
        try:
            for part in part_problems(problem, (cut,), Arithmetic()):
                proofs.append(claims(part)[-1].evidence)
            proven = verify(problem, Claim(1e300, Composed((cut,), tuple(proofs))))  # type: ignore[arg-type]
        except (NotProvedError, Unsuitable):
            continue
        assert proven >= 499, cut
    assert bound(problem) >= 499


@pytest.mark.parametrize("name", ["stacked", "between", "single"])
def test_implicit_networks_are_not_cut(name: str) -> None:
    problem = pose(network(name), Query())
    assert crossings(problem.graph, problem.x, problem.y) == []
    for cut in range(1, problem.y):
        with pytest.raises(NotProvedError, match="fixed point is not cut"):
            part_problems(problem, (cut,), Arithmetic())


def test_a_loop_with_products_of_unbounded_states_has_no_bound() -> None:
    """z = relu(x z / 10): the slope is |x|."""
    nodes = (
        Input("x", (2,)),
        State((2,)),
        Product(0, 1, (2,)),
        Affine((2, 0), (Dense(0.1 * np.eye(2)), Identity(2)), exact(np.zeros(2)), (2,)),
        Elementwise(3, Relu(), (2,)),
        FixedPoint(1, 4, (2,)),
        Affine((5,), (Identity(2),), exact(np.zeros(2)), (2,)),
    )
    for region in (Everywhere(), Ball(np.zeros(2), 1.0, 2.0)):
        with pytest.raises(Unsuitable, match="no bounded slopes"):
            claims(pose(Graph(nodes, (Output("y", 6),)), Query(region=region)))


# Everything else declines.


@kinds
def test_no_other_method_takes_a_fixed_point_and_each_says_why(name: str) -> None:
    problem = pose(network(name), Query())
    others: list[Method] = [ProductMethod(), GramMethod()]
    for method in others:
        assert "is bounded by local and lipsdp only" in str(method.accepts(problem))
        with pytest.raises(NotProvedError, match="fixed point"):
            list(method.claims(problem, Progress()))
    outcome = plan(problem)
    said = [(a.method, a.status) for a in outcome.attempts]
    assert ("product", "skipped") in said
    assert ("lipsdp", "certified") in said or outcome.method == "local"
    assert outcome.upper is not None
    assert outcome.lower <= outcome.upper


@kinds
def test_no_chain_and_no_witness_is_verified(name: str) -> None:
    problem = pose(network(name), Query())
    boxes = propagate(problem, Arithmetic())
    for center in (False, True):
        with pytest.raises(NotProvedError, match="a fixed point is bounded by LipSDP"):
            prepare(problem, boxes, center, Arithmetic())
        steps = (Step(problem.y, (), (Group((0,), Entrywise()),)),)
        for evidence in (AbsoluteChain(center), SpectralChain(center, steps)):
            for anywhere in (False, True):
                with pytest.raises(NotProvedError, match="a fixed point is bounded by LipSDP"):
                    verify(problem, Claim(1e300, evidence, anywhere))
    assert find_witness(problem, Progress()) == []
    witness = Witness(np.ones(3), np.ones(3))
    for by in (Arithmetic(), BallArithmetic()):
        with pytest.raises(NotProvedError, match="the value of a fixed point is not enclosed"):
            verify_witness(problem, witness, by)


@kinds
def test_open_increments_are_no_way_round_it(name: str) -> None:
    """Chains over the increments that LipSDP uses, where states are read before what they stand for is bounded."""
    setting = setting_of(pose(network(name), Query()))
    with pytest.raises((NotProvedError, KeyError)):
        absolute_bound(setting)
    nodes = setting.increments.nonlinear
    everything = (*nodes, setting.y)
    for order in (everything, everything[::-1], (setting.y,), (*nodes[::-1], setting.y)):
        steps = tuple(Step(node, (), (Group((setting.x,), Entrywise()),)) for node in order)
        with pytest.raises(NotProvedError):
            spectral_bound(setting, SpectralChain(False, steps))


def test_norms_of_layers_are_those_of_their_matrices_alone() -> None:
    net = random_implicit(np.random.default_rng(14), 4, 3, 2)
    found = list(layer_norms(net.graph(), 10.0))
    for layer, matrix in zip(found, (net.w, net.u, net.out), strict=True):
        assert layer.l2 == pytest.approx(np.linalg.norm(matrix, 2), rel=1e-8)
        assert layer.attained <= layer.l2
