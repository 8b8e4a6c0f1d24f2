"""Positive definiteness, and with it spectral norms, proven by floating-point Cholesky.

Rump, Verification of positive definiteness (BIT 2006), Corollary 2.4, in the scaled form of docs/arithmetic.md: if
Cholesky of A - diag(shift) runs to completion, then every symmetric matrix within R (entrywise) of A is positive
definite, where shift_i >= n g a_ii + (R d)_i / d_i + underflow, g = gamma / (1 - gamma) at n + 3 roundings, d > 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipcert.arithmetic.enclosure import Enclosure
from lipcert.arithmetic.rounding import ETA, U, down, gamma, inflate, up


def is_positive_definite(matrix: np.ndarray, residual: np.ndarray) -> bool:
    """Whether every symmetric A' with |A' - matrix| d <= residual entrywise (d = 1) is proven positive definite.

    `matrix` (n, n), `residual` (n,) upper bounds on the row sums of |A' - matrix|.
    """
    n = len(matrix)
    diagonal = np.diagonal(matrix)
    # LAPACK completes on NaN and often on Inf: nothing that is not finite may reach it.
    if not (np.all(np.isfinite(matrix)) and np.all(np.isfinite(residual)) and np.all(diagonal > 0)):
        return False
    if not np.array_equal(matrix, matrix.T):
        return False
    g = gamma(n + 3)
    g = up(g / down(1 - g))
    underflow = 4 * n * (2 * (n + 1) + float(diagonal.max())) * ETA * 2
    shift = inflate(n * g * diagonal + residual + underflow, 16)
    reduced = matrix.copy()
    np.fill_diagonal(reduced, down(down(diagonal) - shift))
    if not np.all(np.diagonal(reduced) > 0):
        return False
    try:
        factor = np.linalg.cholesky(reduced)
    except np.linalg.LinAlgError:
        return False
    return bool(np.all(np.isfinite(factor)))


@dataclass(frozen=True, eq=False)
class GramForm:
    """V V' of an enclosed matrix V (m <= n after transposition) with the row sums of its total error."""

    gram: np.ndarray
    error: np.ndarray

    def proves(self, sigma: float) -> bool:
        """Whether |V|_2 <= sigma for every V enclosed: sigma^2 I - V V' > 0, rounding and radius included."""
        if not (np.isfinite(sigma) and sigma >= 0):
            return False
        if not self.gram.size:
            return True
        square = down(sigma * sigma)
        matrix = -self.gram
        diagonal = square - np.diagonal(self.gram)
        np.fill_diagonal(matrix, diagonal)
        return is_positive_definite(matrix, inflate(self.error + 2 * U * np.abs(diagonal), 4))


def gram_form(matrix: Enclosure) -> GramForm:
    """Prepare spectral norm proofs of an enclosed m x n matrix; zero rows and columns are dropped."""
    value, radius = matrix.value, None if matrix.is_exact else matrix.full_radius()
    if value.shape[0] > value.shape[1]:
        value, radius = value.T, None if radius is None else radius.T
    magnitude = np.abs(value) if radius is None else up(np.abs(value) + radius)
    rows, columns = magnitude.any(axis=1), magnitude.any(axis=0)
    if not (rows.all() and columns.all()):
        value, magnitude = value[np.ix_(rows, columns)], magnitude[np.ix_(rows, columns)]
        radius = None if radius is None else radius[np.ix_(rows, columns)]
    n = value.shape[1]
    gram = value @ value.T
    gram = np.tril(gram) + np.tril(gram, -1).T
    sums = magnitude.sum(axis=0)
    error = gamma(n + 1) * (magnitude @ sums) + n * len(value) * ETA
    if radius is not None:
        # |W W' - V V'| <= R |V|' + (|V| + R) R'
        error = error + radius @ sums + magnitude @ radius.sum(axis=0)
    return GramForm(gram, inflate(error, 2 * (n + len(value)) + 16))
