"""The primitives of `arithmetic` in ball arithmetic (Arb through python-flint): the strictest check.

Nothing here relies on error theory for float64 sums or Cholesky: every product and sum is a ball. Floats convert to
balls exactly, and balls back to float64 enclosures that contain them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from flint import arb, arb_mat

from lipcert.arithmetic.balls import arb_matrix, as_ball, as_balls, matrix_product, to_balls, to_enclosure
from lipcert.arithmetic.enclosure import Enclosure
from lipcert.arithmetic.rounding import up
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.definite import SymmetricBlocks
from lipcert.errors import NotProvedError
from lipcert.operators import Dense, Leaf, LinearOperator, Product, Row, Sum
from lipcert.problem import Norm

MAX_DIMENSION = 1024
"""Spectral proofs of larger matrices would take minutes in ball arithmetic."""


class BallArithmetic(Arithmetic):
    """Arb balls of 53 bits (106 in spectral proofs)."""

    name = "balls"

    def __init__(self) -> None:
        super().__init__()
        self._leaves: dict[tuple[int, bool], tuple[Leaf, Leaf]] = {}

    def apply(self, op: LinearOperator, x: Enclosure) -> Enclosure:
        if isinstance(op, Product):
            for factor in reversed(op.factors):
                x = self.apply(factor, x)
            return x
        if isinstance(op, Sum):
            return sum((self.apply(t, x) for t in op.terms[1:]), self.apply(op.terms[0], x))
        assert isinstance(op, Leaf)
        # Midpoints and radii apart: a ball's own radius has 30 bits, too few for long sums of wide intervals.
        value = to_enclosure(self._run(op, as_balls(x.value), False, False))
        if x.is_exact:
            return value
        spread = self.magnitude(op, x.full_radius())
        return Enclosure(value.value, up(value.full_radius() + spread))

    def magnitude(self, op: LinearOperator, v: np.ndarray, adjoint: bool = False) -> np.ndarray:
        return _upper(self._run(op, to_balls(Enclosure(v)), adjoint, True))

    def product(self, matrix: np.ndarray, v: np.ndarray) -> np.ndarray:
        return _upper(as_balls(matrix) @ as_balls(v))

    def norms(self, v: np.ndarray, q: Norm) -> Any:
        if v.shape[-1] == 0:
            return np.zeros(v.shape[:-1])
        if q == np.inf:
            return np.max(v, axis=-1)
        balls = as_balls(v)
        total = (balls if q == 1 else balls * balls).sum(axis=-1)
        flat = [t if q == 1 else t.sqrt() for t in np.reshape(np.asarray(total, dtype=object), -1)]
        return _upper(np.array(flat, dtype=object)).reshape(v.shape[:-1])

    def proves_spectral(self, matrix: Enclosure, sigma: float) -> bool:
        return matrix.is_finite and spectral_bound_holds(matrix, sigma)

    def proves_complex(
        self, re: np.ndarray, im: np.ndarray, spread: np.ndarray, error: np.ndarray, sigma: float
    ) -> np.ndarray:
        around = np.tile(spread, (2, 2))
        forms = (Enclosure(np.block([[a, -b], [b, a]]), around) for a, b in zip(re, im, strict=True))
        return np.array([spectral_bound_holds(form, sigma) for form in forms], dtype=bool)

    def proves_positive(self, form: SymmetricBlocks) -> bool:
        """With the error terms that the form comes with: its entries are float64 sums."""
        _check_dimension(sum(form.sizes))
        matrix, error = form.dense()
        diagonal = np.diag(matrix)
        if not (np.isfinite(matrix).all() and np.isfinite(error).all() and np.all(diagonal > 0)):
            return False
        # powers of two near the roots of the diagonal; diag(row sums of |E|) + E >= 0 for every symmetric E
        scale = np.ldexp(1.0, -np.frexp(diagonal)[1] // 2)

        def scaled() -> arb_mat:
            factors = as_balls(scale)
            balls = as_balls(matrix) - np.diag(as_balls(error))
            return arb_matrix(factors[:, None] * balls * factors)

        return _is_positive(len(matrix), scaled)

    def prove_positive(self, matrices: np.ndarray, errors: np.ndarray) -> bool:
        for matrix, error in zip(matrices, errors, strict=True):
            form = SymmetricBlocks([len(matrix)])
            form.add(0, 0, matrix, error, error)
            if not self.proves_positive(form):
                return False
        return True

    def _write_out(self, op: LinearOperator) -> Enclosure:
        if isinstance(op, Leaf):
            return super()._write_out(op)  # single stored numbers: nothing is rounded
        if op.out_size <= op.in_size:
            return to_enclosure(self._run(op, as_balls(np.eye(op.out_size)), True, False))
        columns = self._run(op, as_balls(np.eye(op.in_size)), False, False)
        return to_enclosure(columns.T)

    def _run(self, op: LinearOperator, v: np.ndarray, adjoint: bool, absolute: bool) -> np.ndarray:
        if isinstance(op, Product):
            for factor in op.factors if adjoint else reversed(op.factors):
                v = self._run(factor, v, adjoint, absolute)
            return v
        if isinstance(op, Sum):
            return sum(self._run(t, v, adjoint, absolute) for t in op.terms)  # type: ignore[return-value]
        if isinstance(op, Row):
            if adjoint:
                return np.concatenate([self._run(b, v, adjoint, absolute) for b in op.blocks], axis=-1)
            cuts = np.cumsum([b.in_size for b in op.blocks])[:-1]
            parts = np.split(v, cuts, axis=-1)
            return sum(self._run(b, p, adjoint, absolute) for b, p in zip(op.blocks, parts, strict=True))  # type: ignore[return-value]
        assert isinstance(op, Leaf)
        leaf = self._leaf(op, absolute)
        if isinstance(leaf, Dense) and leaf.copies == 1 and v.ndim == 2:
            return matrix_product(v, leaf.weights if adjoint else leaf.weights.T)
        return leaf.rmatvec(v) if adjoint else leaf.matvec(v)

    def _leaf(self, op: Leaf, absolute: bool) -> Leaf:
        """The leaf with its weights as balls, radius included."""
        if op.weights is None:
            return op
        key = (id(op), absolute)
        if key not in self._leaves:
            stored = Enclosure(op.weights, op.radius)
            weights = as_balls(stored.magnitude()) if absolute else to_balls(stored)
            self._leaves[key] = (op, op.with_weights(weights))
        return self._leaves[key][1]


def spectral_bound_holds(matrix: Enclosure, sigma: float) -> bool:
    """Whether |W|_2 <= sigma for every W enclosed, without any floating-point error theory.

    sigma^2 I - W W' is positive definite in balls.
    """
    if not (np.isfinite(sigma) and sigma >= 0):
        return False
    value = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.rearrange(np.transpose)
    magnitude = value.magnitude()
    rows, columns = magnitude.any(axis=1), magnitude.any(axis=0)
    value = value.rearrange(lambda w: w[np.ix_(rows, columns)])
    n = value.shape[0]

    def form() -> arb_mat:
        w = arb_matrix(to_balls(value))
        return _diagonal_matrix(n, arb(sigma) * arb(sigma)) - w * w.transpose()

    return _is_positive(n, form)


def _check_dimension(n: int) -> None:
    if n > MAX_DIMENSION:
        raise NotProvedError(
            f"a proof of dimension {n} is too large for ball arithmetic (limit {MAX_DIMENSION})",
            hint="check without --strict",
        )


def _is_positive(n: int, make: Callable[[], arb_mat]) -> bool:
    """Whether a symmetric n x n matrix A of balls, made at 106 bits, is proven positive definite.

    With L a float Cholesky factor of its midpoint and X near L^-1, the smallest singular value of L is at least
    (1 - |I - X L|) / |X|, and A > 0 if |A - L L'| is below its square.
    """
    if n == 0:
        return True
    _check_dimension(n)
    from flint import ctx

    before, ctx.prec = ctx.prec, 106
    try:
        form = make()
        middle = np.array([[float(form[i, j].mid()) for j in range(n)] for i in range(n)])
        try:
            lower = np.linalg.cholesky((middle + middle.T) / 2)
        except np.linalg.LinAlgError:
            return False
        inverse = np.linalg.inv(lower)
        if not (np.all(np.isfinite(lower)) and np.all(np.isfinite(inverse))):
            return False
        factor, x = arb_matrix(as_balls(lower)), arb_matrix(as_balls(inverse))
        defect = _frobenius(_diagonal_matrix(n, arb(1)) - x * factor)
        residual = _frobenius(form - factor * factor.transpose())
        smallest = (1 - defect) / _frobenius(x)
        return bool(defect < 1 and residual < smallest * smallest)
    finally:
        ctx.prec = before


def _frobenius(matrix: arb_mat) -> arb:
    total = arb(0)
    for entry in matrix.entries():
        largest = arb(entry.abs_upper())  # of the ball, which may reach below zero
        total += largest * largest
    return total.sqrt()


def _diagonal_matrix(n: int, entry: arb) -> arb_mat:
    matrix = arb_mat(n, n)
    for i in range(n):
        matrix[i, i] = entry
    return matrix


def _upper(balls: np.ndarray) -> np.ndarray:
    flat = [as_ball(b) for b in balls.reshape(-1)]
    bounds = [0.0 if b == 0 else up(float(b.upper())) for b in flat]
    return np.array(bounds).reshape(balls.shape)
