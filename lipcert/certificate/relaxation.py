"""Lines below and above an activation over a box, with offsets that are proven.

Any slope is allowed: the offset of a line above is an upper bound on phi(v) - slope v over the box. The box is cut at
kinks and into cells; in a cell [a, b] a function g with g(a) <= A, g(b) <= B and slopes in [p, q] is at most A where q
<= 0, B where p >= 0, and otherwise (q B - p A - p q (b - a)) / (q - p), where the lines from both ends meet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from lipcert.activations import Activation, Relu
from lipcert.activations.piecewise import PiecewiseLinear
from lipcert.arithmetic.rounding import add_up, down, inflate, up

CELLS = 24
"""Of the box of a smooth activation."""

MAX_KINKS = 16
"""Kinks that are cut at; there is a bound without, too."""


@dataclass(frozen=True, eq=False)
class Lines:
    """low_slope v + low_offset <= phi(v) <= high_slope v + high_offset over the box, entry by entry.

    Where an offset is not finite, nothing is said.
    """

    low_slope: np.ndarray
    low_offset: np.ndarray
    high_slope: np.ndarray
    high_offset: np.ndarray


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # what is not finite says nothing
def lines(activation: Activation, lower: np.ndarray, upper: np.ndarray) -> Lines:
    """Of a few slopes (of the chord, at the ends, least and largest) those whose lines are nearest at the middle."""
    if isinstance(activation, Relu):
        return _ramp_lines(lower, upper)
    slopes = _candidates(activation, lower, upper)
    cells = _cells(activation, lower, upper)
    middle = lower / 2 + upper / 2
    high = np.array([_offset(cells, slope) for slope in slopes])
    low = np.array([_offset(cells.negative(), -slope) for slope in slopes])
    best_high = np.argmin(_scores(high, high + slopes * middle), axis=0)
    best_low = np.argmin(_scores(low, low - slopes * middle), axis=0)

    def chosen(found: np.ndarray, best: np.ndarray) -> np.ndarray:
        return np.take_along_axis(found, best[None], axis=0)[0]

    return Lines(chosen(slopes, best_low), -chosen(low, best_low), chosen(slopes, best_high), chosen(high, best_high))


def _ramp_lines(lower: np.ndarray, upper: np.ndarray) -> Lines:
    """Zero or v below (t v is, for 0 <= t <= 1); the chord above: max(0, v) minus a line is largest at an end."""
    chord = np.clip(np.nan_to_num(upper / (upper - lower), nan=1.0), 0, 1)
    bent = (lower < 0) & (upper > 0)
    slope = np.where(bent, chord, lower >= 0)
    at_lower = np.where(slope == 0, 0.0, up(-down(slope * lower)))
    at_upper = np.where(slope == 1, 0.0, up(upper - down(slope * upper)))
    below = np.where(bent, upper > -lower, lower >= 0).astype(float)
    zero = np.where(np.isnan(lower) | np.isnan(upper), np.nan, 0.0)
    return Lines(below, zero, slope, np.where(bent, np.maximum(at_lower, at_upper), zero))


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # what is not finite says nothing
def offsets(
    activation: Activation, slope: np.ndarray, lower: np.ndarray, upper: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Bounds on phi(v) - slope v over the box."""
    cells = _cells(activation, lower, upper)
    slope = np.broadcast_to(slope, lower.shape)
    return -_offset(cells.negative(), -slope), _offset(cells, slope)


