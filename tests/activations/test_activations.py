"""What an activation claims about its values and slopes is true, and nothing tighter is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from mpmath import mpf

import lipcert.activations
from lipcert.activations import Activation, Scaled
from tests.activations.cases import CASES, Case
from tests.activations.intervals import fill, intervals

each = pytest.mark.parametrize("case", CASES, ids=str)

MOST = float(np.finfo(float).max)
LINE = (-math.inf, math.inf)


def elementwise() -> set[type]:
    known = (getattr(lipcert.activations, name) for name in lipcert.activations.__all__)
    return {k for k in known if isinstance(k, type) and issubclass(k, Activation)} - {Activation}


def test_every_activation_has_a_case() -> None:
    assert elementwise() == {type(case.activation) for case in CASES}


def touched_kinks(case: Case, lower: float, upper: float) -> list[mpf]:
    return [slope for kink in case.kinks if lower <= kink <= upper for slope in case.slopes_at(kink)]


def tame_intervals(case: Case, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Intervals without jumps and undefined points, on which samples come near to what is extreme."""
    lower, upper = intervals(case, count, seed)
    tame = np.array([not (case.undefined(*i) or case.jumps_on(*i)) for i in zip(lower, upper, strict=True)])
    if case.periodic:  # samples of a wave far out are too few
        tame &= (lower == upper) | (lower < 1e10) & (upper > -1e10)
    for kink in case.kinks if case.rounded_kinks else ():
        tame &= (np.abs(lower - kink) > 1e-14) & (np.abs(upper - kink) > 1e-14)
    assert np.sum(tame) > 60
    return lower[tame], upper[tame]


def seen(function: Callable[[np.ndarray], np.ndarray], lower: np.ndarray, upper: np.ndarray) -> tuple[Any, Any]:
    """Smallest and largest value over dense samples, refined around both."""
    x = fill(lower, upper, 4500)
    extremes = []
    for sign in (1.0, -1.0):
        points = x
        values = sign * function(points)
        assert not np.any(np.isnan(values))
        for _ in range(3):
            best = np.argmin(values, axis=1)[:, None]
            left = np.take_along_axis(points, np.maximum(best - 1, 0), 1)
            right = np.take_along_axis(points, np.minimum(best + 1, points.shape[1] - 1), 1)
            steps = np.linspace(0, 1, 41)
            around = np.concatenate([left * (1 - steps) + right * steps, np.take_along_axis(points, best, 1)], 1)
            points = np.sort(np.clip(around, left, right), 1)
            values = sign * function(points)
        extremes.append(np.clip(sign * values.min(axis=1), -MOST, MOST))
    return extremes[0], extremes[1]


def check_against_samples(low: np.ndarray, high: np.ndarray, least: np.ndarray, most: np.ndarray) -> None:
    """Nothing seen lies outside, but for the rounding of samples; and the bounds are next to what was seen."""
    size = np.maximum(np.abs(least), np.abs(most))
    rounding = 1e-12 * size + 1e-15
    with np.errstate(over="ignore", invalid="ignore"):
        assert np.all(low <= least + rounding)
        assert np.all(high >= most - rounding)
        slack = 1e-6 * np.minimum(most - least, MOST) + rounding
        assert np.all(np.where(np.isinf(low), least < -300, least - low <= slack))
        assert np.all(np.where(np.isinf(high), most > 300, high - most <= slack))


@each
def test_values_fill_the_enclosure_and_never_leave_it(case: Case) -> None:
    lower, upper = tame_intervals(case, 300, seed=1)
    check_against_samples(*case.activation.enclose(lower, upper), *seen(case.activation.value, lower, upper))


@each
def test_slopes_fill_the_bounds_and_never_leave_them(case: Case) -> None:
    lower, upper = tame_intervals(case, 300, seed=2)
    least, most = seen(case.activation.derivative, lower, upper)
    for i in range(len(lower)):
        both = [float(slope) for slope in touched_kinks(case, lower[i], upper[i])]
        least[i], most[i] = min([least[i], *both]), max([most[i], *both])
    check_against_samples(*case.activation.slopes(lower, upper), least, most)


