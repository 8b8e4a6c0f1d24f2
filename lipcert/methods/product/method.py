"""Claims of the product method: entrywise chains first (milliseconds), then spectral chains.

Any DAG of affine and elementwise nodes is accepted. Both chains are verified by certificate.chains, which states the
mathematics; what is chosen here is where linear stretches are cut and how their terms are grouped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.boxes import propagate
from lipcert.certificate.chains import Setting, absolute_bound, prepare
from lipcert.certificate.claim import AbsoluteChain, Claim, SpectralChain
from lipcert.methods.base import OutOfTime, Progress
from lipcert.methods.product.spectral import spectral_chain
from lipcert.problem import Everywhere, Problem

SLACK = 1 + 2.0**-33
"""Room in claimed values for a checker whose sums run in another order (other BLAS, other machine)."""

SPARE = 1e-300
"""The same for values so small that underflow terms outweigh them."""


class ProductMethod:
    """Operator norms composed along the graph."""

    name = "product"

    def accepts(self, problem: Problem) -> str | None:
        return None

    def claims(self, problem: Problem, progress: Progress) -> Iterator[Claim]:
        by = Arithmetic()
        boxes = propagate(problem, by)
        cheap = prepare(problem, boxes, False, by)
        yield _claim(absolute_bound(cheap), AbsoluteChain(False))  # whatever the budget: it takes milliseconds
        for thorough in (False, True):
            yield _spectral_claim(cheap, progress, False, thorough)
        split = prepare(problem, boxes, True, by, _deadline(progress))
        yield _claim(absolute_bound(split), AbsoluteChain(True))
        yield _spectral_claim(split, progress, True, thorough=True)
        if isinstance(problem.query.region, Everywhere):
            return
        # mean slopes of the region can do worse than those of all slopes: then what holds everywhere holds here
        whole = prepare(problem, propagate(problem.everywhere(), by), True, by, _deadline(progress))
        yield replace(_claim(absolute_bound(whole), AbsoluteChain(True)), anywhere=True)
        yield replace(_spectral_claim(whole, progress, True, thorough=True), anywhere=True)


def _claim(value: float, evidence: AbsoluteChain | SpectralChain) -> Claim:
    return Claim(value * SLACK + SPARE, evidence)


def _spectral_claim(setting: Setting, progress: Progress, center: bool, thorough: bool) -> Claim:
    setting.by.tick = _deadline(progress)
    value, chain = spectral_chain(replace(setting, tick=setting.by.tick), center, thorough)
    return _claim(value, chain)


def _deadline(progress: Progress) -> Callable[[], None]:
    """A tick for one claim that leaves time to verify it: about a third of what finding it took."""
    began = progress.remaining()

    def tick() -> None:
        left = progress.remaining()
        if left < (began - left) / 3:
            raise OutOfTime

    return tick
