"""Networks too large for one LipSDP, in parts: those that fit by LipSDP, the others by the product of norms.

The network is cut where all paths from the input meet. Parts are as long as they may be: what LipSDP gains over the
product of norms grows with every layer that a part holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from lipcert.certificate import Claim
from lipcert.certificate.claim import Composed, Local
from lipcert.certificate.composed import part_problems
from lipcert.errors import NotProvedError
from lipcert.graph import Affine, Elementwise, FixedPoint, Graph, Groupwise, Product
from lipcert.methods.base import Method, OutOfTime, Progress, Unsuitable
from lipcert.problem import Problem

NONLINEAR = Elementwise | Groupwise | Product

PART = 1024
"""Neurons of a part that LipSDP bounds: a few seconds each."""


@dataclass(frozen=True)
class Part:
    """From the cut before it to the node `end`; `neurons` that read something nonlinear in between."""

    end: int
    neurons: int


def crossings(graph: Graph, x: int, y: int) -> list[int]:
    """Affine nodes between x and y that every path crosses; none where there are fixed points."""
    if any(isinstance(node, FixedPoint) for node in graph.nodes):
        return []
    moving = {x}
    for i, node in enumerate(graph.nodes):
        if any(s in moving for s in node.inputs):
            moving.add(i)
    leading = {y}
    for i in range(y, -1, -1):
        if i in leading:
            leading.update(graph.nodes[i].inputs)
    found, reach = [], x
    for i in range(x, y):
        if i not in moving or i not in leading:
            continue
        if i > x and reach <= i and isinstance(graph.nodes[i], Affine):
            found.append(i)
        readers = [k for k in range(i + 1, y + 1) if k in leading and i in graph.nodes[k].inputs]
        reach = max([reach, *readers])
    return found


def parts_of(problem: Problem, most: int) -> list[Part]:
    """As few parts as hold at most this many neurons each; neighbours that are each larger are one part."""
    graph = problem.graph
    ends = [*crossings(graph, problem.x, problem.y), problem.y]
    parts: list[Part] = []
    before = problem.x
    for end in ends:
        count = sum(graph.size(i) for i in range(before + 1, end + 1) if isinstance(graph.nodes[i], NONLINEAR))
        together = parts[-1].neurons + count if parts else 0
        if parts and (
            together <= most or together in (parts[-1].neurons, count) or min(parts[-1].neurons, count) > most
        ):
            parts[-1] = Part(end, parts[-1].neurons + count)
        else:
            parts.append(Part(end, count))
        before = end
    return parts


def composed_claim(
    problem: Problem, progress: Progress, small: Callable[[], Method], large: Callable[[], Method]
) -> Claim | None:
    """The product of the parts' bounds, by `small` where a part has at most PART neurons, else by `large`."""
    parts = parts_of(problem, PART)
    if len(parts) < 2:
        return None
    cuts = tuple(part.end for part in parts[:-1])
    problems = part_problems(problem, cuts, progress.arithmetic)
    value, evidence, gained = 1.0, [], False
    for i, (part, single) in enumerate(zip(parts, problems, strict=True)):
        later = progress.remaining() * (1 - 1 / (len(parts) - i))
        share = replace(progress, deadline=progress.deadline - later, notes=[], linear=False)
        best = _best(single, share, large)
        if part.neurons and part.neurons <= PART:
            better = _best(single, share, small)
            if better is not None and (best is None or better.value < best.value):
                best, gained = better, True
        if best is None or isinstance(best.evidence, Composed | Local):
            return None
        value *= best.value * (1 + 2.0**-50)
        evidence.append(best.evidence)
    return Claim(value, Composed(cuts, tuple(evidence))) if gained else None


def _best(problem: Problem, progress: Progress, method: Callable[[], Method]) -> Claim | None:
    """The smallest claim that there is time for, of those that speak of the region."""
    best: Claim | None = None
    try:
        for claim in _claims(method(), problem, progress):
            if not claim.anywhere and (best is None or claim.value < best.value):
                best = claim
            if progress.remaining() < 0:
                break
    except (OutOfTime, Unsuitable, NotProvedError):
        return best  # what was claimed before stands
    return best


def _claims(method: Method, problem: Problem, progress: Progress) -> Iterator[Claim]:
    if method.accepts(problem) is None:
        yield from method.claims(problem, progress)
