"""Every report is valid by the published schema, and what is not a report is not."""

from __future__ import annotations

import copy
import json
import math
import typing
from collections.abc import Callable, Iterator
from dataclasses import fields
from importlib.resources import files
from typing import Any

import jsonschema
import numpy as np
import pytest
from onnx import helper

import lipcert
from lipcert.certificate import claim as vocabulary
from lipcert.planning import Attempt, Outcome
from lipcert.problem import Box, Margin, Query
from lipcert.report import Report
from lipcert.report.comparison import COMPARE_SCHEMA
from lipcert.report.monotone import MONOTONE_SCHEMA
from lipcert.report.reach import REACH_SCHEMA
from lipcert.report.report import SCHEMA, build_report
from lipcert.report.robustness import ROBUSTNESS_SCHEMA, RobustnessReport
from lipcert.report.schema import compare_schema, monotone_schema, reach_schema, report_schema, robustness_schema
from tests.helpers.onnx_models import model
from tests.helpers.paths import MODELS
from tests.helpers.reports import Case, all_cases, local_cases

MODEL = MODELS / "digits_relu.onnx"

Data = dict[str, Any]
Edit = Callable[[Data], Any]

SCHEMAS: dict[str, tuple[str, dict[str, Any]]] = {
    SCHEMA: ("report-1.json", report_schema()),
    REACH_SCHEMA: ("reach-1.json", reach_schema()),
    MONOTONE_SCHEMA: ("monotone-1.json", monotone_schema()),
    COMPARE_SCHEMA: ("compare-1.json", compare_schema()),
    ROBUSTNESS_SCHEMA: ("certify-1.json", robustness_schema()),
}
"""The file of each kind of document, and what stands alone."""


def errors(data: Any, of: str = SCHEMA) -> list[str]:
    validator = jsonschema.Draft202012Validator(SCHEMAS[of][1])
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(data)]


def folded() -> lipcert.Model:
    """|x| - |x - 1| + z in ramps: rises from -1 to 1 with x between 0 and 1, where linear bounds have to be cut."""
    nodes = [
        helper.make_node("Gemm", ["x", "a", "b"], ["v"], transB=1),
        helper.make_node("Relu", ["v"], ["r"]),
        helper.make_node("Gemm", ["r", "c", "d"], ["w"], transB=1),
        helper.make_node("Relu", ["w"], ["t"]),
        helper.make_node("Gemm", ["t", "e"], ["y"], transB=1),
    ]
    a = np.array([[1, 0], [-1, 0], [1, 0], [-1, 0], [0, 1]], np.float32)
    b = np.array([0, 0, -1, 1, 0], np.float32)
    c = np.array([[1, 1, -1, -1, 1], [0.5, -1, 0.25, 1, -0.5]], np.float32)
    weights = {"a": a, "b": b, "c": c, "d": np.array([0.2, -0.1], np.float32), "e": np.array([[1, 0.5]], np.float32)}
    return lipcert.load(model(nodes, {"x": (1, 2)}, ["y"], weights))


def classified() -> RobustnessReport:
    """Of two classes: a sample with constants that will do, and one with a ball and an attack."""
    points = np.array([[-0.2, 0.1], [-2.0, 0.4]])
    nodes = [helper.make_node("Gemm", ["x", "a"], ["v"]), helper.make_node("Relu", ["v"], ["r"])]
    nodes.append(helper.make_node("Gemm", ["r", "b"], ["y"]))
    weights = {"a": np.array([[1, -1], [0.5, 1]], np.float32), "b": np.array([[1, 0], [0.2, 0.9]], np.float32)}
    network = lipcert.load(model(nodes, {"x": (1, 2)}, ["y"], weights))
    return lipcert.certify(network, points, [1, 1], eps=[0.01, 0.1, 0.9, 3], local=True, local_timeout=1, norm="inf")


WIDE = Box(np.full(2, -0.5), np.full(2, 2.0))


def data_of(report: Any) -> Data:
    return json.loads(report.to_json())


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return [*all_cases(), *local_cases()]


@pytest.fixture(scope="module")
def example(cases: list[Case]) -> Data:
    """A certified report with evidence, a witness and a ball."""
    report = next(case.report for case in cases if case.name == "stacked in a ball")
    data = json.loads(report.to_json())
    data["attempts"] = [{"method": "product", "status": "refused", "upper": 1.0, "seconds": 0.1, "reason": "too low"}]
    return data


