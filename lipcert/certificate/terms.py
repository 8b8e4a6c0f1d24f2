"""What a node reads, scaled by rows and columns, with the rounding of that: the pieces of a matrix inequality."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipcert.arithmetic.rounding import ETA, U, gamma, inflate
from lipcert.certificate.chains import Setting, step_terms
from lipcert.certificate.definite import SymmetricBlocks


@dataclass(frozen=True, eq=False)
class Term:
    """diag(row) T diag(column) in float64: the error is at most gamma(6) |value| + spread + 1 floor', entrywise."""

    value: np.ndarray
    spread: np.ndarray | None
    floor: np.ndarray

    def error(self, v: np.ndarray) -> np.ndarray:
        """Upper bound on |error| v, v >= 0."""
        found = gamma(6) * (np.abs(self.value) @ v) + self.floor @ v
        if self.spread is not None:
            found = found + self.spread @ v
        return np.asarray(inflate(found, 2 * len(v) + 8))

    def error_across(self, v: np.ndarray) -> np.ndarray:
        """Upper bound on |error|' v."""
        found = gamma(6) * (v @ np.abs(self.value)) + self.floor * v.sum()
        if self.spread is not None:
            found = found + v @ self.spread
        return np.asarray(inflate(found, 2 * len(v) + 8))


def scaled_terms(setting: Setting, node: int, row: np.ndarray, column: dict[int, np.ndarray]) -> dict[int, Term]:
    """What a node reads, scaled."""
    terms = {}
    for source, op in step_terms(setting, node, ()).items():
        known, scale = setting.by.dense(op), column[source]
        value = known.value * row[:, None] * scale
        spread = None if known.is_exact else inflate(known.full_radius() * row[:, None] * scale, 8)
        terms[source] = Term(value, spread, inflate(2 * ETA * (scale + 1), 4))
    return terms


def place_cross(
    form: SymmetricBlocks, node: int, source: int, value: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> None:
    """Add 2 z' value v, z of place `node` and v of place `source`, with the row and column sums of its error."""
    if node > source:
        form.add(node, source, value, rows, columns)
    elif node < source:  # in a loop
        form.add(source, node, value.T, columns, rows)
    else:
        both = value + value.T
        form.add(node, node, both, inflate(rows + columns + U * np.abs(both).sum(axis=1), len(both) + 8), columns)
