"""Claims of LipSDP: a feasible start, then better multipliers; the smallest scaling that the kernel proves."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from lipcert.activations.jacobian import BlockBound
from lipcert.activations.templated import TemplatedGroups
from lipcert.arithmetic.threads import one_thread
from lipcert.certificate.chains import Setting, prepare_split
from lipcert.certificate.claim import Claim, Composed, FormChoice, Inequality, Scaling
from lipcert.certificate.inequality import inequality_bound
from lipcert.errors import NotProvedError
from lipcert.graph import FixedPoint, Groupwise
from lipcert.methods.base import OutOfTime, Progress, Unsuitable
from lipcert.methods.boxes import choose_boxes
from lipcert.methods.lipsdp.composition import composed_claim
from lipcert.methods.lipsdp.interior_point import Iterate, solve
from lipcert.methods.lipsdp.loops import MOST
from lipcert.methods.lipsdp.program import Program, build, multipliers_of
from lipcert.methods.lipsdp.quadratic import quadratic_iterates
from lipcert.methods.lipsdp.reweighted import reweighted, worth_it
from lipcert.methods.lipsdp.shared import shared_iterates
from lipcert.methods.product.method import SLACK, SPARE, ProductMethod, deadline
from lipcert.problem import Problem

if TYPE_CHECKING:
    import torch

MAX_NEURONS = 2500
"""With a multiplier each: beyond, one interior-point step takes more than about five seconds."""

MAX_ON_GPU = 8000
"""The same where a GPU takes the steps."""

LARGE = 1000
"""Neurons from which on a GPU is used: small steps take longer there."""

MAX_SHARED = 40000
"""With multipliers that channels share ..."""

MAX_GROUPS = 500
"""... of which there may be this many."""

FACTORISED_A_SECOND = 2e10
"""Operations of a proof of many neurons."""

MAX_ROWS = 64
"""Outputs in l-infinity, and inputs in l1, that are bounded one by one."""

EXACT_INPUTS = 500
"""Coordinates up to which the best weights of inputs in l-infinity are found exactly: beyond, steps take long."""

ROOM = (1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
"""Relative enlargements of the objective that are tried until the kernel proves the scaling."""

SHARED_ROOM = (1e-6, 1e-3, 1e-1)
"""The same where a proof takes long."""

CANDIDATES = 4
"""The best iterates, of which each is tried with the same room before it is enlarged."""

SHARE = 0.8
"""Of what time is left, for a reference solver; the rest is for repair and proof."""

UNMOVED = 1e-9
"""Scale of inputs of which a scaling does not speak."""

SPARE_SCALE = 1 - 2.0**-34
"""Scales of inputs are stored this much smaller than proven, for other machines' roundings."""


class LipSdpMethod:
    """LipSDP with a multiplier for every neuron or group."""

    name = "lipsdp"

    def accepts(self, problem: Problem) -> str | None:
        return None

    def claims(self, problem: Problem, progress: Progress) -> Iterator[Claim]:
        by = progress.arithmetic
        by.tick = deadline(progress)
        chosen = choose_boxes(problem, progress)
        setting = prepare_split(problem, chosen.boxes, "open", by)
        _check(setting)
        if _needs_parts(setting, progress):
            yield from _in_parts(problem, setting, progress)
            return
        try:
            everything = _scaling(setting, _Some(), progress)
        except NotProvedError as reason:  # of the increments themselves
            raise Unsuitable(reason.message) from None
        if everything is None:
            raise Unsuitable(f"no multipliers were found that can be proven: {_why_none(problem)}")
        yield chosen.claim(_claim(setting, (everything,)))
        some_each = _one_by_one(setting)
        if len(some_each) > 1:
            single, late = [], None
            for k, some in enumerate(some_each):
                part = progress.remaining() / (len(some_each) - k)
                try:
                    setting.by.tick()
                    single.append(_scaling(setting, some, replace(progress, deadline=time.monotonic() + part)))
                except OutOfTime as reason:
                    late = reason
                    break
            yield chosen.claim(_claim(setting, (everything, *filter(None, single))))
            if late is not None:
                raise late


def output_scaling(setting: Setting, output: int, progress: Progress) -> Scaling | None:
    """A proven scaling for one output."""
    return _scaling(setting, _Some(output=output), progress)


@dataclass(frozen=True)
class _Some:
    """One output, or one input, or all (None)."""

    output: int | None = None
    input: int | None = None

    @property
    def is_all(self) -> bool:
        return self.output is None and self.input is None

    def outputs(self, setting: Setting) -> np.ndarray:
        """Scales of the outputs: 1, and 0 for those that are left out."""
        return np.array([float(self.output in (None, j)) for j in range(setting.graph.size(setting.y))])


def _one_by_one(setting: Setting) -> list[_Some]:
    """What the norms allow to bound by itself: inputs in l1, else outputs in linf; nothing if there are many."""
    inputs, outputs = setting.graph.size(setting.x), setting.graph.size(setting.y)
    if setting.norm_in == 1 and inputs <= MAX_ROWS:
        return [_Some(input=i) for i in range(inputs)]
    if setting.norm_out == math.inf and outputs <= MAX_ROWS:
        return [_Some(output=j) for j in range(outputs)]
    return []