@pytest.fixture(scope="module")
def documents(cases: list[Case], example: Data) -> dict[str, Data]:
    """A report of each kind, all of them with trees and lines but the first."""
    branched = next(case.report for case in cases if case.name == "in an linf ball, branched")
    network = folded()
    found = {
        "bound": example,
        "bound over a region": data_of(branched),
        "reach": data_of(lipcert.reach(network, region=WIDE, exact=True)),
        "monotone": data_of(lipcert.monotone(network, [0, 1], region=WIDE, timeout=1)),
        "certify": data_of(classified()),
    }
    for name, data in found.items():
        text = json.dumps(data["certificate"])
        assert name in ("bound", "certify") or '"Tree"' in text, name
        assert name in ("bound", "monotone", "certify") or '"RampSlopes"' in text, (
            name
        )  # few inputs: slopes are not searched for
    return found


@pytest.fixture(scope="module")
def inconclusive(cases: list[Case]) -> Data:
    attempt = Attempt("product", "refused", None, 0.1, "the bound overflows")
    return build_report(cases[0].model, Query(), Outcome(attempts=[attempt], interrupted=True)).data


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_schema_is_a_schema_of_this_report(name: str) -> None:
    file, schema = SCHEMAS[name]
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["properties"]["schema"]["const"] == name
    assert (files("lipcert.report.schema") / file).is_file()
    assert len({schema["$id"] for _, schema in SCHEMAS.values()}) == len(SCHEMAS)


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_definition_that_is_named_is_there(name: str) -> None:
    schema = SCHEMAS[name][1]
    named = {item for path, item in _walk(schema) if path and path[-1] == "$ref"}
    assert named <= {f"#/$defs/{definition}" for definition in schema["$defs"]}


def test_shared_definitions_have_one_meaning() -> None:
    """No document defines anew what report-1.json defines."""
    shared = report_schema()["$defs"]
    for _, schema in SCHEMAS.values():
        assert {name: schema["$defs"][name] for name in shared} == shared


PARTS = (vocabulary.Tree, vocabulary.Rows, vocabulary.RowScaling, vocabulary.Slopes, vocabulary.RampSlopes)


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        (SCHEMA, (vocabulary.Claim, vocabulary.Witness, *PARTS, *typing.get_args(vocabulary.NormProof))),
        (SCHEMA, typing.get_args(vocabulary.Evidence)),
        (REACH_SCHEMA, (vocabulary.BoxClaim, vocabulary.Extremes)),
        (MONOTONE_SCHEMA, (vocabulary.MonotoneClaim, vocabulary.Slope)),
        (ROBUSTNESS_SCHEMA, (vocabulary.RobustnessClaim, vocabulary.MarginClaim, vocabulary.SampleClaim)),
        (ROBUSTNESS_SCHEMA, (vocabulary.BallClaim, vocabulary.Attack)),
    ],
)
def test_the_schema_knows_all_of_the_vocabulary(name: str, classes: tuple[type, ...]) -> None:
    """Every class that a certificate may hold, with its fields."""
    text = json.dumps(SCHEMAS[name][1])
    for cls in classes:
        assert all(f'"{word}"' in text for word in (cls.__name__, *(f.name for f in fields(cls)))), cls


def test_reports_with_every_kind_of_evidence_are_valid(cases: list[Case]) -> None:
    seen = ""
    for case in cases:
        text = case.report.to_json()
        assert not errors(json.loads(text)), case.name
        seen += text
    for cls in (*typing.get_args(vocabulary.Evidence), *PARTS):
        assert f'"is": "{cls.__name__}"' in seen, cls


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"norm": "inf", "outputs": [7]},
        {"norm_in": "inf", "norm_out": 1, "center": np.full(64, 0.5), "eps": 0.01},
        {"outputs": Margin(1, 2), "center": np.full(64, 0.5), "eps": 0.01, "ball": 1},
        {"region": Box(np.zeros(64), np.ones(64)), "timeout": 5},
        {"center": np.zeros(64), "eps": 0.001, "exact": True, "timeout": 5},
        {"timeout": 0},
    ],
    ids=lambda options: ", ".join(options) or "defaults",
)
def test_reports_of_runs_are_valid(options: dict[str, Any]) -> None:
    report = lipcert.bound(MODEL, **options)
    assert report.status == ("certified" if report.upper is not None else "inconclusive")
    assert report.status == "certified" or options == {"timeout": 0}
    assert not errors(json.loads(report.to_json()))


