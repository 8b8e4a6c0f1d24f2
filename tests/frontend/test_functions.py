"""Model-local functions are inlined, nested ones too."""

from __future__ import annotations

import onnx
import pytest
from onnx import helper

from lipcert.errors import ModelError
from lipcert.frontend import load_proto
from tests.helpers.onnx_models import (
    assert_agrees,
    assert_unsupported,
    model,
    outcome,
    random_weights,
)

node = helper.make_node
STANDARD = helper.make_opsetid("", 20)
LOCAL = helper.make_opsetid("local", 1)


def dense() -> onnx.FunctionProto:
    """relu(x w + b)."""
    nodes = [node("MatMul", ["x", "w"], ["m"]), node("Add", ["m", "b"], ["a"]), node("Relu", ["a"], ["y"])]
    return helper.make_function("local", "Dense", ["x", "w", "b"], ["y"], nodes, [STANDARD])


def residual() -> onnx.FunctionProto:
    """x + Dense(x, w, b)."""
    nodes = [node("Dense", ["x", "w", "b"], ["f"], domain="local"), node("Add", ["x", "f"], ["y"])]
    return helper.make_function("local", "Residual", ["x", "w", "b"], ["y"], nodes, [STANDARD, LOCAL])


def calls(op: str, functions: list[onnx.FunctionProto], count: int = 1) -> onnx.ModelProto:
    nodes = [node(op, [f"x{k}", "w", "b"], [f"x{k + 1}"], name=f"call{k}", domain="local") for k in range(count)]
    weights = {"w": random_weights(3, 3), "b": random_weights(3)}
    return model(nodes, {"x0": (2, 3)}, [f"x{count}"], weights, functions=functions, domains={"local": 1})


def test_a_function_is_inlined() -> None:
    assert_agrees(calls("Dense", [dense()]))


@pytest.mark.parametrize("count", [2, 5])
def test_a_function_called_again_is_inlined_each_time(count: int) -> None:
    assert_agrees(calls("Dense", [dense()], count))


@pytest.mark.parametrize("order", [1, -1])
def test_nested_functions_are_inlined(order: int) -> None:
    assert_agrees(calls("Residual", [dense(), residual()][::order], count=2))


def test_the_self_check_sees_the_inlined_nodes() -> None:
    check = load_proto(calls("Residual", [dense(), residual()], count=2)).check
    assert check is not None
    assert check.tensors == 8


def test_attributes_are_passed_to_the_body() -> None:
    body = node("LeakyRelu", ["x"], ["y"])
    reference = body.attribute.add(name="alpha", type=onnx.AttributeProto.FLOAT)
    reference.ref_attr_name = "slope"
    function = helper.make_function("local", "Leaky", ["x"], ["y"], [body], [STANDARD], ["slope"])
    nodes = [node("Leaky", ["x"], ["y"], domain="local", slope=0.3)]
    assert_agrees(model(nodes, {"x": (2, 30)}, ["y"], functions=[function], domains={"local": 1}))


def test_default_values_of_attributes_are_used() -> None:
    body = node("LeakyRelu", ["x"], ["y"])
    reference = body.attribute.add(name="alpha", type=onnx.AttributeProto.FLOAT)
    reference.ref_attr_name = "slope"
    function = helper.make_function(
        "local", "Leaky", ["x"], ["y"], [body], [STANDARD], attribute_protos=[helper.make_attribute("slope", 0.4)]
    )
    nodes = [node("Leaky", ["x"], ["h"], domain="local"), node("Leaky", ["h"], ["y"], domain="local", slope=0.7)]
    assert_agrees(model(nodes, {"x": (2, 30)}, ["y"], functions=[function], domains={"local": 1}))


def test_constants_inside_a_function() -> None:
    body = [node("Constant", [], ["two"], value_float=2.0), node("Mul", ["x", "two"], ["y"])]
    function = helper.make_function("local", "Double", ["x"], ["y"], body, [STANDARD])
    nodes = [node("Double", ["x"], ["h"], domain="local"), node("Double", ["h"], ["y"], domain="local")]
    assert_agrees(model(nodes, {"x": (2, 3)}, ["y"], functions=[function], domains={"local": 1}))


def test_a_function_that_computes_weights_is_folded() -> None:
    body = [node("MatMul", ["a", "b"], ["y"])]
    function = helper.make_function("local", "Product", ["a", "b"], ["y"], body, [STANDARD])
    nodes = [node("Product", ["w", "w"], ["p"], domain="local"), node("MatMul", ["x", "p"], ["y"])]
    proto = model(nodes, {"x": (2, 3)}, ["y"], {"w": random_weights(3, 3)}, functions=[function], domains={"local": 1})
    assert len(assert_agrees(proto).folded) == 1


def test_an_unsupported_op_inside_a_function_is_refused_by_name() -> None:
    body = [node("Det", ["x"], ["y"], name="inner")]
    function = helper.make_function("local", "Volume", ["x"], ["y"], body, [STANDARD])
    nodes = [node("Volume", ["x"], ["y"], domain="local")]
    refused = model(nodes, {"x": (2, 3, 3)}, ["y"], functions=[function], domains={"local": 1})
    assert_unsupported(refused, "Det", "inner", "opset 20")


def test_a_call_of_a_function_that_is_missing_is_refused() -> None:
    assert_unsupported(calls("Dense", []), "local", "Dense", "call0")


def test_a_function_that_calls_itself_is_refused() -> None:
    body = [node("Loop", ["x"], ["h"], domain="local"), node("Relu", ["h"], ["y"])]
    function = helper.make_function("local", "Loop", ["x"], ["y"], body, [STANDARD, LOCAL])
    nodes = [node("Loop", ["x"], ["y"], domain="local")]
    proto = model(nodes, {"x": (2, 3)}, ["y"], functions=[function], domains={"local": 1})
    found = outcome(lambda: load_proto(proto))
    assert isinstance(found, ModelError)


def test_a_call_with_too_many_inputs_is_refused() -> None:
    proto = calls("Dense", [dense()])
    proto.graph.node[0].input.append("w")
    assert isinstance(outcome(lambda: load_proto(proto)), ModelError)


def test_a_function_of_another_opset_than_the_model_is_read_by_its_own_or_refused() -> None:
    """ReduceMean takes its axes as an attribute at opset 13, and as an input at opset 20."""
    body = [node("ReduceMean", ["x"], ["y"], axes=[1])]
    function = helper.make_function("local", "Mean", ["x"], ["y"], body, [helper.make_opsetid("", 13)])
    nodes = [node("Mean", ["x"], ["y"], domain="local")]
    proto = model(nodes, {"x": (2, 3)}, ["y"], functions=[function], domains={"local": 1})
    found = outcome(lambda: load_proto(proto, check=False))
    if not isinstance(found, ModelError):
        assert_agrees(proto)
