"""The Python API: whatever a network comes as, the same bound of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

import lipcert
from lipcert.errors import CertificateError, LipcertError, UsageError
from lipcert.problem import Ball, Box, Margin
from tests.helpers.onnx_models import model
from tests.helpers.paths import MODELS

RELU = MODELS / "digits_relu.onnx"


@pytest.fixture(scope="module")
def report() -> lipcert.Report:
    return lipcert.bound(RELU)


def test_what_help_shows() -> None:
    assert sorted(lipcert.__all__) == dir(lipcert)
    assert {"load", "bound", "check", "Report"} <= set(dir(lipcert))
    assert all((getattr(lipcert, name).__doc__ or "").strip() for name in dir(lipcert))
    with pytest.raises(AttributeError, match="nothing"):
        lipcert.nothing  # noqa: B018


def test_a_network_may_come_in_any_form(report: lipcert.Report) -> None:
    loaded = lipcert.load(RELU)
    for network in (str(RELU), RELU, onnx.load(RELU), loaded, lipcert.load(loaded)):
        assert lipcert.bound(network).upper == report.upper


def test_a_torch_module_is_certified_as_what_it_exports_to() -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Dropout(), torch.nn.Linear(8, 2))
    module.train()
    report = lipcert.bound(module, example=torch.zeros(1, 4))
    assert module.training
    weights = [p.detach().double().numpy() for p in module.parameters() if p.ndim == 2]
    assert 0 < report.lower <= report.upper <= np.prod([np.linalg.norm(w, 2) for w in weights]) * (1 + 1e-6)
    assert lipcert.check(report, lipcert.load(module, example=torch.zeros(1, 4))).upper <= report.upper
    with pytest.raises(UsageError, match="example"):
        lipcert.bound(module)


def test_a_network_of_another_kind_is_refused() -> None:
    with pytest.raises(UsageError, match="int"):
        lipcert.load(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("activation", ["Relu", "Sigmoid", "Tanh"])
def test_a_network_in_double_precision(activation: str) -> None:
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node(activation, ["h"], ["z"], name="z"),
        helper.make_node("MatMul", ["z", "b"], ["y"]),
    ]
    weights = {"a": rng.standard_normal((3, 4)), "b": rng.standard_normal((4, 2))}
    report = lipcert.bound(model(nodes, {"x": [1, 3]}, ["y"], weights, element=TensorProto.DOUBLE))
    assert report.status == "certified"


def test_norms_in_every_spelling(report: lipcert.Report) -> None:
    for norm in (2, 2.0, "2", "l2"):
        assert lipcert.bound(RELU, norm=norm).upper == report.upper
    spelled = [lipcert.bound(RELU, norm=norm).upper for norm in (np.inf, float("inf"), "inf", "linf")]
    assert len(set(spelled)) == 1


def test_regions(report: lipcert.Report) -> None:
    center = np.full((1, 64), 0.5)
    forms = [
        {"center": center, "eps": 0.01},
        {"center": center.tolist(), "eps": 0.01},
        {"center": torch.tensor(center, requires_grad=True), "eps": 0.01},
        {"center": center, "eps": 0.01, "ball": 2},
        {"region": Ball(center.reshape(-1), 0.01, 2.0)},
    ]
    uppers = {lipcert.bound(RELU, method="product", **form).upper for form in forms}  # type: ignore[arg-type]
    assert len(uppers) == 1
    assert uppers.pop() < report.upper  # type: ignore[operator]
    box = Box(np.zeros(64), np.ones(64))
    assert lipcert.bound(RELU, region=box, method="product").status == "certified"


def test_outputs() -> None:
    one, listed, margin = (lipcert.bound(RELU, outputs=o).upper for o in (7, [7], Margin(7, 3)))
    assert one == listed
    assert margin != one


@pytest.mark.parametrize(
    "options",
    [
        {"norm": 3},
        {"norm": True},
        {"center": np.zeros(64)},
        {"eps": 1.0},
        {"center": np.zeros(63), "eps": 1.0},
        {"center": np.zeros(64), "eps": -1.0},
        {"center": np.zeros(64), "eps": 1.0, "region": Box(np.zeros(64), np.ones(64))},
        {"outputs": 10},
        {"outputs": []},
        {"inputs": ["nothing"]},
        {"output": "nothing"},
        {"method": "magic"},
        {"timeout": -1.0},
        {"timeout": float("nan")},
        {"gap": 0.5},
        {"device": "abacus"},
    ],
    ids=str,
)
def test_wrong_options_are_usage_errors(options: dict[str, object]) -> None:
    with pytest.raises(UsageError) as caught:
        lipcert.bound(RELU, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_check_takes_a_report_or_its_file(report: lipcert.Report, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(report.to_json())
    for given in (report, path, str(path)):
        for strict in (False, True):
            checked = lipcert.check(given, RELU, strict=strict)
            assert report.lower <= checked.lower <= checked.upper <= report.upper  # type: ignore[operator]


def test_check_refuses(report: lipcert.Report) -> None:
    data = json.loads(report.to_json())
    data["result"]["upper"] *= 0.999
    with pytest.raises(CertificateError, match="result"):
        lipcert.check(lipcert.Report(data), RELU)
    with pytest.raises(CertificateError, match="another model"):
        lipcert.check(report, MODELS / "digits_tanh.onnx")


def test_every_error_is_of_one_class(tmp_path: Path) -> None:
    with pytest.raises(LipcertError, match=r"missing\.onnx"):
        lipcert.bound(tmp_path / "missing.onnx")
    with pytest.raises(LipcertError, match=r"missing\.json"):
        lipcert.check(tmp_path / "missing.json", RELU)
