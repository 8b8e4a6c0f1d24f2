"""`lipcert.reach` in Python: the box holds what is sampled, what is attained is reached, and the report says so."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lipcert
from lipcert import api
from lipcert.activations import Exp
from lipcert.arithmetic.enclosure import exact
from lipcert.certificate.encoding import decode_array
from lipcert.errors import UsageError
from lipcert.frontend import Model
from lipcert.graph import Affine, Elementwise, Graph, Input, Output, evaluate
from lipcert.operators import Dense
from lipcert.planning.reach import solve_reach
from lipcert.problem import Ball, Box, Everywhere, Margin, Problem, Query, Region, SomeOutputs, pose
from lipcert.report.reach import REACH_SCHEMA, ReachReport, build_reach
from lipcert.report.reading import parse_any
from tests.helpers.graphs import random_graph
from tests.helpers.onnx_models import session
from tests.helpers.paths import EXPLICIT, IMPLICIT, MODELS
from tests.helpers.reports import model_of
from tests.helpers.sampling import random_points, realise, values

ROUNDING = 1e-10
"""Of sampled values in float64, relative to the largest value in the network."""

FLOAT32 = 1e-4
"""Of onnxruntime, relative to the largest output."""

NETWORKS = [path.name for path in EXPLICIT]

KINDS = ("1", "2", "inf", "box", "point", "flat box")


@pytest.fixture(scope="module")
def relu() -> Model:
    return lipcert.load(MODELS / "digits_relu.onnx")


@pytest.fixture(scope="module")
def honest(relu: Model) -> ReachReport:
    return lipcert.reach(relu, center=np.zeros(64), eps=0.05)


def region_of(kind: str, rng: np.random.Generator, n: int, size: float = 0.5) -> Region:
    """A region of a kind, somewhere."""
    center, widths = rng.standard_normal(n), size * rng.random(n)
    if kind == "box":
        return Box(center - widths, center + widths)
    if kind == "flat box":
        return Box(center, center + np.where(np.arange(n) % 2, widths, 0))
    return Ball(center, 0.0 if kind == "point" else size, math.inf if kind == "point" else float(kind))


def outputs_at(problem: Problem, points: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """The outputs of one of the networks that a graph stands for, and how large its rounding may be."""
    graph = realise(problem.graph, rng, np.float64)
    with np.errstate(all="ignore"):
        at = values(graph, {graph.nodes[problem.x].name: points})
    largest = max(float(np.abs(v).max(initial=0)) for v in at)
    return np.broadcast_to(at[problem.y], (len(points), problem.size_out)), ROUNDING * (1 + largest)


def faults(problem: Problem, report: ReachReport, rng: np.random.Generator, count: int = 1500) -> list[str]:
    """What a report says that is not so."""
    found = []
    points = random_points(problem.query.region, problem.size_in, rng, count)
    for _ in range(2):
        seen, rounding = outputs_at(problem, points, rng)
        if np.any(seen < report.lower - rounding) or np.any(seen > report.upper + rounding):
            found.append("a sampled output is outside the box")
    if report.attained is None:
        return found
    low, high = report.attained
    extremes = report.data["attained"]
    for field, claimed, sign in (("lowest", low, 1), ("highest", high, -1)):
        at = decode_array(extremes[field], field)
        if not all(problem.query.region.contains(point) for point in at):
            found.append(f"{field}: a point is outside the region")
        seen, rounding = outputs_at(problem, at, rng)
        if np.any(sign * np.diag(seen) > sign * claimed + rounding):
            found.append(f"{field}: the stored point does not attain what is claimed")
    if np.any(low < report.lower) or np.any(high > report.upper):
        found.append("attained values leave the box")
    return found


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_box_of_a_sample_network_holds_its_outputs(name: str) -> None:
    """Points and corners of a region, of a kind each; the attained values are reached where it says."""
    rng = np.random.default_rng(NETWORKS.index(name))
    kind = KINDS[NETWORKS.index(name) % len(KINDS)]
    model = lipcert.load(MODELS / name)
    region = region_of(kind, rng, math.prod(model.inputs[0].shape), size=0.05)
    report = lipcert.reach(model, region=region)
    assert report.status == "certified"
    assert report.attained is not None
    assert not faults(pose(model.graph, Query(region=region)), report, rng, count=600)


@pytest.mark.parametrize("kind", KINDS)
def test_the_box_of_an_implicit_network_holds_its_outputs(kind: str) -> None:
    rng = np.random.default_rng(KINDS.index(kind))
    model = lipcert.load(IMPLICIT)
    region = region_of(kind, rng, 64, size=0.05)
    report = lipcert.reach(model, region=region)
    assert report.status == "certified"
    points = random_points(region, 64, rng, 400)
    seen = evaluate(model.graph, {"image": points})[model.graph.outputs[0].node]
    assert np.all((report.lower - 1e-9 <= seen) & (seen <= report.upper + 1e-9))


@pytest.mark.one_in(2)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("local", [False, True])
def test_the_box_of_a_random_graph_holds_its_outputs(kind: str, local: bool) -> None:
    """Over everything that the IR can hold, and products that are Lipschitz on bounded regions only."""
    for seed in range(2):
        rng = np.random.default_rng([seed, local, KINDS.index(kind)])
        graph = random_graph(rng, local=local, depth=5)
        query = Query(region=region_of(kind, rng, graph.size(graph.inputs["in0"])))
        problem = pose(graph, query)
        report = build_reach(model_of(graph, "random"), query, solve_reach(problem))
        assert not faults(problem, report, rng), seed


@pytest.mark.parametrize("name", ["digits_relu.onnx", "digits_maxmin.onnx"])
def test_the_box_holds_what_onnxruntime_computes(name: str) -> None:
    rng, run = np.random.default_rng(0), session(str(MODELS / name))
    entry = run.get_inputs()[0]
    shape = [1, *entry.shape[1:]]
    region = Ball(rng.random(64), 0.1, math.inf)
    report = lipcert.reach(MODELS / name, region=region)
    points = random_points(region, 64, rng, 500)
    seen = np.array([run.run(None, {entry.name: p.reshape(shape).astype(np.float32)})[0].reshape(-1) for p in points])
    room = FLOAT32 * np.abs(seen).max()
    assert np.all((report.lower - room <= seen) & (seen <= report.upper + room))


def test_a_point_gives_a_box_of_rounding_width(relu: Model) -> None:
    center = np.random.default_rng(0).standard_normal(64)
    report = lipcert.reach(relu, center=center, eps=0)
    assert np.all(report.upper - report.lower < 1e-9)


def test_what_is_attained_explains_a_good_part_of_a_small_box(relu: Model) -> None:
    """In every norm: points near the border of the region are not lost to rounding."""
    for ball, part in ((1, 0.2), (2, 0.2), (math.inf, 0.5)):
        report = lipcert.reach(relu, center=np.full(64, 0.3), eps=0.01, ball=ball)
        assert report.attained is not None
        assert np.all((report.attained[1] - report.attained[0]) > part * (report.upper - report.lower))


def test_a_smaller_region_has_a_smaller_box(relu: Model) -> None:
    wide, narrow = (lipcert.reach(relu, center=np.zeros(64), eps=eps) for eps in (0.1, 0.05))
    assert np.all((wide.lower < narrow.lower) & (narrow.upper < wide.upper))


def test_chosen_outputs_and_margins(relu: Model) -> None:
    """Some outputs are those of all; a margin is a difference, and no wider than the difference of the boxes."""
    rng, center = np.random.default_rng(0), np.zeros(64)
    region = Ball(center, 0.1, math.inf)
    every = lipcert.reach(relu, center=center, eps=0.1)
    some = lipcert.reach(relu, region=region, outputs=[7, 2])
    assert some.lower.tolist() == pytest.approx(every.lower[[7, 2]].tolist())
    single = lipcert.reach(relu, region=region, outputs=7)
    assert single.upper.tolist() == pytest.approx(every.upper[[7]].tolist())
    margin = lipcert.reach(relu, region=region, outputs=Margin(7, 2))
    assert margin.lower.shape == (1,)
    assert margin.upper[0] <= (every.upper[7] - every.lower[2]) * (1 + 1e-9)
    for report, outputs in ((some, SomeOutputs((7, 2))), (margin, Margin(7, 2))):
        assert not faults(pose(relu.graph, Query(region=region, outputs=outputs)), report, rng)


@pytest.mark.parametrize("name", ["acasxu_1_1", "acasxu_3_3"])
def test_acas_xu_over_its_specifications(name: str, test_data: Path) -> None:
    from lipcert.problem.reading import read_vnnlib

    model = lipcert.load(test_data / "models" / f"{name}.onnx")
    for prop in ("prop_1", "prop_3"):
        region = read_vnnlib(str(test_data / "models" / f"{prop}.vnnlib"), 5)
        report = lipcert.reach(model, region=region)
        assert not faults(pose(model.graph, Query(region=region)), report, np.random.default_rng(0))


class Tensorlike:
    """What of a torch tensor is read."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def detach(self) -> Tensorlike:
        return self

    def cpu(self) -> Tensorlike:
        return self

    def numpy(self) -> np.ndarray:
        return self.array