def test_every_document_is_valid_by_its_own_schema_and_by_no_other(documents: dict[str, Data]) -> None:
    for name, data in documents.items():
        for kind in SCHEMAS:
            assert bool(errors(data, kind)) == (kind != data["schema"]), (name, kind)


@pytest.mark.parametrize("options", [{}, {"exact": True}, {"timeout": 0}, {"outputs": Margin(1, 2)}], ids=str)
def test_reports_of_reach_runs_are_valid(options: dict[str, Any]) -> None:
    report = lipcert.reach(MODEL, center=np.full(64, 0.5), eps=0.002, **options)
    assert report.status == "certified"
    assert not errors(data_of(report), REACH_SCHEMA)


def test_a_reach_report_may_bound_nothing() -> None:
    """1 / x where x may be zero, and where it may not."""
    network = lipcert.load(model([helper.make_node("Reciprocal", ["x"], ["y"])], {"x": (1, 2)}, ["y"]))
    for low, status, other in ((0.0, "inconclusive", "certified"), (1.0, "certified", "inconclusive")):
        data = data_of(lipcert.reach(network, region=Box(np.full(2, low), np.full(2, 2.0))))
        assert data["result"]["status"] == status
        assert not errors(data, REACH_SCHEMA)
        assert errors(_edited(data, ("result", "status"), value=other), REACH_SCHEMA)


@pytest.mark.parametrize(
    ("chosen", "options", "status"),
    [
        ([1], {"increasing": False, "timeout": 1}, "refuted"),
        ([0], {"tolerance": 1.8}, "certified"),
        ([0], {"tolerance": 1.0, "timeout": 0}, "inconclusive"),
    ],
)
def test_reports_of_monotone_runs_are_valid(chosen: list[int], options: dict[str, Any], status: str) -> None:
    report = lipcert.monotone(folded(), chosen, region=WIDE, **options)
    data = data_of(report)
    assert not errors(data, MONOTONE_SCHEMA)
    assert data["result"]["status"] == status
    for other in {"certified", "refuted", "inconclusive", "conditional"} - {status}:
        assert errors(_edited(data, ("result", "status"), value=other), MONOTONE_SCHEMA), other


def test_reports_of_every_status_are_valid(example: Data, inconclusive: Data) -> None:
    assert example["result"]["status"] == "certified"
    assert inconclusive["result"]["status"] == "inconclusive"
    for data, status in ((example, "conditional"), (inconclusive, "refused")):
        assert not errors(data)
        assert not errors({**data, "result": {**data["result"], "status": status}})
        other = "certified" if data is inconclusive else "inconclusive"
        assert errors({**data, "result": {**data["result"], "status": other}})


KINDS = ("bound", "bound over a region", "reach", "monotone", "certify")
of_each_kind = pytest.mark.parametrize("kind", KINDS)

OPTIONAL = {("model", "import_check")}
"""The only field that may be absent, apart from the versions in the environment."""

NULLABLE = {
    "bound": {("result", "witness"), ("attempts", 0, "upper")},
    "bound over a region": {("result", "witness")},
    "reach": {("attained",), ("result", "lower", 0), ("result", "upper", 0)},
    "monotone": set(),
    "certify": {("query", "data", "labels_column"), ("query", "data", "rows")}
    | {("samples", k, "attacked") for k in range(2)},
}
"""What may be null."""


@of_each_kind
def test_no_field_may_be_missing(documents: dict[str, Data], kind: str) -> None:
    data = documents[kind]
    for path in _fields(data):
        if path not in OPTIONAL and (path[0] != "environment" or path[-1] in ("environment", "python", "platform")):
            assert errors(_edited(data, path, remove=True), data["schema"]), path


@of_each_kind
def test_no_unknown_field_is_valid_but_in_the_environment(documents: dict[str, Data], kind: str) -> None:
    data = documents[kind]
    for path in [(), *(path for path, item in _walk(data) if isinstance(item, dict) and path)]:
        found = errors(_edited(data, (*path, "unknown"), value="1.0"), data["schema"])
        assert bool(found) == (path != ("environment",)), path


