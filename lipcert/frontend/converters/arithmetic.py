"""Addition, subtraction, multiplication and division, with NumPy broadcasting."""

from __future__ import annotations

import operator as python
from collections.abc import Callable

import numpy as np

from lipcert.activations import Reciprocal
from lipcert.arithmetic.enclosure import Enclosure, exact
from lipcert.frontend.builder import GraphBuilder, broadcast_shape
from lipcert.frontend.opnode import OpNode
from lipcert.frontend.recognisers import read_product, read_quotient
from lipcert.frontend.registry import converter
from lipcert.frontend.values import Known, Live, Value
from lipcert.operators import Diagonal, compose, size_of

_MINUS_ONE = exact(-1.0)


@converter("Add", 7, 13, 14)
def add(build: GraphBuilder, node: OpNode) -> Value:
    return _combine(build, node, python.add, 1.0)


@converter("Sub", 7, 13, 14)
def sub(build: GraphBuilder, node: OpNode) -> Value:
    return _combine(build, node, python.sub, -1.0)


@converter("Neg", 6, 13)
def neg(build: GraphBuilder, node: OpNode) -> Value:
    return negate(build, node, node.real(0))


@converter("Mul", 7, 13, 14)
def mul(build: GraphBuilder, node: OpNode) -> Value:
    a, b = node.real(0), node.real(1)
    if isinstance(a, Known) and isinstance(b, Known):
        return fold(node, python.mul, a, b)
    if isinstance(b, Known):
        return build.scale(node, a, b.data)
    if isinstance(a, Known):
        return build.scale(node, b, a.data)
    assert isinstance(a, Live)
    assert isinstance(b, Live)
    return read_product(build, node, a, b)


@converter("Div", 7, 13, 14)
def div(build: GraphBuilder, node: OpNode) -> Value:
    a, b = node.real(0), node.real(1)
    if isinstance(b, Live):
        if isinstance(a, Known):
            inverse = build.elementwise(node, b, Reciprocal())
            if a.data.is_exact and np.all(a.data.value == 1) and broadcast_shape(node, a.shape, b.shape) == b.shape:
                return inverse
            return build.scale(node, inverse, a.data)
        return read_quotient(build, node, a, b)
    if isinstance(a, Known):
        return fold(node, python.truediv, a, b)
    return build.scale(node, a, fold(node, python.truediv, Known(exact(1.0)), b).data)


@converter("Sum", 8, 13)
def sum_of(build: GraphBuilder, node: OpNode) -> Value:
    return _total(build, node)


@converter("Mean", 8, 13)
def mean(build: GraphBuilder, node: OpNode) -> Value:
    count = exact(np.array(float(len(node.inputs))))
    return build.scale(node, _total(build, node), exact(np.array(1.0)) / count)


def _total(build: GraphBuilder, node: OpNode) -> Live | Known:
    parts = [node.real(i) for i in range(len(node.inputs))]
    shape = broadcast_shape(node, *(p.shape for p in parts))
    return build.affine(node, [(p, build.broadcast(node, p, shape)) for p in parts], shape)


def negate(build: GraphBuilder, node: OpNode, value: Live | Known) -> Live | Known:
    return Known(-value.data) if isinstance(value, Known) else build.scale(node, value, _MINUS_ONE)


def add_constant(build: GraphBuilder, node: OpNode, value: Live | Known, constant: Enclosure) -> Live | Known:
    """value + constant, which has its shape."""
    return build.affine(node, [(value, build.broadcast(node, value, value.shape))], value.shape, constant)


def fold(node: OpNode, operation: Callable[[Enclosure, Enclosure], Enclosure], a: Known, b: Known) -> Known:
    """A constant computed from two constants, enclosed."""
    node.sized(broadcast_shape(node, a.shape, b.shape))
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            result = operation(a.data, b.data)
    except ZeroDivisionError:
        node.malformed("a constant is divided by zero")
    if not np.all(np.isfinite(result.value)):
        node.malformed("a constant overflows or is not a number")
    return Known(result)


def _combine(
    build: GraphBuilder, node: OpNode, operation: Callable[[Enclosure, Enclosure], Enclosure], sign: float
) -> Value:
    a, b = node.real(0), node.real(1)
    if isinstance(a, Known) and isinstance(b, Known):
        return fold(node, operation, a, b)
    shape = broadcast_shape(node, a.shape, b.shape)
    second = build.broadcast(node, b, shape)
    if sign < 0:
        second = compose(Diagonal(np.full(size_of(shape), -1.0)), second)
    return build.affine(node, [(a, build.broadcast(node, a, shape)), (b, second)], shape)
