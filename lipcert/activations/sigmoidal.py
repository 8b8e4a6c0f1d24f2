"""Sigmoid and tanh, enclosed by ball arithmetic (Arb, through python-flint): libm has no proven error bound.

Both increase, and their derivatives are even and decrease in |x|; so values are extreme at the ends of an interval and
slopes at its points nearest to and farthest from zero.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from lipcert.activations.base import Activation
from lipcert.arithmetic.rounding import down, up


class _Sigmoidal(Activation):
    steepest: float
    """The derivative at zero, exact."""

    limits: tuple[float, float]
    """The values at minus and plus infinity, exact."""

    @abstractmethod
    def _ball_value(self, x: Any) -> Any: ...

    @abstractmethod
    def _ball_derivative(self, x: Any) -> Any: ...

    def enclose(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        low, _ = _evaluate(self._ball_value, lower, self.limits)
        _, high = _evaluate(self._ball_value, upper, self.limits)
        return np.maximum(low, self.limits[0]), np.minimum(high, self.limits[1])

    def slopes(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        nearest = np.where((lower <= 0) & (upper >= 0), 0.0, np.minimum(np.abs(lower), np.abs(upper)))
        farthest = np.maximum(np.abs(lower), np.abs(upper))
        low, _ = _evaluate(self._ball_derivative, farthest, (0.0, 0.0))
        _, high = _evaluate(self._ball_derivative, nearest, (0.0, 0.0))
        return np.maximum(low, 0.0), np.minimum(high, self.steepest)


class Sigmoid(_Sigmoidal):
    """1 / (1 + exp(-x)); slopes in (0, 1/4]."""

    name = "sigmoid"
    steepest = 0.25
    limits = (0.0, 1.0)

    def value(self, x: np.ndarray) -> np.ndarray:
        small = np.exp(-np.abs(x))
        return np.where(x >= 0, 1.0, small) / (1.0 + small)

    def derivative(self, x: np.ndarray) -> np.ndarray:
        small = np.exp(-np.abs(x))
        return small / (1.0 + small) ** 2

    def torch(self, x: Any) -> Any:
        return x.sigmoid()

    def _ball_value(self, x: Any) -> Any:
        small = (-abs(x)).exp()
        return (1 if x >= 0 else small) / (1 + small)

    def _ball_derivative(self, x: Any) -> Any:
        small = (-abs(x)).exp()
        return small / (1 + small) ** 2


class Tanh(_Sigmoidal):
    """tanh(x); slopes in (0, 1]."""

    name = "tanh"
    steepest = 1.0
    limits = (-1.0, 1.0)

    def value(self, x: np.ndarray) -> np.ndarray:
        return np.tanh(x)

    def derivative(self, x: np.ndarray) -> np.ndarray:
        small = np.exp(-2.0 * np.abs(x))
        return 4.0 * small / (1.0 + small) ** 2

    def torch(self, x: Any) -> Any:
        return x.tanh()

    def _ball_value(self, x: Any) -> Any:
        return x.tanh()

    def _ball_derivative(self, x: Any) -> Any:
        small = (-2 * abs(x)).exp()
        return 4 * small / (1 + small) ** 2


def _evaluate(function: Any, x: np.ndarray, limits: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Outward float64 bounds on a scalar function of balls at each entry; its limits at infinite entries."""
    from flint import arb

    flat = np.asarray(x, dtype=float).reshape(-1)
    low, high = np.empty_like(flat), np.empty_like(flat)
    for i, point in enumerate(flat.tolist()):
        if abs(point) == float("inf"):
            low[i] = high[i] = limits[point > 0]
            continue
        ball = function(arb(point))
        low[i], high[i] = float(ball.lower()), float(ball.upper())
    # float() of an Arb bound rounds to nearest: one step outward makes it safe
    finite = np.isfinite(flat)
    low, high = np.where(finite, down(low), low), np.where(finite, up(high), high)
    return low.reshape(np.shape(x)), high.reshape(np.shape(x))
