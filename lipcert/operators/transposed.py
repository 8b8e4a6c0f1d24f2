"""The transpose of a leaf: a transposed convolution is that of a convolution."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from lipcert.operators.base import Leaf


class Transposed(Leaf):
    """A' of a leaf A, with its weights."""

    def __init__(self, leaf: Leaf) -> None:
        self.leaf = leaf
        self.weights, self.radius = leaf.weights, leaf.radius
        self.in_size, self.out_size = leaf.out_size, leaf.in_size

    def with_weights(self, weights: np.ndarray) -> Self:
        return type(self)(self.leaf.with_weights(weights))

    def matvec(self, x: np.ndarray) -> np.ndarray:
        return self.leaf.rmatvec(x)

    def rmatvec(self, y: np.ndarray) -> np.ndarray:
        return self.leaf.matvec(y)

    def matrix(self) -> np.ndarray:
        return np.ascontiguousarray(self.leaf.matrix().T)

    @property
    def parts(self) -> tuple[Any, ...]:
        return (self.leaf,)

    @property
    def fan_in(self) -> int:
        return self.leaf.fan_out

    @property
    def fan_out(self) -> int:
        return self.leaf.fan_in

    def describe(self) -> str:
        return f"transposed {self.leaf.describe()}"
