"""Each op that the registry lists, at each version of its definition: the import equals onnxruntime."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from lipcert.frontend.registry import supported_ops
from tests.helpers.onnx_models import assert_agrees, integers, model, one_op, random_weights, session_or_skip

Example = Callable[[int], onnx.ModelProto]

IMAGE = (1, 2, 5, 4)


def unary(op: str, **attributes: float) -> Example:
    return lambda opset: one_op(op, IMAGE, opset=opset, **attributes)


def binary(op: str) -> Example:
    return lambda opset: one_op(op, (2, 3), random_weights(2, 3) + 4, opset=opset)


def batch_normalization(opset: int) -> onnx.ModelProto:
    gain, bias, mean = (random_weights(2, seed=s) for s in range(3))
    return one_op("BatchNormalization", IMAGE, gain, bias, mean, np.array([0.5, 2], np.float32), opset=opset)


def concat(opset: int) -> onnx.ModelProto:
    return one_op("Concat", (2, 3), random_weights(2, 2), opset=opset, axis=1)


def constant(opset: int) -> onnx.ModelProto:
    stored = numpy_helper.from_array(random_weights(2, 3))
    nodes = [helper.make_node("Constant", [], ["c"], value=stored), helper.make_node("Add", ["x", "c"], ["y"])]
    return model(nodes, {"x": (2, 3)}, ["y"], opset=opset)


def gemm(opset: int) -> onnx.ModelProto:
    return one_op("Gemm", (2, 3), random_weights(4, 3), random_weights(4), opset=opset, transB=1)


def pad(opset: int) -> onnx.ModelProto:
    pads = (1, 0, 2, 1)
    if opset < 11:
        return one_op("Pad", (2, 3), opset=opset, pads=pads, value=0.5)
    return one_op("Pad", (2, 3), integers(*pads), np.array(0.5, np.float32), opset=opset)


def reduce_mean(opset: int) -> onnx.ModelProto:
    if opset < 18:
        return one_op("ReduceMean", IMAGE, opset=opset, axes=[1, 3])
    return one_op("ReduceMean", IMAGE, integers(1, 3), opset=opset)


def shape(opset: int) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Shape", ["w"], ["s"]),
        helper.make_node("Reshape", ["x", "s"], ["y"]),
    ]
    return model(nodes, {"x": (6,)}, ["y"], {"w": random_weights(3, 2)}, opset=opset)


def axes_op(op: str, shape: tuple[int, ...]) -> Example:
    def build(opset: int) -> onnx.ModelProto:
        if opset < 13:
            return one_op(op, shape, opset=opset, axes=[0, 2])
        return one_op(op, shape, integers(0, 2), opset=opset)

    return build


EXAMPLES: dict[str, Example] = {
    "Add": binary("Add"),
    "AveragePool": lambda opset: one_op("AveragePool", IMAGE, opset=opset, kernel_shape=[2, 3], strides=[2, 1]),
    "BatchNormalization": batch_normalization,
    "Concat": concat,
    "Constant": constant,
    "Conv": lambda opset: one_op("Conv", IMAGE, random_weights(3, 2, 2, 3), random_weights(3), opset=opset),
    "Div": binary("Div"),
    "Flatten": lambda opset: one_op("Flatten", IMAGE, opset=opset, axis=2),
    "Gemm": gemm,
    "GlobalAveragePool": unary("GlobalAveragePool"),
    "Identity": unary("Identity"),
    "LeakyRelu": unary("LeakyRelu", alpha=0.2),
    "MatMul": lambda opset: one_op("MatMul", (2, 3), random_weights(3, 4), opset=opset),
    "Mul": binary("Mul"),
    "Neg": unary("Neg"),
    "Pad": pad,
    "ReduceMean": reduce_mean,
    "Relu": unary("Relu"),
    "Reshape": lambda opset: one_op("Reshape", (2, 3, 4), integers(0, -1, 2), opset=opset),
    "Shape": shape,
    "Sigmoid": unary("Sigmoid"),
    "Squeeze": axes_op("Squeeze", (1, 3, 1)),
    "Sub": binary("Sub"),
    "Tanh": unary("Tanh"),
    "Transpose": lambda opset: one_op("Transpose", (2, 3, 4), opset=opset, perm=[2, 0, 1]),
    "Unsqueeze": axes_op("Unsqueeze", (3,)),
}

VERSIONS = [(op, since) for op, versions in supported_ops().items() for since in versions]


def test_every_supported_op_has_an_example() -> None:
    assert set(supported_ops()) <= set(EXAMPLES)


@pytest.mark.parametrize(("op", "since"), VERSIONS)
def test_import_equals_onnxruntime(op: str, since: int) -> None:
    opset = max(since, 7)
    assert onnx.defs.get_schema(op, opset, "").since_version == since
    proto = EXAMPLES[op](opset)
    run = session_or_skip(proto)
    imported = assert_agrees(proto, run=run)
    assert imported.opset == opset


@pytest.mark.parametrize("op", sorted(EXAMPLES))
def test_an_op_on_a_constant_is_folded(op: str) -> None:
    """The same example with a stored tensor in place of the input, added to a new input."""
    graph = EXAMPLES[op](20).graph
    sizes = [d.dim_value for d in graph.input[0].type.tensor_type.shape.dim]
    weights = {"x": random_weights(*sizes, seed=7)} | {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    proto = model([*graph.node, helper.make_node("Add", ["y", "z"], ["sum"])], {"z": ("n",)}, ["sum"], weights)
    imported = assert_agrees(proto)
    assert len(imported.graph.nodes) == 2
    assert imported.folded or op == "Identity"


@pytest.mark.parametrize("op", sorted(EXAMPLES))
def test_ops_of_the_ai_onnx_domain_are_those_of_the_default_one(op: str) -> None:
    proto = EXAMPLES[op](20)
    run = session_or_skip(proto)
    for node in proto.graph.node:
        node.domain = "ai.onnx"
    assert_agrees(proto, run=run)
