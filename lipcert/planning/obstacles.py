"""Why no bound is finite: the first node that is not Lipschitz over what its input may be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.boxes import Bounds, propagate
from lipcert.graph import Elementwise, Groupwise, Product
from lipcert.methods.boxes import is_implicit
from lipcert.problem import Everywhere, Problem


def find_obstacle(problem: Problem) -> str | None:
    """One sentence that names the node and where its input lies, or None where every node is Lipschitz there."""
    boxes = propagate(replace(problem, equilibria=()), Arithmetic())  # whatever is known of fixed points
    for i, node in enumerate(problem.graph.nodes):
        if isinstance(node, Elementwise):
            low, high = node.activation.slopes(*boxes[node.input])
            bad = np.isinf(low) | np.isinf(high)
            if bad.any():
                lower, upper = boxes[node.input][0][bad], boxes[node.input][1][bad]
                why = node.activation.obstacle(lower, upper) or "its slope is not bounded"
                return f"{node.activation.describe()} (node {node.origin!r}): {why}, {_reach((lower, upper))}"
        elif isinstance(node, Groupwise):
            bound = node.function.jacobian(*boxes[node.input])
            if not np.all(np.isfinite(bound.norms)) and bound.forms is None:
                why = node.function.obstacle(*boxes[node.input])
                return f"{node.function.describe()} (node {node.origin!r}): {why}, {_reach(boxes[node.input])}"
        elif isinstance(node, Product) and problem.graph.size(i):
            infinite = [s for s in node.inputs if not np.all(np.isfinite(boxes[s]))]
            if infinite:
                reach = _reach(boxes[infinite[0]])
                return f"the product at node {node.origin!r}: its factors are not both bounded, {reach}"
    return None


def hint(problem: Problem) -> str:
    if is_implicit(problem) and not problem.equilibria:
        return "where a fixed point lies is not known: --unrolled reads the steps of its Loop"
    if isinstance(problem.query.region, Everywhere):
        return "bound it over a region: --center and --eps, or --box"
    return "choose a smaller region"


def _reach(box: Bounds) -> str:
    return f"and over the region its input may be anywhere in [{box[0].min():.6g}, {box[1].max():.6g}]"
