"""x times a gate that rises from 0 to 1. Each derivative dips below 0, rises above 1 and falls back to 1.

Turning points that have no closed form are pairs of neighbouring floats; tests prove the literal ones, and that no
others exist is proved in docs/activations.md.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np

from lipcert.activations.sigmoidal import Sigmoid
from lipcert.activations.smooth import Ball, Real, Smooth, bracket, logistic


class _Gated(Smooth):
    value_limits = (0.0, math.inf)
    slope_limits = (0.0, 1.0)


class Gelu(_Gated):
    """x Phi(x), Phi the normal distribution function: x (1 + erf(x / sqrt 2)) / 2."""

    name = "gelu"
    value_turns = ((-0.7517915246935645, -0.7517915246935644),)
    slope_turns = ((-1.4142135623730951, -1.414213562373095), (1.414213562373095, 1.4142135623730951))

    def value(self, x: np.ndarray) -> np.ndarray:
        from scipy.special import ndtr

        return np.asarray(x * ndtr(x))

    @np.errstate(over="ignore", under="ignore")
    def derivative(self, x: np.ndarray) -> np.ndarray:
        from scipy.special import ndtr

        return np.asarray(ndtr(x) + x * np.exp(-(np.asarray(x) ** 2) / 2) / math.sqrt(2 * math.pi))

    def torch(self, x: Any) -> Any:
        import torch

        return torch.nn.functional.gelu(x)

    def _ball_value(self, x: Ball) -> Ball:
        return x * (-x / type(x)(2).sqrt()).erfc() / 2

    def _ball_slope(self, x: Ball) -> Ball:
        density = (-(x**2) / 2).exp() / (2 * x.pi()).sqrt()
        return (-x / type(x)(2).sqrt()).erfc() / 2 + x * density


class _TanhGated(_Gated):
    """x (1 + tanh(k (x + c x^3))) / 2 with k > 0 and c >= 0; None stands for sqrt(2 / pi) and 0.044715.

    The slope turns where (1 + 6 c x^2) / (1 + 3 c x^2)^2 = k x tanh(k (x + c x^3)): the left side falls and the right
    side rises in |x|, so at one pair +-t.
    """

    def __init__(self, k: float | None, c: float | None) -> None:
        self.k, self.c = k, c
        self._k = math.sqrt(2 / math.pi) if k is None else k
        self._c = 0.044715 if c is None else c
        if not (self._k > 0 and self._c >= 0):
            raise ValueError(f"k = {k} is not positive or c = {c} is negative: turning points are not known")

    @np.errstate(over="ignore", under="ignore")
    def value(self, x: np.ndarray) -> np.ndarray:
        return x * Sigmoid().value(self._inner(x))

    @np.errstate(over="ignore", under="ignore", invalid="ignore")
    def derivative(self, x: np.ndarray) -> np.ndarray:
        bump = Sigmoid().derivative(self._inner(x))
        moved = x * bump * (2 * self._k * (1 + 3 * self._c * x**2))
        return Sigmoid().value(self._inner(x)) + np.where(bump == 0, 0.0, moved)

    def torch(self, x: Any) -> Any:
        return x * self._inner(x).sigmoid()

    def _inner(self, x: Any) -> Any:
        return 2 * self._k * (x + self._c * x * x * x)

    @cached_property
    def slope_turns(self) -> tuple[Real, ...]:  # type: ignore[override]
        def gap(x: Ball) -> Ball:
            k, c = self._ball_constants(x)
            return (1 + 6 * c * x**2) - k * x * (1 + 3 * c * x**2) ** 2 * (k * (x + c * x**3)).tanh()

        left, right = bracket(gap, 0.0, _beyond(2 / self._k))
        return (-right, -left), (left, right)

    @cached_property
    def value_turns(self) -> tuple[Real, ...]:  # type: ignore[override]
        (left, _), _ = self.slope_turns  # type: ignore[misc]
        return (bracket(self._ball_slope, left, 0.0),)

    def _ball_constants(self, x: Ball) -> tuple[Ball, Ball]:
        exact = type(x)
        k = (2 / exact.pi()).sqrt() if self.k is None else exact(self.k)
        return k, exact("0.044715") if self.c is None else exact(self.c)

    def _ball_value(self, x: Ball) -> Ball:
        k, c = self._ball_constants(x)
        return x * logistic(2 * k * (x + c * x**3))

    def _ball_slope(self, x: Ball) -> Ball:
        k, c = self._ball_constants(x)
        inner = 2 * k * (x + c * x**3)
        gate = logistic(inner)
        return gate * (1 + x * logistic(-inner) * 2 * k * (1 + 3 * c * x**2))


class GeluTanh(_TanhGated):
    """Gelu's approximation x (1 + tanh(k (x + c x^3))) / 2; by default k = sqrt(2 / pi), c = 0.044715, as reals."""

    name = "gelu_tanh"

    def __init__(self, k: float | None = None, c: float | None = None) -> None:
        super().__init__(k, c)

    def describe(self) -> str:
        if self.k is None and self.c is None:
            return self.name
        return f"{self.name}(k={self._k:g}, c={self._c:g})"


