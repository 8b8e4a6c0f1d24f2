"""Boxes of implicit layers over many regions at a time: less tight than one by one, and a thousand times as fast.

Where a layer contracts in l-infinity, they are those of its embedded network. Else one distance from their centers
follows for all of them from the multipliers of l2 (certificate.solutions.gains).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.boxes import Bounds, propagate_many
from lipcert.certificate.claim import Equilibrium
from lipcert.certificate.implicit import Layer, layers_of
from lipcert.certificate.solutions import Surroundings, gains, reach_of, surroundings
from lipcert.errors import NotProvedError
from lipcert.graph import Graph, Output
from lipcert.methods.implicit.embedded import ROOM, embedded
from lipcert.methods.implicit.equilibria import uniqueness
from lipcert.methods.implicit.solution import solutions
from lipcert.problem import Problem

if TYPE_CHECKING:
    import torch

GAIN = 1e-3
"""A step of the embedded network that gains less than this is the last one."""


def with_many_equilibria(problem: Problem, by: Arithmetic, device: torch.device | None = None) -> Problem:
    """The problem over Balls or Boxes with boxes (K, n) of its implicit layers; NotProvedError where there are none."""
    found: list[Equilibrium] = []
    for state, layer in sorted(layers_of(problem.graph, by).items()):
        multipliers = by.kept(("multipliers", layer), partial(uniqueness, layer, by))
        before = Problem(
            Graph(problem.graph.nodes[:state], (Output("", 0),)), problem.query, problem.x, problem.x, tuple(found)
        )
        around = surroundings(problem, layer, propagate_many(before, by), by)
        reach = sum(
            (reach_of(problem, None, op, source, radius, by) for source, op, radius in around.radii),
            start=np.zeros(layer.size),
        )
        box = embedded(layer, np.atleast_2d(around.center.value), np.asarray(reach), GAIN, device)
        if box is None and multipliers.size:
            box = _all_reached(problem, layer, around, multipliers, by)
        if box is None:
            raise NotProvedError(
                f"no boxes were found for the solutions of {layer.origin!r} over many regions at a time"
            )
        found.append(Equilibrium(state, multipliers, *box))
    return replace(problem, equilibria=tuple(found))


def _all_reached(
    problem: Problem, layer: Layer, around: Surroundings, multipliers: np.ndarray, by: Arithmetic
) -> Bounds | None:
    centers = solutions(layer, np.broadcast_to(around.center.value, around.center.shape))
    if not np.all(np.isfinite(centers)):
        return None
    found = gains(problem, layer, centers, around, multipliers, by)
    if found is None:
        return None
    room = (1 + ROOM) * found + ROOM
    return centers - room, centers + room
