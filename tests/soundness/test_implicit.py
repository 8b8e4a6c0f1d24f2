"""Implicit layers from end to end: no solution leaves a box, and nothing that is attained exceeds a bound."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator

import numpy as np
import pytest

from lipcert.activations import Activation, Clip, LeakyRelu, Relu, Sigmoid, Tanh
from lipcert.certificate import BoxClaim, Claim, verify, verify_box, verify_witness
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.balls import BallArithmetic
from lipcert.certificate.boxes import Bounds, propagate
from lipcert.certificate.claim import Local, Rows, RowScaling
from lipcert.certificate.derivative import bound_rows, chain_rule, norm_bounds
from lipcert.certificate.implicit import layers_of
from lipcert.certificate.linear_bounds import Bounded, in_ramps, linear_boxes, whole_net
from lipcert.certificate.pieces import tree_box
from lipcert.errors import NotProvedError, UsageError
from lipcert.graph import Affine, Elementwise, FixedPoint, Graph, Input, Output, State
from lipcert.methods import OutOfTime
from lipcert.methods.implicit import with_equilibria
from lipcert.methods.implicit.embedded import embedded
from lipcert.methods.implicit.solution import values_at
from lipcert.methods.local import implicit as local_implicit
from lipcert.methods.local.inputs import InputSearch
from lipcert.operators import Convolution, enclosed
from lipcert.planning import solve
from lipcert.planning.reach import solve_reach
from lipcert.problem import Ball, Box, Everywhere, Problem, Query, Region, pose
from tests.helpers.equilibria import Network, Stage, affine, contracting, monotone
from tests.helpers.sampling import operator_norms, random_points

inf = math.inf
ROOM = 1e-9
REGIONS = ("linf ball", "l2 ball", "l1 ball", "box")
PAIRS = ((2.0, 2.0), (inf, inf), (1.0, inf), (2.0, inf), (inf, 1.0), (1.0, 2.0))


def stage(
    rng: np.random.Generator, n: int, m: int, activation: Activation, a: np.ndarray | None, size: float = 1.0
) -> Stage:
    return Stage(a, size * rng.normal(size=(n, m)) / np.sqrt(m), 0.5 * rng.normal(size=n), activation)


def network(kind: str, rng: np.random.Generator) -> Network:
    """Of 2 inputs and 2 outputs."""
    n = 4
    if kind == "two":
        first = stage(rng, n, 2, Tanh(), contracting(rng, n))
        stages = first, stage(rng, 3, n, Relu(), monotone(rng, 3))
    elif kind == "inside":
        before, after = stage(rng, 3, 2, Relu(), None), stage(rng, 3, n, LeakyRelu(0.1), None)
        stages = before, stage(rng, n, 3, Relu(), monotone(rng, n)), after
    elif kind == "convolution":
        kernel = 0.12 * rng.normal(size=(2, 2, 3))
        op = Convolution(kernel, (2, 3), strides=(1,), pads=((1, 1),), dilations=(1,))
        matrix = enclosed.dense(op).value
        stages = (Stage(matrix, rng.normal(size=(6, 2)), rng.normal(size=6), Relu(), op),)
    else:
        how, activation, slope = {
            "relu, linf": (contracting, Relu(), 1.0),
            "tanh, linf": (contracting, Tanh(), 1.0),
            "sigmoid, linf": (contracting, Sigmoid(), 0.25),
            "leaky down, linf": (contracting, LeakyRelu(-0.6), 1.0),
            "leaky up, linf": (contracting, LeakyRelu(1.7), 1.7),
            "relu, l2": (monotone, Relu(), 1.0),
            "leaky, l2": (monotone, LeakyRelu(0.2), 1.0),
            "tanh, l2": (monotone, Tanh(), 1.0),
            "clip, l2": (monotone, Clip(-0.5, 0.8), 1.0),
        }[kind]
        a = contracting(rng, n, 0.8, slope) if how is contracting else monotone(rng, n)
        stages = (stage(rng, n, 2, activation, a),)
    last = len(stages[-1].bias)
    return Network(stages, rng.normal(size=(2, last)) / np.sqrt(last), rng.normal(size=2))


KINDS = (
    "relu, linf",
    "tanh, linf",
    "sigmoid, linf",
    "leaky down, linf",
    "leaky up, linf",
    "relu, l2",
    "leaky, l2",
    "tanh, l2",
    "clip, l2",
    "two",
    "inside",
    "convolution",
)
kinds = pytest.mark.parametrize("kind", KINDS)


def random_region(rng: np.random.Generator, kind: str) -> Region:
    center, eps = rng.normal(size=2), float(10 ** rng.uniform(-2, 0.2))
    if kind == "box":
        return Box(center, center + 2 * eps * np.array([1.0, rng.choice([0.0, 0.3])]))
    return Ball(center, eps, {"linf ball": inf, "l2 ball": 2.0, "l1 ball": 1.0}[kind])


def seeded(kind: str, seed: int) -> np.random.Generator:
    return np.random.default_rng([zlib.crc32(kind.encode()), seed])


def assert_inside(values: np.ndarray, box: tuple[np.ndarray, np.ndarray], what: object = "") -> None:
    room = ROOM * (1 + np.abs(values))
    assert np.all(values >= box[0] - room), what
    assert np.all(values <= box[1] + room), what


@kinds
def test_the_solver_agrees_with_plain_iteration(kind: str) -> None:
    rng = seeded(kind, 0)
    net = network(kind, rng)
    problem = pose(net.graph(), Query())
    x = 2 * rng.normal(size=(50, 2))
    plain = net.run(x)[0]
    good = ~np.isnan(plain[:, 0])
    assert good.sum() >= 40
    np.testing.assert_allclose(values_at(problem, x, Arithmetic())[problem.y][good], plain[good], rtol=1e-8, atol=1e-8)


def by_each_rule(problem: Problem, by: Arithmetic) -> Iterator[tuple[bool, list[Bounds]]]:
    """Whether they are linear, and boxes: by planes, and by intervals where what is claimed holds by these, too."""
    yield True, linear_boxes(problem, by)
    try:
        yield False, propagate(problem, by)
    except NotProvedError:
        assert len(problem.equilibria) > 1  # found from planes through the layer before


@pytest.mark.one_in(3)
@kinds
@pytest.mark.parametrize("seed", range(2))
def test_no_solution_leaves_a_box(kind: str, seed: int) -> None:
    """Of intervals and of planes, of every node; and of the reach query, for the outputs."""
    rng = seeded(kind, seed)
    net = network(kind, rng)
    region = random_region(rng, REGIONS[(KINDS.index(kind) + 2 * seed) % 4])
    by = Arithmetic()
    problem = with_equilibria(pose(net.graph(), Query(region=region)), by)
    x = random_points(region, 2, rng, 400)
    y = net.run(x)[0]
    y = y[~np.isnan(y[:, 0])]
    assert len(y) > 300
    values = values_at(problem, x, by)
    known = np.all(np.abs(values[problem.y] - net.run(x)[0]) <= 1e-7, axis=1)  # Newton's method may fail
    assert known.sum() > 250 or "clip" in kind
    for linear, boxes in by_each_rule(problem, by):
        assert_inside(y, boxes[problem.y], "outputs")
        for i, found in enumerate(values):
            assert_inside(found[known], boxes[i], i)
        low, high = boxes[problem.y]
        claim = BoxClaim(low - ROOM, high + ROOM, linear, equilibria=problem.equilibria)
        for arithmetic in (
            (Arithmetic(), BallArithmetic()) if seed == 0 and KINDS.index(kind) % 4 == 0 else (Arithmetic(),)
        ):
            assert_inside(y, verify_box(problem, claim, arithmetic))
    if kind == "two":
        return
    found = solve_reach(problem, timeout=0.3)
    assert_inside(y, (found.claim.lower, found.claim.upper))
    if found.extremes is not None:
        assert np.all(found.extremes.lower >= found.claim.lower)
        assert np.all(found.extremes.upper <= found.claim.upper)


def attained(net: Network, x: np.ndarray, pair: tuple[float, float]) -> float:
    """The largest norm of a Jacobian, and ratio of differences."""
    y, jacobians, near = net.run(x)
    good = ~np.isnan(y[:, 0]) & (near > 1e-7)
    largest = float(operator_norms(jacobians[good], *pair).max(initial=0.0))
    moved, went = y[good][1:] - y[good][:-1], x[good][1:] - x[good][:-1]
    ratios = np.linalg.norm(moved, pair[1], axis=1) / np.maximum(np.linalg.norm(went, pair[0], axis=1), 1e-3)
    return max(largest, float(ratios.max(initial=0.0)))


@pytest.mark.one_in(2)
@kinds
@pytest.mark.parametrize("seed", range(2))
def test_no_attained_slope_exceeds_the_bound(kind: str, seed: int) -> None:
    rng = seeded(kind, seed)
    net = network(kind, rng)
    region = random_region(rng, REGIONS[(KINDS.index(kind) + seed) % 4])
    pair = PAIRS[int(rng.integers(len(PAIRS)))]
    problem = pose(net.graph(), Query(*pair, region))
    try:
        outcome = solve(problem, method="local", timeout=0.3)
    except (NotProvedError, OutOfTime):  # see the tests that are expected to fail
        return
    if outcome.upper is None:
        assert "linf" not in kind or "time" in outcome.attempts[0].reason, outcome.attempts
        return
    assert outcome.lower <= outcome.upper
    seen = attained(net, random_points(region, 2, rng, 600), pair)
    assert seen <= outcome.upper * (1 + ROOM)
    if outcome.witness is not None:
        assert verify_witness(problem, outcome.witness) >= outcome.lower


@pytest.mark.parametrize("kind", ["relu, linf", "tanh, linf", "leaky up, linf", "relu, l2"])
@pytest.mark.parametrize("local", [False, True])
def test_no_attained_slope_exceeds_rows_of_lipsdp(kind: str, local: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As large layers have them; they are what is claimed somewhere."""
    monkeypatch.setattr(local_implicit, "MANY_STATES", 0)
    rows = 0
    for seed in range(3):
        rng = seeded(kind, 20 + seed)
        net = network(kind, rng)
        region = random_region(rng, "linf ball") if local else Everywhere()
        problem = pose(net.graph(), Query(inf, inf, region))
        outcome = solve(problem, method="local", timeout=5, lower=False)
        if outcome.upper is None or outcome.claim is None or not isinstance(outcome.claim.evidence, Local):
            continue
        rows += any(isinstance(part, RowScaling) for part in outcome.claim.evidence.parts)
        x = random_points(region, 2, rng, 600) if local else 3 * rng.normal(size=(600, 2))
        assert attained(net, x, (inf, inf)) <= verify(problem, outcome.claim) * (1 + ROOM)
    assert rows or kind == "relu, l2" or local


