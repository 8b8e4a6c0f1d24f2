"""Ops that choose among entries: maxima, sorting, comparisons."""

from __future__ import annotations

import numpy as np

from lipcert import activations as facts
from lipcert.activations.sorting import GroupMax, GroupSort
from lipcert.arithmetic.enclosure import Enclosure, exact, hull
from lipcert.frontend.builder import GraphBuilder, broadcast_shape
from lipcert.frontend.converters.arithmetic import add_constant, negate
from lipcert.frontend.converters.reductions import axes_of, reduced_shape
from lipcert.frontend.converters.windows import kernel_of, window_table
from lipcert.frontend.opnode import OpNode
from lipcert.frontend.recognisers import read_where
from lipcert.frontend.registry import converter
from lipcert.frontend.values import Condition, Integers, Known, Live, Value
from lipcert.operators import Selection, Shape, size_of

MAX_SORT_WIDTH = 4096
MAX_SORT_WORK = 2**26
"""Comparing all pairs of a group takes memory of its size squared."""


@converter("Max", 8, 12, 13)
def maximum(build: GraphBuilder, node: OpNode) -> Value:
    return _extreme(build, node, largest=True)


@converter("Min", 8, 12, 13)
def minimum(build: GraphBuilder, node: OpNode) -> Value:
    return _extreme(build, node, largest=False)


@converter("ReduceMax", 1, 11, 12, 13, 18, 20)
def reduce_max(build: GraphBuilder, node: OpNode) -> Value:
    return _reduce(build, node, largest=True)


@converter("ReduceMin", 1, 11, 12, 13, 18, 20)
def reduce_min(build: GraphBuilder, node: OpNode) -> Value:
    return _reduce(build, node, largest=False)


@converter("MaxPool", 1, 8, 10, 11, 12, 22)
def max_pool(build: GraphBuilder, node: OpNode) -> Value:
    value = node.real(0)
    kernel = kernel_of(node, value.shape)
    table, space = window_table(node, value.shape[2:], kernel)
    maps = size_of(value.shape[:2])
    node.sized((maps, *table.shape))
    starts = (np.arange(maps) * size_of(value.shape[2:]))[:, None, None]
    index = np.where(table >= 0, table + starts, -1).reshape(-1, table.shape[1])
    return _max_of(build, node, value, index, (*value.shape[:2], *space))


@converter("GlobalMaxPool", 1, 22)
def global_max_pool(build: GraphBuilder, node: OpNode) -> Value:
    value = node.real(0)
    if len(value.shape) < 3:
        node.malformed(f"a tensor of shape {list(value.shape)} has no spatial axes")
    index = np.arange(value.size).reshape(size_of(value.shape[:2]), -1)
    return _max_of(build, node, value, index, (*value.shape[:2], *(1 for _ in value.shape[2:])))


@converter("TopK", 1, 10, 11, 24)
def top_k(build: GraphBuilder, node: OpNode) -> tuple[Value | None, ...]:
    """The values: the first k of the sorted entries. (The positions jump.)"""
    value = node.real(0)
    rank = len(value.shape)
    axis = node.axis(int(node.attr("axis", -1)), rank)
    k = int(node.required("k")) if node.since < 10 else node.integers(1, "k")[0]
    width = value.shape[axis]
    if not node.attr("sorted", 1):
        node.refuse("sorted=0", "it leaves the order of its results open")
    if not 0 < k <= width:
        node.malformed(f"k is {k} for an axis of {width} entries")
    index = np.moveaxis(np.arange(value.size).reshape(value.shape), axis, -1)
    ordered = sort_groups(build, node, value, index.reshape(-1, width))
    if node.attr("largest", 1):
        picked = np.arange(value.size).reshape(-1, width)[:, ::-1][:, :k]
    else:
        picked = np.arange(value.size).reshape(-1, width)[:, :k]
    shape = (*index.shape[:-1], k)
    moved = np.moveaxis(picked.reshape(shape), -1, axis)
    return build.rearrange(node, ordered, lambda t: t.reshape(-1)[moved]), None


@converter("Greater", 7, 9, 13)
def greater(build: GraphBuilder, node: OpNode) -> Value:
    return _compare(build, node, 0, 1, strict=True)


