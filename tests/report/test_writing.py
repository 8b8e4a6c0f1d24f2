"""`--json` writes a whole report or nothing, and says in one line what is in the way."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from lipcert.errors import UsageError
from lipcert.problem import Query
from lipcert.report import Report, parse_report
from lipcert.report.writing import write_json
from tests.helpers.reports import RULES, make_case, model_of


@pytest.fixture(scope="module")
def report() -> Report:
    graph, evidence = RULES["spectral"]()
    return make_case("report", model_of(graph, "report"), Query(), evidence).report


def test_what_is_written_is_read_again(report: Report, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_json(report, str(path))
    assert parse_report(path.read_text(encoding="utf-8"), "report.json").data == report.data
    assert os.listdir(tmp_path) == ["report.json"]
    assert path.read_bytes().endswith(b"}\n")
    assert stat.S_IMODE(path.stat().st_mode) & 0o444 == 0o444


def test_an_older_report_is_replaced(report: Report, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old, and longer than nothing")
    write_json(report, str(path))
    assert json.loads(path.read_text()) == report.data


def test_a_relative_path_is_written_here(report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_json(report, "out.json")
    assert os.listdir(tmp_path) == ["out.json"]


def test_dash_is_stdout_and_nothing_else(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(report, "-")
    written = capsys.readouterr()
    assert json.loads(written.out) == report.data
    assert written.err == ""


@pytest.mark.parametrize("target", ["missing/report.json", "file/report.json", "folder"])
def test_what_cannot_be_written_is_one_line(report: Report, tmp_path: Path, target: str) -> None:
    (tmp_path / "file").write_text("a file")
    (tmp_path / "folder").mkdir()
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(UsageError, match="--json: cannot write") as caught:
        write_json(report, str(tmp_path / target))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 2
    assert sorted(os.listdir(tmp_path)) == before
    assert os.listdir(tmp_path / "folder") == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="everything is writable for root")
def test_a_folder_without_permission_is_one_line(report: Report, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match="Permission denied"):
        write_json(report, str(tmp_path / "report.json"))


@pytest.mark.parametrize("step", ["os.replace", "os.chmod", "os.fdopen"])
def test_a_failure_on_the_way_leaves_what_was_there(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The disk is full, say."""
    path = tmp_path / "report.json"
    path.write_text("old")

    def fail(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(step, fail)
    with pytest.raises(UsageError, match="No space left"):
        write_json(report, str(path))
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["report.json"]
    assert path.read_text() == "old"


def test_a_report_that_is_no_json_is_not_written(report: Report, tmp_path: Path) -> None:
    broken = Report({**report.data, "tool": {"version": float("nan")}})
    with pytest.raises(ValueError, match="JSON"):
        write_json(broken, str(tmp_path / "report.json"))
    assert os.listdir(tmp_path) == []


def test_the_headline_of_a_report(report: Report) -> None:
    result = report.data["result"]
    assert (report.status, report.method) == ("certified", "product")
    assert report.upper == result["upper"] > report.lower == result["lower"] > 0
    assert report.gap == report.upper / report.lower
    assert f"upper={report.upper}" in repr(report)
    assert json.loads(report.to_json(indent=None)) == report.data
