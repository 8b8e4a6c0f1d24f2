"""A primal-dual interior-point method for the program: every iterate is feasible, so each one is a certificate.

Helmberg-Kojima-Monteiro directions with Mehrotra's predictor and corrector. The data matrices E E' - Q Q' have low
rank: the Schur complement is a sum of entrywise products of Z and S = P^-1 seen from both sides, a few dense products.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
from scipy.linalg import cho_solve, eigh, eigh_tridiagonal, solve_triangular
from scipy.linalg.blas import dtrsv
from scipy.linalg.lapack import dpotri

from lipcert.arithmetic.threads import idle_cores, side_by_side
from lipcert.methods.lipsdp.barrier import factor_of
from lipcert.methods.lipsdp.loops import loop_start
from lipcert.methods.lipsdp.program import Program
from lipcert.methods.lipsdp.structure import LARGE, Structured

MAX_ITERATIONS = 60
ROOM = (1.5, 2.0, 3.0, 5.0)
"""By how much the start dominates each Schur complement."""

DENSE = 64
"""Up to this size all eigenvalues are computed for the length of a step; beyond, Lanczos finds the least."""

LANCZOS = 12
"""Steps of it."""

CLOSE = 1e-6
"""The relative duality gap at which the method ends."""


A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True, eq=False)
class Iterate:
    """Feasible multipliers of inputs and groups; `objective` bounds |dy|^2 (in l1 over the number of outputs)."""

    inputs: np.ndarray
    multipliers: np.ndarray
    objective: float
    gap: float = np.inf
    """Relative distance to the dual objective, its infeasibility added."""

    forms: tuple[tuple[int, np.ndarray], ...] = ()
    """Of nodes, the values of their certificate.claim.FormChoice, relative to the multipliers of their groups."""

    outputs: np.ndarray | None = None
    """Scales of outputs, where they are not all 1."""

    @property
    def dual(self) -> float:
        """What no multipliers get below, as far as floating point tells; 0 where nothing is known."""
        return max(0.0, self.objective * (1 - self.gap)) if np.isfinite(self.gap) else 0.0


def closed_form_start(program: Program, room: float) -> tuple[np.ndarray, np.ndarray]:
    """Feasible multipliers, from the outputs back, node after node: each Schur complement is dominated in turn."""
    form = program.out.T @ program.out
    multipliers = np.zeros(program.groups)
    for level in reversed(program.levels):
        neurons = slice(level.start - program.inputs, level.stop - program.inputs)
        groups = np.unique(program.neuron_group[neurons])
        block = form[level, level]
        top = _largest(block)
        if not np.isfinite(top):
            break  # the multipliers that are left at zero say that this is no start
        weight = room * max(top, 1e-12 * max(1e-300, float(np.abs(form).max(initial=0.0))))
        multipliers[groups] = weight
        rest = slice(0, level.start)
        inner = weight * np.eye(len(block)) - block
        tilted = program.tilted(np.arange(neurons.start, neurons.stop))[:, rest]
        beside = form[level, rest] + weight * tilted
        form[rest, rest] += beside.T @ np.linalg.solve(inner, beside)
        rows = program.rows[np.isin(program.row_group, groups)][:, rest]
        form[rest, rest] += weight * (rows.T @ rows - tilted.T @ tilted)
    n = program.inputs
    top = _largest(form[:n, :n])
    return np.full(n if program.each_input else 1, max(1.5, room) * top), multipliers


def _largest(matrix: np.ndarray) -> float:
    """The largest eigenvalue; infinite where an entry is not finite."""
    if not np.all(np.isfinite(matrix)):
        return np.inf
    return float(np.linalg.eigvalsh(matrix)[-1]) if matrix.size else 0.0


def feasible_start(program: Program) -> Structured | None:
    """The best of a few closed-form starts that is one in floating point.

    With little room multipliers explode from layer to layer, and margins vanish in rounding.
    """
    if program.has_loops:
        found = loop_start(program)
        starts = [] if found is None else [np.concatenate(found)]
    else:
        starts = [np.concatenate(closed_form_start(program, room)) for room in ROOM]
    first = program.inputs if program.each_input else 1
    usable = [s for s in starts if np.all((s > 0) & np.isfinite(s))]
    usable.sort(key=lambda s: float(s[:first].sum()))
    for start in usable:
        scaled = Structured(program, start[:first], start[first:])
        if factor_of(scaled.matrix(np.ones(scaled.variables))) is not None:
            return scaled
    return None


def solve(program: Program, tick: Callable[[], None] = lambda: None, close: float = CLOSE) -> Iterator[Iterate]:
    """Iterates from the closed-form start on, each feasible and nearer to the optimum."""
    scaled = feasible_start(program)
    if scaled is None:
        return
    y = np.ones(scaled.variables)
    yield _iterate(scaled, y, np.inf)
    p = scaled.matrix(y)
    factor = factor_of(p)
    assert factor is not None
    s = _inverse(factor)
    z = s / float(scaled.b @ scaled.adjoint(s)) * float(scaled.b @ scaled.b)
    z_factor = factor_of(z)
    pair = side_by_side if len(p) > LARGE else _in_turn
    for _ in range(MAX_ITERATIONS):
        tick()
        if factor is None or z_factor is None:
            return
        mu = float(np.vdot(p, z)) / len(p)
        newton = _Newton(scaled, z, s)
        if newton.solver is None:
            return
        _, dp, forward = newton.direction(0.0, None)
        dz = -z - _symmetric(_product(z, forward))
        ends = pair(partial(_to_boundary, factor, dp), partial(_to_boundary, z_factor, dz))
        a_p, a_z = (min(1.0, end) for end in ends)
        affine = float(np.vdot(p + a_p * dp, z + a_z * dz)) / len(p)
        sigma = min(1.0, (max(affine, 0.0) / mu) ** max(1.0, 3 * min(a_p, a_z) ** 2))
        second = _symmetric(_product(dz, forward))
        dy, dp, forward = newton.direction(sigma * mu, second)
        dz = sigma * mu * s - z - _symmetric(_product(z, forward)) - second
        share = 0.9 + 0.09 * min(a_p, a_z)
        if scaled.program.has_loops and np.any(dy < 0):  # multipliers below zero prove nothing there
            share_y = float(np.min(-y[dy < 0] / dy[dy < 0]))
            dp, dy = dp * min(1.0, 0.9 * share_y), dy * min(1.0, 0.9 * share_y)
        (p, factor, a_p, s), (z, z_factor, _, _) = pair(
            partial(_moved, p, factor, dp, share, s), partial(_moved, z, z_factor, dz, share, np.zeros(0))
        )
        if factor is None:
            return
        y = y + a_p * dy
        objective = float(scaled.b @ y)
        gap = float(np.vdot(p, z)) / objective
        infeasible = abs(float((scaled.b - scaled.adjoint(z)) @ y)) / objective
        yield _iterate(scaled, y, gap + infeasible)
        if gap < close and infeasible < close:
            return


def _in_turn(left: Callable[[], A], right: Callable[[], B]) -> tuple[A, B]:
    return left(), right()


def _iterate(scaled: Structured, y: np.ndarray, gap: float) -> Iterate:
    inputs = scaled.inputs * y[: scaled.first]
    return Iterate(inputs, scaled.multipliers * y[scaled.first :], float(inputs.sum()), gap)


Moved = tuple[np.ndarray, np.ndarray | None, float, np.ndarray]


def _moved(matrix: np.ndarray, factor: np.ndarray, step: np.ndarray, share: float, inverse: np.ndarray) -> Moved:
    """The matrix moved by a share of the way to the boundary, less until it has a factor, and its inverse, if given."""
    length = min(1.0, share * _to_boundary(factor, step))
    for _ in range(4):
        moved = matrix + length * step
        found = factor_of(moved)
        if found is not None:
            return moved, found, length, _inverse(found) if inverse.size else inverse
        length *= 0.8
    return matrix, None, 0.0, inverse


class _Newton:
    """The Schur complement at one iterate, factorised."""

    def __init__(self, scaled: Structured, z: np.ndarray, s: np.ndarray) -> None:
        self.scaled, self.z, self.s = scaled, z, s
        schur = scaled.schur(z, s)
        self.scale = 1 / np.sqrt(np.maximum(np.diag(schur), 1e-300))
        schur *= np.outer(self.scale, self.scale)
        schur[np.diag_indices(len(schur))] += 1e-14
        self.solver = factor_of(schur)
        self.adjoint_s = scaled.adjoint(s)

    def direction(self, target: float, second: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Steps of y and P towards P Z = target I, and dP S; `second` corrects for the product of the steps."""
        scaled = self.scaled
        right = target * self.adjoint_s - scaled.b
        if second is not None:
            right = right - scaled.adjoint(second)
        dy = self.scale * cho_solve((self.solver, True), self.scale * right)
        dp = scaled.linear(dy)
        return dy, dp, scaled.step_times(dp, self.s)


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a b, on the cores that are free at this moment: a solve may take longer than what else was running."""
    if len(a) <= LARGE:
        return a @ b
    with idle_cores():
        return a @ b


def _symmetric(matrix: np.ndarray) -> np.ndarray:
    return (matrix + matrix.T) / 2


def _inverse(factor: np.ndarray) -> np.ndarray:
    """(L L')^-1."""
    inverse, _ = dpotri(factor, lower=True)
    lower = np.tril(inverse)
    diagonal = np.diag(lower).copy()
    lower += lower.T
    lower[np.diag_indices(len(lower))] = diagonal
    return np.asarray(lower)


def _to_boundary(factor: np.ndarray, step: np.ndarray) -> float:
    """About the largest a with L L' + a step positive semidefinite, a little less."""
    n = len(factor)
    if n <= DENSE:
        half = solve_triangular(factor, step, lower=True)
        scaled = solve_triangular(factor, half.T, lower=True)
        least = float(eigh(scaled, eigvals_only=True, subset_by_index=[0, 0], overwrite_a=True)[0])
        return np.inf if least >= 0 else -1 / least
    least = _least(factor, step)
    return np.inf if least >= 0 else -1 / least


def _least(factor: np.ndarray, step: np.ndarray) -> float:
    """About the least eigenvalue of L^-1 step L'^-1, or less: Lanczos, reorthogonalised, and what it is not sure of."""
    n = len(factor)
    basis, diagonal, below = np.zeros((LANCZOS + 1, n)), np.zeros(LANCZOS), np.zeros(LANCZOS)
    start = np.random.default_rng(0).standard_normal(n)
    basis[0] = start / np.linalg.norm(start)
    for k in range(LANCZOS):
        v = dtrsv(factor, step @ dtrsv(factor, basis[k], lower=1, trans=1), lower=1)
        diagonal[k] = basis[k] @ v
        for _ in range(2):
            v -= (basis[: k + 1] @ v) @ basis[: k + 1]
        below[k] = np.linalg.norm(v)
        if not below[k] > 0:
            break
        basis[k + 1] = v / below[k]
    values, vectors = eigh_tridiagonal(diagonal[: k + 1], below[:k])
    return float(values[0] - below[k] * abs(vectors[-1, 0]))
