"""The program block by block, in coordinates in which the start is y = 1 (multipliers differ by orders of magnitude).

A row touches what its node reads and nothing else. With U = E - tilt R, F = U'U - R'R: what a Newton step needs of the
data are the products of R with Z and S, and of those with R'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lipcert.arithmetic.threads import side_by_side
from lipcert.methods.lipsdp.program import Program

LARGE = 500
"""Rows of Z and S beyond which it pays to work on two cores."""

Index = slice | np.ndarray


@dataclass(frozen=True, eq=False)
class Blocks:
    """A matrix as slices of rows, each over the columns that it touches."""

    shape: tuple[int, int]
    parts: tuple[tuple[slice, slice, np.ndarray], ...]

    def times(self, x: np.ndarray) -> np.ndarray:
        """M x."""
        result = np.zeros((self.shape[0], x.shape[1]))
        for rows, columns, block in self.parts:
            np.matmul(block, x[columns], out=result[rows])
        return result

    def dense(self) -> np.ndarray:
        result = np.zeros(self.shape)
        for rows, columns, block in self.parts:
            result[rows, columns] = block
        return result


def in_blocks(matrix: np.ndarray, rows: Sequence[slice], columns: Sequence[slice]) -> Blocks:
    """A matrix without the blocks that are zero."""
    parts = []
    for row in rows:
        seen = [c for c in columns if np.any(matrix[row, c])]
        if seen:
            hull = slice(seen[0].start, seen[-1].stop)
            parts.append((row, hull, np.ascontiguousarray(matrix[row, hull])))
    return Blocks((matrix.shape[0], matrix.shape[1]), tuple(parts))


class Structured:
    """minimise b'y subject to sum_j y_j F_j - out out' > 0, variables: inputs first, then groups."""

    def __init__(self, program: Program, inputs: np.ndarray, multipliers: np.ndarray) -> None:
        self.program, self.inputs, self.multipliers = program, inputs, multipliers
        n = program.inputs
        coordinate = np.concatenate([np.broadcast_to(inputs, n), multipliers[program.neuron_group]])
        shrink = 1 / np.sqrt(coordinate)
        rows = program.rows * np.sqrt(multipliers[program.row_group])[:, None] * shrink
        out = program.out * shrink
        self.first = len(inputs)
        self.variables = self.first + program.groups
        input_group = np.arange(n) if program.each_input else np.zeros(n, dtype=int)
        self.coordinate_group = np.concatenate([input_group, self.first + program.neuron_group])
        self.row_group = self.first + program.row_group
        self.b = np.concatenate([inputs, np.zeros(program.groups)])
        self.b /= self.b.sum()
        self.objective = float(inputs.sum())
        tilted = np.flatnonzero(program.partner >= 0)
        self.units: Index = _index(n + tilted)
        self.partners: Index = _index(program.partner[tilted])
        self.tilt = program.tilt[tilted]
        levels = [slice(0, n), *program.levels]
        self.blocks = in_blocks(rows, program.row_levels, levels)
        self.constant = out.T @ out
        self.pattern = _pattern(self.linear(np.random.default_rng(0).uniform(1, 2, self.variables)), levels)

    def unit_rows(self) -> np.ndarray:
        """U = E - tilt R: one row for each coordinate."""
        units = np.eye(self.program.size)
        units[self.units] -= self.tilt[:, None] * self.blocks.dense()[self.partners]
        return units

    def linear(self, y: np.ndarray) -> np.ndarray:
        """sum_j y_j F_j."""
        size = self.program.size
        weight = -y[self.row_group]
        tilt = self.tilt * y[self.row_group[self.partners]]
        weight[self.partners] += self.tilt * tilt
        result, cross = np.zeros((size, size)), np.zeros((size, size))
        by_row = np.zeros(self.blocks.shape[0])
        by_row[self.partners] = tilt
        target = np.full(self.blocks.shape[0], -1)
        target[self.partners] = np.arange(size)[self.units]
        for rows, columns, block in self.blocks.parts:
            result[columns, columns] += block.T @ (block * weight[rows][:, None])
            if np.any(target[rows] >= 0):
                cross[_index(target[rows]), columns] -= block * by_row[rows][:, None]
        result += cross
        result += cross.T
        result[np.diag_indices(size)] += y[self.coordinate_group]
        return (result + result.T) / 2

    def matrix(self, y: np.ndarray) -> np.ndarray:
        return self.linear(y) - self.constant

    def step_times(self, step: np.ndarray, x: np.ndarray) -> np.ndarray:
        """(sum_j y_j F_j) x for a matrix that `linear` made."""
        result = np.empty_like(x)
        for rows, columns in self.pattern:
            np.matmul(step[rows, columns], x[columns], out=result[rows])
        return result

    def adjoint(self, x: np.ndarray) -> np.ndarray:
        """tr(F_j X) for each j, X symmetric."""
        units = np.diag(x).copy()
        seen = self.blocks.times(x)
        squares = np.zeros(len(seen))
        for rows, columns, block in self.blocks.parts:
            squares[rows] = np.einsum("ij,ij->i", seen[rows, columns], block)
        across = np.diagonal(seen[self.partners][:, self.units])
        units[self.units] += self.tilt * (self.tilt * squares[self.partners] - 2 * across)
        found = np.bincount(self.coordinate_group, units, self.variables)
        return found - np.bincount(self.row_group, squares, self.variables)

    def schur(self, z: np.ndarray, s: np.ndarray) -> np.ndarray:
        """tr(F_j Z F_k S): three entrywise products of Z and S seen by units and rows, summed over groups."""
        if len(z) > LARGE:
            (uz, cz, rz), (us, cs, rs) = side_by_side(lambda: self._seen(z), lambda: self._seen(s))
        else:
            (uz, cz, rz), (us, cs, rs) = self._seen(z), self._seen(s)
        units, rows = _Runs(self.coordinate_group, self.variables), _Runs(self.row_group, self.variables)
        uz *= us
        cz *= cs
        rz *= rs
        total = units.summed(uz, units)
        mixed = units.summed(cz, rows)
        total -= mixed
        total -= mixed.T
        total += rows.summed(rz, rows)
        return (total + total.T) / 2

    def _seen(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """U X U', U X R', R X R' for the units U = E - tilt R and the rows R."""
        seen = self.blocks.times(x)
        rows = self.blocks.times(np.ascontiguousarray(seen.T))
        units, across = x.copy(), np.ascontiguousarray(seen.T)
        tilted = self.tilt[:, None] * seen[self.partners]
        units[self.units] -= tilted
        units[:, self.units] -= tilted.T
        both = rows[self.partners]
        units[self._square()] += np.outer(self.tilt, self.tilt) * both[:, self.partners]
        across[self.units] -= self.tilt[:, None] * both
        return units, across, rows

    def _square(self) -> tuple[Index, Index]:
        if isinstance(self.units, slice):
            return self.units, self.units
        return np.ix_(self.units, self.units)  # type: ignore[return-value]


