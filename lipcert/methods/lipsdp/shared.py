"""LipSDP for networks too large for dense matrices: multipliers shared by channel, sparse products and Lanczos only.

Cutting planes: P(y) >= 0 is asked for in a subspace, where a small barrier problem gives y; the eigenvectors at which
P(y) fails in the whole space join the subspace. On the way from the last feasible y to it, as far as P stays positive,
lies a better feasible one. (Helmberg & Rendl's spectral bundle, SIAM J. Optim. 2000, with the subspace kept.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import eigh_tridiagonal, qr
from scipy.sparse import diags_array
from scipy.sparse.linalg import eigsh

from lipcert.methods.lipsdp.barrier import newton
from lipcert.methods.lipsdp.interior_point import Iterate
from lipcert.methods.lipsdp.program import Program

ROUNDS = 60
WINDOW = 4.0
"""By which factor a round may change a multiplier."""

AT_A_TIME = 12
"""Eigenvectors that a round adds."""

MOST = 120
"""Dimensions of the subspace; those that matter least leave it first."""

ROOM = 1.5
"""By how much the start dominates each node."""

FOLDED = 0.5
"""A multiplier's change, since its coordinates were scaled, after which they are scaled anew."""

SHARPER = 0.01
"""The relative gain of a round below which the next ones ask for more."""

SHARP = (10.0, 4.0, 3000.0)
"""How near to the optimum of its subspace a round goes (one over the relative gap): at first, times what, at most."""

MARGIN = 3e-4
"""The least eigenvalue of P that an iterate keeps, its diagonal being about one."""


STEPS = 120
"""Of Lanczos."""


@dataclass(frozen=True, eq=False)
class _Sparse:
    """The program in the coordinates of its start, y = 1."""

    units: Any
    rows: Any
    out: Any
    unit_group: np.ndarray
    row_group: np.ndarray
    b: np.ndarray
    first: int

    def times(self, y: np.ndarray, v: np.ndarray) -> np.ndarray:
        """P(y) v."""
        u, q = self.units @ v, self.rows @ v
        weigh = (lambda w, m: w * m) if v.ndim == 1 else (lambda w, m: w[:, None] * m)
        found = self.units.T @ weigh(y[self.unit_group], u) - self.rows.T @ weigh(y[self.row_group], q)
        return np.asarray(found - self.out.T @ (self.out @ v))

    def lowest(self, y: np.ndarray, count: int, start: np.ndarray) -> tuple[float, np.ndarray]:
        """About the least eigenvalue of P(y), and Ritz vectors of the lowest few: Lanczos, reorthogonalised."""
        n = self.units.shape[1]
        steps = min(STEPS, n)
        basis, below = np.zeros((n, steps + 1)), np.zeros(steps)
        diagonal = np.zeros(steps)
        basis[:, 0] = start / np.linalg.norm(start)
        for k in range(steps):
            v = self.times(y, basis[:, k])
            diagonal[k] = basis[:, k] @ v
            for _ in range(2):
                v -= basis[:, : k + 1] @ (basis[:, : k + 1].T @ v)
            below[k] = np.linalg.norm(v)
            if below[k] < 1e-12:
                steps = k + 1
                break
            basis[:, k + 1] = v / below[k]
        values, vectors = eigh_tridiagonal(diagonal[:steps], below[: steps - 1])
        residual = below[steps - 1] * abs(vectors[-1, 0])
        return float(values[0] - residual), basis[:, :steps] @ vectors[:, :count]


def shared_iterates(program: Program, tick: Callable[[], None] = lambda: None) -> Iterator[Iterate]:
    """Feasible iterates (as far as Lanczos tells), each better than the one before. `program` is a sparse one."""
    start = _start(program)
    if start is None:
        return
    inputs, multipliers = start
    data = _scaled(program, inputs, multipliers)

    first = data.first
    y = np.ones(len(data.b))
    random = np.random.default_rng(0)
    least, basis = data.lowest(y, AT_A_TIME, random.standard_normal(program.size))
    if not least > MARGIN:
        return
    yield Iterate(inputs, multipliers, float(inputs.sum()))
    sharp, times, most = SHARP
    for _ in range(ROUNDS):
        tick()
        wanted, weights = _in_subspace(data, basis, y, sharp)
        begin = basis @ weights[:, 0]
        there, vectors = data.lowest(wanted, AT_A_TIME, begin + 0.3 * _noise(random, program.size))
        # the least eigenvalue is concave along the way
        share = 1.0 if there >= MARGIN else (least - MARGIN) / (least - there)
        better = y + 0.95 * share * (wanted - y)
        gained = 1 - float(data.b @ better) / float(data.b @ y)
        least, low = data.lowest(better, AT_A_TIME, begin + 0.3 * _noise(random, program.size))
        if not least > 0:
            return
        y = better
        yield Iterate(inputs * y[:first], multipliers * y[first:], float(inputs @ y[:first]))
        if gained < SHARPER:
            sharp *= times
            if sharp > most:
                return
        basis = _joined(basis, weights, np.concatenate([vectors, low], axis=1))
        if y.min() < FOLDED or y.max() > 1 / FOLDED:  # eigenvalues are told apart where the diagonal is about one
            shift = np.sqrt(y[data.unit_group])
            inputs, multipliers = inputs * y[:first], multipliers * y[first:]
            data, y = _scaled(program, inputs, multipliers), np.ones(len(y))
            basis, _ = np.linalg.qr(basis * shift[:, None])
            least, _ = data.lowest(y, AT_A_TIME, random.standard_normal(program.size))


