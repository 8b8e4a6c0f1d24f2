"""What CI tools read: each document is valid by its official schema, and says what the verdicts are."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import jsonschema
import pytest
import xmlschema
from junitparser import JUnitXml

from lipcert.gate.github import markdown, report_to_github, workflow_commands
from lipcert.gate.junit import to_junit
from lipcert.gate.page import to_html
from lipcert.gate.policy import read_policy
from lipcert.gate.run import run_gate
from lipcert.gate.sarif import RULES, to_sarif
from lipcert.gate.verdicts import GateRun
from lipcert.report.schema import gate_schema
from tests.gate.conftest import Gate, network, write_policy
from tests.helpers.browser import Browser, find_browser
from tests.helpers.pages import harmless

SCHEMAS = Path(__file__).parents[1] / "data" / "schemas"


@pytest.fixture
def everything(repository: Path, monkeypatch: pytest.MonkeyPatch) -> GateRun:
    """A run with every verdict, and one that the policy allows; in a folder whose names try to be something else."""
    from lipcert.planning.solve import METHODS
    from tests.cli.test_main import Silent

    folder = repository / "a b"
    folder.mkdir()
    network(1.0, folder, "<b>|`x`, %0A::error::&amp;.onnx")
    network(9.0, folder, "large.onnx")
    (folder / "bad.onnx").write_bytes(b"")
    monkeypatch.setitem(METHODS, "gram", Silent)
    nothing = 'models = "large.onnx"\nmax = 1\nmethod = "gram"\n'
    write_policy(
        folder,
        '[[check]]\nname = "limits"\nmodels = "*.onnx"\nmax = 5\n'
        '[[check]]\nname = "growth"\nmodels = "large.onnx"\nmax_increase = 0.5\n'
        f'[[check]]\nname = "open"\n{nothing}'
        f'[[check]]\nname = "allowed"\n{nothing}allow_inconclusive = true\n',
    )
    policy = read_policy(folder / "lipcert.toml")
    run_gate(policy, update_baseline=True)
    network(18.0, folder, "large.onnx")
    return run_gate(policy)


def test_the_run_has_every_verdict(everything: GateRun) -> None:
    verdicts = [result.verdict.value for result in everything.results]
    assert verdicts == ["pass", "error", "fail", "regressed", "inconclusive", "inconclusive"]
    assert [result.failed for result in everything.results] == [False, True, True, True, True, False]
    assert everything.exit_status == 3


def test_the_json_is_as_its_schema_says(gate: Gate, everything: GateRun) -> None:
    done = gate("--config", "a b/lipcert.toml")
    jsonschema.Draft202012Validator(gate_schema()).validate(done.document)
    assert (done.status, done.document["exit_status"]) == (3, 3)
    assert done.document["policy"] == "a b/lipcert.toml"
    assert done.document["counts"] == {"pass": 1, "fail": 1, "regressed": 1, "inconclusive": 2, "error": 1}
    del done.document["results"][0]["limit"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(gate_schema()).validate(done.document)


def test_the_page_says_what_the_verdicts_are(gate: Gate, everything: GateRun, tmp_path: Path) -> None:
    page = tmp_path / "gate.html"
    assert gate("--config", "a b/lipcert.toml", "--html", page).status == 3
    text = harmless(page.read_text(encoding="utf-8"))
    assert "1 passed, 1 failed, 1 regressed, 2 inconclusive, 1 could not be asked" in text
    assert "exit status 3 without --exit-zero" in text
    assert "conditional: proven if" not in text
    (command,) = re.findall("lipcert gate --offline-check.*", text)
    assert shlex.split(command)[-1] == "a b/lipcert.toml"
    for result in everything.results:
        assert result.item.id in text
        assert result.proof.upper is None or f"{result.proof.upper:.4g}"[:4] in text
    first, *_, last = re.findall(
        r"<tr><th scope=.row.>(\w+)</th><td>(?:limits|growth|open|allowed)<", to_html(everything)
    )
    assert (first, last) == ("error", "inconclusive")  # which is allowed


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_is_readable_and_silent(everything: GateRun, tmp_path: Path, dark: bool) -> None:
    found = find_browser()
    if found is None:
        pytest.skip("no chromium or chrome is on PATH")
    (tmp_path / "gate.html").write_text(to_html(everything), encoding="utf-8")
    (tmp_path / "profile").mkdir()
    with Browser(found, tmp_path / "profile") as browser:
        browser.open(tmp_path / "gate.html", width=390, dark=dark)
        assert (browser.complaints(), browser.requests()) == ([], [])
        assert browser.evaluate("document.documentElement.scrollWidth") <= 390


def test_junit_is_as_its_schema_says(everything: GateRun, tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    path.write_text(to_junit(everything), encoding="utf-8")
    xmlschema.XMLSchema(str(SCHEMAS / "junit-10.xsd")).validate(str(path))
    document = JUnitXml.fromfile(str(path))
    assert (document.tests, document.failures, document.errors) == (6, 2, 2)
    assert [(suite.name, suite.tests, suite.skipped) for suite in document] == [
        ("limits", 3, 0),
        ("growth", 1, 0),
        ("open", 1, 0),
        ("allowed", 1, 1),
    ]
    cases = [case for suite in document for case in suite]
    assert cases[0].name == "<b>|`x`, %0A::error::&amp;.onnx"
    assert [[(part.type, bool(part.message)) for part in case.result] for case in cases] == [
        [],
        [("error", True)],
        [("fail", True)],
        [("regressed", True)],
        [("inconclusive", True)],
        [("inconclusive", True)],
    ]
    assert f"bound {everything.results[0].proof.upper!r}, attained " in cases[0].system_out


def test_sarif_is_as_its_schema_says(everything: GateRun) -> None:
    log = json.loads(to_sarif(everything))
    schema = json.loads((SCHEMAS / "sarif-schema-2.1.0.json").read_text(encoding="utf-8"))
    jsonschema.Draft4Validator(schema).validate(log)
    assert log["$schema"] == schema["id"]
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == [texts[0] for texts in RULES.values()]
    assert [result["ruleId"] for result in run["results"]] == [
        "lipcert/error",
        "lipcert/limit-exceeded",
        "lipcert/regressed",
        "lipcert/inconclusive",
    ]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        place = result["locations"][0]["physicalLocation"]
        assert unquote(place["artifactLocation"]["uri"]) == "a b/lipcert.toml"
        line = everything.policy.read_text().splitlines()[place["region"]["startLine"] - 1]
        assert line == "[[check]]"
        assert (everything.root / unquote(_model(result))).is_file()


def _model(result: dict[str, Any]) -> str:
    return result["relatedLocations"][0]["physicalLocation"]["artifactLocation"]["uri"]


def test_fingerprints_stay_where_lines_and_numbers_move(repository: Path) -> None:
    def prints() -> Iterator[tuple[str, str]]:
        log = json.loads(to_sarif(run_gate(read_policy(repository / "lipcert.toml"))))
        for result in log["runs"][0]["results"]:
            yield result["ruleId"], json.dumps(result["partialFingerprints"])

    check = '[[check]]\nname = "global"\nmodels = "nets/*.onnx"\nmax = 0.1\n'
    write_policy(repository, check)
    before = list(prints())
    assert len(before) == len(set(before)) == 2
    network(12.0, repository / "nets", "large.onnx")
    write_policy(repository, f"\n# moved\n{check}", 'method = "product"\ntimeout = 50\n')
    assert list(prints()) == before


def test_the_summary_is_markdown_that_no_name_can_break(everything: GateRun) -> None:
    text = markdown(everything)
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 6
    for line in table[2:]:
        assert line.replace("\\|", "").count("|") == 9
    assert [line.split("|")[1].strip() for line in table[2:5]] == ["❌ error", "❌ fail", "❌ regressed"]
    assert "<b>" not in text
    assert "6 questions: 1 passed, 1 failed, 1 regressed, 2 inconclusive, 1 could not be asked" in text


def test_annotations_are_one_command_each(everything: GateRun) -> None:
    lines = workflow_commands(everything).splitlines()
    assert len(lines) == 4
    for line in lines:
        assert line.startswith("::error file=a b/lipcert.toml,line=")
        assert ",title=lipcert gate%3A " in line
    assert "limits:large.onnx: fail" in lines[1]


def test_github_gets_its_summary_by_itself(
    everything: GateRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("of an earlier step\n")
    report_to_github(everything, annotate=True)
    assert capsys.readouterr().out == ""
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    report_to_github(everything, annotate=True)
    assert summary.read_text() == f"of an earlier step\n{markdown(everything)}"
    assert capsys.readouterr().out == workflow_commands(everything)
    report_to_github(everything, annotate=False)
    assert capsys.readouterr().out == ""


def test_files_are_written_and_stdout_can_be_one_of_them(gate: Gate, repository: Path, tmp_path: Path) -> None:
    done = gate("--junit", "-", "--sarif", tmp_path / "out.sarif")
    assert done.out.startswith("<")
    assert json.loads((tmp_path / "out.sarif").read_text())["version"] == "2.1.0"
    assert done.status == 1


def test_outputs_that_cannot_be_written(gate: Gate, repository: Path) -> None:
    assert "--junit: cannot write" in gate("--junit", "absent/j.xml").error()
    assert "--sarif: cannot write" in gate("--sarif", repository).error()
    assert "the same file" in gate("--sarif", "x", "--junit", "x").error()
    assert not (repository / ".lipcert-cache").exists()
