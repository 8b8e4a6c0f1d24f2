"""A quadratic constraint on one group of an activation: [dv; dw]' [[VV, VW], [VW', WW]] [dv; dw] >= 0.

For all increments dv of what the group reads and dw of what it returns, and all multipliers within their signs. A
template gives the blocks as expressions (Pauli et al. 2024 is the model), or, where it is complete, the extreme
Jacobians M: then every symmetric Q is a constraint for which [I; M]' Q [I; M] >= 0 for each M and the block of dw is
negative semidefinite, since that form is concave in M.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lipcert.errors import UsageError
from lipcert.templates.evaluation import CONSTANT, Names, evaluate_matrix
from lipcert.templates.expressions import Expression, ExpressionError

Sign = Literal["nonnegative", "free"]
SIGNS: tuple[Sign, ...] = ("nonnegative", "free")

Kind = Literal["entries", "unit"]
KINDS: tuple[Kind, ...] = ("entries", "unit")

JACOBIANS = ("permutations", "selections")
"""Families of extreme Jacobians that have a name: permutation matrices; rows that are each a unit vector."""

MAX_GROUP = 256
"""Entries of a group."""

MAX_JACOBIANS = 120

UNIT = 1e-6
"""How far the norm of a unit vector may be from 1: it may be stored in float32."""

SMALL = 1e-9
"""Relative size below which an eigenvalue, a singular value or a matrix counts as zero."""


@dataclass(frozen=True)
class Parameter:
    """A vector with an entry for each entry of the group; `unit` ones have norm 1."""

    kind: Kind
    meaning: str


@dataclass(frozen=True)
class Linear:
    """What the activation passes on linearly: w dw = v dv for all increments."""

    v: Expression
    w: Expression


@dataclass(frozen=True)
class Source:
    paper: str
    theorem: str


@dataclass(frozen=True, eq=False)
class Elimination:
    """dw = through dv + onto p, p free: what the linear directions leave."""

    through: np.ndarray
    onto: np.ndarray


@dataclass(frozen=True, eq=False)
class Condition:
    """sign columns' Q columns is positive semidefinite."""

    columns: np.ndarray
    sign: int


