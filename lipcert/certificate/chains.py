"""How bounds compose along the graph: the two chains of the product bound.

Both walk over the steps of the evidence in order. Each step writes the increment of its node as a sum of linear terms
from nodes bounded before (graph.linear_terms), and applies the Jacobian bound where the node is nonlinear: entrywise
(forward, backward), or in l2, |dw|_2 <= |diag(s) dv|_2.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lipcert.arithmetic.rounding import add_up, inflate, mul_up, sqrt_up
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.boxes import Bounds
from lipcert.certificate.claim import NormProof, SpectralChain, Step
from lipcert.certificate.increments import IncrementGraph, Split, increment_graph, moving_terms
from lipcert.certificate.norms import magnitude, norm_bound, row_norms
from lipcert.errors import NotProvedError
from lipcert.graph import Affine, Graph, Increment, Input
from lipcert.operators import Diagonal, LinearOperator, Row, compose
from lipcert.problem import Norm, Problem, dual

MAX_PASSED = 20_000
"""Affine nodes on all stretches of an entrywise chain, beyond which it is cut."""


@dataclass(frozen=True, eq=False)
class Setting:
    """The increments of a problem, its norms, and the arithmetic that the proof uses."""

    increments: IncrementGraph
    norm_in: Norm
    norm_out: Norm
    by: Arithmetic
    tick: Callable[[], None] = lambda: None
    """Called between pieces of work; a method may raise from it."""

    @property
    def graph(self) -> Graph:
        return self.increments.graph

    @property
    def x(self) -> int:
        return self.increments.x

    @property
    def y(self) -> int:
        return self.increments.y


def prepare(
    problem: Problem, boxes: list[Bounds], center: bool, by: Arithmetic, tick: Callable[[], None] = lambda: None
) -> Setting:
    """The increments over the region whose boxes are given, centered or plain."""
    return prepare_split(problem, boxes, "centered" if center else "whole", by, tick)


def prepare_split(
    problem: Problem, boxes: list[Bounds], how: Split, by: Arithmetic, tick: Callable[[], None] = lambda: None
) -> Setting:
    """The increments over the region whose boxes are given."""
    if not isinstance(problem.graph.nodes[problem.y], Affine):
        raise NotProvedError("the outputs are not an affine node")  # pose makes them one
    increments = by.kept(
        ("increments", problem.graph, problem.x, problem.y, boxes, how),
        lambda: increment_graph(problem.graph, problem.x, problem.y, boxes, how),
    )
    return Setting(increments, problem.query.norm_in, problem.query.norm_out, by, tick)


def step_terms(setting: Setting, node: int, cut: Sequence[int]) -> dict[int, LinearOperator]:
    """The terms of a step: the increment of an affine node, or of what a nonlinear node reads."""
    setting.tick()
    about = ("terms", setting.increments, node, " ".join(map(str, cut)))
    return setting.by.kept(about, lambda: moving_terms(setting.increments, node, cut))


def absolute_bound(setting: Setting) -> float:
    """The smallest of the bounds that entrywise composition gives for the problem's norms.

    Every stretch is expanded to the nonlinear nodes, since for absolute values a cut can only lose; but where that
    takes long it is cut at nodes that several others read, such as the states of iterations that are read in steps.
    """
    about = ("absolute", setting.increments, setting.norm_in, setting.norm_out)
    return setting.by.kept(about, lambda: _absolute_bound(setting))


@np.errstate(over="ignore", invalid="ignore")  # overflow ends in inf or NaN, which proves nothing
def _absolute_bound(setting: Setting) -> float:
    p, q = setting.norm_in, setting.norm_out
    cut = _cut(setting)
    nodes = sorted({*setting.increments.nonlinear, *cut, setting.y})
    steps = [(i, step_terms(setting, i, cut)) for i in nodes]
    found = [_forward(setting, steps, p, q), _backward(setting, steps, p, q)]
    if p <= 2 <= q:
        # |J|_{p->q} <= |J|_2 <= sqrt(|J|_1 |J|_inf)
        both = mul_up(_forward(setting, steps, math.inf, math.inf), _backward(setting, steps, 1.0, 1.0))
        found.append(float(sqrt_up(both)))
    return min(found)


def _cut(setting: Setting) -> tuple[int, ...]:
    """Affine nodes at which the stretches end: none, unless they pass more than MAX_PASSED."""
    graph = setting.graph
    affine = [isinstance(node, Affine) for node in graph.nodes]
    passed = 0
    for end in (*setting.increments.nonlinear, setting.y):
        seen, ahead = {end}, list(graph.nodes[end].inputs)
        while ahead:
            if affine[position := ahead.pop()] and position not in seen:
                seen.add(position)
                ahead += graph.nodes[position].inputs
        passed += len(seen)
        if passed > MAX_PASSED:
            readers = Counter(source for node in graph.nodes for source in set(node.inputs))
            return tuple(i for i, count in readers.items() if count > 1 and affine[i] and i < setting.y)
    return ()


@np.errstate(over="ignore", invalid="ignore")  # overflow ends in inf or NaN, which proves nothing
def spectral_bound(setting: Setting, evidence: SpectralChain) -> float:
    """The bound that the l2 gains of the steps give."""
    if not evidence.steps or evidence.steps[-1].node != setting.y:
        raise NotProvedError("the chain does not end at the outputs")
    gains: dict[int, float] = {}
    for step in evidence.steps:
        terms = _checked_terms(setting, step, gains)
        if any(not g.sources for g in step.groups):
            raise NotProvedError(f"the step of node {step.node} has an empty group")
        if sorted(s for g in step.groups for s in g.sources) != sorted(terms):
            raise NotProvedError(f"the step of node {step.node} does not group each of its terms once")
        out = setting.norm_out if step.node == setting.y else 2.0
        bounds = [
            group_bound(setting, step.node, {s: terms[s] for s in g.sources}, gains, g.proof, out) for g in step.groups
        ]
        gains[step.node] = float(inflate(sum(bounds), len(bounds))) if len(bounds) > 1 else sum(bounds)
    return gains[setting.y]


def group_bound(
    setting: Setting, node: int, terms: dict[int, LinearOperator], gains: dict[int, float], proof: NormProof, out: Norm
) -> float:
    """Bound of the terms of one group: |[T_1 T_2 ..]| |(g_1, g_2, ..)|_2, x entering with its own norm."""
    into = 2.0
    if setting.x in terms:
        into = setting.norm_in
        if len(terms) > 1 and into != 2:
            raise NotProvedError("the input is stacked with other nodes although its norm is not l2")
    sizes = np.array([1.0 if s == setting.x else gains[s] for s in terms])
    gain = float(sizes[0]) if len(sizes) == 1 else float(setting.by.norms(sizes, 2.0))
    operator = group_operator(setting, node, terms)
    return float(mul_up(norm_bound(operator, into, out, proof, setting.by), gain))


def group_operator(setting: Setting, node: int, terms: dict[int, LinearOperator]) -> LinearOperator:
    """[T_1 T_2 ...], its rows scaled by the l2 bound of the Jacobian where the node is nonlinear."""
    operator = next(iter(terms.values())) if len(terms) == 1 else Row(tuple(terms.values()))
    bound = setting.increments.bound(node)
    if bound is None or np.all(bound.spectral == 1):
        return operator
    return compose(Diagonal(bound.spectral), operator)


Steps = list[tuple[int, dict[int, LinearOperator]]]


def _forward(setting: Setting, steps: Steps, p: Norm, q: Norm) -> float:
    """e with |dv| <= e |dx|_p entrywise for each node; the bound is |e_y|_q."""
    reach: dict[int, np.ndarray] = {}
    for node, terms in steps:
        body = setting.graph.nodes[node]
        total = np.zeros(setting.graph.size(body.input if isinstance(body, Increment) else node))
        for source, op in terms.items():
            setting.tick()
            if source == setting.x:
                part = row_norms(op, dual(p), setting.by)
            else:
                part = magnitude(op, reach[source], setting.by)
            total = add_up(total, part)
        bound = setting.increments.bound(node)
        reach[node] = total if bound is None else bound.forward(total)
    return float(setting.by.norms(reach[setting.y], q))


def _backward(setting: Setting, steps: Steps, p: Norm, q: Norm) -> float:
    """f with |dy|_q <= sum over nodes of f |dv|; the bound is the dual norm of f_x."""
    x, y = setting.x, setting.y
    weight: dict[int, np.ndarray] = {x: np.zeros(setting.graph.size(x))}
    for node, terms in reversed(steps):
        if node != y and node not in weight:
            continue
        bound = setting.increments.bound(node)
        for source, op in terms.items():
            setting.tick()
            if node == y:
                part = row_norms(op, q, setting.by, adjoint=True)
            else:
                reached = weight[node] if bound is None else bound.backward(weight[node])
                part = magnitude(op, reached, setting.by, adjoint=True)
            weight[source] = add_up(weight[source], part) if source in weight else part
    return float(setting.by.norms(weight[x], dual(p)))


def _checked_terms(setting: Setting, step: Step, gains: dict[int, float]) -> dict[int, LinearOperator]:
    graph = setting.graph
    if not 0 <= step.node < len(graph.nodes) or isinstance(graph.nodes[step.node], Input) or step.node in gains:
        raise NotProvedError(f"step of node {step.node}: no such node, or bounded before")
    terms = step_terms(setting, step.node, step.cut)
    missing = [s for s in terms if s != setting.x and s not in gains]
    if missing:
        raise NotProvedError(f"step of node {step.node} rests on node {missing[0]}, which is not bounded before it")
    return terms
