"""Networks with implicit layers as arrays: values by averaged iteration, Jacobians by the formula, their graphs."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from lipcert.activations import Activation
from lipcert.arithmetic.enclosure import exact
from lipcert.graph import Affine, Elementwise, FixedPoint, Graph, Input, Node, Output, State
from lipcert.operators import Dense, LinearOperator

STEPS = 6000
CONVERGED = 1e-12


@dataclass(frozen=True, eq=False)
class Stage:
    """v = A w + B s + b, w = phi(v), s what comes in; explicit where A is None. `how`: A as another operator."""

    a: np.ndarray | None
    b: np.ndarray
    bias: np.ndarray
    activation: Activation
    how: LinearOperator | None = None


@dataclass(frozen=True, eq=False)
class Network:
    """Stages, then y = C w + c."""

    stages: tuple[Stage, ...]
    out: np.ndarray
    bias: np.ndarray

    @property
    def inputs(self) -> int:
        return self.stages[0].b.shape[1]

    def graph(self) -> Graph:
        nodes: list[Node] = [Input("x", (self.inputs,))]
        for stage in self.stages:
            before, n = len(nodes) - 1, len(stage.bias)
            if stage.a is None:
                nodes.append(Affine((before,), (Dense(stage.b),), exact(stage.bias), (n,)))
                nodes.append(Elementwise(before + 1, stage.activation, (n,)))
                continue
            operators = (stage.how or Dense(stage.a), Dense(stage.b))
            nodes.append(State((n,), "z"))
            nodes.append(Affine((before + 1, before), operators, exact(stage.bias), (n,)))
            nodes.append(Elementwise(before + 2, stage.activation, (n,)))
            nodes.append(FixedPoint(before + 1, before + 3, (n,), "z"))
        nodes.append(Affine((len(nodes) - 1,), (Dense(self.out),), exact(self.bias), (len(self.out),)))
        return Graph(tuple(nodes), (Output("y", len(nodes) - 1),))

    def run(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(K, outputs) values, (K, outputs, inputs) Jacobians, and how near a kink each point comes; NaN: no value."""
        flow, moved = x, np.broadcast_to(np.eye(x.shape[1]), (len(x), x.shape[1], x.shape[1]))
        near = np.full(len(x), np.inf)
        for stage in self.stages:
            u = flow @ stage.b.T + stage.bias
            v = u if stage.a is None else iterated(stage, u)
            slopes = stage.activation.derivative(v)
            inner = stage.b @ moved
            if stage.a is not None:
                inner = np.linalg.solve(np.eye(len(stage.bias)) - stage.a * slopes[:, None, :], inner)
            flow, moved = stage.activation.value(v), slopes[:, :, None] * inner
            for kink in stage.activation.kinks:
                near = np.minimum(near, np.abs(v - kink).min(axis=1))
        return flow @ self.out.T + self.bias, self.out @ moved, near


@np.errstate(over="ignore", invalid="ignore")  # some shares do not converge
def iterated(stage: Stage, u: np.ndarray) -> np.ndarray:
    """v by averaged iteration, with a share of its own for each point; NaN where it does not converge."""
    assert stage.a is not None
    w = np.zeros_like(u)
    found = np.full(u.shape, np.nan)
    for share in (0.5, 0.1, 0.02):
        open_points = np.flatnonzero(np.isnan(found[:, 0]))
        w = np.zeros((len(open_points), u.shape[1]))
        for step in range(STEPS if open_points.size else 0):
            moved = stage.activation.value(w @ stage.a.T + u[open_points]) - w
            w = w + share * moved
            if step % 20 == 0 and np.all(np.abs(moved) <= CONVERGED * (1 + np.abs(w))):
                break
        v = w @ stage.a.T + u[open_points]
        good = np.all(np.abs(stage.activation.value(v) - w) <= 1e-10 * (1 + np.abs(w)), axis=1)
        found[open_points[good]] = v[good]
    return found


def contracting(rng: np.random.Generator, n: int, rate: float = 0.8, slope: float = 1.0) -> np.ndarray:
    """A whose majorant, for slopes in [0, slope] or [-slope, slope], has this spectral radius; rows badly scaled."""
    a = rng.normal(size=(n, n)) * (rng.random((n, n)) < 0.8)
    size = np.abs(np.linalg.eigvals(np.abs(a))).max() + 1e-9
    scale = np.exp(rng.normal(size=n))
    return np.asarray(a * (rate / size / slope) * scale[:, None] / scale)


def monotone(rng: np.random.Generator, n: int, margin: float = 0.3) -> np.ndarray:
    """A with 2 T - T A - A' T > 0 for unequal T, which as a rule does not contract in l-infinity."""
    root, turn = rng.normal(size=(2, n, n))
    t = np.exp(0.7 * rng.normal(size=n))
    return np.asarray(np.eye(n) - (0.5 * root @ root.T / n + margin * np.eye(n) + 0.5 * (turn - turn.T)) / t[:, None])


def affine(inputs: tuple[int, ...], *matrices: Any, bias: np.ndarray | None = None) -> Affine:
    """An affine node of dense matrices."""
    written = [np.array(matrix, dtype=float) for matrix in matrices]
    n = len(written[0])
    return Affine(inputs, tuple(map(Dense, written)), exact(np.zeros(n) if bias is None else bias), (n,))


def determinants(a: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Of I - A diag(s) at the corners of the slopes: of one sign exactly where it is regular for all of them."""
    n = len(a)
    ends = np.array(list(itertools.product((0, 1), repeat=n)))
    slopes = np.where(ends == 0, low, high)
    return np.asarray(np.linalg.det(np.eye(n) - a * slopes[:, None, :]))
