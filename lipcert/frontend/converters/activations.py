"""Elementwise nonlinearities."""

from __future__ import annotations

import numpy as np

from lipcert.activations import LeakyRelu, Relu, Sigmoid, Tanh
from lipcert.frontend.builder import GraphBuilder
from lipcert.frontend.opnode import OpNode
from lipcert.frontend.registry import converter
from lipcert.frontend.values import Value


@converter("Relu", 6, 13, 14)
def relu(build: GraphBuilder, node: OpNode) -> Value:
    return build.elementwise(node, node.real(0), Relu())


@converter("LeakyRelu", 6, 16)
def leaky_relu(build: GraphBuilder, node: OpNode) -> Value:
    alpha = float(node.attr("alpha", np.float32(0.01)))
    if not np.isfinite(alpha):
        node.malformed(f"alpha is {alpha}")
    return build.elementwise(node, node.real(0), LeakyRelu(alpha))


@converter("Sigmoid", 6, 13)
def sigmoid(build: GraphBuilder, node: OpNode) -> Value:
    return build.elementwise(node, node.real(0), Sigmoid())


@converter("Tanh", 6, 13)
def tanh(build: GraphBuilder, node: OpNode) -> Value:
    return build.elementwise(node, node.real(0), Tanh())
