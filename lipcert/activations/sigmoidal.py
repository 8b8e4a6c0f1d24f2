"""Functions that saturate at both ends: odd (but for a shift) and increasing, steepest at zero.

Their derivatives are even and decrease in |x|, so they turn at zero only.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lipcert.activations.smooth import HALF_PI, Ball, Real, Smooth, logistic


class _Sigmoidal(Smooth):
    value_limits: tuple[Real, Real] = (-1.0, 1.0)
    slope_limits = (0.0, 0.0)
    slope_turns = (0.0,)


class Sigmoid(_Sigmoidal):
    """1 / (1 + exp(-x)); slopes in (0, 1/4]."""

    name = "sigmoid"
    value_limits = (0.0, 1.0)

    @np.errstate(under="ignore")
    def value(self, x: np.ndarray) -> np.ndarray:
        small = np.exp(-np.abs(x))
        return np.where(x >= 0, 1.0, small) / (1.0 + small)

    @np.errstate(under="ignore")
    def derivative(self, x: np.ndarray) -> np.ndarray:
        small = np.exp(-np.abs(x))
        return small / (1.0 + small) ** 2

    def torch(self, x: Any) -> Any:
        return x.sigmoid()

    def _ball_value(self, x: Ball) -> Ball:
        return logistic(x)

    def _ball_slope(self, x: Ball) -> Ball:
        small = (-abs(x)).exp()
        return small / (1 + small) ** 2


class Tanh(_Sigmoidal):
    """tanh(x); slopes in (0, 1]."""

    name = "tanh"

    def value(self, x: np.ndarray) -> np.ndarray:
        return np.tanh(x)

    @np.errstate(over="ignore", under="ignore")
    def derivative(self, x: np.ndarray) -> np.ndarray:
        small = np.exp(-2.0 * np.abs(x))
        return 4.0 * small / (1.0 + small) ** 2

    def torch(self, x: Any) -> Any:
        return x.tanh()

    def _ball_value(self, x: Ball) -> Ball:
        return x.tanh()

    def _ball_slope(self, x: Ball) -> Ball:
        small = (-2 * abs(x)).exp()
        return 4 * small / (1 + small) ** 2


class Softsign(_Sigmoidal):
    """x / (1 + |x|); slopes in (0, 1]."""

    name = "softsign"

    def value(self, x: np.ndarray) -> np.ndarray:
        return x / (1.0 + np.abs(x))

    @np.errstate(over="ignore", under="ignore")
    def derivative(self, x: np.ndarray) -> np.ndarray:
        return (1.0 / (1.0 + np.abs(x))) ** 2

    def torch(self, x: Any) -> Any:
        return x / (1 + x.abs())

    def _ball_value(self, x: Ball) -> Ball:
        return x / (1 + abs(x))

    def _ball_slope(self, x: Ball) -> Ball:
        return 1 / (1 + abs(x)) ** 2


class Erf(_Sigmoidal):
    """2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x; slopes in (0, 2 / sqrt(pi)]."""

    name = "erf"

    def value(self, x: np.ndarray) -> np.ndarray:
        from scipy.special import erf

        return np.asarray(erf(x))

    @np.errstate(over="ignore", under="ignore")
    def derivative(self, x: np.ndarray) -> np.ndarray:
        return 2.0 / np.sqrt(np.pi) * np.exp(-(np.asarray(x) ** 2))

    def torch(self, x: Any) -> Any:
        return x.erf()

    def _ball_value(self, x: Ball) -> Ball:
        return x.erf()

    def _ball_slope(self, x: Ball) -> Ball:
        return 2 / x.pi().sqrt() * (-(x**2)).exp()


class Atan(_Sigmoidal):
    """arctan(x); slopes in (0, 1]."""

    name = "atan"
    value_limits = ((-HALF_PI[1], -HALF_PI[0]), HALF_PI)

    def value(self, x: np.ndarray) -> np.ndarray:
        return np.arctan(x)

    @np.errstate(over="ignore", under="ignore")
    def derivative(self, x: np.ndarray) -> np.ndarray:
        return 1.0 / (1.0 + np.asarray(x) ** 2)

    def torch(self, x: Any) -> Any:
        return x.atan()

    def _ball_value(self, x: Ball) -> Ball:
        return x.atan()

    def _ball_slope(self, x: Ball) -> Ball:
        return 1 / (1 + x**2)
