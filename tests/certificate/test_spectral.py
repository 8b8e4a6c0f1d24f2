"""Spectral norms are never claimed below those of any matrix within the radius: compared with exact elimination."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from lipcert.arithmetic.enclosure import Enclosure, exact
from lipcert.certificate.balls import spectral_bound_holds
from lipcert.certificate.definite import gram_form
from tests.helpers.exact import is_semidefinite, member, norm_is_at_most
from tests.helpers.operators import as_fractions

Prove = Callable[[Enclosure, float], bool]
SEEDS = range(30)
NEAR = [0.0, *(sign * 10.0**-k for k in range(8, 18) for sign in (1, -1))]


def in_float64(matrix: Enclosure, sigma: float) -> bool:
    return gram_form(matrix).proves(sigma)


either_way = pytest.mark.parametrize("prove", [in_float64, spectral_bound_holds], ids=["float64", "balls"])


def random_matrix(rng: np.random.Generator, kind: str) -> np.ndarray:
    m, n = (int(k) for k in rng.integers(1, 8, size=2))
    a = rng.normal(size=(m, n))
    if kind == "rank one":
        return np.outer(a[:, 0], a[0])
    if kind == "repeated":
        return np.vstack([a, a[:1], -a[:1]])
    if kind == "ill-conditioned":
        return a * 10.0 ** -rng.uniform(0, 12, size=(m, 1)) * 10.0 ** -rng.uniform(0, 6, size=n)
    if kind == "orthogonal":
        return np.linalg.qr(rng.normal(size=(m, m)))[0]
    if kind == "hilbert":
        return 1 / (1 + np.arange(m)[:, None] + np.arange(n))
    if kind == "integers":
        return rng.integers(-3, 4, size=(m, n)).astype(float)
    if kind == "sparse":
        return a * (rng.random((m, n)) < 0.3)
    return a * {"random": 1.0, "tiny": 1e-30, "huge": 1e30}[kind]


KINDS = [
    "random",
    "rank one",
    "repeated",
    "ill-conditioned",
    "orthogonal",
    "hilbert",
    "integers",
    "sparse",
    "tiny",
    "huge",
]


@either_way
@pytest.mark.parametrize("kind", KINDS)
def test_no_sigma_below_the_norm_is_proven(kind: str, prove: Prove) -> None:
    """At the norm itself, a few roundings beside it, and further away."""
    proven = 0
    for seed in SEEDS:
        w = random_matrix(np.random.default_rng(seed), kind)
        norm = float(np.linalg.norm(w, 2))
        for offset in NEAR:
            sigma = norm * (1 + offset)
            if prove(exact(w), sigma):
                proven += 1
                assert norm_is_at_most(as_fractions(w), 2, 2, sigma), (seed, offset)
    assert proven > len(SEEDS) * 4


@either_way
@pytest.mark.parametrize("kind", KINDS)
def test_a_sigma_above_the_norm_by_1e_8_is_proven(kind: str, prove: Prove) -> None:
    for seed in SEEDS:
        w = random_matrix(np.random.default_rng(seed), kind)
        assert prove(exact(w), float(np.linalg.norm(w, 2)) * (1 + 1e-8))


@pytest.mark.parametrize("shape", [(300, 40), (40, 300), (200, 200)])
def test_larger_matrices_are_proven_at_1e_9(shape: tuple[int, int]) -> None:
    w = np.random.default_rng(0).normal(size=shape)
    norm = float(np.linalg.norm(w, 2))
    form = gram_form(exact(w))
    assert form.proves(norm * (1 + 1e-9))
    assert not form.proves(norm * (1 - 1e-13))


def worst_members(rng: np.random.Generator, w: np.ndarray, radius: np.ndarray) -> list[np.ndarray]:
    """Members of the radius whose norm is large: corners aligned with leading singular vectors, and random ones."""
    found = [member(rng, Enclosure(w, radius)) for _ in range(3)]
    corner = w
    for _ in range(3):
        u, _, v = np.linalg.svd(corner)
        corner = w + radius * np.sign(np.outer(u[:, 0], v[0]))
        found.append(as_fractions(w) + as_fractions(radius) * np.sign(np.outer(u[:, 0], v[0])).astype(int))
    return found


@either_way
@pytest.mark.parametrize("size", [1e-16, 1e-9, 0.1, 2.0])
@pytest.mark.parametrize("kind", ["random", "rank one", "ill-conditioned", "sparse", "tiny", "huge"])
def test_no_sigma_below_the_norm_of_a_member_is_proven(kind: str, size: float, prove: Prove) -> None:
    proven = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        w = random_matrix(rng, kind)
        radius = size * np.abs(w) * rng.random(w.shape) if seed % 2 else size * np.full(w.shape, np.abs(w).max())
        worst = worst_members(rng, w, radius)
        norms = [float(np.linalg.norm(t.astype(float), 2)) for t in worst]
        bound = math.sqrt(np.linalg.norm(w, 2) ** 2 + np.max(gram_error(w, radius))) * (1 + 1e-8)
        for sigma in (*norms, max(norms) * (1 - 1e-12), max(norms) * (1 + 1e-12), bound):
            if prove(Enclosure(w, radius), sigma):
                proven += 1
                assert all(norm_is_at_most(t, 2, 2, sigma) for t in worst), (seed, sigma)
        if prove is in_float64:
            assert prove(Enclosure(w, radius), bound)
    assert proven > 0


def gram_error(w: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Row sums of R |W|' + |W| R', R included in |W|."""
    if w.shape[0] > w.shape[1]:
        w, radius = w.T, radius.T
    cross = radius @ (np.abs(w) + radius).T
    return (cross + cross.T).sum(axis=1)


@either_way
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -1.0, -1e-300])
def test_a_sigma_that_is_no_bound_is_refused(bad: float, prove: Prove) -> None:
    with np.errstate(invalid="ignore"):
        assert not prove(exact(np.eye(2) / 4), bad)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e200])
def test_a_matrix_that_is_not_finite_proves_nothing(bad: float) -> None:
    w = np.eye(3)
    w[1, 2] = bad
    with np.errstate(all="ignore"):
        assert not in_float64(exact(w), 1e160)
        assert not in_float64(Enclosure(np.eye(3), np.abs(w)), 1e160)


@either_way
def test_zeros_have_norm_zero(prove: Prove) -> None:
    assert prove(exact(np.zeros((2, 3))), 0.0)
    assert prove(exact(np.zeros((0, 3))), 0.0)
    assert not prove(exact(np.array([[1e-300, 0.0]])), 0.0)
    assert not prove(Enclosure(np.zeros((2, 3)), 1e-3), 0.0)
    assert not prove(Enclosure(np.zeros((2, 3)), 1e-3), 1e-3)


@either_way
@pytest.mark.parametrize("rows", [1, 2])
def test_sums_of_squares_that_all_round_down_are_accounted_for(rows: int, prove: Prove) -> None:
    """1 + t^2 + t^2 + ... with t^2 below half a unit of 1: whatever is added to the 1 is lost."""
    w = np.zeros((rows, 3000))
    w[0] = [1.0] + [math.sqrt(0.9 * 2.0**-54)] * 2999
    w[-1, 0] = 1.0
    gram = as_fractions(w) @ as_fractions(w).T
    proven = 0
    for step in (*range(200), *range(200, 6000, 100)):
        sigma = math.sqrt(rows) * (1 + step * 2.0**-52)
        if prove(exact(w), sigma):
            proven += 1
            assert is_semidefinite(np.diag([Fraction(sigma) ** 2] * rows) - gram), step
    assert proven > 0
