"""Layer norm spelt out: (x - mean) / sqrt(mean((x - mean)^2) + epsilon), as exporters write it before opset 17.

The root mean square norm is the same without the mean; torch writes it as a product with a reciprocal.
"""

from __future__ import annotations

import numpy as np

from lipcert.activations import Power, Sqrt
from lipcert.activations.standardise import RootMeanSquare, Standardise
from lipcert.frontend.builder import GraphBuilder
from lipcert.frontend.opnode import OpNode
from lipcert.frontend.recognisers.miss import Miss
from lipcert.frontend.values import Live, Value
from lipcert.graph import Affine, Elementwise
from lipcert.operators import Diagonal, Identity, LinearOperator, Product, Reduction, Selection

WHAT = "a layer norm"


def match(build: GraphBuilder, node: OpNode, centered: Live, divisor: Live) -> Value | Miss:
    """The divisor is a root of (a mean of squares of `centered`, plus epsilon); `centered` may subtract that mean.

    Without the subtraction it is a root mean square norm.
    """
    position, entries = build.source(divisor)
    root = build.nodes[position]
    if not (isinstance(root, Elementwise) and isinstance(root.activation, Sqrt)):
        return Miss(WHAT, "the divisor is no square root")
    return standardised(build, node, centered, root.input, entries)


def standardised(build: GraphBuilder, node: OpNode, centered: Live, under: int, entries: np.ndarray) -> Value | Miss:
    """`centered` over the root of node `under`, entry i of it over the root of its entry entries[i]."""
    shifted = build.nodes[under]
    epsilon = shifted.bias.value if isinstance(shifted, Affine) and shifted.bias.is_exact else np.zeros(0)
    if not (epsilon.size and np.all(epsilon == epsilon[0]) and epsilon[0] > 0):
        return Miss(WHAT, "no positive epsilon is added under the root")
    averaged = mean_of(build, under)
    if averaged is None:
        return Miss(WHAT, "the root is not that of a mean")
    squares, groups = averaged
    body = build.nodes[squares]
    if not (isinstance(body, Elementwise) and isinstance(body.activation, Power) and body.activation.n == 2):
        return Miss(WHAT, "the mean is not that of squares")
    if body.input != centered.node:
        return Miss(WHAT, "the squares are of another tensor")
    inside = groups[entries] == np.arange(centered.size)[:, None]
    if not np.all(inside.sum(axis=1) == 1):
        return Miss(WHAT, "an entry is divided by the deviation of another group")
    x = _centering(build, centered.node, groups)
    width = groups.shape[1]
    function = RootMeanSquare(width, float(epsilon[0])) if x is None else Standardise(width, float(epsilon[0]))
    start = Live(centered.node if x is None else x, (centered.size,))
    grouped = build.rearrange(node, start, lambda t: t[groups.reshape(-1)])
    result = build.groupwise(node, grouped, function, (groups.size,))
    assert isinstance(result, Live)
    place = entries * width + inside.argmax(axis=1)
    return build.affine(node, [(result, Selection(place, result.size))], centered.shape)


def mean_of(build: GraphBuilder, position: int) -> tuple[int, np.ndarray] | None:
    """The node that `position` averages (plus a constant), and the entries of each mean."""
    moving: list[LinearOperator] = []
    while not any(isinstance(op, Reduction) for op in moving):
        node = build.nodes[position]
        if not isinstance(node, Affine) or len(node.inputs) != 1 or (moving and node.bias.value.any()):
            return None
        part = node.operators[0]
        factors = part.factors if isinstance(part, Product) else (part,)
        moving += [op for op in factors if not isinstance(op, Identity)]
        position = node.inputs[0]
    scale, reduction = moving[0], moving[-1]
    if len(moving) != 2 or not isinstance(scale, Diagonal) or not isinstance(reduction, Reduction):
        return None
    width = reduction.count
    if not _is_one_over(scale, width):
        return None
    table = np.arange(reduction.in_size).reshape(reduction.in_shape)
    kept = [a for a in range(table.ndim) if a not in reduction.axes]
    return position, table.transpose((*kept, *reduction.axes)).reshape(-1, width)


def _is_one_over(scale: Diagonal, n: int) -> bool:
    """Whether the weights are 1/n: enclosed within roundings, or exactly where 1/n is a float."""
    radius = np.broadcast_to(np.asarray(scale.radius, dtype=float), scale.weights.shape)
    exact = (radius == 0) & (scale.weights * n == 1) & (n & (n - 1) == 0)
    enclosed = (radius > 0) & (radius * n < 1e-14) & (np.abs(scale.weights - 1 / n) <= radius)
    return bool(np.all(exact | enclosed))


def _centering(build: GraphBuilder, position: int, groups: np.ndarray) -> int | None:
    """The node x with `position` = x - (its mean over the groups, spread)."""
    node = build.nodes[position]
    if not (isinstance(node, Affine) and len(node.inputs) == 2 and not node.bias.value.any()):
        return None
    x, mean = node.inputs
    if not isinstance(node.operators[0], Identity):
        return None
    operator = node.operators[1]
    factors = operator.factors if isinstance(operator, Product) else (operator,)
    sign = [f for f in factors if isinstance(f, Diagonal)]
    spread = [f for f in factors if isinstance(f, Selection)]
    if len(sign) != 1 or len(sign) + len(spread) != len(factors) or not np.all(sign[0].weights == -1):
        return None
    index = spread[0].index if spread else np.arange(len(groups))
    averaged = mean_of(build, mean)
    if len(spread) > 1 or averaged is None or averaged[0] != x or not np.array_equal(averaged[1], groups):
        return None
    # the mean that is subtracted from an entry must be that of its own group
    return x if np.all((groups[index] == np.arange(node.bias.value.size)[:, None]).any(axis=1)) else None
