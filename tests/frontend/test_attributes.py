"""Attributes of the wrong type or with absurd values are refused by name, whatever the op."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, TensorProto, helper

from lipcert.errors import ModelError
from lipcert.frontend import load_proto
from tests.helpers.onnx_models import assert_refused, integers, model, one_op, outcome, random_weights

KERNEL = random_weights(2, 2, 3, 3)
STATISTICS = [np.array(pair, np.float32) for pair in ([1, 2], [3, -1], [0.5, -2], [1, 4])]
MAPS = (1, 2, 8, 8)


def attribute(name: str, value: Any) -> AttributeProto:
    """An attribute whose type is that of the value, whatever the op wants."""
    return helper.make_attribute(name, value)


BASES: dict[str, onnx.ModelProto] = {
    "AveragePool": one_op("AveragePool", MAPS, kernel_shape=[2, 2]),
    "BatchNormalization": one_op("BatchNormalization", MAPS, *STATISTICS),
    "BatchNormalization7": one_op("BatchNormalization", MAPS, *STATISTICS, opset=7),
    "Concat": one_op("Concat", (2, 3), random_weights(2, 3), axis=1),
    "Conv": one_op("Conv", MAPS, KERNEL),
    "Flatten": one_op("Flatten", MAPS),
    "Gemm": one_op("Gemm", (2, 3), random_weights(3, 3), random_weights(3)),
    "LeakyRelu": one_op("LeakyRelu", (2, 3)),
    "Pad": one_op("Pad", (2, 3), integers(1, 1, 1, 1)),
    "Pad10": one_op("Pad", (2, 3), opset=10, pads=[1, 1, 1, 1]),
    "ReduceMean": one_op("ReduceMean", (2, 3)),
    "ReduceMean13": one_op("ReduceMean", (2, 3), opset=13, axes=[1]),
    "Reshape": one_op("Reshape", (2, 3), integers(6)),
    "Squeeze11": one_op("Squeeze", (1, 3), opset=11, axes=[0]),
    "Transpose": one_op("Transpose", (2, 3), perm=[1, 0]),
    "Unsqueeze11": one_op("Unsqueeze", (1, 3), opset=11, axes=[0]),
}

INT, FLOAT, TEXT, INTS, FLOATS, TEXTS = 1, 1.0, "one", [1, 1], [1.0, 1.0], ["one", "two"]
TENSOR = helper.make_tensor("t", TensorProto.INT64, [2], [1, 1])
KINDS: dict[str, list[Any]] = {
    "int": [FLOAT, TEXT, INTS, FLOATS, TEXTS, TENSOR],
    "float": [INT, TEXT, INTS, FLOATS, TEXTS, TENSOR],
    "string": [INT, FLOAT, INTS, FLOATS, TEXTS, TENSOR],
    "ints": [INT, FLOAT, TEXT, FLOATS, TEXTS, TENSOR],
}
ATTRIBUTES: dict[str, dict[str, str]] = {
    "AveragePool": {
        "kernel_shape": "ints",
        "strides": "ints",
        "pads": "ints",
        "dilations": "ints",
        "auto_pad": "string",
        "count_include_pad": "int",
        "ceil_mode": "int",
    },
    "BatchNormalization": {"epsilon": "float", "training_mode": "int"},
    "BatchNormalization7": {"epsilon": "float", "spatial": "int"},
    "Concat": {"axis": "int"},
    "Conv": {
        "kernel_shape": "ints",
        "strides": "ints",
        "pads": "ints",
        "dilations": "ints",
        "auto_pad": "string",
        "group": "int",
    },
    "Flatten": {"axis": "int"},
    "Gemm": {"alpha": "float", "beta": "float", "transA": "int", "transB": "int"},
    "LeakyRelu": {"alpha": "float"},
    "Pad": {"mode": "string"},
    "Pad10": {"mode": "string", "pads": "ints", "value": "float"},
    "ReduceMean": {"keepdims": "int", "noop_with_empty_axes": "int"},
    "ReduceMean13": {"axes": "ints", "keepdims": "int"},
    "Reshape": {"allowzero": "int"},
    "Squeeze11": {"axes": "ints"},
    "Transpose": {"perm": "ints"},
    "Unsqueeze11": {"axes": "ints"},
}
CASES = [
    pytest.param(base, name, wrong, id=f"{base}-{name}-{type(wrong).__name__}-{k}")
    for base, names in ATTRIBUTES.items()
    for name, kind in names.items()
    for k, wrong in enumerate(KINDS[kind])
]


def with_attribute(base: str, new: AttributeProto) -> onnx.ModelProto:
    proto = onnx.ModelProto()
    proto.CopyFrom(BASES[base])
    kept = [a for a in proto.graph.node[0].attribute if a.name != new.name]
    del proto.graph.node[0].attribute[:]
    proto.graph.node[0].attribute.extend([*kept, new])
    return proto


@pytest.mark.parametrize("base", BASES)
def test_the_bases_of_these_tests_are_right(base: str) -> None:
    load_proto(BASES[base])


@pytest.mark.parametrize(("base", "name", "wrong"), CASES)
def test_an_attribute_of_the_wrong_type_is_refused(base: str, name: str, wrong: Any) -> None:
    proto = with_attribute(base, attribute(name, wrong))
    found = outcome(lambda: load_proto(proto))
    assert isinstance(found, ModelError), "taken without a word"
    assert_refused(lambda: load_proto(proto), type(found), BASES[base].graph.node[0].op_type, "the_node")


@pytest.mark.parametrize(("base", "name"), [("Conv", "auto_pad"), ("Pad", "mode"), ("AveragePool", "auto_pad")])
def test_a_string_that_is_no_text_is_refused(base: str, name: str) -> None:
    proto = with_attribute(base, AttributeProto(name=name, type=AttributeProto.STRING, s=b"\xff\xfe"))
    assert_refused(lambda: load_proto(proto), ModelError, "the_node")


@pytest.mark.parametrize(
    ("base", "name"),
    [
        ("Gemm", "alpha"),
        ("Gemm", "beta"),
        ("LeakyRelu", "alpha"),
        ("BatchNormalization", "epsilon"),
        ("Pad10", "value"),
    ],
)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_refused(base: str, name: str, value: float) -> None:
    proto = with_attribute(base, attribute(name, value))
    assert_refused(lambda: load_proto(proto), ModelError, BASES[base].graph.node[0].op_type, "the_node")


LIMITS = [-(2**63), -(2**31) - 1, -1, 2**31, 2**63 - 1]


@pytest.mark.parametrize(
    ("base", "name", "count"),
    [
        ("AveragePool", "kernel_shape", 2),
        ("AveragePool", "strides", 2),
        ("AveragePool", "pads", 4),
        ("AveragePool", "dilations", 2),
        ("Concat", "axis", 0),
        ("Conv", "strides", 2),
        ("Conv", "dilations", 2),
        ("Conv", "group", 0),
        ("Conv", "kernel_shape", 2),
        ("Flatten", "axis", 0),
        ("ReduceMean13", "axes", 1),
        ("Squeeze11", "axes", 1),
        ("Transpose", "perm", 2),
        ("Unsqueeze11", "axes", 1),
    ],
)
@pytest.mark.parametrize("value", LIMITS)
def test_an_extreme_number_is_refused_or_understood(base: str, name: str, count: int, value: int) -> None:
    proto = with_attribute(base, attribute(name, [value] * count if count else value))
    found = outcome(lambda: load_proto(proto))
    if isinstance(found, ModelError):
        assert "\n" not in str(found)


def test_an_attribute_without_a_type_is_refused() -> None:
    proto = with_attribute("Concat", AttributeProto(name="axis", i=1))
    assert isinstance(outcome(lambda: load_proto(proto)), ModelError)


def test_an_attribute_given_twice_is_refused() -> None:
    """Which of the two counts is left open, so no reading of it can be certified."""
    proto = with_attribute("Concat", attribute("axis", 1))
    proto.graph.node[0].attribute.append(attribute("axis", 0))
    assert_refused(lambda: load_proto(proto), ModelError, "Concat", "the_node", "axis")


def test_a_reference_to_an_attribute_outside_a_function_is_refused() -> None:
    reference = AttributeProto(name="alpha", type=AttributeProto.FLOAT, ref_attr_name="slope")
    proto = with_attribute("LeakyRelu", reference)
    assert isinstance(outcome(lambda: load_proto(proto)), ModelError)


def test_attributes_of_the_wrong_type_in_shape_arithmetic_are_refused() -> None:
    for wrong in (FLOAT, TEXT, INTS):
        nodes = [
            helper.make_node("Shape", ["x"], ["s"], name="the_node"),
            helper.make_node("Reshape", ["x", "s"], ["y"]),
        ]
        nodes[0].attribute.append(attribute("start", wrong))
        proto = model(nodes, {"x": (2, 3)}, ["y"])
        found = outcome(lambda proto=proto: load_proto(proto))
        assert isinstance(found, ModelError)
        assert "the_node" in str(found)
