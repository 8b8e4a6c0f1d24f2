"""Claims about a graph in pairs: no sampled value or Jacobian leaves them, and the other form proves nothing false."""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

import lipcert
from lipcert.activations.softmax import Softmax
from lipcert.activations.standardise import Standardise
from lipcert.arithmetic.enclosure import exact
from lipcert.certificate import BoxClaim, Claim, verify, verify_box, verify_monotone
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.balls import BallArithmetic
from lipcert.certificate.claim import AbsoluteChain, Local, Rows
from lipcert.certificate.linear_bounds import boxes_of, linear_boxes, paired, whole_net
from lipcert.errors import CertificateError, NotProvedError
from lipcert.graph import Affine, Graph, Groupwise, Input, Output
from lipcert.methods import OutOfTime, Progress, Resumed
from lipcert.methods.local.signs import branched_signs
from lipcert.operators import Identity
from lipcert.planning import METHODS
from lipcert.problem import Ball, Box, Everywhere, Problem, Query, SomeOutputs, pose
from lipcert.report import CheckResult
from lipcert.report.reading import parse_any
from tests.certificate.test_derivative import MARGIN, STEPS
from tests.certificate.test_linear_bounds import corners
from tests.helpers.attention import WITH_SOFTMAX, between
from tests.helpers.claims import through_json
from tests.helpers.pieces import ENOUGH, WHOLE, pieces_by_ends, proven, rows_of
from tests.helpers.reports import model_of
from tests.helpers.sampling import (
    NORM_PAIRS,
    jacobians,
    merge,
    operator_norms,
    random_points,
    steepest_jacobians,
    steepest_pairs,
    values,
)
from tests.soundness.test_bounds import one_layer

inf = math.inf
REGIONS: dict[str, Callable[[np.random.Generator, int], Ball | Box]] = {
    "linf": lambda rng, n: Ball(0.5 * rng.normal(size=n), 0.05, inf),
    "wide": lambda rng, n: Ball(0.5 * rng.normal(size=n), 2.0, inf),
    "l2": lambda rng, n: Ball(0.5 * rng.normal(size=n), 0.3, 2.0),
    "l1": lambda rng, n: Ball(0.5 * rng.normal(size=n), 0.5, 1.0),
    "box": lambda rng, n: Box(*np.sort(rng.normal(size=(2, n)), axis=0)),
    "point": lambda rng, n: Ball(0.5 * rng.normal(size=n), 0.0, 2.0),
    "huge": lambda rng, n: Ball(np.zeros(n), 1e6, inf),
}
regions = pytest.mark.parametrize("kind", REGIONS)
networks = pytest.mark.parametrize("name", WITH_SOFTMAX)


def posed(name: str, kind: str) -> tuple[np.random.Generator, Problem]:
    rng = np.random.default_rng([*name.encode(), *kind.encode()])
    graph = WITH_SOFTMAX[name](rng)
    return rng, pose(graph, Query(region=REGIONS[kind](rng, graph.size(0))))


