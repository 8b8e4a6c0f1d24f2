"""Matrix products, and the sums of products that Einsum writes."""

from __future__ import annotations

import numpy as np

from lipcert.arithmetic.enclosure import Enclosure, exact
from lipcert.frontend.builder import GraphBuilder, broadcast_shape
from lipcert.frontend.opnode import OpNode
from lipcert.frontend.registry import converter
from lipcert.frontend.values import Known, Live, Value
from lipcert.operators import Dense, Diagonal, LinearOperator, Reduction, Selection, Shape, compose, size_of


@converter("MatMul", 1, 9, 13)
def matmul(build: GraphBuilder, node: OpNode) -> Value:
    a, b = node.real(0), node.real(1)
    _check_inner(node, a.shape, b.shape)
    if isinstance(a, Known) and isinstance(b, Known):
        node.sized(_product_shape(node, a.shape, b.shape))
        with np.errstate(over="ignore", invalid="ignore"):
            product = a.data @ b.data
        if not np.all(np.isfinite(product.value)):
            node.malformed("a constant overflows or is not a number")
        return Known(product)
    shape = _product_shape(node, a.shape, b.shape)
    if isinstance(b, Known) and len(b.shape) <= 2:
        return build.affine(node, [(a, _times(b.data, a.shape))], shape)
    if isinstance(a, Known) and len(a.shape) <= 2:
        return build.affine(node, [(b, _timed_by(a.data, b.shape))], shape)
    return tensor_product(build, node, a, b, shape)


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
        terms = [(a, _times(_scaled(b.data, alpha), a.shape))]
    elif isinstance(a, Known):
        terms = [(b, _timed_by(_scaled(a.data, alpha), b.shape))]
    else:
        terms = [(tensor_product(build, node, a, b, shape), Diagonal(np.full(size_of(shape), alpha)))]
    if node.has_input(2):
        addend = node.real(2)
        if broadcast_shape(node, shape, addend.shape) != shape:
            node.malformed(f"C of shape {list(addend.shape)} does not broadcast to {list(shape)}")
        spread = build.broadcast(node, addend, shape)
        terms.append((addend, spread if beta == 1 else compose(Diagonal(np.full(size_of(shape), beta)), spread)))
    return build.affine(node, terms, shape)


@converter("Einsum", 12, 28)
def einsum(build: GraphBuilder, node: OpNode) -> Value:
    """Products of up to two tensors that depend on the input and any number of constants, left to right."""
    operands = [node.real(i) for i in range(len(node.inputs))]
    labels, result = _einsum_labels(node, [len(o.shape) for o in operands])
    sizes: dict[str, int] = {}
    for names, operand in zip(labels, operands, strict=True):
        for name, size in zip(names, operand.shape, strict=True):
            if sizes.setdefault(name, size) != size:
                if 1 not in (size, sizes[name]):
                    node.malformed(f"axis {name!r} has {size} and {sizes[name]} entries")
                sizes[name] = max(size, sizes[name])
    total, names = operands[0], labels[0]
    for i in range(1, len(operands)):
        later = set("".join(labels[i + 1 :])) | set(result)
        kept = "".join(dict.fromkeys(c for c in names + labels[i] if c in later))
        total = contract(build, node, (total, names), (operands[i], labels[i]), kept, sizes)
        names = kept
    if len(operands) == 1 or names != result:
        total = contract(build, node, (total, names), None, result, sizes)
    return total


def _einsum_labels(node: OpNode, ranks: list[int]) -> tuple[list[str], str]:
    """One letter for each axis; the dots become letters of their own."""
    equation = str(node.required("equation")).replace(" ", "")
    left, arrow, right = equation.partition("->")
    parts = left.split(",")
    if len(parts) != len(ranks) or not all(c.isalpha() or c in ".," for c in left + right):
        node.malformed(f"equation {equation!r} for {len(ranks)} inputs")
    width = max([rank - len(part.replace("...", "")) for part, rank in zip(parts, ranks, strict=True)])
    dots = "".join(chr(0x100 + i) for i in range(max(0, width)))
    labels = []
    for part, rank in zip(parts, ranks, strict=True):
        missing = rank - len(part.replace("...", ""))
        spelled = part.replace("...", dots[len(dots) - missing :] if missing > 0 else "")
        if len(spelled) != rank or "." in spelled:
            node.malformed(f"equation {equation!r} does not fit inputs of ranks {ranks}")
        labels.append(spelled)
    everything = "".join(labels)
    if not arrow:
        right = dots + "".join(sorted(c for c in set(everything) - set(dots) if everything.count(c) == 1))
    result = right.replace("...", dots)
    if "." in result or len(set(result)) != len(result) or not set(result) <= set(everything):
        node.malformed(f"equation {equation!r}")
    return labels, result


