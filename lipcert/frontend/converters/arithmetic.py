"""Addition, subtraction, multiplication and division, with NumPy broadcasting, where the result is linear."""

from __future__ import annotations

import operator as python
from collections.abc import Callable

import numpy as np

from lipcert.arithmetic.enclosure import Enclosure, exact
from lipcert.frontend.builder import GraphBuilder, broadcast_shape
from lipcert.frontend.opnode import OpNode
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
    value = node.real(0)
    return Known(-value.data) if isinstance(value, Known) else scale(build, node, value, _MINUS_ONE)


@converter("Mul", 7, 13, 14)
def mul(build: GraphBuilder, node: OpNode) -> Value:
    a, b = node.real(0), node.real(1)
    if isinstance(a, Known) and isinstance(b, Known):
        return fold(node, python.mul, a, b)
    if isinstance(b, Known):
        return scale(build, node, a, b.data)
    if isinstance(a, Known):
        return scale(build, node, b, a.data)
    node.refuse("both factors depend on the network's input", "lipcert bounds products with constants only, so far")


@converter("Div", 7, 13, 14)
def div(build: GraphBuilder, node: OpNode) -> Value:
    a, b = node.real(0), node.real(1)
    if isinstance(b, Live):
        node.refuse("the divisor depends on the network's input", "lipcert divides by constants only, so far")
    if isinstance(a, Known):
        return fold(node, python.truediv, a, b)
    return scale(build, node, a, fold(node, python.truediv, Known(exact(1.0)), b).data)


def fold(node: OpNode, operation: Callable[[Enclosure, Enclosure], Enclosure], a: Known, b: Known) -> Known:
    """A constant computed from two constants, enclosed."""
    node.sized(broadcast_shape(node, a.shape, b.shape))
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            result = operation(a.data, b.data)
    except ZeroDivisionError:
        node.malformed("a constant is divided by zero")
    if not result.is_finite:
        node.malformed("a constant overflows or is not a number")
    return Known(result)


def scale(build: GraphBuilder, node: OpNode, value: Live | Known, factor: Enclosure) -> Live | Known:
    """value times a constant of any shape that broadcasts with it."""
    shape = broadcast_shape(node, value.shape, factor.shape)
    node.sized(shape)
    weights = factor.rearrange(lambda a: np.broadcast_to(a, shape).reshape(-1))
    diagonal = Diagonal(weights.value, weights.radius)
    return build.affine(node, [(value, compose(diagonal, build.broadcast(node, value, shape)))], shape)


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