@converter("Less", 7, 9, 13)
def less(build: GraphBuilder, node: OpNode) -> Value:
    return _compare(build, node, 1, 0, strict=True)


@converter("GreaterOrEqual", 12, 16)
def greater_or_equal(build: GraphBuilder, node: OpNode) -> Value:
    return _compare(build, node, 0, 1, strict=False)


@converter("LessOrEqual", 12, 16)
def less_or_equal(build: GraphBuilder, node: OpNode) -> Value:
    return _compare(build, node, 1, 0, strict=False)


@converter("Not", 1)
def negation(build: GraphBuilder, node: OpNode) -> Value:
    condition = node.input(0)
    if not isinstance(condition, Condition):
        node.refuse("its input is not a comparison", "only comparisons are supported")
    score = negate(build, node, condition.score)
    assert isinstance(score, Live)
    return Condition(score, not condition.strict)


@converter("Where", 9, 16)
def where(build: GraphBuilder, node: OpNode) -> Value:
    condition = node.input(0)
    a, b = node.real(1), node.real(2)
    shape = broadcast_shape(node, condition.shape, a.shape, b.shape)
    node.sized(shape)
    a, b = build.spread(node, a, shape), build.spread(node, b, shape)
    if isinstance(condition, Condition):
        score = build.spread(node, condition.score, shape)
        assert isinstance(score, Live)
        return read_where(build, node, score, a, b)
    if not isinstance(condition, Integers):
        node.malformed("its condition is not boolean")
    mask = np.broadcast_to(condition.data.astype(bool), shape).reshape(-1)
    numbers = np.arange(mask.size)
    return build.affine(
        node,
        [(a, Selection(np.where(mask, numbers, -1), a.size)), (b, Selection(np.where(mask, -1, numbers), b.size))],
        shape,
    )


def sort_groups(build: GraphBuilder, node: OpNode, value: Live | Known, index: np.ndarray) -> Live | Known:
    """Entries index[g] of each group g sorted, smallest first."""
    width = index.shape[1]
    if width > MAX_SORT_WIDTH or index.size * width > MAX_SORT_WORK:
        node.refuse(f"a sort of {len(index)} groups of {width}", f"groups of at most {MAX_SORT_WIDTH} are supported")
    grouped = build.rearrange(node, value, lambda t: t.reshape(-1)[index.reshape(-1)])
    return build.groupwise(node, grouped, GroupSort(width), (index.size,))


def _compare(build: GraphBuilder, node: OpNode, more: int, less: int, strict: bool) -> Value:
    """input[more] > input[less] as the sign of their difference."""
    a, b = node.real(more), node.real(less)
    shape = broadcast_shape(node, a.shape, b.shape)
    if isinstance(a, Known) and isinstance(b, Known):
        if not (a.data.is_exact and b.data.is_exact):
            node.refuse("it compares computed constants", "store the result in the model")
        holds = a.data.value > b.data.value if strict else a.data.value >= b.data.value
        return Integers(np.asarray(holds))
    a, b = build.spread(node, a, shape), build.spread(node, b, shape)
    if isinstance(b, Known):
        assert isinstance(a, Live)
        score = add_constant(build, node, a, -b.data)
    else:
        down = negate(build, node, b)
        assert isinstance(down, Live)
        score = add_constant(build, node, down, a.data) if isinstance(a, Known) else _sum(build, node, a, down)
    assert isinstance(score, Live)
    return Condition(score, strict)


def _sum(build: GraphBuilder, node: OpNode, a: Live, b: Live) -> Live | Known:
    same = [(part, build.broadcast(node, part, a.shape)) for part in (a, b)]
    return build.affine(node, same, a.shape)  # type: ignore[arg-type]


