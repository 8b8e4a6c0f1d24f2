"""LipSDP over the region for one output after another, the steepest first, as long as it lowers the largest bound."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.chains import prepare_split
from lipcert.certificate.claim import Claim, Inequality, Local, Rows, RowScaling, Tree
from lipcert.certificate.inequality import output_bounds
from lipcert.certificate.linear_bounds import boxes_of
from lipcert.errors import NotProvedError
from lipcert.methods.base import OutOfTime, Progress, Unsuitable
from lipcert.methods.boxes import ChosenNet
from lipcert.methods.lipsdp.method import MAX_NEURONS, output_scaling
from lipcert.problem import Problem

WHOLE = Tree(np.array([[-1.0, 0.0, 0.0]]), np.zeros(0))
"""The region in one piece."""

SHARE = 0.5
"""Of the time that is left."""

Known = tuple[tuple[float, Rows | RowScaling], ...]
"""For each output what is proven of it over the whole region."""


def of_rows(bounds: np.ndarray, steps: int) -> Known:
    """Bounds of the rows by planes."""
    return tuple((float(bound), Rows((j,), WHOLE, steps, 0.0)) for j, bound in enumerate(bounds))


def with_scalings(problem: Problem, chosen: ChosenNet, known: Known, progress: Progress) -> Known:
    """The same with LipSDP for the outputs that the largest bound depends on, as far as there is time.

    Each gets its part of what is left: an early iterate of all is worth more than the last one of a few.
    """
    by = progress.arithmetic
    found = list(known)
    share = replace(progress, deadline=progress.deadline - (1 - SHARE) * progress.remaining())
    worst = 0.0
    try:
        setting = prepare_split(problem, boxes_of(problem, chosen.net, by), "open", by)
        if sum(setting.graph.size(i) for i in setting.increments.nonlinear) > MAX_NEURONS:
            return known
        for k, j in enumerate(sorted(range(len(known)), key=lambda j: -known[j][0])):
            if known[j][0] <= worst:
                break
            part = share.remaining() / (len(known) - k)
            scaling = output_scaling(setting, j, replace(share, deadline=time.monotonic() + part))
            if scaling is None:
                break
            evidence = Inequality((scaling,))
            value = float(output_bounds(setting, evidence)[:, j].max(initial=0.0))
            if value < known[j][0]:
                found[j] = value, RowScaling(j, evidence)
            worst = max(worst, found[j][0])
    except (OutOfTime, Unsuitable, NotProvedError):
        pass  # what was found before stands
    return tuple(found)


def with_resumed(problem: Problem, chosen: ChosenNet, known: Known, claim: Claim, by: Arithmetic) -> Known:
    """The same with what scalings of an earlier run prove now."""
    found = list(known)
    parts = claim.evidence.parts if isinstance(claim.evidence, Local) else ()
    scalings = [part for part in parts if isinstance(part, RowScaling)]
    if scalings:
        setting = prepare_split(problem, boxes_of(problem, chosen.net, by), "open", by)
        for part in scalings:
            try:
                value = float(output_bounds(setting, part.inequality)[:, part.output].max(initial=0.0))
            except NotProvedError:
                continue  # of boxes by other slopes: branching does without
            found[part.output] = min(found[part.output], (value, part), key=lambda pair: pair[0])
    return tuple(found)


def merged(known: Known) -> tuple[float, tuple[Rows | RowScaling, ...]]:
    """The bound on all outputs in l-infinity, and its parts: rows over the whole region in one."""
    rows = [part for _, part in known if isinstance(part, Rows) and part.tree is WHOLE]
    others = tuple(part for _, part in known if not (isinstance(part, Rows) and part.tree is WHOLE))
    parts = tuple(
        Rows(tuple(j for part in rows if part.steps == steps for j in part.outputs), WHOLE, steps, 0.0)
        for steps in sorted({part.steps for part in rows})
    )
    return max((bound for bound, _ in known), default=0.0), (*others, *parts)
