"""Claims over a region: the Jacobian's rows over the whole of it, then over its pieces."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace

import numpy as np

from lipcert.certificate.claim import Claim, Rows
from lipcert.certificate.derivative import PLANES, Gain
from lipcert.certificate.linear_bounds import in_ramps, whole_net
from lipcert.errors import NotProvedError
from lipcert.methods import propagation
from lipcert.methods.base import OutOfTime, Progress, Unsuitable
from lipcert.methods.boxes import ChosenNet, choose_net, in_pairs
from lipcert.methods.device import choose_device
from lipcert.methods.lipsdp import LipSdpMethod
from lipcert.methods.local.branch import ROOM, Search
from lipcert.methods.local.implicit import implicit_claims
from lipcert.methods.local.proofs import MAX_ROWS, ROUNDING, proven, whole
from lipcert.methods.local.scalings import Known, merged, of_rows, with_resumed, with_scalings
from lipcert.methods.local.steepest import Steepest
from lipcert.methods.product.method import deadline, for_lipsdp_only
from lipcert.methods.propagation import PieceBounds
from lipcert.problem import Everywhere, Problem

MULTIPLICATIONS_A_SECOND = 4e9
"""Of coefficients on their way back, in the kernel."""

TINY = 1e-100
"""Norms whose squares underflow, or overflow at its inverse, are not proven as norms of matrices."""

SHARE = 0.1
"""Of the time that is left, which planes for every entry of the Jacobian may take."""

MANY = 24
"""Open neurons beyond which LipSDP comes before branching: of fewer, branching ends soon."""

FEW = 8
"""The same for other norms of outputs, where the norm of a matrix and its radius is less tight."""

LIPSDP_SHARE = 0.3

UNASKED = 8.0
"""Seconds of branching where it is not asked for ..."""

UNASKED_SHARE = 0.3
"""... and no more than this part of what is left."""

PAIRS_SHARE = 0.3
"""Of the time that is left, in which the graph in pairs has to have its first bound."""

PAUSE = 10.0
"""Seconds of branching after which what is found is claimed, if the proof takes a small part of that."""

SMALL = 1e7
"""Multiplications for the planes of all entries of a row, up to which pieces have them: else cuts gain more."""


class LocalMethod:
    """The Clarke Jacobian over a region by linear bounds, and by branch and bound."""

    name = "local"

    def accepts(self, problem: Problem) -> str | None:
        if problem.equilibria:
            return None
        if isinstance(problem.query.region, Everywhere):
            return "it bounds networks over a region only"
        return for_lipsdp_only(problem)

    def claims(self, problem: Problem, progress: Progress) -> Iterator[Claim]:
        try:
            yield from implicit_claims(problem, progress) if problem.equilibria else _claims(problem, progress)
        except NotProvedError as reason:
            raise Unsuitable(reason.message) from None


@dataclass(frozen=True, eq=False)
class _Form:
    """The graph as it is, or with softmax and the like in pairs, and what planes prove of it at once."""

    problem: Problem
    progress: Progress
    plain: ChosenNet
    first: Claim


@dataclass(frozen=True, eq=False)
class _Begun:
    """What a form proves over the whole region."""

    problem: Problem
    progress: Progress
    chosen: ChosenNet
    bounds: PieceBounds
    found: _OverAll
    proven: float


def _claims(problem: Problem, progress: Progress) -> Iterator[Claim]:
    progress.arithmetic.tick = deadline(progress)
    forms: list[_Form] = []
    for form in _forms(problem, progress):
        forms.append(form)
        if form.plain.pairs:
            progress.notes.append("softmax and the like in pairs")
        yield form.first  # at once: the rest loads torch
    begun: list[_Begun] = []
    for form in forms:
        begun += yield from _over_whole(form)
    if begun:
        yield from _on_from(min(begun, key=lambda form: form.proven))


def _forms(problem: Problem, progress: Progress) -> Iterator[_Form]:
    """The one that an earlier run has branched in, or both."""
    by = progress.arithmetic
    left = progress.remaining()
    resumed = None if progress.resume is None else progress.resume.claim.pairs
    if not resumed:
        plain = ChosenNet(whole_net(problem, by), ())
        yield _Form(problem, progress, plain, proven(problem, (whole(problem, 1),), plain, by))
    if resumed is not False and (other := in_pairs(problem, by)) is not None:
        share = 1.0 if resumed else PAIRS_SHARE
        before, by.tick = by.tick, deadline(replace(progress, deadline=time.monotonic() + share * left))
        try:
            plain = ChosenNet(whole_net(other, by), (), pairs=True)
            first = proven(other, (whole(other, 1),), plain, by)
        except (NotProvedError, OutOfTime) as reason:
            why = reason.message if isinstance(reason, NotProvedError) else "that takes too long"
            progress.notes.append(f"not in pairs: {why}")
            return
        finally:
            by.tick = before
        yield _Form(other, replace(progress, slopes=None), plain, first)  # slopes are of the graph as it is


def _over_whole(form: _Form) -> Generator[Claim, None, list[_Begun]]:
    """The Jacobian's rows in one piece; nothing to go on from where they are zero."""
    problem, progress, plain, by = form.problem, form.progress, form.plain, form.progress.arithmetic
    chosen = replace(choose_net(problem, progress), pairs=plain.pairs)
    bounds = PieceBounds(problem, chosen.net, choose_device(progress.device), by)
    if bounds.rule.gradient is None:
        return []
    best = form.first.value
    found = _over_all(problem, bounds, 1)
    if chosen.net is not plain.net or found.parts[0].spectral:
        claim = proven(problem, found.parts, chosen, by)
        best = min(best, claim.value)
        yield claim
    for steps in _finer(problem, bounds, found, progress):
        finer = _over_all(problem, bounds, steps)
        if finer.value < found.value * (1 - ROUNDING):
            found = finer
            claim = proven(problem, found.parts, chosen, by)
            best = min(best, claim.value)
            yield claim
    return [_Begun(problem, progress, chosen, bounds, found, best)]


