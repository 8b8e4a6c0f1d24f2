"""Exponentials and what is built from one: their derivatives are monotone, but for a kink at zero."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lipcert.activations.sigmoidal import Sigmoid
from lipcert.activations.smooth import Ball, Real, Smooth, logistic


class Exp(Smooth):
    """exp(x); slopes in (0, inf)."""

    name = "exp"
    value_limits = (0.0, math.inf)
    slope_limits = (0.0, math.inf)
    barrier = "its slope exp(x) is unbounded"

    @np.errstate(over="ignore", under="ignore")
    def value(self, x: np.ndarray) -> np.ndarray:
        return np.exp(x)

    def derivative(self, x: np.ndarray) -> np.ndarray:
        return self.value(x)

    def torch(self, x: Any) -> Any:
        return x.exp()

    def _ball_value(self, x: Ball) -> Ball:
        return x.exp()

    def _ball_slope(self, x: Ball) -> Ball:
        return x.exp()


class Softplus(Smooth):
    """log(1 + exp(x)); its slope is sigmoid, in (0, 1)."""

    name = "softplus"
    value_limits = (0.0, math.inf)
    slope_limits = (0.0, 1.0)

    @np.errstate(under="ignore")
    def value(self, x: np.ndarray) -> np.ndarray:
        return np.logaddexp(0.0, x)

    def derivative(self, x: np.ndarray) -> np.ndarray:
        return Sigmoid().value(x)

    def torch(self, x: Any) -> Any:
        import torch

        return -torch.nn.functional.logsigmoid(-x)  # torch's softplus is x beyond 20, 2e-9 off

    def _ball_value(self, x: Ball) -> Ball:
        small = (-abs(x)).exp().log1p()
        return x + small if x >= 0 else small

    def _ball_slope(self, x: Ball) -> Ball:
        return logistic(x)


_next = math.nextafter


class _ExponentialLinear(Smooth):
    """right x for x >= 0, and product(amplitude) (exp(x / scale) - 1) below; what is steepest below lies at zero."""

    slope_turns = (0.0,)
    value_turns = (0.0,)

    def __init__(self, right: float, amplitude: tuple[float, ...], scale: float) -> None:
        self.right, self.amplitude, self.scale = right, amplitude, scale
        self.left = math.prod(amplitude)
        rounded = len(amplitude) > 1 and self.left != 0
        floor: Real = (_next(-self.left, -math.inf), _next(-self.left, math.inf)) if rounded else -self.left
        grows = math.copysign(math.inf, self.left)  # for scale < 0, exp(x / scale) is unbounded below zero
        self.value_limits = (floor if scale > 0 else grows, right * math.inf if right else 0.0)
        self.slope_limits = (0.0 if scale > 0 else -grows, right)
        self.kinks = () if self.left / scale == right else (0.0,)

    @np.errstate(over="ignore", under="ignore")
    def value(self, x: np.ndarray) -> np.ndarray:
        return np.where(x > 0, self.right * x, self.left * np.expm1(np.minimum(x, 0.0) / self.scale))

    @np.errstate(over="ignore", under="ignore")
    def derivative(self, x: np.ndarray) -> np.ndarray:
        return np.where(x > 0, self.right, self.left / self.scale * np.exp(np.minimum(x, 0.0) / self.scale))

    def torch(self, x: Any) -> Any:
        import torch

        return torch.where(x > 0, self.right * x, self.left * torch.expm1(x.clamp(max=0) / self.scale))

    def _ball_value(self, x: Ball) -> Ball:
        if x >= 0:
            return x * self.right
        return self._ball_amplitude(x) * (x / self.scale).expm1()

    def _ball_slope(self, x: Ball) -> Ball | tuple[Ball, Ball]:
        right = type(x)(self.right)
        if x > 0:
            return right
        left = self._ball_amplitude(x) / self.scale * (x / self.scale).exp()
        return (left, right) if x == 0 else left

    def _ball_amplitude(self, x: Ball) -> Ball:
        return math.prod((type(x)(factor) for factor in self.amplitude), start=type(x)(1))


class Elu(_ExponentialLinear):
    """x for x >= 0, alpha (exp(x) - 1) below."""

    name = "elu"

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__(1.0, (alpha,), 1.0)
        self.alpha = alpha

    def describe(self) -> str:
        return f"elu(alpha={self.alpha:g})"


class Selu(_ExponentialLinear):
    """gamma times elu(alpha)."""

    name = "selu"

    def __init__(self, alpha: float, gamma: float) -> None:
        super().__init__(gamma, (gamma, alpha), 1.0)
        self.alpha, self.gamma = alpha, gamma

    def describe(self) -> str:
        return f"selu(alpha={self.alpha:g}, gamma={self.gamma:g})"


class Celu(_ExponentialLinear):
    """x for x >= 0, alpha (exp(x / alpha) - 1) below; slopes in (0, 1] for alpha > 0, in [1, inf) for alpha < 0."""

    name = "celu"
    barrier = "its slope is unbounded below zero, where alpha < 0"

    def __init__(self, alpha: float = 1.0) -> None:
        if alpha == 0:
            raise ValueError("celu divides by alpha, which is 0")
        super().__init__(1.0, (alpha,), alpha)
        self.alpha = alpha

    def describe(self) -> str:
        return f"celu(alpha={self.alpha:g})"
