"""x times a gate that depends on x alone: Silu (swish), Mish, HardSwish, Gelu in its erf and tanh forms.

The parts may be scaled and the product multiplied afterwards: x erf-spelt as x (1 + erf(x / 1.4142135)) times 0.5, say.
What is read as Gelu or HardSwish has constants that are irrational, or not floats; where the stored ones are the
float32 nearest to them, the function meant is certified, and a note says so.
"""

from __future__ import annotations

import math

import numpy as np

from lipcert.activations import (
    Activation,
    Clip,
    Erf,
    Gelu,
    GeluTanh,
    HardSigmoid,
    HardSwish,
    Mish,
    Power,
    Scaled,
    Sigmoid,
    Silu,
    Softplus,
    Tanh,
)
from lipcert.arithmetic.enclosure import exact
from lipcert.frontend.affine_form import AffineForm, affine_form
from lipcert.frontend.builder import GraphBuilder
from lipcert.frontend.opnode import OpNode
from lipcert.frontend.recognisers.miss import Miss
from lipcert.frontend.values import Known, Live, Value
from lipcert.graph import Elementwise, Product

WHAT = "a gated activation"
NEAR = 1e-6
"""Relative difference that rounding a constant to float32 makes, with room to spare."""


def match(build: GraphBuilder, node: OpNode, x: Live, gate: Live) -> Value | Miss:
    """`gate` as factor * (activation of x) + offset, entry by entry."""
    outer = affine_form(build.nodes, gate.node)
    found = outer.single()
    if found is None:
        return Miss(WHAT, "the gate mixes entries")
    columns, factors = found
    position = outer.node_of(columns)
    if position is None or not isinstance(build.nodes[position], Elementwise):
        return Miss(WHAT, "the gate is no activation")
    body = build.nodes[position]
    assert isinstance(body, Elementwise)
    picked = outer.within(position, columns)
    own = affine_form(build.nodes, x.node)
    inner = affine_form(build.nodes, body.input)
    factor, offset = _uniform(factors), _uniform(outer.bias)
    if factor is None or offset is None:
        return Miss(WHAT, "the gate's scale differs between entries")
    return _read(build, node, x, own, inner, picked, body.activation, factor, offset)


def _read(
    build: GraphBuilder,
    node: OpNode,
    x: Live,
    own: AffineForm,
    inner: AffineForm,
    picked: np.ndarray,
    gate: Activation,
    factor: float,
    offset: float,
) -> Value | Miss:
    if isinstance(gate, Tanh) and offset == factor:
        return _tanh_gelu(build, node, x, own, inner, picked, factor)
    if isinstance(gate, Tanh) and offset == 0:
        return _mish(build, node, x, own, inner, picked, factor)
    rate = _rate(own, inner, picked)
    if rate is None:
        return Miss(WHAT, "the gate reads something else than a multiple of x")
    slope, shift = rate
    result: Activation | None = None
    multiple = factor
    if isinstance(gate, Sigmoid) and offset == 0 and shift == 0:
        result = Silu() if slope == 1 else Scaled(Silu(), slope)
    elif isinstance(gate, Erf) and offset == factor and shift == 0 and _near(slope, 1 / math.sqrt(2)):
        result, multiple = Gelu(), 2 * factor
        build.notes.append(_note(node, "gelu", slope, "1/sqrt(2)"))
    elif isinstance(gate, HardSigmoid) and offset == 0 and shift == 0 and slope == 1:
        if gate.beta == 0.5 and _near(gate.alpha, 1 / 6):
            result = HardSwish()
            build.notes.append(_note(node, "hard_swish", gate.alpha, "1/6"))
    elif isinstance(gate, Clip) and (offset, slope, shift) == (0, 1, 3) and _is(gate.low, 0) and _is(gate.high, 6):
        result, multiple = HardSwish(), 6 * factor  # x clip(x + 3, 0, 6) / 6, the division before or after
    if result is None:
        return Miss(WHAT, f"x times {gate.describe()} has no name here")
    return _scaled(build, node, build.elementwise(node, x, result), multiple)


