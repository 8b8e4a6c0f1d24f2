"""Average pooling: sums over windows, divided by how many entries each has."""

from __future__ import annotations

from functools import reduce

import numpy as np

from lipcert.frontend.builder import GraphBuilder
from lipcert.frontend.converters.reductions import divide
from lipcert.frontend.converters.windows import (
    dilations_of,
    kernel_of,
    output_space,
    pads_of,
    strides_of,
    window_positions,
)
from lipcert.frontend.opnode import OpNode
from lipcert.frontend.registry import converter
from lipcert.frontend.values import Value
from lipcert.operators import Convolution


@converter("AveragePool", 7, 10, 11, 19, 22)
def average_pool(build: GraphBuilder, node: OpNode) -> Value:
    """A depthwise convolution with ones, then division by the size of each window."""
    value = node.real(0)
    kernel = kernel_of(node, value.shape)
    space, rank = value.shape[2:], len(kernel)
    strides, dilations = strides_of(node, rank), dilations_of(node, rank)
    pads = pads_of(node, space, kernel, strides, dilations)
    out = output_space(node, space, kernel, strides, dilations, pads)
    # windows that ceil_mode adds reach beyond the padding: there, nothing is added and nothing counts
    reach = [(o - 1) * s + d * (k - 1) + 1 for o, s, d, k in zip(out, strides, dilations, kernel, strict=True)]
    grown = tuple((b, max(e, r - b - n)) for (b, e), r, n in zip(pads, reach, space, strict=True))
    channels = value.shape[1]
    node.sized((channels, *kernel))
    try:
        window = Convolution(
            np.ones((channels, 1, *kernel)),
            value.shape[1:],
            strides=strides,
            pads=grown,
            dilations=dilations,
            groups=channels,
            copies=value.shape[0],
        )
    except ValueError as error:
        node.malformed(str(error))
    counts = []
    for axis in range(rank):
        position = window_positions(out[axis], kernel[axis], strides[axis], dilations[axis], pads[axis][0])
        first, last = 0, space[axis]
        if node.attr("count_include_pad", 0):
            first, last = -pads[axis][0], space[axis] + pads[axis][1]
        counts.append(((position >= first) & (position < last)).sum(axis=1))
    count = reduce(np.multiply.outer, counts).astype(float)
    if count.min() == 0:
        node.malformed("a pooling window lies in the padding entirely")
    total = build.affine(node, [(value, window)], (*value.shape[:2], *window.out_shape[1:]))
    if total.shape[2:] != out:
        total = build.rearrange(node, total, lambda t: t[(slice(None), slice(None), *(slice(o) for o in out))])
    return divide(build, node, total, np.broadcast_to(count, total.shape))