def _why_none(problem: Problem) -> str:
    loops = [node for node in problem.graph.nodes if isinstance(node, FixedPoint)]
    if problem.equilibria:
        return (
            f"no start was found for the fixed point {loops[0].origin!r}: entries of very unlike size, or over {MOST}"
        )
    if loops:
        return f"the fixed point {loops[0].origin!r} may not be well-posed, or has more than {MOST} neurons"
    functions = [node.function for node in problem.graph.nodes if isinstance(node, Groupwise)]
    templated = [f.describe() for f in functions if isinstance(f, TemplatedGroups)]
    if templated:
        return f"what is said of {templated[0]} may be too little, or there is too much of it"
    return "constant outputs, or layers of very unlike size"


def _check(setting: Setting) -> None:
    """Unsuitable where a node has no slopes to multiply."""
    for i in setting.increments.nonlinear:
        bound = setting.increments.bound(i)
        formed = isinstance(bound, BlockBound) and bound.forms is not None
        if bound is None or not (formed or np.all(np.isfinite(bound.spectral))):
            raise Unsuitable(f"node {setting.graph.nodes[i].origin!r} has no bounded slopes here")


def _gpu(neurons: int, progress: Progress) -> torch.device | None:
    """The GPU that takes the steps for so many neurons, where --device names one: looking for it loads torch."""
    if neurons < LARGE or progress.device in ("auto", "cpu") or progress.solver != "native":
        return None
    from lipcert.methods.device import choose_device

    device = choose_device(progress.device)
    return None if device.type == "cpu" else device


def _most(neurons: int, progress: Progress) -> int:
    """Neurons that may have a multiplier each."""
    return MAX_NEURONS if neurons <= MAX_NEURONS or _gpu(neurons, progress) is None else MAX_ON_GPU


def _needs_parts(setting: Setting, progress: Progress) -> bool:
    """Whether there are too many neurons, or too many multipliers although channels share them."""
    neurons = _neurons(setting)
    graph = setting.graph
    shared = sum(multipliers_of(graph.nodes[i].shape) for i in setting.increments.nonlinear)
    return neurons > MAX_SHARED or (neurons > _most(neurons, progress) and shared > MAX_GROUPS)


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
def _scaling(setting: Setting, some: _Some, progress: Progress) -> Scaling | None:
    """A proven scaling, from the best iterate that there was time for."""
    outputs = some.outputs(setting)
    sparse = _neurons(setting) > _most(_neurons(setting), progress)
    if sparse and progress.solver != "native":
        raise Unsuitable(f"{_neurons(setting)} neurons are too many for {progress.solver}")
    program = build(setting, outputs, some.input, sparse)
    if not program.is_finite:
        raise Unsuitable("an entry of the network overflows")
    before, setting.by.tick = setting.by.tick, deadline(progress)
    found = shared_iterates(program, _reserve(setting, progress)) if sparse else _iterates(program, progress)
    iterates: list[Iterate] = []
    try:
        with one_thread():  # many small products; the large ones ask for more
            for iterate in found:
                iterates.append(iterate)
    except OutOfTime:
        if not iterates:
            raise
    finally:
        setting.by.tick = before
    best = sorted(iterates, key=lambda i: i.objective)[:CANDIDATES]
    dual = max((i.dual for i in iterates), default=0.0)
    dual = 0.0 if any(i.forms for i in iterates) else dual  # forms get below
    if dual and some.is_all and setting.norm_out == 2 and setting.norm_in != 1:
        least = math.sqrt(dual)
        progress.notes.append(f"no multipliers of LipSDP give less than {least:.9g} (dual bound, not proven)")
    if sparse:
        best = best[:2]
    for room in SHARED_ROOM if sparse else ROOM:  # the last iterates are the nearest to what cannot be proven
        for iterate in best:
            scaling = _proven(setting, program, iterate, some.input, outputs, room)
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
    tick = progress.arithmetic.tick
    if any(form.required for form in program.forms):
        if progress.solver != "native":
            raise Unsuitable(f"{progress.solver} does not know templates: use the native solver")
        return quadratic_iterates(program, tick)
    if progress.solver == "native":
        more = program.forms or program.each_output
        first = reweighted(program, tick) if worth_it(program) else ()
        if first and program.size > EXACT_INPUTS and not more:
            return iter(first)
        device = _gpu(len(program.neuron_group), progress)
        return chain(
            first, _solved(program, device, tick, progress.close), quadratic_iterates(program, tick) if more else ()
        )
    from lipcert.methods.lipsdp.reference import reference_iterates

    return reference_iterates(program, progress.solver, max(1.0, SHARE * progress.remaining()), progress.notes)


def _solved(program: Program, device: torch.device | None, tick: Callable[[], None], close: float) -> Iterator[Iterate]:
    if device is None:
        return solve(program, tick, close)
    from lipcert.methods.lipsdp.on_device import solve_on

    return solve_on(program, device, tick, close)


def _proven(
    setting: Setting, program: Program, iterate: Iterate, input: int | None, outputs: np.ndarray, room: float
) -> Scaling | None:
    """The scaling of an iterate, if the kernel proves it with this room."""
    size = setting.graph.size(setting.x)
    inputs = np.broadcast_to(1 / np.sqrt(iterate.inputs * (1 + room)), size)
    if input is not None:  # the others do not move
        inputs = np.where(np.arange(size) == input, inputs, inputs * UNMOVED)
    if iterate.outputs is not None:
        outputs = iterate.outputs
    hidden = 1 / np.sqrt(iterate.multipliers[program.neuron_group])
    scaling = Scaling(inputs, hidden, outputs, tuple(FormChoice(*form) for form in iterate.forms))
    try:
        inequality_bound(setting, Inequality((scaling,)))
    except NotProvedError:
        return None
    return replace(scaling, inputs=inputs * SPARE_SCALE)
