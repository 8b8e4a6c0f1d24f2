"""The import's own check against onnxruntime finds wrong converters, and does not suspect right ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from lipcert.activations import LeakyRelu, Relu, Tanh
from lipcert.errors import ModelError, UnsupportedModelError
from lipcert.frontend import load_proto, registry
from lipcert.frontend.builder import GraphBuilder
from lipcert.frontend.opnode import OpNode
from lipcert.frontend.values import Known, Live, Value
from tests.helpers.onnx_models import assert_refused, model, one_op, random_weights

node = helper.make_node
Converter = Callable[[GraphBuilder, OpNode], Value]
Break = Callable[[str, Converter], None]


@pytest.fixture
def break_op(monkeypatch: pytest.MonkeyPatch) -> Break:
    """Replace the converter of an op, at every version, for one test."""

    def replace_all(op: str, wrong: Converter) -> None:
        for version in registry.supported_ops()[op]:
            monkeypatch.setitem(registry._CONVERTERS, ("", op, version), wrong)

    return replace_all


def right(op: str) -> Converter:
    found = registry.find_converter("", op, registry.supported_ops()[op][-1])
    assert found is not None
    return found


def assert_caught(proto: onnx.ModelProto, *words: str) -> None:
    load_proto(proto, check=False)
    assert_refused(lambda: load_proto(proto), ModelError, "onnxruntime", *words)


def network(op: str, **attributes: Any) -> onnx.ModelProto:
    """Gemm, the op on its result `hidden`, Gemm; nodes without names."""
    nodes = [
        node("Gemm", ["x", "w", "b"], ["before"]),
        node(op, ["before"], ["hidden"], **attributes),
        node("MatMul", ["hidden", "w"], ["y"]),
    ]
    return model(nodes, {"x": ("n", 4)}, ["y"], {"w": random_weights(4, 4), "b": random_weights(4)})


def test_a_relu_with_a_slope_below_zero_is_caught(break_op: Break) -> None:
    break_op("Relu", lambda build, op: build.elementwise(op, op.real(0), LeakyRelu(0.3)))
    assert_caught(network("Relu"), "hidden")


def test_a_relu_read_as_identity_is_caught(break_op: Break) -> None:
    break_op("Relu", lambda build, op: op.real(0))
    assert_caught(network("Relu"), "'hidden'")


def test_a_gemm_that_ignores_transb_is_caught(break_op: Break) -> None:
    gemm = right("Gemm")
    break_op("Gemm", lambda build, op: gemm(build, replace(op, attributes={})))
    assert_caught(one_op("Gemm", ("n", 4), random_weights(4, 4), transB=1), "'y'")


@pytest.mark.parametrize("attribute", ["alpha", "beta"])
def test_a_gemm_that_ignores_a_scalar_is_caught(break_op: Break, attribute: str) -> None:
    gemm = right("Gemm")
    break_op("Gemm", lambda build, op: gemm(build, replace(op, attributes={})))
    assert_caught(one_op("Gemm", ("n", 4), random_weights(4, 4), random_weights(4), **{attribute: 1.01}), "'y'")


class BadTail(Tanh):
    """tanh, but wrong far out."""

    def value(self, x: np.ndarray) -> np.ndarray:
        return np.where(np.abs(x) > 1e4, 0.9 * np.tanh(x), np.tanh(x))


class BadOrigin(Relu):
    """max(x, 0), but wrong at 0 itself."""

    def value(self, x: np.ndarray) -> np.ndarray:
        return np.where(x == 0, 0.01, np.maximum(x, 0))


class BadNearOrigin(LeakyRelu):
    """leaky ReLU, but without its slope close to 0."""

    def value(self, x: np.ndarray) -> np.ndarray:
        return np.where(np.abs(x) < 1e-5, x, super().value(x))


@pytest.mark.parametrize(
    ("op", "wrong", "attributes"),
    [
        ("Tanh", BadTail(), {}),
        ("Relu", BadOrigin(), {}),
        ("LeakyRelu", BadNearOrigin(float(np.float32(0.1))), {"alpha": 0.1}),
    ],
    ids=["far out", "at the kink", "beside the kink"],
)
def test_an_activation_that_is_wrong_where_random_inputs_do_not_reach_is_caught(
    break_op: Break, op: str, wrong: Relu | Tanh, attributes: dict[str, float]
) -> None:
    def convert(build: GraphBuilder, n: OpNode) -> Value:
        n.attr("alpha", 0.0)
        return build.elementwise(n, n.real(0), wrong)

    break_op(op, convert)
    assert_caught(network(op, **attributes), op, "hidden")


def test_a_named_node_is_named(break_op: Break) -> None:
    break_op("Tanh", lambda build, op: build.elementwise(op, op.real(0), BadTail()))
    proto = network("Tanh")
    proto.graph.node[1].name = "squash"
    assert_caught(proto, "Tanh", "'squash'")


def test_a_wrong_tensor_is_caught_though_the_output_does_not_show_it(break_op: Break) -> None:
    break_op("Relu", lambda build, op: op.real(0))
    nodes = [node("Relu", ["x"], ["hidden"]), node("Mul", ["hidden", "zero"], ["z"]), node("Add", ["x", "z"], ["y"])]
    assert_caught(model(nodes, {"x": (1, 4)}, ["y"], {"zero": np.zeros(4, np.float32)}), "'hidden'")


def test_the_first_wrong_tensor_is_named(break_op: Break) -> None:
    break_op("Neg", lambda build, op: op.real(0))
    nodes = [node("Relu", ["x"], ["a"]), node("Neg", ["a"], ["b"]), node("Tanh", ["b"], ["y"])]
    assert_caught(model(nodes, {"x": (1, 4)}, ["y"]), "'b'")


def test_a_wrong_constant_is_caught(break_op: Break) -> None:
    matmul = right("MatMul")

    def wrong(build: GraphBuilder, op: OpNode) -> Value:
        value = matmul(build, op)
        return Known(value.data.rearrange(np.transpose)) if isinstance(value, Known) else value

    break_op("MatMul", wrong)
    nodes = [node("MatMul", ["w", "w"], ["square"]), node("Mul", ["x", "square"], ["y"])]
    assert_caught(model(nodes, {"x": (1, 4)}, ["y"], {"w": random_weights(4, 4)}), "'square'")


def test_a_wrong_shape_is_caught(break_op: Break) -> None:
    def wrong(build: GraphBuilder, op: OpNode) -> Value:
        value = op.real(0)
        op.attr("perm", None)
        assert isinstance(value, Live)
        return Live(value.node, value.shape[::-1])

    break_op("Transpose", wrong)
    assert_caught(one_op("Transpose", (3, 3), perm=[1, 0]), "'y'")


def test_a_kernel_that_is_flipped_is_caught(break_op: Break) -> None:
    conv = right("Conv")

    def wrong(build: GraphBuilder, op: OpNode) -> Value:
        kernel = op.known(1, "kernel").data.rearrange(lambda k: k[..., ::-1])
        return conv(build, replace(op, inputs=(op.inputs[0], Known(kernel))))

    break_op("Conv", wrong)
    assert_caught(one_op("Conv", (1, 2, 5, 5), random_weights(3, 2, 3, 3)), "'y'")


@pytest.mark.parametrize("scale", [1e-3, 1e-6, 1e-9, 1e-12, 1e-20])
def test_a_wrong_converter_is_caught_however_small_the_weights(break_op: Break, scale: float) -> None:
    gemm = right("Gemm")
    break_op("Gemm", lambda build, op: gemm(build, replace(op, attributes={})))
    weights = (random_weights(4, 4) * scale).astype(np.float32)
    assert_caught(one_op("Gemm", ("n", 4), weights, transB=1), "'y'")


def test_a_small_entry_beside_large_ones_is_caught(break_op: Break) -> None:
    """A bias of 1 that is dropped, where other entries of the same tensor are a million times larger."""
    gemm = right("Gemm")
    break_op("Gemm", lambda build, op: gemm(build, replace(op, inputs=op.inputs[:2])))
    weights = np.diag([1e6, 1.0]).astype(np.float32)
    assert_caught(one_op("Gemm", ("n", 2), weights, np.array([0, 1], np.float32)), "'y'")


def test_the_result_of_the_check_is_kept() -> None:
    check = load_proto(network("Tanh")).check
    assert check is not None
    assert 0 < check.worst < 1e-5
    assert check.tolerance == 1e-4
    assert (check.tensors, check.points > 3) == (3, True)
    assert check.worst_tensor in ("before", "hidden", "y")


def test_cancellation_in_float32_is_no_error() -> None:
    """A high-pass filter: its weights sum to zero, but for rounding, so a constant signal leaves only rounding."""
    kernel = np.array([[[0.1, 0.2, -0.3]]], np.float32)
    load_proto(one_op("Conv", (1, 1, 20), kernel))


def test_cancellation_between_branches_is_no_error() -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("Add", ["a", "b"], ["c"]),
        node("Sub", ["c", "b2"], ["d"]),
        node("Sub", ["d", "a"], ["y"]),
    ]
    weights = {"w": random_weights(4, 4), "b": random_weights(4) + 7, "b2": random_weights(4) + 7}
    load_proto(model(nodes, {"x": ("n", 4)}, ["y"], weights))


def test_saturation_is_no_error() -> None:
    for op in ("Sigmoid", "Tanh"):
        nodes = [node("MatMul", ["x", "w"], ["a"]), node(op, ["a"], ["b"]), node("MatMul", ["b", "w"], ["y"])]
        load_proto(model(nodes, {"x": ("n", 50)}, ["y"], {"w": 3 * random_weights(50, 50)}))


@pytest.mark.parametrize("element", [TensorProto.DOUBLE, TensorProto.FLOAT16])
def test_other_float_formats_have_their_own_tolerance(element: int) -> None:
    kind = np.float64 if element == TensorProto.DOUBLE else np.float16
    nodes = [node("MatMul", ["x", "w"], ["a"]), node("Relu", ["a"], ["b"]), node("MatMul", ["b", "w"], ["y"])]
    proto = model(nodes, {"x": ("n", 8)}, ["y"], {"w": random_weights(8, 8).astype(kind)}, element=element)
    check = load_proto(proto).check
    assert check is not None
    assert check.worst <= check.tolerance
    assert (check.tolerance < 1e-8) == (element == TensorProto.DOUBLE)


def test_a_model_that_onnxruntime_cannot_run_is_refused() -> None:
    proto = one_op("Relu", (2, 3))
    proto.ir_version = 1000
    assert_refused(lambda: load_proto(proto), UnsupportedModelError, "onnxruntime")
