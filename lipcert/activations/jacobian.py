"""Bounds on the unknown Jacobian of a nonlinear node over a box: all that increments need to know about it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from lipcert.arithmetic.rounding import inflate, mul_up


class JacobianBound(ABC):
    """Holds for every Clarke Jacobian J over the box, and so for the mean J that maps dv to dw along a segment."""

    @property
    @abstractmethod
    def spectral(self) -> np.ndarray:
        """s, one for each entry of v, with |J dv|_2 <= |diag(s) dv|_2."""

    @abstractmethod
    def forward(self, e: np.ndarray) -> np.ndarray:
        """Upper bounds on |J dv| entrywise, given |dv| <= e."""

    @abstractmethod
    def backward(self, f: np.ndarray) -> np.ndarray:
        """g >= 0 with f'|J dv| <= g'|dv| for every dv, given f >= 0."""


@dataclass(frozen=True, eq=False)
class DiagonalBound(JacobianBound):
    """J is diagonal, entry i at most `steepest[i]` in absolute value."""

    steepest: np.ndarray

    @property
    def spectral(self) -> np.ndarray:
        return self.steepest

    def forward(self, e: np.ndarray) -> np.ndarray:
        return mul_up(self.steepest, e)

    def backward(self, f: np.ndarray) -> np.ndarray:
        return mul_up(self.steepest, f)


@dataclass(frozen=True, eq=False)
class SlopeBound(DiagonalBound):
    """J is diagonal, entry i in [low[i], high[i]], which `steepest` bounds in absolute value."""

    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True, eq=False)
class Forms:
    """Quadratic forms that increments of a group keep: [dv; dw]' Q [dv; dw] >= 0, Q symmetric, of k + m rows.

    Either every J is a mean of some `extremes`: then Q may be any matrix with a negative definite block of dw and
    [I; M]' Q [I; M] positive definite for these M, as that form is concave in M. Or Q is in the span of `basis`, which
    is nobody's proof: what is bounded with it holds if it does.
    """

    extremes: np.ndarray | None = None
    """(K, m, k)."""

    possible: np.ndarray | None = None
    """(G, K): which extremes a group has over the box."""

    basis: np.ndarray | None = None
    """(G, T, k + m, k + m)."""

    nonnegative: np.ndarray | None = None
    """(T,): whether a multiplier must not be negative; the others are free."""

    def of_groups(self, kept: np.ndarray) -> Forms:
        """The forms of some of the groups, given by a mask."""
        possible = None if self.possible is None else self.possible[kept]
        basis = None if self.basis is None else self.basis[kept]
        return Forms(self.extremes, possible, basis, self.nonnegative)


@dataclass(frozen=True, eq=False)
class BlockBound(JacobianBound):
    """J is block diagonal, one block of m rows and k columns for each of G groups."""

    norms: np.ndarray
    """(G,) bounds on the l2 norms of the blocks."""

    rows: np.ndarray
    """(G, m) bounds on the absolute row sums."""

    columns: np.ndarray
    """(G, k) bounds on the absolute column sums."""

    entries: np.ndarray | None = None
    """(G, m, k) bounds on the absolute entries; None where they would be too many."""

    forms: Forms | None = None
    """Sharper quadratic constraints than the norms, where some are known."""

    def of_groups(self, kept: np.ndarray) -> BlockBound:
        """The bound of some of the groups, given by a mask."""
        entries = None if self.entries is None else self.entries[kept]
        forms = None if self.forms is None else self.forms.of_groups(kept)
        return BlockBound(self.norms[kept], self.rows[kept], self.columns[kept], entries, forms)

    @property
    def spectral(self) -> np.ndarray:
        return np.repeat(self.norms, self.columns.shape[1])

    def forward(self, e: np.ndarray) -> np.ndarray:
        return _through(self.rows, self.entries, e.reshape(self.columns.shape))

    def backward(self, f: np.ndarray) -> np.ndarray:
        entries = None if self.entries is None else self.entries.swapaxes(1, 2)
        return _through(self.columns, entries, f.reshape(self.rows.shape))


def _through(sums: np.ndarray, entries: np.ndarray | None, e: np.ndarray) -> np.ndarray:
    """The smaller of (absolute row sum) x (largest e that the row meets) and (absolute entries) x e."""
    if entries is None:
        return mul_up(sums, e.max(axis=1, keepdims=True)).reshape(-1)
    met = np.where(entries == 0, 0.0, e[:, None, :]).max(axis=2)  # NaN entries count
    products = mul_up(entries, e[:, None, :])
    total = inflate(products.sum(axis=2), e.shape[1])
    alone = np.count_nonzero(products, axis=2) <= 1  # then nothing was rounded
    return np.minimum(mul_up(sums, met), np.where(alone, products.max(axis=2), total)).reshape(-1)  # keeps NaN
