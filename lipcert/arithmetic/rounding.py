"""Upward-rounded float64 operations on non-negative arrays, and error-free transformations.

Model of arithmetic: IEEE 754 binary64, round to nearest, any order of summation (BLAS included), gradual
underflow (verify refuses to run where subnormals are flushed).
Sources: Higham, Accuracy and Stability of Numerical Algorithms (2002), chapter 3
(gamma_n); Dekker 1971 and Knuth (two-product, two-sum); Rump 2010, Acta Numerica, section 3.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float

U = 2.0**-53
"""Unit roundoff of binary64."""

ETA = 2.0**-1022
"""Bound on the absolute error of one operation that underflows, with room to spare."""


def flushes_to_zero() -> bool:
    """Whether this thread drops subnormal numbers, against which `up` and `down` do not protect."""
    tiny, least = np.array([2.0**-1022]), np.array([5e-324])
    return not ((tiny * 0.5)[0] > 0 and (least * 1.0)[0] > 0)


def up(x: Any) -> Any:
    """The next float64 above: turns a correctly rounded result into an upper bound."""
    return np.nextafter(x, np.inf)


def down(x: Any) -> Any:
    """The next float64 below: turns a correctly rounded result into a lower bound."""
    return np.nextafter(x, -np.inf)


def gamma(n: int) -> float:
    """Upper bound on gamma_n = n u / (1 - n u), the relative error of n roundings; needs 8 n u < 1."""
    if not 0 <= n < 1 / (8 * U):
        raise ValueError(f"gamma_n is undefined for n = {n}")
    return float(up(up(n * U) / down(1 - up(n * U))))


def inflate(s: Any, n: int) -> Any:
    """Upper bound on a sum of products of at most n roundings in all, non-negative, evaluated to `s`.

    The true value is at most s (1 + n u / (1 - 2 n u)) plus n underflows; the factor 1 + 2 (n + 4) u covers that
    and the rounding of this line itself.
    """
    return s * (1 + 2 * (n + 4) * U) + (n + 1) * ETA


def add_up(a: Any, b: Any) -> Any:
    """Upper bound on a + b; exact where either is zero."""
    return np.where((a == 0) | (b == 0), a + b, up(a + b))


def mul_up(a: Any, b: Any) -> Any:
    """Upper bound on a b for a, b >= 0; exact where either is zero or one."""
    with np.errstate(invalid="ignore"):
        product = a * b
    exact_zero = (a == 0) | (b == 0)
    return np.where(exact_zero, 0.0, np.where((a == 1) | (b == 1), product, up(product)))


def sum_up(v: Float[np.ndarray, " n"]) -> float:
    """Upper bound on the sum of non-negative numbers."""
    return float(inflate(np.sum(v), len(v))) if np.any(v) else 0.0


def sqrt_up(x: Any) -> Any:
    """Upper bound on the square root of x >= 0."""
    return np.where(x == 0, 0.0, up(np.sqrt(x)))


def norm_up(v: Float[np.ndarray, "*batch n"], q: float) -> Any:
    """Upper bound on the l_q norm, q in {1, 2, inf}, of non-negative vectors along the last axis."""
    if v.shape[-1] == 0 or not np.any(v):
        return np.zeros(v.shape[:-1])
    if q == math.inf:
        return np.max(v, axis=-1)
    n = v.shape[-1]
    if q == 1:
        return inflate(np.sum(v, axis=-1), n)
    scale = _power_of_two(np.max(v, axis=-1))
    scaled = v / scale[..., None]  # exact, but for underflows that `inflate` covers
    return up(up(np.sqrt(inflate(np.sum(scaled * scaled, axis=-1), 2 * n))) * scale)


def norm_down(v: Float[np.ndarray, " n"], q: float) -> float:
    """Lower bound on the l_q norm, q in {1, 2, inf}, of one non-negative vector."""
    if not np.any(v):
        return 0.0
    if q == math.inf:
        return float(np.max(v))
    n = len(v)
    shrink = 1 - 4 * (n + 4) * U
    if q == 1:
        return max(0.0, min(float(np.sum(v)), sys.float_info.max) * shrink - n * ETA)
    scale = float(_power_of_two(np.max(v)))
    scaled = v / scale
    return max(0.0, float(down(down(math.sqrt(float(np.sum(scaled * scaled)) * shrink)) * scale)))


def _power_of_two(x: Any) -> Any:
    """The power of two at or just above |x| (1 for x = 0), kept within the normal range."""
    _, exponent = np.frexp(np.asarray(x, dtype=float))
    return np.ldexp(1.0, np.clip(np.where(np.asarray(x) == 0, 0, exponent), -1000, 1000))


def two_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """(s, e) with s = fl(a + b) and a + b = s + e exactly (Knuth)."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def two_product(a: Any, b: Any) -> tuple[Any, Any]:
    """(p, e) with p = fl(a b) and |a b - p| <= e, e = 0 where the product is exact (Dekker).

    Where splitting could overflow or underflow, e is the plain bound u |p| + eta.
    """
    p = a * b
    with np.errstate(all="ignore"):
        ah, al = _split(a)
        bh, bl = _split(b)
        error = np.abs(((ah * bh - p) + ah * bl + al * bh) + al * bl)
    magnitude = np.abs(p)
    trivial = (a == 0) | (b == 0) | (np.abs(a) == 1) | (np.abs(b) == 1)
    safe = (magnitude > 1e-250) & (magnitude < 1e250) & (np.abs(a) < 1e150) & (np.abs(b) < 1e150)
    return p, np.where(trivial, 0.0, np.where(safe, error, magnitude * (2 * U) + ETA))


def _split(a: Any) -> tuple[Any, Any]:
    c = 134217729.0 * a  # 2^27 + 1 (Veltkamp)
    high = c - (c - a)
    return high, a - high
