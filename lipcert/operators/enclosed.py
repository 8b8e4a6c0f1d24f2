"""Rounding-safe application of operators: enclosures in, enclosures out, and the dense form with its radius.

For a leaf with weights W known up to R and x known up to r, W x lies within
|W| r + R (|x| + r) + gamma_k |W| |x| of the computed product (k the fan-in); composites apply their parts in turn.
"""

from __future__ import annotations

import numpy as np

from lipcert.arithmetic.enclosure import Enclosure, stack
from lipcert.arithmetic.rounding import gamma, inflate
from lipcert.operators.base import Leaf, LinearOperator
from lipcert.operators.composite import Product, Row, Sum


def apply(op: LinearOperator, x: Enclosure) -> Enclosure:
    """Enclosure of A x over all A and x enclosed; shapes (*batch, n) -> (*batch, m)."""
    if isinstance(op, Product):
        for factor in reversed(op.factors):
            x = apply(factor, x)
        return x
    if isinstance(op, Sum):
        return _total([apply(t, x) for t in op.terms])
    if isinstance(op, Row):
        return _total([apply(b, part) for b, part in zip(op.blocks, _split(op, x), strict=True)])
    return _leaf(_as_leaf(op), x, adjoint=False)


def apply_adjoint(op: LinearOperator, y: Enclosure) -> Enclosure:
    """Enclosure of A' y; shapes (*batch, m) -> (*batch, n)."""
    if isinstance(op, Product):
        for factor in op.factors:
            y = apply_adjoint(factor, y)
        return y
    if isinstance(op, Sum):
        return _total([apply_adjoint(t, y) for t in op.terms])
    if isinstance(op, Row):
        return stack([apply_adjoint(b, y) for b in op.blocks], axis=-1)
    return _leaf(_as_leaf(op), y, adjoint=True)


def magnitude_up(op: LinearOperator, v: np.ndarray, adjoint: bool = False) -> np.ndarray:
    """Upper bound on |A| v (or |A|' v) for v >= 0; composites bound |A B| by |A| |B|."""
    if isinstance(op, Product):
        for factor in op.factors if adjoint else reversed(op.factors):
            v = magnitude_up(factor, v, adjoint)
        return v
    if isinstance(op, Sum):
        parts = [magnitude_up(t, v, adjoint) for t in op.terms]
        return inflate(np.sum(parts, axis=0), len(parts)) if np.any(v) else parts[0]
    if isinstance(op, Row):
        if adjoint:
            return np.concatenate([magnitude_up(b, v, adjoint) for b in op.blocks], axis=-1)
        cuts = np.cumsum([0] + [b.in_size for b in op.blocks])
        parts = [magnitude_up(b, v[..., cuts[i] : cuts[i + 1]]) for i, b in enumerate(op.blocks)]
        return inflate(np.sum(parts, axis=0), len(parts)) if np.any(v) else parts[0]
    leaf = _as_leaf(op)
    product = leaf.magnitude.rmatvec(v) if adjoint else leaf.magnitude.matvec(v)
    terms = leaf.fan_out if adjoint else leaf.fan_in
    return inflate(product, terms) if terms and np.any(v) else product


def reaches(op: LinearOperator, mask: np.ndarray) -> np.ndarray:
    """Which entries of A x depend on an entry of x in `mask` (booleans)."""
    if isinstance(op, Product):
        for factor in reversed(op.factors):
            mask = reaches(factor, mask)
        return mask
    if isinstance(op, Sum):
        return np.logical_or.reduce([reaches(t, mask) for t in op.terms])
    if isinstance(op, Row):
        raise TypeError("a row of operators is never applied to a mask")
    return _as_leaf(op).magnitude.matvec(mask.astype(float)) > 0


def signs(op: LinearOperator, below: np.ndarray, above: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which entries of A x may be below zero, and which above, given those of x (booleans, *batch n)."""
    if isinstance(op, Product):
        for factor in reversed(op.factors):
            below, above = signs(factor, below, above)
        return below, above
    if isinstance(op, Sum):
        parts = [signs(t, below, above) for t in op.terms]
        return np.logical_or.reduce([p[0] for p in parts]), np.logical_or.reduce([p[1] for p in parts])
    leaf = _as_leaf(op)
    if leaf.weights is None:
        return reaches(op, below), reaches(op, above)
    positive = leaf.with_weights((leaf.weights + leaf.radius > 0).astype(float))
    negative = leaf.with_weights((leaf.weights - leaf.radius < 0).astype(float))
    return (
        reaches(positive, below) | reaches(negative, above),
        reaches(positive, above) | reaches(negative, below),
    )


def dense(op: LinearOperator) -> Enclosure:
    """The matrix of the operator, shape (m, n); exact for a leaf, computed from its cheaper side otherwise."""
    if isinstance(op, Product):
        return _dense_product(op)
    if isinstance(op, Sum):
        return _total([dense(t) for t in op.terms])
    if isinstance(op, Row):
        return stack([dense(b) for b in op.blocks], axis=1)
    leaf = _as_leaf(op)
    return Enclosure(leaf.matrix(), 0.0 if leaf.uncertainty is None else leaf.uncertainty.matrix())


def _dense_product(op: Product) -> Enclosure:
    """Write out one factor, and apply its neighbours to the rows and columns, in the order of least work."""
    start, moves, _ = op.cheapest_order
    left, right, matrix = start, start, dense(op.factors[start])
    for move in moves:
        if move < 0:
            left -= 1
            matrix = apply(op.factors[left], matrix.rearrange(np.transpose)).rearrange(np.transpose)
        else:
            right += 1
            matrix = apply_adjoint(op.factors[right], matrix)
    return matrix


def _leaf(leaf: Leaf, x: Enclosure, adjoint: bool) -> Enclosure:
    def product(op: Leaf, v: np.ndarray) -> np.ndarray:
        return op.rmatvec(v) if adjoint else op.matvec(v)

    terms = leaf.fan_out if adjoint else leaf.fan_in
    value = product(leaf, x.value)
    if terms == 0:  # entries only move
        return Enclosure(value, 0.0 if x.is_exact else product(leaf, x.full_radius()))
    size = np.abs(x.value)
    spread = product(leaf.magnitude, inflate(gamma(terms) * size + x.radius, 4))
    if leaf.uncertainty is not None:
        spread = spread + product(leaf.uncertainty, size)
    return Enclosure(value, inflate(spread, 2 * terms + 8))


def _split(op: Row, x: Enclosure) -> list[Enclosure]:
    """The parts of a stacked vector that the blocks act on."""
    cuts = np.cumsum([b.in_size for b in op.blocks])[:-1]
    values, radii = np.split(x.value, cuts, axis=-1), np.split(x.full_radius(), cuts, axis=-1)
    return [Enclosure(value, radius) for value, radius in zip(values, radii, strict=True)]


def _as_leaf(op: LinearOperator) -> Leaf:
    if not isinstance(op, Leaf):
        raise TypeError(f"unknown operator {type(op).__name__}")
    return op


def _total(parts: list[Enclosure]) -> Enclosure:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
