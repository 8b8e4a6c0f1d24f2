"""A feasible start for implicit networks, where no order of the nodes gives one in closed form.

First multipliers of the neurons at which their part of P is positive definite without the outputs: a small barrier
problem, the condition of well-posedness. Then all of them so large, and last the inputs', that the outputs fit in.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import LinAlgError, cholesky, eigh, eigvalsh

from lipcert.methods.lipsdp.barrier import newton
from lipcert.methods.lipsdp.program import Program, inputs_needed

MOST = 1000
"""Neurons ..."""

FEW = 150
"""... and up to which a barrier problem, dense in all of them, is tried where subgradients find nothing."""

STEPS = 150
MORE = 15
"""Steps of subgradients, and how many of them once the form is positive."""

ROOM = 2.0
LEAST = 1e-3
"""Of a multiplier, the largest being about 1."""


def loop_start(program: Program) -> tuple[np.ndarray, np.ndarray] | None:
    """Feasible multipliers of inputs and groups; None where none were found."""
    n = program.inputs
    multipliers = well_posed(program)
    if multipliers is None:
        return None
    zero = np.zeros(n if program.each_input else 1)
    try:
        out = program.out[:, n:]
        hidden = program.matrix(zero, multipliers)[n:, n:] + out.T @ out
        half = cholesky(hidden, lower=True)
        seen = np.linalg.solve(half, out.T)
        multipliers = multipliers * max(1e-12, ROOM * float(np.linalg.norm(seen, 2)) ** 2)
    except LinAlgError:
        return None
    needed = inputs_needed(program.matrix(zero, multipliers), n)
    if needed is None:
        return None
    return np.full(len(zero), ROOM * float(eigvalsh(needed)[-1])), multipliers


def well_posed(program: Program) -> np.ndarray | None:
    """Positive multipliers with the neurons' part of P, outputs left out, positive definite."""
    if program.size - program.inputs > MOST:
        return None
    found = _by_subgradients(program)
    return found if found is not None or program.size - program.inputs > FEW else _by_barrier(program)


def _by_subgradients(program: Program) -> np.ndarray | None:
    """The smallest eigenvalue, in units of the multipliers, is raised along their logarithms."""
    n, count = program.inputs, program.groups
    units = np.eye(program.size)[n:]
    units = (units - program.tilted(np.arange(program.size - n)))[:, n:]
    rows = np.asarray(program.rows[:, n:])
    logs, best, found, left = np.zeros(count), -np.inf, None, STEPS
    while left > 0:
        left -= 1
        y = np.exp(logs - logs.mean())
        form = units.T @ (units * y[program.neuron_group][:, None]) - rows.T @ (rows * y[program.row_group][:, None])
        scale = 1 / np.sqrt(y[program.neuron_group])
        try:
            values, vectors = eigh(scale[:, None] * (form + form.T) / 2 * scale, subset_by_index=[0, 0])
        except LinAlgError:
            break
        if values[0] > best:
            if best <= 0 < values[0]:
                left = min(left, MORE)
            best, found = float(values[0]), y
        w = scale * vectors[:, 0]
        gradient = np.bincount(program.neuron_group, (units @ w) ** 2, count)
        gradient -= np.bincount(program.row_group, (rows @ w) ** 2, count)
        gradient *= y
        logs = logs + 0.3 / np.sqrt(1 + (STEPS - left) / 10) * gradient / (np.abs(gradient).max() + 1e-300)
    return found / found.max() if found is not None and best > LEAST else None


def _by_barrier(program: Program) -> np.ndarray | None:
    n, count = program.inputs, program.groups
    size = program.size - n
    units = np.eye(program.size)[n:]
    units -= program.tilted(np.arange(size))
    forms = np.zeros((count + 1, size, size))
    for g in range(count):
        u, q = units[program.neuron_group == g][:, n:], program.rows[program.row_group == g][:, n:]
        forms[g] = u.T @ u - q.T @ q
    forms[count] = np.eye(size)
    middle = np.full(count, 0.5)
    lack = -float(np.linalg.eigvalsh(np.tensordot(middle, forms[:count], 1))[0])
    y = np.append(middle, abs(lack) + 1.0)
    low = np.append(np.full(count, LEAST), -1e3)
    high = np.append(np.ones(count), y[-1] + 1.0)
    objective = np.append(np.zeros(count), 1.0)
    t = 1.0
    for _ in range(12):
        for _ in range(10):
            found = newton(forms, np.zeros((size, size)), objective, y, low, high, t)
            if found is None:
                break
            y = found[0]
            if found[2] < 0.1:
                break
        if y[-1] < 0 and t > 1e4 * size / abs(y[-1]):
            break
        t *= 5.0
    return y[:count] if y[-1] < 0 else None
