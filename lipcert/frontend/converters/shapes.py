"""Ops that move entries, and the shape arithmetic around them."""

from __future__ import annotations

import numpy as np

from lipcert.arithmetic.enclosure import Enclosure
from lipcert.frontend.builder import GraphBuilder
from lipcert.frontend.opnode import OpNode
from lipcert.frontend.registry import converter
from lipcert.frontend.values import Integers, Known, Live, Value
from lipcert.operators import LinearOperator, Selection, Shape, size_of


@converter("Identity", 1, 13, 14, 16, 19, 21, 23, 24, 25)
def identity(build: GraphBuilder, node: OpNode) -> Value:
    return node.input(0)


@converter("Shape", 1, 13, 15, 19, 21, 23, 24, 25)
def shape_of(build: GraphBuilder, node: OpNode) -> Value:
    shape = node.input(0).shape
    start, end = int(node.attr("start", 0)), node.attr("end", None)
    return Integers(np.array(shape[slice(start, None if end is None else int(end))], dtype=np.int64))


@converter("Flatten", 1, 9, 11, 13, 21, 23, 24, 25)
def flatten(build: GraphBuilder, node: OpNode) -> Value:
    value = node.real(0)
    axis, rank = int(node.attr("axis", 1)), len(value.shape)
    if not -rank <= axis <= rank:
        node.malformed(f"axis {axis} is outside a tensor of rank {rank}")
    axis = axis + rank if axis < 0 else axis
    return _reshaped(value, (size_of(value.shape[:axis]), size_of(value.shape[axis:])))


@converter("Reshape", 5, 13, 14, 19, 21, 23, 24, 25)
def reshape(build: GraphBuilder, node: OpNode) -> Value:
    value = node.real(0)
    wanted = node.integers(1, "shape")
    if not node.attr("allowzero", 0):
        if any(d == 0 and i >= len(value.shape) for i, d in enumerate(wanted)):
            node.malformed(f"shape {wanted} copies an axis that the input does not have")
        wanted = [value.shape[i] if d == 0 else d for i, d in enumerate(wanted)]
    if wanted.count(-1) > 1 or any(d < -1 for d in wanted):
        node.malformed(f"shape {wanted}")
    if -1 in wanted:
        rest = size_of(tuple(d for d in wanted if d != -1))
        if rest == 0 or value.size % rest:
            node.malformed(f"{value.size} entries do not fit shape {wanted}")
        wanted[wanted.index(-1)] = value.size // rest
    if size_of(tuple(wanted)) != value.size:
        node.malformed(f"{value.size} entries do not fit shape {wanted}")
    return _reshaped(value, tuple(wanted))


@converter("Squeeze", 1, 11, 13, 21, 23, 24, 25)
def squeeze(build: GraphBuilder, node: OpNode) -> Value:
    value = node.real(0)
    rank = len(value.shape)
    given = _axes(node)
    axes = node.axes(given, rank) if given is not None else tuple(a for a, d in enumerate(value.shape) if d == 1)
    if any(value.shape[a] != 1 for a in axes):
        node.malformed(f"axes {list(axes)} of shape {list(value.shape)} are not all 1")
    return _reshaped(value, tuple(d for a, d in enumerate(value.shape) if a not in axes))


@converter("Unsqueeze", 1, 11, 13, 21, 23, 24, 25)
def unsqueeze(build: GraphBuilder, node: OpNode) -> Value:
    value = node.real(0)
    given = _axes(node)
    if given is None:
        node.malformed("axes are missing")
    rank = len(value.shape) + len(given)
    axes = node.axes(given, rank)
    rest = iter(value.shape)
    return _reshaped(value, tuple(1 if a in axes else next(rest) for a in range(rank)))


@converter("Transpose", 1, 13, 21, 23, 24, 25)
def transpose(build: GraphBuilder, node: OpNode) -> Value:
    value = node.real(0)
    rank = len(value.shape)
    order = tuple(int(a) for a in node.attr("perm", list(reversed(range(rank)))))
    if sorted(order) != list(range(rank)):
        node.malformed(f"perm {list(order)} for a tensor of rank {rank}")
    return build.rearrange(node, value, lambda t: t.transpose(order))