def _on_from(begun: _Begun) -> Iterator[Claim]:
    """LipSDP by rows, and pieces."""
    problem, progress, chosen, bounds, found = begun.problem, begun.progress, begun.chosen, begun.bounds, begun.found
    by = progress.arithmetic
    known: Known = ()
    if problem.query.norm_out == math.inf and problem.query.norm_in != 1 and problem.size_out <= MAX_ROWS:
        known = of_rows(bounds.norms_of_rows(found.rows, problem.query.norm_in)[0], found.steps)
        if progress.resume is not None:
            known = with_resumed(problem, chosen, known, progress.resume.claim, by)
        elif _open_neurons(chosen) > MANY:
            known = with_scalings(problem, chosen, known, progress)
            yield proven(problem, merged(known)[1], chosen, by)
            if progress.exact and isinstance(max(known, key=lambda pair: pair[0])[1], Rows):  # there was no time for it
                yield from _by_lipsdp(problem, chosen, progress)
    elif progress.exact and progress.resume is None and _open_neurons(chosen) > FEW:
        yield from _by_lipsdp(problem, chosen, progress)
    yield from _branched(problem, progress, chosen, bounds, known)


def _by_lipsdp(problem: Problem, chosen: ChosenNet, progress: Progress) -> Iterator[Claim]:
    """Of all outputs at once, for a share of the time that is left."""
    by = progress.arithmetic
    share = replace(progress, deadline=progress.deadline - (1 - LIPSDP_SHARE) * progress.remaining())
    before = by.tick
    try:
        for claim in LipSdpMethod().claims(problem, share):
            yield replace(claim, pairs=chosen.pairs)
    except (OutOfTime, Unsuitable):
        return  # branching goes on from what is there
    finally:
        by.tick = before


def _every(problem: Problem) -> np.ndarray:
    return np.arange(problem.size_out)[None]


def _open_neurons(chosen: ChosenNet) -> int:
    return sum(int(np.count_nonzero(low < high)) for low, high in chosen.net.slopes.values())


def _finer(problem: Problem, bounds: PieceBounds, found: _OverAll, progress: Progress) -> Iterator[int]:
    """Steps that may gain something, and take a share of the time that is left at most."""
    low, high = found.rows.entries()
    norm_in, rule = problem.query.norm_in, bounds.rule
    entries = int((((low < 0) & (high > 0)) if norm_in == math.inf else low < high).sum())
    level = 2 if norm_in == math.inf else 3
    graph = bounds.posed.graph
    bent = sum(graph.size(n.at) for _, n in rule.steps if isinstance(n, Gain) and rule.moves_with(n) is not None)
    work = _work(problem, progress) / MULTIPLICATIONS_A_SECOND
    for steps, count in ((1 + PLANES, bent), (level, entries), (level + PLANES, bent and bent + entries)):
        if count and 2.0 * count * work < SHARE * progress.remaining():
            yield steps


