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

import lipcert
from lipcert.certificate import claim as vocabulary
from lipcert.planning import Attempt, Outcome
from lipcert.problem import Box, Margin, Query
from lipcert.report import Report
from lipcert.report.report import SCHEMA, build_report
from lipcert.report.schema import report_schema
from tests.helpers.paths import MODELS
from tests.helpers.reports import Case, all_cases

MODEL = MODELS / "digits_relu.onnx"

Data = dict[str, Any]
Edit = Callable[[Data], Any]


def errors(data: Any) -> list[str]:
    validator = jsonschema.Draft202012Validator(report_schema())
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(data)]


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return all_cases()


@pytest.fixture(scope="module")
def example(cases: list[Case]) -> Data:
    """A certified report with evidence, a witness and a ball."""
    report = next(case.report for case in cases if case.name == "stacked in a ball")
    data = json.loads(report.to_json())
    data["attempts"] = [{"method": "product", "status": "refused", "upper": 1.0, "seconds": 0.1, "reason": "too low"}]
    return data


@pytest.fixture(scope="module")
def inconclusive(cases: list[Case]) -> Data:
    attempt = Attempt("product", "refused", None, 0.1, "the bound overflows")
    return build_report(cases[0].model, Query(), Outcome(attempts=[attempt], interrupted=True)).data


def test_the_schema_is_a_schema_of_this_report() -> None:
    schema = report_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["properties"]["schema"]["const"] == SCHEMA
    assert (files("lipcert.report.schema") / "report-1.json").is_file()


def test_the_schema_knows_all_of_the_vocabulary() -> None:
    """Every class that a certificate may hold, with its fields."""
    text = json.dumps(report_schema())
    for union in (vocabulary.NormProof, vocabulary.Evidence):
        for cls in typing.get_args(union):
            assert all(f'"{name}"' in text for name in (cls.__name__, *(f.name for f in fields(cls)))), cls


def test_reports_with_every_kind_of_evidence_are_valid(cases: list[Case]) -> None:
    for case in cases:
        assert not errors(json.loads(case.report.to_json())), case.name


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"norm": "inf", "outputs": [7]},
        {"norm_in": "inf", "norm_out": 1, "center": np.full(64, 0.5), "eps": 0.01},
        {"outputs": Margin(1, 2), "center": np.full(64, 0.5), "eps": 0.01, "ball": 1},
        {"region": Box(np.zeros(64), np.ones(64))},
        {"timeout": 0},
    ],
    ids=lambda options: ", ".join(options) or "defaults",
)
def test_reports_of_runs_are_valid(options: dict[str, Any]) -> None:
    report = lipcert.bound(MODEL, **options)
    assert report.status == ("certified" if report.upper is not None else "inconclusive")
    assert report.status == "certified" or options == {"timeout": 0}
    assert not errors(json.loads(report.to_json()))


def test_reports_of_every_status_are_valid(example: Data, inconclusive: Data) -> None:
    assert example["result"]["status"] == "certified"
    assert inconclusive["result"]["status"] == "inconclusive"
    for data, status in ((example, "conditional"), (inconclusive, "refused")):
        assert not errors(data)
        assert not errors({**data, "result": {**data["result"], "status": status}})
        other = "certified" if data is inconclusive else "inconclusive"
        assert errors({**data, "result": {**data["result"], "status": other}})


OPTIONAL = {("model", "import_check")}
"""The only field that may be absent, apart from the versions in the environment."""


def test_no_field_may_be_missing(example: Data) -> None:
    for path in _fields(example):
        if path not in OPTIONAL and (path[0] != "environment" or path[-1] in ("environment", "python", "platform")):
            assert errors(_edited(example, path, remove=True)), path


def test_no_unknown_field_is_valid_but_in_the_environment(example: Data) -> None:
    for path in [(), *(path for path, item in _walk(example) if isinstance(item, dict) and path)]:
        found = errors(_edited(example, (*path, "unknown"), value="1.0"))
        assert bool(found) == (path != ("environment",)), path


def test_no_field_may_be_of_another_type(example: Data) -> None:
    """Each value in turn is given every JSON type but its own, null among them."""
    values: list[Any] = ["text", 0.5, True, None, [], {}]
    for path, item in _walk(example):
        for value in values:
            if path and type(value) is not type(item) and not (isinstance(item, int | float) and value == 0.5):
                nullable = value is None and path in {("result", "witness"), ("attempts", 0, "upper")}
                if not (nullable or path[0] == "environment"):
                    assert errors(_edited(example, path, value=value)), f"{path}: {value!r}"


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
