"""Scaled dot-product attention: softmax(scale Q K') V, a chain of products and a softmax."""

from __future__ import annotations

import numpy as np

from lipcert.activations import Tanh
from lipcert.activations.softmax import Softmax
from lipcert.arithmetic.enclosure import Enclosure, exact
from lipcert.frontend.builder import GraphBuilder, broadcast_shape
from lipcert.frontend.converters.arithmetic import add_constant
from lipcert.frontend.converters.matmul import tensor_product
from lipcert.frontend.opnode import OpNode
from lipcert.frontend.registry import converter
from lipcert.frontend.values import Integers, Known, Live, Value


@converter("Attention", 23, 24, 25)
def attention(build: GraphBuilder, node: OpNode) -> tuple[Value | None, ...]:
    """Without a cache and without hidden positions (causal or boolean masks), which softmax of -inf would need."""
    if any(node.has_input(i) for i in range(4, len(node.inputs))):
        node.refuse("past keys or lengths", "export the model without a cache")
    if node.attr("is_causal", 0):
        node.refuse("is_causal=1", "only attention to all positions is supported")
    if max(int(node.attr(name, -1)) for name in ("left_window_size", "right_window_size")) >= 0:
        node.refuse("a sliding window", "only attention to all positions is supported")
    q, k, v = (_heads(build, node, i, name) for i, name in enumerate(("q_num_heads", "kv_num_heads", "kv_num_heads")))
    k, v = (_repeated(build, node, part, q.shape[1]) for part in (k, v))
    batch, heads, length, width = q.shape
    if k.shape[:2] != (batch, heads) or k.shape[3] != width or v.shape[:3] != k.shape[:3]:
        node.malformed(f"Q, K and V have shapes {list(q.shape)}, {list(k.shape)} and {list(v.shape)}")
    # the default, 1 / sqrt(width), is irrational: enclosed
    scale = exact(np.array(float(node.required("scale")))) if node.has_attr("scale") else _inverse_root(width)
    keys = build.rearrange(node, k, lambda t: t.swapaxes(2, 3))
    scores = build.scale(node, tensor_product(build, node, q, keys, (batch, heads, length, k.shape[2])), scale)
    cap = float(node.attr("softcap", 0.0))
    if cap:
        small = build.elementwise(node, build.scale(node, scores, exact(np.array(1.0)) / exact(np.array(cap))), Tanh())
        scores = build.scale(node, small, exact(np.array(cap)))
    scores = _masked(build, node, scores)
    weights = build.groupwise(node, scores, Softmax(scores.shape[3]), scores.shape)
    result = tensor_product(build, node, weights, v, (batch, heads, length, v.shape[3]))
    if len(node.real(0).shape) == 3:
        joined = (batch, length, heads * v.shape[3])
        result = build.rearrange(node, result, lambda t: t.swapaxes(1, 2).reshape(joined))
    return result, None, None, None


def _heads(build: GraphBuilder, node: OpNode, i: int, attribute: str) -> Live | Known:
    """Input i as (batch, heads, length, width)."""
    value, heads = node.real(i), int(node.attr(attribute, 0))
    if len(value.shape) == 4:
        return value
    if len(value.shape) != 3 or heads < 1 or value.shape[2] % heads:
        node.malformed(f"input {i} of shape {list(value.shape)} does not split into {heads} heads")
    batch, length, width = value.shape
    return build.rearrange(node, value, lambda t: t.reshape(batch, length, heads, width // heads).swapaxes(1, 2))


def _repeated(build: GraphBuilder, node: OpNode, value: Live | Known, heads: int) -> Live | Known:
    """Keys and values of a group of heads, repeated for each."""
    own = value.shape[1]
    if own == heads:
        return value
    if heads % own:
        node.malformed(f"{own} heads of keys for {heads} of queries")
    return build.rearrange(node, value, lambda t: np.repeat(t, heads // own, axis=1))


def _masked(build: GraphBuilder, node: OpNode, scores: Live | Known) -> Live | Known:
    if not node.has_input(3):
        return scores
    mask = node.input(3)
    if isinstance(mask, Integers):
        if not mask.data.all():
            node.refuse("a mask that hides positions", "only attention to all positions is supported")
        return scores
    added = node.known(3, "mask").data
    if broadcast_shape(node, scores.shape, added.shape) != scores.shape:
        node.malformed(f"a mask of shape {list(added.shape)} for scores of shape {list(scores.shape)}")
    spread = added.rearrange(lambda a: np.broadcast_to(a, scores.shape))
    return add_constant(build, node, scores, spread.reshape((scores.size,)))


def _inverse_root(width: int) -> Enclosure:
    return exact(np.array(1.0)) / exact(np.array(float(width))).sqrt()
