"""`lipcert monotone`: certified, refuted by a counterexample, or neither; and what `check` makes of its report."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from lipcert.certificate.encoding import decode_array, encode_array
from tests.cli.conftest import Command
from tests.helpers.onnx_models import model, random_weights, save

Data = dict[str, Any]
Edit = Callable[[Data], Any]

node = helper.make_node


@pytest.fixture(scope="module")
def rising(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Leaky ReLUs between weights of one sign: 2 outputs that rise with inputs 0 and 3, and fall with 1 and 2."""
    first = np.abs(random_weights(4, 8, seed=1)) * np.array([[1], [-1], [-1], [1]], np.float32)
    weights = {"a": first, "b": random_weights(8, seed=2), "c": np.abs(random_weights(8, 2, seed=3))}
    nodes = [
        node("MatMul", ["x", "a"], ["v"]),
        node("Add", ["v", "b"], ["h"]),
        node("LeakyRelu", ["h"], ["r"], alpha=0.1),
        node("MatMul", ["r", "c"], ["y"]),
    ]
    return save(model(nodes, {"x": (1, 4)}, ["y"], weights), tmp_path_factory.mktemp("rising"))


def bent(folder: Path, slopes: list[float], weights: list[float]) -> Path:
    """relu of slopes times x0 - (0, 1, 1), weighted, plus x0 / 2 + x1 / 100."""
    first = np.zeros((2, 4), np.float32)
    first[0, :3], first[1, 3] = slopes, 1
    values = {
        "a": first,
        "b": np.array([0, -1, -1, 10], np.float32),
        "c": np.array([[*weights, 0.01]], np.float32).T,
        "d": np.array([[0.5], [0]], np.float32),
    }
    nodes = [
        node("MatMul", ["x", "a"], ["v"]),
        node("Add", ["v", "b"], ["h"]),
        node("Relu", ["h"], ["r"]),
        node("MatMul", ["r", "c"], ["s"]),
        node("MatMul", ["x", "d"], ["t"]),
        node("Add", ["s", "t"], ["y"]),
    ]
    return save(model(nodes, {"x": (1, 2)}, ["y"], values), folder)


