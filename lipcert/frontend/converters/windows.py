"""The attributes that convolutions and poolings share: strides, dilations, padding."""

from __future__ import annotations

from lipcert.frontend.opnode import OpNode
from lipcert.operators import Shape

Pads = tuple[tuple[int, int], ...]


def strides_of(node: OpNode, rank: int) -> Shape:
    return _positive(node, "strides", rank)


def dilations_of(node: OpNode, rank: int) -> Shape:
    return _positive(node, "dilations", rank)


def pads_of(node: OpNode, space: Shape, kernel: Shape, strides: Shape, dilations: Shape) -> Pads:
    """(begin, end) for each spatial axis, auto_pad resolved."""
    mode = node.attr("auto_pad", "NOTSET")
    rank = len(space)
    if mode == "NOTSET":
        pads = [int(p) for p in node.attr("pads", [0] * (2 * rank))]
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


def _positive(node: OpNode, name: str, rank: int) -> Shape:
    values = tuple(int(v) for v in node.attr(name, [1] * rank))
    if len(values) != rank or min(values) < 1:
        node.malformed(f"{name} {list(values)} for {rank} spatial axes")
    return values
