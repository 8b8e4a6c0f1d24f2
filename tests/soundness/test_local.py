"""Local bounds from end to end: what is attained is never above them, small networks of every kind, every norm."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import lipcert
from lipcert.errors import UnsupportedModelError
from lipcert.graph import Graph, evaluate
from lipcert.problem import Ball, Norm, Query, Region, pose
from lipcert.report import Report
from tests.certificate.test_linear_bounds import GRAPHS
from tests.helpers.graphs import ALL_FUNCTIONS, random_graph
from tests.helpers.inequalities import NETWORKS
from tests.helpers.paths import EXPLICIT, IMPLICIT
from tests.helpers.reports import model_of
from tests.helpers.sampling import NORM_PAIRS, jacobians, operator_norms, random_points, realise
from tests.soundness.test_bounds import one_layer, random_region

KINDS = ("linf ball", "l2 ball", "l1 ball", "box", "point")
MARGIN = 1 + 1e-9


def sampled(graph: Graph, region: Region, pair: tuple[Norm, Norm], rng: np.random.Generator, count: int) -> float:
    """The largest norm of a Jacobian at points of the region, of a network within the radii."""
    network = pose(realise(graph, rng), Query(region=region))
    (name,) = network.graph.inputs
    x = random_points(region, network.size_in, rng, count).astype(np.longdouble)
    found, errors = jacobians(network, {name: x})
    return float((operator_norms(found, *pair) - operator_norms(errors, *pair)).max(initial=0.0))


def bounded(graph: Graph, region: Region, pair: tuple[Norm, Norm], timeout: float) -> Report:
    return lipcert.bound(
        model_of(graph, "network"),
        norm_in=pair[0],
        norm_out=pair[1],
        region=region,
        method="local",
        exact=True,
        timeout=timeout,
        gap=1.1,
    )


def assert_sound(graph: Graph, region: Region, pair: tuple[Norm, Norm], rng: np.random.Generator) -> None:
    report = bounded(graph, region, pair, 0.7)
    assert report.upper is not None
    assert report.lower <= report.upper
    assert sampled(graph, region, pair, rng, 3000) <= report.upper * MARGIN
    assert lipcert.check(report, model_of(graph, "network")).upper <= report.upper


@pytest.mark.parametrize("name", {**NETWORKS, **GRAPHS})
def test_no_attained_value_exceeds_the_bound(name: str) -> None:
    rng = np.random.default_rng([*name.encode()])
    graph = {**NETWORKS, **GRAPHS}[name](rng)
    region = random_region(rng, KINDS[int(rng.integers(5))], graph.size(0))
    assert_sound(graph, region, NORM_PAIRS[int(rng.integers(9))], rng)


@pytest.mark.parametrize("name", ALL_FUNCTIONS)
def test_no_attained_value_exceeds_the_bound_of_a_group_function(name: str) -> None:
    rng = np.random.default_rng([*name.encode(), 1])
    graph = one_layer(rng, ALL_FUNCTIONS[name](rng, 2), 2)
    region = Ball(rng.normal(size=3), 0.1, (1.0, 2.0, math.inf)[int(rng.integers(3))])
    try:
        assert_sound(graph, region, NORM_PAIRS[int(rng.integers(9))], rng)
    except UnsupportedModelError:
        assert "over |x|" in name or "without" in name


@pytest.mark.parametrize("seed", range(16))
def test_no_attained_value_exceeds_the_bound_of_a_random_graph(seed: int) -> None:
    """Nodes of all kinds, weights within radii."""
    rng = np.random.default_rng([seed, 33])
    graph = random_graph(rng, depth=3 + seed % 4, width=4, local=seed % 2 == 0)
    region = random_region(rng, KINDS[seed % 5], graph.size(0))
    assert_sound(graph, region, NORM_PAIRS[int(rng.integers(9))], rng)


def test_branching_ends_at_what_is_attained() -> None:
    """Where rows are told apart by l-infinity, or there is one, the bound is exact in the end."""
    for seed, norm in enumerate((1.0, 2.0, math.inf)):
        rng = np.random.default_rng(seed)
        graph = NETWORKS["relu"](rng)
        report = bounded(graph, Ball(np.zeros(3), 0.2, norm), (norm, math.inf), 10.0)
        assert report.upper is not None
        assert report.upper <= 1.06 * report.lower


@pytest.mark.one_in(2)
@pytest.mark.parametrize("path", EXPLICIT, ids=lambda path: path.stem)
def test_no_attained_value_exceeds_the_bound_of_a_sample_network(path: Path) -> None:
    """At small balls; every pair of norms, one after another."""
    model = lipcert.load(path)
    rng = np.random.default_rng([*str(path).encode()])
    size = model.graph.size(next(iter(model.graph.inputs.values())))
    pair = NORM_PAIRS[EXPLICIT.index(path) % 9]
    region = Ball(rng.random(size), 0.003, pair[0])
    report = lipcert.bound(model, norm_in=pair[0], norm_out=pair[1], region=region, method="local", timeout=1.0)
    assert report.upper is not None
    assert report.lower <= report.upper
    assert sampled(model.graph, region, pair, rng, 20) <= report.upper * MARGIN


@pytest.mark.parametrize("pair", NORM_PAIRS[::4])
def test_no_attained_ratio_exceeds_the_bound_of_an_implicit_network(pair: tuple[Norm, Norm]) -> None:
    """Its fixed points at pairs of points."""
    model = lipcert.load(IMPLICIT)
    rng = np.random.default_rng(int(pair[1] != math.inf))
    region = Ball(rng.random(64), 0.003, pair[0])
    report = lipcert.bound(model, norm_in=pair[0], norm_out=pair[1], region=region, method="local", timeout=1.0)
    assert report.upper is not None
    assert report.lower <= report.upper
    points = random_points(region, 64, rng, 400)
    here, there = np.split(evaluate(model.graph, {"image": points})[model.graph.outputs[0].node], 2)
    moved = np.linalg.norm(points[:200] - points[200:], pair[0], axis=1)
    assert np.all(np.linalg.norm(here - there, pair[1], axis=1) <= report.upper * moved + 1e-8)
