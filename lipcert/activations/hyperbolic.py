"""Hyperbolic functions that do not saturate, and the inverse ones."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lipcert.activations.smooth import Ball, Smooth


class Sinh(Smooth):
    """sinh(x); slopes cosh(x), at least 1."""

    name = "sinh"
    value_limits = (-math.inf, math.inf)
    slope_limits = (math.inf, math.inf)
    slope_turns = (0.0,)
    barrier = "its slope cosh(x) is unbounded"

    @np.errstate(over="ignore")
    def value(self, x: np.ndarray) -> np.ndarray:
        return np.sinh(x)

    @np.errstate(over="ignore")
    def derivative(self, x: np.ndarray) -> np.ndarray:
        return np.cosh(x)

    def torch(self, x: Any) -> Any:
        return x.sinh()

    def _ball_value(self, x: Ball) -> Ball:
        return x.sinh()

    def _ball_slope(self, x: Ball) -> Ball:
        return x.cosh()


class Cosh(Smooth):
    """cosh(x); slopes sinh(x)."""

    name = "cosh"
    value_limits = (math.inf, math.inf)
    slope_limits = (-math.inf, math.inf)
    value_turns = (0.0,)
    barrier = "its slope sinh(x) is unbounded"

    @np.errstate(over="ignore")
    def value(self, x: np.ndarray) -> np.ndarray:
        return np.cosh(x)

    @np.errstate(over="ignore")
    def derivative(self, x: np.ndarray) -> np.ndarray:
        return np.sinh(x)

    def torch(self, x: Any) -> Any:
        return x.cosh()

    def _ball_value(self, x: Ball) -> Ball:
        return x.cosh()

    def _ball_slope(self, x: Ball) -> Ball:
        return x.sinh()


class Asinh(Smooth):
    """arsinh(x); slopes 1 / sqrt(1 + x^2) in (0, 1]."""

    name = "asinh"
    value_limits = (-math.inf, math.inf)
    slope_limits = (0.0, 0.0)
    slope_turns = (0.0,)

    def value(self, x: np.ndarray) -> np.ndarray:
        return np.arcsinh(x)

    @np.errstate(over="ignore", under="ignore")
    def derivative(self, x: np.ndarray) -> np.ndarray:
        return 1.0 / np.hypot(1.0, x)

    def torch(self, x: Any) -> Any:
        return x.asinh()

    def _ball_value(self, x: Ball) -> Ball:
        return x.asinh()

    def _ball_slope(self, x: Ball) -> Ball:
        return (1 + x**2).rsqrt()


class Acosh(Smooth):
    """arcosh(x) for x >= 1; slopes 1 / sqrt(x^2 - 1)."""

    name = "acosh"
    domain = (1.0, math.inf)
    value_limits = (0.0, math.inf)
    slope_limits = (math.inf, 0.0)
    barrier = "acosh is not Lipschitz near 1 and undefined below"

    @np.errstate(invalid="ignore")
    def value(self, x: np.ndarray) -> np.ndarray:
        return np.arccosh(x)

    @np.errstate(invalid="ignore", divide="ignore")
    def derivative(self, x: np.ndarray) -> np.ndarray:
        return 1.0 / (np.sqrt(x - 1.0) * np.sqrt(x + 1.0))

    def torch(self, x: Any) -> Any:
        return x.acosh()

    def _ball_value(self, x: Ball) -> Ball:
        return x.acosh()

    def _ball_slope(self, x: Ball) -> Ball:
        return ((x - 1) * (x + 1)).rsqrt()


class Atanh(Smooth):
    """artanh(x) inside (-1, 1); slopes 1 / (1 - x^2), at least 1."""

    name = "atanh"
    domain = (-1.0, 1.0)
    poles = (-1.0, 1.0)
    value_limits = (-math.inf, math.inf)
    slope_limits = (math.inf, math.inf)
    slope_turns = (0.0,)
    barrier = "atanh has poles at -1 and 1 and is undefined beyond"

    @np.errstate(invalid="ignore", divide="ignore")
    def value(self, x: np.ndarray) -> np.ndarray:
        return np.arctanh(x)

    @np.errstate(divide="ignore", over="ignore")
    def derivative(self, x: np.ndarray) -> np.ndarray:
        return 1.0 / ((1.0 - x) * (1.0 + x))

    def torch(self, x: Any) -> Any:
        return x.atanh()

    def _ball_value(self, x: Ball) -> Ball:
        return x.atanh()

    def _ball_slope(self, x: Ball) -> Ball:
        return 1 / ((1 - x) * (1 + x))
