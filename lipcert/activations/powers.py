"""Integer powers, the square root, the reciprocal and the logarithm: monotone on either side of zero."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lipcert.activations.smooth import Ball, Smooth


class Power(Smooth):
    """x^n for an integer n >= 2; slopes n x^(n - 1)."""

    name = "power"
    value_turns = (0.0,)
    slope_turns = (0.0,)

    def __init__(self, n: int) -> None:
        if n < 2:
            raise ValueError(f"the exponent is {n}, less than 2")
        self.n = n
        even = n % 2 == 0
        self.value_limits = (math.inf if even else -math.inf, math.inf)
        self.slope_limits = (-math.inf if even else math.inf, math.inf)
        self.barrier = f"its slope {n} x^{n - 1} is unbounded" if n > 2 else "its slope 2 x is unbounded"

    @np.errstate(over="ignore", under="ignore")
    def value(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x, dtype=float) ** self.n

    @np.errstate(over="ignore", under="ignore")
    def derivative(self, x: np.ndarray) -> np.ndarray:
        return self.n * np.asarray(x, dtype=float) ** (self.n - 1)

    def torch(self, x: Any) -> Any:
        return x**self.n

    def describe(self) -> str:
        return f"power({self.n})"

    def _ball_value(self, x: Ball) -> Ball:
        return x**self.n

    def _ball_slope(self, x: Ball) -> Ball:
        return self.n * x ** (self.n - 1)


class Sqrt(Smooth):
    """The square root; slopes 1 / (2 sqrt x)."""

    name = "sqrt"
    domain = (0.0, math.inf)
    value_limits = (0.0, math.inf)
    slope_limits = (math.inf, 0.0)
    barrier = "sqrt is not Lipschitz near 0 and undefined below"

    @np.errstate(invalid="ignore")
    def value(self, x: np.ndarray) -> np.ndarray:
        return np.sqrt(x)

    @np.errstate(invalid="ignore", divide="ignore")
    def derivative(self, x: np.ndarray) -> np.ndarray:
        return 0.5 / np.sqrt(np.asarray(x) + 0.0)  # plus infinity at -0.0 too

    def torch(self, x: Any) -> Any:
        return x.sqrt()

    def _ball_value(self, x: Ball) -> Ball:
        return x.sqrt()

    def _ball_slope(self, x: Ball) -> Ball:
        return x.rsqrt() / 2


class Reciprocal(Smooth):
    """1 / x; slopes -1 / x^2."""

    name = "reciprocal"
    poles = (0.0,)
    value_limits = (0.0, 0.0)
    slope_limits = (0.0, 0.0)
    barrier = "1 / x has a pole at 0"

    @np.errstate(over="ignore", under="ignore", divide="ignore")
    def value(self, x: np.ndarray) -> np.ndarray:
        return 1.0 / np.asarray(x, dtype=float)

    @np.errstate(over="ignore", under="ignore", divide="ignore")
    def derivative(self, x: np.ndarray) -> np.ndarray:
        return -(self.value(x) ** 2)

    def torch(self, x: Any) -> Any:
        return x.reciprocal()

    def _ball_value(self, x: Ball) -> Ball:
        return 1 / x

    def _ball_slope(self, x: Ball) -> Ball:
        return -1 / x**2


class Log(Smooth):
    """The natural logarithm; slopes 1 / x."""

    name = "log"
    domain = (0.0, math.inf)
    poles = (0.0,)
    value_limits = (-math.inf, math.inf)
    slope_limits = (math.inf, 0.0)
    barrier = "log is not Lipschitz near 0 and undefined below"

    @np.errstate(invalid="ignore", divide="ignore")
    def value(self, x: np.ndarray) -> np.ndarray:
        return np.log(x)

    @np.errstate(divide="ignore", over="ignore")
    def derivative(self, x: np.ndarray) -> np.ndarray:
        return 1.0 / np.asarray(x, dtype=float)

    def torch(self, x: Any) -> Any:
        return x.log()

    def _ball_value(self, x: Ball) -> Ball:
        return x.log()

    def _ball_slope(self, x: Ball) -> Ball:
        return 1 / x
