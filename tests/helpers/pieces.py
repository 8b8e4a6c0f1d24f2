"""Pieces of a region, and bounds over them, as the kernel finds them."""

from __future__ import annotations

import numpy as np

from lipcert.certificate import Claim, verify
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.boxes import Bounds
from lipcert.certificate.claim import Local, Rows, Tree
from lipcert.certificate.derivative import Rows as BoundedRows
from lipcert.certificate.derivative import bound_rows, chain_rule
from lipcert.certificate.linear_bounds import Bounded, Pieces, in_ramps, piece_nets, whole_net
from lipcert.certificate.pieces import Cut, ends
from lipcert.certificate.planes import Net
from lipcert.certificate.relaxation import Lines
from lipcert.problem import Problem

WHOLE = Tree(np.array([[-1.0, 0.0, 0.0]]), np.zeros(0))
ENOUGH = 1e308


def pieces_by_ends(problem: Problem, count: int, by_node: dict[int, Bounds], by: Arithmetic) -> Bounded:
    return piece_nets(problem, Pieces(count, by_node), whole_net(problem, by), by)


def pieces_by_cuts(problem: Problem, cuts: list[tuple[Cut, ...]], by: Arithmetic) -> Bounded:
    return piece_nets(problem, ends(cuts, in_ramps(problem, by).graph), whole_net(problem, by), by)


def rows_of(
    problem: Problem, steps: int, by: Arithmetic, bounded: Bounded | None = None, outputs: np.ndarray | None = None
) -> BoundedRows | None:
    """All rows over the region, or those asked for over its pieces; None where y does not depend on x."""
    there = in_ramps(problem, by)
    rule = chain_rule(there, by)
    if rule.gradient is None:
        return None
    net, count = (whole_net(problem, by), 1) if bounded is None else (bounded.net, len(bounded.empty))
    every = np.tile(np.arange(problem.size_out), (count, 1))
    return bound_rows(there, rule, net, every if outputs is None else outputs, steps, by)


def proven(
    problem: Problem, tree: Tree = WHOLE, steps: int = 1, spectral: float = 0.0, by: Arithmetic | None = None
) -> float:
    """What the kernel proves of all outputs."""
    evidence = Local((Rows(tuple(range(problem.size_out)), tree, steps, spectral),))
    return verify(problem, Claim(ENOUGH, evidence, linear=True), by)


def some_pieces(bounded: Bounded, kept: np.ndarray) -> Bounded:
    """Some of the pieces."""

    def some(v: np.ndarray) -> np.ndarray:
        return v if len(v) == 1 < len(bounded.empty) else v[kept]

    def lines_of(of: Lines) -> Lines:
        return Lines(some(of.low_slope), some(of.low_offset), some(of.high_slope), some(of.high_offset))

    net = Net(bounded.net.nodes, x=bounded.net.x, ball=bounded.net.ball)
    net.boxes = [(some(low), some(high)) for low, high in bounded.net.boxes]
    net.slopes = {i: (some(low), some(high)) for i, (low, high) in bounded.net.slopes.items()}
    net.lines = {i: [(s, lines_of(found)) for s, found in each] for i, each in bounded.net.lines.items()}
    return Bounded(net, bounded.empty[kept], bounded.cut_nodes)
