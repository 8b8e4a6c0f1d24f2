"""Random linear operators of every kind, and their matrices by definition, in exact arithmetic."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from lipcert.operators import (
    Convolution,
    Dense,
    Diagonal,
    Identity,
    Leaf,
    LinearOperator,
    Product,
    Reduction,
    Row,
    Selection,
    Shape,
    Sum,
    Transposed,
)

LEAVES = ("dense", "copies", "diagonal", "identity", "selection", "reduction", "convolution", "transposed")
COMPOSITES = ("product", "sum")
KINDS = LEAVES + COMPOSITES


def random_operator(
    rng: np.random.Generator,
    in_size: int,
    out_size: int | None = None,
    *,
    kind: str | None = None,
    radius: float = 0.0,
    largest: int = 24,
) -> LinearOperator:
    """An operator of a random (or the given) kind; one that does not reach `out_size` gets a dense factor in front.

    `radius` is the probability that a leaf with weights is known only up to a radius.
    """
    kind = kind or str(rng.choice(KINDS))
    op = _of_kind(rng, kind, in_size, out_size, radius)
    if op.out_size > largest and out_size is None:
        out_size = int(rng.integers(1, largest))
    if out_size is not None and op.out_size != out_size:
        op = Product((_dense(rng, out_size, op.out_size, radius), op))
    return op


def _of_kind(rng: np.random.Generator, kind: str, n: int, m: int | None, radius: float) -> LinearOperator:
    if kind == "dense":
        return _dense(rng, m or int(rng.integers(1, 9)), n, radius)
    if kind == "copies":
        copies = int(rng.choice([c for c in range(1, n + 1) if n % c == 0]))
        weights = rng.normal(size=(int(rng.integers(1, 4)), n // copies)) / math.sqrt(n // copies)
        return Dense(weights, _radius(rng, weights, radius), copies)
    if kind == "diagonal":
        weights = rng.normal(size=n)
        return Diagonal(weights, _radius(rng, weights, radius))
    if kind == "identity":
        return Identity(n)
    if kind == "selection":
        return Selection(rng.integers(-1, n, size=m or int(rng.integers(1, n + 3))), n)
    if kind == "reduction":
        shape = random_shape(rng, n, int(rng.integers(1, 4)))
        axes = rng.choice(len(shape), size=int(rng.integers(1, len(shape) + 1)), replace=False)
        return Reduction(shape, tuple(int(a) for a in axes))
    if kind == "convolution":
        return random_convolution(rng, n, radius=radius)
    if kind == "transposed":
        return random_transposed(rng, n, radius=radius)
    inner = random_operator(rng, n, kind=str(rng.choice(LEAVES)), radius=radius)
    if kind == "product":
        return Product((random_operator(rng, inner.out_size, m, kind=str(rng.choice(LEAVES)), radius=radius), inner))
    other = random_operator(rng, n, inner.out_size, kind=str(rng.choice(LEAVES)), radius=radius)
    return Sum((inner, other))


def random_convolution(
    rng: np.random.Generator, in_size: int, *, rank: int | None = None, radius: float = 0.0
) -> Convolution:
    """A convolution of rank 1 to 3 with random strides, asymmetric pads, dilations, groups and copies."""
    rank = rank or int(rng.integers(1, 4))
    copies, channels, *space = random_shape(rng, in_size, rank + 2)
    kernel = tuple(int(rng.integers(1, 4)) for _ in space)
    dilations = tuple(int(rng.integers(1, 3)) for _ in space)
    pads = tuple(
        _enough_pads(rng, size, dilation * (k - 1) + 1)
        for size, k, dilation in zip(space, kernel, dilations, strict=True)
    )
    groups = int(rng.choice([g for g in range(1, channels + 1) if channels % g == 0]))
    out = groups * int(rng.integers(1, 3))
    weights = rng.normal(size=(out, channels // groups, *kernel)) / math.sqrt(channels // groups * math.prod(kernel))
    return Convolution(
        weights,
        (channels, *space),
        strides=tuple(int(rng.integers(1, 4)) for _ in space),
        pads=pads,
        dilations=dilations,
        groups=groups,
        copies=copies,
        radius=_radius(rng, weights, radius),
    )


def random_transposed(
    rng: np.random.Generator, in_size: int, *, rank: int | None = None, radius: float = 0.0
) -> Transposed:
    """The transpose of a convolution whose result has `in_size` entries, with random strides, pads and dilations."""
    rank = rank or int(rng.integers(1, 4))
    copies, out, *space = random_shape(rng, in_size, rank + 2)
    groups = int(rng.choice([g for g in range(1, out + 1) if out % g == 0]))
    per_group = int(rng.integers(1, 3))
    strides, kernel, pads, dilations, before = [], [], [], [], []
    for size in space:
        stride, k, dilation = int(rng.integers(1, 4)), int(rng.integers(1, 4)), int(rng.integers(1, 3))
        # the map before the convolution, and its padding: at least one entry of it is left
        full = (size - 1) * stride + dilation * (k - 1) + 1 + int(rng.integers(0, stride))
        begin = int(rng.integers(0, min(3, full)))
        end = int(rng.integers(0, min(3, full - begin)))
        strides, kernel, dilations = [*strides, stride], [*kernel, k], [*dilations, dilation]
        pads, before = [*pads, (begin, end)], [*before, full - begin - end]
    weights = rng.normal(size=(out, per_group, *kernel)) / math.sqrt(per_group * math.prod(kernel))
    forward = Convolution(
        weights,
        (per_group * groups, *before),
        strides=tuple(strides),
        pads=tuple(pads),
        dilations=tuple(dilations),
        groups=groups,
        copies=copies,
        radius=_radius(rng, weights, radius),
    )
    return Transposed(forward)


def random_shape(rng: np.random.Generator, size: int, rank: int) -> Shape:
    """A shape of `rank` axes with `size` entries."""
    axes = [1] * rank
    for prime in _prime_factors(size):
        axes[int(rng.integers(rank))] *= prime
    return tuple(axes)


def _prime_factors(n: int) -> list[int]:
    for p in range(2, n + 1):
        if n % p == 0:
            return [p, *_prime_factors(n // p)]
    return []


def _enough_pads(rng: np.random.Generator, size: int, window: int) -> tuple[int, int]:
    before, after = int(rng.integers(0, 3)), int(rng.integers(0, 3))
    return before, max(after, window - size - before)


def _dense(rng: np.random.Generator, m: int, n: int, radius: float) -> Dense:
    weights = rng.normal(size=(m, n)) / math.sqrt(n)
    return Dense(weights, _radius(rng, weights, radius))


def _radius(rng: np.random.Generator, weights: np.ndarray, probability: float) -> Any:
    """Zero, or a radius per entry: of the size of roundings, or large, some entries exact."""
    if rng.random() >= probability:
        return 0.0
    size = rng.choice([1e-15, 1e-3])
    return size * np.abs(rng.normal(size=weights.shape)) * (rng.random(weights.shape) < 0.8)


def map_leaves(op: LinearOperator, change: Callable[[Leaf], LinearOperator]) -> LinearOperator:
    """The operator with each of its leaves replaced."""
    if isinstance(op, Product):
        return Product([map_leaves(f, change) for f in op.factors])
    if isinstance(op, Sum):
        return Sum([map_leaves(t, change) for t in op.terms])
    if isinstance(op, Row):
        return Row([map_leaves(b, change) for b in op.blocks])
    assert isinstance(op, Leaf)
    return change(op)


def with_radius(leaf: Leaf, radius: Any, weights: np.ndarray | None = None) -> Leaf:
    """The leaf (which has weights) known up to another radius, and with other weights if given."""
    if isinstance(leaf, Transposed):
        return Transposed(with_radius(leaf.leaf, radius, weights))
    assert leaf.weights is not None
    same = leaf.with_weights(leaf.weights if weights is None else weights)
    same.radius = radius
    return same


def matrix_by_definition(op: LinearOperator, weights: Callable[[Leaf], np.ndarray] | None = None) -> np.ndarray:
    """The matrix of the operator in Fractions, from the definition of each kind, entry by entry.

    `weights` gives the weights of each leaf that has some; the default takes what is stored.
    """
    weights = weights or (lambda leaf: as_fractions(leaf.weights))
    if isinstance(op, Product):
        return _product([matrix_by_definition(f, weights) for f in op.factors])
    if isinstance(op, Sum):
        return sum(matrix_by_definition(t, weights) for t in op.terms)  # type: ignore[return-value]
    if isinstance(op, Row):
        return np.concatenate([matrix_by_definition(b, weights) for b in op.blocks], axis=1)
    if isinstance(op, Transposed):
        return matrix_by_definition(op.leaf, lambda _: weights(op)).T
    matrix = np.full(op.size, Fraction(0), dtype=object)
    if isinstance(op, Identity):
        np.fill_diagonal(matrix, Fraction(1))
    elif isinstance(op, Diagonal):
        np.fill_diagonal(matrix, weights(op))
    elif isinstance(op, Selection):
        for i, j in enumerate(op.index):
            if j >= 0:
                matrix[i, j] = Fraction(1)
    elif isinstance(op, Dense):
        block = weights(op)
        m, k = block.shape
        for c in range(op.copies):
            matrix[c * m : (c + 1) * m, c * k : (c + 1) * k] = block
    elif isinstance(op, Reduction):
        _fill_reduction(matrix, op)
    else:
        assert isinstance(op, Convolution)
        _fill_convolution(matrix, op, weights(op))
    return matrix


def _fill_reduction(matrix: np.ndarray, op: Reduction) -> None:
    for j, position in enumerate(itertools.product(*map(range, op.in_shape))):
        kept = [0 if axis in op.axes else i for axis, i in enumerate(position)]
        shape = [1 if axis in op.axes else d for axis, d in enumerate(op.in_shape)]
        matrix[int(np.ravel_multi_index(kept, shape)), j] = Fraction(1)


def _fill_convolution(matrix: np.ndarray, op: Convolution, weights: np.ndarray) -> None:
    out_channels, in_per_group, *kernel = weights.shape
    per_group = out_channels // op.groups
    shape_in, shape_out = (op.copies, *op.in_shape), (op.copies, *op.out_shape)
    for copy, out, *where in itertools.product(*map(range, shape_out)):
        for channel, *tap in itertools.product(range(in_per_group), *map(range, kernel)):
            pixel = [
                o * s + t * d - p[0]
                for o, s, t, d, p in zip(where, op.strides, tap, op.dilations, op.pads, strict=True)
            ]
            if all(0 <= i < size for i, size in zip(pixel, op.in_shape[1:], strict=True)):
                source = (copy, out // per_group * in_per_group + channel, *pixel)
                row = int(np.ravel_multi_index((copy, out, *where), shape_out))
                matrix[row, int(np.ravel_multi_index(source, shape_in))] = weights[(out, channel, *tap)]


def _product(matrices: list[np.ndarray]) -> np.ndarray:
    total = matrices[0]
    for matrix in matrices[1:]:
        total = total @ matrix
    return total


def as_fractions(array: Any) -> np.ndarray:
    """The float64 numbers as they are, as Fractions."""
    values = np.asarray(array, dtype=float)
    out = np.empty(values.shape, dtype=object)
    out.reshape(-1)[:] = [Fraction(v) for v in values.reshape(-1).tolist()]
    return out
