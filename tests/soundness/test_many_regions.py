"""Boxes over many regions at a time: no solution leaves its row's, each row holds by itself, and tampering is seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

import lipcert
from lipcert.certificate import BoxClaim, Claim, verify, verify_box, verify_boxes
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.boxes import propagate, propagate_many
from lipcert.certificate.claim import AbsoluteChain
from lipcert.errors import NotProvedError, UsageError
from lipcert.methods.implicit import with_equilibria, with_many_equilibria
from lipcert.planning import reach_many
from lipcert.planning.reach_many import solve_reach_many
from lipcert.problem import Ball, Balls, Box, Boxes, Problem, Query, Region, pose, together
from tests.helpers.classifiers import SIZES, random_classifier
from tests.helpers.equilibria import Network
from tests.helpers.sampling import random_points
from tests.soundness.test_implicit import KINDS, assert_inside, network, seeded

ROWS = 5
REGIONS = ("linf ball", "l2 ball", "box")


def regions_of(rng: np.random.Generator, kind: str, rows: int = ROWS) -> list[Region]:
    eps = float(10 ** rng.uniform(-2, -0.5))
    centers = rng.normal(size=(rows, 2))
    if kind == "box":
        return [Box(center, center + eps * rng.random(2)) for center in centers]
    return [Ball(center, eps, {"linf ball": math.inf, "l2 ball": 2.0}[kind]) for center in centers]


def over(problem: Problem, region: Region) -> Problem:
    return replace(problem, query=replace(problem.query, region=region))


def explicit(rng: np.random.Generator) -> Network:
    net = network("inside", rng)
    return replace(net, stages=tuple(replace(stage, a=None) for stage in net.stages))


def assert_each_holds(net: Network, problem: Problem, regions: Sequence[Region], claims: Sequence[BoxClaim]) -> None:
    rng = np.random.default_rng(7)
    for region, claim in zip(regions, claims, strict=True):
        y = net.run(random_points(region, 2, rng, 300))[0]
        assert_inside(y[~np.isnan(y[:, 0])], (claim.lower, claim.upper))
        verify_box(over(problem, region), claim)  # as `check` does


@pytest.mark.parametrize("timeout", [0.0, 30.0])
@pytest.mark.parametrize("kind", [*KINDS, "explicit"])
def test_no_solution_leaves_the_box_of_its_row(kind: str, timeout: float) -> None:
    rng = seeded(kind, 3)
    net = explicit(rng) if kind == "explicit" else network(kind, rng)
    regions = regions_of(rng, REGIONS[len(kind) % 3])
    problem = pose(net.graph(), Query(region=regions[0]))
    seen: list[int] = []
    found = solve_reach_many(problem, regions, timeout=timeout, on_row=seen.append)
    assert seen == list(range(1, ROWS + 1) if timeout else [])
    finite = [claim for claim in found.claims if np.all(np.isfinite(claim.upper))]
    assert len(finite) == ROWS
    if timeout:
        assert any(claim.linear for claim in finite)
    assert_each_holds(net, problem, regions, found.claims)


@pytest.mark.parametrize("kind", REGIONS)
def test_explicit_networks_have_the_boxes_of_one_region_at_a_time(kind: str) -> None:
    rng = seeded(kind, 4)
    net = explicit(rng)
    regions = regions_of(rng, kind)
    problem = pose(net.graph(), Query(region=regions[0]))
    many = propagate_many(over(problem, together(regions)), Arithmetic())
    for k, region in enumerate(regions):
        one = propagate(over(problem, region), Arithmetic())
        for i in range(len(one)):
            for side, single in zip(many[i], one[i], strict=True):
                np.testing.assert_allclose(side[k], single, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["relu, linf", "leaky up, linf", "tanh, linf", "relu, l2", "clip, l2"])
def test_quick_boxes_are_those_of_many_regions_and_not_the_fallback(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = seeded(kind, 5)
    regions = regions_of(rng, "linf ball", 40)
    problem = pose(network(kind, rng).graph(), Query(region=regions[0]))
    monkeypatch.setattr(reach_many, "_alone", None)
    monkeypatch.setattr(reach_many, "ENTRIES", 60)  # several chunks
    found = solve_reach_many(problem, regions, timeout=0.0)
    assert len(found.claims) == 40
    for claim, region in list(zip(found.claims, regions, strict=True))[::10]:
        alone = with_equilibria(over(problem, region), Arithmetic())
        low, high = propagate(alone, Arithmetic())[problem.y]
        assert np.all(low >= claim.lower - 1e-9)
        assert np.all(high <= claim.upper + 1e-9)


def test_a_row_without_a_box_does_not_spoil_the_others() -> None:
    """A fixed point that is not well-posed has none; the whole claim says so, row by row."""
    rng = seeded("relu, linf", 6)
    net = network("relu, linf", rng)
    (stage,) = net.stages
    assert stage.a is not None
    ill = replace(net, stages=(replace(stage, a=3.0 * np.eye(len(stage.bias))),))
    regions = regions_of(rng, "box")
    problem = pose(ill.graph(), Query(region=regions[0]))
    for timeout in (0.0, 5.0):
        found = solve_reach_many(problem, regions, timeout=timeout)
        assert all(np.all(np.isinf(claim.lower)) and np.all(np.isinf(claim.upper)) for claim in found.claims)
        verify_box(problem, found.claims[0])


@pytest.fixture(params=["relu, linf", "relu, l2"])
def claimed(request: pytest.FixtureRequest) -> tuple[Problem, BoxClaim]:
    rng = seeded(request.param, 8)
    regions = regions_of(rng, "linf ball")
    one = pose(network(request.param, rng).graph(), Query(region=regions[0]))
    problem = with_many_equilibria(over(one, together(regions)), Arithmetic())
    low, high = propagate_many(problem, Arithmetic())[problem.y]
    return replace(problem, equilibria=()), BoxClaim(low, high, False, equilibria=problem.equilibria)


def test_what_is_tampered_with_is_refused(claimed: tuple[Problem, BoxClaim]) -> None:
    problem, claim = claimed
    verify_boxes(problem, claim)
    (found,) = claim.equilibria
    row = np.zeros((ROWS, 1))
    row[3] = 1.0
    width = found.upper - found.lower
    tampered = [
        replace(claim, lower=claim.lower + 1e-6 * row),
        replace(claim, upper=claim.upper - 1e-6 * row),
        replace(claim, lower=claim.lower[:2], upper=claim.upper[:2]),
        replace(claim, linear=True),
        replace(claim, equilibria=()),
        replace(claim, equilibria=(replace(found, lower=found.lower + 0.6 * width * row),)),
        replace(claim, equilibria=(replace(found, upper=found.upper - 0.6 * width * row),)),
        replace(claim, equilibria=(replace(found, lower=found.lower[3], upper=found.upper[3]),)),
        replace(claim, equilibria=(replace(found, lower=found.lower[::-1], upper=found.upper[::-1]),)),
        replace(claim, equilibria=(replace(found, lower=found.lower + np.nan * row),)),
    ]
    for changed in tampered:
        with pytest.raises(NotProvedError):
            verify_boxes(problem, changed)


@pytest.mark.parametrize("kind", REGIONS)
@pytest.mark.parametrize("linear", [False, True])
def test_what_speaks_of_one_region_is_not_proven_of_many(kind: str, linear: bool) -> None:
    """A constant or a box by linear bounds would be that of the first row."""
    rng = np.random.default_rng(2)
    centers = rng.normal(size=(ROWS, SIZES[0]))
    many = Boxes(centers, centers + 0.1) if kind == "box" else Balls(centers, 0.1, math.inf if "inf" in kind else 2.0)
    problem = over(pose(random_classifier(rng, 2.0).graph, Query()), many)
    endless = np.full(problem.size_out, np.inf)
    with pytest.raises(NotProvedError, match="many regions"):
        verify_box(problem, BoxClaim(-endless, endless, linear))
    with pytest.raises(NotProvedError, match="many regions"):
        verify(problem, Claim(1e9, AbsoluteChain(False), linear=linear))


def test_the_interface_takes_one_region() -> None:
    region = together(regions_of(np.random.default_rng(3), "box"))
    for ask in (lipcert.bound, lipcert.reach):
        with pytest.raises(UsageError, match="many at a time"):
            ask("models/digits_relu.onnx", region=region)


def test_another_rows_region_is_no_excuse(claimed: tuple[Problem, BoxClaim]) -> None:
    """Boxes that are all moved as the centers are hold there, and not here."""
    problem, claim = claimed
    region = problem.query.region
    assert isinstance(region, Ball)
    moved = over(problem, replace(region, center=region.center + 5.0))
    with pytest.raises(NotProvedError):
        verify_boxes(moved, claim)


@pytest.mark.parametrize("kind", ["relu, linf", "tanh, linf", "leaky up, linf", "leaky down, linf", "two", "relu, l2"])
def test_boxes_searched_for_by_torch_are_those_of_the_cpu(kind: str) -> None:
    """On a device, for which the CPU stands here; what may decrease, and what does not contract, is left to numpy."""
    torch = pytest.importorskip("torch")
    rng = seeded(kind, 9)
    regions = regions_of(rng, "linf ball", 20)
    problem = pose(network(kind, rng).graph(), Query(region=regions[0]))
    problem = over(problem, together(regions))
    found = with_many_equilibria(problem, Arithmetic(), torch.device("cpu")).equilibria
    plain = with_many_equilibria(problem, Arithmetic()).equilibria
    for one, other in zip(found, plain, strict=True):
        width = other.upper - other.lower
        assert np.all(np.abs(one.lower - other.lower) <= 0.02 * width + 1e-9)
        assert np.all(np.abs(one.upper - other.upper) <= 0.02 * width + 1e-9)
    endless = np.full((20, 2), np.inf)
    verify_boxes(problem, BoxClaim(-endless, endless, False, equilibria=found))


def test_a_device_is_asked_for_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no GPU, the CPU by its name of torch; more rows are searched for at a time than are verified."""
    torch = pytest.importorskip("torch")
    rng = seeded("relu, linf", 9)
    net = network("relu, linf", rng)
    regions = regions_of(rng, "linf ball", 40)
    problem = pose(net.graph(), Query(region=regions[0]))
    asked: list[str] = []

    def chosen(name: str) -> object:
        asked.append(name)
        return torch.device("cpu")

    monkeypatch.setattr(reach_many, "choose_device", chosen)
    monkeypatch.setattr(reach_many, "ENTRIES", 60)
    monkeypatch.setattr(reach_many, "_alone", None)
    found = solve_reach_many(problem, regions, timeout=0.0, device="cuda")
    assert asked == ["cuda"]
    assert_each_holds(net, problem, regions, found.claims)
