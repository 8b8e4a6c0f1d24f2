"""Softmax, its logarithm and the log-sum-exp; docs/groupwise.md derives their Jacobians and the bounds on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lipcert.activations.groupwise import flat
from lipcert.activations.jacobian import BlockBound
from lipcert.activations.normalising import (
    Normalising,
    shrink,
    sums_without,
    zero_block,
)
from lipcert.arithmetic.enclosure import Enclosure, hull
from lipcert.arithmetic.rounding import down, inflate, mul_up, norm_up, sqrt_up, up


class Softmax(Normalising):
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
            return zero_block(len(p.value))
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


class LogSoftmax(Normalising):
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
            return zero_block(lower.size)
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


class LogSumExp(Normalising):
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


@dataclass(frozen=True)
class Margins:
    """x_i - log sum_{j != i} exp(x_j) of each group, what softmax is the sigmoid of: increasing in x_i alone."""

    width: int

    def enclose(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bounds over the box: at two corners for each entry."""
        low_x, high_x = (side.reshape(*side.shape[:-1], -1, self.width) for side in (lower, upper))
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            least = down(low_x - _log_sum_of_others(high_x, least=False))
            most = up(high_x - _log_sum_of_others(low_x, least=True))
        return flat(np.where(np.isnan(least), -np.inf, least)), flat(np.where(np.isnan(most), np.inf, most))


def _log_sum_of_others(x: np.ndarray, least: bool) -> np.ndarray:
    """log sum_{j != i} exp(x_j) for each i, of two entries or more, rounded down (least) or up.

    Relative to the largest of the others: what the sum has is 1 at least. NaN where that is not finite.
    """
    from lipcert.activations import Exp, Log

    n, round_ = x.shape[-1], down if least else up
    largest = np.arange(n) == x.argmax(axis=-1)[..., None]
    first = x.max(axis=-1, keepdims=True)
    second = np.where(largest, -np.inf, x).max(axis=-1, keepdims=True)

    def powers(shift: np.ndarray) -> np.ndarray:
        difference = x - shift
        exponent = np.where(difference == 0, 0.0, round_(difference))
        return Exp().enclose(exponent, exponent)[0 if least else 1]

    # of the largest, all but itself relative to the second; of the others, all but themselves relative to the largest
    apart = np.where(largest, 0.0, powers(np.where(largest, x, second))).sum(axis=-1, keepdims=True)
    total = np.where(largest, apart, sums_without(powers(first)))
    total = total * shrink(n) if least else inflate(total, n)
    found = round_(np.where(largest, second, first) + Log().enclose(total, total)[0 if least else 1])
    return np.where(np.isfinite(np.where(largest, second, first)), found, np.nan)


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
    before = sums_without(powers)
    rest = inflate(before, n) if least else np.maximum(before * shrink(n) - n * 1e-300, 0.0)
    share = numerator / (numerator + rest)
    bound = share * (1 - 2.0**-50) - 1e-300 if least else share * (1 + 2.0**-50) + 1e-300
    bound = np.clip(bound, 0.0, 1.0)
    return np.where(np.isfinite(bound), bound, 0.0 if least else 1.0)
