"""Normalisation layers: batch norm is linear, the others are groupwise functions between linear ops."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lipcert.activations.groupwise import GroupFunction
from lipcert.activations.lp_norm import LpNormalise
from lipcert.activations.softmax import LogSoftmax, Softmax
from lipcert.activations.standardise import RootMeanSquare, Standardise
from lipcert.arithmetic.enclosure import Enclosure, exact
from lipcert.frontend.builder import GraphBuilder, broadcast_shape
from lipcert.frontend.converters.arithmetic import add_constant
from lipcert.frontend.opnode import OpNode
from lipcert.frontend.registry import converter
from lipcert.frontend.values import Known, Live, Value
from lipcert.operators import Diagonal, Shape, size_of


@converter("BatchNormalization", 7, 9, 14, 15)
def batch_normalization(build: GraphBuilder, node: OpNode) -> Value:
    """scale (x - mean) / sqrt(var + epsilon) + bias, per channel."""
    if node.attr("training_mode", 0) or sum(map(bool, node.outputs)) > 1:
        node.refuse("training mode", "export the model in evaluation mode (model.eval())")
    if node.since == 7 and not node.attr("spatial", 1):
        node.refuse("spatial=0", "use per-channel statistics")
    value = node.real(0)
    names = ("scale", "bias", "mean", "variance")
    gain, bias, mean, variance = (node.known(i, name).data for i, name in enumerate(names, start=1))
    channels = value.shape[1] if len(value.shape) > 1 else 1
    if any(p.shape != (channels,) for p in (gain, bias, mean, variance)):
        node.malformed(f"its parameters do not have {channels} entries each")
    try:
        factor = gain / (variance + exact(_epsilon(node))).sqrt()
    except (ValueError, ZeroDivisionError):
        node.malformed("variance + epsilon is not positive")
    spread_factor = _per_channel(factor, value.shape)
    diagonal = Diagonal(spread_factor.value, spread_factor.radius)
    return build.affine(node, [(value, diagonal)], value.shape, _per_channel(bias - mean * factor, value.shape))


@converter("LayerNormalization", 17)
def layer_normalization(build: GraphBuilder, node: OpNode) -> Value:
    """Standardised over the axes from `axis` on, times scale, plus bias."""
    if sum(map(bool, node.outputs)) > 1:
        node.refuse("its mean or inverse deviation is used", "only its first output is supported")
    value = node.real(0)
    rank = len(value.shape)
    axis = node.axis(int(node.attr("axis", -1)), rank)
    width = size_of(value.shape[axis:])
    result = _in_groups(build, node, value, tuple(range(axis, rank)), Standardise(width, _epsilon(node)))
    return _scaled(build, node, result, 1, 2)


@converter("RMSNormalization", 23)
def rms_normalization(build: GraphBuilder, node: OpNode) -> Value:
    """Divided by the root mean square over the axes from `axis` on, times scale."""
    value = node.real(0)
    rank = len(value.shape)
    axis = node.axis(int(node.attr("axis", -1)), rank)
    function = RootMeanSquare(size_of(value.shape[axis:]), _epsilon(node))
    return _scaled(build, node, _in_groups(build, node, value, tuple(range(axis, rank)), function), 1, 2)


@converter("InstanceNormalization", 6, 22)
def instance_normalization(build: GraphBuilder, node: OpNode) -> Value:
    """Standardised over space, for each map; times scale, plus bias, per channel."""
    value = node.real(0)
    if len(value.shape) < 3:
        node.malformed(f"a tensor of shape {list(value.shape)} has no spatial axes")
    axes = tuple(range(2, len(value.shape)))
    function = Standardise(size_of(value.shape[2:]), _epsilon(node))
    result = _in_groups(build, node, value, axes, function)
    gain, bias = (_channel_column(node, node.known(i, what).data, value.shape) for i, what in ((1, "scale"), (2, "B")))
    return _shifted(build, node, build.scale(node, result, gain), bias)


@converter("GroupNormalization", 18, 21)
def group_normalization(build: GraphBuilder, node: OpNode) -> Value:
    """Standardised over groups of channels and space; scale and bias per group (opset 18) or per channel (21)."""
    value = node.real(0)
    groups = int(node.required("num_groups"))
    if len(value.shape) < 2 or groups < 1 or value.shape[1] % groups:
        node.malformed(f"{groups} groups for a tensor of shape {list(value.shape)}")
    width = size_of(value.shape[1:]) // groups
    result = build.groupwise(node, value, Standardise(width, _epsilon(node)), value.shape)
    parts = []
    for i, what in ((1, "scale"), (2, "bias")):
        data = node.known(i, what).data
        if node.since == 18:
            if data.shape != (groups,):
                node.malformed(f"a {what} of shape {list(data.shape)} for {groups} groups")
            data = data.rearrange(lambda a: np.repeat(a, value.shape[1] // groups))
        parts.append(_channel_column(node, data, value.shape))
    return _shifted(build, node, build.scale(node, result, parts[0]), parts[1])


@converter("Softmax", 1, 11, 13)
def softmax(build: GraphBuilder, node: OpNode) -> Value:
    return _softmax(build, node, Softmax)


@converter("LogSoftmax", 1, 11, 13)
def log_softmax(build: GraphBuilder, node: OpNode) -> Value:
    return _softmax(build, node, LogSoftmax)


@converter("LpNormalization", 1, 22)
def lp_normalization(build: GraphBuilder, node: OpNode) -> Value:
    value = node.real(0)
    p = int(node.attr("p", 2))
    if p not in (1, 2):
        node.malformed(f"p is {p}, not 1 or 2")
    axis = node.axis(int(node.attr("axis", -1)), len(value.shape))
    return _in_groups(build, node, value, (axis,), LpNormalise(value.shape[axis], p))


def _softmax(build: GraphBuilder, node: OpNode, function: Callable[[int], GroupFunction]) -> Value:
    value = node.real(0)
    rank = len(value.shape)
    if not rank:
        node.malformed("its input is a scalar, without axes")
    axis = node.axis(int(node.attr("axis", -1 if node.since >= 13 else 1)), rank)
    # before opset 13 the axes from `axis` on are one
    axes = (axis,) if node.since >= 13 else tuple(range(axis, rank))
    return _in_groups(build, node, value, axes, function(size_of(tuple(value.shape[a] for a in axes))))


def _in_groups(
    build: GraphBuilder, node: OpNode, value: Live | Known, axes: tuple[int, ...], function: GroupFunction
) -> Live | Known:
    """The function over some axes of a tensor, whose shape it keeps."""
    order = [*(a for a in range(len(value.shape)) if a not in axes), *axes]
    back = np.argsort(order)
    moved = build.rearrange(node, value, lambda t: t.transpose(order))
    result = build.groupwise(node, moved, function, moved.shape)
    return build.rearrange(node, result, lambda t: t.transpose(back))


def _scaled(build: GraphBuilder, node: OpNode, value: Live | Known, gain: int, bias: int) -> Live | Known:
    """value times input `gain`, plus input `bias`, where present; both broadcast to it."""
    for i, what in ((gain, "scale"), (bias, "bias")):
        if node.has_input(i) and broadcast_shape(node, value.shape, node.known(i, what).shape) != value.shape:
            node.malformed(f"its {what} does not broadcast to {list(value.shape)}")
    if node.has_input(gain):
        value = build.scale(node, value, node.known(gain, "scale").data)
    return _shifted(build, node, value, node.known(bias, "bias").data) if node.has_input(bias) else value


def _shifted(build: GraphBuilder, node: OpNode, value: Live | Known, constant: Enclosure) -> Live | Known:
    return add_constant(build, node, value, constant.rearrange(lambda a: np.broadcast_to(a, value.shape)))


def _channel_column(node: OpNode, data: Enclosure, shape: Shape) -> Enclosure:
    if data.shape != (shape[1],):
        node.malformed(f"parameters of shape {list(data.shape)} for {shape[1]} channels")
    return data.reshape((1, -1, *(1 for _ in shape[2:])))


def _per_channel(data: Enclosure, shape: Shape) -> Enclosure:
    column = (1, -1, *(1 for _ in shape[2:])) if len(shape) > 1 else (-1,)
    return data.rearrange(lambda p: np.broadcast_to(p.reshape(column), shape).reshape(-1))


def _epsilon(node: OpNode) -> float:
    epsilon = float(node.attr("epsilon", float(np.float32(1e-5))))
    if epsilon < 0:
        node.malformed(f"epsilon is {epsilon}")
    return epsilon
