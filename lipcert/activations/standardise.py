"""Standardisation (the core of layer, instance and group norm) and the root mean square norm: docs/groupwise.md."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lipcert.activations.groupwise import flat
from lipcert.activations.jacobian import BlockBound
from lipcert.activations.normalising import (
    LARGE,
    Normalising,
    inverse,
    nearest_and_farthest,
    quotient,
    root_down,
    shrink,
    sums_without,
    zero_block,
)
from lipcert.arithmetic.enclosure import Enclosure, exact, hull
from lipcert.arithmetic.rounding import down, inflate, mul_up, sqrt_up, up


class Standardise(Normalising):
    """z = (x - mean) / sqrt(variance + epsilon), the variance with divisor n (Ba, Kiros, Hinton 2016).

    J = (C - z z'/n) / s, with C the projection off the mean and s the root: |J|_2 <= 1 / s <= 1 / sqrt(epsilon).
    """

    name = "standardise"

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__(width)
        self.epsilon = epsilon

    def value(self, x: np.ndarray) -> np.ndarray:
        grouped = self.groups(x)
        centered = grouped - grouped.mean(axis=-1, keepdims=True)
        return flat(centered / np.sqrt((centered**2).mean(axis=-1, keepdims=True) + self.epsilon))

    def _bounds(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n = self.width
        if n == 1:
            return np.zeros_like(lower), np.zeros_like(upper)
        root = float(up(math.sqrt(n - 1)))  # |z_i| <= sqrt(n - 1)
        center = _centered(lower, upper)
        low, high = quotient(center.lower(), center.upper(), *self._scale(lower, upper))
        return np.fmax(low, -root), np.fmin(high, root)

    def _scale(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bounds on s over the box, (*batch, G, 1)."""
        least = _least_spread(lower, upper) / self.width * shrink(self.width)
        largest = inflate((_centered(lower, upper).magnitude() ** 2).sum(axis=-1, keepdims=True), 2 * self.width)
        most = up(inflate(largest / self.width, 2) + self.epsilon)
        return root_down(least, self.epsilon), sqrt_up(most)

    def jacobian(self, lower: np.ndarray, upper: np.ndarray) -> BlockBound:
        n = self.width
        z = self._values(lower, upper).magnitude()
        groups = len(z)
        if n == 1:
            return zero_block(groups)
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            steepest = inverse(self._scale(self.groups(lower), self.groups(upper))[0])
        mean_z = np.minimum(1.0, inflate(z.sum(axis=1), n) / n)  # |z|_1 / n <= |z|_2 / sqrt(n) <= 1
        near = up(up(2.0 - down(2.0 / n)) + mul_up(z, inflate(mean_z, 2)[:, None]))
        sums = mul_up(np.minimum(float(up(math.sqrt(n - 1))), near), steepest[:, None])
        entries = None
        if self._few(z.size):
            products = up(mul_up(z[:, :, None], z[:, None, :]) / n)
            entries = up(products + up(1 / n))
            entries[:, range(n), range(n)] = up(products[:, range(n), range(n)] + up(1 - down(1 / n)))
            entries = mul_up(entries, steepest[:, None, None])
        return BlockBound(steepest, sums, sums, entries)

    def tangent(self, lower: np.ndarray, upper: np.ndarray, d: Enclosure) -> Enclosure:
        if self.width == 1:
            return exact(np.zeros(d.shape))
        z, moved = self._values(lower, upper), d.rearrange(self.groups)
        part = exact(np.array(1.0)) / exact(np.array(float(self.width)))
        least, most = self._scale(self.groups(lower), self.groups(upper))
        scale = hull(least, most)
        if not np.all(scale.lower() > 0):
            return Enclosure(d.value, np.full(d.shape, np.inf))
        change = moved - moved.total() * part - z * ((z * moved).total() * part)
        return (change / scale).rearrange(flat)

    def jvp(self, x: np.ndarray, d: np.ndarray) -> np.ndarray:
        z, moved = self.groups(self.value(x)), self.groups(d)
        s = np.sqrt(self.groups(x).var(axis=-1, keepdims=True) + self.epsilon)
        return flat((moved - moved.mean(axis=-1, keepdims=True) - z * (z * moved).mean(axis=-1, keepdims=True)) / s)

    def vjp(self, x: np.ndarray, g: np.ndarray) -> np.ndarray:
        return self.jvp(x, g)  # J is symmetric

    def torch(self, x: Any) -> Any:
        from torch.nn import functional

        return functional.layer_norm(x.reshape(len(x), -1, self.width), (self.width,), eps=self.epsilon).reshape(
            len(x), -1
        )

    def describe(self) -> str:
        return f"standardise(epsilon={self.epsilon:g})"


class RootMeanSquare(Normalising):
    """z = x / sqrt(mean(x^2) + epsilon) (Zhang, Sennrich 2019); J = (I - z z'/n) / s: |J|_2 <= 1 / s."""

    name = "root_mean_square"

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__(width)
        self.epsilon = epsilon

    def value(self, x: np.ndarray) -> np.ndarray:
        grouped = self.groups(x)
        return flat(grouped / np.sqrt((grouped**2).mean(axis=-1, keepdims=True) + self.epsilon))

    def _bounds(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        root = float(up(math.sqrt(self.width)))  # |z_i| <= sqrt(n)
        low, high = quotient(lower, upper, *self._scale(lower, upper))
        return np.fmax(low, -root), np.fmin(high, root)

    def _scale(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bounds on s over the box, (*batch, G, 1)."""
        n = self.width
        nearest, farthest = nearest_and_farthest(lower, upper)
        least = np.minimum((nearest**2).sum(axis=-1, keepdims=True), LARGE) / n * shrink(n)
        most = up(inflate(inflate((farthest**2).sum(axis=-1, keepdims=True), 2 * n) / n, 2) + self.epsilon)
        return root_down(least, self.epsilon), sqrt_up(most)

    def jacobian(self, lower: np.ndarray, upper: np.ndarray) -> BlockBound:
        n = self.width
        z = self._values(lower, upper).magnitude()
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            steepest = inverse(self._scale(self.groups(lower), self.groups(upper))[0])
        mean_z = np.minimum(1.0, inflate(z.sum(axis=1), n) / n)  # |z|_1 / n <= |z|_2 / sqrt(n) <= 1
        near = up(1.0 + mul_up(z, inflate(mean_z, 2)[:, None]))
        sums = mul_up(np.minimum(float(up(math.sqrt(n))), near), steepest[:, None])
        return BlockBound(steepest, sums, sums)

    def tangent(self, lower: np.ndarray, upper: np.ndarray, d: Enclosure) -> Enclosure:
        least, most = self._scale(self.groups(lower), self.groups(upper))
        scale = hull(least, most)
        if not np.all(scale.lower() > 0):
            return Enclosure(d.value, np.full(d.shape, np.inf))
        z, moved = self._values(lower, upper), d.rearrange(self.groups)
        part = exact(np.array(1.0)) / exact(np.array(float(self.width)))
        return ((moved - z * ((z * moved).total() * part)) / scale).rearrange(flat)

    def jvp(self, x: np.ndarray, d: np.ndarray) -> np.ndarray:
        z, moved = self.groups(self.value(x)), self.groups(d)
        s = np.sqrt((self.groups(x) ** 2).mean(axis=-1, keepdims=True) + self.epsilon)
        return flat((moved - z * (z * moved).mean(axis=-1, keepdims=True)) / s)

    def vjp(self, x: np.ndarray, g: np.ndarray) -> np.ndarray:
        return self.jvp(x, g)  # J is symmetric

    def torch(self, x: Any) -> Any:
        grouped = x.reshape(len(x), -1, self.width)
        return (grouped / (grouped.square().mean(dim=-1, keepdim=True) + self.epsilon).sqrt()).reshape(len(x), -1)

    def describe(self) -> str:
        return f"root_mean_square(epsilon={self.epsilon:g})"


def _centered(lower: np.ndarray, upper: np.ndarray) -> Enclosure:
    """x - mean(x) = (1 - 1/n) x_i - (1/n) sum of the others, over the box."""
    n = lower.shape[-1]
    x = hull(lower, upper)
    part = exact(np.array(1.0)) / exact(np.array(float(n)))
    others = Enclosure(_sums_of_others(x.value), inflate(sums_without(x.full_radius()) + _rounding(x, n), 2 * n + 8))
    return x * (exact(np.array(1.0)) - part) - others * part


def _sums_of_others(x: np.ndarray) -> np.ndarray:
    left = np.cumsum(x, axis=-1)
    right = np.cumsum(x[..., ::-1], axis=-1)[..., ::-1]
    zero = np.zeros_like(x[..., :1])
    return np.concatenate([zero, left[..., :-1]], axis=-1) + np.concatenate([right[..., 1:], zero], axis=-1)


def _rounding(x: Enclosure, n: int) -> np.ndarray:
    return np.abs(x.value).sum(axis=-1, keepdims=True) * (n + 4) * 2.0**-53


def _least_spread(lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Lower bound on sum_i (x_i - mean)^2 over the box, (*batch, G, 1).

    It is the least over c of g(c) = sum_i dist(c, [l_i, u_i])^2, a convex function: for any c0 and the least c between
    a and b, g(c) >= g(c0) - |g'(c0)| max(b - c0, c0 - a).
    """
    a = lower.max(axis=-1, keepdims=True)  # the largest lower end and the smallest upper end hold the least c
    b = upper.min(axis=-1, keepdims=True)
    apart = np.isfinite(a) & np.isfinite(b) & (a > b)
    left, right = np.where(apart, b, 0.0), np.where(apart, a, 0.0)
    lo, hi = left.copy(), right.copy()

    def slope(c: np.ndarray) -> np.ndarray:
        return 2 * (np.maximum(0.0, c - upper) - np.maximum(0.0, lower - c)).sum(axis=-1, keepdims=True)

    for _ in range(60):
        middle = lo / 2 + hi / 2
        rising = slope(middle) > 0
        lo, hi = np.where(rising, lo, middle), np.where(rising, middle, hi)
    c = lo / 2 + hi / 2
    distance = np.maximum(np.maximum(0.0, c - upper), np.maximum(0.0, lower - c))
    spread = np.minimum((distance**2).sum(axis=-1, keepdims=True), LARGE)
    # rounding of the slope: each of its 2 n terms, at most |right - left|, is off by two roundings or so
    n, width = lower.shape[-1], right - left
    error = (np.abs(slope(c)) + 8 * n * (n + 4) * width * 2.0**-53) * width
    return np.where(apart, np.fmax(0.0, spread * shrink(n) - error * (1 + 1e-12) - 1e-300), 0.0)  # 0 for NaN
