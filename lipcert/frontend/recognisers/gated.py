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
    Sigmoid,
    Silu,
    Softplus,
    Tanh,
)
from lipcert.arithmetic.enclosure import Enclosure
from lipcert.frontend.affine_form import LOOSE, MAX_STEPS, AffineForm, affine_form
from lipcert.frontend.builder import GraphBuilder
from lipcert.frontend.opnode import OpNode
from lipcert.frontend.recognisers.miss import Miss
from lipcert.frontend.values import Live, Value
from lipcert.graph import Elementwise, Product

WHAT = "a gated activation"
NEAR = 1e-6
"""Relative difference that rounding a constant to float32 makes, with room to spare."""


def match(build: GraphBuilder, node: OpNode, x: Live, gate: Live) -> Value | Miss:
    """`gate` as factor * (activation of something) + offset, entry by entry.

    First with x as it stands (a bias may have been added to it), then with what x is a multiple of.
    """
    found = _match(build, node, x, gate, frozenset({x.node}))
    return _match(build, node, x, gate, frozenset()) if isinstance(found, Miss) else found


def _match(build: GraphBuilder, node: OpNode, x: Live, gate: Live, stop: frozenset[int]) -> Value | Miss:
    outer = affine_form(build.nodes, gate.node, stop)
    found = outer.single()
    if found is None:
        return Miss(WHAT, "the gate mixes entries")
    columns, factors = found
    position = outer.node_of(columns)
    body = None if position is None else build.nodes[position]
    if position is None or not isinstance(body, Elementwise):
        return Miss(WHAT, "the gate is no activation")
    factor, offset = _uniform(factors), _uniform(outer.bias)
    if factor is None or offset is None:
        return Miss(WHAT, "the gate's scale differs between entries")
    own = affine_form(build.nodes, x.node, stop)
    if np.any(own.bias):
        return Miss(WHAT, "x is shifted")
    picked = outer.within(position, columns)
    return _read(build, node, x, own, body, picked, factor, offset, stop)


def _unscaled(build: GraphBuilder, node: OpNode, own: AffineForm, x: Live) -> tuple[Live, float]:
    """(z, m) with x = m z and z copies of entries of one node; (x, 1) where there is no such z, or it is x."""
    found = own.single()
    multiple = None if found is None else _uniform(found[1])
    position = None if found is None else own.node_of(found[0])
    if found is None or multiple is None or multiple == 1 or position is None:
        return x, 1.0
    entries = own.within(position, found[0]).reshape(x.shape)
    base = build.rearrange(node, Live(position, build.nodes[position].shape), lambda t: t.reshape(-1)[entries])
    assert isinstance(base, Live)
    return base, multiple


def _read(
    build: GraphBuilder,
    node: OpNode,
    x: Live,
    own: AffineForm,
    body: Elementwise,
    picked: np.ndarray,
    factor: float,
    offset: float,
    stop: frozenset[int],
) -> Value | Miss:
    gate = body.activation
    if isinstance(gate, Tanh | Erf) and offset == factor:
        x, multiple = _unscaled(build, node, own, x)
        own, factor, offset = affine_form(build.nodes, x.node, stop), factor * multiple, offset * multiple
    inner = affine_form(build.nodes, body.input, stop)
    if isinstance(gate, Tanh) and offset == factor:
        return _tanh_gelu(build, node, x, own, inner, picked, factor, stop)
    if isinstance(gate, Tanh) and offset == 0:
        return _mish(build, node, x, own, inner, picked, factor, stop)
    slope, shift = _rate(own, inner, picked), _uniform(inner.bias[picked])
    if slope is None or shift is None:
        return Miss(WHAT, "the gate reads something else than a multiple of x")
    if isinstance(gate, Sigmoid) and (offset, shift) == (0, 0):
        return _silu(build, node, x, body, picked, factor, slope)
    result: Activation | None = None
    multiple = factor
    if isinstance(gate, Erf) and offset == factor and shift == 0 and _near(slope, 1 / math.sqrt(2)):
        result, multiple = Gelu(), 2 * factor
        build.notes.append(_note(node, "gelu", slope, "1/sqrt(2)"))
    elif isinstance(gate, HardSigmoid) and (offset, shift, slope, gate.beta) == (0, 0, 1, 0.5):
        if _near(gate.alpha, 1 / 6):
            result = HardSwish()
            build.notes.append(_note(node, "hard_swish", gate.alpha, "1/6"))
    elif isinstance(gate, Clip) and (offset, slope, shift) == (0, 1, 3) and _is(gate.low, 0) and _is(gate.high, 6):
        result, multiple = HardSwish(), 6 * factor  # x clip(x + 3, 0, 6) / 6, the division before or after
    if result is None:
        return Miss(WHAT, f"x times {gate.describe()} has no name here")
    return build.scale(node, build.elementwise(node, x, result), _enclosed(multiple))


