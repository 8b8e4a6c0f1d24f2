"""The largest norm of the Jacobian of a network of two-piece activations over a region, by HiGHS.

One program for each row of the Jacobian (l-infinity), entry (from l1 to l-infinity) or column (l1), the most
promising first; each is asked for more than the best so far. HiGHS works within tolerances: nothing here is proven.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np

from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.boxes import Bounds
from lipcert.certificate.derivative import ChainRule, bound_rows, chain_rule, row_sums
from lipcert.certificate.linear_bounds import in_ramps, whole_net
from lipcert.errors import NotProvedError
from lipcert.graph import evaluate
from lipcert.methods.base import Unsuitable
from lipcert.methods.lower.search import project, region_center
from lipcert.methods.mip.encoding import (
    LARGEST,
    Encoded,
    absolute,
    encode_network,
    encode_row,
    obstacle,
    pattern_jacobian,
)
from lipcert.methods.mip.linear import Program
from lipcert.problem import Ball, Everywhere, Problem

STEPS = 2
"""Planes for what meets open slopes, and for entries of the Jacobian whose sign is open."""

QUICK = 0.2
"""Of the time, in which each program is tried, so that the hard ones are asked for more than the easy ones have."""

LONGEST = 1e7
"""Seconds that stand for any number of them."""

MAX_ENTRIES = 2**24
"""Of all matrices, written out."""

POINT_SECONDS = 2.0
"""For the input of the best solution that is farthest from its kinks."""


@dataclass(frozen=True, eq=False)
class MipAnswer:
    """The largest norm of the Jacobian, as far as HiGHS tells."""

    value: float
    """Of the best integer solution: the norm at its slopes. Slopes that are only met together at ties count, too."""

    bound: float
    """HiGHS' dual bound: an upper bound up to its tolerances."""

    point: np.ndarray
    """The input of that solution: one with the same slopes, far from kinks where there is one."""

    seconds: float
    finished: bool


def unsuited(problem: Problem, by: Arithmetic) -> str | None:
    """Why there is no such program for a problem, in one clause."""
    query = problem.query
    if isinstance(query.region, Everywhere):
        return "it bounds networks over a region only"
    if isinstance(query.region, Ball) and query.region.norm == 2:
        return "an l2 ball is no linear constraint"
    if query.norm_in == 2 or (query.norm_out == 2 and problem.size_out > 1):
        return "an l2 norm is not linear"
    if query.norm_in == math.inf and query.norm_out == 1 and problem.size_out > 1:
        return "the norm from l-infinity to l1 takes signs of the outputs, too"
    graph = in_ramps(problem, by).graph
    entries = sum(op.in_size * op.out_size for node in graph.nodes for op in getattr(node, "operators", ()))
    if entries > MAX_ENTRIES:
        return f"its matrices have {entries} entries, which are too many"
    return obstacle(graph)


def solve_mip(problem: Problem, by: Arithmetic, seconds: float) -> MipAnswer:
    """The best that is found in so many seconds; raises Unsuitable."""
    began = time.monotonic()
    reason = unsuited(problem, by)
    if reason is not None:
        raise Unsuitable(reason)
    try:
        search = _Search(problem, by)
    except NotProvedError as error:
        raise Unsuitable(error.message) from None
    if search.rule.gradient is None:
        return MipAnswer(0.0, 0.0, search.point, time.monotonic() - began, True)
    search.run(began + min(seconds, LONGEST))
    value = search.best
    bound = max([value, *(target.bound for target in search.targets)])
    return MipAnswer(value, bound, search.point, time.monotonic() - began, not any(map(search.is_open, search.targets)))


@dataclass(eq=False)
class _Target:
    """Entries of the Jacobian whose sum of magnitudes is maximised."""

    outputs: tuple[int, ...]
    inputs: np.ndarray
    bound: float
    finished: bool = False
    """Whether HiGHS is done with it."""


