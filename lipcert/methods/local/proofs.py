"""Claims from evidence about rows of the Jacobian: what the kernel makes of it."""

from __future__ import annotations

from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.claim import Claim, Local, Rows, RowScaling
from lipcert.certificate.local import local_bound
from lipcert.methods.boxes import ChosenNet
from lipcert.methods.local.scalings import WHOLE
from lipcert.methods.product.method import SLACK, SPARE
from lipcert.problem import Problem

MAX_ROWS = 64
"""Outputs in l-infinity that are bounded each by itself."""

ROUNDING = 1e-7
"""By which the kernel's bounds may be above those of the search."""


def whole(problem: Problem, steps: int, spectral: float = 0.0) -> Rows:
    return Rows(tuple(range(problem.size_out)), WHOLE, steps, spectral)


def proven(problem: Problem, parts: tuple[Rows | RowScaling, ...], chosen: ChosenNet, by: Arithmetic) -> Claim:
    """What the kernel makes of the evidence, which it remembers; NotProvedError where it refuses it."""
    return _claim(local_bound(problem, Local(parts), chosen.net, by), parts, chosen)


def _claim(value: float, parts: tuple[Rows | RowScaling, ...], chosen: ChosenNet) -> Claim:
    return Claim(value * SLACK + SPARE, Local(parts), linear=True, slopes=chosen.slopes, pairs=chosen.pairs)
