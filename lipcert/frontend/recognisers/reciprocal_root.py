"""x times 1 / sqrt(mean(x^2) + epsilon): a normalisation spelt as a product."""

from __future__ import annotations

from lipcert.activations import Reciprocal, Sqrt
from lipcert.frontend.builder import GraphBuilder
from lipcert.frontend.opnode import OpNode
from lipcert.frontend.recognisers.layer_norm import standardised
from lipcert.frontend.recognisers.miss import Miss
from lipcert.frontend.values import Live, Value
from lipcert.graph import Elementwise

WHAT = "a normalisation"


def match(build: GraphBuilder, node: OpNode, x: Live, factor: Live) -> Value | Miss:
    position, entries = build.source(factor)
    inverse = build.nodes[position]
    if not (isinstance(inverse, Elementwise) and isinstance(inverse.activation, Reciprocal)):
        return Miss(WHAT, "the factor is no reciprocal")
    inner, moved = build.source(Live(inverse.input, build.nodes[inverse.input].shape))
    root = build.nodes[inner]
    if not (isinstance(root, Elementwise) and isinstance(root.activation, Sqrt)):
        return Miss(WHAT, "the factor is not the reciprocal of a root")
    return standardised(build, node, x, root.input, moved[entries])
