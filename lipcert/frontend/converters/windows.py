"""The attributes that convolutions and poolings share: strides, dilations, padding."""

from __future__ import annotations

import numpy as np

from lipcert.frontend.opnode import OpNode
from lipcert.operators import Shape, size_of

Pads = tuple[tuple[int, int], ...]


def strides_of(node: OpNode, rank: int) -> Shape:
    return _positive(node, "strides", rank)


def dilations_of(node: OpNode, rank: int) -> Shape:
    return _positive(node, "dilations", rank)


def pads_of(node: OpNode, space: Shape, kernel: Shape, strides: Shape, dilations: Shape) -> Pads:
    """(begin, end) for each spatial axis, auto_pad resolved."""
    mode = node.attr("auto_pad", "NOTSET")
    rank = len(space)
    pads = [int(p) for p in node.attr("pads", [0] * (2 * rank))]  # not used where auto_pad says otherwise
    if mode == "NOTSET":
        if len(pads) != 2 * rank or min(pads) < 0:
            node.malformed(f"pads {pads} for {rank} spatial axes")
        node.sized([d + begin + end for d, begin, end in zip(space, pads[:rank], pads[rank:], strict=True)])
        return tuple(zip(pads[:rank], pads[rank:], strict=True))
    if mode == "VALID":
        return ((0, 0),) * rank
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        node.malformed(f"auto_pad {mode!r}")
    pairs = []
    for d, k, s, dil in zip(space, kernel, strides, dilations, strict=True):
        total = max(0, (-(-d // s) - 1) * s + dil * (k - 1) + 1 - d)
        node.sized([total])
        small, large = total // 2, total - total // 2
        pairs.append((small, large) if mode == "SAME_UPPER" else (large, small))
    return tuple(pairs)


def kernel_of(node: OpNode, shape: Shape) -> Shape:
    """kernel_shape, for a tensor (batch, channels, *space)."""
    kernel = tuple(int(k) for k in node.required("kernel_shape"))
    if len(shape) < 3 or len(kernel) != len(shape) - 2 or min(kernel) < 1:
        node.malformed(f"kernel_shape {list(kernel)} for a tensor of shape {list(shape)}")
    return kernel


def output_space(node: OpNode, space: Shape, kernel: Shape, strides: Shape, dilations: Shape, pads: Pads) -> Shape:
    """The spatial shape of a pooling; with ceil_mode the last window may start, but not end, beyond the map."""
    sizes = []
    for n, k, s, d, (begin, end) in zip(space, kernel, strides, dilations, pads, strict=True):
        room = n + begin + end - d * (k - 1) - 1
        if room < 0:
            node.malformed(f"kernel {list(kernel)} is larger than the padded map {list(space)}")
        size = room // s + 1
        if node.attr("ceil_mode", 0):
            size = -(-room // s) + 1
            if (size - 1) * s >= n + begin:
                size -= 1
        sizes.append(size)
    return tuple(sizes)


def window_positions(count: int, kernel: int, stride: int, dilation: int, begin: int) -> np.ndarray:
    """Along one axis, the position of each tap of each window: (count, kernel); outside the map where padded."""
    return np.arange(count)[:, None] * stride - begin + np.arange(kernel) * dilation


def window_table(node: OpNode, space: Shape, kernel: Shape) -> tuple[np.ndarray, Shape]:
    """For each window of a pooling the pixels in it, -1 outside the map: (windows, taps); and their spatial shape."""
    rank = len(kernel)
    strides, dilations = strides_of(node, rank), dilations_of(node, rank)
    pads = pads_of(node, space, kernel, strides, dilations)
    out = output_space(node, space, kernel, strides, dilations, pads)
    node.sized((*out, *kernel))
    pixel = np.zeros((*(1 for _ in range(2 * rank)),), dtype=np.int64)
    inside = np.ones_like(pixel, dtype=bool)
    for axis in range(rank):
        position = window_positions(out[axis], kernel[axis], strides[axis], dilations[axis], pads[axis][0])
        shape = [1] * (2 * rank)
        shape[axis], shape[rank + axis] = position.shape
        position = position.reshape(shape)
        inside = inside & (position >= 0) & (position < space[axis])
        pixel = pixel * space[axis] + position
    return np.where(inside, pixel, -1).reshape(size_of(out), size_of(kernel)), out


def _positive(node: OpNode, name: str, rank: int) -> Shape:
    values = tuple(int(v) for v in node.attr(name, [1] * rank))
    if len(values) != rank or min(values) < 1:
        node.malformed(f"{name} {list(values)} for {rank} spatial axes")
    return values
