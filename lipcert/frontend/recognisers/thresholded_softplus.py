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
NO_SOFTPLUS = Miss(WHAT, "neither branch is a softplus")
LEAST = 15.0
"""Beyond this, log(1 + exp(x)) - x < 4e-7."""
NEAR = 1e-12
"""Relative difference of coefficients that a division and a multiplication make."""


def match(build: GraphBuilder, node: OpNode, score: Live, a: Live | Known, b: Live | Known) -> Value | Miss:
    """a where score > 0, else b: softplus and its limit, in either order."""
    if not (isinstance(a, Live) and isinstance(b, Live)):
        return Miss(WHAT, "a branch is constant")
    found = _match(build, node, score, a, b, 1.0)
    return _match(build, node, score, b, a, -1.0) if found == NO_SOFTPLUS else found


def _match(build: GraphBuilder, node: OpNode, score: Live, limit: Live, soft: Live, sign: float) -> Value | Miss:
    """`soft` is the softplus; `limit` is taken where sign * score > 0."""
    below = affine_form(build.nodes, soft.node)
    found = below.single()
    position = None if found is None else below.node_of(found[0])
    body = None if position is None else build.nodes[position]
    if found is None or position is None or not isinstance(body, Elementwise):
        return NO_SOFTPLUS
    if not isinstance(body.activation, Softplus) or np.any(below.bias):
        return NO_SOFTPLUS
    entries = below.within(position, found[0])
    argument = affine_form(build.nodes, body.input)
    above, threshold = affine_form(build.nodes, limit.node), affine_form(build.nodes, score.node)
    meant = argument.matrix[entries].multiply(found[1][:, None]).tocsr()
    if np.any(argument.bias) or np.any(above.bias) or _differ(above.matrix, meant):
        return Miss(WHAT, "the other branch is not what softplus tends to")
    if _differ(sign * threshold.matrix, argument.matrix[entries]):
        return Miss(WHAT, "the condition does not compare softplus's argument with a constant")
    switch = -sign * threshold.bias
    if np.any(switch < LEAST):
        return Miss(WHAT, f"its threshold {float(switch.min()):g} is below {LEAST:g}")
    build.notes.append(f"{node.label} is read as softplus: it switches to the identity at {float(switch.min()):g}")
    return soft


def _differ(left: object, right: object) -> bool:
    """Whether any coefficient is another, relative to itself."""
    return bool((abs(left - right) > NEAR * abs(right)).nnz)  # type: ignore[arg-type,operator]
