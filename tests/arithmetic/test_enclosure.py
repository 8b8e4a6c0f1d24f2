"""Every result of an operation on members of enclosures is a member of the enclosure of the results."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lipcert.arithmetic.enclosure import Enclosure, exact, hull, stack
from tests.helpers.exact import encloses, is_lower_bound, is_upper_bound, many, member, numbers, random_enclosure
from tests.helpers.operators import as_fractions

SCALES = [1.0, 1e-160, 1e-300, 1e150]
seeds = pytest.mark.parametrize("seed", range(8))
scales = pytest.mark.parametrize("scale", SCALES)


def pair(seed: int, scale: float, shape: tuple[int, ...] = (4, 5)) -> tuple[np.random.Generator, Enclosure, Enclosure]:
    rng = np.random.default_rng(seed)
    return rng, random_enclosure(rng, shape, scale), random_enclosure(rng, shape)


@pytest.mark.parametrize(
    "operation",
    [lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b, lambda a, b: -a, lambda a, b: a * a],
    ids=["sum", "difference", "product", "negative", "square"],
)
@scales
@seeds
def test_sums_and_products_of_members_stay_inside(seed: int, scale: float, operation: Callable) -> None:
    rng, a, b = pair(seed, scale)
    with np.errstate(under="ignore"):
        result = operation(a, b)
    for _ in range(10):
        assert encloses(result, operation(member(rng, a), member(rng, b)))


@scales
@seeds
def test_sums_of_sizes_far_apart_stay_inside(seed: int, scale: float) -> None:
    rng, a, b = pair(seed, scale)
    spread = exact(10.0 ** rng.integers(-20, 20, size=a.shape))
    terms = (a * spread, b)
    result = terms[0] + terms[1]
    for _ in range(10):
        assert encloses(result, member(rng, terms[0]) + member(rng, terms[1]))


@scales
@seeds
def test_quotients_of_members_stay_inside(seed: int, scale: float) -> None:
    rng, a, b = pair(seed, scale)
    away = Enclosure(np.where(np.abs(b.value) < 1e-3, 1.0, b.value), b.radius)
    with np.errstate(under="ignore"):
        result = a / away
    for _ in range(10):
        assert encloses(result, member(rng, a) / member(rng, away))


def test_quotients_by_numbers_almost_zero_stay_inside() -> None:
    rng = np.random.default_rng(0)
    b = Enclosure(np.array([1.0, -3.0, 1e-300, 1e200]), np.array([1 - 2.0**-50, 3 - 2.0**-49, 9.9e-301, 9.99e199]))
    a = Enclosure(np.array([1.0, 0.0, 1e-300, -7.0]), np.array([0.0, 1e-5, 1e-310, 7.0]))
    result = a / b
    for _ in range(200):
        assert encloses(result, member(rng, a) / member(rng, b))


@pytest.mark.parametrize("radius", [1.0, 1.5, np.nextafter(1.0, 0) + 2.0**-53])
def test_division_by_an_enclosure_of_zero_raises(radius: float) -> None:
    for divisor in (Enclosure(np.array([3.0, -1.0]), np.array([0.0, radius])), exact([1.0, 0.0])):
        with pytest.raises(ZeroDivisionError, match="contains zero"):
            exact([1.0, 1.0]) / divisor


def test_division_by_nan_raises() -> None:
    with pytest.raises(ZeroDivisionError):
        exact([1.0]) / exact([math.nan])


@scales
@seeds
def test_matrix_products_of_members_stay_inside(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    a, b = random_enclosure(rng, (3, 7), scale), random_enclosure(rng, (7, 4))
    with np.errstate(under="ignore"):
        result = a @ b
    for _ in range(10):
        assert encloses(result, member(rng, a) @ member(rng, b))


@pytest.mark.parametrize("relative", [1e-15, 1e-3, 0.5])
def test_the_worst_members_stay_inside(relative: float) -> None:
    """Of positive arrays, all radii used up in the directions that add up."""
    rng = np.random.default_rng(0)
    a, b = (Enclosure(v, relative * v) for v in rng.random((2, 5, 5)) + 0.1)
    ends = [as_fractions(c.value) + s * as_fractions(c.full_radius()) for c in (a, b) for s in (1, -1)]
    for more, other in ((ends[0], ends[2]), (ends[1], ends[3]), (ends[0], ends[3]), (ends[1], ends[2])):
        assert encloses(a * b, more * other)
        assert encloses(a @ b, more @ other)
        assert encloses(a / b, more / other)
        assert encloses(a + b, more + other)
        assert encloses(a - b, more - other)


def test_cancelling_matrix_products_stay_inside() -> None:
    """Sums that cancel: the error is that of the terms, far above the result."""
    rng = np.random.default_rng(3)
    left, right = rng.normal(size=(5, 30)), rng.normal(size=(30, 5))
    a, b = exact(np.hstack([left, left])), exact(np.vstack([right, -right * (1 + 1e-15)]))
    assert encloses(a @ b, as_fractions(a.value) @ as_fractions(b.value))


@seeds
def test_roots_of_members_stay_inside(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for scale in SCALES:
        a = random_enclosure(rng, (20,), scale)
        a = Enclosure(np.abs(a.value) + scale, a.radius)
        root = a.sqrt()
        low, high = root.value - root.full_radius(), root.value + root.full_radius()
        assert np.all(low > 0)
        for _ in range(5):
            for t, value, radius in zip(member(rng, a), root.value, root.full_radius(), strict=True):
                # both sides of value - radius <= sqrt(t) <= value + radius, squared
                assert (Fraction(float(value)) - Fraction(float(radius))) ** 2 <= t
                assert (Fraction(float(value)) + Fraction(float(radius))) ** 2 >= t
        assert np.all(high <= low * (1 + 2.5 * 0.1) + 1e-300)


@pytest.mark.parametrize(("value", "radius"), [(-1e-300, 0.0), (1.0, 1.5), (1.0, np.nextafter(1.0, 2))])
def test_roots_of_enclosures_that_reach_below_zero_raise(value: float, radius: float) -> None:
    with pytest.raises(ValueError, match="below zero"):
        Enclosure(np.array([4.0, value]), np.array([0.0, radius])).sqrt()


def test_roots_of_squares_are_exact() -> None:
    squares = np.array([0.0, 1.0, 4.0, 2.25, 2.0**-40, 1e10])
    root = exact(squares).sqrt()
    assert root.is_exact
    assert np.array_equal(root.value, np.array([0.0, 1.0, 2.0, 1.5, 2.0**-20, 1e5]))
    assert not exact([2.0]).sqrt().is_exact


@many
@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=5))
def test_the_hull_contains_both_ends(ends: list[tuple[float, float]]) -> None:
    lower, upper = (np.array(side) for side in zip(*map(sorted, ends), strict=True))
    with np.errstate(over="ignore"):
        box = hull(lower, upper)
    assert encloses(box, as_fractions(lower))
    assert encloses(box, as_fractions(upper))
    assert np.all(box.full_radius()[lower == upper] == 0)


def test_the_hull_of_infinite_bounds_has_infinite_radius() -> None:
    box = hull(np.array([-math.inf, 0.0, -math.inf, math.nan]), np.array([math.inf, math.inf, 3.0, math.nan]))
    assert np.all(np.isinf(box.full_radius()))
    assert np.all(np.isfinite(box.value))


@seeds
def test_the_ends_of_an_enclosure_bound_its_members(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for scale in SCALES:
        a = random_enclosure(rng, (30,), scale)
        for t, low, high, size in zip(member(rng, a), a.lower(), a.upper(), a.magnitude(), strict=True):
            assert is_lower_bound(low, t)
            assert is_upper_bound(high, t)
            assert is_upper_bound(size, abs(t))


def test_exact_products_sums_and_quotients_have_no_radius() -> None:
    rng = np.random.default_rng(0)
    a, b = (exact(rng.normal(size=(3, 4)).astype(np.float32)) for _ in range(2))
    integers = exact(rng.integers(1, 1000, size=(3, 4)))
    for result in (a * b, integers + integers, integers - integers, (integers * integers) / integers, a / exact(4.0)):
        assert result.is_exact
        assert np.all(result.full_radius() == 0)
    assert (a * b).value.tolist() == (a.value * b.value).tolist()
    assert not (exact([0.1]) * exact([0.1])).is_exact
    assert not (exact([0.1]) + exact([0.7])).is_exact
    assert not (exact([1.0]) / exact([3.0])).is_exact


def test_results_are_tight() -> None:
    rng = np.random.default_rng(0)
    a, b = (exact(rng.normal(size=(6, 6)) + 3) for _ in range(2))
    for result in (a + b, a * b, a / b, a.sqrt(), a @ b):
        assert np.all(result.full_radius() <= 64 * 2.0**-53 * np.abs(result.value) + 1e-300)


def test_rearrangements_move_value_and_radius_alike() -> None:
    value = np.arange(6.0).reshape(2, 3)
    a = Enclosure(value, value / 10)
    moved = a.rearrange(lambda x: x.T[::-1])
    assert np.array_equal(moved.value, value.T[::-1])
    assert np.array_equal(moved.full_radius(), (value / 10).T[::-1])
    assert a.reshape((3, 2)).full_radius().shape == (3, 2)
    assert exact(value).reshape((6,)).is_exact
    assert Enclosure(value, 0.25).rearrange(np.transpose).full_radius().tolist() == np.full((3, 2), 0.25).tolist()


def test_stacks_keep_the_radius_of_each_part() -> None:
    both = stack([exact(np.ones((2, 2))), Enclosure(np.zeros((1, 2)), 0.5)], axis=0)
    assert both.full_radius().tolist() == [[0, 0], [0, 0], [0.5, 0.5]]
    assert stack([exact(np.ones(2)), exact(np.ones(3))], axis=0).is_exact


def test_nothing_finite_comes_of_an_overflow() -> None:
    huge = exact([1e308, 1e200])
    with np.errstate(all="ignore"):
        for result in (
            huge + huge,
            huge * huge,
            huge @ huge,
            huge / exact(1e-200),
        ):
            assert not result.is_finite
    assert not exact([1.0, math.nan]).is_finite
    assert not Enclosure(np.ones(2), np.array([0.0, math.nan])).is_finite


@pytest.mark.parametrize("seed", range(30))
def test_a_total_holds_the_sum_of_every_member(seed: int) -> None:
    """Along the last axis, which is kept; of exact entries, of uncertain ones, of those that cancel."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 40))
    scale = 10.0 ** rng.uniform(-20, 20, (3, n)) if seed % 2 else 1.0
    known = random_enclosure(rng, (3, n), scale)
    if n > 1:
        known.value[:, 1] = -known.value[:, 0] + (seed % 3 == 0)
    total = known.total()
    assert total.shape == (3, 1)
    for _ in range(5):
        assert encloses(total, member(rng, known).sum(axis=-1, keepdims=True))


@many
@given(st.lists(numbers, min_size=1, max_size=12))
def test_a_total_of_floats_of_any_size_holds_their_sum(values: list[float]) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        total = exact(np.array(values)).total()
        low, high = float(total.lower()[0]), float(total.upper()[0])
    truth = sum(map(Fraction, values))
    assert low == -math.inf or Fraction(low) <= truth
    assert high == math.inf or Fraction(high) >= truth


def test_a_total_is_no_wider_than_it_must_be() -> None:
    one = Enclosure(np.array([[0.1], [3.0]]), np.array([[0.5], [0.0]])).total()
    np.testing.assert_array_equal(one.value, [[0.1], [3.0]])
    np.testing.assert_array_equal(one.full_radius(), [[0.5], [0.0]])
    several = Enclosure(np.ones((2, 4)), np.full((2, 4), 0.25)).total()
    np.testing.assert_allclose(several.full_radius(), [[1.0], [1.0]], rtol=1e-12)
    np.testing.assert_allclose(exact(np.ones(1000)).total().full_radius(), 0.0, atol=1e-9)
