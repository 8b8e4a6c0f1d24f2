"""Matrix products with constant matrices."""

from __future__ import annotations

import numpy as np

from lipcert.arithmetic.enclosure import Enclosure, exact
from lipcert.frontend.builder import GraphBuilder, broadcast_shape
from lipcert.frontend.opnode import OpNode
from lipcert.frontend.registry import converter
from lipcert.frontend.values import Known, Live, Value
from lipcert.operators import Dense, Diagonal, LinearOperator, Selection, Shape, compose, size_of

_BOTH_LIVE = "both factors depend on the network's input"
_HINT = "lipcert bounds products with constants only, so far"


@converter("MatMul", 1, 9, 13)
def matmul(build: GraphBuilder, node: OpNode) -> Value:
    a, b = node.real(0), node.real(1)
    _check_inner(node, a.shape, b.shape)
    if isinstance(a, Known) and isinstance(b, Known):
        node.sized(_product_shape(node, a.shape, b.shape))
        with np.errstate(over="ignore", invalid="ignore"):
            product = a.data @ b.data
        if not product.is_finite:
            node.malformed("a constant overflows or is not a number")
        return Known(product)
    shape = _product_shape(node, a.shape, b.shape)
    if isinstance(b, Known):
        return build.affine(node, [(a, _times(node, b.data, a.shape))], shape)
    if isinstance(a, Known):
        return build.affine(node, [(b, _timed_by(node, a.data, b.shape))], shape)
    node.refuse(_BOTH_LIVE, _HINT)


@converter("Gemm", 7, 9, 11, 13)
def gemm(build: GraphBuilder, node: OpNode) -> Value:
    """alpha A' B' + beta C."""
    a, b = (_maybe_transposed(build, node, i, flag) for i, flag in ((0, "transA"), (1, "transB")))
    if len(a.shape) != 2 or len(b.shape) != 2:
        node.malformed(f"A and B have shapes {list(a.shape)} and {list(b.shape)}, not matrices")
    _check_inner(node, a.shape, b.shape)
    shape = (a.shape[0], b.shape[1])
    alpha, beta = float(node.attr("alpha", 1.0)), float(node.attr("beta", 1.0))
    terms: list[tuple[Live | Known, LinearOperator]]
    if isinstance(b, Known):
        terms = [(a, _times(node, _scaled(b.data, alpha), a.shape))]
    elif isinstance(a, Known):
        terms = [(b, _timed_by(node, _scaled(a.data, alpha), b.shape))]
    else:
        node.refuse(_BOTH_LIVE, _HINT)
    if node.has_input(2):
        addend = node.real(2)
        if broadcast_shape(node, shape, addend.shape) != shape:
            node.malformed(f"C of shape {list(addend.shape)} does not broadcast to {list(shape)}")
        spread = build.broadcast(node, addend, shape)
        terms.append((addend, spread if beta == 1 else compose(Diagonal(np.full(size_of(shape), beta)), spread)))
    return build.affine(node, terms, shape)


def _times(node: OpNode, matrix: Enclosure, shape: Shape) -> LinearOperator:
    """The operator X -> X @ matrix on tensors of this shape, for a constant matrix or vector."""
    _check_rank(node, matrix)
    transposed = matrix.rearrange(lambda m: np.ascontiguousarray(m.reshape(m.shape[0], -1).T))
    return Dense(transposed.value, transposed.radius, copies=size_of(shape[:-1]))


def _timed_by(node: OpNode, matrix: Enclosure, shape: Shape) -> LinearOperator:
    """The operator X -> matrix @ X = (X' @ matrix')'."""
    _check_rank(node, matrix)
    rows = matrix.rearrange(lambda m: m.reshape(-1, m.shape[-1]))
    if len(shape) == 1:
        return Dense(rows.value, rows.radius)
    batch, inner, columns = size_of(shape[:-2]), shape[-2], shape[-1]
    dense = Dense(rows.value, rows.radius, copies=batch * columns)
    m = rows.shape[0]
    before = np.arange(batch * inner * columns).reshape(batch, inner, columns).swapaxes(1, 2)
    after = np.arange(batch * columns * m).reshape(batch, columns, m).swapaxes(1, 2)
    return compose(Selection(after, after.size), compose(dense, Selection(before, before.size)))


def _product_shape(node: OpNode, a: Shape, b: Shape) -> Shape:
    batch = broadcast_shape(node, a[:-2], b[:-2])
    return (*batch, *a[-2:-1], *(b[-1:] if len(b) > 1 else ()))


def _maybe_transposed(build: GraphBuilder, node: OpNode, i: int, flag: str) -> Live | Known:
    value = node.real(i)
    return build.rearrange(node, value, np.transpose) if node.attr(flag, 0) else value


def _scaled(data: Enclosure, factor: float) -> Enclosure:
    return data if factor == 1 else data * exact(factor)


def _check_rank(node: OpNode, matrix: Enclosure) -> None:
    if len(matrix.shape) > 2:
        node.refuse(f"a constant factor of rank {len(matrix.shape)}", "split it into matrices")


def _check_inner(node: OpNode, a: Shape, b: Shape) -> None:
    inner = b[-2] if len(b) > 1 else (b[0] if b else None)
    if not a or inner is None or a[-1] != inner:
        node.malformed(f"shapes {list(a)} and {list(b)} do not multiply")
