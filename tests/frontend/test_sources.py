"""What exporters write, from torch to scikit-learn: it imports, equals onnxruntime, and is bounded."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import lipcert
from lipcert.errors import LipcertError
from lipcert.frontend import Model, load_proto
from lipcert.graph import evaluate
from lipcert.operators import size_of
from lipcert.problem import Norm
from tests.helpers.exporters import (
    DISCONTINUOUS,
    DYNAMO,
    KERAS,
    KERAS_OPSETS,
    MODULES,
    SKLEARN,
    TORCH_CASES,
    ExporterRefusesError,
    Source,
    TorchExporter,
    keras_source,
    settled,
    sklearn_source,
    torch_source,
)
from tests.helpers.onnx_models import assert_unsupported, session_or_skip

NORMS: tuple[Norm, ...] = (2.0, math.inf)
EPS = 0.01
"""The radius of the l-infinity balls."""

TIMEOUT = 1.0
ROUNDING = 1e-5
"""Exporters fold weights in float32, so that a file is not quite the module."""

imported: dict[str, Model] = {}


def exported(name: str, exporter: TorchExporter) -> Source:
    try:
        return torch_source(name, exporter)
    except ExporterRefusesError as reason:
        pytest.skip(str(reason))


def converted(kind: str) -> Source:
    pytest.importorskip("skl2onnx")
    return sklearn_source(kind)


def load(source: Source) -> Model:
    """The model of a source, checked against onnxruntime; each is imported once."""
    if source.name not in imported:
        session_or_skip(source.proto)
        imported[source.name] = load_proto(source.proto)
    return imported[source.name]


def center(model: Model) -> np.ndarray:
    (x,) = model.inputs
    return 0.5 * np.random.default_rng(0).standard_normal(size_of(x.shape))


def assert_imports(source: Source) -> None:
    model = load(source)
    assert model.check is not None
    assert model.check.worst < 1e-4


def assert_bounded(source: Source, norm: Norm, steepest: Callable[[np.ndarray], float] = lambda points: 0.0) -> None:
    """The bound on a small ball is certified, finite, and not below what the network does there."""
    model = load(source)
    x = center(model)
    report = lipcert.bound(model, norm=norm, center=x, eps=EPS, ball="inf", output=source.output, timeout=TIMEOUT)
    assert report.status == "certified"
    assert report.upper is not None
    assert math.isfinite(report.upper)
    points = x + EPS * np.random.default_rng(1).uniform(-1, 1, (8, x.size))
    assert report.lower <= report.upper
    assert report.upper >= (1 - ROUNDING) * steepest(points)
    assert report.upper >= (1 - ROUNDING) * steepest_pair(model, source.output, points, norm)


def steepest_pair(model: Model, output: str, points: np.ndarray, norm: Norm) -> float:
    """The largest ratio between two of the points."""
    (x,) = model.inputs
    node = next(o.node for o in model.graph.outputs if o.name == output or not output)
    values = [evaluate(model.graph, {x.name: point})[node] for point in points]
    pairs = [(i, j) for i in range(len(points)) for j in range(i)]
    return max(
        float(np.linalg.norm(values[i] - values[j], ord=norm) / np.linalg.norm(points[i] - points[j], ord=norm))
        for i, j in pairs
    )


def steepest_jacobian(name: str, norm: Norm) -> Callable[[np.ndarray], float]:
    """The largest norm of the derivative that torch computes in float64 at points."""
    module, shape = settled(name).double(), MODULES[name][1]

    def derivative(point: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(point).reshape(shape)
        found: Any = torch.autograd.functional.jacobian(module, x)
        return found.reshape(-1, point.size).numpy()

    return lambda points: max(float(np.linalg.norm(derivative(point), ord=norm)) for point in points)


@pytest.mark.one_in(3)
@pytest.mark.parametrize(("name", "exporter"), TORCH_CASES, ids=str)
def test_what_torch_exports_equals_onnxruntime(name: str, exporter: TorchExporter) -> None:
    assert_imports(exported(name, exporter))


@pytest.mark.one_in(4)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", MODULES)
def test_what_torch_exports_is_bounded(name: str, norm: Norm) -> None:
    assert_bounded(exported(name, DYNAMO), norm, steepest_jacobian(name, norm))


@pytest.mark.parametrize("name", ["gelu_tanh", "layer_norm", "softplus", "attention_written_out", "maxmin", "bjorck"])
def test_what_the_old_exporter_spells_out_is_bounded(name: str) -> None:
    """Its opset 13 has no LayerNormalization, Gelu or Mish, and it folds less."""
    assert_bounded(exported(name, TorchExporter(dynamo=False, opset=13)), 2.0, steepest_jacobian(name, 2.0))


@pytest.mark.parametrize("name", DISCONTINUOUS)
def test_a_network_that_jumps_is_refused(name: str) -> None:
    """It has no Lipschitz constant on a region that holds the jump, and an import knows no region."""
    assert_unsupported(exported(name, DYNAMO).proto, "node", "opset 20")


@pytest.mark.parametrize("opset", KERAS_OPSETS)
@pytest.mark.parametrize("name", KERAS)
def test_what_tf2onnx_writes_equals_onnxruntime(name: str, opset: int) -> None:
    assert_imports(keras_source(name, opset))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", KERAS)
def test_what_tf2onnx_writes_is_bounded(name: str, norm: Norm) -> None:
    assert_bounded(keras_source(name, KERAS_OPSETS[-1]), norm)


@pytest.mark.parametrize("kind", SKLEARN)
def test_what_skl2onnx_writes_equals_onnxruntime(kind: str) -> None:
    assert_imports(converted(kind))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", SKLEARN)
def test_what_skl2onnx_writes_is_bounded(kind: str, norm: Norm) -> None:
    assert_bounded(converted(kind), norm)


def test_a_label_is_no_output_that_can_be_bounded() -> None:
    """A classifier's label is an integer; asking for it is refused, and the probabilities are found by name."""
    source = converted("classifier")
    with pytest.raises(LipcertError, match="label"):
        lipcert.bound(load(source), norm=2, output="label", timeout=TIMEOUT)