class Silu(_TanhGated):
    """x sigmoid(x) = x (1 + tanh(x / 2)) / 2, also called swish."""

    name = "silu"

    def __init__(self) -> None:
        super().__init__(0.5, 0.0)


class Mish(_Gated):
    """x tanh(softplus(x)) = x n / (n + 2) with n = e^x (e^x + 2)."""

    name = "mish"
    value_turns = ((-1.1924312145154955, -1.1924312145154952),)
    slope_turns = ((-2.2563763963607935, -2.256376396360793), (1.4905711794854284, 1.4905711794854286))

    @np.errstate(under="ignore")
    def value(self, x: np.ndarray) -> np.ndarray:
        return x * self._gate(x)[0]

    @np.errstate(under="ignore")
    def derivative(self, x: np.ndarray) -> np.ndarray:
        gate, slope = self._gate(x)
        return gate + x * slope

    def torch(self, x: Any) -> Any:
        import torch

        return torch.nn.functional.mish(x)

    def _gate(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """tanh(softplus(x)) and its derivative 4 e^x (e^x + 1) / (n + 2)^2."""
        e = np.exp(-np.abs(x))
        right = 1 + 2 * e + 2 * e**2  # (n + 2) e^-2x
        left = e**2 + 2 * e + 2
        gate = np.where(x >= 0, (1 + 2 * e) / right, (e**2 + 2 * e) / left)
        slope = np.where(x >= 0, 4 * e**2 * (1 + e) / right**2, 4 * e * (1 + e) / left**2)
        return gate, slope

    def _ball_gate(self, x: Ball) -> tuple[Ball, Ball]:
        e = (-abs(x)).exp()
        if x >= 0:
            right = 1 + 2 * e + 2 * e**2
            return (1 + 2 * e) / right, 4 * e**2 * (1 + e) / right**2
        left = e**2 + 2 * e + 2
        return e * (e + 2) / left, 4 * e * (1 + e) / left**2

    def _ball_value(self, x: Ball) -> Ball:
        return x * self._ball_gate(x)[0]

    def _ball_slope(self, x: Ball) -> Ball:
        gate, slope = self._ball_gate(x)
        return gate + x * slope


class HardSwish(_Gated):
    """x max(0, min(1, x / 6 + 1/2)): 0 up to -3, x from 3 on, x (x + 3) / 6 between; slopes in [-1/2, 3/2]."""

    name = "hard_swish"
    kinks = (-3.0, 3.0)
    value_turns = (-1.5,)
    slope_turns = (-3.0, 3.0)

    def value(self, x: np.ndarray) -> np.ndarray:
        middle = np.clip(x, -3.0, 3.0)
        return np.where(x >= 3, x, middle * (middle + 3) / 6)

    def derivative(self, x: np.ndarray) -> np.ndarray:
        middle = np.clip(x, -3.0, 3.0)
        return np.where(x <= -3, 0.0, np.where(x >= 3, 1.0, (2 * middle + 3) / 6))

    def torch(self, x: Any) -> Any:
        import torch

        return torch.nn.functional.hardswish(x)

    def _ball_value(self, x: Ball) -> Ball:
        exact = type(x)
        return exact(0) if x <= -3 else x if x >= 3 else x * (x + 3) / 6

    def _ball_slope(self, x: Ball) -> Ball | tuple[Ball, Ball]:
        exact = type(x)
        outside, middle = exact(0 if x < 0 else 1), (2 * x + 3) / 6
        if abs(x) == 3:
            return outside, middle
        return outside if abs(x) > 3 else middle


def _beyond(x: float) -> float:
    """A power of two at or beyond x (bisection from there starts with plain numbers)."""
    return 2.0 ** math.ceil(math.log2(x))
