"""Ops that change the type of numbers, or nothing at all, once a network is trained."""

from __future__ import annotations

import numpy as np

from lipcert.arithmetic.enclosure import exact
from lipcert.frontend.builder import GraphBuilder
from lipcert.frontend.opnode import OpNode
from lipcert.frontend.registry import converter
from lipcert.frontend.values import Condition, Integers, Known, Live, Value

_FLOATS = {1: "float32", 10: "float16", 11: "float64", 16: "bfloat16"}
_INTEGERS = {2: "u1", 3: "i1", 4: "u2", 5: "i2", 6: "i4", 7: "i8", 9: "?", 12: "u4", 13: "u8"}


@converter("Cast", 6, 9, 13, 19, 21, 23, 24, 25, 28)
def cast(build: GraphBuilder, node: OpNode) -> Value:
    """Between floats nothing happens to a real number; integers of constants are exact."""
    return _cast(node, int(node.required("to")))


@converter("CastLike", 15, 19, 21, 23, 24, 25)
def cast_like(build: GraphBuilder, node: OpNode) -> Value:
    target = node.input(1)
    if isinstance(target, Integers):
        import onnx

        return _cast(node, int(onnx.helper.np_dtype_to_tensor_dtype(target.data.dtype)))
    return _cast(node, 1)


@converter("Dropout", 7, 10, 12, 13, 22)
def dropout(build: GraphBuilder, node: OpNode) -> tuple[Value | None, ...]:
    """Nothing in evaluation mode; its mask is not supported."""
    if node.has_input(2):
        mode = node.input(2)
        if not isinstance(mode, Integers) or np.any(mode.data):
            node.refuse("training mode", "export the model in evaluation mode (model.eval())")
    return node.real(0), None


def _cast(node: OpNode, to: int) -> Value:
    value = node.input(0)
    if to in _FLOATS:
        if isinstance(value, Condition):
            node.refuse("a condition on the network's input becomes a number", "it jumps: it has no Lipschitz constant")
        if not isinstance(value, Integers):
            return value
        if value.data.dtype.kind in "iu" and np.any(np.abs(value.data.astype(float)) > 2.0**53):
            node.refuse("an integer beyond 2^53 as a float", "store the number as a float")
        return Known(exact(value.data.astype(np.float64)))
    if to not in _INTEGERS:
        node.refuse(f"a cast to type {to}", "only numbers are supported")
    if isinstance(value, Live | Condition):
        if isinstance(value, Condition) and to == 9:
            return value
        node.refuse("a cast of the network's values to integers", "it jumps, so it has no Lipschitz constant")
    if isinstance(value, Known):
        if not value.data.is_exact:
            node.refuse("a cast of a computed constant to integers", "store the result in the model")
        limit = 2.0**62 if _INTEGERS[to] in ("i8", "u8") else np.inf
        if np.any(np.abs(value.data.value) >= limit):
            node.malformed("a constant does not fit the integer type")
        return Integers(np.trunc(value.data.value).astype(np.int64).astype(_INTEGERS[to]))
    return Integers(value.data.astype(_INTEGERS[to]))
