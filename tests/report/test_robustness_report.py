"""`lipcert.certify` in Python: the report says what is proven, `check` proves it again, and refuses what is changed."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

import lipcert
from lipcert.certificate.encoding import decode_robustness, encode_array
from lipcert.errors import CertificateError, LipcertError, UsageError
from lipcert.frontend import Model
from lipcert.planning.robustness import RobustnessOutcome
from lipcert.report.check import RobustnessCheck
from lipcert.report.reading import parse_any
from lipcert.report.robustness import RobustnessReport, accuracies, row
from lipcert.templates import read_template
from lipcert.templates.library import folder
from tests.helpers.onnx_models import model, random_weights

Data = dict[str, Any]

EPS = [0.05, 0.2, 0.5]
X = np.random.default_rng(1).standard_normal((8, 4))


@pytest.fixture(scope="module")
def network() -> Model:
    """4 inputs, 3 classes, relu."""
    weights = {"a": random_weights(4, 6), "b": random_weights(6, 3, seed=2)}
    nodes = [("MatMul", ["x", "a"], "v"), ("Relu", ["v"], "r"), ("MatMul", ["r", "b"], "y")]
    proto = model([helper.make_node(op, read, [to]) for op, read, to in nodes], {"x": (1, 4)}, ["y"], weights)
    return lipcert.load(proto)


@pytest.fixture(scope="module")
def labels(network: Model) -> np.ndarray:
    """The classes, but for one."""
    outputs = np.maximum(X @ random_weights(4, 6), 0) @ random_weights(6, 3, seed=2)
    return (outputs.argmax(axis=1) + (np.arange(8) == 3)) % 3


@pytest.fixture(scope="module")
def report(network: Model, labels: np.ndarray) -> RobustnessReport:
    return lipcert.certify(network, X, labels, eps=EPS, local=True, local_timeout=0.5, timeout=10)


def test_the_report_says_what_its_rows_say(report: RobustnessReport, network: Model, labels: np.ndarray) -> None:
    assert report.status == "certified"
    assert report.clean_accuracy == 7 / 8
    rows = report.samples
    assert [row["label"] for row in rows] == labels.tolist()
    assert rows[3]["attacked"] == 0
    for n, eps in enumerate(EPS):
        assert report.certified_accuracy[eps] == np.mean([row["certified"][n] for row in rows])
        standing = [row["attacked"] is None or row["attacked"] > eps for row in rows]
        assert report.attack_accuracy[eps] == np.mean(standing)
        assert report.certified_accuracy[eps] <= report.attack_accuracy[eps] <= report.clean_accuracy
    found = lipcert.check(report, network, data=X, labels=labels)
    assert isinstance(found, RobustnessCheck)
    assert found.samples == 8
    assert isinstance(lipcert.check(report, network, data=X, labels=labels, strict=True), RobustnessCheck)
    assert "certified" in repr(report)


def test_it_is_read_again_from_its_text(report: RobustnessReport) -> None:
    again = parse_any(report.to_json(), "report.json")
    assert isinstance(again, RobustnessReport)
    assert again.data == report.data


def _shared(data: Data) -> Data:
    return data["certificate"]["shared"][0]


def _sample(data: Data) -> Data:
    """One with a radius."""
    return next(s for s in data["certificate"]["samples"] if float.fromhex(s["radius"]) > 0)


def _at(eps: list[float]) -> Callable[[Data], None]:
    """The same claims at other radii, with rows and counts to match."""

    def change(data: Data) -> None:
        claim = decode_robustness(data["certificate"])
        data["query"].update(eps=eps)
        data["result"].update(accuracies(claim, tuple(eps)))
        data.update(samples=[row(sample, tuple(eps)) for sample in claim.samples])

    return change


def _larger(data: Data) -> None:
    """A radius, in the certificate and in its row."""
    sample = _sample(data)
    radius = 1.001 * float.fromhex(sample["radius"])
    sample["radius"] = radius.hex()
    row = next(row for row in data["samples"] if row["index"] == sample["index"])
    row.update(radius=radius, certified=[radius >= eps for eps in EPS])


FALSE: dict[str, Callable[[Data], Any]] = {
    "a larger radius": _larger,
    "a larger radius in the row": lambda d: d["samples"][0].update(radius=9.0),
    "more that are certified": lambda d: d["result"]["radii"][0].update(certified=8),
    "more that stand": lambda d: d["result"]["radii"][2].update(standing=8),
    "more that are clean": lambda d: d["result"].update(clean=8),
    "smaller radii of balls": lambda d: d["query"].update(eps=[0.05, 0.2, 0.4]),
    "another norm": lambda d: d["query"].update(norm="inf"),
    "no norm": lambda d: d["query"].update(norm="3"),
    "another output": lambda d: d["query"].update(output="z"),
    "other data": lambda d: d["query"]["data"].update(sha256="0" * 64),
    "another label": lambda d: _sample(d).update(label=(_sample(d)["label"] + 1) % 3),
    "another row": lambda d: _sample(d).update(index=5),
    "a row twice": lambda d: d["certificate"]["samples"].append(d["certificate"]["samples"][-1]),
    "a row less": lambda d: (d["certificate"]["samples"].pop(), d["samples"].pop(), d["result"].update(finished=7)),
    "interrupted": lambda d: d["result"].update(status="inconclusive"),
    "a smaller constant": lambda d: _shared(d).update(value=(0.9 * float.fromhex(_shared(d)["value"])).hex()),
    "a smaller constant, shown": lambda d: d["margins"][0].update(upper=0.0),
    "no certificate": lambda d: d.update(certificate=None),
    "an attack elsewhere": lambda d: d["certificate"]["samples"][3]["attacks"][0].update(
        point=encode_array(np.zeros(4))
    ),
    "another model": lambda d: d["model"].update(sha256="0" * 64),
    "steps of Loops": lambda d: d["model"].update(unrolled=True),
    "a wrong type": lambda d: d["query"].update(eps=["0.05"]),
    "no data": lambda d: d["query"].pop("data"),
    "radii of zero": _at([0.0, 0.2]),
    "radii below zero": _at([-1.0]),
    "radii that fall": _at([0.2, 0.05]),
    "no radii": _at([]),
    "more samples": lambda d: d["query"]["data"].update(samples=1000),
    "no rows": lambda d: d["query"]["data"].pop("rows"),
    "eps null": lambda d: d["query"].update(eps=None),
    "margins null": lambda d: d.update(margins=None),
    "margins of nothing": lambda d: d.update(margins=[1]),
    "samples null": lambda d: d.update(samples=None),
}


@pytest.mark.parametrize("name", FALSE)
def test_a_false_report_is_refused(report: RobustnessReport, network: Model, labels: np.ndarray, name: str) -> None:
    data = copy.deepcopy(report.data)
    FALSE[name](data)
    with pytest.raises(CertificateError) as refused:
        lipcert.check(parse_any(json.dumps(data), "report.json"), network, data=X, labels=labels)
    assert "\n" not in str(refused.value)


def test_other_data_are_refused(report: RobustnessReport, network: Model, labels: np.ndarray) -> None:
    for x, y in ((X + 1e-9, labels), (X, labels[::-1]), (X[:7], labels[:7])):
        with pytest.raises(CertificateError, match="other data"):
            lipcert.check(report, network, data=x, labels=y)
    with pytest.raises(UsageError, match="--data and --labels"):
        lipcert.check(lipcert.bound(network, timeout=0.1), network, data=X)


def test_a_model_with_templates_is_refused(report: RobustnessReport, network: Model, labels: np.ndarray) -> None:
    conditional = replace(network, templates=(read_template(folder() / "abs.toml"),))
    with pytest.raises(CertificateError, match="templates"):
        lipcert.check(report, conditional, data=X, labels=labels)


def test_a_report_about_arrays_asks_for_them(report: RobustnessReport, network: Model) -> None:
    with pytest.raises(UsageError, match="about arrays"):
        lipcert.check(report, network)


class Killed(BaseException):
    """What ends a run as a kill would: nothing catches it."""


def test_a_run_that_is_killed_goes_on(
    network: Model, labels: np.ndarray, report: RobustnessReport, tmp_path: Path
) -> None:
    """20 trials at random moments: no sample that was kept is done again, and all files are whole."""
    rng, file = np.random.default_rng(0), tmp_path / "kept.json"
    options: dict[str, Any] = {"eps": EPS, "local": True, "local_timeout": 0.1, "timeout": 10, "checkpoint": file}
    kept: list[Data] = []
    left = 0

    def step(what: str, outcome: RobustnessOutcome) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed

    finished, trials = None, 0
    while finished is None:
        left, trials = int(rng.integers(1, 4)) if trials < 20 else 10**6, trials + 1
        with contextlib.suppress(Killed):
            finished = lipcert.certify(network, X, labels, on_step=step, **options)
        assert [path.name for path in tmp_path.iterdir()] in ([], ["kept.json"])
        if file.exists():
            before, kept = kept, json.loads(file.read_text())["certificate"]["samples"]
            assert [s for s in kept if s["index"] in {b["index"] for b in before}] == before
    assert trials > 3
    assert finished.status == "certified"
    assert finished.attack_accuracy == report.attack_accuracy
    assert lipcert.check(finished, network, data=X, labels=labels)
    left = 1  # nothing is left to do
    again = lipcert.certify(network, X, labels, on_step=step, **options)
    assert again.samples == finished.samples


def test_an_interrupt_leaves_what_is_done(network: Model, labels: np.ndarray) -> None:
    """Here the samples that need no ball of their own."""

    def step(what: str, outcome: RobustnessOutcome) -> None:
        if what == "samples":
            raise KeyboardInterrupt

    part = lipcert.certify(network, X, labels, eps=EPS, timeout=0, local=True, on_step=step)
    assert part.status == "inconclusive"
    assert part.data["result"]["finished"] == len(part.samples)
    assert 0 < len(part.samples) < len(X)
    found = lipcert.check(part, network, data=X, labels=labels)
    assert isinstance(found, RobustnessCheck)
    assert found.samples == len(part.samples)


def test_a_checkpoint_of_another_run_is_refused(network: Model, labels: np.ndarray, tmp_path: Path) -> None:
    file = tmp_path / "kept.json"
    lipcert.certify(network, X[:2], labels[:2], eps=EPS, timeout=0, checkpoint=file)
    written = file.read_bytes()
    for x, y, options in (
        (X[:3], labels[:3], {"eps": EPS}),
        (X[:2], (labels[:2] + 1) % 3, {"eps": EPS}),
        (X[:2], labels[:2], {"eps": 0.1}),
        (X[:2], labels[:2], {"eps": EPS, "norm": 1}),
        (X[:2], labels[:2], {"eps": EPS, "local": True}),
    ):
        with pytest.raises(UsageError, match="of another model or query"):
            lipcert.certify(network, x, y, checkpoint=file, timeout=0, **options)
    data = json.loads(written)
    data["certificate"]["samples"][0]["radius"] = (9.0).hex()
    for text in (
        b"",
        b"[]",
        b'{"schema": 1}',
        written[:-9],
        json.dumps({**data, "pairs": 3}).encode(),
        json.dumps(data).encode(),
    ):
        file.write_bytes(text)
        with pytest.raises(LipcertError):
            lipcert.certify(network, X[:2], labels[:2], eps=EPS, timeout=0, checkpoint=file)
        assert file.read_bytes() == text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eps": []}, "no radius"),
        ({"eps": [0.2, 0.1]}, "do not increase"),
        ({"eps": [0.1, 0.1]}, "do not increase"),
        ({"eps": -1}, "not a radius"),
        ({"eps": float("nan")}, "not a radius"),
        ({"eps": 0.1, "norm": 3}, "norm"),
        ({"eps": 0.1, "timeout": -1}, "--timeout"),
        ({"eps": 0.1, "local_timeout": float("nan")}, "--local-timeout"),
        ({"eps": 0.1, "restarts": 0}, "--restarts"),
        ({"eps": 0.1, "output": "z"}, "no output 'z'"),
        ({"eps": 0.1, "labels": None}, "labels"),
        ({"eps": 0.1, "labels": ["a"] * 8}, "labels: no array of numbers"),
        ({"eps": 0.1, "labels": [[1, 2], [3]]}, "labels: no array of numbers"),
        ({"eps": 0.1, "labels": "labels.npy"}, "labels: data are an array"),
        ({"eps": "a"}, "eps: 'a' is no radius"),
        ({"eps": 0.1, "rows": (8, 9)}, "data: there are no rows"),
    ],
)
def test_mistakes_are_named(network: Model, labels: np.ndarray, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        lipcert.certify(network, X, **{"labels": labels, **options})