def tensor_product(build: GraphBuilder, node: OpNode, a: Live | Known, b: Live | Known, shape: Shape) -> Live | Known:
    """A matrix product with batch axes, of two tensors that may both depend on the input."""
    rank = max(len(a.shape), len(b.shape), 2) - 2
    dots = "".join(chr(0x100 + i) for i in range(rank))
    names_a = dots[rank - max(0, len(a.shape) - 2) :] + ("mk" if len(a.shape) > 1 else "k")
    names_b = dots[rank - max(0, len(b.shape) - 2) :] + ("kn" if len(b.shape) > 1 else "k")
    result = dots + ("m" if len(a.shape) > 1 else "") + ("n" if len(b.shape) > 1 else "")
    sizes: dict[str, int] = {}
    for names, value in ((names_a, a), (names_b, b)):
        for name, size in zip(names, value.shape, strict=True):
            sizes[name] = max(size, sizes.get(name, 1))
    product = contract(build, node, (a, names_a), (b, names_b), result, sizes)
    return product if product.shape == shape else build.rearrange(node, product, lambda t: t.reshape(shape))


def contract(
    build: GraphBuilder,
    node: OpNode,
    a: tuple[Live | Known, str],
    b: tuple[Live | Known, str] | None,
    result: str,
    sizes: dict[str, int],
) -> Live | Known:
    """sum over the labels not in `result` of a (times b), by writing all products out."""
    used = a[1] + (b[1] if b else "")
    gone = [c for c in dict.fromkeys(used) if c not in result]
    shape = tuple(sizes[c] for c in (*result, *gone))
    node.sized(shape)
    product = _laid_out(build, node, *a, (*result, *gone), sizes)
    if b is not None:
        other = _laid_out(build, node, *b, (*result, *gone), sizes)
        product = _times_entrywise(build, node, product, other)
    if not gone:
        return product
    axes = tuple(range(len(result), len(shape)))
    return build.affine(node, [(product, Reduction(shape, axes))], shape[: len(result)])


def _laid_out(
    build: GraphBuilder, node: OpNode, value: Live | Known, names: str, order: tuple[str, ...], sizes: dict[str, int]
) -> Live | Known:
    """The tensor with its axes in `order` and repeated along those that it lacks."""
    shape = tuple(sizes[c] for c in order)
    index = np.zeros(shape, dtype=np.int64)
    stride = value.size
    for name, size in zip(names, value.shape, strict=True):
        stride //= size
        if size > 1:
            column = [1] * len(order)
            column[order.index(name)] = size
            index = index + stride * np.arange(size).reshape(column)
    return build.rearrange(node, value, lambda t: t.reshape(-1)[index])


def _times_entrywise(build: GraphBuilder, node: OpNode, a: Live | Known, b: Live | Known) -> Live | Known:
    if isinstance(a, Live) and isinstance(b, Live):
        return build.product(node, a, b)
    if isinstance(a, Known) and isinstance(b, Known):
        return Known(a.data * b.data)
    live, known = (a, b) if isinstance(b, Known) else (b, a)
    assert isinstance(known, Known)
    flat = known.data.reshape((known.size,))
    return build.affine(node, [(live, Diagonal(flat.value, flat.radius))], live.shape)


def _times(matrix: Enclosure, shape: Shape) -> LinearOperator:
    """The operator X -> X @ matrix on tensors of this shape, for a constant matrix or vector."""
    transposed = matrix.rearrange(lambda m: np.ascontiguousarray(m.reshape(m.shape[0], -1).T))
    return Dense(transposed.value, transposed.radius, copies=size_of(shape[:-1]))


def _timed_by(matrix: Enclosure, shape: Shape) -> LinearOperator:
    """The operator X -> matrix @ X = (X' @ matrix')'."""
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


def _check_inner(node: OpNode, a: Shape, b: Shape) -> None:
    inner = b[-2] if len(b) > 1 else (b[0] if b else None)
    if not a or inner is None or a[-1] != inner:
        node.malformed(f"shapes {list(a)} and {list(b)} do not multiply")
