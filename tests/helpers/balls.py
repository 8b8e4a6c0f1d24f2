"""Networks evaluated in ball arithmetic of 300 bits: what they compute, but for errors far below any float64."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction

import numpy as np
from flint import arb, ctx

from lipcert.activations import Activation, LeakyRelu, Sigmoid, Sin, Tanh
from lipcert.activations.groupwise import GroupFunction
from lipcert.activations.householder import Householder
from lipcert.activations.lp_norm import LpNorm, LpNormalise
from lipcert.activations.softmax import LogSoftmax, LogSumExp, Softmax
from lipcert.activations.sorting import GroupMax, GroupSort
from lipcert.activations.standardise import RootMeanSquare, Standardise
from lipcert.graph import Affine, Elementwise, Graph, Groupwise, Input, Product
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
        elif isinstance(node, Elementwise):
            values.append(_each(values[node.input], node.activation))
        elif isinstance(node, Product):
            values.append(values[node.left] * values[node.right])
        else:
            assert isinstance(node, Groupwise)
            values.append(_grouped(rng, values[node.input], node.function))
    return values


def is_within(value: arb, lower: float, upper: float) -> bool:
    """Whether the ball is not certainly outside; NaN bounds hold nothing."""
    return lower <= upper and not (value < arb(lower) or value > arb(upper))


def _grouped(rng: np.random.Generator, values: np.ndarray, function: GroupFunction) -> np.ndarray:
    """The function of each group, one after the other, from its definition."""
    members = []
    if isinstance(function, Householder):
        members = [_balls(member(rng, known)) for known in (function.normals, function.shifts)]
    groups = function.groups(values)
    out = np.empty((*groups.shape[:-1], function.out_width), dtype=object)
    for where in np.ndindex(groups.shape[:-1]):
        out[where] = of_group(function, list(groups[where]), where[-1], *(m[where[-1]] for m in members))
    return out.reshape(*values.shape[:-1], -1)


def of_group(
    function: GroupFunction,
    x: list[arb],
    group: int = 0,
    normal: Sequence[arb] | None = None,
    shift: Sequence[arb] | None = None,
) -> list[arb]:
    """The function of one group of balls, by its definition; a Householder normal and shift may be given."""
    n = len(x)
    if isinstance(function, GroupSort):
        return sorted(x, key=lambda v: v.mid())
    if isinstance(function, GroupMax):
        counted = x if function.present is None else list(itertools.compress(x, function.present[group]))
        return [max(counted, key=lambda v: v.mid())]
    if isinstance(function, Householder):
        s = _balls(function.normals.value[group]) if normal is None else normal
        c = _balls(function.shifts.value[group]) if shift is None else shift
        side = sum((a * b for a, b in zip(s, x, strict=True)), arb(0))
        return [v - b * side for v, b in zip(x, c, strict=True)] if side.mid() > 0 else x
    if isinstance(function, Standardise | RootMeanSquare):
        mean = sum(x, arb(0)) / n if isinstance(function, Standardise) else arb(0)
        centered = [v - mean for v in x]
        root = (sum((v * v for v in centered), arb(0)) / n + arb(function.epsilon)).sqrt()
        return [v / root for v in centered] if n > 1 or isinstance(function, RootMeanSquare) else [arb(0)]
    if isinstance(function, LpNorm | LpNormalise):
        total = sum((abs(v) if function.p == 1 else v * v for v in x), arb(0))
        size = total if function.p == 1 else total.sqrt()
        if isinstance(function, LpNorm):
            return [size]
        size = max(size, arb(function.floor), key=lambda v: v.mid())
        return [v / size for v in x]
    largest = max(x, key=lambda v: v.mid())
    powers = [(v - largest).exp() for v in x]
    total = sum(powers, arb(0))
    if isinstance(function, Softmax):
        return [p / total for p in powers]
    if isinstance(function, LogSoftmax):
        return [v - largest - total.log() for v in x]
    assert isinstance(function, LogSumExp)
    return [largest + total.log()]


def _each(values: np.ndarray, activation: Activation) -> np.ndarray:
    out = np.empty(values.shape, dtype=object)
    out.reshape(-1)[:] = [_phi(activation, v) for v in values.reshape(-1)]
    return out


def _phi(activation: Activation, x: arb) -> arb:
    if isinstance(activation, LeakyRelu):
        return x if x.mid() >= 0 else arb(activation.alpha) * x
    if isinstance(activation, Sigmoid):
        return 1 / (1 + (-x).exp())
    if isinstance(activation, Sin):
        return x.sin()
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
