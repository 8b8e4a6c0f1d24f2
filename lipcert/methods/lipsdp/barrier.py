"""Newton steps of a barrier for small matrix inequalities with few variables, each between two bounds."""

from __future__ import annotations

import numpy as np
from scipy.linalg import LinAlgError, cho_solve, cholesky, solve_triangular


def newton(
    forms: np.ndarray, constant: np.ndarray, b: np.ndarray, y: np.ndarray, low: np.ndarray, high: np.ndarray, t: float
) -> tuple[np.ndarray, np.ndarray, float] | None:
    """One damped step of t b'y - log det P(y) - sum log (y - low)(high - y): y, P^-1 before it, Newton decrement."""
    size = len(constant)
    factor = factor_of(_symmetric(np.tensordot(y, forms, 1) - constant))
    if factor is None:
        return None
    half = solve_triangular(factor, np.eye(size), lower=True)
    inverse = half.T @ half
    seen = (inverse @ forms).reshape(len(y), -1)
    across = np.swapaxes(seen.reshape(forms.shape), 1, 2).reshape(len(y), -1)
    gradient = t * b - np.einsum("jii->j", seen.reshape(forms.shape)) - 1 / (y - low) + 1 / (high - y)
    hessian = seen @ across.T
    hessian[np.diag_indices(len(y))] += 1 / (y - low) ** 2 + 1 / (high - y) ** 2
    scale = 1 / np.sqrt(np.diag(hessian))
    upper = factor_of(_symmetric(hessian * np.outer(scale, scale) + 1e-12 * np.eye(len(y))))
    if upper is None:
        return None
    step = -scale * cho_solve((upper, True), scale * gradient)
    decrement = float(np.sqrt(max(0.0, -gradient @ step)))
    length = 1.0 if decrement < 0.25 else 1 / (1 + decrement)
    while length > 1e-4:
        moved = y + length * step
        inside = np.all((moved > low) & (moved < high))
        if inside and factor_of(_symmetric(np.tensordot(moved, forms, 1) - constant)) is not None:
            return moved, inverse, decrement
        length /= 2
    return None


def factor_of(matrix: np.ndarray) -> np.ndarray | None:
    """L with L L' = matrix, of which the lower triangle is read; None where it is not positive definite."""
    try:
        return np.asarray(cholesky(matrix, lower=True))
    except (LinAlgError, ValueError):
        return None


def _symmetric(matrix: np.ndarray) -> np.ndarray:
    return np.asarray((matrix + matrix.T) / 2)
