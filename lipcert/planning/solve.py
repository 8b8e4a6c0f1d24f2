"""The anytime loop: claims from methods, each verified before it counts, and a witness beside the best one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from lipcert.arithmetic.threads import idle_cores
from lipcert.certificate import Claim, verify, verify_witness
from lipcert.certificate.claim import Rows, Slopes
from lipcert.errors import NotProvedError, UnsupportedModelError, UsageError
from lipcert.methods import Method, OutOfTime, Progress, Resumed, Unsuitable
from lipcert.methods.boxes import is_implicit
from lipcert.methods.gram import GramMethod
from lipcert.methods.implicit import with_equilibria
from lipcert.methods.lipsdp import LipSdpMethod
from lipcert.methods.local import LocalMethod
from lipcert.methods.mip import MipMethod
from lipcert.methods.product import ProductMethod
from lipcert.planning.obstacles import find_obstacle, hint
from lipcert.planning.outcome import Attempt, Outcome
from lipcert.problem import Everywhere, Problem

METHODS: dict[str, Callable[[], Method]] = {
    "product": ProductMethod,
    "local": LocalMethod,
    "lipsdp": LipSdpMethod,
    "gram": GramMethod,
    "mip": MipMethod,
}
"""Every backend by name."""

AUTO = ("product", "lipsdp")
"""What `auto` tries, cheapest first. Gram iteration is never below the proofs of the symbol that `product` has."""

AUTO_LOCAL = ("local", "lipsdp", "product")
"""The same over a region."""

TIGHT = 1.01
"""A gap at which a bound over a region is tight: nothing else is tried then."""

DEFAULT_TIMEOUT = 60.0

PATIENCE = 2.0
"""Seconds that finding the solutions of implicit layers may take, whatever the budget."""

LOWER_BOUND_AFTER = 1.0
"""Seconds of claims before the search for a lower bound begins."""

LOWER_VERIFYING = 1.0
"""Seconds after which no further witness is verified."""

LOWER_SLACK = 1 - 2.0**-33
"""Room in attained values for a checker whose sums run in another order."""


def solve(
    problem: Problem,
    *,
    method: str = "auto",
    timeout: float | None = None,
    gap: float | None = None,
    device: str = "auto",
    solver: str = "native",
    exact: bool = False,
    lower: bool = True,
    enough: float = 0.0,
    close: float = 1e-6,
    resume: Resumed | None = None,
    slopes: tuple[Slopes, ...] | None = None,
    on_step: Callable[[str, Outcome], None] = lambda what, outcome: None,
    save: Callable[[Outcome, tuple[Rows, ...]], None] = lambda outcome, trees: None,
) -> Outcome:
    """Bound the problem from above and below until the methods are done, the gap is reached or time is up.

    Raises UnsupportedModelError where a node is not Lipschitz over the region, as far as its box tells.
    `solver` finds the multipliers of LipSDP: native, clarabel, scs or mosek.
    `gap` stops early once upper / lower is at most this. `exact` branches over the region until it is (default 1.01).
    `enough` is an upper bound below which none is looked for; LipSDP ends at the relative duality gap `close`.
    `slopes` have been searched for over the region before (methods.boxes.find_slopes).
    `resume` is where an earlier run ended; `save` is told now and then, and at the end of branching, how far it is.
    A KeyboardInterrupt ends the run with what is verified so far.
    """
    check_timeout(timeout)
    if gap is not None and not gap >= 1:
        raise UsageError(f"--gap: {gap} is not a ratio of bounds", hint="use 1 or more")
    if solver != "native":
        from lipcert.methods.lipsdp.reference import check_solver

        check_solver(solver)
        if method not in ("auto", "lipsdp"):
            raise UsageError(f"--solver: the method {method} solves no program", hint="use --method lipsdp")
    local = not isinstance(problem.query.region, Everywhere)
    if exact and not local:
        raise UsageError("--exact branches over a region", hint="give --center and --eps, --box or --spec")
    if exact and method not in ("auto", "local"):
        raise UsageError(f"--exact: the method {method} does not branch", hint="leave --method out")
    outcome = Outcome()
    started = time.monotonic()
    budget = DEFAULT_TIMEOUT if timeout is None else timeout
    searched = not lower

    def attained() -> float:
        nonlocal searched
        if not searched:
            searched = True
            _search_lower(problem, outcome, progress, device, on_step)
        return outcome.lower

    if gap is None and (exact or (local and method == "auto")):
        gap = TIGHT
    grown: tuple[Rows, ...] = ()

    def keep(trees: tuple[Rows, ...]) -> None:
        nonlocal grown
        grown = trees
        save(outcome, grown)

    progress = Progress(
        started + budget,
        device,
        solver=solver,
        close=close,
        slopes=slopes,
        exact=exact,
        gap=gap or TIGHT,
        attained=attained,
        resume=resume,
        save=keep,
    )
    problem = _located(problem, outcome, progress)
    methods = _chosen(method, (local or bool(problem.equilibria)) and solver == "native")
    if is_implicit(problem) and not problem.equilibria:  # _located has said why
        methods = [m for m in methods if not isinstance(m, LocalMethod)]
    try:
        with idle_cores():
            _run(problem, methods, outcome, progress, gap, enough, on_step)
    except KeyboardInterrupt:
        outcome.interrupted = True
    if outcome.upper is not None and outcome.lower > outcome.upper:
        # each was verified by itself: one of the two proofs is wrong, and no number may leave
        raise RuntimeError(f"the upper bound {outcome.upper!r} is below the attained {outcome.lower!r}")
    outcome.timed_out = outcome.timed_out or progress.remaining() < 0
    outcome.seconds = time.monotonic() - started
    save(outcome, grown)
    return outcome


def _located(problem: Problem, outcome: Outcome, progress: Progress) -> Problem:
    """The problem with the solutions of its implicit layers; as it is where they are not found."""
    if not is_implicit(problem):
        return problem
    began, by = time.monotonic(), progress.arithmetic
    before, by.tick = by.tick, patience(progress)
    try:
        return with_equilibria(problem, by)
    except (NotProvedError, OutOfTime) as stop:
        reason = stop.message if isinstance(stop, NotProvedError) else "no time left to see where fixed points are"
        outcome.attempts.append(Attempt("local", "skipped", None, time.monotonic() - began, reason))
        return problem
    finally:
        by.tick = before


def patience(progress: Progress) -> Callable[[], None]:
    """A tick for what all else rests on: OutOfTime when half of the time is over, and PATIENCE at least."""
    began = time.monotonic()
    last = max(PATIENCE, progress.remaining() / 2)

    def tick() -> None:
        if time.monotonic() - began > last:
            raise OutOfTime

    return tick


def check_timeout(timeout: float | None) -> None:
    """UsageError where it is no number of seconds."""
    if timeout is not None and not timeout >= 0:
        raise UsageError(f"--timeout: {timeout} is not a number of seconds", hint="use 0 or more")


def _chosen(method: str, local: bool) -> list[Method]:
    if method == "auto":
        return [METHODS[name]() for name in (AUTO_LOCAL if local else AUTO)]
    if method not in METHODS:
        raise UsageError(f"--method: there is no method {method!r}", hint=f"use auto, {', '.join(METHODS)}")
    return [METHODS[method]()]


def _run(
    problem: Problem,
    methods: list[Method],
    outcome: Outcome,
    progress: Progress,
    gap: float | None,
    enough: float,
    on_step: Callable[[str, Outcome], None],
) -> None:
    began = time.monotonic()
    if progress.resume is not None:
        progress.notes.append("from the checkpoint")
        _consider(problem, "local", progress.resume.claim, 0.0, outcome, progress)
    for name, claim, seconds in _claims(problem, methods, outcome, progress):
        on_step(name, outcome)
        _consider(problem, name, claim, seconds, outcome, progress)
        _keep_witnesses(problem, outcome, progress)
        # The search loads torch: it waits for the claims that take less time than that, unless a gap needs it.
        if gap is not None or time.monotonic() - began > LOWER_BOUND_AFTER:
            progress.attained()
        if progress.remaining() < 0 or (gap is not None and outcome.gap is not None and outcome.gap <= gap):
            break
        if outcome.upper is not None and outcome.upper <= enough:
            break
    if outcome.claim is None and (obstacle := find_obstacle(problem)) is not None:
        raise UnsupportedModelError(obstacle, hint=hint(problem))
    progress.attained()
    _keep_witnesses(problem, outcome, progress)


def _claims(
    problem: Problem, methods: list[Method], outcome: Outcome, progress: Progress
) -> Iterator[tuple[str, Claim, float]]:
    for method in methods:
        reason = method.accepts(problem)
        if reason is not None:
            outcome.attempts.append(Attempt(method.name, "skipped", None, 0.0, reason))
            continue
        claims = iter(method.claims(problem, progress))
        while True:
            began = time.monotonic()
            try:
                claim = next(claims, None)
            except OutOfTime:
                outcome.timed_out = True
                seconds = time.monotonic() - began
                outcome.attempts.append(Attempt(method.name, "skipped", None, seconds, "no time left to go on"))
                break
            except Unsuitable as reason:
                outcome.attempts.append(Attempt(method.name, "skipped", None, time.monotonic() - began, str(reason)))
                break
            if claim is None:
                break
            yield method.name, claim, time.monotonic() - began


def _consider(problem: Problem, name: str, claim: Claim, seconds: float, outcome: Outcome, progress: Progress) -> None:
    """Verify a claim that would improve on the best one, and keep it if it holds."""
    by = progress.arithmetic
    claim = replace(claim, equilibria=problem.equilibria)
    note = "; ".join(progress.notes)
    progress.notes.clear()
    if not math.isfinite(claim.value):
        outcome.attempts.append(Attempt(name, "refused", None, seconds, "the bound overflows"))
        return
    if outcome.upper is not None and claim.value >= outcome.upper:
        outcome.attempts.append(
            Attempt(name, "skipped", claim.value, seconds, note or "no better than the best verified")
        )
        return
    began = time.monotonic()
    try:
        by.tick = _go_on
        verify(problem, claim, by)
    except NotProvedError as refusal:
        outcome.attempts.append(Attempt(name, "refused", claim.value, seconds, refusal.message))
        return
    seconds += time.monotonic() - began
    outcome.attempts.append(Attempt(name, "certified", claim.value, seconds, note))
    outcome.claim, outcome.method = claim, name


def _go_on() -> None:
    """Verification is not cut short: methods leave time for it."""


def _search_lower(
    problem: Problem, outcome: Outcome, progress: Progress, device: str, on_step: Callable[[str, Outcome], None]
) -> None:
    from lipcert.methods.lower import find_witness

    on_step("lower bound", outcome)
    by = progress.arithmetic
    before, by.tick = by.tick, _go_on
    try:
        progress.witnesses.extend(find_witness(problem, progress, device)[:3])
    finally:
        by.tick = before
    _keep_witnesses(problem, outcome, progress)


def _keep_witnesses(problem: Problem, outcome: Outcome, progress: Progress) -> None:
    """Verify what was found, the most promising first, and keep the best."""
    began = time.monotonic()
    while progress.witnesses and time.monotonic() - began < LOWER_VERIFYING:
        witness = progress.witnesses.pop(0)
        try:
            attained = verify_witness(problem, witness)
        except NotProvedError:  # of an implicit layer whose solution at the point was not found
            continue
        if attained > outcome.lower:
            outcome.witness, outcome.lower = witness, attained * LOWER_SLACK
    progress.witnesses.clear()
