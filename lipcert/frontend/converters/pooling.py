"""Average pooling and means: sums of entries, divided by how many there are."""

from __future__ import annotations

import numpy as np

from lipcert.arithmetic.enclosure import exact
from lipcert.frontend.builder import GraphBuilder
from lipcert.frontend.converters.arithmetic import scale
from lipcert.frontend.converters.windows import dilations_of, pads_of, strides_of
from lipcert.frontend.opnode import OpNode
from lipcert.frontend.registry import converter
from lipcert.frontend.values import Known, Live, Value
from lipcert.operators import Convolution, Reduction, size_of


@converter("AveragePool", 7, 10, 11, 19, 22)
def average_pool(build: GraphBuilder, node: OpNode) -> Value:
    """A depthwise convolution with ones, then division by the size of each window."""
    value = node.real(0)
    rank = len(value.shape) - 2
    kernel = tuple(int(k) for k in node.required("kernel_shape"))
    if rank < 1 or len(kernel) != rank or min(kernel) < 1:
        node.malformed(f"kernel_shape {list(kernel)} for a tensor of shape {list(value.shape)}")
    if node.attr("ceil_mode", 0):
        node.refuse("ceil_mode=1", "export the pooling with ceil_mode=0")
    strides, dilations = strides_of(node, rank), dilations_of(node, rank)
    pads = pads_of(node, value.shape[2:], kernel, strides, dilations)
    channels = value.shape[1]
    node.sized((channels, *kernel))
    try:
        window = Convolution(
            np.ones((channels, 1, *kernel)),
            value.shape[1:],
            strides=strides,
            pads=pads,
            dilations=dilations,
            groups=channels,
            copies=value.shape[0],
        )
    except ValueError as error:
        node.malformed(str(error))
    shape = (value.shape[0], *window.out_shape)
    if node.attr("count_include_pad", 0):
        counts = np.full(shape, float(size_of(kernel)))
    else:
        counts = window.matvec(np.ones(window.in_size)).reshape(shape)
        if counts.min() == 0:
            node.malformed("a pooling window lies in the padding entirely")
    return _divide(build, node, build.affine(node, [(value, window)], shape), counts)


@converter("GlobalAveragePool", 1, 22)
def global_average_pool(build: GraphBuilder, node: OpNode) -> Value:
    value = node.real(0)
    if len(value.shape) < 3:
        node.malformed(f"a tensor of shape {list(value.shape)} has no spatial axes")
    return _mean(build, node, value, tuple(range(2, len(value.shape))), keepdims=True)


@converter("ReduceMean", 1, 11, 13, 18)
def reduce_mean(build: GraphBuilder, node: OpNode) -> Value:
    value = node.real(0)
    rank = len(value.shape)
    if node.since >= 18:
        axes = node.integers(1, "axes") if node.has_input(1) else []
    else:
        axes = [int(a) for a in node.attr("axes", [])]
    if not axes and node.attr("noop_with_empty_axes", 0):
        return value
    return _mean(build, node, value, node.axes(axes or range(rank), rank), bool(node.attr("keepdims", 1)))


def _mean(build: GraphBuilder, node: OpNode, value: Live | Known, axes: tuple[int, ...], keepdims: bool) -> Value:
    operator = Reduction(value.shape, axes)
    shape = tuple(1 if a in axes else d for a, d in enumerate(value.shape) if keepdims or a not in axes)
    return _divide(build, node, build.affine(node, [(value, operator)], shape), np.full(shape, float(operator.count)))


def _divide(build: GraphBuilder, node: OpNode, total: Live | Known, counts: np.ndarray) -> Value:
    return scale(build, node, total, exact(np.ones_like(counts)) / exact(counts))
