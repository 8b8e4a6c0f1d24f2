"""Gemm and MatMul in all their forms: which factor is live, transposes, scalars, addends, batches."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
from onnx import helper

from lipcert.graph import Affine, Elementwise, Input, Product
from tests.helpers.onnx_models import (
    assert_agrees,
    assert_malformed,
    model,
    one_op,
    random_weights,
)

ADDENDS: dict[str, np.ndarray | None] = {
    "absent": None,
    "scalar": random_weights(),
    "one": random_weights(1),
    "row": random_weights(4),
    "flat_row": random_weights(1, 4),
    "column": random_weights(2, 1),
    "full": random_weights(2, 4),
}


GEMMS = [(opset, addend) for opset in (7, 9, 11, 13) for addend in ADDENDS if opset >= 11 or addend != "absent"]
"""C is mandatory before opset 11."""


@pytest.mark.parametrize(("opset", "addend"), GEMMS)
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.5, -2.0)])
@pytest.mark.parametrize(("trans_a", "trans_b"), itertools.product((0, 1), repeat=2))
def test_gemm_with_live_a(trans_a: int, trans_b: int, alpha: float, beta: float, addend: str, opset: int) -> None:
    c = ADDENDS[addend]
    rest = [random_weights(*((4, 3) if trans_b else (3, 4)))] + ([] if c is None else [c])
    shape = (3, 2) if trans_a else (2, 3)
    assert_agrees(
        one_op("Gemm", shape, *rest, opset=opset, transA=trans_a, transB=trans_b, alpha=alpha, beta=beta),
    )


@pytest.mark.parametrize(("trans_a", "trans_b"), itertools.product((0, 1), repeat=2))
@pytest.mark.parametrize("addend", ["absent", "row", "column", "full"])
def test_gemm_with_live_b(trans_a: int, trans_b: int, addend: str) -> None:
    c = ADDENDS[addend]
    rest = [random_weights(*((3, 2) if trans_a else (2, 3)))] + ([] if c is None else [c])
    shape = (4, 3) if trans_b else (3, 4)
    assert_agrees(one_op("Gemm", shape, *rest, live=1, transA=trans_a, transB=trans_b, alpha=1.5, beta=0.25))


@pytest.mark.parametrize("shape", [(), (1,), (4,), (1, 4), (2, 1), (2, 4)])
@pytest.mark.parametrize("beta", [1.0, -0.5])
def test_gemm_with_live_c_and_constant_factors(shape: tuple[int, ...], beta: float) -> None:
    a, b = random_weights(2, 3), random_weights(3, 4)
    assert_agrees(one_op("Gemm", shape, a, b, live=2, alpha=2.0, beta=beta))


@pytest.mark.parametrize("beta", [1.0, 3.0])
def test_gemm_with_live_a_and_live_c(beta: float) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["h"]),
        helper.make_node("Gemm", ["h", "w", "x"], ["y"], transB=1, alpha=0.5, beta=beta),
    ]
    assert_agrees(model(nodes, {"x": (2, 3)}, ["y"], {"w": random_weights(3, 3)}))


def test_gemm_with_an_empty_name_for_c() -> None:
    assert_agrees(one_op("Gemm", (2, 3), random_weights(3, 4), None))


def test_gemm_with_beta_zero_ignores_c() -> None:
    assert_agrees(one_op("Gemm", (2, 3), random_weights(3, 4), random_weights(4), beta=0.0))


def test_gemm_with_alpha_zero_is_constant() -> None:
    assert_agrees(one_op("Gemm", (2, 3), random_weights(3, 4), random_weights(4), alpha=0.0))


MATMULS = [
    ((2, 3), (3, 4)),
    ((3,), (3, 4)),
    ((2, 3), (3,)),
    ((3,), (3,)),
    ((5, 2, 3), (3, 4)),
    ((5, 2, 3), (3,)),
    ((2, 5, 2, 3), (3, 4)),
    ((1, 3), (3, 1)),
]


@pytest.mark.parametrize(("live", "constant"), MATMULS)
def test_matmul_with_constant_right_factor(live: tuple[int, ...], constant: tuple[int, ...]) -> None:
    assert_agrees(one_op("MatMul", live, random_weights(*constant)))


@pytest.mark.parametrize(
    ("constant", "live"),
    [
        ((2, 3), (3, 4)),
        ((3,), (3, 4)),
        ((2, 3), (3,)),
        ((3,), (3,)),
        ((2, 3), (5, 3, 4)),
        ((3,), (5, 3, 4)),
        ((2, 3), (2, 5, 3, 4)),
        ((3,), (2, 5, 3, 1)),
    ],
)
def test_matmul_with_constant_left_factor(constant: tuple[int, ...], live: tuple[int, ...]) -> None:
    assert_agrees(one_op("MatMul", live, random_weights(*constant), live=1))


def test_weights_are_stored_once_for_a_batched_operand() -> None:
    imported = assert_agrees(one_op("MatMul", (7, 5, 3), random_weights(3, 4)))
    (node,) = (n for n in imported.graph.nodes if isinstance(n, Affine))
    assert node.operators[0].size == (7 * 5 * 4, 7 * 5 * 3)
    assert imported.parameters == 12


@pytest.mark.parametrize(
    ("op", "left", "right"),
    [
        ("MatMul", (3, 3), (3, 3)),
        ("MatMul", (3,), (3, 4)),
        ("MatMul", (2, 3), (3,)),
        ("MatMul", (2, 1, 3, 4), (5, 4, 2)),
        ("Gemm", (3, 4), (4, 2)),
        ("Mul", (3, 3), (3, 1)),
        ("Mul", (2, 1, 3), (4, 1)),
    ],
)
def test_products_of_two_live_tensors(op: str, left: tuple[int, ...], right: tuple[int, ...]) -> None:
    nodes = [helper.make_node("Tanh", ["b"], ["h"]), helper.make_node(op, ["a", "h"], ["y"])]
    imported = assert_agrees(model(nodes, {"a": left, "b": right}, ["y"]))
    assert any(isinstance(n, Product) for n in imported.graph.nodes)


@pytest.mark.parametrize(("trans_a", "trans_b"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_gemm_of_three_live_tensors(trans_a: int, trans_b: int) -> None:
    nodes = [helper.make_node("Gemm", ["a", "b", "c"], ["y"], transA=trans_a, transB=trans_b, alpha=0.5, beta=-2.0)]
    shapes = {"a": (4, 3) if trans_a else (3, 4), "b": (2, 4) if trans_b else (4, 2), "c": (3, 1)}
    assert_agrees(model(nodes, shapes, ["y"]))


def test_the_square_of_a_tensor_is_no_product_of_two() -> None:
    imported = assert_agrees(model([helper.make_node("Mul", ["x", "x"], ["y"])], {"x": (2, 3)}, ["y"]))
    assert [type(n) for n in imported.graph.nodes] == [Input, Elementwise]


def test_quotient_by_a_live_tensor() -> None:
    nodes = [helper.make_node("Exp", ["b"], ["e"]), helper.make_node("Div", ["a", "e"], ["y"])]
    assert_agrees(model(nodes, {"a": (2, 3), "b": (3,)}, ["y"]))
    constant = model(nodes, {"b": (2, 3)}, ["y"], {"a": random_weights(2, 3)})
    assert not any(isinstance(n, Product) for n in assert_agrees(constant).graph.nodes)


@pytest.mark.parametrize(("live", "constant"), [((2, 2, 3), (2, 3, 4)), ((5, 1, 2, 3), (2, 3, 4)), ((3,), (2, 3, 4))])
def test_a_stack_of_constant_matrices(live: tuple[int, ...], constant: tuple[int, ...]) -> None:
    imported = assert_agrees(one_op("MatMul", live, random_weights(*constant)))
    assert all(isinstance(n, Input | Affine) for n in imported.graph.nodes)


@pytest.mark.parametrize(
    "proto",
    [
        one_op("Gemm", (2, 3), random_weights(4, 5)),
        one_op("Gemm", (2, 3), random_weights(3, 4), transB=1),
        one_op("Gemm", (2, 3), random_weights(3, 4), transA=1),
        one_op("Gemm", (2, 3, 1), random_weights(3, 4)),
        one_op("Gemm", (2, 3), random_weights(3)),
        one_op("Gemm", (2, 3), random_weights(3, 4), random_weights(3)),
        one_op("Gemm", (2, 3), random_weights(3, 4), random_weights(5, 2, 4)),
    ],
    ids=["inner", "transB", "transA", "rank 3", "vector", "C too long", "C of rank 3"],
)
def test_gemm_of_wrong_shapes_is_malformed(proto: onnx.ModelProto) -> None:
    assert_malformed(proto, "Gemm", "the_node", "opset 20")


@pytest.mark.parametrize(
    ("live", "constant"), [((2, 3), (4, 5)), ((3,), (4,)), ((2, 3), (2,)), ((), (3,)), ((2, 3), ())]
)
def test_matmul_of_wrong_shapes_is_malformed(live: tuple[int, ...], constant: tuple[int, ...]) -> None:
    assert_malformed(one_op("MatMul", live, random_weights(*constant)), "MatMul", "the_node", "do not multiply")


@pytest.mark.parametrize(("alpha", "beta"), [(np.inf, 1.0), (np.nan, 1.0), (1.0, np.inf), (1.0, np.nan)])
def test_gemm_with_a_scalar_that_is_not_finite_is_malformed(alpha: float, beta: float) -> None:
    proto = one_op("Gemm", (2, 3), random_weights(3, 4), random_weights(4), alpha=alpha, beta=beta)
    assert_malformed(proto, "Gemm", "the_node")
