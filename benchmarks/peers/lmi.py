"""LipSDP through cvxpy: the same program as lipcert's, in two ways of writing it, for SCS and Clarabel.

The paper's matrix (Fazlyab, Robey, Hassani, Morari, Pappas, NeurIPS 2019, one multiplier a neuron) is over
(dx, dw_1 .. dw_L) with dv_i = W_i dw_(i-1), and block tridiagonal, which Clarabel makes use of. In the centered
coordinates of docs/lipsdp.md it is full, and SCS needs far fewer iterations. Inputs are reduced to the directions that
the first layer sees in both. What a solver returns is its own claim: nearly feasible, unproven, possibly below the
optimum.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata, util
from typing import Any

import numpy as np

from benchmarks.peers.answers import Answer, Way
from benchmarks.peers.layers import Layers
from lipcert.methods.lipsdp.program import Program

NAME = "cvxpy"
PACKAGES = ("cvxpy", "scs", "clarabel")

LARGEST = {"scs": 600, "clarabel": 200}
"""Rows of the matrix up to which a solver is tried: beyond, Clarabel took minutes an iteration, and gigabytes."""
SCS_PAPER, SCS_CENTERED, SCS_BRIEF = 200, 350, 600
"""The same for SCS on the two forms here, and on the paper's where it is stopped soon."""

Inequality = tuple[Any, Any]
"""cvxpy's objective rho, which bounds |dy|^2, and the matrix that has to be positive semidefinite."""


def available() -> str | None:
    missing = [package for package in PACKAGES if util.find_spec(package) is None]
    return f"not installed: {', '.join(missing)}" if missing else None


def version() -> str:
    return ", ".join(f"{package} {metadata.version(package)}" for package in PACKAGES)


class TooLargeError(Exception):
    """What a solver would need minutes of, or more memory than a laptop has; the limits are what was seen."""


def global_l2(layers: Layers, program: Program, eps: float, limit: float) -> Iterator[Way]:
    """Solvers with this tolerance; each stops iterating after `limit` seconds (setting up is not limited)."""
    scs = {"eps_abs": eps, "eps_rel": eps, "max_iters": 10**6, "time_limit_secs": limit}
    most = LARGEST["clarabel"]
    clarabel = {"tol_gap_rel": eps, "tol_gap_abs": eps, "time_limit": limit}
    yield f"SCS {eps:g}, the paper's matrix", partial(_solved, lambda: paper(layers), "SCS", scs, SCS_PAPER)
    yield f"SCS {eps:g}, centered", partial(_solved, lambda: centered(program), "SCS", scs, SCS_CENTERED)
    yield f"Clarabel {eps:g}, the paper's matrix", partial(_solved, lambda: paper(layers), "CLARABEL", clarabel, most)


def as_they_come(layers: Layers, program: Program, limit: float) -> Iterator[Way]:
    """What a user gets who asks for no tolerance."""
    most = LARGEST["clarabel"]
    scs, clarabel = {"time_limit_secs": limit}, {"time_limit": limit}
    yield "SCS as it comes, the paper's matrix", partial(_solved, lambda: paper(layers), "SCS", scs, SCS_BRIEF)
    yield "SCS as it comes, centered", partial(_solved, lambda: centered(program), "SCS", scs, SCS_CENTERED)
    yield (
        "Clarabel as it comes, the paper's matrix",
        partial(_solved, lambda: paper(layers), "CLARABEL", clarabel, most),
    )


def paper(layers: Layers) -> Inequality:
    """The paper's matrix; slopes in [alpha, 1]."""
    import cvxpy

    weights = [_reduced(layers.weights[0]), *layers.weights[1:]]
    blocks: list[list[Any]] = [[np.zeros((a.shape[1], b.shape[1])) for b in weights] for a in weights]
    rho = cvxpy.Variable(nonneg=True)
    blocks[0][0] = rho * np.eye(weights[0].shape[1])
    for i, (weight, activation) in enumerate(zip(weights, layers.activations, strict=False)):
        alpha = float(activation.alpha)  # type: ignore[attr-defined]  # what eclipse-nn takes too: Layers.sequential
        multipliers = cvxpy.diag(cvxpy.Variable(len(weight), nonneg=True))
        # minus 2 (dw - alpha dv)' T (dv - dw), which is at least 0 for slopes in [alpha, 1]
        beside = -(1 + alpha) * (multipliers @ weight)
        blocks[i + 1][i], blocks[i][i + 1] = beside, beside.T
        blocks[i + 1][i + 1] = 2 * multipliers
        if alpha:
            blocks[i][i] = blocks[i][i] + 2 * alpha * (weight.T @ multipliers @ weight)
    blocks[-1][-1] = blocks[-1][-1] - weights[-1].T @ weights[-1]
    return rho, cvxpy.bmat(blocks)


def centered(program: Program) -> Inequality:
    """The program as lipcert states it; l2 only."""
    import cvxpy

    if program.each_input:
        raise ValueError("inputs have one multiplier each")
    rho, multipliers = cvxpy.Variable(nonneg=True), cvxpy.Variable(program.groups, nonneg=True)
    diagonal = cvxpy.hstack([rho * np.ones(program.inputs), multipliers[program.neuron_group]])
    taken = program.rows.T @ cvxpy.diag(multipliers[program.row_group]) @ program.rows
    return rho, cvxpy.diag(diagonal) - taken - program.out.T @ program.out


def _solved(write: Callable[[], Inequality], solver: str, options: dict[str, Any], largest: int) -> Answer:
    """Write the inequality and solve it, up to so many rows."""
    import cvxpy

    rho, matrix = write()
    if matrix.shape[0] > largest:
        raise TooLargeError(f"{matrix.shape[0]} rows, at most {largest} are tried")
    problem = cvxpy.Problem(cvxpy.Minimize(rho), [(matrix + matrix.T) / 2 >> 0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of inaccuracy: the remark says so
        problem.solve(solver=solver, **options)
    remark = "" if problem.status == cvxpy.OPTIMAL else f"stopped: {problem.status}"
    value = math.nan if rho.value is None else float(rho.value)
    return math.sqrt(value) if value >= 0 else math.nan, remark


def _reduced(weight: np.ndarray) -> np.ndarray:
    """The first layer in coordinates of the inputs that it sees: the same optimum, and a smaller program."""
    wide = weight.shape[1] > weight.shape[0]
    return np.asarray(np.linalg.qr(weight.T, mode="r")).T if wide else weight
