"""Enclosures: arrays known up to an elementwise radius, closed under the operations that networks fold.

An `Enclosure` stands for every real array T with |T - value| <= radius. Operations return an enclosure of all
results, rounding included (midpoint-radius arithmetic, Rump 2010, section 9).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lipcert.arithmetic.rounding import ETA, U, gamma, inflate, two_product, two_sum, up


@dataclass(frozen=True, eq=False)
class Enclosure:
    """All real arrays within `radius` (elementwise, >= 0; the scalar 0.0 where exact) of `value` (float64)."""

    value: np.ndarray
    radius: Any = 0.0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def is_exact(self) -> bool:
        return not np.any(self.radius)

    @property
    def is_finite(self) -> bool:
        return bool(np.all(np.isfinite(self.value)) and np.all(np.isfinite(self.radius)))

    def magnitude(self) -> np.ndarray:
        """Upper bound on |T|."""
        absolute = np.abs(self.value)
        return absolute if self.is_exact else up(absolute + self.radius)

    def lower(self) -> np.ndarray:
        """Lower bounds on T; minus infinity where the value overflowed."""
        low = self.value if self.is_exact else np.nextafter(self.value - self.radius, -np.inf)
        return np.where(np.isfinite(self.value) & ~np.isnan(low), low, -np.inf)

    def upper(self) -> np.ndarray:
        """Upper bounds on T; infinity where the value overflowed."""
        high = self.value if self.is_exact else up(self.value + self.radius)
        return np.where(np.isfinite(self.value) & ~np.isnan(high), high, np.inf)

    def full_radius(self) -> np.ndarray:
        return np.broadcast_to(np.asarray(self.radius, dtype=float), self.value.shape)

    def rearrange(self, move: Callable[[np.ndarray], np.ndarray]) -> Enclosure:
        """Apply a rearrangement (reshape, transpose, slice, broadcast) to value and radius alike."""
        return Enclosure(move(self.value), 0.0 if self.is_exact else move(self.full_radius()))

    def reshape(self, shape: tuple[int, ...]) -> Enclosure:
        return self.rearrange(lambda a: a.reshape(shape))

    def __neg__(self) -> Enclosure:
        return Enclosure(-self.value, self.radius)

    def __add__(self, other: Enclosure) -> Enclosure:
        value, error = two_sum(self.value, other.value)
        return self._enclose(other, value, np.abs(error), lambda: self.radius + other.radius)

    def __sub__(self, other: Enclosure) -> Enclosure:
        return self + (-other)

    def __mul__(self, other: Enclosure) -> Enclosure:
        value, error = two_product(self.value, other.value)
        a, b = np.abs(self.value), np.abs(other.value)
        spread = lambda: inflate(a * other.radius + self.radius * (b + other.radius), 4)  # noqa: E731
        return self._enclose(other, value, error, spread)

    def __truediv__(self, other: Enclosure) -> Enclosure:
        """Quotient; ZeroDivisionError where the divisor's enclosure contains zero."""
        margin = (
            np.nextafter(np.abs(other.value) - other.radius, -np.inf) if not other.is_exact else np.abs(other.value)
        )
        if not np.all(margin > 0):
            raise ZeroDivisionError("division by an enclosure that contains zero")
        value = self.value / other.value
        product, error = two_product(value, other.value)
        rounding = np.where((product == self.value) & (error == 0), 0.0, np.abs(value) * (2 * U) + ETA)
        spread = lambda: inflate(self.radius + (np.abs(value) + ETA) * other.radius, 4) / margin  # noqa: E731
        return self._enclose(other, value, rounding, spread)

    def __matmul__(self, other: Enclosure) -> Enclosure:
        k = self.value.shape[-1]
        value = self.value @ other.value
        a, b = np.abs(self.value), np.abs(other.value)
        radius = gamma(k + 1) * (a @ b)
        if not other.is_exact:
            radius = radius + a @ other.full_radius()
        if not self.is_exact:
            radius = radius + self.full_radius() @ (b + other.radius)
        return Enclosure(value, inflate(radius, 2 * k + 8))

    def total(self) -> Enclosure:
        """Sum along the last axis, which is kept with one entry."""
        n = self.value.shape[-1]
        value = self.value.sum(axis=-1, keepdims=True)
        radius = self.full_radius().sum(axis=-1, keepdims=True)
        if n < 2:
            return Enclosure(value, radius)
        size = np.abs(self.value).sum(axis=-1, keepdims=True)
        return Enclosure(value, inflate(radius + gamma(n) * size, 2 * n + 8))

    def sqrt(self) -> Enclosure:
        """Square root; ValueError where the enclosure reaches below zero."""
        if np.any(self.lower() < 0):
            raise ValueError("square root of an enclosure that reaches below zero")
        value = np.sqrt(self.value)
        with np.errstate(divide="ignore", invalid="ignore"):
            # |sqrt(t) - sqrt(v)| = |t - v| / (sqrt(t) + sqrt(v)) <= radius / sqrt(v)
            spread = np.where(self.full_radius() == 0, 0.0, inflate(self.radius / value, 2))
        exact = (value * value == self.value) & (two_product(value, value)[1] == 0)
        return self._enclose(self, value, np.where(exact, 0.0, value * (2 * U) + ETA), lambda: spread)

    def _enclose(self, other: Enclosure, value: np.ndarray, error: np.ndarray, spread: Callable[[], Any]) -> Enclosure:
        """The result of an operation on self and other: its rounding error, and what their radii add (if any)."""
        if self.is_exact and other.is_exact:
            return Enclosure(value, inflate(error, 8) if np.any(error) else 0.0)
        return Enclosure(value, inflate(error + spread(), 10))


def exact(value: Any) -> Enclosure:
    """The enclosure of one float64 array, radius zero."""
    return Enclosure(np.asarray(value, dtype=np.float64))


def hull(lower: np.ndarray, upper: np.ndarray) -> Enclosure:
    """The smallest midpoint-radius form (up to rounding) that contains [lower, upper]; infinite bounds allowed."""
    finite = np.isfinite(lower) & np.isfinite(upper)
    with np.errstate(invalid="ignore"):
        middle = np.where(finite, lower / 2 + upper / 2, 0.0)
        radius = np.where(lower == upper, 0.0, up(np.maximum(up(upper - middle), up(middle - lower))))
    return Enclosure(np.where(lower == upper, lower, middle), np.where(finite, radius, np.inf))


def stack(parts: list[Enclosure], axis: int) -> Enclosure:
    """Concatenate along `axis`."""
    value = np.concatenate([p.value for p in parts], axis=axis)
    if all(p.is_exact for p in parts):
        return Enclosure(value)
    return Enclosure(value, np.concatenate([p.full_radius() for p in parts], axis=axis))
