"""Multipliers that couple neurons of a layer (LipSDP-Network of Fazlyab et al. 2019) do not hold for increments.

Their family is T = sum_i l_ii e_i e_i' + sum_{i<j} l_ij (e_i - e_j)(e_i - e_j)', l >= 0, in 2 dw' T (dv - dw) >= 0.
The coupled term takes dw_i to be one function of dv_i, the same for all neurons; but two neurons whose inputs rise
alike may be on different sides of the kink. Pauli, Koch, Berberich, Kohler, Allgoewer 2021 say so; here are numbers.
"""

from __future__ import annotations

import math

import cvxpy as cp
import numpy as np
import pytest

COUPLING = np.array([[1, -1], [-1, 1]])
"""l_12 = 1: (e_1 - e_2)(e_1 - e_2)'."""

# y = relu(3 x) - relu(2 x - 6): from x = 0 to x = 1 it rises by 3.
FIRST, BIAS, LAST = np.array([[3], [2]]), np.array([0, -6]), np.array([[1, -1]])


def relu(v: np.ndarray) -> np.ndarray:
    return np.maximum(v, 0)


def form(t: np.ndarray, v: np.ndarray, other: np.ndarray) -> float:
    """2 dw' T (dv - dw) of a ReLU layer between two points."""
    dv, dw = v - other, relu(v) - relu(other)
    return float(2 * dw @ t @ (dv - dw))


def test_the_form_is_negative_between_two_points() -> None:
    """From (0, -6) to (3, -4) only the first neuron moves: dv = (3, 2), dw = (3, 0)."""
    assert form(COUPLING, np.array([3, -4]), np.array([0, -6])) == -12
    assert form(np.eye(2), np.array([3, -4]), np.array([0, -6])) == 0
    # the diagonal terms l_11 = l_22 = 1 do not make up for it
    assert form(COUPLING + np.eye(2), np.array([3, -4]), np.array([0, -6])) == -12


def test_many_points_violate_it_and_none_the_diagonal_one() -> None:
    rng = np.random.default_rng(0)
    pairs = rng.normal(size=(2000, 2, 2))
    negative = np.mean([form(COUPLING, v, other) < 0 for v, other in pairs])
    assert negative > 0.2
    assert all(form(np.diag(rng.uniform(size=2)), v, other) >= -1e-12 for v, other in pairs)


def test_the_coupled_inequality_proves_1_for_a_network_that_attains_3() -> None:
    x, other = np.array([1]), np.array([0])
    rise = LAST @ relu(FIRST @ x + BIAS) - LAST @ relu(FIRST @ other + BIAS)
    assert rise.tolist() == [3]
    # T = COUPLING, rho = 1: the matrix is (1, -1, 1)(1, -1, 1)', in whole numbers
    matrix = coupled(1, COUPLING)
    assert matrix.tolist() == np.outer([1, -1, 1], [1, -1, 1]).tolist()


def coupled(rho: float, t: np.ndarray) -> np.ndarray:
    """[[rho, -W1' T], [-T W1, 2 T - W2' W2]]."""
    return np.block([[np.array([[rho]]), -FIRST.T @ t], [-t @ FIRST, 2 * t - LAST.T @ LAST]])


def optimum(couple: bool) -> float:
    """The square root of the least rho, with and without l_12."""
    rho, diagonal, between = cp.Variable((1, 1)), cp.Variable(2, nonneg=True), cp.Variable(nonneg=True)
    t = cp.diag(diagonal) + (between * COUPLING if couple else 0)
    matrix = cp.bmat([[rho, -FIRST.T @ t], [-t @ FIRST, 2 * t - LAST.T @ LAST]])
    problem = cp.Problem(cp.Minimize(rho[0, 0]), [(matrix + matrix.T) / 2 >> 0])
    return math.sqrt(float(problem.solve(solver=cp.CLARABEL)))


def test_the_coupled_optimum_is_a_third_of_what_is_attained_and_the_diagonal_one_is_not_below() -> None:
    assert optimum(couple=True) == pytest.approx(1, abs=1e-6)
    assert optimum(couple=False) >= 3 * (1 - 1e-6)
