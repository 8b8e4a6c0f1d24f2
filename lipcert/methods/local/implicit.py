"""Claims over a region about networks with implicit layers: the kernel alone follows fixed points, without a device."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import numpy as np

from lipcert.certificate.claim import Claim, Rows
from lipcert.certificate.derivative import bound_rows, chain_rule, norm_bounds
from lipcert.certificate.linear_bounds import Bounded, in_ramps, whole_net
from lipcert.certificate.pieces import rows_bound
from lipcert.graph import State
from lipcert.methods.base import Progress
from lipcert.methods.boxes import ChosenNet
from lipcert.methods.local.branch import FEW_INPUTS
from lipcert.methods.local.inputs import BATCH, InputSearch, few_inputs
from lipcert.methods.local.proofs import MAX_ROWS, ROUNDING, proven, whole
from lipcert.methods.local.scalings import WHOLE, merged, of_rows, with_scalings
from lipcert.methods.local.steepest import Steepest
from lipcert.methods.product.method import deadline
from lipcert.problem import Problem

MANY_STATES = 100
"""Neurons of implicit layers beyond which LipSDP has no time for all outputs, but for the steepest."""

LIPSDP_SHARE = 0.3
"""Of the time that is left, which is kept for the methods after this one."""


def implicit_claims(problem: Problem, progress: Progress) -> Iterator[Claim]:
    """The same without a search on a device: the kernel alone follows fixed points."""
    by = progress.arithmetic
    ask, by.tick = deadline(progress), lambda: None  # the first claim comes whatever the budget
    chosen = ChosenNet(whole_net(problem, by), ())
    best, finest = math.inf, 0
    for steps in (0, 1, 3):
        claim = proven(problem, (whole(problem, steps),), chosen, by)
        if claim.value < best:
            best, finest = claim.value, steps
            yield claim
        by.tick = ask
    neurons = sum(problem.graph.size(i) for i, node in enumerate(problem.graph.nodes) if isinstance(node, State))
    several = problem.query.norm_out == math.inf and problem.query.norm_in != 1 and problem.size_out <= MAX_ROWS
    if several and neurons > MANY_STATES:
        every = [rows_bound(problem, Rows((j,), WHOLE, finest, 0.0), chosen.net, by) for j in range(problem.size_out)]
        known = with_scalings(problem, chosen, of_rows(np.array(every), finest), progress)
        yield proven(problem, merged(known)[1], chosen, by)
    if not progress.exact:
        return
    if few_inputs(problem):
        yield from _halved(problem, progress, chosen)
    else:
        progress.notes.append(f"fixed points are branched over for {FEW_INPUTS} inputs at most")


def _halved(problem: Problem, progress: Progress, chosen: ChosenNet) -> Iterator[Claim]:
    """Over pieces of the inputs."""
    by, query = progress.arithmetic, problem.query
    posed = in_ramps(problem, by)
    rule, outputs = chain_rule(posed, by), tuple(range(problem.size_out))
    if rule.gradient is None:
        return

    def measure(bounded: Bounded) -> np.ndarray:
        rows = bound_rows(posed, rule, bounded.net, np.tile(outputs, (len(bounded.empty), 1)), 1, by)
        return norm_bounds(rows, query.norm_in, query.norm_out, by)

    steepest = Steepest(problem, progress)
    by.tick = lambda: None  # half of a proof is worth nothing
    search = InputSearch(problem, chosen.net, by, measure, steepest.look)
    until = progress.deadline - LIPSDP_SHARE * progress.remaining()
    while until - time.monotonic() > 1.5 * (search.leaves + 2 * BATCH) * search.seconds_a_piece:
        if not search.step(max(steepest.best, progress.attained()) * max(1.0, progress.gap * (1 - ROUNDING))):
            break
    steepest.say()
    progress.notes.append(f"{search.leaves} pieces")
    yield proven(problem, (Rows(outputs, search.tree(), 1, 0.0),), chosen, by)