@pytest.mark.one_in(2)
@pytest.mark.parametrize("kind", KINDS)
def test_at_a_point_the_bound_is_the_norm_of_the_jacobian(kind: str) -> None:
    rng = seeded(kind, 9)
    net = network(kind, rng)
    center = rng.normal(size=(20, 2))
    y, jacobians, near = net.run(center)
    k = int(np.flatnonzero(~np.isnan(y[:, 0]) & (near > 1e-3))[0])
    problem = pose(net.graph(), Query(inf, inf, Ball(center[k], 0.0, inf)))
    outcome = solve(problem, method="local", timeout=0.5)
    assert outcome.upper == pytest.approx(float(operator_norms(jacobians[k : k + 1], inf, inf)[0]), rel=1e-5)
    assert outcome.lower == pytest.approx(outcome.upper, rel=1e-5)
    found = solve_reach(problem)
    assert_inside(y[k], (found.claim.lower, found.claim.upper))
    assert np.all(found.claim.upper - found.claim.lower <= 1e-7)


@pytest.mark.parametrize("kind", ["relu, linf", "relu, l2", "two"])
def test_a_whole_space_has_a_bound_too(kind: str) -> None:
    rng = seeded(kind, 11)
    net = network(kind, rng)
    outcome = solve(pose(net.graph(), Query(inf, inf)), timeout=1.0, method="auto")
    assert outcome.upper is not None
    seen = attained(net, 3 * rng.normal(size=(1500, 2)), (inf, inf))
    assert outcome.lower <= outcome.upper
    assert seen <= outcome.upper * (1 + ROOM)


