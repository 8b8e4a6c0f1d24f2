"""The Householder activation: a reflection where the group lies on one side of a hyperplane."""

from __future__ import annotations

from typing import Any

import numpy as np

from lipcert.activations.groupwise import GroupFunction, flat
from lipcert.activations.jacobian import BlockBound
from lipcert.arithmetic.enclosure import Enclosure, exact, hull
from lipcert.arithmetic.rounding import inflate, mul_up, norm_up, up


class Householder(GroupFunction):
    """w = v where s'v <= 0, else v - c s'v (Singla, Singla, Feizi 2022 with c = 2 s, |s| = 1).

    `normals` s and `shifts` c are enclosures of shape (G, width). Continuous whatever c and s are. Along any segment
    the Jacobian is I - t c s', 0 <= t <= 1, whose norms are convex in t: largest at t = 0 or 1.
    """

    name = "householder"

    def __init__(self, normals: Enclosure, shifts: Enclosure) -> None:
        self.normals, self.shifts = normals, shifts
        self.width = self.out_width = normals.shape[1]

    def value(self, x: np.ndarray) -> np.ndarray:
        grouped = self.groups(x)
        side = np.maximum((grouped * self.normals.value).sum(axis=-1, keepdims=True), 0.0)
        return flat(grouped - self.shifts.value * side)

    def enclose(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with np.errstate(invalid="ignore", over="ignore"):
            low, high = self._side(lower, upper)
            grouped = hull(self.groups(lower), self.groups(upper))
            result = grouped - self.shifts * hull(np.maximum(low, 0.0), np.maximum(high, 0.0))
            least, most = result.lower(), result.upper()
        return flat(np.where(np.isnan(least), -np.inf, least)), flat(np.where(np.isnan(most), np.inf, most))

    def jacobian(self, lower: np.ndarray, upper: np.ndarray) -> BlockBound:
        with np.errstate(invalid="ignore", over="ignore"):
            low, high = self._side(lower, upper)
        stays, turns = (high < 0)[:, :, None], (low > 0)[:, :, None]
        identity = np.eye(self.width)
        turned = self._turned().magnitude()
        entries = np.where(stays, identity, np.where(turns, turned, np.maximum(identity, turned)))

        def sums(axis: int) -> np.ndarray:
            total = inflate(turned.sum(axis=axis), self.width)
            return np.where(stays[:, :, 0], 1.0, np.where(turns[:, :, 0], total, np.maximum(1.0, total)))

        norms = np.where(stays[:, 0, 0], 1.0, np.maximum(1.0, self._turned_norm()))
        return BlockBound(norms, sums(2), sums(1), entries)

    def reflections(self, groups: int) -> tuple[Enclosure, Enclosure]:
        return self.normals, self.shifts

    def tangent(self, lower: np.ndarray, upper: np.ndarray, d: Enclosure) -> Enclosure:
        low, high = self._side(lower, upper)
        grouped = d.rearrange(self.groups)
        total = (self.normals * grouped).total()
        open_side = (low <= 0) & (high >= 0)
        t = Enclosure(np.where(open_side, 0.5, np.where(high < 0, 0.0, 1.0)), np.where(open_side, 0.5, 0.0))
        return (grouped - self.shifts * (t * total)).rearrange(flat)

    def jvp(self, x: np.ndarray, d: np.ndarray) -> np.ndarray:
        grouped = self.groups(d)
        turns = (self.groups(x) * self.normals.value).sum(axis=-1, keepdims=True) > 0
        moved = (grouped * self.normals.value).sum(axis=-1, keepdims=True)
        return flat(grouped - self.shifts.value * (turns * moved))

    def vjp(self, x: np.ndarray, g: np.ndarray) -> np.ndarray:
        grouped = self.groups(g)
        turns = (self.groups(x) * self.normals.value).sum(axis=-1, keepdims=True) > 0
        moved = (grouped * self.shifts.value).sum(axis=-1, keepdims=True)
        return flat(grouped - self.normals.value * (turns * moved))

    def torch(self, x: Any) -> Any:
        import torch

        grouped = x.reshape(len(x), -1, self.width)
        normals = torch.as_tensor(self.normals.value, dtype=x.dtype, device=x.device)
        shifts = torch.as_tensor(self.shifts.value, dtype=x.dtype, device=x.device)
        side = (grouped * normals).sum(-1, keepdim=True).clamp_min(0)
        return (grouped - shifts * side).reshape(len(x), -1)

    def _side(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bounds on s'v for each group, (G, 1); infinite where an entry of v is."""
        total = (self.normals * hull(self.groups(lower), self.groups(upper))).total()
        low, high = total.lower(), total.upper()
        return np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)

    def _turned(self) -> Enclosure:
        """I - c s' of each group, (G, width, width)."""
        outer = self.shifts.rearrange(lambda c: c[:, :, None]) * self.normals.rearrange(lambda s: s[:, None, :])
        return exact(np.eye(self.width)) - outer

    def _turned_norm(self) -> np.ndarray:
        """|I - c s'|_2 <= |I - a s s'| + |c - a s| |s|, a = c's / s's; the first is max(1, |1 - a s's|)."""
        s, c = self.normals.value, self.shifts.value
        a = (c * s).sum(axis=1, keepdims=True) / np.maximum((s * s).sum(axis=1, keepdims=True), 1e-300)
        square = (self.normals * self.normals).total()
        along = (exact(np.ones_like(a)) - exact(a) * square).magnitude()[:, 0]
        off = norm_up((self.shifts - exact(a) * self.normals).magnitude(), 2.0)
        return up(np.maximum(1.0, along) + mul_up(off, norm_up(self.normals.magnitude(), 2.0)))
