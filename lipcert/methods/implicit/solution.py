"""Values and derivatives of implicit layers in float64, many points at a time: Newton's method, not rounded safely."""

from __future__ import annotations

import numpy as np

from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.implicit import Layer, layers_of
from lipcert.graph import Affine, Elementwise, FixedPoint, Groupwise, Input, Product, State
from lipcert.problem import Problem

STEPS = 100
SHORTEST = 1e-4
ENTRIES = 2**24
"""Of matrices that are solved at a time."""


def solution_near(layer: Layer, u: np.ndarray) -> np.ndarray | None:
    """v = A phi(v) + u for one u, up to rounding; None where it is not found."""
    found = solutions(layer, u[None])[0]
    return found if np.all(np.isfinite(found)) else None


def solutions(layer: Layer, u: np.ndarray) -> np.ndarray:
    """(K, n) the same for many u; NaN where none is found."""
    step = max(1, ENTRIES // layer.size**2)
    return np.concatenate([_newton(layer, u[i : i + step]) for i in range(0, len(u), step)]) if len(u) else u


@np.errstate(over="ignore", invalid="ignore")
def _newton(layer: Layer, u: np.ndarray) -> np.ndarray:
    """Newton's method; steps are halved, point by point, where the residual would grow."""
    a, phi = layer.matrix.value, layer.activation
    v = u.copy()
    rest = v - phi.value(v) @ a.T - u
    size = np.abs(rest).max(axis=1)
    moving = np.ones(len(u), dtype=bool)
    for _ in range(STEPS):
        moving &= size > 1e-14 * (1 + np.abs(v).max(axis=1))
        if not moving.any():
            break
        at = np.flatnonzero(moving)
        try:
            step = solve_rows(a, phi.derivative(v[at]), rest[at])
        except np.linalg.LinAlgError:
            break
        share = np.ones(len(at))
        while at.size:
            tried = v[at] - share[:, None] * step
            left = tried - phi.value(tried) @ a.T - u[at]
            found = np.abs(left).max(axis=1)
            better = found < size[at]
            v[at[better]], rest[at[better]], size[at[better]] = tried[better], left[better], found[better]
            share = share / 2
            gone = share < SHORTEST
            moving[at[gone & ~better]] = False
            at, step, share = at[~better & ~gone], step[~better & ~gone], share[~better & ~gone]
    v[~(size <= 1e-9 * (1 + np.abs(v).max(axis=1)))] = np.nan
    return v


def solve_rows(a: np.ndarray, slopes: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(I - A diag(s))^-1 r for each row."""
    matrices = np.eye(len(a)) - a * slopes[:, None, :]
    return np.asarray(np.linalg.solve(matrices, right[:, :, None])[:, :, 0])


def values_at(problem: Problem, points: np.ndarray, by: Arithmetic) -> list[np.ndarray]:
    """Of every node at points (K, size_in), as Problem.values gives them; NaN behind a solution that is not found."""
    layers = layers_of(problem.graph, by)
    values: list[np.ndarray] = []
    for i, node in enumerate(problem.graph.nodes):
        if isinstance(node, State):
            layer = layers[i]
            u = layer.bias.value + sum(op.matvec(values[source]) for source, op in layer.sources)
            u = np.broadcast_to(u, (len(points), layer.size))
            v = solutions(layer, u)
            value = layer.scale.matvec(np.where(np.isnan(v), np.nan, layer.activation.value(v)))
        elif isinstance(node, FixedPoint):
            value = values[node.state]
        elif isinstance(node, Input):
            value = points if i == problem.x else np.zeros((len(points), problem.graph.size(i)))
        elif isinstance(node, Affine):
            parts = [op.matvec(values[s]) for s, op in zip(node.inputs, node.operators, strict=True)]
            value = sum(parts, start=np.broadcast_to(node.bias.value, (len(points), problem.graph.size(i))))
        elif isinstance(node, Elementwise):
            value = node.activation.value(values[node.input])
        elif isinstance(node, Groupwise):
            value = node.function.value(values[node.input])
        elif isinstance(node, Product):
            value = values[node.left] * values[node.right]
        else:
            raise TypeError("an increment has no value")
        values.append(value)
    return values
