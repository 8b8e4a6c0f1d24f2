"""Rounded operations against exact rational arithmetic: huge, tiny, subnormal and zero numbers included."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lipcert.arithmetic.rounding import (
    ETA,
    U,
    add_up,
    down,
    gamma,
    inflate,
    mul_up,
    norm_down,
    norm_up,
    sqrt_up,
    sum_up,
    up,
)
from tests.helpers.exact import is_lower_bound, is_upper_bound, magnitudes, many, moderate, numbers, vectors

HUGE = float(np.finfo(float).max)


def exact_sum(v: np.ndarray) -> Fraction:
    return sum((Fraction(x) for x in v.tolist()), Fraction(0))


def exact_squares(v: np.ndarray) -> Fraction:
    return sum((Fraction(x) ** 2 for x in v.tolist()), Fraction(0))


@many
@given(numbers)
def test_up_and_down_are_the_neighbours(x: float) -> None:
    with np.errstate(over="ignore"):
        below, above = float(down(x)), float(up(x))
    assert below < x < above
    assert math.nextafter(below, math.inf) == x == math.nextafter(above, -math.inf)


@many
@given(st.integers(0, 2**40))
def test_gamma_is_never_below_its_exact_value(n: int) -> None:
    exact = n * Fraction(U) / (1 - n * Fraction(U))
    assert is_upper_bound(gamma(n), exact)
    assert gamma(n) <= float(exact) * (1 + 8 * U) + 1e-300


@pytest.mark.parametrize("n", [-1, 2**50, 2**53])
def test_gamma_is_refused_where_it_has_no_meaning(n: int) -> None:
    with pytest.raises(ValueError, match="gamma_n is undefined"):
        gamma(n)


@many
@given(numbers, numbers)
def test_add_up_is_never_below_the_exact_sum(a: float, b: float) -> None:
    with np.errstate(over="ignore"):
        assert is_upper_bound(float(add_up(a, b)), Fraction(a) + Fraction(b))


@many
@given(magnitudes, magnitudes)
def test_mul_up_is_never_below_the_exact_product(a: float, b: float) -> None:
    with np.errstate(over="ignore", under="ignore"):
        assert is_upper_bound(float(mul_up(a, b)), Fraction(a) * Fraction(b))


@many
@given(numbers, magnitudes)
def test_nothing_is_lost_with_zero_and_one(a: float, b: float) -> None:
    with np.errstate(over="ignore"):
        assert add_up(a, 0.0) == add_up(0.0, a) == a
        assert mul_up(b, 1.0) == mul_up(1.0, b) == b
    assert mul_up(b, 0.0) == mul_up(0.0, b) == mul_up(math.inf, 0.0) == 0


@many
@given(moderate.map(abs).filter(bool), moderate.map(abs).filter(bool))
def test_single_operations_lose_less_than_two_units(a: float, b: float) -> None:
    def below(x: np.ndarray) -> Fraction:
        return Fraction(float(down(down(x))))

    assert below(add_up(a, b)) <= Fraction(a) + Fraction(b)
    assert below(mul_up(a, b)) <= Fraction(a) * Fraction(b)
    assert a == 0 or below(sqrt_up(a)) ** 2 <= Fraction(a)


@many
@given(magnitudes)
def test_sqrt_up_is_never_below_the_exact_root(x: float) -> None:
    assert Fraction(float(sqrt_up(x))) ** 2 >= Fraction(x)


@many
@given(vectors)
def test_sum_up_is_never_below_the_exact_sum(v: np.ndarray) -> None:
    with np.errstate(over="ignore"):
        assert is_upper_bound(sum_up(v), exact_sum(v))


@many
@given(st.lists(st.tuples(moderate, moderate), min_size=1, max_size=20))
def test_inflate_covers_every_rounding_of_a_sum_of_products(pairs: list[tuple[float, float]]) -> None:
    total = 0.0
    for a, b in pairs:
        total += abs(a) * abs(b)
    exact = sum(abs(Fraction(a) * Fraction(b)) for a, b in pairs)
    assert is_upper_bound(inflate(total, len(pairs)), Fraction(exact))


@many
@given(st.integers(1, 1000), st.integers(-1000, 900))
def test_inflate_covers_the_worst_case_that_theory_allows(n: int, exponent: int) -> None:
    """A computed sum may be as small as the true one times (1 - u)^n, less n underflows."""
    true = Fraction(2) ** exponent
    computed = true / (1 + Fraction(U)) ** n - n * Fraction(ETA)
    if computed > 0:
        assert is_upper_bound(inflate(down(float(computed)), n), true)


@pytest.mark.parametrize("scale", [1.0, 1e-310, 1e-160, 1e160, 1e300])
@pytest.mark.parametrize("n", [3, 100, 3000])
def test_long_sums_and_norms_stay_bounds(scale: float, n: int) -> None:
    v = np.abs(np.random.default_rng(n).normal(size=n)) * scale
    assert is_upper_bound(sum_up(v), exact_sum(v))
    assert is_upper_bound(float(norm_up(v, 1)), exact_sum(v))
    assert is_lower_bound(norm_down(v, 1), exact_sum(v))
    assert Fraction(float(norm_up(v, 2))) ** 2 >= exact_squares(v)
    assert Fraction(norm_down(v, 2)) ** 2 <= exact_squares(v)


@many
@given(vectors)
def test_norm_up_is_never_below_the_exact_norm(v: np.ndarray) -> None:
    with np.errstate(over="ignore", under="ignore"):
        one, two, largest = (float(norm_up(v, q)) for q in (1, 2, math.inf))
    assert is_upper_bound(one, exact_sum(v))
    assert two == math.inf or (two >= 0 and Fraction(two) ** 2 >= exact_squares(v))
    assert largest == max(v)


@many
@given(vectors)
def test_norm_down_is_never_above_the_exact_norm(v: np.ndarray) -> None:
    with np.errstate(over="ignore", under="ignore"):
        one, two, largest = (norm_down(v, q) for q in (1, 2, math.inf))
    assert one >= 0
    assert is_lower_bound(one, exact_sum(v))
    assert math.isfinite(two)
    assert two >= 0
    assert Fraction(two) ** 2 <= exact_squares(v)
    assert largest == max(v)


def test_a_norm_beyond_the_largest_number_is_infinite_from_above_and_finite_from_below() -> None:
    v = np.array([HUGE, HUGE])
    with np.errstate(over="ignore"):
        assert norm_up(v, 1) == norm_up(v, 2) == math.inf
        assert norm_down(v, 2) <= HUGE
        assert norm_down(v, 1) <= HUGE


@pytest.mark.parametrize("q", [1, 2, math.inf])
@pytest.mark.parametrize("scale", [1e-250, 1.0, 1e250])
def test_norms_are_tight(q: float, scale: float) -> None:
    v = np.abs(np.random.default_rng(1).normal(size=50)) * scale
    true = float(np.linalg.norm(v / scale, q)) * scale
    assert true * (1 - 1e-13) <= norm_down(v, q) <= norm_up(v, q) <= true * (1 + 1e-13)


@pytest.mark.parametrize("largest", [1.2e308, 3e-310, 5e-324])
def test_norms_are_tight_at_the_ends_of_the_range(largest: float) -> None:
    v = np.array([largest, 0.0, largest * 1e-30])
    assert largest * (1 - 1e-13) <= norm_up(v, 2) <= largest * (1 + 1e-13) + 1e-323
    assert largest * (1 - 1e-13) - 1e-323 <= norm_down(v, 2) <= largest * (1 + 1e-13)


@pytest.mark.parametrize("q", [1, 2, math.inf])
def test_norms_of_a_batch_are_those_of_its_vectors(q: float) -> None:
    v = np.abs(np.random.default_rng(2).normal(size=(3, 4, 5))) * 10.0 ** np.arange(-100, 100, 50)[:, None]
    batch = norm_up(v, q)
    assert batch.shape == (3, 4)
    for i, j in np.ndindex(3, 4):
        assert Fraction(float(batch[i, j])) ** (q if q == 2 else 1) >= (
            exact_squares(v[i, j]) if q == 2 else exact_sum(v[i, j]) if q == 1 else Fraction(float(v[i, j].max()))
        )
        np.testing.assert_allclose(batch[i, j], norm_up(v[i, j], q), rtol=1e-14)


@pytest.mark.parametrize("q", [1, 2, math.inf])
def test_the_norm_of_nothing_and_of_zeros_is_zero(q: float) -> None:
    assert np.array_equal(norm_up(np.zeros((2, 0)), q), np.zeros(2))
    assert np.array_equal(norm_up(np.zeros((2, 3)), q), np.zeros(2))
    assert norm_down(np.zeros(3), q) == sum_up(np.zeros(3)) == 0


@pytest.mark.parametrize("q", [1, 2, math.inf])
def test_no_norm_hides_a_nan(q: float) -> None:
    assert np.isnan(norm_up(np.array([1.0, math.nan, 2.0]), q))
    assert np.isnan(sum_up(np.array([1.0, math.nan])))
