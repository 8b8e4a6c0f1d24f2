"""Piecewise linear activations with one kink at zero."""

from __future__ import annotations

from typing import Any

import numpy as np

from lipcert.activations.base import Activation
from lipcert.arithmetic.rounding import down, up


class LeakyRelu(Activation):
    """x for x >= 0, alpha x below (ONNX LeakyRelu; any finite alpha)."""

    name = "leaky_relu"
    kinks: tuple[float, ...] = (0.0,)

    def __init__(self, alpha: float) -> None:
        self.alpha = alpha

    def value(self, x: np.ndarray) -> np.ndarray:
        return np.where(x >= 0, x, self.alpha * x)

    def enclose(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        (low_left, high_left), (low_right, high_right) = self._bounds_at(lower), self._bounds_at(upper)
        low, high = np.minimum(low_left, low_right), np.maximum(high_left, high_right)
        crosses = (lower < 0) & (upper > 0)  # phi(0) = 0 is extreme when alpha < 0
        return np.where(crosses, np.minimum(low, 0.0), low), np.where(crosses, np.maximum(high, 0.0), high)

    def _bounds_at(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.alpha == 0:
            return np.where(x < 0, 0.0, x), np.where(x < 0, 0.0, x)
        scaled = self.alpha * x
        return np.where(x >= 0, x, down(scaled)), np.where(x >= 0, x, up(scaled))

    def slopes(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        low, high = min(self.alpha, 1.0), max(self.alpha, 1.0)
        right, left = lower > 0, upper < 0
        return (
            np.where(right, 1.0, np.where(left, self.alpha, low)),
            np.where(right, 1.0, np.where(left, self.alpha, high)),
        )

    def derivative(self, x: np.ndarray) -> np.ndarray:
        return np.where(x > 0, 1.0, self.alpha)

    def torch(self, x: Any) -> Any:
        import torch

        return torch.nn.functional.leaky_relu(x, self.alpha)

    def describe(self) -> str:
        return f"{self.name}({self.alpha:g})"


class Relu(LeakyRelu):
    """max(x, 0)."""

    name = "relu"

    def __init__(self) -> None:
        super().__init__(0.0)

    def describe(self) -> str:
        return self.name