def _scores(offsets: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """What is finite at the middle, then what is finite at all, then the rest."""
    found = np.where(np.isfinite(distances), distances, np.finfo(float).max)
    return np.where(np.isfinite(offsets), found, np.inf)


def _candidates(activation: Activation, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """(S, *n) slopes, any numbers: what is proven are the offsets."""
    with np.errstate(all="ignore"):
        ends = activation.value(lower), activation.value(upper)
        chord = (ends[1] - ends[0]) / (upper - lower)
        low, high = activation.slopes(lower, upper)
        points = () if isinstance(activation, PiecewiseLinear) else (lower, lower / 2 + upper / 2, upper)
        found = [chord, low, high, *(activation.derivative(x) for x in points), np.zeros_like(lower)]
    clipped = [np.clip(np.nan_to_num(slope), np.nan_to_num(low), np.nan_to_num(high)) for slope in found[:-1]]
    return np.array([*clipped, found[-1]])


@dataclass(frozen=True, eq=False)
class _Cells:
    """Ends (K + 1, *n), bounds on phi there, and on its slopes in the K cells between."""

    ends: np.ndarray
    highest: np.ndarray
    lowest: np.ndarray
    slope_low: np.ndarray
    slope_high: np.ndarray

    def negative(self) -> _Cells:
        """Of -phi."""
        return _Cells(self.ends, -self.lowest, -self.highest, -self.slope_high, -self.slope_low)


def _cells(activation: Activation, lower: np.ndarray, upper: np.ndarray) -> _Cells:
    share = np.linspace(0, 1, 2 if isinstance(activation, PiecewiseLinear) else CELLS + 1)
    ends = [np.clip(lower + np.reshape(share, (-1, *(1,) * lower.ndim)) * (upper - lower), lower, upper)]
    ends += [np.clip(np.full_like(lower, kink), lower, upper)[None] for kink in activation.kinks[:MAX_KINKS]]
    grid = np.sort(np.concatenate(ends), axis=0)
    grid[0], grid[-1] = lower, upper
    values = [activation.enclose(end, end) for end in grid]
    slopes = [activation.slopes(a, b) for a, b in pairwise(grid)]
    lowest, highest = (np.array(side) for side in zip(*values, strict=True))
    slope_low, slope_high = (np.array(side) for side in zip(*slopes, strict=True))
    return _Cells(grid, highest, lowest, slope_low, slope_high)


def _offset(cells: _Cells, slope: np.ndarray) -> np.ndarray:
    """(*n,) upper bounds on phi(v) - slope v."""
    product = slope * cells.ends
    exact = (slope == 0) | (cells.ends == 0)  # a product may be 0 because it underflows
    at = np.where(exact, cells.highest, up(cells.highest - down(product)))
    at = np.where(np.isnan(cells.ends), np.nan, at)
    p = np.where(cells.slope_low == slope, 0.0, down(cells.slope_low - slope))
    q = np.where(cells.slope_high == slope, 0.0, up(cells.slope_high - slope))
    left, right, width = at[:-1], at[1:], up(cells.ends[1:] - cells.ends[:-1])
    # both ends may be negative: measured from the lower of them, every term is at least 0
    base = np.minimum(left, right)
    a, b = (np.where(end == base, 0.0, up(end - base)) for end in (left, right))
    rise, fall = np.maximum(q, 0), np.maximum(-p, 0)
    met = inflate(rise * b + fall * a + fall * rise * width, 8) / down(rise + fall)
    peak = add_up(base, np.where((rise > 0) & (fall > 0), inflate(met, 2), 0.0))
    inside = np.where(rise == 0, left, np.where(fall == 0, right, np.maximum(peak, np.maximum(left, right))))
    return np.asarray(inside.max(axis=0))


@dataclass(frozen=True, eq=False)
class Cells:
    """Where v goes, with the slopes s there: each cell (B, *n) boxes of v and of s; any number of cells."""

    v: list[tuple[np.ndarray, np.ndarray]]
    s: list[tuple[np.ndarray, np.ndarray]]

    def of(self, rows: Callable[[np.ndarray], np.ndarray]) -> Cells:
        """Of other cases."""
        return Cells(*([(rows(low), rows(high)) for low, high in each] for each in (self.v, self.s)))


def ends_of(box: tuple[np.ndarray, np.ndarray]) -> Cells:
    """Of s = v: what is linear in it is extreme at its ends."""
    return Cells([(end, end) for end in box], [(end, end) for end in box])


@np.errstate(over="ignore", invalid="ignore")  # what is not finite is not used
def derivative_cells(activation: Activation, box: tuple[np.ndarray, np.ndarray]) -> Cells:
    """Of s = phi'(v)."""
    low, high = box
    ends = [np.clip(low + share * (high - low), low, high) for share in np.linspace(0, 1, CELLS + 1)]
    ends[-1] = high
    cells = list(pairwise(ends))
    return Cells(cells, [activation.slopes(*cell) for cell in cells])


@np.errstate(all="ignore")  # what is not finite is not used
def product_planes(cells: Cells, box: tuple[np.ndarray, np.ndarray], chord: Lines) -> tuple[Lines, Lines]:
    """Below and above p = s a: lines in a, and lines in v without offsets; their sums bound p.

    `box` has a, and `chord` lines in a alone, which are taken where they are nearer at the middle. Any slopes will do:
    s a - q a - r v is linear in a, and bounded cell by cell at the ends of a.
    """
    first, last = cells.s[0], cells.s[-1]
    start, end = cells.v[0][0], cells.v[-1][1]
    center, middle = box[0] / 2 + box[1] / 2, start / 2 + end / 2
    steep = (last[0] / 2 + last[1] / 2) - (first[0] / 2 + first[1] / 2)
    r = np.nan_to_num(center * steep / (end - start), posinf=0.0, neginf=0.0)
    q = np.broadcast_to((first[0] + first[1] + last[0] + last[1]) / 4, r.shape)
    least, most = np.full(r.shape, np.inf), np.full(r.shape, -np.inf)
    for v, s in zip(cells.v, cells.s, strict=True):
        drift = [r * side for side in v]
        for a in box:
            ends, line = [side * a for side in s], q * a
            upper = up(up(up(np.maximum(*ends)) - down(line)) - down(np.minimum(*drift)))
            lower = down(down(down(np.minimum(*ends)) - up(line)) - up(np.maximum(*drift)))
            most, least = np.fmax(most, upper), np.fmin(least, lower)
            most, least = np.where(np.isnan(upper), np.nan, most), np.where(np.isnan(lower), np.nan, least)
    at = q * center + r * middle
    above = np.isfinite(most) & (at + most < chord.high_slope * center + chord.high_offset)
    below = np.isfinite(least) & (at + least > chord.low_slope * center + chord.low_offset)
    in_a = Lines(
        np.where(below, q, chord.low_slope),
        np.where(below, least, chord.low_offset),
        np.where(above, q, chord.high_slope),
        np.where(above, most, chord.high_offset),
    )
    zero = np.zeros_like(r)
    return in_a, Lines(np.where(below, r, 0.0), zero, np.where(above, r, 0.0), zero)
