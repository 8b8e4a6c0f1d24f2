"""l_p norms of groups, and division by them: docs/groupwise.md."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lipcert.activations.groupwise import flat
from lipcert.activations.jacobian import BlockBound
from lipcert.activations.normalising import (
    Normalising,
    inverse,
    nearest_and_farthest,
    norm_down,
    quotient,
)
from lipcert.arithmetic.enclosure import Enclosure, exact, hull
from lipcert.arithmetic.rounding import inflate, mul_up, norm_up, up


class LpNormalise(Normalising):
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
        low, high = quotient(lower, upper, least, most)
        return np.fmax(low, -1.0), np.fmin(high, 1.0)

    def _sizes(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bounds on max(|x|_p, floor), (*batch, G, 1)."""
        nearest, farthest = nearest_and_farthest(lower, upper)
        least = norm_down(nearest, self.p)
        return np.maximum(least, self.floor), np.maximum(norm_up(farthest, float(self.p))[..., None], self.floor)

    def jacobian(self, lower: np.ndarray, upper: np.ndarray) -> BlockBound:
        n = self.width
        z = self._values(lower, upper).magnitude()
        with np.errstate(divide="ignore", over="ignore"):
            steepest = inverse(self._sizes(self.groups(lower), self.groups(upper))[0])
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


class LpNorm(Normalising):
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