class _Search:
    """Programs that share the network, and the best slopes so far."""

    def __init__(self, problem: Problem, by: Arithmetic) -> None:
        self.problem, self.by = problem, by
        self.posed = in_ramps(problem, by)
        self.rule: ChainRule = chain_rule(self.posed, by)
        self.net = whole_net(problem, by)
        if not all(np.all(np.isfinite(side)) for box in self.net.boxes for side in box):
            raise Unsuitable("a box over the region is not finite")
        self.coded: Encoded = encode_network(self.posed, self.net, by)
        self.point = np.array(region_center(problem.query.region))  # type: ignore[arg-type]
        self.best = 0.0
        self.targets: list[_Target] = []
        self.boxes: list[Bounds] = []
        self.rows: dict[tuple[int, ...], tuple[Program, list[np.ndarray], float]] = {}
        if self.rule.gradient is not None:
            self._bound_rows(self.rule.gradient)

    def run(self, deadline: float) -> None:
        """Solve the programs that may have more than the best: each for a short time, then those cut short.

        The last to be solved again is the one that looks hardest, in all the time that the others left.
        """
        if self.targets:
            self._start()
        solution = None
        for part in (QUICK, 1.0):
            end = deadline - (1 - part) * (deadline - time.monotonic())
            waiting = [target for target in self.targets if self.is_open(target)]
            if part == 1:
                waiting.sort(key=lambda target: target.bound)
            for k, target in enumerate(waiting):
                share = (end - time.monotonic()) / (len(waiting) - k)
                if self.is_open(target) and share > 0:
                    found = self._solve(target, share)
                    solution = solution if found is None else found
        if solution is not None:
            self.point = self._inside(solution, min(POINT_SECONDS, max(0.1, deadline - time.monotonic())))

    def is_open(self, target: _Target) -> bool:
        """Whether it may have more than the best."""
        return target.bound > self.best and not target.finished

    def _solve(self, target: _Target, seconds: float) -> np.ndarray | None:
        """The solution, if it is the best so far."""
        began = time.monotonic()
        program, rows, unit = self._encoded(target.outputs)
        program = program.copy()
        low, high = (
            np.concatenate([side[j][target.inputs] for j in target.outputs]) / unit
            for side in self.boxes[self.rule.gradient or 0]
        )
        at = np.concatenate([part[target.inputs] for part in rows])
        found = program.maximise(
            absolute(program, at, low, high), seconds - (time.monotonic() - began), self.best / unit
        )
        target.finished = found.finished
        target.bound = min(target.bound, found.bound * unit)
        if found.x is None:
            return None
        value = self._norm({i: phase.slopes(found.x) for i, phase in self.coded.phases.items()})
        if value <= self.best:
            return None
        self.best = value
        return found.x

    def _encoded(self, outputs: tuple[int, ...]) -> tuple[Program, list[np.ndarray], float]:
        """The network with some rows of its Jacobian, and the unit of these."""
        if outputs not in self.rows:
            program = self.coded.program.copy()
            found = [encode_row(self.coded, program, self.rule, self.boxes, j, self.by) for j in outputs]
            self.rows[outputs] = program, [row for row, _ in found], found[0][1]
        return self.rows[outputs]

    def _bound_rows(self, gradient: int) -> None:
        """Boxes of the rows, and with them what is to be maximised, the most promising first."""
        m, n = self.problem.size_out, self.problem.size_in
        rows = bound_rows(self.posed, self.rule, self.net, np.arange(m)[None], STEPS, self.by)
        self.boxes = rows.net.boxes
        if not all(np.all(np.isfinite(side)) for box in self.boxes for side in box):
            raise Unsuitable("a box of the Jacobian is not finite")
        size = np.maximum(*(np.abs(side) for side in self.boxes[gradient]))
        query = self.problem.query
        if query.norm_in == math.inf:
            sums = row_sums(rows, self.by)[0]
            self.targets = [_Target((j,), np.arange(n), float(sums[j])) for j in range(m)]
        elif query.norm_out == math.inf:
            self.targets = [_Target((j,), np.array([i]), float(size[j, i])) for j in range(m) for i in range(n)]
        else:
            outputs = tuple(range(m))
            self.targets = [_Target(outputs, np.array([i]), float(size[:, i].sum())) for i in range(n)]
        self.targets.sort(key=lambda target: -target.bound)

    def _start(self) -> None:
        """At the center: the first program is asked for more than that."""
        graph = self.posed.graph
        values = evaluate(graph, dict.fromkeys(graph.inputs, self.point[None]))
        phases = self.coded.phases.items()
        self.best = self._norm({i: phase.slopes_at(values[graph.nodes[i].inputs[0]][0]) for i, phase in phases})

    def _norm(self, slopes: dict[int, np.ndarray]) -> float:
        """Of the Jacobian with these slopes."""
        jacobian = np.abs(pattern_jacobian(self.rule, slopes, self.problem.size_out, self.by))
        query = self.problem.query
        if query.norm_in == math.inf:
            return float(jacobian.sum(axis=1).max(initial=0.0))
        return float(np.linalg.norm(jacobian, ord=query.norm_out, axis=0).max(initial=0.0))

    def _inside(self, solution: np.ndarray, seconds: float) -> np.ndarray:
        """The input with the slopes of a solution that is farthest from kinks."""
        graph, coded = self.posed.graph, self.coded
        program = coded.program.copy()
        depth = program.variables(np.zeros(1), np.array([LARGEST]))
        for i, phase in coded.phases.items():
            if not phase.binaries.size:
                continue
            chosen = np.round(solution[phase.binaries])
            one = np.ones(len(chosen))
            program.equal(chosen, (one, phase.binaries))
            read = coded.at[graph.nodes[i].inputs[0]][phase.open]
            program.at_least(0 * one, (2 * chosen - 1, read), (-one[:, None], depth))
        found = program.maximise(depth, seconds).x
        x = (solution if found is None else found)[coded.at[self.posed.x]] * coded.units[self.posed.x]
        return np.asarray(project(self.problem.query.region, x[None])[0])
