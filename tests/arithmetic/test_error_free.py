"""Error-free transformations: what two_sum and two_product leave over is the exact error, or a bound on it."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lipcert.arithmetic.rounding import two_product, two_sum
from tests.helpers.exact import is_upper_bound, many, moderate, numbers

float32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


@many
@given(numbers, numbers)
def test_two_sum_loses_nothing(a: float, b: float) -> None:
    with np.errstate(all="ignore"):
        s, e = two_sum(np.float64(a), np.float64(b))
    assert s == a + b or np.isinf(s)
    assert not np.isfinite(s) or Fraction(float(s)) + Fraction(float(e)) == Fraction(a) + Fraction(b)


@many
@given(numbers, numbers)
def test_two_product_bounds_the_error_of_the_product(a: float, b: float) -> None:
    with np.errstate(all="ignore"):
        p, e = two_product(np.float64(a), np.float64(b))
    assert np.isinf(p) or p == a * b
    assert np.isinf(p) or is_upper_bound(float(e), abs(Fraction(a) * Fraction(b) - Fraction(float(p))))
    assert not np.isinf(p) or not np.isfinite(e)


@many
@given(moderate, moderate)
def test_the_error_of_a_product_is_exact_at_ordinary_sizes(a: float, b: float) -> None:
    p, e = two_product(np.float64(a), np.float64(b))
    assert Fraction(float(e)) == abs(Fraction(a) * Fraction(b) - Fraction(float(p)))


@many
@given(float32, float32)
def test_products_of_float32_numbers_are_exact(a: float, b: float) -> None:
    p, e = two_product(np.float64(a), np.float64(b))
    assert Fraction(float(p)) == Fraction(a) * Fraction(b)
    assert e == 0


@many
@given(numbers, st.sampled_from([0.0, 1.0, -1.0]))
def test_products_with_zero_and_one_are_exact(a: float, b: float) -> None:
    for pair in ((a, b), (b, a)):
        p, e = two_product(*map(np.float64, pair))
        assert p == a * b
        assert e == 0


def test_arrays_are_treated_entry_by_entry() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 200)) * 10.0 ** rng.integers(-200, 200, size=(2, 200))
    with np.errstate(all="ignore"):
        for transformation in (two_sum, two_product):
            result, error = transformation(a, b)
            for i in range(200):
                one, left = transformation(a[i], b[i])
                assert result[i] == one
                assert error[i] == left