# Explicit networks as one implicit layer.


def in_one_layer(net: Network) -> Network:
    """All neurons as one layer, whose A is strictly lower triangular."""
    sizes = [len(s.bias) for s in net.stages]
    total = sum(sizes)
    a, b = np.zeros((total, total)), np.zeros((total, net.inputs))
    start = 0
    for k, part in enumerate(net.stages):
        rows = slice(start, start + sizes[k])
        if k == 0:
            b[rows] = part.b
        else:
            a[rows, start - sizes[k - 1] : start] = part.b
        start += sizes[k]
    bias = np.concatenate([s.bias for s in net.stages])
    out = np.zeros((len(net.out), total))
    out[:, total - sizes[-1] :] = net.out
    return Network((Stage(a, b, bias, net.stages[0].activation),), out, net.bias)


@pytest.mark.parametrize("activation", [Relu(), LeakyRelu(0.1), Tanh(), Sigmoid()], ids=lambda a: a.name)
@pytest.mark.parametrize("seed", range(2))
def test_explicit_networks_as_implicit_ones_have_the_boxes_of_intervals(activation: Activation, seed: int) -> None:
    rng = np.random.default_rng([seed, 3])
    stages = tuple(stage(rng, n, m, activation, None) for n, m in ((4, 2), (3, 4), (3, 3)))
    net = Network(stages, rng.normal(size=(2, 3)), rng.normal(size=2))
    region = Ball(rng.normal(size=2), 0.3, inf)
    by = Arithmetic()
    explicit = pose(net.graph(), Query(region=region))
    wanted = propagate(explicit, by)
    inner = [wanted[n.input] for n in explicit.graph.nodes if isinstance(n, Elementwise)]
    low, high = (np.concatenate([box[k] for box in inner]) for k in (0, 1))
    problem = with_equilibria(pose(in_one_layer(net).graph(), Query(region=region)), by)
    (layer,) = layers_of(problem.graph, by).values()
    center = layer.bias.value + layer.sources[0][1].matvec(region.center[None])[0]
    reach = region.eps * np.abs(enclosed.dense(layer.sources[0][1]).value).sum(axis=1)
    found = embedded(layer, center[None], reach, 0.0)
    assert found is not None
    size = 1e-8 * (1 + np.abs(low) + np.abs(high))
    assert np.all(np.abs(found[0] - low) <= size)
    assert np.all(np.abs(found[1] - high) <= size)
    claim = problem.equilibria[0]
    box = propagate(problem, by)
    assert np.all(box[layer.reads][0] >= low - size)  # narrowed at most
    assert np.all(box[layer.reads][1] <= high + size)
    assert claim.multipliers.size == 0
    assert_inside(net.run(random_points(region, 2, rng, 500))[0], box[problem.y])


