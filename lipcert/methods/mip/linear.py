"""Mixed-integer linear programs as blocks of variables and of sparse constraints between them, solved by HiGHS."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy import sparse

Term = tuple[np.ndarray, np.ndarray]
"""(coefficients, variables): a matrix, or one number for each variable, times the variables."""

TINY = 1e-7
"""Coefficients that HiGHS is not shown."""

RELATIVE_GAP = 1e-9
"""Between the best solution and the dual bound; HiGHS has an absolute one of 1e-6 as well."""


@dataclass(frozen=True, eq=False)
class Solved:
    """x: the best solution, if there is one; bound: no solution has more, up to the tolerances of HiGHS."""

    x: np.ndarray | None
    bound: float
    finished: bool


@dataclass(eq=False)
class Program:
    """Variables in [low, high], some of them integers, and rows low <= A x <= high."""

    lows: list[np.ndarray] = field(default_factory=list)
    highs: list[np.ndarray] = field(default_factory=list)
    integers: list[np.ndarray] = field(default_factory=list)
    rows: list[tuple[tuple[Term, ...], np.ndarray, np.ndarray]] = field(default_factory=list)
    size: int = 0

    def copy(self) -> Program:
        """One that can be added to."""
        return replace(self, lows=[*self.lows], highs=[*self.highs], integers=[*self.integers], rows=[*self.rows])

    def variables(self, low: np.ndarray, high: np.ndarray, *, integer: bool = False) -> np.ndarray:
        """New ones."""
        self.lows.append(np.array(low, dtype=float))
        self.highs.append(np.array(high, dtype=float))
        self.integers.append(np.full(len(low), integer))
        self.size += len(low)
        return np.arange(self.size - len(low), self.size)

    def binaries(self, count: int) -> np.ndarray:
        """New variables that are 0 or 1."""
        return self.variables(np.zeros(count), np.ones(count), integer=True)

    def equal(self, value: np.ndarray, *terms: Term) -> None:
        """sum of terms = value."""
        self.rows.append((terms, value, value))

    def at_least(self, value: np.ndarray, *terms: Term) -> None:
        """sum of terms >= value."""
        self.rows.append((terms, value, np.full(len(value), math.inf)))

    def maximise(self, what: np.ndarray, seconds: float, cutoff: float = -math.inf) -> Solved:
        """The largest sum of the variables `what`, where it is at least `cutoff`."""
        from scipy.optimize import Bounds, LinearConstraint, milp

        rows = self.rows
        if cutoff > -math.inf:
            rows = [*rows, (((np.ones((1, len(what))), what),), np.array([cutoff]), np.array([math.inf]))]
        cost = np.zeros(self.size)
        np.add.at(cost, what, -1.0)
        low, high = np.concatenate(self.lows), np.concatenate(self.highs)
        sizes = np.maximum(np.abs(low), np.abs(high))
        found = milp(
            cost,
            integrality=np.concatenate(self.integers).astype(int),
            bounds=Bounds(low, high),
            constraints=LinearConstraint(*_without_tiny(_matrix(rows, self.size), *_sides(rows), sizes))
            if rows
            else (),
            options={"time_limit": max(seconds, 0.0), "mip_rel_gap": RELATIVE_GAP},
        )
        if found.status == INFEASIBLE:
            return Solved(None, cutoff, True)
        dual = found.get("mip_dual_bound")
        bound = math.inf if dual is None or not math.isfinite(dual) else -float(dual)
        if found.status == OPTIMAL and not np.any(np.concatenate(self.integers)):
            bound = -float(found.fun)
        return Solved(None if found.x is None else np.asarray(found.x), bound, found.status == OPTIMAL)


OPTIMAL, INFEASIBLE = 0, 2
"""What HiGHS says, in the words of scipy."""


def _matrix(rows: list[tuple[tuple[Term, ...], np.ndarray, np.ndarray]], size: int) -> sparse.csr_array:
    from scipy import sparse

    above, places = 0, []
    for terms, low, _ in rows:
        for coefficients, variables in terms:
            if coefficients.ndim == 1:
                row, column, value = np.arange(len(low)), variables, coefficients
            else:
                row, inner = np.nonzero(coefficients)
                column, value = variables[inner], coefficients[row, inner]
            places.append((above + row, column, value))
        above += len(low)
    row, column, value = (np.concatenate(parts) for parts in zip(*places, strict=True))
    return sparse.csr_array((value, (row, column)), shape=(above, size))


@contextmanager
def _silent() -> Iterator[None]:
    """HiGHS prints some of its troubles, whatever it is told, where a report may go."""
    sys.stdout.flush()
    nowhere, kept = os.open(os.devnull, os.O_WRONLY), os.dup(1)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _without_tiny(
    matrix: sparse.csr_array, low: np.ndarray, high: np.ndarray, sizes: np.ndarray
) -> tuple[sparse.csr_array, np.ndarray, np.ndarray]:
    """Rows with room for what tiny coefficients add, without these: with them HiGHS calls some programs infeasible."""
    tiny = matrix.copy()
    tiny.data = np.where(np.abs(matrix.data) < TINY, np.abs(matrix.data), 0.0)
    room = tiny @ sizes
    kept = matrix.copy()
    kept.data = np.where(tiny.data > 0, 0.0, matrix.data)
    kept.eliminate_zeros()
    return kept, low - room, high + room


def _sides(rows: list[tuple[tuple[Term, ...], np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([low for _, low, _ in rows]), np.concatenate([high for _, _, high in rows])
