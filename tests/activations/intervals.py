"""Intervals of every kind, and points that fill them."""

from __future__ import annotations

import math

import numpy as np

from tests.activations.cases import Case

ENDS = [0.0, 5e-324, 1e-310, 1e-20, 1e-3, 0.5, 1.0, 1.4, 2.5, 7.0, 40.0, 800.0, 1e9, 1e17, 1e300, math.inf]


def intervals(case: Case, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The line, the domain, notable points (neighbours of kinks and poles too) and pairs of them, random intervals."""
    rng = np.random.default_rng(seed)
    notable = [sign * end for end in ENDS for sign in (-1, 1)]
    pairs = [(-math.inf, math.inf), case.domain]
    pairs += [pair for x in ENDS[:-1] for pair in ((x, x), (-x, -x), (x, math.inf), (-math.inf, -x))]
    special = {*case.kinks, *case.poles, *case.verticals, *case.jumps, *case.activation.kinks}
    for point in special:
        notable += 6 * [point] + [
            math.nextafter(point, math.inf),
            math.nextafter(point, -math.inf),
            point - 0.2,
            point + 0.2,
        ]
    low, high = case.domain
    inside = [x for x in notable if low <= x <= high]
    while len(pairs) < count:
        kind = rng.integers(4)
        if kind == 0:
            pairs.append(tuple(rng.choice(inside, 2)))
        elif kind == 1:
            pairs.append(tuple(rng.choice(notable, 2)))
        else:
            x = (
                rng.normal() * rng.choice([0.1, 1.0, 3.0, 30.0])
                if kind == 2
                else rng.uniform(*np.clip(case.domain, -4, 4))
            )
            width = rng.choice([0.0, 1e-13, 1e-6, 0.03, 0.5, 2.0, 6.0]) * rng.uniform(0.5, 1)
            pairs.append((x, x + width))
    lower, upper = np.array([sorted(pair) for pair in pairs]).T
    ordinary = ~(np.isinf(lower) & (lower == upper))
    return lower[ordinary], upper[ordinary]


def fill(lower: np.ndarray, upper: np.ndarray, count: int) -> np.ndarray:
    """`count` points of each interval, ascending: even ones up to 20 from the point nearest to zero, magnitudes, ends.

    Infinite ends are left out: the largest float is in.
    """
    most = np.finfo(float).max
    lower, upper = np.maximum(lower, -most), np.minimum(upper, most)
    nearest = np.clip(0.0, lower, upper)
    steps = np.linspace(0.0, 1.0, count - 2 * 130)
    left, right = np.maximum(lower, nearest - 20), np.minimum(upper, nearest + 20)
    even = left[:, None] + (right - left)[:, None] * steps
    sizes = np.concatenate([10.0 ** np.arange(-18.0, 1), np.linspace(2.0, 40, 60), 10.0 ** np.linspace(2, 308, 47)])
    ends = [lower[:, None], upper[:, None], np.clip([-5e-324, 5e-324], lower[:, None], upper[:, None])]
    magnitudes = np.clip(np.concatenate([-sizes, sizes]), lower[:, None], upper[:, None])
    near = np.concatenate(
        [lower[:, None] + 10.0 ** np.arange(-17.0, 0), upper[:, None] - 10.0 ** np.arange(-17.0, 0)], 1
    )
    points = np.concatenate([even, magnitudes, *ends, near], axis=1)
    return np.sort(np.clip(points, lower[:, None], upper[:, None]), axis=1)
