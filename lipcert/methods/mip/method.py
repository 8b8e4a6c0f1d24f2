"""What HiGHS says, as a note and a witness; then branching that proves it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from lipcert.certificate import Claim, Witness
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.methods.base import Progress
from lipcert.methods.local import LocalMethod
from lipcert.methods.lower.directions import Jacobian, attaining
from lipcert.methods.mip.program import solve_mip, unsuited
from lipcert.problem import Problem

TOLERANCE = 1e-6

SHARE = 0.5
"""Of the time that is left, which HiGHS may take."""


class MipMethod:
    """The Jacobian of a small network over a region by mixed-integer programs, proven by branch and bound."""

    name = "mip"

    def accepts(self, problem: Problem) -> str | None:
        return unsuited(problem, Arithmetic()) or LocalMethod().accepts(problem)

    def claims(self, problem: Problem, progress: Progress) -> Iterator[Claim]:
        answer = solve_mip(problem, progress.arithmetic, SHARE * progress.remaining())
        witness, gain = steepest(problem, answer.point)
        progress.witnesses.append(witness)
        said = f"HiGHS says {answer.value:.9g}, at most {answer.bound:.9g} (not proven)"
        if answer.bound < progress.attained() * (1 - TOLERANCE):
            said += f", which is wrong: {progress.attained():.9g} is attained"
        progress.notes.append(said)
        known = replace(progress, exact=True, attained=lambda: max(gain, progress.attained()))
        yield from LocalMethod().claims(problem, known)


def steepest(problem: Problem, point: np.ndarray) -> tuple[Witness, float]:
    """The direction in which the network is steepest at a point, and how steep; norms as `unsuited` lets them be."""
    query, m = problem.query, problem.size_out
    rows = Jacobian(problem, np.tile(point, (m, 1))).backward(np.eye(m))
    if query.norm_in == math.inf:
        sums = np.abs(rows).sum(axis=1)
        k = int(np.argmax(sums))
        return Witness(point, attaining(rows[k : k + 1], math.inf)[0]), float(sums[k])
    columns = np.linalg.norm(rows, ord=query.norm_out, axis=0)
    k = int(np.argmax(columns))
    return Witness(point, np.eye(problem.size_in)[k]), float(columns[k])
