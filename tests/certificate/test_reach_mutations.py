"""However a report of `lipcert reach` is edited, `check` refuses it in one line, or accepts what is true."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

import lipcert
from lipcert.certificate.encoding import decode_array, decode_query, encode_array
from lipcert.cli.main import run
from lipcert.errors import CertificateError
from lipcert.problem import Everywhere, pose
from lipcert.report import CheckResult
from lipcert.report.check import ReachCheck
from lipcert.report.reach import ReachReport
from lipcert.report.reading import parse_any
from lipcert.templates import parse_template
from tests.cli.test_template_option import BENT
from tests.helpers.mutations import mutations
from tests.helpers.onnx_models import model, random_weights, save
from tests.helpers.sampling import random_points, values

Data = dict[str, Any]
Edit = Callable[[Data], Any]

node = helper.make_node

EPS = 0.5

MOST = 300
"""Edits that are tried, at most."""


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4 inputs, 3 outputs, relu."""
    weights = {"a": random_weights(4, 6), "b": random_weights(6, 3, seed=2)}
    nodes = [node("MatMul", ["x", "a"], ["v"]), node("Relu", ["v"], ["r"]), node("MatMul", ["r", "b"], ["y"])]
    return save(model(nodes, {"x": (1, 4)}, ["y"], weights), tmp_path_factory.mktemp("network"))


@pytest.fixture(scope="module")
def honest(network: Path) -> Data:
    return json.loads(lipcert.reach(network, center=np.full(4, 0.1), eps=EPS).to_json())


@pytest.fixture(scope="module")
def bent() -> tuple[lipcert.Model, Data]:
    """A network with a template, and its conditional report."""
    nodes = [
        node("Bent", ["x"], ["o"], domain="com.example"),
        node("Relu", ["x"], ["r"]),
        node("Concat", ["o", "r"], ["y"], axis=1),
    ]
    proto = model(nodes, {"x": (1, 2)}, ["y"], domains={"com.example": 1})
    loaded = lipcert.load(proto, templates=[parse_template(BENT, "bent.toml")])
    data = json.loads(lipcert.reach(loaded, center=0, eps=1).to_json())
    assert data["result"]["status"] == "conditional"
    return loaded, data


def outcome(data: Data | str, loaded: Any, strict: bool = False) -> CheckResult | ReachCheck | str:
    """What a check makes of a report, or the line in which it refuses it."""
    text = data if isinstance(data, str) else json.dumps(data)
    try:
        return lipcert.check(parse_any(text, "report.json"), loaded, strict=strict)
    except CertificateError as error:
        line = str(error)
    assert line.strip()
    assert "\n" not in line
    return line


def edited(data: Data, edit: Edit) -> Data:
    data = copy.deepcopy(data)
    edit(data)
    return data


