"""Claims of LipSDP: a feasible start, then better multipliers; the smallest scaling that the kernel proves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from lipcert.certificate.boxes import propagate
from lipcert.certificate.chains import Setting, prepare_split
from lipcert.certificate.claim import Claim, Composed, Inequality, Scaling
from lipcert.certificate.inequality import inequality_bound
from lipcert.errors import NotProvedError
from lipcert.methods.base import OutOfTime, Progress, Unsuitable
from lipcert.methods.lipsdp.composition import composed_claim
from lipcert.methods.lipsdp.interior_point import Iterate, solve
from lipcert.methods.lipsdp.program import Program, build, multipliers_of
from lipcert.methods.lipsdp.shared import shared_iterates
from lipcert.methods.product.method import SLACK, SPARE, ProductMethod, deadline
from lipcert.problem import Problem

MAX_NEURONS = 2500
"""With a multiplier each: beyond, one interior-point step takes more than about five seconds."""

MAX_SHARED = 40000
"""With multipliers that channels share ..."""

MAX_GROUPS = 500
"""... of which there may be this many."""

FACTORISED_A_SECOND = 2e10
"""Operations of a proof of many neurons."""

MAX_ROWS = 64
"""Outputs in l-infinity that are bounded one by one."""

ROOM = (1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
"""Relative enlargements of the objective that are tried until the kernel proves the scaling."""

SHARED_ROOM = (1e-6, 1e-3, 1e-1)
"""The same where a proof takes long."""

CANDIDATES = 4
"""The best iterates, of which each is tried with the same room before it is enlarged."""

SHARE = 0.8
"""Of what time is left, for a reference solver; the rest is for repair and proof."""

SPARE_SCALE = 1 - 2.0**-34
"""Scales of inputs are stored this much smaller than proven, for other machines' roundings."""


class LipSdpMethod:
    """LipSDP with a multiplier for every neuron or group."""

    name = "lipsdp"

    def accepts(self, problem: Problem) -> str | None:
        if problem.query.norm_in == 1:
            return "LipSDP bounds inputs in l2 and linf, not in l1"
        return None

    def claims(self, problem: Problem, progress: Progress) -> Iterator[Claim]:
        by = progress.arithmetic
        by.tick = deadline(progress)
        setting = prepare_split(problem, propagate(problem, by), "open", by)
        _check(setting)
        if _needs_parts(setting):
            yield from _in_parts(problem, setting, progress)
            return
        everything = _scaling(setting, None, progress)
        if everything is None:
            raise Unsuitable(
                "no multipliers were found that can be proven: constant outputs, or layers of very unlike size"
            )
        yield _claim(setting, (everything,))
        outputs = setting.graph.size(setting.y)
        if setting.norm_out == math.inf and 1 < outputs <= MAX_ROWS:
            rows = [_scaling(setting, k, progress) for k in range(outputs)]
            yield _claim(setting, (everything, *(row for row in rows if row is not None)))


def _check(setting: Setting) -> None:
    """Unsuitable where a node has no slopes to multiply."""
    for i in setting.increments.nonlinear:
        bound = setting.increments.bound(i)
        if bound is None or not np.all(np.isfinite(bound.spectral)):
            raise Unsuitable(f"node {setting.graph.nodes[i].origin!r} has no bounded slopes here")


def _needs_parts(setting: Setting) -> bool:
    """Whether there are too many neurons, or too many multipliers although channels share them."""
    neurons = _neurons(setting)
    graph = setting.graph
    shared = sum(multipliers_of(graph.nodes[i].shape) for i in setting.increments.nonlinear)
    return neurons > MAX_SHARED or (neurons > MAX_NEURONS and shared > MAX_GROUPS)


