"""What every elementwise activation knows about itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float


class Activation(ABC):
    """A scalar function applied to each entry, locally Lipschitz on the whole line.

    Bounds may be infinite. Everything that returns a pair of bounds rounds it outward.
    """

    name: str
    kinks: tuple[float, ...] = ()
    """Points at which the function is not differentiable."""

    @abstractmethod
    def value(self, x: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
        """phi(x) in float64, not rounded safely."""

    @abstractmethod
    def enclose(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bounds on phi over [lower, upper]."""

    @abstractmethod
    def slopes(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bounds on the Clarke derivative of phi over the closed interval [lower, upper]."""

    @abstractmethod
    def derivative(self, x: np.ndarray) -> np.ndarray:
        """phi'(x) in float64 (one of the two sides at a kink), for searches."""

    @abstractmethod
    def torch(self, x: Any) -> Any:
        """phi on a torch tensor, differentiable, for searches on the device."""

    def describe(self) -> str:
        return self.name