def array(data: Data, path: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Change an array, with the right digest."""
    *parents, name = path.split(".")
    for parent in parents:
        data = data[parent]
    data[name] = encode_array(change(decode_array(data[name], path)))


def both(data: Data, end: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Change an end in the certificate, and in the result, which has to say the same."""
    array(data, f"certificate.{end}", change)
    values = decode_array(data["certificate"][end], end)
    data["result"][end] = [v if math.isfinite(v) else None for v in values.reshape(-1).tolist()]


def put(v: np.ndarray, where: Any, value: float) -> np.ndarray:
    v = v.copy()
    v[where] = value
    return v


FALSE: dict[str, Edit] = {
    "lower raised": lambda d: both(d, "lower", lambda v: v + 0.1),
    "one lower raised a bit": lambda d: both(d, "lower", lambda v: put(v, 1, v[1] + 1e-6)),
    "upper lowered": lambda d: both(d, "upper", lambda v: v - 0.1),
    "one upper lowered a bit": lambda d: both(d, "upper", lambda v: put(v, 2, v[2] - 1e-6)),
    "ends swapped": lambda d: (both(d, "upper", np.negative), both(d, "lower", np.negative)),
    "linear flipped": lambda d: d["certificate"].update(linear=False),
    "certificate.lower raised alone": lambda d: array(d, "certificate.lower", lambda v: v + 0.1),
    "certificate.lower widened alone": lambda d: array(d, "certificate.lower", lambda v: v - 0.1),
    "result.lower raised": lambda d: d["result"].update(lower=[v + 0.1 for v in d["result"]["lower"]]),
    "result.lower lowered": lambda d: d["result"].update(lower=[v - 0.1 for v in d["result"]["lower"]]),
    "result.upper lowered": lambda d: d["result"].update(upper=[v - 0.1 for v in d["result"]["upper"]]),
    "result.upper null": lambda d: d["result"].update(upper=[None] * 3),
    "result.upper short": lambda d: d["result"]["upper"].pop(),
    "result.upper gone": lambda d: d["result"].pop("upper"),
    "result.upper text": lambda d: d["result"].update(upper=[str(v) for v in d["result"]["upper"]]),
    "NaN below": lambda d: both(d, "lower", lambda v: put(v, 0, math.nan)),
    "NaN above": lambda d: both(d, "upper", lambda v: put(v, 0, math.nan)),
    "-inf above": lambda d: both(d, "upper", lambda v: put(v, 0, -math.inf)),
    "inf below": lambda d: both(d, "lower", lambda v: put(v, 0, math.inf)),
    "an end short": lambda d: both(d, "lower", lambda v: v[:-1]),
    "an end of one column": lambda d: both(d, "lower", lambda v: v[:, None]),
    "no ends": lambda d: (both(d, "lower", lambda v: v[:0]), both(d, "upper", lambda v: v[:0])),
    "array damaged": lambda d: d["certificate"]["lower"].update(zlib="AAAA"),
    "attained lower lowered": lambda d: array(d, "attained.lower", lambda v: v - 0.01),
    "attained upper raised": lambda d: array(d, "attained.upper", lambda v: v + 0.01),
    "attained NaN": lambda d: array(d, "attained.upper", lambda v: put(v, 0, math.nan)),
    "attained -inf": lambda d: array(d, "attained.lower", lambda v: put(v, 0, -math.inf)),
    "attained short": lambda d: array(d, "attained.lower", lambda v: v[:-1]),
    "point outside": lambda d: array(d, "attained.highest", lambda v: v + EPS),
    "point a bit outside": lambda d: array(d, "attained.highest", lambda v: put(v, (0, 0), 0.1 + EPS + 1e-9)),
    "point NaN": lambda d: array(d, "attained.lowest", lambda v: put(v, (0, 0), math.nan)),
    "point inf": lambda d: array(d, "attained.lowest", lambda v: put(v, (0, 0), math.inf)),
    "points transposed": lambda d: array(d, "attained.lowest", np.transpose),
    "points short": lambda d: array(d, "attained.lowest", lambda v: v[:-1]),
    "attained a list": lambda d: d.update(attained=[]),
    "attained with another field": lambda d: d["attained"].update(more=1),
    "certificate with another field": lambda d: d["certificate"].update(more=1),
    "certificate null": lambda d: d.update(certificate=None),
    "certificate gone": lambda d: d.pop("certificate"),
    "linear a number": lambda d: d["certificate"].update(linear=1),
    "sha256": lambda d: d["model"].update(sha256="0" * 64),
    "sha256 gone": lambda d: d["model"].pop("sha256"),
    "external data": lambda d: d["model"].update(external_data={"w": "0" * 64}),
    "larger eps": lambda d: d["query"]["region"].update(eps=(2 * EPS).hex()),
    "eps a bit larger": lambda d: d["query"]["region"].update(eps=(EPS * (1 + 1e-6)).hex()),
    "eps negative": lambda d: d["query"]["region"].update(eps=(-EPS).hex()),
    "eps NaN": lambda d: d["query"]["region"].update(eps="nan"),
    "eps inf": lambda d: d["query"]["region"].update(eps="inf"),
    "center moved": lambda d: array(d, "query.region.center", lambda v: v + 0.1),
    "center short": lambda d: array(d, "query.region.center", lambda v: v[:-1]),
    "everywhere": lambda d: d["query"].update(region={"kind": "everywhere"}),
    "region with another field": lambda d: d["query"]["region"].update(more=1),
    "other outputs": lambda d: d["query"].update(outputs={"kind": "some", "indices": [2, 1, 0]}),
    "a margin": lambda d: d["query"].update(outputs={"kind": "margin", "first": 0, "second": 1}),
    "another output": lambda d: d["query"].update(output="nothing"),
    "another input": lambda d: d["query"].update(inputs=["nothing"]),
    "schema of bound": lambda d: d.update(schema="lipcert/report/1"),
    "schema unknown": lambda d: d.update(schema="lipcert/reach/2"),
    "schema gone": lambda d: d.pop("schema"),
    "templates claimed": lambda d: d["model"].update(
        templates=[{"name": "bent", "title": "", "ops": [], "text": BENT}]
    ),
}


def test_the_report_is_accepted_before_it_is_edited(network: Path, honest: Data) -> None:
    for strict in (False, True):
        found = outcome(honest, network, strict)
        assert isinstance(found, ReachCheck), found
        assert found.lower.tolist() == pytest.approx(honest["result"]["lower"])


@pytest.mark.parametrize("label", FALSE)
def test_a_false_report_is_refused(network: Path, honest: Data, label: str) -> None:
    for strict in (False, True):
        assert isinstance(outcome(edited(honest, FALSE[label]), network, strict), str)


@pytest.mark.parametrize("label", ["lower raised", "schema unknown", "schema of bound", "sha256", "NaN below"])
def test_the_command_refuses_it_in_one_line(
    network: Path, honest: Data, label: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r.json").write_text(json.dumps(edited(honest, FALSE[label])))
    assert run(["check", str(tmp_path / "r.json"), str(network)]) == 1
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.startswith("lipcert: ")
    assert written.err.count("\n") == 1


def test_a_report_of_bound_is_no_report_of_reach(network: Path, honest: Data) -> None:
    """Renamed, or with its certificate in the place of this one's."""
    bound = json.loads(lipcert.bound(network, norm=math.inf, center=0.1, eps=EPS).to_json())
    assert isinstance(outcome({**bound, "schema": honest["schema"]}, network), str)
    assert isinstance(outcome({**honest, "certificate": bound["certificate"]}, network), str)
    assert isinstance(outcome({**bound, "certificate": honest["certificate"]}, network), str)


def test_a_smaller_region_is_inside_the_box_but_its_points_are_not(network: Path, honest: Data) -> None:
    smaller = edited(honest, lambda d: d["query"]["region"].update(eps=(EPS / 2).hex()))
    assert isinstance(outcome(smaller, network), str)
    without = {**smaller, "attained": None}
    found = outcome(without, network)
    assert isinstance(found, ReachCheck)
    assert found.query.region.eps == EPS / 2  # type: ignore[union-attr]


def test_a_wider_box_is_true(network: Path, honest: Data) -> None:
    wider = edited(honest, lambda d: (both(d, "lower", lambda v: v - 1), both(d, "upper", lambda v: v + math.inf)))
    assert isinstance(outcome(wider, network), ReachCheck)


def test_no_edit_makes_check_accept_what_is_false(network: Path, honest: Data) -> None:
    """Everything in the report; whatever is accepted holds the outputs at sampled points of its region."""
    loaded = lipcert.load(network)
    edits = [e for e in mutations(honest) if not e[0].startswith(("environment", "tool", "model.import_check"))]
    accepted = 0
    for label, text in edits[:: 1 + len(edits) // MOST]:
        found = outcome(text, loaded)
        if isinstance(found, str):
            continue
        assert isinstance(found, ReachCheck), label
        accepted += 1
        report = ReachReport(json.loads(text))
        problem = pose(loaded.graph, decode_query(report.data["query"]))
        assert not isinstance(problem.query.region, Everywhere), label
        points = random_points(problem.query.region, problem.size_in, np.random.default_rng(0), 50)
        seen = values(problem.graph, {problem.graph.nodes[problem.x].name: points})[problem.y]
        assert np.all((report.lower - 1e-9 <= seen) & (seen <= report.upper + 1e-9)), label
    assert accepted


def test_the_status_of_a_report_from_a_file_fits_its_templates(network: Path, honest: Data) -> None:
    conditional = edited(honest, lambda d: d["result"].update(status="conditional"))
    assert isinstance(outcome(conditional, network), str)


def test_a_conditional_report_is_accepted_with_its_templates(bent: tuple[lipcert.Model, Data]) -> None:
    loaded, data = bent
    found = outcome(data, loaded)
    assert isinstance(found, ReachCheck)
    assert [template.name for template in found.templates] == ["bent"]
    for edit in (lambda d: d["model"].pop("templates"), lambda d: d["model"].update(templates=[])):
        assert isinstance(outcome(edited(data, edit), loaded), str)


def test_a_conditional_report_is_not_certified(bent: tuple[lipcert.Model, Data]) -> None:
    loaded, data = bent
    assert isinstance(outcome(edited(data, lambda d: d["result"].update(status="certified")), loaded), str)


@pytest.mark.parametrize("status", ["refused", "Certified", "proved", "", None, 1, [], {}])
def test_an_unknown_status_is_refused(network: Path, honest: Data, status: Any) -> None:
    assert isinstance(outcome(edited(honest, lambda d: d["result"].update(status=status)), network), str)


def test_a_box_without_finite_ends_is_not_certified(network: Path, honest: Data) -> None:
    """What is inconclusive is not certified by its word."""

    def widen(data: Data) -> None:
        both(data, "lower", lambda v: v - math.inf)
        both(data, "upper", lambda v: v + math.inf)

    assert isinstance(outcome(edited(honest, widen), network), str)


def test_the_word_for_the_boxes_is_that_of_the_certificate(network: Path, honest: Data) -> None:
    assert isinstance(outcome(edited(honest, lambda d: d["result"].update(boxes="intervals")), network), str)
