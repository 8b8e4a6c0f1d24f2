"""The program through cvxpy: Clarabel, SCS and, with a licence, MOSEK. What they call optimal is not believed.

A solver's multipliers may be infeasible: `repaired` mixes them with the start until the part of the neurons is positive
definite, and takes the least input multipliers that then make all of it so.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.linalg import eigvalsh

from lipcert.errors import UsageError
from lipcert.methods.base import OutOfTime, Unsuitable
from lipcert.methods.lipsdp.interior_point import Iterate, feasible_start
from lipcert.methods.lipsdp.program import Program, inputs_needed
from lipcert.methods.lipsdp.structure import Structured

if TYPE_CHECKING:
    from scipy.sparse import csc_matrix

SOLVERS = ("native", "clarabel", "scs", "mosek")

TOLERANCE = 1e-6
"""Asked of the solvers, relative and absolute."""

MAX_NONZEROS = 2**26
"""Of the data matrices together; cvxpy keeps several copies."""

MOST = {"clarabel": 150, "scs": 500, "mosek": 1000}
"""Rows of the matrix inequality, beyond which a solver takes many minutes, whatever time limit it is given."""

FOREVER = 1e6

MIXING = (0.0, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0)
"""Shares of the start."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What a solver returned: multipliers in the start's scale, the value that it reports, and its word for it."""

    y: np.ndarray
    value: float
    status: str
    seconds: float


def check_solver(solver: str) -> None:
    """UsageError where a solver is unknown, or has no licence."""
    if solver not in SOLVERS:
        raise UsageError(f"--solver: there is no solver {solver!r}", hint=f"use {', '.join(SOLVERS)}")
    if solver == "mosek" and not has_mosek_licence():
        raise UsageError(
            "--solver mosek: no licence of MOSEK was found",
            hint="set MOSEKLM_LICENSE_FILE, put it at ~/mosek/mosek.lic, or use --solver clarabel",
        )


def has_mosek_licence() -> bool:
    named = os.environ.get("MOSEKLM_LICENSE_FILE", "")
    return bool(named) or (Path.home() / "mosek" / "mosek.lic").is_file()


def reference_iterates(program: Program, solver: str, seconds: float, notes: list[str]) -> Iterator[Iterate]:
    """Feasible iterates made of a solver's multipliers, the best first; `notes` gets what the solver said."""
    scaled = feasible_start(program)
    if scaled is None:
        return
    answer = solve_by_cvxpy(scaled, solver, seconds)
    notes.append(
        f"{solver} says {answer.status} after {answer.seconds:.2f} s; its own value, which nothing proves, is "
        f"{answer.value**0.5 if answer.value >= 0 else float('nan'):.9g}"
    )
    yield from repaired(scaled, answer.y)


def solve_by_cvxpy(scaled: Structured, solver: str, seconds: float) -> Answer:
    """Ask a solver; raises OutOfTime where it has no answer, Unsuitable where the program is too large for it."""
    import cvxpy as cp

    if scaled.program.size > MOST[solver]:
        reason = f"{scaled.program.size} rows are too many for {solver} (at most {MOST[solver]})"
        raise Unsuitable(f"{reason}: use the native solver")
    seconds = min(max(seconds, 1.0), FOREVER)
    problem, y = cvxpy_problem(scaled)
    settings: dict[str, dict[str, Any]] = {
        "clarabel": {"time_limit": seconds, "tol_gap_rel": TOLERANCE, "tol_feas": TOLERANCE},
        "scs": {"time_limit_secs": seconds, "eps": TOLERANCE, "max_iters": 10**6},
        "mosek": {"mosek_params": {"MSK_DPAR_OPTIMIZER_MAX_TIME": seconds}},
    }
    began = time.monotonic()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the status says it
            problem.solve(solver=solver.upper(), **settings[solver])
    except cp.error.SolverError as error:
        raise Unsuitable(f"{solver} failed: {str(error).splitlines()[0]}") from None
    taken = time.monotonic() - began
    if y.value is None or not np.all(np.isfinite(y.value)):
        raise OutOfTime if taken >= seconds else Unsuitable(f"{solver} ended as {problem.status}, without multipliers")
    scale = float(scaled.inputs.sum())
    return Answer(np.asarray(y.value, dtype=np.float64), float(problem.value) * scale, problem.status, taken)


def cvxpy_problem(scaled: Structured) -> tuple[Any, Any]:
    """The program as a cvxpy problem, and its variable y."""
    import cvxpy as cp

    size = scaled.program.size
    y = cp.Variable(scaled.variables, nonneg=True)
    form = cp.reshape(data_matrices(scaled) @ y, (size, size), order="F") - scaled.constant
    return cp.Problem(cp.Minimize(scaled.b @ y), [form >> 0]), y


def data_matrices(scaled: Structured) -> csc_matrix:
    """(size^2, variables): each column a data matrix F_j = U_j' U_j - Q_j' Q_j, flattened."""
    from scipy.sparse import coo_matrix, csr_matrix

    rows = csr_matrix(scaled.blocks.dense())
    units = csr_matrix(scaled.unit_rows())
    size, count = scaled.program.size, sum(int((np.diff(m.indptr) ** 2).sum()) for m in (rows, units))
    if count > MAX_NONZEROS:
        raise Unsuitable(f"{count:,} entries of the data matrices are too many for cvxpy: use the native solver")
    places, entries, variables = [], [], []
    for matrix, groups, sign in ((units, scaled.coordinate_group, 1.0), (rows, scaled.row_group, -1.0)):
        for i in range(matrix.shape[0]):
            at = matrix.indices[matrix.indptr[i] : matrix.indptr[i + 1]].astype(np.int64)
            v = matrix.data[matrix.indptr[i] : matrix.indptr[i + 1]]
            places.append((at[:, None] * size + at).ravel())
            entries.append(sign * np.outer(v, v).ravel())
            variables.append(np.full(v.size**2, groups[i]))
    at, found, columns = (np.concatenate(parts) for parts in (places, entries, variables))
    return coo_matrix((found, (at, columns)), shape=(size * size, scaled.variables)).tocsc()


def repaired(scaled: Structured, y: np.ndarray) -> Iterator[Iterate]:
    """Feasible iterates of multipliers that may not be feasible, in the order of what they give up."""
    found = []
    for share in MIXING:
        mixed = np.maximum((1 - share) * y, 0) + share
        iterate = least_inputs(scaled, mixed)
        if iterate is not None:
            found.append(iterate)
    yield from sorted(found, key=lambda i: i.objective)


def least_inputs(scaled: Structured, y: np.ndarray) -> Iterate | None:
    """The iterate with these multipliers of the neurons and the least of the inputs; None if there is none.

    Inputs keep their proportions.
    """
    first, n = scaled.first, scaled.program.inputs
    start = np.maximum(y[:first], 1e-12 * y[:first].max(initial=0.0))
    groups = np.concatenate([np.zeros(first), y[first:]])
    if not (np.all(start > 0) and np.all(groups[first:] > 0)):
        return None
    needed = inputs_needed(scaled.matrix(groups), n)
    if needed is None:
        return None
    shrink = 1 / np.sqrt(np.broadcast_to(start, n))
    factor = float(eigvalsh(shrink[:, None] * needed * shrink)[-1]) if n else 0.0
    inputs = scaled.inputs * start * max(factor, 1e-300)
    return Iterate(inputs, scaled.multipliers * groups[first:], float(inputs.sum()))
