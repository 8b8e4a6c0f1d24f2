"""What exporters write for one function in several nodes. One rule a file; each returns the function, or why not.

Pairs need no rule: GraphBuilder.sorted_pairs makes MaxMin of any max and min of the same entries, and affine spellings
(batch norm, normalised weights, residual blocks, NHWC transposes) become operators by themselves.
"""

from __future__ import annotations

from lipcert.activations import Log, Power, Reciprocal
from lipcert.frontend.builder import GraphBuilder
from lipcert.frontend.opnode import OpNode
from lipcert.frontend.recognisers import (
    gated,
    householder,
    layer_norm,
    log_probability,
    normalised_vector,
    piecewise,
    plain_silu,
    reciprocal_root,
    thresholded_softplus,
)
from lipcert.frontend.recognisers.miss import Miss
from lipcert.frontend.values import Known, Live, Value

MAX_COMPARED = 2**20
"""Entries of tensors that rules compare one by one."""

PRODUCT_RULES = (plain_silu.match, gated.match, reciprocal_root.match)
QUOTIENT_RULES = (normalised_vector.match, layer_norm.match)
WHERE_RULES = (thresholded_softplus.match, householder.match, piecewise.match)


def read_product(build: GraphBuilder, node: OpNode, a: Live, b: Live) -> Value:
    """The product of two tensors that depend on the input: a gated activation, a square, or a bilinear node."""
    if a == b:
        return build.elementwise(node, a, Power(2))
    a, b = _together(build, node, a, b)
    rules = PRODUCT_RULES if a.size <= MAX_COMPARED else (plain_silu.match,)
    misses = []
    for rule in rules:
        for x, gate in ((a, b), (b, a)):
            found = rule(build, node, x, gate)
            if not isinstance(found, Miss):
                return _matched(build, node, found)
            misses.append(found)
    build.unrecognised.append(f"{node.label} stays a product: {_because(misses)}")
    return build.product(node, a, b)


def read_logarithm(build: GraphBuilder, node: OpNode, x: Live) -> Value:
    """The logarithm of a tensor that depends on the input: of a probability, or plainly."""
    found = log_probability.match(build, node, x)
    if not isinstance(found, Miss):
        return _matched(build, node, found)
    build.unrecognised.append(f"{node.label} stays a logarithm: {_because([found])}")
    return build.elementwise(node, x, Log())


def read_quotient(build: GraphBuilder, node: OpNode, a: Live, b: Live) -> Value:
    """A tensor divided by another: a normalisation, or the product with a reciprocal."""
    a, b = _together(build, node, a, b)
    misses = []
    for rule in QUOTIENT_RULES:
        found = rule(build, node, a, b)
        if not isinstance(found, Miss):
            return _matched(build, node, found)
        misses.append(found)
    build.unrecognised.append(f"{node.label} stays a quotient: {_because(misses)}")
    inverse = build.elementwise(node, b, Reciprocal())
    assert isinstance(inverse, Live)
    return build.product(node, a, inverse)


def read_where(build: GraphBuilder, node: OpNode, score: Live, a: Live | Known, b: Live | Known) -> Value:
    """a where score > 0, else b: only where the two meet at score = 0, or nearly (an idiom)."""
    misses = []
    if score.size > MAX_COMPARED:
        node.refuse(f"a choice between {score.size} entries", f"at most {MAX_COMPARED} are compared")
    for rule in WHERE_RULES:
        found = rule(build, node, score, a, b)
        if not isinstance(found, Miss):
            return _matched(build, node, found)
        misses.append(found)
    node.refuse(
        f"a choice that depends on the input: {_because(misses)}",
        "lipcert bounds continuous choices only; a jump has no Lipschitz constant",
    )


def _because(misses: list[Miss]) -> str:
    return "; ".join(dict.fromkeys(f"not {miss.what}, since {miss.reason}" for miss in misses))


def _matched(build: GraphBuilder, node: OpNode, found: Value) -> Value:
    build.rewritten.add(node.outputs[0])
    return found


def _together(build: GraphBuilder, node: OpNode, a: Live, b: Live) -> tuple[Live, Live]:
    from lipcert.frontend.builder import broadcast_shape

    shape = broadcast_shape(node, a.shape, b.shape)
    node.sized(shape)
    left, right = build.spread(node, a, shape), build.spread(node, b, shape)
    assert isinstance(left, Live)
    assert isinstance(right, Live)
    return left, right