def _extreme(build: GraphBuilder, node: OpNode, largest: bool) -> Value:
    parts = [node.input(i) for i in range(len(node.inputs))]
    shape = broadcast_shape(node, *(p.shape for p in parts))
    node.sized(shape)
    reals = [build.spread(node, node.real(i), shape) for i in range(len(parts))]
    known = [p.data for p in reals if isinstance(p, Known)]
    live = [p for p in reals if isinstance(p, Live)]
    limit = None
    for data in known:
        pick = np.maximum if largest else np.minimum
        ends = (data.lower(), data.upper())
        limit = ends if limit is None else (pick(limit[0], ends[0]), pick(limit[1], ends[1]))
    if not live:
        assert limit is not None
        return Known(hull(*limit))
    result: Live | Known = live[0]
    if len(live) == 2:
        result = _extreme_of_pair(build, node, live[0], live[1], largest)
    elif len(live) > 2:
        index = np.arange(len(live) * size_of(shape)).reshape(len(live), -1).T
        stacked = build.affine(
            node,
            [
                (
                    p,
                    Selection(
                        np.concatenate(
                            [np.arange(p.size) if i == j else np.full(p.size, -1) for j in range(len(live))]
                        ),
                        p.size,
                    ),
                )
                for i, p in enumerate(live)
            ],
            (index.size,),
        )
        result = _extreme_of(build, node, stacked, index, shape, largest)
    return result if limit is None else _limited(build, node, result, hull(*limit), largest)


def _limited(build: GraphBuilder, node: OpNode, value: Live | Known, limit: Enclosure, largest: bool) -> Value:
    """max or min of a tensor and a constant."""
    flat = limit.reshape((limit.value.size,))
    if flat.is_exact:
        if largest and not flat.value.any():
            return build.elementwise(node, value, facts.Relu())
        c = flat.value if np.any(flat.value != flat.value[0]) else float(flat.value[0])
        return build.elementwise(node, value, facts.Clip(c, np.inf) if largest else facts.Clip(-np.inf, c))
    sign = 1.0 if largest else -1.0
    # max(x, c) = c + relu(x - c), and min(x, c) = c - relu(c - x)
    distance = add_constant(build, node, value if largest else negate(build, node, value), limit * exact(-sign))
    above = build.elementwise(node, distance, facts.Relu())
    return add_constant(build, node, above if largest else negate(build, node, above), limit)


def _reduce(build: GraphBuilder, node: OpNode, largest: bool) -> Value:
    value = node.real(0)
    axes = axes_of(node, value.shape, axes_input_since=18)
    if axes is None:
        return value
    kept = [a for a in range(len(value.shape)) if a not in axes]
    table = np.arange(value.size).reshape(value.shape).transpose((*kept, *axes))
    index = table.reshape(size_of(tuple(value.shape[a] for a in kept)), -1)
    return _extreme_of(build, node, value, index, reduced_shape(node, value.shape, axes), largest)


def _extreme_of(
    build: GraphBuilder, node: OpNode, value: Live | Known, index: np.ndarray, shape: Shape, largest: bool
) -> Live | Known:
    if index.shape[1] == 1:
        return build.rearrange(node, value, lambda t: t.reshape(-1)[index].reshape(shape))
    if index.shape[1] == 2 and isinstance(value, Live):
        a = build.rearrange(node, value, lambda t: t.reshape(-1)[index[:, 0]].reshape(shape))
        b = build.rearrange(node, value, lambda t: t.reshape(-1)[index[:, 1]].reshape(shape))
        assert isinstance(a, Live)
        assert isinstance(b, Live)
        return _extreme_of_pair(build, node, a, b, largest)
    if largest:
        return _max_of(build, node, value, index, shape)
    return negate(build, node, _max_of(build, node, negate(build, node, value), index, shape))


def _extreme_of_pair(build: GraphBuilder, node: OpNode, a: Live, b: Live, largest: bool) -> Live:
    ordered, groups = build.sorted_pairs(node, a, b)
    picked = build.rearrange(node, ordered, lambda t: t[2 * groups + (1 if largest else 0)].reshape(a.shape))
    assert isinstance(picked, Live)
    return picked


def _max_of(build: GraphBuilder, node: OpNode, value: Live | Known, index: np.ndarray, shape: Shape) -> Live | Known:
    """The largest of entries index[g] of each group g; -1 where a group has fewer."""
    present = index >= 0
    if not present.any(axis=1).all():
        node.malformed("a pooling window lies in the padding entirely")
    grouped = build.affine(node, [(value, Selection(index.reshape(-1), value.size))], (index.size,))
    function = GroupMax(index.shape[1], None if present.all() else present)
    return build.groupwise(node, grouped, function, shape)
