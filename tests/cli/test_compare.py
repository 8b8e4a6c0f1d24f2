"""`lipcert compare` and `lipcert.compare`: a change is called proven only where two verified numbers prove it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import lipcert as api
from lipcert.errors import UsageError
from lipcert.report.comparison import Comparison, build_comparison
from lipcert.report.html import render_sheets
from lipcert.report.html.comparison import comparison_sheet
from lipcert.report.report import Report
from lipcert.report.schema import compare_schema
from tests.cli.conftest import Command
from tests.helpers.displays import bound_report
from tests.helpers.onnx_models import model
from tests.helpers.pages import harmless
from tests.helpers.paths import MODELS

QUICK = ("--method", "product", "--timeout", 3)
"""Bounds within 2 % of what is attained, in a second."""


@pytest.fixture(scope="module")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """digits_relu with its last layer doubled: the constant is twice that, for certain."""
    relu = onnx.load(MODELS / "digits_relu.onnx")
    weights = {t.name: t for t in relu.graph.initializer}
    for name in relu.graph.node[-1].input[1:]:
        weights[name].CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights[name]) * np.float32(2), name))
    path = tmp_path_factory.mktemp("scaled") / "scaled.onnx"
    onnx.save(relu, path)
    return path


def report(upper: float | None, lower: float, digest: str = "0") -> Report:
    data = copy.deepcopy(bound_report().data)
    data["result"] |= {"upper": upper, "lower": lower, "status": "inconclusive" if upper is None else "certified"}
    data["model"]["sha256"] = digest * 64
    return Report(data)


@pytest.mark.parametrize(
    ("before", "after", "change", "ratio"),
    [
        (report(2.0, 1.0), report(5.0, 2.5, "1"), "increased", 2.5),
        (report(2.0, 1.5), report(1.25, 1.0, "1"), "decreased", 0.625),
        (report(2.0, 1.0), report(3.0, 2.0, "1"), "undecided", 1.5),
        (report(2.0, 1.0), report(1.0, 0.5, "1"), "undecided", 0.5),
        (report(2.0, 1.0), report(2.0, 1.0), "same", 1.0),
        (report(None, 3.0), report(2.0, 1.0, "1"), "decreased", None),
        (report(2.0, 1.0), report(None, 3.0, "1"), "increased", None),
        (report(None, 1.0), report(None, 3.0, "1"), "undecided", None),
        (report(0.0, 0.0), report(1.0, 0.5, "1"), "increased", None),
    ],
)
def test_a_change_is_proven_by_a_bound_and_an_attained_value(
    before: Report, after: Report, change: str, ratio: float | None
) -> None:
    compared = build_comparison(before, after)
    assert (compared.change, compared.ratio) == (change, ratio)


def test_the_limit_is_compared_exactly() -> None:
    compared = build_comparison(report(1.0, 0.5), report(1.05, 0.5, "1"))
    assert not compared.exceeds(0.06)
    assert compared.exceeds(0.04)
    above = build_comparison(report(1.0, 0.5), report(float(np.nextafter(1.5, 2)), 0.5, "1"))
    assert above.exceeds(0.5)
    assert not build_comparison(report(1.0, 0.5), report(1.5, 0.5, "1")).exceeds(0.5)


def test_both_reports_are_whole(lipcert: Command, scaled: Path, tmp_path: Path) -> None:
    relu = MODELS / "digits_relu.onnx"
    done = lipcert("compare", relu, scaled, *QUICK, "--norms", "--json", "-")
    assert (done.status, done.err) == (0, "")
    data = json.loads(done.out)
    jsonschema.validate(data, compare_schema())
    compared = Comparison(data)
    assert compared.ratio == pytest.approx(2.0, rel=1e-6)
    assert compared.change == "increased"
    for each, path in ((compared.before, relu), (compared.after, scaled)):
        assert api.check(each, path).upper <= each.upper
    layers: list[Any] = data["layers"]
    assert [after["l2"] / before["l2"] for before, after in layers] == pytest.approx([1, 1, 2], rel=1e-6)


def test_the_verdict_is_plain(lipcert: Command, scaled: Path, tmp_path: Path) -> None:
    relu = MODELS / "digits_relu.onnx"
    files = ("--json", tmp_path / "c.json", "--html", tmp_path / "c.html")
    done = lipcert("compare", relu, scaled, *QUICK, "--max-increase", 0.5, *files)
    assert done.status == 1
    assert f"page      {tmp_path / 'c.html'}" in done.out
    text = harmless((tmp_path / "c.html").read_text(encoding="utf-8"))
    assert "increased, proven" in text
    assert "above --max-increase 0.5" in text
    assert str(scaled) in text
    assert "increased, proven" in done.out
    assert "above --max-increase 0.5" in done.out
    assert json.loads((tmp_path / "c.json").read_text())["result"]["change"] == "increased"
    done = lipcert("compare", scaled, relu, *QUICK, "--max-increase", 0, "-q")
    assert done.status == 0
    first, second = map(float, done.out.split())
    assert first > 1.9 * second


def test_inconclusive_never_passes(lipcert: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lipcert.api.bounds.bound", lambda model, **options: report(None, 0.0))
    done = lipcert("compare", MODELS / "digits_relu.onnx", MODELS / "digits_tanh.onnx", "--max-increase", 5)
    assert done.status == 4
    assert "inconclusive" in done.out


@pytest.mark.parametrize("uppers", [(2.0, 5.0), (None, 5.0), (2.0, None), (None, None), (0.0, 1.0), (1e300, 1e-300)])
def test_a_page_says_what_is_known(uppers: tuple[float | None, float | None]) -> None:
    layer = {"node": "<b>", "operator": "dense", "l1": 1.0, "l2": 2.0, "linf": None, "attained": 1.5}
    reports = [report(upper, 0.0, digest) for upper, digest in zip(uppers, "01", strict=True)]
    compared = build_comparison(*reports)
    compared.data["layers"] = [[layer, None], [layer, {**layer, "l2": None, "attained": None}]]
    text = harmless(render_sheets([comparison_sheet(compared, 0.5)]))
    assert "not decided" in text or uppers == (1e300, 1e-300)
    assert ("--max-increase" in text) == (None not in uppers)
    for upper in uppers:
        assert ("none" if upper is None else f"{upper:.3g}") in text


def test_networks_that_do_not_fit_are_one_line(lipcert: Command, tmp_path: Path) -> None:
    relu = MODELS / "digits_relu.onnx"
    for arguments, status, words in (
        ((relu, tmp_path / "no.onnx"), 3, "no.onnx"),
        ((relu,), 2, "AFTER"),
        ((relu, relu, "--max-increase", "nan"), 2, "--max-increase"),
        ((relu, relu, "--max-increase", "-1"), 2, "--max-increase"),
        ((relu, relu, "--json", tmp_path), 2, "cannot write"),
        ((relu, relu, "--html", tmp_path), 2, "cannot write"),
        ((relu, relu, "--html", relu), 2, "write over"),
        ((relu, relu, "--box", "0,1", "--center", "0", "--eps", "1"), 2, "--box"),
        ((relu, relu, "--norm", "3"), 2, "norm"),
        ((relu, relu, "--margin", "3,11"), 2, "--margin"),
    ):
        done = lipcert("compare", *arguments)
        assert done.status == status
        assert words in done.error()


def dense(inputs: int, outputs: int) -> onnx.ModelProto:
    weights = np.ones((inputs, outputs), np.float32)
    return model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": (1, inputs)}, ["y"], {"w": weights})


def test_sizes_must_be_the_same() -> None:
    for other, words in ((dense(4, 2), "inputs of 3 and 4 numbers"), (dense(3, 5), "outputs of 2 and 5 numbers")):
        with pytest.raises(UsageError, match=words):
            api.compare(dense(3, 2), other)
    compared = api.compare(dense(3, 2), dense(3, 5), outputs=[1], method="product")
    assert compared.ratio == pytest.approx(1.0)
    assert compared.change == "undecided"