# Sources of which some entries are unbounded.


def half_unbounded() -> Problem:
    """h = relu([x, free]), z = relu(z / 2 + h_1), y = z: x in [0.5, 1.5] gives y = 2 x."""
    nodes = (
        Input("x", (1,)),
        Input("free", (1,)),
        affine((0, 1), [[1.0], [0.0]], [[0.0], [1.0]]),
        Elementwise(2, Relu(), (2,)),
        State((1,)),
        affine((4, 3), [[0.5]], [[1.0, 0.0]]),
        Elementwise(5, Relu(), (1,)),
        FixedPoint(4, 6, (1,)),
        affine((7,), [[1.0]]),
    )
    return pose(Graph(nodes, (Output("y", 8),)), Query(region=Ball(np.ones(1), 0.5, inf), inputs=("x",)))


def test_what_is_not_found_has_no_value_behind_a_clip_either() -> None:
    """NaN, as values_at says."""
    rng = seeded("clip, l2", 1)
    net = network("clip, l2", rng)
    x = random_points(random_region(rng, REGIONS[1]), 2, rng, 400)
    problem = pose(net.graph(), Query())
    found, plain = values_at(problem, x, Arithmetic())[problem.y], net.run(x)[0]
    assert np.all(np.isnan(found) | (np.abs(found - plain) <= 1e-7))