def _in_parts(problem: Problem, setting: Setting, progress: Progress) -> Iterator[Claim]:
    claim = composed_claim(problem, progress, LipSdpMethod, ProductMethod)
    if claim is None:
        raise Unsuitable(f"{_neurons(setting)} neurons are too many for one LipSDP, and no parts of the network fit")
    cut = [problem.graph.nodes[i].origin for i in claim.evidence.cuts] if isinstance(claim.evidence, Composed) else []
    progress.notes.append(f"in {len(cut) + 1} parts, cut at {', '.join(cut)}")
    yield claim


def _neurons(setting: Setting) -> int:
    return sum(setting.graph.size(i) for i in setting.increments.nonlinear)


def _claim(setting: Setting, scalings: tuple[Scaling, ...]) -> Claim:
    value = inequality_bound(setting, Inequality(scalings))
    return Claim(value * SLACK + SPARE, Inequality(scalings))


@np.errstate(all="ignore")  # what overflows in the search is refused by the kernel
def _scaling(setting: Setting, output: int | None, progress: Progress) -> Scaling | None:
    """A proven scaling for all outputs or one; from the best iterate that there was time for."""
    setting.by.tick = deadline(progress)
    sparse = _neurons(setting) > MAX_NEURONS
    if sparse and progress.solver != "native":
        raise Unsuitable(f"{_neurons(setting)} neurons are too many for {progress.solver}")
    program = build(setting, None if output is None else np.array([output]), sparse)
    if not program.is_finite:
        raise Unsuitable("an entry of the network overflows")
    outputs = np.ones(setting.graph.size(setting.y))
    if output is not None:
        outputs = np.where(np.arange(outputs.size) == output, 1.0, 0.0)
    iterates: list[Iterate] = []
    try:
        for iterate in (
            shared_iterates(program, _reserve(setting, progress)) if sparse else _iterates(program, progress)
        ):
            iterates.append(iterate)
    except OutOfTime:
        if output is not None:
            raise  # the claim of all outputs stands
    best = sorted(iterates, key=lambda i: i.objective)[:CANDIDATES]
    dual = max((i.dual for i in iterates), default=0.0)
    if dual and output is None and setting.norm_out == 2:
        least = math.sqrt(dual)
        progress.notes.append(f"no multipliers of LipSDP give less than {least:.9g} (dual bound, not proven)")
    if sparse:
        best = best[:2]
    for room in SHARED_ROOM if sparse else ROOM:  # the last iterates are the nearest to what cannot be proven
        for iterate in best:
            scaling = _proven(setting, program, iterate, outputs, room)
            if scaling is not None:
                return scaling
    return None


def _reserve(setting: Setting, progress: Progress) -> Callable[[], None]:
    """Raises OutOfTime when what is left is about what a proof takes."""
    sizes = [setting.graph.size(node) for node in (setting.x, *setting.increments.nonlinear)]
    proof = 5.0 * sum(float(size) ** 3 for size in sizes) / FACTORISED_A_SECOND

    def tick() -> None:
        if progress.remaining() < proof:
            raise OutOfTime

    return tick


def _iterates(program: Program, progress: Progress) -> Iterator[Iterate]:
    if progress.solver == "native":
        return solve(program, progress.arithmetic.tick)
    from lipcert.methods.lipsdp.reference import reference_iterates

    return reference_iterates(program, progress.solver, max(1.0, SHARE * progress.remaining()), progress.notes)


def _proven(setting: Setting, program: Program, iterate: Iterate, outputs: np.ndarray, room: float) -> Scaling | None:
    """The scaling of an iterate, if the kernel proves it with this room."""
    inputs = np.broadcast_to(1 / np.sqrt(iterate.inputs), setting.graph.size(setting.x))
    hidden = 1 / np.sqrt(iterate.multipliers[program.neuron_group])
    scaling = Scaling(inputs / math.sqrt(1 + room), hidden, outputs)
    try:
        inequality_bound(setting, Inequality((scaling,)))
    except NotProvedError:
        return None
    return Scaling(scaling.inputs * SPARE_SCALE, hidden, outputs)
