"""A network in parts: each part is what it is said to be, and the product of what is proven of them is true."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace

import jsonschema
import numpy as np
import pytest

from lipcert.activations import Relu, Tanh
from lipcert.arithmetic.enclosure import exact
from lipcert.certificate import AbsoluteChain, Claim, verify
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.balls import BallArithmetic
from lipcert.certificate.claim import Composed, Inequality, SingleEvidence
from lipcert.certificate.composed import part_problems
from lipcert.certificate.encoding import decode_claim, encode
from lipcert.errors import CertificateError, NotProvedError
from lipcert.graph import Affine, Elementwise, Graph, Input, Node, Output
from lipcert.operators import Dense, Identity
from lipcert.problem import Ball, Box, Everywhere, Problem, Query, Region, pose
from lipcert.report import Report
from lipcert.report.check import check_report
from lipcert.report.schema import report_schema
from tests.helpers.compositions import BLOCKS, KINDS, blocks, evidence_of, separators, some_cuts, with_norms
from tests.helpers.graphs import random_graph
from tests.helpers.implicit import Implicit
from tests.helpers.inequalities import Builder, attained
from tests.helpers.reports import model_of, report_of
from tests.helpers.sampling import (
    NORM_PAIRS,
    NORMS,
    merge,
    random_points,
    steepest_jacobians,
    steepest_pairs,
    values,
)

MARGIN = 1 + 1e-9
"""For the rounding of what is sampled."""

ENOUGH = 1e300

REGIONS: dict[str, Callable[[np.random.Generator, int], Region]] = {
    "everywhere": lambda rng, n: Everywhere(),
    "a ball": lambda rng, n: Ball(rng.normal(size=n), 0.4, 2.0),
    "a ball of l1": lambda rng, n: Ball(rng.normal(size=n), 0.3, 1.0),
    "a box": lambda rng, n: Box(-rng.random(n), rng.random(n)),
}
in_each_region = pytest.mark.parametrize("kind", REGIONS)

NETWORKS: dict[str, tuple[str, ...]] = {
    "chain": ("layer", "layer", "layer"),
    "residual": ("residual", "residual"),
    "forks": ("fork", "layer", "fork"),
    "groups": ("groups", "residual"),
    "all": BLOCKS,
}
each_network = pytest.mark.parametrize("name", NETWORKS)


def problem_of(name: str, kind: str, rng: np.random.Generator) -> Problem:
    return pose(blocks(rng, *NETWORKS[name]), Query(region=REGIONS[kind](rng, 3)))


def composed(problem: Problem, cuts: tuple[int, ...], *kinds: str) -> Composed:
    """Evidence of these kinds in turn."""
    parts = part_problems(problem, cuts, Arithmetic())
    return Composed(cuts, tuple(evidence_of(part, kinds[i % len(kinds)]) for i, part in enumerate(parts)))


def proven(problem: Problem, evidence: Composed, by: Arithmetic | None = None) -> float:
    return verify(problem, Claim(ENOUGH, evidence), by)


# Parts.


@in_each_region
@each_network
def test_parts_one_after_the_other_are_the_network(name: str, kind: str) -> None:
    """Whatever the old input is; and the box where a part begins holds all that the network has there."""
    rng = np.random.default_rng([*name.encode(), *kind.encode()])
    problem = problem_of(name, kind, rng)
    x = random_points(problem.query.region, problem.size_in, rng, 2000)
    at = values(problem.graph, {"x": x})
    places = separators(problem.graph, problem.x, problem.y)
    assert len(places) >= 3
    for cuts in ((), (places[0],), (places[-1],), tuple(places), *(some_cuts(problem, rng) for _ in range(5))):
        value = x
        parts = part_problems(problem, cuts, Arithmetic())
        assert len(parts) == len(cuts) + 1
        for i, (part, start, end) in enumerate(zip(parts, (problem.x, *cuts), (*cuts, problem.y), strict=True)):
            region = part.query.region
            assert isinstance(region, Everywhere) == (kind == "everywhere")
            if i == 0:
                assert region is problem.query.region
            elif isinstance(region, Box):
                assert np.all(region.lower <= at[start])
                assert np.all(at[start] <= region.upper)
            inputs = {input: np.full((len(x), part.graph.size(n)), np.nan) for input, n in part.graph.inputs.items()}
            node = part.graph.nodes[part.x]
            assert isinstance(node, Input)
            value = values(part.graph, {**inputs, node.name: value})[part.y]
            np.testing.assert_allclose(value, at[end], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("p", "q"), NORM_PAIRS)
def test_the_norms_are_those_of_the_query_at_the_ends_and_l2_in_between(p: float, q: float) -> None:
    rng = np.random.default_rng(3)
    problem = with_norms(problem_of("chain", "a ball", rng), p, q)
    places = separators(problem.graph, problem.x, problem.y)
    for cuts in ((), tuple(places[:1]), tuple(places[1:4])):
        queries = [part.query for part in part_problems(problem, cuts, Arithmetic())]
        assert [query.norm_in for query in queries] == [p, *[2.0] * len(cuts)]
        assert [query.norm_out for query in queries] == [*[2.0] * len(cuts), q]


def test_a_box_that_is_not_bounded_is_everywhere() -> None:
    """One input may be anything: behind it nothing is bounded until a tanh."""
    rng = np.random.default_rng(4)
    build = Builder(rng)
    nodes = [*build.nodes, Input("free", (2,))]
    build.nodes = nodes
    before = build.affine(3, 0, 1)
    after = build.affine(3, build.active(before, Tanh()))
    build.affine(2, build.active(after, Relu()))
    problem = pose(build.graph(), Query(region=Ball(np.zeros(3), 0.1, 2.0), inputs=("x",)))
    kinds = [type(part.query.region) for part in part_problems(problem, (before + 1, after + 1), Arithmetic())]
    assert kinds == [Ball, Everywhere, Box]


# Refusals.


def chain(layers: int = 3) -> Graph:
    return blocks(np.random.default_rng(5), *["layer"] * layers)


def skip() -> Graph:
    """Node 3 is read again behind what reads it."""
    build = Builder(np.random.default_rng(6))
    first = build.affine(3, 0)
    second = build.affine(3, build.active(first, Relu()))
    build.affine(2, build.active(second, Relu()), first)
    return build.graph()


def two_readers() -> Graph:
    """Two ways from node 1 that meet at the end."""
    build = Builder(np.random.default_rng(7))
    first = build.affine(3, 0)
    ways = [build.affine(3, build.active(first, Relu())) for _ in range(2)]
    build.affine(2, *ways)
    return build.graph()


def input_again() -> Graph:
    build = Builder(np.random.default_rng(8))
    at = build.affine(3, build.active(build.affine(3, 0), Relu()))
    build.affine(2, build.active(at, Relu()), 0)
    return build.graph()


def fixed_point() -> Graph:
    rng = np.random.default_rng(9)
    w, u, out = (rng.normal(size=shape) / 4 for shape in ((3, 3), (3, 3), (2, 3)))
    return Implicit(w, u, rng.normal(size=3), out, rng.normal(size=2)).graph()


ORDER = "the cuts are not nodes between input and output, in order"
LOOP = "a network with a fixed point is not cut into parts"
REFUSED: dict[str, tuple[Callable[[], Graph], tuple[int, ...], str]] = {
    "out of order": (chain, (4, 2), ORDER),
    "repeated": (chain, (4, 4), ORDER),
    "before the first node": (chain, (-1,), ORDER),
    "at the input": (chain, (0,), ORDER),
    "at the input, then more": (chain, (0, 4), ORDER),
    "at the output": (chain, (11,), ORDER),
    "behind the output": (chain, (12,), ORDER),
    "far behind the output": (chain, (10**30,), ORDER),
    "at a ReLU": (chain, (3,), "node 3 is no affine node"),
    "at a ReLU, behind a cut": (chain, (2, 5), "node 5 is no affine node"),
    "under a skip": (skip, (4,), "a path from the input to node 7 does not cross node 4"),
    "under a skip, second": (skip, (2, 4), "a path from the input to node 7 does not cross node 4"),
    "one of two readers": (two_readers, (4,), "a path from the input to node 8 does not cross node 4"),
    "the other of two readers": (two_readers, (6,), "a path from the input to node 8 does not cross node 6"),
    "both readers": (two_readers, (4, 6), "a path from the input to node 6 does not cross node 4"),
    "the input read again": (input_again, (4,), "a path from the input to node 7 does not cross node 4"),
    "through a fixed point": (fixed_point, (3,), LOOP),
    "before, then through it": (fixed_point, (1, 3), LOOP),
    "before a fixed point": (fixed_point, (1,), LOOP),
    "behind a fixed point": (fixed_point, (6,), LOOP),
    "at a fixed point": (fixed_point, (5,), LOOP),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_cut_is_refused(name: str) -> None:
    make, cuts, reason = REFUSED[name]
    problem = pose(make(), Query())
    with pytest.raises(NotProvedError, match=reason):
        part_problems(problem, cuts, Arithmetic())
    with pytest.raises(NotProvedError, match=reason):
        proven(problem, Composed(cuts, (AbsoluteChain(False),) * (len(cuts) + 1)))


@pytest.mark.parametrize("count", [0, 1, 3, 4])
def test_as_many_parts_as_the_cuts_make(count: int) -> None:
    with pytest.raises(NotProvedError, match=f"1 cuts do not make {count} parts"):
        proven(pose(chain(), Query()), Composed((4,), (AbsoluteChain(False),) * count))


@pytest.mark.parametrize("seed", range(20))
def test_random_cuts_are_accepted_if_all_paths_cross_them(seed: int) -> None:
    rng = np.random.default_rng([seed, 21])
    problem = pose(random_graph(rng, inputs=1 + seed % 2, depth=6, width=4), Query())
    valid = set(separators(problem.graph, problem.x, problem.y))
    for _ in range(30):
        count = int(rng.integers(1, 3))
        cuts = tuple(sorted(rng.choice(np.arange(1, problem.y), count, replace=False).tolist()))
        try:
            part_problems(problem, cuts, Arithmetic())
        except NotProvedError:
            assert not valid.issuperset(cuts)
        else:
            assert valid.issuperset(cuts)


@pytest.mark.parametrize("name", ["u", "x'", "x before the cut", "x before the cut'", "y", "end", ""])
def test_no_name_of_an_input_hides_a_path_around_a_cut(name: str) -> None:
    """relu(a / 1000 + u) + a: cut before the ReLU, its constant would be 1/1000."""
    one, zero = Identity(1), exact(np.zeros(1))
    nodes: tuple[Node, ...] = (
        Input("a", (1,)),
        Input(name, (1,)),
        Affine((0, 1), (Dense(np.full((1, 1), 1e-3)), one), zero, (1,)),
        Elementwise(2, Relu(), (1,)),
        Affine((3, 0), (one, one), zero, (1,)),
        Affine((4,), (one,), zero, (1,)),
    )
    for last in (5, 4):
        graph = Graph(nodes[: last + 1], (Output("y", last),))
        for varying in ("a", name):
            problem = pose(graph, Query(inputs=(varying,)))
            steepest = attained(problem, np.random.default_rng(1))[2.0, 2.0]
            for cut in range(1, problem.y):
                try:
                    value = proven(problem, Composed((cut,), (AbsoluteChain(False),) * 2))
                except NotProvedError:
                    continue
                assert steepest <= value * MARGIN


def test_one_arithmetic_proves_for_all_norms_what_a_new_one_does() -> None:
    problem = problem_of("chain", "everywhere", np.random.default_rng(10))
    evidence = Composed((4,), (AbsoluteChain(False), AbsoluteChain(False)))
    by = Arithmetic()
    for p, q in NORM_PAIRS:
        asked = with_norms(problem, p, q)
        assert proven(asked, evidence, by) == proven(asked, evidence) > 0


# Soundness.


@pytest.mark.parametrize("seed", range(4))
@in_each_region
def test_no_sampled_ratio_exceeds_what_parts_prove(kind: str, seed: int) -> None:
    """Blocks of all kinds, cut anywhere, each part bounded by evidence of any kind."""
    rng = np.random.default_rng([*kind.encode(), seed, 31])
    names = rng.choice(BLOCKS, int(rng.integers(2, 5))).tolist()
    problem = pose(blocks(rng, *names, width=4), Query(region=REGIONS[kind](rng, 3)))
    steepest = merge(steepest_pairs(problem, rng, 1000), steepest_jacobians(problem, rng, 200))
    for turn, (p, q) in enumerate(NORM_PAIRS):
        asked = with_norms(problem, p, q)
        first = turn % len(KINDS)
        evidence = composed(asked, some_cuts(problem, rng), *KINDS[first:], *KINDS[:first])
        assert 0 < steepest[p, q] <= proven(asked, evidence) * MARGIN
        everywhere = Claim(ENOUGH, Composed(evidence.cuts, (AbsoluteChain(True),) * len(evidence.parts)), anywhere=True)
        assert steepest[p, q] <= verify(asked, everywhere) * MARGIN


@pytest.mark.parametrize("seed", range(10))
def test_no_sampled_ratio_exceeds_what_parts_of_random_networks_prove(seed: int) -> None:
    """Any nodes, weights known up to a radius, several inputs of which some may be anything."""
    rng = np.random.default_rng([seed, 32])
    graph = random_graph(rng, inputs=1 + seed % 2, depth=4, width=4)
    varying = tuple(list(graph.inputs)[: 1 + seed // 2 % 2])
    n = sum(graph.size(graph.inputs[name]) for name in varying)
    region = list(REGIONS.values())[seed % 4](rng, n)
    problem = pose(graph, Query(region=region, inputs=varying))
    steepest = merge(steepest_pairs(problem, rng, 500), steepest_jacobians(problem, rng, 100))
    for turn, (p, q) in enumerate(NORM_PAIRS[:: 2 if seed % 2 else 1]):
        asked = with_norms(problem, p, q)
        evidence = composed(asked, some_cuts(problem, rng), KINDS[turn % 3], KINDS[(turn + 1) % 3])
        assert steepest[p, q] <= proven(asked, evidence) * MARGIN


@each_network
def test_balls_prove_the_same(name: str) -> None:
    problem = problem_of(name, "a ball", np.random.default_rng(33))
    places = separators(problem.graph, problem.x, problem.y)
    evidence = composed(problem, (places[1], places[-2]), *KINDS)
    value = proven(problem, evidence)
    assert proven(problem, evidence, BallArithmetic()) == pytest.approx(value, rel=1e-6)


def test_the_product_of_parts_of_a_linear_network_is_the_product_of_their_norms() -> None:
    rng = np.random.default_rng(34)
    weights = [rng.normal(size=(4, 4)) for _ in range(3)]
    nodes: list[Node] = [Input("x", (4,))]
    for w in weights:
        nodes.append(Affine((len(nodes) - 1,), (Dense(w),), exact(np.zeros(4)), (4,)))
    problem = pose(Graph(tuple(nodes), (Output("y", 3),)), Query())
    evidence = composed(problem, (2, 3), "spectral")
    expected = math.prod(float(np.linalg.norm(w, 2)) for w in weights)
    assert expected <= proven(problem, evidence) <= expected * (1 + 1e-6)


# Mutations.


def lipsdp_case(kind: str) -> tuple[Problem, Composed, float, float]:
    """A deep network of equal layers in three parts by LipSDP: what they prove, and a ratio that is attained."""
    rng = np.random.default_rng([*kind.encode(), 41])
    build = Builder(rng, inputs=4, bias=0.1)
    at = build.affine(4, 0)
    for _ in range(5):
        at = build.affine(4, build.active(at, Relu()))
    region = Everywhere() if kind == "everywhere" else Ball(rng.normal(size=4), 3.0, 2.0)
    problem = pose(build.graph(), Query(region=region))
    evidence = composed(problem, (4, 8), "inequality")
    assert all(isinstance(part, Inequality) for part in evidence.parts)
    return problem, evidence, proven(problem, evidence), attained(problem, rng)[2.0, 2.0]


def enlarged(part: SingleEvidence, field: str, factor: float) -> SingleEvidence:
    assert isinstance(part, Inequality)
    return Inequality(tuple(replace(s, **{field: getattr(s, field) * factor}) for s in part.scalings))


@pytest.mark.parametrize("field", ["inputs", "outputs"])
@pytest.mark.parametrize("kind", ["everywhere", "a ball"])
def test_scales_of_one_part_enlarged_prove_nothing_less(kind: str, field: str) -> None:
    problem, evidence, value, _ = lipsdp_case(kind)
    for i, part in enumerate(evidence.parts):
        parts = (*evidence.parts[:i], enlarged(part, field, 1.01), *evidence.parts[i + 1 :])
        with pytest.raises(NotProvedError):
            proven(problem, Composed(evidence.cuts, parts))
        parts = (*evidence.parts[:i], enlarged(part, field, 0.99), *evidence.parts[i + 1 :])
        assert proven(problem, Composed(evidence.cuts, parts)) == pytest.approx(value / 0.99, rel=1e-9)


@pytest.mark.parametrize("kind", ["everywhere", "a ball"])
def test_evidence_of_other_parts_or_cuts_proves_nothing_less(kind: str) -> None:
    problem, evidence, value, steepest = lipsdp_case(kind)
    (a, b, c), (low, high) = evidence.parts, evidence.cuts
    others = [Composed((low, high), parts) for parts in ((b, a, c), (a, c, b), (c, b, a), (a, a, a), (b, b, b))]
    others += [Composed((low, high), (a, b, b)), Composed((low, high), (a, AbsoluteChain(False), c))]
    for other in others:
        try:
            found = proven(problem, other)
        except NotProvedError:
            continue
        assert found >= value * (1 - 1e-6)
    for cuts in ((low + d, high + e) for d in (-2, -1, 0, 1, 2) for e in (-2, -1, 0, 1, 2) if d or e):
        try:
            found = proven(problem, Composed(cuts, evidence.parts))
        except NotProvedError:
            continue
        assert found >= steepest
        assert cuts[0] % 2 == cuts[1] % 2 == 0  # the others are ReLUs


def test_a_claim_below_what_is_proven_is_refused() -> None:
    problem, evidence, value, _ = lipsdp_case("a ball")
    assert verify(problem, Claim(value, evidence)) == value
    with pytest.raises(NotProvedError, match="which is above the claimed"):
        verify(problem, Claim(value * (1 - 1e-12), evidence))


def test_evidence_of_a_ball_is_not_that_of_everywhere() -> None:
    problem, evidence, value, _ = lipsdp_case("a ball")
    with pytest.raises(NotProvedError):
        verify(problem, Claim(value, evidence, anywhere=True))


# Reports.


@in_each_region
@each_network
def test_a_report_goes_through_json(name: str, kind: str) -> None:
    rng = np.random.default_rng([*name.encode(), *kind.encode(), 51])
    graph = blocks(rng, *NETWORKS[name])
    query = Query(norm_out=NORMS[len(name) % 3], region=REGIONS[kind](rng, 3))
    problem, model = pose(graph, query), model_of(graph, name)
    evidence = composed(problem, some_cuts(problem, rng), *KINDS)
    claim = Claim(proven(problem, evidence) * (1 + 1e-12), evidence)
    again = decode_claim(json.loads(json.dumps(encode(claim))))
    assert verify(problem, again) == verify(problem, claim)
    assert encode(again) == encode(claim)
    data = json.loads(report_of(model, query, claim).to_json())
    assert not list(jsonschema.Draft202012Validator(report_schema()).iter_errors(data))
    result = check_report(Report(data), model)
    assert result.lower <= result.upper <= claim.value
    data["certificate"]["evidence"]["cuts"][0] += 1
    with pytest.raises(CertificateError):
        check_report(Report(data), model)


@pytest.mark.parametrize("cuts", [[4.0], ["4"], [True], [None], [[4]], 4, None, "4", {}, [-4]], ids=json.dumps)
def test_cuts_are_integers(cuts: object) -> None:
    problem = pose(chain(), Query())
    data = encode(Claim(ENOUGH, Composed((4,), (AbsoluteChain(False),) * 2)))
    assert verify(problem, decode_claim(data)) > 0
    data["evidence"]["cuts"] = cuts
    with pytest.raises((CertificateError, NotProvedError)):
        verify(problem, decode_claim(data))


def test_parts_are_not_composed_again() -> None:
    data = encode(Claim(ENOUGH, Composed((4,), (AbsoluteChain(False),) * 2)))
    data["evidence"]["parts"][0] = {"is": "Composed", "cuts": [], "parts": [{"is": "AbsoluteChain", "center": False}]}
    with pytest.raises(CertificateError):
        decode_claim(data)