@each
def test_no_sample_in_high_precision_leaves_the_bounds(case: Case) -> None:
    lower, upper = intervals(case, 150, seed=3)
    values, slopes = case.activation.enclose(lower, upper), case.activation.slopes(lower, upper)
    rng = np.random.default_rng(4)
    points = fill(lower, upper, 400)
    checked = 0
    with mpmath.workdps(50):
        for i in range(len(lower)):
            if case.undefined(lower[i], upper[i]):
                continue
            for x in {points[i, 0], points[i, -1], *rng.choice(points[i], 12)}:
                assert mpf(values[0][i]) <= case.value(mpf(x)) <= mpf(values[1][i]), (lower[i], upper[i], x)
                for slope in case.slopes_at(float(x)):
                    assert mpf(slopes[0][i]) <= slope <= mpf(slopes[1][i]), (lower[i], upper[i], x)
                checked += 1
    assert checked > 150


@each
def test_no_difference_quotient_leaves_the_slopes(case: Case) -> None:
    lower, upper = intervals(case, 120, seed=5)
    low, high = case.activation.slopes(lower, upper)
    rng = np.random.default_rng(6)
    points = fill(np.maximum(lower, -100), np.minimum(upper, 100), 300)
    with mpmath.workdps(60):
        for i in range(len(lower)):
            if lower[i] > 100 or upper[i] < -100 or case.undefined(lower[i], upper[i]):
                continue
            for a, b in itertools.pairwise(sorted({mpf(x) for x in rng.choice(points[i], 6)})):
                if b - a > 1e-15:
                    quotient = (case.value(b) - case.value(a)) / (b - a)
                    error = mpf(10) ** -35 * (1 + abs(quotient))  # of this line, in 60 digits
                    assert mpf(low[i]) - error <= quotient <= mpf(high[i]) + error, (lower[i], upper[i], a, b)


@each
def test_slopes_at_a_point_are_the_derivative(case: Case) -> None:
    """The derivative by differences of phi, at points away from kinks."""
    rng = np.random.default_rng(7)
    points = rng.uniform(*np.clip(case.domain, -6, 6), size=25)
    points = np.array([x for x in points if min([1.0, *(abs(x - kink) for kink in case.kinks)]) > 1e-6])
    low, high = case.activation.slopes(points, points)
    with mpmath.workdps(80):
        h = mpf(10) ** -25
        error = mpf(10) ** -30
        for x, least, most in zip(points.tolist(), low, high, strict=True):
            slope = (case.value(mpf(x) + h) - case.value(mpf(x) - h)) / (2 * h)
            size = float(abs(slope)) + 1e-30
            assert mpf(least) - error <= slope <= mpf(most) + error
            assert most - least <= (3e-14 if isinstance(case.activation, Scaled) else 2e-15) * size


@each
def test_the_domain_has_the_known_ranges(case: Case) -> None:
    if case.poles or case.periodic_poles:
        return
    ends = np.array([case.domain[0]]), np.array([case.domain[1]])
    claims = ((case.activation.enclose(*ends), case.values), (case.activation.slopes(*ends), case.slopes))
    for (low, high), known in claims:
        if known is not None:
            with mpmath.workdps(30):
                least, most = mpf(known[0]), mpf(known[1])
                assert low[0] == least or 0 <= least - mpf(low[0]) <= 4e-15 * (abs(least) + mpf(10) ** -300)
                assert high[0] == most or 0 <= mpf(high[0]) - most <= 4e-15 * (abs(most) + mpf(10) ** -300)


@each
def test_bounds_never_leave_the_known_ranges(case: Case) -> None:
    """Not even by an underflow: the slopes of an increasing function are not negative."""
    lower, upper = intervals(case, 200, seed=11)
    defined = np.array([not (case.undefined(*i) or case.jumps_on(*i)) for i in zip(lower, upper, strict=True)])
    lower, upper = lower[defined], upper[defined]
    for bounds, known in ((case.activation.enclose, case.values), (case.activation.slopes, case.slopes)):
        if known is not None:
            low, high = bounds(lower, upper)
            least, most = (
                end if isinstance(end, float) else float(end) + sign * 4e-15
                for sign, end in zip((-1, 1), known, strict=True)
            )
            assert np.all(low >= least)
            assert np.all(high <= most)


@each
def test_slopes_are_infinite_where_nothing_else_is_true_and_only_there(case: Case) -> None:
    lower, upper = intervals(case, 300, seed=8)
    values = case.activation.enclose(lower, upper)
    slopes = case.activation.slopes(lower, upper)
    for i, (a, b) in enumerate(zip(lower.tolist(), upper.tolist(), strict=True)):
        infinite = math.isinf(slopes[0][i]) or math.isinf(slopes[1][i])
        if case.undefined(a, b):
            assert (values[0][i], values[1][i]) == LINE
            assert (slopes[0][i], slopes[1][i]) == LINE
        elif case.jumps_on(a, b):
            assert (slopes[0][i], slopes[1][i]) == LINE
            assert abs(values[0][i]) < math.inf or a == -math.inf
        elif any(a <= x <= b for x in case.verticals):
            assert infinite
        elif max(abs(a), abs(b)) < 30 and not any(min(abs(a - p), abs(b - p)) < 1e-100 for p in case.poles):
            # far out, and near to poles, floats overflow
            assert not infinite, (a, b)
        assert not infinite or case.activation.obstacle(lower[i : i + 1], upper[i : i + 1])