def _tanh_gelu(
    build: GraphBuilder, node: OpNode, x: Live, own: AffineForm, inner: AffineForm, picked: np.ndarray, factor: float
) -> Value | Miss:
    """The gate reads k (x + c x^3)."""
    if np.any(inner.bias):
        return Miss(WHAT, "the argument of tanh is shifted")
    rows = inner.matrix[picked]
    if np.any(np.diff(rows.indptr) != 2):
        return Miss(WHAT, "the argument of tanh is no k x + c x^3")
    mine = own.single()
    if mine is None or np.any(own.bias):
        return Miss(WHAT, "x is no multiple of one tensor")
    columns, weights = rows.indices.reshape(-1, 2), rows.data.reshape(-1, 2)
    linear = columns == mine[0][:, None]
    if not np.all(linear.sum(axis=1) == 1) or np.any(mine[1] != 1):
        return Miss(WHAT, "the argument of tanh is no k x + c x^3")
    cubes = columns[~linear]
    position = inner.node_of(cubes)
    if position is None or not _is_cube(build, position, inner.within(position, cubes), mine[0], own):
        return Miss(WHAT, "the argument of tanh has no cube of x")
    k, c = _uniform(weights[linear]), _uniform(weights[~linear])
    if k is None or c is None or k == 0:
        return Miss(WHAT, "the constants differ between entries")
    if not (_near(k, math.sqrt(2 / math.pi)) and _near(c / k, 0.044715)):
        return Miss(WHAT, f"the constants {k:g} and {c / k:g} are not those of gelu")
    build.notes.append(_note(node, "gelu_tanh", k, "sqrt(2/pi)"))
    return _scaled(build, node, build.elementwise(node, x, GeluTanh()), 2 * factor)


def _is_cube(build: GraphBuilder, position: int, entries: np.ndarray, wanted: np.ndarray, own: AffineForm) -> bool:
    """Whether these entries of a node are the cubes of the values at the columns `wanted`."""
    body = build.nodes[position]
    if isinstance(body, Elementwise) and isinstance(body.activation, Power) and body.activation.n == 3:
        inside = affine_form(build.nodes, body.input).single()
        return inside is not None and bool(np.all(inside[1] == 1) and np.array_equal(inside[0][entries], wanted))
    if isinstance(body, Product):
        factors = [affine_form(build.nodes, side).single() for side in (body.left, body.right)]
        for first, second in (factors, factors[::-1]):
            if first is None or second is None or np.any(first[1] != 1) or np.any(second[1] != 1):
                continue
            square = own.node_of(second[0][entries])
            if square is None or not np.array_equal(first[0][entries], wanted):
                continue
            inner = build.nodes[square]
            if isinstance(inner, Elementwise) and isinstance(inner.activation, Power) and inner.activation.n == 2:
                base = affine_form(build.nodes, inner.input).single()
                at = own.within(square, second[0][entries])
                if base is not None and np.all(base[1] == 1) and np.array_equal(base[0][at], wanted):
                    return True
    return False


def _mish(
    build: GraphBuilder, node: OpNode, x: Live, own: AffineForm, inner: AffineForm, picked: np.ndarray, factor: float
) -> Value | Miss:
    """The gate is tanh of softplus of x."""
    found = inner.single()
    position = None if found is None else inner.node_of(found[0])
    body = None if position is None else build.nodes[position]
    if not (isinstance(body, Elementwise) and isinstance(body.activation, Softplus)) or np.any(inner.bias):
        return Miss(WHAT, "x times tanh is no mish: tanh does not read softplus")
    assert found is not None
    assert position is not None
    if np.any(found[1] != 1):
        return Miss(WHAT, "softplus is scaled")
    rate = _rate(own, affine_form(build.nodes, body.input), inner.within(position, found[0])[picked])
    if rate != (1.0, 0.0):
        return Miss(WHAT, "softplus reads something else than x")
    return _scaled(build, node, build.elementwise(node, x, Mish()), factor)


def _rate(own: AffineForm, inner: AffineForm, picked: np.ndarray) -> tuple[float, float] | None:
    """(slope, shift) with inner[picked_i] = slope * own_i + shift for every entry i."""
    mine, theirs = own.matrix, inner.matrix[picked]
    if mine.shape != theirs.shape or mine.nnz != theirs.nnz or mine.nnz == 0:
        return None
    if not (np.array_equal(mine.indptr, theirs.indptr) and np.array_equal(mine.indices, theirs.indices)):
        return None
    slope = _uniform(theirs.data / mine.data)
    if slope is None or not np.array_equal(slope * mine.data, theirs.data):
        return None
    shift = _uniform(inner.bias[picked] - slope * own.bias)
    return None if shift is None else (slope, shift)


def _scaled(build: GraphBuilder, node: OpNode, value: Live | Known, factor: float) -> Value:
    return value if factor == 1 else build.scale(node, value, exact(np.array(factor)))


def _uniform(values: np.ndarray) -> float | None:
    return float(values.flat[0]) if values.size and np.all(values == values.flat[0]) else None


def _near(a: float, b: float) -> bool:
    return abs(a / b - 1) <= NEAR


def _is(a: object, b: float) -> bool:
    return bool(np.all(np.asarray(a) == b))


def _note(node: OpNode, name: str, stored: float, meant: str) -> str:
    return f"{node.label} is read as {name}: the stored {stored:.9g} is the rounded {meant}"
