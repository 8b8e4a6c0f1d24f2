"""Functions that choose among the entries of a group: sorting (MaxMin is GroupSort of 2) and the maximum.

Along any segment their Jacobian is a mean of selections: of permutations for the sort (doubly stochastic matrices,
of norm 1 in l1, l2 and l-infinity), of unit rows for the maximum. See docs/groupwise.md.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from dataclasses import replace
from typing import Any

import numpy as np

from lipcert.activations.groupwise import MAX_ENTRIES, GroupFunction, flat
from lipcert.activations.jacobian import BlockBound, Forms
from lipcert.arithmetic.enclosure import Enclosure, exact, hull

PERMUTED = (3, 4)
"""Sizes of sorted groups whose permutations are listed, for LipSDP: of two one multiplier says all, five have 120."""


class _Choice(GroupFunction):
    """Every output equals an entry of its group."""

    @abstractmethod
    def possible(self, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
        """(*batch, G, out_width, width): whether an output can equal an entry over the box."""

    def jacobian(self, lower: np.ndarray, upper: np.ndarray) -> BlockBound:
        groups = lower.size // self.width
        ones = np.ones(groups)
        if groups * self.out_width * self.width > MAX_ENTRIES:
            return BlockBound(ones, np.ones((groups, self.out_width)), np.ones((groups, self.width)))
        entries = self.possible(lower, upper).astype(float)
        return BlockBound(ones, np.ones((groups, self.out_width)), (entries.max(axis=1)), entries)

    def chosen(self, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
        possible = self.possible(lower, upper)
        return np.where(possible.sum(axis=-1) == 1, possible.argmax(axis=-1), -1)

    def tangent(self, lower: np.ndarray, upper: np.ndarray, d: Enclosure) -> Enclosure:
        possible = self.possible(lower, upper)
        low, high = self.groups(d.lower())[..., None, :], self.groups(d.upper())[..., None, :]
        least, most = np.where(possible, low, np.inf).min(axis=-1), np.where(possible, high, -np.inf).max(axis=-1)
        loose = hull(flat(least), flat(most))
        alone = flat(possible.sum(axis=-1) == 1)
        place = possible.argmax(axis=-1)
        # a certain choice passes midpoint and radius on as they are
        value = flat(np.take_along_axis(self.groups(d.value), place, axis=-1))
        radius = flat(np.take_along_axis(self.groups(d.full_radius()), place, axis=-1))
        return Enclosure(np.where(alone, value, loose.value), np.where(alone, radius, loose.full_radius()))


class GroupSort(_Choice):
    """Sorts each group, smallest first (Anil, Lucas, Grosse 2019; MaxMin for groups of 2)."""

    name = "groupsort"

    def __init__(self, width: int) -> None:
        self.width = self.out_width = width

    @property
    def permutes(self) -> bool:
        return True

    def jacobian(self, lower: np.ndarray, upper: np.ndarray) -> BlockBound:
        bound = super().jacobian(lower, upper)
        if self.width not in PERMUTED or bound.entries is None:
            return bound
        extremes = np.array([np.eye(self.width)[list(order)] for order in itertools.permutations(range(self.width))])
        # doubly stochastic matrices without certain entries are means of the permutations without them (Birkhoff)
        possible = ~np.any((extremes[None] > 0) & (bound.entries[:, None] == 0), axis=(2, 3))
        return replace(bound, forms=Forms(extremes, possible))

    def value(self, x: np.ndarray) -> np.ndarray:
        return flat(np.sort(self.groups(x), axis=-1))

    def enclose(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.value(lower), self.value(upper)

    def reflections(self, groups: int) -> tuple[Enclosure, Enclosure] | None:
        """(a, b) - (1, -1) max(0, a - b): sorting two is a reflection."""
        if self.width != 2:
            return None
        both = exact(np.tile([1.0, -1.0], (groups, 1)))
        return both, both

    def possible(self, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
        low, high = self.groups(lower), self.groups(upper)
        # the rank of an entry is at least the number certainly below it, and so from above
        below = (high[..., None, :] < low[..., :, None]).sum(axis=-1)
        above = (low[..., None, :] > high[..., :, None]).sum(axis=-1)
        rank = np.arange(self.width)[:, None]
        return (rank >= below[..., None, :]) & (rank <= self.width - 1 - above[..., None, :])

    def jvp(self, x: np.ndarray, d: np.ndarray) -> np.ndarray:
        order = np.argsort(self.groups(x), axis=-1, kind="stable")
        return flat(np.take_along_axis(self.groups(d), order, axis=-1))

    def vjp(self, x: np.ndarray, g: np.ndarray) -> np.ndarray:
        order = np.argsort(self.groups(x), axis=-1, kind="stable")
        pulled = np.empty_like(self.groups(g))
        np.put_along_axis(pulled, order, self.groups(g), axis=-1)
        return flat(pulled)

    def torch(self, x: Any) -> Any:
        return x.reshape(len(x), -1, self.width).sort(dim=-1).values.reshape(len(x), -1)

    def describe(self) -> str:
        return "maxmin" if self.width == 2 else f"groupsort({self.width})"


class GroupMax(_Choice):
    """The largest entry of each group. `present` (G, width) marks the entries that count (None: all)."""

    name = "max"
    out_width = 1

    def __init__(self, width: int, present: np.ndarray | None = None) -> None:
        self.width, self.present = width, present

    def maximum_of(self, groups: int) -> np.ndarray:
        return np.ones((groups, self.width), dtype=bool) if self.present is None else self.present

    def value(self, x: np.ndarray) -> np.ndarray:
        return self._masked(x).max(axis=-1)

    def enclose(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.value(lower), self.value(upper)

    def possible(self, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
        largest = self.value(lower)[..., None]
        candidates = ~(self.groups(upper) < largest)  # all of them where a bound is NaN
        return (candidates if self.present is None else candidates & self.present)[..., None, :]

    def jvp(self, x: np.ndarray, d: np.ndarray) -> np.ndarray:
        best = self._masked(x).argmax(axis=-1)[..., None]
        return flat(np.take_along_axis(self.groups(d), best, axis=-1))

    def vjp(self, x: np.ndarray, g: np.ndarray) -> np.ndarray:
        best = self._masked(x).argmax(axis=-1)[..., None]
        pulled = np.zeros_like(self.groups(x))
        np.put_along_axis(pulled, best, g[..., None], axis=-1)
        return flat(pulled)

    def torch(self, x: Any) -> Any:
        import torch

        grouped = x.reshape(len(x), -1, self.width)
        if self.present is not None:
            grouped = grouped.masked_fill(~torch.as_tensor(self.present, device=x.device), -torch.inf)
        return grouped.amax(dim=-1)

    def describe(self) -> str:
        return f"max of {self.width}"

    def _masked(self, x: np.ndarray) -> np.ndarray:
        grouped = self.groups(x)
        return grouped if self.present is None else np.where(self.present, grouped, -np.inf)