@each
def test_every_kink_is_listed(case: Case) -> None:
    """Where the two sides differ, in the reference, the activation lists a kink, and it lists few others."""
    assert {float(kink) for kink in case.kinks} <= {float(f"{kink:.17g}") for kink in case.activation.kinks}
    assert len(case.activation.kinks) <= max(len(case.kinks), 2)


@each
@pytest.mark.parametrize("ends", [(math.nan, math.nan), (-math.inf, math.nan), (math.nan, math.inf), (0.5, math.nan)])
def test_nothing_is_claimed_about_nan(case: Case, ends: tuple[float, float]) -> None:
    """Bounds for an interval with an unknown end contain those of every interval that it may be."""
    box = np.array([ends[0]]), np.array([ends[1]])
    least = np.array([ends[0] if ends[0] == 0.5 else -math.inf])
    for bounds in (case.activation.enclose, case.activation.slopes):
        (low, high), (wide_low, wide_high) = bounds(*box), bounds(least, np.array([math.inf]))
        assert not low[0] > wide_low[0]
        assert not high[0] < wide_high[0]


@each
def test_values_and_derivatives_are_those_of_the_definition(case: Case) -> None:
    rng = np.random.default_rng(9)
    x = np.concatenate([rng.normal(size=100) * 3, 10.0 ** rng.uniform(-300, 30, size=40), [0.0, 700.0, -700.0, 1e30]])
    x = np.concatenate([x, -x[100:140], rng.uniform(*np.clip(case.domain, -4, 4), size=50)])
    x = np.array([t for t in x if not case.undefined(t, t) and t not in case.verticals])
    value, derivative = case.activation.value(x), case.activation.derivative(x)
    with mpmath.workdps(50):
        exact = np.array([float(case.value(mpf(t))) for t in x])
        np.testing.assert_allclose(value, exact, rtol=4e-13, atol=1e-300)
        for t, slope in zip(x.tolist(), derivative, strict=True):
            sides = [float(s) for s in case.slopes_at(t)] or [slope]
            if math.isinf(slope):
                assert slope in sides
            else:
                error = 1e-12 * abs(slope) + 1e-15
                assert min(sides) - error <= slope <= max(sides) + error


@each
def test_no_warning_and_no_nan_far_out(case: Case) -> None:
    """numpy's warnings are errors in this test suite."""
    x = np.array([t for t in (-1e300, -1e30, -800.0, 800.0, 1e30, 1e300) if not case.undefined(t, t)])
    for result in (case.activation.value(x), case.activation.derivative(x)):
        assert not np.any(np.isnan(result))


@each
def test_the_torch_function_and_its_gradient_agree(case: Case) -> None:
    x = np.random.default_rng(10).uniform(*np.clip(case.domain, -9, 9), size=200)
    point = torch.from_numpy(x).requires_grad_()
    result = case.activation.torch(point)
    value, derivative = case.activation.value(x), case.activation.derivative(x)
    if torch.is_tensor(result) and result.requires_grad:
        (gradient,) = torch.autograd.grad(result.sum(), point)
        np.testing.assert_allclose(gradient.numpy(), derivative, rtol=1e-11, atol=1e-13)
    else:
        assert not np.any(derivative)
    np.testing.assert_allclose(result.detach().numpy(), value, rtol=1e-12, atol=1e-15)


@each
def test_torch_keeps_the_precision_of_its_tensor(case: Case) -> None:
    x = torch.linspace(*np.clip(case.domain, -2, 2), 7)[1:-1]
    assert case.activation.torch(x).dtype == torch.float32


@each
def test_bounds_have_the_shape_of_the_box(case: Case) -> None:
    lower = np.linspace(*np.clip(case.domain, -3, 3), 12).reshape(2, 3, 2)
    for low, high in (case.activation.enclose(lower, lower + 0.5), case.activation.slopes(lower, lower + 0.5)):
        assert low.shape == high.shape == (2, 3, 2)
        assert np.all(low <= high)


def test_descriptions_are_distinct() -> None:
    names = [case.activation.describe() for case in CASES]
    assert len(set(names)) == len(names)
