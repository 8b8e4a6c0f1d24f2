"""Add, Sub, Mul, Div and Neg with broadcasting both ways, and sums of several live tensors."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from lipcert.graph import Elementwise
from tests.helpers.onnx_models import assert_agrees, assert_malformed, model, one_op, random_weights

SHAPES = [
    ((2, 3), (2, 3)),
    ((2, 3), (3,)),
    ((3,), (2, 3)),
    ((2, 3), (2, 1)),
    ((2, 1), (1, 3)),
    ((1, 3), (2, 1)),
    ((2, 3), ()),
    ((), (2, 3)),
    ((), ()),
    ((1,), (2, 3)),
    ((2, 3), (1, 1, 1)),
    ((4, 1, 3), (2, 1)),
    ((1, 1), (5, 2, 3)),
]


def constant(shape: tuple[int, ...]) -> np.ndarray:
    """Weights that may be divided by."""
    return np.asarray(random_weights(*shape) + np.float32(5), dtype=np.float32)


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize(("live", "other"), SHAPES)
def test_live_and_constant(op: str, live: tuple[int, ...], other: tuple[int, ...]) -> None:
    assert_agrees(one_op(op, live, constant(other)))


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul"])
@pytest.mark.parametrize(("live", "other"), SHAPES)
def test_constant_and_live(op: str, live: tuple[int, ...], other: tuple[int, ...]) -> None:
    assert_agrees(one_op(op, live, constant(other), live=1))


@pytest.mark.parametrize("op", ["Add", "Sub"])
@pytest.mark.parametrize(("left", "right"), SHAPES)
def test_two_live_tensors(op: str, left: tuple[int, ...], right: tuple[int, ...]) -> None:
    nodes = [
        helper.make_node("Relu", ["a"], ["h"]),
        helper.make_node(op, ["h", "b"], ["y"]),
    ]
    assert_agrees(model(nodes, {"a": left, "b": right}, ["y"]))


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
def test_shapes_that_do_not_broadcast_are_malformed(op: str) -> None:
    refused = one_op(op, (2, 3), constant((2,)))
    assert_malformed(refused, op, "the_node", "opset 20", "[2, 3] and [2]", "do not broadcast")


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4)])
def test_neg(shape: tuple[int, ...]) -> None:
    assert_agrees(one_op("Neg", shape))


def test_division_by_a_constant_zero_is_malformed() -> None:
    zero = np.array([1, 0, 2], np.float32)
    assert_malformed(one_op("Div", (2, 3), zero), "Div", "the_node", "opset 20", "divided by zero")


def test_multiplication_by_zero_is_no_mistake() -> None:
    assert_agrees(one_op("Mul", (2, 3), np.zeros(3, np.float32)))


def test_residual_connection() -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"]),
        helper.make_node("Relu", ["h"], ["f"]),
        helper.make_node("Add", ["x", "f"], ["y"]),
    ]
    assert_agrees(model(nodes, {"x": (1, 4)}, ["y"], {"w": random_weights(4, 4), "b": random_weights(4)}))


def test_nested_residual_connections() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Tanh", ["a"], ["b"]),
        helper.make_node("Add", ["b", "x"], ["c"]),
        helper.make_node("LeakyRelu", ["c"], ["d"]),
        helper.make_node("Sub", ["d", "c"], ["e"]),
        helper.make_node("Add", ["e", "x"], ["y"]),
    ]
    assert_agrees(model(nodes, {"x": (1, 4)}, ["y"], {"w": random_weights(4, 4)}))


@pytest.mark.parametrize("op", ["Add", "Sub"])
def test_a_tensor_with_itself(op: str) -> None:
    assert_agrees(model([helper.make_node(op, ["x", "x"], ["y"])], {"x": (2, 3)}, ["y"]))


def test_a_tensor_with_its_own_reshape() -> None:
    nodes = [helper.make_node("Flatten", ["x"], ["f"], axis=0), helper.make_node("Add", ["x", "f"], ["y"])]
    assert_agrees(model(nodes, {"x": (6,)}, ["y"]))
    assert_agrees(model(nodes, {"x": (1, 6)}, ["y"]))


@pytest.mark.parametrize(("op", "attributes"), [("Relu", {}), ("LeakyRelu", {}), ("Sigmoid", {}), ("Tanh", {})])
@pytest.mark.parametrize("shape", [(), (4,), (1, 2, 3)])
def test_activations(op: str, attributes: dict[str, float], shape: tuple[int, ...]) -> None:
    imported = assert_agrees(one_op(op, shape, **attributes))
    assert isinstance(imported.graph.nodes[-1], Elementwise)


@pytest.mark.parametrize("alpha", [0.0, 0.01, 0.5, 1.0, 1.5, -0.25])
def test_leaky_relu_slopes(alpha: float) -> None:
    assert_agrees(one_op("LeakyRelu", (2, 50), alpha=alpha))


@pytest.mark.parametrize("alpha", [np.inf, np.nan])
def test_leaky_relu_with_a_slope_that_is_not_finite_is_malformed(alpha: float) -> None:
    assert_malformed(one_op("LeakyRelu", (2, 3), alpha=alpha), "LeakyRelu", "the_node", "opset 20")
