"""An activation of a multiple of its argument, divided by the same factor: its slopes are those of the activation."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from lipcert.activations.base import Activation
from lipcert.arithmetic.rounding import two_product


class Scaled(Activation):
    """base(factor x) / factor, for a finite factor other than zero."""

    def __init__(self, base: Activation, factor: float) -> None:
        if factor == 0 or not np.isfinite(factor):
            raise ValueError(f"the factor is {factor}")
        self.base, self.factor = base, factor
        self.name = f"scaled_{base.name}"
        self.kinks = tuple(sorted(kink / factor for kink in base.kinks))

    @np.errstate(over="ignore", under="ignore")
    def value(self, x: np.ndarray) -> np.ndarray:
        return self.base.value(self._near(x)) / self.factor

    @np.errstate(over="ignore", under="ignore")
    def derivative(self, x: np.ndarray) -> np.ndarray:
        return self.base.derivative(self._near(x))

    def torch(self, x: Any) -> Any:
        return self.base.torch(x * self.factor) / self.factor

    def enclose(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        low, high = self.base.enclose(*self._argument(lower, upper))
        if self.factor < 0:
            low, high = high, low
        return _quotient(low, self.factor, -np.inf), _quotient(high, self.factor, np.inf)

    def slopes(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.base.slopes(*self._argument(lower, upper))

    def obstacle(self, lower: np.ndarray, upper: np.ndarray) -> str:
        phrase = self.base.obstacle(*self._argument(lower, upper))
        return phrase and f"{phrase} (there, x stands for {self.factor:g} times its argument)"

    def describe(self) -> str:
        return f"{self.base.describe()} of {self.factor:g} x, over {self.factor:g}"

    def _near(self, x: np.ndarray) -> np.ndarray:
        """factor x, the largest float where it overflows."""
        return np.clip(self.factor * x, -sys.float_info.max, sys.float_info.max)

    def _argument(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """factor [lower, upper], rounded outward where a product is not exact."""
        low, high = (lower, upper) if self.factor > 0 else (upper, lower)
        return _product(low, self.factor, -np.inf), _product(high, self.factor, np.inf)


@np.errstate(over="ignore", under="ignore", invalid="ignore")
def _product(x: np.ndarray, factor: float, outward: float) -> np.ndarray:
    product, error = two_product(x, factor)
    return np.where((error == 0) | np.isinf(x), product, np.nextafter(product, outward))


@np.errstate(over="ignore", under="ignore", invalid="ignore")
def _quotient(x: np.ndarray, factor: float, outward: float) -> np.ndarray:
    quotient = x / factor
    product, error = two_product(quotient, factor)
    exact = (product == x) & (error == 0) | np.isinf(x)
    return np.where(exact, quotient, np.nextafter(quotient, outward))
