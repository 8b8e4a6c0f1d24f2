"""Resizing by nearest neighbours and by linear interpolation: along each axis, a matrix.

Coordinates are exact rationals, so that which pixel is nearest, and the weights between two, are what ONNX defines.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from lipcert.arithmetic.enclosure import Enclosure
from lipcert.frontend.builder import GraphBuilder
from lipcert.frontend.opnode import OpNode
from lipcert.frontend.registry import converter
from lipcert.frontend.values import Known, Live, Value
from lipcert.operators import Dense

MAX_SIDE = 2**14
"""Entries along a resized axis: each has a coordinate of its own, an exact rational."""

Coordinate = Callable[[int, Fraction, int, int], Fraction]
"""(output position, scale, input size, output size) to the position in the input."""

_COORDINATES: dict[str, Coordinate] = {
    "asymmetric": lambda x, scale, n, m: x / scale,
    "half_pixel": lambda x, scale, n, m: (x + Fraction(1, 2)) / scale - Fraction(1, 2),
    "pytorch_half_pixel": lambda x, scale, n, m: (
        (x + Fraction(1, 2)) / scale - Fraction(1, 2) if m > 1 else Fraction(0)
    ),
    "align_corners": lambda x, scale, n, m: x * Fraction(n - 1, m - 1) if m > 1 else Fraction(0),
}

_ROUNDING: dict[str, Callable[[Fraction], int]] = {
    "floor": math.floor,
    "ceil": math.ceil,
    "round_prefer_floor": lambda x: math.ceil(x - Fraction(1, 2)),
    "round_prefer_ceil": lambda x: math.floor(x + Fraction(1, 2)),
}


@converter("Upsample", 7, 9)
def upsample(build: GraphBuilder, node: OpNode) -> Value:
    value = node.real(0)
    scales = [float(s) for s in node.required("scales")] if node.since < 9 else _scales(node, 1)
    mode = node.attr("mode", "nearest")
    return _resized(build, node, value, dict(enumerate(scales)), {}, mode, "asymmetric", "floor")


@converter("Resize", 10, 11, 13, 18, 19)
def resize(build: GraphBuilder, node: OpNode) -> Value:
    value = node.real(0)
    mode = node.attr("mode", "nearest")
    if node.since == 10:
        return _resized(build, node, value, dict(enumerate(_scales(node, 1))), {}, mode, "asymmetric", "floor")
    if node.attr("antialias", 0):
        node.refuse("antialias=1", "resize without it")
    if node.attr("keep_aspect_ratio_policy", "stretch") != "stretch":
        node.refuse("keep_aspect_ratio_policy", "give the sizes themselves")
    for unused in ("cubic_coeff_a", "exclude_outside", "extrapolation_value"):
        node.attr(unused, None)  # of modes that are refused
    rank = len(value.shape)
    axes = node.axes([int(a) for a in node.attr("axes", range(rank))], rank)
    scales: dict[int, float] = {}
    sizes: dict[int, int] = {}
    if node.has_input(3):
        sizes = dict(zip(axes, node.integers(3, "sizes"), strict=False))
    elif node.has_input(2):
        scales = dict(zip(axes, _scales(node, 2), strict=False))
    if len(sizes or scales) != len(axes):
        node.malformed(f"scales or sizes for {len(axes)} axes")
    coordinate = node.attr("coordinate_transformation_mode", "half_pixel")
    return _resized(
        build, node, value, scales, sizes, mode, coordinate, node.attr("nearest_mode", "round_prefer_floor")
    )


def _scales(node: OpNode, i: int) -> list[float]:
    given = node.known(i, "scales")
    if not given.data.is_exact:
        node.refuse("its scales are computed, with rounding", "store them in the model")
    return [float(s) for s in given.data.value.reshape(-1)]


def _resized(
    build: GraphBuilder,
    node: OpNode,
    value: Live | Known,
    scales: dict[int, float],
    sizes: dict[int, int],
    mode: str,
    coordinate: str,
    rounding: str,
) -> Value:
    if mode not in ("nearest", "linear"):
        node.refuse(f"mode {mode!r}", "use nearest or linear")
    if coordinate not in _COORDINATES or rounding not in _ROUNDING:
        node.refuse(f"coordinate_transformation_mode {coordinate!r}", f"use one of {', '.join(_COORDINATES)}")
    for axis in sorted({*scales, *sizes}):
        n = value.shape[axis] if axis < len(value.shape) else node.malformed(f"axis {axis}")
        scale = Fraction(sizes[axis], n) if axis in sizes else Fraction(scales[axis])
        m = sizes.get(axis, math.floor(n * scale))
        if scale <= 0 or m < 1:
            node.malformed(f"axis {axis} of {n} entries is resized to {m}")
        if scale == 1:
            continue
        if m > MAX_SIDE:
            node.refuse(f"{m} entries along axis {axis}", f"at most {MAX_SIDE} are supported")
        if coordinate == "align_corners" and m != n * scale:
            node.refuse(f"align_corners with a scale of {float(scale):g} for {n} entries", "give sizes")
        node.sized((*value.shape[:axis], m, *value.shape[axis + 1 :]))
        positions = [_COORDINATES[coordinate](x, scale, n, m) for x in range(m)]
        if mode == "nearest":
            picked = np.array([min(max(_ROUNDING[rounding](p), 0), n - 1) for p in positions])
            value = build.rearrange(node, value, lambda t, picked=picked, axis=axis: np.take(t, picked, axis=axis))  # type: ignore[misc]
        else:
            value = _interpolated(build, node, value, axis, _linear(positions, n))
    return value


def _linear(positions: list[Fraction], n: int) -> Enclosure:
    """The interpolation matrix: each output between its two neighbours, beyond the edge the edge itself."""
    matrix, radius = np.zeros((len(positions), n)), np.zeros((len(positions), n))
    for row, position in enumerate(positions):
        position = min(max(position, Fraction(0)), Fraction(n - 1))
        left = min(math.floor(position), n - 2) if n > 1 else 0
        weights = {left: 1 - (position - left), left + 1: position - left} if n > 1 else {0: Fraction(1)}
        for column, weight in weights.items():
            matrix[row, column] = float(weight)
            radius[row, column] = 0.0 if Fraction(float(weight)) == weight else abs(float(weight)) * 2.0**-52
    return Enclosure(matrix, radius if radius.any() else 0.0)


def _interpolated(build: GraphBuilder, node: OpNode, value: Live | Known, axis: int, matrix: Enclosure) -> Live | Known:
    m, n = matrix.shape
    moved = build.rearrange(node, value, lambda t: np.moveaxis(t, axis, -1))
    operator = Dense(matrix.value, matrix.radius, copies=value.size // n)
    result = build.affine(node, [(moved, operator)], (*moved.shape[:-1], m))
    return build.rearrange(node, result, lambda t: np.moveaxis(t, -1, axis))
