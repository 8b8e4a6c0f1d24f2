"""What a network really does: values in extended precision, Jacobians and exact operator norms, pairs in a region."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from lipcert.activations import (
    Abs,
    Activation,
    Asinh,
    Atan,
    Clip,
    Cos,
    Cosh,
    Exp,
    LeakyRelu,
    Sigmoid,
    Sin,
    Sinh,
    Sqrt,
    Tanh,
)
from lipcert.activations.householder import Householder
from lipcert.activations.lp_norm import LpNormalise
from lipcert.activations.sorting import GroupMax, GroupSort
from lipcert.arithmetic.enclosure import Enclosure
from lipcert.graph import Affine, Elementwise, Graph, Groupwise, Input, Node, Product
from lipcert.operators import Leaf, LinearOperator
from lipcert.problem import Ball, Box, Norm, Problem, Region
from tests.helpers.operators import map_leaves

NORMS: tuple[Norm, ...] = (1.0, 2.0, math.inf)
NORM_PAIRS = tuple(itertools.product(NORMS, NORMS))

Ratios = dict[tuple[Norm, Norm], float]
"""The largest ratio seen, by the norms in and out."""

DISTANCES = (1.0, 0.1, 1e-2, 1e-4)
"""How far apart pairs are, relative to the region."""

SCALES = (0.1, 1.0, 10.0)
"""How far from the origin points are that may be anywhere."""

ENUMERATED = 10
"""The signs of vectors of at most this many entries are enumerated."""

Batch = dict[str, np.ndarray]


def realise(graph: Graph, rng: np.random.Generator, precision: type[np.floating[Any]] = np.longdouble) -> Graph:
    """One of the networks that a graph with radii stands for: all weights and biases within theirs, often at an end.

    Radii may be smaller than the roundings of float64, so the weights are in extended precision.
    """

    def within(value: np.ndarray, radius: np.ndarray) -> np.ndarray:
        return value.astype(precision) + radius * np.clip(rng.uniform(-2, 2, value.shape), -1, 1)

    def settle(leaf: Leaf) -> LinearOperator:
        if leaf.weights is None or not np.any(leaf.radius):
            return leaf
        return leaf.with_weights(within(leaf.weights, np.broadcast_to(leaf.radius, leaf.weights.shape)))

    def real(node: Node) -> Node:
        if isinstance(node, Affine):
            operators = tuple(map_leaves(op, settle) for op in node.operators)
            return replace(node, operators=operators, bias=Enclosure(within(node.bias.value, node.bias.full_radius())))
        if isinstance(node, Groupwise) and isinstance(node.function, Householder):
            normals, shifts = (
                Enclosure(within(known.value, known.full_radius()))
                for known in (node.function.normals, node.function.shifts)
            )
            return replace(node, function=Householder(normals, shifts))
        return node

    return Graph(tuple(map(real, graph.nodes)), graph.outputs)


def values(graph: Graph, inputs: Batch) -> list[np.ndarray]:
    """The value of every node at a batch of inputs, in the precision of the inputs."""
    found: list[np.ndarray] = []
    for node in graph.nodes:
        if isinstance(node, Affine):
            total = node.bias.value
            for source, op in zip(node.inputs, node.operators, strict=True):
                total = total + op.matvec(found[source])
            found.append(total)
        elif isinstance(node, Elementwise):
            found.append(_applied(node.activation.value, found[node.input], node.activation))
        elif isinstance(node, Groupwise):
            found.append(node.function.value(found[node.input]))
        elif isinstance(node, Product):
            found.append(found[node.left] * found[node.right])
        else:
            assert isinstance(node, Input)
            found.append(inputs[node.name])
    return found


def jacobians(problem: Problem, inputs: Batch) -> tuple[np.ndarray, np.ndarray]:
    """The derivative of y in x at each point of a batch, shape (batch, outputs, inputs), and how far off it may be.

    Right where no kink is.
    """
    at = values(problem.graph, inputs)
    count, n = at[problem.x].shape
    precise = at[problem.x].dtype
    unit = 32 * np.finfo(precise).eps
    start = np.broadcast_to(np.eye(n, dtype=precise), (count, n, n))
    moved: dict[int, tuple[np.ndarray, np.ndarray]] = {problem.x: (start, np.zeros_like(start))}
    for i, node in enumerate(problem.graph.nodes):
        if isinstance(node, Affine):
            pairs = [(s, op) for s, op in zip(node.inputs, node.operators, strict=True) if s in moved]
            if pairs:
                parts = [op.matvec(moved[s][0]) for s, op in pairs]
                sizes = [map_leaves(op, lambda leaf: leaf.magnitude) for _, op in pairs]
                errors = [
                    a.matvec(moved[s][1] + unit * np.abs(moved[s][0])) for (s, _), a in zip(pairs, sizes, strict=True)
                ]
                moved[i] = sum(parts[1:], parts[0]), sum(errors[1:], errors[0])
        elif isinstance(node, Elementwise) and node.input in moved:
            slope = _applied(node.activation.derivative, at[node.input], node.activation)[:, None, :]
            value, error = moved[node.input]
            moved[i] = value * slope, np.abs(slope) * error + _unit(node.activation, precise) * np.abs(value)
        elif isinstance(node, Groupwise) and node.input in moved:
            value, error = moved[node.input]
            here = np.broadcast_to(at[node.input][:, None, :], value.shape)
            off = error + unit * np.abs(value)
            moved[i] = node.function.jvp(here, value), _through_groups(node, at[node.input], off)
        elif isinstance(node, Product):
            factors = ((node.left, node.right), (node.right, node.left))
            known = [(*moved[s], at[other][:, None, :]) for s, other in factors if s in moved]
            if known:
                parts = [value * other for value, _, other in known]
                errors = [(error + unit * np.abs(value)) * np.abs(other) for value, error, other in known]
                moved[i] = sum(parts[1:], parts[0]), sum(errors[1:], errors[0])
    nothing = np.zeros((count, n, problem.size_out))
    value, error = moved.get(problem.y, (nothing, nothing))
    return np.swapaxes(value, 1, 2), np.swapaxes(error, 1, 2)


def operator_norms(matrices: np.ndarray, p: Norm, q: Norm) -> np.ndarray:
    """The norm from l_p to l_q of each matrix of a batch; less than it where there are too many signs to try."""
    if 0 in matrices.shape:
        return np.zeros(len(matrices))
    size = np.abs(matrices).max(axis=(1, 2))
    size = np.where(size == 0, 1.0, size)
    return size * _norms_of_unit_size((matrices / size[:, None, None]).astype(np.float64), p, q)


def _norms_of_unit_size(matrices: np.ndarray, p: Norm, q: Norm) -> np.ndarray:
    if p == 1:
        return np.linalg.norm(matrices, ord=q, axis=1).max(axis=1)
    if q == math.inf:
        return np.linalg.norm(matrices, ord=1 if p == math.inf else 2, axis=2).max(axis=1)
    if p == math.inf:
        return np.linalg.norm(matrices @ _signs(matrices.shape[2]).T, ord=q, axis=1).max(axis=1)
    if q == 1:
        return _norms_of_unit_size(np.swapaxes(matrices, 1, 2), math.inf, 2.0)
    return np.linalg.norm(matrices, ord=2, axis=(1, 2))


def steepest_pairs(problem: Problem, rng: np.random.Generator, count: int) -> Ratios:
    """The largest |f(x) - f(x')|_q / |x - x'|_p over `count` random pairs in the region, and as many at kinks."""
    x, other = random_pairs(problem, rng, count)
    free = _free(problem, rng, count)
    at_kink, beyond, free_there = _to_kinks(problem, rng, x, other, free)
    seen = [_ratios(problem, x, other, free), _ratios(problem, at_kink, beyond, free_there)]
    near = at_kink + (beyond - at_kink) * np.longdouble(1e-4)
    return merge(*seen, _ratios(problem, at_kink, near, free_there))


def steepest_jacobians(problem: Problem, rng: np.random.Generator, count: int) -> Ratios:
    """The largest norm of the Jacobian at `count` random points of the region, less what rounding may have added."""
    x = random_points(problem.query.region, problem.size_in, rng, count).astype(np.longdouble)
    found, errors = jacobians(problem, _with(problem, x, _free(problem, rng, count)))
    return {
        (p, q): float(np.max(operator_norms(found, p, q) - operator_norms(errors, p, q), initial=0.0))
        for p, q in NORM_PAIRS
    }


def merge(*seen: Ratios) -> Ratios:
    """The largest of several."""
    return {pair: max(ratios[pair] for ratios in seen) for pair in NORM_PAIRS}


def random_points(region: Region, n: int, rng: np.random.Generator, count: int) -> np.ndarray:
    """Points of the region, a third of them on its boundary (or corners)."""
    if isinstance(region, Box):
        part = np.clip(rng.uniform(-0.25, 1.25, (count, n)), 0, 1)
        return np.clip(region.lower + part * (region.upper - region.lower), region.lower, region.upper)
    if not isinstance(region, Ball):
        return rng.standard_normal((count, n)) * rng.choice(SCALES, (count, 1))
    offsets = rng.standard_normal((count, n))
    corners = np.arange(count) % 3 == 0
    axes = np.eye(n)[rng.integers(n, size=count)] * np.sign(offsets)
    offsets[corners] = (np.sign(offsets) if region.norm == math.inf else axes)[corners]
    offsets /= np.maximum(np.linalg.norm(offsets, ord=region.norm, axis=1, keepdims=True), 1e-300)
    inward = np.where(rng.random((count, 1)) < 1 / 3, 1.0, rng.random((count, 1)))
    return region.center + offsets * inward * region.eps * (1 - 1e-12)


def random_pairs(problem: Problem, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of points of the region in extended precision, at several distances; some differ along one axis only."""
    region, n = problem.query.region, problem.size_in
    x, target = (random_points(region, n, rng, count).astype(np.longdouble) for _ in range(2))
    along = np.eye(n)[rng.integers(n, size=count)] * (target - x)
    reachable = ~np.isin(np.arange(count) % 3, 0) | ~_contains(region, x + along)
    target = np.where(reachable[:, None], target, x + along)
    return x, x + (target - x) * rng.choice(DISTANCES, (count, 1)).astype(np.longdouble)


def _to_kinks(
    problem: Problem, rng: np.random.Generator, x: np.ndarray, other: np.ndarray, free: Batch
) -> tuple[np.ndarray, np.ndarray, Batch]:
    """Pairs cut at the kink of a random neuron that changes sign between them: the kink, and an end of the pair."""
    graph = problem.graph
    kinked = [(i, sides) for i, node in enumerate(graph.nodes) if (sides := _sides(node)) is not None]
    if not kinked:
        return x[:0], other[:0], {name: v[:0] for name, v in free.items()}
    node, sides = kinked[int(rng.integers(len(kinked)))]
    source = graph.nodes[node].inputs[0]
    neuron = rng.integers(sides(np.zeros((1, graph.size(source)))).shape[1], size=len(x))

    def is_on(points: np.ndarray, inputs: Batch, which: np.ndarray) -> np.ndarray:
        at = values(graph, _with(problem, points, inputs))[source]
        at = sides(np.broadcast_to(at, (len(points), at.shape[-1])))
        return at[np.arange(len(points)), which] > 0

    crosses = is_on(x, free, neuron) != is_on(other, free, neuron)
    x, other, neuron = x[crosses], other[crosses], neuron[crosses]
    free = {name: v[crosses] for name, v in free.items()}
    if not len(x):
        return x, other, free
    left, right = x, other
    starts_on = is_on(x, free, neuron)
    for _ in range(50):
        middle = left / 2 + right / 2
        same = (is_on(middle, free, neuron) == starts_on)[:, None]
        left, right = np.where(same, middle, left), np.where(same, right, middle)
    return np.where(rng.random((len(x), 1)) < 0.5, left, right), np.where(rng.random((len(x), 1)) < 0.5, x, other), free


def _sides(node: Node) -> Callable[[np.ndarray], np.ndarray] | None:
    """Numbers (batch, any) that change sign where the node has a kink, from the values of its input; None if smooth."""
    if isinstance(node, Elementwise) and node.activation.kinks:
        return lambda v: np.concatenate([v - kink for kink in node.activation.kinks], axis=1)
    if not isinstance(node, Groupwise):
        return None
    function = node.function
    if isinstance(function, GroupSort | GroupMax) and function.width > 1:
        return lambda v: (function.groups(v) - np.roll(function.groups(v), 1, axis=-1)).reshape(len(v), -1)
    if isinstance(function, Householder):
        return lambda v: (function.groups(v) * function.normals.value).sum(axis=-1)
    if isinstance(function, LpNormalise) and function.floor:
        return lambda v: np.linalg.norm(function.groups(v), ord=function.p, axis=-1) - function.floor
    return None


def _ratios(problem: Problem, x: np.ndarray, other: np.ndarray, free: Batch) -> Ratios:
    """The largest ratios, less what rounding may have added to them."""
    if not len(x):
        return dict.fromkeys(NORM_PAIRS, 0.0)
    here, there = (values(problem.graph, _with(problem, points, free)) for points in (x, other))
    spare = _rounding(problem.graph, here)[problem.y] + _rounding(problem.graph, there)[problem.y]
    rise = np.maximum(0, np.abs(here[problem.y] - there[problem.y]) - spare)
    run = np.abs(x - other)
    apart = run.any(axis=1)
    rise, run = np.broadcast_to(rise, (len(run), rise.shape[-1]))[apart], run[apart]
    if not len(run):
        return dict.fromkeys(NORM_PAIRS, 0.0)
    return {(p, q): float(np.max(_norms(rise, q) / _norms(run, p))) for p, q in NORM_PAIRS}


def _rounding(graph: Graph, at: list[np.ndarray]) -> list[np.ndarray]:
    """How far from the truth each value may be, at most."""
    unit = 32 * np.finfo(at[0].dtype).eps
    errors: list[np.ndarray] = []
    for i, node in enumerate(graph.nodes):
        error = unit * np.abs(at[i])
        if isinstance(node, Affine):
            for source, op in zip(node.inputs, node.operators, strict=True):
                sizes = map_leaves(op, lambda leaf: leaf.magnitude)
                error = error + sizes.matvec(errors[source] + unit * np.abs(at[source]))
        elif isinstance(node, Elementwise):
            low, high = _range(at[node.input])
            steepest = np.abs(node.activation.slopes(low, high)).max(axis=0)
            sizes = 1 + np.abs(at[i]) + np.abs(at[node.input])
            error = steepest * errors[node.input] + _unit(node.activation, at[i].dtype) * sizes
        elif isinstance(node, Groupwise):
            error = error + _through_groups(node, at[node.input], errors[node.input] + unit * np.abs(at[node.input]))
        elif isinstance(node, Product):
            error = error + np.abs(at[node.left]) * errors[node.right] + np.abs(at[node.right]) * errors[node.left]
        errors.append(error)
    return errors


def _range(v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest of each entry over a batch, in float64."""
    low, high = v.min(axis=0).astype(float), v.max(axis=0).astype(float)
    return np.nextafter(low, -np.inf), np.nextafter(high, np.inf)


def _through_groups(node: Groupwise, at: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """How far off the function is, at most, when its input (batch, n) or directions (batch, k, n) are: its row sums."""
    function = node.function
    rows = np.zeros((len(at), 1, at.shape[1] // function.width, function.out_width), dtype=at.dtype)
    for place in range(function.width):
        along = np.zeros_like(at)
        along[:, place :: function.width] = 1
        rows += np.abs(function.jvp(at, along)).reshape(rows.shape)
    largest = function.groups(errors.reshape(len(at), -1, at.shape[1])).max(axis=-1, keepdims=True)
    return (4 * largest * rows).reshape(*errors.shape[:-1], -1)  # the point is off, too, and may be near a kink


PRECISE = (Abs, Asinh, Atan, Clip, Cos, Cosh, Exp, LeakyRelu, Sigmoid, Sin, Sinh, Sqrt, Tanh)
"""Activations that numpy evaluates in the precision of their argument."""


def _applied(function: Callable[[np.ndarray], np.ndarray], x: np.ndarray, activation: Activation) -> np.ndarray:
    """A function of an activation, in extended precision where it has one."""
    return function(x if isinstance(activation, PRECISE) else x.astype(np.float64)).astype(x.dtype)


def _unit(activation: Activation, dtype: np.dtype[Any]) -> float:
    """The relative precision that an activation is evaluated with in numbers of this type."""
    return 32 * float(np.finfo(dtype if isinstance(activation, PRECISE) else np.float64).eps)


def _with(problem: Problem, x: np.ndarray, free: Batch) -> Batch:
    node = problem.graph.nodes[problem.x]
    assert isinstance(node, Input)
    return {node.name: x, **free}


def _free(problem: Problem, rng: np.random.Generator, count: int) -> Batch:
    """Any values for the inputs that do not vary."""
    graph = problem.graph
    return {
        name: (rng.standard_normal((count, graph.size(i))) * rng.choice(SCALES, (count, 1))).astype(np.longdouble)
        for name, i in graph.inputs.items()
        if i != problem.x
    }


def _contains(region: Region, x: np.ndarray) -> np.ndarray:
    if isinstance(region, Box):
        return np.all((x >= region.lower) & (x <= region.upper), axis=1)
    if isinstance(region, Ball):
        return _norms(np.abs(x - region.center), region.norm) <= region.eps * (1 - 1e-12)
    return np.full(len(x), True)


def _norms(v: np.ndarray, q: Norm) -> np.ndarray:
    """Of non-negative rows, in their own precision (numpy.linalg takes none but float64)."""
    if v.shape[1] == 0:
        return np.zeros(len(v))
    if q == math.inf:
        return v.max(axis=1)
    if q == 1:
        return v.sum(axis=1)
    return np.sqrt((v * v).sum(axis=1))


def _signs(n: int) -> np.ndarray:
    if n <= ENUMERATED:
        return np.array(list(itertools.product((-1.0, 1.0), repeat=n)))
    return np.sign(np.random.default_rng(n).standard_normal((2**ENUMERATED, n)))
