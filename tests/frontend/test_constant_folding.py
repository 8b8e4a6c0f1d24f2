"""Weights computed inside the graph: the enclosure contains the exact value, and is tight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper

from lipcert.arithmetic.enclosure import Enclosure
from lipcert.frontend import load_proto
from lipcert.graph import Affine
from lipcert.operators import Dense
from tests.helpers.onnx_models import assert_agrees, assert_malformed, integers, model, random_weights

node = helper.make_node
Exact = np.ndarray
"""An array of Fractions."""


def fractions(array: np.ndarray) -> Exact:
    return np.vectorize(lambda v: Fraction(float(v)), otypes=[object])(array)


def folded(nodes: Sequence[NodeProto], weights: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> Enclosure:
    """The enclosure that the import gives to the tensor `w`, of this shape, which the nodes compute."""
    proto = model([*nodes, node("Add", ["x", "w"], ["y"])], {"x": shape}, ["y"], weights)
    imported = load_proto(proto)
    assert "w" in imported.folded
    (affine,) = (n for n in imported.graph.nodes if isinstance(n, Affine))
    return affine.bias.reshape(shape)


def assert_encloses(enclosure: Enclosure, exact: Exact, relative: float = 1e-14) -> None:
    """Every exact entry lies within the radius, and the radius is tiny beside the largest entry."""
    assert enclosure.shape == exact.shape
    error = np.abs(fractions(enclosure.value) - exact)
    radius = enclosure.full_radius()
    assert np.all(error <= fractions(radius))
    assert radius.max() <= relative * float(np.abs(exact).max())


A, B = random_weights(5, 7, seed=1), random_weights(7, 4, seed=2)


def test_matrix_product() -> None:
    result = folded([node("MatMul", ["a", "b"], ["w"])], {"a": A, "b": B}, (5, 4))
    assert_encloses(result, fractions(A) @ fractions(B))
    assert np.all(result.full_radius() > 0), "an inexact product has a radius"


def test_gemm_of_constants() -> None:
    c = random_weights(4, seed=3)
    product = node("Gemm", ["at", "b", "c"], ["w"], transA=1, alpha=0.3, beta=-1.7)
    alpha, beta = (Fraction(float(np.float32(s))) for s in (0.3, -1.7))
    exact = alpha * (fractions(A) @ fractions(B)) + beta * fractions(c)
    assert_encloses(folded([product], {"at": np.ascontiguousarray(A.T), "b": B, "c": c}, (5, 4)), exact)


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("shape", [(5, 7), (7,), (5, 1), ()])
def test_elementwise_arithmetic(op: str, shape: tuple[int, ...]) -> None:
    other = np.asarray(random_weights(*shape, seed=4) + np.float32(4), dtype=np.float32)
    a, b = fractions(A), fractions(other)
    exact = {"Add": lambda: a + b, "Sub": lambda: a - b, "Mul": lambda: a * b, "Div": lambda: a / b}[op]()
    assert_encloses(folded([node(op, ["a", "b"], ["w"])], {"a": A, "b": other}, (5, 7)), exact)


def test_products_of_float32_weights_are_exact_in_float64() -> None:
    other = random_weights(5, 7, seed=4)
    assert folded([node("Mul", ["a", "b"], ["w"])], {"a": A, "b": other}, (5, 7)).is_exact


def test_quotients_by_powers_of_two_are_exact() -> None:
    halves = np.full((5, 7), 0.5, np.float32)
    assert folded([node("Div", ["a", "b"], ["w"])], {"a": A, "b": halves}, (5, 7)).is_exact


def test_rearrangements_are_exact() -> None:
    nodes = [
        node("Transpose", ["a"], ["t"]),
        node("Reshape", ["t", "shape"], ["r"]),
        node("Concat", ["r", "r"], ["c"], axis=0),
        node("Relu", ["c"], ["w"]),
    ]
    result = folded(nodes, {"a": A, "shape": integers(5, 7)}, (10, 7))
    assert result.is_exact
    moved = np.maximum(A.T.reshape(5, 7), 0)
    np.testing.assert_array_equal(result.value, np.concatenate([moved, moved]))


def test_negation_is_exact() -> None:
    result = folded([node("Neg", ["a"], ["w"])], {"a": A}, (5, 7))
    assert result.is_exact
    np.testing.assert_array_equal(result.value, -A)


def test_mean() -> None:
    result = folded([node("ReduceMean", ["a", "axes"], ["w"])], {"a": A, "axes": integers(1)}, (5, 1))
    assert_encloses(result, fractions(A).sum(axis=1, keepdims=True) / 7)


def test_normalised_weights_as_exporters_spell_them() -> None:
    """W = (V' V) / s * g, transposed: what the GLipSDP networks compute in their graphs."""
    s, g = np.array(7.3, np.float32), random_weights(7, 1, seed=6)
    nodes = [
        node("Transpose", ["a"], ["at"]),
        node("MatMul", ["at", "a"], ["gram"]),
        node("Div", ["gram", "s"], ["scaled"]),
        node("Mul", ["scaled", "g"], ["gained"]),
        node("Transpose", ["gained"], ["w"]),
    ]
    exact = (fractions(A).T @ fractions(A) / fractions(s) * fractions(g)).T
    assert_encloses(folded(nodes, {"a": A, "s": s, "g": g}, (7, 7)), exact)


def test_a_long_chain_of_products_stays_enclosed() -> None:
    square = random_weights(6, 6) / np.float32(2)
    nodes = [node("MatMul", [f"p{k}", "a"], [f"p{k + 1}"]) for k in range(12)]
    nodes[-1].output[0] = "w"
    exact = fractions(square)
    for _ in range(12):
        exact = exact @ fractions(square)
    assert_encloses(folded(nodes, {"p0": square, "a": square}, (6, 6)), exact, relative=1e-10)


def test_a_computed_matrix_keeps_its_radius_as_an_operator() -> None:
    nodes = [node("MatMul", ["a", "b"], ["w"]), node("Gemm", ["x", "w"], ["y"], transB=1)]
    imported = assert_agrees(model(nodes, {"x": (1, 4)}, ["y"], {"a": A, "b": B}))
    (affine,) = (n for n in imported.graph.nodes if isinstance(n, Affine))
    (operator,) = affine.operators
    assert isinstance(operator, Dense)
    assert_encloses(Enclosure(operator.weights, operator.radius), fractions(A) @ fractions(B))


def test_a_computed_kernel_keeps_its_radius_as_an_operator() -> None:
    kernel, divisor = random_weights(3, 2, 2, 2), np.array(3.3, np.float32)
    nodes = [node("Div", ["k", "d"], ["w"]), node("Conv", ["x", "w"], ["y"])]
    imported = assert_agrees(model(nodes, {"x": (1, 2, 4, 4)}, ["y"], {"k": kernel, "d": divisor}))
    (affine,) = (n for n in imported.graph.nodes if isinstance(n, Affine))
    (operator,) = affine.operators
    enclosure = Enclosure(operator.weights, operator.radius)  # type: ignore[attr-defined]
    assert_encloses(enclosure, fractions(kernel) / fractions(divisor))


def test_division_of_a_live_tensor_encloses_the_exact_factors() -> None:
    divisor = random_weights(9, seed=8) + np.float32(5)
    imported = load_proto(model([node("Div", ["x", "d"], ["y"])], {"x": (9,)}, ["y"], {"d": divisor}))
    (affine,) = (n for n in imported.graph.nodes if isinstance(n, Affine))
    (operator,) = affine.operators
    enclosure = Enclosure(operator.weights, operator.radius)  # type: ignore[attr-defined]
    assert_encloses(enclosure, 1 / fractions(divisor), relative=1e-15)


def test_large_weights_resolve() -> None:
    rows, inner, columns = 2000, 500, 500
    weights = {
        "a": random_weights(rows, inner, seed=1),
        "b": random_weights(inner, columns, seed=2),
        "s": np.array(3.7, np.float32),
    }
    nodes = [
        node("MatMul", ["a", "b"], ["p"]),
        node("Div", ["p", "s"], ["q"]),
        node("Transpose", ["q"], ["w"]),
        node("MatMul", ["x", "w"], ["y"]),
    ]
    imported = load_proto(model(nodes, {"x": (1, columns)}, ["y"], weights))
    assert imported.folded == ("p", "q", "w")
    (affine,) = (n for n in imported.graph.nodes if isinstance(n, Affine))
    operator = affine.operators[0]
    assert isinstance(operator, Dense)
    assert operator.weights.shape == (rows, columns)
    random = np.random.default_rng(0)
    for i, j in zip(random.integers(rows, size=20), random.integers(columns, size=20), strict=True):
        exact = fractions(weights["a"][i]) @ fractions(weights["b"][:, j]) / Fraction(float(weights["s"]))
        error = abs(Fraction(float(operator.weights[i, j])) - exact)
        assert error <= Fraction(float(operator.radius[i, j]))
    assert operator.radius.max() <= 1e-10


@pytest.mark.parametrize("op", ["Add", "Mul", "MatMul"])
def test_a_constant_that_overflows_is_malformed(op: str) -> None:
    huge = {"a": np.full((2, 2), 1e308), "b": np.full((2, 2), 1e308)}
    nodes = [node(op, ["a", "b"], ["w"], name="huge"), node("Add", ["x", "w"], ["y"])]
    proto = model(nodes, {"x": (2, 2)}, ["y"], huge, element=TensorProto.DOUBLE)
    assert_malformed(proto, op, "huge", "opset 20", "overflows")


def test_a_division_by_a_computed_zero_is_malformed() -> None:
    nodes = [
        node("Sub", ["a", "a"], ["zero"]),
        node("Div", ["a", "zero"], ["w"], name="bad"),
        node("Add", ["x", "w"], ["y"]),
    ]
    assert_malformed(model(nodes, {"x": (5, 7)}, ["y"], {"a": A}), "Div", "bad", "opset 20", "divided by zero")
