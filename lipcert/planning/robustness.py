"""Robust accuracy: radii from the constants of margins, proofs for single balls, and attacks from the other side."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.claim import Attack, BallClaim, Equilibrium, RobustnessClaim, SampleClaim
from lipcert.certificate.robustness import (
    ROOM,
    Classifier,
    attacks_hold,
    margins_of,
    misclassified,
    outputs_at,
    radii_of,
    radius_in,
    room_of,
    verify_robustness,
)
from lipcert.errors import InconclusiveError, NotProvedError, UnsupportedModelError, UsageError
from lipcert.methods.boxes import is_implicit
from lipcert.methods.implicit import equilibria_at, with_equilibria
from lipcert.methods.lower.directions import outputs_at as values_at
from lipcert.planning.around import Target, prove_balls
from lipcert.planning.margins import Constants, Pair, improve, nothing_known
from lipcert.planning.solve import DEFAULT_TIMEOUT, check_timeout
from lipcert.problem import AllOutputs, Norm, Problem

LOCAL_SECONDS = 10.0
"""For the balls of one sample."""

TOGETHER, MOST_TOGETHER = 128, 1024
"""Samples that are attacked at a time: the most where they take few multiplications ..."""

FEW_MULTIPLICATIONS = 10_000_000
"""... all together; an interrupt costs what was begun."""

TOGETHER_LOCAL = 32
"""Samples whose slopes are searched at a time."""


@dataclass(frozen=True)
class Asked:
    """What is asked of the samples, and how hard to try."""

    norm: Norm
    eps: tuple[float, ...]
    """Increasing."""

    output: str = ""
    local: bool = False
    timeout: float = DEFAULT_TIMEOUT
    local_seconds: float = LOCAL_SECONDS
    device: str = "auto"
    steps: int = 40
    restarts: int = 10

    def __post_init__(self) -> None:
        if not self.eps:
            raise UsageError("--eps: no radius is given", hint="for example --eps 0.1,0.25")
        for eps in self.eps:
            if not 0 < eps < np.inf:
                raise UsageError(f"--eps: {eps} is not a radius", hint="use finite numbers > 0")
        if list(self.eps) != sorted(set(self.eps)):
            raise UsageError("--eps: the radii do not increase", hint="for example --eps 0.1,0.25")
        check_timeout(self.timeout)
        if not self.local_seconds >= 0:
            raise UsageError(f"--local-timeout: {self.local_seconds} is not a number of seconds", hint="use 0 or more")
        if self.steps < 1 or self.restarts < 1:
            raise UsageError("--attack-steps and --restarts are at least 1")


@dataclass
class RobustnessOutcome:
    """Samples that are done, by their place in the data, and what their radii rest on; anytime."""

    constants: Constants
    asked: int
    """How many samples there are in all."""

    samples: dict[int, SampleClaim] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False
    timed_out: bool = False

    def claim(self) -> RobustnessClaim:
        margins = tuple(self.constants.margins[pair] for pair in sorted(self.constants.margins))
        return RobustnessClaim(self.constants.shared, margins, tuple(self.samples[k] for k in sorted(self.samples)))


@dataclass(frozen=True)
class Resumed:
    """Where an earlier run ended: what it had proven, and what it had tried for each pair, with the method it kept."""

    claim: RobustnessClaim
    tried: Mapping[Pair, int]
    methods: Mapping[Pair, str]


@np.errstate(all="ignore")  # overflow proves nothing
def solve_robustness(
    classifier: Classifier,
    points: np.ndarray,
    labels: np.ndarray,
    first: int,
    asked: Asked,
    *,
    resume: Resumed | None = None,
    on_step: Callable[[str, RobustnessOutcome], None] = lambda what, outcome: None,
    save: Callable[[RobustnessOutcome], None] = lambda outcome: None,
) -> RobustnessOutcome:
    """Radii for points (samples, inputs) with these labels, of which `first` is the row of the first in its file.

    Raises UnsupportedModelError where margins are not Lipschitz and balls are not asked for; InconclusiveError where an
    output is not enclosed at a sample. A KeyboardInterrupt ends the run with the samples that are done.
    """
    started = time.monotonic()
    outcome = RobustnessOutcome(nothing_known(classifier), len(points))
    samples = _evaluated(classifier, points, labels, first)
    if resume is not None:
        _resumed(outcome, resume, samples)
    try:
        _bound_margins(outcome, samples, asked, started + asked.timeout, on_step, save)
        left = [k for k in range(len(points)) if k not in outcome.samples]
        together = TOGETHER_LOCAL if asked.local else _attacked_together(samples.problem)
        for i in range(0, len(left), together):
            for done in _certified(outcome, samples, left[i : i + together], asked):
                outcome.samples |= done
                on_step("samples", outcome)
                save(outcome)
    except KeyboardInterrupt:
        outcome.interrupted = True
    outcome.seconds = time.monotonic() - started
    return outcome


@dataclass(frozen=True, eq=False)
class _Samples:
    """The data, and the outputs there."""

    problem: Problem
    points: np.ndarray
    labels: np.ndarray
    first: int
    equilibria: list[tuple[Equilibrium, ...]]
    predicted: np.ndarray
    margins: np.ndarray
    """(samples, outputs) of what the predicted class is above the others, at least."""

    means: np.ndarray
    """(outputs + 1, inputs) of the samples of each label, where there are any, and of all."""

    wrong: np.ndarray
    """(samples,) whether the label is proven not to be above all others."""


def _evaluated(classifier: Classifier, points: np.ndarray, labels: np.ndarray, first: int) -> _Samples:
    by, problem = Arithmetic(), classifier.posed(AllOutputs())
    try:
        if is_implicit(problem):
            problem = with_equilibria(problem, by)
        there = equilibria_at(problem, points, by)
        low, high = outputs_at(problem, points, there, by)
    except NotProvedError as reason:
        raise InconclusiveError(f"the outputs at the samples are not enclosed: {reason.message}") from None
    predicted, room = (low / 2 + high / 2).argmax(axis=1), room_of((low, high))
    margins = margins_of((low, high), predicted) - room
    open_labels = (predicted == labels) & np.any(margins <= 0, axis=1)  # ties, for which the nearest class is as good
    predicted = np.where(open_labels, margins.argmin(axis=1), predicted)
    margins = margins_of((low, high), predicted) - room
    means = np.tile(points.mean(axis=0), (problem.size_out + 1, 1))
    for label in np.unique(labels):
        means[label] = points[labels == label].mean(axis=0)
    wrong = misclassified((low - room, high), labels)
    return _Samples(problem, points, labels, first, there, predicted, margins, means, wrong)


def _resumed(outcome: RobustnessOutcome, resume: Resumed, samples: _Samples) -> None:
    """What an earlier run had proven, proven again; UsageError where it is not."""
    found, claim = outcome.constants, resume.claim
    places = [sample.index - samples.first for sample in claim.samples]
    damaged = UsageError("--checkpoint: its samples are not those of the data", hint="remove it")
    if any(not 0 <= k < len(samples.points) for k in places):
        raise damaged
    if any(sample.label != samples.labels[k] for k, sample in zip(places, claim.samples, strict=True)):
        raise damaged
    try:
        found.values = verify_robustness(found.classifier, samples.points[places], claim)
    except NotProvedError as reason:
        raise UsageError(f"--checkpoint: it is damaged: {reason.message}", hint="remove it") from None
    found.shared = claim.shared
    found.margins = {(m.first, m.second): m for m in claim.margins}
    found.tried, found.methods = dict(resume.tried), {pair: resume.methods.get(pair, "") for pair in found.margins}
    outcome.samples = dict(zip(places, claim.samples, strict=True))


def _bound_margins(
    outcome: RobustnessOutcome,
    samples: _Samples,
    asked: Asked,
    deadline: float,
    on_step: Callable[[str, RobustnessOutcome], None],
    save: Callable[[RobustnessOutcome], None],
) -> None:
    sure = (samples.predicted == samples.labels) & np.all(samples.margins > 0, axis=1)
    if not sure.any():
        return
    try:
        improve(
            outcome.constants,
            samples.margins[sure],
            samples.predicted[sure],
            deadline,
            asked.device,
            lambda what: on_step(what, outcome),
            lambda: save(outcome),
        )
    except UnsupportedModelError as reason:
        if not asked.local:
            raise UnsupportedModelError(
                f"margins have no Lipschitz constant everywhere: {reason.message}", hint="try --local"
            ) from None
        outcome.notes.append(f"no constants everywhere: {reason.message}")
    outcome.timed_out = time.monotonic() > deadline


def _certified(
    outcome: RobustnessOutcome, samples: _Samples, chosen: Sequence[int], asked: Asked
) -> Iterator[dict[int, SampleClaim]]:
    """The samples of these places: attacked, then proven where no attack was found; those that take long one by one."""
    classifier = outcome.constants.classifier
    classes = samples.predicted[chosen]
    radii = radii_of(samples.margins[chosen], outcome.constants.values[classes])
    attacks = _attacked(classifier, samples, chosen, radii, asked)
    known = {k: (radius, found) for k, radius, found in zip(chosen, radii.tolist(), attacks, strict=True)}
    wanted = {k: _wanted(samples, k, *known[k], asked) for k in chosen} if asked.local else {}
    going = [k for k in chosen if wanted.get(k)]
    yield {k: _sample(samples, k, known[k][0], (), known[k][1]) for k in chosen if k not in going}
    targets = [Target(samples.points[k], int(samples.predicted[k]), samples.margins[k], wanted[k]) for k in going]
    for k, around in zip(going, prove_balls(classifier, targets, asked.local_seconds, asked.device), strict=True):
        radius, found = known[k]
        if around.counterexample is not None:
            eps, point = around.counterexample
            found = tuple(_confirmed(classifier, samples, np.array([k]), eps, point[None]).values()) or found
        yield {k: _sample(samples, k, radius, around.balls, found)}


def _attacked_together(problem: Problem) -> int:
    return min(MOST_TOGETHER, max(TOGETHER, FEW_MULTIPLICATIONS // max(1, problem.graph.work)))


def _wanted(samples: _Samples, k: int, radius: float, attacks: tuple[Attack, ...], asked: Asked) -> tuple[float, ...]:
    """The radii between what is proven and what is attacked; none where the class is not the label."""
    if samples.predicted[k] != samples.labels[k] or not np.all(samples.margins[k] > 0):
        return ()
    most = attacks[0].eps if attacks else np.inf
    return tuple(eps for eps in asked.eps if radius < eps < most)


def _sample(
    samples: _Samples, k: int, radius: float, balls: tuple[BallClaim, ...], attacks: tuple[Attack, ...]
) -> SampleClaim:
    predicted, label = int(samples.predicted[k]), int(samples.labels[k])
    radius = max([radius, *(radius_in(ball, predicted, samples.margins[k]) for ball in balls)])
    if predicted == label and attacks and attacks[0].eps <= radius:
        # each was proven by itself: one of the two proofs is wrong, and no number may leave
        raise RuntimeError(f"sample {samples.first + k} is proven in {radius!r}, and attacked in {attacks[0].eps!r}")
    return SampleClaim(samples.first + k, label, predicted, radius, balls, attacks, samples.equilibria[k])


def _attacked(
    classifier: Classifier, samples: _Samples, chosen: Sequence[int], radii: np.ndarray, asked: Asked
) -> list[tuple[Attack, ...]]:
    """For each sample the attack in the smallest ball in which one is proven: of radius 0 if it is misclassified.

    `radii` (chosen,) are proven already: there a single start is enough, which would show that a proof is wrong.
    """
    import torch

    from lipcert.methods.device import choose_device, idle_threads
    from lipcert.methods.lower.attack import Effort, find_attacks
    from lipcert.methods.lower.torch_network import TorchNetwork

    network = TorchNetwork(samples.problem, choose_device(asked.device), torch.float32)
    proven = dict(zip(chosen, radii.tolist(), strict=True))
    wrong = [k for k in chosen if samples.wrong[k]]
    found = {k: Attack(0.0, samples.points[k], samples.equilibria[k]) for k in wrong}
    for eps in asked.eps:
        left = [k for k in chosen if k not in found]
        for some, restarts in (
            ([k for k in left if proven[k] >= eps], 1),
            ([k for k in left if proven[k] < eps], asked.restarts),
        ):
            effort, at = Effort(asked.steps, restarts), np.array(some, dtype=int)
            with idle_threads():
                near = find_attacks(network, samples.points[at], samples.labels[at], samples.means, eps, effort)
            found |= _confirmed(classifier, samples, at, eps, near)
    return [(found[k],) if k in found else () for k in chosen]


def _confirmed(
    classifier: Classifier, samples: _Samples, chosen: np.ndarray, eps: float, points: np.ndarray
) -> dict[int, Attack]:
    """The points that are proven to be attacks."""
    by = Arithmetic()
    values = values_at(samples.problem, points)
    own = values[np.arange(len(chosen)), samples.labels[chosen]]
    room = ROOM * np.abs(values).max(axis=1, initial=0.0)
    seen = np.any(values > (own + room)[:, None], axis=1)
    attacks: dict[int, Attack] = {}
    for k, point in zip(chosen[seen].tolist(), points[seen], strict=True):
        with suppress(NotProvedError):  # of an implicit layer whose solution at a point was not found
            attacks[k] = Attack(eps, point, equilibria_at(samples.problem, point[None], by)[0])
    at = np.array(list(attacks), dtype=int)
    holds = attacks_hold(classifier, samples.points[at], samples.labels[at], list(attacks.values()), by)
    return {k: attack for (k, attack), held in zip(attacks.items(), holds.tolist(), strict=True) if held}
