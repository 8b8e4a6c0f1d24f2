"""`--exact`: `bound` over a region is tight, `reach` as narrow as what is attained, and `check` proves both again."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from tests.cli.conftest import Command
from tests.helpers.onnx_models import model, random_weights, save

BoundJson = Callable[..., dict[str, Any]]

REGION = ("--box", "-1,1")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3 inputs, ReLUs of 8 and 6, 2 outputs."""
    nodes, weights, last, sizes = [], {}, "x", (3, 8, 6, 2)
    for k, (n, m) in enumerate(itertools.pairwise(sizes)):
        weights[f"a{k}"] = random_weights(n, m, seed=1 + k) / np.float32(math.sqrt(n))
        weights[f"b{k}"] = np.float32(0.3) * random_weights(m, seed=51 + k)
        nodes.append(helper.make_node("MatMul", [last, f"a{k}"], [f"m{k}"]))
        nodes.append(helper.make_node("Add", [f"m{k}", f"b{k}"], [f"v{k}"]))
        nodes.append(helper.make_node("Relu", [f"v{k}"], [f"r{k}"]))
        last = f"r{k}"
    proto = model(nodes[:-1], {"x": (1, 3)}, ["v2"], weights)
    return save(proto, tmp_path_factory.mktemp("small"), "small.onnx")


@pytest.mark.parametrize("norm", ["1", "2", "inf"])
def test_the_gap_is_closed(lipcert: Command, small: Path, tmp_path: Path, norm: str) -> None:
    """By branching, to 1.01 where --gap says nothing; and the proof is checked in both arithmetics."""
    path = tmp_path / "r.json"
    done = lipcert("bound", small, *REGION, "--exact", "--norm", norm, "--json", path)
    assert (done.status, done.err) == (0, "")
    data = json.loads(path.read_text())
    assert data["result"]["status"] == "certified"
    assert 1 <= data["result"]["gap"] <= 1.01
    assert data["result"]["method"] == "local"
    assert data["certificate"]["evidence"]["is"] == "Local"
    for options in ([], ["--strict"]):
        checked = lipcert("check", path, small, *options)
        assert (checked.status, checked.err) == (0, "")


@pytest.mark.parametrize("gap", [1.0, 1.1, 1.5])
def test_the_gap_is_at_most_what_was_asked_for(bound_json: BoundJson, small: Path, gap: float) -> None:
    """Up to rounding where it is one."""
    result = bound_json(small, *REGION, "--exact", "--gap", gap)["result"]
    assert result["gap"] <= gap * (1 + 1e-6)
    assert not result["timed_out"]


def test_a_wider_gap_takes_fewer_pieces(bound_json: BoundJson, small: Path) -> None:
    def pieces(gap: float) -> int:
        evidence = bound_json(small, *REGION, "--exact", "--norm", "inf", "--gap", gap)["certificate"]["evidence"]
        return sum(part["tree"]["splits"]["shape"][0] for part in evidence["parts"] if part["is"] == "Rows")

    assert pieces(1.01) > pieces(1.5)


def test_it_is_below_what_every_other_method_says(bound_json: BoundJson, small: Path) -> None:
    """And above what each of them attains."""
    exact = bound_json(small, *REGION, "--exact", "--norm", "inf")["result"]
    for method in ("product", "lipsdp"):
        other = bound_json(small, *REGION, "--method", method, "--norm", "inf")["result"]
        assert other["lower"] <= exact["upper"] <= other["upper"]
    mip = bound_json(small, *REGION, "--method", "mip", "--norm", "inf")["result"]
    assert mip["lower"] <= exact["upper"]
    assert mip["upper"] == pytest.approx(exact["upper"], rel=0.02)
    assert mip["method"] == "mip"


def test_over_a_region_branching_is_tried_first(bound_json: BoundJson, small: Path) -> None:
    """And nothing else where the gap is closed; everywhere it is not tried."""
    methods = [a["method"] for a in bound_json(small, *REGION)["attempts"]]
    assert set(methods) == {"local"}
    assert "local" not in {a["method"] for a in bound_json(small)["attempts"]}


@pytest.mark.parametrize("ball", ["1", "2", "inf"])
def test_balls_of_every_norm(bound_json: BoundJson, small: Path, ball: str) -> None:
    region = ("--center", "0.3", "--eps", 0.5, "--ball", ball)
    result = bound_json(small, *region, "--exact", "--norm", "inf")["result"]
    assert result["gap"] <= 1.01


def test_a_margin_of_outputs(bound_json: BoundJson, small: Path) -> None:
    result = bound_json(small, *REGION, "--exact", "--margin", "0,1")["result"]
    assert result["gap"] <= 1.01


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ("--exact", "region", "--box")),
        ([*REGION, "--method", "product"], ("--exact", "product", "does not branch")),
        ([*REGION, "--method", "lipsdp"], ("--exact", "lipsdp", "does not branch")),
        ([*REGION, "--method", "mip"], ("--exact", "mip", "does not branch")),
        ([*REGION, "--method", "magic"], ("magic",)),
        ([*REGION, "--gap", "0.5"], ("--gap", "0.5")),
        ([*REGION, "--timeout", "-1"], ("--timeout", "-1")),
    ],
)
def test_what_cannot_be_exact_is_one_line(
    lipcert: Command, small: Path, tmp_path: Path, arguments: list[str], words: tuple[str, ...]
) -> None:
    done = lipcert("bound", small, *arguments, "--exact", "--json", tmp_path / "r.json")
    assert done.status == 2
    message = done.error()
    assert all(word in message for word in words)
    assert not list(tmp_path.iterdir())


