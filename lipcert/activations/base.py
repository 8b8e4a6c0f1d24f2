"""What every elementwise activation knows about itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float


class Activation(ABC):
    """A scalar function applied to each entry.

    Bounds may be infinite, and are where nothing finite is true: slopes over an interval that touches a jump, a pole, a
    vertical tangent or a point outside the domain, and values over one that the function is not defined on.
    Everything that returns a pair of bounds rounds it outward. Intervals are closed, their ends may be infinite, and
    lower <= upper; where an end is NaN nothing is claimed: the bounds are NaN too, or contain all slopes (or values).
    """

    name: str
    kinks: tuple[float, ...] = ()
    """Points at which the function is not differentiable (not even continuous, perhaps), rounded; at most 100."""

    @abstractmethod
    def value(self, x: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
        """phi(x) in float64, not rounded safely."""

    @abstractmethod
    def enclose(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bounds on phi over [lower, upper]; (-inf, inf) where phi is not defined on all of it."""

    @abstractmethod
    def slopes(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bounds on the Clarke derivative of phi over the closed interval [lower, upper]."""

    @abstractmethod
    def derivative(self, x: np.ndarray) -> np.ndarray:
        """phi'(x) in float64 (that of one of the two sides at a kink or a jump), for searches."""

    @abstractmethod
    def torch(self, x: Any) -> Any:
        """phi on a torch tensor, differentiable, for searches on the device."""

    def obstacle(self, lower: np.ndarray, upper: np.ndarray) -> str:
        """Why slopes over such intervals are infinite, in one phrase; asked only where they are."""
        return ""

    def describe(self) -> str:
        return self.name
