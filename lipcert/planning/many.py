"""One query over many regions: what is searched for on a device is searched for over all of them at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.claim import Slopes
from lipcert.errors import NotProvedError
from lipcert.graph import State
from lipcert.methods.boxes import find_slopes
from lipcert.planning.outcome import Outcome
from lipcert.planning.solve import solve
from lipcert.problem import Everywhere, Problem

TOGETHER = 128
"""Regions for which slopes are searched at a time."""


def solve_many(
    problems: Sequence[Problem],
    *,
    method: str = "auto",
    timeout: float | None = None,
    gap: float | None = None,
    device: str = "auto",
    solver: str = "native",
    exact: bool = False,
    on_step: Callable[[str, Outcome], None] = lambda what, outcome: None,
) -> Iterator[Outcome]:
    """Outcomes as of `solve`, one after another, of problems that differ in their regions only; `timeout` for each."""
    for i in range(0, len(problems), TOGETHER):
        some = problems[i : i + TOGETHER]
        on_step("slopes", Outcome())
        for problem, slopes in zip(some, _slopes(some, method, solver, device), strict=True):
            yield solve(
                problem,
                method=method,
                timeout=timeout,
                gap=gap,
                device=device,
                solver=solver,
                exact=exact,
                slopes=slopes,
                on_step=on_step,
            )


def _slopes(problems: Sequence[Problem], method: str, solver: str, device: str) -> Sequence[tuple[Slopes, ...] | None]:
    """None where no method asks for any."""
    local = all(not isinstance(p.query.region, Everywhere) for p in problems)
    implicit = any(isinstance(node, State) for node in problems[0].graph.nodes)
    if not local or implicit or method not in ("auto", "local") or solver != "native":
        return [None] * len(problems)
    try:
        return find_slopes(problems, device, Arithmetic())
    except NotProvedError:
        return [None] * len(problems)
