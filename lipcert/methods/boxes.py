"""Which boxes a method uses: linear bounds where there is time for them, else intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lipcert.certificate.boxes import Bounds, propagate
from lipcert.certificate.linear_bounds import linear_boxes
from lipcert.errors import NotProvedError
from lipcert.graph import Affine, State
from lipcert.methods.base import OutOfTime, Progress
from lipcert.problem import Everywhere, Problem

SHARE = 0.25
"""Of the time that is left, which linear bounds may take."""

MULTIPLICATIONS_A_SECOND = 1e9
"""Of coefficients on their way back; half of them are for what is rounded."""


@dataclass(frozen=True, eq=False)
class Chosen:
    """Boxes of all nodes, and whether they are by linear bounds: what claims say (Claim.linear)."""

    boxes: list[Bounds]
    linear: bool


def choose_boxes(problem: Problem, progress: Progress) -> Chosen:
    """Linear bounds if the region is bounded and they take a share of the time that is left."""
    by = progress.arithmetic
    intervals = propagate(problem, by)
    implicit = any(isinstance(node, State) for node in problem.graph.nodes)
    if not progress.linear or isinstance(problem.query.region, Everywhere) or implicit:
        return Chosen(intervals, False)
    if _work(problem, intervals) / MULTIPLICATIONS_A_SECOND > SHARE * progress.remaining():
        return Chosen(intervals, False)
    before, by.tick = by.tick, _until(progress, (1 - 2 * SHARE) * progress.remaining())
    try:
        return Chosen(linear_boxes(problem, by), True)
    except (OutOfTime, NotProvedError):  # numbers that overflow
        return Chosen(intervals, False)
    finally:
        by.tick = before


def _work(problem: Problem, boxes: list[Bounds]) -> float:
    """Multiplications: what every entry whose slope is open costs on its way back."""
    graph = problem.graph
    total = passed = 0.0
    for i, node in enumerate(graph.nodes):
        if isinstance(node, Affine):
            passed += sum(operator.work for operator in node.operators)
            if i == problem.y or any(i in other.inputs and not isinstance(other, Affine) for other in graph.nodes):
                low, high = boxes[i]
                total += 4.0 * float(np.count_nonzero(low < high)) * passed
    return total


def _until(progress: Progress, left: float) -> Callable[[], None]:
    """A tick that raises OutOfTime when no more than this is left."""

    def tick() -> None:
        if progress.remaining() < left:
            raise OutOfTime

    return tick
