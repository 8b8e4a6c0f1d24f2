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

ROUNDS = 6
"""Of new weights; then the best ones once more, to a small gap."""

ROUGH, FINE = 5e-2, 1e-3
"""Relative duality gaps of the l2 programs. Far from the boundary P^-1 is a mean over all near null vectors."""

SETTLED = 5e-3
"""Relative change in a round after which there is no other."""

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
    best, best_weights, before = np.inf, weights, np.inf
    for turn in range(ROUNDS):
        found = _solved(program, seen, weights, ROUGH, tick)
        if found is None:
            return
        iterate, used, objective = found
        yield iterate
        if objective < best:
            best, best_weights = objective, weights
        if abs(objective - before) < SETTLED * before:
            break
        before = objective
        # smaller steps from turn to turn: full ones, 1 / 2, go to and fro between equally good null vectors
        step = 0.3 / (1 + 0.5 * turn)
        weights = _of_sum_one(weights * np.maximum(used / (weights @ used), 0.0) ** step)
    last = _solved(program, seen, best_weights, FINE, tick)
    if last is not None:
        yield last[0]


@np.errstate(all="ignore")  # what overflows is left to the exact program
def _solved(
    program: Program, seen: np.ndarray, weights: np.ndarray, close: float, tick: Callable[[], None]
) -> tuple[Iterate, np.ndarray, float] | None:
    """The best iterate at these weights, how much near null vectors of P use each input, and the objective."""
    root = np.sqrt(weights)
    try:
        _, values, basis = np.linalg.svd(seen / root, full_matrices=False)
    except np.linalg.LinAlgError:
        return None
    basis = (basis[values > 1e-12 * values.max(initial=0.0)] / root).T
    reduced = replace(moved_inputs(program, basis), each_input=False)
    best = min(solve(reduced, tick, close), key=lambda iterate: iterate.objective, default=None)
    if best is None:
        return None
    inputs = slice(0, reduced.inputs)
    try:
        inverse = np.linalg.inv(reduced.matrix(best.inputs, best.multipliers))[inputs, inputs]
    except np.linalg.LinAlgError:
        return None
    used = np.einsum("ij,jk,ik->i", basis, inverse, basis)
    multipliers = float(best.inputs[0]) * weights
    return Iterate(multipliers, best.multipliers, float(multipliers.sum())), used, float(best.objective)


def _of_sum_one(weights: np.ndarray) -> np.ndarray:
    weights = weights / weights.sum() if np.any(weights) else np.full(weights.size, 1 / weights.size)
    weights = np.maximum(weights, LEAST / weights.size)
    return np.asarray(weights / weights.sum())