def _work(problem: Problem, progress: Progress) -> float:
    """Multiplications of one pass through the network."""
    return float(in_ramps(problem, progress.arithmetic).graph.work)


@dataclass(frozen=True, eq=False)
class _OverAll:
    """The rows over the whole region, about what they prove, and the evidence."""

    rows: propagation.Rows
    steps: int
    value: float
    parts: tuple[Rows, ...]


def _over_all(problem: Problem, bounds: PieceBounds, steps: int) -> _OverAll:
    query = problem.query
    rows = bounds.rows(bounds.whole, _every(problem), steps)
    value = float(bounds.norms(rows, query.norm_in, query.norm_out)[0])
    spectral = query.norm_in == query.norm_out == 2 and TINY < value < 1 / TINY
    return _OverAll(rows, steps, value, (whole(problem, steps, value * ROOM if spectral else 0.0),))


def _branched(
    problem: Problem, progress: Progress, chosen: ChosenNet, bounds: PieceBounds, known: Known
) -> Iterator[Claim]:
    by = progress.arithmetic
    steepest = Steepest(problem, progress)
    if not math.isfinite(steepest.best):
        return
    single = bool(known) or (problem.query.norm_out == math.inf and problem.size_out <= MAX_ROWS)
    groups = tuple((j,) for j in range(problem.size_out)) if single else (tuple(range(problem.size_out)),)
    steps = _branched_steps(problem, progress) + (PLANES if bounds.rule.bends else 0)
    search = Search(bounds, groups, steps, known, steepest.look)
    by.tick = tick = deadline(progress)
    limit = progress.remaining() if progress.exact else min(UNASKED, UNASKED_SHARE * progress.remaining())
    began = paused = time.monotonic()
    stop: BaseException | None = None
    search.start()
    said = search.bound
    if progress.resume is not None:
        by.tick = lambda: None  # half of the trees would be worth nothing
        search.resume(progress.resume.trees)
    while True:
        by.tick = tick
        proof = search.proof_seconds
        now = time.monotonic()
        if now - began > limit or progress.remaining() < 1.5 * proof + 0.2:
            if now - began <= limit and not search.proven and search.bound < said:
                said = search.bound  # it may take less than it seems: then there is time left
                yield from _from_search(problem, search, chosen, progress)
                continue
            stop = OutOfTime() if progress.exact else None
            break
        try:
            target = max(steepest.best, progress.attained()) * max(1.0, progress.gap * (1 - ROUNDING))
            if not search.step(target):
                if search.bound > target:
                    progress.notes.append("nothing is left that could be cut")
                break
        except (OutOfTime, KeyboardInterrupt) as ended:
            stop = ended
            break
        if now - paused > PAUSE:
            paused = now
            progress.save(search.trees())
            steepest.say()  # the planner may stop here
            if 8 * proof < now - began and search.bound < said * 0.99:
                said = search.bound
                yield from _from_search(problem, search, chosen, progress)
    progress.save(search.trees())
    steepest.say()
    if search.bound < said:
        progress.notes.append(f"{search.evaluated} pieces")
        yield from _from_search(problem, search, chosen, progress)
    if stop is not None:
        raise stop


def _from_search(problem: Problem, search: Search, chosen: ChosenNet, progress: Progress) -> Iterator[Claim]:
    """What the kernel makes of the trees; nothing where it refuses one of them."""
    by = progress.arithmetic
    before, by.tick = by.tick, lambda: None  # half of a proof is worth nothing
    began = time.monotonic()
    try:
        claim = proven(problem, search.evidence(), chosen, by)
    except NotProvedError as reason:
        progress.notes.append(f"the pieces are not proven: {reason.message}")
        return
    finally:
        by.tick = before
    search.took(time.monotonic() - began)
    yield claim


def _branched_steps(problem: Problem, progress: Progress) -> int:
    return 2 if 2.0 * _work(problem, progress) * problem.size_in < SMALL else 1
