"""torch's softplus: x where beta x > 20, else log(1 + exp(beta x)) / beta.

At the threshold it jumps by at most exp(-15) / beta, which is the exporter's way to avoid an overflow and not the
function meant: softplus itself is certified, and a note says so.
"""

from __future__ import annotations

import numpy as np

from lipcert.activations import Softplus
from lipcert.frontend.affine_form import affine_form
from lipcert.frontend.builder import GraphBuilder
from lipcert.frontend.opnode import OpNode
from lipcert.frontend.recognisers.miss import Miss
from lipcert.frontend.values import Known, Live, Value
from lipcert.graph import Elementwise

WHAT = "a softplus with a threshold"
LEAST = 15.0
"""Beyond this, log(1 + exp(x)) - x < 4e-7."""
NEAR = 1e-6


def match(build: GraphBuilder, node: OpNode, score: Live, a: Live | Known, b: Live | Known) -> Value | Miss:
    """a where score > 0, else b."""
    if not (isinstance(a, Live) and isinstance(b, Live)):
        return Miss(WHAT, "a branch is constant")
    below = affine_form(build.nodes, b.node)
    found = below.single()
    position = None if found is None else below.node_of(found[0])
    body = None if position is None else build.nodes[position]
    if found is None or position is None or not isinstance(body, Elementwise):
        return Miss(WHAT, "neither branch is a softplus")
    if not isinstance(body.activation, Softplus) or np.any(below.bias):
        return Miss(WHAT, "neither branch is a softplus")
    entries = below.within(position, found[0])
    argument = affine_form(build.nodes, body.input)
    above, threshold = affine_form(build.nodes, a.node), affine_form(build.nodes, score.node)
    meant = argument.matrix[entries].multiply(found[1][:, None]).tocsr()
    shift = argument.bias[entries] * found[1]
    if _differ(above.matrix, meant) or not np.allclose(above.bias, shift, rtol=NEAR, atol=0):
        return Miss(WHAT, "the other branch is not what softplus tends to")
    if _differ(threshold.matrix, argument.matrix[entries]):
        return Miss(WHAT, "the condition does not compare softplus's argument with a constant")
    limit = argument.bias[entries] - threshold.bias
    if np.any(limit < LEAST):
        return Miss(WHAT, f"its threshold {float(limit.min()):g} is below {LEAST:g}")
    build.notes.append(f"{node.label} is read as softplus: it switches to the identity at {float(limit.min()):g}")
    return b


def _differ(left: object, right: object) -> bool:
    difference = abs(left - right)  # type: ignore[operator]
    return bool(difference.nnz) and float(difference.max()) > NEAR * float(abs(right).max())  # type: ignore[arg-type]
