"""Many inputs in l-infinity: a weight for each, found by turns with an l2 program in few coordinates.

At fixed weights w > 0 of sum 1, |dx|_inf <= 1 has sum w dx^2 <= 1: one multiplier m for all inputs, whose coordinates
are reduced to what the rows see, and m w are multipliers of the program. Inputs that the near null vectors of P use
much get more weight: for a linear function of gradient g one turn ends at the best weights, w ~ |g|.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from lipcert.methods.lipsdp.interior_point import Iterate, solve
from lipcert.methods.lipsdp.program import Program, moved_inputs

ROUNDS = (1e-2, 1e-2, 1e-3, 1e-4)
"""Relative duality gaps of the l2 programs, round after round."""

SETTLED = 1e-3
"""Relative progress in a round after which there is no other."""

LEAST = 1e-6
"""Of the mean weight, that every input keeps."""


def worth_it(program: Program) -> bool:
    """Whether there are several inputs for each coordinate that the rows can see."""
    return program.each_input and program.inputs > 2 * (len(program.rows) + len(program.out))


def reweighted(program: Program, tick: Callable[[], None]) -> Iterator[Iterate]:
    """Feasible iterates of a program with a multiplier for each input."""
    n = program.inputs
    seen = np.concatenate([program.rows[:, :n], program.out[:, :n]])
    weights = _of_sum_one(np.abs(seen).sum(axis=0))
    best = np.inf
    for close in ROUNDS:
        root = np.sqrt(weights)
        _, values, basis = np.linalg.svd(seen / root, full_matrices=False)
        basis = (basis[values > 1e-12 * values.max(initial=0.0)] / root).T
        reduced = replace(moved_inputs(program, basis), each_input=False)
        last: Iterate | None = None
        for iterate in solve(reduced, tick, close):
            last = iterate if last is None or iterate.objective < last.objective else last
            multipliers = float(iterate.inputs[0]) * weights
            yield Iterate(multipliers, iterate.multipliers, float(multipliers.sum()))
        if last is None or not last.objective < best * (1 - SETTLED):
            return
        best = last.objective
        inverse = np.linalg.inv(reduced.matrix(last.inputs, last.multipliers))[: reduced.inputs, : reduced.inputs]
        used = np.einsum("ij,jk,ik->i", basis, inverse, basis)
        weights = _of_sum_one(weights * np.sqrt(np.maximum(used, 0.0)))


def _of_sum_one(weights: np.ndarray) -> np.ndarray:
    weights = weights / weights.sum() if np.any(weights) else np.full(weights.size, 1 / weights.size)
    weights = np.maximum(weights, LEAST / weights.size)
    return np.asarray(weights / weights.sum())
