"""Claims of the product method: entrywise chains first (milliseconds), then spectral chains.

Any DAG of affine and elementwise nodes is accepted. Both chains are verified by certificate.chains, which states the
mathematics; what is chosen here is where linear stretches are cut and how their terms are grouped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from lipcert.activations.templated import TemplatedGroups
from lipcert.certificate.boxes import propagate
from lipcert.certificate.chains import Setting, absolute_bound, prepare, step_terms
from lipcert.certificate.claim import AbsoluteChain, Claim, SpectralChain
from lipcert.graph import FixedPoint, Groupwise
from lipcert.methods.base import OutOfTime, Progress
from lipcert.methods.boxes import choose_boxes
from lipcert.methods.product.proofs import Found, prove_norm
from lipcert.methods.product.spectral import spectral_chain
from lipcert.methods.symbol import FULL_EFFORT, Effort
from lipcert.operators import LinearOperator
from lipcert.problem import Everywhere, Norm, Problem

SHORT_EFFORT = 2.0
"""Seconds of proof for one operator before all others have had as much."""

MULTIPLICATIONS_A_SECOND = 4e9

SLACK = 1 + 2.0**-33
"""Room in claimed values for a checker whose sums run in another order (other BLAS, other machine)."""

SPARE = 1e-300
"""The same for values so small that underflow terms outweigh them."""


def for_lipsdp_only(problem: Problem) -> str | None:
    """Why methods that go node after node do not take a problem: it has fixed points, or ops known by a template."""
    for node in problem.graph.nodes:
        if isinstance(node, FixedPoint):
            return f"the fixed point {node.origin!r} is bounded by local and lipsdp only"
        if isinstance(node, Groupwise) and isinstance(node.function, TemplatedGroups):
            return f"{node.function.describe()} is bounded by LipSDP only"
    return None


class ProductMethod:
    """Operator norms composed along the graph."""

    name = "product"

    def accepts(self, problem: Problem) -> str | None:
        return for_lipsdp_only(problem)

    def claims(self, problem: Problem, progress: Progress) -> Iterator[Claim]:
        by = progress.arithmetic
        by.tick = deadline(progress)
        intervals = prepare(problem, propagate(problem, by), False, by)
        yield _claim(absolute_bound(intervals), AbsoluteChain(False))  # whatever the budget: it takes milliseconds
        chosen = choose_boxes(problem, progress)
        boxes = chosen.boxes
        cheap = prepare(problem, boxes, False, by)
        if chosen.linear:
            yield chosen.claim(_claim(absolute_bound(cheap), AbsoluteChain(False)))
        yield chosen.claim(_spectral_claim(cheap, progress, False, Effort(0.0)))
        short = Effort(SHORT_EFFORT, device=progress.device)
        yield chosen.claim(_spectral_claim(cheap, progress, False, short))
        split = prepare(problem, boxes, True, by, deadline(progress))
        if not _takes_long(split, progress):
            yield chosen.claim(_claim(absolute_bound(split), AbsoluteChain(True)))
            yield chosen.claim(_spectral_claim(split, progress, True, short))
        if not isinstance(problem.query.region, Everywhere):
            # mean slopes of the region can do worse than those of all slopes: then what holds everywhere holds here
            whole = prepare(problem, propagate(problem.everywhere(), by), True, by, deadline(progress))
            if not _takes_long(whole, progress):
                yield replace(_claim(absolute_bound(whole), AbsoluteChain(True)), anywhere=True)
                yield replace(_spectral_claim(whole, progress, True, short), anywhere=True)
        if short.limited:
            full = Effort(FULL_EFFORT, device=progress.device)
            yield chosen.claim(_spectral_claim(cheap, progress, False, full))
            if not _takes_long(split, progress):
                full = Effort(FULL_EFFORT, device=progress.device)
                yield chosen.claim(_spectral_claim(split, progress, True, full))


def _takes_long(setting: Setting, progress: Progress) -> bool:
    """Whether an entrywise chain takes most of what is left: centered ones of deep networks have very many terms."""
    nodes = (*setting.increments.nonlinear, setting.y)
    work = sum(op.work for node in nodes for op in step_terms(setting, node, ()).values())
    return work / MULTIPLICATIONS_A_SECOND > progress.remaining() / 3


def _claim(value: float, evidence: AbsoluteChain | SpectralChain) -> Claim:
    return Claim(value * SLACK + SPARE, evidence)


def _spectral_claim(setting: Setting, progress: Progress, center: bool, effort: Effort) -> Claim:
    """A chain; when two thirds of the time are over, what is left is bounded by the quick rules."""
    by = setting.by
    last, patience = deadline(progress), deadline(progress, 0.5)
    stack = effort.seconds > 0

    def prove(op: LinearOperator, p: Norm, q: Norm) -> Found:
        nonlocal effort
        if effort.seconds:
            by.tick = patience
            try:
                patience()
                return prove_norm(op, p, q, effort, by)
            except OutOfTime:
                effort = Effort(0.0)
        by.tick = last
        return prove_norm(op, p, q, Effort(0.0), by)

    value, chain = spectral_chain(replace(setting, tick=last), center, prove, stack)
    return _claim(value, chain)


def deadline(progress: Progress, spare: float = 1 / 3) -> Callable[[], None]:
    """A tick for one claim that leaves time to verify it: `spare` of what finding it took."""
    began = progress.remaining()

    def tick() -> None:
        left = progress.remaining()
        if left < (began - left) * spare:
            raise OutOfTime

    return tick
