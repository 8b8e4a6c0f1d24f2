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


def affine_form(nodes: list[Node], position: int) -> AffineForm:
    """Node `position` followed back through diagonals and selections, to whatever else computes."""
    from scipy import sparse

    sizes = [size_of(n.shape) for n in nodes]
    starts = np.cumsum([0, *sizes])
    total = int(starts[-1])
    forms: dict[int, tuple[Any, np.ndarray]] = {}
    inexact: list[int] = []

    def expand(at: int, depth: int) -> tuple[Any, np.ndarray]:
        if at in forms:
            return forms[at]
        node = nodes[at]
        parts = None
        if isinstance(node, Affine) and depth < MAX_STEPS:
            found = [_as_sparse(op) for op in node.operators]
            parts = None if any(p is None for p in found) else found
        if parts is None or not isinstance(node, Affine):
            columns = starts[at] + np.arange(sizes[at])
            ones = np.ones(sizes[at])
            form = sparse.csr_matrix((ones, (np.arange(sizes[at]), columns)), shape=(sizes[at], total))
            forms[at] = (form, np.zeros(sizes[at]))
            return forms[at]
        matrix, bias = sparse.csr_matrix((sizes[at], total)), node.bias.value.copy()
        for source, operator in zip(node.inputs, parts, strict=True):
            inner, shift = expand(source, depth + 1)
            matrix = matrix + operator @ inner
            bias = bias + operator @ shift
        if not node.bias.is_exact or any(op.uncertainty is not None for op in _leaves(node.operators)):
            inexact.append(at)
        matrix = matrix.tocsr()
        matrix.eliminate_zeros()
        matrix.sort_indices()
        forms[at] = (matrix, bias)
        return forms[at]

    matrix, bias = expand(position, 0)
    return AffineForm(matrix, bias, starts, not inexact)


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
            total = total @ part if isinstance(op, Product) else total + part
        return total
    return None
