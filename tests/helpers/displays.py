"""Small reports of every kind, to be shown."""

from __future__ import annotations

import copy
import math
from functools import cache

import numpy as np

from lipcert.api import certify
from lipcert.frontend import Model
from lipcert.graph import Input
from lipcert.planning.monotone import solve_monotone
from lipcert.planning.reach import solve_reach
from lipcert.problem import Ball, Box, Query, pose
from lipcert.report.monotone import MonotoneReport, build_monotone
from lipcert.report.reach import ReachReport, build_reach
from lipcert.report.reading import AnyReport
from lipcert.report.report import Report
from lipcert.report.robustness import RobustnessReport
from tests.helpers.reports import RULES, make_case, model_of

BALL = Ball(np.array([0.1, 0.2, 0.3, 0.4]), 0.25, math.inf)


@cache
def small_model() -> Model:
    """Four inputs, as an image of two by two; three outputs."""
    graph, _ = RULES["spectral"]()
    nodes = (Input("image", (1, 1, 2, 2)), *graph.nodes[1:])
    return model_of(type(graph)(nodes, graph.outputs), "small")


@cache
def bound_report() -> Report:
    _, evidence = RULES["spectral"]()
    return make_case("bound", small_model(), Query(region=BALL), evidence).report


@cache
def reach_report() -> ReachReport:
    model, query = small_model(), Query(region=BALL)
    return build_reach(model, query, solve_reach(pose(model.graph, query), timeout=5))


@cache
def monotone_report() -> MonotoneReport:
    """With a counterexample."""
    model, query = small_model(), Query(region=Box(-np.ones(4), np.ones(4)))
    problem = pose(model.graph, query)
    found = [
        build_monotone(model, query, solve_monotone(problem, (0,), increasing, tolerance=0.0, timeout=2))
        for increasing in (True, False)
    ]
    return next(report for report in found if report.status == "refuted")


@cache
def robustness_report() -> RobustnessReport:
    """Of four samples, one with another label than its class."""
    points = np.random.default_rng(0).normal(size=(4, 4))
    model = small_model()
    classes = pose(model.graph, Query()).values(points)[-1].argmax(axis=1)
    return certify(model, points, (classes + (np.arange(4) == 1)) % 3, eps=[0.01, 10.0], timeout=2)


def all_reports() -> list[AnyReport]:
    return [bound_report(), reach_report(), monotone_report(), robustness_report()]


HOSTILE = "<script>window.owned = 1</script>\"'><img src=x onerror=window.owned=1>\u202e{{ 7 * 7 }}"
"""Text that wants to be more than text."""


def hostile_report() -> Report:
    """One that says so wherever its schema allows text."""
    data = copy.deepcopy(bound_report().data)
    data["model"] |= {"path": HOSTILE, "notes": [HOSTILE], "external_data": {HOSTILE: "0" * 64}}
    data["model"]["inputs"][0]["name"] = data["model"]["outputs"][0]["name"] = HOSTILE
    data["query"]["region"]["description"] = data["result"]["claim"] = data["result"]["method"] = HOSTILE
    data["tool"]["version"] = data["environment"]["python"] = data["environment"][HOSTILE] = HOSTILE
    data["attempts"] = [
        {"method": HOSTILE, "status": "certified", "upper": 2.0, "seconds": 1.0, "reason": HOSTILE},
        {"method": HOSTILE, "status": "skipped", "upper": None, "seconds": 1.0, "reason": HOSTILE},
    ]
    return Report(data)
