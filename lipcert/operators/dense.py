"""A dense matrix, applied to each of `copies` consecutive blocks of the vector (I kron M)."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from lipcert.operators.base import Leaf


class Dense(Leaf):
    """I_copies kron M with M = `weights` (m x k): MatMul and Gemm on the last axis of a tensor."""

    weights: np.ndarray

    def __init__(self, weights: np.ndarray, radius: Any = 0.0, copies: int = 1) -> None:
        self.weights = weights
        self.radius = radius
        self.copies = copies
        m, k = weights.shape
        self.out_size, self.in_size = copies * m, copies * k

    def with_weights(self, weights: np.ndarray) -> Self:
        return type(self)(weights, 0.0, self.copies)

    def matrix(self) -> np.ndarray:
        return self.weights if self.copies == 1 else np.kron(np.eye(self.copies), self.weights)

    def matvec(self, x: np.ndarray) -> np.ndarray:
        return self._apply(x, self.weights.T)

    def rmatvec(self, y: np.ndarray) -> np.ndarray:
        return self._apply(y, self.weights)

    def _apply(self, x: np.ndarray, right: np.ndarray) -> np.ndarray:
        if self.copies == 1:
            return x @ right
        blocks = x.reshape(*x.shape[:-1], self.copies, right.shape[0]) @ right
        return blocks.reshape(*x.shape[:-1], self.copies * right.shape[1])

    @property
    def block(self) -> Dense:
        return self if self.copies == 1 else Dense(self.weights, self.radius)

    @property
    def parts(self) -> tuple[Any, ...]:
        return (self.weights, self.radius, self.copies)

    @property
    def fan_in(self) -> int:
        return self.weights.shape[1]

    @property
    def fan_out(self) -> int:
        return self.weights.shape[0]
