"""Functions whose value and derivative are piecewise monotone, enclosed by ball arithmetic (Arb, through python-flint).

libm has no proven error bound, so every bound is an Arb ball, rounded outward to float64. A monotone function is
extreme at the ends of an interval; a piecewise monotone one there or at its turning points inside. So each activation
states its two functions as balls, their limits at the ends of the domain, and where they turn: docs/activations.md.
"""

from __future__ import annotations

import math
import sys
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from lipcert.activations.base import Activation

Real = float | tuple[float, float]
"""A real number: exactly a float, or one that lies between two."""

Ball = Any
"""A flint.arb: not every version of python-flint has stubs."""

Function = Callable[[Ball], Ball | tuple[Ball, Ball]]
"""A function of balls; two results stand for all between them, as slopes at a kink (arb.union is a rough hull)."""

LINE = (-math.inf, math.inf)

HALF_PI = (math.pi / 2, math.nextafter(math.pi / 2, 2))
"""pi/2: the float nearest to pi is below it."""

_PRECISIONS = (64, 128, 256, 512, 1024)
"""Bits: the next is tried where fewer than _ENOUGH are correct, after cancellation or in exp(1e300)."""

_ENOUGH = 52


class Smooth(Activation):
    """phi and phi' are monotone between the turning points given; outside [domain], and at poles, phi is undefined.

    A turning point may be listed in vain: what counts is that none is missing. At a kink (or a jump of the derivative)
    `_ball_slope` returns both sides, and the kink is a turning point of the slope.
    """

    domain: tuple[float, float] = LINE
    poles: tuple[float, ...] = ()
    value_limits: tuple[Real, Real]
    slope_limits: tuple[Real, Real]
    """Limits at the two ends of the domain."""
    value_turns: tuple[Real, ...] = ()
    slope_turns: tuple[Real, ...] = ()
    barrier: str = ""
    """What `obstacle` says."""

    @abstractmethod
    def _ball_value(self, x: Ball) -> Ball:
        """phi of a ball inside the domain, at the precision of flint's context."""

    @abstractmethod
    def _ball_slope(self, x: Ball) -> Ball | tuple[Ball, Ball]:
        """phi' of a ball inside the domain; of both sides at a kink."""

    def enclose(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._bounds(self._ball_value, self.value_limits, self.value_turns, lower, upper)

    def slopes(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._bounds(self._ball_slope, self.slope_limits, self.slope_turns, lower, upper)

    def obstacle(self, lower: np.ndarray, upper: np.ndarray) -> str:
        return self.barrier

    def _bounds(
        self,
        function: Function,
        limits: tuple[Real, Real],
        turns: tuple[Real, ...],
        lower: np.ndarray,
        upper: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        lows, highs = evaluate(function, np.stack([lower, upper]), self.domain, limits)
        low, high = np.minimum(*lows), np.maximum(*highs)
        extremes = [_pair(limit) for limit in limits]
        for turn in turns:
            (left, right), (least, most) = _pair(turn), at(function, turn)
            inside = (lower <= right) & (upper >= left)
            low = np.where(inside, np.minimum(low, least), low)
            high = np.where(inside, np.maximum(high, most), high)
            extremes.append((least, most))
        undefined = ~((lower >= self.domain[0]) & (upper <= self.domain[1]))  # so for NaN
        for pole in self.poles:
            undefined |= (lower <= pole) & (upper >= pole)
        # balls reach across limits, as that of exp(-1e300) across zero; with a pole inside, limits bound nothing
        if set(self.poles) <= set(self.domain):
            low = np.maximum(low, min(least for least, _ in extremes))
            high = np.minimum(high, max(most for _, most in extremes))
        # a lower bound of +inf, as at a vertical tangent, says no more than the largest float, and breaks arithmetic
        low, high = np.minimum(low, sys.float_info.max), np.maximum(high, -sys.float_info.max)
        return np.where(undefined, -math.inf, low), np.where(undefined, math.inf, high)


def evaluate(
    function: Function, x: np.ndarray, domain: tuple[float, float], limits: tuple[Real, Real]
) -> tuple[np.ndarray, np.ndarray]:
    """Outward bounds at each entry: limits at the ends of the domain, all numbers beyond it (and for NaN)."""
    from flint import arb

    points, places = np.unique(np.asarray(x, dtype=float), return_inverse=True)
    low, high = np.full(points.shape, -math.inf), np.full(points.shape, math.inf)
    for i, point in enumerate(points.tolist()):
        if point in domain:
            low[i], high[i] = _pair(limits[domain.index(point)])
        elif domain[0] < point < domain[1]:
            low[i], high[i] = _hull(_accurate(function, arb(point)))
    places = places.reshape(np.shape(x))
    return low[places], high[places]


def at(function: Function, x: Real) -> tuple[float, float]:
    """Outward bounds at one real number."""
    from flint import arb

    low, high = _pair(x)
    return _hull(_accurate(function, arb(low) if low == high else arb(low).union(arb(high))))


def bracket(function: Callable[[Ball], Ball], low: float, high: float) -> tuple[float, float]:
    """Neighbouring floats between which a function that is positive at one of two points is negative at the other.

    It changes sign in the bracket; that it does so nowhere else is for the caller to know.
    """
    from flint import arb

    def positive(x: float) -> bool:
        (ball,) = _accurate(function, arb(x))
        if not (ball > 0 or ball < 0):
            raise ValueError(f"the sign at {x!r} is undecided")
        return bool(ball > 0)

    at_low, at_high = positive(low), positive(high)
    if at_low == at_high:
        raise ValueError(f"no change of sign between {low!r} and {high!r}")
    while math.nextafter(low, high) != high:
        middle = low / 2 + high / 2
        if positive(middle) == at_low:
            low = middle
        else:
            high = middle
    return low, high


def logistic(x: Ball) -> Ball:
    """1 / (1 + exp(-x)) without overflow."""
    small = (-abs(x)).exp()
    return (1 if x >= 0 else small) / (1 + small)


def _accurate(function: Function, x: Ball) -> tuple[Ball, ...]:
    from flint import ctx

    balls: tuple[Ball, ...] = ()
    for precision in _PRECISIONS:
        with ctx.workprec(precision):
            result = function(x)
        balls = result if isinstance(result, tuple) else (result,)
        if not x.is_exact() or all(ball.rel_accuracy_bits() >= _ENOUGH for ball in balls):
            break
    return balls


def _hull(balls: tuple[Ball, ...]) -> tuple[float, float]:
    bounds = [_outward(ball) for ball in balls]
    return min(low for low, _ in bounds), max(high for _, high in bounds)


def _outward(ball: Ball) -> tuple[float, float]:
    """The tightest floats around a ball; all numbers for one that is not a number."""
    exact = type(ball)
    lower, upper = ball.lower(), ball.upper()
    low, high = float(lower), float(upper)  # to nearest
    if math.isnan(low) or math.isnan(high):
        return LINE
    return (
        low if exact(low) <= lower else math.nextafter(low, -math.inf),
        high if exact(high) >= upper else math.nextafter(high, math.inf),
    )


def _pair(x: Real) -> tuple[float, float]:
    return x if isinstance(x, tuple) else (x, x)
