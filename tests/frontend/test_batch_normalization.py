"""BatchNormalization at inference, and the exact value of its factor."""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest

from lipcert.frontend import load_proto
from lipcert.graph import Affine
from tests.helpers.onnx_models import assert_agrees, assert_malformed, assert_unsupported, one_op, random_weights

CHANNELS = 3


def parameters(channels: int = CHANNELS) -> list[np.ndarray]:
    """Gain, bias, mean and variance."""
    gain, bias, mean, spread = (random_weights(channels, seed=s) for s in range(4))
    return [gain, bias, mean, spread * spread + np.float32(0.01)]


@pytest.mark.parametrize("shape", [(2, 3), (1, 3, 5), (1, 3, 4, 2), (2, 3, 2, 3, 2)])
@pytest.mark.parametrize("opset", [7, 9, 14, 15])
@pytest.mark.parametrize("attributes", [{}, {"epsilon": 0.1}, {"momentum": 0.5}, {"epsilon": 0.0}])
def test_batch_normalization(shape: tuple[int, ...], opset: int, attributes: dict[str, Any]) -> None:
    assert_agrees(one_op("BatchNormalization", shape, *parameters(), opset=opset, **attributes))


def test_factor_and_bias_enclose_their_exact_values() -> None:
    gain, bias, mean, variance = parameters(50)
    epsilon = np.float32(1e-5)
    imported = load_proto(one_op("BatchNormalization", (1, 50), gain, bias, mean, variance), check=False)
    (node,) = (n for n in imported.graph.nodes if isinstance(n, Affine))
    (operator,) = node.operators
    weights, radius = operator.weights, np.broadcast_to(operator.radius, (50,))
    with localcontext(prec=80):
        for c in range(50):
            g, b, m, v = (Decimal(float(p[c])) for p in (gain, bias, mean, variance))
            factor = g / (v + Decimal(float(epsilon))).sqrt()
            assert abs(factor - Decimal(float(weights[c]))) <= Decimal(float(radius[c]))
            addend = b - m * factor
            assert abs(addend - Decimal(float(node.bias.value[c]))) <= Decimal(float(node.bias.full_radius()[c]))
    assert np.all(radius <= 1e-15 * np.abs(weights))


@pytest.mark.parametrize("opset", [14, 15])
def test_training_mode_is_refused(opset: int) -> None:
    refused = one_op("BatchNormalization", (1, 3, 2), *parameters(), opset=opset, training_mode=1)
    assert_unsupported(refused, "BatchNormalization", "the_node", f"opset {opset}", "training mode")


@pytest.mark.parametrize("opset", [9, 15])
def test_outputs_of_training_mode_are_refused(opset: int) -> None:
    proto = one_op("BatchNormalization", (1, 3, 2), *parameters(), opset=opset)
    proto.graph.node[0].output.extend(["running_mean", "running_variance"])
    assert_unsupported(proto, "BatchNormalization", "the_node", f"opset {opset}", "training mode")


def test_statistics_per_entry_are_refused() -> None:
    refused = one_op("BatchNormalization", (1, 3, 2), *parameters(), opset=7, spatial=0)
    assert_unsupported(refused, "BatchNormalization", "the_node", "opset 7", "spatial")


@pytest.mark.parametrize("place", range(4))
def test_parameters_of_the_wrong_size_are_malformed(place: int) -> None:
    wrong = parameters()
    wrong[place] = np.ones(4, np.float32)
    assert_malformed(one_op("BatchNormalization", (1, 3, 2), *wrong), "BatchNormalization", "the_node", "3 entries")


@pytest.mark.parametrize("variance", [-1.0, 0.0])
def test_a_variance_that_is_not_positive_is_malformed(variance: float) -> None:
    gain, bias, mean, _ = parameters()
    proto = one_op("BatchNormalization", (1, 3), gain, bias, mean, np.full(3, variance, np.float32), epsilon=0.0)
    assert_malformed(proto, "BatchNormalization", "the_node", "opset 20", "not positive")


def test_live_statistics_are_refused() -> None:
    gain, bias, _, variance = parameters()
    refused = one_op("BatchNormalization", (3,), random_weights(1, 3, 2), gain, bias, variance, live=3)
    assert_unsupported(refused, "BatchNormalization", "the_node", "mean depends")