@dataclass(frozen=True, eq=False)
class Template:
    """A template as its file says; `origin` is that file. Sizes and parameters are given when it is used."""

    name: str
    title: str
    activations: tuple[str, ...]
    groups: tuple[int, ...] | None
    """The sizes of group that it speaks of; None for any."""

    out: int | None
    """Entries that a group returns; None for as many as it reads."""

    parameters: Mapping[str, Parameter]
    multipliers: Mapping[str, Sign]
    """Empty where the template is complete: those have one for every pair of entries."""

    definitions: Mapping[str, Expression]
    blocks: Mapping[str, Expression]
    """By VV, VW and WW; empty where the template is complete."""

    linear: Linear | None
    jacobians: str | tuple[Expression, ...] | None
    """The extreme Jacobians of a complete template: a family, or matrices."""

    source: Source
    note: str
    origin: str
    text: str = ""
    """Of the file."""

    @property
    def is_complete(self) -> bool:
        return self.jacobians is not None

    def returned(self, group_size: int) -> int:
        """Entries that a group of this size returns."""
        return group_size if self.out is None else self.out

    def signs(self, group_size: int) -> dict[str, Sign]:
        """The sign of each multiplier of a group of this size."""
        return dict(self.multipliers) if not self.is_complete else dict.fromkeys(self._pairs(group_size), "free")

    def basis(self, group_size: int, /, **parameters: np.ndarray) -> dict[str, np.ndarray]:
        """The symmetric matrix over (dv, dw) that each multiplier multiplies."""
        names = self._names(group_size, parameters)
        if self.is_complete:
            return {name: _unit_matrix(i, j, total) for name, (i, j, total) in self._pairs(group_size).items()}
        n, m = group_size, self.returned(group_size)
        shapes = {"VV": (n, n), "VW": (n, m), "WW": (m, m)}
        found = {key: np.zeros((n + m, n + m)) for key in self.multipliers}
        corners = {"VV": (0, 0), "VW": (0, n), "WW": (n, n)}
        for block, (row, column) in corners.items():
            for key, part in self._evaluated(f"blocks: {block}", self.blocks[block], names, shapes[block]).items():
                if key == CONSTANT:
                    if np.any(part):
                        raise self._error(f"blocks: {block}", "a term has no multiplier")
                    continue
                if block != "VW" and not np.allclose(part, part.T, rtol=0, atol=SMALL * np.abs(part).max()):
                    raise self._error(f"blocks: {block}", f"what {key} multiplies is not symmetric")
                rows, columns = part.shape
                found[key][row : row + rows, column : column + columns] = part
        return {key: np.triu(part) + np.triu(part, 1).T for key, part in found.items()}

    def form(self, multipliers: Mapping[str, float], group_size: int, /, **parameters: np.ndarray) -> np.ndarray:
        """The matrix of the constraint; UsageError where a multiplier is unknown, missing or outside its sign."""
        basis, signs = self.basis(group_size, **parameters), self.signs(group_size)
        if set(multipliers) != set(basis):
            wrong = sorted(set(multipliers) ^ set(basis))[0]
            raise self._error("multipliers", f"{wrong} is {'unknown' if wrong in multipliers else 'not given'}")
        for key, value in multipliers.items():
            if not np.isfinite(value) or (signs[key] == "nonnegative" and value < 0):
                raise self._error("multipliers", f"{key} = {value} is not {signs[key]} and finite")
        n = group_size + self.returned(group_size)
        total = sum((multipliers[key] * part for key, part in basis.items()), np.zeros((n, n)))
        for condition in self.conditions(group_size, **parameters):
            seen = condition.sign * condition.columns.T @ total @ condition.columns
            if np.linalg.eigvalsh(seen)[0] < -SMALL * np.abs(total).max():
                raise self._error("multipliers", "they do not satisfy the conditions of the extreme Jacobians")
        return np.asarray(total)

    def conditions(self, group_size: int, /, **parameters: np.ndarray) -> list[Condition]:
        """What the matrix of a complete template must satisfy besides; none for the others."""
        if not self.is_complete:
            return []
        n, m = group_size, self.returned(group_size)
        ends = [np.vstack([np.eye(n), each]) for each in self.extremes(group_size, **parameters)]
        return [Condition(np.vstack([np.zeros((n, m)), np.eye(m)]), -1), *(Condition(end, 1) for end in ends)]

    def equalities(self, group_size: int, /, **parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(V, W) with V dv = W dw for all increments; without rows where there are none."""
        n, m = group_size, self.returned(group_size)
        if self.linear is None:
            return np.zeros((0, n)), np.zeros((0, m))
        names = self._names(group_size, parameters)
        v = self._evaluated("linear: v", self.linear.v, names, (m, n))
        w = self._evaluated("linear: w", self.linear.w, names, (m, m))
        if not set(v) == set(w) == {CONSTANT}:
            raise self._error("linear", "multipliers have no place there")
        return v[CONSTANT], w[CONSTANT]

    def elimination(self, group_size: int, /, **parameters: np.ndarray) -> Elimination:
        """The equalities solved for dw."""
        v, w = self.equalities(group_size, **parameters)
        _, values, rows = np.linalg.svd(w, full_matrices=True)
        rank = int(np.sum(values > SMALL * max(values.max(initial=0.0), 1.0)))
        return Elimination(np.linalg.pinv(w, rcond=SMALL) @ v, rows[rank:].T)

    def reduced_basis(self, group_size: int, /, **parameters: np.ndarray) -> dict[str, np.ndarray]:
        """`basis` over (dv, p) of the elimination, without the matrices that vanish there."""
        left = self.elimination(group_size, **parameters)
        n, kept = group_size, left.onto.shape[1]
        to = np.block([[np.eye(n), np.zeros((n, kept))], [left.through, left.onto]])
        basis = self.basis(group_size, **parameters)
        moved = {key: to.T @ part @ to for key, part in basis.items()}
        return {key: part for key, part in moved.items() if np.abs(part).max() > SMALL * np.abs(basis[key]).max()}

    def _pairs(self, group_size: int) -> dict[str, tuple[int, int, int]]:
        total = group_size + self.returned(group_size)
        both = itertools.combinations_with_replacement(range(total), 2)
        return {f"Q[{i},{j}]": (i, j, total) for i, j in both}

    def extremes(self, group_size: int, /, **parameters: np.ndarray) -> list[np.ndarray]:
        """The extreme Jacobians (out, group_size) of a complete template."""
        n, m = group_size, self.returned(group_size)
        names = self._names(group_size, parameters)
        if isinstance(self.jacobians, str):
            return self._family(self.jacobians, n, m)
        found = []
        for i, each in enumerate(self.jacobians or ()):
            parts = self._evaluated(f"complete: jacobians: number {i + 1}", each, names, (m, n))
            found.append(parts[CONSTANT])
        return found

    def _family(self, name: str, n: int, m: int) -> list[np.ndarray]:
        """The matrices (m, n) of a family of Jacobians."""
        where = "complete: jacobians"
        if name == "permutations" and n != m:
            raise self._error(where, f"permutations are square, and here are {n} in and {m} out")
        rows = itertools.permutations(range(n)) if name == "permutations" else itertools.product(range(n), repeat=m)
        found = [np.eye(n)[list(row)] for row in itertools.islice(rows, MAX_JACOBIANS + 1)]
        if len(found) > MAX_JACOBIANS:
            raise self._error(where, f"a group of {n} has more than {MAX_JACOBIANS} extreme Jacobians")
        return found

    def _evaluated(
        self, where: str, expression: Expression, names: Names, shape: tuple[int, int]
    ) -> dict[str, np.ndarray]:
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                found = evaluate_matrix(expression, names, shape)
            if not all(np.all(np.isfinite(part)) for part in found.values()):
                raise ExpressionError("its numbers are too large")
        except ExpressionError as error:
            raise self._error(where, str(error)) from None
        return found

    def _names(self, group_size: int, parameters: Mapping[str, np.ndarray]) -> Names:
        if group_size < 1 or group_size > MAX_GROUP:
            raise self._error("group", f"groups have 1 to {MAX_GROUP} entries, not {group_size}")
        if self.groups is not None and group_size not in self.groups:
            raise self._error("group", f"it speaks of groups of {_listed(self.groups)}, not of {group_size}")
        if set(parameters) != set(self.parameters):
            wrong = sorted(set(parameters) ^ set(self.parameters))[0]
            raise self._error("parameters", f"{wrong} is {'unknown' if wrong in parameters else 'not given'}")
        vectors = {key: self._vector(key, value, group_size) for key, value in parameters.items()}
        return Names(group_size, frozenset(self.multipliers), vectors, self.definitions)

    def _vector(self, key: str, value: np.ndarray, group_size: int) -> np.ndarray:
        vector = np.asarray(value, dtype=np.float64)
        if vector.shape != (group_size,) or not np.all(np.isfinite(vector)):
            raise self._error(f"parameters: {key}", f"{group_size} finite numbers are expected")
        if self.parameters[key].kind == "unit" and abs(float(np.linalg.norm(vector)) - 1) > UNIT:
            raise self._error(f"parameters: {key}", "its norm is not 1")
        return vector / np.linalg.norm(vector) if self.parameters[key].kind == "unit" else vector

    def _error(self, where: str, what: str) -> UsageError:
        return UsageError(f"{self.origin}: {where}: {what}")


def _unit_matrix(i: int, j: int, total: int) -> np.ndarray:
    matrix = np.zeros((total, total))
    matrix[i, j] = matrix[j, i] = 1.0
    return matrix


def _listed(sizes: tuple[int, ...]) -> str:
    return " or ".join(map(str, sizes))
