"""Positive definiteness, and with it spectral norms, proven by floating-point Cholesky.

Rump, Verification of positive definiteness (BIT 2006), Corollary 2.4, in the scaled form of docs/arithmetic.md: if
Cholesky of A - diag(shift) runs to completion, then every symmetric matrix within R (entrywise) of A is positive
definite, where shift_i >= n g a_ii + (R d)_i / d_i + underflow, g = gamma / (1 - gamma) at n + 3 roundings, d > 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lipcert.arithmetic.enclosure import Enclosure
from lipcert.arithmetic.rounding import ETA, U, down, gamma, inflate, up


def is_positive_definite(matrix: np.ndarray, residual: np.ndarray) -> bool:
    """Whether every symmetric A' with |A' - matrix| d <= residual entrywise (d = 1) is proven positive definite.

    `matrix` (n, n), `residual` (n,) upper bounds on the row sums of |A' - matrix|.
    """
    return bool(np.array_equal(matrix, matrix.T) and are_positive_definite(matrix[None], residual[None])[0])


def are_positive_definite(lower: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """The same for many symmetric matrices, of which the lower triangles are read: (k, n, n) and (k, n) to (k,)."""
    n = lower.shape[1]
    diagonal = np.diagonal(lower, axis1=1, axis2=2)
    # LAPACK completes on NaN and often on Inf: nothing that is not finite may reach it.
    good = np.isfinite(lower).all(axis=(1, 2)) & np.isfinite(residual).all(axis=1) & (diagonal > 0).all(axis=1)
    g = gamma(n + 3)
    g = up(g / down(1 - g))
    with np.errstate(invalid="ignore"):
        underflow = 4 * n * (2 * (n + 1) + diagonal.max(axis=1, initial=0.0)) * ETA * 2
        shift = inflate(n * g * diagonal + residual + underflow[:, None], 16)
        reduced_diagonal = down(down(diagonal) - shift)
    good &= (reduced_diagonal > 0).all(axis=1)
    chosen = np.flatnonzero(good)
    reduced = lower[chosen]
    reduced[:, np.arange(n), np.arange(n)] = reduced_diagonal[chosen]
    good[chosen] = _factorise(reduced)
    return good


def _factorise(matrices: np.ndarray) -> np.ndarray:
    """For which of the matrices Cholesky runs to completion, with finite factors."""
    if not len(matrices):
        return np.zeros(0, dtype=bool)
    try:
        return np.asarray(np.isfinite(np.linalg.cholesky(matrices)).all(axis=(1, 2)))
    except np.linalg.LinAlgError:
        if len(matrices) == 1:
            return np.zeros(1, dtype=bool)
    middle = len(matrices) // 2
    return np.concatenate([_factorise(matrices[:middle]), _factorise(matrices[middle:])])


PANEL = 64
"""Columns of a block that are solved for at a time."""


class SymmetricBlocks:
    """A symmetric matrix by blocks, the lower ones; those that are missing are zero. Row sums bound its error."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = list(sizes)
        self.blocks: dict[tuple[int, int], np.ndarray] = {}
        self.errors = [np.zeros(size) for size in sizes]

    def add(self, i: int, j: int, value: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> None:
        """Add to block (i, j), i >= j (on the diagonal all of it), whose error has these row and column sums."""
        self.errors[i] = inflate(self.errors[i] + rows, 1)
        if i != j:
            self.errors[j] = inflate(self.errors[j] + columns, 1)
        if (i, j) not in self.blocks:
            self.blocks[i, j] = value
            return
        total = self.blocks[i, j] + value
        size = np.abs(total)
        self.errors[i] = inflate(self.errors[i] + U * size.sum(axis=1), size.shape[1] + 2)
        if i != j:
            self.errors[j] = inflate(self.errors[j] + U * size.sum(axis=0), len(size) + 2)
        self.blocks[i, j] = total

    def dense(self) -> tuple[np.ndarray, np.ndarray]:
        """All of it, the lower part mirrored, and the row sums of its error."""
        starts = np.cumsum([0, *self.sizes])
        matrix = np.zeros((starts[-1], starts[-1]))
        for (i, j), block in self.blocks.items():
            matrix[starts[i] : starts[i + 1], starts[j] : starts[j + 1]] = block
        return np.tril(matrix) + np.tril(matrix, -1).T, np.concatenate([np.zeros(0), *self.errors])

    def is_positive_definite(self) -> bool:
        """Whether every symmetric matrix within the error is proven positive definite.

        The factorisation below computes each entry as Cholesky does, its sums in some order, products with zero left
        out: the theorem holds with the whole dimension.
        """
        n = sum(self.sizes)
        if not n:
            return True
        if any((i, i) not in self.blocks for i, size in enumerate(self.sizes) if size):
            return False
        self.blocks.update({(i, i): np.zeros((0, 0)) for i, size in enumerate(self.sizes) if not size})
        diagonals = [np.diagonal(self.blocks[i, i]) for i in range(len(self.sizes))]
        finite = all(np.isfinite(b).all() for b in (*self.blocks.values(), *self.errors))
        if not finite or not all((d > 0).all() for d in diagonals):
            return False
        g = gamma(n + 3)
        g = up(g / down(1 - g))
        underflow = 4 * n * (2 * (n + 1) + max(float(d.max(initial=0.0)) for d in diagonals)) * ETA * 2
        work = dict(self.blocks)
        for i, (diagonal, error) in enumerate(zip(diagonals, self.errors, strict=True)):
            # symmetric up to its error, which is that of the lower part mirrored, too
            block = self.blocks[i, i].copy()
            np.fill_diagonal(block, down(down(diagonal) - inflate(n * g * diagonal + error + underflow, 16)))
            if not (np.diagonal(block) > 0).all():
                return False
            work[i, i] = block
        return _factorise_blocks(work, len(self.sizes))


def _factorise_blocks(work: dict[tuple[int, int], np.ndarray], count: int) -> bool:
    """Whether Cholesky runs to completion, block column after block column; `work` is used up."""
    for k in range(count):
        try:
            factor = np.linalg.cholesky(work.pop((k, k)))
        except np.linalg.LinAlgError:
            return False
        if not np.isfinite(factor).all():
            return False
        below = sorted(i for i, j in work if j == k)
        columns = {i: _solve_across(work.pop((i, k)), factor) for i in below}
        for i in below:
            for j in (j for j in below if j <= i):
                update = columns[i] @ columns[j].T
                work[i, j] = work[i, j] - update if (i, j) in work else -update
    return True


def _solve_across(block: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """block L^-T by substitution."""
    result = np.empty_like(block)
    for start in range(0, len(factor), PANEL):
        stop = min(start + PANEL, len(factor))
        panel = block[:, start:stop] - result[:, :start] @ factor[start:stop, :start].T
        for j in range(start, stop):
            known = panel[:, : j - start] @ factor[j, start:j]
            panel[:, j - start] = (panel[:, j - start] - known) / factor[j, j]
        result[:, start:stop] = panel
    return result


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


@np.errstate(over="ignore", invalid="ignore")  # overflow proves nothing; a thread has settings of its own
def hermitian_forms_prove(re: np.ndarray, im: np.ndarray, error: np.ndarray, sigma: float) -> np.ndarray:
    """For each of many complex F = re + i im (k, m, n): whether sigma^2 I - F F' > 0, with m <= n.

    F F' = A + i B is positive as the real [[A, -B], [B, A]] is; `error` (2m,) bounds the row sums of what that lacks.
    """
    count, m, _ = re.shape
    both = np.concatenate([re, im], axis=2)
    cross = im @ np.swapaxes(re, 1, 2)
    form = np.zeros((count, 2 * m, 2 * m))  # the upper right block is not read
    form[:, :m, :m] = -(both @ np.swapaxes(both, 1, 2))
    form[:, m:, :m] = np.swapaxes(cross, 1, 2) - cross
    places = np.arange(m)
    diagonal = down(sigma * sigma) + form[:, places, places]
    form[:, places, places] = diagonal
    form[:, m:, m:] = form[:, :m, :m]
    rounding = 2 * U * np.abs(np.tile(diagonal, (1, 2)))
    return are_positive_definite(form, inflate(error + rounding, 4))
