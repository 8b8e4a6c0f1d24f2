"""What the functions that normalise a group share: their interface, and bounds rounded outward."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from lipcert.activations.groupwise import MAX_ENTRIES, GroupFunction, flat
from lipcert.activations.jacobian import BlockBound
from lipcert.arithmetic.enclosure import Enclosure, hull
from lipcert.arithmetic.rounding import down, up

LARGE = 1e150
"""Lower bounds are cut here: what a square or a sum overflowed to is no bound."""


class Normalising(GroupFunction):
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


def zero_block(groups: int) -> BlockBound:
    zero = np.zeros((groups, 1))
    return BlockBound(zero[:, 0], zero, zero)


def nearest_and_farthest(lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest |x_i| over the box."""
    return np.maximum(0.0, np.maximum(lower, -upper)), np.maximum(np.abs(lower), np.abs(upper))


def shrink(n: int) -> float:
    """Turns a float64 sum of n non-negative terms, or a root of it, into a lower bound."""
    return 1 - 4 * (n + 16) * 2.0**-53


def norm_down(v: np.ndarray, p: int) -> np.ndarray:
    """Lower bounds on the l_p norms, p in {1, 2}, of non-negative vectors along the last axis, which is kept."""
    largest = v.max(axis=-1, keepdims=True)
    scale = np.ldexp(1.0, np.clip(np.frexp(np.where(largest > 0, largest, 1.0))[1], -1000, 1000))
    scaled = v / scale  # exact but for underflows, far below the largest entry
    total = scaled.sum(axis=-1, keepdims=True) if p == 1 else np.sqrt((scaled**2).sum(axis=-1, keepdims=True))
    with np.errstate(over="ignore"):
        return np.maximum(largest, down(total * shrink(v.shape[-1]) * scale))  # of infinity: the largest float


def root_down(squares: np.ndarray, epsilon: float) -> np.ndarray:
    """Lower bound on sqrt(squares + epsilon), at least 0."""
    return np.fmax(0.0, down(np.sqrt(np.fmax(0.0, down(squares + epsilon)))))


def inverse(least: np.ndarray) -> np.ndarray:
    """(G,) upper bounds on 1 / s from lower bounds (G, 1) on s >= 0; infinite where s may be 0 or is not known."""
    positive = least > 0
    return np.where(positive, up(1 / np.where(positive, least, 1.0)), np.inf)[:, 0]


def quotient(low: np.ndarray, high: np.ndarray, least: np.ndarray, most: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounds on [low, high] / [least, most] for a divisor 0 <= least <= most; NaN or infinite where it may be 0."""
    return down(low / np.where(low >= 0, most, least)), up(high / np.where(high >= 0, least, most))


def sums_without(powers: np.ndarray) -> np.ndarray:
    """For each entry the sum of all others: prefix sums from both sides, which are sums of non-negative numbers."""
    left = np.cumsum(powers, axis=-1)
    right = np.cumsum(powers[..., ::-1], axis=-1)[..., ::-1]
    zero = np.zeros_like(powers[..., :1])
    return np.concatenate([zero, left[..., :-1]], axis=-1) + np.concatenate([right[..., 1:], zero], axis=-1)
