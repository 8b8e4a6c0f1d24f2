"""The interface of a linear operator, and of a leaf whose entries are single stored numbers.

Operators act on vectors: tensors flattened in C order, any number of batch axes in front. An operator knows how many
products each of its sums has (`fan_in`, `fan_out`), which is all that rounding analysis needs.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from lipcert.arithmetic.rounding import up

if TYPE_CHECKING:
    from jaxtyping import Float


Shape = tuple[int, ...]


def size_of(shape: Shape) -> int:
    """Number of entries of a tensor of this shape."""
    return math.prod(shape)


class LinearOperator(ABC):
    """A real matrix of `out_size` rows and `in_size` columns, given by what it does to vectors."""

    in_size: int
    out_size: int

    @abstractmethod
    def matvec(self, x: Float[np.ndarray, "*batch n"]) -> Float[np.ndarray, "*batch m"]:
        """A x, in the dtype of x (float64, or objects such as balls)."""

    @abstractmethod
    def rmatvec(self, y: Float[np.ndarray, "*batch m"]) -> Float[np.ndarray, "*batch n"]:
        """A' y."""

    @property
    @abstractmethod
    def fan_in(self) -> int:
        """At most this many rounded operations contribute to an entry of A x."""

    @property
    @abstractmethod
    def fan_out(self) -> int:
        """At most this many rounded operations contribute to an entry of A' y."""

    @property
    def block(self) -> LinearOperator:
        """The operator of which this one is a number of copies side by side: of the same l2 norm."""
        return self

    @property
    def size(self) -> tuple[int, int]:
        return (self.out_size, self.in_size)

    @property
    def work(self) -> int:
        """About how many multiplications A x takes."""
        return self.out_size * max(1, self.fan_in)

    @property
    def dense_work(self) -> int:
        """About how many multiplications writing out the matrix takes."""
        return self.in_size * self.out_size

    @property
    @abstractmethod
    def parts(self) -> tuple[Any, ...]:
        """All that determines the operator: arrays, numbers, tuples of numbers, operators."""

    @cached_property
    def digest(self) -> bytes:
        """Equal for operators of the same kind that are made of the same parts."""
        digest = hashlib.sha256(type(self).__name__.encode())
        for part in self.parts:
            if isinstance(part, LinearOperator):
                text, data = "operator", part.digest
            elif isinstance(part, np.ndarray):
                text, data = f"{part.dtype.str} {part.shape}", np.ascontiguousarray(part).tobytes()
            else:
                text, data = repr(part), b""
            digest.update(f"({len(text)} {len(data)} {text}".encode())
            digest.update(data)
        return digest.digest()

    def describe(self) -> str:
        """A few words for `lipcert inspect`."""
        return f"{type(self).__name__.lower()} {self.out_size}x{self.in_size}"


class Leaf(LinearOperator):
    """An operator each of whose entries is one stored weight (or 0, or 1), known up to `radius`.

    `weights` is None where every entry is 0 or 1. `radius` (same shape, or the scalar 0.0) bounds |true - stored|.
    """

    weights: np.ndarray | None
    radius: Any

    @abstractmethod
    def with_weights(self, weights: np.ndarray) -> Self:
        """The operator of the same structure with other weights (of any dtype) and radius zero."""

    @cached_property
    def magnitude(self) -> Self:
        """Entrywise upper bound on |A|, radius included."""
        if self.weights is None:
            return self
        absolute = np.abs(self.weights)
        return self.with_weights(up(absolute + self.radius) if np.any(self.radius) else absolute)

    @cached_property
    def uncertainty(self) -> Self | None:
        """The operator of the radii; None where the weights are exact."""
        if self.weights is None or not np.any(self.radius):
            return None
        return self.with_weights(np.broadcast_to(np.asarray(self.radius, dtype=float), self.weights.shape))

    def matrix(self) -> np.ndarray:
        """The stored weights written out as an (m, n) matrix, without rounding.

        Applied to the identity, each sum has one nonzero product, by 1.
        """
        if self.out_size <= self.in_size:
            return self.rmatvec(np.eye(self.out_size))
        return np.ascontiguousarray(self.matvec(np.eye(self.in_size)).T)

    @property
    def parameters(self) -> int:
        return 0 if self.weights is None else self.weights.size