class _Runs:
    """Sums over runs of equal group numbers, which ascend; in between, groups of one member each are only copied."""

    def __init__(self, groups: np.ndarray, size: int) -> None:
        self.size = size
        self.starts = np.flatnonzero(np.diff(groups, prepend=-1)) if groups.size else np.zeros(0, dtype=int)
        self.at = groups[self.starts]
        lengths = np.diff(self.starts, append=len(groups))
        long = np.flatnonzero(lengths > 1)
        self.single = not long.size
        self.alone = int(long[-1]) + 1 if long.size else 0
        """Runs from here on have one member."""

    def summed(self, matrix: np.ndarray, columns: _Runs) -> np.ndarray:
        """Entries of the runs of rows (self) and columns, added up, at the numbers of their groups."""
        result = np.zeros((self.size, columns.size))
        if matrix.size:
            shrunk = columns._shrink(self._shrink(matrix, 0), 1)
            result[self._target(), columns._target()] = shrunk
        return result

    def _shrink(self, matrix: np.ndarray, axis: int) -> np.ndarray:
        if self.single:
            return matrix
        end = self.starts[self.alone] if self.alone < len(self.starts) else matrix.shape[axis]
        first, rest = np.split(matrix, [end], axis=axis)
        return np.concatenate([np.add.reduceat(first, self.starts[: self.alone], axis=axis), rest], axis=axis)

    def _target(self) -> slice:
        return slice(int(self.at[0]), int(self.at[-1]) + 1)


def _index(places: np.ndarray) -> Index:
    """A slice where the places are consecutive: views are faster than copies."""
    if places.size and np.all(np.diff(places) == 1):
        return slice(int(places[0]), int(places[-1]) + 1)
    return places


def _pattern(matrix: np.ndarray, levels: list[slice]) -> list[tuple[slice, slice]]:
    """For each level of coordinates, the columns that a matrix like this one may touch."""
    found = in_blocks(matrix, levels, levels)
    return [(rows, columns) for rows, columns, _ in found.parts]
