"""Each option of `lipcert bound`: what it asks, and what it says when it is wrong."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from lipcert.certificate.encoding import decode_query
from lipcert.planning import METHODS
from lipcert.problem import Ball, Box, Everywhere, Margin, Problem, Query, SomeOutputs
from tests.cli.conftest import Command
from tests.helpers.onnx_models import model, random_weights, save

BoundJson = Callable[..., dict[str, Any]]
INF = float("inf")

QUICK = ("--method", "product")
"""Where a test is about the question, not the answer."""


def query_of(report: dict[str, Any]) -> Query:
    return decode_query(report["query"])


def pixels(images: Path, row: int) -> np.ndarray:
    return np.loadtxt(images, delimiter=",")[row, 1:]


def test_a_person_reads_the_verdict(lipcert: Command, relu: Path) -> None:
    done = lipcert("bound", relu)
    assert (done.status, done.err) == (0, "")
    assert "certified" in done.out
    assert "Lipschitz constant at most" in done.out
    assert "attained" in done.out
    assert "l2 -> l2, everywhere, all outputs" in done.out
    assert str(relu) in done.out
    assert len(done.out.splitlines()) <= 8
    assert "\x1b" not in done.out


def test_quiet_prints_the_number_alone(lipcert: Command, relu: Path) -> None:
    done = lipcert("bound", relu, "--quiet")
    assert (done.status, done.err) == (0, "")
    assert 20 < float(done.out) < 30
    assert done.out == f"{float(done.out)!r}\n" == lipcert("bound", relu, "-q").out


def test_json_to_stdout_is_nothing_else(lipcert: Command, relu: Path) -> None:
    done = lipcert("bound", relu, "--json", "-")
    assert (done.status, done.err) == (0, "")
    assert json.loads(done.out)["result"]["status"] == "certified"


def test_json_to_a_file(lipcert: Command, relu: Path, tmp_path: Path) -> None:
    done = lipcert("bound", relu, "--json", tmp_path / "out.json")
    assert done.status == 0
    assert str(tmp_path / "out.json") in done.out
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["model"]["path"] == str(relu)
    assert os.listdir(tmp_path) == ["out.json"]


@pytest.mark.parametrize(
    ("options", "norms"),
    [
        ([], (2, 2)),
        (["--norm", "1"], (1, 1)),
        (["--norm", "2"], (2, 2)),
        (["--norm", "inf"], (INF, INF)),
        (["--norm-in", "inf"], (INF, 2)),
        (["--norm-out", "1"], (2, 1)),
        (["--norm", "1", "--norm-in", "inf", "--norm-out", "2"], (INF, 2)),
    ],
)
def test_norms(bound_json: BoundJson, relu: Path, options: list[str], norms: tuple[float, float]) -> None:
    query = query_of(bound_json(relu, *options, "--timeout", 3))
    assert (query.norm_in, query.norm_out) == norms
    assert isinstance(query.region, Everywhere)


def ball_of(report: dict[str, Any]) -> Ball:
    region = query_of(report).region
    assert isinstance(region, Ball)
    return region


def test_a_ball_around_a_row_of_a_csv_file(bound_json: BoundJson, relu: Path, images: Path) -> None:
    options = ["--center", images, "--row", 3, "--skip-columns", 1, "--scale", 16, "--eps", 0.01]
    ball = ball_of(bound_json(relu, *options, *QUICK))
    assert np.array_equal(ball.center, pixels(images, 3) / 16)
    assert (ball.eps, ball.norm) == (0.01, 2)


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_a_ball_around_an_array(bound_json: BoundJson, relu: Path, tmp_path: Path, suffix: str) -> None:
    center, path = np.random.default_rng(0).random((3, 8, 8)), tmp_path / f"x.{suffix}"
    if suffix == "npy":
        np.save(path, center)
    else:
        np.savez(path, center)
    ball = ball_of(bound_json(relu, "--center", path, "--row", 2, "--eps", 0.5, "--norm", "inf", *QUICK))
    assert np.array_equal(ball.center, center[2].reshape(-1))
    assert (ball.eps, ball.norm) == (0.5, INF)


@pytest.mark.parametrize(("text", "center"), [("0", 0.0), ("-1.5", -1.5), (",".join(["0.25"] * 64), 0.25)])
def test_a_ball_around_numbers(bound_json: BoundJson, relu: Path, text: str, center: float) -> None:
    assert np.all(ball_of(bound_json(relu, "--center", text, "--eps", 0.1, *QUICK)).center == center)


@pytest.mark.parametrize(("ball", "norm"), [("1", 1), ("2", 2), ("inf", INF)])
def test_the_norm_of_the_ball(bound_json: BoundJson, relu: Path, ball: str, norm: float) -> None:
    report = bound_json(relu, "--center", 0, "--eps", 0.1, "--ball", ball, "--norm", 1, *QUICK)
    assert ball_of(report).norm == norm
    assert query_of(report).norm_in == 1


def test_layout(bound_json: BoundJson, conv: Path, images: Path) -> None:
    options = [conv, "--center", images, "--skip-columns", 1, "--eps", 0.1, *QUICK]
    for layout in ("chw", "hwc"):  # one channel: the same
        assert np.array_equal(ball_of(bound_json(*options, "--layout", layout)).center, pixels(images, 0))


def test_a_box_of_numbers_and_of_files(bound_json: BoundJson, relu: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "lower.npy", np.zeros(64))
    np.save(tmp_path / "upper.npy", np.ones(64))
    for text in ("0,1", f"{tmp_path}/lower.npy,{tmp_path}/upper.npy", f"0,{tmp_path}/upper.npy"):
        region = query_of(bound_json(relu, "--box", text, *QUICK)).region
        assert isinstance(region, Box)
        assert np.all(region.lower == 0)
        assert np.all(region.upper == 1)


@pytest.mark.parametrize(("lower", "upper"), [("0.25", "0.75"), ("0", "1"), ("-1", "2e-1")])
def test_the_box_of_a_specification(bound_json: BoundJson, relu: Path, tmp_path: Path, lower: str, upper: str) -> None:
    """VNN-LIB 1.0, as competitions use it: bounds may be integers."""
    inputs = (f"(assert (>= X_{i} {lower}))\n(assert (<= X_{i} {upper}))" for i in range(64))
    declared = [
        *(f"(declare-const X_{i} Real)" for i in range(64)),
        *(f"(declare-const Y_{i} Real)" for i in range(10)),
    ]
    (tmp_path / "prop.vnnlib").write_text("\n".join((*declared, *inputs, "(assert (>= Y_0 Y_1))")))
    region = query_of(bound_json(relu, "--spec", tmp_path / "prop.vnnlib", *QUICK)).region
    assert isinstance(region, Box)
    assert np.all((region.lower <= float(lower)) & (region.lower > float(lower) - 1e-9))
    assert np.all((region.upper >= float(upper)) & (region.upper < float(upper) + 1e-9))


def test_a_specification_that_is_wrong_in_many_places_is_still_one_line(
    lipcert: Command, relu: Path, tmp_path: Path
) -> None:
    lines = [f"(declare-const X_{i} Real)\n(assert (>= X_{i} Z_{i}))" for i in range(64)]
    (tmp_path / "prop.vnnlib").write_text("\n".join(lines))
    done = lipcert("bound", relu, "--spec", tmp_path / "prop.vnnlib")
    assert done.status == 2
    assert "--spec" in done.error()


def test_outputs_and_margins(bound_json: BoundJson, relu: Path) -> None:
    assert query_of(bound_json(relu, "--outputs", 7)).outputs == SomeOutputs((7,))
    assert query_of(bound_json(relu, "--outputs", "0,3")).outputs == SomeOutputs((0, 3))
    assert query_of(bound_json(relu, "--margin", "3,5")).outputs == Margin(3, 5)


def test_names_of_inputs_and_outputs(bound_json: BoundJson, relu: Path) -> None:
    query = query_of(bound_json(relu, "--input", "image", "--output", "logits"))
    assert (query.inputs, query.output) == (("image",), "logits")


def test_method_device_and_timeout(bound_json: BoundJson, relu: Path) -> None:
    for method, best in (("auto", "lipsdp"), ("product", "product"), ("lipsdp", "lipsdp"), ("gram", "gram")):
        report = bound_json(relu, "--method", method, "--device", "cpu", "--timeout", 30)
        assert report["result"]["method"] == best
        assert not report["result"]["timed_out"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers of six, 3 inputs and 2 outputs."""
    weights = {"a": random_weights(6, 3, seed=61), "b": random_weights(2, 6, seed=62)}
    nodes = [
        helper.make_node("Gemm", ["x", "a"], ["v"], transB=1),
        helper.make_node("Relu", ["v"], ["w"]),
        helper.make_node("Gemm", ["w", "b"], ["y"], transB=1),
    ]
    return save(model(nodes, {"x": (1, 3)}, ["y"], weights), tmp_path_factory.mktemp("small"), "small.onnx")


