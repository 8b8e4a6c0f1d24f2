"""A network in parts, one behind the other: its Lipschitz constant is at most the product of theirs.

The parts meet at nodes that every path from the input crosses; in between the norm is l2. A part is a problem of its
own: its input lies in the box of the node where it begins, or anywhere if that box is not bounded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np

from lipcert.arithmetic.rounding import mul_up
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.boxes import propagate
from lipcert.certificate.claim import Composed, SingleEvidence
from lipcert.errors import NotProvedError
from lipcert.graph import Affine, FixedPoint, Graph, Input, Output
from lipcert.problem import Box, Everywhere, Problem, Query

Prove = Callable[[Problem, SingleEvidence, Arithmetic], float]


def composed_bound(problem: Problem, evidence: Composed, by: Arithmetic, prove: Prove) -> float:
    """The product of what `prove` gives for the parts."""
    if len(evidence.parts) != len(evidence.cuts) + 1:
        raise NotProvedError(f"{len(evidence.cuts)} cuts do not make {len(evidence.parts)} parts")
    bound = 1.0
    for part, single in zip(part_problems(problem, evidence.cuts, by), evidence.parts, strict=True):
        bound = float(mul_up(bound, prove(part, single, by)))
    return bound


def part_problems(problem: Problem, cuts: tuple[int, ...], by: Arithmetic) -> list[Problem]:
    """The problem cut at affine nodes, in this order."""
    if any(isinstance(node, FixedPoint) for node in problem.graph.nodes):
        # what reads a state depends on all that its loop reads: a walk along inputs does not see that
        raise NotProvedError("a network with a fixed point is not cut into parts")
    ends = (problem.x, *cuts, problem.y)
    if any(not a < b for a, b in pairwise(ends)):
        raise NotProvedError("the cuts are not nodes between input and output, in order")
    query = problem.query
    about = ("parts", problem.graph, problem.x, problem.y, query.region, query.norm_in, query.norm_out, f"{cuts}")
    return by.kept(about, lambda: [_part(problem, a, b, by) for a, b in pairwise(ends)])


def _part(problem: Problem, start: int, end: int, by: Arithmetic) -> Problem:
    graph = problem.graph
    if not isinstance(graph.nodes[end], Affine):
        raise NotProvedError(f"node {end} is no affine node: a network is cut at affine nodes only")
    nodes = list(graph.nodes[: end + 1])
    first = start == problem.x
    entry = graph.nodes[problem.x].origin
    if not first:
        while entry in graph.inputs:
            entry += "'"
        nodes[start] = Input(entry, graph.nodes[start].shape)
        reads = {end}
        for i in range(end, -1, -1):
            if i in reads:
                reads.update(nodes[i].inputs)
        if problem.x in reads:  # nothing may move but where the part begins
            raise NotProvedError(f"a path from the input to node {end} does not cross node {start}")
    part = Graph(tuple(nodes), (Output("end", end),)).pruned()
    y, x = part.outputs[0].node, part.inputs[entry]
    norm_in = problem.query.norm_in if first else 2.0
    norm_out = problem.query.norm_out if end == problem.y else 2.0
    region = problem.query.region
    if not first:
        low, high = propagate(problem, by)[start]
        finite = np.all(np.isfinite(low)) and np.all(np.isfinite(high))
        region = Box(low, high) if finite and not isinstance(region, Everywhere) else Everywhere()
    query = replace(Query(), norm_in=norm_in, norm_out=norm_out, region=region)
    return Problem(part, query, x=x, y=y)
