"""Models that break the ONNX specification: one line that names the place, never another exception."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lipcert.errors import ModelError
from lipcert.frontend import load_proto
from tests.helpers.onnx_models import (
    assert_malformed,
    integers,
    model,
    one_op,
    outcome,
    random_weights,
)

node = helper.make_node


def test_a_tensor_that_nothing_produces_is_named() -> None:
    nodes = [node("Add", ["x", "ghost"], ["y"], name="the_node")]
    assert_malformed(model(nodes, {"x": (2, 3)}, ["y"]), "Add", "the_node", "'ghost'", "opset 20")


def test_nodes_out_of_order_are_malformed() -> None:
    nodes = [node("Relu", ["h"], ["y"], name="the_node"), node("Neg", ["x"], ["h"])]
    assert_malformed(model(nodes, {"x": (2, 3)}, ["y"]), "Relu", "the_node", "'h'", "opset 20")


def test_a_cycle_is_malformed() -> None:
    nodes = [node("Add", ["x", "b"], ["a"], name="the_node"), node("Relu", ["a"], ["b"])]
    assert_malformed(model(nodes, {"x": (2, 3)}, ["b"]), "Add", "the_node", "'b'", "opset 20")


def test_a_node_that_reads_itself_is_malformed() -> None:
    assert_malformed(model([node("Relu", ["y"], ["y"], name="the_node")], {"x": (2, 3)}, ["y"]), "'y'")


def test_a_tensor_that_two_nodes_produce_is_malformed() -> None:
    nodes = [node("Relu", ["x"], ["y"], name="first"), node("Neg", ["x"], ["y"], name="second")]
    assert_malformed(model(nodes, {"x": (2, 3)}, ["y"]), "'y'")


@pytest.mark.parametrize("name", ["x", "w"])
def test_a_node_that_produces_an_input_or_weight_is_malformed(name: str) -> None:
    nodes = [node("Relu", ["x"], [name], name="the_node"), node("Add", ["x", "w"], ["y"])]
    assert_malformed(model(nodes, {"x": (3,)}, ["y"], {"w": random_weights(3)}), repr(name))


def test_two_inputs_of_one_name_are_malformed() -> None:
    proto = model([node("Relu", ["x"], ["y"])], {"x": (2, 3)}, ["y"])
    proto.graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, [5]))
    found = outcome(lambda: load_proto(proto))
    assert isinstance(found, ModelError)
    assert "x" in str(found)


def test_two_initializers_of_one_name_are_malformed() -> None:
    """Which of the two counts is left open, so no reading of it can be certified."""
    proto = one_op("Add", (3,), random_weights(3))
    proto.graph.initializer.append(numpy_helper.from_array(random_weights(3, seed=9), "c0"))
    assert_malformed(proto, "'c0'")


def test_a_missing_input_is_malformed() -> None:
    proto = one_op("MatMul", (2, 3), random_weights(3, 4))
    del proto.graph.node[0].input[1]
    assert_malformed(proto, "MatMul", "the_node", "input 1", "opset 20")


@pytest.mark.parametrize("op", ["Add", "BatchNormalization", "Concat", "Conv", "Gemm", "Pad", "Relu", "Reshape"])
def test_a_node_without_inputs_is_malformed(op: str) -> None:
    proto = model([node(op, [], ["y"], name="the_node", axis=0) if op == "Concat" else node(op, [], ["y"])], {}, ["y"])
    proto.graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3]))
    assert_malformed(proto, op, "opset 20")


def test_a_node_without_an_output_is_malformed() -> None:
    proto = model([node("Relu", ["x"], ["y"])], {"x": (2, 3)}, ["y"])
    proto.graph.node.add(op_type="Relu", input=["x"], name="the_node")
    assert_malformed(proto, "Relu", "the_node", "opset 20")


def test_a_node_without_a_type_is_refused() -> None:
    proto = one_op("Relu", (2, 3))
    proto.graph.node[0].op_type = ""
    assert isinstance(outcome(lambda: load_proto(proto)), ModelError)


def test_an_empty_model_is_malformed() -> None:
    for proto in (onnx.ModelProto(), helper.make_model(helper.make_graph([], "empty", [], []))):
        assert isinstance(outcome(lambda proto=proto: load_proto(proto)), ModelError)


@pytest.mark.parametrize(
    ("dims", "size"),
    [([2**31, 2**31], 12), ([2**40], 12), ([2**62, 2], 12), ([5], 12), ([-1], 12), ([-3, -4], 12), ([3, 4], 0)],
)
def test_an_initializer_whose_data_does_not_fit_its_shape_is_malformed(dims: list[int], size: int) -> None:
    proto = one_op("Add", (12,), random_weights(12))
    stored = proto.graph.initializer[0]
    stored.raw_data = stored.raw_data[: 4 * size]
    stored.ClearField("dims")
    stored.dims.extend(dims)
    assert_malformed(proto, "'c0'")


@pytest.mark.parametrize("dims", [[2**31, 2**31], [2**40], [5], [-1]])
def test_a_constant_whose_data_does_not_fit_its_shape_is_malformed(dims: list[int]) -> None:
    stored = numpy_helper.from_array(random_weights(12))
    stored.ClearField("dims")
    stored.dims.extend(dims)
    nodes = [node("Constant", [], ["c"], name="the_node", value=stored), node("Add", ["x", "c"], ["y"])]
    assert_malformed(model(nodes, {"x": (12,)}, ["y"]), "Constant", "the_node")


@pytest.mark.parametrize("element", [0, 99, -1])
def test_an_initializer_of_no_type_is_refused(element: int) -> None:
    proto = one_op("Add", (3,), random_weights(3))
    proto.graph.initializer[0].data_type = element
    found = outcome(lambda: load_proto(proto))
    assert isinstance(found, ModelError)
    assert "\n" not in str(found)


@pytest.mark.parametrize("sizes", [(2**31, 2**31), (2**40,), (1, 2**29)])
def test_a_huge_input_is_malformed(sizes: tuple[int, ...]) -> None:
    assert_malformed(one_op("Relu", sizes), "'x'", "limit")


ENORMOUS = 2**58
"""Beyond every address space, so that an attempt to allocate it fails at once."""

HUGE: dict[str, onnx.ModelProto] = {
    "Conv pads": one_op("Conv", (1, 1, 4, 4), random_weights(1, 1, 2, 2), pads=[0, 0, ENORMOUS, ENORMOUS]),
    "Conv dilations": one_op("Conv", (1, 1, 4, 4), random_weights(1, 1, 2, 2), dilations=[ENORMOUS, 1]),
    "AveragePool kernel_shape": one_op("AveragePool", (1, 1, 4, 4), kernel_shape=[ENORMOUS, ENORMOUS]),
    "AveragePool pads": one_op("AveragePool", (1, 1, 4), kernel_shape=[2], pads=[0, ENORMOUS]),
    "AveragePool both": one_op("AveragePool", (1, 1, 4), kernel_shape=[ENORMOUS], pads=[0, ENORMOUS]),
    "AveragePool strides": one_op(
        "AveragePool", (1, 1, 4), kernel_shape=[2], pads=[0, ENORMOUS], strides=[ENORMOUS], count_include_pad=1
    ),
    "Conv strides": one_op("Conv", (1, 1, 4), random_weights(1, 1, 2), pads=[0, ENORMOUS], strides=[ENORMOUS]),
    "Conv auto_pad": one_op("Conv", (1, 1, 4), random_weights(1, 1, 2), dilations=[ENORMOUS], auto_pad="SAME_UPPER"),
    "Pad constant": one_op("Pad", (2, 3), integers(0, 0, ENORMOUS, 0)),
    "Pad edge": one_op("Pad", (2, 3), integers(0, 0, ENORMOUS, 0), mode="edge"),
    "Pad crop": one_op("Pad", (2, 3), integers(0, 0, -ENORMOUS, 0)),
    "Reshape": one_op("Reshape", (2, 3), integers(ENORMOUS, 2**6)),
    "Unsqueeze": one_op("Unsqueeze", (2, 3), integers(ENORMOUS)),
}


@pytest.mark.parametrize("case", HUGE)
def test_a_small_file_cannot_ask_for_enormous_memory(case: str) -> None:
    assert_malformed(HUGE[case], case.split(maxsplit=1)[0], "the_node", "opset 20")


@pytest.mark.parametrize("op", ["Add", "Sub"])
def test_a_sum_that_broadcasts_to_enormous_size_is_malformed(op: str) -> None:
    nodes = [
        node("Reshape", ["x", "column"], ["c"]),
        node("Reshape", ["x", "row"], ["r"]),
        node(op, ["c", "r"], ["y"], name="outer"),
    ]
    weights = {"column": integers(-1, 1), "row": integers(1, -1)}
    assert_malformed(model(nodes, {"x": (2**16,)}, ["y"], weights), op, "outer", "opset 20", "limit")


ZERO_SIZE: dict[str, onnx.ModelProto] = {
    "MatMul": one_op("MatMul", (2, 3), np.zeros((3, 0), np.float32)),
    "Gemm": one_op("Gemm", (2, 3), np.zeros((3, 0), np.float32)),
    "Conv": one_op("Conv", (1, 3, 4), np.zeros((0, 3, 2), np.float32)),
    "Conv kernel": one_op("Conv", (1, 3, 4), np.zeros((2, 3, 0), np.float32)),
    "Add": one_op("Add", (2, 1), np.zeros((2, 0), np.float32)),
    "Mul": one_op("Mul", (1,), np.zeros((0,), np.float32)),
    "Pad": one_op("Pad", (2, 3), integers(0, -3, 0, 0)),
    "Reshape": one_op("Reshape", (2, 3), integers(0, 0, 6)),
}


@pytest.mark.parametrize("case", ZERO_SIZE)
def test_a_live_tensor_without_entries_is_refused(case: str) -> None:
    found = outcome(lambda: load_proto(ZERO_SIZE[case]))
    assert isinstance(found, ModelError), "a network without outputs has no slope"
    assert "the_node" in str(found)


def test_an_unused_initializer_without_entries_does_no_harm() -> None:
    proto = one_op("Relu", (2, 3))
    proto.graph.initializer.append(numpy_helper.from_array(np.zeros((0,), np.float32), "empty"))
    load_proto(proto)


def test_a_declared_output_shape_that_is_wrong_is_refused_or_ignored() -> None:
    proto = one_op("Relu", (2, 3))
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, [7, 7]))
    found = outcome(lambda: load_proto(proto))
    assert isinstance(found, ModelError) or found.outputs[0].shape == (2, 3)  # type: ignore[union-attr]


def test_mixed_float_types_are_refused() -> None:
    proto = one_op("MatMul", (2, 3), np.ones((3, 4)))
    assert isinstance(outcome(lambda: load_proto(proto)), ModelError)


@pytest.mark.parametrize(
    ("op", "rest"), [("Relu", [random_weights(3)]), ("Add", [random_weights(3)] * 2), ("MatMul", [np.eye(3)] * 3)]
)
def test_inputs_that_an_op_does_not_have_are_refused(op: str, rest: list[np.ndarray]) -> None:
    found = outcome(lambda: load_proto(one_op(op, (3, 3), *(r.astype(np.float32) for r in rest))))
    assert isinstance(found, ModelError)


def test_attributes_that_an_op_does_not_have_are_refused() -> None:
    attributes: dict[str, Any] = {"surprise": 1}
    found = outcome(lambda: load_proto(one_op("Relu", (2, 3), **attributes)))
    assert isinstance(found, ModelError)


@pytest.mark.parametrize("text", ["two\nlines", "two\rlines", "\x1b[2Jclears the screen"])
@pytest.mark.parametrize("field", ["op_type", "name", "domain", "input", "output", "attribute", "dim", "initializer"])
def test_whatever_names_hold_a_message_is_one_printable_line(field: str, text: str) -> None:
    nodes = [node("NonZero", ["x"], ["y"])]
    if field in ("op_type", "name", "domain"):
        setattr(nodes[0], field, text)
    elif field in ("input", "output"):
        getattr(nodes[0], field)[0] = text
    elif field == "attribute":
        nodes[0] = node("Relu", ["x"], ["y"], **{text: 1})
    weights = {text: np.array([np.nan], np.float32)} if field == "initializer" else {}
    proto = model(nodes, {"x": (2, text if field == "dim" else 3)}, ["y"], weights, domains={text: 1})
    found = outcome(lambda: load_proto(proto))
    assert isinstance(found, ModelError)
    assert str(found).isprintable()
