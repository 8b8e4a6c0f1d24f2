"""Sums over axes of a tensor: with a diagonal, means and poolings over whole maps."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from lipcert.operators.base import Leaf, Shape, size_of


class Reduction(Leaf):
    """Sum of a tensor of shape `in_shape` over `axes`; entries 0 and 1."""

    weights = None
    radius = 0.0

    def __init__(self, in_shape: Shape, axes: tuple[int, ...]) -> None:
        self.in_shape = in_shape
        self.axes = tuple(sorted(axes))
        self.kept_shape = tuple(1 if a in self.axes else d for a, d in enumerate(in_shape))
        self.in_size, self.out_size = size_of(in_shape), size_of(self.kept_shape)

    def with_weights(self, weights: np.ndarray) -> Self:
        return self

    @property
    def count(self) -> int:
        """How many entries each sum has."""
        return self.in_size // self.out_size

    def matvec(self, x: np.ndarray) -> np.ndarray:
        lead = x.shape[:-1]
        axes = tuple(len(lead) + a for a in self.axes)
        return x.reshape(*lead, *self.in_shape).sum(axis=axes, keepdims=True).reshape(*lead, self.out_size)

    def rmatvec(self, y: np.ndarray) -> np.ndarray:
        lead = y.shape[:-1]
        spread = np.broadcast_to(y.reshape(*lead, *self.kept_shape), (*lead, *self.in_shape))
        return spread.reshape(*lead, self.in_size).copy()

    @property
    def parts(self) -> tuple[Any, ...]:
        return (self.in_shape, self.axes)

    @property
    def fan_in(self) -> int:
        return self.count

    @property
    def fan_out(self) -> int:
        return 0
