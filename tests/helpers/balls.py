"""Networks evaluated in ball arithmetic of 300 bits: what they compute, but for errors far below any float64."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction

import numpy as np
from flint import arb, ctx

from lipcert.activations import Activation, LeakyRelu, Sigmoid, Tanh
from lipcert.graph import Affine, Elementwise, Graph, Input
from tests.helpers.exact import member, member_weights
from tests.helpers.operators import map_leaves


@contextmanager
def precision(bits: int = 300) -> Iterator[None]:
    before, ctx.prec = ctx.prec, bits
    try:
        yield
    finally:
        ctx.prec = before


def member_values(rng: np.random.Generator, graph: Graph, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Every node's value, as balls, for one of the networks within the radii, at inputs in floats or Fractions."""
    values: list[np.ndarray] = []
    for node in graph.nodes:
        if isinstance(node, Input):
            values.append(_balls(inputs[node.name]))
        elif isinstance(node, Affine):
            total = _balls(member(rng, node.bias))
            for source, op in zip(node.inputs, node.operators, strict=True):
                weights = member_weights(rng, op)
                settled = map_leaves(
                    op, lambda leaf, w=weights: leaf.with_weights(_balls(w[id(leaf)])) if id(leaf) in w else leaf
                )
                total = total + settled.matvec(values[source])
            values.append(total)
        else:
            assert isinstance(node, Elementwise)
            values.append(_each(values[node.input], node.activation))
    return values


def is_within(value: arb, lower: float, upper: float) -> bool:
    """Whether the ball is not certainly outside; NaN bounds hold nothing."""
    return lower <= upper and not (value < arb(lower) or value > arb(upper))


def _each(values: np.ndarray, activation: Activation) -> np.ndarray:
    out = np.empty(values.shape, dtype=object)
    out.reshape(-1)[:] = [_phi(activation, v) for v in values.reshape(-1)]
    return out


def _phi(activation: Activation, x: arb) -> arb:
    if isinstance(activation, LeakyRelu):
        return x if x.mid() >= 0 else arb(activation.alpha) * x
    if isinstance(activation, Sigmoid):
        return 1 / (1 + (-x).exp())
    assert isinstance(activation, Tanh)
    return x.tanh()


def _balls(array: np.ndarray) -> np.ndarray:
    out = np.empty(np.shape(array), dtype=object)
    out.reshape(-1)[:] = [_ball(v) for v in np.reshape(array, -1)]
    return out


def _ball(number: float | Fraction) -> arb:
    if isinstance(number, Fraction):
        return arb(number.numerator) / arb(number.denominator)
    return arb(float(number))
