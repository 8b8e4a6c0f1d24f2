"""Ops that lipcert does not read: one error that names the op, the node and the opset."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lipcert.errors import LipcertError, ModelError, UnsupportedModelError, UsageError
from lipcert.frontend import load_proto
from lipcert.frontend.registry import supported_ops
from tests.helpers.onnx_models import assert_unsupported, integers, model, one_op, outcome, random_weights, session

node = helper.make_node

OTHERS: list[tuple[str, tuple[int, ...], list[np.ndarray], dict[str, Any]]] = [
    ("Abs", (2, 3), [], {}),
    ("ArgMax", (2, 3), [], {}),
    ("Ceil", (2, 3), [], {}),
    ("Erf", (2, 3), [], {}),
    ("Exp", (2, 3), [], {}),
    ("Floor", (2, 3), [], {}),
    ("InstanceNormalization", (1, 2, 4), [random_weights(2), random_weights(2)], {}),
    ("LRN", (1, 2, 4, 4), [], {"size": 3}),
    ("LayerNormalization", (2, 3), [random_weights(3)], {}),
    ("LogSoftmax", (2, 3), [], {}),
    ("MaxPool", (1, 2, 4, 4), [], {"kernel_shape": [2, 2]}),
    ("ReduceMax", (2, 3), [], {}),
    ("Round", (2, 3), [], {}),
    ("Sign", (2, 3), [], {}),
    ("Softmax", (2, 3), [], {}),
    ("ThresholdedRelu", (2, 3), [], {}),
    ("TopK", (2, 3), [integers(2)], {}),
]


@pytest.mark.parametrize(("op", "shape", "rest", "attributes"), OTHERS, ids=[o[0] for o in OTHERS])
@pytest.mark.parametrize("opset", [13, 17, 20])
def test_an_op_without_a_converter_is_refused(
    op: str, shape: tuple[int, ...], rest: list[np.ndarray], attributes: dict[str, Any], opset: int
) -> None:
    if op in supported_ops():
        pytest.skip(f"{op} is supported by now")
    refusal = assert_unsupported(one_op(op, shape, *rest, opset=opset, **attributes), op, "the_node", f"opset {opset}")
    assert refusal.hint


def test_a_node_without_a_name_is_named_by_its_output() -> None:
    nodes = [node("Relu", ["x"], ["h"]), node("Softmax", ["h"], ["probabilities"])]
    assert_unsupported(model(nodes, {"x": (2, 3)}, ["probabilities"]), "Softmax", "'probabilities'", "opset 20")


def test_the_first_op_that_is_not_understood_is_named() -> None:
    nodes = [
        node("Relu", ["x"], ["a"], name="first"),
        node("Softmax", ["a"], ["b"], name="second"),
        node("Erf", ["b"], ["y"], name="third"),
    ]
    message = str(assert_unsupported(model(nodes, {"x": (2, 3)}, ["y"]), "Softmax", "second"))
    assert "third" not in message


def test_an_unsupported_op_that_no_output_reads_is_refused_all_the_same() -> None:
    nodes = [node("Relu", ["x"], ["y"]), node("Softmax", ["x"], ["unused"], name="aside")]
    assert_unsupported(model(nodes, {"x": (2, 3)}, ["y"]), "Softmax", "aside")


def test_an_op_that_onnx_does_not_have_is_refused() -> None:
    assert_unsupported(one_op("Magic", (2, 3)), "Magic", "the_node", "opset 20")


def test_an_op_that_its_opset_does_not_have_yet_is_refused() -> None:
    assert_unsupported(one_op("Gelu", (2, 3), opset=13), "Gelu", "the_node", "opset 13")


@pytest.mark.parametrize(("domain", "op"), [("com.microsoft", "Gelu"), ("my.company", "Relu"), ("lipcert", "Unknown")])
def test_an_op_of_another_domain_is_refused(domain: str, op: str) -> None:
    nodes = [node(op, ["x"], ["y"], name="the_node", domain=domain)]
    assert_unsupported(model(nodes, {"x": (2, 3)}, ["y"], domains={domain: 1}), op, "the_node", domain)


def test_an_op_of_a_domain_that_the_model_does_not_import_is_refused() -> None:
    nodes = [node("Relu", ["x"], ["y"], name="the_node", domain="my.company")]
    assert_unsupported(model(nodes, {"x": (2, 3)}, ["y"]), "Relu", "the_node", "my.company")


def branch(name: str) -> onnx.GraphProto:
    output = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
    return helper.make_graph([node("Relu", ["x"], [name])], name, [], [output])


def test_control_flow_is_refused() -> None:
    nodes = [node("If", ["c"], ["y"], name="the_node", then_branch=branch("a"), else_branch=branch("b"))]
    proto = model(nodes, {"x": (2, 3)}, ["y"], {"c": np.array(True)})
    session(proto)
    assert_unsupported(proto, "If", "the_node", "opset 20")


@pytest.mark.parametrize("op", ["Dropout", "Split"])
def test_several_outputs_are_refused(op: str) -> None:
    if op in supported_ops():
        pytest.skip(f"{op} is supported by now")
    attributes = {"num_outputs": 2} if op == "Split" else {}
    nodes = [node(op, ["x"], ["y", "second"], name="the_node", **attributes)]
    assert_unsupported(model(nodes, {"x": (4, 3)}, ["y"]), op, "the_node", "opset 20")


def test_quantised_networks_are_refused() -> None:
    nodes = [
        node("QuantizeLinear", ["x", "scale"], ["q"], name="the_node"),
        node("DequantizeLinear", ["q", "scale"], ["y"]),
    ]
    proto = model(nodes, {"x": (2, 3)}, ["y"], {"scale": np.array(0.1, np.float32)})
    session(proto)
    assert_unsupported(proto, "QuantizeLinear", "the_node", "opset 20")


def test_a_jump_is_refused() -> None:
    nodes = [
        node("Greater", ["x", "zero"], ["c"], name="the_node"),
        node("Where", ["c", "x", "zero"], ["y"]),
    ]
    assert_unsupported(model(nodes, {"x": (2, 3)}, ["y"], {"zero": np.array(0, np.float32)}), "Greater", "the_node")


def test_sparse_initializers_are_refused() -> None:
    proto = model([node("MatMul", ["x", "w"], ["y"])], {"x": (2, 3)}, ["y"])
    values, where = numpy_helper.from_array(random_weights(2), "w"), numpy_helper.from_array(integers(0, 7))
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, where, [3, 4]))
    found = outcome(lambda: load_proto(proto))
    assert isinstance(found, ModelError)
    assert "'w'" in str(found)


def test_errors_of_a_model_have_exit_status_3_and_of_usage_2() -> None:
    assert (ModelError("m").exit_status, UnsupportedModelError("m").exit_status) == (3, 3)
    assert UsageError("m").exit_status == 2
    assert str(LipcertError("what", hint="do this")) == "what (do this)"
    assert str(LipcertError("what")) == "what"
