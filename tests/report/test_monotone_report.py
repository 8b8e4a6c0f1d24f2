"""`lipcert.monotone` in Python: what is certified is sampled nowhere else, and counterexamples are ones."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import lipcert
from lipcert import api
from lipcert.activations import Activation, LeakyRelu, Relu, Sigmoid, Tanh
from lipcert.arithmetic.enclosure import exact
from lipcert.certificate.encoding import decode_array
from lipcert.errors import UnsupportedModelError, UsageError
from lipcert.frontend import Model
from lipcert.graph import Affine, Elementwise, Graph, Input, Node, Output
from lipcert.operators import Dense
from lipcert.planning.monotone import solve_monotone
from lipcert.problem import Ball, Box, Everywhere, Margin, Problem, Query, Region, SomeOutputs, pose
from lipcert.report.monotone import MONOTONE_SCHEMA, MonotoneReport, build_monotone
from lipcert.report.reading import parse_any
from tests.helpers.graphs import random_graph
from tests.helpers.reports import model_of
from tests.helpers.sampling import jacobians, random_points, realise, values

ROUNDING = 1e-9
"""Of sampled derivatives, relative to the largest."""

ACTIVATIONS = (LeakyRelu(0.1), Tanh(), Sigmoid(), Relu())


def dense(rng: np.random.Generator, sizes: tuple[int, ...], activation: Activation, signed: bool) -> Graph:
    """Layers with random weights, of one sign unless `signed`."""
    nodes: list[Node] = [Input("x", (sizes[0],))]
    for k, (n, m) in enumerate(itertools.pairwise(sizes)):
        if k:
            nodes.append(Elementwise(len(nodes) - 1, activation, (n,)))
        weights = rng.standard_normal((m, n)) / math.sqrt(n)
        operator = Dense(weights if signed else np.abs(weights))
        nodes.append(Affine((len(nodes) - 1,), (operator,), exact(0.3 * rng.standard_normal(m)), (m,)))
    return Graph(tuple(nodes), (Output("y", len(nodes) - 1),))


def report_of(graph: Graph, region: Region, chosen: list[int], **options: Any) -> tuple[Problem, Model, MonotoneReport]:
    """A run, its problem, and the model for a check."""
    model, query = model_of(graph, "network"), Query(region=region)
    problem = pose(graph, query)
    outcome = solve_monotone(problem, tuple(chosen), options.pop("increasing", True), **options)
    return problem, model, build_monotone(model, query, outcome)


def derivatives(problem: Problem, points: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """The Jacobians at points of one of the networks that the graph stands for, and how far off they may be."""
    graph = realise(problem.graph, rng, np.float64)
    found, errors = jacobians(replace(problem, graph=graph), {graph.nodes[problem.x].name: points})
    return found, float(np.max(errors, initial=0.0)) + ROUNDING * (1 + float(np.abs(found).max(initial=0.0)))


def slope_nearby(problem: Problem, point: np.ndarray, output: int, entry: int, rng: np.random.Generator) -> float:
    """A difference quotient around a point, of one of the networks that the graph stands for."""
    graph, step = realise(problem.graph, rng, np.float64), 1e-6
    x = np.tile(point, (2, 1))
    x[0, entry] += step
    x[1, entry] -= step
    at = values(graph, {graph.nodes[problem.x].name: x})[problem.y]
    return float((at[0, output] - at[1, output]) / (2 * step))


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: type(a).__name__)
@pytest.mark.parametrize("inputs", [3, 20])
def test_weights_of_one_sign_are_certified_everywhere(activation: Activation, inputs: int) -> None:
    """In every input, without a tolerance, at once; and as decreasing they are refuted."""
    for seed in range(3):
        graph = dense(np.random.default_rng([seed, inputs]), (inputs, 8, 6, 2), activation, signed=False)
        region, chosen = Box(np.full(inputs, -1.0), np.full(inputs, 1.0)), list(range(inputs))
        _, model, report = report_of(graph, region, chosen, timeout=1)
        assert (report.status, report.share) == ("certified", 1.0), seed
        assert lipcert.check(report, model).share == 1.0  # type: ignore[union-attr]
        assert report_of(graph, region, chosen, increasing=False, timeout=0.5)[2].status == "refuted"


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: type(a).__name__)
def test_a_tolerance_of_a_rounding_certifies_them_too(activation: Activation) -> None:
    for seed in range(3):
        graph = dense(np.random.default_rng(seed), (4, 8, 6, 2), activation, signed=False)
        report = report_of(graph, Ball(np.zeros(4), 1.0, 2.0), [0, 3], tolerance=1e-12, timeout=5)[2]
        assert report.status == "certified", seed


@pytest.mark.one_in(3)
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: type(a).__name__)
@pytest.mark.parametrize("kind", ["box", "2"])
def test_signs_that_are_sampled_agree_with_what_is_reported(activation: Activation, kind: str) -> None:
    """All of them where it is certified, and no smaller a part than is certified of a box."""
    statuses = []
    for seed in range(4):
        rng = np.random.default_rng([seed, ACTIVATIONS.index(activation), len(kind)])
        graph = dense(rng, (2, 5, 4, 2), activation, signed=True)
        region = Box(np.full(2, -1.0), np.full(2, 1.0)) if kind == "box" else Ball(np.zeros(2), 0.6, 2.0)
        increasing = bool(seed % 2)
        for tolerance in (0.0, 0.5, 2.0):
            options = {"tolerance": tolerance, "increasing": increasing, "timeout": 0.4}
            problem, model, report = report_of(graph, region, [seed % 2], **options)
            assert not faults(problem, report, rng), (seed, tolerance)
            lipcert.check(report, model)
            statuses.append(report.status)
    assert {"certified", "refuted"} <= set(statuses)


def faults(problem: Problem, report: MonotoneReport, rng: np.random.Generator) -> list[str]:
    """What a report says that is not so."""
    result, found = report.data["result"], []
    sign = 1.0 if result["increasing"] else -1.0
    points = random_points(problem.query.region, problem.size_in, rng, 1500)
    slopes, rounding = derivatives(problem, points, rng)
    right = np.all(sign * slopes[:, :, result["inputs"]] >= -result["tolerance"] - rounding, axis=(1, 2))
    if report.share == 1 and not right.all():
        found.append("certified, and a sampled derivative has the wrong sign")
    if isinstance(problem.query.region, Box):
        low, high = problem.query.region.bounds(problem.size_in)
        inside, rounding = derivatives(problem, rng.uniform(low, high, (2000, problem.size_in)), rng)
        share = np.mean(np.all(sign * inside[:, :, result["inputs"]] >= -result["tolerance"] - rounding, axis=(1, 2)))
        if share < report.share - 0.06:  # five standard deviations
            found.append(f"a share of {report.share} is certified, about {share} is true")
    shown = report.data["counterexample"]
    if (shown is not None) != (report.status == "refuted"):
        found.append("a counterexample, and no refutation, or the other way round")
    if shown is not None:
        point = decode_array(shown["point"], "point")
        if not problem.query.region.contains(point) or shown["input"] not in result["inputs"]:
            found.append("the counterexample is outside the region, or of another input")
        slope, claimed = slope_nearby(problem, point, shown["output"], shown["input"], rng), result["derivative"]
        if not (sign * slope <= claimed + 1e-5 * (1 + abs(slope)) and claimed < -result["tolerance"]):
            found.append(f"the derivative at the counterexample is {slope}, {claimed} is claimed")
    return found


@pytest.mark.parametrize("local", [False, True])
def test_random_graphs(local: bool) -> None:
    """Over everything that the IR can hold: groups, products, residual paths, radii of weights."""
    statuses = []
    for seed in range(6):
        rng = np.random.default_rng([seed, local, 7])
        graph = random_graph(rng, local=local, depth=4, width=4)
        n = graph.size(graph.inputs["in0"])
        center = rng.standard_normal(n)
        options = {"tolerance": [0.0, 0.3, 3.0][seed % 3], "increasing": bool(seed % 2), "timeout": 0.4}
        try:
            problem, model, report = report_of(graph, Box(center - 0.3, center + 0.3), [seed % n], **options)
        except UnsupportedModelError:
            continue
        assert not faults(problem, report, rng), seed
        lipcert.check(report, model)
        statuses.append(report.status)
    assert len(statuses) > 3
    assert "certified" in statuses


def test_the_share_of_a_half_is_about_a_half() -> None:
    """|x|, on both sides of zero, in one of two inputs."""
    nodes = (
        Input("x", (2,)),
        Affine((0,), (Dense(np.array([[1.0, 0.0], [-1.0, 0.0]])),), exact(np.zeros(2)), (2,)),
        Elementwise(1, Relu(), (2,)),
        Affine((2,), (Dense(np.ones((1, 2))),), exact(np.zeros(1)), (1,)),
    )
    graph = Graph(nodes, (Output("y", 3),))
    for low, share in ((-1.0, 0.5), (-3.0, 0.25)):
        report = report_of(graph, Box(np.array([low, -1.0]), np.array([1.0, 1.0])), [0], timeout=2)[2]
        assert report.status == "refuted"
        assert share - 0.02 < report.share <= share
        assert report.data["result"]["derivative"] == pytest.approx(-1)
    assert report_of(graph, Box(np.array([0.1, -1.0]), np.ones(2)), [0])[2].status == "certified"


@pytest.fixture(scope="module")
def rising() -> Model:
    return model_of(dense(np.random.default_rng(0), (3, 6, 2), LeakyRelu(0.1), signed=False), "rising")


@pytest.fixture(scope="module")
def honest(rising: Model) -> MonotoneReport:
    return lipcert.monotone(rising, [0, 2], center=np.zeros(3), eps=0.5)


def test_the_properties_of_a_report(honest: MonotoneReport) -> None:
    assert (honest.status, honest.share) == ("certified", 1.0)
    assert honest.data["schema"] == MONOTONE_SCHEMA
    assert honest.data["result"]["inputs"] == [0, 2]
    assert honest.data["counterexample"] is None
    assert repr(honest) == "MonotoneReport(status='certified', share=1.0)"
    assert "monotone" in lipcert.__all__


def test_a_report_survives_json(honest: MonotoneReport, rising: Model, tmp_path: Any) -> None:
    """As text, and in a file that `read_report` and `check` take."""
    again = parse_any(honest.to_json(), "text")
    assert isinstance(again, MonotoneReport)
    assert again.data == json.loads(honest.to_json()) == honest.data
    (tmp_path / "m.json").write_text(honest.to_json())
    assert isinstance(api.read_report(tmp_path / "m.json"), MonotoneReport)
    for report in (honest, tmp_path / "m.json"):
        for strict in (False, True):
            checked = lipcert.check(report, rising, strict=strict)
            assert checked.share == 1  # type: ignore[union-attr]
            assert checked.arithmetic.startswith("balls" if strict else "float64")


def test_chosen_outputs_and_margins(rising: Model) -> None:
    region = Box(np.full(3, -1.0), np.ones(3))
    assert lipcert.monotone(rising, [0], region=region, outputs=1).status == "certified"
    way, back = (lipcert.monotone(rising, [0], region=region, outputs=Margin(*m), timeout=1) for m in ((0, 1), (1, 0)))
    assert "refuted" in (way.status, back.status)
    for report, outputs in ((way, Margin(0, 1)), (back, Margin(1, 0))):
        problem = pose(rising.graph, Query(region=region, outputs=outputs))
        assert not faults(problem, report, np.random.default_rng(0))
    some = lipcert.monotone(rising, [0], region=region, outputs=[1], increasing=False, timeout=0.5)
    assert some.data["counterexample"]["output"] == 0  # among the chosen ones
    assert not faults(
        pose(rising.graph, Query(region=region, outputs=SomeOutputs((1,)))), some, np.random.default_rng(0)
    )


def test_at_a_point(rising: Model) -> None:
    """A region of no width has a share, too: all of it."""
    report = lipcert.monotone(rising, [0], center=np.full(3, 0.3), eps=0)
    assert (report.status, report.share) == ("certified", 1.0)


@pytest.mark.parametrize(
    ("chosen", "options"),
    [
        ([], {}),
        ([3], {}),
        ([-1], {}),
        ([0], {"center": None, "eps": None}),
        ([0], {"center": None, "eps": None, "region": Everywhere()}),
        ([0], {"eps": None}),
        ([0], {"eps": -1.0}),
        ([0], {"center": np.zeros(2)}),
        ([0], {"outputs": 2}),
        ([0], {"outputs": []}),
        ([0], {"output": "nothing"}),
        ([0], {"ball": 3}),
        ([0], {"tolerance": -1.0, "timeout": 0.5}),
        ([0], {"tolerance": math.nan, "timeout": 0.5}),
        ([0], {"tolerance": math.inf, "timeout": 0.5}),
        ([0], {"timeout": -1.0}),
        ([0], {"timeout": math.nan}),
    ],
    ids=str,
)
def test_wrong_options_are_refused_in_one_line(rising: Model, chosen: list[int], options: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as refused:
        lipcert.monotone(rising, chosen, **{"center": np.zeros(3), "eps": 0.5, **options})
    assert "\n" not in str(refused.value)