@converter("Concat", 4, 11, 13)
def concat(build: GraphBuilder, node: OpNode) -> Value:
    parts = [node.real(i) for i in range(len(node.inputs))]
    rank = len(parts[0].shape)
    axis = node.axis(int(node.required("axis")), rank)
    rests = {(*p.shape[:axis], *p.shape[axis + 1 :]) for p in parts if len(p.shape) == rank}
    if len(rests) != 1 or any(len(p.shape) != rank for p in parts):
        node.malformed(f"shapes {[list(p.shape) for p in parts]} do not concatenate on axis {axis}")
    total = sum(p.shape[axis] for p in parts)
    shape = (*parts[0].shape[:axis], total, *parts[0].shape[axis + 1 :])
    terms: list[tuple[Live | Known, LinearOperator]] = []
    start = 0
    for part in parts:
        index = np.full(shape, -1)
        window = (*(slice(None) for _ in range(axis)), slice(start, start + part.shape[axis]))
        index[window] = np.arange(part.size).reshape(part.shape)
        terms.append((part, Selection(index, part.size)))
        start += part.shape[axis]
    return build.affine(node, terms, shape)


@converter("Pad", 2, 11, 13, 18, 19, 21, 23, 24, 25)
def pad(build: GraphBuilder, node: OpNode) -> Value:
    """Padding with a constant, or with copies of entries (edge, reflect, wrap): both are affine."""
    value = node.real(0)
    pads, constant = _pads_and_constant(node, len(value.shape))
    mode = node.attr("mode", "constant")
    if mode not in ("constant", "edge", "reflect", "wrap"):
        node.refuse(f"mode {mode!r}", "use constant, edge, reflect or wrap")
    crop = tuple(slice(max(0, -b), d - max(0, -e)) for d, (b, e) in zip(value.shape, pads, strict=True))
    grow = [(max(0, b), max(0, e)) for b, e in pads]
    node.sized([max(0, d) + b + e for d, (b, e) in zip(value.shape, grow, strict=True)])
    index = np.arange(value.size).reshape(value.shape)[crop]
    if index.size == 0 or (mode == "reflect" and any(max(g) >= d for g, d in zip(grow, index.shape, strict=True))):
        node.malformed(f"pads {pads} for a tensor of shape {list(value.shape)}")
    padded = np.pad(index, grow, constant_values=-1) if mode == "constant" else np.pad(index, grow, mode=mode)
    bias = np.where(padded.reshape(-1) < 0, constant, 0.0)
    return build.affine(node, [(value, Selection(padded, value.size))], padded.shape, Enclosure(bias))


def _pads_and_constant(node: OpNode, rank: int) -> tuple[list[tuple[int, int]], float]:
    axes: tuple[int, ...] = tuple(range(rank))
    constant = 0.0
    if node.since < 11:
        flat = [int(p) for p in node.required("pads")]
        constant = float(node.attr("value", 0.0))
    else:
        flat = node.integers(1, "pads")
        if node.has_input(2):
            given = node.known(2, "constant value")
            if given.size != 1 or not given.data.is_exact:
                node.refuse("its constant value is not one stored number")
            constant = float(given.data.value.reshape(-1)[0])
        if node.has_input(3):
            axes = node.axes(node.integers(3, "axes"), rank)
    if len(flat) != 2 * len(axes):
        node.malformed(f"pads {flat} for {len(axes)} axes")
    pairs = [(0, 0)] * rank
    for a, begin, end in zip(axes, flat[: len(axes)], flat[len(axes) :], strict=True):
        pairs[a] = (begin, end)
    return pairs, constant


def _axes(node: OpNode) -> list[int] | None:
    if node.since >= 13:
        return node.integers(1, "axes") if node.has_input(1) else None
    axes = node.attr("axes", None)
    return None if axes is None else [int(a) for a in axes]


def _reshaped(value: Live | Known, shape: Shape) -> Live | Known:
    if isinstance(value, Live):
        return Live(value.node, shape)
    return Known(value.data.reshape(shape))
