"""Proofs for one sample's ball: linear bounds of its margins, then Lipschitz constants of those that stay open."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.claim import BallClaim, MarginClaim, Slopes
from lipcert.certificate.robustness import Classifier, radius_in
from lipcert.errors import NotProvedError, UnsupportedModelError
from lipcert.methods import Progress
from lipcert.methods.boxes import find_slopes, is_implicit
from lipcert.planning.reach import quick_box
from lipcert.planning.solve import solve
from lipcert.problem import Ball, Margin, Margins, Problem

MOST_OPEN = 3
"""Margins of a sample that are bounded by a constant each: where more are open, some are hopeless."""


@dataclass(frozen=True, eq=False)
class Target:
    """A sample: its point, its class, what that is above the others, and for which radii it is to be proven."""

    point: np.ndarray
    predicted: int
    margins: np.ndarray
    radii: tuple[float, ...]


def prove_balls(
    classifier: Classifier, targets: Sequence[Target], seconds: float, device: str
) -> Iterator[tuple[BallClaim, ...]]:
    """For each target what is proven of its balls, smaller ones first; `seconds` for each, at most.

    Slopes of linear bounds are searched for over all targets of a class at a time.
    """
    found: list[list[BallClaim]] = [[] for _ in targets]
    spent = [0.0] * len(targets)
    open_at = {k: 0 for k, target in enumerate(targets) if target.radii}
    going = list(open_at)
    while going:
        began = time.monotonic()
        balls = _by_boxes(classifier, [(targets[k], targets[k].radii[open_at[k]]) for k in going], seconds, device)
        each = (time.monotonic() - began) / len(going)
        still = []
        for k, ball in zip(going, balls, strict=True):
            spent[k] += each
            if ball is not None:
                found[k].append(ball)
                if _holds(ball, targets[k]):
                    open_at[k] += 1
                    if open_at[k] < len(targets[k].radii) and spent[k] < seconds:
                        still.append(k)
        going = still
    for k, target in enumerate(targets):
        if found[k] and not _holds(found[k][-1], target):
            ball = _by_constants(classifier, target, found[k].pop(), seconds - spent[k], device)
            if radius_in(ball, target.predicted, target.margins) > 0:
                found[k].append(ball)
        yield tuple(found[k])


def _holds(ball: BallClaim, target: Target) -> bool:
    return radius_in(ball, target.predicted, target.margins) >= ball.eps


def _by_boxes(
    classifier: Classifier, asked: Sequence[tuple[Target, float]], seconds: float, device: str
) -> list[BallClaim | None]:
    """By plain linear bounds; where these do not do, with slopes that are searched for."""
    posed = {t.predicted: classifier.posed(Margins(t.predicted)) for t, _ in asked}
    problems = [_over(posed[t.predicted], Ball(t.point, eps, classifier.norm)) for t, eps in asked]
    balls = [_ball(p, eps, (), seconds, device) for p, (_, eps) in zip(problems, asked, strict=True)]
    for predicted in posed:
        again = [
            k
            for k, (t, _) in enumerate(asked)
            if t.predicted == predicted and (ball := balls[k]) is not None and not _holds(ball, t)
        ]
        some = [problems[k] for k in again]
        for k, slopes in zip(again, _slopes(some, device), strict=True):
            better = _ball(problems[k], asked[k][1], slopes, seconds, device) if slopes else None
            balls[k] = better or balls[k]
    return balls


def _slopes(problems: list[Problem], device: str) -> Sequence[tuple[Slopes, ...]]:
    if not problems or is_implicit(problems[0]):
        return [()] * len(problems)
    try:
        return find_slopes(problems, device, Arithmetic())
    except NotProvedError:  # what the search cannot follow has none
        return [()] * len(problems)


def _ball(problem: Problem, eps: float, slopes: tuple[Slopes, ...], seconds: float, device: str) -> BallClaim | None:
    progress = Progress(time.monotonic() + seconds, device, slopes=slopes)
    try:
        return BallClaim(eps, quick_box(problem, progress))
    except NotProvedError:  # a network that is not bounded over the ball
        return None


def _by_constants(classifier: Classifier, target: Target, ball: BallClaim, seconds: float, device: str) -> BallClaim:
    """With Lipschitz constants over the ball of the margins that its box leaves open, if they are few."""
    others = np.delete(np.arange(len(target.margins)), target.predicted)
    left = others[~(ball.box.lower > 0)]
    if len(left) > MOST_OPEN:
        return ball
    deadline = time.monotonic() + seconds
    margins = []
    for j in left.tolist():
        problem = classifier.posed(Margin(target.predicted, j), Ball(target.point, ball.eps, classifier.norm))
        enough = 0.999 * float(target.margins[j]) / ball.eps
        remaining = max(0.0, deadline - time.monotonic())
        try:
            outcome = solve(problem, timeout=remaining, device=device, lower=False, enough=enough)
        except UnsupportedModelError:  # a margin that is not Lipschitz over the ball
            return ball
        if outcome.interrupted:
            raise KeyboardInterrupt
        if outcome.claim is not None:
            margins.append(MarginClaim(target.predicted, j, outcome.claim))
    return replace(ball, margins=tuple(margins))


def _over(problem: Problem, ball: Ball) -> Problem:
    return replace(problem, query=replace(problem.query, region=ball))
