"""Networks that no one here made: certified, checked again, and never steeper than the bound where they are sampled."""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lipcert
from lipcert.frontend import Model
from lipcert.graph import evaluate
from lipcert.problem import Ball, Everywhere, Norm, Region
from tests.helpers.paths import ROOT
from tests.helpers.processes import run_process

EPS = 0.01
TIMEOUT = 4.0
PAIRS = 60
MARGIN = 1 + 1e-9
NORMS: tuple[Norm, ...] = (1.0, 2.0, math.inf)
REGIONS = ("everywhere", "ball")

DENSE = (
    "acasxu_1_1",
    "acasxu_3_3",
    "mlp_L17_W32",
    "mlp_L5_W64",
    "mnist_sigmoid_6x200",
    "mnistfc_256x2",
    "mnistfc_256x4",
)
CONVOLUTIONAL = ("cifar_base_kw", "cifar_resnet_2b", "cnn_C3_CH8", "cnn_C5_CH16", "mnist_convnet_avgpool")
NETWORKS = (*DENSE, *CONVOLUTIONAL)

LONG_IN_BALLS = {
    ("mnist_sigmoid_6x200", 2.0, "ball"),
    ("mnistfc_256x4", 2.0, "ball"),
    ("mlp_L17_W32", math.inf, "everywhere"),
}
"""Of the networks that take several seconds a bound in ball arithmetic, these; the other bounds are for `-m slow`."""


@cache
def load(path: Path) -> Model:
    return lipcert.load(path)


@cache
def region_of(data: Path, name: str, kind: str) -> Region:
    """All of space, or the ball around zero, or around the first test image."""
    if kind == "everywhere":
        return Everywhere()
    shape = load(data / "models" / f"{name}.onnx").inputs[0].shape
    size = math.prod(shape)
    if name.startswith("acasxu"):
        return Ball(np.zeros(size), EPS, math.inf)
    images = data / "images" / ("cifar10_100.csv" if size == 3072 else "mnist_100.csv")
    center = np.loadtxt(images, delimiter=",", max_rows=1)[1:] / 255
    if size == 3072:
        channels, height, width = shape[-3:]
        center = center.reshape(height, width, channels).transpose(2, 0, 1).reshape(-1)
    return Ball(center, EPS, math.inf)


@cache
def report_of(data: Path, name: str, norm: Norm, kind: str) -> lipcert.Report:
    model = load(data / "models" / f"{name}.onnx")
    return lipcert.bound(model, norm=norm, region=region_of(data, name, kind), method="product", timeout=TIMEOUT)


@cache
def sampled(data: Path, name: str, kind: str) -> dict[Norm, float]:
    """The largest ratio of many pairs in the region, some a short step apart."""
    model, region = load(data / "models" / f"{name}.onnx"), region_of(data, name, kind)
    rng, n = np.random.default_rng(0), math.prod(model.inputs[0].shape)
    if isinstance(region, Ball):
        x, target = (region.center + EPS * (1 - 1e-12) * np.sign(rng.uniform(-1, 1, (PAIRS, n))) for _ in range(2))
        x[::2] = region.center + EPS * rng.uniform(-1, 1, (len(x[::2]), n))
    else:
        x, target = (rng.standard_normal((PAIRS, n)) * rng.choice([0.1, 1, 10], (PAIRS, 1)) for _ in range(2))
    return ratios(model, x, x + (target - x) * rng.choice([1, 0.1, 0.01], (PAIRS, 1)))


def ratios(model: Model, x: np.ndarray, other: np.ndarray) -> dict[Norm, float]:
    both = evaluate(model.graph, {model.inputs[0].name: np.concatenate([x, other])})[model.graph.outputs[0].node]
    rise, run = both[: len(x)] - both[len(x) :], x - other
    apart = run.any(axis=1)
    rise, run = rise[apart], run[apart]
    return {p: float(np.max(np.linalg.norm(rise, p, axis=1) / np.linalg.norm(run, p, axis=1))) for p in NORMS}


def _takes_long(name: str, norm: Norm, kind: str) -> bool:
    """What other networks and norms show as well."""
    return (name in CONVOLUTIONAL and norm == 1) or (name == "cnn_C5_CH16" and norm == 2 and kind == "ball")


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("name", "norm", "kind"),
    [
        pytest.param(*case, marks=pytest.mark.slow if _takes_long(*case) else ())
        for case in itertools.product(NETWORKS, NORMS, REGIONS)
    ],
)
def test_the_bound_is_certified_checked_and_never_exceeded(test_data: Path, name: str, norm: Norm, kind: str) -> None:
    report = report_of(test_data, name, norm, kind)
    assert report.status == "certified"
    assert report.upper is not None
    assert 0 < report.lower <= report.upper < math.inf
    assert sampled(test_data, name, kind)[norm] <= report.upper * MARGIN
    checked = lipcert.check(lipcert.Report(json.loads(report.to_json())), test_data / "models" / f"{name}.onnx")
    assert report.lower <= checked.lower <= checked.upper <= report.upper