def test_a_center_may_be_anything_like_an_array(relu: Model, honest: ReachReport) -> None:
    """A path or a model; numpy in any shape and type, lists, one number, tensors, a Ball."""
    for center in (np.zeros((1, 64), np.float32), [0] * 64, 0, 0.0, Tensorlike(np.zeros((1, 8, 8)))):
        report = lipcert.reach(relu, center=center, eps=0.05)
        assert report.lower.tolist() == honest.lower.tolist()
    ball = lipcert.reach(str(MODELS / "digits_relu.onnx"), region=Ball(np.zeros(64), 0.05, math.inf))
    assert ball.upper.tolist() == honest.upper.tolist()


def test_a_torch_tensor(relu: Model, honest: ReachReport) -> None:
    torch = pytest.importorskip("torch")
    report = lipcert.reach(relu, center=torch.zeros(1, 64, requires_grad=True), eps=0.05)
    assert report.upper.tolist() == honest.upper.tolist()


def test_the_properties_of_a_report(honest: ReachReport) -> None:
    assert honest.status == "certified"
    assert honest.lower.shape == honest.upper.shape == (10,)
    assert honest.lower.dtype == np.float64
    assert honest.data["schema"] == REACH_SCHEMA
    assert honest.data["result"]["lower"] == honest.lower.tolist()
    assert honest.data["result"]["boxes"] == "linear bounds"
    assert honest.data["certificate"]["linear"] is True
    assert repr(honest).startswith("ReachReport(status='certified', lower=[")


