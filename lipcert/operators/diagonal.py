"""Elementwise scaling by a stored vector: batch norm, division by a constant, slopes."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from lipcert.operators.base import Leaf


class Diagonal(Leaf):
    """diag(weights)."""

    weights: np.ndarray

    def __init__(self, weights: np.ndarray, radius: Any = 0.0) -> None:
        self.weights = weights
        self.radius = radius
        self.in_size = self.out_size = weights.size

    def with_weights(self, weights: np.ndarray) -> Self:
        return type(self)(weights)

    def matrix(self) -> np.ndarray:
        return np.diag(self.weights)

    def matvec(self, x: np.ndarray) -> np.ndarray:
        return x * self.weights

    def rmatvec(self, y: np.ndarray) -> np.ndarray:
        return self.matvec(y)

    @property
    def parts(self) -> tuple[Any, ...]:
        return (self.weights, self.radius)

    @property
    def fan_in(self) -> int:
        return 1

    fan_out = fan_in
