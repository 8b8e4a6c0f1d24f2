"""The best proof of a convolution's l2 norm that its symbol gives within an effort."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lipcert.arithmetic.rounding import up
from lipcert.arithmetic.threads import one_thread
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.claim import Frequencies, Symbol
from lipcert.certificate.lattice import Lattice, as_lattice
from lipcert.certificate.norms import proves_l2
from lipcert.certificate.symbol import MAX_AXES, MAX_CELLS, SymbolKernel, symbol_kernel
from lipcert.methods.symbol.search import circle_maximum, supremum
from lipcert.operators import LinearOperator

GAPS = (1e-4, 1e-3, 1e-2, 3e-2)
"""How far above the supremum a proof for maps of any size may be: the smallest that the effort allows."""

CIRCLE_GAP = 1e-7
"""The same above the largest value on a circle, which is known almost exactly."""

MARGIN = 1 + 2.0**-34
"""A sigma that is proven here is stored this much larger, so that other machines' roundings prove it too."""

FULL_EFFORT = 60.0
"""Seconds of proof that one operator may take when nothing else is left to do."""

Found = tuple[float, Symbol | Frequencies]
Rule = type[Symbol] | type[Frequencies]


@dataclass
class Effort:
    """Seconds of proof that one operator may take; `limited` is set where more would give a smaller bound."""

    seconds: float
    limited: bool = False
    device: str = "cpu"
    """Where the search runs: a torch device."""


def symbol_norm(op: LinearOperator, by: Arithmetic, effort: Effort | None = None) -> float:
    """A number that the kernel proves to bound the l2 norm of a convolution; infinite where that is too much work."""
    found = symbol_proof(op, by, effort)
    return math.inf if found is None else found[0]


def symbol_proof(op: LinearOperator, by: Arithmetic, effort: Effort | None = None) -> Found | None:
    """The smallest bound that the symbol proves within the effort, and the proof; None where there is none.

    Maps of this size, if their circle has few frequencies: that is the tightest. Else maps of any size.
    """
    op = op.block
    conv = as_lattice(op)
    if conv is None:
        return None
    kernel = symbol_kernel(conv)
    if len(kernel.extents) > MAX_AXES or not (np.all(np.isfinite(kernel.taps)) and math.isfinite(conv.deviation)):
        return None
    effort = effort or Effort(FULL_EFFORT)
    device = effort.device
    rule, gap = _plan(kernel, effort)
    if rule is None:
        return None
    key = ("symbol", op.digest, rule, gap)  # chains with other cuts ask again
    if key not in by.found:
        # very many small products: threads that wait for each other make them slower
        with one_thread():
            by.found[key] = _proven(op, conv, kernel, rule, gap, by, device)
    return by.found[key]


def _plan(kernel: SymbolKernel, effort: Effort) -> tuple[Rule | None, float]:
    """Which rule, and how far above the largest value."""
    each = _seconds_a_point(kernel)
    circle = kernel.frequencies * each if kernel.frequencies <= MAX_CELLS else math.inf
    costs = [(gap, _cells(kernel, gap) * each) for gap in GAPS] if kernel.first_cells <= MAX_CELLS else []
    # beyond that, a circle is not worth what it is tighter
    circle_is_best = circle <= min(FULL_EFFORT, 8 * max((cost for _, cost in costs), default=math.inf))
    if circle_is_best and circle <= effort.seconds:
        return Frequencies, CIRCLE_GAP
    plane = next((gap for gap, cost in costs if cost <= effort.seconds), None)
    if circle_is_best or (plane != GAPS[0] and any(cost <= FULL_EFFORT for _, cost in costs)):
        effort.limited = effort.limited or effort.seconds < FULL_EFFORT
    return (None, 0.0) if plane is None else (Symbol, plane)


def _proven(
    op: LinearOperator,
    conv: Lattice,
    kernel: SymbolKernel,
    rule: Rule,
    gap: float,
    by: Arithmetic,
    device: str,
) -> Found | None:
    """The first sigma above the largest value found that the kernel proves."""
    search = circle_maximum if rule is Frequencies else supremum
    found = search(kernel, by.tick, device=device)
    for attempt, factor in enumerate(_gaps(gap, again=rule is Symbol)):
        if attempt == 1 and rule is Symbol:
            found = max(found, supremum(kernel, by.tick, density=3, device=device))
        sigma = float(up(found * (1 + factor) + conv.deviation)) + 1e-300
        if proves_l2(op, rule(sigma), by):
            return sigma * MARGIN, rule(sigma * MARGIN)
    return None


def _gaps(gap: float, again: bool) -> Iterator[float]:
    """The gap, then larger ones: the search may have missed the largest value by a little."""
    yield gap
    if again:
        yield gap
    while gap < 0.05:
        gap = max(8 * gap, 1e-5)
        yield gap


def _seconds_a_point(kernel: SymbolKernel) -> float:
    """About how long the proof at one frequency of all groups takes."""
    groups, taps, m, n = kernel.taps.shape
    if m == 1:
        return groups * taps * n * 1e-8
    return groups * (1e-4 + 2e-8 * m * n + 2e-10 * m * m * n)


def _cells(kernel: SymbolKernel, gap: float) -> float:
    """About how many cells a proof looks at, as seen for normal weights of 3 x 3: 1,500 at 1e-4."""
    return max(1.0, kernel.first_cells / 32) * 1500 * math.sqrt(1e-4 / gap) if kernel.extents else 1.0
