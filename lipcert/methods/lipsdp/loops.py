"""A feasible start for implicit networks, where no order of the nodes gives one in closed form.

First multipliers of the neurons at which their part of P is positive definite without the outputs: a small barrier
problem, the condition of well-posedness. Then all of them so large, and last the inputs', that the outputs fit in.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import LinAlgError, cholesky, eigvalsh

from lipcert.methods.lipsdp.barrier import newton
from lipcert.methods.lipsdp.program import Program, inputs_needed

MOST = 600
"""Neurons: the barrier problem is dense in all of them."""

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
    n, count = program.inputs, program.groups
    size = program.size - n
    if size > MOST:
        return None
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
