"""What every groupwise function knows about itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from lipcert.activations.jacobian import BlockBound
from lipcert.arithmetic.enclosure import Enclosure

MAX_ENTRIES = 2**22
"""Jacobians of more entries are bounded by their row and column sums alone."""


class GroupFunction(ABC):
    """A function from `width` to `out_width` entries, applied to consecutive groups of a vector.

    Arrays hold whole vectors along their last axis, (*batch, G width) in and (*batch, G out_width) out, but for those
    named (G, ..). Bounds may be infinite, and are rounded outward.
    """

    name: str
    width: int
    out_width: int

    @abstractmethod
    def value(self, x: np.ndarray) -> np.ndarray:
        """The function in float64, not rounded safely."""

    @abstractmethod
    def enclose(self, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bounds on the function over the box."""

    @abstractmethod
    def jacobian(self, lower: np.ndarray, upper: np.ndarray) -> BlockBound:
        """Bounds on every Clarke Jacobian over the box."""

    @abstractmethod
    def tangent(self, lower: np.ndarray, upper: np.ndarray, d: Enclosure) -> Enclosure:
        """Enclosure of J d for every Clarke Jacobian J over the box and every d enclosed."""

    @abstractmethod
    def jvp(self, x: np.ndarray, d: np.ndarray) -> np.ndarray:
        """J(x) d in float64 (of one side at a kink), for searches."""

    @abstractmethod
    def vjp(self, x: np.ndarray, g: np.ndarray) -> np.ndarray:
        """J(x)' g in float64, for searches."""

    @abstractmethod
    def torch(self, x: Any) -> Any:
        """The function on a torch tensor (batch, G width), differentiable, for searches on the device."""

    def chosen(self, lower: np.ndarray, upper: np.ndarray) -> np.ndarray | None:
        """(G, out_width): which entry of its group an output certainly equals over the box, -1 where that is open.

        None for functions that do not choose among their entries.
        """
        return None

    def reflections(self, groups: int) -> tuple[Enclosure, Enclosure] | None:
        """(s, c), each (G, width), if the function is v - c max(0, s'v) of each group v; None if it is not."""
        return None

    def maximum_of(self, groups: int) -> np.ndarray | None:
        """(G, width), which entries count, if the function is the largest of these; None if it is not."""
        return None

    @property
    def permutes(self) -> bool:
        """Whether along any segment the Jacobian is a mean of permutations of each group."""
        return False

    def obstacle(self, lower: np.ndarray, upper: np.ndarray) -> str:
        """Why the Jacobian is not bounded over the box (called only where it is not)."""
        return "its slope is not bounded"

    def describe(self) -> str:
        return self.name

    def groups(self, x: np.ndarray) -> np.ndarray:
        """(*batch, G width) -> (*batch, G, width)."""
        return x.reshape(*x.shape[:-1], x.shape[-1] // self.width, self.width)


def flat(x: np.ndarray) -> np.ndarray:
    """(*batch, G, m) -> (*batch, G m)."""
    return x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1])
