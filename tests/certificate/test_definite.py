"""Positive definiteness is never claimed falsely: compared with elimination in exact arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from lipcert.certificate import definite
from lipcert.certificate.balls import BallArithmetic
from lipcert.certificate.definite import SymmetricBlocks, is_positive_definite
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


# By blocks.

PATTERNS = {
    "one block": (1, []),
    "diagonal": (4, []),
    "a chain": (5, [(1, 0), (2, 1), (3, 2), (4, 3)]),
    "a star, its middle first": (5, [(1, 0), (2, 0), (3, 0), (4, 0)]),
    "a star, its middle last": (5, [(4, 0), (4, 1), (4, 2), (4, 3)]),
    "a ring": (5, [(1, 0), (2, 1), (3, 2), (4, 3), (4, 0)]),
    "two parts": (4, [(2, 0), (3, 1)]),
    "all": (3, [(1, 0), (2, 0), (2, 1)]),
}
patterns = pytest.mark.parametrize("pattern", PATTERNS)


def in_blocks(matrix: np.ndarray, sizes: list[int], pattern: str, errors: np.ndarray | None = None) -> SymmetricBlocks:
    """The blocks of a pattern, each in the lower part; what lies outside of them must be zero."""
    form, starts = SymmetricBlocks(sizes), np.cumsum([0, *sizes])
    count, pairs = PATTERNS[pattern]
    rest = matrix.copy()
    for i, j in [(i, i) for i in range(count)] + pairs:
        at = slice(starts[i], starts[i + 1]), slice(starts[j], starts[j + 1])
        form.add(i, j, matrix[at], np.zeros(sizes[i]), np.zeros(sizes[j]))
        rest[at] = rest[at[::-1]] = 0
    assert not np.any(rest)
    if errors is not None:
        form.errors = np.split(errors, starts[1:-1])
    return form


def sparse(
    rng: np.random.Generator, pattern: str, smallest: float, scaled: bool = False
) -> tuple[np.ndarray, list[int]]:
    """A matrix with these blocks, whose smallest eigenvalue is about `smallest`; some of the sizes may be zero."""
    count, pairs = PATTERNS[pattern]
    sizes = rng.integers(0 if count > 2 else 1, 5, size=count).tolist()
    sizes[int(rng.integers(count))] += 1
    starts = np.cumsum([0, *sizes])
    present = np.zeros((starts[-1], starts[-1]), dtype=bool)
    for i, j in [(i, i) for i in range(count)] + pairs:
        present[starts[i] : starts[i + 1], starts[j] : starts[j + 1]] = True
    a = symmetric(np.where(present, rng.normal(size=present.shape), 0.0))
    a += (smallest - np.linalg.eigvalsh(a)[0]) * np.eye(len(a))
    d = 2.0 ** rng.integers(-15, 15, size=len(a)) if scaled else np.ones(len(a))
    return a * np.outer(d, d), sizes


@patterns
def test_almost_singular_matrices_of_blocks_are_never_falsely_positive(pattern: str) -> None:
    """Compared with elimination in exact arithmetic, and with the proof of the matrix as a whole."""
    fooled = proven = differ = 0
    for seed in range(400):
        rng = np.random.default_rng([seed, *pattern.encode()])
        smallest = float(rng.choice([-1, 0, 1])) * 10.0 ** -rng.uniform(12, 17.5)
        a, sizes = sparse(rng, pattern, smallest, bool(seed % 2))
        truly, form = is_definite_exactly(a), in_blocks(a, sizes, pattern)
        matrix, errors = form.dense()
        assert np.array_equal(matrix, a)
        assert np.all(errors <= 1e-300)
        verdict = form.is_positive_definite()
        assert not (verdict and not truly), seed
        proven += verdict
        differ += verdict != is_positive_definite(a, np.zeros(len(a)))
        fooled += not truly and completes(a)
    assert fooled > 1, "plain Cholesky is right about all of these: they are no test"
    assert proven > 20
    assert differ < 10  # sums in another order


@patterns
def test_both_arithmetics_agree_on_matrices_that_are_not_almost_singular(pattern: str) -> None:
    balls = BallArithmetic()
    for seed in range(15):
        for smallest in (1e-9, -1e-9, 0.1, -0.1):
            a, sizes = sparse(np.random.default_rng([seed, *pattern.encode()]), pattern, smallest)
            form = in_blocks(a, sizes, pattern)
            assert form.is_positive_definite() == balls.proves_positive(form) == (smallest > 0)


@patterns
def test_every_matrix_within_the_errors_of_blocks_is_definite(pattern: str) -> None:
    """The worst: eigenvalues lowered by the whole error, on the diagonal or spread over rows, blocks present or not."""
    proven = 0
    for seed in range(150):
        rng = np.random.default_rng([seed, 2, *pattern.encode()])
        relative = 10.0 ** -rng.uniform(3, 12)
        a, sizes = sparse(rng, pattern, relative * rng.uniform(0.3, 3))
        errors = relative * rng.uniform(0.5, 1, size=len(a))
        form = in_blocks(a, sizes, pattern, errors)
        if not form.is_positive_definite():
            continue
        proven += 1
        lowest = np.linalg.eigh(a)[1][:, 0]
        spread = -np.outer(np.sign(lowest), np.sign(lowest)) * errors.min() / len(a)
        for change in (-np.diag(errors), symmetric(spread)):
            assert np.all(as_fractions(np.abs(change)).sum(axis=1) <= as_fractions(errors) * Fraction(1 + 1e-12))
            assert is_definite_exactly(as_fractions(a) + as_fractions(change) * Fraction(1 - 1e-12)), seed
    assert proven >= 5


@patterns
def test_errors_that_reach_the_smallest_eigenvalue_are_too_large(pattern: str) -> None:
    for seed in range(20):
        a, sizes = sparse(np.random.default_rng([seed, 3, *pattern.encode()]), pattern, 1e-3)
        lowest = float(np.linalg.eigvalsh(a)[0])
        form = in_blocks(a, sizes, pattern, np.full(len(a), lowest * (1 + 1e-9)))
        assert not form.is_positive_definite()
        assert not BallArithmetic().proves_positive(form)
        assert in_blocks(a, sizes, pattern, np.full(len(a), lowest * (1 - 1e-6))).is_positive_definite()
        for bad in (math.nan, math.inf):
            errors = np.where(np.arange(len(a)) == seed % len(a), bad, 0.0)
            assert not in_blocks(a, sizes, pattern, errors).is_positive_definite()
            assert not BallArithmetic().proves_positive(in_blocks(a, sizes, pattern, errors))


def test_an_entry_outside_the_present_blocks_matters() -> None:
    """A chain whose ends are joined by one more entry, which makes it indefinite; as a block, and as fill-in."""
    a, sizes = np.diag(np.full(6, 2.0)), [2, 2, 2]
    for i in range(4):
        a[i, i + 2] = a[i + 2, i] = 1.0
    assert in_blocks(a, sizes, "all").is_positive_definite()
    for place, entry in (((4, 0), -1.0), ((5, 1), -1.5), ((5, 0), 1.9), ((4, 1), -3.0)):
        b = a.copy()
        b[place] = b[place[::-1]] = entry
        truly = is_definite_exactly(b)
        assert not truly
        assert not in_blocks(b, sizes, "all").is_positive_definite()
        b[place] = b[place[::-1]] = 0.1
        assert in_blocks(b, sizes, "all").is_positive_definite()


def test_every_stored_entry_matters() -> None:
    """Each entry of each block, made large, makes the matrix indefinite, wherever fill-in falls."""
    for pattern, (count, pairs) in PATTERNS.items():
        a, _ = np.eye(2 * count) * 4, None
        sizes = [2] * count
        starts = np.cumsum([0, *sizes])
        for i, j in [(i, i) for i in range(count)] + pairs:
            for k in range(starts[i], starts[i + 1]):
                for m in range(starts[j], starts[j + 1]):
                    if k >= m:
                        b = a.copy()
                        b[k, m] = b[m, k] = -4.0 - 1e-9 if k > m else -1.0
                        assert not in_blocks(b, sizes, pattern).is_positive_definite(), (pattern, k, m)
                        b[k, m] = b[m, k] = -4.0 + 1e-9 if k > m else 1.0
                        assert in_blocks(b, sizes, pattern).is_positive_definite(), (pattern, k, m)


@pytest.mark.parametrize("panel", [1, 2, 3, 64])
def test_panels_of_any_width_solve_the_same(panel: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(definite, "PANEL", panel)
    rng = np.random.default_rng(panel)
    for n in (1, 2, 63, 64, 65, 130):
        factor = np.tril(rng.normal(size=(n, n))) / math.sqrt(n) + 2 * np.eye(n)
        block = rng.normal(size=(5, n))
        np.testing.assert_allclose(definite._solve_across(block, factor) @ factor.T, block, rtol=1e-12, atol=1e-12)


def test_large_blocks_are_proven_and_refused() -> None:
    """Wider than a panel, with fill-in; the smallest eigenvalue a little above or below zero."""
    rng = np.random.default_rng(0)
    sizes = [40, 150, 70, 1]
    starts = np.cumsum([0, *sizes])
    a = np.zeros((starts[-1], starts[-1]))
    for i, j in ((0, 0), (1, 1), (2, 2), (3, 3), (1, 0), (2, 0), (3, 1)):
        a[starts[i] : starts[i + 1], starts[j] : starts[j + 1]] = rng.normal(size=(sizes[i], sizes[j]))
    a = symmetric(a)
    for margin, truly in ((1e-9, True), (-1e-9, False)):
        b = a + (margin - np.linalg.eigvalsh(a)[0]) * np.eye(len(a))
        form = SymmetricBlocks(sizes)
        for i, j in ((0, 0), (1, 1), (2, 2), (3, 3), (1, 0), (2, 0), (3, 1)):
            block = b[starts[i] : starts[i + 1], starts[j] : starts[j + 1]]
            form.add(i, j, block, np.zeros(sizes[i]), np.zeros(sizes[j]))
        before = {key: block.copy() for key, block in form.blocks.items()}
        assert form.is_positive_definite() is truly
        assert form.is_positive_definite() is truly  # the blocks were not used up
        assert all(np.array_equal(before[key], form.blocks[key]) for key in before)
        assert sorted(before) == sorted(form.blocks)


def test_blocks_that_are_added_are_summed_and_their_rounding_is_part_of_the_error() -> None:
    for seed in range(30):
        rng = np.random.default_rng([seed, 4])
        sizes = [3, 2]
        form = SymmetricBlocks(sizes)
        exact_sum, allowed = as_fractions(np.zeros((5, 5))), as_fractions(np.zeros(5))
        for i, j in ((0, 0), (1, 0), (1, 1), (1, 0), (0, 0), (1, 0)):
            block = rng.normal(size=(sizes[i], sizes[j])) * 10.0 ** rng.uniform(-3, 3)
            block = symmetric(block) if i == j else block
            rows, columns = 1e-17 * rng.random(sizes[i]), 1e-17 * rng.random(sizes[j])
            form.add(i, j, block, rows, columns)
            at = slice(3 * i, 3 + 2 * i), slice(3 * j, 3 + 2 * j)
            exact_sum[at] += as_fractions(block)
            allowed[at[0]] += as_fractions(rows)
            if i != j:
                exact_sum[at[::-1]] += as_fractions(block).T
                allowed[at[1]] += as_fractions(columns)
        matrix, errors = form.dense()
        lacking = abs(exact_sum - as_fractions(matrix)).sum(axis=1)
        assert np.all(lacking + allowed <= as_fractions(errors))
        assert np.all(errors <= 1e-15 * np.abs(matrix).sum(axis=1).max())


def test_no_blocks_at_all_and_blocks_of_no_size() -> None:
    assert SymmetricBlocks([]).is_positive_definite()
    assert BallArithmetic().proves_positive(SymmetricBlocks([]))
    form = SymmetricBlocks([0, 2, 0])
    for i, size in enumerate(form.sizes):
        form.add(i, i, np.eye(size), np.zeros(size), np.zeros(size))
    form.add(1, 0, np.zeros((2, 0)), np.zeros(2), np.zeros(0))
    form.add(2, 1, np.zeros((0, 2)), np.zeros(0), np.zeros(2))
    assert form.is_positive_definite()
    assert BallArithmetic().proves_positive(form)
    form.add(1, 1, -np.eye(2), np.zeros(2), np.zeros(2))
    assert not form.is_positive_definite()
    assert not BallArithmetic().proves_positive(form)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("block", [(0, 0), (1, 0), (1, 1)])
def test_blocks_that_are_not_finite_are_refused(bad: float, block: tuple[int, int]) -> None:
    for place in ((0, 0), (1, 0), (1, 1), (0, 1)):
        if place == (0, 1) and block[0] == block[1]:
            continue  # the upper part of a diagonal block is not read
        form = SymmetricBlocks([2, 2])
        for i, j in ((0, 0), (1, 0), (1, 1)):
            value = 2.0 * np.eye(2) if i == j else np.full((2, 2), 0.5)
            if (i, j) == block:
                value[place] = bad
            form.add(i, j, value, np.zeros(2), np.zeros(2))
        with np.errstate(invalid="ignore"):
            assert not form.is_positive_definite()
            assert not BallArithmetic().proves_positive(form)


def test_blocks_whose_factor_overflows_are_refused() -> None:
    """Finite entries, products that are not."""
    form = SymmetricBlocks([1, 1, 1])
    for i in range(3):
        form.add(i, i, np.array([[1e-300]]), np.zeros(1), np.zeros(1))
    form.add(1, 0, np.array([[1e300]]), np.zeros(1), np.zeros(1))
    form.add(2, 0, np.array([[-1e300]]), np.zeros(1), np.zeros(1))
    with np.errstate(over="ignore", invalid="ignore"):
        assert not form.is_positive_definite()