def points_of(problem: Problem, rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    region = problem.query.region
    x = np.concatenate([random_points(region, problem.size_in, rng, count), corners(region, problem.size_in, rng)])
    return {problem.graph.nodes[problem.x].origin: x.astype(np.longdouble)}


@regions
@networks
def test_no_value_leaves_the_boxes(name: str, kind: str) -> None:
    """Of the nodes of the graph itself, by the groups' definition; boxes are no wider than those of groups."""
    rng, problem = posed(name, kind)
    by = Arithmetic()
    pairs = paired(problem, by)
    found = linear_boxes(pairs, by)
    position = by.kept(("pairs", problem.graph), lambda: None).place
    seen = values(problem.graph, points_of(problem, rng, 3000))
    for i, value in enumerate(seen):
        low, high = found[position[i]]
        spare = 1e-12 * (np.abs(value).max(axis=0) + 1)
        assert np.all(low - spare <= value), i
        assert np.all(value <= high + spare), i
        assert not np.isnan(low).any()
        assert not np.isnan(high).any()
    # softmax and the like lie where the groups have them over the same box
    for at, function, source in pairs.graph.groups:
        low, high = function.enclose(*found[source])
        assert np.all(low <= found[at][0])
        assert np.all(found[at][1] <= high)


@pytest.mark.one_in(4)
@regions
@networks
def test_no_jacobian_leaves_the_boxes(name: str, kind: str) -> None:
    rng, problem = posed(name, kind)
    found, errors = jacobians(problem, points_of(problem, rng, 1500))
    spare = errors + 1e-11 * np.abs(found) + 1e-300
    by = Arithmetic()
    pairs = paired(problem, by)
    steepest = {
        pair: float((operator_norms(found, *pair) - operator_norms(errors, *pair)).max()) for pair in NORM_PAIRS
    }
    for steps in STEPS:
        rows = rows_of(pairs, steps, by)
        assert rows is not None
        low, high = (side[0] for side in rows.entries())
        assert np.all(low - spare <= found), steps
        assert np.all(found <= high + spare), steps
    for pair in NORM_PAIRS:
        query = replace(problem.query, norm_in=pair[0], norm_out=pair[1])
        evidence = Local((Rows(tuple(range(problem.size_out)), WHOLE, 6, 0.0),))
        claim = Claim(ENOUGH, evidence, linear=True, pairs=True)
        assert steepest[pair] <= verify(replace(problem, query=query), claim) * MARGIN, pair


@networks
def test_no_jacobian_leaves_the_boxes_of_pieces(name: str) -> None:
    """Each point in the piece that it is in: cuts at what sigmoids and softplus read."""
    rng, problem = posed(name, "wide")
    by = Arithmetic()
    pairs = paired(problem, by)
    net = whole_net(pairs, by)
    inputs = points_of(problem, rng, 800)
    found, errors = jacobians(problem, inputs)
    spare = errors + 1e-11 * np.abs(found) + 1e-300
    seen = values(pairs.graph, inputs)
    graph = pairs.graph
    bent = [n.input for n in graph.nodes if type(n).__name__ == "Elementwise" and n.activation.kinks == ()]
    for at in rng.choice(bent, 3):
        entry = int(rng.integers(graph.size(at)))
        cut = float(np.median(seen[at][:, entry].astype(float)))
        where = at  # nodes of a graph without ramps stay where they are
        assert net.nodes[where].shape == graph.nodes[at].shape
        low, high = (np.full((2, graph.size(at)), side) for side in (-inf, inf))
        high[0, entry] = low[1, entry] = cut
        bounded = pieces_by_ends(pairs, 2, {where: (low, high)}, by)
        for steps in (1, 3, 7):
            rows = rows_of(pairs, steps, by, bounded)
            assert rows is not None
            for piece, inside in enumerate((seen[at][:, entry] <= cut, seen[at][:, entry] >= cut)):
                least, most = (side[piece] for side in rows.entries())
                assert np.all((least - spare <= found)[inside])
                assert np.all((found <= most + spare)[inside])


@pytest.mark.parametrize("eps", [1e-3, 1e-2])
@pytest.mark.parametrize("name", [n for n in WITH_SOFTMAX if n != "log-sum-exp"])
def test_small_regions_are_tighter_in_pairs(name: str, eps: float) -> None:
    """Near to what is attained; groups pass absolute values through bounds on their Jacobians."""
    rng = np.random.default_rng([*name.encode()])
    graph = WITH_SOFTMAX[name](rng)
    problem = pose(graph, Query(inf, inf, Ball(0.1 * rng.normal(size=graph.size(0)), eps, inf)))
    pairs = paired(problem, Arithmetic())
    attained = merge(steepest_jacobians(problem, rng, 2000))[inf, inf]
    found = proven(pairs, steps=6)
    assert attained * (1 - 1e-9) <= found <= proven(problem, steps=6) * (1 + 1e-9)


def test_wide_regions_do_not_overflow() -> None:
    """Differences of 1e6, where their exponentials would be infinite."""
    for size in (1.0, 1e3, 1e6):
        graph = one_layer(np.random.default_rng(0), Softmax(8), 2, size)
        problem = paired(pose(graph, Query(inf, inf, Ball(np.zeros(3), 1.0, inf))), Arithmetic())
        low, high = linear_boxes(problem, Arithmetic())[problem.y]
        assert np.all(np.isfinite(low) & np.isfinite(high))
        assert math.isfinite(proven(problem))


@cache
def branched(name: str) -> tuple[Problem, tuple[Claim, ...], float]:
    """A problem, what the local method claims of it, and what is attained."""
    rng = np.random.default_rng([*name.encode(), 2])
    graph = WITH_SOFTMAX[name](rng)
    problem = pose(graph, Query(inf, inf, Ball(0.1 * rng.normal(size=graph.size(0)), 0.3, inf)))
    claims: list[Claim] = []
    found: Iterator[Claim] = METHODS["local"]().claims(problem, Progress(time.monotonic() + 4, exact=True, gap=1.02))
    while True:
        try:
            claims.append(next(found))
        except (StopIteration, OutOfTime):
            break
    seen = merge(steepest_jacobians(problem, rng, 20000), steepest_pairs(problem, rng, 3000))
    return problem, tuple(claims), seen[inf, inf]


@pytest.mark.one_in(3)
@networks
def test_both_forms_are_claimed_and_proven(name: str) -> None:
    problem, claims, attained = branched(name)
    assert {claim.pairs for claim in claims} == {False, True}
    best = min(claims, key=lambda claim: claim.value)
    for claim in (*claims[:2], best):
        assert attained * (1 - 1e-9) <= verify(problem, through_json(claim)) <= claim.value
    with pytest.raises(NotProvedError, match="above the claimed"):
        verify(problem, replace(best, value=best.value * (1 - 1e-6)))
    assert verify(problem, best, BallArithmetic()) <= best.value


@pytest.mark.one_in(3)
@networks
def test_no_claim_about_the_other_form_is_below_what_is_attained(name: str) -> None:
    """Its trees and slopes are then of other nodes: refused, or above."""
    problem, claims, attained = branched(name)
    for claim in claims:
        other = replace(claim, pairs=not claim.pairs, value=ENOUGH)
        for evidence in (other, replace(other, slopes=())):
            try:
                assert verify(problem, evidence) >= attained * (1 - 1e-9)
            except NotProvedError:
                continue


def test_pairs_of_nothing_are_refused() -> None:
    """Without a group that can be written so, or without a region."""
    rng = np.random.default_rng(0)
    there, none = (one_layer(rng, f, 2) for f in (Softmax(3), Standardise(3, 1e-3)))
    evidence = Local((Rows((0, 1), WHOLE, 1, 0.0),))
    ball = Query(region=Ball(np.zeros(3), 0.1, 2.0))
    with pytest.raises(NotProvedError, match="no group"):
        verify(pose(none, ball), Claim(ENOUGH, evidence, linear=True, pairs=True))
    with pytest.raises(NotProvedError):
        verify(pose(there, Query(region=Everywhere())), Claim(ENOUGH, evidence, linear=True, pairs=True))
    box = BoxClaim(np.full(2, -inf), np.full(2, inf), True, pairs=True)
    with pytest.raises(NotProvedError, match="no group"):
        verify_box(pose(none, ball), box)


@pytest.mark.one_in(3)
@networks
def test_other_evidence_over_pairs_is_sound(name: str) -> None:
    """The rewritten graph is the same function: absolute chains over it bound it, too."""
    problem, _, attained = branched(name)
    for linear in (False, True):
        for center in (False, True):
            try:
                found = verify(problem, Claim(ENOUGH, AbsoluteChain(center), linear=linear, pairs=True))
            except NotProvedError:
                continue
            assert found >= attained * (1 - 1e-9)


@pytest.mark.one_in(3)
@networks
def test_boxes_of_reach_hold_and_say_their_form(name: str) -> None:
    rng = np.random.default_rng([*name.encode(), 3])
    graph = WITH_SOFTMAX[name](rng)
    model = model_of(graph, "network")
    region = Ball(0.1 * rng.normal(size=graph.size(0)), 0.1, inf)
    problem = pose(graph, Query(region=region))
    for branching in (False, True):
        report = lipcert.reach(model, region=region, exact=branching, timeout=1.5)
        seen = values(problem.graph, points_of(problem, rng, 3000))[problem.y]
        spare = 1e-12 * (np.abs(seen).max() + 1)
        assert np.all(report.lower - spare <= seen)
        assert np.all(seen <= report.upper + spare)
        data = json.loads(report.to_json())
        assert lipcert.check(parse_any(json.dumps(data), "r"), model)
        for change in ({"pairs": not data["certificate"]["pairs"]}, {"pairs": 1}, {"pairs": None}):
            wrong = {**data, "certificate": {**data["certificate"], **change}}
            try:
                accepted = lipcert.check(parse_any(json.dumps(wrong), "r"), model)
            except CertificateError:
                continue
            assert change["pairs"] in (True, False)
            assert accepted  # it says the same box, which is true


def test_signs_through_softmax_are_proven() -> None:
    """A probability increases with its own logit and decreases with the others; bounds on |J| never say so."""
    graph = one_way()
    problem = pose(graph, Query(outputs=SomeOutputs((0,)), region=Ball(np.zeros(3), 0.5, inf)))
    for entry, increasing in itertools.product(range(3), (False, True)):
        claim, _ = branched_signs(problem, (entry,), increasing, 0.0, Progress(time.monotonic() + 2))
        assert claim.pairs
        share = verify_monotone(problem, claim)
        assert share == (1.0 if increasing == (entry == 0) else 0.0)


def one_way() -> Graph:
    nodes = (
        Input("x", (3,)),
        Affine((0,), (Identity(3),), exact(np.zeros(3)), (3,)),
        Groupwise(1, Softmax(3), (3,)),
    )
    return Graph(nodes, (Output("y", 2),))


def test_a_run_goes_on_in_the_form_that_it_had() -> None:
    graph = between(np.random.default_rng(5), Softmax(3), 2, 1.0)
    problem = pose(graph, Query(inf, inf, Ball(np.zeros(3), 0.3, inf)))
    trees: list[Any] = []
    progress = Progress(time.monotonic() + 15, exact=True, gap=1.001, save=trees.append)
    claims: list[Claim] = []
    found = METHODS["local"]().claims(problem, progress)
    while True:
        try:
            claims.append(next(found))
        except (StopIteration, OutOfTime):
            break
    best = min(claims, key=lambda claim: claim.value)
    assert trees
    assert trees[-1]
    resumed = Progress(time.monotonic() + 5, exact=True, gap=1.001, resume=Resumed(best, trees[-1]))
    later: list[Claim] = []
    found = METHODS["local"]().claims(problem, resumed)
    while True:
        try:
            later.append(next(found))
        except (StopIteration, OutOfTime):
            break
    assert {claim.pairs for claim in later} == {best.pairs}
    assert min(claim.value for claim in later) <= best.value * (1 + 1e-6)


def test_a_report_with_pairs_is_checked() -> None:
    rng = np.random.default_rng(6)
    graph = WITH_SOFTMAX["attention"](rng)
    model = model_of(graph, "network")
    report = lipcert.bound(model, norm=inf, region=Ball(np.zeros(6), 0.01, inf), method="local", timeout=3.0)
    data = json.loads(report.to_json())
    assert data["certificate"]["pairs"] is True
    found = lipcert.check(parse_any(json.dumps(data), "r"), model)
    assert isinstance(found, CheckResult)
    assert found.upper <= report.upper
    data["certificate"].pop("pairs")
    with pytest.raises(CertificateError):
        lipcert.check(parse_any(json.dumps(data), "r"), model)


def test_boxes_are_of_the_nodes_that_stay() -> None:
    _, problem = posed("softmax in the middle", "linf")
    by = Arithmetic()
    pairs = paired(problem, by)
    assert paired(problem, by).graph is pairs.graph
    found = boxes_of(pairs, whole_net(pairs, by), by)
    assert len(found) == len(pairs.graph.nodes)
