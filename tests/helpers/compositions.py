"""Networks of blocks to be cut between, evidence for their parts, and where a graph can be cut by brute force."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lipcert.activations import Abs, LeakyRelu, Relu, Tanh
from lipcert.activations.sorting import GroupMax, GroupSort
from lipcert.certificate.claim import AbsoluteChain, Inequality, SingleEvidence, SpectralChain
from lipcert.graph import Affine, Graph
from lipcert.methods import Method
from lipcert.methods.lipsdp import LipSdpMethod
from lipcert.methods.product import ProductMethod
from lipcert.problem import Norm, Problem
from tests.helpers.claims import claims_of
from tests.helpers.inequalities import Builder

ACTIVATIONS = (Relu(), LeakyRelu(0.1), Abs(), Tanh())
BLOCKS = ("layer", "residual", "fork", "groups", "linear")


def blocks(rng: np.random.Generator, *kinds: str, width: int = 4, outputs: int = 2) -> Graph:
    """One block behind the other, each of which begins at one affine node and ends at another."""
    build = Builder(rng)
    at = build.affine(width, 0)
    for kind in kinds:
        active = ACTIVATIONS[int(rng.integers(len(ACTIVATIONS)))]
        if kind == "layer":
            at = build.affine(width, build.active(at, active))
        elif kind == "residual":
            at = build.plus(at, build.affine(width, build.active(build.affine(width, at), active)))
        elif kind == "fork":
            ways = (
                build.active(at, active),
                build.active(build.affine(width, at), Relu()),
                build.grouped(at, GroupMax(2)),
            )
            at = build.affine(width, *ways)
        elif kind == "groups":
            at = build.affine(width, build.grouped(at, GroupSort(2)))
        else:
            at = build.affine(width, at)
    build.affine(outputs, build.active(at, Relu()))
    return build.graph()


def separators(graph: Graph, x: int, y: int) -> list[int]:
    """Affine nodes between x and y without which no path leads from one to the other."""
    if not _is_reached(graph, x, y, without=-1):
        return []
    return [
        i
        for i, node in enumerate(graph.nodes)
        if i not in (x, y) and isinstance(node, Affine) and not _is_reached(graph, x, y, without=i)
    ]


def _is_reached(graph: Graph, x: int, y: int, without: int) -> bool:
    reached = {x}
    for i, node in enumerate(graph.nodes):
        if i != without and reached & set(node.inputs):
            reached.add(i)
    return y in reached


def some_cuts(problem: Problem, rng: np.random.Generator, most: int = 3) -> tuple[int, ...]:
    """One cut at least, at most so many."""
    places = separators(problem.graph, problem.x, problem.y)
    count = int(rng.integers(1, min(most, len(places)) + 1))
    return tuple(sorted(rng.choice(places, count, replace=False).tolist()))


def with_norms(problem: Problem, p: Norm, q: Norm) -> Problem:
    return replace(problem, query=replace(problem.query, norm_in=p, norm_out=q))


KINDS = ("absolute", "spectral", "inequality")


def evidence_of(problem: Problem, kind: str) -> SingleEvidence:
    """Of this kind, or an absolute chain where the method has none."""
    if kind == "absolute":
        return AbsoluteChain(False)
    method: Method = ProductMethod() if kind == "spectral" else LipSdpMethod()
    wanted = SpectralChain if kind == "spectral" else Inequality
    found = [c.evidence for c in claims_of(method, problem, False) if isinstance(c.evidence, wanted) and not c.anywhere]
    return found[-1] if found else AbsoluteChain(True)
