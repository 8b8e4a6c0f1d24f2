"""Convolutions."""

from __future__ import annotations

import numpy as np

from lipcert.arithmetic.enclosure import Enclosure
from lipcert.frontend.builder import GraphBuilder
from lipcert.frontend.converters.windows import dilations_of, pads_of, strides_of
from lipcert.frontend.opnode import OpNode
from lipcert.frontend.registry import converter
from lipcert.frontend.values import Value
from lipcert.operators import Convolution


@converter("Conv", 1, 11, 22)
def conv(build: GraphBuilder, node: OpNode) -> Value:
    value, weights = node.real(0), node.known(1, "kernel")
    rank = len(value.shape) - 2
    if rank < 1 or len(weights.shape) != rank + 2:
        node.malformed(f"a kernel of shape {list(weights.shape)} for a tensor of shape {list(value.shape)}")
    kernel = weights.shape[2:]
    if tuple(node.attr("kernel_shape", kernel)) != kernel:
        node.malformed(f"kernel_shape {node.attr('kernel_shape', None)} for a kernel of shape {list(weights.shape)}")
    strides, dilations = strides_of(node, rank), dilations_of(node, rank)
    try:
        operator = Convolution(
            weights.data.value,
            value.shape[1:],
            strides=strides,
            pads=pads_of(node, value.shape[2:], kernel, strides, dilations),
            dilations=dilations,
            groups=int(node.attr("group", 1)),
            copies=value.shape[0],
            radius=weights.data.radius,
        )
    except (ValueError, ZeroDivisionError) as error:
        node.malformed(str(error))
    shape = (value.shape[0], *operator.out_shape)
    return build.affine(node, [(value, operator)], shape, _bias(node, shape))


def _bias(node: OpNode, shape: tuple[int, ...]) -> Enclosure | None:
    if not node.has_input(2):
        return None
    bias = node.known(2, "bias")
    if bias.shape != (shape[1],):
        node.malformed(f"a bias of shape {list(bias.shape)} for {shape[1]} channels")
    column = (1, -1, *(1 for _ in shape[2:]))
    return bias.data.rearrange(lambda b: np.broadcast_to(b.reshape(column), shape).reshape(-1))
