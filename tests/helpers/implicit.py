"""Implicit networks z = f(W z + U x + b), y = C z + c: their graphs, and their fixed points by trying every pattern."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from lipcert.activations import Activation, Relu
from lipcert.arithmetic.enclosure import exact
from lipcert.graph import Affine, Elementwise, FixedPoint, Graph, Input, Node, Output, State
from lipcert.operators import Dense

OFF = 1e-9
"""How far on the wrong side of a kink a solution may be, for roundings."""


@dataclass(frozen=True, eq=False)
class Implicit:
    """The arrays of one network with ReLU; `b` and `c` are the biases."""

    w: np.ndarray
    u: np.ndarray
    b: np.ndarray
    out: np.ndarray
    c: np.ndarray

    def graph(self, activation: Activation | None = None) -> Graph:
        n, m = self.u.shape
        nodes: tuple[Node, ...] = (
            Input("x", (m,)),
            State((n,), "z"),
            Affine((1, 0), (Dense(self.w), Dense(self.u)), exact(self.b), (n,)),
            Elementwise(2, activation or Relu(), (n,)),
            FixedPoint(1, 3, (n,), "z"),
            Affine((4,), (Dense(self.out),), exact(self.c), (len(self.out),)),
        )
        return Graph(nodes, (Output("y", 5),))

    def solve(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(batch, n) fixed points for ReLU and the patterns (batch, n) of slopes there; each must have exactly one.

        Solutions of several patterns are one where they agree: on a kink.
        """
        n, count = len(self.w), len(x)
        right = x @ self.u.T + self.b
        found, slopes = np.full((count, n), np.nan), np.zeros((count, n))
        for pattern in itertools.product((0.0, 1.0), repeat=n):
            on = np.array(pattern)
            v = np.linalg.solve(np.eye(n) - self.w * on, right.T).T  # v = W D v + U x + b
            size = OFF * (1 + np.abs(v).max(axis=1, keepdims=True))
            fits = np.all(np.where(on > 0, v >= -size, v <= size), axis=1)
            z = v * on
            again = fits & ~np.isnan(found[:, 0])
            assert np.all(np.abs(z[again] - found[again]) <= 1e-6 * (1 + np.abs(z[again]))), "two fixed points"
            found[fits], slopes[fits] = z[fits], on
        assert not np.any(np.isnan(found)), "no fixed point"
        return found, slopes

    def value(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(self.solve(x)[0] @ self.out.T + self.c)

    def jacobian(self, slopes: np.ndarray) -> np.ndarray:
        """(batch, outputs, inputs) for slopes (batch, n)."""
        eye = np.eye(len(self.w))
        moved = np.linalg.solve(eye - slopes[:, :, None] * self.w, slopes[:, :, None] * self.u)
        return np.asarray(self.out @ moved)


def patterns(n: int) -> np.ndarray:
    return np.array(list(itertools.product((0.0, 1.0), repeat=n)))


def is_well_posed(w: np.ndarray) -> bool:
    """Whether I - W has positive principal minors only: then every input has one fixed point with ReLU."""
    n = len(w)
    return bool(np.all(np.linalg.det(np.eye(n) - patterns(n)[:, :, None] * w) > 0))


def random_implicit(
    rng: np.random.Generator, n: int, inputs: int, outputs: int, spread: float = 0.5, turning: float = 1.0
) -> Implicit:
    """With multipliers T for which T (I - W) + its transpose is positive definite, T unequal by `spread`."""
    root, turn = rng.normal(size=(2, n, n))
    t = np.exp(spread * rng.normal(size=n))
    w = np.eye(n) - (0.3 * root @ root.T / n + 0.3 * np.eye(n) + turning * (turn - turn.T)) / t[:, None]
    return Implicit(
        w,
        rng.normal(size=(n, inputs)) / np.sqrt(inputs),
        rng.normal(size=n),
        rng.normal(size=(outputs, n)) / np.sqrt(n),
        rng.normal(size=outputs),
    )


def one_neuron(a: float, u: float = 1.0, c: float = 1.0) -> Implicit:
    """z = relu(a z + u x), y = c z: for a < 1 its constant is |c u| / (1 - a)."""
    return Implicit(np.array([[a]]), np.array([[u]]), np.zeros(1), np.array([[c]]), np.zeros(1))


def without_inputs_or_outputs(w: np.ndarray) -> Implicit:
    """With identities for U and C, and no biases."""
    n = len(w)
    return Implicit(w, np.eye(n), np.zeros(n), np.eye(n), np.zeros(n))
