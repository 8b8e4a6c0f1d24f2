"""x sigmoid(x) as most exporters write it, told by its nodes alone: whatever the size of the tensor."""

from __future__ import annotations

from lipcert.activations import Sigmoid, Silu
from lipcert.frontend.builder import GraphBuilder
from lipcert.frontend.opnode import OpNode
from lipcert.frontend.recognisers.miss import Miss
from lipcert.frontend.values import Live, Value
from lipcert.graph import Elementwise

WHAT = "a silu"


def match(build: GraphBuilder, node: OpNode, x: Live, gate: Live) -> Value | Miss:
    body = build.nodes[gate.node]
    if isinstance(body, Elementwise) and isinstance(body.activation, Sigmoid) and body.input == x.node:
        return build.elementwise(node, x, Silu())
    return Miss(WHAT, "the other factor is not the sigmoid of the same tensor")
