"""No network is ever steeper than a bound that was verified for it, nor flatter than a witness says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from lipcert.activations import LeakyRelu, Relu
from lipcert.activations.groupwise import GroupFunction
from lipcert.arithmetic.enclosure import exact
from lipcert.certificate import Claim, Witness, chains, verify, verify_witness
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.boxes import propagate
from lipcert.certificate.chains import absolute_bound, prepare
from lipcert.graph import Affine, Elementwise, Graph, Groupwise, Input, Output
from lipcert.methods import Progress
from lipcert.methods.lower import find_witness
from lipcert.operators import Dense, Identity, Leaf, Product, Selection
from lipcert.planning import METHODS
from lipcert.problem import (
    AllOutputs,
    Ball,
    Box,
    Everywhere,
    Margin,
    Norm,
    OutputChoice,
    Problem,
    Query,
    Region,
    SomeOutputs,
    pose,
)
from tests.helpers.claims import claims_of
from tests.helpers.graphs import ALL_FUNCTIONS, CLASSIC, GROUP_FUNCTIONS, random_graph
from tests.helpers.operators import map_leaves, with_radius
from tests.helpers.sampling import (
    NORM_PAIRS,
    NORMS,
    Ratios,
    jacobians,
    merge,
    operator_norms,
    random_points,
    realise,
    steepest_jacobians,
    steepest_pairs,
)

MARGIN = 1 + 1e-9
"""For the rounding of what is sampled."""

REGIONS = ("everywhere", "linf ball", "l2 ball", "l1 ball", "box", "point")
SEEDS = range(9)
REALISATIONS = 2
PAIRS = 1000
POINTS = 200


def random_region(rng: np.random.Generator, kind: str, n: int) -> Region:
    """A region of this kind around a random point, of any size between narrow and wide."""
    center, size = rng.standard_normal(n), float(10 ** rng.uniform(-2, 0.5))
    if kind == "everywhere":
        return Everywhere()
    if kind == "box":
        widths = size * rng.random(n) * (rng.random(n) < 0.9)  # some sides have no width
        return Box(center, center + widths)
    if kind == "point":
        return Ball(np.zeros(n), 0.0, 2.0)
    return Ball(center, size, {"linf ball": math.inf, "l2 ball": 2.0, "l1 ball": 1.0}[kind])


def random_outputs(rng: np.random.Generator, size: int) -> OutputChoice:
    """All outputs, some, or a margin."""
    kind = int(rng.integers(3))
    if kind == 1:
        return SomeOutputs(tuple(rng.permutation(size)[: rng.integers(1, size + 1)].tolist()))
    if kind == 2 and size > 1:
        first, second = rng.permutation(size)[:2].tolist()
        return Margin(first, second)
    return AllOutputs()


def random_query(rng: np.random.Generator, graph: Graph, kind: str) -> Query:
    """Any outputs over a region of this kind; of two inputs, one or both vary."""
    names = list(graph.inputs)
    varying = tuple(rng.permutation(names)[: rng.integers(1, len(names) + 1)].tolist())
    size = sum(graph.size(graph.inputs[name]) for name in varying)
    outputs = random_outputs(rng, graph.size(graph.outputs[0].node))
    return Query(region=random_region(rng, kind, size), outputs=outputs, inputs=varying)


def with_norms(query: Query, p: Norm, q: Norm) -> Query:
    return replace(query, norm_in=p, norm_out=q)


def all_claims(problem: Problem) -> list[tuple[str, Claim]]:
    """Every claim that any method makes, not only the best."""
    by = Arithmetic()  # what methods share in a run, they share here
    return [(name, claim) for name, make in METHODS.items() for claim in claims_of(make(), problem, by=by)]


def sampled(graph: Graph, query: Query, rng: np.random.Generator) -> Ratios:
    """The steepest that was found of the networks that the graph stands for."""
    problems = [pose(realise(graph, rng), query) for _ in range(REALISATIONS)]
    return merge(
        *(steepest_pairs(problem, rng, PAIRS) for problem in problems),
        *(steepest_jacobians(problem, rng, POINTS) for problem in problems),
    )


def assert_sound(
    graph: Graph, query: Query, rng: np.random.Generator, norms: Sequence[tuple[Norm, Norm]] = NORM_PAIRS
) -> Ratios:
    """Every claim for these norms is verified, and nothing sampled is above it. Returns the least bounds."""
    steepest = sampled(graph, query, rng)
    least = {}
    for p, q in norms:
        problem = pose(graph, with_norms(query, p, q))
        claims = all_claims(problem)
        assert claims, "no method takes the problem"
        proven = [(name, claim, verify(problem, claim)) for name, claim in claims if math.isfinite(claim.value)]
        for name, claim, value in proven:
            assert value <= claim.value
            assert steepest[p, q] <= value * MARGIN, f"{name}, l{p} -> l{q}: {claim.evidence}"
        least[p, q] = min((value for *_, value in proven), default=math.inf)
    return least


@pytest.mark.one_in(4)
@pytest.mark.parametrize("kind", REGIONS)
@pytest.mark.parametrize("seed", SEEDS)
def test_no_sampled_ratio_exceeds_any_claim(seed: int, kind: str) -> None:
    rng = np.random.default_rng([seed, REGIONS.index(kind)])
    local = kind != "everywhere" and seed % 4 < 2
    graph = random_graph(rng, inputs=1 + seed % 2, depth=2 + seed % 5, width=3 + seed % 5, local=local)
    least = assert_sound(graph, random_query(rng, graph, kind), rng, NORM_PAIRS[seed % 3 :: 3])
    if not local or len(graph.inputs) == 1:  # an input that does not vary may be anything, and so may products with it
        assert all(map(math.isfinite, least.values()))


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_no_sampled_ratio_exceeds_a_chain_that_is_cut(seed: int, center: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where expanding stretches would take long; a cut can only lose."""
    rng = np.random.default_rng([seed, 77])
    graph = random_graph(rng, depth=4 + seed % 4, width=4)
    steepest = sampled(graph, Query(), rng)
    for p, q in NORM_PAIRS[seed % 3 :: 3]:
        problem = pose(graph, Query(p, q))
        setting = prepare(problem, propagate(problem, Arithmetic()), center, Arithmetic())
        whole = absolute_bound(setting)
        monkeypatch.setattr(chains, "MAX_PASSED", 0)
        cut = absolute_bound(replace(setting, by=Arithmetic()))
        monkeypatch.undo()
        assert steepest[p, q] <= cut * MARGIN
        assert whole <= cut * MARGIN


