"""The linear matrix inequality of a chain of layers, written out from the matrices of templates, for cvxpy.

Coordinates are (dx, dw_1, dw_2 ..); v is eliminated: dv_1 = W_1 dx, dv_2 = W_2 dw_1, dy = W_last dw.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cvxpy as cp
import numpy as np

from lipcert.activations import Abs, LeakyRelu
from lipcert.activations.householder import Householder
from lipcert.activations.sorting import GroupMax, GroupSort
from lipcert.arithmetic.enclosure import exact
from lipcert.graph import Affine, Elementwise, Graph, Groupwise, Input, Node, Output
from lipcert.operators import Dense
from lipcert.templates import Template

TIGHT = {"tol_gap_rel": 1e-9, "tol_gap_abs": 1e-9, "tol_feas": 1e-9, "max_iter": 500}
"""Clarabel's tolerances."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer of groups of one size that obey a template; `parameters` (groups, size) has a row for each group."""

    weights: np.ndarray
    template: Template
    group: int
    parameters: Mapping[str, np.ndarray] = field(default_factory=dict)

    def of_group(self, i: int) -> dict[str, np.ndarray]:
        return {key: rows[i] for key, rows in self.parameters.items()}

    @property
    def groups(self) -> int:
        return len(self.weights) // self.group

    @property
    def returned(self) -> int:
        return self.groups * self.template.returned(self.group)


def lipschitz(layers: Sequence[Layer], last: np.ndarray, *, eliminate: bool = False) -> float:
    """The square root of the least rho, over all multipliers; eliminate: dw is replaced by what is not linear."""
    constraints: list[Any] = []
    rho = cp.Variable(nonneg=True)
    matrices = [[_variable(layer, i, constraints, eliminate)[0] for i in range(layer.groups)] for layer in layers]
    form = inequality(layers, last, rho, matrices, eliminate)
    problem = cp.Problem(cp.Minimize(rho), [(form + form.T) / 2 >> 0, *constraints])
    _solve(problem)
    return math.sqrt(problem.value)


def centre(layers: Sequence[Layer], last: np.ndarray, rho: float) -> list[list[dict[str, float]]]:
    """Multipliers of every group, with which the inequality without linear directions has most room at this rho."""
    room = cp.Variable()
    found = [[_variable(layer, i, [], eliminate=True) for i in range(layer.groups)] for layer in layers]
    form = inequality(layers, last, rho, [[matrix for matrix, _ in groups] for groups in found], eliminate=True)
    _solve(cp.Problem(cp.Maximize(room), [(form + form.T) / 2 - room * np.eye(form.shape[0]) >> 0]))
    return [[{key: float(v.value) for key, v in variables.items()} for _, variables in groups] for groups in found]


def inequality(
    layers: Sequence[Layer], last: np.ndarray, rho: Any, matrices: Sequence[Sequence[Any]], eliminate: bool = False
) -> Any:
    """rho |dx|^2 - |dy|^2 - the sum of the forms of all groups, `matrices` by layer and group: numbers or variables."""
    maps, y = _maps(layers, last, eliminate)
    first = np.eye(layers[0].weights.shape[1], y.shape[1])
    form = rho * (first.T @ first) - y.T @ y
    for layer, (v, w), groups in zip(layers, maps, matrices, strict=True):
        k, m = layer.group, layer.template.returned(layer.group)
        for i, matrix in enumerate(groups):
            z = np.vstack([v[i * k : (i + 1) * k], w[i * m : (i + 1) * m]])
            form = form - z.T @ matrix @ z
    return form


def _variable(layer: Layer, i: int, constraints: list[Any], eliminate: bool) -> tuple[Any, dict[str, Any]]:
    """The matrix of one group, and its multipliers as variables; eliminate: without those that then vanish."""
    template, parameters = layer.template, layer.of_group(i)
    signs = template.signs(layer.group)
    basis = template.basis(layer.group, **parameters)
    if eliminate and not template.is_complete:
        basis = {key: basis[key] for key in template.reduced_basis(layer.group, **parameters)}
    variables = {key: cp.Variable(nonneg=signs[key] == "nonnegative") for key in basis}
    total = sum(variables[key] * part for key, part in basis.items())
    for condition in template.conditions(layer.group, **parameters):
        constraints.append(condition.sign * condition.columns.T @ total @ condition.columns >> 0)
    return total, variables


def _solve(problem: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "inaccurate": the tests say how close it must be
        problem.solve(solver=cp.CLARABEL, **TIGHT)


def _maps(
    layers: Sequence[Layer], last: np.ndarray, eliminate: bool
) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """(dv, dw) of each layer and dy as matrices over the coordinates."""
    kept = [_elimination(layer) if eliminate else _nothing(layer) for layer in layers]
    n = layers[0].weights.shape[1]
    total = n + sum(onto.shape[1] for _, onto in kept)
    before, at, maps = np.eye(n, total), n, []
    for layer, (through, onto) in zip(layers, kept, strict=True):
        v = layer.weights @ before
        w = through @ v
        w[:, at : at + onto.shape[1]] += onto
        maps.append((v, w))
        before, at = w, at + onto.shape[1]
    return maps, last @ before


def _nothing(layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((layer.returned, len(layer.weights))), np.eye(layer.returned)


def _elimination(layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    parts = [layer.template.elimination(layer.group, **layer.of_group(i)) for i in range(layer.groups)]
    return _diagonal([part.through for part in parts]), _diagonal([part.onto for part in parts])


def _diagonal(blocks: Sequence[np.ndarray]) -> np.ndarray:
    rows, columns = (sum(b.shape[i] for b in blocks) for i in (0, 1))
    found, row, column = np.zeros((rows, columns)), 0, 0
    for b in blocks:
        found[row : row + len(b), column : column + b.shape[1]] = b
        row, column = row + len(b), column + b.shape[1]
    return found


def graph_of(layers: Sequence[Layer], last: np.ndarray) -> Graph:
    """The network that the layers are about, for lipcert itself."""
    nodes: list[Node] = [Input("x", (layers[0].weights.shape[1],))]
    for layer in layers:
        size = len(layer.weights)
        nodes.append(Affine((len(nodes) - 1,), (Dense(layer.weights),), exact(np.zeros(size)), (size,)))
        nodes.append(_activation(layer, len(nodes) - 1))
    nodes.append(Affine((len(nodes) - 1,), (Dense(last),), exact(np.zeros(len(last))), (len(last),)))
    return Graph(tuple(nodes), (Output("y", len(nodes) - 1),))


def _activation(layer: Layer, at: int) -> Node:
    shape = (layer.returned,)
    match layer.template.name:
        case "slope_restricted":
            return Elementwise(at, LeakyRelu(float(layer.parameters["a"][0, 0])), shape)
        case "abs":
            return Elementwise(at, Abs(), shape)
        case "householder":
            normals = layer.parameters["h"]
            return Groupwise(at, Householder(exact(normals), exact(2 * normals)), shape)
        case "max_pool_pairs":
            return Groupwise(at, GroupMax(2), shape)
        case _:
            return Groupwise(at, GroupSort(layer.group), shape)
