"""All that a method has to say about a problem."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

from lipcert.certificate import Claim
from lipcert.certificate.encoding import decode_claim, encode
from lipcert.methods import Method, Progress, Unsuitable
from lipcert.problem import Problem


def through_json(claim: Claim) -> Claim:
    """The claim written to JSON and read again, which loses nothing."""
    again = decode_claim(json.loads(json.dumps(encode(claim))))
    assert encode(again) == encode(claim)
    return again


def claims_of(method: Method, problem: Problem, linear: bool = True) -> Iterator[Claim]:
    """Its claims until it has no more, or says that it cannot go on; without `linear`, over intervals."""
    if method.accepts(problem) is None:
        with contextlib.suppress(Unsuitable):
            yield from method.claims(problem, Progress(linear=linear))
