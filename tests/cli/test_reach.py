"""`lipcert reach`: a box around the outputs, from the command line."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

import lipcert as api
from tests.cli.conftest import Command
from tests.cli.test_template_option import BENT
from tests.helpers.onnx_models import model, random_weights, save

node = helper.make_node

TEMPLATED = BENT.replace("com.example.Bent", "com.example.Odd")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs x (4) and z (3), outputs tanh(z) + x of 2 and relu(z) of 2, one of which is unbounded where z is free."""
    nodes = [
        node("MatMul", ["x", "a"], ["v"]),
        node("MatMul", ["z", "b"], ["t"]),
        node("Tanh", ["t"], ["bounded"]),
        node("Add", ["v", "bounded"], ["s"]),
        node("Relu", ["t"], ["r"]),
    ]
    weights = {"a": random_weights(4, 2), "b": random_weights(3, 2, seed=2)}
    proto = model(nodes, {"x": (1, 4), "z": (1, 3)}, ["s", "r"], weights)
    return save(proto, tmp_path_factory.mktemp("two"), "two.onnx")


@pytest.fixture(scope="module")
def pole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1 / x, of 2."""
    return save(model([node("Reciprocal", ["x"], ["y"])], {"x": (1, 2)}, ["y"]), tmp_path_factory.mktemp("pole"))


def reach_json(lipcert: Command, *arguments: object, status: int = 0) -> dict[str, Any]:
    """The report, with nothing else on stdout or stderr."""
    done = lipcert("reach", *arguments, "--json", "-")
    assert (done.status, done.err) == (status, "")
    return json.loads(done.out, parse_constant=pytest.fail)


def box(text: str) -> np.ndarray:
    """What -q prints: two numbers a line."""
    lines = [[float(part) for part in line.split(" ")] for line in text.splitlines()]
    assert all(len(line) == 2 for line in lines)
    return np.array(lines)


def test_a_person_reads_the_box(lipcert: Command, relu: Path) -> None:
    done = lipcert("reach", relu, "--center", 0, "--eps", 0.1)
    assert (done.status, done.err) == (0, "")
    assert "certified" in done.out.split()
    assert "linf ball of radius 0.1, all outputs" in done.out
    assert done.out.count("attained [") == 10
    assert "\x1b" not in done.out


def test_quiet_prints_two_numbers_for_each_output(lipcert: Command, relu: Path) -> None:
    """Those of the report, exactly."""
    region = ("--center", 0, "--eps", 0.1)
    done = lipcert("reach", relu, *region, "-q")
    assert (done.status, done.err) == (0, "")
    found = box(done.out)
    result = reach_json(lipcert, relu, *region)["result"]
    assert found.tolist() == [list(ends) for ends in zip(result["lower"], result["upper"], strict=True)]


def test_what_was_written_is_verified(lipcert: Command, relu: Path, tmp_path: Path) -> None:
    written = tmp_path / "r.json"
    done = lipcert("reach", relu, "--box", "0,0.2", "--json", written)
    assert (done.status, done.err) == (0, "")
    assert str(written) in done.out
    for options in ([], ["--strict"]):
        checked = lipcert("check", written, relu, *options)
        assert (checked.status, checked.err) == (0, "")
        assert "verified" in checked.out.split()
    quiet = lipcert("check", written, relu, "-q")
    assert (quiet.status, quiet.out, quiet.err) == (0, "", "")


@pytest.mark.parametrize(
    "region", [("--center", 0, "--eps", 0.1, "--ball", ball) for ball in ("1", "2", "inf")] + [("--box", "0,0.2")]
)
def test_the_box_is_the_one_of_the_api(lipcert: Command, relu: Path, region: tuple[object, ...]) -> None:
    found = box(lipcert("reach", relu, *region, "-q").out)
    if region[0] == "--box":
        report = api.reach(relu, region=api_box(0, 0.2))
    else:
        report = api.reach(relu, center=0, eps=0.1, ball=float(str(region[-1])))
    assert found.T.tolist() == [report.lower.tolist(), report.upper.tolist()]


def api_box(low: float, high: float) -> Any:
    from lipcert.problem import Box

    return Box(np.full(64, float(low)), np.full(64, float(high)))


def test_a_row_of_a_file(lipcert: Command, relu: Path, images: Path, tmp_path: Path) -> None:
    """The center of a csv file, scaled; and the same as an npy file."""
    row = np.loadtxt(images, delimiter=",", ndmin=2)[3, 1:] / 16
    np.save(tmp_path / "center.npy", row)
    named = ("--center", images, "--row", 3, "--skip-columns", 1, "--scale", 16)
    given = [lipcert("reach", relu, *c, "--eps", 0.01, "-q") for c in (named, ("--center", tmp_path / "center.npy"))]
    assert given[0].out == given[1].out != ""


def test_outputs_and_margins(lipcert: Command, relu: Path) -> None:
    region = ("--center", 0, "--eps", 0.05)
    every = box(lipcert("reach", relu, *region, "-q").out)
    some = box(lipcert("reach", relu, *region, "-q", "--outputs", "7,2").out)
    assert some == pytest.approx(every[[7, 2]])
    margin = box(lipcert("reach", relu, *region, "-q", "--margin", "7,2").out)
    assert margin.shape == (1, 2)
    assert margin[0, 1] <= (every[7, 1] - every[2, 0]) * (1 + 1e-9)
    assert margin[0, 0] >= (every[7, 0] - every[2, 1]) * (1 + 1e-9)


def test_inputs_that_do_not_vary_may_be_anything(lipcert: Command, two: Path) -> None:
    """tanh of them is within 1; relu of them is at least 0, and has no upper bound."""
    region = ("--center", 0, "--eps", 0.5)
    free = box(lipcert("reach", two, *region, "--input", "x", "--output", "s", "-q").out)
    fixed = box(lipcert("reach", two, *region, "--output", "s", "-q").out)
    weights = random_weights(4, 2).astype(float)
    assert np.all(free[:, 1] >= 0.5 * np.abs(weights).sum(axis=0) + 1)
    assert np.all(free[:, 1] > fixed[:, 1])
    result = reach_json(lipcert, two, *region, "--input", "x", "--output", "r")["result"]
    assert result["upper"] == [None, None]
    assert result["lower"] == pytest.approx([0.0, 0.0], abs=1e-290)


def test_the_query_names_the_inputs_that_vary(lipcert: Command, two: Path) -> None:
    done = lipcert("reach", two, "--center", 0, "--eps", 0.5, "--input", "x", "--output", "s")
    assert "inputs x (any value of the others)" in done.out


def test_an_output_must_be_chosen(lipcert: Command, two: Path) -> None:
    done = lipcert("reach", two, "--center", 0, "--eps", 0.5)
    assert (done.status, done.error()) == (2, "the model has 2 outputs (choose one with --output: s, r)")


def test_an_unbounded_box_is_inconclusive(lipcert: Command, pole: Path) -> None:
    data = reach_json(lipcert, pole, "--box", "0,1", status=4)
    assert data["result"]["status"] == "inconclusive"
    assert data["result"]["lower"] == data["result"]["upper"] == [None, None]
    done = lipcert("reach", pole, "--box", "0,1", "-q")
    assert (done.status, done.out) == (4, "-inf inf\n-inf inf\n")
    assert lipcert("reach", pole, "--box", "1,2").status == 0


@pytest.mark.parametrize("region", [("--center", 0, "--eps", 1), ("--center", 1e308, "--eps", 1.7e308)])
def test_overflow_and_poles_print_no_warnings(lipcert: Command, pole: Path, region: tuple[object, ...]) -> None:
    """Here warnings are errors; a user sees them on stderr."""
    done = lipcert("reach", pole, *region, "-q")
    assert (done.status, done.err) == (4, "")


def test_check_refuses_a_report_that_bounds_nothing(lipcert: Command, pole: Path, tmp_path: Path) -> None:
    lipcert("reach", pole, "--box", "0,1", "--json", tmp_path / "r.json")
    assert lipcert("check", tmp_path / "r.json", pole).status == 1


def test_an_output_that_is_not_read_is_explained(lipcert: Command, tmp_path: Path) -> None:
    nodes = [node("Relu", ["x"], ["y"]), node("NonZero", ["x"], ["nz"]), node("Cast", ["nz"], ["z"], to=1)]
    path = save(model(nodes, {"x": (1, 2)}, ["y", "z"]), tmp_path)
    region = ("--center", 0, "--eps", 1, "--output", "z")
    bound, reach = (lipcert(command, path, *region).error() for command in ("bound", "reach"))
    assert reach == bound


def test_a_template_makes_it_conditional(lipcert: Command, tmp_path: Path) -> None:
    """Two of the outputs do not read the op: their ends are finite."""
    (tmp_path / "odd.toml").write_text(TEMPLATED)
    nodes = [
        node("Odd", ["x"], ["o"], domain="com.example"),
        node("Relu", ["x"], ["r"]),
        node("Concat", ["o", "r"], ["y"], axis=1),
    ]
    path = save(model(nodes, {"x": (1, 2)}, ["y"], domains={"com.example": 1}), tmp_path)
    written = tmp_path / "r.json"
    options = ("--box", "-1,2", "--template", tmp_path / "odd.toml")
    done = lipcert("reach", path, *options, "--json", written)
    assert (done.status, done.err) == (0, "")
    assert "conditional" in done.out.split()
    assert "certified" not in done.out
    assert "assumes" in done.out
    data = json.loads(written.read_text())
    assert data["result"]["status"] == "conditional"
    assert data["result"]["upper"][:2] == [None, None]
    assert data["result"]["upper"][2] == pytest.approx(2)
    checked = lipcert("check", written, path)
    assert (checked.status, checked.err) == (0, "")
    assert "verified if" in checked.out
    assert "odd" in lipcert("reach", path, "--box", "-1,2").error().lower()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "reach needs a region"),
        (["--center", "0"], "needs both"),
        (["--eps", "1"], "needs both"),
        (["--center", "0", "--eps", "nan"], "--eps"),
        (["--center", "0", "--eps", "-1"], "--eps"),
        (["--center", "0,1", "--eps", "1"], "holds 2 numbers"),
        (["--center", "missing.npy", "--eps", "1"], "missing.npy"),
        (["--box", "0,nan"], "NaN"),
        (["--box", "1,0"], "above upper"),
        (["--box", "0"], "LOWER,UPPER"),
        (["--box", "missing.npy,1"], "missing.npy"),
        (["--box", "0,1", "--center", "0", "--eps", "1"], "both give a region"),
        (["--box", "0,1", "--ball", "2"], "--ball"),
        (["--box", "0,1", "--row", "1"], "--row"),
        (["--spec", "missing.vnnlib"], "missing.vnnlib"),
        (["--box", "0,1", "--outputs", "10"], "no output 10"),
        (["--box", "0,1", "--outputs", "1", "--margin", "1,2"], "both choose outputs"),
        (["--box", "0,1", "--margin", "1,1"], "different"),
        (["--box", "0,1", "--input", "nothing"], "no input 'nothing'"),
        (["--box", "0,1", "--output", "nothing"], "no output 'nothing'"),
        (["--box", "0,1", "--template", "missing.toml"], "missing.toml"),
        (["--box", "0,1", "--timeout", "-1"], "--timeout"),
        (["--box", "0,1", "--norm", "2"], "--norm"),
        (["--box", "0,1", "--max", "2"], "--max"),
    ],
)
def test_wrong_usage_is_one_line_and_writes_nothing(
    lipcert: Command, relu: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    done = lipcert("reach", relu, *arguments, "--json", tmp_path / "r.json")
    assert done.status == 2
    assert words in done.error()
    assert not list(tmp_path.iterdir())


def test_a_box_of_files(lipcert: Command, relu: Path, tmp_path: Path) -> None:
    """Of the right size, without NaN."""
    for name, array in (("low", np.zeros(64)), ("short", np.ones(63)), ("nan", np.full(64, math.nan))):
        np.save(tmp_path / f"{name}.npy", array)
    low = tmp_path / "low.npy"
    assert lipcert("reach", relu, "--box", f"{low},0.1", "-q").status == 0
    for other in ("short", "nan"):
        done = lipcert("reach", relu, "--box", f"{low},{tmp_path / other}.npy")
        assert done.status == 2
        assert "--box" in done.error()


def test_a_model_that_is_missing_or_none(lipcert: Command, images: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "missing.onnx", images):
        done = lipcert("reach", path, "--box", "0,1", "--json", tmp_path / "r.json")
        assert done.status == 3
        assert path.name in done.error()
    assert not list(tmp_path.iterdir())


def test_acas_xu_over_a_specification(lipcert: Command, test_data: Path, tmp_path: Path) -> None:
    network, written = test_data / "models" / "acasxu_1_1.onnx", tmp_path / "r.json"
    done = lipcert("reach", network, "--spec", test_data / "models" / "prop_3.vnnlib", "--json", written)
    assert (done.status, done.err) == (0, "")
    assert lipcert("check", written, network).status == 0


def test_bound_still_has_the_options_of_a_region(lipcert: Command) -> None:
    """And reach has the same."""
    names = "center eps ball row skip-columns scale layout box spec outputs margin"
    for command in ("bound", "reach"):
        done = lipcert(command, "--help")
        assert done.status == 0
        for name in names.split():
            assert f"--{name} " in done.out, (command, name)