def test_a_report_survives_json(honest: ReachReport, relu: Model, tmp_path: Path) -> None:
    """As text, and in a file that `read_report` and `check` take."""
    text = honest.to_json()
    again = parse_any(text, "text")
    assert isinstance(again, ReachReport)
    assert again.data == json.loads(text) == honest.data
    (tmp_path / "r.json").write_text(text)
    assert isinstance(api.read_report(tmp_path / "r.json"), ReachReport)
    for report in (honest, tmp_path / "r.json"):
        for strict in (False, True):
            checked = lipcert.check(report, relu, strict=strict)
            assert np.all((honest.lower <= checked.lower) & (checked.upper <= honest.upper))


def test_a_bound_report_is_read_as_one(relu: Model) -> None:
    bound = lipcert.bound(relu, norm=math.inf)
    assert type(parse_any(bound.to_json(), "text")) is type(bound)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"region": Everywhere()},
        {"center": np.zeros(64)},
        {"eps": 0.1},
        {"center": np.zeros(63), "eps": 0.1},
        {"center": np.full(64, np.nan), "eps": 0.1},
        {"center": np.zeros(64), "eps": math.nan},
        {"center": np.zeros(64), "eps": -0.1},
        {"center": np.zeros(64), "eps": 0.1, "ball": 3},
        {"center": np.zeros(64), "eps": 0.1, "outputs": []},
        {"center": np.zeros(64), "eps": 0.1, "outputs": 10},
        {"center": np.zeros(64), "eps": 0.1, "inputs": ["nothing"]},
        {"center": np.zeros(64), "eps": 0.1, "output": "nothing"},
        {"center": np.zeros(64), "eps": 0.1, "region": Box(np.zeros(64), np.ones(64))},
        {"region": Box(np.zeros(63), np.ones(63))},
    ],
)
def test_wrong_options_are_refused_in_one_line(relu: Model, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as refused:
        lipcert.reach(relu, **options)
    assert "\n" not in str(refused.value)


def test_no_time_gives_a_valid_box_by_intervals(relu: Model, honest: ReachReport) -> None:
    report = lipcert.reach(relu, center=np.zeros(64), eps=0.05, timeout=0)
    assert report.data["result"]["boxes"] == "intervals"
    assert np.all((report.lower <= honest.lower) & (honest.upper <= report.upper))
    lipcert.check(report, relu)


def overflowing() -> Model:
    """exp of 1000 x, whose values are infinite in float64."""
    x = Input("x", (1, 2))
    slope = Affine((0,), (Dense(np.eye(2)),), exact(np.zeros(2)), (1, 2))
    return model_of(Graph((x, slope, Elementwise(1, Exp(), (1, 2))), (Output("y", 2),)), "exp")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_unbounded_output_is_null() -> None:
    """In the numbers that a person reads; the arrays are infinite."""
    report = lipcert.reach(overflowing(), center=0, eps=1000)
    assert report.status == "certified"  # one end is finite
    assert report.data["result"]["upper"] == [None, None]
    assert np.all((report.lower <= 0) & np.isfinite(report.lower))
    assert np.all(report.upper == math.inf)
    json.loads(report.to_json(), parse_constant=pytest.fail)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_attained_values_are_numbers() -> None:
    attained = lipcert.reach(overflowing(), center=0, eps=1000).attained
    assert attained is None or np.all(np.isfinite(attained))


def test_at_a_point_one_value_is_attained(relu: Model) -> None:
    """Up to rounding, which each end is proven with: the lowest one is rounded up."""
    attained = lipcert.reach(relu, center=0, eps=0).attained
    assert attained is not None
    np.testing.assert_allclose(*attained, rtol=1e-11)


def test_read_report_is_part_of_the_api() -> None:
    assert "read_report" in lipcert.__all__