def test_a_cut_is_where_several_nodes_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """a = W x, b = relu(a), y = V a + b: |V W| + |W| as a whole, and (|V| + 1) |W| where a is cut."""
    w, v = np.array([[1.0, -1.0], [1.0, 1.0]]), np.array([[1.0, 1.0], [0.0, 1.0]])
    none = exact(np.zeros(2))
    nodes = (
        Input("x", (2,)),
        Affine((0,), (Dense(w),), none, (2,)),
        Elementwise(1, Relu(), (2,)),
        Affine((1, 2), (Dense(v), Identity(2)), none, (2,)),
    )
    problem = pose(Graph(nodes, (Output("y", 3),)), Query(math.inf, math.inf))
    for most, wanted in ((20_000, 4.0), (0, 6.0)):
        monkeypatch.setattr(chains, "MAX_PASSED", most)
        setting = prepare(problem, propagate(problem, Arithmetic()), False, Arithmetic())
        assert absolute_bound(setting) == pytest.approx(wanted)


def one_layer(rng: np.random.Generator, function: GroupFunction, groups: int, size: float = 1.0) -> Graph:
    """A matrix, the group function of `groups` groups, and another matrix; what the function sees is of this size."""
    n, wide = 3, groups * function.width
    first = size * rng.normal(size=(wide, n)) / math.sqrt(n)
    last = rng.normal(size=(2, groups * function.out_width))
    nodes = (
        Input("x", (n,)),
        Affine((0,), (Dense(first),), exact(size * rng.normal(size=wide)), (wide,)),
        Groupwise(1, function, (groups * function.out_width,)),
        Affine((2,), (Dense(last),), exact(np.zeros(2)), (2,)),
    )
    return Graph(nodes, (Output("y", 3),))