def test_what_is_found_of_layers_holds_by_intervals_too() -> None:
    rng = seeded("two", 2)
    net = network("two", rng)
    by = Arithmetic()
    problem = with_equilibria(pose(net.graph(), Query(region=random_region(rng, REGIONS[2]))), by)
    propagate(problem, by)


def test_finite_entries_count_beside_unbounded_ones() -> None:
    problem = half_unbounded()
    by = Arithmetic()
    try:
        problem = with_equilibria(problem, by)
    except NotProvedError:
        return
    for boxes in (propagate(problem, by), linear_boxes(problem, by)):
        low, high = boxes[problem.y]
        assert low <= 1
        assert high >= 3
    assert isinstance(problem.graph.nodes[problem.y], Affine)


# Branching over inputs.


@pytest.mark.one_in(2)
@pytest.mark.parametrize("kind", ["tanh, l2", "inside", "two"])
def test_pieces_of_the_inputs_are_narrower_and_hold(kind: str) -> None:
    rng = seeded(kind, 0)
    net = network(kind, rng)
    region = Ball(rng.normal(size=2), 0.3, inf)
    by = Arithmetic()
    problem = with_equilibria(pose(net.graph(), Query(inf, inf, region=region)), by)
    whole, posed = whole_net(problem, by), in_ramps(problem, by)
    rule = chain_rule(posed, by)

    def width(bounded: Bounded) -> np.ndarray:
        low, high = bounded.net.boxes[posed.y]
        return np.asarray((high - low).max(axis=1))

    def steepness(bounded: Bounded) -> np.ndarray:
        rows = bound_rows(posed, rule, bounded.net, np.tile((0, 1), (len(bounded.empty), 1)), 1, by)
        return np.asarray(norm_bounds(rows, inf, inf, by))

    x = random_points(region, 2, rng, 2000)
    y, jacobians, near = net.run(x)
    known = ~np.isnan(y[:, 0])
    visited: list[np.ndarray] = []
    for measure in (width, steepness):
        search = InputSearch(problem, whole, by, measure, visited.append)
        before = search.bound
        while search.leaves < 40:
            assert search.step(0.0)
        assert search.bound < before * (0.97 if measure is width else 1 + 1e-12)
        tree = search.tree()
        box = np.array([tree_box(problem, tree, j, whole, by) for j in range(2)]).T
        assert_inside(y[known], (box[0], box[1]))
        claim = Claim(1e9, Local((Rows((0, 1), tree, 1, 0.0),)), linear=True, equilibria=problem.equilibria)
        proven = verify(problem, claim)
        steepest = operator_norms(jacobians[known & (near > 1e-7)], inf, inf).max()
        assert steepest <= proven
        assert measure is width or proven <= 1.1 * search.bound  # lines are those of the pieces of a batch
    assert all(region.contains(point) for point in np.concatenate(visited))


def test_the_commands_branch_over_inputs() -> None:
    rng = seeded("tanh, l2", 0)
    problem = pose(network("tanh, l2", rng).graph(), Query(inf, inf, region=Ball(rng.normal(size=2), 0.3, inf)))
    found = solve_reach(problem, timeout=4.0, exact=True)
    assert len(found.claim.trees) == 2
    assert len(found.claim.trees[0].splits) > 1
    notes = [attempt.reason for attempt in solve(problem, timeout=4.0, exact=True, method="local").attempts]
    assert any("pieces" in note for note in notes)
    wide = np.zeros((4, 17))
    many = Network((Stage(np.zeros((4, 4)), wide, np.zeros(4), Relu()),), np.ones((2, 4)), np.zeros(2))
    over = pose(many.graph(), Query(inf, inf, region=Ball(np.zeros(17), 0.3, inf)))
    with pytest.raises(UsageError, match="at most"):
        solve_reach(over, exact=True)
