"""Tensors as sparse affine functions of earlier nodes, for the rules that compare what exporters spell out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lipcert.graph import Affine, Node
from lipcert.operators import Diagonal, Identity, Leaf, LinearOperator, Product, Selection, Sum, size_of

MAX_STEPS = 64
"""Affine nodes that are followed back: chains of scalings and slices are short."""

_LEAST = 1e-200
"""Coefficients smaller than this, or larger than its inverse, may have lost digits."""

LOOSE = 1e-14
"""Relative radius of a coefficient that is no longer known well."""


@dataclass(frozen=True, eq=False)
class AffineForm:
    """matrix @ (values of all nodes, stacked) + bias; midpoints of what is only known up to a radius."""

    matrix: Any
    bias: np.ndarray
    starts: np.ndarray
    """Where each node's values begin in the stack."""

    is_exact: bool
    """Whether all coefficients passed were stored ones (their products here are rounded)."""

    def single(self) -> tuple[np.ndarray, np.ndarray] | None:
        """(column, coefficient) of each row, if every row has just one nonzero."""
        counts = np.diff(self.matrix.indptr)
        if np.any(counts != 1) or not self.matrix.data.all():
            return None
        return self.matrix.indices.copy(), self.matrix.data.copy()

    def node_of(self, columns: np.ndarray) -> int | None:
        """The one node that the columns belong to."""
        nodes = np.searchsorted(self.starts, columns, side="right") - 1
        return int(nodes[0]) if len(nodes) and np.all(nodes == nodes[0]) else None

    def within(self, node: int, columns: np.ndarray) -> np.ndarray:
        return columns - self.starts[node]


def affine_form(nodes: list[Node], position: int, stop: frozenset[int] = frozenset()) -> AffineForm:
    """Node `position` followed back through diagonals and selections, to whatever else computes, or is in `stop`.

    Only products of coefficients are taken, each off by at most a rounding. A node that would need a sum, which could
    cancel, or that underflows, or whose coefficients are not known well, is where the walk ends.
    """
    from scipy import sparse

    sizes = [size_of(n.shape) for n in nodes]
    starts = np.cumsum([0, *sizes])
    total = int(starts[-1])
    forms: dict[int, tuple[Any, np.ndarray]] = {}
    inexact: list[int] = []

    def own(at: int) -> tuple[Any, np.ndarray]:
        rows = np.arange(sizes[at])
        form = sparse.csr_matrix((np.ones(rows.size), (rows, starts[at] + rows)), shape=(sizes[at], total))
        return form, np.zeros(sizes[at])

    def followed(at: int, depth: int) -> tuple[Any, np.ndarray] | None:
        node = nodes[at]
        if at in stop or not isinstance(node, Affine) or depth >= MAX_STEPS or not _is_well_known(node):
            return None
        matrix: Any = sparse.csr_matrix((sizes[at], total))
        bias = node.bias.value.copy()
        for source, operator in zip(node.inputs, node.operators, strict=True):
            part = _as_sparse(operator)
            if part is None:
                return None
            inner, shift = expand(source, depth + 1)
            moved = part @ shift
            matrix = _sum_free(matrix, part @ inner)
            if matrix is None or np.any((bias != 0) & (moved != 0)):
                return None
            bias = bias + moved
        matrix = matrix.tocsr()
        matrix.eliminate_zeros()
        matrix.sort_indices()
        size = np.abs(np.concatenate([matrix.data, bias[bias != 0]]))
        if not np.all((size > _LEAST) & (size < 1 / _LEAST)):
            return None
        if any(op.uncertainty is not None for op in _leaves(node.operators)):
            inexact.append(at)
        return matrix, bias

    def expand(at: int, depth: int) -> tuple[Any, np.ndarray]:
        if at not in forms:
            forms[at] = followed(at, depth) or own(at)
        return forms[at]

    matrix, bias = expand(position, 0)
    return AffineForm(matrix, bias, starts, not inexact)


def _is_well_known(node: Affine) -> bool:
    """An exact bias, and coefficients known to many digits."""
    radii = (
        (op.weights, op.radius)
        for op in _leaves(node.operators)
        if op.weights is not None and op.uncertainty is not None
    )
    return node.bias.is_exact and all(np.all(radius <= LOOSE * np.abs(weights)) for weights, radius in radii)


def _sum_free(left: Any, right: Any) -> Any:
    """left + right where no entry has both; None otherwise."""
    both = left + right
    overlap = np.count_nonzero(left.data) + np.count_nonzero(right.data) - np.count_nonzero(both.data)
    return None if overlap else both


def _leaves(operators: Iterable[LinearOperator]) -> Iterator[Leaf]:
    for op in operators:
        if isinstance(op, Product | Sum):
            yield from _leaves(op.factors if isinstance(op, Product) else op.terms)
        elif isinstance(op, Leaf):
            yield op


def _as_sparse(op: LinearOperator) -> Any:
    """The operator as a scipy matrix; None where it is not sparse by its kind."""
    from scipy import sparse

    if isinstance(op, Identity):
        return sparse.identity(op.in_size, format="csr")
    if isinstance(op, Diagonal):
        return sparse.diags(np.asarray(op.weights, dtype=float), format="csr")
    if isinstance(op, Selection):
        rows = np.flatnonzero(op.index >= 0)
        return sparse.csr_matrix((np.ones(rows.size), (rows, op.index[rows])), shape=op.size)
    if isinstance(op, Product | Sum):
        parts = [_as_sparse(part) for part in (op.factors if isinstance(op, Product) else op.terms)]
        if any(p is None for p in parts):
            return None
        total = parts[0]
        for part in parts[1:]:
            total = total @ part if isinstance(op, Product) else _sum_free(total, part)
            if total is None:
                return None
        return total
    return None
