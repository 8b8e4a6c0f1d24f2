"""Convolutions and their transposes."""

from __future__ import annotations

import numpy as np

from lipcert.arithmetic.enclosure import Enclosure
from lipcert.frontend.builder import GraphBuilder
from lipcert.frontend.converters.windows import dilations_of, pads_of, strides_of
from lipcert.frontend.opnode import OpNode
from lipcert.frontend.registry import converter
from lipcert.frontend.values import Value
from lipcert.operators import Convolution, Shape, Transposed


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


@converter("ConvTranspose", 1, 11, 22)
def conv_transpose(build: GraphBuilder, node: OpNode) -> Value:
    """The transpose of the convolution from the output's maps to the input's."""
    value, weights = node.real(0), node.known(1, "kernel")
    rank = len(value.shape) - 2
    if rank < 1 or len(weights.shape) != rank + 2 or weights.shape[0] != value.shape[1]:
        node.malformed(f"a kernel of shape {list(weights.shape)} for a tensor of shape {list(value.shape)}")
    kernel, groups = weights.shape[2:], int(node.attr("group", 1))
    if tuple(node.attr("kernel_shape", kernel)) != kernel or groups < 1:
        node.malformed(f"kernel_shape or group does not fit a kernel of shape {list(weights.shape)}")
    strides, dilations = strides_of(node, rank), dilations_of(node, rank)
    space, pads = _transposed_space(node, value.shape[2:], kernel, strides, dilations)
    node.sized((weights.shape[1] * groups, *space))
    try:
        forward = Convolution(
            weights.data.value,
            (weights.shape[1] * groups, *space),
            strides=strides,
            pads=pads,
            dilations=dilations,
            groups=groups,
            copies=value.shape[0],
            radius=weights.data.radius,
        )
    except (ValueError, ZeroDivisionError) as error:
        node.malformed(str(error))
    if forward.out_shape != value.shape[1:]:
        node.refuse(f"its output of shape {list(space)} does not lead back to its input", "check output_padding")
    shape = (value.shape[0], *forward.in_shape)
    return build.affine(node, [(value, Transposed(forward))], shape, _bias(node, shape))


def _transposed_space(
    node: OpNode, space: Shape, kernel: Shape, strides: Shape, dilations: Shape
) -> tuple[Shape, tuple[tuple[int, int], ...]]:
    """The output's spatial shape and the padding that is cut off."""
    rank = len(space)
    extra = [int(p) for p in node.attr("output_padding", [0] * rank)]
    if len(extra) != rank or any(not 0 <= p < max(s, d) for p, s, d in zip(extra, strides, dilations, strict=True)):
        node.malformed(f"output_padding {extra}")
    full = [
        (n - 1) * s + p + d * (k - 1) + 1
        for n, s, p, d, k in zip(space, strides, extra, dilations, kernel, strict=True)
    ]
    mode = node.attr("auto_pad", "NOTSET")
    wanted = [int(d) for d in node.attr("output_shape", [])]
    if mode in ("SAME_UPPER", "SAME_LOWER") and not wanted:
        wanted = [n * s for n, s in zip(space, strides, strict=True)]
    if wanted:
        if len(wanted) != rank or min(wanted) < 1:
            node.malformed(f"output_shape {wanted} for {rank} spatial axes")
        node.sized(wanted)
        # a shape beyond what the kernel reaches is zero there
        cut = [max(0, f - w) for f, w in zip(full, wanted, strict=True)]
        upper = mode == "SAME_UPPER"
        pairs = tuple((c // 2, c - c // 2) if upper else (c - c // 2, c // 2) for c in cut)
        return tuple(wanted), pairs
    pads = ((0, 0),) * rank if mode == "VALID" else pads_of(node, space, kernel, strides, dilations)
    sizes = tuple(f - b - e for f, (b, e) in zip(full, pads, strict=True))
    if min(sizes) < 1:
        node.malformed(f"pads {list(pads)} leave nothing of its output")
    return sizes, pads


def _bias(node: OpNode, shape: tuple[int, ...]) -> Enclosure | None:
    if not node.has_input(2):
        return None
    bias = node.known(2, "bias")
    if bias.shape != (shape[1],):
        node.malformed(f"a bias of shape {list(bias.shape)} for {shape[1]} channels")
    node.sized(shape)
    column = (1, -1, *(1 for _ in shape[2:]))
    return bias.data.rearrange(lambda b: np.broadcast_to(b.reshape(column), shape).reshape(-1))