def _silu(
    build: GraphBuilder,
    node: OpNode,
    x: Live,
    body: Elementwise,
    picked: np.ndarray,
    factor: float,
    slope: float,
) -> Value:
    """x sigmoid(v) with v = slope x is silu(v) / slope, v as it stands in the graph."""
    argument = Live(body.input, build.nodes[body.input].shape)
    v = build.rearrange(node, argument, lambda t: t.reshape(-1)[picked.reshape(x.shape)])
    return build.scale(node, build.elementwise(node, v, Silu()), _enclosed(factor) / _enclosed(slope))


def _tanh_gelu(
    build: GraphBuilder,
    node: OpNode,
    x: Live,
    own: AffineForm,
    inner: AffineForm,
    picked: np.ndarray,
    factor: float,
    stop: frozenset[int],
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
    if position is None or not _is_cube(build, position, inner.within(position, cubes), mine[0], own, stop):
        return Miss(WHAT, "the argument of tanh has no cube of x")
    k, c = _uniform(weights[linear]), _uniform(weights[~linear])
    if k is None or c is None or k == 0:
        return Miss(WHAT, "the constants differ between entries")
    if not (_near(k, math.sqrt(2 / math.pi)) and _near(c / k, 0.044715)):
        return Miss(WHAT, f"the constants {k:g} and {c / k:g} are not those of gelu")
    build.notes.append(_note(node, "gelu_tanh", k, "sqrt(2/pi)"))
    return build.scale(node, build.elementwise(node, x, GeluTanh()), _enclosed(2 * factor))


def _is_cube(
    build: GraphBuilder, position: int, entries: np.ndarray, wanted: np.ndarray, own: AffineForm, stop: frozenset[int]
) -> bool:
    """Whether these entries of a node are the cubes of the values at the columns `wanted`."""
    body = build.nodes[position]
    if isinstance(body, Elementwise) and isinstance(body.activation, Power) and body.activation.n == 3:
        inside = affine_form(build.nodes, body.input, stop).single()
        return inside is not None and bool(np.all(inside[1] == 1) and np.array_equal(inside[0][entries], wanted))
    if isinstance(body, Product):
        factors = [affine_form(build.nodes, side, stop).single() for side in (body.left, body.right)]
        for first, second in (factors, factors[::-1]):
            if first is None or second is None or np.any(first[1] != 1) or np.any(second[1] != 1):
                continue
            square = own.node_of(second[0][entries])
            if square is None or not np.array_equal(first[0][entries], wanted):
                continue
            inner = build.nodes[square]
            if isinstance(inner, Elementwise) and isinstance(inner.activation, Power) and inner.activation.n == 2:
                base = affine_form(build.nodes, inner.input, stop).single()
                at = own.within(square, second[0][entries])
                if base is not None and np.all(base[1] == 1) and np.array_equal(base[0][at], wanted):
                    return True
    return False


def _mish(
    build: GraphBuilder,
    node: OpNode,
    x: Live,
    own: AffineForm,
    inner: AffineForm,
    picked: np.ndarray,
    factor: float,
    stop: frozenset[int],
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
    inside = affine_form(build.nodes, body.input, stop)
    rate = _rate(own, inside, inner.within(position, found[0])[picked])
    if rate != 1 or np.any(inside.bias):
        return Miss(WHAT, "softplus reads something else than x")
    return build.scale(node, build.elementwise(node, x, Mish()), _enclosed(factor))


def _rate(own: AffineForm, inner: AffineForm, picked: np.ndarray) -> float | None:
    """The slope with inner[picked_i] = slope * own_i + (inner's bias) for every entry i, up to rounding."""
    mine, theirs = own.matrix, inner.matrix[picked]
    if mine.shape != theirs.shape or mine.nnz != theirs.nnz or mine.nnz == 0 or own.single() is None:
        return None
    if not (np.array_equal(mine.indptr, theirs.indptr) and np.array_equal(mine.indices, theirs.indices)):
        return None
    return _uniform(theirs.data / mine.data)


def _enclosed(product: float) -> Enclosure:
    """A product of coefficients that are stored, or known up to LOOSE, and rounded a few times."""
    return Enclosure(np.array(product), np.array(abs(product) * 2 * MAX_STEPS * LOOSE))


def _uniform(values: np.ndarray) -> float | None:
    return float(values.flat[0]) if values.size and np.all(values == values.flat[0]) else None


def _near(a: float, b: float) -> bool:
    return abs(a / b - 1) <= NEAR


def _is(a: object, b: float) -> bool:
    return bool(np.all(np.asarray(a) == b))


def _note(node: OpNode, name: str, stored: float, meant: str) -> str:
    return f"{node.label} is read as {name}: the stored {stored:.9g} is the rounded {meant}"
