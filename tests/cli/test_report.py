"""`lipcert report`: what is stored, shown again."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import pytest

import lipcert as api
from lipcert.report.reading import AnyReport
from tests.cli.conftest import Command
from tests.helpers.displays import all_reports, bound_report, monotone_report, reach_report
from tests.helpers.paths import MODELS


def store(report: AnyReport, folder: Path, name: str = "r.json") -> Path:
    path = folder / name
    path.write_text(report.to_json())
    return path


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About a model that is at hand."""
    report = api.bound(MODELS / "digits_conv.onnx", norm="inf", center=0, eps=0.01, method="product", timeout=5)
    return store(report, tmp_path_factory.mktemp("stored"), "conv.json")


@pytest.mark.parametrize("report", all_reports(), ids=lambda report: type(report).__name__)
def test_a_report_is_shown_as_when_it_was_made(lipcert: Command, tmp_path: Path, report: AnyReport) -> None:
    done = lipcert("report", store(report, tmp_path))
    assert done.status == (1 if report.status == "refuted" else 0)
    assert report.status in done.out
    assert done.out.endswith("shown as stored: nothing was checked again\n")
    assert done.err == ""


def test_a_page_is_one_file(lipcert: Command, tmp_path: Path) -> None:
    paths = [store(report, tmp_path, f"{i}.json") for i, report in enumerate(all_reports())]
    done = lipcert("report", *paths, "--html", tmp_path / "out.html")
    assert (done.err, done.status) == ("", 1)  # one of them is refuted
    assert done.out == f"page  {tmp_path / 'out.html'}   (not proven again: --model does that)\n"
    page = (tmp_path / "out.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert all(str(path) in page for path in paths)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0.json", "1.json", "2.json", "3.json", "out.html"]
    assert lipcert("report", *paths, "--html", "-").out == page


def test_a_page_with_the_model_is_proven_again(lipcert: Command, stored: Path, tmp_path: Path) -> None:
    done = lipcert("report", stored, "--html", tmp_path / "out.html", "--model", MODELS / "digits_conv.onnx")
    assert (done.status, done.err) == (0, "")
    assert done.out.endswith(f"(proven again for {MODELS / 'digits_conv.onnx'})\n")
    page = (tmp_path / "out.html").read_text(encoding="utf-8")
    assert "proven again when this page was made" in page
    assert "l2 norms of the layers" in page
    assert page.count("<img ") == 4


def test_what_is_refused_leaves_no_page(lipcert: Command, stored: Path, tmp_path: Path) -> None:
    data = json.loads(stored.read_text())
    data["result"]["upper"] = data["result"]["lower"]
    data["result"]["gap"] = 1.0
    (tmp_path / "r.json").write_text(json.dumps(data))
    page = tmp_path / "out.html"
    done = lipcert("report", tmp_path / "r.json", "--html", page, "--model", MODELS / "digits_conv.onnx")
    assert done.status == 1
    assert f"{tmp_path / 'r.json'}: " in done.error()
    other = lipcert("report", stored, "--html", page, "--model", MODELS / "digits_relu.onnx")
    assert other.status == 1
    assert "another model" in other.error()
    assert not page.exists()


def test_inconclusive_is_status_4(lipcert: Command, tmp_path: Path) -> None:
    """Alone and among others; with a model there is nothing to check, but the digest."""
    model = shutil.copy(MODELS / "digits_relu.onnx", tmp_path)
    data = copy.deepcopy(bound_report().data)
    data["result"] |= {"status": "inconclusive", "upper": None, "gap": None, "method": None}
    data |= {"certificate": None}
    data["model"]["sha256"] = api.load(model).sha256
    (tmp_path / "r.json").write_text(json.dumps(data))
    assert lipcert("report", tmp_path / "r.json").status == 4
    assert lipcert("report", tmp_path / "r.json", store(reach_report(), tmp_path, "s.json")).status == 4
    done = lipcert("report", tmp_path / "r.json", "--html", "-", "--model", model, "--timeout", 0)
    assert done.status == 4
    assert "nothing to check: the report claims nothing" in done.out
    assert lipcert("report", tmp_path / "r.json", "--html", "-", "--model", MODELS / "digits_tanh.onnx").status == 1


def test_what_is_not_a_report_is_one_line(lipcert: Command, tmp_path: Path) -> None:
    texts = {
        "empty": "",
        "list": "[]",
        "deep": "[" * 10_000,
        "bare": '{"schema": "lipcert/report/1", "model": {}, "query": {}, "result": {"lower": 0}}',
        "other": '{"schema": "lipcert/checkpoint/1"}',
        "huge": monotone_report().to_json().replace('"share": 0', '"share": 1e999'),
    }
    page = tmp_path / "out.html"
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        for options in ((), ("--html", page)):
            done = lipcert("report", tmp_path / name, *options)
            assert done.status == 1
            assert str(tmp_path / name) in done.error()
    assert not page.exists()


def test_wrong_usage(lipcert: Command, tmp_path: Path) -> None:
    path = store(bound_report(), tmp_path)
    for arguments, words in (
        ((), "REPORT"),
        ((tmp_path / "missing.json",), "missing.json"),
        ((tmp_path,), str(tmp_path)),
        ((path, "--html", tmp_path), "--html: cannot write"),
        ((path, "--html", tmp_path / "no" / "x.html"), "--html: cannot write"),
        ((path, "--model", MODELS / "digits_relu.onnx"), "for --html"),
        ((path, "--html", "-", "--timeout", 1), "--model"),
        ((path, "-", "--html", "-"), "stdin"),
        ((path, "--html", path), "write over"),
    ):
        done = lipcert("report", *arguments)
        assert done.status == 2, arguments
        assert words in done.error()
    assert lipcert("report", path, "--html", "-", "--model", tmp_path / "no.onnx").status == 3
