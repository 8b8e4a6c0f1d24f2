"""All that a method has to say about a problem."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterator

from lipcert.certificate import Claim
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.encoding import decode_claim, encode
from lipcert.methods import Method, OutOfTime, Progress, Unsuitable
from lipcert.problem import Problem


def through_json(claim: Claim) -> Claim:
    """The claim written to JSON and read again, which loses nothing."""
    again = decode_claim(json.loads(json.dumps(encode(claim))))
    assert encode(again) == encode(claim)
    return again


BRANCHING = {"local", "mip"}
"""Methods that go on until time is over ..."""

SECONDS = 0.1
"""... which they get this much of."""


def claims_of(method: Method, problem: Problem, linear: bool = True, by: Arithmetic | None = None) -> Iterator[Claim]:
    """Its claims until it has no more, or says that it cannot go on; without `linear`, over intervals."""
    if method.accepts(problem) is None:
        deadline = time.monotonic() + SECONDS if method.name in BRANCHING else math.inf
        with contextlib.suppress(Unsuitable, OutOfTime):
            yield from method.claims(problem, Progress(deadline, linear=linear, arithmetic=by or Arithmetic()))