@pytest.mark.parametrize("solver", ["native", "clarabel", "scs"])
def test_solver(bound_json: BoundJson, lipcert: Command, small: Path, tmp_path: Path, solver: str) -> None:
    """The bound is the same but for the solvers' precision, proven, and the report says what the solver said."""
    usual = bound_json(small, "--method", "lipsdp")["result"]["upper"]
    path = tmp_path / "report.json"
    done = lipcert("bound", small, "--method", "lipsdp", "--solver", solver, "--json", path)
    assert (done.status, done.err) == (0, "")
    report = json.loads(path.read_text())
    assert report["result"]["upper"] == pytest.approx(usual, rel=1e-4)
    assert report["certificate"]["evidence"]["is"] == "Inequality"
    says = f"{solver} says optimal"
    assert (says in report["attempts"][0]["reason"]) == (says in " ".join(done.out.split())) == (solver != "native")
    for strict in ([], ["--strict"]):
        assert lipcert("check", *strict, path, small).status == 0


def test_the_solver_is_used_by_auto(bound_json: BoundJson, small: Path) -> None:
    reasons = [attempt["reason"] for attempt in bound_json(small, "--solver", "clarabel")["attempts"]]
    assert any("clarabel says" in reason for reason in reasons if reason)


def test_a_solver_without_a_licence_is_refused_before_any_work(
    lipcert: Command, relu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MOSEKLM_LICENSE_FILE", raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    done = lipcert("bound", relu, "--solver", "mosek")
    assert done.status == 2
    message = done.error()
    assert all(word in message for word in ("--solver mosek", "MOSEKLM_LICENSE_FILE", "mosek.lic", "clarabel"))


def test_a_certificate_is_written_where_something_is_certified(lipcert: Command, small: Path, tmp_path: Path) -> None:
    path, both = tmp_path / "certificate.json", tmp_path / "both"
    done = lipcert("bound", small, "--certificate", path)
    assert (done.status, done.err) == (0, "")
    assert str(path) in done.out
    assert lipcert("check", path, small).status == 0
    both.mkdir()
    assert lipcert("bound", small, "--json", both / "a.json", "--certificate", both / "b.json").status == 0
    assert sorted(os.listdir(both)) == ["a.json", "b.json"]
    assert (both / "a.json").read_text() == (both / "b.json").read_text()
    over = lipcert("bound", small, "--max", 0, "--certificate", tmp_path / "over.json")
    assert over.status == 1  # above the limit, yet certified
    assert lipcert("check", tmp_path / "over.json", small).status == 0


def test_a_certificate_on_stdout_is_nothing_else(lipcert: Command, small: Path) -> None:
    done = lipcert("bound", small, "--certificate", "-")
    assert (done.status, done.err) == (0, "")
    assert json.loads(done.out)["result"]["status"] == "certified"


class Declining:
    """A method that takes nothing."""

    name = "lipsdp"

    def accepts(self, problem: Problem) -> str:
        return "not today"


def test_no_certificate_is_written_where_nothing_is_certified(
    lipcert: Command, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report is written all the same, where it is asked for."""
    monkeypatch.setitem(METHODS, "lipsdp", Declining)
    certificate, report = tmp_path / "certificate.json", tmp_path / "report.json"
    options = [small, "--method", "lipsdp", "--certificate", certificate]
    done = lipcert("bound", *options)
    assert (done.status, os.listdir(tmp_path)) == (4, [])
    assert str(certificate) not in done.out  # which is not there to be checked
    assert lipcert("bound", *options, "--json", report).status == 4
    assert os.listdir(tmp_path) == ["report.json"]
    assert json.loads(report.read_text())["result"]["status"] == "inconclusive"


def test_a_gap_that_is_reached_ends_the_run(bound_json: BoundJson, relu: Path) -> None:
    loose, tight = (bound_json(relu, "--gap", gap) for gap in (1e9, 1))
    assert len(loose["attempts"]) < len(tight["attempts"])
    assert loose["result"]["upper"] >= tight["result"]["upper"]


@pytest.mark.parametrize(("limit", "status"), [(1e6, 0), (1, 1), (0, 1)])
def test_a_limit(lipcert: Command, relu: Path, limit: float, status: int) -> None:
    done = lipcert("bound", relu, "--max", limit)
    assert done.status == status
    assert ("within" in done.out and "not within" not in done.out) == (status == 0)
    assert lipcert("bound", relu, "--max", limit, "--quiet").status == status


def test_a_limit_that_is_exactly_the_bound_holds(lipcert: Command, relu: Path) -> None:
    upper = lipcert("bound", relu, "--quiet").out.strip()
    assert lipcert("bound", relu, "--max", upper).status == 0
    assert lipcert("bound", relu, "--max", np.nextafter(float(upper), 0)).status == 1


WRONG: list[tuple[str, list[object], list[str]]] = [
    ("a norm", ["--norm", "3"], ["--norm:", "3", "1, 2 or inf"]),
    ("an input norm", ["--norm-in", "x"], ["--norm-in", "x"]),
    ("an output norm", ["--norm-out", "x"], ["--norm-out", "x"]),
    ("a ball's norm", ["--center", 0, "--eps", 1, "--ball", "7"], ["--ball", "7"]),
    ("no radius", ["--center", 0], ["--center", "--eps"]),
    ("no center", ["--eps", 1], ["--center", "--eps"]),
    ("a negative radius", ["--center", 0, "--eps", -1], ["--eps", "-1"]),
    ("a radius that is NaN", ["--center", 0, "--eps", "nan"], ["--eps", "nan"]),
    ("an infinite radius", ["--center", 0, "--eps", "inf"], ["--eps", "inf"]),
    ("a radius that is no number", ["--center", 0, "--eps", "x"], ["--eps", "x"]),
    ("a center that is NaN", ["--center", "nan", "--eps", 1], ["--center"]),
    ("a center of another size", ["--center", "1,2", "--eps", 1], ["--center", "2 numbers", "64"]),
    ("a center that is no file", ["--center", "missing.csv", "--eps", 1], ["--center", "missing.csv"]),
    ("a center of an unknown kind", ["--center", "missing.txt", "--eps", 1], ["--center", "missing.txt", ".npy"]),
    ("a row that is not there", ["--center", "IMAGES", "--row", 10**6, "--eps", 1], ["row 1000000"]),
    ("a negative row", ["--center", "IMAGES", "--row", -1, "--eps", 1], ["row -1"]),
    ("a row with a label", ["--center", "IMAGES", "--eps", 1], ["65 numbers", "--skip-columns"]),
    ("columns that are negative", ["--center", 0, "--eps", 1, "--skip-columns", -1], ["--skip-columns", "-1"]),
    ("a scale of zero", ["--center", 0, "--eps", 1, "--scale", 0], ["--scale", "0"]),
    ("an unknown layout", ["--center", 0, "--eps", 1, "--layout", "whc"], ["--layout", "whc"]),
    ("a layout of what is no image", ["--center", 0, "--eps", 1, "--layout", "hwc"], ["--layout", "image"]),
    ("half a box", ["--box", 1], ["--box", "1"]),
    ("a box upside down", ["--box", "1,0"], ["--box", "above"]),
    ("a box that is NaN", ["--box", "nan,1"], ["--box", "NaN"]),
    ("an unbounded box", ["--box", "0,inf"], ["--box", "Inf"]),
    ("no specification", ["--spec", "missing.vnnlib"], ["--spec", "missing.vnnlib"]),
    ("what is no specification", ["--spec", "IMAGES"], ["--spec", "digits_test.csv"]),
    ("two regions", ["--box", "0,1", "--center", 0, "--eps", 1], ["--box", "--center"]),
    ("two other regions", ["--box", "0,1", "--spec", "x"], ["--box", "--spec"]),
    ("a ball's norm without a ball", ["--ball", 2], ["--ball"]),
    ("an output that is not there", ["--outputs", 10], ["--outputs", "10", "0 to 9"]),
    ("a negative output", ["--outputs", -1], ["--outputs", "-1"]),
    ("what is no output", ["--outputs", "a"], ["--outputs", "a"]),
    ("an output twice", ["--outputs", "1,1"], ["--outputs", "1,1"]),
    ("half a margin", ["--margin", 1], ["--margin", "1"]),
    ("a margin of nothing", ["--margin", "1,1"], ["--margin", "1,1"]),
    ("a margin of what is not there", ["--margin", "1,10"], ["--margin", "10"]),
    ("outputs and a margin", ["--outputs", 1, "--margin", "1,2"], ["--outputs", "--margin"]),
    ("an unknown input", ["--input", "nothing"], ["--input", "nothing", "image"]),
    ("an input twice", ["--input", "image", "--input", "image"], ["--input"]),
    ("an unknown output", ["--output", "nothing"], ["--output", "nothing", "logits"]),
    ("an unknown method", ["--method", "magic"], ["--method", "magic", "product"]),
    ("an unknown solver", ["--solver", "magic"], ["--solver", "magic", "clarabel"]),
    ("a solver of nothing", ["--solver", "scs", "--method", "product"], ["--solver", "product", "lipsdp"]),
    ("a negative timeout", ["--timeout", -1], ["--timeout", "-1"]),
    ("a timeout that is NaN", ["--timeout", "nan"], ["--timeout", "nan"]),
    ("a gap below one", ["--gap", 0.5], ["--gap", "0.5"]),
    ("an unknown device", ["--device", "abacus"], ["--device", "abacus"]),
    ("a negative limit", ["--max", -1], ["--max", "-1"]),
    ("a limit that is NaN", ["--max", "nan"], ["--max", "nan"]),
    ("an infinite limit", ["--max", "inf"], ["--max", "inf"]),
    ("a folder that is not there", ["--json", "missing/out.json"], ["--json", "missing/out.json"]),
    ("a folder of certificates", ["--certificate", "missing/c.json"], ["--certificate", "missing/c.json"]),
    ("an unknown option", ["--nothing"], ["--nothing"]),
    ("two models", ["again.onnx"], ["again.onnx"]),
]


@pytest.mark.parametrize(("options", "words"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_what_is_wrong_is_said_in_one_line(
    lipcert: Command, relu: Path, images: Path, options: list[object], words: list[str]
) -> None:
    """It names the option, and the exit status is 2."""
    done = lipcert("bound", relu, *(images if option == "IMAGES" else option for option in options))
    assert done.status == 2
    message = done.error()
    assert all(word in message for word in words), message


def test_a_damaged_row_names_the_column(lipcert: Command, relu: Path, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(",".join(["1"] * 20 + ["x"] + ["1"] * 43) + "\n")
    message = lipcert("bound", relu, "--center", tmp_path / "x.csv", "--eps", 1).error()
    assert "column 20" in message
    assert "'x'" in message


def test_objects_are_never_unpickled(lipcert: Command, relu: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    done = lipcert("bound", relu, "--center", tmp_path / "x.npy", "--eps", 1)
    assert done.status == 2
    assert "--center" in done.error()


def test_the_format_of_a_report_does_not_depend_on_the_terminal(
    lipcert: Command, relu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    assert str(relu) in lipcert("bound", relu).out