@pytest.fixture(scope="module")
def turning(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slopes in x0: 1/2 below 0, 3/2 up to 1, -1/2 beyond."""
    return bent(tmp_path_factory.mktemp("turning"), [1, 1, 0], [1, -2, 0])


@pytest.fixture(scope="module")
def hidden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slopes in x0: 1/2 below 0, 3/2 up to 1/2, 7/10 beyond: only cuts show that what comes last is never alone."""
    return bent(tmp_path_factory.mktemp("hidden"), [1, 0, 2], [1, 0, -0.4])


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> str:
    """lo.npy,hi.npy of 4 inputs."""
    folder = tmp_path_factory.mktemp("box")
    np.save(folder / "lo.npy", np.array([-1.0, -0.5, 0.0, -2.0]))
    np.save(folder / "hi.npy", np.array([1.0, 0.5, 1.5, 2.0]))
    return f"{folder}/lo.npy,{folder}/hi.npy"


def monotone_json(lipcert: Command, *arguments: object, status: int) -> Data:
    """The report, with nothing else on stdout or stderr."""
    done = lipcert("monotone", *arguments, "--json", "-")
    assert (done.status, done.err) == (status, "")
    return json.loads(done.out, parse_constant=pytest.fail)


PART = ("--inputs", 0, "--box", "0,2.5", "--timeout", 1)
"""Of `turning`: the slope is right on 2/5 of it."""


def test_the_line_of_the_first_page(lipcert: Command, rising: Path, box: str) -> None:
    done = lipcert("monotone", rising, "--inputs", "0,3", "--increasing", "--box", box)
    assert (done.status, done.err) == (0, "")
    assert "certified" in done.out.split()
    assert "increasing in inputs 0, 3" in done.out
    assert "all of the region" in done.out
    assert str(rising) in done.out
    assert "\x1b" not in done.out


def test_increasing_is_the_default(lipcert: Command, rising: Path, box: str) -> None:
    data = monotone_json(lipcert, rising, "--inputs", "0,3", "--box", box, status=0)
    assert data["result"]["increasing"] is True
    assert data["result"]["inputs"] == [0, 3]


def test_decreasing(lipcert: Command, rising: Path, box: str) -> None:
    done = lipcert("monotone", rising, "--inputs", "2,1", "--decreasing", "--box", box)
    assert (done.status, done.err) == (0, "")
    assert "decreasing in inputs 2, 1" in done.out
    wrong = lipcert("monotone", rising, "--inputs", "0,3", "--decreasing", "--box", box, "--timeout", 1)
    assert wrong.status == 1
    assert "is at least" in wrong.out


def test_the_wrong_sign_is_shown_at_a_point(lipcert: Command, turning: Path) -> None:
    done = lipcert("monotone", turning, *PART)
    assert (done.status, done.err) == (1, "")
    assert "refuted" in done.out.split()
    assert "d output 0 / d input 0 is at most -0.5 at a point, proven" in done.out
    data = monotone_json(lipcert, turning, *PART, status=1)
    point = decode_array(data["counterexample"]["point"], "point")
    assert 1 <= point[0] <= 2.5
    assert 0 <= point[1] <= 2.5
    assert data["result"]["derivative"] == pytest.approx(-0.5, rel=1e-9)
    assert 0.35 < data["result"]["share"] <= 0.4


def test_the_other_input_of_it_is_certified(lipcert: Command, turning: Path) -> None:
    assert lipcert("monotone", turning, "--inputs", 1, "--box", "0,2.5").status == 0
    assert lipcert("monotone", turning, "--inputs", "0,1", "--box", "0,2.5", "--timeout", 1).status == 1
    assert lipcert("monotone", turning, "--inputs", "0,1", "--box", "0,0.9").status == 0


def test_a_tolerance_allows_it(lipcert: Command, turning: Path) -> None:
    assert lipcert("monotone", turning, *PART, "--tolerance", 0.501).status == 0
    done = lipcert("monotone", turning, *PART, "--tolerance", 0.499)
    assert done.status == 1
    assert "up to 0.499" in done.out


def test_without_time_it_is_inconclusive(lipcert: Command, hidden: Path) -> None:
    """Which never passes; with time it is certified."""
    region = ("--inputs", 0, "--box", "-1,1")
    done = lipcert("monotone", hidden, *region, "--timeout", 0)
    assert (done.status, done.err) == (4, "")
    assert "inconclusive" in done.out.split()
    data = monotone_json(lipcert, hidden, *region, "--timeout", 0, status=4)
    assert (data["counterexample"], data["result"]["derivative"]) == (None, None)
    assert lipcert("monotone", hidden, *region).status == 0


@pytest.mark.parametrize("region", [("--center", 1, "--eps", 0.5), ("--center", "1,1", "--eps", 0.5, "--ball", 2)])
def test_a_ball_may_be_the_region(lipcert: Command, turning: Path, region: tuple[object, ...]) -> None:
    """In l-infinity, unless --ball says otherwise."""
    data = monotone_json(lipcert, turning, "--inputs", 0, *region, "--timeout", 2, status=1)
    assert data["query"]["region"]["norm"] == ("2" if "--ball" in region else "inf")
    point = decode_array(data["counterexample"]["point"], "point")
    assert 1 <= point[0] <= 1.5


def test_quiet_prints_the_share(lipcert: Command, turning: Path, rising: Path, box: str) -> None:
    assert lipcert("monotone", rising, "--inputs", 0, "--box", box, "-q").out == "1.0\n"
    done = lipcert("monotone", turning, *PART, "--quiet")
    assert done.status == 1
    assert 0.35 < float(done.out) <= 0.4


def test_chosen_outputs_and_margins(lipcert: Command, rising: Path, box: str) -> None:
    region = ("--inputs", 0, "--box", box, "--timeout", 1)
    assert lipcert("monotone", rising, *region, "--outputs", 1).status == 0
    margins = [lipcert("monotone", rising, *region, "--margin", pair, way).status for pair, way in MARGINS]
    assert margins[0] == margins[1]  # the same question
    assert 1 in margins


MARGINS = [("0,1", "--increasing"), ("1,0", "--decreasing"), ("1,0", "--increasing"), ("0,1", "--decreasing")]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--inputs", "0"], "monotone needs a region"),
        (["--box", "0,1"], "--inputs"),
        (["--inputs", "2", "--box", "0,1"], "there is no input 2"),
        (["--inputs", "-1", "--box", "0,1"], "there is no input -1"),
        (["--inputs", "0,9", "--box", "0,1"], "there is no input 9"),
        (["--inputs", "a", "--box", "0,1"], "'a' is not a list of numbers"),
        (["--inputs", "", "--box", "0,1"], "--inputs"),
        (["--inputs", "0,", "--box", "0,1"], "--inputs"),
        (["--inputs", "0.5", "--box", "0,1"], "--inputs"),
        (["--inputs", "0", "--box", "1,0"], "above upper"),
        (["--inputs", "0", "--center", "0"], "needs both"),
        (["--inputs", "0", "--box", "0,1", "--outputs", "1"], "no output 1"),
        (["--inputs", "0", "--box", "0,1", "--output", "nothing"], "no output 'nothing'"),
        (["--inputs", "0", "--box", "0,1", "--timeout", "-1"], "--timeout"),
        (["--inputs", "0", "--box", "0,1", "--tolerance", "-1"], "--tolerance"),
        (["--inputs", "0", "--box", "0,1", "--tolerance", "x"], "--tolerance"),
        (["--inputs", "0", "--box", "0,1", "--timeout", "1", "--tolerance", "nan"], "tolerance"),
        (["--inputs", "0", "--box", "0,1", "--timeout", "1", "--tolerance", "inf"], "tolerance"),
        (["--inputs", "0", "--box", "0,1", "--norm", "2"], "--norm"),
    ],
)
def test_wrong_usage_is_one_line_and_writes_nothing(
    lipcert: Command, turning: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    done = lipcert("monotone", turning, *arguments, "--json", tmp_path / "m.json")
    assert done.status == 2
    assert words in done.error()
    assert not list(tmp_path.iterdir())


def test_a_report_that_cannot_be_written_is_refused_before_any_work(
    lipcert: Command, turning: Path, tmp_path: Path
) -> None:
    for path in (tmp_path / "missing" / "m.json", tmp_path):
        done = lipcert("monotone", turning, *PART, "--json", path)
        assert done.status == 2
        assert "--json: cannot write" in done.error()


def test_what_was_written_is_verified(lipcert: Command, turning: Path, rising: Path, box: str, tmp_path: Path) -> None:
    for path, arguments, status in ((turning, PART, 1), (rising, ("--inputs", "0,3", "--box", box), 0)):
        written = tmp_path / "m.json"
        done = lipcert("monotone", path, *arguments, "--json", written)
        assert (done.status, done.err) == (status, "")
        assert str(written) in done.out
        for options in ([], ["--strict"]):
            checked = lipcert("check", written, path, *options)
            assert (checked.status, checked.err) == (0, "")
            assert "verified" in checked.out.split()
            assert ("counterexample" in checked.out) == bool(status)
            assert ("all of the region" in checked.out) == (not status)
        quiet = lipcert("check", written, path, "-q")
        assert (quiet.status, quiet.out, quiet.err) == (0, "", "")


@pytest.fixture(scope="module")
def honest(turning: Path) -> Data:
    """Refuted, with a share and a tree."""
    import lipcert as api
    from lipcert.problem import Box

    report = api.monotone(turning, [0], region=Box(np.zeros(2), np.full(2, 2.5)), timeout=1)
    return json.loads(report.to_json())


def both(data: Data, field: str, value: Any) -> None:
    """In the certificate, and in the result, which has to say the same."""
    data["certificate"][field] = value.hex() if isinstance(value, float) else value
    data["result"][field] = value


def array(part: Data, field: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Change an array, with the right digest."""
    part[field] = encode_array(change(decode_array(part[field], field)))


def without_counterexample(data: Data) -> None:
    data["counterexample"] = data["result"]["derivative"] = None


FALSE: dict[str, Edit] = {
    "share raised": lambda d: both(d, "share", 0.5),
    "share raised a bit": lambda d: both(d, "share", d["result"]["share"] + 1e-3),
    "all of it": lambda d: both(d, "share", 1.0),
    "certified on all of it": lambda d: (
        both(d, "share", 1.0),
        without_counterexample(d),
        d["result"].update(status="certified"),
    ),
    "share above one": lambda d: both(d, "share", 1.5),
    "share raised in the result alone": lambda d: d["result"].update(share=0.9),
    "share that is NaN": lambda d: d["certificate"].update(share="nan"),
    "tolerance raised in the result alone": lambda d: d["result"].update(tolerance=1.0),
    "sign flipped": lambda d: both(d, "increasing", False),
    "sign flipped in the result alone": lambda d: d["result"].update(increasing=False),
    "other inputs": lambda d: both(d, "inputs", [1]),
    "no inputs": lambda d: both(d, "inputs", []),
    "an input that is not there": lambda d: both(d, "inputs", [0, 2]),
    "counterexample moved to a good place": lambda d: array(d["counterexample"], "point", lambda p: p * [0.1, 1]),
    "counterexample moved out of the region": lambda d: array(d["counterexample"], "point", lambda p: p + 3),
    "counterexample of another size": lambda d: array(d["counterexample"], "point", lambda p: p[:1]),
    "counterexample of another input": lambda d: d["counterexample"].update(input=1),
    "counterexample of another output": lambda d: d["counterexample"].update(output=1),
    "counterexample on the kink": lambda d: array(d["counterexample"], "point", lambda p: np.array([1.0, 1.0])),
    "counterexample dropped": lambda d: d.update(counterexample=None),
    "steeper": lambda d: d["result"].update(derivative=-0.6),
    "not steep": lambda d: d["result"].update(derivative=0.0),
    "no derivative": lambda d: d["result"].update(derivative=None),
    "tree cut": lambda d: array(d["certificate"]["tree"], "splits", lambda s: s[:-1]),
    "tree of one piece": lambda d: array(d["certificate"]["tree"], "splits", lambda s: np.array([[-1.0, 0, 0]])),
    "tree of nothing": lambda d: array(d["certificate"]["tree"], "splits", lambda s: s[:0]),
    "a piece said to be empty": lambda d: array(d["certificate"]["tree"], "splits", emptied),
    "eight steps": lambda d: d["certificate"].update(steps=8),
    "a wider region": lambda d: array(d["query"]["region"], "upper", lambda v: v * 2),
    "another status": lambda d: d["result"].update(status="inconclusive"),
    "certified in words": lambda d: d["result"].update(status="certified"),
    "another model": lambda d: d["model"].update(sha256="0" * 64),
    "no certificate": lambda d: d.pop("certificate"),
    "another schema": lambda d: d.update(schema="lipcert/monotone/2"),
}


def emptied(splits: np.ndarray) -> np.ndarray:
    """The last piece that stays whole is said to be empty, without multipliers."""
    splits = splits.copy()
    splits[np.flatnonzero((splits[:, 0] == -1) & (splits[:, 1] == 0))[-1], 1] = 1
    return splits


@pytest.mark.parametrize("name", FALSE)
def test_a_report_that_was_tampered_with_is_refused(
    lipcert: Command, turning: Path, honest: Data, tmp_path: Path, name: str
) -> None:
    data = copy.deepcopy(honest)
    FALSE[name](data)
    assert data != honest
    (tmp_path / "m.json").write_text(json.dumps(data))
    done = lipcert("check", tmp_path / "m.json", turning)
    assert done.status == 1
    assert done.error()


TRUE: dict[str, Edit] = {
    "as it was": lambda d: None,
    "a smaller share": lambda d: both(d, "share", 0.25),
    "no share": lambda d: both(d, "share", 0.0),
    "less steep": lambda d: d["result"].update(derivative=-0.25),
    "a tolerance below": lambda d: both(d, "tolerance", 0.25),
    "counterexample moved among bad places": lambda d: array(d["counterexample"], "point", lambda p: 0 * p + 2),
}


@pytest.mark.parametrize("name", TRUE)
def test_what_is_true_is_verified(lipcert: Command, turning: Path, honest: Data, tmp_path: Path, name: str) -> None:
    data = copy.deepcopy(honest)
    TRUE[name](data)
    (tmp_path / "m.json").write_text(json.dumps(data))
    done = lipcert("check", tmp_path / "m.json", turning)
    assert (done.status, done.err) == (0, "")


def test_a_tolerance_above_the_counterexample_is_refused(
    lipcert: Command, turning: Path, honest: Data, tmp_path: Path
) -> None:
    data = copy.deepcopy(honest)
    both(data, "tolerance", 0.75)
    (tmp_path / "m.json").write_text(json.dumps(data))
    assert lipcert("check", tmp_path / "m.json", turning).status == 1
