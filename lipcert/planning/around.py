"""Proofs for one sample's ball: linear bounds of its margins, branch and bound, Lipschitz constants of what is open."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.claim import BallClaim, MarginClaim, Slopes
from lipcert.certificate.robustness import Classifier, radius_in
from lipcert.errors import NotProvedError, UnsupportedModelError
from lipcert.methods import OutOfTime, Progress
from lipcert.methods.boxes import find_slopes, is_implicit
from lipcert.planning.reach import positive_box, quick_box
from lipcert.planning.solve import solve
from lipcert.problem import Ball, Margin, Margins, Problem

SHARE = 0.25
"""Of the time that is left, for constants after branching."""

MOST_OPEN = 3
"""Margins of a sample that are bounded by a constant each: where more are open, some are hopeless."""


@dataclass(frozen=True, eq=False)
class Target:
    """A sample: its point, its class, what that is above the others, and for which radii it is to be proven."""

    point: np.ndarray
    predicted: int
    margins: np.ndarray
    radii: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Around:
    """The ball that proves the largest radius, if any does; a radius, and a point in its ball of another class."""

    balls: tuple[BallClaim, ...]
    counterexample: tuple[float, np.ndarray] | None = None


def _around(target: Target, found: list[BallClaim], counterexample: tuple[float, np.ndarray] | None = None) -> Around:
    radii = [radius_in(ball, target.predicted, target.margins) for ball in found]
    best = int(np.argmax(radii)) if any(radii) else len(found)
    return Around(tuple(found[best : best + 1]), counterexample)


def prove_balls(classifier: Classifier, targets: Sequence[Target], seconds: float, device: str) -> Iterator[Around]:
    """For each target what is found out about its balls; `seconds` for each, about.

    Slopes of linear bounds are searched for over all targets of a class at a time.
    """
    found: list[list[BallClaim]] = [[] for _ in targets]
    spent = [0.0] * len(targets)
    going = [k for k, target in enumerate(targets) if target.radii]
    while going:
        began = time.monotonic()
        balls = _by_boxes(classifier, [(targets[k], targets[k].radii[len(found[k])]) for k in going], seconds, device)
        each = (time.monotonic() - began) / len(going)
        still = []
        for k, ball in zip(going, balls, strict=True):
            spent[k] += each
            found[k] += [] if ball is None else [ball]
            held = ball is not None and _holds(ball, targets[k])
            if held and len(found[k]) < len(targets[k].radii) and spent[k] < seconds:
                still.append(k)
        going = still
    for k, target in enumerate(targets):
        yield _finished(classifier, target, found[k], time.monotonic() + seconds - spent[k], device)


def _finished(classifier: Classifier, target: Target, found: list[BallClaim], deadline: float, device: str) -> Around:
    """Where boxes did not do: branching, ball after ball; at last what constants say of the ball that stays open."""
    while found and not _holds(found[-1], target):
        ball = found.pop()
        seconds = (1 - SHARE) * (deadline - time.monotonic())
        better, point = _by_branching(classifier, target, ball, seconds, device)
        if point is not None:
            return _around(target, found, (ball.eps, point))
        if better is None:
            return _around(target, [*found, _by_constants(classifier, target, ball, deadline, device)])
        found.append(better)
        if len(found) < len(target.radii) and time.monotonic() < deadline:
            eps = target.radii[len(found)]
            (next_ball,) = _by_boxes(classifier, [(target, eps)], deadline - time.monotonic(), device)
            found += [] if next_ball is None else [next_ball]
    return _around(target, found)


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
        for k, slopes in zip(again, _slopes(some, seconds, device), strict=True):
            better = _ball(problems[k], asked[k][1], slopes, seconds, device) if slopes else None
            balls[k] = better or balls[k]
    return balls


def _slopes(problems: list[Problem], seconds: float, device: str) -> Sequence[tuple[Slopes, ...]]:
    """For each problem; none where there is no time for them, or nothing to search for."""
    nothing: list[tuple[Slopes, ...]] = [()] * len(problems)
    if not problems or is_implicit(problems[0]):
        return nothing
    by, deadline = Arithmetic(), time.monotonic() + seconds * len(problems)

    def tick() -> None:
        if time.monotonic() > deadline:
            raise OutOfTime

    by.tick = tick
    try:
        return find_slopes(problems, device, by)
    except (NotProvedError, OutOfTime):
        return nothing


def _ball(problem: Problem, eps: float, slopes: tuple[Slopes, ...], seconds: float, device: str) -> BallClaim | None:
    progress = Progress(time.monotonic() + seconds, device, slopes=slopes)
    try:
        return BallClaim(eps, quick_box(problem, progress))
    except NotProvedError:  # a network that is not bounded over the ball
        return None


def _by_constants(classifier: Classifier, target: Target, ball: BallClaim, deadline: float, device: str) -> BallClaim:
    """With Lipschitz constants over the ball of the margins that its box leaves open, if they are few."""
    others = np.delete(np.arange(len(target.margins)), target.predicted)
    left = others[~(ball.box.lower > 0)]
    if len(left) > MOST_OPEN:
        return ball
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


def _by_branching(
    classifier: Classifier, target: Target, ball: BallClaim, seconds: float, device: str
) -> tuple[BallClaim | None, np.ndarray | None]:
    """A ball whose margins are all above zero, or a point of it where one is seen not to be; None where neither is."""
    problem = classifier.posed(Margins(target.predicted), Ball(target.point, ball.eps, classifier.norm))
    progress = Progress(time.monotonic() + seconds, device, slopes=ball.box.slopes)
    try:
        box, point = positive_box(problem, np.delete(target.margins, target.predicted), progress)
    except (NotProvedError, OutOfTime):
        return None, None
    better = None if box is None else BallClaim(ball.eps, box)
    return (better if better is not None and _holds(better, target) else None), point


def _over(problem: Problem, ball: Ball) -> Problem:
    return replace(problem, query=replace(problem.query, region=ball))
