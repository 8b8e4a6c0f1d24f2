"""Sums, means and norms over axes."""

from __future__ import annotations

import numpy as np

from lipcert import activations as facts
from lipcert.activations.groupwise import GroupFunction
from lipcert.activations.lp_norm import LpNorm
from lipcert.activations.softmax import LogSumExp
from lipcert.arithmetic.enclosure import Enclosure, exact, hull
from lipcert.arithmetic.rounding import down, sqrt_up
from lipcert.frontend.builder import GraphBuilder
from lipcert.frontend.opnode import OpNode
from lipcert.frontend.registry import converter
from lipcert.frontend.values import Known, Live, Value
from lipcert.operators import Dense, Reduction, Shape, size_of


@converter("ReduceSum", 1, 11, 13)
def reduce_sum(build: GraphBuilder, node: OpNode) -> Value:
    value = node.real(0)
    axes = axes_of(node, value.shape, axes_input_since=13)
    return value if axes is None else sum_over(build, node, value, axes, reduced_shape(node, value.shape, axes))


@converter("CumSum", 11, 14)
def cumulative_sum(build: GraphBuilder, node: OpNode) -> Value:
    """Sums of all entries up to each, along one axis: a triangular matrix."""
    value = node.real(0)
    axis = node.axis(node.integers(1, "axis")[0], len(value.shape))
    size = value.shape[axis]
    node.sized((size, size))
    matrix = np.tril(np.ones((size, size)), -1 if node.attr("exclusive", 0) else 0)
    if node.attr("reverse", 0):
        matrix = np.ascontiguousarray(matrix.T)
    moved = build.rearrange(node, value, lambda t: np.moveaxis(t, axis, -1))
    summed = build.affine(node, [(moved, Dense(matrix, 0.0, copies=value.size // size))], moved.shape)
    return build.rearrange(node, summed, lambda t: np.moveaxis(t, -1, axis))


@converter("ReduceMean", 1, 11, 13, 18)
def reduce_mean(build: GraphBuilder, node: OpNode) -> Value:
    value = node.real(0)
    axes = axes_of(node, value.shape, axes_input_since=18)
    if axes is None:
        return value
    return mean_over(build, node, value, axes, reduced_shape(node, value.shape, axes))


@converter("ReduceSumSquare", 1, 11, 13, 18)
def reduce_sum_square(build: GraphBuilder, node: OpNode) -> Value:
    value = node.real(0)
    axes = axes_of(node, value.shape, axes_input_since=18)
    squares = build.elementwise(node, value, facts.Power(2))
    return squares if axes is None else sum_over(build, node, squares, axes, reduced_shape(node, value.shape, axes))


@converter("ReduceL1", 1, 11, 13, 18)
def reduce_l1(build: GraphBuilder, node: OpNode) -> Value:
    return _norm(build, node, 1)


@converter("ReduceL2", 1, 11, 13, 18)
def reduce_l2(build: GraphBuilder, node: OpNode) -> Value:
    return _norm(build, node, 2)


@converter("ReduceLogSumExp", 1, 11, 13, 18, 28)
def reduce_log_sum_exp(build: GraphBuilder, node: OpNode) -> Value:
    value = node.real(0)
    axes = axes_of(node, value.shape, axes_input_since=18)
    if axes is None:
        return value
    width = size_of(tuple(value.shape[a] for a in axes))
    return _grouped(build, node, value, axes, LogSumExp(width), reduced_shape(node, value.shape, axes))


@converter("GlobalAveragePool", 1, 22)
def global_average_pool(build: GraphBuilder, node: OpNode) -> Value:
    value, axes = _spatial(node)
    return mean_over(build, node, value, axes, (*value.shape[:2], *(1 for _ in axes)))


@converter("GlobalLpPool", 2, 22)
def global_lp_pool(build: GraphBuilder, node: OpNode) -> Value:
    value, axes = _spatial(node)
    p = int(node.attr("p", 2))
    if p not in (1, 2):
        node.refuse(f"p is {p}", "only p = 1 and 2 are supported")
    return norm_over(build, node, value, axes, (*value.shape[:2], *(1 for _ in axes)), p)


def axes_of(node: OpNode, shape: Shape, axes_input_since: int) -> tuple[int, ...] | None:
    """The axes to reduce, an input since some opset and an attribute before; None where nothing is reduced."""
    if node.since >= axes_input_since:
        axes = node.integers(1, "axes") if node.has_input(1) else []
    else:
        axes = [int(a) for a in node.attr("axes", [])]
    noop = bool(node.attr("noop_with_empty_axes", 0))
    node.attr("keepdims", 1)  # read, though nothing may be reduced
    if not axes and noop:
        return None
    return tuple(sorted(node.axes(axes or range(len(shape)), len(shape))))


def reduced_shape(node: OpNode, shape: Shape, axes: tuple[int, ...]) -> Shape:
    keep = bool(node.attr("keepdims", 1))
    return tuple(1 if a in axes else d for a, d in enumerate(shape) if keep or a not in axes)


def sum_over(
    build: GraphBuilder, node: OpNode, value: Live | Known, axes: tuple[int, ...], shape: Shape
) -> Live | Known:
    if not axes:
        return value
    return build.affine(node, [(value, Reduction(value.shape, axes))], shape)


def mean_over(
    build: GraphBuilder, node: OpNode, value: Live | Known, axes: tuple[int, ...], shape: Shape
) -> Live | Known:
    count = np.full(shape, float(size_of(tuple(value.shape[a] for a in axes))))
    return divide(build, node, sum_over(build, node, value, axes, shape), count)


def divide(build: GraphBuilder, node: OpNode, total: Live | Known, counts: np.ndarray) -> Live | Known:
    return build.scale(node, total, exact(np.ones_like(counts)) / exact(counts))


def norm_over(
    build: GraphBuilder, node: OpNode, value: Live | Known, axes: tuple[int, ...], shape: Shape, p: int
) -> Live | Known:
    width = size_of(tuple(value.shape[a] for a in axes))
    if isinstance(value, Known):
        kept = [a for a in range(len(value.shape)) if a not in axes]
        rows = value.data.rearrange(lambda t: t.transpose((*kept, *axes)).reshape(-1, width))
        return Known(_known_norm(rows, p).reshape(shape))
    return _grouped(build, node, value, axes, LpNorm(width, p), shape)


def _grouped(
    build: GraphBuilder,
    node: OpNode,
    value: Live | Known,
    axes: tuple[int, ...],
    function: GroupFunction,
    shape: Shape,
) -> Live | Known:
    """One number for each group of entries along the axes."""
    kept = [a for a in range(len(value.shape)) if a not in axes]
    moved = build.rearrange(node, value, lambda t: t.transpose((*kept, *axes)))
    return build.groupwise(node, moved, function, shape)


def _known_norm(rows: Enclosure, p: int) -> Enclosure:
    """Norms of rows in enclosure arithmetic: tighter than the interval bound of a function."""
    if p == 1:
        sign = np.where(rows.value >= 0, 1.0, -1.0)
        certain = np.all(np.abs(rows.value) >= rows.full_radius())
        if certain:
            return (rows * exact(sign)).total()
        return Enclosure(np.abs(rows.value), rows.radius).total()
    squares = (rows * rows).total()
    low, high = np.maximum(squares.lower(), 0.0), squares.upper()
    return squares.sqrt() if np.all(low > 0) else hull(np.maximum(down(np.sqrt(low)), 0.0), sqrt_up(high))


def _norm(build: GraphBuilder, node: OpNode, p: int) -> Value:
    value = node.real(0)
    axes = axes_of(node, value.shape, axes_input_since=18)
    if axes is None:
        # ONNX defines the op on no axes as the norm of single entries
        return build.elementwise(node, value, facts.Abs())
    return norm_over(build, node, value, axes, reduced_shape(node, value.shape, axes), p)


def _spatial(node: OpNode) -> tuple[Live | Known, tuple[int, ...]]:
    value = node.real(0)
    if len(value.shape) < 3:
        node.malformed(f"a tensor of shape {list(value.shape)} has no spatial axes")
    return value, tuple(range(2, len(value.shape)))
