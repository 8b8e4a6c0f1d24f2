"""Ops that move entries, and the shape arithmetic around them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lipcert.arithmetic.enclosure import Enclosure
from lipcert.frontend.builder import GraphBuilder, broadcast_shape
from lipcert.frontend.opnode import OpNode
from lipcert.frontend.registry import converter
from lipcert.frontend.values import Integers, Known, Live, Value
from lipcert.operators import LinearOperator, Selection, Shape, size_of


@converter("Identity", 1, 13, 14, 16, 19, 21, 23, 24, 25)
def identity(build: GraphBuilder, node: OpNode) -> Value:
    return node.input(0)


@converter("Size", 1, 13, 19, 21, 23, 24, 25)
def size_op(build: GraphBuilder, node: OpNode) -> Value:
    return Integers(np.array(size_of(node.input(0).shape), dtype=np.int64))


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


@converter("Split", 2, 11, 13, 18)
def split(build: GraphBuilder, node: OpNode) -> tuple[Value, ...]:
    value = node.real(0)
    axis = node.axis(int(node.attr("axis", 0)), len(value.shape))
    total, count = value.shape[axis], len(node.outputs)
    if node.since >= 13 and node.has_input(1):
        sizes = node.integers(1, "split")
    elif node.since < 13 and node.has_attr("split"):
        sizes = [int(d) for d in node.required("split")]
    else:
        if int(node.attr("num_outputs", count)) != count:
            node.malformed(f"num_outputs {node.attr('num_outputs', count)} for {count} outputs")
        each = -(-total // count)
        sizes = [min(each, total - each * i) for i in range(count)]
    if len(sizes) != count or sum(sizes) != total or min(sizes) < 0:
        node.malformed(f"parts {sizes} of an axis of {total} entries, for {count} outputs")
    cuts = np.cumsum([0, *sizes])
    window = (slice(None),) * axis

    def part(first: int, last: int) -> Value:
        return build.rearrange(node, value, lambda t: t[(*window, slice(first, last))])

    if min(sizes) == 0:
        node.refuse("a part without entries", "drop it")
    return tuple(part(first, last) for first, last in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True))


@converter("Slice", 1, 10, 11, 13)
def slice_of(build: GraphBuilder, node: OpNode) -> Value:
    value = node.input(0)
    rank = len(value.shape)
    if node.since < 10:
        starts, ends = ([int(d) for d in node.required(name)] for name in ("starts", "ends"))
        axes = [int(a) for a in node.attr("axes", range(len(starts)))]
        steps = [1] * len(starts)
    else:
        starts, ends = node.integers(1, "starts"), node.integers(2, "ends")
        axes = node.integers(3, "axes") if node.has_input(3) else list(range(len(starts)))
        steps = node.integers(4, "steps") if node.has_input(4) else [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        node.malformed(f"starts {starts}, ends {ends}, axes {axes}, steps {steps}")
    window = [slice(None)] * rank
    for axis, start, end, step in zip(node.axes(axes, rank), starts, ends, steps, strict=True):
        size = value.shape[axis]
        # ONNX counts negative positions from the end and clamps both; Python's slices need None for "before 0"
        first = start + size if start < 0 else start
        last = end + size if end < 0 else end
        if step > 0:
            window[axis] = slice(min(max(first, 0), size), min(max(last, 0), size), step)
        else:
            first, stop = min(max(first, 0), size - 1), max(min(last, size - 1), -1)
            window[axis] = slice(first, None if stop < 0 else stop, step) if stop < first else slice(0, 0)
    return _moved(build, node, lambda t: t[tuple(window)])


@converter("Gather", 1, 11, 13)
def gather(build: GraphBuilder, node: OpNode) -> Value:
    value, index = node.input(0), node.input(1)
    if not isinstance(index, Integers):
        node.refuse("its indices are no constant integers", "a choice that depends on the input jumps")
    axis = node.axis(int(node.attr("axis", 0)), len(value.shape))
    size = value.shape[axis]
    where = index.data.astype(np.int64)
    if where.size and not (-size <= where.min() and where.max() < size):
        node.malformed(f"indices outside an axis of {size} entries")
    node.sized((*value.shape[:axis], *where.shape, *value.shape[axis + 1 :]))
    return _moved(build, node, lambda t: np.take(t, where % size, axis=axis))


@converter("GatherElements", 11, 13)
def gather_elements(build: GraphBuilder, node: OpNode) -> Value:
    value, index = node.input(0), node.input(1)
    if not isinstance(index, Integers):
        node.refuse("its indices are no constant integers", "a choice that depends on the input jumps")
    axis = node.axis(int(node.attr("axis", 0)), len(value.shape))
    size = value.shape[axis]
    where = index.data.astype(np.int64)
    fits = where.ndim == len(value.shape) and all(
        a == axis or d <= n for a, (d, n) in enumerate(zip(where.shape, value.shape, strict=True))
    )
    if not fits or (where.size and not (-size <= where.min() and where.max() < size)):
        node.malformed(f"indices of shape {list(where.shape)} for a tensor of shape {list(value.shape)}")
    part = tuple(slice(None) if a == axis else slice(0, d) for a, d in enumerate(where.shape))
    return _moved(build, node, lambda t: np.take_along_axis(t[part], where % size, axis=axis))


@converter("Expand", 8, 13)
def expand(build: GraphBuilder, node: OpNode) -> Value:
    value = node.input(0)
    wanted = node.integers(1, "shape")
    if any(d < 1 for d in wanted):
        node.malformed(f"shape {wanted}")
    node.sized(wanted)
    shape = broadcast_shape(node, value.shape, tuple(wanted))
    node.sized(shape)
    return _moved(build, node, lambda t: np.broadcast_to(t, shape))


@converter("Tile", 6, 13)
def tile(build: GraphBuilder, node: OpNode) -> Value:
    value = node.input(0)
    repeats = node.integers(1, "repeats")
    if len(repeats) != len(value.shape) or any(r < 1 for r in repeats):
        node.malformed(f"repeats {repeats} for a tensor of shape {list(value.shape)}")
    node.sized([d * r for d, r in zip(value.shape, repeats, strict=True)])
    return _moved(build, node, lambda t: np.tile(t, repeats))


@converter("Trilu", 14)
def trilu(build: GraphBuilder, node: OpNode) -> Value:
    """The upper or lower triangle, zero elsewhere."""
    value = node.real(0)
    if len(value.shape) < 2:
        node.malformed(f"a tensor of shape {list(value.shape)} is no matrix")
    k = node.integers(1, "diagonal")[0] if node.has_input(1) else 0
    rows, columns = value.shape[-2:]
    offset = np.arange(columns)[None, :] - np.arange(rows)[:, None]
    kept = offset >= k if node.attr("upper", 1) else offset <= k
    return build.rearrange(node, value, lambda t: np.where(kept, t, -1))


@converter("DepthToSpace", 1, 11, 13, 28)
def depth_to_space(build: GraphBuilder, node: OpNode) -> Value:
    value = node.real(0)
    block, mode = int(node.required("blocksize")), node.attr("mode", "DCR")
    if len(value.shape) != 4 or block < 1 or value.shape[1] % block**2 or mode not in ("DCR", "CRD"):
        node.malformed(f"blocks of {block} ({mode}) for a tensor of shape {list(value.shape)}")
    n, c, h, w = value.shape
    first, order = ((block, block, c // block**2), (0, 3, 4, 1, 5, 2))
    if mode == "CRD":
        first, order = ((c // block**2, block, block), (0, 1, 4, 2, 5, 3))
    shape = (n, c // block**2, h * block, w * block)
    return build.rearrange(node, value, lambda t: t.reshape(n, *first, h, w).transpose(order).reshape(shape))


@converter("SpaceToDepth", 1, 13, 28)
def space_to_depth(build: GraphBuilder, node: OpNode) -> Value:
    value = node.real(0)
    block = int(node.required("blocksize"))
    if len(value.shape) != 4 or block < 1 or value.shape[2] % block or value.shape[3] % block:
        node.malformed(f"blocks of {block} for a tensor of shape {list(value.shape)}")
    n, c, h, w = value.shape
    order = (0, 3, 5, 1, 2, 4) if node.attr("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    small, shape = (n, c, h // block, block, w // block, block), (n, c * block**2, h // block, w // block)
    return build.rearrange(node, value, lambda t: t.reshape(small).transpose(order).reshape(shape))


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


def _moved(build: GraphBuilder, node: OpNode, move: Callable[[np.ndarray], np.ndarray]) -> Value:
    """Input 0 with its entries moved, of whatever kind it is."""
    value = node.input(0)
    if isinstance(value, Integers):
        return Integers(move(value.data))
    return build.rearrange(node, node.real(0), move)


def _reshaped(value: Live | Known, shape: Shape) -> Live | Known:
    if isinstance(value, Live):
        return Live(value.node, shape)
    return Known(value.data.reshape(shape))