@pytest.mark.one_in(2)
@of_each_kind
def test_no_field_may_be_of_another_type(documents: dict[str, Data], kind: str) -> None:
    """Each value in turn is given every JSON type but its own, null among them."""
    values: list[Any] = ["text", 0.5, True, None, [], {}]
    data = documents[kind]
    for path, item in _walk(data):
        for value in values:
            if path and type(value) is not type(item) and not (isinstance(item, int | float) and value == 0.5):
                nullable = value is None and path in NULLABLE[kind]
                if not (nullable or path[0] == "environment"):
                    assert errors(_edited(data, path, value=value), data["schema"]), f"{path}: {value!r}"


BAD: dict[str, Edit] = {
    "negative upper": lambda d: d["result"].update(upper=-1.0),
    "negative lower": lambda d: d["result"].update(lower=-1.0),
    "gap below one": lambda d: d["result"].update(gap=0.99),
    "certified without upper": lambda d: d["result"].update(upper=None),
    "certified without method": lambda d: d["result"].update(method=None),
    "certified without certificate": lambda d: d.update(certificate=None),
    "lower without witness": lambda d: d["result"].update(witness=None),
    "no gap beside a lower": lambda d: d["result"].update(gap=None),
    "gap beside no lower": lambda d: d["result"].update(lower=0.0),
    "unknown status": lambda d: d["result"].update(status="proven"),
    "unknown norm": lambda d: d["query"].update(norm_in="3"),
    "norm as a number": lambda d: d["query"].update(norm_in=2),
    "unknown region": lambda d: d["query"]["region"].update(kind="sphere"),
    "center of no axis": lambda d: d["query"]["region"]["center"].update(shape=[]),
    "center of two axes": lambda d: d["query"]["region"]["center"].update(shape=[1, 3]),
    "negative axis": lambda d: d["query"]["region"]["center"].update(shape=[-3]),
    "fractional axis": lambda d: d["query"]["region"]["center"].update(shape=[1.5]),
    "box with a radius": lambda d: d["query"]["region"].update(kind="box"),
    "everywhere with a radius": lambda d: d["query"]["region"].update(kind="everywhere"),
    "negative radius": lambda d: d["query"]["region"].update(eps="-0x1.0000000000000p+0"),
    "some outputs, but none": lambda d: d["query"].update(outputs={"kind": "some", "indices": []}),
    "margin of one": lambda d: d["query"].update(outputs={"kind": "margin", "first": 0}),
    "an input twice": lambda d: d["query"].update(inputs=["x", "x"]),
    "short digest": lambda d: d["model"].update(sha256="abc"),
    "digest in capitals": lambda d: d["model"].update(sha256="A" * 64),
    "external data without digest": lambda d: d["model"].update(external_data={"weights.bin": ""}),
    "no base64": lambda d: d["query"]["region"]["center"].update(zlib="a?"),
    "unknown evidence": lambda d: d["certificate"]["evidence"].update({"is": "Trust"}),
    "unknown proof": lambda d: _proof(d).update({"is": "Trust"}),
    "proof of another kind": lambda d: _proof(d).update({"is": "Taps"}),
    "terms without a term": lambda d: _proof(d).update(proofs=[]),
    "no steps": lambda d: d["certificate"]["evidence"].update(steps=[]),
    "a source twice": lambda d: d["certificate"]["evidence"]["steps"][0]["groups"][0].update(sources=[0, 0]),
    "negative node": lambda d: d["certificate"]["evidence"]["steps"][0].update(node=-1),
    "certified attempt without upper": lambda d: d["attempts"][0].update(status="certified", upper=None),
    "refused attempt without reason": lambda d: d["attempts"][0].update(reason=None),
}


def _proof(data: Data) -> Data:
    return data["certificate"]["evidence"]["steps"][1]["groups"][0]["proof"]


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_report_is_invalid(name: str, example: Data) -> None:
    data = copy.deepcopy(example)
    BAD[name](data)
    assert errors(data)


def _part(data: Data) -> Data:
    return data["certificate"]["evidence"]["parts"][0]


def _tree(data: Data) -> Data:
    return _part(data)["tree"]