@pytest.mark.one_in(4)
@pytest.mark.parametrize("kind", REGIONS)
@pytest.mark.parametrize("name", ALL_FUNCTIONS)
def test_no_sampled_ratio_exceeds_any_claim_about_one_group_function(name: str, kind: str) -> None:
    """Every function by itself; only of those that are not Lipschitz at 0 may bounds be infinite."""
    rng = np.random.default_rng([0, *name.encode(), REGIONS.index(kind)])
    groups = int(rng.integers(1, 4))
    graph = one_layer(rng, ALL_FUNCTIONS[name](rng, groups), groups)
    query = Query(region=random_region(rng, kind, 3))
    least = assert_sound(graph, query, rng, NORM_PAIRS[int(rng.integers(3)) :: 3])
    if name in GROUP_FUNCTIONS:
        assert all(map(math.isfinite, least.values()))
    for (p, q), bound in least.items():
        problem = pose(graph, with_norms(query, p, q))
        for point in random_points(query.region, 3, rng, 5):
            if query.region.contains(point):
                assert verify_witness(problem, Witness(point, rng.standard_normal(3))) <= bound


@pytest.mark.one_in(5)
@pytest.mark.parametrize("size", [1e-200, 1e-160, 1e8, 1.1e154, 1e200, 1e300])
@pytest.mark.parametrize("name", ALL_FUNCTIONS)
def test_no_sampled_ratio_exceeds_any_claim_about_groups_of_any_size(name: str, size: float) -> None:
    """Squares that underflow, and squares that overflow."""
    for kind in ("point", "linf ball"):
        rng = np.random.default_rng([*name.encode(), int(math.log10(size)) + 400])
        graph = one_layer(rng, ALL_FUNCTIONS[name](rng, 2), 2, size)
        region = Ball(rng.normal(size=3), 1e-3 if kind == "linf ball" else 1e-9, math.inf)
        assert_sound(graph, Query(region=region), rng, NORM_PAIRS[::4])


@pytest.mark.one_in(2)
@pytest.mark.parametrize("seed", range(6))
def test_no_sampled_ratio_exceeds_any_claim_about_badly_scaled_networks(seed: int) -> None:
    """Weights of any size that float64 holds: products underflow and overflow."""
    rng = np.random.default_rng([seed, 99])
    only = ("affine", "elementwise", "both", "groupwise", "product")
    graph = rescaled(random_graph(rng, depth=4, width=4, activations=CLASSIC, only=only), rng)
    assert_sound(graph, random_query(rng, graph, REGIONS[seed % 5]), rng, NORM_PAIRS[seed % 3 :: 3])


def rescaled(graph: Graph, rng: np.random.Generator) -> Graph:
    """The weights of each affine node multiplied by a power of two of its own."""

    def scale(leaf: Leaf, by: float) -> Leaf:
        if leaf.weights is None:
            return leaf
        return with_radius(leaf, leaf.radius * by, leaf.weights * by)

    nodes = []
    for node in graph.nodes:
        if isinstance(node, Affine):
            by = 2.0 ** float(rng.integers(-400, 400))
            node = replace(
                node, operators=tuple(map_leaves(op, lambda leaf, by=by: scale(leaf, by)) for op in node.operators)
            )
        nodes.append(node)
    return Graph(tuple(nodes), graph.outputs)


