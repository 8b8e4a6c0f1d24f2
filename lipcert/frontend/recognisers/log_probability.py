"""log sigmoid(x) is -softplus(-x), and log softmax has a name: the logarithm alone is not Lipschitz near 0."""

from __future__ import annotations

import numpy as np

from lipcert.activations import Sigmoid, Softplus
from lipcert.activations.softmax import LogSoftmax, Softmax
from lipcert.arithmetic.enclosure import exact
from lipcert.frontend.builder import GraphBuilder
from lipcert.frontend.opnode import OpNode
from lipcert.frontend.recognisers.miss import Miss
from lipcert.frontend.values import Live, Value
from lipcert.graph import Elementwise, Groupwise
from lipcert.operators import Selection

WHAT = "the logarithm of a probability"


def match(build: GraphBuilder, node: OpNode, probability: Live) -> Value | Miss:
    position, entries = build.source(probability)
    body = build.nodes[position]
    minus = exact(np.array(-1.0))
    if isinstance(body, Elementwise) and isinstance(body.activation, Sigmoid):
        score = build.rearrange(node, Live(body.input, body.shape), lambda t: t.reshape(-1)[entries])
        soft = build.elementwise(node, build.scale(node, score, minus), Softplus())
        return _shaped(build.scale(node, soft, minus), probability)
    if isinstance(body, Groupwise) and isinstance(body.function, Softmax):
        logs = build.groupwise(node, Live(body.input, body.shape), LogSoftmax(body.function.width), body.shape)
        return build.affine(node, [(logs, Selection(entries, logs.size))], probability.shape)
    return Miss(WHAT, "its argument is no sigmoid or softmax")


def _shaped(value: object, like: Live) -> Live:
    assert isinstance(value, Live)
    return Live(value.node, like.shape)
