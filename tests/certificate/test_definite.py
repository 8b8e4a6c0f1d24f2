"""Positive definiteness is never claimed falsely: compared with elimination in exact arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from lipcert.certificate.definite import is_positive_definite
from tests.helpers.exact import is_semidefinite
from tests.helpers.operators import as_fractions


def is_definite_exactly(matrix: np.ndarray) -> bool:
    return is_semidefinite(matrix if matrix.dtype == object else as_fractions(matrix), strictly=True)


def symmetric(a: np.ndarray) -> np.ndarray:
    return np.tril(a) + np.tril(a, -1).T


def almost_singular(rng: np.random.Generator, smallest: float, scaled: bool) -> np.ndarray:
    """A symmetric matrix whose smallest eigenvalue is about `smallest`, between others of any size."""
    n = int(rng.integers(2, 10))
    q = np.linalg.qr(rng.normal(size=(n, n)))[0]
    eigenvalues = np.concatenate([[smallest], 10.0 ** -rng.uniform(0, 3, size=n - 1)])
    a = symmetric((q * eigenvalues) @ q.T)
    d = 2.0 ** rng.integers(-15, 15, size=n) if scaled else np.ones(n)
    return a * np.outer(d, d)


def test_almost_singular_matrices_are_never_falsely_positive() -> None:
    fooled = proven = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        a = almost_singular(rng, float(rng.choice([-1, 0, 1])) * 10.0 ** -rng.uniform(11.5, 17.5), bool(seed % 2))
        truly = is_definite_exactly(a)
        if is_positive_definite(a, np.zeros(len(a))):
            proven += 1
            assert truly, seed
        fooled += not truly and completes(a)
    assert fooled > 10, "plain Cholesky is right about all of these: they are no test"
    assert proven > 20


def arrow(n: int, part: float) -> tuple[np.ndarray, Fraction]:
    """[[I, v], [v', a]] with v = (1, t, ..., t), and a - |v|^2, whose sign decides.

    t^2 is below half a unit of 1, so that a sum of squares that starts at the 1 loses each of them.
    """
    v = np.array([1.0] + [math.sqrt(0.9 * 2.0**-54)] * (n - 2))
    a = 1.0 + part * float(v[1:] @ v[1:])
    matrix = np.eye(n)
    matrix[-1, :-1] = matrix[:-1, -1] = v
    matrix[-1, -1] = a
    return matrix, Fraction(a) - sum(x * x for x in as_fractions(v))


def test_roundings_that_all_go_one_way_are_accounted_for() -> None:
    fooled = 0
    for n in (50, 200, 500):
        for part in np.linspace(0, 1.1, 23):
            a, decisive = arrow(n, float(part))
            fooled += decisive < 0 and completes(a)
            assert decisive > 0 or not is_positive_definite(a, np.zeros(n)), (n, part)
    assert fooled, "plain Cholesky is right about all of these: they are no test"


@pytest.mark.parametrize("smallest", [1e-14, -1e-14])
def test_a_smallest_eigenvalue_of_1e_14_is_not_taken_for_its_opposite(smallest: float) -> None:
    for seed in range(60):
        a = almost_singular(np.random.default_rng(seed), smallest, False)
        assert not is_positive_definite(a, np.zeros(len(a))) or is_definite_exactly(a)
        assert smallest > 0 or not is_positive_definite(a, np.zeros(len(a)))


def test_exactly_singular_matrices_are_refused() -> None:
    for seed in range(100):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(2, 9))
        g = rng.integers(-4, 5, size=(n, n - 1)).astype(float)
        assert not is_positive_definite(g @ g.T, np.zeros(n))


def completes(a: np.ndarray) -> bool:
    try:
        np.linalg.cholesky(a)
    except np.linalg.LinAlgError:
        return False
    return True


@pytest.mark.parametrize("relative", [1e-15, 1e-8, 1e-3])
def test_every_matrix_within_the_residual_is_definite(relative: float) -> None:
    """The worst: eigenvalues lowered by the whole residual, on the diagonal or spread over a row."""
    proven = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        a = almost_singular(rng, relative * rng.uniform(0.3, 3), False)
        n = len(a)
        residual = relative * rng.uniform(0.5, 1, size=n)
        if not is_positive_definite(a, residual):
            continue
        proven += 1
        lowest = np.linalg.eigh(a)[1][:, 0]
        spread = -np.outer(np.sign(lowest), np.sign(lowest)) * residual.min() / n
        for change in (-np.diag(residual), symmetric(spread)):
            assert np.all(as_fractions(np.abs(change)).sum(axis=1) <= as_fractions(residual) * Fraction(1 + 1e-12))
            assert is_definite_exactly(as_fractions(a) + as_fractions(change) * Fraction(1 - 1e-12)), seed
    assert proven >= 5


def test_well_conditioned_matrices_are_proven() -> None:
    for n in (1, 2, 30, 300):
        a = symmetric(np.random.default_rng(n).normal(size=(n, n))) / (4 * math.sqrt(n)) + np.eye(n)
        assert is_positive_definite(a, np.full(n, 1e-10))
        assert is_positive_definite(a * 1e-100, np.zeros(n))


BASE = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.1], [0.0, 0.1, 3.0]])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [(0, 0), (2, 2), (1, 0), (2, 0), (2, 1)])
def test_what_is_not_finite_is_refused(bad: float, place: tuple[int, int]) -> None:
    a = BASE.copy()
    a[place] = a[place[::-1]] = bad
    assert is_positive_definite(BASE, np.zeros(3))
    with np.errstate(invalid="ignore"):
        assert not is_positive_definite(a, np.zeros(3))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_residual_that_is_not_finite_is_refused(bad: float) -> None:
    assert not is_positive_definite(BASE, np.array([0.0, bad, 0.0]))


def test_what_is_not_symmetric_is_refused() -> None:
    for place in ((0, 1), (2, 0), (1, 2)):
        a = BASE.copy()
        a[place] = np.nextafter(a[place], 1)
        assert not is_positive_definite(a, np.zeros(3))


@pytest.mark.parametrize("entry", [0.0, -0.0, -1e-300, -1.0, 5e-324])
def test_a_diagonal_that_is_not_clearly_positive_is_refused(entry: float) -> None:
    for i in range(3):
        a = np.diag([1.0, 2.0, 3.0])
        a[i, i] = entry
        assert not is_positive_definite(a, np.zeros(3))