BAD_OTHERS: dict[str, tuple[str, Edit]] = {
    "no part": ("bound over a region", lambda d: d["certificate"]["evidence"].update(parts=[])),
    "an output twice": ("bound over a region", lambda d: _part(d).update(outputs=[0, 0])),
    "eight steps": ("bound over a region", lambda d: _part(d).update(steps=8)),
    "a cut of two numbers": ("bound over a region", lambda d: _tree(d)["splits"].update(shape=[1, 2])),
    "no piece": ("bound over a region", lambda d: _tree(d)["splits"].update(shape=[0, 3])),
    "splits in a row": ("bound over a region", lambda d: _tree(d)["splits"].update(shape=[3])),
    "multipliers in a table": ("bound over a region", lambda d: _tree(d)["multipliers"].update(shape=[1, 1])),
    "rows as evidence": ("bound over a region", lambda d: d["certificate"].update(evidence=_part(d))),
    "a ramp before all nodes": ("bound over a region", lambda d: d["certificate"]["slopes"][0].update(node=-1)),
    "conditional without an end": ("reach", lambda d: d["result"].update(lower=[None], upper=[None])),
    "inconclusive with an end": ("reach", lambda d: d["result"].update(status="inconclusive")),
    "refused": ("reach", lambda d: d["result"].update(status="refused")),
    "attained by no points": ("reach", lambda d: d["attained"].update(lowest=d["attained"]["lower"])),
    "certified on a part": ("monotone", lambda d: d["result"].update(status="certified")),
    "refuted, and certified": ("monotone", lambda d: d["result"].update(share=1.0)),
    "refuted without a derivative": ("monotone", lambda d: d["result"].update(derivative=None)),
    "refuted by a slope of the right sign": ("monotone", lambda d: d["result"].update(derivative=0.0)),
    "refuted without a counterexample": ("monotone", lambda d: d.update(counterexample=None)),
    "inconclusive with a counterexample": ("monotone", lambda d: d["result"].update(status="inconclusive")),
    "more than all": ("monotone", lambda d: d["result"].update(share=1.5)),
    "a negative share": ("monotone", lambda d: d["certificate"].update(share="-0x1.0000000000000p-1")),
    "a negative tolerance": ("monotone", lambda d: d["result"].update(tolerance=-1.0)),
    "no inputs": ("monotone", lambda d: d["certificate"].update(inputs=[])),
    "an input below zero": ("monotone", lambda d: d["result"].update(inputs=[-1])),
}


@pytest.mark.parametrize("name", BAD_OTHERS)
def test_what_is_no_report_of_another_kind_is_invalid(name: str, documents: dict[str, Data]) -> None:
    kind, edit = BAD_OTHERS[name]
    data = copy.deepcopy(documents[kind])
    edit(data)
    assert errors(data, data["schema"])


@pytest.mark.parametrize("value", [0.0, 5e-324, 2.0**-1022, 1.0, 0.1, math.pi, 1e308, 1.7976931348623157e308])
def test_every_finite_number_is_a_hex_float(value: float, example: Data) -> None:
    assert not errors(_edited(example, ("certificate", "value"), value=value.hex()))
    assert errors(_edited(example, ("certificate", "value"), value=(-value).hex()))


@pytest.mark.parametrize(
    "text", ["nan", "inf", "-inf", "1.0", "0x1p+0", "0x2.0p+0", "0x1.0p0", "0x1.0P+0", "", " 0x1.0p+0"]
)
def test_nothing_else_is_a_hex_float(text: str, example: Data) -> None:
    assert errors(_edited(example, ("certificate", "value"), value=text))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_report_is_written_with_what_json_has_not(value: float, example: Data) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        Report(_edited(example, ("result", "seconds"), value=value)).to_json()


def test_reports_are_strict_json(cases: list[Case], inconclusive: Data) -> None:
    for report in (*(case.report for case in cases), Report(inconclusive)):
        text = report.to_json()
        text.encode("ascii")
        assert json.loads(text, parse_constant=pytest.fail) == report.data


def _walk(item: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    yield path, item
    children = item.items() if isinstance(item, dict) else enumerate(item) if isinstance(item, list) else ()
    for key, child in children:
        yield from _walk(child, (*path, key))


def _fields(data: Data) -> Iterator[tuple[Any, ...]]:
    return (path for path, _ in _walk(data) if path and isinstance(path[-1], str))


def _edited(data: Data, path: tuple[Any, ...], value: Any = None, remove: bool = False) -> Data:
    changed = copy.deepcopy(data)
    parent: Any = changed
    for key in path[:-1]:
        parent = parent[key]
    if remove:
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    return changed