def strict_cases() -> Iterator[Any]:
    for name in DENSE:
        for norm in NORMS:
            for kind in REGIONS:
                long = name in {case[0] for case in LONG_IN_BALLS} and (name, norm, kind) not in LONG_IN_BALLS
                yield pytest.param(name, norm, kind, marks=[pytest.mark.slow] if long else [])


@pytest.mark.one_in(4)
@pytest.mark.parametrize(("name", "norm", "kind"), strict_cases())
def test_the_bound_of_a_dense_network_holds_in_ball_arithmetic(
    test_data: Path, name: str, norm: Norm, kind: str
) -> None:
    report = report_of(test_data, name, norm, kind)
    checked = lipcert.check(report, load(test_data / "models" / f"{name}.onnx"), strict=True)
    assert checked.arithmetic.startswith("balls")  # but for linear bounds
    assert report.upper is not None
    assert checked.upper <= report.upper
    assert checked.upper == pytest.approx(report.upper, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "norm", "kind"),
    [("acasxu_1_1", math.inf, "ball"), ("mnistfc_256x2", 2.0, "everywhere"), ("cnn_C3_CH8", 2.0, "ball")],
)
def test_the_certificate_passes_in_a_fresh_process(
    test_data: Path, tmp_path: Path, name: str, norm: Norm, kind: str
) -> None:
    path = tmp_path / "report.json"
    path.write_text(report_of(test_data, name, norm, kind).to_json())
    done = run_process("check", path, test_data / "models" / f"{name}.onnx", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "verified" in done.stdout
    refused = run_process("check", path, test_data / "models" / "acasxu_3_3.onnx", folder=tmp_path)
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1


def test_the_commands_of_the_first_page(test_data: Path, tmp_path: Path) -> None:
    """As a user types them, in an empty folder, with less time."""
    models, out, short = test_data / "models", tmp_path / "out.json", ("--timeout", "4")

    bounded = run_process(
        "bound", models / "mnistfc_256x4.onnx", "--norm", "2", "--json", "out.json", *short, folder=tmp_path
    )
    assert (bounded.returncode, bounded.stderr) == (0, "")
    assert "certified" in bounded.stdout
    assert json.loads(out.read_text())["result"]["status"] == "certified"

    bounded = run_process("bound", models / "acasxu_1_1.onnx", "--norm", "inf", *short, folder=tmp_path)
    assert (bounded.returncode, bounded.stderr) == (0, "")
    assert "linf -> linf, everywhere" in bounded.stdout

    options = (
        f"--norm inf --center {test_data}/images/cifar10_100.csv --row 3 --skip-columns 1 --scale 255 --layout hwc"
    )
    around = (*options.split(), "--eps", "0.01", *short)
    bounded = run_process("bound", models / "cifar_resnet_2b.onnx", *around, folder=tmp_path)
    assert (bounded.returncode, bounded.stderr) == (0, "")
    assert "linf ball of radius 0.01" in bounded.stdout

    checked = run_process("check", "out.json", models / "mnistfc_256x4.onnx", folder=tmp_path)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "verified" in checked.stdout

    inspected = run_process("inspect", models / "mlp_L17_W32.onnx", folder=tmp_path)
    assert (inspected.returncode, inspected.stderr) == (0, "")
    assert all(word in inspected.stdout for word in ("leaky_relu", "dense", "folded", "mlp_L17_W32.onnx.data"))

    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.json"]


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
def test_make_demo_bounds_a_network_of_ours(tmp_path: Path) -> None:
    """Its last line, without setting up an environment once more."""
    # These tests may themselves run under make, whose settings a make inside would inherit.
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    planning = ["make", "--no-print-directory", "--dry-run", "demo"]
    planned = subprocess.run(planning, cwd=ROOT, env=outside, capture_output=True, text=True, check=True)
    command = planned.stdout.splitlines()[-1].split()
    assert command[0].endswith("/lipcert")
    done = run_process(*command[1:], folder=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert "certified" in done.stdout


def test_the_specification_of_a_property_is_a_region(test_data: Path) -> None:
    from lipcert.problem.reading import read_vnnlib

    acas = load(test_data / "models" / "acasxu_1_1.onnx")
    for name in ("prop_1", "prop_3"):
        region = read_vnnlib(str(test_data / "models" / f"{name}.vnnlib"), 5)
        report = lipcert.bound(acas, region=region, norm="inf", timeout=TIMEOUT)
        assert report.status == "certified"
        assert lipcert.check(report, acas).upper <= (report.upper or 0)
