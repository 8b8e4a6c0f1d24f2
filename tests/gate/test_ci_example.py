"""models/ci-example: the verdicts that a maintainer expects, and what a second run costs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jsonschema
import pytest
from junitparser import JUnitXml

from lipcert import api
from lipcert.report.schema import gate_schema
from tests.gate.conftest import Gate
from tests.helpers.paths import MODELS

EXAMPLE = MODELS / "ci-example"


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "example"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns(".lipcert-cache"))
    policy = folder / "lipcert.toml"
    policy.write_text(policy.read_text().replace("timeout = 30", "timeout = 300"))  # on a busy machine too
    monkeypatch.chdir(folder)
    return folder


def test_one_passes_one_fails_and_one_has_regressed(
    gate: Gate, example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    outputs = ("--junit", tmp_path / "j.xml", "--sarif", tmp_path / "s.json")
    done = gate(*outputs)
    assert done.status == 1
    assert done.verdicts == {
        "everywhere:drifted.onnx": "regressed",
        "everywhere:loose.onnx": "fail",
        "everywhere:steady.onnx": "pass",
        "near-digits:steady.onnx:0": "pass",
        "near-digits:steady.onnx:1": "pass",
    }
    assert "no better bound can pass" in done.result("everywhere:loose.onnx")["message"]
    jsonschema.Draft202012Validator(gate_schema()).validate(done.document)
    document = JUnitXml.fromfile(str(tmp_path / "j.xml"))
    assert (document.tests, document.failures, document.errors) == (5, 2, 0)
    results = json.loads((tmp_path / "s.json").read_text())["runs"][0]["results"]
    assert [result["ruleId"] for result in results] == ["lipcert/regressed", "lipcert/limit-exceeded"]
    assert "5 questions: 3 passed, 1 failed, 1 regressed" in summary.read_text()

    monkeypatch.setattr(api, "bound", None)  # nothing is searched for again
    again = gate(*outputs)
    assert (again.status, again.verdicts) == (1, done.verdicts)
    assert all(result["cached"] for result in again.document["results"])


def test_the_baseline_is_of_the_questions_of_the_policy() -> None:
    bounds = json.loads((EXAMPLE / "lipcert-baseline.json").read_text())["bounds"]
    assert set(bounds) >= {f"everywhere:{path.name}" for path in EXAMPLE.glob("*.onnx")}
