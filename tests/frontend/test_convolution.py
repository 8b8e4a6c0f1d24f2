"""Conv in one, two and three dimensions: strides, pads, dilations, groups, automatic padding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper

from tests.helpers.onnx_models import (
    assert_agrees,
    assert_malformed,
    assert_unsupported,
    model,
    one_op,
    random_weights,
)

FORMS: list[tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ("1d", (1, 2, 9), (3, 2, 4), {}),
    ("1d everything", (1, 4, 11), (6, 2, 3), {"group": 2, "strides": [2], "pads": [2, 1], "dilations": [2]}),
    ("2d", (1, 3, 6, 5), (4, 3, 3, 2), {}),
    ("2d kernel_shape", (1, 3, 6, 5), (4, 3, 3, 2), {"kernel_shape": [3, 2]}),
    ("2d strides", (1, 3, 7, 6), (4, 3, 3, 2), {"strides": [2, 3]}),
    ("2d asymmetric pads", (1, 2, 5, 4), (3, 2, 3, 3), {"pads": [0, 2, 1, 3]}),
    ("2d dilations", (1, 2, 9, 8), (3, 2, 3, 2), {"dilations": [2, 3]}),
    ("2d groups", (1, 6, 5, 5), (4, 3, 2, 2), {"group": 2}),
    ("2d depthwise", (1, 3, 5, 5), (3, 1, 3, 3), {"group": 3, "pads": [1, 1, 1, 1]}),
    ("2d depthwise multiplier", (1, 3, 5, 5), (6, 1, 2, 2), {"group": 3}),
    ("2d pointwise", (1, 3, 4, 4), (5, 3, 1, 1), {}),
    ("2d stride beyond the kernel", (1, 2, 9, 9), (3, 2, 2, 2), {"strides": [4, 3]}),
    ("2d remainder", (1, 2, 8, 8), (3, 2, 3, 3), {"strides": [2, 2]}),
    ("2d everything", (1, 4, 9, 8), (6, 2, 3, 2), {"group": 2, "strides": [2, 1], "pads": [1, 2, 3, 0]}),
    ("3d", (1, 2, 4, 5, 3), (3, 2, 2, 3, 2), {}),
    ("3d everything", (1, 2, 6, 5, 4), (4, 1, 2, 2, 2), {"group": 2, "strides": [2, 1, 3], "pads": [1, 0, 2, 0, 1, 2]}),
    ("stacked maps", (3, 2, 6, 5), (4, 2, 3, 2), {"pads": [1, 1, 1, 1]}),
]


@pytest.mark.parametrize(("shape", "kernel", "attributes"), [f[1:] for f in FORMS], ids=[f[0] for f in FORMS])
@pytest.mark.parametrize("bias", [False, True])
def test_conv(shape: tuple[int, ...], kernel: tuple[int, ...], attributes: dict[str, Any], bias: bool) -> None:
    rest = [random_weights(*kernel)] + ([random_weights(kernel[0], seed=2)] if bias else [])
    assert_agrees(one_op("Conv", shape, *rest, **attributes))


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"])
@pytest.mark.parametrize("strides", [[1, 1], [2, 3], [3, 2]])
@pytest.mark.parametrize("kernel", [(3, 3), (2, 4), (1, 1)])
@pytest.mark.parametrize("opset", [7, 11, 22])
def test_conv_with_automatic_padding(mode: str, strides: list[int], kernel: tuple[int, int], opset: int) -> None:
    weights = random_weights(3, 2, *kernel)
    assert_agrees(one_op("Conv", (1, 2, 8, 7), weights, opset=opset, auto_pad=mode, strides=strides))


def test_conv_1d_with_automatic_padding_of_an_odd_total() -> None:
    for mode in ("SAME_UPPER", "SAME_LOWER"):
        assert_agrees(one_op("Conv", (1, 1, 6), random_weights(1, 1, 4), auto_pad=mode))


def test_chain_of_convolutions() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w1"], ["c"], group=2),
        helper.make_node("Flatten", ["c"], ["d"]),
        helper.make_node("Gemm", ["d", "w2"], ["y"], transB=1),
    ]
    weights = {
        "w0": random_weights(4, 2, 3, 3),
        "b0": random_weights(4),
        "w1": random_weights(6, 2, 2, 2),
        "w2": random_weights(5, 54),
    }
    assert_agrees(model(nodes, {"x": (1, 2, 8, 8)}, ["y"], weights))


KERNEL = random_weights(4, 3, 3, 3)


@pytest.mark.parametrize(
    ("shape", "rest", "attributes"),
    [
        ((1, 2, 6, 6), [KERNEL], {}),
        ((1, 3, 6, 6), [KERNEL], {"group": 2}),
        ((1, 3, 6, 6), [KERNEL], {"group": 0}),
        ((1, 3, 6, 6), [KERNEL], {"group": -1}),
        ((1, 3, 6), [KERNEL], {}),
        ((1, 3), [KERNEL], {}),
        ((1, 3, 2, 2), [KERNEL], {}),
        ((1, 3, 6, 6), [KERNEL, random_weights(3)], {}),
        ((1, 3, 6, 6), [KERNEL, random_weights(1, 4)], {}),
        ((1, 3, 6, 6), [KERNEL], {"kernel_shape": [2, 2]}),
        ((1, 3, 6, 6), [KERNEL], {"strides": [0, 1]}),
        ((1, 3, 6, 6), [KERNEL], {"strides": [1]}),
        ((1, 3, 6, 6), [KERNEL], {"dilations": [1, -1]}),
        ((1, 3, 6, 6), [KERNEL], {"pads": [1, 1]}),
        ((1, 3, 6, 6), [KERNEL], {"pads": [-1, 0, 0, 0]}),
        ((1, 3, 6, 6), [KERNEL], {"auto_pad": "SAME"}),
    ],
)
def test_conv_that_breaks_the_specification_is_malformed(
    shape: tuple[int, ...], rest: list[np.ndarray], attributes: dict[str, Any]
) -> None:
    assert_malformed(one_op("Conv", shape, *rest, **attributes), "Conv", "the_node", "opset 20")


def test_conv_with_a_live_kernel_is_refused() -> None:
    refused = one_op("Conv", (4, 3, 3, 3), random_weights(1, 3, 6, 6), live=1)
    assert_unsupported(refused, "Conv", "the_node", "kernel depends")


def test_conv_with_a_live_bias_is_refused() -> None:
    refused = one_op("Conv", (4,), random_weights(1, 3, 6, 6), KERNEL, live=2)
    assert_unsupported(refused, "Conv", "the_node", "bias depends")
