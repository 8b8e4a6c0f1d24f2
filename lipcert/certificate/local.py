"""Bounds over a region by parts: rows of the Jacobian over pieces, and LipSDP for single rows."""

from __future__ import annotations

import math

from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.chains import prepare_split
from lipcert.certificate.claim import Local, Rows, RowScaling
from lipcert.certificate.inequality import output_bounds
from lipcert.certificate.linear_bounds import boxes_of
from lipcert.certificate.pieces import rows_bound
from lipcert.certificate.planes import Net
from lipcert.errors import NotProvedError
from lipcert.problem import Problem


def local_bound(problem: Problem, evidence: Local, whole: Net, by: Arithmetic) -> float:
    """The largest bound of a part; every output must be in one of them."""
    outputs = [j for part in evidence.parts for j in ((part.output,) if isinstance(part, RowScaling) else part.outputs)]
    if sorted(outputs) != list(range(problem.size_out)):
        raise NotProvedError("the parts do not share the outputs")
    if len(evidence.parts) > 1 and problem.query.norm_out != math.inf:
        raise NotProvedError("several parts bound outputs in l-infinity only")
    return max((_part(problem, part, whole, by) for part in evidence.parts), default=0.0)


def _part(problem: Problem, part: Rows | RowScaling, whole: Net, by: Arithmetic) -> float:
    if not isinstance(part, RowScaling):  # of which the search has asked before
        about = ("rows", problem.graph, problem.query, whole, part)
        return by.kept(about, lambda: rows_bound(problem, part, whole, by))
    setting = prepare_split(problem, boxes_of(problem, whole, by), "open", by)
    return float(output_bounds(setting, part.inequality)[:, part.output].max(initial=0.0))