def constant_graphs() -> dict[str, Graph]:
    """Networks whose output never changes over the ball of radius 0.1 around 0."""
    x, one = Input("x", (2,)), Dense(np.ones((1, 2)))
    zero, minus = exact(np.zeros(1)), exact(np.full(1, -1.0))
    dead = (x, Affine((0,), (one,), minus, (1,)), Elementwise(1, Relu(), (1,)))
    nothing = Selection(np.array([-1]), 1)
    layers = {
        "zero weights": (x, Affine((0,), (Dense(np.zeros((1, 2))),), zero, (1,))),
        "dead neuron": (*dead, Affine((2,), (Identity(1),), zero, (1,))),
        "dead neuron, uncertain weight": (
            *dead,
            Affine((2,), (Dense(np.ones((1, 1)), np.full((1, 1), 0.1)),), zero, (1,)),
        ),
        "padding": (
            x,
            Affine((0,), (one,), zero, (1,)),
            Affine((1,), (Product((Dense(np.ones((1, 1))), nothing)),), zero, (1,)),
        ),
        "two branches, both dead": (
            *dead,
            Affine((2, 0), (Dense(np.ones((1, 1))), Dense(np.zeros((1, 2)))), zero, (1,)),
        ),
        "a dead branch and padding": (
            *dead,
            Affine((2, 2), (Dense(np.ones((1, 1))), nothing), zero, (1,)),
            Elementwise(3, LeakyRelu(0.5), (1,)),
            Affine((4, 2), (nothing, Dense(np.ones((1, 1)))), zero, (1,)),
        ),
    }
    return {name: Graph(nodes, (Output("y", len(nodes) - 1),)) for name, nodes in layers.items()}


@pytest.mark.parametrize("name", constant_graphs())
def test_a_network_that_is_constant_is_proven_so(name: str) -> None:
    """Every claim about it is verified, and the best one is zero for all that matters."""
    query = Query(region=Ball(np.zeros(2), 0.1, math.inf))
    least = assert_sound(constant_graphs()[name], query, np.random.default_rng(0))
    assert max(least.values()) <= 1e-100


@pytest.mark.one_in(2)
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.7, -0.6])
@pytest.mark.parametrize(("lower", "upper"), [(-1.0, 0.0), (0.0, 1.0), (0.0, 0.0), (-0.0, -0.0)])
def test_a_kink_on_the_edge_of_the_region_counts(alpha: float, lower: float, upper: float) -> None:
    """The Clarke derivative at zero holds the slopes of both sides."""
    region = Box(np.array([lower]), np.array([upper]))
    graph = Graph((Input("x", (1,)), Elementwise(0, LeakyRelu(alpha), (1,))), (Output("y", 1),))
    for p, q in NORM_PAIRS:
        problem = pose(graph, Query(p, q, region))
        assert all(verify(problem, claim) >= max(1.0, abs(alpha)) for _, claim in all_claims(problem))


def linear(weights: np.ndarray) -> Graph:
    m, n = weights.shape
    return Graph(
        (Input("x", (n,)), Affine((0,), (Dense(weights),), exact(np.zeros(m)), (m,))),
        (Output("y", 1),),
    )


@pytest.mark.parametrize("seed", range(5))
def test_sampling_finds_the_steepest_of_a_linear_map(seed: int) -> None:
    """What the tests above compare with is no weak enemy: bounds a millionth too small would be noticed."""
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((int(rng.integers(1, 6)), int(rng.integers(1, 6))))
    least = assert_sound(linear(weights), Query(), rng)
    for p, q in NORM_PAIRS:
        truth = float(operator_norms(weights[None], p, q)[0])
        assert sampled(linear(weights), Query(), rng)[p, q] >= truth * (1 - 1e-6)
        if (p, q) == (2, 2) or p == 1 or q == math.inf:
            assert least[p, q] == pytest.approx(truth, rel=1e-8)


