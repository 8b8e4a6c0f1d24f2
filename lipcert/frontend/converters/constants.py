"""Constants stored in nodes."""

from __future__ import annotations

import numpy as np

from lipcert.arithmetic.enclosure import exact
from lipcert.frontend.builder import GraphBuilder
from lipcert.frontend.opnode import OpNode
from lipcert.frontend.registry import converter
from lipcert.frontend.values import Integers, Known, Value


@converter("Constant", 1, 9, 11, 12, 13, 19, 21, 23, 24, 25)
def constant(build: GraphBuilder, node: OpNode) -> Value:
    if len(node.attributes) != 1:
        node.malformed(f"it has {len(node.attributes)} attributes, not one")
    kind = next(iter(node.attributes))
    stored = node.required(kind)
    if kind in ("value_int", "value_ints"):
        return Integers(np.array(stored, dtype=np.int64))
    if kind in ("value", "value_float", "value_floats"):
        return from_array(node, np.asarray(stored))
    node.refuse(f"a constant of kind {kind}", "only dense number tensors are supported")


@converter("ConstantOfShape", 9, 20, 21, 23, 24, 25)
def constant_of_shape(build: GraphBuilder, node: OpNode) -> Value:
    shape = node.integers(0, "shape")
    if any(d < 1 for d in shape):
        node.malformed(f"shape {shape}")
    node.sized(shape)
    fill = np.asarray(node.attr("value", np.zeros(1, dtype=np.float32))).reshape(-1)
    if fill.size != 1:
        node.malformed(f"its value has {fill.size} entries, not one")
    return from_array(node, np.full(shape, fill[0]))


def from_array(node: OpNode, data: np.ndarray) -> Value:
    """A stored tensor as a constant; every float format converts to float64 exactly."""
    if data.dtype.kind in "iub":
        return Integers(data)
    if data.dtype.kind not in "fV":
        node.refuse(f"a constant of type {data.dtype}", "only numbers are supported")
    with np.errstate(invalid="ignore"):  # a signalling NaN
        values = data.astype(np.float64)
    if not np.all(np.isfinite(values)):
        if np.any(np.isnan(values)):
            node.malformed("the constant holds NaN or Inf")
        node.refuse("the constant holds NaN or Inf", "mask with a large negative number, such as -1e4, instead of -Inf")
    return Known(exact(values))
