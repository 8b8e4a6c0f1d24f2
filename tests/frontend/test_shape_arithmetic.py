"""Integers computed inside the graph: shapes cut, indexed and glued together, until a Reshape reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from lipcert.frontend import load_proto
from tests.helpers.onnx_models import (
    Shape,
    assert_agrees,
    assert_malformed,
    assert_unsupported,
    integers,
    model,
)

node = helper.make_node


def reshaped_by(
    nodes: list[NodeProto],
    shape: Shape,
    weights: dict[str, np.ndarray] | None = None,
    **options: Any,
) -> tuple[int, ...]:
    """Import `x` reshaped by the integers `s` that the nodes compute, compared with onnxruntime; the new shape."""
    nodes = [*nodes, node("Relu", ["x"], ["h"]), node("Reshape", ["h", "s"], ["y"])]
    return assert_agrees(model(nodes, {"x": shape}, ["y"], weights, **options)).outputs[0].shape


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, (2, 3, 4)),
        ({"start": 1}, (3, 4)),
        ({"end": 2}, (2, 3)),
        ({"start": -2}, (3, 4)),
        ({"end": -1}, (2, 3)),
        ({"start": 1, "end": 2}, (3,)),
        ({"start": -100, "end": 100}, (2, 3, 4)),
        ({"start": 2, "end": 1}, ()),
    ],
)
def test_shape_with_start_and_end(attributes: dict[str, int], expected: tuple[int, ...]) -> None:
    nodes = [node("Shape", ["x"], ["p"], **attributes), node("Concat", ["p", "rest"], ["s"], axis=0)]
    assert reshaped_by(nodes, (2, 3, 4), {"rest": integers(-1)})[: len(expected)] == expected


def test_the_view_of_the_old_torch_exporter() -> None:
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "zero"], ["batch"], axis=0),
        node("Unsqueeze", ["batch", "axis"], ["batch1"]),
        node("Concat", ["batch1", "rest"], ["s"], axis=0),
    ]
    weights = {"zero": np.array(0, np.int64), "axis": integers(0), "rest": integers(-1)}
    assert reshaped_by(nodes, ("batch", 3, 4), weights) == (1, 12)


def test_the_view_of_the_old_torch_exporter_with_axes_as_attributes() -> None:
    nodes = [
        node("Constant", [], ["zero"], value=numpy_helper.from_array(np.array(0, np.int64))),
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "zero"], ["batch"], axis=0),
        node("Unsqueeze", ["batch"], ["batch1"], axes=[0]),
        node("Concat", ["batch1", "rest"], ["s"], axis=0),
    ]
    for opset in (9, 11):
        assert reshaped_by(nodes, ("batch", 3, 4), {"rest": integers(-1)}, opset=opset) == (1, 12)


def test_slices_products_and_casts() -> None:
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Slice", ["shape", "one", "three", "zero"], ["space"]),
        node("ReduceProd", ["space"], ["area"], keepdims=1),
        node("Cast", ["area"], ["area32"], to=TensorProto.INT32),
        node("Cast", ["area32"], ["area64"], to=TensorProto.INT64),
        node("Slice", ["shape", "zero", "one"], ["first"]),
        node("Mul", ["first", "two"], ["doubled"]),
        node("Div", ["area64", "two"], ["halved"]),
        node("Concat", ["doubled", "halved"], ["s"], axis=0),
    ]
    weights = {"zero": integers(0), "one": integers(1), "two": integers(2), "three": integers(3)}
    assert reshaped_by(nodes, (3, 4, 5), weights) == (6, 10)


def test_slice_with_attributes_as_before_opset_10() -> None:
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Slice", ["shape"], ["first"], starts=[0], ends=[1], axes=[0]),
        node("Concat", ["first", "rest"], ["s"], axis=0),
    ]
    assert reshaped_by(nodes, (3, 4, 5), {"rest": integers(-1)}, opset=9) == (3, 20)


def test_squeeze_add_and_sub() -> None:
    nodes = [
        node("Shape", ["x"], ["shape"], start=0, end=1),
        node("Squeeze", ["shape"], ["n"]),
        node("Add", ["n", "one"], ["more"]),
        node("Sub", ["more", "one"], ["same"]),
        node("Unsqueeze", ["same", "axis"], ["same1"]),
        node("Concat", ["same1", "rest"], ["s"], axis=0),
    ]
    weights = {"one": np.array(1, np.int64), "axis": integers(0), "rest": integers(-1)}
    assert reshaped_by(nodes, (3, 4, 5), weights) == (3, 20)


def test_where_and_equal() -> None:
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Equal", ["wanted", "minus_one"], ["open"]),
        node("Where", ["open", "shape", "wanted"], ["s"]),
    ]
    weights = {"wanted": integers(12, -1), "minus_one": integers(-1)}
    assert reshaped_by(nodes, (12, 1), weights) == (12, 1)


@pytest.mark.parametrize("value", [None, integers(2)])
def test_constant_of_shape(value: np.ndarray | None) -> None:
    attributes = {"value": numpy_helper.from_array(integers(1) if value is None else value)}
    nodes = [
        node("ConstantOfShape", ["three"], ["ones"], **attributes),
        node("Concat", ["ones", "rest"], ["s"], axis=0),
    ]
    last = (1, 1, 1, 24) if value is None else (2, 2, 2, 3)
    assert reshaped_by(nodes, (2, 3, 4), {"three": integers(3), "rest": integers(-1)}) == last


def test_constant_of_shape_without_a_value_is_a_float_zero() -> None:
    nodes = [
        node("ConstantOfShape", ["size"], ["zeros"]),
        node("Add", ["x", "zeros"], ["y"]),
    ]
    proto = model(nodes, {"x": (2, 3)}, ["y"], {"size": integers(2, 3)})
    assert_agrees(proto)


def test_range_reshape_and_transpose() -> None:
    nodes = [
        node("Range", ["start", "limit", "delta"], ["r"]),
        node("Reshape", ["r", "matrix"], ["m"]),
        node("Transpose", ["m"], ["t"]),
        node("Flatten", ["t"], ["f"], axis=0),
        node("Squeeze", ["f", "axis"], ["s"]),
    ]
    scalars = {name: np.array(v, np.int64) for name, v in {"start": 1, "limit": 5, "delta": 1}.items()}
    weights = scalars | {"matrix": integers(2, 2), "axis": integers(0)}
    assert reshaped_by(nodes, (4, 6), weights) == (1, 3, 2, 4)


def test_expand_max_and_tile() -> None:
    nodes = [
        node("Expand", ["one", "two"], ["ones"]),
        node("Max", ["ones", "limits"], ["m"]),
        node("Tile", ["m", "one"], ["s"]),
    ]
    assert reshaped_by(nodes, (2, 3), {"one": integers(1), "two": integers(2), "limits": integers(0, 6)}) == (1, 6)


def test_the_batch_of_a_dynamic_model_is_one_everywhere() -> None:
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "first"], ["s0"], axis=0),
        node("Concat", ["s0", "rest"], ["s"], axis=0),
    ]
    weights = {"first": integers(0), "rest": integers(2, 3)}
    assert reshaped_by(nodes, (None, 6), weights) == (1, 2, 3)


def test_the_self_check_accepts_integer_tensors() -> None:
    nodes = [node("Shape", ["x"], ["s"]), node("Relu", ["x"], ["h"]), node("Reshape", ["h", "s"], ["y"])]
    imported = load_proto(model(nodes, {"x": ("n", 3)}, ["y"]))
    assert imported.check is not None
    assert imported.check.tensors == 2


@pytest.mark.parametrize(
    ("bad", "weights"),
    [
        (node("Gather", ["shape", "c"], ["s"], axis=0, name="bad"), {"c": integers(7)}),
        (node("Concat", ["shape", "c"], ["s"], axis=3, name="bad"), {"c": integers(7)}),
        (node("Add", ["shape", "c"], ["s"], name="bad"), {"c": integers(1, 2, 3, 4, 5)}),
        (node("Reshape", ["shape", "c"], ["s"], name="bad"), {"c": integers(5)}),
        (node("Unsqueeze", ["shape"], ["s"], name="bad"), {}),
    ],
    ids=lambda value: value.op_type if isinstance(value, NodeProto) else "",
)
def test_shape_arithmetic_that_fails_is_malformed(bad: NodeProto, weights: dict[str, np.ndarray]) -> None:
    nodes = [node("Shape", ["x"], ["shape"]), bad, node("Reshape", ["x", "s"], ["y"])]
    assert_malformed(model(nodes, {"x": (2, 3)}, ["y"], weights), bad.op_type, "bad", "opset 20")


@pytest.mark.parametrize(
    ("op", "inputs"),
    [
        ("ConstantOfShape", [integers(2**58)]),
        ("Expand", [integers(1), integers(2**58)]),
        ("Tile", [integers(1), integers(2**58)]),
        ("Range", [np.array(v, np.int64) for v in (0, 2**58, 1)]),
        ("Pad", [integers(1), integers(0, 2**58)]),
    ],
)
def test_shape_arithmetic_cannot_ask_for_enormous_memory(op: str, inputs: list[np.ndarray]) -> None:
    """No try at it: what fails at once here would fill the memory of a machine with a few zeros less."""
    weights = {f"i{k}": array for k, array in enumerate(inputs)}
    attributes = {"value": numpy_helper.from_array(integers(1))} if op == "ConstantOfShape" else {}
    nodes = [node(op, list(weights), ["s"], name="large", **attributes), node("Reshape", ["x", "s"], ["y"])]
    assert_malformed(model(nodes, {"x": (2, 3)}, ["y"], weights), op, "large", "opset 20", "limit")


@pytest.mark.parametrize("factor", [2.0, 2.9])
def test_shape_arithmetic_in_floats_truncates(factor: float) -> None:
    """An upsampling factor: the exporters' float(shape) * factor, cast back."""
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Cast", ["shape"], ["float"], to=TensorProto.FLOAT),
        node("Mul", ["float", "factor"], ["scaled"]),
        node("Cast", ["scaled"], ["s"], to=TensorProto.INT64),
        node("Expand", ["x", "s"], ["y"]),
    ]
    proto = model(nodes, {"x": (1, 1)}, ["y"], {"factor": np.array(factor, np.float32)})
    imported = load_proto(proto)
    assert imported.outputs[0].shape == (2, 2)


def test_a_cast_of_a_rounded_constant_is_refused() -> None:
    """1 / 3 * 3 might be 1, or less: nothing tells."""
    nodes = [
        node("Div", ["one", "three"], ["third"]),
        node("Mul", ["third", "three"], ["about_one"]),
        node("Cast", ["about_one"], ["s"], to=TensorProto.INT64, name="to_integer"),
        node("Expand", ["x", "s"], ["y"]),
    ]
    weights = {"one": np.array([1], np.float32), "three": np.array([3], np.float32)}
    assert_unsupported(model(nodes, {"x": (1, 1)}, ["y"], weights), "Cast", "to_integer", "opset 20")


def test_a_result_that_depends_on_the_value_of_an_input_is_refused() -> None:
    nodes = [
        node("Cast", ["x"], ["s"], to=TensorProto.INT64, name="to_int"),
        node("Reshape", ["x", "s"], ["y"]),
    ]
    assert_unsupported(model(nodes, {"x": (1,)}, ["y"]), "Cast", "to_int", "opset 20")
