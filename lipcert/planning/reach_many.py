"""Boxes over many regions: quick ones of all, many at a time, then tighter ones, row after row, while there is time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lipcert.arithmetic.threads import idle_cores
from lipcert.certificate import BoxClaim, verify_box, verify_boxes
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.claim import Equilibrium, Slopes
from lipcert.certificate.linear_bounds import boxes_of
from lipcert.errors import NotProvedError
from lipcert.methods import OutOfTime, Progress
from lipcert.methods.boxes import choose_net, find_slopes, is_implicit
from lipcert.methods.device import choose_device
from lipcert.methods.implicit import with_equilibria, with_many_equilibria
from lipcert.planning.reach import choose_form, roomy
from lipcert.planning.solve import DEFAULT_TIMEOUT, check_timeout
from lipcert.problem import Problem, Region, rows_of, together

ENTRIES = 2**18
"""Of a node's boxes at a time: what fits into a cache."""

SEARCHED = 32
"""Times as many rows are searched for at a time on a GPU."""

TOGETHER = 32
"""Regions for which slopes are searched at a time."""


@dataclass(frozen=True, eq=False)
class ManyBoxes:
    """A verified claim for each region, with infinite ends where nothing is proven of its implicit layers."""

    claims: Sequence[BoxClaim]
    seconds: float


@np.errstate(all="ignore")  # overflow ends in infinite ends
def solve_reach_many(
    problem: Problem,
    regions: Sequence[Region],
    *,
    timeout: float | None = None,
    device: str = "auto",
    on_row: Callable[[int], None] = lambda row: None,
) -> ManyBoxes:
    """Bound every output over each region; `timeout` (default 60 s) is for all of them.

    The quick boxes are not cut short. `on_row` is told how many rows are as tight as they get. Implicit layers are
    searched for on a GPU where `device` names one: looking for it loads torch, which takes as long as the search.
    """
    check_timeout(timeout)
    began = time.monotonic()
    by = Arithmetic()
    claims: list[BoxClaim] = []
    where = None if device in ("auto", "cpu") or not is_implicit(problem) else choose_device(device)
    rows = max(1, ENTRIES // max(problem.graph.size(i) for i in range(len(problem.graph.nodes))))
    searched = rows if where is None else SEARCHED * rows
    for i in range(0, len(regions), searched):
        some = regions[i : i + searched]
        try:
            with idle_cores():
                found = with_many_equilibria(_over(problem, together(some)), by, where).equilibria
                quick: list[BoxClaim] = []
                for k in range(0, len(some), rows):
                    part = slice(k, k + rows)
                    quick += _quick(_over(problem, together(some[part])), _rows_of(found, part), by)
            claims += quick
        except NotProvedError:  # of some row, or in a way that is not for many
            claims += [_alone(_over(problem, region), by) for region in some]
    deadline = began + (DEFAULT_TIMEOUT if timeout is None else timeout)
    for i in range(0, len(regions), TOGETHER):
        _tighten(problem, regions[i : i + TOGETHER], claims, i, deadline, device, on_row)
    return ManyBoxes(claims, time.monotonic() - began)


def _tighten(
    problem: Problem,
    regions: Sequence[Region],
    claims: list[BoxClaim],
    first: int,
    deadline: float,
    device: str,
    on_row: Callable[[int], None],
) -> None:
    """Replace the claims of these rows by tighter ones, until the deadline."""
    longest, by = 0.0, Arithmetic()  # which remembers all that it proves
    slopes = _slopes([_over(problem, region) for region in regions], deadline, device)
    for i, region in enumerate(regions, start=first):
        now = time.monotonic()
        if deadline - now <= longest:
            return
        progress = Progress(deadline, arithmetic=by, slopes=slopes[i - first])
        claims[i] = _tighter(_over(problem, region), claims[i], progress)
        on_row(i + 1)
        longest = max(longest, time.monotonic() - now)


def _slopes(problems: Sequence[Problem], deadline: float, device: str) -> Sequence[tuple[Slopes, ...]]:
    """Of the lines of explicit networks; none where there is no time."""

    def tick() -> None:
        if time.monotonic() > deadline:
            raise OutOfTime

    by = Arithmetic()
    by.tick = tick
    try:
        tick()
        return [()] * len(problems) if is_implicit(problems[0]) else find_slopes(problems, device, by)
    except (NotProvedError, OutOfTime):
        return [()] * len(problems)


def _over(problem: Problem, region: Region) -> Problem:
    return replace(problem, query=replace(problem.query, region=region))


def _quick(problem: Problem, found: tuple[Equilibrium, ...], by: Arithmetic) -> list[BoxClaim]:
    """By intervals over Balls or Boxes; NotProvedError where a row has no box."""
    endless = np.full((*rows_of(problem.query.region), problem.size_out), np.inf)
    low, high = roomy(verify_boxes(problem, BoxClaim(-endless, endless, False, equilibria=found), by))
    return [BoxClaim(low[k], high[k], False, equilibria=_rows_of(found, k)) for k in range(len(low))]


def _rows_of(found: tuple[Equilibrium, ...], which: int | slice) -> tuple[Equilibrium, ...]:
    return tuple(replace(e, lower=e.lower[which], upper=e.upper[which]) for e in found)


def _alone(problem: Problem, by: Arithmetic) -> BoxClaim:
    """The same of one region; with infinite ends where nothing is proven."""
    endless = np.full(problem.size_out, np.inf)
    nothing = BoxClaim(-endless, endless, False)
    try:
        claim = replace(nothing, equilibria=with_equilibria(problem, by).equilibria)
        low, high = roomy(verify_box(problem, claim, by))
    except NotProvedError:
        return nothing
    return replace(claim, lower=low, upper=high)


def _tighter(problem: Problem, claim: BoxClaim, progress: Progress) -> BoxClaim:
    """By linear bounds, where these prove something narrower."""
    if is_implicit(problem) and not claim.equilibria:
        return claim
    problem = replace(problem, equilibria=claim.equilibria)
    try:
        if is_implicit(problem):  # intervals are known, and take as long
            net = choose_net(problem, progress)
            box, found = boxes_of(problem, net.net, progress.arithmetic)[problem.y], replace(claim, linear=True)
        else:
            chosen, posed = choose_form(problem, progress)
            pairs = posed is not problem
            box, found = chosen.boxes[posed.y], replace(claim, linear=chosen.linear, slopes=chosen.slopes, pairs=pairs)
        low, high = roomy(box)
        found = replace(found, lower=low, upper=high)
        verify_box(problem, found, progress.arithmetic)
    except NotProvedError:  # numbers that overflow
        return claim
    return found if (found.upper - found.lower).sum() < (claim.upper - claim.lower).sum() else claim