def cancelling() -> Graph:
    """x - relu(x) + relu(-x), which is zero everywhere; autograd says 1 at zero."""
    one, minus = Identity(1), Dense(np.array([[-1.0]]))
    nothing = exact(np.zeros(1))
    nodes = (
        Input("x", (1,)),
        Elementwise(0, Relu(), (1,)),
        Affine((0,), (minus,), nothing, (1,)),
        Elementwise(2, Relu(), (1,)),
        Affine((0, 1, 3), (one, minus, one), nothing, (1,)),
    )
    return Graph(nodes, (Output("y", 4),))


@pytest.mark.parametrize("point", [0.0, -0.0, 5e-324, -5e-324, 1e-200, 1.0, -1.0, 1e200])
def test_a_witness_of_a_cancelling_network_attains_nothing(point: float) -> None:
    for p, q in NORM_PAIRS:
        problem = pose(cancelling(), Query(norm_in=p, norm_out=q))
        assert verify_witness(problem, Witness(np.array([point]), np.array([1.0]))) == 0.0


def test_no_witness_of_a_cancelling_network_is_found() -> None:
    problem = pose(cancelling(), Query())
    assert all(verify_witness(problem, witness) == 0.0 for witness in find_witness(problem, Progress(), "cpu"))


@pytest.mark.one_in(3)
@pytest.mark.parametrize("kind", REGIONS)
@pytest.mark.parametrize("seed", range(4))
def test_no_witness_exceeds_a_bound(seed: int, kind: str) -> None:
    """Those that the search finds, and arbitrary points and directions, tiny and huge ones among them."""
    rng = np.random.default_rng([seed, REGIONS.index(kind), 7])
    graph = random_graph(rng, inputs=1 + seed % 2, depth=2 + seed, width=5)
    p, q = NORM_PAIRS[int(rng.integers(len(NORM_PAIRS)))]
    problem = pose(graph, with_norms(random_query(rng, graph, kind), p, q))
    found = find_witness(problem, Progress(), "cpu")
    assert found
    points = random_points(problem.query.region, problem.size_in, rng, 20)
    inside = [point for point in points if problem.query.region.contains(point)]
    for scale in (1.0, 1e-310, 1e-160, 1e100):
        found += [Witness(point, scale * rng.standard_normal(problem.size_in)) for point in inside]
    upper = min(verify(problem, claim) for _, claim in all_claims(problem) if math.isfinite(claim.value))
    for witness in found:
        assert 0 <= verify_witness(problem, witness) <= upper


@pytest.mark.parametrize("p", NORMS)
@pytest.mark.parametrize("q", NORMS)
def test_the_witness_of_a_linear_map_attains_its_norm(p: Norm, q: Norm) -> None:
    weights = np.random.default_rng(3).standard_normal((4, 3))
    problem = pose(linear(weights), Query(norm_in=p, norm_out=q))
    best = max(verify_witness(problem, witness) for witness in find_witness(problem, Progress(), "cpu"))
    truth = float(operator_norms(weights[None], p, q)[0])
    assert truth * (1 - 1e-6) <= best <= truth * MARGIN


@pytest.mark.parametrize("seed", range(4))
def test_what_a_witness_attains_is_the_slope_there(seed: int) -> None:
    """Neither more nor (away from kinks) noticeably less than the derivative along the direction."""
    rng = np.random.default_rng([seed, 8])
    graph = realise(random_graph(rng, depth=5, width=5), rng, np.float64)
    problem = pose(graph, Query(norm_in=1.0, norm_out=math.inf))
    for point in rng.standard_normal((20, problem.size_in)):
        direction = rng.standard_normal(problem.size_in)
        jacobian = jacobians(problem, {"x": point[None]})[0][0]
        slope = np.max(np.abs(jacobian @ direction)) / np.sum(np.abs(direction))
        assert slope * (1 - 1e-9) - 1e-12 <= verify_witness(problem, Witness(point, direction)) <= slope * MARGIN
