"""Functions that normalise a group: softmax, standardisation (layer and instance norm), division by an l_p norm.

Their Jacobians, and the bounds on their norms, are derived in docs/groupwise.md.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import numpy as np

from lipcert.activations.groupwise import MAX_ENTRIES, GroupFunction, flat
from lipcert.activations.jacobian import BlockBound
from lipcert.arithmetic.enclosure import Enclosure, exact, hull
from lipcert.arithmetic.rounding import down, inflate, mul_up, norm_up, sqrt_up, up

_LARGE = 1e150
"""Lower bounds are cut here: what a square or a sum overflowed to is no bound."""


class _Normalising(GroupFunction):
    """Shared arithmetic; every group is one block."""

    def __init__(self, width: int) -> None:
        self.width = self.out_width = width

    @abstractmethod
    def _bounds(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bounds on the function over the box, groups apart: (*batch, G, out_width)."""

    def enclose(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            low, high = self._bounds(self.groups(lower), self.groups(upper))
        return flat(np.where(np.isnan(low), -np.inf, low)), flat(np.where(np.isnan(high), np.inf, high))

    def _values(self, lower: np.ndarray, upper: np.ndarray) -> Enclosure:
        low, high = self.enclose(lower, upper)
        return hull(
            low.reshape(*low.shape[:-1], -1, self.out_width), high.reshape(*high.shape[:-1], -1, self.out_width)
        )

    def _few(self, size: int) -> bool:
        return size * self.out_width <= MAX_ENTRIES


class Softmax(_Normalising):
    """p_i = exp(x_i) / sum_j exp(x_j); J = diag(p) - p p', of norm at most 1/2 in l1, l2 and l-infinity."""

    name = "softmax"

    def value(self, x: np.ndarray) -> np.ndarray:
        grouped = self.groups(x)
        powers = np.exp(grouped - grouped.max(axis=-1, keepdims=True))
        return flat(powers / powers.sum(axis=-1, keepdims=True))

    def _bounds(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return _softmax_bounds(lower, upper)

    def jacobian(self, lower: np.ndarray, upper: np.ndarray) -> BlockBound:
        p = self._values(lower, upper)
        if self.width == 1:
            return _zero_block(len(p.value))
        low, high = p.lower(), p.upper()
        # p (1 - p) is largest at the p nearest to 1/2
        nearest = np.clip(0.5, low, high)
        diagonal = np.minimum(0.25, up(nearest * up(1 - nearest)))
        sums = 2 * diagonal
        entries = None
        if self._few(high.size):
            entries = np.minimum(0.25, mul_up(high[:, :, None], high[:, None, :]))
            entries[:, range(self.width), range(self.width)] = diagonal
        return BlockBound(sums.max(axis=1), sums, sums, entries)

    def tangent(self, lower: np.ndarray, upper: np.ndarray, d: Enclosure) -> Enclosure:
        p, moved = self._values(lower, upper), d.rearrange(self.groups)
        return (p * (moved - (p * moved).total())).rearrange(flat)

    def jvp(self, x: np.ndarray, d: np.ndarray) -> np.ndarray:
        p, moved = self.groups(self.value(x)), self.groups(d)
        return flat(p * (moved - (p * moved).sum(axis=-1, keepdims=True)))

    def vjp(self, x: np.ndarray, g: np.ndarray) -> np.ndarray:
        return self.jvp(x, g)  # J is symmetric

    def torch(self, x: Any) -> Any:
        return x.reshape(len(x), -1, self.width).softmax(dim=-1).reshape(len(x), -1)


class LogSoftmax(_Normalising):
    """x_i - log sum_j exp(x_j); J = I - 1 p'."""

    name = "log_softmax"

    def value(self, x: np.ndarray) -> np.ndarray:
        grouped = self.groups(x)
        shifted = grouped - grouped.max(axis=-1, keepdims=True)
        return flat(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))

    def _bounds(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        from lipcert.activations import Log

        # log of softmax, and (where that underflows) max <= logsumexp <= max + log n
        p_low, p_high = _softmax_bounds(lower, upper)
        low, high = Log().enclose(np.maximum(p_low, 5e-324), np.maximum(p_high, 5e-324))
        _, log_n = Log().enclose(np.array(float(self.width)), np.array(float(self.width)))
        crude = down(down(lower - upper.max(axis=-1, keepdims=True)) - log_n)
        above = np.minimum(up(upper - lower.max(axis=-1, keepdims=True)), 0.0)
        below = np.where(p_low > 0, np.fmax(low, crude), crude)
        return below, np.where(p_high > 0, np.fmin(high, above), above)

    def jacobian(self, lower: np.ndarray, upper: np.ndarray) -> BlockBound:
        n = self.width
        if n == 1:
            return _zero_block(lower.size)
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            p_low, p_high = _softmax_bounds(self.groups(lower), self.groups(upper))
        rest = np.minimum(1.0, up(1 - p_low))  # 1 - p_i
        rows = 2 * rest
        columns = up(1 + up((n - 2) * p_high))
        # |I - 1 p'|_2 = |1|_2 |p|_2 (I - P and P, an oblique projection, have the same norm), and |p|_2^2 <= max p
        norms = sqrt_up(up(n * p_high.max(axis=1)))
        entries = None
        if self._few(p_high.size):
            entries = np.repeat(p_high[:, None, :], n, axis=1)
            entries[:, range(n), range(n)] = rest
        return BlockBound(norms, rows, columns, entries)

    def tangent(self, lower: np.ndarray, upper: np.ndarray, d: Enclosure) -> Enclosure:
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            p = hull(*_softmax_bounds(self.groups(lower), self.groups(upper)))
        moved = d.rearrange(self.groups)
        return (moved - (p * moved).total()).rearrange(flat)

    def jvp(self, x: np.ndarray, d: np.ndarray) -> np.ndarray:
        p, moved = np.exp(self.groups(self.value(x))), self.groups(d)
        return flat(moved - (p * moved).sum(axis=-1, keepdims=True))

    def vjp(self, x: np.ndarray, g: np.ndarray) -> np.ndarray:
        p, pull = np.exp(self.groups(self.value(x))), self.groups(g)
        return flat(pull - p * pull.sum(axis=-1, keepdims=True))

    def torch(self, x: Any) -> Any:
        return x.reshape(len(x), -1, self.width).log_softmax(dim=-1).reshape(len(x), -1)


class Standardise(_Normalising):
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
        low, high = _quotient(center.lower(), center.upper(), *self._scale(lower, upper))
        return np.fmax(low, -root), np.fmin(high, root)

    def _scale(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bounds on s over the box, (*batch, G, 1)."""
        least = _least_spread(lower, upper) / self.width * _shrink(self.width)
        largest = inflate((_centered(lower, upper).magnitude() ** 2).sum(axis=-1, keepdims=True), 2 * self.width)
        most = up(inflate(largest / self.width, 2) + self.epsilon)
        return _root_down(least, self.epsilon), sqrt_up(most)

    def jacobian(self, lower: np.ndarray, upper: np.ndarray) -> BlockBound:
        n = self.width
        z = self._values(lower, upper).magnitude()
        groups = len(z)
        if n == 1:
            return _zero_block(groups)
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            steepest = _inverse(self._scale(self.groups(lower), self.groups(upper))[0])
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


class RootMeanSquare(_Normalising):
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
        low, high = _quotient(lower, upper, *self._scale(lower, upper))
        return np.fmax(low, -root), np.fmin(high, root)

    def _scale(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bounds on s over the box, (*batch, G, 1)."""
        n = self.width
        nearest, farthest = _nearest_and_farthest(lower, upper)
        least = np.minimum((nearest**2).sum(axis=-1, keepdims=True), _LARGE) / n * _shrink(n)
        most = up(inflate(inflate((farthest**2).sum(axis=-1, keepdims=True), 2 * n) / n, 2) + self.epsilon)
        return _root_down(least, self.epsilon), sqrt_up(most)

    def jacobian(self, lower: np.ndarray, upper: np.ndarray) -> BlockBound:
        n = self.width
        z = self._values(lower, upper).magnitude()
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            steepest = _inverse(self._scale(self.groups(lower), self.groups(upper))[0])
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


class LogSumExp(_Normalising):
    """log sum_j exp(x_j), one number for each group; J is the row of softmax."""

    name = "log_sum_exp"

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.out_width = 1

    def value(self, x: np.ndarray) -> np.ndarray:
        grouped = self.groups(x)
        largest = grouped.max(axis=-1, keepdims=True)
        return (largest + np.log(np.exp(grouped - largest).sum(axis=-1, keepdims=True)))[..., 0]

    def _bounds(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # increasing in every entry; log sum exp = x_k - log softmax(x)_k, for the largest entry k
        ends = []
        for corner in (lower, upper):
            k = corner.argmax(axis=-1)[..., None]
            logs = LogSoftmax(self.width)._bounds(corner, corner)
            largest = np.take_along_axis(corner, k, axis=-1)
            low, high = (np.take_along_axis(side, k, axis=-1) for side in logs)
            ends.append((down(largest - high), up(largest - low)))
        return ends[0][0], ends[1][1]

    def jacobian(self, lower: np.ndarray, upper: np.ndarray) -> BlockBound:
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            _, p_high = _softmax_bounds(self.groups(lower), self.groups(upper))
        norms = np.minimum(1.0, norm_up(p_high, 2.0))
        return BlockBound(norms, np.ones((len(p_high), 1)), p_high, p_high[:, None, :])

    def tangent(self, lower: np.ndarray, upper: np.ndarray, d: Enclosure) -> Enclosure:
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            p = hull(*_softmax_bounds(self.groups(lower), self.groups(upper)))
        return (p * d.rearrange(self.groups)).total().rearrange(flat)

    def jvp(self, x: np.ndarray, d: np.ndarray) -> np.ndarray:
        return (Softmax(self.width).value(x) * d).reshape(*x.shape[:-1], -1, self.width).sum(axis=-1)

    def vjp(self, x: np.ndarray, g: np.ndarray) -> np.ndarray:
        return flat(self.groups(Softmax(self.width).value(x)) * g[..., None])

    def torch(self, x: Any) -> Any:
        return x.reshape(len(x), -1, self.width).logsumexp(dim=-1)

    def describe(self) -> str:
        return f"log_sum_exp of {self.width}"


class LpNormalise(_Normalising):
    """x / max(|x|_p, floor), p in {1, 2}; not Lipschitz at 0 without a floor."""

    name = "lp_normalise"

    def __init__(self, width: int, p: int, floor: float = 0.0) -> None:
        super().__init__(width)
        self.p, self.floor = p, floor + 0.0  # plus zero: minus zero would turn quotients round

    def value(self, x: np.ndarray) -> np.ndarray:
        grouped = self.groups(x)
        size = np.maximum(np.linalg.norm(grouped, ord=self.p, axis=-1, keepdims=True), self.floor)
        return flat(np.divide(grouped, size, out=np.zeros_like(grouped), where=size > 0))

    def _bounds(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        least, most = self._sizes(lower, upper)
        low, high = _quotient(lower, upper, least, most)
        return np.fmax(low, -1.0), np.fmin(high, 1.0)

    def _sizes(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bounds on max(|x|_p, floor), (*batch, G, 1)."""
        nearest, farthest = _nearest_and_farthest(lower, upper)
        least = _norm_down(nearest, self.p)
        return np.maximum(least, self.floor), np.maximum(norm_up(farthest, float(self.p))[..., None], self.floor)

    def jacobian(self, lower: np.ndarray, upper: np.ndarray) -> BlockBound:
        n = self.width
        z = self._values(lower, upper).magnitude()
        with np.errstate(divide="ignore", over="ignore"):
            steepest = _inverse(self._sizes(self.groups(lower), self.groups(upper))[0])
        if self.p == 2:
            # (I - z z') / size, or I / floor below it
            row = np.minimum(math.sqrt(n) * (1 + 1e-15), up(1 + mul_up(z, inflate(z.sum(axis=1, keepdims=True), n))))
            rows = columns = mul_up(np.maximum(1.0, row), steepest[:, None])
            norms = steepest
        else:
            # (I - z sign(x)') / size: an oblique projection, of l2 norm |z|_2 |sign|_2
            rows = mul_up(up(1 + up(max(0, n - 2) * z)), steepest[:, None])
            columns = np.full_like(rows, 2.0) * steepest[:, None]
            norms = mul_up(math.sqrt(n) * (1 + 1e-15), steepest)
        return BlockBound(norms, rows, columns)

    def obstacle(self, lower: np.ndarray, upper: np.ndarray) -> str:
        return "division by a norm is not Lipschitz where the norm is 0"

    def tangent(self, lower: np.ndarray, upper: np.ndarray, d: Enclosure) -> Enclosure:
        low, high = self.groups(lower), self.groups(upper)
        least, most = self._sizes(low, high)
        moved = d.rearrange(self.groups)
        scale = hull(least, most)
        if not np.all(scale.lower() > 0):
            return Enclosure(d.value, np.full(d.shape, np.inf))
        inverse = exact(np.ones_like(least)) / scale
        z = self._values(lower, upper)
        if self.p == 2:
            direction = z
        else:
            sign_low, sign_high = np.where(low > 0, 1.0, -1.0), np.where(high < 0, -1.0, 1.0)
            direction = hull(sign_low, sign_high)
        along = z * (direction * moved).total()
        # where the norm may lie below the floor, the correction may be absent
        absent = (least <= self.floor) & (self.floor > 0)
        gone = absent & (most <= self.floor)
        share = Enclosure(np.where(absent, np.where(gone, 0.0, 0.5), 1.0), np.where(absent & ~gone, 0.5, 0.0))
        return ((moved - along * share) * inverse).rearrange(flat)

    def jvp(self, x: np.ndarray, d: np.ndarray) -> np.ndarray:
        grouped, moved = self.groups(x), self.groups(d)
        size, z, direction, active = self._parts(grouped)
        return flat((moved - active * z * (direction * moved).sum(axis=-1, keepdims=True)) / size)

    def vjp(self, x: np.ndarray, g: np.ndarray) -> np.ndarray:
        grouped, pull = self.groups(x), self.groups(g)
        size, z, direction, active = self._parts(grouped)
        return flat((pull - active * direction * (z * pull).sum(axis=-1, keepdims=True)) / size)

    def _parts(self, grouped: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        norm = np.linalg.norm(grouped, ord=self.p, axis=-1, keepdims=True)
        size = np.maximum(norm, max(self.floor, 1e-300))
        z = grouped / size
        return size, z, z if self.p == 2 else np.sign(grouped), norm > self.floor

    def torch(self, x: Any) -> Any:
        grouped = x.reshape(len(x), -1, self.width)
        size = grouped.norm(p=self.p, dim=-1, keepdim=True).clamp_min(max(self.floor, 1e-30))
        return (grouped / size).reshape(len(x), -1)

    def describe(self) -> str:
        return f"x / |x|_{self.p}" if not self.floor else f"x / max(|x|_{self.p}, {self.floor:g})"


class LpNorm(_Normalising):
    """|x|_p, p in {1, 2}, one number for each group; J is a row: z' (p = 2), sign(x)' (p = 1)."""

    name = "lp_norm"

    def __init__(self, width: int, p: int) -> None:
        super().__init__(width)
        self.p, self.out_width = p, 1

    def value(self, x: np.ndarray) -> np.ndarray:
        return np.linalg.norm(self.groups(x), ord=self.p, axis=-1)

    def _bounds(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return LpNormalise(self.width, self.p)._sizes(lower, upper)

    def jacobian(self, lower: np.ndarray, upper: np.ndarray) -> BlockBound:
        n, groups = self.width, lower.size // self.width
        root = math.sqrt(n) * (1 + 1e-15) if n > 1 else 1.0
        one = np.ones(groups)
        row = float(n) if self.p == 1 else root
        entries = np.ones((groups, 1, n))
        norm = root if self.p == 1 else 1.0
        return BlockBound(norm * one, np.full((groups, 1), row), np.ones((groups, n)), entries)

    def tangent(self, lower: np.ndarray, upper: np.ndarray, d: Enclosure) -> Enclosure:
        low, high = self.groups(lower), self.groups(upper)
        moved = d.rearrange(self.groups)
        sign_low, sign_high = np.where(low > 0, 1.0, -1.0), np.where(high < 0, -1.0, 1.0)
        if self.p == 2:
            z = LpNormalise(self.width, 2)._values(lower, upper)
            smooth = LpNormalise(self.width, 2)._sizes(low, high)[0] > 0  # at 0, J is anything in the unit ball
            row = hull(
                np.where(smooth, np.maximum(z.lower(), -1.0), -1.0), np.where(smooth, np.minimum(z.upper(), 1.0), 1.0)
            )
        else:
            row = hull(sign_low, sign_high)
        return (row * moved).total().rearrange(flat)

    def jvp(self, x: np.ndarray, d: np.ndarray) -> np.ndarray:
        return (self._row(x) * self.groups(d)).sum(axis=-1)

    def vjp(self, x: np.ndarray, g: np.ndarray) -> np.ndarray:
        return flat(self._row(x) * g[..., None])

    def _row(self, x: np.ndarray) -> np.ndarray:
        return self.groups(LpNormalise(self.width, 2).value(x)) if self.p == 2 else np.sign(self.groups(x))

    def torch(self, x: Any) -> Any:
        return x.reshape(len(x), -1, self.width).norm(p=self.p, dim=-1)

    def describe(self) -> str:
        return f"|x|_{self.p} of {self.width}"


def _zero_block(groups: int) -> BlockBound:
    zero = np.zeros((groups, 1))
    return BlockBound(zero[:, 0], zero, zero)


def _nearest_and_farthest(lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest |x_i| over the box."""
    return np.maximum(0.0, np.maximum(lower, -upper)), np.maximum(np.abs(lower), np.abs(upper))


def _shrink(n: int) -> float:
    """Turns a float64 sum of n non-negative terms, or a root of it, into a lower bound."""
    return 1 - 4 * (n + 16) * 2.0**-53


def _norm_down(v: np.ndarray, p: int) -> np.ndarray:
    """Lower bounds on the l_p norms, p in {1, 2}, of non-negative vectors along the last axis, which is kept."""
    largest = v.max(axis=-1, keepdims=True)
    scale = np.ldexp(1.0, np.clip(np.frexp(np.where(largest > 0, largest, 1.0))[1], -1000, 1000))
    scaled = v / scale  # exact but for underflows, far below the largest entry
    total = scaled.sum(axis=-1, keepdims=True) if p == 1 else np.sqrt((scaled**2).sum(axis=-1, keepdims=True))
    with np.errstate(over="ignore"):
        return np.maximum(largest, down(total * _shrink(v.shape[-1]) * scale))  # of infinity: the largest float


def _root_down(squares: np.ndarray, epsilon: float) -> np.ndarray:
    """Lower bound on sqrt(squares + epsilon), at least 0."""
    return np.fmax(0.0, down(np.sqrt(np.fmax(0.0, down(squares + epsilon)))))


def _inverse(least: np.ndarray) -> np.ndarray:
    """(G,) upper bounds on 1 / s from lower bounds (G, 1) on s >= 0; infinite where s may be 0 or is not known."""
    positive = least > 0
    return np.where(positive, up(1 / np.where(positive, least, 1.0)), np.inf)[:, 0]


def _quotient(low: np.ndarray, high: np.ndarray, least: np.ndarray, most: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounds on [low, high] / [least, most] for a divisor 0 <= least <= most; NaN or infinite where it may be 0."""
    return down(low / np.where(low >= 0, most, least)), up(high / np.where(high >= 0, least, most))


def _softmax_bounds(lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each probability is lowest where its own entry is lowest and the others are highest, and the other way round."""
    return _share(lower, upper, least=True), _share(upper, lower, least=False)


def _share(own: np.ndarray, others: np.ndarray, least: bool) -> np.ndarray:
    """exp(own_i) / (exp(own_i) + sum_{j != i} exp(others_j)), rounded down (least) or up."""
    from lipcert.activations import Exp

    n = own.shape[-1]
    if n == 1:
        return np.ones_like(own)
    round_own, round_rest = (down, up) if least else (up, down)
    shift = np.maximum(own, others).max(axis=-1, keepdims=True)
    shift = np.where(np.isfinite(shift), shift, 0.0)
    exponent_own, exponent_rest = round_own(own - shift), round_rest(others - shift)
    numerator = Exp().enclose(exponent_own, exponent_own)[0 if least else 1]
    powers = Exp().enclose(exponent_rest, exponent_rest)[1 if least else 0]
    # sums without one entry, each by itself: the difference from the full sum would cancel
    before = _sums_without(powers)
    rest = inflate(before, n) if least else np.maximum(before * _shrink(n) - n * 1e-300, 0.0)
    share = numerator / (numerator + rest)
    bound = share * (1 - 2.0**-50) - 1e-300 if least else share * (1 + 2.0**-50) + 1e-300
    bound = np.clip(bound, 0.0, 1.0)
    return np.where(np.isfinite(bound), bound, 0.0 if least else 1.0)


def _sums_without(powers: np.ndarray) -> np.ndarray:
    """For each entry the sum of all others: prefix sums from both sides, which are sums of non-negative numbers."""
    left = np.cumsum(powers, axis=-1)
    right = np.cumsum(powers[..., ::-1], axis=-1)[..., ::-1]
    zero = np.zeros_like(powers[..., :1])
    return np.concatenate([zero, left[..., :-1]], axis=-1) + np.concatenate([right[..., 1:], zero], axis=-1)


def _centered(lower: np.ndarray, upper: np.ndarray) -> Enclosure:
    """x - mean(x) = (1 - 1/n) x_i - (1/n) sum of the others, over the box."""
    n = lower.shape[-1]
    x = hull(lower, upper)
    part = exact(np.array(1.0)) / exact(np.array(float(n)))
    others = Enclosure(_sums_of_others(x.value), inflate(_sums_without(x.full_radius()) + _rounding(x, n), 2 * n + 8))
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
    spread = np.minimum((distance**2).sum(axis=-1, keepdims=True), _LARGE)
    # rounding of the slope: each of its 2 n terms, at most |right - left|, is off by two roundings or so
    n, width = lower.shape[-1], right - left
    error = (np.abs(slope(c)) + 8 * n * (n + 4) * width * 2.0**-53) * width
    return np.where(apart, np.fmax(0.0, spread * _shrink(n) - error * (1 + 1e-12) - 1e-300), 0.0)  # 0 for NaN
