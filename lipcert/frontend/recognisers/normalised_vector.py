"""x / max(|x|_p, epsilon), as torch.nn.functional.normalize exports it: a norm, Clip, Expand and Div."""

from __future__ import annotations

import numpy as np

from lipcert.activations import Clip
from lipcert.activations.lp_norm import LpNorm, LpNormalise
from lipcert.frontend.builder import GraphBuilder
from lipcert.frontend.opnode import OpNode
from lipcert.frontend.recognisers.miss import Miss
from lipcert.frontend.values import Live, Value
from lipcert.graph import Elementwise, Groupwise
from lipcert.operators import Selection

WHAT = "a vector divided by its norm"


def match(build: GraphBuilder, node: OpNode, x: Live, divisor: Live) -> Value | Miss:
    position, entries = build.source(divisor)
    body = build.nodes[position]
    floor = 0.0
    if isinstance(body, Elementwise) and isinstance(body.activation, Clip):
        clip = body.activation
        if not (np.ndim(clip.low) == 0 and np.isfinite(clip.low) and clip.low >= 0 and np.all(np.isinf(clip.high))):
            return Miss(WHAT, f"the norm passes through {clip.describe()}")
        floor = float(clip.low)
        position, moved = build.source(Live(body.input, build.nodes[body.input].shape))
        entries = moved[entries]
        body = build.nodes[position]
    if not (isinstance(body, Groupwise) and isinstance(body.function, LpNorm)):
        return Miss(WHAT, "the divisor is no norm")
    width = body.function.width
    start, members = build.source(Live(body.input, build.nodes[body.input].shape))
    own, mine = build.source(x)
    if own != start:
        return Miss(WHAT, "the norm is that of another tensor")
    groups = members.reshape(-1, width)
    # every entry of x must lie in the group whose norm divides it
    inside = groups[entries] == mine[:, None]
    if not np.all(inside.sum(axis=1) == 1):
        return Miss(WHAT, "an entry is divided by a norm that it is not part of")
    result = build.groupwise(
        node, Live(body.input, (groups.size,)), LpNormalise(width, body.function.p, floor), (groups.size,)
    )
    assert isinstance(result, Live)
    place = entries * width + inside.argmax(axis=1)
    return build.affine(node, [(result, Selection(place, result.size))], x.shape)