def _noise(random: np.random.Generator, n: int) -> np.ndarray:
    return random.standard_normal(n) / np.sqrt(n)


def _scaled(program: Program, inputs: np.ndarray, multipliers: np.ndarray) -> _Sparse:
    n = program.inputs
    coordinate = np.concatenate([np.broadcast_to(inputs, n), multipliers[program.neuron_group]])
    shrink = diags_array(1 / np.sqrt(coordinate))
    rows = (diags_array(np.sqrt(multipliers[program.row_group])) @ program.rows @ shrink).tocsr()
    first = len(inputs)
    input_group = np.arange(n) if program.each_input else np.zeros(n, dtype=int)
    b = np.concatenate([inputs, np.zeros(program.groups)])
    return _Sparse(
        _units(program, rows),
        rows,
        (program.out @ shrink).tocsr(),
        np.concatenate([input_group, first + program.neuron_group]),
        first + program.row_group,
        b / b.sum(),
        first,
    )


def _units(program: Program, rows: Any) -> Any:
    """U = E - tilt R, rows of coordinates."""
    from scipy.sparse import coo_array, eye_array

    tilted = np.flatnonzero(program.partner >= 0)
    place = (program.tilt[tilted], (program.inputs + tilted, program.partner[tilted]))
    return (eye_array(program.size) - coo_array(place, shape=(program.size, rows.shape[0])) @ rows).tocsr()


def _start(program: Program) -> tuple[np.ndarray, np.ndarray] | None:
    """Feasible multipliers, one for each node: as the closed form, each block bounded by its largest eigenvalue."""
    form = (program.out.T @ program.out).tocsr()
    multipliers = np.zeros(program.groups)
    for level, row_level in zip(reversed(program.levels), reversed(program.row_levels), strict=True):
        top = _largest(form[level.start : level.stop, level.start : level.stop])
        if not (np.isfinite(top) and top > 0):
            return None
        weight = ROOM * top
        neurons = slice(level.start - program.inputs, level.stop - program.inputs)
        multipliers[program.neuron_group[neurons]] = weight
        rows = program.rows[row_level.start : row_level.stop, : level.start]
        beside = form[level.start : level.stop, : level.start]
        squares = np.ones(rows.shape[0])
        if np.any(program.partner[neurons] >= 0):
            tilt = program.tilt[neurons]
            beside = beside + (diags_array(weight * tilt) @ rows)
            squares = squares - tilt * tilt
        rest = form[: level.start, : level.start] + beside.T @ beside / (weight - top)
        form = (rest + rows.T @ (diags_array(weight * squares) @ rows)).tocsr()
    top = _largest(form)
    if not (np.isfinite(top) and top > 0):
        return None
    return np.full(program.inputs if program.each_input else 1, 2 * top), multipliers


def _largest(matrix: Any) -> float:
    """The largest eigenvalue of a positive semidefinite sparse matrix, a little more."""
    if not matrix.shape[0] or not matrix.nnz:
        return 0.0
    if not np.all(np.isfinite(matrix.data)):
        return np.inf
    if matrix.shape[0] <= 64:
        return float(np.linalg.eigvalsh(matrix.toarray())[-1])
    v0 = np.random.default_rng(0).standard_normal(matrix.shape[0])
    return 1.01 * float(eigsh(matrix, k=1, which="LA", tol=1e-3, v0=v0, return_eigenvectors=False)[0])


def _joined(basis: np.ndarray, weights: np.ndarray, new: np.ndarray) -> np.ndarray:
    """An orthonormal basis of what mattered of the subspace, in the order of `weights`, and the new directions."""
    kept = basis @ weights[:, : MOST - new.shape[1]]
    both, r, _ = qr(np.concatenate([new, kept], axis=1), mode="economic", pivoting=True)
    sizes = np.abs(np.diag(r))
    return np.asarray(both[:, sizes > 1e-8 * sizes[0]])


def _in_subspace(data: _Sparse, basis: np.ndarray, y: np.ndarray, sharp: float) -> tuple[np.ndarray, np.ndarray]:
    """Nearly the best multipliers within the window around y for which P is positive in the subspace.

    Beside them the directions of the subspace (columns, orthonormal), those that hold the optimum first.
    """
    size, count = basis.shape[1], len(y)
    u, q, out = data.units @ basis, data.rows @ basis, data.out @ basis
    forms = np.zeros((count, size, size))
    for groups, seen, sign in ((data.unit_group, u, 1.0), (data.row_group, q, -1.0)):
        order = np.argsort(groups, kind="stable")
        starts = np.searchsorted(groups[order], np.arange(count + 1))
        for g in range(count):
            part = seen[order[starts[g] : starts[g + 1]]]
            forms[g] += sign * (part.T @ part)
    constant = out.T @ out
    low, high = y / WINDOW, y * WINDOW
    inverse = np.eye(size)
    for part in (0.2, 1.0):
        t = part * sharp * (size + 2 * count) / float(data.b @ y)
        for _ in range(12):
            found = newton(forms, constant, data.b, y, low, high, t)
            if found is None:
                break
            y, inverse, decrement = found
            if decrement < 0.1:
                break
    _, vectors = np.linalg.eigh(inverse)
    return y, vectors[:, ::-1]
