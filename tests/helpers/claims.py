"""All that a method has to say about a problem."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from lipcert.certificate import Claim
from lipcert.methods import Method, Progress, Unsuitable
from lipcert.problem import Problem


def claims_of(method: Method, problem: Problem, linear: bool = True) -> Iterator[Claim]:
    """Its claims until it has no more, or says that it cannot go on; without `linear`, over intervals."""
    if method.accepts(problem) is None:
        with contextlib.suppress(Unsuitable):
            yield from method.claims(problem, Progress(linear=linear))
