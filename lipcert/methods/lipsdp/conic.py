"""Semidefinite programs of one large cone with low-rank data and many small ones, by an interior-point method.

minimise b'y subject to P(y) > 0, small conditions > 0, and y > 0 for some variables. P(y) = Z' K(y) Z - constant with K
block diagonal: what a Newton step needs of the data are products of Z with P^-1 and the dual. The directions are those
of lipsdp.interior_point (Helmberg, Rendl, Vanderbei, Wolkowicz; Kojima, Shindoh, Hara; Monteiro).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.linalg import cho_solve
from scipy.sparse import csr_array

from lipcert.methods.lipsdp.barrier import factor_of

MAX_ITERATIONS = 60

CLOSE = 1e-7
"""The relative duality gap at which the method ends."""

Cones = list[np.ndarray]
"""A matrix of each cone, as stacks (groups, c, c)."""


@dataclass(frozen=True, eq=False)
class Condition:
    """sum_t y_t parts_t > 0 for each of (G) groups: parts (G, T, c, c) of the variables (G, T)."""

    variables: np.ndarray
    parts: np.ndarray

    def value(self, y: np.ndarray) -> np.ndarray:
        return np.einsum("gt,gtab->gab", y[self.variables], self.parts)


@dataclass(eq=False)
class ConicBuilder:
    """The problem as it grows: rows of Z, entries of K, variables."""

    rows: list[np.ndarray] = field(default_factory=list)
    height: int = 0
    pairs: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    count: int = 0
    weights: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=list)
    """(variables, pairs, weights)."""

    conditions: list[Condition] = field(default_factory=list)

    def stack(self, rows: np.ndarray) -> np.ndarray:
        """Add rows of Z; their numbers."""
        self.rows.append(rows)
        self.height += len(rows)
        return np.arange(self.height - len(rows), self.height)

    def squares(self, rows: np.ndarray, variables: np.ndarray, sign: float) -> None:
        """Add sign y z z' for each row z of Z and its variable."""
        pairs = self._pairs(rows, rows)
        self.weights.append((variables, pairs, np.full(len(rows), sign)))

    def blocks(self, rows: np.ndarray, variables: np.ndarray, shapes: np.ndarray) -> None:
        """Add - z' (sum_t y_t shapes_t) z: rows (G, s), variables (G, T), shapes (G, T, s, s)."""
        i, j = np.triu_indices(rows.shape[1])
        pairs = self._pairs(rows[:, i].reshape(-1), rows[:, j].reshape(-1)).reshape(len(rows), -1)
        weights = -shapes[:, :, i, j] * np.where(i == j, 1.0, 2.0)
        g, t, p = np.nonzero(weights)
        self.weights.append((variables[g, t], pairs[g, p], weights[g, t, p]))

    def _pairs(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        self.pairs.append((left, right))
        self.count += len(left)
        return np.arange(self.count - len(left), self.count)


class ConicProblem:
    """The program; P is the first of its cones, the variables that are positive the last."""

    def __init__(self, built: ConicBuilder, constant: np.ndarray, b: np.ndarray, positive: np.ndarray) -> None:
        self.z = np.concatenate(built.rows)
        self.left, self.right = (np.concatenate(side) for side in zip(*built.pairs, strict=True))
        variables, pairs, weights = (np.concatenate(part) for part in zip(*built.weights, strict=True))
        self.of = csr_array((weights, (variables, pairs)), shape=(len(b), built.count))
        self.constant, self.b = constant, b
        chosen = np.flatnonzero(positive)
        self.conditions = (*built.conditions, Condition(chosen[:, None], np.ones((len(chosen), 1, 1, 1))))
        self.dimension = len(constant) + sum(c.parts.shape[0] * c.parts.shape[2] for c in self.conditions)

    def linear(self, y: np.ndarray) -> Cones:
        """The cones at y, without the constant."""
        weighted = self.z[self.left] * (self.of.T @ y)[:, None]
        total = weighted.T @ self.z[self.right]
        return [((total + total.T) / 2)[None], *(c.value(y) for c in self.conditions)]

    def value(self, y: np.ndarray) -> Cones:
        """The cones at y."""
        found = self.linear(y)
        found[0] = found[0] - self.constant
        return found

    def adjoint(self, x: Cones) -> np.ndarray:
        """tr(F_j X) for each variable j, X symmetric."""
        seen = self.z @ x[0][0]
        found = self.of @ np.einsum("pi,pi->p", seen[self.left], self.z[self.right])
        for c, of in zip(self.conditions, x[1:], strict=True):
            np.add.at(found, c.variables, np.einsum("gtab,gab->gt", c.parts, of))
        return np.asarray(found)

    def schur(self, z: Cones, s: Cones) -> np.ndarray:
        """tr(F_j Z F_k S)."""
        a, b = (self.z @ m[0][0] @ self.z.T for m in (z, s))
        i, j = self.left, self.right
        total = a[np.ix_(i, i)] * b[np.ix_(j, j)]
        total += a[np.ix_(j, j)] * b[np.ix_(i, i)]
        total += a[np.ix_(i, j)] * b[np.ix_(j, i)]
        total += a[np.ix_(j, i)] * b[np.ix_(i, j)]
        found = np.asarray(self.of @ (self.of @ (total / 4)).T)
        for c, of, inverse in zip(self.conditions, z[1:], s[1:], strict=True):
            left, right = c.parts @ of[:, None], c.parts @ inverse[:, None]
            both = np.einsum("gtab,guba->gtu", left, right, optimize=True)
            np.add.at(found, (c.variables[:, :, None], c.variables[:, None, :]), both)
        return (found + found.T) / 2


@dataclass(frozen=True, eq=False)
class _Point:
    """Cones at y, their inverses, the dual, and the Schur complement factorised: directions from here."""

    problem: ConicProblem
    value: Cones
    dual: Cones
    inverse: Cones
    scale: np.ndarray
    factor: np.ndarray
    barrier: np.ndarray
    mu: float

    def direction(self, sigma: float, correction: Cones | None) -> tuple[np.ndarray, Cones, Cones]:
        """HKM direction to sigma mu: of y, of the cones and of the dual."""
        target = sigma * self.mu * self.barrier - self.problem.b
        if correction is not None:
            target = target - self.problem.adjoint(correction)
        dy = self.scale * cho_solve((self.factor, True), self.scale * target)
        moved = self.problem.linear(dy)
        other = [
            sigma * self.mu * s - z - _symmetric(z @ d @ s)
            for s, z, d in zip(self.inverse, self.dual, moved, strict=True)
        ]
        if correction is not None:
            other = [o - c for o, c in zip(other, correction, strict=True)]
        return dy, moved, other


def _point(problem: ConicProblem, value: Cones, dual: Cones) -> _Point | None:
    inverse = [_symmetric(np.linalg.inv(v)) for v in value]
    hessian = problem.schur(dual, inverse)
    scale = 1 / np.sqrt(np.maximum(np.diag(hessian), 1e-300))
    factor = factor_of(hessian * np.outer(scale, scale) + 1e-14 * np.eye(len(scale)))
    if factor is None:
        return None
    mu = _inner(value, dual) / problem.dimension
    return _Point(problem, value, dual, inverse, scale, factor, problem.adjoint(inverse), mu)


def solve_conic(problem: ConicProblem, y: np.ndarray, tick: Callable[[], None]) -> Iterator[np.ndarray]:
    """Strictly feasible points, each nearer to the optimum, from one: predictor and corrector, as in interior_point."""
    value = problem.value(y)
    dual = [_symmetric(np.linalg.inv(v)) for v in value]
    paid = problem.b > 0
    share = float(problem.b[paid].sum() / problem.adjoint(dual)[paid].sum())  # feasible for what the objective has
    dual = [share * z for z in dual]
    for _ in range(MAX_ITERATIONS):
        tick()
        point = _point(problem, value, dual)
        if point is None:
            return
        _, moved, other = point.direction(0.0, None)
        steps = min(1.0, _reach(value, moved)), min(1.0, _reach(dual, other))
        ahead = _inner(_plus(value, steps[0], moved), _plus(dual, steps[1], other)) / problem.dimension
        correction = [_symmetric(o @ d @ s) for o, d, s in zip(other, moved, point.inverse, strict=True)]
        sigma = min(1.0, max(0.0, ahead / point.mu) ** max(1.0, 3 * min(steps) ** 2))
        dy, moved, other = point.direction(sigma, correction)
        share = 0.9 + 0.09 * min(steps)
        forward = y + min(1.0, share * _reach(value, moved)) * dy
        value, dual = problem.value(forward), _plus(dual, min(1.0, share * _reach(dual, other)), other)
        if not (is_positive(value) and is_positive(dual)):
            return
        y = forward
        yield y
        lack = abs(float((problem.b - problem.adjoint(dual)) @ y))
        if max(_inner(value, dual), lack) < CLOSE * abs(float(problem.b @ y)):
            return


def _plus(cones: Cones, step: float, moves: Cones) -> Cones:
    return [c + step * m for c, m in zip(cones, moves, strict=True)]


def _inner(a: Cones, b: Cones) -> float:
    return float(sum(np.einsum("gab,gab->", x, y) for x, y in zip(a, b, strict=True)))


def _symmetric(matrices: np.ndarray) -> np.ndarray:
    return np.asarray((matrices + np.swapaxes(matrices, 1, 2)) / 2)


def is_positive(matrices: Cones) -> bool:
    try:
        return all(np.isfinite(np.linalg.cholesky(m)).all() for m in matrices)
    except np.linalg.LinAlgError:
        return False


def _reach(matrices: Cones, moves: Cones) -> float:
    """The largest t for which matrices + t moves is positive semidefinite, up to rounding."""
    least = -1e-9
    for matrix, move in zip(matrices, moves, strict=True):
        if matrix.size:
            half = np.linalg.inv(np.linalg.cholesky(matrix))
            seen = half @ move @ np.swapaxes(half, 1, 2)
            least = min(least, float(np.linalg.eigvalsh(_symmetric(seen))[:, 0].min()))
    return -1 / least


def feasible_point(
    built: ConicBuilder, constant: np.ndarray, positive: np.ndarray, y: np.ndarray, tick: Callable[[], None]
) -> np.ndarray | None:
    """A strictly feasible point: P(y) + s > 0 with the least s > -1, until that is negative."""
    size, count = len(constant), len(y)
    phase = replace(built, rows=[*built.rows], pairs=[*built.pairs], weights=[*built.weights])
    phase.squares(phase.stack(np.eye(size)), np.full(size, count), 1.0)
    lack = max(0.0, -float(np.linalg.eigvalsh(ConicProblem(built, constant, y, positive).value(y)[0][0])[0]))
    shifted = constant + np.eye(size)  # s + 1, which is positive, is the variable
    problem = ConicProblem(phase, shifted, np.append(np.zeros(count), 1.0), np.append(positive, True))
    for point in solve_conic(problem, np.append(y, 2 * lack + 2.0), tick):
        if point[-1] < 1 and is_positive(ConicProblem(built, constant, y, positive).value(point[:-1])):
            return point[:-1]
    return None
