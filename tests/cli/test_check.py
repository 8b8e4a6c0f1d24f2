"""`lipcert check`: verified, refused, or in the wrong hands."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lipcert as api
from tests.cli.conftest import Command
from tests.helpers.paths import MODELS

Data = dict[str, Any]


@pytest.fixture(scope="module")
def data() -> Data:
    report = api.bound(MODELS / "digits_relu.onnx", center=np.full(64, 0.5), eps=0.01, norm="inf")
    return json.loads(report.to_json())


@pytest.fixture
def report(data: Data, tmp_path: Path) -> Path:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(data))
    return path


@pytest.mark.parametrize("strict", [[], ["--strict"]], ids=["float64", "strict"])
def test_what_holds_is_verified(lipcert: Command, report: Path, relu: Path, strict: list[str]) -> None:
    done = lipcert("check", *strict, report, relu)
    assert (done.status, done.err) == (0, "")
    assert "verified" in done.out
    assert "linf ball of radius 0.01" in done.out
    assert ("ball arithmetic" in done.out) == bool(strict)


def test_quiet_prints_nothing(lipcert: Command, report: Path, relu: Path) -> None:
    for option in ("--quiet", "-q"):
        done = lipcert("check", option, report, relu)
        assert (done.status, done.out, done.err) == (0, "", "")


EDITS: dict[str, tuple[Callable[[Data], Any], str]] = {
    "a lower upper": (lambda d: d["result"].update(upper=d["result"]["upper"] / 2), "result.upper"),
    "a lower claim": (lambda d: d["certificate"].update(value="0x1p-10"), "above the claimed"),
    "a higher lower": (lambda d: d["result"].update(lower=d["result"]["upper"]), "below result.lower"),
    "another gap": (lambda d: d["result"].update(gap=2.0), "result.gap"),
    "a wider ball": (lambda d: d["query"]["region"].update(eps=(10.0).hex()), "above the claimed"),
    "another model": (lambda d: d["model"].update(sha256="0" * 64), "another model"),
    "no certificate": (lambda d: d.pop("certificate"), "certificate"),
    "no witness": (lambda d: d["result"].update(witness=None), "witness"),
    "another status": (lambda d: d["result"].update(status="inconclusive"), "inconclusive"),
    "another schema": (lambda d: d.update(schema="lipcert/report/2"), "lipcert/report/1"),
    "an output that is not there": (
        lambda d: d["query"].update(outputs={"kind": "some", "indices": [10]}),
        "output 10",
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_refusal_is_one_line_and_status_1(
    lipcert: Command, data: Data, relu: Path, tmp_path: Path, name: str
) -> None:
    edit, words = EDITS[name]
    edited = copy.deepcopy(data)
    edit(edited)
    (tmp_path / "edited.json").write_text(json.dumps(edited))
    done = lipcert("check", tmp_path / "edited.json", relu)
    assert done.status == 1
    assert words in done.error()
    assert lipcert("check", "--quiet", tmp_path / "edited.json", relu).status == 1


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "NaN", '{"schema": 1}', "[" * 10_000, "\ufeff{}"])
def test_what_is_no_report_is_refused(lipcert: Command, relu: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "edited.json").write_text(text)
    done = lipcert("check", tmp_path / "edited.json", relu)
    assert done.status == 1
    assert "edited.json" in done.error()


def test_what_cannot_be_read_is_wrong_usage(lipcert: Command, relu: Path, tmp_path: Path) -> None:
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "missing.json", tmp_path, tmp_path / "binary.json"):
        done = lipcert("check", path, relu)
        assert done.status == 2
        assert str(path) in done.error()


def test_a_model_that_cannot_be_read_is_status_3(lipcert: Command, report: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "missing.onnx", tmp_path):
        done = lipcert("check", report, path)
        assert done.status == 3
        assert str(path) in done.error()


def test_another_model_is_refused(lipcert: Command, report: Path, conv: Path) -> None:
    done = lipcert("check", report, conv)
    assert done.status == 1
    assert "another model" in done.error()


@pytest.mark.parametrize("arguments", [[], ["report.json"], ["a", "b", "c"], ["--nothing", "a", "b"]])
def test_wrong_usage(lipcert: Command, arguments: list[str]) -> None:
    done = lipcert("check", *arguments)
    assert done.status == 2
    assert "check" in done.error()


@pytest.mark.parametrize("field", ["description", "path", "claim"])
def test_nothing_that_was_not_verified_is_shown_as_if_it_were(
    lipcert: Command, data: Data, relu: Path, tmp_path: Path, field: str
) -> None:
    """Words for people in a report are not what is checked: the region is described anew, from its numbers."""
    edited = copy.deepcopy(data)
    part = {"description": edited["query"]["region"], "path": edited["model"], "claim": edited["result"]}[field]
    part[field] = "everywhere, for all\x1b[2J"
    (tmp_path / "edited.json").write_text(json.dumps(edited))
    done = lipcert("check", tmp_path / "edited.json", relu)
    assert done.status == 0
    assert "everywhere" not in done.out
    assert "linf ball of radius 0.01" in done.out


def test_words_that_are_missing_do_not_matter(lipcert: Command, data: Data, relu: Path, tmp_path: Path) -> None:
    """A report that check accepts is also one that it can print."""
    edited = copy.deepcopy(data)
    del edited["query"]["region"]["description"], edited["query"]["inputs"], edited["attempts"], edited["tool"]
    (tmp_path / "edited.json").write_text(json.dumps(edited))
    done = lipcert("check", tmp_path / "edited.json", relu)
    assert done.status in (0, 1)
    assert done.status == 0 or done.error()
