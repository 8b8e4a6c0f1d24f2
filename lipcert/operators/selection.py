"""Operators that only move entries: reshapes, transposes, slices, padding, concatenation, broadcasting."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Self

import numpy as np

from lipcert.operators.base import Leaf


class Identity(Leaf):
    """The identity; every reshape is one, since vectors are tensors flattened in C order."""

    weights = None
    radius = 0.0

    def __init__(self, size: int) -> None:
        self.in_size = self.out_size = size

    def with_weights(self, weights: np.ndarray) -> Self:
        return self

    def matvec(self, x: np.ndarray) -> np.ndarray:
        return x

    def rmatvec(self, y: np.ndarray) -> np.ndarray:
        return self.matvec(y)

    @property
    def parts(self) -> tuple[Any, ...]:
        return (self.in_size,)

    @property
    def fan_in(self) -> int:
        return 0

    fan_out = fan_in


class Selection(Leaf):
    """(A x)_i = x[index_i], and 0 where index_i is -1."""

    weights = None
    radius = 0.0

    def __init__(self, index: np.ndarray, in_size: int) -> None:
        self.index = np.ascontiguousarray(index, dtype=np.int64).reshape(-1)
        if self.index.size and not (self.index.min() >= -1 and self.index.max() < in_size):
            raise ValueError(f"selection index out of range for a vector of {in_size} entries")
        self.in_size, self.out_size = in_size, self.index.size

    def with_weights(self, weights: np.ndarray) -> Self:
        return self

    @cached_property
    def multiplicity(self) -> int:
        """How often the most used entry is selected; the squared l2 norm of the operator."""
        used = self.index[self.index >= 0]
        return int(np.bincount(used).max()) if used.size else 0

    def matvec(self, x: np.ndarray) -> np.ndarray:
        if not self.in_size:
            return np.zeros((*x.shape[:-1], self.out_size), dtype=x.dtype)
        picked = x[..., self.index]
        if np.any(self.index < 0):
            picked[..., self.index < 0] = 0
        return picked

    def rmatvec(self, y: np.ndarray) -> np.ndarray:
        kept = self.index >= 0
        x = np.zeros((*y.shape[:-1], self.in_size), dtype=y.dtype)
        if self.multiplicity <= 1:
            x[..., self.index[kept]] = y[..., kept]
        else:
            np.add.at(x.T, self.index[kept], y[..., kept].T)
        return x

    @property
    def parts(self) -> tuple[Any, ...]:
        return (self.index, self.in_size)

    @property
    def fan_in(self) -> int:
        return 0

    @property
    def fan_out(self) -> int:
        return self.multiplicity if self.multiplicity > 1 else 0
