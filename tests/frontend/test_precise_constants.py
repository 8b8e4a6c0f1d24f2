"""Constants that the graph computes, enclosed as closely as floats allow though interval arithmetic loses them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

import lipcert
from lipcert.arithmetic.enclosure import Enclosure
from lipcert.frontend import Model, load_proto
from lipcert.graph import Affine
from lipcert.operators import Dense, Diagonal, Product
from tests.helpers.exact import encloses
from tests.helpers.onnx_models import integers, model, random_weights
from tests.helpers.operators import as_fractions

node = helper.make_node

CLOSE = 2.0**-50
"""Radius of an enclosure, relative to its largest entry, that leaves a few units in the last place."""


def bjorck(steps: int) -> list[onnx.NodeProto]:
    """w -> w (3 I - w' w) / 2, again and again, from w0 to "q"."""
    nodes = []
    for i in range(steps):
        last = "q" if i == steps - 1 else f"w{i + 1}"
        nodes += [
            node("Transpose", [f"w{i}"], [f"t{i}"], perm=[1, 0]),
            node("MatMul", [f"t{i}", f"w{i}"], [f"g{i}"]),
            node("Mul", [f"g{i}", "half"], [f"h{i}"]),
            node("Sub", ["more", f"h{i}"], [f"s{i}"]),
            node("MatMul", [f"w{i}", f"s{i}"], [last]),
        ]
    return nodes


def start(width: int) -> np.ndarray:
    """Of spectral norm 1, singular values from 1/2 on: twelve steps make them 1 in float64."""
    rng = np.random.default_rng(width)
    u, _ = np.linalg.qr(rng.standard_normal((width, width)))
    v, _ = np.linalg.qr(rng.standard_normal((width, width)))
    return (u * np.linspace(0.5, 1, width) @ v).astype(np.float32)


def constants(width: int) -> dict[str, np.ndarray]:
    return {"w0": start(width), "half": np.array(0.5, np.float32), "more": 1.5 * np.eye(width, dtype=np.float32)}


def orthonormal(width: int, steps: int, *extra: onnx.NodeProto, weight: str = "q") -> onnx.ModelProto:
    nodes = [*bjorck(steps), *extra, node("MatMul", ["x", weight], ["y"])]
    return model(nodes, {"x": (1, width)}, ["y"], constants(width))


def last_weights(imported: Model) -> Enclosure:
    """Of the last dense operator; it holds the transpose of what ONNX stores."""
    leaves = [op for n in imported.graph.nodes if isinstance(n, Affine) for op in n.operators if isinstance(op, Dense)]
    radius = np.broadcast_to(np.asarray(leaves[-1].radius, dtype=float), leaves[-1].weights.shape)
    return Enclosure(leaves[-1].weights.T, radius.T)


def looseness(found: Enclosure) -> float:
    return float(np.max(found.full_radius()) / np.max(np.abs(found.value)))


def exact_bjorck(w: np.ndarray, steps: int) -> np.ndarray:
    w = as_fractions(w)
    for _ in range(steps):
        w = w @ (as_fractions(1.5 * np.eye(w.shape[1])) - (w.T @ w) * Fraction(1, 2))
    return w


@pytest.mark.parametrize("width", [32, 64])
def test_twelve_steps_of_bjorck_lose_no_digits(width: int) -> None:
    imported = load_proto(orthonormal(width, 12))
    found = last_weights(imported)
    assert looseness(found) <= CLOSE
    assert np.abs(found.value.T @ found.value - np.eye(width)).max() < 1e-14
    report = lipcert.bound(imported, norm=2, timeout=20)
    assert report.upper == pytest.approx(1, abs=1e-6)
    assert report.upper >= 1 - 1e-12


@pytest.mark.parametrize(("width", "steps"), [(2, 1), (2, 5), (3, 4), (4, 3)])
def test_the_exact_result_is_enclosed(width: int, steps: int) -> None:
    found = last_weights(load_proto(orthonormal(width, steps)))
    assert encloses(found, exact_bjorck(start(width), steps))
    assert looseness(found) <= 2.0**-45


def chain(op: str) -> list[onnx.NodeProto]:
    """x times a function of 1/3, which interval arithmetic knows to 29 bits."""
    return [
        node("Div", ["one", "three"], ["third"]),
        node("Add", ["third", "large"], ["a"]),
        node("Sub", ["a", "large"], ["b"]),
        node(op, ["b"], ["c"]),
        node("Mul", ["x", "c"], ["y"]),
    ]


SMALL = {
    "one": np.array(1, np.float32),
    "three": np.array(3, np.float32),
    "large": np.array(2.0**24, np.float32),
}


def factor(proto: onnx.ModelProto) -> tuple[float, float]:
    """Ends of the enclosure of the one number that x is multiplied by."""
    imported = load_proto(proto, check=False)
    (scaled,) = (n for n in imported.graph.nodes if isinstance(n, Affine))
    (diagonal,) = scaled.operators
    assert diagonal.weights is not None
    radius = float(np.max(np.broadcast_to(np.asarray(diagonal.radius), diagonal.weights.shape)))
    middle = float(diagonal.weights[0])
    return middle - radius, middle + radius


@pytest.mark.parametrize(
    ("op", "is_known"),
    [("Identity", True), ("Neg", True), ("Sqrt", True), ("Reciprocal", True), ("Abs", False), ("Exp", False)],
)
def test_an_op_that_has_no_rule_leaves_the_enclosure_as_it_is(op: str, is_known: bool) -> None:
    """1/3 + 2^24 - 2^24 in float64 is known to 29 bits; an op without a rule for more digits is no error."""
    low, high = factor(model(chain(op), {"x": (2,)}, ["y"], SMALL))
    third = 1 / 3
    value = {
        "Identity": third,
        "Neg": -third,
        "Sqrt": third**0.5,
        "Reciprocal": 3.0,
        "Abs": third,
        "Exp": np.exp(third),
    }[op]
    assert low - 1e-15 <= value <= high + 1e-15
    assert (high - low <= 1e-14) == is_known


def test_an_op_without_a_rule_in_the_middle_of_a_chain() -> None:
    """Relu of an orthonormal matrix: what follows is enclosed from the matrix as interval arithmetic has it."""
    extra = [node("Relu", ["q"], ["r"]), node("MatMul", ["r", "q"], ["p"])]
    imported = load_proto(orthonormal(8, 6, *extra, weight="p"))
    found = last_weights(imported)
    assert np.all(np.isfinite(found.full_radius()))
    report = lipcert.bound(imported, norm=2, timeout=20)
    assert report.status == "certified"


RULES: list[tuple[str, list[str], dict[str, Any]]] = [
    ("Add", ["q", "q"], {}),
    ("Sub", ["q", "half"], {}),
    ("Mul", ["q", "q"], {}),
    ("Div", ["q", "three"], {}),
    ("Neg", ["q"], {}),
    ("MatMul", ["q", "q"], {}),
    ("Gemm", ["q", "q", "row"], {"transA": 1, "alpha": 0.3, "beta": -2.0}),
    ("Gemm", ["q", "q"], {"transB": 1}),
    ("Transpose", ["q"], {}),
    ("Transpose", ["q"], {"perm": [1, 0]}),
    ("ReduceSum", ["q", "axis"], {}),
    ("ReduceSumSquare", ["q", "axis"], {"keepdims": 0}),
    ("ReduceL2", ["q", "axis"], {}),
    ("ReduceL2", ["q"], {}),
    ("Identity", ["q"], {}),
    ("Cast", ["q"], {"to": TensorProto.DOUBLE}),
    ("Flatten", ["q"], {"axis": 0}),
    ("Reshape", ["q", "flat"], {}),
    ("Unsqueeze", ["q", "axis"], {}),
]


@pytest.mark.parametrize(("op", "inputs", "attributes"), RULES, ids=[f"{o}{i}" for i, (o, _, _) in enumerate(RULES)])
def test_each_op_with_a_rule_is_enclosed_closely(op: str, inputs: list[str], attributes: dict[str, Any]) -> None:
    """After a chain that leaves interval arithmetic few digits, as NumPy computes it from the exact chain."""
    width, steps = 4, 9
    nodes = [*bjorck(steps), node(op, inputs, ["p"], **attributes), node("Mul", ["x", "p"], ["y"])]
    weights = constants(width) | {
        "three": np.array(3.0),
        "row": random_weights(width),
        "axis": integers(1),
        "flat": integers(2, -1),
    }
    weights = {n: w.astype(np.float64) if w.dtype == np.float32 else w for n, w in weights.items()}
    proto = model(nodes, {"x": (1, 1, 1)}, ["y"], weights, element=TensorProto.DOUBLE)
    imported = load_proto(proto, check=False)
    (scaled,) = (n for n in imported.graph.nodes if isinstance(n, Affine))
    (operator,) = scaled.operators
    found = operator.matvec(np.ones(1))
    reference = ReferenceEvaluator(proto).run(None, {"x": np.ones((1, 1, 1))})[0].reshape(-1)
    np.testing.assert_allclose(found, reference, rtol=0, atol=1e-13)
    parts = operator.factors if isinstance(operator, Product) else (operator,)
    (scale,) = (part for part in parts if isinstance(part, Diagonal))
    assert np.max(np.asarray(scale.radius)) <= 1e-15 * max(1, np.max(np.abs(found)))


def test_stored_constants_stay_exact() -> None:
    proto = model([node("MatMul", ["x", "w"], ["y"])], {"x": (1, 4)}, ["y"], {"w": random_weights(4, 4)})
    assert last_weights(load_proto(proto)).is_exact
