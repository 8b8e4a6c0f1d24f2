"""Sine, cosine, tangent, and the inverse functions that are not defined everywhere.

Whether an interval holds a point k pi + shift pi is decided by the floor of x / pi - shift at both ends, in balls.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lipcert.activations.base import Activation
from lipcert.activations.smooth import HALF_PI, LINE, Ball, Smooth, evaluate

_FAR = 2.0**54
"""Beyond, neighbouring floats are at least 4 apart, and two different points are taken for a period apart."""


class _Wave(Activation):
    """sin(x + quarter pi / 2)."""

    quarter: int

    def enclose(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return _wave(self.quarter, lower, upper)

    def slopes(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return _wave(self.quarter + 1, lower, upper)


class Sin(_Wave):
    """sin(x); slopes cos(x)."""

    name = "sin"
    quarter = 0

    def value(self, x: np.ndarray) -> np.ndarray:
        return np.sin(x)

    def derivative(self, x: np.ndarray) -> np.ndarray:
        return np.cos(x)

    def torch(self, x: Any) -> Any:
        return x.sin()


class Cos(_Wave):
    """cos(x); slopes -sin(x)."""

    name = "cos"
    quarter = 1

    def value(self, x: np.ndarray) -> np.ndarray:
        return np.cos(x)

    def derivative(self, x: np.ndarray) -> np.ndarray:
        return -np.sin(x)

    def torch(self, x: Any) -> Any:
        return x.cos()


class Tan(Activation):
    """tan(x), with poles at pi/2 + k pi; slopes 1 + tan^2, at least 1 and smallest at k pi."""

    name = "tan"

    def value(self, x: np.ndarray) -> np.ndarray:
        return np.tan(x)

    def derivative(self, x: np.ndarray) -> np.ndarray:
        return 1.0 + np.tan(x) ** 2

    def torch(self, x: Any) -> Any:
        return x.tan()

    def obstacle(self, lower: np.ndarray, upper: np.ndarray) -> str:
        return "tan has poles at the odd multiples of pi/2"

    def enclose(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        (low, _), (_, high) = (evaluate(lambda x: x.tan(), end, LINE, LINE) for end in (lower, upper))
        return _outside_poles(low, high, lower, upper)

    def slopes(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        lows, highs = evaluate(lambda x: x.sec() ** 2, np.stack([lower, upper]), LINE, (math.inf, math.inf))
        first, last, _ = _multiples(0.0, lower, upper)
        low = np.where(last > first, 1.0, np.maximum(np.minimum(*lows), 1.0))
        return _outside_poles(low, np.maximum(*highs), lower, upper)


class Asin(Smooth):
    """arcsin(x) on [-1, 1]; slopes 1 / sqrt(1 - x^2) in [1, inf)."""

    name = "asin"
    domain = (-1.0, 1.0)
    value_limits = ((-HALF_PI[1], -HALF_PI[0]), HALF_PI)
    slope_limits = (math.inf, math.inf)
    slope_turns = (0.0,)
    barrier = "asin is not Lipschitz near -1 and 1 and undefined beyond"

    @np.errstate(invalid="ignore")
    def value(self, x: np.ndarray) -> np.ndarray:
        return np.arcsin(x)

    @np.errstate(invalid="ignore", divide="ignore", over="ignore")
    def derivative(self, x: np.ndarray) -> np.ndarray:
        return 1.0 / np.sqrt((1.0 - x) * (1.0 + x))

    def torch(self, x: Any) -> Any:
        return x.asin()

    def _ball_value(self, x: Ball) -> Ball:
        return x.asin()

    def _ball_slope(self, x: Ball) -> Ball:
        return ((1 - x) * (1 + x)).rsqrt()


class Acos(Smooth):
    """arccos(x) on [-1, 1]; slopes -1 / sqrt(1 - x^2) in (-inf, -1]."""

    name = "acos"
    domain = (-1.0, 1.0)
    value_limits = ((2 * HALF_PI[0], 2 * HALF_PI[1]), 0.0)
    slope_limits = (-math.inf, -math.inf)
    slope_turns = (0.0,)
    barrier = "acos is not Lipschitz near -1 and 1 and undefined beyond"

    @np.errstate(invalid="ignore")
    def value(self, x: np.ndarray) -> np.ndarray:
        return np.arccos(x)

    def derivative(self, x: np.ndarray) -> np.ndarray:
        return -Asin().derivative(x)

    def torch(self, x: Any) -> Any:
        return x.acos()

    def _ball_value(self, x: Ball) -> Ball:
        return x.acos()

    def _ball_slope(self, x: Ball) -> Ball:
        return -((1 - x) * (1 + x)).rsqrt()


def _wave(quarter: int, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounds on sin(x + quarter pi / 2), extreme at k pi + (1 - quarter) pi / 2: +1 for even k, -1 for odd k."""
    functions = (lambda x: x.sin(), lambda x: x.cos(), lambda x: -x.sin(), lambda x: -x.cos())
    lows, highs = evaluate(functions[quarter % 4], np.stack([lower, upper]), LINE, ((-1.0, 1.0), (-1.0, 1.0)))
    first, last, period = _multiples((1 - quarter) / 2, lower, upper)
    with np.errstate(invalid="ignore"):
        crest = period | (last // 2 > first // 2)  # an even number in (first, last]
        trough = period | ((last + 1) // 2 > (first + 1) // 2)
    low, high = np.maximum(np.minimum(*lows), -1.0), np.minimum(np.maximum(*highs), 1.0)
    return np.where(trough, -1.0, low), np.where(crest, 1.0, high)


def _multiples(shift: float, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(first, last, period): (shift + k) pi lies in (lower, upper] for k in (first, last] only, or a period does."""
    first, _ = evaluate(lambda x: (x / x.pi() - shift).floor(), np.clip(lower, -_FAR, _FAR), LINE, LINE)
    _, last = evaluate(lambda x: (x / x.pi() - shift).floor(), np.clip(upper, -_FAR, _FAR), LINE, LINE)
    far = (lower != upper) & ((lower < -_FAR) | (upper > _FAR))
    with np.errstate(invalid="ignore", over="ignore"):
        return first, last, far | ~(upper - lower < 7)


def _outside_poles(
    low: np.ndarray, high: np.ndarray, lower: np.ndarray, upper: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    first, last, period = _multiples(0.5, lower, upper)
    pole = period | (last > first)
    return np.where(pole, -math.inf, low), np.where(pole, math.inf, high)
