"""Batch normalisation at inference: a diagonal and a bias."""

from __future__ import annotations

import numpy as np

from lipcert.arithmetic.enclosure import Enclosure, exact
from lipcert.frontend.builder import GraphBuilder
from lipcert.frontend.opnode import OpNode
from lipcert.frontend.registry import converter
from lipcert.frontend.values import Value
from lipcert.operators import Diagonal


@converter("BatchNormalization", 7, 9, 14, 15)
def batch_normalization(build: GraphBuilder, node: OpNode) -> Value:
    """scale (x - mean) / sqrt(var + epsilon) + bias, per channel."""
    if node.attr("training_mode", 0) or len(node.outputs) > 1:
        node.refuse("training mode", "export the model in evaluation mode (model.eval())")
    if node.since == 7 and not node.attr("spatial", 1):
        node.refuse("spatial=0", "use per-channel statistics")
    value = node.real(0)
    names = ("scale", "bias", "mean", "variance")
    gain, bias, mean, variance = (node.known(i, name).data for i, name in enumerate(names, start=1))
    channels = value.shape[1] if len(value.shape) > 1 else 1
    if any(p.shape != (channels,) for p in (gain, bias, mean, variance)):
        node.malformed(f"its parameters do not have {channels} entries each")
    epsilon = exact(float(node.attr("epsilon", float(np.float32(1e-5)))))
    try:
        factor = gain / (variance + epsilon).sqrt()
    except (ValueError, ZeroDivisionError):
        node.malformed("variance + epsilon is not positive")
    spread_factor = _per_channel(factor, value.shape)
    diagonal = Diagonal(spread_factor.value, spread_factor.radius)
    return build.affine(node, [(value, diagonal)], value.shape, _per_channel(bias - mean * factor, value.shape))


def _per_channel(data: Enclosure, shape: tuple[int, ...]) -> Enclosure:
    column = (1, -1, *(1 for _ in shape[2:])) if len(shape) > 1 else (-1,)
    return data.rearrange(lambda p: np.broadcast_to(p.reshape(column), shape).reshape(-1))
