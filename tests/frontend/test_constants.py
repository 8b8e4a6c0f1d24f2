"""Constants as files store them: Constant nodes of each kind, initializers of each format, old IR versions."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from lipcert.errors import ModelError, UnsupportedModelError
from lipcert.frontend import Model, load_proto
from lipcert.graph import Affine
from tests.helpers.onnx_models import (
    assert_agrees,
    assert_malformed,
    assert_refused,
    assert_unsupported,
    integers,
    model,
    one_op,
    outcome,
    random_weights,
)

node = helper.make_node


def only_affine(imported: Model) -> Affine:
    (found,) = (n for n in imported.graph.nodes if isinstance(n, Affine))
    return found


@pytest.mark.parametrize(
    "attributes",
    [
        {"value": numpy_helper.from_array(random_weights(2, 3))},
        {"value": helper.make_tensor("t", TensorProto.FLOAT, [3], [0.5, 1.0, -2.0])},
        {"value": numpy_helper.from_array(np.array(2.5, np.float32))},
        {"value_float": 1.5},
        {"value_floats": [0.5, 1.0, -2.0]},
    ],
    ids=["raw", "float_data", "scalar", "value_float", "value_floats"],
)
def test_constant_nodes_of_floats(attributes: dict[str, Any]) -> None:
    nodes = [node("Constant", [], ["c"], **attributes), node("Mul", ["c", "x"], ["y"])]
    imported = assert_agrees(model(nodes, {"x": (2, 3)}, ["y"]))
    assert imported.folded == (), "a stored constant is not a computed one"


@pytest.mark.parametrize(
    "attributes",
    [
        {"value": numpy_helper.from_array(integers(3, 2))},
        {"value": helper.make_tensor("t", TensorProto.INT64, [2], [-1, 2])},
        {"value_ints": [3, -1]},
        {"value_int": 6},
    ],
    ids=["raw", "int64_data", "value_ints", "value_int"],
)
def test_constant_nodes_of_integers(attributes: dict[str, Any]) -> None:
    nodes = [
        node("Constant", [], ["c"], **attributes),
        node("Reshape", ["c", "vector"], ["s"]),
        node("Reshape", ["x", "s"], ["y"]),
    ]
    assert_agrees(model(nodes, {"x": (2, 3)}, ["y"], {"vector": integers(-1)}))


def sparse() -> Any:
    return helper.make_sparse_tensor(
        numpy_helper.from_array(random_weights(2), "values"), numpy_helper.from_array(integers(0, 2), "indices"), [3]
    )


@pytest.mark.parametrize(
    "attributes", [{"value_string": "a"}, {"value_strings": ["a", "b"]}, {"sparse_value": sparse()}]
)
def test_constant_nodes_of_other_kinds_are_refused(attributes: dict[str, Any]) -> None:
    nodes = [node("Constant", [], ["c"], name="odd", **attributes), node("Add", ["x", "c"], ["y"])]
    assert_unsupported(model(nodes, {"x": (3,)}, ["y"]), "Constant", "odd", "opset 20")


@pytest.mark.parametrize("attributes", [{}, {"value_float": 1.0, "value_int": 1}])
def test_constant_nodes_without_exactly_one_value_are_malformed(attributes: dict[str, Any]) -> None:
    nodes = [node("Constant", [], ["c"], name="odd", **attributes), node("Add", ["x", "c"], ["y"])]
    assert_malformed(model(nodes, {"x": (3,)}, ["y"]), "Constant", "odd", "opset 20")


def test_initializers_listed_as_inputs_are_weights() -> None:
    weights = {"w": random_weights(3, 4), "b": random_weights(4)}
    proto = model([node("Gemm", ["x", "w", "b"], ["y"])], {"x": (2, 3)}, ["y"], weights, opset=8, ir_version=3)
    for name, array in weights.items():
        proto.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape))
    imported = assert_agrees(proto)
    assert [i.name for i in imported.inputs] == ["x"]
    assert imported.parameters == 16


def test_initializers_in_float_data_equal_those_in_raw_data() -> None:
    proto = one_op("MatMul", (2, 3), random_weights(3, 4))
    stored = proto.graph.initializer[0]
    stored.float_data.extend(numpy_helper.to_array(stored).reshape(-1))
    stored.ClearField("raw_data")
    np.testing.assert_array_equal(only_affine(assert_agrees(proto)).operators[0].weights, random_weights(3, 4).T)


def test_a_weight_that_is_used_twice() -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("Relu", ["a"], ["b"]),
        node("MatMul", ["b", "w"], ["c"]),
        node("Add", ["c", "w"], ["y"]),
    ]
    assert_agrees(model(nodes, {"x": (3, 3)}, ["y"], {"w": random_weights(3, 3)}))


FORMATS = {
    TensorProto.DOUBLE: np.float64,
    TensorProto.FLOAT: np.float32,
    TensorProto.FLOAT16: np.float16,
    TensorProto.BFLOAT16: ml_dtypes.bfloat16,
}


@pytest.mark.parametrize("element", FORMATS)
def test_weights_of_every_float_format_convert_exactly(element: int) -> None:
    stored = np.random.default_rng(5).standard_normal((3, 4)).astype(FORMATS[element])
    stored[0, 0] = np.ldexp(1.0, -20)
    proto = model([node("MatMul", ["x", "w"], ["y"])], {"x": (2, 3)}, ["y"], {"w": stored}, element=element)
    operator = only_affine(load_proto(proto, check=False)).operators[0]
    np.testing.assert_array_equal(operator.weights.T, stored.astype(np.float64))
    assert not np.any(operator.radius)


@pytest.mark.parametrize("element", FORMATS)
def test_constant_nodes_of_every_float_format_convert_exactly(element: int) -> None:
    stored = np.random.default_rng(5).standard_normal((2, 3)).astype(FORMATS[element])
    nodes = [node("Constant", [], ["c"], value=numpy_helper.from_array(stored)), node("Add", ["x", "c"], ["y"])]
    imported = load_proto(model(nodes, {"x": (2, 3)}, ["y"], element=element), check=False)
    np.testing.assert_array_equal(only_affine(imported).bias.value.reshape(2, 3), stored.astype(np.float64))


@pytest.mark.parametrize(("element", "tolerance"), [(TensorProto.DOUBLE, 1e-14), (TensorProto.FLOAT16, 5e-3)])
def test_networks_in_other_float_formats_agree(element: int, tolerance: float) -> None:
    kind = FORMATS[element]
    weights = {"w": random_weights(3, 4).astype(kind), "b": random_weights(4).astype(kind)}
    nodes = [node("Gemm", ["x", "w", "b"], ["h"]), node("Relu", ["h"], ["y"])]
    proto = model(nodes, {"x": (2, 3)}, ["y"], weights, element=element)
    assert_agrees(proto, tolerance=tolerance)
    check = load_proto(proto).check
    assert check is not None
    assert check.worst <= check.tolerance


@pytest.mark.parametrize("op", ["Relu", "Flatten", "MatMul"])
def test_a_bfloat16_network_imports_or_is_refused(op: str) -> None:
    nodes = [node(op, ["x", "w"] if op == "MatMul" else ["x"], ["y"], name="the_node")]
    weights = {"w": random_weights(3, 4).astype(ml_dtypes.bfloat16)} if op == "MatMul" else {}
    proto = model(nodes, {"x": (2, 3)}, ["y"], weights, element=TensorProto.BFLOAT16)
    assert isinstance(outcome(lambda: load_proto(proto)), Model | UnsupportedModelError)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("element", [TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_weights_that_are_not_finite_are_malformed(bad: float, element: int) -> None:
    stored = random_weights(3, 4).astype(FORMATS[element])
    stored[1, 2] = bad
    proto = model([node("MatMul", ["x", "w"], ["y"])], {"x": (2, 3)}, ["y"], {"w": stored}, element=element)
    assert_malformed(proto, "'w'", "NaN or Inf")


@pytest.mark.parametrize("attributes", [{"value_float": np.nan}, {"value_floats": [0.0, np.inf]}])
def test_constant_nodes_that_are_not_finite_are_malformed(attributes: dict[str, Any]) -> None:
    nodes = [node("Constant", [], ["c"], name="odd", **attributes), node("Add", ["x", "c"], ["y"])]
    assert_malformed(model(nodes, {"x": (2,)}, ["y"]), "Constant", "odd", "NaN or Inf")


@pytest.mark.parametrize(
    "stored",
    [
        helper.make_tensor("w", TensorProto.STRING, [1], [b"a"]),
        helper.make_tensor("w", TensorProto.COMPLEX64, [1], [1j]),
        helper.make_tensor("w", TensorProto.FLOAT8E4M3FN, [1], [1.0]),
    ],
    ids=["string", "complex", "float8"],
)
def test_initializers_of_other_types_are_refused(stored: TensorProto) -> None:
    proto = model([node("Relu", ["x"], ["y"])], {"x": (2,)}, ["y"])
    proto.graph.initializer.append(stored)
    assert_refused(lambda: load_proto(proto), UnsupportedModelError, "'w'", "type")


@pytest.mark.parametrize("op", ["Add", "MatMul"])
def test_integer_weights_of_a_float_op_are_refused(op: str) -> None:
    proto = one_op(op, (3, 3), np.ones((3, 3), np.int64))
    assert_refused(lambda: load_proto(proto), UnsupportedModelError, op, "the_node", "integer tensor")


def test_an_integer_kernel_is_malformed() -> None:
    proto = one_op("Conv", (1, 1, 4, 4), np.ones((1, 1, 2, 2), np.int64))
    assert_refused(lambda: load_proto(proto), ModelError, "Conv", "the_node", "integer tensor")
