"""Regions: `contains` is never true outside, and the bounds hold for every point inside, compared exactly."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lipcert.errors import UsageError
from lipcert.problem import Ball, Box, Everywhere
from tests.helpers.exact import is_lower_bound, is_upper_bound, magnitudes, many, numbers

NORMS = [1.0, 2.0, math.inf]


def distance(x: np.ndarray, center: np.ndarray, norm: float) -> Fraction:
    """The exact distance; squared for l2."""
    offsets = [abs(Fraction(a) - Fraction(b)) for a, b in zip(x.tolist(), center.tolist(), strict=True)]
    return max(offsets) if norm == math.inf else sum((o ** int(norm) for o in offsets), Fraction(0))


def is_inside(x: np.ndarray, ball: Ball) -> bool:
    return distance(x, ball.center, ball.norm) <= Fraction(ball.eps) ** (2 if ball.norm == 2 else 1)


@many
@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=4), magnitudes, st.sampled_from(NORMS))
def test_contains_is_never_true_outside(pairs: list[tuple[float, float]], eps: float, norm: float) -> None:
    center, x = map(np.array, zip(*pairs, strict=True))
    ball = Ball(center, eps, norm)
    with np.errstate(all="ignore"):
        assert not ball.contains(x) or is_inside(x, ball)


@pytest.mark.parametrize("norm", NORMS)
def test_contains_is_never_true_just_outside(norm: float) -> None:
    """Points on the boundary as well as floating point can place them: half of them are outside."""
    rng = np.random.default_rng(0)
    outside = inside = accepted = 0
    for n in (1, 2, 5, 40):
        for _ in range(300):
            center, step = rng.normal(size=n), rng.normal(size=n)
            eps = float(rng.choice([1e-8, 0.1, 3.0]))
            ball = Ball(center, eps, norm)
            x = center + step / np.linalg.norm(step, norm) * eps * rng.choice([1, 1 - 2e-16, 1 - 1e-12, 1 - 1e-6])
            truly = is_inside(x, ball)
            claimed = ball.contains(x)
            assert truly or not claimed
            outside, inside, accepted = outside + (not truly), inside + truly, accepted + claimed
    assert outside > 100
    assert accepted > inside / 2


@pytest.mark.parametrize("norm", NORMS)
def test_the_center_and_points_well_inside_are_contained(norm: float) -> None:
    rng = np.random.default_rng(1)
    center = rng.normal(size=6)
    assert Ball(center, 0.0, norm).contains(center)
    assert not Ball(center, 0.0, norm).contains(np.nextafter(center, 9))
    for _ in range(50):
        step = rng.normal(size=6)
        assert Ball(center, 0.1, norm).contains(center + step / np.linalg.norm(step, norm) * 0.1 * (1 - 1e-9))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_no_region_contains_what_is_not_finite(bad: float) -> None:
    x = np.array([0.0, bad])
    zero = np.zeros(2)
    for region in (Everywhere(), Ball(zero, 1e308, math.inf), Ball(zero, 1.0, 2.0), Box(zero - 1e308, zero + 1e308)):
        assert region.contains(zero)
        assert not region.contains(x)


@many
@given(st.lists(numbers, min_size=1, max_size=4), magnitudes, st.sampled_from(NORMS))
def test_bounds_contain_the_ball(center: list[float], eps: float, norm: float) -> None:
    with np.errstate(over="ignore"):
        lower, upper = Ball(np.array(center), eps, norm).bounds(len(center))
    for low, c, high in zip(lower.tolist(), center, upper.tolist(), strict=True):
        assert is_lower_bound(low, Fraction(c) - Fraction(eps))
        assert is_upper_bound(high, Fraction(c) + Fraction(eps))


@many
@given(numbers.filter(lambda x: abs(x) < 1e300), magnitudes.filter(lambda x: x < 1e300))
def test_bounds_are_the_smallest_box_to_two_units(c: float, eps: float) -> None:
    lower, upper = (float(b[0]) for b in Ball(np.array([c]), eps, 2.0).bounds(1))
    for _ in range(2):
        lower, upper = math.nextafter(lower, math.inf), math.nextafter(upper, -math.inf)
    assert is_upper_bound(lower, Fraction(c) - Fraction(eps))
    assert is_lower_bound(upper, Fraction(c) + Fraction(eps))


@many
@given(st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=4))
def test_a_box_contains_what_lies_between_its_bounds(triples: list[tuple[float, float, float]]) -> None:
    low, x, high = map(np.array, zip(*map(sorted, triples), strict=True))
    box = Box(low, high)
    assert box.contains(x)
    assert box.contains(low)
    assert box.contains(high)
    assert all(np.array_equal(a, b) for a, b in zip(box.bounds(len(x)), (low, high), strict=True))
    i = int(np.argmax(high))
    beyond = high.copy()
    beyond[i] = np.nextafter(high[i], math.inf) if high[i] < 1e308 else math.inf
    assert not box.contains(beyond)
    assume(low[i] > -1e308)
    beyond = low.copy()
    beyond[i] = np.nextafter(low[i], -math.inf)
    assert not box.contains(beyond)


def test_everywhere_is_unbounded() -> None:
    lower, upper = Everywhere().bounds(3)
    assert lower.tolist() == [-math.inf] * 3
    assert upper.tolist() == [math.inf] * 3


@pytest.mark.parametrize("eps", [-1.0, math.nan, math.inf, -1e-300])
def test_a_radius_that_is_none_is_refused(eps: float) -> None:
    with pytest.raises(UsageError, match=r"--eps: .* is not a radius"):
        Ball(np.zeros(2), eps, 2.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_center_or_box_that_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(UsageError, match="--center holds NaN or Inf"):
        Ball(np.array([0.0, bad]), 1.0, 2.0)
    for lower, upper in (([0.0, 0.0], [1.0, bad]), ([-bad, 0.0], [1.0, 1.0])):
        with pytest.raises(UsageError, match="--box holds NaN or Inf"):
            Box(np.array(lower), np.array(upper))


def test_a_box_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--box: lower 2 is above upper 1 at input 1"):
        Box(np.array([0.0, 2.0]), np.array([1.0, 1.0]))
    with pytest.raises(UsageError, match=r"--box: bounds of 1 and 2 numbers"):
        Box(np.zeros(1), np.zeros(2))


def test_a_region_of_another_size_is_refused_with_the_option_named() -> None:
    with pytest.raises(UsageError, match="--center: 2 numbers for an input of 3"):
        Ball(np.zeros(2), 1.0, 2.0).bounds(3)
    with pytest.raises(UsageError, match="--box: 2 numbers for an input of 3"):
        Box(np.zeros(2), np.ones(2)).bounds(3)


def test_descriptions_name_norm_and_size() -> None:
    assert Everywhere().describe() == "everywhere"
    assert Ball(np.zeros(2), 0.25, math.inf).describe() == "linf ball of radius 0.25"
    assert Ball(np.zeros(2), 1.0, 2.0).describe() == "l2 ball of radius 1"
    assert Box(np.zeros(2), np.array([1.0, 3.0])).describe() == "box, widest side 3"
