"""What a model declares: dynamic axes, several inputs and outputs, types that have no slope."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from lipcert.errors import ModelError, UnsupportedModelError
from lipcert.frontend import TensorInfo, load_proto
from tests.helpers.onnx_models import (
    assert_agrees,
    assert_malformed,
    assert_refused,
    assert_unsupported,
    model,
    one_op,
    random_weights,
)

node = helper.make_node


@pytest.mark.parametrize("batch", ["batch", "N", None, ""])
def test_a_dynamic_batch_axis_is_pinned_to_one(batch: str | None) -> None:
    imported = assert_agrees(one_op("MatMul", (batch, 3), random_weights(3, 4)))
    assert imported.inputs == (TensorInfo("x", (1, 3)),)
    assert imported.outputs == (TensorInfo("y", (1, 4)),)


def test_a_fixed_batch_stays_as_it_is() -> None:
    imported = assert_agrees(one_op("MatMul", (5, 3), random_weights(3, 4)))
    assert imported.inputs == (TensorInfo("x", (5, 3)),)


def test_one_symbol_on_several_inputs_is_pinned_on_each() -> None:
    nodes = [node("Add", ["a", "b"], ["y"])]
    imported = assert_agrees(model(nodes, {"a": ("n", 3), "b": ("n", 3)}, ["y"]))
    assert imported.outputs == (TensorInfo("y", (1, 3)),)


@pytest.mark.parametrize(("shape", "axis", "symbol"), [((1, "width"), 1, "width"), (("n", 3, "h", "w"), 2, "h")])
def test_another_dynamic_axis_is_refused_by_name(shape: tuple[int | str, ...], axis: int, symbol: str) -> None:
    assert_unsupported(one_op("Relu", shape), "'x'", f"axis {axis}", symbol)


def test_a_nameless_dynamic_axis_is_refused() -> None:
    assert_unsupported(one_op("Relu", (1, None)), "'x'", "axis 1")


def test_an_input_without_a_shape_is_refused() -> None:
    proto = one_op("Relu", (1, 3))
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    assert_unsupported(proto, "'x'", "no shape")


@pytest.mark.parametrize("size", [0, -3])
def test_an_input_without_entries_is_malformed(size: int) -> None:
    assert_malformed(one_op("Relu", (1, size)), "'x'")


def test_a_scalar_input() -> None:
    imported = load_proto(one_op("Mul", (), np.array(2.0, np.float32)))
    assert imported.inputs == (TensorInfo("x", ()),)
    assert imported.check is not None


@pytest.mark.parametrize(
    "element", [TensorProto.INT64, TensorProto.INT32, TensorProto.UINT8, TensorProto.BOOL, TensorProto.STRING]
)
def test_an_input_that_is_no_float_is_refused(element: int) -> None:
    proto = one_op("Identity", (1, 3))
    proto.graph.input[0].type.tensor_type.elem_type = element
    proto.graph.output[0].type.tensor_type.elem_type = element
    assert_unsupported(proto, "'x'", TensorProto.DataType.Name(element))


def test_an_input_that_is_no_tensor_is_refused() -> None:
    proto = one_op("Identity", (1, 3))
    sequence = helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, None)
    proto.graph.input[0].CopyFrom(sequence)
    assert_unsupported(proto, "'x'")


def test_several_inputs_and_outputs() -> None:
    nodes = [
        node("Gemm", ["a", "w"], ["h"], transB=1),
        node("Relu", ["h"], ["first"]),
        node("Concat", ["first", "b"], ["second"], axis=1),
        node("Sub", ["b", "b2"], ["third"]),
    ]
    weights = {"w": random_weights(4, 3), "b2": random_weights(5)}
    imported = assert_agrees(model(nodes, {"a": ("n", 3), "b": ("n", 5)}, ["third", "first", "second"], weights))
    assert [i.name for i in imported.inputs] == ["a", "b"]
    assert [(o.name, o.shape) for o in imported.outputs] == [("third", (1, 5)), ("first", (1, 4)), ("second", (1, 9))]


def test_an_output_may_be_read_by_later_nodes() -> None:
    nodes = [node("Relu", ["x"], ["a"]), node("Neg", ["a"], ["b"])]
    assert_agrees(model(nodes, {"x": (2, 3)}, ["a", "b"]))


def test_an_output_may_be_an_input() -> None:
    proto = model([node("Relu", ["x"], ["a"])], {"x": (2, 3)}, ["x", "a"])
    proto.graph.output[0].CopyFrom(proto.graph.input[0])
    assert_agrees(proto)


def test_an_input_that_nothing_reads_stays_an_input() -> None:
    imported = assert_agrees(model([node("Relu", ["x"], ["y"])], {"x": (2, 3), "unused": (4,)}, ["y"]))
    assert [i.name for i in imported.inputs] == ["x", "unused"]


def test_nodes_that_nothing_reads_do_no_harm() -> None:
    nodes = [node("Relu", ["x"], ["y"]), node("Tanh", ["x"], ["unused"])]
    assert_agrees(model(nodes, {"x": (2, 3)}, ["y"]))


def test_a_model_without_outputs_is_malformed() -> None:
    proto = one_op("Relu", (2, 3))
    del proto.graph.output[:]
    assert_malformed(proto, "no outputs")


def test_a_model_without_inputs_is_malformed() -> None:
    nodes = [node("Relu", ["w"], ["y"])]
    assert_malformed(model(nodes, {}, ["y"], {"w": random_weights(2, 3)}), "no inputs")


def tagged(name: str, element: int) -> onnx.ModelProto:
    """y = relu(x), and an output that depends on no input."""
    nodes = [node("Relu", ["x"], ["y"]), node("Relu", ["w"], ["z"]), node("Shape", ["x"], ["s"])]
    proto = model(nodes, {"x": (2, 3)}, ["y", name], {"w": random_weights(2, 3)})
    proto.graph.output[1].type.tensor_type.elem_type = element
    return proto


CONSTANT_OUTPUTS = [("w", TensorProto.FLOAT), ("z", TensorProto.FLOAT), ("s", TensorProto.INT64)]


@pytest.mark.parametrize(("name", "element"), CONSTANT_OUTPUTS)
def test_an_output_that_depends_on_no_input_is_noted_beside_one_that_does(name: str, element: int) -> None:
    imported = load_proto(tagged(name, element))
    assert [o.name for o in imported.outputs] == ["y"]
    (note,) = imported.notes
    assert f"output {name}" in note
    assert "depends on no input" in note


@pytest.mark.parametrize(("name", "element"), CONSTANT_OUTPUTS)
def test_a_model_whose_outputs_depend_on_no_input_is_malformed(name: str, element: int) -> None:
    proto = tagged(name, element)
    del proto.graph.output[0]
    assert_malformed(proto, repr(name), "depends on no input")


def test_an_output_that_nothing_produces_is_malformed() -> None:
    proto = one_op("Relu", (2, 3))
    proto.graph.output[0].name = "nothing"
    assert_malformed(proto, "'nothing'")


@pytest.mark.parametrize(
    ("opset", "error"),
    [
        (0, UnsupportedModelError),
        (-1, UnsupportedModelError),
        (1, UnsupportedModelError),
        (6, UnsupportedModelError),
        (99, UnsupportedModelError),
        (2**40, UnsupportedModelError),
        (-(2**40), UnsupportedModelError),
    ],
)
def test_opsets_that_are_too_old_or_unknown_are_refused(opset: int, error: type[ModelError]) -> None:
    proto = one_op("Relu", (2, 3))
    proto.opset_import[0].version = opset
    assert_refused(lambda: load_proto(proto), error, "opset")


def test_a_model_without_an_opset_is_refused() -> None:
    proto = one_op("Relu", (2, 3))
    del proto.opset_import[:]
    assert_unsupported(proto, "opset")


def test_the_model_says_what_it_came_from() -> None:
    proto = one_op("Gemm", (2, 3), random_weights(3, 4), random_weights(4))
    proto.producer_version = "1.2"
    imported = load_proto(proto)
    assert imported.path == "<memory>"
    assert imported.producer == "tests 1.2"
    assert (imported.parameters, imported.node_count, imported.opset) == (16, 1, 20)
    assert imported.sha256 == load_proto(proto).sha256
    proto.producer_version = "1.3"
    assert imported.sha256 != load_proto(proto).sha256
