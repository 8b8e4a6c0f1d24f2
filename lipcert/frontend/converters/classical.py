"""What scikit-learn's exporter puts around a network: scaling and linear models of the ai.onnx.ml domain."""

from __future__ import annotations

import numpy as np

from lipcert.arithmetic.enclosure import Enclosure, exact
from lipcert.frontend.builder import GraphBuilder
from lipcert.frontend.converters.arithmetic import add_constant
from lipcert.frontend.opnode import OpNode
from lipcert.frontend.registry import converter
from lipcert.frontend.values import Value
from lipcert.operators import Dense, size_of


@converter("Scaler", 1, domain="ai.onnx.ml")
def scaler(build: GraphBuilder, node: OpNode) -> Value:
    """(x - offset) scale, by features along the last axis."""
    value = node.real(0)
    features = value.shape[-1] if value.shape else 1
    offset, scale = (_per_feature(node, name, features) for name in ("offset", "scale"))
    centered = add_constant(build, node, value, (-offset).rearrange(lambda a: np.broadcast_to(a, value.shape)))
    return build.scale(node, centered, scale)


@converter("LinearRegressor", 1, domain="ai.onnx.ml")
def linear_regressor(build: GraphBuilder, node: OpNode) -> Value:
    """x W' + intercepts."""
    value = node.real(0)
    if node.attr("post_transform", "NONE") != "NONE" or len(value.shape) != 2:
        node.refuse("a transform of its result, or an input that is no matrix", "use plain ops instead")
    targets = int(node.attr("targets", 1))
    weights = np.asarray(node.required("coefficients"), dtype=float)
    if targets < 1 or weights.size != targets * value.shape[1]:
        node.malformed(f"{weights.size} coefficients for {targets} targets of {value.shape[1]} features")
    shape = (value.shape[0], targets)
    intercepts = np.asarray(node.attr("intercepts", [0.0] * targets), dtype=float)
    if intercepts.size != targets:
        node.malformed(f"{intercepts.size} intercepts for {targets} targets")
    operator = Dense(weights.reshape(targets, -1), 0.0, copies=value.shape[0])
    return build.affine(
        node, [(value, operator)], shape, exact(np.broadcast_to(intercepts, shape).reshape(size_of(shape)))
    )


def _per_feature(node: OpNode, name: str, features: int) -> Enclosure:
    stored = np.asarray(node.required(name), dtype=float)
    if stored.size not in (1, features):
        node.malformed(f"{name} has {stored.size} entries for {features} features")
    return exact(np.broadcast_to(stored, (features,)))
