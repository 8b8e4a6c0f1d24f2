"""Claims of LipSDP: a feasible start, then better multipliers; the smallest scaling that the kernel proves."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from lipcert.certificate.boxes import propagate
from lipcert.certificate.chains import Setting, prepare
from lipcert.certificate.claim import Claim, Scaled, Scaling
from lipcert.certificate.scaled import MAX_ENTRIES, scaled_bound
from lipcert.errors import NotProvedError
from lipcert.methods.base import OutOfTime, Progress
from lipcert.methods.lipsdp.interior_point import Iterate, solve
from lipcert.methods.lipsdp.program import Program, build
from lipcert.methods.product.method import SLACK, SPARE, deadline
from lipcert.problem import Problem

MAX_NEURONS = 1500
"""Beyond, one interior-point step takes more than about ten seconds."""

ROOM = (1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4)
"""Relative enlargements of the objective that are tried until the kernel proves the scaling."""


class LipSdpMethod:
    """LipSDP with multipliers for every neuron or group."""

    name = "lipsdp"

    def accepts(self, problem: Problem) -> str | None:
        if problem.query.norm_in == 1:
            return "inputs in l1 are not bounded by LipSDP"
        return None

    def claims(self, problem: Problem, progress: Progress) -> Iterator[Claim]:
        by = progress.arithmetic
        by.tick = deadline(progress)
        setting = prepare(problem, propagate(problem, by), True, by)
        neurons = sum(setting.graph.size(i) for i in setting.increments.nonlinear)
        rows = neurons + setting.graph.size(setting.y)
        if neurons > MAX_NEURONS or rows * (neurons + setting.graph.size(setting.x)) > MAX_ENTRIES:
            return
        if not all(np.all(np.isfinite(_spectral(setting, i))) for i in setting.increments.nonlinear):
            return
        program = build(setting)
        iterates: list[Iterate] = []
        try:
            for iterate in solve(program, by.tick):
                iterates.append(iterate)
        except OutOfTime:
            pass
        for iterate in sorted(iterates, key=lambda i: i.objective)[:4]:
            claim = _proven(setting, program, iterate)
            if claim is not None:
                yield claim
                return


def _spectral(setting: Setting, node: int) -> np.ndarray:
    bound = setting.increments.bound(node)
    assert bound is not None
    return bound.spectral


def _proven(setting: Setting, program: Program, iterate: Iterate) -> Claim | None:
    """The claim with the least room that the kernel proves; None where even the most is too little."""
    inputs = _inputs(setting, program, iterate)
    hidden = 1 / np.sqrt(iterate.multipliers[program.neuron_group])
    for room in ROOM:
        scaling = Scaling(inputs / math.sqrt(1 + room), hidden, np.ones(setting.graph.size(setting.y)))
        try:
            value = scaled_bound(setting, Scaled(True, (scaling,)))
        except NotProvedError:
            continue
        # what other machines' roundings prove too
        spare = Scaling(scaling.inputs * (1 - 2.0**-34), hidden, scaling.outputs)
        return Claim(value * (1 + 2.0**-32) * SLACK + SPARE, Scaled(True, (spare,)))
    return None


def _inputs(setting: Setting, program: Program, iterate: Iterate) -> np.ndarray:
    scale = 1 / np.sqrt(iterate.inputs)
    return scale if program.each_input else np.full(setting.graph.size(setting.x), scale[0])
