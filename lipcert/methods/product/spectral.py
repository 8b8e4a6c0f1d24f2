"""Choosing the steps of a spectral chain: for each node, the cut and the grouping with the smallest bound."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from lipcert.certificate.chains import Setting, group_operator, step_terms
from lipcert.certificate.claim import Group, SpectralChain, Step
from lipcert.certificate.norms import is_affordable
from lipcert.graph import Affine, Graph
from lipcert.methods.product.proofs import Found
from lipcert.operators import LinearOperator, Row
from lipcert.problem import Norm

Prove = Callable[[LinearOperator, Norm, Norm], Found]
"""A bound on the norm of an operator, and the proof of it."""


@np.errstate(over="ignore", invalid="ignore")
def spectral_chain(setting: Setting, center: bool, prove: Prove, stack: bool) -> tuple[float, SpectralChain]:
    """The best chain found and its bound; `setting.tick` may end the work.

    `stack`: whether the terms of a step are also tried as one operator.
    """
    graph, y = setting.graph, setting.y
    cut = junctions(graph, y, forks=not center)
    gains: dict[int, float] = {}
    steps: dict[int, Step] = {}
    for node in sorted({*setting.increments.nonlinear, *cut, y}):
        options = _options(setting, node, cut, gains, prove, stack and not center)
        gains[node], steps[node] = min(options, key=lambda found: found[0])
    return gains[y], SpectralChain(center, _needed(y, steps))


def junctions(graph: Graph, y: int, forks: bool) -> list[int]:
    """Affine nodes that join (or fork) paths: where a chain may cut a stretch with profit."""
    readers = [0] * len(graph.nodes)
    for node in graph.nodes:
        for source in node.inputs:
            readers[source] += 1
    return [
        i
        for i, node in enumerate(graph.nodes)
        if isinstance(node, Affine) and i != y and ((forks and readers[i] > 1) or len(node.inputs) > 1)
    ]


def _options(
    setting: Setting, node: int, cut: list[int], gains: dict[int, float], prove: Prove, stack: bool
) -> Iterator[tuple[float, Step]]:
    """The node bounded with its stretch cut at the nearest junctions, or expanded; terms apart, or stacked.

    Centered graphs have as many terms as layers before: stacking those costs much and gains little.
    """
    seen: set[tuple[int, ...]] = set()
    for chosen in (tuple(j for j in cut if j < node), ()):
        terms = step_terms(setting, node, chosen)
        if tuple(terms) in seen:
            continue
        seen.add(tuple(terms))
        yield _bound(setting, node, chosen, [(s,) for s in terms], terms, gains, prove)
        stacked = _stackable(setting, terms)
        if stack and len(stacked) > 1 and is_affordable(Row([terms[s] for s in stacked])):
            rest = [(s,) for s in terms if s not in stacked]
            yield _bound(setting, node, chosen, [stacked, *rest], terms, gains, prove)


def _stackable(setting: Setting, terms: dict[int, LinearOperator]) -> tuple[int, ...]:
    """The sources whose increments are bounded in l2: all but an input with another norm."""
    return tuple(s for s in terms if s != setting.x or setting.norm_in == 2)


def _bound(
    setting: Setting,
    node: int,
    cut: tuple[int, ...],
    partition: list[tuple[int, ...]],
    terms: dict[int, LinearOperator],
    gains: dict[int, float],
    prove: Prove,
) -> tuple[float, Step]:
    total, groups = 0.0, []
    for sources in partition:
        setting.tick()
        bound, proof = _group_norm(setting, node, {s: terms[s] for s in sources}, prove)
        size = math.hypot(*(1.0 if s == setting.x else gains[s] for s in sources))
        total += bound * size
        groups.append(Group(sources, proof))
    return total, Step(node, cut, tuple(groups))


def _group_norm(setting: Setting, node: int, chosen: dict[int, LinearOperator], prove: Prove) -> Found:
    into = setting.norm_in if setting.x in chosen else 2.0
    out = setting.norm_out if node == setting.y else 2.0
    return prove(group_operator(setting, node, chosen), into, out)


def _needed(y: int, steps: dict[int, Step]) -> tuple[Step, ...]:
    """The steps that the chain of the outputs rests on, in order."""
    needed: set[int] = set()
    pending = [y]
    while pending:
        node = pending.pop()
        if node in steps and node not in needed:
            needed.add(node)
            pending += [s for group in steps[node].groups for s in group.sources]
    return tuple(steps[node] for node in sorted(needed))