def test_the_method_that_branches_may_be_named(bound_json: BoundJson, small: Path) -> None:
    result = bound_json(small, *REGION, "--exact", "--method", "local", "--norm", "inf")["result"]
    assert result["gap"] <= 1.01


def test_without_time_nothing_false_is_said(lipcert: Command, small: Path) -> None:
    """Inconclusive, or a bound that is not tight; never a fault."""
    done = lipcert("bound", small, *REGION, "--exact", "--timeout", 0, "--json", "-")
    assert (done.status, done.err) in ((0, ""), (4, ""))
    result = json.loads(done.out)["result"]
    assert result["timed_out"]
    assert result["status"] == ("certified" if done.status == 0 else "inconclusive")
    assert (result["upper"] is None) == (done.status == 4)
    assert lipcert("bound", small, *REGION, "--timeout", 0).status == 0  # other methods have something


def reach_json(lipcert: Command, *arguments: object) -> dict[str, Any]:
    done = lipcert("reach", *arguments, "--json", "-")
    assert (done.status, done.err) == (0, "")
    return json.loads(done.out, parse_constant=pytest.fail)


def test_an_exact_box_is_inside_the_other_one_and_narrower(lipcert: Command, small: Path) -> None:
    wide, narrow = (reach_json(lipcert, small, *REGION, *options)["result"] for options in ([], ["--exact"]))
    lower, upper = (np.array([box["lower"], box["upper"]]) for box in (wide, narrow))
    assert np.all(lower[0] <= upper[0])
    assert np.all(upper[1] <= lower[1])
    assert np.all(upper[1] - upper[0] < 0.9 * (lower[1] - lower[0]))
    assert "pieces" in narrow["boxes"]
    assert "pieces" not in wide["boxes"]


def test_an_exact_box_is_hardly_wider_than_what_is_attained_in_it(
    lipcert: Command, small: Path, tmp_path: Path
) -> None:
    """A hundredth, together on both sides."""
    path = tmp_path / "box.npz"
    done = lipcert("reach", small, *REGION, "--exact", "--npz", path)
    assert (done.status, done.err) == (0, "")
    with np.load(path) as box:
        assert np.all(box["lower"] <= box["attained_lower"])
        assert np.all(box["attained_upper"] <= box["upper"])
        seen = box["attained_upper"] - box["attained_lower"]
        assert np.all(box["upper"] - box["lower"] <= 1.011 * seen)


@pytest.mark.parametrize("options", [[], ["--exact"], ["--exact", "--outputs", "1"], ["--timeout", "0"]])
def test_the_arrays_are_those_of_the_report(lipcert: Command, small: Path, tmp_path: Path, options: list[str]) -> None:
    report, arrays = tmp_path / "r.json", tmp_path / "r.npz"
    done = lipcert("reach", small, *REGION, *options, "--json", report, "--npz", arrays)
    assert (done.status, done.err) == (0, "")
    data = json.loads(report.read_text())
    with np.load(arrays) as box:
        for end in ("lower", "upper"):
            assert box[end].tolist() == data["result"][end]
        assert set(box) == {"lower", "upper", "attained_lower", "attained_upper"}
        assert np.all(box["lower"] <= box["attained_lower"])
        assert np.all(box["attained_upper"] <= box["upper"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r.json", "r.npz"]
    for strict in ([], ["--strict"]):
        checked = lipcert("check", report, small, *strict)
        assert (checked.status, checked.err) == (0, "")
        assert "verified" in checked.out.split()


@pytest.mark.parametrize("name", ["missing/r.npz", ""])
def test_arrays_that_cannot_be_written_are_refused_before_any_work(
    lipcert: Command, small: Path, tmp_path: Path, name: str
) -> None:
    done = lipcert("reach", small, *REGION, "--npz", tmp_path / name)
    assert done.status == 2
    assert "--npz: cannot write" in done.error()
    assert not list(tmp_path.iterdir())


def test_an_exact_box_without_time_is_still_a_box(lipcert: Command, small: Path) -> None:
    box = reach_json(lipcert, small, *REGION, "--exact", "--timeout", 0)["result"]
    tight = reach_json(lipcert, small, *REGION)["result"]
    assert np.all(np.array(box["lower"]) <= tight["lower"])
    assert np.all(np.array(box["upper"]) >= tight["upper"])


def test_an_exact_box_needs_a_region(lipcert: Command, small: Path) -> None:
    done = lipcert("reach", small, "--exact")
    assert done.status == 2
    assert "needs a region" in done.error()
